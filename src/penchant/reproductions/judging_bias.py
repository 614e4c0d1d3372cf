"""Can a judge be pushed by what should not matter, does the audit measure it truly, and does a system prompt help?

Part 1, simulated: judges with one known bias. Of every audit the planted bias is one of ten, worth 5 points; the number
of items is what `items_needed` says for finding it in 97 of 100. Claims: the 95 % interval of the planted bias covers
it in at least 90 % of the audits; it is found in at least 95 %; and of judges without any bias, on 300 items, at most
5 % are flagged for anything, Holm-corrected over all ten.

Part 2, real small judges: SmolLM2-135M-Instruct by the probabilities of its letters, and the cosine of MiniLM's
vectors as a reward. Items: sums, capitals, and (where the development data is) instructions with the better of
two outputs against the output for another instruction. Claim: the bandwagon's pull towards a wrong option, minus its
placebo's, is above 0, and the system prompt makes the pull smaller. Only the language model can fulfil it: a cosine
reads no system prompt. These are not good judges, and at this size the claim may fail.

B failed here: a neutral line that names an option (the placebo) draws the language model to it, and a fake majority
draws it less. What moves this model most is a letter (A), not a place.

The paper's comparison of reasoning models with plain ones needs large models (`penchant evaluate judge FILE --judge
URL#MODEL`) and is not claimed here. In the simulation a bias of 5 points is a change of 5 points in how often the
target is chosen, averaged over targets (or orders); weights follow from it by quadrature and root finding.

Source:
    Wang et al. 2025, "Assessing Judging Bias in Large Reasoning Models: An Empirical Study", arXiv 2504.09946.
"""

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from scipy.optimize import brentq

from penchant.cache import RowCache
from penchant.encoders import Cached, MiniLM
from penchant.errors import MissingExtraError
from penchant.evaluate.cues import Item, items_of
from penchant.evaluate.judge_bias import BiasAudit, items_needed, judge_bias
from penchant.evaluate.judge_design import BIASES
from penchant.evaluate.judges import Judge, LetterJudge, RewardJudge, Similarity
from penchant.evaluate.planted_judge import PlantedJudge, planted_items
from penchant.reproductions.real_data import real_data
from penchant.reproductions.verdict import Verdict
from penchant.statistics import Interval, nested_bootstrap, wilson

CLAIM = (
    "Planted biases of 5 points are measured truly and found, unbiased judges are not flagged; and a real judge "
    "follows a fake majority beyond a placebo, which a system prompt reduces"
)
METRIC = (
    "how much more often SmolLM2-135M chooses a wrong option beside a fake majority (ours) and a placebo (baseline)"
)
SEEDS = {"quick": 2, "full": 5}
POINTS = 0.05
PLANTED = (
    "bandwagon",
    "authority",
    "last place",
    "letter A",
    "distraction",
    "reflection",
    "verbosity",
    "injection",
    "empty answer",
    "constant answer",
)
_PAPERS = ("bandwagon", "authority", "position", "distraction", "reflection")  # the biases of the paper


@dataclass(frozen=True)
class Scale:
    """Sizes of one seed's run.

    Attributes:
        planted: audits of judges with a planted bias.
        unbiased: audits of judges without.
        cosine: items for the cosine judge.
        letters: items for the language model.
        biases: that the language model is audited for.
        mitigations: that it is tried with.
    """

    planted: int
    unbiased: int
    cosine: int
    letters: int
    biases: tuple[str, ...] = _PAPERS
    mitigations: tuple[str, ...] = ("system prompt", "in context", "self-reflection")


_SCALES = {
    "quick": Scale(5, 10, 20, 6, ("bandwagon",), ("system prompt",)),
    "full": Scale(40, 40, 60, 6),
}

_CAPITALS = {
    "France": "Paris",
    "Italy": "Rome",
    "Spain": "Madrid",
    "Germany": "Berlin",
    "Japan": "Tokyo",
    "Egypt": "Cairo",
    "Peru": "Lima",
    "Cuba": "Havana",
    "Kenya": "Nairobi",
    "Greece": "Athens",
    "Norway": "Oslo",
    "Sweden": "Stockholm",
    "Poland": "Warsaw",
    "Austria": "Vienna",
    "Hungary": "Budapest",
    "Portugal": "Lisbon",
    "Ireland": "Dublin",
    "Finland": "Helsinki",
    "Denmark": "Copenhagen",
    "Canada": "Ottawa",
    "China": "Beijing",
    "India": "New Delhi",
    "Iran": "Tehran",
    "Iraq": "Baghdad",
    "Chile": "Santiago",
    "Argentina": "Buenos Aires",
    "Russia": "Moscow",
    "Thailand": "Bangkok",
    "South Korea": "Seoul",
    "Belgium": "Brussels",
}


def facts(n: int, rng: np.random.Generator) -> list[Item]:
    """Capitals and sums, one after the other, each with one wrong option."""
    items = []
    names = rng.permutation(list(_CAPITALS))
    for number in range(n):
        if number % 2:
            a, b = (int(one) for one in rng.integers(10, 90, size=2))
            wrong = a + b + int(rng.choice([-11, -10, -2, -1, 1, 2, 10, 11]))
            options, question = (str(a + b), str(wrong)), f"What is {a} + {b}?"
        else:
            land, other = names[number // 2 % len(names)], names[(number // 2 + 7) % len(names)]
            options, question = (_CAPITALS[land], _CAPITALS[other]), f"What is the capital of {land}?"
        items.append(Item(question, options, 0, "fact"))
    return items


def preferences(n: int, rng: np.random.Generator, *, longest: int = 160) -> list[Item]:
    """Instructions with the better of two outputs (LLMBar), against the better one for another instruction.

    Returns:
        At most n items; none where the development data is not there.
    """
    path = real_data("llmbar_judges/pairs.jsonl.gz")
    if path is None:
        return []
    answers: dict[str, str] = {}
    for line in gzip.decompress(path.read_bytes()).splitlines():
        row = json.loads(line)
        response = row[f"output_{row['label']}"].strip()
        if len(row["input"]) < longest and len(response) < longest and response not in answers.values():
            answers[row["input"]] = response
    questions = sorted(answers)
    order = rng.permutation(len(questions))
    rows = [
        {"question": questions[i], "options": [answers[questions[i]], answers[questions[j]]], "correct": 0}
        for i, j in zip(order, np.roll(order, 1), strict=True)
    ]
    return items_of(rows)[0][:n]


@cache
def weight(name: str) -> float:
    """Logits with which a simulated judge has a bias of 5 points."""
    return float(brentq(lambda logits: PlantedJudge({name: logits}).true_bias(name) - POINTS, 0.0, 5.0))


@cache
def n_planted() -> int:
    """Items for finding 5 points in 97 of 100 audits, at the simulated judge's own noise."""
    node, mass = np.polynomial.hermite_e.hermegauss(80)
    plain = PlantedJudge({})
    p = 1 / (1 + np.exp(-(plain.quality + plain.spread * node)))
    floor = float((p**2 + (1 - p) ** 2) @ mass / mass.sum())
    return items_needed(POINTS, floor=floor, n_tests=len(PLANTED), power=0.97)


def simulated(seed: int, sizes: Scale) -> dict[str, Any]:
    """Part 1: of each audit the planted bias, its estimate, whether covered and found, other flags; and false flags."""
    planted = []
    items, few = planted_items(n_planted()), planted_items(300)
    for number in range(sizes.planted):
        name = PLANTED[(seed * sizes.planted + number) % len(PLANTED)]
        own = 1000 * seed + number
        judge = PlantedJudge({name: weight(name)}, seed=own)
        audit = _of_simulated(judge, items, own)
        finding = next(one for one in audit.findings if one.name == name)
        others = [one.name for one in audit.findings if one.flagged and one.name != name]
        covered = finding.bias.low <= POINTS <= finding.bias.high
        planted.append([name, finding.bias.estimate, bool(covered), bool(finding.flagged), others])
    flagged = []
    for number in range(sizes.unbiased):
        own = 1000 * seed + 500 + number
        audit = _of_simulated(PlantedJudge({}, seed=own), few, own)
        flagged.append([one.name for one in audit.findings if one.flagged])
    return {"planted": planted, "unbiased": flagged, "n_items": len(items)}


def _of_simulated(judge: Judge, items: list[Item], seed: int) -> BiasAudit:
    return judge_bias(
        judge, items, biases=BIASES, mitigations=(), seed=seed, n_resamples=1000, questions_at_once=100_000
    )


@cache
def small_chat() -> Judge | None:
    """SmolLM2-135M-Instruct by its letters; None where its package or torch is missing."""
    try:
        from penchant.policies.language import LanguagePolicy

        return LetterJudge(LanguagePolicy("small-chat"), cache=RowCache())
    except (ImportError, MissingExtraError):
        return None


def real(judge: Judge, items: list[Item], seed: int, biases: tuple[str, ...], mitigations: tuple[str, ...]) -> Any:
    """Values of each item: of all biases beside wrong options, and of the mitigations against the bandwagon."""
    settings: dict[str, Any] = {"targets": ("wrong",), "seed": seed, "n_resamples": 1000}
    found = judge_bias(judge, items, biases=biases, mitigations=(), **settings)
    values = dict(found.values)
    if mitigations and judge.reads_prompts:
        values |= judge_bias(judge, items, biases=("bandwagon",), mitigations=mitigations, **settings).values
    return {name: one.tolist() for name, one in values.items()}


def run(seed: int, scale: str, progress: Callable[[str], None]) -> dict[str, Any]:
    """Simulated audits, and both real judges on one sample of items.

    Args:
        seed: of all of it.
        scale: "quick" or "full".
        progress: called with a line on what goes on.

    Returns:
        `simulated` as `simulated` gives it; `judges`: name -> values of each item; `n_preferences` among the items.
    """
    sizes = _SCALES[scale]
    progress("simulated judges")
    result: dict[str, Any] = {"simulated": simulated(seed, sizes), "judges": {}, "n_preferences": {}}
    for name, n, made in (("MiniLM cosine", sizes.cosine, _cosine), ("SmolLM2-135M", sizes.letters, small_chat)):
        if not n:
            continue
        progress(name)
        rng = np.random.default_rng([30, 2, seed])
        preferred = preferences(n // 2, rng)
        items = preferred + facts(n - len(preferred), rng)
        try:
            judge = made()
            if judge is not None:
                result["judges"][name] = real(judge, items, seed, sizes.biases, sizes.mitigations)
                result["n_preferences"][name] = len(preferred)
        except MissingExtraError:
            continue
    return result


def _cosine() -> Judge:
    return RewardJudge("MiniLM cosine", Similarity(Cached(MiniLM(), RowCache())))


def over_seeds(runs: list[dict[str, Any]], judge: str, name: str) -> Interval | None:
    """Interval of one value of a judge, over seeds and the items of each; None where it was not measured."""
    columns = [run["judges"].get(judge, {}).get(name) for run in runs]
    columns = [column for column in columns if column]
    if not columns:
        return None
    sizes = [len(column) for column in columns]
    return nested_bootstrap(
        np.concatenate(columns),
        seeds=np.repeat(np.arange(len(columns)), sizes),
        clusters=np.concatenate([np.arange(n) for n in sizes]),
    )


def verdict(runs: list[dict[str, Any]]) -> Verdict:
    """Holds if the audit measures what was planted (A), and the language model shows the bias and the help (B).

    Args:
        runs: what `run` gave for each seed.
    """
    planted = [one for run in runs for one in run["simulated"]["planted"]]
    unbiased = [one for run in runs for one in run["simulated"]["unbiased"]]
    covered, found = (wilson(sum(one[k] for one in planted), len(planted)) for k in (2, 3))
    false = wilson(sum(bool(one) for one in unbiased), len(unbiased))
    others = wilson(sum(bool(one[4]) for one in planted), len(planted))
    a = covered.estimate >= 0.9 and found.estimate >= 0.95 and false.estimate <= 0.05
    net = over_seeds(runs, "SmolLM2-135M", "net/bandwagon/wrong")
    pull = over_seeds(runs, "SmolLM2-135M", "pull/bandwagon/wrong")
    helped = over_seeds(runs, "SmolLM2-135M", "reduction/system prompt/bandwagon")
    b = net is not None and helped is not None and net.low > 0 and helped.low > 0
    notes = [
        f"(A) {_said(a)}: of {len(planted)} audits of simulated judges with one bias of 5 points, on "
        f"{runs[0]['simulated']['n_items']} items: 95 % intervals cover it in {_percent(covered)}, needed 90; found in "
        f"{_percent(found)}, needed 95. Of {len(unbiased)} judges without a bias, on 300 items, {_percent(false)} are "
        f"flagged for anything, needed 5 at most; another bias than the planted one was flagged in {_percent(others)}.",
    ]
    if net is None or pull is None or helped is None:
        notes.append("(B) not run: the language model's package is not installed.")
    else:
        where = "" if b else " at this size"
        notes.append(
            f"(B) {_said(b)}{where}: SmolLM2-135M, points: bandwagon minus placebo {_shown(net)}, needed above 0; the "
            f"system prompt takes {_shown(helped)} off the pull, needed above 0."
        )
    for judge in ("SmolLM2-135M", "MiniLM cosine"):
        notes += _of_judge(runs, judge)
    mean = float(np.mean([one[1] for one in planted]))
    return Verdict(
        mean if pull is None else pull.estimate,
        POINTS if pull is None or net is None else pull.estimate - net.estimate,
        Interval(mean - POINTS, -1.0, 1.0, 0.95, len(planted)) if net is None else net,
        bool(a and b),
        tuple(notes),
    )


def _of_judge(runs: list[dict[str, Any]], judge: str) -> list[str]:
    measured = [run["judges"][judge] for run in runs if judge in run["judges"]]
    if not measured:
        return []
    n = sum(len(one["correct"]) for one in measured)
    real_ones = sum(run["n_preferences"].get(judge, 0) for run in runs)
    parts = []
    for name in measured[0]:
        interval = over_seeds(runs, judge, name)
        if interval is not None and not name.startswith("pull/"):
            parts.append(f"{name.removesuffix('/wrong')} {_shown(interval, signed=name not in _SHARES)}")
    return [f"{judge}, {n} items ({real_ones} with real responses), points: {'; '.join(parts)}."]


_SHARES = ("correct", "consistency")


def _said(holds: bool) -> str:
    return "holds" if holds else "does not hold"


def _percent(one: Interval) -> str:
    return f"{100 * one.estimate:.1f} % [{100 * one.low:.1f}, {100 * one.high:.1f}]"


def _shown(one: Interval, *, signed: bool = True) -> str:
    sign = "+" if signed else ""
    return f"{100 * one.estimate:{sign}.1f} [{100 * one.low:{sign}.1f}, {100 * one.high:{sign}.1f}]"


def figure(runs: list[dict[str, Any]]) -> Any:
    """Estimates of planted biases, and what moves the real judges.

    Args:
        runs: what `run` gave for each seed.
    """
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(11, 4.8), layout="constrained")
    left, right = drawing.subplots(1, 2)
    planted = [one for run in runs for one in run["simulated"]["planted"]]
    for row, name in enumerate(PLANTED):
        estimates = [100 * one[1] for one in planted if one[0] == name]
        left.plot(estimates, [row] * len(estimates), "o", color="#2f5fa8", alpha=0.35, mew=0)
    left.axvline(100 * POINTS, color="#1c2330", lw=1)
    left.axvline(0, color="#1c2330", lw=0.8, ls=":")
    left.set_yticks(range(len(PLANTED)), labels=PLANTED)
    left.invert_yaxis()
    left.set_xlabel("bias that audits of simulated judges find, points (planted: 5)")
    names = [f"net/{name}/wrong" for name in _PAPERS if name != "position"] + ["last place", "letter A"]
    names += [f"reduction/{one}/bandwagon" for one in _SCALES["full"].mitigations]
    labels = {name: name.removeprefix("net/").removesuffix("/wrong").replace("/bandwagon", "") for name in names}
    labels = {name: label.replace("reduction/", "less bandwagon: ") for name, label in labels.items()}
    for k, (judge, colour) in enumerate((("SmolLM2-135M", "#b4452c"), ("MiniLM cosine", "#1f6f5c"))):
        label = judge
        for row, name in enumerate(names):
            one = over_seeds(runs, judge, name)
            if one is not None:
                ends = [[100 * (one.estimate - one.low)], [100 * (one.high - one.estimate)]]
                at = [100 * one.estimate], [row + 0.2 * k - 0.1]
                right.errorbar(*at, xerr=ends, fmt="o", color=colour, ms=4, label=label)
                label = ""
    right.axvline(0, color="#1c2330", lw=0.8, ls=":")
    right.set_yticks(range(len(names)), labels=[labels[name] for name in names])
    right.invert_yaxis()
    right.set_xlabel("towards a wrong option beyond the placebo, points, 95 %")
    if right.get_legend_handles_labels()[0]:
        right.legend(fontsize=8, frameon=False)
    return drawing
