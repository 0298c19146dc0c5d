"""The width of a feature's embedding, if its combiner leaves the choice."""


def default_width(
    values: int, dim: int, preset: str, parts: int, is_wide: bool, sennrich_width: int
) -> int:
    """The width of a feature with `values` ids (3 special ones included) in a model of width `dim`.

    By `preset`:

    - `default`: min(values, 16, dim/8); for a wide feature (lemma, form, units or vectors) dim/4.
    - `tutorial`: 12 of 512.
    - `sennrich`: 5, 115 or 10 of 500, but at least 4, as in `factored_sample/config.py` of Sennrich
      & Haddow (2016).
    - `equal`: all `parts` have the same share, "at an equal rate" (Park & Zhao 2020).
    """
    if preset == "equal":
        return max(1, dim // parts)
    if preset == "default":
        return max(1, dim // 4 if is_wide else min(values, 16, dim // 8))
    if preset == "tutorial":
        return max(1, round(dim * 12 / 512))
    return max(4, round(dim * sennrich_width / 500))
