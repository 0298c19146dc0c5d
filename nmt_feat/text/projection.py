"""Move the annotation of a raw text to its tokens as Moses writes them."""

from __future__ import annotations

import html
import re
from difflib import SequenceMatcher
from itertools import accumulate, pairwise

from nmt_feat.errors import UserError, short_repr
from nmt_feat.text.conllu import Sentence

# How Moses normalises punctuation.
_PUNCTUATION = str.maketrans(
    dict.fromkeys("„“”«»″", '"') | dict.fromkeys("‘’‚‛´`′", "'") | dict.fromkeys("–—‐‑", "-")
) | {ord("…"): "..."}


def _fold_text(part: str) -> str:
    """A part of a text in a form that raw and tokenised text share, without white space."""
    return "".join(part.split()).translate(_PUNCTUATION).lower()


def project_annotation(
    raw: Sentence, tokens: str, name: str = "projection"
) -> tuple[Sentence, int]:
    """Move the annotation of a raw line to its tokens.

    Characters of both sides, without white space, in lower case, normalised and unescaped, are
    aligned by longest common blocks. A token takes the values of the raw word that has its first
    character. If this character is in no block, the nearest character in a block counts, first
    within the token, then in others.

    Args:
        raw: the annotated raw line.
        tokens: separated by spaces, in lower case, normalised and escaped as Moses does it.
        name: begins the errors.

    Returns:
        The sentence of the tokens; and the number of tokens whose first character is in no block.

    Raises:
        UserError: if no character of the line matches.
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
            f"{name}: the tokens {short_repr(tokens)} and {short_repr(raw.text)} share no character"
        )
    words, missed = [], 0
    for token, (first, behind) in zip(token_matches, token_bounds, strict=True):
        character = first
        if first not in raw_of:
            missed += 1
            character = min(raw_of, key=lambda i: (not first <= i < behind, abs(i - first)))
        start, end = token.span()
        word = raw_words[raw_of[character]]
        words.append(word._replace(form=token[0], start=start, end=end, head=-1))
    return Sentence(tokens, tuple(words)), missed
