"""Good and bad answers with all that led to them: Themis' tool calls, and fine-grained feedback on long answers.

Themis (Li et al. 2024): a positive and a negative answer, each with its tool calls and a rationale.
Fine-grained RLHF (Wu et al. 2023): four answers, a choice between each two, marked errors and a corrected answer.
"""

import itertools
from collections.abc import Mapping
from typing import Any

from penchant.feedback.formats.layout import Fields, Format, Given, Look, Made, RowError, as_word, json_text
from penchant.feedback.formats.outcomes import preferred
from penchant.feedback.formats.unpaired import liked


def _convert_tools(fields: Fields, given: Given) -> list[Made]:
    question = fields.text("question")
    if "pos_answer" not in fields and "neg_answer" not in fields:
        return _single(fields, question)
    good, bad = fields.get("pos_answer"), fields.get("neg_answer")
    if not (isinstance(good, Mapping) and isinstance(bad, Mapping)):
        raise RowError("`pos_answer` or `neg_answer` is missing")
    chosen, rejected = good.get("answer"), bad.get("answer")
    if not (isinstance(chosen, str) and isinstance(rejected, str)):
        raise RowError("an answer has no text")
    context = fields.row.get("context")
    made = {
        "prompt": question,
        "chosen": chosen,
        "rejected": rejected,
        "rationale": _explanation(good),
        "context": fields.optional("context") if isinstance(context, str) else None,
    }
    rest = {
        side: {key: value for key, value in answer.items() if key != "answer"}
        for side, answer in (("chosen", good), ("rejected", bad))
    }
    return [("comparison", {**made, "extra": fields.extra(**rest)})]


def _explanation(answer: Mapping[str, Any]) -> str | None:
    rationale = answer.get("score_rationale")
    explanation = rationale.get("explanation") if isinstance(rationale, Mapping) else None
    return explanation if isinstance(explanation, str) else None


def _single(fields: Fields, question: str) -> list[Made]:
    """Rows of the same file that hold one answer and whether it is right."""
    label = liked(fields.get("label"))
    if label is None:
        raise RowError("`label` is neither true nor false")
    made = {
        "prompt": question,
        "response": fields.text("answer"),
        "reaction": "thumbs-up" if label else "thumbs-down",
    }
    return [("reaction", {**made, "extra": fields.extra()})]


def _recognise_tools(look: Look) -> str | None:
    def is_answer(value: Any) -> bool:
        return isinstance(value, Mapping) and "answer" in value

    rows_with = any("pos_answer" in row and "neg_answer" in row for row in look.rows)
    if look.has("question") and rows_with and look.mostly("pos_answer", is_answer):
        return "it has a `question` with a `pos_answer` and a `neg_answer`"
    return None


def _convert_fine(fields: Fields, given: Given) -> list[Made]:
    question = fields.text("question")
    answers = [fields.text(f"prediction {i}") for i in range(1, 5)]
    votes = [as_word(vote) for vote in fields.items("preference")]
    pairs = list(itertools.combinations(range(4), 2))
    if len(votes) != len(pairs):
        raise RowError("`preference` does not hold six votes")
    passages, feedback = fields.get("passages"), fields.get("feedback")
    context = _passages(passages)
    extra = fields.extra()
    made: list[Made] = []
    for (i, j), vote in zip(pairs, votes, strict=True):
        result = {"0": "tie", "1": "a", "2": "b"}.get(vote or "")
        if result is not None and answers[i] != answers[j]:
            chosen, rejected, strength = preferred(answers[i], answers[j], result)
            columns = {"prompt": question, "chosen": chosen, "rejected": rejected, "strength": strength}
            made.append(("comparison", {**columns, "context": context, "extra": extra}))
        else:
            fields.skip("a vote is none of 0, 1 and 2, or between equal answers")
    corrected = feedback.get("corrected-prediction") if isinstance(feedback, Mapping) else None
    if isinstance(corrected, str) and corrected:
        made.append(
            (
                "edit",
                {
                    "draft": answers[0],
                    "revision": corrected,
                    "context": question,
                    "extra": json_text({"feedback": feedback}),
                },
            )
        )
    if not made:
        raise RowError("no vote is 0, 1 or 2, and nothing was corrected")
    return made


def _passages(passages: Any) -> str | None:
    if not isinstance(passages, list):
        return None
    return "\n\n".join(" ".join(map(str, each)) if isinstance(each, list) else str(each) for each in passages)


def _recognise_fine(look: Look) -> str | None:
    if look.has("question", "prediction 1", "prediction 4", "preference"):
        return "it has four predictions and a `preference` between each two of them"
    return None


TOOLS = Format(
    "themis",
    "good and bad answers with tool calls",
    ("question", "pos_answer", "neg_answer"),
    _recognise_tools,
    _convert_tools,
)
FINE_GRAINED = Format(
    "fine_grained",
    "four answers, each two compared, and a correction",
    ("question", "prediction 1", "prediction 2", "preference"),
    _recognise_fine,
    _convert_fine,
)
