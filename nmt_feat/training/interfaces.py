"""What the training loop gets from outside: settings, batches, scores on dev, a display."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from nmt_feat.model.batch import Batch


@dataclass(frozen=True)
class TrainingSettings:
    """The settings that the loop needs; `nmt_feat/config/schema.py` explains them."""

    seed: int
    max_steps: int
    accumulate: int
    batch_tokens: int
    learning_rate: float
    schedule: str
    warmup: int
    clip_norm: float
    validate_every: int
    log_every: int
    patience: int
    max_skipped: int
    resume_exact: bool


class PlannedBatch(Protocol):
    """Some sentence pairs of an epoch; only the process that trains on them makes the tensors."""

    @property
    def indices(self) -> NDArray[np.int64]:
        """The numbers of the pairs in the training text."""

    @property
    def target_token_count(self) -> int:
        """The number of target pieces, with end symbols, without padding."""

    @property
    def longest_lengths(self) -> tuple[int, int]:
        """The numbers of tokens of the longest source and of the longest target."""

    def source_text(self, index: int) -> str:
        """The source text of a pair, for a message."""

    def collate(self) -> Batch:
        """Make the tensors."""


class ValidationScores(NamedTuple):
    """The scores of a validation, on dev."""

    bleu: float
    loss: float
    """In nats per target piece."""
    selection: float | None = None
    """The score of another metric that chooses the checkpoint; the higher the better."""

    @property
    def selection_value(self) -> float:
        """The score that chooses the checkpoint."""
        return self.bleu if self.selection is None else self.selection


class ProgressReport(Protocol):
    """Shows a person what the loop does."""

    current_work: str
    """The present work of all processes, for messages."""

    def print_line(self, text: str) -> None:
        """Print a line."""

    def show_start(self, step: int, total: int) -> None:
        """Begin at `step` of `total` updates."""

    def show_phase(self, name: str, work: str) -> None:
        """Show that work other than updates begins; `work` describes it in full."""

    def show_update(self, step: int, loss: float, speed: float) -> None:
        """Show the mean loss per token (nats) and target tokens per second."""

    def show_validation(self, step: int, bleu: float, perplexity: float, loss: float) -> None:
        """Show a validation, and the mean training loss since the one before."""

    def show_end(self) -> None:
        """End the display."""
