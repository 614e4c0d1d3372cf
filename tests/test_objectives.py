"""Objectives on numbers: closed forms, finite differences and invariances."""

import math

import pytest
import torch

from penchant import objectives

PAIRWISE = [objectives.dpo, objectives.ipo, objectives.hinge]
RATIOS = torch.tensor([-30.0, -2.0, 0.0, 0.7, 30.0], dtype=torch.float64)


def test_dpo_gradient_is_beta_times_the_probability_of_the_wrong_order():
    ratio = RATIOS.clone().requires_grad_()
    objectives.dpo(ratio, torch.zeros_like(ratio), beta=0.3).sum().backward()
    torch.testing.assert_close(ratio.grad, -0.3 * torch.sigmoid(-0.3 * ratio.detach()))


def test_dpo_with_smoothing_mixes_the_loss_of_both_orders():
    right, wrong = (-math.log(1 / (1 + math.exp(-s * 0.2 * 1.5))) for s in (1, -1))
    loss = objectives.dpo(torch.tensor([2.0]), torch.tensor([0.5]), beta=0.2, label_smoothing=0.1)
    assert loss.item() == pytest.approx(0.9 * right + 0.1 * wrong, rel=1e-6)


def test_ipo_is_zero_exactly_at_half_the_inverse_of_beta():
    loss = objectives.ipo(torch.tensor([3.0, 2.0]), torch.tensor([0.5, 0.5]), beta=0.2)
    torch.testing.assert_close(loss, torch.tensor([0.0, 1.0]))


def test_hinge_falls_by_beta_a_nat_until_the_margin_is_reached():
    loss = objectives.hinge(torch.tensor([-1.0, 0.0, 2.0, 3.0]), torch.zeros(4), beta=0.5)
    torch.testing.assert_close(loss, torch.tensor([1.5, 1.0, 0.0, 0.0]))


@pytest.mark.parametrize("objective", PAIRWISE)
def test_the_gradient_equals_finite_differences(objective):
    chosen = RATIOS.clone().requires_grad_()
    rejected = (0.3 * RATIOS - 0.11).requires_grad_()
    assert torch.autograd.gradcheck(lambda c, r: objective(c, r, beta=0.3), (chosen, rejected))


@pytest.mark.parametrize("objective", PAIRWISE)
def test_only_the_margin_counts_and_extremes_stay_finite(objective):
    extreme = torch.tensor([-1000.0, 1000.0])
    loss = objective(extreme, torch.zeros(2), beta=1.0)
    torch.testing.assert_close(objective(extreme + 5, torch.full((2,), 5.0), beta=1.0), loss)
    assert torch.isfinite(loss).all()
