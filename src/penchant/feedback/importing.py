r"""Import feedback: recognise how a file is written down, turn its rows into records, count every row that is lost.

kept + all dropped = rows, exactly: a row is kept if at least one record came of it. Parts of kept rows that gave no
record (one unreadable score of five) are counted in `partial`.

>>> import tempfile
>>> with tempfile.TemporaryDirectory() as folder:
...     file = Path(folder) / "votes.jsonl"
...     _ = file.write_text('{"prompt": "2 + 2?", "chosen": "4", "rejected": "5"}\nnot JSON\n')
...     votes = read(file)
>>> votes.format, votes.rows, votes.kept, votes.dropped
('pairs', 2, 1, {'the line is not JSON': 1})
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from penchant.errors import DataError
from penchant.feedback.formats import FORMATS, named
from penchant.feedback.formats.columns import uniform
from penchant.feedback.formats.layout import (
    Column,
    Fields,
    Format,
    Given,
    Items,
    Look,
    Row,
    RowError,
    as_word,
    find,
    plain,
)
from penchant.feedback.formats.mapping import mapped, read_mapping, template
from penchant.feedback.reading import Chunk, chunks, shown
from penchant.records import KINDS, Records

_LOOK_ROWS = 200
_PROSE = ("text", "content", "body", "comment", "question", "instruction", "prompt", "turns", "output1", "responsea")
_ENDINGS = (".jsonl.gz", ".jsonl", ".csv.gz", ".csv", ".json", ".json.gz", ".parquet")
# What a converter may stumble over in a row whose structure is not what its format says.
_STRUCTURE = (TypeError, ValueError, KeyError, IndexError, AttributeError, ArithmeticError, RecursionError)
_WRONG_STRUCTURE = "its structure is not what this format says"
_NOT_TEXT = "a text is not valid UTF-8"
_NO_RECORD = "nothing in it makes a record"

Mask = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True)
class Imported:
    """What came of a file.

    Attributes:
        format: by which it was read; "none" if no row could be read.
        reason: why this format.
        rows: records in the file, blank lines excluded.
        kept: rows of which at least one record came.
        dropped: reason -> rows of which none came; kept plus all dropped equals rows.
        records: kind -> the records.
        partial: reason -> parts of kept rows of which no record came.
    """

    format: str
    reason: str
    rows: int
    kept: int
    dropped: dict[str, int]
    records: dict[str, Records]
    partial: dict[str, int] = field(default_factory=dict)


def read(
    path: str | Path,
    *,
    format: str = "auto",
    mapping: Mapping[str, Any] | str | Path | None = None,
    items: str | Path | None = None,
    source: str | None = None,
) -> Imported:
    """Read a file of feedback, whatever known format it is in.

    Args:
        path: JSON (lines), CSV (each also gzip), Parquet, a numpy archive of rollouts, or a folder with a saved set.
        format: the name of a format; "auto" recognises it by the fields of the first rows.
        mapping: which field is which, as a dictionary or a YAML file, for a format nobody knows.
        items: a file with the texts of the items that rows name by id; without it a file beside `path` is looked for.
        source: what the records shall name as their source; without it the names of the folder and the file.

    Raises:
        DataError: the file cannot be read at all, or no format fits its fields.
        UnknownNameError: there is no format of that name.
        SettingsError: the mapping does not make sense.
    """
    path = Path(path)
    own = _own(mapping)
    given_format = own or (None if format == "auto" else named(format))
    parts = chunks(path)
    first, sample = _first(parts)
    everything = chain(first, parts)
    if not sample:
        return _unreadable(everything)
    look = Look.at(sample)
    chosen, reason = (given_format, "as asked") if given_format else recognised(look, path)
    reason = "a mapping was given" if own else reason
    texts, note = _items(chosen, look, path, Path(items) if items is not None else None)
    collected = _collect(chosen, Given(texts), everything, source or _source(path))
    return _imported(chosen, reason + note, collected)


def recognised(look: Look, path: Path) -> tuple[Format, str]:
    """The first format that fits, and why.

    Raises:
        DataError: none fits; with the fields seen, the nearest format, and a mapping to start from.
    """
    for each in FORMATS:
        reason = each.recognise(look)
        if reason is not None:
            return each, reason
    names = sorted(look.fields)
    printable = [name[:60].encode("unicode_escape").decode() if not name.isprintable() else name for name in names[:20]]
    seen = ", ".join(f"`{name}`" for name in printable) + (", ..." if len(names) > 20 else "")
    known = {plain(name) for name in names}
    near = max(FORMATS[1:], key=lambda each: sum(plain(need) in known for need in each.needs) / len(each.needs))
    raise DataError(
        f"{shown(path)}: no known format has these fields: {seen or 'none'}. The nearest is {near.name!r} "
        f"({near.about}), known by {', '.join(near.needs)}. To say which field is which, write a mapping and import "
        f"with --mapping mine.yaml:\n\n{template(look)}\n"
    )


def _own(mapping: Mapping[str, Any] | str | Path | None) -> Format | None:
    if mapping is None:
        return None
    if isinstance(mapping, Mapping):
        return mapped(mapping)
    return mapped(*read_mapping(Path(mapping)))


def _source(path: Path) -> str:
    """Folder and file, so that `pairs.jsonl` of two sets are two sources; the same from wherever it is imported."""
    whole = Path(path.absolute())
    return "/".join(shown(Path(part)) for part in (whole.parent.name, whole.name) if part)


def _first(parts: Iterator[Chunk]) -> tuple[list[Chunk], list[Row]]:
    """The chunks up to the first that has rows, and its first rows."""
    read_so_far: list[Chunk] = []
    for part in parts:
        read_so_far.append(part)
        if len(part):
            rows = Chunk(table=part.table.slice(0, _LOOK_ROWS)).listed() if part.table is not None else part.listed()
            return read_so_far, list(rows[:_LOOK_ROWS])
    return read_so_far, []


def _unreadable(parts: Iterable[Chunk]) -> Imported:
    dropped: Counter[str] = Counter()
    for part in parts:
        dropped.update(part.broken)
    reason = "no row of it can be read" if dropped else "there are no rows in it"
    return Imported("none", reason, sum(dropped.values()), 0, dict(dropped), {})


# Texts of items ------------------------------------------------------------------------------------------------------


def _items(chosen: Format, look: Look, path: Path, given: Path | None) -> tuple[Items | None, str]:
    """The texts that rows point to, and a note where they come from."""
    layout = chosen.items
    if layout is None:
        if given is not None:
            raise DataError(f"The format {chosen.name!r} has no ids that could point to the items in {shown(given)}.")
        return None, ""
    points = look.find(*layout.points)
    if points is None:
        return None, ""
    if given is not None:
        return _read_items(given, points, layout.keys, is_given=True), f"; texts from {shown(given)}"
    for name in (f"{stem}{ending}" for stem in layout.stems for ending in _ENDINGS):
        beside = path.parent / name
        if not beside.is_file() or beside.name == path.name:
            continue
        try:
            items = _read_items(beside, points, layout.keys, is_given=False)
        except DataError:
            return None, f"; the texts in {name} beside it cannot be read"
        if items.rows:
            how = "texts" if items.is_prose else "titles, kept in `extra`,"
            return items, f"; {how} from {name} beside it, by `{points}`"
    return None, ""


def _read_items(path: Path, points: str, keys: tuple[str, ...], *, is_given: bool) -> Items:
    rows: dict[str, Row] = {}
    is_prose = is_given
    for part in chunks(path):
        for row in part.listed():
            key = find(row, plain(points), *keys)
            identity = as_word(row.get(key)) if key else None
            if identity is not None:
                rows[identity] = {name: value for name, value in row.items() if name != key}
                is_prose = is_prose or find(row, *_PROSE) is not None
            elif key is None and path.suffix == ".json" and all(isinstance(value, str) for value in row.values()):
                rows |= {name: {"text": value} for name, value in row.items()}  # one object of names by id
                is_prose = True
    if not rows and is_given:
        raise DataError(f"{shown(path)} holds no items with an id called `{points}` or {' or '.join(keys)}.")
    return Items(shown(path), rows, is_prose)


# Rows to records -----------------------------------------------------------------------------------------------------


@dataclass
class _Collected:
    """What has come of the rows so far."""

    rows: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    partial: Counter[str] = field(default_factory=Counter)
    tables: dict[str, list[pa.Table]] = field(default_factory=dict)


def _collect(chosen: Format, given: Given, parts: Iterable[Chunk], source: str) -> _Collected:
    so_far = _Collected()
    for part in parts:
        so_far.rows += len(part) + sum(part.broken.values())
        so_far.dropped.update(part.broken)
        if not len(part):
            continue
        column = _column(chosen, given, part)
        if column is not None:
            _add_column(so_far, column, source)
        else:
            _add_rows(so_far, chosen, given, part.listed(), source)
    return so_far


def _column(chosen: Format, given: Given, part: Chunk) -> Column | None:
    """A chunk converted column by column, where its format and its values are simple enough."""
    if chosen.columns is None:
        return None
    table = uniform(part.rows) if part.rows is not None else part.table
    try:
        return chosen.columns(table, given) if table is not None else None
    except pa.ArrowException:  # a value that no cast foresaw: the row form says which
        return None


def _add_column(so_far: _Collected, column: Column, source: str) -> None:
    kind = KINDS[column.kind]
    table = column.table.append_column("source", pa.array([source] * len(column.table)))
    reasons = _reasons(kind, table, column.problems)
    good = np.array([reason is None for reason in reasons]) if any(reasons) else np.ones(len(table), dtype=bool)
    so_far.dropped.update(reason for reason in reasons if reason is not None)
    so_far.kept += int(good.sum())
    so_far.tables.setdefault(column.kind, []).append(kind.cast(table.filter(pa.array(good))))


def _reasons(kind: type[Records], table: pa.Table, problems: Mapping[str, Mask] | None = None) -> list[str | None]:
    """Why each row cannot be a record; None where it can."""
    reasons: list[str | None] = [None] * len(table)
    masks = [*(problems or {}).items()]
    masks += [(problem.reason, problem.rows) for problem in kind.problems(kind.cast(table))]
    for reason, mask in reversed(masks):  # the first reason counts
        for row in np.flatnonzero(mask):
            reasons[row] = reason
    return reasons


def _add_rows(so_far: _Collected, chosen: Format, given: Given, rows: list[Any], source: str) -> None:
    lost: dict[int, str] = {}
    made: dict[str, list[dict[str, Any]]] = {}
    origins: dict[str, list[int]] = {}
    failed: list[tuple[int, str]] = []
    first = so_far.rows - len(rows)
    for number, row in enumerate(rows):
        fields = Fields(row, place=first + number)
        try:
            results = chosen.convert(fields, given)
            if not results:
                raise RowError(_NO_RECORD)
        except RowError as error:
            lost[number] = str(error)
            continue
        except _STRUCTURE:
            lost[number] = _WRONG_STRUCTURE
            continue
        failed += [(number, reason) for reason in fields.skipped]
        for kind, columns in results:
            made.setdefault(kind, []).append(columns)
            origins.setdefault(kind, []).append(number)
    kept: set[int] = set()
    for kind, records in made.items():
        reasons = _add_records(so_far, KINDS[kind], records, source)
        for number, reason in zip(origins[kind], reasons, strict=True):
            if reason is None:
                kept.add(number)
            else:
                failed.append((number, reason))
    for number, reason in failed:
        if number in kept:
            so_far.partial[reason] += 1
        else:
            lost.setdefault(number, reason)
    so_far.kept += len(kept)
    so_far.dropped.update(lost.values())


def _add_records(
    so_far: _Collected, kind: type[Records], records: list[dict[str, Any]], source: str
) -> list[str | None]:
    """Add the good ones of some records of one kind, and say why each of the others is none."""
    table, problems = _table(kind, records, source)
    reasons = _reasons(kind, table, problems)
    good = [reason is None for reason in reasons]
    if any(good):
        so_far.tables.setdefault(kind.kind, []).append(kind.cast(table.filter(pa.array(good))))
    return reasons


def _table(kind: type[Records], records: list[dict[str, Any]], source: str) -> tuple[pa.Table, dict[str, Mask]]:
    """Columns of some records; a value that does not fit its column becomes null and its row a problem."""
    arrays: dict[str, Any] = {}
    problems: dict[str, Mask] = {}
    for column in kind.schema:
        values = [record.get(column.name) for record in records]
        if column.name == "source":
            values = [source if value is None else value for value in values]
        try:
            arrays[column.name] = pa.array(values, column.type)
        except (pa.ArrowException, UnicodeEncodeError, TypeError, ValueError, OverflowError):
            bad = np.array([not _fits(value, column.type) for value in values])
            problems[f"`{column.name}`: {_NOT_TEXT}" if _is_text(column.type) else f"`{column.name}` does not fit"] = (
                bad
            )
            fitting = [None if is_bad else value for value, is_bad in zip(values, bad, strict=True)]
            arrays[column.name] = pa.array(fitting, column.type)
    return pa.table(arrays), problems


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or (pa.types.is_list(kind) and pa.types.is_string(kind.value_type)))


def _fits(value: Any, kind: pa.DataType) -> bool:
    try:
        pa.array([value], kind)
    except (pa.ArrowException, UnicodeEncodeError, TypeError, ValueError, OverflowError):
        return False
    return True


def _imported(chosen: Format, reason: str, collected: _Collected) -> Imported:
    records = {
        kind: KINDS[kind](_with_scale(kind, pa.concat_tables(tables))) for kind, tables in collected.tables.items()
    }
    return Imported(
        chosen.name,
        reason,
        collected.rows,
        collected.kept,
        dict(collected.dropped.most_common()),
        {kind: part for kind, part in records.items() if len(part)},
        dict(collected.partial.most_common()),
    )


def _with_scale(kind: str, table: pa.Table) -> pa.Table:
    """Ratings whose scale nobody stated get the lowest and highest score seen as its ends."""
    if kind != "rating" or not len(table) or table["low"].null_count < len(table):
        return table
    scores = np.asarray(table["score"].to_numpy())
    for name, end in (("low", scores.min()), ("high", scores.max())):
        place = table.schema.get_field_index(name)
        table = table.set_column(place, name, pa.array(np.full(len(table), end)))
    return table
