"""Encoders of Hugging Face made on the spot: random weights, a tokeniser of the texts given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch

pytest.importorskip("transformers")

import transformers
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)
from tokenizers import trainers as training

from nmt_feat.text.conllu import read_conllu

WIDTH, LAYERS = 8, 3
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


def word_piece(texts: Iterable[str], size: int = 120) -> Tokenizer:
    """BERT's own, lower-cased and without accents: characters, then the most frequent words.

    Not trained: the library's trainer finds other pieces of the same texts each time, and with them
    come other weights and other roundings.
    """
    normalizer, splitter = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    words = Counter(
        word
        for text in texts
        for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))
    )
    letters = sorted(set("".join(words)))
    frequent = sorted(words, key=lambda word: (-words[word], word))
    pieces = [*SPECIAL, *letters, *(f"##{letter}" for letter in letters), *frequent]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(
        models.WordPiece(
            {piece: number for piece, number in vocabulary.items() if number < size},
            unk_token="[UNK]",
        )
    )
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = splitter
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


def byte_pairs(texts: Iterable[str], size: int = 320) -> Tokenizer:
    """GPT-2's: bytes, spaces begin pieces."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        training.BpeTrainer(
            vocab_size=size,
            special_tokens=SPECIAL,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


def save(folder: Path, tokenizer: Tokenizer, longest: int = 64, seed: int = 0) -> Path:
    """A small BERT with this tokeniser, as `save_pretrained` writes it."""
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep")}
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=longest, **names
    ).save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = transformers.BertModel(
            transformers.BertConfig(
                vocab_size=tokenizer.get_vocab_size(),
                hidden_size=WIDTH,
                num_hidden_layers=LAYERS,
                num_attention_heads=2,
                intermediate_size=16,
                max_position_embeddings=longest,
                initializer_range=0.5,
            )
        )
    model.save_pretrained(folder)
    return folder


def corpus_texts(corpus: Path) -> list[str]:
    """The sentences of the training split."""
    return [sentence.text for sentence in read_conllu(corpus / "train.conllu")]


def settings(encoder: Path, *more: str) -> tuple[str, ...]:
    """Overrides of a short run with the encoder's vectors as its only feature."""
    options = ("features=[contextual]", f"features.contextual.encoder={encoder}")
    return (*options, "trainer.max_steps=4", "model.dim=32", *more)
