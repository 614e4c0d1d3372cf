"""`penchant evaluate discovery`: does a model find out what people want, and does it answer accordingly?"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import penchant
from penchant.apps import report
from penchant.apps.data import shown_drops
from penchant.apps.outcome import Outcome
from penchant.chat import Cached, ChatModel, chat_model
from penchant.errors import SettingsError
from penchant.evaluate import discovery_tasks, graders, passive_user
from penchant.evaluate.alignment import Cell, Summary, summary
from penchant.evaluate.attributes import ATTRIBUTES
from penchant.evaluate.discovery import Discovery
from penchant.evaluate.discovery_tasks import Problem, Task
from penchant.exchange import write_json
from penchant.feedback.personas import Persona
from penchant.statistics import Interval

ROWS, FOUND, REPORT = "answers.jsonl", "discovery.json", "report.html"
_RULES = "rules"


def discovery(
    file: Path,
    *,
    model: str = "small-chat",
    user_model: str = _RULES,
    grader: str = _RULES,
    second_grader: str = "",
    author: str = "",
    personas: int = 10,
    problems: int = 100,
    pairs: int = 60,
    question: str = "",
    answer: str = "",
    options: str = "",
    modes: tuple[str, ...] = ("baseline", "discovery", "oracle"),
    max_turns: int = 5,
    n_questions: int | None = None,
    may_stop: bool = False,
    temperature: float = 0.7,
    max_tokens: int = 512,
    n_threads: int = 1,
    estimate_only: bool = False,
    out: Path = Path("discovery"),
    seed: int = 42,
) -> Outcome:
    """Whether models find out what people want by asking, and answer accordingly at no cost in correctness.

    Any benchmark becomes talks with simulated people, each of whom has a few wishes about the form of the answer. A
    model answers without knowing them, after a talk, and knowing all. What is reported: how far the talk brings it from
    the generic answer (0) to the informed one (100), how often it makes the answer worse than generic, what it costs in
    right answers, and which wishes it missed. People and wishes are invented unless the file holds whole tasks.

    By default people and grader follow rules, which cost nothing and do not err. The cost is told before the first
    call; --estimate-only stops there. A run that was stopped goes on where it was. Nothing is sent anywhere unless a
    model is a URL.

    Args:
        file: a benchmark (JSON, JSON lines, CSV, Parquet) with question, answer and perhaps options; or tasks with
            `persona_preferences` and `evaluation_rubric`.
        model: chat model under test, or several with commas: small-chat, a .gguf file, http://HOST/v1#MODEL.
        user_model: who plays the people: rules, or a chat model.
        grader: who grades each wish from 1 to 5, and says what is right: rules, or a chat model.
        second_grader: another one that grades; its agreement with the first is reported.
        author: chat model that writes wishes and rubrics, or several with commas; twelve wishes that rules grade
            without it.
        personas: simulated people.
        problems: drawn from the file, at most.
        pairs: of a problem and a person, at most.
        question: column of the question; found by its name without it.
        answer: column of the right answer, likewise.
        options: column of the options, likewise.
        modes: conditions to run.
        max_turns: most questions.
        n_questions: exactly so many questions, whatever the model would choose.
        may_stop: whether people may end the questions.
        temperature: of the models under test.
        max_tokens: of an answer.
        n_threads: answers worked on at once; for models behind a URL.
        estimate_only: say what it would cost, and stop.
        out: folder of the answers, the numbers and the report.
        seed: of everything.
    """
    if min(personas, problems, pairs) < 1:
        raise SettingsError(f"personas, problems and pairs must be at least 1: got {personas}, {problems}, {pairs}.")
    read = discovery_tasks.read(file, question=question, answer=answer, options=options)
    models = [Cached(chat_model(name.strip())) for name in model.split(",")]
    run = Discovery(
        models,
        user=_user(user_model, may_stop),
        grader=_grader(grader),
        correctness=graders.CorrectByRules() if grader == _RULES else graders.CorrectByChat(Cached(chat_model(grader))),
        second=_grader(second_grader) if second_grader else None,
        max_turns=max_turns,
        n_questions=n_questions,
        temperature=temperature,
        max_tokens=max_tokens,
        n_threads=n_threads,
        seed=seed,
    )
    dropped = dict(read.dropped)
    if author and estimate_only:
        raise SettingsError("--estimate-only cannot know what an --author will write: leave one of the two out.")
    tasks = read.tasks[:pairs] or _tasks(read.problems, author, personas, problems, pairs, seed, dropped)
    _require_rules(tasks, grader, second_grader)
    if estimate_only:
        cost = run.estimate([(one, task, mode) for one in models for task in tasks for mode in run.modes(modes)])
        about = {"rows": cost.rows, "calls": list(cost.calls), "prompt_tokens": cost.prompt_tokens}
        return Outcome({**about, "completion_tokens": cost.completion_tokens}, str(cost))
    rows = run.run(tasks, out / ROWS, modes=modes)
    found = summary(rows, seed=seed)
    write_json(out / FOUND, _numbers(found, dropped))
    simulated = "" if read.tasks else " People and their wishes are simulated."
    sections = _sections(found, dropped)
    report.write(
        out / REPORT,
        title=f"What models find out: {file.name}",
        lead=f"{len(tasks)} pairs of a problem and a person, three conditions.{simulated} Who answers "
        f"questions: {run.user.name}; who grades: {run.grader.name}.",
        sections=sections,
        footer=f"penchant {penchant.__version__}, seed {seed}. Intervals of 95 % resample problems and people.",
    )
    tables = [table.text() for section in sections for table in section.tables]
    lines = [*sections[0].paragraphs, *tables[:1], *_warnings(found, dropped), f"Report: {out / REPORT}"]
    return Outcome(_numbers(found, dropped), "\n".join(lines))


def _user(name: str, may_stop: bool) -> passive_user.PassiveUser:
    if name == _RULES:
        return passive_user.ByRules(may_stop=may_stop)
    return passive_user.ByChat(Cached(chat_model(name)), may_stop=may_stop)


def _grader(name: str) -> graders.Grader:
    return graders.ByRules() if name == _RULES else graders.ByChat(Cached(chat_model(name)))


def _require_rules(tasks: Sequence[Task], *names: str) -> None:
    """Refuse wishes that no rule grades before anything is spent on them."""
    unknown = sorted({name for task in tasks for name in task.preferences if name not in ATTRIBUTES})
    if unknown and _RULES in names:
        raise SettingsError(
            f"No rule grades {len(unknown)} of the preferences, such as {unknown[0]!r}: give a chat model as --grader."
        )


def _tasks(
    found: Sequence[Problem], author: str, n_people: int, n_problems: int, n_pairs: int, seed: int, lost: dict[str, int]
) -> list[Task]:
    """Problems and people drawn, and what each wants."""
    rng = np.random.default_rng([4, seed, 7])
    drawn = [found[place] for place in np.sort(rng.permutation(len(found))[:n_problems])]
    everybody = discovery_tasks.people(n_people, seed=seed)
    if not author:
        return discovery_tasks.assigned(drawn, everybody, n_pairs=n_pairs, seed=seed)
    crossed: list[tuple[Problem, Persona]] = [(problem, one) for one in everybody for problem in drawn]
    chosen = [crossed[place] for place in np.sort(rng.permutation(len(crossed))[:n_pairs])]
    authors: list[ChatModel] = [Cached(chat_model(name.strip())) for name in author.split(",")]
    tasks, failed = discovery_tasks.authored(authors, chosen, seed=seed)
    lost |= failed
    if not tasks:
        raise SettingsError(f"No preferences could be written: {failed}. Take a larger model as --author.")
    return tasks


def _short(name: str) -> str:
    """A model's name without where it lies.

    >>> _short("llama.cpp/SmolLM2.Q4_1-0708"), _short("http://127.0.0.1:8000/v1#llama-3")
    ('SmolLM2.Q4_1', 'llama-3')
    """
    if name.startswith("llama.cpp/"):
        return name.removeprefix("llama.cpp/").rpartition("-")[0] or name
    return name.rpartition("#")[2]


def _shown(interval: Interval, digits: int = 1, scale: float = 1.0) -> str:
    if not np.isfinite(interval.estimate):
        return "undefined"
    if not np.isfinite(interval.low):
        return f"{scale * interval.estimate:+.{digits}f} [no interval]"
    return report.shown(interval, scale=scale, digits=digits)


def _warnings(found: Summary, dropped: dict[str, int]) -> list[str]:
    lines = [shown_drops(dropped)] if dropped else []
    if found.failures:
        lines.append(
            "Failures, none of which became a score: " + "; ".join(f"{n} {w}" for w, n in found.failures.items())
        )
    if found.malformed:
        lines.append(f"{found.malformed} turns did not keep to the form that was asked for.")
    return lines


def _sections(found: Summary, dropped: dict[str, int]) -> list[report.Section]:
    cells = found.cells
    worse = [
        f"{_short(cell.name)}: {report.shown(cell.worse, signed=False)} % of talks end worse than the generic answer, "
        f"{cell.n_ties} of {cell.n_pairs} are ties."
        for cell in cells
    ]
    if found.negative and len(cells) > 1:
        worse.append(f"NormAlign is below 0 for {report.shown(found.negative, signed=False)} % of models.")
    if found.n_undefined:
        worse.append(
            f"NormAlign is undefined for {found.n_undefined} models: knowing everything is no better than generic."
        )
    if found.kappa is not None:
        worse.append(f"Agreement of the two graders on the same grade, Cohen's kappa: {found.kappa:.2f}.")
    align = report.Table(
        ("model", "pairs", "generic", "after talk", "informed", "gain", "NormAlign [95 %]", "questions"),
        [
            [
                _short(cell.name),
                f"{cell.n_pairs} ({cell.n_incomplete} lost)" if cell.n_incomplete else str(cell.n_pairs),
                *(f"{value:.2f}" for value in cell.align.values()),
                _shown(cell.gain, 2),
                _shown(cell.norm_align, 0),
                f"{cell.questions:.2f}",
            ]
            for cell in cells
        ],
        "Alignment with the wishes, 1 to 5, averaged before it is normalised: 0 generic, 100 informed.",
    )
    right = report.Table(
        ("model", "generic", "after talk", "informed", "cost of the talk, points", "cost of knowing, points"),
        [
            [
                _short(cell.name),
                *(f"{100 * value:.0f} %" for value in cell.accuracy.values()),
                _shown(cell.cost, 1, 100),
                _shown(cell.oracle_cost, 1, 100),
            ]
            for cell in cells
        ],
        "Share of right answers, of the same responses; below 0, personalising costs correctness.",
    )
    slopes = [
        f"{_short(cell.name)}: a question more goes with {cell.per_question:+.1f} points of NormAlign."
        for cell in cells
        if np.isfinite(cell.per_question)
    ]
    over = "with intervals of 95 % over problems and people"
    gained = _plot(cells, lambda cell: cell.gain, "gain, points", f"What the talk gained in alignment, {over}.")
    lost = _plot(cells, lambda cell: cell.cost, "change, points of 100", f"Right answers after the talk, {over}.", 100)
    return [
        report.Section("Alignment", worse, [align], gained),
        report.Section("Correctness", (), [right], lost),
        report.Section("What was asked", slopes, [_missed(cells)]),
        report.Section("What was left out", _warnings(found, dropped) or ["Nothing."]),
    ]


def _plot(cells: Sequence[Cell], of: Callable[[Cell], Interval], axis: str, said: str, scale: float = 1.0) -> list[Any]:
    drawn = [cell for cell in cells if np.isfinite(of(cell).low)]
    if not drawn:
        return []
    names = [_short(cell.name) for cell in drawn]
    return [(report.dots(names, [of(cell) for cell in drawn], axis=axis, scale=scale), said)]


def _missed(cells: Sequence[Cell]) -> report.Table:
    names = sorted({name for cell in cells for name in cell.missed})
    rows = [
        [
            name,
            *(
                f"{100 * cell.missed[name][0]:.0f} % of {cell.missed[name][1]}" if name in cell.missed else "-"
                for cell in cells
            ),
        ]
        for name in names
    ]
    return report.Table(
        ("wish", *(_short(cell.name) for cell in cells)), rows, "Share of the wishes that the talk did not bring out."
    )


def _numbers(found: Summary, dropped: dict[str, int]) -> dict[str, Any]:
    """What scripts read; what is undefined is null."""

    def number(value: float) -> float | None:
        return float(value) if np.isfinite(value) else None

    def ends(interval: Interval | None) -> list[float | None] | None:
        return None if interval is None else [number(x) for x in (interval.estimate, interval.low, interval.high)]

    return {
        "models": [
            {
                "model": cell.name,
                "pairs": cell.n_pairs,
                "incomplete": cell.n_incomplete,
                "alignment": {name: number(value) for name, value in cell.align.items()},
                "accuracy": {name: number(value) for name, value in cell.accuracy.items()},
                "gain": ends(cell.gain),
                "room": ends(cell.room),
                "norm_align": ends(cell.norm_align),
                "worse_than_generic": ends(cell.worse),
                "ties": cell.n_ties,
                "undefined_pairs": cell.n_undefined,
                "accuracy_cost": ends(cell.cost),
                "accuracy_cost_oracle": ends(cell.oracle_cost),
                "questions": cell.questions,
                "norm_align_per_question": number(cell.per_question),
                "missed": {name: {"share": share, "n": n} for name, (share, n) in cell.missed.items()},
            }
            for cell in found.cells
        ],
        "negative_models": ends(found.negative),
        "undefined_models": found.n_undefined,
        "failures": found.failures,
        "malformed_turns": found.malformed,
        "kappa": None if found.kappa is None else number(found.kappa),
        "dropped": dropped,
    }
