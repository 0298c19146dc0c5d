"""Figures of papers, in tables of their own: other settings, so never a row among the runs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from nmt_feat.report.formats import Block
from nmt_feat.report.records import RunRecord


def published(runs: Iterable[RunRecord]) -> list[Block]:
    """A block for each different `published` among the runs' configurations."""
    every = (run.config.get("published") or {} for run in runs)
    known = {json.dumps(one, sort_keys=True): one for one in every if one.get("figures")}
    return [_block(one) for one in known.values()]


def _block(one: dict[str, Any]) -> Block:
    figures: dict[str, dict[str, float]] = one["figures"]
    scores = list(dict.fromkeys(score for row in figures.values() for score in row))
    rows = [[n, *(str(row.get(score, "-")) for score in scores)] for n, row in figures.items()]
    notes = [
        f"Source: {one['source']}.",
        f"Their settings: {one['settings']}. Those of the runs above are in their records; where "
        "they differ, the runs are no reproduction.",
    ]
    return Block("Published", ["system", *scores], rows, notes, frozenset({"system"}))
