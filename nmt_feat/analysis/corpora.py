"""Splits runs by corpus: scores on different corpora cannot be compared."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nmt_feat.analysis.row_labels import PARENT
from nmt_feat.errors import UserError
from nmt_feat.runs.stored.records import RunRecord

Runs = list[tuple[RunRecord, Path | None]]
FILES = "files"
"""The name of every corpus of a user's files, so it does not identify one."""


def split_by_corpus(runs: Iterable[tuple[RunRecord, Path | None]]) -> dict[str, Runs]:
    """The runs of each corpus, by its short name: `multi30k, en to de`."""
    corpora: dict[tuple[str, ...], Runs] = {}
    for record, folder in runs:
        corpora.setdefault(_describe_corpus(record), []).append((record, folder))
    names = [", ".join(key[:2]).removesuffix(", ") for key in corpora]
    named: dict[str, Runs] = {}
    for key, name in zip(corpora, names, strict=True):
        # The file of the training text distinguishes two corpora of one name and language pair.
        full = f"{name}, {key[2]}" if names.count(name) > 1 else name
        named.setdefault(full, []).extend(corpora[key])
    return named


def _describe_corpus(record: RunRecord) -> tuple[str, ...]:
    """Name, language pair and, for a user's files, the training text of a run's corpus."""
    data = record.config.get("data") or {}
    name = record.data or str(data.get("name", ""))
    languages = [data.get(f"{side}_lang") for side in ("source", "target")]
    pair = " to ".join(map(str, languages)) if all(languages) else ""
    if data.get("objective") == "denoise":  # it is scored on restored text of the source side
        pair = f"{languages[0]} restored"
    train = (data.get("train") or {}).get("source", "") if name == FILES else ""
    folder = (data.get("folder") or "") if train else ""
    return name, pair, str(Path(folder) / train) if train else ""


def folder_names(corpora: Iterable[str]) -> dict[str, str]:
    """For each corpus the name of its folder; two corpora never have the same."""
    names: dict[str, str] = {}
    for corpus in corpora:
        name = re.sub(r"[^\w.+-]+", "-", corpus).strip(".-") or "corpus"
        same_name = re.compile(rf"{re.escape(name)}(--\d+)?")
        earlier = sum(same_name.fullmatch(folder) is not None for folder in names.values())
        names[corpus] = f"{name}--{earlier + 1}" if earlier else name
    return names


def choose_runs(runs: Mapping[Path, RunRecord], conditions: Sequence[str]) -> dict[Path, RunRecord]:
    """The runs that meet all `conditions`, each `NAME=VALUE`; `*` in a value stands for anything.

    A name is `data` (the corpus), `method`, `seed`, `features`, or the name of a setting. Of
    several `tags` one has to match. It is a `UserError` if no run has the name, or if no run meets
    the condition.
    """
    chosen = dict(runs)
    for condition in conditions:
        name, equals, value = condition.partition("=")
        if not equals:
            raise UserError(f"--where {condition}: write NAME=VALUE, for instance data=koen")
        values = {path: _look_up(record, name) for path, record in runs.items()}
        if not any(values.values()):
            raise UserError(
                f"--where {condition}: no run has {name}; give data, method, seed, features or the "
                "name of a setting, such as trainer.precision"
            )
        # Only `*` is special: a name may have brackets.
        pattern = re.compile(".*".join(map(re.escape, value.split("*"))), re.DOTALL)
        chosen = {
            path: record
            for path, record in chosen.items()
            if any(map(pattern.fullmatch, values[path]))
        }
        if not chosen:
            present = ", ".join(sorted({v for texts in values.values() for v in texts}))
            raise UserError(f"--where {condition}: no run meets it; {name} is one of: {present}")
    return chosen


def _look_up(record: RunRecord, name: str) -> list[str]:
    """A run's value of a name as text, or all its tags; empty if it has none."""
    if name == "seed" and record.members:
        return []
    if name == "method" and record.members:  # `method=gate` chooses its ensembles, too
        return [record.method, record.method.partition(", ")[0]]
    if name in ("data", "method", "seed"):
        return [str(getattr(record, name))]
    if name == "features":
        return ["+".join(sorted(record.features)) or "none"]
    if name == "control":
        return [str((record.config | record.settings).get("control", "none"))]
    if name in ("name", "tags"):
        labels = record.config.get(name) or []
        return [labels] if isinstance(labels, str) else list(map(str, labels))
    # A run's identity lacks settings at their default and those that only prepare its data.
    values = _follow_name(record.settings, name) or _follow_name(record.config, name)
    # Tables name a parent by eight digits of its hash.
    is_parent = name == PARENT and record.parent.get("hash")
    return [*values, record.parent["hash"][:8]] if is_parent else values


def _follow_name(settings: Mapping[str, Any], name: str) -> list[str]:
    """The value of a dotted name in nested settings as text; empty if they lack it."""
    node: Any = settings
    for part in name.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return []
        node = node[part]
    return [str(node)]
