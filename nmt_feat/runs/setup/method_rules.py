"""Checks of a run's method and combiner before data is read.

Method, combiner and features have to go together. The combiner is tried: its widths, and what it
returns for zeros. A user-defined method is tried, too.
"""

from __future__ import annotations

import contextlib
import dataclasses

import torch
from torch import Tensor, nn

from nmt_feat.combiners import Combiner
from nmt_feat.config.identity import shorten_class_name
from nmt_feat.config.instantiate import naming_failures
from nmt_feat.config.method_choice import build_method, locate_method
from nmt_feat.config.schema import CombinerConfig, ModelConfig, TrainConfig
from nmt_feat.embedders.ids import END, FIRST
from nmt_feat.errors import UserError
from nmt_feat.features.choice import choose_kinds
from nmt_feat.features.kind import FeatureKind
from nmt_feat.methods import Method
from nmt_feat.model.seeds import isolated_generator
from nmt_feat.runs.setup.build_model import (
    FEWEST_IDS,
    WORD,
    build_combiner,
    build_model,
    build_run_combiner,
    check_tie,
    choose_merged_features,
    format_widths,
    request_widths,
)
from nmt_feat.text.word_vectors import vector_width


def check_method(cfg: TrainConfig) -> None:
    """Refuse, before data is read, settings that have no meaning with the method."""
    method, where = locate_method(cfg.method), f"method={shorten_class_name(cfg.method._target_)}"
    built = build_method(cfg.method, cfg.model.dim, dict.fromkeys(cfg.features, FEWEST_IDS))
    if not hasattr(built, "embedding"):
        raise UserError(
            f"method._target_={cfg.method._target_}: has no embedding; begin its __init__ with "
            "super().__init__(dim, sizes, embedding)"
        )
    if not method.merges_with_word and not cfg.model.source_words:
        raise UserError(
            f"{where} model.source_words=false: the encoder reads only words, which are then "
            "absent; leave one of them out"
        )
    if method.in_source and cfg.model.tie == "all":
        raise UserError(
            f"{where} model.tie=all: tags are tokens of the source only, so it needs a separate "
            "table; set model.tie=target"
        )
    if built.changed_layers > cfg.model.encoder_layers:
        raise UserError(
            f"{where}: changes {built.changed_layers} layers of the encoder, which has "
            f"model.encoder_layers={cfg.model.encoder_layers}; lower method.args.layers"
        )
    if not method.uses_combiner:
        _check_features_alone(cfg, where)
    merged = choose_merged_features(cfg)
    unmerged = {name: feature for name, feature in cfg.features.items() if name not in merged}
    for kind in choose_kinds(unmerged).values():
        _check_unmerged(kind, method, where)


def _check_features_alone(cfg: TrainConfig, where: str) -> None:
    """Refuse a combiner and the absence of features with a method that reads features itself."""
    if not cfg.features:
        raise UserError(f"features=[]: {where} needs features, for instance features=[upos,deprel]")
    if cfg.combiner._target_ is not None:
        name = shorten_class_name(cfg.combiner._target_)
        raise UserError(
            f"{where} combiner={name}: this method merges no features with the word; set "
            "combiner=none"
        )


def _check_unmerged(kind: FeatureKind, method: type[Method], where: str) -> None:
    """Refuse a feature that the method cannot use, and settings of an embedding without effect."""
    if (method.in_source or not method.reads_features) and not kind.is_predictable:
        use = "write" if method.in_source else "predict"
        raise UserError(
            f"{where}: cannot {use} {kind.where}, because it is a tag before the sentence or a "
            "piece may have several of its values; leave it out"
        )
    if method.reads_heads and not kind.gives_heads:
        raise UserError(
            f"{where}: {kind.where} does not say where heads are; set {kind.where}.column="
            f"head_distance {kind.where}.policy=first"
        )
    if method.has_encoders:
        if kind.settings.dim:
            raise UserError(
                f"{where} {kind.where}.dim={kind.settings.dim}: its encoder is as wide as the "
                f"model; leave it out, or set {kind.where}.dim=null"
            )
        return
    for setting in ("dim", "dropout", "sentence_dropout", "args"):
        if value := getattr(kind.settings, setting):
            # A shipped option, as that of `term`, has a width of its own.
            unset = f", or set {kind.where}.dim=null" if setting == "dim" else ""
            raise UserError(
                f"{where} {kind.where}.{setting}={value}: with this method, the feature has no "
                f"embedding; leave it out{unset}"
            )


def try_method(cfg: TrainConfig) -> None:
    """Refuse a user-defined method that fails, or gives a wrong shape, for batch 2 and time 3."""
    cls, kinds = locate_method(cfg.method), choose_kinds(cfg.features)
    reads_values = cls.load_values is not Method.load_values  # of a vocabulary; there is none yet
    if cls.__module__.startswith("nmt_feat.") or reads_values:
        return
    if any(kind.make_sample() is None for kind in kinds.values()):
        return
    # No layer is called, so the smallest ones will do.
    model = dataclasses.replace(cfg.model, encoder_layers=1, decoder_layers=1, ffn_dim=1)
    small = dataclasses.replace(cfg, model=model)
    sizes = dict.fromkeys(cfg.features, FEWEST_IDS)
    features = {name: torch.tensor([[FIRST, FIRST, END]] * 2) for name in cfg.features}
    memory, mask = torch.zeros(2, 3, cfg.model.dim), torch.ones(2, 3, dtype=torch.bool)
    target = cfg.method._target_
    with isolated_generator(0, "check"), torch.no_grad(), naming_failures(cls, Method):
        method = build_model(small, sizes, FEWEST_IDS, FEWEST_IDS).method
        memory = method.change_memory(memory, features, mask)
        width = cfg.model.dim * (1 + len(features) * bool(cls.attends_to_each))
        if not isinstance(memory, Tensor) or tuple(memory.shape) != (2, 3, width):
            raise UserError(
                f"{target}: change_memory returns {_describe_type(memory)} for batch 2 and time 3; "
                f"return a tensor of floats (2, 3, {width})"
            )
        for layer in range(cfg.model.encoder_layers):
            for scores in (method.scale_attention, method.bias_attention):
                result = scores(layer, features)
                _check_scores(result, cfg.model.heads, f"{target}: {scores.__name__}")
        loss = method.compute_loss(memory, features)
        if loss is not None and (not isinstance(loss, Tensor) or loss.numel() != 1):
            raise UserError(
                f"{target}: compute_loss returns {_describe_type(loss)}; return one number, the "
                "sum over the batch, or None"
            )


def _check_scores(result: object, heads: int, where: str) -> None:
    """Refuse what does not go with attention scores of batch 2 and time 3."""
    shape = (2, heads, 3, 3)
    if result is None:
        return
    sizes = reversed(result.shape) if isinstance(result, Tensor) else [0]
    if not all(size in (1, whole) for size, whole in zip(sizes, reversed(shape), strict=False)):
        raise UserError(
            f"{where} returns {_describe_type(result)} for batch 2 and time 3; return a tensor "
            "(2, 1, 3, 3), or None"
        )


def check_widths(cfg: TrainConfig) -> None:
    """Check the combiner with the narrowest features: its widths, and its result for zeros."""
    parts, target = request_widths(cfg, dict.fromkeys(cfg.features, 1)), str(cfg.combiner._target_)
    with isolated_generator(0, "check"), torch.no_grad():
        combiner = build_combiner(cfg.combiner, parts, cfg.model.dim)
        _check_part_widths(combiner, parts, cfg.model, target)
        for name, kind in choose_kinds(choose_merged_features(cfg)).items():
            _try_embedder(kind, kind.build_embedder(FEWEST_IDS, combiner.widths[name], 1.0))
        _try_combiner(combiner, target)
        # In any corpus, a feature has at least so many ids. Fewer were tried first, because then
        # messages are about the combiner rather than about a feature's width.
        build_run_combiner(cfg, dict.fromkeys(cfg.features, FEWEST_IDS))


def _check_part_widths(
    combiner: Combiner, parts: dict[str, int], model: ModelConfig, target: str
) -> None:
    """Refuse a combiner that does not give each part a usable width."""
    if not hasattr(combiner, "widths") or not hasattr(combiner, "model_dim"):
        raise UserError(
            f"{target}: has no widths; begin its __init__ with super().__init__(parts, model_dim)"
        )
    check_tie(combiner, model)
    if combiner.widths.keys() != parts.keys():
        raise UserError(
            f"{target}: gives widths to {', '.join(combiner.widths)}; "
            f"the parts are {', '.join(parts)}; give each part a width"
        )
    for name, width in combiner.widths.items():
        if not hasattr(width, "__index__") or width < 1:  # 0 would leave the part out
            raise UserError(
                f"{target}: gives {name} the width {width}; give a whole number, at least 1"
            )


def _try_combiner(combiner: Combiner, target: str) -> None:
    """Refuse a wrong result of a combiner for zeros of batch 2 and time 3."""
    parts = [torch.zeros(2, 3, width) for width in combiner.widths.values()]
    with naming_failures(type(combiner), Combiner):
        merged = combiner(parts)
    whole = (2, 3, combiner.model_dim)
    if not isinstance(merged, Tensor) or not merged.is_floating_point():
        raise UserError(
            f"{target}: forward returns {_describe_type(merged)}; return a tensor of floats"
        )
    if tuple(merged.shape) != whole:
        raise UserError(
            f"{target}: forward returns {tuple(merged.shape)} for batch 2 and time 3; "
            f"return {whole}, the model's width"
        )
    for method in (combiner.weights_of, combiner.contributions_of):
        with naming_failures(type(combiner), Combiner):
            by_part = method(parts)
        if by_part is not None:
            shape = (2, 3, len(parts), combiner.model_dim)
            _check_numbers_of_parts(by_part, shape, f"{target}: {method.__name__}")


def _check_numbers_of_parts(numbers: object, shape: tuple[int, ...], where: str) -> None:
    """Refuse anything but a tensor of this shape, of which each size may also be 1."""
    if not isinstance(numbers, Tensor):
        raise UserError(f"{where} returns {_describe_type(numbers)}; return a tensor, or None")
    sizes = zip(numbers.shape, shape, strict=False)
    if numbers.dim() != len(shape) or any(size not in (1, whole) for size, whole in sizes):
        raise UserError(
            f"{where} returns {tuple(numbers.shape)} for batch 2 and time 3; return {shape}: a "
            "number for each part and element, or None"
        )


def _try_embedder(kind: FeatureKind, module: nn.Module) -> None:
    """Refuse a wrong result of a user-defined embedder for ids of batch 2 and time 3."""
    ids = kind.make_sample()
    if type(module).__module__.startswith("nmt_feat.") or ids is None:
        return
    with naming_failures(type(module), nn.Module):
        vectors = module(ids)
    if not isinstance(vectors, Tensor) or not vectors.is_floating_point() or vectors.dim() != 3:
        raise UserError(
            f"{kind.settings._target_}: forward returns {_describe_type(vectors)} for ids (2, 3); "
            "return a tensor of floats (2, 3, dim)"
        )


def _describe_type(value: object) -> str:
    """The type of a value, and a tensor's shape, for a message."""
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)} of {value.dtype}"
    return "None" if value is None else f"a {type(value).__name__}"


def check_vectors(cfg: TrainConfig) -> None:
    """Refuse ready-made vectors that cannot have the word's width, as far as settings tell."""
    if not cfg.model.source_vectors:
        return
    width = vector_width(cfg.model.source_vectors)
    if not locate_method(cfg.method).merges_with_word:
        cfg = dataclasses.replace(cfg, combiner=CombinerConfig(), features={})
    combiners = []
    for count in (FEWEST_IDS, 1 << 30):  # the fewest ids, and more than any feature has
        with isolated_generator(0, "check"), torch.no_grad(), contextlib.suppress(UserError):
            combiners.append(build_run_combiner(cfg, dict.fromkeys(cfg.features, count)))
    if not combiners:  # another check says why
        return
    # More values make features wider and the word narrower. If they leave the word nothing, the
    # second combiner cannot be built, and the word may have any width from 1 on.
    word_widths = [combiner.widths[WORD] for combiner in combiners]
    narrowest = min(word_widths) if len(word_widths) == 2 else 1
    if not narrowest <= width <= max(word_widths):
        nearest = min(combiners, key=lambda combiner: abs(combiner.widths[WORD] - width))
        refuse_width(nearest, cfg.model, width)


def refuse_width(combiner: Combiner, model: ModelConfig, width: int) -> None:
    """Refuse vectors whose width is not the one that the combiner gives the word."""
    word = combiner.widths[WORD]
    if word != width:
        raise UserError(
            f"model.source_vectors={model.source_vectors}: its vectors have {width} numbers, the "
            f"word has {word} ({format_widths(combiner)}); change model.dim, the combiner or a "
            "feature's dim"
        )
