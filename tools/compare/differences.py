"""Compares the facts of two sides, and separates intended differences."""

from __future__ import annotations

import tomllib
from collections import Counter
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from compare.facts import Facts

DIFFERENT, ONLY_BASE, ONLY_NEW, FAILED = "different", "only in base", "only in new", "failed"
REPORTED = "settings"
"""The part whose settings may be added and removed: such a difference is only reported."""
REQUIRED = "composed"
"""The end of those keys of this part that both sides must have."""


@dataclass(frozen=True)
class Difference:
    """A difference in one key of one job; `description` says how its values differ."""

    part: str
    job: str
    key: str
    kind: str
    description: str

    @property
    def serious(self) -> bool:
        """Whether it is more than an addition."""
        if self.kind == ONLY_NEW:
            return False
        missing = self.kind == ONLY_BASE and self.part == REPORTED
        return not missing or self.key.endswith(REQUIRED)


@dataclass
class Intended:
    """An entry of the list of intended differences, with patterns as for file names."""

    reason: str
    part: str = "*"
    job: str = "*"
    key: str = "*"
    matched: int = field(default=0, compare=False)

    def matches(self, difference: Difference) -> bool:
        """Whether it covers the difference; failures are never intended."""
        pairs = (
            (difference.part, self.part),
            (difference.job, self.job),
            (difference.key, self.key),
        )
        return difference.kind != FAILED and all(fnmatchcase(*pair) for pair in pairs)


def read_intended(path: Path) -> list[Intended]:
    """The list in a TOML file; a wrong entry is a ValueError."""
    entries = tomllib.loads(path.read_text(encoding="utf-8")).get("difference", [])
    for number, entry in enumerate(entries, 1):
        unknown = set(entry) - {"reason", "part", "job", "key"}
        if unknown or not entry.get("reason"):
            wrong = f"has unknown names: {', '.join(sorted(unknown))}" if unknown else "no reason"
            raise ValueError(f"{path}: entry {number}: {wrong}")
    return [Intended(**entry) for entry in entries]


def split_intended(
    differences: list[Difference], intended: list[Intended]
) -> tuple[list[Difference], list[Difference]]:
    """Differences that the list does not cover, and those it covers, which it counts."""
    uncovered, covered = [], []
    for difference in differences:
        entry = next((entry for entry in intended if entry.matches(difference)), None)
        if entry is None:
            uncovered.append(difference)
        else:
            entry.matched += 1
            covered.append(difference)
    return uncovered, covered


def compare(part: str, job: str, base: Facts, new: Facts) -> list[Difference]:
    """All differences of the two sides, in the order of the base's keys."""
    differences = []
    for key, value in base.values.items():
        if key not in new.values:
            differences.append(Difference(part, job, key, ONLY_BASE, _short(value)))
        elif (description := _differs(base, new, key)) is not None:
            differences.append(Difference(part, job, key, DIFFERENT, description))
    for key, value in new.values.items():
        if key not in base.values:
            differences.append(Difference(part, job, key, ONLY_NEW, _short(value)))
    return differences


def _short(value: object) -> str:
    if isinstance(value, dict):
        return f"{value['kind']} {value['sum']}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _differs(base: Facts, new: Facts, key: str) -> str | None:
    """How the values of a key differ; None where they are the same."""
    a, b = base.values[key], new.values[key]
    if not isinstance(a, dict) or not isinstance(b, dict) or a["kind"] != b["kind"]:
        # 1 and 1.0 and True are equal for Python
        same = type(a) is type(b) and (a == b or (a != a and b != b))
        return None if same else f"{_short(a)} -> {_short(b)}"
    if a["sum"] == b["sum"]:
        return None
    compare = {"text": _compare_texts, "array": _compare_arrays, "numbers": _compare_numbers}
    return compare[a["kind"]](base.folder / a["file"], new.folder / b["file"])


def _compare_texts(base: Path, new: Path) -> str:
    texts = [path.read_text(encoding="utf-8", errors="surrogateescape") for path in (base, new)]
    a, b = (text.split("\n") for text in texts)
    number = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), None)
    if number is None:
        return f"{len(a)} -> {len(b)} lines, the shorter begins the longer"
    differing = sum(x != y for x, y in zip(a, b, strict=False)) + abs(len(a) - len(b))
    first = f"line {number + 1}: {_short(a[number])} -> {_short(b[number])}"
    return f"{differing} of {max(len(a), len(b))} lines, {first}"


def _compare_arrays(base: Path, new: Path) -> str:
    a, b = (np.load(path, allow_pickle=False) for path in (base, new))
    if a.shape != b.shape or a.dtype != b.dtype:
        return f"{a.dtype} {a.shape} -> {b.dtype} {b.shape}"
    places = np.argwhere(a != b)
    if not len(places):  # such as 0.0 and -0.0, or NaN
        return "other bits of equal values"
    first = tuple(places[0].tolist())
    text = f"{len(places)} of {a.size} values, at {first}: {a[first]} -> {b[first]}"
    if np.issubdtype(a.dtype, np.floating):
        text += f", at most {np.abs(a.astype(np.float64) - b.astype(np.float64)).max():.3g} apart"
    return text


def _compare_numbers(base: Path, new: Path) -> str | None:
    """How numbers differ: missing ones count, new ones do not."""
    a, b = (Counter(path.read_text(encoding="utf-8").split()) for path in (base, new))
    if not (gone := a - b):
        return None
    first = ", ".join(list(gone)[:5])
    return f"{gone.total()} of {a.total()} numbers are gone: {first}"


def table(rows: list[tuple[Any, ...]]) -> str:
    """Rows as text in columns of equal width; the last one is not padded."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]) - 1)]
    lines = []
    for *cut, last in cells:
        padded = [text.ljust(width) for text, width in zip(cut, widths, strict=True)]
        lines.append("  ".join([*padded, last]).rstrip())
    return "\n".join(lines)
