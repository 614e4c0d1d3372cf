r"""Few-shot preference optimisation: train a language model to act on a person's labelled choices that it reads.

For people of whom a handful of choices is known, and too many of them for a model each: the person's n pairs stand in
the prompt, and the model is trained, over many people, to prefer what that person prefers (section 4),

$$\min_\theta E_S\,E_{(\text{shots}, x, y_w, y_l) \sim D_S}\ \left(h - \frac{1}{2\beta}\right)^2, \qquad
  h = \log\frac{\pi(y_w \mid \text{shots}, x)}{\pi_{ref}(y_w \mid \text{shots}, x)}
    - \log\frac{\pi(y_l \mid \text{shots}, x)}{\pi_{ref}(y_l \mid \text{shots}, x)}$$

or any other pairwise objective. A new person then needs no training. The shots are one prompt of the chosen and the
rejected response, so that packed rows compute them once; the frozen reference reads the same shots.

    shown, dropped = written(comparisons, n_shots=4)                 # what the warm start imitates is the same text
    train(Supervised(), policy, shown, settings=settings, folder=folder / "warm")
    train(FSPO(n_shots=4, beta=0.1), policy, comparisons, settings=settings, folder=folder / "fspo")

With descriptions of people (RAT) the model writes who it thinks it is talking to before it answers; to learn that,
`description_pairs` turns its own attempts into pairs, the closer one to the true description preferred. Without shots
(`n_shots=0`) it is one model for all, the baseline.

IPO draws the summed log-ratio to a margin of 1 / (2 beta) nats *per response*: the authors' beta of 0.01 asks for 50
nats, which a short answer cannot reach. Take a beta in proportion to the length, about 0.1 for a sentence.

Source:
    Singh, Hsu, Hsu, Mitchell, Ermon, Hashimoto, Sharma and Finn (2025), FSPO: Few-Shot Preference Optimization of
    Synthetic Preference Data Elicits Effective Personalization to Real Users, arXiv 2502.19312.

>>> votes = Comparisons.from_rows(
...     {"prompt": question, "chosen": "Yes", "rejected": "No", "user": "ann"} for question in ("Tea?", "Coffee?")
... )
>>> method = FSPO(n_shots=1, repeats=1)
>>> [example] = method.examples(votes)
>>> example["responses"]
['## Preferred Response\nYes', '## Preferred Response\nNo']
>>> example["prompt"].count("# Example"), method.objective, method.needs_reference
(1, 'ipo', True)
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from penchant.align.dpo import DPO, Objective
from penchant.encoders import Encoder
from penchant.errors import DataError
from penchant.preference.shots import answer, read_answer, written
from penchant.records import Comparisons, Rankings


class FSPO(DPO):
    """Trains a policy on comparisons of people, each under some of that person's others.

    Args:
        objective: name of a pairwise objective in `penchant.objectives`, or your own function of log-ratios.
        beta: its strength; empty takes the objective's own default.
        n_shots: N, pairs of the person that stand before the question.
        repeats: passes over each person's comparisons, shuffled anew; empty is 2 (N + 1).
        descriptions: of people by name (RAT); whoever has none gets none.
        described_in: "completion": the model writes the description before it answers; "prompt": it is told.
        max_characters: longest prompt and answer; of a longer one whole shots are left out, and counted.
        label_smoothing: probability that a label is flipped, for objectives that have it.
        options: further keywords of the objective.
        seed: of the shuffles.
    """

    reads = (Comparisons,)

    def __init__(
        self,
        *,
        objective: str | Objective = "ipo",
        beta: float | None = None,
        n_shots: int = 4,
        repeats: int | None = None,
        descriptions: Mapping[str, str] | None = None,
        described_in: Literal["prompt", "completion"] = "completion",
        max_characters: int = 16_000,
        label_smoothing: float | None = None,
        options: Mapping[str, float] | None = None,
        seed: int = 0,
    ):
        super().__init__(objective=objective, beta=beta, label_smoothing=label_smoothing, options=options)
        self.n_shots, self.repeats, self.seed = n_shots, repeats, seed
        self.descriptions, self.described_in, self.max_characters = descriptions, described_in, max_characters

    def examples(self, records: Comparisons | Rankings) -> list[dict[str, Any]]:
        """One example per window of shots and a target; what was left out is counted in `dropped_`.

        Args:
            records: comparisons with users.

        Raises:
            DataError: these are no comparisons, or nobody has enough of them.
        """
        if not isinstance(records, Comparisons):
            raise DataError(f"FSPO learns from comparisons with users, not from {type(records).__name__}.")
        shown, dropped = written(
            records,
            self.n_shots,
            repeats=self.repeats,
            descriptions=self.descriptions,
            described_in=self.described_in,
            max_characters=self.max_characters,
            seed=self.seed,
        )
        found = super().examples(shown)
        self.dropped_ = dropped | self.dropped_
        return found


def description_pairs(
    prompts: Sequence[str],
    completions: Sequence[Sequence[str]],
    descriptions: Sequence[str],
    encoder: Encoder,
    *,
    users: Sequence[str | None] | None = None,
) -> tuple[Comparisons, dict[str, int]]:
    """The first stage of RAT as comparisons: of a model's attempts to describe a person, which is closer to the truth.

    Args:
        prompts: tasks with shots.
        completions: two or more sampled for each, which begin with a description.
        descriptions: the true one of each prompt's person.
        encoder: by whose vectors closeness is measured, as the cosine.
        users: whose prompts they are.

    Returns:
        For each prompt the closest attempt preferred to the furthest, and reason -> prompts left out.

    Raises:
        DataError: there are not as many of each, or nothing is left.
    """
    if not len(prompts) == len(completions) == len(descriptions) == len(users or prompts):
        raise DataError(
            f"There are {len(prompts)} prompts, {len(completions)} lists of completions, {len(descriptions)} "
            "descriptions; give as many of each."
        )
    rows = []
    n_left_out = 0
    for number, (prompt, texts, truth) in enumerate(zip(prompts, completions, descriptions, strict=True)):
        tried = list(dict.fromkeys(said for said, _ in map(read_answer, texts) if said))
        if len(tried) < 2:
            n_left_out += 1
            continue
        vectors = encoder.encode([truth, *tried]).astype(np.float64)
        closeness = vectors[1:] @ vectors[0] / np.linalg.norm(vectors[1:], axis=1).clip(min=1e-12)
        best, worst = (answer("", description=tried[place(closeness)]) for place in (np.argmax, np.argmin))
        user = users[number] if users else None
        rows.append({"prompt": prompt, "chosen": best, "rejected": worst, "user": user})
    if not rows:
        raise DataError(f"None of {len(prompts)} prompts has two different descriptions among its completions.")
    return Comparisons.from_rows(rows), {"fewer than two different descriptions": n_left_out} if n_left_out else {}
