"""Records as penchant itself writes them: the columns of one kind, with `source` or `extra` among them."""

from typing import Any

import pyarrow as pa

from penchant.feedback.formats.layout import Fields, Format, Given, Look, Made, RowError, moment
from penchant.records import KINDS, Records


def _kind(names: frozenset[str] | set[str]) -> type[Records] | None:
    """The kind whose columns these are."""
    if not {"source", "extra"} <= names:
        return None
    for kind in KINDS.values():
        required = {field.name for field in kind.schema if not field.nullable} - set(kind.defaults)
        if required <= names <= set(kind.schema.names):
            return kind
    return None


def _value(value: Any, kind: pa.DataType) -> Any:
    if value is None or not pa.types.is_timestamp(kind):
        return value
    time = moment(value)
    if time is None:
        raise RowError("`time` is not a time")
    return time


def _convert(fields: Fields, given: Given) -> list[Made]:
    kind = _kind(set(fields.row))
    if kind is None:
        raise RowError("its fields are not the columns of one kind of record")
    return [(kind.kind, {name: _value(fields.get(name), kind.schema.field(name).type) for name in fields.row})]


def _recognise(look: Look) -> str | None:
    kind = _kind(look.fields)
    return f"its fields are the columns of a penchant {kind.kind}" if kind else None


NATIVE = Format("records", "records as penchant writes them", ("source", "extra"), _recognise, _convert)
