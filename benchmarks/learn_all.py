"""Every model of people on every real set that names its users, and on simulated people of known taste.

    python benchmarks/learn_all.py [SET ...] [--seeds 2] [--compare all] [--work comparisons]

Each set is what `penchant learn --compare all` does, on some of its people, and goes into `docs/results/learn` as it
came out. Finished models are kept in the work folder, so that a run that was stopped goes on where it was. A set that
is not on this machine is left out.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from real_sets import FOLDER, ROOT, SETS, RealSet, loaded

from penchant.apps.compare import compare_models, tables, written
from penchant.apps.learn import encoder_of
from penchant.apps.names import items_of
from penchant.feedback.about_people import about_people, beside
from penchant.people import People, population
from penchant.records import Comparisons, canonical_json

RESULTS = ROOT / "docs" / "results" / "learn"
MOST_PEOPLE = 60
DIM, N_EACH = 8, 48  # features of a simulated response, votes of a simulated person


@dataclass(frozen=True)
class Case:
    """What is compared on.

    Attributes:
        name: of the files.
        title: of the section.
        about: what it is, in a sentence or two.
        comparisons: all of them.
        kinds: of record that they come from.
        encoding: how payloads become vectors.
        features: what is known of the people besides.
        people: whose true taste is known, if they are simulated.
    """

    name: str
    title: str
    about: str
    comparisons: Comparisons
    kinds: set[str]
    encoding: str
    features: dict[str, dict[str, Any]]
    people: People | None = None


def cases(wanted: list[str]) -> Iterator[Case]:
    """The simulated populations, then every real set that is there."""
    for kind, about in (
        ("groups", "three kinds of people"),
        ("continuous", "everybody different"),
        ("alike", "everybody the same, so that models of single people can only lose"),
    ):
        name = f"simulated_{kind}"
        if not wanted or name in wanted:
            yield simulated(name, kind, about)
    for one in SETS:
        if wanted and one.name not in wanted and f"{one.name}_people" not in wanted:
            continue
        if not (FOLDER / one.name).is_dir():
            print(f"{one.name}: not on this machine", file=sys.stderr)
            continue
        yield real(one)
        if one.name == "hh_two_objectives":
            yield many_of_few(one)


def simulated(name: str, kind: Literal["groups", "continuous", "alike"], about: str) -> Case:
    """Simulated people who vote on random responses."""
    people = population(MOST_PEOPLE, n_features=DIM, kind=kind, n_groups=3, strength=3.0, spread=2.0, seed=0)
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(N_EACH):
        sides = rng.standard_normal((2, MOST_PEOPLE, DIM)).round(3)
        for person, user in enumerate(people.names):
            first, second = sides[:, [person]]
            if not people.prefers_first(person, first, second, rng)[0]:
                first, second = second, first
            chosen, rejected = (
                canonical_json({f"x{k}": float(v) for k, v in enumerate(x[0])}) for x in (first, second)
            )
            rows.append({"prompt": "", "chosen": chosen, "rejected": rejected, "user": user})
    told = (
        f"SIMULATED: {MOST_PEOPLE} people, {about}; {N_EACH} votes each between responses of {DIM} features. Measured "
        "against the true probability of each choice, not against one draw from it."
    )
    return Case(
        name,
        f"Simulated people, {about.partition(',')[0]}",
        told,
        Comparisons.from_rows(rows),
        {"comparison"},
        "attributes",
        {},
        people,
    )


def real(one: RealSet) -> Case:
    """Some people of a real set."""
    comparisons, kinds = loaded(one, FOLDER, MOST_PEOPLE)
    known = beside(FOLDER / one.name / one.file)
    features = about_people(known) if known else {}
    about = (
        f"{one.about} {len(comparisons):,} comparisons by {len(comparisons.users)} people, read through {one.encoding}."
    )
    return Case(one.name, one.name, about, comparisons, kinds, one.encoding, features)


def many_of_few(one: RealSet, n_each: int = 40) -> Case:
    """Many people who are each one of a set's few, with pairs of their own: hidden kinds of people on real texts."""
    few, kinds = loaded(one, FOLDER, MOST_PEOPLE)
    rng = np.random.default_rng(0)
    parts = []
    for user in few.users:
        own = few.of(user)
        for number, rows in enumerate(np.array_split(rng.permutation(len(own)), len(own) // n_each)):
            table = own.take(rows).table
            place = table.schema.get_field_index("user")
            parts.append(Comparisons(table.set_column(place, "user", [[f"{user} {number}"] * len(rows)])))
    comparisons = Comparisons.concat(parts)
    about = (
        f"Made of {one.name}: {len(comparisons.users)} people who each follow one of the two goals, with about "
        f"{n_each} pairs of their own; which goal is hidden from the models."
    )
    return Case(f"{one.name}_people", f"{one.name}, many people", about, comparisons, kinds, one.encoding, {})


def truth(people: People, held_out: Comparisons) -> Any:
    """The true probability that a simulated person prefers the first, [pairs]."""
    first, second = (
        np.array([list(json.loads(text).values()) for text in held_out.table[side].to_pylist()])
        for side in ("chosen", "rejected")
    )
    place = {name: row for row, name in enumerate(people.names)}
    tastes = people.tastes[[place[user] for user in held_out.table["user"].to_pylist()]]
    return 1 / (1 + np.exp(-np.einsum("nd,nd->n", first - second, tastes)))


def main() -> None:
    """Compare on every case, and write what came out."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("sets", nargs="*", help="names of sets; all without any")
    parser.add_argument("--compare", default="all", help="as of penchant learn")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--work", type=Path, default=ROOT / "comparisons", help="where finished models are kept")
    given = parser.parse_args()
    for case in cases(given.sets):
        people = case.people
        found = compare_models(
            case.comparisons,
            case.kinds,
            encoder_of(case.encoding, items_of(case.comparisons) if case.encoding == "items" else ()),
            names=given.compare,
            seeds=given.seeds,
            features=case.features,
            folder=given.work / case.name,
            held_out_truth=None if people is None else lambda held_out, people=people: truth(people, held_out),
        )
        about = {"set": case.name, "title": case.title, "about": case.about, "encoder": case.encoding}
        written(found, RESULTS / f"{case.name}.json", about)
        print(f"\n{case.title}: {case.about}", file=sys.stderr)
        print("\n".join(one.text() for one in tables(found.rows, found.full)), file=sys.stderr)
        for name, reason in found.left_out.items():
            print(f"not compared: {name}: {reason}", file=sys.stderr)


if __name__ == "__main__":
    main()
