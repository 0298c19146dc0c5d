"""Ensembles as rows of tables: the runs of a row, which differ in the seed alone, together.

An ensemble has a folder beside its runs, with record, translations and counts, without weights.
"""

from __future__ import annotations

import copy
import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from nmt_feat.base.checksums import hash_files, hash_json, read_sums, write_sums
from nmt_feat.base.files import make_folder
from nmt_feat.base.terminal import say
from nmt_feat.config.evaluate_schema import EvaluateConfig
from nmt_feat.config.schema import TrainConfig
from nmt_feat.data.controls import features_to_prepare
from nmt_feat.data.identity import hash_data
from nmt_feat.errors import UserError
from nmt_feat.runs import provenance
from nmt_feat.runs.additions import add_metrics, add_results
from nmt_feat.runs.continuing import flatten_settings
from nmt_feat.runs.ensembles import hash_vocabularies
from nmt_feat.runs.finished_runs import apply_request
from nmt_feat.runs.locks import held
from nmt_feat.runs.records import (
    FINISHED,
    STARTED,
    Member,
    Request,
    RunRecord,
    read_run,
    select_results,
    write_record,
)
from nmt_feat.runs.run import lock_folder
from nmt_feat.runs.signals import signals

DRAWN_BY_SEED = ("shuffled", "resampled", "by_type")
"""Controls whose runs read other features with each seed."""
SEED = -1
"""In the place of a seed: an ensemble has those of its members."""
Group = dict[Path, RunRecord]
"""The runs of an ensemble by folder, in the order of their seeds."""


def group_runs(run: str, folders: Sequence[Path]) -> list[Group]:
    """The runs of each row that has two or more here; the others are named, with the reason.

    Raises:
        UserError: no row has two, or the runs of a row cannot translate together.
    """
    rows: dict[str, Group] = {}
    for folder in folders:
        record = read_run(folder)
        control = record.settings.get("control")
        if control in DRAWN_BY_SEED:
            say(f"{folder}: in no ensemble, for control={control} draws other features per seed")
            continue
        row = rows.setdefault(hash_json(_shared_settings(record)), {})
        if all(member.seed != record.seed for member in row.values()):  # a copy counts once
            row[folder] = record
    groups = []
    for row in rows.values():
        if len(row) > 1:
            groups.append(dict(sorted(row.items(), key=lambda item: item[1].seed)))
            _refuse_unlike_runs(groups[-1])
    if not groups:
        raise UserError(_explain_lack(run, [next(iter(row.items())) for row in rows.values()]))
    for row in rows.values():
        if len(row) == 1:
            say(f"{next(iter(row))}: in no ensemble, for no other seed of it is here")
    return groups


def _shared_settings(record: RunRecord) -> dict[str, Any]:
    """What the runs of a row share: all that determines them but the seed."""
    return {name: value for name, value in record.settings.items() if name != "seed"}


def _refuse_unlike_runs(group: Group) -> None:
    """Refuse runs of a row with other pieces, values of features, test sets or search."""
    first, *others = group
    advice = "test each of them alone, or name runs that are alike"
    settings = {folder: apply_request(folder, EvaluateConfig()) for folder in group}
    for folder in others:
        if hash_vocabularies(folder) != hash_vocabularies(first):
            raise UserError(
                f"{folder}: has other pieces or values of features than {first}, so they cannot "
                f"translate together; {advice}"
            )
        one, two = (", ".join(settings[run].data.tests) for run in (folder, first))
        if one != two:
            raise UserError(f"{folder}: has other test sets ({one}) than {first} ({two}); {advice}")
        test_hashes = [group[run].test_hashes for run in (folder, first)]
        for test in settings[folder].data.tests:
            if len({hashes[test] for hashes in test_hashes if test in hashes}) > 1:
                raise UserError(f"{folder}: has another {test} than {first}; {advice}")
        if settings[folder].decoding != settings[first].decoding:
            raise UserError(f"{folder}: was tested by another search than {first}; {advice}")


def _explain_lack(run: str, rows: Sequence[tuple[Path, RunRecord]]) -> str:
    """Why there is no ensemble, where no row has two runs."""
    more = "give several seeds of a row, such as 'run=runs/gate-*'"
    if not rows:
        return f"run={run} ensemble=true: only controls, whose features differ by seed; {more}"
    if len(rows) == 1:
        return f"run={run} ensemble=true: one run is no ensemble; {more}"
    (one, first), (two, second) = rows[:2]
    settings = [flatten_settings(_shared_settings(record)) for record in (first, second)]
    names = sorted(settings[0].keys() | settings[1].keys())
    names = [name for name in names if settings[0].get(name) != settings[1].get(name)]
    listed = ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")
    return (
        f"run={run} ensemble=true: no two of these runs differ in the seed alone ({one.name} and "
        f"{two.name} differ in {listed}); {more}"
    )


def evaluate_ensembles(
    groups: Sequence[Group], asked: EvaluateConfig
) -> Iterator[tuple[RunRecord, Path]]:
    """Test each group as an ensemble, as far as it is not; its record as asked for, its folder.

    One that another process is busy with comes later, so that several processes share the work.
    """
    remaining = [(_name_folder(group), group) for group in groups]
    while remaining:
        item = next((item for item in remaining if not held(item[0])), remaining[0])
        remaining.remove(item)
        folder, group = item
        make_folder(folder.parent)
        with signals.handled(), lock_folder(folder, wait=True):
            record = _evaluate_ensemble(folder, group, asked)
        yield record, folder


def _settings_of(group: Group) -> dict[str, Any]:
    """What determines an ensemble, in the form of a run's settings."""
    first = next(iter(group.values()))
    seeds = "+".join(str(record.seed) for record in group.values())
    return copy.deepcopy(_shared_settings(first)) | {"ensemble": seeds}


def _name_folder(group: Group) -> Path:
    """The folder of an ensemble, beside that of its first run."""
    folder, record = next(iter(group.items()))
    name = folder.name.removesuffix(f"-s{record.seed}-{record.hash[:8]}")
    return folder.with_name(f"{name}-ensemble{len(group)}-{hash_json(_settings_of(group))[:8]}")


def _evaluate_ensemble(folder: Path, group: Group, asked: EvaluateConfig) -> RunRecord:
    """Add the results of the runs' own test sets and search, then those that are asked for."""
    members = [(apply_request(run, asked), run) for run in group]
    cfg = members[0][0]
    has_record = (folder / STARTED).exists() or (folder / FINISHED).exists()
    record = read_run(folder) if has_record else _begin_record(folder, group)
    first = apply_request(next(iter(group)), EvaluateConfig())  # with the runs' own search
    if not record.finished and first.decoding != cfg.decoding:
        first.metrics, first.paths, first.trainer = cfg.metrics, cfg.paths, cfg.trainer
        add_results(first, record, folder, _make_request(first), members)
    request = _make_request(cfg)
    add_results(cfg, record, folder, request, members)
    if not read_sums(folder):
        write_sums(folder, hash_files(folder, ("*.hyp", "*.counts.parquet")))
        write_record(folder, record)  # with its sum
    selected = select_results(record, request)
    add_metrics(cfg, record, selected, folder)
    return selected


def _make_request(cfg: TrainConfig) -> Request:
    data = hash_data(cfg, features_to_prepare(cfg))
    return Request(dataclasses.asdict(cfg.decoding), data.tests, data.training)


def _begin_record(folder: Path, group: Group) -> RunRecord:
    """The record of an ensemble without results: what its runs share, and what they add up to."""
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
        code=provenance.code_revision(),
        libraries=provenance.package_versions(),
        machine=provenance.describe_machine(),
        parameters={n: sum(r.parameters[n] for r in records) for n in first.parameters},
        updates=sum(r.updates for r in records),
        selected=f"the mean probabilities of seeds {', '.join(str(r.seed) for r in records)}",
        train_seconds=sum(r.train_seconds for r in records),
        data_report=first.data_report,
        text=first.text,
        members=members,
    )
    write_record(folder, record, finished=False)
    return record
