"""Schedules against values by hand."""

from __future__ import annotations

import math

import pytest
import torch

from nmt_feat.training.schedules import SCHEDULES, rate_factor


@pytest.mark.parametrize(
    ("schedule", "step", "warmup", "total", "expected"),
    [
        # a line up to 1, the same for all
        ("inverse_sqrt", 1, 4, 100, 0.25),
        ("cosine", 2, 4, 100, 0.5),
        ("linear", 3, 4, 100, 0.75),
        ("constant", 1, 400, 100, 0.0025),
        # the highest rate at the end of warm-up
        ("inverse_sqrt", 4, 4, 100, 1.0),
        ("cosine", 4, 4, 100, 1.0),
        ("linear", 4, 4, 100, 1.0),
        ("constant", 4, 4, 100, 1.0),
        # after it
        ("inverse_sqrt", 16, 4, 100, 0.5),
        ("inverse_sqrt", 100, 4, 100, 0.2),
        ("inverse_sqrt", 400, 4, 100, 0.1),
        ("cosine", 52, 4, 100, 0.5),
        ("cosine", 28, 4, 100, (1 + math.sqrt(0.5)) / 2),
        ("cosine", 100, 4, 100, 0.0),
        ("cosine", 130, 4, 100, 0.0),
        ("linear", 52, 4, 100, 0.5),
        ("linear", 76, 4, 100, 0.25),
        ("linear", 100, 4, 100, 0.0),
        ("linear", 130, 4, 100, 0.0),
        ("constant", 100, 4, 100, 1.0),
        # no warm-up
        ("inverse_sqrt", 1, 0, 100, 1.0),
        ("inverse_sqrt", 25, 0, 100, 0.2),
        ("cosine", 50, 0, 100, 0.5),
        ("linear", 25, 0, 100, 0.75),
        ("constant", 1, 0, 100, 1.0),
        # a run that ends in its warm-up, or with it
        ("cosine", 3, 4, 3, 0.75),
        ("linear", 4, 4, 4, 1.0),
    ],
)
def test_factors(schedule: str, step: int, warmup: int, total: int, expected: float) -> None:
    assert rate_factor(schedule, step, warmup, total) == pytest.approx(expected, abs=1e-12)


def test_inverse_sqrt_is_vaswanis() -> None:
    """lr = d^-0.5 min(step^-0.5, step warmup^-1.5), up to the constant (d warmup)^-0.5."""
    for step in range(1, 50):
        formula = min(step**-0.5, step * 7**-1.5) / 7**-0.5
        assert rate_factor("inverse_sqrt", step, 7, 0) == pytest.approx(formula)


@pytest.mark.parametrize("schedule", list(SCHEDULES))
def test_never_negative_nor_above_one(schedule: str) -> None:
    for warmup in (0, 1, 10):
        factors = [rate_factor(schedule, step, warmup, 40) for step in range(1, 45)]
        assert all(0 <= f <= 1 for f in factors)
        assert factors[max(warmup, 1) :] == sorted(factors[max(warmup, 1) :], reverse=True)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_as_pytorchs(schedule: str) -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    theirs: torch.optim.lr_scheduler.LRScheduler
    if schedule == "linear":
        theirs = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=30)
    else:
        theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=30)
    for step in range(1, 31):
        optimizer.step()
        theirs.step()
        assert rate_factor(schedule, step, 0, 30) == pytest.approx(
            theirs.get_last_lr()[0], abs=1e-9
        )
