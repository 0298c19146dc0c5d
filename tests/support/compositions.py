"""Hydra's compositions of the package's options, kept in this process.

A composition takes a third of a second, and hundreds of tests choose the same options. Values of
the command line come after it, so they are no part of what is kept; nor is anything that reads a
user's own folder of options.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from hydra._internal import config_loader_impl
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.defaults_list import DefaultsList, Overrides
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig

from nmt_feat.base.resources import find_resource
from nmt_feat.config.config_source import FileConfigSource

create_list = config_loader_impl.create_defaults_list  # type: ignore[attr-defined]
compose_list = ConfigLoaderImpl._compose_config_from_defaults_list
_lists: dict[tuple[Any, ...], DefaultsList] = {}
_compositions: dict[int, DictConfig] = {}
"""By the identity of a list of defaults, which `_lists` holds."""


def members() -> str:
    """What the command line describes by itself, which is composed too; see config/members.py."""
    stored: Any = ConfigStore.instance().repo.get("members.yaml")
    return repr(stored and stored.node)


def keep_compositions() -> None:
    """Let Hydra compose each choice of the package's options once."""
    config_loader_impl.create_defaults_list = _create_list  # type: ignore[attr-defined]
    ConfigLoaderImpl._compose_config_from_defaults_list = _compose_list  # type: ignore[method-assign]


def _create_list(repo: Any, config_name: str | None, overrides_list: list[Any], **more: Any) -> Any:
    sources = [(s.provider, s.scheme(), s.path) for s in repo.get_sources()]
    folders = {path for _, scheme, path in sources if scheme == "file"}
    if folders != {str(find_resource("conf"))}:
        return create_list(repo, config_name, overrides_list, **more)
    values = Overrides(repo=repo, overrides_list=overrides_list).config_overrides
    options = [o for o in overrides_list if not any(o is value for value in values)]
    lines = tuple(o.input_line for o in options if not o.is_sweep_override())
    key = (FileConfigSource.top, *sources, config_name, lines, *sorted(more.items()), members())
    if key not in _lists:
        _lists[key] = create_list(repo, config_name, options, **more)
    first = _lists[key]
    return DefaultsList(first.defaults, first.defaults_tree, values, first.overrides)


def _compose_list(self: ConfigLoaderImpl, defaults: list[Any], repo: Any) -> DictConfig:
    if all(defaults is not entry.defaults for entry in _lists.values()):
        return compose_list(self, defaults, repo)
    if id(defaults) not in _compositions:
        _compositions[id(defaults)] = compose_list(self, defaults, repo)
    return deepcopy(_compositions[id(defaults)])
