"""A world for asking people what they want: short problems, people of a few kinds, and a composer of answers.

All simulated. The composer is a chat model without weights: it writes the right answer in a usual form, and realises
each wish that it was told, and no other. What it asks about, a policy of elicitation chooses; so policies are compared
where the rest is perfect. It reads nothing but the messages that any other model under test gets.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from penchant.chat import Message
from penchant.evaluate.attributes import ATTRIBUTES, asked_about
from penchant.evaluate.discovery import action
from penchant.evaluate.discovery_tasks import Problem, Task
from penchant.feedback.personas import Persona
from penchant.steer.elicitation import Elicitation, Population

_FACTS = (
    ("How many days are there in a week?", "7"),
    ("How many minutes are there in an hour?", "60"),
    ("How many legs does a spider have?", "8"),
    ("What is the capital of France?", "Paris"),
    ("What is the capital of Japan?", "Tokyo"),
    ("How many months are there in a year?", "12"),
    ("What colour do you get when you mix blue and yellow?", "green"),
    ("At how many degrees Celsius does water boil at sea level?", "100"),
    ("Which planet is closest to the sun?", "Mercury"),
    ("How many sides does a hexagon have?", "6"),
    ("What is the largest ocean on Earth?", "Pacific"),
    ("Which gas do plants take in from the air?", "carbon dioxide"),
    ("How many hours are there in a day?", "24"),
    ("What is frozen water called?", "ice"),
    ("How many wheels does a bicycle have?", "2"),
    ("Which animal do we get wool from?", "sheep"),
    ("What is the opposite of north?", "south"),
    ("How many letters are there in the English alphabet?", "26"),
    ("Which season comes after winter?", "spring"),
    ("How many centimetres are there in a metre?", "100"),
)
_STORIES = (
    ("Ann has {a} apples and buys {b} more. How many apples does she have?", 1),
    ("A bus carries {a} people and {b} more get on. How many people are on the bus?", 1),
    ("Tom had {a} coins and gave away {b}. How many coins does he have left?", -1),
    ("A shelf holds {a} books and {b} are taken out. How many books are left?", -1),
)
_N_STORIES = 20


def problems(seed: int) -> list[Problem]:
    """Twenty sums in words, which the seed draws, and twenty everyday facts; the order is mixed."""
    rng = np.random.default_rng([4, seed, 3])
    asked = list(_FACTS)
    for number in range(_N_STORIES):
        story, sign = _STORIES[number % len(_STORIES)]
        low, high = int(rng.integers(2, 40)), int(rng.integers(41, 90))
        asked.append((story.format(a=high, b=low), str(high + sign * low)))
    order = rng.permutation(len(asked))
    return [Problem(f"{place:02d}", *asked[place]) for place in order]


def people_of_kinds(n: int, n_kinds: int, rng: np.random.Generator) -> tuple[list[Persona], dict[str, dict[str, str]]]:
    """People and what matters to each: six attributes of their kind, of which about one in six is someone's own.

    Args:
        n: how many.
        n_kinds: kinds, whose attributes and values are drawn; 0 makes everybody a kind of their own.
        rng: source of chance.
    """

    def drawn() -> dict[str, str]:
        names = rng.permutation(list(ATTRIBUTES))[:6]
        return {str(name): str(rng.choice(list(ATTRIBUTES[str(name)].values))) for name in names}

    kinds = [drawn() for _ in range(n_kinds)]
    tastes = {}
    for number in range(n):
        own = drawn()
        kind = kinds[int(rng.integers(n_kinds))] if kinds else own
        merged = {name: value for name, value in kind.items() if rng.random() >= 1 / 6}
        for name in [name for name in own if name not in merged][: 6 - len(merged)]:
            merged[name] = own[name]
        tastes[f"person-{number:03d}"] = merged
    return [Persona(name, "A person of no particular trade.") for name in tastes], tastes


def population(tasks: Sequence[Task]) -> Population:
    """What people wanted in earlier tasks."""
    return Population(
        [{name: one.value for name, one in task.preferences.items()} for task in tasks],
        [{name: one.weight for name, one in task.preferences.items()} for task in tasks],
        {name: tuple(one.values) for name, one in ATTRIBUTES.items()},
    )


# The composer --------------------------------------------------------------------------------------------------------

_USUAL = {
    "length": "medium",
    "bullets": "prose",
    "steps": "result",
    "analogy": "literal",
    "jargon": "plain",
    "second_person": "impersonal",
    "formulae": "words",
    "examples": "none",
    "hedging": "firm",
    "headings": "plain",
    "emoji": "none",
    "question": "statement",
}
_SAID = {(name, value): wish for name, one in ATTRIBUTES.items() for value, wish in one.wishes.items()}
_FILLER = "There is not much more to it than that."
_MORE = {
    "jargon": "Mathematical verification demonstrates correctness.",
    "second_person": "You see your result.",
    "hedging": "Perhaps it may seem so.",
}
_BLOCKS = {
    ("formulae", "formulae"): "n = 1, m = 2, n + m = 3, m - n = 1.",
    ("analogy", "analogy"): "Imagine it, like a game.",
    ("examples", "examples"): "For example this one, for example that one, for example both.",
    ("emoji", "emoji"): "😀 👍 🎉",
}


@lru_cache(maxsize=200_000)
def composed(answer: str, wishes: frozenset[tuple[str, str]]) -> str:
    """The right answer in the usual form, but for the wishes told.

    Args:
        answer: the right one.
        wishes: pairs of attribute and value.
    """
    form = _USUAL | dict(wishes)
    parts = [block for key, block in _BLOCKS.items() if form[key[0]] == key[1]]
    lines = [" ".join(parts)] if parts else []
    if form["steps"] == "steps":
        lines.append("1. Read it.\n2. Note it.\n3. Do it.\n4. Check it.")
    if form["bullets"] == "list":
        lines.append("- what\n- how\n- why\n- so")
    if form["headings"] == "headings":
        lines = ["## Way", *lines, "## Result"]
    end = f"The answer is {answer}." + (" Is that fine?" if form["question"] == "question" else "")

    def text(extra: Sequence[str]) -> str:
        return "\n".join([*lines, " ".join([*extra, end])])

    extra: list[str] = []
    wanted = {name: ATTRIBUTES[name].values[form[name]] for name in ("length", *_MORE)}
    for _ in range(20):  # what one sentence adds may thin out another: until all is there, or it cannot be
        short = [name for name in _MORE if ATTRIBUTES[name].level(text(extra)) < wanted[name]]
        if short:
            extra += [_MORE[name] for name in short]
        elif ATTRIBUTES["length"].level(text(extra)) < wanted["length"]:
            extra.append(_FILLER)
        else:
            break
    return text(extra)


class Composer:
    """Answers rightly in the form it was told; asks what a policy chooses.

    Args:
        problems: whose answers it knows.
        policy: what to ask.
        name: of the policy.
        budget: most questions.
    """

    def __init__(self, problems: Sequence[Problem], policy: Elicitation | None, *, name: str, budget: int):
        self.answers = {problem.text(): problem.answer for problem in problems}
        self.policy, self.name, self.budget = policy, name, budget

    def complete(
        self, messages: Sequence[Message], *, n: int = 1, temperature: float = 0.0, max_tokens: int = 0, seed: int = 0
    ) -> list[str]:
        """As `ChatModel.complete`; all that it knows stands in the messages."""
        texts = [str(message["content"]) for message in messages]
        problem = next(text for message, text in zip(messages, texts, strict=True) if message["role"] == "user")
        said = "\n".join([texts[0], *texts[2:]] if len(texts) > 1 else [])
        told = {name: value for (name, value), wish in _SAID.items() if wish in said}
        asked = [
            asked_about(action(text).text)[0]
            for message, text in zip(messages, texts, strict=True)
            if message["role"] == "assistant"
        ]
        answers: Mapping[str, Any] = {name: told.get(name) for name in asked}
        may_ask = "ACTION: ask" in texts[0] and "ACTION: final_answer" not in texts[-1] and len(asked) < self.budget
        question = self.policy.next_question(answers) if may_ask and self.policy else None
        if question:
            return [f"ACTION: ask\nCONTENT: Please say {ATTRIBUTES[question].about}?"] * n
        return [composed(self.answers[problem], frozenset(told.items()))] * n
