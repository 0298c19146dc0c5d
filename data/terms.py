"""Write the corpus of invented terms: ``python data/terms.py [--out FOLDER] [--seed SEED]``.

In nearly half of the bundled corpus's sentences a noun, with its German, becomes a word that
nobody has seen: *The bakers sleep* is *The rimsols sleep*, *Die Gebarotungen schlafen*. The
glossary alone says how it is translated. The terms of test and dev are in no other split. The same
seed gives the same bytes.
"""

from __future__ import annotations

import argparse
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from grammar.lexicon import NOUNS, Noun

HERE = Path(__file__).resolve().parent
SPLITS = ("train", "dev", "test")
SEED = "nmt_feat-terms-1"
SHARE = 0.6
"""Of the sentences of a split, those that get a term, if they have a noun for it."""
TRAINING_TERMS = 2000
TWO_WORDS = 0.25
"""Of the terms, those of two English words."""
ENDINGS = {"m": ("er", "er"), "f": ("ung", "ungen"), "n": ("chen", "chen")}
"""By gender those of the German words, so that the article can be told from the term."""
ENGLISH = (
    "b c d f g h k l m n p r s t v w bl br cl dr fl gr pl pr st tr",
    "a e i o u",
    "- - l m n r t",  # without s, so that no plural is another word
)
GERMAN = (
    "b d f g h k l m n p r s t w z bl br dr fl gr kl kn kr pf pl schl schm st tr zw",
    "a e i o u au ei ie",
    "- - l m n r s t",
)
"""Of each language what a syllable begins with, its vowels, and what ends a word; `-` for nothing.
"""
SPECIAL = {"seen", "heard", "same", "tongue", "feed"}
"""Classes of nouns that may be verbs or parts of other words; they stay."""


@dataclass(frozen=True)
class Term:
    """An invented noun, singular and plural."""

    english: tuple[str, str]
    german: tuple[str, str]
    gender: str


@dataclass
class Inventor:
    """Draws words, each a new one."""

    rng: random.Random
    used: set[str] = field(default_factory=set)

    def invent_word(self, sounds: tuple[str, str, str], syllables: int) -> str:
        """A word of so many syllables that was not drawn before."""
        onsets, vowels, codas = map(str.split, sounds)
        while True:
            parts = [self.rng.choice(onsets) + self.rng.choice(vowels) for _ in range(syllables)]
            word = "".join(parts) + self.rng.choice(codas).strip("-")
            if word not in self.used:
                self.used.add(word)
                return word

    def invent_term(self, gender: str) -> Term:
        """A term of a gender."""
        first = self.invent_word(ENGLISH, 2) + " " if self.rng.random() < TWO_WORDS else ""
        english = first + self.invent_word(ENGLISH, 2)
        german = self.invent_word(GERMAN, 2).capitalize()
        singular, plural = ENDINGS[gender]
        return Term((english, english + "s"), (german + singular, german + plural), gender)


def read_pairs(split: str) -> list[tuple[str, str]]:
    """The sentences of a split of the bundled corpus."""
    annotated = (HERE / "embedded" / f"{split}.conllu").read_text(encoding="utf-8")
    english = re.findall("^# text = (.*)$", annotated, re.MULTILINE)
    german = (HERE / "embedded" / f"{split}.de").read_text(encoding="utf-8").splitlines()
    return list(zip(english, german, strict=True))


def list_forms() -> dict[tuple[str, str], tuple[str, int]]:
    """By English and German form of a noun its gender, and whether it is the plural."""
    forms: dict[tuple[str, str], tuple[str, int]] = {}
    for noun in NOUNS:
        if not SPECIAL & set(noun.classes.split()):
            for english, number, plural in list_numbers(noun):
                # A dative plural has an ending of its own, a weak noun an oblique form.
                forms[english, noun.german_form("nom", number)] = noun.gender, plural
    return forms


def list_numbers(noun: Noun) -> Iterator[tuple[str, str, int]]:
    """The English forms of a noun, with their number."""
    yield noun.english, "Sing", 0
    if noun.plural:
        yield noun.plural, "Plur", 1


def find_nouns(english: str, german: str) -> list[tuple[str, str, str, int]]:
    """The nouns of a pair that a term can replace: both forms, gender, number."""
    words, german_words = re.findall(r"\w+", english), re.findall(r"\w+", german)
    return [
        (one, other, gender, plural)
        for (one, other), (gender, plural) in FORMS.items()
        if words.count(one) == 1 and german_words.count(other) == 1
        if not re.search(rf"\b[Aa]n {one}\b", english)
        if not (plural and gender == "m" and re.search(rf"\bden (\w+ )?{other}\b", german))
    ]


FORMS = list_forms()


def replace_nouns(
    split: str, rng: random.Random, inventor: Inventor
) -> tuple[list[tuple[str, str]], list[Term]]:
    """The pairs of a split with terms in some of them; the terms."""
    genders = [rng.choice("mfn") for _ in range(TRAINING_TERMS if split == "train" else 0)]
    terms = [inventor.invent_term(gender) for gender in genders]
    pairs = []
    for english, german in read_pairs(split):
        choices = find_nouns(english, german)
        if choices and rng.random() < SHARE:
            one, other, gender, plural = rng.choice(choices)
            if split == "train":
                term = rng.choice([term for term in terms if term.gender == gender])
            else:  # each term of test and dev occurs once
                term = inventor.invent_term(gender)
                terms.append(term)
            english = re.sub(rf"\b{one}\b", term.english[plural], english)
            german = re.sub(rf"\b{other}\b", term.german[plural], german)
            english = english[0].upper() + english[1:]
        pairs.append((english, german))
    return pairs, terms


def write(folder: Path, seed: str = SEED) -> None:
    """Write `<split>.en`, `<split>.de` and `glossary.tsv` into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    words = {
        word
        for split in SPLITS
        for pair in read_pairs(split)
        for text in pair
        for word in re.findall(r"\w+", text.lower())
    }
    inventor = Inventor(random.Random(f"{seed}/words"), words)
    rows: list[str] = []
    for split in SPLITS:
        pairs, terms = replace_nouns(split, random.Random(f"{seed}/{split}"), inventor)
        for language, texts in zip(("en", "de"), zip(*pairs, strict=True), strict=True):
            content = "".join(text + "\n" for text in texts)
            (folder / f"{split}.{language}").write_bytes(content.encode("utf-8"))
        rows += [f"{term.english[n]}\t{term.german[n]}\n" for term in terms for n in (0, 1)]
    (folder / "glossary.tsv").write_bytes("".join(rows).encode("utf-8"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE / "terms", help="folder to write into")
    parser.add_argument("--seed", default=SEED, help="any string")
    arguments = parser.parse_args()
    write(arguments.out, arguments.seed)
