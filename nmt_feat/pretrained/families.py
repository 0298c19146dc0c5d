"""The kinds of pretrained models: their files, pieces and sizes, and their languages' codes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SPM = "sentencepiece.bpe.model"
FAIRSEQ = ("<s>", "<pad>", "</s>", "<unk>")
"""The first pieces in fairseq's order, in place of the first three of SentencePiece's model."""
SIZES = {
    "dim": "d_model",
    "ffn_dim": "encoder_ffn_dim",
    "heads": "encoder_attention_heads",
    "encoder_layers": "encoder_layers",
    "decoder_layers": "decoder_layers",
}
"""By setting of the model what a configuration calls it."""
DROPOUTS = {
    "dropout": "dropout",
    "attention_dropout": "attention_dropout",
    "activation_dropout": "activation_dropout",
}
"""The same of its settings of dropout."""
T5_SIZES = {
    "dim": "d_model",
    "ffn_dim": "d_ff",
    "heads": "num_heads",
    "encoder_layers": "num_layers",
    "decoder_layers": "num_decoder_layers",
}


@dataclass(frozen=True)
class Family:
    """What the folders of one kind of model have."""

    source: str
    """SentencePiece's model of the source side."""
    target: str
    numbers: str = "vocab.json"
    """What says the id of a piece: this file, or the order of SentencePiece's model (`pieces`),
    or that order as fairseq has it, with codes of languages behind the pieces (`fairseq`)."""
    code: str = ""
    """How the code of a language is written, `__{}__`; empty where there are none."""
    codes: str = ""
    """The module of `transformers` that lists them."""
    code_is_last: bool = False
    """Whether the code ends the source, and begins the target without another symbol before it;
    else it begins the source, and follows the target's first symbol."""
    unnamed: int = 0
    """Rows at most of the table that no piece has."""
    sizes: Mapping[str, str] = field(default_factory=lambda: SIZES)
    dropouts: Mapping[str, str] = field(default_factory=lambda: DROPOUTS)
    same_unless_said: Mapping[str, str] = field(default_factory=dict)
    """By name entries of a configuration that are another one where they are missing."""
    projections: tuple[str, str] = ("q_proj", "v_proj")
    """What its layers call the projections of queries and values, where LoRA is by default."""

    @property
    def files(self) -> tuple[str, ...]:
        """The files of the tokeniser."""
        numbers = [self.numbers] if self.numbers.endswith(".json") else []
        return (*dict.fromkeys((self.source, self.target)), *numbers)


def _codes_of(name: str) -> str:
    return f"transformers.models.{name}.tokenization_{name}"


_T5 = Family(
    *("spiece.model", "spiece.model", "pieces"),
    unnamed=128,  # a hundred marks of spans and padding
    sizes=T5_SIZES,
    dropouts={"dropout": "dropout_rate"},  # one for all
    same_unless_said={"num_decoder_layers": "num_layers"},
    projections=("q", "v"),
)
FAMILIES = {
    "marian": Family("source.spm", "target.spm"),
    "m2m_100": Family(SPM, SPM, code="__{}__", codes=_codes_of("m2m_100"), unnamed=16),
    "nllb": Family(SPM, SPM, "fairseq", "{}", _codes_of("nllb"), unnamed=16),
    "mbart": Family(SPM, SPM, "fairseq", "{}", _codes_of("mbart"), code_is_last=True),
    "mbart50": Family(SPM, SPM, "fairseq", "{}", _codes_of("mbart50")),
    "t5": _T5,
    "mt5": _T5,
}
TYPES = ("marian", "m2m_100", "mbart", "t5", "mt5")
"""What configurations call the types of these models."""
BY_TOKENIZER = {"NllbTokenizer": "nllb", "MBart50Tokenizer": "mbart50"}
"""Families that have the type of another one, by the class of the tokeniser."""


def choose_family(config: Mapping[str, Any], tokenizer: Mapping[str, Any] | None = None) -> Family:
    """The family of a model, by the content of its config.json and its tokenizer_config.json.

    Without the second, a family of the same layers, whose pieces may be others.
    """
    named = (tokenizer or {}).get("tokenizer_class") or config.get("tokenizer_class") or ""
    return FAMILIES[BY_TOKENIZER.get(str(named).removesuffix("Fast"), config["model_type"])]
