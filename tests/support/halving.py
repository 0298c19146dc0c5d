"""An annotator of parts of words: what stands between spaces is cut in two."""

from __future__ import annotations

import re
from collections.abc import Sequence

from nmt_feat.annotators import Annotator
from nmt_feat.text.conllu import Sentence, Word


class Halves(Annotator):
    """Front and back half of each token, by `xpos` with the number of their characters."""

    name = "halves"
    morphemes = True

    def fingerprint(self) -> str:
        """It has no versions."""
        return "halves"

    def annotate(self, texts: Sequence[str]) -> list[Sentence]:
        """A sentence for each line."""
        return [Sentence(text, tuple(self._words(text))) for text in texts]

    def _words(self, text: str) -> list[Word]:
        words = []
        for token in re.finditer(r"\S+", text):
            middle = (token.start() + token.end() + 1) // 2
            for upos, start, end in (
                ("FRONT", token.start(), middle),
                ("BACK", middle, token.end()),
            ):
                if start < end:
                    form = text[start:end]
                    words.append(Word(form, start, end, form, upos, f"{upos}{end - start}"))
        return words


class Wholes(Halves):
    """The same, which does not say that its words are parts."""

    name = "wholes"
    morphemes = False
