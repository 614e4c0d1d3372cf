r"""Does a model find out what a person wants, and does it answer accordingly, at no cost in correctness?

Each model answers each task in three conditions: the question alone (`no_prompt`), a talk in which it must ask before
it answers (`infer_persona`), and with the person and their wishes known (`persona_known`). The grader is not told
which. Alignment and correctness are those of one and the same response, and each judgement is made once.

What the official code does otherwise: an item that fails vanishes there, and a score that cannot be read becomes 1;
here a failure is counted with its reason and never becomes a score. A turn that does not keep to the two lines of the
form is counted, and taken for what a person would take it for: a question if it ends in a question mark, else an
answer.

Source:
    Li et al. (2025), PrefDisco, arXiv 2510.00177, and its official code (conditions, turns, fields of a result).

>>> action("ACTION: ask\nCONTENT: Long or short?")
Action(kind='ask', text='Long or short?', is_formed=True)
>>> action("It is 4.")
Action(kind='final_answer', text='It is 4.', is_formed=False)
"""

import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from penchant.cache import content_key
from penchant.chat import ChatError, ChatModel, Message
from penchant.errors import SettingsError, UnknownNameError, nearest
from penchant.evaluate.discovery_tasks import Problem, Task
from penchant.evaluate.graders import Correctness, Grader
from penchant.evaluate.passive_user import PassiveUser
from penchant.records import canonical_json

Row = dict[str, Any]
MODES = {"baseline": "no_prompt", "discovery": "infer_persona", "oracle": "persona_known"}
"""Condition -> its name in the official records."""

_ACTION = re.compile(
    r"^\s*\**action\**\s*:\s*\**\s*(ask|final[_ ]answer)\b\W*?\n?\s*(?:\**content\**\s*:\s*)?(.*)\Z", re.I | re.S
)
_FORM = "Reply in exactly two lines:\nACTION: ask or final_answer\nCONTENT: your question, or your answer"
_MUST_ASK = (
    "Before you answer the person's question, find out how they want it answered: form, length, tone, depth. Ask one "
    "short question at a time, at most {turns} in all. "
)
_NOW_ANSWER = "Now answer my first question the way I want it, with no further question.\nACTION: final_answer"


@dataclass(frozen=True)
class Action:
    """What a model does in a turn.

    Attributes:
        kind: it asks, or it answers.
        text: question or answer.
        is_formed: whether it kept to the form.
    """

    kind: Literal["ask", "final_answer"]
    text: str
    is_formed: bool


def action(text: str) -> Action:
    """Read a model's turn; a text without the form is a question if it ends in a question mark, else the answer."""
    found = _ACTION.match(text)
    if found:
        kind: Literal["ask", "final_answer"] = "ask" if found[1].lower() == "ask" else "final_answer"
        return Action(kind, found[2].strip(), True)
    stripped = text.strip()
    return Action("ask" if stripped.endswith("?") else "final_answer", stripped, False)


def baseline_messages(problem: Problem) -> list[Message]:
    """The question alone."""
    return [{"role": "user", "content": problem.text()}]


def oracle_messages(task: Task) -> list[Message]:
    """The question, with all that the person wants; never the rubric."""
    wants = "\n".join(f"- {one.wish}" for one in task.preferences.values())
    system = f"The person who asks: {task.persona.description}\nThey want an answer like this:\n{wants}"
    return [{"role": "system", "content": system}, *baseline_messages(task.problem)]


@dataclass(frozen=True)
class Talk:
    """A talk and its end.

    Attributes:
        messages: all of it, the response last.
        response: what the person gets.
        n_questions: that were asked.
        expressed: preferences that the person told, in order.
        malformed: turns that did not keep to the form.
    """

    messages: tuple[Message, ...]
    response: str
    n_questions: int
    expressed: tuple[str, ...]
    malformed: int


def discover(
    task: Task,
    say: Callable[[Sequence[Message], bool], str],
    user: PassiveUser,
    *,
    max_turns: int = 5,
    n_questions: int | None = None,
    seed: int = 0,
) -> Talk:
    """Talk until the model answers, the person stops, or the turns are used up; then it is told to answer.

    Args:
        task: what is asked, and by whom.
        say: messages, and whether the answer is due -> the model's next turn.
        user: who answers questions.
        max_turns: most questions, >= 1.
        n_questions: just so many are asked, whatever the model chooses; up to it without this.
        seed: of the user.

    Raises:
        ChatError: the model or the user did not answer.
    """
    limit = n_questions if n_questions is not None else max_turns
    system = _MUST_ASK.format(turns=limit) + _FORM
    messages: list[Message] = [{"role": "system", "content": system}, *baseline_messages(task.problem)]
    expressed: list[str] = []
    malformed = asked = 0
    while asked < limit:
        said = say(messages, False)
        turn = action(said)
        malformed += not turn.is_formed
        if turn.kind == "final_answer" and n_questions is None:
            return Talk(
                (*messages, {"role": "assistant", "content": said}), turn.text, asked, tuple(expressed), malformed
            )
        asked += 1
        reply = user.reply(task, turn.text, expressed, seed=seed + asked)
        expressed += [name for name in reply.expressed if name not in expressed]
        messages += [{"role": "assistant", "content": said}, {"role": "user", "content": reply.text}]
        if reply.stops:
            break
    # Merged into the person's last words: two turns of one side in a row break the templates of many models.
    last = {"role": "user", "content": f"{messages[-1]['content']}\n\n{_NOW_ANSWER}"}
    messages = [*messages[:-1], last]
    said = say(messages, True)
    found = _ACTION.match(said)
    # After `ACTION: final_answer` in its instructions a model often goes on with the content alone: that is no slip.
    text = found[2] if found else re.sub(r"^\s*content\s*:\s*", "", said, flags=re.IGNORECASE)
    malformed += bool(found and found[1].lower() == "ask")
    return Talk((*messages, {"role": "assistant", "content": said}), text.strip(), asked, tuple(expressed), malformed)


# Runs ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Estimate:
    """What a run will cost at most, retries not counted; four characters count as a token.

    Attributes:
        rows: still to be done.
        calls: to the models under test, the user and the grader, in this order.
        prompt_tokens: sent, at most.
        completion_tokens: received, at most.
    """

    rows: int
    calls: tuple[int, int, int]
    prompt_tokens: int
    completion_tokens: int

    def __str__(self) -> str:
        """For people."""
        return (
            f"{self.rows:,} answers to get: at most {self.calls[0]:,} calls to models, {self.calls[1]:,} to the user, "
            f"{self.calls[2]:,} to the grader; at most {self.prompt_tokens:,} prompt and {self.completion_tokens:,} "
            "completion tokens"
        )


class Discovery:
    """Runs models over tasks in the three conditions.

    Args:
        models: under test, with different names.
        user: who answers their questions.
        grader: of alignment, criterion by criterion.
        correctness: who says what is right.
        second: another grader of alignment, whose agreement with the first is reported.
        max_turns: most questions, >= 1.
        n_questions: ask just so many; up to `max_turns` without it.
        temperature: of the models under test.
        max_tokens: of an answer.
        question_tokens: of a turn before the answer; as an answer without it.
        n_threads: rows worked on at once; for models behind a URL.
        seed: of the sampling.

    Raises:
        SettingsError: a number is out of range, or two models share a name.
    """

    def __init__(
        self,
        models: Sequence[ChatModel],
        *,
        user: PassiveUser,
        grader: Grader,
        correctness: Correctness,
        second: Grader | None = None,
        max_turns: int = 5,
        n_questions: int | None = None,
        temperature: float = 0.7,
        max_tokens: int = 512,
        question_tokens: int | None = None,
        n_threads: int = 1,
        seed: int = 42,
    ):
        names = [model.name for model in models]
        if not names or len(set(names)) < len(names):
            raise SettingsError(f"Give at least one model, each of another name: got {names}.")
        numbers = (max_turns, max_tokens, n_threads, n_questions, question_tokens)
        if min(number for number in numbers if number is not None) < 1 or temperature < 0:
            raise SettingsError(
                "max_turns, n_questions, max_tokens, question_tokens and n_threads must be at least 1 and temperature "
                f"at least 0: got {max_turns}, {n_questions}, {max_tokens}, {question_tokens}, {n_threads}, "
                f"{temperature}."
            )
        self.models, self.user, self.grader, self.correctness = list(models), user, grader, correctness
        self.second, self.max_turns, self.n_questions = second, max_turns, n_questions
        self.temperature, self.max_tokens, self.n_threads, self.seed = temperature, max_tokens, n_threads, seed
        self.question_tokens = question_tokens or max_tokens

    def estimate(self, jobs: Sequence[tuple[ChatModel, Task, str]]) -> Estimate:
        """Calls and tokens of rows still to be done, before any is made."""
        limit = self.n_questions or self.max_turns
        calls, sent, received = [0, 0, 0], 0, 0
        n_graders = sum(grader is not None and not grader.is_free for grader in (self.grader, self.second))
        for _, task, mode in jobs:
            asked = len(task.problem.text()) // 4 + 1
            wants = sum(len(one.wish) for one in task.preferences.values()) // 4 + len(task.persona.description) // 4
            turns = limit if mode == "infer_persona" else 0
            calls[0] += turns + 1
            calls[1] += turns if not self.user.name.startswith("rules") else 0
            judged = n_graders * len(task.preferences) + (not self.correctness.is_free)
            calls[2] += judged
            talk = turns * (self.question_tokens + 40)
            sent += (turns + 1) * (asked + 60 + talk // 2) + turns * (wants + 200)
            sent += judged * (asked + self.max_tokens + 150) + wants * (mode == "persona_known")
            received += turns * (self.question_tokens + 40) + self.max_tokens + judged * 20
        return Estimate(len(jobs), (calls[0], calls[1], calls[2]), sent, received)

    def run(
        self,
        tasks: Sequence[Task],
        path: Path | None = None,
        *,
        modes: Sequence[str] = tuple(MODES.values()),
        progress: bool = True,
        say: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
    ) -> list[Row]:
        """A row for each model, task and condition.

        Args:
            tasks: to be answered.
            path: a JSON-lines file that grows by each row and from which a later call goes on; rows with a failure are
                tried again.
            modes: conditions, by their official names or ours.
            progress: show a bar.
            say: told the cost before the first call.

        Raises:
            UnknownNameError: there is no such mode.
        """
        jobs = {
            self._key(model, task, mode): (model, task, mode)
            for model in self.models
            for task in tasks
            for mode in self.modes(modes)
        }
        done = {key: row for key, row in _finished(path).items() if key in jobs} if path else {}
        todo = {key: job for key, job in jobs.items() if key not in done}
        say(str(self.estimate(list(todo.values()))))
        bar = tqdm(total=len(jobs), initial=len(done), desc="discovery", disable=not progress, file=sys.stderr)
        with bar:
            for key, row in self._rows(todo):
                if path:
                    _append(path, {"key": key, **row})
                done[key] = row
                bar.update()
        return [done[key] for key in jobs]

    @staticmethod
    def modes(names: Sequence[str]) -> list[str]:
        """Official names of conditions.

        Raises:
            UnknownNameError: there is no such condition.
        """
        known = {**MODES, **{name: name for name in MODES.values()}}
        for name in names:
            if name not in known:
                raise UnknownNameError(f"No mode is called {name!r}: {nearest(name, known)}")
        return [known[name] for name in names]

    def _key(self, model: ChatModel, task: Task, mode: str) -> str:
        settings = [self.user.name, self.grader.name, self.correctness.name, self.second and self.second.name]
        numbers = [self.max_turns, self.n_questions, self.temperature, self.max_tokens, self.question_tokens, self.seed]
        wants = {name: [one.value, one.weight, one.wish, list(one.levels)] for name, one in task.preferences.items()}
        about = [task.problem.text(), task.problem.answer, task.persona.name, task.persona.description, wants]
        return content_key(canonical_json([model.name, mode, settings, numbers, task.problem.id, about]))

    def _rows(self, todo: Mapping[str, tuple[ChatModel, Task, str]]) -> Iterator[tuple[str, Row]]:
        if self.n_threads == 1:
            yield from ((key, self._row(*job)) for key, job in todo.items())
            return
        with ThreadPoolExecutor(self.n_threads) as threads:
            running = {threads.submit(self._row, *job): key for key, job in todo.items()}
            try:
                for future in as_completed(running):
                    yield running[future], future.result()
            finally:
                # An error or Ctrl-C must not wait for what has not begun.
                threads.shutdown(wait=False, cancel_futures=True)

    def _row(self, model: ChatModel, task: Task, mode: str) -> Row:
        """One response and its judgements; what fails is named in `failures` and has no score."""
        row: Row = {
            "model": model.name,
            "problem_id": task.problem.id,
            "persona_id": task.persona.name,
            "mode": mode,
            "user_type": self.user.name if mode == "infer_persona" else None,
            "conversation": [],
            "weighted_score": None,
            "correct": None,
            "criteria_scores": {},
            "second_scores": {},
            "preferences": {name: [one.value, one.weight] for name, one in task.preferences.items()},
            "interaction_turns": 0,
            "preferences_expressed": [],
            "malformed_turns": 0,
            "failures": [],
        }
        try:
            talk = self._talk(model, task, mode)
        except ChatError as error:
            row["failures"] = ["no response"]
            row["error"] = str(error)[:300]
            return row
        row |= {
            "conversation": [dict(message) for message in talk.messages],
            "interaction_turns": talk.n_questions,
            "preferences_expressed": list(talk.expressed),
            "malformed_turns": talk.malformed,
        }
        if not talk.response:
            row["failures"] = ["the answer is empty"]
            return row
        self._judged(row, task, talk.response)
        return row

    def _talk(self, model: ChatModel, task: Task, mode: str) -> Talk:
        def say(messages: Sequence[Message], is_due: bool) -> str:
            limit = self.max_tokens if is_due else self.question_tokens
            return model.complete(messages, temperature=self.temperature, max_tokens=limit, seed=self.seed)[0]

        if mode == "infer_persona":
            # A model that answers at once needs the room of an answer.
            return discover(
                task, say, self.user, max_turns=self.max_turns, n_questions=self.n_questions, seed=self.seed
            )
        messages = baseline_messages(task.problem) if mode == "no_prompt" else oracle_messages(task)
        text = say(messages, True)
        return Talk((*messages, {"role": "assistant", "content": text}), text.strip(), 0, (), 0)

    def _judged(self, row: Row, task: Task, response: str) -> None:
        failures: list[str] = []
        for grader, into in ((self.grader, "criteria_scores"), (self.second, "second_scores")):
            if grader is None:
                continue
            row[into] = {name: grader.score(task, name, response) for name in task.preferences}
            n_failed = sum(score is None for score in row[into].values())
            which = "grader" if into == "criteria_scores" else "second grader"
            failures += [f"the {which} gave no whole number from 1 to 5"] * n_failed
        row["correct"] = self.correctness.is_correct(task.problem, response)
        if row["correct"] is None:
            failures.append("no judgement of correctness")
        row["failures"] = failures
        row["weighted_score"] = weighted_score(row["criteria_scores"], task)


def weighted_score(scores: Mapping[str, int | None], task: Task) -> float | None:
    """PrefAlign: the weighted mean of the criteria, 1..5; none where one criterion has no score.

    sum_j w_j g_j / sum_j w_j
    """
    total = 0.0
    for name, wanted in task.preferences.items():
        score = scores.get(name)
        if score is None:
            return None
        total += wanted.weight * score
    return total / sum(wanted.weight for wanted in task.preferences.values())


def _finished(path: Path) -> dict[str, Row]:
    """Rows without a failure; a line that a killed run left half-written is done again."""
    done: dict[str, Row] = {}
    if not path.exists():
        return done
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
            if not row["failures"]:
                done[row.pop("key")] = row
        except (ValueError, KeyError, TypeError):
            continue
    return done


def _append(path: Path, row: Row) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # A line of its own even after a half-written one.
    torn = path.exists() and path.stat().st_size > 0 and path.read_bytes()[-1:] != b"\n"
    with path.open("a", encoding="utf-8") as file:
        file.write(("\n" if torn else "") + json.dumps(row, ensure_ascii=False) + "\n")


def failures(rows: Sequence[Row]) -> dict[str, int]:
    """Reason -> how often, over all rows."""
    return dict(Counter(reason for row in rows for reason in row["failures"]))
