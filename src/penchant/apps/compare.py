"""Every model of people on the same choices: `penchant learn --compare all FILE`.

All models read through the same encoder, whose vectors are computed beforehand, and are measured on the same choices:
later ones of people who were learnt from, and those of people set aside, of whom they are shown one example, two, four,
eight, sixteen. Each is asked beside `bradley_terry`, one model for all. What a model predicted is kept as soon as it
has finished, so that a comparison that was killed goes on where it was.
"""

import hashlib
import importlib
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from types import MappingProxyType
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from tqdm import tqdm

import penchant
from penchant.apps import report
from penchant.apps.one_for_all import anonymous
from penchant.encoders import Encoder, remembered
from penchant.errors import DataError, MissingExtraError, NotFittedError, SettingsError
from penchant.evaluate.held_out import KnownAndNew, known_and_new
from penchant.evaluate.standing import Standing, agreement, expected_agreement, standing
from penchant.exchange import write_json
from penchant.methods import METHODS, method, resolve
from penchant.preference import BradleyTerry, PreferenceModel, read_votes
from penchant.preference.user_features import UserFeatures
from penchant.records import Comparisons, Ratings
from penchant.settings import settings_of
from penchant.source import source_digest
from penchant.statistics import Interval
from penchant.turns import turns
from penchant.whole import whole_file

Array = np.ndarray[Any, np.dtype[np.float64]]
Features = Mapping[str, Mapping[str, Any]]
_NOTHING: Features = MappingProxyType({})

POOLED = "bradley_terry"  # one model for all, beside which every other is measured
PER_USER = "bradley_terry_per_user"
BY_FEATURES = "bradley_terry_user_features"  # one model for all that knows something of people besides their choices
EXAMPLES = (1, 2, 4, 8, 16)
_ON_REQUEST = {"few_shot": "a language model reads every comparison, which takes minutes to hours"}  # not in `all`
_FINISHED = "finished"  # folder of models that need not be run again
_SEEN, _ALL = "seen", "all"
_HASHED_ROWS = 10_000  # at once


@dataclass(frozen=True)
class Candidate:
    """A model to compare.

    Attributes:
        name: in the table.
        build: makes it, unfitted, of an encoder and a seed.
        adapts: whether it learns single people; one that does not is asked for everybody's reward.
        code: digest of the source it comes from, and of all that it stands on here.
    """

    name: str
    build: Callable[[Encoder, int], PreferenceModel]
    adapts: bool
    code: str


@dataclass(frozen=True)
class Predictions:
    """What one model predicted of one split, and what that cost.

    Attributes:
        probability: "seen", a number of examples, or "all" that may be shown -> P(chosen is preferred), [pairs].
        fit_seconds: to learn everybody.
        adapt_ms: to learn one person from the same examples, milliseconds.
        bytes_per_user: that the model on disk grows by for each person.
        why_not: why there are none: the model cannot learn from such data.
    """

    probability: dict[str, Array]
    fit_seconds: float = 0.0
    adapt_ms: dict[str, float] | None = None
    bytes_per_user: float = 0.0
    why_not: str = ""


def candidates(names: str, features: Features) -> tuple[list[Candidate], dict[str, str]]:
    """The models to compare, one for all first, and why others are left out.

    Args:
        names: "all", or a list with commas: methods of the room `learn`, dotted paths of your own classes.
        features: what is known of people besides their choices.

    Raises:
        UnknownNameError: there is no such method.
    """
    wanted = [row.name for row in METHODS if row.room == "learn"] if names == "all" else names.split(",")
    wanted = [name.strip() for name in wanted]
    own: dict[str, type[PreferenceModel]] = {PER_USER: BradleyTerry, BY_FEATURES: UserFeatures}
    if names == "all":
        wanted = [*own, *wanted]
    found = {POOLED: _pooled()}
    left_out: dict[str, str] = {}
    for name in dict.fromkeys(wanted):
        if name == BY_FEATURES and not features:
            left_out[name] = "nothing is known of the people besides their choices; give --users FILE"
            continue
        if name in own:
            found[name] = _candidate(name, own[name], features)
            continue
        target = resolve(name) if "." in name else method(name).resolve()
        if not (isinstance(target, type) and issubclass(target, PreferenceModel)):
            left_out[name] = f"does not learn from comparisons; `penchant methods {name}` says what it is for"
        elif names == "all" and name in _ON_REQUEST:
            left_out[name] = f"{_ON_REQUEST[name]}; ask for it: --compare all,{name}"
        elif name != POOLED:
            found[name] = _candidate(name, target, features)
    return list(found.values()), left_out


def _pooled() -> Candidate:
    # How far people differ is not asked of one model for all.
    return Candidate(
        POOLED, lambda encoder, seed: BradleyTerry(encoder=encoder, prior_precision=1.0), False, _code(BradleyTerry)
    )


def _candidate(name: str, target: type[PreferenceModel], features: Features) -> Candidate:
    known = {setting.name for setting in settings_of(target)}

    def build(encoder: Encoder, seed: int) -> PreferenceModel:
        offered = {"encoder": encoder, "seed": seed, "features": dict(features)}
        return target(**{setting: value for setting, value in offered.items() if setting in known})

    return Candidate(name, build, True, _code(target))


def _code(target: type) -> str:
    return source_digest([Path(str(importlib.import_module(target.__module__).__file__))])


# One model on one split ----------------------------------------------------------------------------------------------


def predicted(
    candidate: Candidate, encoder: Encoder, part: KnownAndNew, ratings: Ratings | None, seed: int
) -> Predictions:
    """Fit one model on one split and ask it for everything that is held out.

    Args:
        candidate: the model.
        encoder: of all models.
        part: the split.
        ratings: of responses that are in no pair held out, for models that measure attributes.
        seed: of the model.
    """
    try:
        model = candidate.build(encoder, seed)
        if ratings is not None and hasattr(model, "measure"):
            model.measure(ratings)
        begin = time.perf_counter()
        model.fit(part.shared)
        fit_seconds = time.perf_counter() - begin
        return _asked(model, part, fit_seconds) if candidate.adapts else _asked_for_all(model, part, fit_seconds)
    except (DataError, SettingsError, MissingExtraError, NotFittedError) as error:
        return Predictions({}, why_not=str(error))


def _asked_for_all(model: PreferenceModel, part: KnownAndNew, fit_seconds: float) -> Predictions:
    seen, unseen = (model.probability(anonymous(held_out)) for held_out in (part.seen, part.unseen))
    groups = [str(n) for n in part.examples] + [_ALL] * bool(part.examples)
    return Predictions({_SEEN: seen} | dict.fromkeys(groups, unseen), fit_seconds, dict.fromkeys([_SEEN, *groups], 0.0))


def _asked(model: PreferenceModel, part: KnownAndNew, fit_seconds: float) -> Predictions:
    shown = {_SEEN: part.shared} | {str(n): own for n, own in part.examples.items()} | {_ALL: part.shown}
    probability, adapt_ms = {}, {}
    n_bytes = _saved_bytes(model)
    for group, own in shown.items():
        if not len(own):
            continue
        begin = time.perf_counter()
        model.adapt_each(own)
        adapt_ms[group] = 1000 * (time.perf_counter() - begin) / max(1, len(own.users))
        probability[group] = model.probability(part.seen if group == _SEEN else part.unseen)
    grown = (_saved_bytes(model) - n_bytes) / max(1, len(model.users_))
    return Predictions(probability, fit_seconds, adapt_ms, grown)


def _saved_bytes(model: PreferenceModel) -> int:
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder))
        return sum(path.stat().st_size for path in Path(folder).rglob("*"))


def not_about(ratings: Ratings, *held_out: Comparisons) -> Ratings:
    """Ratings of responses that are in no pair held out."""
    there = {turn.answer() for own in held_out for side in ("chosen", "rejected") for turn in turns(own, side)}
    return ratings.take([row for row, turn in enumerate(turns(ratings)) if turn.answer() not in there])


# All models on all splits --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Compared:
    """A comparison.

    Attributes:
        rows: a row for each model, split and number of examples, as scripts read it.
        full: the same of people set aside all of whose examples were shown.
        left_out: model -> why it is not in the table.
        notes: what a reader must know of the numbers.
        seconds: that it took, finished models of an earlier run not counted.
    """

    rows: list[dict[str, Any]]
    full: list[dict[str, Any]]
    left_out: dict[str, str]
    notes: list[str]
    seconds: float


def compare_models(
    comparisons: Comparisons,
    kinds: set[str],
    encoder: Encoder,
    *,
    names: str = "all",
    besides: Sequence[Candidate] = (),
    seeds: int = 3,
    ratings: Ratings | None = None,
    features: Features = _NOTHING,
    folder: Path,
    held_out_truth: Callable[[Comparisons], Array] | None = None,
) -> Compared:
    """Run every model on every split and measure it beside one model for all.

    Args:
        comparisons: in the order they were made.
        kinds: of the records they came from, which decide what may be held out.
        encoder: of all models.
        names: see `candidates`.
        besides: more of them.
        seeds: splits, each with other people set aside; models get the seed too.
        ratings: that say their aspect, for models that measure attributes.
        features: what is known of people besides their choices.
        folder: where finished models are kept.
        held_out_truth: of simulated people the true probability that the first response is preferred, by which
            predictions are measured instead of by one draw from it.

    Raises:
        DataError: nobody has enough choices, or all are of one person.
        SettingsError: `seeds` is below 1.
        UnknownNameError: there is no such method.
    """
    if seeds < 1:
        raise SettingsError(f"A comparison needs at least 1 seed: got {seeds}.")
    begin = time.perf_counter()
    models, left_out = candidates(names, features)
    models += besides
    read_votes(encoder, comparisons)  # now, and with their owners: whatever is kept on disk must go with its people
    shared = remembered(encoder)
    parts = [known_and_new(comparisons, kinds, examples=EXAMPLES, seed=seed) for seed in range(seeds)]
    if len(people := {user for part in parts for user in part.seen.users}) < 2:
        raise DataError(
            f"All choices that could be held out, of {len(comparisons)}, are by {', '.join(map(repr, people))}: who "
            "gains from a model of their own is asked of two people at least. `penchant learn` without --compare "
            "learns one."
        )
    about = _digest(comparisons, kinds, encoder, ratings, features)
    found: dict[str, list[Predictions]] = {model.name: [] for model in models}
    with tqdm(total=len(models) * seeds, desc="comparing", unit="fit", file=sys.stderr, disable=None) as bar:
        for model in models:
            for seed, part in enumerate(parts):
                bar.set_postfix_str(f"{model.name}, seed {seed}")
                kept = folder / _FINISHED / f"{model.name}-seed{seed}.safetensors"
                apart = not_about(ratings, part.seen, part.unseen) if ratings is not None else None
                one = _finished(kept, about + model.code)
                if one is None:
                    one = predicted(model, shared, part, apart, seed)
                    _keep(one, kept, about + model.code)
                found[model.name].append(one)
                bar.update()
    for name in [name for name, runs in found.items() if any(one.why_not for one in runs)]:
        left_out[name] = next(one.why_not for one in found.pop(name) if one.why_not)
    if POOLED not in found:
        raise DataError(left_out[POOLED])
    rows = list(_rows(found, parts, held_out_truth))
    return Compared(
        rows=[row for group, row in rows if group != _ALL],
        full=[row for group, row in rows if group == _ALL],
        left_out=left_out,
        notes=_notes(parts),
        seconds=time.perf_counter() - begin,
    )


def _rows(
    found: Mapping[str, Sequence[Predictions]],
    parts: Sequence[KnownAndNew],
    truth: Callable[[Comparisons], Array] | None,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The table: intervals over people, of all splits together; a person in two splits is one person."""
    for name, runs in found.items():
        for group in [_SEEN, *map(str, EXAMPLES), _ALL]:
            there = [seed for seed, one in enumerate(runs) if group in one.probability]
            if not there:
                continue
            held_out = Comparisons.concat([parts[s].seen if group == _SEEN else parts[s].unseen for s in there])
            strength = held_out.numpy("strength").astype(np.float64) if truth is None else truth(held_out)
            measured = standing(
                held_out.table["user"].to_pylist(),
                np.concatenate([runs[seed].probability[group] for seed in there]),
                np.concatenate([found[POOLED][seed].probability[group] for seed in there]),
                strength,
                right=agreement if truth is None else expected_agreement,
            )
            shown = [len(own) / len(own.users) for own in _shown([parts[seed] for seed in there], group)]
            yield group, _row(name, group, round(median(shown)), measured, [runs[seed] for seed in there])


def _shown(parts: Sequence[KnownAndNew], group: str) -> Iterator[Comparisons]:
    for part in parts:
        yield part.shared if group == _SEEN else part.shown if group == _ALL else part.examples[int(group)]


def _row(name: str, group: str, examples: int, measured: Standing, runs: Sequence[Predictions]) -> dict[str, Any]:
    gain, surprise = measured.gain, measured.log_loss_gain
    return {
        "model": name,
        "split": "seen" if group == _SEEN else "unseen",
        "examples": examples,
        "accuracy": measured.accuracy.estimate,
        "ci_low": measured.accuracy.low,
        "ci_high": measured.accuracy.high,
        "log_loss": measured.log_loss.estimate,
        "ece": measured.ece,
        "fit_seconds": median(one.fit_seconds for one in runs),
        "bytes_per_user": median(one.bytes_per_user for one in runs),
        "adapt_ms": median((one.adapt_ms or {}).get(group, 0.0) for one in runs),
        "share_worse": measured.share_worse.estimate,
        "worse_by_chance": measured.worse_by_chance,
        "gain": [gain.estimate, gain.low, gain.high],
        "log_loss_gain": [surprise.estimate, surprise.low, surprise.high],
        "people": measured.n_people,
        "choices": measured.n_choices,
        "seeds": len(runs),
    }


def _notes(parts: Sequence[KnownAndNew]) -> list[str]:
    notes = [f"Nobody unseen is measured: {parts[0].why_nobody}."] if parts[0].why_nobody else []
    n_too_few, most = sum(part.n_too_few for part in parts), max(EXAMPLES)
    if n_too_few and not parts[0].why_nobody:
        notes.append(f"{n_too_few} times a person set aside had too few choices to be measured.")
    missing = [n for n in EXAMPLES if not any(n in part.examples for part in parts)]
    if missing and len(missing) < len(EXAMPLES):
        notes.append(f"Few people have {missing[0]} examples or more to show (up to {most} are asked for).")
    if len({user for part in parts for user in part.seen.users}) < 6:
        notes.append("Of fewer than six people: intervals resample choices, and speak of these people only.")
    return notes


# What is kept --------------------------------------------------------------------------------------------------------


def _digest(
    comparisons: Comparisons, kinds: set[str], encoder: Encoder, ratings: Ratings | None, features: Features
) -> str:
    """Whatever decides what a model predicts, models apart."""
    digest = hashlib.blake2b(digest_size=16)
    for records in (comparisons, ratings):
        if records is not None:
            for batch in records.table.combine_chunks().to_batches(max_chunksize=_HASHED_ROWS):
                digest.update(batch.serialize())
    said = [sorted(kinds), encoder.name, EXAMPLES, penchant.__version__, dict(features)]
    digest.update(json.dumps(said, sort_keys=True, default=str).encode())
    return digest.hexdigest()


def _keep(one: Predictions, path: Path, about: str) -> None:
    told = {
        "about": about,
        "fit_seconds": one.fit_seconds,
        "adapt_ms": one.adapt_ms,
        "bytes_per_user": one.bytes_per_user,
        "why_not": one.why_not,
    }
    with whole_file(path) as partial:
        save_file(one.probability, partial, metadata={"comparison": json.dumps(told)})


def _finished(path: Path, about: str) -> Predictions | None:
    """What an earlier run found of the same data with the same code, if it is there and whole."""
    try:
        with safe_open(path, framework="numpy") as file:
            told = json.loads(file.metadata()["comparison"])
            if told.pop("about") != about:
                return None
            return Predictions({name: file.get_tensor(name) for name in file.keys()}, **told)  # noqa: SIM118
    except (OSError, ValueError, KeyError, TypeError, SafetensorError):
        return None


# What is shown -------------------------------------------------------------------------------------------------------


def tables(rows: Sequence[Mapping[str, Any]], full: Sequence[Mapping[str, Any]]) -> list[report.Table]:
    """A comparison as people read it: how well models predict, what it costs, and what eight examples are worth.

    Args:
        rows: as in `Compared`.
        full: as in `Compared`.
    """
    has_eight = any((row["split"], row["examples"]) == ("unseen", 8) for row in rows)
    return [_accuracies(rows), _costs(rows), *([_worth(rows, full, 8)] if has_eight else [])]


def _accuracies(rows: Sequence[Mapping[str, Any]]) -> report.Table:
    shown = sorted({row["examples"] for row in rows if row["split"] == "unseen"})
    lines = []
    for name, own in _by_model(rows):
        accuracy = {
            row["examples"] if row["split"] == "unseen" else _SEEN: f"{100 * row['accuracy']:.1f} "
            f"[{100 * row['ci_low']:.1f}, {100 * row['ci_high']:.1f}]"
            for row in own
        }
        lines.append([name, *(accuracy.get(column, "") for column in (_SEEN, *shown))])
    return report.Table(
        ("model", "people seen", *(f"{n} shown" for n in shown)),
        lines,
        "Accuracy on choices held out, %, with 95 % intervals over people: of people who were learnt from, and of "
        "people set aside, by how many of their choices the model was shown.",
    )


def _costs(rows: Sequence[Mapping[str, Any]]) -> report.Table:
    lines = []
    for name, own in _by_model(rows):
        last = own[-1]
        numbers = [f"{last['log_loss']:.3f}", f"{last['ece']:.3f}"]
        numbers += [f"{100 * last['share_worse']:.0f} ({100 * last['worse_by_chance']:.0f})"]
        numbers += [f"{last['fit_seconds']:.2g}", f"{last['adapt_ms']:.2g}", f"{last['bytes_per_user']:.0f}"]
        lines.append([name, *numbers])
    of = f"people shown {rows[-1]['examples']} choices" if rows[-1]["split"] == "unseen" else "people seen"
    return report.Table(
        ("model", "log loss", "ECE", "worse, %", "fit, s", "adapt, ms", "bytes a person"),
        lines,
        f"Of {of}: surprise in nats, calibration error, the share predicted worse than by one model for all (the share "
        "that would be if both were equally good); what it costs to fit everybody and to learn one person.",
    )


def _by_model(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[Mapping[str, Any]]]]:
    return [(name, [row for row in rows if row["model"] == name]) for name in dict.fromkeys(r["model"] for r in rows)]


def _worth(rows: Sequence[Mapping[str, Any]], full: Sequence[Mapping[str, Any]], examples: int) -> report.Table:
    """What some examples of somebody new are worth beside all there are."""
    lines = []
    for row in rows:
        if (row["split"], row["examples"]) != ("unseen", examples) or row["model"] == POOLED:
            continue
        whole = next(one for one in full if one["model"] == row["model"])
        share = f"{100 * row['gain'][0] / whole['gain'][0]:.0f} %" if whole["gain"][1] > 0 else "no gain to share"
        lines.append(
            [
                row["model"],
                report.shown(_interval(row["gain"], row["people"])),
                report.shown(_interval(whole["gain"], whole["people"])),
                share,
                f"{100 * row['share_worse']:.0f} ({100 * row['worse_by_chance']:.0f})",
            ]
        )
    n_all = full[0]["examples"] if full else 0
    return report.Table(
        ("model", f"gain with {examples}, points", f"with all ({n_all}), points", "share of it", "worse, %"),
        lines,
        "People unseen; gain in accuracy over one model for all on the same choices, 95 % by person.",
    )


def _interval(ends: Sequence[float], n: int) -> Interval:
    estimate, low, high = ends
    return Interval(estimate, low, high, 0.95, n)


def plot(rows: Sequence[Mapping[str, Any]]) -> str:
    """Accuracy against examples with bands, people unseen; one model for all as a dashed line, as SVG.

    Args:
        rows: as in `Compared`.
    """
    lines: dict[str, list[report.Point]] = {}
    for row in rows:
        if row["split"] == "unseen":
            point = (row["examples"], row["accuracy"], row["ci_low"], row["ci_high"])
            lines.setdefault(row["model"], []).append(point)
    return report.curves(
        lines, axis="examples shown of somebody new", ylabel="accuracy, %", baseline=POOLED, scale=100.0
    )


def written(compared: Compared, file: Path, about: Mapping[str, Any]) -> dict[str, Any]:
    """Write the table as JSON and the plot beside it as SVG; gives back what scripts read."""
    data = {
        "rows": compared.rows,
        "full": compared.full,
        "not_applicable": [{"model": name, "reason": reason} for name, reason in compared.left_out.items()],
        "notes": compared.notes,
        "seconds": compared.seconds,
        **about,
    }
    write_json(file, data)
    if any(row["split"] == "unseen" for row in compared.rows):
        with whole_file(file.with_suffix(".svg")) as partial:
            partial.write_text(plot(compared.rows), encoding="utf-8")
    return data
