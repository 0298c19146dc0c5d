"""`trainer.compile`: the same training, by layers that PyTorch has traced.

PyTorch's compiler for CUDA is not run. Its backend `eager` runs the traced operations as they are,
and `aot_eager` those of a traced backward pass; so they show whether layers can be traced, and how
often.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch._dynamo
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch._subclasses import fake_tensor

from nmt_feat.config.evaluate_schema import EvaluateConfig
from nmt_feat.errors import UserError
from nmt_feat.model.transformer import DecoderLayer, Dropouts, EncoderLayer
from nmt_feat.runs.finished_runs import apply_request
from nmt_feat.runs.setup.identity import identity_settings
from nmt_feat.training import compilation
from nmt_feat.training.compilation import compile_layers
from nmt_feat.training.loop import Trainer
from tests.support.small import Small, outcome, record
from tests.support.stops import Killed, stop_at
from tests.support.trainers import losses_and_gradients, trainer

COMPILED = ["trainer.compile=true", "trainer.accelerator=auto"]
STILL = ["model.dropout=0", "model.activation_dropout=0"]
"""The traced dropout of a CPU draws other numbers."""
TWO_LAYERS = ["model.encoder_layers=2", "model.decoder_layers=2"]
METHODS = [
    ["combiner=gate"],
    ["combiner=concat", "features=[upos,heads]", "method=tree_attention"],
    ["combiner=none", "features=[upos,deprel]", "method=encoders_parallel"],
    ["combiner=none", "features=[upos,deprel]", "method=encoders_serial"],
]


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """On any device, without a compiler behind the tracer."""
    monkeypatch.setattr(compilation, "DEVICES", ("cuda", "cpu", "mps"))
    monkeypatch.setattr(compilation, "BACKEND", "eager")
    torch._dynamo.reset()
    counters.clear()
    with torch._dynamo.config.patch(optimize_ddp=True):  # what it was comes back at the end
        yield
    torch._dynamo.reset()


def count_graphs() -> int:
    """How many graphs were traced since the fixture, but for that of the trial."""
    assert not counters["graph_break"]
    return int(counters["stats"]["unique_graphs"]) - 1


@pytest.mark.parametrize(
    "settings",
    [pytest.param(m, marks=[pytest.mark.thorough] * (i > 0)) for i, m in enumerate(METHODS)],
    ids=" ".join,
)
def test_losses_and_gradients(small: Small, traced: None, settings: list[str]) -> None:
    settings = [*settings, *TWO_LAYERS, "trainer.accelerator=auto"]
    plain, compiled = trainer(small, *settings), trainer(small, *settings, *COMPILED)
    assert plain.model.state_dict().keys() == compiled.model.state_dict().keys()
    expected, results = losses_and_gradients(plain), losses_and_gradients(compiled)
    torch.testing.assert_close(results, expected, rtol=1e-4, atol=1e-5)
    # Layers share graphs: with and without the tree, long and short rows of a CPU, equal sides.
    assert 2 <= count_graphs() <= 2 * 2 * 2 + 1


@pytest.mark.thorough
def test_bf16_and_a_traced_backward_pass(
    small: Small, traced: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compilation, "BACKEND", "aot_eager")
    settings = ["combiner=gate", "trainer.precision=bf16-mixed", "trainer.accelerator=auto"]
    plain, compiled = trainer(small, *settings), trainer(small, *settings, *COMPILED)
    expected, results = (losses_and_gradients(t, count=1) for t in (plain, compiled))
    torch.testing.assert_close(results, expected, rtol=0.05, atol=0.05)


@pytest.mark.thorough
def test_a_run(small: Small, traced: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained, stopped and continued; it is another run, and only its updates are compiled."""
    settings = ["combiner=gate", *STILL, "trainer.accelerator=auto"]
    expected = outcome(small.train(*settings))
    with monkeypatch.context() as patch:
        stop_at(patch, Trainer, "update", 5, after=True)
        with pytest.raises(Killed):
            small.train(*settings, *COMPILED)
    assert count_graphs() >= 2
    folder = small.train(*settings, *COMPILED)
    result = outcome(folder)
    assert result["settings"]["trainer"].pop("compile") is True
    assert result["settings"] == expected["settings"]
    assert result["hash"] != expected["hash"]
    for point, plain in zip(result["curve"], expected["curve"], strict=True):
        assert point == plain | {"loss": pytest.approx(plain["loss"], rel=1e-5)}
    request = EvaluateConfig(accelerator="cpu")
    assert apply_request(folder, request).trainer.accelerator == "cpu"  # is not refused
    assert record(folder)["config"]["trainer"]["compile"]


def test_evaluation_is_not_compiled(traced: None) -> None:
    layer = EncoderLayer(16, 32, 2, Dropouts(0.0, 0.0, 0.0))
    states, mask = torch.randn(3, 20, 16), torch.ones(3, 1, 1, 20) > 0
    expected = layer(states, mask)
    compile_layers(layer, torch.device("cpu"))
    assert torch.equal(layer.eval()(states, mask, None, None), expected)
    assert count_graphs() == 0
    torch.testing.assert_close(layer.train()(states, mask, None, None), expected)
    assert count_graphs() == 1


@pytest.mark.thorough
@pytest.mark.skipif(
    not hasattr(fake_tensor, "FakeTensorDeviceMismatchError"),
    reason="an older PyTorch may abort on a device that is not there",
)
def test_operations_of_a_gpu(traced: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The device `meta` takes the same ways as CUDA: fused attention, PyTorch's own dropout."""
    graphs: list[torch.fx.GraphModule] = []

    def note(graph: torch.fx.GraphModule, _: list[Any]) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    monkeypatch.setattr(compilation, "BACKEND", note)
    shape, meta = (32, 64, 2, Dropouts(0.1, 0.2, 0.3)), torch.device("meta")
    with meta:
        encoder = nn.ModuleList(EncoderLayer(*shape) for _ in range(3))
        decoder = nn.ModuleList(DecoderLayer(*shape) for _ in range(3))
    compile_layers(nn.ModuleList([encoder, decoder]), meta)
    counts = []
    for batch, source, target in ((5, 20, 23), (7, 18, 18), (32, 32, 32), (4, 90, 3), (1, 9, 8)):
        memory, states = (
            torch.empty(batch, n, 32, device=meta, requires_grad=True) for n in (source, target)
        )
        mask = torch.empty(batch, source, dtype=torch.bool, device=meta)[:, None, None, :]
        for layer in encoder:
            memory = layer(memory, mask, None, None)
        for layer in decoder:
            assert isinstance(layer, DecoderLayer)
            states = layer.decode(states, memory, mask)
        assert states.shape == (batch, target, 32)
        counts.append(count_graphs())
    assert counts == [2, 2, 2, 2, 4]  # again for a single sentence only
    nodes = [node for graph in graphs[1:3] for node in graph.graph.nodes]
    inputs = [str(node.target) for node in nodes if node.op == "placeholder"]
    assert not any("dropout" in name or "eps" in name for name in inputs)
    called = [getattr(node.target, "__name__", "") for node in nodes]
    assert called.count("scaled_dot_product_attention") == 3


@pytest.mark.thorough
def test_data_parallel(small: Small, traced: None, tmp_path: Path) -> None:
    """In the wrapper of several processes, of which there is one here."""
    settings = ["combiner=gate", "trainer.accelerator=auto"]
    expected = losses_and_gradients(trainer(small, *settings))
    compiled = trainer(small, *settings, *COMPILED)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1
    )
    try:
        compiled.objective = nn.parallel.DistributedDataParallel(compiled.bare_objective)  # type: ignore[assignment]
        results = losses_and_gradients(compiled)
    finally:
        torch.distributed.destroy_process_group()
    torch.testing.assert_close(results, expected, rtol=1e-4, atol=1e-5)


def test_identity(small: Small) -> None:
    plain, compiled = (
        identity_settings(small.config(*more), "hash") for more in ([], ["trainer.compile=true"])
    )
    assert compiled["trainer"] == plain["trainer"] | {"compile": True}
    assert "compile" not in plain["trainer"]


REFUSED = {
    "trainer.compile=true": "trainer.compile=true is for CUDA; with trainer.accelerator=cpu leave "
    "it out",
    "trainer.compile=true trainer.accelerator=cuda trainer.deterministic=true": "trainer.compile="
    "true trainer.deterministic=true: kernels depend on the batch for which they were compiled, so "
    "a continued run has other last bits; leave one of them out",
    "trainer.compile=true trainer.accelerator=cuda model.folder=there": "trainer.compile=true "
    "model.folder=there: is for models that are trained from the start, not for a pretrained one; "
    "leave trainer.compile out",
}


@pytest.mark.parametrize(("settings", "message"), REFUSED.items())
def test_refused(small: Small, settings: str, message: str) -> None:
    with pytest.raises(UserError) as refusal:
        small.train(*settings.split())
    assert str(refusal.value) == message


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_refused_when_the_device_is_chosen(small: Small) -> None:
    with pytest.raises(UserError, match=r"^trainer\.compile=true: is for CUDA, but the device"):
        small.train(*COMPILED)
    assert not list(small.folder.glob("runs/*/checkpoints"))


def test_a_machine_without_a_compiler(traced: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> None:
        raise RuntimeError("no Triton\nhere")

    monkeypatch.setattr(compilation, "BACKEND", fail)
    with pytest.raises(UserError) as refusal:
        compile_layers(nn.Linear(2, 2), torch.device("cpu"))
    message = str(refusal.value)
    assert message.startswith("trainer.compile=true: PyTorch cannot compile here (")
    assert "no Triton here" in message
    assert message.endswith("); leave it out")
