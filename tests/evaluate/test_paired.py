import numpy as np
import pytest

from penchant.errors import DataError
from penchant.evaluate.paired import paired_accuracy
from penchant.records import Comparisons


def both_ways(n):
    rows = []
    for i in range(n):
        for chosen, rejected, context in (("a", "b", "first"), ("b", "a", "second")):
            rows.append({"prompt": f"q{i}", "chosen": chosen, "rejected": rejected, "context": context})
    return Comparisons.from_rows(rows)


def test_a_model_that_ignores_the_context_is_right_on_half_of_the_rows_and_on_no_pair():
    likes_a = np.tile([0.9, 0.1], 20)
    found = paired_accuracy(both_ways(20), likes_a)
    assert (found.single, found.paired, found.n_pairs, found.n_alone) == (0.5, 0.0, 20, 0)
    undecided = paired_accuracy(both_ways(20), np.full(40, 0.5))
    assert (undecided.single, undecided.paired) == (0.5, 0.0)


def test_a_pair_counts_only_where_both_directions_are_right():
    found = paired_accuracy(both_ways(2), [0.9, 0.8, 0.9, 0.1])
    assert (found.single, found.paired, found.right.tolist(), found.prompts) == (0.75, 0.5, [True, False], ("q0", "q1"))


def test_rows_without_their_reverse_are_counted_and_left_out_and_strength_may_say_the_reverse():
    rows = [
        {"prompt": "q", "chosen": "a", "rejected": "b", "context": "x"},
        {"prompt": "q", "chosen": "a", "rejected": "b", "context": "y", "strength": 0.0},
        {"prompt": "other", "chosen": "a", "rejected": "b", "context": "x"},
        {"prompt": "q", "chosen": "a", "rejected": "b", "context": "z", "strength": 0.5},
    ]
    found = paired_accuracy(Comparisons.from_rows(rows), [0.9, 0.1, 0.9, 0.9])
    assert (found.paired, found.n_pairs, found.n_alone) == (1.0, 1, 1)


def test_what_cannot_be_paired_is_a_clear_error():
    one_way = Comparisons.from_rows([{"prompt": "q", "chosen": "a", "rejected": "b", "context": "x"}])
    with pytest.raises(DataError, match="None of 1 pairs is judged both ways"):
        paired_accuracy(one_way, [0.9])
    silent = Comparisons.from_rows([{"prompt": "q", "chosen": "a", "rejected": "b"}])
    with pytest.raises(DataError, match="1 of 1 rows name no context"):
        paired_accuracy(silent, [0.9])
    with pytest.raises(DataError, match="One finite probability"):
        paired_accuracy(one_way, [0.9, 0.1])
