"""Supervised fine-tuning: its loss on numbers, its data, and a condition that it learns to obey."""

import pytest
import tiny_model
import torch
from tiny_language import TinyPolicy, scores

from penchant.align import Supervised, TrainerSettings, train
from penchant.align.batches import encode
from penchant.errors import DataError
from penchant.policies import LanguagePolicy
from penchant.policies.sequences import packed, token_log_probabilities
from penchant.records import Comparisons, Conversations, Rankings, Ratings, canonical_json


def test_the_loss_is_the_sum_over_a_response_or_its_mean_per_token():
    given, batch = scores([-6.0, -1.0, -2.0], [3, 2, 2]), {"example": torch.tensor([0, 1, 1])}
    assert Supervised().loss(given, batch).tolist() == [6.0, 3.0]
    assert Supervised(per_token=True).loss(given, batch).tolist() == [2.0, 0.75]
    assert Supervised().metrics(given, batch)["nll_per_token"].tolist() == [2.0, 0.75]


def test_every_kind_of_record_gives_the_responses_worth_imitating():
    method = Supervised(minimum=3.0)
    pairs = Comparisons.from_rows([{"prompt": "a", "chosen": "b", "rejected": "c", "context": "d"}])
    lists = Rankings.from_rows([{"prompt": "a", "responses": ["c", "b"]}])
    rated = Ratings.from_rows([{"prompt": "a", "response": r, "score": s} for r, s in (("b", 2.0), ("c", 4.0))])
    plain = [{"prompt": "a", "response": "e", "condition": "d"}]
    found = [method.examples(records)[0] for records in (pairs, lists, rated, plain)]
    assert [example["responses"] for example in found] == [["b"], ["c"], ["c"], ["e"]]
    assert [example["condition"] for example in found] == ["d", None, None, "d"]
    assert method.examples(rated) == [{"prompt": "a", "responses": ["c"], "condition": None, "form": None}]
    assert method.dropped_ == {"score below the minimum": 1}
    with pytest.raises(DataError, match="Row 0 of 1 has the keys"):
        method.examples([{"prompt": "a", "text": "b"}])


def test_every_answer_of_a_conversation_is_learnt_after_all_that_was_said_before():
    said = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    said += [{"role": "assistant", "content": "d"}]
    rows = [{"messages": canonical_json(messages)} for messages in (said, said[:1], said[1:2])]
    method = Supervised()
    [found] = method.examples(Conversations.from_rows(rows))
    assert found["prompt"] == canonical_json(said[:1])
    assert found["responses"] == [canonical_json(said[1:2]), canonical_json(said[1:])]
    assert (found["given"], found["form"]) == ([0, 2], "messages")
    assert method.dropped_ == {"no answer of the assistant in it": 2}
    with pytest.raises(DataError, match="messages"):
        method.examples(Conversations.from_rows([{"messages": "none"}]))


def test_a_policy_learns_to_answer_by_the_condition_it_is_given(tmp_path):
    rows = [
        {"prompt": prompt, "response": answer, "condition": condition}
        for prompt in ("tea", "coffee", "red", "blue")
        for condition, answer in (("good", "yes yes"), ("bad", "no"))
    ]
    policy = TinyPolicy()
    settings = TrainerSettings(steps=60, examples_per_batch=8, learning_rate=1e-2)
    result = train(Supervised(), policy, rows, settings=settings, folder=tmp_path, progress=False)
    assert result.loss < 0.1
    for condition, answer in (("good", "yes yes"), ("bad", "no")):
        assert policy.sample(["tea", "blue"], condition=condition, temperature=0) == [[answer], [answer]]


def test_a_conversation_is_read_once_and_each_answer_is_as_likely_as_after_a_prompt_of_its_own(tmp_path):
    policy = LanguagePolicy(tiny_model.write(tmp_path), precision="float32")
    said = [
        {"role": role, "content": content}
        for role, content in (("user", "hi"), ("assistant", "yes"), ("user", "why"), ("assistant", "so"))
    ]
    [row], _ = encode(Supervised(), policy, Conversations.from_rows([{"messages": canonical_json(said)}]))
    with torch.no_grad():
        shared = token_log_probabilities(policy.model, packed([row.tokens], pad=0)).sums()
    apart = policy.log_probabilities(
        [canonical_json(said[:1]), canonical_json(said[:3])],
        [[canonical_json(said[1:2])], [canonical_json(said[3:])]],
        form="messages",
    )
    torch.testing.assert_close(shared, torch.tensor([one.sum for [one] in apart]), rtol=1e-5, atol=1e-4)
    assert row.tokens.n_tokens == len(row.tokens.prompt) + len(row.tokens.responses[-1])
