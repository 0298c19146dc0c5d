"""A run: found again or refused, its folder, its record."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
from filelock import FileLock
from rich.console import Console

from nmt_feat.base.checksums import hash_json
from nmt_feat.cli.sweep import current
from nmt_feat.config.identity import folder_name
from nmt_feat.config.instantiate import module_sum
from nmt_feat.data.identity import hash_data
from nmt_feat.data.store import EncodedSplit
from nmt_feat.decoding.search import Hypothesis
from nmt_feat.errors import UserError
from nmt_feat.evaluation import test_sets as testing
from nmt_feat.runs import run
from nmt_feat.runs.additions import PREPARED_AGAIN
from nmt_feat.runs.progress import Progress
from nmt_feat.runs.run import run_training
from nmt_feat.runs.setup.identity import identity_settings
from nmt_feat.runs.setup.resolve import resolve_settings
from nmt_feat.runs.stored.records import read_record
from nmt_feat.training.loop import Trainer
from tests.support.entry import call
from tests.support.lives import SERVER, python
from tests.support.lives import command as started
from tests.support.small import Small, outcome, record


@pytest.fixture(scope="module")
def made(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Small, Path]:
    """A finished run."""
    small = Small(corpus, corpus.parent / "cache", tmp_path_factory.mktemp("made"))
    settings = ("combiner=gate", "decoding.beam=3", "decoding.nbest=2", "features=[upos,deprel]")
    return small, small.train(*settings)


def test_its_folder(made: tuple[Small, Path]) -> None:
    small, folder = made
    run_record = record(folder)
    assert folder.parent == small.folder / "runs"
    assert folder.name == f"gate-deprel+upos-s1-{run_record['hash'][:8]}"
    assert {path.name for path in folder.iterdir()} == {
        "README.md",
        "SHA256SUMS",
        "config.yaml",
        "dev.counts.parquet",
        "dev.hyp",
        "dev.nbest.hyp",
        "encoder",
        "model.safetensors",
        "result.json",
        "run.json",
        "test.counts.parquet",
        "test.hyp",
        "test.nbest.hyp",
    }
    lines = (folder / "test.nbest.hyp").read_text(encoding="utf-8").splitlines()
    best = (folder / "test.hyp").read_text(encoding="utf-8").splitlines()
    assert [line.split(" ||| ")[0] for line in lines] == [str(i // 2) for i in range(16)]
    assert [line.split(" ||| ")[1] for line in lines[::2]] == best
    scores = [float(line.split(" ||| ")[2]) for line in lines]
    assert all(a >= b for a, b in zip(scores[::2], scores[1::2], strict=True))


def test_its_record(made: tuple[Small, Path]) -> None:
    small, folder = made
    run_record = record(folder)
    assert run_record["method"] == "gate"
    assert run_record["features"] == ["deprel", "upos"]
    assert (run_record["seed"], run_record["data"], run_record["updates"]) == (1, "embedded", 6)
    assert run_record["config"]["paths"]["runs"] == str(small.folder / "runs")
    assert run_record["config"]["model"]["dim"] == 16
    assert run_record["hash"] == hash_json(run_record["settings"])
    assert run_record["settings"]["data"]["hash"] != run_record["data_hashes"]["prepared"]
    assert len(run_record["data_hashes"]["prepared"]) == 64
    assert str(small.folder) not in json.dumps(run_record["settings"])
    assert run_record["code"].keys() >= {"version"}
    assert {"python", "torch", "numpy", "sacrebleu", "sentencepiece"} <= run_record[
        "libraries"
    ].keys()
    assert run_record["machine"]["threads"] == 1
    # tables, Transformer, gate: counted by hand in test_build
    assert run_record["parameters"]["combiner"] == 3 * 16 * 2 * 16 + 2 * 16
    assert run_record["parameters"]["features"] % 16 == 0
    assert run_record["parameters"]["total"] > sum(run_record["parameters"].values()) / 2
    assert [point["step"] for point in run_record["curve"]] == [2, 4, 6]
    assert all(point["loss"] > 0 and point["bleu"] >= 0 for point in run_record["curve"])
    assert 0 < run_record["train_seconds"] < run_record["seconds"] < 60
    assert run_record["tokens_per_second"] > 0
    assert run_record["peak_memory_mib"] > 50
    assert run_record["selected"] == f"best of updates {run_record['selected_step']}"
    assert run_record["files"] == {"dev": "dev.hyp", "test": "test.hyp"}
    for scores in (run_record["dev"], run_record["tests"]["test"]):
        assert "tok:13a" in scores["bleu_signature"]
        assert "nc:6" in scores["chrf_signature"]
        assert scores["sentences"] == 8
    assert run_record["tests"]["test"]["reading"]["readings"] > 0
    assert json.loads((folder / "run.json").read_text())["dev"] is None


@pytest.mark.parametrize("tokenized", [False, True])
def test_bleu_is_sacrebleus(small: Small, monkeypatch: pytest.MonkeyPatch, tokenized: bool) -> None:
    """The command line's on the written files, to the last digit; translations are half right."""

    def half_right(
        model: object, split: EncodedSplit, *_: object, **__: object
    ) -> list[list[Hypothesis]]:
        targets = [split.target.row(i)[:-1] for i in range(len(split))]
        return [[Hypothesis([p for p in t if p % 7], 0.0, 0.0)] for t in targets]

    monkeypatch.setattr(testing, "translate_split", half_right)
    folder = small.train(f"data.tokenized={tokenized}", "trainer.max_steps=2")
    run_record = record(folder)
    options = " --tokenize none --lowercase --chrf-lowercase" if tokenized else ""
    for name, mine in (("dev", run_record["dev"]), ("test", run_record["tests"]["test"])):
        files = f"{small.corpus}/{name}.de -i {folder}/{name}.hyp"
        command = f"-m sacrebleu {files} -m bleu chrf ter -w 14 --force{options}"
        done = python(*command.split())
        bleu, chrf, ter = json.loads(done.stdout)
        assert 10 < bleu["score"] < 90
        assert bleu["score"] == pytest.approx(mine["bleu"], abs=1e-12)
        assert chrf["score"] == pytest.approx(mine["chrf"], abs=1e-12)
        assert ter["score"] == pytest.approx(mine["ter"], abs=1e-12)
        assert bleu["signature"] == mine["bleu_signature"]
        assert chrf["signature"] == mine["chrf_signature"]
        assert ter["signature"] == mine["ter_signature"]
        assert mine["sentences"] == 8


def test_found_again(
    made: tuple[Small, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is trained; neither order of features nor what is shown, or where, matters."""
    small, folder = made
    before = (folder / "result.json").stat().st_mtime_ns
    monkeypatch.setattr(run, "train_new_run", lambda *args: pytest.fail("trained again"))
    settings = ["combiner=gate", "decoding.beam=3", "decoding.nbest=2"]
    for more in (
        ["features=[upos,deprel]"],
        ["features=[deprel,upos]", "trainer.log_every=1"],
        ["features=[deprel,upos]", "trainer.progress=false", "annotator.processes=1"],
    ):
        assert small.train(*settings, *more) == folder
        assert f"finished before: {folder}" in capsys.readouterr().out.replace("\n", "")
        assert not current.trained
    assert (folder / "result.json").stat().st_mtime_ns == before


@pytest.mark.thorough
def test_readings_of_a_finished_run(small: Small, capsys: pytest.CaptureFixture[str]) -> None:
    """They make no other run, so they are added to the one there is, and stay."""
    settings = ("combiner=add", "trainer.max_steps=2")
    folder = small.train(*settings, "data.readings=false")
    assert record(folder)["tests"]["test"]["reading"] is None
    hypotheses = folder / "test.hyp"
    lines = hypotheses.read_bytes()
    hypotheses.unlink()
    assert small.train(*settings) == folder
    assert record(folder)["tests"]["test"]["reading"] is None
    assert "without reading accuracy, because test.hyp is missing\n" in capsys.readouterr().out
    hypotheses.write_bytes(lines)
    assert small.train(*settings, f"paths.cache={small.folder / 'new-cache'}") == folder
    out = capsys.readouterr().out
    assert f"{PREPARED_AGAIN}\n" in out
    assert f"{folder}: reading accuracy added\n" in out
    assert not current.trained
    run_record = record(folder)
    assert small.train(*settings, "data.readings=false") == folder
    assert record(folder) == run_record
    with small.elsewhere("other") as twin:
        whole = outcome(twin.train(*settings))
    assert whole["tests"]["test"]["reading"]["readings"] > 0
    assert outcome(folder) == whole
    assert run_record["config"]["data"]["readings"]


def test_what_makes_another_run(small: Small) -> None:
    """Each of these settings gives a folder of its own; none of those changes it."""
    base = resolve_settings(small.config("combiner=gate"), False, Console())
    settings = identity_settings(base, "hash of the data")
    name = folder_name(base, settings)
    assert name.startswith("gate-deprel+upos-s1-")
    names = {name, folder_name(base, identity_settings(base, "other data"))}
    for group, values in {
        "model": {"dim": 32, "dropout": 0.2, "tie": "all", "embedding_std": 0.5},
        "optimizer": {"lr": 0.1, "schedule": "linear", "warmup": 5, "betas": [0.9, 0.999]},
        "trainer": {"max_steps": 7, "accumulate": 2, "threads": 2, "devices": 2, "patience": 1},
        "combiner": {"bias": 1.0},
    }.items():
        for key, value in values.items():  # type: ignore[attr-defined]
            part = replace(getattr(base, group), **{key: value})
            changed = replace(base, **{group: part})
            names.add(folder_name(changed, identity_settings(changed, "hash of the data")))
    second = replace(base, seed=2)
    names.add(folder_name(second, identity_settings(second, "hash of the data")))
    assert len(names) == 17
    moved = replace(base, paths=replace(base.paths, runs="elsewhere", cache="there"))
    moved = replace(moved, trainer=replace(base.trainer, log_every=3, progress=False))
    moved = replace(moved, data=replace(base.data, folder="/nowhere"))
    moved = replace(moved, decoding=replace(base.decoding, beam=2, length_penalty=0.5))
    moved = replace(moved, trainer=replace(moved.trainer, average=2))  # of the other `select`
    assert identity_settings(moved, "hash of the data") == settings


@pytest.mark.thorough
def test_code_of_ones_own(small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file of a class of one's own, or of what it is derived from, makes another run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    (tmp_path / "own_base.py").write_text(
        "from nmt_feat.combiners import Add\nclass Base(Add): pass\n"
    )
    (tmp_path / "own_film.py").write_text("from own_base import Base\nclass FiLM(Base): pass\n")
    (tmp_path / "own_adam.py").write_text("from torch.optim import Adam\nclass A(Adam): pass\n")
    (tmp_path / "own_table.py").write_text(
        "from nmt_feat.features import Categorical\nclass Table(Categorical): pass\n"
    )
    films = "combiner._target_=own_film.FiLM"
    mixed = ("combiner=mixed", "+combiner.args.methods.upos=own_film.FiLM")
    wide = "combiner.args.wide=own_film.FiLM"

    def name(*more: str) -> str:
        for module in [module for module in sys.modules if module.startswith("own_")]:
            del sys.modules[module]  # as in another process
        module_sum.cache_clear()
        cfg = resolve_settings(small.config(*more), False, Console())
        return folder_name(cfg, identity_settings(cfg, "hash of the data"))

    for file, more in (
        ("own_film.py", (films,)),
        ("own_base.py", (films,)),
        ("own_film.py", mixed),
        ("own_film.py", ("combiner=mixed", "features=[lemma,upos]", wide)),
        ("own_adam.py", ("optimizer._target_=own_adam.A",)),
        ("own_table.py", ("combiner=add", "features.upos._target_=own_table.Table")),
    ):
        before = name(*more)
        assert name(*more) == before
        with (tmp_path / file).open("a") as opened:
            opened.write("EDITED = True\n")
        assert name(*more) != before
    plain = resolve_settings(small.config("combiner=gate"), False, Console())
    assert "'code'" not in str(identity_settings(plain, "hash of the data"))


def test_a_warm_up_that_does_not_end(small: Small, capsys: pytest.CaptureFixture[str]) -> None:
    """Short trials are trained with less than the learning rate, and should know."""
    message = (
        "optimizer.warmup=24 is longer than trainer.max_steps=6: the learning rate ends at 25% of "
        "optimizer.lr"
    )
    for warmup, expected in ((6, False), (24, True)):
        resolve_settings(small.config(f"optimizer.warmup={warmup}"), False, Console(width=200))
        assert (message in capsys.readouterr().out) == expected


@pytest.mark.thorough
def test_words_only(small: Small, capsys: pytest.CaptureFixture[str]) -> None:
    folder = small.train("combiner=none")
    assert folder.name.startswith("none-s1-")
    assert "combiner=none: words only, without deprel, upos" in capsys.readouterr().out
    assert record(folder)["features"] == []
    assert record(folder)["parameters"]["combiner"] == 0
    assert small.train("combiner=none", "features=[]") == folder


def test_no_features_for_a_combiner(small: Small) -> None:
    with pytest.raises(UserError) as error:
        small.train("combiner=gate", "features=[]")
    assert str(error.value) == (
        "features=[]: the combiner has nothing to merge; choose features, for instance "
        "features=[upos,deprel], or combiner=none"
    )


@pytest.mark.thorough
def test_a_run_in_use(small: Small) -> None:
    cfg = resolve_settings(small.config(), False, Console())
    data = hash_data(cfg, cfg.features)
    name = folder_name(cfg, identity_settings(cfg, data.training))
    runs = small.folder / "runs"
    runs.mkdir()
    with FileLock(runs / f".{name}.lock"):
        process = SERVER.Process(target=started, args=(small.overrides(), small.folder))
        process.start()
        process.join(60)
    out = (small.folder / "out").read_text()
    assert process.exitcode == 2, out
    expected = f"error: {runs / name}: another process is training this run; wait for it"
    assert out.splitlines()[-1] == expected
    assert not (runs / name).exists()


@pytest.mark.thorough
def test_a_damaged_result(small: Small, made: tuple[Small, Path]) -> None:
    folder = small.train()
    good = outcome(folder)
    path = folder / "result.json"
    for text, description in (
        ("", "not readable as JSON (Expecting value: line 1 column 1 (char 0))"),
        ("[]", "not the record of a run (the file is [], not RunRecord)"),
    ):
        path.write_text(text)
        with pytest.raises(UserError) as error:
            small.train()
        message = f"{path}: {description}; train the run again after deleting {folder}"
        assert str(error.value) == message
    for file in sorted(folder.rglob("*"), reverse=True):
        file.unlink() if file.is_file() else file.rmdir()
    assert outcome(small.train()) == good


def test_what_train_returns(small: Small) -> None:
    """The dev BLEU, which a sweeper may optimise, is the record's."""
    run = run_training(small.config("combiner=add"))
    assert run.record.dev is not None
    assert run.record.dev.bleu == record(run.folder)["dev"]["bleu"]
    assert run.record == read_record(run.folder / "result.json")


@pytest.mark.thorough
def test_one_run_of_a_table_is_said(small: Small) -> None:
    """Who forgets -m with an experiment has one run."""
    message = "one run of experiment=four_methods; for its table, over seed, put -m before it\n"
    table = ("experiment=four_methods", "combiner=none")
    assert call("train", *small.overrides(*table)).out.startswith(message)
    assert message[:10] not in call("train", *small.overrides(*table, "seed=1")).out


def faulty(overrides: list[str], folder: Path) -> None:
    """`python train.py` whose training fails."""

    def update(*_: object) -> None:
        raise ZeroDivisionError("as a test")

    with mock.patch.object(Trainer, "update", update):
        started(overrides, folder)


def test_a_validation_before_the_first_line_of_the_log(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """No speed is known yet."""
    progress = Progress(Console(width=200), bar=False)
    progress.show_validation(10, 1.25, 9.5, 2.0)
    progress.show_update(20, 2.0, 1234.0)
    progress.show_validation(20, 2.25, 8.5, 2.0)
    assert capsys.readouterr().out.splitlines() == [
        "step 10: loss 2.000, dev perplexity per piece 9.50, dev BLEU 1.2",
        "step 20: loss 2.000, dev perplexity per piece 8.50, dev BLEU 2.2, 1,234 tokens/s",
    ]


def test_an_override_that_deletes_before_an_option() -> None:
    """Settings go to the end of the command line, those with a ~ as the others."""
    done = call("train", "combiner=gate", "~features.deprel", "--cfg", "job")
    assert (done.code, done.err) == (0, "")
    assert "upos:" in done.out
    assert "deprel:" not in done.out


def test_a_file_of_all_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By --config-name: one that builds on train.yaml, and others."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("defaults: [train, _self_]\ntrainer: {max_steps: 0}\n")
    (tmp_path / "bare.yaml").write_text("trainer: {max_steps: 0}\n")
    done = call("train", "--config-dir=.", "--config-name=mine")
    assert (done.code, done.err) == (2, "error: trainer.max_steps=0: must be at least 1\n")
    expected = (
        "error: --config-name: the file does not have the settings of train.py; begin it with "
        "defaults: [train, _self_]\n"
    )
    for arguments in (["--config-dir=.", "--config-name=bare"], ["--config-name=score"]):
        done = call("train", *arguments)
        assert (done.code, done.err) == (2, expected)


@pytest.mark.thorough
def test_a_defect_keeps_its_traceback(small: Small) -> None:
    """No mistake of the user's."""
    process = SERVER.Process(target=faulty, args=(small.overrides(), small.folder))
    process.start()
    process.join(60)
    out = (small.folder / "out").read_text()
    assert process.exitcode == 1, out
    assert "Traceback" in out
    assert "ZeroDivisionError: as a test" in out
