"""What an import format is, and how one looks at a row: fields that are taken, and the rest that becomes `extra`.

A converter takes fields out of a row by name; whatever it did not take ends in `extra`, so nothing a row carried is
lost. A row that cannot be a record raises `RowError`, whose message is the reason under which it is counted: it names
fields, never values, so that equal reasons add up.

>>> row = Fields({"user_id": 7, "score": "4.5", "mood": "sunny"})
>>> row.user(), row.number("score"), row.extra()
('7', 4.5, '{"mood":"sunny"}')
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from penchant.errors import DataError
from penchant.records import canonical_json

Row = Mapping[str, Any]
Made = tuple[str, dict[str, Any]]  # kind of record, its columns

USER_NAMES = frozenset(
    [
        "user",
        "userid",
        "uid",
        "username",
        "annotator",
        "annotatorid",
        "worker",
        "workerid",
        "rater",
        "raterid",
        "judge",
        "judgeid",
        "voter",
        "voterid",
        "labeler",
        "labelerid",
        "labeller",
        "ranker",
        "rankerid",
        "editor",
        "editorid",
        "person",
        "personid",
        "participant",
        "participantid",
        "respondent",
        "student",
        "studentid",
        "reviewer",
        "reviewerid",
        "customerid",
        "visitorid",
        "evaluator",
        "evaluatorid",
    ]
)
TIME_NAMES = frozenset(
    [
        "timestamp",
        "time",
        "tstamp",
        "createdat",
        "created",
        "datetime",
        "date",
        "unixreviewtime",
        "unixtime",
        "reviewtime",
    ]
)
_USUAL = 200  # letters; longer names of fields are not worth remembering, and could fill the memory
_FIRST_SECOND, _LAST_SECOND = -62_135_596_800, 253_402_300_799  # years 1 and 9999, which is all that Arrow can print


# Numbers in text, alike for one value and for a column; Python alone would also take "1_000" and any script's digits.
NUMBER = r"^\s*[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]{1,3})?\s*$"
NO_FINITE_NUMBER = r"^\s*[-+]?(?i:nan|inf|infinity)\s*$"


class RowError(DataError):
    """A row that cannot become a record; the message is the reason under which it is counted."""


def plain(name: str) -> str:
    """A field name without case and punctuation, so that `userID`, `user_id` and `User Id` are one."""
    return _plain(name) if len(name) < _USUAL else _plain.__wrapped__(name)


@lru_cache(maxsize=4096)
def _plain(name: str) -> str:
    return re.sub(r"[^0-9a-z]", "", name.lower())


def find(names: Iterable[str], *spellings: str) -> str | None:
    """The first of several plain spellings that is among the names, as it is written there."""
    known = {plain(name): name for name in names}
    return next((known[spelling] for spelling in spellings if spelling in known), None)


def _people(row: Row) -> tuple[list[str], list[str]]:
    """The fields of a row that may say who and when."""
    names = tuple(row)
    return _people_among(names) if sum(map(len, names)) < 10 * _USUAL else _people_among.__wrapped__(names)


@lru_cache(maxsize=1024)
def _people_among(names: tuple[str, ...]) -> tuple[list[str], list[str]]:
    whos = [name for name in names if plain(name) in USER_NAMES]
    return whos, [name for name in names if plain(name) in TIME_NAMES]


def is_missing(value: Any) -> bool:
    """Null, NaN, or an empty cell."""
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def moment(value: Any) -> datetime | None:
    """A point in time from seconds, milli-, micro- or nanoseconds since 1970, or from ISO text; None if it is none."""
    try:
        if isinstance(value, datetime):
            return value.replace(tzinfo=value.tzinfo or UTC).astimezone(UTC)
        if isinstance(value, str) and not re.fullmatch(r"\s*-?\d+(\.\d+)?([eE]\+?\d+)?\s*", value):
            return moment(datetime.fromisoformat(value.strip()))
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            return None
        seconds = float(value)
        for _ in range(3):  # no feedback is later than the year 5000, so larger numbers count smaller units
            seconds = seconds / 1000 if abs(seconds) > 1e11 else seconds
        return datetime.fromtimestamp(seconds, UTC) if _FIRST_SECOND <= seconds <= _LAST_SECOND else None
    except (ValueError, OverflowError, OSError):
        return None


def _plain_value(value: Any) -> Any:
    """What JSON can hold of a value: NaN becomes null, times and decimals text, raw bytes a note of their length."""
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _plain_value(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain_value(inner) for inner in value]
    if isinstance(value, (bytes, bytearray)):
        return {"bytes_not_kept": len(value)}
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal) else value


def json_text(value: Any) -> str:
    """Canonical JSON of something found in a row.

    Raises:
        RowError: it holds an infinite number or is nested too deep.
    """
    try:
        return canonical_json(value)
    except DataError:
        try:
            return canonical_json(_plain_value(value))
        except (DataError, RecursionError) as error:
            raise RowError("a field holds something that JSON has no form for") from error


class Fields:
    """One row, from which a converter takes what it needs.

    Args:
        row: values by field name, of any type.
        place: its number in the file, counted from 0.
    """

    def __init__(self, row: Row, place: int = 0):
        self.row = row
        self.place = place
        self.skipped: list[str] = []
        self._taken: set[str] = set()

    def __contains__(self, name: str) -> bool:
        """Whether the row has the field at all."""
        return name in self.row

    def skip(self, reason: str) -> None:
        """Count a part of the row that gives no record, though others may."""
        self.skipped.append(reason)

    def get(self, name: str) -> Any:
        """A value as it is, None if it is missing; from now on it is not part of `extra`."""
        self._taken.add(name)
        value = self.row.get(name)
        return None if is_missing(value) and value != "" else value

    def find(self, *spellings: str) -> str | None:
        """The name of the first field in any of several plain spellings."""
        return find(self.row, *spellings)

    def text(self, name: str) -> str:
        """A payload.

        Raises:
            RowError: it is missing or no text.
        """
        value = self.get(name)
        if value is None:
            raise RowError(f"`{name}` is missing")
        if not isinstance(value, str):
            raise RowError(f"`{name}` is not text")
        return value

    def optional(self, name: str) -> str | None:
        """A payload that may be missing.

        Raises:
            RowError: it is there and no text.
        """
        return None if self.get(name) is None else self.text(name)

    def word(self, name: str) -> str:
        """A name, label or id: text or a whole number.

        Raises:
            RowError: it is missing or neither.
        """
        value = as_word(self.get(name))
        if value is None:
            missing = is_missing(self.row.get(name))
            raise RowError(f"`{name}` is missing" if missing else f"`{name}` is neither a name nor a number")
        return value

    def number(self, name: str) -> float:
        """A finite number, also if it is written as text.

        Raises:
            RowError: it is missing, no number, or not finite.
        """
        value = self.get(name)
        if is_missing(value):
            raise RowError(f"`{name}` is missing")
        return as_number(value, name)

    def items(self, name: str, *, at_least: int = 0) -> list[Any]:
        """A list, also if it is written as JSON text (as CSV does).

        Raises:
            RowError: it is missing, no list, or too short.
        """
        value = self.get(name)
        if value is None:
            raise RowError(f"`{name}` is missing")
        if isinstance(value, str) and value[:1] == "[":
            value = parsed(value)
        if not isinstance(value, (list, tuple)):
            raise RowError(f"`{name}` is not a list")
        if len(value) < at_least:
            raise RowError(f"`{name}` holds fewer than {at_least}")
        return list(value)

    def texts(self, name: str, *, at_least: int = 0) -> list[str]:
        """A list of payloads.

        Raises:
            RowError: it is missing, no list of texts, or too short.
        """
        values = self.items(name, at_least=at_least)
        if not all(isinstance(value, str) for value in values):
            raise RowError(f"`{name}` holds something that is not text")
        return values

    def user(self) -> str | None:
        """Who left this, under any of the usual names; None if nobody is named."""
        for name in _people(self.row)[0]:
            if is_missing(self.row[name]):
                self._taken.add(name)
            elif (value := as_word(self.row[name])) is not None:
                self._taken.add(name)
                return value
        return None

    def time(self) -> datetime | None:
        """When, under any of the usual names; what cannot be read as a time stays in `extra` as it was."""
        for name in _people(self.row)[1]:
            if is_missing(self.row[name]):
                self._taken.add(name)
            elif (value := moment(self.row[name])) is not None:
                self._taken.add(name)
                return value
        return None

    def extra(self, **more: Any) -> str | None:
        """Everything that was not taken, and more, as a JSON object; None if there is nothing.

        Raises:
            RowError: something in it has no form in JSON.
        """
        rest = {str(key): value for key, value in self.row.items() if key not in self._taken and value is not None}
        rest.update({key: value for key, value in more.items() if value is not None})
        return json_text(rest) if rest else None


def as_word(value: Any) -> str | None:
    """A name, label or id as text: "7" for 7, 7.0 and "7", "true" for True; None for anything else."""
    if isinstance(value, str):
        return value or None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    # Longer numbers are no ids, and Python refuses to print the longest.
    return str(value) if isinstance(value, int) and value.bit_length() <= 256 else None


def as_number(value: Any, name: str) -> float:
    """A finite number.

    Raises:
        RowError: it is no number or not finite.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, str, Decimal, np.number)):
        raise RowError(f"`{name}` is not a number")
    if isinstance(value, str) and not (re.match(NUMBER, value) or re.match(NO_FINITE_NUMBER, value)):
        raise RowError(f"`{name}` is not a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    except ValueError as error:  # a signalling decimal
        raise RowError(f"`{name}` is not a number") from error
    if math.isnan(number):
        raise RowError(f"`{name}` is missing")
    if not math.isfinite(number):
        raise RowError(f"`{name}` is not finite")
    return number


def parsed(text: str) -> Any:
    """JSON that stands inside a field, or None if it is none; NaN reads as null."""
    try:
        return json.loads(text, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return None


@dataclass(frozen=True)
class Items:
    """Texts that rows point to by id.

    Attributes:
        name: of the file, for messages.
        rows: the fields of each item by its id.
        is_prose: the texts are what people read and judged, not just the titles of what they judged.
    """

    name: str
    rows: Mapping[str, Row]
    is_prose: bool = True

    TEXT_NAMES = ("text", "content", "body", "comment", "question", "instruction", "prompt", "title", "name")

    def text(self, item: str) -> str:
        """The text of an item.

        Raises:
            RowError: there is no such item, or it has no text.
        """
        row = self.rows.get(item)
        if row is None:
            raise RowError("the item is not in the file of items")
        name = find(row, *self.TEXT_NAMES)
        if name is None or not isinstance(row[name], str) or not row[name]:
            raise RowError("the item has no text in the file of items")
        return str(row[name])


@dataclass(frozen=True)
class ItemsFile:
    """Where the items of a set usually lie.

    Attributes:
        stems: names of files beside the imported one, without their endings.
        points: plain spellings of the field that points to an item.
        keys: plain spellings of the items' own id, if it is not called as the field that points to it.
    """

    stems: tuple[str, ...]
    points: tuple[str, ...]
    keys: tuple[str, ...] = ("id",)


@dataclass(frozen=True)
class Given:
    """What a converter knows besides the row: the texts of items, if there are any."""

    items: Items | None = None


@dataclass(frozen=True)
class Look:
    """The first rows of a file, to recognise its format by.

    Attributes:
        fields: names that at least half of the rows have.
        rows: the rows.
    """

    fields: frozenset[str]
    rows: Sequence[Row]

    @classmethod
    def at(cls, rows: Sequence[Row]) -> "Look":
        """A look at some rows."""
        counts: dict[str, int] = {}
        for row in rows:
            for name in row:
                counts[name] = counts.get(name, 0) + 1
        return cls(frozenset(name for name, count in counts.items() if 2 * count >= len(rows)), rows)

    def has(self, *names: str) -> bool:
        """Whether all these fields are there, exactly so spelt."""
        return self.fields.issuperset(names)

    def find(self, *spellings: str) -> str | None:
        """The first field in any of several plain spellings."""
        return find(sorted(self.fields), *spellings)

    def mostly(self, name: str, condition: Callable[[Any], bool]) -> bool:
        """Whether the field is there and most of its values that are not missing meet a condition."""
        values = [row[name] for row in self.rows if not is_missing(row.get(name))]
        return bool(values) and 2 * sum(map(condition, values)) > len(values)

    def values(self, name: str) -> set[str]:
        """The different words in a field; values that are no words are left out."""
        return {word for row in self.rows if (word := as_word(row.get(name))) is not None}


@dataclass(frozen=True)
class Column:
    """One record per row of a table, made column by column.

    Attributes:
        kind: of record.
        table: columns of that kind, one row per row of the source; null where something is missing.
        problems: reason -> bool[n], rows that cannot be records for a reason the kind's own rules do not see.
    """

    kind: str
    table: pa.Table
    problems: Mapping[str, np.ndarray[Any, np.dtype[np.bool_]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Format:
    """One way in which feedback is written down.

    Attributes:
        name: for `format=`.
        about: what it is, in a few words.
        needs: the fields it is known by, for people.
        recognise: why a file is in this format, or None if it is not.
        convert: the records of one row; raises `RowError` if there are none.
        columns: the same for a whole table at once, or None where a table's types do not allow it.
        items: where the texts of items lie, if rows only point to them.
    """

    name: str
    about: str
    needs: tuple[str, ...]
    recognise: Callable[[Look], str | None]
    convert: Callable[[Fields, Given], list[Made]]
    columns: Callable[[pa.Table, Given], Column | None] | None = None
    items: ItemsFile | None = None


def listed(names: Iterable[str]) -> str:
    """Field names for people: `a`, `b` and `c`."""
    quoted = [f"`{name}`" for name in names]
    return " and ".join([", ".join(quoted[:-1]), quoted[-1]] if len(quoted) > 1 else quoted)
