"""Figures of papers in separate tables, never among runs, because their settings differ."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from nmt_feat.analysis.render import ReportTable
from nmt_feat.runs.stored.records import RunRecord


def make_published_tables(runs: Iterable[RunRecord]) -> list[ReportTable]:
    """A table for each different `published` among the runs' configurations."""
    papers: dict[str, tuple[dict[str, Any], dict[str, None]]] = {}
    for run in runs:
        paper = run.config.get("published") or {}
        if paper.get("figures"):
            _, settings = papers.setdefault(json.dumps(paper, sort_keys=True), (paper, {}))
            if run.hash:  # a job that failed early may have wrong settings
                settings[_describe_settings(run.config)] = None
    return [_make_table(paper, list(settings)) for paper, settings in papers.values()]


def _describe_settings(config: dict[str, Any]) -> str:
    """A line with those settings of a run that papers state, too."""
    data, model, trainer = (config[name] for name in ("data", "model", "trainer"))
    pairs = f"the first {data['limit']:,} pairs of " if data["limit"] else ""
    scale = f"{config['scale']}: " if config.get("scale") else ""
    return (
        f"{scale}{pairs}{data['name']}, {data['source_lang']} to {data['target_lang']}, width "
        f"{model['dim']}, {model['encoder_layers']} + {model['decoder_layers']} layers, at most "
        f"{trainer['max_steps']:,} updates of {trainer['accumulate']} x "
        f"{trainer['batch_tokens']:,} tokens"
    )


def _make_table(paper: dict[str, Any], run_settings: list[str]) -> ReportTable:
    figures: dict[str, dict[str, float]] = paper["figures"]
    scores = list(dict.fromkeys(score for row in figures.values() for score in row))
    rows = [
        [system, *(str(row.get(score, "-")) for score in scores)] for system, row in figures.items()
    ]
    notes = [
        f"Source: {paper['source']}.",
        f"Its settings: {paper['settings']}.",
        *(f"Settings of the runs above: {settings}." for settings in run_settings),
        "Where the settings differ, the runs above are no reproduction.",
    ]
    return ReportTable("Published", ["system", *scores], rows, notes, frozenset({"system"}))
