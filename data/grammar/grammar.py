"""The root of the grammar: constructions and their weights."""

from __future__ import annotations

from collections.abc import Callable

from . import double, far, plain, roles
from .derivation import Choice, Derivation, weighted

CONSTRUCTIONS: dict[str, tuple[Callable[[Derivation], str], float]] = {
    "statement": (plain.statement, 18),
    "address": (plain.address, 3),
    "animal_statement": (plain.animal_statement, 7),
    "fronted": (plain.fronted, 5),
    "yes_no_question": (plain.yes_no_question, 5),
    "wh_question": (plain.wh_question, 5),
    "copula": (plain.copula, 4.5),
    "subordinate": (plain.subordinate, 5),
    "relative": (plain.relative, 4),
    "wish": (plain.wish, 5),
    "put": (plain.put, 1.5),
    "still_verbs": (plain.still_verbs, 4),
    "perception": (double.perception, 7),
    "participle": (double.participle, 5.5),
    "verdict": (double.verdict, 4),
    "enjoy": (double.enjoy, 3),
    "state_or_event": (double.state_or_event, 2.5),
    "content": (double.content, 5),
    "tongue": (double.tongue, 3),
    "gift": (roles.gift, 7),
    "called": (roles.called, 3.5),
    "tool": (roles.tool, 3),
    "doing": (roles.doing, 3.5),
    "purpose": (roles.purpose, 3),
}
ROOT = Choice(CONSTRUCTIONS, weight=lambda name: CONSTRUCTIONS[name][1])


def program(d: Derivation) -> tuple[str, str]:
    """The whole grammar: pick a construction and say it."""
    name = d.pick(ROOT)
    return name, CONSTRUCTIONS[name][0](d)


HALF = weighted(plain=1, far=1)


def far_program(d: Derivation) -> tuple[str, str]:
    """The whole grammar, and in every other sentence a head that decides over a distance."""
    return ("far_relative", far.far_relative(d)) if d.pick(HALF) == "far" else program(d)
