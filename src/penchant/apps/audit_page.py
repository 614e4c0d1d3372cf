"""What an audit found, and the page of it: what is preferred, what can be measured, pairs to look at."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penchant.apps import report
from penchant.apps.data import shown_drops
from penchant.evaluate.describe import Description
from penchant.evaluate.explain import BLACK_BOX, Effect, Explanation, Parts, Personal, Relearnt
from penchant.records import Comparisons
from penchant.statistics import Interval

Floats = NDArray[np.float64]

_EXAMPLES = 2  # pairs shown of each feature
_FEATURES_SHOWN = 6  # with example pairs
_DIFFERING = 5  # features shown on which people differ most


@dataclass(frozen=True)
class Judged:
    """Pairs as the audit sees them.

    Attributes:
        comparisons: the records.
        pairs: texts of preferred and other response.
        difference: vectors of preferred minus other, float32[pairs, dim].
        length: words of preferred minus other, [pairs].
        strength: how far the first is preferred, [pairs].
        parts: what to learn from and what to measure on.
        clusters: what depends on each other, [pairs].
        clustered_by: what the clusters are, for the page.
        distinct: rows to learn features from: unordered pairs of the part to learn from, each once.
    """

    comparisons: Comparisons
    pairs: Sequence[tuple[str, str]]
    difference: NDArray[np.float32]
    length: Floats
    strength: Floats
    parts: Parts
    clusters: NDArray[np.int64]
    clustered_by: str
    distinct: NDArray[np.int64]


@dataclass(frozen=True)
class Feature:
    """One direction in which responses differ.

    Attributes:
        number: from 1.
        description: its name with the fidelity.
        effect: what it has to do with who wins.
        like: number of an earlier feature in about the same direction, if there is one.
    """

    number: int
    description: Description
    effect: Effect
    like: int | None

    @property
    def words(self) -> str:
        """What it is called, with a doubt where so many tries could have given the name by chance."""
        said = self.description
        return said.text if said.kept else f"perhaps: {said.text}" if said.text else "no name"

    @property
    def name(self) -> str:
        """Number, words and fidelity; the fidelity is never left out."""
        return f"{self.number}. {self.words} (r {self.description.fidelity.estimate:.2f})"


@dataclass(frozen=True)
class Changed:
    """Labels turned round.

    Attributes:
        against: numbers of the features, minus for the opposite.
        n: rows turned round, of all rows.
        effects: what it changes for each feature.
        file: the data with the changed labels.
    """

    against: tuple[int, ...]
    n: int
    effects: Mapping[int, Relearnt]
    file: Path


@dataclass(frozen=True)
class Audited:
    """All that was found.

    Attributes:
        judged: the pairs.
        features: the directions, number 1 first.
        activations: of each pair, turned so that names fit, [pairs, features].
        found: how much of what is preferred they say.
        people: where people differ, or why that cannot be said.
        changed: labels turned round, if that was asked for.
        unexplained: share of the differences held out that the directions leave over.
        names_by: who named them.
        dropped: reason -> rows or pairs that were left out.
    """

    judged: Judged
    features: Sequence[Feature]
    activations: Floats
    found: Explanation
    people: Personal | str
    changed: Changed | None
    unexplained: float
    names_by: str
    dropped: Mapping[str, int]

    @property
    def n_dead(self) -> int:
        """Features that no pair has."""
        return int((self.activations == 0).all(axis=0).sum())

    @property
    def alive(self) -> list[Feature]:
        """Features of which it can be said whether they are preferred."""
        return [feature for feature in self.features if feature.effect.n]


def facts(audited: Audited) -> list[str]:
    """What was looked at, in sentences."""
    judged, found, parts = audited.judged, audited.found, audited.judged.parts
    how = "no prompt or response on both sides"
    if parts.by == "response":
        how = (
            f"no response on both sides ({100 * parts.largest:.0f} % of the pairs hang together by shared texts, so "
            f"that responses were parted; {parts.n_neither} pairs of one seen and one held out are in neither)"
        )
    n_alike = sum(feature.like is not None for feature in audited.features)
    told = [
        f"{len(judged.pairs)} comparisons by {len(judged.comparisons.users) or 'unnamed'} people. {found.n_learnt} are "
        f"learnt from and {found.n_held_out} held out, {how}; {found.n_ties} ties are counted in neither.",
        f"{len(audited.features)} directions leave {100 * audited.unexplained:.0f} % of the differences between the "
        f"vectors unexplained; {audited.n_dead} are dead, {n_alike} redundant. Intervals are 95 %, by "
        f"{judged.clustered_by}.",
    ]
    return [*told, f"{shown_drops(dict(audited.dropped))}."] if audited.dropped else told


def summary(audited: Audited) -> report.Table:
    """The features that say most, for a terminal."""
    most = list(audited.found.few.values())[-1] if audited.found.few else ()
    chosen = [audited.features[place] for place in most]
    rows = [
        [
            report.cut(one.name, 50),
            report.shown(one.effect.win_rate, signed=False, digits=0),
            report.shown(one.effect.coefficient, scale=1.0, digits=2),
        ]
        for one in chosen
    ]
    return report.Table(("more of", "wins, %", "weight at equal length"), rows)


def sections(audited: Audited) -> list[report.Section]:
    """The page, section by section."""
    found = [
        _knowledge(audited),
        _preferred(audited.alive),
        _measurable(audited),
        _pairs(audited),
        _differing(audited.features, audited.people),
    ]
    return [*found, _teaching(audited.features, audited.changed)] if audited.changed else found


def _knowledge(audited: Audited) -> report.Section:
    """How much a few features say."""
    found, features = audited.found, audited.features
    names = {name: f"{name} and length" if name != "length" else "length alone" for name in found.auc}
    names |= {BLACK_BOX: "black box: all of the vectors, and length"}
    rows = [
        [
            names[name],
            report.shown(area, digits=3, scale=1.0, signed=False),
            "" if name not in found.share else _share(found.share[name]),
        ]
        for name, area in found.auc.items()
    ]
    caption = (
        "Area under the curve on pairs held out; 0.5 is chance. Explained is the share of the black box's area beyond "
        "0.5 that is reached; what length reaches alone is no merit of the features."
    )
    plot = report.dots(
        list(names.values()), list(found.auc.values()), axis="area under the curve, pairs held out", mark=0.5
    )
    few = "; ".join(
        f"the {count} that say most are " + ", ".join(features[place].name for place in chosen)
        for count, chosen in list(found.few.items())[:1]
    )
    return report.Section(
        "How much of what people prefer a few features say",
        [*facts(audited), few[:1].upper() + few[1:] + "." if few else ""],
        [report.Table(("what is used", "area [95 %]", "explained, %"), rows, caption)],
        [(plot, "What each set of features knows about who wins, beside the black box; chance is the line.")],
    )


def _share(share: Interval | None) -> str:
    return "the black box is no better than chance" if share is None else report.shown(share, signed=False, digits=0)


def _preferred(features: Sequence[Feature]) -> report.Section:
    """What people do prefer."""
    ordered = sorted(features, key=lambda one: -one.effect.coefficient.estimate)
    sure = 0.05 / max(1, len(features))
    text = (
        "Above zero: of two responses of equal length, the one that has more of it is preferred. A name is a "
        "hypothesis: r says how well it fits the feature, and `perhaps` marks one that so many tries could have given "
        "by chance. "
        f"Of {len(features)} features, {sum(one.effect.p < sure for one in features)} have a weight that remains after "
        "correcting for all of them (Bonferroni)."
    )
    plot = report.dots(
        [report.cut(one.name, 62) for one in ordered],
        [one.effect.coefficient for one in ordered],
        axis="logits for a standard deviation of the feature, length held",
    )
    return report.Section(
        "What people do prefer",
        [text],
        [],
        [(plot, "Weight of each feature in who wins; green is preferred, red is not, grey cannot be told.")],
    )


def _measurable(audited: Audited) -> report.Section:
    """What the set can measure, beside what is preferred."""
    features = audited.alive
    text = (
        "A feature that few pairs differ in cannot be judged by this set, whatever people think of it. Each row names "
        "what one of the two responses has more of, how well the name fits on other pairs, how many pairs differ in "
        "it, and how often the response that has more of it is preferred."
    )
    rows = [
        [
            str(one.number),
            one.words + (f" (like {one.like})" if one.like else ""),
            report.shown(one.description.fidelity, scale=1.0, digits=2, signed=False),
            str(one.description.fidelity.n),
            f"{100 * one.effect.prevalence:.0f}",
            report.shown(one.effect.win_rate, signed=False, digits=0),
            report.shown(one.effect.coefficient, scale=1.0, digits=2),
        ]
        for one in sorted(features, key=lambda one: -one.effect.prevalence)
    ]
    headings = ("no.", "more of", "fidelity r [95 %]", "pairs", "differ, %", "wins, %", "weight at equal length")
    plot = report.places(
        [(100 * one.effect.prevalence, 100 * one.effect.win_rate.estimate, str(one.number)) for one in features],
        axis="pairs that differ in the feature, %: what the set can measure",
        ylabel="wins, %: what people prefer",
        mark=50.0,
    )
    return report.Section(
        "What the set can measure",
        [text],
        [report.Table(headings, rows, f"Names by {audited.names_by}; r is measured on pairs they were not made from.")],
        [(plot, "Each number is a feature: right is what the set can measure well, above the line is preferred.")],
    )


def _pairs(audited: Audited) -> report.Section:
    """The plainest pairs of the features that say most."""
    found, judged = audited.found, audited.judged
    most = list(found.few.values())[-1] if found.few else ()
    rows = []
    for place in most[:_FEATURES_SHOWN]:
        column = audited.activations[:, place]
        texts: set[tuple[str, str]] = set()
        for row in np.argsort(-np.abs(column), kind="stable"):
            more, less = judged.pairs[row][:: 1 if column[row] > 0 else -1]
            if len(texts) == _EXAMPLES or not column[row]:
                break
            if (more, less) not in texts:
                texts.add((more, less))
                taken = (column[row] > 0) == (judged.strength[row] > 0.5)
                won = "tie" if judged.strength[row] == 0.5 else "the one with more" if taken else "the other"
                rows.append([audited.features[place].name, report.cut(more, 260), report.cut(less, 260), won])
    return report.Section(
        "Pairs to look at",
        ["The plainest pairs of the features that say most about who wins. Look before you believe a name."],
        [report.Table(("feature", "response with more of it", "response with less", "preferred"), rows)],
    )


def _differing(features: Sequence[Feature], people: Personal | str) -> report.Section:
    """Where people differ."""
    title = "Where people differ"
    if isinstance(people, str):
        return report.Section(title, [f"This cannot be said here. {people}"])
    order = [place for place in np.argsort(-people.spread, kind="stable") if people.spread[place]][:_DIFFERING]
    accuracy, gain = people.accuracy, people.auc
    text = (
        f"{len(people.people)} people got weights of their own around everybody's. On pairs held out, one model for "
        f"all is right in {report.shown(accuracy.one_for_all, signed=False)} %, one for each in "
        f"{report.shown(accuracy.per_user, signed=False)} %: a gain of {report.shown(accuracy.gain)} points, and of "
        f"{report.shown(gain, scale=1.0, digits=3)} in area. {100 * accuracy.share_worse.estimate:.0f} % of them are "
        f"predicted worse ({100 * accuracy.placebo.worse.estimate:.0f} % would seem so by chance)."
    )
    rows = [
        [
            features[place].name,
            f"{people.shared[place]:+.2f}",
            f"{people.weights[:, place].min():+.2f} to {people.weights[:, place].max():+.2f}",
            f"{100 * (np.sign(people.weights[:, place]) != np.sign(people.shared[place])).mean():.0f}",
        ]
        for place in order
    ]
    headings = ("feature", "everybody", "lowest to highest person", "people of the other sign, %")
    if not rows:
        return report.Section(title, [f"{text} There is no feature of which it is clear that people differ."])
    return report.Section(title, [text], [report.Table(headings, rows, "Logits for a standard deviation.")])


def _teaching(features: Sequence[Feature], changed: Changed) -> report.Section:
    """What changed labels teach."""
    rows = [
        [
            ("the opposite of " if number < 0 else "") + features[abs(number) - 1].name,
            f"{100 * effect.target_before:.1f} -> {100 * effect.target_after:.1f}",
            report.shown(effect.target),
            f"{100 * effect.others_before:.1f} -> {100 * effect.others_after:.1f}",
            report.shown(effect.others),
        ]
        for number, effect in changed.effects.items()
    ]
    text = (
        f"{changed.n} labels that reward what must not be rewarded were turned round, in a copy "
        f"(`{changed.file.name}`). A reward on the vectors was learnt before and after, and asked about pairs held "
        "out, as people judged them."
    )
    headings = (
        "must not be rewarded",
        "puts less of it first, %",
        "change, points",
        "right on other pairs, %",
        "change, points",
    )
    return report.Section("What changed labels would teach", [text], [report.Table(headings, rows)])


def numbers(audited: Audited) -> dict[str, Any]:
    """What scripts read."""
    judged, found, people, changed = audited.judged, audited.found, audited.people, audited.changed
    told: dict[str, Any] = {
        "comparisons": len(judged.pairs),
        "people": len(judged.comparisons.users),
        "dropped": dict(audited.dropped),
        "learnt_from": found.n_learnt,
        "held_out": found.n_held_out,
        "in_neither_part": judged.parts.n_neither,
        "largest_group": judged.parts.largest,
        "parted_by": judged.parts.by,
        "ties": found.n_ties,
        "unexplained": audited.unexplained,
        "dead": audited.n_dead,
        "names_by": audited.names_by,
        "auc": {name: _ends(area) for name, area in found.auc.items()},
        "explained": {name: share and _ends(share) for name, share in found.share.items()},
        "few": {str(count): [place + 1 for place in chosen] for count, chosen in found.few.items()},
        "features": [
            {
                "number": one.number,
                "description": one.description.text,
                "fidelity": _ends(one.description.fidelity),
                "p": one.description.p,
                "kept": one.description.kept,
                "prevalence": one.effect.prevalence,
                "coefficient": _ends(one.effect.coefficient),
                "win_rate": _ends(one.effect.win_rate),
                "like": one.like,
            }
            for one in audited.features
        ],
    }
    if isinstance(people, Personal):
        told["personal"] = {
            "people": len(people.people),
            "gain": _ends(people.accuracy.gain),
            "auc_gain": _ends(people.auc),
            "share_worse": people.accuracy.share_worse.estimate,
        }
    if changed:
        told["relabelled"] = {
            "rows": changed.n,
            "file": str(changed.file),
            "effects": {
                str(number): {"target": _ends(effect.target), "others": _ends(effect.others)}
                for number, effect in changed.effects.items()
            },
        }
    return told


def _ends(interval: Interval) -> list[float]:
    return [interval.estimate, interval.low, interval.high]
