"""Annotation of a raw text, moved onto its tokens as Moses writes them."""

from __future__ import annotations

import html
import re
from difflib import SequenceMatcher
from itertools import accumulate, pairwise

from nmt_feat.errors import UserError, short_repr
from nmt_feat.text.conllu import Sentence

# What the Moses normaliser makes of punctuation.
_PUNCTUATION = str.maketrans(
    dict.fromkeys("„“”«»″", '"') | dict.fromkeys("‘’‚‛´`′", "'") | dict.fromkeys("–—‐‑", "-")
) | {ord("…"): "..."}


def _fold_text(part: str) -> str:
    """A part of a raw or of a tokenised text as both would have it, without whitespace."""
    return "".join(part.split()).translate(_PUNCTUATION).lower()


def project_annotation(
    raw: Sentence, tokens: str, name: str = "projection"
) -> tuple[Sentence, int]:
    """Annotation of a raw line on its lower-cased tokens, and how many tokens matched nothing.

    `tokens` are separated by spaces, lower-cased, normalised and escaped as Moses does. Characters
    of both sides, without whitespace, lower-cased, normalised and unescaped, are aligned (longest
    common blocks). A token takes the values of the raw word that covers its first character; where
    that is in no block (counted), those of the nearest character that is, of its own or else of
    another token. A line of which no character matches is a `UserError` that begins with `name`.
    """
    if not raw.text.strip():
        raise UserError(f"{name}: the raw line of {short_repr(tokens)} is blank; give its text")
    if not raw.words:
        raise UserError(f"{name}: no annotation for {short_repr(raw.text)}")
    bounds = [0, *(word.start for word in raw.words[1:]), len(raw.text)]
    raw_parts = [_fold_text(raw.text[start:end]) for start, end in pairwise(bounds)]
    raw_words = [word for word, part in zip(raw.words, raw_parts, strict=True) for _ in part]
    token_matches = list(re.finditer(r"\S+", tokens))
    token_parts = [
        _fold_text("-" if token[0] == "@-@" else html.unescape(token[0])) for token in token_matches
    ]
    token_bounds = pairwise(accumulate(map(len, token_parts), initial=0))
    matcher = SequenceMatcher(None, "".join(token_parts), "".join(raw_parts), autojunk=False)
    raw_of = {  # the raw character of each token character that matches one
        block.a + i: block.b + i
        for block in matcher.get_matching_blocks()
        for i in range(block.size)
    }
    if not raw_of:
        raise UserError(
            f"{name}: the tokens {short_repr(tokens)} have no character of {short_repr(raw.text)}"
        )
    words, missed = [], 0
    for token, (first, behind) in zip(token_matches, token_bounds, strict=True):
        at = first
        if first not in raw_of:
            missed += 1
            at = min(raw_of, key=lambda i: (not first <= i < behind, abs(i - first)))
        start, end = token.span()
        word = raw_words[raw_of[at]]
        words.append(word._replace(form=token[0], start=start, end=end, head=-1))
    return Sentence(tokens, tuple(words)), missed
