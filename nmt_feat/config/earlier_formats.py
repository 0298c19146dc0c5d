"""What earlier versions wrote: the one place that remembers it.

Hashes of runs and of prepared data must stay as they are, and folders of earlier versions are
found and read. So names that have moved, settings that are no more, and words that hashes count
since a meaning has changed stand here.
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
"""Classes that have moved: the name that users write now, and the first one. Settings of earlier
runs have the first one, and a run's hash counts it, so that it stays the same wherever the class
lies now."""

TODAYS_NAMES = {first: name for name, first in FIRST_NAMES.items()}

DATA_FORMATS = (4, 3, 2)
"""The formats of the cache whose number was part of the data's hash. They differ in the report on
the data, not in the data."""

WHOLE_VALUES = "whole"
"""The data's hash counts it for columns of MISC, whose values were cut at `+` in the beginning."""
VISIBLE_CHARACTERS = "visible"
"""The data's hash counts it for ready-made vectors, which in the beginning were not looked up for
words with joiners, that is, with characters that are not visible."""

MERGED = "merged"
"""The data's hash counts it where an annotator adds to the columns that a text brings, which it
replaced in the beginning. Settings without `annotator.replace` are of that time."""

SEARCH = ("beam", "length_penalty", "max_ratio", "max_extra", "batch_tokens", "nbest")
"""The settings of `decoding` that were part of the first identity of runs. They also limited the
translations of validations, which choose the best checkpoint; these limits are fixed since."""


def upgrade_annotator(content: Any) -> Any:
    """The settings, in which an annotator replaces what the text brings if they do not say it."""
    annotator = content.get("annotator") if isinstance(content, dict) else None
    if not isinstance(annotator, dict) or annotator.get("_target_") is None:
        return content
    return {**content, "annotator": {"replace": True, **annotator}}
