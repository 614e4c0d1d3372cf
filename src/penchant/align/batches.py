"""From records to batches: which rows each optimiser step sees is decided before the first step.

The plan depends on the seed, the settings and the lengths of the rows, never on the number of processes or on how a
step is cut into parts. That is what makes a resumed run equal an uninterrupted one, accumulation equal a large batch,
and two processes equal one.

>>> [sorted(rows) for [rows] in plan([9, 9, 9], steps=2, examples_per_batch=3)]
[[0, 1, 2], [0, 1, 2]]
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from penchant.errors import DataError, SettingsError
from penchant.policies.sequences import Example, packed, padded
from penchant.records import Records

Batch = Mapping[str, Any]
Step = list[list[int]]


class Aligner(Protocol):
    """The data a method needs and the objective it minimises; it knows no optimiser, device or checkpoint."""

    @property
    def trains(self) -> type:
        """The kind of policy it trains; what the policy's `scores` give is what `loss` reads."""

    @property
    def reads(self) -> tuple[type[Records], ...]:
        """The kinds of record it takes as they are, the most telling first."""

    @property
    def needs_reference(self) -> bool:
        """Whether `loss` reads the log-probabilities of a frozen reference."""

    def examples(self, records: Any) -> list[dict[str, Any]]:
        """What to train on.

        Returns:
            A dictionary per example: `prompt` (str), `responses` (list of str), optional `condition`, `form` and
            `given` as `Policy.encode` takes them, and `user` (whose record it is; None for a record without a name);
            every other key is a number, or a list with one number per response, and reaches `loss` as a tensor.
        """

    def loss(self, scores: Any, batch: Batch, /) -> Tensor:
        """The objective.

        Args:
            scores: what the policy thinks of the batch: of a language model the log-probability of every response
                token, of a reward model a reward for every response.
            batch: `example` int64 [responses] (which example a response belongs to), `reference` float32 [responses]
                (summed reference log-probability, if needed), and the numbers from `examples`.

        Returns:
            Loss of each example, [examples]; the trainer takes the mean over the whole optimiser step.
        """

    def metrics(self, scores: Any, batch: Batch, /) -> dict[str, Tensor]:
        """Numbers worth watching, each [examples]."""


@dataclass(frozen=True)
class Row:
    """One encoded example.

    Attributes:
        tokens: prompt and responses as token ids.
        fields: the numbers that came with it.
        owners: whose record it is; nobody known by default.
    """

    tokens: Example
    fields: Mapping[str, float | Sequence[float]]
    owners: tuple[str | None, ...] = ()


def encode(aligner: Aligner, policy: Any, records: Any, *, too_long: str = "error") -> tuple[list[Row], dict[str, int]]:
    """Every example as token ids, and how many were dropped for each reason (an aligner's own are in its `dropped_`).

    Args:
        aligner: says what the examples are.
        policy: says what their tokens are.
        records: what the aligner reads.
        too_long: "error", or "drop" to leave out (and count) examples that the model's context cannot hold.

    Raises:
        DataError: no example is left, or one is too long.
    """
    rows: list[Row] = []
    n_long = 0
    examples = aligner.examples(records)
    for example in examples:
        rest = dict(example)
        prompt, responses = rest.pop("prompt"), rest.pop("responses")
        options = {name: rest.pop(name, None) for name in ("condition", "form", "given")}
        owners = (rest.pop("user"),) if "user" in rest else ()
        try:
            tokens = policy.encode(prompt, responses, **{name: one for name, one in options.items() if one is not None})
        except DataError:
            if too_long != "drop":
                raise
            n_long += 1
            continue
        rows.append(Row(tokens, rest, owners))
    if not rows:
        raise DataError(
            f"There is nothing to train on: 0 of {len(examples)} examples are left"
            + (f", {n_long} do not fit the model's context" if n_long else "")
            + ". Check the filter or file the records come from."
        )
    dropped = dict(getattr(aligner, "dropped_", {}))
    return rows, dropped | ({"longer than the model's context": n_long} if n_long else {})


def plan(
    n_tokens: Sequence[int],
    *,
    steps: int | None = None,
    epochs: float | None = None,
    examples_per_batch: int = 8,
    tokens_per_batch: int | None = None,
    accumulation: int = 1,
    seed: int = 0,
) -> list[Step]:
    """The rows of every part of every optimiser step.

    Args:
        n_tokens: length of each row.
        steps: optimiser steps to plan; rows are dealt again, in a new order, as often as that takes.
        epochs: or how often each row is dealt; the last step may then be smaller.
        examples_per_batch: rows of one part of a step, over all processes together.
        tokens_per_batch: instead: as many rows as fit in so many tokens.
        accumulation: parts of a step.
        seed: of the order.

    Returns:
        [steps][parts] lists of row numbers.

    Raises:
        DataError: a row alone is longer than `tokens_per_batch`.
        SettingsError: neither or both of `steps` and `epochs` are given.
    """
    if (steps is None) == (epochs is None):
        raise SettingsError(f"Give either steps or epochs: got steps={steps!r} and epochs={epochs!r}.")
    longest = max(n_tokens)
    if tokens_per_batch is not None and longest > tokens_per_batch:
        n_long = sum(n > tokens_per_batch for n in n_tokens)
        raise DataError(
            f"{n_long} of {len(n_tokens)} rows are longer than tokens_per_batch ({tokens_per_batch} tokens); the "
            f"longest has {longest}. Set tokens_per_batch to at least {longest}, or drop those rows."
        )
    limit = None if epochs is None else max(1, round(epochs * len(n_tokens)))
    parts = _parts(n_tokens, limit, examples_per_batch, tokens_per_batch, seed)
    planned: list[Step] = []
    step: Step = []
    for part in parts:
        step.append(part)
        if len(step) == accumulation:
            planned.append(step)
            step = []
            if len(planned) == steps:
                break
    return [*planned, step] if step else planned


def _parts(
    n_tokens: Sequence[int], limit: int | None, n_rows: int, tokens: int | None, seed: int
) -> Iterator[list[int]]:
    part: list[int] = []
    used = 0
    for row in _deal(len(n_tokens), limit, seed):
        full = len(part) == n_rows if tokens is None else used + n_tokens[row] > tokens
        if full:
            yield part
            part, used = [], 0
        part.append(row)
        used += n_tokens[row]
    yield part


def _deal(n: int, limit: int | None, seed: int) -> Iterator[int]:
    dealt, epoch = 0, 0
    while True:
        for row in np.random.default_rng([seed, epoch]).permutation(n).tolist():
            yield row
            dealt += 1
            if dealt == limit:
                return
        epoch += 1


@dataclass(frozen=True)
class Share:
    """What one process computes of one part of a step.

    Attributes:
        rows: row numbers.
        weights: 1 per row, or 0 for a row that only keeps an otherwise idle process in step with the others.
        n_examples: real rows in the whole step, over all its parts and processes.
    """

    rows: list[int]
    weights: list[float]
    n_examples: int


class Shares(torch.utils.data.Dataset[Share]):
    """A plan as a data set of shares: item (part * n_processes + process), in the order of training.

    Args:
        planned: from `plan`.
        n_processes: processes that train together.
        accumulation: parts of a step; a shorter last step is filled with parts of weight 0.
    """

    def __init__(self, planned: Sequence[Step], n_processes: int = 1, accumulation: int = 1):
        self.n_processes = n_processes
        self.parts: list[tuple[list[int], int]] = []
        for step in planned:
            n_examples = sum(map(len, step))
            filled = [*step, *([[]] * (accumulation - len(step)))]
            self.parts += [(part, n_examples) for part in filled]

    def __len__(self) -> int:
        """Shares of all parts."""
        return len(self.parts) * self.n_processes

    def __getitem__(self, index: int) -> Share:
        """One share."""
        part, n_examples = self.parts[index // self.n_processes]
        rows = part[index % self.n_processes :: self.n_processes]
        return Share(rows or [0], [1.0] * len(rows) or [0.0], n_examples)


class Collator:
    """Turns one share into tensors.

    Args:
        rows: all encoded examples.
        pad: token id that fills up.
        use_packing: several responses behind one prompt in one row, instead of padded sequences.
    """

    def __init__(self, rows: Sequence[Row], *, pad: int, use_packing: bool):
        self.rows, self.pad, self.use_packing = rows, pad, use_packing
        self.reference: Sequence[Tensor] | None = None

    def __call__(self, shares: Sequence[Share]) -> dict[str, Any]:
        """A batch for `Aligner.loss`, with the model's inputs in it."""
        [share] = shares
        rows = [self.rows[number] for number in share.rows]
        join = packed if self.use_packing else padded
        batch: dict[str, Any] = dict(join([row.tokens for row in rows], pad=self.pad))
        batch["weight"] = torch.tensor(share.weights)
        batch["n_examples"] = share.n_examples
        for name in rows[0].fields:
            values = np.hstack([np.asarray(row.fields[name], dtype=np.float32) for row in rows])
            batch[name] = torch.from_numpy(values)
        if self.reference is not None:
            batch["reference"] = torch.cat([self.reference[number] for number in share.rows])
        return batch
