"""Packed runs: two files instead of a folder for each run.

`records.jsonl` has a line for each run, with the exact content of its `result.json`.
`counts.parquet` has the rows of the runs' files of counts. Both are read as if the folders of the
runs were beside them. `tools/pack_results.py` writes them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from nmt_feat.base.typed_json import Mismatch, convert_json, load_json
from nmt_feat.errors import UserError, short_repr

PACKED_RECORDS, PACKED_COUNTS = "records.jsonl", "counts.parquet"
KEY_COLUMNS = ("run", "file", "references")
"""The first columns of `counts.parquet`: the run's folder, the file in it (whose columns follow),
and the digest of the references."""


@dataclass(frozen=True)
class PackedRecord:
    """A line of `records.jsonl`."""

    run: str
    """Name of the run's folder."""
    sha256: str
    """SHA-256 of `result`, encoded as UTF-8."""
    result: str
    """The content of `result.json`."""


def read_packed_records(path: Path) -> dict[Path, bytes]:
    """The content of each run's `result.json`, by the path that the run's folder would have."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    contents: dict[Path, bytes] = {}
    for number, line in enumerate(lines, start=1):
        try:
            run, content = _parse_line(line)
            if path.parent / run in contents:
                raise ValueError(f"{run} is in the file twice")
        except (ValueError, Mismatch) as error:
            raise UserError(
                f"{path}:{number}: not the record of a run ({error}); get the file again"
            ) from None
        contents[path.parent / run] = content
    return contents


def _parse_line(line: bytes) -> tuple[str, bytes]:
    """A run's name and the content of its `result.json`; a `ValueError` if the line is damaged."""
    record = convert_json(load_json(line.decode()), PackedRecord)
    assert isinstance(record, PackedRecord)
    if record.run != Path(record.run).name or record.run in ("", ".."):
        raise ValueError(f"{short_repr(record.run)} cannot be the name of a folder")
    content = record.result.encode()
    if hashlib.sha256(content).hexdigest() != record.sha256:
        raise ValueError(f"the SHA-256 of {record.run} is not the one in its line")
    return record.run, content


def read_packed_counts(path: Path) -> pa.Table:
    """The table of a packed file of counts, by the path that it would have.

    A missing one is a `FileNotFoundError`.
    """
    run = path.parent
    packed = run.parent / PACKED_COUNTS
    rows = [("run", "=", run.name), ("file", "=", path.name)]
    # Without `partitioning`, an "=" in the name of a folder would add a column.
    table = pq.read_table(packed, filters=rows, partitioning=None)
    if not len(table):
        raise FileNotFoundError(f"not in {packed}")
    references = table["references"][0].as_py()
    # Columns of metrics that only other runs in the file have.
    absent = [name for name in table.column_names if table[name].null_count == len(table)]
    table = table.drop_columns(absent)
    return table.drop_columns(list(KEY_COLUMNS)).replace_schema_metadata({"references": references})


def files_of_run(folder: Path) -> Iterable[Path]:
    """The files in a run's folder or, for a packed run, the files that it is packed in."""
    if folder.is_dir():
        return folder.rglob("*")
    return [folder.parent / name for name in (PACKED_RECORDS, PACKED_COUNTS)]
