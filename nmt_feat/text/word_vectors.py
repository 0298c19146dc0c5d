"""Ready-made word vectors in the text formats of word2vec, fastText and GloVe."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Container, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nmt_feat.errors import UserError, short_repr
from nmt_feat.text.files import open_decompressed
from nmt_feat.text.units import visible_characters


def read_vectors(
    path: Path | str, limit: int | None = None, wanted: Container[str] | None = None
) -> tuple[list[str], NDArray[np.float32]]:
    """Read the words of a file and their vectors `(words, width)`.

    A line is a word and its numbers, with spaces between. The file may be gzipped (`.gz`). In
    word2vec and fastText, the first line has two integers: the number of words, and their width.
    GloVe has no such line, and a few words with spaces inside.

    Args:
        path: the file.
        limit: read at most so many words.
        wanted: return only these words; the others are read and checked, too.

    Raises:
        UserError: for a broken line, which the message names: another width, no number, NaN or
            infinity, a word that stands in the file already, a file that ends early.
    """
    words: dict[str, int] = {}  # and the numbers of their lines
    chosen_words: list[str] = []
    rows: list[NDArray[np.float32]] = []
    promised, width, number = None, 0, 0
    for number, line in enumerate(_decode_lines(Path(path)), 1):
        where = f"{path}:{number}"
        fields = line.rstrip("\r\n ").split(" ")
        if number == 1 and len(fields) == 2 and all(map(_is_count, fields)):
            promised, width = map(int, fields)
            if not width:
                raise UserError(f"{where}: width 0; get the file again")
            continue
        if limit is not None and len(words) == limit:
            break
        width = width or len(fields) - 1
        word, numbers = _split_line(fields, width, promised is not None, where)
        if word in words:
            raise UserError(
                f"{where}: the word {short_repr(word)} is in line {words[word]} already; "
                "remove one of them"
            )
        if not line.endswith("\n") and promised is None:
            raise UserError(
                f"{where}: the last line does not end, the file seems cut off; get it again, or "
                "end the line"
            )
        words[word] = number
        if wanted is None or word in wanted:
            chosen_words.append(word)
            rows.append(numbers)
    else:
        if promised is not None and promised != len(words):
            raise UserError(
                f"{path}:{number}: the file ends after {len(words)} words, its first line promises "
                f"{promised}; get it again"
            )
    if not words:
        raise UserError(f"{path}: no vectors; give a file of word2vec, fastText or GloVe (text)")
    return chosen_words, np.stack(rows) if rows else np.zeros((0, width), np.float32)


def index_by_visible(
    words: list[str], vectors: NDArray[np.float32]
) -> tuple[list[str], NDArray[np.float32]]:
    """Reduce words to their visible characters, by which tokens are looked up.

    So words with joiners (Persian, Indic scripts) or soft hyphens are found. Of words that become
    the same, the first one stays.
    """
    first: dict[str, int] = {}
    for row, word in enumerate(words):
        first.setdefault(visible_characters(word), row)
    first.pop("", None)
    rows = list(first.values())
    return list(first), vectors if len(rows) == len(words) else vectors[rows]


def vector_width(path: Path | str) -> int:
    """The width of a file's vectors."""
    return int(read_vectors(path, 1)[1].shape[1])


def _split_line(
    fields: list[str], width: int, header: bool, where: str
) -> tuple[str, NDArray[np.float32]]:
    """Divide the fields of a line into the word and its numbers."""
    inside = fields[1 : len(fields) - width]  # further parts of a word with spaces
    if len(fields) <= width or (inside and (header or _is_number(inside[-1]))) or not width:
        raise UserError(
            f"{where}: {len(fields) - 1} numbers behind {short_repr(fields[0])}, the file's width "
            f"is {width}; correct the line or get the file again"
        )
    word = " ".join(fields[: len(fields) - width])
    if not word:
        raise UserError(f"{where}: no word in front of the numbers; remove the line")
    try:
        with np.errstate(over="ignore"):
            numbers = np.array(fields[-width:], np.float32)
    except ValueError:
        wrong = next(field for field in fields[-width:] if not _is_number(field))
        raise UserError(f"{where}: {short_repr(wrong)} is not a number; correct the line") from None
    if not np.isfinite(numbers).all():
        wrong = fields[-width:][int(np.flatnonzero(~np.isfinite(numbers))[0])]
        number = short_repr(wrong.strip())[1:-1]
        raise UserError(f"{where}: the vector of {short_repr(word)} has {number}; remove the line")
    return word, numbers


def _is_count(field: str) -> bool:
    return field.isascii() and field.isdecimal() and len(field) < 10


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _decode_lines(path: Path) -> Iterator[str]:
    r"""Decode the lines one by one, since these files are large; they still have their "\n"."""
    number = 1
    with open_decompressed(path) as file:
        try:
            for line in file:
                text = line.decode()
                yield text if number > 1 else text.removeprefix("\ufeff")
                number += 1
        except UnicodeDecodeError as error:
            raise UserError(
                f"{path}:{number}: invalid UTF-8 at byte {error.start} of the line (a binary "
                "file?); give the text format"
            ) from None
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise UserError(f"{path}:{number}: broken gzip file ({error}); get it again") from None
