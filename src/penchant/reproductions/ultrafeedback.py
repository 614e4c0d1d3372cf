"""UltraFeedback: do aspect means train a better reward model than overall scores, does the known repair help, and why?

Part A runs the real pipeline, `penchant.feedback.critiques`, in a simulated world: 400 instructions, six generators of
known quality, and a programmatic judge (noise of 0.7 points on either scale, 0.3 points for and against the first and
the last place in which a text is shown, 2 % unreadable answers, and the published bug: each overall score of 1 is
written as 10, which the judge's severity brings to about 3 %). An answer is a vector of 16 observable features; the
rubric is a hidden linear map of them to four aspects; the true reward is their mean. Reward models are Bradley-Terry on
the features. Claims:
A1 aspect means beat overall scores as given; A2 the repair closes at least half of that gap; A3 shuffling at least
halves the rate at which another order changes the winner; A4 best of n by the reward model truly gains with n.

Two more arms rate the same answers: all aspects in one call (the simulated judge lets no aspect colour another, so
this shows the cost of sharing one order and one call, the least that it can cost), and answers in a fixed order. Each
arm's scores are also held against the true preference, as accuracy and as Cohen's kappa.

A3 fails, and by no bug: shuffling takes the favour of the first place away and more than halves how often the winners
of two orders have none in common. But the set of winners also changes where a tie of rounded ratings is made or broken,
and the places left to chance by one draw an aspect do that about as often as the bias did. The noise floor is not the
reason: a judge without order bias, in the same run, changes winners only where an unreadable answer was asked again.

Part B (scale full, where the development data and the sentence encoder are there) learns from the human choices in
fine_grained_qa, with and without margins by the number of choices won, and is tested on pandalm_human; it is reported
and decides nothing. The severity was set on seeds 100 to 102, which are not reported.

Source:
    Cui et al. (2023), UltraFeedback: Boosting Language Models with High-quality Feedback.
"""

import gzip
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import spearmanr

from penchant.cache import content_key
from penchant.errors import MissingExtraError
from penchant.feedback.critiques import Critiques, Instruction, mean_rating
from penchant.feedback.lessons import comparisons, tally
from penchant.feedback.rubrics import ASPECTS, RUBRICS, aspect_title
from penchant.preference.newton import newton
from penchant.records import Comparisons, canonical_json
from penchant.reproductions.real_data import real_data
from penchant.reproductions.verdict import Verdict
from penchant.statistics import Interval, cohen_kappa, nested_bootstrap
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
_SCORES = {
    "aspects": "fine-grained_score",
    "single_call": "fine-grained_score",
    "fixed_order": "fine-grained_score",
    "overall": "overall_score",
    "overall_as_given": "overall_score_as_given",
}
"""Each arm, and the field of its records that ranks the answers."""


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
    """A programmatic judge that knows the rubric, with planted noise, order bias, malformed text and the bug of 10.

    Its noise belongs to the text and the aspect, not to the call: shown in another order, or asked for several aspects
    at once, it differs by the places alone. It lets no aspect colour another, as people and models do.

    Args:
        world: holds the rubric.
        order_bias: points by which the first text is rated too high and the last too low; linear between them.
        unreadable: share of calls answered by text without numbers.
    """

    def __init__(self, world: World, *, order_bias: float = _ORDER_BIAS, unreadable: float = _UNREADABLE):
        self.name, self._world, self.n_tens, self.n_critiques = "rubric-judge", world, 0, 0
        self._order_bias, self._unreadable = order_bias, unreadable

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
        if _uniform("unreadable", prompt, seed) < self._unreadable:
            return ["I would rather not put numbers on these."] * n
        texts = _NUMBERS.findall(prompt)
        draw = seed if temperature > 0 else 0
        if "Overall Score" in prompt:
            return [self._critique(texts[0], draw)] * n
        asked = [aspect for aspect in ASPECTS if f"# {aspect_title(aspect)}\n" in prompt]
        return [self._ratings(texts, asked, draw)] * n

    def _ratings(self, texts: Sequence[str], asked: Sequence[str], draw: int) -> str:
        points = {aspect: self._points(texts, ASPECTS.index(aspect), draw) for aspect in asked}
        lines = []
        for index in range(len(texts)):
            lines.append(f"#### Output for Text {index + 1}")
            for aspect in asked:
                lines += [f"##### {aspect_title(aspect)}"] if len(asked) > 1 else []
                lines += ["Type: None"] if RUBRICS[aspect].types else []
                lines += [f"Rating: {points[aspect][index]}", "Rationale: by the rubric."]
        return "\n".join(lines)

    def _points(self, texts: Sequence[str], aspect: int, draw: int) -> NDArray[np.int64]:
        quality = read(texts) @ self._world.rubric[:, aspect]
        noise = np.array([_normal("rating", aspect, text, draw) for text in texts])
        place = np.linspace(self._order_bias, -self._order_bias, len(texts))
        return np.clip(np.rint(3 + quality + _NOISE * noise + place), 1, 5).astype(np.int64)

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


def rated_again(method: Critiques, records: Sequence[Mapping[str, Any]], seed: int) -> list[dict[str, Any]]:
    """The same answers and critiques with ratings of another arm, so that arms differ by the ratings alone."""
    again = []
    for index, record in enumerate(records):
        problems: Counter[str] = Counter()
        rng = np.random.default_rng([46, seed, 3, index])
        responses = [one["response"] for one in record["completions"]]
        asked = Instruction(record["instruction"], record["source"])
        rated = method.rate(asked, responses, rng=rng, problems=problems)
        completions = [
            one | {"annotations": annotations, "fine-grained_score": mean_rating(annotations)}
            for one, annotations in zip(record["completions"], rated, strict=True)
        ]
        again.append({**record, "completions": completions, "problems": dict(problems)})
    return again


def agreement(records: Sequence[Mapping[str, Any]], world: World, field: str) -> dict[str, Any]:
    """How scores rank each prompt's pairs of answers, against the true preference, which knows no ties.

    Args:
        records: of the pipeline.
        world: holds the true reward.
        field: of the score; a pair in which it is missing counts as tied.

    Returns:
        `accuracy`: share of each prompt's pairs ranked as the truth does, a tie counting half, [prompts]; `tied`: share
        of pairs with equal scores; `kappa`: Cohen's over all pairs, a tie being a label of its own.
    """
    judged, true = [], []
    for record in records:
        answers = record["completions"]
        scores = np.array([np.nan if one[field] is None else one[field] for one in answers], dtype=np.float64)
        reward = world.reward(read([one["response"] for one in answers]))
        first, second = np.triu_indices(len(answers), 1)
        judged.append(np.nan_to_num(np.sign(scores[first] - scores[second])))
        true.append(np.sign(reward[first] - reward[second]))
    shares = [float(np.mean((1 + gap * truth) / 2)) for gap, truth in zip(judged, true, strict=True)]
    gaps = np.concatenate(judged)
    return {
        "accuracy": shares,
        "tied": float(np.mean(gaps == 0)),
        "kappa": cohen_kappa(gaps, np.concatenate(true)),
    }


def winners_changed(method: Critiques, record: Mapping[str, Any], seed: int) -> dict[str, float]:
    """What another order does to the winners: the answers are handed over as they stand, and in reverse.

    Returns:
        `changed`: 1 if the set of best-rated answers differs; `lost`: 1 if the two sets share no answer; `favour`: by
        how many points an answer scores higher when it comes first than when it comes last.
    """
    responses = [one["response"] for one in record["completions"]]
    instruction, best, ends = Instruction(record["instruction"], record["source"]), [], []
    for turn, texts in enumerate((responses, responses[::-1])):
        rng = np.random.default_rng([seed, turn])
        rated = method.rate(instruction, texts, rng=rng, problems=Counter())
        scores = [mean_rating(one) or 0.0 for one in rated]
        best.append({text for text, score in zip(texts, scores, strict=True) if score == max(scores)})
        ends.append(scores[0] - scores[-1])
    return {"changed": float(best[0] != best[1]), "lost": float(not best[0] & best[1]), "favour": sum(ends) / 2}


def place_bias(methods: Mapping[str, Critiques], records: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """`winners_changed` of each record under each method, as "method_number"."""
    places: dict[str, list[float]] = {}
    for name, method in methods.items():
        for index, record in enumerate(records):
            for what, value in winners_changed(method, record, index).items():
                places.setdefault(f"{name}_{what}", []).append(value)
    return places


def run(seed: int, scale: str, progress: Callable[[str], None]) -> dict[str, Any]:
    """One world: build the records, learn from each kind of score, test on held-out prompts."""
    world = World(seed)
    pool, judge = [Generator(world, index) for index in range(N_GENERATORS)], RubricJudge(world)
    sources = ("evol_instruct", "flan", "ultrachat")
    instructions = [Instruction(f"Task {index} of world {seed}", sources[index % 3]) for index in range(N_PROMPTS)]
    method = Critiques(pool, judge, seed=seed)
    built = method.build(instructions, progress=False, say=progress)
    tens = judge.n_tens / judge.n_critiques

    single_call = Critiques(pool, judge, seed=seed, separate_aspects=False)
    fixed_order = Critiques(pool, judge, seed=seed, shuffle=False)
    records = dict.fromkeys(_SCORES, built.records) | {
        "single_call": rated_again(single_call, built.records, seed),
        "fixed_order": rated_again(fixed_order, built.records, seed),
    }
    pairs = {arm: comparisons(records[arm]) for arm in ("aspects", "single_call", "fixed_order")}
    pairs["overall"] = comparisons(built.records, by="overall")
    pairs["overall_as_given"] = comparisons(built.records, by="overall_as_given")
    weights = {arm: learnt(kept) for arm, (kept, _) in pairs.items()}
    weights["aspects_margin"] = learnt(pairs["aspects"][0], with_margin=True)
    rng = np.random.default_rng([46, seed, 1])
    styles = world.styles[np.argsort(rng.random((N_TEST, N_GENERATORS)), axis=1)[:, :4]]
    answers = styles + rng.standard_normal(styles.shape)
    samples = world.styles[0] + rng.standard_normal((N_TEST, COUNTS[-1], N_FEATURES))
    curve = expected_maximum(samples @ weights["aspects"], COUNTS, values=world.reward(samples))
    unbiased = Critiques(pool, RubricJudge(world, order_bias=0.0), seed=seed)
    orders = {"fixed": fixed_order, "shuffled": method, "single_call": single_call, "without_bias": unbiased}
    progress(f"ultrafeedback: {len(pairs['aspects'][0])} pairs, {100 * tens:.1f} % of critiques hit by the bug")
    metrics = {
        "accuracies": {arm: accuracy(w, answers, world.reward(answers)).tolist() for arm, w in weights.items()},
        "gains": (curve - curve[:, :1]).tolist(),
        "places": place_bias(orders, built.records[:N_ORDERS]),
        "bug_share": tens,
        "problems": built.problems,
        "dropped": {arm: dropped for arm, (_, dropped) in pairs.items()},
        "agreement": {arm: agreement(records[arm], world, field) for arm, field in _SCORES.items()},
        "tally": {arm: asdict(tally(records[arm])) for arm in ("aspects", "single_call", "fixed_order")},
    }
    if scale == "full":
        metrics["human"] = margin_on_human_choices(seed)
    return metrics


def human_choices() -> "tuple[list[dict[str, Any]], list[dict[str, Any]]] | None":
    """Pairs `prompt, chosen, rejected, margin, group` of two human sets, one to learn from and one to test on.

    The margin is the difference in choices won, of three each, on 0..1.
    """
    examples_file, votes_file = (
        real_data("fine_grained_qa/examples.jsonl.gz"),
        real_data("pandalm_human/pairs.jsonl.gz"),
    )
    if examples_file is None or votes_file is None:
        return None
    questions, votes = (
        [json.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines()]
        for file in (examples_file, votes_file)
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
    from penchant.encoders import Cached, MiniLM, encode_turns
    from penchant.turns import Turn

    encoder = Cached(MiniLM())
    try:
        learn, test = (
            np.subtract(
                *(
                    encode_turns(encoder, [Turn(one["prompt"], one[name]) for one in pairs])
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
    separate = _nested(runs, lambda run: of(run, "aspects") - of(run, "single_call"))
    repair = _nested(runs, lambda run: of(run, "aspects") - of(run, "overall"))
    curves = [np.mean(run["gains"], axis=0) for run in runs]
    order = [float(spearmanr(COUNTS, curve).statistic) for curve in curves]
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
            f"A2 {said[1]}: {mean('overall'):.4f} after the repair; closed beyond half of the gap {_shown(closed)}; "
            f"aspect means against repaired scores {_shown(repair)}",
            f"A3 {said[2]}: {_places_note(runs)} (half minus that: {_shown(halved)})",
            f"A4 {said[3]}: true gain of best of 16 over one {_shown(gain)}, least Spearman with n {min(order):.2f}",
            f"margins change the accuracy by {_shown(margin)}",
            f"one call for all aspects: {mean('single_call'):.4f}; {len(ASPECTS)} calls change it by "
            f"{_shown(separate)}; answers in a fixed order: {mean('fixed_order'):.4f}",
            _agreement_note(runs),
            *_tally_notes(runs),
            _human_note(human),
        ),
    )


def _places_note(runs: Sequence[Mapping[str, Any]]) -> str:
    mean = {name: float(np.mean([np.mean(run["places"][name]) for run in runs])) for name in runs[0]["places"]}

    def rates(what: str) -> str:
        names = {"fixed": "unshuffled", "shuffled": "shuffled", "single_call": "shuffled in one call"}
        shown = ", ".join(f"{100 * mean[f'{name}_{what}']:.0f} % {said}" for name, said in names.items())
        return f"{shown}, {100 * mean[f'without_bias_{what}']:.0f} % by a judge without order bias"

    return (
        f"another order changes the set of winners in {rates('changed')}, and leaves no winner in {rates('lost')}; "
        f"favour of the first place {mean['fixed_favour']:+.2f} unshuffled, {mean['shuffled_favour']:+.2f} shuffled"
    )


def _agreement_note(runs: list[dict[str, Any]]) -> str:
    """Agreement of each arm's scores with the truth, mean over seeds."""
    shown = []
    for arm in _SCORES:
        right, kappa, tied = (
            np.mean([np.mean(run["agreement"][arm][what]) for run in runs]) for what in ("accuracy", "kappa", "tied")
        )
        shown.append(f"{arm} {right:.3f}, {kappa:.2f} ({100 * tied:.0f} % tied)")
    separate = _nested(
        runs,
        lambda run: np.subtract(run["agreement"]["aspects"]["accuracy"], run["agreement"]["single_call"]["accuracy"]),
    )
    return (
        f"scores against true preferences (accuracy, Cohen's kappa): {'; '.join(shown)}; {len(ASPECTS)} calls instead "
        f"of one change the accuracy by {_shown(separate)}"
    )


def _tally_notes(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Distribution of the scores, and what was lost, summed over seeds."""

    def total(arm: str, what: str) -> int:
        return sum(run["tally"][arm][what] for run in runs)

    def shares(*names: str) -> str:
        counts: Counter[str] = Counter()
        for run in runs:
            for name in names:
                counts.update(run["tally"]["aspects"]["scores"].get(name, {}))
        ascending = sorted(counts, key=float)
        return ", ".join(f"{100 * counts[score] / counts.total():.0f} % {score}" for score in ascending)

    bug = 100 * np.mean([run["bug_share"] for run in runs])
    equal = sum(run["dropped"]["aspects"].get("equal scores", 0) for run in runs)
    unread, given_up = (
        [total(arm, what) for arm in ("aspects", "single_call")] for what in ("n_failed_attempts", "n_given_up")
    )
    return [
        f"aspect ratings: {shares(*ASPECTS)}; overall as given: {shares('overall_as_given')}; {bug:.1f} % of critiques "
        "were hit by the bug",
        f"of {total('aspects', 'n_answers'):,} answers {total('aspects', 'n_repeated')} repeat another; "
        f"{unread[0]} judgements could not be read and were asked again, {given_up[0]} were given up (in one call for "
        f"all aspects, critiques not counted: {unread[1]} and {given_up[1]}); "
        f"{equal:,} pairs dropped as equal",
    ]


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

    plot = Figure(figsize=(11, 3.6), layout="constrained")
    left, right = plot.subplots(1, 2)
    names = {
        "aspects": "mean of aspects",
        "single_call": "in one call",
        "overall": "overall, repaired",
        "overall_as_given": "overall, as given",
    }
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
