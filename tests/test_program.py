"""`nmt-feat`: its subcommands, and options in the user's own folder `conf`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nmt_feat.cli import main as program
from nmt_feat.cli.compose import compose_settings
from tests.support.small import ROOT


def run_program(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of `nmt-feat ARGUMENTS`."""
    monkeypatch.setattr(sys, "argv", ["nmt-feat", *arguments])
    code = 0
    try:
        program.main()
    except SystemExit as end:
        code = int(end.code or 0)
    return code, *capsys.readouterr()


def test_subcommands_are_listed_without_pytorch() -> None:
    code = (
        "import sys; sys.argv = ['nmt-feat']; from nmt_feat.cli.main import main; main(); "
        "assert 'torch' not in sys.modules and 'hydra' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    listed = [line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ")]
    assert listed == list(program.SUBCOMMANDS)


WITHOUT_PYTORCH = """
import os, sys
sys.modules["torch"] = None  # so that an import of it fails
from nmt_feat.cli.main import run_subcommand
for line in sys.argv[1:]:
    if not os.fork():
        sys.argv = ["train.py", *line.split()]
        run_subcommand("train")
        sys.exit()
    print(line, os.waitstatus_to_exitcode(os.wait()[1]), file=sys.stderr)
"""
"""Runs train.py with each argument as its command line, in processes that cannot have PyTorch."""


def test_settings_are_composed_without_pytorch() -> None:
    codes = {"--cfg job seed=7": 0, "trainer.threds=1": 2}
    command = [sys.executable, "-c", WITHOUT_PYTORCH, *codes]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    error, *ends = sorted(done.stderr.splitlines(), key=lambda line: not line.startswith("error:"))
    assert error.startswith("error: trainer.threds: no such setting")
    assert ends == [f"{line} {code}" for line, code in codes.items()]
    assert "\nseed: 7\n" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tarin"], "tarin: no such subcommand; did you mean 'train'?"),
        (["combiner=gate"], "combiner=gate: is not a subcommand; begin with one"),
        (["claims", "no-such.json"], "no-such.json: cannot be read"),
        (["train", "combiner=gaet"], "combiner=gaet: no such option; did you mean 'gate'"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, out, err = run_program(monkeypatch, capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1


@pytest.mark.thorough
@pytest.mark.parametrize("name", [n for n in program.SUBCOMMANDS if n != "score-comet"])
def test_each_subcommand_describes_itself(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run_program(monkeypatch, capsys, name, "--help")
    assert (code, err) == (0, "")
    assert name in out


@pytest.mark.thorough
def test_options_of_the_user_s_conf(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They add to the package's options, and take the place of those of the same name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf" / "model").mkdir(parents=True)
    (tmp_path / "conf" / "model" / "mine.yaml").write_text("dim: 24\n")
    assert compose_settings(["model=mine"]).model.dim == 24
    assert compose_settings(["model=tiny"]).model.dim != 16
    assert capsys.readouterr().err == ""
    (tmp_path / "conf" / "model" / "tiny.yaml").write_text("dim: 16\n")
    assert compose_settings(["model=tiny"]).model.dim == 16
    assert "conf/model/tiny.yaml: takes the place of" in capsys.readouterr().err
