"""Which kind of feature settings describe. Only this module decides it."""

from __future__ import annotations

import contextlib
import inspect
import re
import traceback
from collections.abc import Iterable, Iterator, Mapping

from nmt_feat.config.instantiate import locate_class, naming_failures
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
"""The kinds by column; a column that is not here is one of the annotation."""


def choose_kind(name: str, settings: FeatureConfig) -> FeatureKind:
    """Build the kind of the feature `name` with these settings."""
    if settings.kind:
        return build_user_kind(name, settings)
    cls = BY_COLUMN.get(settings.column, AnnotationValues)
    if settings.file:
        cls = WordVectors
    elif cls is EncoderVectors and settings.live:
        cls = LiveEncoder
    return cls(name, settings)


def build_user_kind(name: str, settings: FeatureConfig) -> FeatureKind:
    """Build a user-defined kind, whose class the settings name."""
    assert settings.kind
    cls = locate_class(settings.kind)
    if not issubclass(cls, FeatureKind):
        raise UserError(
            f"features.{name}.kind={settings.kind}: must be derived from "
            "nmt_feat.features.FeatureKind"
        )
    with naming_failures(cls, FeatureKind):
        kind: FeatureKind = cls(name, settings)
    return kind


@contextlib.contextmanager
def naming_user_kinds(kinds: Iterable[FeatureKind]) -> Iterator[None]:
    """Turn an exception in the file of a user-defined kind into a `UserError` that names the line.

    Also one of another process, whose traceback arrives as text.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        text = "".join(traceback.format_exception(error))
        for cls in (type(kind) for kind in kinds if kind.settings.kind):
            line = re.escape(f'File "{inspect.getfile(cls)}", line ')
            if numbers := re.findall(rf"{line}(\d+)", text):
                raise UserError(
                    f"{cls.__module__}.{cls.__qualname__}, line {numbers[-1]}: "
                    f"{type(error).__name__}: {error}"
                ) from error
        raise


def choose_kinds(features: Mapping[str, FeatureConfig]) -> dict[str, FeatureKind]:
    """The kinds of all features of a run."""
    return {name: choose_kind(name, settings) for name, settings in features.items()}


def restore_kinds(
    vocabularies: Mapping[str, FeatureVocab], user_kinds: Mapping[str, str]
) -> dict[str, FeatureKind]:
    """Build the kinds of a trained run.

    Args:
        vocabularies: by feature; they hold what is needed of the settings.
        user_kinds: by feature of a user-defined kind, the name of its class.
    """
    return {
        name: choose_kind(name, vocabulary.restore_settings(user_kinds.get(name)))
        for name, vocabulary in vocabularies.items()
    }


def list_user_kinds(kinds: Mapping[str, FeatureKind]) -> dict[str, str]:
    """By feature of a user-defined kind, the name of its class."""
    return {name: kind.settings.kind for name, kind in kinds.items() if kind.settings.kind}


def list_annotation_columns(kinds: Iterable[FeatureKind]) -> tuple[str, ...]:
    """The columns of an annotation that the features read; for `feats.Case`, it is `feats`."""
    columns = {kind.annotation_column.partition(".")[0] for kind in kinds if kind.annotation_column}
    return tuple(sorted(columns))


def list_sentence_keys(kinds: Iterable[FeatureKind]) -> dict[str, bool]:
    """The keys of sentence values that features read, and whether every sentence must have one."""
    is_required: dict[str, bool] = {}
    for kind in kinds:
        key = kind.sentence_key
        if key is not None:
            is_required[key] = is_required.get(key, False) or kind.settings.missing == "error"
    return dict(sorted(is_required.items()))
