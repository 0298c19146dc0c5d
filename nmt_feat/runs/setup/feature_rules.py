"""Checks that features, corpus, annotator and control go together, without reading data."""

from __future__ import annotations

from collections.abc import Mapping

from nmt_feat.annotators.base import Annotator
from nmt_feat.annotators.texts import make_annotator, make_annotators
from nmt_feat.config.data_schema import DataConfig, SplitConfig, TerminologyConfig
from nmt_feat.config.identity import shorten_class_name
from nmt_feat.config.method_choice import locate_method
from nmt_feat.config.schema import FeatureConfig, TrainConfig
from nmt_feat.data.controls import CONTROLS
from nmt_feat.data.corpora import has_annotation, name_annotation, read_kind
from nmt_feat.data.sentence_tables import Format
from nmt_feat.data.terminology import Terminology, without_marks
from nmt_feat.errors import UserError
from nmt_feat.features.choice import choose_kinds
from nmt_feat.text.factored import SEPARATORS
from nmt_feat.text.formats import kind_of
from nmt_feat.text.glossary import Glossary
from nmt_feat.text.term_insertion import COLUMN


def check_features(cfg: TrainConfig) -> None:
    """Refuse, before data is read, features that have no source and controls without effect."""
    if not cfg.features:
        return
    kinds = choose_kinds(cfg.features)
    annotated = without_marks(kinds, cfg.data.terminology)
    columns = {n: kind.annotation_column for n, kind in annotated.items() if kind.annotation_column}
    annotators = make_annotators(cfg.annotator)
    for annotator in annotators.values():
        _check_language(annotator, cfg.data)
    if annotators:
        _check_columns(annotators, cfg, columns)
    else:
        _check_factors(cfg.data, cfg.features, columns)
    if cfg.control in CONTROLS and all(kind.of_pieces for kind in kinds.values()):
        raise UserError(
            f"control={cfg.control}: only pieces determine {', '.join(cfg.features)}; "
            "choose features of words, or control=none"
        )


def check_denoising(cfg: TrainConfig) -> None:
    """Refuse, before data is read, tags and encoders' vectors with denoising."""
    if cfg.data.objective != "denoise":
        return
    method, where = locate_method(cfg.method), shorten_class_name(cfg.method._target_)
    if method.in_source:
        raise UserError(
            f"data.objective=denoise method={where}: its tags would stand inside the spans that "
            "are masked; set method=embedding"
        )
    if method.reads_heads:
        raise UserError(
            f"data.objective=denoise method={where}: heads are counted in words, of which spans "
            "are masked; set method=embedding"
        )
    for kind in choose_kinds(cfg.features).values():
        if kind.reads == "vectors":
            raise UserError(
                f"data.objective=denoise: {kind.where} has vectors of an encoder, which has read "
                "the masked words; leave it out"
            )


def check_terminology(cfg: TrainConfig) -> None:
    """Refuse, before data is read, an unusable glossary, and marks of terms that nothing reads."""
    terminology = cfg.data.terminology
    if terminology.glossary is None:
        _refuse_settings_of_terms(terminology)
        return
    if not terminology.is_applied:
        Glossary.read(terminology.glossary)  # metrics may need it
        return
    terms = Terminology.read(terminology, terminology.glossary).glossary.terms
    make_annotator(terminology.target_lemmas)
    columns = [kind.annotation_column for kind in choose_kinds(cfg.features).values()]
    method = locate_method(cfg.method)
    reads_by_itself = not method.uses_combiner and method.reads_features
    reads_features = cfg.combiner._target_ is not None or reads_by_itself
    if terminology.marks_words and reads_features and COLUMN not in columns:
        raise UserError(
            "data.terminology.marking=factor: no feature reads the marks of terms; choose the "
            "feature term, as features=[term], or set data.terminology.marking=tags"
        )
    if not terminology.marks_words and COLUMN in columns:
        raise UserError(
            "data.terminology.marking=tags: words have no marks, which a feature reads "
            f"(column={COLUMN}); leave it out, or set data.terminology.marking=factor"
        )
    if terminology.needs_lemmas and not has_annotation(cfg.data, cfg.annotator):
        raise UserError(
            "data.terminology.match=lemma: nothing gives lemmas; set annotator=hanta or another, "
            "or data.terminology.match=surface"
        )
    if terminology.shuffled and len({term.target for term in terms}) < 2:
        raise UserError(
            f"data.terminology.shuffled=true: all terms of {terminology.glossary} have one "
            "translation; give a glossary with several"
        )


def _refuse_settings_of_terms(terminology: TerminologyConfig) -> None:
    """Refuse settings of terms that have no effect, because no glossary is given.

    `mode=none` is allowed: it says what happens anyway.
    """
    for name, value in vars(terminology).items():
        if value not in (getattr(TerminologyConfig(), name), "none"):
            written = f"={value}" if isinstance(value, str | float) else ""
            raise UserError(
                f"data.terminology.{name}{written}: needs a glossary; set "
                "data.terminology.glossary=FILE, or leave it out"
            )


def _check_language(annotator: Annotator, data: DataConfig) -> None:
    """Refuse an annotator that does not read the corpus's language."""
    languages = annotator.languages
    if languages is not None and data.source_lang.partition("-")[0] not in languages:
        raise UserError(
            f"annotator={annotator.name} data.source_lang={data.source_lang}: it annotates "
            f"{', '.join(languages)}; choose another annotator, or correct data.source_lang"
        )


def _check_columns(
    annotators: Mapping[str, Annotator], cfg: TrainConfig, columns: dict[str, str]
) -> None:
    """Refuse columns of features that neither an annotator nor the text gives."""
    train, replaces = cfg.data.train, cfg.annotator.replace
    form = Format(read_kind(cfg.data, train), tuple(cfg.data.factors))
    if not (replaces or train.raw) and name_annotation(train, form):
        factors, _ = _find_factors(cfg.data, "train", train)
        if factors is None:  # CoNLL-U and JSON lines may have any column
            return
        columns = {name: c for name, c in columns.items() if not _include(factors, c)}
    by_annotator = [annotator.columns for annotator in annotators.values()]
    if None in by_annotator:  # an annotator that may give any column
        return
    annotated = list(dict.fromkeys(c for names in by_annotator for c in names or ()))
    for name, column in columns.items():
        if column.partition(".")[0] not in annotated:
            raise UserError(
                f"annotator={' and '.join(annotators)} gives {', '.join(annotated)}, not the "
                f"{column} of features.{name}; leave the feature out, or choose another annotator"
            )


def _check_factors(
    data: DataConfig, features: dict[str, FeatureConfig], columns: dict[str, str]
) -> None:
    """Refuse columns of features that are not among the factors of a split that has factors."""
    splits = {"train": data.train, "dev": data.dev}
    splits |= {f"tests.{name}": split for name, split in data.tests.items()}
    for key, split in splits.items():
        factors, setting = _find_factors(data, key, split)
        if factors is None:
            continue
        for name, column in columns.items():
            may_lack = features[name].missing == "unknown" and key != "train"
            if not may_lack and not _include(factors, column):
                raise UserError(
                    f"features.{name}: its column {column} is not among {setting}; leave the "
                    "feature out, or give its column"
                )


def _find_factors(data: DataConfig, key: str, split: SplitConfig) -> tuple[list[str] | None, str]:
    """The columns of a split's factors and the setting that names them; None without factors."""
    kind = kind_of(split.source) if data.format == "auto" else data.format
    if kind in SEPARATORS:
        return data.factors, f"data.factors=[{','.join(data.factors)}]"
    if split.factors:
        return list(split.factors), f"data.{key}.factors ({', '.join(split.factors)})"
    return None, ""


def _include(factors: list[str], column: str) -> bool:
    """Whether one of the factors is this column, or a part of it, or has it as a part."""
    whole = column.partition(".")[0]
    return any(
        factor in (column, whole) or factor.partition(".")[0] == column for factor in factors
    )
