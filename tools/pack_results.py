"""Packs the runs of an experiment into two files, or unpacks them.

    python tools/pack_results.py pack RUNS FOLDER
    python tools/pack_results.py unpack FOLDER RUNS

`pack` reads the finished runs in or below the folder RUNS. It writes into FOLDER `records.jsonl`,
with the `result.json` of each run and its SHA-256, and `counts.parquet`, with the counts of all
sentences (`nmt_feat/evaluation/packed_runs.py` says what is where). Weights and translations are
not packed. `unpack` writes the folders of these runs into RUNS. Neither writes over a file.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from nmt_feat.errors import UserError, fail
from nmt_feat.evaluation.counts import counts_file, read_counts
from nmt_feat.evaluation.packed_runs import (
    KEY_COLUMNS,
    PACKED_COUNTS,
    PACKED_RECORDS,
    PackedRecord,
    read_packed_counts,
    read_packed_records,
)
from nmt_feat.runs.stored.records import FINISHED, read_record

ROWS = 8000
"""Rows of a group in `counts.parquet`; reading one run skips most groups of others."""


def pack_runs(runs: Path, folder: Path) -> int:
    """Write the two files into `folder`; the number of runs."""
    folders = sorted(path.parent for path in runs.rglob(FINISHED))
    names = [path.name for path in folders]
    if not folders or len(set(names)) < len(names):
        raise UserError(f"{runs}: no {FINISHED} below it, or two folders of one name")
    lines = [json.dumps(dataclasses.asdict(pack_record(path))) + "\n" for path in folders]
    tables = [table for path in folders for table in read_counts_of_run(path)]
    folder.mkdir(parents=True, exist_ok=True)
    refuse_existing(folder / PACKED_RECORDS, folder / PACKED_COUNTS)
    (folder / PACKED_RECORDS).write_text("".join(lines), encoding="utf-8")
    if tables:
        table = pa.concat_tables(tables, promote_options="default")  # metrics may differ
        options = {"compression": "zstd", "compression_level": 19, "row_group_size": ROWS}
        pq.write_table(table, folder / PACKED_COUNTS, **options)
    return len(folders)


def pack_record(folder: Path) -> PackedRecord:
    """The line of a run, after checking its record."""
    read_record(folder / FINISHED)
    content = (folder / FINISHED).read_bytes()
    return PackedRecord(folder.name, hashlib.sha256(content).hexdigest(), content.decode())


def read_counts_of_run(folder: Path) -> Iterator[pa.Table]:
    """The tables of a run's files of counts, behind columns that name run and file."""
    for path in sorted(folder.glob(counts_file("*"))):
        read_counts(path)  # refuses a damaged file
        table = pq.read_table(path, partitioning=None)
        references = table.schema.metadata[b"references"].decode()
        keys = zip(KEY_COLUMNS, (folder.name, path.name, references), strict=True)
        for i, (column, value) in enumerate(keys):
            table = table.add_column(i, column, pa.array([value] * len(table)))
        yield table.replace_schema_metadata()


def unpack_runs(folder: Path, runs: Path) -> int:
    """Write a folder for each packed run into `runs`; the number of runs."""
    contents = read_packed_records(folder / PACKED_RECORDS)
    for packed, content in contents.items():
        run = runs / packed.name
        refuse_existing(run)
        run.mkdir(parents=True)
        (run / FINISHED).write_bytes(content)
    for run_name, name in list_packed_counts(folder):
        table = read_packed_counts(folder / run_name / name)
        pq.write_table(table, runs / run_name / name, compression="zstd", write_statistics=False)
    return len(contents)


def list_packed_counts(folder: Path) -> list[tuple[str, str]]:
    """The runs and names of the packed files of counts."""
    path = folder / PACKED_COUNTS
    if not path.exists():  # the runs have none
        return []
    keys = pq.read_table(path, columns=["run", "file"], partitioning=None)
    pairs = keys.group_by(["run", "file"]).aggregate([])
    return sorted(zip(*(pairs[key].to_pylist() for key in ("run", "file")), strict=True))


def refuse_existing(*paths: Path) -> None:
    """Refuse to write over existing files."""
    for path in paths:
        if path.exists():
            raise UserError(f"{path}: already exists; move it away, or give another folder")


def main() -> None:
    """Pack or unpack."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    actions = {"pack": pack_runs, "unpack": unpack_runs}
    parser.add_argument("action", choices=actions)
    parser.add_argument("source", type=Path, metavar="FROM")
    parser.add_argument("target", type=Path, metavar="INTO")
    options = parser.parse_args()
    try:
        number = actions[options.action](options.source, options.target)
    except UserError as error:
        fail(str(error))
    print(f"{options.target}: {number} runs")


if __name__ == "__main__":
    main()
