"""Several linear rewards for people of whom nobody says who wants what: their likelihood, its maximum, and how many.

Everybody has one of K heads, and which is not known: log P(a person's votes) = log sum_k share_k prod_i sigmoid(z_ik).
The gradient of its logarithm is what an E step gives (Fisher's identity): each head's Bradley-Terry gradient, with each
person counted by how likely they have that head. So a maximum is a fixed point of EM, but nothing larger than one
number for each item and head is ever summed over people: shards of them, here or elsewhere, add up to the same fit.

Source:
    Shen et al. (2025), MiCRo, section 3 (the mixture); Dempster, Laird and Rubin (1977), and Fisher's identity as in
    Salakhutdinov, Roweis and Ghahramani (2003), Optimization with EM and expectation-conjugate-gradient.

>>> of_two_votes = np.log([[0.9, 0.2], [0.8, 0.1]])  # by one person, under two heads that half of all people have each
>>> np.exp(people_log_likelihood(np.log([0.5, 0.5]), of_two_votes, np.array([0, 0]))).round(2).tolist()
[0.37]
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import ClusterError, kmeans2
from scipy.optimize import minimize
from scipy.special import log_softmax, logsumexp

from penchant.preference.newton import newton
from penchant.preference.pooled import SURELY, Pooled, apart, set_aside
from penchant.preference.shards import Shards
from penchant.preference.votes import Places, Votes, first_and_place, rows_by

Array = NDArray[np.float64]

MOST_HEADS = 6
_WIDTH = 2.0  # logits: how decided a head is about a typical pair at the start; narrow ones merge
_FIRST_STEPS, _FINALISTS, _STEPS = 15, 2, 60  # of the search; the crowd that is chosen goes on from there
_FEWEST_PEOPLE = 5  # below it nobody is set aside whole
_WORTH = 1e-3  # nats a pair; what gains less is not worth a head, however sure
_PRECISIONS = (
    1.0,
    0.1,
    10.0,
    100.0,
    1000.0,
)  # of heads around everybody's weights; starts are compared under the first
_ITEMS_AT_ONCE = 16_384


@dataclass(frozen=True)
class Crowd:
    """Heads, and how many people have each.

    Attributes:
        weights: logits per standard deviation of each feature, [heads, dim].
        log_shares: log of the share of people, [heads].
    """

    weights: Array
    log_shares: Array

    def __len__(self) -> int:
        """How many heads."""
        return len(self.weights)


# The likelihood ---------------------------------------------------------------------------------------------------


def pair_terms(scores: Array, votes: Votes) -> tuple[Array, Array]:
    """Log-likelihood of each pair under each head, and its derivative by how far the chosen response is ahead.

    A soft label of strength s counts as s votes one way and 1 - s the other, by one head.

    Args:
        scores: reward of each response by each head, logits, [responses, heads].
        votes: pairs of them.

    Returns:
        Nats, [pairs, heads], and nats per logit, [pairs, heads].
    """
    strength = votes.strength[:, None].astype(np.float64)
    by_head = np.ascontiguousarray(scores.T)  # a head's numbers side by side: twice as fast for a few heads
    ahead = (by_head[:, votes.chosen] - by_head[:, votes.rejected] - votes.margin).T
    small = np.exp(-np.abs(ahead))  # never overflows, and neither side's probability is 1 minus the other's
    wins, loses = np.where(ahead >= 0, 1.0, small), np.where(ahead >= 0, small, 1.0)
    log_likelihood = np.minimum(ahead, 0.0) - np.log1p(small) - (1 - strength) * ahead
    return log_likelihood, (strength * loses - (1 - strength) * wins) / (1 + small)


def people_log_likelihood(log_prior: Array, log_likelihood: Array, person: Places) -> Array:
    """Log-likelihood of all votes of each person, whichever head is theirs, nats, [people].

    Args:
        log_prior: log share of each head, [heads], or for each person their own, [people, heads].
        log_likelihood: of each pair under each head, [pairs, heads].
        person: whose pair it is, from 0, sorted, nobody left out, [pairs].
    """
    return np.asarray(logsumexp(_joint(log_prior, log_likelihood, person), axis=1))


def _joint(log_prior: Array, log_likelihood: Array, person: Places) -> Array:
    first = np.flatnonzero(np.diff(person, prepend=-1))
    return np.asarray(log_prior + np.add.reduceat(log_likelihood, first, axis=0))


def part_sums(shared: Mapping[str, Any], votes: Votes) -> dict[str, Any]:
    """What some people add to the log-likelihood and to its gradient; see `penchant.preference.shards`.

    Args:
        shared: `scores`, [responses, heads], and `log_prior`, [heads] or [people, heads].
        votes: of these people, sorted by person.

    Returns:
        `log_likelihood`, nats; `members`, expected people of each head, [heads]; `pull`, derivative by each response's
        reward, nats per logit, [responses, heads].
    """
    log_likelihood, residual = pair_terms(shared["scores"], votes)
    joint = _joint(shared["log_prior"], log_likelihood, votes.user)
    highest = joint.max(axis=1, keepdims=True)
    belief = np.exp(joint - highest)
    total = belief.sum(axis=1, keepdims=True)
    belief /= total
    n_items = len(shared["scores"])
    pull = [
        np.bincount(votes.chosen, one, n_items) - np.bincount(votes.rejected, one, n_items)
        for one in belief.T[:, votes.user] * residual.T
    ]
    return {
        "log_likelihood": (highest + np.log(total)).sum(),
        "members": belief.sum(axis=0),
        "pull": np.stack(pull, axis=1),
    }


# Its maximum ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Prior:
    """Heads are drawn to everybody's weights, and no head is without people.

    Attributes:
        centre: everybody's weights, [dim].
        precision: of a head's weights around them.
        scale: standard deviation of each feature, [dim].
        moment: mean of difference differenceᵀ over pairs, features in standard deviations, [dim, dim].
    """

    centre: Array
    precision: float
    scale: Array
    moment: Array

    def stretched(self, n_heads: int, n_pairs: int) -> Array:
        """A root of about the inverse curvature of a head, per pair: in its coordinates all directions are alike."""
        values, vectors = np.linalg.eigh(self.moment)
        curvature = _CURVATURE * np.maximum(values, 0.0) / n_heads + self.precision / n_pairs
        return np.asarray((vectors / np.sqrt(curvature)) @ vectors.T)


def moment(votes: Votes, scale: Array) -> Array:
    """Mean of difference differenceᵀ over pairs, features in standard deviations, [dim, dim]."""
    difference = votes.difference / scale
    return np.asarray(difference.T @ difference / len(votes))


_CURVATURE = 0.2  # sigmoid' of a typical pair; at most 1/4


def maximum(
    shards: Shards,
    begin: Crowd,
    prior: Prior,
    *,
    log_prior: Array | None = None,
    tolerance: float = 1e-6,
    max_steps: int = 500,
) -> Crowd:
    """The crowd near `begin` that explains all votes best, by L-BFGS.

    Args:
        shards: votes of everybody.
        begin: where to start; which maximum is found depends on it.
        prior: of the heads. Shares have Dirichlet's: one person more in each head.
        log_prior: of the heads for each person, [people, heads], one shard only; shares then stay as they are.
        tolerance: stop when no derivative, per pair, is larger.
        max_steps: most steps.
    """
    vectors, n_pairs, n_people = shards.votes.vectors, len(shards.votes), shards.n_people
    stretch = prior.stretched(len(begin), n_pairs)
    n_heads, dim = begin.weights.shape

    def crowd_of(point: Array) -> Crowd:
        away = point[: n_heads * dim].reshape(n_heads, dim) @ stretch
        return Crowd(prior.centre + away, log_softmax(point[n_heads * dim :]))

    def loss(point: Array) -> tuple[float, Array]:
        crowd = crowd_of(point)
        away = crowd.weights - prior.centre
        shared = {
            "scores": scores_of(vectors, crowd.weights / prior.scale),
            "log_prior": crowd.log_shares if log_prior is None else log_prior,
        }
        sums = shards.total(part_sums, shared)
        slope = _pulled(vectors, sums["pull"]) / prior.scale - prior.precision * away
        value = float(sums["log_likelihood"]) - 0.5 * prior.precision * (away**2).sum()
        if log_prior is None:
            value += crowd.log_shares.sum()
            share_slope = sums["members"] + 1 - (n_people + n_heads) * np.exp(crowd.log_shares)
        else:
            share_slope = np.zeros(n_heads)
        return -value / n_pairs, -np.concatenate([(slope @ stretch).ravel(), share_slope]) / n_pairs

    away = np.linalg.solve(stretch, (begin.weights - prior.centre).T).T
    options = {"maxiter": max_steps, "maxfun": 2 * max_steps, "gtol": tolerance, "ftol": 1e-13, "maxcor": 20}
    start = np.concatenate([away.ravel(), begin.log_shares])
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options=options)
    return crowd_of(found.x)


def scores_of(vectors: NDArray[Any], weights: Array) -> Array:
    """Reward of each response by each head, logits, [responses, heads]; vectors may be millions.

    Args:
        vectors: of the responses, float32 or float64[responses, dim].
        weights: logits for one unit of a feature, [heads, dim].
    """
    return np.concatenate([block @ weights.T for block in _blocks(vectors)])


def _pulled(vectors: NDArray[Any], pull: Array) -> Array:
    """Gradient by the weights from that by the rewards, [heads, dim]."""
    total = np.zeros((pull.shape[1], vectors.shape[1]))
    for place, block in enumerate(_blocks(vectors)):
        total += pull[place * _ITEMS_AT_ONCE : (place + 1) * _ITEMS_AT_ONCE].T @ block
    return total


def _blocks(vectors: NDArray[Any]) -> Iterator[Array]:
    for start in range(0, max(1, len(vectors)), _ITEMS_AT_ONCE):
        yield vectors[start : start + _ITEMS_AT_ONCE].astype(np.float64, copy=False)


# Where to start ---------------------------------------------------------------------------------------------------


def wide_start(n_heads: int, prior: Prior, rng: np.random.Generator, *, width: float = _WIDTH) -> Crowd:
    """Everybody's weights plus directions drawn at random, long enough that heads are decided from the first step.

    Heads that begin close to each other share everybody between them, get the same gradient and stay together. EM's own
    steps hardly leave that plateau; those of L-BFGS do from 0.05 logits on, and not from 0.001 (see the tests).

    Args:
        n_heads: how many.
        prior: of the heads.
        rng: source of chance.
        width: standard deviation over pairs of the logits that a head adds.
    """
    drawn = rng.standard_normal((n_heads, len(prior.centre)))
    return Crowd(prior.centre + _as_decided(drawn, prior, width), np.full(n_heads, -np.log(n_heads)))


def grouped_start(n_heads: int, votes: Votes, prior: Prior, rng: np.random.Generator) -> Crowd | None:
    """Heads from groups of people whose votes depart from everybody's weights in the same direction.

    A person's gradient at everybody's weights is noise of the same size in every direction, once directions are scaled
    by how much pairs differ along them; what people have in common stands out in its principal components.

    Args:
        n_heads: how many.
        votes: sorted by person.
        prior: of the heads.
        rng: source of chance.

    Returns:
        None where people are too few, or have too few votes each, to be grouped.
    """
    scores = scores_of(votes.vectors, (prior.centre / prior.scale)[None])
    residual = pair_terms(scores, votes)[1]
    difference = votes.difference / prior.scale
    first = np.flatnonzero(np.diff(votes.user, prepend=-1))
    counts = np.diff(first, append=len(votes))
    known = counts >= _FEWEST_VOTES
    if known.sum() < 2 * n_heads:
        return None
    gradients = np.add.reduceat(residual * difference, first, axis=0)[known] / np.sqrt(counts[known])[:, None]
    values, vectors = np.linalg.eigh(prior.moment)
    root = (vectors / np.sqrt(np.maximum(values, 1e-3 * values[-1]))) @ vectors.T
    even = gradients @ root
    axes = np.linalg.eigh(even.T @ even)[1][:, -n_heads:]
    points = even @ axes
    if len(np.unique(points.round(9), axis=0)) <= n_heads:
        return None
    try:
        centres, group = kmeans2(points, n_heads, minit="++", rng=rng, missing="raise")
    except ClusterError:  # fewer groups than asked for
        return None
    weights = prior.centre + _as_decided(centres @ axes.T @ root, prior, _WIDTH)
    members = np.bincount(group, minlength=n_heads) + 1.0
    return Crowd(weights, np.log(members / members.sum()))


_FEWEST_VOTES = 2  # one vote lies in no direction that another confirms


def _as_decided(directions: Array, prior: Prior, width: float) -> Array:
    spread = np.sqrt(np.maximum(np.einsum("kd,de,ke->k", directions, prior.moment, directions), 0.0))
    return np.asarray(width * directions / np.where(spread > 0, spread, np.inf)[:, None])


# How many heads ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Choice:
    """A crowd, and what it was chosen by.

    Attributes:
        crowd: learnt from the votes that were not set aside, a start for all of them.
        precision: of the heads around everybody's weights.
        held_out: number of heads -> log-likelihood of votes set aside, nats per pair; empty if too few to set aside.
    """

    crowd: Crowd
    precision: float
    held_out: dict[int, float]


def chosen(
    votes: Votes,
    everybody: Pooled,
    *,
    n_heads: int | None = None,
    precision: float | None = None,
    restarts: int = 6,
    seed: int = 0,
) -> Choice:
    """The crowd that predicts people who were set aside.

    For each number of heads the best start, and how strongly heads are drawn to everybody's weights, are those under
    which votes set aside are most likely. More heads are taken only where they are surely better (by two standard
    errors over people), so that a crowd of one mind stays one.

    Args:
        votes: of at most some ten thousand pairs; rows of nobody stand for themselves.
        everybody: what was learnt from the same votes with one head.
        n_heads: how many; None chooses.
        precision: of the heads around everybody's weights; None measures it.
        restarts: starts for each number of heads.
        seed: of the starts.
    """
    search = _Search(votes, everybody, precision, restarts, seed)
    one = Crowd(everybody.weights[None], np.zeros(1))
    if n_heads == 1 or (n_heads is None and not search.can_choose):
        return Choice(one, precision or everybody.l2, {})
    found: dict[int, _Candidate] = {}
    for number in [n_heads] if n_heads else range(2, min(MOST_HEADS, search.everything.n_people) + 1):
        found[number] = search.best(number)
        if n_heads is None and _has_stopped_gaining([search.one, *found.values()]):
            break
    wanted = n_heads or search.enough(found)
    held_out = {number: one.gained for number, one in ({1: search.one} | found).items()} if search.can_choose else {}
    if wanted == 1:
        return Choice(one, precision or everybody.l2, held_out)
    return Choice(found[wanted].crowd, found[wanted].precision, held_out)


@dataclass(frozen=True)
class _Candidate:
    """A crowd that was learnt without the votes set aside.

    Attributes:
        crowd: heads and shares.
        precision: that it was learnt under.
        surprises: of the votes set aside of each person, given those that are not, nats, [people].
        gained: their log-likelihood, nats per pair.
    """

    crowd: Crowd
    precision: float
    surprises: Array
    gained: float


def _surprise(candidate: _Candidate) -> float:
    return float(candidate.surprises.sum())


def _parted(votes: Votes, n_people: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which votes, sorted by person, are used at all, and which of them are set aside (none if too few), bool[pairs].

    People are set aside whole. Of very few people some votes of each are, and then none whose responses were seen.
    """
    kept = np.ones(len(votes), dtype=bool)
    aside = set_aside(votes.user)
    if aside is None:
        return kept, ~kept
    if n_people < _FEWEST_PEOPLE:
        judged = np.stack([votes.chosen, votes.rejected], axis=1)
        for rows in rows_by(votes.user, n_people):
            aside[rows], kept[rows] = apart(judged[rows], 0)
        if not (kept & ~aside).any():  # everybody was asked about the same few responses
            return np.ones_like(kept), np.zeros_like(kept)
    return kept, aside & kept


class _Search:
    """Votes parted into those to learn from and those set aside, and crowds between which they decide."""

    def __init__(self, votes: Votes, everybody: Pooled, precision: float | None, restarts: int, seed: int):
        self.everything = Shards(compact(votes), people_per_shard=max(1, len(votes)))
        self.precision, self.restarts, self.seed = precision, restarts, seed
        self.moment = moment(votes, everybody.scale)
        kept, aside = _parted(self.everything.votes, self.everything.n_people)
        self.can_choose = bool(aside.any()) and self.everything.n_people > 1
        if not kept.all():
            self.everything = Shards(self.everything.votes.of(kept), people_per_shard=max(1, len(votes)))
        self.aside, votes = aside[kept], self.everything.votes
        difference = votes.difference / everybody.scale
        early = votes.of(~self.aside)
        self.early = Shards(early, people_per_shard=max(1, len(votes)))
        # Everybody's weights must not have seen the votes set aside either.
        centre = (
            newton(
                difference[~self.aside],
                early.strength.astype(np.float64),
                l2=everybody.l2,
                margin=early.margin.astype(np.float64),
                start=everybody.weights,
            ).weights
            if self.aside.any()
            else everybody.weights
        )
        self.prior = Prior(centre, everybody.l2, everybody.scale, self.moment)
        self.one = self._measured(Crowd(centre[None], np.zeros(1)), everybody.l2)

    def best(self, n_heads: int) -> _Candidate:
        """The best start, then the best strength of the prior from there."""
        first = self.precision or _PRECISIONS[0]
        rng = np.random.default_rng([self.seed, n_heads])
        tried = sorted(
            (self._learnt(begin, first, _FIRST_STEPS) for begin in self._starts(n_heads, rng)), key=_surprise
        )
        tried = [self._learnt(one.crowd, first, _STEPS) for one in tried[:_FINALISTS]]
        best = min(tried, key=_surprise)
        for other in [] if self.precision else _PRECISIONS[1:]:
            tried.append(self._learnt(best.crowd, other, _STEPS))
        return min(tried, key=_surprise)

    def enough(self, found: dict[int, _Candidate]) -> int:
        """The smallest number of heads that is not surely worse than the best one."""
        tried = {1: self.one} | found
        best = min(tried.values(), key=_surprise)

        def is_enough(number: int) -> bool:
            lost = tried[number].surprises - best.surprises
            error = lost.std(ddof=1) * np.sqrt(len(lost)) if len(lost) > 1 else 0.0
            return bool(lost.sum() <= max(SURELY * error, _WORTH * self.aside.sum()))

        return min(filter(is_enough, tried))

    def _starts(self, n_heads: int, rng: np.random.Generator) -> Iterator[Crowd]:
        for number in range(self.restarts):
            grouped = grouped_start(n_heads, self.early.votes, self.prior, rng) if number % 2 == 0 else None
            yield grouped or wide_start(n_heads, self.prior, rng)

    def _learnt(self, begin: Crowd, precision: float, max_steps: int) -> _Candidate:
        prior = Prior(self.prior.centre, precision, self.prior.scale, self.prior.moment)
        crowd = maximum(self.early, begin, prior, tolerance=1e-4, max_steps=max_steps)
        return self._measured(crowd, precision)

    def _measured(self, crowd: Crowd, precision: float) -> _Candidate:
        votes, aside = self.everything.votes, self.aside
        log_likelihood = pair_terms(scores_of(votes.vectors, crowd.weights / self.prior.scale), votes)[0]
        # P(votes set aside | the others) = P(all) / P(the others); of somebody set aside whole that is P(all).
        everything = people_log_likelihood(crowd.log_shares, log_likelihood, votes.user)
        others = people_log_likelihood(crowd.log_shares, np.where(aside[:, None], 0.0, log_likelihood), votes.user)
        tested = np.bincount(votes.user, weights=aside) > 0 if aside.any() else np.ones(len(everything), dtype=bool)
        surprises = (others - everything if aside.any() else -everything)[tested]
        return _Candidate(crowd, precision, surprises, -float(surprises.sum()) / max(1, int(aside.sum())))


def _has_stopped_gaining(candidates: list[_Candidate]) -> bool:
    """Whether the last two numbers of heads were no better than the best before them."""
    totals = [_surprise(one) for one in candidates]
    return len(totals) > 2 and min(totals[-2:]) >= min(totals[:-2])


def compact(votes: Votes) -> Votes:
    """The same votes with the vectors of their own responses only, as float64 so that nothing is converted twice."""
    first, place = first_and_place(np.concatenate([votes.chosen, votes.rejected]))
    sides = np.concatenate([votes.chosen, votes.rejected])[first]
    chosen, rejected = np.split(place, 2)
    return Votes(
        votes.vectors[sides].astype(np.float64),
        chosen,
        rejected,
        votes.strength,
        votes.margin,
        votes.user,
        votes.people,
    )


def some_people(votes: Votes, n_pairs: int, *, seed: int) -> Votes:
    """All votes of people drawn at random, of at most about so many pairs; everything if there are no more."""
    if len(votes) <= n_pairs:
        return votes
    person = np.where(votes.user >= 0, votes.user, len(votes.people) + np.arange(len(votes)))
    people, codes, counts = np.unique(person, return_inverse=True, return_counts=True)
    drawn = np.random.default_rng(seed).permutation(len(people))
    enough = drawn[: max(1, int(np.searchsorted(np.cumsum(counts[drawn]), n_pairs, side="right")))]
    return votes.of(np.flatnonzero(np.isin(codes, enough)))
