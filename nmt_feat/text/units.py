"""The units of a token: characters, Korean syllables, jamo, character n-grams.

A token is a piece or a word, without white space and word marks. As in Park & Zhao (2020), Latin
letters and digits are units as they are: `é` is one unit.
"""

from __future__ import annotations

import functools
import re
import unicodedata

KINDS = ("char", "syllable", "jamo", "ngram")
FORMS = ("form", "lower")
"""The whole token, as it is or in lower case."""
EMPTY = "<E>"
"""Replaces the final consonant of a syllable without one (Park & Zhao 2020)."""
BLANK = "▁"
"""The unit of a token without visible characters (a lone word mark, a byte of a character). For
n-grams, it also stands before and behind a token. It is never part of a token."""

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
    """The visible characters of a text: no spaces, word marks, control characters."""
    return "".join(char for char in text if char.isprintable() and char not in (" ", BLANK))


@functools.lru_cache(1 << 16)
def split_units(token: str, kind: str, n: int = 3) -> tuple[str, ...]:
    """Split a token into units, at least one.

    - `char`: code points.
    - `syllable`: the same, but each Korean syllable is one unit, however it is encoded.
    - `jamo`: the canonical decomposition of each syllable, with `EMPTY` if it has no final
      consonant. Single jamo of any block, and everything that is not Korean, stay as they are.
    - `ngram`: runs of `n` code points of the token between two `BLANK`s (Bojanowski et al. 2017
      have `<` and `>` there); the whole if it is shorter.
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
    """Compose jamo to syllables if Unicode has them; the rest of the token stays as it is."""
    jamo = f"[{_L}][{_V}][{_T}]?|[가-힣][{_T}]"
    return re.sub(jamo, lambda match: unicodedata.normalize("NFC", match[0]), token)


def _split_syllable(syllable: str) -> list[str]:
    jamo = list(unicodedata.normalize("NFD", syllable))
    return jamo if _TRAILING.match(jamo[-1]) else [*jamo, EMPTY]
