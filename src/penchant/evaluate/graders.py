"""Who says how well an answer fits a wish, 1..5, and whether it is right: rules, or a chat model that is checked.

A grader sees one criterion, its levels, the response and the value that is wanted; not the condition the response comes
from. What is no whole number from 1 to 5 is no score.

>>> from penchant.evaluate.discovery_tasks import Problem
>>> right = CorrectByRules()
>>> sum_of_two = Problem("1", "2 + 2?", "4")
>>> right.is_correct(sum_of_two, "So 2 + 2 = 4."), right.is_correct(sum_of_two, "It is 14.")
(True, False)
>>> right.is_correct(Problem("2", "Sky?", "B", {"A": "red", "B": "blue"}), "The answer is B.")
True
"""

import re
import threading
from typing import Annotated, Protocol

import pydantic

from penchant.cache import content_key
from penchant.chat import ChatError, ChatModel, structured
from penchant.evaluate.attributes import grade
from penchant.evaluate.discovery_tasks import Problem, Task
from penchant.feedback.rubrics import escaped

_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:/\d+)?")


class Grader(Protocol):
    """Grades one criterion."""

    @property
    def name(self) -> str:
        """Which one this is."""

    @property
    def is_free(self) -> bool:
        """Whether it costs no call."""

    def score(self, task: Task, preference: str, response: str) -> int | None:
        """1..5, or none if there is no grade."""


class Correctness(Protocol):
    """Says whether a response is right, whatever its style."""

    @property
    def name(self) -> str:
        """Which one this is."""

    @property
    def is_free(self) -> bool:
        """Whether it costs no call."""

    def is_correct(self, problem: Problem, response: str) -> bool | None:
        """Whether it is right, or none if there is no judgement."""


class ByRules:
    """The twelve attributes that rules grade."""

    name = "rules"
    is_free = True

    def score(self, task: Task, preference: str, response: str) -> int | None:
        """As `Grader.score`.

        Raises:
            UnknownNameError: no rule grades this preference.
        """
        return grade(preference, task.preferences[preference].value, response)


class _Score(pydantic.BaseModel):
    score: Annotated[int, pydantic.Field(strict=True, ge=1, le=5)]


class _Right(pydantic.BaseModel):
    correct: Annotated[bool, pydantic.Field(strict=True)]


class ByChat:
    """A chat model that reads the rubric.

    Args:
        chat: the model.
        temperature: of its answers.
        attempts: most answers for one score.
    """

    is_free = False

    def __init__(self, chat: ChatModel, *, temperature: float = 0.1, attempts: int = 3):
        self.chat, self.temperature, self.attempts = chat, temperature, attempts
        self.name = chat.name

    def score(self, task: Task, preference: str, response: str) -> int | None:
        """As `Grader.score`."""
        wanted = task.preferences[preference]
        levels = "\n".join(f"{number}: {meaning}" for number, meaning in enumerate(wanted.levels, 1))
        wish = (
            f"A person wants of an answer: {preference} = {wanted.value} ({wanted.wish})\n\nGrade the answer on this "
            f"scale, by nothing but this wish:\n{levels}\n\n# Answer\n{escaped(response)}"
        )
        try:
            return structured(
                self.chat,
                [{"role": "user", "content": wish}],
                _Score,
                attempts=self.attempts,
                temperature=self.temperature,
                max_tokens=40,
            ).score
        except ChatError:
            return None


class CorrectByRules:
    """The last number, the letter of the option, or the words of the answer."""

    name = "rules"
    is_free = True

    def is_correct(self, problem: Problem, response: str) -> bool | None:
        """As `Correctness.is_correct`."""
        if problem.options:
            letters = re.findall(rf"\b([{''.join(map(re.escape, problem.options))}])\b(?!')", response)
            if letters:
                return bool(letters[-1] == problem.answer)
            said = [letter for letter, text in problem.options.items() if text.lower() in response.lower()]
            return said == [problem.answer]
        if _NUMBER.fullmatch(problem.answer.strip()):
            found = [number.replace(",", "") for number in _NUMBER.findall(response)]
            return bool(found) and _same_number(found[-1], problem.answer.replace(",", ""))
        return re.search(rf"\b{re.escape(problem.answer.lower())}\b", response.lower()) is not None


def _same_number(one: str, other: str) -> bool:
    try:
        return abs(float(one) - float(other)) < 1e-9
    except ValueError:
        return one.strip() == other.strip()


class CorrectByChat:
    """A chat model, asked once for each response: asked twice, it might disagree with itself.

    Args:
        chat: the model; at temperature 0.
    """

    is_free = False

    def __init__(self, chat: ChatModel):
        self.chat, self.name = chat, chat.name
        self._known: dict[str, bool | None] = {}
        self._lock = threading.Lock()

    def is_correct(self, problem: Problem, response: str) -> bool | None:
        """As `Correctness.is_correct`."""
        wish = (
            "Is this answer correct? Look at its final result alone; style, length and form do not matter.\n\n"
            f"# Question\n{escaped(problem.text())}\n\n# Right answer\n{escaped(problem.answer)}\n\n# Answer\n"
            f"{escaped(response)}"
        )
        key = content_key(wish)
        with self._lock:
            if key in self._known:
                return self._known[key]
        try:
            found: bool | None = structured(
                self.chat, [{"role": "user", "content": wish}], _Right, temperature=0.0, max_tokens=40
            ).correct
        except ChatError:
            found = None
        with self._lock:
            return self._known.setdefault(key, found)
