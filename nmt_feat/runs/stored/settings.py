"""The settings of a run, read back from its folder as plain data."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from nmt_feat.base.typed_json import Mismatch, convert_json
from nmt_feat.config.earlier_formats import upgrade_annotator
from nmt_feat.config.instantiate import refuse_classes_of_run
from nmt_feat.config.schema import TrainConfig
from nmt_feat.config.yaml_files import read_yaml
from nmt_feat.errors import UserError
from nmt_feat.training.checkpoints import check_format


def read_settings(path: Path) -> TrainConfig:
    """The settings in a run's `config.yaml`.

    Somebody else may have written them. So `${...}` stays text (resolved, it could name a variable
    of the environment), and classes of modules that are not trusted are refused.

    Raises:
        UserError: if the file does not hold the settings of a run.
    """
    try:
        content = OmegaConf.to_container(read_yaml(path, TrainConfig), resolve=False)
        if isinstance(content, dict):
            check_format(int(content.pop("format", 1)), path)
    except UserError:
        raise
    except Exception as error:  # of YAML, OmegaConf or the file's encoding
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: not the settings of a run ({reason})") from None
    return convert_settings(content, str(path))


def convert_settings(content: Any, where: str) -> TrainConfig:
    """The settings of plain data, such as a run's record has; `where` names it in messages."""
    content = upgrade_annotator(content)
    try:
        settings = convert_json(content, TrainConfig)
    except Mismatch as error:
        raise UserError(f"{where}: not the settings of a run ({error})") from None
    assert isinstance(settings, TrainConfig)
    if unknown := next(_unknown_keys(content, dataclasses.asdict(settings)), None):
        raise UserError(f"{where}: not the settings of a run (no setting is named {unknown})")
    refuse_classes_of_run(content, where)
    return settings


def _unknown_keys(
    content: dict[str, Any], settings: dict[str, Any], above: str = ""
) -> Iterator[str]:
    """The dotted names of entries of the content that are not settings."""
    for key, value in content.items():
        if key not in settings:
            yield f"{above}{key}"
        elif isinstance(value, dict) and isinstance(settings[key], dict):
            yield from _unknown_keys(value, settings[key], f"{above}{key}.")
