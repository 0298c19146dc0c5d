"""Annotates the text that a trained run reads as its training text was annotated."""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Mapping
from itertools import chain
from pathlib import Path

from nmt_feat.annotators.base import Annotator
from nmt_feat.annotators.texts import annotate_texts, fingerprint_of, make_annotators
from nmt_feat.base.terminal import say
from nmt_feat.config.data_schema import AnnotatorConfig
from nmt_feat.config.schema import TrainConfig
from nmt_feat.data.alignment import SourceEncoder
from nmt_feat.data.annotated_text import refuse_lacking
from nmt_feat.data.identity import uses_annotation
from nmt_feat.data.terminology import without_marks
from nmt_feat.errors import UserError
from nmt_feat.features.kind import FeatureKind
from nmt_feat.runs.setup.artifacts import FINGERPRINT, annotator_folder
from nmt_feat.runs.trained.inputs import PARALLEL, training_format
from nmt_feat.text.conllu import Sentence
from nmt_feat.text.factored import SEPARATORS
from nmt_feat.text.merging import (
    TEXT,
    Annotation,
    Conflicts,
    describe_second_sources,
    lacks_columns,
    merge_annotations,
    source_key,
)
from nmt_feat.text.normalization import normalize_lines
from nmt_feat.text.projection import project_annotation


def locate_models(folder: Path, settings: AnnotatorConfig) -> AnnotatorConfig:
    """The settings of a run's annotators, with the models that are in its folder."""

    def locate_model(model: str | None) -> str | None:
        return str(path) if model and (path := folder / model).exists() else model

    parts = {
        name: dataclasses.replace(part, model=locate_model(part.model))
        for name, part in settings.parts.items()
    }
    return dataclasses.replace(settings, model=locate_model(settings.model), parts=parts)


class TextAnnotation:
    """The annotators of a run, and how their annotation and that of a text are merged.

    Args:
        folder: the run's folder, which has the annotators' models.
        cfg: its settings.
        encoder: its vocabularies, and where each column comes from.
        kinds: its features.
    """

    def __init__(
        self,
        folder: Path,
        cfg: TrainConfig,
        encoder: SourceEncoder,
        kinds: Mapping[str, FeatureKind],
    ) -> None:
        self.folder, self.cfg, self.encoder, self.kinds = folder, cfg, encoder, kinds
        terminology = cfg.data.terminology
        self.needs_words = encoder.annotated
        """Whether the run needs annotated words; marks of terms alone need none."""
        self.required = encoder.required
        if terminology.is_applied:
            self.needs_words = uses_annotation(cfg, kinds)
            marks = kinds.keys() - without_marks(kinds, terminology).keys()
            self.required = [name for name in encoder.required if name not in marks]
            self.required += ["lemmas for terms"] if terminology.needs_lemmas else []
        self.unannotated = 0
        """Number of sentences without annotation, if the run's features allow it."""
        self.reported_sources = False
        """Whether the user was told that annotators give columns that the text gave in training."""

    @property
    def settings(self) -> AnnotatorConfig:
        """The annotators' settings, with the models that are in the run's folder."""
        return locate_models(self.folder, self.cfg.annotator)

    @functools.cached_property
    def annotators(self) -> dict[str, Annotator]:
        """The annotators of the training text, by name; a change of version is reported."""
        annotators_by_name = make_annotators(self.settings)
        for name, annotator in annotators_by_name.items():
            path = annotator_folder(self.folder, self.cfg.annotator, name) / FINGERPRINT
            if not path.is_file():
                continue
            before, now = path.read_text(encoding="utf-8").strip(), fingerprint_of(annotator)
            if before != now:
                say(f"the training text was annotated by {before}; here is {now}", file=sys.stderr)
        return annotators_by_name

    @property
    def annotator(self) -> Annotator | None:
        """The annotator of the training text, if it had one; the first of several."""
        return next(iter(self.annotators.values()), None)

    def annotate_texts(
        self, texts: list[str], raw: list[str] | None, name: str, first: int = 1
    ) -> list[Sentence]:
        """Sentences of plain text, annotated as in training if the model needs it.

        `name` and the number of the `first` line are for errors.
        """
        projected = bool(self.cfg.data.train.raw)
        if raw is not None and not projected:
            raise UserError(
                "raw: for runs whose training text has one (data.train.raw); leave it out"
            )
        if raw is not None and len(raw) != len(texts):
            raise UserError(
                f"{name}:{first}: from here {len(texts)} lines of text, but {len(raw)} of raw; "
                "their lines must correspond"
            )
        if self.encoder.normal:
            texts, raw = normalize_lines(texts), raw and normalize_lines(raw)
        if not self.needs_words:
            return [Sentence(text) for text in texts]
        required = self.required
        if not required and (self.annotator is None or (projected and raw is None)):
            self.unannotated += sum(bool(text.strip()) for text in texts)
            return [Sentence(text) for text in texts]
        if self.encoder.sources:
            plain = [Sentence(text) for text in texts]
            return self._merge(plain, self.encoder.sources, raw, name, first)
        if self.annotator is None:
            names = ", ".join(self.kinds) or "words to cut the text at"
            kind = training_format(self.cfg.data)
            alternative = ""
            if kind in (*SEPARATORS, PARALLEL):
                alternative = f", or the format of training (format={kind})"
            raise UserError(
                f"{name}:{first}: the run needs {names} and was trained on annotated text, without "
                f"an annotator; give CoNLL-U (input=FILE.conllu or format=conllu){alternative}"
            )
        return self._annotate_by(self.annotator, texts, raw, name, first)

    def annotate_sentences(
        self, sentences: list[Sentence], raw: list[str] | None, name: str, first: int = 1
    ) -> list[Sentence]:
        """Plain sentences, annotated by `annotate_texts`, with their own comments."""
        texts = [sentence.text for sentence in sentences]
        annotated = self.annotate_texts(texts, raw, name, first)
        return [
            words._replace(comments=sentence.comments)
            for words, sentence in zip(annotated, sentences, strict=True)
        ]

    def _annotate_by(
        self, annotator: Annotator, texts: list[str], raw: list[str] | None, name: str, first: int
    ) -> list[Sentence]:
        """Lines of text with the words of an annotator, which may read their raw counterpart.

        `name` and the number of the `first` line are for errors.
        """
        if not self.cfg.data.train.raw:
            return annotate_texts(annotator, texts)
        if raw is None:
            raise UserError(
                f"{name}:{first}: the run was trained on text annotated by its raw counterpart; "
                "give it: raw=FILE"
            )
        pairs = zip(annotate_texts(annotator, raw), texts, strict=True)
        return [
            project_annotation(s, text, f"{name}:{number}")[0] if text.strip() else Sentence(text)
            for number, (s, text) in enumerate(pairs, first)
        ]

    def complete_sentences(
        self, sentences: list[Sentence], name: str, first: int = 1
    ) -> list[Sentence]:
        """Annotated sentences with the columns that annotators added in training, if they did.

        Columns that the sentences have stay. Sentences without words, as those of JSON lines may
        be, are annotated like plain text. `name` and the number of the `first` one are for errors.
        """
        sources = set(chain.from_iterable(self.encoder.sources.values()))
        if not self.needs_words or self.cfg.data.train.raw:
            return sentences
        if sources - {TEXT}:
            return self._merge(sentences, self.encoder.sources, None, name, first)
        if sources:
            return sentences
        completed = self._add_columns(sentences, name, first)
        is_bare = [bool(s.text.strip()) and not s.words for s in sentences]
        if not any(is_bare) or (self.required and not self.cfg.annotator.targets):
            return completed
        texts = [s.text for s, bare in zip(sentences, is_bare, strict=True) if bare]
        annotated = iter(self.annotate_texts(texts, None, name, first))
        return [
            next(annotated)._replace(comments=sentence.comments) if bare else sentence
            for sentence, bare in zip(completed, is_bare, strict=True)
        ]

    def _add_columns(self, sentences: list[Sentence], name: str, first: int) -> list[Sentence]:
        """Sentences of words, with the columns that they lack from the run's only annotator.

        If the whole corpus was plain text, nothing was merged in training, and the run stores no
        sources. But a test set with words is merged there, so it is here.
        """
        annotator = self.cfg.annotator
        if not annotator.targets or annotator.replace or not self.columns:
            return sentences
        lacking = [i for i, s in enumerate(sentences) if s.words and lacks_columns(s, self.columns)]
        if not lacking:  # then the annotator need not be installed
            return sentences
        sources = {source_key(column): [next(iter(self.annotators))] for column in self.columns}
        completed = list(sentences)
        merged = self._merge([sentences[i] for i in lacking], sources, None, name, first)
        for i, sentence in zip(lacking, merged, strict=True):
            completed[i] = sentence
        return completed

    @functools.cached_property
    def columns(self) -> list[str]:
        """The columns of the annotation that the run reads, without marks of terms."""
        terminology = self.cfg.data.terminology
        kinds = without_marks(self.kinds, terminology).values()
        columns = {kind.annotation_column for kind in kinds if kind.annotation_column}
        return sorted(columns | ({"lemma"} if terminology.needs_lemmas else set()))

    def _merge(
        self,
        sentences: list[Sentence],
        sources: Mapping[str, list[str]],
        raw: list[str] | None,
        name: str,
        first: int,
    ) -> list[Sentence]:
        """Sentences, with or without words, merged with the annotation of the run's annotators.

        `sources`: where each column comes from.
        """
        texts = [sentence.text for sentence in sentences]
        by_annotator = []
        for annotator_name, annotator in self.annotators.items():
            annotated = self._annotate_by(annotator, texts, raw, name, first)
            by_annotator.append(
                [Annotation(annotator_name, s, annotator.morphemes) for s in annotated]
            )
        columns_of_text = {
            feature: column
            for feature, kind in self.kinds.items()
            if kind.requires_annotation and (column := kind.annotation_column)
            if sources.get(source_key(column)) == [TEXT]
        }
        message = describe_second_sources(sources)
        lacks_words = any(s.text.strip() and not s.words for s in sentences)
        if message and lacks_words and not self.reported_sources:
            say(f"{name}: {message}", file=sys.stderr)
            self.reported_sources = True
        conflicts, merged = Conflicts(), []
        rows = zip(sentences, *by_annotator, strict=True)
        for number, (sentence, *further) in enumerate(rows, first):
            annotations = [Annotation(TEXT, sentence), *further]
            refuse_lacking(annotations, columns_of_text, f"{name}: sentence {number}")
            merged.append(merge_annotations(annotations, sources, conflicts))
        return merged
