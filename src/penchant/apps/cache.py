"""`penchant cache`: what was computed once and is kept, how much of it, and how to have less."""

from typing import Any

from penchant.apps.outcome import Outcome
from penchant.apps.report import Table
from penchant.cache import RowCache, bytes_of
from penchant.errors import SettingsError


def cache(*, limit: str | None = None, clear: str | None = None, gc: bool = False) -> Outcome:
    """Show what is kept of encodings, log-probabilities and chat answers: how many rows, how large, when last used.

    All of it can be computed again: deleting costs time, never data. It stays below a limit, for which what was used
    longest ago goes first. PENCHANT_CACHE names the folder, PENCHANT_CACHE_LIMIT a limit for one process.

    Args:
        limit: keep at most so much from now on, in every process: 500MB, 4GiB.
        clear: delete what is kept of every namespace that begins so, or "all"; a namespace is a line of this table.
        gc: check every value, delete damaged ones and what is beyond the limit, and give free space back to the disk.
    """
    rows = RowCache()
    done: dict[str, Any] = {}
    if limit is not None:
        if (size := bytes_of(limit)) < 1:
            raise SettingsError(f"A limit must be above zero: got {limit!r}. To keep nothing, --clear all.")
        done["made room"] = rows.set_limit(size)
    if clear is not None:
        done["cleared"] = rows.clear("" if clear == "all" else clear)
    if gc:
        done |= rows.collect()
    held = rows.held()
    data = {
        "path": str(rows.path),
        "bytes": rows.size(),
        "limit": rows.limit(),
        "deleted": done,
        "namespaces": [vars(one) | {"used": one.used.isoformat()} for one in held],
    }
    lines = [f"deleted {count} rows: {reason}" for reason, count in done.items()]
    lines.append(f"{rows.path}: {_shown(rows.size())} of at most {_shown(rows.limit())}")
    if held:
        cells = [[one.namespace, f"{one.rows:,}", _shown(one.bytes), f"{one.used:%Y-%m-%d %H}h UTC"] for one in held]
        lines.append(Table(("namespace", "rows", "size", "last used"), cells).text())
    return Outcome(data, "\n".join(lines))


def _shown(size: float) -> str:
    """Bytes as people read them.

    >>> _shown(999), _shown(2 * 2**30)
    ('999 B', '2.1 GB')
    """
    thousands = min(4, (len(f"{size:.0f}") - 1) // 3)
    number = size / 1000**thousands
    return f"{number:.0f} B" if thousands == 0 else f"{number:.1f} {' kMGT'[thousands]}B"
