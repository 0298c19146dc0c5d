"""The comparisons of methods as tables of a report, with what they support in words."""

from __future__ import annotations

from nmt_feat.analysis.claims import (
    ALPHA,
    describe_orders,
    explain_intervals,
    explain_pairs,
    format_p,
    split_comparisons,
)
from nmt_feat.analysis.comparisons import CorrectedDifference, Evidence
from nmt_feat.analysis.method_runs import MethodRuns
from nmt_feat.analysis.render import ReportTable
from nmt_feat.analysis.statistics import RESAMPLES, paired_tests
from nmt_feat.evaluation.counts import COLUMNS, Counts

ENOUGH_SEEDS = 5
"""How many seeds a published claim needs."""


def make_comparison_tables(evidence: Evidence, pairs: bool) -> list[ReportTable]:
    """Tables of differences, of shares and, with `pairs`, of the tests of single models."""
    tables = [_make_difference_table(evidence, metric) for metric in evidence.samples]
    tables += _make_share_tables(evidence)
    if pairs:
        tables.append(_make_pair_table(evidence))
    return [table for table in tables if table.rows]


def difference_cells(compared: CorrectedDifference) -> list[str]:
    """The cells of a difference: value, interval and p."""
    difference = compared.difference
    interval = f"{difference.low:+.2f} to {difference.high:+.2f}"
    return [f"{difference.value:+.2f}", interval, format_p(compared.p)]


def describe_evidence(evidence: Evidence, metric: str = "BLEU") -> list[str]:
    """Sentences that say what is supported and what is not."""
    lines, base = [], evidence.baseline
    single = [m for m in evidence.methods if len(m.seeds) == 1]
    if ensembles := [m.name for m in single if m.is_ensemble]:
        lines.append(f"One measurement, without interval or test: {', '.join(ensembles)}.")
    if single_seeds := [m.name for m in single if not m.is_ensemble]:
        lines.append(
            f"One seed supports no ranking: {', '.join(single_seeds)}. Run more seeds, for "
            "instance seed=1,2,3,4,5."
        )
    conditions = {m.name: m.conditions for m in evidence.methods}
    if base and (unlike := [name for name, c in conditions.items() if c != conditions[base]]):
        lines.append(f"Trained with other settings than {base}: {', '.join(unlike)}.")
    lines += _describe_signs(evidence, metric)
    against, orders = split_comparisons(evidence.to_rows(), metric, base)
    if orders:
        lines.append(describe_orders(orders, metric))
    return lines + explain_intervals(against, [row["method"] for row in against])


def _describe_signs(evidence: Evidence, metric: str) -> list[str]:
    """Sentences: which methods are above the baseline, below it, or not shown to differ."""
    base, lines = evidence.baseline, []
    verdicts = {1: f"Above {base}", -1: f"Below {base}", 0: f"Not shown to differ from {base}"}
    for sign, verdict in verdicts.items():
        names = [name for name, c in evidence.against[metric].items() if c.sign == sign]
        if names:
            lines.append(f"{verdict} in {metric}: {', '.join(names)}.")
    return lines


def _make_difference_table(evidence: Evidence, metric: str) -> ReportTable:
    samples, against = evidence.samples[metric], evidence.against[metric]
    title, heading, rows = f"{metric} on {evidence.test_name}", ["method", "n", metric], []
    if evidence.baseline:
        title += f", against {evidence.baseline}"
        heading += ["difference", "95 % interval", "p"]
    for method in evidence.methods:
        sample = samples[method.name]
        spread = "" if sample.deviation is None else f" ± {sample.deviation:.2f}"
        row = [method.name, str(len(method.seeds)), f"{sample.mean:.2f}{spread}"]
        if evidence.baseline:
            compared = against.get(method.name)
            row += ["-"] * 3 if compared is None else difference_cells(compared)
        rows.append(row)
    notes = describe_evidence(evidence, metric)
    if against:
        notes.append(
            "Interval and p allow for the choice of seeds and of test sentences (Welch's t test, "
            f"{RESAMPLES:,} resamples of the sentences). p is corrected for the number of methods "
            f"(Holm). A difference is supported if p < {ALPHA}. See docs/explanation/statistics.md."
        )
    names = [m.name for m in evidence.methods]
    means = [samples[name].mean for name in names]
    methods = [m for m in evidence.methods if not m.is_ensemble] or evidence.methods
    best = max(samples[m.name].mean for m in methods)
    if evidence.lower_is_better(metric):
        best = min(samples[m.name].mean for m in methods)
        notes.insert(0, f"{metric}: the lower the better.")
    return ReportTable(
        *(title, heading, rows, notes, frozenset({"method"})),
        best=frozenset((i, 2) for i, mean in enumerate(means) if mean == best),
        significant=frozenset((names.index(n), 2) for n, c in against.items() if c.is_supported),
    )


def _make_share_tables(evidence: Evidence) -> list[ReportTable]:
    """For each level a table of its methods and the baseline."""
    shares, tables = evidence.shares[evidence.metric], []
    levels = dict.fromkeys(m.level for m in evidence.methods if m.name != evidence.baseline)
    names_in_pairs = dict.fromkeys(name for pair in shares for name in pair)
    for level in levels:
        of_level = {m.name for m in evidence.methods if m.level == level} | {evidence.baseline}
        names = [name for name in names_in_pairs if name in of_level]
        rows = []
        for one in names:
            row = [one]
            for two in names:
                share = shares.get((one, two), 1 - shares.get((two, one), 1))
                row.append("-" if one == two else f"{100 * share:.0f} %")
            rows.append(row)
        title = f"How often the row has more {evidence.metric} than the column"
        title += f": {level}" if level else ""
        note = (
            f"Share of {RESAMPLES:,} resamples of seeds and sentences. p decides what is supported."
        )
        heading = ["method", *names]
        tables.append(ReportTable(title, heading, rows, [note], frozenset({"method"})))
    return [table for table in tables if len(table.rows) > 1]


def _make_pair_table(evidence: Evidence) -> ReportTable:
    """A table of sacreBLEU's tests: each run against the baseline's run with the same seed."""
    rows: list[tuple[int, int, list[str]]] = []
    smoothed, disputed = list[str](), list[str]()
    base = next((m for m in evidence.methods if m.name == evidence.baseline), None)
    if base is None:
        return ReportTable("")
    metric, form = evidence.metric, evidence.form_of(evidence.metric)
    score = evidence.scorings[metric]
    for seed in base.seeds:
        base_counts = _counts_of_seed(base, seed, metric)
        paired = [
            (position, method)
            for position, method in enumerate(evidence.methods)
            if method is not base and seed in method.seeds and not method.is_ensemble
        ]
        all_counts = [_counts_of_seed(method, seed, metric) for _, method in paired]
        tests = paired_tests(base_counts, all_counts, form) if paired else []
        for (position, method), counts, p_values in zip(paired, all_counts, tests, strict=True):
            change = float(score(counts.sum(axis=0)) - score(base_counts.sum(axis=0)))
            cells = [f"{change:+.2f}", *map(format_p, p_values.values())]
            if form == "bleu" and not all(map(_matching_4grams, (counts, base_counts))):
                cells[1:] = ["-"] * len(p_values)
                smoothed.append(f"{method.name} {seed}")
            elif len({p < ALPHA for p in p_values.values()}) > 1:
                disputed.append(f"{method.name} {seed}")
            rows.append((position, seed, [method.name, str(seed), *cells]))
    return ReportTable(
        f"Single models in pairs: each run and the run of {evidence.baseline} with the same seed",
        ["method", "seed", f"{metric} difference", "p, paired bootstrap", "p, randomization"],
        [cells for *_, cells in sorted(rows)],
        [
            "sacreBLEU's tests: each compares two models. It does not compare two methods.",
            *explain_pairs(smoothed, disputed),
        ],
        frozenset({"method"}),
    )


def _counts_of_seed(method: MethodRuns, seed: int, metric: str) -> Counts:
    return method.counts[method.seeds.index(seed)][metric]


def _matching_4grams(counts: Counts) -> int:
    """How many 4-grams of the whole test set match."""
    return int(counts[:, COLUMNS["BLEU"].index("right4")].sum())
