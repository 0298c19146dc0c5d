"""Every shipped config does what it is for: composed, built, run for an update."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
import torch
import yaml

from nmt_feat.config.config_source import read_rows
from nmt_feat.config.identity import method_name, name_method
from nmt_feat.config.rules import check_settings
from nmt_feat.config.schema import TrainConfig
from nmt_feat.runs.build_model import build_model
from nmt_feat.runs.combiner_rules import check_widths
from tests.support.entry import call
from tests.support.small import ROOT, Small, composed, record
from tests.support.sweeps import sweep

CONF = ROOT / "conf"
FEW = ("trainer.max_steps=1", "trainer.validate_every=1")


def options(group: str) -> list[str]:
    """The options of a group."""
    result = sorted(path.stem for path in (CONF / group).glob("*.yaml"))
    if group == "row":
        result = sorted(read_rows(CONF))
    assert result, group
    return result


GIVEN = (
    *("contextual", "domain", "formality", "term"),
    *("vectors", "vectors_sentence", "vectors_window"),
)
"""Features that need a file or folder; their own tests run them."""


def test_everything_is_here() -> None:
    """A new group needs a test of its own; a new feature is to be run."""
    assert sorted([*",".join(SETS).split(","), *GIVEN]) == options("features")
    groups = {path.name for path in CONF.iterdir() if path.is_dir()} - {"local"}
    assert groups == {
        *("annotator", "combiner", "data", "decoding", "experiment", "features", "hydra"),
        *("hparams_search", "logger", "method", "metrics", "model", "optimizer", "subword"),
        "trainer",
    }


@pytest.mark.parametrize("name", ["train", "translate", "score", "evaluate"])
def test_printed_settings(name: str) -> None:
    """`--cfg job` composes and prints, and runs nothing."""
    done = call(name, "--cfg", "job")
    assert (done.code, done.err) == (0, "")
    for line in (CONF / f"{name}.yaml").read_text(encoding="utf-8").splitlines():
        if line.startswith("  - ") and ": " in line and not re.search("override|optional", line):
            assert f"\n{line[4:].split(':')[0]}:" in f"\n{done.out}" or "null" in line


# ---- a run with each option


def run(small: Small, *overrides: str) -> Path:
    folder = small.train(*FEW, *overrides)
    run_record = record(folder)
    assert run_record["updates"] == 1
    assert run_record["dev"] is not None
    assert len((folder / "test.hyp").read_text(encoding="utf-8").split("\n")) == 9
    return folder


SETS = (
    "upos,heads",
    "lemma,case,subword_tag",
    "xpos,feats,head_upos,shape,number,deprel",
    "char,jamo,feats_set",
    "ngram,syllable,head_position,head_distance,tree_depth",
)
"""Together all features; more than these do not fit into a model of this width."""
FIRST = "add", "average", "gate", "none"
"""Combiners of the quick tests, beside concat with each set."""
CASES = [pytest.param("concat", features) for features in SETS]
CASES += [
    pytest.param(c, SETS[i % 5], marks=[pytest.mark.thorough] * (c not in FIRST))
    for i, c in enumerate(options("combiner"))
    if c != "concat"
]


@pytest.mark.parametrize(("combiner", "features"), CASES)
def test_combiners(small: Small, combiner: str, features: str) -> None:
    run_record = record(
        run(small, f"combiner={combiner}", f"features=[{features}]", "model.dim=32")
    )
    names = sorted(features.split(","))
    assert run_record["features"] == ([] if combiner == "none" else names)
    assert run_record["method"] == combiner
    assert (run_record["parameters"]["features"] == 0) == (combiner == "none")
    wide = {"lemma", "char", "jamo", "ngram", "syllable"}
    gated = combiner != "mixed" or not wide.isdisjoint(names)
    free = combiner in ("none", "concat", "add", "average")
    assert (run_record["parameters"]["combiner"] > 0) == (not free and gated)


@pytest.mark.thorough
@pytest.mark.parametrize("widths", ["tutorial", "sennrich"])
def test_widths(small: Small, widths: str) -> None:
    run(small, "combiner=concat", f"combiner.widths={widths}", "features=[upos,lemma]")


@pytest.mark.thorough
@pytest.mark.parametrize("subword", options("subword"))
def test_subwords(small: Small, subword: str) -> None:
    joint = subword in ("bpe", "none")
    folder = run(small, f"subword={subword}", f"subword.joint={joint}", "combiner=none")
    files_on_disk = sorted(path.name for path in (folder / "encoder").iterdir())
    kind = "model" if subword in ("bpe", "unigram") else "json"
    models_and_more = [f"source.{kind}", f"target.{kind}", "text.json"]
    assert files_on_disk == ["features.json", "normal_form.json", *models_and_more]
    models = [(folder / "encoder" / f"{side}.{kind}").read_bytes() for side in ("source", "target")]
    assert (models[0] == models[1]) == joint


@pytest.mark.parametrize("tie", ["target", "all"])
def test_tying(small: Small, tie: str) -> None:
    sizes = [
        record(run(small, "combiner=add", "features=[upos]", f"model.tie={way}"))["parameters"]
        for way in ("target", tie)
    ]
    pieces, dim = 200, 16
    assert sizes[0]["total"] - sizes[1]["total"] == (pieces * dim if tie == "all" else 0)


OPTIONS = (
    "optimizer.schedule=inverse_sqrt trainer.select=average trainer.accumulate=2",
    "optimizer.schedule=linear trainer.fused_loss=false model.attention_dropout=0.1",
    "optimizer.schedule=cosine trainer.precision=bf16-mixed trainer.patience=1",
    "optimizer.schedule=constant trainer.clip_norm=0 decoding.length_penalty=0",
    "combiner=gate combiner.bias=1 optimizer._target_=torch.optim.SGD",
)
GROUPS = ("optimizer", "trainer", "decoding")


BY_TURNS = itertools.zip_longest(*([f"{g}={n}" for n in options(g)] for g in GROUPS), fillvalue="")


@pytest.mark.thorough
@pytest.mark.parametrize("chosen", [*OPTIONS, *map(" ".join, BY_TURNS)])
def test_options(small: Small, chosen: str) -> None:
    run(small, *chosen.split())


@pytest.mark.thorough
def test_hanta_in_place_of_the_corpus_annotation(small: Small) -> None:
    pytest.importorskip("HanTa")
    small.cache = small.folder / "cache"
    more = ("annotator=hanta", "annotator.processes=1", "features=[upos,lemma]")
    run_record = record(run(small, "combiner=add", *more))
    assert run_record["config"]["annotator"]["args"] == {"language": "en"}


# ---- what is too large to run here


def count(cfg: TrainConfig, pieces: int) -> int:
    """Parameters of the words-only model, which is built without memory."""
    with torch.device("meta"):
        model = build_model(cfg.model, cfg.combiner, {}, {}, pieces, pieces, 1)
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("name", sorted({*options("model")} - {"pretrained"}))
def test_models(name: str) -> None:
    """The parameters by hand: a matrix and a vector per projection, two vectors per norm."""
    cfg = composed((f"model={name}", "combiner=none"))
    check_settings(cfg)
    model, pieces = cfg.model, 1000
    d, f = model.dim, model.ffn_dim
    norm, attention, feed_forward = 2 * d, 4 * (d * d + d), 2 * d * f + f + d
    encoder = model.encoder_layers * (2 * norm + attention + feed_forward) + norm
    decoder = model.decoder_layers * (3 * norm + 2 * attention + feed_forward) + norm
    assert count(cfg, pieces) == 2 * pieces * d + encoder + decoder


PUBLISHED = {"tiny": (128, 256, 4, 4), "base": (512, 2048, 8, 6), "big": (1024, 4096, 16, 6)}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes(name: str) -> None:
    """Wu et al. 2021; Vaswani et al. 2017, table 3."""
    model = composed((f"model={name}", "combiner=none")).model
    sizes = model.dim, model.ffn_dim, model.heads, model.encoder_layers
    assert sizes == PUBLISHED[name]
    assert model.decoder_layers == model.encoder_layers


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
    check_widths(cfg.combiner, features, cfg.model)
    assert method_name(cfg.combiner._target_) == combiner


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
        actual = name_method(cfg.combiner._target_, cfg.method._target_), cfg.control
        return (*actual, sorted(cfg.features)) == (name, control, sorted(features))
    method, _, control = row.partition("_")
    if method in OF_ANY_METHOD:
        return True
    if row == "concat_project":
        method, control = row, ""
    if method == "park2020":
        units = (method_name(cfg.combiner._target_), [*cfg.features], cfg.model.source_words)
        return (units, cfg.control) == (KOREAN[control], "none")
    if method == "meta":
        method, control = "average" if control == "average" else "concat", ""
    tie = "all" if control == "tied" else "target"
    control = control if control in ("shuffled", "by_type", "matched") else "none"
    features = FEATURES.get(row, sorted(cfg.features))
    actual = method_name(cfg.combiner._target_), cfg.control, cfg.model.tie, sorted(cfg.features)
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
    assert (cfg.data.limit, method_name(cfg.combiner._target_)) == (pairs, "add")
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


@pytest.mark.parametrize("name", options("hparams_search"))
def test_searches(name: str) -> None:
    """A search is for the highest BLEU on dev, over settings that a run takes."""
    path = CONF / "hparams_search" / f"{name}.yaml"
    sweeper = yaml.safe_load(path.read_text(encoding="utf-8"))["hydra"]["sweeper"]
    assert sweeper["direction"] == "maximize"
    ranges = {key: re.findall(r"[\d.]+", text) for key, text in sweeper["params"].items()}
    for end in (0, -1):
        check_settings(composed(tuple(f"{key}={v[end]}" for key, v in sorted(ranges.items()))))


@pytest.mark.slow
def test_a_search(small: Small) -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    search = ("hparams_search=optuna", "hydra.sweeper.n_trials=2", "combiner=add")
    code, out = sweep(small, *FEW, *search)
    assert code == 0, out
    runs = [record(path.parent) for path in small.folder.glob("runs/*/result.json")]
    assert len({run["settings"]["model"]["dropout"] for run in runs}) == 2


@pytest.mark.thorough
def test_no_search_of_a_table(small: Small) -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    table = ("experiment=four_methods", "hparams_search=optuna", "seed=1")
    code, out = sweep(small, *table)
    assert code == 2, out
    assert "is a table over combiner, and a search chooses settings of one method" in out
    assert not (small.folder / "runs").exists()


def test_an_experiment_gives_way_to_the_command_line() -> None:
    cfg = composed(("experiment=multi30k_tok", "model=base", "trainer.max_steps=7"))
    assert (cfg.data.name, cfg.model.dim, cfg.trainer.max_steps) == ("multi30k_tok", 512, 7)
    assert sorted(cfg.features) == ["deprel", "lemma", "upos"]


@pytest.mark.parametrize("pair", ["en_de", "de_en"])
def test_sennrich2016(pair: str) -> None:
    """Of 500 they give 5, 115 and 10; a model of 128 gives as much, at least 4."""
    cfg = composed((f"experiment=sennrich2016_{pair}", "row=concat_five"))
    check_settings(cfg)
    assert f"{cfg.data.source_lang}_{cfg.data.target_lang}" == pair
    assert sorted(cfg.features) == ["deprel", "feats", "lemma", "subword_tag", "upos"]
    assert (cfg.combiner.widths, cfg.model.dim) == ("sennrich", 128)
    assert cfg.published.figures["all features"].keys() == {
        *("newstest2015 BLEU", "newstest2016 BLEU"),
    }


@pytest.mark.thorough
@pytest.mark.parametrize(
    "chosen",
    [
        *(f"information row={row}" for row in ("erase_75", "classes_4")),
        "low_resource row=pairs_1000",
        "pretrained row=concat_project",
        "pretrained row=denoise_gate_shuffled",
        "sennrich2016_en_de row=concat_five",
        "wu2021_tiny scale=reduced",
        "park2020_ko_en row=park2020_units_gate",
    ],
)
def test_dry_runs(small: Small, chosen: str) -> None:
    """An update of each kind of row, on the corpus that is here."""
    name, row = chosen.split()
    corpus = (
        "data=embedded",
        *("combiner=none",) * (name == "wu2021_tiny"),
        "annotator=none",
        "model.dim=32",
        "trainer.accumulate=1",
    )
    run(small, f"experiment={name}", row, *corpus)


@pytest.mark.thorough
def test_wu2021_tiny() -> None:
    """The size of their model: 9,712 pieces gave 2.57 million parameters."""
    cfg = composed(("experiment=wu2021_tiny",))
    check_settings(cfg)
    assert (cfg.combiner._target_, cfg.model.tie, cfg.trainer.select) == (None, "all", "average")
    assert cfg.trainer.accumulate * cfg.trainer.batch_tokens == 8192
    reduced = composed(("experiment=wu2021_tiny", "scale=reduced")).trainer
    assert (cfg.scale, cfg.trainer.max_steps) == ("full", 8000)
    assert (reduced.max_steps, reduced.accumulate) == (4000, 1)
    assert cfg.published.figures["Transformer-Tiny, text only"] == {"test2016 BLEU": 41.02}
    assert count(cfg, 9712) == pytest.approx(2.57e6, rel=0.01)


SPLITS = ("train", "dev", "tests.test")
FILES = tuple(f"data.{split}.{side}=x" for split in SPLITS for side in ("source", "target"))


@pytest.mark.thorough
@pytest.mark.parametrize("name", options("data"))
def test_corpora(name: str) -> None:
    """The languages are all that the shipped ones leave open."""
    cfg = composed(
        (f"data={name}", "data.source_lang=en", "data.target_lang=de", "combiner=none")
        + (FILES if name == "files" else ("data.folder=x",) * name.startswith("korean"))
    )
    check_settings(cfg)
    assert cfg.data.name == name
    assert cfg.data.tokenized == name.endswith("_tok")
    assert cfg.data.readings == name.startswith("embedded")
    assert next(iter(cfg.data.tests)) == ("test2016" if name.startswith("multi30k") else "test")
