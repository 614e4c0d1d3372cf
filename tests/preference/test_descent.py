"""The loop of small nets: what it finds, when it stops, and that chance is its own."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch.nn.functional import binary_cross_entropy_with_logits

from penchant.errors import DataError
from penchant.preference.descent import arrays_of, descend, multilayer, put_back, seeded


def problem():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 3))
    return x, (rng.random(400) < 1 / (1 + np.exp(-x @ [1.0, -2.0, 0.5]))).astype(np.float64)


def test_it_finds_the_optimum_that_another_library_finds():
    x, y = problem()
    inputs, labels = torch.tensor(x), torch.tensor(y)
    weight = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    descend(
        lambda rows: binary_cross_entropy_with_logits(inputs[rows] @ weight, labels[rows]),
        [weight],
        400,
        epochs=800,
        learning_rate=0.01,
        batch_size=400,
    )
    peer = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10).fit(x, y).coef_[0]
    np.testing.assert_allclose(weight.detach().numpy(), peer, atol=1e-3)


def test_the_best_epoch_is_kept_and_what_brings_nothing_more_is_not_run():
    weight = torch.tensor([0.0], requires_grad=True)
    seen = []

    def measure():
        seen.append(weight.item())
        return abs(weight.item() - 0.5)  # passed on the way to 3

    went = descend(
        lambda rows: (weight - 3).abs().sum(), [weight], 1, epochs=100, learning_rate=0.1, measure=measure, patience=3
    )
    assert went.epochs == went.best + 4 == len(went.losses) == len(went.measured)
    assert weight.item() == seen[went.best] == pytest.approx(0.5, abs=0.06)


def test_chance_is_its_own_and_the_same_seed_draws_the_same():
    orders = []
    torch.manual_seed(5)
    expected = torch.rand(2)
    for seed in (1, 1, 2):
        torch.manual_seed(5)
        weight = torch.zeros(1, requires_grad=True)
        order = []
        descend(
            lambda rows, order=order, weight=weight: (order.extend(rows.tolist()), weight.sum())[1],
            [weight],
            50,
            epochs=2,
            batch_size=7,
            seed=seed,
        )
        orders.append(order)
        assert torch.equal(torch.rand(2), expected)
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0][:50]) == list(range(50))


def test_a_loss_that_is_no_number_is_an_error():
    weight = torch.zeros(1, requires_grad=True)
    with pytest.raises(DataError, match="learning_rate"):
        descend(lambda rows: weight.sum() * float("nan"), [weight], 4, epochs=2)


def test_weights_go_to_arrays_and_back():
    with seeded(0):
        one, other = multilayer(3, 5, 2), multilayer(3, 5, 2)
    x = torch.ones(1, 3)
    assert not torch.equal(one(x), other(x))
    put_back(other, arrays_of(one, "net"), "net")
    assert torch.equal(one(x), other(x))
    assert set(arrays_of(one, "net")) == {"net.0.weight", "net.0.bias", "net.2.weight", "net.2.bias"}


def test_schedules_are_told_where_they_are():
    weight, told = torch.zeros(1, requires_grad=True), []
    descend(
        lambda rows: weight.sum(), [weight], 5, epochs=2, batch_size=2, before_step=lambda *where: told.append(where)
    )
    assert told == [(step, 6) for step in range(6)]
