"""What values a setting may have: constraints beside fields of the schema, and their wording.

A constraint is a `msgspec.Meta` in `Annotated[int, Meta(ge=1)]`. OmegaConf looks at the type alone;
`refuse_out_of_bounds` has msgspec enforce the constraint.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from nmt_feat.errors import UserError, suggest

AtLeast0 = Annotated[int, Meta(ge=0)]
AtLeast1 = Annotated[int, Meta(ge=1)]
Beam = Annotated[int, Meta(ge=1, le=1000)]
"""Hypotheses per sentence; more take all memory long before they help."""
NotNegative = Annotated[float, Meta(ge=0)]
Positive = Annotated[float, Meta(gt=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
ShareBelow1 = Annotated[float, Meta(ge=0, lt=1)]
SpanLength = Annotated[float, Meta(gt=0, le=700)]
"""Mean of a Poisson distribution; of a larger one exp(-mean), the share of 0, is 0 as a float."""
MOST_THREADS = 1024
"""Far more CPU threads, which the system refuses to start, crash the process."""
Threads = Annotated[int, Meta(ge=0, le=MOST_THREADS)]
PairOfShares = Annotated[list[ShareBelow1], Meta(min_length=2, max_length=2)]


def one_of(*choices: str) -> Meta:
    """The constraint that a text is one of a few words."""
    return Meta(pattern=rf"^({'|'.join(choices)})\Z", extra={"choices": choices})


def choices_of(kind: Any) -> tuple[str, ...]:
    """The words that a type allows; empty if its constraint is not `one_of`."""
    meta = _constraint_of(kind)
    choices: tuple[str, ...] = (meta.extra or {}).get("choices", ()) if meta else ()
    return choices


def describe_bounds(kind: Any) -> str:
    """What a type's constraint allows, such as `at least 1`; empty where it has none."""
    meta = _constraint_of(kind)
    if meta is None:
        return ""
    if choices := choices_of(kind):
        return f"one of {', '.join(choices)}"
    if meta.min_length is not None:
        return "two numbers in [0, 1)"
    if meta.le is None and meta.lt is None:
        return f"above {meta.gt}" if meta.ge is None else f"at least {meta.ge}"
    if meta.gt is not None:
        return f"above {meta.gt}, at most {meta.le}"
    if meta.lt is not None:
        return f"in [{meta.ge}, {meta.lt})"
    return f"{meta.ge} to {meta.le}"


def refuse_out_of_bounds(settings: Any) -> None:
    """Refuse settings that the constraints beside their fields do not allow, and infinite ones.

    Args:
        settings: an object of a dataclass of the schema, whose values have the fields' types.
    """
    for path, kind, value in _list_values("", type(settings), settings):
        _refuse_infinite(path, value)
        if _constraint_of(kind) is None:
            continue
        try:
            msgspec.convert(value, kind)
        except msgspec.ValidationError:
            if choices := choices_of(kind):
                raise UserError(f"{path}={value}: unknown; {suggest(value, choices)}") from None
            raise UserError(f"{path}={value}: must be {describe_bounds(kind)}") from None


def _refuse_infinite(path: str, value: Any) -> None:
    """Refuse numbers that are not finite in any setting: records are JSON, which has none."""
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{path}={value}: must be finite; give a number, a large one if need be")
    if isinstance(value, dict):
        for name, inner in value.items():
            _refuse_infinite(f"{path}.{name}", inner)
    elif isinstance(value, (list, tuple)):
        for i, inner in enumerate(value):
            _refuse_infinite(f"{path}[{i}]", inner)


def _list_values(path: str, kind: Any, value: Any) -> Iterator[tuple[str, Any, Any]]:
    """Settings that are not groups of others: dotted name, type with its constraint, value."""
    if dataclasses.is_dataclass(value):
        schema: Any = type(value)
        for name, inner in _type_hints(schema).items():
            yield from _list_values(f"{path}.{name}".lstrip("."), inner, getattr(value, name))
    elif get_origin(kind) is dict and dataclasses.is_dataclass(entry := get_args(kind)[1]):
        for name, inner in value.items():
            yield from _list_values(f"{path}.{name}", entry, inner)
    else:
        yield path, kind, value


@functools.cache
def _type_hints(kind: Callable[..., Any]) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _constraint_of(kind: Any) -> Meta | None:
    """The constraint of a type, or of the X of an optional X."""
    if get_origin(kind) is Annotated:
        meta: Meta = kind.__metadata__[0]
        return meta
    if get_origin(kind) in (list, dict):
        return None
    return next(filter(None, map(_constraint_of, get_args(kind))), None)
