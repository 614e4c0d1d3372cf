"""What people made of drafts: rewrites, several corrections of one text, suggestions accepted or not, revision chains.

A suggestion that was accepted or rejected is a reaction to it; a chain of versions is one edit per step.
"""

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

from penchant.feedback.formats.layout import Fields, Format, Given, Look, Made, RowError, find

_PAIRS = (
    ("preedit", "postedit"),
    ("pre", "post"),
    ("original", "revised"),
    ("draft", "revision"),
    ("draft", "revised"),
    ("originaltext", "editedtext"),
    ("original", "edited"),
    ("original", "rewrite"),
    ("beforeedit", "afteredit"),
    ("before", "after"),
    ("modelresponse", "useredit"),
    ("response", "editedresponse"),
    ("response", "edit"),
    ("source", "correction"),
    ("sourcetext", "targettext"),
)
_CONTEXTS = ("context", "instruction", "prompt", "intent")
_CHOICES = {"accept": "accept", "accepted": "accept", "reject": "reject", "rejected": "reject"}


def _pair(names: Iterable[str]) -> tuple[str, str] | None:
    names = list(names)
    for first, second in _PAIRS:
        before, after = find(names, first), find(names, second)
        if before and after:
            return before, after
    return None


def _context(fields: Fields) -> str | None:
    name = next((name for name in _CONTEXTS if isinstance(fields.row.get(name), str)), None)
    return fields.text(name) if name else None


def _convert(fields: Fields, given: Given) -> list[Made]:
    names = _pair(fields.row)
    if names is None:
        raise RowError("there is no draft with its revision")
    made = {
        "draft": fields.text(names[0]),
        "revision": fields.text(names[1]),
        "context": _context(fields),
        "user": fields.user(),
        "time": fields.time(),
    }
    return [("edit", {**made, "extra": fields.extra()})]


def _recognise(look: Look) -> str | None:
    names = _pair(look.fields)
    if names and all(look.mostly(name, lambda value: isinstance(value, str)) for name in names):
        return f"it has a text before, `{names[0]}`, and after somebody edited it, `{names[1]}`"
    return None


def _convert_corrections(fields: Fields, given: Given) -> list[Made]:
    """Several people's corrections of one text; whose they are is not said."""
    draft, corrections = fields.text("source"), fields.texts("corrections", at_least=1)
    who = {"user": fields.user(), "time": fields.time()}
    return [
        ("edit", {"draft": draft, "revision": correction, **who, "extra": fields.extra(place=i)})
        for i, correction in enumerate(corrections)
    ]


def _recognise_corrections(look: Look) -> str | None:
    if look.has("source", "corrections") and look.mostly("corrections", lambda value: isinstance(value, list)):
        return "it has a `source` text and several `corrections` of it"
    return None


def _reaction(before: Any, after: Any, decision: str) -> dict[str, Any]:
    for name, value in (("before", before), ("after", after)):
        if value is not None and not isinstance(value, str):
            raise RowError(f"`{name}` is not text")
    # Added words replace nothing, and deleted words are replaced by nothing.
    return {"prompt": before or "", "response": after or "", "reaction": decision}


def _convert_decisions(fields: Fields, given: Given) -> list[Made]:
    decision = _CHOICES.get(fields.word("decision").lower())
    if decision is None:
        raise RowError("`decision` is neither accept nor reject")
    made = _reaction(fields.get("before"), fields.get("after"), decision)
    who = {"user": fields.user(), "time": fields.time()}
    return [("reaction", {**made, **who, "extra": fields.extra()})]


def _recognise_decisions(look: Look) -> str | None:
    def is_decision(value: Any) -> bool:
        return isinstance(value, str) and value.lower() in _CHOICES

    if look.has("before", "after") and look.mostly("decision", is_decision):
        return "it has a text `before`, the suggestion `after` and the `decision` to accept or reject it"
    return None


def _convert_chain(fields: Fields, given: Given) -> list[Made]:
    versions = [version for version in fields.items("versions") if version is not None]
    if not all(isinstance(version, str) for version in versions):
        raise RowError("`versions` holds something that is not text")
    rejected = fields.items("rejected") if fields.row.get("rejected") is not None else []
    who = {"user": fields.user(), "time": fields.time()}
    made: list[Made] = [
        ("edit", {"draft": before, "revision": after, **who, "extra": fields.extra(round=i + 1)})
        for i, (before, after) in enumerate(pairwise(versions))
        if before != after
    ]
    for suggestion in rejected:
        if isinstance(suggestion, Mapping):
            reaction = _reaction(suggestion.get("before"), suggestion.get("after"), "reject")
            intent = {key: value for key, value in suggestion.items() if key not in ("before", "after")}
            made.append(("reaction", {**reaction, **who, "extra": fields.extra(**{"suggestion": intent})}))
        else:
            fields.skip("a rejected suggestion is not an object")
    if not made:
        raise RowError("nothing was changed and nothing rejected")
    return made


def _recognise_chain(look: Look) -> str | None:
    if look.mostly("versions", lambda value: isinstance(value, list)):
        return "it has the `versions` of a text in order"
    return None


EDITS = Format("edits", "a draft and its revision", ("draft", "revision"), _recognise, _convert)
CORRECTIONS = Format(
    "corrections",
    "several corrections of a text",
    ("source", "corrections"),
    _recognise_corrections,
    _convert_corrections,
)
DECISIONS = Format(
    "edit_decisions",
    "suggestions accepted or rejected",
    ("before", "after", "decision"),
    _recognise_decisions,
    _convert_decisions,
)
CHAINS = Format("revision_chains", "versions of a text in order", ("versions",), _recognise_chain, _convert_chain)
