"""COMET: a score learned from human judgement (Rei et al. 2020), by its own package."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nmt_feat.errors import UserError
from nmt_feat.evaluation.languages import Scoring
from nmt_feat.evaluation.metric import SentenceMetric

MODEL = "Unbabel/wmt22-comet-da"


def load_package() -> Any:
    """The package `comet`; a `UserError` that says how to get it if it is missing."""
    try:
        return importlib.import_module("comet")
    except ImportError:
        raise UserError(
            "COMET needs its package, in a separate environment: pip install -e . unbabel-comet"
        ) from None


class COMET(SentenceMetric):
    """COMET, times 100.

    The package needs NumPy below 2: install it in a separate environment. It fetches the model,
    2.3 GB, when it is first used, and unpickles it: use one that you trust.

    Args:
        scoring: ignored: COMET reads the text unchanged.
        model: its name, or its file.
        batch_size: number of sentences that are scored together.
    """

    name = "COMET"

    def __init__(self, scoring: Scoring, model: str = MODEL, batch_size: int = 16) -> None:
        super().__init__(scoring)
        self.package, self.model, self.batch_size = load_package(), model, batch_size
        self._loaded: Any = None

    @property
    def signature(self) -> str:
        """The model, the scale, and the package's version."""
        version = getattr(self.package, "__version__", "unknown")
        return f"model:{self.model}|scale:100|version:{version}"

    def score_sentences(
        self, sources: Sequence[str], hypotheses: Sequence[str], references: Sequence[str]
    ) -> list[float]:
        """The score of each segment, times 100."""
        import torch

        if self._loaded is None:
            is_file = Path(self.model).is_file()
            path = self.model if is_file else self.package.download_model(self.model)
            self._loaded = self.package.load_from_checkpoint(path)
        rows = zip(sources, hypotheses, references, strict=True)
        data = [{"src": source, "mt": text, "ref": target} for source, text, target in rows]
        gpus = min(1, torch.cuda.device_count())
        predicted = self._loaded.predict(data, batch_size=self.batch_size, gpus=gpus)
        return [100 * float(score) for score in predicted.scores]
