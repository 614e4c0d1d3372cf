"""Records to files and back, without loss: Parquet for speed, JSON Lines for people and other trainers.

In JSON Lines, payloads of `form` "messages" are written as real lists of messages, so that what we write trains
elsewhere.
"""

import json
from collections.abc import Iterable
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from penchant.errors import DataError
from penchant.records import KINDS, Records, canonical_json
from penchant.whole import whole_file

_PAYLOADS = {"prompt", "chosen", "rejected", "response", "responses", "messages"}


def write_json(path: Path, value: Any) -> None:
    """Write one value as JSON."""
    with whole_file(path) as partial:
        partial.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def write_parquet(records: Records, path: Path) -> None:
    """Write records as Parquet; the kind is kept in the file's metadata."""
    table = with_kind(records)
    _write_columns([table], table.schema, path)


def with_kind(records: Records) -> pa.Table:
    """Records as a table that says in its metadata what they are."""
    return records.table.replace_schema_metadata({"penchant.kind": records.kind})


def kind_of(schema: pa.Schema) -> str | None:
    """The kind of record that a table says it holds."""
    kind = (schema.metadata or {}).get(b"penchant.kind")
    return kind.decode() if kind else None


def write_tables(tables: Iterable[pa.Table], schema: pa.Schema, path: Path) -> None:
    """Write tables of any columns as one file, one after the other, so that never more than one is in memory.

    Args:
        tables: all of this schema.
        schema: what `with_kind` says of it is kept.
        path: a name that ends in .jsonl becomes JSON Lines, any other Parquet.

    Raises:
        DataError: JSON cannot hold a value.
    """
    if path.suffix == ".jsonl":
        _write_lines(tables, kind_of(schema), path)
    else:
        _write_columns(tables, schema, path)


def _write_columns(tables: Iterable[pa.Table], schema: pa.Schema, path: Path) -> None:
    with whole_file(path) as partial, pq.ParquetWriter(partial, schema, compression="zstd") as out:
        for table in tables:
            out.write_table(table)


def read_parquet(path: Path) -> Records:
    """Records from a file that `write_parquet` wrote.

    Raises:
        DataError: the file cannot be read, or does not say what kind of records it holds.
    """
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path.name} cannot be read as Parquet: {error}.") from error
    return _kind(kind_of(table.schema), path)(table.replace_schema_metadata(None))


def _kind(kind: str | None, path: Path) -> type[Records]:
    if kind is None or kind not in KINDS:
        raise DataError(
            f"{path.name} does not say which kind of records it holds (found {kind!r}); read it with `penchant import`."
        )
    return KINDS[kind]


def write_jsonl(records: Records, path: Path) -> None:
    """Write one JSON object a record, with its kind; absent values are left out."""
    _write_lines([records.table], records.kind, path)


def _write_lines(tables: Iterable[pa.Table], kind: str | None, path: Path) -> None:
    with whole_file(path) as partial, partial.open("w", encoding="utf-8", newline="\n") as out:
        for table in tables:
            for batch in table.to_batches(max_chunksize=10_000):
                out.writelines(_line(_outward(row, kind)) for row in batch.to_pylist())


def _line(row: dict[str, Any]) -> str:
    try:
        return json.dumps(row, ensure_ascii=False, allow_nan=False, default=_dated) + "\n"
    except (TypeError, ValueError) as error:
        raise DataError(f"A row cannot be written as JSON ({error}); write Parquet instead: {str(row)[:80]}") from error


def _dated(value: Any) -> str:
    if not isinstance(value, date | time):
        raise TypeError(f"it holds a {type(value).__name__}")
    return value.isoformat()


def _outward(row: dict[str, Any], kind: str | None) -> dict[str, Any]:
    row = ({} if kind is None else {"kind": kind}) | {name: value for name, value in row.items() if value is not None}
    if isinstance(row.get("time"), datetime):
        row["time"] = row["time"].isoformat(timespec="microseconds")
    if row.get("form") == "messages" or kind == "conversation":
        for name in _PAYLOADS & row.keys():
            value = row[name]
            row[name] = [_decoded(one) for one in value] if name == "responses" else _decoded(value)
    return row


def _decoded(text: str) -> Any:
    """The messages behind a canonical payload; a payload that is not canonical stays text, and so reads back."""
    try:
        value = json.loads(text)
        return value if isinstance(value, list) and canonical_json(value) == text else text
    except (ValueError, RecursionError):  # no JSON, or JSON that has no canonical form, such as NaN
        return text


def read_jsonl(path: Path) -> Records:
    """Records from a file that `write_jsonl` wrote.

    Raises:
        DataError: a line is not JSON or of another kind; with its number.
    """
    rows: list[dict[str, Any]] = []
    kinds: set[str] = set()
    try:
        with path.open(encoding="utf-8", newline="\n") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    row = json.loads(line)
                    kinds.add(row.pop("kind"))
                except (ValueError, KeyError, TypeError, AttributeError) as error:
                    raise DataError(
                        f"{path.name}, line {number}: not a record that penchant wrote ({error!r}); read foreign files "
                        "with `penchant import`."
                    ) from error
                rows.append(_inward(row))
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name} is not UTF-8: {error}.") from error
    if len(kinds) != 1:
        raise DataError(f"{path.name} holds records of {len(kinds)} kinds ({sorted(kinds)}); one file holds one kind.")
    return _kind(kinds.pop(), path).from_rows(rows)


def _inward(row: dict[str, Any]) -> dict[str, Any]:
    if "time" in row:
        row["time"] = datetime.fromisoformat(row["time"]).astimezone(UTC)
    for name in _PAYLOADS & row.keys():
        value = row[name]
        if name == "responses":
            row[name] = [one if isinstance(one, str) else canonical_json(one) for one in value]
        elif not isinstance(value, str):
            row[name] = canonical_json(value)
    return row
