"""The same on one CUDA device; skipped where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nmt_feat.training.loop import Trainer
from tests.support.small import ROOT, Small, outcome, record
from tests.support.stops import Killed, stop_at
from tests.support.trainers import losses_and_gradients, trainer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

THERE = "trainer.accelerator=cuda"
COMPILED = "trainer.compile=true"
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


def test_compiled_layers(small: Small) -> None:
    """Equal to rounding: loss and gradients of batches, then a run that was stopped."""
    settings = ["combiner=gate", *STILL, THERE, "model.encoder_layers=2", "model.decoder_layers=2"]
    plain, compiled = trainer(small, *settings), trainer(small, *settings, COMPILED)
    assert plain.model.state_dict().keys() == compiled.model.state_dict().keys()
    expected, results = losses_and_gradients(plain), losses_and_gradients(compiled)
    torch.testing.assert_close(results, expected, rtol=1e-3, atol=1e-4)
    curve = losses(small.train(*settings))
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, Trainer, "update", 5, after=True)
        with pytest.raises(Killed):
            small.train(*settings, COMPILED)
    assert losses(small.train(*settings, COMPILED)) == pytest.approx(curve, rel=1e-3)


def test_compiled_layers_in_bf16_with_dropout(small: Small) -> None:
    """Dropout draws other numbers when it is compiled."""
    settings = ["combiner=gate", THERE, "trainer.precision=bf16-mixed", "trainer.max_steps=20"]
    settings += ["model.dropout=0.1", "model.attention_dropout=0.1"]
    expected = losses(small.train(*settings))
    assert losses(small.train(*settings, COMPILED)) == pytest.approx(expected, rel=0.05)


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
