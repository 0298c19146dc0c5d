"""What earlier versions wrote, in one place.

Hashes of runs and of prepared data must not change, and folders of earlier versions are still read.
So this module lists classes that have moved, settings that no longer exist, and the words that are
added to what is hashed since a setting has changed its meaning.
"""

from typing import Any

FIRST_NAMES = {
    "nmt_feat.annotators.HanTa": "nmt_feat.corpus.annotators.HanTa",
    "nmt_feat.annotators.UDPipe": "nmt_feat.corpus.annotators.UDPipe",
    "nmt_feat.annotators.Kiwi": "nmt_feat.corpus.kiwi.Kiwi",
    "nmt_feat.annotators.SpaCy": "nmt_feat.corpus.spacy.SpaCy",
    "nmt_feat.runs.loggers.CSV": "nmt_feat.training.loggers.CSV",
    "nmt_feat.runs.loggers.TensorBoard": "nmt_feat.training.loggers.TensorBoard",
    "nmt_feat.runs.loggers.WandB": "nmt_feat.training.loggers.WandB",
    "nmt_feat.cli.sweep.SweepTable": "nmt_feat.report.sweep.SweepTable",
}
"""Classes that have moved: today's name, and the first one. Settings of earlier runs have the first
name. A run's hash is made from the first name, so it is the same wherever the class lies now."""

TODAYS_NAMES = {first: name for name, first in FIRST_NAMES.items()}

DATA_FORMATS = (4, 3, 2)
"""The formats of the cache whose number was part of the data's hash. They differ in the report on
the data, not in the data."""

WHOLE_VALUES = "whole"
"""Hashed with data that has a column of MISC: at first, values were cut at `+`."""
VISIBLE_CHARACTERS = "visible"
"""Hashed with data that has ready-made vectors: at first, words with joiners (characters that are
not visible) were not looked up."""

MERGED = "merged"
"""Hashed with data in which an annotator adds to the columns that a text brings: at first, it
replaced them. Settings without `annotator.replace` are of that time."""

SEARCH = ("beam", "length_penalty", "max_ratio", "max_extra", "batch_tokens", "nbest")
"""The settings of `decoding` that were part of the first identity of runs. They also limited the
translations of validations, which choose the best checkpoint. Today these limits are fixed."""


def upgrade_annotator(content: Any) -> Any:
    """Settings of any version: without `replace`, an annotator replaces the text's columns."""
    annotator = content.get("annotator") if isinstance(content, dict) else None
    if not isinstance(annotator, dict) or annotator.get("_target_") is None:
        return content
    return {**content, "annotator": {"replace": True, **annotator}}
