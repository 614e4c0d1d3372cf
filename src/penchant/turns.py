r"""One answer and all that was said before it: what encoders read of a record.

>>> Turn("2 + 2?", "4", context="a maths lesson").text()
'a maths lesson\n\n2 + 2?\n\n4'
>>> Turn('[{"role": "user", "content": "Hi"}]', '[{"role": "assistant", "content": "Hello"}]', form="messages").text()
'Hi\n\nHello'
"""

import json
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from penchant.errors import DataError
from penchant.records import Records, canonical_json

Form = Literal["text", "messages"]
Message = dict[str, Any]


class Turn(NamedTuple):
    """A response in its place.

    Attributes:
        prompt: what a person wrote, or the JSON of a list of messages.
        response: what was answered, in the same form.
        context: what else is known, put before the prompt.
        form: "text" or "messages".
    """

    prompt: str
    response: str
    context: str | None = None
    form: Form = "text"

    def text(self) -> str:
        """Everything as running text, with blank lines between context, prompt and response.

        Raises:
            DataError: messages cannot be read.
        """
        before = [] if self.context is None else [self.context]
        return "\n\n".join([*before, readable(self.prompt, self.form), self.answer()])

    def answer(self) -> str:
        """The response alone as running text, nothing for the empty one of a question by itself; Raises as `text`."""
        return readable(self.response, self.form) if self.response else ""


def turns(records: Records, column: str = "response") -> list[Turn]:
    """A turn for each record.

    Args:
        records: with a `prompt`, and optionally `context` and `form`.
        column: where the responses are.
    """
    names = records.table.column_names
    n = len(records)
    contexts = records.table["context"].to_pylist() if "context" in names else [None] * n
    forms = records.table["form"].to_pylist() if "form" in names else [None] * n
    prompts, responses = records.table["prompt"].to_pylist(), records.table[column].to_pylist()
    return [
        Turn(prompt, response, context, form or "text")
        for prompt, response, context, form in zip(prompts, responses, contexts, forms, strict=True)
    ]


def turns_between(
    prompts: Sequence[str], responses: Sequence[str], *, context: str | None = None, form: Form = "text"
) -> list[Turn]:
    """A turn for each prompt and its response.

    Raises:
        DataError: the numbers of prompts and responses differ.
    """
    if len(prompts) != len(responses):
        raise DataError(f"{len(prompts)} prompts for {len(responses)} responses; give one prompt for each response.")
    return [Turn(prompt, response, context, form) for prompt, response in zip(prompts, responses, strict=True)]


def messages_of(text: str) -> list[Message]:
    """The chat messages in a payload of form `messages`.

    Raises:
        DataError: it is not the JSON of a list of objects with a role.
    """
    try:
        messages = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"A payload of form `messages` is not JSON ({error}): {text[:60]!r}.") from error
    if not isinstance(messages, list) or not all(
        isinstance(m, dict) and isinstance(m.get("role"), str) for m in messages
    ):
        raise DataError(f"A payload of form `messages` must be a list of objects with a role: {text[:60]!r}.")
    return messages


def readable(payload: str, form: Form | None) -> str:
    """A payload as running text: text as it is, one message as its content, several with who said them.

    Raises:
        DataError: messages cannot be read.
    """
    if form != "messages":
        return payload
    messages = messages_of(payload)
    if len(messages) == 1:
        return _content(messages[0])
    return "\n\n".join(f"{message['role']}: {_content(message)}" for message in messages)


def _content(message: Message) -> str:
    """What a message says; calls of tools, and whatever is no text, as JSON, so that nothing is lost."""
    content = message.get("content")
    if isinstance(content, str):
        said = [content] if content else []
    else:
        parts = content if isinstance(content, list) else [] if content is None else [content]
        said = [
            part["text"] if isinstance(part, dict) and isinstance(part.get("text"), str) else canonical_json(part)
            for part in parts
        ]
    rest = {key: value for key, value in message.items() if key not in ("role", "content") and value is not None}
    return "\n".join([*said, *([canonical_json(rest)] if rest else [])])
