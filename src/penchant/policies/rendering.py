"""Prompts and responses as a language model reads them: chat template, tokens, and where the response starts.

Prompt and response are tokenised together, as the model sees them, and split where the response starts in the text. A
token that straddles this place counts as response. Nothing is ever cut off: what is too long is an error.
"""

from collections.abc import Collection, Sequence
from typing import Any

from penchant.errors import DataError
from penchant.policies.sequences import Example
from penchant.records import canonical_json
from penchant.turns import Form, Message, Turn, messages_of


def prompt_text(tokenizer: Any, prompt: str, *, condition: str | None = None, form: Form = "text") -> str:
    """The text a model continues with its response.

    Args:
        tokenizer: with or without a chat template; without one the text is the condition, a blank line, the prompt.
        prompt: what a person wrote, or the JSON of a list of messages.
        condition: goes into the system message; where a template has no place for one, before the first user message.
        form: "text" or "messages".

    Raises:
        DataError: the messages are not such a list, the template refuses them, or there is no template for them.
    """
    return _text_and_messages(tokenizer, prompt, condition, form)[0]


def prompt_tokens(tokenizer: Any, prompt: str, *, condition: str | None = None, form: Form = "text") -> tuple[int, ...]:
    """The tokens of `prompt_text`, same arguments and Raises; without a chat template a start token comes first."""
    text = prompt_text(tokenizer, prompt, condition=condition, form=form)
    return (*_start(tokenizer), *tokenizer(text, add_special_tokens=False)["input_ids"])


def turn_text(tokenizer: Any, turn: Turn) -> str:
    """A prompt and its response as the model reads its own answer, up to the mark that ends the turn.

    Raises:
        DataError: as for `prompt_text`.
    """
    before, messages = _text_and_messages(tokenizer, turn.prompt, turn.context, turn.form)
    text = before + _response_text(tokenizer, before, messages, turn.response, turn.form)
    end = tokenizer.eos_token or ""
    last = text.rfind(end, len(before)) if end else -1
    if last >= 0 and not text[last + len(end) :].strip():
        return text[: last + len(end)]  # templates put a line break behind the end of a turn
    return text + end


def encode(
    tokenizer: Any,
    prompt: str,
    responses: Sequence[str],
    *,
    condition: str | None = None,
    form: Form = "text",
    given: Sequence[int] = (),
    end_tokens: Collection[int],
    max_length: int | None = None,
) -> Example:
    """A prompt and its responses as token ids; each response ends with the end-of-turn token.

    The shared prompt is what all responses have in common of it: where one response merges with the end of the prompt
    into one token, the others get that end as given tokens, so that no response's value depends on its siblings.

    Args:
        tokenizer: a fast one, with or without a chat template.
        prompt: what a person wrote, or the JSON of a list of messages.
        responses: what was answered, or each the JSON of a list of messages, all of which count as response.
        condition: text for the system message.
        form: "text" or "messages".
        given: how many leading messages of each response were said before it and are not predicted; () is none. So
            the turns of one conversation are the responses to its beginning.
        end_tokens: those that end a turn; the tokenizer's end-of-sequence token is added where a response has none.
        max_length: most tokens of prompt and response.

    Raises:
        DataError: as for `prompt_text`; or a response is longer than the model's context.
    """
    before, messages = _text_and_messages(tokenizer, prompt, condition, form)
    sequences, splits = [], []
    for response, n_given in zip(responses, given or [0] * len(responses), strict=True):
        so_far, said, answer = before, messages, response
        if n_given and messages is not None:
            turns = messages_of(response)
            said, answer = [*messages, *turns[:n_given]], canonical_json(turns[n_given:])
            so_far = _rendered(tokenizer, said, True)
        text = so_far + _response_text(tokenizer, so_far, said, answer, form)
        ids, split = _tokens(tokenizer, text, len(so_far), end_tokens)
        if max_length is not None and len(ids) > max_length:
            raise DataError(
                f"A prompt of {split} tokens with a response of {len(ids) - split} tokens is longer than the model's "
                f"context of {max_length} tokens, and nothing is cut off: {prompt[:60]!r}... Drop or shorten such "
                "rows, or take a model with a longer context."
            )
        sequences.append(ids)
        splits.append(split)
    shared = _common_prefix([ids[:split] for ids, split in zip(sequences, splits, strict=True)])
    return Example(
        prompt=tuple(sequences[0][:shared]) if sequences else (),
        responses=tuple(tuple(ids[shared:]) for ids in sequences),
        given=tuple(split - shared for split in splits),
    )


def _text_and_messages(
    tokenizer: Any, prompt: str, condition: str | None, form: Form
) -> tuple[str, list[Message] | None]:
    if not tokenizer.chat_template:
        if form == "messages":
            raise DataError("This model has no chat template, so it cannot read messages; give the prompt as text.")
        return f"{condition}\n\n{prompt}" if condition else prompt, None
    plain = messages_of(prompt) if form == "messages" else [{"role": "user", "content": prompt}]
    if not condition:
        return _rendered(tokenizer, plain, True), plain
    failure = None
    for place in (_in_system, _in_first_user):
        messages = place(plain, condition)
        try:
            text = _rendered(tokenizer, messages, True)
        except DataError as error:  # some templates refuse a system message, others leave it out
            failure = error
            continue
        if condition.strip() in text:
            return text, messages
    raise failure or DataError(f"This model's chat template leaves out the condition {condition[:60]!r}.")


def _in_system(messages: list[Message], condition: str) -> list[Message]:
    if messages and messages[0]["role"] == "system":
        return [{**messages[0], "content": f"{messages[0]['content']}\n\n{condition}"}, *messages[1:]]
    return [{"role": "system", "content": condition}, *messages]


def _in_first_user(messages: list[Message], condition: str) -> list[Message]:
    changed = [dict(message) for message in messages]
    for message in changed:
        if message["role"] == "user":
            message["content"] = f"{condition}\n\n{message['content']}"
            break
    return changed


def _rendered(tokenizer: Any, messages: list[Message], generate: bool) -> str:
    from jinja2.exceptions import TemplateError

    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=generate))
    except (TemplateError, TypeError, KeyError, ValueError) as error:
        roles = ", ".join(message["role"] for message in messages)
        raise DataError(f"The model's chat template refuses messages with the roles {roles}: {error}.") from error


def _response_text(tokenizer: Any, before: str, messages: list[Message] | None, response: str, form: Form) -> str:
    if messages is None:
        return response
    answer = messages_of(response) if form == "messages" else [{"role": "assistant", "content": response}]
    whole = _rendered(tokenizer, [*messages, *answer], False)
    if whole.startswith(before):
        return whole[len(before) :]
    # Such a template writes an answer otherwise than it asks for one (it drops past thoughts, say).
    if len(answer) == 1 and isinstance(answer[0].get("content"), str) and set(answer[0]) <= {"role", "content"}:
        return str(answer[0]["content"])
    raise DataError(
        "The model's chat template does not let a response of several messages or tool calls follow a prompt."
    )


def _start(tokenizer: Any) -> list[int]:
    """Before plain text: what predicts its first token. A chat template brings its own."""
    if tokenizer.chat_template:
        return []
    first = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    return [] if first is None else [first]


def _tokens(tokenizer: Any, text: str, split: int, end_tokens: Collection[int]) -> tuple[list[int], int]:
    """Tokens of prompt and response up to the end of the turn, and how many belong to the prompt."""
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids, offsets = list(encoded["input_ids"]), encoded["offset_mapping"]
    first = next((i for i, (_, end) in enumerate(offsets) if end > split), len(ids))
    last = next((i for i in range(len(ids) - 1, first - 1, -1) if ids[i] in end_tokens), None)
    if last is not None and not text[offsets[last][1] :].strip():
        ids = ids[: last + 1]  # templates put a line break behind the end of a turn
    else:
        ids.append(tokenizer.eos_token_id)
    start = _start(tokenizer)
    return start + ids, len(start) + first


def _common_prefix(sequences: Sequence[Sequence[int]]) -> int:
    return next(
        (i for i, column in enumerate(zip(*sequences, strict=False)) if len(set(column)) > 1),
        min(map(len, sequences), default=0),
    )
