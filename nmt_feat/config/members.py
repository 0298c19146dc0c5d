"""What the command line itself describes, or some jobs lack: features, loggers, metrics, test sets.

Hydra's grammar cannot add an entry with settings to a typed dictionary: `data.tests.b.source=...`
is refused where no file describes `b`. So such entries stand in a config of their own, `members`,
which `conf/train.yaml` composes last and which the command line's settings are then about.
"""

from __future__ import annotations

import dataclasses
import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

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
"""Of these, the ones that a job chooses by name."""
MEMBER = re.compile(rf"({'|'.join(map(re.escape, KINDS))})[.]([^.]+)(?:[.](.+))?")


def required_settings(kind: type[Any]) -> list[str]:
    """The settings that each entry must have."""
    return [field.name for field in dataclasses.fields(kind) if field.default is MISSING]


def _spread(override: str) -> list[str]:
    """`data.tests.b={source: x, target: y}` as a setting for each of them.

    `data.tests.b=sacrebleu:wmt16` names both sides of a public set.
    """
    match = OVERRIDE.fullmatch(override)
    if match and (member := MEMBER.fullmatch(match[2])) and member[3] is None:
        if member[1] == "data.tests" and match[3].strip("'\"").startswith(PUBLIC_SET):
            return [f"{match[1]}{match[2]}.{side}={match[3]}" for side in ("source", "target")]
        items = dict_items(match[3])
        if items:
            return [f"{match[1]}{match[2]}.{name}={value}" for name, value in items]
    return [override]


def describe_members(overrides: Sequence[str], sweep: bool) -> list[str]:
    """Store what the overrides describe as the config `members`; the overrides that go with it.

    An entry is described where all that it needs is there. In a sweep, a feature or a logger that
    has other settings gets an entry too, for the jobs that choose it; see `leave_out_unchosen`.
    """
    overrides = [part for override in overrides for part in _spread(override)]
    names: dict[tuple[str, str], set[str]] = defaultdict(set)
    for override in overrides:
        match = OVERRIDE.fullmatch(override)
        if match and (member := MEMBER.fullmatch(match[2])) and member[3]:
            names[member[1], member[2]].add(member[3].partition(".")[0])
    complete = {
        entry
        for entry, keys in names.items()
        if keys.issuperset(required_settings(KINDS[entry[0]]))
    }
    members: dict[str, Any] = {}
    for group, name in names:
        if (group, name) in complete or (sweep and group in CHOSEN):
            inner = members
            for key in group.split("."):
                inner = inner.setdefault(key, {})
            inner[name] = {}
    ConfigStore.instance().store(name="members", node=members)
    return [_without_plus(override, complete) for override in overrides]


def _without_plus(override: str, complete: set[tuple[str, str]]) -> str:
    """What an entry needs is there, though without a value: there is nothing to add."""
    match = OVERRIDE.fullmatch(override)
    member = match and MEMBER.fullmatch(match[2])
    if not match or not member or (member[1], member[2]) not in complete:
        return override
    return (
        f"{match[2]}={match[3]}" if member[3] in required_settings(KINDS[member[1]]) else override
    )


def settings_of_unchosen(cfg: DictConfig, overrides: Sequence[str]) -> dict[str, list[str]]:
    """Entries of `members` that this job does not choose, and the settings that are about them."""
    unchosen: dict[str, list[str]] = defaultdict(list)
    for override in overrides:
        match = OVERRIDE.fullmatch(override)
        member = match and MEMBER.fullmatch(match[2])
        if not member or member[1] not in CHOSEN:
            continue
        entry = OmegaConf.select(cfg, f"{member[1]}.{member[2]}")
        if isinstance(entry, DictConfig) and any(
            OmegaConf.is_missing(entry, name) for name in required_settings(KINDS[member[1]])
        ):
            unchosen[f"{member[1]}.{member[2]}"].append(match[2] if match else "")
    return unchosen


def leave_out_unchosen(cfg: DictConfig, overrides: Sequence[str]) -> None:
    """Take what a job of a sweep does not choose out of its settings, and say it."""
    unchosen = settings_of_unchosen(cfg, overrides)
    for entry, settings in unchosen.items():
        group, _, name = entry.rpartition(".")
        with open_dict(cfg):
            del OmegaConf.select(cfg, group)[name]
        chosen = ",".join(map(str, OmegaConf.select(cfg, group)))
        say(f"{group}=[{chosen}]: unused: {', '.join(settings)}")
