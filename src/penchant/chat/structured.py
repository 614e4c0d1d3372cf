"""An answer as data: found in whatever a model wrote around it, checked against a schema, asked for again if it fails.

A model's text is parsed, never run.

>>> candidates('Let me think. ```json {"score": 4} ``` I hope this helps!')
[{'score': 4}]
"""

import json
from collections.abc import Sequence
from typing import Any, NoReturn, TypeVar

import pydantic

from penchant.chat.protocol import ChatError, ChatModel, Message
from penchant.errors import SettingsError

Answer = TypeVar("Answer", bound=pydantic.BaseModel)


def structured(
    chat: ChatModel,
    messages: Sequence[Message],
    schema: type[Answer],
    *,
    attempts: int = 4,
    seed: int = 0,
    temperature: float = 0.7,
    max_tokens: int = 512,
) -> Answer:
    """One answer that fits a schema.

    The schema is added to the system message. A back end with a grammar is held to it as well; its answer is checked
    all the same. An answer that holds two different fitting values counts as a failure: which one was meant?

    Args:
        chat: who answers.
        messages: the conversation.
        schema: what the answer must be.
        attempts: answers to ask for, with seeds `seed`, `seed + 1`, ...
        seed: of the first attempt.
        temperature: of the sampling; at 0 every attempt would be the same, so there is one.
        max_tokens: longest answer.

    Raises:
        ChatError: no attempt gave an answer that fits; it shows the last one and keeps it as `.answer`.
        SettingsError: `attempts` is below 1.
    """
    if attempts < 1:
        raise SettingsError(f"structured needs attempts >= 1, got {attempts!r}.")
    form = schema.model_json_schema()
    grammar: dict[str, Any] = {"schema": form} if getattr(chat, "obeys_schema", False) else {}
    asked = _with_schema(messages, form)
    attempts = attempts if temperature > 0 else 1
    answer, reason = "", ""
    for attempt in range(attempts):
        [answer] = chat.complete(
            asked, n=1, temperature=temperature, max_tokens=max_tokens, seed=seed + attempt, **grammar
        )
        found, reason = _fitting(answer, schema, set(form.get("properties", ())))
        if len(found) == 1:
            return found[0]
    raise ChatError(
        f"{chat.name} gave no answer that fits {schema.__name__} in {attempts} attempts; the last was "
        f"{_shortened(answer)!r}: {reason}. Take a larger model, raise max_tokens or attempts, or ask for less.",
        answer=answer,
    )


def _with_schema(messages: Sequence[Message], form: dict[str, Any]) -> list[Message]:
    wish = (
        "Answer with one JSON value and nothing else. It must fit this JSON Schema:\n"
        f"{json.dumps(form, ensure_ascii=False)}"
    )
    if messages and messages[0].get("role") == "system":
        return [{**messages[0], "content": f"{messages[0]['content']}\n\n{wish}"}, *messages[1:]]
    return [{"role": "system", "content": wish}, *messages]


def _fitting(answer: str, schema: type[Answer], fields: set[str]) -> tuple[list[Answer], str]:
    """The different values in an answer that fit, and what is wrong unless that is exactly one."""
    found: list[Answer] = []
    reason = "it holds no JSON"
    for value in candidates(answer):
        # Where all fields are optional, any object would fit: the schema itself, repeated by the model, for one.
        if isinstance(value, dict) and fields and not fields & set(value):
            reason = f"it has none of the fields {', '.join(sorted(fields))}"
            continue
        try:
            fitting = schema.model_validate_json(json.dumps(value))
        except pydantic.ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            reason = f"{'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}"
            continue
        if fitting not in found:
            found.append(fitting)
    if len(found) > 1:
        reason = f"it holds {len(found)} different values that fit"
    return found, reason


def candidates(text: str) -> list[Any]:
    """Every outermost JSON object or list in a text, in order; the whole text first if it is JSON itself.

    NaN, infinities and objects that name a key twice are not JSON here.

    >>> candidates('I say [1, 2], or rather {not json} {"a": {"b": 1}}.')
    [[1, 2], {'a': {'b': 1}}]
    """
    decoder = json.JSONDecoder(parse_constant=_refuse, object_pairs_hook=_distinct)
    try:
        return [decoder.decode(text.strip())]
    except (ValueError, RecursionError):
        pass
    values: list[Any] = []
    position = 0
    while (position := _next_opening(text, position)) >= 0:
        try:
            value, position = decoder.raw_decode(text, position)
            values.append(value)
        except ValueError:
            position += 1
        except RecursionError:  # thousands of brackets: every next one would be as deep
            break
    return values


def _next_opening(text: str, start: int) -> int:
    places = [place for place in (text.find("{", start), text.find("[", start)) if place >= 0]
    return min(places, default=-1)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("a key stands twice")
    return value


def _shortened(text: str, length: int = 400) -> str:
    return text if len(text) <= length else f"{text[: length - 3]}..."
