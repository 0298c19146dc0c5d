"""Text of the settings is what was typed: numbers, truth values, odd names of files, YAML."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from nmt_feat.cli.compose import compose_settings
from nmt_feat.config.inference_schema import ScoreConfig, TranslateConfig
from nmt_feat.config.members import describe_members
from nmt_feat.config.overrides import keep_text
from nmt_feat.config.schema import TrainConfig
from nmt_feat.config.yaml_files import load_yaml, read_yaml
from nmt_feat.errors import UserError
from tests.support.entry import call
from tests.support.mistakes import here, line
from tests.support.small import Small

__all__ = ["here"]  # a fixture

NAMES = (
    "2024_12_01",
    "1.10",
    "1e3",
    "007",
    "true",
    "False",
    "nan",
    "-5",
    "a,b",
    "übung",
    "文",
    "a b",
    " a ",
    "a=b",
    "a[1]",
    "[a]",
    "{a}",
    "(a)",
    "a(1",
    "choice(a)",
    "a:b",
    "a#b",
    "a;b&c",
    "a'b",
    'a"b',
    "$a",
    "a$(b)",
    "a~b",
    "~a",
    "a!b",
    "a^b",
    "a<b>c",
    "a`b",
    "a%b@c",
    "a|b",
    "a\\b",
    "a${b",
    "a}b",
    "a\tb",
    "a\nb",
    "-",
    "a*?",
)


def value_of(override: str, top: type, sweep: bool = False) -> object:
    """What Hydra and OmegaConf make of an override of the command line."""
    override = keep_text(override, top, sweep)
    value = OverridesParser.create().parse_override(override).value()
    return OmegaConf.create({"x": value}).x if isinstance(value, str) else value


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("key", "top"),
    [("input", TranslateConfig), ("target", ScoreConfig), ("data.train.source", TrainConfig)],
)
def test_a_name_is_taken_as_typed(name: str, key: str, top: type) -> None:
    assert value_of(f"{key}={name}", top) == name
    assert value_of(f"+{key}={name}", top) == name


@pytest.mark.parametrize(
    ("key", "top"),
    [
        ("+labels.formality", TranslateConfig),
        *((key, TranslateConfig) for key in ("glossary", "+label_files.formality")),
        *((key, TrainConfig) for key in ("init.run", "model.folder", "model.prefix", "license")),
        *((f"data.{key}", TrainConfig) for key in ("terminology.glossary", "train.labels.domain")),
        ("glossary", ScoreConfig),
    ],
)
def test_later_settings_are_taken_as_typed(key: str, top: type) -> None:
    for name in ("a,b", "choice(a)", "translate English, please:"):
        assert value_of(f"{key}={name}", top) == name


@pytest.mark.parametrize("name", [n for n in NAMES if "," not in n])
def test_names_in_a_sweep(name: str) -> None:
    override = keep_text(f"paths.runs={name},b", TrainConfig, sweep=True)
    parsed = OverridesParser.create().parse_override(override)
    if name in ("a(1", "a${b"):  # its bracket is open: all of it is one name
        assert OmegaConf.create({"x": parsed.value()}).x == f"{name},b"
        return
    texts = [f"x={value}" for value in parsed.sweep_string_iterator()]
    values = [OverridesParser.create().parse_override(text) for text in texts]
    stripped = name.strip() if name == " a " else name
    assert [OmegaConf.create({"x": v.value()}).x for v in values] == [stripped, "b"]


def test_a_comma_in_a_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It separates values, unless a file of the whole name is there."""
    monkeypatch.chdir(tmp_path)
    assert keep_text("data.train.source=a,b", TrainConfig, sweep=True) == "data.train.source=a,b"
    (tmp_path / "a${x}").touch()
    assert value_of("data.train.source=a${x}", TrainConfig) == "a${x}"
    (tmp_path / "a,b").touch()
    assert value_of("data.train.source=a,b", TrainConfig, sweep=True) == "a,b"


def test_what_keeps_hydras_meaning(monkeypatch: pytest.MonkeyPatch) -> None:
    for override, value in (
        ('input="a b"', "a b"),
        ("input='1.10'", "1.10"),
        (r"input=a\,b", "a,b"),
        ("raw=null", None),
        ("input=", ""),
    ):
        assert value_of(override, TranslateConfig) == value, override
    for override in ("model.dim=1_000", "model.tie=target,all", "combiner=gate,add", "lr=x,y"):
        assert keep_text(override, TrainConfig, sweep=False) == override
    monkeypatch.setenv("NAME_OF_A_TEST", "ü")
    assert value_of("input=${oc.env:NAME_OF_A_TEST}/(1)", TranslateConfig) == "ü/(1)"


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("data.target_lang=true", "true"),
        ("data.factors=[1.10,lemma,true]", ["1.10", "lemma", "true"]),
        ("data.train.factors={upos:1_0,lemma:a}", {"upos": "1_0", "lemma": "a"}),
        ("+data.train.factors.upos=1_0", "1_0"),
        ("data.dev={source:1_0,optional:true}", {"source": "1_0", "optional": True}),
        ("hydra.sweep.dir=2024_12_01", "2024_12_01"),
        ("data=2024", "2024"),
        ("features=[upos,1]", ["upos", "1"]),
        ("model.dim=1_0", 10),
        ("optimizer.betas=[0.10,0.9]", [0.1, 0.9]),
    ],
)
def test_text_by_the_schema(override: str, value: object) -> None:
    assert value_of(override, TrainConfig) == value


def test_lists_and_choices_in_a_sweep() -> None:
    for override, values in (
        ("data.factors=[1.10],[a]", [["1.10"], ["a"]]),
        ("data.target_lang=choice(1.10,no)", ["1.10", "no"]),
        ("data.target_lang=no,1.10", ["no", "1.10"]),
        ("data.target_lang=choice(en,no)", ["en", "no"]),
    ):
        parsed = OverridesParser.create().parse_override(keep_text(override, TrainConfig, True))
        texts = [f"x={value}" for value in parsed.sweep_string_iterator()]
        assert [OverridesParser.create().parse_override(t).value() for t in texts] == values
    with pytest.raises(UserError, match=r"shuffle\(1,2\): has a number or a truth value"):
        keep_text("data.target_lang=shuffle(1,2)", TrainConfig, True)


MINE = """\
name: 2024_12_01
source_lang: en
target_lang: no
format: text
min_words: 1_0
factors: [1.10, on, lemma]
train: &files {source: 1.0, target: 0x10, factors: {no: 12:30}}
dev: {<<: *files, target: ~}
tests:
  2016: {source: 1e3, target: yes, optional: yes}
"""


def test_yaml(tmp_path: Path) -> None:
    """From the user's own folder, in lists, dictionaries, keys and what an alias stands for."""
    (tmp_path / "my" / "data").mkdir(parents=True)
    (tmp_path / "my" / "data" / "mine.yaml").write_text(MINE.replace("target: ~", "raw: ~"))
    data = compose_settings(["data=mine", "combiner=none"], str(tmp_path / "my")).data
    assert (data.name, data.target_lang, data.min_words) == ("2024_12_01", "no", 10)
    assert data.factors == ["1.10", "on", "lemma"]
    assert (data.train.source, data.train.target) == ("1.0", "0x10")
    assert data.train.factors == data.dev.factors == {"no": "12:30"}
    assert data.dev.raw is None
    test = data.tests["2016"]
    assert (test.source, test.target, test.optional) == ("1e3", "yes", True)


@pytest.mark.parametrize("null", ["~", "null"])
def test_null_in_yaml_is_refused_with_the_advice_to_quote(null: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.yaml").write_text(f"name: a\ntarget_lang: {null}\n")
    with pytest.raises(UserError) as error:
        compose_settings(["data=mine"], str(tmp_path))
    assert str(error.value) == (
        "data/mine.yaml: data.target_lang: null, needs a value; for the text null write "
        'target_lang: "null"'
    )


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_yaml_of_a_global_package(tmp_path: Path, mark: str) -> None:
    """Also behind a byte-order mark, as Windows may write it."""
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        f"{mark}# @package _global_\n"
        "defaults:\n  - override /combiner: none\n"
        "paths: {runs: 2024_12_01}\ntrainer: {progress: no}\ndata: {target_lang: no}\n"
        "hydra: {sweeper: {params: {data.target_lang: no, seed: 3}}}\n",
        encoding="utf-8",
    )
    cfg = compose_settings(["experiment=mine"], str(tmp_path))
    assert (cfg.paths.runs, cfg.data.target_lang, cfg.trainer.progress) == (
        "2024_12_01",
        "no",
        False,
    )


def test_text_that_is_written_is_read_again(tmp_path: Path) -> None:
    """The settings in a run's folder."""
    names = {f"n{i}": name for i, name in enumerate(NAMES) if "${" not in name}
    path = tmp_path / "config.yaml"
    path.write_text(OmegaConf.to_yaml({"data": {"train": {"factors": names}}}), encoding="utf-8")
    assert read_yaml(path, TrainConfig).data.train.factors == names


BOMB = "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
BOMBS = {
    "aliases": f"a0: &a0 [x]\n{BOMB}",
    "merges": "b0: &b0 {x: 1}\n"
    + "".join(f"b{i}: &b{i} {{<<: [*b{i - 1}, *b{i - 1}]}}\n" for i in range(1, 40)),
    "itself": "a: &a [*a]\n",
    "deep": "a: " + "[" * 1500 + "]" * 1500 + "\n",
}


@pytest.mark.thorough
@pytest.mark.parametrize("bomb", BOMBS)
def test_aliases_of_aliases(bomb: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(BOMBS[bomb])
    with path.open() as file, pytest.raises(UserError) as error:
        load_yaml(file, TrainConfig, path)
    assert str(error.value).startswith(f"{path}: ")
    assert str(error.value).count("\n") == 0


def test_aliases_in_a_folder_of_the_user_and_in_a_run(small: Small, here: Path) -> None:
    (here / "my" / "experiment").mkdir()
    (here / "my" / "experiment" / "bomb.yaml").write_text(BOMBS["aliases"])
    done = call("train", "--config-dir", "my", "experiment=bomb")
    assert "experiment/bomb.yaml: has more than 20,000 values" in line(done, small)
    (here / "run").mkdir()
    (here / "run" / "config.yaml").write_text(BOMBS["aliases"])
    (here / "run" / "model.safetensors").touch()
    (here / "run" / "encoder").mkdir()
    (here / "run" / "encoder" / "features.json").touch()
    done = call("translate", "run=run", "input=text")
    assert "run/config.yaml: has more than 20,000 values" in line(done, small)


# ---- what the command line describes


@pytest.mark.thorough
def test_a_test_set_and_a_feature_are_described() -> None:
    for plus in ("", "+"):
        cfg = compose_settings(
            [
                f"{plus}data.tests.b.source=2024_1",
                f"{plus}data.tests.b.target=b,c",
                "data.tests.b.optional=true",
                f"{plus}features.gender.column=feats.Gender",
                "features.gender.dim=3",
                f"{plus}logger.mine._target_=mine.Mine",
            ]
        )
        assert list(cfg.data.tests) == ["test", "b"]  # the first one stays the table's
        assert (cfg.data.tests["b"].source, cfg.data.tests["b"].target) == ("2024_1", "b,c")
        assert sorted(cfg.features) == ["deprel", "gender", "upos"]
        assert (cfg.features["gender"].column, cfg.features["gender"].dim) == ("feats.Gender", 3)
        assert cfg.logger["mine"]._target_ == "mine.Mine"
    cfg = compose_settings(["+data.tests.b={source: x, target: y}", "+features.l={column: lemma}"])
    assert (cfg.data.tests["b"].source, cfg.features["l"].column) == ("x", "lemma")
    assert list(compose_settings(()).data.tests) == ["test"]  # nothing stays from the call before


def test_what_is_needed_is_there_without_a_plus() -> None:
    overrides = ["+data.tests.b.source=x", "+data.tests.b.target=y", "+data.tests.b.factors.upos=z"]
    assert describe_members(overrides, sweep=False) == [
        "data.tests.b.source=x",
        "data.tests.b.target=y",
        "+data.tests.b.factors.upos=z",
    ]
    describe_members([], sweep=False)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("features.lema.dim=3", "features.lema: no job of the sweep chooses it; choose it by name, "
         "features=[lema,...], or leave features.lema.dim out"),
        ("logger.csv.args.x=3", "logger.csv: no job of the sweep chooses it; choose it by name, "
         "logger=[csv,...], or leave logger.csv.args.x out"),
    ],
)  # fmt: skip
def test_nobody_chooses_it(small: Small, here: Path, override: str, message: str) -> None:
    jobs = ["-m", "features=[upos],[lemma]", f"+{override}" if "args" in override else override]
    assert line(call("train", *small.overrides(*jobs)), small) == message
    assert not list(here.glob("runs/[!s]*"))


@pytest.mark.slow
def test_some_jobs_choose_it(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(small.folder)
    monkeypatch.setattr(sys, "path", [*sys.path])
    jobs = ["features=[upos],[lemma,upos]", "features.lemma.max_values=9", "trainer.max_steps=2"]
    done = call("train", "-m", *small.overrides(*jobs, "combiner=add"))
    assert done.code == 0, done
    assert done.out.count("features=[upos]: unused: features.lemma.max_values") == 1
    names = sorted(path.parent.name for path in small.folder.glob("runs/*/result.json"))
    assert [name.rpartition("-s")[0] for name in names] == ["add-lemma+upos", "add-upos"]
    (config,) = small.folder.glob("runs/add-lemma*/config.yaml")
    assert OmegaConf.load(config).features.lemma.max_values == 9
