"""The wheel, away from the checkout: it has its configs and its corpus with it."""

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
    """The wheel, built without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    call(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder), cwd=ROOT)
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
        assert f"nmt_feat/{path.relative_to(ROOT)}" in names
    for path in (ROOT / "data" / "embedded").iterdir():
        assert f"nmt_feat/data/embedded/{path.name}" in names
    for name in ("page.html", "page.css", "page.js"):
        assert f"nmt_feat/analysis/static/{name}" in names
    for name in ("py.typed", "corpus/hanta_tags.json", "corpus/kiwi_tags.json"):
        assert f"nmt_feat/{name}" in names
    tops = {name.split("/")[0] for name in names}
    assert {top.split("-")[0] for top in tops} == {"nmt_feat"}
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    assert not any("__pycache__" in name for name in names)


@pytest.mark.slow
def test_training_from_another_folder(installed: Path, tmp_path: Path) -> None:
    """`nmt-feat-train combiner=gate` finds config and corpus inside the installed package."""
    where = "import nmt_feat; print(nmt_feat.__file__)"
    path = str(installed)
    assert Path(call(sys.executable, "-c", where, cwd=tmp_path, path=path).strip()).is_relative_to(
        installed
    )
    script = str(installed / "bin" / "nmt-feat-train")
    out = call(sys.executable, script, "combiner=gate", *LIMITS.split(), cwd=tmp_path, path=path)
    assert "BLEU" in out
    (result,) = tmp_path.glob("runs/gate-*/result.json")
    assert (tmp_path / "cache").is_dir()
    run = f"run={result.parent}"
    test = ROOT / "data" / "embedded" / "test.conllu"
    (tmp_path / "some.conllu").write_text(
        "\n\n".join([*test.read_text(encoding="utf-8").split("\n\n")[:3], ""]), encoding="utf-8"
    )
    script = str(installed / "bin" / "nmt-feat-translate")
    out = call(sys.executable, script, run, "input=some.conllu", cwd=tmp_path, path=path)
    assert len(out.splitlines()) == 3


@pytest.mark.slow
def test_the_user_s_own_module_is_found(installed: Path, tmp_path: Path) -> None:
    """A console script does not search the current folder by itself; a combiner lies there."""
    example = (ROOT / "examples" / "film.py").read_text(encoding="utf-8")
    (tmp_path / "mine.py").write_text(example, encoding="utf-8")
    script = str(installed / "bin" / "nmt-feat-train")
    arguments = ["combiner._target_=mine.FiLM", *LIMITS.split()]
    call(sys.executable, script, *arguments, cwd=tmp_path, path=str(installed))
    assert list(tmp_path.glob("runs/FiLM-*/result.json"))


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
    """Pieces with their places in the text (`out_type="offset_mapping"`) came with 0.2.2."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = {need.name: need.specifier for need in map(Requirement, project["dependencies"])}
    assert [found["sentencepiece"].contains(version) for version in ("0.2.1", "0.2.2")] == [0, 1]
