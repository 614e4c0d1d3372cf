"""`penchant evaluate`: a policy on pairs that people judged, systems by votes between them."""

from dataclasses import asdict
from pathlib import Path

from penchant.apps import report
from penchant.apps.data import Data, shown_drops
from penchant.apps.outcome import Outcome
from penchant.errors import DataError
from penchant.evaluate.leaderboard import leaderboard as rank
from penchant.evaluate.ranking_accuracy import Likelihoods, RankedRight, audit
from penchant.feedback.chunk import shown
from penchant.feedback.importing import read
from penchant.records import Battles
from penchant.turns import turns


def policy(
    *, data: Data = Data(limit=200), model: str = "small-chat", adapter: Path | None = None, beta: float = 0.1
) -> Outcome:
    """Ranking accuracy of a policy on people's comparisons: observed, and the best that its training could reach.

    Args:
        data: comparisons that the policy was not trained on.
        model: small-chat, a name on the hub, a folder, or a .gguf file.
        adapter: folder of a trained adapter (`penchant align` leaves one); compared with the model without it.
        beta: the training's pull to the reference, for the best that it could reach.
    """
    from penchant.policies.language import LanguagePolicy  # torch takes seconds, which `--help` need not wait for

    comparisons, dropped, _ = data.comparisons()
    language = LanguagePolicy(model, adapter=adapter)
    prompts, chosen, rejected = (comparisons.table[name].to_pylist() for name in ("prompt", "chosen", "rejected"))
    contexts = comparisons.table["context"].to_pylist()
    forms = [turn.form for turn in turns(comparisons, "chosen")]
    strength = comparisons.numpy("strength").astype(float)

    def likelihoods(*, reference: bool) -> Likelihoods:
        pairs = [list(pair) for pair in zip(chosen, rejected, strict=True)]
        scores = language.log_probabilities(prompts, pairs, condition=contexts, form=forms, reference=reference)
        columns = [[row[i].sum for row in scores] for i in (0, 1)] + [
            [row[i].n_tokens for row in scores] for i in (0, 1)
        ]
        return Likelihoods(*columns)

    ours = likelihoods(reference=False)
    theirs = likelihoods(reference=True) if adapter else ours
    # A vote without a strength is one person's: the share of all people who would agree is not known.
    found = audit(ours, theirs, strength=[0.75 if s == 1 else 0.25 if s == 0 else s for s in strength], beta=beta)

    def row(name: str, ranked: RankedRight | None) -> list[str]:
        return [name, "-" if ranked is None else report.shown(ranked.accuracy, signed=False)]

    rows = [
        row("summed log-probability", found.raw),
        row("per token", found.per_token),
        row("the model before training", found.reference_raw if adapter else None),
        row(f"best that beta {beta} allows", (found.idealised or {}).get(beta)),
        row("rule: the shorter answer", found.shorter),
        row("rule: the longer answer", found.longer),
    ]
    lines = [
        f"{found.n_pairs} pairs" + (f"; left out: {found.excluded}" if found.excluded else ""),
        report.Table(("ranks right, %", "estimate [95 %]"), rows).text(),
    ]
    if dropped:
        lines.insert(1, shown_drops(dropped))
    data_line = {
        "pairs": found.n_pairs,
        "excluded": found.excluded,
        "dropped": dropped,
        "ranking_accuracy": found.raw.accuracy.estimate,
        "per_token": found.per_token.accuracy.estimate,
        "shorter": found.shorter.accuracy.estimate,
    }
    return Outcome(data_line, "\n".join(lines))


def leaderboard(file: Path, *, format: str = "auto", level: float = 0.95) -> Outcome:
    """Systems by votes between two of them: Bradley-Terry scores, with intervals over people where votes name them.

    A tie is half a win for each; votes that found both bad are left out and counted.

    Args:
        file: votes in any format that `penchant import` knows.
        format: auto, or the name of a format.
        level: of the intervals.
    """
    imported = read(file, format=format)
    battles = imported.records.get("battle")
    if not isinstance(battles, Battles) or not len(battles):
        held = ", ".join(f"{len(table)} {kind} records" for kind, table in imported.records.items()) or "no records"
        lost = f"; {shown_drops(dict(imported.dropped))}" if imported.dropped else ""
        raise DataError(f"{shown(file)} holds no votes between two systems, but {held}{lost}.")
    board = rank(battles, level=level)
    over = "people" if board.by_person else "votes"
    rows = [
        [str(place), row.system, f"{row.score:.0f}", f"[{row.ci_low:.0f}, {row.ci_high:.0f}]", str(row.votes)]
        for place, row in enumerate(board.standings, 1)
    ]
    lines = [
        f"{board.n_votes} votes between {len(board.systems)} systems; {board.n_both_bad} that found both bad left out.",
        report.Table(("", "system", "score", f"{100 * level:g} % over {over}", "votes"), rows).text(),
    ]
    lines += [f"Scores are shrunk: {board.why_prior}."] if board.why_prior else []
    lines += [shown_drops(dict(imported.dropped))] if imported.dropped else []
    found = {
        "systems": [asdict(row) for row in board.standings],
        "both_bad": board.n_both_bad,
        "dropped": dict(imported.dropped),
        "why_prior": board.why_prior,
    }
    return Outcome(found, "\n".join(lines))
