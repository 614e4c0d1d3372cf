r"""Direct preference optimisation: train a policy on what people preferred, without a reward model in between.

Works on comparisons (pairs, with soft labels) and rankings (lists), with any pairwise objective of
`penchant.objectives`: another paper is another name, not another trainer.

Rafailov et al. 2023, "Direct preference optimization", eq. 7 for pairs and appendix A.3 for ranked lists
(Plackett-Luce on beta times the log-ratios). Soft labels: a row of strength s counts as s rows for the pair and 1 - s
for its reverse, which for DPO is the cross-entropy to s; s below one half therefore needs no swap.

    train(DPO(objective="ipo", beta=0.1), policy, comparisons, settings=TrainerSettings(steps=200), folder=folder)

>>> DPO(objective="simpo").needs_reference
False
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from penchant import objectives
from penchant.align.batches import Batch
from penchant.errors import DataError, SettingsError, UnknownNameError, nearest
from penchant.policies.sequences import TokenLogProbabilities
from penchant.records import Comparisons, Rankings

Objective = Callable[..., Tensor]

# What an objective of pairs reads; those that are not listed read log-ratios.
_READS = {"simpo": "means", "orpo": "means", "gamma_dpo": "sums"}
_PAIRWISE = (
    "apo_down",
    "apo_zero",
    "dpo",
    "exponential",
    "gamma_dpo",
    "hinge",
    "ipo",
    "length_normalised_dpo",
    "orpo",
    "robust_dpo",
    "simpo",
)


class DPO:
    """Trains a policy on comparisons or rankings.

    Args:
        objective: name of a pairwise objective in `penchant.objectives`, or your own function of the log-ratios of the
            chosen and the rejected response.
        beta: its strength; empty takes the objective's own default.
        label_smoothing: probability that a label is flipped, for objectives that have it.
        options: further keywords of the objective, such as {"gamma": 0.5}.
        ties: "soft" draws both responses of a tie together, "drop" leaves ties out and counts them.
        lists: how rankings are read: "plackett_luce" as a whole (objective "dpo", lists without ties), or "pairs",
            the mean over all pairs whose ranks differ. Lists with ties, and other objectives, are read as pairs.
    """

    def __init__(
        self,
        *,
        objective: str | Objective = "dpo",
        beta: float | None = None,
        label_smoothing: float | None = None,
        options: Mapping[str, float] | None = None,
        ties: Literal["soft", "drop"] = "soft",
        lists: Literal["plackett_luce", "pairs"] = "plackett_luce",
    ):
        self.objective, self.beta, self.label_smoothing = objective, beta, label_smoothing
        self.options, self.ties, self.lists = options, ties, lists
        self._function, self._keywords = _resolve(objective, beta, label_smoothing, options)
        self._reads = _READS.get(getattr(self._function, "__name__", ""), "log_ratios")
        if ties not in ("soft", "drop") or lists not in ("plackett_luce", "pairs"):
            raise SettingsError(f"ties is soft or drop, lists is plackett_luce or pairs: got {ties!r} and {lists!r}.")

    @property
    def needs_reference(self) -> bool:
        """Whether the objective compares with a frozen reference."""
        return self._reads != "means"

    def examples(self, records: Comparisons | Rankings) -> list[dict[str, Any]]:
        """One example per row, best response first, with its ranks and strength.

        Args:
            records: who preferred what; `context`, where present, goes before the conversation.

        Raises:
            DataError: these are no comparisons or rankings.
        """
        if isinstance(records, Comparisons):
            found = [_of_comparison(row) for row in records.table.to_pylist()]
        elif isinstance(records, Rankings):
            found = [_of_ranking(row) for row in records.table.to_pylist()]
        else:
            raise DataError(
                f"DPO learns from comparisons or rankings, not from {type(records).__name__}; "
                "`penchant.feedback.pairing.comparisons` makes pairs of ratings, battles and reactions."
            )
        untied = [e for e in found if len(set(e["rank"])) > 1 and not (self.ties == "drop" and e["strength"] == 0.5)]
        self.dropped_ = {"tied": len(found) - len(untied)} if len(untied) < len(found) else {}
        return untied

    def loss(self, log_probabilities: TokenLogProbabilities, batch: Batch) -> Tensor:
        """The objective of each example, nats, [examples].

        Args:
            log_probabilities: of every response token under the policy.
            batch: with `example`, `rank`, `strength` and, if needed, `reference`.
        """
        better, worse = _pairs(batch)
        strength = batch["strength"][batch["example"][better]]
        forward = self._pair_losses(log_probabilities, batch, better, worse)
        reverse = self._pair_losses(log_probabilities, batch, worse, better)
        # Not strength * forward + 0 * reverse where nothing is soft: 0 times an overflow would be NaN.
        mixed = torch.where(strength == 1, forward, strength * forward + (1 - strength) * reverse)
        by_pairs = _mean_per_example(mixed, batch, better)
        whole = self._whole_lists(batch)
        if not whole.any():
            return by_pairs
        rewards = self._keywords.get("beta", 0.1) * (log_probabilities.sums() - batch["reference"])
        place, mask = _places(batch)
        table = torch.zeros(mask.shape, dtype=rewards.dtype, device=rewards.device)
        table = table.index_put((batch["example"], place), rewards)
        return torch.where(whole, objectives.plackett_luce(table, mask=mask), by_pairs)

    def metrics(self, log_probabilities: TokenLogProbabilities, batch: Batch) -> dict[str, Tensor]:
        """Implicit rewards under the usual names, each [examples]; a tie counts as half right."""
        better, worse = _pairs(batch)
        beta = self._keywords.get("beta", 1.0)
        rewards = log_probabilities.means() if self._reads == "means" else log_probabilities.sums()
        rewards = beta * (rewards - batch["reference"] if self.needs_reference else rewards)
        side = torch.sign(2 * batch["strength"] - 1)[batch["example"][better]]
        margin = side * (rewards[better] - rewards[worse])
        right = torch.where(side == 0, 0.5, (margin > 0).float())
        values = {
            "rewards/chosen": torch.where(side < 0, rewards[worse], rewards[better]),
            "rewards/rejected": torch.where(side < 0, rewards[better], rewards[worse]),
            "rewards/margins": margin,
            "rewards/accuracies": right,
            "logps/chosen": log_probabilities.sums()[better],
            "logps/rejected": log_probabilities.sums()[worse],
        }
        return {name: _mean_per_example(value, batch, better) for name, value in values.items()}

    def _pair_losses(self, scores: TokenLogProbabilities, batch: Batch, better: Tensor, worse: Tensor) -> Tensor:
        keywords: dict[str, Any] = dict(self._keywords)
        accepted = inspect.signature(self._function).parameters
        if "chosen_tokens" in accepted:
            lengths = scores.lengths()
            keywords |= {"chosen_tokens": lengths[better], "rejected_tokens": lengths[worse]}
        if self._reads == "means":
            values = scores.means()
        elif self._reads == "sums":
            values = scores.sums()
            keywords |= {"reference_chosen": batch["reference"][better]}
            keywords |= {"reference_rejected": batch["reference"][worse]}
        else:
            values = scores.sums() - batch["reference"]
        return self._function(values[better], values[worse], **keywords)

    def _whole_lists(self, batch: Batch) -> Tensor:
        """Which examples are read by Plackett-Luce: whole lists of three or more without ties, bool [examples]."""
        counts = torch.bincount(batch["example"])
        fits = self.lists == "plackett_luce" and self._function is objectives.dpo and not self.label_smoothing
        n_pairs = torch.bincount(batch["example"][_pairs(batch)[0]], minlength=len(counts))
        return (counts > 2) & (n_pairs == counts * (counts - 1) // 2) & fits


def _resolve(
    objective: str | Objective, beta: float | None, label_smoothing: float | None, options: Mapping[str, float] | None
) -> tuple[Objective, dict[str, Any]]:
    if isinstance(objective, str):
        if objective not in _PAIRWISE:
            raise UnknownNameError(f"No pairwise objective is called {objective!r}: {nearest(objective, _PAIRWISE)}")
        function: Objective = getattr(objectives, objective)
    else:
        function = objective
    parameters = inspect.signature(function).parameters
    given = {**(options or {}), "beta": beta, "label_smoothing": label_smoothing}
    keywords: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    unknown = [name for name in keywords if name not in parameters]
    if unknown:
        raise SettingsError(f"The objective {objective!r} has no {unknown[0]!r}: {nearest(unknown[0], parameters)}")
    if "beta" in parameters and "beta" not in keywords:
        keywords["beta"] = parameters["beta"].default
    if not keywords.get("beta", 1.0) > 0 or not 0 <= keywords.get("label_smoothing", 0.0) < 0.5:
        raise SettingsError(f"beta must be above 0 and label_smoothing in [0, 0.5): got {keywords}.")
    return function, keywords


def _of_comparison(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "prompt": row["prompt"],
        "responses": [row["chosen"], row["rejected"]],
        "condition": row["context"],
        "form": row["form"],
        "rank": [1, 2],
        "strength": row["strength"],
    }


def _of_ranking(row: dict[str, Any]) -> dict[str, Any]:
    ranks = row["ranks"] or range(1, len(row["responses"]) + 1)
    ordered = sorted(zip(ranks, row["responses"], strict=True), key=lambda pair: pair[0])
    return {
        "prompt": row["prompt"],
        "responses": [response for _, response in ordered],
        "condition": row["context"],
        "form": row["form"],
        "rank": [rank for rank, _ in ordered],
        "strength": 1.0,
    }


def _pairs(batch: Batch) -> tuple[Tensor, Tensor]:
    """Numbers of the better and the worse response of every pair within an example whose ranks differ."""
    example, rank = batch["example"], batch["rank"]
    ordered = (example[:, None] == example[None, :]) & (rank[:, None] < rank[None, :])
    better, worse = ordered.nonzero(as_tuple=True)
    return better, worse


def _mean_per_example(values: Tensor, batch: Batch, better: Tensor) -> Tensor:
    owner = batch["example"][better]
    total = torch.zeros(len(batch["strength"]), dtype=values.dtype, device=values.device)
    return total.index_add(0, owner, values) / torch.bincount(owner, minlength=len(total))


def _places(batch: Batch) -> tuple[Tensor, Tensor]:
    """Place of each response in its list, [responses], and where lists hold one, bool [examples, k]."""
    counts = torch.bincount(batch["example"])
    first = counts.cumsum(0) - counts
    place = torch.arange(len(batch["example"]), device=counts.device) - first[batch["example"]]
    mask = torch.arange(int(counts.max()), device=counts.device)[None, :] < counts[:, None]
    return place, mask
