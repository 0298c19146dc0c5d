"""Learning-rate schedules: factors of the highest rate, after a linear warm-up."""

import math
from collections.abc import Callable

Schedule = Callable[[int, int, int], float]
"""From the step, the number of steps of the warm-up and that of all steps to a factor."""


def inverse_sqrt(step: int, warmup: int, total: int) -> float:
    """sqrt(warmup / step) (Vaswani et al. 2017, up to a constant)."""
    return math.sqrt(max(warmup, 1) / step)


def cosine(step: int, warmup: int, total: int) -> float:
    """Half a cosine from 1 to 0 at the last step (Loshchilov & Hutter 2017)."""
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, total - warmup))))


def linear(step: int, warmup: int, total: int) -> float:
    """A line from 1 to 0 at the last step."""
    return max(0.0, 1 - (step - warmup) / max(1, total - warmup))


def constant(step: int, warmup: int, total: int) -> float:
    """Always 1."""
    return 1.0


SCHEDULES: dict[str, Schedule] = {f.__name__: f for f in (inverse_sqrt, cosine, linear, constant)}

ENDLESS = ("inverse_sqrt", "constant")
"""The schedules that do not depend on the total number of steps."""


def rate_factor(schedule: str, step: int, warmup: int, total: int) -> float:
    """The factor at `step`, counted from 1, of `total` steps."""
    if step < warmup:
        return step / warmup
    return SCHEDULES[schedule](step, warmup, total)
