"""Noun phrases and pronouns: each says its English and returns what German needs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from . import german
from .derivation import Choice, DeadEnd, Derivation, Token, weighted
from .lexicon import Adjective, Noun, adjective_choice, nouns


@dataclass
class Nominal:
    """A noun phrase or pronoun: the English head word and the German forms by case."""

    head: Token
    person: str
    number: str
    gender: str
    forms: dict[str, str]
    pronoun: bool = False
    noun: Noun | None = None

    @property
    def german_person(self) -> int:
        """The person and number that the German verb agrees with, 0 to 5."""
        return german.PERSONS[self.person, self.number]

    @property
    def third_singular(self) -> bool:
        """Does an English present verb take -s?"""
        return (self.person, self.number) == ("3", "Sing")


# nominative, accusative, person, number, gender feature, German nom, acc, dat
PRONOUNS = [
    ("I", "me", "1", "Sing", "", "ich", "mich", "mir"),
    ("you", "you", "2", "Sing", "", "du", "dich", "dir"),
    ("you", "you", "2", "Plur", "", "ihr", "euch", "euch"),
    ("he", "him", "3", "Sing", "Masc", "er", "ihn", "ihm"),
    ("she", "her", "3", "Sing", "Fem", "sie", "sie", "ihr"),
    ("we", "us", "1", "Plur", "", "wir", "uns", "uns"),
    ("they", "them", "3", "Plur", "", "sie", "sie", "ihnen"),
]
NAMES = [
    ("Anna", "f"),
    ("Peter", "m"),
    ("Maria", "f"),
    ("Paul", "m"),
    ("Laura", "f"),
    ("Thomas", "m"),
    ("Eva", "f"),
    ("Martin", "m"),
]
POSSESSIVES = {
    "my": ("mein", "Number=Sing|Person=1"),
    "his": ("sein", "Gender=Masc|Number=Sing|Person=3"),
    "her": ("ihr", "Gender=Fem|Number=Sing|Person=3"),
    "our": ("unser", "Number=Plur|Person=1"),
    "their": ("ihr", "Number=Plur|Person=3"),
}
# English form -> (lemma, German, upos, xpos, feats, deprel, number that it fixes, weight)
DETERMINERS = {
    "the": ("the", "der", "DET", "DT", "Definite=Def|PronType=Art", "det", "", 8.0),
    "a": ("a", "ein", "DET", "DT", "Definite=Ind|PronType=Art", "det", "Sing", 2.5),
    "an": ("a", "ein", "DET", "DT", "Definite=Ind|PronType=Art", "det", "Sing", 0.8),
    "this": ("this", "dies", "DET", "DT", "Number=Sing|PronType=Dem", "det", "Sing", 1.0),
    "these": ("this", "dies", "DET", "DT", "Number=Plur|PronType=Dem", "det", "Plur", 1.0),
    "that": ("that", "jen", "DET", "DT", "Number=Sing|PronType=Dem", "det", "Sing", 0.5),
    "two": ("two", "zwei", "NUM", "CD", "NumForm=Word|NumType=Card", "nummod", "Plur", 0.6),
    "three": ("three", "drei", "NUM", "CD", "NumForm=Word|NumType=Card", "nummod", "Plur", 0.4),
    **{
        form: (form, de, "PRON", "PRP$", _feats, "nmod:poss", "", 0.7)
        for form, (de, _person) in POSSESSIVES.items()
        for _feats in [f"Case=Gen|{_person}|Poss=Yes|PronType=Prs"]
    },
}
MASS = ("the", "my", "his", "her", "our", "their")
NUMBER = weighted(Sing=1.2, Plur=1)
MODIFIED = weighted(no=3, yes=1)
ALL_DETERMINERS = tuple(DETERMINERS)
SUBJECT_DETERMINERS = tuple(d for d in DETERMINERS if d != "that")


@cache
def determiner_choice(allowed: tuple[str, ...], bare: bool) -> Choice[str]:
    """Determiners by weight; with `bare`, a plural may stand without."""
    return Choice(
        allowed + (("",) if bare else ()),
        weight=lambda d: DETERMINERS[d][7] if d else 0.8,
        form=lambda d: d or None,
    )


@cache
def noun_choice(classes: tuple[str, ...], number: str, count: bool) -> Choice[Noun]:
    """Nouns of some classes in a number; `count`: mass nouns do not fit the determiner."""
    fits = [n for n in nouns(*classes) if n.plural or (number == "Sing" and not count)]
    # Mass nouns have few contexts; sheep and fish are few, but their number is to be learnt.
    return Choice(
        fits,
        weight=lambda n: 2.5 if n.plural in ("", n.english) else 1.0,
        form=lambda n: n.english if number == "Sing" else n.plural,
    )


@cache
def modifier_choice(living: bool, ing: bool) -> Choice[Adjective]:
    """Attributive adjectives for living beings or things."""
    return adjective_choice(*(("living", "ing") if ing else ("living",)) if living else ("thing",))


def say_determiner(d: Derivation, form: str) -> Token | None:
    """A determiner, or nothing for the empty form."""
    if not form:
        return None
    lemma, _, upos, xpos, feats, deprel, _, _ = DETERMINERS[form]
    token = d.emit(form, lemma, upos, xpos, feats)
    token.deprel = deprel
    return token


def say_adjective(d: Derivation, adjective: Adjective) -> Token:
    """An adjective, not attached yet."""
    token = d.emit(adjective.lemma, adjective.lemma, "ADJ", "JJ", "Degree=Pos")
    token.deprel = "amod"
    return token


def say_noun(d: Derivation, entry: Noun, number: str) -> Token:
    """A noun in a number."""
    form, xpos = (entry.english, "NN") if number == "Sing" else (entry.plural, "NNS")
    return d.emit(form, entry.english, "NOUN", xpos, f"Number={number}")


def nominal(
    head: Token, det: str, number: str, entry: Noun, stem: str = "", compound: str = ""
) -> Nominal:
    """The German side of determiner, adjective stem and noun; `compound` is a first part of it."""
    column = german.agreement_class(entry.gender, number)
    word = DETERMINERS[det][1] if det else ""
    forms = {}
    for case in ("nom", "acc", "dat"):
        name = entry.german_form(case, number)
        forms[case] = german.join(
            [
                german.determiner(word, case, column),
                german.adjective(stem, word, case, column) if stem else "",
                compound + (name[0].lower() + name[1:] if compound else name),
            ]
        )
    return Nominal(head, "3", number, entry.gender, forms, noun=entry)


def noun_phrase(
    d: Derivation,
    classes: tuple[str, ...],
    allowed: tuple[str, ...] = SUBJECT_DETERMINERS,
    bare: bool = True,
    adjective: str = "any",
    number: str = "",
) -> Nominal:
    """Determiner, perhaps an adjective, noun. `adjective`: "any", "no", "yes"."""
    det = d.pick(determiner_choice(allowed, bare and number != "Sing"))
    fixed = DETERMINERS[det][6] if det else "Plur"
    if number and fixed and number != fixed:
        raise DeadEnd
    number = number or fixed or d.pick(NUMBER)
    tokens = [say_determiner(d, det)]
    living = not {"thing", "tool", "put", "text", "closable", "food", "seen"} & set(classes)
    stem = ""
    if adjective == "yes" or (adjective == "any" and d.pick(MODIFIED) == "yes"):
        modifier = d.pick(modifier_choice(living, classes == ("person",) and number == "Plur"))
        tokens.append(say_adjective(d, modifier))
        stem = modifier.german
    entry = d.pick(noun_choice(classes, number, det not in MASS))
    head = say_noun(d, entry, number)
    for token in tokens:
        if token:
            token.attach(head, token.deprel)
    return nominal(head, det, number, entry, stem)


TONGUE = weighted(adjective=1, noun=1)
TONGUE_ADJECTIVES = adjective_choice("tongue")
TONGUE_DETERMINERS = ("the", "a", "an", "this", "my", "his", "our", "their")


def tongue_phrase(d: Derivation) -> Nominal:
    """The French teacher: a teacher from France (ADJ), or one of French (PROPN, a compound)."""
    det = d.pick(determiner_choice(TONGUE_DETERMINERS, False))
    number = DETERMINERS[det][6] or d.pick(NUMBER)
    article = say_determiner(d, det)
    kind = d.pick(TONGUE)
    tongue = d.pick(TONGUE_ADJECTIVES)
    if kind == "adjective":
        first = say_adjective(d, tongue)
    else:
        first = d.emit(tongue.lemma, tongue.lemma, "PROPN", "NNP", "Number=Sing")
        first.deprel = "compound"
    entry = d.pick(noun_choice(("tongue",), number, True))
    head = say_noun(d, entry, number)
    for token in (article, first):
        if token:
            token.attach(head, token.deprel)
    name = tongue.german[0].upper() + tongue.german[1:]
    if kind == "adjective":
        return nominal(head, det, number, entry, tongue.german)
    return nominal(head, det, number, entry, compound=name)


@cache
def pronoun_choice(column: int, which: str) -> Choice[tuple[str, ...]]:
    """Pronouns, column 0 nominative, 1 accusative; `which` lists the English nominatives."""
    return Choice([p for p in PRONOUNS if p[0] in which.split()], form=lambda p: p[column])


def pronoun(d: Derivation, case: str, which: str = "I you he she we they") -> Nominal:
    """A personal pronoun in the case Nom or Acc."""
    column = 0 if case == "Nom" else 1
    row = d.pick(pronoun_choice(column, which))
    parts = [f"Case={case}", f"Number={row[3]}"]
    parts += [f"Person={row[2]}", "PronType=Prs"] + ([f"Gender={row[4]}"] if row[4] else [])
    head = d.emit(row[column], row[0], "PRON", "PRP", "|".join(sorted(parts)))
    forms = {"nom": row[5], "acc": row[6], "dat": row[7]}
    return Nominal(head, row[2], row[3], row[4], forms, pronoun=True)


NAME_CHOICE = Choice(NAMES, form=lambda n: n[0])


def name(d: Derivation) -> Nominal:
    """A first name, the same in both languages."""
    written, gender = d.pick(NAME_CHOICE)
    head = d.emit(written, written, "PROPN", "NNP", "Number=Sing")
    return Nominal(head, "3", "Sing", gender, dict.fromkeys(("nom", "acc", "dat"), written))


SUBJECT = weighted(pronoun=3, name=2, noun=5)
NO_YOU = "I he she we they"


def subject(d: Derivation, classes: tuple[str, ...] = ("person",), you: bool = False) -> Nominal:
    """A subject; `you`, which hides its number, only where asked for."""
    kind = d.pick(SUBJECT)
    if kind == "pronoun":
        return pronoun(d, "Nom", NO_YOU + " you" if you else NO_YOU)
    if kind == "name":
        return name(d)
    return noun_phrase(d, classes)


def middle(when: str, where: str, *objects: Nominal, case: str = "acc") -> list[str]:
    """The German middle field: pronouns, time, noun phrases, place."""
    short = [o.forms[case] for o in objects if o.pronoun]
    long = [o.forms[case] for o in objects if not o.pronoun]
    return [*short, when, *long, where]


def stop(d: Derivation, head: Token, mark: str = ".") -> None:
    """The final punctuation."""
    d.emit(mark, mark, "PUNCT", ".").attach(head, "punct")
