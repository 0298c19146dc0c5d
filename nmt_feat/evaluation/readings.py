"""Reading accuracy: how often the meant reading of an ambiguous source text is translated."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from sacrebleu.metrics.chrf import CHRF

from nmt_feat.evaluation.scores import Reading, scored_line


def measure_readings(
    sources: Sequence[str],
    references: Sequence[str],
    hypotheses: Sequence[str],
    features: Sequence[Sequence[str]] | None = None,
) -> Reading:
    """Measure reading accuracy; `features` has a string for each feature of each line.

    Lines with the same source text, unless it is blank, are readings of one another. A hypothesis
    is right if it equals its reference, or if its sentence chrF with the reference is higher than
    with every other reading. Equal chrF is wrong. So if all lines of a source have one output, at
    most 1 of its k readings is right. The features settle a line if no other reading of its source
    has its values.
    """
    lines_of: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for line, (source, reference) in enumerate(zip(sources, references, strict=True)):
        if source.strip():
            lines_of[source][scored_line(reference)].append(line)
    shares: list[float] = []
    settled_shares: list[float] = []
    for readings in lines_of.values():
        if len(readings) < 2:
            continue
        for reference, lines in readings.items():
            rivals = [rival for rival in readings if rival != reference]
            right = {i: _is_right(scored_line(hypotheses[i]), reference, rivals) for i in lines}
            shares.append(sum(right.values()) / len(right))
            if features:
                rival_values = {tuple(features[i]) for rival in rivals for i in readings[rival]}
                settled = [right[i] for i in lines if tuple(features[i]) not in rival_values]
                if settled:
                    settled_shares.append(sum(settled) / len(settled))
    return Reading(
        readings=len(shares),
        accuracy=sum(shares) / len(shares) if shares else None,
        settled=len(settled_shares),
        settled_accuracy=sum(settled_shares) / len(settled_shares) if settled_shares else None,
    )


def _is_right(hypothesis: str, reference: str, rivals: Sequence[str]) -> bool:
    """Whether a hypothesis is nearer to its reference than to those of all rival readings."""
    if hypothesis == reference or hypothesis in rivals:
        return hypothesis == reference
    chrf = CHRF()
    similarity = chrf.sentence_score(hypothesis, [reference]).score
    return all(similarity > chrf.sentence_score(hypothesis, [rival]).score for rival in rivals)
