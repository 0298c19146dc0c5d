"""What the documents say is so: links, generated pages, help."""

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
from nmt_feat.cli.compose import prepare_hydra
from nmt_feat.config import inference_schema, schema
from tests.support.lives import python

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("docs/*/*.md"),
        ROOT / "data" / "README.md",
    ]
)
CONFIGS = sorted((ROOT / "conf").rglob("*.yaml"))


@dataclass
class Folder:
    """A folder with the programs of a checkout."""

    path: Path

    def run(self, command: str) -> str:
        """What `python SCRIPT ...` prints, errors too; no time is spent on imports."""
        name, *arguments = shlex.split(command)
        assert name == "python"
        done = python(*arguments, cwd=self.path)
        text = done.stdout + done.stderr
        assert done.returncode == 0, f"{command}\n{text}"
        return text


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """The programs."""
    path = tmp_path_factory.mktemp("programs")
    for name in ("train.py", "translate.py", "score.py"):
        shutil.copy(ROOT / name, path)
    return Folder(path)


def test_commands_of_pytest_select_tests() -> None:
    """Those of slow tests only ask for them, which by default are left out."""
    text = "\n".join(document.read_text(encoding="utf-8") for document in DOCUMENTS)
    result = re.findall(r"python -m pytest ([^`\n]*)(tests/\w+\.py)", text)
    assert len(result) > 5
    for options, file in result:
        slow = "pytestmark = pytest.mark.slow" in (ROOT / file).read_text(encoding="utf-8")
        assert ("-m slow" in options) == slow, file


@pytest.mark.thorough
def test_settings_page_is_fresh() -> None:
    done = python("scripts/config_docs.py", "--check", cwd=ROOT)
    assert done.returncode == 0, done.stderr


@pytest.mark.thorough
def test_settings_page_tells_staleness(tmp_path: Path) -> None:
    for name in ("scripts", "docs", "conf"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "nmt_feat" / "config", tmp_path / "nmt_feat" / "config")
    schema = (ROOT / "nmt_feat" / "config" / "schema.py").read_text(encoding="utf-8")
    changed = schema.replace("max_skipped: AtLeast1 = 10", "max_skipped: AtLeast1 = 11")
    (tmp_path / "nmt_feat" / "config" / "schema.py").write_text(changed, encoding="utf-8")
    command = [sys.executable, "scripts/config_docs.py"]
    done = subprocess.run([*command, "--check"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "docs/reference/settings.md is stale: run python scripts/config_docs.py\n"
    subprocess.run(command, cwd=tmp_path, check=True)
    assert "| `max_skipped` | `int`, at least 1 | `11` |" in (
        tmp_path / "docs" / "reference" / "settings.md"
    ).read_text("utf-8")


@pytest.mark.thorough
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


@pytest.mark.thorough
def test_help_lists_the_groups(folder: Folder) -> None:
    """Each group has its line; each option is named."""
    out = folder.run("python train.py --help")
    for group in sorted(path for path in (ROOT / "conf").iterdir() if path.is_dir()):
        if group.name in ("hydra", "__pycache__"):
            continue
        assert re.search(rf"^  {group.name} +\w.{{5,}}$", out, re.M), group.name
        options = ", ".join(sorted(file.stem for file in group.glob("*.yaml")))
        assert f"\n{group.name}: {options}\n" in out


@pytest.mark.thorough
@pytest.mark.parametrize("kind", [inference_schema.TranslateConfig, inference_schema.ScoreConfig])
def test_help_of_the_others_lists_their_settings(folder: Folder, kind: type) -> None:
    """And no groups, of which they have none; the commands in it name their settings."""
    name = kind.__name__.removesuffix("Config").lower()
    out = folder.run(f"python {name}.py --help")
    setting_names = {field.name for field in fields(kind)}
    assert set(re.findall(r"^(\w+): ", out, re.M)) == setting_names
    commands = re.findall(rf"^python {name}.py (.*)$", out, re.M)
    assert len(commands) > 1
    assert set(re.findall(r"(\w+)=", " ".join(commands))) <= setting_names
    assert "combiner" not in out


@pytest.fixture
def compose() -> Iterator[Callable[[list[str]], DictConfig]]:
    """Hydra's composition of `conf/train.yaml` in this process."""
    prepare_hydra("train")
    OmegaConf.register_new_resolver("nmt_resource", lambda name: name, replace=True)
    OmegaConf.register_new_resolver("nmt_scale", lambda reduced, full: full, replace=True)
    OmegaConf.register_new_resolver("nmt_digest", lambda value: "0", replace=True)
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        yield lambda overrides: hydra_compose("train", overrides)


def test_help_gives_commands_that_compose(compose: Callable[[list[str]], DictConfig]) -> None:
    template = (ROOT / "conf" / "hydra" / "help" / "nmt_feat.yaml").read_text(encoding="utf-8")
    examples = re.findall(r"^ +\$\{nmt_program:train\} (.*?)(?:  .*| --cfg.*)$", template, re.M)
    examples.append(re.findall(r"by name \((.*)\)", template)[0])
    assert len(examples) == 4
    for example in examples:
        first = re.sub(r"(=\w+)(,\w+)+", r"\1", example.removeprefix("-m "))
        compose(first.split())


@pytest.mark.slow
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
        # Rows stand inside their experiments.
        assert name == "row" or (ROOT / "conf" / name).is_dir(), name


def test_version_is_the_same_everywhere() -> None:
    citation = OmegaConf.load(ROOT / "CITATION.cff")
    assert citation.version == nmt_feat.__version__
    assert citation.license == "Apache-2.0"
