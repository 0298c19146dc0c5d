"""Each combiner against loops over numbers written from the formula in its source."""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from nmt_feat.combiners import Add, Average, Combiner, DynamicSwitch, Gate, NoFeatures, WordGate
from tests.support.formulas import FORMULAS, Array, everywhere
from tests.support.methods import ADDITIVE, ALL, EXAMPLES, METHODS, SHIPPED

Names = ("word", "upos", "deprel", "lemma")
BATCH, TIME, DIM = 2, 3, 6


def numbers(parts: Sequence[Tensor]) -> list[Array]:
    return [part.detach().double().numpy() for part in parts]


def build(name: str, count: int) -> tuple[Combiner, list[Tensor]]:
    """A combiner of `count` parts and inputs for it, no two parts alike in any statistic."""
    generator = torch.Generator().manual_seed(count)
    preferred = dict(zip(Names, (DIM, 1, 2, 1), strict=True))
    if name == "mixed":  # a lemma that is wide enough for the gate
        preferred = dict(zip(Names, (8, 1, 1, 2), strict=True))
    dim = preferred["word"]
    combiner = ALL[name]({name: preferred[name] for name in Names[:count]}, dim).double()
    for parameter in combiner.parameters():  # no symmetry left by the initialisation either
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    parts = [
        torch.randn(BATCH, TIME, width, generator=generator, dtype=torch.float64) * (i + 1) + 3 * i
        for i, width in enumerate(combiner.widths.values())
    ]
    if name in ("dme", "dme_sigmoid", "additive_gate"):  # and no weight of 0 or 1
        parts = [part / 5 for part in parts]
    return combiner, parts


def formula(name: str, combiner: Combiner, parts: list[Tensor]) -> Array:
    """What `combiner` should give, by the loops."""
    weights = {key: numbers([value])[0] for key, value in combiner.state_dict().items()}
    return everywhere(name, numbers(parts), weights)


def test_every_method_has_a_formula() -> None:
    assert set(FORMULAS) == {*ALL, *SHIPPED}


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("name", ALL)
def test_formula(name: str, count: int) -> None:
    combiner, parts = build(name, count)
    out = combiner(parts)
    assert out.shape == (BATCH, TIME, combiner.model_dim)
    expected = formula(name, combiner, parts)
    np.testing.assert_allclose(numbers([out])[0], expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("name", ALL)
def test_swapped_parts_give_another_result_where_order_has_meaning(name: str, count: int) -> None:
    """The first and the last part; where these have other widths, their embeddings as well."""
    combiner, parts = build(name, count)
    widths = list(combiner.widths.values())
    swapped = [parts[-1], *parts[1:-1], parts[0]]
    if widths[0] != widths[-1]:
        narrow = [
            part[..., :1].expand(-1, -1, width) for part, width in zip(parts, widths, strict=True)
        ]
        swapped = [
            part.roll(1, dims=0) if i in (0, count - 1) else part for i, part in enumerate(narrow)
        ]
        parts = narrow
    same = torch.allclose(combiner(parts), combiner(swapped))
    assert same == (name in ("add", "average"))


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("name", ALL)
def test_every_part_counts(name: str, count: int) -> None:
    """A change of any element of any part shows."""
    combiner, parts = build(name, count)
    if name == "mlp":
        combiner.get_parameter("project.bias").data += 100  # else some are cut off at 0
    whole = combiner(parts)
    for i, part in enumerate(parts):
        for d in range(part.shape[-1]):
            changed = part.clone()
            changed[..., d] += 0.5
            changed_output = combiner([*parts[:i], changed, *parts[i + 1 :]])
            if name == "attention" and count == 2 and i == 0:
                continue  # the word is in the sum, and in no weight
            assert bool((changed_output != whole).any(dim=-1).all())


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("name", ALL)
def test_gradients(name: str, count: int) -> None:
    combiner, parts = build(name, count)
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


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("name", ["gate", "word_gate"])
def test_convex_gates(name: str, count: int) -> None:
    """Their weights sum to 1, and are those of the result: two parts take a way of their own."""
    gate, parts = build(name, count)
    parts = [part / 10 for part in parts]
    assert isinstance(gate, Gate | WordGate)
    weights = gate.weights_of(parts)
    assert weights.shape == (BATCH, TIME, count, DIM)
    assert bool((weights > 0).all())
    torch.testing.assert_close(weights.sum(-2), torch.ones(BATCH, TIME, DIM, dtype=torch.float64))
    torch.testing.assert_close(gate(parts), (weights * torch.stack(parts, dim=-2)).sum(-2))


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("name", ALL)
def test_what_each_part_adds(name: str, count: int) -> None:
    """The sum is the result, but for the bias of a projection; other methods say that it is not."""
    combiner, parts = build(name, count)
    added, weights = combiner.contributions_of(parts), combiner.weights_of(parts)
    gates = ("gate", "dynamic_switch", "word_gate", "additive_gate", "dme", "dme_sigmoid")
    assert (weights is not None) == (name in gates)
    assert (added is None) == (name in ("mlp", "mixed", *EXAMPLES))
    if weights is not None:
        assert weights.shape == (BATCH, TIME, count, 1 if name.startswith("dme") else DIM)
    if added is not None:
        assert added.shape == (BATCH, TIME, count, DIM)
        bias = combiner.get_parameter("project.bias") if name == "concat_project" else 0
        torch.testing.assert_close(added.sum(-2) + bias, combiner(parts))
        # What a part adds is nothing where the part is nothing, but for DME's own biases.
        if not name.startswith("dme"):
            silent = [*parts[:-1], torch.zeros_like(parts[-1])]
            last = combiner.contributions_of(silent)
            assert last is not None
            assert not last[..., -1, :].any()


# --- the same functions under two names ----------------------------------------------------------


def test_average_is_add_of_tables_divided_by_the_number_of_parts() -> None:
    ids = torch.tensor([[1, 0, 3], [2, 2, 1]])
    tables = [torch.randn(5, DIM), torch.randn(5, DIM) + 1]
    parts = {"word": DIM, "upos": DIM}
    averaged = Average(parts, DIM)([table[ids] for table in tables])
    added = Add(parts, DIM)([(table / 2)[ids] for table in tables])
    torch.testing.assert_close(averaged, added)


def test_weighted_sum_starts_as_add() -> None:
    parts = [torch.randn(BATCH, TIME, DIM) for _ in Names]
    widths = dict.fromkeys(Names, DIM)
    torch.testing.assert_close(METHODS["weighted_sum"](widths, DIM)(parts), Add(widths, DIM)(parts))


def test_concat_project_is_add_of_projected_tables() -> None:
    combiner, (a, b, c) = build("concat_project", 3)
    weight, bias = combiner.get_parameter("project.weight"), combiner.get_parameter("project.bias")
    first, second, third = weight.split([DIM, 1, 2], dim=1)
    projected = [a @ first.T + bias, b @ second.T, c @ third.T]
    added = Add(dict.fromkeys(Names[:3], DIM), DIM)(projected)
    torch.testing.assert_close(combiner([a, b, c]), added)


def test_concat_is_add_of_padded_tables() -> None:
    combiner, (a, b) = build("concat", 2)
    padded = [torch.cat([a, torch.zeros_like(b)], -1), torch.cat([torch.zeros_like(a), b], -1)]
    added = Add(dict.fromkeys(Names[:2], DIM), DIM)(padded)
    torch.testing.assert_close(combiner([a, b]), added)


@pytest.mark.parametrize("count", [2, 3])
def test_dynamic_switch_is_gate(count: int) -> None:
    widths = dict.fromkeys(Names[:count], DIM)
    outputs = []
    for cls in (Gate, DynamicSwitch):
        torch.manual_seed(1)
        outputs.append(cls(widths, DIM, bias=0.5))
    parts = [torch.randn(BATCH, TIME, DIM) for _ in widths]
    assert outputs[0](parts).equal(outputs[1](parts))


@pytest.mark.parametrize("count", [2, 3])
def test_word_gate_is_a_gate_without_the_features_columns(count: int) -> None:
    narrow, parts = build("word_gate", count)
    parts = [part / 10 for part in parts]
    full = Gate(dict.fromkeys(Names[:count], DIM), DIM).double()
    weight = torch.cat([torch.zeros(DIM, DIM), narrow.get_parameter("logits.weight")])
    bias = torch.cat([torch.zeros(DIM), narrow.get_parameter("logits.bias")])
    full.logits.weight.data.zero_()
    full.logits.weight.data[:, :DIM] = (weight - weight[-DIM:].repeat(count, 1))[:-DIM]
    full.logits.bias.data = (bias - bias[-DIM:].repeat(count))[:-DIM]
    torch.testing.assert_close(full(parts), narrow(parts))


@pytest.mark.parametrize("name", ALL)
def test_whether_a_feature_does_the_same_to_every_word(name: str) -> None:
    """f(w, x) - f(w, y) depends on w in the gates, DME and MLP, not in sums and concatenations."""
    combiner, (words, tags) = build(name, 2)
    one, two = words[:1], words[1:]
    x, y = tags[:1], tags[1:]
    differences = [combiner([word, x]) - combiner([word, y]) for word in (one, two)]
    # a narrow feature is concatenated by mixed, and attention to one has no choice
    assert torch.allclose(*differences) == (name in (*ADDITIVE, "attention", "mixed"))


# --- how they start ------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 3])
def test_gate_bias_shifts_towards_the_first_parts(count: int) -> None:
    parts = dict.fromkeys(Names[:count], DIM)
    zeros = [torch.zeros(1, 1, DIM) for _ in parts]
    shares = []
    for bias in (0.0, 1.5):
        gate = Gate(parts, DIM, bias=bias)
        assert set(gate.logits.bias.tolist()) == {bias}
        weights = gate.weights_of(zeros)[0, 0, :, 0].tolist()
        first = math.exp(bias) / ((count - 1) * math.exp(bias) + 1)
        assert weights == pytest.approx([first] * (count - 1) + [first / math.exp(bias)])
        shares.append(weights[-1])
    assert all(later < earlier for earlier, later in pairwise(shares))


@pytest.mark.parametrize("bias", [-3.0, 0.0, 2.0])
@pytest.mark.parametrize(
    ("name", "share"),
    [("word_gate", (1, 1)), ("additive_gate", (0, 1)), ("dme_sigmoid", None)],
)
def test_bias_of_the_others(name: str, share: tuple[int, int] | None, bias: float) -> None:
    """Weights at the start are what the docstrings say, all other weights being 0."""
    combiner = METHODS[name]({"word": DIM, "upos": DIM}, DIM, bias=bias)  # type: ignore[call-arg]
    g = 1 / (1 + math.exp(-bias))
    parts = [torch.full((1, 1, DIM), 2.0), torch.full((1, 1, DIM), 3.0)]
    for key, value in combiner.named_parameters():
        if key.endswith("weight"):
            value.data.zero_()
            if key.startswith("project"):
                value.data += torch.eye(DIM)
    expected = 2 * g + 3 * g if share is None else (1 - share[0] * g) * 2 + share[1] * g * 3
    torch.testing.assert_close(combiner(parts), torch.full((1, 1, DIM), expected))


@pytest.mark.parametrize("name", [name for name in METHODS if name != "mixed"])
def test_matrices_start_as_glorot_says(name: str) -> None:
    torch.manual_seed(1)
    width = 8 if "concat" in name else 32 if "relevance" in name else 64
    combiner = METHODS[name]({"word": 64, "upos": width}, 64)
    for key, matrix in combiner.named_parameters():
        if key.endswith("bias"):
            assert not matrix.any()
        elif matrix.ndim == 2 and min(matrix.shape) > 1:
            bound = math.sqrt(6 / sum(matrix.shape))
            assert bound * 0.99 < matrix.abs().max().item() <= bound


# --- anywhere ------------------------------------------------------------------------------------


def test_no_features_ignores_all_but_the_word() -> None:
    combiner = NoFeatures({"word": 4, "upos": 4}, DIM)
    assert combiner.widths == {"word": DIM}
    word = torch.randn(BATCH, TIME, DIM)
    assert combiner([word]) is word


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ALL)
def test_dtypes(name: str, dtype: torch.dtype, count: int) -> None:
    combiner, parts = build(name, count)
    parts = [part / 5 for part in parts]
    out = combiner.to(dtype)([part.to(dtype) for part in parts])
    assert out.dtype == dtype
    tolerance = 1e-5 if dtype.itemsize > 2 else 0.1
    expected = torch.from_numpy(formula(name, combiner.double(), [p.to(dtype) for p in parts]))
    torch.testing.assert_close(out.double(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("composed", [False, True])
@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("name", ALL)
def test_autocast(name: str, count: int, composed: bool) -> None:
    """Tables give float32 there; what layers compose of units or vectors is bfloat16."""
    combiner, parts = build(name, count)
    combiner = combiner.float()
    values = [(part / 10).float() for part in parts]
    if composed:
        values[1:] = [value.bfloat16() for value in values[1:]]
    for value in values:
        value.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = combiner(values)
    out.sum().backward()
    expected = combiner([value.float() for value in values])
    torch.testing.assert_close(out.float(), expected, rtol=0.05, atol=0.05)
    assert all(value.grad is not None and value.grad.isfinite().all() for value in values)


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("name", ALL)
def test_devices(name: str, count: int) -> None:
    """Nothing is made on a device of its own choice."""
    combiner, parts = build(name, count)
    out = combiner.to("meta")([part.to("meta") for part in parts])
    assert out.device.type == "meta"


@pytest.mark.parametrize("name", ALL)
def test_alone(name: str) -> None:
    """Position-wise, on tensors from anywhere: of one place, of a sentence, of any shape."""
    combiner, parts = build(name, 4)
    whole = combiner(parts)
    for n in range(BATCH):
        for t in range(TIME):
            one = combiner([part[n : n + 1, t : t + 1] for part in parts])
            torch.testing.assert_close(one, whole[n : n + 1, t : t + 1])
    torch.testing.assert_close(combiner([part[0] for part in parts]), whole[0])
    torch.testing.assert_close(combiner([part[0, 0] for part in parts]), whole[0, 0])


def test_a_combiner_of_ones_own() -> None:
    class Maximum(Combiner):
        def forward(self, parts: Sequence[Tensor]) -> Tensor:
            return torch.stack(list(parts)).amax(dim=0)

    parts = [torch.randn(BATCH, TIME, DIM) for _ in range(3)]
    combined = Maximum(dict.fromkeys(Names[:3], 1), DIM)(parts)
    torch.testing.assert_close(combined, parts[0].maximum(parts[1]).maximum(parts[2]))


def test_the_base_has_no_method() -> None:
    with pytest.raises(NotImplementedError):
        Combiner({"word": 4}, 4)([torch.zeros(1, 1, 4)])
