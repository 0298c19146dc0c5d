"""A method of one's own: `python train.py method._target_=examples.output_sum.OutputSum`."""

from collections.abc import Mapping

import torch
from torch import Tensor

from nmt_feat.methods import Method


class OutputSum(Method):
    """`h + v`: features are added to the encoder's output h; v is what the combiner makes of them.

    It is `output_gate` without its gate, so a table of both says what the gate does.
    """

    merges_with_word = False  # the combiner merges the features alone, without the word

    def change_memory(self, memory: Tensor, features: Mapping[str, Tensor], mask: Tensor) -> Tensor:
        """What the decoder reads in place of the encoder's output `(batch, time, dim)`."""
        assert self.embedding is not None
        no_pieces = torch.zeros(memory.shape[:2], dtype=torch.int64, device=memory.device)
        merged: Tensor = self.embedding(no_pieces, features)
        return memory + merged
