"""The request and the reply of OpenAI's chat completions, which llama.cpp's engine and most servers speak."""

from collections.abc import Mapping, Sequence
from typing import Any

from penchant.chat.protocol import ChatError, Message, Schema


def request(
    messages: Sequence[Message], *, n: int, temperature: float, max_tokens: int, seed: int, schema: Schema | None
) -> dict[str, Any]:
    """The body of a request; `n` only where it is not 1, because some servers do not know it."""
    body: dict[str, Any] = {
        "messages": [dict(message) for message in messages],
        "temperature": temperature,
        "max_tokens": max_tokens,
        "seed": seed,
        "stream": False,
    }
    if n > 1:
        body["n"] = n
    if schema is not None:
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": dict(schema)},
        }
    return body


def answers(reply: Any, model: str) -> list[str]:
    """The texts of a reply, in the order of their index.

    Args:
        reply: the decoded JSON.
        model: named in errors.

    Raises:
        ChatError: the reply is not of this form.
    """
    try:
        choices = sorted(reply["choices"], key=lambda choice: choice.get("index", 0))
        texts = [choice["message"].get("content") for choice in choices]
    except (KeyError, TypeError, AttributeError) as error:
        raise ChatError(
            f"{model} replied with something that is not a chat completion ({type(error).__name__}: {error}): "
            f"{str(reply)[:200]!r}. Check that the URL is that of an OpenAI-compatible server, usually ending in /v1."
        ) from error
    if not texts or not all(isinstance(text, str) for text in texts):
        raise ChatError(
            f"{model} replied without text: {str(reply)[:200]!r}. It may have refused or called a tool; raise "
            "max_tokens or change the messages."
        )
    return texts


def complaint(reply: Any) -> str:
    """What a reply says went wrong, or an empty text."""
    error = reply.get("error") if isinstance(reply, Mapping) else None
    if error is None:
        return ""
    return str(error.get("message", error)) if isinstance(error, Mapping) else str(error)
