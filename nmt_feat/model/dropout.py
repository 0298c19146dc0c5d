"""Dropout (Srivastava et al. 2014) with random numbers that are cheap on a CPU."""

import torch
from torch import Tensor
from torch.nn import functional as F

LEVELS = 2**16
"""The number of probabilities that can be told apart: a draw of 16 bits decides over an element."""


def draw_mask(x: Tensor, dropped_levels: int) -> Tensor:
    """1 or 0 for each element of x; 0 for `dropped_levels` of 65,536 draws.

    Each 64-bit draw of PyTorch's generator decides over four elements. Comparing by `clamp` avoids
    booleans, which are slow in PyTorch:

        draws         -32768  ...  lowest - 1 | lowest  ...  32767
        clamped       lowest - 1   lowest - 1 | lowest       lowest
        subtracted    0            0          | 1            1
    """
    draws = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    lowest = dropped_levels - LEVELS // 2  # the smallest draw that keeps an element
    draws = draws.view(torch.int16)[: x.numel()]
    return draws.clamp_(lowest - 1, lowest).sub_(lowest - 1).view(x.shape).to(x.dtype)


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """Zero each element with probability p and scale the others by 1 / (1 - p).

    On CPU, p is rounded to a multiple of 2**-16 (and the scale is that of the rounded p).
    """
    dropped_levels = round(p * LEVELS)
    if not training or not dropped_levels:
        return x
    if x.device.type != "cpu":
        return F.dropout(x, p, training)
    return x * draw_mask(x, dropped_levels) * (LEVELS / (LEVELS - dropped_levels))


def add_with_dropout(x: Tensor, update: Tensor, p: float, training: bool) -> Tensor:
    """`x + dropout(update)`, of one shape."""
    dropped_levels = round(p * LEVELS)
    if not training or not dropped_levels or x.device.type != "cpu":
        return x + dropout(update, p, training)
    scale = LEVELS / (LEVELS - dropped_levels)
    return torch.add(x, update * draw_mask(update, dropped_levels), alpha=scale)
