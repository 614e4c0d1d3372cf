"""What can be done to any number of rows: answers sampled, scored, turned into vectors, or made into comparisons.

Each task is its settings; `ready()` loads what it needs and gives back a function from rows to rows, which
`penchant.parts` calls on one part after the other, here or on many machines. Rows keep their columns and get new ones.

>>> asked = pa.table({"prompt": ["2 + 2?"], "responses": [["4", "5"]], "rewards": [[1.5, -2.0]]})
>>> pairs, _ = Mine().ready()(asked, np.arange(1))
>>> pairs.select(["chosen", "rejected"]).to_pylist()
[{'chosen': '4', 'rejected': '5'}]
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pyarrow as pa

from penchant.apps.learn import LEARNT, encoder_of, loaded
from penchant.encoders import Cached, Encoder, Joined, Remembered, Vectors, encode_turns
from penchant.errors import DataError, SettingsError, UnknownNameError, nearest
from penchant.exchange import kind_of, with_kind
from penchant.feedback.pairing import comparisons, scored
from penchant.parts import Numbers, Work
from penchant.records import KINDS, Comparisons, Records, canonical_json
from penchant.turns import Turn

# Kinds of which comparisons follow, and the columns that tell a kind where nothing else does. A list of answers is a
# ranking only if it says so: samples are no ranking.
_PAIRED = {
    "rating": {"prompt", "response", "score"},
    "ranking": {"prompt", "responses", "ranks"},
    "edit": {"draft", "revision"},
    "reaction": {"prompt", "response", "reaction"},
    "comparison": {"prompt", "chosen", "rejected"},
    "interaction": {"user", "item", "value"},
    "battle": {"system_a", "system_b", "outcome"},
}
_PERSONAL = {"rating", "ranking", "reaction", "interaction"}  # pairs are made across several rows of a person


@dataclass(frozen=True)
class Sample:
    """Answers to each prompt.

    Attributes:
        model: small-chat, a name on the hub, a folder, a .gguf file, or the folder of a trained policy.
        n: answers to each prompt.
        temperature: 0 for the likeliest answer.
        top_p: share of the probability to sample from.
        max_new_tokens: an answer stops here at the latest.
        seed: same seed, same answers.
        engine: torch for this very model; llama for the quantised weights of a .gguf file, auto where that is possible.
    """

    model: str = "small-chat"
    n: int = 4
    temperature: float = 0.7
    top_p: float = 1.0
    max_new_tokens: int = 64
    seed: int = 0
    engine: Literal["torch", "llama", "auto"] = "torch"

    def ready(self) -> Work:
        """Load the policy; rows with a `prompt` (and `context`, a wish for the system message) get `responses`.

        And of each response `sampled_log_probabilities`, nats, whatever the temperature, and `sampled_tokens`, a count.
        """
        policy = _policy(self.model)

        def work(rows: pa.Table, numbers: Numbers) -> tuple[pa.Table, dict[str, int]]:
            for name in ("responses", "sampled_log_probabilities", "sampled_tokens"):
                _require_new(rows, name)
            prompts, contexts, forms = _column(rows, "prompt"), _optional(rows, "context"), _forms(rows)
            _require_known("prompt", prompts)
            # Every part draws numbers of its own, by where it begins.
            [seed] = np.random.SeedSequence([self.seed, int(numbers[0])]).generate_state(1)
            drawn: list[list[Any]] = [[] for _ in prompts]
            for form in sorted(set(forms)):
                places = [i for i, one in enumerate(forms) if one == form]
                samples = policy.draw(
                    [prompts[i] for i in places],
                    self.n,
                    condition=[contexts[i] for i in places],
                    form=form,
                    temperature=self.temperature,
                    top_p=self.top_p,
                    max_new_tokens=self.max_new_tokens,
                    seed=int(seed),
                    engine=self.engine,
                )
                for i, answers in zip(places, samples, strict=True):
                    drawn[i] = answers
            texts = [[_answer(one.text, form) for one in row] for row, form in zip(drawn, forms, strict=True)]
            of_each: dict[str, Any] = {
                "responses": pa.array(texts, pa.list_(pa.string())),
                "sampled_log_probabilities": pa.array([[one.log_probability.sum for one in row] for row in drawn]),
                "sampled_tokens": pa.array([[one.log_probability.n_tokens for one in row] for row in drawn]),
            }
            for name, values in of_each.items():
                rows = rows.append_column(name, values)
            return rows, {}

        return work


@dataclass(frozen=True)
class Score:
    """A number for each answer: what a learnt model thinks of it.

    Attributes:
        model: folder of `penchant learn` or of a trained reward model, for rewards; any language model (small-chat, a
            name on the hub, a folder, a .gguf file), for log-probabilities.
        user: whose taste counts, of a model of people; without it that of each row's `user`.
    """

    model: str | None = None
    user: str | None = None

    def ready(self) -> Work:
        """Load the model; rows with `response`, `responses`, or `chosen` and `rejected` get a number for each answer.

        Raises:
            SettingsError: no model is named, or a user where the model knows no people.
            UnknownNameError: nothing is known of the user.
        """
        if self.model is None:
            raise SettingsError("Name what scores with --score.model: a folder that was learnt, or a language model.")
        folder = Path(self.model)
        if (folder / LEARNT).exists():
            return _by_people(folder, self.user)
        if self.user is not None:
            raise SettingsError(f"{self.model} is no model of people, so leave --score.user out.")
        return _by_reward(folder) if _kind(folder) == "LanguageReward" else _by_policy(self.model)


@dataclass(frozen=True)
class Encode:
    """A vector for each text.

    Attributes:
        encoder: minilm, style, minilm+style, attributes, or the folder of a reward model.
        column: of the texts; without it answers are read after their prompts, or prompts where there are no answers.
    """

    encoder: str = "minilm"
    column: str | None = None

    def ready(self) -> Work:
        """Load the encoder; rows get a `vector` (float32, or `vectors`, or `chosen_vector` and `rejected_vector`)."""
        encoder = _uncached(encoder_of(self.encoder))

        def work(rows: pa.Table, numbers: Numbers) -> tuple[pa.Table, dict[str, int]]:
            answers = None if self.column is not None else _Answers.of(rows)
            if answers is not None:
                if not answers.turns:
                    raise DataError("There are no answers to encode.")
                return answers.given(rows, vector=_lists(encode_turns(encoder, answers.turns))), {}
            name = self.column or "prompt"
            texts = _column(rows, name)
            _require_known(name, texts)
            _require_new(rows, "vector")
            return rows.append_column("vector", _lists(encoder.encode(texts))), {}

        return work


@dataclass(frozen=True)
class Mine:
    """Comparisons out of scored answers, ratings, rankings, edits and reactions.

    Attributes:
        by: column of the numbers by which `responses` are compared.
        pairs: of scored answers the best against the worst, or all against all.
        max_pairs_per_user: at most so many pairs from one person's ratings, rankings or reactions.
        seed: of the pairs that are drawn.
    """

    by: str = "rewards"
    pairs: Literal["best_worst", "all"] = "best_worst"
    max_pairs_per_user: int = 200
    seed: int = 0

    def ready(self) -> Work:
        """Rows become comparisons; columns that a comparison does not have are kept in its `extra`."""

        def work(rows: pa.Table, numbers: Numbers) -> tuple[pa.Table, dict[str, int]]:
            if self._is_scored(rows):
                pairs, lost = self._of_scored(rows)
            else:
                kind = KINDS[_kind_of(rows)]
                records, broken = kind.checked(_columns_of(kind, rows))
                pairs, lost = comparisons(records, max_pairs_per_user=self.max_pairs_per_user, seed=self.seed)
                lost |= {f"rows that are no {kind.kind}: {reason}": n for reason, n in broken.items()}
            return with_kind(pairs), lost

        return work

    def together(self, rows: pa.Table) -> list[str] | None:
        """Pairs are made of all that one person judged, so a person's rows belong into one call."""
        if self._is_scored(rows) or _kind_of(rows) not in _PERSONAL:
            return None
        users, prompts = _optional(rows, "user"), _optional(rows, "prompt")
        return [
            f"prompt {prompt}" if user is None else f"user {user}" for user, prompt in zip(users, prompts, strict=True)
        ]

    def _is_scored(self, rows: pa.Table) -> bool:
        return {"responses", self.by} <= set(rows.column_names)

    def _of_scored(self, rows: pa.Table) -> tuple[Comparisons, dict[str, int]]:
        lost: dict[str, int] = {}
        made = []
        for row in rows.to_pylist():
            responses, scores = row.pop("responses"), row.pop(self.by)
            if not _fit(responses, scores):
                raise DataError(f"`{self.by}` does not hold one finite number for each of the `responses`.")
            pairs, reasons = scored(responses, scores, only_best_and_worst=self.pairs == "best_worst")
            for reason, n in reasons.items():
                lost[reason] = lost.get(reason, 0) + n
            for better, worse in pairs:
                said = {"chosen": responses[better], "rejected": responses[worse]}
                by = {"score_chosen": scores[better], "score_rejected": scores[worse]}
                made.append(row | said | by)
        table = pa.Table.from_pylist(made) if made else Comparisons.schema.empty_table()
        return Comparisons(_columns_of(Comparisons, table)), lost


def _fit(responses: list[str] | None, scores: list[float] | None) -> bool:
    if responses is None or scores is None or None in responses or len(responses) != len(scores):
        return False
    return all(score is not None and np.isfinite(score) for score in scores)


# Rows as tasks read them ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Answers:
    """Every answer in some rows, row after row.

    Attributes:
        columns: that hold them: response, responses, or chosen and rejected.
        turns: the answers, each in its place.
        users: whose row each answer is in.
        counts: answers of each row.
    """

    columns: tuple[str, ...]
    turns: list[Turn]
    users: list[str | None]
    counts: list[int]

    @classmethod
    def of(cls, rows: pa.Table) -> Self | None:
        """The answers, or None if no column holds any.

        Raises:
            DataError: a prompt or an answer is missing.
        """
        for columns in (("chosen", "rejected"), ("responses",), ("response",)):
            if set(columns) <= set(rows.column_names):
                break
        else:
            return None
        found = [_column(rows, name) for name in columns]
        prompts = _column(rows, "prompt")
        for name, values in zip(("prompt", *columns), (prompts, *found), strict=True):
            _require_known(name, values)
        of_row = found[0] if columns == ("responses",) else list(zip(*found, strict=True))
        _require_known(columns[0], [answer for answers in of_row for answer in answers])
        described = zip(prompts, of_row, _optional(rows, "context"), _forms(rows), strict=True)
        turns = [Turn(p, answer, context, form) for p, answers, context, form in described for answer in answers]
        counts = [len(answers) for answers in of_row]
        users = [user for user, n in zip(_optional(rows, "user"), counts, strict=True) for _ in range(n)]
        return cls(columns, turns, users, counts)

    def shared(self) -> tuple[list[list[str]], list[Turn]]:
        """Answers that follow each other on one prompt, and a turn of each such group: its prompt is read once."""
        groups = [list(group) for _, group in groupby(self.turns, lambda turn: (turn.prompt, turn.context, turn.form))]
        return [[turn.response for turn in group] for group in groups], [group[0] for group in groups]

    def given(self, rows: pa.Table, **values: pa.Array) -> pa.Table:
        """The rows with a value for each answer: `name`, a list `names`, or `chosen_name` and `rejected_name`."""
        for name, flat in values.items():
            if self.columns == ("responses",):
                many = name[:-1] + "ies" if name.endswith("y") else name if name.startswith("n_") else f"{name}s"
                offsets = pa.array(np.concatenate([[0], np.cumsum(self.counts)]), pa.int32())
                new = {many: pa.ListArray.from_arrays(offsets, flat)}
            elif self.columns == ("response",):
                new = {name: flat}
            else:
                new = {
                    f"{side}_{name}": flat.take(pa.array(range(i, len(flat), 2))) for i, side in enumerate(self.columns)
                }
            for column, array in new.items():
                _require_new(rows, column)
                rows = rows.append_column(column, array)
        return rows


def _answers(rows: pa.Table) -> _Answers:
    found = _Answers.of(rows)
    if found is None:
        raise SettingsError(
            f"There are no answers to score: rows need `response`, `responses`, or `chosen` and `rejected` beside "
            f"`prompt`; they have {', '.join(f'`{name}`' for name in rows.column_names)}."
        )
    return found


def _column(rows: pa.Table, name: str) -> list[Any]:
    if name not in rows.column_names:
        raise SettingsError(f"Rows have no `{name}`, but {', '.join(f'`{other}`' for other in rows.column_names)}.")
    values: list[Any] = rows[name].to_pylist()
    return values


def _optional(rows: pa.Table, name: str) -> list[Any]:
    return _column(rows, name) if name in rows.column_names else [None] * len(rows)


def _forms(rows: pa.Table) -> list[Any]:
    return [form or "text" for form in _optional(rows, "form")]


def _require_known(name: str, values: Sequence[Any]) -> None:
    n_empty = sum(value is None for value in values)
    if n_empty:
        raise DataError(f"`{name}` is missing ({n_empty} of {len(values)} rows).")


def _require_new(rows: pa.Table, name: str) -> None:
    if name in rows.column_names:
        raise SettingsError(f"Rows have a `{name}` already, which would be lost; rename or remove that column.")


def _require_finite(values: Any, what: str) -> pa.Array:
    bad = int((~np.isfinite(values)).sum())
    if bad:
        raise DataError(f"The {what} is not finite ({bad} of {len(values)} answers).")
    return pa.array(values, pa.float64())


def _answer(text: str, form: str) -> str:
    return canonical_json([{"role": "assistant", "content": text}]) if form == "messages" else text


def _lists(vectors: Vectors) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel(), pa.float32()), vectors.shape[1])


def _kind_of(rows: pa.Table) -> str:
    """The kind of record that rows are: as their file says, or as their columns tell."""
    names = set(rows.column_names)
    said = kind_of(rows.schema) or (rows["kind"][0].as_py() if "kind" in names and len(rows) else None)
    found = said if said in KINDS else next((kind for kind, needs in _PAIRED.items() if needs <= names), None)
    if found not in _PAIRED:
        seen = f"records of kind {found}" if found else f"the columns {', '.join(sorted(names))}"
        raise SettingsError(
            f"No comparisons follow from {seen}. Give `responses` with `rewards` (`penchant batch score` writes them), "
            "or ratings, rankings, edits or reactions as `penchant import` keeps them."
        )
    return str(found)


def _columns_of(kind: type[Records], rows: pa.Table) -> pa.Table:
    """Rows with the columns of a kind of record; what it has no column for goes into `extra`."""
    known = [name for name in kind.schema.names if name in rows.column_names and name != "extra"]
    rest = [name for name in rows.column_names if name not in (*known, "extra", "kind")]
    table = rows.select(known).replace_schema_metadata(None)
    if not rest:
        return table.append_column("extra", rows["extra"]) if "extra" in rows.column_names else table
    extra = []
    for before, row in zip(_optional(rows, "extra"), rows.select(rest).to_pylist(), strict=True):
        there = {name: value for name, value in row.items() if value is not None}
        extra.append(canonical_json(_object(before) | there) if there or before else None)
    return table.append_column("extra", pa.array(extra, pa.string()))


def _object(extra: str | None) -> dict[str, Any]:
    """What `extra` holds, which is a JSON object wherever records came from penchant."""
    try:
        found = json.loads(extra or "{}")
    except ValueError:
        found = extra
    return found if isinstance(found, dict) else {"extra": found}


# What scores ---------------------------------------------------------------------------------------------------------


def _by_people(folder: Path, user: str | None) -> Work:
    model = loaded(folder)
    if user is not None and user not in model.users_:
        raise UnknownNameError(f"Nothing is known of {user!r} in {folder}: {nearest(user, model.users_)}")
    model.encoder = seen = Remembered(_uncached(model.encoder))

    def work(rows: pa.Table, numbers: Numbers) -> tuple[pa.Table, dict[str, int]]:
        answers = _answers(rows)
        users = answers.users if user is None else [user] * len(answers.turns)
        n_strangers = sum(who is not None and who not in model.users_ for who in users)
        seen.clear()  # of the part before
        encode_turns(seen, answers.turns)  # all at once, which is faster than person by person
        rewards = np.full(len(users), np.nan)
        alike: dict[tuple[Any, ...], list[int]] = {}
        for i, (who, turn) in enumerate(zip(users, answers.turns, strict=True)):
            alike.setdefault((who, turn.context, turn.form), []).append(i)
        for (who, context, form), places in alike.items():
            asked = [answers.turns[i] for i in places]
            prompts, responses = [turn.prompt for turn in asked], [turn.response for turn in asked]
            rewards[places] = model.reward(prompts, responses, user=who, context=context, form=form)
        stranger = "answers scored by everybody's taste, as nothing is known of their person"
        table = answers.given(rows, reward=_require_finite(rewards, "reward"))
        return table, {stranger: n_strangers} if n_strangers else {}

    return work


def _by_reward(folder: Path) -> Work:
    from penchant.policies.reward import LanguageReward

    model = LanguageReward.saved(folder)

    def work(rows: pa.Table, numbers: Numbers) -> tuple[pa.Table, dict[str, int]]:
        answers = _answers(rows)
        responses, first = answers.shared()
        rewards = model.rewards(
            [turn.prompt for turn in first],
            responses,
            condition=[turn.context for turn in first],
            form=[turn.form for turn in first],
        )
        flat = [reward for group in rewards for reward in group]
        return answers.given(rows, reward=_require_finite(flat, "reward")), {}

    return work


def _by_policy(name: str) -> Work:
    policy = _policy(name)

    def work(rows: pa.Table, numbers: Numbers) -> tuple[pa.Table, dict[str, int]]:
        answers = _answers(rows)
        responses, first = answers.shared()
        found = policy.log_probabilities(
            [turn.prompt for turn in first],
            responses,
            condition=[turn.context for turn in first],
            form=[turn.form for turn in first],
        )
        flat = [one for group in found for one in group]
        sums = _require_finite([one.sum for one in flat], "log-probability")
        return answers.given(rows, log_probability=sums, n_tokens=pa.array([one.n_tokens for one in flat])), {}

    return work


def _policy(name: str) -> Any:
    """A policy by name, or one that was saved."""
    from penchant.policies.language import LanguagePolicy

    return LanguagePolicy.saved(name) if _kind(Path(name)) is not None else LanguagePolicy(name)


def _kind(folder: Path) -> str | None:
    """What a folder says it was saved as."""
    note = folder / "penchant.json"
    return str(json.loads(note.read_text(encoding="utf-8"))["kind"]) if note.is_file() else None


def state_of(name: str | None) -> list[list[Any]]:
    """Size and time of the files of a model that lies on disk, by which a changed one is noticed; empty of others."""
    place = Path(name or "")
    files = sorted(place.rglob("*")) if name and place.is_dir() else [place]
    return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files if name and file.is_file()]


def _uncached(encoder: Encoder) -> Encoder:
    """The encoder without the cache of this account: a hundred million vectors would push everything else out of it."""
    if isinstance(encoder, Joined):
        return Joined(*map(_uncached, encoder.encoders))
    return _uncached(encoder.encoder) if isinstance(encoder, Cached) else encoder
