"""Messages about settings that a kind of feature does not take, or needs."""

from __future__ import annotations

from collections.abc import Mapping

from nmt_feat.config.instantiate import locate_class
from nmt_feat.config.schema import FeatureConfig
from nmt_feat.embedders.contextual import Contextual
from nmt_feat.embedders.vectors import Vectors
from nmt_feat.errors import UserError
from nmt_feat.text.conllu import NONE
from nmt_feat.text.units import FORMS, KINDS

NEEDED = {
    "file": "needs column=form or column=lower, policy=copy",
    "encoder": "goes with column=context, not {column}",
    "of": f"is for {', '.join((*KINDS, *FORMS))}; leave it out",
    "n": "is for column=ngram; leave it out",
    "bins": "is for numbers; leave it out",
    "layer": "is for an encoder; leave it out",
    "precision": "is for an encoder; leave it out",
    "erase": "is for values of an annotation, not for {column}; leave it out",
    "classes": "is for values of an annotation, not for {column}; leave it out",
    "live": "is for vectors of an encoder; leave it out",
    "trained": "stored vectors are not trained; set {where}.live=true, or leave it out",
    "learning_rate": "is for an encoder that is trained; set {where}.trained=true, or leave it out",
}
"""Settings that only some kinds take, and the message if another kind has one."""
SOURCES = {
    "file": (Vectors, "word vectors; set features.{}.file=FILE"),
    "encoder": (Contextual, "an encoder; set features.{}.encoder=FOLDER"),
}
"""Settings that name a source of vectors: the embedder that reads them, and what it needs."""


def format_value(value: object) -> str:
    """A value as it is written on the command line."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def refuse_wrong_source(where: str, name: str, settings: FeatureConfig) -> None:
    """Refuse vectors for an embedder that does not read them, and an embedder without them."""
    cls = locate_class(settings._target_)
    for key, (embedder, needed) in SOURCES.items():
        source = getattr(settings, key)
        if source and not issubclass(cls, embedder):
            raise UserError(
                f"{where}.{key}={source}: goes with "
                f"_target_=nmt_feat.features.{embedder.__name__}, not {settings._target_}"
            )
        if not source and issubclass(cls, embedder):
            raise UserError(f"{where}: {settings._target_} needs {needed.format(name)}")


def explain_constant(
    settings: FeatureConfig, counts: Mapping[str, int], value_count: int, annotation: str
) -> str:
    """Why a feature has the same value everywhere, as the end of a message about it.

    Args:
        settings: of the feature.
        counts: how often train has each value.
        value_count: how many of these values are in the vocabulary.
        annotation: where the annotation comes from.
    """
    if len(counts) > 1:
        return (
            f" is constant: max_values={settings.max_values} and min_count={settings.min_count} "
            f"keep {value_count} of its {len(counts)} values; relax them"
        )
    if set(counts) != {NONE}:
        return (
            f" is constant: {settings.column} is {min(counts)!r} on all of train (annotation: "
            f"{annotation}); leave it out of features"
        )
    return (
        f": no word of train has {settings.column} (annotation: {annotation}); leave it out of "
        "features or choose another annotation"
    )
