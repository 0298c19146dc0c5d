"""The answer that a table gives, first: do features help, is it the linguistics, which method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nmt_feat.analysis.claims import p_value
from nmt_feat.analysis.comparisons import ENOUGH, Compared, Evidence, Method
from nmt_feat.analysis.render import Block

METRIC = "BLEU"
MOST_NAMES = 6
"""Methods that a sentence names."""
VALUE_CONTROLS = ("shuffled", "resampled", "by_type")
"""Controls whose features have values that mean nothing."""


def answer(evidence: Evidence) -> list[str]:
    """Two to four sentences on what these methods support, for a reader in a hurry."""
    methods = {method.name: method for method in evidence.methods}
    with_features = [m for m in evidence.methods if not m.words_only and not m.control]
    if not with_features:
        return []
    if evidence.baseline is None:
        return ["Do features help? Not known: words only (combiner=none) is not in this table."]
    against = {
        m.name: evidence.against[METRIC][m.name]
        for m in with_features
        if m.name in evidence.against[METRIC]
    }
    if not against:
        return [
            "Do features help? Not shown: one seed supports no claim. Run more seeds, for instance "
            "seed=1,2,3,4,5."
        ]
    gains = {n: c for n, c in against.items() if c.supported and c.difference.value > 0}
    lines = [_do_features_help(against, gains, evidence.baseline)]
    if gains:
        lines.append(_is_it_the_linguistics(methods[_highest(gains)], evidence))
    if len(against) > 1:
        lines.append(_which_method(list(against), evidence))
    seeds = min(len(methods[name].seeds) for name in (*against, evidence.baseline))
    if seeds < ENOUGH:
        lines.append(f"With {seeds} seeds this is a first look: a claim needs {ENOUGH}.")
    return lines


def answer_blocks(evidence: Sequence[Evidence]) -> list[Block]:
    """The answers as one part of a report, each with its test set where there are several."""
    answers = {each.where: answer(each) for each in evidence}
    title = "What this table says"
    if len(answers) == 1:
        return [Block(title, notes=lines) for lines in answers.values() if lines]
    return [Block(f"{title}: {where}", notes=lines) for where, lines in answers.items() if lines]


def _highest(compared: Mapping[str, Compared]) -> str:
    """The method with the largest difference."""
    return max(compared, key=lambda name: compared[name].difference.value)


def _do_features_help(
    against: Mapping[str, Compared], gains: Mapping[str, Compared], baseline: str
) -> str:
    """The first question's answer, from all methods and from those shown to be above words only."""
    if gains:
        top = _highest(gains)
        others = len(gains) - 1
        rest = ""
        if others == 1:
            rest = ", as is one more method"
        elif others > 1:
            rest = f", as are {others} more of {len(against)} methods"
        return f"Do features help? Yes: {top} is above {baseline} by {_amount(gains[top])}{rest}."
    if losses := {name: c for name, c in against.items() if c.supported}:
        worst = min(losses, key=lambda name: losses[name].difference.value)
        return (
            f"Do features help? No: {worst} differs from {baseline} by {_amount(losses[worst])}"
            ", and no method is shown to be above it."
        )
    top = _highest(against)
    return (
        f"Do features help? Not shown: {top}, the highest, differs from {baseline} by "
        f"{_amount(against[top])}."
    )


def _is_it_the_linguistics(best: Method, evidence: Evidence) -> str:
    controls = [
        m
        for m in evidence.methods
        if m.control in VALUE_CONTROLS and m.kind == best.kind and m.features == best.features
    ]
    question = "Is it the linguistics?"
    if not controls:
        return (
            f"{question} Not known: {best.name} has no control in this table; add one with "
            "control=none,shuffled."
        )
    orders = evidence.orders[METRIC]
    sentences = []
    for control in controls:
        pair = (best.name, control.name)
        if pair in orders and orders[pair].supported:
            sentences.append(f"{best.name} is above {control.name} by {_amount(orders[pair])}")
        else:
            compared = orders.get(pair) or orders.get((control.name, best.name))
            amount = "" if compared is None else f" ({_amount(compared)})"
            sentences.append(f"{best.name} is not shown to be above {control.name}{amount}")
    shown = all(
        (best.name, c.name) in orders and orders[best.name, c.name].supported for c in controls
    )
    return f"{question} {'Yes' if shown else 'Not shown'}: {'; '.join(sentences)}."


def _which_method(names: Sequence[str], evidence: Evidence) -> str:
    pairs = [
        f"{one} above {other} (p {p_value(compared.p, '= ')})"
        for (one, other), compared in evidence.orders[METRIC].items()
        if one in names and other in names and compared.supported
    ]
    if not pairs:
        listed = ", ".join(names) if len(names) <= MOST_NAMES else f"the {len(names)} methods"
        return f"Which method? Not shown: no order among {listed} is supported."
    return f"Which method? Supported: {', '.join(pairs)}."


def _amount(compared: Compared) -> str:
    difference = compared.difference
    return (
        f"{difference.value:+.2f} {METRIC} (95 % interval {difference.low:+.2f} to "
        f"{difference.high:+.2f}, p {p_value(compared.p, '= ')})"
    )
