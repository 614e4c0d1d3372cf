"""Answers from a GGUF file through llama.cpp's engine, inside this process; answers of one call share their prompt."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from penchant.chat.completions import answers, request
from penchant.chat.protocol import ChatError, Message, Schema, require_answerable
from penchant.llama import SEEDS, LlamaEngine, LlamaError, gguf_file


class LlamaChat:
    """A chat model in a GGUF file.

    Args:
        model: "small-chat" for the embedded one, or the path of a .gguf file.
        n_threads: that compute; without it one for each core that this process may use.
        context: tokens of the prompt and of all answers that grow side by side, together.
        n_at_once: most answers that grow side by side.

    Raises:
        MissingExtraError: xllamacpp, or the package of the embedded model, is not installed.
        DataError: there is no such file, or the engine cannot read it.
        SettingsError: a number is below 1.
    """

    obeys_schema = True

    def __init__(
        self,
        model: str | Path = "small-chat",
        *,
        n_threads: int | None = None,
        context: int = 8192,
        n_at_once: int = 8,
    ):
        self.engine = LlamaEngine(gguf_file(model), n_threads=n_threads, context=context, n_at_once=n_at_once)
        self.name = self.engine.name

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
        """As `ChatModel.complete`; with a schema, sampling is held to it by a grammar.

        Answer i is sampled with `seed + i`.

        Raises:
            ChatError: the engine refuses, or the context is full before an answer is.
        """
        require_answerable(messages, n=n, temperature=temperature, max_tokens=max_tokens)
        found: list[str] = []
        while len(found) < n:
            body = request(
                messages,
                n=min(self.engine.n_at_once, n - len(found)),
                temperature=temperature,
                max_tokens=max_tokens,
                seed=(seed + len(found)) % SEEDS,
                schema=schema,
            )
            found += self._ask(body, max_tokens)
        return found

    def _ask(self, body: dict[str, Any], max_tokens: int) -> list[str]:
        context = self.engine.context
        try:
            reply = self.engine.complete(body, form="chat")
        except LlamaError as error:
            raise ChatError(
                f"{self.name} refuses: {error}. If the conversation is too long for its context of {context} tokens, "
                "shorten it or raise `context`."
            ) from error
        texts = answers(reply, self.name)
        used = reply.get("usage", {})
        if any(choice.get("finish_reason") == "length" for choice in reply["choices"]) and (
            used.get("prompt_tokens", 0) + max_tokens > context
        ):
            raise ChatError(
                f"{self.name}: {used.get('prompt_tokens')} tokens of conversation and {max_tokens} of answer do not "
                f"fit into its context of {context} tokens; raise `context`, or lower max_tokens.",
                answer=texts[-1],
            )
        return texts
