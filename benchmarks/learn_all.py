"""Every model of people on every real set that names its users, and on simulated people of known taste.

    python benchmarks/learn_all.py [SET ...] [--seeds 2] [--compare all] [--work comparisons]

Each set is what `penchant learn --compare all` does, on some of its people, and goes into `docs/results/learn` as it
came out. Finished models are kept in the work folder, so that a run that was stopped goes on where it was. A set that
is not on this machine is left out.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from real_sets import FOLDER, ROOT, SETS, RealSet, loaded
from scipy.special import expit, log_expit, softmax

from penchant.apps.compare import Candidate, compare_models, tables, written
from penchant.apps.learn import encoder_of
from penchant.apps.names import items_of
from penchant.encoders import Encoder
from penchant.feedback.about_people import about_people, beside
from penchant.people import People, population
from penchant.preference import PreferenceModel
from penchant.preference.profiles import Profiles
from penchant.preference.votes import encoded_sides, rows_of
from penchant.records import Comparisons, canonical_json
from penchant.source import source_digest
from penchant.turns import Turn

RESULTS = ROOT / "docs" / "results" / "learn"
MOST_PEOPLE = 60  # of a real set
N_SIMULATED = 300
DIM, N_EACH = 8, 48  # features of a simulated response, votes of a simulated person
KINDS = {"n_features": DIM, "n_groups": 3, "strength": 3.0, "spread": 2.0}  # of the simulated population
N_TASTES = 20_000  # drawn from a population of which everybody differs, to stand for it
BEST = "population_known"


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
        tastes: of the population they come from, [tastes, features].
    """

    name: str
    title: str
    about: str
    comparisons: Comparisons
    kinds: set[str]
    encoding: str
    features: dict[str, dict[str, Any]]
    people: People | None = None
    tastes: NDArray[np.float64] | None = None


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
    people = population(N_SIMULATED, kind=kind, seed=0, **KINDS)
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(N_EACH):
        sides = rng.standard_normal((2, N_SIMULATED, DIM)).round(3)
        for person, user in enumerate(people.names):
            first, second = sides[:, [person]]
            if not people.prefers_first(person, first, second, rng)[0]:
                first, second = second, first
            chosen, rejected = (
                canonical_json({f"x{k}": float(v) for k, v in enumerate(x[0])}) for x in (first, second)
            )
            rows.append({"prompt": "", "chosen": chosen, "rejected": rejected, "user": user})
    told = (
        f"SIMULATED: {N_SIMULATED} people, {about}; {N_EACH} votes each between responses of {DIM} features. Measured "
        f"against the true probability of each choice, not against one draw from it. `{BEST}` is the most that can be "
        "had: it is told the population's tastes and need only find out which one a person has."
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
        population(N_TASTES, kind=kind, seed=0, **KINDS).tastes[N_SIMULATED:]
        if kind == "continuous"
        else people.tastes,
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


@dataclass(frozen=True)
class Posterior:
    """How likely each taste is to be a person's, [tastes]."""

    likely: NDArray[np.float64]


class PopulationKnown(PreferenceModel):
    """Bayes' rule over the tastes that a simulated population has: what no model that must learn them can exceed.

    Args:
        encoder: of responses, whose features are the population's.
        tastes: logits per feature, each equally likely, [tastes, features].
    """

    probability_is_logistic = False

    def __init__(self, *, encoder: Encoder, tastes: NDArray[np.float64]):
        self.encoder, self.tastes = encoder, tastes

    def fit(self, comparisons: Comparisons) -> Self:
        """Learn nothing: all that is shared is known."""
        self.users_: Profiles[Posterior] = Profiles(Posterior)
        return self

    def adapt(self, user: str, comparisons: Comparisons) -> Posterior:
        """How likely each taste is after a person's choices."""
        log = log_expit((2 * comparisons.numpy("strength") - 1)[:, None] * self._ahead(comparisons)).sum(axis=0)
        self.users_[user] = Posterior(softmax(log))
        return self.users_[user]

    def _ahead(self, comparisons: Comparisons) -> Any:
        """By how much the first response is liked more, by each taste, logits [pairs, tastes]."""
        vectors, (chosen, rejected) = encoded_sides(self.encoder, comparisons, ("chosen", "rejected"))
        return (vectors[chosen] - vectors[rejected]) @ self.tastes.T

    def _predicted(self, comparisons: Comparisons) -> NDArray[np.float64]:
        found = np.empty(len(comparisons))
        anybody = np.full(len(self.tastes), 1 / len(self.tastes))
        for user, rows in rows_of(comparisons).items():
            likely = self.users_[user].likely if user in self.users_ else anybody
            found[rows] = expit(self._ahead(comparisons.take(rows))) @ likely
        return found

    def _reward(self, asked: Sequence[Turn], user: str | None) -> NDArray[np.float64]:
        raise NotImplementedError("Nobody asks for rewards here.")

    def _state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return {}, {}

    def _restore(self, arrays: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        raise NotImplementedError("It is not kept.")


def ceiling(tastes: NDArray[np.float64]) -> Candidate:
    """The row of what could be had."""
    code = source_digest([Path(__file__)])
    return Candidate(BEST, lambda encoder, _: PopulationKnown(encoder=encoder, tastes=tastes), True, code)


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
        best = [] if case.tastes is None else [ceiling(case.tastes)]
        found = compare_models(
            case.comparisons,
            case.kinds,
            encoder_of(case.encoding, items_of(case.comparisons) if case.encoding == "items" else ()),
            names=given.compare,
            besides=best,
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
