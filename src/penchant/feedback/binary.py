"""Rows out of files that hold columns: Parquet, Arrow, and rollouts as numpy archives.

What such a file claims to unpack to does not bound what is in memory either: columns are read some thousand rows at a
time, and texts that are held once and named often stay so until they are cut into chunks.
"""

import zipfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from penchant.errors import DataError
from penchant.feedback import chunk
from penchant.feedback.chunk import Chunk, batches, distinct, shown

_LARGEST_ARCHIVE = 1 << 31  # bytes of unpacked arrays, which have to be in memory as a whole
_MOST_DECODED = 1 << 30  # bytes that a batch of Parquet may need at the worst before its texts are read by reference
_ARROW_ERRORS = (pa.ArrowException, OSError, ValueError, MemoryError, KeyError, IndexError, TypeError)

DAMAGED_BLOCK = "a block of the file is damaged"
NO_TRAJECTORY = "the trajectory is incomplete"


def parquet(path: Path) -> Iterator[Chunk]:
    """All records of a Parquet file; a block that is damaged loses its own.

    Raises:
        DataError: its directory cannot be read.
    """
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True, buffer_size=chunk.BLOCK_BYTES)
        if packed := _packed(file.metadata):
            file = pq.ParquetFile(
                path, page_checksum_verification=True, buffer_size=chunk.BLOCK_BYTES, read_dictionary=packed
            )
        metadata, size = file.metadata, path.stat().st_size
    except _ARROW_ERRORS as error:
        raise DataError(
            f"{shown(path)} looks like Parquet, but its directory at the end is damaged, so that not even its number "
            "of rows is known. Copy the file again from where it came."
        ) from error
    done = 0
    for group in range(metadata.num_row_groups):
        n_rows = metadata.row_group(group).num_rows
        n_read = 0
        try:
            for batch in file.iter_batches(batch_size=chunk.CHUNK_ROWS, row_groups=[group]):
                for table in _cut(batch):
                    table.validate(full=True)
                    n_read += table.num_rows
                    yield Chunk(table=table, at=size * (done + n_read) // max(metadata.num_rows, 1))
        except _ARROW_ERRORS:
            if n_rows > n_read:
                yield Chunk([], broken={DAMAGED_BLOCK: n_rows - n_read})
        done += n_rows


def _packed(metadata: pq.FileMetaData) -> list[str]:
    """Columns of text that a file holds once and names often: written out, a small file could fill any memory."""
    found = set()
    for group in range(metadata.num_row_groups):
        for number in range(metadata.num_columns):
            column = metadata.row_group(group).column(number)
            # No text is longer than all the bytes of its column.
            is_large = column.has_dictionary_page and column.total_uncompressed_size * chunk.CHUNK_ROWS > _MOST_DECODED
            if is_large and column.physical_type == "BYTE_ARRAY" and "." not in column.path_in_schema:
                found.add(column.path_in_schema)
    return sorted(found)


def _cut(batch: pa.RecordBatch) -> Iterator[pa.Table]:
    """A batch as tables of as many rows as make a chunk, with texts that were read by reference written out."""
    batch = pa.RecordBatch.from_arrays(batch.columns, names=distinct(batch.schema.names))
    lengths = np.zeros(batch.num_rows, dtype=np.int64)
    packed = []
    for field_ in batch.schema:
        column = batch.column(field_.name)
        if pa.types.is_dictionary(field_.type):
            packed.append(field_.name)
            of_values = _lengths(column.dictionary)
            lengths += 0 if of_values is None else np.asarray(pc.fill_null(of_values.take(column.indices), 0))
        elif (of_texts := _lengths(column)) is not None:
            lengths += np.asarray(pc.fill_null(of_texts, 0))
        else:
            lengths += column.nbytes // max(len(column), 1)
    n_chunks = np.cumsum(lengths) // chunk.CHUNK_BYTES
    cuts = (np.flatnonzero(np.diff(n_chunks)) + 1).tolist()
    cuts += range(0, batch.num_rows, chunk.CHUNK_ROWS)
    for start, stop in pairwise(sorted({0, *cuts, batch.num_rows})):
        table = pa.Table.from_batches([batch.slice(start, stop - start)])
        for name in packed:
            place = table.schema.get_field_index(name)
            written = [part.dictionary.take(part.indices) for part in table[name].chunks]
            table = table.set_column(place, name, pa.chunked_array(written))
        yield table


def _lengths(column: pa.Array) -> pa.Array | None:
    """Bytes of each text; None if they are no texts."""
    is_text = any(test(column.type) for test in (pa.types.is_string, pa.types.is_binary, pa.types.is_large_string))
    return pc.binary_length(column).cast(pa.int64()) if is_text else None


def arrow(path: Path, opened: Any) -> Iterator[Chunk]:
    """All records of an Arrow file or stream, up to where it is damaged.

    Args:
        path: where it is.
        opened: `pyarrow.ipc.open_file` or `open_stream`.

    Raises:
        DataError: its schema cannot be read.
    """
    try:
        reader = opened(pa.memory_map(str(path)))
    except _ARROW_ERRORS as error:
        raise DataError(f"{shown(path)} looks like an Arrow file, but its schema cannot be read.") from error
    n_batches = getattr(reader, "num_record_batches", None)
    size = path.stat().st_size
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
        for table in _cut(batch):
            yield Chunk(table=table, at=size * index // n_batches if n_batches else 0)


def archive(path: Path, file: BinaryIO) -> Iterator[Chunk]:
    """Rollouts in one numpy archive: `obs`, `acts`, `rews` of all trajectories, cut at `indices`."""
    try:
        with zipfile.ZipFile(file) as packed:
            size = sum(each.file_size for each in packed.infolist())
        if size > _LARGEST_ARCHIVE:
            raise DataError(
                f"{shown(path)} holds arrays of {size >> 20:,} MiB, more than the {_LARGEST_ARCHIVE >> 20:,} MiB that "
                "are read at once; save its trajectories in several archives."
            )
        with np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except DataError:
        raise
    except Exception as error:  # zipfile and numpy raise whatever a damaged archive makes them stumble over
        raise DataError(f"{shown(path)} is a zip archive, but not one of numpy arrays; unpack it first.") from error
    if not {"obs", "acts", "indices"} <= set(arrays) or arrays["indices"].ndim != 1 or arrays["obs"].ndim < 1:
        names = ", ".join(sorted(shown(Path(name)) for name in arrays))
        raise DataError(f"{shown(path)} holds the arrays {names}; rollouts need `obs`, `acts` and `indices`.")
    try:
        for batch in batches(_rollouts(arrays), lambda found: found[1]):
            rows = [row for row, _ in batch if row is not None]
            yield Chunk(rows, broken={NO_TRAJECTORY: len(batch) - len(rows)} if len(rows) < len(batch) else {})
    except (IndexError, TypeError, OverflowError) as error:
        raise DataError(f"{shown(path)} holds `obs`, `acts` and `indices` that do not fit together.") from error


def _rollouts(arrays: dict[str, np.ndarray[Any, Any]]) -> Iterator[tuple[dict[str, Any] | None, int]]:
    """Each trajectory and its bytes; None where it is incomplete."""
    n_steps = len(arrays["acts"]) if arrays["acts"].ndim else 0
    cuts = [0, *(int(cut) for cut in arrays["indices"]), n_steps]
    for number, (start, stop) in enumerate(pairwise(cuts)):
        seen = arrays["obs"][start + number : stop + number + 1]  # one more than the actions of each trajectory
        if not 0 <= start < stop <= n_steps or len(seen) != stop - start + 1:
            yield None, 0
            continue
        row = {"observations": seen.tolist(), "actions": arrays["acts"][start:stop].tolist()}
        if "rews" in arrays:
            row["rewards"] = arrays["rews"][start:stop].tolist()
        if "terminal" in arrays and number < len(arrays["terminal"]):
            row["terminal"] = bool(arrays["terminal"][number])
        yield row, seen.nbytes + arrays["acts"][start:stop].nbytes
