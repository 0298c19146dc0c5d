"""Read the files of a located corpus into tables, with the annotation that features need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from types import MappingProxyType

import numpy as np

from nmt_feat.annotators.base import Annotator, annotate_cached, make_annotators
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
from nmt_feat.text.merging import (
    TEXT,
    Conflicts,
    choose_owners,
    describe_second_sources,
    source_key,
)
from nmt_feat.text.sentences import HEADS


def read_splits(
    corpus: RawCorpus,
    config: DataConfig,
    annotator: AnnotatorConfig,
    cache: Path,
    columns: tuple[str, ...] | None,
    folder: Path,
    pool: Pool,
    required: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Read the located corpus into tables, and annotate it if settings say so.

    All files are read and checked before anything is annotated. Annotators add the columns that
    files lack, unless they replace them.

    Args:
        corpus: gets the tables.
        config, annotator: the settings.
        cache: the folder that keeps annotations.
        columns: the columns of words to read; None if no words are read.
        folder: the folder for tables.
        pool: processes to work with.
        required: features that need a value in every sentence, with their columns.
    """
    tools = {} if columns is None else make_annotators(annotator)
    for split in corpus.splits:
        limit = config.limit if split is corpus.train else None
        of_files = columns if split.has_words or not tools else None
        read_split(corpus, split, limit, of_files, folder, pool)
        if config.format == "auto" and split.form.kind == "text":
            refuse_factored(split)
    if tools and columns is not None:
        work = AnnotationWork(corpus, tools, annotator, columns, required, cache, folder, pool)
        annotate_splits(work)
    if corpus.keys:
        for split in corpus.splits:
            attach_labels(split, corpus.keys, folder)


@dataclass(frozen=True)
class AnnotationWork:
    """A corpus whose splits get the words of annotators, and all that is needed for it."""

    corpus: RawCorpus
    tools: Mapping[str, Annotator]
    """The annotators by name, in order."""
    settings: AnnotatorConfig
    columns: tuple[str, ...]
    """The columns of the annotation that are needed."""
    required: Mapping[str, str]
    """Features that need a value in every sentence, with their columns."""
    cache: Path
    folder: Path
    """The folder for tables."""
    pool: Pool


def annotate_splits(work: AnnotationWork) -> None:
    """Give all splits the words of annotators, merged with those of the texts."""
    corpus = work.corpus
    merges = len(work.tools) > 1 or any(split.has_words for split in corpus.splits)
    for split in corpus.splits:
        tables_by_source = {name: annotate_split(work, split, name) for name in work.tools}
        if not merges:
            (split.source,) = tables_by_source.values()
            continue
        if split is corpus.train:
            of_text = {TEXT: split.source} if split.has_words else {}
            sources = of_text | tables_by_source
            corpus.sources = choose_owners({n: table.parts() for n, table in sources.items()})
        merge_split(work, split, tables_by_source)


def annotate_split(work: AnnotationWork, split: RawSplit, name: str) -> SentenceTable:
    """Annotate a split's text; the annotation of a raw counterpart is projected to its tokens."""
    corpus, folder, texts = work.corpus, work.folder, split.source
    if "raw" in split.files:
        texts = SentenceTable(folder / f"{split.name}.raw.arrow").limited(len(split.source))
    path = annotate_cached(work.tools[name], texts.texts, work.cache, work.settings.processes)
    out = folder / f"{split.name}.{name}.annotated.arrow"
    # The text is in normal form already, and values stay as the annotator gives them.
    form = Format("conllu")
    annotated = tables.read(path, form, work.columns, out, work.pool, normal=False).table
    if "raw" not in split.files:
        return annotated
    project = partial(project_words, work.columns, split.source_path, split is corpus.train)
    out = folder / f"{split.name}.{name}.arrow"
    projected, missed = tables.merge(project, [annotated, split.source], out, work.pool)
    corpus.notes.append(
        f"{split.name}: annotation of {split.files['raw'].name} projected to "
        f"{projected.words()} tokens; {sum(missed)} tokens that match none of its characters have "
        "the values of the nearest token that does"
    )
    return projected


def merge_split(
    work: AnnotationWork, split: RawSplit, tables_by_source: Mapping[str, SentenceTable]
) -> None:
    """Give a split the words of its text, or of the first annotator, with the columns of all."""
    corpus = work.corpus
    names = [(name, tool.morphemes) for name, tool in work.tools.items()]
    of_text = {
        feature: column
        for feature, column in work.required.items()
        if corpus.sources.get(source_key(column)) == [TEXT]
    }
    merge = partial(
        merge_sources,
        *(work.columns, [*names, (TEXT, False)], corpus.sources, of_text, split.source_path),
    )
    parts = [*(tables_by_source[name] for name in work.tools), split.source]
    out = work.folder / f"{split.name}.merged.arrow"
    split.source, results = tables.merge(merge, parts, out, work.pool)
    conflicts = Conflicts()
    for result in results:
        conflicts.update(result)
    base = "the text" if split.has_words else next(iter(work.tools))
    corpus.notes += [f"{split.name}: {sentence}" for sentence in conflicts.describe(base)]
    if not split.has_words and (columns_of_tools := describe_second_sources(corpus.sources)):
        corpus.notes.append(f"{split.name}: {columns_of_tools}")


def read_split(
    corpus: RawCorpus,
    split: RawSplit,
    limit: int | None,
    columns: tuple[str, ...] | None,
    folder: Path,
    pool: Pool,
) -> None:
    """Read and check a split; its files may have words, of which `columns` are read."""
    contents: dict[str, tables.Content] = {}
    for role, path in split.files.items():
        of_role = columns if role in ("source", "conllu") else None
        out, form = folder / f"{split.name}.{role}.arrow", find_format(split, role)
        contents[role] = tables.read(path, form, of_role, out, pool, corpus.normal)
        if not len(contents[role].table):
            raise UserError(f"{path}: the file is empty; {split.key} needs sentences")
    parts = {role: content.table for role, content in contents.items()}
    if "conllu" in parts:
        parts["conllu"] = add_blank_rows(parts["conllu"], contents["source"], split, folder)
    check_lengths(split, parts)
    check_blank_lines(corpus, split, contents)
    source = merge_words(split, parts, columns or (), folder, pool)
    split.source, split.target = source.limited(limit), parts["target"].limited(limit)
    for role, content in contents.items():
        check_heads(corpus, split, split.files[role], content.findings, columns or ())


def check_lengths(split: RawSplit, parts: Mapping[str, SentenceTable]) -> None:
    """Refuse files of a split with different numbers of sentences."""
    count = len(parts["source"])
    for role, table in parts.items():
        if len(table) != count:
            raise UserError(
                f"{split.key}: {split.files['source']} has {count} sentences, {split.files[role]} "
                f"has {len(table)}; their lines must correspond"
            )


def merge_words(
    split: RawSplit,
    parts: Mapping[str, SentenceTable],
    columns: tuple[str, ...],
    folder: Path,
    pool: Pool,
) -> SentenceTable:
    """The source of a split, with the words of its annotation or of its files of factors."""
    files, source, out = split.files, parts["source"], folder / f"{split.name}.arrow"
    if "conllu" in files:
        align = partial(align_annotation, columns, files["conllu"])
        source, _ = tables.merge(align, [parts["conllu"], source], out, pool)
    if factors := {role: str(path) for role, path in files.items() if role.startswith(FACTOR)}:
        attach = partial(attach_factors, columns, factors, files["source"])
        source, _ = tables.merge(attach, [*(parts[role] for role in factors), source], out, pool)
    return source


def check_heads(
    corpus: RawCorpus, split: RawSplit, path: Path, findings: Findings, columns: tuple[str, ...]
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
    corpus.notes.append(f"{split.name}: the annotation has {message}")


def add_blank_rows(
    annotation: SentenceTable, source: tables.Content, split: RawSplit, folder: Path
) -> SentenceTable:
    """Add rows for blank lines of the text, which most annotators leave out."""
    if not source.blank or len(annotation) != len(source.table) - source.blank:
        return annotation
    texts = source.table.texts
    blank = np.fromiter((not text.strip() for text in texts), np.bool_, len(texts))
    return tables.with_blank_rows(annotation, blank, folder / f"{split.name}.rows.arrow")


def check_blank_lines(
    corpus: RawCorpus, split: RawSplit, contents: dict[str, tables.Content]
) -> None:
    """Note blank lines of a split that is translated; those of train are filtered and counted."""
    for role in ("source", "target"):
        blank, count = contents[role].blank, len(contents[role].table)
        if blank == count:
            raise UserError(f"{split.files[role]}: all {count} lines are blank; give sentences")
        if blank and split is not corpus.train:
            problem = "source lines are blank, their translations are empty"
            if role == "target":
                problem = "references are blank"
            corpus.notes.append(f"{split.name}: {blank:,} {problem}")


def refuse_factored(split: RawSplit) -> None:
    """Refuse plain text that looks like factored text."""
    if kind := formats.guess_format(list(islice(split.source.texts, 10))):
        raise UserError(
            f"{split.source_path}: every token has a {formats.SEPARATORS[kind]!r}, as factored "
            f"text has; set data.format={kind} and data.factors, or data.format=text if it is plain"
        )
