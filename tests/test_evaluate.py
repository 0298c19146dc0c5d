"""Finished runs meet new test sets, beams and metrics: as if they had had them from the start."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from sacrebleu.dataset import DATASETS

from nmt_feat.runs.additions import PREPARED_AGAIN
from nmt_feat.runs.stored.locks import lock_of
from nmt_feat.training.loop import Trainer
from tests.support.entry import call
from tests.support.small import Small, record

WORDS = ("combiner=none", "trainer.max_steps=2")
ASKED = ("metrics=[bleu,chrf,ter,chrf++]", "decoding.beam=1")
RESULTS = ("dev", "tests", "files", "counts", "test_hashes")


@pytest.fixture
def no_updates(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(trainer: Trainer) -> None:
        raise AssertionError("an update")

    monkeypatch.setattr(Trainer, "update", refuse)


@pytest.fixture(scope="module")
def trained(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of words only and one with features under a control; tests copy them."""
    small = Small(corpus, corpus.parent / "cache", tmp_path_factory.mktemp("trained"))
    small.train(*WORDS)
    small.train("combiner=add", "trainer.max_steps=2", "control=shuffled")
    return small.folder / "runs"


@pytest.fixture
def runs(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "runs"))


def results(folder: Path) -> dict[str, Any]:
    evaluated = record(folder)
    names = [*evaluated["files"].values(), *evaluated["counts"].values()]
    return {k: evaluated[k] for k in RESULTS} | {n: (folder / n).read_bytes() for n in names}


def more(corpus: Path) -> list[str]:
    """A new test set, named from the current folder."""
    shutil.copy(corpus / "dev.conllu", "new.conllu")
    shutil.copy(corpus / "dev.de", "new.de")
    return ["data.tests.new.source=new.conllu", "data.tests.new.target=new.de"]


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="needs a device that is absent")
def test_a_device_that_is_not_here(
    runs: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for a run that was trained with trainer.accelerator=cuda, on a laptop."""
    monkeypatch.chdir(tmp_path)
    done = call("evaluate", f"run={runs}", "accelerator=mps", *more(corpus))
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "trainer.accelerator=mps: is not available on this machine" in done.err
    assert "nmt-feat evaluate run=FOLDER accelerator=auto" in done.err
    folders = [folder for folder in runs.iterdir() if folder.is_dir()]
    assert not any("new" in record(folder)["tests"] for folder in folders)


def test_equal_to_training_with_it_from_the_start(
    runs: Path, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tests = more(small.corpus)
    listed = [t.replace("=new", f"={tmp_path}/new") for t in tests]
    with small.elsewhere("whole") as twin:
        whole = twin.train(
            "combiner=add", "trainer.max_steps=2", "control=shuffled", *listed, *ASKED
        )
    before = {path: path.read_bytes() for path in runs.glob("*/model.safetensors")}
    monkeypatch.setattr(Trainer, "update", None)
    done = call("evaluate", f"run={runs}", *tests, *ASKED)
    assert done.code == 0, done.err
    assert "2 of 2 done" in done.out
    assert f"\n{PREPARED_AGAIN}\nreading the corpus\ntraining the subword model\n" in done.out
    assert "new chrF++" in done.out
    assert results(runs / whole.name) == results(whole)
    assert {path: path.read_bytes() for path in runs.glob("*/model.safetensors")} == before
    contents = {path: path.read_bytes() for path in runs.glob("*/result.json")}
    again = call("evaluate", f"run={runs}/*", *tests, *ASKED)
    assert again.code == 0, again.err
    assert "translating" not in again.out
    assert {path: path.read_bytes() for path in runs.glob("*/result.json")} == contents


def test_another_beam_stands_beside_the_run_s_own(
    runs: Path, small: Small, tmp_path: Path, no_updates: None
) -> None:
    [words] = runs.glob("none*")
    done = call("evaluate", f"run={runs}/none*", "decoding.beam=3")
    assert done.code == 0, done.err
    assert "translating dev, test by decoding.beam=3" in done.out
    assert PREPARED_AGAIN not in done.out  # the data of training is in the cache
    evaluated = record(words)
    assert [(r["name"], r["decoding"]["beam"]) for r in evaluated["further"]] == [
        ("dev", 3),
        ("test", 3),
    ]
    out = tmp_path / "report"
    assert call("report", words, "--out", out).code == 0
    [row] = json.loads((out / "table.json").read_text())["rows"]
    assert row["runs"][0]["test chrF"] == evaluated["tests"]["test"]["chrf"]
    assert call("report", runs, "--out", out, "--beam", 3).code == 0
    table = json.loads((out / "table.json").read_text())
    [row] = table["rows"]
    assert row["runs"][0]["test chrF"] == evaluated["further"][1]["scores"]["chrf"]
    assert any(note.startswith("Without results of beam 3: add-") for note in table["notes"])
    assert call("report", runs, "--beam", 7).err.startswith("error: --beam=7: no run here")


@pytest.mark.thorough
def test_a_public_set(
    runs: Path, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_updates: None
) -> None:
    """In sacreBLEU's cache, which is made here; nothing is fetched."""
    dataset = DATASETS["wmt16"]
    monkeypatch.setattr(dataset, "_outdir", str(tmp_path / "wmt16"))
    monkeypatch.setattr(dataset, "_rawdir", str(tmp_path / "wmt16" / "raw"))

    def no_network(*args: object, **kwargs: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("sacrebleu.dataset.base.download_file", no_network)
    asked = (f"run={runs}/none*", "data.tests.wmt16=sacrebleu:wmt16")
    done = call("evaluate", *asked)
    assert done.code == 2
    assert (
        "data.tests.wmt16.source=sacrebleu:wmt16: sacreBLEU cannot fetch it (no network)"
        in done.err
    )
    assert done.err.count("\n") == 1
    (tmp_path / "wmt16").mkdir(exist_ok=True)
    lines = (small.corpus / "dev.conllu").read_text().splitlines()
    source = [line.removeprefix("# text = ") for line in lines if line.startswith("# text = ")]
    for field in dataset.fieldnames("en-de"):
        Path(dataset._get_txt_file_path("en-de", field)).write_text("\n".join([*source, ""]))
    target = Path(dataset._get_txt_file_path("en-de", "ref"))
    shutil.copy(small.corpus / "dev.de", target)
    done = call("evaluate", *asked)
    assert done.code == 0, done.err
    [words] = runs.glob("none*")
    assert (words / "wmt16.hyp").read_bytes() == (words / "dev.hyp").read_bytes()
    evaluated = record(words)
    assert evaluated["tests"]["wmt16"]["chrf"] == evaluated["dev"]["chrf"]


def test_a_run_that_another_process_has_comes_last(
    runs: Path, small: Small, monkeypatch: pytest.MonkeyPatch, no_updates: None
) -> None:
    from nmt_feat.config.evaluate_schema import EvaluateConfig
    from nmt_feat.runs.finished_runs import evaluate_runs, find_finished_runs

    first, second = find_finished_runs(str(runs))
    lock = lock_of(first)
    lock.acquire()
    done = evaluate_runs([first, second], EvaluateConfig())
    assert next(done)[1] == second
    lock.release()
    assert [folder for _, folder in done] == [first]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["run=nowhere"],
            "run=nowhere: no such folder; give a run, a folder of runs, or a pattern",
        ),
        (["data.tests.a.source=x", "data.tests.a.target=y"], "data.tests.a.source=x: no such file"),
        (["data.tests.a=sacrebleu:wmt61"], "unknown to sacreBLEU; did you mean 'wmt"),
        (["data.tests.a=sacrebleu:mtedx/test"], "sacreBLEU does not have it for en-de"),
        (["data.tests.a.source=x"], "to add one, give both"),
        (["metrics=[blue]"], "metrics=blue: no such option"),
        (["decoding.beam=0"], "decoding.beam=0: must be 1 to 1000"),
        (["threads=100000"], "threads=100000: must be 0 to 1024"),
        (["decoding.nbest=2"], "decoding.nbest=2 is above decoding.beam=1"),
        (["decoding.stop=soon"], "decoding.stop=soon: unknown; known: likely, proven"),
        (["seed=2"], "seed: no such setting"),
    ],
)
def test_what_is_refused(runs: Path, arguments: list[str], message: str) -> None:
    if not arguments[0].startswith("run="):
        arguments = [f"run={runs}/none*", *arguments]
    done = call("evaluate", *arguments)
    assert done.code == 2
    assert message in done.err
    assert done.err.count("\n") == 1


def test_another_training_text_is_refused(trained: Path, small: Small, tmp_path: Path) -> None:
    with small.elsewhere("moved") as twin:
        twin.corpus = Path(shutil.copytree(small.corpus, tmp_path / "corpus"))
        folder = twin.train(*WORDS)
        text = twin.corpus / "train.de"
        text.write_text(text.read_text().replace(".", "!", 1))
        done = call("evaluate", f"run={folder}", "decoding.beam=2")
    assert done.code == 2
    assert "its training text, or what annotates it, is not here as it was" in done.err
