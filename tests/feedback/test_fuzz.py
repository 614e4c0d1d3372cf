"""Thousands of damaged files of every format: none may stop an import, and every row stays accounted for.

Each case is made from a valid sample by a seeded mutation; a failure prints the seed, and the file lies in its folder.
"""

import contextlib
import gzip
import io
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from format_samples import SAMPLES

from penchant.errors import PenchantError, SettingsError
from penchant.feedback import importing
from penchant.feedback.formats import FORMATS, Fields, Given, Items, Look, RowError
from penchant.feedback.formats.mapping import mapped
from penchant.feedback.importing import Imported, read
from penchant.records import KINDS
from penchant.settings import read_recipe

ROUNDS = 16  # mutated files of each form for each format
DEEP = 50_000
# JSON texts that are put in place of a value; most are legal JSON that no converter expects.
HOSTILE = [
    "null",
    "true",
    "-1",
    "0",
    '""',
    "[]",
    "{}",
    "NaN",
    "-Infinity",
    "1e999",
    "9" * 5000,
    "9" * 400,
    "-0.0",
    '"\\ud800"',
    '"\\u0000"',
    '"' + "x" * 5000 + '"',
    "[[[[[[1]]]]]]",
    '{"a":{"b":{"role":1}}}',
    '[{"role":"user"}]',
    '[{"role":"user","content":5},3]',
    '{"answer":null,"Rating":[],"response":7}',
    '"__proto__"',
    '"2001-99-99"',
    "[null,null]",
    "[1e308,1e308]",
    "[" * DEEP + "]" * DEEP,
]
KEYS = [
    "",
    "\ud800",
    "extra",
    "source",
    "user",
    "timestamp",
    "form",
    "__class__",
    "x" * 3000,
    "a\nb",
    "prompt",
    "label",
]
NAMES = [
    "$(touch pwned).jsonl",
    "; rm -rf x.jsonl",
    "a\nb.jsonl",
    "-rf.jsonl",
    "\u202etxt.jsonl",
    "%s%n{0}.jsonl",
    " .jsonl",
    "'\"`.jsonl",
    "x" * 200 + ".jsonl",
    "*.jsonl",
    "\udcff\udcfe.jsonl",
]


def assert_exact(imported: Imported) -> None:
    assert imported.kept + sum(imported.dropped.values()) == imported.rows
    assert all(count > 0 for count in (*imported.dropped.values(), *imported.partial.values()))
    assert bool(imported.records) == (imported.kept > 0)
    assert all(isinstance(part, KINDS[kind]) and len(part) for kind, part in imported.records.items())


def try_read(file: Path, **settings: Any) -> Imported | None:
    """What came of a file, or None if it was refused as a whole; any other exception fails the test."""
    with contextlib.suppress(PenchantError):
        imported = read(file, **settings)
        assert_exact(imported)
        return imported
    return None


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value inside a row."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] + [place for key, each in inner for place in places(each, (*path, key))]


def changed(row: Any, rng: random.Random) -> str:
    """The JSON of a row in which something was replaced, removed, renamed or added."""
    row = json.loads(json.dumps(row))
    *way, last = rng.choice([place for place in places(row) if place])
    inside = row
    for step in way:
        inside = inside[step]
    action = rng.randrange(4)
    if action == 0:
        del inside[last]
    elif action == 1 and isinstance(inside, dict):
        inside[rng.choice(KEYS)] = inside.pop(last)
    elif action == 2:
        row[rng.choice(KEYS)] = inside[last]
    inside = inside if action in (1, 2) or isinstance(inside, dict) else [*inside]
    if action == 3:
        parent = row
        for step in way:
            parent = parent[step]
        parent[last] = "@HOSTILE@"
    return json.dumps(row).replace('"@HOSTILE@"', rng.choice(HOSTILE))


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Bytes that were flipped, cut, doubled, inserted or removed."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        action = rng.randrange(5)
        if action == 0 and at < len(data):
            data[at] ^= rng.randint(1, 255)
        elif action == 1:
            del data[at:]
        elif action == 2:
            data[at:at] = data[: rng.randrange(len(data) + 1)]
        elif action == 3:
            data[at:at] = rng.choice(
                [b"\0", b"\xff\xfe", b'"', b"\n", b"\r", b"[", b"{", b"\xed\xa0\x80", b"\\u", b","]
            )
        else:
            del data[at : at + rng.randint(1, 30)]
    return bytes(data)


def encoded(form: str, rows: list[dict[str, Any]], rng: random.Random) -> bytes:
    """A valid file of some rows, in one of several forms."""
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    if form == "json":
        return json.dumps(rows, indent=rng.choice([None, 1])).encode()
    if form == "csv":
        names = list(dict.fromkeys(name for row in rows for name in row))
        cells = [[json.dumps(row.get(name)).strip('"') for name in names] for row in rows]
        quoted = [[f'"{cell}"' if "," in cell or '"' in cell else cell for cell in row] for row in cells]
        return "\n".join(",".join(row) for row in [names, *quoted]).encode()
    return gzip.compress(lines) if form == "jsonl.gz" else lines


@pytest.mark.parametrize("name", SAMPLES)
def test_rows_with_wrong_values_are_kept_or_counted_and_never_raise(tmp_path: Path, name: str) -> None:
    rng = random.Random(f"values {name}")
    sound = [json.dumps(row) for row in SAMPLES[name]]
    for case in range(ROUNDS):
        broken = [changed(rng.choice(SAMPLES[name]), rng) for _ in range(rng.randint(1, 6))]
        rows = [*sound, *broken]
        file = tmp_path / f"{case}.jsonl"
        file.write_text("\n".join(rows) + "\n")
        for settings in ({}, {"format": name}):
            imported = try_read(file, **settings)
            # Fields of which most are damaged may not be recognised; asked for by name, the sound rows must be kept.
            assert imported is not None or not settings, f"{name}, case {case}"
            if imported is not None:
                assert imported.rows == len(rows), f"{name}, case {case}"


@pytest.mark.parametrize("form", ["jsonl", "jsonl.gz", "json", "csv"])
def test_damaged_bytes_in_any_form_never_raise_and_lose_no_row_uncounted(tmp_path: Path, form: str) -> None:
    rng = random.Random(f"bytes {form}")
    n_read = 0
    for name, rows in SAMPLES.items():
        for case in range(ROUNDS // 2):
            file = tmp_path / f"{name}-{case}.{form}"
            content = damaged(encoded(form, rows * rng.randint(1, 5), rng), rng)
            file.write_bytes(content)
            for settings in ({}, {"format": name}):
                imported = try_read(file, **settings)
                if imported is not None and form == "jsonl" and not content.startswith((b"\xff\xfe", b"\x1f\x8b")):
                    assert imported.rows == sum(bool(line.strip()) for line in content.split(b"\n")), file.name
                n_read += imported is not None
    assert n_read > 100  # most damage leaves something to read


def test_damaged_parquet_and_numpy_files_never_raise(tmp_path: Path) -> None:
    rng = random.Random("columns")
    table = pa.Table.from_pylist(SAMPLES["interactions"] * 40)
    contents = []
    for compression in ("none", "snappy"):
        buffer = io.BytesIO()
        pq.write_table(table, buffer, row_group_size=10, compression=compression, write_page_checksum=True)
        contents.append(buffer.getvalue())
    for save in (np.savez, np.savez_compressed):
        buffer = io.BytesIO()
        save(buffer, obs=np.zeros((9, 2)), acts=np.zeros(7), rews=np.zeros(7), indices=np.array([3]))
        contents.append(buffer.getvalue())
    for case in range(150):
        file = tmp_path / f"{case}.data"
        file.write_bytes(damaged(contents[case % 4], rng))
        try_read(file)


def test_values_of_any_python_type_become_records_or_reasons() -> None:
    rng = random.Random("types")
    values = [
        None,
        b"\xff",
        float("nan"),
        float("inf"),
        10**5000,
        "\ud800",
        object,
        ...,
        {1: 2},
        {3},
        (),
        -(2**70),
        "N/A",
    ]
    values += [np.float64(2), [{}], [[]], {"role": 3}, [{"role": "user", "content": "x"}, None], True, "1" * 5000]
    items = Items("items", {"31": {"text": "x"}, "7": {"text": None}, "a/0": {"input": []}, "81": {"turns": [3]}})
    n_cases = 0
    for each in FORMATS:
        for sample in SAMPLES[each.name]:
            for _ in range(60):
                row = {name: rng.choice(values) if rng.random() < 0.3 else value for name, value in sample.items()}
                each.recognise(Look.at([row]))
                with contextlib.suppress(RowError, *importing._STRUCTURE):
                    each.convert(Fields(row), Given(rng.choice([None, items])))
                n_cases += 1
    assert n_cases > 2000


CELLS = [
    "7",
    "a",
    "",
    " 8 ",
    "1e3",
    "+5",
    "-.5",
    "1_000",
    "1e999",
    "nan",
    "inf",
    "-Infinity",
    "\u0661",
    "0x10",
    "1,5",
    "31",
]
CELLS += [
    "Human: x",
    "[1]",
    '[{"role":"user","content":"x"}]',
    " Human:",
    "12609600000000",
    "2009-12-14",
    "9" * 30,
    "é\u2028",
]


@pytest.mark.parametrize(
    "names", ["user item rating", "user_id joke score timestamp", "uid asin event", "uid asin weight"]
)
@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_the_column_form_and_the_row_form_give_the_same_records_and_reasons(
    tmp_path: Path, names: str, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_forms_agree(tmp_path, names.split(), form, monkeypatch, "interactions")


@pytest.mark.parametrize("names", ["prompt chosen rejected", "prompt chosen rejected annotator"])
@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_the_column_form_and_the_row_form_give_the_same_pairs(
    tmp_path: Path, names: str, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_forms_agree(tmp_path, names.split(), form, monkeypatch, "pairs")


def assert_forms_agree(folder: Path, names: list[str], form: str, patch: pytest.MonkeyPatch, format: str) -> None:
    rng = random.Random(f"forms {names} {form}")
    (folder / "jokes.jsonl").write_text('{"joke": "7", "text": "seven"}\n{"joke": 31, "text": "more"}\n')
    for case in range(20):
        cells: list[Any] = rng.choice([CELLS, CELLS[:6], ["7", "31", None], [7, 31, None, -(2**60)], [7.0, 1.5, 1e300]])
        if form == "csv":
            cells = [cell for cell in cells if isinstance(cell, str) and not cell.startswith("[")]
        cells = cells or ["7"]
        columns = {name: [rng.choice(cells) for _ in range(30)] for name in names}
        table = pa.table(columns)
        file = folder / f"{case}.{form}"
        if form == "parquet":
            pq.write_table(table, file)
        elif form == "csv":
            file.write_text(
                "\n".join([",".join(names), *(",".join(f'"{c}"' for c in row.values()) for row in table.to_pylist())])
            )
        else:
            file.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
        by_column = read(file, format=format)
        with patch.context() as without:
            without.setattr(importing, "_column", lambda *_: None)
            by_row = read(file, format=format)
        assert (by_column.dropped, by_column.rows, by_column.kept) == (by_row.dropped, by_row.rows, by_row.kept), case
        for kind, part in by_row.records.items():
            assert by_column.records[kind].table.to_pylist() == part.table.to_pylist(), case


@pytest.mark.parametrize("name", NAMES)
def test_hostile_file_names_are_only_names(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_text(json.dumps(SAMPLES["pairs"][0]) + "\n")
    before = sorted(tmp_path.iterdir())
    imported = read(name)
    assert (imported.kept, sorted(tmp_path.iterdir())) == (1, before)
    imported.records["comparison"].table["source"][0].as_py().encode()
    Path(name).write_text('{"nobody": "knows"}\n')
    with pytest.raises(PenchantError) as caught:
        read(name)
    str(caught.value).encode()


def test_hostile_mappings_are_refused_in_words(tmp_path: Path) -> None:
    rng = random.Random("yaml")
    bomb = "a: &a [x,x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)},*{chr(97 + i)}]\n" for i in range(20)
    )
    texts = [
        bomb,
        "kind: rating\n<<: {prompt: x}\n",
        "!!python/object/new:os.system [echo]\n",
        "kind: !!binary x\n",
        "? [1, 2]\n: 3\n",
        "? {a: b}\n: 3\n",
        "kind: rating\nvalues: {score: {[1]: 2}}\n",
        "kind: rating\nvalues: {score: [1]}\n",
        "kind: rating\nconstants: [1]\n",
        "kind: rating\nconstants: {low: {}}\n",
        "kind: 1:99:99\nprompt: 0x\n",
        "kind: .inf\n",
        "kind: [comparison]\n",
        "\0",
        "\ufeffkind: \x85rating\n",
        "%YAML 9.9\n---\nkind: rating\n",
        "--- 1\n--- 2\n",
        "kind: rating\n" + "a: " * 50,
        "a" * 60_000,
        "- " * 3000,
        "{" * 3000,
    ]
    sound = "kind: comparison\nprompt: task.q\nfirst: a\nsecond: b\nwinner: {1: a, 2: b}\nconstants: {aspect: c}\n"
    contents = [text.encode() for text in texts] + [damaged(sound.encode(), rng) for _ in range(300)]
    n_refused = 0
    for number, content in enumerate(contents):
        file = tmp_path / f"{number}.yaml"
        file.write_bytes(content)
        try:
            own = mapped(*read_recipe(file))
        except SettingsError:
            n_refused += 1
            continue
        row = {"task": {"q": "q"}, "a": "x", "b": "y", "winner": rng.choice([1, 2, None, [], "x"])}
        with contextlib.suppress(RowError):
            own.convert(Fields(row), Given())
    assert n_refused >= len(texts)


def test_mutations_really_damage_what_they_are_given() -> None:
    rng = random.Random(0)
    row = SAMPLES["pairs"][0]
    assert sum(changed(row, rng) != json.dumps(row) for _ in range(50)) > 40
    assert sum(damaged(b"x" * 100, rng) != b"x" * 100 for _ in range(50)) > 40
