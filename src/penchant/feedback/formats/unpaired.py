"""One answer and whether it was liked: thumbs up or down, or right and wrong; and steps that are right or wrong.

Unpaired labels become reactions. Stepwise labels (process supervision; Lightman et al. 2023) become one rating per
step, 0 or 1, whose prompt holds the steps before it.
"""

from typing import Any

from penchant.feedback.formats.layout import Fields, Format, Given, Look, Made, RowError, json_text
from penchant.feedback.formats.messages import is_messages, messages, said

_PROMPTS = ("prompt", "question", "instruction", "query")
_ANSWERS = ("completion", "response", "answer", "output")
_LIKED = {True: "thumbs-up", False: "thumbs-down"}


def liked(value: Any) -> bool | None:
    """Whether a label says yes or no; None if it says neither."""
    if isinstance(value, str):
        word = value.strip().lower()
        if word in ("true", "1", "yes", "good", "thumbs_up", "up", "like", "+1", "desirable", "1.0"):
            return True
        return (
            False
            if word in ("false", "0", "no", "bad", "thumbs_down", "down", "dislike", "-1", "undesirable", "0.0")
            else None
        )
    return {1.0: True, 0.0: False, -1.0: False}.get(value) if isinstance(value, (bool, int, float)) else None


def _named(fields: Any, names: tuple[str, ...]) -> str | None:
    return next((name for name in names if name in fields), None)


def _convert(fields: Fields, given: Given) -> list[Made]:
    prompt, answer = _named(fields.row, _PROMPTS), _named(fields.row, _ANSWERS)
    if prompt is None or answer is None:
        raise RowError("there is no prompt or no answer")
    label = liked(fields.get("label"))
    if label is None:
        raise RowError("`label` is neither true nor false")
    payload: dict[str, Any]
    if is_messages(fields.row[answer]) or is_messages(fields.row[prompt]):
        asked, told = fields.get(prompt), fields.get(answer)
        payload = {
            "prompt": json_text(messages(asked, prompt) if is_messages(asked) else said(fields.text(prompt))),
            "response": json_text(
                messages(told, answer) if is_messages(told) else said(fields.text(answer), "assistant")
            ),
            "form": "messages",
        }
    else:
        payload = {"prompt": fields.text(prompt), "response": fields.text(answer)}
    who = {"user": fields.user(), "time": fields.time()}
    return [("reaction", {**payload, "reaction": _LIKED[label], **who, "extra": fields.extra()})]


def _recognise(look: Look) -> str | None:
    prompt, answer = _named(look.fields, _PROMPTS), _named(look.fields, _ANSWERS)
    if prompt and answer and look.mostly("label", lambda value: liked(value) is not None):
        return f"it has `{prompt}`, `{answer}` and a `label` that is true or false"
    return None


def _convert_steps(fields: Fields, given: Given) -> list[Made]:
    prompt = fields.text("prompt")
    steps, labels = fields.texts("completions", at_least=1), fields.items("labels")
    if len(steps) != len(labels):
        raise RowError("`completions` and `labels` differ in length")
    verdicts = [liked(label) for label in labels]
    if None in verdicts:
        raise RowError("`labels` holds something that is neither true nor false")
    who = {"user": fields.user(), "time": fields.time()}
    made: list[Made] = []
    for i, (step, verdict) in enumerate(zip(steps, verdicts, strict=True)):
        columns = {
            "prompt": "\n".join([prompt, *steps[:i]]),
            "response": step,
            "score": float(bool(verdict)),
            "low": 0.0,
            "high": 1.0,
            "aspect": "step",
        }
        made.append(("rating", {**columns, **who, "extra": fields.extra(step=i, steps=len(steps))}))
    return made


def _recognise_steps(look: Look) -> str | None:
    if look.has("prompt", "completions", "labels") and look.mostly("labels", lambda value: not isinstance(value, bool)):
        return "it has a `prompt`, steps in `completions` and one of `labels` for each"
    return None


UNPAIRED = Format("unpaired", "one answer and a yes or no", ("prompt", "completion", "label"), _recognise, _convert)
STEPWISE = Format(
    "stepwise", "steps and a yes or no for each", ("prompt", "completions", "labels"), _recognise_steps, _convert_steps
)
