"""From settings to a model, each part's weights from a generator of its own."""

import contextlib
import inspect
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from nmt_feat.combiners import Add, Combiner, Mixed, NoFeatures
from nmt_feat.combiners.mixed import METHODS
from nmt_feat.combiners.mixed import Method as MixedMethod
from nmt_feat.config.instantiate import build_object, locate_class, naming_failures
from nmt_feat.config.method_choice import build_method, locate_method
from nmt_feat.config.schema import CombinerConfig, FeatureConfig, MethodConfig, ModelConfig
from nmt_feat.embedders.categorical import extend_table, make_table
from nmt_feat.embedders.ids import FIRST
from nmt_feat.errors import UserError, suggest
from nmt_feat.features.choice import choose_kinds
from nmt_feat.features.kind import FeatureKind
from nmt_feat.model.embedding import SourceEmbedding, TargetEmbedding
from nmt_feat.model.seeds import isolated_generator
from nmt_feat.model.transformer import (
    DecoderLayer,
    Dropouts,
    EncoderLayer,
    FeatureEncoders,
    Transformer,
)

LEAST = FIRST + 1
"""Ids of a feature at least: the special ones and a value."""
WORD = "word"
"""Name of the first part; no feature may have it."""
BY_EMBEDDING = MethodConfig()
"""The method that is nothing beyond the embedding."""


def unused(cfg: CombinerConfig) -> list[str]:
    """Settings of the combiner that its class does not take."""
    if cfg._target_ is None:
        settings: set[str] = set(cfg.args)
        taken: Mapping[str, Any] = {}
    else:
        settings = set(cfg.args)
        if not issubclass(cls := locate_class(cfg._target_), Combiner):
            raise UserError(
                f"combiner._target_={cfg._target_}: is no nmt_feat.combiners.Combiner; "
                "derive the class from it"
            )
        taken = inspect.signature(cls).parameters
    if cfg.bias is not None:
        settings.add("bias")
    free = any(p.kind is p.VAR_KEYWORD for p in taken.values())
    return [] if free else sorted(settings - set(taken))


def build_combiner(cfg: CombinerConfig, parts: dict[str, int], dim: int) -> Combiner:
    """The combiner of the configuration, for parts that would like these widths."""
    if cfg._target_ is None:
        return NoFeatures(parts, dim)
    unused_settings = unused(cfg)
    args = {name: value for name, value in cfg.args.items() if name not in unused_settings}
    if issubclass(locate_class(cfg._target_), Mixed):
        args = resolve_methods(args, list(parts))
    bias = {} if cfg.bias is None or "bias" in unused_settings else {"bias": cfg.bias}
    combiner: Combiner = build_object(
        cfg._target_, Combiner, args, parts=parts, model_dim=dim, **bias
    )
    return combiner


def resolve_methods(args: Mapping[str, Any], parts: list[str]) -> dict[str, Any]:
    """The arguments of `Mixed` with classes in place of their dotted names, all names checked."""
    word, *features = parts
    if not features:
        return dict(args)  # too few parts: `Mixed` says so
    methods = args.get("methods", {})
    if isinstance(methods, str):
        example = f"combiner.args.methods.{features[0]}={methods}"
        raise UserError(f"combiner.args.methods={methods}: name the feature, +{example}")
    for name in methods:
        where = f"combiner.args.methods.{name}"
        if name == word:
            raise UserError(
                f"{where}: the first part has no method, the others merge with it; "
                f"known: {', '.join(features)}"
            )
        if name not in features:
            raise UserError(f"{where}: no such feature is chosen; {suggest(name, features)}")
    defaults = {
        name: resolve_method(args[name])
        for name in ("wide", "narrow")
        if isinstance(args.get(name), str)
    }
    resolved = {name: resolve_method(str(method)) for name, method in methods.items()}
    return {**args, **defaults, "methods": resolved}


def resolve_method(name: str) -> MixedMethod:
    """The name of a shipped method as it is; the class of a dotted name."""
    if name in METHODS:
        return name
    if "." not in name:
        raise UserError(f"combiner=mixed: no method {name!r}; {suggest(name, METHODS)}")
    cls = locate_class(name)
    if not issubclass(cls, Combiner):
        raise UserError(
            f"combiner=mixed: {name} is no nmt_feat.combiners.Combiner; derive the class from it"
        )
    return cls


def combined_features(
    features: dict[str, FeatureConfig], method: MethodConfig
) -> dict[str, FeatureConfig]:
    """The features that the combiner merges."""
    cls = locate_method(method)
    return {n: feature for n, feature in features.items() if cls.merges_feature(n, method.args)}


def request_widths(
    cfg: CombinerConfig,
    features: dict[str, FeatureConfig],
    values: dict[str, int],
    model: ModelConfig,
    method: MethodConfig = BY_EMBEDDING,
) -> dict[str, int]:
    """The width that each part would like; `values`: number of values of each feature."""
    features = combined_features(features, method)
    has_word = model.source_words and (not features or locate_method(method).merges_with_word)
    dim, parts = model.dim, {WORD: model.dim} if has_word else {}
    count = len(parts) + len(features)
    for name, kind in choose_kinds(features).items():
        parts[name] = kind.choose_width(values[name], dim, cfg.widths, count)
    return parts


def check_widths(
    cfg: CombinerConfig,
    features: dict[str, FeatureConfig],
    model: ModelConfig,
    method: MethodConfig = BY_EMBEDDING,
) -> None:
    """Try the combiner, features as narrow as can be: its widths, and what it makes of zeros."""
    parts = request_widths(cfg, features, dict.fromkeys(features, 1), model, method)
    with isolated_generator(0, "check"), torch.no_grad():
        combiner = build_combiner(cfg, parts, model.dim)
        if not hasattr(combiner, "widths") or not hasattr(combiner, "model_dim"):
            raise UserError(
                f"{cfg._target_}: has no widths; let its __init__ begin with "
                "super().__init__(parts, model_dim)"
            )
        check_tie(combiner, model)
        if combiner.widths.keys() != parts.keys():
            raise UserError(
                f"{cfg._target_}: gives a width to {', '.join(combiner.widths)}; "
                f"the parts are {', '.join(parts)}"
            )
        for name, width in combiner.widths.items():
            if not hasattr(width, "__index__") or width < 1:  # 0 would leave the part out
                raise UserError(
                    f"{cfg._target_}: gives {name} the width {width}; give a whole number, "
                    "at least 1"
                )
        for name, kind in choose_kinds(combined_features(features, method)).items():
            _try_embedder(kind, kind.build_embedder(LEAST, combiner.widths[name], 1.0))
        _try_combiner(combiner, str(cfg._target_))
        # Whatever the corpus, a feature has this many ids; fewer were tried for their messages.
        least = dict.fromkeys(features, LEAST)
        build_combiner(cfg, request_widths(cfg, features, least, model, method), model.dim)


def _try_combiner(combiner: Combiner, target: str) -> None:
    """Refuse what a combiner must not return, for zeros of batch 2 and time 3."""
    parts = [torch.zeros(2, 3, width) for width in combiner.widths.values()]
    with naming_failures(type(combiner), Combiner):
        merged = combiner(parts)
    whole = (2, 3, combiner.model_dim)
    part_shape = (2, 3, len(parts), combiner.model_dim)
    if not isinstance(merged, Tensor) or not merged.is_floating_point():
        raise UserError(f"{target}: forward returns {_kind(merged)}; return a tensor of floats")
    if tuple(merged.shape) != whole:
        raise UserError(
            f"{target}: forward returns {tuple(merged.shape)} for batch 2 and time 3; "
            f"return {whole}, the model's width"
        )
    for method in (combiner.weights_of, combiner.contributions_of):
        name = method.__name__
        with naming_failures(type(combiner), Combiner):
            result = method(parts)
        if result is None:
            continue
        if not isinstance(result, Tensor):
            raise UserError(f"{target}: {name} returns {_kind(result)}; return a tensor, or None")
        sizes = zip(result.shape, part_shape, strict=False)
        if result.dim() != 4 or any(size not in (1, whole_size) for size, whole_size in sizes):
            raise UserError(
                f"{target}: {name} returns {tuple(result.shape)} for batch 2 and time 3; return "
                f"{part_shape}: a number for each part and element, or None"
            )


def _try_embedder(kind: FeatureKind, module: nn.Module) -> None:
    """Refuse what the class of a user's embedder must not return, for ids of batch 2 and time 3."""
    ids = kind.make_sample()
    if type(module).__module__.startswith("nmt_feat.") or ids is None:
        return
    with naming_failures(type(module), nn.Module):
        vectors = module(ids)
    if not isinstance(vectors, Tensor) or not vectors.is_floating_point() or vectors.dim() != 3:
        raise UserError(
            f"{kind.settings._target_}: forward returns {_kind(vectors)} for ids (2, 3); return a "
            "tensor of floats (2, 3, dim)"
        )


def _kind(value: object) -> str:
    """What a value is, for a message."""
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)} of {value.dtype}"
    return "None" if value is None else f"a {type(value).__name__}"


def check_tie(combiner: Combiner, model: ModelConfig) -> None:
    """One table for all needs a word as wide as the model."""
    word = combiner.widths.get(WORD, model.dim)
    if model.tie == "all" and word != model.dim:
        raise UserError(
            f"model.tie=all needs one table of width {model.dim}, but the combiner gives the word "
            f"{word} ({arithmetic(combiner)}); use model.tie=target or another combiner"
        )


def check_vectors(
    cfg: CombinerConfig, features: dict[str, FeatureConfig], model: ModelConfig, width: int
) -> None:
    """Refuse ready-made vectors whose width is not the word's, if no data is needed to know it."""
    tried = []
    for values in (LEAST, 1 << 30):
        parts = request_widths(cfg, features, dict.fromkeys(features, values), model)
        with isolated_generator(0, "check"), torch.no_grad(), contextlib.suppress(UserError):
            tried.append(build_combiner(cfg, parts, model.dim))
    # With more values features are wider, until they leave the word nothing: then from 1 on.
    words = [combiner.widths[WORD] for combiner in tried]
    least = min(words) if len(words) == 2 else 1
    if tried and not least <= width <= max(words):
        refuse_width(min(tried, key=lambda one: abs(one.widths[WORD] - width)), model, width)


def refuse_width(combiner: Combiner, model: ModelConfig, width: int) -> None:
    """Refuse vectors of another width than the combiner gives the word."""
    word = combiner.widths[WORD]
    if word != width:
        raise UserError(
            f"model.source_vectors={model.source_vectors}: its vectors have {width} numbers, the "
            f"word has {word} ({arithmetic(combiner)}); change model.dim, the combiner or a "
            "feature's dim"
        )


def arithmetic(combiner: Combiner) -> str:
    """The widths in one line, for people: `128 = 108 word + 12 upos + 8 deprel`."""
    widths = list(combiner.widths.items())
    if len(widths) > 1 and sum(w for _, w in widths) == combiner.model_dim:
        return f"{combiner.model_dim} = " + " + ".join(f"{w} {name}" for name, w in widths)
    return ", ".join(f"{w} {name}" for name, w in widths) + f" to {combiner.model_dim}"


class FeatureParts(NamedTuple):
    """What a source embedding has for features."""

    combiner: Combiner
    embedders: dict[str, nn.Module]
    masked: dict[str, tuple[float, float, bool]]
    """See `SourceEmbedding`."""


def build_feature_parts(
    model: ModelConfig,
    combiner: CombinerConfig,
    features: dict[str, FeatureConfig],
    values: dict[str, int],
    seed: int,
    method: MethodConfig = BY_EMBEDDING,
) -> FeatureParts:
    """The combiner and the features' embedders; arguments as of `build_model`."""
    std = model.embedding_std or model.dim**-0.5
    with isolated_generator(seed, "combiner"):
        parts = request_widths(combiner, features, values, model, method)
        merge = build_combiner(combiner, parts, model.dim)
    embedders: dict[str, nn.Module] = {}
    for name, kind in choose_kinds(combined_features(features, method)).items():
        with isolated_generator(seed, f"feature {name}"):
            embedders[name] = kind.build_embedder(values[name], merge.widths[name], std)
    masked = {
        name: (feature.dropout, feature.sentence_dropout, feature.policy == "first")
        for name, feature in features.items()
        if feature.dropout or feature.sentence_dropout
    }
    return FeatureParts(merge, embedders, masked)


def build_model(
    model: ModelConfig,
    combiner: CombinerConfig,
    features: dict[str, FeatureConfig],
    values: dict[str, int],
    source_size: int,
    target_size: int,
    seed: int,
    method: MethodConfig = BY_EMBEDDING,
) -> Transformer:
    """The model. At one seed, all combiners start from the same Transformer and target table.

    Args:
        model, combiner, features, method: the settings; features in the combiner's order.
        values: size of each feature's vocabulary, special values included.
        source_size, target_size: number of source and target pieces.
        seed: the run's seed.
    """
    cls, std = locate_method(method), model.embedding_std or model.dim**-0.5
    merge, embedders, masked = build_feature_parts(model, combiner, features, values, seed, method)
    check_tie(merge, model)
    with isolated_generator(seed, "target"):
        target = make_table(target_size, model.dim, std)
    words = target if model.tie == "all" else None
    if words is None and model.source_words:
        with isolated_generator(seed, "source"):
            words = make_table(source_size, merge.widths.get(WORD, model.dim), std)
            if tokens := cls.count_tokens(values):
                words = extend_table(words, tokens, std)
    apart: nn.Module | None = None
    merged_masked = {name: shares for name, shares in masked.items() if name in embedders}
    source = SourceEmbedding(words, embedders, merge, model.dropout, merged_masked)
    if embedders and not cls.merges_with_word:
        apart = SourceEmbedding(None, embedders, merge, model.dropout, masked, has_positions=False)
        source = SourceEmbedding(words, {}, NoFeatures({WORD: model.dim}, model.dim), model.dropout)
    elif cls.has_encoders:
        apart = build_encoders(model, choose_kinds(features), values, seed, masked)
    with isolated_generator(seed, "method"):
        beyond = build_method(method, model.dim, values, apart)
    with isolated_generator(seed, "transformer"):
        transformer = Transformer(
            source,
            TargetEmbedding(target, model.dropout),
            beyond,
            dim=model.dim,
            ffn_dim=model.ffn_dim,
            heads=model.heads,
            encoder_layers=model.encoder_layers,
            decoder_layers=model.decoder_layers,
            dropouts=choose_dropouts(model),
        )
    if cls.attends_to_each:
        with isolated_generator(seed, "memories"):
            for layer in transformer.decoder:
                assert isinstance(layer, DecoderLayer)
                layer.add_memories(len(features), parallel=cls.attends_to_each == "parallel")
    return transformer


def choose_dropouts(model: ModelConfig) -> Dropouts:
    """Those of a layer."""
    return Dropouts(model.dropout, model.attention_dropout, model.activation_dropout)


def build_encoders(
    model: ModelConfig,
    kinds: Mapping[str, FeatureKind],
    values: Mapping[str, int],
    seed: int,
    masked: Mapping[str, tuple[float, float, bool]],
) -> FeatureEncoders:
    """An encoder for each feature, from random numbers of its own."""
    embedders: dict[str, nn.Module] = {}
    encoders, std = [], model.embedding_std or model.dim**-0.5
    shape = model.dim, model.ffn_dim, model.heads, choose_dropouts(model)
    for name, kind in kinds.items():
        with isolated_generator(seed, f"feature {name}"):
            embedders[name] = kind.build_embedder(values[name], model.dim, std)
        with isolated_generator(seed, f"layers {name}"):
            encoders.append([EncoderLayer(*shape) for _ in range(model.encoder_layers)])
    widths = Add(dict.fromkeys(embedders, model.dim), model.dim)
    embedding = SourceEmbedding(None, embedders, widths, model.dropout, masked)
    return FeatureEncoders(embedding, encoders, model.dim)
