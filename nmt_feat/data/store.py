"""An encoded split: Arrow columns, memory-mapped from a file or built in memory."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from nmt_feat.base.ragged import Ragged
from nmt_feat.data.alignment import AlignedSentences, Ids, SourceEncoder
from nmt_feat.data.sentence_tables import Texts
from nmt_feat.embedders.ids import EOS
from nmt_feat.encoders.windows import EncoderWindows
from nmt_feat.features.vocabulary import Code
from nmt_feat.text.sentences import ORIGINAL
from nmt_feat.text.subwords import Subwords

FEATURE, UNITS, VALUES = "feature:", "units:", "values:"
_IDS = pa.large_list(pa.int32())
_STEP = 1 << 20


Vectors = NDArray[Any] | EncoderWindows
"""The vectors of an encoder's pieces, or the texts from which the encoder makes them."""


class EncodedSplit:
    """Encoded sentence pairs, at least one, in the order of their files.

    Attributes:
        source, target: ids, each row with EOS.
        source_lengths, target_lengths: the lengths of these rows.
        features: by feature, an id for each of the source's values.
        units: by feature with units, those of its distinct tokens; row i belongs to the id
            `FIRST + i`.
        vectors: by feature with vectors of an encoder; the feature's `units` are rows of these,
            whose mean is a token's vector.
    """

    def __init__(self, table: pa.Table) -> None:
        self._table = table
        columns = {name: table[name].chunk(0) for name in table.column_names}  # the only chunk
        self.source, self.target = _ragged(columns["source"]), _ragged(columns["target"])
        names = [n.removeprefix(FEATURE) for n in table.column_names if n.startswith(FEATURE)]
        self.features = {name: _ragged(columns[FEATURE + name]).values for name in names}
        names = [n.removeprefix(UNITS) for n in table.column_names if n.startswith(UNITS)]
        self.units = {name: _ragged(columns[UNITS + name].values) for name in names}
        self.source_lengths = np.diff(self.source.offsets)
        self.target_lengths = np.diff(self.target.offsets)
        self.vectors: dict[str, Vectors] = {}
        self.tags: tuple[str, ...] = ()
        """The features whose value is a token before the sentence."""

    @classmethod
    def open(cls, path: Path) -> EncodedSplit:
        """Memory-map what `save` wrote; nothing is read until it is used."""
        return cls(pa.ipc.open_file(pa.memory_map(str(path))).read_all())

    def with_vectors(self, name: str, ids: Ids, units: Ragged, vectors: Vectors) -> EncodedSplit:
        """Add a feature of vectors; `ids` has an id for each of the source's values."""
        bounds = pa.array(self.source.offsets)
        rows = pa.LargeListArray.from_arrays(pa.array(units.offsets), pa.array(units.values))
        table = self._table.append_column(
            FEATURE + name, pa.LargeListArray.from_arrays(bounds, pa.array(ids))
        ).append_column(UNITS + name, _in_first_row(rows, len(self)))
        split = EncodedSplit(table)
        split.vectors, split.tags = self.vectors | {name: vectors}, self.tags
        return split

    def with_source_as_target(self) -> EncodedSplit:
        """The split in which each sentence is its own translation."""
        split = copy.copy(self)
        for name in ("target", "target_text"):
            column = self._table[name.replace("target", "source")]
            index = split._table.column_names.index(name)
            split._table = split._table.set_column(index, name, column)
        split.target, split.target_lengths = self.source, self.source_lengths
        return split

    def with_source(self, source: Ragged, features: dict[str, Ids]) -> EncodedSplit:
        """The split with other source pieces and their features' ids, but the same texts."""
        split = copy.copy(self)
        split.source, split.features = source, features
        split.source_lengths = np.diff(source.offsets)
        return split

    def save(self, path: Path) -> None:
        """Write an Arrow IPC file; vectors are not in it."""
        with pa.ipc.new_file(str(path), self._table.schema) as file:
            file.write_table(self._table)

    def __len__(self) -> int:
        return int(self._table.num_rows)

    @property
    def source_texts(self) -> list[str]:
        """Raw source texts, without the translations of terms that are written into them."""
        written = "original_text" in self._table.column_names
        return list(self.texts("original" if written else "source"))

    @property
    def target_texts(self) -> list[str]:
        """Raw target texts."""
        return list(self.texts("target"))

    def texts(self, side: str) -> Texts:
        """Raw texts of `source` (as they are encoded) or `target`; they are read when needed."""
        return Texts(self._table[f"{side}_text"])

    def list_units(self, name: str) -> list[list[int]]:
        """The ids of the units of each distinct token of a feature; empty without units."""
        rows = self.units.get(name)
        return [rows.row(i).tolist() for i in range(len(rows.offsets) - 1)] if rows else []

    def feature_text(self, name: str, i: int) -> str:
        """The values of a feature in sentence i, with spaces between; empty for vectors."""
        return "" if name in self.vectors else str(self._table[VALUES + name][i])


def encode_split(
    encoder: SourceEncoder, target: Subwords, aligned: AlignedSentences, targets: Sequence[str]
) -> EncodedSplit:
    """Encode aligned sentences and their translations as a split in memory."""
    ids, units = encoder.look_up(aligned)
    table = pa.Table.from_batches([make_rows(aligned, ids, target.encode_ids(targets), targets)])
    for name, tokens in units.items():
        table = table.append_column(UNITS + name, _in_first_row(pa.array(tokens, _IDS), len(table)))
    split = EncodedSplit(table)
    split.tags = tuple(encoder.tags)
    return split


def make_rows(
    aligned: AlignedSentences,
    features: dict[str, Ids],
    target: Sequence[Sequence[int]],
    targets: Sequence[str],
) -> pa.RecordBatch:
    """A row for each sentence and its translation.

    `features`: ids of the pieces; `target`: those of the translations, without EOS.
    """
    bounds = _bounds(aligned.counts)
    columns = {
        "source": pa.LargeListArray.from_arrays(bounds, pa.array(aligned.ids)),
        "target": pa.array([[*ids, EOS] for ids in target], _IDS),
        "source_text": pa.array(aligned.words.texts, pa.large_string()),
        "target_text": pa.array(targets, pa.large_string()),
    }
    if ORIGINAL in aligned.words.labels:
        columns["original_text"] = aligned.words.labels[ORIGINAL].cast(pa.large_string())
    for name, ids in features.items():
        columns[FEATURE + name] = pa.LargeListArray.from_arrays(bounds, pa.array(ids))
    for name, values in aligned.values.items():
        offsets = _bounds(aligned.value_counts[name])
        words = pa.LargeListArray.from_arrays(offsets, values.strings().cast(pa.large_string()))
        columns[VALUES + name] = pc.binary_join(words, pa.scalar(" ", pa.large_string()))
    return pa.record_batch(columns)


def _bounds(counts: NDArray[np.int64]) -> pa.Array:
    return pa.array(np.append(0, np.cumsum(counts)))


class Writer:
    """A split that grows block by block on disk, until `finish` joins the blocks.

    Until then each buffer of each column is a separate file, so that nothing stays in memory.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._schema = pa.schema([])
        self._rows = 0
        self._sizes: list[int] = []  # values by column

    def append(self, rows: pa.RecordBatch, numbers: dict[str, Ids]) -> None:
        """Add rows as `make_rows` makes them, with `numbers[f][i]` for each id i of a feature f."""
        self._schema = rows.schema
        if not self._sizes:
            self._sizes = [0] * rows.num_columns
            for i in range(rows.num_columns):
                self._file(i, "offsets").write_bytes(bytes(8))
        self._rows += rows.num_rows
        for i, column in enumerate(rows.columns):
            (_, offsets, *_, values), size = column.buffers(), self._sizes[i]
            ends = np.frombuffer(offsets, np.int64)[1 : len(column) + 1]
            kind = np.int32 if pa.types.is_large_list(column.type) else np.uint8
            content = np.frombuffer(values or b"", kind)[: ends[-1] if len(ends) else 0]
            if (name := rows.schema.names[i].removeprefix(FEATURE)) in numbers:
                content = numbers[name][content]
            for part, array in (("offsets", ends + size), ("values", content)):
                with self._file(i, part).open("ab") as file:
                    file.write(array.tobytes())
            self._sizes[i] += len(content)

    def renumber(self, feature: str, numbers: Ids) -> None:
        """Replace each id i of a feature by `numbers[i]`."""
        file = self._file(self._schema.get_field_index(FEATURE + feature), "values")
        ids = np.memmap(file, np.int32, "r+")
        for start in range(0, len(ids), _STEP):
            ids[start : start + _STEP] = numbers[ids[start : start + _STEP]]

    def finish(self, units: dict[str, list[Code]]) -> EncodedSplit:
        """Write and open the file; `units`: by feature with units, those of its tokens."""
        columns = []
        for i, field in enumerate(self._schema):
            offsets, values = map(_mapped, (self._file(i, "offsets"), self._file(i, "values")))
            if pa.types.is_large_list(field.type):
                bounds = pa.Array.from_buffers(pa.int64(), self._rows + 1, [None, offsets])
                ids = pa.Array.from_buffers(pa.int32(), self._sizes[i], [None, values])
                columns.append(pa.LargeListArray.from_arrays(bounds, ids))
            else:
                buffers = [None, offsets, values]
                columns.append(pa.Array.from_buffers(field.type, self._rows, buffers))
        table = pa.table(columns, schema=self._schema)
        for name, tokens in units.items():
            table = table.append_column(
                UNITS + name, _in_first_row(pa.array(tokens, _IDS), self._rows)
            )
        EncodedSplit(table).save(self._path)
        for i in range(len(columns)):
            for part in ("offsets", "values"):
                self._file(i, part).unlink()
        return EncodedSplit.open(self._path)

    def _file(self, column: int, part: str) -> Path:
        return self._path.with_suffix(f".{column}.{part}")


def _mapped(path: Path) -> pa.Buffer:
    return pa.memory_map(str(path)).read_buffer() if path.stat().st_size else pa.py_buffer(b"")


def _in_first_row(units: pa.Array, rows: int) -> pa.Array:
    """A column whose first row has the units of all tokens."""
    bounds = pa.array(np.where(np.arange(rows + 1) > 0, len(units), 0))
    return pa.LargeListArray.from_arrays(bounds, units)


def _ragged(lists: pa.LargeListArray) -> Ragged:
    return Ragged(lists.values.to_numpy(), lists.offsets.to_numpy())
