"""Figures of papers, in tables of their own: other settings, so never a row among the runs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from nmt_feat.analysis.render import Block
from nmt_feat.runs.records import RunRecord


def published(runs: Iterable[RunRecord]) -> list[Block]:
    """A block for each different `published` among the runs' configurations."""
    known: dict[str, tuple[dict[str, Any], dict[str, None]]] = {}
    for run in runs:
        one = run.config.get("published") or {}
        if one.get("figures"):
            _, own = known.setdefault(json.dumps(one, sort_keys=True), (one, {}))
            if run.hash:  # else a job that failed early, perhaps for settings that are none
                own[_own(run.config)] = None
    return [_block(one, list(own)) for one, own in known.values()]


def _own(config: dict[str, Any]) -> str:
    """What a run was made with, in a line."""
    data, model, trainer = (config[name] for name in ("data", "model", "trainer"))
    pairs = f"the first {data['limit']:,} pairs of " if data["limit"] else ""
    scale = f"{config['scale']}: " if config.get("scale") else ""
    return (
        f"{scale}{pairs}{data['name']}, {data['source_lang']} to {data['target_lang']}, width "
        f"{model['dim']}, {model['encoder_layers']} + {model['decoder_layers']} layers, at most "
        f"{trainer['max_steps']:,} updates of {trainer['accumulate']} x "
        f"{trainer['batch_tokens']:,} tokens"
    )


def _block(one: dict[str, Any], own: list[str]) -> Block:
    figures: dict[str, dict[str, float]] = one["figures"]
    scores = list(dict.fromkeys(score for row in figures.values() for score in row))
    rows = [[n, *(str(row.get(score, "-")) for score in scores)] for n, row in figures.items()]
    notes = [
        f"Source: {one['source']}.",
        f"Their settings: {one['settings']}.",
        *(f"Settings of runs above: {settings}." for settings in own),
        "Where they differ, the runs are no reproduction.",
    ]
    return Block("Published", ["system", *scores], rows, notes, frozenset({"system"}))
