"""`penchant profile`: what a model has learnt of one person, to look at, to change, to take along or to delete."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np

from penchant.apps import report
from penchant.apps.learn import is_from_store, loaded
from penchant.apps.outcome import Outcome
from penchant.apps.portraits import wishes_of
from penchant.errors import SettingsError, UnknownNameError, nearest
from penchant.exchange import write_json
from penchant.preference import PreferenceModel
from penchant.store import Store

_SHOWN = 6  # numbers of a long list


def profile(
    action: Literal["show", "edit", "export", "delete"],
    *,
    user: str,
    model: Path = Path("model"),
    set: Mapping[str, Any] = {},
    file: Path | None = None,
    store: str = "sqlite:///penchant.db",
) -> Outcome:
    """What a model has learnt of one person: look at it, change it, take it along, or delete it.

    `show` says it in words and numbers. `edit` changes it, and only to what means something to the model. `export`
    writes all of it as JSON. `delete` takes it out of the model's files, which then predict the person like everybody;
    what everybody's part of the model has learnt from the person stays until `penchant forget`.

    Args:
        action: show, edit, export or delete.
        user: whose profile.
        model: a folder that `penchant learn` wrote.
        set: what to change, by field as `show` names them, such as --set.direction "[0.6, 0.8]", or one number of a
            list by its name, such as --set.weights.words 0.5.
        file: JSON for `export` to write, or for `edit` to read back; without it `export` writes
            profile-USER.json.
        store: where records live, to say what else is kept of the person.
    """
    people = loaded(model)
    if not people.knows(user):
        raise UnknownNameError(f"Nothing is known of {user!r} in {model}: {nearest(user, people.users_)}")
    if action == "show":
        return _shown(people, user)
    if action == "export":
        named = "".join(c if c.isalnum() or c in "-_" else "_" for c in user)
        return _exported(people, user, file or Path(f"profile-{named}.json"))
    if action == "edit":
        return _edited(people, user, model, set, file)
    return _deleted(people, user, model, store)


def _shown(people: PreferenceModel, user: str) -> Outcome:
    values = _plain(people.users_[user])
    rows = [[name, _said(value, people.names(name))] for name, value in values.items()]
    wishes = wishes_of(people, user)
    text = "\n".join(
        [
            f"{user!r} in this {type(people).__name__}:",
            *wishes,
            report.Table(("what", "learnt"), rows).text(),
        ]
    )
    return Outcome({"user": user, "class": type(people).__name__, "wishes": wishes, "profile": values}, text)


def _exported(people: PreferenceModel, user: str, file: Path) -> Outcome:
    kept = _plain(people.users_[user])
    about = {
        "user": user,
        "class": type(people).__name__,
        "encoder": people.encoder.name,
        "names": {name: names for name in kept if (names := people.names(name)) and isinstance(kept[name], list)},
        "profile": kept,
    }
    write_json(file, about)
    return Outcome(about | {"out": str(file)}, f"what was learnt of {user!r}, in {file}")


def _edited(people: PreferenceModel, user: str, folder: Path, changes: Mapping[str, Any], file: Path | None) -> Outcome:
    if bool(changes) == (file is not None):
        raise SettingsError("Say what to change: either --set.FIELD VALUE, or --file with JSON that `export` wrote.")
    before = _plain(people.users_[user])
    wanted = _read(file, people) if file is not None else dict(changes)
    values = {name: _whole(people, name, before.get(name), value) for name, value in wanted.items()}
    after = _plain(people.edit(user, **values))
    people.save(folder)
    changed = [name for name in after if after[name] != before[name]]
    lines = [f"{n}: {_said(before[n], people.names(n))} -> {_said(after[n], people.names(n))}" for n in changed]
    return Outcome(
        {"user": user, "changed": changed, "profile": after},
        "\n".join([*lines, f"kept in {folder}"] if changed else [f"nothing changed: {user!r} was like that already"]),
    )


def _deleted(people: PreferenceModel, user: str, folder: Path, store: str) -> Outcome:
    del people.users_[user]
    people.save(folder)
    lines = [f"{user!r} is taken out of {folder}, which predicts them like everybody now."]
    data: dict[str, Any] = {"user": user, "model": str(folder)}
    if is_from_store(folder):
        home = Store(store)
        data["records_in_store"] = sum(len(home.records(kind, users=[user])) for kind in home.kinds())
        data["learnt_elsewhere"] = [one["path"] for one in home.learnt(user) if Path(one["path"]) != folder.absolute()]
        lines.append(
            f"Still there: {data['records_in_store']} records of theirs in the store, "
            + "".join(f"{path}, " for path in data["learnt_elsewhere"])
            + "and what everybody's part of the model has learnt from them. "
            f"`penchant forget {user}` takes all of that back."
        )
    else:
        lines.append(
            "Still there: the file that they were learnt from, and what everybody's part of the model has learnt from "
            "them; learn it again from a file without them."
        )
    return Outcome(data, "\n".join(lines))


def _plain(profile: Any) -> dict[str, Any]:
    """A profile as plain values."""
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in asdict(profile).items()}


def _read(file: Path, people: PreferenceModel) -> dict[str, Any]:
    """The fields in a file that `export` wrote of a model of this class.

    Raises:
        SettingsError: it is none.
    """
    try:
        about = json.loads(file.read_text(encoding="utf-8"))
        kind, values = about["class"], dict(about["profile"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SettingsError(f"{file} is no profile that `penchant profile export` wrote ({error}).") from error
    if kind != type(people).__name__:
        raise SettingsError(f"{file} is of a {kind}, and this model is a {type(people).__name__}.")
    return values


def _whole(people: PreferenceModel, name: str, before: Any, value: Any) -> Any:
    """The whole new value of a field, where somebody may have named single numbers of a list."""
    if not isinstance(value, Mapping):
        return value
    names = people.names(name) if isinstance(before, list) else []
    if not names:
        raise SettingsError(f"The numbers of `{name}` have no names here: give all of them, as a list.")
    whole = list(before)
    for one, number in value.items():
        if one not in names:
            raise UnknownNameError(f"`{name}` has no {one!r}: {nearest(str(one), names)}")
        whole[names.index(one)] = number
    return whole


def _said(value: Any, names: Sequence[str]) -> str:
    """A value as people read it; of a long list the numbers farthest from zero, by name where they have names."""
    if isinstance(value, float):
        return f"{value:.3g}"
    if not isinstance(value, list) or not value:
        return str(value)
    numbers = np.asarray(value, dtype=np.float64)
    if numbers.ndim > 1:
        return f"{numbers.size} numbers, {' x '.join(map(str, numbers.shape))}"
    names = names or [f"[{place}]" for place in range(len(numbers))]
    order = np.argsort(-np.abs(numbers), kind="stable")[:_SHOWN]
    rest = f" and {len(numbers) - len(order)} smaller ones" if len(numbers) > len(order) else ""
    return ", ".join(f"{names[place]} {numbers[place]:+.2f}" for place in order) + rest
