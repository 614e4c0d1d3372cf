"""A release: nobody in it can be found again, in the same month, across months or by who has the database."""

import json
from datetime import UTC, datetime

import pyarrow.parquet as pq
import pytest
from arena_inside import Clock, battle

from penchant.apps.arena import storage
from penchant.apps.arena.attention import Event, attended
from penchant.apps.arena.battles import Book, Rules
from penchant.apps.arena.release import SCHEMA, last_month, release, shared_prompts, span
from penchant.errors import DataError, SettingsError

NOVEMBER, DECEMBER = (datetime(2025, month, 15, 13, 37, 21, tzinfo=UTC).timestamp() for month in (11, 12))
HASHES = [f"{number:x}" * 32 for number in range(1, 7)]  # as keyed hashes look


@pytest.fixture
def store(tmp_path):
    """Six people's votes in November and in December, of a shared prompt and of one that is somebody's own."""
    clock = Clock(NOVEMBER)
    book = Book(Rules(gate=0.0), clock)
    database = storage.Database(f"sqlite:///{tmp_path / 'arena.db'}")
    made = {"a": {"access": "open"}, "b": {"access": "proprietary"}}
    for begin in (NOVEMBER, DECEMBER):
        clock.now = begin
        for session in HASHES:
            name = battle(database, book, session=session, prompt="A  Waltz", **made)
            for kind in ("PLAY", "PAUSE"):
                database.write(
                    lambda c, name=name, kind=kind, who=session: book.attend(c, who, name, [("a", kind), ("b", kind)])
                )
                clock.now += 5.04
            database.write(lambda c, name=name, who=session: book.vote(c, who, name, "A"))
            database.write(lambda c, name=name, who=session: book.vote(c, who, name, "TIE"))
        database.write(lambda c, name=name: book.reasons(c, HASHES[-1], name, {"a": "my own words"}))
        battle(database, book, session=HASHES[0], prompt="for my aunt Ada", vote="B", **made)
    battle(database, book, prompt="never voted on")
    database.close()
    return tmp_path / "arena.db"


def released(store, folder, month="2025-11", **given):
    release(store=str(store), month=month, out=folder, **given)
    return [json.loads(line) for line in (folder / month / "battles.jsonl").read_text().splitlines()]


def everything(folder):
    return b"\n".join(
        str(file.relative_to(folder)).encode() + file.read_bytes() for file in folder.rglob("*") if file.is_file()
    )


def test_no_hash_no_id_and_no_second_survives(store, tmp_path):
    rows = released(store, tmp_path / "out", k=1)
    database = storage.Database(f"sqlite:///{store}")
    kept = database.read(lambda c: c.execute(storage.battles.select()).all())
    names = database.read(lambda c: c.execute(storage.artefacts.select()).all())
    database.close()
    text = everything(tmp_path / "out").decode()
    for secret in [*HASHES, "hash of an address", *(row.id for row in kept), *(one.name for one in names)]:
        assert secret not in text
    assert {row["day"] for row in rows} == {"2025-11-15"}
    assert not any(str(int(NOVEMBER) + second) in text for second in range(120))
    assert "13:3" not in text


def test_people_are_the_same_within_a_month_and_others_in_the_next_and_in_every_release(store, tmp_path):
    november = released(store, tmp_path / "a")
    assert len({row["user"] for row in november}) == 6
    assert len(november) == 7
    own = next(row for row in november if row["outcome"] == "b")["user"]
    assert sum(row["user"] == own for row in november) == 2
    for other in (released(store, tmp_path / "a", "2025-12"), released(store, tmp_path / "b")):
        assert not {row["user"] for row in other} & {row["user"] for row in november}
        assert not {row["battle"] for row in other} & {row["battle"] for row in november}


def test_rows_do_not_come_in_the_order_of_the_votes(store, tmp_path):
    rows = released(store, tmp_path / "out")
    assert rows == sorted(rows, key=lambda row: (row["day"], row["battle"]))


def test_a_prompt_of_few_is_withheld_and_with_it_all_that_could_tell_it(store, tmp_path):
    rows = released(store, tmp_path / "out")
    assert [row["prompt"] for row in rows].count("A  Waltz") == 6
    [own] = [row for row in rows if row["prompt"] is None]
    assert (own["checksum_a"], own["artefact_a"]) == (None, None)
    assert b"aunt" not in everything(tmp_path / "out")
    assert b"never voted on" not in everything(tmp_path / "out")


def test_prompts_count_by_people_not_by_battles():
    class Row:
        def __init__(self, prompt, session):
            self.prompt, self.session = prompt, session

    rows = [Row("Hi  there", "ann"), Row("hi there", "ann"), Row("HI THERE ", "bob")]
    assert shared_prompts(rows, 2) == {"hi there"}
    assert shared_prompts(rows, 3) == set()


def test_what_restricted_systems_made_is_left_out(store, tmp_path):
    rows = released(store, tmp_path / "out")
    files = list((tmp_path / "out" / "2025-11" / "artefacts").iterdir())
    assert [file.read_text() for file in files] == ["by calm"]
    for row in rows:
        assert row["artefact_b"] is row["checksum_b"] is None
        assert (row["artefact_a"] is None) == (row["prompt"] is None)
        if row["artefact_a"]:
            assert (tmp_path / "out" / "2025-11" / row["artefact_a"]).read_text() == "by calm"
    released(store, tmp_path / "bare", artefacts=False)
    assert not (tmp_path / "bare" / "2025-11" / "artefacts").exists()


def test_reasons_are_released_only_if_asked_for(store, tmp_path):
    released(store, tmp_path / "out")
    assert b"my own words" not in everything(tmp_path / "out")
    rows = released(store, tmp_path / "with", reasons=True)
    assert [row["reasons_a"] for row in rows].count("my own words") == 1


def test_attention_in_a_release_is_what_its_events_give(store, tmp_path):
    rows = [row for row in released(store, tmp_path / "out") if row["events"]]
    assert len(rows) == 6
    for row in rows:
        events = [Event(e["side"], e["kind"], e["seconds"]) for e in row["events"]]
        assert events[0].time == 0.0
        assert attended(events, one_at_a_time=False)["a"] == pytest.approx(row["attention_a"], abs=0.1)
        assert row["attention_a"] == 5.0
        assert row["changed_votes"] == 1


def test_a_month_holds_its_votes_and_no_others(store, tmp_path):
    assert len(released(store, tmp_path / "out", "2025-12")) == 7
    with pytest.raises(DataError, match="no votes of 2025-10"):
        release(store=str(store), month="2025-10", out=tmp_path / "out")


@pytest.mark.parametrize("month", ["2025-13", "2025-00", "25-11", "november", "2025-11-01", ""])
def test_a_month_that_is_none_is_refused(month):
    with pytest.raises(SettingsError, match="2026-11"):
        span(month)


def test_the_last_second_of_a_month_is_in_it():
    assert span("2025-12")[1] == span("2026-01")[0] == datetime(2026, 1, 1, tzinfo=UTC).timestamp()
    assert last_month(datetime(2026, 1, 31, tzinfo=UTC).date()) == "2025-12"


def test_a_month_that_is_not_over_is_refused(store, tmp_path):
    with pytest.raises(SettingsError, match="not over"):
        release(store=str(store), month="2999-01", out=tmp_path)
    with pytest.raises(DataError, match="no votes"):
        release(store=str(store), month="2999-01", out=tmp_path, unfinished=True)


def test_a_store_that_is_not_there_is_not_made(tmp_path):
    with pytest.raises(DataError, match="no arena"):
        release(store=str(tmp_path / "none.db"), month="2025-11", out=tmp_path)
    assert not (tmp_path / "none.db").exists()


def test_both_forms_hold_the_same_columns(store, tmp_path):
    rows = released(store, tmp_path / "out")
    release(store=str(store), month="2025-11", out=tmp_path / "out", form="parquet")
    table = pq.read_table(tmp_path / "out" / "2025-11" / "battles.parquet")
    assert table.schema.equals(SCHEMA)
    assert list(rows[0]) == SCHEMA.names
    assert table.num_rows == len(rows)


def test_a_release_is_read_by_the_leaderboard(store, tmp_path, called):
    released(store, tmp_path / "out")
    file = tmp_path / "out" / "2025-11" / "battles.jsonl"
    code, out, err = called("evaluate", "leaderboard", file, "--json", "-")
    assert code == 0, err
    assert {row["system"] for row in json.loads(out)["systems"]} == {"calm", "loud"}
