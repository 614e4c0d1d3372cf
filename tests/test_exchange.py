"""Records to files: nothing is lost on the way there and back, and a file is whole or not there."""

import collections
import json
import os
import resource
import subprocess
import sys
from datetime import timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from any_records import SEVERAL
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penchant import exchange
from penchant.errors import DataError, SettingsError
from penchant.exchange import write_tables, writing
from penchant.feedback.importing import read
from penchant.records import KINDS, Comparisons, Conversations, Ratings, canonical_json


def written(path, *parts):
    with writing(path) as write:
        for part in parts:
            write(part)
    return path


def votes(n=3, user="ann"):
    return Comparisons.from_rows([{"prompt": f"q{i}", "chosen": "a", "rejected": "b", "user": user} for i in range(n)])


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(records=SEVERAL, ending=st.sampled_from(exchange.FORMS), cut=st.integers(0, 6))
def test_any_records_come_back_as_they_were_however_they_are_cut(tmp_path, records, ending, cut):
    parts = [records.take(range(min(cut, len(records)))), records.take(range(min(cut, len(records)), len(records)))]
    found = read(written(tmp_path / f"r{ending}", *parts))
    assert (found.format, found.rows, found.dropped) == ("records", len(records), {})
    assert found.records[records.kind].table.equals(records.table)


def test_one_file_of_lines_holds_every_kind_and_gives_each_back(tmp_path):
    rated = Ratings.from_rows([{"prompt": "q", "response": "r", "score": 0.1}])
    found = read(written(tmp_path / "all.jsonl", votes(2), rated, votes(1, "bob")))
    assert found.records["rating"].table.equals(rated.table)
    assert found.records["comparison"].table.equals(Comparisons.concat([votes(2), votes(1, "bob")]).table)


def test_a_parquet_file_holds_one_kind_and_a_pattern_gives_each_kind_its_own(tmp_path):
    rated = Ratings.from_rows([{"prompt": "q", "response": "r", "score": 0.1}])
    with pytest.raises(DataError, match=r"comparison and rating records.*'all-\{kind\}\.parquet'"):
        written(tmp_path / "all.parquet", votes(), rated)
    assert list(tmp_path.iterdir()) == []
    written(tmp_path / "all-{kind}.parquet", votes(), rated, votes())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all-comparison.parquet", "all-rating.parquet"]
    assert pq.read_metadata(tmp_path / "all-comparison.parquet").num_rows == 6
    assert pq.read_schema(tmp_path / "all-rating.parquet").metadata[b"penchant.kind"] == b"rating"
    with pytest.raises(SettingsError, match=r"\.jsonl or \.parquet"):
        written(tmp_path / "all.csv", votes())


def test_what_fails_half_way_leaves_what_was_there_before(tmp_path):
    file = written(tmp_path / "r.jsonl", votes())
    before = file.read_bytes()

    def parts():
        yield votes(5, "bob")
        raise ValueError("something went wrong elsewhere")

    with pytest.raises(ValueError, match="elsewhere"), writing(file) as write:
        collections.deque(map(write, parts()))
    assert (file.read_bytes(), list(tmp_path.iterdir())) == (before, [file])


@pytest.mark.parametrize("ending", exchange.FORMS)
def test_a_full_disk_is_a_clear_error_and_leaves_nothing_half_written(tmp_path, ending):
    file = written(tmp_path / f"r{ending}", votes())
    before = file.read_bytes()
    code = (
        "import sys\nfrom pathlib import Path\nfrom penchant.exchange import writing\n"
        "from penchant.records import Comparisons\n"
        "rows = [{'prompt': f'{i ** 9} ' * 50, 'chosen': 'a', 'rejected': 'b'} for i in range(20_000)]\n"
        "with writing(Path(sys.argv[1])) as write:\n    write(Comparisons.from_rows(rows))\n"
    )
    full = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))}
    done = subprocess.run([sys.executable, "-c", code, file], capture_output=True, text=True, **full)
    assert done.returncode == 1
    assert f"StorageError: {file} could not be written: File too large" in done.stderr
    assert (file.read_bytes(), list(tmp_path.iterdir())) == (before, [file])


JSON_VALUES = st.recursive(
    st.none() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=6,
)
ODD = ["[1e16]", "[1e+16]", "[NaN]", '[{"b":1,"a":2}]', '[{"a":1,"a":1}]', "[1, 2]", '["\\u000B"]', '["\\u00e9"]']


@settings(deadline=None)
@given(text=st.text(max_size=8) | JSON_VALUES.map(canonical_json) | st.sampled_from(ODD))
def test_a_payload_is_written_as_a_list_only_if_it_reads_back_to_the_letter(text):
    value = exchange._message_list(text)
    inside = json.loads(exchange._encode({"prompt": value}))["prompt"]
    if isinstance(inside, str):
        assert inside == text
        assert not text.startswith("[") or canonical(text) != text
    else:
        assert canonical_json(inside) == text


def canonical(text):
    try:
        return canonical_json(json.loads(text))
    except ValueError:
        return None


def test_messages_are_written_as_lists_and_read_back_as_they_were(tmp_path):
    prompt = canonical_json([{"role": "user", "content": "hi"}])
    answer = canonical_json([{"role": "assistant", "content": "", "tool_calls": [{"id": 1, "p": 1e16}]}])
    records = Comparisons.from_rows([{"prompt": prompt, "chosen": answer, "rejected": "[NaN]", "form": "messages"}])
    file = written(tmp_path / "m.jsonl", records)
    assert json.loads(file.read_text())["prompt"] == [{"content": "hi", "role": "user"}]
    assert read(file).records["comparison"].table.equals(records.table)
    whole = Conversations.from_rows([{"messages": prompt, "user": "ann"}])
    file = written(tmp_path / "c.jsonl", whole)
    assert json.loads(file.read_text())["messages"] == [{"content": "hi", "role": "user"}]
    assert read(file).records["conversation"].table.equals(whole.table)


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1.0, float("nan")]),
        pa.array([[[1.0]], [[float("-inf")]]]),
        pa.array([{"a": float("nan")}, None]),
        pa.array([b"x", None]),
        pa.array([timedelta(1), None]),
    ],
    ids=lambda column: str(column.type),
)
def test_what_json_cannot_give_back_is_refused_and_parquet_takes_it(tmp_path, column):
    table = pa.table({"fine": ["a", "b"], "it": column})
    with pytest.raises(DataError, match=r"`it` .*write Parquet instead"):
        write_tables([table], table.schema, tmp_path / "t.jsonl")
    write_tables([table, table], table.schema, tmp_path / "t.parquet")
    assert pq.read_table(tmp_path / "t.parquet").num_rows == 4
    assert os.listdir(tmp_path) == ["t.parquet"]


def test_every_kind_of_record_is_known_by_its_own_columns():
    from penchant.feedback.formats.native import _kind

    for kind in KINDS.values():
        assert _kind(kind.schema.names) is kind
        required = [field.name for field in kind.schema if not field.nullable]
        assert _kind(["kind", *required], kind.kind) is kind
        assert _kind(required) is None
