r"""Dissecting preferences: are judges of one size alike, are weights found again, and can a judge be pushed by them?

Three parts. (A) **Published weights** of 32 language models and of people, by scenario, as the authors fitted them: the
similarity of two judges is the mean over scenarios of the correlation of their weights; models of one size (up to 14B,
34B and more) are compared with models of two, and with 10,000 shuffles of the sizes. The set at hand holds seven of
the eleven scenarios. On all eleven, which are not part of it, the same computation gives the paper's 0.83, 0.88 and
0.74.
(B) **Simulated judges** with known weights, 9 of 29 properties not zero and as large as the nine
largest published ones are on average, each of 400 pairs whose properties are
correlated as those of real answers are: the posterior mean is compared with the truth, its 95 % intervals are counted,
and its predictions for 400 new pairs are set against a logistic regression under a Gaussian prior, length alone and the
majority. As a check of the sampler the truth is also drawn from the prior itself, where coverage must be 95 %.
(C, scale full, first seed only) **One real judge**, the 135M chat model: it says of 120 pairs of its own answers, cut
at 24 tokens, which is better, read off its probabilities in both orders. Weights of properties that code can see are
learnt from these. On 30 prompts about other things the answer of four that shows most of the three most wanted
properties is judged against another of the four drawn by chance, and so is the one that shows most of the three least
wanted ones.

Left out: properties annotated by a large model, benchmark judges (MT-Bench, AlpacaEval 2), and training a policy on the
predicted labels. Sizes of weights and prompts were chosen on seeds from 1000 on; the reported seeds are 0, 1, ...

Source:
    Li, Zhou, Sun, Zhang, Zhao and Liu (2024), Dissecting Human and LLM Preferences, ACL 2024, arXiv 2402.11296.
"""

import gzip
import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from penchant.evaluate.dissect import dissection
from penchant.evaluate.manipulation import only, standing
from penchant.evaluate.properties import IN_CODE, LENGTH, PROPERTIES, computed
from penchant.evaluate.similar_judges import group_gap, similarity
from penchant.evaluate.two_orders import OPENING, OPTIONS, QUESTION, Judged, both_orders
from penchant.evaluate.win_rate import paired_win_rate
from penchant.preference.laplace_logistic import laplace_posterior
from penchant.preference.newton import newton
from penchant.reproductions.real_data import real_data
from penchant.reproductions.verdict import Verdict
from penchant.statistics import nested_bootstrap

CLAIM = (
    "Judges of one size are more alike than chance groups are; the posterior mean finds known weights again "
    "(correlation at least 0.8, intervals that hold as often as they say); and a small real judge prefers the answer "
    "of four that shows its three most wanted properties, and not the one that shows its three least wanted ones"
)
METRIC = "correlation of learnt and true weights, simulated judges: posterior mean against L2 logistic regression"
SEEDS = {"quick": 3, "full": 6}

Floats = NDArray[np.float64]

_JUDGES, _PAIRS = 20, 400
_SIZES = (0.82, 0.62, 0.49, 0.37, 0.30, 0.25, 0.21, 0.18, 0.16)  # of true weights: means of the largest published ones
_COMMON = 0.35  # correlation of any two properties behind the signs
_UNDER = 0.6  # of a standard normal: smaller differences in a property are none
_SMALL, _LARGE = 14, 34  # billions of parameters


# A: published weights -------------------------------------------------------------------------------------------------


def size_of(judge: str) -> float | None:
    """Billions of parameters by a model's name; None for people and models that do not say.

    >>> size_of("llama-2-70b-chat"), size_of("mistral-8x7b"), size_of("gpt-4-1106-preview")
    (70.0, 47.0, None)
    """
    if "8x7b" in judge:
        return 47.0  # its experts share all but the feed-forward layers
    found = re.search(r"(\d+)b\b", judge)
    return float(found[1]) if found else None


def published() -> tuple[list[str], list[str], Floats] | None:
    """Judges, scenarios and weights [judges, scenarios, 29] of the set, if it is there; kinds of prompts apart."""
    path = real_data("dissected_preferences/fitted_weights.jsonl.gz")
    if path is None:
        return None
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    found = {(row["model"], row["scenario"]): row["weights"] for row in rows}
    judges = list(dict.fromkeys(row["model"] for row in rows))
    # Scenarios part all pairs between them; "express_feeling" and the like are other cuts through the same pairs.
    scenarios = sorted({row["scenario"] for row in rows if row["scenario"][0].isupper()})
    return judges, scenarios, np.array([[found[judge, one] for one in scenarios] for judge in judges])


def _published(seed: int) -> dict[str, Any] | None:
    known = published()
    if known is None:
        return None
    judges, scenarios, weights = known
    alike = similarity(weights)
    sizes = [size_of(judge) for judge in judges]
    open_ones = [j for j, size in enumerate(sizes) if size is not None and (size <= _SMALL or size >= _LARGE)]
    groups = ["small" if (sizes[j] or 0) <= _SMALL else "large" for j in open_ones]
    gap = group_gap(alike[np.ix_(open_ones, open_ones)], groups, seed=seed)
    tuned = [
        alike[judges.index(base), judges.index(judge)]
        for base in judges
        for judge in judges
        if judge.startswith((f"{base}-chat", f"{base}-instruct"))
    ]
    severe = PROPERTIES.index("no severe errors")
    return {
        "scenarios": len(scenarios),
        "judges": judges,
        "similarity": alike.round(4).tolist(),
        "within": dict(gap.within),
        "inside": gap.inside,
        "across": gap.across,
        "chance": gap.chance,
        "p": gap.p,
        "tuned": [float(np.mean(tuned)), len(tuned)],
        "severe": {
            judge: float(expit(weights[judges.index(judge), :, severe]).mean())
            for judge in ("human", "gpt-4-1106-preview")
        },
    }


# B: simulated judges --------------------------------------------------------------------------------------------------


def pairs(n: int, rng: np.random.Generator) -> Floats:
    """Signs of differences in 29 correlated properties, many of them zero, [n, 29]."""
    common, own = rng.standard_normal((n, 1)), rng.standard_normal((n, len(PROPERTIES)))
    differs = np.sqrt(_COMMON) * common + np.sqrt(1 - _COMMON) * own
    return np.asarray(np.sign(differs) * (np.abs(differs) > _UNDER))


def judges(n: int, rng: np.random.Generator) -> Floats:
    """Weights of judges that care about nine properties each, [n, 29]."""
    weights = np.zeros((n, len(PROPERTIES)))
    for row in weights:
        cared = rng.choice(len(row), len(_SIZES), replace=False)
        row[cared] = np.array(_SIZES) * rng.choice([-1, 1], len(_SIZES))
    return weights


def _simulated(seed: int) -> dict[str, Any]:
    rng = np.random.default_rng([16, seed])
    seen, later = pairs(_PAIRS, rng), pairs(_PAIRS, rng)
    truth = judges(_JUDGES, rng)
    from_prior = rng.laplace(0, 0.1, truth.shape)
    both = np.concatenate([truth, from_prior])
    labels = (rng.random((_PAIRS, len(both))) < expit(seen @ both.T)).astype(float)
    found = laplace_posterior(seen, labels, seed=seed)
    covered = (found.low <= both) & (both <= found.high)
    plain = np.stack([newton(seen, one, l2=1.0).weights for one in labels.T[:_JUDGES]])
    length = seen[:, [PROPERTIES.index(LENGTH)]]
    by_length = np.concatenate([newton(length, one, l2=1.0).weights for one in labels.T[:_JUDGES]])
    new = rng.random((_PAIRS, _JUDGES)) < expit(later @ truth.T)

    def right(score: Floats) -> list[float]:
        return list(((np.sign(score) * np.where(new, 1, -1) + 1) / 2).mean(axis=0))

    return {
        "ours": [float(np.corrcoef(*one)[0, 1]) for one in zip(found.mean[:_JUDGES], truth, strict=True)],
        "logistic, L2": [float(np.corrcoef(*one)[0, 1]) for one in zip(plain, truth, strict=True)],
        "covered": covered[:_JUDGES].mean(axis=1).tolist(),
        "covered nonzero": float(covered[:_JUDGES][truth != 0].mean()),
        "covered from prior": covered[_JUDGES:].mean(axis=1).tolist(),
        "accuracy": {
            "ours": right(later @ found.mean[:_JUDGES].T),
            "logistic, L2": right(later @ plain.T),
            "length alone": right(later[:, [PROPERTIES.index(LENGTH)]] * by_length),
            "majority": right(np.tile(labels[:, :_JUDGES].mean(axis=0) - 0.5, (_PAIRS, 1))),
            "true weights": right(later @ truth.T),
        },
        "r_hat": float(found.r_hat.max()),
        "effective": float(found.effective.min()),
        "points": [truth[:4].ravel().tolist(), found.mean[:4].ravel().tolist()],
    }


# C: a real judge ------------------------------------------------------------------------------------------------------

_ASKED = (
    "Give me some advice about {}.",
    "What is interesting about {}?",
    "How do I begin with {}?",
    "Tell me a fact about {}.",
    "Why do people like {}?",
    "What can go wrong with {}?",
    "Describe {} to a child.",
    "I worry about {}. What should I do?",
    "What do I need for {}?",
    "Write a short note about {}.",
)
_SEEN = ("gardening", "running", "learning French")
_NEW = ("chess", "baking bread", "public speaking")
_ANSWERS, _TOKENS, _TEMPERATURE, _SHOWN = 4, 24, 0.8, 3


def _real_judge(seed: int, progress: Callable[[str], None]) -> dict[str, Any]:
    from penchant.policies.language import (
        LanguagePolicy,
    )  # torch takes seconds, which the other parts need not wait for

    policy = LanguagePolicy()
    seen, new = ([form.format(topic) for topic in topics for form in _ASKED] for topics in (_SEEN, _NEW))
    answers = policy.sample(
        [*seen, *new], _ANSWERS, temperature=_TEMPERATURE, max_new_tokens=_TOKENS, seed=seed, engine="auto"
    )
    progress(f"preference-dissection: {_ANSWERS * len(answers)} answers drawn")
    turns = [(k, (k + 1) % _ANSWERS) for k in range(_ANSWERS)]
    asked = [(q, texts[i], texts[j]) for q, texts in zip(seen, answers, strict=False) for i, j in turns]
    asked = [row for row in asked if row[1] != row[2]]
    said = judged(policy, asked)
    progress(f"preference-dissection: {len(asked)} pairs judged in both orders")
    features = computed([row[1] for row in asked], [row[2] for row in asked])
    prompts = [row[0] for row in asked]
    found = dissection(features, said.labels, names=IN_CODE, groups=np.array(prompts), n_folds=5, seed=seed)
    tests = {way: _test(new, answers[len(seen) :], found.weights, way, seed) for way in ("top", "bottom")}
    outcomes = {way: _outcomes(policy, *test) for way, test in tests.items()}
    progress("preference-dissection: unseen prompts judged")
    return {
        "pairs": found.n_pairs,
        "mass": float(said.mass.mean()),
        "position": float(said.position.mean()),
        "agrees": float(said.agrees.mean()),
        "weights": dict(zip(IN_CODE, found.weights.tolist(), strict=True)),
        "low": found.low.tolist(),
        "high": found.high.tolist(),
        "warnings": list(found.warnings),
        "accuracy": [found.accuracy.estimate, found.accuracy.low, found.accuracy.high],
        "baselines": {name: one.estimate for name, one in found.baselines.items()},
        "outcomes": outcomes,
    }


def judged(policy: Any, asked: list[tuple[str, str, str]]) -> Judged:
    """What a language model prefers of (prompt, first, second), in both orders."""
    from penchant.policies.options import option_log_probabilities

    orders = [
        [QUESTION.format(prompt=prompt, first=one, second=other) for prompt, one, other in rows]
        for rows in (asked, [(prompt, second, first) for prompt, first, second in asked])
    ]
    return both_orders(*(option_log_probabilities(policy, order, OPTIONS, opening=OPENING) for order in orders))


def _test(
    prompts: list[str], answers: list[list[str]], weights: Floats, way: str, seed: int
) -> tuple[list[tuple[str, str, str]], list[int]]:
    """The answer that shows most of the judge's three, and another of the four drawn by chance; and of which prompt."""
    kept = only(weights, _SHOWN, towards=way == "top")
    rng = np.random.default_rng([16, seed])
    rows, numbers = [], []
    for number, (prompt, texts) in enumerate(zip(prompts, answers, strict=True)):
        m = len(texts)
        first, second = np.repeat(np.arange(m), m), np.tile(np.arange(m), m)
        differs = computed([texts[i] for i in first], [texts[j] for j in second]).reshape(m, m, -1)
        stands = standing(differs, kept)
        best = int(stands.argmax() if way == "top" else stands.argmin())
        other = int(rng.choice([k for k in range(m) if k != best]))
        if texts[best] != texts[other]:
            rows.append((prompt, texts[best], texts[other]))
            numbers.append(number)
    return rows, numbers


def _outcomes(policy: Any, rows: list[tuple[str, str, str]], numbers: list[int]) -> list[float]:
    """1 where the judge prefers the chosen answer, 0 where the other, 0.5 where they are the same, by prompt."""
    found = np.full(len(_ASKED) * len(_NEW), 0.5)
    found[numbers] = judged(policy, rows).labels
    return found.tolist()


# ----------------------------------------------------------------------------------------------------------------------


def run(seed: int, scale: str, progress: Callable[[str], None]) -> dict[str, Any]:
    """One seed: shuffles of the published weights, new simulated judges, and at scale full a real one once."""
    return {
        "published": _published(seed),
        "simulated": _simulated(seed),
        "real": _real_judge(seed, progress) if scale == "full" and seed == 0 else None,
    }


def verdict(runs: list[dict[str, Any]]) -> Verdict:
    """Holds if every part does that was run, each by its interval or by its permutation test.

    Args:
        runs: what `run` gave for at least two seeds.
    """
    ours, plain, covered, prior = (
        np.array([run["simulated"][name] for run in runs])
        for name in ("ours", "logistic, L2", "covered", "covered from prior")
    )
    nested: dict[str, Any] = {
        "seeds": np.repeat(np.arange(len(runs)), ours.shape[1]),
        "clusters": np.tile(np.arange(ours.shape[1]), len(runs)),
    }
    known = nested_bootstrap(ours.ravel(), **nested)
    against = nested_bootstrap(ours.ravel(), plain.ravel(), **nested)
    coverage = nested_bootstrap(covered.ravel(), **nested)
    calibrated = nested_bootstrap(prior.ravel(), **nested)
    accuracy = {
        name: float(np.mean([run["simulated"]["accuracy"][name] for run in runs]))
        for name in runs[0]["simulated"]["accuracy"]
    }
    part = {"B": known.low >= 0.8 and coverage.low >= 0.90 and coverage.high <= 0.99}
    nonzero = np.mean([run["simulated"]["covered nonzero"] for run in runs])
    notes = [
        f"B {{B}}: simulated judges, correlation with the true weights {_shown(known)} (lower end at least 0.8), 95 % "
        f"intervals hold in {_shown(coverage, 100)} % (0.90 to 0.99; of weights that are not zero in "
        f"{100 * nonzero:.0f} %: the prior draws them to zero); with truths drawn from the prior in "
        f"{_shown(calibrated, 100)} %",
        "B, accuracy on new pairs: " + ", ".join(f"{name} {value:.3f}" for name, value in accuracy.items()),
        f"B, sampler: largest R-hat {max(run['simulated']['r_hat'] for run in runs):.3f}, smallest effective sample "
        f"{min(run['simulated']['effective'] for run in runs):.0f} of 8,000",
    ]
    told = [_told_published(runs[0]["published"], part), *notes, *_told_real(runs[0]["real"], part)]
    words = {name: "holds" if holds else "DOES NOT HOLD" for name, holds in part.items()}
    return Verdict(
        ours=float(ours.mean()),
        baseline=float(plain.mean()),
        interval=against,
        holds=all(part.values()),
        notes=tuple(note.format(**words) for note in told),
    )


def _told_published(found: dict[str, Any] | None, part: dict[str, bool]) -> str:
    if found is None:
        return "A was not run: set PENCHANT_DATA to a folder with dissected_preferences/fitted_weights.jsonl.gz"
    gap = found["inside"] - found["across"]
    part["A"] = gap > found["chance"]
    return (
        f"A {{A}}: published weights, {found['scenarios']} of 11 scenarios: similarity within small models "
        f"{found['within']['small']:.3f}, within large ones {found['within']['large']:.3f}, across "
        f"{found['across']:.3f}; "
        f"gap {gap:.3f}, 99th percentile of shuffled sizes {found['chance']:.3f}, p = {found['p']:.1g}; "
        f"{found['tuned'][1]} models before and after tuning {found['tuned'][0]:.3f}; no severe errors "
        f"{100 * found['severe']['human']:.1f} % (people), "
        f"{100 * found['severe']['gpt-4-1106-preview']:.1f} % (GPT-4-Turbo)"
    )


def _told_real(found: dict[str, Any] | None, part: dict[str, bool]) -> list[str]:
    if found is None:
        return ["C was not run: it needs scale full"]
    rates = {way: paired_win_rate(outcomes).interval for way, outcomes in found["outcomes"].items()}
    part["C"] = rates["top"].low > 0.5 > rates["bottom"].high
    estimate, low, high = (100 * end for end in found["accuracy"])
    wanted = sorted(found["weights"].items(), key=lambda one: -one[1])
    return [
        f"C {{C}}: the small chat model prefers the answer with its three most wanted properties in "
        f"{_shown(rates['top'], 100)} %, with its three least wanted in {_shown(rates['bottom'], 100)} % of "
        f"{rates['top'].n} unseen prompts (against another answer drawn by chance; 50 % is no difference)",
        f"C, the judge: {100 * found['mass']:.1f} % of its probability is on A or B, {100 * found['position']:.0f} % "
        f"of that on A; it prefers the same answer in both orders in {100 * found['agrees']:.0f} % of {found['pairs']} "
        f"pairs; held-out accuracy {estimate:.0f} [{low:.0f}, {high:.0f}] %, "
        + ", ".join(f"{name} {100 * value:.0f} %" for name, value in found["baselines"].items()),
        "C, most wanted: "
        + ", ".join(f"{name} {weight:+.2f}" for name, weight in wanted[:_SHOWN])
        + "; least: "
        + ", ".join(f"{name} {weight:+.2f}" for name, weight in wanted[: -_SHOWN - 1 : -1]),
    ]


def _shown(interval: Any, scale: float = 1.0) -> str:
    digits = 1 if scale == 100 else 3
    first, low, high = (f"{scale * end:.{digits}f}" for end in (interval.estimate, interval.low, interval.high))
    return f"{first} [{low}, {high}]"


def figure(runs: list[dict[str, Any]]) -> Any:
    """Left: how alike published judges are. Right: learnt and true weights of simulated judges; the real judge's."""
    from matplotlib.figure import Figure

    found, real = runs[0]["published"], runs[0]["real"]
    plot = Figure(figsize=(13, 6.4), layout="constrained")
    grid = plot.add_gridspec(2 if real else 1, 2, width_ratios=[1.5, 1])
    if found:
        axes = plot.add_subplot(grid[:, 0])
        order = sorted(range(len(found["judges"])), key=lambda j: size_of(found["judges"][j]) or 999)
        names = [found["judges"][j] for j in order]
        shown = axes.imshow(np.array(found["similarity"])[np.ix_(order, order)], cmap="viridis", vmin=0.3, vmax=1)
        axes.set_xticks(range(len(names)), labels=names, rotation=90, fontsize=7)
        axes.set_yticks(range(len(names)), labels=names, fontsize=7)
        axes.set_title("similarity of published weights, small models first", fontsize=9)
        plot.colorbar(shown, ax=axes, shrink=0.6)
    axes = plot.add_subplot(grid[0, 1])
    for run in runs:
        axes.plot(*run["simulated"]["points"], "o", color="C0", ms=3, alpha=0.25, mew=0)
    axes.axline((0, 0), slope=1, color="black", lw=0.8)
    axes.set_xlabel("true weight of a simulated judge, logits")
    axes.set_ylabel("posterior mean, logits")
    if real:
        axes = plot.add_subplot(grid[1, 1])
        names = sorted(real["weights"], key=lambda name: real["weights"][name])
        for row, name in enumerate(names):
            place = list(real["weights"]).index(name)
            axes.plot([real["low"][place], real["high"][place]], [row, row], color="C0", lw=1.6)
            axes.plot(real["weights"][name], row, "o", color="C0", ms=4)
        axes.axvline(0, color="black", lw=0.8)
        axes.set_yticks(range(len(names)), labels=names, fontsize=7)
        axes.set_xlabel("weight for the small chat model as judge, logits, 95 %")
    return plot
