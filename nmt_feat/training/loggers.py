"""The loggers under their earlier module name, which release 0.3 removes."""

import warnings

from nmt_feat.runs.loggers import CSV, Logger, TensorBoard, WandB

__all__ = ["CSV", "Logger", "TensorBoard", "WandB"]

warnings.warn(
    "nmt_feat.training.loggers is now nmt_feat.runs.loggers", DeprecationWarning, stacklevel=2
)
