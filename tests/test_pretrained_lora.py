"""LoRA in a pretrained model: it starts as the model, and what is not trained stays elsewhere."""

from __future__ import annotations

import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from safetensors.torch import load_file

from nmt_feat.data.batches import collate
from nmt_feat.data.prepare import prepare
from nmt_feat.errors import UserError
from nmt_feat.pretrained.model import PretrainedModel
from nmt_feat.runs.setup.resolve import resolve_settings
from nmt_feat.runs.setup.starting_model import build_untrained, count_parameters
from nmt_feat.training.objective import Objective
from tests.support.entry import call
from tests.support.pretrained import make_marian
from tests.support.small import Small, outcome, record
from tests.support.stops import stop

# Looked for, not imported: that takes seconds in each process of the tests.
pytestmark = pytest.mark.skipif(find_spec("peft") is None, reason="needs the extra transformers")
SETTINGS = (
    *("model=pretrained", "model.encoder_layers=2", "model.decoder_layers=2"),
    *("combiner=concat_project", "features=[upos]"),
)
RANK = "init.lora.rank=4"


@pytest.fixture(scope="module")
def marian(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_marian(tmp_path_factory.mktemp("pretrained") / "marian", corpus)


@pytest.mark.thorough
def test_start(small: Small, marian: Path) -> None:
    """Nothing changes at update 0; the matrices of the layers that are named are trained."""
    losses, models = [], []
    for settings in ((), (RANK,), (RANK, "init.lora.modules=[decoder.layers.1.fc1,encoder]")):
        cfg = small.config(*SETTINGS, f"model.folder={marian}", *settings)
        cfg = resolve_settings(cfg, False, Console(quiet=True))
        prepared = prepare(cfg, cfg.features)
        model = build_untrained(cfg, prepared).model.eval()
        assert isinstance(model, PretrainedModel)
        batch = collate(prepared.train, np.arange(8), ["upos"])
        total, _ = Objective(model, 0.0, True)(*batch.objective_inputs)
        total.backward()
        losses.append(total.item())
        models.append(model)
    assert losses[0] == losses[1] == losses[2]
    everything, by_default, by_name = models
    trained = {n: p for n, p in by_default.named_parameters() if p.requires_grad}
    matrices = {name for name in trained if ".lora_" in name}
    assert trained.keys() - matrices == {
        name for name, _ in everything.named_parameters() if name.startswith("source.")
    }
    # Queries and values of two attentions of the encoder's layers, of four of the decoder's.
    assert len(matrices) == 2 * 2 * (2 + 4)
    assert all(trained[n].grad.abs().max() > 0 for n in matrices if ".lora_B." in n)  # type: ignore[union-attr]
    assert count_parameters(by_default)["total"] == sum(p.numel() for p in trained.values())
    layers = {n.partition(".lora_")[0] for n, _ in by_name.named_parameters() if ".lora_" in n}
    names = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj")
    expected = {f"encoder.layers.{i}.{name}" for i in (0, 1) for name in (*names, "fc1", "fc2")}
    assert layers == expected | {"decoder.layers.1.fc1"}


@pytest.mark.slow
def test_training(small: Small, marian: Path, tmp_path: Path) -> None:
    """Exact resume with dropout; the run has the matrices alone, and the hash of the rest."""
    folder = Path(shutil.copytree(marian, tmp_path / "opus"))
    lora = (RANK, "init.lora.dropout=0.3", "init.lora.alpha=64", "init.lr=0.01")
    settings = (*SETTINGS, f"model.folder={folder}", *lora)
    expected = small.whole(*settings)
    stop(small, *settings)
    run = small.train(*settings)
    assert outcome(run) == expected
    weights = load_file(run / "model.safetensors")
    assert all(".lora_" in name for name in weights if name.startswith(("encoder", "decoder")))
    assert not [name for name in weights if name.startswith("words")]
    assert all(weights[name].abs().max() > 0 for name in weights if ".lora_B." in name)
    content = record(run)
    assert content["parent"]["frozen"] == ["words", "encoder", "decoder"]
    assert content["settings"]["init"]["lora"]["modules"] == ["q_proj", "v_proj"]
    text = small.corpus / "test.conllu"
    arguments = (f"run={run}", f"input={text}", f"output={tmp_path / 'out'}")
    done = call("translate", *arguments)
    assert done.code == 0, done.err
    lines = (tmp_path / "out").read_text(encoding="utf-8").splitlines()
    assert lines == (run / "test.hyp").read_text(encoding="utf-8").splitlines()
    shutil.rmtree(folder)
    assert f"model.folder={folder}: no such folder" in call("translate", *arguments).err


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["init.lora.alpha=8"], "init.lora.alpha=8.0: set init.lora.rank, or leave it out"),
        (
            [RANK, "model=tiny"],
            "init.lora.rank=4: is for a pretrained model; set model.folder=FOLDER, or leave it out",
        ),
        (
            [RANK, "init.freeze=[encoder]"],
            "init.lora.rank=4 init.freeze=[encoder]: with LoRA all weights of the pretrained model",
        ),
        ([RANK, "init.lora.dropout=1"], "init.lora.dropout=1.0: must be in [0, 1)"),
        (
            [RANK, "init.lora.modules=[q_prj]"],
            "init.lora.modules=[q_prj]: no layer of the model; did you mean 'q_proj'",
        ),
        (
            [RANK, "init.lora.modules=[layers.0.norm]"],
            "init.lora.modules=[layers.0.norm]: no layer",
        ),
    ],
)
def test_wrong_settings(small: Small, marian: Path, settings: list[str], message: str) -> None:
    cfg = small.config(*SETTINGS, f"model.folder={marian}", *settings)
    if "model=tiny" in settings:
        cfg.model.folder = None
    with pytest.raises(UserError) as raised:
        resolve_settings(cfg, False, Console(quiet=True))
    assert str(raised.value).startswith(message)


def test_missing_package(small: Small, marian: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    cfg = small.config(*SETTINGS, f"model.folder={marian}", RANK)
    with pytest.raises(UserError) as raised:
        resolve_settings(cfg, False, Console(quiet=True))
    line = "init.lora.rank needs the package peft: pip install 'nmt_feat[transformers]'"
    assert str(raised.value) == line
