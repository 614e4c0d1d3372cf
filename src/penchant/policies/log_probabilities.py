"""Log-probabilities of whole responses, computed once for a model and a row, and kept by the content of both.

Adding one row to a data set costs one row; a second run, or another method on the same rows, costs nothing.
"""

import struct
from collections.abc import Collection, Sequence
from typing import Any

import torch

from penchant.cache import RowCache, owners_by_key
from penchant.policies.fingerprint import fingerprint, response_keys
from penchant.policies.pretrained import evaluating, groups_of
from penchant.policies.sequences import Example, packed, padded, token_log_probabilities


def kept_sums(
    model: Any,
    examples: Sequence[Example],
    *,
    pad: int,
    use_packing: bool,
    tokens_per_batch: int = 4096,
    cache: RowCache | None = None,
    owners: Sequence[Collection[str | None]] | None = None,
    bf16: bool = False,
) -> list[list[float]]:
    """Summed log-probability of every response; those that the cache knows are taken from there.

    Args:
        model: a causal language model, evaluated as it stands (adapters on or off).
        examples: prompts with their responses.
        pad: token id that fills up.
        use_packing: a prompt once, its responses behind it; `can_pack` says for which models.
        tokens_per_batch: about so many are computed at once.
        cache: where answers are kept, by the model's weights and the row's tokens; None computes all.
        owners: of each example, whose records it is; see `RowCache.put_many`.
        bf16: compute in mixed precision, as a run does whose first log-ratios are to be zero.

    Returns:
        For each example a number for each response, nats.
    """
    keys = [response_keys(example) for example in examples]
    flat = list(dict.fromkeys(key for row in keys for key in row))
    namespace = f"log-probabilities-{fingerprint(model)}{'-bf16' * bf16}" if cache else ""
    whose = owners_by_key((key, people) for row, people in zip(keys, owners or (), strict=False) for key in row)
    kept = dict(zip(flat, cache.get_many(namespace, flat, whose), strict=True)) if cache else {}
    sums = {key: _DOUBLE.unpack(value)[0] for key, value in kept.items() if value is not None}
    missing = [i for i, row in enumerate(keys) if any(key not in sums for key in row)]
    join = packed if use_packing else padded
    device = next(model.parameters()).device
    with evaluating(model), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        for chosen in groups_of([examples[i].n_tokens for i in missing], tokens_per_batch):
            rows = [missing[i] for i in chosen]
            batch = join([examples[i] for i in rows], pad=pad)
            found = token_log_probabilities(model, batch).sums().tolist()
            fresh = dict(zip([key for i in rows for key in keys[i]], found, strict=True))
            sums |= fresh
            if cache:
                cache.put_many(namespace, {key: _DOUBLE.pack(value) for key, value in fresh.items()}, whose)
    return [[sums[key] for key in row] for row in keys]


_DOUBLE = struct.Struct("<d")
