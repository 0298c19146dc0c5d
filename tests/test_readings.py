"""Every method learns to read: 32 ambiguous sentences, both readings of each, told apart by tags.

Words alone get at most one reading of two right. With features a small model learns all of them,
and translates a sentence by the other reading as soon as it is given that reading's tags.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nmt_feat.text.conllu import read_conllu
from tests.support.applied import said
from tests.support.entry import call
from tests.support.methods import EXAMPLES, METHODS
from tests.support.readings import SENTENCES, pairs, write
from tests.support.small import Small, record

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
LONGER = "trainer.max_steps=200", "trainer.validate_every=200"
CASES: dict[str, tuple[str, ...]] = {
    **{name: (f"combiner={name}",) for name in METHODS},
    "mixed by name": ("combiner=mixed", MIXED),
    "encoders_concat": ("method=encoders_concat", "combiner=none"),
    "encoders_sum": ("method=encoders_sum", "combiner=none"),
    "encoders_serial": ("method=encoders_serial", "combiner=none"),
    "encoders_parallel": ("method=encoders_parallel", "combiner=none"),
    "interleave": ("method=interleave", "combiner=none"),
    "output_gate": ("method=output_gate", "combiner=add", *LONGER),
    **{
        name: (f"combiner._target_={cls.__module__}.{cls.__name__}",)  # type: ignore[attr-defined]
        for name, cls in EXAMPLES.items()
    },
}
"""Overrides of a run that must learn the readings."""
KINDS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("char", "syllable", "jamo", "ngram"), ()),
    "vectors": ("features.vectors.file=FOLDER/vectors.txt",),
    "contextual": ("features.contextual.encoder=FOLDER/encoder",),
}
"""Features that are functions of the text, which both readings share. None of them, nor a model
trained on all of them, can tell the readings apart; beside tags they must not be in the way."""
LIVE = ("features.contextual.live=true", "features.contextual.trained=true")
BESIDE: dict[str, tuple[str, tuple[str, ...]]] = {
    **{kind: (kind, more) for kind, more in KINDS.items()},
    "live": ("contextual", (*KINDS["contextual"], LIVE[0])),
    "trained": ("contextual", (*KINDS["contextual"], *LIVE)),
}
"""What stands beside tags: a kind, and its settings."""


@pytest.fixture(scope="module")
def readings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus; the cache lies beside it."""
    return write(tmp_path_factory.mktemp("readings") / "corpus")


@pytest.fixture(scope="module")
def outside(readings: Path) -> Path:
    """The folder of the corpus, with vectors of its words and an encoder."""
    from tests.support.encoders import corpus_texts, save, word_piece

    texts = corpus_texts(readings)
    save(readings / "encoder", word_piece(texts))
    words = sorted({word for text in texts for word in text.split()})
    rows = np.random.default_rng(1).normal(size=(len(words), 8))
    lines = (f"{w} {' '.join(map(str, row))}\n" for w, row in zip(words, rows, strict=True))
    (readings / "vectors.txt").write_text("".join(lines), encoding="utf-8")
    return readings


def train(corpus: Path, folder: Path, *overrides: str) -> Path:
    filled_overrides = (override.replace("FOLDER", str(corpus)) for override in overrides)
    return Small(corpus, corpus.parent / "cache", folder, SETTINGS).train(*filled_overrides)


def accuracy(run: Path) -> float:
    run_record = record(run)["tests"]["test"]["reading"]
    assert run_record["readings"] == 2 * SENTENCES
    return float(run_record["accuracy"])


def translated(run: Path, source: Path) -> list[str]:
    done = call("translate", f"run={run}", f"input={source}")
    assert (done.code, said(done)) == (0, "")
    return done.out.splitlines()


QUICK = "gate", "concat", "mixed by name"


@pytest.mark.thorough
@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=[pytest.mark.slow] * (c not in QUICK)) for c in CASES]
)
def test_readings(
    case: str, readings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NMT_FEAT_MODULES", "examples")  # a run names them
    learns_readings(train(readings, tmp_path, *CASES[case]), readings)


@pytest.mark.slow
@pytest.mark.parametrize("case", BESIDE)
def test_kinds_beside_tags(case: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    kind, more = BESIDE[case]
    if kind == "contextual":
        pytest.importorskip("transformers")
    fixture = "outside" if KINDS[kind] else "readings"
    readings = request.getfixturevalue(fixture)
    features = f"features=[upos,deprel,{kind}]"
    learns_readings(train(readings, tmp_path, "combiner=concat", features, *more), readings)


@pytest.mark.slow
@pytest.mark.parametrize("live", [(), LIVE], ids=["stored", "live"])
def test_kinds_alone(live: tuple[str, ...], outside: Path, tmp_path: Path) -> None:
    """All that the text says, six times over, is no more than one reading of each sentence."""
    more = [*(override for overrides in KINDS.values() for override in overrides), *live]
    run = train(outside, tmp_path, "combiner=add", f"features=[{','.join(KINDS)}]", *more)
    assert 0.45 <= accuracy(run) <= 0.5
    hypotheses = translated(run, outside / "swapped.conllu")
    assert hypotheses[::2] == hypotheses[1::2]


def learns_readings(run: Path, readings: Path) -> None:
    """Right on both readings of each sentence, and the other one with the other one's tags."""
    assert accuracy(run) >= 0.98
    swapped = [reading for one, two in pairs() for reading in (two[1], one[1])]
    hypotheses = translated(run, readings / "swapped.conllu")
    assert sum(map(str.__eq__, hypotheses, swapped)) >= 0.98 * len(swapped)


@pytest.mark.slow
def test_heads_in_attention(readings: Path, tmp_path: Path) -> None:
    """Heads alone, which differ in most of the pairs, tell more than words, and turn a reading."""
    heads = [[[line.split("\t")[6:7] for line in block] for block, _ in pair] for pair in pairs()]
    assert sum(one != two for one, two in heads) == 25
    tree = "method=tree_attention", "combiner=none", "features=[heads]"
    run = train(readings, tmp_path, *tree, *LONGER)
    assert 0.75 <= accuracy(run) <= (2 * 25 + 7) / 64
    second_readings = [reading for one, two in pairs() for reading in (two[1], one[1])]
    hypotheses = translated(run, readings / "swapped.conllu")
    assert sum(map(str.__eq__, hypotheses, second_readings)) >= 0.7 * len(second_readings)


@pytest.mark.thorough
def test_words_alone(readings: Path, tmp_path: Path) -> None:
    """They learn the sentences as well as can be, one reading of each."""
    run = train(readings, tmp_path, "combiner=none")
    assert 0.45 <= accuracy(run) <= 0.5
    hypotheses = translated(run, readings / "swapped.conllu")
    assert hypotheses[::2] == hypotheses[1::2]


def test_the_corpus(readings: Path) -> None:
    """Swapping moves what was annotated, and no word."""
    test, second = (
        [sentence.words for sentence in read_conllu(readings / f"{name}.conllu")]
        for name in ("test", "swapped")
    )
    assert len(test) == len(second) == 2 * SENTENCES
    for i in range(0, 2 * SENTENCES, 2):
        assert test[i : i + 2] == second[i : i + 2][::-1]
        assert test[i] != test[i + 1]
        assert [word.form for word in test[i]] == [word.form for word in test[i + 1]]
