"""Suites of contrastive translations: is the right one more probable than the wrong ones?

Three public forms are read: the JSON of LingEval97 (Sennrich 2017), where each wrong translation is
a decision of its error's type and distance; that of ContraWSD (Rios et al. 2017) and MuCoW
(Raganato et al. 2019), where the reference has to be above all wrong ones and the category is word
and sense; and a table with tabs.
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
"""Of a table; `category` and `distance` may follow."""
FARTHEST = 15
"""Larger distances are counted together, as LingEval97 does."""
FORMS = (
    "give the JSON of LingEval97, ContraWSD or MuCoW, or a table with tabs whose first line is "
    f"{' '.join(COLUMNS)} and maybe category distance"
)


@dataclass(frozen=True)
class Decision:
    """A reference and the wrong translations that it has to be above."""

    entry: int
    """Number of the entry of the suite, from 0; its decisions have one source."""
    source: str
    reference: str
    contrastives: tuple[str, ...]
    category: str = ""
    distance: int | None = None


@dataclass
class ContrastResult:
    """The decisions of one model on a suite."""

    suite: str
    """Sum of the suite's file."""
    outcomes: str
    """A digit for each decision, in order: 1 right, 0 wrong."""
    categories: dict[str, list[int]] = field(default_factory=dict)
    """By category, how many are right and how many there are."""
    distances: dict[str, list[int]] = field(default_factory=dict)
    source: str = ""
    """Sum of the file of annotated sources, if one was given."""

    @property
    def accuracy(self) -> float:
        """Share of the right decisions."""
        return self.outcomes.count("1") / len(self.outcomes)


def read_suite(path: Path) -> list[Decision]:
    """The decisions of a suite; what is none of the forms is a `UserError`."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); {FORMS}") from None
    begin = text.lstrip()[:1]
    read = _read_json if begin in ("[", "{") else _read_table
    try:
        decisions = list(read(text, path))
    except csv.Error as error:  # such as a cell of more characters than it reads
        raise UserError(f"{path}: no readable table ({error}); {FORMS}") from None
    if not decisions:
        raise UserError(f"{path}: has no pair to decide; {FORMS}")
    return decisions


def _read_json(text: str, path: Path) -> Iterator[Decision]:
    try:
        entries = load_json(text)
    except ValueError as error:
        raise UserError(f"{path}: not readable as JSON ({error}); {FORMS}") from None
    if not isinstance(entries, list):
        raise UserError(f"{path}: is no list of entries; {FORMS}")
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
        raise UserError(f"{where}: distance {short_repr(text)} is no number from 0; correct it")
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
            raise UserError(f"{where}: has not the {len(heading)} columns of the first line")
        source, reference, wrong = (_text_of(row, name, where) for name in COLUMNS)
        distance = _distance_of(row.get("distance"), where)
        category = row.get("category") or ""
        yield Decision(number, source, reference, (wrong,), category, distance)


def make_result(path: Path, decisions: Sequence[Decision], right: Sequence[bool]) -> ContrastResult:
    """The result of a suite from whether each decision is right."""
    return ContrastResult(
        hash_content(path)[:16],
        "".join("1" if is_right else "0" for is_right in right),
        _count_by((d.category for d in decisions), right),
        dict(sorted(_count_by(map(_name_distance, decisions), right).items(), key=_distance_order)),
    )


def _name_distance(decision: Decision) -> str:
    if decision.distance is None:
        return ""
    return str(decision.distance) if decision.distance <= FARTHEST else f"above {FARTHEST}"


def _distance_order(item: tuple[str, list[int]]) -> int:
    return int(item[0]) if item[0].isdecimal() else FARTHEST + 1


def _count_by(names: Iterable[str], right: Sequence[bool]) -> dict[str, list[int]]:
    """By name how many are right, and how many there are; without the empty name."""
    counts: dict[str, list[int]] = {}
    for name, is_right in zip(names, right, strict=True):
        if name:
            count = counts.setdefault(name, [0, 0])
            count[1] += 1
            if is_right:
                count[0] += 1
    return counts
