import re
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model

from penchant.errors import SettingsError
from penchant.policies import sampling
from penchant.policies.sampling import SampledTokens, choose, sample_tokens

SIZES = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
PROMPTS = [[5, 6, 7, 8, 9], [10], [11, 12, 13], [14, 15]]


# Names that do not follow the rule.
CONFIGS = {"Gemma3": "Gemma3TextConfig", "Llama4": "Llama4TextConfig"}
MODELS = {"GPT2": "GPT2LMHeadModel"}


def built(name: str, **settings):
    """A model of this architecture that knows nothing, with weights so large that what it reads matters."""
    config = getattr(transformers, CONFIGS.get(name, f"{name}Config"))
    model = getattr(transformers, MODELS.get(name, f"{name}ForCausalLM"))
    torch.manual_seed(0)
    return model(config(**SIZES | settings)).eval()


@pytest.fixture(scope="module")
def llama():
    return built("Llama")


def draw(model, prompts=PROMPTS, n=3, **changed) -> list[list[SampledTokens]]:
    settings = {"end_tokens": (2,), "pad": 0, "temperature": 1.0, "max_new_tokens": 12, "seed": 1, **changed}
    return sample_tokens(model, prompts, n, **settings)


def tokens_of(samples: list[list[SampledTokens]]) -> list[list[tuple[int, ...]]]:
    return [[one.tokens for one in row] for row in samples]


def largest_difference(model, prompts, samples) -> float:
    """Between the log-probabilities that came with samples and those of plain forward passes, one for each."""
    worst = 0.0
    for prompt, of_prompt in zip(prompts, samples, strict=True):
        for one in of_prompt:
            ids = torch.tensor([[*prompt, *one.tokens]])
            with torch.no_grad():
                table = torch.log_softmax(model(input_ids=ids, use_cache=False).logits[0].double(), -1)
            plain = table[len(prompt) - 1 : -1].gather(-1, ids[0, len(prompt) :, None])[:, 0]
            worst = max(worst, float((plain - torch.tensor(one.log_probabilities)).abs().max()))
    return worst


# One token


def test_tokens_are_drawn_with_their_probabilities():
    logits = torch.tensor([[0.0, 1.0, -1.0, 2.0]])
    uniform = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000

    def shares(**settings):
        drawn = choose(logits.expand(len(uniform), -1), uniform, **settings)
        return torch.bincount(drawn, minlength=4) / len(uniform)

    expected = torch.softmax(logits[0] / 0.5, -1)
    torch.testing.assert_close(shares(temperature=0.5, top_p=1.0), expected, atol=2e-5, rtol=0)
    nucleus = torch.softmax(torch.tensor([-torch.inf, 1.0, -torch.inf, 2.0]), -1)
    torch.testing.assert_close(shares(temperature=1.0, top_p=0.8), nucleus, atol=2e-5, rtol=0)
    assert shares(temperature=1.0, top_p=0.1).tolist() == [0, 0, 0, 1]
    assert shares(temperature=0.0, top_p=1.0).tolist() == [0, 0, 0, 1]


def test_among_50_000_tokens_the_choice_is_that_of_the_exact_distribution():
    logits = torch.randn(1, 50_000, generator=torch.Generator().manual_seed(0))
    uniform = torch.rand(200, generator=torch.Generator().manual_seed(1), dtype=torch.double)
    chosen = choose(logits.expand(200, -1), uniform, temperature=0.9, top_p=1.0)
    exact = np.exp(logits[0].double().numpy() / 0.9)
    before = np.concatenate([[0.0], np.cumsum(exact / exact.sum())])
    # so close to the border of two tokens rounding may decide; a sum in float32 would be off by a hundred times more
    slack = 1e-8
    assert (before[chosen] - slack <= uniform.numpy()).all()
    assert (uniform.numpy() <= before[chosen + 1] + slack).all()


# Whole samples


@pytest.mark.parametrize("share", [True, False])
def test_log_probabilities_are_the_models_own_whatever_it_was_sampled_with(llama, share, monkeypatch):
    monkeypatch.setattr(sampling, "shares_prompts", lambda *_: share)
    plain = draw(llama, temperature=1.0)
    narrowed = draw(llama, temperature=0.5, top_p=0.7)
    assert tokens_of(plain) != tokens_of(narrowed)
    for samples in plain, narrowed:
        assert largest_difference(llama, PROMPTS, samples) < 1e-5


def test_samples_are_the_same_however_they_are_batched_and_whether_they_share_their_prompt(llama, monkeypatch):
    first = draw(llama, n=5)
    assert {len(one) for row in tokens_of(first) for one in row} != {12}  # some have ended
    assert len({one for row in tokens_of(first) for one in row}) > 15
    for rows_at_once in (1, 2, 7, 1000):
        assert tokens_of(draw(llama, n=5, rows_at_once=rows_at_once)) == tokens_of(first)
    assert tokens_of(draw(llama, n=2)) != tokens_of(draw(llama, n=2, seed=2))
    monkeypatch.setattr(sampling, "shares_prompts", lambda *_: False)
    for rows_at_once in (2, 1000):
        assert tokens_of(draw(llama, n=5, rows_at_once=rows_at_once)) == tokens_of(first)


def test_samples_that_end_leave_the_others_as_they_were(llama):
    ends = range(2, 12)  # so many that samples end all the time, and whole prompts with them
    prompts = [[20 + i] * (1 + i % 4) for i in range(9)]
    stopped = draw(llama, prompts, n=4, end_tokens=ends, rows_at_once=36)
    assert largest_difference(llama, prompts, stopped) < 1e-5
    free = draw(llama, prompts, n=4, end_tokens=(), rows_at_once=36)
    assert {len(one) for one in chain(*tokens_of(free))} == {12}
    for before, after in zip(chain(*tokens_of(free)), chain(*tokens_of(stopped)), strict=True):
        cut = next((i for i, token in enumerate(before, start=1) if token in ends), 12)
        assert after == before[:cut]


def test_samples_longer_than_the_first_room_for_them_are_right(llama):
    samples = draw(llama, [[5, 6]], n=2, end_tokens=(), max_new_tokens=50)
    assert [len(one) for one in tokens_of(samples)[0]] == [50, 50]
    assert largest_difference(llama, [[5, 6]], samples) < 1e-5


def test_adapters_take_part_and_training_goes_on_afterwards():
    model = get_peft_model(
        built("Llama"),
        LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"),
    ).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight += 0.3
    samples = draw(model, max_new_tokens=40)
    assert largest_difference(model, PROMPTS, samples) < 1e-4
    model(input_ids=torch.tensor([[5, 6, 7]])).logits.sum().backward()
    assert all(weight.grad is not None for weight in model.parameters() if weight.requires_grad)


# What docs/rooms/steer.md lists.
SHARING = {
    "Cohere": {},
    "Cohere2": {},
    "Gemma": {"head_dim": 8},
    "Gemma3": {"head_dim": 8},
    "GPT2": {},
    "GPTNeoX": {},
    "Granite": {},
    "Llama": {},
    "Mistral": {"sliding_window": 17},
    "Mixtral": {},
    "Olmo2": {},
    "OPT": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "Phi": {},
    "Phi3": {},
    "Qwen2": {},
    "Qwen3": {"head_dim": 8},
    "SmolLM3": {},
    "Starcoder2": {},
}


@pytest.mark.parametrize("name", SHARING)
def test_prompts_are_shared_in_many_architectures(name):
    model = built(name, **SHARING[name])
    samples = draw(model)
    assert sampling.shares_prompts(model, 17)
    assert largest_difference(model, PROMPTS, samples) < 1e-4


def test_the_docs_list_these_architectures():
    page = (Path(__file__).parents[2] / "docs" / "rooms" / "steer.md").read_text(encoding="utf-8")
    listed = re.findall("`([^`]+)`", page.split("<!-- architectures -->")[1])
    assert listed == sorted(SHARING, key=str.lower)


@pytest.mark.parametrize(
    ("name", "settings", "reason"),
    [
        ("Bloom", {"n_head": 4, "n_layer": 2}, "its attention cannot be replaced"),
        ("Gemma2", {"head_dim": 8}, "its attention asks for softcap"),
        ("Llama4", {"head_dim": 8}, "layers of other kinds than attention: chunked_attention"),
        ("Mistral", {"sliding_window": 8}, "sees no further than 8 tokens"),
    ],
)
def test_others_are_sampled_all_the_same_and_it_is_said_why_it_takes_longer(name, settings, reason):
    model = built(name, **settings)
    with pytest.warns(UserWarning, match=f"each sample gets a copy of its prompt.*{reason}"):
        samples = draw(model)
    assert largest_difference(model, PROMPTS, samples) < 1e-4


def test_a_model_whose_attention_is_not_what_it_says_is_found_out(monkeypatch):
    from penchant.policies import branching

    real = branching._Layer.attend
    for factor in (1.1, torch.nan):
        monkeypatch.setattr(branching._Layer, "attend", lambda self, query, factor=factor: real(self, factor * query))
        with pytest.warns(UserWarning, match="a trial gave other values"):
            assert not sampling.shares_prompts(built("Llama"), 9)


def test_a_model_without_a_cache_of_keys_and_values_is_refused():
    model = built("Mamba", state_size=4)
    with (
        pytest.warns(UserWarning, match="layers of other kinds than attention"),
        pytest.raises(SettingsError, match="MambaForCausalLM keeps no keys and values"),
    ):
        draw(model)
