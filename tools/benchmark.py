"""Measures the speed of training, translation and preparation, with the settings of train.py.

python tools/benchmark.py train model=tiny trainer.precision=bf16-mixed trainer.threads=2
python tools/benchmark.py command model=tiny trainer.precision=bf16-mixed trainer.threads=2
python tools/benchmark.py rows model=tiny --rows none,concat_upos,gate --rounds 5 --updates 30
python tools/benchmark.py translate --run runs/... --input FILE
python tools/benchmark.py prepare data=multi30k
python tools/benchmark.py prepare features=[upos,deprel,lemma] --pairs 5000000

`--pairs N` first writes a corpus of N pairs (the embedded one repeated, with a different number in
each sentence) into the folder `paths.cache`, where it stays; `train --pairs N` trains on it.
`train` times bare updates in this process. `command` times the updates of a process of train.py,
with all its other work, on the same batches for the same `--warmup` and `--updates`. `rows` trains
rows of a table in turn, an update of each, and prints how many times as long as the first row each
takes: the median over rounds. Prints a table; `--json FILE` also writes the figures. Padding is
never counted as a token.
"""

import time

START = time.perf_counter()  # before the imports, which are part of the start

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from synthetic_corpus import use_synthetic_corpus

from nmt_feat.cli.compose import compose_settings
from nmt_feat.cli.hydra_program import print_mistakes
from nmt_feat.config.schema import ModelConfig, TrainConfig
from nmt_feat.data.prepare import Prepared, prepare
from nmt_feat.errors import UserError, writing_to
from nmt_feat.evaluation.split_decoding import translate_split
from nmt_feat.runs.processes import make_fabric
from nmt_feat.runs.progress import Progress
from nmt_feat.runs.setup.build_trainer import build_trainer
from nmt_feat.runs.setup.resolve import resolve_settings
from nmt_feat.runs.setup.starting_model import build_untrained
from nmt_feat.runs.stored.provenance import (
    describe_origin,
    peak_memory_mib,
)
from nmt_feat.runs.trained.model import TrainedModel
from nmt_feat.text.conllu import read_conllu
from nmt_feat.text.files import read_lines
from nmt_feat.text.formats import kind_of
from nmt_feat.training.loop import Trainer

Lengths = NDArray[np.int64]
TENTHS = {"p10": 0, "median": 4, "p90": 8}
"""The quantiles of updates' times that are printed, by their index among tenths."""


def measure_anonymous_mib(process: int) -> float:
    """Current memory of a process that no file backs, in MiB; 0 if the system does not tell it."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) for line in lines if "RssAnon" in line), 0) / 2**10


@contextmanager
def watch_memory() -> Iterator[dict[int, float]]:
    """Within, record the largest anonymous memory of this process and of each of its children."""
    peaks: dict[int, float] = {}
    ended = threading.Event()

    def watch() -> None:
        parent = os.getpid()
        while not ended.wait(0.1):
            path = Path(f"/proc/{parent}/task/{parent}/children")
            children = path.read_text().split() if path.exists() else []
            for process in (parent, *map(int, children)):
                peaks[process] = max(peaks.get(process, 0.0), measure_anonymous_mib(process))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peaks
    finally:
        ended.set()
        thread.join()


def needed_flops(model: ModelConfig, vocabulary: int, source: Lengths, target: Lengths) -> float:
    """Floating-point operations that one update needs, without padding and the combiner.

    A multiplication and an addition are two operations; the backward pass needs twice as many as
    the forward pass.

    Args:
        model: sizes of the model.
        vocabulary: number of target pieces.
        source, target: lengths of the sentences in pieces, with the end symbol.
    """
    dim, inner = model.dim, model.ffn_dim
    source_count, target_count = float(source.sum()), float(target.sum())
    self_pairs = float((target * (target + 1) / 2).sum())  # attention to earlier target pieces
    cross_pairs = float((source * target).sum())
    encoder = source_count * (4 * dim**2 + 2 * dim * inner) + 2 * dim * float((source**2).sum())
    decoder = (
        target_count * (6 * dim**2 + 2 * dim * inner)
        + source_count * 2 * dim**2
        + 2 * dim * (self_pairs + cross_pairs)
    )
    products = model.encoder_layers * encoder + model.decoder_layers * decoder
    return 6 * (products + target_count * dim * vocabulary)


def measure_product_rate(dtype: torch.dtype, device: torch.device) -> float:
    """Best rate of 1024-square matrix products in this process, in operations/s.

    It is the best of thirty products, or of those in two seconds: a CPU without instructions for
    bfloat16 is slow.
    """
    a, b = (torch.randn(1024, 1024, device=device).to(dtype) for _ in range(2))

    def time_product() -> float:
        start = time.perf_counter()
        torch.mm(a, b)
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    times, end = [time_product()], time.perf_counter() + 2
    while len(times) < 30 and time.perf_counter() < end:
        times.append(time_product())
    return 2 * 1024**3 / min(times)


def make_trainer(cfg: TrainConfig, folder: Path) -> tuple[Trainer, TrainConfig, Prepared]:
    """A trainer, its resolved settings and its data; `folder` is for checkpoints."""
    cfg = resolve_settings(cfg, False, Console(stderr=True))
    fabric = make_fabric(cfg)
    fabric.launch()
    prepared = prepare(cfg, cfg.features)
    model = build_untrained(cfg, prepared)[0]
    progress = Progress(Console(stderr=True), enabled=False)
    trainer = build_trainer(cfg, prepared, model, folder, fabric, progress)
    model.train()
    return trainer, cfg, prepared


def time_update(trainer: Trainer) -> float:
    """Make an update; its seconds."""
    start = time.perf_counter()
    trainer.update()
    if trainer.fabric.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def time_training(cfg: TrainConfig, warmup: int, updates: int) -> dict[str, Any]:
    """Time updates; data loading counts, validation and the first `warmup` updates do not."""
    with tempfile.TemporaryDirectory() as folder:
        trainer, cfg, prepared = make_trainer(cfg, Path(folder))
        time_update(trainer)
        seconds_to_start = time.perf_counter() - START
        for _ in range(warmup - 1):
            time_update(trainer)
        before, batches = dataclasses.replace(trainer.state), []
        draw = trainer.draw_batch
        trainer.draw_batch = lambda: batches.append(draw()) or batches[-1]  # type: ignore[method-assign, func-returns-value]
        seconds = [time_update(trainer) for _ in range(updates)]
    flops = sum(
        needed_flops(
            cfg.model,
            prepared.target.size,
            prepared.train.source_lengths[batch.indices],
            prepared.train.target_lengths[batch.indices],
        )
        for batch in batches
    )
    total = sum(seconds)
    rates = {
        name: measure_product_rate(dtype, trainer.fabric.device)
        for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))
    }
    tenths = statistics.quantiles(seconds, n=10)
    return {
        "parameters": sum(p.numel() for p in trainer.model.parameters()),
        "sentences_per_second": (trainer.state.sentences - before.sentences) / total,
        "target_tokens_per_second": (trainer.state.tokens - before.tokens) / total,
        "update_ms_mean": 1000 * total / updates,
        **{f"update_ms_{name}": 1000 * tenths[i] for name, i in TENTHS.items()},
        "start_to_first_update_seconds": seconds_to_start,
        "gflops_needed_per_second": flops / total / 1e9,
        **{f"gflops_product_{name}": rate / 1e9 for name, rate in rates.items()},
        **{f"share_of_{name}_rate": flops / total / rate for name, rate in rates.items()},
        "peak_memory_mib": peak_memory_mib(),
        "anonymous_memory_mib": measure_anonymous_mib(os.getpid()),
    }


def time_command(settings: list[str], warmup: int, updates: int) -> dict[str, Any]:
    """Time the updates of a process of train.py with a logger; then the process is stopped."""
    tools = Path(__file__).parent
    environment = os.environ | {
        "NMT_FEAT_MODULES": "update_clock",
        "PYTHONPATH": f"{tools}:{os.environ.get('PYTHONPATH', '')}",
    }
    with tempfile.TemporaryDirectory() as folder:
        clock = Path(folder) / "clock"
        steps = 10 * (warmup + updates)  # never reached: no validation, no test
        command = [sys.executable, str(tools.parent / "train.py"), *settings]
        command += [f"trainer.max_steps={steps}", f"trainer.validate_every={steps}"]
        command += ["trainer.log_every=1", "trainer.progress=false", f"paths.runs={folder}/runs"]
        command += ["+logger.clock._target_=update_clock.UpdateClock"]
        command += [f"+logger.clock.args.path={clock}"]
        with Path(folder, "printed").open("w+") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
            times: list[float] = []
            while process.poll() is None and len(times) <= warmup + updates:
                time.sleep(0.1)
                times = [float(x) for x in clock.read_text().split()] if clock.exists() else []
            process.terminate()
            process.wait()
            if len(times) <= warmup + updates:
                raise UserError(f"train.py has ended: {Path(folder, 'printed').read_text()}")
    seconds = np.diff(times)[warmup - 1 : warmup + updates - 1]
    tenths = statistics.quantiles(seconds.tolist(), n=10)
    return {
        "start_to_first_update_seconds": times[0] - START,
        "update_ms_mean": 1000 * float(seconds.mean()),
        **{f"update_ms_{name}": 1000 * tenths[i] for name, i in TENTHS.items()},
    }


def time_rows(
    settings: Callable[..., TrainConfig], names: list[str], warmup: int, updates: int, rounds: int
) -> dict[str, Any]:
    """Time updates of rows of a table in one process, in turn, so that noise is the same for all.

    All rows get the same batches.

    Returns:
        For each row the median milliseconds, and the ratios to the first row over rounds.
    """
    with tempfile.TemporaryDirectory() as folder:
        trainers = {name: make_trainer(settings(f"row={name}"), Path(folder))[0] for name in names}
        _time_round(trainers, warmup)
        by_round = [_time_round(trainers, updates) for _ in range(rounds)]
    figures: dict[str, Any] = {"peak_memory_mib": peak_memory_mib()}
    for name in names:
        ratios = [seconds[name] / seconds[names[0]] for seconds in by_round]
        median = statistics.median(seconds[name] for seconds in by_round)
        figures[f"{name}_update_ms"] = 1000 * median / updates
        if name == names[0]:
            continue
        figures[f"{name}_times_{names[0]}"] = statistics.median(ratios)
        figures[f"{name}_times_{names[0]}_lowest"] = min(ratios)
        figures[f"{name}_times_{names[0]}_highest"] = max(ratios)
    return figures


def _time_round(trainers: dict[str, Trainer], updates: int) -> dict[str, float]:
    """The seconds that each trainer needs for so many updates, which all make in turn."""
    names = list(trainers)
    seconds = dict.fromkeys(names, 0.0)
    for turn in range(updates):
        first = turn % len(names)  # each turn begins with another row, which evens out its cost
        for name in names[first:] + names[:first]:
            seconds[name] += time_update(trainers[name])
    return seconds


def time_translation(
    folder: str, name: str, raw: str | None, beam: int | None, threads: int
) -> dict[str, Any]:
    """Time annotation and encoding of a file's sentences, then the search."""
    run = TrainedModel(folder, threads)
    start = time.perf_counter()
    if kind_of(name) == "conllu":
        sentences = list(read_conllu(name))
    else:
        sentences = run.annotation.annotate_texts(
            read_lines(name), read_lines(raw) if raw else None, name
        )
    where = [f"{name}: sentence {i + 1}" for i in range(len(sentences))]
    split = run.encode_pairs(sentences, [""] * len(sentences), where)
    encoded = time.perf_counter()
    decoding = dataclasses.replace(run.cfg.decoding, beam=beam or run.cfg.decoding.beam)
    nbest = translate_split(run.model, split, list(run.cfg.features), decoding, run.device)
    seconds = time.perf_counter() - encoded
    return {
        "beam": decoding.beam,
        "sentences": len(sentences),
        "annotating_and_encoding_seconds": encoded - start,
        "sentences_per_second": len(sentences) / seconds,
        "target_tokens_per_second": sum(len(best[0].ids) + 1 for best in nbest) / seconds,
        "start_seconds": start - START,
        "peak_memory_mib": peak_memory_mib(),
    }


def measure_preparation(cfg: TrainConfig) -> dict[str, Any]:
    """Time preparation without a cache; downloads and annotation may be cached."""
    cfg = resolve_settings(cfg, False, Console(stderr=True))
    phases: list[tuple[str, float]] = []
    earlier_folders = set(Path(cfg.paths.cache).glob("prepared-*"))
    start = time.perf_counter()
    with watch_memory() as memory:
        prepared = prepare(
            cfg, cfg.features, lambda text: phases.append((text, time.perf_counter()))
        )
    end = time.perf_counter()
    parent_memory = memory.pop(os.getpid(), 0.0)
    if prepared.folder in earlier_folders:
        raise UserError(f"{prepared.folder}: prepared before; remove it to time its preparation")
    phase_ends = [begin for _, begin in phases[1:]] + [end]
    pairs = sum(len(s) for s in (prepared.train, prepared.dev, *prepared.tests.values()))
    durations = {
        text: phase_end - begin for (text, begin), phase_end in zip(phases, phase_ends, strict=True)
    }
    return {
        "sentence_pairs": pairs,
        "sentences_per_second": pairs / (end - start),
        **{f"{text.replace(' ', '_')}_seconds": seconds for text, seconds in durations.items()},
        "peak_memory_mib": peak_memory_mib(),
        "peak_anonymous_memory_mib": parent_memory,
        "peak_anonymous_memory_of_a_worker_mib": max(memory.values(), default=0.0),
    }


def print_figures(title: str, figures: dict[str, Any]) -> None:
    """Print a table of figures."""
    table = Table(title=escape(title), title_justify="left", show_header=False)
    for name, value in figures.items():
        text = f"{value:,.3g}" if isinstance(value, float) and value < 10 else f"{value:,.0f}"
        table.add_row(name.replace("_", " "), text)
    Console().print(table)


def read_arguments() -> argparse.Namespace:
    """The arguments of the command line, checked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("what", choices=["train", "command", "rows", "translate", "prepare"])
    parser.add_argument("settings", nargs="*", help="settings of train.py, name=value")
    parser.add_argument("--warmup", type=int, default=50, help="updates that are not timed")
    parser.add_argument("--updates", type=int, default=200, help="updates that are timed")
    parser.add_argument("--pairs", type=int, help="train, prepare: on a corpus of this size")
    parser.add_argument("--rows", default="none,concat,gate", help="rows: names, the first is 1")
    parser.add_argument("--rounds", type=int, default=5, help="rows: rounds of `--updates` each")
    parser.add_argument("--run", help="translate: folder of a run")
    parser.add_argument("--input", help="translate: file of sentences, text or CoNLL-U")
    parser.add_argument("--raw", help="translate: raw counterpart of tokenised text")
    parser.add_argument("--beam", type=int, help="translate: beam size, if not the run's")
    parser.add_argument("--threads", type=int, default=0, help="translate: CPU threads")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options = parser.parse_intermixed_args()
    if options.what == "translate" and not (options.run and options.input):
        parser.error("translate needs --run and --input")
    if options.what in ("train", "command") and options.updates < 2:
        parser.error(
            f"--updates {options.updates}: {options.what} needs at least 2, for its tenths"
        )
    if options.what == "rows" and min(options.updates, options.rounds) < 1:
        parser.error("rows needs at least 1 of --updates and of --rounds")
    return options


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The figures of the measurement that the command line asks for."""
    warmup = max(1, options.warmup)

    def settings(*more: str) -> TrainConfig:
        cfg = compose_settings([*options.settings, *more])
        if options.pairs:
            use_synthetic_corpus(cfg, options.pairs)
        return cfg

    if options.what == "train":
        return time_training(settings(), warmup, options.updates)
    if options.what == "command":
        return time_command(options.settings, warmup, options.updates)
    if options.what == "rows":
        names = options.rows.split(",")
        return time_rows(settings, names, warmup, options.updates, options.rounds)
    if options.what == "translate":
        return time_translation(
            options.run, options.input, options.raw, options.beam, options.threads
        )
    return measure_preparation(settings())


def main() -> None:
    """Measure, print, write."""
    options = read_arguments()
    with print_mistakes():
        figures = measure(options)
    print_figures(" ".join(["benchmark", options.what, *options.settings]), figures)
    if options.json:
        record = {
            "what": options.what,
            "settings": options.settings,
            "figures": figures,
            **describe_origin(),
        }
        with print_mistakes(), writing_to(options.json):
            options.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
