"""What's in my human feedback: are the reasons of votes found without guessing, named, and taken out again?

Simulated votes on made-up answers. Each answer has or lacks twelve attributes, each shown by a sentence of its own (one
of several wordings), between plain sentences about the question, in any order. Six answers to a question, ten pairs
of them. Whoever votes likes two of the attributes and dislikes a third, likes length a little, and errs at random
(Bradley-Terry). Nothing that learns is told of the attributes: it sees the answers' sentence vectors (MiniLM) and who
won. Whole questions are held out.

1. Five features and length reach at least 70 % of what a black box on the vectors knows beyond chance.
2. Of the twelve attributes, the best feature's correlation with each is higher with the sparse autoencoder than with as
   many principal components.
3. The features that stand for the three true reasons have weights of the right signs, intervals excluding zero.
4. Thirty people of two tastes, forty votes each: weights of their own predict better (area under the curve, people of
   all seeds resampled).
5. One of the liked attributes is called harmful. Turning round the labels that reward its feature changes the sign of
   the feature's weight, and right answers on pairs without it fall by less than a point.

Beside them stand a dense autoencoder (of the same code, nothing zeroed), the built-in phrases and length alone.
Settings, sentences and tastes were settled on seeds 1000 and 1001, which are not reported.

The fifth part does not hold here. The likely reason: a label that is turned round says the opposite of every other
reason of that vote as well, so that these are taught less. Leaving the same rows out costs less, and takes back less;
both stand in the notes.

Source:
    Movva, Milli, Min and Pierson (2025), What's In My Human Feedback? Learning Interpretable Descriptions of Preference
    Data.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penchant.encoders import MiniLM
from penchant.evaluate import phrases
from penchant.evaluate.describe import ByPhrases, description
from penchant.evaluate.explain import (
    BLACK_BOX,
    LENGTH,
    Parts,
    apart,
    area_gain,
    effects,
    explanation,
    personal,
    principal,
    relearnt,
    rewarded,
)
from penchant.preference.sparse_autoencoder import SparseAutoencoder
from penchant.reproductions.verdict import Verdict
from penchant.statistics import Interval, nested_bootstrap, paired_bootstrap
from penchant.style import words_of

CLAIM = (
    "A few features, found in response differences without guessing, hold most of what a black box knows of people's "
    "votes; they match the true reasons better than principal components, with the right signs; people's own weights "
    "and changed labels do what they should."
)
METRIC = "area under the curve beyond chance, five features and length over the black box, simulated votes"
SEEDS = {"quick": 2, "full": 5}
_QUESTIONS = {"quick": 100, "full": 400}

Floats = NDArray[np.float64]

_ANSWERS, _PAIRS = 6, 10  # to a question, and of these
_FEW = 5
_LEAST_SHARE = 0.7
_TASTE = {3: 1.5, 5: 1.5, 0: -1.5}  # logits: attribute -> liking
_LENGTH_TASTE = 0.02  # logits for a word
_PEOPLE, _VOTES_EACH = 30, 40
_OTHER_TASTE = {3: 1.5, 5: -1.5, 0: 1.5}  # of the second half of the people
_HARMFUL = 5  # the attribute whose reward is taken out

_ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "warns of danger": (
        "Warning: this is dangerous and you may get hurt.",
        "Beware of the danger, people get badly hurt.",
    ),
    "jokes": ("Haha, here is a funny joke to laugh about.", "It is a hilarious joke, you will laugh."),
    "apologises": ("I am very sorry and I apologise.", "My sincere apologies, I am sorry."),
    "cites research": ("Scientists confirmed it in a research study.", "According to research by scientists."),
    "speaks of money": ("It costs a lot of money, many dollars.", "You pay dollars and save money."),
    "speaks of food": ("Eat some bread and cheese for dinner.", "Cook a dinner of bread with cheese."),
    "declines": ("I refuse to answer this request.", "No, I decline the request and refuse."),
    "speaks of animals": ("My dog and my two cats agree.", "Ask the dog and the cats about it."),
    "speaks of religion": ("Pray to God and go to church.", "God and the church will tell you."),
    "speaks of computers": ("Write software code on the computer.", "The computer software runs the code."),
    "speaks of sport": ("The football team won the match.", "Play a football match with the team."),
    "speaks of music": ("Sing a song and play the guitar.", "Listen to the guitar music and the song."),
}
_TOPICS = ("the old bridge", "a rainy day", "my neighbour", "the long letter", "a blue chair", "the first lesson",
           "the quiet street", "a broken lamp", "the small garden", "the next visit")  # fmt: skip
_PLAIN = ("It has to do with {0}.", "Think about {0}.", "That depends on {0}.", "Start with {0}.")


@dataclass(frozen=True)
class World:
    """Answers, pairs of them, and what is true of both.

    Attributes:
        texts: the different answers.
        has: whether an answer has each attribute, [answers, attributes].
        first: place of each pair's one answer, [pairs].
        second: of the other, [pairs].
        question: of each pair, [pairs].
    """

    texts: Sequence[str]
    has: Floats
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    question: NDArray[np.int64]

    @property
    def differs(self) -> Floats:
        """Attributes of the first answer minus those of the second, [pairs, attributes]."""
        return np.asarray(self.has[self.first] - self.has[self.second])

    @property
    def length(self) -> Floats:
        """Words of the first answer minus those of the second, [pairs]."""
        words = np.array([len(words_of(text)) for text in self.texts], dtype=np.float64)
        return np.asarray(words[self.first] - words[self.second])

    def votes(self, taste: dict[int, float], rng: np.random.Generator) -> Floats:
        """1 where somebody of this taste prefers the first answer, else 0, [pairs]."""
        logits = self.differs[:, list(taste)] @ list(taste.values()) + _LENGTH_TASTE * self.length
        return np.asarray(rng.random(len(logits)) < 1 / (1 + np.exp(-logits)), dtype=np.float64)


def world(n_questions: int, rng: np.random.Generator) -> World:
    """Answers with attributes drawn by coin, in wordings and an order drawn anew each time."""
    wordings = list(_ATTRIBUTES.values())
    texts: list[str] = []
    has: list[Floats] = []
    first, second, question = [], [], []
    for number in range(n_questions):
        topic = _TOPICS[rng.integers(len(_TOPICS))]
        start = len(texts)
        for _ in range(_ANSWERS):
            present = rng.random(len(wordings)) < _PRESENT
            said = [wordings[k][rng.integers(len(wordings[k]))] for k in np.flatnonzero(present)]
            said += [_PLAIN[k].format(topic) for k in rng.permutation(len(_PLAIN))[:1]]
            texts.append(" ".join(said[k] for k in rng.permutation(len(said))))
            has.append(present.astype(np.float64))
        pairs = [(a, b) for a in range(_ANSWERS) for b in range(a)]
        for k in rng.permutation(len(pairs))[:_PAIRS]:
            a, b = pairs[k][:: 1 if rng.random() < 0.5 else -1]
            first.append(start + a)
            second.append(start + b)
            question.append(number)
    return World(texts, np.stack(has), np.array(first), np.array(second), np.array(question))


_PRESENT = 0.2  # share of answers that have an attribute


def matched(activations: Floats, truth: Floats) -> Floats:
    """Of each attribute the greatest size of a correlation with any feature, [attributes]."""
    return np.asarray(np.abs(_correlations(activations, truth)).max(axis=0))


def _correlations(activations: Floats, truth: Floats) -> Floats:
    """Of features with attributes, [features, attributes]; 0 for a feature that is always silent."""
    a, t = activations - activations.mean(axis=0), truth - truth.mean(axis=0)
    sizes = np.outer(np.linalg.norm(a, axis=0), np.linalg.norm(t, axis=0))
    return np.asarray(np.divide(a.T @ t, sizes, out=np.zeros_like(sizes), where=sizes > 0))


def run(seed: int, scale: str, progress: Callable[[str], None]) -> dict[str, Any]:
    """One seed: a world, its votes, every way to explain them, people, and changed labels."""
    rng = np.random.default_rng([48, seed])
    made = world(_QUESTIONS[scale], rng)
    vectors = MiniLM().encode(made.texts)
    progress(f"wimhf: {len(made.texts)} answers read")
    difference = (vectors[made.first] - vectors[made.second]).astype(np.float64)
    parts = apart(made.question, made.first, made.second, seed=seed)
    won = made.votes(_TASTE, rng)
    ways = _ways(difference, made, parts.learn, seed)
    found = {
        name: explanation(features, made.length, won, parts=parts, black_box=difference, counts=(_FEW,), seed=seed)
        for name, features in ways.items()
    }
    sparse = ways["sparse"]
    held_out = parts.held_out
    truth = made.differs
    areas = {name: one.auc[f"{_FEW} features"].estimate for name, one in found.items()}
    areas |= {name: found["sparse"].auc[name].estimate for name in (LENGTH, BLACK_BOX)}
    return {
        "areas": areas,
        "share": (areas["sparse"] - 0.5) / (areas[BLACK_BOX] - 0.5),
        "length_share": (areas[LENGTH] - 0.5) / (areas[BLACK_BOX] - 0.5),
        "matched": {name: matched(features[held_out], truth[held_out]).tolist() for name, features in ways.items()},
        "reasons": _reasons(sparse, truth, made, won, parts.learn),
        "named": _named(sparse, truth, made, parts.learn, seed),
        "people": _people(sparse, made, parts, rng, seed),
        "changed": _changed(sparse, difference, truth, made, won, parts, seed),
    }


def _ways(difference: Floats, made: World, learn: NDArray[np.bool_], seed: int) -> dict[str, Floats]:
    """Features of all pairs by every way to find them; only pairs to learn from are looked at, and no votes."""
    seen = difference[learn]
    sparse = SparseAutoencoder(seed=seed).fit(seen)
    dense = SparseAutoencoder(n_active=sparse.n_features, seed=seed).fit(seen)
    spread = np.sqrt((seen**2).mean(axis=0))
    measured = phrases.measured(made.texts)
    return {
        "sparse": sparse.activations(difference).astype(np.float64),
        "principal components": difference / spread @ principal(seen / spread, sparse.n_features).T,
        "dense": dense.activations(difference).astype(np.float64),
        "built-in phrases": np.sign(measured[made.first] - measured[made.second]).astype(np.float64),
    }


def _reasons(
    activations: Floats, truth: Floats, made: World, won: Floats, learn: NDArray[np.bool_]
) -> list[dict[str, Any]]:
    """Of each true reason: its feature, matched on pairs to learn from, and that feature's weight in all votes."""
    correlations = _correlations(activations[learn], truth[learn])
    found = []
    for attribute, liking in _TASTE.items():
        place = int(np.abs(correlations[:, attribute]).argmax())
        turned = activations[:, [place]] * np.sign(correlations[place, attribute])
        [effect] = effects(turned, made.length, won, clusters=made.question)
        ends = sorted((effect.coefficient.low * np.sign(liking), effect.coefficient.high * np.sign(liking)))
        found.append(
            {"attribute": list(_ATTRIBUTES)[attribute], "weight": effect.coefficient.estimate, "least": float(ends[0])}
        )
    return found


def _named(activations: Floats, truth: Floats, made: World, learn: NDArray[np.bool_], seed: int) -> dict[str, Any]:
    """Names of all features by built-in phrases: their fidelity, and how many are kept."""
    pairs = [(made.texts[a], made.texts[b]) for a, b in zip(made.first, made.second, strict=True)]
    describer = ByPhrases()
    names = [
        description(describer, pairs, column, clusters=made.question, n_features=activations.shape[1], seed=seed)
        for column in activations.T
    ]
    correlations = _correlations(activations[learn], truth[learn])
    own = {attribute: names[int(np.abs(correlations[:, k]).argmax())].text for k, attribute in enumerate(_ATTRIBUTES)}
    return {
        "fidelity": [name.fidelity.estimate for name in names],
        "kept": sum(name.kept for name in names),
        "dead": int((activations == 0).all(axis=0).sum()),
        "names": own,
    }


def _people(activations: Floats, made: World, parts: Parts, rng: np.random.Generator, seed: int) -> dict[str, Any]:
    """Two tastes, many people: what one model for all and one for each say of votes held out."""
    rows = rng.permutation(len(made.first))
    rows = np.resize(rows, _PEOPLE * _VOTES_EACH)
    person = np.repeat(np.arange(_PEOPLE), _VOTES_EACH)
    votes = [made.votes(taste, rng) for taste in (_TASTE, _OTHER_TASTE)]
    won = np.where(person % 2 == 0, votes[0][rows], votes[1][rows])
    own = replace(parts, learn=parts.learn[rows], held_out=parts.held_out[rows], groups=parts.groups[rows])
    found = personal(
        activations[rows], made.length[rows], won, [f"p{number:02}" for number in person], parts=own, seed=seed
    )
    return {
        "scores": found.scores.round(4).tolist(),
        "owners": list(found.owners),
        "share_worse": found.accuracy.share_worse.estimate,
        "subjective": int((found.spread > 0).sum()),
    }


def _changed(
    activations: Floats, difference: Floats, truth: Floats, made: World, won: Floats, parts: Parts, seed: int
) -> dict[str, Any]:
    """Turn round the labels that reward one attribute, by its feature alone, and learn again."""
    correlations = _correlations(activations[parts.learn], truth[parts.learn])
    place = int(np.abs(correlations[:, _HARMFUL]).argmax())
    harmful = activations[:, place] * np.sign(correlations[place, _HARMFUL])
    rows = rewarded(harmful, won)
    changed = won.copy()
    changed[rows] = 1 - changed[rows]
    [before], [after] = (
        effects(harmful[:, None], made.length, votes, clusters=made.question) for votes in (won, changed)
    )
    left_out = won.copy()
    left_out[rows] = 0.5
    effect, instead = (
        relearnt(difference, made.length, won, labels, harmful, parts=parts, seed=seed)
        for labels in (changed, left_out)
    )
    return {
        "rows": len(rows) / len(won),
        "before": [before.coefficient.low, before.coefficient.high],
        "after": [after.coefficient.low, after.coefficient.high],
        "target": [float(effect.target_before), float(effect.target_after)],
        "others": [effect.others.estimate, effect.others.low, effect.others.high],
        "left_out": {"target": float(instead.target_after), "others": instead.others.estimate},
    }


def verdict(runs: list[dict[str, Any]]) -> Verdict:
    """Holds if all five parts do, each by its interval over seeds (over seeds and people, for the fourth).

    Args:
        runs: what `run` gave for at least two seeds.
    """
    share = paired_bootstrap([run["share"] for run in runs])
    better = _over_attributes(runs, "principal components")
    reasons = [one for run in runs for one in run["reasons"]]
    people = area_gain(
        *(np.concatenate([run["people"]["scores"][way] for run in runs]) for way in (1, 0)),
        clusters=[f"{seed} {owner}" for seed, run in enumerate(runs) for owner in run["people"]["owners"]],
    )
    signs = [run["changed"]["before"][0] > 0 > run["changed"]["after"][1] for run in runs]
    others = paired_bootstrap([run["changed"]["others"][0] for run in runs])
    part = {
        "1": share.low >= _LEAST_SHARE,
        "2": better.low > 0,
        "3": all(one["least"] > 0 for one in reasons),
        "4": people.low > 0,
        "5": all(signs) and others.low > -0.01,
    }
    mean = {name: float(np.mean([run["areas"][name] for run in runs])) for name in runs[0]["areas"]}
    found = {name: float(np.mean([run["matched"][name] for run in runs])) for name in runs[0]["matched"]}
    named = [run["named"] for run in runs]

    target = np.mean([run["changed"]["target"] for run in runs], axis=0)
    left_out = {name: np.mean([run["changed"]["left_out"][name] for run in runs]) for name in ("target", "others")}

    def told(number: str) -> str:
        return "holds" if part[number] else "DOES NOT HOLD"

    return Verdict(
        ours=mean["sparse"] - 0.5,
        baseline=mean[BLACK_BOX] - 0.5,
        interval=paired_bootstrap([run["areas"]["sparse"] for run in runs], [run["areas"][BLACK_BOX] for run in runs]),
        holds=all(part.values()),
        notes=(
            f"1 {told('1')}: five features and length reach {_shown(share, 100)} % of the black box's area beyond "
            f"chance (at least {100 * _LEAST_SHARE:.0f} %); length alone "
            f"{100 * np.mean([run['length_share'] for run in runs]):.0f} %",
            f"2 {told('2')}: the best feature's correlation with a true attribute is {found['sparse']:.2f}, with "
            f"principal components {found['principal components']:.2f}: {_shown(better)}; dense autoencoder "
            f"{found['dense']:.2f}, built-in phrases {found['built-in phrases']:.2f}",
            f"3 {told('3')}: {sum(one['least'] > 0 for one in reasons)} of {len(reasons)} true reasons have a weight "
            "of the right sign, its interval excluding zero",
            f"4 {told('4')}: weights of one's own gain {_shown(people)} in area over people of two tastes; "
            f"{100 * np.mean([run['people']['share_worse'] for run in runs]):.0f} % are predicted worse",
            f"5 {told('5')}: {sum(signs)} of {len(runs)} weights change their sign when "
            f"{100 * np.mean([run['changed']['rows'] for run in runs]):.0f} % of the labels are turned round; accuracy "
            f"on pairs without it changes by {_shown(others, 100)} points, and the answer with less of it is put first "
            f"in {100 * target[1]:.0f} % instead of {100 * target[0]:.0f} %; leaving these rows out instead: "
            f"{100 * left_out['others']:+.1f} points, {100 * left_out['target']:.0f} %",
            "area under the curve: " + ", ".join(f"{name} {value:.3f}" for name, value in mean.items()),
            f"built-in phrases name {np.mean([one['kept'] for one in named]):.0f} of 32 features beyond chance, mean "
            f"r {np.mean([one['fidelity'] for one in named]):.2f}; {np.mean([one['dead'] for one in named]):.1f} dead",
        ),
    )


def _over_attributes(runs: list[dict[str, Any]], other: str) -> Interval:
    """Sparse minus another way, seeds resampled and attributes within them."""
    ours, theirs = ([run["matched"][name] for run in runs] for name in ("sparse", other))
    n = len(_ATTRIBUTES)
    return nested_bootstrap(
        np.ravel(ours),
        np.ravel(theirs),
        seeds=np.repeat(np.arange(len(runs)), n),
        clusters=np.tile(np.arange(n), len(runs)),
    )


def _shown(interval: Interval, scale: float = 1.0) -> str:
    first, low, high = (
        f"{scale * end:.{1 if scale == 100 else 2}f}" for end in (interval.estimate, interval.low, interval.high)
    )
    return f"{first} [{low}, {high}]"


def figure(runs: list[dict[str, Any]]) -> Any:
    """Left: the area of every way to explain. Right: how well each true attribute is matched."""
    from matplotlib.figure import Figure

    plot = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = plot.subplots(1, 2)
    names = [LENGTH, "built-in phrases", "dense", "principal components", "sparse", BLACK_BOX]
    for row, name in enumerate(names):
        values = [run["areas"][name] for run in runs]
        left.plot(values, [row] * len(values), "o", color="C0" if name == "sparse" else "0.55", alpha=0.7)
    counted = {name: f"{name}, {_FEW} and length" for name in names if name not in (LENGTH, BLACK_BOX)}
    left.set_yticks(range(len(names)), labels=[counted.get(name, name) for name in names])
    left.axvline(0.5, color="black", linewidth=0.8)
    left.set_xlabel("area under the curve, questions held out")
    for name, colour in (("principal components", "0.55"), ("sparse", "C0")):
        matches = np.array([run["matched"][name] for run in runs])
        right.plot(matches.T, np.arange(len(_ATTRIBUTES)), "o", color=colour, alpha=0.5)
        right.plot([], [], "o", color=colour, label=name)
    right.set_yticks(range(len(_ATTRIBUTES)), labels=list(_ATTRIBUTES))
    right.set_xlabel("correlation of the best feature with the true attribute")
    right.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return plot
