import gzip
import importlib
import logging
import os
import pickle
import re
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from lives import python

from nmt_feat.corpus.annotators import (
    Annotator,
    HanTa,
    UDPipe,
    annotate,
    annotate_cached,
    make_annotator,
)
from nmt_feat.corpus.conllu import Sentence, Word, read_conllu
from nmt_feat.errors import UserError
from nmt_feat.extras import optional
from nmt_feat.instantiate import build
from nmt_feat.schema import AnnotatorConfig


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


# ---- HanTa


def test_hanta_english() -> None:
    text = "The dog's men don't  saw 3.5 well-known ducks—hm."
    (sentence,) = HanTa("en").annotate([text])
    assert " ".join(w.form for w in sentence.words) == (
        "The dog 's men do n't saw 3.5 well-known ducks — hm ."
    )
    assert all(text[w.start : w.end] == w.form for w in sentence.words)
    values = {w.form: (w.lemma, w.xpos, w.upos) for w in sentence.words}
    assert values["The"] == ("the", "AT0", "DET")
    assert values["men"] == ("man", "NN2", "NOUN")
    assert values["n't"] == ("not", "XX0", "PART")
    assert values["'s"] == ("'s", "POS", "PART")
    assert values["3.5"][2] == "NUM"
    word = sentence.words[0]
    assert (word.feats, word.deprel, word.head_upos, word.head) == ("_", "_", "_", -1)


def test_hanta_german() -> None:
    (sentence,) = HanTa("de").annotate(["Ein Mann, der müde ist, geht nach Hause."])
    assert [(w.form, w.lemma, w.xpos, w.upos) for w in sentence.words[:6]] == [
        ("Ein", "ein", "ART", "DET"),
        ("Mann", "Mann", "NN", "NOUN"),
        (",", ",", "$,", "PUNCT"),
        ("der", "der", "PRELS", "PRON"),
        ("müde", "müde", "ADJ(D)", "ADJ"),
        ("ist", "sein", "VA(FIN)", "AUX"),
    ]


@pytest.mark.parametrize("language", ["en", "de"])
def test_hanta_map_covers_all_tags_of_the_model(language: str) -> None:
    hanta = HanTa(language)
    tagger = hanta._tagger
    tags = {tagger.int2tag[-tag] for tag in tagger.int2tag if tag < 0}
    assert tags <= hanta.upos.keys()
    universal = "ADJ ADP ADV AUX CCONJ DET INTJ NOUN NUM PART PRON PROPN PUNCT SCONJ SYM VERB X"
    assert set(hanta.upos.values()) <= {*universal.split()}


@pytest.mark.parametrize("text", ["", "   ", "😀", "’", "a\u0301 ñ", "漢字 + x_y", "can't", "'s"])
def test_hanta_takes_anything(text: str) -> None:
    (sentence,) = HanTa("en").annotate([text])
    assert sentence.text == text
    assert "".join(w.form for w in sentence.words) == "".join(text.split())


# ---- choosing an annotator


def test_make_annotator() -> None:
    assert make_annotator(AnnotatorConfig()) is None
    config = AnnotatorConfig("nmt_feat.corpus.annotators.HanTa", args={"language": "de"})
    annotator = make_annotator(config)
    assert isinstance(annotator, HanTa)
    assert annotator.language == "de"
    assert annotator.fingerprint().endswith(" language=de")


MODULE = "nmt_feat.corpus.annotators"
WRONG = {
    "language": (
        AnnotatorConfig(f"{MODULE}.HanTa", args={"language": "fr"}),
        "annotator=hanta: no language 'fr'; known: de, en",
    ),
    "no language": (
        AnnotatorConfig(f"{MODULE}.HanTa"),
        f"{MODULE}.HanTa needs the argument 'language'",
    ),
    "model of HanTa": (
        AnnotatorConfig(f"{MODULE}.HanTa", model="x", args={"language": "de"}),
        f"{MODULE}.HanTa takes no argument 'model'; known: language",
    ),
    "argument": (
        AnnotatorConfig(f"{MODULE}.UDPipe", args={"modle": "x"}),
        f"{MODULE}.UDPipe takes no argument 'modle'; did you mean 'model'?",
    ),
    "class": (
        AnnotatorConfig(f"{MODULE}.UDPipes"),
        f"_target_={MODULE}.UDPipes: no class 'UDPipes' in {MODULE}; did you mean 'UDPipe'?",
    ),
    "function": (
        AnnotatorConfig(f"{MODULE}.make_annotator"),
        f"_target_={MODULE}.make_annotator: no class 'make_annotator' in {MODULE}; "
        "did you mean 'Annotator'?",
    ),
    "module": (
        AnnotatorConfig("nmt_feat.corpus.anotators.UDPipe"),
        "_target_=nmt_feat.corpus.anotators.UDPipe: no module 'nmt_feat.corpus.anotators'; "
        "did you mean 'annotators'?",
    ),
    "no module": (
        AnnotatorConfig("UDPipe"),
        "_target_=UDPipe: not a dotted name; write module.Class",
    ),
    "no annotator": (
        AnnotatorConfig("nmt_feat.schema.DataConfig"),
        "_target_=nmt_feat.schema.DataConfig: is no nmt_feat.corpus.annotators.Annotator; derive "
        "the class from it",
    ),
    "no model": (
        AnnotatorConfig(f"{MODULE}.UDPipe"),
        "annotator=udpipe needs a model: set annotator.model=FILE.udpipe "
        "(models for many languages: https://ufal.mff.cuni.cz/udpipe/1/models)",
    ),
    "missing model": (
        AnnotatorConfig(f"{MODULE}.UDPipe", model="no/such.udpipe"),
        "annotator.model=no/such.udpipe: no such file; set annotator.model to a model",
    ),
}


@pytest.mark.parametrize(("config", "message"), WRONG.values(), ids=WRONG.keys())
def test_wrong_annotator(config: AnnotatorConfig, message: str) -> None:
    with pytest.raises(UserError) as error:
        make_annotator(config)
    assert str(error.value) == message


def test_broken_model(tmp_path: Path) -> None:
    path = tmp_path / "text.udpipe"
    path.write_text("not a model")
    with pytest.raises(UserError) as error:
        UDPipe(str(path)).annotate(["a"])
    assert str(error.value) == f"annotator.model={path}: not a UDPipe 1 model; get it again"


@pytest.mark.parametrize(
    ("config", "package", "extra"),
    [
        (AnnotatorConfig(f"{MODULE}.UDPipe", model="x"), "ufal.udpipe", "udpipe"),
        (AnnotatorConfig(f"{MODULE}.HanTa", args={"language": "en"}), "HanTa", "hanta"),
        (AnnotatorConfig("nmt_feat.corpus.kiwi.Kiwi"), "kiwipiepy", "kiwi"),
        (AnnotatorConfig("nmt_feat.corpus.spacy.SpaCy", model="x"), "spacy", "spacy"),
    ],
)
def test_missing_package(
    config: AnnotatorConfig, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError) as error:
        make_annotator(config)
    assert str(error.value) == (
        f"annotator={extra} needs the package {package}: pip install 'nmt_feat[{extra}]'"
    )


def test_package_that_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is there but cannot be imported is not called missing."""
    (tmp_path / "half_there.py").write_text("import nothing_like_it\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError) as error:
        optional("half_there", "a test", "half")
    assert str(error.value) == (
        "a test needs the package half_there (importing it failed: No module named "
        "'nothing_like_it'): pip install 'nmt_feat[half]'"
    )


def test_build_finds_modules_of_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    monkeypatch.chdir(tmp_path)
    Path("mine_ok.py").write_text("class Mine:\n    def __init__(self, a, *, b=2): self.x = a, b\n")
    Path("other.py").write_text("import nothing_like_it\n")
    Path("typo_in_it.py").write_text("class\n")
    assert build("mine_ok.Mine", object, a=[1]).x == ([1], 2)
    for target, message in {
        "mine_okk.Mine": "no module 'mine_okk', neither in the current folder nor installed; "
        "did you mean 'mine_ok'?",
        "other.Mine": "importing other failed: No module named 'nothing_like_it'",
        "typo_in_it.Mine": "importing typo_in_it failed: SyntaxError: invalid syntax "
        "(typo_in_it.py, line 1)",
    }.items():
        with pytest.raises(UserError) as error:
            build(target, object)
        assert str(error.value) == f"_target_={target}: {message}"


# ---- in parallel, and once


def test_processes_never_change_the_result(tmp_path: Path) -> None:
    texts = [f"They saw her duck number {i} ." for i in range(450)]
    hanta, path = HanTa("en"), tmp_path / "a.conllu"
    annotate(hanta, texts, path, 2)
    assert list(read_conllu(path)) == hanta.annotate(texts)
    assert list(tmp_path.iterdir()) == [path]


def test_pickle_leaves_out_what_is_loaded() -> None:
    hanta = HanTa("de")
    hanta.annotate(["Haus"])
    assert len(pickle.dumps(hanta)) < 10_000


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
    with pytest.raises(UserError) as error:
        annotate_cached(Upper(), ["a", " "], tmp_path, 1)
    assert str(error.value) == ("annotator=upper finds no word in line 2: ' '; remove the line")


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
    annotate(upper, ["a", "b"], path, 1)
    annotate(upper, ["a", "b"], path, 1)
    assert upper.calls == 1
    before = path.read_bytes()
    for other, texts in ((upper, ["a", "c"]), (Upper(2), ["a", "c"]), (upper, ["a", "b"])):
        calls = other.calls
        annotate(other, texts, path, 1)
        assert other.calls == calls + 1
        assert list(read_conllu(path)) == other.annotate(texts)
    assert path.read_bytes() == before
    path.write_bytes(before[:-5])
    annotate(upper, ["a", "b"], path, 1)
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
        (Raises(), "test_annotators.Raises, line LINE: ValueError: cannot do A"),
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


def test_process_that_dies(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        annotate(Dies(), ["a"] * 400, tmp_path / "a.conllu", 2)
    assert str(error.value) == (
        "annotator=upper: a process died, perhaps for want of memory; "
        "set annotator.processes to less than 2"
    )


# ---- UDPipe


@pytest.fixture(scope="module")
def udpipe() -> UDPipe:
    folder = os.environ.get("NMT_FEAT_DATA")
    if not folder:
        pytest.skip("NMT_FEAT_DATA is not set")
    return UDPipe(str(Path(folder) / "models" / "english-ewt.udpipe"))


@pytest.mark.data
def test_udpipe_line_of_several_sentences(udpipe: UDPipe) -> None:
    text = "I don't know 😀 her dog.  He is\there! "
    (sentence,) = udpipe.annotate([text])
    assert sentence.text == text
    assert " ".join(w.form for w in sentence.words) == "I don't know 😀 her dog . He is here !"
    assert all(text[w.start : w.end] == w.form for w in sentence.words)
    values = {w.form: w for w in sentence.words}
    assert values["don't"].upos == "AUX+PART"
    assert values["don't"].head_upos == "VERB+VERB"
    assert values["He"].head_upos == "ADV"
    assert sentence.words[values["He"].head - 1].form == "here"
    assert sum(w.head == 0 for w in sentence.words) == 2


@pytest.mark.data
def test_udpipe_lines_are_independent(udpipe: UDPipe) -> None:
    texts = ["A man sleeps", "and a dog .", "", " ", 'He said: "no', "A man sleeps"]
    together = udpipe.annotate(texts)
    assert together == [s for t in texts for s in udpipe.annotate([t])]
    assert together[2:4] == [Sentence("", ()), Sentence(" ", ())]


@pytest.mark.data
def test_udpipe_takes_anything(udpipe: UDPipe) -> None:
    text = "# text = a\x85 b\u2028 \x0c ’_ 1-2\tx\u3000😀"
    (sentence,) = udpipe.annotate([text])
    assert all(text[w.start : w.end] == w.form for w in sentence.words)
    assert "".join(w.form for w in sentence.words) == "".join(text.split())


@pytest.mark.data
def test_udpipe_in_german(udpipe: UDPipe) -> None:
    german = UDPipe(str(udpipe.model.parent / "german-gsd-pud-lit.udpipe"))
    (sentence,) = german.annotate(["Er ist im Haus."])
    assert (sentence.words[2].form, sentence.words[2].upos) == ("im", "ADP+DET")
    assert german.fingerprint() != udpipe.fingerprint()


# ---- the script

SCRIPT = Path(__file__).parent.parent / "scripts" / "annotate.py"
GERMAN = ("annotator=hanta", "data.source_lang=de", "annotator.processes=1")


@pytest.fixture
def script(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    """`python scripts/annotate.py` in this process, in a folder: exit code, output, errors."""
    monkeypatch.syspath_prepend(SCRIPT.parent)
    monkeypatch.chdir(tmp_path)
    run = importlib.import_module("annotate").main

    def call(*arguments: str) -> tuple[int, str, str]:
        try:
            code = run(arguments)
        except SystemExit as end:
            code = int(str(end.code))
        return code, *capsys.readouterr()

    return call


def test_script(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("Der Hund schläft.\nEr träumt.\n", encoding="utf-8")
    done = python(SCRIPT, "in.txt", "out.conllu", *GERMAN, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "in.txt: 2 sentences in out.conllu\n"
    found = list(read_conllu(tmp_path / "out.conllu"))
    assert found == HanTa("de").annotate(["Der Hund schläft.", "Er träumt."])


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
    made = sorted(p for p in (tmp_path / "out").rglob("*") if p.is_file())
    assert [str(p.relative_to(tmp_path / "out")) for p in made] == [
        "a.de.conllu",
        "c.conllu",
        "deep/er/b.de.conllu",
    ]
    for path, text in zip(made, sorted(texts), strict=True):
        assert list(read_conllu(path)) == real(HanTa("de"), texts[text].splitlines())


SAID = {
    ("nothing", "out", *GERMAN): "nothing: no such file; check the path",
    ("empty", "out", *GERMAN): "empty: the file is empty; leave it out",
    ("latin", "out", *GERMAN): "latin:1: invalid UTF-8 at byte offset 0 (0xff); convert the file: "
    "iconv -f ENCODING -t UTF-8",
    ("blank", "out", *GERMAN): "blank: annotator=hanta finds no word in line 2: ' '; remove the "
    "line",
    ("x.conllu", "out", *GERMAN): "x.conllu: is annotated text (conllu), not plain; leave it out",
    ("one", "texts", *GERMAN): "texts: is a folder; give a file",
    ("one", "one/out", *GERMAN): "one: cannot be written (File exists)",
    ("texts", "texts/out", *GERMAN): "texts/out: is in texts; choose a folder outside",
    ("nofile", "out", *GERMAN): "nofile: the folder has no file to annotate",
    ("twice", "out", *GERMAN): "twice/a.gz: stands beside twice/a; remove one of them",
    ("one", "out"): "no annotator is chosen; set annotator=udpipe, hanta, kiwi or spacy",
    ("one", "out", "annotator=hanto"): "annotator=hanto: no such option; did you mean 'hanta'?",
    ("one", "out", "annotator=hanta", "annotator.process=2"): "annotator.process: no such setting; "
    "did you mean 'processes'?",
    ("one", "out", "annotator=hanta", "data.source_lang=fr"): "annotator=hanta: no language 'fr'; "
    "known: de, en",
    ("one", "out", "annotator=udpipe", "annotator.model=no.udpipe"): "annotator.model=no.udpipe: "
    "no such file; set annotator.model to a model",
}


@pytest.mark.parametrize("arguments", SAID, ids=" ".join)
def test_script_says(
    script: Callable[..., tuple[int, str, str]], tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    for name, content in {
        "one": b"Ja.\n",
        "empty": b"",
        "latin": b"\xff\n",
        "blank": b"Ja.\n \n",
        "x.conllu": b"1\tJa\n",
        "texts/a": b"Ja.\n",
        "twice/a": b"Ja.\n",
        "twice/a.gz": gzip.compress(b"Ja.\n"),
        "nofile/.hidden": b"",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    assert script(*arguments) == (2, "", f"error: {SAID[arguments]}\n")
