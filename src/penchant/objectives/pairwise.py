r"""Objectives of pairs: two responses to one prompt, `chosen` preferred to `rejected`; one loss per pair.

Unless a docstring says otherwise `chosen` and `rejected` are log-ratios: log policy - log reference of the whole
response, in nats, summed over its tokens. Formulas write w for chosen, l for rejected, r for a log-ratio.
"""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, relu

# Above this exponent `exponential` goes on as a straight line: e^50 and its gradient fit float32 with room for a batch.
_LARGEST_EXPONENT = 50.0


def dpo(chosen: Tensor, rejected: Tensor, *, beta: float = 0.1, label_smoothing: float = 0.0) -> Tensor:
    r"""Direct preference optimisation.

    $$-(1-\epsilon)\log\sigma(\beta(r_w - r_l)) - \epsilon\log\sigma(-\beta(r_w - r_l))$$

    Args:
        chosen: log-ratio of the preferred response, nats, [pairs].
        rejected: log-ratio of the other response, nats, [pairs].
        beta: strength of the pull to the reference, > 0.
        label_smoothing: epsilon, the probability that a label is flipped, in [0, 0.5); with it, "conservative DPO".

    Returns:
        Loss of each pair in nats, [pairs].

    Source:
        Rafailov et al. 2023, "Direct preference optimization", eq. 7; smoothing: Mitchell 2023, "A note on DPO with
        noisy preferences and relationship to IPO", eq. 3. TRL 1.16 smooths `robust`, `exo_pair` and `aot` but not
        `sigmoid`; at epsilon = 0 the two agree.
    """
    margin = beta * (chosen - rejected)
    return -(1 - label_smoothing) * logsigmoid(margin) - label_smoothing * logsigmoid(-margin)


def robust_dpo(chosen: Tensor, rejected: Tensor, *, beta: float = 0.1, label_smoothing: float = 0.1) -> Tensor:
    r"""DPO made unbiased for labels flipped at a known rate.

    $$\frac{-(1-\epsilon)\log\sigma(\beta(r_w - r_l)) + \epsilon\log\sigma(-\beta(r_w - r_l))}{1 - 2\epsilon}$$

    Its mean over flips is the clean DPO loss, which is why it may be negative for a single pair and has no minimum.

    Args:
        chosen: log-ratio of the preferred response, nats, [pairs].
        rejected: log-ratio of the other response, nats, [pairs].
        beta: strength of the pull to the reference, > 0.
        label_smoothing: epsilon, the probability that a label is flipped, in [0, 0.5).

    Returns:
        Loss of each pair in nats, [pairs].

    Source:
        Chowdhury, Kini and Natarajan 2024, "Provably robust DPO" (its rDPO loss). Equal to TRL's `robust`.
    """
    margin = beta * (chosen - rejected)
    kept, flipped = -logsigmoid(margin), -logsigmoid(-margin)
    return ((1 - label_smoothing) * kept - label_smoothing * flipped) / (1 - 2 * label_smoothing)


def gamma_dpo(
    chosen: Tensor,
    rejected: Tensor,
    *,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    beta: float = 0.1,
    gamma: float = 0.1,
) -> Tensor:
    r"""DPO whose reference counts only by a share gamma.

    $$-\log\sigma(\beta(\Delta_\theta - \gamma\Delta_{ref})), \qquad \Delta = \log\pi(y_w|x) - \log\pi(y_l|x)$$

    Args:
        chosen: **log-probability** of the preferred response under the policy, nats, [pairs].
        rejected: log-probability of the other response under the policy, nats, [pairs].
        reference_chosen: log-probability of the preferred response under the reference, nats, [pairs].
        reference_rejected: log-probability of the other response under the reference, nats, [pairs].
        beta: steepness, > 0.
        gamma: share of the reference, in [0, 1]; 1 is DPO, 0 drops the reference.

    Returns:
        Loss of each pair in nats, [pairs].

    Source:
        Chen et al. 2024, "Preference learning algorithms do not learn preference rankings", appendix (gamma-scaled DPO,
        default from the authors' code). TRL does not have it.
    """
    return -logsigmoid(beta * ((chosen - rejected) - gamma * (reference_chosen - reference_rejected)))


def length_normalised_dpo(
    chosen: Tensor, rejected: Tensor, *, chosen_tokens: Tensor, rejected_tokens: Tensor, beta: float = 5.0
) -> Tensor:
    r"""DPO on log-ratios per token.

    $$-\log\sigma\left(\beta\left(\frac{r_w}{|y_w|} - \frac{r_l}{|y_l|}\right)\right)$$

    Args:
        chosen: log-ratio of the preferred response, nats, [pairs].
        rejected: log-ratio of the other response, nats, [pairs].
        chosen_tokens: tokens of the preferred response, >= 1, [pairs].
        rejected_tokens: tokens of the other response, >= 1, [pairs].
        beta: strength of the pull to the reference, > 0; larger than DPO's, because means are smaller than sums.

    Returns:
        Loss of each pair in nats, [pairs].

    Source:
        Lambert et al. 2024, "Tulu 3", section on preference tuning. Equal to TRL's `sigmoid_norm`.
    """
    return -logsigmoid(beta * (chosen / chosen_tokens - rejected / rejected_tokens))


def ipo(chosen: Tensor, rejected: Tensor, *, beta: float = 0.1) -> Tensor:
    r"""Identity preference optimisation, also called squared loss.

    $$\left(r_w - r_l - \frac{1}{2\beta}\right)^2$$

    Args:
        chosen: log-ratio of the preferred response, nats, [pairs].
        rejected: log-ratio of the other response, nats, [pairs].
        beta: the paper's tau, > 0; the margin is drawn to 1 / (2 beta).

    Returns:
        Loss of each pair in nats squared, [pairs].

    Source:
        Azar et al. 2023, "A general theoretical paradigm to understand learning from human preferences", eq. 17, which
        sums over tokens. TRL's `ipo` divides each log-ratio by its number of tokens, as the authors told its makers
        they did in their experiments: for that, pass means instead of sums.
    """
    return (chosen - rejected - 1 / (2 * beta)) ** 2


def hinge(chosen: Tensor, rejected: Tensor, *, beta: float = 0.1) -> Tensor:
    r"""Hinge loss on the margin of log-ratios.

    $$\max(0, 1 - \beta(r_w - r_l))$$

    Args:
        chosen: log-ratio of the preferred response, nats, [pairs].
        rejected: log-ratio of the other response, nats, [pairs].
        beta: the margin is satisfied from 1 / beta on, > 0.

    Returns:
        Loss of each pair, [pairs].

    Source:
        Zhao et al. 2023, "SLiC-HF", eq. 1, on log-ratios as in Liu et al. 2024, "Statistical rejection sampling
        improves preference optimization". Equal to TRL's `hinge`.
    """
    return relu(1 - beta * (chosen - rejected))


def exponential(chosen: Tensor, rejected: Tensor, *, beta: float = 0.1) -> Tensor:
    r"""Exponential loss on the margin of log-ratios (AdaBoost's).

    $$\exp(-\beta(r_w - r_l))$$

    A departure: an exponent above 50 continues as its tangent, so that one hopeless pair gives a huge loss with the
    right gradient where the paper's formula gives infinity.

    Args:
        chosen: log-ratio of the preferred response, nats, [pairs].
        rejected: log-ratio of the other response, nats, [pairs].
        beta: strength of the pull to the reference, > 0.

    Returns:
        Loss of each pair, [pairs].

    Source:
        Tang et al. 2024, "Generalized preference optimization", table 1 (f(x) = exp(-x)). TRL does not have it alone.
    """
    exponent = -beta * (chosen - rejected)
    return torch.exp(exponent.clamp(max=_LARGEST_EXPONENT)) * (1 + relu(exponent - _LARGEST_EXPONENT))


def apo_zero(chosen: Tensor, rejected: Tensor, *, beta: float = 0.1) -> Tensor:
    r"""Anchored preference optimisation for data better than the model: chosen up, rejected down.

    $$\sigma(-\beta r_w) + \sigma(\beta r_l)$$

    Args:
        chosen: log-ratio of the preferred response, nats, [pairs].
        rejected: log-ratio of the other response, nats, [pairs].
        beta: strength of the pull to the reference, > 0.

    Returns:
        Loss of each pair, in [0, 2], [pairs].

    Source:
        D'Oosterlinck et al. 2024, "Anchored preference optimization", eq. 7, plus the constant 1 as in TRL's `apo_zero`
        so that the loss is not negative.
    """
    return torch.sigmoid(-beta * chosen) + torch.sigmoid(beta * rejected)


def apo_down(chosen: Tensor, rejected: Tensor, *, beta: float = 0.1) -> Tensor:
    r"""Anchored preference optimisation for a model better than the data: both down, rejected further.

    $$\sigma(\beta r_w) + \sigma(-\beta(r_w - r_l))$$

    Args:
        chosen: log-ratio of the preferred response, nats, [pairs].
        rejected: log-ratio of the other response, nats, [pairs].
        beta: strength of the pull to the reference, > 0.

    Returns:
        Loss of each pair, in [0, 2], [pairs].

    Source:
        D'Oosterlinck et al. 2024, "Anchored preference optimization", eq. 8, plus the constant 1 as in TRL's `apo_down`
        so that the loss is not negative.
    """
    return torch.sigmoid(beta * chosen) + torch.sigmoid(-beta * (chosen - rejected))


def simpo(chosen: Tensor, rejected: Tensor, *, beta: float = 2.0, gamma: float = 1.0) -> Tensor:
    r"""Simple preference optimisation: average log-probabilities, a target margin, no reference.

    $$-\log\sigma\left(\frac{\beta}{|y_w|}\log\pi(y_w|x) - \frac{\beta}{|y_l|}\log\pi(y_l|x) - \gamma\right)$$

    Args:
        chosen: **mean log-probability per token** of the preferred response under the policy, nats, [pairs].
        rejected: mean log-probability per token of the other response under the policy, nats, [pairs].
        beta: steepness, > 0.
        gamma: target margin of rewards, >= 0.

    Returns:
        Loss of each pair in nats, [pairs].

    Source:
        Meng, Xia and Chen 2024, "SimPO", eq. 6. Equal to TRL's `simpo` in its CPO trainer with `simpo_gamma` = gamma
        and `cpo_alpha` = 0.
    """
    return -logsigmoid(beta * (chosen - rejected) - gamma)


def orpo(chosen: Tensor, rejected: Tensor, *, beta: float = 0.1) -> Tensor:
    r"""Odds-ratio preference optimisation: the chosen response's likelihood plus its odds over the other's.

    $$-\bar\ell_w - \beta\log\sigma\left(\log\frac{e^{\bar\ell_w}}{1 - e^{\bar\ell_w}}
      - \log\frac{e^{\bar\ell_l}}{1 - e^{\bar\ell_l}}\right), \qquad \bar\ell = \frac{1}{|y|}\log\pi(y|x)$$

    A mean above -eps of its type (a certain response, whose odds are infinite) enters the odds as -eps.

    Args:
        chosen: **mean log-probability per token** of the preferred response under the policy, nats, <= 0, [pairs].
        rejected: mean log-probability per token of the other response under the policy, nats, <= 0, [pairs].
        beta: weight of the odds ratio, the paper's lambda, >= 0.

    Returns:
        Loss of each pair in nats, [pairs].

    Source:
        Hong, Lee and Thorne 2024, "ORPO", eqs. 2, 4, 6 and 7. The odds part equals TRL's `odds_ratio_loss`; TRL's
        likelihood part averages over the prompt's tokens too, ours over the response as the paper writes it.
    """
    return -chosen - beta * logsigmoid(_log_odds(chosen) - _log_odds(rejected))


def _log_odds(log_probability: Tensor) -> Tensor:
    """Log of p / (1 - p) from log p: log(-expm1(.)) keeps digits near p = 1, log1p(-exp(.)) near p = 0."""
    below_one = log_probability.clamp(max=-torch.finfo(log_probability.dtype).eps)
    log_complement = torch.where(
        below_one > -0.7, torch.log(-torch.expm1(below_one)), torch.log1p(-torch.exp(below_one))
    )
    return below_one - log_complement
