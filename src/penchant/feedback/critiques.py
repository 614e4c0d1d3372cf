"""Rubric scores and critiques of several models' answers, from any judge: how UltraFeedback was built.

Each instruction is answered by four models of a pool, each under a principle drawn by the instruction's source; a judge
rates all four per aspect in random order, then criticises each alone. The score of an answer is the mean of its aspect
ratings; the overall score of the critique is kept beside it. Finished records are appended to a file as they come, so
a killed run goes on where it stopped.

The published set: 63,967 instructions (Evol-Instruct 10,000, FalseQA 2,339, FLAN 20,939, ShareGPT 19,949, TruthfulQA
811, UltraChat 9,929) and 17 models. It holds TruthfulQA, so leave that source out of what a TruthfulQA test sees
(`lessons.comparisons(..., exclude_sources=["truthful_qa"])`; what else follows from the records stands there too).

Departures: a retry changes seed and temperature (the original asked the same question again and got the same answer);
numbers are range-checked (the original multiplied small ones by ten, hence its 10s that should be 1s, which
`repaired` mends by the published rule); delimiters inside payloads are escaped; a pair's strength follows its score
difference. In a record's annotations a missing aspect is absent, and counted under `problems`.

Source:
    Cui et al. (2023), UltraFeedback: Boosting Language Models with High-quality Feedback; its data card for the repair.

>>> repaired(10.0, 1.75), repaired(10.0, 4.5), repaired(7.0, 1.75), repaired(10.0, 3.0) is None
(1.0, 10.0, 7.0, True)
"""

import json
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from tqdm import tqdm

from penchant.cache import content_key
from penchant.errors import DataError, PenchantError, SettingsError
from penchant.feedback import rubrics
from penchant.records import canonical_json

if TYPE_CHECKING:
    from penchant.chat import ChatModel

Record = dict[str, Any]
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Instruction:
    """One thing to be answered.

    Attributes:
        text: as the models get it.
        source: where it comes from; decides the principles.
        correct_answers: known to be right, shown to the judge of truthfulness.
        incorrect_answers: known to be wrong.
    """

    text: str
    source: str = "other"
    correct_answers: tuple[str, ...] = ()
    incorrect_answers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what no model can be asked."""
        if not self.text.strip() or _clean(self.text) != self.text:
            raise DataError(f"An instruction must be text that can be written as UTF-8: got {self.text[:40]!r}.")


@dataclass(frozen=True)
class Estimate:
    """What a run will cost, without retries; tokens are upper bounds (four characters count as one).

    Attributes:
        instructions: still to be done.
        calls: to models and judge.
        prompt_tokens: sent.
        completion_tokens: received.
        price: in the unit of the prices given.
    """

    instructions: int
    calls: int
    prompt_tokens: int
    completion_tokens: int
    price: float

    def __str__(self) -> str:
        """For people."""
        return (
            f"{self.instructions:,} instructions: {self.calls:,} calls, at most {self.prompt_tokens:,} prompt and "
            f"{self.completion_tokens:,} completion tokens, price at most {self.price:,.2f}, retries not counted"
        )


@dataclass(frozen=True)
class Built:
    """What a run gave.

    Attributes:
        records: one an instruction, in the order of the instructions.
        problems: reason -> how often, over all records and the file.
        n_known: records that a former run had finished.
    """

    records: list[Record]
    problems: dict[str, int]
    n_known: int


def repaired(overall: float, mean: float | None) -> float | None:
    """The published repair of a 10 that should be a 1: by the mean aspect rating; None means ask again."""
    if overall != 10 or mean is None or mean > 4:
        return overall
    return 1.0 if mean <= 2 else None


def mean_rating(annotations: Mapping[str, Mapping[str, Any]]) -> float | None:
    """Mean of the aspects that have a rating, 1..5; None if none has."""
    ratings = [one["Rating"] for one in annotations.values() if one["Rating"] != rubrics.NOT_APPLICABLE]
    return float(np.mean(ratings)) if ratings else None


class Critiques:
    """Build rated and criticised answers from any chat models.

    Args:
        pool: models that answer, with different names; at least `n_models`.
        judge: model that rates and criticises.
        n_models: answers an instruction, >= 2.
        attempts: most calls for one judgement; each with another seed, the first at temperature 0.
        shuffle: show the answers to the judge in random order (off only to measure its bias for places).
        repair: mend overall scores of 10 by `repaired`.
        separate_aspects: one call for each aspect, in an order of its own; if off, all aspects in one call, which is
            cheaper, shows one order to all of them and loses all of them together.
        temperature: of the answers.
        max_tokens: of an answer.
        judge_tokens: of a judgement, for each aspect in it, and of a critique.
        n_threads: records worked on at once; for models behind a URL.
        prices: model name -> price of one prompt token and of one completion token.
        seed: of everything drawn.

    Raises:
        SettingsError: a number is out of range, the pool is too small, or two of its models share a name.
    """

    def __init__(
        self,
        pool: "Sequence[ChatModel]",
        judge: "ChatModel",
        *,
        n_models: int = 4,
        attempts: int = 10,
        shuffle: bool = True,
        repair: bool = True,
        separate_aspects: bool = True,
        temperature: float = 0.7,
        max_tokens: int = 512,
        judge_tokens: int = 500,
        n_threads: int = 1,
        prices: Mapping[str, tuple[float, float]] | None = None,
        seed: int = 0,
    ):
        names = [model.name for model in pool]
        if len(set(names)) != len(names) or not 2 <= n_models <= len(names):
            raise SettingsError(f"n_models is {n_models} of the pool {names}: give at least 2, of different names.")
        if min(attempts, max_tokens, judge_tokens, n_threads) < 1:
            raise SettingsError("attempts, max_tokens, judge_tokens and n_threads must be at least 1.")
        self.pool, self.judge, self.n_models, self.attempts = list(pool), judge, n_models, attempts
        self.shuffle, self.repair, self.separate_aspects = shuffle, repair, separate_aspects
        self.temperature, self.max_tokens, self.judge_tokens = temperature, max_tokens, judge_tokens
        self.n_threads, self.prices, self.seed = n_threads, dict(prices or {}), seed

    def estimate(self, instructions: Sequence[Instruction]) -> Estimate:
        """Calls, tokens and price of a run over these instructions, before any is made."""
        n, texts = self.n_models, len(instructions)
        asked = sum(len(instruction.text) for instruction in instructions) // 4 + 1
        system = max(len(p.wish + p.examples) for options in rubrics.PRINCIPLES.values() for p in options) // 4 + 1
        answer = self.max_tokens
        calls = self._aspects_by_call()
        frame = sum(len(rubrics.rating_prompt(aspects, "", [""] * n)) for aspects in calls) // 4
        answered = n * (asked + texts * system), n * texts * answer
        rated = (
            len(calls) * (asked + texts * n * (answer + system)) + texts * frame,
            len(rubrics.ASPECTS) * texts * self.judge_tokens,
        )
        frame = len(rubrics.critique_prompt("", "")) // 4
        criticised = n * (asked + texts * (answer + system + frame)), n * texts * self.judge_tokens
        pool_price = np.mean([self.prices.get(model.name, (0.0, 0.0)) for model in self.pool], axis=0)
        judged = np.add(rated, criticised)
        price = np.dot(pool_price, answered) + np.dot(self.prices.get(self.judge.name, (0.0, 0.0)), judged)
        sent, received = np.add(answered, judged)
        return Estimate(texts, texts * (2 * n + len(calls)), int(sent), int(received), float(price))

    def build(
        self,
        instructions: Iterable[Instruction],
        path: Path | None = None,
        *,
        progress: bool = True,
        say: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
    ) -> Built:
        """Answers, ratings and critiques for each instruction.

        Args:
            instructions: equal ones are done as often as they come.
            path: a JSON-lines file that grows by each finished record and from which a later call goes on.
            progress: show a bar.
            say: told the cost estimate before the first call.

        Returns:
            Records in the published form, with `id` and `problems` beside.
        """
        keyed = dict(self._keyed(instructions))
        known, problems = _finished(path) if path else ({}, Counter[str]())
        known = {key: record for key, record in known.items() if key in keyed}
        todo = {key: instruction for key, instruction in keyed.items() if key not in known}
        say(str(self.estimate(list(todo.values()))))
        done = dict(known)
        bar = tqdm(total=len(keyed), initial=len(known), desc="critiques", disable=not progress)
        try:
            for record in self._records(todo):
                if path:
                    _append(path, record)
                done[record["id"]] = record
                bar.update()
        finally:
            bar.close()
        records = [done[key] for key in keyed]
        for record in records:
            problems.update(record["problems"])
        return Built(records, dict(problems), len(known))

    def rate(
        self,
        instruction: Instruction,
        responses: Sequence[str],
        *,
        notes: Sequence[str] = (),
        rng: np.random.Generator,
        problems: "Counter[str]",
    ) -> list[dict[str, dict[str, Any]]]:
        """Annotations of each response by aspect, in the order given, whatever order the judge saw them in.

        Args:
            instruction: what they answer.
            responses: at least one.
            notes: what each response's model was told; none if empty.
            rng: draws the order for each call.
            problems: counts judgements that failed.
        """
        annotations: list[dict[str, dict[str, Any]]] = [{} for _ in responses]
        for aspects in self._aspects_by_call():
            shown = rng.permutation(len(responses)) if self.shuffle else np.arange(len(responses))
            knowledge = ""
            if "truthfulness" in aspects:
                knowledge = rubrics.knowledge_text(
                    instruction.correct_answers, instruction.incorrect_answers, rubrics.source_name(instruction.source)
                )
            prompt = rubrics.rating_prompt(
                aspects,
                instruction.text,
                [responses[i] for i in shown],
                [notes[i] for i in shown] if notes else (),
                knowledge,
            )
            blocks = self._judged(
                prompt,
                partial(rubrics.parse_ratings, n=len(responses), aspects=aspects),
                int(rng.integers(1 << 31)),
                problems,
                f"no rating of {aspects[0] if len(aspects) == 1 else 'any aspect'}",
                max_tokens=len(aspects) * self.judge_tokens,
            )
            for i, block in zip(shown, blocks or (), strict=bool(blocks)):
                annotations[i] |= block
        return annotations

    def _aspects_by_call(self) -> list[tuple[str, ...]]:
        return [(aspect,) for aspect in rubrics.ASPECTS] if self.separate_aspects else [rubrics.ASPECTS]

    def _keyed(self, instructions: Iterable[Instruction]) -> Iterator[tuple[str, Instruction]]:
        settings = canonical_json(
            {
                "pool": [model.name for model in self.pool],
                "judge": self.judge.name,
                "numbers": [self.n_models, self.attempts, self.temperature, self.max_tokens, self.judge_tokens],
                "switches": [self.shuffle, self.repair, self.separate_aspects],
                "seed": self.seed,
            }
        )
        seen: Counter[Instruction] = Counter()
        for one in instructions:
            seen[one] += 1
            content = canonical_json([one.text, one.source, one.correct_answers, one.incorrect_answers, seen[one]])
            yield content_key(settings, content), one

    def _records(self, todo: Mapping[str, Instruction]) -> Iterator[Record]:
        if self.n_threads == 1:
            yield from (self._record(key, instruction) for key, instruction in todo.items())
            return
        with ThreadPoolExecutor(self.n_threads) as threads:
            running = [threads.submit(self._record, key, instruction) for key, instruction in todo.items()]
            try:
                for future in as_completed(running):
                    yield future.result()
            finally:
                # An error or Ctrl-C must not wait for what has not begun.
                threads.shutdown(wait=False, cancel_futures=True)

    def _record(self, key: str, instruction: Instruction) -> Record:
        # Seeded by its own key: the same record whatever else runs, in whatever order or thread.
        rng = np.random.default_rng(int(key[:16], 16))
        problems: Counter[str] = Counter()
        completions = self._completions(instruction, rng, problems)
        valid = [one for one in completions if one["response"]]
        if len(valid) < 2:
            problems["fewer than 2 answers, nothing to rate"] += 1
        else:
            if len({one["response"] for one in valid}) < len(valid):
                problems["identical answers"] += 1
            notes = [one.pop("note") for one in valid]
            rated = self.rate(instruction, [one["response"] for one in valid], notes=notes, rng=rng, problems=problems)
            for one, note, annotations in zip(valid, notes, rated, strict=True):
                one["annotations"], one["fine-grained_score"] = annotations, mean_rating(annotations)
                if one["fine-grained_score"] is None:
                    problems["an answer without any rating"] += 1
                one |= self._criticised(instruction, one["response"], note, one["fine-grained_score"], rng, problems)
        for one in completions:
            one.pop("note", None)
        return {
            "id": key,
            "source": instruction.source,
            "instruction": instruction.text,
            "models": [one["model"] for one in completions],
            "completions": completions,
            "correct_answers": list(instruction.correct_answers),
            "incorrect_answers": list(instruction.incorrect_answers),
            "judge": self.judge.name,
            "problems": dict(problems),
        }

    def _completions(
        self, instruction: Instruction, rng: np.random.Generator, problems: "Counter[str]"
    ) -> list[dict[str, Any]]:
        shares = rubrics.PRINCIPLE_SHARES.get(rubrics.source_name(instruction.source), rubrics.MIXED)
        completions = []
        for index in rng.choice(len(self.pool), self.n_models, replace=False):
            model, name = self.pool[index], str(rng.choice(list(shares), p=list(shares.values())))
            principle = rubrics.PRINCIPLES[name][rng.integers(len(rubrics.PRINCIPLES[name]))]
            told = principle.wish + principle.examples
            messages = [{"role": "system", "content": told}, {"role": "user", "content": instruction.text}]
            try:
                response = _clean(
                    model.complete(
                        messages,
                        n=1,
                        temperature=self.temperature,
                        max_tokens=self.max_tokens,
                        seed=int(rng.integers(1 << 31)),
                    )[0]
                ).strip()
                if not response:
                    problems["an empty answer"] += 1
            except PenchantError as error:
                response = ""
                problems[f"no answer: {_reason(error)}"] += 1
            completions.append(
                {
                    "model": model.name,
                    "principle": name,
                    "custom_system_prompt": told,
                    "response": response,
                    "annotations": {},
                    "critique": None,
                    "overall_score": None,
                    "fine-grained_score": None,
                    "note": principle.wish,
                }
            )
        return completions

    def _criticised(
        self,
        instruction: Instruction,
        response: str,
        note: str,
        mean: float | None,
        rng: np.random.Generator,
        problems: "Counter[str]",
    ) -> dict[str, Any]:
        """Critique, overall score, and the score as the judge gave it first."""
        ask = partial(
            self._judged,
            rubrics.critique_prompt(instruction.text, response, note),
            rubrics.parse_critique,
            problems=problems,
            failure="no critique",
            max_tokens=self.judge_tokens,
        )
        seeds = [int(seed) for seed in rng.integers(1 << 31, size=2)]
        judged = ask(seed=seeds[0])
        if judged is None:
            return {}
        critique, given = judged
        score = repaired(given, mean) if self.repair else given
        if score is None:
            problems["overall 10 asked again"] += 1
            critique, score = ask(seed=seeds[1], warm=True) or judged
        elif score != given:
            problems["overall 10 set to 1"] += 1
        return {"critique": critique, "overall_score": score, "overall_score_as_given": given}

    def _judged(
        self,
        prompt: str,
        parse: Callable[[str], Answer],
        seed: int,
        problems: "Counter[str]",
        failure: str,
        *,
        max_tokens: int,
        warm: bool = False,
    ) -> Answer | None:
        """What the judge says, read; None, counted, once all attempts have failed."""
        messages = [{"role": "user", "content": prompt}]
        for attempt in range(self.attempts):
            # A cold repetition would bring the same unreadable answer.
            temperature = 0.5 if warm or attempt else 0.0
            try:
                text = self.judge.complete(
                    messages, n=1, temperature=temperature, max_tokens=max_tokens, seed=seed + attempt
                )[0]
            except DataError as error:
                problems[f"{failure}: {_reason(error)}"] += 1
                return None
            except PenchantError as error:
                problems[f"asked again: {_reason(error)}"] += 1
                continue
            try:
                return parse(_clean(text))
            except DataError as error:
                problems[f"asked again: {error}"] += 1
        problems[f"{failure} in {self.attempts} attempts"] += 1
        return None


def _clean(text: str) -> str:
    """Text without the lone surrogates that a cut answer may end in; neither Arrow nor UTF-8 can hold them."""
    return text.encode("utf-8", "replace").decode()


def _reason(error: Exception) -> str:
    """The first sentence of an error without its numbers, so that equal reasons can be counted together."""
    return re.sub(r"\d[\d,.]*", "N", str(error).split(". ")[0])[:160]


def _finished(path: Path) -> "tuple[dict[str, Record], Counter[str]]":
    """Records of a former run by id; a last line torn by a kill is cut off the file."""
    problems: Counter[str] = Counter()
    if not path.exists():
        return {}, problems
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        problems["torn last line"] += 1
        with path.open("r+b") as file:
            file.truncate(whole)
    records = {}
    for line in content[:whole].splitlines():
        try:
            record = json.loads(line)
            records[record["id"]] = record
        except (ValueError, KeyError, TypeError, RecursionError):
            problems["unreadable line in the file"] += 1
    return records, problems


def _append(path: Path, record: Record) -> None:
    with path.open("ab") as file:
        file.write(canonical_json(record).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
