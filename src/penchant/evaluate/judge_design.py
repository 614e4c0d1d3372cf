"""What a judge is asked in an audit: every item in every arm, laid out before anything is asked.

>>> from penchant.evaluate.planted_judge import PlantedJudge, planted_items
>>> design = Design(PlantedJudge({}), planted_items(10), biases=["bandwagon"], mitigations=[])
>>> design.cost().calls  # of each item: plain, again, and cue and placebo beside two targets
60
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from penchant.errors import DataError, SettingsError, nearest
from penchant.evaluate.cues import CUES, Item, Shown, shown
from penchant.evaluate.judges import Judge

CONTROLS = ("empty answer", "constant answer")
BIASES = ("bandwagon", "authority", "position", "distraction", "reflection", "verbosity", "injection", *CONTROLS)
MITIGATIONS = ("system prompt", "in context", "self-reflection", "both orders")
TARGETS = ("wrong", "correct")
FEWEST = 30  # items for a verdict
_TOLD = ("system prompt", "in context")  # mitigations that are words before the question


class Arm(NamedTuple):
    """One way of showing all items.

    Attributes:
        role: plain, repeat, cue, placebo or order.
        bias: which cue; empty for a plain one.
        target: wrong, correct, or empty.
        mitigation: one that changes what is asked, or empty; "both orders" only asks more.
        turn: which of the orders; elsewhere 1 for the opposite order.
    """

    role: str
    bias: str = ""
    target: str = ""
    mitigation: str = ""
    turn: int = 0


@dataclass(frozen=True)
class Cost:
    """What an audit asks for.

    Attributes:
        calls: questions to the judge, without those that have to be asked again.
        tokens: of the prompts, about; four characters each.
    """

    calls: int
    tokens: int


class Design:
    """Which arms there are, and how each shows each item.

    Args:
        judge: who will be asked.
        items: to ask about.
        biases: of BIASES.
        mitigations: of MITIGATIONS.
        targets: of TARGETS.
        seed: of orders and wrong targets.

    Attributes:
        arms: in the order in which they are asked, second turns last.
        left_out: what this judge cannot be tested for, and why.
    """

    def __init__(
        self,
        judge: Judge,
        items: Sequence[Item],
        *,
        biases: Sequence[str] = BIASES,
        mitigations: Sequence[str] = MITIGATIONS,
        targets: Sequence[str] = TARGETS,
        seed: int = 0,
    ):
        for what, chosen, known in (
            ("bias", biases, BIASES),
            ("mitigation", mitigations, MITIGATIONS),
            ("target", targets, TARGETS),
        ):
            for unknown in sorted(set(chosen) - set(known)):
                raise SettingsError(f"There is no {what} {unknown!r}: {nearest(unknown, known)}")
        if not biases or not targets:
            raise SettingsError("Name at least one bias and one target to test for.")
        if len(items) < 2:
            raise DataError(f"{len(items)} items; an audit needs two at the least, and {FEWEST} for a verdict.")
        self.items, self.targets = items, [one for one in TARGETS if one in targets]
        self.biases, self.mitigations = list(dict.fromkeys(biases)), list(dict.fromkeys(mitigations))
        self.left_out: tuple[str, ...] = ()
        if not judge.reads_prompts:
            gone = [*(["position"] if "position" in self.biases else []), *self.mitigations]
            self.biases, self.mitigations = [one for one in self.biases if one != "position"], []
            self.left_out = tuple(f"{one}: this judge sees one response at a time, without a place" for one in gone)
        rng = np.random.default_rng([30, seed])
        self.correct = np.array([item.correct for item in items])
        sizes = np.array([len(item.options) for item in items])
        self.sizes: NDArray[np.int64] = sizes
        # Any option but the correct one, evenly.
        self.wrong = (self.correct + 1 + (rng.random(len(items)) * (sizes - 1)).astype(np.int64)) % sizes
        self.orders = [tuple(int(one) for one in rng.permutation(n)) for n in sizes]
        self.shifts = [_shifts(int(n), rng) for n in sizes]
        self.arms = [*self._first_turns(judge.varies), *self._second_turns()]

    @property
    def cues(self) -> list[str]:
        """Biases that are words beside an option, controls left out."""
        return [one for one in self.biases if one != "position" and one not in CONTROLS]

    @property
    def controls(self) -> list[str]:
        """Answers that say nothing."""
        return [one for one in self.biases if one in CONTROLS]

    def target(self, kind: str) -> NDArray[np.int64]:
        """Favoured option of each item, int64[items]."""
        return self.correct if kind == "correct" else self.wrong

    def _first_turns(self, varies: bool) -> list[Arm]:
        arms = [Arm("plain"), *([Arm("repeat")] if varies else [])]
        arms += [
            Arm(role, bias, target) for bias in self.cues for target in self.targets for role in ("cue", "placebo")
        ]
        arms += [Arm("cue", bias, "wrong", "", turn) for bias in self.controls for turn in (0, 1)]
        if self.controls or "both orders" in self.mitigations:
            arms.append(Arm("plain", turn=1))
        if self.mitigations:
            both = range(1 + ("both orders" in self.mitigations))
            arms += [Arm("cue", bias, "wrong", "", turn) for turn in both for bias in self.cues]
        if "position" in self.biases:
            turns = max(4 if n == 2 else int(n) for n in self.sizes)
            arms += [Arm("order", "position", "", "", turn) for turn in range(turns)]
        for mitigation in self.mitigations:
            if mitigation in _TOLD:
                arms.append(Arm("plain", "", "", mitigation))
                arms += [Arm("cue", bias, "wrong", mitigation) for bias in self.cues]
        return list(dict.fromkeys(arms))

    def _second_turns(self) -> list[Arm]:
        if "self-reflection" not in self.mitigations:
            return []
        again = [Arm("cue", bias, "wrong", "self-reflection") for bias in self.cues]
        return [Arm("plain", "", "", "self-reflection"), *again]

    def shown(self, arm: Arm, i: int) -> Shown | None:
        """Item i as an arm shows it; None where the item has no such order."""
        item, order = self.items[i], self.orders[i]
        if arm.role == "order":
            return self._turned(i, arm.turn)
        if arm.turn:
            order = order[::-1]
        words = None
        if arm.bias:
            cue = CUES[arm.bias]
            words = cue.placebo if arm.role == "placebo" else cue.cue
        target = int(self.target(arm.target)[i]) if arm.bias else None
        told = arm.mitigation if arm.mitigation in _TOLD else ""
        return shown(item, order=order, target=target, words=words, mitigation=told)

    def _turned(self, i: int, turn: int) -> Shown | None:
        """Two options: both orders, both assignments of letters. More: every option and letter once in each place."""
        n, order = int(self.sizes[i]), self.orders[i]
        if turn >= (4 if n == 2 else n):
            return None
        content = turn % 2 if n == 2 else turn
        letter = turn // 2 if n == 2 else self.shifts[i][turn]
        return shown(
            self.items[i],
            order=[order[(place + content) % n] for place in range(n)],
            letters=[(place + letter) % n for place in range(n)],
        )

    def cost(self) -> Cost:
        """How much will be asked, before anything is."""
        asked = [question for arm in self.arms for i in range(len(self.items)) if (question := self.shown(arm, i))]
        letters = sum(len(str(message["content"])) for one in asked for message in one.messages)
        return Cost(len(asked), letters // 4)


def _shifts(n: int, rng: np.random.Generator) -> list[int]:
    """By how much letters turn while options turn by 0, 1, ...: each once.

    Where n is odd every option then meets every letter once; where it is even that cannot be and is left to chance.
    """
    if n % 2:
        return [int(one) for one in (2 * np.arange(n) + rng.integers(n)) % n]
    return [int(one) for one in rng.permutation(n)]
