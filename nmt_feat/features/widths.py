"""How wide a feature's embedding is where its combiner leaves that free."""

from nmt_feat.features.columns import CONTEXT
from nmt_feat.text.units import KINDS

SENNRICH = {"subword_tag": 5, "lemma": 115}
"""Widths of 500 in `factored_sample/config.py` of Sennrich & Haddow (2016); others have 10."""

WIDE = ("lemma", "form", "lower", CONTEXT, *KINDS)
"""Columns that tell nearly as much as the word does."""


def default_width(column: str, values: int, dim: int, preset: str, parts: int = 2) -> int:
    """Width of a feature with `values` ids (its values and 3 special ones), in a model of `dim`.

    `default`: min(values, 16, dim/8), a lemma, form, units or vectors dim/4. `tutorial`: 12 of 512.
    `sennrich`: 5, 115 or 10 of 500, but at least 4. `equal`: the share of one of so many `parts`,
    "at an equal rate" (Park & Zhao 2020).
    """
    if preset == "equal":
        return max(1, dim // parts)
    if preset == "default":
        return max(1, dim // 4 if column in WIDE else min(values, 16, dim // 8))
    if preset == "tutorial":
        return max(1, round(dim * 12 / 512))
    return max(4, round(dim * SENNRICH.get(column, 10) / 500))
