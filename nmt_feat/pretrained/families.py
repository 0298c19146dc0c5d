"""The kinds of pretrained models: their files, pieces and sizes, and their languages' codes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SPM = "sentencepiece.bpe.model"
FAIRSEQ = ("<s>", "<pad>", "</s>", "<unk>")
"""The first pieces in fairseq's order; they replace the first three of SentencePiece's model."""
SIZES = {
    "dim": "d_model",
    "ffn_dim": "encoder_ffn_dim",
    "heads": "encoder_attention_heads",
    "encoder_layers": "encoder_layers",
    "decoder_layers": "decoder_layers",
}
"""By setting of the model, its key in config.json."""
DROPOUTS = {
    "dropout": "dropout",
    "attention_dropout": "attention_dropout",
    "activation_dropout": "activation_dropout",
}
"""The same for settings of dropout."""
T5_SIZES = {
    "dim": "d_model",
    "ffn_dim": "d_ff",
    "heads": "num_heads",
    "encoder_layers": "num_layers",
    "decoder_layers": "num_decoder_layers",
}


@dataclass(frozen=True)
class Family:
    """What the folders of a kind of model have in common."""

    source: str
    """The file of SentencePiece's model for the source side."""
    target: str
    """The file of SentencePiece's model for the target side."""
    numbers: str = "vocab.json"
    """Where ids of pieces come from: this file; or the order of SentencePiece's model (`pieces`);
    or that order as in fairseq, with codes of languages behind the pieces (`fairseq`)."""
    code: str = ""
    """How the code of a language is written, such as `__{}__`; empty if there are no codes."""
    codes: str = ""
    """The module of `transformers` that lists the codes."""
    code_is_last: bool = False
    """If true, the code ends the source, and is the first symbol of the target. If false, the code
    begins the source, and is the second symbol of the target."""
    unnamed: int = 0
    """The largest number of rows of the table that belong to no piece."""
    sizes: Mapping[str, str] = field(default_factory=lambda: SIZES)
    dropouts: Mapping[str, str] = field(default_factory=lambda: DROPOUTS)
    fallbacks: Mapping[str, str] = field(default_factory=dict)
    """By key of config.json, the key whose value counts if the first one is missing."""
    projections: tuple[str, str] = ("q_proj", "v_proj")
    """The names of the projections of queries and values, to which LoRA applies by default."""

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
    fallbacks={"num_decoder_layers": "num_layers"},
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
BY_TOKENIZER = {"NllbTokenizer": "nllb", "MBart50Tokenizer": "mbart50"}
"""By the class of the tokeniser, families that share their type with another family."""
TYPES = tuple(name for name in FAMILIES if name not in BY_TOKENIZER.values())
"""The types of these models in config.json."""


def choose_family(config: Mapping[str, Any], tokenizer: Mapping[str, Any] | None = None) -> Family:
    """Choose the family of a model, by the content of its config.json and tokenizer_config.json.

    Without the second, the family has the right layers, but maybe other pieces.
    """
    tokenizer_class = (tokenizer or {}).get("tokenizer_class") or config.get("tokenizer_class")
    name = str(tokenizer_class or "").removesuffix("Fast")
    return FAMILIES[BY_TOKENIZER.get(name, config["model_type"])]
