"""The answer that a table gives, first: do features help, is it the linguistics, which method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nmt_feat.analysis.claims import format_p
from nmt_feat.analysis.comparison_tables import ENOUGH
from nmt_feat.analysis.comparisons import Compared, Evidence, Method
from nmt_feat.analysis.render import ReportTable

METRIC = "BLEU"
MOST_NAMES = 6
"""Methods that a sentence names."""
VALUE_CONTROLS = ("shuffled", "resampled", "by_type")
"""Controls whose features have values that mean nothing."""
QUESTION = "Do the features help?"


def make_answer_tables(comparisons: Sequence[Evidence]) -> list[ReportTable]:
    """The answers, without a table, each with its test set where there are several."""
    answers = {evidence.test_name: answer_question(evidence) for evidence in comparisons}
    return [
        ReportTable(QUESTION if len(answers) == 1 else f"{QUESTION} {test_name}", notes=lines)
        for test_name, lines in answers.items()
        if lines
    ]


def answer_question(evidence: Evidence) -> list[str]:
    """One to four sentences on what these methods support, for a reader in a hurry."""
    methods = {method.name: method for method in evidence.methods}
    with_features = [m.name for m in evidence.methods if not m.words_only and not m.control]
    if not with_features:
        return []
    if evidence.baseline is None:
        return ["Unknown: words only is not in this table. Add combiner=none."]
    if not methods[evidence.baseline].words_only:
        return [f"Unknown: the baseline is {evidence.baseline}, not words only."]
    all_compared = evidence.against[METRIC]
    against = {name: all_compared[name] for name in with_features if name in all_compared}
    if not against:
        return ["Unknown: one seed cannot tell. Run more seeds, for instance seed=1,2,3,4,5."]
    lines = [_compare_with_baseline(against, methods[evidence.baseline])]
    best = max(against, key=lambda name: (against[name].sign, against[name].difference.value))
    if against[best].sign > 0:
        lines.append(_compare_with_controls(methods[best], evidence))
    if len(against) > 1:
        lines.append(_compare_methods(list(against), evidence))
    seeds = min(len(methods[name].seeds) for name in (*against, evidence.baseline))
    if seeds < ENOUGH:
        lines.append(f"{seeds} seeds are a first look. A published claim needs {ENOUGH}.")
    return lines


def _compare_with_baseline(against: Mapping[str, Compared], baseline: Method) -> str:
    """Whether a method is above words only, and by how much the best one is."""
    base = "words only" if baseline.name == "none" else f"words only ({baseline.name})"
    ranked = sorted(against, key=lambda name: against[name].difference.value, reverse=True)
    gains = [name for name in ranked if against[name].sign > 0]
    losses = [name for name in ranked if against[name].sign < 0]
    if gains:
        text = f"Yes: {gains[0]} is above {base} ({_amount(against[gains[0]])})."
        rest, others = len(gains) - 1, len(against) - 1
        if others == 1 and rest == 1:
            text += " So is the other method."
        elif rest:
            number = f"all {others}" if rest == others else f"{rest} of the {others}"
            text += f" So {'is' if rest == 1 else 'are'} {number} other methods."
        return text
    if losses:
        text = f"No: {losses[-1]} is below {base} ({_amount(against[losses[-1]])})"
        return f"{text}, and no method is shown to be above it."
    return (
        f"Not shown: no method is shown to differ from {base}. The highest is {ranked[0]} "
        f"({_amount(against[ranked[0]])})."
    )


def _compare_with_controls(best: Method, evidence: Evidence) -> str:
    """Whether the best method is also above itself with values that mean nothing."""
    controls = [
        m.name
        for m in evidence.methods
        if m.control in VALUE_CONTROLS
        and (m.kind, m.features, m.information) == (best.kind, best.features, best.information)
    ]
    if not controls:
        return (
            f"Is it the linguistics? Unknown: {best.name} has no control in this table. Add "
            "control=none,shuffled."
        )
    orders = evidence.orders[METRIC]
    above, unclear = [], []
    for name in controls:
        compared = orders.get((best.name, name))
        if compared is not None and compared.is_supported:
            above.append(f"{name} ({_amount(compared)})")
            continue
        if compared is not None:
            unclear.append(f"{name} ({_amount(compared)})")
        elif (name, best.name) in orders:
            unclear.append(f"{name} ({_amount(orders[name, best.name], -1)})")
        else:
            unclear.append(name)
    meaning = "A control has the same parameters, and feature values that mean nothing."
    if not unclear:
        return f"It is the linguistics: {best.name} is also above {' and '.join(above)}. {meaning}"
    text = f"It may not be the linguistics: {best.name} is not shown to be above "
    text += " or ".join(unclear)
    if above:
        text += f", but it is above {' and '.join(above)}"
    return f"{text}. {meaning}"


def _compare_methods(names: Sequence[str], evidence: Evidence) -> str:
    pairs = [
        f"{one} is above {two} (p {format_p(compared.p, '= ')})"
        for (one, two), compared in evidence.orders[METRIC].items()
        if one in names and two in names and compared.is_supported
    ]
    if not pairs:
        listed = ", ".join(names) if len(names) <= MOST_NAMES else f"the {len(names)} methods"
        return f"Which method is best? Not shown: no order among {listed} is supported."
    return f"Which method is best? Supported: {', '.join(pairs)}."


def _amount(compared: Compared, sign: int = 1) -> str:
    """Value, interval and p; with a sign of -1 those of the second method less the first."""
    difference = compared.difference
    low, high = sorted((sign * difference.low, sign * difference.high))
    return (
        f"{sign * difference.value:+.2f} {METRIC}, 95 % interval {low:+.2f} to {high:+.2f}, "
        f"p {format_p(compared.p, '= ')}"
    )
