"""Recommendations out of files with a row for each user and item; a folder holds one file for each shard of users."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from tqdm import tqdm

from penchant.apps.data import shown_drops
from penchant.errors import DataError, SettingsError
from penchant.evaluate.showings import Showings, showings
from penchant.feedback.chunk import Chunk, shown
from penchant.feedback.formats.interactions import ITEM_NAMES
from penchant.feedback.formats.layout import USER_NAMES, find, plain
from penchant.feedback.reading import chunks
from penchant.parts import OnError, cluster

_RANKS = ("rank", "position", "place", "pos")
_SCORES = ("score", "prediction", "predicted")
_CASES = ("case", "recommender", "algorithm", "model", "system")
_AHEAD = 2  # shards that wait for each worker; more would only fill the memory


@dataclass(frozen=True)
class Recommended:
    """What is counted of some files.

    Attributes:
        cases: whose lists, by name -> what was shown; one case without a name if no column names them.
        unread: reason -> rows that could not be read.
        order: what says where in a list a row stands; empty if that is a column of ranks.
    """

    cases: dict[str, Showings]
    unread: dict[str, int]
    order: str

    def __add__(self, other: "Recommended") -> "Recommended":
        """Of the users of both.

        Raises:
            DataError: lists differ in length, stand in another order, or a user has rows in both.
        """
        if self.order != other.order:
            orders = " and ".join(repr(one.order or "a column of ranks") for one in (self, other))
            raise DataError(f"Files say in different ways what comes first: {orders}. Bring all to the same columns.")
        cases = dict(self.cases)
        for name, one in other.cases.items():
            cases[name] = cases[name] + one if name in cases else one
        return Recommended(cases, dict(Counter(self.unread) + Counter(other.unread)), self.order)


def shards(path: Path) -> list[Path]:
    """A file, or the files of a folder in the order of their names.

    Raises:
        DataError: the folder is empty.
    """
    if not path.is_dir():
        return [path]
    found = sorted(one for one in path.iterdir() if one.is_file() and not one.name.startswith((".", "_")))
    if not found:
        raise DataError(f"{shown(path)} is a folder without files.")
    return found


def count(
    files: Iterable[Path], *, k: int | None, on_error: OnError, workers: int = 0, address: str | None = None
) -> Recommended:
    """Count files, here or over Ray, and add up what they hold.

    Args:
        files: each with whole lists of its own users.
        k: places that count; None if all lists have as many.
        on_error: whether a list that is not whole stops everything or is left out and counted.
        workers: Ray workers; 0 counts in this process.
        address: of a Ray cluster; without it one is started here.

    Raises:
        DataError: a file cannot be counted, or files do not fit together.
        SettingsError: workers are below 0, or the cluster is not there.
    """
    if workers < 0:
        raise SettingsError(f"workers must be at least 0: got {workers!r}.")
    each = partial(counted, k=k, on_error=on_error)
    paths = list(files)
    found: Recommended | None = None
    results = _over_ray(each, paths, workers, address) if workers else map(each, paths)
    for one in tqdm(results, total=len(paths), desc="files", disable=len(paths) < 2 or None):
        found = one if found is None else found + one
    if found is None:
        raise DataError("There are no files to count.")
    return found


def _over_ray(each: Any, paths: list[Path], workers: int, address: str | None) -> Iterator[Recommended]:
    """What each file holds, in order; what is counted is small, so that it may travel."""
    with cluster(workers, address) as ray:
        task = ray.remote(num_cpus=1)(each.func)
        waiting: list[Any] = []
        for path in paths:
            waiting.append(task.remote(path.absolute(), **each.keywords))
            if len(waiting) > _AHEAD * workers:
                yield _got(ray, waiting.pop(0))
        for one in waiting:
            yield _got(ray, one)


def _got(ray: Any, waiting: Any) -> Recommended:
    try:
        found: Recommended = ray.get(waiting)
    except DataError as error:  # Ray's own class, which derives from ours and tells its whole way here
        raise DataError(str(getattr(error, "cause", error))) from error
    return found


def counted(path: Path, *, k: int | None, on_error: OnError) -> Recommended:
    """Count the lists of one file.

    Raises:
        DataError: it has no columns for user and item, or a list is not whole.
    """
    table, unread = _table(path)
    if unread and on_error == "stop":
        raise DataError(f"{shown(path)}: {shown_drops(unread)}. To leave such rows out use --on-error drop.")
    names = table.column_names
    user = next((name for name in names if plain(name) in USER_NAMES), None)
    item = find(names, *ITEM_NAMES)
    if user is None or item is None:
        raise DataError(
            f"{shown(path)} needs a column for the user and one for the item, and best one for the rank; it has "
            f"{names}. Lists can also be records with `recommendations` and `n_items`."
        )
    rank, score, case = find(names, *_RANKS), find(names, *_SCORES), find(names, *_CASES)
    if rank is None and score is not None:
        table = _by_score(path, table, score)
    order = (
        "" if rank else f"the highest `{score}` comes first" if score else "rows of a user stand in order, best first"
    )
    cases = {}
    for name, rows in _cases(table, case):
        try:
            cases[name] = showings(rows[user], rows[item], rows[rank] if rank else None, k=k, on_error=on_error)
        except DataError as error:
            about = f", {name!r}" if name else ""
            raise DataError(f"{shown(path)}{about}: {error}") from error
    return Recommended(cases, unread, order)


def _table(path: Path) -> tuple[pa.Table, dict[str, int]]:
    """All rows of a file, and how many could not be read."""
    tables, unread = [], Counter[str]()
    for chunk in chunks(path):
        tables.append(_as_table(chunk))
        unread.update(chunk.broken)
    tables = [table for table in tables if len(table)]
    if not tables:
        raise DataError(f"{shown(path)} holds no rows{': ' + shown_drops(dict(unread)) if unread else ''}.")
    try:
        return pa.concat_tables(tables, promote_options="permissive"), dict(unread)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise DataError(f"{shown(path)}: a column has other values further down ({error}).") from error


def _as_table(chunk: Chunk) -> pa.Table:
    return chunk.table if chunk.table is not None else pa.Table.from_pylist(chunk.rows or [])


def _by_score(path: Path, table: pa.Table, score: str) -> pa.Table:
    try:
        numbers = table[score].cast(pa.float64())
    except pa.ArrowInvalid as error:
        raise DataError(f"{shown(path)}: `{score}` must be numbers: {error}.") from error
    without = numbers.null_count + (pc.sum(pc.is_nan(numbers)).as_py() or 0)
    if without:
        raise DataError(f"{shown(path)}: {without} of {len(table)} rows have no `{score}`, so that they have no place.")
    return table.take(pc.sort_indices(pc.negate(numbers)))  # stable: equal scores stay in the order of the rows


def _cases(table: pa.Table, column: str | None) -> Iterator[tuple[str, pa.Table]]:
    if column is None:
        yield "", table
        return
    names = pc.fill_null(table[column].cast(pa.string()), "")
    for name in pc.unique(names).to_pylist():
        yield name, table.filter(pc.equal(names, name))


def catalogue(given: int | str | None) -> int | list[str] | None:
    """What `--catalogue` says: a number of items, the names in a file, or nothing.

    Raises:
        DataError: the file has no column of items, or a row of it no item.
    """
    if not isinstance(given, str):
        return given
    path = Path(given)
    table, unread = _table(path)
    name = find(table.column_names, *ITEM_NAMES, "id") or (table.column_names[0] if table.num_columns == 1 else None)
    if name is None or unread or table[name].null_count:
        raise DataError(
            f"{shown(path)} must name an item in each row, in a column `item` or `id`: it has {table.column_names}"
            f"{'; ' + shown_drops(unread) if unread else ''}. A number of items will do as well."
        )
    return list(map(str, table[name].cast(pa.string()).to_pylist()))
