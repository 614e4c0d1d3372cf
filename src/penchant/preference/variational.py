"""Variational preference learning: what kind of wants a person has is a hidden variable, inferred from a few choices.

For people whose handful of comparisons must say who they are, and for whoever wants to know how sure that is: a belief
about a person is a Gaussian, one pass of a net over the set of their comparisons in any order, and a reward is
conditioned on it. Learnt by the evidence lower bound: comparisons of one person are split at random, the belief from
one part must explain the other, - mean log P(y | a, b, z) + beta KL(q(z | context) || N(0, I)) (section 4.1).

Works on vectors from any encoder: sentence vectors, a language model's states (`HiddenState`), attributes, states of a
control task. `information_gain` says which questions would tell most (section 4.3); `penchant.preference.scaling`
makes rewards of different people comparable before a policy is trained on them (section 4.2).

What we changed, and why:
    The reward is everybody's linear one (`pooled`) plus trust (f(x, z) - f(x, 0)), f the paper's net on [x, z]: at the
    prior mean, where an unknown person stands, it *is* the pooled one. `trust` is the least that is not clearly worse
    than the best on people set aside: where people are alike it is 0, and nobody pays for being personalised.
    The heads give evidence and a precision for each comparison, so that the belief is prior times n observations: a
    mean pool alone cannot know how many comparisons it saw, and thin evidence must leave the belief near the prior.
    A comparison enters as (label times difference, middle, is decided), so that the label is explicit and a pair
    written the other way round is the same pair. Control code of the paper concatenates a fixed number in their order.
    The paper's language code rescales z to length sqrt(dim) in training only; here `latent_map="sphere"` does it in
    training and use alike, and the default does it nowhere, since at a fixed length nobody is near the prior.
    A learnt diagonal prior is not offered: the first layers on either side of z are affine, so it is the same model.
    The KL has its factor of one half (the control code drops it, which doubles beta). beta is per comparison.

Source:
    Poddar, Wan, Ivison, Gupta and Jaques (2024), Personalizing Reinforcement Learning from Human Feedback with
    Variational Preference Learning. NeurIPS. Annealing: Fu et al. (2019), Cyclical Annealing Schedule, NAACL.

>>> from penchant.encoders import Attributes
>>> def pair(liked, other, user):
...     return {"prompt": "", "chosen": f'{{"x": {liked}}}', "rejected": f'{{"x": {other}}}', "user": user}
>>> rows = [pair(1 + k % 3, k % 3, f"up{k % 11}") for k in range(66)]
>>> rows += [pair(k % 3, 1 + k % 3, f"down{k % 11}") for k in range(66)]
>>> model = Variational(encoder=Attributes(), hidden=16, latent=2).fit(Comparisons.from_rows(rows))
>>> belief = model.adapt("ann", Comparisons.from_rows([pair(1, 0, "ann"), pair(3, 2, "ann")]))
>>> up, down = model.reward([""] * 2, ['{"x": 2}', '{"x": 0}'], user="ann")
>>> bool(up > down), belief.entropy < model.belief("nobody").entropy
(True, True)
"""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, gelu, scaled_dot_product_attention

from penchant.encoders import Encoder, encode_turns
from penchant.errors import DataError, SettingsError
from penchant.preference.descent import arrays_of, descend, multilayer, put_back, seeded
from penchant.preference.episodes import Checks, pair_codes, set_apart, split
from penchant.preference.model import PreferenceModel
from penchant.preference.pooled import SURELY, least_bold, pooled, surprise
from penchant.preference.profiles import Profiles
from penchant.preference.votes import Votes, read_votes, require_width, rows_by
from penchant.records import Comparisons
from penchant.turns import Turn

Array = NDArray[np.float64]
Places = NDArray[np.int64]
Schedule = Literal["warm_up", "cyclical"]
LatentMap = Literal["plain", "sphere"]
Formula = Literal["exact", "moment_matched"]

_TRUSTS = (1.0, 0.75, 0.5, 0.25, 0.0)
_PAIRS_AT_ONCE = 8192
_FEWEST_STEPS = 4  # of an epoch


@dataclass(frozen=True)
class Belief:
    """What was inferred of a person: a Gaussian over hidden wants.

    Attributes:
        mean: [latent].
        variance: of each dimension, [latent]; 1 is knowing nothing.
        n_pairs: comparisons it rests on; with 0 it is the prior.
    """

    mean: Array
    variance: Array
    n_pairs: int

    @property
    def entropy(self) -> float:
        """How uncertain it is, nats."""
        return float(entropy(self.variance))


def entropy(variance: Array) -> Array:
    """Of Gaussians with independent dimensions, 1/2 sum log(2 pi e sigma^2), nats, [..., latent] -> [...].

    >>> round(float(entropy(np.ones(2))), 4)  # log(2 pi e)
    2.8379
    """
    return np.asarray(0.5 * np.log(2 * np.pi * np.e * variance).sum(axis=-1))


def kl_to_prior(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) || N(0, I)), nats, [..., latent] -> [...].

    >>> kl_to_prior(torch.tensor([[0.0], [2.0]]), torch.zeros(2, 1)).tolist()
    [0.0, 2.0]
    """
    return 0.5 * (log_variance.exp() + mean.square() - 1 - log_variance).sum(dim=-1)


def negative_elbo(logits: Tensor, strength: Tensor, is_target: Tensor, kl: Tensor, *, beta: float) -> Tensor:
    """- mean log P(y | a, b, z) over the targets of each set, + beta KL; nats a comparison, [sets].

    Args:
        logits: that the first of each pair is preferred, under one draw of z a set, [sets, pairs].
        strength: soft labels, [sets, pairs].
        is_target: which pairs count, bool[sets, pairs].
        kl: of each set's belief to the prior, nats, [sets].
        beta: weight of a nat of belief against a nat a comparison.
    """
    lost = binary_cross_entropy_with_logits(logits, strength, reduction="none") * is_target
    return lost.sum(dim=1) / is_target.sum(dim=1).clamp(min=1) + beta * kl


def annealed(step: int, n_steps: int, schedule: Schedule, *, share: float = 0.2, cycles: int = 4) -> float:
    """The part of beta that counts at a step, in [0, 1]: early KL would make z useless before it is used.

    Args:
        step: from 0.
        n_steps: of the whole training.
        schedule: "warm_up" rises linearly over a share of the steps; "cyclical" rises by a cosine over the first half
            of each cycle and stays up for the other.
        share: of the warm-up.
        cycles: how many.

    >>> [annealed(step, 100, "warm_up") for step in (0, 10, 20, 99)]
    [0.0, 0.5, 1.0, 1.0]
    >>> [round(annealed(step, 80, "cyclical"), 2) for step in (0, 5, 10, 19, 20)]
    [0.0, 0.5, 1.0, 1.0, 0.0]
    """
    if schedule == "warm_up":
        return min(1.0, step / max(1.0, share * n_steps))
    within = (step * cycles / n_steps) % 1.0
    return 0.5 - 0.5 * math.cos(math.pi * min(1.0, 2 * within))


class SetEncoder(nn.Module):
    """Comparisons of one person, in any order and number, to a belief about the person.

    Args:
        dim: of a response's vector.
        hidden: width of the net.
        latent: dimensions of the belief.
    """

    def __init__(self, dim: int, hidden: int, latent: int):
        super().__init__()
        self.pair = multilayer(2 * dim + 1, hidden, hidden)
        self.query, self.key, self.value = (nn.Linear(hidden, hidden) for _ in range(3))
        self.heads = nn.Linear(hidden, 2 * latent)

    def forward(self, pairs: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of each set's belief, each [sets, latent].

        Args:
            pairs: as `pair_features` makes them, [sets, pairs, 2 dim + 1].
            present: where there is a pair, bool[sets, pairs]; at least one a set.
        """
        each = self.pair(pairs)
        seen = each + scaled_dot_product_attention(
            self.query(each), self.key(each), self.value(each), attn_mask=present[:, None, :]
        )
        n = present.sum(dim=1, keepdim=True)
        mean_pool = (seen * present[:, :, None]).sum(dim=1) / n
        evidence, log_precision = self.heads(mean_pool).chunk(2, dim=-1)
        gained = n * log_precision.clamp(-8.0, 4.0).exp()  # clamped: an exponential must not overflow on odd input
        return gained * evidence / (1 + gained), -torch.log1p(gained)


def pair_features(chosen: Tensor, rejected: Tensor, strength: Tensor) -> Tensor:
    """[label (chosen - rejected), middle, label^2], label = 2 strength - 1: the same for a pair and its mirror image.

    Args:
        chosen: vectors, [..., dim].
        rejected: vectors, [..., dim].
        strength: 0..1, 0.5 a tie, [...].

    Returns:
        [..., 2 dim + 1].
    """
    label = (2 * strength - 1)[..., None]
    return torch.cat([label * (chosen - rejected), (chosen + rejected) / 2, label.square()], dim=-1)


class Decoder(nn.Module):
    """How much more a person with wants z likes a response than everybody does: f(x, z) - f(x, 0).

    Args:
        dim: of a response's vector.
        hidden: width of the net.
        latent: dimensions of z.
    """

    def __init__(self, dim: int, hidden: int, latent: int):
        super().__init__()
        self.response = nn.Linear(dim, hidden)
        self.person = nn.Linear(latent, hidden, bias=False)
        self.wider = nn.Linear(hidden, hidden)
        self.reward = nn.Linear(hidden, 1, bias=False)  # what is the same for all responses says nothing

    def forward(self, responses: Tensor, wants: Tensor) -> Tensor:
        """Logits, [...].

        Args:
            responses: vectors, [..., dim].
            wants: z, [..., latent], broadcast against the responses.
        """
        seen = self.response(responses)
        extra: Tensor = self.reward(self._shown(seen + self.person(wants)) - self._shown(seen))
        return extra[..., 0]

    def _shown(self, seen: Tensor) -> Tensor:
        return gelu(self.wider(gelu(seen)))


def mapped(wants: Tensor, latent_map: LatentMap) -> Tensor:
    """What the decoder gets of hidden wants, in training and use: as they are, or at length sqrt(latent); 0 stays 0."""
    if latent_map == "plain":
        return wants
    length: Tensor = torch.linalg.vector_norm(wants, dim=-1, keepdim=True).clamp(min=1e-6)
    return wants * math.sqrt(wants.shape[-1]) / length


class Variational(PreferenceModel):
    """A belief about each person's hidden wants, and a reward conditioned on it.

    Args:
        encoder: payloads to vectors.
        latent: dimensions of the hidden wants.
        hidden: width of the nets.
        beta: weight of the KL against a comparison, >= 0; much of it makes people indistinguishable.
        schedule: how beta rises while learning, "warm_up" or "cyclical".
        latent_map: "plain", or "sphere" for hidden wants of fixed length.
        context: most comparisons a belief rests on while learning; in use it may rest on more.
        epochs: most passes over people; it stops where people set aside are no longer predicted better.
        patience: passes without improvement before it stops.
        learning_rate: of AdamW.
        weight_decay: of AdamW.
        batch_size: people of a step.
        seed: of weights, order and draws.

    Attributes:
        weights_: everybody's, logits per standard deviation of each feature, [dim].
        scale_: standard deviation of each feature, frozen, [dim].
        trust_: how much of the personal part is used, 0 (none) to 1, measured on people set aside.
        nats_: mean KL of the beliefs about people set aside to the prior, nats.
        told_: how much more surprising choices of people set aside are under somebody else's belief than under their
            own, nats a choice; near 0 beliefs say nothing, whatever their KL (posterior collapse).
        users_: a `Belief` for each person adapted to.

    Raises:
        SettingsError: a setting is out of range.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        latent: int = 16,
        hidden: int = 128,
        beta: float = 1e-3,
        schedule: Schedule = "warm_up",
        latent_map: LatentMap = "plain",
        context: int = 16,
        epochs: int = 100,
        patience: int = 15,
        learning_rate: float = 3e-3,
        weight_decay: float = 1e-2,
        batch_size: int = 64,
        seed: int = 0,
    ):
        counts = {"latent": latent, "hidden": hidden, "context": context, "epochs": epochs}
        counts |= {"patience": patience, "batch_size": batch_size}
        for name, count in counts.items():
            if count < 1:
                raise SettingsError(f"{name} must be at least 1: got {count!r}.")
        if not (0 <= beta < np.inf and 0 < learning_rate < np.inf and 0 <= weight_decay < np.inf):
            raise SettingsError(
                f"beta and weight_decay must be at least 0 and learning_rate above 0, all finite: got {beta!r}, "
                f"{weight_decay!r}, {learning_rate!r}."
            )
        for name, word, allowed in (("schedule", schedule, Schedule), ("latent_map", latent_map, LatentMap)):
            if word not in get_args(allowed):
                raise SettingsError(f"{name} must be one of {', '.join(get_args(allowed))}: got {word!r}.")
        self.encoder, self.latent, self.hidden = encoder, latent, hidden
        self.beta, self.schedule, self.latent_map, self.context = beta, schedule, latent_map, context
        self.epochs, self.patience, self.learning_rate = epochs, patience, learning_rate
        self.weight_decay, self.batch_size, self.seed = weight_decay, batch_size, seed

    def fit(self, comparisons: Comparisons) -> Self:
        """Learn what everybody prefers, and how to tell people apart; see `PreferenceModel.fit`.

        People with one comparison have a say in everybody's reward only: nothing is left that a belief could explain.
        """
        votes = read_votes(self.encoder, comparisons)
        everybody = pooled(votes)
        self.weights_, self.scale_ = everybody.weights, everybody.scale
        self._make_nets()
        training, checks = set_apart(votes, self.context, self.seed)
        self.trust_, self.nats_, self.told_ = 0.0, 0.0, 0.0
        if len(training) and (checks.targets >= 0).any():
            # Everybody's reward must not have seen what is set aside, or the personal part would have nothing to add.
            early = pooled(votes.of(np.unique(training[training >= 0])), l2=everybody.l2)
            self._learn(_Batches(votes, self.scale_, early.weights / early.scale), training, checks)
        else:
            logging.getLogger(__name__).warning(
                "Variational: of %d comparisons too few are by people who left at least two, or all are by one "
                "person; everybody's reward serves for all.",
                len(votes),
            )
        self._encoder.double()
        self._decoder.double()
        self.users_: Profiles[Belief] = Profiles(Belief)
        return self

    def adapt(self, user: str, comparisons: Comparisons) -> Belief:
        """Infer one person's wants by one pass over their comparisons; see `PreferenceModel.adapt`."""
        self._require_fitted()
        self.users_[user] = self._inferred(comparisons)
        return self.users_[user]

    def adapt_each(self, comparisons: Comparisons) -> Self:
        """Infer everybody's wants, those with equally many comparisons at once; see `PreferenceModel.adapt_each`."""
        self._require_fitted()
        if not len(comparisons):
            return self
        votes = read_votes(self.encoder, comparisons)
        require_width(votes.vectors, len(self.weights_))
        rows = rows_by(votes.user, len(votes.people))
        mean, variance = self._beliefs(votes, rows)
        self.users_.put_many(votes.people, mean=mean, variance=variance, n_pairs=np.array([len(one) for one in rows]))
        return self

    def belief(self, user: str | None) -> Belief:
        """What is believed of a person; of one who was not adapted to it is the prior, with `n_pairs` 0.

        Raises:
            NotFittedError: the model was not fitted.
        """
        self._require_fitted()
        known = self.users_.get(user) if user is not None else None
        return self._prior() if known is None else known

    def _reward(self, asked: Sequence[Turn], user: str | None) -> Array:
        """Logits up to a constant, at the mean of the belief; see `PreferenceModel.reward`."""
        vectors = encode_turns(self.encoder, asked)
        require_width(vectors, len(self.weights_))
        scaled = vectors / self.scale_
        return np.asarray(scaled @ self.weights_ + self._extra(scaled, self.belief(user).mean))

    def _predicted(self, comparisons: Comparisons) -> Array:
        votes = read_votes(self.encoder, comparisons)
        places = self.users_.places(votes.people)
        means = self.users_.column("mean") if len(self.users_) else np.empty((0, self.latent))
        table = np.concatenate([means, np.zeros((1, self.latent))])  # the last row is everybody
        return self._probability(votes, table[np.append(places, -1)[votes.user]])

    def probability_after(self, known: Comparisons, targets: Comparisons) -> Array:
        """P(chosen is preferred) in each target, by one person of whom only some comparisons are known, float64[n].

        Args:
            known: all by that person; may be empty.
            targets: pairs to predict.

        Raises:
            DataError: a target is also known, which would be reading, not predicting.
            NotFittedError: the model was not fitted.
        """
        self._require_fitted()
        if not len(targets):
            return np.empty(0)
        both = read_votes(self.encoder, _together(known, targets))
        pairs = pair_codes(both)
        leaked = np.flatnonzero(np.isin(pairs[len(known) :], pairs[: len(known)]))
        if len(leaked):
            raise DataError(
                f"Target {leaked[0]} is a pair that is also among the {len(known)} known ones ({len(leaked)} of "
                f"{len(targets)} targets): its answer would be read, not predicted. Leave it out of one of them."
            )
        [mean], _ = self._beliefs(both, [np.arange(len(known))])
        asked = both.of(np.arange(len(known), len(both)))
        return self._probability(asked, np.broadcast_to(mean, (len(asked), self.latent)))

    def information_gain(
        self,
        questions: Comparisons,
        known: Comparisons,
        *,
        sets: ArrayLike | None = None,
        formula: Formula = "exact",
        n_answers: int = 50,
        n_draws: int = 256,
        seed: int = 0,
    ) -> Array:
        """How much less uncertain the answers to each set of questions are expected to leave us about a person, nats.

        All answers a set can get are weighed by how likely they are now; of more than `n_answers`, so many are drawn.

        Args:
            questions: pairs that can be shown; which side stands as chosen plays no part.
            known: comparisons of the person; may be empty.
            sets: rows of the questions that would be asked together, [sets, size]; by default each alone.
            formula: "exact", entropy now minus expected entropy then; or "moment_matched", the official code's: log of
                the total variance over answers in place of the entropy now.
            n_answers: most answers looked at for each set.
            n_draws: draws from the belief by which answers are weighed.
            seed: of the draws.

        Returns:
            [sets]; a net's beliefs need not be consistent, so a value may be slightly below 0.

        Raises:
            DataError: there are no questions, or a set asks one that is not there.
            SettingsError: there is no such formula.
            NotFittedError: the model was not fitted.
        """
        self._require_fitted()
        if formula not in get_args(Formula):
            raise SettingsError(f"formula must be one of {', '.join(get_args(Formula))}: got {formula!r}.")
        asked = np.arange(len(questions))[:, None] if sets is None else np.asarray(sets, dtype=np.int64)
        if asked.ndim != 2 or ((asked < 0) | (asked >= len(questions))).any():
            raise DataError(
                f"sets has shape {asked.shape} and numbers from {asked.min(initial=0)} to {asked.max(initial=0)}; it "
                f"must be [sets, size], of rows of the {len(questions)} questions."
            )
        votes = read_votes(self.encoder, _together(known, questions))
        n_known, rng = len(known), np.random.default_rng(seed)
        require_width(votes.vectors, len(self.weights_))
        [mean], [variance] = self._beliefs(votes, [np.arange(n_known)])
        wants = mean + np.sqrt(variance) * rng.standard_normal((n_draws, self.latent))
        chances = expit(self._logits(votes.of(np.arange(n_known, len(votes))), wants))  # [draws, questions]
        answers, weights = _answers(chances[:, asked], n_answers, rng)  # [sets, answers, size] and [sets, answers]
        rows = np.concatenate([np.broadcast_to(np.arange(n_known), (len(asked), n_known)), n_known + asked], axis=1)
        strength = np.concatenate(
            [np.broadcast_to(votes.strength[:n_known], (*weights.shape, n_known)), answers], axis=2
        )
        means, variances = self._beliefs_given(votes, rows, strength)
        uncertain = np.einsum("sa,sa->s", weights, entropy(variances))
        if formula == "exact":
            return np.asarray(entropy(variance) - uncertain)
        centre = np.einsum("sa,sal->sl", weights, means)
        total = np.einsum("sa,sal->sl", weights, variances + (means - centre[:, None]) ** 2)
        return np.asarray(entropy(total) - uncertain)

    def _make_nets(self) -> None:
        dim = len(self.weights_)
        with seeded(self.seed):
            self._encoder = SetEncoder(dim, self.hidden, self.latent)
            self._decoder = Decoder(dim, self.hidden, self.latent)
        nn.init.zeros_(self._decoder.reward.weight)  # learning begins at everybody's reward

    def _learn(self, batches: "_Batches", training: Places, checks: Checks) -> None:
        """Maximise the evidence lower bound, then measure how far the personal part can be trusted."""
        sets, strength_of_kl = torch.from_numpy(training), 0.0
        batch_size = min(self.batch_size, len(sets))
        n_rows = max(len(sets), _FEWEST_STEPS * batch_size)  # few people are split anew several times in each epoch

        def before_step(step: int, n_steps: int) -> None:
            nonlocal strength_of_kl
            strength_of_kl = self.beta * annealed(step, n_steps, self.schedule)

        def loss(rows: Tensor) -> Tensor:
            some, is_context, is_target = split(sets[rows % len(sets)], batches.codes, self.context)
            width = int(is_context.sum(dim=1).max())
            mean, log_variance = self._encoder(batches.pairs(some[:, :width]), is_context[:, :width])
            wants = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
            logits = batches.logits(some, self._decoder, mapped(wants, self.latent_map))
            kl = kl_to_prior(mean, log_variance)
            return negative_elbo(logits, batches.strength[some], is_target, kl, beta=strength_of_kl).mean()

        descend(
            loss,
            [*self._encoder.parameters(), *self._decoder.parameters()],
            n_rows,
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            batch_size=batch_size,
            seed=self.seed,
            measure=lambda: float(self._surprises(batches, checks, (1.0,)).mean()),
            patience=self.patience,
            before_step=before_step,
        )
        with torch.no_grad():
            surprises = self._surprises(batches, checks, _TRUSTS)
            others = self._surprises(batches, checks, (1.0,), shift=len(checks.context) // 2)
            context = torch.from_numpy(checks.context)
            self.nats_ = float(kl_to_prior(*self._encoder(batches.pairs(context), context >= 0)).mean())
        self.trust_ = _TRUSTS[least_bold(surprises, to_leave=SURELY)]
        self.told_ = float(others.mean() - surprises[:, 0].mean())

    def _surprises(self, batches: "_Batches", checks: Checks, trusts: Sequence[float], *, shift: int = 0) -> Array:
        """Mean surprise of each unit of the checks at each trust, nats, [units, trusts].

        Args:
            batches: pairs as tensors.
            checks: what is predicted.
            trusts: parts of the personal reward that count.
            shift: how many checks further the belief is taken from; 0 takes each one's own.
        """
        context, targets = torch.from_numpy(checks.context), torch.from_numpy(checks.targets)
        mean, _ = self._encoder(batches.pairs(context), context >= 0)
        base = batches.base[targets]
        extra = batches.logits(targets, self._decoder, mapped(mean.roll(shift, 0), self.latent_map)) - base
        there = (targets >= 0).numpy()
        units = checks.unit[there]
        counts = np.bincount(units)
        strength = batches.strength[targets].numpy()[there]
        lost = [surprise((base + trust * extra).double().numpy()[there], strength) for trust in trusts]
        by_unit = np.stack([np.bincount(units, each) / np.maximum(counts, 1) for each in lost], axis=1)
        return by_unit[counts > 0]

    def _inferred(self, comparisons: Comparisons) -> Belief:
        if not len(comparisons):
            return self._prior()
        votes = read_votes(self.encoder, comparisons)
        require_width(votes.vectors, len(self.weights_))
        [mean], [variance] = self._beliefs(votes, [np.arange(len(votes))])
        return Belief(mean, variance, len(votes))

    def _prior(self) -> Belief:
        return Belief(np.zeros(self.latent), np.ones(self.latent), 0)

    def _beliefs(self, votes: Votes, sets: Sequence[Places]) -> tuple[Array, Array]:
        """Means and variances from the pairs of each set, [sets, latent]; sets of equal size go together, unpadded."""
        mean, variance = np.zeros((len(sets), self.latent)), np.ones((len(sets), self.latent))
        sizes = np.array([len(one) for one in sets])
        for size in np.unique(sizes[sizes > 0]):
            alike = np.flatnonzero(sizes == size)
            for some in np.array_split(alike, math.ceil(len(alike) * size / _PAIRS_AT_ONCE)):
                rows = np.stack([sets[one] for one in some])
                means, variances = self._beliefs_given(votes, rows, votes.strength[rows][:, None])
                mean[some], variance[some] = means[:, 0], variances[:, 0]
        return mean, variance

    def _beliefs_given(self, votes: Votes, rows: Places, strength: Array) -> tuple[Array, Array]:
        """Beliefs from sets of pairs under several answers to them.

        Args:
            votes: what the rows are of.
            rows: [sets, pairs].
            strength: [sets, answers, pairs].

        Returns:
            Means and variances, [sets, answers, latent].
        """
        chosen, rejected = (
            torch.from_numpy(votes.vectors[side[rows]] / self.scale_) for side in (votes.chosen, votes.rejected)
        )
        n_sets, n_answers, size = strength.shape
        found = []
        with torch.no_grad():
            for one in range(n_answers):
                answered = torch.from_numpy(np.ascontiguousarray(strength[:, one])).double()
                features = pair_features(chosen, rejected, answered)
                found.append(self._encoder(features, torch.ones(n_sets, size, dtype=torch.bool)))
        means, log_variances = (torch.stack(parts, dim=1) for parts in zip(*found, strict=True))
        return means.numpy(), log_variances.exp().numpy()

    def _extra(self, scaled: Array, wants: Array) -> Array:
        """How much more persons with some wants, [..., latent], like responses than everybody does, trusted, [...]."""
        if not self.trust_ or not wants.any():
            return np.zeros(np.broadcast_shapes(scaled.shape[:-1], wants.shape[:-1]))
        with torch.no_grad():
            given = mapped(torch.from_numpy(np.ascontiguousarray(wants)), self.latent_map)
            return np.asarray(self.trust_ * self._decoder(torch.from_numpy(scaled), given).numpy())

    def _probability(self, votes: Votes, means: Array) -> Array:
        """P(chosen is preferred) by persons with beliefs of some means, [pairs, latent]."""
        require_width(votes.vectors, len(self.weights_))
        found = np.empty(len(votes))
        for rows in np.array_split(np.arange(len(votes)), math.ceil(len(votes) / _PAIRS_AT_ONCE)):
            sides = (votes.vectors[side[rows]] / self.scale_ for side in (votes.chosen, votes.rejected))
            chosen, rejected = (side @ self.weights_ + self._extra(side, means[rows]) for side in sides)
            found[rows] = expit(chosen - rejected - votes.margin[rows])
        return found

    def _logits(self, votes: Votes, wants: Array) -> Array:
        """Logits that the first is preferred, by each of several possible persons, [wants, pairs]."""
        chosen, rejected = (votes.vectors[side] / self.scale_ for side in (votes.chosen, votes.rejected))
        extra = self._extra(chosen[None], wants[:, None]) - self._extra(rejected[None], wants[:, None])
        return np.asarray((chosen - rejected) @ self.weights_ - votes.margin + extra)

    def _sound(self, profile: Belief) -> Belief:
        if not (profile.variance > 0).all() or profile.n_pairs < 0:
            raise SettingsError("Of a belief every variance must be above 0, and n_pairs at least 0.")
        return profile

    def _state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        people, names = self.users_.state()
        nets = arrays_of(self._encoder, "encoder") | arrays_of(self._decoder, "decoder")
        arrays = {"weights": self.weights_, "scale": self.scale_} | people
        arrays |= {name: array.astype(np.float32) for name, array in nets.items()}  # as they were learnt: nothing lost
        return arrays, {
            "settings": {name: getattr(self, name) for name in _SETTINGS},
            "trust": self.trust_,
            "nats": self.nats_,
            "told": self.told_,
            "users": names,
        }

    def _restore(self, arrays: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        self.__init__(encoder=self.encoder, **values["settings"])  # type: ignore[misc]
        self.weights_, self.scale_ = arrays["weights"], arrays["scale"]
        self.trust_, self.nats_, self.told_ = (float(values[name]) for name in ("trust", "nats", "told"))
        self._make_nets()
        for net, name in ((self._encoder, "encoder"), (self._decoder, "decoder")):
            put_back(net.double(), arrays, name)
        self.users_ = Profiles.restored(Belief, arrays, values["users"])


_SETTINGS = (
    "latent",
    "hidden",
    "beta",
    "schedule",
    "latent_map",
    "context",
    "epochs",
    "patience",
    "learning_rate",
    "weight_decay",
    "batch_size",
    "seed",
)


class _Batches:
    """Pairs as tensors.

    Args:
        votes: comparisons as numbers.
        scale: of each feature, [dim].
        weights: everybody's, logits per unit of a feature, [dim].
    """

    def __init__(self, votes: Votes, scale: Array, weights: Array):
        liked = votes.vectors.astype(np.float64) @ weights
        base = liked[votes.chosen] - liked[votes.rejected] - votes.margin
        self.vectors = torch.from_numpy((votes.vectors / scale).astype(np.float32))
        self.chosen, self.rejected = torch.from_numpy(votes.chosen), torch.from_numpy(votes.rejected)
        self.strength = torch.from_numpy(votes.strength)
        self.base = torch.from_numpy(base.astype(np.float32))  # logits by everybody's reward, margin taken off, [pairs]
        self.codes = torch.from_numpy(pair_codes(votes))

    def pairs(self, rows: Tensor) -> Tensor:
        """Features of pairs for the encoder, [..., 2 dim + 1]."""
        return pair_features(self.vectors[self.chosen[rows]], self.vectors[self.rejected[rows]], self.strength[rows])

    def logits(self, rows: Tensor, decoder: Decoder, wants: Tensor) -> Tensor:
        """Logits that the first is preferred by the person of each set, [sets, pairs]."""
        wants = wants[:, None, :]
        chosen, rejected = (self.vectors[side[rows]] for side in (self.chosen, self.rejected))
        ahead: Tensor = self.base[rows] + decoder(chosen, wants) - decoder(rejected, wants)
        return ahead


def _together(first: Comparisons, second: Comparisons) -> Comparisons:
    return Comparisons(pa.concat_tables([first.table, second.table])) if len(first) else second


def _answers(chances: Array, n_answers: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Answers that sets of questions can get, and how likely each is.

    Args:
        chances: that each question's first is preferred, under each draw of the person, [draws, sets, size].
        n_answers: most answers; of more, so many are drawn, all weighing alike.
        rng: source of chance.

    Returns:
        1 where the first is preferred, [sets, answers, size], and weights that sum to 1 over answers, [sets, answers].
    """
    n_draws, n_sets, size = chances.shape
    if 2**size <= n_answers:
        every = np.stack(np.meshgrid(*[[0.0, 1.0]] * size, indexing="ij"), axis=-1).reshape(-1, size)
        likely = np.where(every, chances[:, :, None], 1 - chances[:, :, None]).prod(axis=3).mean(axis=0)
        return np.broadcast_to(every, (n_sets, *every.shape)), likely
    person = rng.integers(n_draws, size=n_answers)
    drawn = rng.random((n_answers, n_sets, size)) < chances[person]
    return drawn.transpose(1, 0, 2).astype(np.float64), np.full((n_sets, n_answers), 1 / n_answers)
