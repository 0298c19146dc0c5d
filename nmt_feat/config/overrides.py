"""Settings of the command line for Hydra's grammar: text stays as it was typed.

Hydra reads `paths.runs=2024_12_01` as a number and `input=a,b.txt` as a sweep. Where the schema
says that a setting is text, its value is put in quotes before Hydra sees it. Names of files and
other free text may have any character; in a sweep a comma separates values, unless there is a file
of the whole name. Only these keep Hydra's meaning: quotes around the whole, null, a backslash
before a special character, and `${...}`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import is_dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, NamedTuple, Union, get_args, get_origin, get_type_hints

from hydra.conf import HydraConf
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException
from omegaconf.errors import GrammarParseError
from omegaconf.grammar_parser import parse

from nmt_feat.errors import UserError

SINGLE = (
    "data",
    "annotator",
    "subword",
    "combiner",
    "method",
    "model",
    "optimizer",
    "trainer",
    "decoding",
)
"""Groups of which a run has one option; Hydra would merge the options of a list in silence."""
LISTS = "features", "logger", "metrics"
"""Groups of which a run has any number of options."""
GROUPS = (*SINGLE, *LISTS, "experiment", "row", "hparams_search")

FREE = {
    "SplitConfig": ("source", "target", "conllu", "raw", "factors", "labels"),
    "TerminologyConfig": ("glossary",),
    "DownloadConfig": ("url",),
    "DataConfig": ("name", "folder"),
    "AnnotatorConfig": ("model",),
    "AnnotatorPart": ("model",),
    "FeatureConfig": ("file", "encoder"),
    "ModelConfig": ("source_vectors", "folder", "prefix"),
    "InitConfig": ("run",),
    "PathsConfig": ("runs", "cache"),
    "LocalConfig": ("runs", "cache", "data", "models"),
    "PublishedConfig": ("source", "settings", "no_full"),
    "TrainConfig": ("resume", "name", "license"),
    "TranslateConfig": ("run", "input", "output", "raw", "labels", "label_files", "glossary"),
    "EvaluateConfig": ("run", "cache"),
    "ScoreConfig": (
        *("run", "source", "target", "raw", "output", "labels", "label_files", "glossary"),
    ),
    "RunDir": ("dir",),
    "SweepDir": ("dir", "subdir"),
}
"""By class of the schema, its settings that are names of files or free text. All other text is one
of a few words, so there a comma can only mean a sweep."""

OVERRIDE = re.compile(r"([+]{0,2})([^=~+][^=]*)=(.*)", re.DOTALL)
PLAIN = re.compile(r"[A-Za-z_/.][\w/.+%*?|@-]*", re.ASCII)
"""Text that Hydra reads as text without quotes, unless it is one of `WORDS`."""
WORDS = re.compile(r"null|true|false|nan|inf|[.][\d_]+(e\d+)?", re.IGNORECASE)
"""Text that Hydra reads as another type."""
FUNCTION = re.compile(r"(\w+)\s*\((.*)\)", re.DOTALL)
SWEEPS = "choice", "shuffle", "sort", "glob", "range", "interval", "tag"
"""Functions of Hydra's grammar that make a sweep."""
CLOSING = {"(": ")", "[": "]", "{": "}"}


class Setting(NamedTuple):
    """What the schema says of a setting: its type, and whether it is free text."""

    kind: Any
    free: bool = False


def setting_of(key: str, top: type[Any]) -> Setting | None:
    """The setting of a dotted name under the dataclass `top`; None if there is none."""
    kind, free = top, False
    names = key.split(".")
    if names[0] == "hydra":
        kind, names = HydraConf, names[1:]
    for name in names:
        kind = unwrap_optional(kind)
        if is_dataclass(kind):
            hints = _hints(kind)
            if name not in hints:
                return None
            free = name in FREE.get(kind.__name__, ())
            kind = hints[name]
        elif get_origin(kind) is dict:
            kind = get_args(kind)[1]
        else:
            return None
    return Setting(unwrap_optional(kind), free)


def unwrap_optional(kind: Any) -> Any:
    """The type X of an optional X."""
    if get_origin(kind) in (Union, UnionType):
        inner = [k for k in get_args(kind) if k is not NoneType]
        return inner[0] if len(inner) == 1 else kind
    return kind


@cache
def _hints(kind: type[Any]) -> dict[str, Any]:
    return get_type_hints(kind)


def name_annotators(override: str, top: type[Any]) -> str:
    """A setting of several annotators in the form of the schema `top`; any other stays.

    `annotator=[udpipe,spacy]` is the option `udpipe+spacy`, `annotator.udpipe.model` is the model
    of one of its `parts`.
    """
    match = OVERRIDE.fullmatch(override)
    if match is None:
        return override
    plus, key, value = match.groups()
    group, _, rest = key.partition(".")
    if key == "annotator":
        value = ",".join(map(join_annotators, split_at_commas(value)))
    elif group == "annotator" and setting_of(group, top):
        name, _, setting = rest.partition(".")
        if setting and not setting_of(f"annotator.{name}", top):
            key = f"annotator.parts.{rest}"
    return f"{plus}{key}={value}"


def join_annotators(names: str) -> str:
    """`udpipe+spacy` of `[udpipe,spacy]`; one name stays."""
    if not re.fullmatch(r"\[[^\[\]]*\]", names.strip()):
        return names
    items = [item.strip() for item in names.strip()[1:-1].split(",") if item.strip()]
    if len(set(items)) < len(items):
        raise UserError(f"annotator={names}: names an annotator twice; leave one out")
    return "+".join(items) or "none"


def keep_text(override: str, top: type[Any], sweep: bool) -> str:
    """The override with its text in quotes where Hydra would otherwise change it.

    Args:
        override: `name=value`, as on the command line.
        top: the dataclass of all settings.
        sweep: whether commas at the top level separate the values of a sweep.
    """
    match = OVERRIDE.fullmatch(override)
    if match is None:
        return override
    plus, key, value = match.groups()
    options = split_at_commas(value) if key in GROUPS else []
    if any(option.strip().lower() == "null" for option in options):
        advice = f"write {key}=[] for none" if key in LISTS else "leave it out for the default"
        raise UserError(f"{override}: has to name an option; {advice}")
    if key in GROUPS or "/" in key or "@" in key:
        if value.startswith("["):
            value = _quote_items(value, lambda item: _quote_text(item, free=False))
        elif not value.startswith("{"):
            value = _quote_swept_text(value, False) if sweep else _quote_text(value, free=False)
    elif setting := setting_of(key, top):
        value = _quote_by_type(value, setting.kind, setting.free, sweep)
    return f"{plus}{key}={value}"


def _quote_by_type(value: str, kind: Any, free: bool, sweep: bool) -> str:
    """The value of a setting of this type, with its text in quotes where needed."""
    kind = unwrap_optional(kind)
    if kind is str:
        return _quote_swept_text(value, free) if sweep else _quote_text(value, free)
    if sweep and len(parts := split_at_commas(value)) > 1:
        return ",".join(_quote_by_type(part, kind, free, sweep=False) for part in parts)
    if get_origin(kind) is list:
        return _quote_items(
            value, lambda item: _quote_by_type(item, get_args(kind)[0], True, sweep=False)
        )
    if get_origin(kind) is dict or is_dataclass(kind):
        return _quote_values(value, kind, free)
    return value


def _quote_items(value: str, quote: Callable[[str], str]) -> str:
    """A list with `quote` applied to each item; anything else stays."""
    if not (value.startswith("[") and value.endswith("]") and len(split_at_commas(value)) == 1):
        return value
    content = value[1:-1]
    if not content.strip():
        return value
    return f"[{','.join(quote(item.strip()) for item in split_at_commas(content))}]"


def _quote_values(value: str, kind: Any, free: bool) -> str:
    """A dictionary with each value quoted by its type; anything else stays."""
    if (pairs := dict_items(value)) is None:
        return value
    items = []
    for name, text in pairs:
        of_dict = get_origin(kind) is dict
        inner = Setting(get_args(kind)[1], free) if of_dict else setting_of(name, kind)
        quoted = _quote_by_type(text, inner.kind, free=True, sweep=False) if inner else text
        items.append(f"{name}:{quoted}")
    return f"{{{','.join(items)}}}"


def dict_items(value: str) -> list[tuple[str, str]] | None:
    """Names and values of a dictionary in Hydra's grammar; None if the text is no dictionary."""
    if not (value.startswith("{") and value.endswith("}") and len(split_at_commas(value)) == 1):
        return None
    if not value[1:-1].strip():
        return []
    pairs = [item.partition(":") for item in split_at_commas(value[1:-1])]
    if not all(colon for _, colon, _ in pairs):
        return None
    return [(name.strip(), text.strip()) for name, _, text in pairs]


def _quote_swept_text(value: str, free: bool) -> str:
    """Text of a sweep: one value, several with commas between, or a function that makes them."""
    if free and "," in value and Path(value).exists():
        return quote_value(value)
    if (function := FUNCTION.fullmatch(value)) and function[1] in SWEEPS:
        if function[1] not in ("choice", "shuffle", "sort"):
            return value
        items = [item.strip() for item in split_at_commas(function[2])]
        quoted = [_quote_text(item, free) for item in items]
        if quoted == items or any(item[:1] in ("[", "{") for item in items):
            return value
        if function[1] == "choice":  # it would drop the quotes; commas mean the same
            return ",".join(quoted)
        raise UserError(
            f"{value}: has a number or a truth value where text is meant; write the values with "
            "commas between, without the function"
        )
    parts = split_at_commas(value)
    if len(parts) == 1:
        return _quote_text(value, free)
    return ",".join(_quote_text(part.strip(), free) for part in parts)


def _quote_text(value: str, free: bool) -> str:
    """One value of a setting that is text."""
    if PLAIN.fullmatch(value) and not WORDS.fullmatch(value):
        return value
    if value in ("", "~", "???") or value.startswith("~/") or value.lower() == "null":
        return value  # Hydra's own meaning, or refused later with advice
    if free and "${" in value and Path(value).exists():
        return quote_value(value.replace("${", r"\${"))
    if not free and (len(split_at_commas(value)) > 1 or FUNCTION.fullmatch(value)):
        return value  # a sweep without -m, which Hydra refuses
    try:
        content = OverridesParser.create().parse_override(f"x={value}")._value
    except (HydraException, ValueError):
        content = None
    if isinstance(content, QuotedString):
        return value
    if isinstance(content, str) and (content == value or "\\" in value):
        return value if _interpolates(value) else quote_value(value)
    return quote_value(value)


def _interpolates(value: str) -> bool:
    """Whether OmegaConf can read the value's `${...}`, if it has any."""
    try:
        parse(value)
    except GrammarParseError:
        return False
    return True


def quote_value(value: str) -> str:
    """The value in quotes of Hydra's grammar; a `${` that OmegaConf cannot read is escaped."""
    if "${" in value and not _interpolates(value):
        value = value.replace("${", r"\${")
    return QuotedString(value, Quote.double).with_quotes()


def split_at_commas(text: str) -> list[str]:
    """`text` split at commas outside of quotes and brackets; whole if these are not closed."""
    parts: list[str] = []
    part_start = position = 0
    open_brackets = quote_mark = ""  # closing brackets that are due, and the quote that is open
    begins_value = True
    while position < len(text):
        char = text[position]
        if quote_mark:
            if char == "\\":
                position += 1
            elif char == quote_mark:
                quote_mark = ""
        elif char in "\"'" and begins_value:  # elsewhere it is an apostrophe
            quote_mark = char
        elif char in CLOSING:
            open_brackets += CLOSING[char]
        elif open_brackets and char == open_brackets[-1]:
            open_brackets = open_brackets[:-1]
        elif char == "\\":
            position += 1
        elif char == "," and not open_brackets:
            parts.append(text[part_start:position])
            part_start = position + 1
        begins_value = char in ",([{:= "
        position += 1
    if open_brackets or quote_mark:
        return [text]
    return [*parts, text[part_start:]]


def is_sweep(arguments: Sequence[str]) -> bool:
    """Whether the command line asks for several jobs."""
    return any(
        re.fullmatch(r"-[a-ln-z]*m\w*|--mu\w*|hydra[.]mode=[\"']?multirun[\"']?", argument, re.I)
        for argument in arguments
    )
