"""Two answers to one prompt and a verdict: which is better, in words, numbers, or the probability of the second.

Verdicts in words (`A>B`, `model_a`, `tie`) speak for themselves, and so do 1 and 2. Zeros and ones do not: there the
field decides (`label` of AutoJ: 0 first, 1 second, 2 tie; `labels` of SHP: 1 first, 0 second).

>>> row = {"question": "Tea?", "response_A": "Yes", "response_B": "No", "label": "B>A"}
>>> convert(Fields(row), Given())[0][1]["chosen"]
'No'
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from penchant.feedback.formats.layout import Fields, Format, Given, Look, Made, RowError, as_word, plain
from penchant.feedback.formats.messages import is_transcript, said, transcript
from penchant.feedback.formats.outcomes import decided, likely, outcome, preferred
from penchant.feedback.formats.pairs import in_messages

_PROMPTS = ("prompt", "question", "instruction", "input", "query", "history", "reviews", "document", "context", "post")
_SIDE = re.compile(r"(response|answer|output|completion|summary|humanref|text|reply|candidate)(a|b|0|1|2)")
_VERDICTS = (
    "winner",
    "preferred",
    "preference",
    "label",
    "labels",
    "human",
    "humanvote",
    "choice",
    "better",
    "verdict",
)
_NUMBERS = {"1": "a", "2": "b"}
_AUTOJ = {"0": "a", "1": "b", "2": "tie"}
_SHP = {"1": "a", "0": "b"}


def sides_of(names: Iterable[str]) -> tuple[str, str] | None:
    """The fields with the first and the second answer, or None if there are none."""
    found: dict[str, dict[str, str]] = {}
    for name in names:
        if match := _SIDE.fullmatch(plain(name)):
            found.setdefault(match[1], {})[match[2]] = name
    for sides in found.values():
        for first, second in (("a", "b"), ("1", "2"), ("0", "1")):
            if first in sides and second in sides:
                return sides[first], sides[second]
    return None


def _coding(names: Iterable[str], verdict: str) -> Mapping[str, str]:
    names = set(names)
    if {"scenario", "response_1", "label"} <= names and verdict == "label":
        return _AUTOJ
    if {"human_ref_A", "human_ref_B"} <= names and verdict == "labels":
        return _SHP
    return _NUMBERS


def convert(fields: Fields, given: Given) -> list[Made]:
    """One comparison; a tie has strength one half."""
    sides = sides_of(fields.row)
    verdict = fields.find(*_VERDICTS)
    if sides is None or verdict is None:
        raise RowError("there are no two answers with a verdict")
    first, second = (fields.text(side) for side in sides)
    value: Any = fields.row.get(verdict)  # stays in `extra`: it is the only trace of which answer stood first
    if is_probability(value):
        chosen, rejected, strength = likely(first, second, float(value) - 1)
    else:
        result = _coding(fields.row, verdict).get(as_word(value) or "") or decided(value, verdict)
        if result == "both_bad":
            raise RowError("both answers were called bad, so that neither is preferred")
        chosen, rejected, strength = preferred(first, second, result)
    scenario = next((name for name in ("scenario", "category", "task") if isinstance(fields.row.get(name), str)), None)
    made = {
        **_payloads(_prompt(fields), chosen, rejected),
        "strength": strength,
        "context": fields.optional(scenario) if scenario else None,
        "rationale": fields.optional("rationale") if isinstance(fields.row.get("rationale"), str) else None,
        "user": fields.user(),
        "time": fields.time(),
    }
    return [("comparison", {**made, "extra": fields.extra()})]


def is_probability(value: Any) -> bool:
    """Whether a verdict is a number between 1 (first) and 2 (second), as AlpacaEval writes it."""
    try:
        return isinstance(value, (float, str)) and 1 < float(value) < 2
    except ValueError:
        return False


def _payloads(prompt: str, chosen: str, rejected: str) -> dict[str, str]:
    if is_transcript(prompt):
        return in_messages(transcript(prompt), said(chosen, "assistant"), said(rejected, "assistant"))
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def _prompt(fields: Fields) -> str:
    name = next((found for spelling in _PROMPTS if (found := fields.find(spelling))), None)
    if name is None:
        raise RowError("there is no prompt")
    if isinstance(fields.row[name], list):
        return "\n\n".join(fields.texts(name))
    return fields.text(name)


def _recognise(look: Look) -> str | None:
    sides, verdict = sides_of(look.fields), look.find(*_VERDICTS)
    if sides is None or verdict is None or look.find(*_PROMPTS) is None:
        return None
    if not all(look.mostly(side, lambda value: isinstance(value, str)) for side in sides):
        return None
    coding = _coding(look.fields, verdict)
    values = look.values(verdict)
    known = [value in coding or outcome(value) is not None or is_probability(value) for value in values]
    if not values or 2 * sum(known) <= len(known) or (values <= {"0", "1"} and coding is _NUMBERS):
        return None
    return f"it has two answers, `{sides[0]}` and `{sides[1]}`, and a verdict in `{verdict}`"


def _convert_index(fields: Fields, given: Given) -> list[Made]:
    """`responses` and the index of the better one; contradictory `objective`s are different people."""
    responses = fields.texts("responses", at_least=2)
    label = fields.number("label")
    if label not in range(len(responses)):
        raise RowError("`label` is not the number of a response")
    objective = fields.row.get("objective")
    user = fields.user() or (fields.word("objective") if objective is not None else None)
    common = {"user": user, "time": fields.time()}
    others = [text for i, text in enumerate(responses) if i != label]
    prompt, extra = fields.text("prompt"), fields.extra(label=int(label))
    return [
        ("comparison", {**_payloads(prompt, responses[int(label)], other), **common, "extra": extra})
        for other in others
    ]


def _recognise_index(look: Look) -> str | None:
    if look.has("prompt", "responses", "label") and look.mostly("responses", lambda value: isinstance(value, list)):
        who = "; `objective` stands for the person" if look.has("objective") else ""
        return f"`label` is the number of the better one of `responses`{who}"
    return None


def _convert_panel(fields: Fields, given: Given) -> list[Made]:
    """PandaLM: several people judge one pair (0 tie, 1 first, 2 second)."""
    first, second = fields.text("response1"), fields.text("response2")
    instruction, more = fields.text("instruction"), fields.optional("input")
    names = [name for name in fields.row if re.fullmatch(r"annotator\d+", name)]
    votes = [(name, fields.get(name)) for name in names]
    extra = fields.extra()
    prompt = f"{instruction}\n\n{more}" if more else instruction
    made: list[Made] = []
    for name, vote in votes:
        result = {"0": "tie", "1": "a", "2": "b"}.get(as_word(vote) or "")
        if result is not None:
            chosen, rejected, strength = preferred(first, second, result)
            columns = {"prompt": prompt, "chosen": chosen, "rejected": rejected, "strength": strength}
            made.append(("comparison", {**columns, "user": name, "extra": extra}))
        else:
            fields.skip("an annotator's vote is none of 0, 1 and 2")
    if not made:
        raise RowError("nobody's vote is 0, 1 or 2")
    return made


def _recognise_panel(look: Look) -> str | None:
    if look.has("instruction", "response1", "response2", "annotator1"):
        return "it has `response1`, `response2` and one vote of each annotator"
    return None


CHOICES = Format(
    "choices",
    "two answers and a verdict",
    ("prompt", "response_a", "response_b", "winner"),
    _recognise,
    convert,
)
INDEXED = Format(
    "indexed",
    "a list of responses and the number of the better one",
    ("prompt", "responses", "label"),
    _recognise_index,
    _convert_index,
)
PANEL = Format(
    "pandalm",
    "PandaLM: several people judge each pair",
    ("instruction", "response1", "response2", "annotator1"),
    _recognise_panel,
    _convert_panel,
)
