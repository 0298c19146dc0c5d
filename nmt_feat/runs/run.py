"""A run from its settings to its result: found again, resumed or trained, tested, recorded."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from filelock import Timeout
from lightning_fabric import Fabric
from rich.console import Console

from nmt_feat.base.checksums import SUMS, check_sums, hash_files, hash_json, write_sums
from nmt_feat.base.files import (
    make_folder,
    refuse_links,
    remove_leftovers,
    remove_tree,
    write_atomically,
)
from nmt_feat.base.lifetime import end_with_parent
from nmt_feat.base.terminal import TextConsole, say
from nmt_feat.cli.sweep import current
from nmt_feat.config.commands import drop_settings, shell_command
from nmt_feat.config.identity import (
    identity_settings,
    is_earlier,
    limits_of_validation,
    validation_search,
)
from nmt_feat.config.schema import CombinerConfig, TrainConfig
from nmt_feat.data.controls import CONTROLS, features_to_prepare, prepare_run
from nmt_feat.data.identity import DataHashes, hash_data
from nmt_feat.data.prepare import Prepared, prepare
from nmt_feat.errors import UserError
from nmt_feat.evaluation.combiner_diagnostics import part_use
from nmt_feat.evaluation.counts import counts_file
from nmt_feat.evaluation.test_sets import DecodedSplit, decode_split, evaluate_split, score_readings
from nmt_feat.features import Contextual
from nmt_feat.features.choice import choose_kinds
from nmt_feat.model.transformer import Transformer
from nmt_feat.runs import processes, provenance, records
from nmt_feat.runs.additions import add_results
from nmt_feat.runs.advice import OWN_FILES, advice, advise_on_size
from nmt_feat.runs.artifacts import ANNOTATOR, CONFIG, WEIGHTS, keep, model_for
from nmt_feat.runs.build_model import arithmetic
from nmt_feat.runs.folders import earlier_data, find_folder, upgrade_record
from nmt_feat.runs.initial_vectors import start
from nmt_feat.runs.locks import lock_of
from nmt_feat.runs.loggers import Loggers, make_loggers
from nmt_feat.runs.processes import make_fabric, set_up_torch
from nmt_feat.runs.progress import Progress
from nmt_feat.runs.records import FINISHED, STARTED, CurvePoint, Request, RunRecord, method_name
from nmt_feat.runs.resolve import resolve_settings
from nmt_feat.runs.run_summary import summarize_run
from nmt_feat.runs.signals import Interrupted, signals
from nmt_feat.text.files import read_lines
from nmt_feat.text.normalization import RULES
from nmt_feat.training import checkpoints
from nmt_feat.training.checkpoints import CHECKPOINTS, Checkpoints, Progression
from nmt_feat.training.loop import Trainer
from nmt_feat.training.resume import adopt, refuse_changes, unfinished

REPLACED = "combiner", "combiner._target_", "combiner.args.", "seed", "resume"
"""Settings of a run that the sweep to try next has in its own way, or cannot have."""


def match(cfg: TrainConfig, console: Console) -> TrainConfig:
    """Words only, `model.ffn_dim` such that there are as many parameters as `cfg` has.

    Within 0.5 %, else a `UserError`. The data with the features is prepared for their sizes.
    """
    prepared = prepare(cfg, cfg.features)
    plain = copy.deepcopy(cfg)
    plain.combiner, plain.features = CombinerConfig(), {}
    plain.model.source_words = True

    def count(cfg: TrainConfig, ffn_dim: int) -> int:
        changed = copy.deepcopy(cfg)
        changed.model.ffn_dim = ffn_dim
        vocabs = {name: prepared.encoder.features[name] for name in cfg.features}
        encoder = prepared.encoder.with_features(vocabs)
        return parameter_counts(model_for(changed, encoder, prepared.target))["total"]

    width, goal = cfg.model.ffn_dim, count(cfg, cfg.model.ffn_dim)
    start = count(plain, width)
    step = count(plain, width + 1) - start
    plain.model.ffn_dim = max(1, width + round((goal - start) / step))
    found = count(plain, plain.model.ffn_dim)
    name = method_name(cfg.combiner._target_)
    if abs(found / goal - 1) > 0.005:
        raise UserError(
            f"control=matched: model.ffn_dim={plain.model.ffn_dim} gives {found:,} parameters, "
            f"combiner={name} has {goal:,}; widen the model"
        )
    console.print(
        f"control=matched: words only with model.ffn_dim={plain.model.ffn_dim}, not {width}: "
        f"{found:,} parameters, {name} has {goal:,}"
    )
    return plain


def untrained(cfg: TrainConfig, prepared: Prepared) -> tuple[Transformer, list[str]]:
    """The model that training starts from, with its ready-made vectors, and notes on these."""
    model = model_for(cfg, prepared.encoder, prepared.target)
    notes = start(model, cfg, prepared)
    for name, kind in choose_kinds(cfg.features).items():
        notes += kind.describe_embedder(model.source.features[name])
    return model, notes


@dataclass
class Fitted:
    """What the processes of a training leave, in the first of them."""

    at: Progression
    tested: dict[str, DecodedSplit]
    """By split; those that a signal interrupted are not here."""
    peak: float
    """Memory (MiB) of the largest process."""


def fit(
    fabric: Fabric, cfg: TrainConfig, folder: Path, made: tuple[Prepared, Transformer] | None
) -> Fitted:
    """Train or resume in each process, to the end or a signal; test what is at its end.

    A spawned process has nothing made for it.
    """
    progress = Progress(TextConsole(), fabric.global_rank == 0, cfg.trainer.progress)
    with (
        signals.handled(),
        signals.deferred(),
        processes.waiting_limited(cfg.trainer.wait_minutes, lambda: progress.current),
    ):
        set_up_torch(cfg)
        if made is None:
            prepared = prepare_run(cfg)
            made = prepared, untrained(cfg, prepared)[0]
        search = validation_search(earlier_record(folder))
        trainer = Trainer(cfg, *made, folder, fabric, progress, search)
        trainer.resume()
        if trainer.checkpoints.damaged:
            progress.say(f"{trainer.checkpoints.damaged}; the checkpoint before is used")
        if trainer.at.step and not trainer.at.finished:
            progress.say(f"resumed at update {trainer.at.step} of {cfg.trainer.max_steps}")
        with contextlib.ExitStack() as stack:
            if fabric.global_rank == 0:
                loggers = Loggers(make_loggers(cfg.logger), folder, progress.say)
                stack.enter_context(contextlib.closing(loggers))
                progress.log = loggers.log
            at = trainer.fit()
        if not at.finished:
            return Fitted(at, {}, 0.0)
        prepared, model = made
        restore_chosen(cfg, folder, model)
        model.to(fabric.device).eval()
        with progress.working("translating"):
            found = {}
            for name, split in {"dev": prepared.dev, **prepared.tests}.items():
                progress.current = f"the translations of {name}"
                found[name] = decode_split(
                    cfg, model, split, fabric.device, partial(processes.shared, fabric)
                )
        own = torch.tensor(provenance.peak_memory_mib(), device=fabric.device)
        peak = fabric.all_reduce(own, reduce_op="max")
        assert isinstance(peak, torch.Tensor)
        return Fitted(at, {name: one for name, one in found.items() if one}, float(peak))


def restore_chosen(cfg: TrainConfig, folder: Path, model: Transformer) -> list[int]:
    """Give the model the weights to test, in fp32; of which updates they are."""
    chosen, steps = Checkpoints(folder / CHECKPOINTS, 1, verify=False).select(cfg.trainer.select)
    model.float()  # a model trained in another precision is tested as it will be used
    checkpoints.restore(model, chosen)
    return steps


def train(
    fabric: Fabric, cfg: TrainConfig, folder: Path, made: tuple[Prepared, Transformer]
) -> Fitted:
    """`fit` here or in spawned processes, to its end."""
    here = cfg.trainer.devices == processes.started().world
    fitted = processes.launch(fabric, fit, cfg, folder, made if here else None, Fitted)
    if not fitted.at.finished:
        raise Interrupted(
            f"{signals.caught or 'a signal'}: stopped after update {fitted.at.step} of "
            f"{cfg.trainer.max_steps}, saved in {folder}; the same command continues"
        )
    if len(fitted.tested) < 1 + len(made[0].tests):
        raise Interrupted(f"{signals.caught or 'a signal'}: stopped; the same command continues")
    return fitted


def parameter_counts(model: Transformer) -> dict[str, int]:
    """Trainable numbers: all, the combiner's, the features'; apart, those of trained encoders."""
    source = model.source
    parts = {"total": model, "combiner": source.combiner, "features": source.features}
    counts = {
        name: sum(p.numel() for p in part.parameters() if p.requires_grad)
        for name, part in parts.items()
    }
    counts["total"] -= source.fixed
    encoders = [f.encoder for f in source.features.values() if isinstance(f, Contextual)]
    if trained := [p for e in encoders if e is not None for p in e.parameters()]:
        counts["encoders"] = sum(p.numel() for p in trained if p.requires_grad)
        counts["features"] -= counts["encoders"]
    return counts


@contextlib.contextmanager
def locked(folder: Path, wait: bool = False) -> Iterator[None]:
    """Keep other processes from a run's folder; the system frees the lock of a killed one.

    Where another process has it: `wait` for that one, else a `UserError`.
    """
    if processes.started().rank:  # the first has the lock
        yield
        return
    lock = lock_of(folder)
    busy = f"{folder}: another process is training this run"
    try:
        lock.acquire()
    except Timeout:
        if not wait:
            raise UserError(f"{busy}; wait for it") from None
        say(f"{busy}; waiting for it")
        lock.acquire(timeout=-1)
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def refusing_deleted(folder: Path) -> Iterator[None]:
    """One line where a run's folder, or a part of it, was deleted while the run trained."""
    try:
        yield
    except FileNotFoundError as error:
        if error.filename is None or folder not in Path(error.filename).parents:
            raise
        raise UserError(
            f"{error.filename}: was deleted while the run trained; {checkpoints.AGAIN}"
        ) from error


def earlier_record(folder: Path) -> dict[str, Any]:
    """The stored settings of a run that was begun with an earlier identity, which it keeps."""
    path = folder / records.STARTED
    stored = records.read_record(path).settings if path.exists() else {}
    return stored if is_earlier(stored) else {}


def continued(cfg: TrainConfig, settings: dict[str, Any], data: DataHashes, folder: Path) -> float:
    """Make ready what an earlier start has left in `folder`, or in `cfg.resume`; its seconds.

    Settings that would change the result are refused.
    """
    remove_leftovers(folder)
    run, found = folder, Checkpoints(folder / CHECKPOINTS, 1, verify=False)
    if foreign := bool(cfg.resume and not found.step):
        run = Path(str(cfg.resume))
        found = unfinished(run)
    if found.step and (run / records.STARTED).exists():
        record = records.read_record(run / records.STARTED)
        before = upgrade_record(record, cfg, data)
        if foreign:
            before |= limits_of_validation(record.settings)
        refuse_changes(run, before, settings, found.step, cfg.trainer.resume_exact)
    if foreign:
        with locked(run):
            adopt(run, folder)
    return float(found.index["meta"]["elapsed"]) if found.step else 0.0


def train_run(cfg: TrainConfig, sweep: bool = False, arguments: Sequence[str] = ()) -> RunRecord:
    """Train and test one run, or find it finished. Returns its record; its folder is printed.

    `arguments` are those of the command line, for the command that is printed to try next.
    """
    processes.check(cfg.trainer.devices, sweep)
    if processes.started().by == "torchrun":
        end_with_parent()
    with processes.first_speaks():
        return _train_run(cfg, sweep, arguments)


def _train_run(cfg: TrainConfig, sweep: bool, arguments: Sequence[str]) -> RunRecord:
    console = TextConsole()
    cfg = resolve_settings(cfg, sweep, console)
    if cfg.control == "matched":
        cfg = match(cfg, console)
    data = hash_data(cfg, features_to_prepare(cfg))
    settings = identity_settings(cfg, data.training)
    folder = find_folder(cfg, settings, data)
    request = Request(dataclasses.asdict(cfg.decoding), data.tests, data.training)
    current.request = request
    make_folder(folder.parent)
    if processes.started().rank and not (folder / FINISHED).exists():
        _help(cfg, folder)
        sys.exit()
    with signals.handled(), locked(folder, wait=sweep):
        if (folder / FINISHED).exists():
            record = _complete(cfg, data, request, folder)
            current.finished(folder, trained=False)
            say(f"finished before: {folder}")
        else:
            with refusing_deleted(folder):
                record = _train(cfg, settings, data, folder, sweep)
            record = records.select_results(record, request)
    if not sweep:
        console.print(summarize_run(record))
        following = "none,concat,add,average,gate" if cfg.features else "concat"
        say(f"written to {folder}")
        if cfg.control not in CONTROLS:
            say(f"translate with it: {shell_command('translate', f'run={folder}', 'input=FILE')}")
        same = [a for a in drop_settings(arguments, REPLACED) if a != "features=[]"]
        sweep_settings = "-m", *same, f"combiner={following}", "seed=1,2,3"
        say(f"try next: {shell_command('train', *sweep_settings)}")
    return record


def _complete(cfg: TrainConfig, data: DataHashes, request: Request, folder: Path) -> RunRecord:
    """The finished run in a folder, with all results that are asked for, as `request` sees it."""
    try:
        record = records.read_record(folder / FINISHED)
    except UserError as error:
        raise UserError(f"{error} after deleting {folder}") from None
    if not processes.started().rank and not is_earlier(record.settings):
        remove_tree(folder / CHECKPOINTS)  # of a start that was killed after its result
    if is_earlier(record.settings) and not record.test_hashes:
        then = earlier_data(record, cfg, data)
        hashes = then.tests if then else {}
        record.test_hashes = {name: hashes[name] for name in record.tests if name in hashes}
    if processes.started().rank:  # the first adds what is missing
        return record
    add_results(cfg, record, folder, request)
    selected = records.select_results(record, request)
    lacking = cfg.data.readings and any(s.reading is None for s in selected.scores.values())
    if lacking and add_readings(cfg, selected, folder):  # to the scores, which are the record's
        record.config["data"]["readings"] = True
        records.write_record(folder, record)
        say(f"{folder}: reading accuracy added")
    return selected


def add_readings(cfg: TrainConfig, selected: RunRecord, folder: Path) -> bool:
    """Add reading accuracy to scores that lack it: `data.readings` makes no other run.

    False where the translations are gone.
    """
    if gone := [name for name in selected.files.values() if not (folder / name).exists()]:
        say(f"{folder}: without reading accuracy, for {', '.join(gone)} is gone")
        return False
    prepared = prepare_run(cfg, say)
    check_sums(folder, only=selected.files.values())
    for name, split in {"dev": prepared.dev, **prepared.tests}.items():
        hypotheses = read_lines(records.file_of_run(folder, selected.files[name]))
        selected.scores[name].reading = score_readings(cfg, split, hypotheses)
    return True


def _help(cfg: TrainConfig, folder: Path) -> None:
    """Take part in the training of the first of the processes that torchrun or srun has started."""
    with signals.handled():
        fabric, prepared = make_fabric(cfg), prepare_run(cfg)
        train(fabric, cfg, folder, (prepared, untrained(cfg, prepared)[0]))


def _train(
    cfg: TrainConfig, settings: dict[str, Any], data: DataHashes, folder: Path, sweep: bool
) -> RunRecord:
    console, begun = TextConsole(), time.perf_counter()
    provenance.restart_peak_memory()
    refuse_links(folder, *(folder / name for name in (CHECKPOINTS, "encoder", ANNOTATOR)))
    before = continued(cfg, settings, data, folder)
    (folder / SUMS).unlink(missing_ok=True)  # of a start that had nearly finished
    settings = earlier_record(folder) or settings
    fabric = make_fabric(cfg)
    prepared = prepare_run(cfg, lambda phase: console.print(phase, style="dim"))
    for note in prepared.notes:
        say(note)
    if not sweep or prepared.fingerprint not in current.described:
        console.print(prepared.report)
        current.described.add(prepared.fingerprint)
    keep(cfg, prepared, folder)
    model, notes = untrained(cfg, prepared)
    for note in notes:
        say(note)
    method = method_name(cfg.combiner._target_)
    if not sweep and cfg.control == "none":
        for line in advice(prepared.report.features, model.source.combiner.widths, method):
            say(line)
    if not sweep and cfg.data.name == OWN_FILES:
        for line in advise_on_size(prepared.report, cfg.subword, cfg.trainer):
            say(line)
    record = RunRecord(
        method=method,
        features=list(cfg.features),
        seed=cfg.seed,
        data=cfg.data.name,
        hash=hash_json(settings),
        settings=settings,
        config=dataclasses.asdict(cfg),
        data_hashes={
            "prepared": prepared.fingerprint,
            "training": data.training,
            "earlier": data.earlier[0],
        },
        test_hashes=data.tests,
        data_report=dataclasses.asdict(prepared.report),
        code=provenance.code_revision(),
        libraries=provenance.package_versions(),
        machine=provenance.describe_machine(),
        parameters=parameter_counts(model),
        text=RULES,
    )
    records.write_record(folder, record, finished=False)
    make_folder(folder / CHECKPOINTS)
    sums = hash_files(folder, (CONFIG, STARTED, "encoder/*", f"{ANNOTATOR}/**/*"))
    current.started(folder)
    widths = arithmetic(model.source.combiner)
    console.print(f"{record.method}: {widths}; {record.parameters['total']:,} parameters")
    fitted = train(fabric, cfg, folder, (prepared, model))
    at, found = fitted.at, fitted.tested
    steps = restore_chosen(cfg, folder, model.eval())
    tensors = checkpoints.weights(model)
    write_atomically(folder / WEIGHTS, checkpoints.packed(tensors))
    for name, split in {"dev": prepared.dev, **prepared.tests}.items():
        record.tests[name] = evaluate_split(cfg, found[name], prepared.target, split, folder, name)
        record.files[name] = f"{name}.hyp"
        record.counts[name] = counts_file(name)
    record.dev = record.tests.pop("dev")
    record.parts = part_use(model, prepared.dev, prepared.encoder.name_values(with_words=False))
    record.updates, record.skipped = at.step, at.skipped
    record.selected_step = at.best_step
    record.selected = f"{cfg.trainer.select} of updates {', '.join(map(str, steps))}"
    record.curve = [CurvePoint(int(p["step"]), p["loss"], p["bleu"]) for p in at.curve]
    record.train_seconds = at.elapsed
    record.seconds = before + time.perf_counter() - begun
    record.tokens_per_second = at.tokens / at.seconds
    record.peak_memory_mib = max(fitted.peak, provenance.peak_memory_mib())
    names = [name for kind in (record.files, record.counts) for name in kind.values()]
    sums |= hash_files(folder, (WEIGHTS, *names, "*.nbest.hyp"))
    write_sums(folder, sums)
    check_sums(folder)  # also what was written when the training started
    records.write_record(folder, record)  # last: from now on the run counts as finished
    current.finished(folder)
    remove_tree(folder / CHECKPOINTS)
    return record
