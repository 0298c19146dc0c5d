"""Checks that method, combiner and features go together, without reading data."""

from __future__ import annotations

from nmt_feat.config.identity import shorten_class_name
from nmt_feat.config.method_choice import build_method, locate_method
from nmt_feat.config.schema import TrainConfig
from nmt_feat.errors import UserError
from nmt_feat.features.choice import choose_kinds
from nmt_feat.features.kind import FeatureKind
from nmt_feat.methods import Method
from nmt_feat.runs.build_model import FEWEST_IDS, choose_merged_features


def check_method(cfg: TrainConfig) -> None:
    """Refuse, before data is read, settings that have no meaning with the method."""
    method, where = locate_method(cfg.method), f"method={shorten_class_name(cfg.method._target_)}"
    built = build_method(cfg.method, cfg.model.dim, dict.fromkeys(cfg.features, FEWEST_IDS))
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
