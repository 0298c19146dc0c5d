"""Annotation of many texts: in parallel, once, against the rules; `scripts/annotate.py`."""

from __future__ import annotations

import errno
import gzip
import logging
import os
import pickle
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from nmt_feat.annotators import Annotator, HanTa
from nmt_feat.annotators.files import annotate_cached, write_annotation
from nmt_feat.base.pool import Pool
from nmt_feat.errors import UserError
from nmt_feat.text.conllu import Sentence, Word, read_conllu
from tests.support.entry import call
from tests.support.lives import python


class Upper(Annotator):
    """For tests: one word a line, its lemma in capitals."""

    name = "upper"

    def __init__(self, version: int = 1) -> None:
        self.version = version
        self.calls = 0

    def fingerprint(self) -> str:
        return f"upper {self.version}"

    def annotate(self, texts: Sequence[str]) -> list[Sentence]:
        self.calls += 1
        return [
            Sentence(t, (Word(t.strip(), 0, len(t.strip()), t.upper()),) if t.strip() else ())
            for t in texts
        ]


# ---- in parallel, and once


@pytest.mark.thorough
def test_processes_never_change_the_result(tmp_path: Path) -> None:
    texts = [f"word{i}" for i in range(450)]
    upper, path = Upper(), tmp_path / "a.conllu"
    write_annotation(upper, texts, path, 2)
    assert upper.calls == 0  # others do it
    assert list(read_conllu(path)) == upper.annotate(texts)
    assert list(tmp_path.iterdir()) == [path]


def absolutes(numbers: list[int]) -> list[int]:
    with Pool(2, "a test", "processes") as pool:
        return list(pool.map(abs, numbers))


@pytest.mark.slow
def test_processes_of_a_job_of_joblib() -> None:
    """Its jobs have a start method that their own processes do not know."""
    joblib = pytest.importorskip("joblib")
    result = joblib.Parallel(n_jobs=2)(joblib.delayed(absolutes)([-i, i]) for i in range(2))
    assert result == [[0, 0], [1, 1]]


def test_pickle_leaves_out_what_is_loaded() -> None:
    hanta = HanTa("de")
    expected = hanta.annotate(["Haus"])
    packed = pickle.dumps(hanta)
    assert len(packed) < 10_000
    assert pickle.loads(packed).annotate(["Haus"]) == expected


def test_annotation_is_kept(tmp_path: Path) -> None:
    upper, texts = Upper(), ["a", "b", "a"]
    path = annotate_cached(upper, texts, tmp_path, 1)
    assert annotate_cached(upper, texts, tmp_path, 1) == path
    assert upper.calls == 1
    assert list(tmp_path.glob("annotation-*.conllu")) == [path]
    assert list(read_conllu(path)) == upper.annotate(texts)
    annotate_cached(upper, texts[:2], tmp_path, 1)  # other text
    annotate_cached(Upper(2), texts, tmp_path, 1)  # other annotator
    assert len(list(tmp_path.glob("annotation-*.conllu"))) == 3
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.parametrize(
    "damage",
    [
        lambda b: b.replace(b"\tA\t", b"\tC\t"),
        lambda b: b[:-9],
        lambda b: b"",
        lambda b: b"\xff" + b,
    ],
)
def test_corrupt_annotation_is_said_and_made_again(
    damage: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    upper = Upper()
    path = annotate_cached(upper, ["a", "b"], tmp_path, 1)
    good = path.read_bytes()
    path.write_bytes(damage(good))
    with caplog.at_level(logging.WARNING):
        assert annotate_cached(upper, ["a", "b"], tmp_path, 1) == path
    assert caplog.messages == [f"{path} is corrupt (its checksum differs): annotating again"]
    assert path.read_bytes() == good
    assert upper.calls == 2


def test_line_without_words(tmp_path: Path) -> None:
    class Strict(Upper):
        def annotate(self, texts: Sequence[str]) -> list[Sentence]:
            return [s if s.text.isalpha() else Sentence(s.text) for s in super().annotate(texts)]

    with pytest.raises(UserError) as error:
        annotate_cached(Strict(), ["a", "..."], tmp_path, 1)
    assert str(error.value) == ("annotator=upper finds no word in line 2: '...'; remove the line")


def test_blank_lines_have_no_words(tmp_path: Path) -> None:
    """No annotator sees them; a zero width space alone has no shape either."""
    texts = ["", "a", " \t", "\u200b", "b", ""]
    path = annotate_cached(Upper(), texts, tmp_path, 1)
    read = list(read_conllu(path))
    assert [s.text.strip() for s in read] == [text.strip() for text in texts]
    assert [[word.form for word in s.words] for s in read] == [[], ["a"], [], ["\u200b"], ["b"], []]


def test_several_runs_at_once_annotate_once(tmp_path: Path) -> None:
    upper = Upper()
    with ThreadPoolExecutor(4) as pool:
        results = list(
            pool.map(lambda _: annotate_cached(upper, ["a"] * 50, tmp_path, 1), range(4))
        )
    assert upper.calls == 1
    assert all(r == results[0] for r in results)


def test_what_is_annotated_stays(tmp_path: Path) -> None:
    """The same text by the same annotator; a damaged file is made again."""
    upper, path = Upper(), tmp_path / "a.conllu"
    write_annotation(upper, ["a", "b"], path, 1)
    write_annotation(upper, ["a", "b"], path, 1)
    assert upper.calls == 1
    before = path.read_bytes()
    for second, texts in ((upper, ["a", "c"]), (Upper(2), ["a", "c"]), (upper, ["a", "b"])):
        calls = second.calls
        write_annotation(second, texts, path, 1)
        assert second.calls == calls + 1
        assert list(read_conllu(path)) == second.annotate(texts)
    assert path.read_bytes() == before
    path.write_bytes(before[:-5])
    write_annotation(upper, ["a", "b"], path, 1)
    assert path.read_bytes() == before


class Fewer(Upper):
    def annotate(self, texts: Sequence[str]) -> list[Sentence]:
        return super().annotate(texts)[:-1]


class More(Upper):
    def annotate(self, texts: Sequence[str]) -> list[Sentence]:
        return super().annotate([*texts, "more"])


class Other(Upper):
    def annotate(self, texts: Sequence[str]) -> list[Sentence]:
        return super().annotate([text.upper() for text in texts])


class Raises(Upper):
    def annotate(self, texts: Sequence[str]) -> list[Sentence]:
        raise ValueError(f"cannot do {texts[0]}")


RULE = "; it must give one sentence for each line, its text the line"


@pytest.mark.parametrize(
    ("annotator", "message"),
    [
        (Fewer(), f"annotator=upper makes 1 sentences of 2 lines{RULE}"),
        (More(), f"annotator=upper makes 3 sentences of 2 lines{RULE}"),
        (Other(), f"annotator=upper makes 'B' of the line 'b'{RULE}"),
        (Raises(), "tests.test_annotating.Raises, line LINE: ValueError: cannot do A"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_annotator_that_breaks_the_rules(annotator: Upper, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        annotate_cached(annotator, ["A", "b"], tmp_path, 1)
    assert re.sub(r"line \d+:", "line LINE:", str(error.value)) == message
    assert not list(tmp_path.glob("*.conllu"))


class Stops(Upper):
    """Is interrupted in its third call."""

    def annotate(self, texts: Sequence[str]) -> list[Sentence]:
        if self.calls == 2:
            raise KeyboardInterrupt
        return super().annotate(texts)


def test_an_interrupted_annotation_goes_on(tmp_path: Path) -> None:
    texts = [f"line {i}" for i in range(450)]
    with pytest.raises(KeyboardInterrupt):
        annotate_cached(Stops(), texts, tmp_path, 1)
    assert not list(tmp_path.glob("*.conllu"))
    _, second = sorted(tmp_path.glob("*.parts/*"))
    second.write_bytes(second.read_bytes()[:-9])  # cut short: made again
    upper = Upper()
    path = annotate_cached(upper, texts, tmp_path, 1)
    assert upper.calls == 4
    assert list(read_conllu(path)) == Upper().annotate(texts)
    assert not list(tmp_path.glob("*.parts"))
    annotate_cached(Upper(), texts, tmp_path / "at once", 1)
    assert (tmp_path / "at once" / path.name).read_bytes() == path.read_bytes()


class Dies(Upper):
    def annotate(self, texts: Sequence[str]) -> list[Sentence]:
        os._exit(1)


@pytest.mark.slow
def test_process_that_dies(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        write_annotation(Dies(), ["a"] * 400, tmp_path / "a.conllu", 2)
    assert str(error.value) == (
        "annotator=upper: a process died, perhaps because memory ran out; "
        "set annotator.processes to less than 2"
    )


# ---- the script

SCRIPT = Path(__file__).parent.parent / "scripts" / "annotate.py"
GERMAN = ("annotator=hanta", "data.source_lang=de", "annotator.processes=1")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., tuple[int, str, str]]:
    """`python scripts/annotate.py` in this process, in a folder: exit code, output, errors."""
    monkeypatch.chdir(tmp_path)

    def call_script(*arguments: str) -> tuple[int, str, str]:
        done = call("annotate", *arguments)
        return done.code, done.out, done.err

    return call_script


@pytest.mark.thorough
def test_script(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("Der Hund schläft.\nEr träumt.\n", encoding="utf-8")
    done = python(SCRIPT, "in.txt", "out.conllu", *GERMAN, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "in.txt: 2 sentences in out.conllu\n"
    sentences = list(read_conllu(tmp_path / "out.conllu"))
    assert sentences == HanTa("de").annotate(["Der Hund schläft.", "Er träumt."])


@pytest.mark.thorough
def test_script_takes_a_folder_of_options(
    script: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    (tmp_path / "in.txt").write_text("Er träumt.\n", encoding="utf-8")
    (tmp_path / "my" / "annotator").mkdir(parents=True)
    option = "_target_: nmt_feat.annotators.HanTa\nargs: {language: de}\n"
    (tmp_path / "my" / "annotator" / "german.yaml").write_text(option)
    arguments = ("in.txt", "out.conllu", "annotator=german")
    assert script(*arguments)[0] == 2
    assert script(*arguments, "--config-dir=my") == (0, "in.txt: 1 sentences in out.conllu\n", "")


@pytest.mark.thorough
def test_script_annotates_a_folder(
    script: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file at any depth; once more after a stop, what is done is not done again."""
    texts = {"a.de": "Der Hund schläft.\n", "deep/er/b.de.gz": "Er träumt.\n", "c": "Ja.\n"}
    for name, text in texts.items():
        path = tmp_path / "texts" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = text.encode()
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    (tmp_path / "texts" / ".hidden").write_bytes(b"\xff")
    seen: list[str] = []
    real = HanTa.annotate

    def watched(self: HanTa, lines: Sequence[str]) -> list[Sentence]:
        seen.extend(lines)
        if lines[0] == "Ja." and seen.count("Ja.") == 1:
            raise KeyboardInterrupt
        return real(self, lines)

    monkeypatch.setattr(HanTa, "annotate", watched)
    code, _, errors = script("texts", "out", *GERMAN)
    assert (code, errors) == (130, "interrupted; the same command continues\n")
    assert script("texts", "out", *GERMAN) == (
        0,
        "texts/a.de: 1 sentences in out/a.de.conllu\n"
        "texts/c: 1 sentences in out/c.conllu\n"
        "texts/deep/er/b.de.gz: 1 sentences in out/deep/er/b.de.conllu\n",
        "",
    )
    assert sorted(seen) == ["Der Hund schläft.", "Er träumt.", "Ja.", "Ja."]
    paths = sorted(p for p in (tmp_path / "out").rglob("*") if p.is_file())
    assert [str(p.relative_to(tmp_path / "out")) for p in paths] == [
        "a.de.conllu",
        "c.conllu",
        "deep/er/b.de.conllu",
    ]
    for path, text in zip(paths, sorted(texts), strict=True):
        assert list(read_conllu(path)) == real(HanTa("de"), texts[text].splitlines())


@pytest.mark.thorough
def test_script_writes_gzip(
    script: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same annotation, and it is not made again."""
    (tmp_path / "text").write_text("Der Hund schläft.\n", encoding="utf-8")
    for name in ("plain.conllu", "packed.conllu.gz"):
        assert script("text", name, *GERMAN)[0] == 0
    packed = (tmp_path / "packed.conllu.gz").read_bytes()
    assert gzip.decompress(packed) == (tmp_path / "plain.conllu").read_bytes()
    monkeypatch.setattr(HanTa, "annotate", lambda *_: pytest.fail("annotated again"))
    assert script("text", "packed.conllu.gz", *GERMAN)[0] == 0
    (tmp_path / "packed.conllu.gz").write_bytes(packed[:-9])
    with pytest.raises(pytest.fail.Exception, match="annotated again"):
        script("text", "packed.conllu.gz", *GERMAN)


def test_script_on_a_full_disk(
    script: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such an error has no file's name."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("nmt_feat.cli.annotate.write_annotations", full)
    (tmp_path / "one").write_text("Ja.\n")
    message = "error: out: cannot be written (No space left on device)\n"
    assert script("one", "out", *GERMAN) == (2, "", message)


SAID = {
    ("nothing", "out", *GERMAN): "nothing: no such file; check the path",
    ("empty", "out", *GERMAN): "empty: the file is empty; leave it out",
    ("latin", "out", *GERMAN): "latin:1: invalid UTF-8 at byte offset 0 (0xff); convert the file: "
    "iconv -f ENCODING -t UTF-8",
    ("x.conllu", "out", *GERMAN): "x.conllu: is annotated text (conllu), not plain; leave it out",
    ("one", "texts", *GERMAN): "texts: is a folder; give a file",
    ("one", "linked", *GERMAN): "linked: is the text itself; give another file",
    ("one", "./one", *GERMAN): "one: is the text itself; give another file",
    ("one", "one/out", *GERMAN): "one: cannot be written (File exists)",
    ("texts", "texts/out", *GERMAN): "texts/out: is in texts; choose a folder outside",
    ("nofile", "out", *GERMAN): "nofile: the folder has no file to annotate",
    ("twice", "out", *GERMAN): "twice/a.gz: stands beside twice/a; remove one of them",
    ("one", "out"): "no annotator is chosen; set annotator=udpipe, hanta, spacy or another one",
    ("one", "out", "annotator=hanto"): "annotator=hanto: no such option; did you mean 'hanta'?",
    ("one", "out", "annotator=hanta", "annotator.process=2"): "annotator.process: no such setting; "
    "did you mean 'processes'?",
    ("one", "out", "annotator=hanta", "data.source_lang=fr"): "annotator=hanta: no language 'fr'; "
    "known: de, en",
    ("one", "-", *GERMAN): "-: the annotation is a file of CoNLL-U; name it NAME.conllu",
    ("one", "out.jsonl", *GERMAN): "out.jsonl: the annotation is a file of CoNLL-U; name it "
    "NAME.conllu",
    ("one", "out", "annotator=udpipe", "annotator.model=no.udpipe"): "annotator.model=no.udpipe: "
    "no such file; set annotator.model to a model",
}


@pytest.mark.thorough
@pytest.mark.parametrize("arguments", SAID, ids=" ".join)
def test_script_says(
    script: Callable[..., tuple[int, str, str]], tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    for name, content in {
        "one": b"Ja.\n",
        "empty": b"",
        "latin": b"\xff\n",
        "x.conllu": b"1\tJa\n",
        "texts/a": b"Ja.\n",
        "twice/a": b"Ja.\n",
        "twice/a.gz": gzip.compress(b"Ja.\n"),
        "nofile/.hidden": b"",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    (tmp_path / "linked").hardlink_to(tmp_path / "one")
    assert script(*arguments) == (2, "", f"error: {SAID[arguments]}\n")
