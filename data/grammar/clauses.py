"""Clauses shared by the constructions: a subject, a verb, what the verb asks for, adjuncts."""

from __future__ import annotations

from dataclasses import dataclass

from . import german, phrases, predicates
from .derivation import Choice, Derivation, Token, weighted
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
    "seen": (("notice",), ("seen", "heard")),
    "text": (("text", "still-text"), ("text",)),
    "food": (("food", "still-food"), ("food",)),
    "beverage": (("beverage",), ("beverage",)),
    "closable": (("closable", "still-closable"), ("closable",)),
}
FRAME = weighted(
    intransitive=9,
    animate=5,
    person=4.5,
    thing=3,
    seen=1,
    text=2,
    food=2,
    beverage=1.5,
    closable=1.8,
)
# For clauses inside others and for a few constructions: fewer kinds keep them short.
EMBEDDED = weighted(intransitive=3, animate=1, person=1, thing=1, food=0.6, text=0.4)
TRANSITIVE = weighted(hunt=1.5, thing=1, food=0.7, text=0.6, closable=0.7)
BEAST = weighted(beast=2, hunt=1)
MATCHING = weighted(intransitive=1, person=1)
ASSERTED = weighted(intransitive=3, person=1, thing=1)
AFTER_RELATIVE = weighted(animate=1, thing=1, person=1)
OBJECT = weighted(pronoun=1, noun=3)


@dataclass
class Clause:
    """A clause that has been said: English head verb, German verb group, middle field."""

    head: Token
    subject: Nominal
    verbal: Verbal
    middle: list[str]

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
    elif classes == ("beverage",):
        found = phrases.noun_phrase(
            d, classes, phrases.MASS, bare=False, adjective="no", number="Sing"
        )
    elif classes == ("food",):
        found = phrases.noun_phrase(d, classes, bare=False, adjective="no")
    else:
        found = phrases.noun_phrase(d, classes)
    found.head.attach(head, "obj")
    return found


def clause(
    d: Derivation,
    subject: Nominal,
    frames: Choice[str] = FRAME,
    tenses: str = "all",
    extras: bool = True,
) -> Clause:
    """Verb group, object and adjuncts after a subject; `extras` False: no adjuncts."""
    verb_classes, object_classes = FRAMES[d.pick(frames)]
    head, verbal = predicates.verb_group(d, subject, verb_classes, tenses)
    objects = []
    if object_classes:
        objects = [say_object(d, head, object_classes, verbal.verb.case)]
    when, where = predicates.adjuncts(d, head, verbal) if extras else ("", "")
    field = phrases.middle(when, where, *objects, case=verbal.verb.case or "acc")
    return Clause(head, subject, verbal, field)


def infinitive(d: Derivation, frames: Choice[str]) -> tuple[Token, german.Verbal, list[str]]:
    """To and an infinitive with its object: English head, German verb, middle field."""
    verb_classes, object_classes = FRAMES[d.pick(frames)]
    to = d.emit("to", "to", "PART", "TO")
    head, entry = predicates.say_infinitive(d, verb_classes)
    to.attach(head, "mark")
    objects = []
    if object_classes:
        objects = [say_object(d, head, object_classes, entry.case)]
    field = phrases.middle("", "", *objects, case=entry.case or "acc")
    return head, german.Verbal(entry, "present", 2), field
