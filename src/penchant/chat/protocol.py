"""What a chat model is to penchant, what can go wrong with one, and a memory of what it has said."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from penchant.cache import RowCache, content_key
from penchant.errors import DataError, PenchantError, SettingsError
from penchant.records import canonical_json

Message = Mapping[str, Any]
Schema = Mapping[str, Any]


class ChatError(PenchantError, RuntimeError):
    """A chat model did not answer, or not in the form that was asked for.

    Args:
        message: what happened, and what to do.
        answer: the last answer, if there was one.
    """

    def __init__(self, message: str, *, answer: str | None = None):
        super().__init__(message)
        self.answer = answer


class ChatModel(Protocol):
    """Anything that continues a conversation.

    A back end that can hold its answers to a JSON Schema has also a true attribute `obeys_schema`, and its `complete`
    then takes a keyword `schema`.
    """

    @property
    def name(self) -> str:
        """Which model this is; two chat models with one name give the same answers."""

    def complete(
        self,
        messages: Sequence[Message],
        *,
        n: int = 1,
        temperature: float = 0.7,
        max_tokens: int = 256,
        seed: int = 0,
    ) -> list[str]:
        """Answers to a conversation.

        Args:
            messages: objects with a `role` (system, user, assistant) and a `content`, oldest first.
            n: how many answers.
            temperature: of the sampling; 0 takes the likeliest token each time.
            max_tokens: an answer ends here at the latest.
            seed: same seed, same answers.

        Returns:
            n answers.

        Raises:
            ChatError: there is no answer.
        """


def require_answerable(messages: Sequence[Message], *, n: int, temperature: float, max_tokens: int) -> None:
    """Refuse what no back end can answer.

    Raises:
        DataError: the messages are not a conversation.
        SettingsError: a setting is out of its range.
    """
    for number, message in enumerate(messages):
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str) or "content" not in message:
            raise DataError(
                f"Message {number} of {len(messages)} is {message!r}; it must be an object with a `role` (system, "
                "user or assistant) and a `content`."
            )
    if not messages:
        raise DataError("There are no messages to answer; give at least one with the role `user`.")
    if n < 1 or max_tokens < 1 or not 0 <= temperature < float("inf"):
        raise SettingsError(
            "A chat model needs n and max_tokens >= 1 and a finite temperature >= 0: "
            f"got {n!r}, {max_tokens!r} and {temperature!r}."
        )


class Cached:
    """A chat model that remembers its answers by model, messages, settings and seed, on disk.

    Args:
        chat: the model that answers what is new.
        cache: where answers are kept; without it the cache file of this account.
    """

    def __init__(self, chat: ChatModel, cache: RowCache | None = None):
        self.chat = chat
        self.cache = cache or RowCache()

    @property
    def name(self) -> str:
        """The inner model's: the answers are the same."""
        return self.chat.name

    @property
    def obeys_schema(self) -> bool:
        """As the inner model."""
        return bool(getattr(self.chat, "obeys_schema", False))

    def complete(
        self,
        messages: Sequence[Message],
        *,
        n: int = 1,
        temperature: float = 0.7,
        max_tokens: int = 256,
        seed: int = 0,
        schema: Schema | None = None,
    ) -> list[str]:
        """As `ChatModel.complete`; a failure is not remembered."""
        settings: dict[str, Any] = {"n": n, "temperature": float(temperature), "max_tokens": max_tokens, "seed": seed}
        key = content_key(canonical_json([dict(m) for m in messages]), canonical_json(settings), canonical_json(schema))
        namespace = f"chat/{self.name}"
        [known] = self.cache.get_many(namespace, [key])
        if known is not None:
            return [str(answer) for answer in json.loads(known)]
        # Other people's back ends need not know the keyword.
        held_to: dict[str, Any] = {} if schema is None else {"schema": schema}
        answers = self.chat.complete(
            messages, n=n, temperature=temperature, max_tokens=max_tokens, seed=seed, **held_to
        )
        self.cache.put_many(namespace, {key: json.dumps(answers).encode()})
        return answers
