r"""Which wish to ask a new person about next: at random, the commonest, or the one that tells most given the answers.

What is known is a population: for each earlier answer to somebody, the value that was wanted of each attribute (or that
none was), and its weight. With the answers so far, each unasked attribute has a posterior by naive Bayes,

$$P(v_\theta \mid a_1 \dots a_t) \propto P(v_\theta) \prod_s P(a_s \mid v_\theta),$$

and the next question is $\arg\max_\theta H(v_\theta \mid a) \, E[w_\theta \mid a]$: what is uncertain and matters.

Source:
    The follow-up to PrefDisco (arXiv 2510.00177) in its repository, prior-guided elicitation, as its README states it.

>>> past = Population([{"length": "short"}, {"length": "long"}, {"emoji": "none"}], [{"length": 1.0}] * 3,
...                   {"length": ("short", "long"), "emoji": ("some", "none")})
>>> PriorGuided(past).next_question({}), MostFrequent(past).next_question({})
('length', 'length')
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from scipy.special import entr, logsumexp

from penchant.errors import DataError

Array = np.ndarray[Any, np.dtype[np.float64]]
Ints = np.ndarray[Any, np.dtype[np.int64]]


class Population:
    """What people wanted before, as a matrix of records and attributes.

    Args:
        values: of each record, attribute -> value wanted; what is absent did not matter.
        weights: of each record, attribute -> weight.
        attributes: attribute -> its possible values.

    Attributes:
        names: of the attributes, in order.
        options: values of each attribute; code 0 means that it does not matter, then these.
        codes: int64[records, attributes].
        weights: float64[records, attributes], 0 where it does not matter.

    Raises:
        DataError: there is no record, lengths differ, or an attribute or value is unknown.
    """

    def __init__(
        self,
        values: Sequence[Mapping[str, str]],
        weights: Sequence[Mapping[str, float]],
        attributes: Mapping[str, Sequence[str]],
    ):
        if not values or len(values) != len(weights):
            raise DataError(f"A population needs records, each with weights: got {len(values)} and {len(weights)}.")
        self.names = tuple(attributes)
        self.options = tuple(tuple(attributes[name]) for name in self.names)
        self.codes: Ints = np.zeros((len(values), len(self.names)), dtype=np.int64)
        self.weights: Array = np.zeros(self.codes.shape)
        for row, (wanted, weight) in enumerate(zip(values, weights, strict=True)):
            for name, value in wanted.items():
                self.codes[row, self.place(name)] = self.code(name, value)
                self.weights[row, self.place(name)] = weight.get(name, 0.0)

    def place(self, name: str) -> int:
        """Column of an attribute."""
        if name not in self.names:
            raise DataError(f"The population knows no attribute {name!r}; it has {', '.join(self.names)}.")
        return self.names.index(name)

    def code(self, name: str, value: str | None) -> int:
        """Number of a value; 0 for an attribute that does not matter."""
        options = self.options[self.place(name)]
        if value is not None and value not in options:
            raise DataError(f"{name!r} has no value {value!r}; it has {', '.join(options)}.")
        return 0 if value is None else 1 + options.index(value)


class Elicitation(Protocol):
    """Chooses what to ask."""

    def next_question(self, answers: Mapping[str, str | None]) -> str | None:
        """The attribute to ask about, or none if all were.

        Args:
            answers: attribute -> value that was told, None where it does not matter.
        """


class RandomOrder:
    """Any attribute that was not asked about.

    Args:
        population: whose attributes there are.
        rng: source of chance.
    """

    def __init__(self, population: Population, rng: np.random.Generator):
        self.population, self.rng = population, rng

    def next_question(self, answers: Mapping[str, str | None]) -> str | None:
        """As `Elicitation.next_question`."""
        left = [name for name in self.population.names if name not in answers]
        return left[int(self.rng.integers(len(left)))] if left else None


class MostFrequent:
    """What mattered to most people, then what mattered to the next most, whatever is answered."""

    def __init__(self, population: Population):
        often = (population.codes > 0).mean(axis=0)
        self._order = [population.names[place] for place in np.argsort(-often, kind="stable")]

    def next_question(self, answers: Mapping[str, str | None]) -> str | None:
        """As `Elicitation.next_question`."""
        return next((name for name in self._order if name not in answers), None)


class PriorGuided:
    """What is uncertain and matters, given the answers so far: expected information times expected weight.

    Args:
        population: what people wanted before.
        smoothing: imagined records of each value (Laplace), > 0.
    """

    def __init__(self, population: Population, *, smoothing: float = 1.0):
        self.population, self.smoothing = population, smoothing
        codes = population.codes
        sizes = [len(options) + 1 for options in population.options]
        one_hot = [np.eye(size)[codes[:, place]] for place, size in enumerate(sizes)]  # [records, values]
        self._log_prior = []
        self._log_given: list[list[Array]] = []  # [asked][target]: [values of target, values of asked]
        self._weight = []
        for place, hot in enumerate(one_hot):
            counts = hot.sum(axis=0)
            self._log_prior.append(np.log((counts + smoothing) / (counts + smoothing).sum()))
            # Mean weight of a value, drawn to the attribute's mean where it was seldom seen.
            mean = population.weights[:, place].sum() / max(1.0, float((codes[:, place] > 0).sum()))
            weight = (hot.T @ population.weights[:, place] + smoothing * mean) / (counts + smoothing)
            weight[0] = 0.0  # what does not matter has no weight
            self._weight.append(weight)
        for asked in one_hot:
            tables = [target.T @ asked + smoothing for target in one_hot]
            self._log_given.append([np.log(table / table.sum(axis=1, keepdims=True)) for table in tables])

    def posterior(self, name: str, answers: Mapping[str, str | None]) -> Array:
        """P(value | answers), [1 + values]; the first is that it does not matter."""
        place = self.population.place(name)
        log = self._log_prior[place].copy()
        for asked, value in answers.items():
            log += self._log_given[self.population.place(asked)][place][:, self.population.code(asked, value)]
        return np.asarray(np.exp(log - logsumexp(log)))

    def worth(self, name: str, answers: Mapping[str, str | None]) -> float:
        """H(v | answers) E[w | answers] of asking about an attribute, in nats times weight."""
        chance = self.posterior(name, answers)
        return float(entr(chance).sum() * (chance @ self._weight[self.population.place(name)]))

    def next_question(self, answers: Mapping[str, str | None]) -> str | None:
        """As `Elicitation.next_question`."""
        left = [name for name in self.population.names if name not in answers]
        return max(left, key=lambda name: self.worth(name, answers)) if left else None
