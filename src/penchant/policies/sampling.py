"""Samples from a language model: a prompt is read once, however many samples continue it.

Prompts of a batch are read together, padded on the left; their cache of keys and values is then repeated for every
sample, and finished samples leave the batch. Each sample has random numbers of its own, which depend on the seed, the
place of its prompt and its own number only: how prompts are batched changes nothing.
"""

import copy
from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from penchant.errors import SettingsError
from penchant.policies.sequences import accepts


def choose(logits: Tensor, uniform: Tensor, *, temperature: float, top_p: float) -> Tensor:
    """One token a row, by inverting the cumulative distribution.

    Args:
        logits: [rows, vocabulary].
        uniform: random numbers in [0, 1), float64[rows].
        temperature: logits are divided by it; 0 takes the likeliest token.
        top_p: sample from the fewest likeliest tokens that together have at least this probability, in (0, 1].

    Returns:
        Tokens, int64[rows].

    Source:
        Holtzman et al. 2020, "The curious case of neural text degeneration", section 3.1, for `top_p`.

    >>> even = torch.zeros(1, 4)
    >>> [choose(even, torch.tensor([u]), temperature=1, top_p=1).item() for u in (0.1, 0.3, 0.6, 0.99)]
    [0, 1, 2, 3]
    """
    if temperature == 0:
        return logits.argmax(-1)
    # float64: over 50,000 tokens a float32 sum would be off by more than rare tokens are worth.
    probability = torch.softmax(logits.double() / temperature, -1)
    if top_p == 1:
        return _inverse(probability, uniform)
    probability, order = probability.sort(descending=True, stable=True)
    before = probability.cumsum(-1) - probability
    chosen = _inverse(probability.where(before < top_p, 0.0), uniform)
    return order.gather(-1, chosen[:, None])[:, 0]


def _inverse(probability: Tensor, uniform: Tensor) -> Tensor:
    cumulative = probability.cumsum(-1)
    target = uniform.double()[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, target, right=True)[:, 0].clamp(max=probability.shape[-1] - 1)


@torch.no_grad()
def sample_tokens(
    model: Any,
    prompts: Sequence[Sequence[int]],
    n: int = 1,
    *,
    end_tokens: Collection[int],
    pad: int,
    temperature: float = 0.7,
    top_p: float = 1.0,
    max_new_tokens: int = 64,
    seed: int = 0,
    rows_at_once: int = 32,
    progress: bool = False,
) -> list[list[list[int]]]:
    """Continuations of each prompt, as token ids.

    Args:
        model: a causal language model of transformers in evaluation mode.
        prompts: token ids, at least one each.
        n: samples of each prompt.
        end_tokens: tokens that end a sample; it is part of it.
        pad: token to fill with.
        temperature: 0 for the likeliest token each time.
        top_p: share of the probability to sample from, in (0, 1].
        max_new_tokens: a sample stops here at the latest.
        seed: same seed, same samples.
        rows_at_once: most samples that grow side by side.
        progress: show a bar.

    Returns:
        For each prompt n lists of at most `max_new_tokens` tokens.

    Raises:
        SettingsError: a setting is out of its range.
    """
    if n < 1 or max_new_tokens < 1 or rows_at_once < 1 or not temperature >= 0 or not 0 < top_p <= 1:
        raise SettingsError(
            f"Sampling needs n, max_new_tokens and rows_at_once >= 1, temperature >= 0 and top_p in (0, 1]: got {n!r}, "
            f"{max_new_tokens!r}, {rows_at_once!r}, {temperature!r} and {top_p!r}."
        )
    seeds = torch.randint(2**62, (len(prompts),), generator=torch.Generator().manual_seed(seed)).tolist()
    samples: list[list[list[int]]] = [[] for _ in prompts]
    by_length = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))  # the longest first: memory fails early
    size = max(1, rows_at_once // n)
    with tqdm(total=len(prompts) * n * max_new_tokens, unit="token", disable=not progress) as bar:
        for at in range(0, len(by_length), size):
            chosen = by_length[at : at + size]
            mask, logits, cache = _read(model, [prompts[i] for i in chosen], pad)
            uniforms = torch.stack(
                [
                    torch.rand(n, max_new_tokens, generator=torch.Generator().manual_seed(seeds[i]), dtype=torch.double)
                    for i in chosen
                ]
            ).to(logits.device)
            for part in torch.split(uniforms, min(n, rows_at_once), dim=1):
                count = part.shape[1]
                branch = cache if count == n else copy.deepcopy(cache)
                branch.batch_repeat_interleave(count)
                grown = _grow(
                    model,
                    branch,
                    mask.repeat_interleave(count, 0),
                    logits.repeat_interleave(count, 0),
                    part.flatten(0, 1),
                    end_tokens=torch.tensor(sorted(end_tokens), device=mask.device),
                    temperature=temperature,
                    top_p=top_p,
                    bar=bar,
                )
                for row, i in enumerate(chosen):
                    samples[i] += grown[row * count : (row + 1) * count]
    return samples


def _read(model: Any, prompts: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor, Any]:
    """Mask of the prompts, padded on the left, [rows, width]; logits of the next token; keys and values."""
    from transformers import DynamicCache

    width = max(map(len, prompts))
    device = next(model.parameters()).device
    ids = torch.tensor([[pad] * (width - len(prompt)) + list(prompt) for prompt in prompts], device=device)
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=device)
    arguments: dict[str, Any] = {"logits_to_keep": 1} if accepts(model, "logits_to_keep") else {}
    if accepts(model, "position_ids"):
        arguments["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)
    cache = DynamicCache(config=model.config)
    out = model(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True, **arguments)
    return mask, out.logits[:, -1], out.past_key_values


def _grow(
    model: Any,
    cache: Any,
    mask: Tensor,
    logits: Tensor,
    uniforms: Tensor,
    *,
    end_tokens: Tensor,
    temperature: float,
    top_p: float,
    bar: Any,
) -> list[list[int]]:
    """A token a step for every sample that has not ended, until `uniforms`, [rows, steps], are used up."""
    samples: list[list[int]] = [[] for _ in range(len(mask))]
    live = torch.arange(len(mask), device=mask.device)
    positions = accepts(model, "position_ids")
    n_steps = uniforms.shape[1]
    for step in range(n_steps):
        tokens = choose(logits, uniforms[live, step], temperature=temperature, top_p=top_p)
        for row, token in zip(live.tolist(), tokens.tolist(), strict=True):
            samples[row].append(token)
        kept = (~torch.isin(tokens, end_tokens)).nonzero()[:, 0]
        bar.update(len(kept) + (len(tokens) - len(kept)) * (n_steps - step))
        if len(kept) == 0 or step == n_steps - 1:
            break
        if len(kept) < len(tokens):
            live, mask, tokens = live[kept], mask[kept], tokens[kept]
            cache.batch_select_indices(kept)
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
        arguments = {"position_ids": mask.sum(-1, keepdim=True) - 1} if positions else {}
        out = model(input_ids=tokens[:, None], attention_mask=mask, past_key_values=cache, use_cache=True, **arguments)
        logits = out.logits[:, -1]
    return samples
