r"""What two responses differ in, as numbers in {-1, 0, 1}: 29 properties that people and judges may care about.

Each response of a pair is described for itself (by a chat model, see `annotate`, or what code can see, `computed`); the
comparison says which of the two has more of a property. Errors are counted the other way round once, here: 1 means that
the *second* response has more of them, so that a positive weight is a wish for no errors. Do not turn them again.

Source:
    Li, Zhou, Sun, Zhang, Zhao and Liu (2024), Dissecting Human and LLM Preferences (arXiv 2402.11296), section 3 and
    the authors' code: names, order and rules of comparison.

>>> length_comparison([100, 30, 11, 5], [60, 35, 19, 9]).tolist()
[1, 0, -1, 0]
>>> PROPERTIES[22], len(PROPERTIES)
('no severe errors', 29)
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import pydantic
from numpy.typing import ArrayLike, NDArray

from penchant.errors import DataError, SettingsError, nearest
from penchant.evaluate import phrases
from penchant.style import words_of

Floats = NDArray[np.float64]
Way = Literal["sign", "diff", "norm_diff"]

BASIC = (
    "harmless",
    "grammatical",
    "friendly",
    "polite",
    "interactive",
    "authoritative",
    "funny",
    "rhetorical devices",
    "complex wording",
    "supporting material",
    "well formatted",
    "admits limits",
    "persuasive",
    "step by step",
    "informal",
    "non-repetitive",
    "clear",
    "relevant",
    "novel",
    "rich in information",
)
ERRORS = ("no minor errors", "no moderate errors", "no severe errors")
OF_QUERY = (
    "clarifies intent",
    "empathetic",
    "meets constraints",
    "supports stances",
    "corrects mistakes",
)
LENGTH = "lengthy"
PROPERTIES = (*BASIC, *ERRORS, *OF_QUERY, LENGTH)
"""Names of the 29 properties, in the order of the published weights."""

_MOST_ERRORS, _LONGEST = 5, 500  # differences from which on `norm_diff` is 1
_STANCES = {
    "strongly supported": 2,
    "weakly supported": 1,
    "neutral": 0,
    "weakly opposed": -1,
    "strongly opposed": -2,
}
# Fewest words of the longer response that count as more, by the words of the shorter one.
_MORE_THAN_FEW = np.array([1, 3, 5, 7, 8, 10, 11, 13, 14, 16, 17, 19])
_SHARES = ((0.7, 10), (0.8, 20), (0.9, 40))

Score = Annotated[int, pydantic.Field(ge=0, le=3)]
Stance = Literal["strongly supported", "weakly supported", "neutral", "weakly opposed", "strongly opposed"]


class Facts(pydantic.BaseModel):
    """What a prompt says of what it wants.

    Attributes:
        intent_is_clear: whether it is plain what is asked for.
        expresses_feelings: whether the person says how they feel.
        constraints: what the response must keep to, one wish each.
        stances: opinions that the person states.
        mistakes: what the person takes for true and is not.
    """

    intent_is_clear: bool
    expresses_feelings: bool
    constraints: list[str]
    stances: list[str]
    mistakes: list[str]


class Error(pydantic.BaseModel):
    """One error of a response.

    Attributes:
        what: the error.
        severity: minor, moderate or severe.
    """

    what: str
    severity: Literal["minor", "moderate", "severe"]


class Described(pydantic.BaseModel):
    """A response described for itself; scores from 0 (not at all) to 3 (very much).

    Attributes:
        basic: score of each of `BASIC`, but for "repetitive" instead of "non-repetitive".
        accuracy_can_be_checked: whether errors could be looked for.
        errors: all that were found.
        clarifies_intent: score, where the prompt is unclear.
        empathetic: score, where the prompt expresses feelings.
        constraints: score of each of the prompt's constraints.
        stances: how each of the prompt's stances is treated.
        corrections: how far each of the prompt's mistakes is corrected, 0 to 3.
    """

    basic: dict[str, Score]
    accuracy_can_be_checked: bool
    errors: list[Error]
    clarifies_intent: Score = 0
    empathetic: Score = 0
    constraints: list[Score] = []
    stances: list[Stance] = []
    corrections: list[Score] = []

    @pydantic.field_validator("basic")
    @classmethod
    def _all_of_them(cls, basic: dict[str, int]) -> dict[str, int]:
        if set(basic) != set(SCORED):
            missing, unknown = sorted(set(SCORED) - set(basic)), sorted(set(basic) - set(SCORED))
            raise ValueError(f"scores are missing for {missing}, and there are unknown ones, {unknown}")
        return basic


SCORED = tuple("repetitive" if name == "non-repetitive" else name for name in BASIC)
"""What a response gets a score for."""


def compared(
    first: Described, second: Described, facts: Facts, words: tuple[int, int], *, way: Way = "sign"
) -> Floats | None:
    """First minus second response in each of the 29 properties.

    Args:
        first: the one response.
        second: the other.
        facts: of their prompt; a property that does not apply to it is 0.
        words: of the first and of the second.
        way: "sign" for -1, 0 and 1; "diff" for differences; "norm_diff" for those in [-1, 1].

    Returns:
        [29], or None if the accuracy of either cannot be checked: such a pair is left out.

    Raises:
        DataError: a response has not one score for each constraint, stance or mistake of the prompt.
        SettingsError: there is no such way.
    """
    if way not in ("sign", "diff", "norm_diff"):
        raise SettingsError(f"There is no way {way!r} to compare: {nearest(way, ('sign', 'diff', 'norm_diff'))}")
    if not (first.accuracy_can_be_checked and second.accuracy_can_be_checked):
        return None
    basic = np.array([first.basic[name] - second.basic[name] for name in SCORED], dtype=np.float64)
    basic[BASIC.index("non-repetitive")] *= -1
    severities = ("minor", "moderate", "severe")
    errors = np.array(
        [sum(e.severity == s for e in second.errors) - sum(e.severity == s for e in first.errors) for s in severities],
        dtype=np.float64,
    )
    of_query = _of_query(first, facts) - _of_query(second, facts)
    more = float(words[0] - words[1])
    if way == "diff":
        return np.array([*basic, *errors, *of_query, more])
    if way == "norm_diff":
        length = np.sign(more) * np.log1p(abs(more)) / np.log1p(_LONGEST)
        return np.asarray(np.clip([*basic / 3, *errors / _MOST_ERRORS, *of_query / 3, length], -1, 1))
    relevant = BASIC.index("relevant")
    # Nearly everything is relevant: only wholly irrelevant answers differ from the others.
    basic[relevant] = (first.basic["relevant"] > 0) - float(second.basic["relevant"] > 0)
    signs = np.sign([*basic, *errors, *of_query])
    return np.array([*signs, length_comparison([words[0]], [words[1]])[0]], dtype=np.float64)


def _of_query(response: Described, facts: Facts) -> Floats:
    """Scores of one response in `OF_QUERY`, 0 where the prompt does not ask for it."""
    lists = (
        ("constraints", [float(score) for score in response.constraints], facts.constraints),
        ("stances", [float(_STANCES[stance]) for stance in response.stances], facts.stances),
        ("corrections", [float(score) for score in response.corrections], facts.mistakes),
    )
    for name, given, asked in lists:
        if len(given) != len(asked):
            raise DataError(f"A response has {len(given)} {name} for {len(asked)} that its prompt has; give one each.")
    means = [float(np.mean(given)) if given else 0.0 for _, given, _ in lists]
    clarifies = 0.0 if facts.intent_is_clear else float(response.clarifies_intent)
    return np.array([clarifies, float(response.empathetic) if facts.expresses_feelings else 0.0, *means])


def length_comparison(first: ArrayLike, second: ArrayLike) -> NDArray[np.int64]:
    """Which response is longer: 1 the first, -1 the second, 0 where the difference would not be noticed.

    The shorter one must have at most 70 % of the longer one's words and 10 fewer, or 80 % and 20, or 90 % and 40; where
    it has at most 11, a table says how many more are needed.

    Args:
        first: words of the first response, >= 0, [pairs].
        second: of the second.

    Returns:
        [pairs].
    """
    one, other = np.asarray(first, dtype=np.int64), np.asarray(second, dtype=np.int64)
    short, long = np.minimum(one, other), np.maximum(one, other)
    by_share = np.zeros(short.shape, dtype=bool)
    for share, fewer in _SHARES:
        # In whole numbers: 0.7 * 40 is a little below 28 as a float.
        by_share |= (10 * short <= round(10 * share) * long) & (long - short >= fewer)
    few = short < len(_MORE_THAN_FEW)
    by_table = long >= _MORE_THAN_FEW[np.minimum(short, len(_MORE_THAN_FEW) - 1)]
    return np.asarray(np.sign(one - other) * np.where(few, by_table, by_share), dtype=np.int64)


COMPUTED: dict[str, tuple[str, ...]] = {
    "polite": ("polite wording", "a warm tone"),
    "interactive": ("questions back", "offers more help"),
    "authoritative": ("speaks in absolutes", "gives commands"),
    "hedging": ("careful wording (maybe, might)", "hedges with seems"),
    "complex wording": ("long words",),
    "supporting material": ("cites sources", "gives links", "numbers and figures"),
    "well formatted": ("lists", "has headings", "sets words in bold"),
    "admits limits": ("declines to answer", "apologises", "admits not to know", "says it is a program"),
    "step by step": ("lists steps in order",),
    "informal": ("contracts words", "uses emoji", "informal wording"),
    "gives examples": ("gives examples",),
    "exclamations": ("exclamation marks",),
}
"""Properties that code can see, each a sum of measured attributes (`phrases`); a crude stand-in for those of a name."""

IN_CODE = (*COMPUTED, LENGTH)
"""Names of the columns of `computed`."""


def computed(first: Sequence[str], second: Sequence[str]) -> Floats:
    """First minus second response in what code can see, no model asked, -1, 0 or 1.

    Args:
        first: texts of the first responses, [pairs].
        second: of the second ones, [pairs].

    Returns:
        [pairs, len(IN_CODE)].

    Raises:
        DataError: there are not as many of both.
    """
    if len(first) != len(second):
        raise DataError(f"There are {len(first)} first and {len(second)} second responses; give pairs.")
    texts = list(dict.fromkeys([*first, *second]))
    place = {text: row for row, text in enumerate(texts)}
    measured = _measured(texts)
    one, other = (measured[[place[text] for text in side]] for side in (first, second))
    signs = np.sign(one[:, :-1] - other[:, :-1])
    return np.column_stack([signs, length_comparison(one[:, -1], other[:, -1])]).astype(np.float64)


def _measured(texts: Sequence[str]) -> Floats:
    """How much of each, words last, [texts, properties]."""
    if not texts:
        return np.empty((0, len(IN_CODE)))
    names = phrases.names()
    attributes = phrases.measured(texts).astype(np.float64)
    columns = [attributes[:, [names.index(name) for name in parts]].sum(axis=1) for parts in COMPUTED.values()]
    return np.column_stack([*columns, [len(words_of(text)) for text in texts]])
