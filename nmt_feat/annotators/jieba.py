"""Chinese words by jieba."""

import functools
import importlib
import logging
import tempfile
from collections.abc import Sequence
from typing import Any
from unicodedata import category

from nmt_feat.annotators.base import Annotator, choose_upos, list_versions, read_tags
from nmt_feat.text.conllu import Sentence, Word


class Jieba(Annotator):
    """jieba (Sun): words of Chinese with part of speech; its dictionary is in its package.

    xpos are its tags: those of ICTCLAS, and a few more. `jieba_tags.json` maps them to upos:
    measure words and words of place and time are NOUN, particles PART. jieba has one tag for
    everything that is not a word; here it is PUNCT, SYM or X, by the characters. There are no
    lemmas, since they would be the words themselves.
    """

    name = "jieba"
    languages = ("zh", "yue")
    columns = ("upos", "xpos")

    def __init__(self) -> None:
        self.package("jieba")
        self.upos = read_tags("jieba_tags.json")

    @functools.cached_property
    def _tagger(self) -> Any:
        jieba = self.package("jieba")
        jieba.setLogLevel(logging.WARNING)  # no lines on standard error about loading
        tokenizer = jieba.Tokenizer()
        # By default it would load a file that anybody may have put into the temporary folder.
        with tempfile.TemporaryDirectory() as folder:
            tokenizer.tmp_dir = folder
            tokenizer.initialize()
        return importlib.import_module("jieba.posseg").POSTokenizer(tokenizer)

    def fingerprint(self) -> str:
        """Package and version; its dictionary comes with it."""
        return f"jieba {list_versions('jieba')}"

    def annotate(self, texts: Sequence[str]) -> list[Sentence]:
        """A sentence for each line."""
        return [Sentence(text, self._words(text)) for text in texts]

    def _words(self, text: str) -> tuple[Word, ...]:
        words, end = [], 0
        for form, tag in self._tagger.lcut(text):
            start, end = end, end + len(form)
            if form.strip():  # jieba returns white space as words, too
                upos = self._choose_upos(form, tag)
                words.append(Word(form, start, end, upos=upos, xpos=tag))
        return tuple(words)

    def _choose_upos(self, form: str, tag: str) -> str:
        kinds = {category(character)[0] for character in form}
        if tag == "x" and kinds <= {"P", "S"}:
            return "PUNCT" if kinds == {"P"} else "SYM"
        # Tags of more letters are finer: `nrt` is a kind of `nr`.
        return choose_upos(self.upos, (tag[:length] for length in range(len(tag), 0, -1)))
