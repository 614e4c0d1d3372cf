"""Invented people whose choices are varied and consistent, by the million: what few-shot personalisation learns from.

Real comparisons with names are scarce, and invented ones teach nothing if all answers are alike or a person's labels
follow no person. Both are measured here, and enforced:

*Diversity.* Of each question several views are listed first, and each view is answered by another model in turn. How
alike the answers are is the mean cosine of their vectors; above `max_similarity` they are asked for again, and a
question whose answers stay alike is left out.
*Consistency.* A judge that reads the person's description labels each pair in both orders. Where it does not decide, a
coin does, once, and the choice is written into the description, so that later labels agree with it (iterative
refinement). A share of each person's labels is asked again at the end; a person whose labels are not confirmed is left
out whole.
*No reward for length.* The judge is told so, and only answers of like length are paired; what share of choices fell on
the longer one is reported.

One person after the other is made, written and forgotten, so that memory holds the answers to the questions and
nothing that grows with the people. Invented people say so: `source` is "synthetic" in every row.

    made = Personas([chat_a, chat_b], judge, encoder=MiniLM())
    with writing(Path("synthetic.parquet")) as write:
        for one in made.stream(invented(chat_a, seeds), questions):         # 1,500 people x 700 questions: > 1M rows
            write(one.comparisons)
    print(made.report)

Source:
    Singh et al. (2025), FSPO, arXiv 2502.19312, section 5 (view conditioning, persona steering, iterative refinement).
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import combinations
from threading import Lock
from typing import Any, Literal, TypeVar

import numpy as np
import pydantic

from penchant.cache import content_key
from penchant.chat import ChatError, ChatModel, structured
from penchant.encoders import Encoder
from penchant.errors import DataError, SettingsError
from penchant.records import Comparisons, canonical_json

T = TypeVar("T")
R = TypeVar("R")

_CUT = 200  # characters of a question or an answer that are written into a description


@dataclass(frozen=True)
class Persona:
    """An invented person.

    Attributes:
        name: one for each person.
        description: what a judge is told of them; grows where a coin had to decide.
    """

    name: str
    description: str


@dataclass(frozen=True)
class Labelled:
    """One person's choices.

    Attributes:
        persona: with the description as it is after all labels.
        comparisons: theirs.
        consistency: share of the labels asked again that came out the same, half where the judge does not decide; 1.0
            if none was asked again.
        entropy: mean entropy of the judge's votes on these, nats: 0 where both orders agree, log 2 where they do not.
        n_settled: labels that a coin decided.
    """

    persona: Persona
    comparisons: Comparisons
    consistency: float
    entropy: float
    n_settled: int


@dataclass
class Report:
    """What was made so far, and what was left out.

    Attributes:
        n_questions: whose answers differ enough.
        n_people: kept.
        n_comparisons: of these.
        n_settled: of these labels, decided by a coin.
        n_longer: of these, in which the longer answer was preferred; about half where length is no reward.
        similarity: mean cosine of the answers to a question, over the questions kept.
        consistency: mean over the people kept.
        entropy: likewise.
        left_out: reason -> how many questions, pairs or people.
    """

    n_questions: int = 0
    n_people: int = 0
    n_comparisons: int = 0
    n_settled: int = 0
    n_longer: int = 0
    similarity: float = float("nan")
    consistency: float = float("nan")
    entropy: float = float("nan")
    left_out: Counter[str] = field(default_factory=Counter)


class _Views(pydantic.BaseModel):
    views: list[str]


class _Choice(pydantic.BaseModel):
    choice: Literal["first", "second", "neither"]


class _Described(pydantic.BaseModel):
    description: str


def invented(chat: ChatModel, seeds: Iterable[str], *, seed: int = 0, max_tokens: int = 300) -> Iterator[Persona]:
    """People, one for each trait or situation that steers them; one at a time, as they are asked for.

    Args:
        chat: who invents them.
        seeds: what each is to be like, in a few words; different ones make different people.
        seed: of the sampling.
        max_tokens: longest description.

    Raises:
        ChatError: no description came.
    """
    for number, trait in enumerate(seeds):
        yield invented_one(chat, trait, number, seed=seed, max_tokens=max_tokens)


def invented_one(chat: ChatModel, trait: str, number: int, *, seed: int = 0, max_tokens: int = 300) -> Persona:
    """The person of this number, the same whoever else is invented; see `invented`.

    Args:
        chat: who invents.
        trait: what the person is to be like, in a few words.
        number: of the person, which the name says.
        seed: of the sampling.
        max_tokens: longest description.

    Raises:
        ChatError: no description came.
    """
    wish = (
        f"Invent one person. What is known: {trait}. Describe in two or three sentences who they are and how they "
        "like to be answered: tone, depth, form, what they value and what annoys them."
    )
    found = structured(chat, _asked(wish), _Described, seed=seed + 100 * number, max_tokens=max_tokens)
    return Persona(f"persona-{number:07d}", found.description.strip())


class Personas:
    """Makes labelled pairs of invented people with any chat models.

    Args:
        writers: models that answer, in turn; several make answers more varied.
        judge: model that labels.
        encoder: by whose vectors answers are alike.
        n_views: views on a question, and answers to it, >= 2.
        max_similarity: most that the answers to a question may be alike, mean cosine, in (0, 1].
        attempts: most times that answers to a question, or one judgement, are asked for, >= 1.
        max_length_ratio: longest answer of a pair over the shortest, in characters, >= 1.
        refine: write a coin's choice into the description; off only to see what that does.
        recheck: share of each person's labels that are asked again, in [0, 1].
        min_consistency: of a person who is kept, in [0, 1].
        temperature: of the answers.
        max_tokens: of an answer.
        n_threads: people worked on at once; for models behind a URL.
        seed: of everything drawn.

    Attributes:
        report: what was made so far.

    Raises:
        SettingsError: a setting is out of range, or there is no writer.
    """

    def __init__(
        self,
        writers: Sequence[ChatModel],
        judge: ChatModel,
        *,
        encoder: Encoder,
        n_views: int = 4,
        max_similarity: float = 0.8,
        attempts: int = 4,
        max_length_ratio: float = 1.5,
        refine: bool = True,
        recheck: float = 0.2,
        min_consistency: float = 0.8,
        temperature: float = 0.8,
        max_tokens: int = 300,
        n_threads: int = 1,
        seed: int = 0,
    ):
        if not writers or n_views < 2 or min(attempts, max_tokens, n_threads) < 1 or max_length_ratio < 1:
            raise SettingsError(
                "Personas needs a writer, n_views of at least 2, and attempts, max_tokens, n_threads and "
                f"max_length_ratio of at least 1: got {len(writers)}, {n_views}, {attempts}, {max_tokens}, "
                f"{n_threads}, {max_length_ratio}."
            )
        if not (0 < max_similarity <= 1 and 0 <= recheck <= 1 and 0 <= min_consistency <= 1):
            raise SettingsError(
                "max_similarity must be in (0, 1], recheck and min_consistency in [0, 1]: got "
                f"{max_similarity}, {recheck}, {min_consistency}."
            )
        self.writers, self.judge, self.encoder, self.n_views = list(writers), judge, encoder, n_views
        self.max_similarity, self.attempts, self.max_length_ratio = max_similarity, attempts, max_length_ratio
        self.refine, self.recheck, self.min_consistency = refine, recheck, min_consistency
        self.temperature, self.max_tokens, self.n_threads, self.seed = temperature, max_tokens, n_threads, seed
        self.report = Report()
        self._lock = Lock()  # of the report

    def stream(self, people: Iterable[Persona], questions: Sequence[str]) -> Iterator[Labelled]:
        """Each person's labelled pairs, one pair a question, as soon as they are made and in the order of the people.

        Args:
            people: any number; they are asked for one after the other, and none is kept.
            questions: what is asked; their answers are made first, and kept.

        Raises:
            DataError: no question has answers that differ enough.
        """
        yield from self.choices(people, self.answered(questions))

    def answered(self, questions: Sequence[str]) -> dict[str, list[str]]:
        """The questions whose answers differ enough, with these.

        Raises:
            DataError: there is none.
        """
        answers = {question: found for question in dict.fromkeys(questions) if (found := self.answers(question))}
        if not answers:
            raise DataError(
                f"None of {len(questions)} questions has answers that differ enough ({dict(self.report.left_out)}). "
                "Take more or better writers, a higher temperature, or raise max_similarity."
            )
        return answers

    def choices(self, people: Iterable[Persona], answers: dict[str, list[str]]) -> Iterator[Labelled]:
        """Each person's labelled pairs among answers that were made before; see `stream`."""
        for labelled in _in_order(lambda persona: self.labelled(persona, answers), people, self.n_threads):
            if labelled is not None:
                self._count(labelled)
                yield labelled

    def answers(self, question: str) -> list[str]:
        """Answers from different points of view that are not too much alike; none if that cannot be had."""
        for attempt in range(self.attempts):
            seed = self._seed("answers", question, attempt)
            try:
                wish = (
                    f"Question: {question}\n\nList {self.n_views} points of view from which people would want it "
                    "answered, as different from each other as can be, each in one sentence."
                )
                views = structured(self.writers[0], _asked(wish), _Views, attempts=self.attempts, seed=seed).views
                written = [self._answer(question, view, number, seed) for number, view in enumerate(views)]
            except ChatError:
                continue
            different = list(dict.fromkeys(text for text in written[: self.n_views] if text))
            if len(different) >= 2 and (alike := similarity(self.encoder, different)) <= self.max_similarity:
                self.report.n_questions += 1
                self._mean("similarity", alike, self.report.n_questions)
                return different
        self._leave_out("questions whose answers are too much alike")
        return []

    def labelled(self, persona: Persona, answers: dict[str, list[str]]) -> Labelled | None:
        """One person's choices among answers; None of a person whose labels are not confirmed."""
        rng = np.random.default_rng(self._seed("person", persona.name))
        rows: list[dict[str, Any]] = []
        n_settled = 0
        for question, texts in answers.items():
            pairs = [pair for pair in combinations(texts, 2) if self._are_of_like_length(*pair)]
            if not pairs:
                self._leave_out("pairs without two answers of like length")
                continue
            pair = pairs[int(rng.integers(len(pairs)))]
            first, second = (pair[place] for place in rng.permutation(2))
            try:
                share = self.votes(persona.description, question, first, second)
            except ChatError:
                self._leave_out("pairs that the judge did not judge")
                continue
            is_settled = share == 0.5
            wins = bool(rng.random() < 0.5) if is_settled else share > 0.5
            chosen, rejected = (first, second) if wins else (second, first)
            if is_settled:
                n_settled += 1
                if self.refine:
                    persona = _refined(persona, question, chosen)
            about = canonical_json({"label": "coin" if is_settled else "judge"})
            row = {"prompt": question, "chosen": chosen, "rejected": rejected, "user": persona.name}
            rows.append({**row, "source": "synthetic", "extra": about})
        if not rows:
            self._leave_out("people without a pair")
            return None
        consistency, entropy = self._confirmed(persona, rows, rng)
        if consistency < self.min_consistency:
            self._leave_out("people whose labels were not confirmed")
            return None
        return Labelled(persona, Comparisons.from_rows(rows), consistency, entropy, n_settled)

    def votes(self, description: str, question: str, first: str, second: str, *, again: int = 0) -> float:
        """Share of the judge's votes for the first of two answers, over both orders: 1, 0, or 0.5 for undecided.

        Args:
            description: of the person.
            question: that is answered.
            first: answer.
            second: answer.
            again: number of the time that it is asked, each with seeds of its own.

        Raises:
            ChatError: an order got no judgement.
        """
        shares = []
        for one, other, wins in ((first, second, "first"), (second, first, "second")):
            wish = (
                f"A person: {description}\n\nQuestion: {question}\n\nFirst answer:\n{one}\n\nSecond answer:\n{other}"
                "\n\nWhich of the two answers would this person prefer? Judge by the description alone. Length is no "
                "merit. Say neither if the description does not decide."
            )
            seed = self._seed("judge", description, question, one, other, again)
            choice = structured(self.judge, _asked(wish), _Choice, attempts=self.attempts, seed=seed).choice
            shares.append(0.5 if choice == "neither" else float(choice == wins))
        mean = sum(shares) / 2
        return mean if mean in (0.0, 1.0) else 0.5

    def _confirmed(
        self, persona: Persona, rows: Sequence[dict[str, Any]], rng: np.random.Generator
    ) -> tuple[float, float]:
        """How far a second judgement, by the description as it is now, confirms labels; and its entropy, nats."""
        n = min(len(rows), int(np.ceil(self.recheck * len(rows))))
        same, entropies = [], []
        for place in rng.choice(len(rows), n, replace=False):
            row = rows[place]
            try:
                share = self.votes(persona.description, row["prompt"], row["chosen"], row["rejected"], again=1)
            except ChatError:
                self._leave_out("second judgements that did not come")
                continue
            same.append(share)
            entropies.append(np.log(2) if share == 0.5 else 0.0)
        return (float(np.mean(same)), float(np.mean(entropies))) if same else (1.0, 0.0)

    def _answer(self, question: str, view: str, number: int, seed: int) -> str:
        writer = self.writers[number % len(self.writers)]
        wish = f"{question}\n\nAnswer from this point of view, without naming it: {view}"
        [text] = writer.complete(
            _asked(wish), temperature=self.temperature, max_tokens=self.max_tokens, seed=seed + number
        )
        return text.strip()

    def _are_of_like_length(self, first: str, second: str) -> bool:
        shorter, longer = sorted((len(first), len(second)))
        return longer <= self.max_length_ratio * shorter

    def _seed(self, *parts: Any) -> int:
        """The same for the same thing, whatever else is made, in whatever order or thread."""
        return int(content_key(canonical_json([self.seed, *parts]))[:8], 16) // 2

    def _count(self, labelled: Labelled) -> None:
        report, rows = self.report, labelled.comparisons
        lengths = [np.array([len(text) for text in rows.table[name].to_pylist()]) for name in ("chosen", "rejected")]
        report.n_people += 1
        report.n_comparisons += len(rows)
        report.n_settled += labelled.n_settled
        report.n_longer += int((lengths[0] > lengths[1]).sum())
        self._mean("consistency", labelled.consistency, report.n_people)
        self._mean("entropy", labelled.entropy, report.n_people)

    def _mean(self, name: str, value: float, n: int) -> None:
        """Take one more value into a running mean of n."""
        before = getattr(self.report, name)
        setattr(self.report, name, value if n == 1 else before + (value - before) / n)

    def _leave_out(self, reason: str) -> None:
        with self._lock:
            self.report.left_out[reason] += 1


def similarity(encoder: Encoder, texts: Sequence[str]) -> float:
    """Mean cosine of the vectors of different texts, in [-1, 1]: 1 is all alike.

    >>> from penchant.encoders import Attributes
    >>> similarity(Attributes(["x", "y"]), ['{"x": 1, "y": 0}', '{"x": 0, "y": 2}'])
    0.0
    """
    vectors = encoder.encode(list(texts)).astype(np.float64)
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(min=1e-12)
    cosines = vectors @ vectors.T
    return float(cosines[np.triu_indices(len(texts), 1)].mean())


def _refined(persona: Persona, question: str, chosen: str) -> Persona:
    line = f'Asked "{_one_line(question)}", prefers answers such as "{_one_line(chosen)}".'
    return Persona(persona.name, f"{persona.description}\n{line}")


def _one_line(text: str) -> str:
    line = " ".join(text.split()).replace('"', "'")
    return line if len(line) <= _CUT else line[: _CUT - 1] + "…"


def _asked(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def _in_order(function: Callable[[T], R], items: Iterable[T], n_threads: int) -> Iterator[R]:
    """What a function gives for each item, in order; never more than a few items are taken ahead."""
    if n_threads == 1:
        yield from map(function, items)
        return
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(n_threads) as threads:
        try:
            for item in items:
                waiting.append(threads.submit(function, item))
                if len(waiting) >= 2 * n_threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:  # an error, or whoever asked having had enough, must not wait for what has not begun
            threads.shutdown(wait=False, cancel_futures=True)
