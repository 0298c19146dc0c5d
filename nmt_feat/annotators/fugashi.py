"""Japanese words by MeCab and fugashi."""

import functools
from collections.abc import Sequence
from typing import Any

from nmt_feat.annotators.base import Annotator, choose_upos, list_versions, read_tags
from nmt_feat.text.conllu import NONE, Sentence, Word, align_words


class Fugashi(Annotator):
    """MeCab (Kudo et al. 2004) by fugashi (McCann 2020), with the dictionary IPADIC, a package.

    Gives lemma, xpos and upos, and in `misc` the reading in katakana (`Reading=ガッコウ`). xpos are
    the levels of IPADIC's parts of speech (`名詞-固有名詞-人名`); `fugashi_tags.json` maps them to
    upos by the longest of their beginnings that it has. No feats, no syntax.
    """

    name = "fugashi"
    languages = ("ja",)
    columns = ("lemma", "upos", "xpos", "misc")

    def __init__(self) -> None:
        self.package("fugashi")
        self.package("ipadic")
        self.upos = read_tags("fugashi_tags.json")

    @functools.cached_property
    def _tagger(self) -> Any:
        return self.package("fugashi").GenericTagger(self.package("ipadic").MECAB_ARGS)

    def fingerprint(self) -> str:
        """Versions of package and dictionary."""
        return f"fugashi {list_versions('fugashi', 'ipadic')}"

    def annotate(self, texts: Sequence[str]) -> list[Sentence]:
        """A sentence for each line."""
        out = []
        for text in texts:
            words = [self._convert(node.surface, node.feature) for node in self._tagger(text)]
            out.append(Sentence(text, align_words(text, words, "annotator=fugashi")))
        return out

    def _convert(self, form: str, features: Sequence[str]) -> Word:
        """A word of MeCab: four levels of part of speech, two of inflection, lemma, reading."""
        levels = [level for level in features[:4] if level != "*"]
        lemma, reading = [*features[6:8], "*", "*"][:2]
        prefixes = ("-".join(levels[:count]) for count in range(len(levels), 0, -1))
        upos = choose_upos(self.upos, prefixes)
        misc = NONE if reading == "*" else f"Reading={reading}"
        lemma = form if lemma == "*" else lemma
        return Word(form, 0, 0, lemma, upos, "-".join(levels) or NONE, misc=misc)
