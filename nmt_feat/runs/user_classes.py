"""User-defined classes of a run, and whether their files are still those of its training."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from nmt_feat.config.instantiate import locate_class, user_code_hash
from nmt_feat.config.schema import TrainConfig
from nmt_feat.features.choice import choose_kinds
from nmt_feat.model.translation_model import TranslationModel
from nmt_feat.runs.records import FINISHED, read_record


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
