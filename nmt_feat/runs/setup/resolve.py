"""Resolves the settings of a run: checks them, completes them, ignores unused ones."""

from __future__ import annotations

import copy

from rich.console import Console

from nmt_feat.config.data_schema import SubwordConfig
from nmt_feat.config.identity import shorten_class_name
from nmt_feat.config.rules import check_settings, unused_subword_settings
from nmt_feat.config.schema import CombinerConfig, MethodConfig, TrainConfig
from nmt_feat.data.corpora import check_formats
from nmt_feat.errors import UserError
from nmt_feat.evaluation.languages import check_scoring, choose_scoring
from nmt_feat.evaluation.metric import build_metrics, check_selecting_metric
from nmt_feat.features.choice import choose_kinds
from nmt_feat.features.contextual import choose_device
from nmt_feat.runs.loggers import make_loggers
from nmt_feat.runs.setup.build_model import choose_merged_features, list_unused_settings
from nmt_feat.runs.setup.build_trainer import try_optimizer
from nmt_feat.runs.setup.feature_rules import check_denoising, check_features, check_terminology
from nmt_feat.runs.setup.method_rules import check_method, check_vectors, check_widths, try_method
from nmt_feat.runs.setup.parent import check_parent
from nmt_feat.runs.setup.pretrained_model import check_start, complete_pretrained


def resolve_settings(cfg: TrainConfig, sweep: bool, console: Console) -> TrainConfig:
    """The settings as they take effect. No data is read.

    Features are sorted by name, because order carries no meaning, and dropped for words only.

    Args:
        cfg: the composed settings; they are not changed.
        sweep: whether the run is a job of a sweep. Settings that its method does not use are then
            meant for other jobs: they are ignored, with a message.
        console: prints these messages.

    Raises:
        UserError: settings are wrong or, in a single run, unused.
    """
    check_settings(cfg)
    check_scoring(cfg.data)
    metrics = build_metrics(cfg.metrics, choose_scoring(cfg.data))
    check_selecting_metric(cfg.trainer.select_metric, metrics)
    make_loggers(cfg.logger)  # wrong settings and missing packages are errors before data is read
    cfg = copy.deepcopy(cfg)
    cfg.features = dict(sorted(cfg.features.items()))
    complete_pretrained(cfg)
    _ignore_readings(cfg, console)
    _warn_of_long_warmup(cfg, console)
    _ignore_unused_subword(cfg.subword, sweep, console)
    _ignore_unused_combiner(cfg.combiner, sweep, console)
    check_method(cfg)
    _ignore_unused_method(cfg, sweep, console)
    _drop_features_of_words_only(cfg, console)
    _ignore_unused_control(cfg, sweep, console)
    check_denoising(cfg)
    for kind in choose_kinds(cfg.features).values():
        kind.check_embedder()
        kind.complete_settings(cfg.subword.kind, choose_device(cfg.trainer.accelerator))
    check_formats(cfg.data)  # before features: an error here may cause errors there
    check_features(cfg)
    check_terminology(cfg)
    check_widths(cfg)
    try_method(cfg)
    check_vectors(cfg)
    check_start(cfg)
    try_optimizer(cfg.optimizer)
    cfg.init.freeze = sorted(set(cfg.init.freeze))
    check_parent(cfg)
    return cfg


def _ignore_readings(cfg: TrainConfig, console: Console) -> None:
    """Ignore reading accuracy for denoising, which translates nothing."""
    if cfg.data.objective == "denoise" and cfg.data.readings:
        console.print("data.objective=denoise: unused: data.readings")
        cfg.data.readings = False


def _warn_of_long_warmup(cfg: TrainConfig, console: Console) -> None:
    warmup, updates = cfg.optimizer.warmup, cfg.trainer.max_steps
    if warmup > updates:
        console.print(
            f"optimizer.warmup={warmup} is longer than trainer.max_steps={updates}: the learning "
            f"rate ends at {updates / warmup:.0%} of optimizer.lr"
        )


def _ignore_unused_subword(subword: SubwordConfig, sweep: bool, console: Console) -> None:
    """Reset settings that the kind of subwords does not use, or refuse them in a single run."""
    for name, reason in unused_subword_settings(subword).items():
        if not sweep:
            value = getattr(subword, name)
            raise UserError(f"subword.{name}={value}: {reason}; leave it out")
        console.print(f"subword={subword.kind}: unused: {name}")
        setattr(subword, name, getattr(SubwordConfig, name))


def _ignore_unused_combiner(combiner: CombinerConfig, sweep: bool, console: Console) -> None:
    """Remove settings that the combiner's class does not take, or refuse them in a single run."""
    names, method = list_unused_settings(combiner), shorten_class_name(combiner._target_)
    if not names:
        return
    if not sweep:
        path = "combiner.bias" if names[0] == "bias" else f"combiner.args.{names[0]}"
        raise UserError(f"combiner={method} takes no {', '.join(names)}; leave {path} out")
    console.print(f"combiner={method}: unused: {', '.join(names)}")
    if "bias" in names:
        combiner.bias = None
    combiner.args = {name: value for name, value in combiner.args.items() if name not in names}


def _drop_features_of_words_only(cfg: TrainConfig, console: Console) -> None:
    """Drop features and settings of a combiner for words only; refuse a combiner without features.

    Features that the method reads without a combiner remain.
    """
    merged = choose_merged_features(cfg)
    if cfg.combiner._target_ is not None:
        if not merged:
            raise UserError(
                f"features=[{','.join(cfg.features)}]: the combiner has nothing to merge; choose "
                "features, for instance features=[upos,deprel], or combiner=none"
            )
        return
    if not cfg.model.source_words:
        raise UserError(
            "combiner=none model.source_words=false: neither words nor features remain; choose "
            "another combiner, such as concat"
        )
    if merged:
        console.print(f"combiner=none: words only, without {', '.join(merged)}")
    cfg.combiner = CombinerConfig()
    cfg.features = {name: f for name, f in cfg.features.items() if name not in merged}


def _ignore_unused_method(cfg: TrainConfig, sweep: bool, console: Console) -> None:
    """Ignore a method that needs a combiner if there is none, or refuse it in a single run."""
    has_unmerged = len(cfg.features) > len(choose_merged_features(cfg))
    if cfg.combiner._target_ is not None or has_unmerged or cfg.method == MethodConfig():
        return
    name = shorten_class_name(cfg.method._target_)
    if not sweep:
        raise UserError(
            f"combiner=none method={name}: words only has no features for it; choose a combiner, "
            "such as concat, or method=embedding"
        )
    console.print(f"combiner=none: unused: method={name}")
    cfg.method = MethodConfig()


def _ignore_unused_control(cfg: TrainConfig, sweep: bool, console: Console) -> None:
    """Ignore a control if there are no features to replace, or refuse it in a single run."""
    if cfg.control == "none" or cfg.features:
        return
    if not sweep:
        reason = "names the method to match" if cfg.control == "matched" else "has no features"
        raise UserError(
            f"combiner=none control={cfg.control}: combiner {reason}; choose another combiner, or "
            "control=none"
        )
    console.print(f"combiner=none: unused: control={cfg.control}")
    cfg.control = "none"
