"""What the annotation says of each word: the values of one of its columns."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np

from nmt_feat.text.conllu import NONE, Sentence, Word
from nmt_feat.text.sentences import ANNOTATION, DictionaryColumn, Sentences

MISSING = "<missing>"
"""A value that is unknown, as where a sentence has no annotation."""
SENTENCE = "sentence"
"""Begins a column that has a value for the whole sentence: `sentence.formality`."""
MISSING_HEAD = -2
"""The number of a head that is unknown, where -1 says that a word has none."""


def whitespace_words(text: str) -> tuple[Word, ...]:
    """Words between spaces with no annotation but their span."""
    return tuple(Word(m[0], m.start(), m.end()) for m in re.finditer(r"\S+", text))


def without_annotation(text: str, spans: Iterable[tuple[int, int]] | None = None) -> Sentence:
    """Words whose annotation is missing, at these places; by default those between spaces."""
    values = dict.fromkeys(ANNOTATION, MISSING)
    word = Word("", 0, 0, head=MISSING_HEAD, **values)
    spans = (match.span() for match in re.finditer(r"\S+", text)) if spans is None else spans
    words = (word._replace(form=text[a:b], start=a, end=b) for a, b in spans)
    return Sentence(text, tuple(words))


def read_column(sentences: Sentences, column: str) -> DictionaryColumn:
    """The value of each word in a column (`upos`, `feats.Case`, `misc.NER`), `_` for none.

    All words of a sentence have the value of a column such as `sentence.formality`.
    """
    name, _, key = column.partition(".")
    if name == SENTENCE:
        of_sentences = DictionaryColumn.of(sentences.labels[key].fill_null(MISSING))
        codes = np.repeat(of_sentences.codes, sentences.counts)
        return DictionaryColumn(codes, of_sentences.values)

    def read_value(annotated: str) -> str:
        if annotated == MISSING:
            return MISSING
        if not key:
            return annotated or NONE
        if name == "feats":
            return feats_value(annotated, key)
        value = misc_value(annotated, key)
        is_missing = value == NONE and annotated.startswith(f"{MISSING}|")  # but for marks of terms
        return MISSING if is_missing else value

    return DictionaryColumn.of(sentences.annotation[name]).map(read_value)


def feats_value(feats: str, name: str) -> str:
    """`Case` of `Case=Nom|Number=Sing`; of joined words (`_+Case=Dat`) joined: `_+Dat`."""
    parts = [
        dict(item.partition("=")[::2] for item in part.split("|")) for part in feats.split("+")
    ]
    values = [part.get(name) or NONE for part in parts]
    return NONE if set(values) == {NONE} else "+".join(values)


def misc_value(misc: str, name: str) -> str:
    """`NER` of `NER=A+B|Gloss=in|Gloss=the`; `Gloss`, of parts of a token, joined: `in+the`."""
    items = (item.partition("=") for item in misc.split("|"))
    return "+".join(value for key, _, value in items if key == name and value) or NONE
