"""Files of text and annotation as Arrow tables on disk, read in blocks by several processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nmt_feat.base.pool import Pool
from nmt_feat.text import formats
from nmt_feat.text.conllu import Findings, Sentence, sentence_end
from nmt_feat.text.conllu_blocks import parse_block
from nmt_feat.text.files import Block, line_end, read_blocks
from nmt_feat.text.normalization import normalize_lines, normalize_sentences
from nmt_feat.text.sentences import START, TEXT, Booleans, Sentences
from nmt_feat.text.subwords import cut_at_words

ROWS = 2000
"""The number of sentences that are processed at a time."""


class Texts:
    """A column of strings that stay on disk until they are read."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        self._column = column

    def __len__(self) -> int:
        return len(self._column)

    def __getitem__(self, i: int) -> str:
        return str(self._column[i])

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), ROWS):
            yield from self._column.slice(start, ROWS).to_pylist()


class CutTexts:
    """The texts of a table, cut at their words for the trainer of subwords."""

    def __init__(self, table: SentenceTable) -> None:
        self._table = table

    def __len__(self) -> int:
        return len(self._table)

    def __iter__(self) -> Iterator[str]:
        for sentences in self._table.parts():
            yield from cut_at_words(sentences)


class SentenceTable:
    """Sentences in an Arrow file: a row for each, with lists of its words."""

    def __init__(self, path: Path) -> None:
        self.path, state = path, path.stat()
        self._rows = _mapped(path, state.st_ino, state.st_mtime_ns)

    def __len__(self) -> int:
        return int(self._rows.num_rows)

    @property
    def texts(self) -> Texts:
        """The sentences' texts."""
        return Texts(self._rows[TEXT])

    def words(self) -> int:
        """The number of words of all sentences."""
        return int(pc.sum(pc.list_value_length(self._rows[START])).as_py() or 0)

    def take_first(self, limit: int | None) -> SentenceTable:
        """Only the first sentences."""
        table = SentenceTable(self.path)
        table._rows = self._rows.slice(0, limit)
        return table

    def rows(self, start: int, stop: int) -> Sentences:
        """The sentences `[start, stop)`, read now."""
        return Sentences.read(self._rows.slice(start, stop - start))

    def parts(self) -> Iterator[Sentences]:
        """All sentences, `ROWS` at a time."""
        return (self.rows(*bounds) for bounds in self.ranges())

    def ranges(self) -> list[tuple[int, int]]:
        """Divide the rows into ranges `[start, stop)` of at most `ROWS`."""
        ends = [*range(ROWS, len(self), ROWS), len(self)]
        return [(end - 1 - (end - 1) % ROWS, end) for end in ends]


@lru_cache(maxsize=8)
def _mapped(path: Path, inode: int, changed: int) -> pa.Table:
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def write(batches: Iterable[pa.RecordBatch], path: Path) -> SentenceTable:
    """Write a table of these rows."""
    remaining = iter(batches)
    first = next(remaining, None)
    if first is None:
        first = pa.record_batch({TEXT: pa.array([], pa.large_string())})
    with pa.ipc.new_file(str(path), first.schema) as file:
        file.write_batch(first)
        for batch in remaining:
            file.write_batch(batch)
    return SentenceTable(path)


class Format(NamedTuple):
    """The format of a file: one of `formats.FORMATS`, and the names of its factors."""

    kind: str
    factors: tuple[str, ...] = ()


class Content(NamedTuple):
    """The content of a file."""

    table: SentenceTable
    blank: int  # sentences without a visible character
    findings: Findings  # about its heads


def read(
    path: Path,
    form: Format,
    columns: tuple[str, ...] | None,
    out: Path,
    pool: Pool,
    normal: bool = True,
) -> Content:
    """Read a file into a table.

    Args:
        path, form: the file, and its format.
        columns: the columns of words to read; None to read no words.
        out: the file of the table.
        pool: processes to work with.
        normal: whether texts and values are brought into normal form.
    """
    blocks = read_blocks(path, sentence_end if form.kind == "conllu" else line_end)
    blank, findings = 0, Findings()

    def batches() -> Iterator[pa.RecordBatch]:
        nonlocal blank
        for batch, more, of_block in pool.map(partial(_parse, form, columns, normal), blocks):
            blank += more
            findings.update(of_block)
            yield batch

    return Content(write(batches(), out), blank, findings)


def _parse(
    form: Format, columns: tuple[str, ...] | None, normal: bool, block: Block
) -> tuple[pa.RecordBatch, int, Findings]:
    """Parse a block: a row for each sentence; how many are blank; findings about heads."""
    lines, findings = block.lines(), Findings()
    if form.kind == "text":
        lines = normalize_lines(lines) if normal else lines
        rows = pa.record_batch({TEXT: pa.array(lines, pa.large_string())})
        return rows, _count_blank(lines), findings
    if form.kind == "conllu":
        sentences = parse_block(lines, block.path, block.line, columns or (), findings)
    else:
        parsed = formats.parse_lines(
            lines, block.path, form.kind, form.factors, block.line, findings
        )
        sentences = Sentences.of(parsed, columns or ())
    if normal:
        sentences = normalize_sentences(sentences)
    rows = sentences.table()
    if columns is None:
        rows = rows.select([TEXT])
    return rows, _count_blank(sentences.texts), findings


def _count_blank(lines: Iterable[str]) -> int:
    return sum(not line or line.isspace() for line in lines)


def with_blank_rows(annotation: SentenceTable, blank: Booleans, out: Path) -> SentenceTable:
    """Insert rows for blank lines into an annotation that lacks them.

    `blank`: for each row of the result, whether it is a blank line.
    """
    # How many rows of the annotation come before each row of the result.
    before = np.append(0, np.cumsum(~blank))

    def batches() -> Iterator[pa.RecordBatch]:
        for start in range(0, len(blank), ROWS):
            part = annotation.rows(int(before[start]), int(before[min(start + ROWS, len(blank))]))
            is_blank = blank[start : start + ROWS]
            empty = Sentences.of([Sentence("")], part.annotation)
            order = np.where(is_blank, len(part), np.cumsum(~is_blank) - 1)
            yield Sentences.join([part, empty]).take_rows(order).table()

    return write(batches(), out)


T = TypeVar("T")
Merge = Callable[[list[Sentences], int], tuple[Sentences, T]]


def merge(
    work: Merge[T], parts: Sequence[SentenceTable], out: Path, pool: Pool
) -> tuple[SentenceTable, list[T]]:
    """Call `work(sentences of each part, first row)` for ranges of rows, in several processes.

    Returns:
        The table of the sentences that `work` returns, and the list of its other results.
    """
    results: list[T] = []

    def batches() -> Iterator[pa.RecordBatch]:
        task = partial(_merge, work, [part.path for part in parts])
        for batch, result in pool.map(task, parts[-1].ranges()):
            results.append(result)
            yield batch

    return write(batches(), out), results


def _merge(work: Merge[T], parts: list[Path], rows: tuple[int, int]) -> tuple[pa.RecordBatch, T]:
    merged, result = work([SentenceTable(part).rows(*rows) for part in parts], rows[0])
    return merged.table(), result
