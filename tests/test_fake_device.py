"""An update and the steps of search on a device that is not there.

PyTorch's fake tensors have shapes and a device, but no numbers. They refuse operations on tensors
of two devices, and operations whose result a program would have to wait for: `.item()`, `nonzero`,
a mask of booleans as an index. A PyTorch without CUDA has the device `meta` in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses import fake_tensor
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)

from nmt_feat.embedders.categorical import Categorical
from nmt_feat.model import loss
from nmt_feat.model.batch import Batch
from nmt_feat.model.transformer import FeedForward
from nmt_feat.training.objective import Objective
from tests.support.small import ROOT, Small
from tests.support.trainers import trainer

if not hasattr(fake_tensor, "FakeTensorDeviceMismatchError"):
    # Such as 2.9, which aborts the process in an update on a fake device.
    pytest.skip("needs a PyTorch whose fake tensors name mixed devices", allow_module_level=True)

DEVICE = "cuda" if torch.backends.cuda.is_built() else "meta"
COMBINERS = sorted(p.stem for p in (ROOT / "conf" / "combiner").glob("*.yaml") if p.stem != "mixed")
ENCODERS = "concat", "parallel", "serial", "sum"
MODELS = [
    *([f"combiner={name}", "features=[upos,lemma]"] for name in COMBINERS),
    ["combiner=concat_project", "features=[upos,char,ngram,feats_set,head_distance]"],
    *(
        ["combiner=concat", "features=[upos,heads]", f"method=tree_{m}"]
        for m in ("attention", "distance")
    ),
    ["combiner=add", "features=[upos]", "method=output_gate"],
    ["combiner=none", "features=[upos,deprel]", "method=multitask"],
    *(["combiner=none", "features=[upos,deprel]", f"method=encoders_{m}"] for m in ENCODERS),
    ["combiner=none", "features=[upos,deprel]", "method=interleave"],
    ["combiner=gate", "model.attention_dropout=0.1", "model.dropout=0.1"],
    ["combiner=gate", "trainer.fused_loss=false", "features.upos.dropout=0.2"],
]


@pytest.fixture(autouse=True)
def plain_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """No fake tensor stays in the loss's buffer, and autocast, which `meta` has not, is off."""
    monkeypatch.setattr(loss, "get_buffer", loss.get_buffer.__wrapped__)
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *_: False)
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())


def to_fake(tensor: Tensor) -> Tensor:
    """One of its shape and type on the device; inside of a `FakeTensorMode`."""
    return torch.empty(tensor.shape, dtype=tensor.dtype, device=DEVICE)


@contextmanager
def on_fake_device(small: Small, *settings: str) -> Iterator[tuple[Objective, Batch]]:
    """An objective and a batch on a device that is not there."""
    small_trainer = trainer(small, *settings)
    objective, batch = small_trainer.bare_objective, small_trainer.draw_batch().collate()
    objective.train()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with FakeTensorMode():
            objective._apply(to_fake)
            yield (
                objective,
                replace(
                    batch,
                    source=to_fake(batch.source),
                    features={name: to_fake(ids) for name, ids in batch.features.items()},
                    target_in=to_fake(batch.target_in),
                    target_out=to_fake(batch.target_out),
                    real=to_fake(batch.real),
                ),
            )
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(False)


@pytest.mark.parametrize(
    "settings",
    [pytest.param(m, marks=[pytest.mark.thorough] * (i > 0)) for i, m in enumerate(MODELS)],
    ids=" ".join,
)
def test_objective(small: Small, settings: list[str]) -> None:
    with on_fake_device(small, *settings) as (objective, batch):
        loss_sum, nll = objective(*batch.objective_inputs)
        loss_sum.backward()
    assert (loss_sum.device.type, nll.device.type) == (DEVICE, DEVICE)
    gradients = {name: p.grad for name, p in objective.named_parameters() if p.requires_grad}
    assert gradients
    assert {g.device.type for g in gradients.values() if g is not None} == {DEVICE}


@pytest.mark.thorough
def test_search(small: Small) -> None:
    """Encoding, and steps with the cache; between them search itself waits for the best pieces."""
    with on_fake_device(small, "combiner=gate") as (objective, batch), torch.no_grad():
        model = objective.model.eval()
        mask = batch.source_mask
        cache = model.start_cache(model.encode(batch.source, batch.features, mask), mask)
        rows = len(batch.source)
        for position in range(3):
            tokens = torch.zeros(rows, dtype=torch.int64, device=DEVICE)
            logits = model.decode_step(tokens, position, cache)
            assert (logits.device.type, len(logits)) == (DEVICE, rows)


FAULTS: list[tuple[Callable[[Tensor], Tensor], type[Exception]]] = [
    (lambda x: x * x.sum().item(), DataDependentOutputException),
    (lambda x: x if x.isfinite().all() else 0 * x, DataDependentOutputException),
    (lambda x: x + x.nonzero().sum(), DynamicOutputShapeException),
    (lambda x: x + x[x > 0].sum(), DynamicOutputShapeException),
    (lambda x: x + torch.zeros(x.shape), fake_tensor.FakeTensorDeviceMismatchError),
]


@pytest.mark.thorough
@pytest.mark.parametrize("owner", [FeedForward, Categorical])
def test_faults_are_seen(small: Small, owner: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a layer, or in an embedder."""
    forward = owner.forward
    with on_fake_device(small, "combiner=gate") as (objective, batch):
        objective(*batch.objective_inputs)
        for fault, error in FAULTS:
            monkeypatch.setattr(
                owner, "forward", lambda self, x, fault=fault: fault(forward(self, x))
            )
            with pytest.raises(error):
                objective(*batch.objective_inputs)
