r"""Context-aware preference models: does a reward that is given the context turn its preference with it?

Simulated text, read through real sentence vectors (MiniLM). A prompt has two answers that differ in two opposed traits
(short and casual against long and formal); a criterion in words names one trait, one of twelve ways and at times by
what to avoid, and makes one answer right and, the other way round, the other. Nothing else decides, so that a model
that ignores the context is right on half of the rows and on no pair. Prompts never recur between training and test,
both directions of a pair stay on one side; test criteria use four of the twelve ways that training never saw. Two of
ten traits are unseen as well, and reported without claim.

Arms: context-free; the context pasted before the prompt, read as one text, trained without and with reversals; the
context apart (`ContextAware`) without and with reversals. Besides: the two-term bound on the error of two-step
predictions, checked on every test pair (one violation ends the run), and how well a person's unnamed criterion is
inferred from a few labels.

Settings are the model's defaults; none was chosen on these seeds. All arms are linear in frozen sentence vectors or in
products of two; the paper's pasted context is read by a fine-tuned language model, a stronger baseline than ours.

What we saw: given apart, the context turns the preference more often than pasted into the prompt (a); but criteria in
words never seen are read right hardly more often than by a coin (b). Half of these name what is to be avoided, a
quarter of those in training, and sentence vectors read "nothing long" much like "something long": what was learnt of
the wanted is then turned the wrong way. More pairs do not help against that: with 240 instead of 2,400 neither held, as
a few prompts set aside did not clearly show that contexts help, and the model left them out (`trust_` 0).

Source:
    Pitis, Xiao, Le Roux and Sordoni (2024), Improving Context-Aware Preference Modeling for Language Models. NeurIPS.

>>> world = World(np.random.default_rng(0))
>>> len(TRAITS), len(world.rows(3, world.prompts[:2], range(8), TRAIN_WAYS, flips=0.0)) # each judged both ways
(10, 6)
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from penchant.encoders import Encoder, MiniLM, remembered
from penchant.errors import DataError
from penchant.evaluate.paired import paired_accuracy
from penchant.records import Comparisons
from penchant.reproductions.verdict import Verdict
from penchant.statistics import nested_bootstrap

CLAIM = (
    "A reward model given the context apart, trained on reversed preferences, turns its preference with the context "
    "more often than one with the context pasted into the prompt, and is right for over 60 % of criteria worded anew."
)
METRIC = "paired accuracy: both directions of a pair right, prompts and wordings unseen"
SEEDS = {"quick": 2, "full": 3}

Array = NDArray[np.float64]
_N_PAIRS = {"quick": (100, 30), "full": (2400, 150)}  # to train on, to test on
_FLIPS = 0.05  # labels that are wrong in training
_DECIDED = 3.0  # logits by which a criterion decides
_N_PEOPLE, _N_LABELS, _N_HELD_OUT = 12, (0, 1, 2, 4, 8), 8
_N_UNSEEN_TRAITS = 2
_N_BOUND = 50  # pairs on which the bound is checked


class Pole(NamedTuple):
    """One end of a trait: how criteria call it, and what answers with it say of a topic."""

    names: tuple[str, str]
    sentences: tuple[str, str, str]


TRAITS: tuple[tuple[Pole, Pole], ...] = (
    (
        Pole(("short", "brief and to the point"), ("In short: just begin.", "One line: start today.", "Briefly: go.")),
        Pole(
            ("long", "detailed and thorough"),
            (
                "There are many stages to {}, and it pays to look at each of them, one after the other, in full depth.",
                "A complete account of {} has to cover preparation, first steps, common problems and what follows.",
                "Let us go through everything about {} at length, leaving out no detail that may matter later.",
            ),
        ),
    ),
    (
        Pole(
            ("formal", "written in a formal tone"),
            (
                "One is respectfully advised to approach {} with due diligence.",
                "It is hereby recommended that {} be undertaken in an orderly manner.",
                "Kindly note that {} requires proper conduct.",
            ),
        ),
        Pole(
            ("casual", "written like a chat with a friend"),
            ("Hey, {} is super fun, dude!", "Yeah, just mess around with {}, no biggie.", "LOL, {}? Go for it, mate!"),
        ),
    ),
    (
        Pole(
            ("technical", "full of technical terms"),
            (
                "Optimise the parameters of {} by iterative calibration and quantitative analysis.",
                "The underlying mechanism of {} involves feedback loops, thresholds and variance.",
                "Model {} as a stochastic process and estimate its coefficients.",
            ),
        ),
        Pole(
            ("simple", "easy enough for a child"),
            (
                "Think of {} as a little game that anybody can play.",
                "With {} you do one small easy thing, then the next.",
                "{} is like building with toy blocks.",
            ),
        ),
    ),
    (
        Pole(
            ("funny", "humorous"),
            (
                "My cat tried {} once and now demands royalties.",
                "Warning: {} may cause giggles and silly dances.",
                "Why did the chicken take up {}? To get a joke across.",
            ),
        ),
        Pole(
            ("serious", "earnest and sober"),
            (
                "{} is a grave matter that deserves sober reflection.",
                "Take {} seriously, for much depends on it.",
                "This is no laughing matter: {} demands earnest commitment.",
            ),
        ),
    ),
    (
        Pole(
            ("optimistic", "encouraging"),
            (
                "You will do wonderfully at {}, I am sure of it!",
                "Great things await you with {}, believe in yourself!",
                "Everyone can succeed at {}, and so will you!",
            ),
        ),
        Pole(
            ("cautious", "clear about the risks"),
            (
                "Beware: {} has dangers, and many people fail or get hurt.",
                "Consider the risks of {} before you lose money or health.",
                "Much can go wrong with {}, so be careful.",
            ),
        ),
    ),
    (
        Pole(
            ("concrete", "rich in examples"),
            (
                "For example, Maria spent ten minutes on {} each Monday at her kitchen table.",
                "Take Tom from Leeds: for {} he bought one notebook and a blue pen.",
                "For instance, last Tuesday a neighbour began {} with two borrowed tools.",
            ),
        ),
        Pole(
            ("abstract", "about general principles"),
            (
                "In essence, {} is about the balance of order and freedom.",
                "The general principle behind {} is that form follows purpose.",
                "At its core, {} expresses a universal idea of growth.",
            ),
        ),
    ),
    (
        Pole(
            ("warm", "full of empathy"),
            (
                "I understand how you feel about {}, and I am here for you.",
                "It is okay to be nervous about {}, dear, you are not alone.",
                "My heart goes out to you as you begin {}.",
            ),
        ),
        Pole(
            ("neutral", "matter-of-fact"),
            (
                "Facts on {}: it has a start, a middle and an end.",
                "Data on {} are as follows.",
                "Item: {}. Status: possible. Duration: variable.",
            ),
        ),
    ),
    (
        Pole(
            ("cheap", "good for a small budget"),
            (
                "You can do {} for free with things from the bin.",
                "Save every penny: {} needs nothing but second-hand bargains.",
                "A low budget is enough for {}, use coupons and discounts.",
            ),
        ),
        Pole(
            ("luxurious", "about the most expensive options"),
            (
                "Spare no expense on {}: hire a private butler and buy gold fittings.",
                "For {} choose the exclusive designer edition and first-class travel.",
                "Only the most expensive premium equipment will do for {}.",
            ),
        ),
    ),
    (
        Pole(
            ("traditional", "old-fashioned"),
            (
                "Do {} as our grandparents did, by hand and by the old customs.",
                "Ancient heritage teaches {} through ritual and patience.",
                "The time-honoured way of {} has not changed in centuries.",
            ),
        ),
        Pole(
            ("modern", "about the newest technology"),
            (
                "Use an app with artificial intelligence for {}.",
                "The latest gadgets and robots automate {} for you.",
                "Stream {} in virtual reality with a cutting-edge headset.",
            ),
        ),
    ),
    (
        Pole(
            ("sociable", "about doing it with others"),
            (
                "Join a club and share {} with friends and neighbours.",
                "Invite people over: {} is best done together in a group.",
                "Find a partner and a community for {}.",
            ),
        ),
        Pole(
            ("solitary", "about doing it alone"),
            (
                "Lock the door and do {} all by yourself in silence.",
                "Avoid company: {} is best done alone.",
                "Seek solitude for {}, without anybody around.",
            ),
        ),
    ),
)

# {0} is what is wanted, {1} the reverse, which is to be avoided.
_WAYS = (
    "The better answer is {0}.",
    "Choose the one that is {0}.",
    "I want something {0}.",
    "Judge by this alone: it should be {0}.",
    "This reader likes answers that are {0}.",
    "Which of the two is more {0}?",
    "Nothing {1}, please.",
    "This reader dislikes answers that are {1}.",
    "Prefer whatever is {0}.",
    "As {0} as possible.",
    "Avoid anything {1}.",
    "It must not be {1}.",
)
TRAIN_WAYS, TEST_WAYS = _WAYS[:8], _WAYS[8:]

_TOPICS = (  # noqa: SIM905
    "gardening,learning the guitar,baking bread,running,chess,painting,photography,learning Spanish,yoga,sailing,"
    "knitting,camping,stargazing,cycling,writing a novel,beekeeping,pottery,dancing,climbing,fishing,cooking,singing,"
    "keeping a diary,juggling"
).split(",")
_QUESTIONS = ("How do I begin with {}?", "Tell me about {}.", "I am thinking of {}. What do you say?")


class Prompt(NamedTuple):
    """What is asked, and about which topic."""

    text: str
    topic: str


@cache
def sentence_vectors() -> Encoder:
    """MiniLM, with all that it has read kept in memory."""
    return remembered(MiniLM())


class World:
    """Prompts, answers with traits, and criteria.

    Args:
        rng: everything is drawn from it.
    """

    def __init__(self, rng: np.random.Generator):
        self.rng = rng
        prompts = [Prompt(question.format(topic), topic) for topic in _TOPICS for question in _QUESTIONS]
        self.prompts = [prompts[i] for i in rng.permutation(len(prompts))]

    def pair(self, prompt: Prompt, traits: Sequence[int]) -> tuple[str, str]:
        """Two answers: the first has the first pole of one trait and the second of another, the other the reverse."""
        first = self._answer(prompt, ((traits[0], 0), (traits[1], 1)))
        return first, self._answer(prompt, ((traits[0], 1), (traits[1], 0)))

    def criterion(self, trait: int, pole: int, ways: Sequence[str]) -> str:
        """Words that make one pole of a trait right."""
        wanted, avoided = TRAITS[trait][pole], TRAITS[trait][1 - pole]
        name = int(self.rng.integers(2))
        return ways[int(self.rng.integers(len(ways)))].format(wanted.names[name], avoided.names[name])

    def rows(
        self, n: int, prompts: Sequence[Prompt], traits: Sequence[int], ways: Sequence[str], *, flips: float
    ) -> list[dict[str, str]]:
        """Pairs, each judged under two criteria that make opposite answers right."""
        found = []
        for _ in range(n):
            prompt = prompts[int(self.rng.integers(len(prompts)))]
            both = self.rng.choice(traits, 2, replace=False).tolist()
            sides = self.pair(prompt, both)
            for winner in self.rng.permutation(2).tolist():
                place = int(self.rng.integers(2))  # by which of the two traits
                pole = winner if place == 0 else 1 - winner
                context = self.criterion(both[place], pole, ways)
                right = winner if self.rng.random() >= flips else 1 - winner
                found.append(
                    {"prompt": prompt.text, "context": context, "chosen": sides[right], "rejected": sides[1 - right]}
                )
        return found

    def _answer(self, prompt: Prompt, has: Sequence[tuple[int, int]]) -> str:
        parts = []
        for trait, pole in self.rng.permutation(np.array(has)).tolist():
            sentences = TRAITS[trait][pole].sentences
            parts.append(sentences[int(self.rng.integers(len(sentences)))].format(prompt.topic))
        return " ".join(text[0].upper() + text[1:] for text in parts)


def run(seed: int, scale: str, progress: Callable[[str], None]) -> dict[str, Any]:
    """All arms in one world.

    Args:
        seed: of the world and of the models.
        scale: a key of `SEEDS`.
        progress: called with a line on what goes on.

    Returns:
        `paired`, `single`: arm -> right or not of each test pair (share, of its two rows); `prompts` of these pairs;
        `unseen_traits`: the same two means; `without_context` of ContextAware; `bound`: means of both error terms and
        of the error; `inferred`: labels -> accuracy of each person; `trust`.

    Raises:
        DataError: an error was greater than its bound: the code is wrong.
    """
    import torch  # noqa: F401 - before its threads are counted

    from penchant.parts import torch_threads

    with torch_threads(1):
        return _run(seed, scale, progress)


def _run(seed: int, scale: str, progress: Callable[[str], None]) -> dict[str, Any]:
    n_train, n_test = _N_PAIRS[scale]
    world = World(np.random.default_rng([12, seed]))
    order = world.rng.permutation(len(TRAITS)).tolist()
    seen, unseen = order[_N_UNSEEN_TRAITS:], order[:_N_UNSEEN_TRAITS]
    n_prompts = 3 * len(world.prompts) // 4
    train_prompts, test_prompts = world.prompts[:n_prompts], world.prompts[n_prompts:]
    rows = world.rows(n_train, train_prompts, seen, TRAIN_WAYS, flips=_FLIPS)
    test = _different(world.rows(n_test, test_prompts, seen, TEST_WAYS, flips=0.0))
    odd = _different(world.rows(n_test // 2, test_prompts, unseen, TEST_WAYS, flips=0.0))
    progress("context-aware: learning")
    arms, ours = _arms(Comparisons.from_rows(rows), seed)
    found = {name: paired_accuracy(test, ask(test)) for name, ask in arms.items()}
    on_unseen = {name: paired_accuracy(odd, ask(odd)) for name, ask in arms.items()}
    progress("context-aware: inferring criteria")
    return {
        "paired": {name: one.right.astype(float).tolist() for name, one in found.items()},
        "single": {name: one.single for name, one in found.items()},
        "prompts": list(found["apart, reversals"].prompts),
        "unseen_traits": {name: [one.single, one.paired] for name, one in on_unseen.items()},
        "without_context": paired_accuracy(test, ours.probability(_without_context(test))).single,
        "bound": _bound(ours, world, test_prompts, seen),
        "inferred": _inferred(ours, world, test_prompts, seen),
        "trust": ours.trust_,
    }


def _arms(rows: Comparisons, seed: int) -> tuple[dict[str, Callable[[Comparisons], Array]], Any]:
    """Every arm's P(chosen is preferred), and the model that is ours."""
    from penchant.preference import BradleyTerry, ContextAware

    encoder = sentence_vectors()
    one_way = rows.take(np.arange(0, len(rows), 2))

    def linear(shown: Comparisons) -> BradleyTerry:
        return BradleyTerry(encoder=encoder, prior_precision=1.0).fit(shown)

    free = linear(_without_context(rows))
    ours = ContextAware(encoder=encoder, seed=seed).fit(rows)
    arms = {
        "context-free": lambda asked: free.probability(_without_context(asked)),
        "pasted, no reversals": linear(one_way).probability,
        "pasted, reversals": linear(rows).probability,
        "apart, no reversals": ContextAware(encoder=encoder, seed=seed).fit(one_way).probability,
        "apart, reversals": ours.probability,
    }
    return arms, ours


def _without_context(rows: Comparisons) -> Comparisons:
    return Comparisons(rows.table.drop_columns(["context"]))


def _different(rows: list[dict[str, str]]) -> Comparisons:
    """Pairs that are there once: answers are drawn, and may come again."""
    pairs = {(row["prompt"], frozenset((row["chosen"], row["rejected"]))): n for n, row in enumerate(rows)}
    kept = {n for last in pairs.values() for n in (last - last % 2, last - last % 2 + 1)}
    return Comparisons.from_rows([row for n, row in enumerate(rows) if n in kept])


def _bound(model: Any, world: World, prompts: Sequence[Prompt], traits: Sequence[int]) -> dict[str, list[float]]:
    """Means of preference term, context term and error of two-step predictions, for a blind and for the true guess."""
    from penchant.preference.two_step import error_terms

    poles = [(trait, pole) for trait in traits for pole in (0, 1)]
    contexts = [world.criterion(trait, pole, TEST_WAYS) for trait, pole in poles]
    rows, true = [], []
    for _ in range(_N_BOUND):
        prompt = prompts[int(world.rng.integers(len(prompts)))]
        both = world.rng.choice(traits, 2, replace=False).tolist()
        first, second = world.pair(prompt, both)
        rows.append({"prompt": prompt.text, "chosen": first, "rejected": second})
        wins = [0 if trait not in both else (1 if (pole == 0) == (trait == both[0]) else -1) for trait, pole in poles]
        true.append(1 / (1 + np.exp(-_DECIDED * np.array(wins))))
    pairs, p_star = Comparisons.from_rows(rows), np.array(true).T
    q_star = world.rng.dirichlet(np.full(len(poles), 0.3), size=len(pairs)).T
    predicted = model.probability_in(pairs, contexts)
    found = {}
    for name, guess in (("any context alike", np.full_like(q_star, 1 / len(poles))), ("the true contexts", q_star)):
        terms = error_terms(guess, predicted, q_star, p_star)
        excess = float((terms.actual - terms.bound).max())
        if excess > 1e-9:
            raise DataError(f"A two-step prediction is wrong by {excess:.2g} more than its bound allows.")
        found[name] = [float(part.mean()) for part in (terms.preference, terms.context, terms.actual)]
    return found


def _inferred(model: Any, world: World, prompts: Sequence[Prompt], traits: Sequence[int]) -> dict[str, list[float]]:
    """Accuracy on people who go by one criterion and never say so, after so many labels, [people]."""
    people = []
    for number in range(_N_PEOPLE):
        trait, pole = int(world.rng.choice(traits)), int(world.rng.integers(2))
        rows = []
        for _ in range(max(_N_LABELS) + _N_HELD_OUT):
            other = int(world.rng.choice([one for one in traits if one != trait]))
            prompt = prompts[int(world.rng.integers(len(prompts)))]
            sides = world.pair(prompt, (trait, other))
            rows.append(
                {"prompt": prompt.text, "chosen": sides[pole], "rejected": sides[1 - pole], "user": f"p{number}"}
            )
        people.append(Comparisons.from_rows(rows))
    found: dict[str, list[float]] = {}
    for n in _N_LABELS:
        for own in people:
            held_out = own.take(np.arange(max(_N_LABELS), len(own)))
            model.adapt(own.users[0], own.take(np.arange(n)))
            found.setdefault(str(n), []).append(float((model.probability(held_out) > 0.5).mean()))
    return found


def verdict(runs: list[dict[str, Any]]) -> Verdict:
    """Holds if ours turns more often than the pasted context without reversals, and is right on over 60 % of rows.

    Args:
        runs: what `run` gave for each seed.
    """
    ours, pasted = "apart, reversals", "pasted, no reversals"
    paired = {name: float(np.mean(np.concatenate([run["paired"][name] for run in runs]))) for name in runs[0]["paired"]}
    single = {name: float(np.mean([run["single"][name] for run in runs])) for name in runs[0]["single"]}
    where = {
        "seeds": [number for number, run in enumerate(runs) for _ in run["prompts"]],
        "clusters": [prompt for run in runs for prompt in run["prompts"]],
    }
    values = {name: np.concatenate([run["paired"][name] for run in runs]) for name in paired}
    ahead = nested_bootstrap(values[ours], values[pasted], **where)  # type: ignore[arg-type]
    beside = nested_bootstrap(values[ours], values["pasted, reversals"], **where)  # type: ignore[arg-type]
    level = _by_seed([run["single"][ours] for run in runs])
    bound = {name: np.mean([run["bound"][name] for run in runs], axis=0) for name in runs[0]["bound"]}
    inferred = {n: float(np.mean([run["inferred"][n] for run in runs])) for n in runs[0]["inferred"]}
    odd = {name: np.mean([run["unseen_traits"][name] for run in runs], axis=0) for name in (ours, pasted)}
    notes = (
        "Paired accuracy (and of single rows): "
        + ", ".join(f"{name} {100 * paired[name]:.1f} % ({100 * single[name]:.1f} %)" for name in paired)
        + ".",
        f"(a) {ours} minus {pasted}: {_shown(ahead)}; minus pasted, reversals: {_shown(beside)}.",
        f"(b) single rows right with context {100 * level.estimate:.1f} % [{100 * level.low:.1f}, "
        f"{100 * level.high:.1f}], needed: 60; without context "
        f"{100 * float(np.mean([run['without_context'] for run in runs])):.1f} %.",
        "(c) the error of two-step predictions never exceeded its bound; mean preference term, context term and error: "
        + "; ".join(f"{name} {p:.3f}, {c:.3f}, {e:.3f}" for name, (p, c, e) in bound.items())
        + ".",
        "Accuracy on people who never say what they go by, after so many labels: "
        + ", ".join(f"{n}: {100 * share:.1f} %" for n, share in inferred.items())
        + ".",
        "Traits unseen in training, without claim, single and paired: "
        + ", ".join(f"{name} {100 * one:.1f} %, {100 * both:.1f} %" for name, (one, both) in odd.items())
        + ".",
        "Answers, criteria and people are simulated; sentence vectors are real.",
    )
    return Verdict(paired[ours], paired[pasted], ahead, bool(ahead.low > 0 and level.low > 0.6), notes)


def _by_seed(values: Sequence[float]) -> Any:
    from penchant.statistics import paired_bootstrap

    return paired_bootstrap(values)


def _shown(found: Any) -> str:
    return f"{100 * found.estimate:+.1f} points [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"


def figure(runs: list[dict[str, Any]]) -> Any:
    """Paired accuracy of every arm, and how accuracy grows with a person's labels.

    Args:
        runs: what `run` gave for each seed.
    """
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(9, 3.6))
    left, right = drawing.subplots(1, 2)
    names = list(runs[0]["paired"])
    for place, name in enumerate(reversed(names)):
        values = [100 * float(np.mean(run["paired"][name])) for run in runs]
        left.barh(place, np.mean(values), alpha=0.6)
        left.plot(values, [place] * len(values), "k.", markersize=4)
    left.set_yticks(range(len(names)), list(reversed(names)))
    left.set_xlim(0, 100)
    left.set_xlabel("both directions of a pair right, %")
    counts = list(runs[0]["inferred"])
    grown = [100 * float(np.mean([run["inferred"][n] for run in runs])) for n in counts]
    right.plot([int(n) for n in counts], grown, "o-")
    right.axhline(50, color="k", linewidth=0.8)
    right.set_xlabel("labels of somebody who never names the criterion")
    right.set_ylabel("accuracy, %")
    drawing.tight_layout()
    return drawing
