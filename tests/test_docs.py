"""What the documents say is so: the README's commands run, the settings' page is fresh."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from omegaconf import DictConfig, OmegaConf

import nmt_feat
from nmt_feat.config import schema
from tests.support.lives import python

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("docs/*/*.md"),
        ROOT / "data" / "README.md",
    ]
)
CONFIGS = sorted((ROOT / "conf").rglob("*.yaml"))
LIMITS = (
    "data.folder=corpus data.vocab_size=150 trainer.max_steps=2 trainer.validate_every=1 "
    "trainer.batch_tokens=256 model.dim=32 model.ffn_dim=32 model.encoder_layers=1 "
    "model.decoder_layers=1 decoding.max_extra=3 decoding.max_ratio=0.1 trainer.threads=1"
)
"""For each `train.py` of the README: a corpus of some lines, two updates, a very small model."""
NOT_RUN = {
    "make demo": "sets up an environment, with a network",
    "make test": "runs these tests",
    "pip install -e .": "needs a network; test_packaging.py installs the wheel",
    "pip install -e '.[udpipe]'": "needs a network",
    "python train.py data=multi30k ": "needs a download and a UDPipe model",
    "python train.py experiment=multi30k_tok ": "needs a download and a UDPipe model",
    "python scripts/annotate.py texts annotated annotator=spacy ": "needs a pipeline of spaCy",
}
"""The commands (their beginnings) that are not run here, and why."""
CHANGED = {"seed=1,2,3": "seed=1,2", "=none,shuffled,by_type,matched": "=none,matched"}
"""What is changed in commands that are run, beside the limits: fewer runs, for the time."""


def commands() -> list[str]:
    """The lines of the README's bash blocks, without comments."""
    blocks = re.findall(r"^```bash\n(.*?)^```$", README, re.M | re.S)
    lines = [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


def is_run(command: str) -> bool:
    return not any(command.startswith(beginning) for beginning in NOT_RUN)


@dataclass
class Folder:
    """A user's folder in which the README's commands are run."""

    path: Path

    def shell(self, command: str) -> str:
        """What `command` prints under bash; its exit code must be 0."""
        python = Path(sys.executable).parent
        environment = os.environ | {
            "PATH": f"{python}{os.pathsep}{os.environ['PATH']}",
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
        return done.stdout

    def run(self, command: str) -> str:
        """What `python SCRIPT ...` prints, errors too; no shell, and no time spent on imports."""
        name, *arguments = shlex.split(command)
        assert name == "python"
        done = python(*arguments, cwd=self.path)
        text = done.stdout + done.stderr
        assert done.returncode == 0, f"{command}\n{text}"
        return text


def first_lines(split: str, count: int) -> tuple[str, list[str], str]:
    """The beginning of a split of the embedded corpus: CoNLL-U, raw source text, target text."""
    folder = ROOT / "data" / "embedded"
    sentences = (folder / f"{split}.conllu").read_text(encoding="utf-8").split("\n\n")[:count]
    source = [re.findall(r"^# text = (.*)$", sentence, re.M)[0] for sentence in sentences]
    target = (folder / f"{split}.de").read_text(encoding="utf-8").split("\n")[:count]
    return "\n\n".join([*sentences, ""]), source, "\n".join([*target, ""])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """The scripts and examples of a checkout, a very small corpus, and files the README names."""
    path = tmp_path_factory.mktemp("readme")
    for name in ("train.py", "translate.py", "score.py"):
        shutil.copy(ROOT / name, path)
    for name in ("examples", "scripts", "tools"):
        shutil.copytree(ROOT / name, path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name, split, count in (
        ("corpus", "train", 150),
        ("corpus", "dev", 10),
        ("corpus", "test", 10),
    ):
        (path / name).mkdir(exist_ok=True)
        annotated, source, target = first_lines(split, count)
        (path / name / f"{split}.conllu").write_text(annotated, encoding="utf-8")
        (path / name / f"{split}.de").write_text(target, encoding="utf-8")
        # data=files: its paths start from data.folder, which LIMITS name
        (path / name / "my").mkdir(exist_ok=True)
        (path / name / "my" / f"{split}.en").write_text("\n".join([*source, ""]), encoding="utf-8")
        (path / name / "my" / f"{split}.de").write_text(target, encoding="utf-8")
    (path / "my" / "features").mkdir(parents=True)
    gender, file = re.findall(r"With `(gender: .*)` in\n`(my/features/gender.yaml)`", README)[0]
    (path / file).write_text(gender, encoding="utf-8")
    annotated, source, target = first_lines("test", 5)
    (path / "sentences.conllu").write_text(annotated, encoding="utf-8")
    (path / "sentences.txt").write_text("\n".join([*source, ""]), encoding="utf-8")
    (path / "sentences.de").write_text(target, encoding="utf-8")
    return Folder(path)


def limited(command: str) -> str:
    """A `train.py` command of the README with limits."""
    for old, new in CHANGED.items():
        command = command.replace(old, new)
    return f"{command} {LIMITS}"


@pytest.mark.parametrize("command", [c for c in commands() if c.startswith("python train.py")])
def test_training(folder: Folder, command: str) -> None:
    if not is_run(command):
        pytest.skip(next(why for start, why in NOT_RUN.items() if command.startswith(start)))
    if "annotator=hanta" in command:
        pytest.importorskip("HanTa")
    before = set(folder.path.glob("runs/*/result.json"))
    # these two as a user does, in a shell; the others quicker
    real = command.endswith("combiner=gate") or " -m " in command
    out = (folder.shell if real else folder.run)(limited(command))
    assert "BLEU" in out
    made = set(folder.path.glob("runs/*/result.json")) - before
    if " -m " in command:
        swept = re.search(r"combiner=(\S+)", command)
        assert swept, command
        for method in swept[1].split(","):
            assert re.search(rf"^\W*{method}\b", out, re.M), out
        assert list(folder.path.glob("runs/sweeps/*/table.md"))
    else:
        assert len(made) == 1
        again = folder.run(limited(command)) if command.endswith("combiner=gate") else ""
        assert set(folder.path.glob("runs/*/result.json")) == before | made, again


def test_every_command_is_known() -> None:
    """A new command of the README is run here or stands in `NOT_RUN`; nothing else stands there."""
    kinds = ("python train.py ", "python translate.py ", "python score.py ", "RUN=runs/")
    kinds += ("python scripts/annotate.py sentences.txt ",)
    kinds += ("NMT_FEAT_MODULES=examples python translate.py ",)
    for command in commands():
        assert command.startswith(kinds) or not is_run(command), command
    for beginning in NOT_RUN:
        assert any(command.startswith(beginning) for command in commands()), beginning
    assert commands()[:2] == ["make demo", "make test"]


def test_translation_and_scores(folder: Folder) -> None:
    """The README's block on translation, with a run that was trained on words only."""
    folder.run(f"python train.py combiner=none {LIMITS}")
    (run,) = folder.path.glob("runs/none-s1-*")
    name, *rest = [c for c in commands() if "$RUN" in c or c.startswith("RUN=")]
    assert re.fullmatch(r"RUN=runs/gate-deprel\+upos-s1-[0-9a-f]{8}", name)
    to_file, from_stdin, scores, allowed = (c.replace("$RUN", f"runs/{run.name}") for c in rest)
    folder.run(to_file)
    translations = (folder.path / "translations.txt").read_text(encoding="utf-8")
    assert translations.count("\n") == 5
    assert folder.shell(from_stdin) == translations
    lines = folder.run(scores).splitlines()
    assert len(lines) == 5
    assert allowed == (  # of a run with a class of one's own; tests/test_sent_runs.py does it
        f"NMT_FEAT_MODULES=examples python translate.py run=runs/{run.name} input=sentences.conllu"
    )
    assert all(float(line.split("\t")[0]) < 0 for line in lines)


def test_translation_with_features(folder: Folder) -> None:
    """Annotated sentences in, `nbest` translations out, as the README says."""
    folder.run(f"python train.py combiner=gate {LIMITS}")
    (run,) = folder.path.glob("runs/gate-deprel+upos-s1-*")
    assert re.fullmatch(r"gate-deprel\+upos-s1-[0-9a-f]{8}", run.name)
    out = folder.run(f"python translate.py run=runs/{run.name} input=sentences.conllu nbest=2")
    assert [line.split(" ||| ")[0] for line in out.splitlines()] == list("0011223344")


def test_annotation(folder: Folder) -> None:
    pytest.importorskip("HanTa")
    (command,) = [c for c in commands() if c.startswith("python scripts/annotate.py sentences")]
    assert folder.shell(command) == "sentences.txt: 5 sentences in annotated.conllu\n"
    assert (folder.path / "annotated.conllu").read_text(encoding="utf-8").count("# text = ") == 5


def test_commands_of_pytest_select_tests() -> None:
    """Those of slow tests only ask for them, which by default are left out."""
    text = "\n".join(document.read_text(encoding="utf-8") for document in DOCUMENTS)
    found = re.findall(r"python -m pytest ([^`\n]*)(tests/\w+\.py)", text)
    assert len(found) > 5
    for options, file in found:
        slow = "pytestmark = pytest.mark.slow" in (ROOT / file).read_text(encoding="utf-8")
        assert ("-m slow" in options) == slow, file


def test_example_in_the_readme_is_the_file() -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```$", README, re.M | re.S)
    assert block in (ROOT / "examples" / "film.py").read_text(encoding="utf-8")


def test_settings_page_is_fresh() -> None:
    done = python("scripts/config_docs.py", "--check", cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_settings_page_tells_staleness(tmp_path: Path) -> None:
    for name in ("scripts", "docs", "conf"):
        shutil.copytree(ROOT / name, tmp_path / name)
    (tmp_path / "nmt_feat").mkdir()
    schema = (ROOT / "nmt_feat" / "config" / "schema.py").read_text(encoding="utf-8")
    changed = schema.replace("max_skipped: int = 10", "max_skipped: int = 11")
    (tmp_path / "nmt_feat" / "config" / "schema.py").write_text(changed, encoding="utf-8")
    command = [sys.executable, "scripts/config_docs.py"]
    done = subprocess.run([*command, "--check"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "docs/reference/settings.md is stale: run python scripts/config_docs.py\n"
    subprocess.run(command, cwd=tmp_path, check=True)
    assert "| `max_skipped` | `int` | `11` |" in (
        tmp_path / "docs" / "reference" / "settings.md"
    ).read_text("utf-8")


def test_combiners_page_is_fresh() -> None:
    done = python("scripts/combiner_docs.py", "--check", cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_combiners_page_has_a_section_for_each_method() -> None:
    page = (ROOT / "docs" / "explanation" / "combiners.md").read_text(encoding="utf-8")
    shipped = {path.stem for path in (ROOT / "conf" / "combiner").glob("*.yaml")}
    assert set(re.findall(r"^## (\w+)$", page, re.M)) == shipped


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links(document: Path) -> None:
    """Links to files and to headings of the same document lead somewhere."""
    text = document.read_text(encoding="utf-8")
    anchors = {
        re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-")
        for title in re.findall(r"^#+ (.*)$", text, re.M)
    }
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith("#"):
            assert link[1:] in anchors, link
        elif "://" not in link:
            assert (document.parent / link.split("#")[0]).exists(), link


@pytest.mark.parametrize("file", CONFIGS, ids=lambda path: str(path.relative_to(ROOT / "conf")))
def test_config_begins_with_a_help_line(file: Path) -> None:
    lines = file.read_text(encoding="utf-8").splitlines()
    first = lines[1] if lines[0].startswith("# @package") else lines[0]
    assert re.fullmatch(r"# \S.{5,}", first), first
    assert len(first) <= 110


def test_help_lists_the_groups(folder: Folder) -> None:
    """Each group has its line; each option is named."""
    out = folder.run("python train.py --help")
    for group in sorted(path for path in (ROOT / "conf").iterdir() if path.is_dir()):
        if group.name in ("hydra", "__pycache__"):
            continue
        assert re.search(rf"^  {group.name} +\w.{{5,}}$", out, re.M), group.name
        options = ", ".join(sorted(file.stem for file in group.glob("*.yaml")))
        assert f"\n{group.name}: {options}\n" in out


@pytest.mark.parametrize("kind", [schema.TranslateConfig, schema.ScoreConfig])
def test_help_of_the_others_lists_their_settings(folder: Folder, kind: type) -> None:
    """And no groups, of which they have none; the commands in it name their settings."""
    name = kind.__name__.removesuffix("Config").lower()
    out = folder.run(f"python {name}.py --help")
    known = {field.name for field in fields(kind)}
    assert set(re.findall(r"^(\w+): ", out, re.M)) == known
    commands = re.findall(rf"^python {name}.py (.*)$", out, re.M)
    assert len(commands) > 1
    assert set(re.findall(r"(\w+)=", " ".join(commands))) <= known
    assert "combiner" not in out


@pytest.fixture
def compose() -> Iterator[Callable[[list[str]], DictConfig]]:
    """Hydra's composition of `conf/train.yaml` in this process."""
    schema.register_schemas()
    OmegaConf.register_new_resolver("nmt_resource", lambda name: name, replace=True)
    OmegaConf.register_new_resolver("nmt_scale", lambda reduced, full: full, replace=True)
    OmegaConf.register_new_resolver("nmt_digest", lambda value: "0", replace=True)
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        yield lambda overrides: hydra_compose("train", overrides)


def test_help_gives_commands_that_compose(compose: Callable[[list[str]], DictConfig]) -> None:
    template = (ROOT / "conf" / "hydra" / "help" / "nmt_feat.yaml").read_text(encoding="utf-8")
    examples = re.findall(r"^ +python train.py (.*?)(?:  .*| --cfg.*)$", template, re.M)
    examples.append(re.findall(r"by name \((.*)\)", template)[0])
    assert len(examples) == 4
    for example in examples:
        first = re.sub(r"(=\w+)(,\w+)+", r"\1", example.removeprefix("-m "))
        compose(first.split())


@pytest.mark.parametrize(
    "option", [f"{c.parent.name}={c.stem}" for c in CONFIGS if c.parent.parent == ROOT / "conf"]
)
def test_every_option_composes(option: str, compose: Callable[[list[str]], DictConfig]) -> None:
    config = compose([f"features=[{option[9:]}]" if option.startswith("features=") else option])
    assert set(config) == {field.name for field in fields(schema.TrainConfig)}


def test_help_template_names_no_group_that_is_not_there() -> None:
    template = (ROOT / "conf" / "hydra" / "help" / "nmt_feat.yaml").read_text(encoding="utf-8")
    template = template.replace("\n  ", "\n")
    for name in re.findall(r"^  (\w+) {2,}", template, re.M):
        assert (ROOT / "conf" / name).is_dir(), name


def test_version_is_the_same_everywhere() -> None:
    citation = OmegaConf.load(ROOT / "CITATION.cff")
    assert citation.version == nmt_feat.__version__
    assert citation.license == "Apache-2.0"
