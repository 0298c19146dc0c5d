"""Values that are unknown at random in training, and only there."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from nmt_feat.combiners import Add
from nmt_feat.config.schema import CombinerConfig, FeatureConfig, ModelConfig, TrainConfig
from nmt_feat.embedders.categorical import make_table
from nmt_feat.embedders.ids import END, FIRST, UNITS, UNK
from nmt_feat.features import Categorical, Mean
from nmt_feat.features.vocabulary import INSIDE
from nmt_feat.model.embedding import Masking, SourceEmbedding, mask_values
from nmt_feat.runs.setup.build_model import build_model
from tests.support.entry import call
from tests.support.kinds import build_vocabulary
from tests.support.small import Small, outcome
from tests.support.stops import stop

IDS = torch.tensor([[3, 4, UNK, 5, END, 0], [6, 7, 8, 9, 3, END]]).repeat(2000, 1)


def test_tokens_are_masked_at_the_rate_given() -> None:
    torch.manual_seed(0)
    result = mask_values(IDS, 0.3, 0.0)
    values = IDS > END
    assert torch.equal(result[~values], IDS[~values])
    changed = result != IDS
    assert set(result[changed].tolist()) == {UNK}
    assert abs(float(changed[values].float().mean()) - 0.3) < 0.01
    assert float(changed[values].float().mean()) not in (0.0, 1.0)


def test_sentences_are_masked_as_a_whole() -> None:
    torch.manual_seed(0)
    result = mask_values(IDS, 0.0, 0.25)
    values = IDS > END
    shares = (result != IDS).sum(1) / values.sum(1)
    assert set(shares.tolist()) == {0.0, 1.0}
    assert abs(float(shares.mean()) - 0.25) < 0.03
    assert torch.equal(result[:, -1], IDS[:, -1])


def test_both_and_neither() -> None:
    torch.manual_seed(0)
    changed = (mask_values(IDS, 0.5, 0.5) != IDS)[IDS > END].float().mean()
    assert abs(float(changed) - 0.75) < 0.02
    state = torch.get_rng_state()
    assert mask_values(IDS, 0.0, 0.0) is IDS
    assert torch.equal(torch.get_rng_state(), state), "no random numbers are drawn for nothing"
    assert torch.equal(mask_values(IDS, 1.0, 0.0) > END, torch.zeros_like(IDS, dtype=torch.bool))


@pytest.mark.parametrize("units", [False, True])
def test_only_training_masks(units: bool) -> None:
    torch.manual_seed(0)
    feature = (Mean if units else Categorical)(10, 4, 1.0)
    masked = {"f": Masking(1.0, 0.0, False)}
    combiner = Add({"word": 4, "f": 4}, 4)
    embedding = SourceEmbedding(make_table(10, 4, 1.0), {"f": feature}, combiner, 0.0, masked)
    ids = torch.tensor([[3, 4, 5], [5, 3, 0]])
    feature_ids = {"f": ids}
    if units:
        feature_ids["f" + UNITS] = torch.tensor(
            [[0, 0], [UNK, 0], [END, 0], [3, 4], [5, 6], [7, 0]]
        )
    unknown = {"f": torch.where(ids > END, UNK, ids)} | {
        k: v for k, v in feature_ids.items() if k != "f"
    }
    trained = embedding(ids, feature_ids)
    embedding.eval()
    assert torch.equal(trained, embedding(ids, unknown))
    assert not torch.equal(trained, embedding(ids, feature_ids))
    assert torch.equal(feature_ids["f"], ids), "the batch is left as it was"


@pytest.mark.parametrize("units", [False, True])
def test_inside_of_a_word_is_no_value(units: bool) -> None:
    """With `policy=first` it is there in sentences without annotation as well."""
    feature = (Mean if units else Categorical)(10, 4, 1.0)
    combiner = Add({"word": 4, "f": 4}, 4)
    masked = {"f": Masking(0.0, 1.0, True)}
    embedding = SourceEmbedding(make_table(10, 4, 1.0), {"f": feature}, combiner, 0.0, masked)
    feature_ids = {"f": torch.tensor([[4, 3, 5, END, 0]])}
    expected = [[UNK, 3, UNK, END, 0]]
    if units:
        feature_ids["f" + UNITS] = torch.tensor(
            [[0, 0], [UNK, 0], [END, 0], [4, 5], [6, 7], [3, 0]]
        )
        expected = [[UNK, UNK, 5, END, 0]]
    assert embedding.mask_feature("f", feature_ids).tolist() == expected
    cfg = FeatureConfig(column="upos", policy="first", dropout=0.1)
    assert build_vocabulary(cfg, Counter("X")).id_of(INSIDE) == FIRST
    add, model = CombinerConfig("nmt_feat.combiners.Add"), ModelConfig(dim=4, ffn_dim=4, heads=1)
    whole = TrainConfig(features={"f": cfg}, combiner=add, model=model)
    built = build_model(whole, {"f": 5}, 9, 9)
    assert built.source.masked == {"f": (0.1, 0.0, True)}


SETTINGS = (
    "combiner=add",
    "features=[upos,jamo]",
    "features.upos.dropout=0.4",
    "features.jamo.sentence_dropout=0.4",
    "features.jamo._target_=nmt_feat.features.Mean",
    "model.dropout=0",
    "trainer.max_steps=4",
)


@pytest.mark.thorough
def test_resume_is_exact(small: Small) -> None:
    whole = small.whole(*SETTINGS)
    stop(small, *SETTINGS, update=2)
    assert outcome(small.train(*SETTINGS)) == whole
    plain = [s for s in SETTINGS if "dropout=0.4" not in s]
    assert outcome(small.train(*plain))["curve"] != whole["curve"]


@pytest.mark.parametrize("key", ["dropout", "sentence_dropout"])
@pytest.mark.parametrize("value", [-0.1, 1.5])
def test_shares_that_cannot_be(key: str, value: float, small: Small) -> None:
    done = call("train", *small.overrides("combiner=add", f"features.upos.{key}={value}"))
    assert done.code == 2
    assert done.err == f"error: features.upos.{key}={value}: must be 0 to 1\n"
