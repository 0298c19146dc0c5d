"""The HTML page: complete, self-contained, everything escaped; driven in a browser if asked for."""

from __future__ import annotations

import dataclasses
import json
import runpy
import shutil
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from sacrebleu.metrics.chrf import CHRF

from nmt_feat.analysis.examples import Corpora, collect_examples, find_differences
from nmt_feat.analysis.figures import draw_gates
from nmt_feat.analysis.page import name_report, render_svg, write_page
from nmt_feat.analysis.report import Report
from nmt_feat.config.schema import FeatureConfig
from nmt_feat.errors import UserError
from nmt_feat.evaluation.counts import counts_file, sentence_counts, write_counts
from nmt_feat.evaluation.metrics import score
from nmt_feat.evaluation.test_sets import write_hypotheses
from nmt_feat.runs.records import CurvePoint, RunRecord, read_record, write_record

ROOT = Path(__file__).resolve().parent.parent
ATTACK = "<script>alert(1)</script>"
SOURCES = [
    [("They", "PRON"), ("fish", "NOUN")],
    [("They", "PRON"), ("fish", "VERB")],
    [(ATTACK, "</script><b>"), ("&amp;", "X"), ("\u0639", "X")],
    [("Good", "ADJ"), ("morning", "NOUN"), ("to", "ADP"), ("all", "PRON")],
]
REFERENCES = [
    "Sie Fisch hier und dort",
    "Sie fischen hier und dort",
    f"{ATTACK} bleibt was es ist",
    "Guten Morgen an euch alle",
]
OUTPUTS = {
    "none": ["Sie fischen hier und dort"] * 2
    + [f"{ATTACK} <!-- bleibt", "Guten Abend an euch alle"],
    "gate</script><img src=x onerror=alert(2)>": REFERENCES,
}


def conllu(folder: Path) -> None:
    """The test set's files."""
    blocks = []
    for words in SOURCES:
        lines = [f"# text = {' '.join(word for word, _ in words)}"]
        for i, (word, upos) in enumerate(words, 1):
            lines.append("\t".join([str(i), word, "_", upos, "_", "_", str(i - 1), *"___"]))
        blocks.append("\n".join(lines) + "\n")
    (folder / "test.conllu").write_text("\n".join(blocks), encoding="utf-8")
    (folder / "test.de").write_text("".join(f"{r}\n" for r in REFERENCES), encoding="utf-8")


def made(folder: Path, method: str, seed: int) -> tuple[RunRecord, Path]:
    """A finished run with its translations in its folder."""
    split = {"source": "test.conllu", "target": "test.de"}
    data = {"name": "toy", "folder": str(folder), "source_lang": "en", "target_lang": "de"}
    config: dict[str, Any] = {
        "data": data | {"train": split, "dev": split, "tests": {"test": split}},
        "paths": {"cache": str(folder / "cache")},
        "features": {"upos": dataclasses.asdict(FeatureConfig(column="upos"))},
        "seed": ATTACK,
    }
    outputs = OUTPUTS[method]
    record = RunRecord(method, ["upos"], seed, "toy", f"{len(method)}-{seed}", {}, config)
    record.settings = {"seed": seed}
    record.dev = score(outputs, REFERENCES)
    record.tests = {"test": score(outputs, REFERENCES)}
    record.machine = {"cpu": ATTACK}
    record.curve = [CurvePoint(step, 1.0, 10.0 * step + seed) for step in (1, 2)]
    record.data_report = {"splits": {"train": {"sentences": 4, "top": [[ATTACK, 0.5]]}}}
    run_folder = folder / record.hash
    run_folder.mkdir(parents=True, exist_ok=True)
    record.files = {"test": write_hypotheses(run_folder, "test", outputs)}
    record.counts = {"test": counts_file("test")}
    write_counts(
        run_folder / record.counts["test"], sentence_counts(outputs, REFERENCES), REFERENCES
    )
    write_record(run_folder, record)
    return record, run_folder


@pytest.fixture
def runs(tmp_path: Path) -> list[tuple[RunRecord, Path]]:
    conllu(tmp_path)
    return [made(tmp_path, method, seed) for method in OUTPUTS for seed in (1, 2)]


class Page(HTMLParser):
    """Elements and the text in scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.shown = ""
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "script":
            self.scripts[-1] += data
        elif self.inside != "style":
            self.shown += data


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


@pytest.mark.thorough
def test_a_class_that_is_not_trusted_costs_the_text_of_its_run(
    runs: list[tuple[RunRecord, Path]], tmp_path: Path
) -> None:
    for record, _ in runs:
        if record.method != "none":
            record.config["features"]["upos"]["_target_"] = "json.JSONDecoder"
    page = tmp_path / "page.html"
    [line] = write_page(Report(runs), page, Corpora([tmp_path]))
    assert line.startswith("The text of test (gate</script>")
    assert "features.upos._target_=json.JSONDecoder" in line
    [examples], _ = collect_examples(
        Report(runs).table.runs_by_name(), Report(runs).folders, Corpora([tmp_path])
    )
    assert examples.methods == ["none, seed 1"]


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


@pytest.mark.parametrize("key", ["source", "target", "conllu"])
def test_text_is_not_read_from_where_a_run_says(
    runs: list[tuple[RunRecord, Path]], tmp_path: Path, key: str
) -> None:
    """Neither by an absolute name, nor by one with `..`, nor through a link."""
    (tmp_path / "corpus").mkdir()
    lines = [" ".join(word for word, _ in words) for words in SOURCES]
    texts = {"source": lines, "target": REFERENCES, "conllu": []}
    for name, content in texts.items():
        (tmp_path / "corpus" / f"test.{name}").write_text("".join(f"{x}\n" for x in content))
    shutil.copy(tmp_path / "test.conllu", tmp_path / "corpus" / "test.conllu")
    secret = tmp_path / "secret"
    secret.write_bytes((tmp_path / "corpus" / f"test.{key}").read_bytes())
    (tmp_path / "corpus" / "link").symlink_to(secret)
    for path in (str(secret), "../secret", "link"):
        for record, _ in runs:
            split = {name: f"test.{name}" for name in texts} | {key: path}
            record.config["data"] |= {"folder": str(tmp_path / "corpus")}
            record.config["data"] |= {"train": split, "dev": split, "tests": {"test": split}}
        rows = Report(runs, pairs=False).table.runs_by_name()
        folders = {record.hash: folder for record, folder in runs}
        examples, notes = collect_examples(
            rows, folders, Corpora([tmp_path / "corpus"], tmp_path / "cache")
        )
        if key == "conllu":  # the text alone is of the corpus
            assert "Without features" in examples[0].notes[0]
            assert [len(words) for words in (s.words[0] for s in examples[0].sentences)] == [1] * 4
        else:
            assert examples == []
            assert "a run names this file" in notes[-1]
            assert "--text" in notes[-1]


@pytest.mark.thorough
def test_an_environment_variable_in_a_run_stays_text(
    runs: list[tuple[RunRecord, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_SECRET", "swordfish")
    for record, _ in runs:
        record.config["data"]["name"] = "${oc.env:A_SECRET}"
        record.config["data"]["folder"] = "${oc.env:A_SECRET}"
    write_page(Report(runs), tmp_path / "page.html", Corpora([tmp_path]))
    assert "swordfish" not in (tmp_path / "page.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("field", ["files", "counts"])
@pytest.mark.parametrize("name", ["../test.hyp", "/etc/hostname", "sub/test.hyp", "..", ""])
def test_a_record_names_files_of_its_folder_only(
    runs: list[tuple[RunRecord, Path]], field: str, name: str
) -> None:
    record, run_folder = runs[0]
    getattr(record, field)["test"] = name
    path = write_record(run_folder, record)
    with pytest.raises(UserError, match="which is not in the run's folder"):
        read_record(path)


def test_a_link_out_of_a_run_is_not_followed(
    runs: list[tuple[RunRecord, Path]], tmp_path: Path
) -> None:
    """Neither for the page nor for a table."""
    folders = {record.hash: folder for record, folder in runs}
    rows = Report(runs, pairs=False).table.runs_by_name()
    for name in ("test.hyp", "test.counts.parquet"):
        (runs[0][1] / name).rename(tmp_path / name)
        (runs[0][1] / name).symlink_to(tmp_path / name)
        if name == "test.hyp":
            examples, notes = collect_examples(
                rows, folders, Corpora([tmp_path], tmp_path / "cache")
            )
            assert examples == []
            assert "test.hyp: is a link out of the run's folder" in notes[-1]
        else:
            with pytest.raises(UserError, match="is a link out of the run's folder"):
                Report(runs, pairs=False)


def test_control_characters_are_no_svg() -> None:
    pytest.importorskip("matplotlib")
    values = {"a\x01b": (3, {"word": [0.5], "upos": [0.5]})}
    with pytest.warns(UserWarning, match="Glyph 1"):
        drawn = render_svg(draw_gates("gate", {"upos": values}), "f1-", "gates")
    assert ">a\ufffdb (3)<" in drawn


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
