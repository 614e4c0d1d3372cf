"""Linear layers through oneDNN, for computing without gradients in float32 on a CPU.

Torch sends such matrix products to MKL, which on processors of other makers reads weights at a fraction of the speed of
the memory. Where few rows meet large weights, as in sampling, that is most of the time. oneDNN, which comes with torch
as well, is faster, and more so with weights in a layout of its own. Values differ in their last bits.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn


@contextmanager
def through_onednn(model: nn.Module, *, pack: bool) -> Iterator[None]:
    """While open, linear layers in float32 on a CPU compute through oneDNN; what needs gradients goes the usual way.

    Args:
        model: its weights may not change meanwhile.
        pack: copy weights into oneDNN's own layout, as far as they fit into half of the memory that is free; the copies
            go when this closes. That takes as long as it gains in some 20 passes of a few rows, or 3 of a thousand.
    """
    modules = model.modules() if _has_onednn() else ()
    layers = [layer for layer in modules if type(layer) is nn.Linear and _is_free(layer)]
    room = _free_memory() // 2 if pack else 0
    try:
        for layer in layers:
            weight = layer.weight.detach()
            if weight.nbytes <= room:
                room -= weight.nbytes
                weight = torch.ops.mkldnn._reorder_linear_weight(weight)
            vars(layer)["forward"] = _forward(layer, weight)
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


def _forward(layer: nn.Linear, weight: Tensor) -> Callable[[Tensor], Tensor]:
    bias = None if layer.bias is None else layer.bias.detach()

    def forward(states: Tensor) -> Tensor:
        if torch.is_grad_enabled() or states.dtype != torch.float32:
            return nn.Linear.forward(layer, states)
        found: Tensor = torch.ops.mkldnn._linear_pointwise(states, weight, bias, "none", [], "")
        return found

    return forward


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
