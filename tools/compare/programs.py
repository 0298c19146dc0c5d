"""Part `programs`: the output of score, export, contrast, reliance, convert, annotate, inspect."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path

from compare.bench import Bench, Job
from compare.inputs import COLUMNS
from compare.training import methods

PART = "programs"
SOURCE, TARGET = "inputs/conllu/test.conllu", "inputs/conllu/test.de"
CONVERSIONS = (
    *(("conllu", "jsonl"), ("conllu", "pipe"), ("conllu", "ffe8"), ("conllu", "parallel")),
    *(("jsonl", "conllu"), ("jsonl", "pipe"), ("pipe", "jsonl"), ("pipe", "conllu")),
    *(("ffe8", "conllu"), ("ffe8", "pipe"), ("parallel", "conllu")),
)
INSPECTED = {
    "conllu": ("features=[upos,deprel,lemma]", "combiner=gate"),
    "units": ("features=[char,ngram,subword_tag]", "combiner=concat"),
}


def _copied(bench: Bench, needs: str) -> Path:
    """The folder of a copy of another job's run."""
    shutil.copytree(bench.needed(needs) / "runs", bench.folder / "runs")
    (bench.folder / "out").mkdir()
    return bench.run_folder()


def _use(needs: str, bench: Bench) -> None:
    """Score with, translate with and look into a run."""
    run = _copied(bench, needs)
    text = (f"source={SOURCE}", f"target={TARGET}", "threads=1")
    bench.good("score.py", f"run={run}", *text, "output=out/scores.txt")
    to = ("output=out/nbest.txt", "nbest=2", "threads=1")
    bench.good("translate.py", f"run={run}", f"input={SOURCE}", *to)
    bench.record_files("out", bench.folder / "out")
    outcome = bench.good("scripts/contrast.py", run, "--source", SOURCE)
    bench.record_output("contrast", outcome, numbers_only=True)
    if "none" not in needs:
        reliance = bench.good("scripts/reliance.py", run, "--source", SOURCE, "--draws", 2)
        bench.record_output("reliance", reliance, numbers_only=True)


def _export(needs: str, bench: Bench) -> None:
    """Export a run, and translate with the copy."""
    run = _copied(bench, needs)
    outcome = bench.good("scripts/export.py", run)
    bench.record_output("export", outcome, numbers_only=True)
    common = (f"run={run}", f"input={SOURCE}", "engine=ctranslate2", "threads=1")
    options = (
        {"greedy": ("beam=1",)} if bench.small else {"greedy": ("beam=1",), "nbest": ("nbest=2",)}
    )
    for name, more in options.items():
        # CTranslate2 starts threads, which a fork of a process with threads does not like
        bench.good("translate.py", *common, *more, f"output=out/{name}.txt", fresh=True)
    bench.record_files("out", bench.folder / "out")


def _convert(bench: Bench) -> None:
    out = bench.folder / "out"
    out.mkdir()
    shutil.copy(bench.folder / "inputs/factors/test.en", bench.folder / "test")
    for column in COLUMNS:
        shutil.copy(bench.folder / f"inputs/factors/test.{column}", bench.folder / f"test.{column}")
    for source, target in CONVERSIONS:
        name = "test" if source == "parallel" else f"inputs/{source}/test.{source}"
        command = ["--from", source, "--to", target]
        if {source, target} & {"pipe", "ffe8", "parallel"}:
            command += ["--factors", ",".join(COLUMNS)]
        outcome = bench.good("scripts/convert.py", *command, name, f"out/{source}-to.{target}")
        bench.record_output(f"{source} to {target}", outcome, numbers_only=True)
    bench.record_files("out", out)


def _annotate(annotator: str, settings: tuple[str, ...], bench: Bench) -> None:
    if annotator in ("udpipe", "spacy"):
        bench.inputs(annotator)
    text = "inputs/korean/test.ko" if annotator == "kiwi" else "inputs/text/test.en"
    (bench.folder / "out").mkdir()
    command = (text, "out/test.conllu", f"annotator={annotator}", "annotator.processes=1")
    bench.good("scripts/annotate.py", *command, *settings)
    bench.record_files("out", bench.folder / "out")


def _inspect(settings: tuple[str, ...], bench: Bench) -> None:
    used = [s for s in bench.settings(*settings) if not s.startswith(("trainer.p", "paths.runs"))]
    outcome = bench.good("scripts/inspect_features.py", *used)
    bench.record_output("inspect_features", outcome, numbers_only=True)


def jobs(base: Path, small: bool) -> list[Job]:
    """A job for each run that programs use, and each program that needs none."""
    names = ["concat"] if small else methods(base)
    job_list = []
    for name in names:
        needs = f"weights/{name} fp32"
        job_list.append(Job(PART, f"use {name}", functools.partial(_use, needs), (needs,)))
    for name in ["gate"] if small else names:
        needs = f"weights/{name} fp32"
        job_list.append(Job(PART, f"export {name}", functools.partial(_export, needs), (needs,)))
    job_list.append(Job(PART, "convert", _convert))
    if small:
        return [job for job in job_list if not job.name.startswith("export")]
    languages = {"hanta": "en", "spacy": "en", "udpipe": "en", "kiwi": "ko"}
    models = {name: f"annotator.model=inputs/{name}" for name in ("spacy", "udpipe")}
    for name, lang in languages.items():
        settings = [f"data.source_lang={lang}", *([models[name]] if name in models else [])]
        act = functools.partial(_annotate, name, tuple(settings))
        job_list.append(Job(PART, f"annotate {name}", act))
    for name, chosen in INSPECTED.items():
        job_list.append(Job(PART, f"inspect {name}", functools.partial(_inspect, chosen)))
    return job_list
