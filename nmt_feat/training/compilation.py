"""Layers that PyTorch compiles for training: fewer and larger kernels, which matters on a GPU.

Only the training pass is compiled. In evaluation mode a layer runs as it is written. So scores are
those that the stored weights give without a compiler, and search, whose cache grows at each step,
compiles nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from nmt_feat.errors import UserError, is_out_of_memory
from nmt_feat.model.transformer import DecoderLayer, EncoderLayer

BACKEND = "inductor"
"""The compiler behind PyTorch's tracer."""
DEVICES = ("cuda",)
"""The kinds of device for which layers are compiled."""


def refuse_device(device: torch.device) -> None:
    """Refuse a device for which layers are not compiled."""
    if device.type not in DEVICES:
        raise UserError(
            f"trainer.compile=true: is for CUDA, but the device here is {device.type}; leave it out"
        )


def compile_layers(model: nn.Module, device: torch.device) -> None:
    """Compile the layers of encoders and decoder; the names of weights do not change.

    Layers of one kind share what is compiled, so the time to compile does not depend on their
    number. PyTorch compiles in the first updates. It does so again if a later batch has one
    sentence, or if sizes that were equal in the first batch no longer are.
    """
    # What another run of this process has compiled counts for PyTorch's limit of graphs, and would
    # be used for this one.
    torch.compiler.reset()
    try_compiler(device)
    # Else PyTorch would cut graphs in data-parallel training, so that it can send the gradients of
    # a part early. A layer is small enough to be such a part.
    torch._dynamo.config.optimize_ddp = False
    for layer in model.modules():
        if isinstance(layer, EncoderLayer):
            name = "decode" if isinstance(layer, DecoderLayer) else "forward"
            plain = getattr(layer, name)
            compiled = torch.compile(plain, backend=BACKEND)
            setattr(layer, name, partial(run_layer, layer, plain, compiled))


def run_layer(
    layer: nn.Module,
    plain: Callable[..., Tensor],
    compiled: Callable[..., Tensor],
    *inputs: Tensor | None,
) -> Tensor:
    """What the compiled layer returns in training mode, else the plain one.

    Inputs are states `(B, T, D)`, masks, factors and biases `(B, heads, T, keys)`, or None.
    """
    if not layer.training:
        return plain(*inputs)
    for tensor in inputs:
        if tensor is not None:
            # All sizes but D differ from batch to batch. `dynamic=True` of `torch.compile` would
            # say this in fewer words, but then probabilities of dropout become inputs, too.
            sizes = [0, 1] if tensor.dim() == 3 else [0, 1, 2, 3]
            torch._dynamo.maybe_mark_dynamic(tensor, sizes)
    return compiled(*inputs)


def try_compiler(device: torch.device) -> None:
    """Compile an operation and its gradient: without a compiler, the error is one line."""
    numbers = torch.ones(2, 3, device=device, requires_grad=True)
    try:
        torch.autograd.backward(torch.compile(_square, backend=BACKEND)(numbers).sum())
    except RuntimeError as error:  # PyTorch's own errors are of this type
        if is_out_of_memory(error):
            raise
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"trainer.compile=true: PyTorch cannot compile here ({reason}); leave it out"
        ) from error


def _square(numbers: Tensor) -> Tensor:
    return (numbers * numbers).relu()
