"""What people did with items: ratings, plays, clicks and tags, under the many headings that such tables have.

Where the texts that people rated lie in another file (jokes, comments), a rating becomes a rating of that text; where
only titles are known, it stays an interaction with the item's id and its title in `extra`. Tables are read column by
column; the row form says the same about one row.
"""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from penchant.feedback.formats.columns import is_simple, mask, numbers, words
from penchant.feedback.formats.layout import (
    TIME_NAMES,
    USER_NAMES,
    Column,
    Fields,
    Format,
    Given,
    ItemsFile,
    Look,
    Made,
    RowError,
    find,
    json_text,
    moment,
    plain,
)

_ITEMS = (
    "item itemid movie movieid artist artistid joke jokeid product productid asin parentasin isbn book bookid song "
    "songid track trackid business businessid game gameid appid news newsid video videoid anime animeid recipe "
    "recipeid restaurant restaurantid sku place placeid venue venueid listing listingid article articleid content "
    "contentid document documentid"
)
ITEM_NAMES = tuple(_ITEMS.split())
_SCORES = ("rating", "ratings", "score", "stars", "star", "overall", "rate", "bookrating", "starrating")
_AMOUNTS = (
    "weight plays playcount playcounts count counts listens frequency hours playtime watchratio clicks views value"
)
AMOUNT_NAMES = tuple(_AMOUNTS.split())
_EVENTS = ("event", "eventtype", "action", "behavior", "behaviour", "interaction", "tag")


def _names(names: Any) -> tuple[str | None, str | None, str | None, str | None]:
    """The fields with the person, the item, the value and the event."""
    names = list(names)
    user = next((name for name in names if plain(name) in USER_NAMES), None)
    return user, find(names, *ITEM_NAMES), find(names, *_SCORES, *AMOUNT_NAMES), find(names, *_EVENTS)


def _event(value_name: str | None) -> str:
    if value_name is None:
        return "interaction"
    return "rating" if plain(value_name) in _SCORES else plain(value_name)


def _convert(fields: Fields, given: Given) -> list[Made]:
    _, item_name, value_name, event_name = _names(fields.row)
    user = fields.user()
    if user is None:
        raise RowError("`user` is missing")
    if item_name is None:
        raise RowError("`item` is missing")
    item = fields.word(item_name)
    value = fields.number(value_name) if value_name else None
    when = fields.time()
    if given.items is not None and given.items.is_prose and value_name:
        text = given.items.text(item)
        rating = {"prompt": "", "response": text, "score": value, "user": user, "time": when}
        return [("rating", {**rating, "extra": fields.extra(item=item)})]
    # What a tag says is nobody's fixed word, so that it stays in `extra`.
    is_word = event_name is not None and event_name != "tag"
    event = fields.word(str(event_name)) if is_word else _event(event_name or value_name)
    made = {"item": item, "event": event, "value": value, "user": user, "time": when}
    about = dict(given.items.rows.get(item, {})) if given.items is not None else {}
    return [("interaction", {**made, "extra": fields.extra(item=about or None)})]


def _columns(table: pa.Table, given: Given) -> Column | None:
    user, item, value, event = _names(table.column_names)
    when = next((name for name in table.column_names if plain(name) in TIME_NAMES), None)
    simple = {name for name in (user, item, value, event, when) if name is not None}
    if user is None or item is None or event == "tag" or simple != set(table.column_names):
        return None  # other fields go to `extra`, row by row
    if not all(is_simple(table.schema.field(name).type) for name in simple):
        return None
    users, items = words(table[user]), words(table[item])
    events = words(table[event]) if event else pa.array([_event(value)] * len(table))
    if users is None or items is None or events is None:
        return None
    columns: dict[str, Any] = {"user": users}
    problems = {"`user` is missing": mask(pc.is_null(users)), f"`{item}` is missing": mask(pc.is_null(items))}
    values = pa.nulls(len(table), pa.float64())
    if value is not None:
        values, is_other = numbers(table[value])
        problems[f"`{value}` is not a number"] = is_other
        problems[f"`{value}` is missing"] = mask(pc.is_null(values)) | mask(pc.is_nan(values))
        problems[f"`{value}` is not finite"] = mask(pc.invert(pc.is_finite(values)))
    if when is not None:
        times = [moment(each) for each in table[when].to_pylist()]
        if any(time is None and each is not None for time, each in zip(times, table[when].to_pylist(), strict=True)):
            return None  # what is no time goes to `extra`, row by row
        columns["time"] = pa.array(times, pa.timestamp("us", tz="UTC"))
    if given.items is not None and given.items.is_prose and value is not None:
        columns |= {"prompt": pa.array([""] * len(table)), "score": values}
        columns["response"], columns["extra"] = _texts(items, given, problems)
        return Column("rating", pa.table(columns), problems)
    columns |= {"item": items, "value": values, "event": events}
    if event:
        problems[f"`{event}` is missing"] = mask(pc.is_null(events))
    if given.items is not None:
        columns["extra"] = _about(items, given)
    return Column("interaction", pa.table(columns), problems)


def _texts(items: pa.ChunkedArray, given: Given, problems: dict[str, Any]) -> tuple[pa.Array, pa.Array]:
    """Text and `extra` of each item, looked up once per different item."""
    encoded = items.combine_chunks().dictionary_encode()
    texts: list[str | None] = []
    reasons: list[str | None] = []
    for item in encoded.dictionary.to_pylist():
        try:
            texts.append(given.items.text(item) if given.items else None)
            reasons.append(None)
        except RowError as error:
            texts.append(None)
            reasons.append(str(error))
    per_row = pa.array(reasons, pa.string()).take(encoded.indices)
    for reason in {reason for reason in reasons if reason is not None}:
        problems[reason] = mask(pc.equal(per_row, reason))
    extras = pa.array([json_text({"item": item}) for item in encoded.dictionary.to_pylist()], pa.string())
    return pa.array(texts, pa.string()).take(encoded.indices), extras.take(encoded.indices)


def _about(items: pa.ChunkedArray, given: Given) -> pa.Array:
    """What is known of each item besides its id, as `extra`."""
    encoded = items.combine_chunks().dictionary_encode()
    rows = given.items.rows if given.items else {}
    known = [rows.get(item) for item in encoded.dictionary.to_pylist()]
    texts = [json_text({"item": dict(row)}) if row else None for row in known]
    return pa.array(texts, pa.string()).take(encoded.indices)


def _recognise(look: Look) -> str | None:
    user, item, value, event = _names(look.fields)
    if user is None or item is None or (value is None and event is None and len(look.fields) > 6):
        return None
    if not look.mostly(item, lambda each: isinstance(each, (str, int, float))):
        return None
    what = f"`{value or event}`" if value or event else "nothing more, so that each row is one interaction"
    return f"it has a person in `{user}`, an item in `{item}` and {what}"


INTERACTIONS = Format(
    "interactions",
    "ratings, plays, clicks or tags of items",
    ("user_id", "item_id", "rating"),
    _recognise,
    _convert,
    columns=_columns,
    items=ItemsFile(("items", "jokes", "movies", "artists", "products", "books", "songs"), ITEM_NAMES),
)
