"""`penchant batch`: sample, score, encode, mine or invent any number of rows, and go on where a run ended."""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

import penchant
from penchant.apps.invent import Invent
from penchant.apps.outcome import Outcome
from penchant.apps.tasks import Encode, Mine, Sample, Score, state_of
from penchant.errors import DataError, SettingsError
from penchant.exchange import FORMS, with_kind
from penchant.feedback.chunk import Chunk
from penchant.feedback.reading import chunks
from penchant.parts import OnError, work_through
from penchant.records import PAYLOADS, canonical_json
from penchant.settings import plain
from penchant.store import Store


def batch(
    task: Literal["sample", "score", "encode", "mine", "personas"],
    file: str,
    *,
    out: Path,
    kind: str | None = None,
    workers: int = 0,
    address: str | None = None,
    threads: int = 1,
    rows_per_part: int = 1000,
    on_error: OnError = "stop",
    sample: Sample = Sample(),
    score: Score = Score(),
    encode: Encode = Encode(),
    mine: Mine = Mine(),
    personas: Invent = Invent(),
) -> Outcome:
    """Do one thing to every row of a file, on this machine or on many; rows keep their columns and get new ones.

    `sample` writes `responses` to each `prompt`; `score` writes `rewards` (or log-probabilities) of answers; `encode`
    writes a `vector` of each text; `mine` makes comparisons out of scored answers, ratings, rankings or edits. One
    after the other they turn prompts into preferences that `penchant align` learns from:

    penchant batch sample prompts.jsonl --out answers.parquet --sample.n 8

    penchant batch score answers.parquet --out scored.parquet --score.model reward/policy

    penchant batch mine scored.parquet --out pairs.parquet

    `personas` turns a line about each of many invented people into their choices between answers to questions, varied
    and consistent, for `penchant align --method fspo` to learn from; they say that they are synthetic:

    penchant batch personas traits.jsonl --out invented.parquet --personas.questions questions.txt

    A run that is stopped or killed goes on when the same command is given again, with the parts that were written.
    `--workers 2` shares them out among two processes over Ray: the same rows in the same order, bit by bit.

    Args:
        task: sample, score, encode, mine or personas.
        file: JSON, JSONL, CSV (each also .gz), Parquet, a folder of Parquet files, or the URL of a store.
        out: the result, .parquet or .jsonl. While it is being made, its parts are in the folder OUT.parts.
        kind: of a store, which kind of record, such as rating.
        workers: Ray workers, each with the model in memory; 0 does all here, without Ray.
        address: of a Ray cluster whose machines see the same folders, auto or HOST:PORT; without it this machine.
        threads: of the processor for each worker; with the same number results agree bit by bit.
        rows_per_part: rows between two writes, all that a crash can lose.
        on_error: stop at the first row that cannot be done, or drop such rows, count them and name them in a file.
        sample: how to sample.
        score: what scores.
        encode: what encodes.
        mine: which pairs.
        personas: who invents whom.
    """
    if out.suffix not in FORMS:
        raise SettingsError(f"--out is {str(out)!r}; its name must end in {' or '.join(FORMS)}.")
    begin = time.perf_counter()
    chosen: Any = {
        "sample": sample,
        "score": score,
        "encode": encode,
        "mine": mine,
        "personas": personas,
    }[task]
    about = {
        "task": task,
        "settings": plain(chosen),
        "file": _identity(file),
        "kind": kind,
        "on_error": on_error,
        "models": [state_of(getattr(chosen, name, None)) for name in ("model", "encoder", "judge", "questions")],
        "penchant": penchant.__version__,
    }
    done = work_through(
        chosen,
        _of_store(file, kind, out) if "://" in file else _of_file(Path(file), on_error),
        out,
        about=about,
        together=getattr(chosen, "together", None),
        rows_per_part=rows_per_part,
        workers=workers,
        address=address,
        threads=threads,
        on_error=on_error,
    )
    seconds = time.perf_counter() - begin
    lines = [f"{task}: {done.rows:,} rows in, {done.written:,} out, in {out} ({seconds:.1f} s)"]
    if done.resumed:
        lines.append(f"went on from {done.resumed:,} rows that an earlier run had done")
    if done.failed:
        lines.append(f"dropped {done.failed:,} rows that could not be done; {done.failures} names each with its reason")
    lines += [f"could not be read: {count} ({reason})" for reason, count in sorted(done.unread.items())]
    lines += [f"{count:,} {what}" for what, count in sorted(done.counts.items())]
    data = {"task": task, **plain(done), "out": out, "seconds": seconds}
    return Outcome(plain(data), "\n".join(lines))


def _identity(file: str) -> list[Any]:
    """By what a resumed run knows that its input is the same."""
    if "://" in file:
        return [file.partition("@")[2] or file]
    return [str(Path(file).resolve()), *state_of(file)]


# Rows to work on -----------------------------------------------------------------------------------------------------


def _of_store(url: str, kind: str | None, out: Path) -> Iterator[tuple[pa.Table, Mapping[str, int]]]:
    home = Store(url)
    held = home.kinds()
    if kind is None and len(held) > 1:
        raise SettingsError(
            f"The store holds {', '.join(f'{n} {name}s' for name, n in held.items())}; name one with --kind."
        )
    seen: set[str] = set()
    for part in home.parts(kind or next(iter(held), "comparison")):
        new = sorted(set(part.users) - seen)
        for ending in ("", ".parts", ".failed.jsonl"):
            # Whoever is forgotten takes what was made of their records along.
            home.derived(out.with_name(f"{out.name}{ending}"), users=new, note="batch")
        seen.update(new)
        yield with_kind(part), {}


def _of_file(path: Path, on_error: OnError) -> Iterator[tuple[pa.Table, Mapping[str, int]]]:
    for chunk in chunks(path):
        if chunk.broken and on_error == "stop":
            reasons = ", ".join(f"{n}: {reason}" for reason, n in chunk.broken.items())
            raise DataError(
                f"Rows of {path.name} cannot be read ({reasons}). To count and leave them out: --on-error drop."
            )
        yield _columns(chunk), chunk.broken


def _columns(chunk: Chunk) -> pa.Table:
    """A chunk with payloads as records have them: text, or the JSON of messages, which `form` then says."""
    if chunk.table is not None:
        columns = {name: chunk.table[name] for name in chunk.table.column_names}
        payloads = [name for name in PAYLOADS if name in columns and not _is_plain(columns[name].type)]
        lists: dict[str, list[Any]] = {name: columns[name].to_pylist() for name in payloads}
    else:
        rows = chunk.listed()
        lists = {name: [row.get(name) for row in rows] for name in dict.fromkeys(name for row in rows for name in row)}
        columns, payloads = {}, [name for name in PAYLOADS if name in lists]
    said = [False] * len(chunk)
    for name in payloads:
        for i, value in enumerate(lists[name]):
            lists[name][i], is_messages = _payload(name, value)
            said[i] = said[i] or is_messages
    if any(said):
        before = lists.get("form") or (columns["form"].to_pylist() if "form" in columns else [None] * len(said))
        lists["form"] = ["messages" if now else form for now, form in zip(said, before, strict=True)]
    made = {name: _array(name, values) for name, values in lists.items()}
    table = pa.table(columns | made)
    return table if chunk.table is None else table.replace_schema_metadata(chunk.table.schema.metadata)


def _is_plain(kind: pa.DataType) -> bool:
    is_texts = pa.types.is_list(kind) and pa.types.is_string(kind.value_type)
    return bool(pa.types.is_string(kind) or is_texts)


def _payload(name: str, value: Any) -> tuple[Any, bool]:
    """The payload as text, or as the JSON of its messages; whether it is messages."""
    if name == "responses" and isinstance(value, list):
        made = [_payload("response", one) for one in value]
        return [text for text, _ in made], any(is_messages for _, is_messages in made)
    if value is None or isinstance(value, str):
        return value, False
    return canonical_json(value), isinstance(value, list)


def _array(name: str, values: list[Any]) -> pa.Array:
    try:
        array = pa.array(values)
    except (pa.ArrowException, UnicodeEncodeError, OverflowError) as error:
        raise DataError(
            f"The column `{name}` does not hold values of one type ({error}). Give it one type, or leave it out."
        ) from error
    if pa.types.is_struct(array.type) and not array.type.num_fields:
        return pa.array([None if value is None else canonical_json(value) for value in values], pa.string())
    return array
