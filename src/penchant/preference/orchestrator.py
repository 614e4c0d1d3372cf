r"""Preference orchestrator: how much each objective counts follows from the prompt, and from the person.

Nobody can say by how much an answer should be helpful rather than harmless; what people preferred tells, and it is not
the same for a joke and for a prescription. Scores of K objectives are put on one scale, z = (r - mean) / sd over all
responses seen, preferred or not. A pair says what counted in it (the target), an adapter learns to say so from the
prompt alone, and everybody's reward follows:

$$w^* = \text{softmax}_k\,\frac{z_k(y^+) - z_k(y^-)}{T}, \qquad
  \min\ \text{KL}(w^* \| w(x)) - \eta H(w(x)), \qquad R(x, y) = \sum_k w_k(x) z_k(x, y)$$

That is the target `margin`, ours: in which objective the preferred response *won*. The paper's target `plain` leaves
z(y-) out, and so measures in which objective preferred responses score *high*: where everything is harmless that is
harmlessness, and where a prompt is dangerous it is not. `regime` reports whether your data is of that kind.

A person's own weights u are blended in as w^(1-rho) u^rho. `adapt` finds u and rho from comparisons, and keeps the
prompt's weights unless the evidence is against them.

Objectives are the encoder's columns (scores of reward models, as `Attributes`), or learnt from ratings that name an
aspect by `measure`. More of each is taken to be better, as weights cannot be negative: a column that people surely
prefer less of is refused, until `less` names it. Prompts are read by an encoder that reads them (`Apart` has one for
each); otherwise, and where prompts turn out to tell nothing about prompts set aside, weights are the same for all.

Left out: the paper fine-tunes XLM-RoBERTa as the adapter; here prompts are encoded once and the adapter is a small net.

Source:
    Liu, Xu, Yang and Geng (2025), Preference Orchestrator: Prompt-Aware Multi-Objective Alignment, arXiv 2511.10656.

>>> from penchant.encoders import Attributes
>>> votes = Comparisons.from_rows(
...     {"prompt": "", "chosen": f'{{"kind": {i}, "long": 0}}', "rejected": f'{{"kind": 0, "long": {i % 2}}}'}
...     for i in (1, 2, 3))
>>> model = Orchestrator(encoder=Attributes(["kind", "long"]), temperature=1.0).fit(votes)
>>> dict(zip(model.objectives_, model.weights([""])[0].round(2).tolist(), strict=True))
{'kind': 0.94, 'long': 0.06}
>>> model.weights([""], own=[1, 1], rho=0.5)[0].round(2).tolist()  # somebody to whom both count alike
[0.79, 0.21]
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, log_softmax, softmax, xlogy
from torch import Tensor, nn

from penchant.encoders import Encoder, encode_prompts, encode_turns, feature_names
from penchant.errors import DataError, NotFittedError, SettingsError, UnknownNameError, nearest
from penchant.preference.blending import UserWeights, blended, own_weights
from penchant.preference.descent import arrays_of, descend, multilayer, put_back, seeded
from penchant.preference.familiarity import Neighbours
from penchant.preference.measures import Heads, Standardisation
from penchant.preference.model import PreferenceModel
from penchant.preference.newton import newton
from penchant.preference.profiles import Profiles
from penchant.preference.votes import (
    Places,
    encoded_prompts,
    encoded_sides,
    finite_vectors,
    require_some,
    require_width,
    rows_of,
    together,
)
from penchant.records import Comparisons, Ratings
from penchant.statistics import Interval, paired_bootstrap
from penchant.turns import Form, Turn, turns_between

Array = NDArray[np.float64]
Target = Literal["margin", "plain"]

_FURTHEST = 4.0  # standard deviations a score counts at most: one wild score must not take all weight
_SHARE_ASIDE = 0.2
_FEWEST_PROMPTS = 20  # below this, what prompts tell cannot be tested on others
_SURELY = 3.0  # standard errors; several objectives are asked about at once
_FEWEST_PEOPLE = 6  # of fewer, it is their pairs that vary
_LEAST = 1e-12  # weight; its logarithm is finite


@dataclass(frozen=True)
class Regime:
    """Whether an objective scores high where it counts, which the plain target takes for granted.

    Attributes:
        objectives: names.
        level: mean score of the preferred responses, z, [objectives].
        won: by how much they are ahead of the others on average, z, [objectives].
        plain: mean weights of the plain target, [objectives].
        margin: mean weights of the margin target, [objectives].
        agreement: for each objective the correlation, over pairs, of how high both responses score and by how much the
            preferred one won, with an interval over prompts. Above 0 both targets mean the same; below 0 an objective
            counts most where it scores low, and the plain target learns the reverse.
    """

    objectives: tuple[str, ...]
    level: Array
    won: Array
    plain: Array
    margin: Array
    agreement: tuple[Interval, ...]

    @property
    def in_conflict(self) -> tuple[str, ...]:
        """Objectives that surely count most where they score low: take the margin target."""
        return tuple(name for name, found in zip(self.objectives, self.agreement, strict=True) if found.high < 0)


def targets(chosen: Array, rejected: Array, *, target: Target = "margin", temperature: float = 1.0) -> Array:
    """What counted in each pair, w* in the paper's terms.

    Args:
        chosen: standardised scores of the preferred response, [pairs, objectives].
        rejected: of the other one; the plain target ignores it, [pairs, objectives].
        target: "margin" or "plain".
        temperature: T, > 0; small ones give each pair to one objective.

    Returns:
        Weights, each row summing to 1, [pairs, objectives].

    >>> z = np.array([[0.0, 2.0]]), np.array([[-1.0, 2.0]])  # kind and long: it won by being kind
    >>> targets(*z).round(2).tolist(), targets(*z, target="plain").round(2).tolist()
    ([[0.73, 0.27]], [[0.12, 0.88]])
    """
    return np.asarray(softmax((chosen - rejected if target == "margin" else chosen) / temperature, axis=1))


def divergence(target: Tensor, log_weights: Tensor) -> Tensor:
    """KL(target || weights) of each row, nats, [rows]; the target comes first, so that no objective is forgotten."""
    apart: Tensor = torch.special.xlogy(target, target) - target * log_weights
    return apart.sum(-1)


def entropy(weights: Array) -> Array:
    """Of each row of weights, nats, [rows]: 0 is one objective alone, log K all alike."""
    return np.asarray(-xlogy(weights, weights).sum(axis=-1))


class Orchestrator(PreferenceModel):
    """Several objectives; how much each counts follows from the prompt, and from the person.

    Args:
        encoder: payloads to vectors; without `measure` each of their numbers is the score of an objective.
        target: "margin" asks in which objective the preferred response won, "plain" (the paper's) in which it scores
            high.
        temperature: T of the target, > 0; 1 is the paper's, with which the margin target hardly tells objectives apart.
        less: names of objectives of which less is better.
        l2: precision of the prior on the weights of attributes learnt from ratings, > 0.
        hidden: width of the adapter, >= 1.
        epochs: most passes over the pairs, >= 1.
        learning_rate: of the adapter, > 0.
        bonus: eta, how much entropy of the weights is worth, >= 0.
        spread: how far people's log-weights lie from everybody's before they are known, nats, > 0.
        evidence: a person gets own weights once they explain the comparisons so many times better, > 1.
        seed: of the adapter and of which prompts are set aside.

    Attributes:
        objectives_: names.
        standardise_: the one scale of targets, learning and use; frozen, and saved with the model.
        average_: everybody's average weights, [objectives].
        reads_prompts_: whether weights follow from the prompt.
        decisiveness_: logits per standard deviation of the weighted sum, >= 0.
        entropy_: mean entropy of the weights over the prompts seen, nats; log K at most.
        divergence_: KL(target || weights) on prompts set aside, nats: of the adapter, and of the best weights for all;
            not known (nan) where too few prompts were seen.
        users_: a `UserWeights` for each person adapted to.

    Raises:
        SettingsError: a setting is out of range.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        target: Target = "margin",
        temperature: float = 1 / 3,
        less: Sequence[str] = (),
        l2: float = 1.0,
        hidden: int = 128,
        epochs: int = 30,
        learning_rate: float = 1e-3,
        bonus: float = 0.01,
        spread: float = 1.0,
        evidence: float = 3.0,
        seed: int = 0,
    ):
        if target not in ("margin", "plain"):
            raise SettingsError(f"target is margin or plain: got {target!r}.")
        if not (min(temperature, l2, learning_rate, spread) > 0 and bonus >= 0 and evidence > 1):
            raise SettingsError(
                "temperature, l2, learning_rate and spread must be above 0, bonus at least 0, evidence above 1: got "
                f"{temperature!r}, {l2!r}, {learning_rate!r}, {spread!r}, {bonus!r}, {evidence!r}."
            )
        if min(hidden, epochs) < 1:
            raise SettingsError(f"hidden and epochs must be at least 1: got {hidden!r} and {epochs!r}.")
        self.encoder, self.target, self.temperature, self.l2 = encoder, target, temperature, l2
        self.less = tuple(less)
        self.hidden, self.epochs, self.learning_rate, self.bonus = hidden, epochs, learning_rate, bonus
        self.spread, self.evidence, self.seed = spread, evidence, seed

    def measure(self, ratings: Ratings) -> Self:
        """Learn the objectives from ratings that name an aspect; their scale is that of the rated responses.

        Raises:
            DataError: ratings lack an aspect, name fewer than two, or one does not vary.
        """
        self.heads_, rated = Heads.learnt(self.encoder, ratings, l2=self.l2)
        self._choose_scale(self.heads_(rated), self.heads_.names)
        return self

    def fit(self, comparisons: Comparisons) -> Self:
        """Learn what counts for which prompt; see `PreferenceModel.fit`.

        Raises:
            DataError: there are no comparisons, fewer than two objectives, one that never varies, or one that is none
                because people surely prefer less of it.
            UnknownNameError: `less` names no objective.
        """
        require_some(comparisons)
        vectors, (chosen, rejected) = encoded_sides(self.encoder, comparisons, ("chosen", "rejected"))
        raw = self._raw(vectors.astype(np.float64))
        if not hasattr(self, "heads_"):
            self._choose_scale(raw, feature_names(self.encoder, raw.shape[1]))
        z = self._standardised(raw)
        strength, margin = _labels(comparisons)
        sides = _preferred(z[chosen], z[rejected], strength)
        wanted = targets(*sides, target=self.target, temperature=self.temperature)
        counts = np.abs(2 * strength - 1)  # a tie says nothing of what counts
        if not hasattr(self, "heads_"):
            self._require_objectives(counts[:, None] * (sides[0] - sides[1]), comparisons.table["user"].to_pylist())
        self.average_ = _average(wanted, counts)
        prompts, asked = encoded_prompts(self.encoder, comparisons)
        self._learn_adapter(prompts.astype(np.float64), asked, wanted, counts)
        log_weights = self._log_weights(prompts)
        self.average_ = np.exp(log_weights)[asked].mean(axis=0)
        self.entropy_ = float(entropy(np.exp(log_weights)).mean())
        difference = z[chosen] - z[rejected]
        total = (np.exp(log_weights)[asked] * difference).sum(axis=1, keepdims=True)
        fitted = newton(total, strength, l2=1.0, margin=margin).weights[0]
        self.decisiveness_ = max(float(fitted), 0.0)  # a negative one would turn every weight into its opposite
        self.users_: Profiles[UserWeights] = Profiles(UserWeights)
        return self

    def _learn_adapter(self, prompts: Array, asked: NDArray[np.int64], wanted: Array, counts: Array) -> None:
        """Learn weights from the prompt, and keep them if they are nearer to the targets of prompts set aside.

        Args:
            prompts: vectors of the different prompts, [prompts, dim].
            asked: place of each pair's prompt, [pairs].
            wanted: target of each pair, [pairs, objectives].
            counts: how much each pair counts, [pairs].
        """
        self.divergence_ = (float("nan"), float("nan"))
        self._adapter: nn.Module | None = None
        n, dim = prompts.shape
        if not dim or n < _FEWEST_PROMPTS:
            return
        aside = np.zeros(n, dtype=bool)
        aside[np.random.default_rng(self.seed).permutation(n)[: round(_SHARE_ASIDE * n)]] = True
        learn, check = (np.flatnonzero((aside[asked] == part) & (counts > 0)) for part in (False, True))
        if not len(learn) or not len(check):
            return
        # One scale for all numbers of a prompt: the encoder's distances are what is known of prompts never seen.
        spread = float(np.sqrt(prompts[~aside].var(axis=0).sum()))
        self._centre, self._scale = prompts[~aside].mean(axis=0), spread if spread > 1e-12 else 1.0
        features = self._features(prompts)
        self._neighbours = Neighbours.of(features[~aside], features[aside])
        x, t, c = (torch.from_numpy(a.astype(np.float32)) for a in (features, wanted, counts))
        place = torch.from_numpy(asked)
        average = _average(wanted[learn], counts[learn])
        with seeded(self.seed):
            net = self._net(dim, len(average))
        with torch.no_grad():  # start from the best weights for all
            cast(nn.Linear, net[-1]).bias.copy_(torch.from_numpy(np.log(average)))

        def distance(rows: Tensor, bonus: float) -> Tensor:
            log_weights = net(x[place[rows]]).log_softmax(-1)
            apart = divergence(t[rows], log_weights) + bonus * (log_weights.exp() * log_weights).sum(-1)
            mean: Tensor = (c[rows] * apart).sum() / c[rows].sum()
            return mean

        seen, held = torch.from_numpy(learn), torch.from_numpy(check)
        for_all = divergence(t[held], torch.from_numpy(np.log(average)).float())
        descent = descend(
            lambda rows: distance(seen[rows], self.bonus),
            net.parameters(),
            len(learn),
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            batch_size=int(np.clip(len(learn) // 100, 32, 512)),
            seed=self.seed,
            measure=lambda: distance(held, 0.0).item(),
            patience=5,
        )
        self.divergence_ = (min(descent.measured), float((c[held] * for_all).sum() / c[held].sum()))
        with torch.no_grad():
            gain = c[held] * (for_all - divergence(t[held], net(x[place[held]]).log_softmax(-1)))
        # The best of many epochs is a little better by luck: a standard error is what it has to be better by.
        if gain.sum() > gain.std(correction=0) * len(held) ** 0.5:
            self._adapter = net.double()  # so that a prompt gets the same weights alone and among others

    def _net(self, dim: int, n_objectives: int) -> nn.Sequential:
        return multilayer(dim, self.hidden, n_objectives)

    def adapt(self, user: str, comparisons: Comparisons) -> UserWeights:
        """Learn one person's own weights; see `PreferenceModel.adapt`."""
        self._require_fitted()
        self._adapt(comparisons, {user: np.arange(len(comparisons))})
        return self.users_[user]

    def adapt_each(self, comparisons: Comparisons) -> Self:
        """Learn every person in the comparisons; see `PreferenceModel.adapt_each`."""
        self._require_fitted()
        self._adapt(comparisons, rows_of(comparisons))
        return self

    def _adapt(self, comparisons: Comparisons, rows: Mapping[str, Places]) -> None:
        log_weights, difference, strength, margin = self._pairs(comparisons)
        people = list(rows)
        for some, own in together(list(rows.values()), numbers=len(self.objectives_)):
            found = own_weights(
                log_weights[own],
                np.log(self.average_),
                difference[own],
                strength[own],
                margin[own],
                decisiveness=self.decisiveness_,
                spread=self.spread,
                evidence=self.evidence,
            )
            self.users_.put_many([people[k] for k in some], **found, n_pairs=np.full(len(some), own.shape[1]))

    def names(self, field: str) -> list[str]:
        """The objectives that are weighed; see `ModelOfPeople.names`."""
        return list(self.objectives_) if field == "weights" else []

    def _sound(self, profile: UserWeights) -> UserWeights:
        blended(self.average_, profile.weights, profile.rho)  # refuses what are no weights
        return replace(profile, weights=profile.weights / profile.weights.sum())

    def without(self, user: str, others: Comparisons, *, ratings: Ratings | None = None) -> Self:
        """The model that would be here without a person; see `PreferenceModel.without`.

        Args:
            user: whoever is forgotten.
            others: comparisons of everybody else.
            ratings: of everybody else, if the person was among those whose ratings were measured: objectives are then
                measured again.
        """
        measured = self if ratings is None else copy.copy(self).measure(ratings)
        return super(Orchestrator, measured).without(user, others)

    def weights(
        self,
        prompts: Sequence[str],
        *,
        user: str | None = None,
        own: ArrayLike | None = None,
        rho: float = 0.5,
        context: str | None = None,
        form: Form = "text",
    ) -> Array:
        """How much each objective counts, in the order of `objectives_`, [prompts, objectives].

        Args:
            prompts: any number.
            user: a person; one who was not adapted to, or None, is everybody.
            own: weights that the person asks for, instead of those learnt; not negative, of any sum, [objectives].
            rho: how far these count, 0..1.
            context: put before every prompt.
            form: "text", or "messages" for JSON lists of messages.

        Raises:
            NotFittedError: the model was not fitted.
            SettingsError: `own` or `rho` is no such thing.
        """
        self._require_fitted()
        asked = turns_between(prompts, [""] * len(prompts), context=context, form=form)
        if own is not None:
            return blended(np.exp(self._log_weights_of(asked)), own, rho)
        return self._weights_of(asked, user)

    def _weights_of(self, asked: Sequence[Turn], user: str | None) -> Array:
        """The same of prompts, which are turns without a response, for a person."""
        weights = np.exp(self._log_weights_of(asked))
        known = self.users_.get(user) if user is not None else None
        return weights if known is None else blended(weights, known.weights, known.rho)

    def unfamiliarity(self, prompts: Sequence[str], *, context: str | None = None, form: Form = "text") -> Array:
        """How far prompts are from those learnt from, [prompts].

        Args:
            prompts: any number.
            context: put before every prompt.
            form: "text", or "messages" for JSON lists of messages.

        Returns:
            The share of prompts set aside in learning that are nearer: 1 is further than all of them, in another
            language for instance, and its weights are a guess. Not known (nan) where weights do not follow from the
            prompt.
        """
        self._require_fitted()
        if self._adapter is None or not len(prompts):
            return np.full(len(prompts), np.nan)
        asked = turns_between(prompts, [""] * len(prompts), context=context, form=form)
        return self._neighbours.share_nearer(self._features(self._prompt_vectors(asked)))

    def scores(
        self, prompts: Sequence[str], responses: Sequence[str], *, context: str | None = None, form: Form = "text"
    ) -> Array:
        """Standardised scores, z, within 4 standard deviations, [n, objectives]."""
        if not hasattr(self, "standardise_"):
            raise NotFittedError("This Orchestrator has no scale yet: call measure(ratings) or fit(comparisons) first.")
        asked = turns_between(prompts, responses, context=context, form=form)
        return self._scores_of(asked) if asked else np.empty((0, len(self.objectives_)))

    def _scores_of(self, asked: Sequence[Turn]) -> Array:
        vectors = finite_vectors(self.encoder, encode_turns(self.encoder, asked))
        return self._standardised(self._raw(vectors.astype(np.float64)))

    def regime(self, comparisons: Comparisons) -> Regime:
        """Whether objectives score high where they count; see `Regime`.

        Raises:
            DataError: there are fewer than two prompts.
        """
        self._require_fitted()
        require_some(comparisons)
        first, second = _preferred(*self._sides(comparisons), _labels(comparisons)[0])
        level, won = _standard((first + second) / 2), _standard(first - second)
        _, prompts = np.unique(comparisons.table["prompt"].to_pylist(), return_inverse=True)
        return Regime(
            self.objectives_,
            first.mean(axis=0),
            (first - second).mean(axis=0),
            targets(first, second, target="plain", temperature=self.temperature).mean(axis=0),
            targets(first, second, target="margin", temperature=self.temperature).mean(axis=0),
            # Together they are as sure as one alone would be: warnings are not for one objective in twenty.
            tuple(paired_bootstrap(one, clusters=prompts, level=1 - 0.05 / level.shape[1]) for one in (level * won).T),
        )

    def _reward(self, asked: Sequence[Turn], user: str | None) -> Array:
        weights = self._weights_of([turn._replace(response="") for turn in asked], user)
        return np.asarray(self.decisiveness_ * (weights * self._scores_of(asked)).sum(axis=1))

    def _predicted(self, comparisons: Comparisons) -> Array:
        log_weights, difference, _, margin = self._pairs(comparisons)
        weights = np.exp(log_weights)
        places = self.users_.places(comparisons.table["user"].to_pylist())
        if (known := places >= 0).any():
            own, rho = self.users_.column("weights"), self.users_.column("rho")
            weights[known] = blended(weights[known], own[places[known]], rho[places[known]])
        ahead = self.decisiveness_ * (weights * difference).sum(axis=1)
        return np.asarray(expit(ahead - margin))

    def _choose_scale(self, raw: Array, names: Sequence[str]) -> None:
        if raw.shape[1] < 2:
            raise DataError(
                f"An Orchestrator weighs objectives against each other; here is {raw.shape[1]}: {list(names)}. Give "
                "each response two scores or more (payloads of attributes), or `measure` ratings of two aspects."
            )
        for name in self.less:
            if name not in names:
                raise UnknownNameError(f"`less` names {name!r}, which is no objective: {nearest(name, names)}")
        self.objectives_ = tuple(names)
        self.standardise_ = Standardisation.of(raw, names)

    def _require_objectives(self, won: Array, people: Sequence[str | None]) -> None:
        """Refuse scores that people surely prefer less of.

        Args:
            won: by how much the preferred response is ahead in each, z, [pairs, objectives].
            people: whose pair each is, [pairs].
        """
        place = {person: number for number, person in enumerate(dict.fromkeys(people))}
        if len(place) >= _FEWEST_PEOPLE:  # what one person says hangs together
            owner = [place[person] for person in people]
            won = np.stack([np.bincount(owner, weights=one) for one in won.T], axis=1)
        total, error = won.sum(axis=0), np.sqrt((won**2).sum(axis=0))
        opposed = [name for name, surely in zip(self.objectives_, total + _SURELY * error < 0, strict=True) if surely]
        if opposed:
            raise DataError(
                f"Of {', '.join(map(repr, opposed))} people surely prefer less (preferred responses score lower, by "
                f"more than {_SURELY:g} standard errors of {len(won)}), and an Orchestrator takes more of every "
                "objective to be better. Name what less is better of in `less`, leave it out, or take a model whose "
                "weights may be negative, as bradley_terry."
            )

    def _raw(self, vectors: Array) -> Array:
        return self.heads_(vectors) if hasattr(self, "heads_") else vectors

    def _standardised(self, raw: Array) -> Array:
        require_width(raw, len(self.objectives_))
        signs = np.array([-1.0 if name in self.less else 1.0 for name in self.objectives_])
        return signs * np.clip(self.standardise_(raw), -_FURTHEST, _FURTHEST)

    def _sides(self, comparisons: Comparisons) -> tuple[Array, Array]:
        """Standardised scores of chosen and of rejected responses, [pairs, objectives] each."""
        vectors, (chosen, rejected) = encoded_sides(self.encoder, comparisons, ("chosen", "rejected"))
        z = self._standardised(self._raw(vectors.astype(np.float64)))
        return z[chosen], z[rejected]

    def _pairs(self, comparisons: Comparisons) -> tuple[Array, Array, Array, Array]:
        """Log-weights of the prompt, standardised scores chosen minus rejected, strength and margin of each pair."""
        if not len(comparisons):
            none = np.empty((0, len(self.objectives_)))
            return none, none, none[:, 0], none[:, 0]
        chosen, rejected = self._sides(comparisons)
        log_weights = np.tile(np.log(self.average_), (len(comparisons), 1))
        if self._adapter is not None:
            prompts, asked = encoded_prompts(self.encoder, comparisons)
            log_weights = self._log_weights(prompts)[asked]
        return log_weights, chosen - rejected, *_labels(comparisons)

    def _log_weights_of(self, asked: Sequence[Turn]) -> Array:
        if self._adapter is None or not asked:
            return np.tile(np.log(self.average_), (len(asked), 1))
        different = list(dict.fromkeys(asked))
        place = {turn: number for number, turn in enumerate(different)}
        found = self._log_weights(self._prompt_vectors(different))
        return found[[place[turn] for turn in asked]]

    def _prompt_vectors(self, asked: Sequence[Turn]) -> Array:
        return finite_vectors(self.encoder, encode_prompts(self.encoder, asked)).astype(np.float64)

    def _log_weights(self, prompts: NDArray[Any]) -> Array:
        """Log-weights of encoded prompts, [prompts, objectives]."""
        if self._adapter is None:
            return np.tile(np.log(self.average_), (len(prompts), 1))
        with torch.no_grad():
            logits = self._adapter(torch.from_numpy(self._features(prompts)))
        return np.asarray(log_softmax(logits.numpy(), axis=1))

    def _features(self, prompts: NDArray[Any]) -> Array:
        return np.asarray((prompts - self._centre) / self._scale)

    @property
    def reads_prompts_(self) -> bool:
        """Whether weights follow from the prompt."""
        self._require_fitted()
        return self._adapter is not None

    def _state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        people, names = self.users_.state()
        arrays = {"mean": self.standardise_.mean, "spread": self.standardise_.scale, "average": self.average_, **people}
        if hasattr(self, "heads_"):
            arrays |= self.heads_.arrays()
        if self._adapter is not None:
            arrays |= arrays_of(self._adapter, "adapter")
            arrays["prompt_centre"] = self._centre
            arrays |= {f"neighbours.{name}": getattr(self._neighbours, name) for name in _OF_NEIGHBOURS}
        values = {
            "settings": {name: getattr(self, name) for name in _SETTINGS},
            "objectives": list(self.objectives_),
            "measured": hasattr(self, "heads_"),
            "reads_prompts": self._adapter is not None,
            "prompt_scale": None if self._adapter is None else self._scale,
            "neighbours": None if self._adapter is None else self._neighbours.rest,
            "decisiveness": self.decisiveness_,
            "entropy": self.entropy_,
            "divergence": [None if np.isnan(value) else value for value in self.divergence_],  # JSON has no nan
            "users": names,
        }
        return arrays, values

    def _restore(self, arrays: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        self.__init__(encoder=self.encoder, **values["settings"])  # type: ignore[misc]
        self.objectives_ = tuple(values["objectives"])
        self.standardise_ = Standardisation(arrays["mean"], arrays["spread"])
        self.average_ = arrays["average"]
        if values["measured"]:
            self.heads_ = Heads.restored(arrays, self.objectives_)
        self._adapter = None
        if values["reads_prompts"]:
            self._centre, self._scale = arrays["prompt_centre"], float(values["prompt_scale"])
            with seeded(self.seed):  # its first weights are drawn, and replaced
                net = self._net(len(self._centre), len(self.objectives_))
            net.double()
            put_back(net, arrays, "adapter")
            self._adapter = net
            about = {name: arrays[f"neighbours.{name}"] for name in _OF_NEIGHBOURS}
            self._neighbours = Neighbours(**about, rest=float(values["neighbours"]))
        self.decisiveness_, self.entropy_ = float(values["decisiveness"]), float(values["entropy"])
        known = [float("nan") if value is None else float(value) for value in values["divergence"]]
        self.divergence_ = (known[0], known[1])
        self.users_ = Profiles.restored(UserWeights, arrays, values["users"])


_SETTINGS = (
    "target",
    "temperature",
    "less",
    "l2",
    "hidden",
    "epochs",
    "learning_rate",
    "bonus",
    "spread",
    "evidence",
    "seed",
)

_OF_NEIGHBOURS = ("components", "variances", "reference")


def _labels(comparisons: Comparisons) -> tuple[Array, Array]:
    """Strength and margin of each pair."""
    margin = np.nan_to_num(comparisons.numpy("margin").astype(np.float64))
    return comparisons.numpy("strength").astype(np.float64), margin


def _preferred(chosen: Array, rejected: Array, strength: Array) -> tuple[Array, Array]:
    """Scores of the responses that were preferred, and of the others: a strength below 0.5 prefers the rejected one."""
    first = (strength >= 0.5)[:, None]
    return np.where(first, chosen, rejected), np.where(first, rejected, chosen)


def _average(wanted: Array, counts: Array) -> Array:
    """The one set of weights nearest to all targets: their mean; where nothing counts, every objective counts alike."""
    n_objectives = wanted.shape[1]
    mean = counts @ wanted / counts.sum() if counts.any() else np.full(n_objectives, 1 / n_objectives)
    return np.asarray(np.maximum(mean, _LEAST))


def _standard(values: Array) -> Array:
    """Columns with mean 0 and standard deviation 1; one without spread is all 0."""
    spread = values.std(axis=0)
    return np.asarray((values - values.mean(axis=0)) / np.where(spread > 0, spread, 1.0))
