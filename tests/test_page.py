"""The HTML page: complete, self-contained, everything escaped; driven in a browser if asked for."""

from __future__ import annotations

import json
import runpy
import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest
from sacrebleu.metrics.chrf import CHRF

from nmt_feat.analysis.examples import Corpora, collect_examples, find_differences
from nmt_feat.analysis.page import name_report, write_page
from nmt_feat.analysis.report import Report
from nmt_feat.runs.stored.records import RunRecord
from tests.support.page_runs import (
    ATTACK,
    OUTPUTS,
    REFERENCES,
    SOURCES,
    Page,
    write_runs,
)

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def runs(tmp_path: Path) -> list[tuple[RunRecord, Path]]:
    return write_runs(tmp_path)


def test_the_parent_is_shown(
    runs: list[tuple[RunRecord, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nmt_feat.analysis.page.draw_figures", lambda report: {})
    runs[0][0].parent = {"run": "runs/none-s7", "taken": {"target.words": [3, 4]}, "new": ["a.b"]}
    write_page(Report(runs), tmp_path / "page.html", Corpora([tmp_path]))
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert text.count("<dt>parent</dt>") == 1
    assert "<dt>run</dt><dd>runs/none-s7" in text
    assert "<dt>target.words</dt>" in text


@pytest.mark.thorough
def test_everything_is_shown_and_escaped(
    runs: list[tuple[RunRecord, Path]], tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    assert write_page(Report(runs), tmp_path / "page.html", Corpora([tmp_path])) == []
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    page = Page(text)
    names = Counter(tag for tag, _ in page.elements)
    assert names["script"] == 2
    assert not names["img"]
    assert not names["b"]
    data_script, page_script = page.scripts
    assert page_script == (ROOT / "nmt_feat/analysis/static/page.js").read_text(encoding="utf-8")
    [content] = json.loads(data_script)
    assert content["sentences"][2]["words"][0] == [ATTACK, "</script><b>"]
    assert [s["reference"] for s in content["sentences"]] == REFERENCES
    assert text.count(ATTACK) == 0
    assert page.shown.count(ATTACK) >= 2 * len(runs)  # machine and configuration
    assert next(name for name in OUTPUTS if "<" in name) in page.shown
    assert names["svg"] > 1
    assert "Welch's t test" in page.shown
    assert "BLEU <code>nrefs:1|" in text


@pytest.mark.thorough
def test_nothing_is_fetched_and_no_two_ids_are_equal(
    runs: list[tuple[RunRecord, Path]], tmp_path: Path
) -> None:
    write_page(Report(runs), tmp_path / "page.html", Corpora([tmp_path]))
    page = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    ids = Counter(attributes["id"] for _, attributes in page.elements if "id" in attributes)
    assert max(ids.values()) == 1
    for tag, attributes in page.elements:
        assert "src" not in attributes
        assert not any(name.startswith("on") for name in attributes)
        for name, value in attributes.items():
            if name.endswith("href"):
                assert value == "data:," or str(value)[1:] in ids, (tag, value)
            elif "url(#" in str(value):
                assert str(value).partition("url(#")[2].partition(")")[0] in ids


@pytest.mark.thorough
def test_examples(runs: list[tuple[RunRecord, Path]], tmp_path: Path) -> None:
    rows = Report(runs).table.runs_by_name()
    folders = {record.hash: run_folder for record, run_folder in runs}
    [result], missing = collect_examples(rows, folders, Corpora([tmp_path], tmp_path / "cache"))
    assert (missing, result.notes, result.features) == ([], [], ["upos"])
    assert result.methods == [f"{name}, seed 1" for name in OUTPUTS]
    assert [s.ambiguous for s in result.sentences] == [True, True, False, False]
    assert [s.length for s in result.sentences] == [5] * 4
    assert [tuple(word) for word in result.sentences[1].words] == SOURCES[1]
    first = result.sentences[0].outputs[0]
    assert (first.words[1], first.differ) == ("fischen", [1])
    chrf = CHRF().sentence_score(OUTPUTS["none"][0], [REFERENCES[0]]).score
    assert first.scores["chrF"] == pytest.approx(chrf, abs=0.051)
    assert result.sentences[0].outputs[1].differ == []


def test_examples_of_a_language_without_spaces(
    runs: list[tuple[RunRecord, Path]], tmp_path: Path
) -> None:
    """Lengths and differences are in characters, whatever stands between spaces."""
    for made_run, _ in runs:
        made_run.tests["test"].perplexity_unit = "character"
    rows = Report(runs, pairs=False).table.runs_by_name()
    [result], _ = collect_examples(
        rows, {record.hash: run_folder for record, run_folder in runs}, Corpora([tmp_path])
    )
    assert result.unit == "character"
    assert [s.length for s in result.sentences] == [len(r.replace(" ", "")) for r in REFERENCES]
    output = result.sentences[0].outputs[0]
    assert "".join(output.words) == OUTPUTS["none"][0]
    assert output.differ == find_differences(list(OUTPUTS["none"][0]), list(REFERENCES[0]))


def test_runs_of_other_tokenisers_stand_in_examples_of_their_own(
    runs: list[tuple[RunRecord, Path]], tmp_path: Path
) -> None:
    rows = Report(runs, pairs=False).table.runs_by_name()
    for record in rows["none"]:
        scores = record.tests["test"]
        scores.bleu_signature = scores.bleu_signature.replace("tok:13a", "tok:char")
    result, _ = collect_examples(
        rows, {record.hash: run_folder for record, run_folder in runs}, Corpora([tmp_path])
    )
    assert [some.methods for some in result] == [[f"{name}, seed 1"] for name in OUTPUTS]


def test_differing() -> None:
    assert find_differences(["a", "b", "c"], ["a", "c"]) == [1]
    assert find_differences(["b", "a"], ["a", "b"]) in ([0], [1])  # the order counts
    assert find_differences([], ["a"]) == []


@pytest.mark.thorough
def test_what_cannot_be_shown_is_said(runs: list[tuple[RunRecord, Path]], tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    report = Report(runs)
    (tmp_path / "test.conllu").write_text(
        (tmp_path / "test.conllu").read_text(encoding="utf-8").replace("\tPRON", "\tPRON\t_"),
        encoding="utf-8",
    )
    [line] = write_page(report, page, Corpora([tmp_path]))
    assert line.startswith("The text of test (none, gate")
    lines = "".join(f"{r}.\n" for r in REFERENCES)
    (tmp_path / "test.de").write_text(lines, encoding="utf-8")
    conllu_only = tmp_path / "test.conllu"
    conllu_only.write_text(
        conllu_only.read_text(encoding="utf-8").replace("\tPRON\t_", "\tPRON"), encoding="utf-8"
    )
    [line] = write_page(report, page, Corpora([tmp_path]))
    assert "no longer those that the runs were tested on" in line
    for _, run_folder in runs:
        (run_folder / "test.hyp").unlink()
    [line] = write_page(report, page, Corpora([tmp_path]))
    assert line.startswith("Without text: none, gate")
    assert "hold no text to show" in page.read_text(encoding="utf-8")


def test_a_cache_that_cannot_be_written_costs_the_features(
    runs: list[tuple[RunRecord, Path]], tmp_path: Path
) -> None:
    pytest.importorskip("HanTa")
    (tmp_path / "taken").touch()
    lines = (" ".join(word for word, _ in words) for words in SOURCES)
    (tmp_path / "test.en").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    for record, _ in runs:
        split = {"source": "test.en", "target": "test.de"}
        record.config["data"] |= {"train": split, "dev": split, "tests": {"test": split}}
        record.config["annotator"] = {
            "_target_": "nmt_feat.annotators.HanTa",
            "args": {"language": "en"},
        }
    rows = Report(runs, pairs=False).table.runs_by_name()
    folders = {record.hash: run_folder for record, run_folder in runs}
    corpora = Corpora([tmp_path], tmp_path / "taken" / "cache")
    [result], missing = collect_examples(rows, folders, corpora)
    assert (missing, result.features) == ([], [])
    assert [note.partition("[")[0] for note in result.notes] == ["Without features: "]
    assert "Not a directory" in result.notes[0]


@pytest.mark.thorough
def test_script(
    runs: list[tuple[RunRecord, Path]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    page = tmp_path / "new" / "page.html"
    monkeypatch.setattr(
        sys, "argv", ["report.py", str(tmp_path), "--html", str(page), "--text", str(tmp_path)]
    )
    runpy.run_path(str(ROOT / "scripts" / "report.py"), run_name="__main__")
    assert f"Written: {page}" in capsys.readouterr().out
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


@pytest.mark.browser
def test_in_a_browser(runs: list[tuple[RunRecord, Path]], tmp_path: Path) -> None:
    """No messages in the console; sorting, filters and the keyboard work; nothing overflows."""
    api = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
    if (chromium := shutil.which("chromium") or shutil.which("google-chrome")) is None:
        pytest.skip("needs Chromium on the PATH")
    write_page(Report(runs), tmp_path / "page.html", Corpora([tmp_path]))
    messages: list[str] = []
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            for width in (1280, 360):
                size = {"width": width, "height": 800}
                page = browser.new_context(color_scheme=scheme, viewport=size).new_page()
                page.on("console", lambda message: messages.append(message.text))
                page.on("pageerror", lambda error: messages.append(str(error)))
                page.on("dialog", lambda dialog: messages.append(dialog.message))
                page.goto((tmp_path / "page.html").as_uri())
                assert page.evaluate("document.documentElement.scrollWidth") <= width
                assert page.locator("figure svg").count() > 1
                back = page.evaluate("getComputedStyle(document.body).backgroundColor")
                assert (back == "rgb(255, 255, 255)") == (scheme == "light")
        table = page.locator("table.sortable").first
        heading = table.locator("th[scope=col]", has_text="test BLEU")
        heading.locator("button").focus()
        for order, best in (("descending", 0), ("ascending", -1)):
            page.keyboard.press("Enter")
            assert heading.get_attribute("aria-sort") == order
            rows = table.locator("tbody th").all_inner_texts()
            assert rows[best].startswith("gate</script>")
        assert page.locator("article").count() == 4
        assert page.locator("article").nth(2).locator("li").first.inner_text().startswith(ATTACK)
        page.get_by_label("Only sources with several readings").check()
        assert page.locator("article").count() == 2
        assert page.get_by_role("status").inner_text() == "2 of 4 sentences, 1 to 2 shown"
        page.get_by_label("Method", exact=True).select_option("1")
        page.get_by_label("is better than").select_option("0")
        assert page.locator("article").count() == 1
        assert page.locator("article mark").all_inner_texts() == ["fischen"]
        page.get_by_label("Reference words, from").fill("6")
        assert page.locator("article").count() == 0
        browser.close()
    assert messages == []


def test_a_data_report_in_the_words_of_the_console() -> None:
    """Names of users, here of a set and of a feature, stay as they are."""
    sides = {"words": 9, "pieces": 12, "unknown": 0.0012}
    figures = {"coverage": 1.0, "agreement": 0.9432, "lost": None, "random_by_type": 0.01}
    report = {
        "train_read": 4,
        "filtered": {"top": 1},
        "splits": {"top": {"sentences": 3, "source": sides}},
        "features": {"entropy": figures | {"top": [["NOUN", 0.25]]}},
    }
    assert name_report(report) == {
        "training pairs before filtering": 4,
        "filtered": {"top": 1},
        "splits": {"top": {"sentences": 3, "source": sides | {"unknown": "0.12%"}}},
        "features": {
            "entropy": {
                "coverage": "100.0%",
                "pieces agree": "94.3%",
                "lost": None,
                "random": 0.01,
                "most frequent": ["NOUN 25%"],
            }
        },
    }
