"""What the column forms of formats share: ids as text, numbers out of text, tables out of uniform rows.

They say of a whole column what `layout.as_word` and `layout.as_number` say of one value; where a column is not simple
enough for that, they say so, and its rows are converted one by one.

>>> words(pa.chunked_array([[7.0, 8.0]])).to_pylist()
['7', '8']
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from penchant.feedback.formats.layout import NO_FINITE_NUMBER, NUMBER, Row

Mask = np.ndarray[Any, np.dtype[np.bool_]]
_WHOLE = float(1 << 53)  # beyond, not every whole number is a float, and a float is no id
_SIMPLE: tuple[frozenset[type], ...] = (frozenset({str}), frozenset({int}), frozenset({int, float}))


def is_text(kind: pa.DataType) -> bool:
    """Whether a column holds text."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def is_simple(kind: pa.DataType) -> bool:
    """Whether a column holds text, numbers or times."""
    return is_text(kind) or any(
        test(kind) for test in (pa.types.is_integer, pa.types.is_floating, pa.types.is_timestamp)
    )


def mask(values: Any) -> Mask:
    """Arrow booleans as numpy; null is False."""
    filled = pc.fill_null(values, False)
    return np.asarray(filled.to_numpy(zero_copy_only=False) if isinstance(filled, pa.Array) else filled.to_numpy())


def words(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Ids as text, whole numbers without a point, null where there is no id; None if the column has no simple form."""
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), None, column)
        known = pc.and_(pc.less(pc.abs(column), _WHOLE), pc.equal(column, pc.round(column)))
        if mask(pc.invert(known)).any():
            return None
        column = column.cast(pa.int64())
    if not (is_text(column.type) or pa.types.is_integer(column.type)):
        return None
    text = column.cast(pa.string())
    return pc.if_else(pc.equal(text, ""), None, text)


def numbers(column: pa.ChunkedArray) -> tuple[pa.ChunkedArray, Mask]:
    """Numbers, and where there is something that is none; an empty text is a missing number."""
    if not is_text(column.type):
        return column.cast(pa.float64()), np.zeros(len(column), dtype=bool)
    column = pc.if_else(pc.equal(column, ""), None, column)
    readable = pc.or_(pc.match_substring_regex(column, NUMBER), pc.match_substring_regex(column, NO_FINITE_NUMBER))
    kept = pc.if_else(readable, pc.utf8_trim_whitespace(column), None)
    return kept.cast(pa.float64()), mask(pc.and_(pc.invert(readable), pc.is_valid(column)))


def uniform(rows: Sequence[Row]) -> pa.Table | None:
    """A table of rows that all have the same fields, each of one simple type; None of any others."""
    names = rows[0].keys() if rows else {}
    if not names or any(row.keys() != names for row in rows):
        return None
    arrays = []
    for name in names:
        values = [row[name] for row in rows]
        kinds = frozenset(map(type, values)) - {type(None)}
        if not any(kinds <= simple for simple in _SIMPLE):
            return None
        try:
            arrays.append(pa.array(values))
        except (pa.ArrowException, UnicodeEncodeError, OverflowError):
            return None
    try:
        return pa.Table.from_arrays(arrays, names=list(names))
    except UnicodeEncodeError:
        return None
