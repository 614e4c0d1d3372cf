"""Real votes and published boards: is the order of systems the same in halves of votes, do published boards parse?"""

import gzip
import json
import re
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.stats import kendalltau

from penchant.evaluate.leaderboard import leaderboard
from penchant.feedback.importing import read
from penchant.records import Battles
from penchant.reproductions.real_data import real_data

_HALVES = 50
_PANDALM = {0: "tie", 1: "a", 2: "b"}


def real_battles() -> dict[str, Battles]:
    """Sets of real votes that are there, by name."""
    found: dict[str, Battles] = {}
    path = real_data("mtbench_votes/votes.jsonl.gz")
    if path is not None:
        votes = read(path, format="battles").records["battle"]
        found["MT-bench"] = Battles(votes.table)
    path = real_data("pandalm_human/pairs.jsonl.gz")
    if path is not None:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            found["PandaLM"] = pandalm(json.loads(line) for line in lines)
    return found


def pandalm(rows: Any) -> Battles:
    """Battles of PandaLM's rows: one of each annotator, systems as `cmp_key` names them, responses in its order."""
    votes = []
    for row in rows:
        first, second = row["cmp_key"].split("_")
        for number in (1, 2, 3):
            outcome = _PANDALM[row[f"annotator{number}"]]
            votes.append({"system_a": first, "system_b": second, "outcome": outcome, "user": f"annotator{number}"})
    return Battles.from_rows(votes)


def halves(battles: Battles, *, seed: int = 0) -> list[float]:
    """Kendall tau between the orders of two random halves of the votes, for many halvings."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(_HALVES):
        order = rng.permutation(len(battles))
        parts = np.array_split(order, 2)
        boards = [leaderboard(Battles(battles.table.take(pa.array(part)))) for part in parts]
        scores = [{row.system: row.score for row in board.standings} for board in boards]
        both = sorted(set(scores[0]) & set(scores[1]))
        found.append(float(kendalltau(*([each[name] for name in both] for each in scores)).statistic))
    return found


_NUMBER = r"(\d+(?:\.\d+)?)"
_APART = re.compile(rf"\+{_NUMBER} / -{_NUMBER}")
_SAME = re.compile(rf"±{_NUMBER}")


def half_widths(text: str) -> tuple[float, float]:
    """How far an interval goes up and down, as published: "+72.9 / -62.9" or "±43".

    Raises:
        ValueError: it is neither.

    >>> half_widths("+72.9 / -62.9"), half_widths("±43")
    ((72.9, 62.9), (43.0, 43.0))
    """
    if apart := _APART.fullmatch(text.strip()):
        return float(apart[1]), float(apart[2])
    if same := _SAME.fullmatch(text.strip()):
        return float(same[1]), float(same[1])
    raise ValueError(f"{text!r} is no interval such as '+72.9 / -62.9' or '±43'.")


def snapshots() -> dict[str, int] | None:
    """Rows of the published boards, boards, intervals of each style, and ranks out of order; None without the set.

    Raises:
        ValueError: an interval, a rank or a score does not parse.
    """
    path = real_data("music_arena/leaderboards.jsonl")
    if path is None:
        return None
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    boards: dict[tuple[str, str], list[tuple[int, float]]] = {}
    apart = 0
    for row in rows:
        half_widths(row["95% CI"])
        apart += "/" in row["95% CI"]
        boards.setdefault((row["snapshot"], row["kind"]), []).append((int(row["Rank"]), float(row["Arena Score"])))
    wrong = sum(later[1] > sooner[1] for board in boards.values() for sooner, later in pairwise(sorted(board)))
    return {"rows": len(rows), "boards": len(boards), "apart": apart, "same": len(rows) - apart, "wrong": wrong}


def notes() -> list[str]:
    """What real votes and published boards say, a sentence each; they decide nothing."""
    said = []
    for name, battles in real_battles().items():
        taus = np.array(halves(battles))
        low, high = np.quantile(taus, [0.025, 0.975])
        said.append(
            f"real votes, {name} ({len(battles)}): Kendall tau between random halves {taus.mean():.2f}, "
            f"95 % of halvings within [{low:.2f}, {high:.2f}]"
        )
    found = snapshots()
    if found is not None:
        said.append(
            f"published boards: all {found['rows']} rows of {found['boards']} boards parse, {found['apart']} intervals "
            f"as +x / -y and {found['same']} as ±x; {found['wrong']} neighbours are ranked against their scores"
        )
    return said or ["the sets of real votes and published boards are not on this machine"]
