"""Some records of a file, and how many of them are read at a time."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

CHUNK_ROWS = 5_000
CHUNK_BYTES = 1 << 23
BLOCK_BYTES = 1 << 20  # read from a file at once

Some = TypeVar("Some")


@dataclass(frozen=True)
class Chunk:
    """Some records of a file, in order.

    Attributes:
        rows: those that could be read, or None if they are in `table`.
        table: the same as columns, where the file has columns or its rows are simple enough to be some.
        broken: reason -> how many records could not be read.
        at: bytes of the file that have been read so far.
    """

    rows: list[dict[str, Any]] | None = None
    table: pa.Table | None = None
    broken: dict[str, int] = field(default_factory=dict)
    at: int = 0

    def listed(self) -> list[dict[str, Any]]:
        """The rows as dictionaries."""
        if self.rows is not None:
            return self.rows
        return self.table.to_pylist() if self.table is not None else []

    def __len__(self) -> int:
        """How many records could be read."""
        return len(self.rows) if self.rows is not None else self.table.num_rows if self.table is not None else 0


def shown(path: Path) -> str:
    """A file's name, printable whatever bytes it is made of: no line break, no escape for a terminal."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape", "surrogatepass").decode()
        for letter in path.name
    )


def batches(records: Iterable[Some], size: Callable[[Some], int]) -> Iterator[list[Some]]:
    """Lists of as many records as make a chunk."""
    batch: list[Some] = []
    n_bytes = 0
    for record in records:
        batch.append(record)
        n_bytes += size(record)
        if len(batch) >= CHUNK_ROWS or n_bytes >= CHUNK_BYTES:
            yield batch
            batch, n_bytes = [], 0
    if batch:
        yield batch


def distinct(names: Iterable[str]) -> list[str]:
    """Names of columns, of which those that were there before get a number."""
    found: dict[str, None] = {}
    n_before: Counter[str] = Counter()
    for name in names:
        numbered = name
        while numbered in found:
            n_before[name] += 1
            numbered = f"{name}_{n_before[name] + 1}"
        found[numbered] = None
    return list(found)
