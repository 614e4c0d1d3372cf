r"""Context-aware preferences: which answer is better depends on what for, so that is an input of its own.

"Which is better?" is often undecidable; "which is better for a child?" is not. Comparisons may name a `context` (a
criterion, a scenario, a person's profile), and the reward then depends on how it and the response go together:

$$r(x, z, y) = w \cdot e_y + t\,(C e_z)\cdot(R e_y), \qquad P(a \succ b \mid x, z) = \sigma(r(x,z,a) - r(x,z,b))$$

A term of the context alone cancels in the difference, and a sum f(x, y) + g(x, z) can reverse nothing: only the product
can. Where nobody says what is meant there are two steps (section 3 of the paper): which context, then preference in it,

$$p(a \succ b \mid x) = \sum_z q(z \mid \text{user})\,P(a \succ b \mid x, z), \qquad
  |p - p^*| \le \sum_z q(z)\,|P_z - P^*_z| + \mathrm{TV}(q, p^*)$$

so that what is wrong splits into wrong preferences in known contexts and wrongly guessed contexts
(`penchant.preference.two_step.error_terms`).
`adapt` infers from a person's comparisons which of the contexts seen explains them: log q(z) = log prior + sum log
P(label | x, z), never an average of rewards, whose scales differ from context to context.

What we changed, and why: encoders are frozen and the reward is bilinear; the paper fine-tunes a language model that
reads the context with the prompt. What everybody prefers without a context, w, is `pooled`, so that plain quality
cannot be lost to the context's part, which is what contexts left out at random are for elsewhere. t is the least that
is not clearly worse than the best on prompts set aside; data in which the context tells nothing gives 0 and the plain
model, and so do data without contexts. Prompt and response have no product of their own: encoders read both together.

Texts of up to `candidates` contexts are saved with the model: they are what a person's profile is made of.

Source:
    Pitis, Xiao, Le Roux and Sordoni (2024), Improving Context-Aware Preference Modeling for Language Models. NeurIPS.

>>> class Counts:
...     name = "counts"
...     def encode(self, texts):
...         return np.array([[len(text), text.count("brief")] for text in texts], dtype=np.float32)
>>> def pair(row, context):
...     sides = ("Yes.", "Yes, " + "and so on, " * (1 + row % 5))
...     chosen, rejected = sides if "brief" in context else sides[::-1]
...     return {"prompt": f"{row}?", "chosen": chosen, "rejected": rejected, "context": context}
>>> rows = [pair(row, context) for row in range(60) for context in ("be brief", "be thorough")]
>>> model = ContextAware(encoder=Counts()).fit(Comparisons.from_rows(rows))
>>> short, long = model.reward(["Why?"] * 2, ["So.", "Because of this and that."], context="be brief")
>>> bool(short > long)
True
>>> own = [{**pair(row, "be brief"), "context": None, "user": "ann"} for row in range(3)]  # she does not say it
>>> belief = model.adapt("ann", Comparisons.from_rows(own))
>>> model.contexts_[belief.probabilities.argmax()]
'be brief'
"""

import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.cluster.vq import kmeans2
from scipy.special import expit, log_expit, logsumexp, softmax
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from penchant.encoders import Encoder, encode_prompts, encode_turns
from penchant.errors import DataError, SettingsError
from penchant.preference.descent import arrays_of, descend, put_back, seeded
from penchant.preference.model import PreferenceModel
from penchant.preference.pooled import least_bold, pooled, surprise
from penchant.preference.profiles import Profiles
from penchant.preference.two_step import marginal, posterior, require_distribution
from penchant.preference.votes import (
    Votes,
    codes_of,
    codes_of_all,
    encoded_prompts,
    finite_vectors,
    joint_codes,
    read_votes,
    require_some,
    require_width,
)
from penchant.records import Comparisons
from penchant.turns import Turn

Array = NDArray[np.float64]
Places = NDArray[np.int64]

_TRUSTS = (1.0, 0.75, 0.5, 0.25, 0.0)
_FEWEST_PAIRS = 30  # with a context; below this an inner split says nothing
_FEWEST_GROUPS = 10
_SHARE_ASIDE = 0.2
_MOST_RESPONSES = 5000  # on which the scale of rewards in a context is measured


@dataclass(frozen=True)
class Profile:
    """What was inferred of a person.

    Attributes:
        probabilities: that the person goes by each of `contexts_`, [contexts].
        n_pairs: comparisons without a context that it rests on.
    """

    probabilities: Array
    n_pairs: int


class Interaction(nn.Module):
    """How much a context likes a response, (C z) . (R y): 0 without a context.

    Args:
        context_dim: numbers of a context.
        dim: numbers of a response.
        rank: products that are added up.
    """

    def __init__(self, context_dim: int, dim: int, rank: int):
        super().__init__()
        self.context = nn.Parameter(torch.randn(context_dim, rank))
        self.response = nn.Parameter(torch.randn(dim, rank) / rank)  # so that it begins near nothing

    def forward(self, contexts: Tensor, responses: Tensor) -> Tensor:
        """Logits, [...].

        Args:
            contexts: z, [..., context_dim].
            responses: vectors, or differences of two, [..., dim].
        """
        return ((contexts @ self.context) * (responses @ self.response)).sum(dim=-1)


class _Contexts(NamedTuple):
    """What each comparison says of its context: the different texts, their vectors, and which is whose (-1: none)."""

    texts: list[str]
    vectors: NDArray[np.float32]
    places: Places


class ContextAware(PreferenceModel):
    """A reward that depends on the context a comparison names, and contexts inferred of people who name none.

    Args:
        encoder: payloads to vectors; contexts are read as prompts are, so that with one that reads no prompts, or
            where no comparison has a context, this is a plain linear model.
        contexts: what people may go by where they do not say; without a list they are those seen most.
        candidates: most contexts that are looked at for a person, >= 1; of more, those in the middle of groups.
        rank: products of context and response, >= 1.
        epochs: most passes over the comparisons; it stops where prompts set aside are no longer predicted better.
        patience: passes without improvement before it stops, >= 1.
        learning_rate: of AdamW, > 0.
        weight_decay: of AdamW, >= 0.
        batch_size: comparisons of a step.
        seed: of weights, order and what is set aside.

    Attributes:
        weights_: what everybody prefers without a context, logits per standard deviation, [dim].
        scale_: standard deviation of each feature, frozen, [dim].
        trust_: how much of the context's part is used, 0 (none) to 1, measured on prompts set aside.
        contexts_: what a person may go by; the first, None, is nothing in particular.
        prior_: how often each is meant, [contexts].
        users_: a `Profile` for each person adapted to.

    Raises:
        SettingsError: a setting is out of range.
    """

    probability_is_logistic: ClassVar[bool] = False  # without a context it is a mixture over them

    def __init__(
        self,
        *,
        encoder: Encoder,
        contexts: Sequence[str] | None = None,
        candidates: int = 32,
        rank: int = 64,
        epochs: int = 60,
        patience: int = 8,
        learning_rate: float = 3e-3,
        weight_decay: float = 0.1,
        batch_size: int = 128,
        seed: int = 0,
    ):
        counts = {"candidates": candidates, "rank": rank, "epochs": epochs}
        for name, count in (counts | {"patience": patience, "batch_size": batch_size}).items():
            if count < 1:
                raise SettingsError(f"{name} must be at least 1: got {count!r}.")
        if not (0 < learning_rate < np.inf and 0 <= weight_decay < np.inf):
            raise SettingsError(
                f"learning_rate must be above 0 and weight_decay at least 0: got {learning_rate!r}, {weight_decay!r}."
            )
        if contexts is not None and not contexts:
            raise SettingsError("contexts is an empty list: give what people may go by, or leave it out.")
        self.encoder, self.contexts, self.candidates = encoder, contexts, candidates
        self.rank, self.epochs, self.patience = rank, epochs, patience
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.batch_size, self.seed = batch_size, seed

    def fit(self, comparisons: Comparisons) -> Self:
        """Learn what everybody prefers, and what a context changes in it; see `PreferenceModel.fit`.

        Raises:
            DataError: there are no comparisons, or one person judged one pair both ways in one context.
        """
        _require_no_contradiction(comparisons)
        votes, named = self._read(comparisons)
        everybody = pooled(votes)
        self.weights_, self.scale_ = everybody.weights, everybody.scale
        self.trust_ = 0.0
        self._choose_scale(named)
        self._make_net()
        if (named.places >= 0).any():
            self._learn(comparisons, votes, named, everybody.l2)
        self._net.double()
        self._choose_candidates(named)
        self._measure_rewards(votes)
        self.users_: Profiles[Profile] = Profiles(Profile)
        return self

    def _learn(self, comparisons: Comparisons, votes: Votes, named: _Contexts, l2: float) -> None:
        """Learn the context's part beside everybody's, and how much of it to trust."""
        group = _groups(comparisons)
        aside = _set_aside(group, self.seed)
        has = named.places >= 0
        learn, check = np.flatnonzero(has & ~aside), np.flatnonzero(has & aside)
        if (
            min(len(learn), len(check)) < _FEWEST_PAIRS // 5
            or has.sum() < _FEWEST_PAIRS
            or not self._net.context.numel()
        ):
            logging.getLogger(__name__).warning(
                "ContextAware: %d of %d comparisons name a context, over %d prompts or pairs, with %d numbers each: "
                "too few to learn what contexts change; they are left out of account.",
                has.sum(),
                len(has),
                len(np.unique(group)),
                len(self._net.context),
            )
            return
        # Everybody's reward must not have seen what is set aside, or the context's part would have less to add.
        early = pooled(votes.of(~aside), l2=l2)
        x = votes.difference / self.scale_
        offset = votes.difference / early.scale @ early.weights - votes.margin
        z = self._scaled(named.vectors)[named.places]  # rows without a context are not used
        x_t, offset_t, z_t, strength = (torch.from_numpy(a.astype(np.float32)) for a in (x, offset, z, votes.strength))
        unit = x.shape[1] ** -0.5

        def extra(rows: Tensor) -> Tensor:
            found: Tensor = self._net(z_t[rows], unit * x_t[rows])
            return found

        def loss(rows: Tensor) -> Tensor:
            return binary_cross_entropy_with_logits(offset_t[rows] + extra(rows), strength[rows])

        seen, held = torch.from_numpy(learn), torch.from_numpy(check)
        descend(
            lambda rows: loss(seen[rows]),
            self._net.parameters(),
            len(learn),
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            batch_size=self.batch_size,
            seed=self.seed,
            measure=lambda: loss(held).item(),
            patience=self.patience,
        )
        with torch.no_grad():
            ahead = extra(held).numpy().astype(np.float64)
        label = votes.strength[check].astype(np.float64)
        tried = [surprise(offset[check] + trust * ahead, label) for trust in _TRUSTS]
        place = np.unique(group[check], return_inverse=True)[1]
        self.trust_ = _TRUSTS[least_bold(np.stack([np.bincount(place, row) for row in tried], axis=1))]

    def _choose_scale(self, named: _Contexts) -> None:
        """Contexts are seen from their middle, so that the average one and none at all change nothing."""
        vectors = named.vectors.astype(np.float64)
        spread = vectors.std(axis=0) if len(vectors) else np.ones(vectors.shape[1])
        self._centre = vectors.mean(axis=0) if len(vectors) else np.zeros(vectors.shape[1])
        self._spread = np.where(spread > 1e-12, spread, 1.0) * max(1, vectors.shape[1]) ** 0.5

    def _make_net(self) -> None:
        with seeded(self.seed):
            self._net = Interaction(len(self._centre), len(self.weights_), self.rank)

    def _choose_candidates(self, named: _Contexts) -> None:
        """What people may go by where they do not say, and how often each of it is meant."""
        self.contexts_: tuple[str | None, ...] = (None,)
        self._vectors, self.prior_ = np.zeros((1, len(self._centre))), np.ones(1)
        if not self.trust_:
            return
        if self.contexts is not None:
            texts, vectors = list(self.contexts), self._context_vectors(self.contexts)
            counts = np.ones(len(texts))
        else:
            counts = np.bincount(named.places[named.places >= 0], minlength=len(named.texts)).astype(np.float64)
            kept, counts = _middles(named.vectors, counts, self.candidates, self.seed)
            texts, vectors = [named.texts[place] for place in kept], self._scaled(named.vectors[kept])
        # Nothing in particular is meant by a typical context's share, and by whoever named none.
        nothing = counts.mean() + (named.places < 0).sum()
        self.contexts_ = (None, *texts)
        self._vectors = np.concatenate([self._vectors, vectors])
        self.prior_ = np.array([nothing, *counts]) / (nothing + counts.sum())

    def _measure_rewards(self, votes: Votes) -> None:
        """Mean and spread of the rewards of responses under each candidate: rewards mean something within one only."""
        rewards = self._rewards(votes.vectors[:_MOST_RESPONSES], self._vectors)
        self._level, self._reward_spread = rewards.mean(axis=1), rewards.std(axis=1)

    def adapt(self, user: str, comparisons: Comparisons) -> Profile:
        """Infer what one person goes by; see `PreferenceModel.adapt`.

        Comparisons that name their context tell nothing of what is meant where none is named, and are not looked at.
        """
        self._require_fitted()
        likely, n_pairs = np.zeros(len(self.prior_)), 0
        if len(comparisons):
            of_each, silent = self._explained(comparisons)
            likely, n_pairs = of_each.sum(axis=1), int(silent.sum())
        self.users_[user] = Profile(posterior(likely, self.prior_), n_pairs)
        return self.users_[user]

    def adapt_each(self, comparisons: Comparisons) -> Self:
        """Infer what each person goes by, all at once; see `PreferenceModel.adapt_each`."""
        self._require_fitted()
        if not len(comparisons):
            return self
        of_each, silent = self._explained(comparisons)
        codes, people = codes_of(comparisons, "user")
        likely = np.zeros((len(people) + 1, len(self.prior_)))  # the last row is nobody's
        np.add.at(likely, codes[silent], of_each.T)
        counts = np.bincount(codes[silent & (codes >= 0)], minlength=len(people))
        if people:
            found = softmax(likely[:-1] + np.log(self.prior_), axis=1)
            self.users_.put_many(people, probabilities=found, n_pairs=counts)
        return self

    def _explained(self, comparisons: Comparisons) -> tuple[Array, NDArray[np.bool_]]:
        """Log P(label) of each comparison that names no context under each candidate, [candidates, such]; and which."""
        votes, named = self._read(comparisons)
        require_width(votes.vectors, len(self.weights_))
        silent = named.places < 0
        ahead = self._ahead(votes.of(silent), self._vectors[:, None])
        strength = votes.strength[silent].astype(np.float64)
        return strength * log_expit(ahead) + (1 - strength) * log_expit(-ahead), silent

    def _reward(self, asked: Sequence[Turn], user: str | None) -> Array:
        """Logits up to a constant in a context; see `PreferenceModel.reward`.

        Without a context, and where several may be meant, the log-odds that a response is liked better than one of
        those learnt from (a Borda score): rewards of different contexts have no common scale.
        """
        context = asked[0].context
        plain = [turn._replace(context=None) for turn in asked]
        vectors = finite_vectors(self.encoder, encode_turns(self.encoder, plain))
        require_width(vectors, len(self.weights_))
        if context is not None:
            found: Array = self._rewards(vectors, self._context_vectors([context]))[0]
            return found
        rewards = self._rewards(vectors, self._vectors)
        if len(rewards) == 1:
            return np.asarray(rewards[0])
        known = self.users_.get(user) if user is not None else None
        weights = self.prior_ if known is None else known.probabilities
        # The mean of a sigmoid over normal rewards of what it is compared with (MacKay 1992).
        steepness = 1 / np.sqrt(1 + np.pi / 8 * self._reward_spread**2)
        ahead = steepness[:, None] * (rewards - self._level[:, None])
        return np.asarray(_log_mean(log_expit(ahead), weights) - _log_mean(log_expit(-ahead), weights))

    def _predicted(self, comparisons: Comparisons) -> Array:
        """P(chosen is preferred), in its context where it names one; see `PreferenceModel.probability`."""
        votes, named = self._read(comparisons)
        require_width(votes.vectors, len(self.weights_))
        found = np.empty(len(votes))
        silent = named.places < 0
        found[~silent] = expit(self._ahead(votes.of(~silent), self._scaled(named.vectors)[named.places[~silent]]))
        if silent.any():
            under_each = expit(self._ahead(votes.of(silent), self._vectors[:, None]))
            found[silent] = marginal(under_each, self._weights(comparisons.table["user"].to_pylist())[silent].T)
        return found

    def probability_in(self, comparisons: Comparisons, contexts: Sequence[str]) -> Array:
        """P(chosen is preferred) in each of some contexts, whatever the comparisons name, [contexts, pairs].

        Raises:
            NotFittedError: the model was not fitted.
            DataError: there are no contexts.
        """
        self._require_fitted()
        if not contexts:
            raise DataError("There is no context to choose among: give at least one.")
        votes, _ = self._read(comparisons)
        require_width(votes.vectors, len(self.weights_))
        return np.asarray(expit(self._ahead(votes, self._context_vectors(contexts)[:, None])))

    def two_step(self, comparisons: Comparisons, contexts: Sequence[str], weights: ArrayLike) -> Array:
        """P(chosen is preferred) where one of some contexts is meant, each with its weight; see `marginal`, [pairs]."""
        return marginal(self.probability_in(comparisons, contexts), weights)

    def _weights(self, users: Sequence[str | None]) -> Array:
        """How likely each person goes by each candidate, [rows, candidates]; nobody known by the prior."""
        places = self.users_.places(users)
        known = self.users_.column("probabilities") if len(self.users_) else np.empty((0, len(self.prior_)))
        return np.concatenate([known, self.prior_[None]])[places]

    def _ahead(self, votes: Votes, contexts: Array) -> Array:
        """By how many logits the first of each pair is preferred; contexts are [pairs, dim] or [candidates, 1, dim]."""
        first, second = (votes.vectors[side].astype(np.float64) for side in (votes.chosen, votes.rejected))
        difference = (first - second) / self.scale_
        return np.asarray(difference @ self.weights_ + self._extra(contexts, difference) - votes.margin)

    def _rewards(self, vectors: NDArray[Any], contexts: Array) -> Array:
        """Of responses in contexts, [contexts, responses]."""
        scaled = vectors.astype(np.float64) / self.scale_
        return np.asarray(scaled @ self.weights_ + self._extra(contexts[:, None], scaled))

    def _extra(self, contexts: Array, scaled: Array) -> Array:
        if not self.trust_:
            return np.zeros(np.broadcast_shapes(contexts.shape[:-1], scaled.shape[:-1]))
        unit = scaled.shape[-1] ** -0.5
        with torch.no_grad():
            found = self._net(torch.from_numpy(contexts), torch.from_numpy(unit * scaled))
        return self.trust_ * np.asarray(found.numpy())

    def _scaled(self, vectors: NDArray[Any]) -> Array:
        return np.asarray((vectors - self._centre) / self._spread)

    def _context_vectors(self, contexts: Sequence[str]) -> Array:
        vectors = encode_prompts(self.encoder, [Turn(text, "") for text in contexts])
        require_width(vectors, len(self._centre))
        return self._scaled(finite_vectors(self.encoder, vectors))

    def _read(self, comparisons: Comparisons) -> tuple[Votes, _Contexts]:
        """Comparisons as numbers, responses read without their context; and the contexts."""
        require_some(comparisons)
        table, empty = comparisons.table, pa.nulls(len(comparisons), pa.string())
        codes, texts = codes_of(comparisons, "context")
        votes = read_votes(self.encoder, Comparisons(_with(table, context=empty)))
        rows = table.filter(pc.is_valid(table["context"]))
        alone = Comparisons(_with(rows, prompt=rows["context"], context=empty[: len(rows)], form=empty[: len(rows)]))
        vectors, places = encoded_prompts(self.encoder, alone)
        _, first = np.unique(codes[codes >= 0], return_index=True)
        return votes, _Contexts(texts, vectors[places[first]], codes)

    def _sound(self, profile: Profile) -> Profile:
        try:
            require_distribution(profile.probabilities)
        except DataError as error:
            raise SettingsError(str(error)) from error
        return profile

    def _state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        people, names = self.users_.state()
        arrays = {name: getattr(self, attribute) for name, attribute in _ARRAYS.items()}
        values = {
            "settings": {name: getattr(self, name) for name in _SETTINGS},
            "trust": self.trust_,
            "contexts": list(self.contexts_),
            "users": names,
        }
        return arrays | arrays_of(self._net, "net") | people, values

    def _restore(self, arrays: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        self.__init__(encoder=self.encoder, **values["settings"])  # type: ignore[misc]
        for name, attribute in _ARRAYS.items():
            setattr(self, attribute, arrays[name])
        self.trust_, self.contexts_ = float(values["trust"]), tuple(values["contexts"])
        self._make_net()
        self._net.double()
        put_back(self._net, arrays, "net")
        self.users_ = Profiles.restored(Profile, arrays, values["users"])


_SETTINGS = (
    "contexts",
    "candidates",
    "rank",
    "epochs",
    "patience",
    "learning_rate",
    "weight_decay",
    "batch_size",
    "seed",
)

_ARRAYS = {
    "weights": "weights_",
    "scale": "scale_",
    "prior": "prior_",
    "context_centre": "_centre",
    "context_spread": "_spread",
    "context_vectors": "_vectors",
    "level": "_level",
    "reward_spread": "_reward_spread",
}


def _log_mean(logs: Array, weights: Array) -> Array:
    """Log of the weighted mean over the first axis of what has these logarithms."""
    with np.errstate(divide="ignore"):
        return np.asarray(logsumexp(logs + np.log(weights)[:, None], axis=0))


def _with(table: pa.Table, **columns: Any) -> pa.Table:
    for name, column in columns.items():
        table = table.set_column(table.schema.get_field_index(name), table.schema.field(name), column)
    return table


def _pair_codes(comparisons: Comparisons) -> tuple[Places, NDArray[np.bool_]]:
    """A number for each pair of responses whichever stands first, and whether the one of the lower number does."""
    (chosen, rejected), _ = codes_of_all([comparisons.table["chosen"], comparisons.table["rejected"]])
    return joint_codes(np.minimum(chosen, rejected), np.maximum(chosen, rejected)), chosen < rejected


def _require_no_contradiction(comparisons: Comparisons) -> None:
    """Refuse one person's two judgements of one pair in one named context."""
    context = codes_of(comparisons, "context")[0]
    pair, lower_first = _pair_codes(comparisons)
    same = joint_codes(*(codes_of(comparisons, name)[0] for name in ("prompt", "user")), context, pair)
    strength = comparisons.numpy("strength")
    side = np.where(strength == 0.5, 0, np.where((strength > 0.5) == lower_first, 1, -1))
    side[context < 0] = 0
    place = np.unique(same, return_inverse=True)[1]
    both = (np.bincount(place, side > 0) > 0) & (np.bincount(place, side < 0) > 0)
    rows = np.flatnonzero(both[place] & (side != 0))
    if len(rows):
        mates = np.flatnonzero(both[place] & (place == place[rows[0]]) & (side != 0))
        text = comparisons.table["context"][int(rows[0])].as_py()
        raise DataError(
            f"Rows {', '.join(map(str, mates[:4]))}: the same person prefers both of the same two responses in the "
            f"same context, {text[:60]!r} ({len(rows)} of {len(comparisons)} rows contradict each other so). Drop one "
            "of each, or name who judged: different people may differ."
        )


def _groups(comparisons: Comparisons) -> Places:
    """What must not be torn apart: prompts with all their pairs, or pairs, where nearly all ask the same."""
    prompt = codes_of(comparisons, "prompt")[0]
    return prompt if len(np.unique(prompt)) >= _FEWEST_GROUPS else _pair_codes(comparisons)[0]


def _set_aside(group: Places, seed: int) -> NDArray[np.bool_]:
    different = np.unique(group)
    n = round(_SHARE_ASIDE * len(different)) if len(different) >= _FEWEST_GROUPS else 0
    return np.isin(group, np.random.default_rng(seed).permutation(different)[:n])


def _middles(vectors: NDArray[Any], counts: Array, most: int, seed: int) -> tuple[Places, Array]:
    """Contexts that stand for all: each itself, or of too many the one in the middle of each group; and their counts.

    Args:
        vectors: of the different contexts, [contexts, dim].
        counts: how often each was named, [contexts].
        most: how many are wanted.
        seed: of the groups' first centres.
    """
    if len(vectors) <= most:
        return np.arange(len(vectors)), counts
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="One of the clusters is empty")
        centres, group = kmeans2(vectors.astype(np.float64), most, minit="++", rng=np.random.default_rng(seed))
    numbers = np.unique(group)
    distance = ((vectors - centres[group]) ** 2).sum(axis=1)
    kept = [np.flatnonzero(group == number)[np.argmin(distance[group == number])] for number in numbers]
    return np.array(kept), np.bincount(group, counts, minlength=most)[numbers]
