"""A metric that the program does not have: how many words a translation copies from its source.

python train.py --config-dir=examples 'metrics=[bleu,chrf,copied]'
"""

from collections.abc import Sequence

from nmt_feat.evaluation.metric import SentenceMetric


class Copied(SentenceMetric):
    """The share of a translation's words that stand in its source as well, in per cent."""

    name = "copied %"
    lower_is_better = True

    def score_sentences(
        self, sources: Sequence[str], hypotheses: Sequence[str], references: Sequence[str]
    ) -> list[float]:
        """The share of each sentence; 0 for an empty translation."""
        scores = []
        for source, hypothesis in zip(sources, hypotheses, strict=True):
            source_words, words = set(source.split()), hypothesis.split()
            copied = sum(word in source_words for word in words)
            scores.append(100 * copied / max(len(words), 1))
        return scores
