import gzip
import os
from pathlib import Path

import pytest

from nmt_feat.errors import UserError
from nmt_feat.text.conllu import Sentence, Word
from nmt_feat.text.projection import project_annotation


def sentence(text: str, forms: str) -> Sentence:
    """A sentence whose words have their own form as lemma."""
    words, at = [], 0
    for form in forms.split():
        start = text.index(form, at)
        at = start + len(form)
        words.append(Word(form, start, at, lemma=form, head=0))
    return Sentence(text, tuple(words))


@pytest.mark.parametrize(
    ("raw", "forms", "tokens", "lemmas", "missed"),
    [
        ("A Dog's bed.", "A Dog's bed .", "a dog &apos;s bed .", "A Dog's Dog's bed .", 0),
        ("a “B” – c…", "a “ B ” – c …", "a &quot; b &quot; - c ...", "a “ B ” – c …", 0),
        ("x &amp; y", "x &amp; y", "x &amp; amp ; y", "x &amp; &amp; &amp; y", 0),
        ("T-Shirt", "T-Shirt", "t @-@ shirt", "T-Shirt T-Shirt T-Shirt", 0),
        ("a [b] |c", "a [ b ] | c", "a &#91; b &#93; &#124; c", "a [ b ] | c", 0),
        # a token that the raw line lacks: the nearer neighbour of its first character
        ("one three", "one three", "one zq three", "one one three", 1),
        ("three", "three", "zq three", "three three", 1),
        ("one two", "one two", "one qq", "one one", 1),
        # first character unknown, another one known
        ("ab cd", "ab cd", "ab xd", "ab cd", 1),
        ("ab cd", "ab cd", "ab xyzd", "ab cd", 1),
        ("ÀÉ b", "ÀÉ b", "àé b", "ÀÉ b", 0),
    ],
)
def test_project(raw: str, forms: str, tokens: str, lemmas: str, missed: int) -> None:
    projected, count = project_annotation(sentence(raw, forms), tokens)
    assert [w.lemma for w in projected.words] == lemmas.split()
    assert projected.text == tokens
    assert [w.form for w in projected.words] == tokens.split()
    assert all(tokens[w.start : w.end] == w.form for w in projected.words)
    assert count == missed


def test_another_line_is_an_error() -> None:
    with pytest.raises(UserError) as error:
        project_annotation(sentence("abc", "abc"), "xyz", "f:3")
    assert str(error.value) == "f:3: the tokens 'xyz' and 'abc' share no character"


@pytest.mark.data
@pytest.mark.parametrize("language", ["en", "de"])
def test_share_matched_on_multi30k(language: str) -> None:
    folder = os.environ.get("NMT_FEAT_DATA")
    if not folder:
        pytest.skip("NMT_FEAT_DATA is not set")

    def lines(name: str) -> list[str]:
        data = gzip.decompress((Path(folder) / "multi30k" / name).read_bytes())
        return data.decode().split("\n")[:3000]

    tokens = missed = 0
    for raw, line in zip(
        lines(f"train.{language}.gz"), lines(f"train.lc.norm.tok.{language}.gz"), strict=True
    ):
        projected, count = project_annotation(sentence(raw, raw), line)
        tokens += len(projected.words)
        missed += count
    assert missed / tokens < 0.0005
