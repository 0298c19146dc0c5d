"""Files of word vectors: the formats, and what is broken."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from nmt_feat.errors import UserError
from nmt_feat.text.word_vectors import read_vectors

GLOVE = "the 1 -0.5 2e-3\n. . . 0 1 2\n학교 3 4 5\n"
WORDS = ["the", ". . .", "학교"]
MEND = "; correct the line or get the file again"
VALUES = [[1, -0.5, 0.002], [0, 1, 2], [3, 4, 5]]


def write(path: Path, content: str | bytes) -> Path:
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("name", ["glove.txt", "glove.txt.gz"])
def test_glove(name: str, tmp_path: Path) -> None:
    words, vectors = read_vectors(write(tmp_path / name, GLOVE))
    assert words == WORDS
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, np.array(VALUES, np.float32))


@pytest.mark.parametrize(
    "content",
    [
        "3 3\nthe 1 -0.5 2e-3\nx\u00a0y 0 1 2\n학교 3 4 5\n",
        "3 3\nthe 1 -0.5 2e-3 \nx\u00a0y 0 1 2 \n학교 3 4 5 \n",  # word2vec's own program
        "3 3\r\nthe 1 -0.5 2e-3\r\nx\u00a0y 0 1 2\r\n학교 3 4 5",  # no line end: it is complete
    ],
)
@pytest.mark.parametrize("name", ["vectors.vec", "vectors.vec.gz"])
def test_word2vec_and_fasttext(content: str, name: str, tmp_path: Path) -> None:
    words, vectors = read_vectors(write(tmp_path / name, content))
    assert words == ["the", "x\u00a0y", "학교"]
    np.testing.assert_array_equal(vectors, np.array(VALUES, np.float32))


def test_the_first_ones(tmp_path: Path) -> None:
    for content in (GLOVE, "9 3\n" + GLOVE.replace(". . .", "...")):
        words, vectors = read_vectors(write(tmp_path / "v", content), limit=1)
        assert words == ["the"]
        assert vectors.shape == (1, 3)
    assert len(read_vectors(write(tmp_path / "v", GLOVE), limit=99)[0]) == 3


def test_a_word_may_be_a_number(tmp_path: Path) -> None:
    assert read_vectors(write(tmp_path / "v", "1990 1 2\n2 3 4\n"))[0] == ["1990", "2"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "a 1 2\nb 1\n",
            "V:2: 1 numbers behind 'b', the file's width is 2" + MEND,
        ),
        (
            "a 1 2\nb 1 2 3\n",
            "V:2: 3 numbers behind 'b', the file's width is 2" + MEND,
        ),
        (
            "2 2\na 1 2\nb c 1 2\n",
            "V:3: 3 numbers behind 'b', the file's width is 2" + MEND,
        ),
        (
            "2 3\na 1 2\n",
            "V:2: 2 numbers behind 'a', the file's width is 3" + MEND,
        ),
        (
            "a 1 2\n\nb 1 2\n",
            "V:2: 0 numbers behind '', the file's width is 2" + MEND,
        ),
        (
            "word\n",
            "V:1: 0 numbers behind 'word', the file's width is 0" + MEND,
        ),
        ("2 0\n", "V:1: width 0; get the file again"),
        (
            "3 2\na 1 2\nb 1 2\n",
            "V:3: the file ends after 2 words, its first line promises 3; get it again",
        ),
        (
            "1 2\na 1 2\nb 1 2\n",
            "V:3: the file ends after 2 words, its first line promises 1; get it again",
        ),
        (
            "a 1 2\nb 1 2",
            "V:2: the last line does not end, the file seems cut off; get it again, or end "
            "the line",
        ),
        ("a 1 2\nb nan 2\n", "V:2: the vector of 'b' has nan; remove the line"),
        ("a 1 2\nb 1 -inf\n", "V:2: the vector of 'b' has -inf; remove the line"),
        ("a 1 2\nb 1 1e99\n", "V:2: the vector of 'b' has 1e99; remove the line"),
        ("a 1 2\nb 1 x\n", "V:2: 'x' is not a number; correct the line"),
        ("a 1 2\nb 1 2\na 1 3\n", "V:3: the word 'a' is in line 1 already; remove one of them"),
        ("2 2\na 1 2\na 1 2\n", "V:3: the word 'a' is in line 2 already; remove one of them"),
        ("a 1 2\n 3 4\n", "V:2: no word in front of the numbers; remove the line"),
        (
            b"a 1 2\n\xff 1 2\n",
            "V:2: invalid UTF-8 at byte 0 of the line (a binary file?); give the text format",
        ),
        ("", "V: no vectors; give a file of word2vec, fastText or GloVe (text)"),
        ("0 5\n", "V: no vectors; give a file of word2vec, fastText or GloVe (text)"),
    ],
)
def test_broken(content: str | bytes, message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "v", content)
    with pytest.raises(UserError) as error:
        read_vectors(path)
    assert str(error.value).replace(str(path), "V") == message


def test_broken_files(tmp_path: Path) -> None:
    whole = gzip.compress(
        ("word 1 2 3\n" * 1).encode() + b"".join(b"w%d 1 2 3\n" % i for i in range(20000))
    )
    (tmp_path / "v.gz").write_bytes(whole[: len(whole) // 2])
    for name, message in (
        ("v.gz", "broken gzip file (Compressed file ended before the end-of-stream marker was "),
        ("none", "none: no such file; check the path"),
        (".", "is a folder; give a file"),
    ):
        with pytest.raises(UserError) as error:
            read_vectors(tmp_path / name)
        assert message in str(error.value)
        assert str(error.value).startswith(str(tmp_path))
