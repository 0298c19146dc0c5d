"""Dropout (Srivastava et al. 2014) with random numbers that are cheap on a CPU."""

import torch
from torch import Tensor
from torch.nn import functional as F

LEVELS = 2**16


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """Zero each element with probability p and scale the others by 1 / (1 - p).

    On CPU each 64-bit draw of PyTorch's generator decides four elements, so p is rounded to a
    multiple of 2**-16 (and the scale is that of the rounded p).
    """
    if not training or p == 0:
        return x
    if x.device.type != "cpu":
        return F.dropout(x, p, training)
    dropped = round(p * LEVELS)
    draws = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    keep = draws.view(torch.int16)[: x.numel()].view(x.shape) >= dropped - LEVELS // 2
    return x * (keep.to(x.dtype) * (LEVELS / (LEVELS - dropped)))
