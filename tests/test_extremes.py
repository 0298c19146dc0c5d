"""Corpora of one word and one value, and of ten thousand values, are trained and translated."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.entry import call
from tests.support.small import Small, record

BLOCK = "# text = {form}\n1\t{form}\t_\t{upos}\t_\t_\t0\troot\t_\t_\n\n"


def write(folder: Path, **splits: list[tuple[str, str]]) -> str:
    """A corpus of sentences of one word with one value; the override that names it."""
    folder.mkdir()
    for split, words in splits.items():
        source = "".join(BLOCK.format(form=form, upos=upos) for form, upos in words)
        (folder / f"{split}.conllu").write_text(source)
        (folder / f"{split}.de").write_text("".join(f"{form}\n" for form, _ in words))
    return f"data.folder={folder}"


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("subword", "sizes"),
    [
        (["subword=none"], "5/5"),
        (["subword=unigram", "subword.vocab_size=7"], "7/7"),
    ],
)
def test_a_vocabulary_of_one(subword: list[str], sizes: str, small: Small) -> None:
    """Beside the special ones; trains, and translates as every text must be."""
    words = [("a", "X")]
    corpus = write(small.folder / "one", train=words * 50, dev=words * 4, test=words * 4)
    learnt = ["combiner=none", "trainer.max_steps=40", "trainer.validate_every=20"]
    done = call("train", *small.overrides(corpus, *learnt, "optimizer.lr=0.02", *subword))
    assert done.code == 0, done.err
    assert f"vocabulary {sizes};" in done.out
    [run] = (small.folder / "runs").glob("none-*")
    assert (run / "test.hyp").read_text() == "a\n" * 4
    done = call("translate", f"run={run}", "input=-", stdin=b"a\na\n")
    assert (done.code, done.out) == (0, "a\na\n"), done.err


@pytest.mark.parametrize(
    ("subword", "message"),
    [
        (
            ["subword=bpe", "subword.vocab_size=5"],
            "subword.vocab_size=5: too small for this text, its characters alone need 6; set "
            "subword.vocab_size=6 or more, or a lower subword.character_coverage",
        ),
        (
            ["subword=unigram"],
            "subword.vocab_size=200: too large for this text, unigram finds at most 7 pieces; set "
            "subword.vocab_size=7 or less",
        ),
        (
            ["subword=none", "features=[upos]"],
            "features.upos is constant: upos is 'X' on all of train (annotation: "
            "CORPUS/train.conllu); leave it out of features",
        ),
    ],
)
def test_what_a_vocabulary_of_one_cannot_be(subword: list[str], message: str, small: Small) -> None:
    words = [("a", "X")]
    corpus = write(small.folder / "one", train=words * 50, dev=words * 4, test=words * 4)
    done = call("train", *small.overrides(corpus, "combiner=add", *subword))
    assert done.code == 2
    assert done.err == f"error: {message}\n".replace("CORPUS", str(small.folder / "one"))


@pytest.mark.thorough
def test_ten_thousand_values(small: Small) -> None:
    """Each has its own id, in training and in translation."""
    words = [(f"w{n % 7}", f"V{n}") for n in range(10_000)]
    corpus = write(small.folder / "many", train=words, dev=words[:4], test=words[-4:])
    chosen = ["combiner=gate", "features=[upos]", "features.upos.dim=4", "subword=none"]
    run = small.train(corpus, *chosen, "trainer.max_steps=2")
    assert record(run)["data_report"]["features"]["upos"]["values"] == 10_000
    content = json.loads((run / "encoder" / "features.json").read_text())
    assert sorted(content["upos"]["values"]) == sorted(f"V{n}" for n in range(10_000))
    block = BLOCK.format(form="w3", upos="V9999")
    done = call("translate", f"run={run}", "input=-", "format=conllu", stdin=block.encode())
    assert (done.code, len(done.out.splitlines())) == (0, 1), done.err
