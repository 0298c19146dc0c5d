"""The settings of a run as they take effect."""

from __future__ import annotations

import copy

from rich.console import Console

from nmt_feat.config.feature_rules import check_features
from nmt_feat.config.rules import check_settings
from nmt_feat.config.schema import CombinerConfig, SubwordConfig, TrainConfig
from nmt_feat.data.corpora import check_formats
from nmt_feat.errors import UserError
from nmt_feat.evaluation.languages import check_scoring
from nmt_feat.features.choice import choose_kinds
from nmt_feat.features.contextual import choose_device
from nmt_feat.runs.build_model import check_vectors, check_widths, unused
from nmt_feat.runs.build_optimizer import try_optimizer
from nmt_feat.runs.loggers import make_loggers
from nmt_feat.runs.records import method_name
from nmt_feat.text.word_vectors import vector_width

SUBWORDS = {
    "min_count": ("none", "given"),
    "character_coverage": ("bpe", "unigram"),
    "byte_fallback": ("bpe", "unigram"),
    "split_at_words": ("bpe", "unigram"),
}
"""Settings of only some kinds of subwords."""


def resolve_settings(cfg: TrainConfig, sweep: bool, console: Console) -> TrainConfig:
    """The settings as they take effect; wrong ones are errors, unused ones of a sweep are said.

    Features are sorted by name, since order carries no meaning, and dropped for words only.
    """
    check_settings(cfg)
    check_scoring(cfg.data)
    make_loggers(cfg.logger)  # what they lack is an error before data is read
    cfg = copy.deepcopy(cfg)
    cfg.features = dict(sorted(cfg.features.items()))
    warmup, updates = cfg.optimizer.warmup, cfg.trainer.max_steps
    if warmup > updates:
        console.print(
            f"optimizer.warmup={warmup} is longer than trainer.max_steps={updates}: the learning "
            f"rate ends at {updates / warmup:.0%} of optimizer.lr"
        )
    _leave_out_unused(cfg.subword, sweep, console)
    combiner, name = cfg.combiner, method_name(cfg.combiner._target_)
    left = unused(combiner)
    if left and not sweep:
        path = "combiner.bias" if left[0] == "bias" else f"combiner.args.{left[0]}"
        raise UserError(f"combiner={name} takes no {', '.join(left)}; leave {path} out")
    if left:
        console.print(f"combiner={name}: unused: {', '.join(left)}")
    if combiner._target_ is None:
        if not cfg.model.source_words:
            raise UserError(
                "combiner=none model.source_words=false: neither words nor features are left; "
                "choose another combiner, such as concat"
            )
        if cfg.features:
            console.print(f"combiner=none: words only, without {', '.join(cfg.features)}")
        cfg.combiner, cfg.features = CombinerConfig(), {}
    elif not cfg.features:
        raise UserError(
            "features=[]: the combiner has nothing to merge; choose features, for instance "
            "features=[upos,deprel], or combiner=none"
        )
    if cfg.control != "none" and not cfg.features:
        if not sweep:
            meant = "names the method to match" if cfg.control == "matched" else "has no features"
            raise UserError(
                f"combiner=none control={cfg.control}: combiner {meant}; choose another combiner, "
                "or control=none"
            )
        console.print(f"combiner=none: unused: control={cfg.control}")
        cfg.control = "none"
    combiner.bias = None if "bias" in left else combiner.bias
    combiner.args = {k: v for k, v in combiner.args.items() if k not in left}
    for kind in choose_kinds(cfg.features).values():
        kind.check_embedder()
        kind.complete_settings(cfg.subword.kind, choose_device(cfg.trainer.accelerator))
    check_formats(cfg.data)  # what a format lacks is said before what a feature lacks
    check_features(cfg)
    check_widths(cfg.combiner, cfg.features, cfg.model)
    if cfg.model.source_vectors:
        width = vector_width(cfg.model.source_vectors)
        check_vectors(cfg.combiner, cfg.features, cfg.model, width)
    try_optimizer(cfg.optimizer)
    return cfg


def _leave_out_unused(subword: SubwordConfig, sweep: bool, console: Console) -> None:
    """What the kind of subwords does not use is as if it were not set."""
    for key, kinds in SUBWORDS.items():
        value, default = getattr(subword, key), getattr(SubwordConfig, key)
        if subword.kind in kinds or value == default:
            continue
        if not sweep:
            raise UserError(
                f"subword.{key}={value}: is for {' and '.join(kinds)}, not for "
                f"subword={subword.kind}; leave it out"
            )
        console.print(f"subword={subword.kind}: unused: {key}")
        setattr(subword, key, default)
