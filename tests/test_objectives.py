"""Objectives on numbers: the papers' formulas transcribed, TRL's own code, finite differences, extremes."""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from itertools import permutations
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from penchant import objectives
from penchant.objectives.policy_gradient import calibrated, group_advantages

CHOSEN = torch.tensor([-30.0, -2.0, 0.3, 0.7, 1.9, 30.0], dtype=torch.float64)
REJECTED = torch.tensor([-9.1, -2.4, 0.1, 2.7, -1.3, 8.9], dtype=torch.float64)
TOKENS = torch.tensor([7.0, 2.0, 3.0, 5.0, 4.0, 9.0], dtype=torch.float64)
OTHER_TOKENS = torch.tensor([4.0, 3.0, 3.0, 8.0, 2.0, 6.0], dtype=torch.float64)
REFERENCE = torch.tensor([-40.0, -3.5, -2.0, -9.0, -4.0, -20.0], dtype=torch.float64)
OTHER_REFERENCE = torch.tensor([-31.0, -1.5, -2.5, -12.0, -4.5, -26.0], dtype=torch.float64)
LIKED = torch.tensor([True, False, True, True, False, False])
SHARES = torch.tensor([1.0, 0.5, 0.0, 0.7, 0.2, 0.9], dtype=torch.float64)


def sigma(z: Any) -> Any:
    return 1 / (1 + np.exp(-z))


def log_odds(log_p: Any) -> Any:
    return np.log(np.exp(log_p) / (1 - np.exp(log_p)))


def davidson_by_hand(c: Any, r: Any) -> Any:
    """A mixture of the outcomes next to each share, straight from worths exp(R) and nu = 0.4."""
    worth, other, s = np.exp(c), np.exp(r), SHARES.numpy()
    total = worth + other + 0.4 * np.sqrt(worth * other)
    win, lose, tie = worth / total, other / total, 0.4 * np.sqrt(worth * other) / total
    return -np.where(
        s >= 0.5,
        (2 * s - 1) * np.log(win) + (2 - 2 * s) * np.log(tie),
        (1 - 2 * s) * np.log(lose) + 2 * s * np.log(tie),
    )


@dataclass(frozen=True)
class Case:
    """One objective as a function of two columns, and what the paper says about it."""

    name: str
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    formula: Callable[[Any, Any], Any]
    """The same in numpy, written from the paper."""
    chosen_lowers: bool = True
    """A higher first column never raises the loss."""
    rejected_raises: bool = True
    margin_only: bool = True
    """Adding a constant to both columns changes nothing."""
    negative_only: bool = False
    """Both columns are log-probabilities."""


def extras(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A column of the fixtures, in the type and to the length of the columns it joins."""
    return values.repeat(len(like) // len(values) + 1)[: len(like)].to(like.dtype)


CASES = [
    Case(
        "dpo",
        lambda c, r: objectives.dpo(c, r, beta=0.3),
        lambda c, r: -np.log(sigma(0.3 * (c - r))),
    ),
    Case(
        "dpo with smoothing",
        lambda c, r: objectives.dpo(c, r, beta=0.3, label_smoothing=0.1),
        lambda c, r: -0.9 * np.log(sigma(0.3 * (c - r))) - 0.1 * np.log(sigma(0.3 * (r - c))),
        chosen_lowers=False,  # it has a minimum
        rejected_raises=False,
    ),
    Case(
        "robust_dpo",
        lambda c, r: objectives.robust_dpo(c, r, beta=0.3, label_smoothing=0.2),
        lambda c, r: (-0.8 * np.log(sigma(0.3 * (c - r))) + 0.2 * np.log(sigma(0.3 * (r - c)))) / 0.6,
    ),
    Case(
        "gamma_dpo",
        lambda c, r: objectives.gamma_dpo(
            c,
            r,
            reference_chosen=extras(REFERENCE, c),
            reference_rejected=extras(OTHER_REFERENCE, c),
            beta=0.3,
            gamma=0.25,
        ),
        lambda c, r: -np.log(sigma(0.3 * (c - r - 0.25 * (REFERENCE - OTHER_REFERENCE).numpy()))),
    ),
    Case(
        "length_normalised_dpo",
        lambda c, r: objectives.length_normalised_dpo(
            c, r, chosen_tokens=extras(TOKENS, c), rejected_tokens=extras(OTHER_TOKENS, c), beta=2.0
        ),
        lambda c, r: -np.log(sigma(2.0 * (c / TOKENS.numpy() - r / OTHER_TOKENS.numpy()))),
        margin_only=False,
    ),
    Case(
        "ipo",
        lambda c, r: objectives.ipo(c, r, beta=0.3),
        lambda c, r: (c - r - 1 / 0.6) ** 2,
        chosen_lowers=False,  # it has a minimum
        rejected_raises=False,
    ),
    Case("hinge", lambda c, r: objectives.hinge(c, r, beta=0.3), lambda c, r: np.maximum(0, 1 - 0.3 * (c - r))),
    Case("exponential", lambda c, r: objectives.exponential(c, r, beta=0.3), lambda c, r: np.exp(-0.3 * (c - r))),
    Case(
        "apo_zero",
        lambda c, r: objectives.apo_zero(c, r, beta=0.3),
        lambda c, r: 1 - sigma(0.3 * c) + sigma(0.3 * r),
        margin_only=False,
    ),
    Case(
        "apo_down",
        lambda c, r: objectives.apo_down(c, r, beta=0.3),
        lambda c, r: sigma(0.3 * c) + 1 - sigma(0.3 * (c - r)),
        chosen_lowers=False,  # it pushes chosen down
        margin_only=False,
    ),
    Case(
        "simpo",
        lambda c, r: objectives.simpo(c, r, beta=2.0, gamma=0.7),
        lambda c, r: -np.log(sigma(2.0 * c - 2.0 * r - 0.7)),
    ),
    Case(
        "orpo",
        lambda c, r: objectives.orpo(c, r, beta=0.3),
        lambda c, r: -c - 0.3 * np.log(sigma(log_odds(c) - log_odds(r))),
        margin_only=False,
        negative_only=True,
    ),
    Case("nll", lambda c, r: objectives.nll(c), lambda c, r: -c, margin_only=False),
    Case(
        "kto, liked",
        lambda c, r: objectives.kto(
            c, torch.ones_like(c) > 0, reference_kl=1.3, beta=0.3, desirable_weight=1.5, undesirable_weight=9.0
        ),
        lambda c, r: 1.5 * (1 - sigma(0.3 * (c - 1.3))),
        margin_only=False,
    ),
    Case(
        "kto, disliked",
        lambda c, r: objectives.kto(
            r, torch.ones_like(r) < 0, reference_kl=1.3, beta=0.3, desirable_weight=9.0, undesirable_weight=0.5
        ),
        lambda c, r: 0.5 * (1 - sigma(0.3 * (1.3 - r))),
        margin_only=False,
    ),
    Case("bradley_terry", objectives.bradley_terry, lambda c, r: -np.log(np.exp(c) / (np.exp(c) + np.exp(r)))),
    Case(
        "bradley_terry with margin",
        lambda c, r: objectives.bradley_terry(c, r, margin=extras(TOKENS, c) - 4),
        lambda c, r: -np.log(sigma(c - r - (TOKENS.numpy() - 4))),
    ),
    Case(
        "bradley_terry with shares",
        lambda c, r: objectives.bradley_terry(c, r, strength=extras(SHARES, c)),
        lambda c, r: -SHARES.numpy() * np.log(sigma(c - r)) - (1 - SHARES.numpy()) * np.log(sigma(r - c)),
        chosen_lowers=False,
        rejected_raises=False,
    ),
    Case(
        "davidson, a win",
        lambda c, r: objectives.davidson(c, r, strength=torch.ones_like(c), log_tie=-0.5),
        lambda c, r: -np.log(np.exp(c) / (np.exp(c) + np.exp(r) + np.exp(-0.5 + (c + r) / 2))),
    ),
    Case(
        "davidson with shares",
        lambda c, r: objectives.davidson(c, r, strength=extras(SHARES, c), log_tie=math.log(0.4)),
        davidson_by_hand,
        chosen_lowers=False,
        rejected_raises=False,
    ),
    Case(
        "plackett_luce of two",
        lambda c, r: objectives.plackett_luce(torch.stack([c, r], dim=1)),
        lambda c, r: -np.log(np.exp(c) / (np.exp(c) + np.exp(r))),
    ),
    Case(
        "clipped",  # a log-ratio and an advantage
        lambda c, r: objectives.clipped(c, r, clip=0.3),
        lambda c, r: -np.minimum(np.exp(np.minimum(c, 20)) * r, np.clip(np.exp(c), 0.7, 1.3) * r),
        chosen_lowers=False,  # not where the advantage is negative
        rejected_raises=False,
        margin_only=False,
    ),
]
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def columns(case: Case) -> tuple[torch.Tensor, torch.Tensor]:
    return (-CHOSEN.abs(), -REJECTED.abs()) if case.negative_only else (CHOSEN, REJECTED)


def test_every_public_objective_is_a_case_or_has_its_own_tests():
    assert {case.name.split()[0].strip(",") for case in CASES} == set(objectives.__all__)


@every_case
def test_the_loss_is_the_papers_formula(case):
    chosen, rejected = columns(case)
    np.testing.assert_allclose(
        case.loss(chosen, rejected), case.formula(chosen.numpy(), rejected.numpy()), rtol=1e-10, atol=1e-14
    )


@every_case
def test_the_formula_tells_the_loss_from_its_negation_and_from_itself_with_sides_swapped(case):
    # What the test above would have seen, had somebody flipped a sign.
    chosen, rejected = columns(case)
    expected = case.formula(chosen.numpy(), rejected.numpy())
    assert np.abs(-case.loss(chosen, rejected).numpy() - expected).max() > 1e-2
    assert np.abs(case.loss(rejected, chosen).numpy() - expected).max() > 1e-2


@every_case
def test_the_gradient_equals_finite_differences(case):
    chosen, rejected = (column.clone().requires_grad_() for column in columns(case))
    assert torch.autograd.gradcheck(case.loss, (chosen, rejected))


@every_case
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_loss_comes_back_per_example_in_the_type_it_came_in(case, dtype):
    chosen, rejected = (column.to(dtype) for column in columns(case))
    loss = case.loss(chosen, rejected)
    assert loss.shape == chosen.shape
    assert loss.dtype == dtype
    # No reduction hides inside: an example does not know its neighbours.
    torch.testing.assert_close(case.loss(chosen[:2], rejected[:2]), loss[:2])


@every_case
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_loss_and_gradient_are_finite_at_ten_thousand_nats(case, dtype):
    side = torch.tensor([-1e4, -1e4, -1e4, 0.0, 0.0, 1e4, 1e4, 1e4, 0.0], dtype=dtype)
    other = torch.tensor([-1e4, 0.0, 1e4, -1e4, 1e4, -1e4, 0.0, 1e4, 0.0], dtype=dtype)
    if case.negative_only:
        side, other = side.clamp(max=0), other.clamp(max=0)
    side, other = side.requires_grad_(), other.requires_grad_()
    loss = case.loss(side, other)
    gradient = torch.autograd.grad(loss.sum(), (side, other), allow_unused=True)
    assert torch.isfinite(loss).all()
    assert all(torch.isfinite(part).all() for part in gradient if part is not None)


@every_case
def test_the_loss_falls_with_chosen_and_rises_with_rejected_where_the_paper_says_so(case):
    grid = torch.linspace(-4.0, -0.05, 12, dtype=torch.float64)
    if not case.negative_only:
        grid = grid + 2
    step = 0.01
    for fixed in (-3.0, -0.6, -0.2):
        held = torch.full_like(grid, fixed)
        if case.chosen_lowers:
            assert (case.loss(grid + step, held) <= case.loss(grid, held) + 1e-12).all()
        if case.rejected_raises:
            assert (case.loss(held, grid + step) >= case.loss(held, grid) - 1e-12).all()
    if case.chosen_lowers and case.rejected_raises:
        low, high = torch.full((1,), -3.0), torch.full((1,), -0.3)
        assert case.loss(high, low) < case.loss(low, high)


@every_case
def test_a_constant_added_to_both_sides_counts_only_where_the_paper_anchors_them(case):
    chosen, rejected = columns(case)
    shifted = case.loss(chosen - 0.5, rejected - 0.5)
    assert torch.allclose(shifted, case.loss(chosen, rejected)) == case.margin_only


# Closed forms


def test_dpo_gradient_is_beta_times_the_probability_of_the_wrong_order():
    ratio = CHOSEN.clone().requires_grad_()
    objectives.dpo(ratio, torch.zeros_like(ratio), beta=0.3).sum().backward()
    torch.testing.assert_close(ratio.grad, -0.3 * torch.sigmoid(-0.3 * ratio.detach()))


def test_smoothed_dpo_is_least_where_the_model_is_as_sure_as_the_labels():
    margin = torch.tensor([math.log(0.9 / 0.1) / 0.3], dtype=torch.float64, requires_grad=True)
    objectives.dpo(margin, torch.zeros(1), beta=0.3, label_smoothing=0.1).sum().backward()
    assert margin.grad.abs().item() < 1e-12


def test_robust_dpo_averaged_over_flips_is_clean_dpo():
    clean = objectives.dpo(CHOSEN, REJECTED)
    kept = objectives.robust_dpo(CHOSEN, REJECTED, label_smoothing=0.3)
    flipped = objectives.robust_dpo(REJECTED, CHOSEN, label_smoothing=0.3)
    torch.testing.assert_close(0.7 * kept + 0.3 * flipped, clean)


def test_gamma_one_is_dpo_and_gamma_zero_forgets_the_reference():
    given = {"reference_chosen": REFERENCE, "reference_rejected": OTHER_REFERENCE}
    torch.testing.assert_close(
        objectives.gamma_dpo(CHOSEN, REJECTED, **given, gamma=1.0),
        objectives.dpo(CHOSEN - REFERENCE, REJECTED - OTHER_REFERENCE),
    )
    torch.testing.assert_close(
        objectives.gamma_dpo(CHOSEN, REJECTED, **given, gamma=0.0), objectives.dpo(CHOSEN, REJECTED)
    )


def test_length_normalised_dpo_of_single_tokens_is_dpo():
    one = torch.ones_like(CHOSEN)
    torch.testing.assert_close(
        objectives.length_normalised_dpo(CHOSEN, REJECTED, chosen_tokens=one, rejected_tokens=one, beta=0.2),
        objectives.dpo(CHOSEN, REJECTED, beta=0.2),
    )


def test_ipo_is_zero_exactly_at_half_the_inverse_of_beta():
    loss = objectives.ipo(torch.tensor([3.0, 2.0]), torch.tensor([0.5, 0.5]), beta=0.2)
    torch.testing.assert_close(loss, torch.tensor([0.0, 1.0]))


def test_hinge_falls_by_beta_a_nat_until_the_margin_is_reached():
    loss = objectives.hinge(torch.tensor([-1.0, 0.0, 2.0, 3.0]), torch.zeros(4), beta=0.5)
    torch.testing.assert_close(loss, torch.tensor([1.5, 1.0, 0.0, 0.0]))


def test_exponential_goes_on_as_its_tangent_beyond_fifty():
    margin = torch.tensor([-50.0, -53.0], dtype=torch.float64, requires_grad=True)
    loss = objectives.exponential(margin, torch.zeros(2), beta=1.0)
    loss.sum().backward()
    np.testing.assert_allclose(loss.detach(), [math.exp(50), 4 * math.exp(50)])
    np.testing.assert_allclose(margin.grad, [-math.exp(50)] * 2)


def test_apo_at_the_reference_is_one_and_pulls_chosen_opposite_ways():
    zero = torch.zeros(1, requires_grad=True)
    for objective, direction in ((objectives.apo_zero, -0.025), (objectives.apo_down, 0.0)):
        loss = objective(zero, torch.zeros(1), beta=0.1)
        assert loss.item() == pytest.approx(1.0)
        assert torch.autograd.grad(loss.sum(), zero)[0].item() == pytest.approx(direction)
    # Where the pair is already in order only `down` keeps pushing chosen down.
    ahead = torch.tensor([5.0], requires_grad=True)
    assert torch.autograd.grad(objectives.apo_down(ahead, torch.tensor([-40.0])).sum(), ahead)[0].item() > 0


def test_simpo_asks_for_its_margin():
    assert objectives.simpo(torch.tensor([-1.0]), torch.tensor([-1.5]), beta=2.0, gamma=1.0).item() == pytest.approx(
        math.log(2)
    )


def test_orpo_of_even_odds_is_likelihood_plus_weighted_log_two():
    log_half = torch.tensor([math.log(0.5)])
    assert objectives.orpo(log_half, log_half, beta=0.3).item() == pytest.approx(1.3 * math.log(2))


def test_orpo_keeps_its_digits_near_certainty():
    # In float32 1 - exp(log p) would be off by a fifth here.
    loss = objectives.orpo(torch.tensor([math.log1p(-1.5e-7)]), torch.tensor([math.log(0.5)]), beta=1.0)
    expected = 1.5e-7 + math.log1p(1.5e-7 / (1 - 1.5e-7))
    assert loss.item() == pytest.approx(expected, rel=1e-2)


def test_kto_at_the_anchor_is_half_its_weight_and_the_anchor_gets_no_gradient():
    anchor = torch.tensor(2.0, requires_grad=True)
    ratio = torch.tensor([2.0, 2.0], requires_grad=True)
    loss = objectives.kto(
        ratio,
        torch.tensor([True, False]),
        reference_kl=anchor,
        beta=0.4,
        desirable_weight=1.2,
        undesirable_weight=0.6,
    )
    torch.testing.assert_close(loss, torch.tensor([0.6, 0.3]))
    by_ratio, by_anchor = torch.autograd.grad(loss.sum(), (ratio, anchor), allow_unused=True)
    torch.testing.assert_close(by_ratio, torch.tensor([-0.4 * 1.2 / 4, 0.4 * 0.6 / 4]))
    assert by_anchor is None


def test_bradley_terry_is_the_same_seen_from_the_other_side():
    ours = objectives.bradley_terry(CHOSEN, REJECTED, margin=TOKENS, strength=SHARES)
    theirs = objectives.bradley_terry(REJECTED, CHOSEN, margin=-TOKENS, strength=1 - SHARES)
    torch.testing.assert_close(ours, theirs)


def test_soft_labels_are_fitted_by_their_logit():
    ahead = torch.logit(SHARES[3:]).requires_grad_()
    objectives.bradley_terry(ahead, torch.zeros(3), strength=SHARES[3:]).sum().backward()
    assert ahead.grad.abs().max().item() < 1e-12


def test_davidson_probabilities_add_up_to_one_and_are_the_same_from_the_other_side():
    outcomes = [
        torch.exp(-objectives.davidson(CHOSEN, REJECTED, strength=torch.full_like(CHOSEN, s), log_tie=0.7))
        for s in (1.0, 0.5, 0.0)
    ]
    torch.testing.assert_close(sum(outcomes), torch.ones_like(CHOSEN))
    torch.testing.assert_close(
        objectives.davidson(CHOSEN, REJECTED, strength=SHARES, log_tie=0.7),
        objectives.davidson(REJECTED, CHOSEN, strength=1 - SHARES, log_tie=0.7),
    )


def test_davidson_without_ties_is_bradley_terry_and_learns_how_common_ties_are():
    torch.testing.assert_close(
        objectives.davidson(CHOSEN, REJECTED, strength=torch.ones_like(CHOSEN), log_tie=-200.0),
        objectives.bradley_terry(CHOSEN, REJECTED),
    )
    # Equal rewards and half of the outcomes ties: P(tie) = nu / (2 + nu) = 1/2 at nu = 2.
    log_tie = torch.tensor(math.log(2.0), dtype=torch.float64, requires_grad=True)
    strength = torch.tensor([0.5, 0.5, 1.0, 0.0], dtype=torch.float64)
    level = torch.zeros(4, dtype=torch.float64)
    objectives.davidson(level, level, strength=strength, log_tie=log_tie).sum().backward()
    assert abs(log_tie.grad.item()) < 1e-12


def test_plackett_luce_probabilities_of_all_orders_add_up_to_one():
    rewards = torch.tensor([0.3, -1.2, 2.0, 0.9], dtype=torch.float64)
    orders = torch.stack([rewards[list(order)] for order in permutations(range(4))])
    torch.testing.assert_close(
        torch.exp(-objectives.plackett_luce(orders)).sum(), torch.tensor(1.0, dtype=torch.float64)
    )


def test_plackett_luce_chooses_the_best_of_all_then_of_the_rest():
    loss = objectives.plackett_luce(torch.log(torch.tensor([[3.0, 2.0, 5.0]])))
    assert loss.item() == pytest.approx(-math.log(3 / 10 * 2 / 7))
    worst_first = objectives.plackett_luce(torch.tensor([[0.0, 1.0, 2.0]]))
    assert objectives.plackett_luce(torch.tensor([[2.0, 1.0, 0.0]])) < worst_first


def test_absent_places_of_a_ranking_count_for_nothing_whatever_they_hold():
    full = torch.tensor([[2.0, 0.5, -1.0]], dtype=torch.float64)
    padded = torch.tensor([[2.0, math.nan, 0.5, -1.0, 1e30]], dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[True, False, True, True, False]])
    loss = objectives.plackett_luce(padded, mask=mask)
    torch.testing.assert_close(loss, objectives.plackett_luce(full))
    gradient = torch.autograd.grad(loss.sum(), padded)[0]
    assert torch.isfinite(gradient).all()
    assert (gradient[~mask] == 0).all()
    assert objectives.plackett_luce(torch.zeros(1, 2), mask=torch.tensor([[True, False]])).item() == 0.0


def test_plackett_luce_gradient_equals_finite_differences_and_stays_finite_at_extremes():
    rewards = torch.tensor([[2.0, 0.5, -1.0, 0.1], [0.0, 3.0, 1.0, 1.0]], dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[True, True, True, True], [True, True, False, False]])
    assert torch.autograd.gradcheck(lambda values: objectives.plackett_luce(values, mask=mask), (rewards,))
    extreme = torch.tensor([[-1e4, 1e4, 0.0]], requires_grad=True)
    loss = objectives.plackett_luce(extreme)
    assert loss.item() == pytest.approx(2e4, rel=1e-6)
    assert torch.isfinite(torch.autograd.grad(loss.sum(), extreme)[0]).all()


# TRL's own code on the same log-probabilities


class Model:
    """Stands where TRL expects a language model with a fused head: answers with prescribed log-probabilities."""

    training = False

    def __init__(self, log_probs: torch.Tensor):
        self.log_probs = log_probs

    def __call__(self, **_: Any) -> SimpleNamespace:
        blank = torch.zeros_like(self.log_probs)
        return SimpleNamespace(log_probs=self.log_probs, entropy=blank, mean_logits=blank, is_top1=blank > 0)


ACCELERATOR = SimpleNamespace(device="cpu", gather=lambda x: x, gather_for_metrics=lambda x: x)


class Metrics(dict):
    def __missing__(self, key: str) -> Any:
        self[key] = Metrics() if key == "eval" else []
        return self[key]


def trainer(**settings: Any) -> SimpleNamespace:
    """What TRL's loss code reads from a trainer, and nothing else."""
    return SimpleNamespace(
        model=SimpleNamespace(training=False),
        accelerator=ACCELERATOR,
        aux_loss_enabled=False,
        precompute_ref_logps=True,
        _metrics=Metrics(),
        _total_train_tokens=0,
        **settings,
    )


def spread(sums: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Per-token log-probabilities of unequal size that add up to `sums`, after one prompt token; and TRL's mask."""
    width = int(tokens.max())
    place = torch.arange(width, dtype=torch.float64)
    inside = place[None] < tokens[:, None]
    uneven = (place[None] + 1) * inside
    log_probs = uneven / uneven.sum(dim=1, keepdim=True) * sums[:, None]
    mask = torch.cat([torch.zeros(len(sums), 1), inside], dim=1).long()
    return log_probs, mask


@pytest.fixture(scope="module")
def trl_dpo():
    return pytest.importorskip("trl.trainer.dpo_trainer").DPOTrainer


def trl_pair_loss(trl_dpo: Any, loss_type: str, *, beta: float, label_smoothing: float = 0.0) -> torch.Tensor:
    """TRL's loss pair by pair (it averages a batch), on log-probabilities whose ratios are CHOSEN and REJECTED."""
    losses = []
    for pair in range(len(CHOSEN)):
        sums = torch.stack([CHOSEN[pair] + REFERENCE[pair], REJECTED[pair] + OTHER_REFERENCE[pair]])
        log_probs, mask = spread(sums, torch.stack([TOKENS[pair], OTHER_TOKENS[pair]]))
        this = trainer(
            loss_types=[loss_type],
            loss_weights=[1.0],
            beta=beta,
            label_smoothing=label_smoothing,
            ld_alpha=None,
            f_divergence_type="reverse_kl",
            use_weighting=False,
        )
        batch = {
            "input_ids": torch.zeros_like(mask),
            "attention_mask": torch.ones_like(mask),
            "completion_mask": mask,
            "ref_chosen_logps": REFERENCE[pair : pair + 1],
            "ref_rejected_logps": OTHER_REFERENCE[pair : pair + 1],
        }
        losses.append(trl_dpo._compute_loss(this, Model(log_probs), batch, return_outputs=False))
    return torch.stack(losses)


@pytest.mark.parametrize(
    ("loss_type", "ours", "settings"),
    [
        ("sigmoid", lambda: objectives.dpo(CHOSEN, REJECTED, beta=0.3), {}),
        ("robust", lambda: objectives.robust_dpo(CHOSEN, REJECTED, beta=0.3, label_smoothing=0.2), {"eps": 0.2}),
        ("hinge", lambda: objectives.hinge(CHOSEN, REJECTED, beta=0.3), {}),
        # TRL's ipo is ours on means per token, as its docstring says.
        ("ipo", lambda: objectives.ipo(CHOSEN / TOKENS, REJECTED / OTHER_TOKENS, beta=0.3), {}),
        ("apo_zero", lambda: objectives.apo_zero(CHOSEN, REJECTED, beta=0.3), {}),
        ("apo_down", lambda: objectives.apo_down(CHOSEN, REJECTED, beta=0.3), {}),
        (
            "sigmoid_norm",
            lambda: objectives.length_normalised_dpo(
                CHOSEN, REJECTED, chosen_tokens=TOKENS, rejected_tokens=OTHER_TOKENS, beta=0.3
            ),
            {},
        ),
    ],
)
def test_objectives_of_pairs_equal_trls_dpo_trainer(trl_dpo, loss_type, ours, settings):
    theirs = trl_pair_loss(trl_dpo, loss_type, beta=0.3, label_smoothing=settings.get("eps", 0.0))
    torch.testing.assert_close(ours(), theirs, rtol=1e-6, atol=1e-6)


def test_kto_equals_trls_kto_trainer():
    trl_kto = pytest.importorskip("trl.trainer.kto_trainer").KTOTrainer
    mismatched = torch.tensor([0.5, -0.3, 4.0, 2.0, 1.0, 0.6], dtype=torch.float64)
    ours = objectives.kto(
        CHOSEN, LIKED, reference_kl=mismatched.mean(), beta=0.3, desirable_weight=1.3, undesirable_weight=0.8
    )
    log_probs, mask = spread(CHOSEN + REFERENCE, TOKENS)
    this = trainer(
        loss_type="kto",
        beta=0.3,
        desirable_weight=1.3,
        undesirable_weight=0.8,
        calculate_KL=True,
        _compute_kl_logps=lambda model, batch: mismatched + REFERENCE,
    )
    batch = {
        "input_ids": torch.zeros_like(mask),
        "attention_mask": torch.ones_like(mask),
        "completion_mask": mask,
        "label": LIKED,
        "ref_logps": REFERENCE,
        "ref_KL_logps": REFERENCE,
    }
    theirs = trl_kto._compute_loss(this, Model(log_probs), batch, return_outputs=False)
    torch.testing.assert_close(ours.mean(), theirs, rtol=1e-6, atol=1e-6)
    # One example at a time, so that no two errors can cancel in the mean.
    for row in range(len(CHOSEN)):
        one = {key: value[row : row + 1] if key != "ref_KL_logps" else value for key, value in batch.items()}
        theirs = trl_kto._compute_loss(this, Model(log_probs[row : row + 1]), one, return_outputs=False)
        torch.testing.assert_close(ours[row], theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.filterwarnings("ignore::UserWarning")  # TRL calls these two trainers experimental
def test_simpo_and_the_odds_part_of_orpo_equal_trls_trainers(monkeypatch):
    monkeypatch.setitem(os.environ, "TRL_EXPERIMENTAL_SILENCE", "1")
    cpo = pytest.importorskip("trl.experimental.cpo.cpo_trainer").CPOTrainer
    orpo = pytest.importorskip("trl.experimental.orpo.orpo_trainer").ORPOTrainer
    chosen, rejected = REFERENCE / TOKENS, OTHER_REFERENCE / OTHER_TOKENS
    this = SimpleNamespace(
        accelerator=ACCELERATOR, beta=2.0, alpha=0.0, loss_type="simpo", simpo_gamma=0.7, label_smoothing=0.0
    )
    torch.testing.assert_close(
        objectives.simpo(chosen, rejected, beta=2.0, gamma=0.7),
        cpo.cpo_loss(this, chosen, rejected)[0],
        rtol=1e-6,
        atol=1e-6,
    )
    chosen, rejected = chosen.float(), rejected.float()  # TRL casts
    this = SimpleNamespace(accelerator=ACCELERATOR, beta=0.3)
    torch.testing.assert_close(
        objectives.orpo(chosen, rejected, beta=0.3) - objectives.nll(chosen),
        -orpo.odds_ratio_loss(this, chosen, rejected)[0],
        rtol=1e-6,
        atol=1e-6,
    )


@pytest.mark.parametrize("margin", [None, TOKENS[:1] - 3])
def test_bradley_terry_equals_trls_reward_trainer(margin):
    reward = pytest.importorskip("trl.trainer.reward_trainer").RewardTrainer
    this = trainer(args=SimpleNamespace(center_rewards_coefficient=None))
    for row in range(len(CHOSEN)):
        logits = torch.stack([CHOSEN[row], REJECTED[row]])[:, None]
        inputs = {} if margin is None else {"margin": margin}
        theirs = reward.compute_loss(this, lambda logits=logits, **_: SimpleNamespace(logits=logits), inputs)
        ours = objectives.bradley_terry(CHOSEN[row], REJECTED[row], margin=0.0 if margin is None else margin[0])
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


def test_clipped_stops_paying_once_a_good_response_is_likely_enough_and_a_bad_one_rare_enough():
    moved = torch.tensor([0.5, 0.1, -0.1, -0.5, 0.5], dtype=torch.float64, requires_grad=True)
    advantage = torch.tensor([1.0, 1.0, -1.0, -1.0, -1.0], dtype=torch.float64)
    objectives.clipped(moved, advantage).sum().backward()
    torch.testing.assert_close(moved.grad, -advantage * moved.detach().exp() * torch.tensor([0.0, 1, 1, 0, 1]))


def test_advantages_have_mean_zero_and_deviation_one_and_equal_rewards_none_and_are_counted():
    rewards = torch.tensor([[1.0, 2.0, 6.0], [0.1, 0.1, 0.1], [5.0, 5.0, 5.0 + 1e-5]])
    found = group_advantages(rewards)
    assert found.n_constant == 1
    assert found.values[1].tolist() == [0, 0, 0]
    torch.testing.assert_close(found.values[0], (rewards[0] - 3) / 7**0.5, rtol=1e-5, atol=1e-6)
    assert found.values.abs().max() < 2
    torch.testing.assert_close(group_advantages(rewards, epsilon=1e3).values[0], (rewards[0] - 3) / (1e3 + 7**0.5))


def test_a_calibrated_reward_is_zero_at_the_baseline_and_does_not_know_its_unit():
    reward, baseline = torch.tensor([3.0, 5.0, 1.0]), torch.tensor([3.0, 3.0, 3.0])
    found = calibrated(reward, baseline, scale=2.0)
    torch.testing.assert_close(found, torch.sigmoid(torch.tensor([0.0, 1.0, -1.0])) - 0.5)
    torch.testing.assert_close(calibrated(100 * reward, 100 * baseline, scale=200.0), found)
