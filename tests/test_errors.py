"""Bad input ends in one line that says what, where and how to mend, with exit code 2.

Each case goes through `train.py`, `translate.py` or `score.py` themselves. In the messages,
`CORPUS` stands for the folder of the data and `HERE` for the current folder.
"""

from __future__ import annotations

import errno
import importlib
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest
import torch
from entry import Done, call
from small import Small

import nmt_feat.run
from nmt_feat.corpus import annotators
from nmt_feat.training.checkpoints import Checkpoints

COMBINERS = """
import torch
from nmt_feat.combiners import Combiner

class Init(Combiner):
    def __init__(self, parts, model_dim):
        super().__init__(parts, model_dim)
        self.side = parts["side"]

class Forward(Combiner):
    def forward(self, parts):
        return parts[0] + parts[5]

class Wide(Combiner):
    def forward(self, parts):
        return torch.cat(list(parts), dim=-1)

class NoForward(Combiner):
    pass

class Needy(Combiner):
    def __init__(self, parts, model_dim, scale):
        super().__init__(parts, model_dim)

class Widths(Combiner):
    def decide(self, parts, model_dim):
        return {"word": model_dim}

class Other:
    pass
"""
"""A user's module with every mistake that a combiner can have."""

FILES = {
    "mine.py": COMBINERS,
    "needs_other.py": "import not_installed",
    "syntax.py": "class Mine(\n",
    "my/combiner/typo.yaml": "_target_: nmt_feat.combiners.Add\ndimm: 3\n",
    "my/combiner/type.yaml": "_target_: nmt_feat.combiners.Gate\nbias: high\n",
    "my/combiner/yaml.yaml": "_target_: [nmt_feat\n",
    "my/features/gender.yaml": "gender: {colum: feats.Gender}\n",
    "my/features/plain.yaml": "gender: feats.Gender\n",
    "my/features/width.yaml": "width: {dim: 3}\n",
    "my/features/word.yaml": "word: {column: upos}\n",
    "text": "no folder",
}
"""The user's files in the current folder."""


@pytest.fixture
def here(small: Small, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the user's files."""
    monkeypatch.chdir(small.folder)
    for name, content in FILES.items():
        path = small.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    for name in ("mine", "needs_other", "syntax"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return small.folder


def line(done: Done, small: Small) -> str:
    """The one line of standard error, after `error: `."""
    assert done.code == 2, done
    assert done.err.startswith("error: "), done.err
    assert done.err.count("\n") == 1, done.err
    assert done.err.endswith("\n")
    text = done.err.removeprefix("error: ").removesuffix("\n")
    return text.replace(str(small.corpus), "CORPUS").replace(str(small.folder), "HERE")


def train(small: Small, *arguments: object) -> str:
    return line(call("train", *small.overrides(*map(str, arguments))), small)


# ---- settings

QUOTE = "write name=value, lists as name=[a,b], and quote what the shell would change"
CHOOSE = (
    "no such feature is chosen; choose it by name, features=[upos,deprel], or describe a new one "
    "in a file of the group features (see --config-dir)"
)
UNSET = ("dev.source", "dev.target", "source_lang", "target_lang", "tests.test.source")
UNSET += ("tests.test.target", "train.source", "train.target")
SETTINGS = {
    # unknown names
    "combiner=gat": "combiner=gat: no such option; did you mean 'gate'?",
    "features=[upos,deprl]": "features=deprl: no such option; did you mean 'deprel'?",
    "data=embeded": "data=embeded: no such option; did you mean 'embedded'?",
    "--config-dir=my features=[gendr]": "features=gendr: no such option; did you mean 'gender'?",
    "-m combiner=gat,add": "combiner=gat: no such option; did you mean 'gate'?",
    "--config-name=trian": "config=trian: no such option; did you mean 'train'?",
    "--config-dir=nowhere": "Additional config directory 'HERE/nowhere' not found",
    "combin=gate": "combin: no such setting; did you mean 'combiner'?",
    "combiner.dimm=3": "combiner.dimm: no such setting; known: _target_, args, bias, widths",
    "model.dims=3": "model.dims: no such setting; did you mean 'dim'?",
    "+trainer.maxsteps=3": "trainer.maxsteps: no such setting; did you mean 'max_steps'?",
    "+features.upos.colum=x": "features.upos.colum: no such setting; did you mean 'column'?",
    "data.tests.test.sorce=x": "data.tests.test.sorce: no such setting; did you mean 'source'?",
    "data.tests.more.source=x": "data.tests.more: no such test set; describe a new one in a file "
    "of the group data (see --config-dir)",
    "features.lemma.dim=3": f"features.lemma: {CHOOSE}",
    "+features.lemma={column:lemma}": f"features.lemma: {CHOOSE}",
    "combiner.args.scale=3": "combiner.args.scale: is not there yet; to add it, write "
    "+combiner.args.scale=...",
    "--config-dir=my combiner=typo": "combiner/typo.yaml: combiner.dimm: no such setting; known: "
    "_target_, args, bias, widths",
    "--config-dir=my features=[gender]": "features/gender.yaml: features.gender.colum: no such "
    "setting; did you mean 'column'?",
    # unreadable
    "features=[upos": "features=[upos: cannot be read (no viable alternative at input '[upos'); "
    + QUOTE,
    "model.dim": "model.dim: cannot be read (Error parsing override 'model.dim' missing EQUAL at "
    f"'<EOF>'); {QUOTE}",
    "model.dim=1,2": "model.dim=1,2: several values; put -m before it for a sweep, or brackets "
    "around a list",
    "model=3": "the settings cannot be read: Config group override must be a string or a list. "
    "Got int",
    "--config-dir=my combiner=yaml": "the settings cannot be read: while parsing a flow sequence "
    "in \"HERE/my/combiner/yaml.yaml\", line 1, column 11 expected ',' or ']', but got "
    "'<stream end>' in \"HERE/my/combiner/yaml.yaml\", line 2, column 1",
    # types
    "model.dim=abc": "model.dim=abc: no whole number",
    "seed=1.5": "seed=1.5: no whole number",
    "seed=null": "seed=null: needs a value",
    "model.dropout=much": "model.dropout=much: no number",
    "trainer.progress=perhaps": "trainer.progress=perhaps: give true or false",
    "optimizer.betas=3": "optimizer.betas: is a list; write optimizer.betas=[a,b]",
    "optimizer.betas=[a,b]": "optimizer.betas[0]=a: no number",
    "combiner.args=3": "combiner.args: is a dictionary; write combiner.args={name:value}",
    "--config-dir=my combiner=type": "combiner/type.yaml: combiner.bias=high: no number",
    "--config-dir=my features=[plain]": "features/plain.yaml: features.gender: has settings of its "
    "own; write {name: value}",
    # missing
    "data=files": f"not set, and needed: {', '.join(f'data.{name}' for name in UNSET)}; "
    "give data.dev.source=...",
    "--config-dir=my features=[width]": "not set, and needed: features.width.column; give "
    "features.width.column=...",
    "features=[]": "features=[]: the combiner has nothing to merge; choose features, for instance "
    "features=[upos,deprel], or combiner=none",
    "~data.tests.test": "data.tests is empty; give a test set, as conf/data/files.yaml does",
    # bounds and choices
    "model.dim=0": "model.dim=0: must be at least 1",
    "model.dropout=1": "model.dropout=1.0: must be in [0, 1)",
    "optimizer.betas=[0.9]": "optimizer.betas=[0.9]: must be two numbers in [0, 1)",
    "optimizer.betas=[0.9,1]": "optimizer.betas=[0.9, 1.0]: must be two numbers in [0, 1)",
    "subword.character_coverage=2": "subword.character_coverage=2.0: must be in [0.98, 1]",
    "subword.kind=bp": "subword.kind=bp: unknown; did you mean 'bpe'?",
    "model.tie=everything": "model.tie=everything: unknown; known: all, target",
    "trainer.precision=bf16": "trainer.precision=bf16: unknown; did you mean 'bf16-true'?",
    "combiner.widths=senrich": "combiner.widths=senrich: unknown; did you mean 'sennrich'?",
    "features.upos.dim=0": "features.upos.dim=0: must be at least 1",
    "features.upos.max_values=-1": "features.upos.max_values=-1: must be at least 1",
    "features.upos.column=upso": "features.upos.column=upso: unknown column; did you mean 'upos'?",
    "features.upos.policy=all": "features.upos.policy=all: one of copy, first",
    "data.limit=0": "data.limit=0: must be at least 1",
    # contradictions
    "model.heads=3": "model.heads=3 does not divide model.dim=16 (16 = 3 * 5 + 1); change one of "
    "them",
    "decoding.nbest=3": "decoding.nbest=3 is above decoding.beam=1; set decoding.beam=3",
    "model.tie=all": "model.tie=all needs one table of width 16, but the combiner gives the word "
    "14 = 16 - 2; use model.tie=target or another combiner",
    "model.tie=all subword.joint=false combiner=add": "model.tie=all needs one vocabulary for both "
    "sides; set subword.joint=true or model.tie=target",
    "features=[upos,deprel,upos]": "features=[upos,deprel,upos]: names a feature twice; leave one "
    "out",
    "--config-dir=my features=[word]": "features.word: the name of the words themselves; choose "
    "another",
    "combiner.bias=1": "combiner=concat takes no bias; leave combiner.bias out",
    "combiner=gate +combiner.args.bais=1": "combiner=gate takes no bais; leave combiner.args.bais "
    "out",
    "trainer.deterministic=true": "trainer.deterministic=true is for CUDA; on CPU leave it out",
    # widths
    "features.upos.dim=20": "concat leaves the word -5 of the model's width 16: deprel 1 + upos 20 "
    "= 21; make features.<name>.dim smaller or model.dim larger",
    # classes
    "combiner._target_=Gate": "_target_=Gate: not a dotted name; write module.Class",
    "combiner._target_=nmt_feat.combiners.Gat": "_target_=nmt_feat.combiners.Gat: no class 'Gat' "
    "in nmt_feat.combiners; did you mean 'Gate'?",
    "combiner._target_=mien.Wide": "_target_=mien.Wide: no module 'mien', neither in the current "
    "folder nor installed; did you mean 'mine'?",
    "combiner._target_=mine.Foward": "_target_=mine.Foward: no class 'Foward' in mine; did you "
    "mean 'Forward' or 'NoForward'?",
    "combiner._target_=mine.Other": "combiner._target_=mine.Other: is no "
    "nmt_feat.combiners.Combiner; derive the class from it",
    "combiner._target_=mine.Init": "mine.Init, line 8: KeyError: 'side'",
    "combiner._target_=mine.Forward": "mine.Forward, line 12: IndexError: list index out of range",
    "combiner._target_=mine.NoForward": "mine.NoForward: NotImplementedError",
    "combiner._target_=mine.Needy": "mine.Needy needs the argument 'scale'",
    "combiner._target_=mine.Wide": "mine.Wide: forward returns (2, 3, 48) for batch 2 and time 3; "
    "return (2, 3, 16), the model's width",
    "combiner._target_=mine.Widths": "mine.Widths: gives a width to word; the parts are word, "
    "deprel, upos",
    "combiner._target_=needs_other.X": "_target_=needs_other.X: importing needs_other failed: No "
    "module named 'not_installed'",
    "combiner._target_=syntax.Mine": "_target_=syntax.Mine: importing syntax failed: SyntaxError: "
    "'(' was never closed (syntax.py, line 1)",
    "optimizer._target_=torch.optim.Adamm": "_target_=torch.optim.Adamm: no class 'Adamm' in "
    "torch.optim; did you mean 'Adam' or 'RAdam' or 'NAdam'?",
    "features.upos._target_=torch.nn.ReLU": "torch.nn.ReLU takes no argument 'size'; known: "
    "inplace",
    # annotators
    "annotator=udpipe": "annotator=udpipe needs a model: set annotator.model=FILE.udpipe (models "
    "for many languages: https://ufal.mff.cuni.cz/udpipe/1/models)",
    "annotator=udpipe annotator.model=en.udpipe": "annotator.model=en.udpipe: no such file; set "
    "annotator.model to a model",
    "annotator=udpipe annotator.model=text": "annotator.model=text: not a UDPipe 1 model; get it "
    "again",
    "annotator=hanta data.source_lang=fr": "annotator=hanta: no language 'fr'; known: de, en",
    # data
    "data.folder=nowhere": "data.folder=nowhere: no such folder",
    "data.train.source=trian.conllu": "data.train.source=trian.conllu: no such file in CORPUS; "
    "correct the name or set data.folder",
    "data.min_words=100": "CORPUS/train.conllu: no training pair is left of 80 (80 words < 100); "
    "see data.min_words, data.max_pieces, data.max_ratio",
    "subword.vocab_size=9999": "subword.vocab_size=9999: too large for this text, bpe finds at "
    "most MOST pieces; set data.vocab_size=MOST or less",
    "subword.vocab_size=10": "subword.vocab_size=10: too small for this text, its characters "
    "alone need LEAST; set data.vocab_size=LEAST or more, or a lower subword.character_coverage",
    "features.upos.min_count=9999": "features.upos is constant: max_values=None and "
    "min_count=9999 keep 0 of its 13 values; relax them",
    "paths.runs=text": "text: File exists; set paths.runs and paths.cache to folders that can be "
    "written",
    "paths.runs=text/runs": "text/runs: Not a directory; set paths.runs and paths.cache to folders "
    "that can be written",
}


@pytest.mark.parametrize("command", SETTINGS)
def test_settings(small: Small, here: Path, command: str) -> None:
    if "udpipe" in command:
        pytest.importorskip("ufal.udpipe")
    if "hanta" in command:
        pytest.importorskip("HanTa")
    arguments = command.split()
    if not any(argument.startswith("combiner") for argument in arguments):
        arguments.append("combiner=concat")
    found = train(small, *arguments)
    expected = SETTINGS[command]
    for name in ("MOST", "LEAST"):  # depend on the corpus; the number itself is tested elsewhere
        expected = expected.replace(name, r"\d+") if name in expected else expected
    if r"\d" in expected:
        assert re.fullmatch(re.escape(expected).replace(r"\\d\+", r"(\d+)"), found), found
    else:
        assert found == expected
    assert not list(here.glob("runs/concat*/config.yaml"))  # nothing was trained


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_device_that_is_not_there(small: Small, here: Path) -> None:
    found = train(small, "trainer.accelerator=cuda")
    assert found.startswith("trainer.accelerator=cuda trainer.devices=1: cannot be had here (")


def test_options_stand_anywhere(small: Small, here: Path) -> None:
    """Hydra itself takes none between settings."""
    assert (
        train(small, "combiner=gate", "--config-dir", "my", "features=[gender]")
        == (SETTINGS["--config-dir=my features=[gender]"])
    )


@pytest.mark.parametrize(
    ("annotator", "package"), [("udpipe annotator.model=text", "ufal.udpipe"), ("hanta", "HanTa")]
)
def test_annotator_without_its_package(
    small: Small, here: Path, annotator: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.import_module

    def fake(name: str, *rest: str) -> object:
        if name.startswith(package):
            raise ModuleNotFoundError(name=name)
        return real(name, *rest)

    monkeypatch.setattr(annotators.importlib, "import_module", fake)
    extra = annotator.split()[0]
    assert train(small, *f"annotator={annotator}".split()) == (
        f"annotator={extra} needs the package {package}: pip install 'nmt_feat[{extra}]'"
    )


@pytest.mark.parametrize(
    ("code", "filename", "message"),
    [
        (errno.ENOSPC, None, "No space left on device"),
        (errno.EACCES, "runs", "runs: Permission denied"),
        (errno.EROFS, "runs", "runs: Read-only file system"),
    ],
)
def test_disk(
    small: Small,
    here: Path,
    code: int,
    filename: str | None,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(code, os.strerror(code), *([filename] if filename else []))

    monkeypatch.setattr(nmt_feat.run, "keep", full)
    hint = "set paths.runs and paths.cache to folders that can be written"
    assert train(small, "combiner=none") == f"{message}; {hint}"


# ---- data, each reader

Change = Callable[[bytes], bytes]


def replaced(old: bytes, new: bytes, count: int = 1) -> Change:
    return lambda content: content.replace(old, new, count)


def constant(content: bytes | None) -> Change:
    return lambda _: content  # type: ignore[return-value]


EMPTY = "the file is empty; data.{} needs sentences"
CONVERT = "convert the file: iconv -f ENCODING -t UTF-8"
CONLLU = "CORPUS/train.conllu:3: "
DATA: dict[str, tuple[str, Change, str]] = {
    "missing source": (
        "train.conllu",
        constant(None),
        "data.train.source=train.conllu: no such file in CORPUS; correct the name or set "
        "data.folder",
    ),
    "missing target": (
        "dev.de",
        constant(None),
        "data.dev.target=dev.de: no such file in CORPUS; correct the name or set data.folder",
    ),
    "empty source": ("train.conllu", constant(b""), "CORPUS/train.conllu: " + EMPTY),
    "empty target": ("train.de", constant(b""), "CORPUS/train.de: " + EMPTY),
    "no sentence": ("train.conllu", constant(b"\n\n\n"), "CORPUS/train.conllu: " + EMPTY),
    "truncated line": (
        "train.conllu",
        lambda content: b"\n".join(content.split(b"\n")[:3])[:-30],
        CONLLU + "{columns} columns, not 10 (CoNLL-U, by tabs): {line!r}",
    ),
    "truncated file": (
        "train.conllu",
        lambda content: b"\n\n".join(content.split(b"\n\n")[:40]),
        "data.train: CORPUS/train.conllu has 40 sentences, CORPUS/train.de has 80; their lines "
        "must correspond",
    ),
    "spaces for tabs": (
        "train.conllu",
        replaced(b"\t", b" ", 9),
        CONLLU + "1 columns, not 10 (CoNLL-U, by tabs): {line!r}",
    ),
    "empty column": (
        "train.conllu",
        replaced(b"\t_\n", b"\t\n"),
        CONLLU + "the column MISC is empty; write _ for no value",
    ),
    "id": (
        "train.conllu",
        replaced(b"\n1\t", b"\n7\t"),
        CONLLU + "id 7 after 0 words; ids must count 1, 2, 3 ...",
    ),
    "forms and text differ": (
        "train.conllu",
        replaced(b"# text = ", b"# text = Ah "),
        "CORPUS/train.conllu:2: the forms differ from '# text': {form!r} is not at character 0 "
        "({text!r} ...); correct either",
    ),
    "source encoding": (
        "train.conllu",
        replaced(b"# text = ", b"# text = \xe4"),
        "CORPUS/train.conllu:2: invalid UTF-8 at byte offset {offset} (0xe4); " + CONVERT,
    ),
    "target encoding": (
        "dev.de",
        lambda content: b"a\n\xff" + content,
        "CORPUS/dev.de:2: invalid UTF-8 at byte offset 2 (0xff); " + CONVERT,
    ),
    "one line more": (
        "test.de",
        lambda content: content + b"mehr\n",
        "data.tests.test: CORPUS/test.conllu has 8 sentences, CORPUS/test.de has 9; their lines "
        "must correspond",
    ),
    "empty line": (
        "dev.de",
        lambda content: b"\n" + content.split(b"\n", 1)[1],
        "CORPUS/dev.de:1: empty side of the pair {pair!r} and ''; remove the line from every file",
    ),
    "constant feature": (
        "train.conllu",
        lambda content: re.sub(rb"(?m)^((?:[^\t\n]*\t){3})[A-Z]+", rb"\1X", content),
        "features.upos is constant: upos is 'X' on all of train (annotation: CORPUS/train.conllu); "
        "leave it out of features",
    ),
    "feature without values": (
        "train.conllu",
        lambda content: re.sub(rb"(?m)^((?:[^\t\n]*\t){3})[A-Z]+", rb"\1_", content),
        "features.upos: no word of train has upos (annotation: CORPUS/train.conllu); leave it out "
        "of features or choose another annotation",
    ),
}
"""By what is wrong: the file, the change, the message."""


@pytest.mark.parametrize("case", DATA)
def test_data(small: Small, here: Path, case: str) -> None:
    name, change, message = DATA[case]
    shutil.copytree(small.corpus, here / "bad")
    small.corpus = here / "bad"
    path = here / "bad" / name
    before = path.read_bytes()
    path.unlink()
    after = change(before)
    if after is not None:
        path.write_bytes(after)
    lines = (after or b"").decode(errors="replace").split("\n")
    text = lines[1].removeprefix("# text = ") if len(lines) > 2 else ""
    sentences = (here / "bad" / "dev.conllu").read_text(encoding="utf-8")
    expected = message.format(
        "train",
        columns=len(lines[2].split("\t")) if len(lines) > 2 else 0,
        line=lines[2][:60] if len(lines) > 2 else "",
        form=lines[2].split("\t")[1] if "forms" in case else "",
        text=text[:20],
        offset=(after or b"").find(b"\xe4"),
        pair=re.findall(r"# text = (.*)", sentences)[0],
    )
    assert train(small, "features=[upos]", "combiner=add") == expected


PLAIN = shlex.split(
    "data=files data.source_lang=en data.target_lang=de data.train.source=train.en "
    "data.train.target=train.de data.dev.source=dev.en data.dev.target=dev.de "
    "data.tests.test.source=test.en data.tests.test.target=test.de subword.vocab_size=150"
)


@pytest.fixture
def plain(small: Small, here: Path) -> Path:
    """The corpus as plain text, annotation beside it."""
    shutil.copytree(small.corpus, here / "plain")
    small.corpus = here / "plain"
    for path in small.corpus.glob("*.conllu"):
        texts = re.findall(r"# text = (.*)", path.read_text(encoding="utf-8"))
        path.with_suffix(".en").write_text("\n".join([*texts, ""]), encoding="utf-8")
    return small.corpus


def test_plain_text_without_annotation(small: Small, plain: Path) -> None:
    assert train(small, *PLAIN) == (
        "data.train.source=train.en: features need annotation; set annotator=udpipe or "
        "annotator=hanta, or data.train.conllu=FILE.conllu"
    )


def test_annotation_of_another_text(small: Small, plain: Path) -> None:
    conllu = [f"data.{s}.conllu={s}.conllu" for s in ("train", "dev")]
    text = (plain / "test.en").read_text(encoding="utf-8").split("\n")[0]
    found = train(small, *PLAIN, *conllu, "data.tests.test.conllu=dev.conllu")
    assert found.startswith(
        f"CORPUS/dev.conllu: sentence 1: the annotation does not fit the text {text!r}: "
    )
    assert found.endswith("; annotate this very text")


def test_annotator_without_the_column(small: Small, plain: Path) -> None:
    pytest.importorskip("HanTa")
    assert train(small, *PLAIN, "annotator=hanta", "features=[upos,deprel]") == (
        "features.deprel: no word of train has deprel (annotation: HanTa); leave it out of "
        "features or choose another annotation"
    )


# ---- what the framework itself has written


def test_corrupt_cache_is_rebuilt_and_said(small: Small, here: Path) -> None:
    small.cache = here / "cache"
    first = call("train", *small.overrides("combiner=none"))
    (store,) = here.glob("cache/prepared-*/0.arrow")
    content = store.read_bytes()
    store.write_bytes(content[:-9] + b"?" + content[-8:])
    again = call("train", *small.overrides("combiner=none", "seed=2"))
    assert (first.code, again.code, again.err) == (0, 0, "")
    said = " ".join(again.out.split())
    assert f"damaged ({store.name} has changed), made again" in said
    assert store.read_bytes() == content


DAMAGE: dict[str, tuple[str, bytes | None, str]] = {
    "weights": (
        "checkpoints/weights-2.safetensors",
        b"?",
        "FILE: damaged, its SHA-256 is not the one in checkpoints.json; to train from the start, "
        "delete RUN",
    ),
    "state": (
        "checkpoints/state-2.safetensors",
        b"",
        "FILE: damaged, its SHA-256 is not the one in checkpoints.json; to train from the start, "
        "delete RUN",
    ),
    "index": (
        "checkpoints/checkpoints.json",
        b'{"steps": [2',
        "FILE: damaged; to train from the start, delete RUN",
    ),
}


@pytest.fixture(scope="module")
def stopped(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped after its first checkpoint."""
    small = Small(corpus, corpus.parent / "cache", tmp_path_factory.mktemp("stopped"))
    with mock.patch.object(Checkpoints, "select", side_effect=KeyboardInterrupt):
        done = call("train", *small.overrides("combiner=none", "trainer.max_steps=2"))
    assert done.code == 130
    assert done.err == "interrupted; the same command continues\n"
    return small.folder


@pytest.mark.parametrize("case", DAMAGE)
def test_corrupt_checkpoint_is_refused(small: Small, stopped: Path, case: str) -> None:
    name, content, message = DAMAGE[case]
    shutil.copytree(stopped, small.folder, dirs_exist_ok=True)
    (run,) = small.folder.glob("runs/none-*")
    (run / name).unlink()
    if content is not None:
        (run / name).write_bytes(content)
    expected = message.replace("FILE", f"HERE/runs/{run.name}/{name}")
    expected = expected.replace("RUN", f"HERE/runs/{run.name}")
    assert train(small, "combiner=none", "trainer.max_steps=2") == expected


# ---- translate.py, score.py


@dataclass
class Runs:
    """Finished runs, by their features."""

    words: Path
    upos: Path


@pytest.fixture(scope="module")
def runs(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    small = Small(corpus, corpus.parent / "cache", tmp_path_factory.mktemp("runs"))
    few = ("trainer.max_steps=1", "trainer.validate_every=1")
    words = small.train("combiner=none", *few)
    upos = small.train("combiner=add", "features=[upos]", *few)
    return Runs(words, upos)


APPLY = {
    "translate": "not set, and needed: run; give run=...",
    "score run=WORDS": "not set, and needed: source, target; give source=...",
    "translate rnu=WORDS": "rnu: no such setting; did you mean 'run'?",
    "translate run=WORDS +nbset=2": "nbset: no such setting; did you mean 'nbest'?",
    "translate run=WORDS beam=many": "beam=many: no whole number",
    "translate run=WORDS beam=0": "beam=0: must be at least nbest=1",
    "translate run=WORDS nbest=3 beam=2": "beam=2: must be at least nbest=3",
    "translate run=WORDS nbest=0": "nbest=0: must be at least 1",
    "translate run=WORDS chunk=0": "chunk=0: must be at least 1",
    "translate run=WORDS threads=-1": "threads=-1: must be at least 0",
    "translate run=WORDS input=text length_penalty=-1": "decoding.length_penalty=-1.0: give 0 or "
    "more",
    "translate run=WORDS format=xml": "format=xml: unknown; use auto, text or conllu",
    "translate run=nowhere": "nowhere: no finished run (it has no config.yaml or "
    "model.safetensors); give a folder that train.py wrote",
    "translate run=.": ".: no finished run (it has no config.yaml or model.safetensors); give a "
    "folder that train.py wrote",
    "translate run=WORDS input=no.en": "no.en: no such file; check the path",
    "translate run=WORDS input=.": ".: is a folder; give a file",
    "translate run=WORDS input=latin.en": "latin.en:2: invalid UTF-8 at byte offset 3 (0xff); "
    + CONVERT,
    "translate run=WORDS": "standard input:2: invalid UTF-8 at byte 1 of the line; convert it: "
    "iconv -f ENCODING -t UTF-8",
    "translate run=WORDS input=text format=conllu": "text:1: 1 columns, not 10 (CoNLL-U, by tabs): "
    "'no folder'",
    "translate run=WORDS input=broken.conllu": "broken.conllu:1: 2 columns, not 10 (CoNLL-U, by "
    "tabs): '1\\tA'",
    "translate run=WORDS input=text output=no/such": "output=no/such: No such file or directory",
    "translate run=WORDS input=text raw=text": "raw: for runs that were trained on tokens; leave "
    "it out",
    "translate run=UPOS input=text": "text:1: the run needs upos and was trained on annotated "
    "text, without an annotator; give CoNLL-U (input=FILE.conllu or format=conllu)",
    "score run=WORDS source=two.en target=text": "two.en has 2 sentences, text has 1; their lines "
    "must correspond",
    "score run=WORDS source=empty target=empty": "empty: the file is empty; nothing to score",
    "score run=WORDS source=no.en target=text": "no.en: no such file; check the path",
    "score run=WORDS source=text target=latin.en": "latin.en:2: invalid UTF-8 at byte offset 3 "
    "(0xff); " + CONVERT,
    "score run=UPOS source=text target=text": "text: the run needs upos and was trained on "
    "annotated text, without an annotator; give CoNLL-U (input=FILE.conllu or format=conllu)",
    "score run=nowhere source=text target=text": "nowhere: no finished run (it has no config.yaml "
    "or model.safetensors); give a folder that train.py wrote",
}


@pytest.mark.parametrize("command", APPLY)
def test_apply(small: Small, here: Path, runs: Runs, command: str) -> None:
    latin = b"a\nb\xff\n"
    (here / "latin.en").write_bytes(latin)
    (here / "broken.conllu").write_text("1\tA\n")
    (here / "two.en").write_text("a\nb\n")
    (here / "empty").write_text("")
    name, *arguments = command.split()
    places = {"run=WORDS": f"run={runs.words}", "run=UPOS": f"run={runs.upos}"}
    done = call(name, *(places.get(a, a) for a in arguments), stdin=latin)
    assert line(done, small) == APPLY[command]
    assert done.out == ""


AGAIN = "in SHA256SUMS; get the run's folder again, or train again"
KEPT: dict[str, tuple[str, Change, str]] = {
    "weights": (
        "model.safetensors",
        lambda content: content[:-1] + b"?",
        f"FILE: damaged, its SHA-256 is not the one {AGAIN}",
    ),
    "missing weights": (
        "model.safetensors",
        constant(None),
        "RUN: no finished run (it has no config.yaml or model.safetensors); give a folder that "
        "train.py wrote",
    ),
    "vocabulary": (
        "encoder/features.json",
        constant(b"{}"),
        f"FILE: damaged, its SHA-256 is not the one {AGAIN}",
    ),
    "missing model of subwords": (
        "encoder/source.model",
        constant(None),
        f"FILE: missing, but {AGAIN}",
    ),
    "settings cut short": (
        "config.yaml",
        constant(b"data: {name: x\n"),
        "FILE: not the settings of a run (while parsing a flow mapping)",
    ),
    "other settings": (
        "config.yaml",
        constant(b"dta: 3\n"),
        "FILE: not the settings of a run (Key 'dta' not in 'TrainConfig')",
    ),
    "another width": (
        "config.yaml",
        replaced(b"  dim: 16", b"  dim: 32"),
        "RUN/model.safetensors: decoder.0.attention.inputs.bias is (48,) but the model's is (96,); "
        "the file belongs to other settings",
    ),
    "a combiner that is not here": (
        "config.yaml",
        replaced(b"nmt_feat.combiners.Add", b"mien.Add"),
        "_target_=mien.Add: no module 'mien', neither in the current folder nor installed; did you "
        "mean 'mine'?",
    ),
}


@pytest.mark.parametrize("case", KEPT)
def test_damaged_run(small: Small, here: Path, runs: Runs, case: str) -> None:
    name, change, message = KEPT[case]
    shutil.copytree(runs.upos, here / "run")
    path = here / "run" / name
    content = change(path.read_bytes())
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    found = line(call("translate", "run=run", f"input={small.corpus}/test.conllu"), small)
    assert found == message.replace("FILE", f"run/{name}").replace("RUN", "run")
