"""`penchant evaluate item-fairness`: does a recommender give every item of a catalogue its share of showings?"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from penchant.apps import fairness_picture, recommended, report
from penchant.apps.data import shown_drops
from penchant.apps.outcome import Outcome
from penchant.errors import DataError, SettingsError
from penchant.evaluate.item_fairness import CORRECTED, Exposure, Measure, exposure, measures
from penchant.evaluate.showings import SHORT
from penchant.feedback.chunk import shown
from penchant.feedback.reading import chunks
from penchant.parts import OnError


@dataclass(frozen=True)
class Case:
    """Some recommender's lists, counted.

    Attributes:
        name: of the recommender, or the number of its record.
        shown: what items got.
        dropped: reason -> lists left out.
        assumed: what was assumed, in a sentence each.
    """

    name: str
    shown: Exposure
    dropped: dict[str, int] = field(default_factory=dict)
    assumed: tuple[str, ...] = ()


def item_fairness(
    file: Path,
    *,
    catalogue: int | str | None = None,
    k: int | None = None,
    patience: float = 0.8,
    on_error: OnError = "stop",
    picture: Path | None = None,
    workers: int = 0,
    address: str | None = None,
) -> Outcome:
    """Whether every item of a catalogue gets its share of what a recommender shows, by all measures in both forms.

    The file has a row for each user and item (columns such as user, item, rank; a column recommender or case compares
    several), or a record for each recommender with `n_items` and `recommendations`, a list of items numbered from 1 on
    for each user, best first. The original form of a measure cannot reach its ends at most sizes; the corrected form
    (`_our`) can. A measure without a value is null, and its reason is in `why_not`.

    Args:
        file: CSV, Parquet, JSON lines or JSON; a folder holds one file for each shard of users.
        catalogue: how many items there are, those never shown among them, or a file that names each in a row.
        k: places of each list that count; without it all lists must have as many.
        patience: chance that a user goes on to the next place, for II-D and AI-D.
        on_error: stop at a list that is not whole, or drop such lists and count them.
        picture: file to draw who gets how much in, such as fairness.svg or fairness.png.
        workers: Ray workers that count the files of a folder; 0 counts them here.
        address: of a Ray cluster; without it the workers run on this machine.
    """
    if picture is not None and picture.suffix not in fairness_picture.FORMS:
        raise SettingsError(f"{picture.name!r} must end in one of {', '.join(fairness_picture.FORMS)}.")
    if k is not None and k < 1:
        raise SettingsError(f"k must be at least 1: got {k!r}.")
    files = recommended.shards(file)
    items = recommended.catalogue(catalogue)
    if _holds_lists(files[0]):
        cases = [case for one in files for case in _of_records(one, items, k, on_error)]
    else:
        found = recommended.count(files, k=k, on_error=on_error, workers=workers, address=address)
        cases = list(_of_rows(file, found, items))
    measured = [measures(case.shown, patience=patience) for case in cases]
    lines = [_one(cases[0], measured[0])] if len(cases) == 1 else [_several(cases, measured)]
    if picture is not None:
        fairness_picture.draw(picture, {case.name: case.shown for case in cases})
        lines.append(f"drawn in {picture}")
    return Outcome([_record(*both) for both in zip(cases, measured, strict=True)], "\n".join(lines))


def _holds_lists(path: Path) -> bool:
    """Whether a file has a record with lists for each recommender, rather than a row for each user and item."""
    for chunk in chunks(path):
        rows = chunk.listed() if chunk.rows is not None else []
        names = set(chunk.table.column_names) if chunk.table is not None else {name for row in rows for name in row}
        if names:
            return bool({"recommendations", "n_items"} & names)
    return False


def _of_records(path: Path, items: int | list[str] | None, k: int | None, on_error: OnError) -> Iterator[Case]:
    default = len(set(items)) if isinstance(items, list) else items
    number = 0
    for chunk in chunks(path):
        if chunk.broken and on_error == "stop":
            raise DataError(f"{shown(path)}: {shown_drops(chunk.broken)}.")
        for record in chunk.listed():
            number += 1
            lists, n_items = record.get("recommendations"), record.get("n_items", default)
            if not isinstance(lists, list) or not isinstance(n_items, int):
                raise DataError(
                    f"{shown(path)}, record {number}: `recommendations` must be a list of lists and `n_items` a whole "
                    f"number; it has {sorted(record)}."
                )
            name = str(record.get("case", number))
            try:
                whole, dropped = _cut(lists, k, on_error)
                yield Case(name, exposure(whole, n_items, first=1), dropped)
            except (DataError, TypeError) as error:
                raise DataError(f"{shown(path)}, record {number}: {error}") from error
    if not number:
        raise DataError(f"{shown(path)} holds no records.")


def _cut(lists: list[Any], k: int | None, on_error: OnError) -> tuple[list[Any], dict[str, int]]:
    if k is None:
        return lists, {}
    whole = [one[:k] for one in lists if len(one) >= k]
    short = len(lists) - len(whole)
    if short and on_error == "stop":
        raise DataError(
            f"{short} of {len(lists)} lists have fewer than {k} items. To leave them out use --on-error drop."
        )
    return whole, {SHORT: short} if short else {}


def _of_rows(path: Path, found: recommended.Recommended, items: int | list[str] | None) -> Iterator[Case]:
    for name, one in found.cases.items():
        assumed = [found.order] if found.order else []
        if items is None:
            assumed.append(
                f"the {len(one.items)} items that are shown are taken for the whole catalogue, which makes lists look "
                "fairer than they are; say how many there are with --catalogue"
            )
        try:
            shown_to = one.exposure(items)
        except DataError as error:
            raise DataError(f"{shown(path)}{f', {name!r}' if name else ''}: {error}") from error
        yield Case(name or path.stem, shown_to, {**found.unread, **one.dropped}, tuple(assumed))


# What people and scripts read ----------------------------------------------------------------------------------------


def _record(case: Case, found: dict[str, Measure]) -> dict[str, Any]:
    values = {name: None if math.isnan(one.value) else one.value for name, one in found.items()}
    m, n, k = case.shown.size
    return {
        "case": case.name,
        **values,
        "why_not": {name: one.why_not for name, one in found.items() if one.why_not},
        "fairest": {name: one.fairest for name, one in found.items()},
        "n_users": m,
        "n_items": n,
        "k": k,
        "dropped": case.dropped,
        "assumed": list(case.assumed),
    }


def _value(one: Measure | None) -> str:
    return "" if one is None else "-" if math.isnan(one.value) else f"{one.value:.4g}"


def _one(case: Case, found: dict[str, Measure]) -> str:
    """All measures of one recommender, and what some cannot say."""
    names = list(dict.fromkeys(name.rpartition("_")[0] for name in found))
    rows = [
        [
            name,
            _value(found.get(f"{name}_our")),
            _value(found[f"{name}_ori"]),
            "1, higher is fairer" if found[f"{name}_ori"].fairest else "0, lower is fairer",
        ]
        for name in names
    ]
    m, n, k = case.shown.size
    lines = [
        f"{case.name}: {m} users, {n} items, {k} places each.",
        report.Table(("", "corrected", "original", "fairest"), rows).text(),
        *_remarks(found),
    ]
    return "\n".join([*lines, *_asides(case)])


def _remarks(found: dict[str, Measure]) -> list[str]:
    forms = {"our": "corrected", "ori": "original"}
    return [
        f"{name.rpartition('_')[0]}, {forms[name.rpartition('_')[2]]}: {one.why_not}."
        for name, one in found.items()
        if one.why_not
    ]


def _several(cases: Sequence[Case], measured: Sequence[dict[str, Measure]]) -> str:
    """The corrected forms of several recommenders, one in a row."""
    arrows = [f"{name} {'↑' if measured[0][f'{name}_our'].fairest else '↓'}" for name in CORRECTED]
    rows = [
        [case.name, *(f"{found[f'{name}_our'].value:.3f}" for name in CORRECTED)]
        for case, found in zip(cases, measured, strict=True)
    ]
    sizes = {case.shown.size for case in cases}
    lines = [report.Table(("corrected", *arrows), rows).text(), "↑ higher is fairer, ↓ lower is fairer."]
    if len(sizes) > 1:
        lines.append("These lists differ in users, items or places: only those of one size can be compared.")
    return "\n".join([*lines, *(f"{case.name}: {line}" for case in cases for line in _asides(case))])


def _asides(case: Case) -> list[str]:
    return [*([shown_drops(case.dropped)] if case.dropped else []), *(f"Assumed: {line}." for line in case.assumed)]
