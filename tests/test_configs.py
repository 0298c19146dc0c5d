"""Every shipped config does what it is for: composed, built, run for an update."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
import torch
import yaml

from nmt_feat.config.rules import check_settings
from nmt_feat.config.schema import TrainConfig
from nmt_feat.runs.setup.build_model import build_model
from tests.support.entry import call
from tests.support.options import CONF, options
from tests.support.small import Small, composed, record
from tests.support.sweeps import sweep

FEW = ("trainer.max_steps=1", "trainer.validate_every=1")


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
        model = build_model(TrainConfig(combiner=cfg.combiner, model=cfg.model), {}, pieces, pieces)
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
