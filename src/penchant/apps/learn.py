"""`penchant learn`: fit a model of people, and measure it on choices it has not seen."""

import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from penchant.apps import one_for_all, report
from penchant.apps.compare import compare_models, not_about, tables, written
from penchant.apps.data import Data, shown_drops
from penchant.apps.names import are_names, items_of
from penchant.apps.outcome import Outcome
from penchant.cache import RowCache
from penchant.encoders import Apart, Attributes, Encoder, HiddenState, Items, Joined, MiniLM, are_numbers
from penchant.encoders import Cached as CachedEncoder
from penchant.errors import DataError, SettingsError, UnknownNameError, nearest
from penchant.evaluate.held_out import split_for
from penchant.exchange import write_json
from penchant.feedback.about_people import about_people, beside
from penchant.methods import METHODS, method, resolve
from penchant.preference import PreferenceModel
from penchant.records import Comparisons, Ratings
from penchant.settings import plain
from penchant.settings import resolve as resolved
from penchant.store import Store
from penchant.style import Style

LEARNT = "learn.json"  # beside every model of people
COMPARISON = "comparison.json"  # in the folder of a comparison; the plot beside it
_ITEMS, _AUTO = "items", "auto"
_LOOKED_AT = 50  # payloads, to see whether they are objects of numbers

ENCODERS: dict[str, Callable[[], Encoder]] = {
    "minilm": lambda: CachedEncoder(MiniLM(), RowCache()),
    "style": Style,
    "minilm+style": lambda: Joined(Style(), CachedEncoder(MiniLM(), RowCache())),
    "attributes": Attributes,
    "attributes+minilm": lambda: Apart(Attributes(), CachedEncoder(MiniLM(), RowCache())),
}


def encoder_of(name: str, items: Sequence[str] = ()) -> Encoder:
    """The encoder of a name, or the states of a reward model in a folder; vectors are kept on disk.

    Args:
        name: of the encoder.
        items: the names that "items" knows.

    Raises:
        UnknownNameError: there is no such encoder or folder.
    """
    if name == _ITEMS:
        return Items(items)
    if name in ENCODERS:
        return ENCODERS[name]()
    if not Path(name).is_dir():
        raise UnknownNameError(
            f"No encoder is called {name!r}: {nearest(name, [*ENCODERS, _ITEMS])} The folder of a reward model "
            "works too (`penchant align --method reward_model` leaves one)."
        )
    from penchant.policies.reward import LanguageReward  # takes seconds to import

    return CachedEncoder(HiddenState(LanguageReward.saved(name)), RowCache())


def build(name: str, encoder: Encoder, settings: Mapping[str, Any]) -> PreferenceModel:
    """An unfitted model of people, by the name of a method or the dotted path of a class.

    Raises:
        SettingsError: a setting is unknown or wrong, or the method learns from something else than comparisons.
        UnknownNameError: there is no such method.
    """
    known = {row.name for row in METHODS}
    target = resolve(name) if "." in name and name not in known else method(name).resolve()
    if name in known and not (isinstance(target, type) and issubclass(target, PreferenceModel)):
        raise SettingsError(f"{name} does not learn from comparisons; `penchant methods {name}` says what it is for.")
    made: PreferenceModel = target(**resolved(target, {"encoder": encoder, **settings}, where="settings."))
    return made


def loaded(folder: Path) -> Any:
    """A model that `penchant learn` wrote, with its encoder.

    Raises:
        DataError: the folder holds none.
    """
    about = _about(folder)
    return resolve(about["class"]).load(folder, encoder=encoder_of(about["encoder"], about.get("items", ())))


def _about(folder: Path) -> dict[str, Any]:
    """What `penchant learn` wrote beside a model: its `class`, `encoder`, `items` if it has, and `data`."""
    try:
        about: dict[str, Any] = json.loads((folder / LEARNT).read_text(encoding="utf-8"))
        if missing := {"class", "encoder", "data"} - about.keys():
            raise KeyError(*sorted(missing))
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{folder} holds no model of people ({error}); make one with `penchant learn`.") from error
    return about


def is_from_store(folder: Path) -> bool:
    """Whether a model was learnt from the store, and not from a file.

    Raises:
        DataError: the folder holds no model of people.
    """
    return _about(folder)["data"] is not None


def learn_without(user: str, folder: Path, *, store: str, doomed: Sequence[Path] = ()) -> None:
    """Learn a model again in its place, from what the store holds of everybody but one person.

    The result is what `penchant learn` would have made if the person had never been there; nothing is encoded again.

    Args:
        user: who is forgotten.
        folder: that `penchant learn` wrote.
        store: where its records live.
        doomed: folders that will be deleted with the person.

    Raises:
        PenchantError: the folder holds no such model, its encoder is doomed, or nothing is left to learn from.
    """
    about = _about(folder)
    if any(Path(about["encoder"]).is_relative_to(path) for path in doomed):
        raise DataError(f"its encoder {about['encoder']} was trained on the person too")
    if about["data"] is None:
        raise DataError("it was learnt from a file since")
    data = Data(**resolved(Data, about["data"] | {"store": store}))
    model = loaded(folder)
    rated: dict[str, Ratings] = {}
    if _measures(model):
        rated["ratings"], others, *_ = data.measured(without=user)
    else:
        others, *_ = data.comparisons(of_names=about["encoder"] == _ITEMS, without=user)
    if about["encoder"] == _ITEMS:  # a name that only this person compared is no item any more
        about["items"] = items_of(others)
        model.encoder = encoder_of(_ITEMS, about["items"])
    model.without(user, others, **rated).save(folder)
    write_json(folder / LEARNT, about)


def _anywhere(encoder: str) -> str:
    """The name of an encoder, which does not depend on the working folder if it is a folder itself."""
    return str(Path(encoder).resolve()) if encoder not in ENCODERS and Path(encoder).is_dir() else encoder


def _measures(model: PreferenceModel) -> bool:
    """Whether a model measures attributes by ratings before it learns from comparisons."""
    return hasattr(model, "measure")


def _measured(model: Any, ratings: Ratings | None) -> PreferenceModel:
    """The model, which has measured the attributes if it is one that measures any."""
    made: PreferenceModel = model.measure(ratings) if ratings is not None else model
    return made


def learn(
    file: Path | None = None,
    *,
    method: str = "bradley_terry",
    compare: str | None = None,
    seeds: int = 3,
    users: Path | None = None,
    data: Data = Data(),
    encoder: str = "auto",
    settings: Mapping[str, Any] = {},
    out: Path | None = None,
) -> Outcome:
    """Fit a model of everybody and one of each person; measure both on choices of the same people that were held out.

    A model of several objectives (directional) measures them by the ratings that name an `aspect`, and learns people's
    directions from everything else. The model that is saved is fitted on all choices; the accuracies come from a fit on
    two thirds of each person's. Pairs made from ratings or rankings are held out by response, so that nothing held out
    was part of a pair seen.

    With --compare every model is measured on the same choices instead, also on those of people set aside of whom it is
    shown a handful, and no model is saved. Finished models are kept, so that a comparison goes on where it was.

    Args:
        file: feedback of any format that `penchant import` reads, as --data.path; the store without either.
        method: a method of the room `learn` (see `penchant methods`), or the dotted path of your own class.
        compare: all, or methods with commas between them: measure these instead of learning one.
        seeds: how often other people are set aside in a comparison.
        users: a table of what is known of people besides (age, place), for a comparison to learn from too; a file
            users.jsonl or users.csv beside the feedback is found without it.
        data: what to learn from.
        encoder: how texts become vectors: minilm, style, minilm+style, attributes (payloads that are JSON objects of
            numbers), attributes+minilm (beside them the words of prompts), items (payloads that are names, of systems
            or dishes), or the folder of a reward model that other choices have trained; auto takes attributes or items
            where payloads are such, and minilm+style otherwise.
        settings: the method's own settings; `penchant methods NAME` lists them.
        out: folder of the learnt model, or of a comparison; without it `model` or `comparison`.
    """
    if file is not None:
        if data.path not in (None, file):
            raise SettingsError(f"Two files were given, {file} and --data.path {data.path}; learn from one at a time.")
        data = dataclasses.replace(data, path=file)
    if compare is None:
        return _learnt(method, data, encoder, settings, out or Path("model"))
    if settings:
        raise SettingsError("Settings are of one method; in a comparison all have the settings they come with.")
    return _compared(compare, data, encoder, seeds, users, out or Path("comparison"))


def _learnt(method: str, data: Data, encoder: str, settings: Mapping[str, Any], out: Path) -> Outcome:
    model = build(method, Style() if encoder == _AUTO else encoder_of(encoder), settings)
    ratings = None
    if _measures(model):
        ratings, comparisons, dropped, kinds = data.measured()
    else:
        comparisons, dropped, kinds = data.comparisons(of_names=encoder in (_ITEMS, _AUTO))
    begin = time.perf_counter()
    encoder, items = _chosen(encoder, comparisons)
    model.encoder = encoder_of(encoder, items)
    seen, held_out = split_for(kinds)(comparisons)
    apart = None if ratings is None else not_about(ratings, held_out)
    measured = one_for_all.compare(_measured(model, apart), seen, held_out)
    if data.path is None:
        _register(data, out, comparisons, ratings, f"{method} model")
    one_for_all.adapted(_measured(model, ratings), comparisons, comparisons).save(out)
    about: dict[str, Any] = {
        "class": f"{type(model).__module__}:{type(model).__qualname__}",
        "encoder": _anywhere(encoder),
    }
    # Not where the store is: that may hold a password, and whoever forgets somebody knows it.
    from_store = {name: value for name, value in plain(data).items() if name not in ("path", "store")}
    about |= {"data": None if data.path else from_store} | ({"items": items} if items else {})
    write_json(out / LEARNT, about)
    accuracy, surprise = measured["accuracy"], measured["log_loss"]
    rows = [
        ["accuracy, one for all, %", report.shown(accuracy.one_for_all, signed=False)],
        ["accuracy, one for each, %", report.shown(accuracy.per_user, signed=False)],
        ["gain in accuracy, points", report.shown(accuracy.gain)],
        ["gain in log loss, millinats", report.shown(surprise.gain, scale=1000.0)],
        ["people predicted worse, %", report.shown(accuracy.share_worse, signed=False)],
        ["... if nothing had changed, %", f"{100 * accuracy.placebo.worse.estimate:.1f}"],
    ]
    lines = [
        f"{len(comparisons)} comparisons by {len(comparisons.users)} people; measured on {measured['n_held_out']} "
        f"choices of {measured['n_people']} people held out (95 %, by person).",
        report.Table(("", "estimate [interval]"), rows).text(),
        f"model of all choices in {out} ({time.perf_counter() - begin:.1f} s)",
    ]
    if dropped:
        lines.insert(1, shown_drops(dropped))
    gain = {"estimate": accuracy.gain.estimate, "low": accuracy.gain.low, "high": accuracy.gain.high}
    found = {
        "method": method,
        "comparisons": len(comparisons),
        "people": len(comparisons.users),
        "held_out": measured["n_held_out"],
        "one_for_all": accuracy.one_for_all.estimate,
        "per_user": accuracy.per_user.estimate,
        "gain": gain,
        "share_worse": accuracy.share_worse.estimate,
        "share_worse_by_chance": accuracy.placebo.worse.estimate,
        "dropped": dropped,
        "model": str(out),
    }
    return Outcome(found, "\n".join(lines))


def _compared(names: str, data: Data, encoder: str, seeds: int, users: Path | None, out: Path) -> Outcome:
    ratings, comparisons, dropped, kinds = data.all_of_it(of_names=encoder in (_ITEMS, _AUTO))
    if data.path is None:
        _register(data, out, comparisons, ratings, "comparison of models")
    known = users or (beside(data.path) if data.path else None)
    encoder, items = _chosen(encoder, comparisons)
    found = compare_models(
        comparisons,
        kinds,
        encoder_of(encoder, items),
        names=names,
        seeds=seeds,
        ratings=ratings,
        features=about_people(known) if known else {},
        folder=out,
    )
    about = {
        "comparisons": len(comparisons),
        "people": len(comparisons.users),
        "encoder": encoder,
        "dropped": dropped,
        "out": str(out),
    }
    lines = [
        f"{len(comparisons)} comparisons by {len(comparisons.users)} people, read through {encoder}; {seeds} splits.",
        *([shown_drops(dropped)] if dropped else []),
        *(f"{one.text()}\n{one.caption}\n" for one in tables(found.rows, found.full)),
        *(f"not compared: {name}: {reason}" for name, reason in found.left_out.items()),
        *found.notes,
        f"table and plot in {out} ({found.seconds:.0f} s, finished models of before not counted)",
    ]
    return Outcome(written(found, out / COMPARISON, about), "\n".join(lines))


def _chosen(encoder: str, comparisons: Comparisons) -> tuple[str, list[str]]:
    """The encoder that was asked for, or that fits what was compared; and the names of items, if it is about names."""
    if encoder == _AUTO:
        some = comparisons.table["chosen"].slice(0, _LOOKED_AT).to_pylist()
        encoder = "attributes" if are_numbers(some) else _ITEMS if are_names(comparisons) else "minilm+style"
    return encoder, items_of(comparisons) if encoder == _ITEMS else []


def _register(data: Data, out: Path, comparisons: Comparisons, ratings: Ratings | None, note: str) -> None:
    """Tell the store, before there is anything: whoever is forgotten takes along what was learnt from them."""
    people = {*comparisons.users, *(ratings.users if ratings else ())}
    Store(data.store).derived(out, users=sorted(people), note=note)
