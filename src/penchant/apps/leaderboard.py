"""`penchant evaluate leaderboard`: systems by votes between two of them, and how far such a board can be trusted."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from penchant.apps import report
from penchant.apps.data import shown_drops
from penchant.apps.outcome import Outcome
from penchant.errors import DataError
from penchant.evaluate.ballots import Ballots
from penchant.evaluate.board_bootstrap import resampled_board
from penchant.evaluate.fragility import Fragility, Swap
from penchant.evaluate.fragility import fragility as fragility_of
from penchant.evaluate.leaderboard import Leaderboard, Standing
from penchant.evaluate.leaderboard import leaderboard as board_of
from penchant.evaluate.ranks import Place, ranks
from penchant.evaluate.rigging import Suspicion, suspicion, without_suspects
from penchant.evaluate.style_control import StyleBoard, style_controlled, styled_numbers, styled_texts
from penchant.feedback.chunk import shown
from penchant.feedback.importing import Imported, read
from penchant.records import Battles, Comparisons
from penchant.statistics import Interval

_SHOWN = 10  # neighbours, suspects and bursts in the terminal; `--json` has all


def leaderboard(
    file: Path,
    *,
    format: str = "auto",
    level: float = 0.95,
    per_person: int = 0,
    bootstrap: int = 0,
    anytime: bool = False,
    style: bool = False,
    fragility: bool = False,
    suspects: bool = False,
    page: Path | None = None,
    seed: int = 0,
) -> Outcome:
    """Systems by votes between two of them: Bradley-Terry scores, with intervals over people where votes name them.

    A tie is half a win for each; votes that found both bad are left out, and their share is shown for each system. The
    places are those that a system may have, all at once. A difference of 400 points is ten wins of eleven.

    Args:
        file: votes in any format that `penchant import` knows.
        format: auto, or the name of a format.
        level: of the intervals.
        per_person: the most votes that one person counts for, 30 say: of somebody with 300 each then weighs a tenth,
            so that nobody moves a board by voting often; 0 counts every vote once. Votes must say whose they are.
        bootstrap: intervals from so many weighted resamples, 1000 say; 0 for those of the sandwich.
        anytime: places that hold however often a growing board is looked at.
        style: also a board of responses alike in length, lists, headings and bold print (votes with both responses, or
            with numbers such as length_a and length_b).
        fragility: how few votes, and people, keep neighbours in their order.
        suspects: people and bursts whose votes stand out, and the board without them.
        page: write an HTML page with a plot of scores and who beats whom.
        seed: of resamples.
    """
    imported = read(file, format=format)
    battles = imported.records.get("battle")
    if not isinstance(battles, Battles) or not len(battles):
        held = ", ".join(f"{len(table)} {kind} records" for kind, table in imported.records.items()) or "no records"
        lost = f"; {shown_drops(dict(imported.dropped))}" if imported.dropped else ""
        raise DataError(f"{shown(file)} holds no votes between two systems, but {held}{lost}.")
    board = board_of(battles, level=level, per_person=per_person)
    rows = board.standings
    if bootstrap:
        rows = resampled_board(board, n_resamples=bootstrap, level=level, seed=seed)
    places = ranks(board, level=level, anytime=anytime, seed=seed)
    found: dict[str, Any] = {
        "systems": [asdict(row) for row in rows],
        "intervals": f"{'bootstrap' if bootstrap else 'sandwich'} over {'people' if board.by_person else 'votes'}",
        "ranks": [asdict(place) for place in places],
        "anytime": anytime,
        "per_person": per_person,
        "capped": board.votes.n_capped,
        "both_bad": board.n_both_bad,
        "both_bad_rates": board.votes.both_bad_rates,
        "dropped": dict(imported.dropped),
        "why_prior": board.why_prior,
    }
    sections = [_standing_section(board, rows, places, level=level, anytime=anytime, bootstrap=bootstrap)]
    if style:
        controlled = style_controlled(_styled(imported, battles), level=level, per_person=per_person)
        found["style"] = _style_data(controlled)
        sections.append(_style_section(controlled, level))
    if fragility:
        fragile = fragility_of(board)
        first = None if fragile.first is None else asdict(fragile.first)
        found["fragility"] = {"neighbours": [asdict(swap) for swap in fragile.swaps], "first": first}
        sections.append(_fragility_section(fragile, board))
    if suspects:
        odd = suspicion(battles)
        filtered = board_of(without_suspects(battles, odd), level=level, per_person=per_person)
        found["suspects"] = _suspicion_data(odd, filtered)
        sections.append(_suspects_section(odd, board, filtered))
    lines = [part for section in sections for part in _text_of(section)]
    lines += [shown_drops(dict(imported.dropped))] if imported.dropped else []
    if page is not None:
        pictured = report.Section("Scores and wins", plots=_plots(board, rows, level))
        _write(page, [sections[0], pictured, *sections[1:]], shown(file))
        lines.append(f"{page} shows it.")
    return Outcome(found, "\n\n".join(lines))


def _text_of(section: report.Section) -> list[str]:
    return [section.title, *section.paragraphs, *(table.text() for table in section.tables)]


def _standing_section(
    board: Leaderboard,
    rows: tuple[Standing, ...],
    places: tuple[Place, ...],
    *,
    level: float,
    anytime: bool,
    bootstrap: int,
) -> report.Section:
    place_of = {place.system: place for place in places}
    rates = board.votes.both_bad_rates
    cells = [
        [
            f"{place_of[row.system].best}-{place_of[row.system].worst}",
            row.system,
            f"{row.score:.0f}",
            f"[{row.ci_low:.0f}, {row.ci_high:.0f}]",
            str(row.votes),
            f"{100 * rates[row.system]:.1f} %",
        ]
        for row in rows
    ]
    over = "people" if board.by_person else "votes"
    how = f"{bootstrap} weighted resamples of {over}" if bootstrap else f"a sandwich over {over}"
    when = "at every time one looks" if anytime else "for this one set of votes"
    paragraphs = [
        f"{board.n_votes} votes between {len(board.systems)} systems; {board.n_both_bad} that found both bad left out.",
        f"Intervals come from {how}. With {100 * level:g} % chance all places hold at once, {when}.",
    ]
    paragraphs += [_capped(board.votes)] if board.votes.per_person else []
    unrated = [name for name in rates if name not in board.systems]
    paragraphs += [f"Without a vote that orders them: {', '.join(unrated)}."] if unrated else []
    paragraphs += [f"Scores are shrunk: {board.why_prior}."] if board.why_prior else []
    head = ("place", "system", "score", f"{100 * level:g} %", "votes", "both bad")
    return report.Section("Leaderboard", paragraphs, [report.Table(head, cells)])


def _capped(votes: Ballots) -> str:
    nameless = int((votes.person < 0).sum())
    return (
        f"Nobody counts for more than {votes.per_person} votes: {votes.n_capped} of {len(votes.people)} people cast "
        f"more, and theirs weigh less, so that all weigh {votes.weight.sum():.0f}."
        + f" {nameless} votes name nobody and weigh 1."
        * (nameless > 0)
    )


def _styled(imported: Imported, battles: Battles) -> Any:
    """Style from the responses where the file has them, otherwise from numbers of both sides."""
    comparisons = imported.records.get("comparison")
    if isinstance(comparisons, Comparisons) and len(comparisons):
        return styled_texts(comparisons)
    return styled_numbers(battles)


def _style_data(controlled: StyleBoard) -> dict[str, Any]:
    return {
        "systems": [asdict(row) for row in controlled.standings],
        "with_style": [asdict(row) for row in controlled.without],
        "effects": {name: asdict(effect) for name, effect in controlled.effects.items()},
        "votes": controlled.n_votes,
        "unknown": controlled.n_unknown,
    }


def _style_section(controlled: StyleBoard, level: float) -> report.Section:
    before = {row.system: (place, row.score) for place, row in enumerate(controlled.without, 1)}
    boards = [
        [
            str(place),
            row.system,
            f"{row.score:.0f}",
            f"[{row.ci_low:.0f}, {row.ci_high:.0f}]",
            f"{round(row.score - before[row.system][1]):+d}",
            f"{before[row.system][0] - place:+d}" if before[row.system][0] != place else "",
        ]
        for place, row in enumerate(controlled.standings, 1)
    ]
    effects = [[name, report.shown(effect, scale=1.0, digits=3)] for name, effect in controlled.effects.items()]
    unknown = f"; {controlled.n_unknown} votes of unknown style left out" if controlled.n_unknown else ""
    return report.Section(
        "Responses alike in style",
        [f"{controlled.n_votes} votes{unknown}. Effects: what one typical difference adds to the logit of winning."],
        [
            report.Table(("", "system", "score", f"{100 * level:g} %", "change", "places"), boards),
            report.Table(("more", f"effect [{100 * level:g} %]"), effects),
        ],
    )


def _fragility_section(fragile: Fragility, board: Leaderboard) -> report.Section:
    def row(swap: Swap) -> list[str]:
        votes = "none" if swap.n_votes is None else f"{swap.n_votes} ({100 * swap.n_votes / board.n_votes:.2g} %)"
        people = "-" if not board.by_person else "none" if swap.n_people is None else str(swap.n_people)
        return [swap.above, swap.below, f"{swap.gap:.1f}", votes, people]

    def tightness(swap: Swap) -> float:
        return float("inf") if swap.n_votes is None else swap.n_votes

    paragraphs = ["Fewest votes, and people, found whose removal turns two neighbours around; verified by a refit."]
    if fragile.first is not None and fragile.first.n_votes is not None:
        share = 100 * fragile.first.n_votes / board.n_votes
        paragraphs.append(
            f"{fragile.first.n_votes} of {board.n_votes} votes ({share:.2g} %) keep {fragile.first.above} first; "
            f"without them {fragile.first.below} is above it."
        )
    swaps = sorted(fragile.swaps, key=tightness)
    if len(swaps) > _SHOWN:
        paragraphs.append(f"The {_SHOWN} most fragile of {len(swaps)} pairs of neighbours:")
    head = ("above", "below", "points", "votes", "people")
    return report.Section("Fragility", paragraphs, [report.Table(head, [row(swap) for swap in swaps[:_SHOWN]])])


def _suspicion_data(odd: Suspicion, filtered: Leaderboard) -> dict[str, Any]:
    return {
        "people": [asdict(person) for person in odd.people],
        "bursts": [asdict(burst) for burst in odd.bursts],
        "votes": int(odd.votes.sum()),
        "tested": odd.n_tested,
        "spread": odd.spread,
        "why_not": odd.why_not,
        "systems_without": [asdict(row) for row in filtered.standings],
    }


def _suspects_section(odd: Suspicion, board: Leaderboard, filtered: Leaderboard) -> report.Section:
    people = [
        [
            one.user,
            one.reason,
            one.system or "",
            f"{one.won:.0f} of {one.n_votes}",
            f"{one.expected:.1f}",
            f"{one.p_value:.1g}",
        ]
        for one in odd.people[:_SHOWN]
    ]
    bursts = [
        [
            f"battles {one.first}-{one.last}",
            one.system,
            f"{one.won} of {one.n_votes}",
            f"{one.expected:.1f}",
            f"{one.p_value:.1g}",
        ]
        for one in odd.bursts[:_SHOWN]
    ]
    before = [row.system for row in board.standings]
    after = [row.system for row in filtered.standings]
    moved = [
        f"{name} {before.index(name) + 1} to {after.index(name) + 1}"
        for name in after
        if before.index(name) != after.index(name)
    ]
    share = 100 * odd.votes.sum() / board.n_votes
    paragraphs = [
        f"{len(odd.people)} of {odd.n_tested} people tested stand out, and {len(odd.bursts)} bursts; "
        f"{odd.votes.sum()} votes ({share:.1f} %). Each is a reason to look, not a verdict.",
        f"Without them places change: {', '.join(moved)}." if moved else "Without them no place changes.",
    ]
    paragraphs += [odd.why_not] if odd.why_not else []
    tables = [report.Table(("person", "", "system", "won", "expected", "p"), people)] if people else []
    tables += [report.Table(("burst", "system", "won", "expected", "p"), bursts)] if bursts else []
    return report.Section("Votes that stand out", paragraphs, tables)


def _plots(board: Leaderboard, rows: tuple[Standing, ...], level: float) -> list[tuple[str, str]]:
    """Scores with intervals, and how often each system beat each other one."""
    intervals = [Interval(row.score, row.ci_low, row.ci_high, level, row.votes) for row in rows]
    names = [row.system for row in rows]
    order = board.order
    score = board.votes.counts.score
    games = score + score.T
    share = [[score[i, j] / games[i, j] if games[i, j] else None for j in order] for i in order]
    return [
        (
            report.dots(names, intervals, axis="score, points", mark=1000.0),
            f"Scores with {100 * level:g} % intervals; green is above the mean of all, red below.",
        ),
        (
            report.matrix(names, share, axis="share of votes that the row won, %"),
            "How often the row beat the column, ties as half; empty where the two never met.",
        ),
    ]


def _write(page: Path, sections: list[report.Section], name: str) -> None:
    report.write(
        page,
        title="Leaderboard",
        lead=f"Votes between two systems, from {name}.",
        sections=sections,
        footer="Scores are 1000 + 400 / ln 10 (theta - mean theta) of a Bradley-Terry fit; compare differences.",
    )
