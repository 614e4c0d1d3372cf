"""`penchant evaluate dissect`: which properties of a response move the decisions of people and judges."""

import sys
import textwrap
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.special import expit
from tqdm.auto import tqdm

from penchant.apps import report
from penchant.apps.data import Data, shown_drops
from penchant.apps.outcome import Outcome
from penchant.cache import RowCache
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
from penchant.turns import readable, turns

Floats = NDArray[np.float64]
Column = Literal["none", "user", "source", "aspect", "context"]
Who = tuple[str, str]
"""A judge, and a kind of request."""

EVERYBODY, EVERYTHING, UNNAMED = "everybody", "all requests", "not said"
_SHOWN = 5  # properties in the table, from each end
_AT_ONCE = 256  # questions to a language model between two steps of the bar


@dataclass(frozen=True)
class _Pairs:
    """Pairs with the first response drawn by chance, so that being first means nothing.

    Each is the pair of row `places` of the records, turned round where `turned`.
    """

    prompts: list[str]
    first: list[str]
    second: list[str]
    labels: Floats
    features: Floats
    names: tuple[str, ...]
    who: list[Who]
    places: NDArray[np.int64]
    turned: NDArray[np.bool_]

    @cached_property
    def rows(self) -> dict[Who, list[int]]:
        """Which pairs each judge decided in each kind of request."""
        found: dict[Who, list[int]] = {}
        for row, who in enumerate(self.who):
            found.setdefault(who, []).append(row)
        return found

    def take(self, rows: NDArray[np.int64]) -> "_Pairs":
        """Some of them."""
        return _Pairs(
            [self.prompts[row] for row in rows],
            [self.first[row] for row in rows],
            [self.second[row] for row in rows],
            self.labels[rows],
            self.features[rows],
            self.names,
            [self.who[row] for row in rows],
            self.places[rows],
            self.turned[rows],
        )


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
    run that was stopped goes on from the answers that are kept. Nothing is sent anywhere unless --chat is a URL.

    The folder `out` gets all numbers (`dissection.json`), how alike judges are where there are several
    (`similarity.svg`), and pairs labelled as the first judge is predicted to decide, or the opposite, to test whether
    it can be pushed (`towards.jsonl`, `against.jsonl`; train on them with `penchant align`).

    Args:
        file: feedback in any format that `penchant import` reads; the store without it.
        data: which of it.
        judge: column that says whose decision it is; none takes all for one judge.
        scenario: column that says of what kind a request is; none takes all together.
        model: a language model that judges the same pairs too, read off its probabilities of A and B: small-chat, a
            folder or a .gguf file.
        chat: chat model that describes responses: small-chat, a .gguf file or the URL of a server.
        explain: decisions of the first judge to explain one by one.
        folds: parts for held-out accuracy; pairs of one prompt stay together.
        out: folder of the numbers, the plot and the pairs.
        seed: of the draws.
    """
    comparisons, dropped, _ = replace(data, path=file or data.path).comparisons()
    pairs = _pairs(comparisons, judge, scenario, seed)
    pairs = _described(pairs, chat, dropped, seed)
    said: dict[str, Any] = {}
    if model:
        pairs, read = _with_model(pairs, model, dropped)
        said = {
            "model": model,
            "mass": float(read.mass.mean()),
            "position": float(read.position.mean()),
            "agrees": float(read.agrees.mean()),
        }
    found, skipped = _of_each(pairs, folds, seed)
    who, first = next(iter(found.items()))
    lines = ["\n\n".join(_shown(_called(*one, scenario), each) for one, each in found.items())]
    lines += [_wrapped(f"left out: {_called(*one, scenario)}: {why}")[2:] for one, why in skipped.items()]
    if said:
        lines.append(
            f"{model}: {100 * said['mass']:.1f} % of its probability is on A or B, {100 * said['position']:.0f} % of "
            f"that on A; both orders agree in {100 * said['agrees']:.0f} % of pairs"
        )
    lines += _explained(pairs, who, first, explain)
    is_label = "context" in (judge, scenario)  # and then no part of what was asked
    taught = _teach(comparisons.table.drop_columns(["context"] * is_label), pairs, who, first, out)
    lines += _pushed(_called(*who, scenario), first, taught, out)
    alike = _map(found, out)
    if alike is not None:
        missing = sorted({one for one, _ in found} - set(alike["judges"]))
        lines.append(
            f"How alike {len(alike['judges'])} judges are: {out / 'similarity.svg'}"
            + f"; without {', '.join(missing)}, not found in every kind of request" * bool(missing)
        )
    lines += [shown_drops(dropped)] if dropped else []
    lines.append(f"All numbers: {out / 'dissection.json'}")
    numbers = {
        "dissections": [_numbers(*one, each) for one, each in found.items()],
        "skipped": {" / ".join(one): why for one, why in skipped.items()},
        "similarity": alike,
        "judged_by_model": said,
        "taught": taught,
        "dropped": dropped,
    }
    write_json(out / "dissection.json", numbers)
    return Outcome(numbers, "\n".join(lines))


def _called(judge: str, kind: str, scenario: Column) -> str:
    return judge if scenario == "none" else f"{judge}, {kind}"


def _pairs(comparisons: Comparisons, judge: Column, scenario: Column, seed: int) -> _Pairs:
    """All pairs, each turned round or not, without features as yet."""
    chosen, rejected = ([turn.answer() for turn in turns(comparisons, side)] for side in ("chosen", "rejected"))
    prompts = [readable(turn.prompt, turn.form) for turn in turns(comparisons, "chosen")]
    if "context" not in (judge, scenario):
        contexts = comparisons.table["context"].to_pylist()
        prompts = [
            prompt if one is None else f"{one}\n\n{prompt}" for one, prompt in zip(contexts, prompts, strict=True)
        ]
    turned = np.random.default_rng(seed).random(len(prompts)) < 0.5
    first = [b if turn else a for a, b, turn in zip(chosen, rejected, turned, strict=True)]
    second = [a if turn else b for a, b, turn in zip(chosen, rejected, turned, strict=True)]
    wins = (np.sign(comparisons.numpy("strength").astype(float) - 0.5) + 1) / 2
    labels = np.where(turned, 1 - wins, wins)
    who = list(zip(_column(comparisons, judge, EVERYBODY), _column(comparisons, scenario, EVERYTHING), strict=True))
    none = np.empty((len(prompts), 0))
    return _Pairs(prompts, first, second, labels, none, (), who, np.arange(len(prompts)), turned)


def _column(comparisons: Comparisons, name: Column, without: str) -> list[str]:
    if name == "none":
        return [without] * len(comparisons)
    return [UNNAMED if one is None else str(one) for one in comparisons.table[name].to_pylist()]


def _described(pairs: _Pairs, chat: str, dropped: dict[str, int], seed: int) -> _Pairs:
    """The pairs with their features; those that a chat model could not describe are left out and counted."""
    if not chat:
        return replace(pairs, features=computed(pairs.first, pairs.second), names=IN_CODE)
    describer = Cached(chat_model(chat))
    texts = pairs.prompts, pairs.first, pairs.second
    asked = cost(*texts)
    print(
        f"{chat} will be asked {asked.calls} times at least, to read about {asked.tokens_in:,} and to write about "
        f"{asked.tokens_out:,} tokens, less what is kept from earlier runs",
        file=sys.stderr,
    )
    with tqdm(total=len(pairs.prompts), unit="pair") as bar:
        found = annotated(describer, *texts, seed=seed, progress=lambda: bar.update() and None)
    dropped |= found.dropped
    return replace(pairs.take(found.rows), features=found.features, names=PROPERTIES)


def _with_model(pairs: _Pairs, model: str, dropped: dict[str, int]) -> tuple[_Pairs, Judged]:
    """The same pairs once more, as a language model judges them in both orders."""
    from penchant.policies.language import LanguagePolicy  # torch takes seconds, which `--help` need not wait for
    from penchant.policies.options import leaves_room, option_log_probabilities

    policy = LanguagePolicy(model)
    asked = list(zip(pairs.prompts, pairs.first, pairs.second, strict=True))
    orders = (
        [QUESTION.format(prompt=q, first=a, second=b) for q, a, b in asked],
        [QUESTION.format(prompt=q, first=b, second=a) for q, a, b in asked],
    )
    rows = np.flatnonzero([leaves_room(policy, one, opening=OPENING) for one in orders[0]])  # others are as long
    if not len(rows):
        raise DataError(f"None of {len(asked)} pairs is short enough for the context of {model}.")
    if len(rows) < len(asked):
        dropped[f"too long for the context of {model}, which does not judge it"] = len(asked) - len(rows)
    cache, found = RowCache(), []
    with tqdm(total=2 * len(rows), unit="question") as bar:
        for order in orders:
            parts = []
            for start in range(0, len(rows), _AT_ONCE):
                some = [order[row] for row in rows[start : start + _AT_ONCE]]
                parts.append(option_log_probabilities(policy, some, OPTIONS, opening=OPENING, cache=cache))
                bar.update(len(some))
            found.append(np.concatenate(parts))
    said = both_orders(*found)
    own = pairs.take(rows)
    both = _Pairs(
        pairs.prompts + own.prompts,
        pairs.first + own.first,
        pairs.second + own.second,
        np.concatenate([pairs.labels, said.labels]),
        np.concatenate([pairs.features, own.features]),
        pairs.names,
        pairs.who + [(model, kind) for _, kind in own.who],
        np.concatenate([pairs.places, own.places]),
        np.concatenate([pairs.turned, own.turned]),
    )
    return both, said


def _of_each(pairs: _Pairs, folds: int, seed: int) -> tuple[dict[Who, Dissection], dict[Who, str]]:
    """What moves every judge in every kind of request, and why some could not be told."""
    groups = kept_together(pairs.prompts, pairs.first, pairs.second)
    found, skipped = {}, {}
    for one, rows in tqdm(sorted(pairs.rows.items()), unit="judge", disable=len(pairs.rows) == 1):
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


def _shown(called: str, one: Dissection) -> str:
    """How much is foretold, and the properties at both ends."""
    baselines = ", ".join(f"{name} {100 * interval.estimate:.1f}" for name, interval in one.baselines.items())
    ties = f" and {one.n_ties} ties, left out" * bool(one.n_ties)
    ends = dict.fromkeys([*one.ranked[:_SHOWN], *one.ranked[-_SHOWN:]])
    table = report.Table(
        ("property", "weight, logits [95 %]", "better in it alone: preferred, %", "sign is clear"),
        [_weighed(one, one.names.index(property_)) for property_ in ends],
    )
    between = f"\n  ({len(one.ranked) - len(ends)} more lie between)" * (len(one.ranked) > len(ends))
    lines = [
        f"{called}: {one.n_pairs} decided pairs{ties}",
        _wrapped(
            f"right on pairs held out, % [95 %]: {report.shown(one.accuracy, signed=False)}; baselines: {baselines}"
        ),
        textwrap.indent(table.text(), "  ") + between,
    ]
    return "\n".join([*lines, *(_wrapped(warning) for warning in one.warnings)])


def _wrapped(text: str) -> str:
    return textwrap.fill(text, report.TERMINAL, initial_indent="  ", subsequent_indent="    ")


def _weighed(one: Dissection, place: int) -> list[str]:
    interval = f"{one.weights[place]:+.2f} [{one.low[place]:+.2f}, {one.high[place]:+.2f}]"
    clear = one.low[place] > 0 or one.high[place] < 0
    return [one.names[place], interval, f"{100 * one.preferred[place]:.0f}", "yes" if clear else ""]


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


def _explained(pairs: _Pairs, who: Who, one: Dissection, n: int) -> list[str]:
    """What speaks for and against the first response in some pairs of a judge."""
    lines = []
    for row in pairs.rows[who][:n]:
        parts = contributions(pairs.features[row], one.weights)
        largest = [j for j in np.argsort(-np.abs(parts), kind="stable")[:3] if parts[j]]
        reasons = ", ".join(f"{one.names[j]} {parts[j]:+.2f}" for j in largest) or "no property differs"
        total = parts.sum()
        of_two = f"“{report.cut(pairs.first[row], 40)}” over “{report.cut(pairs.second[row], 40)}”"
        lines.append(_wrapped(f"{of_two}: {100 * expit(total):.0f} %; {total:+.2f} logits: {reasons}"))
    return [f"How likely {who[0]} is to prefer one to the other, and the largest reasons:", *lines] if lines else []


def _teach(records: pa.Table, pairs: _Pairs, who: Who, one: Dissection, out: Path) -> dict[str, int]:
    """Write what a policy would be trained on to please a judge in a kind of request, and to displease it."""
    alike: dict[tuple[str, ...], int] = {}  # the same pair, whoever judged it and whichever way round
    for row, (_, kind) in enumerate(pairs.who):
        if kind == who[1]:
            alike.setdefault((pairs.prompts[row], *sorted((pairs.first[row], pairs.second[row]))), row)
    asked = pairs.take(np.array(list(alike.values()), dtype=np.int64))
    labels, decided = predicted(asked.features, one.weights)
    rows = np.flatnonzero(decided)
    table = records.take(asked.places[rows])
    chosen_stays = (labels == 1) != asked.turned
    for name, towards in (("towards", True), ("against", False)):
        sides = _sides(table, chosen_stays[rows] == towards)
        path = out / f"{name}.jsonl"
        path.unlink(missing_ok=True)  # an earlier run's, should there be no pairs now
        if len(rows):
            with writing(path) as write:
                write(Comparisons(sides))
    return {"kept": len(rows), "ambiguous": int((~decided).sum())}


def _sides(table: pa.Table, stays: NDArray[np.bool_]) -> pa.Table:
    """Prompts as they are, with chosen and rejected exchanged where these do not stay."""
    chosen, rejected = table["chosen"], table["rejected"]
    mask = pa.array(stays)
    sides = {"chosen": pc.if_else(mask, chosen, rejected), "rejected": pc.if_else(mask, rejected, chosen)}
    asked = [name for name in ("prompt", "context", "form") if name in table.column_names]
    return pa.table({name: table[name] for name in asked} | sides)


def _pushed(called: str, one: Dissection, taught: dict[str, int], out: Path) -> list[str]:
    """How to test whether a judge can be pushed."""
    wanted = [name for name in one.ranked if one.low[one.names.index(name)] > 0]  # of others nobody knows
    weights = [one.weights[one.names.index(name)] for name in wanted]
    ways = [f"tell a policy: “{wish(wanted, weights)}”"] if wanted else []
    if taught["kept"]:
        n = taught["kept"] + taught["ambiguous"]
        ways.append(
            f"train it on {taught['kept']} of {n} pairs, those with a clear prediction: {out / 'towards.jsonl'}"
        )
    return [f"To push {called}:", *map(_wrapped, ways)] if ways else []


def _map(found: dict[Who, Dissection], out: Path) -> dict[str, Any] | None:
    """How alike judges are that were seen in the same kinds of requests, as numbers and as a plot."""
    path = out / "similarity.svg"
    path.unlink(missing_ok=True)
    kinds = sorted({kind for _, kind in found})
    judges = [who for who in sorted({who for who, _ in found}) if all((who, kind) in found for kind in kinds)]
    if len(judges) < 2:
        return None
    alike = similarity(np.array([[found[who, kind].weights for kind in kinds] for who in judges]))
    names = [report.cut(who, 30) for who in judges]
    out.mkdir(parents=True, exist_ok=True)
    path.write_text(report.matrix(names, alike.tolist(), axis="correlation of weights", lowest=-1.0), encoding="utf-8")
    return {"judges": judges, "scenarios": kinds, "matrix": alike.round(4).tolist()}
