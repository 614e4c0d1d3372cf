"""The plan of batches: who sees which rows when, and that it depends on nothing it should not."""

import pytest
import torch
from tiny_language import TinyPolicy, comparisons

from penchant.align import DPO
from penchant.align.batches import Collator, Row, Shares, encode, plan
from penchant.errors import DataError, SettingsError
from penchant.policies.sequences import Example


def flat(planned):
    return [row for step in planned for part in step for row in part]


def test_every_epoch_deals_each_row_once_in_an_order_of_its_own():
    dealt = flat(plan([5] * 10, epochs=3.0, examples_per_batch=4, seed=7))
    epochs = [dealt[i : i + 10] for i in (0, 10, 20)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(10))] * 3
    assert epochs[0] != epochs[1] != epochs[2]


def test_cutting_a_step_into_parts_changes_no_row_of_it():
    whole = plan([5] * 10, steps=7, examples_per_batch=8, seed=3)
    parts = plan([5] * 10, steps=7, examples_per_batch=4, accumulation=2, seed=3)
    assert [flat([step]) for step in parts] == [flat([step]) for step in whole]
    assert {len(part) for step in parts for part in step} == {4}


def test_a_token_budget_is_never_exceeded_and_no_row_is_lost():
    lengths = [3, 9, 5, 5, 2, 10, 7, 1]
    planned = plan(lengths, epochs=1.0, tokens_per_batch=10)
    parts = [part for step in planned for part in step]
    assert sorted(flat(planned)) == list(range(8))
    assert max(sum(lengths[row] for row in part) for part in parts) <= 10


def test_a_row_longer_than_the_budget_is_an_error_that_names_the_budget_needed():
    with pytest.raises(DataError, match=r"1 of 2 rows .* at least 30"):
        plan([10, 30], steps=1, tokens_per_batch=20)


@pytest.mark.parametrize("wanted", [{}, {"steps": 2, "epochs": 1.0}])
def test_steps_and_epochs_exclude_each_other(wanted):
    with pytest.raises(SettingsError, match="either steps or epochs"):
        plan([1], **wanted)


@pytest.mark.parametrize("n_processes", [1, 2, 3])
def test_processes_share_a_step_without_losing_or_repeating_rows(n_processes):
    planned = plan([1] * 7, epochs=1.0, examples_per_batch=2, accumulation=2, seed=1)
    shares = Shares(planned, n_processes, accumulation=2)
    assert len(shares) == len(planned) * 2 * n_processes  # every process takes part in every part of every step
    seen = []
    for step, rows in enumerate(planned):
        mine = [shares[i] for i in range(step * 2 * n_processes, (step + 1) * 2 * n_processes)]
        assert {share.n_examples for share in mine} == {len(flat([rows]))}
        seen += [row for share in mine for row, w in zip(share.rows, share.weights, strict=True) if w == 1]
        assert sum(sum(share.weights) for share in mine) == len(flat([rows]))
    assert sorted(seen) == list(range(7))


def test_a_batch_holds_the_numbers_of_its_rows_and_the_reference_of_their_responses():
    rows = [
        Row(Example((1,), ((4,), (5, 6))), {"strength": 0.7, "rank": [1, 2]}),
        Row(Example((1, 3), ((4,), (5,), (7,))), {"strength": 1.0, "rank": [1, 1, 3]}),
    ]
    collator = Collator(rows, pad=0, use_packing=True)
    collator.reference = [torch.tensor([-1.0, -2.0]), torch.tensor([-3.0, -4.0, -5.0])]
    shares = Shares([[[1, 0]]])
    batch = collator([shares[0]])
    assert batch["example"].tolist() == [0, 0, 0, 1, 1]
    assert batch["rank"].tolist() == [1, 1, 3, 1, 2]
    assert batch["reference"].tolist() == [-3, -4, -5, -1, -2]
    torch.testing.assert_close(batch["strength"], torch.tensor([1.0, 0.7]))
    assert batch["n_examples"] == 2


class Short(TinyPolicy):
    def encode(self, prompt, responses, **rest):
        example = super().encode(prompt, responses, **rest)
        if example.n_tokens > 10:
            raise DataError(f"{example.n_tokens} tokens are longer than the context")
        return example


def test_rows_that_do_not_fit_the_context_are_an_error_or_counted():
    records = comparisons(20)
    with pytest.raises(DataError, match="longer than the context"):
        encode(DPO(), Short(), records)
    rows, dropped = encode(DPO(), Short(), records, too_long="drop")
    assert len(rows) + dropped["longer than the model's context"] == 20
    assert dropped["longer than the model's context"] > 0
    with pytest.raises(DataError, match="nothing to train on"):
        encode(DPO(), Short(), records.take([]))
