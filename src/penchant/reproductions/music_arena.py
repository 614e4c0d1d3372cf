"""A live music arena's statistics: do intervals cover, is its order better than Elo's, do its gate and pairing help?

All listeners are simulated (`listeners`): ten systems, four of which sing, 2,000 people, 8 % of votes find both bad.
Every world votes twice, once with 15 % of its people not listening. Claims, each at 300, 1,000 and 3,000 votes:

A. Without inattentive people the 95 % intervals cover the true centred scores in 90 to 98 % of cases.
B. With them, Kendall's tau of scores with the true order is above that of online Elo, K = 4 and K = 32.
C. With them, leaving out votes with less than 5 seconds of listening on a side lowers the error of scores.
D. Pairs drawn by what a vote would tell need fewer votes than uniform ones until tau is 0.9 (nobody is inattentive).

The true scores are those of infinitely many votes of attentive people, see `listeners.true_scores`. Claim D draws pairs
as the arena does: nine tenths by the expected shrinkage of variances, one tenth uniformly, always among the systems
that can answer the prompt. Settings of the worlds come from the paper or were chosen before any was run.

Reported besides: the paper's own fit (L2 of 1, intervals of 1.96 standard errors over votes), the raw win rate,
Davidson's model, and always the best pair. Where the development data is: how stable orders of real votes are under
split halves, and whether published snapshots can be read. That a public arena can be kept alive is the paper's first
claim and no matter of statistics.

Source:
    Kim et al. (2025), Music Arena: Live Evaluation for Text-to-Music, arXiv 2507.20900.
"""

import gzip
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from penchant.errors import DataError
from penchant.evaluate.leaderboard import CENTRE, POINTS, leaderboard
from penchant.evaluate.pairing import shrinkage
from penchant.evaluate.rating_baselines import davidson, online_elo, raw_win_rate
from penchant.preference.counts import Counts, abilities, optimum
from penchant.reproductions.listeners import (
    N_SYSTEMS,
    Votes,
    World,
    able,
    cast,
    true_scores,
    uniform_pairs,
    world,
)
from penchant.reproductions.real_data import real_data
from penchant.reproductions.verdict import Verdict
from penchant.statistics import Interval, paired_bootstrap

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = (
    "Arena scores have intervals that cover the truth in 90 to 98 % of cases and order systems better than online Elo; "
    "a rule of 5 seconds of listening lowers their error; and pairs drawn by what a vote tells need fewer votes"
)
METRIC = "Kendall tau with the true order, mean over 300, 1,000 and 3,000 simulated votes (baseline: the better Elo)"
SEEDS = {"quick": 3, "full": 10}

Array = NDArray[np.float64]
Places = NDArray[np.int64]
Rule = Callable[[Counts, Places, np.random.Generator], tuple[Places, Places]]

SIZES = (300, 1000, 3000)
STEPS = (4.0, 32.0)
GATE = 5.0  # seconds
ENOUGH = 0.9
COVERED = (0.90, 0.98)


@dataclass(frozen=True)
class Scale:
    """Sizes of one seed's run.

    Attributes:
        worlds: for claims A to C.
        raced: of these, worlds for claim D.
        races: by each rule in each such world.
        splits: random halves of each set of real votes.
        most: votes after which a race to tau 0.9 is given up, and counts as so many.
    """

    worlds: int
    raced: int
    races: int
    splits: int
    most: int


_SCALES = {"quick": Scale(40, 20, 2, 10, 1500), "full": Scale(20, 20, 10, 50, 3000)}
_LOOK = 30  # votes between two looks at the order, and between two choices of pairs
_LOOKS = 3  # in a row that tau must be high, so that one lucky look does not count
_UNIFORM = 0.1  # of informed pairs, as in the arena


def tau(scores: Array, truth: Array) -> float:
    """Kendall's tau of two orders without ties in the truth.

    >>> tau(np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0])).__round__(3)
    0.333
    """
    i, j = np.triu_indices(len(truth), 1)
    return float((np.sign(scores[i] - scores[j]) * np.sign(truth[i] - truth[j])).mean())


# Claims A to C


def board(votes: Votes) -> tuple[Array, Array, Array]:
    """Scores, lower and upper ends of their intervals, points, [systems] each; NaN for a system without votes."""
    found = np.full((3, N_SYSTEMS), np.nan)
    for row in leaderboard(votes.battles()).standings:
        found[:, int(row.system.removeprefix("system-"))] = row.score, row.ci_low, row.ci_high
    return found[0], found[1], found[2]


def _as_published(votes: Votes) -> tuple[Array, Array, Array]:
    """The paper's: L2 of 1, and 1.96 standard errors over votes, to which its bootstrap comes."""
    fit = abilities(votes.ordering().counts(), l2=1.0)
    half = 1.96 * np.sqrt(np.diag(fit.sandwich))
    low, high = (CENTRE + POINTS * (fit.abilities + side * half) for side in (-1, 1))
    return np.asarray(CENTRE + POINTS * fit.abilities), low, high


def _covering(found: tuple[Array, Array, Array], truth: Array) -> dict[str, float]:
    _, low, high = found
    return {"covered": float(((low <= truth) & (truth <= high)).mean()), "width": float((high - low).mean())}


def _error(scores: Array, truth: Array) -> float:
    return float(np.sqrt(((scores - truth) ** 2).mean()))


def _slope(scores: Array, truth: Array) -> float:
    """Points of the score for each point of the truth: below 1 where random votes draw systems together."""
    return float((scores - CENTRE) @ (truth - CENTRE) / ((truth - CENTRE) @ (truth - CENTRE)))


def measured(here: World, n: int, rng: np.random.Generator) -> dict[str, Any]:
    """What claims A to C need of one world and one number of votes.

    Args:
        here: a world with inattentive people.
        n: votes.
        rng: source of chance.
    """
    calm = here.attentive()
    truth, truth_calm = true_scores(here), true_scores(calm)
    listened = cast(calm, *uniform_pairs(able(n, rng), rng), rng)
    votes = cast(here, *uniform_pairs(able(n, rng), rng), rng)
    heard = np.asarray((votes.heard >= GATE).all(axis=1))
    scores, gated = board(votes)[0], board(votes.of(heard))[0]
    kept = votes.ordering()
    cast_votes = kept.first, kept.second, kept.result, N_SYSTEMS
    orders = {f"elo {step:g}": online_elo(*cast_votes, step=step) for step in STEPS}
    orders |= {"win rate": raw_win_rate(*cast_votes), "gated": gated, "davidson": _davidson(kept.counts())}
    return {
        "board": _covering(board(listened), truth_calm),
        "as published": _covering(_as_published(listened), truth_calm),
        "tau": {"arena": tau(scores, truth)} | {name: tau(order, truth) for name, order in orders.items()},
        "error": {"all": _error(scores, truth), "gated": _error(gated, truth)},
        "slope": {"all": _slope(scores, truth), "gated": _slope(gated, truth)},
        "filtered": {
            "inattentive": float(1 - heard[here.inattentive[votes.person]].mean()),
            "attentive": float(1 - heard[~here.inattentive[votes.person]].mean()),
        },
    }


def _davidson(counts: Counts) -> Array:
    try:
        return davidson(counts)[0]
    except DataError:  # a system lost all: Davidson's fit has no optimum, and a prior on it would be another model
        return abilities(counts, l2=1.0).abilities


# Claim D


def _uniform(_: Counts, among: Places, rng: np.random.Generator) -> tuple[Places, Places]:
    return uniform_pairs(among, rng)


def _informed(counts: Counts, among: Places, rng: np.random.Generator) -> tuple[Places, Places]:
    """Drawn as the arena draws."""
    gain = shrinkage(counts)
    first, second = np.zeros_like(among), np.zeros_like(among)
    for able_to in np.unique(among):
        rows = np.flatnonzero(among == able_to)
        i, j = np.triu_indices(int(able_to), 1)
        chance = (1 - _UNIFORM) * gain[i, j] / gain[i, j].sum() + _UNIFORM / len(i)
        pair = rng.choice(len(i), len(rows), p=chance)
        first[rows], second[rows] = i[pair], j[pair]
    return first, second


def _best(counts: Counts, among: Places, _: np.random.Generator) -> tuple[Places, Places]:
    """Always the pairs that tell most, the next best with each vote until the next choice."""
    gain = shrinkage(counts)
    first, second = np.zeros_like(among), np.zeros_like(among)
    for able_to in np.unique(among):
        rows = np.flatnonzero(among == able_to)
        i, j = np.triu_indices(int(able_to), 1)
        pair = np.resize(np.argsort(-gain[i, j]), len(rows))
        first[rows], second[rows] = i[pair], j[pair]
    return first, second


RULES: Mapping[str, Rule] = {"uniform": _uniform, "informed": _informed, "best pair": _best}


def votes_needed(here: World, truth: Array, rule: Rule, most: int, rng: np.random.Generator) -> int:
    """Votes until tau is at least 0.9, and stays so for three looks; `most` where it never does.

    Args:
        here: a world.
        truth: its true scores, [systems].
        rule: draws pairs, from the votes so far and how many systems can answer each prompt.
        most: give up after so many.
        rng: source of chance.
    """
    in_a_row = 0
    for n, counts in enumerate(_growing(here, rule, most // _LOOK, rng), 1):
        order, _ = optimum(counts.score, l2=0.01)
        in_a_row = in_a_row + 1 if tau(order, truth) >= ENOUGH else 0
        if in_a_row == _LOOKS:
            return (n - _LOOKS + 1) * _LOOK
    return most


def variance(here: World, rule: Rule, rng: np.random.Generator) -> float:
    """Sum of the abilities' variances after 900 votes, which is what informed pairs are to lower; squared logits."""
    *_, counts = _growing(here, rule, 900 // _LOOK, rng)
    return float(np.trace(abilities(counts, l2=1.0).covariance))


def _growing(here: World, rule: Rule, n_looks: int, rng: np.random.Generator) -> Iterator[Counts]:
    """Counts of all votes so far, at each look."""
    counts = Counts(*np.zeros((2, N_SYSTEMS, N_SYSTEMS)))
    for _ in range(n_looks):
        new = cast(here, *rule(counts, able(_LOOK, rng), rng), rng).ordering().counts()
        counts = Counts(counts.wins + new.wins, counts.ties + new.ties)
        yield counts


# Real votes and published boards


def real_votes(name: str) -> list[tuple[str, str, str, float]]:
    """Question, both systems and result of each real vote; none where the development data is not there."""
    file = {"mtbench_votes": "votes.jsonl.gz", "pandalm_human": "pairs.jsonl.gz"}[name]
    path = real_data(f"{name}/{file}")
    if path is None:
        return []
    rows = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    if name == "mtbench_votes":
        result = {"model_a": 1.0, "model_b": 0.0, "tie": 0.5}
        return [(str(row["question_id"]), row["model_a"], row["model_b"], result[row["winner"]]) for row in rows]
    coded = {0: 0.5, 1: 1.0, 2: 0.0}
    return [
        (row["instruction"] + row["input"], *row["cmp_key"].split("_"), coded[row[f"annotator{person}"]])
        for row in rows
        for person in (1, 2, 3)
    ]


def split_halves(rows: Sequence[tuple[str, str, str, float]], n_splits: int, rng: np.random.Generator) -> list[float]:
    """Kendall's tau between the orders of two random halves of the questions, split by split."""
    questions, question = np.unique([row[0] for row in rows], return_inverse=True)
    names, codes = np.unique([row[1:3] for row in rows], return_inverse=True)
    i, j = codes.reshape(-1, 2).T
    result = np.array([row[3] for row in rows])
    found = []
    for _ in range(n_splits):
        is_first = rng.permutation(len(questions))[question] < len(questions) // 2
        halves = []
        for half in (is_first, ~is_first):
            won = np.zeros((len(names), len(names)))
            np.add.at(won, (i[half], j[half]), result[half])
            np.add.at(won, (j[half], i[half]), 1 - result[half])
            halves.append(optimum(won, l2=0.01)[0])
        found.append(tau(*halves))
    return found


def interval_ends(text: str) -> tuple[float, float]:
    """How far an interval reaches up and down, in either style of the published boards.

    Raises:
        DataError: it is neither.

    >>> interval_ends("+72.9 / -62.9"), interval_ends("±109")
    ((72.9, 62.9), (109.0, 109.0))
    """
    number = r"(\d+(?:\.\d+)?)"
    if even := re.fullmatch(rf"±\s*{number}", text.strip()):
        return float(even[1]), float(even[1])
    if sides := re.fullmatch(rf"\+{number}\s*/\s*-{number}", text.strip()):
        return float(sides[1]), float(sides[2])
    raise DataError(f"{text!r} is no interval of a published board: expected `+72.9 / -62.9` or `±109`.")


def published_boards(rows: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """Read published snapshots, and check that ranks are those of the scores.

    Args:
        rows: as published, all columns text, with `snapshot` and `kind`.

    Returns:
        `systems`, `boards`, `even` (intervals alike on both sides) and `fewest` votes of a system.

    Raises:
        DataError: a row cannot be read, or a rank does not follow from the scores.
    """
    boards: dict[tuple[str, str], list[tuple[int, float]]] = {}
    n_even, votes = 0, []
    for number, row in enumerate(rows, 1):
        try:
            up, down = interval_ends(row["95% CI"])
            place = int(row["Rank"]), float(row["Arena Score"])
            votes.append(int(row["# Votes"]))
        except (ValueError, KeyError) as error:
            raise DataError(f"Published boards, row {number} of {len(rows)} cannot be read: {error}") from error
        n_even += up == down
        boards.setdefault((row["snapshot"], row["kind"]), []).append(place)
    for (snapshot, kind), places in boards.items():
        by_score = sorted(places, key=lambda place: -place[1])
        if [rank for rank, _ in by_score] != list(range(1, len(places) + 1)):
            raise DataError(f"Published board {kind} of {snapshot}: ranks {by_score} do not follow the scores.")
    return {"systems": len(rows), "boards": len(boards), "even": n_even, "fewest": min(votes)}


def _published() -> dict[str, Any] | None:
    path = real_data("music_arena/leaderboards.jsonl")
    if path is None:
        return None
    return published_boards([json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()])


# The run and its verdict


def run(seed: int, scale: str, progress: Callable[[str], None]) -> dict[str, Any]:
    """Some worlds, and the real votes in other halves.

    Args:
        seed: of all of it.
        scale: "quick" or "full".
        progress: called with what goes on.

    Returns:
        `worlds`: what `measured` gives for each size; `needed`: votes to tau 0.9 by each rule, [worlds, races];
        `most`: where races were given up; `variances`: after 900 votes by each rule, [worlds]; `halves`: tau between
        halves of real votes; `published`: what `published_boards` gives.
    """
    sizes = _SCALES[scale]
    rng = np.random.default_rng([47, seed])
    worlds = [world(rng) for _ in range(sizes.worlds)]
    progress(f"{len(worlds)} simulated worlds vote")
    found = [{str(n): measured(here, n, rng) for n in SIZES} for here in worlds]
    progress(f"races to tau {ENOUGH:g} in {sizes.raced} of them")
    raced = [(here.attentive(), true_scores(here.attentive())) for here in worlds[: sizes.raced]]
    needed = {
        name: [[votes_needed(*one, rule, sizes.most, rng) for _ in range(sizes.races)] for one in raced]
        for name, rule in RULES.items()
    }
    real = {name: real_votes(name) for name in ("mtbench_votes", "pandalm_human")}
    return {
        "worlds": found,
        "needed": needed,
        "most": sizes.most,
        "variances": {name: [variance(here, rule, rng) for here, _ in raced] for name, rule in RULES.items()},
        "halves": {name: split_halves(rows, sizes.splits, rng) for name, rows in real.items() if rows},
        "published": _published(),
    }


def _column(runs: list[dict[str, Any]], n: int, *names: str) -> Array:
    """One number of each world, [worlds]."""
    values = []
    for run in runs:
        for found in run["worlds"]:
            value = found[str(n)]
            for name in names:
                value = value[name]
            values.append(value)
    return np.array(values, dtype=np.float64)


def _all_sizes(runs: list[dict[str, Any]], *names: str) -> Array:
    return np.asarray(np.mean([_column(runs, n, *names) for n in SIZES], axis=0))


def _needed(runs: list[dict[str, Any]], rule: str) -> Array:
    """Votes of each race, [worlds, races]."""
    return np.concatenate([np.asarray(run["needed"][rule], dtype=np.float64) for run in runs])


def _saved(runs: list[dict[str, Any]], rule: str) -> Interval:
    """Votes that a rule saves over uniform pairs; worlds are resampled, with the mean of their races."""
    return paired_bootstrap(_needed(runs, "uniform").mean(axis=1), _needed(runs, rule).mean(axis=1))


def verdict(runs: list[dict[str, Any]]) -> Verdict:
    """Holds if all four parts do, each by its interval over worlds, at every number of votes.

    Args:
        runs: what `run` gave for each seed.
    """
    covered = {n: paired_bootstrap(_column(runs, n, "board", "covered")) for n in SIZES}
    over_elo = {
        (n, step): paired_bootstrap(_column(runs, n, "tau", "arena"), _column(runs, n, "tau", f"elo {step:g}"))
        for step in STEPS
        for n in SIZES
    }
    gate = {n: paired_bootstrap(_column(runs, n, "error", "all"), _column(runs, n, "error", "gated")) for n in SIZES}
    saved = _saved(runs, "informed")
    parts = {
        "A": all(COVERED[0] <= found.low and found.high <= COVERED[1] for found in covered.values()),
        "B": all(found.low > 0 for found in over_elo.values()),
        "C": all(found.low > 0 for found in gate.values()),
        "D": saved.low > 0,
    }
    arena, elo = (_all_sizes(runs, "tau", name) for name in ("arena", f"elo {_better_elo(runs):g}"))
    said = {part: f"{part} {'holds' if holds else 'does not hold'} (simulated)" for part, holds in parts.items()}
    notes = (
        f"{said['A']}: 95 % intervals cover " + _listed(covered, lambda one: _shown(one, 100, 1, " %")) + ".",
        *(
            f"{said['B']}: tau minus that of online Elo with K = {step:g}: "
            + _listed({n: over_elo[n, step] for n in SIZES}, lambda one: _shown(one, 1, 4))
            + "."
            for step in STEPS
        ),
        f"{said['C']}: points of error that 5 seconds of listening save: "
        + _listed(gate, lambda one: _shown(one, 1, 2))
        + f"; {_shown(paired_bootstrap(_all_sizes(runs, 'error', 'all'), _all_sizes(runs, 'error', 'gated')), 1, 2)} "
        "over all.",
        f"{said['D']}: informed pairs save {_shown(saved, 1, 0)} votes on the way to tau {ENOUGH:g}; {_races(runs)}.",
        *_context(runs),
    )
    return Verdict(float(arena.mean()), float(elo.mean()), paired_bootstrap(arena, elo), all(parts.values()), notes)


def _better_elo(runs: list[dict[str, Any]]) -> float:
    return max(STEPS, key=lambda step: _all_sizes(runs, "tau", f"elo {step:g}").mean())


def _listed(found: Mapping[int, Interval], shown: Callable[[Interval], str]) -> str:
    return ", ".join(f"{shown(one)} at {n:,} votes" for n, one in found.items())


def _shown(found: Interval, scale: float, digits: int, unit: str = "") -> str:
    estimate, low, high = (f"{scale * value:.{digits}f}" for value in (found.estimate, found.low, found.high))
    return f"{estimate}{unit} [{low}, {high}]"


def _races(runs: list[dict[str, Any]]) -> str:
    most = runs[0]["most"]
    rules = {rule: _needed(runs, rule) for rule in RULES}
    mean = ", ".join(f"{rule} {votes.mean():.0f}" for rule, votes in rules.items())
    late = ", ".join(f"{100 * np.mean(votes >= most):.0f} %" for votes in rules.values())
    spread = {rule: np.mean([run["variances"][rule] for run in runs]) for rule in RULES}
    left = ", ".join(f"{rule} {100 * spread[rule] / spread['uniform']:.1f} %" for rule in RULES if rule != "uniform")
    return (
        f"mean votes: {mean} (the best pair saves {_shown(_saved(runs, 'best pair'), 1, 0)}); {late} of the races had "
        f"not arrived after {most:,} and count as so many; after 900 votes the sum of variances is, of that with "
        f"uniform pairs, {left}"
    )


def _context(runs: list[dict[str, Any]]) -> tuple[str, ...]:
    """What else a reader has to know: the paper's own intervals, other orders, what the gate drops, real data."""
    plain = {n: paired_bootstrap(_column(runs, n, "as published", "covered")) for n in SIZES}
    names = ("arena", "gated", "davidson", "win rate", *(f"elo {step:g}" for step in STEPS))
    taus = ", ".join(f"{name} {_all_sizes(runs, 'tau', name).mean():.3f}" for name in names)
    dropped = {kind: 100 * _all_sizes(runs, "filtered", kind).mean() for kind in ("inattentive", "attentive")}
    errors = ", ".join(
        f"{_column(runs, n, 'error', 'all').mean():.1f} to {_column(runs, n, 'error', 'gated').mean():.1f} at {n:,}"
        for n in SIZES
    )
    slopes = {votes: _column(runs, SIZES[-1], "slope", votes).mean() for votes in ("all", "gated")}
    notes = [
        "Simulated: the paper's own intervals (L2 of 1, over votes) cover "
        + _listed(plain, lambda one: _shown(one, 100, 1, " %"))
        + ".",
        f"Simulated: mean tau over all numbers of votes: {taus}.",
        f"Simulated: the rule on listening drops {dropped['inattentive']:.0f} % of inattentive and "
        f"{dropped['attentive']:.0f} % of attentive votes; error in points goes from {errors} votes.",
        f"Simulated: at 3,000 votes a point of the truth is {slopes['all']:.2f} points of the score with all votes and "
        f"{slopes['gated']:.2f} with the rule: random votes draw scores together, which shrinks what chance adds, too.",
    ]
    for name in runs[0]["halves"]:
        halves = np.concatenate([run["halves"][name] for run in runs])
        low, high = np.quantile(halves, [0.025, 0.975])
        notes.append(
            f"Real votes, {name}: tau between the orders of {len(halves)} random halves of the questions is "
            f"{halves.mean():.2f} (95 % of splits in [{low:.2f}, {high:.2f}])."
        )
    if published := runs[0]["published"]:
        notes.append(
            f"Published snapshots: all {published['systems']} rows of {published['boards']} boards were read, "
            f"{published['even']} with even intervals, {published['systems'] - published['even']} with two ends; ranks "
            f"follow the scores; the fewest votes of a system are {published['fewest']}."
        )
    return tuple(notes)


def figure(runs: list[dict[str, Any]]) -> "Figure":
    """Coverage, order, error and votes needed, all of simulated listeners."""
    from matplotlib.figure import Figure

    plot = Figure(figsize=(11, 7.2), layout="constrained")
    plot.suptitle("Simulated listeners")
    (cover, order), (error, race) = plot.subplots(2, 2)
    cover.axhspan(*(100 * end for end in COVERED), color="tab:green", alpha=0.12, label="claimed")
    _lines(cover, runs, {"board": ("board", "covered"), "as published": ("as published", "covered")}, 100)
    cover.set(title="A  how often 95 % intervals cover", ylabel="% of systems and worlds")
    names = {
        "arena score": "arena",
        "win rate": "win rate",
        **{f"Elo, K = {step:g}": f"elo {step:g}" for step in STEPS},
    }
    _lines(order, runs, {label: ("tau", name) for label, name in names.items()})
    order.set(title="B  order of systems", ylabel="Kendall tau with the truth")
    _lines(error, runs, {"all votes": ("error", "all"), "5 s heard of each": ("error", "gated")})
    error.set(title="C  error of scores", ylabel="points", ylim=(0, None))
    for rule in RULES:
        votes = np.sort(_needed(runs, rule), axis=None)
        there = votes[votes < runs[0]["most"]]
        race.step(there, np.arange(1, len(there) + 1) / len(votes), where="post", label=rule)
    race.set(
        title=f"D  races that reached tau of {ENOUGH:g}",
        xlabel="votes",
        ylabel="share of races",
        xlim=(0, runs[0]["most"]),
    )
    for axes in (cover, order, error):
        axes.set(xscale="log", xlabel="votes", xticks=SIZES)
        axes.set_xticks([], minor=True)
        axes.set_xticklabels([f"{n:,}" for n in SIZES])
    for axes in (cover, order, error, race):
        axes.legend(fontsize="small")
    return plot


def _lines(axes: Any, runs: list[dict[str, Any]], lines: Mapping[str, tuple[str, ...]], scale: float = 1.0) -> None:
    for place, (label, names) in enumerate(lines.items()):
        found = [paired_bootstrap(scale * _column(runs, n, *names)) for n in SIZES]
        middle = np.array([one.estimate for one in found])
        ends = np.abs(np.array([[one.low, one.high] for one in found]).T - middle)
        axes.errorbar(np.array(SIZES) * 1.03**place, middle, ends, marker="o", capsize=3, label=label)
