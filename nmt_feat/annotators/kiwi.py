"""Korean morphemes by Kiwi."""

import functools
from collections.abc import Iterable, Sequence
from typing import Any

from nmt_feat.annotators.base import Annotator, list_versions, read_tags
from nmt_feat.text.conllu import Sentence, Word


class Kiwi(Annotator):
    """Kiwi (Lee 2024), a morphological analyser of Korean; its model is a package.

    Words are morphemes. Morphemes that share characters of the text (`갔` = 가 + 었) are one word,
    whose values are joined in order, like those of a multi-word token (`VV+EP`). xpos are Kiwi's
    tags: those of the Sejong corpus, and a few more. `kiwi_tags.json` maps them to upos: particles
    are ADP, but JC, the `and` between nouns, is CCONJ; copula and auxiliary verbs are AUX; Latin
    letters and Chinese characters are X. Endings, affixes and added finals are PART; Universal
    Dependencies has no rule for them, since its Korean words are not morphemes. Kiwi gives no feats
    and no syntax.
    """

    name = "kiwi"
    languages = ("ko",)
    columns = ("lemma", "upos", "xpos")
    morphemes = True

    def __init__(self) -> None:
        self.package("kiwipiepy")
        self.upos = read_tags("kiwi_tags.json")

    @functools.cached_property
    def _tagger(self) -> Any:
        return self.package("kiwipiepy").Kiwi(num_workers=1)

    def fingerprint(self) -> str:
        """Versions of package and model."""
        return f"kiwi {list_versions('kiwipiepy', 'kiwipiepy_model')}"

    def annotate(self, texts: Sequence[str]) -> list[Sentence]:
        """A sentence for each line."""
        return [Sentence(text, self._words(text)) for text in texts]

    def _words(self, text: str) -> tuple[Word, ...]:
        words = []
        for group in _group_by_characters(self._tagger.tokenize(text)):
            start, end = group[0].start, max(m.start + m.len for m in group)
            tags = [m.tag for m in group]
            upos = "+".join(self.upos[tag.partition("-")[0]] for tag in tags)
            lemma = "+".join(m.lemma for m in group)
            words.append(Word(text[start:end], start, end, lemma, upos, "+".join(tags)))
        return tuple(words)


def _group_by_characters(morphemes: Iterable[Any]) -> list[list[Any]]:
    """Morphemes in groups that share characters of the text; each group has at least one.

    An empty morpheme, such as a copula that is not written, joins its neighbour: the group before
    it or, at the begin of the text, the one behind it.
    """
    groups: list[list[Any]] = []
    start = end = 0  # the characters of the last group
    for morpheme in morphemes:
        if groups and (morpheme.start < end or start == end):
            groups[-1].append(morpheme)
        else:
            groups.append([morpheme])
            start = morpheme.start
        end = max(end, morpheme.start + morpheme.len)
    if len(groups) > 1 and start == end:
        groups[-2] += groups.pop()
    return groups
