"""`penchant learn`: fit a model of people, and measure it on choices it has not seen."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from penchant.apps import report
from penchant.apps.data import Data, shown_drops
from penchant.apps.names import items_of
from penchant.apps.one_for_all import adapted, compare, split_for
from penchant.apps.outcome import Outcome
from penchant.cache import RowCache
from penchant.encoders import Attributes, Encoder, HiddenState, Items, Joined, MiniLM
from penchant.encoders import Cached as CachedEncoder
from penchant.errors import DataError, UnknownNameError, nearest
from penchant.exchange import write_json
from penchant.methods import METHODS, method, resolve
from penchant.preference import PreferenceModel
from penchant.settings import resolve as resolved
from penchant.store import Store
from penchant.style import Style

ENCODERS: dict[str, Callable[[], Encoder]] = {
    "minilm": lambda: CachedEncoder(MiniLM(), RowCache()),
    "style": Style,
    "minilm+style": lambda: Joined(Style(), CachedEncoder(MiniLM(), RowCache())),
    "attributes": Attributes,
}


def encoder_of(name: str, items: Sequence[str] = ()) -> Encoder:
    """The encoder of a name, or the states of a reward model in a folder; vectors are kept on disk.

    Args:
        name: of the encoder.
        items: the names that "items" knows.

    Raises:
        UnknownNameError: there is no such encoder or folder.
    """
    if name == "items":
        return Items(items)
    if name in ENCODERS:
        return ENCODERS[name]()
    if not Path(name).is_dir():
        raise UnknownNameError(
            f"No encoder is called {name!r}: {nearest(name, [*ENCODERS, 'items'])} The folder of a reward model "
            "works too (`penchant align --method reward_model` leaves one)."
        )
    from penchant.policies.reward import LanguageReward  # takes seconds to import

    return CachedEncoder(HiddenState(LanguageReward.saved(name)), RowCache())


def build(name: str, encoder: Encoder, settings: Mapping[str, Any]) -> PreferenceModel:
    """An unfitted model of people, by the name of a method or the dotted path of a class.

    Raises:
        SettingsError: a setting is unknown or wrong.
        UnknownNameError: there is no such method.
    """
    known = {row.name for row in METHODS}
    target = resolve(name) if "." in name and name not in known else method(name).resolve()
    made: PreferenceModel = target(**resolved(target, {"encoder": encoder, **settings}, where="settings."))
    return made


def loaded(folder: Path) -> Any:
    """A model that `penchant learn` wrote, with its encoder.

    Raises:
        DataError: the folder holds none.
    """
    try:
        about = json.loads((folder / "learn.json").read_text(encoding="utf-8"))
        target = resolve(about["class"])
        encoder = encoder_of(about["encoder"], about.get("items", ()))
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{folder} holds no model of people ({error}); make one with `penchant learn`.") from error
    return target.load(folder, encoder=encoder)


def learn(
    *,
    method: str = "bradley_terry",
    data: Data = Data(),
    encoder: str = "minilm+style",
    settings: Mapping[str, Any] = {},
    out: Path = Path("model"),
) -> Outcome:
    """Fit a model of everybody and one of each person; measure both on choices of the same people that were held out.

    The model that is saved is fitted on all choices; the accuracies come from a fit on two thirds of each person's.
    Pairs made from ratings or rankings are held out by response, so that nothing held out was part of a pair seen.

    Args:
        method: a method of the room `learn` (see `penchant methods`), or the dotted path of your own class.
        data: what to learn from.
        encoder: how texts become vectors: minilm, style, minilm+style, attributes (payloads that are JSON objects of
            numbers), items (payloads that are names, of systems or dishes), or the folder of a reward model that other
            choices have trained.
        settings: the method's own settings; `penchant methods NAME` lists them.
        out: folder of the learnt model.
    """
    comparisons, dropped, kinds = data.comparisons(of_names=encoder == "items")
    begin = time.perf_counter()
    items = items_of(comparisons) if encoder == "items" else []
    vectors = encoder_of(encoder, items)
    measured = compare(build(method, vectors, settings), *split_for(kinds)(comparisons))
    model = adapted(build(method, vectors, settings), comparisons, comparisons)
    model.save(out)
    about = {"class": f"{type(model).__module__}:{type(model).__qualname__}", "encoder": encoder} | (
        {"items": items} if items else {}
    )
    write_json(out / "learn.json", about)
    if data.path is None:
        # Whoever is forgotten takes the model that was learnt from them along.
        Store(data.store).derived(out, users=comparisons.users, note=f"{method} model")
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
