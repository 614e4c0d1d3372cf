"""UltraFeedback: do aspect means train a better reward model than overall scores, does the known repair help, and why?

Part A runs the real pipeline, `penchant.feedback.critiques`, in a simulated world: 400 instructions, six generators of
known quality, and a programmatic judge (noise of 0.7 points on either scale, 0.3 points for the place in which a text
is shown, 2 % unreadable answers, and the published bug: each overall score of 1 is written as 10, which the judge's
severity brings to about 3 %). An answer is a vector of 16 observable features; the rubric is a hidden linear map of
them to four aspects; the true reward is their mean. Reward models are Bradley-Terry on the features. Claims:
A1 aspect means beat overall scores as given; A2 the repair closes at least half of that gap; A3 shuffling at least
halves the rate at which another order changes the winner; A4 best of n by the reward model truly gains with n.

Part B (scale full, where the development data and the sentence encoder are there) learns from the human choices in
fine_grained_qa, with and without margins by the number of choices won, and is tested on pandalm_human; it is reported
and decides nothing. The severity was set on seeds 100 to 102, which are not reported.

Source:
    Cui et al. (2023), UltraFeedback: Boosting Language Models with High-quality Feedback.
"""

import gzip
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import spearmanr

from penchant.cache import content_key
from penchant.errors import MissingExtraError
from penchant.feedback.critiques import Critiques, Instruction, comparisons, mean_rating
from penchant.feedback.rubrics import ASPECTS
from penchant.preference.newton import newton
from penchant.records import Comparisons, canonical_json
from penchant.reproductions.verdict import Verdict
from penchant.statistics import Interval, nested_bootstrap
from penchant.steer.best_of_n import expected_maximum

CLAIM = (
    "A reward model learnt from mean aspect ratings ranks true preferences better than one learnt from overall scores; "
    "the repair of 10s closes at least half of the gap, shuffling at least halves how often another order changes the "
    "winner, and best of n truly gains with n."
)
METRIC = "accuracy on true preferences of held-out prompts: mean of aspects against overall score as given"
SEEDS = {"quick": 5, "full": 20}

Array = NDArray[np.float64]
N_FEATURES, N_GENERATORS, N_PROMPTS, N_TEST, N_ORDERS = 16, 6, 400, 500, 200
COUNTS = (1, 2, 4, 8, 16)
_ORDER_BIAS, _NOISE, _UNREADABLE = 0.3, 0.7, 0.02
_SEVERITY = 0.5  # points of the overall scale by which the judge is harsher than its own ratings
_L2 = 1.0
_NUMBERS = re.compile(r"^\[[-0-9.,]+\]$", re.MULTILINE)
_ARMS = ("aspects", "overall", "overall_as_given")


def _uniform(*parts: object) -> float:
    """A number in (0, 1) that belongs to a content: the same question brings the same answer, wherever it is asked."""
    return (int(content_key(*map(str, parts))[:12], 16) + 0.5) / 16**12


def _normal(*parts: object) -> float:
    return float(ndtri(_uniform(*parts)))


class World:
    """Hidden rubric and generators of one seed.

    Attributes:
        rubric: features -> quality of each aspect, about unit variance, [features, aspects].
        styles: mean features of each generator, [generators, features].
    """

    def __init__(self, seed: int):
        rng = np.random.default_rng([46, seed])
        # A shared part makes aspects agree as real ones do, with a correlation of about one half.
        rubric = rng.standard_normal((N_FEATURES, 1)) + rng.standard_normal((N_FEATURES, len(ASPECTS)))
        self.rubric: Array = rubric / np.linalg.norm(rubric, axis=0)
        self.styles: Array = 0.3 * rng.standard_normal((N_GENERATORS, N_FEATURES))

    def reward(self, features: Array) -> Array:
        """True reward, the mean aspect quality; [..., features] -> [...]."""
        return np.asarray((features @ self.rubric).mean(axis=-1))


def written(features: Array) -> str:
    """An answer of the simulated world as text."""
    return canonical_json([round(float(value), 3) for value in features])


def read(texts: Sequence[str]) -> Array:
    """Features of answers, [texts, features]."""
    return np.array([[float(number) for number in text[1:-1].split(",")] for text in texts]).reshape(-1, N_FEATURES)


class Generator:
    """A simulated model that answers around its own style."""

    def __init__(self, world: World, index: int):
        self.name, self._style = f"generator-{index}", world.styles[index]

    def complete(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        n: int = 1,
        temperature: float = 0.7,
        max_tokens: int = 256,
        seed: int = 0,
    ) -> list[str]:
        """Feature vectors as text."""
        rng = np.random.default_rng(int(content_key(self.name, messages[-1]["content"], str(seed))[:16], 16))
        return [written(self._style + rng.standard_normal(N_FEATURES)) for _ in range(n)]


class RubricJudge:
    """A programmatic judge that knows the rubric, with planted noise, order bias, malformed text and the bug of 10."""

    def __init__(self, world: World):
        self.name, self._world, self.n_tens, self.n_critiques = "rubric-judge", world, 0, 0

    def complete(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        n: int = 1,
        temperature: float = 0.7,
        max_tokens: int = 256,
        seed: int = 0,
    ) -> list[str]:
        """One judgement, in the form that the prompt asks for."""
        prompt = messages[-1]["content"]
        if _uniform("unreadable", prompt, seed) < _UNREADABLE:
            return ["I would rather not put numbers on these."] * n
        texts = _NUMBERS.findall(prompt)
        draw = seed if temperature > 0 else 0
        if "Overall Score" in prompt:
            return [self._critique(texts[0], draw)] * n
        title = prompt[2 : prompt.index("\n")].lower().replace(" ", "_")
        return [self._ratings(texts, ASPECTS.index(title), "Type:" in prompt, draw)] * n

    def _ratings(self, texts: Sequence[str], aspect: int, typed: bool, draw: int) -> str:
        quality = read(texts) @ self._world.rubric[:, aspect]
        noise = np.array([_normal("rating", aspect, text, draw) for text in texts])
        place = np.linspace(_ORDER_BIAS, -_ORDER_BIAS, len(texts))
        points = np.clip(np.rint(3 + quality + _NOISE * noise + place), 1, 5).astype(int)
        kind = "Type: None\n" if typed else ""
        return "\n\n".join(
            f"#### Output for Text {number}\n{kind}Rating: {point}\nRationale: by the rubric."
            for number, point in enumerate(points, 1)
        )

    def _critique(self, text: str, draw: int) -> str:
        noise = _normal("overall", text, draw)
        # The same quality on 1..10: 1 + (rating - 1) * 9 / 4.
        meant = 5.5 - _SEVERITY + 9 / 4 * float(self._world.reward(read([text]))[0]) + _NOISE * noise
        score = int(np.clip(np.rint(meant), 1, 10))
        self.n_critiques += 1
        if score == 1:
            self.n_tens += 1
            score = 10
        return f"By the rubric.\nOverall Score: {score}"


def learnt(pairs: Comparisons, *, with_margin: bool = False) -> Array:
    """Weights of a Bradley-Terry reward model on features, [features]; UltraRM's margin if asked for."""
    difference = read(pairs.table["chosen"].to_pylist()) - read(pairs.table["rejected"].to_pylist())
    margin = 2 * pairs.numpy("strength") - 1 if with_margin else None
    return newton(difference, np.ones(len(pairs)), l2=_L2, margin=margin).weights


def accuracy(weights: Array, answers: Array, truth: Array) -> Array:
    """Share of each prompt's pairs that the reward ranks as the truth does, [prompts].

    Args:
        weights: of the reward, [features].
        answers: [prompts, k, features].
        truth: true reward, [prompts, k].
    """
    first, second = np.triu_indices(answers.shape[1], 1)
    learnt_gap = (answers[:, first] - answers[:, second]) @ weights
    right = (learnt_gap > 0) == (truth[:, first] > truth[:, second])
    return np.asarray(np.where(learnt_gap == 0, 0.5, right).mean(axis=1))


def winners_changed(method: Critiques, record: Mapping[str, Any], seed: int) -> tuple[bool, float]:
    """Whether the best-rated answers differ once the answers are handed over in reverse, and the favour of places.

    Returns:
        Whether the set of best answers changed, and by how many points an answer scores higher when it comes first
        than when it comes last.
    """
    responses = [one["response"] for one in record["completions"]]
    instruction, best, ends = Instruction(record["instruction"], record["source"]), [], []
    for turn, texts in enumerate((responses, responses[::-1])):
        rng = np.random.default_rng([seed, turn])
        rated = method.rate(instruction, texts, rng=rng, problems=Counter())
        scores = [mean_rating(one) or 0.0 for one in rated]
        best.append({text for text, score in zip(texts, scores, strict=True) if score == max(scores)})
        ends.append(scores[0] - scores[-1])
    return best[0] != best[1], float(sum(ends) / 2)


def run(seed: int, scale: str, progress: Callable[[str], None]) -> dict[str, Any]:
    """One world: build the records, learn from each kind of score, test on held-out prompts."""
    world = World(seed)
    pool, judge = [Generator(world, index) for index in range(N_GENERATORS)], RubricJudge(world)
    sources = ("evol_instruct", "flan", "ultrachat")
    instructions = [Instruction(f"Task {index} of world {seed}", sources[index % 3]) for index in range(N_PROMPTS)]
    built = Critiques(pool, judge, seed=seed).build(instructions, progress=False, say=progress)
    tens = judge.n_tens / judge.n_critiques

    pairs = {arm: comparisons(built.records, by=arm) for arm in _ARMS}  # type: ignore[arg-type]
    weights = {arm: learnt(kept) for arm, (kept, _) in pairs.items()}
    weights["aspects_margin"] = learnt(pairs["aspects"][0], with_margin=True)
    rng = np.random.default_rng([46, seed, 1])
    styles = world.styles[np.argsort(rng.random((N_TEST, N_GENERATORS)), axis=1)[:, :4]]
    answers = styles + rng.standard_normal(styles.shape)
    accuracies = {arm: accuracy(w, answers, world.reward(answers)).tolist() for arm, w in weights.items()}

    samples = world.styles[0] + rng.standard_normal((N_TEST, COUNTS[-1], N_FEATURES))
    curve = expected_maximum(samples @ weights["aspects"], COUNTS, values=world.reward(samples))

    places: dict[str, list[float]] = {}
    for name, shuffle in (("fixed", False), ("shuffled", True)):
        method = Critiques(pool, judge, seed=seed, shuffle=shuffle)
        results = [winners_changed(method, record, index) for index, record in enumerate(built.records[:N_ORDERS])]
        places[f"{name}_changed"] = [float(changed) for changed, _ in results]
        places[f"{name}_favour"] = [favour for _, favour in results]
    progress(f"ultrafeedback: {len(pairs['aspects'][0])} pairs, {100 * tens:.1f} % of critiques hit by the bug")
    metrics = {
        "accuracies": accuracies,
        "gains": (curve - curve[:, :1]).tolist(),
        "places": places,
        "bug_share": tens,
        "problems": built.problems,
        "dropped": {arm: dropped for arm, (_, dropped) in pairs.items()},
        "agreement": _agreement(built.records, world),
    }
    if scale == "full":
        metrics["human"] = margin_on_human_choices(seed)
    return metrics


def human_choices() -> "tuple[list[dict[str, Any]], list[dict[str, Any]]] | None":
    """Pairs `prompt, chosen, rejected, margin, group` of two human sets, one to learn from and one to test on.

    The margin is the difference in choices won, of three each, on 0..1.
    """
    folder = Path(os.environ.get("PENCHANT_DATA", Path(__file__).parents[4] / "shared" / "data"))
    files = folder / "fine_grained_qa" / "examples.jsonl.gz", folder / "pandalm_human" / "pairs.jsonl.gz"
    if not all(file.exists() for file in files):
        return None
    questions, votes = (
        [json.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines()] for file in files
    )
    learn, test = [], []
    for row in questions:
        won = np.zeros(4)
        for (first, second), choice in zip(combinations(range(4), 2), row["preference"], strict=True):
            won[[first, second]] += {1: (1, 0), 2: (0, 1), 0: (0.5, 0.5)}[choice]
        for (first, second), choice in zip(combinations(range(4), 2), row["preference"], strict=True):
            if choice and row[f"prediction {first + 1}"] != row[f"prediction {second + 1}"]:
                a, b = (first, second) if choice == 1 else (second, first)
                pair = {"chosen": row[f"prediction {a + 1}"], "rejected": row[f"prediction {b + 1}"]}
                learn.append(pair | {"prompt": row["question"], "margin": abs(won[a] - won[b]) / 3, "group": row["id"]})
    for row in votes:
        lead = sum({0: 0, 1: 1, 2: -1}[row[f"annotator{number}"]] for number in (1, 2, 3))
        if lead and row["response1"] != row["response2"]:
            a, b = (1, 2) if lead > 0 else (2, 1)
            asked = f"{row['instruction']}\n{row['input']}".strip()
            pair = {"chosen": row[f"response{a}"], "rejected": row[f"response{b}"]}
            test.append(pair | {"prompt": asked, "margin": abs(lead) / 3, "group": asked})
    return learn, test


def margin_on_human_choices(seed: int) -> dict[str, Any] | None:
    """Part B for one seed (which draws four fifths of the questions); None where data or encoder are absent."""
    sets = human_choices()
    if sets is None:
        return None
    from penchant.encoders import Cached, MiniLM, encode_responses

    encoder = Cached(MiniLM())
    try:
        learn, test = (
            np.subtract(
                *(
                    encode_responses(encoder, [one["prompt"] for one in pairs], [one[name] for one in pairs])
                    for name in ("chosen", "rejected")
                )
            )
            for pairs in sets
        )
    except MissingExtraError:
        return None
    groups = np.unique([one["group"] for one in sets[0]])
    drawn = np.random.default_rng([46, seed, 2]).permutation(groups)[: 4 * len(groups) // 5]
    kept = np.isin([one["group"] for one in sets[0]], drawn)
    margins = np.array([one["margin"] for one in sets[0]])[kept]
    right = [
        (test @ newton(learn[kept], np.ones(kept.sum()), l2=_L2, margin=margin).weights > 0).astype(np.float64)
        for margin in (None, margins)
    ]
    codes = np.unique([one["group"] for one in sets[1]], return_inverse=True)[1]
    return {
        "plain": float(right[0].mean()),
        "margin": float(right[1].mean()),
        "differences": (right[1] - right[0]).tolist(),
        "prompts": codes.tolist(),
        "n_learn": int(kept.sum()),
    }


def _agreement(records: Sequence[Mapping[str, Any]], world: World) -> float:
    """How often the judge's aspect means rank a pair as the truth does."""
    pairs, _ = comparisons([dict(record) for record in records])
    better, worse = (world.reward(read(pairs.table[name].to_pylist())) for name in ("chosen", "rejected"))
    return float(np.mean(better > worse))


def _nested(runs: list[dict[str, Any]], value: Callable[[dict[str, Any]], Array]) -> Interval:
    """Interval of the mean over prompts within seeds."""
    values = [np.asarray(value(run)) for run in runs]
    seeds = np.repeat(np.arange(len(values)), [len(one) for one in values])
    prompts = np.concatenate([np.arange(len(one)) for one in values])
    return nested_bootstrap(np.concatenate(values), seeds=seeds, clusters=prompts)


def verdict(runs: list[dict[str, Any]]) -> Verdict:
    """Holds if all four parts hold, each by its own interval over prompts nested in seeds.

    Args:
        runs: what `run` gave for at least two seeds.
    """

    def of(run: dict[str, Any], arm: str) -> Array:
        return np.array(run["accuracies"][arm])

    def mean(arm: str) -> float:
        return float(np.mean([of(run, arm).mean() for run in runs]))

    gap = _nested(runs, lambda run: of(run, "aspects") - of(run, "overall_as_given"))
    closed = _nested(
        runs,
        lambda run: (
            of(run, "overall") - of(run, "overall_as_given") - (of(run, "aspects") - of(run, "overall_as_given")) / 2
        ),
    )
    halved = _nested(
        runs, lambda run: np.array(run["places"]["fixed_changed"]) / 2 - np.array(run["places"]["shuffled_changed"])
    )
    gain = _nested(runs, lambda run: np.array(run["gains"])[:, -1])
    margin = _nested(runs, lambda run: of(run, "aspects_margin") - of(run, "aspects"))
    curves = [np.mean(run["gains"], axis=0) for run in runs]
    order = [float(spearmanr(COUNTS, curve).statistic) for curve in curves]
    places = {name: float(np.mean([np.mean(run["places"][name]) for run in runs])) for name in runs[0]["places"]}
    parts = (gap.low > 0, closed.low >= 0, halved.low >= 0, gain.low > 0 and min(order) > 0)
    said = ["holds" if part else "does not hold" for part in parts]
    human = [run["human"] for run in runs if run.get("human")]
    return Verdict(
        ours=mean("aspects"),
        baseline=mean("overall_as_given"),
        interval=gap,
        holds=all(parts),
        notes=(
            f"A1 {said[0]}: {mean('aspects'):.4f} from aspect means, {mean('overall_as_given'):.4f} from overall ones",
            f"A2 {said[1]}: {mean('overall'):.4f} after the repair; closed beyond half of the gap {_shown(closed)}",
            f"A3 {said[2]}: another order changes the winner in {100 * places['fixed_changed']:.0f} % unshuffled and "
            f"{100 * places['shuffled_changed']:.0f} % shuffled (half minus that: {_shown(halved)}); favour of the "
            f"first place {places['fixed_favour']:+.2f} and {places['shuffled_favour']:+.2f} points",
            f"A4 {said[3]}: true gain of best of 16 over one {_shown(gain)}, least Spearman with n {min(order):.2f}",
            f"margins change the accuracy by {_shown(margin)}",
            f"{100 * np.mean([run['bug_share'] for run in runs]):.1f} % of critiques were hit by the bug; the judge's "
            f"pairs agree with the truth in {100 * np.mean([run['agreement'] for run in runs]):.0f} %; pairs dropped "
            f"as equal: {sum(run['dropped']['aspects'].get('equal scores', 0) for run in runs)}",
            _human_note(human),
        ),
    )


def _human_note(human: Sequence[Mapping[str, Any]]) -> str:
    if not human:
        return "part B (human choices) was not run: it needs scale full, the development data and the sentence encoder"
    difference = np.array([one["margin"] - one["plain"] for one in human])
    if len(human) < 2:
        return f"part B: margins change the accuracy on other people's choices by {difference[0]:+.4f} (one seed)"
    interval = nested_bootstrap(
        np.concatenate([np.array(one["differences"]) for one in human]),
        seeds=np.repeat(np.arange(len(human)), [len(one["differences"]) for one in human]),
        clusters=np.concatenate([one["prompts"] for one in human]),
    )
    plain = np.mean([one["plain"] for one in human])
    return f"part B: {plain:.3f} on other people's choices without margins; margins change it by {_shown(interval)}"


def _shown(interval: Interval) -> str:
    return f"{interval.estimate:+.4f} [{interval.low:+.4f}, {interval.high:+.4f}]"


def figure(runs: list[dict[str, Any]]) -> Any:
    """Accuracy of each arm (a point a seed), and the true gain of best of n."""
    from matplotlib.figure import Figure

    plot = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = plot.subplots(1, 2)
    names = {"aspects": "mean of aspects", "overall": "overall, repaired", "overall_as_given": "overall, as given"}
    for place, arm in enumerate(names):
        values = [100 * float(np.mean(run["accuracies"][arm])) for run in runs]
        left.plot([place] * len(values), values, "o", color="C0", alpha=0.5)
        left.plot([place - 0.2, place + 0.2], [np.mean(values)] * 2, color="black")
    left.set_xticks(range(len(names)), list(names.values()))
    left.set_ylabel("accuracy on true preferences (%)")
    for run in runs:
        right.plot(COUNTS, np.mean(run["gains"], axis=0), color="C0", alpha=0.5)
    right.set_xscale("log", base=2)
    right.set_xticks(COUNTS, [str(count) for count in COUNTS])
    right.set_xlabel("answers n")
    right.set_ylabel("true reward gained by best of n")
    return plot
