"""The registry of an arena: a YAML file that names its systems.

A system is a Python callable, anything behind a URL that the operator gave, or a chat model. The registry is a YAML
file:

```yaml
systems:
  small-chat:
    kind: chat
    modality: text
    model: small-chat
  tones:
    kind: python
    modality: audio
    path: mysystems.tones:tone                 # callable(request: Request, **settings) -> Artefact
    settings: {pitch: 440.0}
    max_duration: 30
  studio:
    kind: http
    modality: audio
    url: https://music.example/generate
    key_variable: STUDIO_KEY                 # name of the environment variable that holds the key
    access: proprietary
    supports_lyrics: true
```
"""

import base64
import binascii
import functools
import json
import os
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import httpx

from penchant.apps.arena.systems import (
    LARGEST_ARTEFACT,
    MODALITIES,
    Abilities,
    Artefact,
    Generate,
    GenerationError,
    Modality,
    Request,
    System,
)
from penchant.errors import SettingsError
from penchant.methods import resolve as named
from penchant.settings import read_recipe, resolve

_TEXT = "text/plain"


@dataclass(frozen=True)
class Entry:
    """One system in the registry file.

    Attributes:
        kind: a Python callable, a URL, or a chat model.
        modality: text, image or audio.
        organisation: whose it is.
        access: proprietary systems' artefacts are never released.
        training_data: what it was trained on, in words.
        supports_lyrics: it can sing.
        max_duration: longest clip, seconds.
        path: of kind python: package.module:name of a callable(request, **settings) -> Artefact.
        settings: of kind python: more keywords of the callable.
        url: of kind http: where a request goes as JSON by POST.
        health: of kind http: a URL that answers 200 while the system is well.
        key_variable: of kind http: environment variable with the key; it is sent as a bearer token.
        model: of kind chat: small-chat, a .gguf file, http://HOST/v1#MODEL or transformers:NAME.
        instruction: of kind chat: the system message.
        temperature: of kind chat: of the sampling.
        max_tokens: of kind chat: longest answer.
        timeout: seconds until an answer counts as a failure.
    """

    kind: Literal["python", "http", "chat"]
    modality: Modality = "text"
    organisation: str = ""
    access: Literal["open", "proprietary"] = "open"
    training_data: str = ""
    supports_lyrics: bool = False
    max_duration: float | None = None
    path: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    url: str = ""
    health: str = ""
    key_variable: str = ""
    model: str = ""
    instruction: str = ""
    temperature: float = 0.7
    max_tokens: int = 512
    timeout: float = 120.0


@dataclass(frozen=True)
class Pair:
    """How often two systems meet.

    Attributes:
        a: name of a system.
        b: name of another.
        weight: 1 is usual, 0 is never.
    """

    a: str
    b: str
    weight: float = 1.0


@dataclass(frozen=True)
class Registry:
    """Who takes part.

    Attributes:
        systems: by name, in the order of the file.
        weights: of pairs that are not as likely as others; the names sorted.
    """

    systems: Mapping[str, System]
    weights: Mapping[tuple[str, str], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse an arena in which nobody could be compared."""
        counts = {m: sum(s.modality == m for s in self.systems.values()) for m in MODALITIES}
        alone = [modality for modality, count in counts.items() if count == 1]
        if alone or not self.systems:
            raise SettingsError(
                f"An arena compares at least two systems of a kind, but there is only one of {', '.join(alone)}."
                if alone
                else "The registry names no system; an arena compares at least two."
            )

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """What can be asked for."""
        return tuple(m for m in MODALITIES if any(system.modality == m for system in self.systems.values()))

    def weight(self, first: str, second: str) -> float:
        """How likely two systems meet, against 1."""
        return self.weights.get((min(first, second), max(first, second)), 1.0)


def read_registry(path: Path) -> Registry:
    """The systems that a YAML file names.

    Raises:
        SettingsError: the file, one of its systems or a pair is not as it must be; with the line.
        UnknownNameError: a dotted path or a chat model does not exist.
    """
    values, lines = read_recipe(path)
    unknown = sorted(set(values) - {"systems", "pairs"})
    entries = values.get("systems")
    if unknown or not isinstance(entries, dict):
        wrong = f"unknown {unknown}" if unknown else "no systems"
        raise SettingsError(
            f"{path.name!r}: {wrong}; a registry has `systems:`, each with its name, and maybe `pairs:`."
        )
    systems = {}
    for name, entry in entries.items():
        where = f"systems.{name}."
        if not isinstance(entry, dict):
            raise SettingsError(f"{path.name!r}, line {lines.get(where[:-1])}: {name!r} must hold `name: value` lines.")
        systems[str(name)] = system(str(name), Entry(**resolve(Entry, entry, where=where, lines=lines)))
    pairs = values.get("pairs") or []
    if not isinstance(pairs, list) or not all(isinstance(pair, dict) for pair in pairs):
        raise SettingsError(f"{path.name!r}: `pairs` is a list of {{a: NAME, b: NAME, weight: NUMBER}}.")
    weights = {}
    for place, raw in enumerate(pairs):
        pair = Pair(**resolve(Pair, raw, where=f"pairs.{place}.", lines=lines))
        if pair.a == pair.b or not {pair.a, pair.b} <= set(systems) or not pair.weight >= 0:
            raise SettingsError(
                f"{path.name!r}, `pairs.{place}`: needs two different systems of this file and a weight of at least 0: "
                f"got {asdict(pair)}."
            )
        weights[min(pair.a, pair.b), max(pair.a, pair.b)] = pair.weight
    return Registry(systems, weights)


def system(name: str, entry: Entry) -> System:
    """A system from its entry in the registry.

    Raises:
        SettingsError: what its kind needs is missing.
        UnknownNameError: its callable does not exist.
    """
    needs = {"python": "path", "http": "url", "chat": "model"}[entry.kind]
    if not getattr(entry, needs):
        raise SettingsError(f"System {name!r} is of kind {entry.kind} and needs `{needs}`.")
    if entry.kind == "chat" and entry.modality != "text":
        raise SettingsError(f"System {name!r}: a chat model makes text, not {entry.modality}.")
    made = System(
        name,
        _from_python(entry) if entry.kind == "python" else Chat(entry) if entry.kind == "chat" else Http(entry),
        modality=entry.modality,
        organisation=entry.organisation,
        access=entry.access,
        training_data=entry.training_data,
        abilities=Abilities(entry.supports_lyrics, entry.max_duration),
        timeout=entry.timeout,
    )
    if isinstance(made.generate, Http):
        return replace(made, healthy=made.generate.healthy)
    return made


def _from_python(entry: Entry) -> Generate:
    found: Generate = functools.partial(named(entry.path), **entry.settings)
    return found


class Chat:
    """A chat model as a system; it is loaded when it is first asked.

    Args:
        entry: of the registry.
    """

    def __init__(self, entry: Entry):
        self.entry = entry
        self._lock = threading.Lock()  # an engine in this process answers one at a time
        self._model: Any = None

    def __call__(self, request: Request) -> Artefact:
        """Answer in words."""
        from penchant.chat import chat_model

        told = [{"role": "system", "content": self.entry.instruction}] if self.entry.instruction else []
        with self._lock:
            if self._model is None:
                self._model = chat_model(self.entry.model)
            [answer] = self._model.complete(
                [*told, {"role": "user", "content": request.prompt}],
                temperature=self.entry.temperature,
                max_tokens=self.entry.max_tokens,
                seed=request.seed,
            )
        return Artefact(_TEXT, answer.encode())


class Http:
    """Anything behind a URL: it gets the request as JSON by POST.

    It replies with the artefact itself under its Content-Type, or with JSON {media_type, data, seconds, lyrics} whose
    `data` is base64, or text where media_type is text/plain. Redirects are not followed: the key and the prompt go
    where the operator said, and nowhere else.

    Args:
        entry: of the registry.
        transport: another way to the network, for tests.
    """

    def __init__(self, entry: Entry, *, transport: httpx.BaseTransport | None = None):
        if not entry.url.startswith(("http://", "https://")):
            raise SettingsError(f"The URL of a system begins with http:// or https://: got {entry.url!r}.")
        self.entry = entry
        self._client = httpx.Client(timeout=entry.timeout, transport=transport, follow_redirects=False)

    def _headers(self) -> dict[str, str]:
        if not self.entry.key_variable:
            return {}
        key = os.environ.get(self.entry.key_variable)
        if not key:
            raise SettingsError(f"The environment variable {self.entry.key_variable} must hold the key of a system.")
        return {"Authorization": f"Bearer {key}"}

    def healthy(self) -> bool:
        """Whether the system says that it is well; taken for granted where no URL of that is known."""
        if not self.entry.health:
            return True
        try:
            return self._client.get(self.entry.health, headers=self._headers(), timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    def __call__(self, request: Request) -> Artefact:
        """Send a request and read what comes back, up to a limit."""
        try:
            with self._client.stream("POST", self.entry.url, json=asdict(request), headers=self._headers()) as reply:
                if reply.status_code != 200:
                    raise GenerationError(f"{self.entry.url} replied with status {reply.status_code}.")
                parts, size = [], 0
                for part in reply.iter_bytes():
                    parts.append(part)
                    size += len(part)
                    if size > 2 * LARGEST_ARTEFACT:
                        raise GenerationError(f"{self.entry.url} sent more than {2 * LARGEST_ARTEFACT >> 20} MiB.")
        except httpx.HTTPError as error:
            raise GenerationError(f"{self.entry.url} cannot be asked: {type(error).__name__}: {error}.") from error
        media_type = reply.headers.get("content-type", "").partition(";")[0].strip().lower()
        data = b"".join(parts)
        return _unpacked(data, self.entry.url) if media_type == "application/json" else Artefact(media_type, data)


def _unpacked(body: bytes, url: str) -> Artefact:
    try:
        reply = json.loads(body)
        media_type, data = reply["media_type"], reply["data"]
        made = data.encode() if media_type == _TEXT else base64.b64decode(data, validate=True)
        seconds = None if reply.get("seconds") is None else float(reply["seconds"])
        lyrics = reply.get("lyrics")
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error, RecursionError) as error:
        raise GenerationError(f"{url} sent JSON without a readable `media_type` and `data`: {error!r}.") from error
    return Artefact(str(media_type), made, seconds, lyrics if isinstance(lyrics, str) else None)
