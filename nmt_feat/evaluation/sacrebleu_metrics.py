"""sacreBLEU's metrics (Post 2018), with the scores and signatures of its command."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from sacrebleu.metrics.bleu import BLEU as SacreBLEU
from sacrebleu.metrics.chrf import CHRF as SacreCHRF
from sacrebleu.metrics.ter import TER as SacreTER

from nmt_feat.base.terminal import silence_logger
from nmt_feat.errors import UserError
from nmt_feat.evaluation.forms import Statistics
from nmt_feat.evaluation.languages import Scoring
from nmt_feat.evaluation.metric import Metric
from nmt_feat.evaluation.scores import make_scorers


class SacreBLEUMetric(Metric):
    """A metric of sacreBLEU: its counts are each sentence's statistics."""

    scorer: Any

    @property
    def signature(self) -> str:
        """The signature of sacreBLEU."""
        # Otherwise the scorer knows the number of references only after it has scored.
        self.scorer.num_refs = 1
        signature: str = self.scorer.get_signature().format()
        return signature

    def measure_sentences(
        self, sources: Sequence[str], hypotheses: Sequence[str], references: Sequence[str]
    ) -> Statistics:
        """The counts of each sentence."""
        return np.array(self.scorer._extract_corpus_statistics(hypotheses, [references]))

    def score_corpus(self, statistics: Statistics) -> float:
        """The same as `corpus_score` of sacreBLEU."""
        return float(self.scorer._aggregate_and_compute(statistics.tolist()).score)


class BLEU(SacreBLEUMetric):
    """BLEU (Papineni et al. 2002), with the tokeniser of the target language."""

    name, form = "BLEU", "bleu"

    def __init__(self, scoring: Scoring) -> None:
        super().__init__(scoring)
        self.scorer = make_scorers(scoring)[0]


class ChrF(SacreBLEUMetric):
    """chrF (Popović 2015): n-grams of characters."""

    name, form = "chrF", "chrf"

    def __init__(self, scoring: Scoring) -> None:
        super().__init__(scoring)
        self.scorer = SacreCHRF(lowercase=scoring.tokenized)


class ChrFPlusPlus(SacreBLEUMetric):
    """chrF++ (Popović 2017): n-grams of characters, and of one and two words."""

    name, form = "chrF++", "chrf"

    def __init__(self, scoring: Scoring) -> None:
        super().__init__(scoring)
        self.scorer = SacreCHRF(word_order=2, lowercase=scoring.tokenized)


class TER(SacreBLEUMetric):
    """TER (Snover et al. 2006): edits for each 100 words of the reference, without case.

    For Chinese and Japanese it counts characters: `--ter-normalized --ter-asian-support`. It is
    slower than other metrics: about a second for 1,000 sentences.
    """

    name, lower_is_better = "TER", True

    def __init__(self, scoring: Scoring) -> None:
        super().__init__(scoring)
        self.scorer = SacreTER(normalized=scoring.asian, asian_support=scoring.asian)

    def measure_sentences(
        self, sources: Sequence[str], hypotheses: Sequence[str], references: Sequence[str]
    ) -> Statistics:
        """100 times the edits, and the words of the reference."""
        return super().measure_sentences(sources, hypotheses, references) * [100, 1]

    def score_corpus(self, statistics: Statistics) -> float:
        """The same as `corpus_score` of sacreBLEU."""
        return super().score_corpus(statistics / [100, 1])


class SpBLEU(SacreBLEUMetric):
    """spBLEU (Goyal et al. 2022): BLEU on the subwords of FLORES-200, for any language.

    sacreBLEU fetches the subword model when it is first used.
    """

    name, form = "spBLEU", "bleu"

    def __init__(self, scoring: Scoring) -> None:
        super().__init__(scoring)
        try:
            with silence_logger("sacrebleu"), contextlib.redirect_stderr(io.StringIO()):
                self.scorer = SacreBLEU(tokenize="flores200", force=True)
        except (Exception, SystemExit) as error:  # sacreBLEU exits if a download fails
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UserError(
                "metrics=spbleu: sacreBLEU cannot fetch the subword model of FLORES-200 "
                f"({reason}); with a network, do: "
                "echo a | sacrebleu --tokenize flores200 <(echo a)"
            ) from None
