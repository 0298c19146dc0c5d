"""Terms of a glossary in a corpus: write their translations into the source texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from nmt_feat.annotators.base import Annotator
from nmt_feat.annotators.texts import fingerprint_of, lemmatize_texts, make_annotator
from nmt_feat.base.pool import Pool
from nmt_feat.config.data_schema import TerminologyConfig
from nmt_feat.data import sentence_tables as tables
from nmt_feat.data.corpora import RawCorpus
from nmt_feat.errors import UserError, short_repr
from nmt_feat.features.dials import splitmix64
from nmt_feat.features.kind import FeatureKind
from nmt_feat.text.conllu import Sentence
from nmt_feat.text.files import hash_content
from nmt_feat.text.glossary import Glossary, Occurrence, contains_tokens, split_tokens
from nmt_feat.text.sentences import ORIGINAL, Sentences
from nmt_feat.text.term_insertion import COLUMN, Insertion, has_mark


@dataclass(frozen=True)
class TargetLemmas:
    """An annotator of the target language, and the lemmas of a glossary's translations."""

    annotator: Annotator
    lemmas: Mapping[str, tuple[str, ...]]
    """By translation, in lower case."""

    @classmethod
    def of(cls, annotator: Annotator, glossary: Glossary) -> TargetLemmas:
        """Annotate the translations of a glossary."""
        targets = sorted({term.target for term in glossary.terms})
        rows = zip(targets, lemmatize_texts(annotator, targets), strict=True)
        return cls(annotator, dict(rows))

    def find_translations(self, text: str, translations: Iterable[str]) -> set[str]:
        """The translations that stand in a text, in any form."""
        (lemmas,) = lemmatize_texts(self.annotator, [text])
        return {t for t in translations if contains_tokens(lemmas, self.lemmas[t])}


@dataclass(frozen=True)
class Terminology:
    """The terms of a glossary, and how they are written into sentences."""

    glossary: Glossary
    insertion: Insertion
    needs_lemmas: bool = False
    share: float = 1.0
    other_targets: Mapping[str, str] | None = None
    """For the control: by source term, the translation of another term."""
    target_lemmas: TargetLemmas | None = None
    """With these, a translation may stand in the target in another form."""

    @classmethod
    def of(cls, settings: TerminologyConfig, glossary: Glossary) -> Terminology:
        """The terms of a glossary, to be written as the settings say."""
        tags = tuple(settings.tags) if settings.marking == "tags" else ()
        return cls(
            glossary,
            Insertion(settings.mode == "append", tags),
            settings.match == "lemma",
            settings.share,
            glossary.exchange_targets() if settings.shuffled else None,
        )

    @classmethod
    def read(cls, settings: TerminologyConfig, path: Path | str) -> Terminology:
        """The terms of a glossary in a file.

        Raises:
            UserError: if the file is not a glossary, or if a translation contains a tag.
        """
        terminology = cls.of(settings, Glossary.read(path))
        for term in terminology.glossary.terms:
            where = f"{path}: the translation of {short_repr(term.source)}"
            terminology.insertion.refuse_tags(term.target, where)
        return terminology

    def has_marks(self, sentence: Sentence) -> bool:
        """Whether a sentence has marks already, which then stay."""
        return not self.insertion.tags and any(has_mark(word) for word in sentence.words)

    def find_terms(self, sentence: Sentence) -> list[Occurrence]:
        """The terms of a source sentence."""
        words = sentence.words if self.needs_lemmas else ()
        spans, lemmas = [(word.start, word.end) for word in words], [word.lemma for word in words]
        return self.glossary.find_terms(sentence.text, spans, lemmas)

    def choose_terms(self, sentence: Sentence, target: str, row: int) -> list[Occurrence]:
        """The terms of a training pair whose translations stand in its target.

        Only a random `share` of the pairs gets terms; `row`, the pair's index in the corpus,
        decides.
        """
        # The draw depends only on the row, so the pairs of a larger share include those of a
        # smaller one.
        draw = float(splitmix64(np.array([row], np.uint64))[0]) / 2**64
        if draw >= self.share or not (occurrences := self.find_terms(sentence)):
            return []
        tokens = split_tokens(target)
        sought = {o.term.target for o in occurrences}
        present = {text for text in sought if contains_tokens(tokens, split_tokens(text))}
        if self.target_lemmas is not None:
            present |= self.target_lemmas.find_translations(target, sought - present)
        return [o for o in occurrences if o.term.target in present]

    def write_terms(
        self, sentence: Sentence, occurrences: list[Occurrence], where: str
    ) -> Sentence:
        """Write the translations of these terms into a sentence; `where` names it in errors."""
        self.insertion.refuse_tags(sentence.text, where)
        if self.other_targets is not None:
            targets = self.other_targets
            occurrences = [
                o._replace(term=o.term._replace(target=targets[o.term.source])) for o in occurrences
            ]
        return self.insertion.write_terms(sentence, occurrences)

    def write_all_terms(self, sentence: Sentence, where: str) -> Sentence:
        """Write the translations of all its terms into a sentence, unless it has marks already.

        Then its other words are marked as words of no term.
        """
        occurrences = [] if self.has_marks(sentence) else self.find_terms(sentence)
        return self.write_terms(sentence, occurrences, where)


def identify_terminology(settings: TerminologyConfig) -> dict[str, Any]:
    """The settings of terms that determine the texts, for a hash; empty if no terms are written."""
    if not settings.is_applied:
        return {}
    return describe_settings(settings) | {
        "glossary": hash_content(str(settings.glossary), content=True)
    }


def describe_settings(settings: TerminologyConfig) -> dict[str, Any]:
    """The settings that take effect, apart from the glossary."""
    names = ["mode", "marking", "match", "share", *(["tags"] if settings.marking == "tags" else [])]
    described = {name: getattr(settings, name) for name in names}
    if settings.shuffled:
        described["shuffled"] = True
    if annotator := make_annotator(settings.target_lemmas):
        described["target_lemmas"] = fingerprint_of(annotator)
    return described


def without_marks(
    kinds: Mapping[str, FeatureKind], settings: TerminologyConfig
) -> dict[str, FeatureKind]:
    """The features without those that read marks of terms, which need no annotation."""
    if not settings.marks_words:
        return dict(kinds)
    return {name: kind for name, kind in kinds.items() if kind.annotation_column != COLUMN}


def write_terms(corpus: RawCorpus, settings: TerminologyConfig, folder: Path, pool: Pool) -> None:
    """Write terms into the sources of all splits, and note how many.

    The new sources are tables in `folder`.
    """
    terminology = Terminology.read(settings, str(settings.glossary))
    if annotator := make_annotator(settings.target_lemmas):
        target_lemmas = TargetLemmas.of(annotator, terminology.glossary)
        terminology = replace(terminology, target_lemmas=target_lemmas)
    for split in corpus.splits:
        is_train = split is corpus.train
        work = partial(write_terms_of_rows, terminology, is_train, split.source_path)
        out = folder / f"{split.name}.terms.arrow"
        split.source, counts = tables.merge(work, [split.target, split.source], out, pool)
        terms, sentences, marked = (sum(column) for column in zip(*counts, strict=True))
        if is_train and not terms and not marked:
            raise UserError(
                f"data.terminology.glossary={settings.glossary}: no pair of train has a term and "
                "its translation as they are written; give another glossary, or leave it out"
            )
        corpus.notes.append(
            f"{split.name}: the translations of {terms:,} terms are written into {sentences:,} of "
            f"{len(split.source):,} sentences"
            + (f"; {marked:,} sentences keep their marks" if marked else "")
        )


def write_terms_of_rows(
    terminology: Terminology, is_train: bool, path: str, parts: list[Sentences], first_row: int
) -> tuple[Sentences, tuple[int, int, int]]:
    """Write terms into the sources of some pairs; a sentence with marks keeps them.

    Args:
        terminology: the terms.
        is_train: whether only terms count whose translation stands in the target.
        path: the file of the sources, for errors.
        parts: the targets and the sources of the pairs.
        first_row: the index of the first pair in the corpus.

    Returns:
        The new sources; how many terms are written, into how many sentences, and how many
        sentences have marks of their own.
    """
    targets, sources = parts
    sentences, counts, marked_count = [], [], 0
    pairs = zip(sources, targets.texts, strict=True)
    for row, (sentence, target) in enumerate(pairs, first_row):
        if terminology.has_marks(sentence):
            occurrences, marked_count = [], marked_count + 1
        elif is_train:
            occurrences = terminology.choose_terms(sentence, target, row)
        else:
            occurrences = terminology.find_terms(sentence)
        where = f"{path}: sentence {row + 1}"
        sentences.append(terminology.write_terms(sentence, occurrences, where))
        counts.append(len(occurrences))
    marked = () if terminology.insertion.tags else ("misc",)
    written = Sentences.of(sentences, sorted({*sources.annotation, *marked}), sources.labels)
    # Scores and reports are about the text as it was.
    originals = {ORIGINAL: pa.array(sources.texts, pa.string())}
    written = replace(written, labels=written.labels | originals)
    return written, (sum(counts), int(np.count_nonzero(counts)), marked_count)
