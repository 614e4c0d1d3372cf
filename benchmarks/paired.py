"""What a benchmark of ours beside a peer needs: processes apart, alternating repeats, ratios that may be refused.

A machine that others use too gives no two equal timings. So each side runs in a process of its own (its peak memory is
then its own), sides take turns, a ratio is taken within each turn, and one whose spread over the turns is wider than
its distance from 1 is not printed but refused, with the reason.
"""

import argparse
import importlib.metadata
import json
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from penchant.exchange import write_json

RESULTS = Path(__file__).parents[1] / "docs" / "benchmarks"
Work = dict[str, Any]
Found = dict[str, Any]


def arguments(about: str, cases: Sequence[str] = ()) -> argparse.Namespace:
    """The options that every benchmark has; `work` is what a process of its own is asked to do, as JSON.

    Args:
        about: the docstring of the script.
        cases: names of parts that can be measured alone.
    """
    parser = argparse.ArgumentParser(description=about.partition("\n")[0])
    parser.add_argument("--json", metavar="FILE", help="write the result as one line of JSON; - is stdout")
    parser.add_argument("--quick", action="store_true", help="a small form, under a minute; leaves the docs alone")
    if cases:
        parser.add_argument("--repeats", type=int, default=3, help="turns that each side takes, 2 at least")
        parser.add_argument("--case", choices=cases, help="measure this one again; the others stay as they were")
    parser.add_argument("--work", type=json.loads, help=argparse.SUPPRESS)
    return parser.parse_args()


class Stopwatch:
    """Wall and CPU seconds of a `with` block, CPU over all threads."""

    wall = cpu = 0.0

    def __enter__(self) -> "Stopwatch":
        """Start."""
        self._begin = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        wall, cpu = self._begin
        self.wall, self.cpu = time.perf_counter() - wall, time.process_time() - cpu


def peak_mib() -> float:
    """The most memory that this process has ever held at once, MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)  # bytes there, KiB elsewhere


def apart(work: Work) -> Found:
    """What this script finds when it does some work in a process of its own.

    Raises:
        SystemExit: the process failed; its own words have been printed.
    """
    # Nothing is fetched from a hub, whatever a peer would like to look up there.
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    quiet = {"TOKENIZERS_PARALLELISM": "false", "TQDM_DISABLE": "1"}
    threads = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(os.cpu_count()))}
    done = subprocess.run(
        [sys.executable, sys.argv[0], "--work", json.dumps(work)],
        env={**os.environ, **threads, **offline, **quiet},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(f"{done.stderr}\n{Path(sys.argv[0]).name}: the process that should do {work} failed, see above.")
    found: Found = json.loads(done.stdout.splitlines()[-1])
    return found


def alternate(works: Mapping[str, Work], repeats: int) -> dict[str, list[Found]]:
    """What each side finds, turn by turn; every other turn runs backwards, so that a drift favours nobody."""
    found: dict[str, list[Found]] = {side: [] for side in works}
    for turn in range(repeats):
        for side in list(works)[:: 1 if turn % 2 == 0 else -1]:
            found[side].append(apart(works[side]))
            shown = {name: value for name, value in found[side][-1].items() if isinstance(value, float)}
            told = " ".join(f"{name} {value:.4g}" for name, value in shown.items())
            print(f"  {side}, turn {turn + 1} of {repeats}: {told}", file=sys.stderr, flush=True)
    return found


class Result:
    """The numbers of one benchmark, among them ratios that may be refused.

    Args:
        name: of the benchmark.
        quick: whether this is its small form.
        repeats: turns each side takes.
        peers: packages whose versions matter.
    """

    def __init__(self, name: str, *, quick: bool, repeats: int, peers: Sequence[str]):
        versions = {package: _version(package) for package in ("penchant", *peers)}
        self.numbers: Found = {"benchmark": name, "quick": quick, "repeats": repeats, "versions": versions}
        self.numbers |= {"threads": int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1))}
        self.numbers |= {"spread": {}, "refused": {}, "measured": {}}

    def go_on(self) -> None:
        """Start from the numbers that an earlier run has written, if it was of the same versions."""
        path = RESULTS / f"{self.numbers['benchmark']}.json"
        earlier: Found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if earlier.get("versions") == self.numbers["versions"]:
            self.numbers = earlier | {"repeats": min(earlier["repeats"], self.numbers["repeats"])}

    def keep(self, case: str, found: Mapping[str, list[Found]]) -> None:
        """Every single measurement of a case, for whoever doubts a ratio."""
        self.numbers["measured"][case] = {
            side: {key: [one[key] for one in turns] for key in turns[0] if isinstance(turns[0][key], float)}
            for side, turns in found.items()
        }

    def ratio(self, name: str, over: Sequence[float], under: Sequence[float], *, scale: float = 1.0) -> None:
        """The median over the turns of over / under, with its lowest and highest value; null where it is refused.

        Args:
            name: key of the ratio.
            over: one number a turn.
            under: likewise.
            scale: what the ratio is multiplied with after the decision, to state it as a share of a bound.
        """
        ratios = [a / b for a, b in zip(over, under, strict=True)]
        value, low, high = median(ratios), min(ratios), max(ratios)
        self.numbers["spread"][name] = [low * scale, high * scale]
        self.number(name, value * scale)
        if len(over) < 2:
            self.refuse(name, "one turn has no spread")
        elif high - low > abs(value - 1):
            self.refuse(name, f"the spread {low:.3g} to {high:.3g} is wider than the distance of {value:.3g} from 1")

    def speed(self, name: str, peer: Sequence[Found], ours: Sequence[Found], *, scale: float = 1.0) -> None:
        """How many times faster ours is by the clock on the wall, and by CPU time under the name with `_cpu`."""
        for key, clock in ((name, "wall"), (f"{name}_cpu", "cpu")):
            self.ratio(key, [one[clock] for one in peer], [one[clock] for one in ours], scale=scale)

    def number(self, name: str, value: float) -> None:
        """A number, in the place of a refusal if there was one."""
        self.numbers[name] = value
        self.numbers["refused"].pop(name, None)

    def refuse(self, name: str, reason: str) -> None:
        """No number under this name."""
        self.numbers[name] = None
        self.numbers["refused"][name] = reason

    def report(self, asked: argparse.Namespace) -> None:
        """Write the page's JSON (the full form only), and print the result as it was asked for."""
        numbers = _rounded(self.numbers)
        if not asked.quick:
            write_json(RESULTS / f"{numbers['benchmark']}.json", numbers)
        if asked.json is None:
            print(table(numbers))
        elif asked.json == "-":
            print(json.dumps(numbers))
        else:
            write_json(Path(asked.json), numbers)


def table(numbers: Found) -> str:
    """The single numbers of a result, with the spread of ratios and the reasons of refusals."""
    lines = []
    for name, value in numbers.items():
        if isinstance(value, dict | list | str) or name in ("quick", "threads"):
            continue
        shown = "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
        low, high = numbers["spread"].get(name, (None, None))
        spread = "" if low is None else f"[{low:.3g}, {high:.3g}]"
        reason = numbers["refused"].get(name, "")
        lines.append(f"{name:32} {shown:>12}  {spread:16} {reason}".rstrip())
    return "\n".join(lines)


def single_token_words(tokenizer: Any) -> list[str]:
    """Words that are one token at the start of a text and one behind a space, sorted: n of them are n tokens."""
    known = tokenizer.get_vocab()
    # byte-level vocabularies write the space before a word as this letter
    return sorted(word for word in known if re.fullmatch("[a-z]{3,8}", word) and f"\u0120{word}" in known)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _rounded(value: Any) -> Any:
    """Six digits are more than any number here is worth."""
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(one) for one in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
