"""A person who answers only what is asked, one thing at a time, and never volunteers anything; simulated.

What such a person knows is who they are and what they want; never the rubric by which answers are graded.

>>> from penchant.evaluate.discovery_tasks import Problem, assigned, people
>>> [task] = assigned([Problem("1", "2 + 2?", "4")], people(1), seed=0, tastes={"person-000": {"bullets": "list"}})
>>> ByRules().reply(task, "How are you?", (), seed=0)
Reply(text='I do not understand the question.', expressed=(), stops=False)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import pydantic

from penchant.chat import ChatModel, structured
from penchant.evaluate.attributes import ATTRIBUTES, asked_about
from penchant.evaluate.discovery_tasks import Task


@dataclass(frozen=True)
class Reply:
    """What a person says.

    Attributes:
        text: as the model under test reads it.
        expressed: preferences that it tells.
        stops: whether the person has had enough of questions.
    """

    text: str
    expressed: tuple[str, ...] = ()
    stops: bool = False


class PassiveUser(Protocol):
    """Who answers a model's questions."""

    @property
    def name(self) -> str:
        """Which one this is."""

    def reply(self, task: Task, question: str, told: Sequence[str], *, seed: int) -> Reply:
        """The answer to one question.

        Args:
            task: the person and what they want; the levels of its preferences are not to be looked at.
            question: of the model under test.
            told: preferences that were expressed before.
            seed: of the sampling.
        """


class ByRules:
    """Knows what a question asks by its words; tells the first asked-for preference that was not told, and no other.

    Args:
        may_stop: whether the person ends the talk once all was told.
    """

    def __init__(self, *, may_stop: bool = False):
        self.may_stop = may_stop
        self.name = f"rules{'' if may_stop else '_nostop'}"

    def reply(self, task: Task, question: str, told: Sequence[str], *, seed: int) -> Reply:
        """As `PassiveUser.reply`."""
        asked = [name for name in asked_about(question)] + [
            name for name in task.preferences if name not in ATTRIBUTES and name.lower() in question.lower()
        ]
        wanted = [name for name in asked if name in task.preferences]
        fresh = [name for name in wanted if name not in told] or wanted
        if not asked:
            return Reply("I do not understand the question.")
        if not fresh:
            return Reply("I have no preference about that.")
        everything = set(task.preferences) <= {*told, fresh[0]}
        return Reply(task.preferences[fresh[0]].wish, (fresh[0],), self.may_stop and everything)


class _Said(pydantic.BaseModel):
    reply: str
    expressed: list[str] = []
    stop: bool = False


class ByChat:
    """A chat model that plays the person.

    Args:
        chat: the model.
        may_stop: whether the person may end the talk.
        temperature: of its answers.
        max_tokens: of an answer.
    """

    def __init__(self, chat: ChatModel, *, may_stop: bool = False, temperature: float = 0.4, max_tokens: int = 160):
        self.chat, self.may_stop, self.temperature, self.max_tokens = chat, may_stop, temperature, max_tokens
        self.name = f"{chat.name}{'' if may_stop else '_nostop'}"

    def reply(self, task: Task, question: str, told: Sequence[str], *, seed: int) -> Reply:
        """As `PassiveUser.reply`.

        Raises:
            ChatError: no answer came in the form that was asked for.
        """
        wants = "\n".join(f"- {name}: {one.wish}" for name, one in task.preferences.items())
        stop = "Set `stop` to true if you have had enough of questions." if self.may_stop else "Set `stop` to false."
        system = (
            f"You play a person who asked an assistant for help. You are: {task.persona.description}\nYou asked: "
            f"{task.problem.question}\nWhat you want of the answer, and of nothing else:\n{wants}\n\nAnswer only what "
            "the assistant asks, in one short sentence about one thing. Never volunteer a wish that was not asked for; "
            "if you have none about what is asked, say so. Never answer the problem itself. In `expressed` name the "
            f"wishes your reply tells, from the list above. {stop}"
        )
        messages = [{"role": "system", "content": system}, {"role": "user", "content": question}]
        said = structured(
            self.chat, messages, _Said, seed=seed, temperature=self.temperature, max_tokens=self.max_tokens
        )
        expressed = tuple(name for name in said.expressed if name in task.preferences)
        return Reply(said.reply.strip(), expressed, self.may_stop and said.stop)
