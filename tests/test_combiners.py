"""Each combiner against loops over NumPy scalars written from the formula in its source."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from nmt_feat.combiners import Add, Average, Combiner, Concat, Gate, NoFeatures
from nmt_feat.errors import UserError

Array = NDArray[np.float64]
Names = ("word", "upos", "deprel", "lemma")
BATCH, TIME, DIM = 2, 3, 6


def numbers(parts: Sequence[Tensor]) -> list[Array]:
    return [part.detach().double().numpy() for part in parts]


# --- the formulas; nothing here knows of nmt_feat ------------------------------------------------


def concat_loop(parts: list[Array]) -> Array:
    """[a; b; c]: first all elements of a, then all of b, then all of c."""
    batch, time, _ = parts[0].shape
    out = np.zeros((batch, time, sum(part.shape[2] for part in parts)))
    for n in range(batch):
        for t in range(time):
            place = 0
            for part in parts:
                for d in range(part.shape[2]):
                    out[n, t, place] = part[n, t, d]
                    place += 1
    return out


def sum_loop(parts: list[Array], divisor: float = 1.0) -> Array:
    """(a + b + c) / divisor, element by element."""
    out = np.zeros_like(parts[0])
    for n, t, d in np.ndindex(*out.shape):
        for part in parts:
            out[n, t, d] += part[n, t, d] / divisor
    return out


def sigmoid_gate_loop(a: Array, b: Array, weight: Array, bias: Array) -> Array:
    """g = sigmoid(W [a; b] + c); g * a + (1 - g) * b."""
    out = np.zeros_like(a)
    dim = a.shape[2]
    for n, t, d in np.ndindex(*out.shape):
        logit = bias[d]
        for j in range(dim):
            logit += weight[d, j] * a[n, t, j]
            logit += weight[d, dim + j] * b[n, t, j]
        g = 1.0 / (1.0 + math.exp(-logit))
        out[n, t, d] = g * a[n, t, d] + (1.0 - g) * b[n, t, d]
    return out


def softmax_gate_loop(parts: list[Array], weight: Array, bias: Array) -> Array:
    """Per element d a softmax over the parts; logits of part i are W_i [parts] + c_i, last 0."""
    out = np.zeros_like(parts[0])
    count, dim = len(parts), parts[0].shape[2]
    for n, t, d in np.ndindex(*out.shape):
        logits = []
        for i in range(count - 1):
            logit = bias[i * dim + d]
            for k in range(count):
                for j in range(dim):
                    logit += weight[i * dim + d, k * dim + j] * parts[k][n, t, j]
            logits.append(logit)
        logits.append(0.0)
        total = sum(math.exp(logit) for logit in logits)
        for logit, part in zip(logits, parts, strict=True):
            out[n, t, d] += math.exp(logit) / total * part[n, t, d]
    return out


# -------------------------------------------------------------------------------------------------


def build(cls: Callable[..., Combiner], count: int) -> tuple[Combiner, list[Tensor]]:
    """A combiner of `count` parts and inputs for it, no two parts alike in any statistic."""
    generator = torch.Generator().manual_seed(count)
    preferred = dict(zip(Names, (DIM, 1, 2, 1), strict=True))
    combiner = cls({name: preferred[name] for name in Names[:count]}, DIM).double()
    for parameter in combiner.parameters():  # no symmetry left by the initialisation either
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    parts = [
        torch.randn(BATCH, TIME, width, generator=generator, dtype=torch.float64) * (i + 1) + 3 * i
        for i, width in enumerate(combiner.widths.values())
    ]
    return combiner, parts


def formula(combiner: Combiner, parts: list[Tensor]) -> Array:
    """What `combiner` should give, by the loops."""
    arrays = numbers(parts)
    match combiner:
        case Concat():
            return concat_loop(arrays)
        case Add():
            return sum_loop(arrays)
        case Average():
            return sum_loop(arrays, divisor=len(arrays))
        case Gate():
            weight, bias = numbers([combiner.logits.weight, combiner.logits.bias])
            return softmax_gate_loop(arrays, weight, bias)
        case _:
            return arrays[0]


METHODS = [Concat, Add, Average, Gate]


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("cls", METHODS)
def test_formula(cls: type[Combiner], count: int) -> None:
    combiner, parts = build(cls, count)
    out = combiner(parts)
    assert out.shape == (BATCH, TIME, DIM)
    np.testing.assert_allclose(numbers([out])[0], formula(combiner, parts), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("cls", METHODS)
def test_swapped_parts_give_another_result_where_order_has_meaning(
    cls: type[Combiner], count: int
) -> None:
    combiner, parts = build(cls, count)
    if cls is Concat:
        parts = [part[..., :1] for part in parts]
    swapped = [parts[1], parts[0], *parts[2:]]
    same = torch.allclose(combiner(parts), combiner(swapped))
    assert same == (cls in (Add, Average))


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("cls", METHODS)
def test_gradients(cls: type[Combiner], count: int) -> None:
    combiner, parts = build(cls, count)
    # small inputs, so that no gate is saturated and no gradient vanishes
    values = [(part[:1, :2] / 10).requires_grad_() for part in parts]
    values += [parameter.data.clone().requires_grad_() for parameter in combiner.parameters()]
    names = [name for name, _ in combiner.named_parameters()]

    def call(*values: Tensor) -> Tensor:
        state = dict(zip(names, values[count:], strict=True))
        return torch.func.functional_call(combiner, state, (values[:count],))

    assert torch.autograd.gradcheck(call, values)


def test_gate_gradient_by_hand() -> None:
    """The formula's derivatives at one element, asymmetric: dg = g (1 - g) (a - b)."""
    gate = Gate({"word": 1, "upos": 1}, 1).double()
    gate.logits.weight.data = torch.tensor([[0.7, -0.3]], dtype=torch.float64)
    gate.logits.bias.data = torch.tensor([0.2], dtype=torch.float64)
    a = torch.tensor([[[1.5]]], dtype=torch.float64, requires_grad=True)
    b = torch.tensor([[[-0.5]]], dtype=torch.float64, requires_grad=True)
    gate([a, b]).sum().backward()
    g = 1 / (1 + math.exp(-(0.7 * 1.5 + 0.3 * 0.5 + 0.2)))
    slope = g * (1 - g) * (1.5 + 0.5)
    assert a.grad is not None
    assert b.grad is not None
    assert a.grad.item() == pytest.approx(g + slope * 0.7)
    assert b.grad.item() == pytest.approx(1 - g - slope * 0.3)
    grad = gate.logits.weight.grad
    assert grad is not None
    assert grad.tolist() == [pytest.approx([slope * 1.5, slope * -0.5])]
    assert gate.logits.bias.grad is not None
    assert gate.logits.bias.grad.tolist() == pytest.approx([slope])


def test_gate_of_two_parts_is_the_sigmoid_and_the_softmax() -> None:
    gate, parts = build(Gate, 2)
    assert isinstance(gate, Gate)
    weight, bias = numbers([gate.logits.weight, gate.logits.bias])
    by_sigmoid = sigmoid_gate_loop(*numbers(parts), weight, bias)
    weights = gate.weights(parts)
    by_softmax = (weights * torch.stack(parts, dim=-2)).sum(-2)
    np.testing.assert_allclose(numbers([gate(parts)])[0], by_sigmoid, rtol=1e-12)
    np.testing.assert_allclose(numbers([by_softmax])[0], by_sigmoid, rtol=1e-12)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_gate_weights_sum_to_one(count: int) -> None:
    gate, parts = build(Gate, count)
    assert isinstance(gate, Gate)
    weights = gate.weights([part / 10 for part in parts])
    assert weights.shape == (BATCH, TIME, count, DIM)
    assert bool((weights > 0).all())
    torch.testing.assert_close(weights.sum(-2), torch.ones(BATCH, TIME, DIM, dtype=torch.float64))


@pytest.mark.parametrize("count", [2, 3])
def test_gate_bias_shifts_towards_the_first_parts(count: int) -> None:
    parts = dict.fromkeys(Names[:count], DIM)
    zeros = [torch.zeros(1, 1, DIM) for _ in parts]
    shares = []
    for bias in (0.0, 1.5):
        gate = Gate(parts, DIM, bias=bias)
        assert set(gate.logits.bias.tolist()) == {bias}
        weights = gate.weights(zeros)[0, 0, :, 0].tolist()
        first = math.exp(bias) / ((count - 1) * math.exp(bias) + 1)
        assert weights == pytest.approx([first] * (count - 1) + [first / math.exp(bias)])
        shares.append(weights[-1])
    assert all(later < earlier for earlier, later in pairwise(shares))


def test_gate_starts_as_glorot_says() -> None:
    torch.manual_seed(1)
    gate = Gate({"word": 64, "upos": 64}, 64)
    bound = math.sqrt(6 / (128 + 64))
    largest = gate.logits.weight.abs().max().item()
    assert bound * 0.99 < largest <= bound


def test_no_features_ignores_all_but_the_word() -> None:
    combiner = NoFeatures({"word": 4, "upos": 4}, DIM)
    assert combiner.widths == {"word": DIM}
    word = torch.randn(BATCH, TIME, DIM)
    assert combiner([word]) is word


def test_average_is_add_of_tables_divided_by_the_number_of_parts() -> None:
    ids = torch.tensor([[1, 0, 3], [2, 2, 1]])
    tables = [torch.randn(5, DIM), torch.randn(5, DIM) + 1]
    parts = {"word": DIM, "upos": DIM}
    averaged = Average(parts, DIM)([table[ids] for table in tables])
    added = Add(parts, DIM)([(table / 2)[ids] for table in tables])
    torch.testing.assert_close(averaged, added)


def test_widths() -> None:
    parts = {"word": 512, "upos": 12}
    assert Concat(parts, 512).widths == {"word": 500, "upos": 12}
    # Sennrich & Haddow (2016): 360 + 5 + 115 + 10 + 10 = 500
    sennrich = {"word": 500, "subword_tag": 5, "lemma": 115, "upos": 10, "deprel": 10}
    assert Concat(sennrich, 500).widths == sennrich | {"word": 360}
    for cls in (Add, Average, Gate):
        assert cls(parts, 256).widths == {"word": 256, "upos": 256}
    assert list(Concat(sennrich, 500).widths) == list(sennrich)


@pytest.mark.parametrize(
    ("cls", "parts", "dim", "message"),
    [
        (
            Concat,
            {"word": 8, "upos": 5, "lemma": 3},
            8,
            "concat leaves the word 0 of the model's width 8: upos 5 + lemma 3 = 8; "
            "make features.<name>.dim smaller or model.dim larger",
        ),
        (
            Concat,
            {"word": 8, "lemma": 12},
            8,
            "concat leaves the word -4 of the model's width 8: lemma 12 = 12; "
            "make features.<name>.dim smaller or model.dim larger",
        ),
        (
            Gate,
            {"word": 8},
            8,
            "gate needs a feature beside the word; for words only: combiner=none",
        ),
        (Add, {}, 8, "a combiner needs at least one part, the word's embedding"),
    ],
)
def test_errors(cls: type[Combiner], parts: dict[str, int], dim: int, message: str) -> None:
    with pytest.raises(UserError) as error:
        cls(parts, dim)
    assert str(error.value) == message


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("cls", METHODS)
def test_dtypes(cls: type[Combiner], dtype: torch.dtype, count: int) -> None:
    combiner, parts = build(cls, count)
    out = combiner.to(dtype)([part.to(dtype) for part in parts])
    assert out.dtype == dtype
    tolerance = 1e-5 if dtype.itemsize > 2 else 0.1  # parts have values up to about 20
    expected = torch.from_numpy(formula(combiner.double(), [p.to(dtype) for p in parts]))
    torch.testing.assert_close(out.double(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("cls", METHODS)
def test_autocast(cls: type[Combiner], count: int) -> None:
    combiner, parts = build(cls, count)
    combiner = combiner.float()
    values = [(part / 10).float().requires_grad_() for part in parts]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = combiner(values)
    out.sum().backward()
    torch.testing.assert_close(out.float(), combiner(values), rtol=0.05, atol=0.05)
    assert all(value.grad is not None and value.grad.isfinite().all() for value in values)


@pytest.mark.parametrize("cls", METHODS)
def test_alone(cls: type[Combiner]) -> None:
    """Position-wise, on tensors from anywhere: a batch of one place, or parts of a whole batch."""
    combiner, parts = build(cls, 3)
    whole = combiner(parts)
    for n in range(BATCH):
        for t in range(TIME):
            one = combiner([part[n : n + 1, t : t + 1] for part in parts])
            torch.testing.assert_close(one, whole[n : n + 1, t : t + 1])


def test_a_combiner_of_ones_own() -> None:
    class Product(Combiner):
        def forward(self, parts: Sequence[Tensor]) -> Tensor:
            return torch.stack(list(parts)).prod(dim=0)

    combiner, parts = build(Product, 3)
    torch.testing.assert_close(combiner(parts), parts[0] * parts[1] * parts[2])


def test_the_base_has_no_method() -> None:
    with pytest.raises(NotImplementedError):
        Combiner({"word": 4}, 4)([torch.zeros(1, 1, 4)])
