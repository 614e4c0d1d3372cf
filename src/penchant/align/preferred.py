"""Comparisons and rankings as examples, and the pairs and lists within a batch: what every objective on them shares."""

from typing import Any

import torch
from torch import Tensor

from penchant import objectives
from penchant.align.batches import Batch
from penchant.errors import DataError, SettingsError
from penchant.records import Comparisons, Rankings, Records


def require_known(ties: str, lists: str) -> None:
    """Refuse ways to read ties and lists that there are not.

    Raises:
        SettingsError: one of them is unknown.
    """
    if ties not in ("soft", "drop") or lists not in ("plackett_luce", "pairs"):
        raise SettingsError(f"ties is soft or drop, lists is plackett_luce or pairs: got {ties!r} and {lists!r}.")


def examples_of(records: Records, *, drops_ties: bool, learner: str) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """One example per row, best response first, with its `rank` (per response), `strength` and `margin`.

    Args:
        records: comparisons or rankings; `context`, where present, goes before the conversation.
        drops_ties: leave out comparisons of strength one half. Rankings in which all are tied never count.
        learner: who asks, for the error.

    Returns:
        The examples, and reason -> rows left out.

    Raises:
        DataError: these are no comparisons or rankings.
    """
    if isinstance(records, Comparisons):
        found = [_of_comparison(row) for row in records.table.to_pylist()]
    elif isinstance(records, Rankings):
        found = [_of_ranking(row) for row in records.table.to_pylist()]
    else:
        raise DataError(
            f"{learner} learns from comparisons or rankings, not from {type(records).__name__}; "
            "`penchant.feedback.pairing.comparisons` makes pairs of ratings, battles and reactions."
        )
    untied = [e for e in found if len(set(e["rank"])) > 1 and not (drops_ties and e["strength"] == 0.5)]
    return untied, {"tied": len(found) - len(untied)} if len(untied) < len(found) else {}


def _of_comparison(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "prompt": row["prompt"],
        "responses": [row["chosen"], row["rejected"]],
        "condition": row["context"],
        "form": row["form"],
        "user": row["user"],
        "rank": [1, 2],
        "strength": row["strength"],
        "margin": row["margin"] or 0.0,
    }


def _of_ranking(row: dict[str, Any]) -> dict[str, Any]:
    ranks = row["ranks"] or range(1, len(row["responses"]) + 1)
    ordered = sorted(zip(ranks, row["responses"], strict=True), key=lambda pair: pair[0])
    return {
        "prompt": row["prompt"],
        "responses": [response for _, response in ordered],
        "condition": row["context"],
        "form": row["form"],
        "user": row["user"],
        "rank": [rank for rank, _ in ordered],
        "strength": 1.0,
        "margin": 0.0,
    }


def pairs(batch: Batch) -> tuple[Tensor, Tensor]:
    """Numbers of the better and the worse response of every pair within an example whose ranks differ."""
    example, rank = batch["example"], batch["rank"]
    ordered = (example[:, None] == example[None, :]) & (rank[:, None] < rank[None, :])
    better, worse = ordered.nonzero(as_tuple=True)
    return better, worse


def mean_per_example(values: Tensor, batch: Batch, better: Tensor) -> Tensor:
    """Mean over the pairs of each example.

    Args:
        values: of each pair, [pairs].
        batch: with `example` and `strength`.
        better: from `pairs`.

    Returns:
        [examples].
    """
    owner = batch["example"][better]
    total = torch.zeros(len(batch["strength"]), dtype=values.dtype, device=values.device)
    return total.index_add(0, owner, values) / torch.bincount(owner, minlength=len(total))


def soft(forward: Tensor, reverse: Tensor, strength: Tensor) -> Tensor:
    """A pair of strength s counts as s pairs and 1 - s pairs the other way round, [pairs]."""
    # Not strength * forward + 0 * reverse where nothing is soft: 0 times an overflow would be NaN.
    return torch.where(strength == 1, forward, strength * forward + (1 - strength) * reverse)


def untied_lists(batch: Batch) -> Tensor:
    """Which examples are lists of three or more without ties, bool [examples]."""
    counts = torch.bincount(batch["example"])
    n_pairs = torch.bincount(batch["example"][pairs(batch)[0]], minlength=len(counts))
    return (counts > 2) & (n_pairs == counts * (counts - 1) // 2)


def list_losses(rewards: Tensor, batch: Batch) -> Tensor:
    """Plackett-Luce loss of each example as a whole list, nats, [examples].

    Args:
        rewards: of each response, logits, [responses].
        batch: with `example`; responses stand best first.
    """
    counts = torch.bincount(batch["example"])
    first = counts.cumsum(0) - counts
    place = torch.arange(len(batch["example"]), device=counts.device) - first[batch["example"]]
    mask = torch.arange(int(counts.max()), device=counts.device)[None, :] < counts[:, None]
    table = torch.zeros(mask.shape, dtype=rewards.dtype, device=rewards.device)
    table = table.index_put((batch["example"], place), rewards)
    return objectives.plackett_luce(table, mask=mask)


def metrics(rewards: Tensor, batch: Batch) -> dict[str, Tensor]:
    """Rewards under the usual names, each [examples]; a tie counts as half right.

    Args:
        rewards: of each response, [responses].
        batch: with `example`, `rank` and `strength`.
    """
    better, worse = pairs(batch)
    side = torch.sign(2 * batch["strength"] - 1)[batch["example"][better]]
    margin = side * (rewards[better] - rewards[worse])
    values = {
        "rewards/chosen": torch.where(side < 0, rewards[worse], rewards[better]),
        "rewards/rejected": torch.where(side < 0, rewards[better], rewards[worse]),
        "rewards/margins": margin,
        "rewards/accuracies": torch.where(side == 0, 0.5, (margin > 0).float()),
    }
    return {name: mean_per_example(value, batch, better) for name, value in values.items()}
