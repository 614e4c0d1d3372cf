"""`penchant evaluate dissect`: which properties of a response move the decisions of people and judges."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from tqdm.auto import tqdm

from penchant.apps import report
from penchant.apps.data import Data, shown_drops
from penchant.apps.outcome import Outcome
from penchant.chat import Cached, chat_model
from penchant.errors import DataError
from penchant.evaluate.annotate import annotated, cost
from penchant.evaluate.dissect import Dissection, contributions, dissection, kept_together
from penchant.evaluate.manipulation import predicted, wish
from penchant.evaluate.properties import IN_CODE, PROPERTIES, computed
from penchant.evaluate.similar_judges import similarity
from penchant.evaluate.two_orders import OPENING, OPTIONS, QUESTION, Judged, both_orders
from penchant.exchange import write_json, writing
from penchant.records import Comparisons
from penchant.turns import turns

Floats = NDArray[np.float64]
Column = Literal["none", "user", "source", "aspect", "context"]

EVERYBODY = "everybody"
_SHOWN = 5  # properties in the table, from each end


@dataclass(frozen=True)
class _Pairs:
    """Pairs with the first response drawn by chance, so that being first means nothing."""

    prompts: list[str]
    first: list[str]
    second: list[str]
    labels: Floats
    features: Floats
    names: tuple[str, ...]
    judges: list[str]
    scenarios: list[str]


def dissect(
    file: Path | None = None,
    *,
    data: Data = Data(),
    judge: Column = "none",
    scenario: Column = "none",
    model: str = "",
    chat: str = "",
    explain: int = 3,
    folds: int = 10,
    out: Path = Path("dissection"),
    seed: int = 0,
) -> Outcome:
    """Why a judge prefers what it prefers: the weight of each property, with its interval, for each kind of request.

    Properties are what code can see of a response, or with --chat the 29 of the paper as a chat model describes them; a
    run that was stopped goes on from the answers that are kept. Nothing is sent anywhere unless --chat is a URL. The
    folder `out` gets all numbers, a map of how alike judges are where there are several, and pairs with predicted
    labels to test whether the first judge can be pushed (`towards.jsonl`, `against.jsonl`; train on them with
    `penchant align`).

    Args:
        file: feedback in any format that `penchant import` reads; the store without it.
        data: which of it.
        judge: column that says whose decision it is; none takes all for one judge.
        scenario: column that says of what kind a request is; none takes all together.
        model: a language model that judges the same pairs too, read off its probabilities of A and B: small-chat, a
            folder or a .gguf file.
        chat: chat model that describes responses: small-chat, a .gguf file or the URL of a server.
        explain: decisions to explain one by one.
        folds: parts for held-out accuracy; pairs of one prompt stay together.
        out: folder of the numbers, the map and the pairs.
        seed: of the draws.
    """
    comparisons, dropped, _ = replace(data, path=file or data.path).comparisons()
    pairs = _pairs(comparisons, judge, scenario, chat, dropped, seed)
    said: dict[str, Any] = {}
    if model:
        pairs, read = _with_model(pairs, model)
        said = {
            "model": model,
            "mass": float(read.mass.mean()),
            "position": float(read.position.mean()),
            "agrees": float(read.agrees.mean()),
        }
    found, skipped = _of_each(pairs, folds, seed)
    (name, _), first = next(iter(found.items()))
    rows = [_row(*who, one) for who, one in found.items()]
    headings = ("judge", "kind", "pairs", "held out, %", "best baseline, %", "most wanted", "least wanted")
    lines = [report.Table(headings, rows).text()]
    lines += [f"{who}, {what}: {warning}" for (who, what), one in found.items() for warning in one.warnings]
    lines += [f"left out: {who}, {what}: {why}" for (who, what), why in skipped.items()]
    if said:
        lines.append(
            f"{model}: {100 * said['mass']:.1f} % of its probability is on A or B, {100 * said['position']:.0f} % of "
            f"that on A; both orders agree in {100 * said['agrees']:.0f} % of pairs"
        )
    lines += _explained(pairs, first, explain)
    taught = _teach(pairs, first, out)
    wished = wish(first.ranked, first.weights[[first.names.index(one) for one in first.ranked]])
    lines.append(f"To push {name}: {wished} Or train on {taught['kept']} pairs in {out}.")
    lines += [shown_drops(dropped)] if dropped else []
    numbers = {
        "dissections": [_numbers(*who, one) for who, one in found.items()],
        "skipped": {" / ".join(who): why for who, why in skipped.items()},
        "similarity": _map(found, out),
        "judged_by_model": said,
        "taught": taught,
        "dropped": dropped,
    }
    write_json(out / "dissection.json", numbers)
    return Outcome(numbers, "\n".join(lines))


def _pairs(
    comparisons: Comparisons, judge: Column, scenario: Column, chat: str, dropped: dict[str, int], seed: int
) -> _Pairs:
    chosen, rejected = ([turn.answer() for turn in turns(comparisons, side)] for side in ("chosen", "rejected"))
    prompts = [str(one) for one in comparisons.table["prompt"].to_pylist()]
    turned = np.random.default_rng(seed).random(len(prompts)) < 0.5
    first = [b if turn else a for a, b, turn in zip(chosen, rejected, turned, strict=True)]
    second = [a if turn else b for a, b, turn in zip(chosen, rejected, turned, strict=True)]
    wins = (np.sign(comparisons.numpy("strength").astype(float) - 0.5) + 1) / 2
    labels = np.where(turned, 1 - wins, wins)
    rows = np.arange(len(prompts))
    names: tuple[str, ...]
    if chat:
        asked = cost(prompts, first, second)
        print(
            f"{chat} will be asked {asked.calls} times at least, to read about {asked.tokens_in:,} and to write about "
            f"{asked.tokens_out:,} tokens, less what is kept from earlier runs",
            file=sys.stderr,
        )
        with tqdm(total=len(prompts), unit="pair") as bar:
            found = annotated(
                Cached(chat_model(chat)), prompts, first, second, seed=seed, progress=lambda: bar.update() and None
            )
        dropped |= found.dropped
        features, names, rows = found.features, PROPERTIES, found.rows
    else:
        features, names = computed(first, second), IN_CODE
    whose, kinds = (
        [EVERYBODY if one is None else str(one) for one in _column(comparisons, name)] for name in (judge, scenario)
    )

    def of(values: list[str]) -> list[str]:
        return [values[row] for row in rows]

    return _Pairs(of(prompts), of(first), of(second), labels[rows], features, names, of(whose), of(kinds))


def _column(comparisons: Comparisons, name: Column) -> list[Any]:
    return [None] * len(comparisons) if name == "none" else comparisons.table[name].to_pylist()


def _with_model(pairs: _Pairs, model: str) -> tuple[_Pairs, Judged]:
    """The same pairs once more, as a language model judges them in both orders."""
    from penchant.policies.language import LanguagePolicy  # torch takes seconds, which `--help` need not wait for
    from penchant.policies.options import option_log_probabilities

    policy = LanguagePolicy(model)
    asked = list(zip(pairs.prompts, pairs.first, pairs.second, strict=True))
    orders = (
        [QUESTION.format(prompt=q, first=a, second=b) for q, a, b in asked],
        [QUESTION.format(prompt=q, first=b, second=a) for q, a, b in asked],
    )
    said = both_orders(*(option_log_probabilities(policy, order, OPTIONS, opening=OPENING) for order in orders))
    both = _Pairs(
        pairs.prompts * 2,
        pairs.first * 2,
        pairs.second * 2,
        np.concatenate([pairs.labels, said.labels]),
        np.concatenate([pairs.features] * 2),
        pairs.names,
        pairs.judges + [model] * len(asked),
        pairs.scenarios * 2,
    )
    return both, said


def _of_each(
    pairs: _Pairs, folds: int, seed: int
) -> tuple[dict[tuple[str, str], Dissection], dict[tuple[str, str], str]]:
    """What moves every judge in every kind of request, and why some could not be told."""
    groups = kept_together(pairs.prompts, pairs.first, pairs.second)
    who = list(zip(pairs.judges, pairs.scenarios, strict=True))
    found, skipped = {}, {}
    for one in tqdm(sorted(set(who)), unit="judge", disable=len(set(who)) == 1):
        rows = np.array([row for row, other in enumerate(who) if other == one])
        try:
            found[one] = dissection(
                pairs.features[rows],
                pairs.labels[rows],
                names=pairs.names,
                groups=groups[rows],
                n_folds=folds,
                seed=seed,
            )
        except DataError as error:
            skipped[one] = str(error)
    if not found:
        raise DataError(f"Nothing can be told of any judge: {next(iter(skipped.values()))}")
    return found, skipped


def _row(judge: str, kind: str, one: Dissection) -> list[str]:
    best = max(one.baselines.values(), key=lambda interval: interval.estimate)
    return [
        judge,
        kind,
        str(one.n_pairs),
        report.shown(one.accuracy, signed=False),
        f"{100 * best.estimate:.1f}",
        ", ".join(_weighed(one, name) for name in one.ranked[:_SHOWN]),
        ", ".join(_weighed(one, name) for name in one.ranked[: -_SHOWN - 1 : -1]),
    ]


def _weighed(one: Dissection, name: str) -> str:
    place = one.names.index(name)
    return f"{name} {one.weights[place]:+.2f} [{one.low[place]:+.2f}, {one.high[place]:+.2f}]"


def _numbers(judge: str, kind: str, one: Dissection) -> dict[str, Any]:
    return {
        "judge": judge,
        "scenario": kind,
        "pairs": one.n_pairs,
        "ties": one.n_ties,
        "weights": {
            name: {
                "weight": float(one.weights[j]),
                "low": float(one.low[j]),
                "high": float(one.high[j]),
                "preferred": float(one.preferred[j]),
                "identified": bool(one.identified[j]),
            }
            for j, name in enumerate(one.names)
        },
        "accuracy": [one.accuracy.estimate, one.accuracy.low, one.accuracy.high],
        "baselines": {name: interval.estimate for name, interval in one.baselines.items()},
        "log_loss": one.log_loss,
        "r_hat": one.r_hat,
        "effective": one.effective,
        "warnings": list(one.warnings),
    }


def _explained(pairs: _Pairs, one: Dissection, n: int) -> list[str]:
    lines = []
    for row in range(min(n, len(pairs.prompts))):
        parts = contributions(pairs.features[row], one.weights)
        largest = [j for j in np.argsort(-np.abs(parts), kind="stable")[:3] if parts[j]]
        reasons = ", ".join(f"{one.names[j]} {parts[j]:+.2f}" for j in largest) or "no property differs"
        lines.append(f"{report.cut(pairs.prompts[row], 50)!r}: {parts.sum():+.2f} logits for the first ({reasons})")
    return lines


def _teach(pairs: _Pairs, one: Dissection, out: Path) -> dict[str, int]:
    """Write what a policy would be trained on to please the first judge, and to displease it."""
    counts: dict[str, int] = {}
    for name, towards in (("towards", True), ("against", False)):
        labels, decided = predicted(pairs.features, one.weights, towards=towards)
        rows = [row for row in np.flatnonzero(decided) if pairs.first[row] != pairs.second[row]]
        sides = [(pairs.first[r], pairs.second[r])[:: 1 if labels[r] else -1] for r in rows]
        table = {
            "prompt": [pairs.prompts[row] for row in rows],
            "chosen": [side[0] for side in sides],
            "rejected": [side[1] for side in sides],
        }
        counts = {"kept": len(rows), "ambiguous": int((~decided).sum())}
        if rows:
            with writing(out / f"{name}.jsonl") as write:
                write(Comparisons(pa.table(table)))
    return counts


def _map(found: dict[tuple[str, str], Dissection], out: Path) -> dict[str, Any] | None:
    """How alike judges are that were seen in the same kinds of requests, as numbers and as a plot."""
    kinds = sorted({kind for _, kind in found})
    judges = [who for who in sorted({who for who, _ in found}) if all((who, kind) in found for kind in kinds)]
    if len(judges) < 2:
        return None
    alike = similarity(np.array([[found[who, kind].weights for kind in kinds] for who in judges]))
    from matplotlib.figure import Figure

    size = 2.5 + 0.35 * len(judges)
    figure = Figure(figsize=(size + 1, size), layout="constrained")
    axes = figure.subplots()
    shown = axes.imshow(alike, cmap="viridis", vmin=min(0.0, float(alike.min())), vmax=1)
    axes.set_xticks(range(len(judges)), labels=judges, rotation=90, fontsize=8)
    axes.set_yticks(range(len(judges)), labels=judges, fontsize=8)
    figure.colorbar(shown, ax=axes, label="similarity", shrink=0.7)
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "similarity.svg")
    return {"judges": judges, "scenarios": kinds, "matrix": alike.round(4).tolist()}
