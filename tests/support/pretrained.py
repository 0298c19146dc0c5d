"""Pretrained models made on the spot: two layers, random weights, pieces of the small corpus."""

from __future__ import annotations

import importlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import sentencepiece
import torch

from nmt_feat.data.prepare import prepare
from nmt_feat.text.conllu import read_conllu
from tests.support.small import Small

pytest.importorskip("transformers", reason="needs the extra transformers")

import transformers
from transformers import M2M100ForConditionalGeneration as M2M

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
M2M_SIZES: dict[str, Any] = SIZES | {
    "init_std": 1.0,
    "max_position_embeddings": 128,
    "decoder_start_token_id": 2,
    "forced_eos_token_id": None,
}
PIECES = 110
"""Of each side."""


class Reference(NamedTuple):
    """A pretrained model as `transformers` has it."""

    folder: Path
    tokenizer: Any
    model: Any
    texts: dict[str, Any]
    """Ids and mask of the first sentences, as the tokeniser gives them."""
    labels: torch.Tensor
    codes: tuple[int, ...] = ()
    """Ids of the codes of source and target language."""


def describe(
    folder: Path, corpus: Path, languages: Sequence[str] = (), count: int = 24, prefix: str = ""
) -> Reference:
    """What `transformers` has in a folder, and the first sentences by its tokeniser."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    if languages:
        tokenizer.src_lang, tokenizer.tgt_lang = languages
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    small = Small(corpus, corpus.parent / "cache", folder.parent)
    train = prepare(small.config("combiner=none"), {}).train
    sources, targets = train.source_texts[:count], train.target_texts[:count]
    texts = [f"{prefix} {text}" if prefix else text for text in sources]
    texts = tokenizer(texts, return_tensors="pt", padding=True)
    labels = tokenizer(text_target=list(targets), return_tensors="pt", padding=True).input_ids
    names = [f"__{one}__" if isinstance(model, M2M) and len(one) == 2 else one for one in languages]
    codes = tuple(map(tokenizer.convert_tokens_to_ids, names))
    return Reference(folder, tokenizer, model, dict(texts), labels, codes)


def generate(reference: Reference, beam: int, limit: int, **settings: Any) -> list[list[int]]:
    """The translations of `generate`, the n best of each sentence, without special pieces.

    `settings` are more of its own.
    """
    config, codes = reference.model.config, reference.codes
    start = codes[1] if is_mbart(reference) else config.decoder_start_token_id
    first = torch.full((len(reference.labels), 1), start)
    if codes and not is_mbart(reference):  # as a forced piece it would count in the length
        first = torch.nn.functional.pad(first, (0, 1), value=codes[1])
    rows = reference.model.generate(
        **reference.texts,
        decoder_input_ids=first,
        decoder_start_token_id=start,
        num_beams=beam,
        num_return_sequences=beam,
        do_sample=False,
        max_new_tokens=limit + 1,
        logits_processor=[EndAtLimit(first.shape[1] + limit, config.eos_token_id)],
        suppress_tokens=[config.pad_token_id, reference.tokenizer.unk_token_id],
        forced_bos_token_id=None,
        **settings,
    )
    special = {config.pad_token_id, config.eos_token_id}
    return [[id for id in row[first.shape[1] :].tolist() if id not in special] for row in rows]


class EndAtLimit(transformers.LogitsProcessor):
    """Hypotheses of so many ids have to end, as in our search."""

    def __init__(self, length: int, end: int) -> None:
        self.length, self.end = length, end

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if input_ids.shape[1] < self.length:
            return scores
        ends = torch.full_like(scores, -torch.inf)
        ends[:, self.end] = scores[:, self.end]
        return ends


def shift(reference: Reference) -> torch.Tensor:
    """What the decoder reads before each label."""
    if is_mbart(reference):
        inputs: torch.Tensor = reference.model.prepare_decoder_input_ids_from_labels(
            reference.labels
        )
        return inputs
    start = torch.full_like(reference.labels[:, :1], reference.model.config.decoder_start_token_id)
    return torch.cat([start, reference.labels[:, :-1]], dim=1)


def is_mbart(reference: Reference) -> bool:
    """Whether codes of languages stand behind sentences."""
    return isinstance(reference.tokenizer, transformers.MBartTokenizer)


def read_texts(corpus: Path) -> list[str]:
    """Sentences of both sides."""
    texts = [sentence.text for sentence in read_conllu(corpus / "train.conllu")]
    return texts + (corpus / "train.de").read_text(encoding="utf-8").splitlines()


def train_pieces(texts: list[str], **settings: Any) -> bytes:
    """SentencePiece's model as Marian has it, with its normalisation."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=model,
        vocab_size=PIECES,
        hard_vocab_limit=False,
        num_threads=1,
        minloglevel=2,
        **settings,
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
    names = [*dict.fromkeys(names), ">>de<<", "<pad>"]
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
    torch.manual_seed(3)
    model: Any = transformers.MarianMTModel(config)
    model.final_logits_bias.normal_(std=0.3)
    model.final_logits_bias[0, 0] = 3.0  # so that sentences end
    model.save_pretrained(folder)
    return folder


def make_m2m(folder: Path, corpus: Path) -> Path:
    """The folder of an M2M-100 model."""
    folder.mkdir(parents=True)
    proto = train_pieces(read_texts(corpus))
    (folder / "sentencepiece.bpe.model").write_bytes(proto)
    model = sentencepiece.SentencePieceProcessor(model_proto=proto)
    names = ["<s>", "<pad>", "</s>", "<unk>"]
    names += [model.id_to_piece(i) for i in range(3, model.get_piece_size())]
    vocabulary = {name: id for id, name in enumerate(names)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    files = (str(folder / "vocab.json"), str(folder / "sentencepiece.bpe.model"))
    tokenizer = transformers.M2M100Tokenizer(*files, src_lang="en", tgt_lang="de")
    tokenizer.save_pretrained(folder)
    torch.manual_seed(2)
    size = len(names) + len(tokenizer.lang_code_to_id) + tokenizer.num_madeup_words
    save_with_ends(M2M(transformers.M2M100Config(**M2M_SIZES, vocab_size=size)), folder)
    return folder


def save_with_ends(model: Any, folder: Path) -> None:
    """Save a model some of whose sentences end: the end symbol's scores are far from zero."""
    with torch.no_grad():
        model.get_output_embeddings().weight[model.config.eos_token_id] *= 5
    model.save_pretrained(folder)


def list_codes(name: str) -> list[str]:
    """The codes of languages that `transformers` knows for a kind of model."""
    module = importlib.import_module(f"transformers.models.{name}.tokenization_{name}")
    return list(module.FAIRSEQ_LANGUAGE_CODES)


def write_fairseq_pieces(folder: Path, corpus: Path, kind: str, name: str, cls: str) -> list[str]:
    """SentencePiece's model, as mBART and NLLB have it; the pieces by id."""
    folder.mkdir(parents=True)
    proto = train_pieces(read_texts(corpus), model_type=kind)
    (folder / "sentencepiece.bpe.model").write_bytes(proto)
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": cls}), encoding="utf-8"
    )
    model = sentencepiece.SentencePieceProcessor(model_proto=proto)
    pieces = [model.id_to_piece(i) for i in range(3, model.get_piece_size())]
    return ["<s>", "<pad>", "</s>", "<unk>", *pieces, *list_codes(name), "<mask>"]


def make_mbart(folder: Path, corpus: Path, name: str = "mbart") -> Path:
    """The folder of a model of mBART, or mBART-50 (`mbart50`)."""
    cls = {"mbart": "MBartTokenizer", "mbart50": "MBart50Tokenizer"}[name]
    names = write_fairseq_pieces(folder, corpus, "unigram", name, cls)
    torch.manual_seed(1)
    config = transformers.MBartConfig(
        **SIZES,
        vocab_size=len(names),
        max_position_embeddings=128,
        decoder_start_token_id=2 if name == "mbart50" else None,
        forced_eos_token_id=None,
    )
    model: Any = transformers.MBartForConditionalGeneration(config)
    model.final_logits_bias[0, 2] = 3.0  # so that sentences end
    model.save_pretrained(folder)
    return folder


def make_nllb(folder: Path, corpus: Path) -> Path:
    """The folder of a model of NLLB: M2M-100's layers, other pieces and codes."""
    names = write_fairseq_pieces(folder, corpus, "bpe", "nllb", "NllbTokenizer")
    # Without a file of the tokeniser itself `transformers` has the mask before the codes.
    merges = json.loads(
        transformers.NllbTokenizer.from_pretrained(folder).backend_tokenizer.to_str()
    )["model"]["merges"]
    vocabulary = {name: id for id, name in enumerate(names)}
    tokenizer = transformers.NllbTokenizer(vocab=vocabulary, merges=[tuple(m) for m in merges])
    tokenizer.save_pretrained(folder)
    torch.manual_seed(2)
    save_with_ends(M2M(transformers.M2M100Config(**M2M_SIZES, vocab_size=len(names) + 2)), folder)
    return folder


def make_t5(folder: Path, corpus: Path, name: str = "t5") -> Path:
    """The folder of a model of T5, or of mT5 (`mt5`), whose output has a table of its own."""
    folder.mkdir(parents=True)
    special = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}
    proto = train_pieces(read_texts(corpus), **special)
    (folder / "spiece.model").write_bytes(proto)
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "T5Tokenizer", "extra_ids": 100}), encoding="utf-8"
    )
    size = sentencepiece.SentencePieceProcessor(model_proto=proto).get_piece_size()
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_heads": 3, "num_layers": 2}
    more = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
    torch.manual_seed(1)
    kinds: Any = {
        "t5": (transformers.T5Config, transformers.T5ForConditionalGeneration),
        "mt5": (transformers.MT5Config, transformers.MT5ForConditionalGeneration),
    }
    config = kinds[name][0](
        **sizes,
        vocab_size=size + 100,
        decoder_start_token_id=0,
        initializer_factor=4.0,
        **more if name == "mt5" else {},
    )
    model = kinds[name][1](config)
    if name == "mt5":
        table = torch.randn(model.lm_head.weight.shape) / 4
        model.lm_head.weight = torch.nn.Parameter(table)
    save_with_ends(model, folder)
    return folder
