"""The page of runs that come from elsewhere: nothing is read or run that they name."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from nmt_feat.analysis.examples import Corpora, collect_examples
from nmt_feat.analysis.figures import draw_gates
from nmt_feat.analysis.page import render_svg, write_page
from nmt_feat.analysis.report import Report
from nmt_feat.errors import UserError
from nmt_feat.runs.stored.records import RunRecord, read_record, write_record
from tests.support.page_runs import REFERENCES, SOURCES, write_runs


@pytest.fixture
def runs(tmp_path: Path) -> list[tuple[RunRecord, Path]]:
    return write_runs(tmp_path)


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
