"""Every method learns to read: 32 ambiguous sentences, both readings of each, told apart by tags.

Words alone get at most one reading of two right. With features a small model learns all of them,
and translates a sentence by the other reading as soon as it is given that reading's tags.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from entry import call
from methods import EXAMPLES, METHODS
from readings import SENTENCES, pairs, write
from small import Small, record

from nmt_feat.corpus.conllu import read_conllu

SETTINGS = {
    "subword": "none",
    "subword.vocab_size": 1000,
    "features": "[upos,deprel,lemma]",
    "model.dim": 32,
    "model.ffn_dim": 64,
    "model.dropout": 0,
    "model.activation_dropout": 0,
    "optimizer.lr": 0.01,
    "optimizer.warmup": 20,
    "trainer.max_steps": 120,
    "trainer.validate_every": 120,
    "trainer.batch_tokens": 4096,
    "trainer.label_smoothing": 0,
    "decoding.max_ratio": 1,
}
MIXED = "+combiner.args.methods={upos:concat,deprel:additive_gate,lemma:gate}"
CASES: dict[str, tuple[str, ...]] = {
    **{name: (f"combiner={name}",) for name in METHODS},
    "mixed by name": ("combiner=mixed", MIXED),
    **{
        name: (f"combiner._target_={cls.__module__}.{cls.__name__}",)  # type: ignore[attr-defined]
        for name, cls in EXAMPLES.items()
    },
}
"""Overrides of a run that must learn the readings. Add those of a new kind of feature here."""


@pytest.fixture(scope="module")
def readings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus; the cache lies beside it."""
    return write(tmp_path_factory.mktemp("readings") / "corpus")


def train(corpus: Path, folder: Path, *overrides: str) -> Path:
    return Small(corpus, corpus.parent / "cache", folder, SETTINGS).train(*overrides)


def accuracy(run: Path) -> float:
    found = record(run)["tests"]["test"]["reading"]
    assert found["readings"] == 2 * SENTENCES
    return float(found["accuracy"])


def translated(run: Path, source: Path) -> list[str]:
    done = call("translate", f"run={run}", f"input={source}")
    assert (done.code, done.err) == (0, "")
    return done.out.splitlines()


@pytest.mark.parametrize("case", CASES)
def test_readings(case: str, readings: Path, tmp_path: Path) -> None:
    run = train(readings, tmp_path, *CASES[case])
    assert accuracy(run) >= 0.98
    other = [reading for one, two in pairs() for reading in (two[1], one[1])]
    hypotheses = translated(run, readings / "swapped.conllu")
    assert sum(map(str.__eq__, hypotheses, other)) >= 0.98 * len(other)


def test_words_alone(readings: Path, tmp_path: Path) -> None:
    """They learn the sentences as well as can be, one reading of each."""
    run = train(readings, tmp_path, "combiner=none")
    assert 0.45 <= accuracy(run) <= 0.5
    hypotheses = translated(run, readings / "swapped.conllu")
    assert hypotheses[::2] == hypotheses[1::2]


def test_the_corpus(readings: Path) -> None:
    """Swapping moves what was annotated, and no word."""
    test, other = (
        [sentence.words for sentence in read_conllu(readings / f"{name}.conllu")]
        for name in ("test", "swapped")
    )
    assert len(test) == len(other) == 2 * SENTENCES
    for i in range(0, 2 * SENTENCES, 2):
        assert test[i : i + 2] == other[i : i + 2][::-1]
        assert test[i] != test[i + 1]
        assert [word.form for word in test[i]] == [word.form for word in test[i + 1]]
