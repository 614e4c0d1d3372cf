"""Rows out of files: JSON, JSON lines, CSV, Parquet, folders of saved data sets, and rollouts as numpy archives.

What a file is, its first bytes decide, not its name. A record that cannot be read is counted with a reason and never
stops the others; blank lines are no records. Files are read in chunks, so size is not bounded by memory.
"""

import csv
import io
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from penchant.errors import DataError

CHUNK_ROWS = 10_000
_BLOCK_BYTES = 1 << 20
_LONGEST_LINE = 1 << 26
_LONGEST_QUOTE = 1_000  # lines; a quoted cell that goes on for longer was never closed
_ARROW_ERRORS = (pa.ArrowException, OSError, ValueError, MemoryError, KeyError, IndexError, TypeError)

CUT = "the compressed data is damaged or cut short"
NOT_UTF8 = "the line is not UTF-8"
NOT_JSON = "the line is not JSON"
NO_OBJECT = "the record is not a JSON object"
BROKEN_ARRAY = "the JSON breaks off or is damaged from here on"
OPEN_QUOTE = "a quote is never closed"
RAGGED = "the row has more or fewer cells than the header"
TOO_LONG = "the line is longer than 64 MiB"
DAMAGED_BLOCK = "a block of the file is damaged"
NO_TRAJECTORY = "the trajectory is incomplete"
_WRAPPERS = ("data", "rows", "examples", "instances", "results", "train")
_ARRAY = re.compile(r'\s*\[|\s*\{[^\[\]{}]*"(' + "|".join(_WRAPPERS) + r')"\s*:\s*\[')


@dataclass(frozen=True)
class Chunk:
    """Some records of a file, in order.

    Attributes:
        rows: those that could be read, or None if they are in `table`.
        table: the same as columns, where the file has columns.
        broken: reason -> how many records could not be read.
    """

    rows: list[dict[str, Any]] | None = None
    table: pa.Table | None = None
    broken: dict[str, int] = field(default_factory=dict)

    def listed(self) -> list[dict[str, Any]]:
        """The rows as dictionaries."""
        if self.rows is not None:
            return self.rows
        return self.table.to_pylist() if self.table is not None else []

    def __len__(self) -> int:
        """How many records could be read."""
        return len(self.rows) if self.rows is not None else self.table.num_rows if self.table is not None else 0


def chunks(path: Path) -> Iterator[Chunk]:
    """All records of a file or folder.

    Args:
        path: a file of any of the forms above, gzip or not; or a folder with a saved data set or Parquet files.

    Raises:
        DataError: there is no such file, it cannot be read at all, or its form is not known.
    """
    try:
        if path.is_dir():
            yield from _folder(path)
            return
        with path.open("rb") as file:
            yield from _file(path, file)
    except OSError as error:
        raise DataError(f"{shown(path)} cannot be read: {error.strerror or 'not a readable file'}.") from error
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{shown(path)} cannot be read: {error}.") from error  # a NUL in the name


def shown(path: Path) -> str:
    """A file's name, printable whatever bytes it is made of."""
    return path.name.encode("utf-8", "backslashreplace").decode()


def _file(path: Path, file: BinaryIO) -> Iterator[Chunk]:
    start = file.read(8)
    file.seek(0)
    if start[:4] == b"PAR1":
        yield from _parquet(path)
    elif start[:6] == b"ARROW1":
        yield from _arrow(path, pa.ipc.open_file)
    elif start[:4] == b"\xff\xff\xff\xff":
        yield from _arrow(path, pa.ipc.open_stream)
    elif start[:4] == b"PK\x03\x04":
        yield from _archive(path, file)
    elif start[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError(f"{shown(path)} is UTF-16 text; save it as UTF-8 and import it again.")
    else:
        yield from _text(path, file, _inflated(file) if start[:2] == b"\x1f\x8b" else _blocks(file))


# Text ----------------------------------------------------------------------------------------------------------------


def _blocks(file: BinaryIO) -> Iterator[bytes | str]:
    while block := file.read(_BLOCK_BYTES):
        yield block


def _inflated(file: BinaryIO) -> Iterator[bytes | str]:
    """Blocks of a gzip file with any number of members; a string says why there are no more."""
    machine = zlib.decompressobj(wbits=31)
    rest = b""
    while True:
        rest = rest or file.read(_BLOCK_BYTES)
        if not rest:
            break
        if machine.eof:
            if not rest.strip(b"\0"):  # padding after the last member
                rest = b""
                continue
            machine = zlib.decompressobj(wbits=31)
        try:
            block = machine.decompress(rest, _BLOCK_BYTES)
        except zlib.error:
            yield CUT
            return
        rest = machine.unconsumed_tail or machine.unused_data
        if block:
            yield block
    if not machine.eof:
        yield CUT


def _lines(blocks: Iterable[bytes | str]) -> Iterator[bytes | str]:
    """Lines that are not blank; a string is the reason why one could not be read."""
    rest = b""
    is_skipping = False
    for block in blocks:
        if isinstance(block, str):
            yield block  # whatever began before the damage is part of the record that is lost
            return
        *whole, rest = (rest + block).split(b"\n")
        if whole and is_skipping:
            whole, is_skipping = whole[1:], False
        for line in whole:
            if line.strip():
                yield line
        if is_skipping:
            rest = b""
        elif len(rest) > _LONGEST_LINE:
            rest, is_skipping = b"", True
            yield TOO_LONG
    if rest.strip() and not is_skipping:
        yield rest


def _text(path: Path, file: BinaryIO, blocks: Iterator[bytes | str]) -> Iterator[Chunk]:
    lines = _lines(blocks)
    head: list[bytes | str] = list(islice(lines, 2))
    if not head:
        return
    if isinstance(head[0], bytes):
        head[0] = head[0].removeprefix(b"\xef\xbb\xbf")
    all_lines = chain(head, lines)
    starts = [line.lstrip()[:1] if isinstance(line, bytes) else b"" for line in head]
    suffixes = {suffix.lower() for suffix in path.suffixes[-2:]}
    is_lines = starts == [b"{", b"{"] or (starts[0] == b"{" and len(head) > 1 and _is_json(head[0]))
    if suffixes & {".jsonl", ".ndjson"} or is_lines:
        yield from _json_lines(all_lines)
    elif starts[0] in (b"[", b"{") or ".json" in suffixes:
        yield from _json_document(all_lines)
    else:
        yield from _separated(all_lines)


def _is_json(line: bytes | str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _constant(name: str) -> float | None:
    # NaN and Infinity are not JSON; NaN is what table programs write for a missing value.
    return None if name == "NaN" else float(name)


_JSON = json.JSONDecoder(parse_constant=_constant)


def _json_lines(lines: Iterator[bytes | str]) -> Iterator[Chunk]:
    while batch := list(islice(lines, CHUNK_ROWS)):
        rows: list[dict[str, Any]] = []
        broken: Counter[str] = Counter()
        for line in batch:
            if isinstance(line, str):
                broken[line] += 1
                continue
            try:
                row = _JSON.decode(line.decode("utf-8"))
            except UnicodeDecodeError:
                broken[NOT_UTF8] += 1
            except (ValueError, RecursionError):
                broken[NOT_JSON] += 1
            else:
                if isinstance(row, dict):
                    rows.append(row)
                else:
                    broken[NO_OBJECT] += 1
        yield Chunk(rows, broken=dict(broken))


def _json_document(lines: Iterator[bytes | str]) -> Iterator[Chunk]:
    parts, broken = [], Counter[str]()
    for line in lines:
        if isinstance(line, str):
            broken[line] += 1
        else:
            parts.append(line)
    # Bytes that are not UTF-8 stay visible as surrogates, so that only the records that hold them are dropped.
    text = b"\n".join(parts).decode("utf-8", "surrogateescape")
    try:
        found = _rows_of(_JSON.decode(text))
    except (ValueError, RecursionError):
        found, is_whole = _salvaged(text)
        if not is_whole and not broken:
            broken[BROKEN_ARRAY] += 1
    rows = [row for row in found if isinstance(row, dict)]
    if len(rows) < len(found):
        broken[NO_OBJECT] += len(found) - len(rows)
    yield Chunk([], broken=dict(broken))
    for start in range(0, len(rows), CHUNK_ROWS):
        yield Chunk(rows[start : start + CHUNK_ROWS])


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


def _salvaged(text: str) -> tuple[list[Any], bool]:
    """The elements of a damaged array up to the damage, and whether the array came to its end after all."""
    found: list[Any] = []
    start = _ARRAY.match(text)
    at = start.end() if start else 0
    while at:
        while at < len(text) and text[at] in " \t\r\n,":
            at += 1
        if text[at : at + 1] == "]":
            return found, not text[at + 1 :].strip()
        try:
            value, at = _JSON.raw_decode(text, at)
        except (ValueError, RecursionError):
            break
        found.append(value)
    return found, False


# CSV -----------------------------------------------------------------------------------------------------------------


def _separated(lines: Iterator[bytes | str]) -> Iterator[Chunk]:
    first = next(lines)
    if isinstance(first, str):
        yield Chunk([], broken={first: 1})
        first = next(lines, b"")
    header_line = first.decode("utf-8", "replace") if isinstance(first, bytes) else ""
    separator = max(",\t;|", key=header_line.count)
    header, has_header = _header(header_line, separator)
    if not has_header:
        lines = chain([first], lines)
    csv.field_size_limit(_LONGEST_LINE)  # the module's own limit would drop long answers
    reader = _records(lines, separator)
    while batch := list(islice(reader, CHUNK_ROWS)):
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
    names = [name.strip() or f"column_{i + 1}" for i, name in enumerate(names)]
    seen: Counter[str] = Counter()
    for i, name in enumerate(names):
        seen[name] += 1
        if seen[name] > 1:
            names[i] = f"{name}_{seen[name]}"
    return names, True


def _records(lines: Iterator[bytes | str], separator: str) -> Iterator[list[str] | str]:
    """Cells of each record, or the reason why it cannot be read; a quoted cell may go over several lines."""
    waiting: list[str] = []
    n_quotes = 0
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
            if n_quotes % 2 and len(waiting) <= _LONGEST_QUOTE:
                continue
        yield from _unclosed(waiting, separator) if n_quotes % 2 else _cells(waiting, separator)
        waiting, n_quotes = [], 0
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


# Columns -------------------------------------------------------------------------------------------------------------


def _parquet(path: Path) -> Iterator[Chunk]:
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
        n_groups = file.num_row_groups
    except _ARROW_ERRORS as error:
        raise DataError(
            f"{shown(path)} looks like Parquet, but its directory at the end is damaged, so that not even its number "
            "of rows is known. Copy the file again from where it came."
        ) from error
    for group in range(n_groups):
        n_rows = file.metadata.row_group(group).num_rows
        n_read = 0
        try:
            for batch in file.iter_batches(batch_size=CHUNK_ROWS, row_groups=[group]):
                table = pa.Table.from_batches([batch])
                table.validate(full=True)
                n_read += table.num_rows
                yield Chunk(table=table)
        except _ARROW_ERRORS:
            if n_rows > n_read:
                yield Chunk([], broken={DAMAGED_BLOCK: n_rows - n_read})


def _arrow(path: Path, opened: Any) -> Iterator[Chunk]:
    try:
        reader = opened(pa.memory_map(str(path)))
    except _ARROW_ERRORS as error:
        raise DataError(f"{shown(path)} looks like an Arrow file, but its schema cannot be read.") from error
    n_batches = getattr(reader, "num_record_batches", None)
    index = 0
    while n_batches is None or index < n_batches:
        try:
            batch = reader.read_next_batch() if n_batches is None else reader.get_batch(index)
            batch.validate(full=True)
        except StopIteration:
            return
        except _ARROW_ERRORS:
            # How many rows the rest held is not known; one stands for all of them.
            yield Chunk([], broken={DAMAGED_BLOCK: 1})
            return
        index += 1
        for start in range(0, batch.num_rows, CHUNK_ROWS):
            yield Chunk(table=pa.Table.from_batches([batch.slice(start, CHUNK_ROWS)]))


def _folder(path: Path) -> Iterator[Chunk]:
    """A data set saved by the `datasets` library, split or not, or a folder of Parquet files."""
    for pattern, read in (("*.arrow", None), ("*/*.arrow", None), ("*.parquet", _parquet), ("*/*.parquet", _parquet)):
        found = sorted(each for each in path.glob(pattern) if not each.name.startswith("cache-"))
        for each in found:
            if read is None:
                with each.open("rb") as file:
                    yield from _file(each, file)
            else:
                yield from read(each)
        if found:
            return
    names = ", ".join(sorted(shown(each) for each in path.iterdir())[:10]) or "nothing"
    raise DataError(
        f"{shown(path)} is a folder without a saved data set (`*.arrow`) or Parquet files; it holds {names}. "
        "Name the file to import."
    )


def _archive(path: Path, file: BinaryIO) -> Iterator[Chunk]:
    """Rollouts in one numpy archive: `obs`, `acts`, `rews` of all trajectories, cut at `indices`."""
    try:
        with np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except Exception as error:  # zipfile and numpy raise whatever a damaged archive makes them stumble over
        raise DataError(f"{shown(path)} is a zip archive, but not one of numpy arrays; unpack it first.") from error
    if not {"obs", "acts", "indices"} <= set(arrays) or arrays["indices"].ndim != 1 or arrays["obs"].ndim < 1:
        raise DataError(
            f"{shown(path)} holds the arrays {', '.join(sorted(arrays))}; rollouts need `obs`, `acts` and `indices`."
        )
    try:
        yield from _rollouts(arrays)
    except (IndexError, TypeError, OverflowError) as error:
        raise DataError(f"{shown(path)} holds `obs`, `acts` and `indices` that do not fit together.") from error


def _rollouts(arrays: dict[str, np.ndarray[Any, Any]]) -> Iterator[Chunk]:
    n_steps = len(arrays["acts"]) if arrays["acts"].ndim else 0
    cuts = [0, *(int(cut) for cut in arrays["indices"]), n_steps]
    rows, n_broken = [], 0
    for number, (start, stop) in enumerate(pairwise(cuts)):
        seen = arrays["obs"][start + number : stop + number + 1]  # one more than the actions of each trajectory
        if not 0 <= start < stop <= n_steps or len(seen) != stop - start + 1:
            n_broken += 1
            continue
        row = {"observations": seen.tolist(), "actions": arrays["acts"][start:stop].tolist()}
        if "rews" in arrays:
            row["rewards"] = arrays["rews"][start:stop].tolist()
        if "terminal" in arrays and number < len(arrays["terminal"]):
            row["terminal"] = bool(arrays["terminal"][number])
        rows.append(row)
    yield Chunk(rows, broken={NO_TRAJECTORY: n_broken} if n_broken else {})


def text_rows(text: str) -> list[dict[str, Any]]:
    """The readable rows of JSON lines or CSV in memory, for examples and tests."""
    file = io.BytesIO(text.encode())
    return [row for chunk in _text(Path("text"), file, _blocks(file)) for row in chunk.listed()]
