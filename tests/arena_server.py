"""An arena of the tiny systems, as its own process behind real HTTP, and a visitor who speaks to it."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

import penchant

SYSTEMS = """
systems:
  low: {kind: python, path: "arena_systems:tone", modality: audio, settings: {pitch: 220.0}, organisation: Tones Ltd}
  high: {kind: python, path: "arena_systems:tone", modality: audio, settings: {pitch: 660.0}, access: proprietary}
  calm: {kind: python, path: "arena_systems:echo"}
  loud: {kind: python, path: "arena_systems:echo", settings: {loud: true}}
  red: {kind: python, path: "arena_systems:square", modality: image}
  wine: {kind: python, path: "arena_systems:square", modality: image, settings: {red: 90, size: 64}}
"""


@dataclass(frozen=True)
class Server:
    """A running arena."""

    url: str
    store: Path
    process: subprocess.Popen[bytes]


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def command(folder: Path, port: int, **options: Any) -> list[str]:
    """The command line of an arena in a folder."""
    (folder / "systems.yaml").write_text(SYSTEMS, encoding="utf-8")
    given = {"systems": folder / "systems.yaml", "store": folder / "arena.db", "port": port, **options}
    flags = [part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    return [sys.executable, "-m", "penchant", "arena", *flags]


def environment() -> dict[str, str]:
    """Where the process finds penchant and the tiny systems."""
    paths = [str(Path(penchant.__file__).parents[1]), str(Path(__file__).parent)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}


@contextmanager
def running(folder: Path, **options: Any) -> Iterator[Server]:
    """An arena, ended at the end."""
    port = free_port()
    process = subprocess.Popen(command(folder, port, **options), env=environment(), stderr=subprocess.PIPE)
    server = Server(f"http://127.0.0.1:{port}", folder / "arena.db", process)
    try:
        wait(server)
        yield server
    finally:
        process.terminate()
        process.wait(10)
        process.stderr.close()


def wait(server: Server) -> None:
    """Until it answers."""
    for _ in range(600):
        try:
            httpx.get(f"{server.url}/api/session", trust_env=False)
            return
        except httpx.TransportError:
            if server.process.poll() is not None:
                raise RuntimeError(server.process.stderr.read().decode()) from None
            time.sleep(0.05)
    raise RuntimeError("The arena does not start.")


@dataclass
class Visitor:
    """Somebody who visits, without a browser."""

    http: httpx.Client
    url: str
    token: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    def enter(self) -> "Visitor":
        """Get a cookie and accept the terms."""
        found = self.http.get(f"{self.url}/api/session").json()
        self.token = found["token"]
        assert self.post("/api/consent", {"terms": found["terms"]}).status_code == 200
        return self

    def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        """Send something as the page does."""
        sent = {"origin": self.url, "x-token": self.token, **headers}
        return self.http.post(f"{self.url}{path}", json=body, headers={k: v for k, v in sent.items() if v})

    def look(self, battle: str) -> httpx.Response:
        """How a battle stands."""
        return self.http.get(f"{self.url}/api/battles/{battle}")
