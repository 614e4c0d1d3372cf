r"""Records to files, without loss: Parquet for speed, JSON Lines for people and trainers; `import` reads both.

In JSON Lines, payloads of `form` "messages" are written as real lists of messages, so that what we write trains
elsewhere.

>>> import tempfile
>>> from penchant.records import Comparisons
>>> votes = Comparisons.from_rows([{"prompt": "2 + 2?", "chosen": "4", "rejected": "5", "user": "ann"}])
>>> file = Path(tempfile.mkdtemp()) / "votes.jsonl"
>>> with writing(file) as write:
...     write(votes)
>>> file.read_text()
'{"kind":"comparison","prompt":"2 + 2?","chosen":"4","rejected":"5","strength":1.0,"user":"ann"}\n'
"""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from penchant.errors import DataError, SettingsError
from penchant.records import PAYLOADS, Records, canonical_json
from penchant.whole import whole_file

FORMS = (".jsonl", ".parquet")
_BATCH = 10_000  # rows held as Python objects at once


def write_json(path: Path, value: Any) -> None:
    """Write one value as JSON."""
    with whole_file(path) as partial:
        partial.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def with_kind(records: Records) -> pa.Table:
    """Records as a table that says in its metadata what they are."""
    return records.table.replace_schema_metadata({"penchant.kind": records.kind})


def kind_of(schema: pa.Schema) -> str | None:
    """The kind of record that a table says it holds."""
    kind = (schema.metadata or {}).get(b"penchant.kind")
    return kind.decode() if kind else None


def files_of(path: Path, kinds: Iterable[str]) -> dict[str, Path]:
    """The file for records of each kind, where `path` is what somebody asked for; see `writing`.

    Raises:
        SettingsError: the name has another ending than .jsonl or .parquet.
        DataError: several kinds for one Parquet file.
    """
    if path.suffix not in FORMS:
        raise SettingsError(f"{path.name!r} must end in .jsonl or .parquet, which says how records are written.")
    files = {kind: path.with_name(path.name.replace("{kind}", kind)) for kind in kinds}
    if path.suffix == ".parquet" and len(set(files.values())) < len(files):
        raise DataError(
            f"{path.name} would hold {' and '.join(files)} records, which have different columns. Write JSON Lines "
            f"(.jsonl), or a file for each: '{path.stem}-{{kind}}.parquet'."
        )
    return files


@contextmanager
def writing(path: Path) -> Iterator[Callable[[Records], None]]:
    """A function that writes records, called as often as there are parts; the file appears when all is written.

    Args:
        path: ends in .jsonl, where each line names its kind, or in .parquet, which holds records of one kind. A
            `{kind}` in its name gives each kind a file of its own. Without records there is no file.

    Raises:
        SettingsError, DataError: as for `files_of`.
        StorageError: the disk is full or cannot be written to; what was there before still is.
    """
    kinds: dict[str, Path] = files_of(path, [])
    writers: dict[Path, Callable[[pa.Table], Any]] = {}
    with ExitStack() as open_files:

        def write(records: Records) -> None:
            table = with_kind(records)
            if records.kind not in kinds:
                kinds.update(files_of(path, [*kinds, records.kind]))
            file = kinds[records.kind]
            if file not in writers:
                writers[file] = open_files.enter_context(_opened(file, table.schema))
            writers[file](table)

        yield write


def write_tables(tables: Iterable[pa.Table], schema: pa.Schema, path: Path) -> None:
    """Write tables of any columns as one file, one after the other, so that never more than one is in memory.

    Args:
        tables: all of this schema.
        schema: what `with_kind` says of it is kept.
        path: a name that ends in .jsonl becomes JSON Lines, any other Parquet.

    Raises:
        DataError: JSON cannot hold a value.
    """
    with _opened(path, schema) as write_table:
        for table in tables:
            write_table(table)


@contextmanager
def _opened(path: Path, schema: pa.Schema) -> Iterator[Callable[[pa.Table], Any]]:
    with whole_file(path) as partial:
        if path.suffix == ".jsonl":
            with partial.open("wb") as lines:
                yield lambda table: lines.writelines(_lines(table))
        else:
            with pq.ParquetWriter(partial, schema, compression="zstd") as columns:
                yield columns.write_table


# JSON lines ----------------------------------------------------------------------------------------------------------

_encode = msgspec.json.Encoder().encode
_encode_sorted = msgspec.json.Encoder(order="sorted").encode


def _refuse(number: str) -> float:
    raise ValueError(f"{number} may be written in several ways")


_decode_without_floats = msgspec.json.Decoder(float_hook=_refuse).decode


def _lines(table: pa.Table) -> Iterator[bytes]:
    """One JSON object a row, with its kind if the table has one; absent values are left out."""
    kind = kind_of(table.schema)
    named = {} if kind is None else {"kind": kind}
    for name in table.column_names:
        if not _has_json(table[name]):
            raise DataError(
                f"`{name}` ({table.schema.field(name).type}) cannot be written as JSON, which has no infinite numbers, "
                "NaN or bytes; write Parquet instead."
            )
    for batch in table.to_batches(max_chunksize=_BATCH):
        there = batch.select([name for name in batch.schema.names if batch[name].null_count < len(batch)])
        is_full = not any(column.null_count for column in there.columns)
        for row in there.to_pylist():
            present = row if is_full else {name: value for name, value in row.items() if value is not None}
            if row.get("form") == "messages" or kind == "conversation":
                present |= _as_messages(present)
            yield _encode(named | present) + b"\n"


def _has_json(column: pa.ChunkedArray) -> bool:
    """Whether JSON has a form for every value of a column from which it can be read back."""
    kind = column.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _has_json(pc.list_flatten(column))
    if pa.types.is_struct(kind):
        return all(_has_json(pc.struct_field(column, [i])) for i in range(kind.num_fields))
    if pa.types.is_floating(kind):
        return pc.all(pc.is_finite(column)).as_py() is not False
    unlike = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_decimal, pa.types.is_duration)
    return not any(test(kind) for test in unlike)


def _as_messages(row: dict[str, Any]) -> dict[str, Any]:
    payloads = {name: row[name] for name in (*PAYLOADS, "messages") if name in row}
    return {
        name: [_message_list(one) for one in value] if isinstance(value, list) else _message_list(value)
        for name, value in payloads.items()
    }


def _message_list(text: str) -> Any:
    """The messages of a canonical payload; one that is not canonical stays text, and so reads back."""
    if text[:1] != "[":
        return text
    try:
        if _encode_sorted(_decode_without_floats(text)).decode() == text:
            return msgspec.Raw(text.encode())  # as it stands: what wrote it again was ten times slower
    except (ValueError, RecursionError):
        pass
    try:
        value = json.loads(text)
        return value if canonical_json(value) == text else text
    except (ValueError, RecursionError):  # no JSON, or JSON that has no canonical form, such as NaN
        return text
