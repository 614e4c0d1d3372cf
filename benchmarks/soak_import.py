"""Imports that are killed by SIGKILL at random instants, over and over: nothing acknowledged is lost, nothing doubled.

    python benchmarks/soak_import.py --kills 1000 --json docs/benchmarks/soak_import.json

Every start is the code behind `penchant import`, in a process forked from one that has imported it already, in steps of
a few rows. After each step that the store acknowledged, the process says so through a pipe. It is killed at an instant
drawn at random, which may lie anywhere: while the store is made, a file is read, a step is written, the log is folded
back into the file. In some rounds two processes import the same file at once, in some two files, and each is killed.
The same command is started again until the file is there. Files are JSON lines, a JSON array, CSV and Parquet, with
rows that occur several times, far apart, and lines that cannot be read.

After every kill the records are read with the database's own driver. Those of each file must be, in order, the first of
what the file holds, as many as were acknowledged or more; after the last start they must be all. Ends with code 1
otherwise. `--store` names a PostgreSQL database instead of SQLite files.
"""

import argparse
import contextlib
import json
import os
import random
import select
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1"}  # before numpy: forked threads do not live on

STEP = 12  # rows
MOST = 8  # starts of a round that may be killed
FORMS = ("jsonl", "json", "csv", "parquet")
COLUMNS = ("prompt", "chosen", "rejected", "user")
Row = tuple[str, ...]


@dataclass
class File:
    """A file to import.

    Attributes:
        path: where it lies.
        source: what its records name as theirs.
        rows: what must be in the store when it is imported, in order.
        acknowledged: how many of them a process said are there, at the most.
    """

    path: Path
    source: str
    rows: list[Row]
    acknowledged: int = 0


@dataclass
class Process:
    """A process that imports a file, and the end of the pipe through which it acknowledges steps."""

    number: int
    pipe: int
    file: File

    def acknowledged(self) -> int:
        """How many rows it has said are there; what a kill cut off counts as not said."""
        said = b""
        while select.select([self.pipe], [], [], 0)[0] and (part := os.read(self.pipe, 1 << 16)):
            said += part
        return max((int(line) for line in said.split(b"\n")[:-1]), default=0)


def written(path: Path, drawn: random.Random) -> File:
    """A file of some hundred rows, a third of which occur more than once; text forms have lines that cannot be read."""
    n = drawn.randint(100, 400)
    some = [{name: f"{name[0]} {drawn.randrange(n)}" for name in COLUMNS} for _ in range(n)]
    some += drawn.choices(some, k=n // 2)
    drawn.shuffle(some)
    form = path.suffix[1:]
    if form == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(some), path, row_group_size=50)
    elif form == "json":
        path.write_text(json.dumps([*some, "no object"]), encoding="utf-8")
    else:
        lines = [json.dumps(row) if form == "jsonl" else ",".join(row.values()) for row in some]
        for _ in range(drawn.randrange(3)):
            lines.insert(drawn.randrange(n), "{broken")
        head = [] if form == "jsonl" else [",".join(COLUMNS)]
        path.write_text("\n".join([*head, *lines]) + "\n", encoding="utf-8")
    return File(path, f"{path.parent.name}/{path.name}", [tuple(row.values()) for row in some])


def started(file: File, store: str) -> Process:
    """`penchant import` in a process of its own."""
    ours, theirs = os.pipe()
    number = os.fork()
    if number:
        os.close(theirs)
        return Process(number, ours, file)
    try:
        os.close(ours)
        from penchant.apps import records
        from penchant.feedback import chunk, importing
        from penchant.store import Store

        importing.PART_ROWS = chunk.CHUNK_ROWS = STEP
        chunk.BLOCK_BYTES = 256
        add_steps = Store.add_steps

        def acknowledging(self: Store, steps: Any) -> Iterator[Any]:
            n = 0
            for added in add_steps(self, steps):
                n += added.new + added.known
                os.write(theirs, b"%d\n" % n)
                yield added

        Store.add_steps = acknowledging  # type: ignore[assignment,method-assign]
        records.import_files((file.path,), store=store)
        os._exit(0)
    except BaseException:
        import traceback

        traceback.print_exc()
        os._exit(1)


def ended(process: Process, within: float | None) -> bool:
    """Whether a process ended by itself; it is killed at the end of its time, and stops the soak if it failed."""
    until = time.monotonic() + (within or 0)
    while within is not None and (left := until - time.monotonic()) > 0:
        if os.waitid(os.P_PID, process.number, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            break
        time.sleep(min(left, 0.001))
    if within is not None:
        os.kill(process.number, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(process.number, 0)[1])
    if status > 0:
        raise SystemExit(f"An import failed with code {status}, see above.")
    return status == 0


def there(store: str, source: str) -> list[Row]:
    """The records of a source in their order, read without penchant; none if there is no table yet."""
    query = 'SELECT prompt, chosen, rejected, "user" FROM comparisons WHERE source = '
    if store.startswith("sqlite"):
        with contextlib.closing(sqlite3.connect(store.removeprefix("sqlite:///"), timeout=60)) as connection:
            [sound] = connection.execute("PRAGMA quick_check").fetchone()
            if sound != "ok":
                raise SystemExit(f"The database is damaged: {sound}")
            try:
                return connection.execute(f"{query}? ORDER BY place", [source]).fetchall()
            except sqlite3.OperationalError as error:
                if "no such table" not in str(error):
                    raise
                return []
    import psycopg

    with psycopg.connect(store.replace("+psycopg", "")) as connection:
        # An import that was killed may live on in the server until that has noticed: wait as the next import does.
        connection.execute("SELECT pg_advisory_xact_lock(7366243624)")
        try:
            return connection.execute(f"{query}%s ORDER BY place", [source]).fetchall()
        except psycopg.errors.UndefinedTable:
            return []


def soak(folder: Path, n_kills: int, store: str | None, seed: int) -> dict[str, Any]:
    """Rounds of one or two files until there have been enough kills."""
    import penchant.apps.records  # noqa: F401  # what the processes need is imported once, here

    drawn = random.Random(seed)
    counts: Counter[str] = Counter()
    lasts = 0.5  # seconds of the last start that nobody killed
    begun = time.monotonic()
    while counts["kills"] < n_kills:
        place = folder / f"{os.getpid()}-{counts['rounds']}"
        place.mkdir()
        url = store or f"sqlite:///{place / 'records.db'}"
        names = [f"{name}.{drawn.choice(FORMS)}" for name in drawn.choice(["a", "a", "aa", "ab"])]
        files = {name: written(place / name, drawn) for name in dict.fromkeys(names)}
        counts["rounds_with_two_writers"] += len(names) > 1
        is_done = False
        n_starts = 0
        while not is_done:
            # With enough kills a start is left alone; so that there are many files, also after some kills of one.
            n_starts += 1
            limits = [
                drawn.uniform(0, 1.1 * lasts) if counts["kills"] + i < n_kills and n_starts <= MOST else None
                for i in range(len(names))
            ]
            start = time.monotonic()
            processes = [started(files[name], url) for name in names]
            is_done = True
            for process, limit in zip(processes, limits, strict=True):
                left = None if limit is None else max(0.0, start + limit - time.monotonic())
                if ended(process, left):
                    lasts = time.monotonic() - start if len(names) == 1 else lasts
                else:
                    counts["kills"] += 1
                    is_done = False
                process.file.acknowledged = max(process.file.acknowledged, process.acknowledged())
                os.close(process.pipe)
            counts["starts"] += len(names)
            for file in files.values():
                check(file, there(url, file.source), counts, is_done=is_done)
        counts["rounds"] += 1
        counts["files"] += len(files)
        counts["records"] += sum(len(file.rows) for file in files.values())
        if counts["rounds"] % 50 == 0:
            print(f"{counts['kills']} kills, {counts['rounds']} rounds", file=sys.stderr, flush=True)
    names = ("kills", "lost", "doubled", "out_of_order", "missing_at_the_end", "checks", "starts", "rounds")
    return {name: counts[name] for name in (*names, "rounds_with_two_writers", "files", "records")} | {
        "kills_in_the_midst": counts["in_the_midst"],
        "store": "postgresql" if store else "sqlite",
        "seconds": round(time.monotonic() - begun, 1),
        "seed": seed,
    }


def check(file: File, found: list[Row], counts: Counter[str], *, is_done: bool) -> None:
    """Count what is wrong with the records of a file."""
    expected = Counter(file.rows)
    counts["lost"] += (Counter(file.rows[: file.acknowledged]) - Counter(found)).total()
    counts["doubled"] += (Counter(found) - expected).total()
    counts["out_of_order"] += found != file.rows[: len(found)]
    counts["missing_at_the_end"] += is_done and len(found) != len(file.rows)
    counts["in_the_midst"] += 0 < len(found) < len(file.rows)
    counts["checks"] += 1


def main() -> None:
    """Parse, soak, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000, help="processes to kill")
    parser.add_argument("--store", metavar="URL", help="a PostgreSQL database instead of SQLite files")
    parser.add_argument("--seed", type=int, default=0, help="of the instants and the files")
    parser.add_argument(
        "--json", metavar="FILE", help="where the result goes as one line of JSON; - is standard output"
    )
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="penchant-soak-") as folder:
        result = soak(Path(folder), asked.kills, asked.store, asked.seed)
    line = json.dumps(result)
    if asked.json and asked.json != "-":
        Path(asked.json).write_text(line + "\n", encoding="utf-8")
    else:
        print(line)
    if any(result[name] for name in ("lost", "doubled", "out_of_order", "missing_at_the_end")):
        sys.exit(1)


if __name__ == "__main__":
    main()
