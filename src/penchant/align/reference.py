"""What the frozen reference thinks of every response: once before the first step, and the same after a resume."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from penchant.align.batches import Collator, Row
from penchant.cache import RowCache, content_key
from penchant.errors import StorageError
from penchant.policies.log_probabilities import kept_sums
from penchant.whole import whole_file


def reference_log_probabilities(
    model: Any, rows: Sequence[Row], *, pad: int, use_packing: bool, cache: RowCache | None = None, bf16: bool = False
) -> list[Tensor]:
    """Summed log-probability of every response under the model with its adapter, if it has one, switched off.

    Args:
        model: a causal language model.
        rows: encoded examples.
        pad: token id that fills up.
        use_packing: as in training.
        cache: where answers are kept; None computes all.
        bf16: as in training, so that the first log-ratios are zero.

    Returns:
        Per row, float32 [responses] in nats.
    """
    examples = [row.tokens for row in rows]
    with model.disable_adapter() if hasattr(model, "disable_adapter") else contextlib.nullcontext():
        sums = kept_sums(
            model,
            examples,
            pad=pad,
            use_packing=use_packing,
            cache=cache,
            owners=[row.owners for row in rows],
            bf16=bf16,
        )
    values = torch.tensor([value for row in sums for value in row], dtype=torch.float32)
    return list(torch.split(values, [len(row) for row in sums]))


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

    Raises:
        StorageError: what was kept is damaged.
    """
    rows = collator.rows
    if not rows:
        return
    tokens = content_key(*(repr(row.tokens) for row in rows))
    counts = [len(row.tokens.responses) for row in rows]
    if resumes and path.exists():
        try:
            with safe_open(path, framework="pt") as file:
                if file.metadata()["rows"] == tokens:
                    collator.reference = file.get_tensor("values").split(counts)
                    return
        except SafetensorError as error:
            raise StorageError(
                f"{path} is not what was written ({error}). Delete it, and a new process computes what it held again."
            ) from error
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
        with whole_file(path) as partial:
            save_file({"values": torch.cat(list(collator.reference))}, partial, metadata={"rows": tokens})
