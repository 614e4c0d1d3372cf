"""`penchant import`, `export` and `forget`: records into the store, one person's records out of it, or gone."""

from pathlib import Path

from penchant.apps.outcome import Outcome
from penchant.errors import DataError, PenchantError
from penchant.feedback.importing import read
from penchant.store import Store

STORE = "sqlite:///penchant.db"


def import_files(
    files: tuple[Path, ...],
    *,
    format: str = "auto",
    store: str = STORE,
    mapping: Path | None = None,
    items: Path | None = None,
    source: str | None = None,
) -> Outcome:
    """Read feedback into the store; say what the format is and why, and what was dropped and why.

    Rows that cannot be read are counted by reason and never stop the import. The same file again adds nothing.

    Args:
        files: JSON, JSONL, CSV (each also .gz), Parquet, or the folder of a saved `datasets` set.
        format: auto recognises the format by its fields.
        store: where records live: sqlite:///FILE or postgresql+psycopg://USER@HOST/DATABASE.
        mapping: YAML that says which field is which, for a format nobody knows.
        items: a file of texts that the rows name by id.
        source: name of the set; the file's name without it.
    """
    if not files:
        raise DataError("No file was given: penchant import FILE...")
    home = Store(store)
    formats, texts = [], []
    kept, dropped, added = 0, dict[str, int](), 0
    records: dict[str, int] = {}
    for file in files:
        imported = read(file, format=format, mapping=mapping, items=items, source=source)
        new = 0
        for kind, part in imported.records.items():
            records[kind] = records.get(kind, 0) + len(part)
            new += home.add(part).new
        added += new
        kept += imported.kept
        formats.append(imported.format)
        for reason, count in imported.dropped.items():
            dropped[reason] = dropped.get(reason, 0) + count
        texts.append(
            f"{file.name}: read as {imported.format} ({imported.reason})\n"
            f"  {imported.rows} rows = {imported.kept} kept + {sum(imported.dropped.values())} dropped; "
            + ", ".join(f"{len(part)} {kind} records" for kind, part in imported.records.items())
            + f"; {new} new in the store"
            + "".join(f"\n  dropped {count}: {reason}" for reason, count in sorted(imported.dropped.items()))
        )
    one = formats[0] if len(set(formats)) == 1 else formats
    data = {"format": one, "kept": kept, "dropped": dropped, "records": records, "new": added}
    return Outcome(data, "\n".join(texts))


def export(user: str, *, store: str = STORE, folder: Path | None = None) -> Outcome:
    """Write everything a person left behind, as JSON Lines, one file for each kind of record.

    Args:
        user: whose records.
        store: where records live.
        folder: where to write; a folder named after the person without it.
    """
    home = Store(store)
    place = folder or Path(f"export-{''.join(c if c.isalnum() or c in '-_' else '_' for c in user)}")
    written = home.export(user, place)
    return Outcome({"user": user, "folder": str(place), "written": written}, f"{user!r}: {written} in {place}")


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
