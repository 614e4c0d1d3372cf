"""Do models tuned on preferences give preferred answers the higher likelihood? At laptop scale.

Chen, Malladi, Zhang, Chen, Zhang, Ranganath and Cho 2024, "Preference learning algorithms do not learn preference
rankings", NeurIPS 2024 (arXiv 2405.19534).

A reference is tuned on preferred answers, then DPO (beta 0.1) on pairs. The claim has four parts, each judged by an
interval: (A) reference and DPO rank fewer than 60 % of held-out pairs right (upper bound below 65 %); (B) the best
possible policy of DPO's own objective would rank at least 10 points more of them right; (C) at the checkpoint of lowest
validation loss DPO has mended fewer than half of the *training* pairs that the reference ranks wrong, the difficult
ones least; (D) a pair is ranked right exactly if its DPO loss is below the theorem's threshold, on every pair.

`quick` is **simulated**: a small causal transformer trained from scratch on sentences of a made-up language (words
follow each other by a sparse chain, answers end at random), where nine simulated people with topic-dependent tastes
vote on every pair, so that the share alpha of people who prefer `chosen` is known. `full` takes real pairs (Anthropic
HH, harmless) and the 135M chat model; alpha is unknown there and 0.75, as in the paper. On these pairs we saw A, C and
D hold and B fail: a share of 0.75 lets the idealised policy move a pair by log(3) / 0.1 = 11 nats, and on four pairs
in ten the reference prefers the other answer by more than that.

Left out: models of 7B and more, and win rates by a judge. Steps and learning rates were chosen on seeds from 100 on,
for a reference that has learnt the language and a DPO run that goes past its lowest validation loss; the reported seeds
are 0, 1, ...
"""

import gzip
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from penchant.errors import DataError
from penchant.evaluate.ranking_accuracy import (
    Likelihoods,
    Trend,
    audit,
    difficulty_trend,
    idealised_margin,
    ranked_right,
    threshold_agreement,
)
from penchant.preference.newton import newton
from penchant.records import Comparisons
from penchant.reproductions.made_up_language import VOCABULARY, Language, Pairs, word_differences
from penchant.reproductions.verdict import Verdict
from penchant.reproductions.word_policy import WordPolicy
from penchant.statistics import Interval, nested_bootstrap, wilson

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = (
    "Models tuned on preferences rank fewer than 60 % of held-out pairs right, far fewer than the best policy of the "
    "same objective would; DPO mends fewer than half of the pairs its reference ranks wrong, the difficult ones least"
)
METRIC = "share of held-out pairs ranked right: the idealised policy (ours) against the DPO-tuned model (baseline)"
SEEDS = {"quick": 4, "full": 2}
BETA = 0.1
BETAS = (0.01, 0.1, 1.0, 5.0, 10.0)

Floats = NDArray[np.float64]
PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Scale:
    """Sizes of a run.

    Attributes:
        n_pairs: pairs to train on, to choose the checkpoint by, and to test on.
        imitation: steps, examples per step and learning rate of each supervised stage.
        tuning: the same of DPO.
        n_evaluations: checkpoints at which every pair is ranked.
        others: further objectives that are tuned from the same reference.
    """

    n_pairs: tuple[int, int, int]
    imitation: tuple[tuple[int, int, float], ...]
    tuning: tuple[int, int, float]
    n_evaluations: int
    others: tuple[str, ...]


_SCALES = {
    "quick": Scale(
        (150, 50, 200),
        ((40, 40, 6e-3), (5, 30, 1e-3)),
        (30, 30, 2e-3),
        3,
        ("gamma 0", "gamma 0.25", "gamma 0.5", "ipo"),
    ),
    "full": Scale((200, 60, 200), ((25, 8, 1e-5),), (50, 8, 1e-5), 2, ()),
}
_OBJECTIVES: dict[str, dict[str, Any]] = {
    "dpo": {"beta": BETA},
    **{
        f"gamma {gamma:g}": {"objective": "gamma_dpo", "beta": BETA, "options": {"gamma": gamma}}
        for gamma in (0.0, 0.25, 0.5)
    },
    "ipo": {"objective": "ipo", "beta": BETA},
}


# Real pairs


def real_pairs(n: int, seed: int, encode: Callable[..., Any], *, most_tokens: int = 160) -> Pairs:
    """Short pairs of the HH set under the folder that PENCHANT_DATA names, in an order of the seed's.

    Raises:
        DataError: the set is not there, or has fewer short pairs.
    """
    path = Path(os.environ.get("PENCHANT_DATA", "")) / "hh_harmless_test" / "pairs.jsonl.gz"
    if "PENCHANT_DATA" not in os.environ or not path.is_file():
        raise DataError(
            "The full scale needs real pairs: set PENCHANT_DATA to a folder with hh_harmless_test/pairs.jsonl.gz (one "
            "JSON object with prompt, chosen and rejected a line). The quick scale needs nothing."
        )
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    found: list[dict[str, str]] = []
    for i in np.random.default_rng(seed).permutation(len(rows)):
        row = {name: rows[i][name] for name in ("prompt", "chosen", "rejected")}
        if len(found) == n:
            break
        if not (row["chosen"].strip() and row["rejected"].strip()) or row["chosen"] == row["rejected"]:
            continue
        if sum(map(len, row.values())) < 8 * most_tokens and (
            encode(row["prompt"], [row["chosen"], row["rejected"]]).n_tokens <= most_tokens
        ):
            found.append(row)
    if len(found) < n:
        raise DataError(f"{path.name} has {len(found)} pairs of at most {most_tokens} tokens, but {n} are needed.")
    return Pairs(Comparisons.from_rows(found), np.full(n, 0.75))


# Training and measuring


def likelihoods(policy: Any, comparisons: Comparisons, *, pairs_at_once: int = 64) -> Likelihoods:
    """Log-probability and length of both answers of every pair under a policy."""
    import torch

    from penchant.policies.sequences import packed, padded

    examples = [policy.encode(row["prompt"], [row["chosen"], row["rejected"]]) for row in comparisons.table.to_pylist()]
    sums, lengths = [], []
    policy.model.eval()
    join = packed if policy.can_pack else padded
    with torch.no_grad():
        for start in range(0, len(examples), pairs_at_once):
            scores = policy.scores(policy.model, join(examples[start : start + pairs_at_once], pad=0))
            sums.append(scores.sums().view(-1, 2).double().cpu().numpy())
            lengths.append(scores.lengths().view(-1, 2).cpu().numpy())
    table, counts = np.concatenate(sums), np.concatenate(lengths)
    return Likelihoods(table[:, 0], table[:, 1], counts[:, 0], counts[:, 1])


def watched(settings: dict[str, Any]) -> Any:
    """A DPO aligner that keeps every pair's log-probabilities at each evaluation, in `.seen`, [pairs, 2] a batch."""
    from penchant.align.dpo import DPO

    class Watched(DPO):
        seen: list[Floats]

        def metrics(self, log_probabilities: Any, batch: Any) -> dict[str, Any]:
            if not log_probabilities.values.requires_grad:  # an evaluation, not a step
                self.seen.append(log_probabilities.sums().view(-1, 2).double().cpu().numpy())
            return super().metrics(log_probabilities, batch)

    aligner = Watched(**settings)
    aligner.seen = []
    return aligner


def tuned(policy: Any, name: str, pairs: dict[str, Pairs], scale: Scale, seed: int) -> list[dict[str, Floats]]:
    """Tune the policy in place and rank every pair on the way.

    Returns:
        Per evaluation, log-probabilities of each part's pairs, [pairs, 2].
    """
    from penchant.align.trainer import TrainerSettings, train
    from penchant.cache import RowCache

    steps, examples, rate = scale.tuning
    aligner = watched(_OBJECTIVES[name])
    with tempfile.TemporaryDirectory(prefix="penchant-ranking-") as folder:
        train(
            aligner,
            policy,
            pairs["train"].comparisons,
            settings=TrainerSettings(
                steps=steps,
                examples_per_batch=examples,
                learning_rate=rate,
                seed=seed,
                eval_steps=steps // scale.n_evaluations,
                precision="fp32",
            ),
            folder=Path(folder),
            held_out=Comparisons.concat([pairs[part].comparisons for part in PARTS]),
            cache=RowCache(Path(folder) / "cache.sqlite"),  # each seed has a model of its own: nothing to share
            progress=False,
        )
    rows = np.concatenate(aligner.seen)
    ends = np.cumsum([len(pairs[part].share) for part in PARTS])
    return [
        dict(zip(PARTS, np.split(evaluation, ends[:-1]), strict=True)) for evaluation in rows.reshape(-1, ends[-1], 2)
    ]


def imitate(policy: Any, stages: Sequence[tuple[Any, tuple[int, int, float]]], seed: int) -> None:
    """Supervised tuning in place, one stage after the other."""
    from penchant.align.supervised import Supervised
    from penchant.align.trainer import TrainerSettings, train

    for records, (steps, examples, rate) in stages:
        settings = TrainerSettings(
            steps=steps, examples_per_batch=examples, learning_rate=rate, seed=seed, precision="fp32"
        )
        with tempfile.TemporaryDirectory(prefix="penchant-ranking-") as folder:
            train(Supervised(per_token=True), policy, records, settings=settings, folder=Path(folder), progress=False)


def run(seed: int, scale: str, progress: Callable[[str], None]) -> dict[str, Any]:
    """One reference, tuned by DPO and by the other objectives; every pair ranked at every checkpoint.

    Args:
        seed: of language, people, weights and order.
        scale: "quick" or "full".
        progress: called with what goes on.

    Returns:
        Margins of the reference and of DPO's chosen checkpoint on training and test pairs, with shares and lengths; the
        curve over checkpoints; accuracies of the other objectives.
    """
    with _threads(1 if scale == "quick" else None):
        return _run(seed, scale, progress)


@contextmanager
def _threads(n: int | None) -> Iterator[None]:
    """Pin torch's threads: on matrices as small as the quick scale's two of them mostly wait for each other."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(n or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _run(seed: int, scale: str, progress: Callable[[str], None]) -> dict[str, Any]:
    sizes = _SCALES[scale]
    policy, pairs, stages = (_simulated if scale == "quick" else _real)(seed, sizes)
    progress("supervised tuning of the reference")
    imitate(policy, stages, seed)
    reference = {part: likelihoods(policy, pairs[part].comparisons) for part in PARTS}
    weights = {name: value.detach().clone() for name, value in policy.model.state_dict().items()}
    evaluations = {}
    for name in ("dpo", *sizes.others):
        progress(f"{name} on {sizes.n_pairs[0]} pairs")
        policy.model.load_state_dict(weights)
        evaluations[name] = tuned(policy, name, pairs, sizes, seed)
    found = _measured(sizes, pairs, reference, evaluations)
    return found | {"reward_model": _reward_model(pairs) if scale == "quick" else None}


def _reward_model(pairs: dict[str, Pairs]) -> float:
    """Held-out accuracy of a linear reward on words, fitted on the same pairs: what there was to be learnt."""
    features = {part: word_differences(pairs[part].comparisons) for part in PARTS}
    fit = newton(features["train"], np.ones(len(features["train"])), l2=1.0)
    return float((features["test"] @ fit.weights > 0).mean())


def _simulated(seed: int, sizes: Scale) -> tuple[Any, dict[str, Pairs], list[Any]]:
    language = Language(np.random.default_rng(seed))
    corpus = language.texts(2000)
    pairs = {part: language.pairs(n) for part, n in zip(PARTS, sizes.n_pairs, strict=True)}
    return (
        WordPolicy(VOCABULARY, seed, width=48),
        pairs,
        list(zip((corpus, pairs["train"].comparisons), sizes.imitation, strict=True)),
    )


def _real(seed: int, sizes: Scale) -> tuple[Any, dict[str, Pairs], list[Any]]:
    from penchant.policies.language import LanguagePolicy

    policy = LanguagePolicy("small-chat")
    found = real_pairs(sum(sizes.n_pairs), seed, policy.encode)
    ends = np.cumsum((0, *sizes.n_pairs))
    pairs = {
        part: Pairs(found.comparisons.take(np.arange(low, high)), found.share[low:high])
        for part, low, high in zip(PARTS, ends[:-1], ends[1:], strict=True)
    }
    return policy, pairs, [(pairs["train"].comparisons, sizes.imitation[0])]


def _measured(
    sizes: Scale,
    pairs: dict[str, Pairs],
    reference: dict[str, Likelihoods],
    evaluations: dict[str, list[dict[str, Floats]]],
) -> dict[str, Any]:
    curve = [_point(number, e, reference, sizes) for number, e in enumerate(evaluations["dpo"], 1)]
    chosen = int(np.argmin([point["validation_loss"] for point in curve]))
    best = {part: _with(reference[part], evaluations["dpo"][chosen][part]) for part in PARTS}
    audits = {
        part: audit(best[part], reference[part], strength=pairs[part].share, beta=BETA, betas=BETAS) for part in PARTS
    }
    n = {part: audits[part].n_pairs for part in PARTS}
    if n != {part: len(pairs[part].share) for part in PARTS}:
        raise DataError(f"Some pairs could not be ranked: {[audits[part].excluded for part in PARTS]}.")
    test = reference["test"]
    return {
        "test": {
            "share": pairs["test"].share.tolist(),
            "reference": test.margin().tolist(),
            "dpo": best["test"].margin().tolist(),
            "reference_per_token": test.margin(per_token=True).tolist(),
            "dpo_per_token": best["test"].margin(per_token=True).tolist(),
            "shorter": (np.asarray(test.rejected_tokens) - np.asarray(test.chosen_tokens)).tolist(),
        },
        "train": {"reference": reference["train"].margin().tolist(), "dpo": best["train"].margin().tolist()},
        "threshold_holds": min(_agreement(reference[part], best[part]) for part in PARTS),
        "chosen_step": curve[chosen]["step"],
        "curve": curve,
        "others": {name: _of_other(evaluations[name], reference) for name in evaluations if name != "dpo"},
    }


def _agreement(reference: Likelihoods, policy: Likelihoods) -> float:
    """Part D, on the losses of the very function that was minimised."""
    import torch

    from penchant.objectives import dpo

    chosen, rejected = (
        torch.from_numpy(np.asarray(getattr(policy, side)) - np.asarray(getattr(reference, side)))
        for side in ("chosen", "rejected")
    )
    loss = dpo(chosen, rejected, beta=BETA).numpy()
    return threshold_agreement(loss, reference.margin(), policy.margin(), beta=BETA)


def _with(reference: Likelihoods, log_probabilities: Floats) -> Likelihoods:
    return Likelihoods(
        log_probabilities[:, 0], log_probabilities[:, 1], reference.chosen_tokens, reference.rejected_tokens
    )


def _validation_loss(evaluation: dict[str, Floats], reference: dict[str, Likelihoods]) -> float:
    """DPO's, in nats, whatever the objective: it is what checkpoints are chosen by."""
    after = evaluation["validation"][:, 0] - evaluation["validation"][:, 1]
    return float(np.logaddexp(0.0, -BETA * (after - reference["validation"].margin())).mean())


def _point(
    number: int, evaluation: dict[str, Floats], reference: dict[str, Likelihoods], sizes: Scale
) -> dict[str, float]:
    steps, examples, _ = sizes.tuning
    step = number * (steps // sizes.n_evaluations)
    after = {part: values[:, 0] - values[:, 1] for part, values in evaluation.items()}
    wrong = reference["train"].margin() <= 0
    return {
        "step": step,
        "epoch": step * examples / sizes.n_pairs[0],
        "validation_loss": _validation_loss(evaluation, reference),
        "train_accuracy": float((after["train"] > 0).mean()),
        "test_accuracy": float((after["test"] > 0).mean()),
        "mended": float((after["train"][wrong] > 0).mean()) if wrong.any() else 0.0,
    }


def _of_other(evaluations: list[dict[str, Floats]], reference: dict[str, Likelihoods]) -> dict[str, float]:
    best = evaluations[int(np.argmin([_validation_loss(e, reference) for e in evaluations]))]
    return {
        "test_accuracy": float((best["test"][:, 0] > best["test"][:, 1]).mean()),
        "train_accuracy": float((best["train"][:, 0] > best["train"][:, 1]).mean()),
    }


# The verdict


def verdict(runs: list[dict[str, Any]]) -> Verdict:
    """Judge the four parts of the claim over all seeds.

    Wilson's intervals take pairs of all seeds as independent (each seed has its own language, people and model); the
    gap's interval resamples seeds, then pairs.
    """
    table = {name: np.concatenate([run["test"][name] for run in runs]) for name in runs[0]["test"]}
    before = np.concatenate([run["train"]["reference"] for run in runs])
    after = np.concatenate([run["train"]["dpo"] for run in runs])
    ideal = idealised_margin(table["reference"], strength=table["share"], beta=BETA) > 0
    right = table["dpo"] > 0
    gap = _gap(runs, ideal, right)
    reference, dpo = (ranked_right(table[name]).accuracy for name in ("reference", "dpo"))
    mended = wilson(int((after[before <= 0] > 0).sum()), max(1, int((before <= 0).sum())))
    trend = difficulty_trend(-before, before, after)
    agree = min(run["threshold_holds"] for run in runs)
    parts = {
        "A": all(found.estimate < 0.60 and found.high < 0.65 for found in (reference, dpo)),
        "B": gap.estimate > 0.1 and gap.low > 0,
        "C": mended.high < 0.5 and trend.spearman < 0 and trend.p_below < 0.05,
        "D": agree == 1.0,
    }
    notes = (
        f"A {_said(parts['A'])}: on {len(right)} held-out pairs the reference ranks {_shown(reference)} right, DPO "
        f"{_shown(dpo)}.",
        f"B {_said(parts['B'])}: the idealised policy ranks {100 * ideal.mean():.1f} % right, {_shown(gap, 'points')} "
        f"more than DPO.",
        f"C {_said(parts['C'])}: of {int((before <= 0).sum())} training pairs that the reference ranks wrong DPO mends "
        f"{_shown(mended)} at its lowest validation loss; {_trend(trend)}.",
        f"D {_said(parts['D'])}: rank and loss threshold agree on {100 * agree:g} % of pairs (worst seed).",
        *_context(runs, table),
    )
    return Verdict(float(ideal.mean()), dpo.estimate, gap, all(parts.values()), notes)


def _gap(runs: list[dict[str, Any]], ideal: NDArray[np.bool_], right: NDArray[np.bool_]) -> Interval:
    sizes = [len(run["test"]["share"]) for run in runs]
    return nested_bootstrap(
        ideal,
        right,
        seeds=np.repeat(np.arange(len(runs)), sizes),
        clusters=np.concatenate([np.arange(n) for n in sizes]),
    )


def _context(runs: list[dict[str, Any]], table: dict[str, Floats]) -> tuple[str, ...]:
    """What else a reader has to know: lengths, other betas, the curve, the other objectives."""
    per_token = {name: ranked_right(table[f"{name}_per_token"]).accuracy for name in ("reference", "dpo")}
    shorter = ranked_right(table["shorter"])
    ideals = [(idealised_margin(table["reference"], strength=table["share"], beta=beta) > 0).mean() for beta in BETAS]
    at_75 = (idealised_margin(table["reference"], strength=0.75, beta=BETA) > 0).mean()
    curves: dict[float, list[dict[str, float]]] = {}
    for run in runs:
        for point in run["curve"]:
            curves.setdefault(point["epoch"], []).append(point)
    along = "; ".join(
        f"epoch {epoch:.1f} train {100 * np.mean([p['train_accuracy'] for p in points]):.0f} % "
        f"test {100 * np.mean([p['test_accuracy'] for p in points]):.0f} % "
        f"mended {100 * np.mean([p['mended'] for p in points]):.0f} %"
        for epoch, points in curves.items()
    )
    others = ", ".join(
        f"{name} {100 * np.mean([run['others'][name]['test_accuracy'] for run in runs]):.1f} %"
        for name in runs[0]["others"]
    )
    ceilings = [run["reward_model"] for run in runs if run["reward_model"] is not None]
    return (
        f"Per token: reference {_shown(per_token['reference'])}, DPO {_shown(per_token['dpo'])}; the shorter answer is "
        f"chosen in {100 * shorter.accuracy.estimate:.1f} % of pairs, lengths are equal in "
        f"{100 * shorter.n_tied / len(table['share']):.1f} %.",
        f"Idealised accuracy over betas {', '.join(f'{b:g}' for b in BETAS)}: min {100 * min(ideals):.1f} %, median "
        f"{100 * float(np.median(ideals)):.1f} %, max {100 * max(ideals):.1f} %; with alpha 0.75 for every pair and "
        f"beta {BETA:g} {100 * at_75:.1f} %.",
        f"Along training (DPO, mean of seeds): {along}.",
        f"Lowest validation loss at steps {', '.join(str(run['chosen_step']) for run in runs)}."
        + (f" Other objectives on held-out pairs: {others}." if others else "")
        + (f" A linear reward model of the same pairs: {100 * np.mean(ceilings):.1f} %." if ceilings else ""),
    )


def _said(holds: bool) -> str:
    return "holds" if holds else "does not hold"


def _shown(interval: Interval, unit: str = "%") -> str:
    return f"{100 * interval.estimate:.1f} {unit} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def _trend(trend: Trend) -> str:
    return f"Spearman of difficulty and being mended {trend.spearman:+.2f} (permutation p {trend.p_below:.4f})"


def figure(runs: list[dict[str, Any]]) -> "Figure":
    """Ranking accuracy along training against what the idealised policy reaches."""
    from matplotlib.figure import Figure

    plot = Figure(figsize=(7, 4), layout="constrained")
    axes = plot.subplots()
    for name, label, colour in (
        ("train_accuracy", "training pairs", "tab:blue"),
        ("test_accuracy", "held-out pairs", "tab:orange"),
        ("mended", "training pairs mended, of those wrong", "tab:green"),
    ):
        lines = np.array([[point[name] for point in run["curve"]] for run in runs])
        epochs = [point["epoch"] for point in runs[0]["curve"]]
        axes.plot(epochs, lines.T, color=colour, alpha=0.3, linewidth=1)
        axes.plot(epochs, lines.mean(axis=0), color=colour, label=label, linewidth=2)
    outcome = verdict(runs)
    axes.axhline(outcome.ours, color="black", linestyle="--", label="idealised policy, held-out pairs")
    axes.axhline(0.5, color="grey", linestyle=":")
    axes.set(xlabel="epochs of DPO", ylabel="share ranked right", ylim=(0, 1.02))
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, fontsize="small")
    return plot
