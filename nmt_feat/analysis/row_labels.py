"""The labels of a result table's rows: the settings in which their runs differ."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nmt_feat.config.identity import DIALS, flatten_settings, upgrade_settings
from nmt_feat.runs.stored.records import RunRecord, search_of

NO_DIALS = {(dial, "-") for dial in DIALS}
"""Labels of features that no dial reduces, which names of rows leave out."""
HEADINGS = {
    "control": "control",
    "data.name": "data",
    "model.tie": "tie",
    "data.terminology.mode": "terms",
    "data.terminology.marking": "marking",
    "data.terminology.shuffled": "shuffled_terms",
    **{dial: dial for dial in DIALS},
}
"""Settings that always label the rows when they differ, and their headings."""
HASH = "data.hash"
ANNOTATOR = "annotator"
PARENT = "init.run"
FOLLOWING = ("combiner.", "method.", "features.", "annotator.", f"{HASH}.", "ensemble.")
"""Settings that follow from method and features; labels only where they split such a row."""
VARIANT = re.compile(
    r"(combiner|method)\..*|features\.[^.]+\.(dim|dropout|sentence_dropout|args.*)"
)
"""Settings of a method that do not change the information of its features."""


@dataclass(frozen=True)
class RowLabels:
    """What distinguishes a row from others, as `label=value` between spaces."""

    information: str = ""
    """Its features, and how much the dials leave of them."""
    variant: str = ""
    """Settings of its method."""
    conditions: str = ""
    """All others, except for the control: data, model, training."""


def classify_label(key: str) -> str:
    """The field of `RowLabels` that a setting belongs to, or `control`."""
    if key == "control":
        return "control"
    if VARIANT.fullmatch(key):
        return "variant"
    return "information" if f"{key}.".startswith(FOLLOWING) or key in DIALS else "conditions"


def describe_dials(record: RunRecord) -> dict[str, str]:
    """The values of the dials of a run's features, by feature if they differ."""
    features, by_dial = record.settings.get("features", {}), {}
    for dial in DIALS:
        values = {name: feature[dial] for name, feature in features.items() if dial in feature}
        if values:
            if len(values) == len(features) and len(set(values.values())) == 1:
                by_dial[dial] = str(*set(values.values()))
            else:
                by_dial[dial] = " ".join(f"{name}={value}" for name, value in values.items())
    return by_dial


def label_settings(record: RunRecord) -> dict[str, str]:
    """The settings that may label a row: those of the trained model, and the search."""
    hidden = {f"features.{name}.{dial}" for name in record.features for dial in DIALS} | {"seed"}
    settings = upgrade_settings(record.settings) | {"decoding": search_of(record)}
    flat = {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in flatten_settings(settings).items()
        if name not in hidden
    }
    if HASH in flat:
        flat[HASH] = flat[HASH][:8]
    return flat | describe_dials(record)


def name_method_and_features(record: RunRecord) -> tuple[str, str]:
    """The names of a run's method and of its features."""
    return record.method, " ".join(sorted(record.features))


def choose_labels(records: Sequence[RunRecord]) -> list[str]:
    """A few settings that distinguish all runs whose settings differ in more than the seed.

    A setting is chosen if it splits a group of runs that have equal values of the settings that
    were chosen before.
    """
    settings_of_runs = [label_settings(record) for record in records]
    keys = {key for settings in settings_of_runs for key in settings}
    follows = {key: f"{key}.".startswith(FOLLOWING) for key in keys}
    chosen: list[str] = []
    # Settings with a heading come first; the hash of the data, which nobody can read, comes last.
    for key in sorted(keys, key=lambda k: (follows[k], k not in HEADINGS, k == HASH, k)):
        groups, split_groups = set(), set()
        for record, settings in zip(records, settings_of_runs, strict=True):
            labels = tuple(settings.get(k, "-") for k in chosen)
            group = (*labels, *name_method_and_features(record)) if follows[key] else labels
            groups.add(group)
            split_groups.add((*group, settings.get(key, "-")))
        if len(split_groups) > len(groups):
            chosen.append(key)
    return chosen


def list_hidden_settings(records: Sequence[RunRecord], labels: Sequence[str]) -> list[str]:
    """The conditions in which runs differ and that are no label, since fewer tell rows apart.

    `control=matched` chooses sizes of its own, so its runs do not count.
    """
    flat = [label_settings(r) for r in records if r.settings.get("control") != "matched"]
    keys = {key for settings in flat for key in settings} - {*labels, HASH}
    return sorted(
        key
        for key in keys
        if classify_label(key) == "conditions" and len({f.get(key) for f in flat}) > 1
    )


def name_annotators(records: Iterable[RunRecord]) -> dict[str, str]:
    """The names of options for the labels of runs' annotators, if these names all differ."""
    names: dict[str, str] = {}
    for record in records:
        target = record.settings.get(ANNOTATOR)
        parts = (record.config.get(ANNOTATOR) or {}).get("parts")
        if isinstance(target, str):
            name = target.rpartition(".")[2]
            names[target] = name.lower() if target.startswith("nmt_feat.") else name
        elif target is None or parts:
            names[json.dumps(target)] = "+".join(parts or ["none"])
    return names if len(set(names.values())) == len(names) else {}


def name_parents(records: Iterable[RunRecord]) -> dict[str, str]:
    """Short names for the labels of runs' parents, whose settings have the hash of the weights.

    Eight digits of the parent's own hash, with which its folder's name ends, if these all differ.
    """
    names: dict[str, str] = {}
    for record in records:
        parent = record.parent
        if "init" in record.settings and parent.get("hash"):
            names.setdefault(str(parent.get("weights")), str(parent["hash"])[:8])
    return names if len(set(names.values())) == len(names) else {}
