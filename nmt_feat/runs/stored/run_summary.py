"""One run in a few lines, printed at its end."""

from __future__ import annotations

from collections.abc import Iterable

from nmt_feat.base.terminal import TextTable
from nmt_feat.evaluation.scores import Scores
from nmt_feat.runs.stored.records import RunRecord


def summarize_run(record: RunRecord) -> TextTable:
    """One run as a table with a fact in each row: what it is, its scores, its cost."""
    parts = ", ".join(f"{n:,} {name}" for name, n in record.parameters.items() if name != "total")
    facts: dict[str, str] = {}
    if name := record.config.get("name"):
        facts["name"] = name
    if tags := record.config.get("tags"):
        facts["tags"] = ", ".join(tags)
    facts |= {
        "method": record.method,
        "features": ", ".join(record.features) or "none: words only",
        "control": record.settings.get("control", "none"),
        "parameters": f"{record.parameters['total']:,} (of these {parts})",
    }
    facts |= {name: _describe_scores(scores) for name, scores in record.scores.items()}
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


def _describe_scores(scores: Scores) -> str:
    """The scores of a set of text in one line."""
    phrases = [f"BLEU {scores.bleu:.2f}", f"chrF {scores.chrf:.2f}"]
    if scores.ter is not None:
        phrases.append(f"TER {scores.ter:.2f}")
    phrases += [f"{name} {metric.score:.2f}" for name, metric in scores.metrics.items()]
    if scores.perplexity is not None:
        phrases.append(f"perplexity per {scores.perplexity_unit} {scores.perplexity:.2f}")
    if (reading := scores.reading) and reading.accuracy is not None:
        phrases.append(f"right readings {reading.accuracy:.1%} of {reading.readings}")
        if reading.settled_accuracy is not None:
            phrases.append(
                f"{reading.settled_accuracy:.1%} of the {reading.settled} that the features tell "
                "apart"
            )
    return ", ".join(phrases)


def list_signatures(records: Iterable[RunRecord]) -> list[str]:
    """A line for each different pair of BLEU's and chrF's signatures, and for each other metric."""
    scores = [scores for record in records for scores in record.scores.values()]
    pairs = dict.fromkeys((s.bleu_signature, s.chrf_signature) for s in scores)
    ter = dict.fromkeys(("TER", s.ter_signature) for s in scores if s.ter_signature)
    metrics = [item for s in scores for item in s.metrics.items()]
    further = dict.fromkeys((name, metric.signature) for name, metric in metrics)
    lines = [f"BLEU `{bleu}`, chrF `{chrf}`" for bleu, chrf in pairs]
    lines += [f"{name} `{signature}`" for name, signature in (*ter, *further)]
    return lines
