"""`penchant arena-forget`: everything that one visitor left in an arena, deleted to the last byte."""

from pathlib import Path

from penchant.apps.arena.battles import Book
from penchant.apps.arena.service import forgotten
from penchant.apps.arena.storage import Database
from penchant.apps.outcome import Outcome
from penchant.errors import DataError, UnknownNameError


def forget(key: str, *, store: str = "arena.db") -> Outcome:
    """Delete a visitor's votes, reasons, prompts, what was made for them and when they looked at it.

    Visitors find their key on the arena's page on privacy, and can do the same there themselves with one click. The
    arena may run meanwhile; votes wait until the files are written anew, in which no byte of the visitor is left.
    Backups, PostgreSQL's own log and files of `penchant arena-release` are out of its reach: a release names nobody,
    and nothing tells which of its votes are whose.

    Args:
        key: of the visitor, 32 characters of 0-9 and a-f.
        store: of the arena: a file, or postgresql://USER@HOST/DATABASE.
    """
    if "://" not in store and not Path(store).exists():
        raise DataError(f"There is no arena at {store}; `penchant arena --store` made it elsewhere.")
    database = Database(store if "://" in store else f"sqlite:///{store}")
    try:
        gone = database.write(lambda connection: forgotten(connection, database, Book(), key))
        if not any(gone.values()):
            raise UnknownNameError(
                f"Nobody with the key {key!r} left anything in {database.url}. The page on privacy of the arena shows "
                "visitors their key, 32 characters of 0-9 and a-f."
            )
        database.overwrite()
    finally:
        database.close()
    counted = ", ".join(f"{count} {name}" for name, count in gone.items())
    return Outcome(
        {"key": key, "deleted": gone},
        f"{key} is forgotten: {counted}. Releases that were written before hold their votes under a name that nobody "
        "can trace; they cannot be called back.",
    )
