"""Import: comparisons a second from JSON Lines into Parquet and into SQLite, the memory that takes, and export.

    python benchmarks/import.py [--quick] [--json -]

Ours is the code behind `penchant import`: recognise the format, check every row, count what is dropped; into SQLite
also give every row its identity, so that importing again adds nothing. The peer, where `datasets` is installed, is
`load_dataset("json")` and `to_parquet`: the same file in, the same columns out, nothing recognised or checked. Rows
are a prompt of 12 words, two answers of 30 and a user, made here. Each run has a process of its own; timed is from the
file to the file, without imports. Agreement comes first: on 2,000 rows all three must give back what was written.

Export is `penchant export` of a store with 50,000 answers, five people's to each question; every one of them must be in
the file.
"""

import importlib.util
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import numpy as np
from paired import Found, Result, Stopwatch, Work, alternate, apart, arguments, peak_mib

COLUMNS = ("prompt", "chosen", "rejected", "user")
TRIAL = 2_000
ANSWERS, ANNOTATORS = 50_000, 5
SIZES = {"1e5": 100_000, "1e6": 1_000_000}


def rows(n: int) -> Iterator[dict[str, str]]:
    """Comparisons of different random words, by a tenth as many people."""
    rng = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = ["".join(rng.choice(letters, size)) for size in rng.integers(2, 10, 5_000)]
    # Few sentences in many combinations: to draw words for a million rows would take longer than to import them.
    prompts, answers = ([" ".join(rng.choice(words, size)) for _ in range(4_096)] for size in (12, 30))
    drawn = rng.integers(4_096, size=(n, 3)).tolist()
    for number, (prompt, better, worse) in enumerate(drawn):
        yield {
            "prompt": f"{prompts[prompt]}?",
            "chosen": f"{answers[better]} {number}.",
            "rejected": f"{answers[worse]}.",
            "user": f"user {number % (n // 10)}",
        }


def write(n: int, path: Path) -> Path:
    """So many rows as JSON Lines."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows(n))
    return path


def to_parquet(source: Path, folder: Path) -> Path:
    """Ours, into Parquet."""
    from penchant.apps.records import import_files

    import_files((source,), out=folder / "ours.parquet")
    return folder / "ours.parquet"


def to_sqlite(source: Path, folder: Path) -> Path:
    """Ours, into the store."""
    from penchant.apps.records import import_files

    import_files((source,), store=f"sqlite:///{folder}/penchant.db")
    return folder / "penchant.db"


def by_datasets(source: Path, folder: Path) -> Path:
    """The peer's, into Parquet; without what it remembers of an earlier run."""
    import datasets

    table = datasets.load_dataset("json", data_files=str(source), split="train", cache_dir=str(folder / "cache"))
    table.to_parquet(folder / "peer.parquet")
    return folder / "peer.parquet"


WAYS = {"parquet": to_parquet, "sqlite": to_sqlite, "peer": by_datasets}


def content(path: Path) -> list[tuple[str, ...]]:
    """The rows of a file that one of the three wrote."""
    import pyarrow.parquet as pq

    from penchant.store import Store

    if path.suffix == ".jsonl":
        lines = path.read_text(encoding="utf-8").splitlines()
        return [tuple(row[name] for name in COLUMNS) for row in map(json.loads, lines)]
    is_store = path.suffix == ".db"
    table = Store(f"sqlite:///{path}").records("comparison").table if is_store else pq.read_table(path)
    return list(zip(*(table[name].to_pylist() for name in COLUMNS), strict=True))


def agreement(ways: list[str]) -> Found:
    """Of each way, how many rows of a small file it does not give back."""
    with tempfile.TemporaryDirectory() as folder:
        source = write(TRIAL, Path(folder) / "trial.jsonl")
        wanted = [tuple(row.values()) for row in rows(TRIAL)]
        found = {way: content(WAYS[way](source, Path(folder))) for way in ways}
    wrong = {
        way: sum(a != b for a, b in zip(got, wanted, strict=False)) + abs(len(got) - TRIAL)
        for way, got in found.items()
    }
    return {"rows_that_differ": wrong}


def timed(work: Work) -> Found:
    """One way on one file, in a process of its own."""
    way = WAYS[work["way"]]
    with tempfile.TemporaryDirectory() as folder:
        first = Path(folder) / "first"
        first.mkdir()
        way(write(10, first / "ten.jsonl"), first)  # so that its modules are there
        with Stopwatch() as watch:
            way(Path(work["source"]), Path(folder))
    return {
        "wall": watch.wall,
        "cpu": watch.cpu,
        "peak_mib": peak_mib(),
        "rows_per_second": work["rows"] / watch.wall,
    }


def exported(n: int) -> Found:
    """Seconds to write all answers of a store to a file of each form, and how many are not in it as they were."""
    from penchant.apps.records import export, import_files

    answers = [
        {**row, "prompt": f"{number // ANNOTATORS}?", "user": f"{number % ANNOTATORS} of {number // (10 * ANNOTATORS)}"}
        for number, row in enumerate(rows(n))
    ]
    wanted = {tuple(row.values()) for row in answers}
    found: Found = {}
    with tempfile.TemporaryDirectory() as folder:
        source, url = Path(folder) / "answers.jsonl", f"sqlite:///{folder}/penchant.db"
        source.write_text("".join(json.dumps(row) + "\n" for row in answers), encoding="utf-8")
        import_files((source,), store=url)
        for form in ("jsonl", "parquet"):
            out = Path(folder) / f"all.{form}"
            export(store=url, out=out)  # so that its modules are there
            with Stopwatch() as watch:
                export(store=url, out=out)
            found |= {f"{form}_wall": watch.wall, f"{form}_cpu": watch.cpu}
            found[f"{form}_differ"] = len(set(content(out)) ^ wanted)
    return found


def main() -> None:
    """Agreement first, then 1e5 rows and, in the full form, 1e6."""
    asked = arguments(str(__doc__))
    if asked.work:
        if "ways" in asked.work:
            found = agreement(asked.work["ways"])
        else:
            found = exported(asked.work["answers"]) if "answers" in asked.work else timed(asked.work)
        print(json.dumps(found))
        return
    has_peer = importlib.util.find_spec("datasets") is not None
    ways = [way for way in WAYS if way != "peer" or has_peer]
    result = Result("import", quick=asked.quick, repeats=2 if asked.quick else 3, peers=("pyarrow", "datasets"))
    result.numbers |= apart({"ways": ways})
    for size, n in SIZES.items():
        for name in (f"memory_{size}_mib", f"parquet_ratio_{size}", f"parquet_memory_ratio_{size}"):
            result.refuse(name, "not in the quick form" if has_peer else "`datasets` is not installed")
        if not (asked.quick and n > SIZES["1e5"]):
            measure(size, n, ways, result)
    small, large = result.numbers["memory_1e5_mib"], result.numbers["memory_1e6_mib"]
    if small and large:
        result.number("memory_growth", large / small)
    else:
        result.refuse("memory_growth", "not in the quick form")
    measure_export(result)
    result.report(asked)


def measure_export(result: Result) -> None:
    """All answers of 50,000, out of the store."""
    turns = alternate({"export": {"answers": ANSWERS}}, result.numbers["repeats"])
    result.keep("export", turns)
    for form, name in (("jsonl", "export_50000_seconds"), ("parquet", "export_50000_parquet_seconds")):
        differ = max(one[f"{form}_differ"] for one in turns["export"])
        if differ:
            result.refuse(name, f"{differ} answers are not as they were")
        else:
            result.number(name, median(one[f"{form}_wall"] for one in turns["export"]))
            result.number(f"{name}_cpu", median(one[f"{form}_cpu"] for one in turns["export"]))


def measure(size: str, n: int, ways: list[str], result: Result) -> None:
    """One size of file: all ways, turn by turn. Speeds are those of the largest file measured."""
    with tempfile.TemporaryDirectory() as folder:
        print(f"{n} rows", file=sys.stderr)
        source = write(n, Path(folder) / "rows.jsonl")
        works = {way: {"way": way, "source": str(source), "rows": n} for way in ways}
        turns = alternate(works, result.numbers["repeats"])
    result.keep(size, turns)
    for way in ("parquet", "sqlite"):
        if result.numbers["rows_that_differ"][way]:
            result.refuse(f"{way}_rows_per_second", "what was imported is not what was written")
            continue
        result.numbers[f"{way}_rows_per_second"] = median(one["rows_per_second"] for one in turns[way])
        result.numbers[f"{way}_memory_{size}_mib"] = median(one["peak_mib"] for one in turns[way])
        largest = max(result.numbers[f"memory_{size}_mib"] or 0.0, result.numbers[f"{way}_memory_{size}_mib"])
        result.number(f"memory_{size}_mib", largest)
    if "peer" not in turns:
        return
    result.numbers[f"peer_memory_{size}_mib"] = median(one["peak_mib"] for one in turns["peer"])
    if any(result.numbers["rows_that_differ"].values()):
        for name in (f"parquet_ratio_{size}", f"parquet_memory_ratio_{size}"):
            result.refuse(name, f"rows that differ: {result.numbers['rows_that_differ']}")
        return
    peer, ours = turns["peer"], turns["parquet"]
    result.speed(f"parquet_ratio_{size}", peer, ours)
    result.ratio(f"parquet_memory_ratio_{size}", [o["peak_mib"] for o in ours], [p["peak_mib"] for p in peer])


if __name__ == "__main__":
    main()
