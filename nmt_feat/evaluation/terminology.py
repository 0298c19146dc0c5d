"""Metrics of terms: whether translations use those of a glossary, and BLEU without terms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nmt_feat.annotators.texts import lemmatize_texts, make_annotators
from nmt_feat.config.data_schema import AnnotatorConfig
from nmt_feat.errors import UserError
from nmt_feat.evaluation.forms import Statistics
from nmt_feat.evaluation.languages import Scoring
from nmt_feat.evaluation.metric import Metric
from nmt_feat.evaluation.sacrebleu_metrics import BLEU
from nmt_feat.text.files import hash_content
from nmt_feat.text.glossary import Glossary, count_tokens, split_tokens


class TermMetric(Metric):
    """A metric that knows the terms of each source.

    Args:
        scoring: how translations into the target language are scored.
        glossary: file of terms; default `data.terminology.glossary`.
    """

    def __init__(self, scoring: Scoring, glossary: str | None = None) -> None:
        super().__init__(scoring)
        glossary = glossary or scoring.glossary
        if glossary is None:
            option = self.name.lower().replace(" ", "_")
            raise UserError(
                f"metrics: {self.name} needs a glossary; set data.terminology.glossary=FILE, with "
                "data.terminology.mode=none if terms should not be written into the text, or "
                f"+metrics.{option}.args.glossary=FILE"
            )
        self.glossary = Glossary.read(glossary)
        self._glossary_hash = hash_content(glossary, content=True)[:8]

    @classmethod
    def identify_args(cls, args: Mapping[str, Any], scoring: Scoring) -> dict[str, Any]:
        """With the glossary's hash, whether the metric has one of its own or the corpus's."""
        glossary = args.get("glossary") or scoring.glossary
        content = {"glossary": hash_content(str(glossary), content=True)} if glossary else {}
        return super().identify_args(args, scoring) | content

    @property
    def signature(self) -> str:
        """The glossary's hash: only scores by the same glossary can be compared."""
        return f"glossary:{self._glossary_hash}"


class TermSuccess(TermMetric):
    """Term success rate: the percentage of the reference's terms that are in the translation.

    Dinu et al. (2019) call it term use rate. A term that the source has n times, and whose
    translation the reference has m times, counts min(n, m) times. Both are looked up as the
    glossary writes them.
    """

    name = "term success"

    def measure_sentences(
        self, sources: Sequence[str], hypotheses: Sequence[str], references: Sequence[str]
    ) -> Statistics:
        """For each sentence, 100 times the number of right terms, and the number of terms."""
        targets = sorted({term.target for term in self.glossary.terms})
        words_of = dict(zip(targets, self.split_texts(targets), strict=True))
        words_of_texts = map(self.split_texts, (hypotheses, references))
        rows = []
        for source, hypothesis, reference in zip(sources, *words_of_texts, strict=True):
            counts = Counter(match.term.target for match in self.glossary.find_terms(source))
            right = total = 0
            for target, count in counts.items():
                expected = min(count, count_tokens(reference, words_of[target]))
                total += expected
                right += min(expected, count_tokens(hypothesis, words_of[target]))
            rows.append((100.0 * right, float(total)))
        return np.array(rows).reshape(-1, 2)

    def split_texts(self, texts: Sequence[str]) -> list[tuple[str, ...]]:
        """The words of translations, references and terms, as they are compared."""
        return [split_tokens(text) for text in texts]


class TermSuccessByLemma(TermSuccess):
    """Term success rate by lemmas of the target language: another form counts as right.

    Args:
        scoring, glossary: see `TermMetric`.
        annotator: class of the annotator.
        model: its model, as in `annotator.model`.
        args: further arguments of the class; default the code of the target language.
    """

    name = "term success by lemma"

    def __init__(
        self,
        scoring: Scoring,
        glossary: str | None = None,
        annotator: str = "nmt_feat.annotators.Simplemma",
        model: str | None = None,
        args: dict[str, object] | None = None,
    ) -> None:
        super().__init__(scoring, glossary)
        args = {"language": scoring.language} if args is None else args
        settings = AnnotatorConfig(_target_=annotator, model=model, args=args)
        (self.annotator,) = make_annotators(settings).values()

    @property
    def signature(self) -> str:
        """The glossary's hash, and the annotator."""
        return f"{super().signature}|lemmas:{self.annotator.name}"

    def split_texts(self, texts: Sequence[str]) -> list[tuple[str, ...]]:
        """The lemmas of the words."""
        return lemmatize_texts(self.annotator, texts)


class BLEUWithoutTerms(TermMetric):
    """BLEU on the sentences whose source has no term of the glossary."""

    name, form = "BLEU without terms", "bleu"

    def __init__(self, scoring: Scoring, glossary: str | None = None) -> None:
        super().__init__(scoring, glossary)
        self.bleu = BLEU(scoring)

    @property
    def signature(self) -> str:
        """The signature of BLEU, and the glossary's hash."""
        return f"{self.bleu.signature}|{super().signature}"

    def measure_sentences(
        self, sources: Sequence[str], hypotheses: Sequence[str], references: Sequence[str]
    ) -> Statistics:
        """BLEU's counts of each sentence; a sentence with a term has zeros and adds nothing."""
        counts = self.bleu.measure_sentences(sources, hypotheses, references)
        has_term = np.array([bool(self.glossary.find_terms(source)) for source in sources])
        return np.where(has_term[:, None], 0, counts)

    def score_corpus(self, statistics: Statistics) -> float:
        """BLEU of the sentences without terms; 0 if all have terms."""
        return self.bleu.score_corpus(statistics) if statistics.any() else 0.0
