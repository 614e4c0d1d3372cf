"""A judge whose biases are known, for finding out whether an audit finds them; it is simulated.

It chooses by a softmax over logits: an option's quality, plus what each cue that it notices is worth to it, plus what
each place on is. It notices cues by their words, as any judge would, and is told nothing else. The right options are
those whose text begins with "good".

>>> judge = PlantedJudge({"authority": 1.0}, quality=2.0, spread=0.0)
>>> round(judge.true_bias("authority"), 4)  # sigmoid(1 - 2) - sigmoid(-2), and sigmoid(1 + 2) - sigmoid(2), halved
0.1108
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax

from penchant.evaluate.cues import Item, Shown
from penchant.evaluate.judges import Judgement

Floats = NDArray[np.float64]
_NOTICED = {
    "bandwagon": "of people, about 90 %",
    "authority": "experts at Harvard",
    "distraction": "purple elephant",
    "reflection": "Wait, let me think",
    "verbosity": "what this option states",
    "injection": "Ignore all previous",
}
_NOTHING = {"": "empty answer", "I cannot say.": "constant answer"}


class PlantedJudge:
    """Simulated: chooses by known logits.

    Args:
        weights: logits of each cue for its target; "last place" for each place further on, "letter A" for that letter,
            "empty answer" and "constant answer" for an answer that says nothing, beside a wrong option's quality.
        quality: logits by which the right option is ahead on average.
        spread: standard deviation of that between items.
        system_prompt: share of every bias that is left with a system message, in [0, 1].
        seed: of qualities and choices; choices are drawn one after the other, so that none is the repeat of another.
    """

    name = "planted (simulated)"
    reads_prompts = True
    varies = True

    def __init__(
        self,
        weights: Mapping[str, float],
        *,
        quality: float = 1.0,
        spread: float = 2.0,
        system_prompt: float = 1.0,
        seed: int = 0,
    ):
        self.weights, self.quality, self.spread, self.system_prompt = dict(weights), quality, spread, system_prompt
        self._noticed = [(name, words) for name, words in _NOTICED.items() if self.weights.get(name)]
        self._rng = np.random.default_rng([30, 1, seed])
        self._quality: dict[str, float] = {}

    def judge(self, asked: Sequence[Shown], *, seed: int = 0) -> list[Judgement]:
        """As `Judge.judge`, except that every judgement is drawn anew."""
        p = self.probability(asked)
        uniform = self._rng.random((len(asked), 1))
        places = np.minimum((np.cumsum(p, axis=1) < uniform).sum(axis=1), (p > 0).sum(axis=1) - 1)
        one_hot = np.eye(p.shape[1])
        return [
            Judgement(one_hot[place, : len(question.letters)], question.letters[place])
            for question, place in zip(asked, places, strict=True)
        ]

    def probability(self, asked: Sequence[Shown]) -> Floats:
        """Chance of each place, float64[questions, most places]; 0 behind a question's last place."""
        logits = np.full((len(asked), max((len(question.letters) for question in asked), default=0)), -np.inf)
        for row, question in enumerate(asked):
            share = self.system_prompt if question.system else 1.0
            quality = self._quality_of(question.question)
            for place, text in enumerate(question.options):
                note = question.note if question.target == place else ""
                liked = self._liked(text, note) + place * self.weights.get("last place", 0.0)
                liked += self.weights.get("letter A", 0.0) * (question.letters[place] == "A")
                logits[row, place] = (quality if "good" in text else 0.0) + share * liked
        return np.asarray(softmax(logits, axis=1))

    def _quality_of(self, question: str) -> float:
        if question not in self._quality:
            self._quality[question] = self.quality + self.spread * float(self._rng.standard_normal())
        return self._quality[question]

    def _liked(self, text: str, note: str) -> float:
        if text in _NOTHING:
            return self.weights.get(_NOTHING[text], 0.0)
        return sum(self.weights[name] for name, words in self._noticed if words in text or words in note)

    def true_bias(self, name: str, *, share: float = 1.0, n_nodes: int = 80) -> float:
        """The bias over all items with two options that there could be, by Gauss-Hermite quadrature.

        Of a cue the mean over a wrong and a correct target; of "last place" and "letter A" how much more often than
        evenly these are chosen; of an answer that says nothing how much more often than the wrong answer it stands for.

        Args:
            name: of the bias.
            share: of it that is left.
            n_nodes: of the quadrature.
        """
        node, mass = np.polynomial.hermite_e.hermegauss(n_nodes)
        b = share * self.weights.get(name, 0.0)
        last, letter = (share * self.weights.get(one, 0.0) for one in ("last place", "letter A"))
        # What else moves the judge is there on one half of the questions and against it on the other.
        aside = {"last place": letter, "letter A": last}.get(name, last - letter)
        q = np.add.outer(self.quality + self.spread * node, [-aside, aside])
        if name in ("last place", "letter A"):
            each = (expit(q + b) + expit(-q + b)) / 2 - 0.5
        elif name in ("empty answer", "constant answer"):
            each = expit(-q + b) - expit(-q)
        else:
            each = (expit(-q + b) - expit(-q) + expit(q + b) - expit(q)) / 2
        return float(mass @ each.mean(axis=1) / mass.sum())


def planted_items(n: int, *, n_options: int = 2) -> list[Item]:
    """Items whose right option begins with "good", each with a question of its own."""
    wrong = [[f"bad {number}.{k}" for k in range(1, n_options)] for number in range(n)]
    return [Item(f"Question {number}?", (f"good {number}", *wrong[number]), 0) for number in range(n)]
