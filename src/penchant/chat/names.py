"""Which chat model a few words mean, on a command line or in a recipe."""

import os
from pathlib import Path

from penchant.chat.llama import LlamaChat
from penchant.chat.openai import OpenAIChat
from penchant.chat.protocol import ChatModel
from penchant.chat.transformers import TransformersChat
from penchant.errors import SettingsError, UnknownNameError


def chat_model(spec: str) -> ChatModel:
    """The chat model that a text names.

    Args:
        spec: "small-chat" or the path of a .gguf file (llama.cpp's engine); "http://HOST/v1#MODEL" (a server, with the
            key in the environment variable PENCHANT_API_KEY if it wants one); a folder or "transformers:NAME" (weights
            through transformers).

    Raises:
        UnknownNameError: the text names none.
        SettingsError: a URL comes without the model's name.

    >>> chat_model("http://127.0.0.1:8000/v1#llama-3").name
    'http://127.0.0.1:8000/v1#llama-3'
    """
    if spec.startswith(("http://", "https://")):
        url, _, model = spec.partition("#")
        if not model:
            raise SettingsError(f"{spec!r} does not say which model; write {url}#MODEL.")
        return OpenAIChat(url, model, api_key=os.environ.get("PENCHANT_API_KEY"))
    if spec.startswith("transformers:"):
        return TransformersChat(spec.removeprefix("transformers:"))
    if spec == "small-chat" or spec.endswith(".gguf"):
        return LlamaChat(spec)
    if Path(spec).is_dir():
        return TransformersChat(spec)
    raise UnknownNameError(
        f"There is no chat model {spec!r}: known are 'small-chat', the path of a .gguf file, http://HOST/v1#MODEL, a "
        "folder with a model, and transformers:NAME."
    )
