"""The file that names an arena's systems: every mistake with its place, and systems behind a URL that misbehave."""

import base64
import json

import httpx
import pytest

from penchant.apps.arena.registry import Entry, Http, read_registry, system
from penchant.apps.arena.systems import LARGEST_ARTEFACT, GenerationError, Request
from penchant.errors import SettingsError, UnknownNameError

TWO = 'systems:\n  x: {kind: python, path: "arena_systems:echo"}\n  y: {kind: python, path: "arena_systems:echo"}\n'


def written(tmp_path, text):
    file = tmp_path / "systems.yaml"
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no settings"),
        ("systems: []", "no systems"),
        ("sistems: {}", "unknown"),
        ("systems: {}", "names no system"),
        ("systems: {x: 3}", "line 1: 'x' must hold"),
        ('systems:\n  x: {kind: python, path: "arena_systems:echo"}', "only one of text"),
        (TWO + '  z: {kind: python, path: "arena_systems:tone", modality: audio}', "only one of audio"),
        ("systems:\n  x: {kind: python}", "'x' is of kind python and needs `path`"),
        ("systems:\n  x: {kind: http}", "needs `url`"),
        ("systems:\n  x: {kind: http, url: ftp://x}", "begins with http"),
        ("systems:\n  x: {kind: chat}", "needs `model`"),
        ("systems:\n  x: {kind: chat, model: small-chat, modality: audio}", "makes text, not audio"),
        ("systems:\n  x: {kind: magic}", "systems.x.kind"),
        ("systems:\n  x: {kind: chat, modle: small-chat}", "modle"),
        ("systems:\n  x: {kind: chat, model: a, timeout: soon}", "timeout"),
        (TWO + "pairs: {x: y}", "is a list"),
        (TWO + "pairs: [{a: x, b: x}]", "two different systems"),
        (TWO + "pairs: [{a: x, b: none}]", "two different systems"),
        (TWO + "pairs: [{a: x, b: y, weight: -1}]", "at least 0"),
        (TWO + "pairs: [{a: x, b: y, weight: .nan}]", "at least 0"),
        (TWO + "  x: {kind: chat, model: small-chat}", "x"),
        ("systems: {x: &a {kind: chat}, y: *a}", "no anchors"),
        ("systems: {x: !!python/object:os.system {}}", "tags"),
        ("systems: [", "not valid YAML"),
    ],
)
def test_a_mistake_in_the_file_is_said_with_its_place(tmp_path, text, why):
    with pytest.raises(SettingsError) as wrong:
        read_registry(written(tmp_path, text))
    assert why in str(wrong.value)


def test_a_callable_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(UnknownNameError, match="shout"):
        read_registry(written(tmp_path, TWO.replace("echo", "shout", 1)))


def test_a_good_file_gives_its_systems_and_weights(tmp_path):
    found = read_registry(written(tmp_path, TWO + "pairs: [{a: y, b: x, weight: 0.5}]"))
    assert list(found.systems) == ["x", "y"]
    assert found.modalities == ("text",)
    assert found.weight("x", "y") == found.weight("y", "x") == 0.5
    assert found.systems["x"].generate(Request("hi")).data == b"You said: hi"


def behind(reply, **entry):
    """A system behind a URL that replies so."""
    entry = Entry("http", url="https://music.example/make", **entry)
    return Http(entry, transport=httpx.MockTransport(reply))


def test_a_system_behind_a_url_gets_the_request_and_its_key(monkeypatch):
    monkeypatch.setenv("TEST_KEY", "k")

    def reply(request):
        assert request.headers["authorization"] == "Bearer k"
        assert json.loads(request.content)["prompt"] == "a waltz"
        data = base64.b64encode(b"RIFF").decode()
        return httpx.Response(200, json={"media_type": "audio/wav", "data": data, "seconds": 3, "lyrics": "la"})

    found = behind(reply, key_variable="TEST_KEY")(Request("a waltz", "audio"))
    assert (found.media_type, found.data, found.seconds, found.lyrics) == ("audio/wav", b"RIFF", 3.0, "la")


def test_an_artefact_may_come_as_it_is():
    found = behind(lambda _: httpx.Response(200, content=b"hi", headers={"content-type": "text/plain; charset=utf-8"}))
    assert found(Request("x")).media_type == "text/plain"


@pytest.mark.parametrize(
    "body",
    ["", "{", "[]", "null", '{"media_type": "audio/wav"}', '{"media_type": "audio/wav", "data": "not base64!"}',
     '{"media_type": "audio/wav", "data": 3}', '{"media_type": "text/plain", "data": "x", "seconds": "long"}',
     "[" * 50_000],
)  # fmt: skip
def test_json_without_an_artefact_is_a_failure_of_the_system(body):
    kind = {"content-type": "application/json"}
    with pytest.raises(GenerationError, match="without a readable"):
        behind(lambda _: httpx.Response(200, content=body, headers=kind))(Request("x"))


@pytest.mark.parametrize("status", [204, 302, 404, 500])
def test_a_status_that_is_not_200_is_a_failure_and_no_redirect_is_followed(status):
    asked = []

    def reply(request):
        asked.append(str(request.url))
        return httpx.Response(status, headers={"location": "http://169.254.169.254/"})

    with pytest.raises(GenerationError, match=str(status)):
        behind(reply)(Request("x"))
    assert asked == ["https://music.example/make"]


def test_a_system_that_sends_without_end_is_cut_off():
    sent = []

    def endless():
        while True:
            sent.append(0)
            yield b"x" * (8 << 20)

    with pytest.raises(GenerationError, match="128 MiB"):
        behind(lambda _: httpx.Response(200, content=endless()))(Request("x"))
    assert len(sent) <= 2 * LARGEST_ARTEFACT // (8 << 20) + 2


def test_a_system_that_cannot_be_reached_is_a_failure():
    def down(request):
        raise httpx.ConnectError("refused")

    with pytest.raises(GenerationError, match="ConnectError"):
        behind(down)(Request("x"))
    assert not behind(down, health="https://music.example/health").healthy()


def test_health_is_what_its_url_says_and_taken_for_granted_without_one():
    sick = httpx.Response(503)
    assert not behind(lambda _: sick, health="https://music.example/health").healthy()
    assert behind(lambda _: sick).healthy()
    assert behind(lambda _: httpx.Response(200), health="https://music.example/health").healthy()


def test_a_missing_key_is_named_and_never_sent_empty(monkeypatch):
    monkeypatch.delenv("TEST_KEY", raising=False)
    with pytest.raises(SettingsError, match="TEST_KEY"):
        behind(lambda _: httpx.Response(200), key_variable="TEST_KEY")(Request("x"))


def test_what_may_be_told_of_a_system_holds_neither_url_nor_key_nor_path():
    entry = Entry("http", url="https://music.example/make", key_variable="TEST_KEY", organisation="Tones Ltd")
    told = json.dumps(system("studio", entry).about())
    assert "Tones Ltd" in told
    assert not any(word in told for word in ("example", "TEST_KEY", "http"))
