"""Metrics that a user might write, right and wrong."""

from __future__ import annotations

from collections.abc import Sequence

from nmt_feat.evaluation.languages import Scoring
from nmt_feat.evaluation.metric import SentenceMetric


class Calls(SentenceMetric):
    """Its score is how often it was asked, the lower the better: the first validation is best."""

    name = "calls"
    lower_is_better = True
    asked = 0

    def score_sentences(
        self, sources: Sequence[str], hypotheses: Sequence[str], references: Sequence[str]
    ) -> list[float]:
        """As often as any object of the class was asked."""
        Calls.asked += 1
        return [float(Calls.asked)] * len(sources)


class Wrong(SentenceMetric):
    """Gives what is asked for, in place of a score of each sentence."""

    def __init__(
        self, scoring: Scoring, scores: str = "none", name: str = "wrong", form: str = "mean"
    ) -> None:
        super().__init__(scoring)
        self.scores, self.name, self.form = scores, name, form

    def score_sentences(
        self, sources: Sequence[str], hypotheses: Sequence[str], references: Sequence[str]
    ) -> list[float]:
        """Too few, one that is no number, or an error."""
        if self.scores == "error":
            return [1 / 0]
        return [float("nan")] * len(sources) if self.scores == "nan" else []
