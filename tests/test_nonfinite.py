"""A loss or gradient that is not finite: the update is skipped and counted; many end the run."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from nmt_feat.combiners import Gate
from nmt_feat.errors import UserError
from nmt_feat.training.loop import Trainer
from nmt_feat.training.objective import Objective
from nmt_feat.training.optimizers import optimizer_tensors
from tests.support.small import ROOT, Small, outcome, record
from tests.support.trainers import parameters, trainer

GATE = ("combiner=gate", "features=[upos]")


@pytest.fixture
def spoil(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let the combiner give NaN in these updates."""
    combine, update = Gate.forward, Trainer.update
    bad = [False]

    def spoil(*steps: int) -> None:
        def spoiled(self: Trainer) -> tuple[Tensor, int]:
            bad[0] = self.state.step + 1 in steps
            try:
                return update(self)
            finally:
                bad[0] = False

        monkeypatch.setattr(Trainer, "update", spoiled)

    def forward(self: Gate, parts: dict[str, Tensor]) -> Tensor:
        return combine(self, parts) * (math.nan if bad[0] else 1.0)

    monkeypatch.setattr(Gate, "forward", forward)
    return spoil


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("clip", ["1.0", "0"])
def test_a_skipped_update_changes_nothing(
    small: Small, spoil: Callable[..., None], clip: str, masks: bool
) -> None:
    """Also as on a GPU, where the device itself decides and is asked only now and then."""
    spoil(2)
    loop = trainer(small, *GATE, f"trainer.clip_norm={clip}")
    loop.optimizer_skips = masks
    loop.update()
    before = parameters(loop), optimizer_tensors(loop.optimizer.optimizer)
    before = before[0], {name: value.clone() for name, value in before[1].items()}
    loss, _ = loop.update()
    assert float(loss) == 0
    after = parameters(loop), optimizer_tensors(loop.optimizer.optimizer)
    for one, two in zip(before, after, strict=True):
        assert one.keys() == two.keys()
        for name, value in one.items():
            assert torch.equal(value, two[name]), name
    assert loop.state.skipped == (0 if masks else 1)
    loop.count_skipped()
    assert (loop.state.step, loop.state.skipped, loop.state.in_a_row) == (2, 1, 1)
    loop.update()
    loop.count_skipped()
    assert (loop.state.skipped, loop.state.in_a_row) == (1, 0)
    assert any(not torch.equal(v, before[0][name]) for name, v in parameters(loop).items())


def test_the_device_decides_as_the_process_does(small: Small, spoil: Callable[..., None]) -> None:
    results = []
    for masks in (False, True):
        spoil(1, 3, 4)
        loop = trainer(small, *GATE)
        loop.optimizer_skips = masks
        for _ in range(6):
            loop.update()
        loop.count_skipped()
        results.append((parameters(loop), loop.state.skipped))
    assert results[0][1] == results[1][1] == 3
    for name, value in results[0][0].items():
        assert torch.equal(value, results[1][0][name]), name


def test_an_infinite_loss_with_a_finite_gradient(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Objective.forward

    def forward(self: Objective, *arguments: Tensor) -> tuple[Tensor, Tensor]:
        loss, likelihood = original(self, *arguments)  # type: ignore[arg-type]
        return loss + math.inf, likelihood

    monkeypatch.setattr(Objective, "forward", forward)
    loop = trainer(small, *GATE)
    before = parameters(loop)
    loop.update()
    assert loop.state.skipped == 1
    assert all(torch.equal(value, before[name]) for name, value in parameters(loop).items())


@pytest.mark.parametrize("masks", [False, True])
def test_an_infinite_gradient_with_a_finite_loss(small: Small, masks: bool) -> None:
    loop = trainer(small, *GATE)
    loop.optimizer_skips = masks
    before = parameters(loop)
    next(loop.model.parameters()).register_hook(lambda gradient: gradient + math.inf)
    loop.update()
    loop.count_skipped()
    assert loop.state.skipped == 1
    assert all(torch.equal(value, before[name]) for name, value in parameters(loop).items())


def test_counted_in_the_record(
    small: Small, spoil: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(2, 4, 5)
    run = small.train(*GATE, "trainer.max_skipped=3")
    assert (record(run)["skipped"], record(run)["updates"]) == (3, 6)
    assert all(math.isfinite(point["loss"]) for point in record(run)["curve"])
    out = capsys.readouterr().out
    skipped = [line for line in out.splitlines() if "skipped" in line]
    assert skipped == [
        "step 2: loss or gradient is not finite; update skipped",
        "step 4: loss or gradient is not finite; update skipped",
        "3 of 6 updates skipped: loss or gradient not finite",
    ]


def test_too_many_in_a_row(small: Small, spoil: Callable[..., None]) -> None:
    """The sentences of the last batch are named, as the plan of the epoch has them."""
    spoil(2, 4, 5, 6)
    loop = trainer(small, *GATE, "trainer.max_skipped=3", "trainer.batch_tokens=40")
    batch = sorted(int(row) for row in loop.plan[5].indices)
    for _ in range(5):
        loop.update()
    with pytest.raises(UserError) as error:
        loop.update()
    numbers = ", ".join(str(row + 1) for row in batch)
    assert 0 < len(batch) <= 20
    assert str(error.value) == (
        "step 6: loss or gradient is not finite, in 3 updates in a row; the last is of "
        f"{len(batch)} training pairs, by number after filters: {numbers}, the first "
        f"{loop.prepared.train.source_texts[batch[0]]!r}; look at these, or train with a lower "
        "optimizer.lr"
    )


@pytest.mark.thorough
def test_resumed_in_a_row(
    small: Small, spoil: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that stops between two skipped updates goes on as if it had not."""
    spoil(2, 3)
    expected = small.whole(*GATE)
    original = Trainer.save_checkpoint

    def save(self: Trainer, validated: bool = True) -> None:
        original(self, validated)
        raise KeyboardInterrupt

    spoil(2, 3)
    monkeypatch.setattr(Trainer, "save_checkpoint", save)
    with pytest.raises(KeyboardInterrupt):
        small.train(*GATE)
    monkeypatch.setattr(Trainer, "save_checkpoint", original)
    (state,) = Path(small.folder / "runs").glob("*/checkpoints/checkpoint-2.json")
    assert '"in_a_row": 1' in state.read_text()
    run = small.train(*GATE)
    assert outcome(run) == expected
    assert record(run)["skipped"] == 2


RANK = """
import math
import os
from nmt_feat.combiners import Gate

class OneSide(Gate):
    calls = 0

    def forward(self, parts):
        OneSide.calls += self.training
        bad = OneSide.calls == 5 and os.environ.get("LOCAL_RANK") == "1"
        return super().forward(parts) * (math.nan if bad else 1.0)
"""


@pytest.mark.slow
def test_two_processes_skip_together(small: Small) -> None:
    """What one of them finds, both skip: else they would differ, or wait for each other."""
    (small.folder / "mine.py").write_text(RANK)
    settings = ("combiner._target_=mine.OneSide", *GATE[1:], "trainer.devices=2")
    command = [sys.executable, str(ROOT / "train.py"), *small.overrides(*settings)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=small.folder, env=environment, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    (run,) = (small.folder / "runs").glob("OneSide-*")
    assert (record(run)["skipped"], record(run)["updates"]) == (1, 6)
    assert all(math.isfinite(point["loss"]) for point in record(run)["curve"])
