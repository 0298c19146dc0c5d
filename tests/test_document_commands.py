"""Every command of the README and of the docs runs here, in small, or says why it does not.

A block of commands that cannot run here stands behind `<!-- not run: the reason -->`. A block of
YAML or Python whose first line is a comment with a path (`# my/combiner/film.yaml`) is written to
that file, so that a page's commands find it.
"""

import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from nmt_feat.cli.compose import keep_typed_text, register_schemas
from nmt_feat.config.config_source import register_reader
from nmt_feat.config.schema import TrainConfig
from nmt_feat.evaluation.packed_runs import PACKED_RECORDS
from tests.support.lives import limit_validations, python

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
PAGES = sorted((ROOT / "docs").glob("*.md")) + sorted((ROOT / "docs").glob("*/*.md"))
LIMITS = (
    "data.vocab_size=150 trainer.max_steps=2 trainer.validate_every=2 trainer.batch_tokens=256 "
    "model.dim=64 model.ffn_dim=32 model.encoder_layers=1 model.decoder_layers=1 "
    "decoding.max_extra=3 decoding.max_ratio=0.1 trainer.threads=1 optimizer.warmup=1"
)
"""For each `train.py`: two updates and a validation of a very small model."""
MEASURED = {"results.md": "the records were made by it, in hours"}
"""Pages whose commands do not run here."""
BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^>]+) -->\n+)?^```bash\n(?P<text>.*?)^```$", re.M | re.S
)
FILE = re.compile(
    r"^```(?:yaml|python)\n# (?P<path>[\w/]+\.(?:yaml|py))\n(?P<text>.*?)^```$", re.M | re.S
)


@dataclass(frozen=True)
class Command:
    """A line of a page's blocks of commands."""

    text: str
    reason: str
    """Why it does not run here; empty where it does."""


def read_commands(page: Path) -> list[Command]:
    """The commands of a page, those of several lines as one, without comments."""
    commands = []
    for block in BLOCK.finditer(page.read_text(encoding="utf-8")):
        reason = block["reason"] or MEASURED.get(page.name, "")
        for line in re.sub(r" *\\\n *", " ", block["text"]).splitlines():
            if text := line.split("  #")[0].strip():
                commands.append(Command(text, reason))
    return commands


def read_first_lines(split: str, count: int) -> tuple[str, list[str], str]:
    """The beginning of a split of the bundled corpus: CoNLL-U, raw source text, target text."""
    folder = ROOT / "data" / "embedded"
    sentences = (folder / f"{split}.conllu").read_text(encoding="utf-8").split("\n\n")[:count]
    source = [re.findall(r"^# text = (.*)$", sentence, re.M)[0] for sentence in sentences]
    target = (folder / f"{split}.de").read_text(encoding="utf-8").split("\n")[:count]
    return "\n\n".join([*sentences, ""]), source, "\n".join([*target, ""])


@dataclass
class UserFolder:
    """A checkout as a user has it, with a very small corpus and the files that pages name."""

    path: Path

    def write_files(self, page: Path) -> None:
        """Write the files that stand in a page."""
        for block in FILE.finditer(page.read_text(encoding="utf-8")):
            path = self.path / block["path"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block["text"], encoding="utf-8")

    def find_run(self, name: str) -> str:
        """The folder of the run that a page names; its hash is another one here."""
        stem = re.sub(r"-[0-9a-f]{8}$", "", name)
        runs = sorted((self.path / "runs").glob(f"{stem}-*/result.json"))
        assert runs, f"{name}: no such run was trained before"
        return str(runs[0].parent.relative_to(self.path))

    def copy_runs(self) -> None:
        """Two methods with two seeds, trained once for all pages that train none themselves."""
        trained = self.path / "trained"
        if not trained.exists():
            self.run(f"{limit('python train.py -m combiner=none,gate')} seed=1,2")
            (self.path / "runs").rename(trained)
        shutil.copytree(trained, self.path / "runs")

    def run(self, command: str) -> str:
        """What a command prints; it must succeed."""
        words = shlex.split(command)
        # Jobs of joblib are not ended in a forked process, which calls no functions of atexit.
        if words[0] == "python" and words[1].endswith(".py") and "hydra/launcher" not in command:
            done = python(*words[1:], cwd=self.path, prepare=limit_validations)
        else:
            bin_folder = Path(sys.executable).parent
            environment = os.environ | {
                "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
                "PYTHONPATH": str(ROOT),
            }
            done = subprocess.run(
                ["bash", "-euc", command],
                cwd=self.path,
                env=environment,
                capture_output=True,
                text=True,
                timeout=300,
            )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> UserFolder:
    """Programs, examples, and the beginning of the bundled corpus as files of a user.

    All pages share it, so that data is prepared once, and a run of two pages is trained once.
    """
    tmp_path = tmp_path_factory.mktemp("user")
    for name in ("train.py", "translate.py", "score.py"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("examples", "scripts", "tools"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("corpus", "my"):
        (tmp_path / name).mkdir()
    for split, count in (("train", 150), ("dev", 10), ("test", 10)):
        annotated, source, target = read_first_lines(split, count)
        (tmp_path / "corpus" / f"{split}.conllu").write_text(annotated, encoding="utf-8")
        (tmp_path / "my" / f"{split}.en").write_text("\n".join([*source, ""]), encoding="utf-8")
        for name in ("corpus", "my"):
            (tmp_path / name / f"{split}.de").write_text(target, encoding="utf-8")
    annotated, source, target = read_first_lines("test", 5)
    (tmp_path / "sentences.conllu").write_text(annotated, encoding="utf-8")
    (tmp_path / "sentences.txt").write_text("\n".join([*source, ""]), encoding="utf-8")
    (tmp_path / "sentences.de").write_text(target, encoding="utf-8")
    return UserFolder(tmp_path)


def limit(command: str) -> str:
    """A command with limits: fewer seeds, few updates, a small corpus and model."""
    if not re.match(r"python (train|scripts/inspect_features|tools/benchmark)\.py ", command):
        return command
    command = re.sub(r"\bseed=1,2\S*", "seed=1", command)
    limits = LIMITS
    if "model=pretrained" in command:  # which has sizes of its own
        limits = re.sub(r"model\.\S+ ", "", limits)
    settings = limits if " data=" in command else f"data.folder=corpus {limits}"
    before, options, after = command.partition(" --warmup")
    return f"{before} {settings}{options}{after}"


def run_page(page: Path, folder: UserFolder) -> list[str]:
    """Run the commands of a page one after another; what each printed."""
    folder.write_files(page)
    if "model.folder=opus" in page.read_text(encoding="utf-8"):
        from tests.support.pretrained import make_marian  # skips where the extra is missing

        if not (folder.path / "opus-mt-en-de").exists():
            make_marian(folder.path / "opus-mt-en-de", folder.path / "corpus")
    run, outputs = "", []
    for command in read_commands(page):
        if command.reason:
            continue
        if "annotator=hanta" in command.text:
            pytest.importorskip("HanTa")
        if named := re.fullmatch(r"RUN=runs/(\S+)", command.text):
            run = folder.find_run(named[1])
            continue
        outputs.append(folder.run(limit(command.text.replace("$RUN", run))))
    return outputs


@pytest.mark.slow
def test_readme(folder: UserFolder) -> None:
    outputs = run_page(README, folder)
    sweep, own_pair, _, product = outputs
    for output in (sweep, own_pair):
        assert re.findall(r"^ (none|gate shuffled|gate) +1 ", output, re.M), output
        assert "Do the features help?" in output
    assert "BLEU" in product
    assert (folder.path / "translations.txt").read_text(encoding="utf-8").count("\n") == 5


def has_commands(page: Path) -> bool:
    return any(not command.reason for command in read_commands(page))


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if has_commands(page)],
    ids=lambda page: str(page.relative_to(ROOT / "docs")),
)
def test_page(page: Path, folder: UserFolder) -> None:
    """A page on trained models finds some, also where it trains none itself."""
    # Runs of other pages are on other corpora, which a report would keep apart.
    shutil.rmtree(folder.path / "runs", ignore_errors=True)
    shutil.rmtree(folder.path / "conf" / "local", ignore_errors=True)  # a page's own paths
    text = page.read_text(encoding="utf-8")
    if "train.py" not in "".join(command.text for command in read_commands(page)):
        folder.copy_runs()
    if "data=mine" in text:
        folder.write_files(ROOT / "docs" / "how-to" / "own-data.md")
    outputs = run_page(page, folder)  # a command that writes a file prints nothing
    assert any(outputs), outputs


@pytest.fixture(scope="module")
def composed() -> Iterator[Callable[[list[str]], DictConfig]]:
    """Hydra's composition of `conf/train.yaml` in this process."""
    register_schemas()
    register_reader(TrainConfig)
    OmegaConf.register_new_resolver("nmt_resource", lambda name: name, replace=True)
    OmegaConf.register_new_resolver("nmt_scale", lambda reduced, full: full, replace=True)
    OmegaConf.register_new_resolver("nmt_digest", lambda value: "0", replace=True)
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        yield lambda overrides: compose("train", keep_typed_text(overrides, "train", sweep=False))


@pytest.mark.thorough
@pytest.mark.parametrize(
    "command",
    sorted(
        {
            command.text
            for page in (README, *PAGES)
            for command in read_commands(page)
            if command.reason and re.search(r"\btrain\.py ", command.text)
        }
    ),
)
def test_settings_of_commands_that_do_not_run(
    command: str, composed: Callable[[list[str]], DictConfig]
) -> None:
    """They name groups, options and settings that exist."""
    overrides = shlex.split(command.split("train.py ")[1])
    first_values = [re.sub(r"^([\w/.]+=\w+)(,\w+)+$", r"\1", setting) for setting in overrides]
    chosen = [s for s in first_values if s != "-m" and not s.startswith("hydra")]
    assert set(composed(chosen)) >= {"data", "combiner"}


@pytest.mark.slow
def test_table_of_the_readme_is_what_the_program_prints(tmp_path: Path) -> None:
    """Of the committed runs of the rows that it shows."""
    (block,) = re.findall(r"^```text\n(.*?)^```$", README.read_text(encoding="utf-8"), re.M | re.S)
    rows = {"embedded": ("none-", "gate-"), "controls": ("gate-deprel+upos-shuffled-",)}
    for name, runs in rows.items():
        shutil.copytree(ROOT / "docs" / "results" / name, tmp_path / name)
        records = tmp_path / name / PACKED_RECORDS
        lines = records.read_text(encoding="utf-8").splitlines(keepends=True)
        lines_of_text = [line for line in lines if json.loads(line)["run"].startswith(runs)]
        records.write_text("".join(lines_of_text), encoding="utf-8")
    done = python("scripts/report.py", *(tmp_path / name for name in rows), cwd=ROOT)
    printed = {line.rstrip() for line in done.stdout.splitlines()}
    assert done.returncode == 0, done.stderr
    assert set(block.splitlines()) <= printed


def test_code_in_the_docs_is_that_of_the_examples() -> None:
    guides = ROOT / "docs" / "how-to"
    pages = {
        README: ["product.py"],
        guides / "combiner.md": ["film.py"],
        guides / "method.md": ["output_sum.py"],
        guides / "feature.md": ["log_frequency.py"],
    }
    for page, names in pages.items():
        blocks = re.findall(r"^```python\n(class .*?)^```$", page.read_text("utf-8"), re.M | re.S)
        assert len(blocks) == len(names)
        for block, name in zip(blocks, names, strict=True):
            assert block in (ROOT / "examples" / name).read_text(encoding="utf-8")


def test_files_that_the_docs_name_exist() -> None:
    for page in (README, *PAGES):
        for path in re.findall(r"`(nmt_feat/[\w/.]+)`", page.read_text(encoding="utf-8")):
            assert (ROOT / path).exists(), f"{page.name}: {path}"


def test_imports_in_the_docs_work() -> None:
    for page in (README, *PAGES):
        text = page.read_text(encoding="utf-8")
        for module, names in re.findall(r"^from (nmt_feat[\w.]*) import (.*)$", text, re.M):
            for name in names.split(", "):
                assert hasattr(importlib.import_module(module), name), f"{page.name}: {name}"


def test_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").split()) <= 900
