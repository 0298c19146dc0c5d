"""How fast training, translation and preparation are, with the settings of train.py.

python tools/benchmark.py train model=tiny trainer.precision=bf16-mixed trainer.threads=2
python tools/benchmark.py command model=tiny trainer.precision=bf16-mixed trainer.threads=2
python tools/benchmark.py rows model=tiny --rows none,concat_upos,gate --rounds 5 --updates 30
python tools/benchmark.py translate --run runs/... --input FILE
python tools/benchmark.py prepare data=multi30k
python tools/benchmark.py prepare features=[upos,deprel,lemma] --pairs 5000000

`--pairs N` writes a corpus of N pairs first (the embedded one again and again, each sentence with a
number of its own) in the folder `paths.cache`, and keeps it; `train --pairs N` trains on it.
`train` times the bare updates in this process; `command` those of a process of train.py, with all
that stands around them, the same batches for the same `--warmup` and `--updates`.
`rows` trains rows of tables side by side, an update of each in turn: how many times the first
one's time an update of each takes, the median of the rounds. Prints a table; `--json FILE` writes
the figures as well. Padding is never counted as a token.
"""

import time

BEGUN = time.perf_counter()  # before the imports, which are part of the start

import argparse
import dataclasses
import json
import os
import shutil
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

from nmt_feat.base.resources import find_resource
from nmt_feat.cli.compose import compose_settings
from nmt_feat.cli.hydra_program import print_mistakes
from nmt_feat.config.schema import ModelConfig, TrainConfig
from nmt_feat.data.prepare import Prepared, prepare
from nmt_feat.errors import UserError, writing_to
from nmt_feat.evaluation.split_decoding import translate_split
from nmt_feat.runs.build_trainer import build_trainer
from nmt_feat.runs.processes import make_fabric
from nmt_feat.runs.progress import Progress
from nmt_feat.runs.provenance import (
    code_revision,
    describe_machine,
    package_versions,
    peak_memory_mib,
)
from nmt_feat.runs.resolve import resolve_settings
from nmt_feat.runs.starting_model import build_untrained
from nmt_feat.runs.trained_model import TrainedModel
from nmt_feat.text.conllu import read_conllu
from nmt_feat.text.files import read_lines
from nmt_feat.text.formats import kind_of
from nmt_feat.training.loop import Trainer

Lengths = NDArray[np.int64]
TENTHS = {"p10": 0, "median": 4, "p90": 8}
"""Shown of the times of updates, by their number among tenths."""


def synthetic(cfg: TrainConfig, pairs: int) -> None:
    """Have the settings read a corpus of so many training pairs, written once."""
    embedded = find_resource("data/embedded")
    folder = Path(cfg.paths.cache) / f"synthetic-{pairs}"
    if not folder.exists():
        made = folder.with_name(folder.name + ".part")
        shutil.rmtree(made, ignore_errors=True)
        shutil.copytree(embedded, made)
        blocks = (embedded / "train.conllu").read_text(encoding="utf-8").strip().split("\n\n")
        rows = ["\n".join(r for r in b.split("\n") if not r.startswith("#")) for b in blocks]
        targets = (embedded / "train.de").read_text(encoding="utf-8").splitlines()
        with (
            (made / "train.conllu").open("w", encoding="utf-8") as source,
            (made / "train.de").open("w", encoding="utf-8") as target,
        ):
            for i in range(pairs):
                words = rows[i % len(rows)]
                last = words.count("\n") + 2
                source.write(f"{words}\n{last}\t{i}\t{i}\tNUM\tCD\t_\t0\tdep\t_\t_\n\n")
                target.write(f"{targets[i % len(rows)]} {i}\n")
        made.rename(folder)
    cfg.data.folder = str(folder)


def anonymous_mib(process: int) -> float:
    """Memory of a process now that no file backs, MiB; 0 where the system does not tell."""
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    except OSError:
        return 0.0
    return next((int(r.split()[1]) for r in status.splitlines() if "RssAnon" in r), 0) / 2**10


@contextmanager
def watched() -> Iterator[dict[int, float]]:
    """The largest `anonymous_mib` of this process and of each of its children, while inside."""
    found: dict[int, float] = {}
    ended = threading.Event()

    def watch() -> None:
        own = os.getpid()
        while not ended.wait(0.1):
            children = Path(f"/proc/{own}/task/{own}/children")
            family = children.read_text().split() if children.exists() else []
            for process in (own, *map(int, family)):
                found[process] = max(found.get(process, 0.0), anonymous_mib(process))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()


def needed_flops(model: ModelConfig, vocabulary: int, source: Lengths, target: Lengths) -> float:
    """Floating-point operations that one update must do, padding and the combiner left out.

    A multiplication and an addition are two; the backward pass does twice what the forward does.
    Args: source and target are the sentences' lengths in pieces, the end symbol counts.
    """
    dim, inner = model.dim, model.ffn_dim
    pieces, words = float(target.sum()), float(source.sum())
    own, seen = float((target * (target + 1) / 2).sum()), float((source * target).sum())
    encoder = words * (4 * dim**2 + 2 * dim * inner) + 2 * dim * float((source**2).sum())
    decoder = pieces * (6 * dim**2 + 2 * dim * inner) + words * 2 * dim**2 + 2 * dim * (own + seen)
    multiplied = model.encoder_layers * encoder + model.decoder_layers * decoder
    return 6 * (multiplied + pieces * dim * vocabulary)


def product_rate(dtype: torch.dtype, device: torch.device) -> float:
    """Best rate of 1024-square matrix products in this process, operations/s.

    Of thirty, or of those in two seconds: a CPU without instructions for bfloat16 is slow.
    """
    a, b = (torch.randn(1024, 1024, device=device).to(dtype) for _ in range(2))

    def seconds() -> float:
        begun = time.perf_counter()
        torch.mm(a, b)
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - begun

    times, end = [seconds()], time.perf_counter() + 2
    while len(times) < 30 and time.perf_counter() < end:
        times.append(seconds())
    return 2 * 1024**3 / min(times)


def make_trainer(cfg: TrainConfig, folder: Path) -> tuple[Trainer, TrainConfig, Prepared]:
    """A trainer that keeps nothing in `folder`, its complete settings and its data."""
    cfg = resolve_settings(cfg, False, Console(stderr=True))
    fabric = make_fabric(cfg)
    fabric.launch()
    prepared = prepare(cfg, cfg.features)
    model = build_untrained(cfg, prepared)[0]
    progress = Progress(Console(stderr=True), enabled=False)
    trainer = build_trainer(cfg, prepared, model, folder, fabric, progress)
    model.train()
    return trainer, cfg, prepared


def update(trainer: Trainer) -> float:
    """Seconds of an update."""
    begun = time.perf_counter()
    trainer.update()
    if trainer.fabric.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def train(cfg: TrainConfig, warmup: int, updates: int) -> dict[str, Any]:
    """Time updates; data loading counts, validation and the first `warmup` updates do not."""
    with tempfile.TemporaryDirectory() as folder:
        trainer, cfg, prepared = make_trainer(cfg, Path(folder))
        update(trainer)
        start = time.perf_counter() - BEGUN
        for _ in range(warmup - 1):
            update(trainer)
        before, drawn = dataclasses.replace(trainer.state), []
        draw = trainer.draw_batch
        trainer.draw_batch = lambda: drawn.append(draw()) or drawn[-1]  # type: ignore[method-assign, func-returns-value]
        seconds = [update(trainer) for _ in range(updates)]
    flops = sum(
        needed_flops(
            cfg.model,
            prepared.target.size,
            prepared.train.source_lengths[batch.indices],
            prepared.train.target_lengths[batch.indices],
        )
        for batch in drawn
    )
    total = sum(seconds)
    rates = {
        name: product_rate(dtype, trainer.fabric.device)
        for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))
    }
    tenths = statistics.quantiles(seconds, n=10)
    return {
        "parameters": sum(p.numel() for p in trainer.model.parameters()),
        "sentences_per_second": (trainer.state.sentences - before.sentences) / total,
        "target_tokens_per_second": (trainer.state.tokens - before.tokens) / total,
        "update_ms_mean": 1000 * total / updates,
        **{f"update_ms_{name}": 1000 * tenths[i] for name, i in TENTHS.items()},
        "start_to_first_update_seconds": start,
        "gflops_needed_per_second": flops / total / 1e9,
        **{f"gflops_product_{name}": rate / 1e9 for name, rate in rates.items()},
        **{f"share_of_{name}_rate": flops / total / rate for name, rate in rates.items()},
        "peak_memory_mib": peak_memory_mib(),
        "anonymous_memory_mib": anonymous_mib(os.getpid()),
    }


def command(settings: list[str], warmup: int, updates: int) -> dict[str, Any]:
    """Time the updates of a process of train.py, by a logger; it is stopped behind them."""
    tools = Path(__file__).parent
    modules = {"NMT_FEAT_MODULES": "update_clock"}
    modules["PYTHONPATH"] = f"{tools}:{os.environ.get('PYTHONPATH', '')}"
    with tempfile.TemporaryDirectory() as folder:
        clock = Path(folder) / "clock"
        steps = 10 * (warmup + updates)  # never reached: no validation, no test
        more = [f"trainer.max_steps={steps}", f"trainer.validate_every={steps}"]
        more += ["trainer.log_every=1", "trainer.progress=false", f"paths.runs={folder}/runs"]
        more += ["+logger.clock._target_=update_clock.UpdateClock"]
        more += [f"+logger.clock.args.path={clock}"]
        line = [sys.executable, str(tools.parent / "train.py"), *settings, *more]
        with Path(folder, "printed").open("w+") as printed:
            process = subprocess.Popen(
                line, env=os.environ | modules, stdout=printed, stderr=printed
            )
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
        "start_to_first_update_seconds": times[0] - BEGUN,
        "update_ms_mean": 1000 * float(seconds.mean()),
        **{f"update_ms_{name}": 1000 * tenths[i] for name, i in TENTHS.items()},
    }


def rows(
    settings: Callable[..., TrainConfig], names: list[str], warmup: int, updates: int, rounds: int
) -> dict[str, Any]:
    """Time updates of rows of a table in one process, by turns, so that noise falls on all alike.

    All see the same batches. By row: median milliseconds, and by round the ratio to the first row.
    """
    with tempfile.TemporaryDirectory() as folder:
        trainers = {name: make_trainer(settings(f"row={name}"), Path(folder))[0] for name in names}
        seconds: dict[str, list[float]] = {name: [] for name in names}
        for number in range(-1, rounds):
            spent = dict.fromkeys(names, 0.0)
            for turn in range(updates if number >= 0 else warmup):
                first = turn % len(names)  # another row begins: to be first is no handicap
                for name in names[first:] + names[:first]:
                    spent[name] += update(trainers[name])
            for name in names if number >= 0 else ():
                seconds[name].append(spent[name])
    figures: dict[str, Any] = {"peak_memory_mib": peak_memory_mib()}
    for name, found in seconds.items():
        ratios = [own / first for own, first in zip(found, seconds[names[0]], strict=True)]
        figures[f"{name}_update_ms"] = 1000 * statistics.median(found) / updates
        if name == names[0]:
            continue
        figures[f"{name}_times_{names[0]}"] = statistics.median(ratios)
        figures[f"{name}_times_{names[0]}_lowest"] = min(ratios)
        figures[f"{name}_times_{names[0]}_highest"] = max(ratios)
    return figures


def translate(
    folder: str, name: str, raw: str | None, beam: int | None, threads: int
) -> dict[str, Any]:
    """Time annotation and encoding, then search, of a file's sentences."""
    run = TrainedModel(folder, threads)
    begun = time.perf_counter()
    if kind_of(name) == "conllu":
        sentences = list(read_conllu(name))
    else:
        sentences = run.annotate_texts(read_lines(name), read_lines(raw) if raw else None, name)
    where = [f"{name}: sentence {i + 1}" for i in range(len(sentences))]
    split = run.encode_pairs(sentences, [""] * len(sentences), where)
    encoded = time.perf_counter()
    decoding = dataclasses.replace(run.cfg.decoding, beam=beam or run.cfg.decoding.beam)
    found = translate_split(run.model, split, list(run.cfg.features), decoding, run.device)
    seconds = time.perf_counter() - encoded
    return {
        "beam": decoding.beam,
        "sentences": len(sentences),
        "annotating_and_encoding_seconds": encoded - begun,
        "sentences_per_second": len(sentences) / seconds,
        "target_tokens_per_second": sum(len(best[0].ids) + 1 for best in found) / seconds,
        "start_seconds": begun - BEGUN,
        "peak_memory_mib": peak_memory_mib(),
    }


def measure_preparation(cfg: TrainConfig) -> dict[str, Any]:
    """Time preparation from nothing; downloads and annotation that are cached stay so."""
    cfg = resolve_settings(cfg, False, Console(stderr=True))
    phases: list[tuple[str, float]] = []
    known = set(Path(cfg.paths.cache).glob("prepared-*"))
    begun = time.perf_counter()
    with watched() as memory:
        prepared = prepare(
            cfg, cfg.features, lambda text: phases.append((text, time.perf_counter()))
        )
    ended = time.perf_counter()
    own = memory.pop(os.getpid(), 0.0)
    if prepared.folder in known:
        raise UserError(f"{prepared.folder}: prepared before; remove it to time its preparation")
    ends = [at for _, at in phases[1:]] + [ended]
    pairs = sum(len(s) for s in (prepared.train, prepared.dev, *prepared.tests.values()))
    spent = {text: end - at for (text, at), end in zip(phases, ends, strict=True)}
    return {
        "sentence_pairs": pairs,
        "sentences_per_second": pairs / (ended - begun),
        **{f"{text.replace(' ', '_')}_seconds": seconds for text, seconds in spent.items()},
        "peak_memory_mib": peak_memory_mib(),
        "peak_anonymous_memory_mib": own,
        "peak_anonymous_memory_of_a_worker_mib": max(memory.values(), default=0.0),
    }


def show(title: str, figures: dict[str, Any]) -> None:
    """A table of figures."""
    table = Table(title=escape(title), title_justify="left", show_header=False)
    for name, value in figures.items():
        shown = f"{value:,.3g}" if isinstance(value, float) and value < 10 else f"{value:,.0f}"
        table.add_row(name.replace("_", " "), shown)
    Console().print(table)


def main() -> None:
    """Measure, show, write."""
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
    given = parser.parse_intermixed_args()

    def settings(*more: str) -> TrainConfig:
        cfg = compose_settings([*given.settings, *more])
        if given.pairs:
            synthetic(cfg, given.pairs)
        return cfg

    work: dict[str, Callable[[], dict[str, Any]]] = {
        "train": lambda: train(settings(), max(1, given.warmup), given.updates),
        "command": lambda: command(given.settings, max(1, given.warmup), given.updates),
        "rows": lambda: rows(
            settings, given.rows.split(","), max(1, given.warmup), given.updates, given.rounds
        ),
        "translate": lambda: translate(
            given.run, given.input, given.raw, given.beam, given.threads
        ),
        "prepare": lambda: measure_preparation(settings()),
    }
    if given.what == "translate" and not (given.run and given.input):
        parser.error("translate needs --run and --input")
    if given.what in ("train", "command") and given.updates < 2:
        parser.error(f"--updates {given.updates}: {given.what} needs at least 2, for its tenths")
    if given.what == "rows" and min(given.updates, given.rounds) < 1:
        parser.error("rows needs at least 1 of --updates and of --rounds")
    with print_mistakes():
        figures = work[given.what]()
    show(" ".join(["benchmark", given.what, *given.settings]), figures)
    if given.json:
        record = {
            "what": given.what,
            "settings": given.settings,
            "figures": figures,
            "code": code_revision(),
            "libraries": package_versions(),
            "machine": describe_machine(),
        }
        with print_mistakes(), writing_to(given.json):
            given.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
