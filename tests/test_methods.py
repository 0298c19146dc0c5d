"""Methods beyond the embedding: their formulas, what they leave as it is, what is refused."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
import yaml
from rich.console import Console
from torch import Tensor

from nmt_feat.config.identity import name_method
from nmt_feat.config.schema import (
    CombinerConfig,
    FeatureConfig,
    MethodConfig,
    ModelConfig,
    TrainConfig,
)
from nmt_feat.errors import UserError
from nmt_feat.model.transformer import Transformer
from nmt_feat.runs.build_model import build_model
from nmt_feat.runs.identity import identity_settings
from nmt_feat.runs.resolve import resolve_settings
from nmt_feat.runs.run import run_training
from nmt_feat.runs.starting_model import match_parameters
from tests.support.formulas import everywhere
from tests.support.small import ROOT, Small

DIM, PIECES = 16, 23
VALUES = {"deprel": 9, "upos": 7}
SHAPE = ModelConfig(dim=DIM, ffn_dim=24, heads=4, encoder_layers=2, decoder_layers=2)
NAMES = sorted(path.stem for path in (ROOT / "conf" / "method").glob("*.yaml"))
BEYOND = [name for name in NAMES if name != "embedding"]
COMBINER = {"output_gate": "concat"}
"""What goes with a method; nothing: `combiner=none`."""


def make(method: str | None, combiner: str = "Concat", seed: int = 1) -> Transformer:
    """A small model of two features; without a method one of words only."""
    beyond = MethodConfig(f"nmt_feat.methods.{method}") if method else MethodConfig()
    features = {name: FeatureConfig(column=name) for name in VALUES} if method else {}
    target = CombinerConfig(f"nmt_feat.combiners.{combiner}" if combiner and method else None)
    model = build_model(SHAPE, target, features, VALUES, PIECES, PIECES, seed, beyond)
    return model.eval()


def batch(lengths: Sequence[int]) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """Source ids, features and mask, padded with 0."""
    generator = torch.Generator().manual_seed(5)
    mask = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    ids = {
        name: torch.randint(1, size, mask.shape, generator=generator) * mask
        for name, size in (VALUES | {"source": PIECES}).items()
    }
    return ids.pop("source"), ids, mask


def test_the_default_adds_no_parameter() -> None:
    """So models of before are models of today, parameter by parameter, in the same order."""
    names = [name for name, _ in make("Embedding").named_parameters()]
    assert not any(name.startswith("method.") for name in names)
    assert names[-4:] == [
        *("source.words.weight", "source.features.deprel.table.weight"),
        *("source.features.upos.table.weight", "target.words.weight"),
    ]


def test_a_method_starts_from_the_model_of_words_only() -> None:
    words = dict(make(None).named_parameters())
    gated = dict(make("OutputGate").named_parameters())
    assert all(gated[name].equal(weight) for name, weight in words.items())
    assert {name.split(".")[0] for name in gated.keys() - words.keys()} == {"method"}


@pytest.mark.parametrize("combiner", ["Concat", "Gate", "MLP"])
def test_output_gate(combiner: str) -> None:
    """At each piece the gate of the encoder's output and of the merged features, by hand."""
    model = make("OutputGate", combiner)
    source, features, mask = batch([5, 3])
    with torch.no_grad():
        for parameter in model.method.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=torch.Generator())
        states = make(None).encode(source, {}, mask)
        embedding = model.feature_embedding
        tables = [embedding.features[name].table.weight[features[name]] for name in VALUES]  # type: ignore[union-attr,index]
        merged = embedding.combiner(tables) * math.sqrt(DIM)
        result = model.encode(source, features, mask)
    weights = {name: weight.double().numpy() for name, weight in model.method.state_dict().items()}
    parts = [states.double().numpy(), merged.double().numpy()]
    expected = torch.from_numpy(everywhere("output_gate", parts, weights)).float()
    torch.testing.assert_close(result[mask], expected[mask])


@pytest.mark.parametrize("method", ["OutputGate"])
def test_padding_changes_nothing(method: str) -> None:
    model = make(method)
    source, features, mask = batch([6, 4])
    with torch.no_grad():
        both = model.encode(source, features, mask)[1, :4]
        alone = {name: ids[1:, :4] for name, ids in features.items()}
        one = model.encode(source[1:, :4], alone, mask[1:, :4])[0]
    torch.testing.assert_close(both, one)


def settings(
    small: Small, option: str, combiner: str | None = "", **changes: object
) -> TrainConfig:
    """The settings of a run with `method=option`; the combiner is what goes with it, or none."""
    cfg = small.config("features=[upos,deprel]")
    file = yaml.safe_load((ROOT / "conf" / "method" / f"{option}.yaml").read_text(encoding="utf-8"))
    cfg.method = MethodConfig(**file)
    combiner = COMBINER.get(option) if combiner == "" else combiner
    cfg.combiner = CombinerConfig(f"nmt_feat.combiners.{combiner.title()}" if combiner else None)
    for name, value in changes.items():
        setattr(cfg, name, value)
    return cfg


@pytest.mark.parametrize("method", BEYOND)
def test_runs(small: Small, method: str) -> None:
    """Recorded under its name, its parameters counted, and matched by words only."""
    cfg = settings(small, method, control="shuffled")
    run = run_training(cfg)
    record = run.record
    assert record.method == name_method(cfg.combiner._target_, cfg.method._target_)
    assert record.method.startswith(method)
    assert run.folder.name.startswith(f"{record.method}-deprel+upos-shuffled-s1-")
    assert record.features == ["deprel", "upos"]
    assert record.parameters["method"] > 0
    matched = match_parameters(settings(small, method), Console(quiet=True))
    assert (matched.combiner, matched.method) == (CombinerConfig(), MethodConfig())


def test_identity(small: Small) -> None:
    """The default leaves no trace in what determines a run."""
    cfg = small.config()
    assert "method" not in identity_settings(cfg, "data")
    cfg.method = MethodConfig("nmt_feat.methods.OutputGate")
    assert identity_settings(cfg, "data")["method"] == {"_target_": "nmt_feat.methods.OutputGate"}
    cfg.method.args["bias"] = -1.0
    assert identity_settings(cfg, "data")["method"]["args"] == {"bias": -1.0}


def message(cfg: TrainConfig) -> str:
    with pytest.raises(UserError) as error:
        resolve_settings(cfg, False, Console(quiet=True))
    return str(error.value)


def test_refused(small: Small) -> None:
    """Before data is read, in one sentence."""
    assert message(settings(small, "output_gate", None)) == (
        "combiner=none method=output_gate: words only has no features for it; choose a combiner, "
        "such as concat, or method=embedding"
    )
    cfg = settings(small, "output_gate")
    cfg.model.source_words = False
    assert message(cfg) == (
        "method=output_gate model.source_words=false: the encoder reads words only, which are then "
        "absent; leave one of them out"
    )
    gate = "nmt_feat.combiners.Gate"
    assert message(settings(small, "output_gate", method=MethodConfig(gate))) == (
        f"method._target_={gate}: is no nmt_feat.methods.Method; derive the class from it"
    )
    output = "nmt_feat.methods.OutputGate"
    cfg = settings(small, "output_gate", method=MethodConfig(output, {"bais": 1}))
    assert message(cfg) == f"{output} takes no argument 'bais'; did you mean 'bias'?"


def test_a_sweep_ignores_a_method_of_words_only(small: Small) -> None:
    cfg = settings(small, "output_gate", None)
    resolved = resolve_settings(cfg, True, Console(quiet=True))
    assert (resolved.method, resolved.features) == (MethodConfig(), {})


def test_no_export(small: Small) -> None:
    from nmt_feat.cli.export import export_run

    folder = run_training(settings(small, "output_gate")).folder
    with pytest.raises(UserError, match="method=output_gate: CTranslate2 has no model of this fo"):
        export_run(folder, None, None, 64)
