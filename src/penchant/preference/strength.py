r"""Preference strength: which pairs an ensemble doubts, what is done about them, and the reward learnt from the rest.

People agree on two answers in three. Ten small reward nets vote on every pair, each only where it was not trained on
it: with d the difference of a net's rewards, in units of its own spread,

$$u_i = \text{mean}_m\ d_{i,m}, \qquad s_i = \text{sd}_m\ d_{i,m}$$

are a pair's strength and how far the voters disagree. The weakest fifth is likely wrong, the next fifth ambiguous. What
is done about it is the treatment, and it is data: `treat` gives comparisons that any model or aligner can learn from.

- `flip` turns pairs of the weakest fifth round if u is below 0; `soften` smooths the labels of all with u below 0;
- `margin` asks that the reward be ahead by u: $L = -\log\sigma(r_c - r_r - u)$, after flipping by |u|, and never by
  less than 0 (a negative margin would reward being wrong), cut at the 99th percentile;
- `flip+margin`, `soften+margin`, and `keep`, which changes nothing.

Two terms make the reward hold on answers of another kind. `contrast` pulls two views of a pair together and away from
other pairs (SimCSE on differences of features, dropout on the inputs). MetaRM looks ahead: answers to prompts from
elsewhere, which nobody compared, are given by `shift`; the weights first go where rewards of these spread most, and
the loss is measured and its gradient taken there.

$$J = \frac{2}{k^2}\sum_{i<j} \sigma(|r_i - r_j|), \qquad \theta' = \theta + \eta\,\nabla J(\theta), \qquad
  \theta \leftarrow \theta - \alpha\,\nabla L(\theta')$$

A person is everybody's reward plus own weights drawn to zero, as in `bradley_terry`.

Changed: the paper's voters have seen the pairs they vote on, which with enough epochs makes every wrong label look
right; ours are cross-fitted. A net's spread is the root mean square of its differences, which does not depend on which
side is called chosen. Left out: SwAV, the language-model term (its factor is 0 in the official code).

Source:
    Wang et al. (2024), Secrets of RLHF in Large Language Models Part II: Reward Modeling, arXiv 2401.06080, sections 2
    and 3.
    Gao, Yao and Chen (2021), SimCSE.

>>> import json
>>> from penchant.encoders import Attributes
>>> rng = np.random.default_rng(0)
>>> pairs = [sorted(rng.normal(size=(2, 2)).tolist(), key=lambda x: -x[0]) for _ in range(200)]
>>> pairs[0].reverse()  # a slip
>>> rows = [{"prompt": "", "chosen": json.dumps({"a": a[0], "b": a[1]}), "rejected": json.dumps({"a": b[0], "b": b[1]})}
...         for a, b in pairs]
>>> model = Strength(encoder=Attributes()).fit(Comparisons.from_rows(rows))
>>> bool(model.voted_.strength[0] < 0), model.voted_.counts["contradictory"]
(True, 0)
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, Self, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from scipy.special import expit
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import cross_entropy, dropout, normalize

from penchant.encoders import Encoder, encode_turns, feature_names
from penchant.errors import DataError, SettingsError
from penchant.preference import voting
from penchant.preference.bradley_terry import UserPosterior, learn_people, measured_precision
from penchant.preference.descent import arrays_of, descend, put_back, seeded
from penchant.preference.ensemble import Nets, Pairs, batch_size, differences_of, rewards_of
from penchant.preference.model import PreferenceModel
from penchant.preference.newton import newton
from penchant.preference.pooled import STRENGTHS_OF_PRIOR, spread_of, surprise
from penchant.preference.profiles import Profiles
from penchant.preference.votes import Places, Votes, finite_vectors, read_votes, require_width, rows_of
from penchant.preference.voting import Treatment, Voted, cross_fitted, labelled_first, same_pairs, treated
from penchant.records import Comparisons, Rankings
from penchant.turns import Turn

Array = NDArray[np.float64]

_NETS = 1  # of everybody's reward
_FEWEST_PAIRS = 20  # of fewer, voters that leave some out have learnt nothing
_FEWEST_TO_SET_ASIDE = 50
_SHARE_SET_ASIDE = 0.15
_LEAST_SHARPNESS = 0.01  # a reward that is wrong on labels set aside still says which answer it takes for the better
_CONTRAST_TEMPERATURE = 0.05
_SHIFTED_AT_ONCE = 16  # prompts whose answers are looked ahead to in one step
_TIE_BREAK = 1e-4  # logits of noise between equal rewards, whose distance has no slope


def contrastive(first: Tensor, second: Tensor, *, temperature: float = 0.05) -> Tensor:
    r"""How badly each pair is told from the others by another view of itself (SimCSE).

    $$-\log \frac{e^{\cos(h_i, h'_i)/t}}{\sum_j e^{\cos(h_i, h'_j)/t}}$$

    Args:
        first: one view of each pair, [..., pairs, dim].
        second: the other, [..., pairs, dim].
        temperature: t, > 0.

    Returns:
        Nats, [..., pairs]; log of the number of pairs where views tell nothing.
    """
    alike = normalize(first, dim=-1) @ normalize(second, dim=-1).transpose(-1, -2) / temperature
    own = torch.arange(alike.shape[-1]).expand(alike.shape[:-1])
    return cross_entropy(alike.flatten(0, -2), own.flatten(), reduction="none").view(alike.shape[:-1])


def apartness(rewards: Tensor) -> Tensor:
    r"""How far rewards of the answers to one prompt lie apart, MetaRM's J.

    $$\frac{2}{k^2}\sum_{i<j} \sigma(|r_i - r_j|)$$

    Args:
        rewards: of k answers, logits, [..., k].

    Returns:
        Between (k - 1) / 2k, all alike, and twice that, [...]. Equal rewards have no slope: add a little noise.
    """
    k = rewards.shape[-1]
    i, j = torch.triu_indices(k, k, offset=1)
    return 2 / k**2 * torch.sigmoid((rewards[..., i] - rewards[..., j]).abs()).sum(-1)


def looked_ahead(nets: Nets, shifted: Tensor, step: float) -> dict[str, Tensor]:
    """Weights one step up `apartness`, in which the slope of whatever is computed from them is that of the weights.

    Args:
        nets: any.
        shifted: vectors of k answers to each of some prompts, [prompts, k, dim].
        step: eta, how far.
    """
    names, weights = zip(*nets.named_parameters(), strict=True)
    rewards = nets(shifted.flatten(0, 1)).unflatten(1, shifted.shape[:2])
    noisy = rewards + _TIE_BREAK * torch.randn_like(rewards)
    slopes = torch.autograd.grad(apartness(noisy).mean(dim=1).sum(), weights)
    return {name: weight + step * slope for name, weight, slope in zip(names, weights, slopes, strict=True)}


class Strength(PreferenceModel):
    """A reward learnt from pairs after a vote on which of them to believe.

    Args:
        encoder: payloads to vectors.
        treatment: of the pairs, by strength: keep, flip, soften, margin, flip+margin or soften+margin.
        members: voters, M, >= 2.
        folds: parts in which each voter is cross-fitted, >= 2.
        share: q, of the pairs that are likely wrong, and as many that are ambiguous, in [0, 0.5).
        smoothing: share of its label that a softened pair gives away, in [0, 0.5).
        contrast: b, weight of the contrastive term, >= 0.
        contrast_on: "difference" of the two responses' features, or each "response" for itself.
        dropout: share of a view's inputs left out, in (0, 1).
        look_ahead: eta of MetaRM, used once answers are given by `shift`, >= 0.
        hidden: width of the nets, >= 1.
        epochs: most passes over the pairs, >= 1.
        learning_rate: > 0.
        prior_precision: of a person's own weights around zero; auto measures it on the later pairs of each person.
        seed: of everything that is drawn.

    Attributes:
        voted_: strength, spread and group of each pair, in the order they came; not saved.
        actions_: what was done to each; not saved.
        scale_: standard deviation of each feature, frozen, [dim].
        sharpness_: what rewards are multiplied by to be log-odds of labels: margins make a net too sure of itself.
        prior_precision_: as given or measured.
        users_: a `UserPosterior` for each person adapted to; its weights come on top of everybody's reward.

    Raises:
        SettingsError: a setting is out of range.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        treatment: Treatment = "flip+margin",
        members: int = 10,
        folds: int = 3,
        share: float = 0.2,
        smoothing: float = 0.1,
        contrast: float = 0.0,
        contrast_on: Literal["difference", "response"] = "difference",
        dropout: float = 0.1,
        look_ahead: float = 0.05,
        hidden: int = 64,
        epochs: int = 40,
        learning_rate: float = 2e-3,
        prior_precision: float | Literal["auto"] = "auto",
        seed: int = 0,
    ):
        if treatment not in get_args(Treatment) or contrast_on not in ("difference", "response"):
            raise SettingsError(
                f"treatment is one of {', '.join(get_args(Treatment))}, contrast_on difference or response: got "
                f"{treatment!r} and {contrast_on!r}."
            )
        for name, value, least in (("members", members, 2), ("folds", folds, 2), ("hidden", hidden, 1)):
            if value < least:
                raise SettingsError(f"{name} must be at least {least}: got {value!r}.")
        for name, share_of in (("share", share), ("smoothing", smoothing)):
            if not 0 <= share_of < 0.5:
                raise SettingsError(f"{name} must be in [0, 0.5): got {share_of!r}.")
        if not (0 < dropout < 1 and contrast >= 0 and look_ahead >= 0 and epochs >= 1 and learning_rate > 0):
            raise SettingsError(
                "dropout must be in (0, 1), contrast and look_ahead at least 0, epochs at least 1, learning_rate above "
                f"0: got {dropout!r}, {contrast!r}, {look_ahead!r}, {epochs!r}, {learning_rate!r}."
            )
        if prior_precision != "auto" and not 0 < prior_precision < np.inf:
            raise SettingsError(f"prior_precision must be a finite number above 0, or auto: got {prior_precision!r}.")
        self.encoder, self.treatment, self.members, self.folds = encoder, treatment, members, folds
        self.share, self.smoothing, self.contrast, self.contrast_on = share, smoothing, contrast, contrast_on
        self.dropout, self.look_ahead, self.hidden, self.epochs = dropout, look_ahead, hidden, epochs
        self.learning_rate, self.prior_precision, self.seed = learning_rate, prior_precision, seed

    def shift(self, answers: Rankings) -> Self:
        """Take note of prompts from where the reward will be used, with several answers each that nobody compared.

        Args:
            answers: two or more to each prompt; their order and ranks play no part.

        Raises:
            DataError: there are none, or the encoder gave something that is not finite.
        """
        if not len(answers):
            raise DataError("There are no answers to look ahead to; leave `shift` out, or bring some.")
        rows = answers.table.select(["prompt", "responses", "context", "form"]).to_pylist()
        asked = [
            Turn(row["prompt"], response, row["context"], row["form"] or "text")
            for row in rows
            for response in row["responses"]
        ]
        vectors = finite_vectors(self.encoder, encode_turns(self.encoder, asked))
        counts = [len(row["responses"]) for row in rows]
        lists = np.split(np.arange(len(asked)), np.cumsum(counts)[:-1])
        # A shorter list repeats itself: equal answers add no slope.
        self.shifted_ = vectors[np.stack([np.resize(places, max(counts)) for places in lists])]
        return self

    def vote(self, comparisons: Comparisons) -> Voted:
        """What voters say of each pair, none of whom saw it."""
        return self._vote(self._read(comparisons)[0])

    def treat(self, comparisons: Comparisons) -> Comparisons:
        """The comparisons after a vote of their own and its treatment, for any other model or aligner to learn from."""
        votes, _ = self._read(comparisons)
        after, done = treated(votes, self._vote(votes), self.treatment, smoothing=self.smoothing)
        flipped = np.array([action.startswith("flip") for action in done])
        turned = pa.array(flipped ^ (comparisons.numpy("strength") < 0.5))
        table = comparisons.table
        new = {
            "chosen": pc.if_else(turned, table["rejected"], table["chosen"]),
            "rejected": pc.if_else(turned, table["chosen"], table["rejected"]),
            "strength": pa.array(after.strength),
            "margin": pa.array(after.margin),
        }
        for name, column in new.items():
            table = table.set_column(table.schema.get_field_index(name), name, column)
        return Comparisons(table)

    def fit(self, comparisons: Comparisons, *, voted: Voted | None = None) -> Self:
        """Vote, treat, and learn everybody's reward; see `PreferenceModel.fit`.

        Args:
            comparisons: what to learn from.
            voted: what `vote(comparisons)` said before, to try several treatments after one vote.
        """
        votes, self.scale_ = self._read(comparisons)
        self.voted_ = self._vote(votes) if voted is None else voted
        after, self.actions_ = treated(votes, self.voted_, self.treatment, smoothing=self.smoothing)
        self._learn(votes, after)
        self.prior_precision_ = self._measured(votes) if self.prior_precision == "auto" else float(self.prior_precision)
        self.users_: Profiles[UserPosterior] = Profiles(UserPosterior)
        return self

    def _read(self, comparisons: Comparisons) -> tuple[Votes, Array]:
        """The votes with vectors in standard deviations and the label first, and the standard deviations."""
        votes = read_votes(self.encoder, comparisons)
        scale = spread_of(*(votes.vectors[side].astype(np.float64) for side in (votes.chosen, votes.rejected)))
        return labelled_first(replace(votes, vectors=(votes.vectors / scale).astype(np.float32))), scale

    def _vote(self, votes: Votes) -> Voted:
        differences = np.zeros((self.members, len(votes)))
        if same_pairs(votes).max() + 1 >= _FEWEST_PAIRS:
            differences = cross_fitted(
                votes,
                members=self.members,
                folds=self.folds,
                hidden=self.hidden,
                epochs=self.epochs,
                learning_rate=self.learning_rate,
                seed=self.seed,
            )
        return voting.voted(differences, votes, share=self.share)

    def _learn(self, votes: Votes, after: Votes) -> None:
        """Everybody's reward from treated pairs; when to stop, and how sure to be, is told by labels set aside.

        Args:
            votes: labelled first, untreated.
            after: the same, treated.
        """
        keys = same_pairs(votes)
        aside = np.zeros(len(votes), dtype=bool)
        if keys.max() + 1 >= _FEWEST_TO_SET_ASIDE:
            drawn = np.random.default_rng(self.seed).permutation(keys.max() + 1)
            aside = np.isin(keys, drawn[: round(_SHARE_SET_ASIDE * len(drawn))])
        held = votes.of(aside)
        with seeded(self.seed):
            self._nets = Nets(_NETS, dim=votes.vectors.shape[1], hidden=self.hidden)
        learn = np.flatnonzero(~aside)
        rng = np.random.default_rng(self.seed)
        order = torch.from_numpy(np.stack([rng.permutation(learn) for _ in range(_NETS)]))
        data = Pairs.of(after)

        def surprise_aside() -> float:
            # At its best sharpness: margins make rewards large, which is no reason to stop early.
            ahead = differences_of(self._nets, held).mean(dim=0).numpy().astype(np.float64)
            logits = _sharpness(ahead, held) * ahead - held.margin
            return float(surprise(logits, held.strength.astype(np.float64)).mean())

        shifted = None
        if hasattr(self, "shifted_") and self.look_ahead:
            shifted = torch.from_numpy((self.shifted_ / self.scale_).astype(np.float32))
        descend(
            lambda rows: self._loss(data, order[:, rows], shifted),
            self._nets.parameters(),
            len(learn),
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            batch_size=batch_size(len(learn)),
            seed=self.seed,
            measure=surprise_aside if aside.any() else None,
            patience=5,
        )
        self._nets.double()  # so that a response scores the same alone and among others
        self.sharpness_ = 1.0
        if self.voted_.strength.any():
            # As sure as voters who never saw a label turn out to be right to be: of all labels, not of a few set aside.
            ahead = differences_of(self._nets, held if aside.any() else votes).mean(dim=0).numpy()
            said = self.voted_.logits[aside] if aside.any() else self.voted_.logits
            ratio = np.sqrt((said**2).mean() / max((ahead**2).mean(), 1e-12))
            self.sharpness_ = _sharpness(self.voted_.logits, votes) * float(ratio)
        elif aside.any():
            self.sharpness_ = _sharpness(differences_of(self._nets, held).mean(dim=0).numpy(), held)

    def _loss(self, data: Pairs, rows: Tensor, shifted: Tensor | None) -> Tensor:
        """Of a batch, nats, summed over nets: each learns as if it were alone.

        Args:
            data: treated pairs.
            rows: each net's own, int64[nets, batch].
            shifted: answers to look ahead to, [prompts, k, dim].
        """
        ask: Callable[[Tensor], Tensor] = self._nets
        if shifted is not None:
            some = shifted[torch.randint(len(shifted), (_SHIFTED_AT_ONCE,))]
            ahead = looked_ahead(self._nets, some, self.look_ahead)
            ask = lambda x: functional_call(self._nets, ahead, (x,))  # noqa: E731 (closes over this step's weights)
        total = data.loss(ask, rows).mean(dim=1).sum()
        if self.contrast:
            views = (self._view(data, rows) for _ in range(2))
            total = total + self.contrast * contrastive(*views, temperature=_CONTRAST_TEMPERATURE).mean(dim=1).sum()
        return total

    def _view(self, data: Pairs, rows: Tensor) -> Tensor:
        """Features of pairs some of whose inputs are left out, [nets, pairs, hidden]."""
        chosen, rejected = (
            self._nets.features(dropout(data.x[side[rows]], self.dropout)) for side in (data.chosen, data.rejected)
        )
        return chosen - rejected if self.contrast_on == "difference" else torch.cat([chosen, rejected], dim=1)

    def _measured(self, votes: Votes) -> float:
        """How far people differ from everybody; the voters' word is what others say of a pair."""
        if not self.voted_.strength.any():
            return STRENGTHS_OF_PRIOR[-1]
        nobody = len(votes.people) + np.arange(len(votes))
        return measured_precision(
            votes.difference.astype(np.float64),
            votes.strength.astype(np.float64),
            votes.margin.astype(np.float64),
            np.where(votes.user < 0, nobody, votes.user),
            np.stack([votes.chosen, votes.rejected], axis=1),
            lambda rows: self.voted_.logits,
        )

    def adapt(self, user: str, comparisons: Comparisons) -> UserPosterior:
        """Learn one person; see `PreferenceModel.adapt`."""
        self._require_fitted()
        self._adapt(comparisons, {user: np.arange(len(comparisons))})
        return self.users_[user]

    def adapt_each(self, comparisons: Comparisons) -> Self:
        """Learn every person in the comparisons; see `PreferenceModel.adapt_each`."""
        self._require_fitted()
        self._adapt(comparisons, rows_of(comparisons))
        return self

    def _adapt(self, comparisons: Comparisons, rows: Mapping[str, Places]) -> None:
        dim = len(self.scale_)
        pairs = self._pairs(comparisons) if len(comparisons) else (np.empty((0, dim)), np.empty(0), np.empty(0))
        learn_people(self.users_, rows, np.zeros(dim), *pairs, scale=np.ones(dim), precision=self.prior_precision_)

    def names(self, field: str) -> list[str]:
        """The features that are weighed; see `ModelOfPeople.names`."""
        return feature_names(self.encoder, len(self.scale_))

    def _pairs(self, comparisons: Comparisons) -> tuple[Array, Array, Array]:
        """Differences, strength, and by how much everybody's reward still falls short of being even, of each pair."""
        votes = read_votes(self.encoder, comparisons)
        x = self._standard(votes.vectors)
        rewards = self._everybody(x)
        short = votes.margin - rewards[votes.chosen] + rewards[votes.rejected]
        return x[votes.chosen] - x[votes.rejected], votes.strength.astype(np.float64), short

    def without(self, user: str, others: Comparisons, *, answers: Rankings | None = None) -> Self:
        """The model that would be here without a person; see `PreferenceModel.without`.

        Args:
            user: whoever is forgotten.
            others: comparisons of everybody else.
            answers: what to look ahead to, if some of what `shift` was given belongs to the person.
        """
        shifted = self if answers is None else copy.copy(self).shift(answers)
        return super(Strength, shifted).without(user, others)

    def _reward(self, asked: Sequence[Turn], user: str | None) -> Array:
        x = self._standard(finite_vectors(self.encoder, encode_turns(self.encoder, asked)))
        known = self.users_.get(user) if user is not None else None
        return self._everybody(x) if known is None else self._everybody(x) + x @ known.weights

    def _predicted(self, comparisons: Comparisons) -> Array:
        difference, _, short = self._pairs(comparisons)
        ahead = -short
        places = self.users_.places(comparisons.table["user"].to_pylist())
        if (own := places >= 0).any():
            weights = self.users_.column("weights")[places[own]]
            ahead[own] += np.einsum("nd,nd->n", difference[own], weights)
        return np.asarray(expit(ahead))

    def _standard(self, vectors: NDArray[np.float32]) -> Array:
        require_width(vectors, len(self.scale_))
        return np.asarray(vectors / self.scale_)

    def _everybody(self, x: Array) -> Array:
        """Rewards of standardised responses, logits, [n]."""
        return np.asarray(self.sharpness_ * rewards_of(self._nets, x).mean(dim=0).numpy())

    def _state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        people, names = self.users_.state()
        arrays = {"scale": self.scale_, **arrays_of(self._nets, "nets"), **people}
        if hasattr(self, "shifted_"):
            arrays["shifted"] = self.shifted_
        values = {
            "settings": {name: getattr(self, name) for name in _SETTINGS},
            "sharpness": self.sharpness_,
            "prior_precision": self.prior_precision_,
            "users": names,
        }
        return arrays, values

    def _restore(self, arrays: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        self.__init__(encoder=self.encoder, **values["settings"])  # type: ignore[misc]
        self.scale_ = arrays["scale"]
        with seeded(self.seed):  # first weights are drawn, and replaced
            self._nets = Nets(len(arrays["nets.inner"]), dim=len(self.scale_), hidden=self.hidden).double()
        put_back(self._nets, arrays, "nets")
        if "shifted" in arrays:
            self.shifted_ = arrays["shifted"]
        self.sharpness_, self.prior_precision_ = float(values["sharpness"]), float(values["prior_precision"])
        self.users_ = Profiles.restored(UserPosterior, arrays, values["users"])


def _sharpness(ahead: Array, votes: Votes) -> float:
    """What differences of rewards are best multiplied by to be log-odds of the labels, drawn to 1."""
    fitted = newton(ahead[:, None], votes.strength, l2=1.0, centre=[1.0], margin=votes.margin).weights[0]
    return max(float(fitted), _LEAST_SHARPNESS)


_SETTINGS = (
    "treatment",
    "members",
    "folds",
    "share",
    "smoothing",
    "contrast",
    "contrast_on",
    "dropout",
    "look_ahead",
    "hidden",
    "epochs",
    "learning_rate",
    "prior_precision",
    "seed",
)
