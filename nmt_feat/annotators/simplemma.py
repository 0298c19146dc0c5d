"""Lemmas by Simplemma."""

import functools
import importlib
import re
from collections.abc import Sequence
from typing import Any

from nmt_feat.annotators.base import Annotator, list_versions
from nmt_feat.errors import UserError, suggest
from nmt_feat.text.conllu import Sentence, Word


class Simplemma(Annotator):
    """Simplemma (Barbaresi): lemmas for some fifty languages, from dictionaries in its package.

    It looks at each word alone, so a form of several lemmas has one of them. Its words are letters
    and digits with what joins them inside (`don't`, `well-known`), and single other characters.
    `language` is a code such as `de`.
    """

    name = "simplemma"
    columns = ("lemma",)
    _token = re.compile(r"\d+(?:[.,:]\d+)*(?!\w)|\w+(?:['’-]\w+)*|[^\w\s]")

    def __init__(self, language: str) -> None:
        self.package("simplemma")
        dictionaries = "simplemma.strategies.dictionaries.dictionary_factory"
        languages = importlib.import_module(dictionaries).SUPPORTED_LANGUAGES
        if language not in languages:
            raise UserError(
                f"annotator=simplemma: no language {language!r}; {suggest(language, languages)}"
            )
        self.language = language

    @functools.cached_property
    def _tagger(self) -> Any:
        return functools.cache(
            functools.partial(self.package("simplemma").lemmatize, lang=self.language)
        )

    def fingerprint(self) -> str:
        """Package, version (its dictionaries come with it) and language."""
        return f"simplemma {list_versions('simplemma')} language={self.language}"

    def annotate(self, texts: Sequence[str]) -> list[Sentence]:
        """A sentence for each line."""
        return [Sentence(text, self._words(text)) for text in texts]

    def _words(self, text: str) -> tuple[Word, ...]:
        return tuple(
            Word(m[0], m.start(), m.end(), self._tagger(m[0].replace("’", "'")))
            for m in self._token.finditer(text)
        )
