"""Beam search and forced scoring, against exhaustive enumeration with toy models."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nmt_feat.config.schema import DecodingConfig
from nmt_feat.decoding.search import SearchOptions, score_batch, search
from nmt_feat.embedders.ids import BOS, EOS
from nmt_feat.errors import UserError
from nmt_feat.evaluation.split_decoding import translate_split
from nmt_feat.model.embedding import SourceEmbedding, TargetEmbedding
from nmt_feat.model.transformer import Dropouts, Transformer
from tests.support.toy_search import SOURCES, ToyModel, exhaustive, pad, run


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Tiny tensors: a second thread would only wait."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("penalty", [0.0, 0.6, 1.0, 2.0])
def test_wide_beam_is_exhaustive_search(penalty: float) -> None:
    model = ToyModel()
    settings = {"beam": 200, "nbest": 121, "max_ratio": 0.0, "max_extra": 4}
    for source, result in zip(
        SOURCES, run(model, SOURCES, length_penalty=penalty, **settings), strict=True
    ):
        truth = exhaustive(model, source, 4, penalty)
        assert len(truth) == 1 + 3 + 9 + 27 + 81
        assert [h.ids for h in result] == [ids for _, _, ids in truth]
        np.testing.assert_allclose([h.score for h in result], [t[0] for t in truth], atol=1e-5)
        np.testing.assert_allclose([h.logprob for h in result], [t[1] for t in truth], atol=1e-5)


def test_beam_one_is_greedy() -> None:
    model = ToyModel()
    for source, [result] in zip(SOURCES, run(model, SOURCES, beam=1), strict=True):
        prefix: tuple[int, ...] = (BOS,)
        logprob = 0.0
        while len(prefix) <= 2 * len(source) + 20:
            logprobs = torch.log_softmax(model.next((*source, EOS), prefix).double(), 0)
            piece = int(logprobs[EOS:].argmax()) + EOS
            logprob += float(logprobs[piece])
            if piece == EOS:
                break
            prefix += (piece,)
        else:
            logprob += float(torch.log_softmax(model.next((*source, EOS), prefix), 0)[EOS])
        assert result.ids == list(prefix[1:])
        assert result.logprob == pytest.approx(logprob, abs=1e-5)


@pytest.mark.parametrize("beam", [1, 3, 8])
def test_batching_changes_nothing(beam: int) -> None:
    together = run(ToyModel(), SOURCES, beam=beam, nbest=beam)
    alone = [run(ToyModel(), [source], beam=beam, nbest=beam)[0] for source in SOURCES]
    assert together == alone


def test_finished_sentences_leave_the_batch() -> None:
    model = ToyModel(scale=4.0)
    run(model, SOURCES, beam=3)
    assert model.rows[0] == len(SOURCES)
    assert max(model.rows) <= 3 * len(SOURCES)
    assert model.rows[-1] < max(model.rows)


def test_special_pieces_are_never_produced_but_keep_their_mass() -> None:
    table = {(BOS,): [9.0, 8.0, 7.0, 0.0, 1.0], (BOS, 4): [9.0, 9.0, 9.0, 2.0, 1.0]}
    [[result]] = run(ToyModel(vocab=5, table=table), [[4]], beam=1)
    assert result.ids == [4]
    first = 1 - math.log(sum(map(math.exp, table[(BOS,)])))
    second = 2 - math.log(sum(map(math.exp, table[(BOS, 4)])))
    assert result.logprob == pytest.approx(first + second, abs=1e-5)
    assert result.score == pytest.approx((first + second) / 2, abs=1e-5)


def test_each_finished_hypothesis_narrows_the_beam() -> None:
    """Of `[4]`, two continue in a beam of 2, but `[]` has ended: so `[4]` does not end."""
    shares = {
        (BOS,): {EOS: 0.6, 4: 0.3, 5: 0.1},
        (BOS, 4): {5: 0.7, EOS: 0.3},
        (BOS, 4, 5): {6: 0.9, EOS: 0.1},
        (BOS, 4, 5, 6): {4: 0.8, EOS: 0.2},
    }
    table = {
        prefix: [math.log(row.get(piece, 1e-9)) for piece in range(7)]
        for prefix, row in shares.items()
    }
    settings = {"beam": 2, "nbest": 2, "max_ratio": 0.0, "max_extra": 3, "length_penalty": 0.0}
    [best] = run(ToyModel(table=table), [[4]], **settings)
    assert [hypothesis.ids for hypothesis in best] == [[], [4, 5, 6]]
    assert math.exp(best[1].logprob) == pytest.approx(0.3 * 0.7 * 0.9 * 0.2, rel=1e-4)


def test_ties_go_to_the_smaller_id_and_the_shorter() -> None:
    flat = ToyModel(vocab=300, table={})
    [result] = run(flat, [[4]], beam=4, nbest=4, max_ratio=0, max_extra=2, length_penalty=0)
    assert [h.ids for h in result] == [[], [4], [4, 4], [4, 5]]


@pytest.mark.parametrize(("ratio", "extra", "longest"), [(0.0, 0, 0), (1.5, 1, 4), (0.0, 3, 3)])
def test_longest_output_is_ended_with_its_probability(
    ratio: float, extra: int, longest: int
) -> None:
    endless = ToyModel(vocab=5, table={(BOS,) + (4,) * n: [0.0, 0, 0, -5, 5] for n in range(9)})
    [[result]] = run(endless, [[4, 4]], beam=1, max_ratio=ratio, max_extra=extra)
    assert result.ids == [4] * longest
    norm = math.log(3 + math.exp(-5) + math.exp(5))
    assert result.logprob == pytest.approx(longest * (5 - norm) - 5 - norm, abs=1e-4)


def test_mode_is_put_back() -> None:
    model = ToyModel()
    run(model, SOURCES)
    assert model.training
    model.training = False
    run(model, SOURCES)
    assert not model.training


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"beam": 2, "nbest": 3},
            "decoding.nbest=3: must be at least 1 and at most decoding.beam=2",
        ),
        ({"beam": 0}, "decoding.nbest=1: must be at least 1 and at most decoding.beam=0"),
        ({"length_penalty": -0.5}, "decoding.length_penalty=-0.5: give 0 or more"),
        ({"length_penalty": math.nan}, "decoding.length_penalty=nan: give 0 or more"),
    ],
)
def test_wrong_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        run(ToyModel(), [[4]], **settings)
    assert str(error.value) == message


def test_diverged_model() -> None:
    with pytest.raises(UserError) as error:
        run(ToyModel(vocab=5, table={(BOS,): [math.nan] * 5}), [[4]])
    assert str(error.value) == (
        "search: the model's probabilities are not numbers (nan), so its training diverged; "
        "train with a lower optimizer.lr or a longer optimizer.warmup"
    )


class WordsOnly(torch.nn.Module):
    def forward(self, parts: list[Tensor]) -> Tensor:
        return parts[0]


@pytest.fixture(scope="module")
def transformer() -> Transformer:
    torch.manual_seed(3)
    tables = [torch.nn.Embedding(40, 16, padding_idx=0) for _ in range(2)]
    return Transformer(
        SourceEmbedding(tables[0], {}, WordsOnly(), 0.5),  # type: ignore[arg-type]
        TargetEmbedding(tables[1], 0.5),
        dim=16,
        ffn_dim=32,
        heads=2,
        encoder_layers=2,
        decoder_layers=2,
        dropouts=Dropouts(0.5, 0.5, 0.5),
    )


@dataclass
class FakeBatch:
    """A batch as `corpus.batches.collate` makes it."""

    indices: list[int]
    source: Tensor
    target_in: Tensor
    target_out: Tensor
    features: dict[str, Tensor] = field(default_factory=dict)

    @property
    def source_mask(self) -> Tensor:
        return self.source != 0

    def to(self, device: Any) -> FakeBatch:
        return self


def forced(source: Any, targets: Any) -> FakeBatch:
    return FakeBatch(
        list(range(len(targets))),
        source,
        pad([[BOS, *t] for t in targets]),
        pad([[*t, EOS] for t in targets]),
    )


@pytest.fixture(scope="module")
def long_sources() -> list[list[int]]:
    generator = np.random.default_rng(5)
    return [generator.integers(4, 40, n).tolist() for n in (9, 2, 5, 1, 14, 7)]


def test_logprob_of_search_is_that_of_forced_scoring(
    transformer: Transformer, long_sources: list[list[int]]
) -> None:
    """For the Transformer, cached step by step against all at once, all n best of the beam."""
    results = run(transformer, long_sources, beam=4, nbest=4, max_ratio=1.0, max_extra=5)
    source = pad([[*s, EOS] for s in long_sources for _ in range(4)])
    hypotheses = [h for result in results for h in result]
    assert len(hypotheses) == 4 * len(long_sources)
    scores = score_batch(transformer, forced(source, [h.ids for h in hypotheses]))
    assert transformer.training
    for hypothesis, (logprob, pieces) in zip(hypotheses, scores, strict=True):
        assert hypothesis.logprob == pytest.approx(logprob, abs=1e-4)
        assert pieces == len(hypothesis.ids) + 1
        assert hypothesis.score == pytest.approx(logprob / pieces, abs=1e-4)


def test_transformer_alone_and_in_a_batch(
    transformer: Transformer, long_sources: list[list[int]]
) -> None:
    together = run(transformer, long_sources, beam=3, nbest=2)
    for source, result in zip(long_sources, together, strict=True):
        [alone] = run(transformer, [source], beam=3, nbest=2)
        assert [h.ids for h in alone] == [h.ids for h in result]
        assert [h.score for h in alone] == pytest.approx([h.score for h in result], abs=1e-5)


def test_padding_changes_nothing(transformer: Transformer) -> None:
    source = torch.tensor([[7, 8, 9, EOS], [5, 6, EOS, 0]])
    wide = torch.nn.functional.pad(source, (0, 5))
    options = SearchOptions(beam=3)
    for one, second in zip(
        search(transformer, source, {}, source != 0, options),
        search(transformer, wide, {}, wide != 0, options),
        strict=True,
    ):
        assert one[0].ids == second[0].ids
        assert one[0].logprob == pytest.approx(second[0].logprob, abs=1e-5)


def test_forced_scoring_in_pieces_of_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    source, targets = pad([[4, EOS], [5, EOS]]), [[4, 5, 6, 6], [6]]
    model = ToyModel()
    whole = score_batch(model, forced(source, targets))
    monkeypatch.setattr("nmt_feat.decoding.search.SCORING_CHUNK", 2)
    assert score_batch(model, forced(source, targets)) == whole
    for row, (target, (logprob, pieces)) in enumerate(zip(targets, whole, strict=True)):
        prefix, total = (BOS,), 0.0
        for piece in (*target, EOS):
            logits = model.next(tuple(source[row].tolist()), prefix)
            total += float(torch.log_softmax(logits.double(), 0)[piece])
            prefix += (piece,)
        assert logprob == pytest.approx(total, abs=1e-5)
        assert pieces == len(target) + 1


class FakeSplit(list[list[int]]):
    """Source sentences, as much of a split as is asked for here."""

    @property
    def source_lengths(self) -> np.ndarray:
        """With the end symbol."""
        return np.array([len(row) + 1 for row in self])


def test_translate_split_keeps_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def ordered(split: Any, batch_tokens: int) -> Any:
        asked.append(batch_tokens)
        return [np.array([3, 1]), np.array([0, 4]), np.array([2])]

    def collate(split: Any, indices: Any, features: Any) -> FakeBatch:
        source = pad([[*split[i], EOS] for i in indices])
        return FakeBatch([int(i) for i in indices], source, source, source)

    monkeypatch.setattr("nmt_feat.evaluation.split_decoding.order_batches", ordered)
    monkeypatch.setattr("nmt_feat.evaluation.split_decoding.collate", collate)
    cfg = DecodingConfig(beam=4, batch_tokens=100, nbest=2)
    split: Any = FakeSplit(SOURCES)
    translated = translate_split(ToyModel(), split, [], cfg, torch.device("cpu"))
    assert translated == run(ToyModel(), SOURCES, beam=4, nbest=2)
    assert asked == [25]
    for part, its in enumerate(([3, 1, 2], [0, 4])):
        share = slice(part, None, 2)
        mine = translate_split(ToyModel(), split, [], cfg, torch.device("cpu"), share=share)
        assert mine == [best if i in its else [] for i, best in enumerate(translated)]
