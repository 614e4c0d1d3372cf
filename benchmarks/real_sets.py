"""Real sets that name their users, as benchmarks use them. They are not part of the project."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from penchant.errors import DataError
from penchant.feedback.importing import read
from penchant.feedback.pairing import comparisons as paired
from penchant.records import Comparisons

ROOT = Path(__file__).parents[1]
FOLDER = Path(os.environ.get("PENCHANT_DATA", ROOT.parent / "shared" / "data"))


@dataclass(frozen=True)
class RealSet:
    """A set.

    Attributes:
        name: its folder.
        file: in it.
        encoding: how its payloads become vectors.
        most_pairs: made of one person's ratings or rankings.
        about: what it is, in a sentence.
    """

    name: str
    file: str
    encoding: str
    most_pairs: int
    about: str


SETS = (
    RealSet(
        "popquorn_offensiveness",
        "ratings.jsonl.gz",
        "minilm+style",
        100,
        "People found comments more or less offensive (the more offensive one counts as chosen); demographics known.",
    ),
    RealSet("mtbench_votes", "votes.jsonl.gz", "items", 200, "Judges preferred one of six chat models, by its name."),
    RealSet("writer_edits", "rankings.jsonl.gz", "minilm+style", 200, "Writers ranked three versions of a paragraph."),
    RealSet("jester_jokes", "ratings.csv.gz", "minilm+style", 60, "People rated the same 100 jokes."),
    RealSet("sushi_rankings", "rankings.csv.gz", "minilm", 45, "People ranked ten kinds of sushi, by their names."),
    RealSet("pandalm_human", "pairs.jsonl.gz", "minilm+style", 200, "Three annotators compared the same answers."),
    RealSet(
        "hh_two_objectives",
        "pairs.jsonl.gz",
        "minilm+style",
        200,
        "The same answers judged by two goals, helpful and harmless, which stand for two people.",
    ),
)
BY_NAME = {one.name: one for one in SETS}


def loaded(one: RealSet, folder: Path, most_people: int) -> tuple[Comparisons, set[str]]:
    """All comparisons of a set by at most so many people, and the kinds of record they come from."""
    imported = read(folder / one.name / one.file)
    parts, kinds = [], set()
    for kind, records in imported.records.items():
        users = records.users[:: max(1, len(records.users) // most_people)][:most_people]
        kept = set(users)
        keep = [row for row, user in enumerate(records.table["user"].to_pylist()) if user in kept]
        try:
            parts.append(paired(records.take(keep), max_pairs_per_user=one.most_pairs, seed=0)[0])
            kinds.add(kind)
        except DataError as error:
            print(f"  {error}", file=sys.stderr)
    return Comparisons.concat(parts), kinds
