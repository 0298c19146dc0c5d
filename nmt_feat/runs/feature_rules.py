"""Whether features, corpus, annotator and control go together, as far as settings alone tell."""

from __future__ import annotations

from nmt_feat.annotators.base import Annotator, make_annotator
from nmt_feat.config.schema import DataConfig, FeatureConfig, SplitConfig, TrainConfig
from nmt_feat.data.controls import CONTROLS
from nmt_feat.errors import UserError
from nmt_feat.features.choice import choose_kinds
from nmt_feat.text.formats import SEPARATORS, kind_of


def check_features(cfg: TrainConfig) -> None:
    """Refuse, before any data is read, features that nothing gives and controls of nothing."""
    if not cfg.features:
        return
    kinds = choose_kinds(cfg.features)
    columns = {n: kind.annotation_column for n, kind in kinds.items() if kind.annotation_column}
    annotator = make_annotator(cfg.annotator)
    if annotator is not None:
        _check_annotator(annotator, cfg.data, columns)
    else:
        _check_factors(cfg.data, cfg.features, columns)
    if cfg.control in CONTROLS and all(kind.of_pieces for kind in kinds.values()):
        raise UserError(
            f"control={cfg.control}: {', '.join(cfg.features)} say nothing that the pieces do not; "
            "choose features of words, or control=none"
        )


def _check_annotator(annotator: Annotator, data: DataConfig, columns: dict[str, str]) -> None:
    """The annotator reads the corpus's language, and gives the columns of the features."""
    languages = annotator.languages
    if languages is not None and data.source_lang.partition("-")[0] not in languages:
        raise UserError(
            f"annotator={annotator.name} data.source_lang={data.source_lang}: it annotates "
            f"{', '.join(languages)}; choose another annotator, or correct data.source_lang"
        )
    for name, column in columns.items():
        if annotator.columns is not None and column.partition(".")[0] not in annotator.columns:
            raise UserError(
                f"annotator={annotator.name} gives {', '.join(annotator.columns)}, not the "
                f"{column} of features.{name}; leave the feature out, or choose another annotator"
            )


def _check_factors(
    data: DataConfig, features: dict[str, FeatureConfig], columns: dict[str, str]
) -> None:
    """Factors on tokens, or in files of their own, have the columns of the features."""
    splits = {"train": data.train, "dev": data.dev}
    splits |= {f"tests.{name}": split for name, split in data.tests.items()}
    for key, split in splits.items():
        factors, setting = _factors(data, key, split)
        for name, column in columns.items() if factors is not None else ():
            missing = "unknown" if features[name].missing == "unknown" and key != "train" else ""
            if not missing and not _gives(factors or [], column):
                raise UserError(
                    f"features.{name}: its column {column} is not among {setting}; leave the "
                    "feature out, or give its column"
                )


def _factors(data: DataConfig, key: str, split: SplitConfig) -> tuple[list[str] | None, str]:
    """The columns of a split that has factors, and the setting that names them."""
    kind = kind_of(split.source) if data.format == "auto" else data.format
    if kind in SEPARATORS:
        return data.factors, f"data.factors=[{','.join(data.factors)}]"
    if split.factors:
        return list(split.factors), f"data.{key}.factors ({', '.join(split.factors)})"
    return None, ""


def _gives(factors: list[str], column: str) -> bool:
    """Whether one of the factors is this column, or a part or the whole of it."""
    name = column.partition(".")[0]
    wanted = {column, name}
    return any(f in wanted or (f.partition(".")[0] == column) for f in factors)
