"""Where a command's comparisons come from: a file of any known format, or the store."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from penchant.errors import DataError
from penchant.feedback.importing import read
from penchant.feedback.pairing import comparisons as paired
from penchant.records import Comparisons, Records
from penchant.store import Store


@dataclass(frozen=True)
class Data:
    """What to learn from or measure on. Ratings, rankings and votes become comparisons.

    Attributes:
        path: a file of any format that `penchant import` reads; empty for the store.
        store: where imported records live, if there is no path.
        source: only records of this source.
        max_pairs_per_user: at most so many pairs from one person's ratings or rankings.
        limit: at most so many comparisons, the first ones.
        seed: of the pairs that are drawn.
    """

    path: Path | None = None
    store: str = "sqlite:///penchant.db"
    source: str | None = None
    max_pairs_per_user: int = 200
    limit: int | None = None
    seed: int = 0

    def comparisons(self) -> tuple[Comparisons, dict[str, int], set[str]]:
        """All comparisons, how many rows or pairs were dropped for each reason, and the kinds of record they came from.

        Raises:
            DataError: there are none; says where was looked.
        """
        dropped: dict[str, int] = {}
        tables: Sequence[Records]
        if self.path is not None:
            imported = read(self.path, source=self.source)
            dropped |= imported.dropped
            tables, where = list(imported.records.values()), self.path.name
        else:
            home = Store(self.store)
            sources = [self.source] if self.source else None
            tables, where = [home.records(kind, sources=sources) for kind in home.kinds()], self.store
        parts, kinds = [], set[str]()
        for table in tables:
            if isinstance(table, Comparisons):
                parts.append(table)
                kinds.add(table.kind)
            elif table.kind in ("rating", "ranking", "reaction", "interaction"):
                pairs, lost = paired(table, max_pairs_per_user=self.max_pairs_per_user, seed=self.seed)
                parts.append(pairs)
                kinds.add(table.kind)
                for reason, count in lost.items():
                    dropped[reason] = dropped.get(reason, 0) + count
        found = Comparisons.concat(parts)
        if self.limit is not None:
            found = found.take(range(min(self.limit, len(found))))
        if not len(found):
            held = ", ".join(sorted({table.kind for table in tables})) or "no records"
            raise DataError(
                f"{where} gives no comparisons (it holds: {held}). Import feedback with `penchant import FILE`, or "
                "name a file of votes, ratings or rankings with --data.path."
            )
        return found, dropped, kinds


def shown_drops(dropped: dict[str, int]) -> str:
    """Reasons and counts in one line; empty if nothing was dropped."""
    return "; ".join(f"dropped {count}: {reason}" for reason, count in sorted(dropped.items()))
