"""What a stranger may not do: each tried against a running arena."""

import httpx
import pytest
from arena_server import Visitor, running


@pytest.fixture(scope="module")
def arena(tmp_path_factory):
    with running(tmp_path_factory.mktemp("arena"), gate=0.0, requests_per_second=1000) as server:
        yield server


@pytest.fixture
def visitor(arena):
    with httpx.Client(trust_env=False) as http:
        yield Visitor(http, arena.url).enter()


def ready(visitor: Visitor, kind: str = "text") -> str:
    battle = visitor.post("/api/battles", {"prompt": "a haiku", "modality": kind}).json()["battle"]
    while visitor.look(battle).json()["state"] == "generating":
        pass
    return battle


def test_a_vote_sent_again_is_the_same_vote_and_after_the_names_none_counts(visitor):
    battle = ready(visitor)
    first = visitor.post(f"/api/battles/{battle}/vote", {"preference": "A"}).json()
    assert visitor.post(f"/api/battles/{battle}/vote", {"preference": "A"}).json() == first
    assert visitor.post(f"/api/battles/{battle}/vote", {"preference": "TIE"}).json()["preference"] == "TIE"
    names = visitor.post(f"/api/battles/{battle}/reveal", {}).json()["names"]
    assert {names["a"]["system"], names["b"]["system"]} == {"calm", "loud"}
    assert visitor.post(f"/api/battles/{battle}/vote", {"preference": "B"}).json()["preference"] == "TIE"


def test_before_the_vote_nothing_tells_who_is_who(visitor):
    for kind in ("text", "image", "audio"):
        battle = ready(visitor, kind)
        look = visitor.look(battle)
        assert not any(name in look.text for name in ("calm", "loud", "low", "high", "wine", "Tones", "speed"))
        files = [visitor.http.get(f"{visitor.url}/api/artefacts/{look.json()['sides'][s]['artefact']}") for s in "ab"]
        assert len(files[0].content) == len(files[1].content)
        plain = [{k: v for k, v in f.headers.items() if k != "date"} for f in files]
        assert plain[0] == plain[1]
        assert b"secret painter" not in files[0].content + files[1].content
        assert visitor.post(f"/api/battles/{battle}/reveal", {}).status_code == 409


def test_another_session_sees_no_battle_and_cannot_vote_in_it(visitor, arena):
    battle = ready(visitor)
    name = visitor.look(battle).json()["sides"]["a"]["artefact"]
    with httpx.Client(trust_env=False) as http:
        other = Visitor(http, arena.url).enter()
        assert other.look(battle).status_code == 404
        assert other.http.get(f"{arena.url}/api/artefacts/{name}").status_code == 404
        assert other.post(f"/api/battles/{battle}/vote", {"preference": "A"}).status_code == 404


def test_forged_tokens_cookies_origins_and_hosts_are_refused(visitor, arena):
    body = {"prompt": "x", "modality": "text"}
    assert visitor.post("/api/battles", body, **{"x-token": "0" * 32}).status_code == 403
    assert visitor.post("/api/battles", body, **{"x-token": ""}).status_code == 403
    assert visitor.post("/api/battles", body, origin="https://evil.example").status_code == 403
    assert visitor.post("/api/battles", body, origin="").status_code == 403
    assert visitor.post("/api/battles", body, host="evil.example").status_code == 421
    assert visitor.post("/api/battles", body, cookie="arena=made.up.cookie").status_code == 403


def test_large_bodies_and_unknown_fields_are_refused(visitor):
    assert visitor.post("/api/battles", {"prompt": "x" * 20_000, "modality": "text"}).status_code == 413
    assert visitor.post("/api/battles", {"prompt": "x", "modality": "text", "system": "calm"}).status_code == 422
    assert visitor.post("/api/battles/none/vote", {"preference": "C"}).status_code == 422


def test_there_is_no_administration_without_a_token(visitor):
    assert visitor.http.get(f"{visitor.url}/admin/status").status_code == 404
