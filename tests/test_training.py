"""The loop: what an update computes, what validation decides, what the options change."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from nmt_feat.config.instantiate import locate_class
from nmt_feat.config.schema import OptimizerConfig
from nmt_feat.data.batches import collate, plan_batches
from nmt_feat.errors import UserError
from nmt_feat.evaluation.scores import Scores
from nmt_feat.evaluation.split_decoding import compute_dev_loss
from nmt_feat.model.seeds import derive_seed
from nmt_feat.runs.setup import build_trainer
from nmt_feat.runs.setup.build_trainer import build_optimizer
from nmt_feat.training.checkpoints import Checkpoints
from nmt_feat.training.optimizers import load_optimizer, optimizer_tensors
from tests.support.lives import Life, wait_for
from tests.support.small import ROOT, Small, outcome, record
from tests.support.sweeps import sweep
from tests.support.trainers import parameters, trainer


@pytest.fixture
def gradients(monkeypatch: pytest.MonkeyPatch) -> list[list[Tensor]]:
    """The gradients of each update, before they are clipped."""
    results: list[list[Tensor]] = []

    def clip(parameters_to_clip: Iterator[torch.nn.Parameter], norm: float) -> Tensor:
        ps = list(parameters_to_clip)
        results.append([p.grad.clone() for p in ps if p.grad is not None])
        return original(ps, norm)

    original = torch.nn.utils.clip_grad_norm_
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", clip)
    return results


def test_an_update_by_hand(small: Small, gradients: list[list[Tensor]]) -> None:
    """Loss, gradient and its norm, Adam's first step at the schedule's rate."""
    small_trainer = trainer(
        small, "trainer.accumulate=2", "trainer.clip_norm=0.5", "optimizer.warmup=10"
    )
    before = parameters(small_trainer)
    batches = plan_batches(small_trainer.prepared.train, 256, derive_seed(1, "order"), 0)[:2]
    total, count = torch.zeros(()), 0
    for indices in batches:
        batch = collate(small_trainer.prepared.train, indices, small_trainer.names)
        hidden = small_trainer.model(
            batch.source, batch.features, batch.source != 0, batch.target_in
        )
        losses = F.log_softmax(small_trainer.model.compute_logits(hidden), -1)
        for row, target in zip(losses, batch.target_out, strict=True):
            for logprobs, right in zip(row, target, strict=True):
                if right != 0:
                    total = total - 0.9 * logprobs[right] - 0.1 * logprobs.mean()
                    count += 1
    assert count == sum(int(small_trainer.prepared.train.target_lengths[i].sum()) for i in batches)
    expected = torch.autograd.grad(total / count, list(small_trainer.model.parameters()))
    loss, tokens = small_trainer.update()
    assert tokens == count == small_trainer.state.tokens
    assert float(loss) == pytest.approx(total.item(), rel=1e-5)
    assert small_trainer.state.batches == 2
    assert small_trainer.state.sentences == sum(map(len, batches))
    for mine, theirs in zip(gradients[0], expected, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=1e-4)
    # Adam's first step is lr * g / (|g| + eps), whatever the scale; the rate 2e-3 / 10
    norm = torch.stack([g.norm() for g in expected]).norm()
    assert norm > 0.5
    for (name, old), g in zip(before.items(), expected, strict=True):
        clipped = g * 0.5 / norm
        step = 2e-4 * clipped / (clipped.abs() + 1e-9)
        new = dict(small_trainer.model.named_parameters())[name]
        large = clipped.abs() > 1e-5
        assert (new - old).abs().max() <= 2.01e-4
        torch.testing.assert_close(new[large], (old - step)[large], atol=1e-6, rtol=0)


def test_two_small_batches_are_one_large(small: Small, gradients: list[list[Tensor]]) -> None:
    """The loss is per token over all batches of an update, however they fall."""
    one, two = trainer(small), trainer(small, "trainer.accumulate=2")
    parts = plan_batches(one.prepared.train, 256, derive_seed(1, "order"), 0)[:2]
    one.plan = [dataclasses.replace(one.plan[0], indices=np.concatenate(parts))]  # type: ignore[type-var]
    assert float(one.update()[0]) == pytest.approx(float(two.update()[0]), rel=1e-5)
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("norm", [0.0, 0.01, 100.0])
def test_clipping(small: Small, norm: float) -> None:
    sgd = ("optimizer._target_=torch.optim.SGD", "optimizer.lr=1", "optimizer.warmup=0")
    small_trainer = trainer(small, f"trainer.clip_norm={norm}", *sgd)
    before = parameters(small_trainer)
    small_trainer.update()
    changes = [p - before[name] for name, p in parameters(small_trainer).items()]
    step = float(torch.stack([change.norm() for change in changes]).norm())
    assert (0.011 < step < 100) if norm in (0.0, 100.0) else step == pytest.approx(norm, rel=1e-3)


def test_every_sentence_once_an_epoch(small: Small) -> None:
    small_trainer = trainer(small)
    size, count = len(small_trainer.plan), len(small_trainer.prepared.train)
    epochs = [
        np.concatenate([small_trainer.draw_batch().indices for _ in range(size)]).tolist()
        for _ in range(3)
    ]
    assert all(sorted(epoch) == list(range(count)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert small_trainer.state.batches == 3 * size


def test_the_same_batches_for_all_methods_and_other_seeds_others(small: Small) -> None:
    drawn: dict[str, Any] = {}
    for settings in (("combiner=none",), ("combiner=gate",), ("combiner=concat",), ("seed=2",)):
        small_trainer = trainer(small, *settings)
        drawn[settings[0]] = [small_trainer.draw_batch().indices.tolist() for _ in range(20)]
    assert drawn["combiner=none"] == drawn["combiner=gate"] == drawn["combiner=concat"]
    assert drawn["seed=2"] != drawn["combiner=concat"]


def test_the_seed_leaves_the_data_alone(small: Small) -> None:
    one, two = trainer(small, "seed=1"), trainer(small, "seed=2")
    assert one.prepared.folder == two.prepared.folder
    assert one.prepared.fingerprint == two.prepared.fingerprint
    a, b = parameters(one), parameters(two)
    assert not a["target.words.weight"].equal(b["target.words.weight"])


def test_plain_and_fused_loss(small: Small) -> None:
    """By SGD: Adam's first step is the gradient's sign, also of what is nought but for rounding."""
    settings = ["optimizer._target_=torch.optim.SGD", "optimizer.lr=1", "optimizer.warmup=0"]
    plain, fused = trainer(small, "trainer.fused_loss=false", *settings), trainer(small, *settings)
    before = parameters(plain)
    for small_trainer in (plain, fused):
        small_trainer.update()
    for name, p in parameters(plain).items():
        torch.testing.assert_close(p, parameters(fused)[name], atol=1e-6, rtol=0)
        assert name.endswith("bias") or not p.equal(before[name])


@pytest.mark.parametrize(
    "precision", ["32-true", pytest.param("bf16-mixed", marks=pytest.mark.slow)]
)
def test_it_learns(small: Small, precision: str) -> None:
    """One batch by heart."""
    settings = ["model.dim=32", "optimizer.lr=0.01", "combiner=gate", "trainer.batch_tokens=100"]
    small_trainer = trainer(small, *settings, f"trainer.precision={precision}")
    small_trainer.plan = small_trainer.plan[:1]
    small_trainer.plan_epoch = lambda epoch: small_trainer.plan
    losses = []
    for _ in range(40):
        loss, tokens = small_trainer.update()
        losses.append(float(loss) / tokens)
    assert losses[0] > 5
    assert losses[-1] < 2
    assert all(p.dtype == torch.float32 for p in small_trainer.model.parameters())


def test_dev_loss_by_hand(small: Small) -> None:
    small_trainer = trainer(small)
    small_trainer.model.eval()
    total, count = 0.0, 0
    for i in range(len(small_trainer.prepared.dev)):
        batch = collate(small_trainer.prepared.dev, np.array([i]), small_trainer.names)
        hidden = small_trainer.model(
            batch.source, batch.features, batch.source != 0, batch.target_in
        )
        logprobs = F.log_softmax(small_trainer.model.compute_logits(hidden), -1)[0]
        total -= logprobs[torch.arange(len(logprobs)), batch.target_out[0]].sum().item()
        count += len(logprobs)
    with torch.no_grad():
        result = compute_dev_loss(
            small_trainer.bare_objective,
            small_trainer.prepared.dev,
            small_trainer.names,
            256,
            torch.device("cpu"),
        )
    assert result == (pytest.approx(total, rel=1e-5), count)


def test_validation_changes_nothing(small: Small) -> None:
    """With dropout: the weights do not depend on how often one looks."""
    settings = ["model.attention_dropout=0.1", "trainer.select=average", "trainer.average=1"]
    often = small.train("trainer.validate_every=1", *settings)
    seldom = small.train("trainer.validate_every=6", *settings)
    assert often != seldom
    assert len(record(often)["curve"]) == 6
    assert len(record(seldom)["curve"]) == 1
    between = small.train("trainer.validate_every=4", *settings)
    assert [point["step"] for point in record(between)["curve"]] == [4, 6]  # the last one, too
    name = "model.safetensors"
    assert (often / name).read_bytes() == (seldom / name).read_bytes()


def scored(
    monkeypatch: pytest.MonkeyPatch, values: list[float], losses: list[float] | None = None
) -> None:
    """Let validations find these BLEU values, one after the other, and these losses."""
    rest = iter(values)
    if losses is not None:
        following = iter(losses)
        monkeypatch.setattr(build_trainer, "compute_dev_loss", lambda *_: (next(following), 1))

    def score(*args: Any) -> Scores:
        return Scores(next(rest), 0, "", "", 1)

    monkeypatch.setattr(build_trainer, "score_translations", score)


@pytest.mark.parametrize(
    ("patience", "values", "updates", "best"),
    [
        (0, [3, 2, 1, 0, 0, 0], 6, 1),
        (2, [1, 3, 3, 2, 9, 9], 4, 2),  # equal is not better: so is the loss
        (2, [1, 3, 2, 4, 1, 9], 6, 6),
        (3, [0, 0, 0, 0, 9, 9], 4, 1),
        (1, [1, 2, 3, 4, 5, 6], 6, 6),
    ],
)
def test_early_stopping(
    small: Small,
    monkeypatch: pytest.MonkeyPatch,
    patience: int,
    values: list[float],
    updates: int,
    best: int,
) -> None:
    scored(monkeypatch, values, [2.0] * len(values))
    small_trainer = trainer(small, "trainer.validate_every=1", f"trainer.patience={patience}")
    at = small_trainer.fit()
    assert (at.step, at.best_step, at.best_bleu) == (updates, best, max(values[:updates]))
    assert [point["bleu"] for point in at.curve] == values[:updates]
    assert at.finished
    again = trainer(small, "trainer.validate_every=1", f"trainer.patience={patience}")
    again.resume()
    weights = {name: p.clone() for name, p in again.model.named_parameters()}
    assert again.fit() == at  # a finished training is not trained further
    assert all(weights[name].equal(p) for name, p in small_trainer.model.named_parameters())


@pytest.mark.parametrize(
    ("patience", "values", "losses", "updates", "best"),
    [
        (2, [0, 0, 0, 0, 0, 0], [6, 5, 4, 3, 2, 1], 6, 6),  # BLEU 0 throughout, still learning
        (2, [0, 0, 0, 0, 0, 0], [6, 5, 5, 7, 2, 1], 4, 2),  # neither is better
        (2, [3, 3, 2, 3, 3, 3], [6, 5, 1, 5.5, 4, 3], 4, 2),  # a lower loss alone is not enough
        (0, [3, 3, 2, 3, 1, 0], [6, 7, 1, 5, 0, 0], 6, 4),
        (0, [1, 2, 3, 2, 1, 0], [1, 2, 3, 0, 0, 0], 6, 3),  # where BLEU differs it alone decides
        (2, [0, 0, 0, 0, 0, 0], [6, np.nan, np.nan, 1, 1, 1], 3, 1),
        (2, [0, 0, 0, 0, 0, 0], [np.nan, 6, 7, 8, 1, 1], 4, 2),
    ],
)
def test_ties_in_bleu_are_broken_by_the_loss(
    small: Small,
    monkeypatch: pytest.MonkeyPatch,
    patience: int,
    values: list[float],
    losses: list[float],
    updates: int,
    best: int,
) -> None:
    scored(monkeypatch, values, losses)
    small_trainer = trainer(small, "trainer.validate_every=1", f"trainer.patience={patience}")
    at = small_trainer.fit()
    assert (at.step, at.best_step) == (updates, best)
    assert small_trainer.checkpoints.newest
    assert small_trainer.checkpoints.newest.best == best
    assert small_trainer.checkpoints.read_weights(best)


def test_best_and_average(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    weights_by_step: dict[int, dict[str, Tensor]] = {}
    save = Checkpoints.save

    def keep(self: Checkpoints, *args: Any) -> None:
        save(self, *args)
        weights = self.folder / f"weights-{self.step}.safetensors"
        weights_by_step[self.step] = load_file(weights)

    monkeypatch.setattr(Checkpoints, "save", keep)
    for select, steps in (("best", [2]), ("average", [4, 5, 6])):
        scored(monkeypatch, [1, 5, 2, 3, 4, 4])
        settings = ["trainer.validate_every=1", "trainer.average=3", f"trainer.select={select}"]
        folder = small.train(*settings)
        tensors = load_file(folder / "model.safetensors")
        for name, tensor in tensors.items():
            mean = np.mean([weights_by_step[s][name].double().numpy() for s in steps], axis=0)
            assert torch.from_numpy(mean).float().equal(tensor)
        assert record(folder)["selected"] == (f"{select} of updates {', '.join(map(str, steps))}")
        assert record(folder)["selected_step"] == 2


@pytest.mark.parametrize(
    "name", ["AdamW", "Adam", "RAdam", "NAdam", "Adamax", "SGD", "Adagrad", "RMSprop", "Adafactor"]
)
def test_optimisers_and_their_state(name: str) -> None:
    """Any of PyTorch's; what is saved of it restores it to the bit."""
    cfg = OptimizerConfig(_target_=f"torch.optim.{name}", lr=0.1)
    taken = locate_class(cfg._target_).__init__.__code__.co_varnames  # type: ignore[misc]
    if "betas" in taken:
        cfg.weight_decay = 0.01
    else:
        cfg.args["weight_decay"] = 0.01
    torch.manual_seed(1)
    one, two = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    first = build_optimizer(cfg, one)
    if "betas" in taken:
        assert first.defaults["betas"] == (0.9, 0.98)
    assert first.defaults["weight_decay"] == 0.01
    steps = torch.randn(6, 4, 3)

    def step(module: torch.nn.Module, optimizer: torch.optim.Optimizer, x: Tensor) -> None:
        optimizer.zero_grad()
        module(x).square().sum().backward()
        optimizer.step()

    for x in steps[:3]:
        step(one, first, x)
    two.load_state_dict(one.state_dict())
    second = build_optimizer(cfg, two)
    load_optimizer(second, {k: v.clone() for k, v in optimizer_tensors(first).items()})
    for x in steps[3:]:
        step(one, first, x)
        step(two, second, x)
    assert one.weight.equal(two.weight)
    assert one.bias.equal(two.bias)


class Counting(torch.optim.SGD):
    """Counts in its groups, as Prodigy does, and has a tensor there."""

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, lr)
        self.param_groups[0]["scale"] = torch.ones(1)

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            group["count"] = group.get("count", 0) + 1
            group["growth"] = group.get("growth", 1.0) * 1.1
            group["scale"] = group["scale"] * 0.7
            for parameter in group["params"]:
                factor = group["count"] * group["growth"] * float(group["scale"])
                parameter.data.add_(parameter.grad, alpha=-group["lr"] * factor)


def test_what_an_optimiser_counts_in_its_groups() -> None:
    """It is saved, too, and has its type again; PyTorch's own have nothing there."""
    module = torch.nn.Linear(3, 2)
    module(torch.randn(4, 3)).sum().backward()
    first, second = Counting(module.parameters(), 0.1), Counting(module.parameters(), 0.1)
    for _ in range(3):
        first.step()
    load_optimizer(second, {k: v.clone() for k, v in optimizer_tensors(first).items()})
    (group,), (restored,) = first.param_groups, second.param_groups
    assert (restored["count"], restored["growth"]) == (3, group["growth"])
    assert type(restored["count"]) is int
    assert restored["scale"].equal(group["scale"])
    adam = torch.optim.AdamW(module.parameters(), 0.1, betas=(0.9, 0.98))
    adam.step()
    assert all(name.startswith("optimizer.") for name in optimizer_tensors(adam))


class Lion(torch.optim.Optimizer):
    """Betas, but no epsilon."""

    def __init__(
        self, params: Any, lr: float, betas: tuple[float, float], weight_decay: float
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})


def test_a_setting_that_an_optimiser_does_not_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NMT_FEAT_MODULES", __name__)
    cfg, module = OptimizerConfig(_target_=f"{__name__}.Lion"), torch.nn.Linear(1, 1)
    assert "eps" not in build_optimizer(cfg, module).defaults
    cfg.eps = 1e-6
    with pytest.raises(UserError) as error:
        build_optimizer(cfg, module)
    assert str(error.value) == (
        f"optimizer.eps=1e-06: is for Adam and optimisers like it, {__name__}.Lion has no eps; "
        "leave it out, or give arguments of the class by +optimizer.args"
    )


@pytest.mark.slow
def test_two_devices_to_the_bit(small: Small) -> None:
    """With dropout, in a sweep, beside one device: a stopped run ends as one that was not."""
    settings = "trainer.devices=2,1", "seed=1,2", "trainer.max_steps=12"
    with small.elsewhere("whole") as twin:
        code, out = sweep(twin, *settings)
        assert code == 0, out
    runs, command = small.folder / "runs", ["-m", *small.overrides(*settings)]
    for count in (0, 1, 2):
        life = Life(small.folder).begin(*command)

        def has_files(count: int = count) -> bool:
            checkpoints = list(runs.glob("*/checkpoints/checkpoint-*.json"))
            return len(checkpoints) + len(list(runs.glob("*/result.json"))) > count

        wait_for(has_files, life.process, small.folder)
        life.process.kill()
        life.process.join()
    code, out = sweep(small, *settings)
    assert code == 0, out
    folders = {folder.name: folder for folder in runs.glob("concat-*")}
    assert len(folders) == 4
    for name, folder in folders.items():
        assert outcome(folder) == outcome(twin.folder / "runs" / name)


@pytest.mark.slow
def test_a_mistake_in_a_spawned_process(small: Small) -> None:
    """One line, as from a single process."""
    arguments = small.overrides("trainer.devices=2", "+optimizer.args.speed=3")
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *arguments],
        cwd=small.folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 2, done.stderr
    assert "error: torch.optim.AdamW takes no argument 'speed'; " in done.stderr.splitlines()[-1]
