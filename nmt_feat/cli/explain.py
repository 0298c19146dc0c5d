"""Errors of Hydra and OmegaConf in one line each, in this program's words."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import get_type_hints

from hydra.errors import MissingConfigException, OverrideParseException

from nmt_feat.config import data_schema, evaluate_schema, inference_schema, schema
from nmt_feat.config.config_source import read_rows
from nmt_feat.config.overrides import SINGLE, quote_value, setting_of
from nmt_feat.errors import suggest

SCHEMAS = {
    "train": schema.TrainConfig,
    "translate": inference_schema.TranslateConfig,
    "score": inference_schema.ScoreConfig,
    "evaluate": evaluate_schema.EvaluateConfig,
}
"""The settings of each command that Hydra composes."""

MEANINGS = {
    r"Value '(.*)' of type '\w+' could not be converted to Integer": "{key}={0}: not a whole "
    "number",
    r"Value '(.*)' of type '\w+' could not be converted to Float": "{key}={0}: not a number",
    r"Value '(.*)' is not a valid bool": "{key}={0}: give true or false",
    r"field '[\w.]+' is not Optional()": "{key}=null: needs a value",
    r"Incompatible value 'None' for field of type '(str)'": "{key}: null, needs a value",
    r"Invalid value assigned: (\w+) is not a ListConfig": "{key}: is a list; write {key}=[a,b]",
    r"Cannot assign (\w+) to Dict": "{key}: is a dictionary; write {key}={{name:value}}",
    r"dict is not a subclass of FeatureConfig|in struct[^[]*\[str, FeatureConfig": "{entry}: no "
    "such feature is chosen; choose it by name, features=[upos,deprel], or describe a new one by "
    "{entry}.column=...",
    r"dict is not a subclass of LoggerConfig|in struct[^[]*\[str, LoggerConfig": "{entry}: no such "
    "logger is chosen; choose it by name, logger=[csv], or describe a new one by "
    "{entry}._target_=...",
    r"dict is not a subclass of MetricConfig|in struct[^[]*\[str, MetricConfig": "{entry}: no such "
    "metric is chosen; choose it by name, metrics=[bleu,chrf,ter], or describe a new one by "
    "{entry}._target_=...",
    r"in struct[^[]*\[str, AnnotatorPart": "{key}: no annotator of this name is "
    "combined; name it in annotator=[...], or set annotator.model where there is one annotator",
    r"dict is not a subclass of SplitConfig|in struct[^[]*\[str, SplitConfig": "{entry}: no such "
    "test set; to add one, give both {entry}.source=... and {entry}.target=...",
    r"is not a subclass of \w+Config": "{key}: has settings of its own; write {{name: value}}",
    r"Could not delete '(features|logger|metrics)'\. No match in the defaults": "~{0}: write "
    "{0}=[] for none of them",
    r"does not support deletion": "{key}: a setting cannot be removed; give it another value",
    r"Multiple values for (\w+)\. To override": "{0}: has an option already; write it without +",
    r"(\w+) appears more than once in the final defaults": "{0}: has an option already; write it "
    "without +",
    r"force-add of config groups is not supported: '\++(.*)'": "++{0}: write it without +",
    r"Could not override '(.*)'\.\s*No match in the defaults": "{0}: no setting of this command; "
    "--help lists them",
    r"An item is already at '(.*)'\.": "{0}: is there already; write it without +",
    r"Interpolation key '(.*)' not found": "{key}: ${{{0}}} names no setting; to write these very "
    r"characters, put \ before the $",
    r"is not in struct": "{key}: is not there yet; to add it, write +{key}=...",
    rf"Ambiguous value for argument '((?:{'|'.join((*SINGLE, 'experiment', 'row'))})=.*)'": "{0}: "
    "several options; put -m before it for a sweep",
    r"Ambiguous value for argument '(.*)'": "{0}: several values; put -m before it for a sweep, "
    "or brackets around a list",
}
"""Regular expressions of Hydra's and OmegaConf's messages, and the text to print instead."""

EXTRAS = {
    "hydra/launcher=joblib": "joblib",
    "hydra/launcher=submitit_slurm": "submitit",
    "hydra/launcher=submitit_local": "submitit",
    "hydra/sweeper=optuna": "optuna",
}
"""Hydra's plugins, and the extra that installs each."""


def explain_error(error: Exception) -> str:
    """An error of Hydra or OmegaConf in one line."""
    text = f"{error}\n{error.__cause__ or ''}"
    first_line = " ".join(text.partition("\n    full_key")[0].split())
    if isinstance(error, OverrideParseException):
        return _explain_unreadable(str(error.override), first_line.partition(" See http")[0])
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _explain_missing_option(str(error.missing_cfg_file), text)
    file = re.search(r"In '(\S+)': \w+ raised", text)
    where = f"{file[1]}.yaml: " if file else ""
    keys = re.findall(r"(?:full_key: |merging override [+]*)([^\s=]+)", text)
    key = max(keys, key=len, default=getattr(error, "full_key", None) or "")
    if unknown := re.search(r"Key '(.*)' not in '(\w+)'", text):
        return f"{where}{key}: no such setting; {_suggest_setting(key, unknown[2])}"
    for pattern, message in MEANINGS.items():
        if match := re.search(pattern, text):
            # An entry that users name: `features.upos`, or a level deeper, `data.tests.news`.
            entry = ".".join(key.split(".")[: 3 if key.startswith("data.") else 2])
            advice = ""
            if message.endswith("needs a value") and _is_text_setting(key):
                typed = shlex.quote(f"{key}={quote_value('null')}")
                if file:
                    typed = f"{key.rpartition('.')[2]}: {quote_value('null')}"
                advice = f"; for the text null write {typed}"
            return where + message.format(*match.groups(), key=key, entry=entry) + advice
    return f"{where}{key and f'{key}: '}{first_line}"


def _explain_unreadable(override: str, reason: str) -> str:
    """The message about a setting of the command line that Hydra's grammar does not accept."""
    name, _, value = override.partition("=")
    advice = (
        "write name=value without spaces, lists as name=[a,b], and quote what the shell would "
        "change"
    )
    if value.startswith("~"):
        advice = f"write {name}=$HOME{value[1:]}"
    elif "/" in value and value[0] not in "[{":
        advice = f"quote such a path twice: {shlex.quote(f'{name}={quote_value(value)}')}"
    return f"{override}: cannot be read ({reason}); {advice}"


def _explain_missing_option(file: str, text: str) -> str:
    """The message about an option without a file; `text` names the folders that Hydra searched."""
    group, _, name = file.rpartition("/")
    if extra := EXTRAS.get(f"{group}={name}"):
        return f"{group}={name}: not installed; do: pip install 'nmt_feat[{extra}]'"
    folders = re.findall(r"path=file://(.*)", text)
    names = {path.stem for folder in folders for path in Path(folder, group).glob("*.yaml")}
    if group == "row":
        names = names.union(*(read_rows(Path(folder)) for folder in folders))
    prefix = f"{group}="
    names |= {plugin.removeprefix(prefix) for plugin in EXTRAS if plugin.startswith(prefix)}
    return f"{group or 'config'}={name}: no such option; {suggest(name, names)}"


def _suggest_setting(key: str, schema_name: str) -> str:
    """The end of a message: the group that has a setting of this name, else similar names."""
    modules = evaluate_schema, inference_schema, data_schema, schema
    schema_class = next(m[schema_name] for m in map(vars, modules) if schema_name in m)
    kinds = get_type_hints(schema_class)
    groups = [g for g, kind in kinds.items() if key in getattr(kind, "__dataclass_fields__", ())]
    if groups:
        return f"did you mean {' or '.join(repr(f'{group}.{key}') for group in groups)}?"
    return suggest(key.rpartition(".")[2], kinds)


def _is_text_setting(key: str) -> bool:
    """Whether a setting of any of the commands is text."""
    settings = [setting_of(key, kind) for kind in SCHEMAS.values()]
    return any(setting is not None and setting.kind is str for setting in settings)
