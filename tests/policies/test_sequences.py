import copy
import random
import re
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    Cohere2Config,
    Cohere2ForCausalLM,
    CohereConfig,
    CohereForCausalLM,
    DeepseekV3Config,
    DeepseekV3ForCausalLM,
    FalconConfig,
    FalconForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GemmaConfig,
    GemmaForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    Olmo2Config,
    Olmo2ForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3NextConfig,
    Qwen3NextForCausalLM,
    SmolLM3Config,
    SmolLM3ForCausalLM,
    StableLmConfig,
    StableLmForCausalLM,
    Starcoder2Config,
    Starcoder2ForCausalLM,
)

from penchant.errors import DataError, SettingsError
from penchant.policies import attention, sequences
from penchant.policies.sequences import Batch, Example, can_pack, packed, padded, token_log_probabilities

# peft 0.21 asks transformers 5.23 for a property by its old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

VOCABULARY = 97
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    # Large weights, so that what a token sees changes its probability well beyond rounding.
    "initializer_range": 0.3,
}


PLAIN = {"vocab_size": VOCABULARY, "num_hidden_layers": 2, "num_attention_heads": 4}


def llama(**settings) -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SIZES, **settings)).eval()


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    return llama()


def random_examples(n: int, seed: int = 0, most_responses: int = 4) -> list[Example]:
    draw = random.Random(seed)

    def tokens(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw.randrange(VOCABULARY) for _ in range(draw.randint(low, high)))

    return [
        Example(tokens(1, 12), tuple(tokens(1, 9) for _ in range(draw.randint(1, most_responses)))) for _ in range(n)
    ]


def by_hand(model: nn.Module, example: Example) -> list[torch.Tensor]:
    """Log-probabilities of each response's tokens, one sequence at a time, from log_softmax over whole logits."""
    answers = []
    for response, given in zip(example.responses, example.given, strict=True):
        ids = torch.tensor([[*example.prompt, *response]])
        with torch.no_grad():
            table = torch.log_softmax(model(input_ids=ids).logits[0].double(), -1)
        start = len(example.prompt) + given
        answers.append(torch.tensor([table[t - 1, ids[0, t]] for t in range(start, ids.shape[1])]))
    return answers


def values(model: nn.Module, batch: Batch) -> torch.Tensor:
    with torch.no_grad():
        return token_log_probabilities(model, batch).values


def assert_matches_by_hand(model: nn.Module, examples: list[Example], batch: Batch) -> None:
    expected = [answer for example in examples for answer in by_hand(model, example)]
    with torch.no_grad():
        found = token_log_probabilities(model, batch)
    assert found.values.dtype == torch.float32
    torch.testing.assert_close(found.values, torch.cat(expected).float(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.sums(), torch.stack([e.sum() for e in expected]).float(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.means(), torch.stack([e.mean() for e in expected]).float(), rtol=1e-5, atol=1e-5)
    assert found.lengths().tolist() == [len(e) for e in expected]


FORMS = {
    "padded on the right": lambda examples: padded(examples, pad=0),
    "padded on the left": lambda examples: padded(examples, pad=0, side="left"),
    "packed tightly": lambda examples: packed(examples, pad=0),
    "packed in one row": lambda examples: packed(examples, pad=0, max_tokens=sum(e.n_tokens for e in examples)),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_every_form_of_batch_equals_log_softmax_over_whole_logits(form, attention):
    examples = random_examples(6)
    assert_matches_by_hand(llama(attn_implementation=attention), examples, FORMS[form](examples))


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_batch_has_the_gradient_of_one_sequence_at_a_time(model, form):
    examples = random_examples(5, seed=1)
    weights = torch.linspace(-1, 1, sum(len(e.responses) for e in examples))

    def gradients(batches: list[Batch]) -> list[torch.Tensor]:
        model.zero_grad()
        sums = torch.cat([token_log_probabilities(model, batch).sums() for batch in batches])
        (weights @ sums).backward()
        return [p.grad.clone() for p in model.parameters()]

    one_by_one = [padded([Example(e.prompt, (r,))], pad=0) for e in examples for r in e.responses]
    for whole, parts in zip(gradients([FORMS[form](examples)]), gradients(one_by_one), strict=True):
        torch.testing.assert_close(whole, parts, rtol=1e-4, atol=1e-5 * float(parts.abs().max()))


@pytest.mark.parametrize("form", FORMS)
def test_values_do_not_depend_on_the_size_of_the_batch(model, form):
    examples = random_examples(8, seed=2)
    alone = torch.cat([values(model, FORMS[form]([example])) for example in examples])
    torch.testing.assert_close(values(model, FORMS[form](examples)), alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_a_response_does_not_see_its_siblings_nor_other_examples(model, form):
    first, second = random_examples(2, seed=3, most_responses=1)
    changed = tuple((token + 1) % VOCABULARY for token in first.responses[0])
    kept = (5, 6, 7)
    pair = [[Example(first.prompt, (other, kept)), second] for other in (first.responses[0], changed)]
    before, after = (values(model, FORMS[form](examples)) for examples in pair)
    n = len(changed)
    torch.testing.assert_close(before[n:], after[n:], rtol=1e-5, atol=1e-5)
    assert (before[:n] - after[:n]).abs().max() > 1e-2


@pytest.mark.parametrize("form", FORMS)
def test_given_tokens_are_context_that_is_not_predicted(model, form):
    examples = [Example((1, 2), ((3, 4, 5), (6, 7)), given=(1, 0))]
    assert_matches_by_hand(model, examples, FORMS[form](examples))
    whole = Example((1, 2, 3), ((4, 5),))
    torch.testing.assert_close(
        values(model, FORMS[form](examples))[:2], values(model, padded([whole], pad=0)), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("adapters", [False, True])
def test_parts_of_the_vocabulary_projection_give_the_same_values_and_gradients(model, monkeypatch, adapters):
    tested = copy.deepcopy(model)
    if adapters:
        tested = get_peft_model(tested, LoraConfig(target_modules="all-linear", r=2, init_lora_weights=False))
    batch = packed(random_examples(4, seed=4), pad=0)
    found = []
    for largest in (sequences._LARGEST_LOGITS, 5 * VOCABULARY):
        monkeypatch.setattr(sequences, "_LARGEST_LOGITS", largest)
        tested.zero_grad()
        answer = token_log_probabilities(tested, batch)
        (answer.sums() ** 2).sum().backward()
        found.append([answer.values.detach(), *(p.grad.clone() for p in tested.parameters() if p.requires_grad)])
    for whole, parts in zip(*found, strict=True):
        torch.testing.assert_close(whole, parts, rtol=1e-4, atol=1e-5 * float(parts.abs().max()))


def test_the_head_meets_only_the_states_that_predict_a_response(model):
    example = Example(tuple(range(20)), ((1, 2, 3), (4,)))
    met = []
    hook = model.lm_head.register_forward_hook(lambda module, states, logits: met.append(logits.shape))
    values(model, packed([example], pad=0))
    hook.remove()
    assert met == [(1, 4, VOCABULARY)]
    assert not model.lm_head._forward_pre_hooks


@pytest.mark.parametrize("largest", [10**9, 3 * VOCABULARY])
@pytest.mark.parametrize(
    ("kind", "config"),
    [
        (CohereForCausalLM, CohereConfig(**{**SIZES, "logit_scale": 0.25})),
        (Gemma2ForCausalLM, Gemma2Config(**{**SIZES, "head_dim": 8, "final_logit_softcapping": 2.0})),
        (GPT2LMHeadModel, GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, initializer_range=0.3)),
        (BloomForCausalLM, BloomConfig(vocab_size=VOCABULARY, hidden_size=32, n_layer=2, n_head=4)),
    ],
    ids=["scaled logits", "capped logits", "learnt positions", "no position ids"],
)
def test_models_of_other_kinds_keep_their_own_logits(kind, config, largest, monkeypatch):
    monkeypatch.setattr(sequences, "_LARGEST_LOGITS", largest)
    torch.manual_seed(0)
    tested = kind(config).eval()
    examples = random_examples(4, seed=5)
    assert_matches_by_hand(tested, examples, padded(examples, pad=0))
    if kind in (CohereForCausalLM, GPT2LMHeadModel):
        assert_matches_by_hand(tested, examples, packed(examples, pad=0))


class WithoutHead(nn.Module):
    """A causal model that keeps its projection to itself."""

    def __init__(self, inner: LlamaForCausalLM):
        super().__init__()
        self.inner, self.config, self.dtype = inner, inner.config, inner.dtype

    def get_output_embeddings(self) -> None:
        return None

    def forward(self, input_ids, attention_mask, position_ids, use_cache):
        return self.inner(input_ids, attention_mask=attention_mask, position_ids=position_ids, use_cache=use_cache)


def test_a_model_that_shows_no_head_is_read_from_its_whole_logits(model):
    examples = random_examples(3, seed=6)
    torch.testing.assert_close(
        values(WithoutHead(model), packed(examples, pad=0)), values(model, packed(examples, pad=0))
    )


def test_data_parallel_wrappers_are_called_not_bypassed(model):
    calls = []

    class Parallel(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = model

        def forward(self, **arguments):
            calls.append(sorted(arguments))
            return self.module(**arguments)

    batch = packed(random_examples(2, seed=7), pad=0)
    torch.testing.assert_close(values(Parallel(), batch), values(model, batch))
    assert calls == [["attention_mask", "input_ids", "position_ids", "use_cache"]]


LOUDLY = "prompts are computed again for every response"


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (
            lambda: BloomForCausalLM(BloomConfig(vocab_size=VOCABULARY, hidden_size=8, n_layer=1, n_head=2)),
            "position_ids",
        ),
        (lambda: MistralForCausalLM(MistralConfig(**SIZES, sliding_window=8)), "sliding window of 8"),
        (lambda: Gemma2ForCausalLM(Gemma2Config(**SIZES, head_dim=8, sliding_window=8)), "sliding window of 8"),
        (lambda: Qwen3NextForCausalLM(Qwen3NextConfig(**SIZES, head_dim=8)), "linear_attention"),
    ],
    ids=["no positions", "windows without our attention", "windows in eager attention", "recurrent layers"],
)
def test_a_model_that_cannot_share_a_prompt_says_so_once_and_why(made, why):
    torch.manual_seed(0)
    tested = made()
    with pytest.warns(UserWarning, match=f"{LOUDLY}.*{why}"):
        assert not can_pack(tested)
    assert not can_pack(tested)  # a second warning would be an error


def test_a_model_is_packed_bare_and_with_adapters(model):
    assert can_pack(model)
    assert can_pack(get_peft_model(copy.deepcopy(model), LoraConfig(target_modules="all-linear")))
    with pytest.raises(SettingsError, match="not a causal language model"):
        can_pack(nn.Linear(2, 2))


# What docs/rooms/align.md lists. Sliding windows are shorter than the rows, so that they matter.
ARCHITECTURES = {
    "Cohere": lambda: CohereForCausalLM(CohereConfig(**SIZES)),
    "Cohere2": lambda: Cohere2ForCausalLM(Cohere2Config(**SIZES, sliding_window=5)),
    "DeepseekV3": lambda: DeepseekV3ForCausalLM(
        DeepseekV3Config(
            **SIZES | {"num_key_value_heads": 4, "n_routed_experts": 2, "num_experts_per_tok": 1, "n_group": 1},
            topk_group=1,
            q_lora_rank=8,
            kv_lora_rank=8,
            qk_rope_head_dim=8,
            qk_nope_head_dim=8,
            v_head_dim=8,
        )
    ),
    "Falcon": lambda: FalconForCausalLM(FalconConfig(**PLAIN, hidden_size=32, initializer_range=0.3)),
    "Gemma": lambda: GemmaForCausalLM(GemmaConfig(**SIZES, head_dim=8)),
    "Gemma3": lambda: Gemma3ForCausalLM(
        Gemma3TextConfig(**SIZES, head_dim=8, sliding_window=5, layer_types=["sliding_attention", "full_attention"])
    ),
    "GPT2": lambda: GPT2LMHeadModel(
        GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, initializer_range=0.3)
    ),
    "GPTNeoX": lambda: GPTNeoXForCausalLM(
        GPTNeoXConfig(**PLAIN, hidden_size=32, intermediate_size=48, initializer_range=0.3)
    ),
    "Granite": lambda: GraniteForCausalLM(GraniteConfig(**SIZES)),
    "Llama": llama,
    "Mistral": lambda: MistralForCausalLM(MistralConfig(**SIZES, sliding_window=5)),
    "Mixtral": lambda: MixtralForCausalLM(MixtralConfig(**SIZES, num_local_experts=2)),
    "Olmo2": lambda: Olmo2ForCausalLM(Olmo2Config(**SIZES)),
    "OPT": lambda: OPTForCausalLM(OPTConfig(**PLAIN, hidden_size=32, ffn_dim=48, word_embed_proj_dim=32, init_std=0.3)),
    "Phi": lambda: PhiForCausalLM(PhiConfig(**SIZES)),
    "Phi3": lambda: Phi3ForCausalLM(Phi3Config(**SIZES, pad_token_id=0)),
    "Qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES)),
    "Qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SIZES, head_dim=8)),
    "SmolLM3": lambda: SmolLM3ForCausalLM(SmolLM3Config(**SIZES, pad_token_id=0)),
    "StableLm": lambda: StableLmForCausalLM(StableLmConfig(**SIZES)),
    "Starcoder2": lambda: Starcoder2ForCausalLM(Starcoder2Config(**SIZES)),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_packed_rows_have_the_values_and_gradients_of_padded_ones_in_every_architecture_that_the_docs_list(name):
    torch.manual_seed(0)
    tested = ARCHITECTURES[name]().eval()
    attention.install(tested)
    assert can_pack(tested)
    follow_up = Example((9, 8, 7), ((1, 2), (1, 2, 3, 4, 5), (1, 2, 3, 4, 6, 7)), given=(0, 3, 4))
    examples = [*random_examples(5, seed=8), follow_up, Example(follow_up.prompt, ((4, 4), (1, 2, 3)))]

    def found(form):
        tested.zero_grad()
        sums = token_log_probabilities(tested, form(examples, pad=0)).sums()
        (sums @ torch.linspace(-1, 1, len(sums))).backward()
        return sums.detach(), torch.cat([p.grad.flatten() for p in tested.parameters() if p.grad is not None])

    (plain, plain_gradient), (shared, gradient) = found(padded), found(packed)
    torch.testing.assert_close(shared, plain, rtol=1e-4, atol=0)
    assert torch.norm(gradient - plain_gradient) < 1e-4 * torch.norm(plain_gradient)
    assert torch.cosine_similarity(gradient.double(), plain_gradient.double(), dim=0) > 0.9999


def test_the_docs_list_the_architectures_that_are_tested():
    page = Path(__file__).parents[2].joinpath("docs/rooms/align.md").read_text(encoding="utf-8")
    listed = page.split("<!-- architectures -->")[1]
    assert re.findall(r"`(\w+)`", listed) == list(ARCHITECTURES)


def test_packing_that_a_model_ignores_is_found_out_by_trying(model):
    class Deaf(WithoutHead):
        """Positions of its own, whatever it is told."""

        def forward(self, input_ids, attention_mask, position_ids, use_cache):
            counted = torch.arange(input_ids.shape[1])[None].expand_as(input_ids)
            return super().forward(input_ids, attention_mask, counted, use_cache)

    assert can_pack(WithoutHead(model))
    with pytest.warns(UserWarning, match="a trial gave other values"):
        assert not can_pack(Deaf(model))


def test_packing_fills_rows_up_to_the_limit_and_computes_each_prompt_once():
    examples = [Example((1,) * 5, ((2,), (3,))), Example((4,) * 2, ((5,),)), Example((6,) * 3, ((7,),))]
    batch = packed(examples, pad=0)
    assert batch["input_ids"].tolist() == [[1, 1, 1, 1, 1, 2, 3], [6, 6, 6, 7, 4, 4, 5]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 4, 5, 5], [0, 1, 2, 3, 0, 1, 2]]
    assert batch["predictor"].tolist() == [4, 4, 5, 2]
    assert batch["response"].tolist() == [0, 1, 2, 3]
    assert list(zip(batch["row"].tolist(), batch["column"].tolist(), strict=True)) == [(0, 5), (0, 6), (1, 6), (1, 3)]
    assert batch["example"].tolist() == [0, 0, 1, 2]
    assert packed(examples, pad=0, max_tokens=14)["input_ids"].shape == (1, 14)
    with pytest.raises(DataError, match=r"7 tokens .* a row may hold 6"):
        packed(examples, pad=0, max_tokens=6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((), ((1,),)), "prompt has no tokens"),
        (((1,), ()), "no responses"),
        (((1,), ((2,), ())), "first response 1, have no token"),
        (((1,), ((2,),), (1,)), "no token to predict"),
        (((1,), ((2,),), (0, 0)), "2 values of `given` for 1 responses"),
    ],
)
def test_what_cannot_be_predicted_is_refused_in_words(arguments, message):
    with pytest.raises(DataError, match=message):
        Example(*arguments)


@pytest.mark.parametrize("form", [padded, packed])
def test_a_batch_of_nothing_is_refused(form):
    with pytest.raises(DataError, match="at least one example"):
        form([], pad=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_log_probability_of_a_token_and_its_gradient_are_those_of_torch(dtype):
    generator = torch.Generator().manual_seed(0)
    plain = (5 * torch.randn(7, 11, generator=generator)).to(dtype).requires_grad_()
    ours = plain.detach().clone().requires_grad_()
    targets = torch.randint(11, (7,), generator=generator)
    weights = torch.randn(7, generator=generator)
    theirs = -torch.nn.functional.cross_entropy(plain.float(), targets, reduction="none")
    found = sequences._log_softmax_at(ours, targets)
    torch.testing.assert_close(found, theirs, atol=1e-5, rtol=1e-5)
    (weights * theirs).sum().backward()
    (weights * found).sum().backward()
    torch.testing.assert_close(ours.grad, plain.grad, atol=1e-6, rtol=1e-2 if dtype == torch.bfloat16 else 1e-5)
