"""Part `weights`: small trainings of all methods, in all ways to train; curves and hypotheses."""

from __future__ import annotations

import functools
import signal
from pathlib import Path

from compare.bench import Bench, Job, JobFailed
from compare.commands import Kill
from compare.differences import compare
from compare.facts import Facts

PART = "weights"
FEATURES = ("features=[upos,deprel,lemma]", "features.lemma.min_count=2")
WAYS: dict[str, tuple[str, ...]] = {
    "fp32": (),
    "bf16": ("trainer.precision=bf16-mixed",),
    "accumulate": ("trainer.accumulate=2",),
    "devices": ("trainer.devices=2",),
    "stopped": (),
    "killed": (),
}
SIGNALS = {"stopped": signal.SIGTERM, "killed": signal.SIGKILL}
CONTROLS = ("shuffled", "resampled", "by_type", "matched")
VARIANTS: dict[str, tuple[str, ...]] = {
    "tie all": ("model.tie=all",),
    "average": ("trainer.select=average", "trainer.average=3"),
    "patience": ("trainer.patience=1",),
    "plain loss": ("trainer.fused_loss=false",),
    "cosine": ("optimizer.schedule=cosine",),
    "attention dropout": ("model.attention_dropout=0.1", "model.activation_dropout=0.1"),
    "feature dropout": (
        *("features.upos.dropout=0.2", "features.deprel.dropout=0.2"),
        "features.lemma.sentence_dropout=0.2",
    ),
    "by target": ("trainer.batch_by=target", "trainer.batch_tokens=200"),
    "unigram": ("subword=unigram",),
    "source vectors": (
        *("combiner=add", "model.source_vectors=vectors/window.txt", "model.dim=8"),
        *("subword=none", "model.source_frozen=true"),
    ),
    "vectors": ("features=[vectors,upos]", "features.vectors.file=vectors/window.txt"),
    "units": ("features=[char,ngram]",),
    "encoder": (
        *("features=[contextual]", "features.contextual.encoder=inputs/encoder", "model.dim=32"),
    ),
    "live encoder": (
        *("features=[contextual]", "features.contextual.encoder=inputs/encoder", "model.dim=32"),
        *("features.contextual.live=true", "features.contextual.trained=true"),
    ),
    "seed 2": ("seed=2",),
    "greedy": ("decoding=greedy",),
}
"""Variants of `gate`, in fp32; some need other features than `FEATURES`."""


def _length(small: bool) -> list[str]:
    steps, every = (24, 6) if small else (200, 40)
    return [f"trainer.max_steps={steps}", f"trainer.validate_every={every}"]


def _train(settings: tuple[str, ...], bench: Bench, fresh: bool = False) -> None:
    if any("inputs/encoder" in setting for setting in settings):
        bench.inputs("encoder")
    features = () if any(s.startswith("features=") for s in settings) else FEATURES
    run = bench.train(*_length(bench.small), *features, *settings, fresh=fresh)
    bench.record_run(run)


def _interrupt(way: str, settings: tuple[str, ...], needs: str, bench: Bench) -> None:
    """Stop the training after its first checkpoint, continue it, and compare with the whole."""
    command = bench.settings(*_length(bench.small), *FEATURES, *settings)

    def saved() -> bool:
        return any(bench.folder.glob("runs/*/checkpoints/checkpoint-*.json"))

    stopped = bench.python("train.py", *command, kill=Kill(SIGNALS[way], saved))
    if stopped.code == 0:
        raise JobFailed("it ended before it could be stopped")
    bench.facts.scalar("stopped.exit code", stopped.code)
    bench.good("train.py", *command)
    bench.record_run(bench.run_folder())
    if needs:
        whole = Facts.load(bench.needed(needs))
        differences = compare(PART, needs, whole, bench.facts)
        keys = [d.key for d in differences if not d.key.startswith("stopped.")]
        bench.facts.scalar("same as without interruption", ", ".join(keys[:5]) or "yes")


def _job(method: str, way: str, more: tuple[str, ...] = ()) -> Job:
    settings = (f"combiner={method}", *WAYS[way], *more)
    name = " ".join([method, *(s.partition("=")[2] for s in more), way])
    if way in SIGNALS:
        needs = f"{PART}/{method} fp32"
        return Job(PART, name, functools.partial(_interrupt, way, settings, needs), (needs,))
    return Job(PART, name, functools.partial(_train, settings, fresh=way == "devices"))


def methods(base: Path) -> list[str]:
    """The options of the group combiner."""
    return sorted(path.stem for path in (base / "conf" / "combiner").glob("*.yaml"))


def jobs(base: Path, small: bool) -> list[Job]:
    """A job for each method and way, control and variant."""
    if small:
        job_list = [_job(m, "fp32") for m in ("none", "concat", "gate", "add", "average")]
        return job_list + [_job("gate", way) for way in ("bf16", "accumulate", "killed")]
    job_list = [_job(method, "fp32") for method in methods(base)]
    for way in list(WAYS)[1:]:
        job_list += [_job(method, way) for method in methods(base)]
    for control in CONTROLS:
        job_list += [_job("gate", way, (f"control={control}",)) for way in ("fp32", "bf16")]
    for name, settings in VARIANTS.items():
        if not any(s.startswith("combiner=") for s in settings):
            settings = ("combiner=gate", *settings)
        job_list.append(Job(PART, f"variant {name}", functools.partial(_train, settings)))
    return job_list
