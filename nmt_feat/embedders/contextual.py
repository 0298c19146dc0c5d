"""Features that are vectors of a language model's encoder, another one wherever a token stands."""

from typing import Any

import torch
from torch import Tensor, nn

from nmt_feat.embedders.categorical import make_table
from nmt_feat.embedders.ids import FIRST


def layer_states(model: Any, ids: Tensor, real: Tensor, layer: int) -> Tensor:
    """States `(rows, time, width)` of a layer, of ids `(rows, time)` that are real, or padding."""
    output = model(input_ids=ids, attention_mask=real, output_hidden_states=True)
    states: Tensor = output.hidden_states[layer]
    return states


class Contextual(nn.Module):
    """`P h / s + p` for the state h of a layer of an encoder.

    Yang et al. (2020) take the second layer from the last. The batch brings h, or an encoder that
    is part of the model computes it here (see `attach_encoder`). s, `scale`, is the root mean
    square of the numbers of all h in train (where the encoder is part of the model, of the first
    2,000 sentences, before training). P starts N(0, std) divided by the square root of `width`, so
    that the result has the scale of other tables. Unknown tokens and the end symbol have trained
    embeddings of their own.

    Args:
        size: rows of a vocabulary, which vectors have not.
        dim: width of the result.
        std: scale at the start.
        width: of the encoder.
    """

    context = True
    """Reads vectors, not ids."""

    def __init__(self, size: int, dim: int, std: float, width: int) -> None:
        super().__init__()
        self.scale = 1.0
        self.special = make_table(FIRST, dim, std)
        self.projection = nn.Linear(width, dim)
        nn.init.normal_(self.projection.weight, std=std * width**-0.5)
        nn.init.zeros_(self.projection.bias)
        self.encoder: nn.Module | None = None
        """An encoder that is trained; its weights are the model's."""
        self.frozen: tuple[Any, ...] = ()
        """One that is not, which is no part of the model's weights."""
        self.layer, self.padding = 0, 0

    def attach_encoder(self, encoder: nn.Module, layer: int, padding: int, trained: bool) -> None:
        """Make the encoder part of the model.

        Args:
            encoder: of Hugging Face.
            layer: whose states are taken, 0 for the embeddings.
            padding: the id that fills its rows.
            trained: whether its weights are trained, those that the layer depends on.
        """
        self.layer, self.padding = layer, padding
        encoder.requires_grad_(trained)
        if not trained:
            self.frozen = (encoder,)
            return
        self.encoder = encoder
        # A weight that the layer does not depend on, as one of a later layer, gets no gradient.
        with torch.enable_grad():
            ids = torch.zeros(1, 1, dtype=torch.int64, device=next(encoder.parameters()).device)
            states = layer_states(encoder, ids, torch.ones_like(ids), layer)
            states.sum().backward()  # type: ignore[no-untyped-call]
        for parameter in encoder.parameters():
            parameter.requires_grad_(parameter.grad is not None)
            parameter.grad = None

    def read_states(self, positions: Tensor, texts: Tensor) -> Tensor:
        """The vectors `(R, width)` of tokens, by the encoder in the model.

        Args:
            positions: `(R, K)`, of the states whose mean is a token's vector, in the flattened
                texts; -1 where there is none.
            texts: `(W, L)` ids, -1 where there is none.
        """
        real = texts >= 0
        ids = texts.masked_fill(~real, self.padding)
        if self.encoder is not None:
            states = layer_states(self.encoder, ids, real.long(), self.layer)
        else:
            (encoder,) = self.frozen
            with torch.no_grad(), torch.autocast(ids.device.type, enabled=False):
                states = layer_states(encoder.to(ids.device), ids, real.long(), self.layer)
        is_state = positions >= 0  # (R, K)
        flat = states.flatten(0, 1).to(self.projection.weight.dtype)  # (W * L, width)
        chosen = flat[positions.clamp(min=0)]  # (R, K, width)
        return (chosen * is_state[..., None]).sum(1) / is_state.sum(1).clamp(min=1)[:, None]

    def forward(self, vectors: Tensor) -> Tensor:
        """`(R, width)` to `(R, dim)`; the first `FIRST` rows are those of PAD, UNK and END."""
        x = self.projection(vectors[FIRST:] / self.scale)
        special = self.special(torch.arange(FIRST, device=x.device))
        return torch.cat([special.to(x.dtype), x])
