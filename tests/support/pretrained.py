"""Pretrained models made on the spot: two layers, random weights, pieces of the small corpus."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import torch

from nmt_feat.text.conllu import read_conllu

pytest.importorskip("transformers", reason="needs the extra transformers")

import transformers

SIZES: dict[str, Any] = {
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "scale_embedding": True,
    "init_std": 0.4,
}
PIECES = 110
"""Of each side."""


def train_pieces(texts: list[str]) -> bytes:
    """SentencePiece's model as Marian has it, with its normalisation."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=model,
        vocab_size=PIECES,
        hard_vocab_limit=False,
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()


def make_marian(folder: Path, corpus: Path) -> Path:
    """The folder of a Marian model, as `save_pretrained` writes it."""
    folder.mkdir(parents=True)
    source = [sentence.text for sentence in read_conllu(corpus / "train.conllu")]
    target = (corpus / "train.de").read_text(encoding="utf-8").splitlines()
    names = ["</s>", "<unk>"]
    for side, texts in (("source", source), ("target", target)):
        proto = train_pieces(texts)
        (folder / f"{side}.spm").write_bytes(proto)
        pieces = sentencepiece.SentencePieceProcessor(model_proto=proto)
        names += [pieces.id_to_piece(i) for i in range(3, pieces.get_piece_size())]
    names = [*dict.fromkeys(names), "<pad>"]
    vocabulary = {name: id for id, name in enumerate(names)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    files = [str(folder / name) for name in ("source.spm", "target.spm", "vocab.json")]
    transformers.MarianTokenizer(*files).save_pretrained(folder)
    config = transformers.MarianConfig(
        **SIZES,
        vocab_size=len(names),
        max_position_embeddings=128,
        pad_token_id=len(names) - 1,
        decoder_start_token_id=len(names) - 1,
        eos_token_id=0,
        forced_eos_token_id=None,
    )
    torch.manual_seed(1)
    model: Any = transformers.MarianMTModel(config)
    model.final_logits_bias.normal_(std=0.3)
    model.final_logits_bias[0, 0] = 3.0  # so that sentences end
    model.save_pretrained(folder)
    return folder


def make_m2m(folder: Path, corpus: Path) -> Path:
    """The folder of an M2M-100 model."""
    folder.mkdir(parents=True)
    texts = [sentence.text for sentence in read_conllu(corpus / "train.conllu")]
    texts += (corpus / "train.de").read_text(encoding="utf-8").splitlines()
    proto = train_pieces(texts)
    (folder / "sentencepiece.bpe.model").write_bytes(proto)
    model = sentencepiece.SentencePieceProcessor(model_proto=proto)
    names = ["<s>", "<pad>", "</s>", "<unk>"]
    names += [model.id_to_piece(i) for i in range(3, model.get_piece_size())]
    vocabulary = {name: id for id, name in enumerate(names)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    files = (str(folder / "vocab.json"), str(folder / "sentencepiece.bpe.model"))
    tokenizer = transformers.M2M100Tokenizer(*files, src_lang="en", tgt_lang="de")
    tokenizer.save_pretrained(folder)
    torch.manual_seed(1)
    config = transformers.M2M100Config(  # type: ignore[call-arg]
        **SIZES,
        vocab_size=len(names) + len(tokenizer.lang_code_to_id) + tokenizer.num_madeup_words,
        max_position_embeddings=128,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        decoder_start_token_id=2,
        forced_eos_token_id=None,
    )
    transformers.M2M100ForConditionalGeneration(config).save_pretrained(folder)
    return folder
