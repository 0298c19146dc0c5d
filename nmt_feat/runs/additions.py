"""Results that are added to a finished run: of further test sets, another search, other metrics.

They equal those that the run would have had if it had been started with these settings.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from nmt_feat.base.checksums import check_sums
from nmt_feat.base.terminal import say
from nmt_feat.config.schema import TrainConfig
from nmt_feat.data.controls import prepare_run
from nmt_feat.data.prepare import Prepared
from nmt_feat.decoding.ensemble import Ensemble
from nmt_feat.decoding.search import Seq2Seq
from nmt_feat.evaluation.counts import counts_file, read_counts, write_counts
from nmt_feat.evaluation.languages import choose_scoring
from nmt_feat.evaluation.metric import add_scores, build_metrics, list_missing
from nmt_feat.evaluation.test_sets import decode_split, evaluate_split
from nmt_feat.model.translation_model import TranslationModel
from nmt_feat.runs.processes import make_single_fabric, set_up_torch, share_work
from nmt_feat.runs.setup.artifacts import WEIGHTS, build_run_model
from nmt_feat.runs.setup.starting_model import refuse_long_pairs
from nmt_feat.runs.signals import signals
from nmt_feat.runs.stored.records import (
    Request,
    RunRecord,
    SetResult,
    file_of_run,
    find_result,
    search_changes,
    write_record,
)
from nmt_feat.text.files import read_lines
from nmt_feat.training.checkpoints import read_tensors, restore_weights

PREPARED_AGAIN = (
    "the cache lacks this data, so it is prepared again, as for the run: the same text and "
    "settings give the same pieces"
)
"""A message before data is prepared for a finished run. Without it, a user who reads of the
training of subwords may think that they no longer fit the weights."""


def prepare_again(cfg: TrainConfig) -> Prepared:
    """The data of a finished run; before it is prepared again, `PREPARED_AGAIN` is printed."""
    introduction = [PREPARED_AGAIN]

    def report_progress(message: str) -> None:
        if introduction:
            say(introduction.pop())
        say(message)

    return prepare_run(cfg, report_progress)


def missing_sets(record: RunRecord, request: Request) -> list[str]:
    """Those of dev and the requested test sets of which the run has no results."""
    # Scores of dev make a record finished. An ensemble gets them last: it may be interrupted.
    names = ("dev", *request.tests) if record.finished else (*request.tests, "dev")
    return [name for name in names if find_result(record, name, request) is None]


def add_results(
    cfg: TrainConfig,
    record: RunRecord,
    folder: Path,
    request: Request,
    members: Sequence[tuple[TrainConfig, Path]] = (),
) -> None:
    """Translate and score the sets that are missing, with the stored weights; write the record.

    Args:
        cfg: the resolved settings, with the requested test sets and search.
        record: the run's record; each result is added to it.
        folder: the run's folder.
        request: the requested results.
        members: settings and folder of each run of an ensemble, which translate together.
    """
    names = missing_sets(record, request)
    if not names:
        return
    search = ""
    if changes := search_changes(record, request):
        search = f" by {', '.join(f'decoding.{n}={v}' for n, v in changes.items())}"
    say(f"{folder}: translating {', '.join(names)}{search}, with the trained weights")
    check_sums(folder)
    fabric = make_single_fabric(cfg)  # a missing device is an error before data is prepared
    prepared = prepare_again(cfg)
    set_up_torch(cfg)
    models = [_load_model(*run, prepared, fabric.device) for run in members or [(cfg, folder)]]
    for one in models:
        refuse_long_pairs(one, prepared)
    model: Seq2Seq[Any] = Ensemble(models) if members else models[0]
    splits = prepared.tested_splits
    for name in names:
        with signals.deferred():
            decoded = decode_split(
                cfg, model, splits[name], fabric.device, partial(share_work, fabric)
            )
        if decoded is None:
            raise signals.interruption()
        stem = _choose_stem(record, name, request)
        scores = evaluate_split(cfg, decoded, prepared.target, splits[name], folder, stem)
        data = request.tests.get(name, "")
        result = SetResult(name, data, request.decoding, scores, f"{stem}.hyp", counts_file(stem))
        _add_result(record, result, is_main=stem == name)
        # The hash of an earlier identity covers test sets, so it no longer tells the training data.
        record.data_hashes.setdefault("training", request.training)
        tests = record.config["data"].setdefault("tests", {})
        if name != "dev" and name not in tests:
            tests[name] = dataclasses.asdict(cfg.data.tests[name])
        write_record(folder, record)


def _load_model(
    cfg: TrainConfig, folder: Path, prepared: Prepared, device: torch.device
) -> TranslationModel:
    """A run's trained model."""
    check_sums(folder, only=[WEIGHTS])
    model = build_run_model(cfg, prepared.encoder, prepared.target)
    weights = folder / WEIGHTS
    restore_weights(model, read_tensors(weights), str(weights))
    return model.to(device).eval()


def add_metrics(cfg: TrainConfig, record: RunRecord, selected: RunRecord, folder: Path) -> None:
    """Score the stored translations by the metrics that they lack; write counts and record.

    Args:
        cfg: the resolved settings, with the requested metrics.
        record: the run's record.
        selected: the record with the requested results alone; the scores are the same objects.
        folder: the run's folder.
    """
    metrics = build_metrics(cfg.metrics, choose_scoring(cfg.data))
    metrics_of = {name: list_missing(metrics, scores) for name, scores in selected.scores.items()}
    metrics_of = {name: missing for name, missing in metrics_of.items() if missing}
    files = [file for name in metrics_of for file in (selected.files[name], selected.counts[name])]
    if missing_files := [file for file in files if not (folder / file).exists()]:
        say(f"{folder}: without further metrics, because {', '.join(missing_files)} is missing")
    if not metrics_of or missing_files:
        return
    check_sums(folder, only=files)
    names = dict.fromkeys(m.name for missing in metrics_of.values() for m in missing.values())
    say(f"{folder}: scoring {', '.join(metrics_of)} by {', '.join(names)}")
    prepared = prepare_again(cfg)
    splits = prepared.tested_splits
    for name, missing in metrics_of.items():
        hypotheses = read_lines(file_of_run(folder, selected.files[name]))
        counts_path, split = file_of_run(folder, selected.counts[name]), splits[name]
        counts, _ = read_counts(counts_path)
        scores, references = selected.scores[name], split.target_texts
        counts |= add_scores(missing, scores, split.source_texts, hypotheses, references)
        write_counts(counts_path, counts, references)
    write_record(folder, record)


def _add_result(record: RunRecord, result: SetResult, is_main: bool) -> None:
    """Add a result: `is_main` says that it is by the search and the files of the run itself."""
    if not is_main:
        record.further.append(result)
        return
    record.files[result.name], record.counts[result.name] = result.file, result.counts
    if result.name == "dev":  # of an ensemble: that of a run is there from training
        record.dev = result.scores
        return
    record.tests[result.name] = result.scores
    record.test_hashes[result.name] = result.data


def _choose_stem(record: RunRecord, name: str, request: Request) -> str:
    """The beginning of the names of a result's files, different for each result.

    It is the set's name; for another search or other files, what differs stands behind it.
    """
    parts = [f"{setting}{value}" for setting, value in search_changes(record, request).items()]
    if name in record.tests and record.test_hashes.get(name) != request.tests[name]:
        parts.append(request.tests[name][:8])  # of other files
    return f"{name}@{'-'.join(parts)}" if parts else name
