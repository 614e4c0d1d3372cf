"""Comparison features: the length rule by hand, the authors' rules for errors, relevance and stances."""

import numpy as np
import pydantic
import pytest

from penchant.errors import DataError, SettingsError
from penchant.evaluate.properties import (
    IN_CODE,
    PROPERTIES,
    SCORED,
    Described,
    Error,
    Facts,
    compared,
    computed,
    length_comparison,
)

PLAIN = Facts(intent_is_clear=True, expresses_feelings=False, constraints=[], stances=[], mistakes=[])


def described(errors=(), checked=True, scores=None, **rest):
    basic = dict.fromkeys(SCORED, 1) | (scores or {})
    found = [Error(what="x", severity=severity) for severity in errors]
    return Described(basic=basic, accuracy_can_be_checked=checked, errors=found, **rest)


def value(name, *given, way="sign", facts=PLAIN):
    return compared(*given, facts, (50, 50), way=way)[PROPERTIES.index(name)]


def test_length_follows_the_rule_at_its_edges():
    cases = [(28, 40, -1), (29, 40, 0), (80, 100, -1), (81, 100, 0), (360, 400, -1), (361, 400, 0), (0, 1, -1)]
    cases += [(1, 2, 0), (1, 3, -1), (11, 18, 0), (11, 19, -1), (12, 21, 0), (12, 22, -1), (0, 0, 0)]
    for one, other, expected in cases:
        assert length_comparison([one, other], [other, one]).tolist() == [expected, -expected], (one, other)


def test_no_errors_is_turned_round_once():
    assert value("no severe errors", described(["severe"]), described()) == -1
    assert value("no severe errors", described(), described(["severe", "severe"])) == 1
    assert value("no minor errors", described(["minor"] * 3), described(["minor"]), way="norm_diff") == -0.4


def test_relevance_counts_only_where_one_is_wholly_irrelevant_and_repetition_is_turned():
    assert value("relevant", described(scores={"relevant": 3}), described(scores={"relevant": 1})) == 0
    assert value("relevant", described(scores={"relevant": 1}), described(scores={"relevant": 0})) == 1
    assert value("non-repetitive", described(scores={"repetitive": 3}), described()) == -1


def test_what_the_prompt_does_not_ask_for_is_zero_and_lists_are_averaged():
    warm, cold = described(empathetic=3), described(empathetic=0)
    assert value("empathetic", warm, cold) == 0
    feeling = PLAIN.model_copy(update={"expresses_feelings": True, "stances": ["s", "t"]})
    warm = described(empathetic=3, stances=["strongly supported", "neutral"])
    cold = described(stances=["weakly opposed", "weakly opposed"])
    assert value("empathetic", warm, cold, facts=feeling) == 1
    assert value("supports stances", warm, cold, facts=feeling, way="diff") == 2
    with pytest.raises(DataError, match="0 stances for 2"):
        compared(warm, described(), feeling, (1, 1))


def test_pairs_that_cannot_be_checked_are_none_and_unknown_ways_and_severities_are_refused():
    assert compared(described(checked=False), described(), PLAIN, (5, 5)) is None
    with pytest.raises(SettingsError, match="no way"):
        compared(described(), described(), PLAIN, (5, 5), way="ratio")
    with pytest.raises(pydantic.ValidationError):
        Error(what="x", severity="catastrophic")
    with pytest.raises(pydantic.ValidationError, match="scores are missing"):
        Described(basic={"clear": 1}, accuracy_can_be_checked=True, errors=[])


def test_length_is_normed_by_logarithms_and_clipped():
    found = compared(described(), described(), PLAIN, (100, 0), way="norm_diff")
    assert found[-1] == pytest.approx(np.log1p(100) / np.log1p(500))
    assert compared(described(), described(), PLAIN, (9000, 0), way="norm_diff")[-1] == 1


def test_what_code_sees_turns_with_the_pair():
    first, second = ["1. Wait.\n2. Go.", "Sorry, I cannot."], ["No.", "Yes " * 40]
    one = computed(first, second)
    assert (one == -computed(second, first)).all()
    assert one[0, IN_CODE.index("well formatted")] == 1
    assert one[1, IN_CODE.index("admits limits")] == 1
    assert one[1, IN_CODE.index("lengthy")] == -1


def test_differences_of_scores_are_normed_by_the_most_there_can_be():
    facts = PLAIN.model_copy(update={"intent_is_clear": False, "expresses_feelings": True})
    most = described(scores={"clear": 3}, empathetic=3, clarifies_intent=3)
    none = described(scores={"clear": 0})
    for name in ("clear", "empathetic", "clarifies intent"):
        assert value(name, most, none, way="norm_diff", facts=facts) == 1
        assert value(name, none, most, way="diff", facts=facts) == -3
    some = described(scores={"clear": 1}, empathetic=1)
    assert value("clear", some, none, way="norm_diff", facts=facts) == pytest.approx(1 / 3)
    assert value("empathetic", some, none, way="norm_diff", facts=facts) == pytest.approx(1 / 3)
    assert value("clarifies intent", most, none) == 0, "the prompt was clear"
    assert compared(most, none, facts, (60, 50), way="diff")[-1] == 10


def test_corrections_and_constraints_count_for_the_response_that_has_more():
    facts = PLAIN.model_copy(update={"mistakes": ["m"], "constraints": ["c", "d"]})
    one = described(corrections=[3], constraints=[3, 0])
    other = described(corrections=[1], constraints=[2, 2])
    assert value("corrects mistakes", one, other, way="diff", facts=facts) == 2
    assert value("meets constraints", one, other, way="diff", facts=facts) == pytest.approx(-0.5)


def test_scores_of_unknown_names_are_refused():
    with pytest.raises(pydantic.ValidationError, match="there are unknown ones"):
        described(scores={"witty": 2})


def test_what_code_sees_is_the_sum_of_all_its_signs():
    column = IN_CODE.index("polite")
    assert computed(["thank you lamp"], ["lamp"])[0, column] == 1
    assert computed(["thank you, please"], ["thank you"])[0, column] == 1
    assert computed([], []).shape == (0, len(IN_CODE))
    with pytest.raises(DataError, match="1 first and 2 second"):
        computed(["a"], ["a", "b"])
