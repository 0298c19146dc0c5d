"""Settings in YAML: text stays as typed (`no`, `1.10`, `2024_12_01`), and aliases are bounded.

YAML turns such words into a truth value or a number before it knows the setting. Here the schema is
asked first: if the setting is text, the scalar keeps its characters. null stays null.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import is_dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, get_args, get_origin

import yaml
from hydra.conf import HydraConf
from omegaconf import OmegaConf
from omegaconf._utils import get_yaml_loader

from nmt_feat.config.overrides import setting_of, unwrap_optional
from nmt_feat.errors import UserError

LARGEST = 20_000
"""Most values that a file may have; an alias counts as all values that it stands for."""
ROWS = "rows"
"""The key of an experiment's file under which the rows of its table stand, see `config_source`."""
TEXT, NULL, MERGE = (f"tag:yaml.org,2002:{name}" for name in ("str", "null", "merge"))


def load_yaml(file: IO[str], kind: Any, name: object) -> Any:
    """The content of an open file of settings, as OmegaConf's container.

    Args:
        file: the file.
        kind: the type of its content, such as a dataclass of settings; None if it is unknown.
        name: the file's name, for messages.
    """
    content = read_values(file, kind, name)
    return OmegaConf.create() if content is None else OmegaConf.create(content)


def read_values(file: IO[str], kind: Any, name: object) -> Any:
    """The content as Python's values, which callers must not change; None for an empty file."""
    content = _parse(file.read(), kind, str(name))
    if isinstance(content, (dict, list, str)) or content is None:
        return content
    raise UserError(f"{name}: is a single value, not settings; write name: value")


@lru_cache(maxsize=1024)  # each job of a sweep composes its settings from the same files
def _parse(text: str, kind: Any, name: str) -> Any:
    """The content of a file as Python's values; the cache is why callers must not change them."""
    stream = io.StringIO(text)
    stream.name = name  # for PyYAML's messages
    loader = get_yaml_loader()(stream)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _refuse_too_many(node, name)
        _keep_text(node, kind)
        return loader.construct_document(node)
    except RecursionError:
        raise UserError(f"{name}: its values are nested too deeply; write them flat") from None
    finally:
        loader.dispose()


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from (key, value)
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


def _refuse_too_many(top: yaml.Node, name: object) -> None:
    """Refuse an alias inside what it stands for, and aliases for too many values in all."""
    sizes: dict[int, int] = {}
    within: set[int] = set()

    def size(node: yaml.Node) -> int:
        if id(node) in within:
            raise UserError(f"{name}: an alias is inside what it stands for; write the values out")
        if id(node) not in sizes:
            within.add(id(node))
            sizes[id(node)] = 1 + sum(map(size, _children(node)))
            within.discard(id(node))
        return sizes[id(node)]

    if size(top) > LARGEST:
        raise UserError(
            f"{name}: has more than {LARGEST:,} values, aliases counted as what they stand for; "
            "write the settings that are needed, without aliases of aliases"
        )


def _keep_text(node: yaml.Node, kind: Any) -> None:
    """Keep the characters of scalars whose type in the schema is text."""
    kind = unwrap_optional(kind)
    origin = get_origin(kind)
    if isinstance(node, yaml.ScalarNode):
        if kind is str and node.style is None and node.tag not in (NULL, MERGE):
            node.tag = TEXT
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _keep_text(item, get_args(kind)[0] if origin is list else None)
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.tag == MERGE:  # what is merged has the same settings
                merged = value.value if isinstance(value, yaml.SequenceNode) else [value]
                for part in merged:
                    _keep_text(part, kind)
            elif is_dataclass(kind):
                _keep_text(value, _kind_inside(kind, str(key.value)))
            elif origin is dict:
                _keep_text(key, str)
                _keep_text(value, get_args(kind)[1])


def _kind_inside(kind: Any, name: str) -> Any:
    """The type of a key of a file whose settings are of the dataclass `kind`."""
    if name == "defaults":
        return list[str]
    if name == ROWS:  # by name, settings with dotted names
        return dict[str, kind]
    if name == "hydra":
        return HydraConf
    if kind is HydraConf and name == "sweeper":  # its class is not in Hydra's own schema
        return dict[str, dict[str, str]]
    setting = setting_of(name, kind)
    return setting.kind if setting else None


def read_yaml(path: Path, kind: Any) -> Any:
    """The content of a file of settings; a file that is not YAML is a `UserError`."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            return load_yaml(file, kind, path)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: not the settings of a run ({reason})") from None
