"""Finished runs for `translate.py` and `score.py`, and what they print."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from nmt_feat.text.conllu import read_conllu
from tests.support.entry import Done, call
from tests.support.small import Small

FEW = ("trainer.max_steps=2", "trainer.validate_every=2")


@dataclass
class Runs:
    """Finished runs, and the test set as CoNLL-U, raw text, and tokens."""

    folder: Path
    conllu: Path
    text: Path
    tokens: Path
    target: Path
    words: Path
    annotated: Path
    """Trained on the annotation of the corpus."""
    tagged: Path
    """Trained on plain text, annotated by HanTa."""
    tokenized: Path
    """Trained on tokens, annotated by HanTa on the raw text."""


def plain(corpus: Path, folder: Path) -> None:
    """The corpus as raw text and as lower-cased tokens."""
    folder.mkdir()
    for path in corpus.glob("*.conllu"):
        sentences = list(read_conllu(path))
        tokens = [" ".join(word.form for word in s.words).lower() for s in sentences]
        for suffix, lines in ((".en", [s.text for s in sentences]), (".tok.en", tokens)):
            (folder / f"{path.stem}{suffix}").write_text("\n".join([*lines, ""]), encoding="utf-8")
        shutil.copy(path.with_suffix(".de"), folder)


def files(raw: bool) -> list[str]:
    """Settings of `data=files` for what `plain` wrote."""
    out = ["data=files", "data.source_lang=en", "data.target_lang=de", "annotator=hanta"]
    out += ["annotator.processes=1", "subword.vocab_size=150", f"data.tokenized={raw}"]
    for split, key in (("train", "train"), ("dev", "dev"), ("test", "tests.test")):
        tok = ".tok" if raw else ""
        out += [f"data.{key}.source={split}{tok}.en", f"data.{key}.target={split}.de"]
        out += [f"data.{key}.raw={split}.en"] if raw else []
    return out


def trained(corpus: Path, folder: Path) -> Runs:
    """The runs, made in `folder`."""
    plain(corpus, folder / "plain")
    small = Small(corpus, corpus.parent / "cache", folder)
    raw = Small(folder / "plain", corpus.parent / "cache", folder)
    features = ("features=[lemma,upos]", "combiner=concat", "features.lemma.min_count=2")
    return Runs(
        folder=folder,
        conllu=corpus / "test.conllu",
        text=folder / "plain" / "test.en",
        tokens=folder / "plain" / "test.tok.en",
        target=corpus / "test.de",
        words=small.train("combiner=none", *FEW),
        annotated=small.train("combiner=gate", "features=[upos,deprel]", *FEW),
        tagged=raw.train(*files(False), *features, *FEW),
        tokenized=raw.train(*files(True), *features, *FEW),
    )


UNKNOWN = re.compile(
    r"(features\.\w+: )?[\d,]+ of [\d,]+ (pieces|words|sentences) \([\d.]+%\) .*\n"
)
"""A line on what a run does not know (test_unknowns.py), of which these hardly trained ones have
some."""


def said(done: Done) -> str:
    """Standard error without what is unknown."""
    return UNKNOWN.sub("", done.err)


def good(done: Done) -> list[str]:
    """The lines of standard output of a command without mistakes."""
    assert (done.code, said(done)) == (0, ""), done
    assert done.out.endswith("\n") or not done.out
    return done.out.split("\n")[:-1]


def translate(run: Path, *arguments: object, stdin: bytes = b"") -> list[str]:
    return good(call("translate", f"run={run}", *arguments, stdin=stdin))


def hypotheses(run: Path) -> list[str]:
    return (run / "test.hyp").read_text(encoding="utf-8").split("\n")[:-1]
