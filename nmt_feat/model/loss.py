"""Label-smoothed cross-entropy (Szegedy et al. 2016), plain and fused.

With smoothing e and vocabulary V, the target distribution is 1 - e on the right piece plus e / V
on every piece. Both functions take hidden states `(N, D)` of real (unpadded) positions, the table
`(V, D)` and the right pieces `(N,)`; both return the summed loss, for training, and the summed
negative log-likelihood, for perplexity, in nats.
"""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

CHUNK = 2**25
"""Bytes of logits that the fused loss holds at once; less makes thin, slow products."""

TINY = 1e-30
"""Least sum of exponentials that is trusted: far above fp32's and bf16's least number, 1e-38."""


@lru_cache(maxsize=2)
def _room(rows: int, size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Memory for logits `(rows, size)`, kept: to get it anew costs as much as to fill it."""
    with torch.inference_mode(False):
        return torch.empty((rows, size), dtype=dtype, device=device)


def plain_loss(
    hidden: Tensor, table: Tensor, target: Tensor, smoothing: float
) -> tuple[Tensor, Tensor]:
    """The loss by PyTorch's own functions: `(N, V)` logits are held for the backward pass."""
    logits = F.linear(hidden, table).float()
    loss = F.cross_entropy(logits, target, label_smoothing=smoothing, reduction="sum")
    with torch.no_grad():
        nll = F.cross_entropy(logits, target, reduction="sum")
    return loss, nll


def _softmax(
    states: Tensor, weight: Tensor, target: Tensor, held: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of a chunk's states `(N, D)`, all in `held`: weights `(N, V)`; in fp32 `(N,)`, their sums,
    by which they are to be divided (as exact as bf16 where `exp` gave them, for fp32 would take
    longer than `exp`), the log of the normaliser, and the right piece's logit.

    In bf16 on CPU `exp` alone takes half the time of a softmax. Where a sum has overflowed, or
    vanished, and elsewhere, the largest logit is subtracted, as usual.
    """
    logits = torch.mm(states, weight.t(), out=held)
    right = logits.gather(1, target[:, None])[:, 0].float()
    if logits.dtype == torch.bfloat16 and logits.device.type == "cpu":
        sums = logits.exp_().sum(-1).float()
        if bool(((sums > TINY) & (sums < torch.inf)).all()):
            return logits, sums, sums.log(), right
        torch.mm(states, weight.t(), out=held)
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
        rows = max(1, CHUNK // (size * dtype.itemsize))
        states, weight = hidden.to(dtype), table.to(dtype)
        hidden_grad = torch.empty_like(hidden)
        table_grad = torch.zeros_like(table)
        norm = hidden.new_zeros((), dtype=torch.float32)
        nll = torch.zeros_like(norm)
        room = _room(rows, size, dtype, table.device)
        for first in range(0, len(target), rows):
            part = slice(first, first + rows)
            chunk = states[part]
            weights, sums, norms, right = _softmax(chunk, weight, target[part], room[: len(chunk)])
            norm += norms.sum()
            nll += (norms - right).sum()
            hidden_grad[part] = torch.mm(weights, weight) / sums[:, None]
            table_grad += torch.mm(weights.t(), (chunk / sums[:, None]).to(dtype))
        # d loss / d logits = softmax - target distribution; the latter is added here, at once:
        # 1 - smoothing on the right piece, smoothing / size on every one. So is the sum of all
        # logits, which is linear in the states.
        keep, rest = 1 - smoothing, smoothing / size
        states_sum, table_sum = hidden.sum(0, dtype=table.dtype), table.sum(0)
        loss = keep * nll + smoothing * norm - rest * torch.dot(states_sum, table_sum)
        hidden_grad -= keep * table[target] + rest * table_sum
        table_grad.index_add_(0, target, hidden.to(table.dtype), alpha=-keep)
        table_grad -= rest * states_sum
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
    """The same loss without ever holding `(N, V)` logits; matrix products in autocast's type."""
    kind = hidden.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
    loss, nll = _FusedLoss.apply(hidden, table, target, smoothing, dtype)  # type: ignore[no-untyped-call]
    return loss, nll
