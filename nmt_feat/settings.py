"""The settings of a run as they take effect, and those of them that make it another run."""

from __future__ import annotations

import copy
import dataclasses
import functools
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from nmt_feat.checks import check
from nmt_feat.corpus.prepare import language_model
from nmt_feat.corpus.text import known_sha256, sha256
from nmt_feat.corpus.vectors import vector_width
from nmt_feat.errors import UserError
from nmt_feat.evaluation.languages import DEFAULT, check_scoring, choose_scoring
from nmt_feat.feature_checks import check_features
from nmt_feat.features import Contextual, Vectors
from nmt_feat.identity import drop_defaults, drop_harmless
from nmt_feat.instantiate import locate, may_import
from nmt_feat.model.build import (
    build_combiner,
    check_vectors,
    check_widths,
    isolated,
    unused,
    wanted,
)
from nmt_feat.report.records import leave_out, method_name
from nmt_feat.schema import CombinerConfig, FeatureConfig, SubwordConfig, TrainConfig
from nmt_feat.training.checkpoints import digest
from nmt_feat.training.loggers import make_loggers
from nmt_feat.training.optimizers import try_optimizer

SHIPPED = "nmt_feat", "torch"
"""Packages whose revision or version is in the record: their classes are not one's own."""


SUBWORDS = {
    "min_count": ("none", "given"),
    "character_coverage": ("bpe", "unigram"),
    "byte_fallback": ("bpe", "unigram"),
    "split_at_words": ("bpe", "unigram"),
}
"""Settings of only some kinds of subwords."""


def settle(cfg: TrainConfig, sweep: bool, console: Console) -> TrainConfig:
    """The settings as they take effect; wrong ones are errors, unused ones of a sweep are said.

    Features are sorted by name, since order carries no meaning, and dropped for words only.
    """
    check(cfg)
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
    for name, feature in cfg.features.items():
        _check_source(name, feature)
        if feature.file:
            feature.args["width"] = vector_width(feature.file)
        if feature.encoder:
            if cfg.subword.kind == "given":
                raise UserError(
                    f"features.{name}: an encoder reads text, not the pieces of another toolkit; "
                    "set subword to another than given"
                )
            model = language_model(cfg, name, feature)
            _ = model.tokenizer  # an unfit one is an error before data is read
            feature.args["width"], feature.layer = model.width, model.layer
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


def _check_source(name: str, feature: FeatureConfig) -> None:
    """A feature that comes from a file is of the kind that reads such a file."""
    cls = locate(feature._target_)
    for key, kind, what in (
        ("file", Vectors, "word vectors; set features.{}.file=FILE"),
        ("encoder", Contextual, "an encoder; set features.{}.encoder=FOLDER"),
    ):
        given = getattr(feature, key)
        if given and not issubclass(cls, kind):
            raise UserError(
                f"features.{name}.{key}={given}: goes with "
                f"_target_=nmt_feat.features.{kind.__name__}, not {feature._target_}"
            )
        if not given and issubclass(cls, kind):
            raise UserError(f"features.{name}: {feature._target_} needs {what.format(name)}")
    if feature.file and not Path(feature.file).exists():
        raise UserError(
            f"features.{name}.file={feature.file}: no such file; correct the path (those of "
            "experiment=meta_embedding are made by: python scripts/train_vectors.py vectors)"
        )


@functools.cache
def module_sum(module: str) -> str:
    """A sum of the file of a module, as it was when this process first asked."""
    return sha256(str(sys.modules[module].__file__))[:16]


def code(*classes: type[Any]) -> dict[str, str]:
    """Under `code`, a sum of the files of those classes, and their bases, that are one's own.

    Empty where all are of nmt_feat and PyTorch, whose revision and version are in the record.
    """
    modules = {base.__module__ for cls in classes for base in cls.__mro__}
    own = sorted(m for m in modules if m.partition(".")[0] not in SHIPPED and may_import(m))
    return {"code": digest([module_sum(m) for m in own])[:16]} if own else {}


def determining(cfg: TrainConfig, data: str) -> dict[str, Any]:
    """The settings that determine the result; `data` is the fingerprint of the prepared data.

    Where files lie, how many processes annotate and what is shown change nothing; nor does
    `data.readings`, which a finished run is given later. Classes of one's own are settings, too.
    """
    settings = drop_defaults(drop_harmless(dataclasses.asdict(cfg)), TrainConfig)
    settings["trainer"] = drop_harmless(settings["trainer"], "trainer")
    settings["data"] = drop_harmless(settings["data"], "data") | {"hash": data}
    # BLEU on dev chooses the checkpoint. By 13a, as it always was once, it is no setting.
    settings["data"].pop("bleu_tokenizer", None)
    scoring = choose_scoring(cfg.data)
    if not scoring.tokenized and scoring.tokenizer != DEFAULT:
        settings["data"]["bleu_tokenizer"] = scoring.tokenizer
    for feature in settings["features"].values():
        feature["file"] = bool(feature["file"])  # its content is in the fingerprint
        if feature["encoder"] is None:  # as if there were none
            del feature["encoder"], feature["layer"], feature["precision"]
        else:
            feature["encoder"] = True
        if feature["live"]:
            del feature["precision"]
        else:  # as if there were none
            del feature["live"], feature["trained"], feature["learning_rate"]
    model = settings["model"]
    if cfg.model.source_vectors is None:  # as if there were none
        del model["source_vectors"], model["source_frozen"]
    else:
        file, cache = Path(cfg.model.source_vectors), Path(cfg.paths.cache)
        model["source_vectors"] = known_sha256(file, cache, content=True)
    parts = wanted(cfg.combiner, cfg.features, dict.fromkeys(cfg.features, 1), cfg.model)
    with isolated(0, "code"):
        combiner = build_combiner(cfg.combiner, parts, cfg.model.dim)
    settings["combiner"] |= code(*map(type, combiner.modules()))  # `mixed` has others inside
    settings["optimizer"] |= code(locate(cfg.optimizer._target_))
    for name, feature in cfg.features.items():
        settings["features"][name] |= code(locate(feature._target_))
    settings["annotator"] = cfg.annotator._target_ if cfg.features else None
    leave_out(settings)
    return settings


def folder_name(cfg: TrainConfig, settings: dict[str, Any]) -> str:
    """`<combiner>-<features>-<control>-s<seed>-<hash8>`."""
    features = ["+".join(cfg.features)] if cfg.features else []
    method = method_name(cfg.combiner._target_)
    control = [cfg.control] if cfg.control != "none" else []
    return "-".join([method, *features, *control, f"s{cfg.seed}", digest(settings)[:8]])
