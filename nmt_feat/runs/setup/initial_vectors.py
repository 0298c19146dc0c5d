"""Ready-made vectors in a model before it is trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nmt_feat.config.schema import TrainConfig
from nmt_feat.data.prepare import Prepared
from nmt_feat.embedders.ids import EOS
from nmt_feat.errors import UserError
from nmt_feat.features.choice import choose_kinds
from nmt_feat.model.translation_model import TranslationModel
from nmt_feat.runs.setup.build_model import choose_std
from nmt_feat.runs.setup.method_rules import refuse_width
from nmt_feat.text.subwords import MARK, Subwords
from nmt_feat.text.word_vectors import read_vectors, vector_width

Rows = NDArray[np.int64]


def pieces_with_vectors(path: Path | str, subwords: Subwords) -> tuple[Rows, NDArray[np.float32]]:
    """The ids `(n,)` of the pieces for which a file has vectors, and the vectors `(n, width)`.

    A piece is looked up as it is written; a piece that begins a word (`▁the`) also without its
    mark. Special pieces have no vectors.
    """
    names = dict(zip(subwords.names[EOS + 1 :], range(EOS + 1, subwords.size), strict=True))
    plain = {name[1:] for name in names if name.startswith(MARK) and len(name) > 1}
    words, vectors = read_vectors(path, wanted=names.keys() | plain)
    row_of = {word: i for i, word in enumerate(words)}
    rows_by_id: dict[int, int | None] = {}
    for name, id in names.items():
        without_mark = name[1:] if name.startswith(MARK) else None
        rows_by_id[id] = row_of.get(name, row_of.get(without_mark) if without_mark else None)
    ids = np.array([id for id, row in rows_by_id.items() if row is not None], np.int64)
    rows = [row for row in rows_by_id.values() if row is not None]
    if not rows:
        raise UserError(
            f"model.source_vectors={path}: has no vector for any source piece; give vectors of the "
            "source language"
        )
    return ids, vectors[rows]


@torch.no_grad()
def set_rows(
    table: nn.Embedding, ids: Rows, vectors: NDArray[np.float32], std: float, frozen: bool
) -> None:
    """Copy vectors into the rows `ids`, scaled to the root mean square `std` of all tables.

    With `frozen`, these rows get no gradient.
    """
    tensor = torch.from_numpy(vectors)
    rows = torch.from_numpy(ids)
    table.weight[rows] = tensor * (std / tensor.square().mean().sqrt().clamp(min=1e-12))
    if frozen:
        freeze_rows(table.weight, rows)


def freeze_rows(weight: Tensor, rows: Tensor) -> None:
    """Remove the gradient of `rows` of a table. They stay as they are if weights do not decay."""
    trained = torch.ones(len(weight), 1)
    trained[rows] = 0.0

    def without_frozen(gradient: Tensor) -> Tensor:
        nonlocal trained
        trained = trained.to(gradient)  # moves it to the device of the table, once
        return gradient * trained

    weight.register_hook(without_frozen)  # type: ignore[no-untyped-call]


def describe_coverage(ids: Rows, subwords: Subwords, source: NDArray[np.int32]) -> str:
    """A note: how many pieces, and how many of the `source` ids of a corpus, have a vector."""
    counts = np.bincount(source, minlength=subwords.size)[EOS + 1 : subwords.size]
    pieces, covered = subwords.size - EOS - 1, counts[ids - EOS - 1].sum()
    return (
        f"model.source_vectors: {len(ids):,} of {pieces:,} source pieces have a vector "
        f"({len(ids) / pieces:.1%}), {covered / max(counts.sum(), 1):.1%} of those in train"
    )


def set_initial_vectors(model: TranslationModel, cfg: TrainConfig, prepared: Prepared) -> list[str]:
    """Copy the vectors that the settings name into an untrained model; notes for the user."""
    kinds = choose_kinds(cfg.features)
    for name, embedder in model.feature_embedding.features.items():
        kinds[name].load_vectors(embedder, prepared.folder)
    if not (file := cfg.model.source_vectors):
        return []
    assert model.source.words is not None
    refuse_width(model.source.combiner, cfg.model, vector_width(file))
    ids, vectors = pieces_with_vectors(file, prepared.encoder.subwords)
    frozen = cfg.model.source_frozen
    set_rows(model.source.words, ids, vectors, choose_std(cfg.model), frozen)
    model.source.fixed_count = vectors.size * frozen
    return [describe_coverage(ids, prepared.encoder.subwords, prepared.train.source.values)]
