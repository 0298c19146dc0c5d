"""Runs in two files: the committed records are all there, and reports are those of run folders."""

from __future__ import annotations

import csv
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.support.small import ROOT

sys.path.insert(0, str(ROOT / "tools"))

from compare.reports import read_json_files
from pack_results import list_packed_counts, pack_runs, unpack_runs

from nmt_feat.analysis.planned_comparisons import read_plan
from nmt_feat.analysis.report import Report
from nmt_feat.analysis.watch import read_snapshot
from nmt_feat.base.outputs import refuse_inputs
from nmt_feat.errors import UserError
from nmt_feat.evaluation.counts import read_counts
from nmt_feat.evaluation.packed_runs import files_of_run, read_packed_counts, read_packed_records
from nmt_feat.evaluation.scores import Scores, score_translations
from nmt_feat.runs.stored.find_runs import find_runs
from nmt_feat.runs.stored.records import RunRecord, read_record, write_record

RESULTS = ROOT / "docs" / "results"
IN_FOLDERS = (
    *("controls", "embedded", "four_methods_multi30k", "information", "low_resource"),
    *("meta_embedding", "multi30k_tok"),
)
"""Tables whose runs had a folder each in commit 6ee42fa, the last one of that form."""
RECORDS_SUM = "6f85f59118aac32dfa7ffa6283364257d0e26ca734e9ba122019b19661f3d093"
"""Of what `sha256sum` writes of each `result.json` below docs/results in that commit, by path."""
COUNTS_SUM = "1cd4ca8875c6f03b2b5d2540e6ac25c60258527821317871ed7bb254f3c65eb0"
"""The same of its files of counts: each sum is of the digest of the references and the numbers."""


def sum_of_sums(contents: dict[str, bytes]) -> str:
    """The SHA-256 of a list as `sha256sum` writes it."""
    lines = [f"{hashlib.sha256(contents[name]).hexdigest()}  {name}\n" for name in sorted(contents)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def test_each_committed_record_is_there_to_the_last_byte() -> None:
    contents = {
        f"{folder.relative_to(RESULTS)}/result.json": content
        for path in (RESULTS / name for name in IN_FOLDERS)
        for folder, content in read_packed_records(path / "records.jsonl").items()
    }
    assert len(contents) == 314
    assert sum_of_sums(contents) == RECORDS_SUM


@pytest.mark.slow
def test_all_committed_counts_are_those_of_the_run_folders() -> None:
    contents = {}
    for path in (RESULTS / name for name in IN_FOLDERS):
        for run, name in list_packed_counts(path):
            counts, references = read_counts(path / run / name)
            numbers = counts["BLEU"].tobytes() + counts["chrF"].tobytes()
            contents[f"{path.name}/{run}/{name}"] = references.encode() + numbers
    assert len(contents) == 364
    assert sum_of_sums(contents) == COUNTS_SUM


def report_of(folder: Path) -> Report:
    """The report of the runs in a folder, with its plan, without the slow tests of pairs."""
    runs = [(run, path) for path, run in find_runs([folder]).items()]
    plan = read_plan(path) if (path := folder / "plan.txt").exists() else ()
    return Report(runs, pairs=False, plan=plan)


@pytest.mark.thorough
def test_both_forms_give_the_same_report(tmp_path: Path) -> None:
    packed, unpacked, again = RESULTS / "controls", tmp_path / "controls", tmp_path / "again"
    assert (unpack_runs(packed, unpacked), pack_runs(unpacked, again)) == (15, 15)
    name = "records.jsonl"
    assert (again / name).read_bytes() == (packed / name).read_bytes()
    name = "counts.parquet"
    assert pq.read_table(again / name) == pq.read_table(packed / name)
    one, second = report_of(packed), report_of(unpacked)
    assert one.to_json() == second.to_json()
    assert one.comparisons_csv() == second.comparisons_csv()
    assert one.table.to_csv() == second.table.to_csv()
    assert one.tables == second.tables
    assert read_json_files(packed) == read_json_files(unpacked)


def test_packed_and_other_runs_are_read_together(tmp_path: Path) -> None:
    controls = RESULTS / "controls"
    record = RunRecord("none", [], 1, "toy", "hash", {}, {}, dev=Scores(30, 50, "BS", "CS", 10))
    (tmp_path / "run").mkdir()
    write_record(tmp_path / "run", record)
    names = [folder.name for folder in find_runs([tmp_path, controls])]
    assert (names[0], names[1:]) == ("run", sorted(names[1:]))
    assert len(names) == 16
    assert len(read_snapshot([tmp_path, controls]).finished) == 16
    with pytest.raises(UserError, match=r"records\.jsonl, which the command reads"):
        refuse_inputs(controls / "records.jsonl", "", files_of_run(controls / names[1]))


# ---- committed tables


def numbers_of(value: Any, key: str = "") -> Iterator[tuple[str, float]]:
    """The numbers in JSON, each with what leads to it."""
    if isinstance(value, dict | list):
        for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from numbers_of(inner, f"{key}.{name}")
    elif isinstance(value, int | float):
        yield key, value


def comparisons_of(text: str) -> tuple[list[str], list[float]]:
    """The words and the numbers of `comparisons.csv`, in order."""
    rows = list(csv.DictReader(text.splitlines()))
    words = [row.pop(name) for row in rows for name in ("test", "conditions", "metric")]
    words += [row.pop(name) for row in rows for name in ("method", "other")]
    return words, [float(cell) for row in rows for cell in row.values()]


@pytest.mark.parametrize(
    "name",
    [
        *("confirmation", "embedded", "four_methods_multi30k", "low_resource"),
        *("meta_embedding", "multi30k_tok"),
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("beyond", "information", "terminology")
        ),
    ],
)
def test_committed_tables_are_made_again(name: str) -> None:
    """The last digits of the 16 in full precision are those of one kind of processor."""
    folder = RESULTS / name
    report = report_of(folder)
    assert report.table.to_csv() == (folder / "table.csv").read_text(encoding="utf-8")
    table = json.loads((folder / "table.json").read_text(encoding="utf-8"))
    again = dict(numbers_of(json.loads(report.to_json())))
    assert again == pytest.approx(dict(numbers_of(table)), rel=1e-11, abs=0)
    if (path := folder / "comparisons.csv").exists():
        words, numbers = comparisons_of(path.read_text(encoding="utf-8"))
        words_again, numbers_again = comparisons_of(report.comparisons_csv())
        assert words_again == words
        assert numbers_again == pytest.approx(numbers, rel=1e-11, abs=0)


# ---- what is damaged


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """A file of one packed run, whose record has characters that end a line elsewhere."""
    record = RunRecord("gate", ["a\r\u2028\x85ü"], 1, "toy", "hash", {}, {})
    record.dev = score_translations(["a"], ["a"])
    (tmp_path / "runs" / "gate-s1").mkdir(parents=True)
    path = write_record(tmp_path / "runs" / "gate-s1", record)
    assert pack_runs(tmp_path / "runs", tmp_path / "packed") == 1
    lines = tmp_path / "packed" / "records.jsonl"
    assert read_packed_records(lines) == {tmp_path / "packed" / "gate-s1": path.read_bytes()}
    return lines


def test_nothing_is_written_over(packed: Path) -> None:
    runs = packed.parent.parent / "runs"
    with pytest.raises(UserError, match=r"records\.jsonl: already exists"):
        pack_runs(runs, packed.parent)
    with pytest.raises(UserError, match="gate-s1: already exists"):
        unpack_runs(packed.parent, runs)
    again = runs.parent / "again"
    assert unpack_runs(packed.parent, again) == 1
    assert read_record(again / "gate-s1" / "result.json").features == ["a\r\u2028\x85ü"]


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("gate-s1", "gate/s1", "cannot be the name of a folder"),
        ("gate-s1", "..", "cannot be the name of a folder"),
        ('\\"toy', '\\"boy', "the SHA-256 of gate-s1 is not the one in its line"),
        ('"sha256"', '"sum"', "sha256 is missing"),
        ("{", "", "not the record of a run"),
    ],
)
def test_a_damaged_line_is_refused(packed: Path, before: str, after: str, message: str) -> None:
    line = packed.read_text(encoding="utf-8")
    packed.write_text(line.replace(before, after), encoding="utf-8")
    with pytest.raises(UserError, match=rf"records\.jsonl:1: .*{message}"):
        find_runs([packed.parent])


def test_a_run_that_stands_twice_is_refused(packed: Path) -> None:
    packed.write_bytes(packed.read_bytes() * 2)
    with pytest.raises(UserError, match=r"records\.jsonl:2: .*gate-s1 is in the file twice"):
        find_runs([packed.parent])


def test_counts_that_are_not_packed(packed: Path) -> None:
    with pytest.raises(UserError, match="has no readable counts"):
        read_counts(packed.parent / "gate-s1" / "test.counts.parquet")
    with pytest.raises(FileNotFoundError):
        read_packed_counts(RESULTS / "controls" / "none" / "test.counts.parquet")
    keys = pq.read_schema(RESULTS / "controls" / "counts.parquet").names[:3]
    assert keys == ["run", "file", "references"]
