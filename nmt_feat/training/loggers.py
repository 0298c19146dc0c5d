"""The earlier place of the loggers; it goes with release 0.3."""

import warnings

from nmt_feat.runs.loggers import CSV, Logger, TensorBoard, WandB

__all__ = ["CSV", "Logger", "TensorBoard", "WandB"]

warnings.warn(
    "nmt_feat.training.loggers is now nmt_feat.runs.loggers", DeprecationWarning, stacklevel=2
)
