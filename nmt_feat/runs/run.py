"""A run from its settings to its result: found finished, or trained, tested and recorded."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nmt_feat.base.checksums import SUMS, check_sums, hash_files, hash_json, write_sums
from nmt_feat.base.files import (
    copy_whole,
    make_folder,
    refuse_links,
    remove_leftovers,
    remove_tree,
    write_atomically,
)
from nmt_feat.base.lifetime import end_with_parent
from nmt_feat.base.terminal import TextConsole, say
from nmt_feat.config.identity import is_earlier, limits_of_validation, name_run_method
from nmt_feat.config.schema import TrainConfig
from nmt_feat.data.controls import hash_run_data, prepare_run
from nmt_feat.data.identity import DataHashes
from nmt_feat.data.prepare import Prepared
from nmt_feat.errors import UserError
from nmt_feat.evaluation.combiner_diagnostics import measure_parts
from nmt_feat.evaluation.counts import counts_file
from nmt_feat.evaluation.test_sets import evaluate_split, score_readings
from nmt_feat.model.translation_model import TranslationModel
from nmt_feat.runs import processes
from nmt_feat.runs.additions import add_metrics, add_results, prepare_again
from nmt_feat.runs.advice import advise_on_corpus, advise_on_run
from nmt_feat.runs.continuing import find_unfinished, refuse_changes
from nmt_feat.runs.model_card import write_card
from nmt_feat.runs.processes import make_fabric
from nmt_feat.runs.setup.artifacts import ANNOTATOR, CONFIG, GLOSSARY, WEIGHTS, save_for_translation
from nmt_feat.runs.setup.build_model import format_widths
from nmt_feat.runs.setup.identity import identity_settings
from nmt_feat.runs.setup.resolve import resolve_settings
from nmt_feat.runs.setup.starting_model import (
    StartingModel,
    build_untrained,
    count_parameters,
    match_parameters,
)
from nmt_feat.runs.signals import signals
from nmt_feat.runs.stored import provenance
from nmt_feat.runs.stored.folders import earlier_data, find_folder, upgrade_record
from nmt_feat.runs.stored.locks import lock_folder
from nmt_feat.runs.stored.records import (
    FINISHED,
    STARTED,
    CurvePoint,
    JobState,
    Request,
    RunRecord,
    file_of_run,
    make_request,
    read_record,
    select_results,
    write_record,
)
from nmt_feat.runs.training_processes import (
    TrainingResult,
    read_earlier_settings,
    restore_chosen_weights,
    train_to_end,
)
from nmt_feat.text.files import read_lines
from nmt_feat.text.normalization import RULES
from nmt_feat.training.checkpoints import (
    AGAIN,
    CHECKPOINTS,
    Checkpoints,
    model_tensors,
    to_safetensors,
)


@dataclass
class FinishedRun:
    """A run with its result."""

    cfg: TrainConfig
    """Its resolved settings."""
    record: RunRecord
    """Its record, with the results that the settings ask for."""
    folder: Path


def run_training(
    cfg: TrainConfig, sweep: bool = False, state: JobState | None = None
) -> FinishedRun:
    """Train and test one run, or find it finished.

    Args:
        cfg: the settings, as composed.
        sweep: whether the run is a job of a sweep: it prints less, and waits for another process.
        state: gets the run's folder, and whether the run was trained now.
    """
    processes.check_devices(cfg.trainer.devices, sweep)
    if processes.find_launcher().by == "torchrun":
        end_with_parent()
    with processes.silence_all_but_first():
        return find_or_train(cfg, sweep, state or JobState())


def find_or_train(cfg: TrainConfig, sweep: bool, state: JobState) -> FinishedRun:
    """The run that these settings determine, trained if its folder has no result."""
    console = TextConsole()
    cfg = resolve_settings(cfg, sweep, console)
    if cfg.control == "matched":
        cfg = match_parameters(cfg, console)
    data = hash_run_data(cfg)
    settings = identity_settings(cfg, data.training)
    folder = find_folder(cfg, settings, data)
    request = make_request(cfg, data)
    state.request = request
    make_folder(folder.parent)
    if processes.find_launcher().rank and not (folder / FINISHED).exists():
        join_training(cfg, folder)
        sys.exit()
    with signals.handled(), lock_folder(folder, wait=sweep):
        if (folder / FINISHED).exists():
            record = complete_finished_run(cfg, data, request, folder)
            state.folder, state.trained = folder, False
            say(f"finished before: {folder}")
        else:
            with explain_deleted_files(folder):
                record = train_new_run(cfg, settings, data, folder, sweep, state)
            record = select_results(record, request)
    return FinishedRun(cfg, record, folder)


@contextlib.contextmanager
def explain_deleted_files(folder: Path) -> Iterator[None]:
    """Turn the loss of a run's folder or files while it trains into a `UserError`."""
    try:
        yield
    except FileNotFoundError as error:
        if error.filename is None or folder not in Path(error.filename).parents:
            raise
        raise UserError(f"{error.filename}: was deleted while the run trained; {AGAIN}") from error


def prepare_resumption(
    cfg: TrainConfig, settings: dict[str, Any], data: DataHashes, folder: Path
) -> float:
    """Prepare to continue from the checkpoints of an earlier start, if there are any.

    They are in `folder`, or in that of another run, `cfg.resume`, from which they are copied.
    Settings that would change the result are refused.

    Returns:
        The seconds that the earlier start took.
    """
    remove_leftovers(folder)
    run, checkpoint = folder, Checkpoints(folder / CHECKPOINTS, 1, verify=False)
    resumes_other_run = bool(cfg.resume and not checkpoint.step)
    if resumes_other_run:
        run = Path(str(cfg.resume))
        checkpoint = find_unfinished(run)
    if checkpoint.step and (run / STARTED).exists():
        record = read_record(run / STARTED)
        before = upgrade_record(record, cfg, data)
        if resumes_other_run:  # its validations may have had others than this run's
            before |= limits_of_validation(record.settings)
        refuse_changes(run, before, settings, checkpoint.step, cfg.trainer.resume_exact)
    if resumes_other_run:
        with lock_folder(run):
            make_folder(folder)
            copy_whole(run / CHECKPOINTS, folder / CHECKPOINTS)
    return checkpoint.newest.meta.elapsed if checkpoint.newest else 0.0


def complete_finished_run(
    cfg: TrainConfig, data: DataHashes, request: Request, folder: Path
) -> RunRecord:
    """The record of the finished run in a folder, after adding the results that are missing.

    The record returned has the results of `request` alone.
    """
    try:
        record = read_record(folder / FINISHED)
    except UserError as error:
        raise UserError(f"{error} after deleting {folder}") from None
    is_first = not processes.find_launcher().rank
    if is_first and not is_earlier(record.settings):
        remove_tree(folder / CHECKPOINTS)  # of a start that was killed after its result
    if is_earlier(record.settings) and not record.test_hashes:
        earlier = earlier_data(record, cfg, data)
        hashes = earlier.tests if earlier else {}
        record.test_hashes = {name: hashes[name] for name in record.tests if name in hashes}
    if not is_first:  # the first process adds what is missing
        return record
    add_results(cfg, record, folder, request)
    if add_labels(cfg, record):
        write_record(folder, record)
    selected = select_results(record, request)
    add_metrics(cfg, record, selected, folder)
    write_card(folder, cfg, record)
    lacks_readings = cfg.data.readings and any(
        scores.reading is None for scores in selected.scores.values()
    )
    # The scores of `selected` are objects of `record`: what is added to them is written with it.
    if lacks_readings and add_readings(cfg, selected, folder):
        record.config["data"]["readings"] = True
        write_record(folder, record)
        say(f"{folder}: reading accuracy added")
    return selected


def add_labels(cfg: TrainConfig, record: RunRecord) -> bool:
    """Add name, licence and tags to a finished run's record; whether that changed it."""
    before = dict(record.config)
    for name in ("name", "license"):
        if (label := getattr(cfg, name)) is not None:
            record.config[name] = label
    if cfg.tags:  # added to the earlier ones, by which somebody may choose the run
        record.config["tags"] = [*dict.fromkeys([*(before.get("tags") or []), *cfg.tags])]
    return record.config != before


def add_readings(cfg: TrainConfig, selected: RunRecord, folder: Path) -> bool:
    """Add reading accuracy to scores that lack it: `data.readings` is no part of a run's identity.

    False if the translations are missing.
    """
    if missing := [name for name in selected.files.values() if not (folder / name).exists()]:
        say(f"{folder}: without reading accuracy, because {', '.join(missing)} is missing")
        return False
    prepared = prepare_again(cfg)
    check_sums(folder, only=selected.files.values())
    for name, split in prepared.tested_splits.items():
        hypotheses = read_lines(file_of_run(folder, selected.files[name]))
        selected.scores[name].reading = score_readings(cfg, split, hypotheses)
    return True


def join_training(cfg: TrainConfig, folder: Path) -> None:
    """Take part in a training, in a process of torchrun or srun that is not the first."""
    with signals.handled():
        fabric, prepared = make_fabric(cfg), prepare_run(cfg)
        train_to_end(fabric, cfg, folder, (prepared, build_untrained(cfg, prepared)))


def train_new_run(
    cfg: TrainConfig,
    settings: dict[str, Any],
    data: DataHashes,
    folder: Path,
    sweep: bool,
    state: JobState,
) -> RunRecord:
    """Train a run, from its start or from a checkpoint, test it, write its record.

    `settings` are those that determine the result.
    """
    console, start_time = TextConsole(), time.perf_counter()
    provenance.restart_peak_memory()
    refuse_links(folder, *(folder / name for name in (CHECKPOINTS, "encoder", ANNOTATOR)))
    seconds_before = prepare_resumption(cfg, settings, data, folder)
    (folder / SUMS).unlink(missing_ok=True)  # of a start that was killed just before its result
    settings = read_earlier_settings(folder) or settings
    fabric = make_fabric(cfg)
    prepared = prepare_run(cfg, lambda phase: console.print(phase, style="dim"))
    print_notes(prepared.notes)
    if not sweep or prepared.fingerprint not in state.described:
        console.print(prepared.report)
        state.described.add(prepared.fingerprint)
    save_for_translation(cfg, prepared, folder)
    start = build_untrained(cfg, prepared)
    print_notes(start.notes)
    combiner = start.model.feature_embedding.combiner
    print_advice(cfg, prepared, combiner.widths, sweep, state)
    record = begin_record(cfg, settings, data, prepared, start)
    write_record(folder, record)
    make_folder(folder / CHECKPOINTS)
    sums = hash_files(folder, (CONFIG, STARTED, GLOSSARY, "encoder/*", f"{ANNOTATOR}/**/*"))
    state.folder, state.trained = folder, False
    console.print(
        f"{record.method}: {format_widths(combiner)}; {record.parameters['total']:,} parameters"
    )
    result = train_to_end(fabric, cfg, folder, (prepared, start))
    record_results(cfg, record, result, (prepared, start.model), folder)
    record.seconds = seconds_before + time.perf_counter() - start_time
    finish_record(folder, record, sums)
    write_card(folder, cfg, record)
    state.trained = True
    remove_tree(folder / CHECKPOINTS)
    return record


def print_notes(notes: Sequence[str]) -> None:
    """Print notes for the user, one in a line."""
    for note in notes:
        say(note)


def print_advice(
    cfg: TrainConfig, prepared: Prepared, widths: Mapping[str, int], sweep: bool, state: JobState
) -> None:
    """Print advice on the run, and on its corpus unless an earlier job of the sweep has printed it.

    `widths`: of the combiner's parts.
    """
    if not sweep and cfg.control == "none":
        print_notes(advise_on_run(cfg, prepared.report, widths))
    advice = advise_on_corpus(cfg, prepared.report)
    print_notes([line for line in advice if not sweep or line not in state.described])
    state.described.update(advice)


def begin_record(
    cfg: TrainConfig,
    settings: dict[str, Any],
    data: DataHashes,
    prepared: Prepared,
    start: StartingModel,
) -> RunRecord:
    """The record of a run that has not been trained yet."""
    return RunRecord(
        method=name_run_method(cfg),
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
        **provenance.describe_origin(),
        parameters=count_parameters(start.model),
        parent=start.inheritance.as_record() if start.inheritance else {},
        text=RULES,
    )


def record_results(
    cfg: TrainConfig,
    record: RunRecord,
    result: TrainingResult,
    trained: tuple[Prepared, TranslationModel],
    folder: Path,
) -> None:
    """Write weights and translations of a trained model, and all results into the record."""
    prepared, model = trained
    save_weights(cfg, record, model, folder)
    evaluate_splits(cfg, record, result, prepared, folder)
    if model.feature_embedding is model.source:  # else a method has the features
        values = prepared.encoder.name_values(with_words=False)
        record.parts = measure_parts(model, prepared.dev, values)
    record_training(record, result)


def save_weights(
    cfg: TrainConfig, record: RunRecord, model: TranslationModel, folder: Path
) -> None:
    """Load the weights to test into the model and write them; the record says which they are."""
    steps = restore_chosen_weights(cfg, folder, model.eval())
    write_atomically(folder / WEIGHTS, to_safetensors(model_tensors(model)))
    record.selected = f"{cfg.trainer.select} of updates {', '.join(map(str, steps))}"


def evaluate_splits(
    cfg: TrainConfig, record: RunRecord, result: TrainingResult, prepared: Prepared, folder: Path
) -> None:
    """Write the translations of dev and the test sets, and their scores into the record."""
    for name, split in prepared.tested_splits.items():
        record.tests[name] = evaluate_split(
            cfg, result.decoded[name], prepared.target, split, folder, name
        )
        record.files[name] = f"{name}.hyp"
        record.counts[name] = counts_file(name)
    record.dev = record.tests.pop("dev")


def record_training(record: RunRecord, result: TrainingResult) -> None:
    """Add the course of the training to the record."""
    state = result.state
    record.updates, record.skipped = state.step, state.skipped
    record.selected_step = state.best_step
    record.curve = [CurvePoint(int(p["step"]), p["loss"], p["bleu"]) for p in state.curve]
    record.train_seconds = state.elapsed
    record.tokens_per_second = state.tokens / state.seconds
    record.peak_memory_mib = max(result.peak, provenance.peak_memory_mib())


def finish_record(folder: Path, record: RunRecord, sums: dict[str, list[str]]) -> None:
    """Write the checksums of the folder's files, then the record, with which the run is finished.

    `sums` are of the files that were written when the training started; these are checked again.
    """
    names = [name for kind in (record.files, record.counts) for name in kind.values()]
    sums |= hash_files(folder, (WEIGHTS, *names, "*.nbest.hyp"))
    write_sums(folder, sums)
    check_sums(folder)
    write_record(folder, record)
