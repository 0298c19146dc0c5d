"""Suites of contrastive translations: is the right one more probable than the wrong ones?

Three forms are read. In the JSON of LingEval97 (Sennrich 2017), each wrong translation is a
decision, with the type and distance of its error. In the JSON of ContraWSD (Rios et al. 2017) and
MuCoW (Raganato et al. 2019), the reference has to be above all wrong translations, and word and
sense are the category. The third form is a table with tabs.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nmt_feat.base.typed_json import load_json
from nmt_feat.errors import UserError, short_repr
from nmt_feat.text.files import hash_content

COLUMNS = ("source", "reference", "contrastive")
"""Columns of a table; `category` and `distance` may follow."""
LARGEST_DISTANCE = 15
"""Larger distances are counted together, as in LingEval97."""
FORMS = (
    "give the JSON of LingEval97, ContraWSD or MuCoW, or a table with tabs whose first line is "
    f"{' '.join(COLUMNS)} and optionally category distance"
)


@dataclass(frozen=True)
class Decision:
    """A reference and the wrong translations that it has to be above."""

    entry: int
    """Number of its entry in the suite, from 0; all decisions of an entry have one source."""
    source: str
    reference: str
    contrastives: tuple[str, ...]
    category: str = ""
    distance: int | None = None


@dataclass
class ContrastResult:
    """The decisions of one model on a suite."""

    suite: str
    """Checksum of the suite's file."""
    outcomes: str
    """A digit for each decision, in order: 1 right, 0 wrong."""
    categories: dict[str, list[int]] = field(default_factory=dict)
    """By category, the number of right decisions and of all."""
    distances: dict[str, list[int]] = field(default_factory=dict)
    source: str = ""
    """Checksum of the file of annotated sources, if there was one."""

    @property
    def accuracy(self) -> float:
        """Share of the right decisions."""
        return self.outcomes.count("1") / len(self.outcomes)


def read_suite(path: Path) -> list[Decision]:
    """The decisions of a suite; a file in none of the forms is a `UserError`."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); {FORMS}") from None
    read = _read_json if text.lstrip().startswith(("[", "{")) else _read_table
    try:
        decisions = list(read(text, path))
    except csv.Error as error:  # for example, a cell may have at most 131,072 characters
        raise UserError(f"{path}: not readable as a table ({error}); {FORMS}") from None
    if not decisions:
        raise UserError(f"{path}: has no pair to decide; {FORMS}")
    return decisions


def _read_json(text: str, path: Path) -> Iterator[Decision]:
    try:
        entries = load_json(text)
    except ValueError as error:
        raise UserError(f"{path}: not readable as JSON ({error}); {FORMS}") from None
    if not isinstance(entries, list):
        raise UserError(f"{path}: not a list of entries; {FORMS}")
    for number, entry in enumerate(entries):
        where = f"{path}: entry {number + 1}"
        source, reference = (_text_of(entry, name, where) for name in ("source", "reference"))
        errors = entry.get("errors")
        if not isinstance(errors, list):
            raise UserError(f"{where}: has no list errors; {FORMS}")
        wrong = [_text_of(pair, "contrastive", where) for pair in errors]
        if not wrong:
            continue
        if "ambig word" in entry:
            names = [_text_of(entry, name, where) for name in ("ambig word", "sense")]
            yield Decision(number, source, reference, tuple(wrong), ":".join(names))
            continue
        for pair, translation in zip(errors, wrong, strict=True):
            category, distance = str(pair.get("type", "")), pair.get("distance")
            yield Decision(
                number, source, reference, (translation,), category, _distance_of(distance, where)
            )


def _text_of(entry: Any, name: str, where: str) -> str:
    value = entry.get(name) if isinstance(entry, dict) else None
    if not isinstance(value, str) or not value.strip():
        raise UserError(f"{where}: has no text {short_repr(name)}; {FORMS}")
    return value


def _distance_of(value: object, where: str) -> int | None:
    if value in (None, ""):
        return None
    text = str(value)
    if not text.isdecimal():
        raise UserError(f"{where}: distance {short_repr(text)} is not a whole number; correct it")
    return int(text)


def _read_table(text: str, path: Path) -> Iterator[Decision]:
    # Quotes are characters of the text, as in the files of a corpus.
    rows = csv.DictReader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE)
    heading = rows.fieldnames or []
    if missing := [name for name in COLUMNS if name not in heading]:
        raise UserError(f"{path}:1: has no column {missing[0]}; {FORMS}")
    for number, row in enumerate(rows):
        where = f"{path}:{number + 2}"
        if None in row or None in row.values():
            count = len(heading)
            raise UserError(f"{where}: does not have the {count} columns of the first line")
        source, reference, wrong = (_text_of(row, name, where) for name in COLUMNS)
        distance = _distance_of(row.get("distance"), where)
        category = row.get("category") or ""
        yield Decision(number, source, reference, (wrong,), category, distance)


def make_result(path: Path, decisions: Sequence[Decision], right: Sequence[bool]) -> ContrastResult:
    """The result of a suite; `right` says which decisions are right."""
    results = list(zip(decisions, right, strict=True))
    distances = sorted((d.distance, is_right) for d, is_right in results if d.distance is not None)
    return ContrastResult(
        suite=hash_content(path)[:16],
        outcomes="".join("1" if is_right else "0" for is_right in right),
        categories=_count_by((d.category, is_right) for d, is_right in results if d.category),
        distances=_count_by((_name_distance(n), is_right) for n, is_right in distances),
    )


def _name_distance(distance: int) -> str:
    return str(distance) if distance <= LARGEST_DISTANCE else f"above {LARGEST_DISTANCE}"


def _count_by(results: Iterable[tuple[str, bool]]) -> dict[str, list[int]]:
    """By name, the number of right decisions and of all."""
    counts: dict[str, list[int]] = {}
    for name, is_right in results:
        count = counts.setdefault(name, [0, 0])
        count[0] += int(is_right)
        count[1] += 1
    return counts
