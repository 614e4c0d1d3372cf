"""Samples from a language model: a prompt is read once, however many samples continue it.

Prompts of a batch are read together, padded on the left. Their keys and values then stand in memory once (`branching`)
while samples grow, or are repeated for every sample where a model's attention does not allow that; finished samples
leave the batch. Each sample has random numbers of its own, which depend on the seed, the place of its prompt and its
own number only: how prompts are batched changes nothing but rounding.
"""

import copy
import warnings
from collections.abc import Collection, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from tqdm.auto import tqdm

from penchant.errors import SettingsError
from penchant.policies.linear import through_onednn
from penchant.policies.sequences import accepts, bare_model

# What is made from so many logits stays in a CPU's cache; with more, memory is most of the time.
_LOGITS_IN_CACHE = 2**19
_PASSES_WORTH_PACKING = 32


@dataclass(frozen=True)
class SampledTokens:
    """A continuation.

    Attributes:
        tokens: token ids; the last one ends the turn, unless the sample stopped because it was long enough.
        log_probabilities: of each, nats, given what stands before it: the model's own, at temperature 1 and over all
            tokens, whatever temperature and `top_p` it was sampled with.
    """

    tokens: tuple[int, ...]
    log_probabilities: tuple[float, ...]


class Sampler(Protocol):
    """Whatever continues prompts; arguments and Raises as for `sample_tokens`."""

    def __call__(
        self,
        prompts: Sequence[Sequence[int]],
        n: int = 1,
        *,
        end_tokens: Collection[int],
        temperature: float = 0.7,
        top_p: float = 1.0,
        max_new_tokens: int = 64,
        seed: int = 0,
        rows_at_once: int = 32,
        progress: bool = False,
    ) -> list[list[SampledTokens]]:
        """For each prompt n continuations of at most `max_new_tokens` tokens."""


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
    rows = max(1, _LOGITS_IN_CACHE // logits.shape[1])
    if logits.device.type == "cpu" and len(logits) > rows:
        parts = zip(torch.split(logits, rows), torch.split(uniform, rows), strict=True)
        return torch.cat([choose(*part, temperature=temperature, top_p=top_p) for part in parts])
    probability = torch.softmax(logits.float() / temperature, -1)
    if top_p == 1:
        return _inverse(probability, uniform)
    probability, order = probability.sort(descending=True, stable=True)
    before = probability.cumsum(-1, dtype=torch.double) - probability
    chosen = _inverse(probability.where(before < top_p, 0.0), uniform)
    return order.gather(-1, chosen[:, None])[:, 0]


def _inverse(probability: Tensor, uniform: Tensor) -> Tensor:
    # Each probability is good to float32, but over 50,000 tokens a float32 sum would be off by more than rare ones are.
    cumulative = probability.cumsum(-1, dtype=torch.double)
    target = uniform.double()[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, target, right=True)[:, 0].clamp(max=probability.shape[-1] - 1)


def log_probability(logits: Tensor, tokens: Tensor) -> Tensor:
    """Log-probability of one token a row, nats, float32[rows]; of logits [rows, vocabulary].

    >>> log_probability(torch.zeros(1, 4), torch.tensor([2])).exp().item()
    0.25
    """
    return -cross_entropy(logits.float(), tokens, reduction="none")


def require_samplable(n: int, temperature: float, top_p: float, max_new_tokens: int, rows_at_once: int) -> None:
    """Refuse settings that no sampler can follow.

    Raises:
        SettingsError: a setting is out of its range.
    """
    if n < 1 or max_new_tokens < 1 or rows_at_once < 1 or not 0 <= temperature < float("inf") or not 0 < top_p <= 1:
        raise SettingsError(
            "Sampling needs n, max_new_tokens and rows_at_once >= 1, a finite temperature >= 0 and top_p in (0, 1]: "
            f"got {n!r}, {max_new_tokens!r}, {rows_at_once!r}, {temperature!r} and {top_p!r}."
        )


def seeds_of(n_prompts: int, seed: int) -> list[int]:
    """A seed for each prompt, in [0, 2**62)."""
    found: list[int] = torch.randint(2**62, (n_prompts,), generator=torch.Generator().manual_seed(seed)).tolist()
    return found


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
) -> list[list[SampledTokens]]:
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
        For each prompt n continuations of at most `max_new_tokens` tokens.

    Raises:
        SettingsError: a setting is out of its range, or the model keeps no keys and values.
    """
    require_samplable(n, temperature, top_p, max_new_tokens, rows_at_once)
    if not prompts:
        return []
    share = shares_prompts(model, max(map(len, prompts)) + max_new_tokens)
    seeds = seeds_of(len(prompts), seed)
    samples: list[list[SampledTokens]] = [[] for _ in prompts]
    by_length = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))  # the longest first: memory fails early
    size = max(1, rows_at_once // n)
    batches = [by_length[at : at + size] for at in range(0, len(by_length), size)]
    n_passes = len(batches) * -(-n // rows_at_once) * max_new_tokens
    with (
        through_onednn(model, pack=n_passes >= _PASSES_WORTH_PACKING),
        tqdm(total=len(prompts) * n * max_new_tokens, unit="token", disable=not progress) as bar,
    ):
        for chosen in batches:
            uniforms = torch.stack(
                [
                    torch.rand(n, max_new_tokens, generator=torch.Generator().manual_seed(seeds[i]), dtype=torch.double)
                    for i in chosen
                ]
            )
            grown = _samples(
                model,
                [prompts[i] for i in chosen],
                uniforms,
                share=share,
                rows_at_once=rows_at_once,
                end_tokens=end_tokens,
                pad=pad,
                temperature=temperature,
                top_p=top_p,
                bar=bar,
            )
            for i, of_prompt in zip(chosen, grown, strict=True):
                samples[i] = of_prompt
    return samples


_WHY_NOT: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()


@torch.no_grad()
def shares_prompts(model: Any, longest: int) -> bool:
    """Whether samples of this model can share their prompt's keys and values; tried out once a model.

    Where they cannot, each sample gets a copy of them: the same values in more time and memory. A warning says so and
    why.

    Args:
        model: a causal language model of transformers in evaluation mode.
        longest: most tokens of a prompt and its sample together.
    """
    bare = bare_model(model)
    if bare not in _WHY_NOT:
        _WHY_NOT[bare] = _why_not(model)
    config = bare.config.get_text_config()
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    reason = _WHY_NOT[bare]
    if not reason and window is not None and longest > window:
        reason = f"its attention sees no further than {window} tokens, and they are longer"
    if reason:
        warnings.warn(
            f"{type(bare).__name__}: each sample gets a copy of its prompt's keys and values, because {reason}. The "
            "samples are the same; they take longer and need more memory.",
            stacklevel=1,
        )
    return not reason


def _why_not(model: Any) -> str:
    """Why samples that share a prompt would not have the values of a plain forward pass; empty if they do."""
    bare = bare_model(model)
    config = bare.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ())
    if not kinds <= {"full_attention", "sliding_attention"}:
        return f"it has layers of other kinds than attention: {', '.join(sorted(kinds))}"
    if not getattr(bare, "_supports_attention_backend", False):
        return "its attention cannot be replaced"
    if not accepts(bare, "position_ids"):
        return "it takes no position_ids"
    prompts = [[7 * i % config.vocab_size for i in range(1, 1 + length)] for length in (5, 3)]
    uniforms = torch.rand(2, 2, 4, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    settings: dict[str, Any] = {"temperature": 1.0, "top_p": 1.0, "end_tokens": (), "bar": tqdm(disable=True)}
    try:
        grown = _samples(model, prompts, uniforms, share=True, rows_at_once=4, pad=0, **settings)
    except Exception as error:  # whatever some architecture makes of a cache of another kind
        return f"a trial failed ({type(error).__name__}: {error})"
    differences = []
    for prompt, of_prompt in zip(prompts, grown, strict=True):
        sequences = torch.tensor([[*prompt, *one.tokens] for one in of_prompt], device=bare.device)
        logits = model(input_ids=sequences, use_cache=False).logits[:, len(prompt) - 1 : -1]
        plain = torch.log_softmax(logits.float(), -1).gather(-1, sequences[:, len(prompt) :, None])[..., 0]
        differences.append(plain.cpu() - torch.tensor([one.log_probabilities for one in of_prompt]))
    worst = float(torch.stack(differences).abs().max())
    tolerance = 1e-4 if bare.dtype in (torch.float32, torch.float64) else 0.1
    return "" if worst < tolerance else f"a trial gave other values (by {worst:.2g} nats)"


def _samples(
    model: Any,
    prompts: Sequence[Sequence[int]],
    uniforms: Tensor,
    *,
    share: bool,
    rows_at_once: int,
    pad: int,
    **settings: Any,
) -> list[list[SampledTokens]]:
    """Continuations of prompts that are read together, for `uniforms`, [prompts, samples, steps]; as `_grow`."""
    from penchant.policies.branching import Branches, attending  # it loads transformers

    mask, logits, cache = _read(model, prompts, pad)
    n = uniforms.shape[1]
    found: list[list[SampledTokens]] = [[] for _ in prompts]
    parts = torch.split(uniforms.to(logits.device), min(n, rows_at_once), dim=1)
    for number, part in enumerate(parts, start=1):
        count = part.shape[1]
        with attending(model) if share else nullcontext():
            grown = _grow(
                model,
                Branches(cache, mask, *part.shape[1:]) if share else _Copies(cache, mask, count, number == len(parts)),
                logits.repeat_interleave(count, 0),
                mask.sum(-1).repeat_interleave(count),
                part.flatten(0, 1),
                **settings,
            )
        for i, of_prompt in enumerate(found):
            of_prompt += grown[i * count : (i + 1) * count]
    return found


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
    if getattr(out, "past_key_values", None) is None:
        raise SettingsError(
            f"{type(bare_model(model)).__name__} keeps no keys and values of what it has read (`past_key_values`), as "
            "models without attention do; it can be trained and scored, but not sampled here."
        )
    return mask, out.logits[:, -1], out.past_key_values


class _Copies:
    """Samples, each with a copy of its prompt's keys and values, in a cache of the model's own kind."""

    def __init__(self, prompts: Any, mask: Tensor, n: int, is_last: bool):
        self._cache = prompts if is_last else copy.deepcopy(prompts)
        self._cache.batch_repeat_interleave(n)
        self._mask = mask.repeat_interleave(n, 0)

    def past(self) -> dict[str, Any]:
        """Arguments of the model's next forward pass, of one token a sample."""
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(self._mask), 1)], dim=1)
        return {"past_key_values": self._cache, "attention_mask": self._mask}

    def keep(self, kept: Tensor) -> Tensor:
        """Let samples go, of bool[rows]; which rows there were now stand at 0, 1, ..., int64[rows kept]."""
        order = kept.nonzero()[:, 0]
        self._cache.batch_select_indices(order)
        self._mask = self._mask[order]
        return order


def _grow(
    model: Any,
    rows: Any,
    logits: Tensor,
    positions: Tensor,
    uniforms: Tensor,
    *,
    end_tokens: Collection[int],
    temperature: float,
    top_p: float,
    bar: Any,
) -> list[SampledTokens]:
    """A token a step for every sample that has not ended, until `uniforms`, [rows, steps], are used up.

    Args:
        model: the language model.
        rows: what it knows of each sample's past, `Branches` or `_Copies`.
        logits: of the first token, [rows, vocabulary].
        positions: of the first token, [rows].
        uniforms: a random number for each token.
        end_tokens: as for `sample_tokens`.
        temperature: likewise.
        top_p: likewise.
        bar: of progress.
    """
    n_rows, n_steps = uniforms.shape
    tokens_of: list[list[int]] = [[] for _ in range(n_rows)]
    values_of: list[list[float]] = [[] for _ in range(n_rows)]
    ends = torch.tensor(sorted(end_tokens), dtype=torch.int64, device=logits.device)
    live = torch.arange(n_rows, device=logits.device)
    takes_positions = accepts(model, "position_ids")
    for step in range(n_steps):
        tokens = choose(logits, uniforms[live, step], temperature=temperature, top_p=top_p)
        values = log_probability(logits, tokens)
        for row, token, value in zip(live.tolist(), tokens.tolist(), values.tolist(), strict=True):
            tokens_of[row].append(token)
            values_of[row].append(value)
        kept = ~torch.isin(tokens, ends)
        n_kept = int(kept.sum())
        bar.update(n_kept + (len(tokens) - n_kept) * (n_steps - step))
        if n_kept == 0 or step == n_steps - 1:
            break
        if n_kept < len(tokens):
            order = rows.keep(kept)
            live, tokens, positions = live[order], tokens[order], positions[order]
        where = {"position_ids": positions[:, None] + step} if takes_positions else {}
        logits = model(input_ids=tokens[:, None], use_cache=True, **where, **rows.past()).logits[:, -1]
    return [SampledTokens(tuple(tokens), tuple(values)) for tokens, values in zip(tokens_of, values_of, strict=True)]
