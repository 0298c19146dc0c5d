"""Clauses shared by the constructions: a subject, a verb, what the verb asks for, adjuncts."""

from __future__ import annotations

from dataclasses import dataclass

from . import german, phrases
from .derivation import Derivation, Token, weighted
from .german import Verbal
from .phrases import Nominal

# Kind of clause -> classes of the verb, classes of the object (none: intransitive).
FRAMES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "beast": (("beast",), ()),
    "hunt": (("beast-tr",), ("person", "animal")),
    "intransitive": (("walk", "come", "seeable", "hearable"), ()),
    "animate": (("animate", "still-animate"), ("person", "animal")),
    "person": (("person", "ing"), ("person",)),
    "thing": (("thing",), ("thing", "tool")),
    "seen": (("thing",), ("seen", "heard")),
    "text": (("text", "still-text"), ("text",)),
    "food": (("food", "still-food"), ("food",)),
    "beverage": (("beverage",), ("beverage",)),
    "closable": (("closable", "still-closable"), ("closable",)),
}
FRAME = weighted(intransitive=9, animate=5, person=4.5, thing=3, seen=1, text=2, food=2,
                 beverage=0.8, closable=1.8)
EMBEDDED = weighted(intransitive=3, animate=1, person=1, thing=1, food=0.6, text=0.4)
TRANSITIVE = weighted(hunt=1.5, thing=1, food=0.7, text=0.6, closable=0.7)
# An object pronoun "her" could be read as a possessive only before a noun, never at the end.
OBJECT = weighted(pronoun=1, noun=3)


@dataclass
class Clause:
    """A clause that has been said: English head verb, German verb group, middle field."""

    head: Token
    subject: Nominal
    verbal: Verbal
    middle: list[str]
    when: str = ""

    def main(self, front: str = "") -> str:
        """German main clause."""
        return self.verbal.main(self.subject.forms["nom"], self.middle, front)

    def dependent(self) -> str:
        """German verb-final clause."""
        return self.verbal.dependent(self.subject.forms["nom"], self.middle)


def say_object(d: Derivation, head: Token, classes: tuple[str, ...], case: str) -> Nominal:
    """An object: persons and animals may be pronouns."""
    if "person" in classes and d.pick(OBJECT) == "pronoun":
        found = phrases.pronoun(d, "Acc", "I he she we they")
    elif set(classes) & {"food", "beverage"}:
        found = phrases.noun_phrase(d, classes, bare=False, adjective="no")
    else:
        found = phrases.noun_phrase(d, classes)
    found.head.attach(head, "obj")
    return found


def clause(
    d: Derivation,
    subject: Nominal,
    frames: object = FRAME,
    tenses: str = "all",
    extras: bool = True,
    adverb: bool = True,
) -> Clause:
    """Verb group, object and adjuncts after a subject; `extras` False: no adjuncts."""
    verb_classes, object_classes = FRAMES[d.pick(frames)]  # type: ignore[arg-type]
    head, verbal = phrases.verb_group(d, subject, verb_classes, tenses)
    objects = []
    if object_classes:
        objects = [say_object(d, head, object_classes, verbal.verb.case)]
    when, where = phrases.adjuncts(d, head, verbal) if extras else ("", "")
    field = phrases.middle(when, where, *objects, case=verbal.verb.case or "acc")
    return Clause(head, subject, verbal, field, when)


def infinitive(
    d: Derivation, frames: object, particle_deprel: str = "mark"
) -> tuple[Token, german.Verbal, list[str]]:
    """To and an infinitive with its object: English head, German verb, middle field."""
    verb_classes, object_classes = FRAMES[d.pick(frames)]  # type: ignore[arg-type]
    to = d.emit("to", "to", "PART", "TO")
    head, entry = phrases.say_infinitive(d, verb_classes)
    to.attach(head, particle_deprel)
    objects = []
    if object_classes:
        objects = [say_object(d, head, object_classes, entry.case)]
    field = phrases.middle("", "", *objects, case=entry.case or "acc")
    return head, german.Verbal(entry, "present", 2), field
