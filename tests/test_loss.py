"""The fused loss against PyTorch's own and against NumPy loops written from the formula."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from nmt_feat.model import loss as module
from nmt_feat.model.loss import fused_loss, plain_loss

Loss = Callable[[Tensor, Tensor, Tensor, float], tuple[Tensor, Tensor]]
Array = NDArray[np.float64]
COUNT, SIZE, DIM = 7, 11, 5
SMOOTHING = [0.0, 0.1, 0.37, 1.0]
CHUNKS = [
    4,
    8 * SIZE,
    12 * SIZE + 20,
    2**23,
]  # rows in fp32: 1, 2, 3 (7 = 3 + 3 + 1), all


def inputs(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    hidden = torch.randn(COUNT, DIM, generator=generator, dtype=torch.float64)
    table = torch.randn(SIZE, DIM, generator=generator, dtype=torch.float64)
    target = torch.tensor([4, 1, 10, 4, 2, 0, 9])
    return hidden.to(dtype).requires_grad_(), table.to(dtype).requires_grad_(), target


def loops(
    hidden: Array, table: Array, target: list[int], smoothing: float
) -> tuple[float, float, Array, Array]:
    """Loss, negative log-likelihood, and the loss's gradients, one number at a time."""
    loss, nll = 0.0, 0.0
    hidden_grad, table_grad = np.zeros_like(hidden), np.zeros_like(table)
    size = len(table)
    for n, right in enumerate(target):
        logits = [sum(h * w for h, w in zip(hidden[n], row, strict=True)) for row in table]
        total = sum(math.exp(logit) for logit in logits)
        for v in range(size):
            probability = math.exp(logits[v]) / total
            wanted = smoothing / size + (1 - smoothing if v == right else 0.0)
            loss -= wanted * math.log(probability)
            nll -= math.log(probability) if v == right else 0.0
            for d in range(hidden.shape[1]):
                hidden_grad[n, d] += (probability - wanted) * table[v, d]
                table_grad[v, d] += (probability - wanted) * hidden[n, d]
    return loss, nll, hidden_grad, table_grad


@pytest.mark.parametrize("smoothing", SMOOTHING)
@pytest.mark.parametrize("function", [plain_loss, fused_loss])
def test_formula(function: Loss, smoothing: float) -> None:
    hidden, table, target = inputs()
    loss, nll = function(hidden, table, target, smoothing)
    loss.backward()
    expected = loops(hidden.detach().numpy(), table.detach().numpy(), target.tolist(), smoothing)
    assert loss.item() == pytest.approx(expected[0], rel=1e-6)
    assert nll.item() == pytest.approx(expected[1], rel=1e-6)
    assert hidden.grad is not None
    assert table.grad is not None
    np.testing.assert_allclose(hidden.grad.numpy(), expected[2], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(table.grad.numpy(), expected[3], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("smoothing", SMOOTHING)
def test_fused_equals_plain(smoothing: float, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK_BYTES", chunk)
    results = []
    for function in (plain_loss, fused_loss):
        hidden, table, target = inputs(torch.float32)
        loss, nll = function(hidden, table, target, smoothing)
        assert loss.shape == nll.shape == ()
        assert not nll.requires_grad
        (loss * 3).backward()  # a scale from outside, as gradient accumulation has
        results.append((loss.detach(), nll, hidden.grad, table.grad))
    torch.testing.assert_close(results[1], results[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("chunk", CHUNKS)
def test_tied_table_used_twice(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table embeds and scores: both uses add to one gradient."""
    monkeypatch.setattr(module, "CHUNK_BYTES", chunk)
    gradients = []
    for function in (plain_loss, fused_loss):
        _, table, target = inputs()
        hidden = torch.tanh(table[target.flip(0)] * 1.3)
        function(hidden, table, target, 0.1)[0].backward()
        gradients.append(table.grad)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-6, atol=1e-6)


def test_numerical_gradient() -> None:
    hidden, table, target = inputs()

    def call(hidden: Tensor, table: Tensor) -> Tensor:
        return fused_loss(hidden, table, target, 0.1)[0]

    # the loss itself is fp32, so wide steps
    assert torch.autograd.gradcheck(call, (hidden, table), eps=1e-2, atol=2e-2, rtol=2e-2)


def test_large_logits() -> None:
    """No overflow where the sum of exponentials would have one."""
    hidden = torch.tensor([[100.0], [-100.0]], requires_grad=True)
    table = torch.tensor([[3.0], [0.0], [-3.0]], requires_grad=True)
    loss, nll = fused_loss(hidden, table, torch.tensor([0, 1]), 0.0)
    loss.backward()
    assert nll.item() == pytest.approx(300.0)
    assert hidden.grad is not None
    assert bool(hidden.grad.isfinite().all())


@pytest.mark.parametrize("scale", [1.0, 40.0, -40.0])
def test_large_logits_in_bf16(scale: float) -> None:
    """All logits of a row large or small: the sum of exponentials overflows, or vanishes."""
    results = []
    for function in (plain_loss, fused_loss):
        hidden = torch.tensor([[scale], [0.5]], requires_grad=True)
        table = torch.tensor([[4.0], [3.0], [3.5]], requires_grad=True)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss, nll = function(hidden, table, torch.tensor([0, 1]), 0.1)
        loss.backward()
        results.append((loss.detach(), nll, hidden.grad, table.grad))
    torch.testing.assert_close(results[1], results[0], rtol=0.02, atol=0.02)


@pytest.mark.parametrize("function", [plain_loss, fused_loss])
def test_autocast(function: Loss) -> None:
    hidden, table, target = inputs(torch.float32)
    exact = fused_loss(hidden, table, target, 0.1)[0].item()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, nll = function(hidden, table, target, 0.1)
    assert loss.dtype == nll.dtype == torch.float32
    loss.backward()
    assert hidden.grad is not None
    assert hidden.grad.dtype == torch.float32
    assert loss.item() == pytest.approx(exact, rel=0.02)


def test_perplexity_of_a_uniform_model() -> None:
    _, nll = fused_loss(torch.zeros(4, DIM), torch.ones(SIZE, DIM), torch.arange(4), 0.1)
    assert math.exp(nll.item() / 4) == pytest.approx(SIZE)
