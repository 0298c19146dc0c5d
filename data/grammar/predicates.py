"""Verb groups and adjuncts: each says its English and returns what German needs."""

from __future__ import annotations

from functools import cache

from . import german
from .derivation import Choice, DeadEnd, Derivation, Token, weighted
from .lexicon import Verb, verbs
from .phrases import Nominal, noun_phrase


@cache
def verb_choice(classes: tuple[str, ...], form: str) -> Choice[Verb]:
    """Verbs of some classes by the English form (lemma, third, past, participle, ing)."""
    return Choice(verbs(*classes), form=lambda v: getattr(v, form))


TENSES = {
    "all": weighted(past=5, present=4, perfect=1.2, modal=2.2, progressive=0.8),
    "simple": weighted(past=1, present=1),
    "past": weighted(past=1),
    "present": weighted(present=1),
    "modal": weighted(modal=1),
    "address": weighted(modal=2, perfect=1),
    "told": weighted(past=3, present=3, modal=1),
}
MODALS = {"can": "können", "must": "müssen", "should": "sollen", "will": "werden"}
MODAL_CHOICE = Choice(MODALS, form=lambda m: m)
THIRD = "Mood=Ind|Number=Sing|Person=3|Tense=Pres|VerbForm=Fin"
PRESENT = "Mood=Ind|Tense=Pres|VerbForm=Fin"
PAST = "Mood=Ind|Tense=Past|VerbForm=Fin"
BE_FORMS = {
    ("present", 0): ("am", "VBP", "Mood=Ind|Number=Sing|Person=1|Tense=Pres|VerbForm=Fin"),
    ("present", 2): ("is", "VBZ", THIRD),
    ("past", 0): ("was", "VBD", "Mood=Ind|Number=Sing|Person=1|Tense=Past|VerbForm=Fin"),
    ("past", 2): ("was", "VBD", "Mood=Ind|Number=Sing|Person=3|Tense=Past|VerbForm=Fin"),
}


def say_be(d: Derivation, tense: str, person: int) -> Token:
    """A form of be for a subject; you are and we are look the same."""
    other = ("are", "VBP", PRESENT) if tense == "present" else ("were", "VBD", PAST)
    form, xpos, feats = BE_FORMS.get((tense, person), other)
    return d.emit(form, "be", "AUX", xpos, feats)


def say_modal(d: Derivation) -> tuple[Token, str]:
    """A modal verb and its German infinitive."""
    modal = d.pick(MODAL_CHOICE)
    return d.emit(modal, modal, "AUX", "MD", "VerbForm=Fin"), MODALS[modal]


def say_infinitive(d: Derivation, classes: tuple[str, ...]) -> tuple[Token, Verb]:
    """A bare infinitive with its particle, if it has one."""
    entry = d.pick(verb_choice(classes, "lemma"))
    head = d.emit(entry.lemma, entry.lemma, "VERB", "VB", "VerbForm=Inf")
    say_particle(d, entry, head)
    return head, entry


def say_particle(d: Derivation, entry: Verb, head: Token) -> None:
    """The particle of a phrasal verb."""
    if entry.particle:
        d.emit(entry.particle, entry.particle, "ADP", "RP").attach(head, "compound:prt")


def check_attested(entry: Verb, tense: str, person: int) -> None:
    """Leave out "is knowing", and keep each German form frequent enough to be learnt.

    In the first person singular only common verbs have a present of their own.
    """
    if tense == "progressive" and "stative" in entry.classes:
        raise DeadEnd
    if person == 0 and tense in ("present", "progressive") and "common" not in entry.classes:
        raise DeadEnd


def verb_group(
    d: Derivation, subject: Nominal, classes: tuple[str, ...], tenses: str = "all"
) -> tuple[Token, german.Verbal]:
    """The English verb group after its subject, and the German one."""
    tense = d.pick(TENSES[tenses])
    third, person = subject.third_singular, subject.german_person
    auxiliary, modal = None, ""
    if tense == "modal":
        auxiliary, modal = say_modal(d)
        form, xpos, feats = "lemma", "VB", "VerbForm=Inf"
    elif tense == "perfect":
        auxiliary = d.emit(
            "has" if third else "have",
            "have",
            "AUX",
            "VBZ" if third else "VBP",
            THIRD if third else PRESENT,
        )
        form, xpos, feats = "participle", "VBN", "Tense=Past|VerbForm=Part"
    elif tense == "progressive":
        auxiliary = say_be(d, "present", person)
        form, xpos, feats = "ing", "VBG", "Tense=Pres|VerbForm=Part"
    elif tense == "past":
        form, xpos, feats = "past", "VBD", PAST
    elif third:
        form, xpos, feats = "third", "VBZ", THIRD
    else:
        form, xpos, feats = "lemma", "VBP", PRESENT
    entry = d.pick(verb_choice(classes, form))
    check_attested(entry, tense, person)
    head = d.emit(getattr(entry, form), entry.lemma, "VERB", xpos, feats)
    say_particle(d, entry, head)
    if auxiliary:
        auxiliary.attach(head, "aux")
    subject.head.attach(head, "nsubj")
    told = "present" if tense == "progressive" else tense
    return head, german.Verbal(entry, told, person, modal)


@cache
def _places() -> Choice[tuple[str, str]]:
    return Choice(
        [("in", "in"), ("behind", "hinter"), ("near", "bei")],
        weight=lambda p: 3.0 if p[0] == "in" else 1.0,
        form=lambda p: p[0],
    )


def place(d: Derivation, head: Token) -> str:
    """In the garden: attached to `head`; the German phrase."""
    english, de = d.pick(_places())
    adposition = d.emit(english, english, "ADP", "IN")
    phrase = noun_phrase(d, ("place",), ("the",), bare=False, adjective="no", number="Sing")
    adposition.attach(phrase.head, "case")
    phrase.head.attach(head, "obl")
    return german.preposition(de, phrase.forms["dat"])


TIMES = {
    "yesterday": "gestern",
    "today": "heute",
    "tomorrow": "morgen",
    "now": "jetzt",
    "again": "wieder",
}


@cache
def _times(tense: str) -> Choice[str]:
    fits = {
        "past": ["yesterday", "today", "again"],
        "modal": ["tomorrow", "today", "again", "now"],
        "perfect": ["again"],
    }
    return Choice(fits.get(tense, ["today", "now", "again"]), form=lambda t: t)


def time(d: Derivation, head: Token, tense: str) -> str:
    """An adverb of time that fits the tense."""
    word = d.pick(_times(tense))
    if word in ("now", "again"):
        d.emit(word, word, "ADV", "RB").attach(head, "advmod")
    else:
        d.emit(word, word, "NOUN", "NN", "Number=Sing").attach(head, "obl:tmod")
    return TIMES[word]


ADJUNCTS = weighted(none=4, place=2, time=1.5, both=0.5)


def adjuncts(d: Derivation, head: Token, verbal: german.Verbal) -> tuple[str, str]:
    """Perhaps a place and a time: the German phrases, time first."""
    kind = d.pick(ADJUNCTS)
    where = place(d, head) if kind in ("place", "both") else ""
    tense = "modal" if verbal.modal else verbal.tense
    when = time(d, head, tense) if kind in ("time", "both") else ""
    return when, where
