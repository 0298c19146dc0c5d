"""Composition of units: values by NumPy loops, padding, gradients, each token once, whole runs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nmt_feat.combiners import Add
from nmt_feat.data.batches import collate
from nmt_feat.data.identity import hash_cache
from nmt_feat.data.store import EncodedSplit
from nmt_feat.embedders.categorical import make_table
from nmt_feat.embedders.ids import END, UNITS, UNK
from nmt_feat.errors import UserError
from nmt_feat.features import CharCNN, Max, Mean
from nmt_feat.features.choice import choose_kind
from nmt_feat.model.embedding import SourceEmbedding, sinusoidal_positions
from tests.support.entry import call
from tests.support.small import Small, outcome, record
from tests.support.splits import Encoded, split_of
from tests.support.stops import stop

ROWS = [[3], [4, 5, 3, 6], [6, 6], [UNK], [7, 3, 4, 5, 6, 7, 3]]
SIZE, DIM = 8, 6
KINDS: dict[str, dict[str, Any]] = {
    "mean": {},
    "max": {},
    "cnn": {"highway": False},
    "highway": {},
    "lstm": {"highway": False, "lstm": 3},
    "park": {"lstm": 3},
}
SMALL = {"unit_dim": 4, "widths": (1, 2, 3, 6), "filters": (2, 3, 1, 2)}


def made(kind: str, size: int = SIZE, dim: int = DIM, std: float = 0.5) -> Mean | CharCNN:
    torch.manual_seed(1)
    if kind in ("mean", "max"):
        return {"mean": Mean, "max": Max}[kind](size, dim, std).double()
    return CharCNN(size, dim, std, **SMALL, **KINDS[kind]).double()


def padded(rows: list[list[int]], columns: int) -> Tensor:
    return torch.tensor([row + [0] * (columns - len(row)) for row in rows])


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def numbers(feature: torch.nn.Module) -> dict[str, np.ndarray]:
    return {name: value.detach().numpy() for name, value in feature.named_parameters()}


def highway(w: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    change = np.maximum(0, w["highway.change.weight"] @ x + w["highway.change.bias"])
    t = sigmoid(w["highway.gate.weight"] @ x + w["highway.gate.bias"])
    return t * change + (1 - t) * x


def lstm(w: dict[str, np.ndarray], name: str, inputs: list[np.ndarray]) -> np.ndarray:
    """The last state, by the equations of Hochreiter & Schmidhuber with a forget gate."""
    h = c = np.zeros(w[f"{name}.weight_hh_l0"].shape[1])
    for x in inputs:
        gates = w[f"{name}.weight_ih_l0"] @ x + w[f"{name}.bias_ih_l0"]
        gates = gates + w[f"{name}.weight_hh_l0"] @ h + w[f"{name}.bias_hh_l0"]
        i, f, g, o = np.split(gates, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
    return h


def expected(feature: torch.nn.Module, kind: str, row: list[int]) -> np.ndarray:
    """The vector of a token with these units, by loops."""
    w = numbers(feature)
    units = [w["table.weight"][i] for i in row]
    if kind == "mean":
        return sum(units) / len(units)
    if kind == "max":
        return np.array([max(unit[d] for unit in units) for d in range(DIM)])
    columns = []  # of filters, for each unit
    for at in range(len(units)):
        column = []
        for number, width in enumerate(SMALL["widths"]):
            weight = w[f"convolutions.{number}.weight"]
            for f in range(len(weight)):
                total = w[f"convolutions.{number}.bias"][f]
                for k in range(width):
                    position = at + k - (width - 1) // 2
                    if 0 <= position < len(units):
                        total += weight[f, :, k] @ units[position]
                column.append(math.tanh(total))
        columns.append(np.array(column))
    if kind in ("lstm", "park"):
        if kind == "park":
            columns = [highway(w, column) for column in columns]
        result = np.concatenate(
            [lstm(w, "lstm.forth", columns), lstm(w, "lstm.back", columns[::-1])]
        )
    else:
        result = np.max(columns, axis=0)
        if kind == "highway":
            result = highway(w, result)
    return w["projection.weight"] @ result + w["projection.bias"]


@pytest.mark.parametrize("kind", KINDS)
def test_values(kind: str) -> None:
    feature = made(kind)
    result = feature(padded(ROWS, 7)).detach().numpy()
    for row, values in zip(ROWS, result, strict=True):
        np.testing.assert_allclose(values, expected(feature, kind, row), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_nothing(kind: str) -> None:
    feature = made(kind)
    together = feature(padded([*ROWS, []], 19))
    for row, values in zip(ROWS, together, strict=False):
        alone = feature(torch.tensor([row]))
        torch.testing.assert_close(alone[0], values, rtol=1e-12, atol=1e-14)
    assert torch.equal(together[-1], torch.zeros(DIM, dtype=torch.float64))


@pytest.mark.parametrize("kind", KINDS)
def test_gradients(kind: str) -> None:
    feature = made(kind)
    names = [name for name, _ in feature.named_parameters()]
    values = [value.detach().clone().requires_grad_() for value in feature.parameters()]

    def compose(*weights: Tensor) -> Tensor:
        output: Tensor = torch.func.functional_call(
            feature, dict(zip(names, weights, strict=True)), (padded(ROWS[:3], 5),)
        )
        return output

    # The row of padding has no gradient by definition, so it is not perturbed.
    fixed = [v.detach() if n == "table.weight" else v for n, v in zip(names, values, strict=True)]
    if any(value.requires_grad for value in fixed):
        assert torch.autograd.gradcheck(compose, fixed, fast_mode=True)
    feature.zero_grad()
    feature(padded(ROWS[:2], 9)).pow(2).sum().backward()
    gradient = feature.table.weight.grad
    assert gradient is not None
    assert gradient.abs().sum(1).nonzero().flatten().tolist() == [3, 4, 5, 6]


def test_gradients_of_many_words_in_bf16() -> None:
    """A token's vector gets those of all words that it stands with, such as unknown ones."""
    torch.manual_seed(1)
    feature = CharCNN(SIZE, DIM, 0.5)
    words = make_table(603, DIM, 0.5)
    embedding = SourceEmbedding(words, {"char": feature}, Add({"word": 1, "char": 1}, DIM), 0.0)
    rows = {"char": torch.full((1, 600), UNK), "char" + UNITS: torch.tensor([[0], [UNK], [END]])}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        embedded = embedding(torch.arange(3, 603)[None], rows)
    embedded.sum().backward()
    gradient = feature.projection.bias.grad
    assert gradient is not None
    torch.testing.assert_close(gradient, torch.full((DIM,), 600 * DIM**0.5), rtol=0.01, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_special_values_are_their_own(kind: str) -> None:
    pad, unknown, end, letter = made(kind)(padded([[], [UNK], [END], [3]], 2))
    assert not pad.any()
    for one, second in ((unknown, end), (unknown, letter), (end, letter)):
        assert not torch.equal(one, second)


def test_scale_at_the_start() -> None:
    torch.manual_seed(0)
    rows = torch.randint(1, 300, (500, 6))
    for kind in KINDS:
        std = float(made(kind, 300, 128, 0.1)(rows).detach().std())
        assert 0.01 < std < 0.15, kind


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"widths": [1, 2]},
            "widths=[1, 2], filters=[25, 50, 75, 100]: give one width or more, each "
            "at least 1, and a number of filters for each",
        ),
        (
            {"widths": [], "filters": []},
            "widths=[], filters=[]: give one width or more, each at least 1, "
            "and a number of filters for each",
        ),
        (
            {"widths": [0], "filters": [3]},
            "widths=[0], filters=[3]: give one width or more, each at least 1, "
            "and a number of filters for each",
        ),
        (
            {"widths": [2], "filters": [0]},
            "filters=[0], unit_dim=50, lstm=0: filters and unit_dim must be at least 1, lstm at "
            "least 0",
        ),
        (
            {"widths": [2], "filters": [4], "lstm": -1},
            "filters=[4], unit_dim=50, lstm=-1: filters and unit_dim must be at least 1, lstm at "
            "least 0",
        ),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        CharCNN(9, 4, 0.1, **settings)
    assert str(error.value) == message


# ---- from the store to the embedding layer

A, B, C = (3,), (4, 5, 6), (7,) * 9


def split() -> EncodedSplit:
    rows = [[A, B, (END,)], [(END,)], [B, A, (UNK,), B, (END,)], [C, (END,)]]
    source = [Encoded([*range(5, 4 + len(row)), 3], {"jamo": row}) for row in rows]
    return split_of(source, [[3]] * 4, [""] * 4, [""] * 4)


@pytest.mark.parametrize("stored", [False, True])
def test_distinct_tokens_are_stored_once(stored: bool, tmp_path: Path) -> None:
    data_split = split()
    if stored:
        data_split.save(tmp_path / "0.arrow")
        data_split = EncodedSplit.open(tmp_path / "0.arrow")
    assert data_split.features["jamo"].tolist() == [3, 4, END, END, 4, 3, UNK, 4, END, 5, END]
    units = data_split.units["jamo"]
    assert [tuple(units.row(i).tolist()) for i in range(len(units.offsets) - 1)] == [A, B, C]


def test_a_batch_has_its_own_tokens() -> None:
    batch = collate(split(), np.array([2, 1]), ["jamo"])
    assert batch.features["jamo"].tolist() == [[4, 3, UNK, 4, END], [END, 0, 0, 0, 0]]
    units = batch.features["jamo" + UNITS]
    assert units.shape == (64, 4)
    assert units[:6].tolist() == [
        [0] * 4,
        [1, 0, 0, 0],
        [2, 0, 0, 0],
        [3, 0, 0, 0],
        [4, 5, 6, 0],
        [0] * 4,
    ]
    assert not units[5:].any()
    assert not units[:, 3].any()
    batch = collate(split(), np.array([1]), ["jamo"])
    assert batch.features["jamo"].tolist() == [[END]]
    assert batch.features["jamo" + UNITS].shape == (64, 4)
    assert collate(split(), np.array([3]), ["jamo"]).features["jamo" + UNITS].shape == (64, 12)
    assert collate(split(), np.array([3]), []).features == {}


def test_embedding_composes_each_token_once() -> None:
    torch.manual_seed(0)
    feature = made("park").float()
    embedding = SourceEmbedding(
        make_table(12, DIM, 1.0), {"jamo": feature}, Add({"word": DIM, "jamo": DIM}, DIM), 0.0
    )
    composed = []
    feature.register_forward_hook(lambda module, args, out: composed.append(args[0]))
    batch = collate(split(), np.array([2, 0]), ["jamo"])
    result = embedding(batch.source, batch.features)
    (units,) = composed
    assert len({tuple(row) for row in units[:5].tolist()}) == 5
    flat = [[4, 5, 6], [3], [UNK], [4, 5, 6], [END]]
    alone = feature(padded(flat, 3)) + embedding.words(batch.source[0])
    second_batch = collate(split(), np.array([2]), ["jamo"])
    plain = embedding(second_batch.source, second_batch.features)
    torch.testing.assert_close(result[0], plain[0])
    expected = alone * math.sqrt(DIM)
    torch.testing.assert_close(result[0], expected + sinusoidal_positions(0, 5, DIM, expected))


# ---- runs

FAST = ("model.dim=32", "trainer.max_steps=4")


@pytest.fixture
def units(small: Small) -> tuple[str, ...]:
    """Settings of a run with two features of units, small ones."""
    return (
        *FAST,
        "features=[jamo,char,upos]",
        "+features.jamo.args={unit_dim: 8, widths: [1, 2], filters: [4, 4], lstm: 3}",
        "features.char._target_=nmt_feat.features.Max",
        "features.char.of=word",
    )


SLOW = pytest.mark.slow


@pytest.mark.thorough
@pytest.mark.parametrize(
    "combiner", ["concat", *(pytest.param(c, marks=SLOW) for c in ("add", "average", "gate"))]
)
def test_whole_path(combiner: str, small: Small, units: tuple[str, ...], tmp_path: Path) -> None:
    """Training, translation of text and of CoNLL-U, forced scoring of what was found."""
    folder = small.train(f"combiner={combiner}", *units)
    assert record(folder)["features"] == ["char", "jamo", "upos"]
    source = small.corpus / "test.conllu"
    done = call("translate", f"run={folder}", f"input={source}", "nbest=2")
    assert done.code == 0, done.err
    result = [line.split(" ||| ") for line in done.out.splitlines()]
    assert len(result) == 16
    (tmp_path / "found").write_text("".join(f"{text}\n" for _, text, _ in result[::2]))
    done = call("score", f"run={folder}", f"source={source}", f"target={tmp_path / 'found'}")
    assert done.code == 0, done.err
    assert len(done.out.splitlines()) == 8
    assert all(float(line.split("\t")[0]) < 0 for line in done.out.splitlines())


@pytest.mark.thorough
def test_text_needs_no_annotation(small: Small, tmp_path: Path) -> None:
    """A run with units alone reads plain text, with characters that training did not have."""
    folder = small.train(*FAST, "combiner=add", "features=[jamo,ngram]")
    (tmp_path / "text").write_text("나는 학교에 간다 ㅋㅋ\n\nI saw her duck.\n", encoding="utf-8")
    done = call("translate", f"run={folder}", f"input={tmp_path / 'text'}")
    assert done.code == 0, done.err
    assert len(done.out.splitlines()) == 3


@pytest.mark.thorough
def test_resume_is_exact(small: Small, units: tuple[str, ...]) -> None:
    settings = ("combiner=gate", *units)
    stop(small, *settings, update=2)
    assert outcome(small.train(*settings)) == small.whole(*settings)


def test_units_determine_the_prepared_data(small: Small) -> None:
    results = set()
    for change in ("of=word", "n=2", "column=char", "of=piece"):
        cfg = small.config("features=[ngram]", f"features.ngram.{change}")
        results.add(hash_cache(cfg, cfg.features))
    assert len(results) == 4


def test_units_cannot_be_exported(small: Small, units: tuple[str, ...]) -> None:
    jamo = small.config("combiner=add", *units).features["jamo"]
    with pytest.raises(UserError) as error:
        choose_kind("jamo", jamo).check_exportable()
    assert str(error.value) == "features.jamo: units cannot be exported; use engine=native"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "column=upos",
            "nmt_feat.features.CharCNN: cannot embed column=upos; its _target_ is Categorical of "
            "nmt_feat.features",
        ),
        (
            "_target_=nmt_feat.features.Categorical",
            "nmt_feat.features.Categorical: cannot embed column=jamo; its _target_ is CharCNN, "
            "Mean, Max or Sum of nmt_feat.features",
        ),
    ],
)
def test_kinds_that_do_not_fit(change: str, message: str, small: Small) -> None:
    done = call("train", *small.overrides("features=[jamo]", f"features.jamo.{change}"))
    assert (done.code, done.err) == (2, f"error: {message}\n")
