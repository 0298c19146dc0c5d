"""Every shipped experiment composes with every method, and its rows are what they are called."""

from __future__ import annotations

import itertools

import pytest
import yaml

from nmt_feat.config.identity import name_row_method, shorten_class_name
from nmt_feat.config.rules import check_settings
from nmt_feat.config.schema import TrainConfig
from nmt_feat.runs.setup.method_rules import check_widths
from tests.support.options import CONF, options
from tests.support.small import composed

WIDTHS = ("four_methods", "meta_embedding", "sennrich2016_en_de", "park2020_ko_en")
"""Experiments whose parts have widths of their own kind."""
PAIRS = [
    pytest.param(name, combiner, marks=[pytest.mark.slow] * (not first))
    for name in options("experiment")
    for combiner in options("combiner")
    for first in [combiner == "concat" or (combiner == "gate" and name in WIDTHS)]
    if first or name in WIDTHS
]
"""Every method with the experiments of WIDTHS; what the others leave to a method is the same."""


@pytest.mark.thorough
@pytest.mark.parametrize(("name", "combiner"), PAIRS)
def test_experiments(name: str, combiner: str) -> None:
    """They compose with every method, and their widths fit."""
    words_only = name == "wu2021_tiny"  # with one table for all
    more = ("data.folder=x", *("model.tie=target",) * words_only)
    cfg = composed((f"experiment={name}", f"combiner={combiner}", *more))
    check_settings(cfg)
    features = cfg.features if combiner != "none" else {}
    check_widths(TrainConfig(features=features, combiner=cfg.combiner, model=cfg.model))
    assert shorten_class_name(cfg.combiner._target_) == combiner


SIX = ("upos", "xpos", "deprel", "feats", "lemma", "subword_tag")
FIVE = ("deprel", "feats", "lemma", "subword_tag", "upos")
FEATURES = {f"concat_{name}": [name] for name in SIX}
FEATURES |= {"concat_six": sorted(SIX), "concat_five": sorted(FIVE)}
"""Of rows that are about features."""


UNITS = {"jamo": ["jamo"], "syllable": ["syllable"], "jamo_syllable": ["jamo", "syllable"]}
THREE = ("concat", "average", "gate")
KOREAN = {f"{units}_{m}": (m, columns, True) for units, columns in UNITS.items() for m in THREE}
KOREAN |= {f"units_{m}": (m, ["jamo", "syllable"], False) for m in THREE}
KOREAN |= {unit: ("concat", [unit], False) for unit in ("jamo", "syllable")}


TAGS = ["upos", "deprel"]
BEYOND = {
    "word_relevance": ("word_relevance", "none", TAGS),
    "interleave": ("interleave", "none", TAGS),
    "interleave_dummy": ("interleave", "dummy", TAGS),
    "encoders_concat": ("encoders_concat", "none", TAGS),
    "encoders_sum": ("encoders_sum", "none", TAGS),
    "output_gate": ("output_gate+concat", "none", TAGS),
    "tree_attention": ("tree_attention", "none", ["heads"]),
    "tree_attention_shuffled": ("tree_attention", "shuffled", ["heads"]),
    "tree_attention_concat": ("tree_attention+concat", "none", ["heads", *TAGS]),
    "tree_distance": ("tree_distance", "none", ["heads"]),
    "tree_distance_shuffled": ("tree_distance", "shuffled", ["heads"]),
    "concat_heads": ("concat", "none", ["head_distance", *TAGS]),
    "multitask": ("multitask", "none", TAGS),
    "multitask_shuffled": ("multitask", "shuffled", TAGS),
}
"""Rows of methods beyond the embedding, and their names in tables, controls and features."""
OF_ANY_METHOD = ("pairs", "erase", "classes")
"""What rows are about that leave the method to the command line, as their names begin."""


def is_as_named(row: str, cfg: TrainConfig) -> bool:
    """A row is a method, and what else its name says."""
    if row in BEYOND:
        name, control, features = BEYOND[row]
        actual = name_row_method(cfg.combiner._target_, cfg.method._target_), cfg.control
        return (*actual, sorted(cfg.features)) == (name, control, sorted(features))
    method, _, control = row.partition("_")
    if method in OF_ANY_METHOD:
        return True
    if row == "concat_project":
        method, control = row, ""
    if method == "park2020":
        units = (shorten_class_name(cfg.combiner._target_), [*cfg.features], cfg.model.source_words)
        return (units, cfg.control) == (KOREAN[control], "none")
    if method == "meta":
        method, control = "average" if control == "average" else "concat", ""
    tie = "all" if control == "tied" else "target"
    control = control if control in ("shuffled", "by_type", "matched") else "none"
    features = FEATURES.get(row, sorted(cfg.features))
    actual = (
        shorten_class_name(cfg.combiner._target_),
        cfg.control,
        cfg.model.tie,
        sorted(cfg.features),
    )
    return actual == (method, control, tie, features)


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["none_tied", "gate_matched", "concat_six", "meta_average"])
def test_rows_alone(name: str) -> None:
    """Without the experiment that they stand in."""
    cfg = composed((f"row={name}",))
    check_settings(cfg)
    assert is_as_named(name, cfg)


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["jamo", "syllable_gate", "jamo_syllable_average", "units_concat"])
def test_rows_of_park2020(name: str) -> None:
    """Method, units, and whether pieces have embeddings; the other rows: test_tables."""
    cfg = composed(("experiment=park2020_ko_en", f"row=park2020_{name}", "data.folder=x"))
    assert is_as_named(f"park2020_{name}", cfg)
    assert len(cfg.published.figures) == len(KOREAN) + 1
    assert (cfg.data.name, cfg.combiner.widths) == ("korean", "equal")


@pytest.mark.thorough
@pytest.mark.parametrize("pairs", [1000, 3000, 10000, None])
def test_rows_of_corpus_sizes(pairs: int | None) -> None:
    """The smaller, the fewer updates; the method is the command line's."""
    cfg = composed(("experiment=low_resource", f"row=pairs_{pairs or 'all'}", "combiner=add"))
    check_settings(cfg)
    assert (cfg.data.limit, shorten_class_name(cfg.combiner._target_)) == (pairs, "add")
    whole = composed(("experiment=four_methods_multi30k", "row=add"))
    assert (cfg == whole) == (pairs is None)
    assert cfg.trainer.average * cfg.trainer.validate_every == cfg.trainer.max_steps / 5
    assert cfg.optimizer.warmup == cfg.trainer.max_steps / 5


TABLES = {"four_methods": 25, "controls": 25, "four_methods_multi30k": 27, "multi30k_tok": 0}
TABLES |= {"single_features": 24, "low_resource": 60, "information": 225}
TABLES |= {"sennrich2016_en_de": 21, "sennrich2016_de_en": 21, "wu2021_tiny": 0}
TABLES |= {"park2020_ko_en": 30, "meta_embedding": 25, "beyond": 65, "pretrained": 36}


TABLES |= {"terminology": 24, "terminology_multi30k": 0}


QUICK = "controls", "four_methods"
"""Tables of few rows; each row of a table is composed."""


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=[pytest.mark.thorough] * (n not in QUICK))
        for n in options("experiment")
    ],
)
def test_tables(name: str) -> None:
    """An experiment's sweep: all its rows compose to what they are called, no two are the same."""
    result = yaml.safe_load((CONF / "experiment" / f"{name}.yaml").read_text(encoding="utf-8"))
    params = result.get("hydra", {}).get("sweeper", {}).get("params", {})
    choices = [[f"{key}={v}" for v in str(values).split(",")] for key, values in params.items()]
    jobs = list(itertools.product(*choices)) if choices else []
    assert len(jobs) == TABLES[name]
    rows = [("data.folder=x", *job) for job in jobs if "seed=1" in job]
    settings = [composed((f"experiment={name}", *row)) for row in rows]
    assert len(set(map(repr, settings))) == len(rows)
    for cfg, row in zip(settings, rows, strict=True):
        check_settings(cfg)
        for option in row:
            assert not option.startswith("row=") or is_as_named(option.removeprefix("row="), cfg)
