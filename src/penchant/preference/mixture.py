"""Mixture: people of several kinds, found in votes that do not say who is of which, and a router that tells them apart.

One reward for everybody has an error that no amount of data removes where people want opposite things
(`irreducible_error`). Here `fit` finds K linear heads and how many people have each (stage 1): a person's votes share
one head, a vote of nobody named has its own. How many heads there are is decided by people set aside, so that a crowd
of one mind keeps one head, that of `bradley_terry`. Where the encoder reads prompts and nobody is named, a gate says
which heads are likely for a prompt.

Then a head is found for whoever asks (stage 2). `adapt` starts with the population's shares and weighs each head by how
well it explains the person's comparisons, one after the other (Hedge; with learning rate 1 it is Bayes' rule), so that
little evidence moves little. Comparisons with a `context`, a wish in words, teach a router which heads a wish asks for;
it holds for wishes in other words too. Heads and gate never read the context.

P(chosen beats rejected) = sum_k w_k sigmoid(r_k(chosen) - r_k(rejected)): probabilities are averaged, never rewards.

What differs from the paper: heads are linear on frozen encodings and are found by L-BFGS on the likelihood whose
gradient is EM's; the paper trains a 3B backbone. Gate and router are linear in sentence vectors instead of small nets:
a router has some hundred labelled pairs against 384 numbers a text. The penalty that keeps heads from losing all people
is Dirichlet's prior on the shares. Where people are named, their votes share a head, and there is no gate: a prompt
cannot know who asks.

Source:
    Shen et al. (2025), MiCRo: Mixture Modeling and Context-aware Routing for Personalized Preference Learning.
    Freund and Schapire (1997), A decision-theoretic generalization of on-line learning (Hedge).
    Herbster and Warmuth (1998), Tracking the best expert (the share of weight that returns).

>>> from penchant.encoders import Attributes
>>> rows = [{"prompt": "", "chosen": f'{{"x": {a}}}', "rejected": f'{{"x": {b}}}', "user": user}
...         for user, a, b in [("ann", 3, 0), ("bob", 0, 3), ("cy", 3, 0), ("dee", 0, 3)] for _ in range(20)]
>>> model = Mixture(encoder=Attributes(), n_heads=2).fit(Comparisons.from_rows(rows))
>>> bob = model.adapt("bob", Comparisons.from_rows(rows[20:40]))
>>> model.shares_.round(2).tolist(), sorted(bob.weights.round(2).tolist())
([0.5, 0.5], [0.0, 1.0])
>>> round(irreducible_error([0.5, 0.5], [4.0, -4.0]), 3)  # nats a vote; a fair coin has 0.693
0.603
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, log_softmax, logsumexp, xlogy

from penchant.encoders import Encoder, encode_prompts, encode_turns
from penchant.errors import DataError, SettingsError
from penchant.preference.crowd import Crowd, Prior, chosen, compact, maximum, moment, pair_terms, scores_of, some_people
from penchant.preference.gate import Gate
from penchant.preference.model import PreferenceModel
from penchant.preference.pooled import pooled
from penchant.preference.profiles import Profiles
from penchant.preference.shards import Shards
from penchant.preference.votes import Places, Vectors, Votes, encoded_prompts, read_votes, require_width
from penchant.records import Comparisons
from penchant.turns import Form, Turn, turns_between

Array = NDArray[np.float64]

_MEASURED_ON = 20_000  # pairs that decide how many heads there are; all pairs then say what they are
_ROUNDS = 2  # of gate and heads, each learnt given the other
_LEAST_WEIGHT = 1e-12  # from which a head can still come back


def irreducible_error(shares: ArrayLike, logits: ArrayLike) -> float:
    """What no single reward can learn of a pair: entropy of the vote less its mean entropy once the head is known.

    The best single reward gives P* = sum_k share_k sigmoid(logit_k), at a cross-entropy of H(P*); who knows the head
    pays sum_k share_k H(sigmoid(logit_k)). The difference is how much head and vote tell of each other.

    Args:
        shares: of people with each head, adding up to 1, [heads].
        logits: how far the first response is ahead under each head, [heads].

    Returns:
        Nats per vote, 0 where all heads agree, at most log 2.

    Source:
        Shen et al. (2025), theorem 1.
    """
    share, p = np.asarray(shares, dtype=np.float64), expit(np.asarray(logits, dtype=np.float64))
    return float(_entropy(share @ p) - share @ _entropy(p))


def _entropy(p: Any) -> Any:
    return -xlogy(p, p) - xlogy(1 - p, 1 - p)


def hedge(log_prior: Array, log_likelihood: Array, *, learning_rate: float = 1.0, drift: float = 0.0) -> Array:
    """Log weights of heads before each pair, and after the last: w_k <- w_k P_k^learning_rate / Z.

    With learning rate 1 and no drift this is Bayes' rule, and for any sequence at all the loss of the mixture,
    sum_i -log sum_k w_ik P_ik, is at most that of the best head plus its log (1 / prior).

    Args:
        log_prior: log weights at the beginning, [heads] or [people, heads].
        log_likelihood: of each pair under each head, nats, [pairs, heads] or [pairs, people, heads].
        learning_rate: how much a pair counts, > 0.
        drift: share of weight that goes back to the prior after each pair, for people who change, in [0, 1).

    Returns:
        Nats, [pairs + 1, heads] or [pairs + 1, people, heads].

    Source:
        Freund and Schapire (1997), figure 1; Herbster and Warmuth (1998), variable share with a fixed source.

    >>> np.exp(hedge(np.log([0.5, 0.5]), np.log([[0.9, 0.3]]))).round(2).tolist()
    [[0.5, 0.5], [0.75, 0.25]]
    """
    weights = [np.asarray(log_prior, dtype=np.float64)]
    for one in log_likelihood:
        weights.append(_after(weights[-1], one, weights[0], learning_rate, drift))
    return np.stack(weights)


def _after(log_weights: Array, log_likelihood: Array, log_prior: Array, learning_rate: float, drift: float) -> Array:
    moved = log_softmax(log_weights + learning_rate * log_likelihood, axis=-1)
    return np.logaddexp(np.log1p(-drift) + moved, np.log(drift) + log_prior) if drift else np.asarray(moved)


def hedge_each(
    begin: Array,
    log_likelihood: Array,
    person: Places,
    log_prior: Array,
    *,
    learning_rate: float = 1.0,
    drift: float = 0.0,
) -> Array:
    """What `hedge` ends with for each of many people at once, [people, heads].

    Args:
        begin: log weights that people have already, [people, heads].
        log_likelihood: of each pair under each head, in the order they came, [pairs, heads].
        person: row of `begin` of each pair, [pairs].
        log_prior: that weight goes back to, [heads].
        learning_rate: as in `hedge`.
        drift: as in `hedge`.
    """
    if not drift:  # then the order does not matter
        return np.asarray(log_softmax(begin + learning_rate * _totals(log_likelihood, person, len(begin)), axis=1))
    log_weights = begin.copy()
    order = np.argsort(person, kind="stable")
    own = person[order]
    place = np.arange(len(own)) - np.searchsorted(own, own)  # a person's first pair is 0
    turn = np.argsort(place, kind="stable")
    for rows in np.split(order[turn], np.flatnonzero(np.diff(place[turn])) + 1):
        who = person[rows]
        log_weights[who] = _after(log_weights[who], log_likelihood[rows], log_prior, learning_rate, drift)
    return log_weights


def _totals(log_likelihood: Array, person: Places, n_people: int) -> Array:
    """Log-likelihood of all of a person's pairs under each head, nats, [people, heads]."""
    return np.stack([np.bincount(person, one, n_people) for one in log_likelihood.T], axis=1)


@dataclass(frozen=True)
class HeadWeights:
    """What was learnt of a person.

    Attributes:
        weights: how likely each head is theirs, adding up to 1, [heads].
        log_evidence: log-likelihood of their comparisons, whichever head is theirs, nats; far below n_pairs log 1/2
            says that no head is.
        n_pairs: comparisons it rests on.
    """

    weights: Array
    log_evidence: float
    n_pairs: int


class Mixture(PreferenceModel):
    """People of several kinds; a person is a weight for each kind.

    Args:
        encoder: payloads to vectors; heads read responses after their prompts, gate and router read texts alone.
        n_heads: kinds of people, at least 1; auto decides by people set aside, at most 6.
        by_person: whether a person's votes share one head; otherwise every vote has its own, for people who speak for
            others.
        l2: precision of the prior on everybody's weights; auto measures it on pairs of people set aside.
        prior_precision: of a head's weights around everybody's; auto measures it likewise.
        learning_rate: how much one pair counts when a person is learnt; 1 is Bayes' rule, less is more careful.
        drift: share of weight that returns to the population's with each pair, for people who change, in [0, 1).
        restarts: starts for each number of heads; people set aside decide between them.
        seed: of the starts.

    Attributes:
        heads_: logits per standard deviation of each feature, most frequent first, [heads, dim].
        shares_: share of people with each head, [heads].
        scale_: standard deviation of each feature, frozen, [dim].
        l2_: as given or measured.
        prior_precision_: as given or measured.
        held_out_: number of heads tried -> log-likelihood of votes set aside, nats per pair.
        gate_: what a prompt says of the heads, or None.
        router_: what a context says of the heads, or None.
        users_: a `HeadWeights` for each person adapted to.

    Raises:
        SettingsError: a setting is out of range.
    """

    probability_is_logistic: ClassVar[bool] = False
    gate_: Gate | None
    router_: Gate | None

    def __init__(
        self,
        *,
        encoder: Encoder,
        n_heads: int | Literal["auto"] = "auto",
        by_person: bool = True,
        l2: float | Literal["auto"] = "auto",
        prior_precision: float | Literal["auto"] = "auto",
        learning_rate: float = 1.0,
        drift: float = 0.0,
        restarts: int = 6,
        seed: int = 0,
    ):
        for name, value in (("l2", l2), ("prior_precision", prior_precision)):
            if value != "auto" and not (isinstance(value, (int, float)) and 0 < value < np.inf):
                raise SettingsError(f"{name} must be a finite number above 0, or auto: got {value!r}.")
        if (n_heads != "auto" and n_heads < 1) or restarts < 1:
            raise SettingsError(f"n_heads and restarts must be at least 1: got {n_heads!r}, {restarts!r}.")
        if not 0 < learning_rate < np.inf or not 0 <= drift < 1:
            raise SettingsError(
                f"learning_rate must be above 0, drift in [0, 1): got {learning_rate!r}, {drift!r}; 1 and 0 are Bayes' "
                "rule."
            )
        self.encoder, self.n_heads, self.by_person = encoder, n_heads, by_person
        self.l2, self.prior_precision = l2, prior_precision
        self.learning_rate, self.drift, self.restarts, self.seed = learning_rate, drift, restarts, seed

    def fit(self, comparisons: Comparisons) -> Self:
        """Learn the heads, then what prompts and contexts say of them; see `PreferenceModel.fit`."""
        votes = self._ungrouped(read_votes(self.encoder, _without_contexts(comparisons)))
        prior = self._learn_heads(votes, Shards)
        self._learn_gate(votes, comparisons, prior)
        return self.route(comparisons)

    def fit_votes(self, votes: Votes, *, shards: Callable[[Votes], Shards] = Shards) -> Self:
        """Learn the heads from comparisons that are numbers already, any number of them; no gate and no router.

        Args:
            votes: of everybody.
            shards: votes to shards of people; `penchant.preference.shards.over_ray` gives one that other processes and
                machines work for.

        Raises:
            DataError: there are no votes.
        """
        if not len(votes):
            raise DataError("There are no votes to learn from.")
        self._learn_heads(self._ungrouped(votes), shards)
        return self

    def route(self, comparisons: Comparisons) -> Self:
        """Learn which heads a context asks for (stage 2); heads stay as they are.

        Args:
            comparisons: those without a `context` are left alone; with few of them, or contexts that tell nothing,
                `router_` is None.

        Raises:
            NotFittedError: the model was not fitted.
        """
        self._require_fitted()
        self.router_ = None
        said = np.flatnonzero(_contexts(comparisons) != "")
        if len(said) and len(self.heads_) > 1:
            labelled = comparisons.take(said)
            votes = self._read(labelled)
            vectors, places = encoded_prompts(self.encoder, _as_prompts(labelled))
            log_prior = self._log_weights(labelled, routed=False)
            self.router_ = Gate.learnt(vectors, places, log_prior, self._log_likelihood(votes), seed=self.seed)
        return self

    def adapt(self, user: str, comparisons: Comparisons) -> HeadWeights:
        """Learn one person, from the population's shares on; see `PreferenceModel.adapt`."""
        self._require_fitted()
        self.users_[user] = self._nobody()
        return self.observe(user, comparisons)

    def observe(self, user: str, comparisons: Comparisons) -> HeadWeights:
        """Learn more of a person, from where they stand: the same as if all had been given to `adapt` at once.

        Args:
            user: who; somebody unknown stands where everybody does.
            comparisons: new ones, in the order they came.

        Raises:
            NotFittedError: the model was not fitted.
        """
        self._require_fitted()
        known = self.users_.get(user, self._nobody())
        if len(comparisons):
            log_likelihood = self._log_likelihood(self._read(comparisons))
            person = np.zeros(len(comparisons), np.int64)
            weights, log_evidence = self._hedged(np.log(known.weights)[None], log_likelihood, person)
            n_pairs = known.n_pairs + len(comparisons)
            known = HeadWeights(weights[0], known.log_evidence + float(log_evidence[0]), n_pairs)
        self.users_[user] = known
        return known

    def adapt_each(self, comparisons: Comparisons) -> Self:
        """Learn every person in the comparisons; see `PreferenceModel.adapt_each`."""
        self._require_fitted()
        return self.adapt_votes(self._read(comparisons)) if len(comparisons) else self

    def adapt_votes(self, votes: Votes) -> Self:
        """The same for comparisons that are numbers already.

        Raises:
            NotFittedError: the model was not fitted.
        """
        self._require_fitted()
        named = votes.of(votes.user >= 0)
        people, person = np.unique(named.user, return_inverse=True)
        log_prior = np.tile(self._log_shares, (len(people), 1))
        weights, log_evidence = self._hedged(log_prior, self._log_likelihood(named), person)
        names = [votes.people[place] for place in people]
        n_pairs = np.bincount(person, minlength=len(people))
        self.users_.put_many(names, weights=weights, log_evidence=log_evidence, n_pairs=n_pairs)
        return self

    def _reward(self, asked: Sequence[Turn], user: str | None) -> Array:
        """Mean of the heads' logits, weighed for the person and the context; see `PreferenceModel.reward`.

        A context that no router reads changes nothing.
        """
        context = asked[0].context
        plain = [turn._replace(context=None) for turn in asked]
        vectors = encode_turns(self.encoder, plain)
        require_width(vectors, len(self.scale_))
        log_weights = self._log_shares + self._evidence(self.users_.places([user]))
        if self.gate_ is not None:
            prompts = [turn._replace(response="") for turn in plain]
            different = {prompt: place for place, prompt in enumerate(dict.fromkeys(prompts))}
            log_odds = self.gate_(encode_prompts(self.encoder, list(different)))
            log_weights = log_weights + log_odds[[different[prompt] for prompt in prompts]]
        if self.router_ is not None and context:
            log_weights = log_weights + self.router_(encode_prompts(self.encoder, [Turn(context, "")]))
        weights = np.exp(log_softmax(log_weights, axis=1))
        return np.asarray((weights * self._scores(vectors)).sum(axis=1))

    def _predicted(self, comparisons: Comparisons) -> Array:
        """Mean of the heads' probabilities, weighed for person and context; see `PreferenceModel.probability`."""
        votes = self._read(comparisons)
        log_weights = self._log_weights(comparisons)
        log_weights = log_softmax(log_weights + self._evidence(self._places(votes)), axis=1)
        return np.asarray((np.exp(log_weights) * expit(self._ahead(votes))).sum(axis=1))

    def rewards(self, prompts: Sequence[str], responses: Sequence[str], *, form: Form = "text") -> Array:
        """What each head thinks of each response, logits up to a constant, [n, heads]: to find out what heads like.

        Raises:
            NotFittedError: the model was not fitted.
        """
        self._require_fitted()
        vectors = encode_turns(self.encoder, turns_between(prompts, responses, form=form))
        require_width(vectors, len(self.scale_))
        return self._scores(vectors)

    @property
    def shares_(self) -> Array:
        """Share of people with each head, [heads]."""
        return np.asarray(np.exp(self._log_shares))

    def _learn_heads(self, votes: Votes, shards: Callable[[Votes], Shards]) -> Prior:
        """Heads and shares; returns what heads are drawn to."""
        self._warn_if_few(votes)
        some = some_people(votes, _MEASURED_ON, seed=self.seed)
        everybody = pooled(some, l2=_given(self.l2))
        choice = chosen(
            some,
            everybody,
            n_heads=None if self.n_heads == "auto" else self.n_heads,
            precision=_given(self.prior_precision),
            restarts=self.restarts,
            seed=self.seed,
        )
        spread = moment(some, everybody.scale)
        one, is_all = Crowd(everybody.weights[None], np.zeros(1)), len(some) == len(votes)
        prior = Prior(everybody.weights, choice.precision, everybody.scale, spread)
        crowd = one
        if not is_all or len(choice.crowd) > 1:
            everyone = shards(compact(votes))
            tolerance = 1e-6 if is_all else 1e-5  # every pass over millions counts, and they tell no more than that
            if not is_all:
                origin = Prior(np.zeros_like(everybody.weights), everybody.l2, everybody.scale, spread)
                crowd = maximum(everyone, one, origin, tolerance=tolerance)
                prior = replace(prior, centre=crowd.weights[0])
            if len(choice.crowd) > 1:
                crowd = maximum(everyone, choice.crowd, prior, tolerance=tolerance)
        self.scale_, self.l2_, self.prior_precision_ = everybody.scale, everybody.l2, choice.precision
        self.held_out_ = choice.held_out
        self.gate_ = self.router_ = None
        self.users_: Profiles[HeadWeights] = Profiles(HeadWeights)
        self._take(crowd)
        return prior

    def _warn_if_few(self, votes: Votes) -> None:
        needed = 0 if self.n_heads == "auto" else (self.n_heads - 1) * votes.vectors.shape[1]
        if len(votes) < needed:
            warnings.warn(
                f"{len(votes)} pairs for {self.n_heads} heads of {votes.vectors.shape[1]} numbers: most of each head "
                "will be everybody's weights. n_heads='auto' takes as many as people set aside ask for.",
                stacklevel=4,
            )

    def _take(self, crowd: Crowd) -> None:
        """Keep a crowd, the most frequent head first."""
        order = np.argsort(-crowd.log_shares, kind="stable")
        self.heads_, self._log_shares = crowd.weights[order], crowd.log_shares[order]

    def _learn_gate(self, votes: Votes, comparisons: Comparisons, prior: Prior) -> None:
        """What prompts say of the heads, where every vote has a head of its own; heads and gate by turns."""
        if len(self.heads_) == 1 or (votes.user >= 0).any():
            return
        rows = np.random.default_rng(self.seed).permutation(len(votes))[:_MEASURED_ON]
        vectors, text = encoded_prompts(self.encoder, _without_contexts(comparisons))
        text, some = text[rows], compact(votes.of(rows))
        for _ in range(_ROUNDS):
            gate = Gate.learnt(vectors, text, self._log_shares, self._log_likelihood(some), seed=self.seed)
            if gate is None:
                break
            self.gate_ = gate
            if len(rows) < len(votes):  # all votes say better what the heads are than some do with a gate
                break
            log_prior = log_softmax(self._log_shares + gate(vectors), axis=1)[text]
            one_shard = Shards(some, people_per_shard=len(some))
            crowd = maximum(one_shard, Crowd(self.heads_, self._log_shares), prior, log_prior=log_prior)
            self.heads_ = crowd.weights

    def _log_weights(self, comparisons: Comparisons, *, routed: bool = True) -> Array:
        """Log weight of each head for each row by its prompt and its context, nats up to a constant, [rows, heads]."""
        log_weights = np.tile(self._log_shares, (len(comparisons), 1))
        if self.gate_ is not None:
            vectors, places = encoded_prompts(self.encoder, _without_contexts(comparisons))
            log_weights += self.gate_(vectors)[places]
        if routed and self.router_ is not None and len(said := np.flatnonzero(_contexts(comparisons) != "")):
            vectors, places = encoded_prompts(self.encoder, _as_prompts(comparisons.take(said)))
            log_weights[said] += self.router_(vectors)[places]
        return log_weights

    def _nobody(self) -> HeadWeights:
        return HeadWeights(np.exp(self._log_shares), 0.0, 0)

    def _hedged(self, begin: Array, log_likelihood: Array, person: Places) -> tuple[Array, Array]:
        """Weights after everybody's pairs, none of them without a way back, [people, heads]; log evidence, [people]."""
        how = {"learning_rate": self.learning_rate, "drift": self.drift}
        weights = np.exp(hedge_each(begin, log_likelihood, person, self._log_shares, **how))
        weights = np.maximum(weights, _LEAST_WEIGHT)
        evidence = logsumexp(begin + _totals(log_likelihood, person, len(begin)), axis=1)
        return weights / weights.sum(axis=1, keepdims=True), np.asarray(evidence)

    def _evidence(self, places: Places) -> Array:
        """What is known of people beyond the population's shares, nats, [rows, heads]; of nobody known, 0."""
        evidence = np.zeros((len(places), len(self.heads_)))
        if (own := places >= 0).any():
            evidence[own] = np.log(self.users_.column("weights")[places[own]]) - self._log_shares
        return evidence

    def _places(self, votes: Votes) -> Places:
        """Where each vote's person stands among those who are known."""
        return np.append(self.users_.places(votes.people), -1)[votes.user]

    def _scores(self, vectors: Vectors) -> Array:
        return scores_of(vectors, self.heads_ / self.scale_)

    def _ahead(self, votes: Votes) -> Array:
        scores = self._scores(votes.vectors)
        return np.asarray(scores[votes.chosen] - scores[votes.rejected] - votes.margin[:, None])

    def _log_likelihood(self, votes: Votes) -> Array:
        return pair_terms(self._scores(votes.vectors), votes)[0]

    def _read(self, comparisons: Comparisons) -> Votes:
        """Comparisons as the heads read them: what was answered to a prompt, whatever else was said."""
        votes = read_votes(self.encoder, _without_contexts(comparisons))
        require_width(votes.vectors, len(self.scale_))
        return votes

    def _ungrouped(self, votes: Votes) -> Votes:
        return votes if self.by_person else replace(votes, user=np.full(len(votes), -1), people=())

    def _sound(self, profile: HeadWeights) -> HeadWeights:
        """Weights that somebody wrote by hand, adding up to 1; see `PreferenceModel.edit`."""
        if (profile.weights < 0).any() or not profile.weights.sum() > 0:
            raise SettingsError(f"Weights of heads must not be negative, nor all 0: got {profile.weights.tolist()}.")
        weights = np.maximum(profile.weights / profile.weights.sum(), _LEAST_WEIGHT)
        return replace(profile, weights=weights / weights.sum())

    def _state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        people, names = self.users_.state()
        arrays = {"heads": self.heads_, "log_shares": self._log_shares, "scale": self.scale_, **people}
        for name, gate in (("gate", self.gate_), ("router", self.router_)):
            if gate is not None:
                arrays |= {f"{name}.centre": gate.centre, f"{name}.weights": gate.weights}
        names_of_settings = (
            "n_heads",
            "by_person",
            "l2",
            "prior_precision",
            "learning_rate",
            "drift",
            "restarts",
            "seed",
        )
        values = {
            "settings": {name: getattr(self, name) for name in names_of_settings},
            "l2": self.l2_,
            "prior_precision": self.prior_precision_,
            "held_out": {str(number): gained for number, gained in self.held_out_.items()},
            "users": names,
        }
        return arrays, values

    def _restore(self, arrays: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        self.__init__(encoder=self.encoder, **values["settings"])  # type: ignore[misc]
        self.heads_, self._log_shares, self.scale_ = (arrays[name] for name in ("heads", "log_shares", "scale"))
        self.l2_, self.prior_precision_ = float(values["l2"]), float(values["prior_precision"])
        self.held_out_ = {int(number): float(gained) for number, gained in values["held_out"].items()}
        self.gate_, self.router_ = (
            Gate(arrays[f"{name}.centre"], arrays[f"{name}.weights"]) if f"{name}.weights" in arrays else None
            for name in ("gate", "router")
        )
        self.users_ = Profiles.restored(HeadWeights, arrays, values["users"])


def _given(setting: float | Literal["auto"]) -> float | None:
    return None if setting == "auto" else float(setting)


def _contexts(comparisons: Comparisons) -> NDArray[Any]:
    """Context of each row, "" where there is none, [rows]."""
    return np.array([context or "" for context in comparisons.table["context"].to_pylist()], dtype=object)


def _without_contexts(comparisons: Comparisons) -> Comparisons:
    return _replaced(comparisons, context=pa.nulls(len(comparisons), pa.string()))


def _as_prompts(comparisons: Comparisons) -> Comparisons:
    """The same rows asked with their contexts alone."""
    nothing = pa.nulls(len(comparisons), pa.string())
    return _replaced(comparisons, prompt=comparisons.table["context"], context=nothing, form=nothing)


def _replaced(comparisons: Comparisons, **columns: Any) -> Comparisons:
    """The rows with other columns; unchanged where nothing would change, so that millions are not checked again."""
    table = comparisons.table
    if columns.keys() == {"context"} and table["context"].null_count == len(table):
        return comparisons
    for name, column in columns.items():
        table = table.set_column(table.schema.get_field_index(name), name, column)
    return Comparisons(table)
