"""Stretches of control: rollouts, and people's choices between two segments.

A segment that somebody compared is a payload like any other: the canonical JSON of what is known of it.
"""

from collections.abc import Mapping
from typing import Any

from penchant.feedback.formats.layout import Fields, Format, Given, Look, Made, RowError, as_word, json_text
from penchant.feedback.formats.outcomes import likely, preferred

_STATES = ("states", "observations", "obs")
_ACTIONS = ("actions", "acts")
_LABELS = ("human", "label", "preference")
_PLACES = {"0": "a", "1": "b", "-1": "tie", "0.5": "tie"}


def _named(fields: Any, names: tuple[str, ...]) -> str | None:
    return next((name for name in names if name in fields), None)


def _convert(fields: Fields, given: Given) -> list[Made]:
    """One segment; one more state than actions means that the last is where it ended."""
    states_name, actions_name = _named(fields.row, _STATES), _named(fields.row, _ACTIONS)
    if states_name is None or actions_name is None:
        raise RowError("there are no states or no actions")
    states, actions = fields.items(states_name, at_least=1), fields.items(actions_name, at_least=1)
    following = None
    if len(states) == len(actions) + 1:
        states, following = states[:-1], states[1:]
    if len(states) != len(actions):
        raise RowError("states and actions differ in length")
    if fields.row.get("next_states") is not None:
        following = fields.items("next_states")
    rewards = next((name for name in ("rewards", "rews") if fields.row.get(name) is not None), None)
    values = fields.items(rewards) if rewards else None
    if values is not None and not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values):
        raise RowError("`rewards` holds something that is not a number")
    made = {
        "states": json_text(states),
        "actions": json_text(actions),
        "next_states": json_text(following) if following is not None else None,
        "rewards": values,
        "user": fields.user(),
        "time": fields.time(),
    }
    return [("segment", {**made, "extra": fields.extra()})]


def _recognise(look: Look) -> str | None:
    states, actions = _named(look.fields, _STATES), _named(look.fields, _ACTIONS)
    if states and actions and look.mostly(actions, lambda value: isinstance(value, (list, str))):
        return f"it has trajectories: `{states}` and `{actions}`"
    return None


def _convert_pairs(fields: Fields, given: Given) -> list[Made]:
    """Two segments and how likely the second is preferred: 0, 0.5 for no preference, 1."""
    first, second = fields.get("segment_1"), fields.get("segment_2")
    label = _named(fields.row, _LABELS)
    if not all(isinstance(segment, (Mapping, list)) for segment in (first, second)) or label is None:
        raise RowError("there are no two segments with a label")
    probability = fields.number(label)
    if not 0 <= probability <= 1:
        raise RowError(f"`{label}` is outside [0, 1]")
    chosen, rejected, strength = likely(json_text(first), json_text(second), probability)
    context = fields.optional("condition") if isinstance(fields.row.get("condition"), str) else None
    made = {"prompt": "", "chosen": chosen, "rejected": rejected, "strength": strength, "context": context}
    who = {"user": fields.user(), "time": fields.time()}
    return [("comparison", {**made, **who, "extra": fields.extra(**{label: probability})})]


def _recognise_pairs(look: Look) -> str | None:
    label = _named(look.fields, _LABELS)
    if look.has("segment_1", "segment_2") and label:
        return f"it has `segment_1`, `segment_2` and in `{label}` whether the second is preferred"
    return None


def _convert_starts(fields: Fields, given: Given) -> list[Made]:
    """Two places in a named set of rollouts: 0 first, 1 second preferred, -1 equal."""
    result = _PLACES.get(as_word(fields.get("label")) or "")
    if result is None:
        raise RowError("`label` is none of 0, 1, -1")
    env = fields.word("env")
    length = fields.number("segment_length") if fields.row.get("segment_length") is not None else None
    sides = [
        json_text({"env": env, "start": int(fields.number(name)), "length": None if length is None else int(length)})
        for name in ("start_1", "start_2")
    ]
    chosen, rejected, strength = preferred(sides[0], sides[1], result)
    made = {"prompt": env, "chosen": chosen, "rejected": rejected, "strength": strength}
    who = {"user": fields.user(), "time": fields.time()}
    return [("comparison", {**made, **who, "extra": fields.extra()})]


def _recognise_starts(look: Look) -> str | None:
    if look.has("env", "start_1", "start_2", "label"):
        return "it has two starts in the rollouts of `env` and a `label` for the better segment"
    return None


SEGMENTS = Format("segments", "states, actions and rewards", ("states", "actions"), _recognise, _convert)
SEGMENT_PAIRS = Format(
    "segment_pairs", "two segments and a label", ("segment_1", "segment_2", "label"), _recognise_pairs, _convert_pairs
)
SEGMENT_STARTS = Format(
    "segment_starts",
    "two starts in rollouts and a label",
    ("env", "start_1", "start_2", "label"),
    _recognise_starts,
    _convert_starts,
)
