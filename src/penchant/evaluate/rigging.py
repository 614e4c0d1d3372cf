"""Votes that look bought, biased or blind: people who favour a system against all others' votes, clickers, bursts.

Each person is held against the board of everybody else's order, three ways:

- `favours`, `disfavours`: how often a system won in their votes, against the chance of that. Honest people differ in
  taste too, so the chance is that of somebody whose liking of the system is drawn from how much people here differ:
  sum over k of w_k P(wins >= seen | each won with expit(logit p + spread z_k)), the inner one exact (Poisson binomial);
- `careless`: their votes follow the board as coin flips do, and not as votes of somebody who looks.

A person's smallest chance of the first two, corrected for the number of tests made of them, is their p-value; who is
named is decided by Benjamini and Hochberg's rule, so that of those named at most the share `false_discoveries` is
expected to be honest. Of the others, a mixture of people who look and of coins is fitted to the likelihood ratio of the
two; as many are named as careless as keep the mean chance of being honest at that share. The board and the spread of
taste are then fitted without them, and all are tested again, until the same are named; the first time they are fitted
without the oddest 15 %.

`bursts` are runs of votes, whoever they are from, in which a system wins more than it could: windows of 16, 32, ...
votes in order of time, by Hoeffding's bound, all windows at once. They need times, not names.

What this cannot see: who is careless, by few votes on systems that are close. A coin is told from somebody who looks at
logit^2 / 8 nats a vote, a tenth where two systems are typically 0.9 logits apart, and tastes blur that: of coins among
ten such systems it names 6 % by 20 votes each, 31 % by 40 and 72 % by 80 (benchmarks/rigging.py), and no other test of
winners could name many more at as few false names. Nor does it tell coins from a person who cares for none of what
others like. Nor can it see rigging by people with a handful of votes each, spread over time; and a system whose
strength has changed looks like a burst. A name here is a reason to look, not a verdict.

Source:
    Min, Pang, Du, Liu, Cheng and Lin (2025), Improving your model ranking on Chatbot Arena by vote rigging. Huang et
    al. (2025), Exploring and mitigating adversarial manipulation of voting-based leaderboards. Zhao et al. (2024),
    Challenges in trustworthy human evaluation of chatbots (apathetic and adversarial votes).
    Benjamini and Hochberg (1995), JRSS B 57. Efron (2004), Large-scale simultaneous hypothesis testing: the choice of a
    null hypothesis, JASA 99 (mean and deviation of the honest are those of the people here). Sun and Cai (2007), Oracle
    and adaptive compound decision rules for false discovery rate control, JASA 102 (who is named). Hoeffding (1956,
    1963): the binomial bounds sums of unequal chances.

>>> tail_chances(np.array([[0.0, 0.0]]), np.array([2]), 0.0)  # two even votes, both won: at least, and at most so many
(array([0.25]), array([1.]))
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, ndtr

from penchant.errors import DataError, SettingsError
from penchant.evaluate.ballots import Ballots, ballots
from penchant.preference.counts import Abilities, Counts, abilities
from penchant.records import Battles

Array = NDArray[np.float64]
Places = NDArray[np.int64]
Mask = NDArray[np.bool_]

_PRIOR = 0.1  # precision: whoever won or lost everything stays finite
_NODES = 21  # of the integral over tastes
_MOST_EXACT = 100  # votes; beyond, the exact sum would take the square of their number
_FEWEST = 8  # votes on one system: fewer can hardly look odd enough, and each test makes the others weaker
_FEWEST_FOR_SPREAD = 4
_FEWEST_FOR_CARELESS = 10
_MEDIAN_SQUARE = 0.4549  # of a standard normal number
_MOST_ROUNDS = 8
_MOST_MIXING = 300
_FEWEST_TO_FIT = 20  # people
_FIRST_LEFT_OUT = 0.15  # share of people
_REWEIGHTINGS, _HUBER = 5, 1.345  # the constant that loses 5 % where nothing is off
_MOST_BURSTS = 20
_SHORTEST_BURST = 16
_NUMBERS_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class Suspect:
    """A person whose votes stand out.

    Attributes:
        user: who.
        reason: favours, disfavours or careless.
        system: favoured or disfavoured; None if careless.
        n_votes: on that system, or all, ties left out.
        won: how many of those the system won, or followed the board.
        expected: how many that should have been.
        p_value: chance of something as odd of somebody honest, corrected for the systems tested, in [0, 1].
    """

    user: str
    reason: str
    system: str | None
    n_votes: int
    won: float
    expected: float
    p_value: float


@dataclass(frozen=True)
class Burst:
    """A run of votes in which a system won, or lost, more than it could.

    Attributes:
        system: its name.
        wins: whether it won too often, and not lost.
        first: row of the first of these battles.
        last: row of the last.
        n_votes: on this system between them, ties left out.
        won: how many of these it won.
        expected: how many that should have been.
        p_value: bound on the chance, corrected for all windows that were looked at.
    """

    system: str
    wins: bool
    first: int
    last: int
    n_votes: int
    won: int
    expected: float
    p_value: float


@dataclass(frozen=True)
class Suspicion:
    """What stands out among some votes.

    Attributes:
        people: those who stand out, the oddest first.
        bursts: likewise.
        votes: which votes are theirs, or went a burst's way, bool[votes that count].
        n_tested: people with enough votes to be tested.
        spread: how much people differ in how they like one system, standard deviation, logits.
        why_not: what could not be tested, and why; empty if everything was.
    """

    people: tuple[Suspect, ...]
    bursts: tuple[Burst, ...]
    votes: Mask
    n_tested: int
    spread: float
    why_not: str = ""


def suspicion(battles: Battles, *, false_discoveries: float = 0.03) -> Suspicion:
    """People and bursts that stand out.

    Args:
        battles: votes; people are tested where they are named, bursts where all votes have a time.
        false_discoveries: share of honest ones expected among those named, in (0, 1); for bursts, the chance that
            there is any without a cause.

    Raises:
        DataError: no vote counts.
        SettingsError: `false_discoveries` is not in (0, 1).
    """
    if not 0 < false_discoveries < 1:
        raise SettingsError(f"false_discoveries must lie between 0 and 1: got {false_discoveries!r}.")
    votes = ballots(battles)
    named = votes.person >= 0
    flagged = np.zeros(votes.n_votes, dtype=bool)
    people: tuple[Suspect, ...] = ()
    p_values, spread, order = np.full(len(votes.people), np.nan), 0.0, _order(votes, np.ones(votes.n_votes))
    if named.any():
        robust, looks = _robust_order(votes, order), np.ones(len(votes.people))
        _, p_values, _, looks = _people(votes, robust, flagged, looks, false_discoveries)
        if np.isfinite(p_values).any():
            # From a board that many have rigged nobody looks odd, so the first one is made without the oddest of all.
            flagged = named & (p_values <= np.nanquantile(p_values, _FIRST_LEFT_OUT))[votes.person]
        for _ in range(_MOST_ROUNDS):
            order = _order(votes, ~flagged)
            people, p_values, spread, looks = _people(votes, order, flagged, looks, false_discoveries)
            odd = {suspect.user for suspect in people}
            again = named & np.array([user in odd for user in votes.people])[votes.person]
            settled = bool((again == flagged).all())
            flagged = again
            if settled:
                break
    times = battles.table["time"]
    known = np.bincount(votes.person[named], minlength=len(p_values)) >= _FEWEST_FOR_CARELESS
    bursts: tuple[Burst, ...] = ()
    while not times.null_count and len(bursts) < _MOST_BURSTS:
        burst = _burst(votes, order.abilities, ~flagged, false_discoveries)
        if burst is None:
            break
        bursts = (*bursts, burst)
        # Whoever cast enough votes to be tested alone, and is not odd, happened to vote at that time.
        flagged = flagged | _went_its_way(votes, burst) & ~(named & known[votes.person])
        order = _order(votes, ~flagged)  # without it, as what a burst lifted makes all else look like a fall
    missing = [
        *(["people, as no vote names one"] if not named.any() else []),
        *(["bursts, as not every vote has a time"] if times.null_count else []),
    ]
    why_not = f"Not tested: {'; '.join(missing)}." if missing else ""
    n_tested = int(np.isfinite(p_values).sum())
    return Suspicion(people, bursts, flagged, n_tested, spread, why_not)


def without_suspects(battles: Battles, found: Suspicion) -> Battles:
    """The battles without the votes that stand out.

    Raises:
        DataError: `found` is of other battles.
    """
    votes = ballots(battles)
    if len(found.votes) != votes.n_votes:
        raise DataError(f"The suspicion is about {len(found.votes)} votes, but {votes.n_votes} of these battles count.")
    return votes.kept(~found.votes)


def _order(votes: Ballots, weights: Array | Mask) -> Abilities:
    """Abilities from the votes that preferred one, each with its weight."""
    weights = np.where(votes.result != 0.5, weights, 0.0)
    n = len(votes.systems)
    winner = np.where(votes.result == 1, votes.first * n + votes.second, votes.second * n + votes.first)
    table = np.bincount(winner, weights, n * n).reshape(n, n)
    return abilities(Counts(table.astype(np.float64), np.zeros((n, n))), l2=_PRIOR)


def _robust_order(votes: Ballots, order: Abilities) -> Abilities:
    """Abilities in which whoever's votes on a system are far off have less weight (Huber's, per person and system)."""
    rows = np.flatnonzero((votes.person >= 0) & (votes.result != 0.5))
    n = len(votes.systems)
    for _ in range(_REWEIGHTINGS):
        logit = order.abilities[votes.first[rows]] - order.abilities[votes.second[rows]]
        groups = _grouped(votes, logit, rows)
        p = expit(groups.logit)
        over, variance = groups.sums(groups.won - p), groups.sums(p * (1 - p))
        weight = np.ones(len(votes.people) * n)
        weight[groups.who * n + groups.system] = np.minimum(1.0, _HUBER * np.sqrt(variance) / np.abs(over))
        whose = votes.person[rows] * n
        weights = np.ones(votes.n_votes)
        weights[rows] = np.minimum(weight[whose + votes.first[rows]], weight[whose + votes.second[rows]])
        order = _order(votes, weights)
    return order


@dataclass(frozen=True)
class _Groups:
    """The decided votes of each person on each system, side by side.

    Attributes:
        who: person of each group, int64[groups].
        system: its place, int64[groups].
        start: where each group's votes begin, int64[groups + 1].
        logit: of the system's win in each, [votes of groups].
        won: whether it won, bool[votes of groups].
    """

    who: Places
    system: Places
    start: Places
    logit: Array
    won: Mask

    def sums(self, values: Array) -> Array:
        """Of values of each vote, group by group."""
        return np.add.reduceat(values, self.start[:-1]) if len(self.who) else np.empty(0)


def _grouped(votes: Ballots, logit: Array, rows: Places) -> _Groups:
    n = len(votes.systems)
    first, second, won = votes.first[rows], votes.second[rows], votes.result[rows] == 1
    key = np.concatenate([votes.person[rows] * n + first, votes.person[rows] * n + second])
    order = np.argsort(key, kind="stable")
    key = key[order]
    start = np.flatnonzero(np.diff(key, prepend=-1))
    return _Groups(
        key[start] // n,
        key[start] % n,
        np.append(start, len(key)),
        np.concatenate([logit, -logit])[order],
        np.concatenate([won, ~won])[order],
    )


def _people(
    votes: Ballots, order: Abilities, flagged: Mask, looks: Array, false_discoveries: float
) -> tuple[tuple[Suspect, ...], Array, float, Array]:
    """Who stands out, the p-value of everybody (NaN where there are too few votes), the spread of tastes, who looks."""
    rows = np.flatnonzero((votes.person >= 0) & (votes.result != 0.5))
    honest = np.ones(len(votes.people), dtype=bool)
    honest[votes.person[flagged]] = False
    logit = _with_own_votes(votes, order, rows, honest)
    groups = _grouped(votes, logit, rows)
    p = expit(groups.logit)
    sizes, expected, seen = np.diff(groups.start), groups.sums(p), groups.sums(groups.won.astype(np.float64))
    variance = groups.sums(p * (1 - p))
    counts = np.where(sizes >= _FEWEST_FOR_SPREAD, np.where(honest, looks, 0.0)[groups.who], 0.0)
    spread = _spread(seen - expected, variance, groups.sums((p * (1 - p)) ** 2), counts)
    n_people = len(votes.people)
    best, reasons = np.ones(n_people), [("", -1)] * n_people
    tested = np.flatnonzero(sizes >= _FEWEST)
    n_tests = np.bincount(groups.who[tested], minlength=n_people)
    at_least, at_most = _tails(groups, tested, seen, spread)
    for chances, reason in ((at_least, "favours"), (at_most, "disfavours")):
        for place in np.argsort(chances, kind="stable")[::-1]:  # the smallest is written last
            who = groups.who[tested[place]]
            if chances[place] <= best[who]:
                best[who], reasons[who] = chances[place], (reason, int(tested[place]))
    favour = np.minimum(1.0, np.where(n_tests > 0, best * 2 * n_tests, 1.0))  # each system, in both directions
    some = np.flatnonzero(n_tests > 0)
    favours = some[_benjamini_hochberg(favour[some], false_discoveries)]
    others = np.ones(n_people, dtype=bool)
    others[favours] = False
    clicks = _clicking(votes, logit, rows, groups, spread, others)
    found = []
    for who in favours:
        reason, at = reasons[who]
        system, p_value = votes.systems[groups.system[at]], float(favour[who])
        seen_here = (int(sizes[at]), float(seen[at]), float(expected[at]))
        found.append(Suspect(votes.people[who], reason, system, *seen_here, p_value))
    for who in _surest(clicks.chance_honest, false_discoveries):
        followed = (int(clicks.n_decided[who]), float(clicks.agreed[who]), float(clicks.expected[who]))
        found.append(Suspect(votes.people[who], "careless", None, *followed, float(clicks.p_value[who])))
    p_values = np.minimum(1.0, 2 * np.fmin(np.where(n_tests > 0, favour, np.nan), clicks.p_value))
    looks = np.where(np.isnan(clicks.chance_honest), 1.0, clicks.chance_honest)
    return tuple(sorted(found, key=lambda one: (one.p_value, one.user))), p_values, spread, looks


def _with_own_votes(votes: Ballots, order: Abilities, rows: Places, honest: Mask) -> Array:
    """Logits of the first system in some votes, on a board in which everybody's own votes have their part, [rows].

    Those whose votes were left out get theirs back, each alone and by one Newton step. Where votes are few, a board
    without somebody who was chosen for being odd would make anybody look odd.
    """
    first, second, who = votes.first[rows], votes.second[rows], votes.person[rows]
    logit = order.abilities[first] - order.abilities[second]
    out = np.flatnonzero(~honest)
    if len(out):
        number = np.full(len(honest), -1)
        number[out] = np.arange(len(out))
        some = np.flatnonzero(~honest[who])
        left_over = (votes.result[rows] - expit(logit))[some]
        n, place = len(order.abilities), number[who[some]]
        scores = np.bincount(place * n + first[some], left_over, len(out) * n)
        scores = scores - np.bincount(place * n + second[some], left_over, len(out) * n)
        moved = scores.reshape(len(out), n) @ order.covariance
        logit[some] += moved[place, first[some]] - moved[place, second[some]]
    return logit


def _spread(over: Array, variance: Array, opponents: Array, weight: Array) -> float:
    """Standard deviation of tastes, such that the median of squared scores is what it should be.

    The median hardly feels those whose votes are not honest, where a mean of squares would take them for taste; and who
    may be flipping coins has as much weight as chance that they are not. A taste for the system moves all of its votes,
    one for an opponent a vote or two.
    """
    some = (weight > 0) & (variance >= 0.5)
    over, variance, opponents, weight = over[some], variance[some], opponents[some], weight[some]
    if len(over) < _FEWEST_FOR_SPREAD:
        return 0.0
    low, high = 0.0, 3.0
    for _ in range(40):
        middle = (low + high) / 2
        is_large = over**2 > _MEDIAN_SQUARE * (variance + middle**2 * (variance**2 + opponents))
        is_low = weight[is_large].sum() > weight.sum() / 2
        low, high = (middle, high) if is_low else (low, middle)
    return low


def _tails(groups: _Groups, tested: Places, seen: Array, spread: float) -> tuple[Array, Array]:
    """`tail_chances` of some groups, those of equal size together, each [tested]."""
    sizes = np.diff(groups.start)[tested]
    at_least, at_most = np.ones(len(tested)), np.ones(len(tested))
    for size in np.unique(sizes):
        alike = np.flatnonzero(sizes == size)
        for some in np.array_split(alike, -(-len(alike) * int(size) * _NODES // _NUMBERS_AT_ONCE)):
            votes = groups.start[tested[some]][:, None] + np.arange(size)
            apart = spread * np.sqrt(1 + 1 / size)  # of the system and of so many opponents' mean
            at_least[some], at_most[some] = tail_chances(
                groups.logit[votes], seen[tested[some]].astype(np.int64), apart
            )
    return at_least, at_most


def tail_chances(logit: Array, won: Places, spread: float) -> tuple[Array, Array]:
    """Chance that people whose taste is drawn see a system win at least, and at most, so often.

    Args:
        logit: of a win in each vote for somebody of average taste, [people, votes].
        won: wins seen, int64[people].
        spread: standard deviation of tastes, logits; 0 for the exact Poisson binomial.

    Returns:
        Both chances, [people] each.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES) if spread > 0 else (np.zeros(1), np.ones(1))
    chance = expit(logit[:, None, :] + spread * nodes[None, :, None])
    n = logit.shape[1]
    if n > _MOST_EXACT:
        return _normal_tails(chance, won, weights / weights.sum())
    spread_out = np.zeros((*chance.shape[:2], n + 1))  # of the number of wins so far
    spread_out[..., 0] = 1.0
    for vote in range(n):
        p = chance[..., vote, None]
        spread_out[..., 1 : vote + 2] = spread_out[..., 1 : vote + 2] * (1 - p) + spread_out[..., : vote + 1] * p
        spread_out[..., 0] *= 1 - p[..., 0]
    mixed = np.einsum("pkn,k->pn", spread_out, weights / weights.sum())
    people = np.arange(len(won))
    # Each tail is summed from its own end, so that a small one is not what is left of 1.
    upper = np.cumsum(mixed[:, ::-1], axis=1)[:, ::-1][people, won]
    lower = np.cumsum(mixed, axis=1)[people, won]
    return np.minimum(upper, 1.0), np.minimum(lower, 1.0)


def _normal_tails(chance: Array, won: Places, weights: Array) -> tuple[Array, Array]:
    """The same of many votes, whose number of wins is close to normal; chances are [people, tastes, votes]."""
    mean, deviation = chance.sum(axis=2), np.sqrt(np.maximum((chance * (1 - chance)).sum(axis=2), 1e-12))
    upper = ndtr((mean - (won[:, None] - 0.5)) / deviation) @ weights
    lower = ndtr((won[:, None] + 0.5 - mean) / deviation) @ weights
    return np.minimum(upper, 1.0), np.minimum(lower, 1.0)


@dataclass(frozen=True)
class _Clicking:
    """How far each person's votes follow the board, and whether as coin flips would; NaN of whoever is not tested.

    Attributes:
        n_decided: votes, ties left out, [people].
        agreed: how many followed the board, [people].
        expected: how many should have, [people].
        p_value: chance that somebody who looks follows it so little, [people].
        chance_honest: that this is somebody who looks, given how many here seem not to, [people].
    """

    n_decided: Array
    agreed: Array
    expected: Array
    p_value: Array
    chance_honest: Array


def _clicking(votes: Ballots, logit: Array, rows: Places, groups: _Groups, spread: float, others: Mask) -> _Clicking:
    """Hold everybody against two explanations of their votes: the board with tastes, and coin flips.

    The sum over votes of (won - p) logit is what the likelihood ratio of the two hangs on.
    """
    n_people, who = len(votes.people), votes.person[rows]
    p, won = expit(logit), votes.result[rows] == 1

    def of_each(values: Array) -> Array:
        return np.asarray(np.bincount(who, values, n_people), dtype=np.float64)

    # A taste for a system moves all votes on it together.
    chance, against = expit(groups.logit), expit(-groups.logit)
    inner = groups.sums(chance * against * groups.logit)
    noise = groups.sums(chance * against * (against - chance) * groups.logit**2)
    variance = of_each(p * (1 - p) * logit**2) + spread**2 * np.bincount(groups.who, inner**2, n_people)
    # Who likes the better ones less agrees less, and is also less predictable.
    third = of_each(p * (1 - p) * (1 - 2 * p) * logit**3)
    third = third + 3 * spread**2 * np.bincount(groups.who, inner * noise, n_people)
    n_decided = of_each(np.ones(len(rows)))
    able = (n_decided >= _FEWEST_FOR_CARELESS) & (variance > 1e-9)
    deviation = np.sqrt(np.where(able, variance, 1.0))
    p_value, chance_honest = np.full(n_people, np.nan), np.full(n_people, np.nan)
    score = of_each((won - p) * logit) / deviation
    skew = third / deviation**3
    mean, error = of_each((0.5 - p) * logit) / deviation, np.sqrt(of_each(0.25 * logit**2)) / deviation
    some = np.flatnonzero(able & others)
    p_value[some], chance_honest[some] = _honest_or_not(score[some], skew[some], mean[some], error[some])
    agreed = of_each(won == (logit > 0))
    return _Clicking(n_decided, agreed, of_each(np.maximum(p, 1 - p)), p_value, chance_honest)


def _honest_or_not(score: Array, skew: Array, mean: Array, error: Array) -> tuple[Array, Array]:
    """Fit a mixture of people who look and people who flip coins.

    Args:
        score: by how much each one's votes went with the board, standardised for somebody who looks, [people].
        skew: of that, [people]: who looks goes against a clear difference rarely, but then by much.
        mean: of the score of a coin, [people].
        error: its standard deviation, [people].

    Returns:
        Chance that somebody who looks has so low a score, and that this is somebody who looks, [people] each.
    """
    # Cornish and Fisher's first term makes the scores of those who look normal; without it their long lower tail would
    # be taken for coins. Mean and deviation are those of the people here, as the model of tastes leaves things out.
    even = score - skew / 6 * (score**2 - 1)
    stretch = np.maximum(1 - skew / 3 * score, 0.1)
    coin = _density((score - mean) / error) / error
    centre, scale, share = 0.0, 1.0, 0.05
    looks = np.ones(len(score))
    for _ in range(_MOST_MIXING):
        honest = (1 - share) * _density((even - centre) / scale) / scale * stretch
        looks = honest / np.maximum(honest + share * coin, 1e-300)
        before, share = share, float((1 - looks).sum() / (len(looks) + _FEWEST_TO_FIT))  # of few people few are coins
        if looks.sum() >= _FEWEST_TO_FIT:
            centre = float(looks @ even / looks.sum())
            scale = max(float(np.sqrt(looks @ (even - centre) ** 2 / looks.sum())), 0.5)
        if abs(share - before) < 1e-7:
            break
    return np.asarray(ndtr((even - centre) / scale)), looks


def _density(z: Array) -> Array:
    return np.asarray(np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi))


def _surest(chance_honest: Array, level: float) -> Places:
    """As many people as can be named such that at most a share of them is expected to be honest."""
    order = np.argsort(chance_honest, kind="stable")  # NaN last
    order = order[: int(np.isfinite(chance_honest).sum())]
    under = np.flatnonzero(np.cumsum(chance_honest[order]) <= level * np.arange(1, len(order) + 1))
    return order[: under[-1] + 1] if len(under) else order[:0]


def _benjamini_hochberg(p_values: Array, level: float) -> Places:
    """Which of these are named."""
    order = np.argsort(p_values, kind="stable")
    under = np.flatnonzero(p_values[order] <= level * np.arange(1, len(order) + 1) / max(len(order), 1))
    return order[: under[-1] + 1] if len(under) else order[:0]


def _burst(votes: Ballots, theta: Array, kept: Mask, level: float) -> Burst | None:
    """The oddest window of 2^k votes on one system, each half over the last, drawn in to where the odd votes lie."""
    when = votes.battles.table["time"].to_numpy()[votes.rows]
    rows = np.flatnonzero(kept & (votes.result != 0.5))
    rows = rows[np.argsort(when[rows], kind="stable")]
    least, oddest, n_windows = 1.0, None, 0
    for system in range(len(votes.systems)):
        mine = rows[(votes.first[rows] == system) | (votes.second[rows] == system)]
        is_first = votes.first[mine] == system
        p = expit(np.where(is_first, 1.0, -1.0) * (theta[votes.first[mine]] - theta[votes.second[mine]]))
        won = (votes.result[mine] == 1) == is_first
        totals = np.stack([np.append(0.0, np.cumsum(one)) for one in (won, p)])
        size = _SHORTEST_BURST
        while size <= len(mine) // 2:
            start = np.arange(0, len(mine) - size + 1, size // 2)
            seen, expected = totals[:, start + size] - totals[:, start]
            n_windows += 2 * len(start)
            for wins in (True, False):
                bound = _hoeffding(seen if wins else size - seen, expected if wins else size - expected, size)
                at = int(np.argmin(bound))
                if bound[at] < least:
                    least, oddest = float(bound[at]), (system, wins, mine, won, p, int(start[at]), size)
            size *= 2
    if oddest is None or least * n_windows > level:
        return None
    system, wins, mine, won, p, begin, size = oddest
    begin, end = _drawn_in(won if wins else ~won, p if wins else 1 - p, begin, size)
    first, last = votes.rows[mine[begin]], votes.rows[mine[end - 1]]
    seen_inside, should = int(won[begin:end].sum()), float(p[begin:end].sum())
    name = votes.systems[system]
    return Burst(name, wins, int(first), int(last), end - begin, seen_inside, should, least * n_windows)


def _drawn_in(odd: Mask, p: Array, begin: int, size: int) -> tuple[int, int]:
    """The stretch about a window whose votes speak most for the window's own share of odd ones, first and one past."""
    share = float(np.clip(odd[begin : begin + size].mean(), 0.01, 0.99))
    low, high = max(0, begin - size), min(len(odd), begin + 2 * size)
    gain = np.where(odd[low:high], np.log(share / p[low:high]), np.log((1 - share) / (1 - p[low:high])))
    total = np.append(0.0, np.cumsum(gain))
    before = np.minimum.accumulate(total)
    end = int(np.argmax(total - before))
    return low + int(np.argmin(total[: end + 1])), low + max(end, 1)


def _hoeffding(seen: Array, expected: Array, n: int) -> Array:
    """Bound on the chance that n votes of unequal chances give so many wins: exp(-n KL(seen / n, expected / n))."""
    share, mean = np.clip(seen / n, 1e-12, 1 - 1e-12), np.clip(expected / n, 1e-12, 1 - 1e-12)
    apart = share * np.log(share / mean) + (1 - share) * np.log((1 - share) / (1 - mean))
    return np.where(share > mean, np.exp(-n * apart), 1.0)


def _went_its_way(votes: Ballots, burst: Burst) -> Mask:
    """Votes inside a burst that gave the system what it had too much of."""
    when = votes.battles.table["time"].to_numpy()
    inside = (when[votes.rows] >= when[burst.first]) & (when[votes.rows] <= when[burst.last])
    place = votes.systems.index(burst.system)
    won = np.where(votes.first == place, votes.result == 1, (votes.second == place) & (votes.result == 0))
    lost = np.where(votes.first == place, votes.result == 0, (votes.second == place) & (votes.result == 1))
    return np.asarray(inside & (won if burst.wins else lost))
