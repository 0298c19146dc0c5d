"""Label-smoothed cross-entropy (Szegedy et al. 2016), plain and fused.

With smoothing e and V pieces in the vocabulary, the target distribution is 1 - e on the right piece
plus e / V on every piece. Both functions take hidden states `(N, D)` of real (unpadded) positions,
the table `(V, D)` and the right pieces `(N,)`. Both return two sums in nats: the loss, for
training, and the negative log-likelihood, for perplexity.

The logits of all positions would be the largest tensor of a training: `(N, V)` of 4,000 positions
and 10,000 pieces takes 160 MB. So the fused loss goes through the positions in chunks, and computes
the loss and the gradients of a chunk while it has the logits. For a state h, with z = W h,
p = softmax(z), right piece t:

    loss      (1 - e) * (norm - z_t)  +  e * (norm - mean(z))            norm = log(sum(exp(z)))
    d/d z     p  -  (1 - e) * [t]  -  e / V
    d/d h     W^T p  -  (1 - e) * W_t  -  e / V * sum(rows of W)
    d/d W     p h^T  -  (1 - e) * h in row t  -  e / V * h in each row

Only the first term of each needs the logits. The other terms are sums over positions, which are
added once, after the chunks.
"""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

CHUNK_BYTES = 2**25
"""Bytes of logits that the fused loss holds at once; with fewer, matrix products are slow."""

SMALLEST_SUM = 1e-30
"""The smallest sum of exponentials that counts as exact; the smallest number is about 1e-38."""


@lru_cache(maxsize=2)
def get_buffer(rows: int, size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A buffer for logits `(rows, size)`, reused: allocating one costs as much as filling it."""
    with torch.inference_mode(False):
        return torch.empty((rows, size), dtype=dtype, device=device)


def plain_loss(
    hidden: Tensor, table: Tensor, target: Tensor, smoothing: float
) -> tuple[Tensor, Tensor]:
    """The loss by PyTorch's own functions, which hold `(N, V)` logits for the backward pass."""
    logits = F.linear(hidden, table).float()
    loss = F.cross_entropy(logits, target, label_smoothing=smoothing, reduction="sum")
    with torch.no_grad():
        nll = F.cross_entropy(logits, target, reduction="sum")
    return loss, nll


def compute_chunk_softmax(
    states: Tensor, weight: Tensor, target: Tensor, buffer: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The softmax of a chunk of C positions.

    A softmax subtracts the largest logit, so that no exponential overflows. In bf16 on CPU, `exp`
    without this step takes half the time. So it is tried first there, and the softmax replaces it
    if a sum has overflowed or vanished.

    Args:
        states: `(C, D)`.
        weight: the table, `(V, D)`.
        target: right pieces, `(C,)`.
        buffer: memory for the logits, `(C, V)`.

    Returns:
        weights: `(C, V)`, in the buffer; the softmax is these weights divided by the sums.
        sums: `(C,)`, in fp32. Those of `exp` are only as exact as bf16, since summing in fp32 would
            take longer than `exp` itself. Otherwise they are 1.
        norms: `(C,)`, in fp32, the log of the normaliser.
        right: `(C,)`, in fp32, the logit of the right piece.
    """
    logits = torch.mm(states, weight.t(), out=buffer)
    right = logits.gather(1, target[:, None])[:, 0].float()
    if logits.dtype == torch.bfloat16 and logits.device.type == "cpu":
        sums = logits.exp_().sum(-1).float()
        if bool(((sums > SMALLEST_SUM) & (sums < torch.inf)).all()):
            return logits, sums, sums.log(), right
        torch.mm(states, weight.t(), out=buffer)  # `exp_` has overwritten the logits
    top = logits.amax(-1).float()
    softmax = torch.softmax(logits, dim=-1, out=logits)
    # The normaliser from the largest element: softmax = exp(logit - norm).
    return softmax, torch.ones_like(top), top - softmax.amax(-1).float().log(), right


class _FusedLoss(torch.autograd.Function):
    """Loss and gradients chunk by chunk, in the forward pass; the backward pass only scales."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        table: Tensor,
        target: Tensor,
        smoothing: float,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        size = table.shape[0]
        rows = max(1, CHUNK_BYTES // (size * dtype.itemsize))
        states, weight = hidden.to(dtype), table.to(dtype)
        hidden_grad = torch.empty_like(hidden)  # (N, D)
        table_grad = torch.zeros_like(table)  # (V, D)
        norm = hidden.new_zeros((), dtype=torch.float32)
        nll = torch.zeros_like(norm)
        buffer = get_buffer(rows, size, dtype, table.device)
        for first in range(0, len(target), rows):
            positions = slice(first, first + rows)
            chunk = states[positions]  # (C, D)
            weights, sums, norms, right = compute_chunk_softmax(
                chunk, weight, target[positions], buffer[: len(chunk)]
            )
            norm += norms.sum()
            nll += (norms - right).sum()
            # The weights are (C, V); dividing the products, (C, D), by the sums is less work.
            hidden_grad[positions] = torch.mm(weights, weight) / sums[:, None]
            table_grad += torch.mm(weights.t(), (chunk / sums[:, None]).to(dtype))
        # The terms without logits. The sum of all logits, over positions and pieces, is
        # sum(rows of W) . sum(h), because logits are linear in the states.
        right_share, piece_share = 1 - smoothing, smoothing / size
        states_sum, table_sum = hidden.sum(0, dtype=table.dtype), table.sum(0)  # (D,), (D,)
        logits_sum = torch.dot(states_sum, table_sum)
        loss = right_share * nll + smoothing * norm - piece_share * logits_sum
        hidden_grad -= right_share * table[target] + piece_share * table_sum
        table_grad.index_add_(0, target, hidden.to(table.dtype), alpha=-right_share)
        table_grad -= piece_share * states_sum
        ctx.save_for_backward(hidden_grad, table_grad)
        ctx.mark_non_differentiable(nll)
        return loss, nll

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden_grad, table_grad = ctx.saved_tensors
        return hidden_grad * grads[0], table_grad * grads[0], None, None, None


def fused_loss(
    hidden: Tensor, table: Tensor, target: Tensor, smoothing: float
) -> tuple[Tensor, Tensor]:
    """The same loss, without `(N, V)` logits. Matrix products have the type that autocast sets."""
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
    loss, nll = _FusedLoss.apply(hidden, table, target, smoothing, dtype)  # type: ignore[no-untyped-call]
    return loss, nll
