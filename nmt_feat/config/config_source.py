"""How Hydra reads our config files: text stays as typed, and rows stand inside their experiments.

Several annotators together are an option, too: `annotator/udpipe+spacy` has the file of each
annotator as one of its `parts`.

The rows of a table are not a product of settings, so each has a name: `row=gate_shuffled`. Hydra
wants a file for each option of a group. Here the option `gate_shuffled` of the group `row` is an
entry of `rows` in a file of `experiment/`. A `ConfigSource`, Hydra's interface for this, turns the
entry into what the option's file would be:

    rows:
      gate_shuffled: {combiner: gate, control: shuffled, model.dim: 64}
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

# Hydra has no public base class that reads files, and no public way to replace its own.
from hydra._internal.core_plugins.file_config_source import FileConfigSource as HydraSource
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from omegaconf import DictConfig, OmegaConf

from nmt_feat.base.resources import find_resource
from nmt_feat.config.identity import is_combiner_name, shorten_class_name
from nmt_feat.config.overrides import GROUPS, setting_of
from nmt_feat.config.yaml_files import ROWS, load_yaml, read_values
from nmt_feat.errors import UserError


class FileConfigSource(HydraSource):
    """Replaces Hydra's reader of config files: it keeps text as typed, and knows rows."""

    top: type[Any] | None = None
    """The dataclass of the entry point's settings."""

    def load_config(self, config_path: str) -> ConfigResult:
        """The config of a file, or of a row."""
        path = os.path.realpath(os.path.join(self.path, self._normalize_file_name(config_path)))
        if os.path.exists(path):
            with open(path, encoding="utf-8-sig") as file:  # Windows may begin it with a mark
                header = ConfigSource._get_header_dict(file.read(512))
                file.seek(0)
                config = load_yaml(file, self._kind_of(config_path, header), path)
            if header.get("package") in (None, "_group_"):
                _name_combiner(config, config_path)
            if config_path.startswith("experiment/") and (rows := config.pop(ROWS, None)):
                self._refuse_shipped_names(rows, path)
        elif (row := self._row_of(config_path)) is not None:
            config, header = _compose_row(row), {"package": "_global_"}
        elif names := self._annotators_of(config_path):
            parts = [f"{name}@parts.{name}" for name in names]
            config, header = OmegaConf.create({"defaults": parts}), {"package": None}
        else:
            raise ConfigLoadError(f"Config not found : {path}")
        return ConfigResult(self.provider, f"{self.scheme()}://{self.path}", config, header)

    def is_group(self, config_path: str) -> bool:
        """Whether it is a folder, or the group of rows."""
        return super().is_group(config_path) or (
            config_path == "row" and super().is_group("experiment")
        )

    def is_config(self, config_path: str) -> bool:
        """Whether it is a file, a row, or several annotators."""
        if super().is_config(config_path) or self._row_of(config_path) is not None:
            return True
        return bool(self._annotators_of(config_path))

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """The groups and options of a group."""
        names = []
        if super().is_group(config_path):
            names = super().list(config_path, results_filter)
        if config_path == "row" and results_filter != ObjectType.GROUP:
            names += self._rows
        if not config_path and self.is_group("row") and results_filter != ObjectType.CONFIG:
            names.append("row")
        return sorted({*names})

    @cached_property
    def _rows(self) -> dict[str, Any]:
        return read_rows(Path(self.path), self.top)

    def _refuse_shipped_names(self, rows: Mapping[str, Any], path: str) -> None:
        """Refuse a row of the user's experiment that has the name of another, shipped row."""
        shipped = find_resource("conf")
        if Path(self.path) != shipped:  # shipped rows are found first: the user's had no effect
            shipped_rows = read_rows(shipped, self.top)
            for name, row in rows.items():
                if row != shipped_rows.get(name, row):
                    raise UserError(
                        f"{path}: rows.{name} has other settings than the row of this name in "
                        f"{shipped / 'experiment'}; give it another name"
                    )

    def _row_of(self, config_path: str) -> Any:
        group, _, name = config_path.removesuffix(".yaml").rpartition("/")
        return self._rows.get(name) if group == "row" else None

    def _annotators_of(self, config_path: str) -> tuple[str, ...]:
        """The annotators of an option such as `annotator/udpipe+spacy`; empty for any other."""
        group, _, name = config_path.removesuffix(".yaml").rpartition("/")
        combines = group == "annotator" and "+" in name and super().is_group(group)
        return tuple(name.split("+")) if combines else ()

    def _kind_of(self, config_path: str, header: dict[str, str | None]) -> Any:
        """The type of a file's settings, by its group and its `@package`."""
        group = str(Path(config_path).parent).replace(os.sep, ".").strip(".")
        package = header.get("package") or group
        dotted_name = group if package == "_group_" else package.removeprefix("_global_").strip(".")
        if self.top is None or not dotted_name:
            return self.top
        setting = setting_of(dotted_name, self.top)
        return setting.kind if setting else None


def read_rows(folder: Path, top: type[Any] | None = None) -> dict[str, Mapping[str, Any]]:
    """The rows of all experiments of a folder of configs, by name.

    Several tables may have the same row. A name of two different rows is a `UserError`.
    """
    rows: dict[str, tuple[Mapping[str, Any], Path]] = {}
    for path, name, row in _read_rows_by_file(folder / "experiment", top):
        earlier, earlier_path = rows.setdefault(name, (row, path))
        if earlier != row:
            raise UserError(
                f"{path}: rows.{name} has other settings than in {earlier_path}; give it another "
                "name"
            )
    return {name: row for name, (row, _) in rows.items()}


def _read_rows_by_file(
    folder: Path, top: type[Any] | None
) -> Iterator[tuple[Path, str, Mapping[str, Any]]]:
    for path in sorted(folder.glob("*.yaml")):
        with path.open(encoding="utf-8-sig") as file:
            content = read_values(file, top, path)
        rows = content.get(ROWS) if isinstance(content, dict) else None
        for name, row in (rows or {}).items():
            if not isinstance(row, dict):
                raise UserError(f"{path}: rows.{name}: write its settings as {{name: value}}")
            yield path, name, row


def _name_combiner(config: Any, config_path: str) -> None:
    """Name a combiner after its file, where that is not the name of its class."""
    group, _, name = config_path.removesuffix(".yaml").partition("/")
    if group == "combiner" and isinstance(config, DictConfig) and "name" not in config:
        name = name.rpartition("/")[2]
        if name != shorten_class_name(config.get("_target_")) and is_combiner_name(name):
            config["name"] = name


def _compose_row(row: Mapping[str, Any]) -> DictConfig:
    """The content of the row's file, if it had one: options of groups as defaults, and settings."""
    options = []
    for name, value in row.items():
        if name in GROUPS:
            combines_annotators = name == "annotator" and isinstance(value, list)
            options.append({f"override /{name}": "+".join(value) if combines_annotators else value})
    config = OmegaConf.create({"defaults": options})
    for name, value in row.items():
        if name not in GROUPS:
            OmegaConf.update(config, name, value, force_add=True)
    return config


def register_reader(top: type[Any]) -> None:
    """Make Hydra read config files with `FileConfigSource`, for settings of the dataclass `top`."""
    FileConfigSource.top = top
    Plugins.instance()  # registers Hydra's own first
    SourcesRegistry.instance().types[FileConfigSource.scheme()] = FileConfigSource
