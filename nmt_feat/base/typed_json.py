"""Reads JSON that somebody else may have written: strictly, and into typed values."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import types
from typing import Any, Union, get_args, get_origin, get_type_hints

from nmt_feat.errors import short_repr

DEEPEST = 100
"""Most levels of nested lists and objects."""


class Mismatch(Exception):
    """A value that does not have its field's type."""


def load_json(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: as `json.loads`; also if a key is twice in an object (`json.loads` would take
            the last one), for a lone surrogate, and for nesting deeper than `DEEPEST`.
    """
    try:
        value = json.loads(text, object_pairs_hook=_refuse_repeated)
    except RecursionError:
        raise ValueError(f"nested deeper than {DEEPEST}") from None
    if text.count("[") + text.count("{") > DEEPEST and _measure_depth(value) > DEEPEST:
        raise ValueError(f"nested deeper than {DEEPEST}")
    if re.search(r"\\u[dD][89a-fA-F]", text):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            character = error.object[error.start]
            raise ValueError(f"a lone surrogate, {character!r}, is not a character") from None
    return value


def _measure_depth(value: Any) -> int:
    """Levels of nested lists and dictionaries, counted level by level, without recursion."""
    depth, level = 0, [value]
    while level := [item for item in level if isinstance(item, (list, dict))]:
        depth += 1
        level = [v for item in level for v in (item.values() if type(item) is dict else item)]
    return depth


def without_nan(value: Any) -> Any:
    """`value` with NaN and infinities as null, because JSON has no such numbers."""
    return json.loads(json.dumps(value), parse_constant=lambda name: None)


def _refuse_repeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    pairs_by_key = dict(pairs)
    if len(pairs_by_key) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {short_repr(repeated)} is twice in an object")
    return pairs_by_key


def convert_json(value: Any, kind: Any, where: str = "") -> Any:
    """`value` from JSON, converted to `kind`: a dataclass, list, dict, optional or plain type."""
    origin, inner = get_origin(kind) or kind, get_args(kind)
    if kind is Any:
        return value
    if origin in (types.UnionType, Union):  # `Annotated[...] | None` has the latter
        return None if value is None else convert_json(value, inner[0], where)
    if origin is float and type(value) is int and abs(value) < 1 << 1000:
        return float(value)
    if origin is list and isinstance(value, list):
        return [convert_json(v, inner[0], f"{where}[{i}]") for i, v in enumerate(value)]
    if origin is dict and isinstance(value, dict):
        return {k: convert_json(v, inner[1], f"{where}.{k}") for k, v in value.items()}
    if isinstance(kind, type) and dataclasses.is_dataclass(kind) and isinstance(value, dict):
        for name, parameter in inspect.signature(kind).parameters.items():
            if parameter.default is parameter.empty and name not in value:
                raise Mismatch(f"{where}.{name} is missing".lstrip("."))
        hints = get_type_hints(kind)
        fields = {k: v for k, v in value.items() if k in hints}
        return kind(**{k: convert_json(v, hints[k], f"{where}.{k}") for k, v in fields.items()})
    names = getattr(kind, "_fields", ())  # of a named tuple
    if names and isinstance(value, list) and len(value) == len(names):
        hints = get_type_hints(kind)
        pairs = zip(names, value, strict=True)
        return kind(*(convert_json(v, hints[n], f"{where}.{n}") for n, v in pairs))
    if type(value) is kind:
        return value
    location = where.lstrip(".") or "the file"
    raise Mismatch(f"{location} is {json.dumps(value)[:40]}, not {origin.__name__}")
