"""Names of classes that have moved: settings of earlier runs have the first name of each.

A run's hash counts the first name, so that it stays the same wherever the class lies now.
"""

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
"""The name that users write now, and the first one."""

TODAYS_NAMES = {first: name for name, first in FIRST_NAMES.items()}
