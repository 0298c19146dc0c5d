"""Texts that look like something else, and texts that two ways read: each way says the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from nmt_feat.config.data_schema import DataConfig, SplitConfig
from nmt_feat.data.annotated_text import refuse_lacking
from nmt_feat.data.local_test_sets import read_test_set
from nmt_feat.errors import UserError
from nmt_feat.runs.trained.inputs import Reader, Text
from nmt_feat.text import formats
from nmt_feat.text.conllu import Sentence, write_conllu
from nmt_feat.text.json_lines import write_jsonl
from nmt_feat.text.merging import TEXT, Annotation
from nmt_feat.text.normalization import normalize_lines
from nmt_feat.text.word_values import whitespace_words
from tests.support.pairs import HANTA, NONE, folder, four, message

TEXTS = ("A dog sleeps .", "Two cats see it .")


@pytest.fixture
def pairs(tmp_path: Path) -> DataConfig:
    return four(tmp_path)


def annotate(text: str) -> Sentence:
    return Sentence(text, whitespace_words(text), ("# sent_id = 1",))


CONLLU = write_conllu(map(annotate, TEXTS))
JSON = "".join(f"{line}\n" for line in write_jsonl(map(annotate, TEXTS)))
LOOKS = {
    "conllu": (CONLLU, "its lines are words of CoNLL-U"),
    "jsonl": (JSON, "its lines are JSON"),
}


@pytest.mark.parametrize("kind", LOOKS)
def test_annotation_is_not_read_as_plain_text(kind: str, tmp_path: Path, pairs: DataConfig) -> None:
    """Under a name that does not tell its format; `format=text` says that it is plain."""
    content, look = LOOKS[kind]
    (path := tmp_path / "test.txt").write_text(content, encoding="utf-8")
    with pytest.raises(UserError) as error:
        list(Reader(Text(str(path))).read_sentences())
    assert str(error.value) == (f"{path}: {look}; set format={kind}, or format=text if it is plain")
    lines = list(Reader(Text(str(path), "text")).read_sentences())
    assert len(lines) == content.count("\n")
    count = len(content.splitlines())
    (folder(pairs) / "train.en").write_text(content, encoding="utf-8")
    (folder(pairs) / "train.de").write_text("Ja.\n" * count, encoding="utf-8")
    assert message(pairs, NONE) == (
        f"train.en: {look}; set data.format={kind}, or data.format=text if it is plain"
    )


def test_what_looks_plain() -> None:
    plain = ["3 cats and 5 dogs ran 12 miles to town .", '{"a": 1}', "{ text }", "# text = a", ""]
    for line in plain:
        assert formats.guess_format(normalize_lines([line])) is None
    assert formats.guess_format(normalize_lines(CONLLU.splitlines())) == "conllu"


ODD = {"a\ufeffb": "byte-order mark U+FEFF", "a\x07b": "control character U+0007"}


@pytest.mark.parametrize("word", ODD, ids=ascii)
def test_what_no_annotation_can_hold(word: str, pairs: DataConfig) -> None:
    """The text's own file and line are named, not those of a file in the cache."""
    pytest.importorskip("HanTa")
    text = (folder(pairs) / "train.en").read_text(encoding="utf-8")
    (folder(pairs) / "train.en").write_text(f"{text}{word}\n", encoding="utf-8")
    with (folder(pairs) / "train.de").open("a", encoding="utf-8") as file:
        file.write("x\n")
    refusal = message(pairs, HANTA, annotate=True)
    assert refusal.startswith("train.en: annotator=hanta: line 5: the word ")
    assert refusal.endswith(f" has the {ODD[word]}; remove it")


def test_a_line_without_visible_characters_needs_no_words_of_the_text() -> None:
    """As in CoNLL-U and where nothing is merged."""
    needed = {"term": "misc.Term"}
    refuse_lacking([Annotation(TEXT, Sentence("\u200b"))], needed, "x")
    with pytest.raises(UserError, match="the text gives no words for 'a'"):
        refuse_lacking([Annotation(TEXT, Sentence("a"))], needed, "x")


def test_shards_of_a_test_set_end_sentences(tmp_path: Path) -> None:
    """Where `reliance` and `contrast` read it, too, with or without a blank line at their ends."""
    for number, text in enumerate(TEXTS, 1):
        block = write_conllu([annotate(text)]).rstrip("\n")
        (tmp_path / f"test-{number}.conllu").write_text(block, encoding="utf-8")
        (tmp_path / f"test-{number}.en").write_text(text, encoding="utf-8")
        (tmp_path / f"test-{number}.de").write_text("x", encoding="utf-8")
    data = DataConfig("x", "en", "de", folder=str(tmp_path))
    beside = SplitConfig("test-*.en", "test-*.de", conllu="test-*.conllu")
    for split in (SplitConfig("test-*.conllu", "test-*.de"), beside):
        sentences, targets, *_ = read_test_set(data, tmp_path, "data.tests.x", split)
        assert sentences == list(map(annotate, TEXTS))
        assert targets == ["x", "x"]


@pytest.mark.parametrize("name", ["misc.NER", "feats.Case"])
def test_values_of_keys_are_whole(name: str) -> None:
    """A `|` would end the value, and what is behind it would be lost."""
    lines = {
        "pipe": "a|x&#124;y",
        "ffe8": "a\uffe8x|y",
        "jsonl": f'{{"text": "a", "words": [{{"form": "a", "{name}": "x|y"}}]}}',
    }
    for kind, line in lines.items():
        with pytest.raises(UserError) as error:
            list(formats.parse_lines([line], "x", kind, [name]))
        assert f"'a': the {name} 'x|y' has a |, which ends a value there" in str(error.value)
    (sentence,) = formats.parse_lines(["a|x&#124;y"], "x", "pipe", ["feats"])
    assert sentence.words[0].feats == "x|y"
