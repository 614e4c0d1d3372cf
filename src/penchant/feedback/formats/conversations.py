"""Whole exchanges: ShareGPT `conversations`, plain `messages`, and dialogues whose turns carry labels or scores.

A ShareGPT row with `chosen` and `rejected` is a comparison. Satisfaction scores of single turns stay inside the
messages; the scores of the whole dialogue become one rating each of its last answer.
"""

from collections.abc import Iterable
from typing import Any

from penchant.feedback.formats.layout import Fields, Format, Given, Look, Made, RowError, as_number, json_text
from penchant.feedback.formats.messages import Message, is_message, is_messages, messages
from penchant.feedback.formats.pairs import in_messages

_NAMES = ("conversations", "messages", "conversation", "dialog", "dialogue", "turns", "chat", "history")
_SCORES = ("overall_satisfaction",)


def _name(fields: Iterable[str]) -> str | None:
    names = set(fields)
    return next((name for name in _NAMES if name in names), None)


def _with_system(fields: Fields, turns: list[Message]) -> list[Message]:
    for name in ("system", "system_prompt"):
        if isinstance(fields.row.get(name), str) and turns[0]["role"] != "system" and fields.row[name]:
            return [{"role": "system", "content": fields.text(name)}, *turns]
    return turns


def _convert(fields: Fields, given: Given) -> list[Made]:
    name = _name(fields.row)
    if name is None:
        raise RowError("there are no messages")
    turns = _with_system(fields, messages(fields.get(name), name))
    if is_message(fields.row.get("chosen")) and is_message(fields.row.get("rejected")):
        sides = [messages(fields.get(side), side) for side in ("chosen", "rejected")]
        who = {"user": fields.user(), "time": fields.time()}
        return [("comparison", {**in_messages(turns, *sides), **who, "extra": fields.extra()})]
    who = {"user": fields.user(), "time": fields.time()}
    made: list[Made] = [("conversation", {"messages": json_text(turns), **who, "extra": fields.extra()})]
    for scores in _SCORES:
        if isinstance(fields.row.get(scores), list):
            made += [("rating", {**rating, **who}) for rating in _ratings(fields, turns, scores)]
    return made


def _ratings(fields: Fields, turns: list[Message], name: str) -> list[dict[str, Any]]:
    """One rating of the last answer, given what came before it, for each score of the whole dialogue."""
    last = next((i for i in reversed(range(len(turns))) if turns[i]["role"] != "user"), None)
    if not last:
        return []
    columns = {"prompt": json_text(turns[:last]), "response": json_text([turns[last]]), "form": "messages"}
    identity = fields.row.get("id")
    return [
        {
            **columns,
            "score": as_number(score, name),
            "low": 1.0,
            "high": 5.0,
            "aspect": name,
            "extra": json_text({"id": identity, "place": i}),
        }
        for i, score in enumerate(fields.items(name))
    ]


def _recognise(look: Look) -> str | None:
    name = _name(look.fields)
    if name is None or not look.mostly(name, is_messages):
        return None
    if look.has("chosen", "rejected"):
        return f"it has `{name}` with a `chosen` and a `rejected` answer"
    return f"it has a list of messages in `{name}`"


CONVERSATIONS = Format("conversations", "ShareGPT, chat messages and dialogues", ("messages",), _recognise, _convert)
