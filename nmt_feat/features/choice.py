"""Which kind a feature is: told from its settings here, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from nmt_feat.config.instantiate import locate_class
from nmt_feat.config.schema import FeatureConfig
from nmt_feat.errors import UserError
from nmt_feat.features.contextual import EncoderVectors, LiveEncoder
from nmt_feat.features.kind import FeatureKind
from nmt_feat.features.numbers import HeadNumbers
from nmt_feat.features.unit_sequences import NGrams, UnitSequences
from nmt_feat.features.values import (
    CONTEXT,
    HEAD_COLUMNS,
    AnnotationValues,
    FormValues,
    ShapeValues,
    SubwordTags,
)
from nmt_feat.features.vocabulary import FeatureVocab
from nmt_feat.features.word_vectors import WordVectors
from nmt_feat.text.units import FORMS, KINDS

BY_COLUMN: dict[str, type[FeatureKind]] = {
    "shape": ShapeValues,
    "subword_tag": SubwordTags,
    CONTEXT: EncoderVectors,
    **dict.fromkeys(KINDS, UnitSequences),
    "ngram": NGrams,
    **dict.fromkeys(FORMS, FormValues),
    **dict.fromkeys(HEAD_COLUMNS, HeadNumbers),
}
"""The kinds of columns that need no annotation; all others are columns of one."""


def choose_kind(name: str, settings: FeatureConfig) -> FeatureKind:
    """The kind of a feature with these settings."""
    if settings.kind:
        return build_user_kind(name, settings)
    kind = BY_COLUMN.get(settings.column, AnnotationValues)
    if settings.file:
        kind = WordVectors
    if kind is EncoderVectors and settings.live:
        kind = LiveEncoder
    return kind(name, settings)


def build_user_kind(name: str, settings: FeatureConfig) -> FeatureKind:
    """The kind that the settings name."""
    assert settings.kind
    cls = locate_class(settings.kind)
    if not issubclass(cls, FeatureKind):
        raise UserError(
            f"features.{name}.kind={settings.kind}: must be derived from "
            "nmt_feat.features.FeatureKind"
        )
    return cls(name, settings)


def choose_kinds(features: Mapping[str, FeatureConfig]) -> dict[str, FeatureKind]:
    """The kinds of all features of a run."""
    return {name: choose_kind(name, settings) for name, settings in features.items()}


def restore_kinds(
    vocabularies: Mapping[str, FeatureVocab], user_kinds: Mapping[str, str]
) -> dict[str, FeatureKind]:
    """The kinds of features by their vocabularies, `user_kinds` by the name of their class."""
    return {
        name: choose_kind(name, vocabulary.restore_settings(user_kinds.get(name)))
        for name, vocabulary in vocabularies.items()
    }


def list_user_kinds(kinds: Mapping[str, FeatureKind]) -> dict[str, str]:
    """By feature of a user-defined kind the name of its class."""
    return {name: kind.settings.kind for name, kind in kinds.items() if kind.settings.kind}


def list_annotation_columns(kinds: Iterable[FeatureKind]) -> tuple[str, ...]:
    """The columns of an annotation that features are made of (`feats` for `feats.Case`)."""
    columns = {kind.annotation_column.partition(".")[0] for kind in kinds if kind.annotation_column}
    return tuple(sorted(columns))


def list_sentence_keys(kinds: Iterable[FeatureKind]) -> dict[str, bool]:
    """The keys of values of whole sentences that features read; whether each must be there."""
    keys: dict[str, bool] = {}
    for kind in kinds:
        if kind.sentence_key is not None:
            keys[kind.sentence_key] = keys.get(kind.sentence_key, False) or (
                kind.settings.missing == "error"
            )
    return dict(sorted(keys.items()))
