"""What the numbers of a data report suggest about its features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CONSTANT = 0.2
"""Bits below which a feature hardly varies."""
TOLD = 0.02
"""Bits beyond those of random values by word type below which the word tells a feature."""
LITTLE = 2.0
"""Bits below which a feature knows much less than a word does."""


def advice(
    features: Mapping[str, Mapping[str, Any]], widths: Mapping[str, int], method: str
) -> list[str]:
    """A line for each feature that may disappoint.

    Args:
        features: as in `DataReport`.
        widths: what the combiner gives each.
        method: the combiner's name.
    """
    found = []
    for name, f in features.items():
        bits, given, random = (f[key] for key in ("entropy", "given_word", "random_by_type"))
        width = widths.get(name, 0)
        if bits < CONSTANT:
            found.append(f"features.{name} is nearly constant, {bits:.2f} bits: leave it out")
        elif given is not None and given < random + TOLD:
            found.append(
                f"features.{name}: the word tells it already, {given:.2f} of {bits:.2f} bits are "
                f"left ({random:.2f} for random values): see what control=by_type reaches"
            )
        elif "gate" in method and bits < LITTLE:
            found.append(
                f"features.{name} knows little, {bits:.2f} bits, for {method}: by the tutorial's "
                "rule a narrow concat suits it, as combiner=mixed gives it"
            )
        if method.startswith("concat") and width > f["kept"] + 3:  # PAD, UNK and END
            found.append(f"features.{name}.dim={width} is more than its {f['kept']} values can use")
    return found
