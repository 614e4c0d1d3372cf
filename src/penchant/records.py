"""What a person can leave behind, as typed columnar records: the vocabulary of everything else.

Each kind of record is one Arrow schema. A table of records is immutable and checked once, column by column, so that a
million comparisons never become a million Python objects. Text columns keep the names people already use (`prompt`,
`chosen`, `rejected`), so a preference data set in the usual form loads unchanged.

Payloads are strings. Where `form` is "messages", `prompt` is the canonical JSON of a list of chat messages, and so is
each response; tool calls stay inside as they came. `extra` holds, as a JSON object, whatever else a row carried.

>>> votes = Comparisons.from_rows([{"prompt": "2 + 2?", "chosen": "4", "rejected": "5", "user": "ann"}])
>>> len(votes), votes.users, votes.numpy("strength").tolist()
(1, ['ann'], [1.0])
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from penchant.errors import DataError, SettingsError

_FORM = ("form", pa.string())
_TIME = pa.timestamp("us", tz="UTC")
PAYLOADS = ("prompt", "chosen", "rejected", "response", "responses")  # columns that `form` speaks of
_COMMON = [("user", pa.string()), ("source", pa.string()), ("time", _TIME), ("extra", pa.string())]


def _schema(required: Sequence[tuple[str, Any]], optional: Sequence[tuple[str, Any]] = ()) -> pa.Schema:
    fields = [pa.field(name, kind, nullable=False) for name, kind in required]
    fields += [pa.field(name, kind) for name, kind in [*optional, *_COMMON]]
    return pa.schema(fields)


@dataclass(frozen=True)
class Problem:
    """Rows that cannot be records of their kind.

    Attributes:
        rows: bool[n], True where the row is bad.
        reason: what is wrong with them, without row numbers, so that equal reasons can be counted together.
        remedy: what the person who brought the data can do.
    """

    rows: np.ndarray[Any, np.dtype[np.bool_]]
    reason: str
    remedy: str


Rule = Callable[[pa.Table], Problem]


def canonical_json(value: Any) -> str:
    """JSON that is the same for equal values: sorted keys, no spaces, no escapes for letters.

    Raises:
        DataError: the value holds NaN, infinity, or something JSON has no form for.

    >>> canonical_json([{"role": "user", "content": "Grüezi"}])
    '[{"content":"Grüezi","role":"user"}]'
    """
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(f"A payload cannot be written as JSON: {error}.") from error


def _mask(condition: Any) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Arrow booleans as numpy; a null condition is not a violation (nulls of required columns have their own rule)."""
    filled = pc.fill_null(condition, False)
    return np.asarray(filled.to_numpy(zero_copy_only=False) if isinstance(filled, pa.Array) else filled.to_numpy())


def present(column: str) -> Rule:
    """The column is never null."""

    def rule(table: pa.Table) -> Problem:
        return Problem(_mask(pc.is_null(table[column])), f"`{column}` is missing", f"give every row a `{column}`")

    return rule


def different(first: str, second: str) -> Rule:
    """Two columns of one row never hold the same value."""

    def rule(table: pa.Table) -> Problem:
        return Problem(
            _mask(pc.equal(table[first], table[second])),
            f"`{first}` and `{second}` are the same",
            "a comparison needs two different answers; drop such rows",
        )

    return rule


def within(column: str, low: float, high: float) -> Rule:
    """Where it is present, the number is finite and in [low, high]."""

    def rule(table: pa.Table) -> Problem:
        values = table[column]
        inside = pc.and_(pc.greater_equal(values, low), pc.less_equal(values, high))
        # NaN compares false with everything, so `not inside` catches it too.
        return Problem(
            _mask(pc.invert(inside)),
            f"`{column}` is outside [{low:g}, {high:g}] or not a number",
            f"rescale `{column}` to [{low:g}, {high:g}]",
        )

    return rule


def finite(column: str) -> Rule:
    """Where it is present, the number is neither NaN nor infinite."""

    def rule(table: pa.Table) -> Problem:
        bad = pc.invert(pc.is_finite(table[column]))
        return Problem(_mask(bad), f"`{column}` is not finite", "leave unknown values empty")

    return rule


def one_of(column: str, *allowed: str) -> Rule:
    """Where it is present, the value is one of a few words."""

    def rule(table: pa.Table) -> Problem:
        known = pc.is_in(table[column], value_set=pa.array(allowed))
        bad = pc.and_(pc.invert(known), pc.is_valid(table[column]))
        return Problem(
            _mask(bad), f"`{column}` is none of {', '.join(allowed)}", f"map `{column}` to one of these words"
        )

    return rule


def same_length(first: str, second: str) -> Rule:
    """Where both are present, two list columns hold equally many values."""

    def rule(table: pa.Table) -> Problem:
        unequal = pc.not_equal(pc.list_value_length(table[first]), pc.list_value_length(table[second]))
        return Problem(
            _mask(unequal), f"`{first}` and `{second}` differ in length", f"give one of each per {first[:-1]}"
        )

    return rule


def at_least(column: str, count: int) -> Rule:
    """A list column holds at least so many values."""

    def rule(table: pa.Table) -> Problem:
        few = pc.less(pc.list_value_length(table[column]), count)
        return Problem(_mask(few), f"`{column}` holds fewer than {count}", "drop such rows")

    return rule


def _form() -> Rule:
    return one_of("form", "text", "messages")


class Records:
    """An immutable, checked Arrow table of one kind of record.

    Args:
        table: columns by name; missing optional columns become null, unknown columns are refused.

    Raises:
        DataError: a required column is missing, a column is unknown or cannot be cast, or a row breaks a rule.
    """

    kind: ClassVar[str]
    schema: ClassVar[pa.Schema]
    rules: ClassVar[tuple[Rule, ...]] = ()
    defaults: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, table: pa.Table):
        table = self.cast(table)
        for problem in self.problems(table):
            bad = np.flatnonzero(problem.rows)
            if len(bad):
                raise DataError(
                    f"{self.kind}, row {bad[0]}: {problem.reason} ({len(bad)} of {len(table)} rows). "
                    f"What to do: {problem.remedy}. `{type(self).__name__}.checked(table)` keeps the good rows and "
                    "counts the others by reason."
                )
        self.table: pa.Table = table

    @classmethod
    def from_rows(cls, rows: Iterable[Mapping[str, Any]]) -> Self:
        """Records from a few dictionaries; for large data build an Arrow table and call the class on it."""
        rows = list(rows)
        names = list(dict.fromkeys(name for row in rows for name in row))
        arrays = {}
        for name in names:
            values = [row.get(name) for row in rows]
            try:
                arrays[name] = pa.array(values, cls.schema.field(name).type if name in cls.schema.names else None)
            except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
                raise DataError(f"{cls.kind}: column `{name}` does not fit its type ({error}).") from error
        if not rows:
            return cls(cls.schema.empty_table())
        return cls(pa.table(arrays))

    @classmethod
    def checked(cls, table: pa.Table) -> tuple[Self, dict[str, int]]:
        """The good rows of a table, and how many rows were dropped for each reason (first reason counts).

        Returns:
            The records, and reason -> count; kept plus all dropped equals the rows of `table`.
        """
        table = cls.cast(table)
        bad = np.zeros(len(table), dtype=bool)
        dropped: dict[str, int] = {}
        for problem in cls.problems(table):
            fresh = problem.rows & ~bad
            if fresh.any():
                dropped[problem.reason] = int(fresh.sum())
            bad |= fresh
        return cls(table.filter(pa.array(~bad))), dropped

    @classmethod
    def problems(cls, table: pa.Table) -> Iterable[Problem]:
        """Everything wrong with a table that `cast` made, one rule at a time."""
        required = [present(field.name) for field in cls.schema if not field.nullable]
        return (rule(table) for rule in [*required, *cls.rules])

    @classmethod
    def cast(cls, table: pa.Table) -> pa.Table:
        """The table with this kind's columns, types and defaults; its rows are not looked at.

        Raises:
            DataError: a required column is missing, a column is unknown, or one cannot be cast.
        """
        unknown = sorted(set(table.column_names) - set(cls.schema.names))
        missing = [f.name for f in cls.schema if not f.nullable and f.name not in (*table.column_names, *cls.defaults)]
        if unknown or missing:
            what = f"unknown columns {unknown}" if unknown else f"required columns {missing} are missing"
            raise DataError(f"{cls.kind}: {what}; a {cls.kind} has the columns {cls.schema.names}.")
        columns = []
        for field in cls.schema:
            if field.name not in table.column_names:
                column = pa.chunked_array([pa.nulls(len(table), field.type)])
            else:
                try:
                    column = table[field.name].cast(field.type)
                except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                    raise DataError(
                        f"{cls.kind}: column `{field.name}` cannot be read as {field.type}: {error}."
                    ) from error
            if field.name in cls.defaults:
                column = pc.fill_null(column, pa.scalar(cls.defaults[field.name], field.type))
            columns.append(column)
        # Nullability is enforced by `present`, which can name the row; Arrow itself would not.
        return pa.table(columns, schema=pa.schema([pa.field(f.name, f.type) for f in cls.schema]))

    def __len__(self) -> int:
        """How many records."""
        return int(self.table.num_rows)

    def __repr__(self) -> str:
        """For people."""
        return f"{type(self).__name__}({len(self)} rows, {len(self.users)} users)"

    @property
    def users(self) -> list[str]:
        """The people these records come from, sorted; records without a user are not listed."""
        return sorted(pc.unique(self.table["user"].drop_null()).to_pylist())

    def numpy(self, column: str) -> np.ndarray[Any, Any]:
        """One column as a numpy array, nulls of number columns as NaN."""
        return np.asarray(self.table[column].to_numpy())

    def of(self, user: str) -> Self:
        """The records of one person."""
        return type(self)(self.table.filter(pc.equal(self.table["user"], user)))

    def without(self, user: str) -> Self:
        """The records of everybody else, and those without a user."""
        theirs = pc.fill_null(pc.equal(self.table["user"], user), False)
        return type(self)(self.table.filter(pc.invert(theirs)))

    @classmethod
    def concat(cls, parts: Sequence[Self]) -> Self:
        """All records of several tables of this kind, in order."""
        return cls(pa.concat_tables([part.table for part in parts]) if parts else cls.schema.empty_table())

    def split(self, share: float, *, by: Literal["user", "prompt", "row"] = "user", seed: int = 0) -> tuple[Self, Self]:
        """Two parts that have no user (or prompt, or row) in common.

        Args:
            share: how much to hold out, as a share of users (prompts, rows), in (0, 1).
            by: what must not be torn apart; rows without a user or prompt stand for themselves.
            seed: of the shuffle.

        Returns:
            The part to learn from, and the part held out; each in the order of the original.

        Raises:
            SettingsError: `share` is not in (0, 1).
            DataError: there is nothing to split `by`, or one part would be empty.
        """
        if not 0 < share < 1:
            raise SettingsError(f"The share to hold out must lie strictly between 0 and 1: got {share!r}.")
        if by != "row" and by not in self.table.column_names:
            raise DataError(f"{self.kind}: there is no `{by}` to split by; split by row.")
        codes = np.arange(len(self))
        if by != "row":
            encoded = pc.dictionary_encode(self.table[by]).combine_chunks().indices
            known = np.asarray(encoded.is_valid().to_numpy(zero_copy_only=False))
            codes = np.where(known, np.asarray(pc.fill_null(encoded, 0)), codes + len(self))
        groups = np.unique(codes)
        held = np.random.default_rng(seed).permutation(groups)[: round(share * len(groups))]
        if not 0 < len(held) < len(groups):
            raise DataError(
                f"{self.kind}: {share:g} of {len(groups)} distinct values of `{by}` leaves one part empty; "
                "bring more, or split by row."
            )
        out = np.isin(codes, held)
        return type(self)(self.table.filter(pa.array(~out))), type(self)(self.table.filter(pa.array(out)))

    def take(self, rows: Sequence[int] | np.ndarray[Any, Any]) -> Self:
        """Some records by row number, in that order."""
        return type(self)(self.table.take(pa.array(np.asarray(rows, dtype=np.int64))))


class Comparisons(Records):
    """Somebody preferred `chosen` to `rejected`, as surely as `strength` (1 = certain, 0.5 = tie, 0 = the reverse)."""

    kind = "comparison"
    schema = _schema(
        [("prompt", pa.string()), ("chosen", pa.string()), ("rejected", pa.string()), ("strength", pa.float32())],
        [
            ("margin", pa.float32()),
            ("context", pa.string()),
            ("aspect", pa.string()),
            ("rationale", pa.string()),
            _FORM,
        ],
    )
    defaults: ClassVar[Mapping[str, Any]] = {"strength": 1.0}
    rules = (different("chosen", "rejected"), within("strength", 0.0, 1.0), finite("margin"), _form())


class Rankings(Records):
    """Several responses to one prompt, best first; equal `ranks` are ties (1 = best)."""

    kind = "ranking"
    schema = _schema(
        [("prompt", pa.string()), ("responses", pa.list_(pa.string()))],
        [("ranks", pa.list_(pa.int32())), ("context", pa.string()), ("aspect", pa.string()), _FORM],
    )
    rules = (at_least("responses", 2), same_length("responses", "ranks"), _form())


class Ratings(Records):
    """A score that somebody gave one response under one aspect, on the scale [low, high]."""

    kind = "rating"
    schema = _schema(
        [("prompt", pa.string()), ("response", pa.string()), ("score", pa.float64())],
        [("low", pa.float64()), ("high", pa.float64()), ("aspect", pa.string()), ("rationale", pa.string()), _FORM],
    )
    rules = (finite("score"), finite("low"), finite("high"), _form())


class Reactions(Records):
    """A light sign on one response: love, thumbs-down, copy, regenerate, ..."""

    kind = "reaction"
    schema = _schema([("prompt", pa.string()), ("response", pa.string()), ("reaction", pa.string())], [_FORM])
    rules = (_form(),)


class Edits(Records):
    """What somebody made of a draft."""

    kind = "edit"
    schema = _schema([("draft", pa.string()), ("revision", pa.string())], [("context", pa.string())])


class Battles(Records):
    """A vote between two systems."""

    kind = "battle"
    schema = _schema(
        [("system_a", pa.string()), ("system_b", pa.string()), ("outcome", pa.string())],
        [("prompt", pa.string()), _FORM, ("attention_a", pa.float64()), ("attention_b", pa.float64())],
    )
    rules = (
        one_of("outcome", "a", "b", "tie", "both_bad"),
        different("system_a", "system_b"),
        finite("attention_a"),
        finite("attention_b"),
        _form(),
    )


class Interactions(Records):
    """Something a person did with an item: watched, bought, rated."""

    kind = "interaction"
    schema = _schema([("item", pa.string())], [("event", pa.string()), ("value", pa.float64())])
    rules = (present("user"), finite("value"))


class Directives(Records):
    """A person's standing wish in words, and where it applies."""

    kind = "directive"
    schema = _schema([("text", pa.string())], [("scope", pa.string())])
    rules = (present("user"),)


class Conversations(Records):
    """A whole exchange between a person and a system, as the canonical JSON of its messages."""

    kind = "conversation"
    schema = _schema([("messages", pa.string())])


class Observations(Records):
    """Something seen of a person at some time: unstructured text, or the path of an image."""

    kind = "observation"
    schema = _schema([("text", pa.string())], [("image", pa.string())])
    rules = (present("user"),)


class Segments(Records):
    """A stretch of control: states, actions and next states as JSON lists of vectors, and rewards if known."""

    kind = "segment"
    schema = _schema(
        [("states", pa.string()), ("actions", pa.string())],
        [("next_states", pa.string()), ("rewards", pa.list_(pa.float64()))],
    )


KINDS: Mapping[str, type[Records]] = {
    kind.kind: kind
    for kind in (
        Comparisons,
        Rankings,
        Ratings,
        Reactions,
        Edits,
        Battles,
        Interactions,
        Directives,
        Conversations,
        Observations,
        Segments,
    )
}
