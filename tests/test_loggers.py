"""Loggers get a training's numbers, change nothing of it, and cannot end it."""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from nmt_feat.cli.compose import compose_settings as command
from nmt_feat.config.schema import LoggerConfig
from nmt_feat.errors import UserError
from nmt_feat.runs.loggers import CSV, Logger, Loggers, make_loggers
from nmt_feat.runs.run import run_training
from nmt_feat.runs.setup.identity import identity_settings
from tests.support.entry import call
from tests.support.small import Small, composed, outcome, record
from tests.support.sweeps import sweep, tables

EVERY = ("combiner=add", "trainer.log_every=2", "trainer.max_steps=4")
BROKEN = """
from nmt_feat.training.loggers import Logger

class Fails(Logger):
    def __init__(self, at="log"):
        self.at = at

    def open(self, folder):
        self.meet("open")

    def log(self, values, step):
        self.meet("log")

    def close(self):
        self.meet("close")

    def meet(self, what):
        if what == self.at:
            raise OSError("no space\\nleft")
"""


def lines(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.thorough
def test_files_have_the_training_s_numbers_and_the_result_is_the_same(small: Small) -> None:
    accumulators = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="needs tensorboard"
    )
    with small.elsewhere("plain") as plain:
        expected = plain.train(*EVERY)
    folder = small.train(*EVERY, "logger=[csv,tensorboard]")
    assert outcome(folder) == outcome(expected)
    assert not (expected / "csv").exists()
    result = lines(folder / "csv" / "version_0" / "metrics.csv")
    curve = {point["step"]: point["bleu"] for point in record(folder)["curve"]}
    bleu = {int(row["step"]): float(row["dev/bleu"]) for row in result if row["dev/bleu"]}
    assert bleu == pytest.approx(curve)
    losses = {int(row["step"]): float(row["train/loss"]) for row in result if row["train/loss"]}
    assert list(losses) == [2, 4]
    events = accumulators.EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    scalars = {e.step: e.value for e in events.Scalars("train/loss")}
    assert scalars == pytest.approx(losses, rel=1e-6)
    assert {e.step: e.value for e in events.Scalars("dev/bleu")} == pytest.approx(bleu, rel=1e-6)


@pytest.mark.thorough
def test_training_goes_on_without_a_logger_that_fails(
    small: Small,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "broken_logger.py").write_text(BROKEN, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    cfg = small.config(*EVERY, "logger=csv")
    cfg.logger["mine"] = LoggerConfig("broken_logger.Fails")
    folder = run_training(cfg).folder
    out = " ".join(capsys.readouterr().out.split())
    assert out.count("logger=mine failed (OSError: no space); training goes on without it") == 1
    assert record(folder)["dev"] is not None
    assert len(lines(folder / "csv" / "version_0" / "metrics.csv")) == 4


class Kept(Logger):
    """Keeps what it gets; fails where it is told."""

    def __init__(self, fails: str = "") -> None:
        self.fails, self.calls = fails, list[str]()

    def called(self, name: str) -> None:
        self.calls.append(name)
        if name == self.fails:
            sys.exit(3)  # some packages do

    def open(self, folder: Path) -> None:
        self.called("open")

    def log(self, values: Mapping[str, float], step: int) -> None:
        self.called("log")

    def close(self) -> None:
        self.called("close")


@pytest.mark.parametrize("fails", ["open", "log", "close"])
def test_one_that_fails_is_said_once(fails: str, tmp_path: Path) -> None:
    messages: list[str] = []
    whole, broken = Kept(), Kept(fails)
    loggers = Loggers({"broken": broken, "whole": whole}, tmp_path, messages.append)
    for step in (1, 2):
        loggers.log({"loss": 1.0}, step)
    loggers.close()
    loggers.close()
    assert messages == ["logger=broken failed (SystemExit: 3); training goes on without it"]
    assert whole.calls == ["open", "log", "log", "close"]
    assert broken.calls.count(fails) == 1
    assert broken.calls[-1] == fails


def test_each_start_has_its_own_file(tmp_path: Path) -> None:
    for value in (1.0, 2.0):
        logger = CSV()
        logger.open(tmp_path)
        logger.log({"loss": value}, 7)
        logger.close()
    result = [lines(tmp_path / "csv" / f"version_{i}" / "metrics.csv") for i in (0, 1)]
    assert result == [[{"loss": "1.0", "step": "7"}], [{"loss": "2.0", "step": "7"}]]


def test_settings_do_not_name_another_run() -> None:
    plain, logged = composed(()), command(["logger=[csv,wandb]", "logger.wandb.args.mode=offline"])
    assert list(logged.logger) == ["csv", "wandb"]
    assert identity_settings(plain, "data") == identity_settings(logged, "data")


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ["logger=wandb", "logger.wandb.args.mode=of"],
            "logger.wandb.args.mode=of: unknown; known: offline, online",
        ),
        (
            ["logger=csv", "+logger.csv.args.flush=1"],
            "nmt_feat.runs.loggers.CSV takes no argument 'flush'; .*",
        ),
        (
            ["logger=csv", "logger.csv._target_=nmt_feat.combiners.Add"],
            "_target_=nmt_feat.combiners.Add: must be derived from nmt_feat.runs.loggers.Logger",
        ),
    ],
)
def test_wrong_settings(settings: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        make_loggers(command(settings).logger)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow"])
def test_a_missing_package(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, small: Small
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    done = call("train", *small.overrides(f"logger={name}"))
    assert done.code == 2
    expected = f"logger={name} needs the package {name}: pip install 'nmt_feat[{name}]'"
    assert expected in " ".join(done.err.split())


@pytest.mark.slow
def test_wandb_offline(tmp_path: Path) -> None:
    """What it writes is kept in the run's folder, and sent nowhere."""
    pytest.importorskip("wandb", reason="needs wandb")
    messages: list[str] = []
    folder = tmp_path / "add-upos-s1"
    folder.mkdir()
    configs = command(["logger=wandb", "logger.wandb.args.mode=offline"]).logger
    loggers = Loggers(make_loggers(configs), folder, messages.append)
    loggers.log({"train/loss": 1.5}, 2)
    loggers.close()
    assert messages == []
    [offline_run] = (folder / "wandb").glob("offline-run-*/*.wandb")
    deadline = time.monotonic() + 30  # its own process writes
    while b"train/loss" not in offline_run.read_bytes() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert b"train/loss" in offline_run.read_bytes()


def test_mlflow_in_a_folder(tmp_path: Path) -> None:
    """Without a server; training that is resumed continues its run."""
    mlflow = pytest.importorskip("mlflow", reason="needs mlflow")
    messages: list[str] = []
    folder = tmp_path / "add-upos-s1"
    folder.mkdir()
    for step in (2, 4):
        loggers = make_loggers(command(["logger=mlflow"]).logger)
        logger = Loggers(loggers, folder, messages.append, "first try", ["draft"])
        logger.log({"train/loss": 1.5}, step)
        logger.close()
    assert messages == []
    client = mlflow.MlflowClient(tracking_uri=(tmp_path / "mlruns").as_uri())
    [run] = client.search_runs([client.get_experiment_by_name("nmt_feat").experiment_id])
    assert (run.info.run_name, run.info.status, run.data.tags["draft"]) == (
        *("first try", "FINISHED", ""),
    )
    steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "train/loss")]
    assert steps == [2, 4]
    report = tmp_path / "table.md"
    report.write_text("| a |", encoding="utf-8")
    loggers["mlflow"].log_report(tmp_path, "sweep-1", [report])
    runs = client.search_runs([run.info.experiment_id], "tags.`nmt_feat.folder` = 'sweep-1'")
    assert [a.path for a in client.list_artifacts(runs[0].info.run_id)] == ["table.md"]


@pytest.mark.slow
def test_a_sweep_logs_its_report(small: Small) -> None:
    pytest.importorskip("tensorboard")
    code, out = sweep(small, *EVERY[1:], "combiner=none,add", "logger=[csv,tensorboard]")
    assert code == 0, out
    [folder] = tables(small)
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulators.EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    assert "table/text_summary" in events.Tags()["tensors"]
    assert (folder / "report.html").exists()
    images = events.Tags()["images"]
    assert images
    assert set(images) == {path.stem for path in folder.glob("*.png")}
