"""The paths of a machine, from `conf/local/default.yaml`, which is in no repository."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nmt_feat.base.resources import find_resource
from nmt_feat.base.typed_json import Mismatch, convert_json
from nmt_feat.config.identity import flatten_settings
from nmt_feat.config.schema import LocalConfig
from nmt_feat.config.yaml_files import read_yaml
from nmt_feat.errors import UserError

FILE = Path("local", "default.yaml")
"""In the folder `conf` of the current one, or else in that of the program."""


def read_local() -> LocalConfig:
    """The machine's paths, for commands that Hydra does not compose; defaults where no file is."""
    for conf in (Path("conf"), find_resource("conf")):
        if (path := conf / FILE).is_file():
            try:
                content = OmegaConf.to_container(read_yaml(path, LocalConfig), resolve=True)
                local = convert_json(content, LocalConfig)
            except (Mismatch, OmegaConfBaseException) as error:
                reason = " ".join(str(error).split())
                raise UserError(f"{path}: not the paths of a machine ({reason})") from None
            assert isinstance(local, LocalConfig)
            return local
    return LocalConfig()


def fill_local_paths(settings: dict[str, Any]) -> None:
    """Set the folder of the corpus and the models of annotators, if nothing else names them.

    `paths` needs no code: it refers to `local` in `conf/train.yaml`.
    """
    local, data, annotator = (settings.get(name) or {} for name in ("local", "data", "annotator"))
    for name, path in flatten_settings(local).items():
        if str(path).startswith("~"):
            raise UserError(
                f"conf/{FILE}: {name}: {path}: write the whole path, or ${{oc.env:HOME}} for ~"
            )
    if data.get("folder") in (None, "???") and data.get("name") in (local.get("data") or {}):
        data["folder"] = local["data"][data["name"]]
    parts = annotator.get("parts") or {}  # of several annotators
    for part in (annotator, *parts.values()):
        name = str(part.get("_target_")).rpartition(".")[2].lower()
        if part.get("model") is None and name in (local.get("models") or {}):
            part["model"] = local["models"][name]
