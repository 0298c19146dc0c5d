"""One run in a few lines, printed at its end."""

from __future__ import annotations

from collections.abc import Iterable

from nmt_feat.base.terminal import TextTable
from nmt_feat.runs.records import RunRecord


def summarize_run(record: RunRecord) -> TextTable:
    """One run, a line per fact: what it was, what it reached, what it took."""
    parts = ", ".join(f"{n:,} {name}" for name, n in record.parameters.items() if name != "total")
    labels = {name: record.config.get(name) for name in ("name", "tags")}
    facts = {
        **{
            name: label if name == "name" else ", ".join(label)
            for name, label in labels.items()
            if label
        },
        "method": record.method,
        "features": ", ".join(record.features) or "none: words only",
        "control": record.settings.get("control", "none"),
        "parameters": f"{record.parameters['total']:,} (of these {parts})",
    }
    for name, scores in record.scores.items():
        facts[name] = f"BLEU {scores.bleu:.2f}, chrF {scores.chrf:.2f}"
        if scores.ter is not None:
            facts[name] += f", TER {scores.ter:.2f}"
        facts[name] += "".join(f", {m} {one.score:.2f}" for m, one in scores.metrics.items())
        if scores.perplexity is not None:
            facts[name] += f", perplexity per {scores.perplexity_unit} {scores.perplexity:.2f}"
        if (reading := scores.reading) and reading.accuracy is not None:
            facts[name] += f", right readings {reading.accuracy:.1%} of {reading.readings}"
            if reading.settled_accuracy is not None:
                facts[name] += (
                    f", {reading.settled_accuracy:.1%} of the {reading.settled} that the features "
                    "tell apart"
                )
    speed = f"{record.tokens_per_second:,.0f} target pieces/s"
    facts |= {
        "scored by": "\n".join(list_signatures([record])),
        "training": f"{record.updates} updates, {record.train_seconds:.0f} s, {speed}",
        "tested": record.selected,
    }
    table = TextTable(show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for fact in facts.items():
        table.add_row(*fact)
    return table


def list_signatures(records: Iterable[RunRecord]) -> list[str]:
    """Each different set of sacreBLEU signatures; those of other metrics once, a line each."""
    scores = [scores for record in records for scores in record.scores.values()]
    pairs = dict.fromkeys((s.bleu_signature, s.chrf_signature) for s in scores)
    ter = dict.fromkeys(s.ter_signature for s in scores if s.ter_signature)
    further = dict.fromkeys((n, one.signature) for s in scores for n, one in s.metrics.items())
    others = [*(("TER", signature) for signature in ter), *further]
    return [f"BLEU `{bleu}`, chrF `{chrf}`" for bleu, chrf in pairs] + [
        f"{name} `{signature}`" for name, signature in others
    ]
