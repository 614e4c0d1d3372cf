"""Probabilities of one-token options: those of the next token, and refused where there is no such token."""

import numpy as np
import pytest
import torch
from tiny_model import write

from penchant.errors import DataError
from penchant.policies.language import LanguagePolicy
from penchant.policies.options import option_log_probabilities
from penchant.policies.rendering import prompt_text


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    return LanguagePolicy(write(tmp_path_factory.mktemp("tiny")))


def test_an_option_has_the_probability_of_the_next_token(policy):
    prompts = ["Is it A or B?", "Which one?"]
    found = option_log_probabilities(policy, prompts, ("A", "B"), opening="It is ")
    for row, prompt in zip(found, prompts, strict=True):
        ids = policy.tokenizer(prompt_text(policy.tokenizer, prompt) + "It is ", add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            after = policy.model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
        a, b = (policy.tokenizer(one, add_special_tokens=False)["input_ids"][0] for one in "AB")
        assert row == pytest.approx([float(after[a]), float(after[b])], abs=1e-4)
    assert (np.exp(found).sum(axis=1) < 1).all()


def test_options_of_several_tokens_equal_options_and_long_questions_are_refused(policy):
    with pytest.raises(DataError, match="not a single token"):
        option_log_probabilities(policy, ["?"], ("AB", "B"), opening="It is ")
    with pytest.raises(DataError, match="same token"):
        option_log_probabilities(policy, ["?"], ("A", "A"), opening="It is ")
    with pytest.raises(DataError, match="no room"):
        option_log_probabilities(policy, ["?" * 200], ("A", "B"), opening="It is ")
