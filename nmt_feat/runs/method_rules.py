"""Whether method, combiner and features go together, as far as settings alone tell."""

from __future__ import annotations

from nmt_feat.config.identity import method_name
from nmt_feat.config.schema import TrainConfig
from nmt_feat.errors import UserError
from nmt_feat.features.choice import choose_kinds
from nmt_feat.runs.build_model import locate_method


def check_method(cfg: TrainConfig) -> None:
    """Refuse, before any data is read, what has no meaning together with the method."""
    method, where = locate_method(cfg.method), f"method={method_name(cfg.method._target_)}"
    if not method.merges_with_word and not cfg.model.source_words:
        raise UserError(
            f"{where} model.source_words=false: the encoder reads words only, which are then "
            "absent; leave one of them out"
        )
    if not method.uses_combiner:
        _check_features_alone(cfg, where)
        if not method.reads_features:
            _check_predicted(cfg, where)


def _check_features_alone(cfg: TrainConfig, where: str) -> None:
    """There are features, and no combiner that would merge them."""
    if not cfg.features:
        raise UserError(f"features=[]: {where} needs features, for instance features=[upos,deprel]")
    if cfg.combiner._target_ is not None:
        name = method_name(cfg.combiner._target_)
        raise UserError(
            f"{where} combiner={name}: this method merges no features with the word; set "
            "combiner=none"
        )


def _check_predicted(cfg: TrainConfig, where: str) -> None:
    """Features are values that can be predicted, without settings of an embedding."""
    for name, kind in choose_kinds(cfg.features).items():
        if not kind.is_predictable:
            raise UserError(
                f"{where}: cannot predict features.{name}, of which a piece has no single value; "
                "leave it out"
            )
        for setting in ("dim", "dropout", "sentence_dropout", "args"):
            if value := getattr(kind.settings, setting):
                raise UserError(
                    f"{where} features.{name}.{setting}={value}: is about an embedding, and the "
                    "feature is predicted; leave it out"
                )
