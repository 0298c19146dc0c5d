"""What the runs of a table support: differences to the baseline, orders, in numbers and words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any, TypeVar

from nmt_feat.analysis.claims import (
    ALPHA,
    explain_intervals,
    explain_pairs,
    p_value,
    split_comparisons,
    supported_orders,
)
from nmt_feat.analysis.render import Block
from nmt_feat.analysis.result_tables import Table, bits, dials, scored_by
from nmt_feat.analysis.statistics import (
    METRICS,
    RESAMPLES,
    Difference,
    Sample,
    compare_samples,
    correct_by_holm,
    paired_tests,
    sentence_weights,
)
from nmt_feat.errors import UserError, suggest
from nmt_feat.evaluation.counts import COLUMNS, Counts, read_counts
from nmt_feat.runs.records import file_of_run

Key = TypeVar("Key")
ENOUGH = 5
"""Seeds that a published claim needs."""


@dataclass(frozen=True)
class Compared:
    """A difference and its p-value, corrected for the number of comparisons beside it."""

    difference: Difference
    p: float

    @property
    def supported(self) -> bool:
        """Whether chance alone seldom makes such a difference."""
        return self.p < ALPHA


@dataclass(frozen=True)
class Method:
    """A row of the table: its runs by seed and their counts on one test set, by metric."""

    name: str
    seeds: list[int]
    counts: list[dict[str, Counts]]
    dial: str = ""
    """`said`, where a table dials what features say: orders are of methods at the same dial."""
    said: str = ""
    """What its features are, and how much of it they say where that differs in the table."""
    kind: str = ""
    """The method without its features, `concat` say, with what tells it apart from others."""
    features: str = ""
    bits: list[float] | None = None
    """Of its features, added up, for each seed; None for controls and for what has none."""
    conditions: str = ""
    """What else than the method tells the row apart from others."""
    words_only: bool = False
    control: str = ""
    """What its features are replaced by, or `matched`."""
    row: str = ""
    """Its name in the table; `name` leaves out what all that it is compared with share."""

    def among(self, shared: str) -> Method:
        """With a name for a comparison of methods under these conditions."""
        left = [part for part in self.name.split() if part not in shared.split()]
        return replace(self, name=" ".join(left))


@dataclass
class Evidence:
    """The comparison of methods on one test set. By metric, then by method or pair of methods."""

    test: str
    methods: list[Method]
    baseline: str | None
    conditions: str = ""
    """What all its methods share, where a table has several comparisons on one test set."""
    samples: dict[str, dict[str, Sample]] = field(default_factory=dict)
    against: dict[str, dict[str, Compared]] = field(default_factory=dict)
    """Each other method less the baseline."""
    orders: dict[str, dict[tuple[str, str], Compared]] = field(default_factory=dict)
    """Each pair of other methods at the same dial, the one with the higher mean first."""
    shares: dict[str, dict[tuple[str, str], float]] = field(default_factory=dict)
    """Of resamples in which the first is above the second."""

    def __post_init__(self) -> None:
        sentences = len(self.methods[0].counts[0]["BLEU"])
        weights = sentence_weights(sentences)
        for metric, score in METRICS.items():
            samples = {
                m.name: Sample.from_counts([counts[metric] for counts in m.counts], score, weights)
                for m in self.methods
            }
            self.samples[metric] = samples
            several = [m.name for m in self.methods if len(m.seeds) > 1]
            ranked = sorted(several, key=lambda name: -samples[name].mean)
            found = {
                pair: compare_samples(samples[pair[0]], samples[pair[1]], sentences)
                for pair in combinations(ranked, 2)
            }
            self.shares[metric] = {pair: d.share for pair, d in found.items()}
            base = self.baseline if self.baseline in several else None
            others = [name for name in several if name != base]
            against = {
                n: compare_samples(samples[n], samples[base], sentences) for n in others if base
            }
            dial = {m.name: m.dial for m in self.methods}
            orders = {
                (one, other): d
                for (one, other), d in found.items()
                if base not in (one, other) and dial[one] == dial[other]
            }
            self.against[metric] = corrected(against)
            self.orders[metric] = corrected(orders)

    @property
    def baseline_row(self) -> str | None:
        """The baseline's name in the table."""
        return next((m.row for m in self.methods if m.name == self.baseline), None)

    @property
    def where(self) -> str:
        """The test set and what the methods share, in words."""
        return self.test + f" ({self.conditions})" * bool(self.conditions)

    @property
    def alone(self) -> list[str]:
        """Methods of one seed."""
        return [m.name for m in self.methods if len(m.seeds) == 1]

    def sentences(self, metric: str = "BLEU") -> list[str]:
        """What is and what is not supported, in plain words."""
        lines, base = [], self.baseline
        if self.alone:
            lines.append(
                f"One seed supports no ranking: {', '.join(self.alone)}. "
                "Run more seeds, for instance seed=1,2,3,4,5."
            )
        conditions = {m.name: m.conditions for m in self.methods}
        if base and (others := [n for n, c in conditions.items() if c != conditions[base]]):
            lines.append(f"Trained with other settings than {base}: {', '.join(others)}.")
        lines += self._verdicts(metric)
        for (one, other), compared in self.orders[metric].items():
            verdict = "supported" if compared.supported else "not supported by these data"
            lines.append(
                f"{one} above {other} in {_percent(compared.difference.share)} of resamples; "
                f"the order {one}, {other} is {verdict} (p {p_value(compared.p, '= ')})."
            )
        several = {m.name: len(m.seeds) for m in self.methods if len(m.seeds) > 1}
        if few := {name: n for name, n in several.items() if n < ENOUGH}:
            which = f" ({', '.join(few)})" * (len(few) < len(several))
            fewest = min(few.values())
            lines.append(f"{fewest} seeds{which}: a claim that is published needs {ENOUGH}.")
        return lines

    def _verdicts(self, metric: str) -> list[str]:
        """Which methods are above the baseline, which below, which not shown to differ."""
        base = self.baseline
        words = {1: f"above {base}", -1: f"below {base}", 0: f"not shown to differ from {base}"}
        lines = []
        for sign, text in words.items():
            names = [n for n, c in self.against[metric].items() if _sign(c) == sign]
            if names:
                lines.append(f"{', '.join(names)}: {text} in {metric}.")
        return lines

    def _summary(self, metric: str) -> list[str]:
        """The supported orders in one sentence; where intervals and p seem to contradict."""
        against, orders = split_comparisons(self.rows(), metric, self.baseline)
        lines = [supported_orders(orders, metric)] if orders else []
        return lines + explain_intervals(against, [row["method"] for row in against])

    def blocks(self, pairs: bool) -> list[Block]:
        """Differences with the sentences, shares, and with `pairs` the tests of single pairs."""
        differences = [self._differences(metric) for metric in self.samples]
        found = [*differences, *self._shares(), self._pairs() if pairs else None]
        return [block for block in found if block]

    def _differences(self, metric: str) -> Block:
        samples, against = self.samples[metric], self.against[metric]
        heading, rows = ["method", "n", metric], []
        heading += ["difference", "95 % interval", "p"] * bool(self.baseline)
        for method in self.methods:
            sample = samples[method.name]
            spread = "" if sample.deviation is None else f" ± {sample.deviation:.2f}"
            row = [method.name, str(len(method.seeds)), f"{sample.mean:.2f}{spread}"]
            compared = against.get(method.name)
            if self.baseline:
                row += ["-"] * 3 if compared is None else cells(compared)
            rows.append(row)
        title = f"{metric} on {self.where}" + (
            f", against {self.baseline}" if self.baseline else ""
        )
        text = f"Welch's t over seeds with the variance of {RESAMPLES:,} resamples of sentences"
        notes = [f"{text}; p by Holm for the table's methods (docs/explanation/statistics.md)."]
        # Each order of many methods, with its share of resamples, is listed in BLEU alone.
        notes = notes * bool(against) + (
            self.sentences() if metric == "BLEU" else self._verdicts(metric)
        )
        notes += self._summary(metric)
        names = [m.name for m in self.methods]
        means = [samples[name].mean for name in names]
        best = frozenset((i, 2) for i, mean in enumerate(means) if mean == max(means))
        sure = frozenset((names.index(name), 2) for name, c in against.items() if c.supported)
        return Block(title, heading, rows, notes, frozenset({"method"}), best, sure)

    def rows(self) -> list[dict[str, Any]]:
        """All comparisons in full precision: with the baseline, and of the other methods."""
        found: list[dict[str, Any]] = []
        for metric, against in self.against.items():
            pairs = {(name, str(self.baseline)): c for name, c in against.items()}
            for (one, other), c in (pairs | self.orders[metric]).items():
                names = {"test": self.test, "conditions": self.conditions, "metric": metric}
                names |= {"method": one, "other": other}
                found.append(names | vars(c.difference) | {"corrected p": c.p})
        return found

    def _shares(self) -> list[Block]:
        """For each dial the methods there, and the baseline."""
        shares, blocks = self.shares["BLEU"], []
        dials = dict.fromkeys(m.dial for m in self.methods if m.name != self.baseline)
        for dial in dials:
            there = {m.name for m in self.methods if m.dial == dial or m.name == self.baseline}
            names = [n for n in dict.fromkeys(n for pair in shares for n in pair) if n in there]
            rows = []
            for one in names:
                row = [one]
                for other in names:
                    share = shares.get((one, other), 1 - shares.get((other, one), 1))
                    row.append("-" if one == other else _percent(share))
                rows.append(row)
            title = "Share of resamples, over seeds and sentences, in which the row has more BLEU"
            title += f": {dial}" * bool(dial)
            blocks.append(Block(title, ["method", *names], rows, left=frozenset({"method"})))
        return [block for block in blocks if len(block.rows) > 1]

    def _pairs(self) -> Block | None:
        rows, base = [], next((m for m in self.methods if m.name == self.baseline), None)
        smoothed, apart = list[str](), list[str]()
        for seed, counts in zip(base.seeds, base.counts, strict=True) if base else ():
            found = [
                (m.name, m.counts[m.seeds.index(seed)]["BLEU"])
                for m in self.methods
                if m is not base and seed in m.seeds
            ]
            tests = paired_tests(counts["BLEU"], [c for _, c in found], "BLEU") if found else []
            before = float(METRICS["BLEU"](counts["BLEU"].sum(axis=0)))
            for (name, c), p in zip(found, tests, strict=True):
                change = float(METRICS["BLEU"](c.sum(axis=0))) - before
                values = [f"{change:+.2f}", *(p_value(v) for v in p.values())]
                if not (_matches(c) and _matches(counts["BLEU"])):
                    values[1:] = ["-"] * len(p)
                    smoothed.append(f"{name} {seed}")
                elif len({v < ALPHA for v in p.values()}) > 1:
                    apart.append(f"{name} {seed}")
                rows.append((name, seed, [name, str(seed), *values]))
        if not rows:
            return None
        order = [m.name for m in self.methods]
        rows.sort(key=lambda row: (order.index(row[0]), row[1]))
        return Block(
            f"Single pairs of models: a run and the run of {self.baseline} with the same seed",
            ["method", "seed", "BLEU difference", "p, paired bootstrap", "p, randomization"],
            [row for _, _, row in rows],
            [
                "sacreBLEU's tests, each about these two models, not about the methods.",
                *explain_pairs(smoothed, apart),
            ],
            frozenset({"method"}),
        )


def _matches(counts: Counts) -> int:
    """The 4-grams of the whole test set that match."""
    return int(counts[:, COLUMNS["BLEU"].index("right4")].sum())


def corrected(found: Mapping[Key, Difference]) -> dict[Key, Compared]:
    """With p-values by Holm for the number of them."""
    values = correct_by_holm([d.p for d in found.values()])
    return {key: Compared(d, p) for (key, d), p in zip(found.items(), values, strict=True)}


def _sign(compared: Compared) -> int:
    if not compared.supported:
        return 0
    return 1 if compared.difference.value > 0 else -1


def cells(compared: Compared) -> list[str]:
    """Value, interval and p for a table."""
    d = compared.difference
    return [f"{d.value:+.2f}", f"{d.low:+.2f} to {d.high:+.2f}", p_value(compared.p)]


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def gather(
    table: Table, folders: Mapping[str, Path], baseline: str | None = None
) -> tuple[list[Evidence], list[str]]:
    """The evidence on the first test set, for each different one, and what is left out.

    Args:
        table: the runs.
        folders: the run's folder by its hash; what has no file of counts there cannot be compared.
        baseline: name of a row, with which all others are compared; by default words only, see
            `_comparisons`.
    """
    rows, apart = table.named(), table.apart()
    if baseline is not None and baseline not in rows:
        raise UserError(f"baseline={baseline}: no such row; {suggest(baseline, rows)}")
    dialled = any(dials(run) for runs in rows.values() for run in runs)
    tests: dict[tuple[str, str, str], list[Method]] = {}
    missing: list[str] = []
    for name, runs in rows.items():
        finished = [run for run in runs if run.finished and run.tests]
        if not finished:
            continue
        test = next(iter(finished[0].tests))
        paths = [
            file_of_run(folders[run.hash], run.counts[test])
            for run in finished
            if run.hash in folders and test in run.counts
        ]
        if len(paths) < len(finished):
            missing.append(name)
            continue
        read = [read_counts(path) for path in paths]
        scorings = {scored_by(run.tests[test]) for run in finished}
        if len({references for _, references in read}) > 1 or len(scorings) > 1:
            raise UserError(f"{paths[0].parent}: its {test} is not that of {name}'s other runs")
        run = finished[0]
        known = [sum(b for b, _ in each) for other in finished if (each := bits(other))]
        method = Method(
            *(name, [run.seed for run in finished], [counts for counts, _ in read]),
            said=apart[name].said,
            dial=apart[name].said if dialled else "",
            kind=" ".join(filter(None, (run.method, apart[name].variant))),
            features="+".join(sorted(run.features)),
            bits=known if len(known) == len(finished) else None,
            conditions=apart[name].conditions,
            words_only=run.method == "none" and "control" not in run.settings,
            control=str(run.settings.get("control", "")),
            row=name,
        )
        # Counts of different tokenisers are of different n-grams.
        (scoring,) = scorings
        tests.setdefault((test, read[0][1], scoring), []).append(method)
    notes = [f"Without counts per sentence, so not compared: {', '.join(missing)}"] * bool(missing)
    notes += _describe_scorings(tests)
    found = []
    for (test, *_), methods in tests.items():
        for shared, some, base in _comparisons(methods, baseline):
            name = some[0].name
            if len(some) > 1:
                found.append(Evidence(test, some, base, shared))
            elif len(some) < len(methods):
                notes.append(f"Not compared, for no other row has its settings: {name}.")
            elif len(some[0].seeds) == 1:
                notes.append(f"One seed supports no ranking: {name}.")
    return found, notes


def _describe_scorings(tests: Mapping[tuple[str, str, str], Sequence[Method]]) -> list[str]:
    """A sentence for each test set on which methods are scored in different ways."""
    groups: dict[tuple[str, str], dict[str, list[str]]] = {}
    for (test, references, scoring), methods in tests.items():
        names = groups.setdefault((test, references), {}).setdefault(scoring, [])
        names += [method.name for method in methods]
    return [
        f"Not compared with one another, for their scores on {test} are of different kinds: "
        + "; ".join(f"{', '.join(names)} ({scoring})" for scoring, names in scorings.items())
        + "."
        for (test, _), scorings in groups.items()
        if len(scorings) > 1
    ]


def _comparisons(
    methods: Sequence[Method], baseline: str | None
) -> list[tuple[str, list[Method], str | None]]:
    """What to compare: the conditions that are shared, the methods, and their baseline.

    All methods, with the named row or else the first one of words only that shares its conditions
    with another method. Where words only and other methods meet under several conditions, as with
    the sizes of a corpus, each of these is a comparison of its own.
    """
    if any(m.name == baseline for m in methods):
        return [("", list(methods), baseline)]
    groups: dict[str, list[Method]] = {}
    for method in methods:
        groups.setdefault(method.conditions, []).append(method)
    whole = {c: group for c, group in groups.items() if len({m.words_only for m in group}) == 2}
    if len(whole) < 2:
        likely = [m.name for group in (*whole.values(), methods) for m in group if m.words_only]
        return [("", list(methods), next(iter(likely), None))]
    found: list[tuple[str, list[Method], str | None]] = []
    for conditions, group in whole.items():
        there = [method.among(conditions) for method in group]
        found.append((conditions, there, next(m.name for m in there if m.words_only)))
    rest = [m for m in methods if m.conditions not in whole]
    return [*found, *([("other settings", rest, None)] if rest else [])]
