"""A format of one's own in a few lines of YAML: which field of a row is which column of a record.

```yaml
kind: comparison            # what each row is
prompt: question            # column: field of the row; `answer.text` goes into an object, `turns.0` into a list
first: left_text            # instead of `chosen` and `rejected`: two answers ...
second: right_text
winner: verdict             # ... and the field that says which is better
values: {winner: {L: a, R: b, "=": tie}}
constants: {aspect: helpfulness}
```
Fields that no column names go to `extra`.

>>> own = mapped({"kind": "comparison", "prompt": "q", "chosen": "good", "rejected": "bad"})
>>> own.convert(Fields({"q": "Tea?", "good": "Yes", "bad": "No", "n": 3}), Given())[0][1]["extra"]
'{"n":3}'
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa

from penchant.errors import SettingsError, nearest
from penchant.feedback.formats.layout import (
    Fields,
    Format,
    Given,
    Look,
    Made,
    RowError,
    as_number,
    as_word,
    find,
    is_missing,
    json_text,
    moment,
    plain,
)
from penchant.feedback.formats.messages import is_messages, messages, said
from penchant.feedback.formats.outcomes import decided, preferred
from penchant.records import KINDS, PAYLOADS

_MORE = {"comparison": ("first", "second", "winner"), "rating": ("aspects",), "ranking": ("order",)}
_JSON = ("messages", "states", "actions", "next_states")
_OURS = ("form", "extra", "source")
_WANTED = {"aspects": "a list of fields"}
_OUTCOMES = ("a", "b", "tie", "both_bad")


def mapped(mapping: Mapping[str, Any], lines: Mapping[str, int] | None = None) -> Format:
    """The format that a mapping describes.

    Args:
        mapping: `kind`, columns, and optionally `constants` and `values`.
        lines: line of each key in its file, for messages.

    Raises:
        SettingsError: the kind or a key is unknown, a value has the wrong type, or a required column is missing.
    """
    plan = _plan(mapping, lines or {})

    def convert(fields: Fields, given: Given) -> list[Made]:
        made = plan(fields)
        extra = fields.extra()
        return [(kind, {**columns, "extra": extra}) for kind, columns in made]

    return Format("mapping", "a mapping of one's own", (), lambda look: "a mapping was given", convert)


def _plan(mapping: Mapping[str, Any], lines: Mapping[str, int]) -> Callable[[Fields], list[Made]]:
    def at(key: str) -> str:
        return f"`{key}`" + (f" (line {lines[key]})" if key in lines else "")

    kind = mapping.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise SettingsError(f"A mapping needs {at('kind')}, and {kind!r} is none: {nearest(str(kind), KINDS)}")
    columns = [name for name in KINDS[kind].schema.names if name not in _OURS] + list(_MORE.get(kind, ()))
    for key in mapping:
        if key not in (*columns, "kind", "constants", "values"):
            known = [*columns, "constants", "values"]
            raise SettingsError(f"A {kind} has no {at(str(key))}: {nearest(str(key), known)}")
    constants, values = (_section(mapping.get(name), name, columns, at) for name in ("constants", "values"))
    fields: dict[str, Any] = {}
    for key in columns:
        value = mapping.get(key)
        if isinstance(value, Mapping):  # `winner: {1: a, 2: b}`: the field has the column's name
            values[key], value = value, key
        is_list = isinstance(value, list) and bool(value) and all(isinstance(name, str) for name in value)
        if is_list if key == "aspects" else isinstance(value, str) and value:
            fields[key] = value
        elif value is not None:
            raise SettingsError(f"{at(key)} must name {_WANTED.get(key, 'a field')} of the row, not {value!r}.")
    tables = {key: _table(key, table, at) for key, table in values.items()}
    _complete(kind, {*fields, *constants}, at)
    return lambda row: _made(kind, fields, constants, tables, row)


def _section(value: Any, name: str, columns: list[str], at: Callable[[str], str]) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise SettingsError(f"{at(name)} must be `column: ...` pairs, not {value!r}.")
    for key in value:
        if key not in columns:
            raise SettingsError(f"{at(name)} names no column with {at(f'{name}.{key}')}: {nearest(str(key), columns)}")
        if name == "constants" and not isinstance(value[key], (str, int, float)):
            raise SettingsError(f"{at(f'{name}.{key}')} must be a text or a number, not {value[key]!r}.")
    return dict(value)


def _table(key: str, table: Any, at: Callable[[str], str]) -> dict[str, Any]:
    words = {as_word(word): value for word, value in table.items()} if isinstance(table, Mapping) else {}
    if not words or None in words or not all(isinstance(value, (str, int, float)) for value in words.values()):
        raise SettingsError(f"{at(f'values.{key}')} must map words or numbers to one text or number each: {table!r}.")
    wrong = [value for value in words.values() if key in ("winner", "outcome") and value not in _OUTCOMES]
    if wrong:
        raise SettingsError(f"{at(f'values.{key}')} maps to {wrong[0]!r}; an outcome is one of {', '.join(_OUTCOMES)}.")
    return {str(word): value for word, value in words.items()}


def _complete(kind: str, named: set[str], at: Callable[[str], str]) -> None:
    schema, defaults = KINDS[kind].schema, KINDS[kind].defaults
    needed = {field.name for field in schema if not field.nullable} - set(defaults)
    if kind == "comparison" and named & {"first", "second", "winner"}:
        needed = (needed - {"chosen", "rejected"}) | {"first", "second", "winner"}
    if kind == "rating" and "aspects" in named:
        needed -= {"score"}
    missing = sorted(needed - named)
    if missing:
        raise SettingsError(
            f"A mapping to a {kind} ({at('kind')}) also needs {', '.join(missing)}. If all rows share a value, give it "
            f"under `constants`, for example `constants: {{{missing[0]}: ''}}`."
        )


def _at_path(fields: Fields, path: str) -> Any:
    """The value at a path: a field of that very name, or the way into objects and lists by dots."""
    if path in fields:
        return fields.get(path)
    head, *rest = path.split(".")
    value = fields.get(head)
    for step in rest:
        if isinstance(value, Mapping):
            value = value.get(step)
        elif isinstance(value, (list, tuple)) and step.isdecimal() and len(step) < 9 and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return value


def _made(
    kind: str, named: Mapping[str, Any], constants: Mapping[str, Any], tables: Mapping[str, Any], row: Fields
) -> list[Made]:
    found: dict[str, Any] = {}
    for column, path in named.items():
        if column == "aspects":
            continue
        value = _at_path(row, path)
        found[column] = _looked_up(value, tables.get(column), path)
    found |= constants
    columns = _as_messages(found) if any(is_messages(found.get(name)) for name in PAYLOADS) else found
    schema = {field.name: field.type for field in KINDS[kind].schema}
    made = {
        column: cast(column, value, schema.get(column, pa.string()), str(named.get(column, column)))
        for column, value in columns.items()
    }
    if "winner" in made:
        result = decided(made.pop("winner"), str(named.get("winner", "winner")))
        if result == "both_bad":
            raise RowError("both answers were called bad, so that neither is preferred")
        made["chosen"], made["rejected"], strength = preferred(made.pop("first"), made.pop("second"), result)
        made.setdefault("strength", strength)
    if "order" in made:
        _ordered(made)
    if "aspects" not in named:
        return [(kind, made)]
    scores = {aspect: _looked_up(_at_path(row, aspect), tables.get("score"), aspect) for aspect in named["aspects"]}
    ratings = [
        (kind, {**made, "aspect": aspect, "score": as_number(score, aspect)})
        for aspect, score in scores.items()
        if not is_missing(score)
    ]
    if not ratings:
        raise RowError("there is no score under any aspect")
    return ratings


def _looked_up(value: Any, table: Mapping[str, Any] | None, path: str) -> Any:
    """What a value stands for, if the mapping says so."""
    if table is None or is_missing(value):
        return value
    word = as_word(value)
    if word is None or word not in table:
        raise RowError(f"`{path}` has a value that the mapping does not name")
    return table[word]


def _ordered(made: dict[str, Any]) -> None:
    """Put responses into the order that a list of indices says, best first."""
    order, responses = made.pop("order"), made["responses"]
    if not isinstance(order, list) or sorted(map(str, order)) != sorted(map(str, range(len(responses)))):
        raise RowError("`order` is not an order of the responses, counted from 0")
    made["responses"] = [responses[int(i)] for i in order]


def _as_messages(found: dict[str, Any]) -> dict[str, Any]:
    """The payloads as canonical JSON, when one of them is a list of messages."""
    changed = dict(found, form="messages")
    for name in PAYLOADS:
        value = found.get(name)
        if is_messages(value):
            changed[name] = json_text(messages(value, name))
        elif isinstance(value, str):
            changed[name] = json_text(said(value, "user" if name == "prompt" else "assistant"))
        elif isinstance(value, list):
            changed[name] = [
                json_text(messages(each, name) if is_messages(each) else said(str(each), "assistant")) for each in value
            ]
    return changed


def cast(column: str, value: Any, kind: pa.DataType, path: str) -> Any:
    """A value as its column needs it."""
    if value is None or column == "order":
        return value
    if pa.types.is_timestamp(kind):
        time = moment(value)
        if time is None:
            raise RowError(f"`{path}` is not a time")
        return time
    if pa.types.is_list(kind):
        if not isinstance(value, list):
            raise RowError(f"`{path}` is not a list")
        return [cast(column, each, kind.value_type, path) for each in value]
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        number = as_number(value, path)
        if pa.types.is_integer(kind) and not (number.is_integer() and abs(number) < 2**31):
            raise RowError(f"`{path}` holds something that is not a whole number")
        return int(number) if pa.types.is_integer(kind) else number
    if column in _JSON and not isinstance(value, str):
        return json_text(messages(value, path) if column == "messages" else value)
    word = value if isinstance(value, str) else as_word(value)
    if word is None:
        raise RowError(f"`{path}` is not text")
    return word


def template(look: Look) -> str:
    """A mapping to start from, with the fields of a file that nobody knows."""
    names = sorted(look.fields)
    guesses = {
        "comparison": {"prompt": "question instruction input query", "chosen": "better best good winner positive",
                       "rejected": "worse worst bad loser negative"},
        "battle": {"system_a": "modela model1 left a", "system_b": "modelb model2 right b", "outcome": "winner vote"},
        "rating": {"prompt": "question instruction", "response": "answer text output", "score": "rating stars"},
        "interaction": {"user": "userid uid", "item": "itemid product", "value": "rating count score"},
    }  # fmt: skip
    found = {
        kind: {column: find(names, plain(column), *words.split()) for column, words in columns.items()}
        for kind, columns in guesses.items()
    }
    kind = max(found, key=lambda kind: sum(name is not None for name in found[kind].values()))
    written = [f"kind: {kind}".ljust(28) + f"# or {', '.join(other for other in KINDS if other != kind)}"]
    for column, name in found[kind].items():
        written.append(
            f"{column}: {_quoted(name)}" if name else f"{column}: FIELD".ljust(28) + "# which of the fields?"
        )
    if kind != "interaction":
        written.append("# user: FIELD")
    return "\n".join(written)


def _quoted(name: str) -> str:
    return name if name.replace("_", "").isalnum() and name.isascii() and not name[0].isdigit() else json.dumps(name)
