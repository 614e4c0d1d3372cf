"""Answers from weights through transformers: the way to hear a policy that penchant has trained."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from penchant.chat.protocol import Message, require_answerable
from penchant.errors import DataError, MissingExtraError
from penchant.records import canonical_json


class TransformersChat:
    """A chat model whose weights are in this process.

    Args:
        policy: a `penchant.policies.language.LanguagePolicy`, or the name of a model for one, loaded at the first use.
    """

    def __init__(self, policy: Any = "small-chat"):
        self.policy = policy

    @property
    def name(self) -> str:
        """The model and a digest of its weights as they are now, so that a policy in training is never mistaken."""
        from penchant.policies.fingerprint import fingerprint

        return f"transformers/{self._loaded.name}-{fingerprint(self._loaded.model)}"

    def complete(
        self,
        messages: Sequence[Message],
        *,
        n: int = 1,
        temperature: float = 0.7,
        max_tokens: int = 256,
        seed: int = 0,
    ) -> list[str]:
        """As `ChatModel.complete`; the n answers share their prompt.

        Raises:
            DataError: the conversation leaves no room for an answer in the model's context, its chat template refuses
                it, or there is no template and more than a system and a user message.
            MissingExtraError: torch or transformers are not installed.
        """
        require_answerable(messages, n=n, temperature=temperature, max_tokens=max_tokens)
        settings = {"temperature": temperature, "max_new_tokens": max_tokens, "seed": seed}
        if self._loaded.tokenizer.chat_template:
            prompt = canonical_json([dict(message) for message in messages])
            [found] = self._loaded.sample([prompt], n, form="messages", **settings)
        else:
            condition, prompt = _plain(messages)
            [found] = self._loaded.sample([prompt], n, condition=condition, **settings)
        return [str(text) for text in found]

    @cached_property
    def _loaded(self) -> Any:
        if not isinstance(self.policy, str):
            return self.policy
        try:
            from penchant.policies.language import LanguagePolicy
        except ImportError as error:
            raise MissingExtraError(f"TransformersChat needs {error.name}: pip install 'penchant[torch]'") from error
        return LanguagePolicy(self.policy)


def _plain(messages: Sequence[Message]) -> tuple[str | None, str]:
    """What a model without a chat template continues: a system text, if any, and one user's message."""
    roles = [message["role"] for message in messages]
    if roles not in (["user"], ["system", "user"]):
        raise DataError(
            f"This model has no chat template, so it cannot read a conversation with the roles {', '.join(roles)}; "
            "give at most a system message and one user message, or take a model that was made to chat."
        )
    return (None if len(messages) == 1 else str(messages[0]["content"])), str(messages[-1]["content"])
