"""Features that are vectors of a language model's encoder: a vector for each token in its text."""

from typing import Any

import torch
from torch import Tensor, nn

from nmt_feat.embedders.categorical import make_table
from nmt_feat.embedders.ids import FIRST


def compute_states(encoder: Any, ids: Tensor, mask: Tensor, layer: int) -> Tensor:
    """States `(rows, time, width)` of a layer; ids and mask `(rows, time)`, mask 0 at padding."""
    output = encoder(input_ids=ids, attention_mask=mask, output_hidden_states=True)
    states: Tensor = output.hidden_states[layer]
    return states


def freeze_unused_weights(encoder: nn.Module, layer: int) -> None:
    """Train only the weights on which the layer depends: not those of later layers, for example.

    They are the weights that get a gradient in a trial run.
    """
    with torch.enable_grad():
        ids = torch.zeros(1, 1, dtype=torch.int64, device=next(encoder.parameters()).device)
        states = compute_states(encoder, ids, torch.ones_like(ids), layer)
        states.sum().backward()  # type: ignore[no-untyped-call]
    for parameter in encoder.parameters():
        parameter.requires_grad_(parameter.grad is not None)
        parameter.grad = None


class Contextual(nn.Module):
    """`P h / s + p` for the state h of a layer of an encoder.

    Yang et al. (2020) take the second layer from the last. The batch brings h, or an encoder that
    is part of the model computes it here (see `attach_encoder`). s, `scale`, is the root mean
    square of all elements of h in the training text (if the encoder is part of the model: in the
    first 2,000 sentences, before training). P starts N(0, std) divided by the square root of
    `width`, so that the result has the scale of other tables. Unknown tokens and the end symbol
    have trained embeddings instead.

    Args:
        size: ignored, because vectors have no vocabulary.
        dim: width of the result.
        std: scale at the start.
        width: of the encoder's states.
    """

    reads = "vectors"
    """What it reads: vectors of distinct tokens."""

    def __init__(self, size: int, dim: int, std: float, width: int) -> None:
        super().__init__()
        self.scale = 1.0
        self.special = make_table(FIRST, dim, std)
        self.projection = nn.Linear(width, dim)
        nn.init.normal_(self.projection.weight, std=std * width**-0.5)
        nn.init.zeros_(self.projection.bias)
        self.encoder: nn.Module | None = None
        """An encoder that is trained; its weights belong to the model's."""
        self.frozen_encoder: tuple[nn.Module, ...] = ()
        """An encoder that is not trained. In a tuple, PyTorch does not count it to the model."""
        self.layer, self.padding = 0, 0

    def attach_encoder(self, encoder: nn.Module, layer: int, padding: int, trained: bool) -> None:
        """Make the encoder part of the model.

        Args:
            encoder: of Hugging Face.
            layer: the layer whose states are the vectors; 0 for the embeddings.
            padding: the id of padding.
            trained: whether the weights on which the layer depends are trained.
        """
        self.layer, self.padding = layer, padding
        encoder.requires_grad_(trained)
        if trained:
            self.encoder = encoder
            freeze_unused_weights(encoder, layer)
        else:
            self.frozen_encoder = (encoder,)

    def read_states(self, positions: Tensor, texts: Tensor) -> Tensor:
        """The vectors `(R, width)` of R tokens, from the attached encoder.

        Args:
            positions: `(R, K)`: a token's vector is the mean of the states at these positions of
                the flattened texts; -1 fills up.
            texts: `(W, L)` ids; -1 fills up.
        """
        is_real = texts >= 0
        ids = texts.masked_fill(~is_real, self.padding)
        if self.encoder is not None:
            states = compute_states(self.encoder, ids, is_real.long(), self.layer)
        else:
            (encoder,) = self.frozen_encoder
            with torch.no_grad(), torch.autocast(ids.device.type, enabled=False):
                states = compute_states(encoder.to(ids.device), ids, is_real.long(), self.layer)
        is_state = positions >= 0  # (R, K)
        all_states = states.flatten(0, 1).to(self.projection.weight.dtype)  # (W * L, width)
        token_states = all_states[positions.clamp(min=0)]  # (R, K, width)
        sums = (token_states * is_state[..., None]).sum(1)
        return sums / is_state.sum(1).clamp(min=1)[:, None]

    def forward(self, vectors: Tensor) -> Tensor:
        """`(R, width)` to `(R, dim)`; the first `FIRST` rows stand for PAD, UNK and END."""
        x = self.projection(vectors[FIRST:] / self.scale)
        special = self.special(torch.arange(FIRST, device=x.device))
        return torch.cat([special.to(x.dtype), x])
