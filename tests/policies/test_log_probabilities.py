"""Kept log-probabilities: a row is known by its tokens, paid for once, and belongs to whoever left it."""

import pytest
import tiny_model
from hypothesis import given
from hypothesis import strategies as st

from penchant.cache import RowCache
from penchant.policies import log_probabilities
from penchant.policies.fingerprint import response_keys
from penchant.policies.language import LanguagePolicy
from penchant.policies.log_probabilities import kept_sums
from penchant.policies.sequences import Example

TOKENS = st.lists(st.integers(0, 3), min_size=1, max_size=3).map(tuple)


@given(TOKENS, st.lists(TOKENS, min_size=1, max_size=2), TOKENS, st.lists(TOKENS, min_size=1, max_size=2))
def test_two_rows_have_one_key_only_if_all_their_tokens_are_the_same(prompt, responses, other, others):
    mine, theirs = (
        [(start, response, key) for response, key in zip(example.responses, response_keys(example), strict=True)]
        for start, example in ((prompt, Example(prompt, tuple(responses))), (other, Example(other, tuple(others))))
    )
    for *content, key in [*mine, *theirs]:
        for *another, its in [*mine, *theirs]:
            assert (key == its) == (content == another)


def test_what_is_given_of_a_response_is_part_of_its_key():
    assert response_keys(Example((1,), ((2, 3),), (0,))) != response_keys(Example((1,), ((2, 3),), (1,)))


def test_a_forgotten_persons_rows_are_computed_again_and_those_of_others_are_not(tmp_path, monkeypatch):
    policy, computed = LanguagePolicy(tiny_model.write(tmp_path / "model")), []
    cache = RowCache(tmp_path / "rows.sqlite")
    original = log_probabilities.token_log_probabilities

    def counted(model, batch):
        computed.append(int(batch["n_responses"]))
        return original(model, batch)

    monkeypatch.setattr(log_probabilities, "token_log_probabilities", counted)
    examples = policy.encode_all(["what?"] * 3, [["tea", "coffee"], ["tea", "no"], ["red", "a"]])
    owners = [("ann",), ("bob",), (None,)]

    def sums():
        computed.clear()
        return kept_sums(policy.model, examples, pad=0, use_packing=True, cache=cache, owners=owners)

    first = sums()
    assert (sums(), computed) == (first, [])
    assert cache.forget("ann") == 1, "coffee; tea was bob's too"
    assert sums()[1:] == [pytest.approx(row, rel=1e-6) for row in first[1:]]
    assert computed == [2], "one row, with both its responses"
    assert cache.forget("bob") == 1, "no: ann has left tea since"
