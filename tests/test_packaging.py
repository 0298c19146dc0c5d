"""The wheel, away from the checkout: it has its configs and its corpus with it."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

pytest.importorskip("hatchling", reason="building needs the dev dependencies")

ROOT = Path(__file__).resolve().parent.parent
LIMITS = (
    "data.limit=200 trainer.max_steps=2 trainer.validate_every=2 trainer.threads=1 "
    "model.dim=32 model.ffn_dim=32 model.encoder_layers=1 model.decoder_layers=1 "
    "decoding=greedy decoding.max_ratio=0.1 decoding.max_extra=2"
)


def call(*command: str, cwd: Path, path: str = "") -> str:
    """What `command` prints; `path` is the only place, beside the dependencies', to import from."""
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built without a network, on a machine that has paths of its own."""
    folder, checkout = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("checkout")
    for name in ("nmt_feat", "conf", "data"):
        shutil.copytree(ROOT / name, checkout / name)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, checkout)
    (checkout / "conf" / "local").mkdir(exist_ok=True)
    (checkout / "conf" / "local" / "default.yaml").write_text("cache: /secret\n")
    call(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder), cwd=checkout)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel installed, and its console scripts in `bin`."""
    folder = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet"]
    call(*pip, "--target", str(folder), str(wheel), cwd=folder)
    return folder


def test_content(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for path in ROOT.glob("conf/**/*.yaml"):
        assert path.parent.name == "local" or f"nmt_feat/{path.relative_to(ROOT)}" in names
    assert not any("conf/local" in name for name in names)
    for path in (ROOT / "data").glob("embedded*/*"):
        assert f"nmt_feat/{path.relative_to(ROOT)}" in names
    for name in ("page.html", "page.css", "page.js"):
        assert f"nmt_feat/analysis/static/{name}" in names
    for name in ("py.typed", "annotators/hanta_tags.json", "annotators/jieba_tags.json"):
        assert f"nmt_feat/{name}" in names
    tops = {name.split("/")[0] for name in names}
    assert {top.split("-")[0] for top in tops} == {"nmt_feat"}
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    assert not any("__pycache__" in name for name in names)


FORKS = """
import glob, json, os, runpy, sys
import nmt_feat.cli.train_job, nmt_feat.cli.report, nmt_feat.cli.claims, nmt_feat.runs.trained.model
from nmt_feat.config.identity import VALIDATION

VALIDATION.max_ratio, VALIDATION.max_extra = 0.1, 2
for number, command in enumerate(json.load(sys.stdin)):
    if not (child := os.fork()):
        for descriptor, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{number}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
        run = next(iter(glob.glob("runs/concat-*")), "")
        sys.argv = [word.replace("RUN", run) for word in command]
        runpy.run_path(command[0], run_name="__main__")
        sys.exit()
    if code := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        sys.exit(f"{command}: {code}\\n" + open(f"{number}.err").read())
print(nmt_feat.__file__)
"""
"""Runs console scripts one after another; PyTorch is imported once for all of them. RUN is the run
of `combiner=concat`, and translations of validations are short."""


def write_user_files(folder: Path) -> None:
    """Three sentences, and an option and a class of the user's own."""
    embedded = ROOT / "data" / "embedded"
    blocks = (embedded / "test.conllu").read_text(encoding="utf-8").split("\n\n")[:3]
    (folder / "some.conllu").write_text("\n\n".join([*blocks, ""]), encoding="utf-8")
    targets = (embedded / "test.de").read_text(encoding="utf-8").splitlines()[:3]
    (folder / "some.de").write_text("".join(f"{line}\n" for line in targets), encoding="utf-8")
    (folder / "text.txt").write_text("Der Hund schläft.\n", encoding="utf-8")
    (folder / "mine.py").write_text((ROOT / "examples" / "film.py").read_text(encoding="utf-8"))
    (folder / "conf" / "combiner").mkdir(parents=True)
    (folder / "conf" / "combiner" / "film.yaml").write_text("_target_: mine.FiLM\n")


def run_scripts(installed: Path, folder: Path, commands: list[list[str]]) -> list[str]:
    """What console scripts of the wheel print, each started in a folder; they must succeed."""
    done = subprocess.run(
        [sys.executable, "-c", FORKS],
        input=json.dumps([[str(installed / "bin" / name), *rest] for name, *rest in commands]),
        env=os.environ | {"PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"},
        **{"cwd": folder, "capture_output": True, "text": True, "timeout": 500},
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.splitlines()[-1]).is_relative_to(installed)
    return [(folder / f"{number}.out").read_text("utf-8") for number in range(len(commands))]


TRAIN = [
    f"nmt-feat train combiner=film {LIMITS}",
    f"nmt-feat train combiner=concat features=[upos] {LIMITS}",
]
COMMANDS = {
    "translate run=RUN input=some.conllu": "",
    "score run=RUN source=some.conllu target=some.de": "",
    "report runs --out report": "concat",
    "claims report/table.json": "table.json",
    f"inspect features=[upos] {LIMITS}": "upos",
    "reliance RUN --source some.conllu --target some.de --draws 1": "shuffled",
    "contrast RUN": "readings",
    "convert some.conllu some.jsonl": "sentences",
    "annotate text.txt text.conllu annotator=hanta data.source_lang=de annotator.processes=1": "1",
    "train-vectors vectors --dim 8": "words",
    "export RUN": "written to",
    "glossary text.txt text.txt --out terms.tsv --skip 0 --min-count 1": "terms",
    "score-comet --help": "--model",
}
"""Each subcommand, and a part of what it prints."""
ALIASES = ["nmt-feat-train --help", "nmt-feat-translate --help", "nmt-feat-score --help"]
"""The names of version 0.1."""


@pytest.mark.slow
def test_all_subcommands_of_the_wheel(installed: Path, tmp_path: Path) -> None:
    """Away from the checkout, with the user's own options and class in the current folder."""
    write_user_files(tmp_path)
    lines = [*TRAIN, *(f"nmt-feat {command}" for command in COMMANDS), *ALIASES]
    outputs = run_scripts(installed, tmp_path, [line.split() for line in lines])
    assert list(tmp_path.glob("runs/film-*/result.json"))
    translations, scores = outputs[len(TRAIN) : len(TRAIN) + 2]
    assert (translations.count("\n"), scores.count("\n")) == (3, 3)
    expected = [*["BLEU"] * len(TRAIN), *COMMANDS.values(), *["nmt-feat"] * len(ALIASES)]
    for output, part in zip(outputs, expected, strict=True):
        assert part in output


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The files that `make` sets up by."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # `make test` runs these tests: its own flags and level are not passed on.
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(["make", *arguments], cwd=folder, capture_output=True, text=True, env=env)


@pytest.mark.skipif(not shutil.which("make"), reason="no make")
def test_make_says_which_python_is_needed(checkout: Path) -> None:
    old = checkout / "old-python"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.10.13 || exit 1\n')
    old.chmod(0o755)
    done = make(checkout, "demo", f"PYTHON={old}")
    assert done.returncode != 0
    assert done.stderr.splitlines()[0] == (
        f"nmt_feat needs Python 3.11, 3.12 or 3.13, but {old} is Python 3.10.13. "
        "Name another: make PYTHON=python3.12 demo"
    )


@pytest.mark.skipif(not shutil.which("make"), reason="no make")
def test_set_up_is_done_once(checkout: Path) -> None:
    assert "pip install" in make(checkout, "-n", "test").stdout
    (checkout / ".venv" / "bin").mkdir(parents=True)
    for name in ("bin/python", ".ready"):
        (checkout / ".venv" / name).touch()
    assert make(checkout, "-n", "test").stdout.strip() == (
        ".venv/bin/python -m pytest -n logical --maxprocesses 4 --dist worksteal"
    )
    demo = make(checkout, "-n", "demo").stdout.strip()
    assert demo == ".venv/bin/python train.py combiner=gate"
    os.utime(checkout / ".venv" / ".ready", (0, 0))  # older than constraints.txt
    assert "pip install" in make(checkout, "-n", "test").stdout


def test_tested_versions_suit_the_declared_ranges() -> None:
    """Every dependency has one exact tested version, inside its range in pyproject.toml."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if not line.startswith("#")]
    tested = {pin.name.lower(): str(pin.specifier) for pin in pins}
    exact = r"==[0-9.]+((post|b)[0-9]+)?"  # packages that others need may have no release yet
    assert all(re.fullmatch(exact, version) for version in tested.values())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [line for group in project["optional-dependencies"].values() for line in group]
    for line in [*project["dependencies"], *extras]:
        needed = Requirement(line)
        if needed.name != "nmt_feat":
            version = tested[needed.name.lower()].removeprefix("==")
            assert re.fullmatch(r"[0-9.]+(post[0-9]+)?", version), line
            assert needed.specifier.contains(version), line
            assert "<" in str(needed.specifier), f"{line} has no upper bound"


def test_the_oldest_sentencepiece() -> None:
    """0.2.1 has no pieces with their places in the text, and 0.2.2 cuts some text otherwise."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    result = {need.name: need.specifier for need in map(Requirement, project["dependencies"])}
    versions = ("0.2.1", "0.2.2", "0.2.3")
    assert [result["sentencepiece"].contains(version) for version in versions] == [0, 0, 1]
