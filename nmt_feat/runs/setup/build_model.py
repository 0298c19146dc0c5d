"""From settings to a model.

Each part draws its weights from a generator of its own, named after the part: so a part starts from
the same weights whatever else the model has.
"""

import inspect
from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import nn

from nmt_feat.combiners import Add, Combiner, Mixed, NoFeatures
from nmt_feat.combiners.mixed import METHODS, FeatureMethod
from nmt_feat.config.instantiate import build_object, locate_class
from nmt_feat.config.method_choice import build_method, locate_method
from nmt_feat.config.schema import CombinerConfig, FeatureConfig, ModelConfig, TrainConfig
from nmt_feat.embedders.categorical import extend_table, make_table
from nmt_feat.embedders.ids import FIRST
from nmt_feat.errors import UserError, suggest
from nmt_feat.features.choice import choose_kinds
from nmt_feat.methods import Method
from nmt_feat.model.embedding import Masking, SourceEmbedding, TargetEmbedding
from nmt_feat.model.seeds import isolated_generator
from nmt_feat.model.transformer import (
    DecoderLayer,
    Dropouts,
    EncoderLayer,
    FeatureEncoders,
    Transformer,
)

FEWEST_IDS = FIRST + 1
"""The fewest ids that a feature has: the special ones and a value."""
WORD = "word"
"""Name of the first part; no feature may have it."""


def list_unused_settings(cfg: CombinerConfig) -> list[str]:
    """Settings of the combiner that its class does not take."""
    settings, taken = set(cfg.args), dict[str, inspect.Parameter]()
    if cfg._target_ is not None:
        if not issubclass(cls := locate_class(cfg._target_), Combiner):
            raise UserError(
                f"combiner._target_={cfg._target_}: must be derived from "
                "nmt_feat.combiners.Combiner"
            )
        taken = dict(inspect.signature(cls).parameters)
    if cfg.bias is not None:
        settings.add("bias")
    takes_any = any(p.kind is p.VAR_KEYWORD for p in taken.values())
    return [] if takes_any else sorted(settings - taken.keys())


def build_combiner(cfg: CombinerConfig, parts: dict[str, int], dim: int) -> Combiner:
    """The combiner of the configuration; `parts`: by name, the width that each part requests."""
    if cfg._target_ is None:
        return NoFeatures(parts, dim)
    unused_settings = list_unused_settings(cfg)
    args = {name: value for name, value in cfg.args.items() if name not in unused_settings}
    if issubclass(locate_class(cfg._target_), Mixed):
        args = resolve_methods(args, list(parts))
    bias = {} if cfg.bias is None or "bias" in unused_settings else {"bias": cfg.bias}
    combiner: Combiner = build_object(
        cfg._target_, Combiner, args, parts=parts, model_dim=dim, **bias
    )
    return combiner


def resolve_methods(args: Mapping[str, Any], parts: list[str]) -> dict[str, Any]:
    """The arguments of `Mixed`, checked, with classes in place of their dotted names."""
    word, *features = parts
    if not features:
        return dict(args)  # `Mixed` refuses too few parts
    methods = args.get("methods", {})
    if isinstance(methods, str):
        example = f"combiner.args.methods.{features[0]}={methods}"
        raise UserError(f"combiner.args.methods={methods}: name the feature, +{example}")
    for name in methods:
        where = f"combiner.args.methods.{name}"
        if name == word:
            raise UserError(
                f"{where}: the first part has no method, other parts merge with it; "
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


def resolve_method(name: str) -> FeatureMethod:
    """The name of a shipped method unchanged; for a dotted name, its class."""
    if name in METHODS:
        return name
    if "." not in name:
        raise UserError(f"combiner=mixed: no method {name!r}; {suggest(name, METHODS)}")
    cls = locate_class(name)
    if not issubclass(cls, Combiner):
        raise UserError(f"combiner=mixed: {name} must be derived from nmt_feat.combiners.Combiner")
    return cls


def choose_merged_features(cfg: TrainConfig) -> dict[str, FeatureConfig]:
    """The features that the combiner merges."""
    cls, args = locate_method(cfg.method), cfg.method.args
    return {n: feature for n, feature in cfg.features.items() if cls.merges_feature(n, args)}


def request_widths(cfg: TrainConfig, id_counts: Mapping[str, int]) -> dict[str, int]:
    """The width that each part requests; `id_counts`: how many ids each feature has."""
    features, dim = choose_merged_features(cfg), cfg.model.dim
    merges_with_word = not features or locate_method(cfg.method).merges_with_word
    parts = {WORD: dim} if cfg.model.source_words and merges_with_word else {}
    count = len(parts) + len(features)
    for name, kind in choose_kinds(features).items():
        parts[name] = kind.choose_width(id_counts[name], dim, cfg.combiner.widths, count)
    return parts


def build_run_combiner(cfg: TrainConfig, id_counts: Mapping[str, int]) -> Combiner:
    """The combiner of a run; `id_counts`: how many ids each feature has."""
    return build_combiner(cfg.combiner, request_widths(cfg, id_counts), cfg.model.dim)


def check_tie(combiner: Combiner, model: ModelConfig) -> None:
    """Refuse one table for source, target and output if the word is not as wide as the model."""
    word = combiner.widths.get(WORD, model.dim)
    if model.tie == "all" and word != model.dim:
        raise UserError(
            f"model.tie=all needs one table of width {model.dim}, but the combiner gives the word "
            f"{word} ({format_widths(combiner)}); use model.tie=target or another combiner"
        )


def format_widths(combiner: Combiner) -> str:
    """The widths in one line, for people: `128 = 108 word + 12 upos + 8 deprel`."""
    widths = list(combiner.widths.items())
    if len(widths) > 1 and sum(w for _, w in widths) == combiner.model_dim:
        return f"{combiner.model_dim} = " + " + ".join(f"{w} {name}" for name, w in widths)
    return ", ".join(f"{w} {name}" for name, w in widths) + f" to {combiner.model_dim}"


class FeatureParts(NamedTuple):
    """What a `SourceEmbedding` needs for features."""

    combiner: Combiner
    embedders: dict[str, nn.Module]
    masked: dict[str, Masking]
    """The features with dropout."""


def build_feature_parts(cfg: TrainConfig, id_counts: Mapping[str, int]) -> FeatureParts:
    """The combiner and the features' embedders; arguments as of `build_model`."""
    std = choose_std(cfg.model)
    with isolated_generator(cfg.seed, "combiner"):
        combiner = build_run_combiner(cfg, id_counts)
    embedders: dict[str, nn.Module] = {}
    for name, kind in choose_kinds(choose_merged_features(cfg)).items():
        with isolated_generator(cfg.seed, f"feature {name}"):
            embedders[name] = kind.build_embedder(id_counts[name], combiner.widths[name], std)
    masked = {
        name: Masking(feature.dropout, feature.sentence_dropout, feature.policy == "first")
        for name, feature in cfg.features.items()
        if feature.dropout or feature.sentence_dropout
    }
    return FeatureParts(combiner, embedders, masked)


def build_model(
    cfg: TrainConfig, id_counts: Mapping[str, int], source_size: int, target_size: int
) -> Transformer:
    """The model. At one seed, all combiners start from the same Transformer and target table.

    Args:
        cfg: the run's settings; features in the combiner's order.
        id_counts: size of each feature's vocabulary, special values included.
        source_size, target_size: number of source and target pieces.
    """
    model, seed, cls, std = cfg.model, cfg.seed, locate_method(cfg.method), choose_std(cfg.model)
    parts = build_feature_parts(cfg, id_counts)
    check_tie(parts.combiner, model)
    with isolated_generator(seed, "target"):
        target = make_table(target_size, model.dim, std)
    words = target if model.tie == "all" else None
    if words is None and model.source_words:
        with isolated_generator(seed, "source"):
            words = make_table(source_size, parts.combiner.widths.get(WORD, model.dim), std)
            if tokens := cls.count_tokens(id_counts):
                words = extend_table(words, tokens, std)
    source, separate_features = _place_features(cls, words, parts, model)
    if cls.has_encoders:
        separate_features = build_encoders(cfg, id_counts, parts.masked)
    with isolated_generator(seed, "method"):
        method = build_method(cfg.method, model.dim, id_counts, separate_features)
    with isolated_generator(seed, "transformer"):
        transformer = Transformer(
            source,
            TargetEmbedding(target, model.dropout),
            method,
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
                layer.add_memories(len(cfg.features), parallel=cls.attends_to_each == "parallel")
    return transformer


def _place_features(
    cls: type[Method], words: nn.Embedding | None, parts: FeatureParts, model: ModelConfig
) -> tuple[SourceEmbedding, nn.Module | None]:
    """The source's embedding; that of the features, if the method merges them without the word."""
    combiner, embedders, masked = parts
    if embedders and not cls.merges_with_word:
        words_alone = NoFeatures({WORD: model.dim}, model.dim)
        source = SourceEmbedding(words, {}, words_alone, model.dropout)
        separate_features = SourceEmbedding(
            None, embedders, combiner, model.dropout, masked, has_positions=False
        )
        return source, separate_features
    # Features without an embedder here are read, written or predicted by the method itself.
    merged_masked = {name: shares for name, shares in masked.items() if name in embedders}
    return SourceEmbedding(words, embedders, combiner, model.dropout, merged_masked), None


def choose_std(model: ModelConfig) -> float:
    """The standard deviation of every table at the start."""
    return model.embedding_std or model.dim**-0.5


def choose_dropouts(model: ModelConfig) -> Dropouts:
    """The dropouts of each layer of the Transformer."""
    return Dropouts(model.dropout, model.attention_dropout, model.activation_dropout)


def build_encoders(
    cfg: TrainConfig, id_counts: Mapping[str, int], masked: Mapping[str, Masking]
) -> FeatureEncoders:
    """An encoder for each feature, over an embedding as wide as the model."""
    embedders: dict[str, nn.Module] = {}
    encoders, model, std = [], cfg.model, choose_std(cfg.model)
    shape = model.dim, model.ffn_dim, model.heads, choose_dropouts(model)
    for name, kind in choose_kinds(cfg.features).items():
        with isolated_generator(cfg.seed, f"feature {name}"):
            embedders[name] = kind.build_embedder(id_counts[name], model.dim, std)
        with isolated_generator(cfg.seed, f"layers {name}"):
            encoders.append([EncoderLayer(*shape) for _ in range(model.encoder_layers)])
    # An embedding needs a combiner; this one only tells the widths, as nothing is merged.
    combiner = Add(dict.fromkeys(embedders, model.dim), model.dim)
    embedding = SourceEmbedding(None, embedders, combiner, model.dropout, masked)
    return FeatureEncoders(embedding, encoders, model.dim)
