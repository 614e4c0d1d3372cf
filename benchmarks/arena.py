"""An arena under load: how long a vote takes at 200 votes a second, and whether any is lost when the server is killed.

    python benchmarks/arena.py                       # both, and the page's JSON
    python benchmarks/arena.py --quick --json -      # a few seconds, a few kills

Votes go over HTTP to the loopback interface, through everything that a visitor's vote goes through: guard, cookie,
token, limits, the gate, and a disk that has it before it is acknowledged (WAL, synchronous=FULL).

Latency: `penchant arena` runs in a process of its own; votes leave at their times whether earlier ones came back or
not, and count from when they should have left.

Kills: the server is killed by SIGKILL at an instant drawn at random while visitors vote, change votes and repeat them,
and is started again. After every kill the database is read with its own driver: what was acknowledged must be there,
once, and nothing else but what was sent. Ends with code 1 otherwise.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1"}  # before numpy: forked threads do not live on

from penchant.apps.arena import security, storage
from penchant.apps.arena.battles import Book

HERE = Path(__file__).parent
RESULTS = HERE.parent / "docs" / "benchmarks"
SECRET = "not a secret: battles of a benchmark only"
PREFERENCES = ("A", "B", "TIE", "BOTH_BAD")
CONNECTIONS = 16
BAR_MS = 20.0
SYSTEMS = """
systems:
  calm: {kind: chat, model: small-chat}
  loud: {kind: chat, model: small-chat, instruction: Shout.}
"""


@dataclass
class Battle:
    """A battle that waits for its vote, whose both sides were read long enough.

    Attributes:
        name: its id.
        cookie: of whom it is.
        token: to it.
        plan: votes to send, without repetitions: the history that must come of it.
        sent: how many of them were sent.
        acknowledged: how many of those.
    """

    name: str
    cookie: str
    token: str
    plan: list[str] = field(default_factory=list)
    sent: int = 0
    acknowledged: int = 0


def prepared(store: Path, n: int, drawn: random.Random) -> list[Battle]:
    """A store with n battles of fifty visitors, as the server itself would have written them."""
    keys = security.Keys(SECRET)
    base = storage.Database(f"sqlite:///{store}")
    book, now = Book(), time.time()
    cookies = [keys.new_cookie() for _ in range(50)]
    made = {"access": "open", "start": now, "end": now, "retries": 0, "checksum": "", "seconds": None, "lyrics": None}
    made |= {"names_itself": False, "speed": None}
    found: list[Battle] = []

    def write(connection: Any) -> None:
        rows, events = [], []
        for place in range(n):
            cookie = cookies[place % len(cookies)]
            number = str(keys.number(cookie))
            name = f"{drawn.getrandbits(96):024x}"
            found.append(Battle(name, cookie, keys.token(number)))
            row = {"id": name, "session": keys.hashed("session", number), "address": "-", "created": now}
            row |= {"state": "ready", "board": "text", "prompt": f"prompt {place}", "request": {}, "ready": now}
            rows.append(row | {"system_a": "calm", "system_b": "loud", "a": made, "b": made})
            for side in ("a", "b"):
                for kind, at in (("PLAY", 0), ("TICK", 2), ("TICK", 4), ("PAUSE", 6)):
                    events.append({"battle": name, "side": side, "kind": kind, "time": now + at})
        connection.execute(storage.battles.insert(), rows)
        connection.execute(storage.events.insert(), events)
        for cookie in cookies:
            book.consent(connection, keys.hashed("session", str(keys.number(cookie))))

    base.write(write)
    base.close()
    return found


class Connection:
    """One HTTP connection that stays open; as little as a browser needs, so that the load weighs little."""

    def __init__(self, port: int):
        self.port = port
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def vote(self, battle: Battle, preference: str) -> tuple[int, Any]:
        """Cast a vote; the status and what came back."""
        if self.streams is None:
            self.streams = await asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = self.streams
        body = json.dumps({"preference": preference})
        writer.write(
            f"POST /api/battles/{battle.name}/vote HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n"
            f"Origin: http://127.0.0.1:{self.port}\r\nCookie: arena={battle.cookie}\r\nX-Token: {battle.token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").lower().split("\r\n")
        length = next(int(line[15:]) for line in lines if line.startswith("content-length:"))
        return int(lines[0].split()[1]), json.loads(await reader.readexactly(length))

    def close(self) -> None:
        """End it; the next vote opens another one."""
        if self.streams is not None:
            self.streams[1].close()
        self.streams = None


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


async def listening(port: int, alive: Any) -> None:
    """Until somebody listens at a port."""
    while alive():
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        except OSError:
            await asyncio.sleep(0.005)
    raise SystemExit("The server ended before it listened, see above.")


async def at_rate(port: int, battles: list[Battle], rate: float, drawn: random.Random) -> list[float]:
    """Vote once in every battle, so many a second; seconds from when each vote was due to its acknowledgement."""
    idle: asyncio.Queue[Connection] = asyncio.Queue()
    for _ in range(CONNECTIONS):
        idle.put_nowait(Connection(port))
    took: list[float] = []

    async def one(battle: Battle, due: float) -> None:
        connection = await idle.get()
        battle.plan = [drawn.choice(PREFERENCES)]
        status, reply = await connection.vote(battle, battle.plan[0])
        took.append(time.perf_counter() - due)
        if status != 200 or reply["preference"] != battle.plan[0]:
            raise SystemExit(f"A vote was answered by {status}: {reply}")
        idle.put_nowait(connection)

    begun, tasks = time.perf_counter() + 0.1, []
    for place, battle in enumerate(battles):
        due = begun + place / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(one(battle, due)))
    await asyncio.gather(*tasks)
    while not idle.empty():
        idle.get_nowait().close()
    return took


def latency(folder: Path, *, rate: float, seconds: float, turns: int, seed: int) -> dict[str, Any]:
    """p50, p99 and maximum of each turn, in a server that runs through all of them."""
    drawn = random.Random(seed)
    store, systems, port = folder / "latency.db", folder / "systems.yaml", free_port()
    systems.write_text(SYSTEMS, encoding="utf-8")
    battles = prepared(store, round(rate * seconds) * turns + 200, drawn)
    given = {"systems": systems, "store": store, "port": port, "requests-per-second": 10_000}
    command = [sys.executable, "-m", "penchant", "arena", *(f"--{name}={value}" for name, value in given.items())]
    server = subprocess.Popen(command, env={**os.environ, security.SECRET_VARIABLE: SECRET})
    found = []
    try:
        asyncio.run(listening(port, lambda: server.poll() is None))
        asyncio.run(at_rate(port, battles[:200], rate, drawn))  # warm: nothing is compiled or opened any more
        n = round(rate * seconds)
        for turn in range(turns):
            took = sorted(asyncio.run(at_rate(port, battles[200 + turn * n : 200 + (turn + 1) * n], rate, drawn)))
            found.append({"p50": took[len(took) // 2], "p99": took[int(0.99 * len(took))], "most": took[-1]})
    finally:
        server.terminate()
        server.wait(20)
    with contextlib.closing(sqlite3.connect(store)) as connection:
        [kept] = connection.execute("SELECT count(*) FROM arena_battles WHERE preference IS NOT NULL").fetchone()
    if kept != len(battles):
        raise SystemExit(f"{len(battles)} votes were acknowledged and {kept} are kept.")
    milliseconds = {name: [round(1000 * turn[name], 3) for turn in found] for name in ("p50", "p99", "most")}
    return {
        "votes_per_second": rate,
        "votes": round(rate * seconds) * turns,
        "p50_ms": median(milliseconds["p50"]),
        "p99_ms": median(milliseconds["p99"]),
        "turns_ms": milliseconds,
        "bar_ms": BAR_MS,
        "holds": max(milliseconds["p99"]) <= BAR_MS,
    }


def started(store: Path, systems: Path, port: int) -> int:
    """The server in a process forked from this one, which has imported it already."""
    number = os.fork()
    if number:
        return number
    try:
        from penchant.apps.arena.serve import arena

        os.environ[security.SECRET_VARIABLE] = SECRET
        with open(os.devnull, "w", encoding="ascii") as nowhere:
            os.dup2(nowhere.fileno(), 2)
            arena(systems=systems, store=str(store), port=port, requests_per_second=1e6)
        os._exit(0)
    except BaseException:
        os._exit(1)


async def voting(port: int, waiting: list[Battle], until: float, drawn: random.Random) -> None:
    """Visitors vote, change votes and repeat them until the server is gone or nobody is left."""

    async def visitor() -> None:
        connection = Connection(port)
        try:
            while waiting and time.monotonic() < until + 1:
                battle = waiting.pop()
                try:
                    while battle.acknowledged < len(battle.plan):
                        battle.sent = battle.acknowledged + 1
                        for _ in range(1 + (drawn.random() < 0.2)):  # a repetition is the same vote
                            preference = battle.plan[battle.acknowledged]
                            status, reply = await connection.vote(battle, preference)
                            if status != 200 or reply["preference"] != preference:
                                raise SystemExit(f"A vote was answered by {status}: {reply}")
                        battle.acknowledged += 1
                except (OSError, asyncio.IncompleteReadError):
                    waiting.append(battle)
                    return
        finally:
            connection.close()

    await asyncio.gather(*(visitor() for _ in range(8)))


def check(store: Path, battles: list[Battle], counts: Counter[str]) -> None:
    """Count what is wrong with the votes that are kept."""
    with contextlib.closing(sqlite3.connect(store, timeout=60)) as connection:
        [sound] = connection.execute("PRAGMA quick_check").fetchone()
        if sound != "ok":
            raise SystemExit(f"The database is damaged: {sound}")
        kept: dict[str, list[str]] = {}
        for name, preference in connection.execute("SELECT battle, preference FROM arena_votes ORDER BY id"):
            kept.setdefault(name, []).append(preference)
        standing = dict(connection.execute("SELECT id, preference FROM arena_battles WHERE preference IS NOT NULL"))
    for battle in battles:
        history = kept.get(battle.name, [])
        counts["lost"] += max(0, battle.acknowledged - len(history))
        counts["doubled"] += max(0, len(history) - battle.sent)
        counts["wrong"] += history != battle.plan[: len(history)]
        counts["wrong"] += standing.get(battle.name) != (history[-1] if history else None)
    counts["checks"] += 1


def soak(folder: Path, n_kills: int, seed: int) -> dict[str, Any]:
    """Kill the server under load, again and again."""
    import uvicorn  # noqa: F401  # what the processes need is imported once, here

    import penchant.apps.arena.serve
    import penchant.apps.arena.web  # noqa: F401

    drawn, counts, begun = random.Random(seed), Counter[str](), time.monotonic()
    systems, port = folder / "soak.yaml", free_port()
    systems.write_text(SYSTEMS, encoding="utf-8")
    store, battles, waiting = folder / "none.db", list[Battle](), list[Battle]()
    while counts["kills"] < n_kills:
        if not waiting:
            counts["rounds"] += 1
            store = folder / f"soak-{counts['rounds']}.db"
            battles = prepared(store, 3000, drawn)
            for battle in battles:
                first, second = drawn.sample(PREFERENCES, 2)
                battle.plan = [first, second] if drawn.random() < 0.3 else [first]
            waiting = list(battles)
        number = started(store, systems, port)
        asyncio.run(listening(port, lambda number=number: os.waitpid(number, os.WNOHANG)[0] == 0))
        lives = drawn.uniform(0, 0.4)
        killer = subprocess.Popen(["sh", "-c", f"sleep {lives:.4f}; kill -9 {number}"])
        before = sum(battle.acknowledged for battle in battles)
        asyncio.run(voting(port, waiting, time.monotonic() + lives, drawn))
        killer.wait()
        if os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]) != -signal.SIGKILL:
            raise SystemExit("The server ended by itself.")
        counts["kills"] += 1
        acknowledged = sum(battle.acknowledged for battle in battles) - before
        counts["acknowledged"] += acknowledged
        counts["kills_under_load"] += bool(waiting)
        check(store, battles, counts)
        if counts["kills"] % 100 == 0:
            print(f"{counts['kills']} kills, {counts['acknowledged']} votes", file=sys.stderr, flush=True)
    names = ("kills", "kills_under_load", "acknowledged", "lost", "doubled", "wrong", "checks", "rounds")
    return {name: counts[name] for name in names} | {"seconds": round(time.monotonic() - begun, 1), "seed": seed}


def main() -> None:
    """Parse, measure, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, help="servers to kill; 1000 without it, 5 with --quick")
    parser.add_argument("--only", choices=("latency", "soak"), help="one of the two")
    parser.add_argument("--quick", action="store_true", help="a few seconds, and nothing is written for the page")
    parser.add_argument("--seed", type=int, default=0, help="of the instants and the votes")
    parser.add_argument("--json", metavar="FILE", help="where the result goes as JSON; - is standard output")
    asked = parser.parse_args()
    kept = RESULTS / "arena.json"
    result: dict[str, Any] = {"benchmark": "arena", "quick": asked.quick}
    if asked.only and not asked.quick and kept.exists():
        result |= json.loads(kept.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory(prefix="penchant-arena-") as folder:
        if asked.only != "soak":
            turns, seconds = (1, 3) if asked.quick else (3, 30)
            result["latency"] = latency(Path(folder), rate=200, seconds=seconds, turns=turns, seed=asked.seed)
        if asked.only != "latency":
            kills = asked.kills or (5 if asked.quick else 1000)
            result["soak"] = soak(Path(folder), kills, asked.seed)
    line = json.dumps(result)
    if not asked.quick:
        kept.write_text(line + "\n", encoding="utf-8")
    if asked.json and asked.json != "-":
        Path(asked.json).write_text(line + "\n", encoding="utf-8")
    else:
        print(line)
    wrong = sum(result.get("soak", {}).get(name, 0) for name in ("lost", "doubled", "wrong"))
    if wrong or not result.get("latency", {"holds": True})["holds"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
