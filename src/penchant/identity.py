"""What makes a row of a store the row it is: its content, and how many equal rows of the same import came before it.

So importing a file again adds nothing, two equal anonymous votes stay two, and an import that was killed goes on where
it was. Hashes are counted in a temporary file, so that an import of any size needs the memory of one batch.

>>> votes = Identities("comparison")
>>> first, again, other = votes.of([("q", 1.0, None), ("q", 1.0, None), ("q", 1.0, "")])
>>> len({first, again, other}), votes.of([("q", 1.0, None)])[0] in (first, again)
(3, False)
>>> votes.close()
"""

import hashlib
import sqlite3
from collections.abc import Sequence
from typing import Any

import numpy as np

from penchant.errors import StorageError

_N_BYTES = 20
Whole = np.ndarray[Any, np.dtype[np.int64]]


class Identities:
    """Identities of the rows of one kind in one import, which may come in any number of batches.

    Args:
        kind: of record; equal values in records of two kinds are two rows.
    """

    def __init__(self, kind: str):
        self._start = hashlib.blake2b(f"{kind}\0".encode(), digest_size=_N_BYTES)
        self._counts = _Counts()
        self._whole = hashlib.blake2b(digest_size=_N_BYTES)

    def of(self, rows: Sequence[tuple[Any, ...]]) -> list[bytes]:
        """The identity of each row, 20 bytes.

        Args:
            rows: texts without NUL, numbers, and None.

        Raises:
            StorageError: there is no room for the temporary file.
        """
        digests = [self._digest(row) for row in rows]
        # Eight bytes are enough to count by: if two different rows share them, one is called the second of its kind, in
        # every import of this file alike.
        keys = np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, _N_BYTES)[:, :8].copy().view(np.int64)
        for place in np.flatnonzero(before := self._counts.add(keys.ravel())):
            repeated = hashlib.blake2b(digests[place], digest_size=_N_BYTES)
            repeated.update(b"%d" % before[place])
            digests[place] = repeated.digest()
        self._whole.update(b"".join(digests))
        return digests

    def _digest(self, row: tuple[Any, ...]) -> bytes:
        digest = self._start.copy()
        # No value holds NUL, and a letter tells a missing one from an empty text: no two rows are written alike.
        digest.update("\0".join(["n" if value is None else f"t{value}" for value in row]).encode())
        return digest.digest()

    def hexdigest(self) -> str:
        """Hash of all identities so far, in order."""
        return self._whole.hexdigest()

    def close(self) -> None:
        """Remove the temporary file."""
        self._counts.close()


class _Counts:
    """How often each of many numbers has come."""

    def __init__(self) -> None:
        # A database without a name: SQLite keeps it in a file that is gone with the process, however that ends.
        self._file = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._file.execute("PRAGMA journal_mode = OFF")
        self._file.execute("CREATE TABLE seen (number INTEGER PRIMARY KEY, n INTEGER NOT NULL)")

    def add(self, numbers: Whole) -> Whole:
        """Count some numbers; how often each had come before, earlier ones of the same call included."""
        distinct, which, counts = np.unique(numbers, return_inverse=True, return_counts=True)
        in_order = np.argsort(which, kind="stable")
        first = np.cumsum(counts) - counts
        before = np.empty(len(numbers), dtype=np.int64)
        before[in_order] = np.arange(len(numbers)) - np.repeat(first, counts)
        try:
            known = self._file.execute(
                "SELECT number, n FROM seen WHERE number IN (SELECT value FROM json_each(?))", [str(distinct.tolist())]
            ).fetchall()
            self._file.execute("BEGIN")
            self._file.executemany(
                "INSERT INTO seen VALUES (?, ?) ON CONFLICT (number) DO UPDATE SET n = n + excluded.n",
                zip(distinct.tolist(), counts.tolist(), strict=True),
            )
            self._file.execute("COMMIT")
        except sqlite3.Error as error:
            raise StorageError(
                f"Equal rows could not be counted: {error}. That needs some 20 bytes a row in the folder for temporary "
                "files; make room there, or name another with SQLITE_TMPDIR."
            ) from error
        earlier = np.zeros(len(distinct), dtype=np.int64)
        if known:
            found, n = np.array(known, dtype=np.int64).T
            earlier[np.searchsorted(distinct, found)] = n
        return before + earlier[which]

    def close(self) -> None:
        self._file.close()
