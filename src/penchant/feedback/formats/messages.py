r"""Chat messages as they are found in the wild, brought to one form: a list of objects with `role` and `content`.

Tool calls and anything else inside a message stay as they are. Transcripts with "Human:" and "Assistant:" (Bai et al.
2022, HH-RLHF) are cut into messages. Where a prompt is not given, it is what both answers begin with.

>>> turns = transcript("\n\nHuman: Hi!\n\nAssistant: Hello.")
>>> [turn["role"] for turn in turns]
['user', 'assistant']
>>> shared_text("The sky is blue.", "The sky is green.")
('The sky is', ' blue.', ' green.')
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from penchant.feedback.formats.layout import RowError, parsed

Message = dict[str, Any]
ROLES = {
    "human": "user",
    "user": "user",
    "prompter": "user",
    "seeker": "user",
    "customer": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "chatgpt": "assistant",
    "chatbot": "assistant",
    "bard": "assistant",
    "bing": "assistant",
    "recommender": "assistant",
    "agent": "assistant",
    "system": "system",
    "developer": "developer",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "function_response": "tool",
    "function_call": "assistant",
}
_ROLE_NAMES = ("role", "from", "speaker", "author")
_CONTENT_NAMES = ("content", "value", "text", "utterance")
_TURN = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):[ \t]?")


def is_message(value: Any) -> bool:
    """Whether a value has who said something and what (or which tools were called)."""
    return (
        isinstance(value, Mapping)
        and any(isinstance(value.get(name), str) for name in _ROLE_NAMES)
        and (any(name in value for name in _CONTENT_NAMES) or "tool_calls" in value)
    )


def is_messages(value: Any) -> bool:
    """Whether a value is a list of messages, or the JSON of one."""
    if isinstance(value, str) and value.lstrip()[:2] in ("[{", "[\n", "[ "):
        value = parsed(value)
    return isinstance(value, (list, tuple)) and len(value) > 0 and all(map(is_message, value))


def is_transcript(value: Any) -> bool:
    """Whether a value is text that begins with what a human said."""
    return isinstance(value, str) and value.lstrip().startswith("Human:")


def messages(value: Any, name: str) -> list[Message]:
    """A list of messages in one form.

    Args:
        value: a list of messages in any of the usual forms, one message, or the JSON of either.
        name: of the field, for the reason.

    Raises:
        RowError: it is something else, or a role is unknown.
    """
    if isinstance(value, str):
        value = parsed(value)
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, (list, tuple)) or not value or not all(map(is_message, value)):
        raise RowError(f"`{name}` is not a list of messages")
    return [_message(each, name) for each in value]


def _message(value: Mapping[str, Any], name: str) -> Message:
    role_name = next(each for each in _ROLE_NAMES if isinstance(value.get(each), str))
    content_name = next((each for each in _CONTENT_NAMES if each in value), None)
    content = value.get(content_name) if content_name else None
    role = ROLES.get(value[role_name].lower())
    if role is None and role_name == "role":
        role = value[role_name]  # chat templates decide about roles of their own
    if role is None:
        raise RowError(f"`{name}` has a speaker that is neither user nor assistant")
    if not isinstance(content, (str, list, type(None))):
        raise RowError(f"`{name}` has a message whose content is not text")
    if content is None and not value.get("tool_calls"):
        raise RowError(f"`{name}` has a message without content")
    rest = {key: inner for key, inner in value.items() if key not in (role_name, content_name) and inner is not None}
    return {**rest, "role": role, "content": content}


def transcript(text: str) -> list[Message]:
    """The messages of a transcript with `Human:` and `Assistant:`; a last turn without words is left out.

    Raises:
        RowError: it does not begin with one of these markers.
    """
    marks = list(_TURN.finditer(text))
    if not marks or text[: marks[0].start()].strip():
        raise RowError("a transcript does not begin with `Human:` or `Assistant:`")
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    turns = [
        {"role": ROLES[mark[1].lower()], "content": text[mark.end() : end].strip()}
        for mark, end in zip(marks, ends, strict=True)
    ]
    return turns if turns[-1]["content"] else turns[:-1]


def shared_messages(
    chosen: Sequence[Message], rejected: Sequence[Message]
) -> tuple[list[Message], list[Message], list[Message]]:
    """Prompt and two responses of two conversations that begin alike; each response has at least one message."""
    longest = min(len(chosen), len(rejected)) - 1
    n = next((i for i in range(longest) if chosen[i] != rejected[i]), max(longest, 0))
    return list(chosen[:n]), list(chosen[n:]), list(rejected[n:])


def shared_text(chosen: str, rejected: str) -> tuple[str, str, str]:
    """Prompt and two responses of two texts that begin alike; the prompt ends before a space, and no letter is lost."""
    pairs = enumerate(zip(chosen, rejected, strict=False))
    n = next((i for i, (one, other) in pairs if one != other), min(len(chosen), len(rejected)))
    cut = max((i for i in range(n) if chosen[i].isspace()), default=0)
    return chosen[:cut], chosen[cut:], rejected[cut:]


def said(content: str, role: str = "user") -> list[Message]:
    """One message as a list."""
    return [{"role": role, "content": content}]
