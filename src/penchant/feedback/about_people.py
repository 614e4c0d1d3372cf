r"""What is known of people besides their feedback (age, place, work), from a table with a row for each person.

>>> import tempfile
>>> file = Path(tempfile.mkdtemp()) / "users.jsonl"
>>> _ = file.write_text('{"user_id": 7, "age": "35-39", "work": null}\n{"user_id": 8, "age": "18-24"}\n')
>>> about_people(file)
{'7': {'age': '35-39'}, '8': {'age': '18-24'}}
"""

from pathlib import Path
from typing import Any

from penchant.errors import DataError
from penchant.feedback.chunk import shown
from penchant.feedback.formats.layout import USER_NAMES, as_word, is_missing, plain
from penchant.feedback.reading import chunks

_BESIDE = tuple(
    f"{stem}{ending}" for stem in ("users", "people") for ending in (".jsonl", ".csv", ".jsonl.gz", ".csv.gz")
)


def about_people(path: Path) -> dict[str, dict[str, Any]]:
    """Person -> what a file says of them, missing values left out.

    Args:
        path: JSON, JSON Lines, CSV or Parquet with a field that names the person, such as `user` or `user_id`.

    Raises:
        DataError: the file cannot be read, or no row names a person.
    """
    found: dict[str, dict[str, Any]] = {}
    for part in chunks(path):
        for row in part.listed():
            key = next((name for name in row if plain(name) in USER_NAMES), None)
            who = as_word(row[key]) if key else None
            if who is not None:
                found[who] = {name: value for name, value in row.items() if name != key and not is_missing(value)}
    if not found:
        raise DataError(f"{shown(path)} names no people: each row needs a `user` beside what is known of them.")
    return found


def beside(path: Path) -> Path | None:
    """The file on people that lies beside a file of feedback, such as `users.jsonl`, if there is one."""
    return next((path.parent / name for name in _BESIDE if (path.parent / name).is_file()), None)
