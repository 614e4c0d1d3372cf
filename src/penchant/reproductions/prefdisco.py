"""Personalised reasoning: do models ask and then answer better, and does it pay to ask what the population says?

(A) A real model. SmolLM2-135M-Instruct answers short problems for **simulated people** in three conditions (the
question alone, a talk of at most five questions, everything told), greedily, 96 tokens. People answer by rules, and the
twelve kinds of wishes are graded by rules, so that the only model is the one under test. Claim A, the paper's: some of
the naive attempts to personalise are worse than generic answers, the 95 % lower bound (Wilson) of their share above
0.10. A model that never changes its answer gives ties, not losses. What the paper does not ask: more of them must be
worse than better (sign test, 5 %), else a talk does no more than another draw of the answer would.

(B) Policies in a **simulated, exact world**. A composer realises each wish it was told, and no other, so that what it
asks is all that matters. New people of four kinds ask held-out problems; the policies know 30 earlier people on other
problems. Claim B: at three questions prior-guided asking has a higher NormAlign than random asking, with an interval
over people within worlds above 0. Beside them: the commonest wish first, every budget, and the same where everybody is
a kind of their own, so that answers say nothing about each other. It is checked in each world that knowing everything
gives 100 and asking nothing gives 0, exactly.

Part A is run with scale full only; it needs the llama.cpp engine. It has 32 pairs, so that it takes minutes. That more
must be worse than better was added when 10 were worse and 6 better; nothing else was chosen by looking at results. Left
out: 21 large models, ten benchmarks, graders that are models.

What we saw: B holds, A does not. The model is too small to ask: it never kept to the form, asked nothing, and answered
at once, half of the time as well as without the talk, and else worse and better much alike.

Source:
    Li et al. (2025), PrefDisco: Benchmarking Proactive Personalized Reasoning. arXiv 2510.00177.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from penchant.chat import Cached, ChatModel, LlamaChat
from penchant.errors import MissingExtraError
from penchant.evaluate.alignment import norm_align
from penchant.evaluate.attributes import ATTRIBUTES
from penchant.evaluate.discovery import Discovery, Row
from penchant.evaluate.discovery_tasks import Task, assigned
from penchant.evaluate.graders import ByRules, CorrectByRules
from penchant.evaluate.passive_user import ByRules as RuledUser
from penchant.reproductions.forms_of_answers import Composer, people_of_kinds, population, problems
from penchant.reproductions.verdict import Verdict
from penchant.statistics import Interval, nested_bootstrap, wilson
from penchant.steer.elicitation import MostFrequent, Population, PriorGuided, RandomOrder

CLAIM = (
    "Naive attempts to personalise are often worse than generic answers (lower bound of their share above 0.10), and "
    "more often worse than better; asking what a population of earlier people says beats asking at random."
)
METRIC = "NormAlign at three questions, prior-guided asking against random asking, new people in simulated worlds"
SEEDS = {"quick": 3, "full": 8}

Floats = NDArray[np.float64]
BUDGET = 3
POLICIES = ("random", "most frequent", "prior-guided")
_BUDGETS = {"tiny": (BUDGET,), "quick": (BUDGET,), "full": (1, 2, 3, 4, 5)}
_PAIRS = {"tiny": 12, "quick": 80, "full": 200}
_N_PAST, _N_NEW, _N_KINDS, _N_HELD_OUT = 30, 50, 4, 4
_PAIRS_OF_MODELS = 4  # of each seed
_TOKENS = 96


# Part B --------------------------------------------------------------------------------------------------------------


def world(seed: int, n_pairs: int, n_kinds: int) -> tuple[Population, list[Task]]:
    """What earlier people wanted of nine problems in ten, and tasks of new people on the others."""
    asked = problems(seed)
    rng = np.random.default_rng([4, seed, 4])
    everybody, tastes = people_of_kinds(_N_PAST + _N_NEW, n_kinds, rng)
    past = assigned(asked[_N_HELD_OUT:], everybody[:_N_PAST], tastes=tastes, seed=seed)
    new = assigned(asked[:_N_HELD_OUT], everybody[_N_PAST:], tastes=tastes, n_pairs=n_pairs, seed=seed)
    return population(past), new


def policies(past: Population, seed: int) -> dict[str, Any]:
    """The three, by name; `nothing` and `everything` are the ends of the scale."""
    return {
        "random": RandomOrder(past, np.random.default_rng([4, seed, 5])),
        "most frequent": MostFrequent(past),
        "prior-guided": PriorGuided(past),
    }


def _scores(rows: Sequence[Row]) -> list[float]:
    return [row["weighted_score"] for row in rows]


def in_the_exact_world(seed: int, scale: str, n_kinds: int) -> dict[str, Any]:
    """Alignment of each task under each policy and budget, and whether the ends of the scale are exact."""
    past, tasks = world(seed, _PAIRS[scale], n_kinds)
    asked = problems(seed)
    settings: dict[str, Any] = {"user": RuledUser(), "grader": ByRules(), "correctness": CorrectByRules()}
    quiet: dict[str, Any] = {"progress": False, "say": lambda line: None}

    def answered(policy: Any, name: str, budget: int, mode: str) -> list[Row]:
        model = Composer(asked, policy, name=name, budget=budget)
        turns = max(budget, 1)
        return Discovery([model], max_turns=turns, temperature=0, **settings).run(tasks, modes=[mode], **quiet)

    baseline, oracle = (_scores(answered(None, "composer", 0, mode)) for mode in ("no_prompt", "persona_known"))
    everything = answered(MostFrequent(past), "everything", len(ATTRIBUTES), "infer_persona")
    nothing = answered(None, "nothing", 0, "infer_persona")
    found = {
        name: {str(budget): answered(policy, name, budget, "infer_persona") for budget in _BUDGETS[scale]}
        for name, policy in policies(past, seed).items()
    }
    every = [row for runs in found.values() for rows in runs.values() for row in rows]
    return {
        "baseline": baseline,
        "oracle": oracle,
        "policies": {name: {b: _scores(rows) for b, rows in runs.items()} for name, runs in found.items()},
        "people": [task.persona.name for task in tasks],
        "ends": [norm_align(baseline, _scores(rows), oracle) for rows in (nothing, everything)],
        "right": float(np.mean([row["correct"] for row in every])),
        "heard": {name: _heard(runs[str(BUDGET)]) for name, runs in found.items()},
    }


def _heard(rows: Sequence[Row]) -> float:
    """Share of the wishes, by weight, that were told."""
    return float(np.mean([sum(row["preferences"][name][1] for name in row["preferences_expressed"]) for row in rows]))


# Part A --------------------------------------------------------------------------------------------------------------


def small_chat() -> ChatModel | None:
    """The embedded model; None without it or its engine."""
    try:
        return Cached(LlamaChat("small-chat", context=4096, n_at_once=1))
    except MissingExtraError:
        return None


def with_models(seed: int, models: Sequence[ChatModel]) -> list[Row]:
    """All three conditions for the pairs of one seed, greedily."""
    everybody, tastes = people_of_kinds(_N_PAST, 0, np.random.default_rng([4, seed, 6]))
    tasks = assigned(problems(seed), everybody, tastes=tastes, n_pairs=_PAIRS_OF_MODELS, seed=seed)
    run = Discovery(
        models,
        user=RuledUser(may_stop=True),
        grader=ByRules(),
        correctness=CorrectByRules(),
        temperature=0.0,
        max_tokens=_TOKENS,
        seed=seed,
    )
    kept = ("model", "problem_id", "persona_id", "mode", "weighted_score", "correct", "interaction_turns")
    more = ("malformed_turns", "failures", "preferences_expressed", "preferences")
    rows = run.run(tasks, progress=False, say=lambda line: None)
    return [
        {name: row[name] for name in (*kept, *more)}
        | {"response": row["conversation"][-1]["content"] if row["conversation"] else ""}
        for row in rows
    ]


def run(seed: int, scale: str, progress: Callable[[str], None]) -> dict[str, Any]:
    """One seed: a world with kinds of people, one without, and with scale full a share of the real talks."""
    found: dict[str, Any] = {
        "kinds": in_the_exact_world(seed, scale, _N_KINDS),
        "no kinds": in_the_exact_world(seed, scale, 0),
        "talks": [],
    }
    if scale == "full":
        progress("talks with a real model")
        model = small_chat()
        found["talks"] = [] if model is None else with_models(seed, [model])
    return found


# What is concluded ---------------------------------------------------------------------------------------------------


def advantage(runs: Sequence[Mapping[str, Any]], of: str, over: str, budget: int, which: str = "kinds") -> Interval:
    """NormAlign of a policy minus that of another, mean over worlds; people within worlds resampled.

    The room between baseline and oracle is that of the whole world, so that no answer's own small room rules.
    """
    values, seeds, people = [], [], []
    for number, one in enumerate(runs):
        place = one[which]
        room = float(np.mean(place["oracle"]) - np.mean(place["baseline"]))
        ours, theirs = (np.array(_of(place, name, budget)) for name in (of, over))
        values.append(100 * (ours - theirs) / room)
        seeds += [number] * len(ours)
        people += place["people"]
    return nested_bootstrap(np.concatenate(values), seeds=seeds, clusters=people)


def _of(place: Mapping[str, Any], name: str, budget: int) -> list[float]:
    return list(place["baseline"] if name == "nothing" else place["policies"][name][str(budget)])


def reached(runs: Sequence[Mapping[str, Any]], name: str, budget: int, which: str = "kinds") -> float:
    """NormAlign of a policy, mean over worlds."""
    return float(
        np.mean([norm_align(r[which]["baseline"], _of(r[which], name, budget), r[which]["oracle"]) for r in runs])
    )


def by_model(runs: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """What came of the real talks, model by model: alignments of the complete pairs, rightness, turns."""
    rows: dict[str, dict[tuple[int, str, str], dict[str, Row]]] = {}
    for number, one in enumerate(runs):
        for row in one["talks"]:
            pair = (number, row["problem_id"], row["persona_id"])
            rows.setdefault(row["model"], {}).setdefault(pair, {})[row["mode"]] = row
    return {model: _of_model(list(pairs.values())) for model, pairs in rows.items()}


def _of_model(pairs: Sequence[Mapping[str, Row]]) -> dict[str, Any]:
    modes = ("no_prompt", "infer_persona", "persona_known")
    whole = [pair for pair in pairs if all(pair[mode]["weighted_score"] is not None for mode in modes)]
    talks = [pair["infer_persona"] for pair in whole]
    return {
        "n": len(whole),
        "incomplete": len(pairs) - len(whole),
        "align": {mode: np.array([pair[mode]["weighted_score"] for pair in whole]) for mode in modes},
        "right": {mode: float(np.mean([pair[mode]["correct"] for pair in whole])) for mode in modes},
        "turns": float(np.mean([row["interaction_turns"] for row in talks])),
        "malformed": float(np.mean([row["malformed_turns"] > 0 for row in talks])),
        "expressed": float(np.mean([len(row["preferences_expressed"]) / len(row["preferences"]) for row in talks])),
    }


def verdict(runs: list[dict[str, Any]]) -> Verdict:
    """Holds if claims A and B hold; a claim that was not run does not.

    Args:
        runs: what `run` gave for at least two seeds.
    """
    gain = advantage(runs, "prior-guided", "random", BUDGET)
    frequent = advantage(runs, "prior-guided", "most frequent", BUDGET)
    alone = advantage(runs, "prior-guided", "random", BUDGET, "no kinds")
    exact = all(abs(end[0]) < 1e-9 and abs(end[1] - 100) < 1e-9 for r in runs for end in (r["kinds"]["ends"],))
    b = gain.low > 0 and exact
    talks = {name: found for name, found in by_model(runs).items() if found["n"]}
    worse, better, ties = (
        (sum(values) for values in zip(*map(_changes, talks.values()), strict=True)) if talks else (0, 0, 0)
    )
    n = worse + better + ties
    share = wilson(worse, n) if n else None
    a = share is not None and share.low > 0.10 and _more_worse(worse, better) < 0.05
    heard = {name: np.mean([r["kinds"]["heard"][name] for r in runs]) for name in POLICIES}
    said = "A was not run, so that the whole does not hold here: it needs scale full and the llama.cpp engine"
    if share:
        said = (
            f"A {_says(a)}: of {n} attempts of a real model to personalise {100 * share.estimate:.1f} % "
            f"[{100 * share.low:.1f}, {100 * share.high:.1f}] are worse than the generic answer, {ties} are ties, and "
            f"{better} are better (more worse than better: p = {_more_worse(worse, better):.2f}, sign test)"
        )
    return Verdict(
        ours=reached(runs, "prior-guided", BUDGET),
        baseline=reached(runs, "random", BUDGET),
        interval=gain,
        holds=bool(a and b),
        notes=(
            f"people and wishes are simulated; {len(runs)} worlds",
            f"B {_says(b)}: at {BUDGET} questions prior-guided over random {_shown(gain)} points of NormAlign; "
            f"over the commonest first {_shown(frequent)}; asking nothing gives 0 and everything 100: {exact}",
            "share of the wishes heard by weight: " + ", ".join(f"{name} {100 * x:.0f} %" for name, x in heard.items()),
            f"where everybody is a kind of their own, prior-guided over random {_shown(alone)}",
            f"the composer is right in {100 * np.mean([r['kinds']['right'] for r in runs]):.1f} % of answers",
            said,
            *[_model_note(name, found) for name, found in talks.items()],
        ),
    )


def _changes(found: Mapping[str, Any]) -> tuple[int, int, int]:
    """Attempts that are worse than the generic answer, better, and as good."""
    change = found["align"]["infer_persona"] - found["align"]["no_prompt"]
    worse, better = int((change < -1e-9).sum()), int((change > 1e-9).sum())
    return worse, better, len(change) - worse - better


def _more_worse(worse: int, better: int) -> float:
    return float(binomtest(worse, worse + better, alternative="greater").pvalue) if worse + better else 1.0


def _model_note(name: str, found: Mapping[str, Any]) -> str:
    align, right = found["align"], found["right"]
    worse, better, ties = _changes(found)
    generic, talked, told = (values.mean() for values in align.values())
    share = wilson(worse, found["n"])
    value = norm_align(align["no_prompt"], align["infer_persona"], align["persona_known"])
    shown = f"{value:.0f}" if np.isfinite(value) else "undefined (knowing everything is no better)"
    return (
        f"{name}: worse {worse}, better {better}, ties {ties} of {found['n']} ({100 * share.estimate:.0f} % "
        f"[{100 * share.low:.0f}, {100 * share.high:.0f}] worse; {found['incomplete']} incomplete); alignment "
        f"{generic:.2f} generic, {talked:.2f} "
        f"after the talk, {told:.2f} knowing everything, NormAlign {shown}; right "
        f"{100 * right['no_prompt']:.0f} %, {100 * right['infer_persona']:.0f} %, "
        f"{100 * right['persona_known']:.0f} %; {found['turns']:.2f} questions asked, "
        f"{100 * found['expressed']:.0f} % of the wishes heard, in {100 * found['malformed']:.0f} % of talks a turn "
        "without the form"
    )


def _shown(found: Interval) -> str:
    return f"{found.estimate:+.1f} [{found.low:+.1f}, {found.high:+.1f}]"


def _says(holds: bool) -> str:
    return "holds" if holds else "does not hold"


def figure(runs: list[dict[str, Any]]) -> Any:
    """Left: NormAlign by budget of each policy; right: gain of each real attempt, sorted."""
    from matplotlib.figure import Figure

    plot = Figure(figsize=(11, 4), layout="constrained")
    left, right = plot.subplots(1, 2)
    budgets = sorted(map(int, runs[0]["kinds"]["policies"]["random"]))
    for number, name in enumerate(POLICIES):
        for which, style in (("kinds", "o-"), ("no kinds", "o:")):
            values = [reached(runs, name, budget, which) for budget in budgets]
            label = name if which == "kinds" else None
            left.plot([0, *budgets], [0, *values], style, color=f"C{number}", ms=4, label=label)
    left.plot([], [], ":", color="black", label="everybody a kind of their own")
    left.set_xticks([0, *budgets])
    left.set_xlabel("questions")
    left.set_ylabel("NormAlign (0 generic, 100 everything known)")
    left.set_title(f"policies of asking in {len(runs)} simulated worlds", fontsize=10)
    left.legend(frameon=False, fontsize=8)
    talks = by_model(runs)
    for number, (name, found) in enumerate(talks.items()):
        change = np.sort(found["align"]["infer_persona"] - found["align"]["no_prompt"])
        short = name.removeprefix("llama.cpp/").rsplit("-", 1)[0]
        right.step(np.linspace(0, 100, len(change)), change, color=f"C{number}", where="mid", label=short)
    right.set_title("real models, simulated people", fontsize=10)
    if not talks:
        right.text(0.5, 0.5, "not run: needs scale full", ha="center", transform=right.transAxes)
        right.set_axis_off()
        return plot
    right.axhline(0, color="black", lw=0.8)
    right.set_xlabel("talks, worst first (%)")
    right.set_ylabel("alignment after a talk minus generic (1..5)")
    right.legend(frameon=False, fontsize=8)
    return plot
