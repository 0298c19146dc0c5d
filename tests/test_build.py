"""From settings to a model: widths, counts, tying, weights that do not depend on the method."""

from __future__ import annotations

import pytest
import torch
from rich.console import Console

from nmt_feat.combiners import Add, Combiner, Concat, Gate, NoFeatures
from nmt_feat.config.schema import CombinerConfig, FeatureConfig, ModelConfig, TrainConfig
from nmt_feat.errors import UserError
from nmt_feat.model.seeds import derive_seed, isolated_generator
from nmt_feat.model.transformer import Transformer
from nmt_feat.runs.setup.build_model import (
    build_combiner,
    build_model,
    build_run_combiner,
    format_widths,
    list_unused_settings,
)
from nmt_feat.runs.setup.resolve import resolve_settings
from nmt_feat.runs.setup.starting_model import count_parameters
from tests.support.small import Small

METHODS = ("none", "concat", "add", "average", "gate")
FEATURES = {"deprel": FeatureConfig(column="deprel"), "upos": FeatureConfig(column="upos")}
VALUES = {"deprel": 30, "upos": 14}


def combiner(name: str, **settings: object) -> CombinerConfig:
    target = None if name == "none" else f"nmt_feat.combiners.{name.capitalize()}"
    return CombinerConfig(target, **settings)  # type: ignore[arg-type]


def model(name: str, seed: int = 1, **settings: object) -> Transformer:
    small = {"dim": 16, "ffn_dim": 24, "heads": 2, "encoder_layers": 1, "decoder_layers": 1}
    features = {} if name == "none" else FEATURES
    model_config = ModelConfig(**(small | settings))  # type: ignore[arg-type]
    cfg = TrainConfig(features=features, combiner=combiner(name), model=model_config, seed=seed)
    return build_model(cfg, VALUES, 50, 50)


def test_all_methods_start_from_the_same_transformer() -> None:
    models = {name: dict(model(name).named_parameters()) for name in METHODS}
    shared = [n for n in models["none"] if n.split(".")[0] in ("encoder", "decoder", "target")]
    shared += [n for n in models["none"] if n.startswith(("encoder_norm", "decoder_norm"))]
    assert len(shared) > 25
    for name in METHODS:
        assert all(models[name][key].equal(models["none"][key]) for key in shared)
    # where the word is as wide as the model its table is the same too, and so are the features'
    for name in ("add", "average", "gate"):
        for key in models["add"]:
            assert models[name][key].equal(models["add"][key])
        words = "source.words.weight"
        assert models[name][words].equal(models["none"][words])


def test_what_the_seed_changes() -> None:
    one, again, two = (dict(model("gate", seed).named_parameters()) for seed in (1, 1, 2))
    assert all(one[key].equal(again[key]) for key in one)
    drawn = [key for key in one if not (key.endswith(".bias") or "norm" in key)]
    assert len(drawn) > 12
    assert not any(one[key].equal(two[key]) for key in drawn)


def test_one_feature_more_leaves_the_other_tables() -> None:
    settings = ModelConfig(dim=16, ffn_dim=24, heads=2, encoder_layers=1, decoder_layers=1)
    cfg = TrainConfig(features=FEATURES, combiner=combiner("add"), model=settings)
    few = build_model(cfg, VALUES, 50, 50)
    cfg.features = {**FEATURES, "lemma": FeatureConfig(column="lemma")}
    all_ = build_model(cfg, {**VALUES, "lemma": 40}, 50, 50)
    weights = dict(all_.named_parameters())
    assert all(weights[key].equal(value) for key, value in few.named_parameters())


def test_the_global_generator_is_left_alone() -> None:
    state = torch.get_rng_state()
    model("gate")
    assert torch.get_rng_state().equal(state)
    with isolated_generator(1, "x"):
        torch.rand(3)
        with pytest.raises(ZeroDivisionError), isolated_generator(1, "y"):
            raise ZeroDivisionError
    assert torch.get_rng_state().equal(state)


def test_derived_seeds() -> None:
    seeds = [
        derive_seed(s, *p) for s in (1, 2, 12) for p in (("order",), ("dropout", 0), ("dropout", 1))
    ]
    assert len(set(seeds)) == 9
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derive_seed(1, "order") == 620558406644582515  # the same on every machine, for ever


def test_count_parameters() -> None:
    """By hand: tables, 16-wide attention (4 x 16 x 16 and biases), 16-24-16, norms."""
    attention = 4 * (16 * 16 + 16)
    forward = 16 * 24 + 24 + 24 * 16 + 16
    norm = 2 * 16
    layers = (attention + forward + 2 * norm) + (2 * attention + forward + 3 * norm) + 2 * norm
    table = 50 * 16
    counts = {name: count_parameters(model(name)) for name in METHODS}
    assert counts["none"] == {"total": layers + 2 * table, "combiner": 0, "features": 0}
    features = (30 + 14) * 16
    for name in ("add", "average"):
        total = layers + 2 * table + features
        assert counts[name] == {"total": total, "combiner": 0, "features": features}
    gate = 3 * 16 * 2 * 16 + 2 * 16
    total = layers + 2 * table + features + gate
    assert counts["gate"] == {"total": total, "combiner": gate, "features": features}
    # default widths: min(values, 16, 16 / 8) = 2 each, so the word has 12
    total = layers + table + 50 * 12 + (30 + 14) * 2
    assert counts["concat"] == {"total": total, "combiner": 0, "features": 88}


@pytest.mark.parametrize("name", ["none", "add", "average", "gate"])
def test_one_table_for_all(name: str) -> None:
    tied, untied = model(name, tie="all"), model(name)
    assert tied.source.words is tied.target.words
    saved = count_parameters(untied)["total"] - count_parameters(tied)["total"]
    assert saved == 50 * 16
    target = untied.target.words.weight
    assert tied.target.words.weight.equal(target)


def test_one_table_for_all_needs_the_words_width(small: Small) -> None:
    message = (
        "model.tie=all needs one table of width 16, but the combiner gives the word {}; "
        "use model.tie=target or another combiner"
    )
    with pytest.raises(UserError) as error:
        model("concat", tie="all")
    assert str(error.value) == message.format("12 (16 = 12 word + 2 deprel + 2 upos)")
    # before data is read: widths as narrow as can be, so another sum
    settings = ("combiner=concat", "model.tie=all", "data.folder=/nowhere", "features.upos.dim=3")
    with pytest.raises(UserError) as error:
        small.train(*settings)
    assert str(error.value) == message.format("12 (16 = 12 word + 1 deprel + 3 upos)")
    # in which a feature that is no column of its own has no share
    settings = ("combiner=mixed", "model.tie=all", "features.upos.dim=2", "features.deprel.dim=8")
    with pytest.raises(UserError) as error:
        small.train(*settings, "data.folder=/nowhere")
    assert str(error.value) == message.format("14 (14 word, 14 deprel, 2 upos to 16)")
    assert not (small.folder / "runs").exists()


def test_words_take_what_features_leave(small: Small) -> None:
    with pytest.raises(UserError) as error:
        small.train("features.upos.dim=15", "features.deprel.dim=1", "data.folder=/nowhere")
    assert str(error.value) == (
        "concat leaves the word 0 of the model's width 16: deprel 1 + upos 15 = 16; "
        "make features.<name>.dim smaller or model.dim larger"
    )


@pytest.mark.parametrize(
    ("preset", "dim", "columns", "expected"),
    [
        ("tutorial", 512, ["upos"], "512 = 500 word + 12 upos"),
        ("tutorial", 128, ["upos", "lemma"], "128 = 122 word + 3 upos + 3 lemma"),
        (
            "sennrich",
            500,
            ["subword_tag", "lemma", "upos", "deprel"],
            "500 = 360 word + 5 subword_tag + 115 lemma + 10 upos + 10 deprel",
        ),
        (
            "sennrich",  # in proportion, but at least 4
            128,
            ["subword_tag", "lemma", "upos"],
            "128 = 91 word + 4 subword_tag + 29 lemma + 4 upos",
        ),
        (
            "default",  # min(values, 16, dim / 8), a lemma dim / 4
            512,
            ["upos", "lemma", "case"],
            "512 = 362 word + 16 upos + 128 lemma + 6 case",
        ),
        ("default", 64, ["upos", "case"], "64 = 50 word + 8 upos + 6 case"),
        ("equal", 128, ["upos"], "128 = 64 word + 64 upos"),  # Park & Zhao 2020
        ("equal", 128, ["upos", "case"], "128 = 44 word + 42 upos + 42 case"),
    ],
)
def test_presets_of_widths(preset: str, dim: int, columns: list[str], expected: str) -> None:
    values = {"upos": 17, "lemma": 1000, "case": 6, "subword_tag": 8, "deprel": 40}
    features = {name: FeatureConfig(column=name) for name in columns}
    settings = combiner("concat", widths=preset)
    cfg = TrainConfig(features=features, combiner=settings, model=ModelConfig(dim=dim))
    merge = build_run_combiner(cfg, values)
    assert isinstance(merge, Concat)
    assert format_widths(merge) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("concat", "128 = 64 upos + 64 case"),
        ("average", "128 upos, 128 case to 128"),
        ("gate", "128 upos, 128 case to 128"),
    ],
)
def test_features_in_the_place_of_words(name: str, expected: str) -> None:
    """Without the words' table: the features are all parts, and equal widths are of them alone."""
    model, settings = ModelConfig(dim=128, source_words=False), combiner(name, widths="equal")
    features = {name: FeatureConfig(column=name) for name in ("upos", "case")}
    cfg = TrainConfig(features=features, combiner=settings, model=model)
    built_model = build_model(cfg, {"upos": 17, "case": 6}, 50, 50)
    assert format_widths(built_model.source.combiner) == expected
    assert built_model.source.words is None
    ids, values = torch.tensor([[4, 5], [6, 4]]), torch.tensor([[3, 4], [5, 3]])
    rows = {"upos": values, "case": values.flip(0)}
    built_model.eval()
    assert built_model.source(ids, rows).equal(built_model.source(ids.flip(0), rows))
    assert not built_model.source(ids, rows).equal(
        built_model.source(ids, {**rows, "case": values})
    )


def test_arithmetic_of_the_others() -> None:
    assert format_widths(Add({"word": 8, "upos": 2}, 8)) == "8 word, 8 upos to 8"
    assert format_widths(NoFeatures({"word": 8}, 8)) == "8 word to 8"


def test_settings_of_a_class() -> None:
    gate = build_combiner(combiner("gate", bias=2.0), {"word": 4, "upos": 2}, 4)
    assert isinstance(gate, Gate)
    assert gate.logits.bias.unique().tolist() == [2.0]
    assert list_unused_settings(combiner("gate", bias=2.0)) == []
    assert list_unused_settings(combiner("add", bias=2.0, args={"x": 1})) == ["bias", "x"]
    assert list_unused_settings(combiner("none", args={"x": 1})) == ["x"]
    add = build_combiner(combiner("add", bias=2.0), {"word": 4, "upos": 2}, 4)
    assert isinstance(add, Add)


class Mine(Combiner):
    """A user's own, with any settings."""

    def __init__(self, parts: dict[str, int], model_dim: int, **settings: object) -> None:
        super().__init__(parts, model_dim)
        self.settings = settings


class Other(torch.nn.Module):
    """No combiner."""

    def __init__(self, parts: dict[str, int], model_dim: int) -> None:
        super().__init__()


def test_a_users_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NMT_FEAT_MODULES", __name__)
    combiner_config = CombinerConfig(f"{__name__}.Mine", args={"depth": 3})
    assert list_unused_settings(combiner_config) == []
    built_model = build_combiner(combiner_config, {"word": 4}, 4)
    assert isinstance(built_model, Mine)
    assert built_model.settings == {"depth": 3}
    with pytest.raises(UserError) as error:
        build_combiner(CombinerConfig(f"{__name__}.Other"), {"word": 4}, 4)
    target = f"combiner._target_={__name__}.Other"
    expected = f"{target}: must be derived from nmt_feat.combiners.Combiner"
    assert str(error.value) == expected


@pytest.mark.thorough
def test_a_setting_that_the_method_does_not_take(small: Small) -> None:
    with pytest.raises(UserError) as error:
        small.train("combiner=add", "combiner.bias=0", "data.folder=/nowhere")
    assert str(error.value) == "combiner=add takes no bias; leave combiner.bias out"
    console = Console(record=True)
    cfg = resolve_settings(small.config("combiner=add", "combiner.bias=0"), True, console)
    assert console.export_text() == "combiner=add: unused: bias\n"
    assert cfg == resolve_settings(small.config("combiner=add"), True, console)
    cfg = resolve_settings(small.config("combiner=gate", "combiner.bias=0.5"), False, console)
    assert cfg.combiner.bias == 0.5


def test_a_setting_that_the_kind_of_subwords_does_not_use(small: Small) -> None:
    console = Console(record=True)
    arguments = "subword=none", "subword.byte_fallback=true", "subword.min_count=2"
    cfg = resolve_settings(small.config(*arguments), True, console)
    assert console.export_text() == "subword=none: unused: byte_fallback\n"
    assert cfg == resolve_settings(
        small.config("subword=none", "subword.min_count=2"), False, console
    )
