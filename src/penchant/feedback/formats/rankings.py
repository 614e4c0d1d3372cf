"""Several responses in an order of preference: ranks, indices best first, entries with ranks, or one column per rank.

>>> made = convert(Fields({"prompt": "Colour?", "responses": ["red", "blue"], "ranking": [2, 1]}), Given())
>>> made[0][1]["responses"], made[0][1]["ranks"]
(['blue', 'red'], [1, 2])
"""

import re
from collections.abc import Mapping
from typing import Any

from penchant.feedback.formats.layout import Fields, Format, Given, ItemsFile, Look, Made, RowError, as_number, as_word

_RESPONSES = ("responses", "generations", "completions", "answers", "candidates", "image_path", "images", "outputs")
_RANKS = ("ranks", "ranking", "rank", "human_preference", "rankings")
_ORDERS = ("ranking_best_first", "order_best_first", "best_first")
_PROMPTS = ("prompt", "instruction", "question", "query", "caption")
_COLUMN = re.compile(r"rank_?(\d+)")


def _named(fields: Any, names: tuple[str, ...]) -> str | None:
    return next((name for name in names if name in fields), None)


def _whole(value: Any, name: str) -> int:
    number = as_number(value, name)
    if not number.is_integer() or abs(number) > 2**31 - 1:
        raise RowError(f"`{name}` holds something that is not a whole number")
    return int(number)


def convert(fields: Fields, given: Given) -> list[Made]:
    """One ranking, best first."""
    prompt, name = _named(fields.row, _PROMPTS), _named(fields.row, _RESPONSES)
    order, ranks = _named(fields.row, _ORDERS), _named(fields.row, _RANKS)
    if prompt is None or name is None:
        raise RowError("there is no prompt or there are no responses")
    responses = fields.items(name, at_least=2)
    if all(isinstance(response, Mapping) for response in responses):
        responses, places = _entries(responses)
        more: dict[str, Any] = {}
    else:
        responses = fields.texts(name, at_least=2)
        places, more = _places(fields, len(responses), order, ranks)
    by_rank = sorted(range(len(responses)), key=places.__getitem__)
    columns = {
        "prompt": fields.text(prompt),
        "responses": [responses[i] for i in by_rank],
        "ranks": [places[i] for i in by_rank],
        "user": fields.user(),
        "time": fields.time(),
    }
    types = fields.row.get("response_types")
    if isinstance(types, list) and len(types) == len(responses):
        more["response_types"] = [types[i] for i in by_rank]
    return [("ranking", {**columns, "extra": fields.extra(**more)})]


def _places(fields: Fields, n: int, order: str | None, ranks: str | None) -> tuple[list[int], dict[str, Any]]:
    """The rank of each response, 1 = best."""
    name = order or ranks
    if name is None:
        raise RowError("there are no ranks")
    values = [_whole(value, name) for value in fields.items(name)]
    if len(values) != n:
        raise RowError(f"there are not as many entries in `{name}` as responses")
    if order is None:
        # `human_preference` marks the preferred ones with 1, so that more is better there.
        return ([2 - value for value in values] if name == "human_preference" else values), {}
    if sorted(values) != list(range(n)):
        raise RowError(f"`{name}` is not an order of the responses")
    return [values.index(i) + 1 for i in range(n)], {}


def _entries(entries: list[Any]) -> tuple[list[str], list[int]]:
    """Texts and ranks of entries such as {"answer": ..., "rank": ...}, or with a `pm_score`, where more is better."""
    texts, places = [], []
    for entry in entries:
        text = next((entry[key] for key in ("answer", "response", "text", "content") if key in entry), None)
        if not isinstance(text, str):
            raise RowError("a ranked entry has no text")
        texts.append(text)
        places.append(entry.get("rank"))
    if any(place is None for place in places):
        scores = [as_number(entry.get("pm_score"), "pm_score") for entry in entries]
        return texts, [1 + sum(other > score for other in scores) for score in scores]
    return texts, [_whole(place, "rank") for place in places]


def _recognise(look: Look) -> str | None:
    prompt, name = _named(look.fields, _PROMPTS), _named(look.fields, _RESPONSES)
    ranks = _named(look.fields, (*_ORDERS, *_RANKS))
    if prompt is None or name is None:
        return None
    if ranks is not None:
        return f"it has several `{name}` to one `{prompt}` and their order in `{ranks}`"

    def has_ranks(value: Any) -> bool:
        return (
            isinstance(value, list)
            and bool(value)
            and all(isinstance(e, Mapping) and ("rank" in e or "pm_score" in e) for e in value)
        )

    return f"each of the `{name}` to one `{prompt}` has a rank or a score" if look.mostly(name, has_ranks) else None


def _convert_columns(fields: Fields, given: Given) -> list[Made]:
    places = {int(match[1]): name for name in fields.row if (match := _COLUMN.fullmatch(name))}
    values = [fields.get(places[place]) for place in sorted(places)]
    items = [as_word(value) for value in values if value is not None]
    if len(items) < 2 or None in items or len(set(items)) != len(items):
        raise RowError("the ranks do not name at least two different items")
    responses = [given.items.text(item) if given.items else item for item in items if item is not None]
    made = {"prompt": "", "responses": responses, "ranks": list(range(1, len(items) + 1))}
    who = {"user": fields.user() or f"row {fields.place + 1}", "time": fields.time()}
    return [("ranking", {**made, **who, "extra": fields.extra(items=items if given.items else None)})]


def _recognise_columns(look: Look) -> str | None:
    n = sum(_COLUMN.fullmatch(name) is not None for name in look.fields)
    return (
        f"it has one column per rank, `rank_1` to `rank_{n}`; each row is taken for one person"
        if n >= 2 and look.has("rank_1")
        else None
    )


RANKINGS = Format(
    "rankings", "several responses and their ranks", ("prompt", "responses", "ranks"), _recognise, convert
)
RANK_COLUMNS = Format(
    "rank_columns",
    "one column per rank",
    ("rank_1", "rank_2"),
    _recognise_columns,
    _convert_columns,
    items=ItemsFile(("items",), ("rank1",)),
)
