"""How wide a feature's embedding is where its combiner leaves that free."""


def default_width(
    values: int, dim: int, preset: str, parts: int, is_wide: bool, sennrich_width: int
) -> int:
    """Width of a feature with `values` ids (its values and 3 special ones), in a model of `dim`.

    `default`: min(values, 16, dim/8), a wide one (lemma, form, units or vectors) dim/4. `tutorial`:
    12 of 512. `sennrich`: 5, 115 or 10 of 500, but at least 4, as `factored_sample/config.py` of
    Sennrich & Haddow (2016) has them. `equal`: the share of one of so many `parts`, "at an equal
    rate" (Park & Zhao 2020).
    """
    if preset == "equal":
        return max(1, dim // parts)
    if preset == "default":
        return max(1, dim // 4 if is_wide else min(values, 16, dim // 8))
    if preset == "tutorial":
        return max(1, round(dim * 12 / 512))
    return max(4, round(dim * sennrich_width / 500))
