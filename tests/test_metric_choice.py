"""Metrics that are chosen: scores, what they leave unchanged, tables, and what is refused."""

from __future__ import annotations

import json
import sys
from copy import deepcopy
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import sentencepiece
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.tokenizers import tokenizer_spm

from nmt_feat.analysis.figures import draw_figures
from nmt_feat.analysis.report import Report
from nmt_feat.analysis.statistics import sentence_weights
from nmt_feat.config.schema import MetricConfig
from nmt_feat.errors import UserError
from nmt_feat.evaluation.counts import count_sentences, read_counts, write_counts
from nmt_feat.evaluation.forms import score_by_form
from nmt_feat.evaluation.languages import Scoring
from nmt_feat.evaluation.metric import Metric, add_scores, build_metrics, score_texts
from nmt_feat.evaluation.sacrebleu_metrics import SpBLEU
from nmt_feat.runs.stored.records import RunRecord
from nmt_feat.text.files import read_lines
from tests.support import scores as user_metrics
from tests.support.entry import call
from tests.support.small import Small, record
from tests.support.toy_runs import REFERENCES, run

FURTHER = "metrics=[bleu,chrf,ter,chrf++]"
COPIED = "metrics.copied._target_=examples.copied.Copied"
CLASSES = {"ter": "TER", "chrf++": "ChrFPlusPlus"}


def target(name: str) -> str:
    return f"tests.support.scores.{name}"


def configs(*names: str) -> dict[str, MetricConfig]:
    where = "nmt_feat.evaluation.sacrebleu_metrics"
    targets = {name: f"{where}.{CLASSES[name]}" for name in names if name in CLASSES}
    if "copied" in names:
        targets["copied"] = "examples.copied.Copied"
    return {name: MetricConfig(target) for name, target in targets.items()}


@pytest.mark.thorough
def test_metrics_that_are_added_equal_those_of_the_start(small: Small) -> None:
    more = ("combiner=none", "trainer.max_steps=2", FURTHER, COPIED)
    with small.elsewhere("whole") as twin:
        whole = twin.train(*more)
    folder = small.train(*more[:2])
    before = record(folder)
    assert "metrics" not in before["tests"]["test"]
    assert small.train(*more) == folder
    added, expected = record(folder), record(whole)
    assert (added["dev"], added["tests"]) == (expected["dev"], expected["tests"])
    assert added["hash"] == expected["hash"] == before["hash"]
    counts = [(run / "test.counts.parquet").read_bytes() for run in (folder, whole)]
    assert counts[0] == counts[1]
    sources = read_lines(small.corpus / "test.conllu")
    sources = [line.removeprefix("# text = ") for line in sources if line.startswith("# text = ")]
    hypotheses = read_lines(folder / "test.hyp")
    by_hand = [
        sum(word in source.split() for word in text.split()) / max(1, len(text.split()))
        for source, text in zip(sources, hypotheses, strict=True)
    ]
    scores = added["tests"]["test"]["metrics"]
    assert list(scores) == ["chrF++", "copied %"]
    assert scores["copied %"]["score"] == pytest.approx(100 * np.mean(by_hand))
    assert scores["copied %"]["signature"].startswith("code:")
    references = read_lines(small.corpus / "test.de")
    plus = CHRF(word_order=2).corpus_score(hypotheses, [references]).score
    assert scores["chrF++"]["score"] == plus
    content = (folder / "result.json").read_bytes()
    assert small.train(*more) == folder
    assert (folder / "result.json").read_bytes() == content


@pytest.mark.thorough
def test_what_selects_the_checkpoint(small: Small) -> None:
    more = ("combiner=none", f"metrics.calls._target_={target('Calls')}")
    plain = small.train(*more)
    selected = small.train(*more, "trainer.select_metric=calls")
    before, after = record(plain), record(selected)
    assert "select_metric" not in before["settings"]["trainer"]
    assert before["hash"] == record(small.train("combiner=none"))["hash"] != after["hash"]
    assert after["settings"]["trainer"]["select_metric"].keys() == {"_target_", "args", "code"}
    assert after["selected_step"] == 2  # of 6: the score of each later validation is worse
    assert after["curve"] == before["curve"]
    with pytest.raises(
        UserError, match=r"trainer.select_metric=chrF: not a metric of this run; did"
    ):
        small.train("trainer.select_metric=chrF")


# ---- reports


Runs = list[tuple[RunRecord, Path]]


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Two seeds of two methods, scored by further metrics; tests leave them as they are."""
    folder = tmp_path_factory.mktemp("toys")
    metrics, runs = build_metrics(configs("ter", "chrf++", "copied"), Scoring()), Runs()
    for method, wrong in (("none", 0.5), ("gate", 0.3)):
        for seed in (1, 2):
            scored, run_folder = run(folder, method, seed, wrong)
            random = np.random.default_rng([seed, *method.encode(), *b"upos"])
            hypotheses = [
                " ".join("oh" if random.random() < wrong else word for word in line.split())
                for line in REFERENCES
            ]
            counts = count_sentences(hypotheses, REFERENCES)
            # Here the source is the reference: a good translation copies much.
            counts |= add_scores(metrics, scored.tests["test"], REFERENCES, hypotheses, REFERENCES)
            write_counts(run_folder / scored.counts["test"], counts, REFERENCES)
            runs.append((scored, run_folder))
    return runs


@pytest.mark.thorough
def test_tables_and_figures_of_further_metrics(toys: Runs) -> None:
    runs, report = toys, Report(toys, pairs=False)
    [evidence] = report.comparisons
    assert list(evidence.samples) == ["BLEU", "chrF", "chrF++", "copied %"]  # TER only if asked for
    for name in ("chrF++", "copied %"):
        scores = [r.tests["test"].metrics[name].score for r, _ in runs if r.method == "gate"]
        assert evidence.samples[name]["gate"].scores == pytest.approx(scores)
        assert evidence.against[name]["gate"].is_supported
    titles = [table.title for table in report.tables]
    assert {"chrF++ on test, against none", "copied % on test, against none"} <= {*titles}
    heading, rows = report.table.format_cells()
    best = {heading[column]: rows[row][0] for row, column in report.table.best_cells()}
    assert best == dict.fromkeys(("test BLEU", "test chrF", "test TER", "test chrF++"), "gate") | {
        "test copied %": "none"
    }
    assert "Yes: gate is above words only" in report.tables[0].notes[0]
    by_ter = Report(runs, metric="TER")
    assert "Yes: gate is below words only (-" in by_ter.tables[0].notes[0]
    assert "TER, 95 % interval" in by_ter.tables[0].notes[0]
    [pairs] = [table for table in by_ter.tables if "Single models" in table.title]
    assert pairs.heading[2] == "TER difference"
    assert len(pairs.rows) == 2
    assert all(float(row[2]) < 0 for row in pairs.rows)
    copied = Report(runs, pairs=False, metric="copied %")  # lower is better, and gate copies more
    assert copied.tables[0].notes[0].startswith("No: gate is above words only (+")
    axes = draw_figures(by_ter)["differences-test"][0].axes[0]
    value = by_ter.comparisons[0].against["TER"]["gate"].difference.value
    bars: Any = axes.containers[0]
    assert bars.lines[0].get_xdata()[0] == value
    assert "leads in chrF++" in json.loads(report.to_json())["evidence"][0]


def test_resampled_scores_are_those_of_sacrebleu(toys: Runs) -> None:
    _, (scored, run_folder), *_ = toys
    counts, _ = read_counts(run_folder / scored.counts["test"])
    weights = sentence_weights(len(REFERENCES), 3)
    names = pq.read_table(run_folder / scored.counts["test"]).column_names
    assert [name for name in names if name.startswith("TER")] == ["TER 1", "TER 2"]
    metrics = build_metrics(configs("ter", "chrf++"), Scoring())
    for metric in metrics.values():
        for row in weights.astype(int):
            drawn = np.repeat(counts[metric.name], row, axis=0)
            ours = score_by_form(metric.form)(drawn.sum(axis=0))
            assert ours == pytest.approx(metric.score_corpus(drawn), rel=1e-12)


def test_rows_without_the_metric(toys: Runs, tmp_path: Path) -> None:
    others = [run(tmp_path, "add", seed, 0.4) for seed in (1, 2)]
    report = Report([*toys, *others], pairs=False)
    assert list(report.comparisons[0].samples) == ["BLEU", "chrF"]
    notes = " ".join(report.table.notes)
    assert "Not compared in chrF++ on test: not all rows have it" in notes
    by_plus = Report([*toys, *others], pairs=False, metric="chrF++")
    assert [m.name for m in by_plus.comparisons[0].methods] == ["none", "gate"]
    assert "Not compared, for lack of chrF++ per sentence: add" in " ".join(by_plus.table.notes)
    done = call("report", tmp_path, "--metric", "COMET")
    assert done.code == 2
    assert done.err.startswith("error: --metric=COMET: no run here has it; known: ")


def test_rows_whose_metric_is_not_the_same(toys: Runs) -> None:
    """As with another glossary or model: there is no difference between their scores."""
    runs = deepcopy(toys)
    for scored, _ in runs[2:]:
        scored.tests["test"].metrics["chrF++"].signature += "|model:b"
    report = Report(runs, pairs=False, metric="chrF++")
    assert report.comparisons == []
    assert "Not compared with one another, for they are scored on test in different ways" in (
        " ".join(report.table.notes)
    )


# ---- metrics that need something


def test_spbleu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a small subword model where sacreBLEU would store its own."""
    monkeypatch.setattr(tokenizer_spm, "SACREBLEU_DIR", str(tmp_path))

    def no_network(url: str, path: str) -> None:
        raise OSError("no network")

    monkeypatch.setattr(tokenizer_spm, "download_file", no_network)
    with pytest.raises(
        UserError, match=r"^metrics=spbleu: sacreBLEU cannot fetch .* \(no network\)"
    ):
        SpBLEU(Scoring())
    (tmp_path / "models").mkdir()
    path = tmp_path / "models" / "flores200sacrebleuspm"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(REFERENCES), model_prefix=str(path), vocab_size=40, num_threads=1
    )
    path.with_suffix(".model").rename(path)
    hypotheses = [line.replace("w1", "w2") for line in REFERENCES]
    metric = SpBLEU(Scoring("zh"))
    expected = BLEU(tokenize="flores200", force=True).corpus_score(hypotheses, [REFERENCES])
    assert score_texts(metric, hypotheses, hypotheses, REFERENCES) == expected.score
    assert 0 < expected.score < 100
    assert "tok:flores200" in metric.signature


def test_comet_s_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its interface of version 2, imitated: no model is fetched here."""
    comet = {"comet": MetricConfig("nmt_feat.evaluation.comet.COMET", {"model": "a/b"})}
    monkeypatch.setitem(sys.modules, "comet", None)
    with pytest.raises(UserError, match=r"^COMET needs its package"):
        build_metrics(comet, Scoring())
    loaded: list[str] = []

    class Model:
        def predict(self, data: list[dict[str, str]], batch_size: int, gpus: int) -> Any:
            return SimpleNamespace(scores=[len(row["mt"]) / 10 for row in data])

    package = ModuleType("comet")
    package.download_model = lambda name: f"fetched {name}"  # type: ignore[attr-defined]
    package.load_from_checkpoint = lambda path: loaded.append(path) or Model()  # type: ignore
    monkeypatch.setitem(sys.modules, "comet", package)
    metric = build_metrics(comet, Scoring())["comet"]
    assert metric.measure_sentences("ab", ["x", "yyy"], "cd").tolist() == [[10, 1], [30, 1]]
    assert score_texts(metric, "ab", ["x", "yyy"], "cd") == 20
    assert loaded == ["fetched a/b"]
    assert metric.signature == "model:a/b|scale:100|version:unknown"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"_target_": "nmt_feat.evaluation.comets.COMET"}, "no module"),
        (
            {"_target_": "nmt_feat.evaluation.languages.Scoring"},
            "must be derived from nmt_feat.evaluation.metric",
        ),
        ({"args": {"name": "a/b"}}, "metrics.mine._target_=tests.support.scores.Wrong: its name"),
        ({"args": {"name": None}}, "its name is None; a name is text"),
        ({"args": {"form": "bleus"}}, "its form is bleus; did you mean 'bleu'"),
        ({"args": {"form": None}}, "its form is None; known: bleu, chrf, mean"),
        ({"args": {"name": "BLEU"}}, "the name BLEU is taken; choose another"),
        ({"args": {"order": 2}}, "takes no argument 'order'"),
    ],
)
def test_metrics_that_are_refused(settings: dict[str, Any], message: str) -> None:
    config = MetricConfig(**{"_target_": target("Wrong")} | settings)
    with pytest.raises(UserError, match=message):
        build_metrics({"mine": config}, Scoring())


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ("none", "scores.Wrong: gives 0 x 2 numbers for 2 sentences; give each sentence a row"),
        ("nan", "scores.Wrong: sentence 1 has a score that is not finite"),
        ("error", r"scores.Wrong, line \d+: ZeroDivisionError"),
    ],
)
def test_wrong_scores(scores: str, message: str) -> None:
    metric = user_metrics.Wrong(Scoring(), scores)
    with pytest.raises(UserError, match=message):
        score_texts(metric, ["a", "b"], ["a", "b"], ["a", "b"])


@pytest.mark.parametrize(
    ("statistics", "message"),
    [
        (3.0, "gives 1 numbers for 2 sentences; give each sentence a row"),
        ([[1, 2, 3], [1, 2, 3]], "gives 2 x 3 numbers; give two for each sentence, a sum and its"),
        ([["a", "b"], ["c", "d"]], "gives .*; give numbers"),
        ([[1, 1], [2, 1]], r"line \d+: ZeroDivisionError"),
    ],
)
def test_wrong_statistics(statistics: Any, message: str) -> None:
    class Odd(Metric):
        name = "odd"

        def measure_sentences(self, *texts: Any) -> Any:
            return statistics

        def score_corpus(self, statistics: Any) -> float:
            return 1 / 0

    with pytest.raises(UserError, match=message):
        score_texts(Odd(Scoring()), ["a", "b"], ["a", "b"], ["a", "b"])


def test_the_command_line(small: Small) -> None:
    for setting, message in (
        ("metrics=[blue]", "metrics=blue: no such option; did you mean 'bleu'"),
        ("metrics.ter.args.order=1", "metrics.ter.args.order"),
        ("metrics.mine.args={}", "metrics.mine: no such metric is chosen"),
    ):
        done = call("train", *small.overrides(setting))
        assert done.code == 2
        assert message in done.err
    printed = call("train", "--config-dir=examples", "metrics=[chrf++,copied]", "--cfg", "job")
    assert "copied:\n    _target_: examples.copied.Copied" in printed.out
