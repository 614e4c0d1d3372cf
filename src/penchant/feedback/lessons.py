"""What the records of `penchant.feedback.critiques` teach: ratings, comparisons, lessons for a critique model, counts.

A record holds one instruction and several answers, each with ratings of its aspects, a critique and an overall score.
Everything here is a table made from finished records; nothing asks a model. Look at `tally` first: a judge that gives
one score to all, answers that repeat each other and judgements that had to be asked again all cost comparisons.

Source:
    Cui et al. (2023), UltraFeedback: Boosting Language Models with High-quality Feedback; how pairs follow from scores.

>>> answers = [{"response": text, "fine-grained_score": score} for text, score in (("a", 4.5), ("b", 2.5), ("c", 2.5))]
>>> pairs, dropped = comparisons([{"instruction": "q", "source": "flan", "completions": answers}])
>>> pairs.table.select(["chosen", "rejected", "strength"]).to_pylist()[0], dropped
({'chosen': 'a', 'rejected': 'b', 'strength': 0.75}, {'equal scores': 1})
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

from penchant.feedback import rubrics
from penchant.records import Comparisons, Conversations, Ratings, canonical_json

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Tally:
    """What is in a set of records, counted.

    Attributes:
        scores: how often each score was given: of an aspect (1 to 5, "N/A"), "overall" (1 to 10) and
            "overall_as_given" (before its repair); scores ascend.
        n_answers: answers that are not empty.
        n_repeated: answers equal to an earlier one to the same instruction, which can make no comparison with it.
        n_repeated_instructions: records whose instruction an earlier record has.
        n_failed_attempts: judge's texts that could not be read, and calls that broke off; each was asked again.
        n_given_up: judgements that failed for good; a call for several aspects counts as one.
    """

    scores: dict[str, dict[str, int]]
    n_answers: int
    n_repeated: int
    n_repeated_instructions: int
    n_failed_attempts: int
    n_given_up: int


def tally(records: Iterable[Record]) -> Tally:
    """Distribution of the scores, duplicates and failed judgements of a set of records."""
    scores: dict[str, Counter[Any]] = {}
    problems: Counter[str] = Counter()
    instructions: Counter[str] = Counter()
    n_answers = n_repeated = 0
    for record in records:
        problems.update(record["problems"])
        instructions[record["instruction"]] += 1
        answers = [one for one in record["completions"] if one["response"]]
        n_answers += len(answers)
        n_repeated += len(answers) - len({one["response"] for one in answers})
        for one in answers:
            given = {aspect: note["Rating"] for aspect, note in one["annotations"].items()}
            given |= {"overall": one["overall_score"], "overall_as_given": one.get("overall_score_as_given")}
            for name, score in given.items():
                if score is not None:
                    scores.setdefault(name, Counter())[score] += 1
    return Tally(
        {name: _ascending(count) for name, count in sorted(scores.items())},
        n_answers,
        n_repeated,
        sum(count - 1 for count in instructions.values()),
        sum(count for reason, count in problems.items() if reason.startswith("asked again")),
        sum(count for reason, count in problems.items() if reason.startswith(("no rating", "no critique"))),
    )


def _ascending(counts: Mapping[Any, int]) -> dict[str, int]:
    """Counts by score as text, "N/A" last; text, since JSON has no other keys."""
    ordered = sorted(counts, key=lambda score: (isinstance(score, str), score))
    return {score if isinstance(score, str) else f"{score:g}": counts[score] for score in ordered}


def ratings(records: Iterable[Record]) -> Ratings:
    """One rating an answer and aspect (1..5), and one for its overall score (1..10) with the critique as rationale."""
    rows = []
    for record in records:
        for one in record["completions"]:
            if not one["response"]:
                continue
            row = {
                "prompt": record["instruction"],
                "response": one["response"],
                "source": record["source"],
                "extra": canonical_json(
                    {"model": one["model"], "principle": one["principle"], "judge": record.get("judge")}
                ),
                "low": 1.0,
                "high": 5.0,
            }
            for aspect, note in one["annotations"].items():
                if note["Rating"] != rubrics.NOT_APPLICABLE:
                    rows.append(
                        row | {"aspect": aspect, "score": float(note["Rating"]), "rationale": note["Rationale"]}
                    )
            if one["overall_score"] is not None:
                score = {"score": one["overall_score"], "high": 10.0, "rationale": one["critique"]}
                rows.append(row | {"aspect": "overall", **score})
    return Ratings.from_rows(rows)


def comparisons(
    records: Iterable[Record],
    *,
    by: Literal["aspects", "overall", "overall_as_given"] = "aspects",
    exclude_sources: Sequence[str] = (),
) -> tuple[Comparisons, dict[str, int]]:
    """All pairs of answers to one instruction with different scores, the better one chosen.

    A difference of d / span of the scale, in (0, 1], becomes the strength 1/2 + half of it, since 1/2 is a tie in our
    records; the margin of UltraRM is twice the distance from 1/2.

    Args:
        records: of `Critiques.build`.
        by: the mean of the aspect ratings (which people found better), the overall score, or that before its repair.
        exclude_sources: sources left out, such as the one of a benchmark.

    Returns:
        The comparisons, and reason -> pairs dropped.
    """
    field = {"aspects": "fine-grained_score", "overall": "overall_score", "overall_as_given": "overall_score_as_given"}
    span = 4.0 if by == "aspects" else 9.0
    excluded = {rubrics.source_name(source) for source in exclude_sources}
    dropped: Counter[str] = Counter()
    rows = []
    for record in records:
        pairs = combinations(record["completions"], 2)
        if rubrics.source_name(record["source"]) in excluded:
            dropped["source excluded"] += sum(1 for _ in pairs)
            continue
        for first, second in pairs:
            a, b = first.get(field[by]), second.get(field[by])
            if a is None or b is None:
                dropped["an answer without a score"] += 1
            elif first["response"] == second["response"]:
                dropped["identical answers"] += 1
            elif a == b:
                dropped["equal scores"] += 1
            else:
                better, worse = (first, second) if a > b else (second, first)
                rows.append(
                    {
                        "prompt": record["instruction"],
                        "chosen": better["response"],
                        "rejected": worse["response"],
                        "strength": 0.5 + abs(a - b) / (2 * span),
                        "source": record["source"],
                    }
                )
    return Comparisons.from_rows(rows), dict(dropped)


def critique_lessons(records: Iterable[Record]) -> Conversations:
    """What a critique model learns from: the request for a critique, and the critique with its score."""
    rows = []
    for record in records:
        for one in record["completions"]:
            if one["critique"] is not None:
                answer = f"{one['critique']}\nOverall Score: {one['overall_score']:g}"
                asked = rubrics.critique_prompt(record["instruction"], one["response"])
                messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
                rows.append({"messages": canonical_json(messages), "source": record["source"]})
    return Conversations.from_rows(rows)
