"""Two answers and how much better one is: a score of each, a signed strength, a number, or one flag per outcome.

WebGPT comparisons (Nakano et al. 2021: `score_0`, `score_1`), HelpSteer2-Preference (Wang et al. 2024:
`preference_strength`, negative for the first), summaries (Stiennon et al. 2020: `summaries`, `choice`), and arena
tables with `winner_model_a`, `winner_model_b`, `winner_tie`.
"""

from collections.abc import Mapping
from typing import Any

from penchant.feedback.formats.choices import sides_of
from penchant.feedback.formats.layout import Fields, Format, Given, Look, Made, RowError, json_text, parsed
from penchant.feedback.formats.messages import Message
from penchant.feedback.formats.outcomes import preferred

_PROMPTS = ("prompt", "question", "instruction", "history", "info")
_SCORES = (("score_0", "score_1"), ("score_a", "score_b"), ("score_1", "score_2"), ("score_A", "score_B"))
_FLAGS = {"winner_model_a": "a", "winner_model_b": "b", "winner_tie": "tie"}


def _scores(row: Any) -> tuple[str, str] | None:
    return next((pair for pair in _SCORES if pair[0] in row and pair[1] in row), None)


def _prompt(fields: Fields) -> str:
    name = next((name for name in _PROMPTS if name in fields), None)
    if name is None:
        raise RowError("there is no prompt")
    value = fields.row[name]
    if isinstance(value, Mapping):
        inner = next((value[key] for key in ("full_text", "post", "article", "text") if value.get(key)), None)
        if not isinstance(inner, str):
            raise RowError(f"`{name}` is not text")
        return inner  # the rest of the object stays in `extra`
    return fields.text(name)


def _convert(fields: Fields, given: Given) -> list[Made]:
    """One comparison; `margin` is how much better the chosen answer is."""
    sides = sides_of(fields.row)
    if sides is None:
        raise RowError("there are not two answers")
    if "preference_strength" in fields:
        difference = fields.number("preference_strength")
    elif scores := _scores(fields.row):
        difference = fields.number(scores[1]) - fields.number(scores[0])
    else:
        raise RowError("there is no score of either answer")
    result = "b" if difference > 0 else "a" if difference < 0 else "tie"
    chosen, rejected, strength = preferred(fields.text(sides[0]), fields.text(sides[1]), result)
    made = {"prompt": _prompt(fields), "chosen": chosen, "rejected": rejected, "strength": strength}
    who = {"user": fields.user(), "time": fields.time()}
    return [("comparison", {**made, "margin": abs(difference), **who, "extra": fields.extra(second_better=difference)})]


def _recognise(look: Look) -> str | None:
    sides, scores = sides_of(look.fields), _scores(look.fields)
    if sides is None or not any(name in look.fields for name in _PROMPTS):
        return None
    if look.has("preference_strength"):
        return f"it has two answers, `{sides[0]}` and `{sides[1]}`, and a `preference_strength`, negative for the first"
    if scores:
        return f"it has two answers, `{sides[0]}` and `{sides[1]}`, and a score of each"
    return None


def _convert_summaries(fields: Fields, given: Given) -> list[Made]:
    summaries = fields.items("summaries", at_least=2)
    texts = [each.get("text") if isinstance(each, Mapping) else None for each in summaries]
    choice = fields.number("choice")
    if not all(isinstance(text, str) for text in texts) or len(texts) != 2:
        raise RowError("there are not two summaries with a text")
    if choice not in (0, 1):
        raise RowError("`choice` is neither 0 nor 1")
    chosen, rejected, strength = preferred(str(texts[0]), str(texts[1]), "b" if choice else "a")
    made = {"prompt": _prompt(fields), "chosen": chosen, "rejected": rejected, "strength": strength}
    who = {"user": fields.user(), "time": fields.time()}
    rest = [{key: value for key, value in each.items() if key != "text"} for each in summaries]
    return [("comparison", {**made, **who, "extra": fields.extra(summaries=rest, choice=choice)})]


def _recognise_summaries(look: Look) -> str | None:
    if look.has("summaries", "choice") and look.mostly("summaries", lambda value: isinstance(value, list)):
        return "it has two `summaries` and the number of the better one in `choice`"
    return None


def _convert_flags(fields: Fields, given: Given) -> list[Made]:
    """An arena battle whose turns are JSON lists of texts, and one flag for each outcome."""
    flags = [outcome for name, outcome in _FLAGS.items() if fields.number(name) == 1]
    if len(flags) != 1:
        raise RowError("not exactly one of the outcomes is marked")
    names = [fields.word("model_a"), fields.word("model_b")]
    turns = [_turns(fields, name) for name in ("prompt", "response_a", "response_b")]
    if not len(turns[0]) == len(turns[1]) == len(turns[2]) > 0:
        raise RowError("prompts and responses differ in number")
    first, second = (_exchange(turns[0], replies) for replies in turns[1:])
    prompt = json_text(first[:1])
    who = {"user": fields.user(), "time": fields.time()}
    battle = {"system_a": names[0], "system_b": names[1], "outcome": flags[0], "prompt": prompt, "form": "messages"}
    made: list[Made] = [("battle", {**battle, **who, "extra": fields.extra()})]
    if first != second:
        chosen, rejected, strength = preferred(json_text(first[1:]), json_text(second[1:]), flags[0])
        columns = {"prompt": prompt, "chosen": chosen, "rejected": rejected, "strength": strength, "form": "messages"}
        systems = json_text({"system_a": names[0], "system_b": names[1], "outcome": flags[0]})
        made.append(("comparison", {**columns, **who, "extra": systems}))
    return made


def _turns(fields: Fields, name: str) -> list[str]:
    """One text per turn; a field that is plain text is one turn."""
    value = fields.get(name)
    inner = parsed(value) if isinstance(value, str) else value
    texts = inner if isinstance(inner, list) else [value]
    if not all(isinstance(text, str) for text in texts):
        raise RowError(f"`{name}` is missing or holds something that is not text")
    return texts


def _exchange(prompts: list[str], replies: list[str]) -> list[Message]:
    return [
        {"role": role, "content": text}
        for asked, told in zip(prompts, replies, strict=True)
        for role, text in (("user", asked), ("assistant", told))
    ]


def _recognise_flags(look: Look) -> str | None:
    if look.has("model_a", "model_b", "response_a", "response_b", *_FLAGS):
        return "it has two models' responses and a flag for each outcome, such as `winner_tie`"
    return None


GRADED = Format(
    "graded", "two answers and how much better one is", ("question", "answer_0", "score_0"), _recognise, _convert
)
SUMMARIES = Format(
    "summaries", "two summaries and a choice", ("info", "summaries", "choice"), _recognise_summaries, _convert_summaries
)
FLAGS = Format(
    "arena_flags",
    "an arena table with one flag per outcome",
    ("model_a", "model_b", "prompt", "response_a", *_FLAGS),
    _recognise_flags,
    _convert_flags,
)
