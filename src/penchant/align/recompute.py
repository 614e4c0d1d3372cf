"""Less memory for almost no time: keep what is dear to compute until the gradient needs it, and make the rest again.

Of a transformer's layer most of what autograd keeps (norms, rotations, activations, their products) takes a hundredth
of the time that its matrix products take. Selective checkpointing keeps the products and the attention, and computes
the cheap rest a second time: the same numbers, about half the memory. Random numbers are drawn again from the state
they were drawn from, all of them, so that each operation gets its own.

Source:
    Korthikanti et al. 2022, "Reducing activation recomputation in large transformer models", section 5.
"""

from functools import cache
from typing import Any

import torch
from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts

_PRODUCTS = {torch.ops.aten.mm.default: 0, torch.ops.aten.addmm.default: 1, torch.ops.aten.bmm.default: 0}
if hasattr(torch.ops.mkldnn, "_linear_pointwise"):  # of processors that have it, see `penchant.policies.linear`
    _PRODUCTS[torch.ops.mkldnn._linear_pointwise.default] = 0


class _Kept:
    """Which results of one layer are kept."""

    def __init__(self) -> None:
        self.width: int | None = None  # of what the layer's first product reads

    def __call__(self, _: Any, operation: Any, *arguments: Any, **keywords: Any) -> CheckpointPolicy:
        is_kept = False
        if operation in _PRODUCTS:
            width = arguments[_PRODUCTS[operation]].shape[-1]
            self.width = self.width or width
            # What comes back from the wide middle of a layer ends it: nothing that follows is made again from it.
            is_kept = width <= self.width
        elif (parameters := _of_attention(operation)) is not None:
            is_kept = not (dict(zip(parameters, arguments, strict=False)) | keywords).get("dropout_p")
        return CheckpointPolicy.MUST_SAVE if is_kept else CheckpointPolicy.PREFER_RECOMPUTE


@cache
def _of_attention(operation: Any) -> tuple[str, ...] | None:
    """Names of the parameters of a kernel for attention; None for any other operation."""
    is_attention = operation.name().startswith("aten::_scaled_dot_product")
    return tuple(argument.name for argument in operation._schema.arguments) if is_attention else None


def cheap_contexts() -> Any:
    """`context_fn` of `torch.utils.checkpoint.checkpoint`."""
    return create_selective_checkpoint_contexts(_Kept())  # type: ignore[no-untyped-call]
