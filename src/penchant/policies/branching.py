"""Samples that grow from prompts which stand in memory once, whatever number of samples continues each.

Keys and values of a prompt are kept once, those of its samples apart. A new token meets both in two products and one
softmax over the scores of the two side by side: exact attention, without a copy of the prompt for every sample and
without copying the past at every step. It is one more attention function of transformers, in force while samples grow;
what a model does outside of attention (adapters, scaled logits, its own positions) stays as it is.

Source:
    The split of a prompt from its continuations is that of Juravsky et al. 2024, "Hydragen: high-throughput LLM
    inference with shared prefixes", section 3; we join scores before the softmax instead of outputs after it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.cache_utils import Cache, CacheLayerMixin

NAME = "penchant_branching"
# What else an attention function may be told by a model, and what these here do not compute.
_FOREIGN = ("softcap", "s_aux", "position_bias", "head_mask")


class Branches(Cache):
    """The cache of samples: what each layer knows of the prompts, and of each sample.

    Args:
        prompts: cache of the prompts that were read, [prompts, ...].
        mask: 1 for their tokens, 0 for padding, int64[prompts, width].
        n: samples of each; their rows stand in the order of the prompts.
        n_steps: most tokens of a sample.
    """

    def __init__(self, prompts: Any, mask: Tensor, n: int, n_steps: int):
        self._places = _Places(mask, n)
        self._own = [_Layer(layer, self._places, n_steps) for layer in prompts.layers]
        super().__init__(layers=list(self._own))

    def keep(self, kept: Tensor) -> Tensor:
        """Let samples go; the last ones take the places that become free.

        Args:
            kept: bool[rows].

        Returns:
            Which rows there were now stand at 0, 1, ..., int64[rows kept].
        """
        order = closed_up(kept)
        prompts = self._places.keep(order)
        for layer in self._own:
            layer.keep_rows(order)
            if prompts is not None:
                layer.keep_prompts(prompts)
        return order

    def past(self) -> dict[str, Any]:
        """Arguments of the model's next forward pass, of one token a sample."""
        return {"past_key_values": self}


@contextmanager
def attending(model: Any) -> Iterator[None]:
    """While open, a model of transformers attends to `Branches`."""
    AttentionInterface.register(NAME, attend)
    before = model.config._attn_implementation
    model.config._attn_implementation = NAME
    try:
        yield
    finally:
        model.config._attn_implementation = before


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **more: Any,
) -> tuple[Tensor, None]:
    """What transformers calls in each layer.

    Args:
        module: the attention.
        query: of one new token a sample, [samples, heads, 1, dim].
        key: as `Branches` gave them, which know their layer.
        value: likewise.
        attention_mask: none is made for this function.
        scaling: of the products; None is 1 / sqrt(dim).
        dropout: none while sampling.
        more: among it perhaps `sliding_window`, which must be longer than all there is to see.

    Returns:
        [samples, 1, heads, dim], and no weights.

    Raises:
        NotImplementedError: the model wants something of its attention that is not computed here.
    """
    foreign = [name for name in _FOREIGN if more.get(name) is not None]
    layer = getattr(key, "layer", None)
    if foreign or layer is None or query.shape[2] != 1:
        raise NotImplementedError(f"its attention asks for {', '.join(foreign) or 'keys of another form'}")
    found = layer.attend(query[:, :, 0] * (query.shape[-1] ** -0.5 if scaling is None else scaling))
    return found[:, None], None


def closed_up(kept: Tensor) -> Tensor:
    """Which rows stand where, if the last of those kept move to the places of those that go, int64[number kept].

    >>> closed_up(torch.tensor([True, False, True, True])).tolist()
    [0, 3, 2]
    """
    n = int(kept.sum())
    order = torch.arange(n, device=kept.device)
    order[~kept[:n]] = n + kept[n:].nonzero()[:, 0]
    return order


class _Places:
    """To which prompt each sample belongs, for all layers."""

    def __init__(self, mask: Tensor, n: int):
        self.n_prompts, self.n = len(mask), n
        self.hidden = None if mask.all() else ~mask.bool()[:, None, None]
        self._slots: Tensor | None = None  # of each row its number among n samples of all prompts; None: in order

    def keep(self, order: Tensor) -> Tensor | None:
        """Move rows, and forget prompts once the samples of half of them have ended: which are kept, None for all."""
        slots = order if self._slots is None else self._slots[order]
        owner = slots // self.n
        alive = torch.unique(owner)
        prompts = None
        if 2 * len(alive) <= self.n_prompts:
            prompts, self.n_prompts = alive, len(alive)
            slots = torch.searchsorted(alive, owner) * self.n + slots % self.n
            self.hidden = None if self.hidden is None else self.hidden[alive]
        self._slots = slots
        return prompts

    def by_prompt(self, states: Tensor) -> Tensor:
        """[rows, groups, heads, dim] as [prompts, groups, samples * heads, dim], zeros for samples that have ended."""
        _, groups, heads, dim = states.shape
        if self._slots is not None:
            every = states.new_zeros(self.n_prompts * self.n, groups, heads, dim)
            every[self._slots] = states
            states = every
        return states.view(self.n_prompts, self.n, groups, heads, dim).transpose(1, 2).flatten(2, 3)

    def by_row(self, states: Tensor) -> Tensor:
        """The way back."""
        rows = torch.unflatten(states, 2, (self.n, -1)).transpose(1, 2).flatten(0, 1)
        return rows if self._slots is None else rows[self._slots]


class _Layer(CacheLayerMixin):  # type: ignore[no-untyped-call]
    """Keys and values of one layer."""

    def __init__(self, prompts: Any, places: _Places, n_steps: int):
        super().__init__()  # type: ignore[no-untyped-call]
        self.is_initialized = True
        self._prompts = [prompts.keys, prompts.values]  # each [prompts, groups, width, dim]
        self._own: list[Tensor] = []  # keys and values of samples, each [rows, groups, room, dim]
        self._places, self._n_steps, self._n = places, n_steps, 0

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing is left to do."""

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Take in a token of each sample; keys and values of all its tokens, [rows, groups, tokens, dim]."""
        fresh = (key_states, value_states)
        room = self._own[0].shape[2] if self._own else 0
        if self._n == room:
            room = min(self._n_steps, max(32, 2 * room))
            larger = [states.new_empty(*states.shape[:2], room, states.shape[3]) for states in fresh]
            for to, states in zip(larger, self._own, strict=False):
                to[:, :, : self._n] = states
            self._own = larger
        for to, states in zip(self._own, fresh, strict=True):
            to[:, :, self._n : self._n + 1] = states
        self._n += 1
        keys, values = (states[:, :, : self._n] for states in self._own)
        carrier: Any = keys
        carrier.layer = self
        return keys, values

    def attend(self, query: Tensor) -> Tensor:
        """What each sample reads in its prompt and in itself; scaled queries and result are [rows, heads, dim]."""
        (keys, values), places = self._prompts, self._places
        own_keys, own_values = (states[:, :, : self._n] for states in self._own)
        query = torch.unflatten(query, 1, (own_keys.shape[1], -1))  # heads that share keys stand together
        scores = places.by_prompt(query) @ keys.transpose(2, 3)
        if places.hidden is not None:
            scores = scores.masked_fill(places.hidden, -torch.inf)
        both = torch.cat([places.by_row(scores), query @ own_keys.transpose(2, 3)], dim=-1)
        weights = torch.softmax(both, -1, dtype=torch.float32).to(values.dtype)
        of_prompt, own = torch.split(weights, [keys.shape[2], self._n], dim=-1)
        return (places.by_row(places.by_prompt(of_prompt) @ values) + own @ own_values).flatten(1, 2)

    def keep_rows(self, order: Tensor) -> None:
        """Move samples to the places that became free, in their old memory: few move."""
        moved = (order != torch.arange(len(order), device=order.device)).nonzero()[:, 0]
        for states in self._own:
            states[moved] = states[order[moved]]
        self._own = [states[: len(order)] for states in self._own]

    def keep_prompts(self, prompts: Tensor) -> None:
        """Forget all but these."""
        self._prompts = [states[prompts] for states in self._prompts]

    def get_seq_length(self) -> int:
        """Tokens that stand before the next one, padding included."""
        return int(self._prompts[0].shape[2]) + self._n

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """As for any cache that forgets nothing."""
        return self.get_seq_length() + query_length, 0

    def get_max_length(self) -> int:
        """No limit."""
        return -1
