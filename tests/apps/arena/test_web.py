"""The same over real HTTP: votes that come again, and what the server itself says before a vote."""

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
