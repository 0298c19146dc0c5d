"""Export to CTranslate2, and translation with what was exported.

A combiner is position-wise, so embedding, features and combiner together are a function of the
tuple (piece, feature values). CTranslate2 gets one table with a row for each tuple of the training
text, whatever the combiner; a sentence with another tuple is left to the native engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from nmt_feat.corpus.store import Split
from nmt_feat.errors import UserError
from nmt_feat.model.embedding import SourceEmbedding, positions
from nmt_feat.model.transformer import Attention, DecoderLayer, EncoderLayer, Transformer
from nmt_feat.schema import DecodingConfig
from nmt_feat.search import Hypothesis

SPECIAL = ["<pad>", "<unk>", "<s>", "</s>"]
"""The pieces 0 to 3, of which `search` produces only the last."""
TUPLES = "tuples.npy"
LONGEST = 1024
"""Positions that the exported model knows."""

Tuples = NDArray[np.int32]


def ctranslate2() -> Any:
    """The package, an extra."""
    try:
        import ctranslate2
    except ImportError:
        raise UserError(
            "CTranslate2 is not installed; get it by: pip install 'nmt_feat[ctranslate2]'"
        ) from None
    return ctranslate2


def columns(split: Split, features: Sequence[str]) -> Tuples:
    """The tuples (piece, feature values) of a split, position by position: `(positions, parts)`."""
    parts = [split.source.values, *(split.features[name] for name in features)]
    return np.stack(parts, axis=1)


def attested(split: Split, features: Sequence[str]) -> Tuples:
    """The distinct tuples of a split, the most frequent first, the smaller ids first."""
    found, counts = np.unique(columns(split, features), axis=0, return_counts=True)
    distinct: Tuples = found[np.argsort(-counts, kind="stable")]
    return distinct


@torch.no_grad()
def merged(embedding: SourceEmbedding, tuples: Tuples) -> NDArray[np.float32]:
    """What the embedding layer makes of each tuple, times sqrt(D), without positions: `(n, D)`."""
    rows = []
    for part in np.array_split(tuples, max(1, len(tuples) // 8192)):
        ids = torch.from_numpy(part.T.astype(np.int64))[:, None]
        rows.append(embedding.merge(*ids)[0].float().cpu().numpy())
    table = np.concatenate(rows)
    return table * np.float32(np.sqrt(table.shape[1]))


def export(model: Transformer, tuples: Tuples, folder: Path, quantization: str | None) -> None:
    """Write `model` for CTranslate2, with a row of the source table for each of `tuples`.

    Args:
        model: on CPU; `quantization` is one of CTranslate2's (int8, float16 ...) or None for fp32.
        folder: is made; must not exist.
    """
    specs = ctranslate2().specs
    encoder = [layer for layer in model.encoder if isinstance(layer, EncoderLayer)]
    decoder = [layer for layer in model.decoder if isinstance(layer, DecoderLayer)]
    heads, dim = encoder[0].attention.heads, model.target.words.embedding_dim
    spec = specs.TransformerSpec.from_config((len(encoder), len(decoder)), heads, pre_norm=True)
    table = merged(model.source, tuples)
    spec.encoder.embeddings[0].weight = np.concatenate(
        [np.zeros((len(SPECIAL), dim), np.float32), table]
    )
    spec.encoder.scale_embeddings = False
    target = model.target.words.weight.detach().numpy()
    spec.decoder.embeddings.weight = target
    spec.decoder.scale_embeddings = True
    spec.decoder.projection.weight = target
    places = positions(0, LONGEST, dim, torch.zeros(1)).numpy()
    for part, layers, norm in (
        (spec.encoder, encoder, model.encoder_norm),
        (spec.decoder, decoder, model.decoder_norm),
    ):
        part.position_encodings.encodings = places
        _norm(part.layer_norm, norm)
        for out, layer in zip(part.layer, layers, strict=True):
            _attention(out.self_attention, layer.attention, layer.attention_norm)
            if isinstance(layer, DecoderLayer):
                _attention(out.attention, layer.cross, layer.cross_norm)
            _norm(out.ffn.layer_norm, layer.forward_norm)
            _linear(out.ffn.linear_0, layer.forward_layer.inner)
            _linear(out.ffn.linear_1, layer.forward_layer.outer)
    spec.register_source_vocabulary(SPECIAL + [f"t{i}" for i in range(len(tuples))])
    spec.register_target_vocabulary(SPECIAL + [str(i) for i in range(len(SPECIAL), len(target))])
    spec.config.add_source_eos = False  # it is among the tuples
    spec.validate()
    spec.optimize(quantization=quantization)
    folder.mkdir(parents=True)
    spec.save(str(folder))
    np.save(folder / TUPLES, tuples)


def _norm(spec: Any, norm: nn.LayerNorm) -> None:
    spec.gamma, spec.beta = norm.weight.detach().numpy(), norm.bias.detach().numpy()


def _linear(spec: Any, layer: nn.Linear) -> None:
    spec.weight, spec.bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()


def _attention(spec: Any, attention: Attention, norm: nn.LayerNorm) -> None:
    _norm(spec.layer_norm, norm)
    layers = [attention.inputs, attention.output]
    if hasattr(attention, "query"):
        layers.insert(0, attention.query)
    for out, layer in zip(spec.linear, layers, strict=True):
        _linear(out, layer)


class Exported:
    """What `export` wrote, ready to translate.

    Args:
        folder: the export's.
        threads: CPU threads; 0 keeps CTranslate2's choice.
    """

    def __init__(self, folder: Path, threads: int = 0) -> None:
        if not (folder / TUPLES).is_file():
            raise UserError(f"{folder}: no export; make it by: python scripts/export.py RUN")
        self.tuples: Tuples = np.load(folder / TUPLES)  # NumPy unpickles nothing unless asked to
        self.places = {row.tobytes(): i for i, row in enumerate(self.tuples)}
        self.most_frequent: dict[int, int] = {}
        for i, piece in enumerate(self.tuples[:, 0].tolist()):
            self.most_frequent.setdefault(piece, i)
        self.translator = ctranslate2().Translator(str(folder), "auto", intra_threads=threads)

    def tokens(self, rows: Tuples, nearest: bool) -> list[str] | None:
        """The exported tokens of a sentence's tuples; none where one was not exported.

        With `nearest`, its piece's most frequent tuple stands for it, if there is one.
        """
        found = []
        for row in rows:
            place = self.places.get(row.tobytes())
            if place is None and nearest:
                place = self.most_frequent.get(int(row[0]))
            if place is None:
                return None
            found.append(f"t{place}")
        return found

    def translate(
        self, split: Split, features: Sequence[str], cfg: DecodingConfig, nearest: bool
    ) -> tuple[list[list[Hypothesis]], list[int]]:
        """Beam search by CTranslate2: the n best of each sentence, and the sentences without.

        The latter have a tuple that was not exported, or got a piece that `search` never produces.
        """
        rows, bounds = columns(split, features), split.source.offsets
        tokens = [self.tokens(rows[bounds[i] : bounds[i + 1]], nearest) for i in range(len(split))]
        known = [i for i, sentence in enumerate(tokens) if sentence]
        longest = int(split.source_lengths.max()) - 1
        results = self.translator.translate_batch(
            [tokens[i] for i in known],
            beam_size=cfg.beam,
            # Twice as many finished hypotheses as its default: as far as our own search looks.
            patience=2 if cfg.beam > 1 else 1,
            num_hypotheses=cfg.nbest,
            length_penalty=cfg.length_penalty,
            min_decoding_length=0,
            max_decoding_length=int(cfg.max_ratio * longest) + cfg.max_extra,
            max_batch_size=max(1, cfg.batch_tokens // cfg.beam),
            batch_type="tokens",
            return_scores=True,
        )
        hypotheses: list[list[Hypothesis]] = [[] for _ in tokens]
        for i, result in zip(known, results, strict=True):
            # To suppress these pieces would take their mass from the softmax: other scores.
            if any(piece in words for words in result.hypotheses for piece in SPECIAL):
                continue
            for words, score in zip(result.hypotheses, result.scores, strict=True):
                length = (len(words) + 1) ** cfg.length_penalty
                hypotheses[i].append(Hypothesis([*map(int, words)], score, score * length))
        return hypotheses, [i for i, found in enumerate(hypotheses) if not found]
