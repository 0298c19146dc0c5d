"""When the search of a sentence ends, and what a hypothesis that ends leaves of the beam."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest

from nmt_feat.decoding.search import BOS, EOS, PAD  # type: ignore[attr-defined]
from tests.support.toy_search import SOURCES, ToyModel, run


@pytest.mark.parametrize("penalty", [0.0, 1.0])
@pytest.mark.parametrize("beam", [1, 2, 3, 5])
def test_stopping_early_never_changes_the_result(
    beam: int, penalty: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The n best are those of a search that goes on until no prefix is live."""
    from nmt_feat.decoding.search import SentenceSearch

    sources = [list(s) for s in itertools.product([4, 5, 6], repeat=3)]
    settings = {"beam": beam, "length_penalty": penalty, "nbest": min(2, beam)}
    early, late = ToyModel(), ToyModel()
    stopped = run(early, sources, **settings)
    monkeypatch.setattr(SentenceSearch, "is_decided", lambda self, *_: not self.live)
    assert run(late, sources, **settings) == stopped
    assert sum(early.rows) <= sum(late.rows)
    if penalty == 0 and beam > 2:
        assert sum(early.rows) < sum(late.rows)


def test_a_likely_result() -> None:
    """A better hypothesis than each prefix would be if it ended now ends the search.

    The first piece is EOS, by 0.7, or 4, by 0.2, behind which everything is certain: "4 </s>" would
    be worse than "</s>", but six 4 have the better mean.
    """
    impossible = -1e4
    first = [impossible] * 5
    first[EOS], first[4], first[PAD] = math.log(0.7), math.log(0.2), math.log(0.1)
    certain, end = [impossible] * 5, [impossible] * 5
    certain[4] = end[EOS] = 0.0
    rest = {(BOS, *[4] * n): certain if n < 6 else end for n in range(1, 7)}
    table = {(BOS,): first} | rest
    results = {}
    for stop in ("proven", "likely"):
        model = ToyModel(vocab=5, table=table)
        results[stop] = run(model, [[4]], beam=2, stop=stop)[0][0], len(model.rows)
    assert results["proven"][0].ids == [4] * 6
    assert results["proven"][0].score == pytest.approx(math.log(0.2) / 7)
    assert results["likely"][0].ids == []
    assert results["likely"][0].score == pytest.approx(math.log(0.7))
    assert (results["likely"][1], results["proven"][1]) == (1, 7)


def test_a_beam_that_stays_full() -> None:
    """Of two, "</s>" takes no place there: "4 </s>" ends beside it, though "4 5" is better."""

    def row(**shares: float) -> list[float]:
        names = {"end": EOS, "four": 4, "five": 5}
        logits = [-1e4] * 6
        for name, share in shares.items():
            logits[names[name]] = math.log(share)
        return logits

    table = {
        (BOS,): row(end=0.5, four=0.4, five=0.1),
        (BOS, 4): row(end=0.45, five=0.55),
        (BOS, 5): row(end=1.0),
        (BOS, 4, 5): row(end=0.2, four=0.4, five=0.4),
    }
    settings = {"beam": 2, "nbest": 2, "length_penalty": 0.0, "max_ratio": 0.0, "max_extra": 3}
    plain, full = ToyModel(vocab=6, table=table), ToyModel(vocab=6, table=table)
    [narrow] = run(plain, [[4]], **settings)
    [wide] = run(full, [[4]], refill=True, **settings)
    assert [h.ids for h in wide] == [[], [4]]
    assert wide[1].logprob == pytest.approx(math.log(0.4 * 0.45))
    assert narrow[0] == wide[0]
    assert narrow[1].logprob < wide[1].logprob
    assert plain.rows[:3] == [1, 1, 1]
    assert full.rows[:2] == [1, 2]


@pytest.mark.parametrize("stop", ["proven", "likely"])
def test_full_beams_stop_early(stop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proven result is that of a search which goes on; greedy search has nothing to refill."""
    from nmt_feat.decoding.search import RefilledSearch

    assert run(ToyModel(), SOURCES, beam=1, refill=True) == run(ToyModel(), SOURCES, beam=1)
    settings = {"beam": 3, "nbest": 2, "refill": True, "max_ratio": 0.0, "max_extra": 20}
    early, late = ToyModel(), ToyModel()
    stopped = run(early, SOURCES, stop=stop, **settings)
    monkeypatch.setattr(RefilledSearch, "is_decided", lambda self, *_: not self.live)
    whole = run(late, SOURCES, **settings)
    assert sum(early.rows) < sum(late.rows)
    assert max(early.rows) == 3 * len(SOURCES)
    if stop == "proven":
        assert stopped == whole


@pytest.mark.parametrize("beam", [2, 5])
def test_without_length_penalty_likely_is_proven(beam: int) -> None:
    """Then a longer completion is never better."""
    settings = {"beam": beam, "length_penalty": 0.0}
    likely = run(ToyModel(), SOURCES, stop="likely", **settings)
    assert likely == run(ToyModel(), SOURCES, **settings)
