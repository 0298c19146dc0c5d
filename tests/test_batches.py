from collections.abc import Callable

import numpy as np
import pytest
import torch

from nmt_feat.data.batches import collate, order_batches, plan_batches
from nmt_feat.data.store import EncodedSplit
from tests.support.splits import Encoded, split_of

BUDGET = 64


def split(lengths: list[tuple[int, int]]) -> EncodedSplit:
    """Sentences with these lengths (EOS included); ids tell sentence and place apart."""
    source, target = [], []
    for i, (s, t) in enumerate(lengths):
        ids = [10 * i + 4 + j for j in range(s - 1)]
        source.append(Encoded([*ids, 3], {"upos": [*(x + 1000 for x in ids), 2]}))
        target.append([*(5 * i + 4 + j for j in range(t - 1)), 3])
    texts = [""] * len(lengths)
    return split_of(source, target, texts, texts)


@pytest.fixture(scope="module")
def random_split() -> EncodedSplit:
    random = np.random.default_rng(0)
    return split([(int(s), int(t)) for s, t in random.integers(1, 20, (500, 2))])


def test_collate_by_hand() -> None:
    batch = collate(split([(3, 2), (1, 1), (2, 4)]), np.array([2, 0, 1]), ["upos"])
    assert batch.indices == [2, 0, 1]
    assert batch.source.tolist() == [[24, 3, 0], [4, 5, 3], [3, 0, 0]]
    assert batch.features["upos"].tolist() == [[1024, 2, 0], [1004, 1005, 2], [2, 0, 0]]
    assert batch.target_in.tolist() == [[2, 14, 15, 16], [2, 4, 0, 0], [2, 0, 0, 0]]
    assert batch.target_out.tolist() == [[14, 15, 16, 3], [4, 3, 0, 0], [3, 0, 0, 0]]
    assert batch.tokens == 7
    assert batch.source_mask.tolist() == [[True, True, False], [True] * 3, [True, False, False]]
    tensors = (batch.source, batch.features["upos"], batch.target_in, batch.target_out)
    assert all(tensor.dtype == torch.int64 for tensor in tensors)


def test_collate_takes_only_the_features_asked_for() -> None:
    assert collate(split([(3, 2)]), np.array([0]), []).features == {}


def test_to_moves_every_tensor() -> None:
    batch = collate(split([(3, 2), (2, 2)]), np.array([0, 1]), ["upos"]).to("meta")
    tensors = (batch.source, *batch.features.values(), batch.target_in, batch.target_out)
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert (batch.indices, batch.tokens) == ([0, 1], 4)


@pytest.mark.parametrize("make", [order_batches, lambda s, n: plan_batches(s, n, seed=1, epoch=0)])
def test_every_sentence_once_within_the_budget(
    make: Callable[[EncodedSplit, int], list[np.ndarray]], random_split: EncodedSplit
) -> None:
    batches = make(random_split, BUDGET)
    assert sorted(np.concatenate(batches).tolist()) == list(range(500))
    cells = []
    for indices in batches:
        longest = max(
            random_split.source_lengths[indices].max(), random_split.target_lengths[indices].max()
        )
        cells.append(len(indices) * longest)
    assert max(cells) <= BUDGET
    assert np.mean(cells) > 0.8 * BUDGET


def test_a_sentence_above_the_budget_is_a_batch_by_itself() -> None:
    data_split = split([(3, 2), (90, 2), (2, 70), (2, 2)])
    for batches in (order_batches(data_split, BUDGET), plan_batches(data_split, BUDGET, 1, 0)):
        result = sorted(sorted(indices.tolist()) for indices in batches)
        assert [1] in result
        assert [2] in result
        assert sorted(i for batch in result for i in batch) == [0, 1, 2, 3]


def test_budget_of_the_target_side(random_split: EncodedSplit) -> None:
    """Batches are as full of target tokens as can be, however long their sources."""
    lengths = random_split.target_lengths
    batches = plan_batches(random_split, BUDGET, 1, 0, by_target=True)
    assert sorted(np.concatenate(batches).tolist()) == list(range(500))
    assert len(batches) < len(plan_batches(random_split, BUDGET, 1, 0))
    cells = [len(indices) * int(lengths[indices].max()) for indices in batches]
    assert max(cells) <= BUDGET
    assert max(len(i) * int(random_split.source_lengths[i].max()) for i in batches) > BUDGET


def test_plan_depends_on_seed_and_epoch_only(random_split: EncodedSplit) -> None:
    def made(seed: int, epoch: int) -> list[list[int]]:
        return [indices.tolist() for indices in plan_batches(random_split, BUDGET, seed, epoch)]

    torch.manual_seed(5)
    np.random.seed(5)
    first = made(1, 0)
    torch.manual_seed(6)
    np.random.seed(6)
    assert made(1, 0) == first
    assert made(2, 0) != first
    assert made(1, 1) != first
    # Not only the order of the batches changes, their sentences do; their number does not.
    assert {frozenset(b) for b in made(1, 1)} != {frozenset(b) for b in first}
    assert len({len(made(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 1
    assert made(2**62, 3)  # seeds may be large


def test_plan_is_the_same_on_every_machine() -> None:
    data_split = split([(i % 5 + 1, i % 3 + 1) for i in range(12)])
    result = [indices.tolist() for indices in plan_batches(data_split, 12, seed=1, epoch=2)]
    assert result == [[4, 5], [1, 7], [9, 10], [11, 2, 8], [0, 6, 3]]


def test_ordered_begins_with_the_longest(random_split: EncodedSplit) -> None:
    lengths = random_split.source_lengths[np.concatenate(order_batches(random_split, BUDGET))]
    assert (np.diff(lengths) <= 0).all()
