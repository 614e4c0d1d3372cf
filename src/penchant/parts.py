"""Work on any number of rows in parts, here or over Ray: the same rows come out, in the same order.

The rows are cut into files of a thousand or so. One process reads a part, works on it and writes it as a whole; what is
written stays. So a run that was killed goes on from the parts it has, a worker that was killed has its part done again,
and no more than one part a worker is in memory, however many rows there are. Ray Data gives out the parts (or a plain
loop does, without workers); rows never travel through it, so every worker must see the folder that `out` is in.

A task is its settings and a method `ready()`, which loads what it needs once a process and gives back the function from
rows to rows. It must not depend on anything but its settings, the rows and their numbers.

>>> import tempfile, pyarrow.compute as pc
>>> class Doubled:
...     def ready(self):
...         return lambda rows, numbers: (rows.append_column("twice", pc.multiply(rows["x"], 2)), {})
>>> out = Path(tempfile.mkdtemp()) / "twice.parquet"
>>> done = work_through(Doubled(), [(pa.table({"x": [1, 2, 3]}), {})], out, rows_per_part=2, progress=False)
>>> done.rows, done.written, pq.read_table(out)["twice"].to_pylist()
(3, 3, [2, 4, 6])
"""

import contextlib
import json
import logging
import os
import shutil
import socket
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol
from zlib import crc32

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
from tqdm.auto import tqdm

from penchant.errors import DataError, MissingExtraError, PenchantError, SettingsError
from penchant.exchange import write_json, write_tables
from penchant.whole import whole_file

Numbers = np.ndarray[Any, np.dtype[np.int64]]
Work = Callable[[pa.Table, Numbers], tuple[pa.Table, Mapping[str, int]]]
"""(rows, their numbers) -> rows, and counts of what is worth saying. A row it cannot do is a `DataError`."""

Together = Callable[[pa.Table], Sequence[str] | None]
OnError = Literal["stop", "drop"]
_NUMBER = "penchant row"  # column of the numbers, in the files of parts only
_TRIES = 4  # of a part whose worker dies; one that kills every worker must not go round for ever
_MOST_GROUPS = 512  # files written side by side when rows are brought together


class Task(Protocol):
    """What is done to the rows; it travels to the workers, so it holds settings and nothing that was loaded."""

    def ready(self) -> Work:
        """Load what the work needs, once a process."""


@dataclass(frozen=True)
class Done:
    """What a run did.

    Attributes:
        rows: that could be read.
        written: rows in the result.
        unread: reason -> rows of the input that could not be read.
        failed: rows that the task could not do; `failures` holds their numbers and reasons.
        counts: what the task said is worth saying.
        resumed: rows of parts that an earlier run had finished.
        failures: the file that names every failed row, if there are any.
    """

    rows: int
    written: int
    unread: dict[str, int]
    failed: int
    counts: dict[str, int]
    resumed: int
    failures: Path | None = None


@dataclass
class _Part:
    """What came of a part."""

    rows: int
    written: int = 0
    failures: list[tuple[int, str]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)


def work_through(
    task: Task,
    rows: Iterable[tuple[pa.Table, Mapping[str, int]]],
    out: Path,
    *,
    about: Mapping[str, Any] | None = None,
    together: Together | None = None,
    rows_per_part: int = 1000,
    workers: int = 0,
    address: str | None = None,
    threads: int = 1,
    on_error: OnError = "stop",
    progress: bool = True,
) -> Done:
    """Do a task to all rows, and write the result as one file.

    Args:
        task: what to do.
        rows: tables, each with counts of the rows that could not be read; not looked at when a run goes on.
        out: file of the result, Parquet or (.jsonl) JSON Lines. Finished parts wait beside it, in `OUT.parts`.
        about: whatever decides the result, as plain values; a run only goes on if it is the same.
        together: a key for each row of a table; rows of equal keys are given to one call of the task, in their order.
            None if these rows need not stand together.
        rows_per_part: rows between two writes.
        workers: Ray workers; 0 does it in this process.
        address: of a Ray cluster; without it one is started here for as long as it takes, on loopback only.
        threads: of torch in each process. The same number gives the same bits.
        on_error: "stop" at the first row that cannot be done, or "drop" and count such rows.
        progress: show a bar.

    Raises:
        DataError: a row cannot be done, there are no rows, or a worker died again and again at the same part.
        SettingsError: the result is there already, its parts belong to another run, or the cluster is not there.
        MissingExtraError: Ray is not installed.
    """
    if rows_per_part < 1 or workers < 0 or threads < 1:
        raise SettingsError(
            f"rows_per_part and threads must be at least 1, workers at least 0: got {rows_per_part}, {threads} and "
            f"{workers}."
        )
    if out.exists():
        raise SettingsError(f"{out} is there already; delete it, or name another file with --out.")
    folder = out.with_name(f"{out.name}.parts")
    n_parts, n_rows, unread = _cut(folder, rows, {"rows_per_part": rows_per_part, **(about or {})}, together)
    missing = [number for number in range(n_parts) if not _path(folder, number, "json").exists()]
    resumed = sum(_read(folder, number).rows for number in set(range(n_parts)) - set(missing))
    for number in missing:
        _path(folder, number, "tries").unlink(missing_ok=True)
    worker = _Worker(task, folder, on_error, threads)
    went = _over_ray(worker, missing, workers, address) if workers and missing else _here(worker, missing)
    with tqdm(total=n_rows, initial=resumed, unit="row", disable=not progress) as bar, contextlib.closing(went):
        for n_done in went:
            bar.update(n_done)
    return _joined(folder, n_parts, out, n_rows, unread, resumed)


# Parts on disk -------------------------------------------------------------------------------------------------------


def _path(folder: Path, number: int, ending: str) -> Path:
    return folder / f"{number:08}.{ending}"


def _read(folder: Path, number: int) -> _Part:
    return _Part(**json.loads(_path(folder, number, "json").read_text(encoding="utf-8")))


def _cut(
    folder: Path,
    rows: Iterable[tuple[pa.Table, Mapping[str, int]]],
    about: Mapping[str, Any],
    together: Together | None,
) -> tuple[int, int, dict[str, int]]:
    """Number of parts and rows, and what could not be read; parts that are there already are taken as they are."""
    recipe, manifest = folder / "recipe.json", folder / "parts.json"
    if recipe.exists():
        _require_same(json.loads(recipe.read_text(encoding="utf-8")), about, folder)
    if not manifest.exists():
        shutil.rmtree(folder, ignore_errors=True)  # cut in half
        try:
            write_json(recipe, about)
            write_json(manifest, _cut_anew(folder, rows, int(about["rows_per_part"]), together))
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    found = json.loads(manifest.read_text(encoding="utf-8"))
    return found["parts"], found["rows"], found["unread"]


def _cut_anew(
    folder: Path, rows: Iterable[tuple[pa.Table, Mapping[str, int]]], size: int, together: Together | None
) -> dict[str, Any]:
    """Write the files of all parts; what the manifest says of them."""
    unread: Counter[str] = Counter()
    n_parts = n_rows = 0
    for table in _even(rows, size, unread):
        numbers = pa.array(np.arange(n_rows, n_rows + len(table)))
        with whole_file(_path(folder, n_parts, "in.parquet")) as partial:
            pq.write_table(table.append_column(_NUMBER, numbers), partial, compression="zstd")
        n_parts, n_rows = n_parts + 1, n_rows + len(table)
    if not n_rows:
        raise DataError(f"There are no rows to work on{''.join(f'; {n}: {why}' for why, n in unread.items())}.")
    if together is not None and n_parts > 1:
        n_parts = _bring_together(folder, n_parts, size, together)
    return {"parts": n_parts, "rows": n_rows, "unread": dict(unread)}


def _require_same(before: Mapping[str, Any], now: Mapping[str, Any], folder: Path) -> None:
    now = json.loads(json.dumps(now))
    if before != now:
        names = sorted(name for name in {**before, **now} if before.get(name) != now.get(name))
        raise SettingsError(
            f"{folder.name} holds parts of another run: "
            + "; ".join(f"{name} was {before.get(name)!r}, now {now.get(name)!r}" for name in names)
            + ". Run it as before to go on, or delete the folder to start again."
        )


def _even(rows: Iterable[tuple[pa.Table, Mapping[str, int]]], size: int, unread: Counter[str]) -> Iterator[pa.Table]:
    """The same rows in tables of `size`, the last one smaller."""
    waiting: list[pa.Table] = []
    for table, broken in rows:
        unread.update(broken)
        waiting.append(table)
        if sum(map(len, waiting)) >= size:
            whole = _one(waiting)
            full = len(whole) - len(whole) % size
            yield from (whole.slice(start, size) for start in range(0, full, size))
            waiting = [whole.slice(full)]
    if any(map(len, waiting)):
        yield _one(waiting)


def _one(tables: Sequence[pa.Table], schema: pa.Schema | None = None) -> pa.Table:
    """One table of several whose columns may be absent here and of a wider type there."""
    try:
        return pa.concat_tables([*([schema.empty_table()] if schema else []), *tables], promote_options="permissive")
    except pa.ArrowException as error:
        raise DataError(
            f"A column is of one type in some rows and of another in others ({error}): give it one, or leave it out."
        ) from error


def _bring_together(folder: Path, n_parts: int, size: int, together: Together) -> int:
    """Parts anew, so that rows of equal keys share one; their number."""
    if together(pq.read_table(_path(folder, 0, "in.parquet"))) is None:
        return n_parts
    n_groups = min(n_parts, _MOST_GROUPS)
    schema = pq.read_schema(_path(folder, 0, "in.parquet")).append(pa.field("group", pa.int32()))

    def grouped() -> Iterator[pa.RecordBatch]:
        for number in range(n_parts):
            table = pq.read_table(_path(folder, number, "in.parquet"))
            groups = [crc32(key.encode("utf-8", "surrogatepass")) % n_groups for key in together(table) or ()]
            yield from table.append_column("group", pa.array(groups, pa.int32())).cast(schema).to_batches()

    gathered = folder / "groups"
    pyarrow.dataset.write_dataset(
        grouped(),
        gathered,
        schema=schema,
        format="parquet",
        partitioning=["group"],
        max_open_files=2 * n_groups,
        min_rows_per_group=size,  # a few rows of each group come at a time
        max_rows_per_group=max(size, 2**20),
        use_threads=False,  # the order stays
    )
    for number in range(n_parts):
        _path(folder, number, "in.parquet").unlink()
    groups = sorted(gathered.iterdir(), key=lambda group: int(group.name))
    for number, group in enumerate(groups):
        [file] = group.iterdir()
        with whole_file(_path(folder, number, "in.parquet")) as partial:
            file.rename(partial)
    shutil.rmtree(gathered)
    return len(groups)


def _joined(folder: Path, n_parts: int, out: Path, n_rows: int, unread: dict[str, int], resumed: int) -> Done:
    """The parts as one file, and their sums; the folder goes."""
    written = failed = 0
    counts: Counter[str] = Counter()
    schemas: list[pa.Schema] = []
    files = []
    failures = out.with_name(f"{out.name}.failed.jsonl")
    with whole_file(failures) as partial, partial.open("w", encoding="utf-8") as lines:
        for number in range(n_parts):
            part = _read(folder, number)
            written += part.written
            counts.update(part.counts)
            for row, reason in part.failures:
                failed += 1
                lines.write(json.dumps({"row": row, "reason": reason}, ensure_ascii=False) + "\n")
            if (file := _path(folder, number, "out.parquet")).exists():
                files.append(file)
                schema = pq.read_schema(file)
                schemas += [schema] * (schema not in schemas)
    if not failed:
        failures.unlink()
    if not files:
        shutil.rmtree(folder)
        why = [f"{failed} could not be done, see {failures.name}"] * (failed > 0)
        why += [f"{count} {what}" for what, count in counts.items()]
        raise DataError(f"Nothing came of {n_rows} rows: {'; '.join(why) or 'the task gave none'}.")
    whole = _one([schema.empty_table() for schema in schemas]).schema
    write_tables((_one([pq.read_table(file)], whole).cast(whole) for file in files), whole, out)
    shutil.rmtree(folder)
    return Done(n_rows, written, unread, failed, dict(counts), resumed, failures if failed else None)


# One part ------------------------------------------------------------------------------------------------------------


@dataclass
class _Worker:
    """Does one part after another in a process; what the task needs is loaded at the first.

    Attributes:
        task: what to do.
        folder: of the parts.
        on_error: whether a row that cannot be done stops everything.
        threads: of torch.
        work: the task made ready.
    """

    task: Task
    folder: Path
    on_error: OnError
    threads: int
    work: Work | None = None

    def __call__(self, batch: Mapping[str, Sequence[int]]) -> dict[str, list[Any]]:
        """As Ray Data calls it: of one part number, how many rows it has, or why it cannot be done."""
        try:
            return {"rows": [self.do(int(batch["item"][0]))], "error": [""]}
        except PenchantError as error:  # as words: Ray would put tracebacks around it
            return {"rows": [0], "error": [str(error)]}

    def do(self, number: int) -> int:
        """Do a part, unless it is done; how many rows it has.

        Raises:
            DataError: a row cannot be done, or the part has killed one process after the other.
        """
        record = _path(self.folder, number, "json")
        if not record.exists():  # else a process died after its last write
            rows = pq.read_table(_path(self.folder, number, "in.parquet"))
            numbers = rows[_NUMBER].to_numpy()
            self._try(number, numbers)
            with torch_threads(self.threads):
                self.work = self.work or self.task.ready()
            part = _Part(len(rows))
            with torch_threads(self.threads):  # once more: making ready may have been what imported torch
                tables = self._done(self.work, rows.drop_columns(_NUMBER), numbers, part)
            if tables:
                result = _one(tables)
                part.written = len(result)
                with whole_file(_path(self.folder, number, "out.parquet")) as partial:
                    pq.write_table(result, partial, compression="zstd")
            write_json(record, vars(part))
        return _read(self.folder, number).rows

    def _try(self, number: int, numbers: Numbers) -> None:
        """Leave a mark; too many are of processes that died before they could finish."""
        tries = _path(self.folder, number, "tries")
        with tries.open("ab") as marks:
            marks.write(b"x")
            n = marks.tell()
        if n > _TRIES:
            raise DataError(
                f"Rows {numbers[0]} to {numbers[-1]}: {_TRIES} processes died over them, most often for "
                "want of memory. Try fewer workers or a smaller --rows-per-part, or leave out what is longest."
            )

    def _done(self, work: Work, rows: pa.Table, numbers: Numbers, part: _Part) -> list[pa.Table]:
        """What comes of rows; if they cannot be done, of each half, down to the row that is to blame."""
        try:
            result, counts = work(rows, numbers)
        except DataError as error:
            if len(rows) > 1:
                middle = len(rows) // 2
                first = self._done(work, rows.slice(0, middle), numbers[:middle], part)
                return first + self._done(work, rows.slice(middle), numbers[middle:], part)
            if self.on_error == "stop":
                hint = "To leave such rows out and count them use --on-error drop."
                raise DataError(f"Row {numbers[0]}: {error} {hint}") from error
            part.failures.append((int(numbers[0]), str(error)))
            return []
        except PenchantError:
            raise
        except Exception as error:  # no fault of the rows that anybody foresaw
            error.add_note(f"This happened in the rows {numbers[0]} to {numbers[-1]}.")
            raise
        for what, count in counts.items():
            part.counts[what] = part.counts.get(what, 0) + count
        return [result] if len(result) else []


@contextlib.contextmanager
def torch_threads(n: int) -> Iterator[None]:
    """Torch computes with n threads meanwhile: with another number, matrix products differ in their last bits."""
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else n
    if torch:
        torch.set_num_threads(n)
    try:
        yield
    finally:
        if torch:
            torch.set_num_threads(before)


# Here, or over Ray ---------------------------------------------------------------------------------------------------


def _here(worker: _Worker, numbers: Sequence[int]) -> Generator[int, None, None]:
    for number in numbers:
        yield worker.do(number)


def _over_ray(worker: _Worker, numbers: Sequence[int], workers: int, address: str | None) -> Generator[int, None, None]:
    """Rows of each part as some worker finishes it."""
    with cluster(workers * worker.threads, address) as ray:
        parts = ray.data.from_items([{"item": number} for number in numbers], override_num_blocks=len(numbers))
        # Where a worker dies, Ray Data starts another and gives it what the first had not finished.
        results = parts.map_batches(
            _Worker,
            fn_constructor_args=(worker.task, worker.folder.absolute(), worker.on_error, worker.threads),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=workers, initial_size=workers),
            num_cpus=worker.threads,
            num_gpus=min(1.0, ray.cluster_resources().get("GPU", 0) / workers),
        )
        for result in results.iter_rows():
            if result["error"]:
                raise DataError(result["error"])
            yield int(result["rows"])


@contextlib.contextmanager
def cluster(n_cpus: int, address: str | None) -> Iterator[Any]:
    """Ray, connected: as this process is already, to an address, or to a cluster of our own on loopback."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # it reports to nobody that it is used
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # its errors reach us as exceptions
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingExtraError(f"Workers need {error.name}: pip install 'penchant[ray]'.") from error
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # it has a bar and a report of its own
    context = ray.data.DataContext.get_current()
    ours, bars = not ray.is_initialized(), context.enable_progress_bars
    if ours:
        _connect(ray, n_cpus, address)
    context.enable_progress_bars = False
    try:
        with contextlib.redirect_stdout(sys.stderr):  # where it tells of workers that died; ours is for results
            yield ray
    finally:
        context.enable_progress_bars = bars
        if ours:
            ray.shutdown()


def _connect(ray: Any, n_cpus: int, address: str | None) -> None:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        # Without a network between machines Ray listens on loopback only; `_node_ip_address` does not make it. We read
        # this setting, and so does whatever Ray starts, but Ray itself has done so already if somebody imported it.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        ray._private.ray_constants.ENABLE_RAY_CLUSTER = False
        ray.init(
            address="local",  # a new one, even where another runs
            num_cpus=n_cpus,
            include_dashboard=False,
            object_store_memory=2**27,  # the least there can be: only numbers of parts go through it
            runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(sys.path)}},  # a task may come from anywhere
            **quiet,
        )
        if not ray.util.get_node_ip_address().startswith("127."):
            ray.shutdown()
            raise SettingsError("This version of Ray listens on the network. Install another, or give an --address.")
        return
    if address.startswith("ray://"):
        raise SettingsError(
            f"Ray Data does not work over {address!r}, Ray's remote client. Run this on a machine of the cluster "
            "with --address auto."
        )
    try:
        host, colon, port = address.rpartition(":")
        if colon:
            socket.create_connection((host, int(port)), timeout=10).close()  # Ray itself would try for minutes
        ray.init(address=address, **quiet)
    except (OSError, ValueError, RuntimeError) as error:
        raise SettingsError(
            f"No Ray cluster can be reached at {address!r} ({error}). Start one with `ray start --head`, name another, "
            "or leave --address out to use this machine."
        ) from error
