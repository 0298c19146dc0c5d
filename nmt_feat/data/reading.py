"""Read the files of a located corpus into tables, with the annotation that features need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from nmt_feat.annotators.base import Annotator
from nmt_feat.annotators.files import LineRefused, annotate_cached
from nmt_feat.annotators.texts import make_annotators
from nmt_feat.base.pool import Pool
from nmt_feat.config.data_schema import AnnotatorConfig, DataConfig
from nmt_feat.data import sentence_tables as tables
from nmt_feat.data.annotated_text import (
    FACTOR,
    align_annotation,
    attach_factors,
    merge_sources,
    project_words,
)
from nmt_feat.data.corpora import RawCorpus, RawSplit, find_format
from nmt_feat.data.sentence_labels import attach_labels
from nmt_feat.data.sentence_tables import Format, SentenceTable
from nmt_feat.errors import UserError
from nmt_feat.text import formats
from nmt_feat.text.conllu import Findings
from nmt_feat.text.factored import SEPARATORS
from nmt_feat.text.merging import (
    TEXT,
    Conflicts,
    choose_owners,
    describe_second_sources,
    source_key,
)
from nmt_feat.text.sentences import HEADS
from nmt_feat.text.term_insertion import COLUMN as MARKS


@dataclass(frozen=True)
class CorpusReader:
    """Reads the files of a located corpus into tables, with the annotation that features need.

    Attributes:
        corpus: gets the tables.
        config, annotator: the settings.
        columns: the columns of words to read; None if no words are read.
        cache: the folder that keeps annotations.
        folder: the folder for tables.
        pool: processes to work with.
        required: features that need a value in every sentence, with their columns.
    """

    corpus: RawCorpus
    config: DataConfig
    annotator: AnnotatorConfig
    columns: tuple[str, ...] | None
    cache: Path
    folder: Path
    pool: Pool
    required: Mapping[str, str] = field(default_factory=dict)

    def read_splits(self) -> None:
        """Read all splits, and annotate them if settings say so.

        All files are read and checked before anything is annotated. Annotators add the columns that
        files lack, unless they replace them.
        """
        corpus = self.corpus
        tools = {} if self.columns is None else make_annotators(self.annotator)
        for split in corpus.splits:
            self._read_split(split, self.columns if split.has_words or not tools else None)
            if self.config.format == "auto" and split.form.kind == "text":
                refuse_factored(split)
        if tools:
            self._annotate_splits(tools)
        if corpus.keys:
            for split in corpus.splits:
                attach_labels(split, corpus.keys, self.folder)

    # The files

    def _read_split(self, split: RawSplit, columns: tuple[str, ...] | None) -> None:
        """Read and check a split; its files may have words, of which `columns` are read."""
        contents: dict[str, tables.Content] = {}
        for role, path in split.files.items():
            of_role = columns if role in ("source", "conllu") else None
            out, form = self.folder / f"{split.name}.{role}.arrow", find_format(split, role)
            contents[role] = tables.read(path, form, of_role, out, self.pool, self.corpus.normal)
            if not len(contents[role].table):
                raise UserError(f"{path}: the file is empty; {split.key} needs sentences")
        parts = {role: content.table for role, content in contents.items()}
        if "conllu" in parts:
            parts["conllu"] = self._add_blank_rows(parts["conllu"], contents["source"], split)
        check_lengths(split, parts)
        self._check_blank_lines(split, contents)
        limit = self.config.limit if split is self.corpus.train else None
        source = self._merge_words(split, parts, columns or ())
        split.source, split.target = source.take_first(limit), parts["target"].take_first(limit)
        for role, content in contents.items():
            self._check_heads(split, split.files[role], content.findings, columns or ())

    def _add_blank_rows(
        self, annotation: SentenceTable, source: tables.Content, split: RawSplit
    ) -> SentenceTable:
        """Add rows for blank lines of the text, which most annotators leave out."""
        if not source.blank or len(annotation) != len(source.table) - source.blank:
            return annotation
        texts = source.table.texts
        blank = np.fromiter((not text.strip() for text in texts), np.bool_, len(texts))
        return tables.with_blank_rows(annotation, blank, self.folder / f"{split.name}.rows.arrow")

    def _merge_words(
        self, split: RawSplit, parts: Mapping[str, SentenceTable], columns: tuple[str, ...]
    ) -> SentenceTable:
        """The source of a split, with the words of its annotation or of its files of factors."""
        files, source, out = split.files, parts["source"], self.folder / f"{split.name}.arrow"
        if "conllu" in files:
            align = partial(align_annotation, columns, files["conllu"])
            source, _ = tables.merge(align, [parts["conllu"], source], out, self.pool)
        if factors := {role: str(path) for role, path in files.items() if role.startswith(FACTOR)}:
            attach = partial(attach_factors, columns, factors, files["source"])
            of_factors = [parts[role] for role in factors]
            source, _ = tables.merge(attach, [*of_factors, source], out, self.pool)
        return source

    def _check_blank_lines(self, split: RawSplit, contents: Mapping[str, tables.Content]) -> None:
        """Note blank lines of a split that is translated; those of train are counted later."""
        for role in ("source", "target"):
            blank, count = contents[role].blank, len(contents[role].table)
            if blank == count:
                raise UserError(f"{split.files[role]}: all {count} lines are blank; give sentences")
            if blank and split is not self.corpus.train:
                problem = "source lines are blank, their translations are empty"
                if role == "target":
                    problem = "references are blank"
                self.corpus.notes.append(f"{split.name}: {blank:,} {problem}")

    def _check_heads(
        self, split: RawSplit, path: Path, findings: Findings, columns: tuple[str, ...]
    ) -> None:
        """Note heads that are not a tree; refuse them if a feature reads heads."""
        if not (message := findings.describe_trees()):
            return
        if HEADS.intersection(columns):
            column = "head_upos" if "head_upos" in columns else "head_distance or the like"
            raise UserError(
                f"{path}: {message}, but features read heads (column={column}); correct the "
                "annotation, or leave these features out"
            )
        self.corpus.notes.append(f"{split.name}: the annotation has {message}")

    # The annotators

    def _annotate_splits(self, tools: Mapping[str, Annotator]) -> None:
        """Give all splits the words of annotators, merged with those of the texts."""
        corpus = self.corpus
        merges = len(tools) > 1 or any(split.has_words for split in corpus.splits)
        for split in corpus.splits:
            of_tools = {name: self._annotate(split, name, tools[name]) for name in tools}
            if not merges:
                (split.source,) = of_tools.values()
                continue
            if split is corpus.train:
                sources = ({TEXT: split.source} if split.has_words else {}) | of_tools
                corpus.sources = choose_owners({n: table.parts() for n, table in sources.items()})
                if self.config.terminology.marks_words:
                    # A text without marks gets them from the glossary: they are never missing.
                    corpus.sources.pop(MARKS, None)
            self._merge_sources(split, tools, of_tools)

    def _annotate(self, split: RawSplit, name: str, tool: Annotator) -> SentenceTable:
        """Annotate a split's text; the annotation of a raw counterpart is projected to its tokens.

        `name`: of the annotator in the settings.
        """
        columns, texts = self.columns or (), split.source
        if "raw" in split.files:
            raw = SentenceTable(self.folder / f"{split.name}.raw.arrow")
            texts = raw.take_first(len(split.source))
        try:
            path = annotate_cached(tool, texts.texts, self.cache, self.annotator.processes)
        except LineRefused as error:
            raise UserError(f"{split.files.get('raw', split.source_path)}: {error}") from None
        out = self.folder / f"{split.name}.{name}.annotated.arrow"
        # The text is in normal form already, and values stay as the annotator gives them.
        form = Format("conllu")
        annotated = tables.read(path, form, columns, out, self.pool, normal=False).table
        if "raw" not in split.files:
            return annotated
        is_train = split is self.corpus.train
        project = partial(project_words, columns, split.source_path, is_train)
        out = self.folder / f"{split.name}.{name}.arrow"
        projected, missed = tables.merge(project, [annotated, split.source], out, self.pool)
        self.corpus.notes.append(
            f"{split.name}: annotation of {split.files['raw'].name} projected to "
            f"{projected.words()} tokens; {sum(missed)} tokens that match none of its characters "
            "have the values of the nearest token that does"
        )
        return projected

    def _merge_sources(
        self,
        split: RawSplit,
        tools: Mapping[str, Annotator],
        of_tools: Mapping[str, SentenceTable],
    ) -> None:
        """Give a split the words of its text or first annotator, with the columns of all."""
        corpus = self.corpus
        names = [*((name, tool.morphemes) for name, tool in tools.items()), (TEXT, False)]
        of_text = {
            feature: column
            for feature, column in self.required.items()
            if corpus.sources.get(source_key(column)) == [TEXT]
        }
        merge = partial(
            merge_sources, self.columns or (), names, corpus.sources, of_text, split.source_path
        )
        out = self.folder / f"{split.name}.merged.arrow"
        parts = [*of_tools.values(), split.source]
        split.source, results = tables.merge(merge, parts, out, self.pool)
        conflicts = Conflicts()
        for result in results:
            conflicts.update(result)
        base = "the text" if split.has_words else next(iter(tools))
        corpus.notes += [f"{split.name}: {sentence}" for sentence in conflicts.describe(base)]
        if not split.has_words and (columns_of_tools := describe_second_sources(corpus.sources)):
            corpus.notes.append(f"{split.name}: {columns_of_tools}")


def check_lengths(split: RawSplit, parts: Mapping[str, SentenceTable]) -> None:
    """Refuse files of a split with different numbers of sentences."""
    count = len(parts["source"])
    for role, table in parts.items():
        if len(table) != count:
            raise UserError(
                f"{split.key}: {split.files['source']} has {count} sentences, {split.files[role]} "
                f"has {len(table)}; their lines must correspond"
            )


def refuse_factored(split: RawSplit) -> None:
    """Refuse plain text that looks annotated: with factors, as CoNLL-U or as JSON lines."""
    if kind := formats.guess_format(list(islice(split.source.texts, 10))):
        factors = " and data.factors" if kind in SEPARATORS else ""
        raise UserError(
            f"{split.source_path}: {formats.describe_look(kind)}; set data.format={kind}{factors}, "
            "or data.format=text if it is plain"
        )
