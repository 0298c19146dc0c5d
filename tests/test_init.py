"""Runs that start from the weights of another one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from torch import Tensor

from nmt_feat.data.alignment import SourceEncoder
from nmt_feat.data.prepare import Prepared, prepare
from nmt_feat.embedders.ids import END
from nmt_feat.errors import UserError
from nmt_feat.model.transformer import Transformer
from nmt_feat.runs.processes import make_fabric
from nmt_feat.runs.progress import Progress
from nmt_feat.runs.setup.artifacts import build_run_model
from nmt_feat.runs.setup.build_trainer import build_trainer
from nmt_feat.runs.setup.resolve import resolve_settings
from nmt_feat.runs.setup.starting_model import StartingModel, build_untrained
from nmt_feat.text.subwords import Subwords
from tests.support.small import Small, outcome, record
from tests.support.stops import refused, stop

GATE = ("combiner=gate", "features=[upos]", "trainer.max_steps=2", "seed=7")
CHILD = ("combiner=gate", "features=[upos,deprel]", "subword.vocab_size=150", "data.limit=60")


@pytest.fixture(scope="module")
def parent(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run with words and parts of speech."""
    small = Small(corpus, corpus.parent / "cache", tmp_path_factory.mktemp("parent"))
    return small.train(*GATE)


def prepare_settings(small: Small, *settings: str) -> Prepared:
    cfg = small.config(*settings)
    return prepare(cfg, cfg.features)


def start(small: Small, *settings: str) -> StartingModel:
    """The model that a run starts from."""
    return build_untrained(small.config(*settings), prepare_settings(small, *settings))


def tensors(model: Transformer) -> dict[str, Tensor]:
    return {name: p.detach() for name, p in model.named_parameters()}


def test_what_is_taken(small: Small, parent: Path) -> None:
    """Rows by their names, layers whole; what the parent lacks is as without it."""
    cfg = small.config(*CHILD)
    prepared = prepare(cfg, cfg.features)
    without = tensors(build_run_model(cfg, prepared.encoder, prepared.target))
    model, notes, inheritance = start(small, *CHILD, f"init.run={parent}")
    child, weights = tensors(model), load_file(parent / "model.safetensors")
    names = prepared.target.names, Subwords.load(parent / "encoder" / "target").names
    of_parent = dict(zip(names[1], weights["target.words.weight"], strict=True))
    taken = [name in of_parent for name in names[0]]
    assert 20 < sum(taken) < len(taken)
    for i, name in enumerate(names[0]):
        row = of_parent.get(name, without["target.words.weight"][i])
        assert child["target.words.weight"][i].equal(row)
    (values, theirs) = (
        ["pad", "unk", "end", *encoder.features["upos"].values]
        for encoder in (prepared.encoder, SourceEncoder.load(parent / "encoder"))
    )
    table = "source.features.upos.table.weight"
    for i, value in enumerate(values):
        assert child[table][i].equal(weights[table][theirs.index(value)])
    for name, tensor in child.items():
        if name.startswith(("encoder", "decoder")):
            assert tensor.equal(weights[name])
        if "deprel" in name or "combiner" in name:  # of three parts, the parent's of two
            assert tensor.equal(without[name])
    assert inheritance is not None
    assert inheritance.new == ["source.features.deprel", "source.combiner"]
    assert inheritance.taken["target.words"] == (sum(taken), len(taken))
    assert "1 of 1 layers of the encoder, 1 of 1 layers of the decoder" in notes[-2]
    assert notes[-1] == "init.run: new: source.features.deprel, source.combiner"


def test_parts_of_another_width(small: Small, parent: Path) -> None:
    """They are new, and the user sees why: concat gives the word the rest of the width."""
    settings = ("combiner=concat", "features=[upos]", "features.upos.dim=6", f"init.run={parent}")
    _, notes, inheritance = start(small, *settings)
    assert inheritance is not None
    assert inheritance.new == ["source.words", "source.features.upos"]
    assert notes[-2:] == [
        "init.run: new: source.words: 10 wide here, 16 in the parent; source.features.upos: 6 wide "
        "here, 16 in the parent",
        "init.run: so all pieces of the source start anew, and rows that take this table are "
        "favoured: docs/how-to/pretrained.md, A fair comparison",
    ]
    _, notes, _ = start(small, *GATE[:2], "model.ffn_dim=16", f"init.run={parent}")
    assert notes[-1].startswith("init.run: new: encoder.0, decoder.0: ")
    assert "(16, 16) here, (32, 16) in the parent" in notes[-1]


def test_the_same_settings_take_everything(small: Small, parent: Path) -> None:
    model, _, inheritance = start(small, *GATE[:2], f"init.run={parent}")
    weights = load_file(parent / "model.safetensors")
    assert all(tensor.equal(weights[name]) for name, tensor in tensors(model).items())
    assert inheritance is not None
    assert not inheritance.new


def test_tags_are_taken_by_their_names(small: Small) -> None:
    """Although the child has other pieces before them, and a feature more."""
    tags = ("combiner=none", "method=interleave", "subword.vocab_size=150")
    parent = small.train(*tags, "data.limit=60", "features=[upos]", "trainer.max_steps=2")
    child = (*tags, "data.limit=90", "features=[upos,deprel]")
    table = tensors(start(small, *child, f"init.run={parent}").model)["source.words.weight"]
    table_there = load_file(parent / "model.safetensors")["source.words.weight"]
    here, there = prepare_settings(small, *child).encoder, SourceEncoder.load(parent / "encoder")
    first = here.subwords.size + here.id_counts["deprel"] - END  # tags of deprel come first
    values, values_there = (["<unk>", *e.features["upos"].values] for e in (here, there))
    shared = [value for value in values if value in values_there]
    assert len(shared) > 5
    for value in shared:
        row_there = there.subwords.size + values_there.index(value)
        assert table[first + values.index(value)].equal(table_there[row_there])


@pytest.mark.parametrize(
    ("settings", "new"),
    [
        ("model.heads=4", ["encoder.0", "decoder.0"]),
        ("model.ffn_dim=16 model.encoder_layers=2", ["encoder.0", "encoder.1", "decoder.0"]),
        ("features.upos.column=xpos", ["source.features.upos"]),
        ("combiner=word_gate", ["source.combiner"]),
        ("method=output_gate combiner=add", []),
        ("model.tie=all", []),
    ],
)
def test_what_means_something_else_is_new(
    small: Small, parent: Path, settings: str, new: list[str]
) -> None:
    base = [s for s in GATE[:2] if f"{s.partition('=')[0]}=" not in settings]
    inheritance = start(small, *base, *settings.split(), f"init.run={parent}").inheritance
    assert inheritance is not None
    assert [part for part in inheritance.new if part != "method"] == new


def test_decoders_attend_to_the_same_encoders(small: Small) -> None:
    """Shapes tell neither of which features the encoders are, nor which attention comes first."""
    serial = ("combiner=none", "method=encoders_serial", "features=[deprel,upos]")
    parent = small.train(*serial, "trainer.max_steps=1")
    children = {
        serial: False,
        (*serial[:2], "features=[upos,xpos]"): True,
        (serial[0], "method=encoders_parallel", serial[2]): True,
    }
    for settings, is_new in children.items():
        inheritance = start(small, *settings, f"init.run={parent}").inheritance
        assert inheritance is not None
        assert ("decoder.0" in inheritance.new) is is_new
        assert "encoder.0" in inheritance.taken


@pytest.mark.thorough
def test_identity(small: Small, parent: Path, tmp_path: Path) -> None:
    """The parent's weights count, not where they are."""
    moved = Path(shutil.copytree(parent, tmp_path / "moved"))
    folder = small.train(*GATE[:3], f"init.run={parent}")
    content = record(folder)
    assert content["settings"]["init"].keys() == {"run"}
    assert content["parent"]["hash"] == record(parent)["hash"]
    assert content["parent"]["weights"] == content["settings"]["init"]["run"]
    assert small.train(*GATE[:3], f"init.run={moved}") == folder
    assert small.train(*GATE[:3]) != folder
    assert "parent" not in record(parent)


FROZEN = (
    *CHILD,
    "init.freeze=[encoder,target.words,source.combiner]",
    "init.lr=0.0005",
)


def test_freezing_and_exact_resume(
    small: Small, parent: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is taken stays to the bit, what is new in it is trained; a stop changes nothing."""
    settings = (*FROZEN, f"init.run={parent}")
    expected = small.whole(*settings)
    stop(small, *settings)
    folder = small.train(*settings)
    assert outcome(folder) == expected
    assert "init.freeze: stays as it is: encoder.0." in capsys.readouterr().out
    before, _, inheritance = start(small, *settings)
    assert inheritance is not None
    rows = inheritance.rows["target.words.weight"]
    after = load_file(folder / "model.safetensors")
    for name, tensor in tensors(before).items():
        if name.startswith("encoder."):
            assert tensor.equal(after[name])
        elif name == "target.words.weight":
            is_new = torch.ones(len(tensor), dtype=torch.bool)
            is_new[rows] = False
            assert tensor[rows].equal(after[name][rows])
            assert (tensor[is_new] != after[name][is_new]).any(dim=1).all()
        elif name not in ("source.words.weight", "decoder.0.cross.inputs.bias"):
            assert not tensor.equal(after[name]), name
    total = sum(p.numel() for p in before.parameters() if p.requires_grad) - 16 * len(rows)
    assert record(folder)["parameters"]["total"] == total


def test_either_name_of_a_tied_table_freezes_it(small: Small, parent: Path) -> None:
    settings = (*GATE[:2], "model.tie=all", f"init.run={parent}")
    for part in ("source.words", "target.words"):
        model, _, inheritance = start(small, *settings, f"init.freeze=[{part}]")
        assert inheritance is not None
        assert inheritance.frozen == ["source.words"]
        assert not model.target.words.weight.requires_grad


def test_learning_rates(small: Small, parent: Path) -> None:
    """What is taken has its own, all else that of the optimiser."""
    cfg = resolve_settings(
        small.config(*CHILD, f"init.run={parent}", "init.lr=0.25"), False, Console()
    )
    prepared = prepare(cfg, cfg.features)
    starting, fabric = build_untrained(cfg, prepared), make_fabric(cfg)
    fabric.launch()
    trainer = build_trainer(
        cfg, prepared, starting.model, small.folder, fabric, Progress(Console(), False),
        inherited=starting.inherited,
    )  # fmt: skip
    trainer.set_learning_rate(4)  # the end of warm-up
    rates = {
        id(p): group["lr"] for group in trainer.optimizer.param_groups for p in group["params"]
    }
    for name, parameter in starting.model.named_parameters():
        is_new = "deprel" in name or "combiner" in name
        assert rates[id(parameter)] == (0.002 if is_new else 0.25), name


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            "init.freeze=[encoder]",
            "init.freeze: needs weights that were trained before; set init.run=FOLDER, ",
        ),
        (
            "init.run=nowhere",
            "nowhere: no finished run (it has no config.yaml or model.safetensors)",
        ),
        (
            "init.run=PARENT model.dim=32",
            "init.run=PARENT: its model.dim is 16, here it is 32, so no tensor fits; set "
            "model.dim=16",
        ),
        (
            "init.run=PARENT init.freeze=[encodr]",
            "init.freeze=[encodr]: no part of the model; did you mean 'encoder' or ",
        ),
        (
            "init.run=PARENT init.freeze=[encoder] optimizer.weight_decay=0.1",
            "optimizer.weight_decay=0.1: frozen rows would decay; set it to 0, or leave "
            "init.freeze out",
        ),
        (
            "init.run=PARENT model.source_vectors=mine.txt",
            "init.run=PARENT model.source_vectors=mine.txt: both give the source's word table; "
            "leave one of them out",
        ),
        ("init.run=PARENT init.lr=0", "init.lr=0.0: must be above 0"),
        ("init.run=", "init.run=: give the folder of a run, or leave it out"),
        (
            "init.run=PARENT init.freeze=[target.words] optimizer._target_=torch.optim.SGD "
            "+optimizer.args.weight_decay=0.1",
            "optimizer.args.weight_decay=0.1: frozen rows would decay; set it to 0, or leave "
            "init.freeze out",
        ),
        ("resume=", "resume=: give the name of a folder, or leave it out"),
        ("paths.cache=", "paths.cache=: give the name of a folder, or leave it out"),
    ],
)
def test_wrong_settings(small: Small, parent: Path, settings: str, message: str) -> None:
    cfg = small.config(*settings.replace("PARENT", str(parent)).split())
    with pytest.raises(UserError) as raised:
        resolve_settings(cfg, False, Console(quiet=True))
    assert str(raised.value).startswith(message.replace("PARENT", str(parent)))


def test_nothing_to_train(small: Small, parent: Path) -> None:
    """What is known only once the weights are read is one line, too."""
    parts = "init.freeze=[encoder,encoder_norm,decoder,decoder_norm,source,target]"
    assert refused(small, *GATE[:2], f"init.run={parent}", parts) == (
        "init.freeze=[decoder,decoder_norm,encoder,encoder_norm,source,target]: nothing remains "
        "to be trained; leave a part out"
    )


def test_damaged_parents(small: Small, parent: Path, tmp_path: Path) -> None:
    """Half a folder, changed weights, a run that is not finished, copies of some of its files."""
    folders = {name: Path(shutil.copytree(parent, tmp_path / name)) for name in "abcde"}
    (folders["a"] / "encoder" / "source.model").unlink()
    (folders["b"] / "model.safetensors").write_bytes(b"no weights")
    for name in ("model.safetensors", "result.json"):
        (folders["c"] / name).unlink()
    for name in "de":
        (folders[name] / "SHA256SUMS").unlink()
    shutil.rmtree(folders["d"] / "encoder")
    (folders["e"] / "result.json").unlink()
    for name, message in (
        ("a", "encoder/source.model"),
        ("b", "model.safetensors"),
        ("c", "this run is not finished; the command that began it continues it"),
        ("d", "lacks encoder/features.json; copy the run's whole folder"),
        ("e", "result.json: no such file"),
    ):
        cfg = small.config(f"init.run={folders[name]}")
        with pytest.raises(UserError) as raised:
            resolve_settings(cfg, False, Console(quiet=True))
        assert str(folders[name]) in str(raised.value)
        assert message in str(raised.value)
