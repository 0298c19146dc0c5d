"""Long lines are cut at the ends of sentences, each part with its words."""

from __future__ import annotations

import re
import time
from typing import cast

import numpy as np

from nmt_feat.data.alignment import SourceEncoder
from nmt_feat.runs.trained.long_lines import cut_line
from nmt_feat.text.conllu import Sentence, Word
from nmt_feat.text.sentences import Sentences
from nmt_feat.text.subwords import Pieces


class Tokens:
    """An encoder whose pieces are what stands between spaces."""

    def pieces(self, sentences: Sentences) -> Pieces:
        spans = [match.span() for match in re.finditer(r"\S+", sentences.texts[0])]
        starts, ends = np.array(spans, np.int64).reshape(-1, 2).T
        return Pieces(np.zeros(len(spans), np.int32), np.array([len(spans)]), starts, ends)


ENCODER = cast(SourceEncoder, Tokens())


def test_each_part_has_its_words() -> None:
    text = "We saw it. zum Haus. You all saw very little of it."
    words = [Word(match[0], *match.span()) for match in re.finditer(r"\w+|[.]", text)]
    at = next(i for i, word in enumerate(words) if word.form == "zum")
    words[at : at + 1] = [words[at]._replace(form=form) for form in ("zu", "dem")]  # one span
    parts = cut_line(ENCODER, Sentence(text, tuple(words)), 6, 4)
    assert [part.text for part in parts] == [
        "We saw it.",
        "zum Haus.",
        "You all saw very",
        "little of it.",
    ]
    assert [word.form for word in parts[1].words] == ["zum", "zum", "Haus", "."]
    assert [(w.form, w.start) for w in parts[3].words] == [
        ("little", 0),
        ("of", 7),
        ("it", 10),
        (".", 12),
    ]


def test_a_document_in_a_line() -> None:
    """Its sentences are cut in time that grows with their number, not with its square."""
    count = 20_000
    words = tuple(Word("ab.", 4 * i, 4 * i + 3) for i in range(count))
    begun = time.perf_counter()
    parts = cut_line(ENCODER, Sentence("ab. " * (count - 1) + "ab.", words), 100, 10)
    assert time.perf_counter() - begun < 30  # it was half an hour
    assert len(parts) == count
    assert {part.words for part in parts} == {(Word("ab.", 0, 3),)}
