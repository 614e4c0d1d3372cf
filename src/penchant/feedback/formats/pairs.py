r"""A chosen and a rejected answer: plain or as messages, with the prompt given or shared, and HH-RLHF transcripts.

HH-RLHF: Bai et al. 2022, "Training a helpful and harmless assistant with RLHF": each side is a whole transcript.

>>> row = {"chosen": "\n\nHuman: Hi\n\nAssistant: Hello", "rejected": "\n\nHuman: Hi\n\nAssistant: No"}
>>> convert(Fields(row), Given())[0][1]["prompt"]
'[{"content":"Hi","role":"user"}]'
"""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from penchant.feedback.formats.columns import is_text, mask, words
from penchant.feedback.formats.layout import (
    USER_NAMES,
    Column,
    Fields,
    Format,
    Given,
    Look,
    Made,
    RowError,
    json_text,
    plain,
)
from penchant.feedback.formats.messages import (
    Message,
    is_message,
    is_messages,
    is_transcript,
    messages,
    said,
    shared_messages,
    shared_text,
    transcript,
)

PROMPT_NAMES = ("prompt", "question", "instruction", "query", "input")
_WORDS = ("context", "aspect", "rationale")
_NUMBERS = ("strength", "margin")


def prompt_name(row: Any) -> str | None:
    """The field that holds the prompt, under any of its usual names."""
    return next((name for name in PROMPT_NAMES if name in row), None)


def convert(fields: Fields, given: Given) -> list[Made]:
    """One comparison; `margin` is the difference of the two scores if the row has them."""
    chosen, rejected = fields.get("chosen"), fields.get("rejected")
    for name, value in (("chosen", chosen), ("rejected", rejected)):
        if value is None:
            raise RowError(f"`{name}` is missing")
    if is_messages(chosen) or is_message(chosen):
        made = _from_messages(fields, messages(chosen, "chosen"), messages(rejected, "rejected"))
    else:
        made = _from_texts(fields, fields.text("chosen"), fields.text("rejected"))
    made |= {name: fields.optional(name) for name in _WORDS if isinstance(fields.row.get(name), str)}
    made |= {name: fields.number(name) for name in _NUMBERS if fields.row.get(name) is not None}
    if "margin" not in made and fields.row.get("score_chosen") is not None is not fields.row.get("score_rejected"):
        made["margin"] = fields.number("score_chosen") - fields.number("score_rejected")
    made |= {"user": fields.user(), "time": fields.time(), "extra": fields.extra()}
    return [("comparison", made)]


def in_messages(prompt: list[Message], chosen: list[Message], rejected: list[Message]) -> dict[str, Any]:
    """Columns of a comparison of messages."""
    if not prompt or not chosen or not rejected:
        raise RowError("the conversation has no prompt or no answer")
    return {
        "prompt": json_text(prompt),
        "chosen": json_text(chosen),
        "rejected": json_text(rejected),
        "form": "messages",
    }


def _from_messages(fields: Fields, chosen: list[Message], rejected: list[Message]) -> dict[str, Any]:
    name = prompt_name(fields.row)
    prompt = fields.row.get(name) if name else None
    system = said(fields.text("system"), "system") if isinstance(fields.row.get("system"), str) else []
    if name and is_messages(prompt):
        fields.get(name)
        start = messages(prompt, name)
        n = len(start) if chosen[: len(start)] == start == rejected[: len(start)] else 0
        return in_messages(system + start, chosen[n:], rejected[n:])
    if chosen[0]["role"] in ("user", "system", "developer") or not isinstance(prompt, str):
        shared, chosen, rejected = shared_messages(chosen, rejected)
        if name and prompt in [message["content"] for message in shared]:
            fields.get(name)  # the prompt's own field only repeats what the messages say
        return in_messages(system + shared, chosen, rejected)
    return in_messages(system + said(fields.text(str(name))), chosen, rejected)


def _from_texts(fields: Fields, chosen: str, rejected: str) -> dict[str, Any]:
    name = prompt_name(fields.row)
    prompt = fields.get(name) if name else None
    if name and is_messages(prompt):
        return in_messages(messages(prompt, name), said(chosen, "assistant"), said(rejected, "assistant"))
    if name and prompt is not None:
        text = fields.text(name)
        if is_transcript(text) and not is_transcript(chosen):
            return in_messages(transcript(text), said(chosen, "assistant"), said(rejected, "assistant"))
        return {"prompt": text, "chosen": chosen, "rejected": rejected}
    if name and not is_transcript(chosen):
        raise RowError(f"`{name}` is missing")
    if is_transcript(chosen) and is_transcript(rejected):
        return in_messages(*shared_messages(transcript(chosen), transcript(rejected)))
    prompt, chosen, rejected = shared_text(chosen, rejected)
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def columns(table: pa.Table, given: Given) -> Column | None:
    """Plain prompt, chosen and rejected, and at most who chose, as they stand."""
    names = ["prompt", "chosen", "rejected"]
    who = [name for name in table.column_names if name not in names]
    if not set(names) <= set(table.column_names) or len(who) > 1 or not {plain(name) for name in who} <= USER_NAMES:
        return None
    if not all(is_text(table.schema.field(name).type) for name in names):
        return None
    for name in names:
        start = pc.utf8_ltrim_whitespace(table[name])
        if mask(pc.or_(pc.starts_with(start, "Human:"), pc.starts_with(start, "["))).any():
            return None  # transcripts and messages are taken apart row by row
    problems = {f"`{name}` is missing": mask(pc.is_null(table[name])) for name in names[1:]}  # as `convert` asks
    if not who:
        return Column("comparison", table, problems)
    users = words(table[who[0]])
    return None if users is None else Column("comparison", table.select(names).append_column("user", users), problems)


def _recognise(look: Look) -> str | None:
    if not look.has("chosen", "rejected"):
        return None

    def is_answer(value: Any) -> bool:
        return isinstance(value, str) or is_messages(value) or (isinstance(value, Mapping) and is_message(value))

    if not (look.mostly("chosen", is_answer) and look.mostly("rejected", is_answer)):
        return None
    if look.mostly("chosen", is_transcript):
        return None
    name = prompt_name(look.fields)
    prompt = f"the prompt is `{name}`" if name else "the prompt is what both begin with"
    return f"it has `chosen` and `rejected`; {prompt}"


def _recognise_transcripts(look: Look) -> str | None:
    if look.mostly("chosen", is_transcript) and look.mostly("rejected", is_transcript):
        return "`chosen` and `rejected` are transcripts that begin with `Human:`"
    name = prompt_name(look.fields)
    if name and look.has("chosen", "rejected") and look.mostly(name, is_transcript):
        return f"`chosen` and `rejected` answer a transcript in `{name}` that begins with `Human:`"
    return None


PAIRS = Format(
    "pairs", "prompt, chosen, rejected", ("prompt", "chosen", "rejected"), _recognise, convert, columns=columns
)
TRANSCRIPTS = Format(
    "hh", "HH-RLHF transcripts of Human and Assistant", ("chosen", "rejected"), _recognise_transcripts, convert
)
