"""Records as penchant itself writes them, into JSON Lines or Parquet: what was exported comes back as it was.

A row says its kind in `kind`, or has all the columns of one kind, with `source` and `extra` among them.

>>> row = {"kind": "rating", "prompt": "Tea?", "response": "Yes", "score": 4.5}
>>> kind, columns = _convert(Fields(row), Given())[0]
>>> kind, columns["score"], columns["source"]
('rating', 4.5, None)
"""

from collections.abc import Collection
from typing import Any

import pyarrow as pa

from penchant.feedback.formats.layout import Column, Fields, Format, Given, Look, Made, RowError, json_text, moment
from penchant.records import KINDS, PAYLOADS, Records


def _kind(names: Collection[str], named: Any = None) -> type[Records] | None:
    """The kind that is named, if these can be its columns; else the kind of which these must be the columns."""
    if named is None and not {"source", "extra"} <= set(names):
        return None
    for kind in KINDS.values():
        required = {field.name for field in kind.schema if not field.nullable} - set(kind.defaults)
        if named in (None, kind.kind) and required <= set(names) - {"kind"} <= set(kind.schema.names):
            return kind
    return None


def _convert(fields: Fields, given: Given) -> list[Made]:
    kind = _kind(fields.row.keys(), fields.get("kind"))
    if kind is None:
        raise RowError("its fields are not the columns of one kind of record")
    # A record without a source stays so: named after this file, it would be another record.
    return [(kind.kind, {column.name: _value(fields, column) for column in kind.schema})]


def _value(fields: Fields, column: pa.Field) -> Any:
    value = fields.get(column.name)
    if value is None:
        return None
    if pa.types.is_timestamp(column.type):
        time = moment(value)
        if time is None:
            raise RowError(f"`{column.name}` is not a time")
        return time
    if column.name == "responses" and isinstance(value, (list, tuple)):
        return [each if isinstance(each, str) else json_text(each) for each in value]
    if column.name in (*PAYLOADS, "messages") and not isinstance(value, str):
        return json_text(value)  # messages are written as lists
    return value


def _columns(table: pa.Table, given: Given) -> Column | None:
    kind = _kind(table.column_names)
    types = {} if kind is None else {field.name: field.type for field in kind.schema}
    if kind is None or any(types.get(field.name) != field.type for field in table.schema):
        return None
    return Column(kind.kind, table)


def _recognise(look: Look) -> str | None:
    kinds = [kind.kind for row in look.rows if (kind := _kind(row.keys(), row.get("kind"))) is not None]
    if 2 * len(kinds) <= len(look.rows):
        return None
    return f"its fields are the columns of a penchant {' and a '.join(sorted(set(kinds)))}"


NATIVE = Format(
    "records", "records as penchant writes them", ("source", "extra"), _recognise, _convert, columns=_columns
)
