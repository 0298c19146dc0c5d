"""Tags between the words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import nn

from nmt_feat.embedders.ids import END
from nmt_feat.errors import UserError, suggest
from nmt_feat.methods.base import Method

SIDES = ("before", "after")


class Interleave(Method):
    """`... t_1 ... t_k p_1 ... p_n ...`: the tags of a word are tokens beside its pieces p.

    Interleaved source tags as in Sánchez-Cartagena et al. (2020; arXiv 2401.16078), and as users of
    toolkits without factors write them. The model is a Transformer for words only; its source
    vocabulary also contains the values of the k features. A sentence of m words becomes k * m
    tokens longer.

    Args:
        dim: see `Method`.
        sizes: see `Method`.
        embedding: see `Method`.
        side: `before` puts tags before the first piece of the word, `after` behind its last piece.
        order: the features' names in the order of their tags; by default alphabetical.
    """

    uses_combiner = False
    in_source = True
    exportable = True

    def __init__(
        self,
        dim: int,
        sizes: Mapping[str, int],
        embedding: nn.Module | None = None,
        side: str = "before",
        order: Sequence[str] | None = None,
    ) -> None:
        super().__init__(dim, sizes)
        if side not in SIDES:
            raise UserError(f"method.args.side={side}: {suggest(side, SIDES)}")
        self.order = sorted(sizes) if order is None else list(order)
        if sorted(self.order) != sorted(sizes):
            raise UserError(
                f"method.args.order=[{','.join(map(str, self.order))}]: name each feature once: "
                f"{', '.join(sizes)}"
            )
        self.side, self.sizes = side, dict(sizes)

    @classmethod
    def count_tokens(cls, sizes: Mapping[str, int]) -> int:
        """One token for each value of a feature, and one for an unknown value."""
        return sum(size - END for size in sizes.values())

    def name_tokens(self, values: Mapping[str, Sequence[str]]) -> list[str]:
        """`<upos NOUN>` and so on, for unknown values `<upos <unk>>`."""
        return [f"<{name} {value}>" for name in self.order for value in ("<unk>", *values[name])]

    def insert_tokens(
        self,
        pieces: NDArray[np.int32],
        features: Mapping[str, NDArray[np.int32]],
        begins: NDArray[np.bool_],
        first: int,
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Put tags between the pieces; see `Method`.

        For example:

            pieces    the bak ers </s>           D the N bak ers </s>
            upos       D   N   N  END     ->
            places     0   1   2   3             0  0  1  1   2   3
        """
        numbers = np.arange(len(pieces))
        word_starts = np.maximum.accumulate(np.where(begins, numbers, 0))  # of each piece's word
        if self.side == "before":  # at the word's first piece, tags come first
            has_tags, first_tag = begins, 0
        else:  # at the word's last piece, which another word or the end follows, tags come second
            is_end = features[self.order[0]] == END
            has_tags, first_tag = ~is_end & np.append((begins | is_end)[1:], True), 1
        # A piece with k tags becomes k + 1 tokens, with the ranks 0, 1 ... k.
        repeats = np.where(has_tags, len(self.order) + 1, 1)
        places = np.repeat(numbers, repeats)
        first_tokens = np.cumsum(repeats) - repeats  # of each piece
        ranks = np.arange(len(places)) - first_tokens[places]
        tokens = pieces[places]
        first_id = first  # of each feature's tags: UNK, then the values
        for rank, name in enumerate(self.order, first_tag):
            is_tag = has_tags[places] & (ranks == rank)
            values = features[name][word_starts[places[is_tag]]]
            tokens[is_tag] = first_id + np.maximum(values - END, 0)
            first_id += self.sizes[name] - END
        return tokens, places
