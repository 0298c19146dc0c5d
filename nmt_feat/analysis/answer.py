"""The answer at the head of a report: do features help, is it the linguistics, which method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nmt_feat.analysis.claims import format_p
from nmt_feat.analysis.comparison_tables import ENOUGH_SEEDS
from nmt_feat.analysis.comparisons import CorrectedDifference, Evidence
from nmt_feat.analysis.method_runs import MethodRuns
from nmt_feat.analysis.render import ReportTable
from nmt_feat.data.controls import CONTROLS

MOST_NAMES = 6
"""The most methods that a sentence names."""
QUESTION = "Do the features help?"


def make_answer_tables(comparisons: Sequence[Evidence]) -> list[ReportTable]:
    """The answer as notes without a table; with several test sets, one for each."""
    answers = {evidence.test_name: answer_question(evidence) for evidence in comparisons}
    return [
        ReportTable(QUESTION if len(answers) == 1 else f"{QUESTION} {test_name}", notes=lines)
        for test_name, lines in answers.items()
        if lines
    ]


def answer_question(evidence: Evidence) -> list[str]:
    """One to four sentences on what these methods support, for a reader in a hurry."""
    methods = {method.name: method for method in evidence.methods}
    with_features = [
        m.name for m in evidence.methods if not m.words_only and not m.control and not m.is_ensemble
    ]
    if not with_features:
        return []
    if evidence.baseline is None:
        return ["Unknown: words only is not in this table. Add combiner=none."]
    if not methods[evidence.baseline].words_only:
        return [f"Unknown: the baseline is {evidence.baseline}, not words only."]
    metric = evidence.metric
    differences, direction = evidence.against[metric], direction_of(evidence)
    against = {name: differences[name] for name in with_features if name in differences}
    if not against:
        return ["Unknown: one seed cannot tell. Run more seeds, for instance seed=1,2,3,4,5."]
    lines = [_compare_with_baseline(against, methods[evidence.baseline], metric, direction)]

    def rank(name: str) -> tuple[float, float]:
        return direction * against[name].sign, direction * against[name].difference.value

    best = max(against, key=rank)
    if direction * against[best].sign > 0:
        lines.append(_compare_with_controls(methods[best], evidence))
    if len(against) > 1:
        lines.append(_compare_methods(list(against), evidence))
    seeds = min(len(methods[name].seeds) for name in (*against, evidence.baseline))
    if seeds < ENOUGH_SEEDS:
        lines.append(f"{seeds} seeds are a first look. A published claim needs {ENOUGH_SEEDS}.")
    return lines


def direction_of(evidence: Evidence) -> int:
    """1 if a higher score is better, else -1."""
    return -1 if evidence.lower_is_better(evidence.metric) else 1


def _compare_with_baseline(
    against: Mapping[str, CorrectedDifference], baseline: MethodRuns, metric: str, direction: int
) -> str:
    """Whether a method is better than words only, and by how much the best one is."""
    better, worse = ("above", "below") if direction > 0 else ("below", "above")
    base = "words only" if baseline.name == "none" else f"words only ({baseline.name})"
    values = {name: direction * compared.difference.value for name, compared in against.items()}
    ranked = sorted(against, key=lambda name: values[name], reverse=True)
    gains = [name for name in ranked if direction * against[name].sign > 0]
    losses = [name for name in ranked if direction * against[name].sign < 0]
    if gains:
        text = f"Yes: {gains[0]} is {better} {base} ({_amount(against[gains[0]], metric)})."
        further_gains, further_methods = len(gains) - 1, len(against) - 1
        if further_methods == 1 and further_gains == 1:
            text += " So is the other method."
        elif further_gains:
            number = f"{further_gains} of the {further_methods}"
            if further_gains == further_methods:
                number = f"all {further_methods}"
            text += f" So {'is' if further_gains == 1 else 'are'} {number} other methods."
        return text
    if losses:
        text = f"No: {losses[-1]} is {worse} {base} ({_amount(against[losses[-1]], metric)})"
        return f"{text}, and no method is shown to be {better} it."
    extreme = "nearest to it"
    if values[ranked[0]] > 0:
        extreme = "highest" if direction > 0 else "lowest"
    return (
        f"Not shown: no method is shown to differ from {base}. The {extreme} is {ranked[0]} "
        f"({_amount(against[ranked[0]], metric)})."
    )


def _compare_with_controls(best: MethodRuns, evidence: Evidence) -> str:
    """Whether the best method is also better than its controls, whose values mean nothing."""
    controls = [
        m.name
        for m in evidence.methods
        if m.control in CONTROLS
        and (m.kind, m.features, m.information) == (best.kind, best.features, best.information)
    ]
    if not controls:
        return (
            f"Is it the linguistics? Unknown: {best.name} has no control in this table. Add "
            "control=none,shuffled."
        )
    orders, metric = evidence.orders[evidence.metric], evidence.metric
    direction = direction_of(evidence)
    better = "above" if direction > 0 else "below"
    above, unclear = [], []
    for name in controls:
        sign = 1 if (best.name, name) in orders else -1
        compared = orders.get((best.name, name) if sign > 0 else (name, best.name))
        if compared is None:
            unclear.append(name)
        elif compared.is_supported and sign == direction:
            above.append(f"{name} ({_amount(compared, metric, sign)})")
        else:
            unclear.append(f"{name} ({_amount(compared, metric, sign)})")
    meaning = "A control has the same parameters, and feature values that mean nothing."
    if not unclear:
        names = " and ".join(above)
        return f"It is the linguistics: {best.name} is also {better} {names}. {meaning}"
    text = f"It may not be the linguistics: {best.name} is not shown to be {better} "
    text += " or ".join(unclear)
    if above:
        text += f", but it is {better} {' and '.join(above)}"
    return f"{text}. {meaning}"


def _compare_methods(names: Sequence[str], evidence: Evidence) -> str:
    direction = direction_of(evidence)
    better = "above" if direction > 0 else "below"
    pairs = []
    for (one, two), compared in evidence.orders[evidence.metric].items():
        if one in names and two in names and compared.is_supported:
            # The first has the higher score; where a lower one is better, the second wins.
            winner, loser = (one, two) if direction > 0 else (two, one)
            pairs.append(f"{winner} is {better} {loser} (p {format_p(compared.p, '= ')})")
    if not pairs:
        listed = ", ".join(names) if len(names) <= MOST_NAMES else f"the {len(names)} methods"
        return f"Which method is best? Not shown: no order among {listed} is supported."
    return f"Which method is best? Supported: {', '.join(pairs)}."


def _amount(compared: CorrectedDifference, metric: str, sign: int = 1) -> str:
    """Value, interval and p; a sign of -1 subtracts in the other direction."""
    difference = compared.difference
    low, high = sorted((sign * difference.low, sign * difference.high))
    return (
        f"{sign * difference.value:+.2f} {metric}, 95 % interval {low:+.2f} to {high:+.2f}, "
        f"p {format_p(compared.p, '= ')}"
    )
