"""Attention over packed rows that computes only what is seen.

A dense mask makes a kernel multiply every token with every other one and throw away most of it: what a prompt does not
see of its answers, and what these do not see of each other. Here each piece of a row meets the keys that it may see and
few others. It is one more attention function of transformers, so that every model built on its attention interface can
use it; calls that are not about packed rows (sampling, padded rows) go to the one that the model had.

`pieces` of a mask, int64[pieces, 5], each say: row, first and last column + 1 of the queries, and first and last column
+ 1 of the trunk that they continue (empty for a trunk itself). Queries see the trunk and, under the mask, each other.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

NAME = "penchant_packed"
# The kernel for CPUs leaves out nothing of a causal square below 512 x 512, so it is given strips of so many queries.
_STRIP = 128

_watching: list[set[int | None]] = []


@contextmanager
def watched() -> Iterator[set[int | None]]:
    """While open, the set holds the sliding windows (None: without) of the layers that `attend` served packed rows."""
    windows: set[int | None] = set()
    _watching.append(windows)
    try:
        yield windows
    finally:
        _watching.remove(windows)


def install(model: Any) -> None:
    """Let a model of transformers that uses `sdpa` through the attention interface use `attend` instead."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    if model.config._attn_implementation == "sdpa" and getattr(model, "_supports_attention_backend", False):
        AttentionInterface.register(NAME, attend)
        AttentionMaskInterface.register(NAME, sdpa_mask)
        model.set_attn_implementation(NAME)


def with_pieces(mask: Tensor, pieces: Tensor, positions: Tensor) -> Tensor:
    """The mask, carrying what `attend` needs to know; whatever cuts or copies it on the way only makes it slower.

    Args:
        mask: who sees whom, bool[rows, 1, width, width].
        pieces: int64[pieces, 5], in the order of rows and columns.
        positions: of each token, int64[rows, width].
    """
    carrier: Any = mask
    carrier.pieces, carrier.positions = pieces.tolist(), positions
    carrier.reach = int(positions.max()) + 1
    carrier.seen = {}
    return mask


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """What transformers calls in each layer; packed rows are told by their mask.

    Args:
        module: the layer.
        query: [rows, heads, width, dim].
        key: [rows, groups of heads, width, dim].
        value: likewise.
        attention_mask: from `with_pieces`, or any other.
        dropout: share of the weights that is dropped.
        scaling: of the products; None is 1 / sqrt(dim).
        kwargs: among them `sliding_window`: tokens further back are not seen.

    Returns:
        [rows, width, heads, dim], zeros where there is padding, and no weights.
    """
    pieces = getattr(attention_mask, "pieces", None)
    if pieces is None or attention_mask is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        found: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
        return found
    mask: Any = attention_mask
    window = kwargs.get("sliding_window")
    for windows in _watching:
        windows.add(window)
    window = window if window is not None and window < mask.reach else None
    strips: list[list[tuple[int, int, int, int, int]]] = [[] for _ in range(len(query))]
    for row, start, end, *trunk in pieces:
        strips[row] += ((*strip, start, *trunk) for strip in _strips(start, end, trunk, query.device))
    rows = [_row(row, of_row, query, key, value, mask, window, dropout, scaling) for row, of_row in enumerate(strips)]
    return torch.cat(rows) if len(rows) > 1 else rows[0].contiguous(), None


def _row(
    row: int,
    strips: list[tuple[int, int, int, int, int]],
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Any,
    window: int | None,
    dropout: float,
    scaling: float | None,
) -> Tensor:
    """What the queries of one row find, [1, width, heads, dim]; strips follow each other from its first column on."""
    lengths = [last - first for first, last, *_ in strips]
    n_padding = query.shape[2] - sum(lengths)
    queries = torch.split(query[row : row + 1], [*lengths, n_padding], dim=2)  # its gradient is one concatenation
    found = []
    for q, (first, last, start, trunk_start, trunk_end) in zip(queries, strips, strict=False):
        keys = slice(trunk_start, trunk_end), slice(start, last)
        k, v = (_joined(states[row : row + 1], keys, dim=2) for states in (key, value))
        is_causal = trunk_start == trunk_end and first == start and window is None
        seen = None if is_causal else _seen(mask, row, slice(first, last), keys, window, query.dtype)
        if seen is not None and query.device.type != "cpu":  # masked kernels of GPUs want a key for every head
            k, v = (states.repeat_interleave(query.shape[1] // key.shape[1], dim=1) for states in (k, v))
        out = scaled_dot_product_attention(
            q, k, v, attn_mask=seen, dropout_p=dropout, is_causal=is_causal, scale=scaling, enable_gqa=True
        )
        found.append(out.transpose(1, 2))
    if n_padding:
        found.append(query.new_zeros(1, n_padding, query.shape[1], value.shape[3]))
    return torch.cat(found, dim=1) if len(found) > 1 else found[0]


def _strips(start: int, end: int, trunk: list[int], device: torch.device) -> list[tuple[int, int]]:
    """A trunk's queries in parts, where the kernel would compute the whole square; anything else as it is."""
    if trunk[0] < trunk[1] or device.type != "cpu":
        return [(start, end)]
    return [(at, min(at + _STRIP, end)) for at in range(start, end, _STRIP)]


def _joined(states: Tensor, parts: tuple[slice, slice], dim: int) -> Tensor:
    """Two ranges one behind the other; a view where they touch or the first is empty."""
    trunk, own = parts
    if trunk.start == trunk.stop or trunk.stop == own.start:
        start = own.start if trunk.start == trunk.stop else trunk.start
        return states.narrow(dim, start, own.stop - start)
    return torch.cat([states.narrow(dim, part.start, part.stop - part.start) for part in parts], dim=dim)


def _seen(
    mask: Any, row: int, queries: slice, keys: tuple[slice, slice], window: int | None, dtype: torch.dtype
) -> Tensor:
    """What is added to the products: 0 where a query sees a key, -inf elsewhere; made once for all layers."""
    name = (row, queries.start, window, dtype)
    if name not in mask.seen:
        seen = _joined(mask[row : row + 1, :, queries], keys, dim=3)
        if window is not None:
            position: Tensor = mask.positions[row].to(seen.device)
            seen = seen & (position[queries, None] - _joined(position, keys, dim=0) < window)
        mask.seen[name] = torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, -torch.inf)
    found: Tensor = mask.seen[name]
    return found
