"""One model for all against one for each, on every real set that names its users.

    python benchmarks/one_for_all.py [FOLDER OF SETS]

Three people in ten are set aside; everybody's model is fitted on the others. Each person set aside then shows two
thirds of their choices to their own model and is measured on the rest. Sets are not part of the project: where one is
absent it is left out. Sets of two or three annotators (hh_two_objectives, pandalm_human) have nobody to set aside.
Pairs made from ratings or rankings are held out by response. Writes `docs/results/one_for_all.json`.
"""

import sys
import time
from pathlib import Path

from real_sets import BY_NAME, FOLDER, ROOT, RealSet, loaded

from penchant.apps import choices
from penchant.apps.learn import encoder_of
from penchant.apps.names import items_of
from penchant.apps.one_for_all import compare
from penchant.errors import DataError
from penchant.evaluate.held_out import Split, by_time, new_people, split_for
from penchant.exchange import write_json
from penchant.preference import BradleyTerry
from penchant.records import Comparisons

SETS = ("popquorn_offensiveness", "mtbench_votes", "writer_edits", "jester_jokes", "sushi_rankings")
MOST_PEOPLE = 200


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


def measured(one: RealSet, folder: Path) -> dict[str, object]:
    """One set that is on this machine, measured."""
    found, kinds = loaded(one, folder, MOST_PEOPLE)
    return line(one.name, found, one.encoding, split_for(kinds))


def main() -> None:
    """Measure every set that is there."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    rows = [
        line("Train (journeys)", choices.journeys(), "attributes"),
        line("Cracker (purchases)", choices.crackers(), "attributes"),
    ]
    for name in SETS:
        if not (folder / name).is_dir():
            print(f"{name}: not on this machine", file=sys.stderr)
            continue
        try:
            rows.append(measured(BY_NAME[name], folder))
        except DataError as error:
            rows.append({"set": name, "why_not": str(error)})
        print(rows[-1], file=sys.stderr)
        write_json(ROOT / "docs" / "results" / "one_for_all.json", rows)
    write_json(ROOT / "docs" / "results" / "one_for_all.json", rows)


if __name__ == "__main__":
    main()
