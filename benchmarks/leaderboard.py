"""A leaderboard of 1.7 million votes between 130 systems: ours beside arena-rank's, which public arenas publish.

    python benchmarks/leaderboard.py [--quick] [--json -]

Votes are simulated: systems of unequal popularity (log-normal, so that pairs have from no to thousands of votes), 20 %
ties, a new world for each turn. Both sides read the same parquet file of three columns of strings, `model_a`, `model_b`
and `winner`, outside the clock: into an Arrow table here, into pandas there, as each of them wants it.

- `end_to_end`: from these columns to scores with intervals.
- `fit`: the part of it that starts from counted votes: ratings and their sandwich covariance. arena-rank compiles its
  optimiser anew for every fit, so that is in it; a first fit of another small board is made before the clock on both
  sides, so that imports and what is compiled once are not.
- `trust`: ours alone, 1,000 bootstrap refits and the fragility of every pair of neighbours, against the peer's one fit.

Ours is over so soon that its time is the mean of 20 fits, and of 5 boards from strings, the first ones included.
Scores are compared before any ratio is printed, as points against the mean of all (arena-rank does not centre its own).
As timed, arena-rank stops when its loss moves by less than a billionth, some hundredths of a point short of its own
optimum for rarely seen systems. So two differences are shown: from what it prints as timed (`_as_timed`), and from the
same fit told to go on until it no longer moves, outside the clock; this one decides. Widths of intervals differ by what
it adds to its Hessian and by its missing centre; they are shown and decide nothing. arena-rank pins versions of its
own, so it lives in an environment that is made when first needed, in the user's cache folder (or that of
PENCHANT_PEERS), and each turn runs there as a process.
"""

import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from statistics import median

import numpy as np
import platformdirs
import pyarrow as pa
import pyarrow.parquet as pq
from paired import Found, Result, Stopwatch, Work, alternate, arguments, peak_mib

PEER = "arena-rank==0.1.1"
HOME = Path(os.environ.get("PENCHANT_PEERS", platformdirs.user_cache_dir("penchant-benchmarks"))) / "arena-rank-0.1.1"
TIES, POPULARITY, STRENGTH = 0.2, 0.7, 0.7  # share of ties; log-normal and normal spreads, the latter in logits
N_RESAMPLES = 1000
N_FITS, N_WHOLE = 20, 5  # of ours, whose single turn is too short for a clock on a shared machine
MUST_AGREE = 0.05  # points
BARS = {"fit_ratio": 100, "end_to_end_ratio": 5, "trust_ratio": 1}

# What the peer's process runs; it knows nothing of this package.
_PEER_SIDE = """
import json, sys, time, warnings
warnings.filterwarnings("ignore")
import numpy as np, pandas as pd
import jax
from arena_rank.models.bradley_terry import BradleyTerry
from arena_rank.utils.data_utils import PairDataset

def settled(frame):
    # The same fit, told to go on until it no longer moves.
    data = PairDataset.from_pandas(frame)
    model = BradleyTerry(n_competitors=len(data.competitors))
    model.ftol, model.gtol, model.max_iter = 0.0, 1e-12, 3000
    return np.asarray(model.compute_ratings_and_cis(data)["ratings"])

def clocks():
    return time.perf_counter(), time.process_time()

def board(frame):
    begin = clocks()
    data = PairDataset.from_pandas(frame)
    jax.block_until_ready(data.opt_weights)
    counted = clocks()
    found = BradleyTerry(n_competitors=len(data.competitors)).compute_ratings_and_cis(data)
    jax.block_until_ready([found["ratings"], found["rating_lower"], found["rating_upper"]])
    return begin, counted, clocks(), found

frame = pd.read_parquet(sys.argv[1])
pairs = {"model_a": ["x", "y", "z"] * 9, "model_b": ["y", "z", "x"] * 9}
small = pd.DataFrame(pairs | {"winner": ["model_a"] * 14 + ["model_b"] * 13})
board(small)
begin, counted, end, found = board(frame)
print(json.dumps({
    "wall": end[0] - begin[0], "cpu": end[1] - begin[1],
    "fit_wall": end[0] - counted[0], "fit_cpu": end[1] - counted[1],
    "systems": list(found["competitors"]),
    "scores": np.asarray(found["ratings"]).tolist(),
    "settled": settled(frame).tolist(),
    "widths": (np.asarray(found["rating_upper"]) - np.asarray(found["rating_lower"])).tolist(),
}))
"""


def votes_file(path: Path, n_votes: int, n_systems: int, seed: int) -> None:
    """Simulated votes between systems, as columns of strings."""
    rng = np.random.default_rng(seed)
    popularity = np.exp(POPULARITY * rng.standard_normal(n_systems))
    popularity /= popularity.sum()
    truth = STRENGTH * rng.standard_normal(n_systems)
    first = rng.choice(n_systems, n_votes, p=popularity)
    second = rng.choice(n_systems, n_votes, p=popularity)
    while (same := np.flatnonzero(first == second)).size:
        second[same] = rng.choice(n_systems, len(same), p=popularity)
    kind = np.where(rng.random(n_votes) < 1 / (1 + np.exp(truth[second] - truth[first])), 0, 1)
    kind = np.where(rng.random(n_votes) < TIES, 2, kind)
    names = np.array([f"organisation/model-{place:03}-instruct" for place in range(n_systems)], dtype=object)
    words = np.array(["model_a", "model_b", "tie"], dtype=object)
    columns = {"model_a": names[first], "model_b": names[second], "winner": words[kind]}
    pq.write_table(pa.table(columns), path, use_dictionary=False)


def ours(work: Work) -> Found:
    """Ours, and what the peer does not have."""
    import pyarrow.compute as pc

    from penchant.evaluate.ballots import ballots
    from penchant.evaluate.board_bootstrap import resampled
    from penchant.evaluate.fragility import fragility
    from penchant.evaluate.leaderboard import Leaderboard, leaderboard
    from penchant.preference.counts import abilities
    from penchant.records import Battles

    def board(table: pa.Table) -> Leaderboard:
        words = pa.array(["a", "b", "tie"])
        outcome = pc.take(words, pc.index_in(table["winner"], pa.array(["model_a", "model_b", "tie"])))
        columns = {"system_a": table["model_a"], "system_b": table["model_b"], "outcome": outcome}
        return leaderboard(Battles(pa.table(columns)))

    cycle = {"model_a": ["x", "y", "z"] * 9, "model_b": ["y", "z", "x"] * 9}
    small = board(pa.table(cycle | {"winner": ["model_a"] * 14 + ["model_b"] * 13}))
    resampled(small, n_resamples=2), fragility(small)
    table = pq.read_table(work["file"])
    with Stopwatch() as whole:
        for _ in range(N_WHOLE):
            found = board(table)
    counts = ballots(found.votes.battles).counts
    with Stopwatch() as fits:
        for _ in range(N_FITS):
            abilities(counts)
    with Stopwatch() as trust:
        resampled(found, n_resamples=N_RESAMPLES)
        fragile = fragility(found)
    rows = {row.system: row for row in found.standings}
    systems = sorted(rows)
    return {
        "wall": whole.wall / N_WHOLE,
        "cpu": whole.cpu / N_WHOLE,
        "fit_wall": fits.wall / N_FITS,
        "fit_cpu": fits.cpu / N_FITS,
        "trust_wall": trust.wall,
        "trust_cpu": trust.cpu,
        "systems": systems,
        "scores": [rows[system].score for system in systems],
        "widths": [rows[system].ci_high - rows[system].ci_low for system in systems],
        "swaps": len(fragile.swaps),
    }


def peer(work: Work) -> Found:
    """arena-rank's, in its own environment."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "side.py"
        script.write_text(_PEER_SIDE, encoding="utf-8")
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(
            [str(_python(HOME)), str(script), work["file"]], env=environment, capture_output=True, text=True
        )
    if done.returncode:
        sys.exit(f"{done.stderr}\narena-rank's process failed, see above.")
    found: Found = json.loads(done.stdout.splitlines()[-1])
    return found


def prepare() -> str:
    """Make the peer's environment if there is none; why there is none, if it cannot be made."""
    ready = HOME / "ready"
    if ready.exists():
        return ""
    print(f"  making an environment for {PEER} in {HOME}, once", file=sys.stderr)
    venv.create(HOME, with_pip=True, clear=True)
    done = subprocess.run([str(_python(HOME)), "-m", "pip", "install", "--quiet", PEER], capture_output=True, text=True)
    if done.returncode:
        return f"{PEER} could not be installed: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}"
    ready.touch()
    return ""


def _python(home: Path) -> Path:
    return home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def main() -> None:
    """Turn by turn, each side on the same new votes."""
    asked = arguments(str(__doc__), ("board",))
    if asked.work:
        side = {"ours": ours, "peer": peer}[asked.work["side"]]
        print(json.dumps(side(asked.work) | {"peak_mib": peak_mib()}))
        return
    n_votes, n_systems, repeats = (100_000, 60, 2) if asked.quick else (1_700_000, 130, asked.repeats)
    why_not = prepare()
    sides = ("ours",) if why_not else ("ours", "peer")
    result = Result("leaderboard", quick=asked.quick, repeats=repeats, peers=("numpy", "scipy", "pyarrow"))
    result.numbers |= {"votes": n_votes, "systems": n_systems, "resamples": N_RESAMPLES, "peer": PEER}
    turns: dict[str, list[Found]] = {side: [] for side in sides}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(repeats):
            path = Path(folder) / "votes.parquet"
            votes_file(path, n_votes, n_systems, turn)
            works: dict[str, Work] = {side: {"side": side, "file": str(path)} for side in sides[:: 1 - 2 * (turn % 2)]}
            for side, found in alternate(works, 1).items():
                turns[side] += found
    result.keep("board", turns)
    for side, found in turns.items():
        for key in [name for name, value in found[0].items() if isinstance(value, float)]:
            result.number(f"{side}_{key}", median(one[key] for one in found))
    compare(result, turns, why_not)
    result.report(asked)


def compare(result: Result, turns: dict[str, list[Found]], why_not: str) -> None:
    """Agreement first, then ratios."""
    names = {"fit_ratio": ("fit_", "fit_"), "end_to_end_ratio": ("", ""), "trust_ratio": ("fit_", "trust_")}
    if not why_not:
        both = list(zip(turns["ours"], turns["peer"], strict=True))
        if any(mine["systems"] != other["systems"] for mine, other in both):
            sys.exit("The two sides rank different systems.")
        apart = max(_apart(mine["scores"], other["settled"]) for mine, other in both)
        result.number("max_elo_difference", apart)
        timed = max(_apart(mine["scores"], other["scores"]) for mine, other in both)
        result.number("max_elo_difference_as_timed", timed)
        widths = [np.abs(np.array(mine["widths"]) - np.array(other["widths"])).max() for mine, other in both]
        result.number("max_width_difference", float(max(widths)))
        if apart > MUST_AGREE:
            why_not = f"scores differ by {apart:.3g} points, more than {MUST_AGREE}"
    for name, (theirs, mine) in names.items():
        for key, clock in ((name, "wall"), (f"{name}_cpu", "cpu")):
            if why_not:
                result.refuse(key, why_not)
            else:
                over = [one[theirs + clock] for one in turns["peer"]]
                result.ratio(key, over, [one[mine + clock] for one in turns["ours"]])
    result.numbers["bars"] = BARS


def _apart(mine: list[float], other: list[float]) -> float:
    """Largest difference of scores against the mean of all, points."""
    one, two = np.array(mine), np.array(other)
    return float(np.abs((one - one.mean()) - (two - two.mean())).max())


if __name__ == "__main__":
    main()
