"""Files to rows: the same however a file is cut into blocks and whichever parser reads them, in bounded memory."""

import gzip
import io
import json
import zipfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from penchant.errors import DataError
from penchant.feedback import binary, chunk, reading
from penchant.feedback.chunk import shown
from penchant.feedback.reading import chunks, n_bytes

# Letters that matter to JSON, to lines and to whoever decodes them.
TOKENS = [
    '"a"',
    '"b"',
    ":",
    ",",
    "{",
    "}",
    "[",
    "]",
    "1",
    "-0",
    "0.5",
    "-0.0",
    "1e3",
    "1e999",
    "NaN",
    "true",
    "null",
    "é",
    "//",
]
LINES = [
    '{"a":"x"}\n',
    '{"a":1}\n',
    '{"a":1.5}\n',
    '{"a":{}\n',
    ',"b":"x"}\n',
    '{"a":"\\ud800"}\n',
    '{"a":"\\ud83d\\ude00"}\n',
]
SPACES = ["\n", "\r\n", "\r", " ", "\t", "\x0b", "\0", "\ufeff", '"\n"']
PIECES = st.sampled_from([*TOKENS, *LINES, *SPACES, "9" * 17, "9" * 30])
SOUPS = st.lists(PIECES, max_size=12).map("".join).map(str.encode) | st.binary(max_size=30)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)


def cut(data: bytes, ends: list[int]) -> list[bytes | str]:
    places = sorted({min(end, len(data)) for end in ends} | {0, len(data)})
    return [data[start:stop] for start, stop in pairwise(places) if start < stop]


def by_python(line: bytes) -> Any:
    """What Python makes of a line, types included, as text; None if it is no JSON."""
    try:
        return repr(json.loads(line.decode(), parse_constant=reading._constant))
    except ValueError:
        return None


def rows_of(path: Path) -> list[Any]:
    return [row for chunk in chunks(path) for row in chunk.listed()]


def broken_of(path: Path) -> dict[str, int]:
    found: dict[str, int] = {}
    for part in chunks(path):
        for reason, count in part.broken.items():
            found[reason] = found.get(reason, 0) + count
    return found


@settings(max_examples=400, deadline=None)
@example(soup=b'{"a":1.5}\n{"a":-0}\n')
@example(soup=b'{"a":0.5}\n{"a":9007199254740993}\n')
@example(soup=b'{"a":"x"}{"a":"y"}\n{"a":\n"z"}\n')
@example(soup=b'{"a":{}\n,"b":"x"}\n')
@example(soup=b'{"a":"x"}\n{}\n')
@example(soup=b'{"a":"x"}\n{"a":null}\n')
@example(soup=b'{"a":"\xff"}\n')
@example(soup=b'{"a":1.5}\n{"a":NaN}\n')
@given(soup=SOUPS)
def test_what_arrow_makes_of_lines_is_what_python_makes_of_each(soup: bytes) -> None:
    table = reading._simple(soup)
    if table is not None:
        lines = [line for line in soup.split(b"\n") if line.strip()]
        assert [repr(row) for row in table.to_pylist()] == [by_python(line) for line in lines]


def test_uniform_lines_do_take_the_fast_way() -> None:
    rows = [{"a": f"é\0{i}", "b": i, "c": i / 2} for i in range(100)]
    for line_break in ("\n", "\r\n"):
        table = reading._simple(line_break.join(map(json.dumps, rows)).encode())
        assert table is not None
        assert table.to_pylist() == rows


@settings(max_examples=400, deadline=None)
@given(soup=SOUPS | VALUES.map(json.dumps).map(str.encode))
def test_the_fast_parser_takes_nothing_that_the_other_reads_otherwise(soup: bytes) -> None:
    try:
        found = reading._STRICT.decode(soup)
    except ValueError:
        return
    assert repr(found) == by_python(soup)


@settings(max_examples=200, deadline=None)
@given(
    lines=st.lists(st.binary(max_size=12).filter(lambda line: b"\n" not in line), max_size=12),
    ends=st.lists(st.integers(0, 80), max_size=8),
    most=st.integers(1, 20),
)
def test_lines_do_not_depend_on_blocks_and_those_that_are_too_long_are_counted(
    lines: list[bytes], ends: list[int], most: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunk, "CHUNK_BYTES", most)
        patch.setattr(chunk, "CHUNK_ROWS", 3)
        whole = [line for line in lines if line.strip()]
        assert list(reading._lines(cut(b"\n".join(lines), ends))) == whole
        patch.setattr(reading, "_LONGEST_RECORD", 6)
        found = list(reading._lines(cut(b"\n".join(lines), ends)))
        assert found.count(reading.TOO_LONG) + sum(isinstance(line, bytes) for line in found) <= len(whole) + 1
        assert [line for line in found if isinstance(line, bytes) and len(line) <= 6] == [
            line for line in found if line in whole and len(line) <= 6
        ]


@settings(max_examples=200, deadline=None)
@given(
    values=st.lists(VALUES, max_size=6),
    ends=st.lists(st.integers(0, 120), max_size=8),
    indent=st.sampled_from([None, 1]),
)
def test_an_array_gives_the_same_elements_whatever_its_blocks(values: list[Any], ends: list[int], indent: Any) -> None:
    data = json.dumps(values, indent=indent).encode()
    found = list(reading._json_document(Path("x"), iter(cut(data, ends))))
    rows = [row for chunk in found for row in chunk.listed()]
    broken = sum(sum(chunk.broken.values()) for chunk in found)
    assert rows == [value for value in values if isinstance(value, dict)]
    assert broken == len(values) - len(rows)


@settings(max_examples=200, deadline=None)
@given(
    values=st.lists(st.dictionaries(st.text(max_size=2), VALUES, max_size=2), min_size=1, max_size=5),
    ends=st.lists(st.integers(0, 120), max_size=6),
    share=st.floats(0, 1, exclude_max=True),
)
def test_an_array_that_breaks_off_keeps_what_was_whole_and_counts_the_rest_once(
    values: list[Any], ends: list[int], share: float
) -> None:
    data = json.dumps(values).encode()
    data = data[: 1 + int(share * (len(data) - 1))]
    found = list(reading._json_document(Path("x"), iter(cut(data, ends))))
    rows = [row for chunk in found for row in chunk.listed()]
    assert rows == values[: len(rows)]
    assert sum(sum(chunk.broken.values()) for chunk in found) == 1


def test_a_long_record_of_an_array_is_read_though_it_is_longer_than_many_blocks(tmp_path: Path) -> None:
    rows = [{"a": "x" * 100}, {"a": "y" * (5 << 20)}, {"a": "z"}]
    (tmp_path / "x.json").write_text(json.dumps(rows))
    assert rows_of(tmp_path / "x.json") == rows


# What is small on the disk only ---------------------------------------------------------------------------------------


def test_a_line_that_never_ends_is_one_record_that_is_too_long(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl.gz"
    with gzip.open(file, "wb", compresslevel=1) as out:
        out.write(b'{"a": "x"}\n')
        for _ in range(80):
            out.write(b" " * (1 << 20))
        out.write(b'\n{"a": "y"}\n')
    assert (rows_of(file), broken_of(file)) == ([{"a": "x"}, {"a": "y"}], {reading.TOO_LONG: 1})


@pytest.mark.parametrize("start", [b'[{"a": 1}, {"b": "', b'[{"a": 1}, ' + b"[" * 900 + b'"'])
def test_a_record_of_an_array_that_never_ends_is_given_up(
    tmp_path: Path, start: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_LONGEST_RECORD", 1 << 22)
    (tmp_path / "x.json").write_bytes(start + b"x" * (1 << 24))
    assert rows_of(tmp_path / "x.json") == [{"a": 1}]
    assert sum(broken_of(tmp_path / "x.json").values()) == 1


def test_an_object_that_does_not_fit_into_memory_is_refused_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_LARGEST_OBJECT", 1 << 21)
    (tmp_path / "x.json").write_text('{"data": [' + '{"a": 1},' * 300_000 + '{"a": 2}]}')
    with pytest.raises(DataError, match=r"x\.json is a single JSON object of more than 2 MiB.*jq"):
        list(chunks(tmp_path / "x.json"))


def test_texts_that_a_parquet_file_holds_once_and_names_often_are_written_out_a_few_at_a_time(tmp_path: Path) -> None:
    text = pa.DictionaryArray.from_arrays(pa.array([0, 1, None] * 20_000, pa.int32()), ["x" * (1 << 20), "short"])
    number = pa.array(np.arange(60_000))
    pq.write_table(pa.table({"n": number, "a": text}), tmp_path / "x.parquet", compression="zstd", store_schema=False)
    assert (tmp_path / "x.parquet").stat().st_size < 1 << 20  # of 20 GiB
    seen = 0
    for part in chunks(tmp_path / "x.parquet"):
        table = part.table
        assert table is not None
        assert table.nbytes <= chunk.CHUNK_BYTES + (2 << 20)
        assert table["n"].to_pylist() == list(range(seen, seen + len(table)))
        assert [value and len(value) for value in table["a"].to_pylist()] == [
            (1 << 20, 5, None)[i % 3] for i in range(seen, seen + len(table))
        ]
        seen += len(table)
        if seen > 200:
            return
    raise AssertionError("the file ended early")


def test_an_archive_of_more_than_is_read_at_once_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "x.npz", obs=np.zeros((1 << 20, 4)), acts=np.zeros(1 << 20), indices=np.array([3]))
    monkeypatch.setattr(binary, "_LARGEST_ARCHIVE", 1 << 24)
    with pytest.raises(DataError, match="holds arrays of 40 MiB, more than the 16 MiB"):
        list(chunks(tmp_path / "x.npz"))


def test_an_archive_whose_arrays_lie_about_their_size_is_refused(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (1 << 45,)})
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as out:
        for name in ("obs", "acts", "indices"):
            out.writestr(f"{name}.npy", header.getvalue() + b"\0" * 64)
    with pytest.raises(DataError, match="not one of numpy arrays"):
        list(chunks(tmp_path / "x.npz"))


# Names ----------------------------------------------------------------------------------------------------------------


def test_a_name_is_shown_without_anything_that_a_terminal_would_obey() -> None:
    names = ["a\nb", "\x1b[2Jx", "\u202etxt", "\udcff", "é.csv", "a\\b"]
    assert [shown(Path(name)) for name in names] == ["a\\nb", "\\x1b[2Jx", "\\u202etxt", "\\udcff", "é.csv", "a\\b"]


def test_how_far_reading_has_come_is_known_for_every_form(tmp_path: Path) -> None:
    rows = [{"a": str(i), "b": "x" * 100} for i in range(30_000)]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "x.csv").write_text("a,b\n" + "".join(",".join(row.values()) + "\n" for row in rows))
    (tmp_path / "x.json").write_text(json.dumps(rows))
    (tmp_path / "x.gz").write_bytes(gzip.compress((tmp_path / "x.jsonl").read_bytes(), 1))
    (tmp_path / "set").mkdir()
    for name in ("x.parquet", "set/1.parquet", "set/2.parquet"):
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / name, row_group_size=9_000)
    for name in ("x.jsonl", "x.csv", "x.json", "x.gz", "x.parquet", "set"):
        places = [chunk.at for chunk in chunks(tmp_path / name)]
        assert places == sorted(places)
        assert 0 < places[0] <= places[-1] == n_bytes(tmp_path / name), name
        assert len(set(places)) > 1 or name == "x.gz"  # which is a single block of the disk


def test_columns_of_the_same_name_are_all_kept_under_names_of_their_own(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array([i]) for i in range(4)], names=["a", "a_2", "a", "b"])
    pq.write_table(table, tmp_path / "x.parquet")
    (tmp_path / "x.csv").write_text("a,a_2,a,b\n0,1,2,3\n")
    assert rows_of(tmp_path / "x.parquet") == [{"a": 0, "a_2": 1, "a_3": 2, "b": 3}]
    assert rows_of(tmp_path / "x.csv") == [{"a": "0", "a_2": "1", "a_3": "2", "b": "3"}]
