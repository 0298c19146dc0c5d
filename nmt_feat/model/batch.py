"""A batch of sentence pairs as the model, search and training see it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nmt_feat.embedders.ids import PAD


@dataclass(frozen=True)
class Batch:
    """Sentence pairs of a split, padded with 0: B rows, S source and T target columns, int64."""

    indices: list[int]  # the sentences' numbers in the split
    source: Tensor  # (B, S), with EOS
    features: dict[str, Tensor]  # (B, S) each; for further tensors see `UNITS` and `TEXTS`
    target_in: Tensor  # (B, T): BOS and the target
    target_out: Tensor  # (B, T): the target and EOS
    real: Tensor  # (tokens,): the positions in the flattened target_out that are not padding
    tokens: int  # number of target pieces, with EOS, without padding

    @property
    def source_mask(self) -> Tensor:
        """(B, S) bool, true where a token is real."""
        return self.source != PAD

    @property
    def objective_inputs(self) -> tuple[Tensor, dict[str, Tensor], Tensor, Tensor, Tensor]:
        """The arguments of `Objective.forward`."""
        return self.source, self.features, self.target_in, self.target_out, self.real

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on a device. Copies to CUDA do not wait for running work."""
        cuda = torch.device(device).type == "cuda"

        def move_ids(ids: Tensor) -> Tensor:
            return (ids.pin_memory() if cuda else ids).to(device, non_blocking=cuda)

        features = {name: move_ids(ids) for name, ids in self.features.items()}
        target = move_ids(self.target_in), move_ids(self.target_out), move_ids(self.real)
        return Batch(self.indices, move_ids(self.source), features, *target, self.tokens)
