"""A run that somebody sent is data: no code that it brings or names is run."""

from __future__ import annotations

import hashlib
import re
import runpy
import shutil
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from nmt_feat.analysis.examples import Corpora
from nmt_feat.config.instantiate import locate_class, may_import
from nmt_feat.errors import UserError
from nmt_feat.runs.stored.settings import read_settings
from tests.support.entry import call
from tests.support.small import ROOT, Small

EVIL = """
from pathlib import Path
from nmt_feat.combiners import Concat
Path({mark!r}).touch()
class Evil(Concat): pass
"""


@pytest.fixture(scope="module")
def finished(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    small = Small(corpus, corpus.parent / "cache", tmp_path_factory.mktemp("finished"))
    return small.train("trainer.max_steps=2")


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """The file that the code of the run writes when it is run."""
    return tmp_path / "ran"


@pytest.fixture(autouse=True)
def current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of the user's."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def send(finished: Path, folder: Path, target: str) -> Path:
    """A copy of the run whose combiner is `target`, with sums that fit."""
    shutil.copytree(finished, folder, dirs_exist_ok=True)
    config = folder / "config.yaml"
    before = config.read_text(encoding="utf-8")
    config.write_text(before.replace("nmt_feat.combiners.Concat", target), encoding="utf-8")
    assert config.read_text(encoding="utf-8") != before
    sums = folder / "SHA256SUMS"
    lines = [line.split("  ", 1) for line in sums.read_text(encoding="utf-8").splitlines()]
    digests = [hashlib.sha256((folder / name).read_bytes()).hexdigest() for _, name in lines]
    text = "".join(f"{d}  {name}\n" for d, (_, name) in zip(digests, lines, strict=True))
    sums.write_text(text, encoding="utf-8")
    return folder


def translate(run: Path | str, corpus: Path) -> str:
    """The one line that refuses."""
    done = call("translate", f"run={run}", f"input={corpus / 'test.conllu'}")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1), done.err
    return done.err


@pytest.mark.parametrize(
    ("place", "package"),
    [
        ("sent", ()),  # a folder without __init__.py is a package, too
        ("runs/sent", ()),
        ("runs/sent", ("runs", "runs/sent")),
        ("runs/sent/code", ()),
        ("runs/sent/code", ("runs/sent/code",)),
    ],
)
@pytest.mark.parametrize("allowed", ["", "runs,sent"])
def test_code_of_a_run_is_never_imported(
    finished: Path,
    corpus: Path,
    mark: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    package: tuple[str, ...],
    allowed: str,
) -> None:
    """Not even where the user allows the package by name."""
    monkeypatch.setenv("NMT_FEAT_MODULES", allowed)
    module = f"{place.replace('/', '.')}.evil"
    run = send(finished, Path(place.removesuffix("/code")), f"{module}.Evil")
    Path(place).mkdir(exist_ok=True)
    Path(place, "evil.py").write_text(EVIL.format(mark=str(mark)), encoding="utf-8")
    for folder in package:
        Path(folder, "__init__.py").write_text(f"open({str(mark)!r}, 'w')\n", encoding="utf-8")
    assert f"{module} lies inside a run" in translate(run, corpus)
    assert not may_import(module)
    with pytest.raises(UserError, match="lies inside a run"):
        locate_class(f"{module}.Evil")  # nor where the user types it
    assert not mark.exists()


def test_code_beside_a_run_that_fills_the_current_folder(
    finished: Path, corpus: Path, mark: Path
) -> None:
    send(finished, Path(), "evil.Evil")
    Path("evil.py").write_text(EVIL.format(mark=str(mark)), encoding="utf-8")
    assert "evil lies inside a run" in translate(".", corpus)
    assert not mark.exists()


def test_through_a_link(finished: Path, corpus: Path, mark: Path) -> None:
    run = send(finished, Path("runs/sent"), "linked.Evil")
    Path("runs/sent/evil.py").write_text(EVIL.format(mark=str(mark)), encoding="utf-8")
    Path("linked.py").symlink_to(Path("runs/sent/evil.py").resolve())
    assert "linked lies inside a run" in translate(run, corpus)
    assert not mark.exists()


@pytest.mark.parametrize("target", ["pack.evil.Evil", "pack.deep.evil.Evil"])
def test_a_module_below_the_current_folder_needs_the_users_word(
    finished: Path, corpus: Path, mark: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    """What the user types may name it; what a run says may not, unless the user allows it."""
    module = target.rpartition(".")[0]
    file = Path(*module.split(".")).with_suffix(".py")
    file.parent.mkdir(parents=True)
    file.write_text(EVIL.format(mark=str(mark)), encoding="utf-8")
    run = send(finished, Path("runs/sent"), target)
    message = translate(run, corpus)
    assert f"combiner._target_={target}" in message
    assert "NMT_FEAT_MODULES=pack" in message
    assert not mark.exists()
    assert may_import(module)
    monkeypatch.setenv("NMT_FEAT_MODULES", "pack")
    done = call("translate", f"run={run}", f"input={corpus / 'test.conllu'}")
    assert done.code == 0, done.err
    assert mark.exists()


def test_a_file_of_the_current_folder_may_be_named(
    finished: Path, corpus: Path, mark: Path
) -> None:
    Path("mine_alone.py").write_text(EVIL.format(mark=str(mark)), encoding="utf-8")
    run = send(finished, Path("runs/sent"), "mine_alone.Evil")
    done = call("translate", f"run={run}", f"input={corpus / 'test.conllu'}")
    assert done.code == 0, done.err


@pytest.mark.parametrize("group", ["features.deprel", "annotator"])
def test_other_groups(finished: Path, corpus: Path, mark: Path, group: str) -> None:
    run = send(finished, Path("runs/sent"), "nmt_feat.combiners.ConcatProject")
    text = (run / "config.yaml").read_text(encoding="utf-8")
    (run / "evil.py").write_text(EVIL.format(mark=str(mark)), encoding="utf-8")
    old = "nmt_feat.features.Categorical" if group != "annotator" else "null"
    begin = text.index(f"{group.partition('.')[0]}:")
    target = text[begin:].replace(f"_target_: {old}", "_target_: runs.sent.evil.Evil", 1)
    (run / "config.yaml").write_text(text[:begin] + target, encoding="utf-8")
    assert f"{group}._target_=runs.sent.evil.Evil" in translate(run, corpus)
    assert not mark.exists()


@pytest.mark.parametrize("key", ["methods.upos", "wide", "narrow"])
def test_names_of_classes_in_arguments(finished: Path, corpus: Path, mark: Path, key: str) -> None:
    """`combiner=mixed` takes some."""
    run = send(finished, Path("runs/sent"), "nmt_feat.combiners.Mixed")
    (run / "evil.py").write_text(EVIL.format(mark=str(mark)), encoding="utf-8")
    text = (run / "config.yaml").read_text(encoding="utf-8")
    begin = text.index("combiner:")
    *above, last = key.split(".")
    args = "".join(f"\n{' ' * (4 + 2 * i)}{name}:" for i, name in enumerate((*above, last)))
    rest = text[begin:].replace("args: {}", f"args:{args} runs.sent.evil.Evil", 1)
    (run / "config.yaml").write_text(text[:begin] + rest, encoding="utf-8")
    assert f"combiner.args.{key}=runs.sent.evil.Evil" in translate(run, corpus)
    assert not mark.exists()


def test_a_user_types_a_module_of_a_subfolder(corpus: Path, mark: Path) -> None:
    """As before: what is typed may be anywhere below the current folder, but in runs."""
    Path("sub").mkdir()
    Path("sub/mine_too.py").write_text(EVIL.format(mark=str(mark)), encoding="utf-8")
    assert locate_class("sub.mine_too.Evil").__name__ == "Evil"


def test_settings_are_plain_data(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No variable of the environment is read, in whatever way it is asked for."""
    monkeypatch.setenv("A_SECRET", "swordfish")
    config = tmp_path / "config.yaml"
    text = (finished / "config.yaml").read_text(encoding="utf-8")
    for value in ("${oc.env:A_SECRET}", "\\${oc.env:A_SECRET}", "${oc.decode:1}", "${seed}"):
        changed, count = re.subn("  name: .*", lambda _, v=value: f"  name: '{v}'", text, count=1)
        config.write_text(changed, encoding="utf-8")
        assert (count, read_settings(config).data.name) == (1, value)


def test_a_setting_that_is_none_is_refused(finished: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    text = (finished / "config.yaml").read_text(encoding="utf-8")
    config.write_text(text.replace("model:\n", "model:\n  depth: 3\n"), encoding="utf-8")
    with pytest.raises(UserError, match=r"no setting is named model\.depth"):
        read_settings(config)


@pytest.mark.parametrize(
    "target", ["../../evil.Evil", "/evil.Evil", "evil..Evil", ".evil.Evil", "evil/x.Evil", "evil"]
)
def test_a_name_that_is_no_dotted_one(finished: Path, corpus: Path, target: str) -> None:
    """Parts of paths among its dots end in one line, typed or in a run."""
    assert "not a dotted name" in translate(send(finished, Path("runs/sent"), target), corpus)
    with pytest.raises(UserError, match="not a dotted name"):
        locate_class(target)


@pytest.mark.parametrize("name", ["..", "/", ".", "a/../.."])
def test_a_corpus_named_like_a_folder_lets_no_file_into_the_page(
    tmp_path: Path, name: str, current_folder: Path
) -> None:
    """The page takes text from downloads in the cache: the name of the corpus is their folder."""
    (current_folder / "secret.txt").write_text("a secret\n", encoding="utf-8")
    corpora = Corpora(cache=Path("cache"))
    with pytest.raises(UserError, match="--text"):
        corpora.refuse_outside_folders(Path("secret.txt"), name)
    corpora.refuse_outside_folders(Path("cache/multi30k/test.en"), "multi30k")


def test_an_export_downloads_nothing(
    corpus: Path,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A sent run could name an address, a file and the folder that it is written to."""
    pytest.importorskip("ctranslate2")
    fetched: list[str] = []
    monkeypatch.setattr("nmt_feat.data.corpora.download_file", lambda url, *_: fetched.append(url))
    small = Small(corpus, corpus.parent / "cache", tmp_path_factory.mktemp("gate"))
    run = small.train("trainer.max_steps=2", "combiner=gate")
    config = OmegaConf.load(run / "config.yaml")
    config.data.folder, config.data.name = None, "home"
    config.data.download = {"url": "https://localhost/", "sha256": {"train.conllu": "0" * 64}}
    config.paths.cache = str(tmp_path)
    OmegaConf.save(config, run / "config.yaml")
    (run / "SHA256SUMS").unlink()
    (tmp_path / "home").mkdir()
    monkeypatch.setattr(sys, "argv", ["export.py", str(run)])
    with pytest.raises(SystemExit):
        runpy.run_path(str(ROOT / "scripts" / "export.py"), run_name="__main__")
    assert not fetched
    assert not (tmp_path / "home" / "train.conllu").exists()
