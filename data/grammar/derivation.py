"""One program, two directions: sample a derivation, or find every derivation of a sentence.

A construction of the grammar is a function that makes choices (``pick``) and says words (``emit``)
from left to right. The `Sampler` answers each choice at random; the `Parser` answers it in every
way that agrees with a given sentence. So generator and enumeration cannot disagree, and the
enumeration is complete: a reading that the grammar allows is one that the parser finds.
"""

from __future__ import annotations

import random
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Generic, TypeVar

T = TypeVar("T")
FEATURE_SETS = {
    "words": (),
    "upos": ("upos",),
    "upos+deprel": ("upos", "deprel"),
    "upos+deprel+feats": ("upos", "deprel", "feats"),
}
FAR_SETS = {
    "words": (),
    "upos+deprel+feats": ("upos", "deprel", "feats"),
    "heads": ("heads",),
    "upos+deprel+feats+heads": ("upos", "deprel", "feats", "heads"),
}
"""The same for the second corpus."""


class DeadEnd(Exception):
    """These choices lead to no sentence (or not to the sentence that is parsed)."""


@dataclass
class Token:
    """An English word with its annotation; `head` is another token, None for the root."""

    form: str
    lemma: str
    upos: str
    xpos: str
    feats: str
    head: Token | None = None
    deprel: str = "root"

    def attach(self, head: Token, deprel: str) -> None:
        """Make this token a dependent of `head`."""
        self.head, self.deprel = head, deprel


@dataclass
class Reading:
    """A sentence with one analysis: annotated English, German, and its probability."""

    construction: str
    tokens: list[Token]
    german: str
    probability: float

    @property
    def text(self) -> str:
        """The raw English sentence: no space before punctuation."""
        return re.sub(r" ([.,?])", r"\1", " ".join(t.form for t in self.tokens))

    def annotation(self) -> tuple[tuple[str, ...], ...]:
        """All that CoNLL-U tells of the words, comparable between readings."""
        place = {id(t): str(i) for i, t in enumerate(self.tokens, 1)}
        heads = [place[id(t.head)] if t.head else "0" for t in self.tokens]
        return tuple(
            (t.form, t.lemma, t.upos, t.xpos, t.feats, head, t.deprel)
            for t, head in zip(self.tokens, heads, strict=True)
        )

    def seen(self, features: str) -> tuple[tuple[str, ...], ...]:
        """What a system sees besides the words, for a key of `FEATURE_SETS` or `FAR_SETS`."""
        names = (FEATURE_SETS | FAR_SETS)[features]
        heads = tuple(row[5] for row in self.annotation()) if "heads" in names else ()
        return tuple(
            heads if f == "heads" else tuple(getattr(t, f) for t in self.tokens) for f in names
        )


class Choice(Generic[T]):
    """Alternatives with weights; `form` names the word that an alternative says first, if fixed."""

    def __init__(
        self,
        items: Iterable[T],
        weight: Callable[[T], float] | None = None,
        form: Callable[[T], str | None] | None = None,
    ) -> None:
        self.items = list(items)
        self.weights = [weight(item) if weight else 1.0 for item in self.items]
        self.bounds = list(accumulate(self.weights))
        self.by_form: dict[str | None, list[int]] = {}
        for number, item in enumerate(self.items):
            self.by_form.setdefault(form(item) if form else None, []).append(number)

    def starting_with(self, word: str, first: bool) -> list[int]:
        """The alternatives that can say `word` next; `first`: it stands capitalised."""
        found = self.by_form.get(None, []) + self.by_form.get(word, [])
        lowered = word[:1].lower() + word[1:]
        if first and lowered != word:
            found = found + self.by_form.get(lowered, [])
        return found


def weighted(**weights: float) -> Choice[str]:
    """A choice between names, as ``weighted(past=2, present=1)``."""
    return Choice(weights, weight=weights.__getitem__)


class Derivation:
    """The state that a construction works on."""

    def __init__(self) -> None:
        self.tokens: list[Token] = []
        self.probability = 1.0

    def _select(self, choice: Choice[T]) -> int:
        raise NotImplementedError

    def pick(self, choice: Choice[T]) -> T:
        """One of the alternatives; its share of the weights goes into the probability."""
        if not choice.items:
            raise DeadEnd
        number = self._select(choice)
        self.probability *= choice.weights[number] / choice.bounds[-1]
        return choice.items[number]

    def emit(self, form: str, lemma: str, upos: str, xpos: str, feats: str = "_") -> Token:
        """Say a word; the first of a sentence is capitalised."""
        if not self.tokens:
            form = form[:1].upper() + form[1:]
        elif self.tokens[-1].form.lower() == ("a" if form[0] in "aeiouAEIOU" else "an"):
            raise DeadEnd  # The article is chosen before the word that decides its form.
        self.tokens.append(Token(form, lemma, upos, xpos, feats))
        return self.tokens[-1]


class Sampler(Derivation):
    """Choices at random."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self.rng = rng

    def _select(self, choice: Choice[T]) -> int:
        spot = bisect_right(choice.bounds, self.rng.random() * choice.bounds[-1])
        return min(spot, len(choice.items) - 1)


class Parser(Derivation):
    """Choices along a path; `path` holds, per choice, the alternatives left and grows as needed."""

    def __init__(self, words: list[str], path: list[list[int]]) -> None:
        super().__init__()
        self.words = words
        self.path = path
        self.depth = 0

    def _select(self, choice: Choice[T]) -> int:
        if self.depth == len(self.path):
            here = len(self.tokens)
            word = self.words[here] if here < len(self.words) else ""
            found = choice.starting_with(word, first=here == 0)
            if not found:
                raise DeadEnd
            self.path.append(found[::-1])
        self.depth += 1
        return self.path[self.depth - 1][-1]

    def emit(self, form: str, lemma: str, upos: str, xpos: str, feats: str = "_") -> Token:
        """Say a word, which must be the sentence's next."""
        token = super().emit(form, lemma, upos, xpos, feats)
        here = len(self.tokens)
        if here > len(self.words) or token.form != self.words[here - 1]:
            raise DeadEnd
        return token


Program = Callable[[Derivation], tuple[str, str]]


def sample(program: Program, rng: random.Random) -> Reading:
    """A derivation of the grammar at random."""
    while True:
        derivation = Sampler(rng)
        try:
            name, german = program(derivation)
        except DeadEnd:
            continue
        return Reading(name, derivation.tokens, german, derivation.probability)


def derivations(program: Program, text: str) -> Iterator[Reading]:
    """Every derivation whose English is `text`, by depth-first search through all choices."""
    words = re.findall(r"\w+|[.,?]", text)
    path: list[list[int]] = []
    while True:
        derivation = Parser(words, path)
        try:
            name, german = program(derivation)
            if len(derivation.tokens) == len(words):
                yield Reading(name, derivation.tokens, german, derivation.probability)
        except DeadEnd:
            pass
        while path and len(path[-1]) == 1:
            path.pop()
        if not path:
            return
        path[-1].pop()


def readings(program: Program, text: str) -> list[Reading]:
    """The readings of a sentence, the most probable first.

    Two derivations with the same annotation and the same German are one reading; the probability
    of a reading is the sum over its derivations.
    """
    merged: dict[tuple[object, str], Reading] = {}
    for found in derivations(program, text):
        key = (found.annotation(), found.german)
        if key in merged:
            merged[key].probability += found.probability
        else:
            merged[key] = found
    return sorted(merged.values(), key=lambda r: (-r.probability, r.german))
