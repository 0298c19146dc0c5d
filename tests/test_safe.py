"""Nothing that is read runs code: a file that tries to leaves no mark, and one line says why."""

from __future__ import annotations

import ast
import gzip
import hashlib
import io
import json
import os
import pickle
import shutil
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch

from nmt_feat.base.checksums import hash_json
from nmt_feat.config.instantiate import build_object, locate_class, may_import
from nmt_feat.config.rules import check_settings
from nmt_feat.data.download import download_file
from nmt_feat.errors import UserError
from nmt_feat.training.checkpoints import Checkpoints
from tests.support.entry import call
from tests.support.small import ROOT, Small
from tests.support.stops import stop

# ---- what the package does not contain

MODULES = {"pickle", "dill", "cloudpickle", "marshal", "shelve", "tarfile", "zipfile", "code"}
CALLS = {
    *("eval", "exec", "compile", "__import__", "torch.load", "torch.save", "os.system", "os.popen"),
    *("yaml.load", "yaml.unsafe_load", "yaml.full_load", "hydra.utils.instantiate", "instantiate"),
    *("torch.hub.load", "shutil.unpack_archive", "OmegaConf.create_unsafe", "torch.jit.load"),
}


def forbidden(code: str) -> Iterator[str]:
    """What in a program could run what it reads."""
    for node in ast.walk(ast.parse(code)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{a.name}" for a in node.names)]
            yield from (name for name in names if name in CALLS)
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
            if called in CALLS or keywords.get("shell", "False") != "False":
                yield ast.unparse(node)
            if called in ("np.load", "numpy.load") and keywords.get("allow_pickle") != "False":
                yield ast.unparse(node)
        yield from (name for name in names if name.partition(".")[0] in MODULES)


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "import os, marshal",
        "from pickle import load",
        "from torch import load",
        "from hydra.utils import instantiate",
        "eval('1')",
        "x = torch.load(path)",
        "torch.load(path, weights_only=True)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "yaml.load(file, yaml.Loader)",
        "os.system(f'ls {name}')",
        "subprocess.run(f'ls {name}', shell=True)",
        "import tarfile",
    ],
)
def test_the_search_finds(line: str) -> None:
    assert list(forbidden(line))


def test_what_is_allowed() -> None:
    allowed = "model.eval()\nnp.load(p, allow_pickle=False)\nre.compile(x)\nsubprocess.run([a, b])"
    assert not list(forbidden(allowed))


@pytest.mark.parametrize(
    "path",
    [
        *(p for top in ("nmt_feat", "scripts") for p in sorted((ROOT / top).rglob("*.py"))),
        *sorted((ROOT / "tools").glob("*.py")),
    ],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_no_file_of_ours_can(path: Path) -> None:
    assert list(forbidden(path.read_text(encoding="utf-8"))) == []


# ---- files that try


class Payload:
    """Unpickled, it writes the file `ran`."""

    def __init__(self, folder: Path) -> None:
        self.mark = folder / "ran"

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch {self.mark}",)


@pytest.fixture
def payload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Payload]:
    """In the current folder; it must not have run in the end, though it would."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    new_payload = Payload(tmp_path)
    pickle.loads(pickle.dumps(new_payload))
    assert new_payload.mark.exists(), "harmless; the test proves nothing"
    new_payload.mark.unlink()
    yield new_payload
    assert not new_payload.mark.exists()


def saved(payload: Payload, how: str) -> bytes:
    """The payload as PyTorch, NumPy or pickle would store it."""
    stream = io.BytesIO()
    if how == "torch":
        torch.save({"weight": payload}, stream)
    elif how == "numpy":
        np.save(stream, np.array([payload], object), allow_pickle=True)
    else:
        pickle.dump(payload, stream)
    return stream.getvalue()


HOW = pytest.mark.parametrize("how", ["torch", "numpy", "pickle"])


@pytest.fixture(scope="module")
def finished(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    small = Small(corpus, corpus.parent / "cache", tmp_path_factory.mktemp("finished"))
    return small.train("trainer.max_steps=2")


@pytest.fixture
def given(finished: Path, tmp_path: Path) -> Path:
    """A run that somebody else has trained."""
    return Path(shutil.copytree(finished, tmp_path / "given"))


def translate(run: Path, corpus: Path) -> str:
    """The one line."""
    done = call("translate", f"run={run}", f"input={corpus / 'test.conllu'}")
    assert (done.code, done.out) == (2, "")
    assert done.err.count("\n") == 1
    return done.err.removeprefix("error: ").rstrip("\n")


@HOW
def test_weights(payload: Payload, given: Path, corpus: Path, how: str) -> None:
    """With sums that fit."""
    path = given / "model.safetensors"
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    path.write_bytes(saved(payload, how))
    sums = given / "SHA256SUMS"
    now = hashlib.sha256(path.read_bytes()).hexdigest()
    sums.write_text(sums.read_text().replace(before, now))
    assert translate(given, corpus) == f"{path}: damaged, not a safetensors file"


@HOW
def test_a_checkpoint(payload: Payload, small: Small, how: str) -> None:
    """With sums that fit."""
    run = stop(small)
    path = run / "checkpoints" / "state-5.safetensors"
    path.write_bytes(saved(payload, how))
    index = run / "checkpoints" / "checkpoint-5.json"
    content = json.loads(index.read_text())
    del content["sum"]
    content["sha256"][path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    index.write_text(json.dumps({"sum": hash_json(content), **content}))
    assert Checkpoints(run / "checkpoints", 1).step == 5
    with pytest.raises(UserError) as error:
        small.train()
    assert str(error.value) == f"{path}: damaged, not a safetensors file"


@HOW
@pytest.mark.parametrize("name", ["vectors.txt", "vectors.txt.gz", "vectors.npy"])
def test_vectors(payload: Payload, small: Small, how: str, name: str) -> None:
    content = saved(payload, how)
    Path(name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    done = call(
        "train", *small.overrides("features=[vectors]", f"features.vectors.file={Path(name)}")
    )
    assert done.code == 2
    assert done.err.startswith(f"error: {name}:1: ")
    assert done.err.count("\n") == 1


def test_a_cache(payload: Payload) -> None:
    """NumPy's own files are read where we have written them."""
    Path("x.npy").write_bytes(saved(payload, "numpy"))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        np.load("x.npy", allow_pickle=False)


# ---- archives and downloads


def tar(path: Path) -> None:
    with tarfile.open(path, "w:gz") as file:
        file.addfile(tarfile.TarInfo("../ran"), io.BytesIO())
        file.addfile(tarfile.TarInfo("train.conllu"), io.BytesIO())


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("../ran", "")


@pytest.mark.parametrize(("make", "name"), [(tar, "x.conllu.gz"), (zipped, "x.conllu")])
def test_an_archive(
    payload: Payload, small: Small, make: Callable[[Path], None], name: str
) -> None:
    """Nothing is extracted at all: there is no code for it."""
    make(Path(name))
    done = call("train", *small.overrides(f"data.train.source={Path(name).absolute()}"))
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert f"{name}:" in done.err
    assert [path.name for path in Path().iterdir()] == [name]


@pytest.mark.parametrize("url", ["http://example.org/x", "ftp://example.org/x", "http://127.1/x"])
def test_insecure_downloads(tmp_path: Path, url: str) -> None:
    with pytest.raises(UserError) as error:
        download_file(url, tmp_path / "x", "0" * 64)
    assert str(error.value) == (
        f"data.download.url: {url} is not https; give a URL that begins with it"
    )
    assert not list(tmp_path.iterdir())


class Elsewhere(BaseHTTPRequestHandler):
    """Sends on to another address of this machine, which its name does not tell."""

    server: ThreadingHTTPServer

    def do_GET(self) -> None:
        self.send_response(302 if self.path == "/x" else 200)
        self.send_header("Location", f"http://127.0.0.2:{self.server.server_port}/y")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="needs 127.0.0.2")
def test_sent_on_to_an_insecure_place(tmp_path: Path) -> None:
    with ThreadingHTTPServer(("", 0), Elsewhere) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        port, pinned = server.server_port, hashlib.sha256(b"").hexdigest()
        with pytest.raises(UserError) as error:
            download_file(f"http://127.0.0.1:{port}/x", tmp_path / "x", pinned)
        server.shutdown()
        thread.join()
    assert str(error.value).startswith(f"data.download.url: http://127.0.0.2:{port}/y is not https")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("name", "corpus_name"), [("../../../ran", "x"), ("ran", "../../.."), ("/ran", "x")]
)
def test_a_download_stays_in_its_folder(
    payload: Payload, small: Small, name: str, corpus_name: str
) -> None:
    """A file that somebody has pinned, of a name that leads out."""
    source = Path("source")
    source.mkdir()
    (source / "ran").write_text("x")
    pinned = hashlib.sha256(b"x").hexdigest()
    small.cache = Path("cache/a")
    done = call(
        "train",
        *small.overrides(
            "data=files",
            f"data.name={corpus_name}",
            *("data.folder=null", "data.source_lang=en", "data.target_lang=de"),
            f"data.download.url={source.absolute().as_uri()}",
            f"+data.download.sha256={{{name}: {pinned}}}",
            f"data.train.source={name}",
            *(f"data.{s}={name}" for s in ("train.target", "dev.source", "dev.target")),
            *(f"data.tests.test.{s}={name}" for s in ("source", "target")),
            "combiner=none",
        ),
    )
    assert done.code == 2, done.out
    where = Path("cache/a") / corpus_name / name
    assert done.err == (
        f"error: data.train.source={name}: would be written to {where}, outside of paths.cache; "
        "give names without .. (data.name, data.download.sha256)\n"
    )
    assert not Path("cache").exists() or not list(Path("cache").rglob("ran"))


# ---- classes

TARGETS = [
    "os.system",
    "subprocess.Popen",
    "subprocess.run",
    "builtins.eval",
    "builtins.exec",
    "builtins.__import__",
    "shutil.rmtree",
    "pickle.Unpickler",
    "runpy.run_path",
    "antigravity.Anything",
    "torch.hub.load",
    "torch.load",
    "importlib.import_module",
    "ctypes.CDLL",
    "pathlib.Path",
]


ROLES = ["combiner", "features.upos", "optimizer", "annotator"]


@pytest.mark.parametrize(
    ("target", "role"),
    [*((t, "annotator") for t in TARGETS), *((t, r) for t in TARGETS[:2] for r in ROLES[:3])],
)
def test_targets(payload: Payload, small: Small, target: str, role: str) -> None:
    """By any part of the settings, with what it takes."""
    more = [f"{role}._target_={target}", f"+{role}.args.args=[touch,{payload.mark}]"]
    if role == "combiner":
        more.append("combiner.bias=null")
    before = set(sys.modules)
    done = call("train", *small.overrides(*more))
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert target.rpartition(".")[0] in done.err
    assert "antigravity" not in set(sys.modules) - before


@pytest.mark.thorough
@pytest.mark.parametrize("role", ROLES)
def test_a_class_of_another_kind(
    payload: Payload, small: Small, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where its module is allowed."""
    monkeypatch.setenv("NMT_FEAT_MODULES", "subprocess")
    more = f"{role}._target_=subprocess.Popen", f"+{role}.args.args=[touch,{payload.mark}]"
    done = call("train", *small.overrides(*more))
    assert done.code == 2
    assert "subprocess.Popen: must be derived from " in done.err


@pytest.mark.parametrize("target", ["subprocess.Popen", "os.system"])
def test_a_run_of_others(payload: Payload, given: Path, corpus: Path, target: str) -> None:
    """Its settings are no better than others."""
    path = given / "config.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("nmt_feat.combiners.Concat", target), encoding="utf-8")
    assert path.read_text(encoding="utf-8") != text
    module = target.partition(".")[0]
    assert translate(given, corpus) == (
        f"{path}: combiner._target_={target}: a run may name classes of nmt_feat, torch.nn, "
        f"torch.optim, and of a file in the current folder; {module} is none of these. If you know "
        f"what it does, allow it: NMT_FEAT_MODULES={module}"
    )


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:os.system", "!!python/name:os.system", "!!python/module:os"]
)
def test_yaml(payload: Payload, given: Path, corpus: Path, tag: str) -> None:
    (given / "config.yaml").write_text(f'seed: {tag} ["touch {payload.mark}"]\n')
    path = given / "config.yaml"
    assert translate(given, corpus).startswith(f"{path}: not the settings of a run (could not ")
    Path("my/combiner").mkdir(parents=True)
    Path("my/combiner/x.yaml").write_text(f'bias: {tag} ["touch {payload.mark}"]\n')
    done = call("train", "--config-dir=my", "combiner=x", f"data.folder={corpus}")
    assert (done.code, done.err.count("\n")) == (2, 1), done.err


def test_kinds() -> None:
    """Not even of an allowed module what is of another kind; nothing is made of it."""
    executed_payloads: list[int] = []

    class Wrong:
        def __init__(self) -> None:
            executed_payloads.append(1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn, "Wrong", Wrong, raising=False)
        with pytest.raises(
            UserError, match=r"must be derived from torch\.optim\.optimizer\.Optimizer"
        ):
            build_object("torch.nn.Wrong", torch.optim.Optimizer)
    assert not executed_payloads


def test_modules_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the current folder, or by name."""
    (tmp_path / "here" / "pack" / "deep").mkdir(parents=True)
    (tmp_path / "there" / "there_pack").mkdir(parents=True)
    (tmp_path / "here" / "here_file.py").write_text("class A: pass\n")
    (tmp_path / "here" / "pack" / "deep" / "inner.py").write_text("class A: pass\n")
    (tmp_path / "there" / "there_file.py").write_text("raise SystemExit('ran')\n")
    (tmp_path / "there" / "there_pack" / "__init__.py").write_text("raise SystemExit('ran')\n")
    (tmp_path / "there" / "there_pack" / "x.py").write_text("class A: pass\n")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "there"), str(tmp_path / "here")])
    for name in ("here_file", "pack.deep.inner", "nmt_feat.combiners", "torch.nn", "nowhere.x"):
        assert may_import(name)
    for name in ("there_file", "there_pack.x", "os", "sys", "__main__", "torch", "torch.nnx"):
        assert not may_import(name)
    assert locate_class("pack.deep.inner.A").__name__ == "A"
    with pytest.raises(UserError, match="there_pack"):
        locate_class("there_pack.x.A")
    monkeypatch.setenv("NMT_FEAT_MODULES", "os, there_file")
    assert may_import("there_file")
    assert may_import("os.path")
    assert not may_import("there_pack.x")


@pytest.mark.parametrize("name", ["../out", "a/b", ".hidden", ""])
def test_names_of_test_sets_are_no_paths(small: Small, name: str) -> None:
    cfg = small.config()
    cfg.data.tests[name] = cfg.data.tests["test"]
    with pytest.raises(UserError) as error:
        check_settings(cfg)
    assert str(error.value) == f"data.tests.{name}: a name has letters, digits, _ . + and - only"
