"""An encoded split: Arrow columns, memory-mapped from a file or built in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nmt_feat.corpus.columns import END, FIRST, UNK, Code
from nmt_feat.corpus.encoder import Described, Encoded, SourceEncoder
from nmt_feat.corpus.subwords import EOS, Subwords

FEATURE, UNITS, VALUES = "feature:", "units:", "values:"


@dataclass(frozen=True)
class Ragged:
    """Rows of int32 of different lengths: row i is `values[offsets[i]:offsets[i + 1]]`."""

    values: NDArray[np.int32]
    offsets: NDArray[np.int64]

    def row(self, i: int) -> NDArray[np.int32]:
        """One row, not copied."""
        return self.values[self.offsets[i] : self.offsets[i + 1]]

    def places(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Where in `values` the padded rows are read, and what is real: both (rows, longest)."""
        starts = self.offsets[rows]
        lengths = self.offsets[rows + 1] - starts
        column = np.arange(lengths.max(initial=0))
        real = column < lengths[:, None]
        return np.where(real, starts[:, None] + column, 0), real


class Split:
    """Encoded sentence pairs, at least one, in the order of their files.

    Attributes:
        source, target: ids, each row with EOS; `source_lengths`, `target_lengths` are theirs.
        features: ids by feature, at the same places as the source's values.
        units: by each feature whose tokens have units, those of its distinct tokens: id `FIRST + i`
            is the token with row i.
    """

    def __init__(self, table: pa.Table) -> None:
        self._table = table
        self.source = _ragged(table["source"])
        self.target = _ragged(table["target"])
        names = [n.removeprefix(FEATURE) for n in table.column_names if n.startswith(FEATURE)]
        self.features = {name: _ragged(table[FEATURE + name]).values for name in names}
        names = [n.removeprefix(UNITS) for n in table.column_names if n.startswith(UNITS)]
        self.units = {name: _inner(table[UNITS + name]) for name in names}
        self.source_lengths = np.diff(self.source.offsets)
        self.target_lengths = np.diff(self.target.offsets)

    @classmethod
    def open(cls, path: Path) -> Split:
        """Memory-map what `save` wrote; nothing is read until it is used."""
        return cls(pa.ipc.open_file(pa.memory_map(str(path))).read_all())

    @classmethod
    def build(
        cls,
        source: Sequence[Encoded],
        target: Sequence[Sequence[int]],
        source_text: Sequence[str],
        target_text: Sequence[str],
        values: dict[str, list[str]] | None = None,
    ) -> Split:
        """A split in memory. `target`: ids with EOS; `values`: feature values per sentence."""
        ids, text = pa.large_list(pa.int32()), pa.large_string()
        columns = {
            "source": pa.array([encoded.ids for encoded in source], ids),
            "target": pa.array(target, ids),
            "source_text": pa.array(source_text, text),
            "target_text": pa.array(target_text, text),
        }
        for name in source[0].features:
            rows = [encoded.features[name] for encoded in source]
            if isinstance(rows[0][0], tuple):
                rows, units = number(rows)
                columns[UNITS + name] = pa.array(units, pa.large_list(ids))
            columns[FEATURE + name] = pa.array(rows, ids)
        for name, lines in (values or {}).items():
            columns[VALUES + name] = pa.array(lines, text)
        return cls(pa.table(columns))

    def save(self, path: Path) -> None:
        """Write an Arrow IPC file."""
        with pa.ipc.new_file(str(path), self._table.schema) as file:
            file.write_table(self._table)

    def __len__(self) -> int:
        return int(self._table.num_rows)

    @property
    def source_texts(self) -> list[str]:
        """Raw source texts."""
        return list(self._table["source_text"].to_pylist())

    @property
    def target_texts(self) -> list[str]:
        """Raw target texts."""
        return list(self._table["target_text"].to_pylist())

    def feature_text(self, name: str, i: int) -> str:
        """A feature's values of the words of sentence i, with spaces between."""
        return str(self._table[VALUES + name][i])


def encode_split(
    encoder: SourceEncoder, target: Subwords, described: Sequence[Described], targets: Sequence[str]
) -> Split:
    """Sentences, described for `encoder`, and their translations as a split in memory."""
    return Split.build(
        [encoder.look_up(d) for d in described],
        [[*ids, EOS] for ids in target.encode_ids(targets)],
        [d.text for d in described],
        targets,
        {name: [" ".join(d.values[name]) for d in described] for name in encoder.features},
    )


def number(rows: Sequence[Sequence[Code]]) -> tuple[list[list[Code]], list[list[Code]]]:
    """Ids for the tokens of sentences by their units: UNK, END, or from FIRST on.

    Also, by sentence, the units of the tokens that occur there for the first time, so that they
    grow with the text.
    """
    known: dict[Code, int] = {(UNK,): UNK, (END,): END}
    numbered: list[list[Code]] = []
    new: list[list[Code]] = []
    for row in rows:
        new.append([])
        for token in row:
            if token not in known:
                known[token] = FIRST + len(known) - 2
                new[-1].append(token)
        numbered.append([known[token] for token in row])
    return numbered, new


def _inner(column: pa.ChunkedArray) -> Ragged:
    return _ragged(pa.chunked_array([column.chunk(0).values]))


def _ragged(column: pa.ChunkedArray) -> Ragged:
    chunk = column.chunk(0)  # the only one
    return Ragged(chunk.values.to_numpy(), chunk.offsets.to_numpy())
