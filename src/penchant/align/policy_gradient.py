r"""Reinforcement learning from a reward: sample, score, and make what scored better than its siblings likelier.

In each round the policy answers some prompts n times. A response earns $R = r(x, y) - \beta\,(\log\pi_{old}(y|x) -
\log\pi_{ref}(y|x))$, its advantage is R relative to the other answers to its prompt, and the clipped objective of
Schulman et al. (2017, eq. 7) is minimised for a few steps by the one trainer. This is proximal policy optimisation
without its value head, whose part the siblings play (as in Shao et al. 2024); the pull to the reference stands in the
reward, as in Ouyang et al. (2022). Departures: the ratio is of whole responses, not of tokens, and AdamW begins anew
in every round.

    PolicyGradient(kl=0.05).train(policy, reward, prompts, reference=sft, rounds=10, settings=settings, folder=folder)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from penchant import objectives
from penchant.align.batches import Batch
from penchant.align.recipe import TrainerSettings
from penchant.cache import RowCache
from penchant.errors import DataError, SettingsError
from penchant.objectives.policy_gradient import group_advantages
from penchant.policies.language import LanguagePolicy
from penchant.policies.sequences import TokenLogProbabilities
from penchant.records import Records

Reward = Callable[[Sequence[str], Sequence[str]], ArrayLike]


@dataclass(frozen=True)
class PolicyGradientResult:
    """What the rounds did.

    Attributes:
        rewards: mean reward of what was sampled, per round.
        divergences: mean of log policy - log reference of what was sampled, nats per response, per round; an estimate
            of the divergence from the reference before that round.
        n_constant: prompts whose answers were all worth the same, which taught nothing, per round.
        n_sampled: responses drawn in all.
        policy: folder of the final weights.
    """

    rewards: tuple[float, ...]
    divergences: tuple[float, ...]
    n_constant: tuple[int, ...]
    n_sampled: int
    policy: Path


class PolicyGradient:
    """Clipped policy gradient with siblings as the baseline and a pull to the reference.

    Args:
        n_samples: answers to each prompt, at least 2.
        prompts_per_round: prompts that are answered in a round.
        kl: beta, nats of reward that one nat away from the reference costs, >= 0.
        clip: of the ratio to the policy that sampled.
        temperature: of sampling; at 1 the gradient is that of the policy itself.
        max_new_tokens: longest response.
        seed: of prompts and samples.

    Raises:
        SettingsError: a setting is out of its range.
    """

    def __init__(
        self,
        *,
        n_samples: int = 4,
        prompts_per_round: int = 32,
        kl: float = 0.05,
        clip: float = 0.2,
        temperature: float = 1.0,
        max_new_tokens: int = 48,
        seed: int = 0,
    ):
        self.n_samples, self.prompts_per_round, self.kl, self.clip = n_samples, prompts_per_round, kl, clip
        self.temperature, self.max_new_tokens, self.seed = temperature, max_new_tokens, seed
        if n_samples < 2 or prompts_per_round < 1 or not kl >= 0 or not clip > 0:
            raise SettingsError(
                "Policy gradient needs n_samples >= 2 (siblings are the baseline), prompts_per_round >= 1, kl >= 0 "
                f"and clip > 0: got {n_samples!r}, {prompts_per_round!r}, {kl!r} and {clip!r}."
            )

    def train(
        self,
        policy: Any,
        reward: Reward,
        prompts: Sequence[str],
        *,
        reference: Any,
        rounds: int,
        settings: TrainerSettings,
        folder: Path | str,
        progress: Callable[[str], None] = lambda line: None,
    ) -> PolicyGradientResult:
        """Train the policy in place.

        Args:
            policy: with `sample`, `log_probabilities` and what `penchant.align.train` needs.
            reward: (prompts, responses) -> a number each.
            prompts: to answer; each round takes the next ones of a shuffled order.
            reference: with `log_probabilities`, what the policy is held to; usually where it started.
            rounds: of sampling and training.
            settings: of the training in each round: its steps or epochs over the round's samples.
            folder: of the weights.
            progress: called with a line on what goes on.

        Raises:
            DataError: there are no prompts, or a reward is missing or not finite.
        """
        from penchant.align.trainer import train  # the trainer loads transformers

        if not len(prompts):
            raise DataError("There are no prompts to sample on: the list is empty.")
        folder, rng = Path(folder), np.random.default_rng(self.seed)
        dealt: list[int] = []
        kept: list[tuple[float, float, int]] = []
        n_sampled = 0
        for number in range(rounds):
            while len(dealt) < self.prompts_per_round:
                dealt += rng.permutation(len(prompts)).tolist()
            asked, dealt = [prompts[i] for i in dealt[: self.prompts_per_round]], dealt[self.prompts_per_round :]
            rows, noted = self._sampled(policy, reference, reward, asked, int(rng.integers(2**31)))
            n_sampled += len(asked) * self.n_samples
            kept.append(noted)
            progress(f"round {number + 1} of {rounds}: reward {noted[0]:.3f}, divergence {noted[1]:.3f} nats")
            place = folder / f"round-{number + 1}"
            own = replace(settings, seed=settings.seed + number)
            trained = train(
                Clipped(clip=self.clip),
                policy,
                rows,
                settings=own,
                folder=place,
                cache=RowCache(folder / "reference.sqlite"),
                progress=False,
            )
        rewards, divergences, n_constant = zip(*kept, strict=True)
        return PolicyGradientResult(rewards, divergences, n_constant, n_sampled, trained.policy)

    def _sampled(
        self, policy: Any, reference: Any, reward: Reward, prompts: Sequence[str], seed: int
    ) -> tuple[list[dict[str, Any]], tuple[float, float, int]]:
        """Rows with advantages; mean reward, mean divergence and constant groups."""
        drawn = policy.sample(
            list(prompts), self.n_samples, temperature=self.temperature, max_new_tokens=self.max_new_tokens, seed=seed
        )
        flat = [(x, y) for x, some in zip(prompts, drawn, strict=True) for y in some]
        paid = np.asarray(reward([x for x, _ in flat], [y for _, y in flat]), dtype=np.float64)
        if paid.shape != (len(flat),) or not np.isfinite(paid).all():
            raise DataError(
                f"The reward gave {paid.shape} numbers for {len(flat)} responses, of which "
                f"{int((~np.isfinite(paid)).sum())} are not finite; it must give a finite one for each."
            )
        now, then = (
            np.array([one.sum for row in model.log_probabilities(list(prompts), drawn) for one in row])
            for model in (policy, reference)
        )
        held = torch.from_numpy((paid - self.kl * (now - then)).reshape(len(prompts), -1))
        found = group_advantages(held)
        rows = [
            {"prompt": x, "response": y, "advantage": advantage}
            for (x, y), advantage in zip(flat, found.values.flatten().tolist(), strict=True)
        ]
        return rows, (float(paid.mean()), float((now - then).mean()), found.n_constant)


class Clipped:
    """The surrogate of one round: the clipped objective on responses with known advantages.

    Args:
        clip: of the ratio to the policy as it was before the first step, which is the one that sampled.
    """

    trains = LanguagePolicy
    reads: tuple[type[Records], ...] = ()
    needs_reference = True  # the trainer's reference is the policy before its first step: the one that sampled

    def __init__(self, *, clip: float = 0.2):
        self.clip = clip

    def examples(self, records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """An example for each sampled response: `prompt`, `response`, `advantage`."""
        return [
            {"prompt": row["prompt"], "responses": [row["response"]], "advantage": row["advantage"]} for row in records
        ]

    def loss(self, log_probabilities: TokenLogProbabilities, batch: Batch) -> Tensor:
        """Clipped surrogate of each response, [examples]."""
        moved = log_probabilities.sums() - batch["reference"]
        return objectives.clipped(moved, batch["advantage"], clip=self.clip)

    def metrics(self, log_probabilities: TokenLogProbabilities, batch: Batch) -> dict[str, Tensor]:
        """How far each response has moved since it was sampled, nats, [examples]."""
        return {"moved": (log_probabilities.sums() - batch["reference"]).abs()}
