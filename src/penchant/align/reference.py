"""What the frozen reference thinks of every response, computed once and kept per row by content.

Adding one row to a data set costs one row; a second run, or another method on the same rows, costs nothing.
"""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from penchant.align.batches import Collator, Row
from penchant.cache import RowCache, content_key
from penchant.policies.fingerprint import fingerprint, response_key
from penchant.policies.sequences import packed, padded, token_log_probabilities


def reference_log_probabilities(
    model: Any,
    rows: Sequence[Row],
    *,
    pad: int,
    use_packing: bool,
    cache: RowCache | None = None,
    bf16: bool = False,
    tokens_per_batch: int = 4096,
) -> list[Tensor]:
    """Summed log-probability of every response under the model with its adapter, if it has one, switched off.

    Args:
        model: a causal language model.
        rows: encoded examples.
        pad: token id that fills up.
        use_packing: as in training.
        cache: where answers are kept; None computes all.
        bf16: as in training, so that the first log-ratios are zero.
        tokens_per_batch: computed at once.

    Returns:
        Per row, float32 [responses] in nats.
    """
    keys = [[response_key(row.tokens, i) for i in range(len(row.tokens.responses))] for row in rows]
    flat = list(dict.fromkeys(k for row in keys for k in row))
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    switched_off = model.disable_adapter() if hasattr(model, "disable_adapter") else contextlib.nullcontext()
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=bf16), switched_off:
        namespace = f"log-probabilities-{fingerprint(model)}{'-bf16' * bf16}" if cache else ""
        found = dict(zip(flat, cache.get_many(namespace, flat), strict=True)) if cache else {}
        known = {k: float(np.frombuffer(value, dtype="<f8")[0]) for k, value in found.items() if value is not None}
        missing = [i for i, row in enumerate(keys) if any(k not in known for k in row)]
        for chunk in _chunks(rows, missing, tokens_per_batch):
            join = packed if use_packing else padded
            batch = join([rows[i].tokens for i in chunk], pad=pad)
            sums = token_log_probabilities(model, batch).sums().tolist()
            fresh = dict(zip([k for i in chunk for k in keys[i]], sums, strict=True))
            known |= fresh
            if cache:
                cache.put_many(namespace, {k: np.float64(value).tobytes() for k, value in fresh.items()})
    model.train(was_training)
    return [torch.tensor([known[k] for k in row], dtype=torch.float32) for row in keys]


def _chunks(rows: Sequence[Row], chosen: Sequence[int], budget: int) -> list[list[int]]:
    """Rows of similar length together, so that padding costs little, and at most so many tokens at once."""
    chunks: list[list[int]] = []
    used = budget + 1
    for i in sorted(chosen, key=lambda i: rows[i].tokens.n_tokens):
        if used + rows[i].tokens.n_tokens > budget:
            chunks.append([])
            used = 0
        chunks[-1].append(i)
        used += rows[i].tokens.n_tokens
    return chunks


def kept_reference(
    model: Any, collator: Collator, path: Path, cache: RowCache | None, *, resumes: bool, bf16: bool
) -> None:
    """Give a collator its reference log-probabilities, shared out among the processes.

    Args:
        model: the policy before its first step.
        collator: whose rows are meant.
        path: where they are kept for a resume, when the policy will have moved.
        cache: across runs; by default the one of this account.
        resumes: whether the run goes on, so that what was kept counts.
        bf16: as in training.
    """
    rows = collator.rows
    if not rows:
        return
    tokens = content_key(*(repr(row.tokens) for row in rows))
    counts = [len(row.tokens.responses) for row in rows]
    if resumes and path.exists():
        with safe_open(path, framework="pt") as file:
            if file.metadata()["rows"] == tokens:
                collator.reference = file.get_tensor("values").split(counts)
                return
    cache = cache or RowCache()
    rank, n_processes = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    mine = reference_log_probabilities(
        model, rows[rank::n_processes], pad=collator.pad, use_packing=collator.use_packing, cache=cache, bf16=bf16
    )
    shares: list[Any] = [mine]
    if n_processes > 1:
        shares = [None] * n_processes
        dist.all_gather_object(shares, mine)
    collator.reference = [shares[i % n_processes][i // n_processes] for i in range(len(rows))]
    if rank == 0:
        partial = path.with_suffix(".partial")
        save_file({"values": torch.cat(list(collator.reference))}, partial, metadata={"rows": tokens})
        partial.replace(path)
