"""Part `reports`: numbers of the reports of committed records and of runs just trained."""

from __future__ import annotations

import csv
import functools
import json
import re
from pathlib import Path
from typing import Any

from compare.bench import Bench, Job
from compare.facts import Facts
from compare.training import methods

PART = "reports"
RECORDS = Path("docs/results")
PACKED = "records.jsonl"
"""The file with the `result.json` of each run; earlier revisions have a folder for each run."""
SMALL = ("controls",)
"""Folders of the small form; others take minutes."""
TIMES = ("minutes", "seconds", "train_seconds", "tokens_per_second", "peak_memory_mib")
"""Figures that differ between two runs of the same code."""


def add_numbers(facts: Facts, key: str, value: Any, skip: tuple[str, ...] = ()) -> None:
    """The numbers in JSON; words may change."""
    if isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for name, inner in pairs:
            if not str(name).startswith(skip or ("\0",)):
                add_numbers(facts, f"{key}.{name}", inner, skip)
    elif isinstance(value, int | float):
        facts.scalar(key, value)


def add_csv(facts: Facts, key: str, path: Path, skip: tuple[str, ...] = ()) -> None:
    """Each cell by its row's number and its column's name."""
    with path.open(encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.DictReader(file), 1):
            for column, cell in row.items():
                if not column.startswith(skip or ("\0",)):
                    facts.scalar(f"{key}.{number}.{column}", cell)


def text_of_page(html: str) -> str:
    """What a reader sees of a page, without its styles, scripts and drawings' coordinates."""
    html = re.sub(r"(?s)<(script|style)\b.*?</\1>", " ", html)
    return re.sub(r"(?s)<[^>]*>", " ", html)


def _add_report(bench: Bench, out: Path, skip: tuple[str, ...] = ()) -> None:
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        name = str(path.relative_to(out))
        if path.suffix == ".json":
            add_numbers(bench.facts, name, json.loads(path.read_text(encoding="utf-8")), skip)
        elif path.suffix == ".csv":
            add_csv(bench.facts, name, path, skip)
        elif path.suffix == ".html" and not skip:
            # Times, where they differ, are among the numbers, which nothing tells apart.
            text = text_of_page(path.read_text(encoding="utf-8"))
            bench.facts.numbers(name, bench.plain(text))


def _report(name: str, page: bool, bench: Bench) -> None:
    """The report of the side's own records, in the form that they have there, by its code."""
    (bench.folder / "records").symlink_to(bench.side.code / RECORDS / name)
    (bench.folder / "out").mkdir()
    html = ["--html", "out/page.html"] if page else []
    bench.good("scripts/report.py", "records", "--out", "out", *html)
    _add_report(bench, bench.folder / "out")


def _report_trained(needs: tuple[str, ...], bench: Bench) -> None:
    """The report of runs that this side has just trained."""
    for number, key in enumerate(needs):
        (bench.folder / f"runs{number}").symlink_to(bench.needed(key) / "runs")
    folders = [f"runs{number}" for number in range(len(needs))]
    command = (*folders, "--out", "out", "--html", "out/page.html")
    bench.good("scripts/report.py", *command)
    _add_report(bench, bench.folder / "out", TIMES)


def _committed(name: str, bench: Bench) -> None:
    """The side's own records and tables."""
    folder = bench.side.code / RECORDS / name
    for key, text in read_json_files(folder).items():
        content = json.loads(text)
        add_numbers(bench.facts, key, content)
        if key.endswith("result.json"):
            bench.facts.scalar(f"{key}.hash", content["hash"])
            bench.facts.text(key, text)
    for path in sorted(folder.rglob("*.csv")):
        add_csv(bench.facts, str(path.relative_to(folder)), path)
    for path in sorted(folder.rglob("*.hyp")):
        bench.facts.text(str(path.relative_to(folder)), path.read_text(encoding="utf-8"))


def read_json_files(folder: Path) -> dict[str, str]:
    """The JSON files of a folder by their names in it, those of packed runs among them."""
    files = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*.json"))}
    texts = {name: path.read_text(encoding="utf-8") for name, path in files.items()}
    if (packed := folder / PACKED).exists():
        for record in map(json.loads, packed.read_bytes().splitlines()):
            texts[f"{record['run']}/result.json"] = record["result"]
    return texts


def jobs(base: Path, small: bool) -> list[Job]:
    """A job for each folder of records, and one for the runs just trained."""
    folders = sorted(path for path in (base / RECORDS).iterdir() if path.is_dir())
    names = [
        path.name for path in folders if (path / PACKED).exists() or any(path.glob("*/result.json"))
    ]
    job_list = [
        Job(PART, f"committed {p.name}", functools.partial(_committed, p.name)) for p in folders
    ]
    report_names = SMALL if small else names
    job_list += [
        Job(PART, f"report {n}", functools.partial(_report, n, not small)) for n in report_names
    ]
    trained = ["none", "concat", "gate", "add", "average"] if small else methods(base)
    needs = tuple(f"weights/{name} fp32" for name in trained)
    act = functools.partial(_report_trained, needs)
    return [*job_list, Job(PART, "report of trained runs", act, needs)]
