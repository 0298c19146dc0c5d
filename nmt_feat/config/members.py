"""Features, loggers, metrics and test sets that only the command line describes.

Hydra's grammar cannot add an entry with settings to a typed dictionary: `data.tests.b.source=...`
is refused where no file describes `b`. So such entries stand in a config of their own, `members`,
which `conf/train.yaml` composes last, and the command line's settings then change these entries.
"""

from __future__ import annotations

import dataclasses
import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf, open_dict

from nmt_feat.base.terminal import say
from nmt_feat.config.data_schema import SplitConfig
from nmt_feat.config.overrides import OVERRIDE, dict_items
from nmt_feat.config.schema import FeatureConfig, LoggerConfig, MetricConfig

KINDS: dict[str, type[Any]] = {
    "data.tests": SplitConfig,
    "features": FeatureConfig,
    "logger": LoggerConfig,
    "metrics": MetricConfig,
}
"""Settings that are dictionaries of settings."""
PUBLIC_SET = "sacrebleu:"
"""How the name of a public test set begins; see `data.sacrebleu_sets`."""
CHOSEN = "features", "logger", "metrics"
"""Those of `KINDS` whose entries a job chooses by name."""
MEMBER = re.compile(rf"({'|'.join(map(re.escape, KINDS))})[.]([^.]+)(?:[.](.+))?")


class MemberSetting(NamedTuple):
    """A setting of the command line about an entry of one of `KINDS`: `+data.tests.b.source=x`."""

    plus: str
    path: str
    """`data.tests.b.source`, of which the next three are the parts."""
    group: str
    name: str
    key: str | None
    value: str


def _parse_member(override: str) -> MemberSetting | None:
    """The parts of a setting about an entry; None for any other setting."""
    match = OVERRIDE.fullmatch(override)
    member = MEMBER.fullmatch(match[2]) if match else None
    if not match or not member:
        return None
    return MemberSetting(match[1], match[2], member[1], member[2], member[3], match[3])


def required_settings(kind: type[Any]) -> list[str]:
    """The settings that each entry must have."""
    return [field.name for field in dataclasses.fields(kind) if field.default is MISSING]


def _split_entry(override: str) -> list[str]:
    """`data.tests.b={source: x, target: y}` as two settings, of `source` and `target`.

    `data.tests.b=sacrebleu:wmt16` names both sides of a public set.
    """
    member = _parse_member(override)
    if member is None or member.key is not None:
        return [override]
    entry = f"{member.plus}{member.path}"
    if member.group == "data.tests" and member.value.strip("'\"").startswith(PUBLIC_SET):
        return [f"{entry}.{side}={member.value}" for side in ("source", "target")]
    items = dict_items(member.value)
    if not items:
        return [override]
    return [f"{entry}.{key}={value}" for key, value in items]


def describe_members(overrides: Sequence[str], sweep: bool) -> list[str]:
    """Store the entries that the overrides describe as the config `members`.

    An entry is stored if the overrides give all its required settings. In a sweep, a feature or a
    logger is stored with any settings, for the jobs that choose it; see `leave_out_unchosen`.

    Returns:
        The overrides in the form that Hydra accepts together with `members`.
    """
    overrides = [part for override in overrides for part in _split_entry(override)]
    keys_of: dict[tuple[str, str], set[str]] = defaultdict(set)
    for override in overrides:
        member = _parse_member(override)
        if member and member.key:
            keys_of[member.group, member.name].add(member.key.partition(".")[0])
    complete = {
        (group, name)
        for (group, name), keys in keys_of.items()
        if keys.issuperset(required_settings(KINDS[group]))
    }
    members: dict[str, Any] = {}
    for group, name in keys_of:
        if (group, name) in complete or (sweep and group in CHOSEN):
            inner = members
            for key in group.split("."):
                inner = inner.setdefault(key, {})
            inner[name] = {}
    ConfigStore.instance().store(name="members", node=members)
    return [_without_plus(override, complete) for override in overrides]


def _without_plus(override: str, complete: set[tuple[str, str]]) -> str:
    """A required setting of a stored entry without `+`: the schema has it, without a value."""
    member = _parse_member(override)
    if member is None or (member.group, member.name) not in complete:
        return override
    if member.key not in required_settings(KINDS[member.group]):
        return override
    return f"{member.path}={member.value}"


def settings_of_unchosen(cfg: DictConfig, overrides: Sequence[str]) -> dict[str, list[str]]:
    """Entries of `members` that this job does not choose, and the settings that are about them."""
    unchosen: dict[str, list[str]] = defaultdict(list)
    for override in overrides:
        member = _parse_member(override)
        if member is None or member.group not in CHOSEN:
            continue
        path = f"{member.group}.{member.name}"
        entry = OmegaConf.select(cfg, path)
        required = required_settings(KINDS[member.group])
        # Where the job chooses it, a file gives its required settings.
        if isinstance(entry, DictConfig) and any(OmegaConf.is_missing(entry, k) for k in required):
            unchosen[path].append(member.path)
    return unchosen


def leave_out_unchosen(cfg: DictConfig, overrides: Sequence[str]) -> None:
    """Remove the entries that a job of a sweep does not choose, and print their unused settings."""
    unchosen = settings_of_unchosen(cfg, overrides)
    for entry, settings in unchosen.items():
        group, _, name = entry.rpartition(".")
        with open_dict(cfg):
            del OmegaConf.select(cfg, group)[name]
        chosen = ",".join(map(str, OmegaConf.select(cfg, group)))
        say(f"{group}=[{chosen}]: unused: {', '.join(settings)}")
