"""Dropout (Srivastava et al. 2014) with random numbers that are cheap on a CPU."""

import torch
from torch import Tensor
from torch.nn import functional as F

LEVELS = 2**16


def _mask(x: Tensor, dropped: int) -> Tensor:
    """1 where an element of x is kept, else 0; `dropped` of 65,536 elements are not.

    Each 64-bit draw of PyTorch's generator decides four elements. Comparing by `clamp` avoids
    booleans, which PyTorch is slow to make and to multiply with.
    """
    draws = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    least = dropped - LEVELS // 2  # the lowest draw that keeps; above the lowest int16
    draws = draws.view(torch.int16)[: x.numel()]
    return draws.clamp_(least - 1, least).sub_(least - 1).view(x.shape).to(x.dtype)


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """Zero each element with probability p and scale the others by 1 / (1 - p).

    On CPU, p is rounded to a multiple of 2**-16 (and the scale is that of the rounded p).
    """
    dropped = round(p * LEVELS)
    if not training or not dropped:
        return x
    if x.device.type != "cpu":
        return F.dropout(x, p, training)
    return x * _mask(x, dropped) * (LEVELS / (LEVELS - dropped))


def residual(x: Tensor, update: Tensor, p: float, training: bool) -> Tensor:
    """`x + dropout(update)`, of one shape."""
    dropped = round(p * LEVELS)
    if not training or not dropped or x.device.type != "cpu":
        return x + dropout(update, p, training)
    return torch.add(x, update * _mask(update, dropped), alpha=LEVELS / (LEVELS - dropped))
