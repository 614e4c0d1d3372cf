"""Secrets of RLHF II: does a vote find wrong labels, does treating them make a better reward, does looking ahead help?

World A, simulated: a response is 24 numbers; its true worth is linear with bends; people's labels follow Bradley-Terry
on it, so that about one in six is wrong already, and on top of it a share of the labels in training is turned round: 0,
10, 20 or 30 %. Clean validation is the simulated truth. The shift: answers elsewhere are centred elsewhere and vary in
other directions. Claims:
A. cross-fitted strength finds the labels that were turned round (AUROC above 0.6), and better than the margin of a
   single model that has seen them;
B. with 20 % turned round, flip+margin makes a more accurate reward than plain Bradley-Terry, and with none turned
   round one that is not worse by more than a point;
C. trained here and tested there, MetaRM with unlabelled answers from there is more accurate than plain.

Beside them in the same run: every treatment at every share of noise; filtering a fifth by the confidence of a single
model; turning a random fifth round (placebo); turning back exactly what was turned (oracle); the contrastive term on
differences and on responses; and what each fifth of the pairs, by strength, teaches alone.

World B (scale full, where the development data and the sentence encoder are there): human labels of helpful and of
harmless replies (hh_two_objectives), of which a model's labels agree with some: these are the clean validation. 20 % of
the labels in training are turned round. It is reported and decides nothing.

C does not hold, and by no slip that the tests of the step would show: its ascent goes uphill, and its slope is that
of the looked-ahead weights. Steps of 0.05, 0.3, 1 and 3 on seeds 1000 to 1002 changed the accuracy elsewhere by +0.6 to
-4.0 points, mostly downwards. A likely reason, not tested: a small net on fixed numbers has no representation to move
towards the answers elsewhere, where the paper trains a language model end to end.

Settings were chosen on seeds 1000 and above.

Source:
    Wang et al. (2024), Secrets of RLHF in Large Language Models Part II: Reward Modeling, arXiv 2401.06080.
"""

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import rankdata

from penchant.cache import RowCache
from penchant.encoders import Attributes, Cached, Encoder, MiniLM
from penchant.errors import MissingExtraError
from penchant.evaluate.label_noise import detection
from penchant.preference.strength import Strength
from penchant.preference.voting import Voted
from penchant.records import Comparisons, Rankings, canonical_json
from penchant.reproductions.real_data import real_data
from penchant.reproductions.verdict import Verdict
from penchant.statistics import Interval, nested_bootstrap

CLAIM = (
    "Cross-fitted strength finds labels that were turned round, better than a single model; flipping the weakest and "
    "asking for margins makes a more accurate reward at 20 % noise and costs at most a point at none; looking ahead to "
    "unlabelled answers from elsewhere makes it more accurate there."
)
METRIC = "accuracy on true preferences at 20 % turned labels: flip+margin against plain"
SEEDS = {"quick": 3, "full": 5}

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]
DIM = 24
TREATMENTS = ("keep", "flip", "soften", "margin", "flip+margin", "soften+margin")
_SIZES = {"tiny": (120, 100), "quick": (800, 2000), "full": (1000, 3000)}  # pairs to learn from, pairs to test on
_NOISE = {"tiny": (0.0, 0.2), "quick": (0.0, 0.2), "full": (0.0, 0.1, 0.2, 0.3)}
_WORTH = 2.0  # spread of the true difference of two answers, logits
_N_SHIFTED, _K = 200, 4
_FIFTHS = 5
_N_HUMAN = 700


@dataclass(frozen=True)
class World:
    """What answers are truly worth, here and elsewhere.

    Attributes:
        straight: weights, [dim].
        bends: directions in which worth levels off, [dim, bends], and how much each counts, [bends].
        elsewhere: centre of answers there, [dim], and how they vary around it, [dim, dim].
    """

    straight: Array
    bends: tuple[Array, Array]
    elsewhere: tuple[Array, Array]

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> "World":
        """One world."""
        straight = rng.standard_normal(DIM)
        bends = rng.standard_normal((DIM, 6)) / np.sqrt(DIM) * 1.5, rng.standard_normal(6)
        turned, _ = np.linalg.qr(rng.standard_normal((DIM, DIM)))
        return cls(straight, bends, (0.7 * rng.standard_normal(DIM), turned * rng.lognormal(0.0, 0.6, DIM)))

    def worth(self, x: Array) -> Array:
        """True worth of answers, logits, [n]."""
        directions, counts = self.bends
        raw = x @ self.straight / np.sqrt(DIM) + 0.8 * np.tanh(x @ directions) @ counts / np.sqrt(len(counts))
        return np.asarray(_WORTH / np.sqrt(2) * raw)

    def answers(self, n: int, rng: np.random.Generator, *, elsewhere: bool = False) -> Array:
        """Answers as they come, [n, dim]."""
        x = rng.standard_normal((n, DIM))
        centre, spread = self.elsewhere
        return np.asarray(centre + x @ spread.T) if elsewhere else x

    def truth(self, n: int, rng: np.random.Generator, *, elsewhere: bool = False) -> Comparisons:
        """Pairs with the truly better answer first."""
        a, b = (self.answers(n, rng, elsewhere=elsewhere) for _ in range(2))
        better = (self.worth(a) > self.worth(b))[:, None]
        return compared(np.where(better, a, b), np.where(better, b, a))

    def votes(self, n: int, rng: np.random.Generator) -> Comparisons:
        """Pairs as people label them."""
        a, b = self.answers(n, rng), self.answers(n, rng)
        first = (rng.random(n) < expit(self.worth(a) - self.worth(b)))[:, None]
        return compared(np.where(first, a, b), np.where(first, b, a))

    def unlabelled(self, rng: np.random.Generator) -> Rankings:
        """Answers from elsewhere, four to a prompt."""
        x = self.answers(_N_SHIFTED * _K, rng, elsewhere=True)
        texts = [written(row) for row in x]
        return Rankings.from_rows(
            {"prompt": f"p{i}", "responses": texts[i * _K : (i + 1) * _K]} for i in range(_N_SHIFTED)
        )


def written(x: Array) -> str:
    """An answer as a payload."""
    return canonical_json({f"x{k:02d}": round(float(value), 4) for k, value in enumerate(x)})


def compared(chosen: Array, rejected: Array) -> Comparisons:
    """Pairs of answers as records."""
    return Comparisons.from_rows(
        {"prompt": "", "chosen": written(a), "rejected": written(b)} for a, b in zip(chosen, rejected, strict=True)
    )


def turned_round(pairs: Comparisons, rows: Bools) -> Comparisons:
    """The same pairs, some with the other answer preferred."""
    table = pairs.table
    sides = [table[name].to_pylist() for name in ("chosen", "rejected")]
    new = [[s[1 - k] if turn else s[k] for *s, turn in zip(*sides, rows.tolist(), strict=True)] for k in (0, 1)]
    for name, column in zip(("chosen", "rejected"), new, strict=True):
        table = table.set_column(table.schema.get_field_index(name), name, [column])
    return Comparisons(table)


def right(model: Strength, truth: Comparisons) -> Array:
    """1 where the truly better answer gets the greater reward, 0 where not, half for ties, [pairs]."""
    p = model.probability(truth)
    return np.asarray(np.where(p == 0.5, 0.5, p > 0.5), dtype=np.float64)


def placements(suspicion: Array, is_wrong: Bools) -> Array:
    """For each wrong label the share of right ones that are less suspicious, whose mean is the AUROC, [wrong]."""
    score, n_right = rankdata(suspicion), int((~is_wrong).sum())
    return np.asarray((score[is_wrong] - rankdata(suspicion[is_wrong])) / n_right)


def treatments(
    pairs: Comparisons, voted: Voted, turned: Bools, encoder: Encoder, seed: int, rng: np.random.Generator
) -> dict[str, Strength]:
    """A reward by each arm from the same pairs.

    Args:
        pairs: as they are labelled.
        voted: what the voters say of them.
        turned: which were turned round on purpose.
        encoder: payloads to vectors.
        seed: of every net.
        rng: of the placebo.
    """

    def learnt(rows: Comparisons, treatment: str = "keep", vote: Voted | None = None, **settings: Any) -> Strength:
        # A vote is not asked for where nothing would be done about it.
        said = vote or _no_vote(len(rows))
        return Strength(encoder=encoder, treatment=treatment, seed=seed, **settings).fit(rows, voted=said)  # type: ignore[arg-type]

    found = {treatment: learnt(pairs, treatment, voted) for treatment in TREATMENTS}
    sure = found["keep"].probability(pairs)
    found["filtered by a single model"] = learnt(pairs.take(np.flatnonzero(sure >= np.quantile(sure, 0.2))))
    found["random flip (placebo)"] = learnt(turned_round(pairs, rng.random(len(pairs)) < 0.2))
    found["oracle flip"] = learnt(turned_round(pairs, turned))
    if turned.any():
        found["keep, contrast on differences"] = learnt(pairs, contrast=0.3)
        found["keep, contrast on responses"] = learnt(pairs, contrast=0.3, contrast_on="response")
    return found


def _no_vote(n: int) -> Voted:
    return Voted(np.zeros(n), np.zeros(n), 0.0, np.full(n, 2))


def run(seed: int, scale: str, progress: Callable[[str], None]) -> dict[str, Any]:
    """All arms in one world.

    Args:
        seed: of the world, the noise and every net.
        scale: "tiny", "quick" or "full".
        progress: called with a line on what goes on.

    Returns:
        `accuracy` of each arm by share of noise; `right`, pair by pair, of the arms that are claimed; `detection` by
        share of noise (precision, recall and AUROC of the vote and of a single model); `placements` of turned labels
        at 20 %; `fifths`, accuracy of what each fifth teaches; `shift`; `counts` of groups; and `human`, world B.
    """
    n_learn, n_test = _SIZES[scale]
    rng = np.random.default_rng([38, seed])
    world, encoder = World.drawn(rng), Attributes([f"x{k:02d}" for k in range(DIM)])
    pairs, truth = world.votes(n_learn, rng), world.truth(n_test, rng)
    order = rng.random(n_learn)  # the same pairs are turned round first at every share of noise
    result: dict[str, Any] = {"accuracy": {}, "right": {}, "detection": {}, "counts": {}}
    for noise in _NOISE[scale]:
        progress(f"{100 * noise:.0f} % turned round")
        turned = order < noise
        labelled = turned_round(pairs, turned)
        voted = Strength(encoder=encoder, seed=seed).vote(labelled)
        arms = treatments(labelled, voted, turned, encoder, seed, rng)
        scored = {arm: right(model, truth) for arm, model in arms.items()}
        key = f"{noise:g}"
        result["accuracy"][key] = {arm: float(one.mean()) for arm, one in scored.items()}
        result["right"][key] = {arm: scored[arm].tolist() for arm in ("keep", "flip+margin")}
        result["counts"][key] = voted.counts
        if noise:
            single = -arms["keep"].probability(labelled)
            flagged = np.array([action.startswith("flip") for action in arms["flip"].actions_])
            result["detection"][key] = {
                "vote": vars(detection(-voted.strength, turned, flagged=flagged)),
                "single model": vars(
                    detection(single, turned, flagged=single >= np.quantile(single, 1 - flagged.mean()))
                ),
            }
        if noise == 0.2:
            result["placements"] = [placements(-voted.strength, turned).tolist(), placements(single, turned).tolist()]
            result["fifths"] = _fifths(labelled, voted, truth, encoder, seed)
    progress("elsewhere")
    result["shift"] = _elsewhere(world, pairs, encoder, seed, n_test, rng)
    result["human"] = human(seed, progress) if scale == "full" else None
    return result


def _fifths(pairs: Comparisons, voted: Voted, truth: Comparisons, encoder: Encoder, seed: int) -> list[float]:
    """Accuracy of plain rewards, each learnt from a fifth of the pairs, weakest first."""
    parts = np.array_split(np.argsort(voted.strength, kind="stable"), _FIFTHS)
    models = [
        Strength(encoder=encoder, treatment="keep", seed=seed).fit(pairs.take(part), voted=_no_vote(len(part)))
        for part in parts
    ]
    return [float(right(model, truth).mean()) for model in models]


def _elsewhere(
    world: World, pairs: Comparisons, encoder: Encoder, seed: int, n_test: int, rng: np.random.Generator
) -> dict[str, Any]:
    """Right or wrong on answers from elsewhere, by plain and by looking ahead; and how far rewards there spread."""
    truth, ahead = world.truth(n_test, rng, elsewhere=True), world.unlabelled(rng)
    plain = Strength(encoder=encoder, treatment="keep", seed=seed).fit(pairs, voted=_no_vote(len(pairs)))
    meta = Strength(encoder=encoder, treatment="keep", seed=seed).shift(ahead).fit(pairs, voted=_no_vote(len(pairs)))
    answers = [text for row in ahead.table["responses"].to_pylist() for text in row]
    spread = {
        name: float(model.reward([""] * len(answers), answers).reshape(-1, _K).std(axis=1).mean())
        for name, model in (("plain", plain), ("MetaRM", meta))
    }
    return {"plain": right(plain, truth).tolist(), "MetaRM": right(meta, truth).tolist(), "spread": spread}


def human(seed: int, progress: Callable[[str], None]) -> dict[str, Any] | None:
    """World B: human labels with 20 % turned round, tested where a model's label agrees; None without data or encoder.

    Returns:
        Accuracy of plain, flip+margin and oracle flip on held-out agreed pairs; AUROC of turned labels by the vote and
        by a single model; AUROC of labels that the model disagrees with; and accuracy on helpful pairs by rewards
        learnt from harmless ones, plain and looking ahead.
    """
    path = real_data("hh_two_objectives/pairs.jsonl.gz")
    if path is None:
        return None
    rows = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    rows = [row for row in rows if row["data_subset"] == row["objective"] and len(set(row["responses"])) == 2]
    rows = rows[:: max(1, len(rows) // _N_HUMAN)]
    pairs = Comparisons.from_rows(
        {
            "prompt": _last_turn(row["prompt"]),
            "chosen": row["responses"][row["original_label"]],
            "rejected": row["responses"][1 - row["original_label"]],
        }
        for row in rows
    )
    agreed = np.array([row["label"] == row["original_label"] for row in rows])
    harmless = np.array([row["objective"] == "harmless" for row in rows])
    encoder = Cached(MiniLM(), RowCache())
    rng = np.random.default_rng([38, seed])
    held = rng.random(len(rows)) < 1 / 3
    learn, test = np.flatnonzero(~held), np.flatnonzero(held & agreed)
    progress("human labels")
    turned = rng.random(len(learn)) < 0.2
    labelled = turned_round(pairs.take(learn), turned)
    try:
        voted = Strength(encoder=encoder, seed=seed).vote(labelled)
    except MissingExtraError:
        return None

    def learnt(rows: Comparisons, treatment: str, vote: Voted) -> Strength:
        return Strength(encoder=encoder, treatment=treatment, seed=seed).fit(rows, voted=vote)  # type: ignore[arg-type]

    nothing = _no_vote(len(learn))
    plain = learnt(labelled, "keep", nothing)
    models = {"plain": plain, "flip+margin": learnt(labelled, "flip+margin", voted)}
    models["oracle flip"] = learnt(turned_round(labelled, turned), "keep", nothing)
    away, there = pairs.take(np.flatnonzero(harmless)), pairs.take(np.flatnonzero(~harmless & agreed))
    ahead = Rankings.from_rows(
        {"prompt": _last_turn(row["prompt"]), "responses": row["responses"]}
        for row, one in zip(rows, harmless, strict=True)
        if not one
    )
    shifted = {
        "plain": Strength(encoder=encoder, treatment="keep", seed=seed).fit(away, voted=_no_vote(len(away))),
        "MetaRM": Strength(encoder=encoder, treatment="keep", seed=seed)
        .shift(ahead)
        .fit(away, voted=_no_vote(len(away))),
    }
    single = -plain.probability(labelled)
    disagreed = ~agreed[learn] ^ turned
    return {
        "n": [len(learn), len(test)],
        "accuracy": {arm: float(right(model, pairs.take(test)).mean()) for arm, model in models.items()},
        "auroc": {
            "vote": float(placements(-voted.strength, turned).mean()),
            "single model": float(placements(single, turned).mean()),
            "vote, labels the model disagrees with": float(placements(-voted.strength, disagreed).mean()),
        },
        "elsewhere": {arm: float(right(model, there).mean()) for arm, model in shifted.items()},
    }


Columns = tuple[list[float], list[float] | None]


def _last_turn(dialogue: str) -> str:
    """What was said last; to read whole dialogues takes half an hour on one core."""
    return dialogue[max(dialogue.rfind("Human:"), 0) :]


def nested(runs: list[dict[str, Any]], pick: Callable[[dict[str, Any]], Columns]) -> Interval:
    """Of the mean of one column, or of one minus another, over seeds and what is in each.

    Args:
        runs: what `run` gave for each seed.
        pick: a run -> the column, and what it is compared with.
    """
    columns = [pick(run) for run in runs]
    sizes = [len(ours) for ours, _ in columns]
    baselines = [theirs for _, theirs in columns if theirs is not None]
    return nested_bootstrap(
        np.concatenate([ours for ours, _ in columns]),
        np.concatenate(baselines) if baselines else None,
        seeds=np.repeat(np.arange(len(runs)), sizes),
        clusters=np.concatenate([np.arange(n) for n in sizes]),
        seed=0,
    )


def verdict(runs: list[dict[str, Any]]) -> Verdict:
    """Holds if wrong labels are found (A), treating them pays and costs little (B), and looking ahead helps (C).

    Args:
        runs: what `run` gave for each seed.
    """
    found = nested(runs, lambda run: (run["placements"][0], None))
    better = nested(runs, lambda run: (run["placements"][0], run["placements"][1]))
    pays = nested(runs, lambda run: (run["right"]["0.2"]["flip+margin"], run["right"]["0.2"]["keep"]))
    costs = nested(runs, lambda run: (run["right"]["0"]["flip+margin"], run["right"]["0"]["keep"]))
    ahead = nested(runs, lambda run: (run["shift"]["MetaRM"], run["shift"]["plain"]))
    a, b, c = found.low > 0.6 and better.low > 0, pays.low > 0 and costs.low > -0.01, ahead.low > 0
    notes = [
        f"(A) {_said(a)}: AUROC of strength on labels turned round, at 20 %: {found.estimate:.3f} [{found.low:.3f}, "
        f"{found.high:.3f}], needed above 0.6; minus that of a single model: {_shown(better)}, needed above 0.",
        f"(B) {_said(b)}: accuracy of flip+margin minus plain, points: {_shown(pays, 100)} at 20 %, needed above 0; "
        f"{_shown(costs, 100)} at none, needed above -1.",
        f"(C) {_said(c)}: accuracy elsewhere of MetaRM minus plain, points: {_shown(ahead, 100)}, needed above 0; "
        "spread of rewards there "
        + " and ".join(
            f"{np.mean([run['shift']['spread'][arm] for run in runs]):.2f} ({arm})" for arm in ("MetaRM", "plain")
        )
        + ".",
    ]
    for noise in runs[0]["accuracy"]:
        means = {
            arm: float(np.mean([run["accuracy"][noise][arm] for run in runs])) for arm in runs[0]["accuracy"][noise]
        }
        listed = ", ".join(f"{arm} {100 * means[arm]:.1f}" for arm in sorted(means, key=lambda arm: -means[arm]))
        notes.append(f"Accuracy with {100 * float(noise):.0f} % turned round, %: {listed}.")
    for noise in runs[0]["detection"]:
        rows = []
        for who in ("vote", "single model"):
            each = [run["detection"][noise][who] for run in runs]
            rows.append(f"{who} " + ", ".join(f"{what} {np.mean([one[what] for one in each]):.2f}" for what in each[0]))
        notes.append(f"Finding the {100 * float(noise):.0f} % turned round: {'; '.join(rows)}.")
    fifths = np.mean([run["fifths"] for run in runs], axis=0)
    notes.append(f"Accuracy of what each fifth by strength teaches alone, weakest first, %: {_percents(fifths)}.")
    notes += _of_people([run["human"] for run in runs if run["human"]])
    notes.append(f"{len(runs)} seeds; worlds are simulated unless people are named.")
    return Verdict(
        _mean(runs, lambda run: run["accuracy"]["0.2"]["flip+margin"]),
        _mean(runs, lambda run: run["accuracy"]["0.2"]["keep"]),
        pays,
        bool(a and b and c),
        tuple(notes),
    )


def _of_people(found: list[dict[str, Any]]) -> list[str]:
    if not found:
        return ["World B, labels of people, was not run: it takes scale full, the development data and the encoder."]

    def listed(name: str, times: float) -> str:
        means = {arm: times * np.mean([one[name][arm] for one in found]) for arm in found[0][name]}
        return ", ".join(f"{arm} {value:.{1 if times > 1 else 2}f}" for arm, value in means.items())

    learn, test = found[0]["n"]
    return [
        f"World B, labels of people, 20 % turned round ({learn} pairs to learn from, {test} agreed ones to test on; "
        f"decides nothing): accuracy, %: {listed('accuracy', 100)}. AUROC: {listed('auroc', 1)}. Learnt from harmless, "
        f"tested on helpful, %: {listed('elsewhere', 100)}."
    ]


def _mean(runs: list[dict[str, Any]], value: Callable[[dict[str, Any]], float]) -> float:
    return float(np.mean([value(run) for run in runs]))


def _said(holds: bool) -> str:
    return "holds" if holds else "does not hold"


def _shown(interval: Interval, times: float = 1.0) -> str:
    digits = 1 if times > 1 else 3
    low, middle, high = (times * value for value in (interval.low, interval.estimate, interval.high))
    return f"{middle:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"


def _percents(values: Array) -> str:
    return ", ".join(f"{100 * value:.1f}" for value in values)


def figure(runs: list[dict[str, Any]]) -> Any:
    """Accuracy of each arm by share of labels turned round, and of what each fifth by strength teaches alone.

    Args:
        runs: what `run` gave for each seed.
    """
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(10, 4.5), layout="constrained")
    left, right_ = drawing.subplots(1, 2, width_ratios=[3, 2])
    for arm in runs[0]["accuracy"]["0.2"]:
        measured = [noise for noise in runs[0]["accuracy"] if arm in runs[0]["accuracy"][noise]]
        means = [np.mean([run["accuracy"][noise][arm] for run in runs]) for noise in measured]
        is_ours = arm in ("keep", "flip+margin")
        left.plot(
            [float(noise) for noise in measured],
            means,
            "o-" if is_ours else ".--",
            label=arm,
            linewidth=2.5 if is_ours else 1,
        )
    left.set_xlabel("share of labels turned round")
    left.set_ylabel("accuracy on true preferences")
    left.legend(fontsize=7)
    for run in runs:
        right_.plot(range(1, _FIFTHS + 1), run["fifths"], ".-", color="tab:gray", alpha=0.5)
    right_.plot(range(1, _FIFTHS + 1), np.mean([run["fifths"] for run in runs], axis=0), "ko-")
    right_.axhline(0.5, linestyle=":", color="black")
    right_.set_xticks(range(1, _FIFTHS + 1))
    right_.set_xlabel("fifth of the pairs by strength, weakest first")
    right_.set_ylabel("accuracy of a reward learnt from it alone")
    return drawing
