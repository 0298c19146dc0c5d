"""The lexicon: one row per lemma and sense, read from the tables beside this package."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from .derivation import Choice

TABLES = Path(__file__).resolve().parent.parent / "lexicon"


@dataclass(frozen=True)
class Noun:
    """`plural` is empty for a mass noun; `oblique`: the singular of weak nouns but nominative."""

    english: str
    plural: str
    german: str
    gender: str
    german_plural: str
    oblique: str
    classes: str

    def german_form(self, case: str, number: str) -> str:
        """The form in a case (nom, acc, dat) and number (Sing, Plur)."""
        if number == "Sing":
            return self.oblique if self.oblique and case != "nom" else self.german
        if case == "dat" and self.german_plural[-1] not in "ns":
            return self.german_plural + "n"
        return self.german_plural


@dataclass(frozen=True)
class Verb:
    """`german` is the infinitive with its separable `prefix`; finite forms stand without it."""

    lemma: str
    sense: str
    third: str
    past: str
    participle: str
    ing: str
    german: str
    prefix: str
    german_third: str
    german_past: str
    german_participle: str
    auxiliary: str
    case: str
    reflexive: str
    classes: str

    @property
    def particle(self) -> str:
        """The English particle of a phrasal verb (wake up), or nothing."""
        return self.sense if self.sense == "up" else ""


@dataclass(frozen=True)
class Adjective:
    """An adjective and its German stem."""

    lemma: str
    german: str
    classes: str


def _rows(name: str) -> list[dict[str, str]]:
    with (TABLES / f"{name}.tsv").open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines, delimiter="\t"))


NOUNS = [Noun(**row) for row in _rows("nouns")]
VERBS = [Verb(**row) for row in _rows("verbs")]
ADJECTIVES = [Adjective(**row) for row in _rows("adjectives")]


def nouns(*classes: str) -> list[Noun]:
    """The nouns that are in one of the classes, in the table's order."""
    return [n for n in NOUNS if set(n.classes.split()) & set(classes)]


def verbs(*classes: str) -> list[Verb]:
    """The verbs that are in one of the classes, in the table's order."""
    return [v for v in VERBS if set(v.classes.split()) & set(classes)]


def adjectives(*classes: str) -> list[Adjective]:
    """The adjectives that are in one of the classes, in the table's order."""
    return [a for a in ADJECTIVES if set(a.classes.split()) & set(classes)]


def adjective_choice(*classes: str) -> Choice[Adjective]:
    """A choice between the adjectives of some classes."""
    return Choice(adjectives(*classes), form=lambda a: a.lemma)


def noun(english: str) -> Noun:
    """The noun with this English lemma."""
    return next(n for n in NOUNS if n.english == english)


def verb(lemma: str, sense: str = "") -> Verb:
    """The verb with this English lemma and sense."""
    return next(v for v in VERBS if (v.lemma, v.sense) == (lemma, sense))
