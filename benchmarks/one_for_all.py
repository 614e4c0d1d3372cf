"""One model for all against one for each, on every real set that names its users.

    python benchmarks/one_for_all.py [FOLDER OF SETS]

Three people in ten are set aside; everybody's model is fitted on the others. Each person set aside then shows two
thirds of their choices to their own model and is measured on the rest. Sets are not part of the project: where one is
absent it is left out. Sets of two or three annotators (hh_two_objectives, pandalm_human) have nobody to set aside.
Pairs made from ratings or rankings are held out by response. Writes `docs/results/one_for_all.json`.
"""

import os
import sys
import time
from pathlib import Path

from penchant.apps import choices
from penchant.apps.learn import encoder_of
from penchant.apps.names import items_of
from penchant.apps.one_for_all import compare
from penchant.errors import DataError
from penchant.evaluate.held_out import Split, by_time, new_people, split_for
from penchant.exchange import write_json
from penchant.feedback.importing import read
from penchant.feedback.pairing import comparisons as paired
from penchant.preference import BradleyTerry
from penchant.records import Comparisons

ROOT = Path(__file__).parents[1]
SETS = (
    # name, file, encoding, pairs of one person at most
    ("popquorn_offensiveness", "ratings.jsonl.gz", "minilm+style", 100),
    ("mtbench_votes", "votes.jsonl.gz", "items", 200),
    ("writer_edits", "rankings.jsonl.gz", "minilm+style", 200),
    ("jester_jokes", "ratings.csv.gz", "minilm+style", 60),
    ("sushi_rankings", "rankings.csv.gz", "minilm", 45),
)
MOST_PEOPLE = 200


def loaded(folder: Path, file: str, cap: int) -> tuple[Comparisons, Split]:
    """All comparisons of a set, of at most so many people."""
    imported = read(folder / file)
    parts = []
    for records in imported.records.values():
        users = records.users[:: max(1, len(records.users) // MOST_PEOPLE)][:MOST_PEOPLE]
        keep = [row for row, user in enumerate(records.table["user"].to_pylist()) if user in set(users)]
        try:
            parts.append(paired(records.take(keep), max_pairs_per_user=cap, seed=0)[0])
        except DataError as error:
            print(f"  {error}", file=sys.stderr)
    return Comparisons.concat(parts), split_for(imported.records)


def line(name: str, found: Comparisons, encoding: str, split: Split = by_time) -> dict[str, object]:
    """One set, measured."""
    begin = time.perf_counter()
    shared, seen, held_out = new_people(found, split=split)
    result = compare(BradleyTerry(encoder=encoder_of(encoding, items_of(found))), seen, held_out, shared=shared)
    accuracy, surprise = result["accuracy"], result["log_loss"]
    return {
        "set": name,
        "people": result["n_people"],
        "held_out": result["n_held_out"],
        "one_for_all": accuracy.one_for_all.estimate,
        "per_user": accuracy.per_user.estimate,
        "gain": [accuracy.gain.estimate, accuracy.gain.low, accuracy.gain.high],
        "log_loss_gain": [surprise.gain.estimate, surprise.gain.low, surprise.gain.high],
        "share_worse": accuracy.share_worse.estimate,
        "by_chance": accuracy.placebo.worse.estimate,
        "encoding": encoding,
        "seconds": round(time.perf_counter() - begin, 1),
    }


def measured(name: str, folder: Path, file: str, encoding: str, cap: int) -> dict[str, object]:
    """One set that is on this machine, measured."""
    found, split = loaded(folder, file, cap)
    return line(name, found, encoding, split)


def main() -> None:
    """Measure every set that is there."""
    default = os.environ.get("PENCHANT_DATA", ROOT.parent / "shared" / "data")
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else default)
    rows = [
        line("Train (journeys)", choices.journeys(), "attributes"),
        line("Cracker (purchases)", choices.crackers(), "attributes"),
    ]
    for name, file, encoding, cap in SETS:
        if not (folder / name).is_dir():
            print(f"{name}: not on this machine", file=sys.stderr)
            continue
        try:
            rows.append(measured(name, folder / name, file, encoding, cap))
        except DataError as error:
            rows.append({"set": name, "why_not": str(error)})
        print(rows[-1], file=sys.stderr)
        write_json(ROOT / "docs" / "results" / "one_for_all.json", rows)
    write_json(ROOT / "docs" / "results" / "one_for_all.json", rows)


if __name__ == "__main__":
    main()
