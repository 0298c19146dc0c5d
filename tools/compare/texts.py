"""Part `texts`: translations and n-best lists of raw and annotated text."""

from __future__ import annotations

import functools
from importlib.util import find_spec
from pathlib import Path

from compare.arrays import BOTH, FORMATS, files
from compare.bench import Bench, Job

PART = "texts"
LENGTH = ("trainer.max_steps=30", "trainer.validate_every=15", "annotator.processes=1")
ENGLISH = files("text", ".en")
ANNOTATORS: dict[str, tuple[str, ...]] = {
    "hanta": (*ENGLISH, "annotator=hanta", "features=[upos,xpos,lemma]"),
    "spacy": (
        *(*ENGLISH, "annotator=spacy", "annotator.model=inputs/spacy"),
        "features=[upos,xpos,feats]",
    ),
    "udpipe": (
        *(*ENGLISH, "annotator=udpipe", "annotator.model=inputs/udpipe"),
        "features=[upos,deprel,lemma,feats]",
    ),
    "kiwi": (*files("korean", ".ko", "ko", "en"), "annotator=kiwi", "features=[upos,xpos,lemma]"),
    "none": (*ENGLISH, "features=[shape,char,subword_tag]"),
}
PACKAGES = {
    **{"hanta": "HanTa", "spacy": "spacy", "udpipe": "ufal.udpipe", "kiwi": "kiwipiepy"},
    "none": "torch",
}
OPTIONS: dict[str, tuple[str, ...]] = {
    "best": (),
    "nbest": ("nbest=3",),
    "wide": ("beam=4", "length_penalty=0.6", "chunk=7"),
}


def _translate(settings: tuple[str, ...], texts: dict[str, str], bench: Bench) -> None:
    """Train on the text, then translate texts by name into files."""
    for model in ("spacy", "udpipe"):
        if f"annotator.model=inputs/{model}" in settings:
            bench.inputs(model)
    run = bench.train("combiner=concat", *LENGTH, *(s.strip("'") for s in settings))
    bench.record_run(run)
    out = bench.folder / "out"
    out.mkdir()
    for name, text in texts.items():
        for option, more in OPTIONS.items():
            to = f"output=out/{name}-{option}.txt"
            outcome = bench.good(
                "translate.py", f"run={run}", f"input={text}", to, "threads=1", *more
            )
            bench.record_output(f"{name} {option}", outcome)
            if bench.small:
                break
    bench.record_files("out", out)


def _skip(annotator: str) -> str | None:
    package = PACKAGES[annotator]
    try:
        return None if find_spec(package) else f"{package} is not installed"
    except ModuleNotFoundError:
        return f"{package} is not installed"


def jobs(base: Path, small: bool) -> list[Job]:
    """A job for each annotator and format."""
    job_list = []
    for name, settings in ANNOTATORS.items():
        texts = {n: f"inputs/{n}.txt" for n in ("raw", "odd")} | {"test": "inputs/text/test.en"}
        if name == "kiwi":
            texts = {"test": "inputs/korean/test.ko"}
        act = functools.partial(_translate, settings, texts)
        job_list.append(Job(PART, f"annotator {name}", act, skip=_skip(name)))
    for name, kind in (
        ("conllu", "conllu"),
        ("jsonl", "jsonl"),
        ("pipe", "pipe"),
        ("ffe8", "ffe8"),
    ):
        texts = {"test": f"inputs/{kind}/test.{kind}"}
        act = functools.partial(_translate, FORMATS[name], texts)
        job_list.append(Job(PART, f"format {name}", act))
    gzipped = {"test": "inputs/gz/test.en.gz", "raw": "inputs/raw.txt"}
    job_list.append(Job(PART, "format gz", functools.partial(_translate, FORMATS["gz"], gzipped)))
    mixed = (*files("conllu", ".conllu"), *BOTH, "features.upos.missing=unknown")
    mixed = (*mixed, "features.deprel.missing=unknown")
    texts = {"raw": "inputs/raw.txt", "test": "inputs/conllu/test.conllu"}
    job_list.append(Job(PART, "unannotated", functools.partial(_translate, mixed, texts)))
    if small:
        return [job for job in job_list if job.name in ("annotator hanta", "format conllu")]
    return job_list
