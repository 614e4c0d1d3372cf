"""PRISM and DICES: many people on the same items, each with an answer of their own; nobody is averaged away.

PRISM: Kirk et al. 2024. Scores 1 to 100 that people gave the models they talked to, and their wishes in own words.
DICES: Aroyo et al. 2023. Whether each of many raters finds a chatbot's answer unsafe, under several headings.
"""

import re
from collections.abc import Mapping
from typing import Any

from penchant.feedback.formats.layout import Fields, Format, Given, Look, Made, RowError, as_number, json_text
from penchant.feedback.formats.messages import Message, said

_ANSWERS = {"no": 0.0, "unsure": 0.5, "yes": 1.0}
_HEADING = re.compile(r"Q(\d+_\w*|_)overall")


def _convert_turns(fields: Fields, given: Given) -> list[Made]:
    """One row of `utterances`: a prompt, one model's response and its score."""
    made = {
        "prompt": fields.text("user_prompt"),
        "response": fields.text("model_response"),
        "score": fields.number("score"),
        "low": 1.0,
        "high": 100.0,
        "user": fields.word("user_id"),
        "time": fields.time(),
    }
    return [("rating", {**made, "extra": fields.extra()})]


def _recognise_turns(look: Look) -> str | None:
    if look.has("user_id", "user_prompt", "model_response", "score"):
        return "it has PRISM's `user_prompt`, `model_response` and `score` of each `user_id`"
    return None


def _convert_history(fields: Fields, given: Given) -> list[Made]:
    """One row of `conversations`: each scored response, given the turns before it as they were chosen."""
    history = fields.items("conversation_history", at_least=1)
    who = {"user": fields.word("user_id"), "time": fields.time()}
    shared = fields.extra()
    before: list[Message] = []
    made: list[Made] = []
    for turn in history:
        if not isinstance(turn, Mapping) or not isinstance(turn.get("content"), str):
            raise RowError("`conversation_history` has a turn without content")
        if turn.get("role") == "user":
            before = [*before, *_chosen(history, turn.get("turn"), before), *said(turn["content"])]
        elif turn.get("score") is not None and before:
            rest = {key: value for key, value in turn.items() if key not in ("content", "role", "score")}
            columns = {
                "prompt": json_text(before),
                "response": json_text(said(turn["content"], "assistant")),
                "form": "messages",
                "score": as_number(turn["score"], "score"),
                "low": 1.0,
                "high": 100.0,
            }
            made.append(("rating", {**columns, **who, "extra": json_text(rest)}))
    if not made:
        raise RowError("no response has a score")
    wish = fields.row.get("open_feedback")
    if isinstance(wish, str) and wish.strip():
        made.append(("observation", {"text": wish, **who, "extra": shared}))
    return made


def _chosen(history: list[Any], turn: Any, before: list[Message]) -> list[Message]:
    """The answer that was chosen in the turn before this one, if the exchange has begun."""
    if not before or isinstance(turn, bool) or not isinstance(turn, int):
        return []
    for each in history:
        if isinstance(each, Mapping) and each.get("turn") == turn - 1 and each.get("if_chosen") is True:
            return said(str(each.get("content")), "assistant")
    return []


def _recognise_history(look: Look) -> str | None:
    if look.has("user_id", "conversation_history"):
        return "it has PRISM's `conversation_history` of each `user_id`"
    return None


def _convert_wishes(fields: Fields, given: Given) -> list[Made]:
    """One row of `survey`: what a person says of themselves and of the model they wish for."""
    user = fields.word("user_id")
    wish, self_description = fields.optional("system_string"), fields.optional("self_description")
    extra = fields.extra()
    made: list[Made] = []
    if wish:
        made.append(("directive", {"text": wish, "scope": "any", "user": user, "extra": extra}))
    if self_description:
        made.append(("observation", {"text": self_description, "user": user, "extra": None if wish else extra}))
    if not made:
        raise RowError("the person says nothing about themselves or their wishes")
    return made


def _recognise_wishes(look: Look) -> str | None:
    if look.has("user_id", "system_string"):
        return "it has PRISM's `system_string`: how each `user_id` wishes a model to be"
    return None


def _convert_safety(fields: Fields, given: Given) -> list[Made]:
    names = [name for name in fields.row if _HEADING.fullmatch(name)]
    answers = {name: fields.get(name) for name in names}
    payload = {"prompt": fields.text("context"), "response": fields.text("response"), "user": fields.word("rater_id")}
    extra = fields.extra()
    made: list[Made] = []
    for name, answer in answers.items():
        score = _ANSWERS.get(answer.strip().lower()) if isinstance(answer, str) else None
        if score is not None:
            columns = {"aspect": name, "score": score, "low": 0.0, "high": 1.0}
            made.append(("rating", {**payload, **columns, "extra": extra}))
        else:
            fields.skip("a question is not answered with Yes, No or Unsure")
    if not made:
        raise RowError("no question is answered with Yes, No or Unsure")
    return made


def _recognise_safety(look: Look) -> str | None:
    if look.has("rater_id", "context", "response") and any(_HEADING.fullmatch(name) for name in look.fields):
        return "it has DICES' answers (Yes = unsafe) of each `rater_id` to questions `Q..._overall`"
    return None


PRISM_TURNS = Format(
    "prism", "PRISM utterances", ("user_id", "user_prompt", "model_response", "score"), _recognise_turns, _convert_turns
)
PRISM_CONVERSATIONS = Format(
    "prism_conversations",
    "PRISM conversations",
    ("user_id", "conversation_history"),
    _recognise_history,
    _convert_history,
)
PRISM_SURVEY = Format("prism_survey", "PRISM survey", ("user_id", "system_string"), _recognise_wishes, _convert_wishes)
DICES = Format(
    "dices",
    "DICES safety ratings",
    ("rater_id", "context", "response", "Q_overall"),
    _recognise_safety,
    _convert_safety,
)
