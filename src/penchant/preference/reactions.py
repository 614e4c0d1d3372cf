"""How likely a reply is to be loved, learnt from the light signs that people leave on what they are shown.

Hearts on replies say what everyday people like where nobody was asked to judge. They are few (one reply in a hundred),
late, one-sided (no heart is no dislike), and some people leave them on everything. `ReactionRate` learns the
probability of a reaction to a reply, P[love] = sigmoid(f(prompt, reply)), from all replies that were shown:

1. **Clean** (`cleaned`): a reaction counts if it came within a window, and a reply that was shown so late that the
   window is still open teaches nothing; people who react to more than a plausible share of what they see are left out;
   so are prompts that ask for a reaction, and the same reply to the same person again. Every loss is counted by reason.
2. **Train** with binary cross-entropy on all positives and a share rho of the negatives. In such a sample the log-odds
   are too high by -log rho: f is fitted with that correction inside, so that it speaks of all replies.
3. **Control** for the place in the conversation, where goodbyes attract hearts: `turn` is a regressor, and predictions
   are made at its mean.
4. **Calibrate** slope and intercept on people of whom nothing was sampled away (Platt's scaling).

A record is one reply that was shown: `reaction` is the sign, or "none". Its `extra` may hold `turn` (place in the
conversation, from 1), `after_seconds` (from reply to reaction) and `policy_version`.

It scores replies like every `ModelOfPeople`, for everybody and, after `adapt`, for a person; but it learns from
reactions and predicts reactions, so it is no `PreferenceModel` and stands outside their contract suite. It never makes
pairs of a loved and an unloved reply: to different prompts that would compare the prompts.

Changed: the 99.9th percentile of people's rates, above which one would drop them, means nothing where one in ten reacts
to everything; who is left out is told by a binomial tail against five times the rate of the others. Left out: an
end-to-end language model (an encoder of its states does here), and choosing a sign by the clarity of its sentiment.

Source:
    Han, Chen, Sankararaman et al. (2025), Reinforcement learning from user feedback. arXiv 2505.14946.
    Logit correction of a case-control sample: Prentice and Pyke (1979), Biometrika 66.
    Platt (1999), Probabilistic outputs for support vector machines.

>>> from penchant.encoders import Attributes
>>> shown = [(warm, "love" if warm and i % 4 == 0 else "none") for i in range(40) for warm in (0, 1)]
>>> rows = [{"prompt": f"q{i}", "response": f'{{"warm": {warm}}}', "reaction": r} for i, (warm, r) in enumerate(shown)]
>>> model = ReactionRate(encoder=Attributes(), l2=0.01, share_to_calibrate=0.0).fit(Reactions.from_rows(rows))
>>> model.reward(["", ""], ['{"warm": 1}', '{"warm": 0}']).round(1).tolist()  # a quarter is log-odds of -1.1
[-1.1, -7.8]
"""

import json
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import binom

from penchant.encoders import Encoder, encode_turns
from penchant.errors import DataError, SettingsError
from penchant.preference.bradley_terry import user_posteriors
from penchant.preference.model import ModelOfPeople
from penchant.preference.newton import newton
from penchant.preference.profiles import Profiles
from penchant.preference.votes import codes_of, encoded_sides, first_and_place, joint_codes, require_width
from penchant.records import Reactions
from penchant.turns import Turn

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

NONE = "none"
ASKS_FOR_A_REACTION = (
    r"\b(?:heart|like|love|react(?: to)?|upvote|thumbs?[- ]up)\b[^.?!]*\b(?:reply|message|answer|response|post)\b"
)
_TIMES_THE_RATE = 5.0  # of the others; who leaves clearly more signs than that does not tell replies apart
_FEWEST_REPLIES = 5  # below it nobody is suspected
_FEWEST_POSITIVES = 20  # below it slope and intercept would be noise
_FLAT = 1e-6  # precision of the prior on what must not be shrunk


@dataclass(frozen=True)
class Cleaning:
    """What of a log is believed.

    Attributes:
        window: seconds after a reply within which a reaction counts; replies younger than that at the end of the log
            teach nothing, whether loved or not. None: every reaction counts, however late.
        until: the end of the log, ISO 8601; None is the last time in it. What was shown later is left out.
        suspicious: people are left out whose reactions would be so improbable for somebody who reacts five times as
            often as others; 0 keeps everybody but those who react to everything.
        most_per_person: replies of one person, drawn at random; None keeps all.
        asks: pattern of prompts that ask for a reaction; None keeps them.
        seed: of what is drawn.
    """

    window: float | None = None
    until: str | None = None
    suspicious: float = 1e-3
    most_per_person: int | None = 1000
    asks: str | None = ASKS_FOR_A_REACTION
    seed: int = 0


BELIEVE_ALL = Cleaning(suspicious=0.0, most_per_person=None, asks=None)


@dataclass(frozen=True)
class Shown:
    """Replies that were shown, as they are learnt from.

    Attributes:
        reactions: the records kept.
        rows: their numbers among the records given, int[rows].
        loved: whether each got the sign in time, bool[rows].
        turn: its place in the conversation, NaN where unknown, [rows].
        dropped: rows left out, by reason; kept plus all dropped equals the rows given.
        n_late: rows kept whose reaction came after the window, and counts as none.
    """

    reactions: Reactions
    rows: NDArray[np.int64]
    loved: Mask
    turn: Array
    dropped: dict[str, int]
    n_late: int


def details(reactions: Reactions, name: str) -> list[Any]:
    """A value of each record's `extra`, None where there is none."""
    texts = reactions.table["extra"].to_pylist()
    return [None if text is None else json.loads(text).get(name) for text in texts]


def cleaned(reactions: Reactions, *, kind: str = "love", cleaning: Cleaning | None = None) -> Shown:
    """The replies that teach something, and how many were left out for each reason.

    Args:
        reactions: one record for each reply that was shown, "none" where nobody reacted.
        kind: the sign that counts; every other one is as good as none.
        cleaning: what is believed.

    Raises:
        SettingsError: the end of the log is no time.
    """
    rules = Cleaning() if cleaning is None else cleaning
    loved = np.asarray(pc.equal(pc.utf8_lower(reactions.table["reaction"]), kind.lower()).to_numpy(), dtype=bool)
    kept = np.ones(len(reactions), dtype=bool)
    dropped: dict[str, int] = {}

    def leave_out(rows: Mask, reason: str) -> None:
        fresh = rows & kept
        if fresh.any():
            dropped[reason] = int(fresh.sum())
        kept[fresh] = False

    late = np.zeros(len(reactions), dtype=bool)
    age = _age(reactions, rules.until)
    leave_out(age < 0, "shown after the end of the log")
    if rules.window is not None:
        leave_out(np.isnan(age), "no time, so that nobody knows whether a reaction may still come")
        leave_out(age < rules.window, "shown so late that a reaction may still come")
        late = loved & (_numbers(details(reactions, "after_seconds")) > rules.window)
        loved = loved & ~late
    if rules.asks is not None:
        pattern = re.compile(rules.asks, re.IGNORECASE)
        codes, prompts = codes_of(reactions, "prompt")
        asking = np.array([pattern.search(prompt) is not None for prompt in prompts], dtype=bool)
        leave_out(asking[codes], "the prompt asks for a reaction")
    user = codes_of(reactions, "user")[0]
    again, loved = _again(reactions, user, loved, kept)
    leave_out(again, "the same reply to the same person again")
    leave_out(_suspicious(user, loved, kept, rules.suspicious), "by somebody who reacts to far more than others do")
    leave_out(_beyond(user, kept, rules), "beyond the most replies of one person")
    rows = np.flatnonzero(kept)
    some = reactions.take(rows)
    return Shown(some, rows, loved[rows], _numbers(details(some, "turn")), dropped, int((late & kept).sum()))


def _numbers(values: Sequence[Any]) -> Array:
    return np.array([np.nan if value is None else float(value) for value in values], dtype=np.float64)


def _age(reactions: Reactions, until: str | None) -> Array:
    """Seconds from each reply to the end of the log, NaN where the time is unknown, [rows]."""
    times = reactions.table["time"].to_numpy().astype("datetime64[us]")
    if until is None:
        known = times[~np.isnat(times)]
        if not len(known):
            return np.full(len(times), np.nan)
        end = known.max()
    else:
        try:
            end = np.datetime64(until.replace("Z", ""), "us")
        except ValueError as error:
            raise SettingsError(f"until must be a time such as 2026-01-31T12:00:00 in UTC: got {until!r}.") from error
    seconds = (end - times).astype(np.float64) / 1e6
    return np.where(np.isnat(times), np.nan, seconds)


def _again(reactions: Reactions, user: NDArray[np.int64], loved: Mask, kept: Mask) -> tuple[Mask, Mask]:
    """Rows that repeat a reply to the same person, and the labels once the first of them has the sign of any."""
    codes = [codes_of(reactions, name)[0] for name in ("prompt", "response")]
    rows = np.flatnonzero(kept & (user >= 0))
    first, place = first_and_place(joint_codes(*(column[rows] for column in (user, *codes))))
    again, merged = np.zeros(len(reactions), dtype=bool), loved.copy()
    again[rows] = np.arange(len(rows)) != first[place]
    merged[rows[first]] = np.bincount(place, loved[rows], minlength=len(first)) > 0
    return again, merged


def _suspicious(user: NDArray[np.int64], loved: Mask, kept: Mask, level: float) -> Mask:
    """Rows of people who react to everything, or improbably often for somebody five times as fond of it as others."""
    known = kept & (user >= 0)
    n_people = int(user.max(initial=0)) + 1
    shown = np.bincount(user[known], minlength=n_people)
    signs = np.bincount(user[known], loved[known], minlength=n_people).astype(np.int64)
    others = signs * 2 < shown
    rate = signs[others].sum() / max(1, shown[others].sum())
    plausible = min(0.5, _TIMES_THE_RATE * rate) if rate else 0.5
    bad = (shown >= _FEWEST_REPLIES) & ((signs == shown) | (binom.sf(signs - 1, shown, plausible) < level))
    return np.asarray(known & bad[user])


def _beyond(user: NDArray[np.int64], kept: Mask, rules: Cleaning) -> Mask:
    if rules.most_per_person is None:
        return np.zeros(len(user), dtype=bool)
    drawn = np.random.default_rng(rules.seed).permutation(np.flatnonzero(kept & (user >= 0)))
    order = drawn[np.argsort(user[drawn], kind="stable")]
    starts = np.flatnonzero(np.diff(user[order], prepend=-1))
    rank = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
    beyond = np.zeros(len(user), dtype=bool)
    beyond[order[rank >= rules.most_per_person]] = True
    return beyond


@dataclass(frozen=True)
class Lover:
    """What was learnt of a person.

    Attributes:
        weights: logits per standard deviation of each feature, then of the turn, then the intercept, [dim + 2].
        standard_errors: of each, from Laplace's posterior, [dim + 2].
        n_shown: replies it rests on.
    """

    weights: Array
    standard_errors: Array
    n_shown: int


class ReactionRate(ModelOfPeople):
    """P[love]: how likely a reply is to get a reaction, from everybody and from each person.

    Args:
        encoder: payloads to vectors.
        kind: the sign that counts.
        cleaning: what of a log is believed.
        positive_share: of the sample that is trained on, in (0, 1); negatives are drawn to reach it. None keeps all.
        l2: precision of the prior on everybody's weights.
        prior_precision: how alike people are: precision of a person's weights around everybody's.
        share_to_calibrate: people on whom slope and intercept are set right, in [0, 1); 0 leaves probabilities as they
            come out of training, and they are warned of.
        seed: of what is drawn.

    Attributes:
        weights_: everybody's, as in `Lover`, [dim + 2].
        centre_, scale_: mean and standard deviation of each feature over the replies shown, [dim].
        turn_: mean and standard deviation of the logarithm of the turn.
        kept_negatives_: rho.
        slope_: by which log-odds were stretched in calibration; NaN without.
        dropped_: rows left out, by reason.
        users_: a `Lover` for each person adapted to.

    Raises:
        SettingsError: a setting is out of range.
    """

    version: ClassVar[int] = 1

    def __init__(
        self,
        *,
        encoder: Encoder,
        kind: str = "love",
        cleaning: Cleaning = Cleaning(),
        positive_share: float | None = 0.1,
        l2: float = 1.0,
        prior_precision: float = 4.0,
        share_to_calibrate: float = 0.2,
        seed: int = 0,
    ):
        sampled = positive_share is None or 0 < positive_share < 1
        if not (sampled and l2 > 0 and prior_precision > 0 and 0 <= share_to_calibrate < 1):
            raise SettingsError(
                "positive_share must be in (0, 1) or None, l2 and prior_precision above 0, share_to_calibrate in [0, "
                f"1): got {positive_share!r}, {l2!r}, {prior_precision!r}, {share_to_calibrate!r}."
            )
        self.encoder, self.kind, self.cleaning = encoder, kind, cleaning
        self.positive_share, self.l2, self.prior_precision = positive_share, l2, prior_precision
        self.share_to_calibrate, self.seed = share_to_calibrate, seed

    def fit(self, reactions: Reactions) -> Self:
        """Learn what everybody reacts to; forgets whatever was learnt before.

        Raises:
            DataError: nobody reacted, or everything that is left got a reaction.
        """
        shown = cleaned(reactions, kind=self.kind, cleaning=self.cleaning)
        if shown.loved.all() or not shown.loved.any():
            there = sorted(pc.unique(reactions.table["reaction"]).to_pylist())
            raise DataError(
                f"{int(shown.loved.sum())} of {len(shown.loved)} replies that are left got the sign {self.kind!r}; the "
                f"{len(reactions)} records hold the signs {there[:12]}, and left out were {shown.dropped}. Choose a "
                f"sign that is there, and bring every reply that was shown, with {NONE!r} where nobody reacted."
            )
        vectors, [place] = encoded_sides(self.encoder, shown.reactions, ("response",))
        self._measure(vectors.astype(np.float64), place, shown.turn)
        features = self._features(vectors.astype(np.float64)[place], shown.turn)
        aside = self._set_aside(shown.reactions)
        learnt = np.flatnonzero(~aside)
        sample, self.kept_negatives_ = self._sample(shown.loved[learnt])
        rows = learnt[sample]
        self.weights_ = newton(
            features[rows],
            shown.loved[rows].astype(np.float64),
            l2=self._precision(),
            margin=np.full(len(rows), np.log(self.kept_negatives_)),
        ).weights
        self.slope_ = self._calibrate(features[aside], shown.loved[aside])
        self.dropped_ = shown.dropped
        self.users_: Profiles[Lover] = Profiles(Lover)
        return self

    def adapt(self, user: str, reactions: Reactions) -> Lover:
        """Learn one person; no rows, or only rows that are not believed, leave the person like everybody.

        Raises:
            NotFittedError: the model was not fitted.
        """
        self._require_fitted()
        shown = cleaned(reactions, kind=self.kind, cleaning=self.cleaning)
        empty = np.empty((0, len(self.weights_)))
        features = self._rows(shown.reactions, shown.turn) if len(shown.reactions) else empty
        [weights], [errors] = user_posteriors(
            self.weights_,
            features[None],
            shown.loved[None].astype(np.float64),
            np.zeros((1, len(features))),
            precision=self.prior_precision,
            start=None,
        )
        self.users_[user] = Lover(weights, errors, len(features))
        return self.users_[user]

    def adapt_each(self, reactions: Reactions) -> Self:
        """Learn every person in the records."""
        self._require_fitted()
        for user in reactions.users:
            self.adapt(user, reactions.of(user))
        return self

    def without(self, user: str, others: Reactions) -> Self:
        """The model that would be here had a person never been: of the same settings, learnt from the others alone.

        Raises:
            DataError: nothing is left to learn from, or the person is among the others.
            NotFittedError: the model was not fitted.
        """
        self._require_fitted()
        n_left = len(others.of(user))
        if n_left:
            raise DataError(f"{n_left} of {len(others)} records are of {user!r}, who is to be forgotten.")
        settings = {name: getattr(self, name) for name in self._settings()}
        again = type(self)(encoder=self.encoder, **settings).fit(others)
        for person in self.users_:
            if person != user:
                again.adapt(person, others.of(person))
        return again

    def _reward(self, asked: Sequence[Turn], user: str | None) -> Array:
        """Log-odds of a reaction at an average place in the conversation; see `ModelOfPeople.reward`."""
        vectors = encode_turns(self.encoder, asked)
        found = self.users_.get(user) if user is not None else None
        weights = self.weights_ if found is None else found.weights
        return np.asarray(self._features(vectors.astype(np.float64), np.full(len(vectors), np.nan)) @ weights)

    def probability(self, prompts: Sequence[str], responses: Sequence[str], **asked: Any) -> Array:
        """P[love] of each reply, [n]; arguments as of `reward`."""
        rewards = self.reward(prompts, responses, **asked)
        self._warn_uncalibrated()
        return np.asarray(expit(rewards))

    def predict(self, reactions: Reactions) -> Array:
        """P[love] of replies where and to whom they were shown, whatever the reactions were, [n]."""
        self._require_fitted()
        self._warn_uncalibrated()
        if not len(reactions):
            return np.empty(0)
        features = self._rows(reactions, _numbers(details(reactions, "turn")))
        logits = features @ self.weights_
        places = self.users_.places(reactions.table["user"].to_pylist())
        if (own := places >= 0).any():
            logits[own] = np.einsum("nd,nd->n", features[own], self.users_.column("weights")[places[own]])
        return np.asarray(expit(logits))

    def _rows(self, reactions: Reactions, turn: Array) -> Array:
        vectors, [place] = encoded_sides(self.encoder, reactions, ("response",))
        return self._features(vectors.astype(np.float64)[place], turn)

    def _measure(self, vectors: Array, place: NDArray[np.int64], turn: Array) -> None:
        """Freeze means and spreads over the replies shown (a reply counts as often as it was shown)."""
        times = np.bincount(place, minlength=len(vectors)) / len(place)
        self.centre_ = times @ vectors
        spread = np.sqrt(np.maximum(times @ (vectors - self.centre_) ** 2, 0.0))
        self.scale_ = np.where(spread > 1e-9 * max(1.0, float(spread.max(initial=0.0))), spread, 1.0)
        late = np.log(turn[np.isfinite(turn) & (turn >= 1)])
        self.turn_ = (float(late.mean()), float(late.std()) or 1.0) if len(late) else (0.0, 1.0)

    def _features(self, vectors: Array, turn: Array) -> Array:
        """Standardised features, the standardised turn (0 where it is unknown), and 1 for the intercept."""
        require_width(vectors, len(self.centre_))
        mean, spread = self.turn_
        place = np.where(turn >= 1, (np.log(np.maximum(np.nan_to_num(turn, nan=1.0), 1.0)) - mean) / spread, 0.0)
        return np.concatenate(
            [(vectors - self.centre_) / self.scale_, place[:, None], np.ones((len(vectors), 1))], axis=1
        )

    def _precision(self) -> Array:
        """Of the prior: the intercept and the turn are not shrunk."""
        return np.append(np.full(len(self.centre_), self.l2), [_FLAT, _FLAT])

    def _set_aside(self, reactions: Reactions) -> Mask:
        """Rows of the people on whom probabilities are calibrated; rows of nobody stand for themselves."""
        user = codes_of(reactions, "user")[0]
        units = np.unique(
            np.where(user < 0, user.max(initial=0) + 1 + np.arange(len(user)), user), return_inverse=True
        )[1]
        n = int(units.max()) + 1
        drawn = np.random.default_rng([self.seed, 1]).permutation(n)[: round(self.share_to_calibrate * n)]
        return np.isin(units, drawn)

    def _sample(self, loved: Mask) -> tuple[NDArray[np.int64], float]:
        """All positives and as many negatives as their wanted share asks for; and the share of negatives kept."""
        positive, negative = np.flatnonzero(loved), np.flatnonzero(~loved)
        if not len(positive) or not len(negative):
            raise DataError(
                f"Of {len(loved)} replies to train on, {len(positive)} got a reaction: bring more people, or lower "
                "share_to_calibrate."
            )
        n = len(negative)
        if self.positive_share is not None:
            n = max(1, min(n, round(len(positive) * (1 - self.positive_share) / self.positive_share)))
        drawn = np.random.default_rng([self.seed, 2]).choice(negative, n, replace=False)
        return np.sort(np.concatenate([positive, drawn])), n / len(negative)

    def _calibrate(self, features: Array, loved: Mask) -> float:
        """Stretch and shift log-odds to what happened to people set aside; the slope, NaN if they tell too little."""
        if min(loved.sum(), (~loved).sum()) < _FEWEST_POSITIVES:
            return float("nan")
        logits = features @ self.weights_
        # Drawn a little to slope 1 and shift 0, which is where a well-specified model would stay.
        columns = np.stack([logits, np.ones(len(logits))], axis=1)
        slope, shift = newton(columns, loved.astype(np.float64), l2=1.0, centre=[1.0, 0.0]).weights
        if slope <= 0:
            return float("nan")
        self.weights_ = self.weights_ * slope
        self.weights_[-1] += shift
        return float(slope)

    def _warn_uncalibrated(self) -> None:
        if np.isnan(self.slope_):
            warnings.warn(
                "These probabilities are not calibrated: too few people with reactions were set aside for it "
                "(share_to_calibrate). Their order means something, their size may not.",
                stacklevel=3,
            )

    @staticmethod
    def _settings() -> tuple[str, ...]:
        return ("kind", "cleaning", "positive_share", "l2", "prior_precision", "share_to_calibrate", "seed")

    def _state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        people, names = self.users_.state()
        arrays = {"weights": self.weights_, "centre": self.centre_, "scale": self.scale_, **people}
        settings = {name: getattr(self, name) for name in self._settings()} | {"cleaning": asdict(self.cleaning)}
        values = {
            "settings": settings,
            "turn": list(self.turn_),
            "kept_negatives": self.kept_negatives_,
            "slope": None if np.isnan(self.slope_) else self.slope_,
            "dropped": self.dropped_,
            "users": names,
        }
        return arrays, values

    def _restore(self, arrays: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        settings = dict(values["settings"])
        settings["cleaning"] = Cleaning(**settings["cleaning"])
        self.__init__(encoder=self.encoder, **settings)  # type: ignore[misc]
        self.weights_, self.centre_, self.scale_ = (arrays[name] for name in ("weights", "centre", "scale"))
        self.turn_ = (float(values["turn"][0]), float(values["turn"][1]))
        self.kept_negatives_ = float(values["kept_negatives"])
        self.slope_ = float("nan") if values["slope"] is None else float(values["slope"])
        self.dropped_ = dict(values["dropped"])
        self.users_ = Profiles.restored(Lover, arrays, values["users"])
