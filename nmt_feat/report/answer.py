"""The answer that a table gives, first: do features help, is it the linguistics, which method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nmt_feat.report.claims import p_value
from nmt_feat.report.evidence import ENOUGH, Compared, Evidence, Method
from nmt_feat.report.formats import Block

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
    best = max(against, key=lambda name: against[name].difference.value)
    supported = {name: compared for name, compared in against.items() if compared.supported}
    lines = [_do_features_help(best, against, supported, evidence.baseline)]
    if supported:
        best = max(supported, key=lambda name: supported[name].difference.value)
        lines.append(_is_it_the_linguistics(methods[best], evidence))
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


def _do_features_help(
    best: str, against: Mapping[str, Compared], supported: Mapping[str, Compared], baseline: str
) -> str:
    gains = {name: c for name, c in supported.items() if c.difference.value > 0}
    if gains:
        top = max(gains, key=lambda name: gains[name].difference.value)
        others = f", as are {len(gains) - 1} more of {len(against)} methods"
        rest = others * (len(gains) > 2) + ", as is one more method" * (len(gains) == 2)
        return (
            f"Do features help? Yes: {top} is above {baseline} by {_amount(gains[top])}"
            f"{rest if len(against) > 1 else ''}."
        )
    if supported:
        worst = min(supported, key=lambda name: supported[name].difference.value)
        return (
            f"Do features help? No: {worst} differs from {baseline} by {_amount(supported[worst])}"
            ", and no method is shown to be above it."
        )
    return (
        f"Do features help? Not shown: {best}, the highest, differs from {baseline} by "
        f"{_amount(against[best])}."
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
