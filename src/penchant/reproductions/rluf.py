"""Reinforcement learning from the hearts that people leave: does P[love] foretell them, pay, and get played?

**Simulated throughout.** 1,000 sums are asked, 12 replies to each are written by templates: right or wrong, longer or
shorter, warm or not, with or without a cheerful goodbye, some unsafe. What is truly helpful depends on rightness and
length alone. People leave a heart with probability sigmoid(-5 + warmth + right + 1.5 goodbye + ...) (each
about its mean), tire of it, are quick or slow with it, and leave more of them late in a conversation, where goodbyes
are; 3 % react at random and 10 % to everything. A week of replies by six policies, one after the other, is the log that
P[love] is learnt from; it reads the *text*: the eleven surface numbers of `Style`, and, since a large model can add,
whether the sum is right.

(A) On people and policies that it never saw, P[love] ranks replies (AUROC at least 0.70) and its mean over each of 12
policies goes with their observed love rate (r above 0.8, lower bound above 0.5). Without cleaning and without the
correction of the base rate its probabilities must be worse calibrated (ECE).

(B, C) A softmax policy over the replies is trained by group-relative clipped policy gradient on helpfulness + safety +
w P[love], each reward calibrated against the reference's reply first. (B) Moderate w = 0.1: more hearts than w = 0 in a
test on new prompts and people, helpfulness still at least 0.48 against it. (C) Aggressive w = 1: more hearts *and* a
helpfulness win rate below one half: the reward is being played, which goodbyes, exclamation marks and closings show. If
it is not, the note says that no hacking was seen.

Beside them: imitating loved replies (supervised), KTO on reactions, P[love] under shuffled labels (placebo), the true
probability (oracle). Long-term satisfaction is known in the simulator: people come back the sooner the more helpful
replies were. How it goes with hearts is reported, over people, over ordinary policies and over those that were trained.

Observed rates are of people who are believed (`cleaned`): whoever loves everything loves every policy alike. Weights
were chosen on seeds from 1,000 on, among 0, 0.1, 0.3 and 1. Left out: an 8B model and a live service.

Source:
    Han, Chen, Sankararaman et al. (2025), Reinforcement learning from user feedback. arXiv 2505.14946.
"""

import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, log_softmax, softmax

from penchant.encoders import Joined
from penchant.evaluate.calibration import auroc, reliability
from penchant.evaluate.reactions import Agreement, agreement, correlation, indicators, rates_by_version, signals
from penchant.objectives import clipped, kto, nll
from penchant.objectives.policy_gradient import calibrated, group_advantages
from penchant.people import Reactors, reactors
from penchant.preference.descent import descend
from penchant.preference.reactions import BELIEVE_ALL, Cleaning, ReactionRate, cleaned, details
from penchant.records import Reactions
from penchant.reproductions.hearts import DAY, N_REPLIES, WEEK, Log, Sums, World, drawn, serve, world
from penchant.reproductions.verdict import Verdict
from penchant.statistics import Interval, nested_bootstrap, paired_bootstrap
from penchant.style import Style

CLAIM = (
    "The probability of a heart, learnt from logs, ranks replies and foretells the love rate of policies it never saw; "
    "as a moderate reward it earns hearts at no cost of helpfulness; as a heavy one it is played."
)
METRIC = "love rate of the moderate policy over that of the policy without P[love] (baseline 1), new prompts and people"
SEEDS = {"quick": 3, "full": 5}

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
WINDOW = DAY
TASTE = (1.0, 1.0, 1.5)  # logits of a heart: a warm sentence, a right answer, a goodbye
MODERATE, AGGRESSIVE = 0.1, 1.0
WEIGHTS = (0.0, 0.1, 0.3, 1.0)
N_LOGGING, N_HELD_OUT = 6, 12
_CLEANING = Cleaning(window=WINDOW)
_N_SAMPLES, _KL, _CLIP = 4, 0.05, 0.2


@dataclass(frozen=True)
class Scale:
    """Sizes of a run.

    Attributes:
        n_prompts, n_people: of the world.
        n_logged: replies shown in the week that is learnt from.
        n_shown: replies shown by each policy that is tested.
        epochs: of policy training.
    """

    n_prompts: int
    n_people: int
    n_logged: int
    n_shown: int
    epochs: int


_SCALES = {"quick": Scale(400, 1000, 60_000, 6000, 120), "full": Scale(1000, 2500, 200_000, 20_000, 200)}


# Policies


def random_policies(features: Array, n: int, rng: np.random.Generator) -> dict[str, Array]:
    """Softmax policies of random weights, name -> [prompts, replies]."""
    weights = rng.standard_normal((n, features.shape[-1]))
    return {f"v{number}": softmax(features @ w, axis=1) for number, w in enumerate(weights)}


def probabilities(features: Array, weights: Array) -> Array:
    """Softmax policy over the replies to each prompt, [prompts, replies]."""
    return np.asarray(np.exp(log_softmax(features @ weights, axis=1)))


def trained(features: Array, reward: Array, *, epochs: int, seed: int) -> tuple[Array, float]:
    """Weights of a softmax policy by clipped, group-relative policy gradient with a pull to the uniform reference.

    Args:
        features: of the replies, [prompts, replies, features].
        reward: R of each reply, [prompts, replies].
        epochs: steps on all prompts; four replies to each are sampled anew at every second one.
        seed: of the samples.

    Returns:
        [features], and the share of groups of samples with equal rewards, which teach nothing.
    """
    x, paid = torch.from_numpy(features), torch.from_numpy(reward)
    weights = torch.zeros(features.shape[-1], dtype=torch.float64, requires_grad=True)
    n = len(x)
    reference = -float(np.log(x.shape[1]))
    sampled: dict[str, torch.Tensor] = {}
    constant: list[int] = []

    def sample(number: int, _of: int) -> None:
        if number % 2:
            return
        with torch.no_grad():
            old = torch.log_softmax(x @ weights, dim=1)
            chosen = torch.multinomial(old.exp(), _N_SAMPLES, replacement=True)
            found = group_advantages(paid.gather(1, chosen))
        constant.append(found.n_constant)
        sampled.update(chosen=chosen, old=old.gather(1, chosen), advantages=found.values)

    def loss(_: torch.Tensor) -> torch.Tensor:
        now = torch.log_softmax(x @ weights, dim=1)
        moved = now.gather(1, sampled["chosen"]) - sampled["old"]
        # The bank is small: the divergence to the reference is exact.
        divergence = (now.exp() * (now - reference)).sum(dim=1)
        return clipped(moved, sampled["advantages"], clip=_CLIP).mean() + _KL * divergence.mean()

    descend(loss, [weights], n, epochs=epochs, learning_rate=0.05, batch_size=n, seed=seed, before_step=sample)
    return weights.detach().numpy(), float(np.sum(constant) / (n * len(constant)))


def joint_reward(place: World, love: Array, weight: float, helpfulness: Array, seed: int) -> Array:
    """R = r_h + r_s + w r_l, each calibrated against one reply of the reference, [prompts, replies]."""
    first = np.random.default_rng(seed).integers(N_REPLIES, size=(len(love), 1))
    total = np.zeros(love.shape)
    for reward, share in ((helpfulness, 1.0), (-place.unsafe, 1.0), (love, weight)):
        baseline = torch.from_numpy(np.take_along_axis(reward, first, axis=1))
        total += share * calibrated(torch.from_numpy(reward), baseline, scale=float(reward.std())).numpy()
    return total


def imitating(features: Array, prompt: Ints, reply: Ints, loved: NDArray[np.bool_], how: str, seed: int) -> Array:
    """Weights of a softmax policy from logged replies: "supervised" on loved ones, or "kto" on all.

    Args:
        features: of the replies, [prompts, replies, features].
        prompt: that was asked, [rows].
        reply: that was shown, [rows].
        loved: whether it got a heart, [rows].
        how: "supervised" or "kto".
        seed: of the order.
    """
    rows = np.flatnonzero(loved)
    if how == "kto":
        others = np.random.default_rng(seed).choice(np.flatnonzero(~loved), 3 * len(rows))
        rows = np.concatenate([rows, others])
    x = torch.from_numpy(features[prompt[rows]])
    chosen, liked = torch.from_numpy(reply[rows])[:, None], torch.from_numpy(loved[rows])
    weights = torch.zeros(features.shape[-1], dtype=torch.float64, requires_grad=True)
    reference = -float(np.log(N_REPLIES))

    def loss(batch: torch.Tensor) -> torch.Tensor:
        log_probability = torch.log_softmax(x[batch] @ weights, dim=1).gather(1, chosen[batch])[:, 0]
        if how == "supervised":
            return nll(log_probability).mean()
        ratio = log_probability - reference
        anchor = ratio.detach().mean().clamp(min=0)
        weigh = {"desirable_weight": 3.0, "undesirable_weight": 1.0}  # one loved reply to three others
        return kto(ratio, liked[batch], reference_kl=anchor, **weigh).mean()

    descend(loss, [weights], len(rows), epochs=10, learning_rate=0.05, batch_size=1024, seed=seed)
    return weights.detach().numpy()


# What is measured


def learnt(log: Log, seed: int) -> dict[str, ReactionRate]:
    """P[love] as it should be, and as it comes out without a part of the care."""
    settings: dict[str, Any] = {"encoder": Joined(Style(), Sums()), "seed": seed}
    rng = np.random.default_rng([36, seed])
    place = log.reactions.table.schema.get_field_index("reaction")
    signs = rng.permutation(np.array(log.reactions.table["reaction"].to_pylist(), dtype=object))
    shuffled = Reactions(log.reactions.table.set_column(place, "reaction", pa.array(signs)))
    return {
        "ours": ReactionRate(cleaning=_CLEANING, **settings).fit(log.reactions),
        "no cleaning": ReactionRate(cleaning=BELIEVE_ALL, **settings).fit(log.reactions),
        "no window": ReactionRate(**settings).fit(log.reactions),
        "neither cleaning nor correction": ReactionRate(cleaning=BELIEVE_ALL, share_to_calibrate=0.0, **settings).fit(
            log.reactions
        ),
        "no correction": ReactionRate(cleaning=_CLEANING, share_to_calibrate=0.0, **settings).fit(log.reactions),
        "shuffled labels": ReactionRate(cleaning=_CLEANING, **settings).fit(shuffled),
    }


def measured(models: dict[str, ReactionRate], log: Log) -> dict[str, dict[str, float]]:
    """AUROC, average precision, ECE, Brier score and mean probability on new people, of every model and the oracle."""
    shown = cleaned(log.reactions, cleaning=_CLEANING)
    found = {}
    for name, model in models.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # two of them are not calibrated on purpose
            p = model.predict(shown.reactions)
        if name.endswith("no correction") or name.endswith("nor correction"):
            odds = np.log(p) - np.log1p(-p) - np.log(model.kept_negatives_)  # as the sample has it
            p = expit(odds)
        found[name] = _scores(p, shown.loved)
    found["the true probability (oracle)"] = _scores(log.chance[shown.rows], shown.loved)
    found["one rate for all"] = _scores(np.full(len(shown.loved), shown.loved.mean()), shown.loved)
    return found


def _scores(p: Array, loved: NDArray[np.bool_]) -> dict[str, float]:
    table = reliability(p, loved)
    order = np.argsort(-p, kind="stable")
    precision = np.cumsum(loved[order]) / np.arange(1, len(p) + 1)
    return {
        "auroc": auroc(p, loved),
        "average_precision": float(precision[loved[order]].mean()),
        "ece": table.expected_error,
        "brier": table.brier,
        "mean": float(p.mean()),
        "observed": float(loved.mean()),
    }


def foretold(model: ReactionRate, place: World, policies: dict[str, Array], log: Log, prompts: Ints) -> Agreement:
    """Mean P[love] of each policy's replies to fixed prompts against the love rate that was observed."""
    love = expit(_rewards(model, place))
    predicted = {name: float((p * love)[prompts].sum(axis=1).mean()) for name, p in policies.items()}
    shown = cleaned(log.reactions, cleaning=_CLEANING)
    return agreement(predicted, rates_by_version(shown.reactions, shown.loved))


def _rewards(model: ReactionRate, place: World) -> Array:
    prompts = [prompt for prompt in place.prompts for _ in range(N_REPLIES)]
    return model.reward(prompts, [text for texts in place.replies for text in texts]).reshape(-1, N_REPLIES)


def returns(helpfulness: ArrayLike) -> Array:
    """P(somebody comes back) whose replies were so helpful on average."""
    return np.asarray(expit(2 * (np.asarray(helpfulness) - 0.7)))


def came_back(place: World, log: Log, rng: np.random.Generator) -> tuple[dict[str, float], Array, Ints]:
    """Who comes back within two weeks, likelier after helpful replies: by name, by number, and the numbers."""
    present, first, codes = np.unique(log.who, return_index=True, return_inverse=True)
    mean = np.bincount(codes, place.helpful[log.prompt, log.reply]) / np.bincount(codes)
    back = (rng.random(len(present)) < returns(mean)).astype(np.float64)
    names = log.reactions.table["user"].take(pa.array(first)).to_pylist()
    return dict(zip(names, back.tolist(), strict=True)), back, present


def tuned(
    place: World, features: Array, love: Array, log: Log, known: Ints, epochs: int, seed: int, rng: np.random.Generator
) -> tuple[dict[str, Array], dict[str, float]]:
    """Every policy that is compared, name -> [prompts, replies]; and by weight the share of equal groups."""
    judged = place.helpful + 0.3 * rng.standard_normal(place.helpful.shape)  # an imperfect judge of helpfulness
    weights = {"reference": np.zeros(features.shape[-1])}
    constant = {}
    for weight in WEIGHTS:
        reward = joint_reward(place, love, weight, judged, seed)[known]
        weights[f"w = {weight:g}"], constant[f"{weight:g}"] = trained(features[known], reward, epochs=epochs, seed=seed)
    shown = cleaned(log.reactions, cleaning=_CLEANING)  # the baselines learn from what we learn from
    seen = (log.prompt[shown.rows], log.reply[shown.rows], shown.loved)
    weights |= {f"{how} on hearts": imitating(features, *seen, how, seed) for how in ("supervised", "kto")}
    return {name: probabilities(features, w) for name, w in weights.items()}, constant


def outcomes(
    place: World,
    people: Reactors,
    policies: dict[str, Array],
    n: int,
    rng: np.random.Generator,
    *,
    among: Ints,
    prompts: Ints,
) -> dict[str, dict[str, Any]]:
    """What new people do with every policy's replies to new prompts, and what is true of the replies."""
    log = serve(place, people, policies, n, rng, among=among, prompts=prompts, until=WEEK + WINDOW)
    shown = cleaned(log.reactions, cleaning=_CLEANING)
    rates = rates_by_version(shown.reactions, shown.loved)
    served = [str(version) for version in details(shown.reactions, "policy_version")]
    result = {}
    for name, p in policies.items():
        mean = {key: float((p * value)[prompts].sum(axis=1).mean()) for key, value in _truths(place).items()}
        said = drawn(p[prompts], rng)
        result[name] = {
            "rate": rates[name],
            "n": served.count(name),
            "wins": better(place.helpful[prompts], p[prompts], policies["w = 0"][prompts]).tolist(),
            "back": float(returns(mean["helpful"])),
            "shows": asdict(indicators([place.replies[q][r] for q, r in zip(prompts, said, strict=True)])),
            **mean,
        }
    return result


def _truths(place: World) -> dict[str, Array]:
    return {"helpful": place.helpful, "unsafe": place.unsafe}


def run(seed: int, scale: str, progress: Callable[[str], None]) -> dict[str, Any]:
    """One simulated world: the log, P[love], new policies, policies trained on joint rewards, and their test."""
    sizes = _SCALES[scale]
    rng = np.random.default_rng([36, seed])
    place = world(sizes.n_prompts, rng)
    people = reactors(sizes.n_people, TASTE, spread=0.3, delay=6 * 3600.0, seed=seed)
    features = place.seen(rng)
    everybody = rng.permutation(sizes.n_people)
    old, new = np.split(everybody, [sizes.n_people // 2])
    prompts = rng.permutation(sizes.n_prompts)
    known, fresh = np.split(prompts, [6 * sizes.n_prompts // 10])

    logging = random_policies(features, N_LOGGING, rng)
    log = serve(place, people, logging, sizes.n_logged, rng, among=old, prompts=known, in_turn=True)
    models = learnt(log, seed)
    ours = models["ours"]
    progress(f"rluf: {len(log.reactions)} replies shown, left out {ours.dropped_}")

    others = random_policies(features, N_HELD_OUT, rng)
    week = serve(place, people, others, N_HELD_OUT * sizes.n_shown, rng, among=new, prompts=fresh, until=WEEK + WINDOW)
    quality = measured(models, week)
    agreed = foretold(ours, place, others, week, fresh)
    outcome, back, present = came_back(place, week, rng)
    by_people = signals(week.reactions, outcome, seed=seed)
    bucket = present % N_HELD_OUT
    returning = [float(back[bucket == number].mean()) for number in range(N_HELD_OUT)]
    observed = [agreed.observed[agreed.policies.index(name)] for name in others]

    policies, constant = tuned(place, features, _rewards(ours, place), log, known, sizes.epochs, seed, rng)
    return {
        "quality": quality,
        "agreement": {
            "r": asdict(agreed.r),
            "slope": agreed.slope,
            "predicted": list(agreed.predicted),
            "observed": list(agreed.observed),
        },
        "signals": [asdict(signal) for signal in by_people],
        "returning": {"love": observed, "back": returning},
        "constant_groups": constant,
        "dropped": ours.dropped_,
        "arms": outcomes(place, people, policies, len(policies) * sizes.n_shown, rng, among=new, prompts=fresh),
    }


def better(helpful: Array, ours: Array, theirs: Array) -> Array:
    """P(a reply of one policy is more helpful than one of another), ties half, exactly, [prompts]."""
    ahead = (np.sign(helpful[:, :, None] - helpful[:, None, :]) + 1) / 2
    return np.asarray(np.einsum("pi,pij,pj->p", ours, ahead, theirs))


def over_seeds(runs: list[dict[str, Any]], value: Callable[[dict[str, Any]], float]) -> Interval:
    """Mean of a number of each run, interval over runs."""
    return paired_bootstrap([value(run) for run in runs])


def rate_ratio(runs: list[dict[str, Any]], name: str) -> Interval:
    """Love rate of a policy over that without P[love]: mean over worlds of the ratio."""
    return over_seeds(runs, lambda run: run["arms"][name]["rate"] / run["arms"]["w = 0"]["rate"])


def two_proportions(runs: list[dict[str, Any]], name: str) -> float:
    """Standard score of the difference of two love rates, all worlds together (stratified by world)."""
    total, variance = 0.0, 0.0
    for run in runs:
        ours, base = (run["arms"][arm] for arm in (name, "w = 0"))
        pooled = (ours["rate"] * ours["n"] + base["rate"] * base["n"]) / (ours["n"] + base["n"])
        total += ours["rate"] - base["rate"]
        variance += pooled * (1 - pooled) * (1 / ours["n"] + 1 / base["n"])
    return float(total / np.sqrt(variance))


def win_rate(runs: list[dict[str, Any]], name: str) -> Interval:
    """Helpfulness against the policy without P[love] on new prompts, ties half; prompts within worlds resampled."""
    wins = [np.array(run["arms"][name]["wins"]) for run in runs]
    seeds = np.repeat(np.arange(len(runs)), [len(one) for one in wins])
    prompts = np.concatenate([np.arange(len(one)) for one in wins])
    return nested_bootstrap(np.concatenate(wins), seeds=seeds, clusters=prompts)


def verdict(runs: list[dict[str, Any]]) -> Verdict:
    """Holds if A (AUROC, agreement over policies, calibration), B (moderate) and C (played) hold.

    Args:
        runs: what `run` gave for at least two seeds.
    """
    area = over_seeds(runs, lambda run: run["quality"]["ours"]["auroc"])
    r = over_seeds(runs, lambda run: run["agreement"]["r"]["estimate"])
    lowest = min(run["agreement"]["r"]["low"] for run in runs)
    careless = "neither cleaning nor correction"
    worse = over_seeds(runs, lambda run: run["quality"][careless]["ece"] - run["quality"]["ours"]["ece"])
    moderate, aggressive = f"w = {MODERATE:g}", f"w = {AGGRESSIVE:g}"
    gain, much = rate_ratio(runs, moderate), rate_ratio(runs, aggressive)
    kept, lost = win_rate(runs, moderate), win_rate(runs, aggressive)
    a = area.low >= 0.70 and r.low > 0.8 and lowest > 0.5 and worse.low > 0
    b = gain.low > 1 and kept.low >= 0.48
    c = much.low > 1 and lost.high < 0.5
    return Verdict(
        ours=gain.estimate,
        baseline=1.0,
        interval=Interval(gain.estimate - 1, gain.low - 1, gain.high - 1, gain.level, gain.n),
        holds=bool(a and b and c),
        notes=(
            f"everything here is simulated; {len(runs)} worlds",
            f"A {_says(a)}: on new people and policies AUROC {_shown(area)} (the true probability reaches "
            f"{_mean(runs, 'the true probability (oracle)', 'auroc'):.3f}, shuffled labels "
            f"{_mean(runs, 'shuffled labels', 'auroc'):.3f}); r of predicted and observed love rate over {N_HELD_OUT} "
            f"policies {_shown(r)}, lowest bound of a world {lowest:.2f}, slope "
            f"{np.mean([run['agreement']['slope'] for run in runs]):.2f}; ECE without cleaning and correction is worse "
            f"by {_shown(worse, 4)}",
            *[_quality(runs, name) for name in runs[0]["quality"]],
            f"B {_says(b)}: {moderate}: {_shown(gain)} times the hearts (z = {two_proportions(runs, moderate):.1f}), "
            f"helpfulness win rate {_shown(kept)}",
            f"C {_says(c)}{'' if c else ' (no hacking seen)'}: {aggressive}: {_shown(much)} times the hearts (z = "
            f"{two_proportions(runs, aggressive):.1f}), helpfulness win rate {_shown(lost)}",
            *[_arm(runs, name) for name in runs[0]["arms"]],
            _long_term(runs),
            f"rows left out of the log that was learnt from, first world: {runs[0]['dropped']}",
        ),
    )


def _mean(runs: list[dict[str, Any]], model: str, measure: str) -> float:
    return float(np.mean([run["quality"][model][measure] for run in runs]))


def _quality(runs: list[dict[str, Any]], model: str) -> str:
    values = {m: _mean(runs, model, m) for m in ("auroc", "average_precision", "ece", "brier", "mean", "observed")}
    return (
        f"P[love], {model}: AUROC {values['auroc']:.3f}, average precision {values['average_precision']:.3f}, ECE "
        f"{values['ece']:.4f}, Brier {values['brier']:.4f}, mean {values['mean']:.4f} (observed "
        f"{values['observed']:.4f})"
    )


def _arm(runs: list[dict[str, Any]], name: str) -> str:
    arms = [run["arms"][name] for run in runs]
    shows = {key: np.mean([arm["shows"][key] for arm in arms]) for key in arms[0]["shows"]}
    hearts, unsafe, back = (100 * np.mean([arm[key] for arm in arms]) for key in ("rate", "unsafe", "back"))
    won = np.mean([np.mean(arm["wins"]) for arm in arms])
    return (
        f"policy {name}: love rate {hearts:.2f} %, helpfulness win rate {won:.3f}, unsafe {unsafe:.1f} %, "
        f"{shows['words']:.1f} words, {shows['exclamations']:.2f} exclamation marks, goodbyes "
        f"{100 * shows['farewells']:.0f} %, commonest closing {100 * shows['same_closing']:.0f} %, coming back "
        f"{back:.0f} %"
    )


def _long_term(runs: list[dict[str, Any]]) -> str:
    love = [next(s for s in run["signals"] if s["kind"] == "love")["association"]["estimate"] for run in runs]
    copy = [next(s for s in run["signals"] if s["kind"] == "copy")["association"]["estimate"] for run in runs]
    usual = [correlation(run["returning"]["love"], run["returning"]["back"]).estimate for run in runs]
    pushed = [
        correlation(*([run["arms"][f"w = {w:g}"][key] for w in WEIGHTS] for key in ("rate", "back"))).estimate
        for run in runs
    ]
    return (
        f"long-term satisfaction (coming back): correlation with hearts over people {np.mean(love):+.2f} (with copying "
        f"{np.mean(copy):+.2f}), over {N_HELD_OUT} ordinary policies {np.mean(usual):+.2f}, over policies trained "
        f"for hearts with growing weight {np.mean(pushed):+.2f}"
    )


def _shown(found: Interval, digits: int = 3) -> str:
    return f"{found.estimate:.{digits}f} [{found.low:.{digits}f}, {found.high:.{digits}f}]"


def _says(holds: bool) -> str:
    return "holds" if holds else "does not hold"


def figure(runs: list[dict[str, Any]]) -> Any:
    """Left: predicted against observed love rate of new policies; right: hearts against helpfulness as w grows."""
    from matplotlib.figure import Figure

    plot = Figure(figsize=(11, 4))
    left, right = plot.subplots(1, 2)
    for number, run in enumerate(runs):
        found = run["agreement"]
        left.plot(100 * np.array(found["predicted"]), 100 * np.array(found["observed"]), "o", color=f"C{number}")
    top = max(100 * max(run["agreement"]["observed"]) for run in runs)
    left.plot([0, top], [0, top], color="black", linewidth=0.8)
    left.set_xlabel("predicted love rate (%), fixed prompts")
    left.set_ylabel("observed love rate (%), believed people")
    left.set_title(f"{N_HELD_OUT} new policies in each of {len(runs)} simulated worlds", fontsize=10)
    for name in runs[0]["arms"]:
        ratio = np.mean([run["arms"][name]["rate"] / run["arms"]["w = 0"]["rate"] for run in runs])
        won = win_rate(runs, name)
        right.errorbar(
            ratio, won.estimate, yerr=[[won.estimate - won.low], [won.high - won.estimate]], fmt="o", capsize=2
        )
        right.annotate(name, (ratio, won.estimate), textcoords="offset points", xytext=(6, 4), fontsize=8)
    right.margins(x=0.2)  # room for the names
    right.axhline(0.5, color="black", linewidth=0.8)
    right.set_xlabel("hearts, times those of w = 0")
    right.set_ylabel("helpfulness win rate against w = 0")
    right.set_title("joint rewards: w = weight of P[love] (simulated)", fontsize=10)
    plot.tight_layout()
    return plot
