"""Values of whole sentences, such as their domain: from files, or from comments of CoNLL-U."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import pyarrow as pa

from nmt_feat.base.typed_json import load_json
from nmt_feat.data import sentence_tables as tables
from nmt_feat.data.annotated_text import LABELS
from nmt_feat.data.corpora import RawSplit, find_format
from nmt_feat.data.sentence_tables import SentenceTable
from nmt_feat.text.conllu import find_label, sentence_end
from nmt_feat.text.files import line_end, read_blocks
from nmt_feat.text.json_lines import parse_comments


def attach_labels(split: RawSplit, keys: Iterable[str], folder: Path) -> None:
    """Give the sentences of a split their labels; its files have been read into `folder`."""
    columns = {key: read_labels(split, key, folder) for key in keys}

    def batches() -> Iterator[pa.RecordBatch]:
        for start, stop in split.source.ranges():
            labels = {k: pa.array(v[start:stop], pa.string()) for k, v in columns.items()}
            yield replace(split.source.rows(start, stop), labels=labels).table()

    split.source = tables.write(batches(), folder / f"{split.name}.labels.arrow")


def read_labels(split: RawSplit, key: str, folder: Path) -> list[str | None]:
    """The label of each sentence of a split, None if it has none."""
    if LABELS + key in split.files:
        lines = SentenceTable(folder / f"{split.name}.{LABELS}{key}.arrow").texts
        return [line.strip() or None for line in lines]
    role = "conllu" if "conllu" in split.files else "source"
    kind = find_format(split, role).kind
    comments = read_comments(split.files[role], kind)
    labels = [find_label(of_sentence, key) for of_sentence in comments]
    texts = SentenceTable(folder / f"{split.name}.source.arrow").texts
    if kind in ("conllu", "jsonl") and len(labels) != len(texts):
        remaining = iter(labels)  # most annotators leave out blank lines
        labels = [next(remaining, None) if text.strip() else None for text in texts]
    return labels or [None] * len(texts)


def read_comments(path: Path, kind: str) -> Iterator[list[str]]:
    """The comments of each sentence of a file that has been checked; plain text has none."""
    if kind == "conllu":
        for block in read_blocks(path, sentence_end):
            for is_blank, lines in groupby(block.lines(), key=lambda s: not s or s.isspace()):
                if not is_blank:
                    yield [line for line in lines if line.startswith("#")]
    if kind == "jsonl":
        for block in read_blocks(path, line_end):
            for line in block.lines():
                content = load_json(line) if line.strip() else {}
                yield list(parse_comments(content.get("comments")))
