"""Answers from any server that speaks OpenAI's chat completions: one's own vLLM or llama.cpp, or a service.

Nothing is sent anywhere but to the URL that was given, and the key goes nowhere else.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import httpx

from penchant.chat.completions import answers, complaint, request
from penchant.chat.protocol import ChatError, Message, Schema, require_answerable
from penchant.errors import SettingsError

_PASSING = {408, 409, 425, 429, 500, 502, 503, 504, 529}  # the same request may succeed a moment later


class OpenAIChat:
    """A chat model behind a URL.

    A request that fails for a passing reason (no connection, no answer in time, too many requests, a server's own
    error, a reply that is not JSON) is sent again after 1, 2, 4, ... seconds, or when the server says.

    Args:
        url: of the server, usually ending in /v1; `/chat/completions` is added.
        model: its name on the server.
        api_key: sent as a bearer token; None sends none.
        obeys_schema: whether to ask the server to hold answers to a schema. A server that refuses is asked without:
            what it answers is checked anyway.
        attempts: how often a request is sent at most.
        timeout: seconds until an answer must be there.
        sleep: waits for so many seconds.

    Raises:
        SettingsError: the URL is not one, or `attempts` is below 1.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        api_key: str | None = None,
        obeys_schema: bool = True,
        attempts: int = 5,
        timeout: float = 120.0,
        sleep: Callable[[float], None] = time.sleep,
    ):
        if not _is_url(url):
            raise SettingsError(f"{url!r} is not the URL of a server; it looks like http://127.0.0.1:8000/v1.")
        if attempts < 1:
            raise SettingsError(f"OpenAIChat needs attempts >= 1, got {attempts!r}.")
        self.url = url.rstrip("/").removesuffix("/chat/completions")
        self.model = model
        self.obeys_schema = obeys_schema
        self.attempts = attempts
        self.timeout = timeout
        self._sleep = sleep
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}

    @property
    def name(self) -> str:
        """The model and where it answers."""
        return f"{self.url}#{self.model}"

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
        """As `ChatModel.complete`; whether the same seed gives the same answer is up to the server.

        A server that gives fewer answers than asked for, or refuses to give several, is asked again with `seed + i`,
        where i is the number of answers so far.

        Raises:
            ChatError: the server cannot be reached, refuses, or does not answer in the expected form.
        """
        require_answerable(messages, n=n, temperature=temperature, max_tokens=max_tokens)
        found: list[str] = []
        with httpx.Client(timeout=self.timeout, headers=self._headers) as client:
            at_once = n
            while len(found) < n:
                body = request(
                    messages,
                    n=min(at_once, n - len(found)),
                    temperature=temperature,
                    max_tokens=max_tokens,
                    seed=seed + len(found),
                    schema=schema,
                )
                body["model"] = self.model
                try:
                    reply = self._send(client, body)
                except _RefusedError:
                    # What a server may not know: several answers at once, and schemas. Without both, refusal is final.
                    if at_once > 1:
                        at_once = 1
                    elif schema is not None:
                        schema = None
                    else:
                        raise
                    continue
                found += answers(reply, self.name)
        return found[:n]

    def _send(self, client: httpx.Client, body: dict[str, Any]) -> Any:
        """The decoded reply; passing failures are waited out."""
        failure = ""
        for attempt in range(self.attempts):
            wait = float(2**attempt)
            try:
                response = client.post(f"{self.url}/chat/completions", json=body)
                if response.status_code in _PASSING:
                    failure = f"status {response.status_code} {_reason(response)}"
                    wait = max(wait, _asked_to_wait(response))
                elif response.is_success:
                    return response.json()
                else:
                    raise self._refusal(response)
            except httpx.TimeoutException:
                failure = f"no answer within {self.timeout:g} seconds"
            except httpx.RequestError as error:
                failure = f"no connection ({error})"
            except ValueError as error:
                failure = f"a reply that is not JSON ({error})"
            if attempt + 1 < self.attempts:
                self._sleep(min(wait, 60.0))
        raise ChatError(
            f"{self.name} did not answer in {self.attempts} attempts; the last ended with {failure}. Check that the "
            "server runs and is reachable, wait if it is overloaded, or raise `timeout` or `attempts`."
        )

    def _refusal(self, response: httpx.Response) -> ChatError:
        status, reason = response.status_code, _reason(response)
        if status in (401, 403):
            return ChatError(f"{self.name} refuses the API key (status {status} {reason}); give a valid `api_key`.")
        if status == 404:
            return ChatError(
                f"{self.name} knows no such model or address (status 404 {reason}); check the model's name, and that "
                "the URL ends where the server's API begins, usually in /v1."
            )
        return _RefusedError(
            f"{self.name} refuses the request (status {status} {reason}). Shorten the conversation if it is too long, "
            "or lower max_tokens."
        )


class _RefusedError(ChatError):
    """The server understood a request and will not answer it in this form."""


def _is_url(text: str) -> bool:
    try:
        address = httpx.URL(text)
    except httpx.InvalidURL:
        return False
    return address.scheme in ("http", "https") and bool(address.host)


def _reason(response: httpx.Response) -> str:
    try:
        return repr(complaint(response.json())[:300])
    except ValueError:
        return repr(response.text[:100])


def _asked_to_wait(response: httpx.Response) -> float:
    """Seconds of the Retry-After header; its other form, a date, is not worth a clock."""
    try:
        return max(0.0, float(response.headers.get("retry-after", 0)))
    except ValueError:
        return 0.0
