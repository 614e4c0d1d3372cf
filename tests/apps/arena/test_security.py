"""What a stranger may try on an arena, each in a test of its own."""

import io
import json
import os
import re
import threading
import time
import wave
from pathlib import Path

import pytest
from arena_inside import SECRET, SYSTEMS, URL, asked, inside
from arena_server import Visitor
from arena_systems import broken, echo

from penchant.apps.arena import security
from penchant.apps.arena.security import COOKIE, COOKIE_SECONDS, LARGEST_BODY, Keys, RateLimit
from penchant.apps.arena.serve import arena as serve
from penchant.apps.arena.serve import origins
from penchant.apps.arena.storage import artefacts, battles, sessions
from penchant.apps.arena.systems import System
from penchant.errors import SettingsError

ASK = {"prompt": "a haiku", "modality": "text"}
SCRIPT = "<script>alert(1)</script>"
ADMIN = "token of who runs this arena, 32+"


@pytest.fixture(scope="module")
def arena(tmp_path_factory):
    with inside(tmp_path_factory.mktemp("arena")) as running:
        yield running


@pytest.fixture
def visitor(arena):
    return arena.visitor()


def names(arena, found):
    """Which system stands on which side, from the database."""
    query = battles.select().where(battles.c.id == found["battle"])
    row = arena.arena.database.read(lambda c: c.execute(query).one())
    return {"a": row.system_a, "b": row.system_b}


def files(visitor, found):
    return {s: visitor.http.get(f"{URL}/api/artefacts/{found['sides'][s]['artefact']}") for s in "ab"}


# Votes


def test_a_vote_without_a_served_battle_is_refused(visitor):
    reply = visitor.post("/api/battles/dGhpcyBpcyBub25l/vote", {"preference": "A"})
    assert (reply.status_code, reply.json()["error"]) == (404, "There is no such battle in your session.")


def test_a_vote_before_the_battle_is_ready_is_refused(tmp_path):
    go = threading.Event()

    def slow(request):
        go.wait(20)
        return echo(request)

    with inside(tmp_path, systems={"calm": SYSTEMS["calm"], "slow": System("slow", slow)}) as arena:
        visitor = arena.visitor()
        battle = visitor.post("/api/battles", ASK).json()["battle"]
        try:
            assert visitor.post(f"/api/battles/{battle}/vote", {"preference": "A"}).status_code == 409
        finally:
            go.set()


def test_a_replayed_vote_counts_once(arena, visitor):
    found = asked(visitor)
    replies = [visitor.post(f"/api/battles/{found['battle']}/vote", {"preference": "A"}) for _ in range(5)]
    assert len({reply.text for reply in replies}) == 1
    assert arena.arena.database.read(lambda c: arena.arena.book.history(c, found["battle"])) == [("A", True)]


def test_a_vote_before_both_sides_were_read_is_refused(tmp_path):
    with inside(tmp_path, gate=5.0) as arena:
        visitor = arena.visitor()
        path = f"/api/battles/{asked(visitor)['battle']}"
        assert "5.0 s of A and 5.0 s of B" in visitor.post(f"{path}/vote", {"preference": "A"}).json()["error"]
        # Whatever a page says, time passes by the clock of the server.
        visitor.post(f"{path}/attention", {"events": [["a", "PLAY"], ["a", "TICK"], ["b", "PLAY"], ["b", "TICK"]]})
        assert visitor.post(f"{path}/vote", {"preference": "A"}).status_code == 409
        arena.clock.now += 5
        visitor.post(f"{path}/attention", {"events": [["a", "TICK"], ["b", "TICK"]]})
        assert visitor.post(f"{path}/vote", {"preference": "A"}).status_code == 200


def test_times_that_a_page_makes_up_are_not_taken(visitor):
    found = asked(visitor)
    reply = visitor.post(f"/api/battles/{found['battle']}/attention", {"events": [["a", "PLAY", 0], ["a", "TICK", 99]]})
    assert reply.status_code == 422


# Forged and cross-site requests


@pytest.mark.parametrize("token", ["", "0" * 32, "ä" * 8])
def test_a_missing_or_forged_token_is_refused(visitor, token):
    found = asked(visitor)
    headers = {"origin": URL, "content-type": "application/json"} | ({"x-token": token.encode()} if token else {})
    reply = visitor.http.post(f"/api/battles/{found['battle']}/vote", content='{"preference": "A"}', headers=headers)
    assert reply.status_code == 403
    assert "vote" not in visitor.look(found["battle"]).json()


def test_the_token_of_another_session_is_refused(arena, visitor):
    found, other = asked(visitor), arena.visitor()
    reply = visitor.post(f"/api/battles/{found['battle']}/vote", {"preference": "A"}, **{"x-token": other.token})
    assert reply.status_code == 403


@pytest.mark.parametrize(
    "origin", ["", "null", "https://evil.example", "http://127.0.0.1:8001", "https://127.0.0.1:8000"]
)
def test_a_vote_from_a_page_elsewhere_is_refused(visitor, origin):
    found = asked(visitor)
    assert visitor.post(f"/api/battles/{found['battle']}/vote", {"preference": "A"}, origin=origin).status_code == 403
    assert "vote" not in visitor.look(found["battle"]).json()


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_what_a_form_elsewhere_could_send_is_refused(visitor, kind):
    headers = {"origin": URL, "x-token": visitor.token, "content-type": kind}
    assert visitor.http.post("/api/battles", content=json.dumps(ASK), headers=headers).status_code == 415


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:8001", ""])
@pytest.mark.parametrize("path", ["/", "/api/session", "/static/arena.js"])
def test_a_name_that_others_made_point_to_us_is_refused(visitor, host, path):
    assert visitor.http.get(path, headers={"host": host}).status_code == 421


def test_no_other_origin_is_ever_allowed_to_read(visitor):
    reply = visitor.http.get("/api/session", headers={"origin": "https://evil.example"})
    assert not [name for name in reply.headers if name.startswith("access-control-")]


# Script


def test_script_in_a_prompt_comes_back_as_data_only(visitor):
    found = asked(visitor, prompt=SCRIPT)
    assert visitor.look(found["battle"]).headers["content-type"] == "application/json"
    for reply in files(visitor, found).values():
        assert reply.headers["content-type"] == "text/plain; charset=utf-8"
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["content-disposition"] == "attachment"
    assert SCRIPT not in visitor.http.get("/leaderboard").text


def test_script_in_the_names_of_systems_is_escaped_on_the_leaderboard(tmp_path):
    evil = {name: System(name, echo, organisation=SCRIPT) for name in (SCRIPT, '"><img src=x onerror=alert(2)>')}
    with inside(tmp_path, systems=evil) as arena:
        visitor = arena.visitor()
        for turn in range(32):
            battle = asked(visitor)["battle"]
            visitor.post(f"/api/battles/{battle}/vote", {"preference": "AB"[turn % 2]})
        arena.arena._kept.clear()
        page = visitor.http.get("/leaderboard").text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page  # the board is shown
    assert SCRIPT not in page
    assert "<img" not in page


@pytest.mark.parametrize("path", ["/", "/leaderboard", "/privacy", "/api/session", "/static/arena.js", "/none"])
def test_every_reply_forbids_foreign_and_inline_script(visitor, path):
    reply = visitor.http.get(path)
    policy = dict(part.strip().split(" ", 1) for part in reply.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert not re.search("unsafe|https?:|\\*", reply.headers["content-security-policy"])
    # The policy would break a page that has script or style of its own.
    assert not re.search(r"<script(?![^>]*src=)|<style|\son\w+=|\sstyle=", reply.text) or path.endswith(".js")


def test_refusals_at_the_door_carry_the_same_headers(visitor):
    reply = visitor.post("/api/battles", ASK, origin="https://evil.example")
    assert set(name.lower() for name in security.HEADERS) <= set(reply.headers)


# Size and rate


def test_an_oversize_body_is_refused_by_its_length(visitor):
    assert visitor.post("/api/battles", {"prompt": "x" * LARGEST_BODY, "modality": "text"}).status_code == 413


def test_an_oversize_body_without_a_length_is_refused_before_all_of_it_came(visitor):
    sent = []

    def parts():
        for _ in range(1000):
            sent.append(0)
            yield b"x" * 1024

    headers = {"origin": URL, "x-token": visitor.token, "content-type": "application/json"}
    assert visitor.http.post("/api/battles", content=parts(), headers=headers).status_code == 413


@pytest.mark.parametrize(
    "body", ["", "{", "[" * 16_000, '{"prompt": "\\ud800", "modality": "text"}', '{"prompt": 1e999}', "\x00", "null"]
)
def test_a_body_that_is_no_request_is_refused_without_an_error_of_ours(visitor, body):
    headers = {"origin": URL, "x-token": visitor.token, "content-type": "application/json"}
    assert 400 <= visitor.http.post("/api/battles", content=body, headers=headers).status_code < 500


def test_what_was_sent_is_not_sent_back_in_a_refusal(visitor):
    reply = visitor.post("/api/battles", {"prompt": "x", "modality": SCRIPT})
    assert reply.status_code == 422
    assert "script" not in reply.text


def test_unknown_fields_are_refused_so_that_nobody_picks_the_systems(visitor):
    assert visitor.post("/api/battles", ASK | {"system_a": "calm"}).status_code == 422


def test_more_requests_than_a_person_makes_are_refused_whatever_the_cookie(tmp_path):
    now = [0.0]
    with inside(tmp_path, requests=RateLimit(1.0, 5, clock=lambda: now[0])) as arena:
        replies = [arena.client().get("/api/session").status_code for _ in range(8)]
        assert replies == [200] * 5 + [429] * 3
        assert arena.client("10.0.0.2").get("/api/session").status_code == 200  # somebody else
        now[0] = 2.0
        assert [arena.client().get("/api/session").status_code for _ in range(3)] == [200, 200, 429]


def test_more_battles_than_a_person_reads_are_refused(tmp_path):
    with inside(tmp_path, battles=RateLimit(0.0, 2)) as arena:
        visitor = arena.visitor()
        assert [visitor.post("/api/battles", ASK).status_code for _ in range(3)] == [202, 202, 429]


def test_a_household_with_ipv6_is_one_address():
    keys = Keys(SECRET)
    assert keys.address("2001:db8::1") == keys.address("2001:db8::ffff:1")
    assert keys.address("2001:db8::1") != keys.address("2001:db8:0:1::1")
    assert keys.address("10.0.0.1") != keys.address("10.0.0.2")


# Other people's things


def test_another_session_cannot_read_a_battle(arena, visitor):
    assert arena.visitor().look(asked(visitor)["battle"]).status_code == 404


def test_another_session_cannot_fetch_an_artefact(arena, visitor):
    name = asked(visitor)["sides"]["a"]["artefact"]
    assert arena.visitor().http.get(f"/api/artefacts/{name}").status_code == 404


@pytest.mark.parametrize(
    ("what", "body"),
    [("vote", {"preference": "A"}), ("reasons", {}), ("reveal", {}), ("attention", {"events": []})],
)
def test_another_session_can_neither_vote_nor_reveal(arena, visitor, what, body):
    battle = asked(visitor)["battle"]
    visitor.post(f"/api/battles/{battle}/vote", {"preference": "TIE"})
    assert arena.visitor().post(f"/api/battles/{battle}/{what}", body).status_code == 404
    assert visitor.look(battle).json()["vote"]["preference"] == "TIE"
    assert "names" not in visitor.look(battle).json()


def test_a_foreign_battle_and_none_look_the_same(arena, visitor):
    battle, other = asked(visitor)["battle"], arena.visitor()
    assert other.look(battle).text == other.look("none").text


# Who is who before the vote


def test_names_are_shown_after_the_vote_only(visitor):
    battle = asked(visitor)["battle"]
    assert visitor.post(f"/api/battles/{battle}/reveal", {}).status_code == 409
    assert "names" not in visitor.look(battle).json()
    visitor.post(f"/api/battles/{battle}/vote", {"preference": "A"})
    assert "names" not in visitor.look(battle).json()  # not yet: reasons come first
    found = visitor.post(f"/api/battles/{battle}/reveal", {}).json()["names"]
    assert {found["a"]["system"], found["b"]["system"]} == {"calm", "loud"}


@pytest.mark.parametrize("kind", ["text", "image", "audio"])
def test_what_is_told_before_the_vote_is_the_same_for_both_sides(visitor, kind):
    found = asked(visitor, kind)
    told = [{k: v for k, v in side.items() if k != "artefact"} for side in found["sides"].values()]
    assert told[0] == told[1]
    assert set(found) == {"battle", "state", "prompt", "board", "sides", "gate"}
    for word in (*SYSTEMS, "Ltd", "open", "speed", "checksum", "retries"):
        assert f'"{word}' not in json.dumps(found | {"gate": {k: 0 for k in found["gate"]}})


@pytest.mark.parametrize("kind", ["text", "image", "audio"])
def test_headers_and_sizes_of_both_artefacts_are_equal(visitor, kind):
    a, b = files(visitor, asked(visitor, kind)).values()
    assert a.headers == b.headers
    assert len(a.content) == len(b.content)
    assert "etag" not in a.headers
    assert "last-modified" not in a.headers


def test_names_of_artefacts_are_random_and_never_come_again(arena, visitor):
    found = [asked(visitor, prompt="the same") for _ in range(6)]
    given = [side["artefact"] for one in found for side in one["sides"].values()]
    assert len(set(given)) == 12
    assert all(len(name) >= 20 for name in given)
    query = battles.select().where(battles.c.id == found[0]["battle"])
    row = arena.arena.database.read(lambda c: c.execute(query).one())
    assert not {row.a["checksum"], row.b["checksum"]} & set(given)


def test_a_system_is_on_either_side(arena, visitor):
    sides = [names(arena, asked(visitor))["a"] for _ in range(24)]
    assert 0 < sides.count("calm") < 24  # by chance alone this fails once in 8 million times


def test_pictures_hold_nothing_of_their_maker(visitor):
    for reply in files(visitor, asked(visitor, "image")).values():
        assert b"secret painter" not in reply.content
        chunks = set(re.findall(rb"(tEXt|iTXt|zTXt|eXIf|tIME|pHYs|iCCP)", reply.content))
        assert not chunks


def test_clips_hold_sound_alone_in_one_format_and_one_length(visitor):
    formats = []
    for reply in files(visitor, asked(visitor, "audio")).values():
        with wave.open(io.BytesIO(reply.content)) as file:
            formats.append(file.getparams())
        assert not re.search(rb"LIST|INFO|ISFT|id3 |bext", reply.content[:200])
    assert formats[0] == formats[1]  # rate, channels, width and the number of frames


def test_nothing_is_shown_until_both_are_there(tmp_path):
    go, done = threading.Event(), threading.Event()

    def slow(request):
        go.wait(20)
        return echo(request)

    def fast(request):
        done.set()
        return echo(request)

    with inside(tmp_path, systems={"fast": System("fast", fast), "slow": System("slow", slow)}) as arena:
        visitor = arena.visitor()
        battle = visitor.post("/api/battles", ASK).json()["battle"]
        assert done.wait(20)
        time.sleep(0.1)
        try:
            early = visitor.look(battle).json()
            assert early == {"battle": battle, "state": "generating", "prompt": "a haiku", "board": "text"}
            assert not arena.arena.database.read(lambda c: c.execute(artefacts.select()).all())
        finally:
            go.set()
        while visitor.look(battle).json()["state"] == "generating":
            pass
        assert set(visitor.look(battle).json()["sides"]) == {"a", "b"}


def test_a_failure_names_neither_a_system_nor_a_host(tmp_path):
    systems = {"calm": SYSTEMS["calm"], "wreck": System("wreck", broken)}
    with inside(tmp_path, systems=systems) as arena:
        visitor = arena.visitor()
        found = asked(visitor)
        assert found["state"] == "failed"
        assert found["why"] == "One of the two could not answer this. Please ask again."
        assert not re.search("wreck|secret-painter|calm|memory", json.dumps(found))
        assert visitor.post(f"/api/battles/{found['battle']}/vote", {"preference": "A"}).status_code == 409


def test_a_text_that_names_its_system_is_no_blind_vote(tmp_path):
    def proud(request):
        return echo(type(request)(f"I am {name}, hello"))

    name = "Proudbot"
    with inside(tmp_path, systems={"calm": SYSTEMS["calm"], name: System(name, proud)}) as arena:
        visitor = arena.visitor()
        battle = asked(visitor)["battle"]
        visitor.post(f"/api/battles/{battle}/vote", {"preference": "A"})
        [board] = visitor.http.get("/api/leaderboard").json()
        assert (board["votes"], board["not_blind"]) == (0, 1)


# Cookies and secrets


def cookie_of(arena) -> str:
    return arena.client().get("/api/session").cookies[COOKIE]


def entered(arena, cookie: str | None):
    """What comes of asking with a cookie and the token that belongs to it."""
    client = arena.client()
    number = (cookie or "").rsplit(".", 2)[0]
    headers = {"origin": URL, "x-token": arena.keys.token(number)} | (
        {"cookie": f"{COOKIE}={cookie}"} if cookie else {}
    )
    return client.post("/api/consent", json={"terms": client.get("/api/session").json()["terms"]}, headers=headers)


def test_a_cookie_of_ours_is_taken(arena):
    assert entered(arena, cookie_of(arena)).status_code == 200


def test_an_unsigned_cookie_is_refused_even_with_its_token(arena):
    assert entered(arena, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA").status_code == 403


def test_a_cookie_whose_number_was_changed_is_refused(arena):
    cookie = cookie_of(arena)
    assert entered(arena, ("B" if cookie[0] == "A" else "A") + cookie[1:]).status_code == 403


def test_a_cookie_signed_with_another_secret_is_refused(arena):
    assert entered(arena, Keys("another secret of the same length, yes").new_cookie()).status_code == 403


def test_a_cookie_past_its_days_is_refused(arena, monkeypatch):
    now = time.time()
    with monkeypatch.context() as patched:
        patched.setattr("itsdangerous.timed.time.time", lambda: now - COOKIE_SECONDS - 5)
        old = arena.keys.new_cookie()
        patched.setattr("itsdangerous.timed.time.time", lambda: now - COOKIE_SECONDS + 60)
        late = arena.keys.new_cookie()
    assert entered(arena, old).status_code == 403
    assert entered(arena, late).status_code == 200


def test_the_cookie_is_out_of_reach_of_script_and_of_other_sites(arena):
    [given] = arena.client().get("/api/session").headers.get_list("set-cookie")
    assert "HttpOnly" in given
    assert "SameSite=strict" in given


def test_over_tls_the_cookie_insists_on_it(tmp_path):
    with inside(tmp_path, origins=frozenset({"https://arena.example"})) as arena:
        [given] = arena.client().get("/api/session", headers={"host": "arena.example"}).headers.get_list("set-cookie")
    assert "Secure" in given


def test_the_database_holds_neither_cookie_nor_address(arena, visitor):
    asked(visitor)
    cookie = visitor.http.cookies[COOKIE]
    arena.arena.database.read(lambda c: c.exec_driver_sql("PRAGMA wal_checkpoint(FULL)").close())
    folder = Path(arena.arena.database.engine.url.database).parent
    held = b"".join(file.read_bytes() for file in folder.glob("arena.db*"))
    assert visitor.token.encode() not in held
    assert b"10.0.0.1" not in held
    assert cookie.split(".")[0].encode() not in held
    kept = arena.arena.database.read(lambda c: {row.id for row in c.execute(sessions.select())})
    assert arena.keys.hashed("session", cookie.rsplit(".", 2)[0]) in kept  # what is there instead


def test_the_secret_is_made_readable_by_its_owner_alone(tmp_path, monkeypatch):
    monkeypatch.delenv(security.SECRET_VARIABLE, raising=False)
    old = os.umask(0)
    try:
        made = security.secret(tmp_path / "arena.secret")
    finally:
        os.umask(old)
    assert (tmp_path / "arena.secret").stat().st_mode & 0o777 == 0o600
    assert len(made) >= 64
    assert security.secret(tmp_path / "arena.secret") == made


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_secret_that_others_may_read_is_refused(tmp_path, monkeypatch, mode):
    monkeypatch.delenv(security.SECRET_VARIABLE, raising=False)
    file = tmp_path / "arena.secret"
    file.write_text("x" * 64)
    file.chmod(mode)
    with pytest.raises(SettingsError, match="chmod 600"):
        security.secret(file)


def test_a_short_secret_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv(security.SECRET_VARIABLE, "short")
    with pytest.raises(SettingsError, match="5 characters"):
        security.secret(tmp_path / "none")


# Where it stands, and who runs it


def test_it_listens_on_the_loopback_unless_told_otherwise():
    assert serve.__kwdefaults__["host"] == "127.0.0.1"
    with pytest.raises(SettingsError, match="--public-url"):
        origins("0.0.0.0", 8000, None)
    assert origins("0.0.0.0", 8000, "https://Arena.Example/") == {"https://arena.example"}


@pytest.mark.parametrize("url", ["arena.example", "ftp://arena.example", "https://arena.example/path", "https://"])
def test_a_public_url_that_no_browser_sends_as_an_origin_is_refused(url):
    with pytest.raises(SettingsError, match="public URL"):
        origins("0.0.0.0", 8000, url)


@pytest.mark.parametrize("path", ["/admin/status", "/docs", "/redoc", "/openapi.json"])
def test_there_is_no_administration_and_no_map_without_a_token(visitor, path):
    assert visitor.http.get(path, headers={"authorization": "Bearer None"}).status_code == 404


def test_administration_wants_its_token(tmp_path):
    with inside(tmp_path, admin=ADMIN) as arena:
        client = arena.client()
        given = {"origin": URL, "content-type": "application/json"}
        for wrong in ("", "Bearer ", f"Bearer {ADMIN[:-1]}", ADMIN, f"bearer {ADMIN}"):
            assert client.get("/admin/status", headers={"authorization": wrong}).status_code == 403
            reply = client.post("/admin/systems/calm/pause", headers=given | {"authorization": wrong})
            assert reply.status_code == 403
        right = {"authorization": f"Bearer {ADMIN}"}
        assert client.post("/admin/systems/calm/pause", headers=given | right).json() == {"paused": ["calm"]}
        assert client.get("/admin/status", headers=right).json()["paused"] == ["calm"]
        assert arena.visitor().post("/api/battles", ASK).status_code == 503  # only one text system is left


def test_a_path_out_of_the_static_folder_leads_nowhere(visitor):
    for path in ("/static/../web.py", "/static/%2e%2e/web.py", "/static/..%2fweb.py", "/static//etc/passwd"):
        assert visitor.http.get(path).status_code == 404


def test_asking_needs_the_terms_accepted_first(arena):
    client = arena.client()
    stranger = Visitor(client, URL, token=client.get("/api/session").json()["token"])
    assert stranger.post("/api/battles", ASK).status_code == 403
    assert stranger.post("/api/consent", {"terms": "1999"}).status_code == 409
