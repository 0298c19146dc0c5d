"""The values of words in a column of the annotation."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np

from nmt_feat.text.conllu import NONE, Sentence, Word, join_parts
from nmt_feat.text.sentences import ANNOTATION, DictionaryColumn, Sentences

MISSING = "<missing>"
"""An unknown value, for example in a sentence without annotation."""
SENTENCE = "sentence"
"""Begins the name of a column of sentence values: `sentence.formality`."""
MISSING_HEAD = -2
"""The number of an unknown head; -1 means that a word has no head."""


def whitespace_words(text: str) -> tuple[Word, ...]:
    """The words between spaces, without annotation."""
    return tuple(Word(m[0], m.start(), m.end()) for m in re.finditer(r"\S+", text))


def without_annotation(text: str, spans: Iterable[tuple[int, int]] | None = None) -> Sentence:
    """A sentence of words whose annotation is `MISSING`; by default the words between spaces."""
    values = dict.fromkeys(ANNOTATION, MISSING)
    word = Word("", 0, 0, head=MISSING_HEAD, **values)
    spans = (match.span() for match in re.finditer(r"\S+", text)) if spans is None else spans
    words = (word._replace(form=text[a:b], start=a, end=b) for a, b in spans)
    return Sentence(text, tuple(words))


def read_column(sentences: Sentences, column: str) -> DictionaryColumn:
    """The value of each word in a column (`upos`, `feats.Case`, `misc.NER`), `_` for none.

    In a column such as `sentence.formality`, all words of a sentence have the sentence's value.
    """
    name, _, key = column.partition(".")
    if name == SENTENCE:
        labels = DictionaryColumn.of(sentences.labels[key].fill_null(MISSING))
        codes = np.repeat(labels.codes, sentences.counts)
        return DictionaryColumn(codes, labels.values)

    def read_value(cell: str) -> str:
        if cell == MISSING:
            return MISSING
        if not key:
            return cell or NONE
        if name == "feats":
            return feats_value(cell, key)
        value = misc_value(cell, key)
        # Behind `MISSING` there may be marks of terms.
        is_missing = value == NONE and cell.startswith(f"{MISSING}|")
        return MISSING if is_missing else value

    return DictionaryColumn.of(sentences.annotation[name]).map(read_value)


def feats_value(feats: str, name: str) -> str:
    """The value of an attribute: `Nom` for `Case` in `Case=Nom|Number=Sing`.

    Values of joined words are joined: `_+Dat` for `Case` in `_+Case=Dat`.
    """
    parts = [
        dict(item.partition("=")[::2] for item in part.split("|")) for part in feats.split("+")
    ]
    return join_parts([part.get(name) or NONE for part in parts])


def misc_value(misc: str, name: str) -> str:
    """The value of a key: `A+B` for `NER` in `NER=A+B|Gloss=in|Gloss=the`.

    Several values, those of parts of a token, are joined: `in+the` for `Gloss`.
    """
    items = (item.partition("=") for item in misc.split("|"))
    return "+".join(value for key, _, value in items if key == name and value) or NONE
