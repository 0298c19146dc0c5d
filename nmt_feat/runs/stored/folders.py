"""The folder of a run: named by its settings, or by an earlier version."""

from __future__ import annotations

import contextlib
import copy
import functools
import re
from pathlib import Path
from typing import Any

from nmt_feat.base.checksums import hash_json
from nmt_feat.base.typed_json import Mismatch, convert_json
from nmt_feat.config.data_schema import SplitConfig
from nmt_feat.config.identity import earlier_settings, folder_name, is_earlier, upgrade_settings
from nmt_feat.config.schema import TrainConfig
from nmt_feat.data.controls import hash_run_data
from nmt_feat.data.identity import DataHashes
from nmt_feat.errors import UserError
from nmt_feat.runs.stored.records import RunRecord, has_record, locate_record, read_run


def find_folder(cfg: TrainConfig, settings: dict[str, Any], data: DataHashes) -> Path:
    """The folder of the run with these settings, of whatever version; it need not exist yet.

    Args:
        cfg: the settings as they take effect.
        settings: those that determine the trained model.
        data: the hashes of the run's data.
    """
    runs, name = Path(cfg.paths.runs), folder_name(cfg, settings)
    if has_record(runs / name):
        return runs / name
    for folder in sorted(runs.glob(f"*-s{cfg.seed}-{name[-8:]}")):
        with contextlib.suppress(UserError):  # a damaged record
            if has_record(folder) and read_run(folder).hash == hash_json(settings):
                return folder  # the combiner had another name
    for data_hash in data.earlier:
        folder = runs / folder_name(cfg, earlier_settings(settings, cfg, data_hash))
        if has_record(folder):
            return folder
    # A run of an earlier identity with other test sets or another search: its hash differs.
    alike = re.compile(re.escape(name[:-8]) + "[0-9a-f]{8}")
    for folder in sorted(runs.iterdir()) if runs.is_dir() else ():
        if not alike.fullmatch(folder.name) or not has_record(folder):
            continue
        record = _read_earlier(folder, locate_record(folder).stat().st_mtime_ns)
        if (
            record
            and _without_data(upgrade_settings(record.settings)) == _without_data(settings)
            and has_same_data(record, cfg, data)
        ):
            return folder
    return runs / name


def _without_data(settings: dict[str, Any]) -> str:
    """A hash of settings without the data's hash, which takes longer to compare."""
    return hash_json(settings | {"data": settings["data"] | {"hash": ""}})


def upgrade_record(record: RunRecord, cfg: TrainConfig, data: DataHashes) -> dict[str, Any]:
    """A record's settings in today's form; also the data's hash, if the data is that of `cfg`.

    Args:
        record: the record.
        cfg: the settings of the run that it is compared with.
        data: the hashes of that run's data.
    """
    upgraded = upgrade_settings(record.settings)
    if is_earlier(record.settings) and has_same_data(record, cfg, data):
        upgraded["data"]["hash"] = data.training
    return upgraded


def has_same_data(record: RunRecord, cfg: TrainConfig, data: DataHashes) -> bool:
    """Whether a record of an earlier identity has the same train and dev as `cfg`.

    If this version has continued or tested the run, the record has their hash (`training`). Its
    test sets may then differ from those that its first hash was made of.
    """
    return (
        record.data_hashes.get("training") == data.training
        or earlier_data(record, cfg, data) is not None
    )


def earlier_data(record: RunRecord, cfg: TrainConfig, data: DataHashes) -> DataHashes | None:
    """The hashes of the data of a record of an earlier identity; None if `cfg` has other data.

    The hash in such a record covers the test sets as well. So it is compared with the hash of
    today's train and dev together with the record's test sets.
    """
    data_hash = record.settings["data"]["hash"]
    if data_hash in data.earlier:
        return data
    tests = record.config.get("data", {}).get("tests", {})
    if record.finished:  # an optional set that was missing then may exist now
        tests = {name: files for name, files in tests.items() if name in record.tests}
    earlier_cfg = copy.deepcopy(cfg)
    try:
        earlier_cfg.data.tests = {
            name: convert_json(files, SplitConfig) for name, files in tests.items()
        }
        hashes = hash_run_data(earlier_cfg)
    except (Mismatch, UserError):
        return None
    return hashes if data_hash in hashes.earlier else None


@functools.lru_cache(maxsize=10_000)
def _read_earlier(folder: Path, changed: int) -> RunRecord | None:
    """The record of a folder, if it is of an earlier identity; cached until the file changes."""
    try:
        record = read_run(folder)
        return record if is_earlier(record.settings) else None
    except UserError:  # a damaged record
        return None
