"""Ensembles as rows of tables: runs that differ only in the seed translate together.

An ensemble has a folder beside its runs, with record, translations and counts, but no weights.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from nmt_feat.base.checksums import hash_files, hash_json, read_sums, write_sums
from nmt_feat.base.files import make_folder
from nmt_feat.base.terminal import say
from nmt_feat.config.evaluate_schema import EvaluateConfig
from nmt_feat.config.identity import flatten_settings
from nmt_feat.data.controls import hash_run_data
from nmt_feat.errors import UserError
from nmt_feat.runs.additions import add_metrics, add_results
from nmt_feat.runs.finished_runs import apply_request
from nmt_feat.runs.signals import signals
from nmt_feat.runs.stored import provenance
from nmt_feat.runs.stored.locks import lock_folder, take_unlocked_first
from nmt_feat.runs.stored.records import (
    Member,
    RunRecord,
    has_record,
    make_request,
    read_run,
    select_results,
    write_record,
)
from nmt_feat.runs.trained.ensembles import hash_vocabularies

DRAWN_BY_SEED = ("shuffled", "resampled", "by_type")
"""Controls that draw other features with each seed."""
SEED = -1
"""The seed in an ensemble's record, whose members have seeds."""
Group = dict[Path, RunRecord]
"""The runs of an ensemble by folder, in the order of their seeds."""


def group_runs(run: str, folders: Sequence[Path]) -> list[Group]:
    """The runs of each row that has two or more; for other runs, the reason is printed.

    Args:
        run: the setting that names the runs, for errors.
        folders: the folders of finished runs.

    Raises:
        UserError: no row has two runs, or the runs of a row cannot translate together.
    """
    rows: dict[str, Group] = {}
    for folder in folders:
        record = read_run(folder)
        control = record.settings.get("control")
        if control in DRAWN_BY_SEED:
            say(f"{folder}: in no ensemble: control={control} draws other features for each seed")
            continue
        row = rows.setdefault(hash_json(_shared_settings(record)), {})
        if all(member.seed != record.seed for member in row.values()):  # a copy counts once
            row[folder] = record
    groups = [
        dict(sorted(row.items(), key=lambda item: item[1].seed))
        for row in rows.values()
        if len(row) > 1
    ]
    for group in groups:
        _refuse_unlike_runs(group)
    if not groups:
        first_runs = [next(iter(row.items())) for row in rows.values()]
        raise UserError(_explain_missing_rows(run, first_runs))
    for row in rows.values():
        if len(row) == 1:
            say(f"{next(iter(row))}: in no ensemble: there is no other seed of it")
    return groups


def _shared_settings(record: RunRecord) -> dict[str, Any]:
    """The settings that determine a run, without the seed: the runs of a row share them."""
    return {name: value for name, value in record.settings.items() if name != "seed"}


def _refuse_unlike_runs(group: Group) -> None:
    """Refuse runs of a row that differ in pieces, values of features, test sets or search."""
    first, *further = group
    advice = "test each of them alone, or name runs that are alike"
    settings = {folder: apply_request(folder, EvaluateConfig()) for folder in group}
    for folder in further:
        if hash_vocabularies(folder) != hash_vocabularies(first):
            raise UserError(
                f"{folder}: has other pieces or values of features than {first}, so they cannot "
                f"translate together; {advice}"
            )
        tests, first_tests = (", ".join(settings[run].data.tests) for run in (folder, first))
        if tests != first_tests:
            raise UserError(
                f"{folder}: has other test sets ({tests}) than {first} ({first_tests}); {advice}"
            )
        hashes, first_hashes = group[folder].test_hashes, group[first].test_hashes
        # Records of earlier versions have no hashes, so these cannot be compared.
        for test in settings[folder].data.tests:
            has_both = test in hashes and test in first_hashes
            if has_both and hashes[test] != first_hashes[test]:
                raise UserError(f"{folder}: has another {test} than {first}; {advice}")
        if settings[folder].decoding != settings[first].decoding:
            raise UserError(f"{folder}: was tested by another search than {first}; {advice}")


def _explain_missing_rows(run: str, rows: Sequence[tuple[Path, RunRecord]]) -> str:
    """Why no row has two runs, and what to do; `rows`: the first run of each row."""
    advice = "give several seeds of a row, such as 'run=runs/gate-*'"
    if not rows:
        return f"run={run} ensemble=true: only controls, whose features differ by seed; {advice}"
    if len(rows) == 1:
        return f"run={run} ensemble=true: an ensemble needs two runs or more; {advice}"
    (folder, record), (other_folder, other_record) = rows[:2]
    settings = flatten_settings(_shared_settings(record))
    other_settings = flatten_settings(_shared_settings(other_record))
    names = sorted(settings.keys() | other_settings.keys())
    different = [name for name in names if settings.get(name) != other_settings.get(name)]
    listed = ", ".join(different[:3]) + (" ..." if len(different) > 3 else "")
    return (
        f"run={run} ensemble=true: no two of these runs differ only in the seed ({folder.name} "
        f"and {other_folder.name} differ in {listed}); {advice}"
    )


def evaluate_ensembles(
    groups: Sequence[Group], asked: EvaluateConfig
) -> Iterator[tuple[RunRecord, Path]]:
    """Test each group as an ensemble, where results are missing.

    Yields:
        The record with the requested results, and the ensemble's folder.
    """
    groups_by_folder = {_name_folder(group): group for group in groups}
    for folder in take_unlocked_first(groups_by_folder):
        make_folder(folder.parent)
        with signals.handled(), lock_folder(folder, wait=True):
            record = _evaluate_ensemble(folder, groups_by_folder[folder], asked)
        yield record, folder


def _settings_of(group: Group) -> dict[str, Any]:
    """The settings that determine an ensemble: those of its runs, and their seeds."""
    first = next(iter(group.values()))
    seeds = "+".join(str(record.seed) for record in group.values())
    return copy.deepcopy(_shared_settings(first)) | {"ensemble": seeds}


def _name_folder(group: Group) -> Path:
    """The folder of an ensemble, beside that of its first run."""
    folder, record = next(iter(group.items()))
    name = folder.name.removesuffix(f"-s{record.seed}-{record.hash[:8]}")
    return folder.with_name(f"{name}-ensemble{len(group)}-{hash_json(_settings_of(group))[:8]}")


def _evaluate_ensemble(folder: Path, group: Group, asked: EvaluateConfig) -> RunRecord:
    """Add the results by the search of the runs, then those of the request.

    A record is finished only with results by the search of the runs, so these come first.
    """
    members = [(apply_request(run, asked), run) for run in group]
    cfg = members[0][0]
    record = read_run(folder) if has_record(folder) else _begin_record(folder, group)
    as_trained = apply_request(next(iter(group)), EvaluateConfig())
    if not record.finished and as_trained.decoding != cfg.decoding:
        as_trained.metrics, as_trained.paths = cfg.metrics, cfg.paths
        as_trained.trainer = cfg.trainer
        request = make_request(as_trained, hash_run_data(as_trained))
        add_results(as_trained, record, folder, request, members)
    request = make_request(cfg, hash_run_data(cfg))
    add_results(cfg, record, folder, request, members)
    if not read_sums(folder):
        write_sums(folder, hash_files(folder, ("*.hyp", "*.counts.parquet")))
        write_record(folder, record)  # again, to add its checksum to the others
    selected = select_results(record, request)
    add_metrics(cfg, record, selected, folder)
    return selected


def _begin_record(folder: Path, group: Group) -> RunRecord:
    """Write the record of an ensemble without results: what its runs share, or add up to."""
    make_folder(folder)
    records = list(group.values())
    first, settings = records[0], _settings_of(group)
    members = [
        Member(record.seed, record.hash, os.path.relpath(run, folder))
        for run, record in group.items()
    ]
    config = copy.deepcopy(first.config)
    del config["seed"]
    record = RunRecord(
        method=f"{first.method}, ensemble of {len(group)}",
        features=first.features,
        seed=SEED,
        data=first.data,
        hash=hash_json(settings),
        settings=settings,
        config=config,
        data_hashes=dict(first.data_hashes),
        **provenance.describe_origin(),
        parameters={n: sum(r.parameters[n] for r in records) for n in first.parameters},
        updates=sum(r.updates for r in records),
        selected=f"the mean probabilities of seeds {', '.join(str(r.seed) for r in records)}",
        train_seconds=sum(r.train_seconds for r in records),
        data_report=first.data_report,
        text=first.text,
        members=members,
    )
    write_record(folder, record)
    return record
