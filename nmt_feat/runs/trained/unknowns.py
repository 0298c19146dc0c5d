"""Counts what a trained run does not know of the text that it reads, and reports it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nmt_feat.base.terminal import say
from nmt_feat.data.alignment import AlignedSentences, SourceEncoder
from nmt_feat.data.covers import mark_visible_characters
from nmt_feat.data.store import EncodedSplit
from nmt_feat.embedders.ids import UNK
from nmt_feat.errors import UserError, short_repr
from nmt_feat.text.sentences import Booleans, Integers

SOURCE, TARGET, LONG = "source", "target", "long"
"""Kinds of unknown things that are not features; for a feature it is `features.` and its name."""


@dataclass
class Count:
    """How many of all are unknown, and the location of the first one."""

    unknown: int = 0
    total: int = 0
    first: str = ""


class Unknowns:
    """Counts over all that a run reads.

    Args:
        encoder: the run's.
        reaction: `error` ends the program at the first sentences with something unknown.
    """

    def __init__(self, encoder: SourceEncoder, reaction: str = "warn") -> None:
        self.encoder, self.reaction = encoder, reaction
        self.counts: dict[str, Count] = {}
        self.longest = 0
        """Pieces of the longest sentence."""
        self.unknown_characters = self.characters = 0

    def count(self, described: AlignedSentences, split: EncodedSplit, where: Sequence[str]) -> None:
        """Count sentences, which `where` names; a `UserError` if the reaction is `error`."""
        counts = described.counts
        self._count_pieces(described, where)
        ids = split.target
        inner = np.ones(len(ids.values), bool)
        inner[ids.offsets[1:] - 1] = False
        self._add(TARGET, ids.values[inner] == UNK, split.target_lengths - 1, where)
        for name, kind in self.encoder.valued_kinds.items():
            coded, vocabulary = described.values[name], self.encoder.features[name]
            unknown = [kind.is_unknown(value, vocabulary) for value in coded.values]
            mask = np.array(unknown, bool)
            per_sentence = described.value_counts[name]
            at = self._add(f"features.{name}", mask[coded.codes], per_sentence, where)
            if at is not None:
                number = int(per_sentence[: at[0]].sum()) + at[1]
                value = short_repr(coded.values[coded.codes[number]])
                self.counts[f"features.{name}"].first += f", {value}"
        if self.encoder.longest is not None:
            self.longest = max(self.longest, int(counts.max(initial=1)) - 1)
            ones = np.ones(len(counts), np.int64)
            self._add(LONG, counts - 1 > self.encoder.longest, ones, where)
        if self.reaction == "error" and (lines := self.lines()):
            raise UserError(f"{lines[0]}; correct the input, or set unknown=warn to continue")

    def _add(
        self, kind: str, unknown: Booleans, per_sentence: Integers, where: Sequence[str]
    ) -> tuple[int, int] | None:
        """Count what is unknown; locate the first one of its kind.

        Returns:
            The sentence and the position in it; None if nothing is unknown here, or something was
            unknown before.
        """
        count = self.counts.setdefault(kind, Count())
        count.total += len(unknown)
        if not unknown.any():
            return None
        before, count.unknown = count.unknown, count.unknown + int(unknown.sum())
        if before:
            return None
        at = int(np.argmax(unknown))
        ends = np.cumsum(per_sentence)
        sentence = int(np.searchsorted(ends, at, side="right"))
        count.first = where[sentence]
        return sentence, at - int(ends[sentence] - per_sentence[sentence])

    def _count_pieces(self, described: AlignedSentences, where: Sequence[str]) -> None:
        """Count pieces of the source and, as pieces may be long, their visible characters."""
        pieces, texts = described.pieces, described.words.texts
        unknown = pieces.ids == UNK
        at = self._add(SOURCE, unknown, pieces.counts, where)
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        base = np.repeat(np.cumsum(lengths) - lengths, pieces.counts)
        visible = np.append(0, np.cumsum(mark_visible_characters("".join(texts))))
        inside = visible[pieces.ends + base] - visible[pieces.starts + base]
        self.unknown_characters += int(inside[unknown].sum())
        self.characters += int(visible[-1])
        if at is not None:
            number = int(pieces.counts[: at[0]].sum()) + at[1]
            text = texts[at[0]][pieces.starts[number] : pieces.ends[number]].strip()
            self.counts[SOURCE].first += f", {short_repr(text)}"

    def lines(self) -> list[str]:
        """A line for each kind with something unknown."""
        return [
            _describe_count(kind, count, self)
            for kind, count in self.counts.items()
            if count.unknown
        ]

    def say(self) -> None:
        """Print the lines to standard error."""
        for line in self.lines():
            say(line, file=sys.stderr)


def _describe_count(kind: str, count: Count, unknowns: Unknowns) -> str:
    share = f"{count.unknown:,} of {count.total:,}"
    percent = f"({count.unknown / count.total:.1%})"
    if kind == LONG:
        return (
            f"{share} sentences {percent} have more pieces than any of training, which has at most "
            f"{unknowns.encoder.longest:,}; the longest has {unknowns.longest:,}; first: "
            f"{count.first}"
        )
    if kind in (SOURCE, TARGET):
        side, characters = "translations", ""
        if kind == SOURCE:
            side, unknown, total = "source", unknowns.unknown_characters, unknowns.characters
            characters = (
                f", with {unknown:,} of {total:,} characters ({unknown / max(total, 1):.1%}),"
            )
        return (
            f"{share} pieces {percent} of the {side}{characters} are unknown to the run; first: "
            f"{count.first}"
        )
    feature = unknowns.encoder.kinds[kind.removeprefix("features.")]
    noun, meaning = "pieces" if feature.of_pieces else "words", feature.unknown_meaning
    return f"{kind}: {share} {noun} {percent} have {meaning}; first: {count.first}"
