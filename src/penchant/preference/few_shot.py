r"""What a language model makes of somebody's labelled choices when it reads them before the question.

Each person is a task: n of their pairs stand in the prompt (the shots), and the model judges or answers a further
question as if it had been fine-tuned for them, with no weight changed. `FSPO` in `penchant.align` trains a model for
it; here is the preference model that such a policy is,

$$r_S(x, y) = \beta\,[\log\pi(y \mid \text{shots}, x) - \log\pi_{ref}(y \mid \text{shots}, x)]$$

where the reference reads the same shots: otherwise what they change in any model would count as preference. A model
that was not trained for it is the in-context baseline; its reward is what the shots change, log pi(y | shots, x) -
log pi(y | x) (`against="no_shots"`).

How much a model in context knows of people is measured, not taken for granted: `FewShot` weighs it beside everybody's
linear reward, and not at all unless people set aside are predicted better. With a number for `beta` it is the paper's
reward and nothing else.

Source:
    Singh, Hsu, Hsu, Mitchell, Ermon, Hashimoto, Sharma and Finn (2025), FSPO: Few-Shot Preference Optimization of
    Synthetic Preference Data Elicits Effective Personalization to Real Users, arXiv 2502.19312.

>>> from penchant.encoders import Attributes
>>> votes = Comparisons.from_rows(
...     [{"prompt": "", "chosen": '{"x": 1}', "rejected": '{"x": 0}', "user": user} for user in ("ann", "bob")]
... )
>>> model = FewShot(encoder=Attributes()).fit(votes)  # of two people nothing can be measured: the policy is not asked
>>> model.adapt("ann", votes.of("ann")).examples, model.share_
([Shot(question='', preferred='{"x": 1}', dispreferred='{"x": 0}')], (1.0, 0.0))
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from penchant.encoders import Encoder, encode_turns
from penchant.errors import DataError, MissingExtraError, SettingsError
from penchant.preference.model import PreferenceModel
from penchant.preference.newton import newton
from penchant.preference.pooled import least_bold, pooled, surprise
from penchant.preference.profiles import Profiles
from penchant.preference.shots import Shot, Window, answer, fitting, question_of, shots_of, task, windows
from penchant.preference.votes import Votes, read_votes, require_width, rows_of
from penchant.records import Comparisons
from penchant.turns import Turn

Array = NDArray[np.float64]

_FEWEST_PEOPLE = 20  # set aside, to measure what a model in context knows of them
_WINDOWS_A_PERSON = 4


@dataclass(frozen=True)
class Told:
    """What is kept of a person: their last comparisons, word for word.

    Attributes:
        shots: as JSON in UTF-8, filled up with zeros, uint8[bytes].
        n_pairs: comparisons there were.
    """

    shots: NDArray[np.uint8]
    n_pairs: int

    @property
    def examples(self) -> list[Shot]:
        """The shots as they are shown."""
        text = self.shots.tobytes().rstrip(b"\0").decode()
        return [Shot(*shot) for shot in json.loads(text)] if text else []


class FewShot(PreferenceModel):
    """A language model that reads a person's comparisons before it judges, beside everybody's linear reward.

    Reading takes a language model a forward pass a comparison; on a CPU that is seconds. Where fewer than 20 people can
    be set aside, what it knows of people cannot be told, and it is not asked: then this is everybody's linear reward.

    Args:
        encoder: payloads to vectors, for what everybody prefers.
        policy: a `penchant.policies.LanguagePolicy`, such as `FSPO` trained, or the name of a model for one.
        n_shots: most comparisons of a person that are shown, >= 1; the latest.
        against: "no_shots" compares with the same model without the shots, "reference" (the paper's) with the frozen
            reference under the same shots; the latter of a policy that was trained.
        beta: "auto" measures how much to trust it on people set aside; a number is the paper's beta, and then the
            policy alone decides.
        n_windows: most comparisons read to measure that, >= 1.
        kept_bytes: room for a person's shots, >= 64; whole shots are left out where it does not suffice.
        max_characters: longest prompt, >= 64; of a longer one whole shots are left out.
        seed: of what is read.

    Attributes:
        weights_: everybody's, logits per standard deviation of each feature, [dim].
        scale_: standard deviation of each feature, frozen, [dim].
        share_: how much everybody's logits count, and how many logits a nat of the policy is.
        users_: a `Told` for each person adapted to.

    Raises:
        SettingsError: a setting is out of range.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        policy: Any = "small-chat",
        n_shots: int = 4,
        against: Literal["no_shots", "reference"] = "no_shots",
        beta: float | Literal["auto"] = "auto",
        n_windows: int = 200,
        kept_bytes: int = 4096,
        max_characters: int = 16_000,
        seed: int = 0,
    ):
        if against not in ("no_shots", "reference"):
            raise SettingsError(f"against is no_shots or reference: got {against!r}.")
        if beta != "auto" and not (isinstance(beta, int | float) and 0 < beta < np.inf):
            raise SettingsError(f"beta must be a finite number above 0, or auto: got {beta!r}.")
        if n_shots < 1 or n_windows < 1 or min(kept_bytes, max_characters) < 64:
            raise SettingsError(
                "n_shots and n_windows must be at least 1, kept_bytes and max_characters at least 64: got "
                f"{n_shots!r}, {n_windows!r}, {kept_bytes!r}, {max_characters!r}."
            )
        self.encoder, self.policy, self.n_shots, self.against, self.beta = encoder, policy, n_shots, against, beta
        self.n_windows, self.kept_bytes, self.max_characters, self.seed = n_windows, kept_bytes, max_characters, seed

    def fit(self, comparisons: Comparisons) -> Self:
        """Learn what everybody prefers, and how far to trust the model in context; see `PreferenceModel.fit`."""
        votes = read_votes(self.encoder, comparisons)
        everybody = pooled(votes)
        self.weights_, self.scale_ = everybody.weights, everybody.scale
        self.share_ = (
            (0.0, float(self.beta)) if self.beta != "auto" else self._measured(comparisons, votes, everybody.l2)
        )
        self.users_: Profiles[Told] = Profiles(Told)
        return self

    def _measured(self, comparisons: Comparisons, votes: Votes, l2: float) -> tuple[float, float]:
        """How much everybody's reward and the policy's count, of people set aside; (1, 0) unless clearly worse."""
        strength, rows_by_user = comparisons.numpy("strength"), rows_of(comparisons)
        able = [user for user, rows in rows_by_user.items() if (strength[rows] != 0.5).sum() > self.n_shots]
        if len(able) < 2 * _FEWEST_PEOPLE:
            return 1.0, 0.0
        most = max(_FEWEST_PEOPLE, self.n_windows // _WINDOWS_A_PERSON)
        chosen = np.random.default_rng(self.seed).permutation(sorted(able))[: min(most, len(able) // 2)]
        rows = np.sort(np.concatenate([rows_by_user[user] for user in chosen.tolist()]))
        own = comparisons.take(rows)
        try:
            found = windows(own, self.n_shots, repeats=1, seed=self.seed)[0]
        except DataError:  # nobody was asked different questions
            return 1.0, 0.0
        found = _first_of_each(found, _WINDOWS_A_PERSON)[: max(self.n_windows, _FEWEST_PEOPLE)]
        if len({window.user for window in found}) < _FEWEST_PEOPLE:
            return 1.0, 0.0
        early = pooled(votes.of(np.setdiff1d(np.arange(len(votes)), rows)), l2=l2)
        at = rows[[window.target for window in found]]
        shots = shots_of(own)
        asked = [([shots[row] for row in window.shots], shots[window.target]) for window in found]
        first_wins = strength[at] >= 0.5
        lean = np.where(first_wins, 1.0, -1.0) * self._lean(asked)
        ahead = votes.of(at).difference / early.scale @ early.weights - votes.margin[at]
        label = strength[at].astype(np.float64)
        people = np.unique([window.user for window in found], return_inverse=True)[1]
        both = np.stack([ahead, lean], axis=1)
        told = []
        for seen in (both, both[:, :1]):  # everybody's reward may be louder here, with and without the policy
            logits = np.empty(len(at))
            for half in (0, 1):  # neither half of the people may choose what they are predicted with
                learn = people % 2 != half
                logits[~learn] = seen[~learn] @ newton(seen[learn], label[learn], l2=_SLIGHT).weights
            told.append(np.bincount(people, surprise(logits, label)))
        if least_bold(np.stack(told, axis=1)):
            return 1.0, 0.0
        everybody, policy = newton(both, label, l2=_SLIGHT).weights.tolist()
        return (everybody, policy) if policy > 0 else (1.0, 0.0)  # to be wrong about people is not to know them

    def adapt(self, user: str, comparisons: Comparisons) -> Told:
        """Keep what one person preferred; see `PreferenceModel.adapt`."""
        self._require_fitted()
        decided = np.flatnonzero(comparisons.numpy("strength") != 0.5)[-self.n_shots :]
        shots = shots_of(comparisons.take(decided))
        while shots and len(_packed(shots)) > self.kept_bytes:
            shots = shots[1:]
        kept = np.zeros(self.kept_bytes, dtype=np.uint8)
        text = np.frombuffer(_packed(shots) if shots else b"", dtype=np.uint8)
        kept[: len(text)] = text
        self.users_[user] = Told(kept, len(comparisons))
        return self.users_[user]

    def _reward(self, asked: Sequence[Turn], user: str | None) -> Array:
        vectors = encode_turns(self.encoder, asked)
        require_width(vectors, len(self.weights_))
        everybody, policy = self.share_
        found = everybody * (vectors.astype(np.float64) / self.scale_ @ self.weights_)
        known = self.users_.get(user) if user is not None else None
        if policy and known is not None:
            questions = [question_of(turn.prompt, turn.context, turn.form) for turn in asked]
            shots = [_others(known.examples, question) for question in questions]
            values = self._values(shots, questions, [[turn.answer()] for turn in asked])
            found = found + policy * np.array([one for [one] in values])
        return np.asarray(found)

    def _predicted(self, comparisons: Comparisons) -> Array:
        votes = read_votes(self.encoder, comparisons)
        require_width(votes.vectors, len(self.weights_))
        everybody, policy = self.share_
        first, second = (votes.vectors[side].astype(np.float64) for side in (votes.chosen, votes.rejected))
        ahead = everybody * ((first - second) / self.scale_ @ self.weights_)
        known = np.flatnonzero(self.users_.places(comparisons.table["user"].to_pylist()) >= 0)
        if policy and len(known):
            own = comparisons.take(known)
            examples = {user: self.users_[user].examples for user in own.users}
            asked = [
                (_others(examples[user], shot.question), shot)
                for user, shot in zip(own.table["user"].to_pylist(), shots_of(own), strict=True)
            ]
            side = np.where(own.numpy("strength") >= 0.5, 1.0, -1.0)  # `shots_of` put the preferred response first
            ahead[known] += policy * side * self._lean(asked)
        return np.asarray(expit(ahead - votes.margin))

    def _lean(self, asked: Sequence[tuple[Sequence[Shot], Shot]]) -> Array:
        """By how many nats the policy prefers the first response of each pair, because of the shots, [pairs]."""
        questions = [pair.question for _, pair in asked]
        pairs = [[pair.preferred, pair.dispreferred] for _, pair in asked]
        return np.array([first - second for first, second in self._values([s for s, _ in asked], questions, pairs)])

    def _values(
        self, shots: Sequence[Sequence[Shot]], questions: Sequence[str], responses: Sequence[Sequence[str]]
    ) -> list[list[float]]:
        """Log-ratio of each response, nats."""
        answers = [[answer(text) for text in texts] for texts in responses]
        room = [self.max_characters - max(map(len, texts)) for texts in answers]
        told = [fitting(*one)[0] for one in zip(shots, questions, room, strict=True)]
        if self.against == "reference":
            found: list[list[float]] = self._loaded.log_ratio(told, answers)
            return found
        untold = [task([], question) for question in questions]
        with_shots, without = (self._loaded.log_probabilities(prompts, answers) for prompts in (told, untold))
        return [
            [one.sum - other.sum for one, other in zip(*both, strict=True)]
            for both in zip(with_shots, without, strict=True)
        ]

    @cached_property
    def _loaded(self) -> Any:
        if not isinstance(self.policy, str):
            return self.policy
        try:
            from penchant.policies.language import LanguagePolicy
        except ImportError as error:
            raise MissingExtraError(f"FewShot needs {error.name}: pip install 'penchant[torch]'") from error
        return LanguagePolicy(self.policy)

    def _state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        people, names = self.users_.state()
        named = self.policy if isinstance(self.policy, str) else str(self.policy.name)
        values = {
            "settings": {name: getattr(self, name) for name in _SETTINGS} | {"policy": named},
            "share": list(self.share_),
            "users": names,
        }
        return {"weights": self.weights_, "scale": self.scale_, **people}, values

    def _restore(self, arrays: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        """A policy that was trained is known by its name only: set `policy` to it before predicting."""
        self.__init__(encoder=self.encoder, **values["settings"])  # type: ignore[misc]
        self.weights_, self.scale_ = arrays["weights"], arrays["scale"]
        self.share_ = (float(values["share"][0]), float(values["share"][1]))
        self.users_ = Profiles.restored(Told, arrays, values["users"])


_SETTINGS = ("n_shots", "against", "beta", "n_windows", "kept_bytes", "max_characters", "seed")
_SLIGHT = 0.01  # precision of the prior on how much each part counts


def _packed(shots: Sequence[Shot]) -> bytes:
    return json.dumps(shots, ensure_ascii=False).encode()


def _others(shots: Sequence[Shot], question: str) -> list[Shot]:
    """The shots that do not ask the very question, unless all of them ask the same."""
    others = [shot for shot in shots if shot.question != question]
    return others or list(shots)


def _first_of_each(found: Sequence[Window], most: int) -> list[Window]:
    """At most so many windows of each person, first windows of all first."""
    seen: Counter[str] = Counter()
    ranked = []
    for window in found:
        ranked.append((seen[window.user], window))
        seen[window.user] += 1
    return [window for rank, window in sorted(ranked, key=lambda one: one[0]) if rank < most]
