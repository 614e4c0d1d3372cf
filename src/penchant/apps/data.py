"""Where a command's comparisons come from: a file of any known format, or the store."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from penchant.errors import DataError
from penchant.feedback.importing import read
from penchant.feedback.pairing import of_all
from penchant.records import Battles, Comparisons, Ratings, Records
from penchant.store import Store

AnyRecords = TypeVar("AnyRecords", bound=Records)


@dataclass(frozen=True)
class Data:
    """What to learn from or measure on. Ratings, rankings and votes become comparisons.

    Attributes:
        path: a file of any format that `penchant import` reads; empty for the store.
        store: where imported records live, if there is no path.
        source: only records of this source.
        max_pairs_per_user: at most so many pairs from one person's ratings or rankings.
        limit: at most so many records, the first ones.
        seed: of the pairs that are drawn.
    """

    path: Path | None = None
    store: str = "sqlite:///penchant.db"
    source: str | None = None
    max_pairs_per_user: int = 200
    limit: int | None = None
    seed: int = 0

    def comparisons(
        self, *, of_names: bool = False, without: str | None = None
    ) -> tuple[Comparisons, dict[str, int], set[str]]:
        """All comparisons, how many rows or pairs were dropped for each reason, and the kinds of record they came from.

        Args:
            of_names: whether votes between systems, without what these said, will do where there is nothing else.
            without: a person whose records do not count.

        Raises:
            DataError: there are none; says where was looked.
        """
        tables, dropped = self._tables(without)
        return self._compared(tables, dropped, of_names=of_names)

    def measured(self, *, without: str | None = None) -> tuple[Ratings, Comparisons, dict[str, int], set[str]]:
        """Ratings that say their aspect, and comparisons of everything else; see `comparisons`.

        Raises:
            DataError: one of the two is missing.
        """
        tables, dropped = self._tables(without)
        rated = _of_aspects(tables)
        if not rated:
            raise DataError("This method measures ratings that say their `aspect`, and there are none.")
        others = [table for table in tables if not any(table is one for one in rated)]
        return Ratings.concat(rated), *self._compared(others, dropped)

    def all_of_it(self, *, of_names: bool = False) -> tuple[Ratings | None, Comparisons, dict[str, int], set[str]]:
        """Ratings that say their aspect, if there are other comparisons beside them, and those; see `comparisons`.

        Raises:
            DataError: there are no comparisons; says where was looked.
        """
        tables, dropped = self._tables()
        rated = _of_aspects(tables)
        others = [table for table in tables if not any(table is one for one in rated)]
        if not rated or not others:
            return None, *self._compared(tables, dropped, of_names=of_names)
        return Ratings.concat(rated), *self._compared(others, dropped, of_names=of_names)

    def of_kinds(self, kinds: Sequence[type[Records]]) -> tuple[Records, dict[str, int]]:
        """Records of the first of these kinds that is there, or else comparisons made of others; and what was dropped.

        Raises:
            DataError: there are none; says where was looked.
        """
        tables, dropped = self._tables()
        kind = next((kind for kind in kinds if any(type(table) is kind for table in tables)), Comparisons)
        if kind is Comparisons:
            return self._compared(tables, dropped)[:2]
        others = {table.kind: len(table) for table in tables if type(table) is not kind}
        dropped |= {f"{name} records, where there are {kind.kind} records": n for name, n in others.items()}
        return self._first(kind.concat([table for table in tables if type(table) is kind])), dropped

    def _tables(self, without: str | None = None) -> tuple[list[Records], dict[str, int]]:
        """Every table that holds something, and what importing dropped."""
        if self.path is not None:
            imported = read(self.path, source=self.source)
            tables, dropped = list(imported.records.values()), dict(imported.dropped)
        else:
            home = Store(self.store)
            sources = [self.source] if self.source else None
            tables, dropped = [home.records(kind, sources=sources) for kind in home.kinds()], {}
        if without is not None:
            tables = [table.without(without) for table in tables]
        return [table for table in tables if len(table)], dropped

    def _compared(
        self, tables: Sequence[Records], dropped: dict[str, int], *, of_names: bool = False
    ) -> tuple[Comparisons, dict[str, int], set[str]]:
        texts = [table for table in tables if of_names or not isinstance(table, Battles)]
        n_battles = sum(map(len, tables)) - sum(map(len, texts))
        if n_battles:
            dropped["battles, which name systems and not what they said"] = n_battles
        found, lost, kinds = of_all(texts, max_pairs_per_user=self.max_pairs_per_user, seed=self.seed)
        for reason, count in lost.items():
            dropped[reason] = dropped.get(reason, 0) + count
        found = self._first(found)
        if not len(found):
            held = ", ".join(sorted({table.kind for table in tables})) or "no records"
            where = self.store if self.path is None else self.path.name
            names = " Battles name systems, not what they said: `penchant learn --encoder items`." * ("battle" in held)
            raise DataError(
                f"{where} gives no comparisons of texts (it holds: {held}). Import feedback with `penchant import`, or "
                f"name a file of votes, ratings or rankings with --data.path.{names}"
            )
        return found, dropped, kinds

    def _first(self, records: AnyRecords) -> AnyRecords:
        return records if self.limit is None else records.take(range(min(self.limit, len(records))))


def _of_aspects(tables: Sequence[Records]) -> list[Ratings]:
    """Tables of ratings that all say their aspect."""
    return [table for table in tables if isinstance(table, Ratings) and not table.table["aspect"].null_count]


def shown_drops(dropped: dict[str, int]) -> str:
    """Reasons and counts in one line; empty if nothing was dropped."""
    return "; ".join(f"dropped {count}: {reason}" for reason, count in sorted(dropped.items()))
