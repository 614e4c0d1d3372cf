r"""Which of 29 properties the responses of a set have, as a chat model describes them.

The chat model is asked once for each prompt (what does it want?) and once for each response, in a form that is checked
(`penchant.chat.structured`); what does not fit is asked for again, and what never fits is left out and counted. A
response is described without seeing the other one, so that a pair and the same pair turned round say the same.

A run that was stopped goes on where it was with a chat model that remembers (`penchant.chat.Cached`).

Source:
    Li, Zhou, Sun, Zhang, Zhao and Liu (2024), Dissecting Human and LLM Preferences, section 3.2 and appendix. Theirs
    asks in four prompts a pair, with a reference answer of the annotator's own for errors; ours asks in one, without.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from penchant.chat.protocol import ChatError, ChatModel
from penchant.chat.structured import structured
from penchant.errors import DataError
from penchant.evaluate.properties import PROPERTIES, SCORED, Described, Facts, Way, compared
from penchant.style import words_of

Floats = NDArray[np.float64]
Form = TypeVar("Form", Facts, Described)

_FACTS = (
    "Read this prompt to an assistant and say what it wants. Do not answer it.\n"
    "- intent_is_clear: is it plain what is asked for?\n- expresses_feelings: does the person say how they feel?\n"
    "- constraints: explicit wishes that a response must keep to (words, length, format, number of items), one each\n"
    "- stances: opinions or beliefs that the person states\n- mistakes: what the person takes for true and is not\n"
    "Empty lists where there is none.\n\nPrompt:\n{prompt}"
)
_RESPONSE = (
    "Describe this response to a prompt. Scores are whole numbers from 0 (not at all) to 3 (very much).\n"
    "- basic: a score for each of: {basic}\n"
    "- accuracy_can_be_checked: can errors be looked for at all (there are facts, sums or code)? A response without "
    "anything to be wrong about has no errors and can be checked.\n"
    "- errors: every error, with its severity: minor (hardly matters), moderate (matters), severe (makes it wrong)\n"
    "- clarifies_intent: does it ask or reason about what is meant? {unclear}\n"
    "- empathetic: does it respond to the person's feelings? {feelings}\n"
    "- constraints: a score of how far each is met, in this order: {constraints}\n"
    "- stances: how each is treated, in this order: {stances}\n"
    "- corrections: a score of how far each mistake is corrected, in this order: {mistakes}\n\n"
    "Prompt:\n{prompt}\n\nResponse:\n{response}"
)
_TOKENS_PER_WORD = 1.4  # of English text, roughly
_ANSWER_TOKENS = (80, 350)  # of the facts of a prompt, and of a response's description


@dataclass(frozen=True)
class Cost:
    """What annotating will ask of a chat model at least; answers that do not fit are asked for again.

    Attributes:
        calls: how often it is asked.
        tokens_in: tokens that it reads, roughly.
        tokens_out: tokens that it writes, roughly.
    """

    calls: int
    tokens_in: int
    tokens_out: int


def cost(prompts: Sequence[str], first: Sequence[str], second: Sequence[str]) -> Cost:
    """Estimate before anything is asked; each distinct prompt and response is asked about once.

    >>> cost(["Hi", "Hi"], ["a", "a"], ["b", "c"]).calls
    4
    """
    asked = {prompt: None for prompt in prompts}
    responses = {(p, text) for p, *both in zip(prompts, first, second, strict=True) for text in both}
    words = sum(len(p.split()) + len(_FACTS.split()) for p in asked)
    form = len(_RESPONSE.split()) + len(" ".join(SCORED).split())
    words += sum(len(p.split()) + len(text.split()) + form for p, text in responses)
    out = len(asked) * _ANSWER_TOKENS[0] + len(responses) * _ANSWER_TOKENS[1]
    return Cost(len(asked) + len(responses), round(_TOKENS_PER_WORD * words), out)


@dataclass(frozen=True)
class Annotation:
    """Features of the pairs that could be described.

    Attributes:
        features: first minus second response, [rows, 29].
        rows: which pairs these are, int64[rows].
        dropped: reason -> pairs left out.
    """

    features: Floats
    rows: NDArray[np.int64]
    dropped: dict[str, int]


def annotated(
    chat: ChatModel,
    prompts: Sequence[str],
    first: Sequence[str],
    second: Sequence[str],
    *,
    way: Way = "sign",
    attempts: int = 4,
    seed: int = 0,
    progress: Callable[[], None] = lambda: None,
) -> Annotation:
    """Describe every prompt and response, and compare.

    Args:
        chat: who describes; `Cached` remembers what was answered, so that a run that was stopped goes on.
        prompts: of each pair, [pairs].
        first: first responses, [pairs].
        second: second responses, [pairs].
        way: as for `compared`.
        attempts: how often an answer is asked for until it fits.
        seed: of the first attempt.
        progress: called after each pair.

    Raises:
        DataError: no pair could be described.
    """
    describer = _Describer(chat, attempts, seed)
    rows, features, dropped = [], [], Counter[str]()
    for row, (prompt, *both) in enumerate(zip(prompts, first, second, strict=True)):
        facts = describer.facts(prompt)
        found = [describer.described(prompt, text, facts) for text in both] if facts else []
        one, other = found or (None, None)
        if facts is None or one is None or other is None:
            dropped["the chat model gave no description that fits"] += 1
        elif (difference := compared(one, other, facts, _n_words(*both), way=way)) is None:
            dropped["the accuracy of a response cannot be checked"] += 1
        else:
            rows.append(row)
            features.append(difference)
        progress()
    if not rows:
        raise DataError(f"No pair of {len(prompts)} could be described by {chat.name}: {dict(dropped)}.")
    return Annotation(np.array(features).reshape(-1, len(PROPERTIES)), np.array(rows, dtype=np.int64), dict(dropped))


def _n_words(first: str, second: str) -> tuple[int, int]:
    return len(words_of(first)), len(words_of(second))


class _Describer:
    """Asks about each prompt and response once; None for what was never answered in a form that fits."""

    def __init__(self, chat: ChatModel, attempts: int, seed: int):
        self._chat, self._attempts, self._seed = chat, attempts, seed
        self._facts: dict[str, Facts | None] = {}
        self._described: dict[tuple[str, str], Described | None] = {}

    def facts(self, prompt: str) -> Facts | None:
        """Of a prompt."""
        if prompt not in self._facts:
            self._facts[prompt] = self._asked(_FACTS.format(prompt=prompt), Facts)
        return self._facts[prompt]

    def described(self, prompt: str, response: str, facts: Facts) -> Described | None:
        """A response; None too if it does not have one value for each thing that the prompt wants."""
        key = prompt, response
        if key not in self._described:
            text = _RESPONSE.format(
                basic=", ".join(SCORED),
                unclear="Give 0: the prompt is clear." if facts.intent_is_clear else "",
                feelings="" if facts.expresses_feelings else "Give 0: the prompt expresses none.",
                constraints=facts.constraints,
                stances=facts.stances,
                mistakes=facts.mistakes,
                prompt=prompt,
                response=response,
            )
            found = self._asked(text, Described)
            if found is not None:
                given = (found.constraints, found.stances, found.corrections)
                wanted = (facts.constraints, facts.stances, facts.mistakes)
                if [len(one) for one in given] != [len(one) for one in wanted]:
                    found = None
            self._described[key] = found
        return self._described[key]

    def _asked(self, text: str, form: type[Form]) -> Form | None:
        messages = [{"role": "user", "content": text}]
        try:
            return structured(
                self._chat, messages, form, attempts=self._attempts, seed=self._seed, temperature=0.3, max_tokens=1024
            )
        except ChatError:
            return None
