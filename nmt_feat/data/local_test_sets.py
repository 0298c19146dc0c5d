"""Read the test sets of a corpus whose files are here, sentence by sentence, without a cache.

Translation reads them so, to look into a finished run. Training reads whole corpora into tables,
see reading.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from nmt_feat.base.resources import find_resource
from nmt_feat.config.data_schema import DataConfig, DownloadConfig, SplitConfig
from nmt_feat.data.annotated_text import FACTOR, LABELS, align_annotation
from nmt_feat.data.corpora import find_file, read_kind
from nmt_feat.errors import UserError
from nmt_feat.text import formats
from nmt_feat.text.conllu import Sentence, replace_labels
from nmt_feat.text.factored import parse_parallel
from nmt_feat.text.files import list_shards, read_lines
from nmt_feat.text.normalization import normalize_line
from nmt_feat.text.sentences import ANNOTATION, HEAD, Sentences


def without_download(config: DataConfig, cache: Path) -> DataConfig:
    """The settings of a run's corpus without its download.

    They may be somebody else's, who must not decide what is fetched here and where it is written.
    """
    downloads = cache / config.name if config.download.url else Path(".")
    folder = Path(config.folder).expanduser() if config.folder is not None else downloads
    if config.name == "embedded" and not folder.is_dir():  # a path of another machine or version
        folder = find_resource("data/embedded")
    return replace(config, folder=str(folder), download=DownloadConfig())


def read_first_test_set(
    config: DataConfig, cache: Path
) -> tuple[list[Sentence], list[str], list[str] | None, str]:
    """Read the first test set whose files are here, without downloads; see `read_test_set`."""
    local = without_download(config, cache)
    problems: list[UserError] = []
    for name, split in config.tests.items():
        try:
            return read_test_set(local, cache, f"data.tests.{name}", split)
        except UserError as error:
            problems.append(error)
    raise problems[0] if problems else UserError("it has none")


def read_test_set(
    config: DataConfig, cache: Path, key: str, split: SplitConfig
) -> tuple[list[Sentence], list[str], list[str] | None, str]:
    """Read a test set.

    Returns:
        Sentences with the annotation of files, targets, raw text if there is any, and the path of
        the source for messages.
    """

    def path(role: str, name: str) -> Path:
        return find_file(config, cache, f"{key}.{role}", name)

    def lines(file: Path) -> list[str]:
        return [line for shard in list_shards(file) for line in read_lines(shard)]

    source = path("source", split.source)
    targets = lines(path("target", split.target))
    raw = lines(path("raw", split.raw)) if split.raw else None
    kind = read_kind(config, split)
    if split.factors:
        files = {column: path(FACTOR + column, file) for column, file in split.factors.items()}
        sides = {column: (str(file), lines(file)) for column, file in files.items()}
        sentences = list(parse_parallel(lines(source), str(source), sides))
    else:
        sentences = _parse_shards(source, kind, config.factors)
    if split.conllu:
        sentences = _annotate(sentences, path("conllu", split.conllu), f"{key}: {source}")
    for label, name in split.labels.items():
        values = lines(path(LABELS + label, name))
        if len(values) != len(sentences):
            raise UserError(f"{key}: {source} and {name} differ in their number of sentences")
        sentences = [
            s._replace(comments=replace_labels(s.comments, {label: normalize_line(value)}))
            for s, value in zip(sentences, values, strict=True)
        ]
    if len(sentences) != len(targets):
        raise UserError(
            f"{key}: {source} has {len(sentences)} sentences, its target has {len(targets)}"
        )
    return sentences, targets, raw, str(source)


def _parse_shards(file: Path, kind: str, factors: Sequence[str] = ()) -> list[Sentence]:
    """The sentences of a file or of its shards, none of which crosses the end of a shard."""
    return [
        sentence
        for shard in list_shards(file)
        for sentence in formats.parse_lines(read_lines(shard), str(shard), kind, factors)
    ]


def _annotate(sentences: list[Sentence], file: Path, where: str) -> list[Sentence]:
    """Give sentences the words and comments of the annotation in a file, aligned to their text."""
    form = formats.kind_of(file)
    annotated = _parse_shards(file, "conllu" if form == "text" else form)
    is_blank = [not sentence.text.strip() for sentence in sentences]
    if len(annotated) == len(sentences) - sum(is_blank):  # most annotators leave out blank lines
        rows = iter(annotated)
        annotated = [Sentence("") if blank else next(rows) for blank in is_blank]
    if len(annotated) != len(sentences):
        raise UserError(f"{where} and {file} differ in their number of sentences")
    parts = [Sentences.of(annotated), Sentences.of(sentences)]
    aligned = align_annotation((*ANNOTATION, HEAD), file, parts, 0)[0]
    return [
        words._replace(comments=sentence.comments)
        for words, sentence in zip(aligned, annotated, strict=True)
    ]
