"""Scores of terms: how many are translated, and BLEU of the sentences without them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from nmt_feat.base.checksums import hash_json
from nmt_feat.config.schema import MetricConfig
from nmt_feat.errors import UserError
from nmt_feat.evaluation.languages import Scoring
from nmt_feat.evaluation.metric import Metric, build_metrics, measure_texts, score_texts
from nmt_feat.evaluation.sacrebleu_metrics import BLEU
from nmt_feat.runs.setup.identity import identity_settings
from tests.support.entry import call
from tests.support.small import Small, record
from tests.support.terms import FACTOR, write_small

WHERE = "nmt_feat.evaluation.terminology"
SOURCES = ["The king and the king.", "A woman", "Nobody", "women women"]
REFERENCES = ["Der Kaiser und der Kaiser.", "Ein Weib", "Niemand war da", "Frauen, Frauen"]
HYPOTHESES = ["Der Kaiser und er.", "Eine Frau", "Niemand war dort", "Frauen frauen"]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    return write_small(tmp_path_factory.mktemp("terms"))


def build_named(small: Small, *names: str, **args: object) -> list[Metric]:
    glossary = str(small.corpus / "glossary.tsv")
    configs = {n: MetricConfig(f"{WHERE}.{n}", {"glossary": glossary, **args}) for n in names}
    return list(build_metrics(configs, Scoring()).values())


def test_term_success_counts_terms_of_reference(small: Small) -> None:
    (metric,) = build_named(small, "TermSuccess")
    statistics = measure_texts(metric, SOURCES, HYPOTHESES, REFERENCES)
    assert statistics.tolist() == [[100, 2], [0, 0], [0, 0], [100, 2]]
    assert score_texts(metric, SOURCES, HYPOTHESES, REFERENCES) == 50
    assert score_texts(metric, SOURCES, REFERENCES, REFERENCES) == 100
    assert score_texts(metric, ["Nobody"], ["x"], ["y"]) == 0


@pytest.mark.slow
def test_term_success_by_lemma(small: Small) -> None:
    pytest.importorskip("simplemma")
    settings = {"annotator": "nmt_feat.annotators.Simplemma", "args": {"language": "de"}}
    (metric,) = build_named(small, "TermSuccessByLemma", **settings)
    assert "lemmas:simplemma" in metric.signature
    exact = measure_texts(metric, ["a woman"], ["mit Frauen"], ["eine Frau"])
    assert exact.tolist() == [[100, 1]]


def test_bleu_without_terms(small: Small) -> None:
    (metric,) = build_named(small, "BLEUWithoutTerms")
    sources, *others = ["x", "A woman", "y"], REFERENCES[:3], HYPOTHESES[:3]
    rows = [[text for i, text in enumerate(side) if i != 1] for side in (sources, *others)]
    expected = score_texts(BLEU(Scoring()), *rows)
    assert score_texts(metric, sources, *others) == expected
    assert score_texts(metric, ["A woman"], ["x"], ["x"]) == 0


def test_metrics_of_a_run(small: Small) -> None:
    settings = ("metrics=[bleu,chrf,term_success,bleu_without_terms]", *FACTOR)
    scores = record(small.train(*settings))["tests"]["test"]["metrics"]
    assert list(scores) == ["term success", "BLEU without terms"]
    assert scores["term success"]["signature"].startswith("glossary:")
    assert scores["BLEU without terms"]["score"] == 0  # each sentence of this set has some
    with pytest.raises(UserError, match="term success needs a glossary"):
        small.train(*settings, "data.terminology.glossary=null")


@pytest.mark.parametrize("mode", ["append", "none"])
def test_finished_run_gets_scores_of_its_terms(small: Small, tmp_path: Path, mode: str) -> None:
    """By its copy of the glossary: the file may be gone."""
    path = Path(shutil.copy(small.corpus / "glossary.tsv", tmp_path))
    settings = FACTOR if mode == "append" else ("features=[]", "combiner=none", *FACTOR[2:])
    terms = (f"data.terminology.mode={mode}", f"data.terminology.glossary={path}")
    folder = small.train(*settings, *terms, "seed=2")
    path.unlink()
    done = call("evaluate", f"run={folder}", "metrics=[term_success]")
    assert done.code == 0, done.err
    (metric,) = build_named(small, "TermSuccess")
    texts = [
        (folder / "test.hyp" if name == "hyp" else small.corpus / f"test.{name}")
        .read_text(encoding="utf-8")
        .splitlines()
        for name in ("en", "hyp", "de")
    ]
    scores = record(folder)["tests"]["test"]["metrics"]["term success"]
    assert scores["score"] == score_texts(metric, *texts)
    assert scores["signature"] == metric.signature


def test_terms_choose_the_checkpoint_of_a_text_without_terms(small: Small) -> None:
    """The glossary is for the metric alone; without one the run is refused before it trains."""
    words = ("features=[]", "combiner=none", "data.terminology.mode=none", "trainer.max_steps=4")
    selecting = ("metrics=[bleu,chrf,term_success]", "trainer.select_metric=term_success")
    run = record(small.train(*words, *selecting))
    assert run["settings"]["trainer"]["select_metric"]["_target_"] == f"{WHERE}.TermSuccess"
    assert run["tests"]["test"]["metrics"]["term success"]["signature"].startswith("glossary:")
    with pytest.raises(UserError, match="term success needs a glossary; set data"):
        small.train(*words, *selecting, "data.terminology.glossary=null")


def test_a_run_chosen_by_terms_is_another_with_another_glossary(
    small: Small, tmp_path: Path
) -> None:
    """What the glossary says counts, not where it lies; whose glossary it is does not matter."""
    content = (small.corpus / "glossary.tsv").read_text(encoding="utf-8")
    same, other = tmp_path / "same.tsv", tmp_path / "other.tsv"
    same.write_text(content, encoding="utf-8")
    other.write_text("moon\tMond\n", encoding="utf-8")
    chosen = ("metrics=[term_success]", "trainer.select_metric=term_success")
    argument = "+metrics.term_success.args.glossary="

    def identify(*settings: object) -> str:
        words = ("features=[]", "combiner=none", "data.terminology.mode=none")
        cfg = small.config(*words, *map(str, settings))
        return hash_json(identity_settings(cfg, "data"))

    corpus = "data.terminology.glossary="
    first = identify(*chosen)
    assert identify(*chosen, f"{corpus}{same}") == first
    assert identify(*chosen, f"{corpus}{other}") != first
    assert identify(*chosen, f"{argument}{same}", f"{corpus}{other}") == first
    assert identify(*chosen, f"{argument}{other}") == identify(*chosen, f"{corpus}{other}")
    by_bleu = identify("metrics=[term_success]")
    assert by_bleu == identify("metrics=[term_success]", f"{corpus}{other}")


def test_finished_run_without_terms_gets_scores_of_them(small: Small) -> None:
    """By the setting that the error names."""
    settings = ("combiner=none", "trainer.max_steps=1", "data.terminology.glossary=null")
    command = f"run={small.train(*settings)}", "metrics=[term_success]"
    refused = call("evaluate", *command)
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    setting = refused.err.rpartition(" or ")[2].strip()
    done = call("evaluate", *command, setting.replace("FILE", f"{small.corpus}/glossary.tsv"))
    assert (done.code, "term success" in done.out) == (0, True), done.err
