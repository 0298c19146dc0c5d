"""The settings that are hashed to find a run: feature kinds, data and classes have a say in them.

Which settings are part of a run's identity, and their history, is in config/identity.py.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nmt_feat.config.earlier_formats import FIRST_NAMES
from nmt_feat.config.identity import drop_defaults, drop_harmless, drop_neutral_settings
from nmt_feat.config.instantiate import locate_class, user_code_hash
from nmt_feat.config.method_choice import locate_method
from nmt_feat.config.schema import TrainConfig, TrainerConfig
from nmt_feat.data.terminology import describe_settings
from nmt_feat.evaluation.languages import DEFAULT, choose_scoring
from nmt_feat.evaluation.metric import Metric
from nmt_feat.features.choice import choose_kinds
from nmt_feat.model.seeds import isolated_generator
from nmt_feat.model.translation_model import TranslationModel
from nmt_feat.pretrained.folder import open_folder
from nmt_feat.runs.setup.artifacts import WEIGHTS
from nmt_feat.runs.setup.build_model import build_run_combiner
from nmt_feat.runs.stored.records import FINISHED, read_record
from nmt_feat.text.files import hash_file_cached


def identity_settings(cfg: TrainConfig, data: str) -> dict[str, Any]:
    """The settings that determine the trained model, with hashes of the files that they name.

    `data` is the hash of the data for training and validation.
    """
    settings = drop_defaults(drop_harmless(dataclasses.asdict(cfg)), TrainConfig)
    settings["trainer"] = drop_harmless(settings["trainer"], "trainer")
    settings["combiner"] = drop_harmless(settings["combiner"], "combiner")
    settings["data"] = drop_harmless(settings["data"], "data") | {"hash": data}
    if cfg.trainer.select_metric != TrainerConfig.select_metric:
        settings["trainer"]["select_metric"] = identify_selecting_metric(cfg)
    targets = cfg.annotator.targets if cfg.uses_annotator else []
    settings["annotator"] = targets if len(targets) > 1 else next(iter(targets), None)
    for name, kind in choose_kinds(cfg.features).items():
        kind.trim_identity(settings["features"][name])
    add_tokenizer(settings["data"], cfg)
    if cfg.data.terminology.is_applied:  # the glossary itself is part of the data's hash
        settings["data"]["terminology"] = describe_settings(cfg.data.terminology)
    hash_source_vectors(settings["model"], cfg)
    hash_parent(settings, cfg)
    if cfg.model.folder:
        weights = open_folder(cfg.model.folder).hash_weights(Path(cfg.paths.cache))
        settings["model"]["folder"] = weights
    hash_user_code(settings, cfg)
    if cfg.trainer.select == "best":  # then nothing is averaged
        del settings["trainer"]["average"]
    drop_neutral_settings(settings)
    first: dict[str, Any] = replace_by_first_names(settings)
    return first


def identify_selecting_metric(cfg: TrainConfig) -> dict[str, Any]:
    """The settings of the metric that chooses the checkpoint, and what its files have in them."""
    selecting = cfg.metrics[cfg.trainer.select_metric]
    metric: type[Metric] = locate_class(selecting._target_)
    args = metric.identify_args(selecting.args, choose_scoring(cfg.data))
    return dataclasses.asdict(selecting) | {"args": args} | user_code_hash(metric)


def add_tokenizer(data: dict[str, Any], cfg: TrainConfig) -> None:
    """Add BLEU's tokeniser, because BLEU on dev chooses the checkpoint.

    13a is left out: once it was the only tokeniser, and hashes do not have it.
    """
    data.pop("bleu_tokenizer", None)
    scoring = choose_scoring(cfg.data)
    if not scoring.tokenized and scoring.tokenizer != DEFAULT:
        data["bleu_tokenizer"] = scoring.tokenizer


def hash_source_vectors(model: dict[str, Any], cfg: TrainConfig) -> None:
    """Replace the file of ready-made vectors by its hash; without one, remove its settings."""
    if cfg.model.source_vectors is None:
        del model["source_vectors"], model["source_frozen"]
    else:
        file, cache = Path(cfg.model.source_vectors), Path(cfg.paths.cache)
        model["source_vectors"] = hash_file_cached(file, cache, content=True)


def hash_parent(settings: dict[str, Any], cfg: TrainConfig) -> None:
    """Replace the folder of the parent run by the hash of its weights."""
    if cfg.init.run:
        weights, cache = Path(cfg.init.run) / WEIGHTS, Path(cfg.paths.cache)
        settings["init"]["run"] = hash_file_cached(weights, cache)


def hash_user_code(settings: dict[str, Any], cfg: TrainConfig) -> None:
    """Add hashes of the files of user-defined classes."""
    with isolated_generator(0, "code"):
        combiner = build_run_combiner(cfg, dict.fromkeys(cfg.features, 1))
    # `mixed` has further combiners inside, so all its modules count.
    settings["combiner"] |= user_code_hash(*map(type, combiner.modules()))
    if "method" in settings:
        settings["method"] |= user_code_hash(locate_method(cfg.method))
    settings["optimizer"] |= user_code_hash(locate_class(cfg.optimizer._target_))
    for name, kind in choose_kinds(cfg.features).items():
        embedder = locate_class(kind.settings._target_)
        settings["features"][name] |= user_code_hash(embedder, type(kind))


def describe_changed_classes(
    folder: Path, cfg: TrainConfig, model: TranslationModel
) -> Iterator[str]:
    """A sentence for each class whose file has changed since the run was trained.

    Args:
        folder: of a finished run; its record has a sum of each user-defined class's file.
        cfg: its settings.
        model: with its combiner, which may have further classes inside (`mixed`).
    """
    if not (folder / FINISHED).is_file():
        return
    settings = read_record(folder / FINISHED).settings
    classes: dict[str, list[type]] = {
        "combiner": [type(module) for module in model.feature_embedding.combiner.modules()],
        "method": [type(model.method)],
    }
    for feature, kind in choose_kinds(cfg.features).items():
        classes[f"features.{feature}"] = [locate_class(kind.settings._target_), type(kind)]
    for name, its_classes in classes.items():
        node = settings
        for part in name.split("."):
            node = node.get(part) or {}
        before = node.get("code")
        if before and user_code_hash(*its_classes).get("code") != before:
            target = cfg.combiner._target_ if name == "combiner" else node.get("_target_")
            yield (
                f"{folder}: {name}._target_={target}: its file has changed since the run was "
                "trained; translations may change"
            )


def replace_by_first_names(settings: Any) -> Any:
    """The settings, with each class of the package under its first name."""
    if isinstance(settings, dict):
        return {name: replace_by_first_names(value) for name, value in settings.items()}
    if isinstance(settings, list):
        return [replace_by_first_names(value) for value in settings]
    return FIRST_NAMES.get(settings, settings) if isinstance(settings, str) else settings
