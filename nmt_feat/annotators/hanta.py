"""Annotation by the Hanover Tagger."""

import functools
import importlib
import re
from collections.abc import Sequence
from typing import Any, ClassVar

from nmt_feat.annotators.base import Annotator, list_versions, read_tags
from nmt_feat.errors import UserError, suggest
from nmt_feat.text.conllu import Sentence, Word


class HanTa(Annotator):
    """The Hanover Tagger (Wartena 2019) with the models in its package.

    It gives lemma, xpos and upos, but no feats and no syntax. xpos are tags of the British National
    Corpus (C5) for English, and tags like those of STTS for German. `hanta_tags.json` maps them to
    upos: for German as Universal Dependencies do (de-stts); for English, be, do and have are always
    AUX, since C5 has the same tags for auxiliaries and full verbs. Tokens are numbers, words (with
    inner hyphens; English clitics are split off, as in `do n't`, `man 's`) and other single
    characters. `language` is `en` or `de`.
    """

    name = "hanta"
    columns = ("lemma", "upos", "xpos")
    _models: ClassVar = {"en": "morphmodel_en.pgz", "de": "morphmodel_ger.pgz"}
    _token = r"\d+(?:[.,:]\d+)*(?!\w)|\w+(?:-\w+)*|[^\w\s]"
    _clitic = r"[^\W\d_]+(?=n['’]t\b)|n['’]t\b|['’](?:s|re|ve|ll|d|m)\b|"

    def __init__(self, language: str) -> None:
        self.package("HanTa")
        if language not in self._models:
            raise UserError(
                f"annotator=hanta: no language {language!r}; {suggest(language, self._models)}"
            )
        self.language = language
        self.upos = read_tags("hanta_tags.json", language)

    @functools.cached_property
    def _tagger(self) -> Any:
        tagger = importlib.import_module("HanTa.HanoverTagger")
        return tagger.HanoverTagger(self._models[self.language])

    def fingerprint(self) -> str:
        """Package, version (its models come with it) and language."""
        return f"hanta {list_versions('HanTa')} language={self.language}"

    def annotate(self, texts: Sequence[str]) -> list[Sentence]:
        """A sentence for each line."""
        pattern = self._clitic + self._token if self.language == "en" else self._token
        token = re.compile(pattern, re.IGNORECASE)
        out = []
        for text in texts:
            matches = list(token.finditer(text))
            tagged = self._tagger.tag_sent([m[0].replace("’", "'") for m in matches])
            words = [
                Word(m[0], m.start(), m.end(), lemma or "_", self.upos[tag], tag)
                for m, (_, lemma, tag) in zip(matches, tagged, strict=True)
            ]
            out.append(Sentence(text, tuple(words)))
        return out
