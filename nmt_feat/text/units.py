"""What a token is made of: characters, Korean syllables, jamo, character n-grams.

A token is a piece or a word, without white space and word marks. Latin letters and digits are units
as they are, as in Park & Zhao (2020): `é` is one.
"""

from __future__ import annotations

import functools
import re
import unicodedata

from nmt_feat.errors import UserError

KINDS = ("char", "syllable", "jamo", "ngram")
FORMS = ("form", "lower")
"""The token as a whole, as it is and in lower case."""
EMPTY = "<E>"
"""Stands in the place of the final consonant of a syllable that has none (Park & Zhao 2020)."""
BLANK = "▁"
"""The unit of a token without visible characters (a lone word mark, a byte of a character), and
what stands around a token of which n-grams are taken; it is never part of a token."""

# Conjoining jamo: leading consonants, vowels, trailing consonants, old ones included.
_L, _V, _T = (
    "\u1100-\u115f\ua960-\ua97c",
    "\u1160-\u11a7\ud7b0-\ud7c6",
    "\u11a8-\u11ff\ud7cb-\ud7fb",
)
_SYLLABLE = re.compile(f"(?:[{_L}]*[가-힣][{_V}]*|[{_L}]+[{_V}]+)[{_T}]*")
"""A syllable block of Unicode (UAX 29) in composed text, modern or old."""
_TRAILING = re.compile(f"[{_T}]")


def visible_characters(text: str) -> str:
    """The characters of a text that have a shape: no spaces, word marks, control characters."""
    return "".join(char for char in text if char.isprintable() and char not in (" ", BLANK))


@functools.lru_cache(1 << 16)
def split_units(token: str, kind: str, n: int = 3) -> tuple[str, ...]:
    """The units of a token; at least one.

    `char`: code points. `syllable`: the same, with each Korean syllable one unit, however it is
    encoded. `jamo`: the canonical decomposition of each syllable, with `EMPTY` where it has no
    final; jamo that stand alone, of any block, and all that is not Korean stay as they are.
    `ngram`: runs of `n` code points of the token between two `BLANK`s (as Bojanowski et al. 2017
    have them between `<` and `>`); the whole if it is shorter.
    """
    if not token:
        return (BLANK,)
    if kind == "char":
        return tuple(token)
    if kind == "ngram":
        marked = f"{BLANK}{token}{BLANK}"
        return tuple(marked[i : i + n] for i in range(max(1, len(marked) - n + 1)))
    units: list[str] = []
    behind = 0
    token = _compose_jamo(token)
    for syllable in _SYLLABLE.finditer(token):
        units += token[behind : syllable.start()]
        units += [syllable[0]] if kind == "syllable" else _split_syllable(syllable[0])
        behind = syllable.end()
    return (*units, *token[behind:])


def _compose_jamo(token: str) -> str:
    """The token with its jamo composed to syllables where Unicode has one; the rest untouched."""
    jamo = f"[{_L}][{_V}][{_T}]?|[가-힣][{_T}]"
    return re.sub(jamo, lambda match: unicodedata.normalize("NFC", match[0]), token)


def _split_syllable(syllable: str) -> list[str]:
    jamo = list(unicodedata.normalize("NFD", syllable))
    return jamo if _TRAILING.match(jamo[-1]) else [*jamo, EMPTY]


def check_units(name: str, column: str, of: str, n: int) -> None:
    """Refuse settings of the feature `name` that say nothing about units, or nothing possible."""
    if of not in ("piece", "word"):
        raise UserError(f"features.{name}.of={of}: one of piece, word")
    if n < 1:
        raise UserError(f"features.{name}.n={n}: must be at least 1")
    columns = (*KINDS, *FORMS)
    if column not in columns and of != "piece":
        raise UserError(f"features.{name}.of={of}: for {', '.join(columns)}; leave it out")
