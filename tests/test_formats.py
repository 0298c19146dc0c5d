"""Other toolkits' formats: what they say, round trips, and what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmt_feat.errors import UserError
from nmt_feat.text import formats
from nmt_feat.text.conllu import Sentence, Word, parse_conllu, write_conllu
from nmt_feat.text.factored import parse_parallel, write_factored, write_parallel
from nmt_feat.text.factors import check_factors
from nmt_feat.text.json_lines import write_jsonl
from tests.support.entry import call
from tests.support.lives import python
from tests.support.small import ROOT

NAMES = ["upos", "feats.Case", "misc.NER"]


def read(kind: str, *lines: str, factors: list[str] | None = None) -> list[Sentence]:
    return list(formats.parse_lines(lines, "file", kind, ["upos"] if factors is None else factors))


def test_factors_become_columns() -> None:
    (sentence,) = read("pipe", "the|DET|_|_ dog|NOUN|Nom|X", factors=NAMES)
    the = Word("the", 0, 3, upos="DET")
    dog = Word("dog", 4, 7, upos="NOUN", feats="Case=Nom", misc="NER=X")
    assert sentence == Sentence("the dog", (the, dog))


def test_both_separators_and_parallel_files_agree() -> None:
    lines = "the￨DET￨_￨_ dog￨NOUN￨Nom￨X"
    (sentence,) = read("ffe8", lines, factors=NAMES)
    assert [sentence] == read("pipe", lines.replace("￨", "|"), factors=NAMES)
    files = {"upos": ["DET NOUN"], "feats.Case": ["_ Nom"], "misc.NER": ["_ X"]}
    sides = {name: (f"file.{name}", lines) for name, lines in files.items()}
    assert [sentence] == list(parse_parallel(["the dog"], "file", sides))
    factors = '"factors": ["DET NOUN", "_ Nom", "_ X"]'
    line = f'{{"text": "the dog", {factors}, "text_id": 7}}'
    assert [sentence] == read("jsonl", line, factors=NAMES)


def test_parallel_files_keep_the_spaces_of_the_text() -> None:
    sides = {"upos": ("file.upos", ["DET  NOUN"])}
    (sentence,) = parse_parallel([" the  dog\u3000"], "file", sides)
    words = Word("the", 1, 4, upos="DET"), Word("dog", 6, 9, upos="NOUN")
    assert sentence == Sentence(" the  dog\u3000", words)


def test_words_of_json_have_spans() -> None:
    (sentence,) = read("jsonl", '{"text": "it\'s", "words": [{"form": "it"}, {"form": "\'s"}]}')
    assert sentence == Sentence("it's", (Word("it", 0, 2), Word("'s", 2, 4)))


def test_json_with_text_alone_is_not_annotated() -> None:
    (sentence,) = read("jsonl", '{"text": "it  is"}', factors=[])
    assert sentence == Sentence("it  is")


def test_escaped_pipes() -> None:
    (sentence,) = read("pipe", "a&#124;b|X &amp;#124;|Y &amp;amp;#124;|&#124;")
    assert sentence.text == "a|b &#124; &amp;#124;"
    assert [word.upos for word in sentence.words] == ["X", "Y", "|"]
    (sentence,) = read("ffe8", "a&#124;b|￨X")
    assert sentence.text == "a&#124;b|"


def test_attributes_of_a_multiword_token() -> None:
    """As they are joined in writing, so they come back."""
    feats = "_+Case=Dat|Gender=Neut+Number=Sing"
    sentence = Sentence("im", (Word("im", 0, 2, feats=feats, misc="Gloss=in+the"),))
    factors = ["feats.Case", "feats.Gender", "feats.Number", "misc.Gloss"]
    (line,) = write_factored([sentence], "x", factors, "pipe")
    assert line == "im|_+Dat+_|_+Neut+_|_+_+Sing|in+the"
    assert read("pipe", line, factors=factors) == [sentence]


@pytest.mark.parametrize("kind", ["pipe", "ffe8", "jsonl"])
def test_a_plus_that_joins_no_parts(kind: str) -> None:
    """Turkish tags: `Nom` would become `Nom+_+_`, as if it were of three words."""
    lines = {
        "pipe": "evler|Noun+A3pl+Pnon|Nom",
        "ffe8": "evler￨Noun+A3pl+Pnon￨Nom",
        "jsonl": '{"text": "evler", "factors": ["Noun+A3pl+Pnon", "Nom"]}',
    }
    with pytest.raises(UserError) as error:
        read(kind, lines[kind], factors=["feats.Tag", "feats.Case"])
    assert str(error.value) == (
        "file:1: 'evler': a + joins the parts of a multi-word token, and feats.Tag "
        "'Noun+A3pl+Pnon' has more than feats.Case 'Nom'; where it means something else, name the "
        "factor misc.Tag"
    )
    (sentence,) = read(kind, lines[kind], factors=["misc.Tag", "feats.Case"])
    assert sentence.words == (Word("evler", 0, 5, feats="Case=Nom", misc="Tag=Noun+A3pl+Pnon"),)


VALUES = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=6)
"""Without white space and control characters."""


@st.composite
def sentences(draw: st.DrawFn) -> Sentence:
    """Tokens between single spaces with a tag, an attribute and an entity each."""
    words, at = [], 0
    for form in draw(st.lists(VALUES, min_size=1, max_size=5)):
        upos = draw(VALUES)
        case, entity = (draw(VALUES.filter(lambda v: not set(v) & set("|=+"))) for _ in "ab")
        feats = "_" if case == "_" else f"Case={case}"
        misc = "_" if entity == "_" else f"NER={entity}"
        words.append(Word(form, at, at + len(form), upos=upos, feats=feats, misc=misc))
        at += len(form) + 1
    return Sentence(" ".join(word.form for word in words), tuple(words))


@pytest.mark.thorough
@settings(max_examples=150, deadline=None)
@given(st.lists(sentences(), max_size=3))
def test_round_trips(originals: list[Sentence]) -> None:
    def back(kind: str) -> list[Sentence]:
        lines = write_factored(originals, "x", NAMES, kind)
        return list(formats.parse_lines(lines, "file", kind, NAMES))

    assert back("pipe") == originals
    if any("￨" in str(sentence) for sentence in originals):
        with pytest.raises(UserError, match="has the separator"):
            back("ffe8")
    else:
        assert back("ffe8") == originals
    lines = list(write_jsonl(originals))
    assert list(formats.parse_lines(lines, "file", "jsonl")) == originals
    rows = list(write_parallel(originals, "x", NAMES))
    words, *columns = map(list, zip(*rows, strict=True)) if rows else [[]] * (1 + len(NAMES))
    sides = {name: ("f", column) for name, column in zip(NAMES, columns, strict=True)}
    assert list(parse_parallel(words, "file", sides)) == originals


@pytest.mark.thorough
@settings(max_examples=60, deadline=None)
@given(st.lists(sentences(), min_size=1, max_size=3))
def test_conllu_round_trip(originals: list[Sentence]) -> None:
    lines = write_conllu(originals).split("\n")
    parsed_sentences = list(parse_conllu(lines, "file"))
    assert parsed_sentences == originals


@pytest.mark.thorough
@settings(max_examples=300, deadline=None)
@given(st.text(max_size=80), st.sampled_from(["pipe", "ffe8", "jsonl", "conllu"]))
def test_any_line_is_read_or_refused(line: str, kind: str) -> None:
    message = "file:1: "
    try:
        read(kind, line)
    except UserError as error:
        message = str(error)
    assert message.startswith("file:1: ")
    assert "\n" not in message


REFUSED = {
    "wrong separator": (
        "pipe",
        "the￨DET",
        "file:1: token 1 'the￨DET' has no '|' (U+007C), but '￨' (U+FFE8); set format=ffe8",
    ),
    "wrong separator, other way": (
        "ffe8",
        "the|DET",
        "file:1: token 1 'the|DET' has no '￨' (U+FFE8), but '|' (U+007C); set format=pipe",
    ),
    "box drawing": (
        "ffe8",
        "the│DET",
        "file:1: token 1 'the│DET' has no '￨' (U+FFE8), but '│' (U+2502); replace it",
    ),
    "too few": ("pipe", "the|DET dog", "file:1: token 2 'dog' has 0 factors, not 1 (upos)"),
    "too many": ("pipe", "the|DET|x", "file:1: token 1 'the|DET|x' has 2 factors, not 1 (upos)"),
    "no word": (
        "pipe",
        "|DET",
        "file:1: token 1 '|DET' has an empty word; write _ for no value",
    ),
    "no value": (
        "pipe",
        "a|X the|",
        "file:1: token 2 'the|' has an empty upos; write _ for no value",
    ),
    "no JSON": (
        "jsonl",
        "the dog",
        "file:1: not JSON (Expecting value: line 1 column 1 (char 0))",
    ),
    "no object": ("jsonl", "[1]", "file:1: not an object with a \"text\": '[1]'"),
    "text is a number": (
        "jsonl",
        '{"text": 1}',
        'file:1: not an object with a "text": \'{"text": 1}\'',
    ),
    "two lines": (
        "jsonl",
        '{"text": "a\\nb"}',
        "file:1: the text has a line break; a sentence is one line",
    ),
    "no factors": ("jsonl", '{"text": "a"}', "file:1: 0 factors, not 1 (upos)"),
    "factors of another type": (
        "jsonl",
        '{"text": "a", "factors": "X"}',
        'file:1: "factors" is not a list of strings',
    ),
    "factors of another length": (
        "jsonl",
        '{"text": "a b", "factors": ["X"]}',
        "file:1: 1 values of upos for 2 tokens",
    ),
    "words of another type": (
        "jsonl",
        '{"text": "a", "words": ["a"]}',
        'file:1: "words" is not a list of objects',
    ),
    "no form": (
        "jsonl",
        '{"text": "a", "words": [{"upos": "X"}]}',
        "file:1: word 1 has no form",
    ),
    "null": (
        "jsonl",
        '{"text": "a", "words": [{"form": "a", "upos": null}]}',
        "file:1: word 1: upos is None, not text",
    ),
    "unknown key": (
        "jsonl",
        '{"text": "a", "words": [{"form": "a", "pos": "X"}]}',
        "file:1: word 1: unknown factor 'pos'; did you mean 'xpos' or 'upos'?",
    ),
    "other forms": (
        "jsonl",
        '{"text": "a b", "words": [{"form": "a"}]}',
        "file:1: the forms differ from the text: no word covers 'b' at character 2; correct either",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    kind, line, message = REFUSED[case]
    with pytest.raises(UserError) as error:
        read(kind, line)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("words", "values", "message"),
    [
        (["a b"], ["X"], "file.upos:1: 1 values for the 2 tokens of file:1"),
        (["a", "b"], ["X"], "file.upos: has 1 lines, file has more"),
        (["a"], ["X", "Y"], "file.upos: has more lines than file, which has 1"),
    ],
)
def test_parallel_files_must_be_parallel(words: list[str], values: list[str], message: str) -> None:
    with pytest.raises(UserError) as error:
        list(parse_parallel(words, "file", {"upos": ("file.upos", values)}))
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        (["pos"], "x: unknown factor 'pos'; did you mean 'xpos' or 'upos'?"),
        (["upos", "upos"], "x: upos stands twice"),
        (["feats", "feats.Case"], "x: feats contains feats.Case; name one of them"),
        (["upos", "misc.NER", "misc"], "x: misc contains misc.NER; name one of them"),
    ],
)
def test_names_of_factors(factors: list[str], message: str) -> None:
    with pytest.raises(UserError) as error:
        check_factors(factors, "x")
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("word", "kind", "message"),
    [
        (
            Word("a b", 0, 3),
            "pipe",
            "x: sentence 1: the form 'a b' has a space, which factored text cannot hold; "
            "convert to conllu or jsonl",
        ),
        (
            Word("a￨", 0, 2),
            "ffe8",
            "x: sentence 1: 'a￨' has the separator '￨'; convert to another format",
        ),
    ],
)
def test_what_factored_text_cannot_hold(word: Word, kind: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        list(write_factored([Sentence(word.form, (word,))], "x", ["upos"], kind))
    assert str(error.value) == message


@pytest.fixture
def annotated(tmp_path: Path) -> Path:
    words = (
        Word("the", 0, 3, "the", "DET", feats="Definite=Def"),
        Word("dog", 4, 7, "dog", "NOUN", misc="NER=X"),
        Word(".", 7, 8, ".", "PUNCT"),
    )
    path = tmp_path / "a.conllu"
    path.write_text(write_conllu([Sentence("the dog.", words)] * 2), encoding="utf-8")
    return path


def convert(*arguments: object) -> tuple[int, str, str]:
    if arguments[-1] == "-":  # bytes
        done = python(ROOT / "scripts" / "convert.py", *arguments)
        return done.returncode, done.stdout, done.stderr
    return dataclasses.astuple(call("convert", *arguments))


def test_convert_in_a_circle(annotated: Path) -> None:
    """By JSON lines nothing is lost; by factors the text's spaces are, which is said."""
    folder = annotated.parent
    assert convert(annotated, folder / "b.jsonl")[0] == 0
    assert convert(folder / "b.jsonl", folder / "c.conllu")[0] == 0
    assert (folder / "c.conllu").read_bytes() == annotated.read_bytes()
    names = "upos,lemma,feats,misc"
    message = "2 sentences differ from their text in spaces: ffe8 holds tokens only\n"
    done = convert("--to", "ffe8", "--factors", names, annotated, folder / "d")
    assert done == (0, f"2 sentences written to {folder / 'd'}\n", message)
    for source, target in (("d", "e"), ("e", "f"), ("f", "g.conllu")):
        kinds = {"d": "ffe8", "e": "parallel", "f": "pipe", "g.conllu": "conllu"}
        options = ["--from", kinds[source], "--to", kinds[target], "--factors", names]
        assert convert(*options, folder / source, folder / target)[::2] == (0, "")
    assert (folder / "e.lemma").read_text() == "the dog .\n" * 2
    text = annotated.read_text().replace("the dog.", "the dog .").replace("|SpaceAfter=No", "")
    assert (folder / "g.conllu").read_text() == text
    assert not list(folder.glob("*.part"))


@pytest.mark.thorough
def test_convert_to_standard_output(annotated: Path) -> None:
    """The text alone stands there: whatever is said of it goes to standard error."""
    code, out, err = convert("--to", "pipe", "--factors", "upos", annotated, "-")
    assert (code, out) == (0, "the|DET dog|NOUN .|PUNCT\n" * 2)
    assert err.splitlines()[-1] == "2 sentences written to standard output"


@pytest.mark.thorough
def test_standard_output_is_not_several_files(annotated: Path) -> None:
    code, out, err = convert("--to", "parallel", "--factors", "upos", annotated, "-")
    assert (code, out) == (2, "")
    assert err == "error: -: parallel is a file for each factor; name a file\n"


def test_convert_a_text_without_words(tmp_path: Path) -> None:
    """JSON lines can be read again, as CoNLL-U it could not."""
    a, b, c = (tmp_path / name for name in ("a.jsonl", "b.jsonl", "c.conllu"))
    a.write_text('{"text": "the dog"}\n')
    assert convert(a, b)[0] == 0
    assert b.read_text() == a.read_text()
    assert convert(b, c) == (
        2,
        "",
        f"error: {b}: sentence 1: 'the dog' has no words, which CoNLL-U needs; annotate it first "
        "or convert to jsonl\n",
    )
    assert not c.exists()


def test_convert_refuses(annotated: Path) -> None:
    out = annotated.parent / "out"
    for arguments, message in (
        (
            [annotated, out],
            f"--to: {out} does not tell its format; one of conllu, jsonl, pipe, ffe8, parallel",
        ),
        (
            ["--to", "pipe", annotated, out],
            "--factors: name the factors of pipe, such as: upos,lemma",
        ),
        (
            ["--to", "jsonl", "--factors", "upos", annotated, out],
            "--factors: conllu and jsonl name all their columns; leave it out",
        ),
        (
            ["--to", "pipe", "--factors", "upos", "nothing.conllu", out],
            "nothing.conllu: no such file; check the path",
        ),
        (
            ["--to", "pipe", "--factors", "upos", annotated, out / "x"],
            f"{out / 'x'}: cannot be written (No such file or directory)",
        ),
        (
            [annotated, annotated / "x.jsonl"],
            f"{annotated / 'x.jsonl'}: cannot be written (Not a directory)",
        ),
        (
            ["--to", "ffe8", "--from", "pipe", "--factors", "upos", annotated, out],
            f"{annotated}:1: token 1 '#' has 0 factors, not 1 (upos)",
        ),
    ):
        assert convert(*arguments) == (2, "", f"error: {message}\n")
        assert list(out.parent.iterdir()) == [annotated]
