"""What settings may be, each and together: asked before any data is read."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Iterable
from typing import Any

from torch import nn

from nmt_feat.config.schema import TrainConfig
from nmt_feat.errors import UserError, suggest
from nmt_feat.evaluation.languages import TOKENIZERS


def _at_least(low: float) -> tuple[Callable[[float], bool], str]:
    return lambda value: value >= low, f"at least {low}"


POSITIVE: tuple[Callable[[float], bool], str] = (lambda value: value > 0, "above 0")
SHARE: tuple[Callable[[float], bool], str] = (lambda value: 0 <= value < 1, "in [0, 1)")

BEAM: tuple[Callable[[float], bool], str] = (lambda value: 1 <= value <= 1000, "1 to 1000")
"""Hypotheses per sentence; more take all memory long before they help."""

PAIR = "two numbers in [0, 1)"

BOUNDS = [
    ("model.dim", *_at_least(1)),
    ("model.ffn_dim", *_at_least(1)),
    ("model.heads", *_at_least(1)),
    ("model.encoder_layers", *_at_least(1)),
    ("model.decoder_layers", *_at_least(1)),
    ("model.dropout", *SHARE),
    ("model.attention_dropout", *SHARE),
    ("model.activation_dropout", *SHARE),
    ("model.embedding_std", *POSITIVE),
    ("subword.character_coverage", lambda value: 0.98 <= value <= 1, "in [0.98, 1]"),
    ("optimizer.lr", *POSITIVE),
    ("optimizer.betas", lambda value: len(value) == 2 and 0 <= min(value) <= max(value) < 1, PAIR),
    ("optimizer.eps", *POSITIVE),
    ("optimizer.weight_decay", *_at_least(0)),
    ("optimizer.warmup", *_at_least(0)),
    ("trainer.max_steps", *_at_least(1)),
    ("trainer.batch_tokens", *_at_least(1)),
    ("trainer.accumulate", *_at_least(1)),
    ("trainer.clip_norm", *_at_least(0)),
    ("trainer.max_skipped", *_at_least(1)),
    ("trainer.label_smoothing", *SHARE),
    ("trainer.validate_every", *_at_least(1)),
    ("trainer.patience", *_at_least(0)),
    ("trainer.average", *_at_least(1)),
    ("trainer.devices", *_at_least(1)),
    ("trainer.threads", *_at_least(0)),
    (
        "trainer.wait_minutes",
        lambda value: 0 < value <= 10080,
        "above 0, at most 10080",
    ),
    ("trainer.log_every", *_at_least(1)),
    ("decoding.beam", *BEAM),
    ("decoding.length_penalty", *_at_least(0)),
    ("decoding.max_ratio", lambda value: 0 <= value < math.inf, "at least 0 and finite"),
    ("decoding.max_extra", *_at_least(1)),
    ("decoding.batch_tokens", *_at_least(1)),
    ("decoding.nbest", *_at_least(1)),
    ("subword.vocab_size", *_at_least(1)),
    ("subword.min_count", *_at_least(1)),
    ("data.limit", *_at_least(1)),
    ("annotator.processes", *_at_least(0)),
    ("data.processes", *_at_least(0)),
]
"""Settings with bounds: path, test, and what the message says."""

CONTROLS = ("none", "shuffled", "resampled", "by_type", "matched")
SCALES = ("reduced", "full")
CHOICES = {
    "model.tie": ("target", "all"),
    "trainer.batch_by": ("larger", "target"),
    "combiner.widths": ("default", "tutorial", "sennrich", "equal"),
    "subword.kind": ("bpe", "unigram", "none", "given"),
    "optimizer.schedule": ("inverse_sqrt", "cosine", "linear", "constant"),
    "trainer.precision": ("32-true", "bf16-mixed"),
    "trainer.select": ("best", "average"),
    "trainer.accelerator": ("auto", "cpu", "cuda", "gpu", "mps"),
}
"""Settings that are one of a few words."""


def refuse_infinite(value: Any, path: str = "") -> None:
    """Refuse numbers that are not finite, of any setting: JSON, as records are, has none."""
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{path}={value}: must be finite; give a number, a large one if need be")
    items: Iterable[tuple[str, Any]] = ()
    if isinstance(value, dict):
        items = [(f"{path}.{name}".lstrip("."), inner) for name, inner in value.items()]
    elif isinstance(value, (list, tuple)):
        items = [(f"{path}[{i}]", inner) for i, inner in enumerate(value)]
    for name, inner in items:
        refuse_infinite(inner, name)


def check_settings(cfg: TrainConfig) -> None:
    """Refuse, before any data is read, what cannot work; `UserError` in one line."""
    for path, test, what in BOUNDS:
        group, _, name = path.partition(".")
        value = getattr(getattr(cfg, group), name)
        if value is not None and not test(value):
            raise UserError(f"{path}={value}: must be {what}")
    for path, known in CHOICES.items():
        group, _, name = path.partition(".")
        value = getattr(getattr(cfg, group), name)
        if value not in known:
            raise UserError(f"{path}={value}: unknown; {suggest(value, known)}")
    refuse_infinite(dataclasses.asdict(cfg))
    if cfg.seed < 0:
        raise UserError(f"seed={cfg.seed}: must be at least 0")
    if cfg.control not in CONTROLS:
        raise UserError(f"control={cfg.control}: unknown; {suggest(cfg.control, CONTROLS)}")
    if cfg.scale not in (None, *SCALES):
        raise UserError(f"scale={cfg.scale}: unknown; {suggest(cfg.scale, SCALES)}")
    if cfg.scale and not cfg.published.source:
        raise UserError(
            f"scale={cfg.scale}: is about a paper's experiment; choose one, such as "
            "experiment=wu2021_tiny, or leave it out"
        )
    if cfg.scale == "full" and cfg.published.no_full:
        raise UserError(f"scale=full: {cfg.published.no_full}; leave scale=reduced")
    model, trainer = cfg.model, cfg.trainer
    if model.dim % model.heads:
        raise UserError(
            f"model.heads={model.heads} does not divide model.dim={model.dim} "
            f"({model.dim} = {model.heads} * {model.dim // model.heads} + "
            f"{model.dim % model.heads}); change one of them"
        )
    if model.tie == "all" and not cfg.subword.joint:
        raise UserError(
            "model.tie=all needs one vocabulary for both sides; set subword.joint=true or "
            "model.tie=target"
        )
    if not model.source_words:
        for other in ("model.tie=all",) * (model.tie == "all") + (
            f"model.source_vectors={model.source_vectors}",
        ) * bool(model.source_vectors):
            raise UserError(
                f"model.source_words=false: {other} is about the words' table, which is then not "
                "there; leave one of them out"
            )
    if model.source_vectors and model.tie == "all":
        raise UserError(
            f"model.source_vectors={model.source_vectors}: with model.tie=all the table is the "
            "target's as well; set model.tie=target"
        )
    if model.source_frozen and not model.source_vectors:
        raise UserError("model.source_frozen=true: set model.source_vectors=FILE, or leave it")
    if model.source_frozen and cfg.optimizer.weight_decay:
        raise UserError(
            f"optimizer.weight_decay={cfg.optimizer.weight_decay}: frozen rows would decay; "
            "set it to 0, or model.source_frozen=false"
        )
    if cfg.decoding.nbest > cfg.decoding.beam:
        raise UserError(
            f"decoding.nbest={cfg.decoding.nbest} is above "
            f"decoding.beam={cfg.decoding.beam}; set decoding.beam={cfg.decoding.nbest}"
        )
    if trainer.deterministic and trainer.accelerator == "cpu":
        raise UserError("trainer.deterministic=true is for CUDA; on CPU leave it out")
    if (tokenizer := cfg.data.bleu_tokenizer) not in (None, *TOKENIZERS):
        raise UserError(
            f"data.bleu_tokenizer={tokenizer}: unknown; {suggest(str(tokenizer), TOKENIZERS)}"
        )
    if not cfg.data.tests:
        raise UserError("data.tests is empty; give a test set, as conf/data/files.yaml does")
    for name in cfg.data.tests:  # begins names of files
        if not re.fullmatch(r"\w[\w.+-]*", name):
            raise UserError(f"data.tests.{name}: a name has letters, digits, _ . + and - only")
    if "word" in cfg.features:
        raise UserError("features.word: the name of the words themselves; choose another")
    for name, feature in cfg.features.items():
        for key in ("dim", "max_values", "min_count", "classes"):
            if (value := getattr(feature, key)) is not None and value < 1:
                raise UserError(f"features.{name}.{key}={value}: must be at least 1")
        for key in ("dropout", "sentence_dropout", "erase"):
            if not 0 <= (share := getattr(feature, key)) <= 1:
                raise UserError(f"features.{name}.{key}={share}: must be in [0, 1]")
        if not name.isidentifier():
            raise UserError(f"features.{name}: a name has letters, digits and _ only")
        if hasattr(nn.ModuleDict(), name):
            raise UserError(f"features.{name}: a name of PyTorch's own; choose another")
