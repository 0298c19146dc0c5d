"""What others see of a run: name and tags, its model card, its folder on another machine."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from nmt_feat.analysis.corpora import choose_runs
from nmt_feat.base.files import hold_lock
from nmt_feat.errors import UserError
from nmt_feat.runs.loggers import Logger, Loggers
from nmt_feat.runs.model_card import CARD, describe_run, is_unedited
from nmt_feat.runs.setup.identity import identity_settings
from nmt_feat.runs.stored.cache_use import list_cache, remove_entry
from nmt_feat.runs.stored.find_runs import find_runs
from nmt_feat.runs.stored.records import read_run
from nmt_feat.runs.stored.run_summary import summarize_run
from tests.support.entry import call
from tests.support.small import Small, composed

GATE = ("combiner=gate", "features=[upos]")
TERMS = ("data.terminology.glossary=terms.tsv", "data.terminology.marking=tags")
LABELS = ("name=first try", "tags=[draft,upos]")


@pytest.fixture(scope="module")
def shared(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Small:
    """The runs of this module, which are trained once."""
    return Small(corpus, corpus.parent / "cache", tmp_path_factory.mktemp("shared"))


def test_labels_are_no_part_of_the_identity() -> None:
    plain, labelled = composed(()), composed(LABELS)
    assert identity_settings(plain, "data") == identity_settings(labelled, "data")


def test_an_empty_tag_is_refused(small: Small) -> None:
    done = call("train", *small.overrides("tags=[draft,' ']"))
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "tags: one of them is empty" in done.err


@pytest.mark.thorough
def test_labels_stand_in_the_record_and_choose_runs(shared: Small) -> None:
    folder = shared.train(*GATE, *LABELS)
    words_only = shared.train("combiner=none")
    weights = (folder / "model.safetensors").stat().st_mtime_ns
    assert read_run(folder).config["tags"] == ["draft", "upos"]
    # The same run with another tag: it is added, nothing is trained.
    assert shared.train(*GATE, "tags=[paper,draft]") == folder
    record = read_run(folder)
    assert (record.config["name"], record.config["tags"]) == (
        "first try",
        ["draft", "upos", "paper"],
    )
    assert (folder / "model.safetensors").stat().st_mtime_ns == weights
    runs = find_runs([folder.parent])
    for condition in ("tags=paper", "tags=dr*", "name=first *"):
        assert set(choose_runs(runs, [condition])) == {folder.resolve()}, condition
    assert words_only.resolve() in runs
    with pytest.raises(UserError, match="tags is one of: draft, paper, upos"):
        choose_runs(runs, ["tags=drafts"])
    cells = [[*column.cells] for column in summarize_run(record).columns]
    assert [str(cell) for cell in cells[1][:2]] == ["first try", "draft, upos, paper"]


class SilentLogger(Logger):
    """Logs nothing."""

    def open(self, folder: Path) -> None:
        pass

    def log(self, values: Mapping[str, float], step: int) -> None:
        pass

    def close(self) -> None:
        pass


def test_loggers_get_the_labels(tmp_path: Path) -> None:
    logger = SilentLogger()
    Loggers({"one": logger}, tmp_path, print, "first try", ["draft"]).close()
    assert (logger.run_name, [*logger.run_tags]) == ("first try", ["draft"])


def test_the_card_is_one_of_the_hub(shared: Small) -> None:
    hub = pytest.importorskip("huggingface_hub")
    folder = shared.train(*GATE, *LABELS, "license=cc-by-4.0")
    record = read_run(folder)
    card = hub.ModelCard.load(folder / CARD)
    data = card.data
    assert (data.language, data.license) == (["en", "de"], "cc-by-4.0")
    metadata = data.to_dict()
    assert [metadata[n] for n in ("library_name", "pipeline_tag")] == ["nmt_feat", "translation"]
    assert {"gate", "draft"} <= set(data.tags)
    results = {(r.dataset_split, r.metric_name): r for r in data.eval_results}
    bleu = results["test", "BLEU"]
    assert bleu.metric_value == round(record.tests["test"].bleu, 2)
    assert bleu.metric_args == {"signature": record.tests["test"].bleu_signature}
    assert (
        f"| test | {record.tests['test'].bleu:.2f} | {record.tests['test'].chrf:.2f} |" in card.text
    )
    assert f"nmt-feat translate run={folder.name} input=sentences.conllu" in card.text
    assert f"- train: {record.data_report['splits']['train']['sentences']} pairs" in card.text


@pytest.mark.thorough
def test_a_card_gets_further_scores_until_somebody_edits_it(shared: Small) -> None:
    folder = shared.train(*GATE)
    files = [
        f"data.tests.again.{side}=dev.{end}"
        for side, end in (("source", "conllu"), ("target", "de"))
    ]
    shared.train(*GATE, *files)
    text = (folder / CARD).read_text(encoding="utf-8")
    assert is_unedited(text)
    assert "| again |" in text
    (folder / CARD).unlink()  # a run of an earlier version has none
    shared.train(*GATE)
    assert (folder / CARD).read_text(encoding="utf-8") == text
    edited = text.replace("## Data", "## Our data")
    (folder / CARD).write_text(edited, encoding="utf-8")
    shared.train(*GATE, "tags=[edited]")
    assert (folder / CARD).read_text(encoding="utf-8") == edited


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (["combiner=gate", "control=shuffled"], "Not for translation: a control"),
        (["combiner=gate", "data.objective=denoise"], "It does not translate"),
        (
            ["combiner._target_=examples.product.Product"],
            "needs the class `examples.product.Product`",
        ),
        (["combiner=none"], "plain text, a sentence a line"),
        (["combiner=add", "features=[formality]"], "input=sentences.txt +labels.formality=VALUE"),
        (
            ["combiner=none", *TERMS, "data.terminology.match=lemma"],
            "input=sentences.conllu glossary=glossary.tsv",
        ),
    ],
)
def test_a_card_says_what_the_folder_needs(
    shared: Small, settings: list[str], sentence: str
) -> None:
    record = read_run(shared.train(*GATE))
    cfg = shared.config(*settings, *(["features=[]"] if "combiner=none" in settings else []))
    assert sentence in describe_run(Path("folder"), cfg, record)


def test_a_folder_translates_where_the_corpus_has_never_been(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("HanTa")
    here = tmp_path / "here"
    shutil.copytree(corpus, here / "corpus")
    (here / "vectors.txt").write_text("2 3\nthe 1 2 3\nbank 3 2 1\n", encoding="utf-8")
    training = Small(here / "corpus", here / "cache", here)
    vectors = f"features.vectors.file={here / 'vectors.txt'}"
    tags = "annotator=hanta", "annotator.replace=true"
    run = training.train("combiner=concat", *tags, "features=[upos,vectors]", vectors)
    elsewhere = tmp_path / "elsewhere"
    shutil.move(run, elsewhere / "model")
    shutil.rmtree(here)
    monkeypatch.chdir(elsewhere)
    Path("input.txt").write_text("The bank is closed .\n\nI saw her duck .\n", encoding="utf-8")
    done = call("translate", "run=model", "input=input.txt", "output=output.txt")
    assert (done.code, done.err.count("\n")) == (0, 1)  # most words have no vector
    assert Path("output.txt").read_text(encoding="utf-8").count("\n") == 3
    assert not here.exists()
    assert sorted(path.name for path in elsewhere.iterdir()) == ["input.txt", "model", "output.txt"]


@pytest.mark.thorough
def test_the_cache_and_who_uses_it(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = Small(corpus, tmp_path / "cache", tmp_path)
    gate, words = small.train(*GATE), small.train("combiner=none")
    (tmp_path / "cache" / "prepared-0123456789abcdef.building").mkdir()
    (tmp_path / "cache" / "notes.txt").write_text("mine", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    listed = call("cache")
    rows = {line.split()[0]: line for line in listed.out.splitlines() if line.strip()}
    [used] = [line for line in rows.values() if gate.name in line]
    assert used.startswith(" prepared-")
    shutil.rmtree(gate)
    before = {path.name for path in Path("cache").iterdir()}
    planned = call("cache", "prune", "--dry-run")
    assert {path.name for path in Path("cache").iterdir()} == before
    assert f"would remove cache/{used.split()[0]}" in planned.out
    done = call("cache", "prune")
    assert (done.code, done.err) == (0, "")
    prepared = [path.name for path in Path("cache").glob("prepared-*") if path.is_dir()]
    assert prepared == [f"prepared-{read_run(words).data_hashes['prepared'][:16]}"]
    assert (tmp_path / "cache" / "notes.txt").exists()


@pytest.mark.parametrize(
    "leftover", ["{0}.0123456789abcdef.parts", ".{0}.0123abcd.tmp"], ids=["parts", "file"]
)
def test_annotation_in_progress_is_not_pruned(
    leftover: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process writes it, and would end in an error."""
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    path = Path("cache", "annotation-0123456789abcdef.conllu")
    (part := path.with_name(leftover.format(path.name))).mkdir(parents=True)
    with hold_lock(path, "annotates this text"):
        entries = list_cache(Path("cache"), {})
        (entry,) = (entry for entry in entries if entry.path == part)
        assert entry.is_needless
        assert not remove_entry(entry)
    assert part.exists()
    assert remove_entry(entry)
    assert not part.exists()


def test_a_cache_without_its_runs_is_not_pruned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments, message in ((["prune"], "cache: no such folder"), (["prune"], "--runs")):
        done = call("cache", *arguments)
        assert (done.code, done.err.count("\n")) == (2, 1)
        assert message in done.err
        Path("cache", "prepared-0123456789abcdef").mkdir(parents=True, exist_ok=True)
    done = call("cache", "--dry-run")
    assert (done.code, done.out) == (2, "")
    assert done.err == "error: --dry-run: is for prune: nmt-feat cache prune ...\n"
    assert Path("cache", "prepared-0123456789abcdef").exists()


def test_windows_is_refused_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nmt_feat.cli.main.sys.platform", "win32")
    done = call("report", "runs")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "not on Windows" in done.err
