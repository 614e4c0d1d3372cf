r"""Import feedback: recognise how a file is written down, turn its rows into records, count every row that is lost.

kept + all dropped = rows, exactly: a row is kept if at least one record came of it. Parts of kept rows that gave no
record (one unreadable score of five) are counted in `partial`. `stream` hands out a file of any size part by part, in
bounded memory; `read` gathers all parts of a file that fits.

>>> import tempfile
>>> with tempfile.TemporaryDirectory() as folder:
...     file = Path(folder) / "votes.jsonl"
...     _ = file.write_text('{"prompt": "2 + 2?", "chosen": "4", "rejected": "5"}\nnot JSON\n')
...     votes = read(file)
>>> votes.format, votes.rows, votes.kept, votes.dropped
('pairs', 2, 1, {'the line is not JSON': 1})
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from penchant.errors import DataError
from penchant.feedback.chunk import Chunk, shown
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
from penchant.feedback.formats.mapping import mapped, template
from penchant.feedback.reading import chunks, n_bytes
from penchant.records import KINDS, Records
from penchant.settings import read_recipe

PART_ROWS = 50_000  # rows or bytes of records that are handed on at once: a step of an import, a row group of Parquet
PART_BYTES = 1 << 24
_LOOK_ROWS = 200
_PROSE = ("text", "content", "body", "comment", "question", "instruction", "prompt", "turns", "output1", "responsea")
_ENDINGS = (".jsonl.gz", ".jsonl", ".csv.gz", ".csv", ".json", ".json.gz", ".parquet")
# What a converter may stumble over in a row whose structure is not what its format says.
_STRUCTURE = (TypeError, ValueError, KeyError, IndexError, AttributeError, ArithmeticError, RecursionError)
_WRONG_STRUCTURE = "its structure is not what this format says"
_NOT_TEXT = "a text is not valid UTF-8"
_NO_RECORD = "nothing in it makes a record"

Mask = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True, kw_only=True)
class Part:
    """What came of some rows of a file, in order.

    Attributes:
        rows: records in this part of the file, blank lines excluded.
        kept: rows of which at least one record came.
        dropped: reason -> rows of which none came; kept plus all dropped equals rows.
        records: kind -> the records.
        partial: reason -> parts of kept rows of which no record came.
        at: bytes of the file that have been read so far.
    """

    rows: int = 0
    kept: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    records: Mapping[str, Records] = field(default_factory=dict)
    partial: Mapping[str, int] = field(default_factory=dict)
    at: int = 0


@dataclass(frozen=True, kw_only=True)
class Imported(Part):
    """What came of a file.

    Attributes:
        format: by which it was read; "none" if no row could be read.
        reason: why this format.
    """

    format: str
    reason: str


@dataclass(frozen=True)
class Stream:
    """A file whose format is known, and what comes of its rows.

    Attributes:
        format: by which it is read; "none" if no row can be read.
        reason: why this format.
        n_bytes: how large it is.
        parts: what comes of it, part by part, once; each part is made when it is asked for.
    """

    format: str
    reason: str
    n_bytes: int
    parts: Iterator[Part]


def read(
    path: str | Path,
    *,
    format: str = "auto",
    mapping: Mapping[str, Any] | str | Path | None = None,
    items: str | Path | None = None,
    source: str | None = None,
) -> Imported:
    """Read a file of feedback that fits into memory, whatever format it is in; Args and Raises as for `stream`."""
    found = stream(path, format=format, mapping=mapping, items=items, source=source)
    whole = together(list(found.parts))
    return Imported(
        format=found.format,
        reason=found.reason,
        **{name: getattr(whole, name) for name in Part.__dataclass_fields__},
    )


def stream(
    path: str | Path,
    *,
    format: str = "auto",
    mapping: Mapping[str, Any] | str | Path | None = None,
    items: str | Path | None = None,
    source: str | None = None,
) -> Stream:
    """Open a file of feedback of any size, whatever known format it is in.

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
    pieces = chunks(path)
    first, sample = _first(pieces)
    everything = chain(first, pieces)
    if not sample:
        broken = together([Part(rows=sum(c.broken.values()), dropped=c.broken, at=c.at) for c in everything])
        reason = "no row of it can be read" if broken.rows else "there are no rows in it"
        return Stream("none", reason, n_bytes(path), iter([broken]))
    look = Look.at(sample)
    chosen, reason = (given_format, "as asked") if given_format else recognised(look, path)
    reason = "a mapping was given" if own else reason
    texts, note = _items(chosen, look, path, Path(items) if items is not None else None)
    parts = _grouped(_converted(chosen, Given(texts), everything, source or _source(path)))
    return Stream(chosen.name, reason + note, n_bytes(path), parts)


def together(parts: Sequence[Part]) -> Part:
    """Several parts as one, in order; reasons with the most rows first."""
    dropped, partial = Counter[str](), Counter[str]()
    tables: dict[str, list[Records]] = {}
    for part in parts:
        dropped.update(part.dropped)
        partial.update(part.partial)
        for kind, records in part.records.items():
            tables.setdefault(kind, []).append(records)
    return Part(
        rows=sum(part.rows for part in parts),
        kept=sum(part.kept for part in parts),
        dropped=dict(dropped.most_common()),
        records={kind: KINDS[kind].concat(found) for kind, found in tables.items()},
        partial=dict(partial.most_common()),
        at=max((part.at for part in parts), default=0),
    )


def ahead(parts: Iterable[Part]) -> Iterator[Part]:
    """The same parts, each made in a thread while the one before is still being used."""
    following = iter(parts)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(next, following, None)
        while (part := waiting.result()) is not None:
            waiting = pool.submit(next, following, None)
            yield part


def _grouped(parts: Iterable[Part]) -> Iterator[Part]:
    """The same, in parts that are worth a step."""
    waiting: list[Part] = []
    rows = size = 0
    for part in parts:
        waiting.append(part)
        rows += part.rows
        size += sum(records.table.nbytes for records in part.records.values())
        if rows >= PART_ROWS or size >= PART_BYTES:
            yield together(waiting)
            waiting, rows, size = [], 0, 0
    if waiting:
        yield together(waiting)


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
    return mapped(*read_recipe(Path(mapping)))


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


def _converted(chosen: Format, given: Given, pieces: Iterable[Chunk], source: str) -> Iterator[Part]:
    n_rows = 0
    for piece in pieces:
        n_broken = sum(piece.broken.values())
        column = _column(chosen, given, piece)
        if column is not None:
            part = _of_column(column, source)
        else:
            part = _of_rows(chosen, given, piece.listed(), source, n_rows + n_broken)
        n_rows += n_broken + len(piece)
        dropped = Counter(piece.broken) + Counter(part.dropped)
        yield replace(part, rows=n_broken + len(piece), dropped=dropped, at=piece.at)


def _column(chosen: Format, given: Given, piece: Chunk) -> Column | None:
    """A chunk converted column by column, where its format and its values are simple enough."""
    if chosen.columns is None or not len(piece):
        return None
    table = uniform(piece.rows) if piece.rows is not None else piece.table
    try:
        return chosen.columns(table, given) if table is not None else None
    except pa.ArrowException:  # a value that no cast foresaw: the row form says which
        return None


def _of_column(column: Column, source: str) -> Part:
    kind = KINDS[column.kind]
    table = column.table
    if "source" not in table.column_names:
        table = table.append_column("source", pa.array([source] * len(table)))
    reasons, why = _reasons(kind, table, column.problems)
    counts = np.bincount(why, minlength=len(reasons)).tolist()
    records = kind(table.filter(pa.array(why == 0)) if counts[0] < len(table) else table)
    dropped = Counter[str]()
    for reason, count in zip(reasons[1:], counts[1:], strict=True):
        dropped[reason] += count
    dropped = +dropped  # only reasons that there were
    return Part(kept=counts[0], dropped=dropped, records={kind.kind: records} if counts[0] else {})


def _reasons(
    kind: type[Records], table: pa.Table, problems: Mapping[str, Mask] | None = None
) -> tuple[list[str], np.ndarray[Any, np.dtype[np.int64]]]:
    """Reasons why rows cannot be records, and of each row which of them; 0 stands for none."""
    reasons = [""]
    why = np.zeros(len(table), dtype=np.int64)
    found = [*(problems or {}).items()]
    found += [(problem.reason, problem.rows) for problem in kind.problems(kind.cast(table))]
    for reason, mask in found:
        reasons.append(reason)
        why[mask & (why == 0)] = len(reasons) - 1  # the first reason counts
    return reasons, why


def _of_rows(chosen: Format, given: Given, rows: list[Any], source: str, first: int) -> Part:
    lost: dict[int, str] = {}
    made: dict[str, list[dict[str, Any]]] = {}
    origins: dict[str, list[int]] = {}
    failed: list[tuple[int, str]] = []
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
    records: dict[str, Records] = {}
    for kind, columns_of in made.items():
        table, problems = _table(KINDS[kind], columns_of, source)
        reasons, why = _reasons(KINDS[kind], table, problems)
        if not why.all():
            records[kind] = KINDS[kind](table.filter(pa.array(why == 0)))
        for number, reason in zip(origins[kind], why.tolist(), strict=True):
            if reason:
                failed.append((number, reasons[reason]))
            else:
                kept.add(number)
    partial = Counter[str]()
    for number, reason_text in failed:
        if number in kept:
            partial[reason_text] += 1
        else:
            lost.setdefault(number, reason_text)
    return Part(kept=len(kept), dropped=Counter(lost.values()), records=records, partial=partial)


def _table(kind: type[Records], records: list[dict[str, Any]], source: str) -> tuple[pa.Table, dict[str, Mask]]:
    """Columns of some records; a value that does not fit its column becomes null and its row a problem."""
    arrays: dict[str, Any] = {}
    problems: dict[str, Mask] = {}
    for column in kind.schema:
        absent = source if column.name == "source" else None  # a converter that says None means None
        values = [record.get(column.name, absent) for record in records]
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
