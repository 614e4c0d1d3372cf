"""`penchant demo`: people's feedback in; a model of each person, a steered language model and an honest report out."""

import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import penchant
from penchant.apps import choices, gains, report
from penchant.apps.names import are_names, of_names
from penchant.apps.one_for_all import compare
from penchant.apps.outcome import Outcome
from penchant.apps.portraits import portraits, wishes_of
from penchant.apps.prompts import ASKED_TO_MEASURE, PROMPTS
from penchant.apps.steering import Spoken, answers, seconds_per_answer, votes, win_rates
from penchant.cache import RowCache
from penchant.chat import Cached, ChatModel, chat_model
from penchant.encoders import Attributes, Encoder, Joined, MiniLM
from penchant.encoders import Cached as CachedEncoder
from penchant.errors import DataError
from penchant.evaluate.held_out import by_time, split_for
from penchant.feedback.importing import read
from penchant.feedback.pairing import of_all
from penchant.people import population
from penchant.preference import BradleyTerry
from penchant.style import Style

Array = np.ndarray[Any, np.dtype[np.float64]]

TASTE = ("words", "lists", "exclamations", "questions", "you", "hedges")


@dataclass(frozen=True)
class Leg:
    """One part of the demonstration: what scripts read, and what people read."""

    data: dict[str, Any]
    sections: Sequence[report.Section]


def demo(
    file: Path | None = None,
    *,
    report_file: Path = Path("report.html"),
    people: int = 10,
    votes_each: int = 60,
    n: int = 8,
    max_new_tokens: int = 40,
    model: str = "small-chat",
    seed: int = 0,
) -> Outcome:
    """Learn what people want from their feedback, steer a small language model to each, and report who gained.

    Without a file: real choices of real people that arrive in a package (journeys, crackers), and a simulated
    population whose votes on the model's answers steer it. With a file of feedback on texts that names its users: both
    on that file.
    The report opens offline. Answers are kept, so that a second run, or one after Ctrl-C, takes seconds.

    Args:
        file: feedback in any format that `penchant import` reads.
        report_file: where the report goes.
        people: simulated people; with a file, at most so many of its people are steered for.
        votes_each: votes of each simulated person.
        n: answers to choose from.
        max_new_tokens: longest answer.
        model: chat model to steer: small-chat, a .gguf file, or the URL of an OpenAI-compatible server.
        seed: of everything.
    """
    chat = chat_model(model)
    policy = Spoken(Cached(chat, RowCache()), progress=True)
    sampling = {"n": n, "max_new_tokens": max_new_tokens, "seed": seed}
    if file is None:
        legs = [_choices(), _simulated(policy, chat, n_people=people, votes_each=votes_each, **sampling)]
        title = "What each person wants, and what that is worth"
    else:
        legs = [_file(policy, file, n_people=people, **sampling)]
        title = f"What each person wants: {file.name}"
    sections = [section for leg in legs for section in leg.sections]
    report.write(
        report_file,
        title=title,
        lead="All numbers are held out: nothing that is measured was learnt from. Intervals are 95 %, by person where "
        "there are six or more.",
        sections=sections,
        footer=f"penchant {penchant.__version__}, seed {seed}, {model}. Made by `penchant demo`.",
    )
    data = {"report": str(report_file)}
    for leg in legs:
        data |= leg.data
    shown = [
        "\n\n".join(
            [
                "\n".join(
                    [section.title.upper(), *(textwrap.fill(text, report.TERMINAL) for text in section.paragraphs)]
                ),
                *(table.text() for table in section.tables),
            ]
        )
        for section in sections
    ]
    return Outcome(data, "\n\n".join([*shown, f"The report: {report_file}"]))


def _told(line: str) -> None:
    print(line, file=sys.stderr)


def _choices() -> Leg:
    data, rows, plots = {}, [], []
    for name, what, load in (
        ("journeys", "between two journeys", choices.journeys),
        ("crackers", "of a brand of crackers", choices.crackers),
    ):
        _told(f"real choices {what}: one model for all, one for each")
        result = compare(BradleyTerry(encoder=Attributes()), *by_time(load()))
        data[name] = gains.numbers(result)
        rows.append(gains.row(f"{result['n_people']} people, choices {what}", result))
        plots.append(gains.plot(result["accuracy"], what))
    table = report.Table(
        gains.HEADINGS, rows, "Accuracy on each person's later choices; fitted on the earlier two thirds."
    )
    text = (
        "Real people: 235 chose between journeys by price, time, changes and comfort; 136 households bought crackers "
        "of four brands. One model is fitted for everybody; then one for each person, drawn to the one for everybody "
        "as strongly as people differ from it. Both predict choices that neither has seen. Personalising is not free: "
        "the last columns show who is predicted worse, beside the share that would seem worse if it changed nothing."
    )
    return Leg(data, [report.Section("Real people: one model for all, or one for each", [text], [table], plots)])


def _standardised(texts: Sequence[str]) -> Any:
    """The taste's features of any text, standardised by these texts once and for all."""
    columns = [Style.columns.index(name) for name in TASTE]
    known = Style().encode(texts)[:, columns].astype(float)
    centre, spread = known.mean(axis=0), known.std(axis=0)
    spread[spread == 0] = 1.0
    return lambda others: (Style().encode(others)[:, columns] - centre) / spread


def _simulated(
    policy: Spoken, chat: ChatModel, *, n_people: int, votes_each: int, n: int, max_new_tokens: int, seed: int
) -> Leg:
    asked, held_out = PROMPTS[:-ASKED_TO_MEASURE], PROMPTS[-ASKED_TO_MEASURE:]
    _told(f"text: {chat.name} answers {len(asked)} prompts {n} times each")
    pools = policy.sample(asked, n, temperature=0.9, max_new_tokens=max_new_tokens, seed=seed)
    features = _standardised([text for pool in pools for text in pool])
    crowd = population(n_people, n_features=len(TASTE), strength=2.0, spread=1.5, seed=seed)
    cast = votes(crowd, asked, pools, features, n_each=votes_each, seed=seed)
    seen, later = by_time(cast)
    model = BradleyTerry(encoder=Style())
    result = compare(model, seen, later)
    wishes = {user: wishes_of(model, user) for user in seen.users}
    _told("text: held-out prompts, answered for every person in four ways")
    found = answers(policy, model, wishes, held_out, n=n, max_new_tokens=max_new_tokens, seed=seed)
    index = {name: row for row, name in enumerate(crowd.names)}
    rates = win_rates(found, lambda user, prompts, texts: crowd.utility(index[user], features(texts)))
    _told("text: timing a steered answer, nothing kept")
    seconds = seconds_per_answer(Spoken(chat), model, held_out[:3], n=n, max_new_tokens=max_new_tokens)
    lead = (
        f"SIMULATED people: {n_people} tastes drawn at random, each a weight for {len(TASTE)} of the "
        f"{len(Style.columns)} things the learner can see of a text ({', '.join(TASTE)}); the learner is not told "
        f"which. Each person votes {votes_each} times on pairs of real answers of {chat.name}, unsurely where they are "
        "alike. The answers, the learning and the steering are real; only the people are not."
    )
    speed = (
        f"A steered answer takes {np.median(seconds):.1f} s here (median of {len(seconds)}, {n} samples of at most "
        f"{max_new_tokens} tokens, nothing kept from before)."
    )
    taste_table = report.Table(gains.HEADINGS, [gains.row(f"{n_people} simulated people, votes on answers", result)])
    sections = [
        report.Section("Simulated people: votes on a language model's answers", [lead], [taste_table]),
        _steering(rates, n, [speed], "judged by the simulated person's true taste"),
        portraits(model, seen, found),
    ]
    data = {
        "text": gains.numbers(result)
        | _rates(rates)
        | {"simulated": True, "seconds_per_answer": float(np.median(seconds))}
    }
    return Leg(data, sections)


def _steering(rates: Any, n: int, notes: Sequence[str], judged: str) -> report.Section:
    table = report.Table(
        ("answer", "against", "win rate, %", "people who lose"),
        [
            [
                way,
                other,
                report.shown(rate.interval, signed=False),
                f"{sum(share < 0.5 for share in by_user.values())} of {len(by_user)}",
            ]
            for (way, other), (rate, by_user) in rates.items()
        ],
        f"Held-out prompts, {judged}. `plain` is one sample; `for all` and `for each` choose from the same {n} "
        "samples; `in words` is one sample after the learnt wishes were put into the system text.",
    )
    svg = report.dots(
        [f"{way} against {other}" for way, other in rates],
        [rate.interval for rate, _ in rates.values()],
        axis="win rate, %",
        mark=0.5,
        scale=100.0,
    )
    return report.Section(
        "Steering the language model", notes, [table], [(svg, f"Win rates with 95 % intervals, {judged}.")]
    )


def _rates(rates: Any) -> dict[str, Any]:
    return {
        "win_rates": {
            f"{way} against {other}": {
                "win_rate": [rate.interval.estimate, rate.interval.low, rate.interval.high],
                "people": len(by_user),
                "people_who_lose": sum(share < 0.5 for share in by_user.values()),
            }
            for (way, other), (rate, by_user) in rates.items()
        }
    }


def _file(policy: Spoken, file: Path, *, n_people: int, n: int, max_new_tokens: int, seed: int) -> Leg:
    imported = read(file)
    _told(f"{file.name}: {imported.format} ({imported.reason}); {imported.kept} rows kept of {imported.rows}")
    everything, lost, kinds = of_all(list(imported.records.values()), seed=seed)
    dropped = {**imported.dropped, **lost}
    if len(everything.users) < 2:
        raise DataError(
            f"{file.name}: {imported.kept} rows of {imported.format} give no comparisons by two people or more; the "
            "demonstration needs votes, ratings or rankings of texts with a `user`."
        )
    lost_rows = sum(dropped.values())
    lead = (
        f"{imported.rows} rows read as {imported.format} ({imported.reason}): {len(everything)} comparisons by "
        f"{len(everything.users)} people; {lost_rows} rows or pairs dropped"
        + (": " + "; ".join(f"{count} {reason}" for reason, count in sorted(dropped.items())) if lost_rows else "")
        + "."
    )
    if kinds & {"rating", "interaction"}:
        lead += " A higher number is read as liking; if it means something else (offence, difficulty), so do the words."
    if kinds <= {"battle", "comparison"} and are_names(everything):
        data, section = of_names(everything, split_for(imported.records), file.name, lead)
        return Leg({"file": data | {"format": imported.format}}, [section])
    cache = RowCache()
    encoder: Encoder = Joined(Style(), CachedEncoder(MiniLM(), cache))
    seen, later = split_for(imported.records)(everything)
    model = BradleyTerry(encoder=encoder)
    result = compare(model, seen, later)
    # The judge learns from the later choices only, through another encoder: it shares nothing with what chooses.
    judge = BradleyTerry(encoder=CachedEncoder(MiniLM(), cache)).fit(later)
    counts = {user: len(later.of(user)) for user in later.users}
    steered_for = sorted(counts, key=lambda user: (-counts[user], user))[:n_people]
    for user in steered_for:
        judge.adapt(user, later.of(user))
    prompts = PROMPTS[-ASKED_TO_MEASURE:]
    wishes = {user: wishes_of(model, user) for user in steered_for}
    found = answers(policy, model, wishes, prompts, n=n, max_new_tokens=max_new_tokens, seed=seed)
    rates = win_rates(found, lambda user, asked, texts: judge.reward(asked, texts, user=user))
    caution = (
        "Nobody has voted on these answers. They are judged by a second model of each person, learnt from the later "
        "choices only and through another encoder; it is a guess about the person, not the person."
    )
    table = report.Table(gains.HEADINGS, [gains.row(file.name, result)], gains.note(result))
    sections = [
        report.Section(
            "One model for all, or one for each", [lead], [table], [gains.plot(result["accuracy"], "in this file")]
        ),
        _steering(rates, n, [caution], "judged by a second model of the person"),
        portraits(model, seen, found),
    ]
    return Leg({"file": gains.numbers(result) | _rates(rates) | {"format": imported.format}}, sections)
