"""The same on one CUDA device; skipped where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nmt_feat.training.loop import Trainer
from tests.support.small import ROOT, Small, outcome, record
from tests.support.stops import Killed, stop_at
from tests.support.trainers import trainer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

THERE = "trainer.accelerator=cuda"
STILL = ["model.dropout=0", "model.activation_dropout=0"]
"""Random numbers of a GPU are others."""
COMBINERS = sorted(p.stem for p in (ROOT / "conf" / "combiner").glob("*.yaml") if p.stem != "mixed")


def losses(folder: Path) -> list[float]:
    return [point["loss"] for point in record(folder)["curve"]]


@pytest.mark.parametrize("combiner", COMBINERS)
def test_trains_as_on_the_cpu(small: Small, combiner: str) -> None:
    settings = [f"combiner={combiner}", *STILL]
    expected = losses(small.train(*settings))
    with small.elsewhere("there") as there:
        result = losses(there.train(*settings, THERE))
    assert len(result) == 3
    assert result == pytest.approx(expected, rel=1e-4)


def test_bf16(small: Small) -> None:
    settings = ["combiner=gate", *STILL, THERE, "trainer.max_steps=20"]
    expected = losses(small.train(*settings))
    with small.elsewhere("bf16") as there:
        result = losses(there.train(*settings, "trainer.precision=bf16-mixed"))
    assert result == pytest.approx(expected, rel=0.01)
    assert result != expected


def test_resumed_in_the_same_bits(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dropout's numbers too, of the device's own generator."""
    settings = ["combiner=gate", "trainer.deterministic=true", THERE]
    expected = small.whole(*settings)
    with monkeypatch.context() as patch:
        stop_at(patch, Trainer, "update", 5, after=True)
        with pytest.raises(Killed):
            small.train(*settings)
    assert outcome(small.train(*settings)) == expected


def test_an_update_waits_for_nothing(small: Small) -> None:
    small_trainer = trainer(small, "combiner=gate", "trainer.precision=bf16-mixed", THERE)
    small_trainer.model.train()
    small_trainer.update()  # the first makes the optimiser's state
    torch.cuda.set_sync_debug_mode("error")
    try:
        small_trainer.update()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert small_trainer.state.step == 2
