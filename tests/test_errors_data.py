"""Bad data, caches, checkpoints and runs end in one line, as in `test_errors.py`."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest

from nmt_feat.training.checkpoints import Checkpoints
from tests.support.entry import call
from tests.support.mistakes import here, line, refuse, train
from tests.support.small import Small

__all__ = ["here"]  # a fixture


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
    "blank lines": (
        "dev.de",
        lambda content: b"\n" * content.count(b"\n"),
        "CORPUS/dev.de: all 8 lines are blank; give sentences",
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
    expected = message.format(
        "train",
        columns=len(lines[2].split("\t")) if len(lines) > 2 else 0,
        line=lines[2][:60] if len(lines) > 2 else "",
        form=lines[2].split("\t")[1] if "forms" in case else "",
        text=text[:20],
        offset=(after or b"").find(b"\xe4"),
    )
    assert refuse(small, "features=[upos]", "combiner=add") == expected


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
    result = train(small, *PLAIN, *conllu, "data.tests.test.conllu=dev.conllu")
    assert result.startswith(
        f"CORPUS/dev.conllu: sentence 1: the annotation does not fit the text {text!r}: "
    )
    assert result.endswith("; annotate this very text")


def test_annotator_without_the_column(small: Small, plain: Path) -> None:
    pytest.importorskip("HanTa")
    assert train(small, *PLAIN, "annotator=hanta", "features=[upos,deprel]") == (
        "annotator=hanta gives lemma, upos, xpos, not the deprel of features.deprel; leave the "
        "feature out, or choose another annotator"
    )


# ---- what the framework itself has written


@pytest.mark.thorough
def test_corrupt_cache_is_rebuilt_and_said(small: Small, here: Path) -> None:
    small.cache = here / "cache"
    first = call("train", *small.overrides("combiner=none"))
    (store,) = here.glob("cache/prepared-*/0.arrow")
    content = store.read_bytes()
    store.write_bytes(content[:-9] + b"?" + content[-8:])
    again = call("train", *small.overrides("combiner=none", "seed=2"))
    assert (first.code, again.code, again.err) == (0, 0, "")
    output_text = " ".join(again.out.split())
    assert f"damaged ({store.name} has changed), made again" in output_text
    assert store.read_bytes() == content


DAMAGE: dict[str, tuple[str, bytes | None, str]] = {
    "weights": (
        "checkpoints/weights-2.safetensors",
        b"?",
        "FILE: damaged, its SHA-256 is not the one in checkpoint-2.json; to train from the start, "
        "delete RUN",
    ),
    "state": (
        "checkpoints/state-2.safetensors",
        b"",
        "FILE: damaged, its SHA-256 is not the one in checkpoint-2.json; to train from the start, "
        "delete RUN",
    ),
    "index": (
        "checkpoints/checkpoint-2.json",
        b'{"steps": [2',
        "FILE: damaged; to train from the start, delete RUN",
    ),
}


@pytest.fixture(scope="module")
def stopped(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped after its first checkpoint."""
    small = Small(corpus, corpus.parent / "cache", tmp_path_factory.mktemp("stopped"))
    with mock.patch.object(Checkpoints, "select_weights", side_effect=KeyboardInterrupt):
        done = call("train", *small.overrides("combiner=none", "trainer.max_steps=2"))
    assert done.code == 130
    assert done.err == "interrupted; the same command continues\n"
    return small.folder


@pytest.mark.thorough
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
    "translate": "required, but not set: run; give run=...",
    "score run=WORDS": "required, but not set: source, target; give source=...",
    "translate --run WORDS": "--run: settings have no dashes; write run=...",
    "translate --input=text": "--input=text: settings have no dashes; write input=text",
    "translate rnu=WORDS": "rnu: no such setting; did you mean 'run'?",
    "translate run=WORDS decoding=greedy": "decoding: no setting of this command; --help lists "
    "them",
    "translate run=WORDS +nbset=2": "nbset: no such setting; did you mean 'nbest'?",
    "translate run=WORDS beam=many": "beam=many: not a whole number",
    "translate run=WORDS beam=0": "beam=0: must be 1 to 1000",
    "translate run=WORDS nbest=3 beam=2": "beam=2: must be at least nbest=3",
    "translate run=WORDS nbest=0": "nbest=0: must be 1 to 1000",
    "translate run=WORDS chunk=0": "chunk=0: must be at least 1",
    "translate run=WORDS threads=-1": "threads=-1: must be 0 to 1024",
    "translate run=WORDS input=text length_penalty=-1": "length_penalty=-1.0: must be at least 0",
    "translate run=WORDS format=xml": "format=xml: unknown; known: auto, conllu, ffe8, jsonl, "
    "parallel, pipe, text",
    "translate run=WORDS format=ffe": "format=ffe: unknown; did you mean 'ffe8'?",
    "translate run=WORDS format=pipe": "format=pipe: name its factors, such as "
    "factors=[upos,lemma]",
    "translate run=WORDS factors=[pos]": "factors: unknown factor 'pos'; did you mean 'xpos' or "
    "'upos'?",
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
    "translate run=WORDS input=text raw=text": "raw: for runs whose training text has one "
    "(data.train.raw); leave it out",
    "translate run=WORDS input=broken.conllu raw=text": "raw=text: goes with plain text, not with "
    "conllu; leave it out",
    "translate run=WORDS input=text factors=[upos]": "factors=upos: text is read as text, whose "
    "tokens have none; set format=pipe, ffe8 or jsonl, or leave them out",
    "translate run=UPOS input=text": "text:1: the run needs upos and was trained on annotated "
    "text, without an annotator; give CoNLL-U (input=FILE.conllu or format=conllu)",
    "score run=WORDS source=two.en target=text": "two.en has 2 sentences, text has 1; their lines "
    "must correspond",
    "score run=WORDS source=empty target=empty": "empty: the file is empty; nothing to score",
    "score run=WORDS source=no.en target=text": "no.en: no such file; check the path",
    "score run=WORDS source=text target=latin.en": "latin.en:2: invalid UTF-8 at byte offset 3 "
    "(0xff); " + CONVERT,
    "score run=WORDS source=broken.conllu target=text raw=text": "raw=text: goes with plain text, "
    "not with conllu; leave it out",
    "score run=UPOS source=text target=text": "text:1: the run needs upos and was trained on "
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
        "RUN: no finished run (it has no model.safetensors); give a folder that train.py wrote",
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
        'FILE: not the settings of a run (while parsing a flow mapping in "FILE", line 1, column 7 '
        "expected ',' or '}', but got '<stream end>' in \"FILE\", line 2, column 1)",
    ),
    "other settings": (
        "config.yaml",
        constant(b"dta: 3\n"),
        "FILE: not the settings of a run (no setting is named dta)",
    ),
    "another width": (
        "config.yaml",
        replaced(b"  dim: 16", b"  dim: 32"),
        f"FILE: damaged, its SHA-256 is not the one {AGAIN}",
    ),
    "a combiner that is not here": (
        "config.yaml",
        replaced(b"nmt_feat.combiners.Add", b"mien.Add"),
        f"FILE: damaged, its SHA-256 is not the one {AGAIN}",
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
    translations = line(call("translate", "run=run", f"input={small.corpus}/test.conllu"), small)
    assert translations == message.replace("FILE", f"run/{name}").replace("RUN", "run")
