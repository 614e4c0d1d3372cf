"""Tasks of personal reasoning from any benchmark: a problem, who asks, what they want of the answer, how it is graded.

A person's wishes about one answer are few (a sparse subset of all attributes), have weights that sum to 1, and agree
over problems as far as `consistency` says: with that probability an attribute comes from those that mattered to the
person before, and keeps the value it had. The attributes are the twelve that rules check, or whatever a chat model
writes, with a rubric of five levels each.

Source:
    Li et al. (2025), PrefDisco, arXiv 2510.00177: section 3 (sparse, instance-level preferences), official code for the
    fields, the tolerance of weights and the consistency of 0.8.

>>> problems = [Problem("1", "What is 2 + 2?", "4"), Problem("2", "What is 3 + 3?", "6")]
>>> tasks = assigned(problems, people(1, seed=0), seed=0)
>>> len(tasks), 4 <= len(tasks[0].preferences) <= 6, round(sum(p.weight for p in tasks[0].preferences.values()), 6)
(2, True, 1.0)
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydantic

from penchant.chat import ChatError, ChatModel, structured
from penchant.errors import DataError, SettingsError, nearest
from penchant.evaluate.attributes import ATTRIBUTES
from penchant.feedback.chunk import shown
from penchant.feedback.personas import Persona
from penchant.feedback.reading import chunks

WEIGHT_TOLERANCE = 0.05  # by which weights may miss 1, as in the official code
_COLUMNS = {
    "question": ("question", "problem", "prompt", "query", "instruction", "input"),
    "answer": ("answer", "correct_answer", "answerKey", "answer_key", "solution", "target", "label", "output"),
    "options": ("options", "choices"),
    "id": ("problem_id", "id", "uid"),
    "image": ("image", "image_path"),
}


@dataclass(frozen=True)
class Problem:
    """One question with a known answer.

    Attributes:
        id: of the problem.
        question: as it is asked.
        answer: the right one; a letter where there are options.
        options: letter -> text; empty without a choice.
    """

    id: str
    question: str
    answer: str
    options: Mapping[str, str] = field(default_factory=dict)

    def text(self) -> str:
        """The question with its options."""
        return "\n".join([self.question, *(f"{letter}. {option}" for letter, option in self.options.items())])


@dataclass(frozen=True)
class Preference:
    """What a person wants of one answer.

    Attributes:
        value: wanted, as the attribute spells it.
        weight: share of the alignment that hangs on it, >= 0.
        wish: as the person says it.
        levels: what the grades 1..5 mean; only the grader sees them.
    """

    value: str
    weight: float
    wish: str
    levels: tuple[str, ...]


@dataclass(frozen=True)
class Task:
    """A problem as it is to be answered for one person.

    Attributes:
        problem: what is asked.
        persona: who asks.
        preferences: attribute -> what this person wants of this answer.

    Raises:
        DataError: there is no preference, a weight is negative, or the weights do not sum to 1.
    """

    problem: Problem
    persona: Persona
    preferences: Mapping[str, Preference]

    def __post_init__(self) -> None:
        """Refuse what has no score: the official code returns 0 for it."""
        where = f"Problem {self.problem.id!r} for {self.persona.name!r}"
        if not self.preferences:
            raise DataError(f"{where} has no criteria: nothing can be scored. Give at least one preference.")
        weights = [one.weight for one in self.preferences.values()]
        if not all(math.isfinite(weight) and weight >= 0 for weight in weights):
            raise DataError(f"{where}: weights must be finite and not negative, got {weights}.")
        if abs(sum(weights) - 1) > WEIGHT_TOLERANCE:
            raise DataError(
                f"{where}: the weights of its {len(weights)} criteria sum to {sum(weights):.3f}, not to 1 (within "
                f"{WEIGHT_TOLERANCE}). Divide each by the sum."
            )


# Problems out of files -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Read:
    """What a file held.

    Attributes:
        problems: of a benchmark.
        tasks: where the file holds whole tasks with persons and rubrics.
        dropped: reason -> records left out.
    """

    problems: list[Problem]
    tasks: list[Task]
    dropped: dict[str, int]


def read(path: Path, *, question: str = "", answer: str = "", options: str = "") -> Read:
    """Problems of any benchmark in JSON, JSON lines, CSV or Parquet, or tasks that were made before.

    Args:
        path: of the file.
        question: column of the question; found by its name without it.
        answer: column of the right answer, likewise.
        options: column of the options, likewise: a mapping of letters, or a list.

    Raises:
        DataError: a column is not there, a task is not valid, or nothing can be used.
    """
    problems: list[Problem] = []
    tasks: list[Task] = []
    dropped: Counter[str] = Counter()
    asked = {"question": question, "answer": answer, "options": options, "id": "", "image": ""}
    number = 0
    for chunk in chunks(path):
        dropped.update(chunk.broken)
        for record in chunk.listed():
            number += 1
            where = f"{shown(path)}, record {number}"
            if "persona_preferences" in record or "evaluation_rubric" in record:
                tasks.append(task_of(record, where))
                continue
            columns = {name: _column(record, name, given, where) for name, given in asked.items()}
            problem = _problem(record, columns, number, dropped, where)
            problems += [problem] if problem else []
    if not problems and not tasks:
        raise DataError(f"{shown(path)} holds no problem that can be used: {dict(dropped) or 'it is empty'}.")
    _require_unlike(problems, shown(path))
    return Read(problems, tasks, dict(dropped))


def _column(record: Mapping[str, Any], name: str, given: str, where: str) -> str | None:
    if given:
        if given not in record:
            raise DataError(f"{where} has no column {given!r}: {nearest(given, record)} Its columns: {list(record)}.")
        return given
    found = next((column for column in _COLUMNS[name] if column in record), None)
    if found is None and name in ("question", "answer"):
        raise DataError(
            f"{where} has no column for the {name} (looked for {', '.join(_COLUMNS[name])}); it has {list(record)}. "
            f"Name it with --{name}."
        )
    return found


def _problem(
    record: Mapping[str, Any], columns: Mapping[str, str | None], number: int, dropped: "Counter[str]", where: str
) -> Problem | None:
    def value(name: str) -> Any:
        column = columns[name]
        return None if column is None else record[column]

    if value("image"):
        dropped["needs a picture, which is not shown to chat models here"] += 1
        return None
    question, answer = ("" if value(name) is None else str(value(name)).strip() for name in ("question", "answer"))
    if not question or not answer:
        dropped[f"no {'answer' if question else 'question'}"] += 1
        return None
    options = _options(value("options"), where)
    if options and answer not in options:
        letter = next((key for key, text in options.items() if text.strip().lower() == answer.lower()), None)
        if letter is None and answer.isdigit() and int(answer) < len(options):
            letter = list(options)[int(answer)]  # some sets number the options from 0
        if letter is None:
            dropped["the answer is none of the options"] += 1
            return None
        answer = letter
    return Problem(str(value("id") if value("id") is not None else number), question, answer, options)


def _options(value: Any, where: str) -> dict[str, str]:
    if value is None or value == "":
        return {}
    if isinstance(value, Mapping) and set(value) >= {"text", "label"}:
        return dict(zip(map(str, value["label"]), map(str, value["text"]), strict=True))
    if isinstance(value, Mapping):
        return {str(key): str(text) for key, text in value.items() if text is not None}
    if isinstance(value, (list, tuple)):
        return {chr(ord("A") + place): str(text) for place, text in enumerate(value)}
    raise DataError(f"{where}: options must be a list or a mapping of letters, got {type(value).__name__}.")


def _require_unlike(problems: Sequence[Problem], where: str) -> None:
    often = [name for name, count in Counter(problem.id for problem in problems).items() if count > 1]
    if often:
        raise DataError(f"{where}: {len(often)} ids name several problems, first {often[0]!r}. Give each its own.")


class _Criterion(pydantic.BaseModel):
    preference: str
    description: str = ""
    levels: list[str] = pydantic.Field(min_length=5, max_length=5)
    weight: float


def task_of(record: Mapping[str, Any], where: str) -> Task:
    """A task in the published form: `persona_preferences` beside `evaluation_rubric.evaluation_criteria`.

    Raises:
        DataError: a criterion is not valid, or criteria and preferences are not the same names.
    """
    wanted: Mapping[str, Any] = record.get("persona_preferences") or {}
    try:
        listed = (record.get("evaluation_rubric") or {}).get("evaluation_criteria") or []
        criteria = [_Criterion.model_validate(one) for one in listed]
    except (pydantic.ValidationError, AttributeError) as error:
        raise DataError(
            f"{where}: the rubric is not valid ({error}). Each criterion has 5 levels and a weight."
        ) from error
    names = [one.preference for one in criteria]
    unlike = sorted(set(names) ^ set(wanted)) or sorted(name for name, n in Counter(names).items() if n > 1)
    if unlike:
        raise DataError(
            f"{where}: criteria and preferences do not match, {len(unlike)} of {len(names)}: {', '.join(unlike)}. Each "
            "preference needs exactly one criterion of its name."
        )
    persona = record.get("persona") or {}
    problem: Mapping[str, Any] = record["problem"] if isinstance(record.get("problem"), Mapping) else record
    missing = [name for name in ("question", "answer") if not problem.get(name)]
    if missing:
        raise DataError(f"{where}: the task has no {' and no '.join(missing)}.")
    return Task(
        Problem(
            str(problem.get("problem_id", problem.get("id", where))),
            str(problem["question"]),
            str(problem["answer"]),
            _options(problem.get("options"), where),
        ),
        Persona(str(persona.get("name", record.get("persona_id", where))), str(persona.get("backstory", ""))),
        {
            one.preference: Preference(
                str(_value_of(wanted[one.preference])),
                one.weight,
                f"{one.preference}: {_value_of(wanted[one.preference])}",
                tuple(one.levels),
            )
            for one in criteria
        },
    )


def _value_of(preference: Any) -> Any:
    return preference.get("value") if isinstance(preference, Mapping) else preference


# People and what they want --------------------------------------------------------------------------------------------

_TRADES = (
    "nurse",
    "teacher",
    "engineer",
    "student",
    "chef",
    "lawyer",
    "farmer",
    "musician",
    "biologist",
    "clerk",
)
_TEMPERS = ("in a hurry", "curious", "careful", "playful", "sceptical", "anxious about mistakes")


def people(n: int, *, seed: int = 0) -> list[Persona]:
    """Simulated people with different trades, ages and tempers; who they are says nothing of what they want.

    Raises:
        SettingsError: n is below 1.
    """
    if n < 1:
        raise SettingsError(f"There must be at least one person, got {n}.")
    rng = np.random.default_rng([4, seed])
    found = []
    for number in range(n):
        trade, temper = _TRADES[number % len(_TRADES)], _TEMPERS[int(rng.integers(len(_TEMPERS)))]
        found.append(Persona(f"person-{number:03d}", f"A {trade}, {int(rng.integers(18, 80))} years old, {temper}."))
    return found


def assigned(
    problems: Sequence[Problem],
    personas: Sequence[Persona],
    *,
    tastes: Mapping[str, Mapping[str, str]] | None = None,
    fewest: int = 4,
    most: int = 6,
    consistency: float = 0.8,
    n_pairs: int | None = None,
    seed: int = 0,
) -> list[Task]:
    """Each problem for each person, with wishes that rules can check.

    Args:
        problems: asked.
        personas: who ask.
        tastes: person -> attribute -> value of those attributes that matter to them from the start; drawn without it.
        fewest: wishes about an answer.
        most: wishes about an answer.
        consistency: probability that an attribute comes from those that mattered to the person before (with the value
            it had), in [0, 1].
        n_pairs: tasks drawn of all pairs; all without it.
        seed: of the draw.

    Raises:
        SettingsError: a number is out of range.
    """
    if not (1 <= fewest <= most <= len(ATTRIBUTES) and 0 <= consistency <= 1):
        raise SettingsError(
            f"Wishes about an answer must number 1 <= fewest <= most <= {len(ATTRIBUTES)} and consistency be in [0, "
            f"1]: got {fewest}, {most}, {consistency}."
        )
    rng = np.random.default_rng([4, seed, 1])
    pairs = [(problem, persona) for persona in personas for problem in problems]
    if n_pairs is not None:
        pairs = [pairs[place] for place in np.sort(rng.permutation(len(pairs))[:n_pairs])]
    earlier: dict[str, Counter[str]] = {}
    values: dict[str, dict[str, str]] = {}
    tasks = []
    for problem, persona in pairs:
        if persona.name not in earlier:
            values[persona.name] = dict((tastes or {}).get(persona.name, {}))
            earlier[persona.name] = Counter(list(values[persona.name]))
        chosen = _chosen(earlier[persona.name], int(rng.integers(fewest, most + 1)), consistency, rng)
        earlier[persona.name].update(chosen)
        weights = rng.dirichlet(np.ones(len(chosen)))
        wanted = {}
        for name, weight in zip(chosen, weights, strict=True):
            one, known = ATTRIBUTES[name], values[persona.name]
            drawn = str(rng.choice(list(one.values)))
            # The first value stays the person's; a task may differ from it, as far as consistency allows.
            value = known.setdefault(name, drawn) if rng.random() < consistency else drawn
            wanted[name] = Preference(value, float(weight), one.wishes[value], one.levels(value))
        tasks.append(Task(problem, persona, wanted))
    return tasks


def _chosen(before: Mapping[str, int], n: int, consistency: float, rng: np.random.Generator) -> list[str]:
    """Different attributes, each from those that mattered before with the probability of `consistency`."""
    chosen: list[str] = []
    while len(chosen) < n:
        old = [name for name in before if name not in chosen]
        if old and rng.random() < consistency:
            counts = np.array([before[name] for name in old], dtype=np.float64)
            chosen.append(old[int(rng.choice(len(old), p=counts / counts.sum()))])
        else:
            new = [name for name in ATTRIBUTES if name not in chosen]
            chosen.append(new[int(rng.integers(len(new)))])
    return chosen


class _Written(pydantic.BaseModel):
    class One(pydantic.BaseModel):
        preference: str = pydantic.Field(min_length=1)
        value: str = pydantic.Field(min_length=1)
        weight: float = pydantic.Field(ge=0)
        levels: list[str] = pydantic.Field(min_length=5, max_length=5)

    criteria: list[One] = pydantic.Field(min_length=1)


def authored(
    authors: Sequence[ChatModel], pairs: Iterable[tuple[Problem, Persona]], *, n_candidates: int = 20, seed: int = 0
) -> tuple[list[Task], dict[str, int]]:
    """Wishes and rubrics that a chat model writes for each pair; which model, chance decides each time.

    The author is shown what mattered to the person before, so that wishes agree over problems. Weights are divided by
    their sum.

    Args:
        authors: at least one.
        pairs: problem and person.
        n_candidates: preferences that the author is to think of before it chooses.
        seed: of the draw of authors and of their sampling.

    Returns:
        Tasks, and why pairs have none: reason -> count.
    """
    rng = np.random.default_rng([4, seed, 2])
    before: dict[str, list[str]] = {}
    tasks, failed = [], Counter[str]()
    for number, (problem, persona) in enumerate(pairs):
        author = authors[int(rng.integers(len(authors)))]
        known = "; ".join(before.get(persona.name, [])) or "nothing yet"
        wish = (
            f"A person: {persona.description}\nIt is known that they want: {known}.\nThey ask: {problem.text()}\n\n"
            f"Think of {n_candidates} ways in which answers to this can differ in form and style, never in content. "
            "Choose the four to six that matter to this person here, in line with what is known. For each give a short "
            "name, the value the person wants, a weight, and what a grade of 1, 2, 3, 4 and 5 means."
        )
        try:
            found = structured(author, [{"role": "user", "content": wish}], _Written, seed=seed + 100 * number)
        except ChatError:
            failed["no preferences were written"] += 1
            continue
        total = sum(one.weight for one in found.criteria)
        names = [one.preference for one in found.criteria]
        if total <= 0 or len(set(names)) < len(names):
            failed["the written preferences have no weight or share a name"] += 1
            continue
        wanted = {
            one.preference: Preference(
                one.value, one.weight / total, f"{one.preference}: {one.value}", tuple(one.levels)
            )
            for one in found.criteria
        }
        before.setdefault(persona.name, []).extend(
            f"{one.preference}: {one.value}"
            for one in found.criteria
            if f"{one.preference}: {one.value}" not in before.get(persona.name, [])
        )
        tasks.append(Task(problem, persona, wanted))
    return tasks, dict(failed)
