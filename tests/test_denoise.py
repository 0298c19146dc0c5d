"""Denoising: what is masked, by which random numbers, and runs that train on it."""

from __future__ import annotations

import dataclasses
import math
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from nmt_feat.config.data_schema import NoiseConfig, SplitConfig
from nmt_feat.data.controls import prepare_run
from nmt_feat.data.noise import (
    choose_spans,
    draw_uniforms,
    find_begins,
    mask_spans,
    sum_poisson,
)
from nmt_feat.data.prepare import Prepared, prepare
from nmt_feat.data.store import EncodedSplit
from nmt_feat.embedders.ids import FIRST, UNK
from nmt_feat.errors import UserError
from nmt_feat.runs.run import run_training
from nmt_feat.runs.setup.resolve import resolve_settings
from nmt_feat.text.subwords import Words
from tests.support.entry import call
from tests.support.small import Small, outcome, record
from tests.support.stops import stop

DENOISE = ("data.objective=denoise", "combiner=gate", "features=[upos]")


def masked(small: Small, *settings: str) -> Prepared:
    return prepare_run(small.config(*DENOISE, *settings))


def epoch(prepared: Prepared, number: int) -> EncodedSplit:
    assert prepared.redraw is not None
    return prepared.redraw(number)


def is_subsequence(short: list[int], whole: list[int]) -> bool:
    rest = iter(whole)
    return all(id in rest for id in short)


def test_what_is_masked(small: Small) -> None:
    """The rest of the sentence, its features and the order stay; the target is the sentence."""
    cfg = small.config(*DENOISE)
    whole, prepared = prepare(cfg, cfg.features).train, masked(small)
    split = epoch(prepared, 0)
    assert split.target_texts == whole.source_texts
    names = prepared.encoder.subwords.names
    shares = []
    for i in range(len(whole)):
        assert split.target.row(i).tolist() == whole.source.row(i).tolist()
        new, upos = split.source.row(i), split.features["upos"]
        values = upos[split.source.offsets[i] : split.source.offsets[i + 1]]
        is_mask = new == UNK
        assert (values[is_mask] == UNK).all()
        assert is_subsequence(new[~is_mask].tolist(), whole.source.row(i).tolist())
        remaining_pairs = list(zip(new[~is_mask].tolist(), values[~is_mask].tolist(), strict=True))
        span = slice(whole.source.offsets[i], whole.source.offsets[i + 1])
        tagged = zip(whole.source.values[span], whole.features["upos"][span], strict=True)
        assert is_subsequence(remaining_pairs, [(int(a), int(b)) for a, b in tagged])
        words = sum(names[id].startswith("▁") for id in whole.source.row(i))
        remaining = sum(names[id].startswith("▁") for id in new)
        shares.append((words - remaining) / words)
        assert words - remaining == math.ceil(words * 0.3)
    assert 0.3 <= np.mean(shares) < 0.4
    assert (prepared.dev.source.values == UNK).any()


def test_by_seed_and_epoch(small: Small) -> None:
    """Other masks in each epoch and for each seed; the same for the same; dev for all."""
    prepared, other = masked(small), masked(small, "seed=2")
    first, second = epoch(prepared, 0).source.values, epoch(prepared, 1).source.values
    assert first.tolist() != second.tolist()
    assert first.tolist() == epoch(masked(small), 0).source.values.tolist()
    assert first.tolist() != epoch(other, 0).source.values.tolist()
    assert prepared.dev.source.values.tolist() == other.dev.source.values.tolist()


def test_masks_of_a_test_set_follow_its_name(small: Small) -> None:
    """Not its place: `evaluate` adds a set behind the others, a training may list it first."""
    one, other = (f"+data.tests.{name}.{{0}}=test.{{1}}" for name in ("one", "other"))
    sides = (("source", "conllu"), ("target", "de"))
    added = [line.format(*side) for line in (one, other) for side in sides]
    alone = masked(small, *added[2:]).tests
    among = masked(small, *added).tests
    assert list(among).index("other") != list(alone).index("other")
    rows = {name: split.source.values.tolist() for name, split in among.items()}
    assert rows["other"] == alone["other"].source.values.tolist()
    assert rows["other"] != rows["one"]


def test_a_set_that_is_added_has_the_numbers_of_a_listed_one(small: Small, tmp_path: Path) -> None:
    """To the last digit, also if the run would have listed it before its other sets."""
    files = {
        role: f"{small.corpus}/dev.{end}" for role, end in (("source", "conllu"), ("target", "de"))
    }
    cfg = small.config(*DENOISE, "trainer.max_steps=2")
    with small.elsewhere("added") as twin:
        added = twin.train(*DENOISE, "trainer.max_steps=2")
    done = call("evaluate", f"run={added}", *(f"data.tests.new.{k}={v}" for k, v in files.items()))
    assert done.code == 0, done.err
    cfg.data.tests = {"new": SplitConfig(**files), **cfg.data.tests}
    listed = run_training(cfg).folder
    assert record(added)["tests"] == record(listed)["tests"]
    assert (added / "new.hyp").read_bytes() == (listed / "new.hyp").read_bytes()


def test_choices(small: Small) -> None:
    """More of it, longer spans, spans of pieces, and features that are kept."""
    default = epoch(masked(small), 0)
    longer = epoch(masked(small, "data.noise.share=0.6", "data.noise.length=6"), 0)
    assert len(longer.source.values) < len(default.source.values)
    pieces = epoch(masked(small, "data.noise.unit=piece"), 0)
    assert pieces.source.values.tolist() != default.source.values.tolist()
    with_features = epoch(masked(small, "data.noise.features=keep"), 0)
    is_mask = with_features.source.values == UNK
    assert with_features.source.values.tolist() == default.source.values.tolist()
    assert (with_features.features["upos"][is_mask] > UNK).all()
    assert (
        with_features.features["upos"][~is_mask].tolist()
        == default.features["upos"][~is_mask].tolist()
    )


def test_tags_and_words_with_a_mark(small: Small) -> None:
    """Tags of masked sentences stay; a word that begins as pieces do is one among the others."""
    prepared = prepare(small.config("combiner=none"), {})
    train, begins = prepared.train, np.array([True] * prepared.encoder.subwords.size)
    ids = np.full(len(train.source.values), FIRST, np.int32)
    train.features, train.tags = {"domain": ids, "upos": ids}, ("domain",)
    split = mask_spans(train, begins, NoiseConfig(), [1])
    assert (split.features["domain"] == FIRST).all()
    assert (split.features["upos"] == UNK).any()
    assert find_begins(Words("none", ["the", "▁ok", "dog"]), NoiseConfig(), "none").all()


def test_spans() -> None:
    """Lengths are those of a Poisson distribution; a share of 1 masks every word."""
    uniforms = draw_uniforms([1])
    lengths = np.searchsorted(sum_poisson(3.0), list(islice(uniforms, 50_000)), side="right")
    assert lengths.mean() == pytest.approx(3, abs=0.05)
    assert lengths.var() == pytest.approx(3, abs=0.1)
    every, _ = choose_spans(6, 1.0, sum_poisson(3.0), uniforms)
    assert all(every)
    assert choose_spans(0, 0.3, sum_poisson(3.0), uniforms) == ([], set())


def test_run(small: Small) -> None:
    """It resumes exactly, its settings are part of its identity, and a child starts from it."""
    expected = small.whole(*DENOISE)
    stop(small, *DENOISE)
    run = small.train(*DENOISE)
    assert outcome(run) == expected
    settings = record(run)["settings"]["data"]
    assert settings["objective"] == "denoise"
    assert "noise" not in settings
    refused = call("reliance", run)
    assert (refused.code, "to restore text; the translations of its" in refused.err) == (2, True)
    child = small.train(*DENOISE[1:], f"init.run={run}", "trainer.max_steps=2")
    content = record(child)
    assert "objective" not in content["settings"]["data"]
    assert content["parent"]["new"] == []


def test_with_controls(small: Small) -> None:
    """Masks are the same whatever the features are."""
    plain, moved = (
        epoch(masked(small, f"control={control}"), 1) for control in ("none", "resampled")
    )
    assert plain.source.values.tolist() == moved.source.values.tolist()
    assert plain.features["upos"].tolist() != moved.features["upos"].tolist()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("data.noise.share=0.2", "data.noise: is for data.objective=denoise; set that, or leave "),
        ("data.objective=denois", "data.objective=denois: "),
        ("data.objective=denoise data.noise.share=0", "data.noise.share=0.0: must be above 0"),
        ("data.objective=denoise data.noise.length=0", "data.noise.length=0.0: must be above 0"),
        ("data.objective=denoise data.noise.length=1e9", "data.noise.length=1000000000.0: must be"),
        (
            "data.objective=denoise subword.joint=false",
            "data.objective=denoise subword.joint=false: the source is the target too; set ",
        ),
        (
            "data.objective=denoise data.terminology.glossary=terms.tsv",
            "data.objective=denoise data.terminology.glossary=terms.tsv: terms are for ",
        ),
        (
            "data.objective=denoise method=interleave combiner=none",
            "data.objective=denoise method=interleave: its tags would stand inside the spans",
        ),
        (
            "data.objective=denoise method=tree_distance combiner=none features=[heads]",
            "data.objective=denoise method=tree_distance: heads are counted in words, of which ",
        ),
        (
            "data.objective=denoise features=[contextual] features.contextual.encoder=x",
            "data.objective=denoise: features.contextual has vectors of an encoder, which has ",
        ),
    ],
)
def test_wrong_settings(small: Small, settings: str, message: str) -> None:
    with pytest.raises(UserError) as raised:
        resolve_settings(small.config(*settings.split()), False, Console(quiet=True))
    assert str(raised.value).startswith(message)


def test_defaults() -> None:
    """They are those of BART."""
    assert dataclasses.astuple(NoiseConfig()) == (0.3, 3.0, "word", "mask")
