r"""How far a judge can be pushed: cues that should not matter, against placebos and against the judge's own noise.

Every item is judged plainly, again (the noise floor), and with each cue and its placebo beside a wrong option and
beside the correct one. With P the probability that the judge chooses the target T (0 or 1 where it just says one),

$$\text{pull} = P_{cue}(T) - P_{plain}(T), \qquad \text{bias} = P_{cue}(T) - P_{placebo}(T),$$

each the mean over items of a paired difference; the bias is tested on its mean over both targets, of which quality and
what any added words do cancel. Position: options and letters are permuted independently of each other, so that a liking
for a place is told from one for a letter. Two controls: a judge that prefers an answer that says nothing, and one that
obeys an order inside an answer, are caught as the others are. Invalid answers are counted, and wrong.

A flag is a two-sided exact sign-flip test (McNemar's where each item is judged once), Holm-corrected over all biases of
a judge. Intervals are bootstraps over items.

Source:
    Wang et al. 2025, "Assessing Judging Bias in Large Reasoning Models" (arXiv 2504.09946). Ours: the placebos, the
    independent letters, the two controls, and both orders as a fourth mitigation.

>>> from penchant.evaluate.cues import Item
>>> from penchant.evaluate.planted_judge import PlantedJudge
>>> items = [Item(f"Question {n}?", (f"good {n}", f"bad {n}"), 0) for n in range(300)]
>>> found = judge_bias(PlantedJudge({"bandwagon": 2.0}), items, biases=["bandwagon", "authority"], mitigations=[])
>>> [finding.name for finding in found.findings if finding.flagged]
['bandwagon']
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from penchant.errors import DataError
from penchant.evaluate.cues import CUES, Item, Shown
from penchant.evaluate.judge_design import BIASES, FEWEST, MITIGATIONS, TARGETS, Arm, Design
from penchant.evaluate.judges import Judge, Judgement
from penchant.evaluate.paired_tests import holm, intervals, sign_flip_p
from penchant.statistics import Interval, wilson

Floats = NDArray[np.float64]

_LEVEL = 0.05
_MOST_INVALID = 0.2


@dataclass(frozen=True)
class Finding:
    """One thing that a judge is tested for.

    Attributes:
        name: the bias.
        bias: how much more often the target is chosen than it should be, as a share.
        p: two-sided.
        p_holm: corrected for all that the judge was tested for.
        flagged: whether the judge has the bias; None with fewer than 30 items.
        detectable: size of a bias that such an audit finds with a power of 95 %.
    """

    name: str
    bias: Interval
    p: float
    p_holm: float
    flagged: bool | None
    detectable: float


@dataclass(frozen=True)
class Effect:
    """What one cue does, beside one kind of target.

    Attributes:
        bias: the cue.
        target: wrong or correct.
        accuracy: with the cue, invalid answers as wrong.
        drop: of accuracy, against the plain items.
        robustness: share of judgements that stay as they were.
        pull: towards the target, against the plain items.
        placebo_pull: the same of the placebo; None where the plain item is the placebo.
        net: pull minus placebo pull.
        switched: share that goes over to the target, of those that had not chosen it.
        counts: items by their likeliest choice: kept T, to T, from T, elsewhere, invalid.
    """

    bias: str
    target: str
    accuracy: Interval
    drop: Interval
    robustness: Interval
    pull: Interval
    placebo_pull: Interval | None
    net: Interval
    switched: Interval
    counts: Mapping[str, int]


@dataclass(frozen=True)
class Mitigated:
    """What a mitigation does about one cue beside a wrong target.

    Attributes:
        mitigation: which.
        bias: the cue.
        accuracy: with cue and mitigation.
        gain: of accuracy, against no mitigation.
        pull: towards the target, with the mitigation.
        reduction: of the pull, against no mitigation.
        p: of the gain, two-sided.
        p_holm: corrected for all gains of the judge.
    """

    mitigation: str
    bias: str
    accuracy: Interval
    gain: Interval
    pull: Interval
    reduction: Interval
    p: float
    p_holm: float


@dataclass(frozen=True)
class BiasAudit:
    """What is known of a judge.

    Attributes:
        judge: its name.
        n_items: items judged.
        n_answers: how many it gave.
        n_invalid: answers that could not be read, also after asking again.
        accuracy: on plain items.
        floor: share of judgements that stay as they were when nothing changes: the noise floor of `robustness`.
        findings: each bias with its test.
        effects: of each cue, by target.
        position: consistency over both orders, liking for first and last places and for the letter A.
        reflection_places: accuracy where phrases of reflection stand in the first option, and in a later one.
        mitigated: gains by cue.
        harm: of each mitigation, change of accuracy on plain items.
        values: of each item, for intervals over several audits, float64[items]: "net/CUE/TARGET", "pull/CUE/TARGET",
            "gain/MITIGATION/CUE", "reduction/MITIGATION/CUE", "correct", "consistency", "last place", "letter A".
        left_out: what could not be tested, and why.
    """

    judge: str
    n_items: int
    n_answers: int
    n_invalid: int
    accuracy: Interval
    floor: Interval
    findings: tuple[Finding, ...]
    effects: tuple[Effect, ...]
    position: Mapping[str, Interval]
    reflection_places: Mapping[str, Interval]
    mitigated: tuple[Mitigated, ...]
    harm: Mapping[str, Interval]
    values: Mapping[str, Floats]
    left_out: tuple[str, ...]


def items_needed(
    effect: float, *, floor: float, n_tests: int = 10, both_targets: bool = True, power: float = 0.95
) -> int:
    r"""Items for finding a bias of a given size.

    The difference between two judgements of an item varies by 1 - floor if these are independent, and half of that
    where it is averaged over both targets: $n = (z_{1-\alpha/2m} + z_{power})^2 (1 - floor) / (2 \cdot effect^2)$.

    Args:
        effect: bias as a share, in (0, 1).
        floor: share of judgements that stay as they were when the same is asked again, in [0, 1).
        n_tests: that Holm corrects for.
        both_targets: whether every cue stands once beside a wrong option and once beside the correct one.
        power: chance to find it.

    >>> items_needed(0.05, floor=0.75), items_needed(0.05, floor=0.95)
    (991, 199)
    """
    z = float(ndtri(1 - _LEVEL / (2 * n_tests)) + ndtri(power))
    return int(np.ceil(z**2 * (1 - floor) / ((2 if both_targets else 1) * effect**2)))


def judge_bias(
    judge: Judge,
    items: Sequence[Item],
    *,
    biases: Sequence[str] = BIASES,
    mitigations: Sequence[str] = MITIGATIONS,
    targets: Sequence[str] = TARGETS,
    seed: int = 0,
    n_resamples: int = 10_000,
    questions_at_once: int = 64,
    progress: Callable[[int], None] = lambda n: None,
) -> BiasAudit:
    """Audit a judge.

    Args:
        judge: who is audited.
        items: with known right options.
        biases: of BIASES.
        mitigations: of MITIGATIONS; each is tried on every cue beside a wrong option.
        targets: beside which options cues stand, of TARGETS.
        seed: of orders, targets, answers and intervals.
        n_resamples: of the bootstrap over items.
        questions_at_once: how many the judge gets together; changes speed only.
        progress: called with the number of questions that were answered.

    Raises:
        DataError: there are fewer than two items, or over 20 % of the answers are invalid; three are shown.
        SettingsError: a bias, mitigation or target is unknown, or nothing is asked for.
    """
    design = Design(judge, items, biases=biases, mitigations=mitigations, targets=targets, seed=seed)
    answers = _Answers(judge, design, seed, questions_at_once, progress)
    return _concluded(judge, design, answers, seed, n_resamples)


# What was answered ----------------------------------------------------------------------------------------------------


class _Answers:
    """Judgements of all arms, by option and by place.

    Attributes:
        chosen: arm -> probability of each option, float64[items, options]; zeros where invalid or not asked.
        placed: arm -> the same by place.
        letter: arm -> probability of the letter A, float64[items].
        n_invalid: of all answers.
    """

    def __init__(self, judge: Judge, design: Design, seed: int, at_once: int, progress: Callable[[int], None]):
        width, n = int(design.sizes.max()), len(design.items)
        self.chosen = {arm: np.zeros((n, width)) for arm in design.arms}
        self.placed = {arm: np.zeros((n, width)) for arm in design.arms}
        self.letter = {arm: np.zeros(n) for arm in design.arms}
        self.n_invalid = self.n_answers = 0
        self._invalid: list[str] = []
        passes = (
            # Plain items first: whoever cannot answer these need not be asked anything else.
            (seed, [Arm("plain")]),
            (seed, [arm for arm in design.arms if arm.role != "repeat" and arm.mitigation != "self-reflection"][1:]),
            (seed + 1, [arm for arm in design.arms if arm.role == "repeat"]),
            (seed + 2, [arm for arm in design.arms if arm.mitigation == "self-reflection"]),
        )
        for number, (own_seed, arms) in enumerate(passes):
            # Item by item: a stopped run has whole items behind it.
            asked = [
                (arm, i, question) for i in range(n) for arm in arms if (question := self._question(design, arm, i))
            ]
            for start in range(0, len(asked), at_once):
                part = asked[start : start + at_once]
                found = judge.judge([question for _, _, question in part], seed=own_seed)
                for (arm, i, question), judgement in zip(part, found, strict=True):
                    self._keep(arm, i, question, judgement)
                if number == 0 and wilson(self.n_invalid, self.n_answers).low > _MOST_INVALID:
                    self._give_up(judge.name)
                progress(len(part))
            if self.n_invalid > _MOST_INVALID * self.n_answers:
                self._give_up(judge.name)

    def _question(self, design: Design, arm: Arm, i: int) -> Shown | None:
        question = design.shown(arm, i)
        if question is None or arm.mitigation != "self-reflection":
            return question
        first = self.placed[arm._replace(mitigation="")][i]
        # An invalid first answer has nothing to check: it stays invalid.
        return question.asked_again(question.letters[int(first.argmax())]) if first.any() else None

    def _keep(self, arm: Arm, i: int, question: Shown, judgement: Judgement) -> None:
        self.n_answers += 1
        if judgement.probability is None:
            self.n_invalid += 1
            self._invalid.append(judgement.text)
            return
        p = judgement.probability
        self.placed[arm][i, : len(p)] = p
        self.chosen[arm][i, list(question.order)] = p
        self.letter[arm][i] = p[question.letters.index("A")]

    def _give_up(self, name: str) -> NoReturn:
        examples = "; ".join(repr(text[:200]) for text in list(dict.fromkeys(self._invalid))[:3])
        raise DataError(
            f"{name}: {self.n_invalid} of {self.n_answers} answers name no single option, more than "
            f"{100 * _MOST_INVALID:.0f} %. Such are: {examples}. Let it write more (max_tokens), take a judge that "
            "keeps to the form, or read a local model by its letters."
        )


# What follows from it -------------------------------------------------------------------------------------------------


class _Quantities:
    """Means, and ratios of means, over items, whose intervals come from the same resamples."""

    def __init__(self) -> None:
        self._above: list[Floats] = []
        self._below: list[Floats] = []

    def add(self, values: Floats, among: Floats | None = None) -> int:
        """Remember the mean of values, or sum of values / sum of among; gives its number."""
        self._above.append(values)
        self._below.append(np.ones(len(values)) if among is None else among)
        return len(self._above) - 1

    def intervals(self, n_resamples: int, seed: int) -> list[Interval]:
        """All of them, in order."""
        return intervals(np.array(self._above).T, np.array(self._below).T, n_resamples=n_resamples, seed=seed)


def overlap(one: Floats, other: Floats) -> Floats:
    """Largest chance that two judgements agree: 1 or 0 where each just names an option, [items]."""
    return np.asarray(np.minimum(one, other).sum(axis=1))


def _concluded(judge: Judge, design: Design, answers: _Answers, seed: int, n_resamples: int) -> BiasAudit:
    rows, chosen, q = np.arange(len(design.items)), answers.chosen, _Quantities()
    plain = chosen[Arm("plain")]
    accuracy = q.add(plain[rows, design.correct])
    floor = q.add(overlap(plain, chosen.get(Arm("repeat"), plain)))
    tested = _tested(design, answers)
    values = _values(design, answers)
    biases = [q.add(one) for one in tested.values()]
    effects = [_effect(design, chosen, bias, target, q) for bias, target in _pairs(design)]
    position = {name: q.add(one) for name, one in _position(design, answers).items()}
    places = _reflection_places(design, chosen, q)
    mitigated = [_mitigated(design, chosen, m, bias, q) for m in design.mitigations for bias in design.cues]
    harm = {
        m: q.add(_under(design, chosen, m, "")[rows, design.correct] - plain[rows, design.correct])
        for m in design.mitigations
    }
    found = q.intervals(n_resamples, seed)
    p = [sign_flip_p(one) for one in tested.values()]
    z = float(ndtri(1 - _LEVEL / (2 * len(p))) + ndtri(0.95))
    fewest = float(np.log2(2 * len(p) / _LEVEL))
    findings = tuple(
        Finding(
            name,
            found[number],
            own,
            corrected,
            corrected < _LEVEL if len(rows) >= FEWEST else None,
            # However little judgements vary, an exact test needs so many that went one way.
            max(z * float(one.std(ddof=1)) / float(np.sqrt(len(one))), fewest / len(one)),
        )
        for (name, one), number, own, corrected in zip(tested.items(), biases, p, holm(p), strict=True)
    )
    gains = holm([one.p for one in mitigated])
    return BiasAudit(
        judge.name,
        len(rows),
        answers.n_answers,
        answers.n_invalid,
        found[accuracy],
        found[floor],
        findings,
        tuple(one.filled(found) for one in effects),
        {name: found[number] for name, number in position.items()},
        {name: found[number] for name, number in places.items()},
        tuple(one.filled(found, corrected) for one, corrected in zip(mitigated, gains, strict=True)),
        {name: found[number] for name, number in harm.items()},
        values,
        design.left_out,
    )


def _pairs(design: Design) -> list[tuple[str, str]]:
    both = [(bias, target) for bias in design.cues for target in design.targets]
    return both + [(bias, "wrong") for bias in design.controls]


def _net(design: Design, chosen: Mapping[Arm, Floats], bias: str, target: str) -> Floats:
    """What the cue adds to its placebo's chance that the target is chosen, [items].

    A control has no placebo and no second target; it is compared with the plain item in both orders.
    """
    rows, to = np.arange(len(design.items)), design.target(target)
    pairs: list[tuple[Arm, Arm]] = (
        [(Arm("cue", bias, target), Arm("placebo", bias, target))]
        if bias in design.cues
        else [(Arm("cue", bias, target, "", turn), Arm("plain", turn=turn)) for turn in (0, 1)]
    )
    net: Floats = np.mean([chosen[cue][rows, to] - chosen[other][rows, to] for cue, other in pairs], axis=0)
    return net


def _values(design: Design, answers: _Answers) -> dict[str, Floats]:
    """Of each item, by name; see `BiasAudit.values`."""
    rows, chosen = np.arange(len(design.items)), answers.chosen
    values = {"correct": chosen[Arm("plain")][rows, design.correct], **_position(design, answers)}
    for bias, target in _pairs(design):
        to = design.target(target)
        values[f"net/{bias}/{target}"] = _net(design, chosen, bias, target)
        values[f"pull/{bias}/{target}"] = (chosen[Arm("cue", bias, target)] - chosen[Arm("plain")])[rows, to]
    for mitigation in design.mitigations:
        for bias in design.cues:
            gain, _, reduction = _protection(design, chosen, mitigation, bias)
            values[f"gain/{mitigation}/{bias}"], values[f"reduction/{mitigation}/{bias}"] = gain, reduction
    return values


def _tested(design: Design, answers: _Answers) -> dict[str, Floats]:
    """Per-item values of what is tested, mean 0 without a bias."""
    net = {(bias, target): _net(design, answers.chosen, bias, target) for bias, target in _pairs(design)}
    tested: dict[str, Floats] = {}
    for bias in design.biases:
        if bias == "position":
            liked = _position(design, answers)
            tested["last place"] = liked["last place"]
            tested["letter A"] = liked["letter A"]
            if design.sizes.max() > 2:
                tested["first place"] = liked["first place"]
        else:
            tested[bias] = np.mean([one for (own, _), one in net.items() if own == bias], axis=0)
    return tested


def _position(design: Design, answers: _Answers) -> dict[str, Floats]:
    """Of each item: same option in another order, and how much more than evenly places and the letter A are chosen."""
    arms = [arm for arm in design.arms if arm.role == "order"]
    if not arms:
        return {}
    rows, n_orders = np.arange(len(design.items)), np.where(design.sizes == 2, 4, design.sizes)
    asked = np.array([arm.turn < n_orders for arm in arms])  # [orders, items]
    placed = np.array([answers.placed[arm] for arm in arms])
    letter = np.array([answers.letter[arm] for arm in arms])
    evenly = placed.sum(axis=2) / design.sizes

    def liked(value: Floats) -> Floats:
        mean: Floats = np.where(asked, value - evenly, 0).sum(axis=0) / n_orders
        return mean

    # Two options: turns 0 and 1 (2 and 3) turn the contents round and leave the letters at their places.
    pairs = [(a, b) for a, b in pairwise(range(len(arms))) if design.sizes.max() > 2 or a % 2 == 0]
    same = np.array([overlap(answers.chosen[arms[a]], answers.chosen[arms[b]]) for a, b in pairs])
    both = np.array([asked[a] & asked[b] & ((design.sizes > 2) | (a % 2 == 0)) for a, b in pairs])
    return {
        "consistency": np.where(both, same, 0).sum(axis=0) / both.sum(axis=0),
        "first place": liked(placed[:, :, 0]),
        "last place": liked(placed[:, rows, design.sizes - 1]),
        "letter A": liked(letter),
    }


def _reflection_places(design: Design, chosen: Mapping[Arm, Floats], q: _Quantities) -> dict[str, int]:
    """Accuracy with phrases of reflection, by the place of the option they stand in."""
    if "reflection" not in design.biases:
        return {}
    rows = np.arange(len(design.items))
    right, is_first = [], []
    for target in design.targets:
        right.append(chosen[Arm("cue", "reflection", target)][rows, design.correct])
        first = np.array([order[0] for order in design.orders])
        is_first.append((first == design.target(target)).astype(float))
    found = {}
    for name, mask in (("first option", np.array(is_first)), ("later option", 1 - np.array(is_first))):
        if mask.any():
            found[name] = q.add((np.array(right) * mask).sum(axis=0), mask.sum(axis=0))
    return found


class _Effect(NamedTuple):
    bias: str
    target: str
    numbers: tuple[int | None, ...]
    counts: Mapping[str, int]

    def filled(self, found: Sequence[Interval]) -> Effect:
        a, drop, robust, pull, placebo, net, switched = (None if n is None else found[n] for n in self.numbers)
        return Effect(self.bias, self.target, a, drop, robust, pull, placebo, net, switched, self.counts)  # type: ignore[arg-type]


def _effect(design: Design, chosen: Mapping[Arm, Floats], bias: str, target: str, q: _Quantities) -> _Effect:
    rows, to = np.arange(len(design.items)), design.target(target)
    plain, cue = chosen[Arm("plain")], chosen[Arm("cue", bias, target)]
    before, after = plain[rows, to], cue[rows, to]
    placebo = chosen.get(Arm("placebo", bias, target)) if CUES[bias].placebo is not None else None
    numbers = (
        q.add(cue[rows, design.correct]),
        q.add(plain[rows, design.correct] - cue[rows, design.correct]),
        q.add(overlap(plain, cue)),
        q.add(after - before),
        None if placebo is None else q.add(placebo[rows, to] - before),
        q.add(_net(design, chosen, bias, target)),
        q.add(after * (1 - before), 1 - before),
    )
    valid = plain.any(axis=1) & cue.any(axis=1)
    was, now = plain.argmax(axis=1) == to, cue.argmax(axis=1) == to
    counts = {
        "kept T": valid & was & now,
        "to T": valid & ~was & now,
        "from T": valid & was & ~now,
        "elsewhere": valid & ~was & ~now,
        "invalid": ~valid,
    }
    return _Effect(bias, target, numbers, {name: int(one.sum()) for name, one in counts.items()})


def _under(design: Design, chosen: Mapping[Arm, Floats], mitigation: str, bias: str) -> Floats:
    """Probability of each option under a mitigation, with a cue beside a wrong option or none."""
    without = Arm("cue", bias, "wrong") if bias else Arm("plain")
    if mitigation == "both orders":
        # Judgements that disagree count half each, as a tie.
        mean: Floats = (chosen[without] + chosen[without._replace(turn=1)]) / 2
        return mean
    return chosen[without._replace(mitigation=mitigation)]


class _Mitigated(NamedTuple):
    mitigation: str
    bias: str
    numbers: tuple[int, ...]
    p: float

    def filled(self, found: Sequence[Interval], p_holm: float) -> Mitigated:
        accuracy, gain, pull, reduction = (found[n] for n in self.numbers)
        return Mitigated(self.mitigation, self.bias, accuracy, gain, pull, reduction, self.p, p_holm)


def _protection(
    design: Design, chosen: Mapping[Arm, Floats], mitigation: str, bias: str
) -> tuple[Floats, Floats, Floats]:
    """Of each item: gain of accuracy, pull that is left, and by how much the pull is smaller."""
    rows, right, to = np.arange(len(design.items)), design.correct, design.wrong
    plain, cue = chosen[Arm("plain")], chosen[Arm("cue", bias, "wrong")]
    calm, told = (_under(design, chosen, mitigation, one) for one in ("", bias))
    pull: Floats = told[rows, to] - calm[rows, to]
    return told[rows, right] - cue[rows, right], pull, cue[rows, to] - plain[rows, to] - pull


def _mitigated(design: Design, chosen: Mapping[Arm, Floats], mitigation: str, bias: str, q: _Quantities) -> _Mitigated:
    gain, pull, reduction = _protection(design, chosen, mitigation, bias)
    right = _under(design, chosen, mitigation, bias)[np.arange(len(gain)), design.correct]
    numbers = tuple(q.add(one) for one in (right, gain, pull, reduction))
    return _Mitigated(mitigation, bias, numbers, sign_flip_p(gain))
