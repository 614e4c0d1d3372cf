"""Ideal points: everybody has a place in one space of tastes, and prefers what lies nearer to it.

A map f (a linear layer beside one hidden layer) takes vectors of responses into a space of few dimensions, in which K
prototypes stand. A person is K weights on a simplex, w = softmax(a), and the person's ideal point is the mixture
z = sum_k w_k p_k of the prototypes (PAL-A), or of K heads g_k(prompt), so that it may depend on what was asked (PAL-B).
A newcomer is K numbers, found from a few comparisons while everything shared stays as it is: `adapt`, `adapt_each`.

What a person needs to know of a response is one number a prototype. With D_k = |f - p_k|^2 and E_kl = |p_k - p_l|^2,

    |f - z|^2 = sum_k w_k D_k - 1/2 sum_kl w_k w_l E_kl        (for weights that sum to 1)

and likewise the angle between f and z follows from <f, p_k> and <p_k, p_l>. So a million people are fitted from a table
[responses, K]: the gradient of the shared part is a sum over people (`penchant.preference.shards`), each of whom stands
at the optimum of their own weights, where those do not contribute to it (the envelope theorem).

`score` says how preference falls with distance: "squared" -|f - z|^2 / (2 reach), "distance" -|f - z|, as in PAL-A, or
"angle" reach cos(f, z), as in PAL-B. An ideal point infinitely far away is a linear reward: so fitting begins with
the pooled Bradley-Terry reward as a far prototype shared by all (`reach` large), turned a little apart along the
directions in which people's votes differ most, and keeps to it unless pairs set aside say, by the rule of one standard
error, that ideal points predict them better. How far a person's weights may go from the population's is measured on the
same pairs: where people are alike, or evidence is thin, everybody keeps the weights of the population.

What differs from the paper: seen people's weights are not parameters of their own but found by the same optimisation as
a newcomer's (batched Levenberg-Marquardt under a Gaussian prior), vectors are frozen, ideal points are mixtures of
prototypes in the space of tastes ("w f(P)" of the authors' code), not of inputs before f. Their logistic loss of raw
distances rewards the farther response; here it is of negative distances. With the hinge loss, rewards are brought to
logits by one factor afterwards. An encoder that does not read prompts makes PAL-B the same as PAL-A.

Source:
    Chen, Chen, Rege and Vinayak (2024), PAL: Pluralistic alignment framework for learning from heterogeneous
    preferences; Chen, Chen, Rege, Wang and Vinayak (2025), PAL: Sample-efficient personalized reward modeling, ICLR.

>>> from penchant.encoders import Attributes
>>> rng = np.random.default_rng(0)
>>> def vote(likes):
...     low, high = sorted(rng.normal(size=2).round(2))
...     first, second = (high, low) if likes > 0 else (low, high)
...     return {"chosen": f'{{"x": {first}}}', "rejected": f'{{"x": {second}}}', "prompt": ""}
>>> people = {f"{'warm' if n % 2 else 'cool'} {n}": 1 if n % 2 else -1 for n in range(20)}
>>> votes = Comparisons.from_rows([vote(likes) | {"user": who} for who, likes in people.items() for _ in range(12)])
>>> model = IdealPoint(encoder=Attributes(), n_prototypes=2).fit(votes)
>>> told = Comparisons.from_rows([vote(-1) | {"user": "newcomer"} for _ in range(4)])
>>> model.adapt("newcomer", told).n_pairs
4
>>> warm, cool = model.reward(["", ""], ['{"x": 1}', '{"x": -1}'], user="newcomer")
>>> bool(cool > warm)
True
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit, softmax
from torch import Tensor

from penchant.encoders import Encoder, encode_prompts, encode_turns
from penchant.errors import SettingsError
from penchant.preference.descent import Descent, arrays_of, descend, put_back, seeded
from penchant.preference.localise import LOSSES, SCORES, Localised, Rule, localise, pairs_of, slopes
from penchant.preference.localise import weights as sums_of_weights
from penchant.preference.model import PreferenceModel
from penchant.preference.newton import newton
from penchant.preference.pooled import FOLDS, STRENGTHS_OF_PRIOR, SURELY, Pooled, apart, least_bold, pooled, surprise
from penchant.preference.profiles import Profiles
from penchant.preference.shards import Arrays, Shards, shard_of
from penchant.preference.tastes import Prompts, Shared, Space, alike, begin, with_gradient
from penchant.preference.votes import (
    Places,
    Vectors,
    Votes,
    compacted,
    encoded_prompts,
    read_votes,
    require_width,
    rows_by,
    some_people,
)
from penchant.records import Comparisons
from penchant.turns import Turn

Array = NDArray[np.float64]

_WHILE_LEARNING = 0.3  # precision of people's weights while what is shared is learnt
_PATIENCE = 10  # steps without a better loss on pairs set aside
_FEWEST_PAIRS = 4  # of a person some of whose pairs are set aside
_FEWEST_PEOPLE = 6  # of fewer, it is pairs whose surprise varies
_MOST_ASIDE = 1000  # people some of whose pairs are set aside
_MOST_TO_BEGIN = 20_000  # pairs from which learning begins
_REFIT_ABOVE = 0.05  # share of pairs set aside, beyond which all are learnt from in the end


# Which pairs decide ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Aside:
    """Pairs of some people that are kept out, to decide how long to learn and how far to go from everybody.

    Attributes:
        used: pairs that are learnt from meanwhile, bool[pairs].
        early: of those people, their pairs among these.
        late: of the same people, the pairs kept out.
        responses: places of the only responses that `early` and `late` have, among all.
    """

    used: NDArray[np.bool_]
    early: Votes
    late: Votes
    responses: Places


def set_aside(votes: Votes) -> Aside | None:
    """A third of the pairs of at most a thousand people; None where nobody has enough."""
    counts = np.bincount(votes.user[votes.user >= 0], minlength=len(votes.people))
    people = _spread(np.flatnonzero(counts >= _FEWEST_PAIRS), _MOST_ASIDE)
    theirs = np.flatnonzero(np.isin(votes.user, people))
    late, used = np.zeros(len(votes), dtype=bool), np.ones(len(votes), dtype=bool)
    for rows in rows_by(np.searchsorted(people, votes.user[theirs]), len(people)):
        own = theirs[rows]
        out, kept = apart(np.stack([votes.chosen[own], votes.rejected[own]], axis=1), FOLDS - 1)
        late[own], used[own] = out, kept & ~out
    if not late.any() or not used.any():
        return None
    compact, responses = compacted(votes.of(theirs))
    return Aside(used, compact.of(used[theirs]), compact.of(late[theirs]), responses)


def _spread(places: Places, most: int) -> Places:
    """At most so many, evenly spread."""
    return places[np.linspace(0, len(places) - 1, min(len(places), most)).astype(np.int64)]


# The model ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class UserPoint:
    """Where a person stands.

    Attributes:
        weights: of the prototypes, on the simplex, [K].
        standard_errors: of the weights, from Laplace's posterior, [K].
        n_pairs: comparisons it rests on.
    """

    weights: Array
    standard_errors: Array
    n_pairs: int


class _Plan(NamedTuple):
    """What pairs set aside decided.

    Attributes:
        epochs: for how many to learn; 0 for one reward for all, None for as many as `steps` make.
        precision: of people's weights around the population's.
        factor: as in `Shared`.
    """

    epochs: int | None
    precision: float
    factor: float = 1.0


class IdealPoint(PreferenceModel):
    """Everybody is a mixture of a few ideal points and prefers what is nearer to their own.

    Args:
        encoder: payloads to vectors.
        n_prototypes: K, at least 1; 1 is a single ideal point for all.
        dim: of the space of tastes, at least `n_prototypes`.
        hidden: units of the hidden layer of f and of each head.
        ideals: "fixed" (PAL-A), or "prompt" where ideal points depend on what was asked (PAL-B).
        score: "squared", "distance" or "angle".
        loss: "logistic" or "hinge".
        prior_precision: how alike people are: precision of the logits of a person's weights around the population's;
            auto measures on pairs set aside both it and whether ideal points predict better than one reward for all.
        steps: most steps of learning what is shared.
        learning_rate: of prototypes; that of f is smaller by the root of the vectors' width.
        people_a_step: how many people a step asks, in whole shards.
        seed: of what is drawn.

    Attributes:
        is_personal_: whether pairs set aside spoke for ideal points; if not, everybody has the pooled reward.
        population_: mean weights, those of whoever is unknown, [K].
        prior_precision_: as given or measured.
        users_: a `UserPoint` for each person adapted to.

    Raises:
        SettingsError: a setting is out of range.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        n_prototypes: int = 8,
        dim: int = 16,
        hidden: int = 32,
        ideals: Literal["fixed", "prompt"] = "fixed",
        score: Literal["squared", "distance", "angle"] = "squared",
        loss: Literal["logistic", "hinge"] = "logistic",
        prior_precision: float | Literal["auto"] = "auto",
        steps: int = 150,
        learning_rate: float = 0.02,
        people_a_step: int = 131_072,
        seed: int = 0,
    ):
        counts = {"n_prototypes": n_prototypes, "hidden": hidden, "steps": steps, "people_a_step": people_a_step}
        for name, count in counts.items():
            if count < 1:
                raise SettingsError(f"{name} must be at least 1: got {count!r}.")
        if dim < n_prototypes:
            raise SettingsError(f"dim must be at least n_prototypes ({n_prototypes}) to hold them apart: got {dim!r}.")
        for name, word, known in (("ideals", ideals, _IDEALS), ("score", score, SCORES), ("loss", loss, LOSSES)):
            if word not in known:
                raise SettingsError(f"{name} must be one of {', '.join(known)}: got {word!r}.")
        for name, value in (("prior_precision", prior_precision), ("learning_rate", learning_rate)):
            is_auto = name == "prior_precision" and value == "auto"
            if not is_auto and not (isinstance(value, (int, float)) and 0 < value < np.inf):
                raise SettingsError(f"{name} must be a finite number above 0: got {value!r}.")
        self.encoder, self.n_prototypes, self.dim, self.hidden = encoder, n_prototypes, dim, hidden
        self.ideals, self.score, self.loss, self.prior_precision = ideals, score, loss, prior_precision
        self.steps, self.learning_rate, self.people_a_step, self.seed = steps, learning_rate, people_a_step, seed

    def fit(self, comparisons: Comparisons) -> Self:
        """Learn what everybody shares; see `PreferenceModel.fit`."""
        votes = read_votes(self.encoder, comparisons)
        return self.fit_votes(votes, prompts=self._prompts(comparisons, votes))

    def fit_votes(
        self, votes: Votes, *, prompts: Prompts | None = None, shards: Callable[[Votes], Shards] = Shards
    ) -> Self:
        """`fit`, from comparisons as numbers.

        Args:
            votes: of everybody.
            prompts: what the responses answer to, if ideal points depend on it.
            shards: where sums over people are computed: here, or `penchant.preference.shards.over_ray`.
        """
        prompts = prompts if self.ideals == "prompt" else None
        aside = set_aside(votes)
        if aside is None:
            is_auto = self.prior_precision == "auto"
            plan = _Plan(0, STRENGTHS_OF_PRIOR[-1]) if is_auto else _Plan(None, float(self.prior_precision))
            shared = self._learnt(votes, plan, prompts, shards)
        else:
            shared, plan = self._tried(shards(votes.of(aside.used)), aside, prompts)
            if plan.epochs == 0 or 1 - aside.used.mean() > _REFIT_ABOVE:
                shared = self._learnt(votes, plan, prompts, shards)
        self.shared_, self.prior_precision_, self.is_personal_ = shared, plan.precision, plan.epochs != 0
        self.users_: Profiles[UserPoint] = Profiles(UserPoint)
        return self

    @property
    def population_(self) -> Array:
        """Mean weights of the population, those of whoever is unknown, [K]."""
        return np.asarray(softmax(self.shared_.centre))

    def adapt(self, user: str, comparisons: Comparisons) -> UserPoint:
        """Learn one person; see `PreferenceModel.adapt`."""
        self._require_fitted()
        if len(comparisons):
            votes = read_votes(self.encoder, comparisons)
            mine = replace(votes, user=np.zeros(len(votes), dtype=np.int64), people=(user,))
            self.adapt_votes(mine, prompts=self._prompts(comparisons, votes))
        else:
            logits = torch.from_numpy(self.shared_.centre)[None]
            prior = torch.eye(len(self.shared_.centre), dtype=torch.float64)[None] / self.prior_precision_
            self._put([user], Localised(logits, prior), np.zeros(1, dtype=np.int64))
        return self.users_[user]

    def adapt_each(self, comparisons: Comparisons) -> Self:
        """Learn every person in the comparisons; see `PreferenceModel.adapt_each`."""
        self._require_fitted()
        if len(comparisons):
            votes = read_votes(self.encoder, comparisons)
            self.adapt_votes(votes, prompts=self._prompts(comparisons, votes))
        return self

    def adapt_votes(self, votes: Votes, *, prompts: Prompts | None = None) -> Self:
        """`adapt_each`, from comparisons as numbers; pairs of nobody named are passed over.

        Raises:
            NotFittedError: the model was not fitted.
        """
        self._require_fitted()
        require_width(votes.vectors, len(self.shared_.mean))
        prompts = prompts if self.ideals == "prompt" else None
        tables = self.shared_.final_tables(votes.vectors, prompts)
        named = votes.of(votes.user >= 0)
        people, shards = np.unique(named.user), Shards(named)
        rule, centre = self._rule(self.prior_precision_), torch.from_numpy(self.shared_.centre)
        for number in range(len(shards)):
            some = shard_of(shards.votes, number, shards.people_per_shard)
            n, first = len(some.people), number * shards.people_per_shard
            found = localise(pairs_of(tables, some), n, rule, centre)
            names = [votes.people[person] for person in people[first : first + n]]
            self._put(names, found, np.bincount(some.user, minlength=n))
        return self

    def _put(self, names: Sequence[str], found: Localised, n_pairs: Places) -> None:
        weights = found.logits.softmax(1)
        by_logit = torch.diag_embed(weights) - weights[:, :, None] * weights[:, None, :]
        variance = (by_logit @ found.covariance @ by_logit).diagonal(dim1=1, dim2=2).clamp_min(0.0)
        self.users_.put_many(names, weights=weights.numpy(), standard_errors=variance.sqrt().numpy(), n_pairs=n_pairs)

    def _sound(self, profile: UserPoint) -> UserPoint:
        """See `PreferenceModel._sound`."""
        weights = profile.weights
        if (weights < 0).any() or abs(weights.sum() - 1) > 1e-6:
            raise SettingsError(f"Weights of prototypes are at least 0 and sum to 1: got {weights.tolist()}.")
        return profile

    def _reward(self, asked: Sequence[Turn], user: str | None) -> Array:
        return self.reward_of(encode_turns(self.encoder, asked), user=user, prompts=self._prompts_of(asked))

    def reward_of(self, vectors: Vectors, *, user: str | None = None, prompts: Prompts | None = None) -> Array:
        """`reward`, from the vectors of responses, float64[n]."""
        self._require_fitted()
        require_width(vectors, len(self.shared_.mean))
        found = self.users_.get(user) if user is not None else None
        weights = self.population_ if found is None else found.weights
        return self._scores(
            self.shared_.final_tables(vectors, prompts), np.broadcast_to(weights, (len(vectors), len(weights)))
        )

    def _predicted(self, comparisons: Comparisons) -> Array:
        votes = read_votes(self.encoder, comparisons)
        require_width(votes.vectors, len(self.shared_.mean))
        tables = self.shared_.final_tables(votes.vectors, self._prompts(comparisons, votes))
        places = self.users_.places([*votes.people, None])[votes.user]  # -1 is the last: nobody
        weights = np.tile(self.population_, (len(votes), 1))
        if (own := places >= 0).any():
            weights[own] = self.users_.column("weights")[places[own]]
        chosen, rejected = (self._scores(tables, weights, side) for side in (votes.chosen, votes.rejected))
        return np.asarray(expit(chosen - rejected - votes.margin))

    def _scores(self, tables: Arrays, weights: Array, responses: Places | None = None) -> Array:
        """Rewards of some responses (or all) under the weights of each row, [rows]."""
        rows = np.arange(len(tables["table"])) if responses is None else responses
        asked = tables["asked"][rows] if "asked" in tables else np.zeros(1, dtype=np.int64)
        given = (
            torch.from_numpy(array) for array in (np.array(weights), tables["table"][rows], tables["between"][asked])
        )
        return np.asarray(self.shared_.factor * tables["sharpness"] * SCORES[self.score](*given).numpy())

    # What is shared, and how it is learnt

    def _rule(self, precision: float) -> Rule:
        return Rule(self.score, self.loss, precision)

    def _learnt(self, votes: Votes, plan: _Plan, prompts: Prompts | None, shards: Callable[[Votes], Shards]) -> Shared:
        """What is shared, as planned."""
        shared, everybody = self._begun(votes, prompts)
        if plan.epochs == 0:
            alike(shared.space, everybody)
            return shared
        people = shards(votes)
        self._descend(shared, people, prompts, epochs=plan.epochs)
        return replace(self._centred(shared, people, plan.precision, prompts), factor=plan.factor)

    def _tried(self, people: Shards, aside: Aside, prompts: Prompts | None) -> tuple[Shared, _Plan]:
        """What is learnt without the pairs set aside, and what these say of it."""
        shared, everybody = self._begun(people.votes, prompts)
        near = None if prompts is None else Prompts(prompts.vectors, prompts.asked[aside.responses])

        def measure() -> float:
            ahead = torch.from_numpy(self._foreseen(shared, aside, near, _WHILE_LEARNING))
            strength = torch.from_numpy(aside.late.strength.astype(np.float64))
            return LOSSES[self.loss](ahead, strength).value.mean().item()

        went = self._descend(shared, people, prompts, measure=measure)
        shared = self._centred(shared, people, _WHILE_LEARNING, prompts)
        if self.loss == "hinge":
            ahead = self._foreseen(shared, aside, near, _WHILE_LEARNING)
            factor = newton(ahead[:, None], aside.late.strength, l2=1e-3).weights[0]
            shared = replace(shared, factor=max(float(factor), 0.0))
        return shared, self._planned(shared, everybody, aside, near, went.best + 1)

    def _planned(self, shared: Shared, everybody: Pooled, aside: Aside, prompts: Prompts | None, epochs: int) -> _Plan:
        """The most cautious choice that predicts pairs set aside about as well as the best; the last is one reward."""
        strength = aside.late.strength.astype(np.float64)
        is_auto = self.prior_precision == "auto"
        precisions = STRENGTHS_OF_PRIOR if self.prior_precision == "auto" else (float(self.prior_precision),)
        ahead = [shared.factor * self._foreseen(shared, aside, prompts, precision) for precision in precisions]
        if is_auto:
            ahead.append(aside.late.difference / everybody.scale @ everybody.weights - aside.late.margin)
        surprises = np.stack([surprise(one, strength) for one in ahead], axis=1)
        if len(aside.late.people) >= _FEWEST_PEOPLE:
            surprises = np.stack([np.bincount(aside.late.user, weights=one) for one in surprises.T], axis=1)
        choice = least_bold(surprises, to_leave=SURELY)
        if choice == len(precisions):
            return _Plan(0, STRENGTHS_OF_PRIOR[-1])
        return _Plan(epochs, precisions[choice], shared.factor)

    def _foreseen(self, shared: Shared, aside: Aside, prompts: Prompts | None, precision: float) -> Array:
        """Logits of the pairs set aside, by weights that rest on the same people's other pairs, [pairs]."""
        tables = shared.tables(aside.early.vectors, prompts)
        early, late = pairs_of(tables, aside.early), pairs_of(tables, aside.late)
        found = localise(
            early,
            len(aside.early.people),
            self._rule(precision),
            torch.from_numpy(shared.centre),
            tolerance=1e-3,
            max_steps=15,
        )
        return late.ahead(found.logits.softmax(1)[late.person], self.score).numpy()

    def _begun(self, votes: Votes, prompts: Prompts | None) -> tuple[Shared, Pooled]:
        """What learning begins with, and everybody's reward."""
        some = compacted(some_people(votes, _MOST_TO_BEGIN))[0]
        everybody = pooled(some)
        sides = np.concatenate([some.vectors[some.chosen], some.vectors[some.rejected]])
        asked = np.zeros((1, 0)) if prompts is None else prompts.vectors.astype(np.float64)
        spread = asked.std(axis=0)
        with seeded(self.seed):
            space = self._space(sides.shape[1], asked.shape[1])
            begin(space, some, everybody)
        shared = Shared(
            space=space,
            mean=sides.mean(axis=0, dtype=np.float64),
            scale=everybody.scale,
            prompt_mean=asked.mean(axis=0),
            prompt_scale=np.where(spread > 1e-12, spread, 1.0),
            centre=np.zeros(self.n_prototypes),
        )
        return shared, everybody

    def _space(self, dim_in: int, dim_prompt: int) -> Space:
        return Space(dim_in, self.dim, self.hidden, self.n_prototypes, dim_prompt, self.score)

    def _descend(
        self,
        shared: Shared,
        people: Shards,
        prompts: Prompts | None,
        *,
        epochs: int | None = None,
        measure: Callable[[], float] | None = None,
    ) -> Descent:
        """Learn the space in place; a step is one sum over some shards of people."""
        rule, space = self._rule(_WHILE_LEARNING), shared.space
        given = shared.tensors(people.votes.vectors, prompts)
        a_step = max(1, self.people_a_step // people.people_per_shard)
        steps_an_epoch = -(-len(people) // a_step)

        def loss(numbers: Tensor) -> Tensor:
            tables = space(*given)
            sums = people.total(partial(slopes, rule=rule), shared.as_arrays(tables, prompts), numbers.tolist())
            n = int(sums["pairs"])
            return with_gradient(float(sums["loss"]) / n, tables, [sums[name] / n for name in tables._fields])

        inner = [*space.linear.parameters(), *space.curved.parameters(), *space.heads.parameters()]
        groups = [
            {"params": inner, "lr": self.learning_rate / np.sqrt(given[0].shape[1]), "weight_decay": 0.01},
            {"params": [space.prototypes], "lr": self.learning_rate},
            {"params": [space.log_reach], "lr": 5 * self.learning_rate},
        ]
        return descend(
            loss,
            groups,
            len(people),
            epochs=epochs or -(-self.steps // steps_an_epoch),
            batch_size=a_step,
            seed=self.seed,
            measure=measure,
            patience=-(-_PATIENCE // steps_an_epoch),
        )

    def _centred(self, shared: Shared, people: Shards, precision: float, prompts: Prompts | None) -> Shared:
        """The population's weights: the mean over people of theirs, which begin there themselves."""
        part = partial(sums_of_weights, rule=self._rule(precision))
        tables = shared.tables(people.votes.vectors, prompts)
        for _ in range(_ROUNDS):
            sums = people.total(part, tables)
            tables["centre"] = np.log(sums["weights"] / sums["people"])
        return replace(shared, centre=tables["centre"])

    def _prompts(self, comparisons: Comparisons, votes: Votes) -> Prompts | None:
        """What each response answers to; None where ideal points do not depend on it, or the encoder cannot read it."""
        if self.ideals == "fixed":
            return None
        vectors, places = encoded_prompts(self.encoder, comparisons)
        asked = np.zeros(len(votes.vectors), dtype=np.int64)
        asked[votes.chosen], asked[votes.rejected] = places, places
        return Prompts(vectors, asked) if vectors.shape[1] else None

    def _prompts_of(self, turns: Sequence[Turn]) -> Prompts | None:
        """The same of single responses."""
        if self.ideals == "fixed":
            return None
        place: dict[Turn, int] = {}
        asked = [place.setdefault(turn._replace(response=""), len(place)) for turn in turns]
        vectors = encode_prompts(self.encoder, list(place))
        return Prompts(vectors, np.array(asked)) if vectors.shape[1] else None

    def _state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        people, names = self.users_.state()
        arrays = {name: getattr(self.shared_, name) for name in _SHARED_ARRAYS}
        settings = {name: getattr(self, name) for name in _SETTINGS}
        values = {
            "settings": settings,
            "factor": self.shared_.factor,
            "prior_precision": self.prior_precision_,
            "is_personal": self.is_personal_,
            "users": names,
        }
        return {**arrays, **arrays_of(self.shared_.space, "space"), **people}, values

    def _restore(self, arrays: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        self.__init__(encoder=self.encoder, **values["settings"])  # type: ignore[misc]
        with seeded(0):
            space = self._space(len(arrays["mean"]), len(arrays["prompt_mean"]))
        put_back(space, arrays, "space")
        self.shared_ = Shared(
            space=space, factor=float(values["factor"]), **{name: arrays[name] for name in _SHARED_ARRAYS}
        )
        self.prior_precision_, self.is_personal_ = float(values["prior_precision"]), bool(values["is_personal"])
        self.users_ = Profiles.restored(UserPoint, arrays, values["users"])


_IDEALS = ("fixed", "prompt")
_ROUNDS = 2
_SHARED_ARRAYS = ("mean", "scale", "prompt_mean", "prompt_scale", "centre")
_SETTINGS = (
    "n_prototypes",
    "dim",
    "hidden",
    "ideals",
    "score",
    "loss",
    "prior_precision",
    "steps",
    "learning_rate",
    "people_a_step",
    "seed",
)
