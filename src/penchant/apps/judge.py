"""`penchant evaluate judge`: how far a judge can be pushed by what should not matter, and what protects it."""

import sys
from collections import Counter
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from penchant.apps import report
from penchant.apps.data import shown_drops
from penchant.apps.learn import LEARNT, loaded
from penchant.apps.outcome import Outcome
from penchant.cache import RowCache
from penchant.chat import Cached as Remembering
from penchant.chat import chat_model
from penchant.encoders import Cached, MiniLM
from penchant.errors import DataError, SettingsError
from penchant.evaluate.cues import Item, items_of
from penchant.evaluate.judge_bias import BiasAudit, judge_bias
from penchant.evaluate.judge_design import BIASES, MITIGATIONS, TARGETS, Cost, Design
from penchant.evaluate.judges import Function, Judge, LetterJudge, RewardJudge, Similarity, TextJudge
from penchant.exchange import write_json
from penchant.feedback.chunk import shown
from penchant.feedback.importing import read
from penchant.feedback.reading import chunks
from penchant.methods import resolve
from penchant.records import Comparisons
from penchant.statistics import Interval

PAGE, FOUND, PICTURE = "report.html", "judge.json", "pull.png"


def judge(
    file: Path,
    *,
    judge: str,
    read_by: Literal["auto", "text", "letters"] = "auto",
    biases: tuple[str, ...] = BIASES,
    mitigations: tuple[str, ...] = MITIGATIONS,
    targets: tuple[str, ...] = TARGETS,
    limit: int | None = 200,
    max_calls: int = 20_000,
    dry_run: bool = False,
    temperature: float = 0.7,
    max_tokens: int = 512,
    attempts: int = 3,
    threads: int = 8,
    out: Path = Path("judge"),
    seed: int = 0,
) -> Outcome:
    """Whether a judge bows to majorities, authorities, places, asides, padding or orders, and what protects it.

    Every item is judged plainly, twice, with each cue, and with a neutral placebo in the cue's place; letters and
    options change places independently. What a run would ask is said before it asks; a run that was stopped goes on
    with the answers that are there. Nothing is sent anywhere unless --judge is a URL.

    penchant evaluate judge items.jsonl --judge small-chat

    penchant evaluate judge pairs.jsonl --judge http://127.0.0.1:8000/v1#MODEL --dry-run

    Args:
        file: rows with `question`, `options`, `correct` (index from 0) and `kind` (preference or fact); or comparisons
            in any format that `penchant import` reads.
        judge: small-chat, a .gguf file, transformers:NAME or a folder (local models); http://HOST/v1#MODEL; a folder of
            `penchant learn` or of a trained reward; minilm, which takes the closest answer; or the dotted path
            `package.module:name` of a function from a prompt to a text, or of what has reward(prompts, responses).
        read_by: letters reads a local model's probabilities of the letters, text its written answer; auto takes letters
            where the weights are here.
        biases: what to test for.
        mitigations: what to try against it.
        targets: beside which options cues stand.
        limit: at most so many items, the first ones.
        max_calls: a run that would ask more often does not begin.
        dry_run: say what a run would ask, and stop.
        temperature: of written answers.
        max_tokens: longest written answer, thinking included.
        attempts: at unreadable or failed answers.
        threads: questions to a URL at once.
        out: folder of the page, the picture and the JSON.
        seed: of orders, targets and answers.
    """
    items, lost = _items(file, limit)
    who = _judge(judge, read_by, temperature, max_tokens, attempts, threads)
    chosen: dict[str, Any] = {"biases": biases, "mitigations": mitigations, "targets": targets, "seed": seed}
    cost = Design(who, items, **chosen).cost()
    said = f"{who.name}: {len(items)} items, {cost.calls:,} questions, about {cost.tokens:,} tokens to read" + (
        f"; {shown_drops(dict(lost))}" if lost else ""
    )
    if dry_run:
        return Outcome({"judge": who.name, "items": len(items), **asdict(cost), "dropped": dict(lost)}, said)
    if cost.calls > max_calls:
        raise SettingsError(
            f"{said}: more than --max-calls {max_calls:,}. Raise it, or lower --limit, or name fewer --biases or "
            "--mitigations."
        )
    print(said, file=sys.stderr)
    with tqdm(total=cost.calls, unit="question", file=sys.stderr) as bar:
        found = judge_bias(who, items, progress=bar.update, **chosen)
    return _told(found, cost, dict(lost), out)


def _items(file: Path, limit: int | None) -> tuple[list[Item], Counter[str]]:
    rows = list(islice((row for chunk in chunks(file) for row in chunk.listed()), limit))
    if not any("options" in row for row in rows):
        pairs = read(file).records.get("comparison")
        if not isinstance(pairs, Comparisons) or not len(pairs):
            raise DataError(
                f"{shown(file)} holds neither rows with `question`, `options` and `correct` nor comparisons of texts."
            )
        rows = pairs.table.slice(0, limit).to_pylist()
    return items_of(rows)


def _judge(spec: str, read_by: str, temperature: float, max_tokens: int, attempts: int, threads: int) -> Judge:
    """The judge that a few words name."""
    is_url = spec.startswith(("http://", "https://"))
    folder = Path(spec)
    written: dict[str, Any] = {"temperature": temperature, "max_tokens": max_tokens, "attempts": attempts}
    if spec == "minilm":
        return RewardJudge("MiniLM cosine", Similarity(Cached(MiniLM(), RowCache())))
    if (folder / LEARNT).exists():
        return RewardJudge(spec, loaded(folder).reward)
    if (folder / "penchant.json").is_file() and "LanguageReward" in (folder / "penchant.json").read_text("utf-8"):
        from penchant.policies.reward import LanguageReward

        model = LanguageReward.saved(folder)
        return RewardJudge(spec, lambda prompts, texts: _flat(model.rewards(prompts, [[text] for text in texts])))
    if ":" in spec and not is_url and not spec.startswith("transformers:"):
        named = resolve(spec)
        reward = getattr(named() if isinstance(named, type) else named, "reward", None)
        return RewardJudge(spec, reward) if reward else TextJudge(Function(named, spec), **written)
    if is_url or read_by == "text":
        if read_by == "letters":
            raise SettingsError("The letters of a model behind a URL cannot be read; leave --read-by out.")
        return TextJudge(Remembering(chat_model(spec)), **written, n_threads=threads if is_url else 1)
    from penchant.policies.language import LanguagePolicy

    return LetterJudge(LanguagePolicy(spec.removeprefix("transformers:")), cache=RowCache())


def _flat(rewards: list[list[float]]) -> list[float]:
    return [reward for row in rewards for reward in row]


# What people read ----------------------------------------------------------------------------------------------------


def _told(found: BiasAudit, cost: Cost, lost: dict[str, int], out: Path) -> Outcome:
    out.mkdir(parents=True, exist_ok=True)
    tables = _tables(found)
    flagged = [one.name for one in found.findings if one.flagged]
    verdict = (
        f"{found.n_items} items are too few for a verdict; 30 are needed."
        if found.findings[0].flagged is None
        else f"Biases found: {', '.join(flagged)}."
        if flagged
        else "No bias was found."
    )
    lines = [
        f"{found.judge}: {found.n_items} items, {found.n_answers:,} answers, {found.n_invalid} of them invalid.",
        f"Right on plain items: {report.shown(found.accuracy, signed=False)} %. The same answer when nothing changes: "
        f"{report.shown(found.floor, signed=False)} %.",
        verdict,
        *(f"Not tested: {one}." for one in found.left_out),
        *([f"Left out: {shown_drops(lost)}."] if lost else []),
    ]
    names, columns, values = _grid(found)
    svg = report.heat_map(names, columns, values, axis="bias, points", picture=out / PICTURE)
    alt = "Points by which a target is chosen more often than beside a placebo; with a mitigation, than without a cue"
    report.write(
        out / PAGE,
        title=f"How far {found.judge} can be pushed",
        lead=lines[0],
        sections=[
            report.Section("In short", lines[1:], plots=[(svg, alt)]),
            *(report.Section(title, (), [table]) for title, table in tables.items()),
        ],
        footer="Intervals: 95 %, bootstrap over items. Tests: exact sign flips, Holm-corrected over all biases.",
    )
    plain = {name: value for name, value in asdict(found).items() if name != "values"}
    data = _jsonable(plain) | {"dropped": lost, "calls": cost.calls, "tokens": cost.tokens, "page": str(out / PAGE)}
    write_json(out / FOUND, data)
    brief = [table.text() for title, table in tables.items() if title in ("Biases", "Places", "Harm of mitigations")]
    text = "\n\n".join(["\n".join(lines), *brief, f"The rest, to look at: {out / PAGE}"])
    return Outcome(data, text)


def _jsonable(value: Any) -> Any:
    """Plain values; what was not measured is null."""
    if isinstance(value, dict):
        return {key: _jsonable(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(one) for one in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _said(one: Interval | None, *, signed: bool = True) -> str:
    return "" if one is None or not np.isfinite(one.estimate) else report.shown(one, signed=signed)


def _tables(found: BiasAudit) -> dict[str, report.Table]:
    tables = {
        "Biases": report.Table(
            ("bias", "points [95 %]", "p", "p, Holm", "found", "smallest found in 95 of 100"),
            [
                [
                    one.name,
                    _said(one.bias),
                    f"{one.p:.2g}",
                    f"{one.p_holm:.2g}",
                    {None: "too few items", True: "yes", False: "no"}[one.flagged],
                    f"{100 * one.detectable:.1f}",
                ]
                for one in found.findings
            ],
            "How much more often the target is chosen than beside its placebo, over both kinds of target; of places "
            "and letters, than evenly; of an answer that says nothing, than the wrong answer it stands for.",
        )
    }
    if found.effects:
        tables["Cues, by target"] = report.Table(
            ("cue", "target", "right, %", "drop", "unchanged, %", "counts"),
            [
                [
                    one.bias,
                    one.target,
                    _said(one.accuracy, signed=False),
                    _said(one.drop),
                    _said(one.robustness, signed=False),
                    ", ".join(f"{n} {name}" for name, n in one.counts.items() if n),
                ]
                for one in found.effects
            ],
            "T is the target. Beside a correct target a cue may raise accuracy. Unchanged: to be held against how "
            "often the answer is the same when nothing changes.",
        )
        tables["Pull towards the target"] = report.Table(
            ("cue", "target", "cue", "placebo", "cue minus placebo", "go over to it, %"),
            [
                [
                    one.bias,
                    one.target,
                    _said(one.pull),
                    _said(one.placebo_pull),
                    _said(one.net),
                    _said(one.switched, signed=False),
                ]
                for one in found.effects
            ],
            "Points by which the target is chosen more often than on plain items; of those that had not chosen it, how "
            "many go over.",
        )
    rows = [[name, _said(one, signed=name != "consistency")] for name, one in found.position.items()]
    rows += [
        [f"right with reflection in the {name}", _said(one, signed=False)]
        for name, one in found.reflection_places.items()
    ]
    if rows:
        tables["Places"] = report.Table(
            ("what", "points [95 %]"), rows, "Consistency: the same option in both orders. Liking: more than evenly."
        )
    if found.mitigated:
        tables["Mitigations, beside a wrong target"] = report.Table(
            ("mitigation", "cue", "right, %", "gain", "pull left", "less pull", "p of gain, Holm"),
            [
                [
                    one.mitigation,
                    one.bias,
                    _said(one.accuracy, signed=False),
                    _said(one.gain),
                    _said(one.pull),
                    _said(one.reduction),
                    f"{one.p_holm:.2g}",
                ]
                for one in found.mitigated
            ],
        )
        tables["Harm of mitigations"] = report.Table(
            ("mitigation", "right on plain items, points"), [[name, _said(one)] for name, one in found.harm.items()]
        )
    return tables


def _grid(found: BiasAudit) -> tuple[list[str], list[str], Any]:
    """Cues by what they do beside each target, and under each mitigation, in points; NaN where not measured."""
    names = list(dict.fromkeys(one.bias for one in found.effects)) + [
        one.name for one in found.findings if one.name not in {effect.bias for effect in found.effects}
    ]
    columns = list(dict.fromkeys([*(one.target for one in found.effects), "evenly"]))
    columns = [one for one in columns if one != "evenly" or found.position] + list(found.harm)
    values = np.full((len(names), len(columns)), np.nan)
    cells: list[tuple[str, str, Interval]] = [(one.bias, one.target, one.net) for one in found.effects]
    cells += [(one.bias, one.mitigation, one.pull) for one in found.mitigated]
    cells += [(one.name, "evenly", one.bias) for one in found.findings if one.name in found.position]
    for name, column, one in cells:
        values[names.index(name), columns.index(column)] = 100 * one.estimate
    titles = {"evenly": "than evenly", **{one: f"{one} target" for one in TARGETS}}
    return names, [titles.get(one, one) for one in columns], values
