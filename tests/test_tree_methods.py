"""Methods that read heads: attention that is scaled, or biased, by the tree."""

from __future__ import annotations

import math

import numpy as np
import torch

from nmt_feat.config.schema import FeatureConfig
from nmt_feat.data.batches import collate
from nmt_feat.data.prepare import prepare
from nmt_feat.embedders.ids import END, FIRST, PAD, UNK
from nmt_feat.features.choice import choose_kind
from nmt_feat.methods import TreeAttention, TreeDistance
from nmt_feat.methods.tree_attention import find_parents, measure_distances
from nmt_feat.model.transformer import Attention, attend
from nmt_feat.text.conllu import read_conllu
from tests.support.formulas import affine, softmax
from tests.support.small import Small
from tests.support.small_methods import DIM, settings

DISTANCES = torch.tensor([math.nan] * 4 + [-2.0, -1.0, 0.0, 1.0])
"""Of PAD, UNK, END, `<inside>`, and the numbers -2 to 1, whose ids are 4 to 7."""
PLUS, ROOT_ID, MINUS = 7, 6, 4
MONKEY = [PLUS, PLUS, FIRST, ROOT_ID, PLUS, MINUS, FIRST, END]
"""`The mon-key eats a ban-ana </s>`: The and a depend on what follows, both nouns on eats."""


def test_parents_by_hand() -> None:
    """Middles: The 0, monkey 1.5, eats 3, a 4, banana 5.5; a longer row beside changes nothing."""
    ids = torch.tensor([[*MONKEY, PAD, PAD], [PLUS, 5, UNK, 4, 7, 7, 7, 7, 7, END]])
    parents = find_parents(ids, DISTANCES)
    nan = math.nan
    expected = torch.tensor([1.5, 3, 3, 3, 5.5, 3, 3, nan, nan, nan])
    torch.testing.assert_close(parents[0], expected, equal_nan=True)
    # Words of a piece each; one is unknown, and the last one's head is the end symbol.
    expected = torch.tensor([1.0, 0, nan, 1, 5, 6, 7, 8, 9, nan])
    torch.testing.assert_close(parents[1], expected, equal_nan=True)


def test_words_without_a_piece_are_said() -> None:
    """Heads are found by counting words that begin with a piece, so one that does not counts."""
    first, copy = (
        choose_kind("heads", FeatureConfig(column="head_distance", policy=policy))
        for policy in ("first", "copy")
    )
    assert "0.1% of the words of train begin with no piece" in str(first.describe_lost(0.001))
    assert ": 0.004% of the words of train" in str(first.describe_lost(0.00004))
    assert copy.describe_lost(0.001) is None
    assert str(copy.describe_lost(0.2)).endswith("of train; set subword.split_at_words=true")


def test_tree_distances_by_hand() -> None:
    """From the tree The <- monkey <- eats -> banana -> a, by its paths; the end is nowhere."""
    ids = torch.tensor([[*MONKEY, PAD], [PLUS, 5, UNK, 7, 7, 7, 7, END, PAD]])
    words = [0, 1, 1, 2, 3, 4, 4]
    paths = {0: [0, 1, 2], 1: [1, 2], 2: [2], 3: [3, 4, 2], 4: [4, 2]}  # up to the root
    distances = measure_distances(ids, DISTANCES, 3)
    for i, first in enumerate(words):
        for j, second in enumerate(words):
            shared = len(set(paths[first]) & set(paths[second]))
            steps = len(paths[first]) + len(paths[second]) - 2 * shared
            assert distances[0, i, j] == min(steps, 3), (i, j)
    assert (distances[0, 7:] == -1).all()
    assert (distances[0, :, 7:] == -1).all()
    # Words of a piece each: 0 <-> 1, one without a head, then 3 -> 4 -> 5 -> 6 -> the end symbol.
    assert distances[1, :2, :2].tolist() == [[0, 1], [1, 0]]
    assert (distances[1, 2] == -1).all()
    assert distances[1, 3, 3:7].tolist() == [0, 1, 2, 3]
    assert distances[1, 0, 3] == 3  # not connected


def test_far_distances_beside_many_words_with_one_head() -> None:
    """The number of paths between near words overflows long before a far word is reached."""
    leaves, chain = 60, 60
    # A root, words that depend on it, and a chain of words that each depend on the one before.
    heads = [0, *[-i for i in range(1, leaves + 1)], -leaves - 1, *[-1] * (chain - 1)]
    numbers = sorted(set(heads))
    distances = torch.tensor([math.nan] * 4 + [float(number) for number in numbers])
    ids = torch.tensor([[*(4 + numbers.index(number) for number in heads), END]])
    between = measure_distances(ids, distances, 1000)[0]
    assert between[0, leaves + 1 : -1].tolist() == [*range(1, chain + 1)]
    assert between[-2, 1 : leaves + 1].tolist() == [chain + 1] * leaves


def attend_to_random(
    **tree: torch.Tensor,
) -> tuple[torch.Tensor, dict[str, np.ndarray], list[list[float]]]:
    """A layer's attention over eight random pieces, with a tree's factors or bias.

    Returns:
        Its result, its weights, and query, key and value of each piece, side by side.
    """
    attention = Attention(DIM, 4, 0.0, cross=False).eval()
    x, mask = torch.randn(1, 8, DIM), torch.ones(1, 1, 1, 8, dtype=torch.bool)
    weights = {name: w.detach().double().numpy() for name, w in attention.state_dict().items()}
    rows = [affine(weights, "inputs", row) for row in x[0].tolist()]
    return attention(x, mask, **tree)[0], weights, rows


def test_tree_distance_by_hand() -> None:
    """Scores of the first layer's attention plus the bias of the distance, number by number."""
    ids, tree = torch.tensor([MONKEY]), TreeDistance(DIM, {"heads": 8}, strength=0.5)
    tree.load_values({"heads": ["<inside>", "-2", "-1", "0", "1"]})
    bias = tree.bias_attention(0, {"heads": ids})
    assert bias is not None
    assert bias[0, 0, 0].tolist() == [0, -0.5, -0.5, -1, -2, -1.5, -1.5, 0]  # of The
    assert tree.bias_attention(1, {"heads": ids}) is None
    result, weights, rows = attend_to_random(bias=bias)
    joined: list[float] = []
    for head in range(4):  # of The
        columns = range(4 * head, 4 * head + 4)
        products = [sum(rows[0][c] * row[DIM + c] for c in columns) / 2 for row in rows]
        shares = softmax([p + b for p, b in zip(products, bias[0, 0, 0].tolist(), strict=True)])
        joined += [
            sum(a * row[2 * DIM + c] for a, row in zip(shares, rows, strict=True)) for c in columns
        ]
    expected = torch.tensor(affine(weights, "output", joined))
    torch.testing.assert_close(result[0], expected, rtol=1e-4, atol=1e-5)


def make_tree(**args: float) -> TreeAttention:
    tree = TreeAttention(DIM, {"heads": 8}, **args)  # type: ignore[arg-type]
    tree.load_values({"heads": ["<inside>", "-2", "-1", "0", "1"]})
    torch.testing.assert_close(tree.distances, DISTANCES, equal_nan=True)
    return tree.eval()


def test_tree_attention_by_hand() -> None:
    """The attention of the first layer, number by number; the second layer knows no tree."""
    ids, tree = torch.tensor([MONKEY]), make_tree()
    factors = tree.scale_attention(0, {"heads": ids})
    assert factors is not None
    assert tree.scale_attention(1, {"heads": ids}) is None
    result, weights, rows = attend_to_random(factors=factors)
    parents = [1.5, 3, 3, 3, 5.5, 3, 3, None]
    for i, parent in enumerate(parents):
        joined: list[float] = []
        for head in range(4):
            columns = range(4 * head, 4 * head + 4)
            scores = []
            for j in range(8):
                score = sum(rows[i][c] * rows[j][DIM + c] for c in columns) / 2  # sqrt(4)
                if parent is not None:
                    score *= math.exp(-((j - parent) ** 2) / 2) / math.sqrt(2 * math.pi)
                scores.append(score)
            shares = softmax(scores)
            for c in columns:
                joined.append(sum(a * rows[j][2 * DIM + c] for j, a in enumerate(shares)))
        expected = torch.tensor(affine(weights, "output", joined))
        torch.testing.assert_close(result[i], expected, rtol=1e-4, atol=1e-5)


def test_parent_ignoring() -> None:
    """In training only, of that share of the pieces."""
    tree, ids = make_tree(ignored=0.25), torch.tensor([MONKEY] * 200)
    exact = tree.scale_attention(0, {"heads": ids})
    drawn = tree.train().scale_attention(0, {"heads": ids})
    assert exact is not None
    assert drawn is not None
    is_ignored = (drawn == 1).all(-1)[:, 0, :7]
    assert 0.2 < is_ignored.float().mean() < 0.3
    assert drawn[:, 0, :7][~is_ignored].equal(exact[:, 0, :7][~is_ignored])


def test_dropout_of_scaled_attention() -> None:
    """What is dropped is a share of the weights, as without factors."""
    query, key = torch.randn(2, 1, 1, 50, 4)
    ones = torch.ones(1, 1, 50, 50)
    plain = attend(query, key, torch.eye(50)[None, None], None)
    dropped = attend(query, key, torch.eye(50)[None, None], None, 0.5, factors=ones)
    assert 0.4 < (dropped == 0).float().mean() < 0.6
    torch.testing.assert_close(dropped[dropped > 0], 2 * plain[dropped > 0])


def test_heads_of_a_corpus(small: Small) -> None:
    """Carried to pieces and back: where each head's pieces are, from the CoNLL-U file itself."""
    cfg = settings(small, "tree_attention")
    prepared = prepare(cfg, cfg.features)
    batch = collate(prepared.train, np.arange(len(prepared.train)), ["heads"])
    tree = TreeAttention(DIM, prepared.encoder.id_counts)
    tree.load_values(prepared.encoder.name_values())
    parents = find_parents(batch.features["heads"], tree.distances)
    sentences = read_conllu(small.corpus / "train.conllu")
    rows = {text: row for row, text in enumerate(prepared.train.source_texts)}
    for sentence in sentences:
        row = rows[sentence.text]
        begins = [i for i, id in enumerate(batch.features["heads"][row].tolist()) if id > FIRST]
        ends = [*begins[1:], int(batch.source_mask[row].sum()) - 1]
        middles = [(a + b - 1) / 2 for a, b in zip(begins, ends, strict=True)]
        assert len(middles) == len(sentence.words)
        for number, (word, begin, end) in enumerate(zip(sentence.words, begins, ends, strict=True)):
            middle = middles[word.head - 1 if word.head else number]
            assert parents[row, begin:end].tolist() == [middle] * (end - begin)
