"""`penchant import`, `export` and `forget`: records into the store or a file, out of it again, or gone."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from tqdm import tqdm

from penchant.apps.outcome import Outcome
from penchant.errors import DataError, PenchantError
from penchant.exchange import writing
from penchant.feedback.chunk import shown
from penchant.feedback.importing import Part, Stream, ahead, stream, together
from penchant.records import Records
from penchant.store import Added, Store

STORE = "sqlite:///penchant.db"
_LARGE = 1 << 25  # bytes of a file that takes long enough to show how far it is


def import_files(
    files: tuple[Path, ...],
    *,
    format: str = "auto",
    store: str = STORE,
    out: Path | None = None,
    mapping: Path | None = None,
    items: Path | None = None,
    source: str | None = None,
) -> Outcome:
    """Read feedback into the store; say what the format is and why, and what was dropped and why.

    Rows that cannot be read are counted by reason and never stop the import. The same file again adds nothing, and an
    import that was stopped or killed goes on where it was.

    Args:
        files: JSON, JSONL, CSV (each also .gz), Parquet, or the folder of a saved `datasets` set.
        format: auto recognises the format by its fields.
        store: where records live: sqlite:///FILE or postgresql+psycopg://USER@HOST/DATABASE.
        out: a file for the records instead of the store: .jsonl, or .parquet for records of one kind.
        mapping: YAML that says which field is which, for a format nobody knows.
        items: a file of texts that the rows name by id.
        source: name of the set; the file's name without it.
    """
    if not files:
        raise DataError("No file was given: penchant import FILE...")
    formats, texts = [], []
    everything, added, records = Part(), Added(), Counter[str]()
    with ExitStack() as open_file:
        put: Callable[[Stream], Iterator[tuple[Part, Added]]]
        if out is None:
            put = partial(_into_store, home=Store(store))
        else:
            put = partial(_into_file, write=open_file.enter_context(writing(out)))
        for file in files:
            rows = stream(file, format=format, mapping=mapping, items=items, source=source)
            whole, stored, held = _watched(rows, file, put(rows))
            everything, added, records = together([everything, whole]), added + stored, records + held
            formats.append(rows.format)
            texts.append(
                f"{shown(file)}: read as {rows.format} ({rows.reason})\n"
                f"  {whole.rows} rows = {whole.kept} kept + {sum(whole.dropped.values())} dropped; "
                + _counted(held)
                + (f"; {stored.new} new in the store" if out is None else f" written to {shown(out)}")
                + f", {stored.known} were there already" * (stored.known > 0)
                + "".join(f"\n  dropped {count}: {reason}" for reason, count in sorted(whole.dropped.items()))
            )
    one = formats[0] if len(set(formats)) == 1 else formats
    data = {"format": one, "rows": everything.rows, "kept": everything.kept, "dropped": dict(everything.dropped)}
    data |= {"records": dict(records)}
    data |= {"new": added.new, "known": added.known} if out is None else {"out": str(out)}
    return Outcome(data, "\n".join(texts))


def _into_store(rows: Stream, home: Store) -> Iterator[tuple[Part, Added]]:
    """Each part of a file once it is on disk."""
    parts: list[Part] = []

    def steps() -> Iterator[list[Records]]:
        for part in rows.parts:
            parts.append(part)
            yield list(part.records.values())

    for added in home.add_steps(steps()):
        yield parts.pop(), added


def _into_file(rows: Stream, write: Callable[[Records], None]) -> Iterator[tuple[Part, Added]]:
    for part in ahead(rows.parts):
        for records in part.records.values():
            write(records)
        yield part, Added()


def _watched(rows: Stream, file: Path, done: Iterator[tuple[Part, Added]]) -> tuple[Part, Added, Counter[str]]:
    """The counts of a whole file, without its records; on a terminal, large files show how far they are."""
    whole, added, held = Part(), Added(), Counter[str]()
    disable = None if rows.n_bytes >= _LARGE else True
    with tqdm(total=rows.n_bytes, desc=shown(file), unit="B", unit_scale=True, disable=disable) as bar:
        for part, step in done:
            bar.update(part.at - bar.n)
            whole, added = together([whole, replace(part, records={})]), added + step
            held.update({kind: len(records) for kind, records in part.records.items()})
    return whole, added, held


def export(user: str | None = None, *, store: str = STORE, out: Path | None = None) -> Outcome:
    """Write everything, or everything that one person left behind; every answer of everybody, as it is kept.

    A file is JSON Lines, each line with its kind, or Parquet. A folder gets a JSON Lines file for each kind of record,
    and for one person a list of what was learnt from them. `penchant import` reads all of it back.

    Args:
        user: whose records; everybody's without it.
        store: where records live.
        out: a file that ends in .jsonl or .parquet (of several kinds: 'votes-{kind}.parquet'), or else a folder;
            `export` or, for a person, a folder named after them without it.
    """
    home = Store(store)
    named = "".join(c if c.isalnum() or c in "-_" else "_" for c in user or "")
    place = out or Path(f"export-{named}" if user is not None else "export")
    written = home.export(place, user=user)
    who = "everybody" if user is None else repr(user)
    return Outcome({"user": user, "out": str(place), "written": written}, f"{who}: {_counted(written)} in {place}")


def _counted(records: Counter[str] | dict[str, int]) -> str:
    return ", ".join(f"{count} {kind} records" for kind, count in records.items())


def forget(user: str, *, store: str = STORE) -> Outcome:
    """Delete a person's records, what was cached and what was learnt from them; models of people stay, without them.

    A model that `penchant learn` made is learnt again from the others: it is then what it would be if the person had
    never been there. A policy that `penchant align` trained cannot unlearn anybody, and is deleted.

    Args:
        user: who is to be forgotten.
        store: where records live.
    """
    from penchant.apps.learn import LEARNT, learn_without  # models take a second, which `import` need not wait for

    home = Store(store)
    notes = {learnt["path"]: learnt["note"] for learnt in home.learnt(user)}
    models = [path for path in notes if (Path(path) / LEARNT).exists()]
    again = []
    for path in models:
        try:
            learn_without(user, Path(path), store=store, doomed=[Path(one) for one in notes if one not in models])
            again.append(path)
        except PenchantError as error:
            notes[path] += f", which cannot be learnt again: {error}"
    gone = home.forget(user, kept=again)
    lines = [
        f"{user!r} is forgotten: {gone}",
        *(f"learnt again without the person: {path}" for path in again),
        *(f"deleted: {path}, {notes[path]}" for path in gone.artefacts),
    ]
    if any(notes[path].endswith(" policy") for path in gone.artefacts):
        lines.append("A policy cannot unlearn a person; `penchant align` trains it again from those who are left.")
    data = {
        "user": user,
        "forgotten": str(gone),
        "records": dict(gone.records),
        "learnt_again": again,
        "deleted": list(gone.artefacts),
        "cached": gone.cached,
    }
    return Outcome(data, "\n".join(lines))
