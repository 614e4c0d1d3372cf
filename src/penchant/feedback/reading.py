"""Rows out of files: JSON, JSON lines, CSV, Parquet, folders of saved data sets, and rollouts as numpy archives.

What a file is, its first bytes decide, not its name. A record that cannot be read is counted with a reason and never
stops the others; blank lines are no records. Files are read in chunks of some megabytes, so size is not bounded by
memory: neither that of the file nor what a small file claims to unpack to.
"""

import codecs
import csv
import json
import os
import re
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.json as pj

from penchant.errors import DataError
from penchant.feedback import binary, chunk
from penchant.feedback.chunk import Chunk, batches, distinct, shown

_AT_ONCE = min(4, os.cpu_count() or 1)  # stretches of a file that are read at the same time
_LONGEST_RECORD = 1 << 26
_LARGEST_OBJECT = 1 << 28  # characters of a JSON document that is one object, which has to be read as a whole
_LONGEST_TOKEN = 16  # characters: of a number or word that the end of a block may have cut in two
_LONGEST_QUOTE = 1_000  # lines; a quoted cell that goes on for longer was never closed

CUT = "the compressed data is damaged or cut short"
NOT_UTF8 = "the line is not UTF-8"
NOT_JSON = "the line is not JSON"
NO_OBJECT = "the record is not a JSON object"
BROKEN_ARRAY = "the JSON breaks off or is damaged from here on"
OPEN_QUOTE = "a quote is never closed"
RAGGED = "the row has more or fewer cells than the header"
TOO_LONG = "the record is longer than 64 MiB"
_WRAPPERS = ("data", "rows", "examples", "instances", "results", "train")
_ARRAY = re.compile(r'\s*\[|\s*\{[^\[\]{}]*"(' + "|".join(_WRAPPERS) + r')"\s*:\s*\[')
_BETWEEN = re.compile(r"[ \t\r\n,]*")  # elements of an array

Some = TypeVar("Some")
Made = TypeVar("Made")


def chunks(path: Path) -> Iterator[Chunk]:
    """All records of a file or folder.

    Args:
        path: a file of any of the forms above, gzip or not; or a folder with a saved data set or Parquet files.

    Raises:
        DataError: there is no such file, it cannot be read at all, or its form is not known.
    """
    with _readable(path):
        done = 0
        for part in _parts_of(path) if path.is_dir() else [path]:
            with part.open("rb") as file:
                for some in _file(part, file):
                    yield replace(some, at=done + (some.at or file.tell()))
            done += part.stat().st_size


def n_bytes(path: Path) -> int:
    """How large a file is, or all files of a folder that `chunks` would read.

    Raises:
        DataError: there is no such file, or nothing in the folder can be read.
    """
    with _readable(path):
        return sum(part.stat().st_size for part in (_parts_of(path) if path.is_dir() else [path]))


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Whatever the operating system refuses, in one sentence."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{shown(path)} cannot be read: {error.strerror or 'not a readable file'}.") from error
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{shown(path)} cannot be read: {error}.") from error  # a NUL in the name


def _parts_of(folder: Path) -> list[Path]:
    """The files of a data set saved by the `datasets` library, split or not, or of a folder of Parquet files.

    Raises:
        DataError: there are none; says what there is.
    """
    for pattern in ("*.arrow", "*/*.arrow", "*.parquet", "*/*.parquet"):
        found = sorted(each for each in folder.glob(pattern) if not each.name.startswith("cache-"))
        if found:
            return found
    names = ", ".join(sorted(shown(each) for each in folder.iterdir())[:10]) or "nothing"
    raise DataError(
        f"{shown(folder)} is a folder without a saved data set (`*.arrow`) or Parquet files; it holds {names}. "
        "Name the file to import."
    )


def _file(path: Path, file: BinaryIO) -> Iterator[Chunk]:
    start = file.read(8)
    file.seek(0)
    if start[:4] == b"PAR1":
        yield from binary.parquet(path)
    elif start[:6] == b"ARROW1":
        yield from binary.arrow(path, pa.ipc.open_file)
    elif start[:4] == b"\xff\xff\xff\xff":
        yield from binary.arrow(path, pa.ipc.open_stream)
    elif start[:4] == b"PK\x03\x04":
        yield from binary.archive(path, file)
    elif start[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError(f"{shown(path)} is UTF-16 text; save it as UTF-8 and import it again.")
    else:
        yield from _text(path, _inflated(file) if start[:2] == b"\x1f\x8b" else _blocks(file))


# Text ----------------------------------------------------------------------------------------------------------------


def _blocks(file: BinaryIO) -> Iterator[bytes | str]:
    while block := file.read(chunk.BLOCK_BYTES):
        yield block


def _inflated(file: BinaryIO) -> Iterator[bytes | str]:
    """Blocks of a gzip file with any number of members; a string says why there are no more."""
    machine = zlib.decompressobj(wbits=31)
    rest = b""
    while True:
        rest = rest or file.read(chunk.BLOCK_BYTES)
        if not rest:
            break
        if machine.eof:
            if not rest.strip(b"\0"):  # padding after the last member
                rest = b""
                continue
            machine = zlib.decompressobj(wbits=31)
        try:
            block = machine.decompress(rest, chunk.BLOCK_BYTES)
        except zlib.error:
            yield CUT
            return
        rest = machine.unconsumed_tail or machine.unused_data
        if block:
            yield block
    if not machine.eof:
        yield CUT


def _text(path: Path, blocks: Iterator[bytes | str]) -> Iterator[Chunk]:
    first, second, blocks = _peeked(blocks)
    suffixes = {suffix.lower() for suffix in path.suffixes[-2:]}
    start = first[:1]
    if suffixes & {".jsonl", ".ndjson"} or (start == b"{" and (second == b"{" or (second and _is_json(first)))):
        yield from _json_lines(blocks)
    elif start in (b"[", b"{") or (first and ".json" in suffixes):
        yield from _json_document(path, blocks)
    else:
        yield from _separated(blocks)


def _peeked(blocks: Iterator[bytes | str]) -> tuple[bytes, bytes, Iterator[bytes | str]]:
    """The first line that is not blank, the first letter behind it if that matters, and all blocks again."""
    taken: list[bytes | str] = []
    first, second, line_break = bytearray(), b"", b""
    n_bytes = 0
    for block in blocks:
        if isinstance(block, str):
            taken.append(block)
            break
        rest = block if taken else block.removeprefix(codecs.BOM_UTF8)
        taken.append(rest)
        n_bytes += len(rest)
        if not line_break:
            line, line_break, rest = (rest if first else rest.lstrip()).partition(b"\n")
            first += line
        second = rest.lstrip()[:1] if line_break else b""
        # One line tells enough unless it opens an object: that may go on in the next line.
        if second or (first and first[:1] != b"{") or n_bytes > _LONGEST_RECORD:
            break
    return bytes(first), second, chain(taken, blocks)


def _stretches(blocks: Iterable[bytes | str]) -> Iterator[bytes | str]:
    """Some megabytes of whole lines at once; a string is the reason why a record could not be read."""
    waiting: list[bytes] = []
    n_lines = n_bytes = 0
    is_skipping = False
    for block in blocks:
        if isinstance(block, str):
            # Whatever began before the damage is part of the record that is lost.
            yield b"".join(waiting).rpartition(b"\n")[0]
            yield block
            return
        if is_skipping:
            _, line_break, block = block.partition(b"\n")
            is_skipping = not line_break
        waiting.append(block)
        n_lines += block.count(b"\n")
        n_bytes += len(block)
        if n_lines and (n_lines >= chunk.CHUNK_ROWS or n_bytes >= chunk.CHUNK_BYTES):
            whole, _, rest = b"".join(waiting).rpartition(b"\n")
            yield whole
            waiting, n_lines, n_bytes = [rest], 0, len(rest)
        if not n_lines and n_bytes > _LONGEST_RECORD:
            waiting, n_bytes, is_skipping = [], 0, True
            yield TOO_LONG
    yield b"".join(waiting)


def _lines(blocks: Iterable[bytes | str]) -> Iterator[bytes | str]:
    """Lines that are not blank, or the reason why one could not be read."""
    for stretch in _stretches(blocks):
        if isinstance(stretch, str):
            yield stretch
        else:
            yield from filter(bytes.strip, stretch.split(b"\n"))


# JSON ----------------------------------------------------------------------------------------------------------------


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _constant(name: str) -> float | None:
    # NaN and Infinity are not JSON; NaN is what table programs write for a missing value.
    return None if name == "NaN" else float(name)


_JSON = json.JSONDecoder(parse_constant=_constant)
_STRICT = msgspec.json.Decoder()  # faster, and of one opinion with the other on whatever it takes


def _json_lines(blocks: Iterator[bytes | str]) -> Iterator[Chunk]:
    for stretch, table in _in_order(_simple, _stretches(blocks)):
        if isinstance(stretch, str):
            yield Chunk([], broken={stretch: 1})
        elif table is not None:
            yield Chunk(table=table)
        else:
            for lines in batches(filter(bytes.strip, stretch.split(b"\n")), len):
                yield _decoded(lines)


def _in_order(work: Callable[[Some], Made], items: Iterable[Some]) -> Iterator[tuple[Some, Made]]:
    """Each item and what is made of it, in order, some at once: Arrow's reader does not hold Python's lock."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        waiting: deque[tuple[Some, Future[Made]]] = deque()
        for item in items:
            waiting.append((item, pool.submit(work, item)))
            if len(waiting) > _AT_ONCE:
                first, made = waiting.popleft()
                yield first, made.result()
        for first, made in waiting:
            yield first, made.result()


def _decoded(lines: Iterable[bytes]) -> Chunk:
    rows: list[dict[str, Any]] = []
    broken: Counter[str] = Counter()
    for line in lines:
        try:
            row = _value(line)
        except UnicodeDecodeError:
            broken[NOT_UTF8] += 1
        except (ValueError, RecursionError):
            broken[NOT_JSON] += 1
        else:
            if isinstance(row, dict):
                rows.append(row)
            else:
                broken[NO_OBJECT] += 1
    return Chunk(rows, broken=dict(broken))


def _value(line: bytes) -> Any:
    try:
        return _STRICT.decode(line)
    except (ValueError, RecursionError):
        return _JSON.decode(line.decode("utf-8"))


def _simple(stretch: bytes | str) -> pa.Table | None:
    """Lines of JSON as columns, at a fraction of the cost; None unless that says exactly what the rows would say.

    Arrow's reader takes several objects in a line and one over several lines, bytes that are not UTF-8, and a missing
    field for null. So lines must be one object each, of the same fields with text or numbers and no null.
    """
    if isinstance(stretch, str):
        return None
    text = (stretch.replace(b"\r\n", b"\n") if b"\r" in stretch else stretch).strip(b" \t\r\n")
    n_rows = text.count(b"\n") + 1
    # A record of texts and numbers holds no other `{`: as many records as lines that begin with one means one in each.
    if text[:1] != b"{" or text.count(b"\n{") + 1 != n_rows:
        return None
    try:
        if not text.isascii():
            text.decode("utf-8")
        first = _STRICT.decode(text.partition(b"\n")[0])
        columns = [(name, _COLUMNS[type(value)]) for name, value in first.items()]
        table = pj.read_json(
            pa.BufferReader(text),
            read_options=pj.ReadOptions(use_threads=False, block_size=len(text) + 1),
            parse_options=pj.ParseOptions(explicit_schema=pa.schema(columns), unexpected_field_behavior="error"),
        )
    except (pa.ArrowException, ValueError, KeyError, RecursionError):
        return None
    is_same = table.num_rows == n_rows and not any(column.null_count for column in table.columns)
    return table if is_same and all(map(_is_exact, table.columns)) else None


_COLUMNS = {str: pa.string(), int: pa.int64(), float: pa.float64()}


def _is_exact(column: pa.ChunkedArray) -> bool:
    """Whether numbers with a point are what Python would have read, which keeps whole numbers as they are."""
    if not pa.types.is_floating(column.type):
        return True
    values = column.to_numpy()
    return bool(np.all(np.abs(values) < 2**53) and not np.any((values == 0) & np.signbit(values)))


def _json_document(path: Path, blocks: Iterator[bytes | str]) -> Iterator[Chunk]:
    broken: Counter[str] = Counter()
    texts = _texts(blocks, broken)
    start = next((text for text in texts if text.strip()), "").lstrip()
    is_array = start[:1] == "["
    found = _elements(start[1:], texts, broken) if is_array else _of_object(path, chain([start], texts), broken)
    for batch in batches(found, lambda each: each[1]):
        rows = [row for row, _ in batch if isinstance(row, dict)]
        yield Chunk(rows, broken={NO_OBJECT: len(batch) - len(rows)} if len(rows) < len(batch) else {})
    yield Chunk([], broken=dict(broken))


def _texts(blocks: Iterator[bytes | str], broken: Counter[str]) -> Iterator[str]:
    """Text of a document. Bytes that are not UTF-8 stay visible, so that only the records that hold them are lost."""
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    for block in blocks:
        if isinstance(block, str):
            broken[block] += 1
        else:
            yield decoder.decode(block)
    yield decoder.decode(b"", final=True)


def _elements(text: str, more: Iterator[str], broken: Counter[str]) -> Iterator[tuple[Any, int]]:
    """The elements of an array, each with its length, up to the array's end or to where it is damaged."""
    at = 0
    while True:
        at = _BETWEEN.match(text, at).end()  # type: ignore[union-attr]  # matches anything, even nothing
        if text[at : at + 1] == "]":
            if text[at + 1 :].strip() or any(map(str.strip, more)):
                break
            return
        is_cut = False
        value, end = None, len(text)
        try:
            if at < end:
                value, end = _JSON.raw_decode(text, at)
        except json.JSONDecodeError as error:
            is_cut = error.pos > len(text) - _LONGEST_TOKEN or error.msg.startswith("Unterminated string")
            if not is_cut:
                break
        except (ValueError, RecursionError):
            break
        if end > len(text) - _LONGEST_TOKEN:  # a number may go on, anything may have been cut
            if end - at > _LONGEST_RECORD:
                broken[TOO_LONG] += 1
                break
            following = _at_least(end - at, more)
            if following:
                text, at = text[at:] + following, 0
                continue
            if is_cut or at == len(text):
                break
        yield value, end - at
        at = end
    if not broken:
        broken[BROKEN_ARRAY] += 1


def _at_least(n: int, texts: Iterator[str]) -> str:
    """So many characters or a few more; fewer at the end."""
    # As much again as was read in vain, so that even a long record is read only twice.
    parts: list[str] = []
    while n >= 0 and (part := next(texts, None)) is not None:
        parts.append(part)
        n -= len(part)
    return "".join(parts)


def _of_object(path: Path, texts: Iterator[str], broken: Counter[str]) -> Iterator[tuple[Any, int]]:
    """The records of a document that is no array, each with its length, which here counts for nothing."""
    text = _at_least(_LARGEST_OBJECT, texts)
    if len(text) > _LARGEST_OBJECT:
        raise DataError(
            f"{shown(path)} is a single JSON object of more than {_LARGEST_OBJECT >> 20} MiB, which would have to be "
            "in memory as a whole. Write its records as JSON Lines, one in a line: jq -c '.[][]' OLD > NEW.jsonl"
        )
    try:
        found = _rows_of(_JSON.decode(text))
    except (ValueError, RecursionError):
        start = _ARRAY.match(text)
        if start:
            yield from _elements(text[start.end() :], iter(()), broken)
        elif not broken:
            broken[BROKEN_ARRAY] += 1
    else:
        yield from ((row, 0) for row in found)


def _rows_of(value: Any) -> list[Any]:
    """The records of a JSON document: a list; lists by name; columns by name; records by id; or one record."""
    if isinstance(value, list):
        return value
    if not isinstance(value, dict):
        return [value]
    inner = list(value.values())
    is_table = [isinstance(each, list) and len(each) > 0 and all(isinstance(r, dict) for r in each) for each in inner]
    if inner and all(is_table) and not any(_is_message(each[0]) for each in inner):
        return [row for table in inner for row in table]
    for name, table in zip(value, is_table, strict=True):
        if table and name in _WRAPPERS:
            return list(value[name])
    is_column = [isinstance(each, list) and not any(map(_is_message, each)) for each in inner]
    if inner and all(is_column) and all(len(each) == len(inner[0]) > 1 for each in inner):
        return [dict(zip(value, cells, strict=True)) for cells in zip(*inner, strict=True)]
    if len(inner) > 1 and all(isinstance(each, dict) and each.keys() == inner[0].keys() for each in inner):
        return [{"id": key, **each} for key, each in value.items()]
    return [value]


def _is_message(value: Any) -> bool:
    """Whether an object in a list is only a part of a record: something that somebody said."""
    return isinstance(value, dict) and bool({"role", "from"} & value.keys())


# CSV -----------------------------------------------------------------------------------------------------------------


def _separated(blocks: Iterator[bytes | str]) -> Iterator[Chunk]:
    lines = _lines(blocks)
    first = next(lines, b"")
    if isinstance(first, str):
        yield Chunk([], broken={first: 1})
        first = next(lines, b"")
    header_line = first.decode("utf-8", "replace") if isinstance(first, bytes) else ""
    separator = max(",\t;|", key=header_line.count)
    header, has_header = _header(header_line, separator)
    if not has_header:
        lines = chain([first], lines)
    csv.field_size_limit(_LONGEST_RECORD)  # the module's own limit would drop long answers
    for batch in batches(_records(lines, separator), lambda record: sum(map(len, record))):
        broken: Counter[str] = Counter()
        good = []
        for cells in batch:
            if isinstance(cells, str):
                broken[cells] += 1
            elif len(cells) != len(header):
                broken[RAGGED] += 1
            else:
                good.append(cells)
        columns = zip(*good, strict=True) if good else [[] for _ in header]
        arrays = [pa.array([cell if cell else None for cell in column], pa.string()) for column in columns]
        yield Chunk(table=pa.Table.from_arrays(arrays, names=header), broken=dict(broken))


def _header(line: str, separator: str) -> tuple[list[str], bool]:
    """Names of the columns; four bare numbers are the first of `user, item, rating, time` without a header."""
    try:
        names = next(csv.reader([line], delimiter=separator), [])
    except csv.Error:
        names = line.split(separator)
    if len(names) == 4 and all(name.strip().replace(".", "", 1).lstrip("-").isdigit() for name in names):
        return ["user_id", "item_id", "rating", "timestamp"], False
    return distinct([name.strip() or f"column_{i + 1}" for i, name in enumerate(names)]), True


def _records(lines: Iterator[bytes | str], separator: str) -> Iterator[list[str] | str]:
    """Cells of each record, or the reason why it cannot be read; a quoted cell may go over several lines."""
    waiting: list[str] = []
    n_quotes = n_waiting = 0
    for line in lines:
        try:
            text = line.decode("utf-8") + "\n" if isinstance(line, bytes) else None
        except UnicodeDecodeError:
            text, line = None, NOT_UTF8
        if text is not None and not waiting and '"' not in text:
            yield text.rstrip("\r\n").split(separator)
            continue
        if text is not None:
            waiting.append(text)
            n_quotes += text.count('"')
            n_waiting += len(text)
            if n_quotes % 2 and len(waiting) <= _LONGEST_QUOTE and n_waiting <= _LONGEST_RECORD:
                continue
        yield from _unclosed(waiting, separator) if n_quotes % 2 else _cells(waiting, separator)
        waiting, n_quotes, n_waiting = [], 0, 0
        if text is None:
            yield str(line)
    yield from _unclosed(waiting, separator)


def _cells(lines: list[str], separator: str) -> Iterator[list[str] | str]:
    reader = csv.reader(lines, delimiter=separator)
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error:
            yield OPEN_QUOTE
            continue
        if cells:
            yield cells


def _unclosed(lines: list[str], separator: str) -> Iterator[list[str] | str]:
    """Lines that a quote opened but never closed, each on its own: only the one with the quote is lost."""
    for line in lines:
        if line.count('"') % 2:
            yield OPEN_QUOTE
        else:
            yield from _cells([line], separator)
