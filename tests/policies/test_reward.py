"""A reward is the head's number at a response's last token, whatever form the batch has."""

import pytest
import tiny_model
import torch
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

from penchant.errors import DataError, SettingsError
from penchant.policies import Example, LanguagePolicy, LanguageReward, can_pack, packed, padded
from penchant.policies.reward import response_rewards

SIZES = {
    "vocab_size": 30,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
EXAMPLES = [
    Example((1, 2, 3), ((4, 5), (6,), (7, 8, 9, 10))),
    Example((11,), ((12, 13, 14),)),
    Example((3, 1, 4, 1, 5), ((9, 2, 6), (5, 3)), given=(1, 0)),
]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return LlamaForSequenceClassification(LlamaConfig(**SIZES, num_labels=1, pad_token_id=0)).eval()


def by_hand(model, example):
    """Reward of each response, one forward pass each: the head on the last hidden state."""
    found = []
    for response in example.responses:
        ids = torch.tensor([[*example.prompt, *response]])
        found.append(model.score(model.model(input_ids=ids).last_hidden_state[0, -1])[0])
    return torch.stack(found)


@pytest.mark.parametrize("form", [padded, packed])
def test_rewards_equal_those_of_one_pass_for_each_response(model, form):
    expected = torch.cat([by_hand(model, example) for example in EXAMPLES])
    torch.testing.assert_close(response_rewards(model, form(EXAMPLES, pad=0)), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(response_rewards(model, form(EXAMPLES[1:], pad=0)), expected[3:], rtol=1e-5, atol=1e-5)


def test_rewards_equal_what_transformers_pools_itself(model):
    batch = padded(EXAMPLES, pad=0)  # no token of these is the padding token, so its pooling finds the last one
    theirs = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, 0]
    torch.testing.assert_close(response_rewards(model, batch), theirs, rtol=1e-5, atol=1e-5)


def test_packed_and_padded_have_the_same_gradient(model):
    gradients = []
    for form in (padded, packed):
        model.zero_grad()
        (response_rewards(model, form(EXAMPLES, pad=0)) * torch.arange(6)).sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)
    assert can_pack(model, response_rewards)


def test_a_model_without_a_head_is_refused():
    with pytest.raises(SettingsError, match="score"):
        response_rewards(LlamaForCausalLM(LlamaConfig(**SIZES)), padded(EXAMPLES, pad=0))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_model.write(tmp_path_factory.mktemp("chat"))


PROMPTS = ["what is good", "tea or coffee"]
ANSWERS = [["yes", "no and no"], ["tea"]]


def test_what_was_saved_gives_the_same_rewards_adapters_or_whole(folder, tmp_path):
    for rank in (None, 2):
        reward = LanguageReward(str(folder), lora_rank=rank, seed=3)
        trained = [p for name, p in reward.model.named_parameters() if p.requires_grad]
        with torch.no_grad():
            for parameter in trained:
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
        expected = reward.rewards(PROMPTS, ANSWERS)
        reward.save(tmp_path / f"rank-{rank}")
        again = LanguageReward.saved(tmp_path / f"rank-{rank}")
        assert again.has_adapters == (rank is not None)
        for ours, theirs in zip(expected, again.rewards(PROMPTS, ANSWERS), strict=True):
            assert ours == pytest.approx(theirs, abs=1e-5)


def test_rewards_do_not_depend_on_their_neighbours_and_keep_their_places(folder):
    reward = LanguageReward(str(folder))
    together = reward.rewards(PROMPTS, ANSWERS)
    alone = [reward.rewards([prompt], [answers])[0] for prompt, answers in zip(PROMPTS, ANSWERS, strict=True)]
    assert [len(row) for row in together] == [2, 1]
    for ours, theirs in zip(together, alone, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-5)
    with pytest.raises(DataError, match="2 prompts and 1 lists"):
        reward.rewards(PROMPTS, ANSWERS[:1])


def test_a_new_head_comes_from_the_seed_and_a_saved_one_from_disk(folder, tmp_path):
    one, same, other = (LanguageReward(str(folder), seed=seed).model.score.weight for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    LanguageReward(str(folder), seed=0).save(tmp_path)
    assert torch.equal(LanguageReward(str(tmp_path), seed=1).model.score.weight, one)


def test_adapters_of_a_reward_model_are_not_mistaken_for_a_policys(folder, tmp_path):
    LanguageReward(str(folder), lora_rank=2).save(tmp_path)
    with pytest.raises(SettingsError, match="LanguageReward"):
        LanguagePolicy(str(folder), adapter=tmp_path)
