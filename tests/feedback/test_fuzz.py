"""Hundreds of malformed files of every format, and any text at all: none may stop an import, and every row counts.

`malformed.py` makes them, and as a command imports ten thousand. A failure prints the seed that makes the file again.
"""

import contextlib
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from format_samples import SAMPLES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from malformed import DAMAGES, FORMS, assert_exact, attempt, changed, damaged, made

from penchant.errors import PenchantError, SettingsError
from penchant.feedback import importing
from penchant.feedback.formats import FORMATS, Fields, Given, Items, Look, RowError
from penchant.feedback.formats.mapping import mapped
from penchant.feedback.importing import read
from penchant.settings import read_recipe
from penchant.store import Store

N_EACH = 10  # malformed files made from the samples of each format
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


@pytest.fixture(scope="module")
def home() -> Store:
    return Store("sqlite://")


@pytest.mark.parametrize("name", SAMPLES)
def test_malformed_files_are_kept_or_counted_row_by_row_and_never_raise(tmp_path: Path, home: Store, name: str) -> None:
    for seed in range(N_EACH):
        case = made(seed, tmp_path, format=name)
        for asked in ({}, {"format": name}):
            found = attempt(case, home, **asked)
            # Fields of which most are damaged may not be recognised; asked for by name, whole lines must be read.
            if asked and case.damage == "values" and case.form.startswith("jsonl"):
                assert found is not None, case
                assert found.kept > 0, case


def test_all_forms_and_ways_of_damage_come_up(tmp_path: Path) -> None:
    cases = [made(seed, tmp_path, format=name) for name in SAMPLES for seed in range(N_EACH)]
    assert {case.form for case in cases} == set(FORMS)
    assert {case.damage for case in cases} == set(DAMAGES)
    assert len({(case.form, case.damage) for case in cases}) > 0.9 * len(FORMS) * len(DAMAGES)
    assert sum(case.rows is not None for case in cases) > 50
    again = made(3, tmp_path, format="pairs")
    assert again.path.read_bytes() == made(3, tmp_path, format="pairs").path.read_bytes()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
NAMED = st.sampled_from(sorted({name for rows in SAMPLES.values() for row in rows for name in row}))
ROWS = st.lists(st.dictionaries(NAMED, JSON, min_size=1, max_size=5), min_size=1, max_size=5)
ENDINGS = st.sampled_from([".jsonl", ".json", ".csv", ".data"])


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(max_size=80)
    | JSON.map(json.dumps).map(str.encode)
    | ROWS.map(lambda rows: "\n".join(map(json.dumps, rows)).encode())
    | ROWS.map(json.dumps).map(str.encode)
    | st.lists(st.sampled_from([*'",;\t\n\r\0a1', "prompt", "chosen", "rejected", "user"]), max_size=40)
    .map("".join)
    .map(str.encode),
    ending=ENDINGS,
    name=st.sampled_from(["auto", *sorted(SAMPLES)]),
)
def test_any_content_under_any_name_is_read_or_refused(
    tmp_path: Path, home: Store, content: bytes, ending: str, name: str
) -> None:
    file = tmp_path / f"x{ending}"
    file.write_bytes(content)
    with contextlib.suppress(PenchantError):
        found = read(file, format=name)
        assert_exact(found)
        for records in found.records.values():
            home.add(records)


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
