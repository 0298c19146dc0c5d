"""Export to CTranslate2, and translation with an exported model.

CTranslate2 itself can concatenate and add categorical features, so for these combiners it gets the
tables as they are. Any other combiner is position-wise, too: embedding, features and combiner
together are a function of the tuple (piece, feature values). So CTranslate2 gets one table with a
row for each tuple of the training text. The native engine translates sentences with other tuples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from nmt_feat.base.checksums import check_sums, hash_files, write_sums
from nmt_feat.base.files import refuse_links, remove_tree, rename_whole
from nmt_feat.combiners import Add, Average, Concat, NoFeatures
from nmt_feat.config.schema import DecodingConfig
from nmt_feat.data.store import EncodedSplit
from nmt_feat.decoding.search import Hypothesis, check_search
from nmt_feat.errors import UserError
from nmt_feat.extras import import_optional
from nmt_feat.features import Categorical
from nmt_feat.model.embedding import SourceEmbedding, sinusoidal_positions
from nmt_feat.model.transformer import Attention, DecoderLayer, EncoderLayer, Transformer

SPECIAL = ["<pad>", "<unk>", "<s>", "</s>"]
"""The pieces 0 to 3, of which `search` produces only the last."""
JOINER = "\uffe8"
"""CTranslate2's separator of a piece and its factors."""
TUPLES = "tuples.npy"
"""File of the tuples, if the combiner is not one of CTranslate2's own."""
QUANTIZATIONS = (
    *("int8", "int8_float32", "int8_float16", "int8_bfloat16"),
    *("int16", "float16", "bfloat16", "float32"),
)
"""The quantizations that CTranslate2 has."""
ORIGIN = "WEIGHTS.sha256"
"""File with the checksum of the exported weights."""
LONGEST = 1024
"""Number of positions of the exported model."""
PATIENCE = 2.0
"""At beams above 1, CTranslate2's search ends with beam times so many finished hypotheses."""
LIMIT_STEP = 64
"""Limits of output pieces are rounded up to multiples of this."""

Tuples = NDArray[np.int32]
Table = NDArray[np.float32]


def import_ctranslate2() -> Any:
    """The package `ctranslate2`, which is an extra."""
    return import_optional("ctranslate2", "an export to CTranslate2", "ctranslate2")


def stack_columns(split: EncodedSplit, features: Sequence[str]) -> Tuples:
    """The tuples (piece, feature values) of a split, position by position: `(positions, parts)`."""
    parts = [split.source.values, *(split.features[name] for name in features)]
    return np.stack(parts, axis=1)


def list_tuples(split: EncodedSplit, features: Sequence[str]) -> Tuples:
    """The distinct tuples of a split, by frequency, then by ids."""
    rows, counts = np.unique(stack_columns(split, features), axis=0, return_counts=True)
    distinct: Tuples = rows[np.argsort(-counts, kind="stable")]
    return distinct


@torch.no_grad()
def fold_tables(embedding: SourceEmbedding) -> list[Table] | None:
    """The tables of words and features for a combiner that CTranslate2 has; None for any other.

    The sum or concatenation of their rows, which CTranslate2 computes, equals the result of the
    embedding layer, with the factor sqrt(D). Features without words have no such tables.
    """
    combiner, words = embedding.combiner, embedding.words
    if words is None or type(combiner) not in (NoFeatures, Concat, Add, Average):
        return None
    tables = [words.weight]
    for feature in embedding.features.values():
        if type(feature) is not Categorical:  # a class derived from it may change the rows
            return None
        tables.append(feature.table.weight)
    scale = math.sqrt(combiner.model_dim)
    if type(combiner) is Average:
        scale /= len(tables)
    return [(table * scale).cpu().numpy() for table in tables]


@torch.no_grad()
def merge_tuples(embedding: SourceEmbedding, tuples: Tuples) -> Table:
    """The embedding of each tuple, times sqrt(D), without positions: `(n, D)`."""
    rows = []
    for part in np.array_split(tuples, max(1, len(tuples) // 8192)):
        ids = torch.from_numpy(part.T.astype(np.int64))[:, None]
        rows.append(embedding.merge_parts(ids.unbind(), {})[0].float().cpu().numpy())
    table = np.concatenate(rows)
    return table * np.float32(np.sqrt(table.shape[1]))


def export_model(
    model: Transformer,
    tuples: Tuples | None,
    folder: Path,
    quantization: str | None,
    weights: str = "",
) -> None:
    """Write a model for CTranslate2.

    Args:
        model: on CPU; `quantization` is one of `QUANTIZATIONS` or None for fp32.
        tuples: the tuples of the source table's rows; None if `fold_tables` gives the tables.
        folder: the folder to create; it must not exist.
        weights: the SHA-256 sum of the file of the model's weights.
    """
    specs = import_ctranslate2().specs
    if tuples is None:
        tables = fold_tables(model.source)
        assert tables is not None, "this combiner needs tuples"
    else:
        tables = [merge_tuples(model.source, tuples)]
    merge = specs.EmbeddingsMerge
    spec = specs.TransformerSpec.from_config(
        (len(model.encoder), len(model.decoder)),
        model.heads,
        pre_norm=True,
        num_source_embeddings=len(tables),
        embeddings_merge=merge.CONCAT if type(model.source.combiner) is Concat else merge.ADD,
    )
    _fill_tables(spec, tables, model.target.words.weight.detach().numpy())
    _fill_layers(spec, model)
    spec.config.add_source_eos = False  # the end symbol is among the tuples
    spec.validate()
    spec.optimize(quantization=quantization)
    _write(spec, tuples, folder, weights)


def _fill_tables(spec: Any, tables: Sequence[Table], target: Table) -> None:
    """Fill in the embeddings of source and target, and name their rows."""
    for out, table in zip(spec.encoder.embeddings, tables, strict=True):
        out.weight = np.concatenate(
            [np.zeros_like(table, shape=(len(SPECIAL), table.shape[1])), table]
        )
        spec.register_source_vocabulary(SPECIAL + [f"t{i}" for i in range(len(table))])
    spec.encoder.scale_embeddings = False  # the tables are scaled already
    spec.decoder.embeddings.weight = target
    spec.decoder.scale_embeddings = True
    spec.decoder.projection.weight = target
    spec.register_target_vocabulary(SPECIAL + [str(i) for i in range(len(SPECIAL), len(target))])


def _fill_layers(spec: Any, model: Transformer) -> None:
    """Fill in positions and layers."""
    dim = model.target.words.embedding_dim
    positions = sinusoidal_positions(0, LONGEST, dim, torch.zeros(1)).numpy()
    for part, layers, norm in (
        (spec.encoder, model.encoder, model.encoder_norm),
        (spec.decoder, model.decoder, model.decoder_norm),
    ):
        part.position_encodings.encodings = positions
        _fill_norm(part.layer_norm, norm)
        for out, layer in zip(part.layer, layers, strict=True):
            assert isinstance(layer, EncoderLayer | DecoderLayer)
            _fill_attention(out.self_attention, layer.attention, layer.attention_norm)
            if isinstance(layer, DecoderLayer):
                _fill_attention(out.attention, layer.cross, layer.cross_norm)
            _fill_norm(out.ffn.layer_norm, layer.forward_norm)
            _fill_linear(out.ffn.linear_0, layer.forward_layer.inner)
            _fill_linear(out.ffn.linear_1, layer.forward_layer.outer)


def _write(spec: Any, tuples: Tuples | None, folder: Path, weights: str) -> None:
    """Write the export into a temporary folder, which is renamed when it is complete."""
    building = folder.with_name(f"{folder.name}.part")
    refuse_links(folder)
    remove_tree(building)
    building.mkdir(parents=True)
    spec.save(str(building))
    if tuples is not None:
        np.save(building / TUPLES, tuples)
    if weights:
        (building / ORIGIN).write_text(f"{weights}\n", encoding="ascii")
    write_sums(building, hash_files(building, ["*"]))
    rename_whole(building, folder)


def _fill_norm(spec: Any, norm: nn.LayerNorm) -> None:
    spec.gamma, spec.beta = norm.weight.detach().numpy(), norm.bias.detach().numpy()


def _fill_linear(spec: Any, layer: nn.Linear) -> None:
    spec.weight, spec.bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()


def _fill_attention(spec: Any, attention: Attention, norm: nn.LayerNorm) -> None:
    _fill_norm(spec.layer_norm, norm)
    layers = [attention.inputs, attention.output]
    if hasattr(attention, "query"):
        layers.insert(0, attention.query)
    for out, layer in zip(spec.linear, layers, strict=True):
        _fill_linear(out, layer)


class Translated(NamedTuple):
    """Translations by CTranslate2."""

    hypotheses: list[list[Hypothesis]]
    """The n best of each sentence; empty for sentences in `missed`."""
    missed: list[int]
    """Sentences with a tuple that was not exported, with too many pieces, or with a special piece
    in a translation."""
    replaced: list[int]
    """Sentences with a tuple in whose place its piece's most frequent one was used."""


class Exported:
    """An exported model, ready to translate.

    Args:
        folder: the export's folder.
        threads: CPU threads; 0 keeps CTranslate2's choice.
        weights: the SHA-256 sum of the run's weights, which the export has to match; empty for any.
    """

    def __init__(self, folder: Path, threads: int = 0, weights: str = "") -> None:
        if not (folder / "model.bin").is_file():
            raise UserError(f"{folder}: no export; create it with: nmt-feat export RUN")
        self.patience = PATIENCE
        advice = f"remove {folder}, and export again"
        check_sums(folder, advice=advice)
        origin = folder / ORIGIN
        if weights and origin.is_file() and origin.read_text(encoding="ascii").strip() != weights:
            raise UserError(f"{folder}: was exported from other weights than the run has; {advice}")
        self.row_of: dict[bytes, int] | None = None
        """The table's row of each tuple; None if CTranslate2 combines the features."""
        self.most_frequent: dict[int, int] = {}
        """The row of each piece's most frequent tuple."""
        if (folder / TUPLES).is_file():
            tuples: Tuples = np.load(folder / TUPLES, allow_pickle=False)
            self.row_of = {row.tobytes(): i for i, row in enumerate(tuples)}
            for i, piece in enumerate(tuples[:, 0].tolist()):
                self.most_frequent.setdefault(piece, i)
        package = import_ctranslate2()
        self.translator = package.Translator(str(folder), "auto", intra_threads=threads)

    def name_tuples(self, rows: Tuples, nearest: bool) -> tuple[list[str] | None, bool]:
        """The exported model's tokens for a sentence's tuples; None if one was not exported.

        With `nearest`, it is replaced by its piece's most frequent tuple, if there is any; the
        second value says whether that happened.
        """
        if self.row_of is None:
            return [JOINER.join(f"t{i}" for i in row) for row in rows.tolist()], False
        names, replaced = [], False
        for row in rows:
            row_number = self.row_of.get(row.tobytes())
            if row_number is None and nearest:
                row_number, replaced = self.most_frequent.get(int(row[0])), True
            if row_number is None:
                return None, False
            names.append(f"t{row_number}")
        return names, replaced

    def _search(self, sentences: list[list[str]], limit: int, cfg: DecodingConfig) -> list[Any]:
        """CTranslate2's results, with at most `limit` pieces."""
        results: list[Any] = self.translator.translate_batch(
            sentences,
            beam_size=cfg.beam,
            # With 1 the search ends as soon as it has as many hypotheses as the beam is wide.
            patience=self.patience if cfg.beam > 1 and cfg.stop == "proven" else 1,
            num_hypotheses=cfg.nbest,
            length_penalty=cfg.length_penalty,
            min_decoding_length=0,
            max_decoding_length=limit,
            max_batch_size=max(1, cfg.batch_tokens // cfg.beam),
            batch_type="tokens",
            return_scores=True,
        )
        return results

    def _search_within_limits(
        self, tokens: dict[int, list[str]], limits: dict[int, int], cfg: DecodingConfig
    ) -> dict[int, Any]:
        """CTranslate2's results by sentence, each with its own limit of output pieces.

        A call has one limit for all its sentences. So the first calls have limits that are rounded
        up, and only sentences that exceed their own limit are searched again with it. The result of
        a sentence does not depend on the other sentences.
        """
        rounded_limits = {
            i: min(math.ceil(limit / LIMIT_STEP) * LIMIT_STEP, LONGEST)
            for i, limit in limits.items()
        }
        results: dict[int, Any] = {}
        remaining = list(tokens)
        for limit_of in (rounded_limits, limits):
            for limit in sorted({limit_of[i] for i in remaining}):
                sentences = [i for i in remaining if limit_of[i] == limit]
                batch = self._search([tokens[i] for i in sentences], limit, cfg)
                results |= zip(sentences, batch, strict=True)
            remaining = [i for i in remaining if max(map(len, results[i].hypotheses)) > limits[i]]
        return results

    def translate(
        self, split: EncodedSplit, features: Sequence[str], cfg: DecodingConfig, nearest: bool
    ) -> Translated:
        """Beam search by CTranslate2."""
        check_search(cfg.beam, cfg.nbest, cfg.length_penalty)
        rows, bounds = stack_columns(split, features), split.source.offsets
        encoded = [
            self.name_tuples(rows[bounds[i] : bounds[i + 1]], nearest) for i in range(len(split))
        ]
        tokens = {
            i: pieces for i, (pieces, _) in enumerate(encoded) if pieces and len(pieces) <= LONGEST
        }
        limits = {
            i: min(int(cfg.max_ratio * (len(pieces) - 1)) + cfg.max_extra, LONGEST)
            for i, pieces in tokens.items()
        }
        results = self._search_within_limits(tokens, limits, cfg)
        hypotheses: list[list[Hypothesis]] = [[] for _ in encoded]
        for i, result in results.items():
            # CTranslate2 could suppress special pieces, but that would change the softmax and so
            # the scores.
            if any(piece in words for words in result.hypotheses for piece in SPECIAL):
                continue
            for words, score in zip(result.hypotheses, result.scores, strict=True):
                length = (len(words) + 1) ** cfg.length_penalty
                hypotheses[i].append(Hypothesis([*map(int, words)], score, score * length))
        missed = [i for i, best in enumerate(hypotheses) if not best]
        replaced = [
            i for i, (_, is_replaced) in enumerate(encoded) if is_replaced and hypotheses[i]
        ]
        return Translated(hypotheses, missed, replaced)
