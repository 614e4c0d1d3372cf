"""Mixture modelling and routing: are kinds of people found in votes that name nobody, and does a wish find one?

Simulated people, real words. Responses are 8 numbers; a kind of people is a direction among them (length 4 logits),
drawn at random. 6,000 pairs are each judged by one random member of three kinds, and nothing says which. Prompts are
tasks; half of them are typical of a kind. Wishes are English sentences, six for each kind to learn from and four others
to be tested with, read by MiniLM, as the prompts are. 20 pairs of each kind come with a wish: these alone teach the
router. The test is 1,000 new pairs of each kind, with wishes in words never read before.

Arms, on the same pairs: a single reward (Bradley-Terry); an ensemble of five on resampled pairs, rewards averaged; the
static mixture (the same shares whoever asks); the mixture with its gate on prompts, which cannot know who asks; the
mixture with the router on wishes (MiCRo, after 5, 10 and 20 labelled pairs a kind); Hedge, which reads no wish but
weighs heads by 0, 5, 10 and 20 pairs of the kind; heads learnt with the kinds named, an upper reference; true tastes.
Placebo: one kind of people. Hard case: five kinds. Scale full also sweeps how much tastes have in common. Settings were
chosen on seeds 1000 and above.

Source:
    Shen et al. (2025), MiCRo: Mixture Modeling and Context-aware Routing for Personalized Preference Learning.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.special import comb, expit

from penchant.encoders import Apart, Attributes, Encoder, MiniLM
from penchant.evaluate.calibration import log_loss, reliability
from penchant.people import People
from penchant.preference import BradleyTerry
from penchant.preference.mixture import Mixture, irreducible_error
from penchant.records import Comparisons, canonical_json
from penchant.reproductions.verdict import Verdict
from penchant.statistics import Interval, paired_bootstrap
from penchant.turns import Turn

CLAIM = (
    "In votes that name nobody, a mixture of heads predicts better than a single reward; routed by wishes in words "
    "never read before, after 20 labelled pairs of each kind, it ranks better than the single reward and than the "
    "mixture without a router; and where all people are of one mind it is no worse."
)
METRIC = "accuracy on new pairs of three kinds of people, wishes in unseen words, 20 labelled pairs of each kind"
SEEDS = {"quick": 3, "full": 10}

Array = NDArray[np.float64]

DIM, STRENGTH, N_ITEMS, LABELLED = 8, 4.0, 3000, 20
COUNTS = (5, 10, 20)
COMMON = (0.0, 0.5, 0.9)  # share of a taste's square that all kinds have in common
WORST_OF_ONE_MIND = 0.01

WISHES: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "short": (
        (
            "Keep it short.",
            "Be brief, please.",
            "One or two sentences will do.",
            "I have no time to read much.",
            "Only the essentials.",
            "A concise answer, please.",
        ),
        ("Don't make it long.", "Say it in few words.", "Cut to the chase.", "Please be succinct."),
    ),
    "warm": (
        (
            "Be kind and encouraging.",
            "A friendly tone, please.",
            "Please be gentle with me.",
            "Cheer me up a little.",
            "Talk to me like a good friend.",
            "I need some warmth and support.",
        ),
        ("Be nice to me.", "Please sound caring.", "Use a loving, supportive voice.", "Comfort me."),
    ),
    "sourced": (
        (
            "Cite your sources.",
            "Give references for each claim.",
            "Tell me where the facts come from.",
            "Back it up with evidence.",
            "I want links to the studies.",
            "Support everything with citations.",
        ),
        ("Which papers say so?", "Add a bibliography.", "Show the evidence behind it.", "Quote the original sources."),
    ),
    "funny": (
        (
            "Make me laugh.",
            "Add some jokes.",
            "Be witty.",
            "I like humour in an answer.",
            "Make it entertaining and silly.",
            "Use puns and comedy.",
        ),
        ("Say something hilarious.", "Crack a joke or two.", "Keep it humorous.", "Be a comedian."),
    ),
    "stepwise": (
        (
            "Explain it step by step.",
            "Number the steps.",
            "Walk me through the procedure.",
            "Break it down into stages.",
            "First this, then that: in order, please.",
            "Give me a detailed recipe to follow.",
        ),
        (
            "Take me through it one step at a time.",
            "List every step in sequence.",
            "Show the procedure stage by stage.",
            "I want ordered instructions.",
        ),
    ),
}
TASKS = {
    "short": ("What is the capital of Peru?", "When does daylight saving time end?"),
    "warm": ("I failed my exam.", "My dog died yesterday."),
    "sourced": ("Does coffee harm the heart?", "Is nuclear power safe?"),
    "funny": ("Write a toast for a wedding.", "Tell me about penguins."),
    "stepwise": ("How do I change a tyre?", "How do I bake bread?"),
}
ANYBODY = ("Recommend a book.", "What should I cook tonight?", "Plan a weekend in Rome.", "Explain inflation.")


class Remembered:
    """An encoder that keeps in memory what it has read: all arms read the same responses, prompts and wishes."""

    def __init__(self, encoder: Encoder):
        self.encoder, self.name = encoder, encoder.name
        self._known: dict[str, Any] = {}

    def payload(self, turn: Turn) -> str:
        """What the inner encoder reads."""
        return str(getattr(self.encoder, "payload", Turn.text)(turn))

    def encode(self, payloads: Sequence[str]) -> Any:
        """Vectors of the payloads, float32[n, dim]."""
        new = sorted(set(payloads) - self._known.keys())
        self._known |= dict(zip(new, self.encoder.encode(new), strict=True))
        return np.stack([self._known[payload] for payload in payloads])


ENCODER = Apart(Remembered(Attributes([f"x{k}" for k in range(DIM)])), Remembered(MiniLM()))


@dataclass(frozen=True)
class Votes:
    """Votes, and of whom: hidden from whoever learns.

    Attributes:
        comparisons: with a prompt, and a context if it was asked for.
        kind: of the person behind each, [pairs].
        difference: chosen minus rejected, [pairs, DIM].
    """

    comparisons: Comparisons
    kind: NDArray[np.int64]
    difference: Array

    def known_by(self, users: Sequence[str]) -> Comparisons:
        """The same with a name for each row, and no contexts."""
        table = self.comparisons.table
        return Comparisons(
            table.set_column(table.schema.get_field_index("user"), "user", pa.array(users)).drop_columns(["context"])
        )


class World:
    """Kinds of people, what they judge, and how they ask for it.

    Args:
        seed: everything is drawn from it.
        n_kinds: of people.
        common: share of a taste's square that all have in common.
    """

    def __init__(self, seed: int, n_kinds: int, common: float = 0.0):
        self.rng = np.random.default_rng([29, seed, n_kinds, int(100 * common)])
        directions = self.rng.standard_normal((n_kinds + 1, DIM))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        tastes = np.sqrt(common) * directions[-1] + np.sqrt(1 - common) * directions[:-1]
        tastes *= STRENGTH / np.linalg.norm(tastes, axis=1, keepdims=True)
        self.names = tuple(WISHES)[:n_kinds]
        self.people = People(self.names, tastes, np.arange(n_kinds))
        self.items = self.rng.standard_normal((N_ITEMS, DIM)).astype(np.float32).astype(np.float64)
        self.texts = [canonical_json({f"x{k}": float(x) for k, x in enumerate(item)}) for item in self.items]

    def votes(self, kind: NDArray[np.int64], *, wishes: int | None = None) -> Votes:
        """One new pair for each person.

        Args:
            kind: of each person, [pairs].
            wishes: 0 to say what they want in the words to learn from, 1 in others; None to say nothing.
        """
        n, rng = len(kind), self.rng
        first = rng.integers(N_ITEMS, size=n)
        second = (first + rng.integers(1, N_ITEMS, size=n)) % N_ITEMS
        wins = np.zeros(n, dtype=bool)
        for number in range(len(self.names)):
            own = np.flatnonzero(kind == number)
            wins[own] = self.people.prefers_first(number, self.items[first[own]], self.items[second[own]], rng)
        chosen, rejected = np.where(wins, first, second), np.where(wins, second, first)
        columns: dict[str, Any] = {
            "prompt": [self._task(self.names[k]) for k in kind.tolist()],
            "chosen": [self.texts[item] for item in chosen],
            "rejected": [self.texts[item] for item in rejected],
        }
        if wishes is not None:
            columns["context"] = [str(rng.choice(WISHES[self.names[k]][wishes])) for k in kind.tolist()]
        return Votes(Comparisons(pa.table(columns)), kind, self.items[chosen] - self.items[rejected])

    def _task(self, name: str) -> str:
        typical = self.rng.random() < 0.5
        return str(self.rng.choice(TASKS[name] if typical else [*ANYBODY, *(t for n in self.names for t in TASKS[n])]))

    def anybody(self, n: int) -> NDArray[np.int64]:
        """Kinds of random people, [n]."""
        return self.rng.integers(len(self.names), size=n)

    def each(self, n: int) -> NDArray[np.int64]:
        """As many of every kind, [kinds * n]."""
        return np.repeat(np.arange(len(self.names)), n)


def measured(seed: int, n_kinds: int, n_pairs: int, n_test: int, *, common: float = 0.0) -> dict[str, Any]:
    """All arms in one world: accuracy, log-loss and calibration on the same new pairs."""
    world = World(seed, n_kinds, common)
    train, labelled = world.votes(world.anybody(n_pairs)), world.votes(world.each(LABELLED), wishes=0)
    test = world.votes(world.each(n_test), wishes=1)
    nobody = test.known_by([None] * len(test.kind))  # type: ignore[list-item]
    model = Mixture(encoder=ENCODER).fit(train.comparisons)
    ahead = _ahead(model, test)
    of_kind = np.arange(len(labelled.kind)) % LABELLED  # number of each labelled pair within its kind
    arms: dict[str, Array] = {
        "single": BradleyTerry(encoder=ENCODER).fit(train.comparisons).probability(nobody),
        "ensemble": _ensemble(train, nobody, world.rng),
        "static": expit(ahead) @ model.shares_,
        "gate": model.probability(nobody),
    }
    for count in (0, *COUNTS):
        few = labelled.comparisons.take(np.flatnonzero(of_kind < count))
        kinds = labelled.kind[of_kind < count]
        for number, name in enumerate(world.names):
            model.adapt(name, few.take(np.flatnonzero(kinds == number)))
        arms[f"hedge {count}"] = model.probability(test.known_by([world.names[k] for k in test.kind]))
        if count:
            arms[f"router {count}"] = model.route(few).probability(test.comparisons)
    arms["kinds named"] = _kinds_named(train, test, world)
    arms["true tastes"] = expit(np.einsum("nd,nd->n", test.difference, world.people.tastes[test.kind]))
    true = expit(test.difference @ world.people.tastes.T)
    surprise = {name: float(log_loss(p, np.ones(len(p))).mean()) for name, p in arms.items()}
    surprise["true mixture"] = float(log_loss(true.mean(axis=1), np.ones(len(true))).mean())
    logits = test.difference @ world.people.tastes.T
    share = np.full(n_kinds, 1 / n_kinds)
    return {
        "accuracy": {name: float(((p > 0.5) + 0.5 * (p == 0.5)).mean()) for name, p in arms.items()},
        "log_loss": surprise,
        "ece": {name: _calibration_error(arms[name], world.rng) for name in ("single", "static", f"router {LABELLED}")},
        "irreducible": float(np.mean([irreducible_error(share, one) for one in logits[:500]])),
        "n_heads": len(model.heads_),
        "cosines": _cosines(model.heads_ / model.scale_, world.people.tastes),
        "purity": adjusted_rand(train.kind, _likeliest(model, train)),
        "held_out": {str(number): gained for number, gained in model.held_out_.items()},
    }


def _ahead(model: Mixture, votes: Votes) -> Array:
    """How far the chosen response is ahead under each head, [pairs, heads]."""
    return np.asarray(votes.difference @ (model.heads_ / model.scale_).T)


def _likeliest(model: Mixture, votes: Votes) -> NDArray[np.int64]:
    return np.asarray(np.argmax(model.shares_ * expit(_ahead(model, votes)), axis=1))


def _ensemble(train: Votes, test: Comparisons, rng: np.random.Generator, n: int = 5) -> Array:
    """Bradley-Terry models of resampled pairs whose rewards are averaged."""
    logits = np.zeros(len(test))
    for _ in range(n):
        rows = rng.integers(len(train.kind), size=len(train.kind))
        model = BradleyTerry(encoder=ENCODER, l2=1.0, prior_precision=1.0).fit(train.comparisons.take(rows))
        p = model.probability(test)
        logits += np.log(p / (1 - p)) / n
    return np.asarray(expit(logits))


def _kinds_named(train: Votes, test: Votes, world: World) -> Array:
    """One Bradley-Terry model for each kind, from pairs that say whose they are."""
    p = np.zeros(len(test.kind))
    for number in range(len(world.names)):
        own, new = np.flatnonzero(train.kind == number), np.flatnonzero(test.kind == number)
        model = BradleyTerry(encoder=ENCODER, l2=1.0, prior_precision=1.0).fit(train.comparisons.take(own))
        p[new] = model.probability(test.comparisons.take(new))
    return p


def _cosines(heads: Array, tastes: Array) -> list[float]:
    """Cosine of each kind's taste with the head that is matched to it."""
    cosines = tastes @ heads.T / np.outer(np.linalg.norm(tastes, axis=1), np.linalg.norm(heads, axis=1))
    return [float(c) for c in cosines[linear_sum_assignment(-cosines)]]


def _calibration_error(probability: Array, rng: np.random.Generator) -> float:
    """Of pairs shown in a random order, so that outcomes of both kinds exist."""
    swap = rng.random(len(probability)) < 0.5
    return float(reliability(np.where(swap, 1 - probability, probability), ~swap).expected_error)


def adjusted_rand(first: NDArray[np.int64], second: NDArray[np.int64]) -> float:
    """Agreement of two groupings, 0 by chance, 1 the same (Hubert and Arabie 1985).

    >>> adjusted_rand(np.array([0, 0, 1, 1]), np.array([5, 5, 3, 3]))
    1.0
    """
    table = np.zeros((first.max() + 1, second.max() + 1))
    np.add.at(table, (first, second), 1)
    together = comb(table, 2).sum()
    rows, columns = comb(table.sum(axis=1), 2).sum(), comb(table.sum(axis=0), 2).sum()
    expected = rows * columns / comb(table.sum(), 2)
    most = (rows + columns) / 2
    return 1.0 if most == expected else float((together - expected) / (most - expected))


def run(seed: int, scale: str, progress: Callable[[str], None]) -> dict[str, Any]:
    """One seed: three kinds, the placebo and the hard case; at scale full also tastes with more in common."""
    n_pairs, n_test = (600, 50) if scale == "tiny" else (6000, 1000)
    found = {
        "three": measured(seed, 3, n_pairs, n_test),
        "one": measured(seed, 1, n_pairs, n_test),
        "five": measured(seed, 5, n_pairs, n_test),
    }
    if scale == "full":
        found["common"] = {
            str(common): found["three"] if common == 0 else measured(seed, 3, n_pairs, n_test, common=common)
            for common in COMMON
        }
    accuracy = found["three"]["accuracy"]
    progress(
        f"micro: {found['three']['n_heads']} heads; single {accuracy['single']:.3f}, router "
        f"{accuracy[f'router {LABELLED}']:.3f}, true tastes {accuracy['true tastes']:.3f}"
    )
    return found


def _paired(runs: list[dict[str, Any]], world: str, metric: str, ours: str, baseline: str) -> Interval:
    return paired_bootstrap(*([run[world][metric][arm] for run in runs] for arm in (ours, baseline)), seed=0)


def _mean(runs: list[dict[str, Any]], world: str, metric: str, arm: str) -> float:
    return float(np.mean([run[world][metric][arm] for run in runs]))


def _shown(interval: Interval, scale: float = 100.0) -> str:
    return f"{scale * interval.estimate:+.2f} [{scale * interval.low:+.2f}, {scale * interval.high:+.2f}]"


def verdict(runs: list[dict[str, Any]]) -> Verdict:
    """Holds if all parts do: lower log-loss, better ranking than single and static, no harm to people of one mind.

    Args:
        runs: what `run` gave for at least two seeds.
    """
    routed = f"router {LABELLED}"
    surprise = _paired(runs, "three", "log_loss", "static", "single")
    gated = _paired(runs, "three", "log_loss", "gate", "single")
    over = {arm: _paired(runs, "three", "accuracy", routed, arm) for arm in ("single", "static")}
    placebo = _paired(runs, "one", "accuracy", routed, "single")
    strongest = max(over, key=lambda arm: _mean(runs, "three", "accuracy", arm))
    heads = {world: [run[world]["n_heads"] for run in runs] for world in ("one", "three", "five")}
    listed = ", ".join(
        f"{arm} {100 * _mean(runs, 'three', 'accuracy', arm):.1f}" for arm in runs[0]["three"]["accuracy"]
    )
    hard = ", ".join(
        f"{arm} {100 * _mean(runs, 'five', 'accuracy', arm):.1f}"
        for arm in ("single", "static", routed, f"hedge {LABELLED}", "kinds named", "true tastes")
    )
    notes = [
        f"(1) log-loss without routing, mixture minus single, millinats: {_shown(surprise, 1000)} (both read responses "
        f"only), {_shown(gated, 1000)} with the gate on prompts; the theorem's gap, who knows the kind against the "
        f"best probability of each pair, is {1000 * np.mean([run['three']['irreducible'] for run in runs]):.0f}.",
        f"(2) accuracy, points, router after {LABELLED} labelled pairs of each kind minus single: "
        f"{_shown(over['single'])}, minus the static mixture: {_shown(over['static'])}.",
        f"(3) placebo, people of one mind, points: {_shown(placebo)} (must be above -1).",
        f"Three kinds, accuracy in %: {listed}.",
        f"Five kinds (hard), accuracy in %: {hard}; log-loss mixture minus single, millinats: "
        f"{_shown(_paired(runs, 'five', 'log_loss', 'static', 'single'), 1000)}.",
        f"Heads chosen by held-out likelihood: one mind {heads['one']}, three kinds {heads['three']}, five kinds "
        f"{heads['five']}.",
        f"Worst cosine of a head with its taste {np.mean([min(run['three']['cosines']) for run in runs]):.2f}; "
        f"calibration error single {_mean(runs, 'three', 'ece', 'single'):.3f}, static "
        f"{_mean(runs, 'three', 'ece', 'static'):.3f}, router {_mean(runs, 'three', 'ece', routed):.3f}; adjusted "
        f"Rand index of pairs and kinds {np.mean([run['three']['purity'] for run in runs]):.2f} (one vote says little "
        "of who cast it).",
    ]
    if "common" in runs[0]:
        worlds = [run["common"] for run in runs]
        swept = "; ".join(
            f"{common}: {_shown(_paired(worlds, common, 'log_loss', 'static', 'single'), 1000)}" for common in worlds[0]
        )
        notes.append(f"Log-loss static mixture minus single, millinats, by share of taste in common: {swept}.")
    holds = surprise.high < 0 and all(one.low > 0 for one in over.values()) and placebo.low > -WORST_OF_ONE_MIND
    return Verdict(
        _mean(runs, "three", "accuracy", routed),
        _mean(runs, "three", "accuracy", strongest),
        over[strongest],
        bool(holds),
        tuple(notes),
    )


def figure(runs: list[dict[str, Any]]) -> Any:
    """Accuracy by number of labelled pairs, for three and for five kinds of people."""
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(9, 4))
    for axes, world in zip(drawing.subplots(1, 2, sharey=True), ("three", "five"), strict=True):
        for arm, colour in (("true tastes", "0.3"), ("kinds named", "0.6"), ("static", "C2"), ("single", "C3")):
            axes.axhline(100 * _mean(runs, world, "accuracy", arm), color=colour, linewidth=1, label=arm)
        for arm, counts, colour in (("hedge", (0, *COUNTS), "C0"), ("router", COUNTS, "C1")):
            cells = np.array([[run[world]["accuracy"][f"{arm} {count}"] for count in counts] for run in runs])
            error = 196 * cells.std(axis=0, ddof=1) / np.sqrt(len(runs)) if len(runs) > 1 else None
            label = {"hedge": "Hedge on a person's pairs", "router": "router on wishes in unseen words"}[arm]
            axes.errorbar(counts, 100 * cells.mean(axis=0), yerr=error, fmt="o-", color=colour, label=label)
        axes.set_title(f"{world} kinds of (simulated) people")
        axes.set_xlabel("labelled pairs of each kind")
    drawing.axes[0].set_ylabel("accuracy on new pairs (%)")
    drawing.axes[0].legend(frameon=False, fontsize=8)
    return drawing
