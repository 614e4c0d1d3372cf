"""A battle: when it may be voted on, which vote counts, and what is kept when somebody changes their mind."""

import pytest
from arena_inside import Clock, battle, made

from penchant.apps.arena import storage
from penchant.apps.arena.battles import TERMS, Book, RefusedError, Rules, board_of, record, records
from penchant.apps.arena.systems import Request
from penchant.errors import DataError


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def book(clock):
    return Book(Rules(gate=0.0, window=60.0, generation_limit=300.0), clock)


@pytest.fixture
def database(tmp_path):
    database = storage.Database(f"sqlite:///{tmp_path / 'arena.db'}")
    yield database
    database.close()


def row(database, name):
    return database.read(lambda c: c.execute(storage.battles.select().where(storage.battles.c.id == name)).one())


def vote(database, book, name, preference, session="ann"):
    return database.write(lambda c: book.vote(c, session, name, preference))


def begun(database, book):
    request = Request("a haiku")
    return database.write(lambda c: book.begin(c, session="ann", address="-", request=request, pair=("calm", "loud")))


def test_a_battle_goes_from_being_made_to_ready_to_voted_to_revealed(database, book):
    name = begun(database, book)
    states = [database.read(lambda c: book.look(c, "ann", name))]
    with pytest.raises(RefusedError, match="not ready"):
        vote(database, book, name, "A")
    with pytest.raises(RefusedError, match="not ready"):
        database.write(lambda c: book.attend(c, "ann", name, [("a", "PLAY")]))
    database.write(lambda c: book.complete(c, name, (made("calm"), made("loud"))))
    states.append(database.read(lambda c: book.look(c, "ann", name)))
    with pytest.raises(RefusedError, match="after the vote"):
        database.write(lambda c: book.reveal(c, "ann", name))
    vote(database, book, name, "B")
    states.append(database.read(lambda c: book.look(c, "ann", name)))
    database.write(lambda c: book.reveal(c, "ann", name))
    states.append(database.read(lambda c: book.look(c, "ann", name)))
    assert ["sides" in one for one in states] == [False, True, True, True]
    assert ["vote" in one for one in states] == [False, False, True, True]
    assert ["names" in one for one in states] == [False, False, False, True]
    assert states[3]["names"]["a"]["system"] == "calm"


def test_the_same_vote_again_changes_nothing_and_says_the_same(database, book, clock):
    name = battle(database, book)
    first = vote(database, book, name, "A")
    clock.now += 30
    assert vote(database, book, name, "A") == first
    assert database.read(lambda c: book.history(c, name)) == [("A", True)]


def test_another_vote_within_the_window_takes_the_place_of_the_first(database, book, clock):
    name = battle(database, book, vote="A")
    clock.now += 60
    changed = vote(database, book, name, "BOTH_BAD")
    assert (changed.preference, changed.time) == ("BOTH_BAD", clock.now - 60)  # the window is that of the first
    assert database.read(lambda c: book.history(c, name)) == [("A", True), ("BOTH_BAD", True)]


def test_another_vote_after_the_window_is_kept_and_does_not_count(database, book, clock):
    name = battle(database, book, vote="A")
    clock.now += 60.1
    standing = vote(database, book, name, "B")
    assert (standing.preference, standing.is_final) == ("A", True)
    assert database.read(lambda c: book.history(c, name)) == [("A", True), ("B", False)]
    assert row(database, name).preference == "A"


def test_changing_a_vote_does_not_open_the_window_again(database, book, clock):
    name = battle(database, book, vote="A")
    clock.now += 40
    vote(database, book, name, "B")
    clock.now += 40
    assert vote(database, book, name, "TIE").preference == "B"


def test_once_the_names_were_seen_no_vote_counts(database, book):
    name = battle(database, book, vote="A")
    database.write(lambda c: book.reveal(c, "ann", name))
    assert vote(database, book, name, "B").preference == "A"
    assert database.read(lambda c: book.history(c, name))[-1] == ("B", False)


def test_a_vote_waits_for_the_attention_that_the_gate_wants(database, clock):
    book = Book(Rules(gate=5.0), clock)
    name = battle(database, book, a={"seconds": None}, b={"seconds": 2.0})  # B is a short clip
    for kind in ("PLAY", "TICK"):
        database.write(lambda c, kind=kind: book.attend(c, "ann", name, [("a", kind), ("b", kind)]))
        clock.now += 4.9
    with pytest.raises(RefusedError, match=r"0\.1 s of A are missing"):
        vote(database, book, name, "A")
    clock.now = clock.now - 4.9 + 0.1
    gate = database.write(lambda c: book.attend(c, "ann", name, [("a", "TICK")]))
    assert gate == {"attended": {"a": 5.0, "b": 2.0}, "needed": {"a": 5.0, "b": 2.0}, "is_open": True}
    vote(database, book, name, "A")
    assert row(database, name).attention == {"a": 5.0, "b": 2.0}


def test_reasons_come_after_the_vote_and_before_the_names(database, book):
    name = battle(database, book)
    with pytest.raises(RefusedError, match="Vote first"):
        database.write(lambda c: book.reasons(c, "ann", name, {"a": "flat"}))
    vote(database, book, name, "A")
    database.write(lambda c: book.reasons(c, "ann", name, {"a": " flat ", "b": "  ", "overall": ""}))
    database.write(lambda c: book.reasons(c, "ann", name, {"b": "loud"}))
    assert row(database, name).reasons == {"a": "flat", "b": "loud"}
    database.write(lambda c: book.reveal(c, "ann", name))
    with pytest.raises(RefusedError, match="shown already"):
        database.write(lambda c: book.reasons(c, "ann", name, {"a": "now I know"}))


def test_after_a_restart_what_was_being_made_has_failed_and_votes_are_there(database, book, tmp_path):
    name, done = begun(database, book), battle(database, book, vote="A")
    again = storage.Database(f"sqlite:///{tmp_path / 'arena.db'}")
    assert again.write(book.fail_all_unfinished) == 1
    assert again.write(book.fail_all_unfinished) == 0
    found = again.read(lambda c: book.look(c, "ann", name))
    kept = again.read(lambda c: book.look(c, "ann", done))["vote"]["preference"]
    again.close()
    assert found["state"] == "failed"
    assert "restarted" in found["why"]
    assert kept == "A"


def test_a_battle_that_is_being_made_for_too_long_has_failed(database, book, clock):
    name = begun(database, book)
    clock.now += 300
    assert database.read(lambda c: book.look(c, "ann", name))["state"] == "generating"
    clock.now += 1
    assert database.read(lambda c: book.look(c, "ann", name))["state"] == "failed"


def test_one_battle_takes_no_endless_stream_of_events(database, book, monkeypatch):
    monkeypatch.setattr("penchant.apps.arena.battles._MOST_EVENTS", 6)
    name = battle(database, book)
    database.write(lambda c: book.attend(c, "ann", name, [("a", "TICK")] * 5))
    with pytest.raises(RefusedError, match="6 events") as refused:
        database.write(lambda c: book.attend(c, "ann", name, [("a", "TICK")] * 2))
    assert refused.value.status == 429


def test_consent_is_to_the_terms_of_today(database, book, monkeypatch):
    assert not database.read(lambda c: book.has_consented(c, "ann"))
    database.write(lambda c: book.consent(c, "ann"))
    database.write(lambda c: book.consent(c, "ann"))
    assert database.read(lambda c: book.has_consented(c, "ann"))
    assert not database.read(lambda c: book.has_consented(c, "bob"))
    monkeypatch.setattr("penchant.apps.arena.battles.TERMS", f"{TERMS} or later")
    assert not database.read(lambda c: book.has_consented(c, "ann"))


def test_votes_become_records_that_hold_what_counts(database, book, clock):
    name = battle(database, book, vote="A")
    vote(database, book, name, "BOTH_BAD")
    battle(database, book)  # without a vote
    battle(database, book, vote="A", a={"names_itself": True})  # not blind
    [found] = database.read(records).table.to_pylist()
    assert (found["system_a"], found["system_b"], found["outcome"]) == ("calm", "loud", "both_bad")
    assert found["time"].timestamp() == clock.now
    assert record(row(database, name))["user"] == "ann"
    assert len(database.read(lambda c: records(c, board="image"))) == 0


@pytest.mark.parametrize(
    ("request_", "board"),
    [
        (Request("x"), "text"),
        (Request("x", "image"), "image"),
        (Request("x", "audio"), "instrumental"),
        (Request("x", "audio", instrumental=False), "vocal"),
        (Request("x", "audio", instrumental=False, lyrics="la"), "vocal"),
    ],
)
def test_a_vote_counts_on_the_board_of_what_was_asked_for(request_, board):
    assert board_of(request_) == board


def test_instrumental_music_has_no_lyrics():
    with pytest.raises(DataError, match="no lyrics"):
        Request("x", "audio", instrumental=True, lyrics="la la")
