"""Linear layers through oneDNN, for computing in float32 on a CPU.

Torch sends such matrix products to MKL, which on processors of other makers reads weights at a fraction of the speed of
the memory. Where few rows meet large weights, as in sampling, that is most of the time. oneDNN, which comes with torch
as well, is faster, and more so with weights in a layout of its own; in training by a tenth, where it multiplies by
weights. Values differ in their last bits.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


@contextmanager
def through_onednn(model: nn.Module, *, pack: bool) -> Iterator[None]:
    """While open, linear layers in float32 on a CPU compute through oneDNN.

    Args:
        model: whose layers.
        pack: copy weights into oneDNN's own layout, as far as they fit into half of the memory that is free; the copies
            go when this closes, and until then the weights may not change. That takes as long as it gains in some 20
            passes of a few rows, or 3 of a thousand. What needs gradients does not use the copies.
    """
    modules = model.modules() if _has_onednn() else ()
    layers = [layer for layer in modules if type(layer) is nn.Linear and _is_free(layer)]
    room = _free_memory() // 2 if pack else 0
    try:
        for layer in layers:
            weight = layer.weight.detach()
            copied = None
            if weight.nbytes <= room:
                room -= weight.nbytes
                copied = torch.ops.mkldnn._reorder_linear_weight(weight)
            vars(layer)["forward"] = _forward(layer, copied)
        yield
    finally:
        for layer in layers:
            vars(layer).pop("forward", None)


def _is_free(layer: nn.Linear) -> bool:
    """Whether nobody else has changed what it does, and oneDNN takes its weight, which is whole."""
    weight = layer.weight.data
    fits = type(weight) is Tensor and weight.dtype == torch.float32 and weight.device.type == "cpu"
    return fits and "forward" not in vars(layer)


def _has_onednn() -> bool:
    return (
        torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and not torch.is_autocast_enabled("cpu")
    )


def _forward(layer: nn.Linear, copied: Tensor | None) -> Callable[[Tensor], Tensor]:
    def forward(states: Tensor) -> Tensor:
        if states.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
            return nn.Linear.forward(layer, states)
        if torch.is_grad_enabled():
            found: Tensor = _Linear.apply(states, layer.weight, layer.bias)  # type: ignore[no-untyped-call]
            return found
        bias = None if layer.bias is None else layer.bias.detach()
        return _product(states, layer.weight.detach() if copied is None else copied, bias)

    return forward


class _Linear(torch.autograd.Function):
    """A linear layer with its gradient; products of two long sides stay with MKL, which is the faster one there."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """[..., in] to [..., out]."""
        ctx.save_for_backward(states, weight)
        return _product(states, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Of states, weight and bias, as far as they are wanted."""
        states, weight = ctx.saved_tensors
        wants_states, wants_weight, wants_bias = ctx.needs_input_grad
        rows = gradient.flatten(0, -2)
        return (
            _product(gradient, weight.t(), None) if wants_states else None,
            rows.t() @ states.flatten(0, -2) if wants_weight else None,
            rows.sum(0) if wants_bias else None,
        )


def _product(states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    found: Tensor = torch.ops.mkldnn._linear_pointwise(states, weight, bias, "none", [], "")
    return found


def _free_memory() -> int:
    """Bytes that this process may still take, within its container; 0 where the system is not Linux."""
    memory, group = Path("/proc/meminfo"), Path("/sys/fs/cgroup")
    if not memory.exists():
        return 0
    lines = dict(line.split(":") for line in memory.read_text(encoding="ascii").splitlines())
    free = int(lines["MemAvailable"].split()[0]) * 1024
    most, now = (group / f"memory.{name}" for name in ("max", "current"))
    if most.exists() and (limit := most.read_text(encoding="ascii").strip()) != "max":
        free = min(free, int(limit) - int(now.read_text(encoding="ascii")))
    return free
