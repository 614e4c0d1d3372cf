"""`penchant evaluate`: a policy on pairs that people judged, and a recommender's lists."""

import math
from pathlib import Path
from typing import Any

from penchant.apps import report
from penchant.apps.data import Data, shown_drops
from penchant.apps.outcome import Outcome
from penchant.errors import DataError
from penchant.evaluate.item_fairness import exposure, measures
from penchant.evaluate.ranking_accuracy import Likelihoods, RankedRight, audit
from penchant.feedback.chunk import shown
from penchant.feedback.reading import chunks
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


def item_fairness(file: Path, *, patience: float = 0.8) -> Outcome:
    """Whether every item of a catalogue gets its share of what a recommender shows, by all measures in both forms.

    Each record holds `n_items` and `recommendations`, a list of items numbered from 1 on for each user, best first;
    `case` or another name may say whose lists they are. A measure without a value is null, and its reason is in
    `why_not`.

    Args:
        file: JSON, JSON lines, or any other form of such records.
        patience: chance that a user goes on to the next place, for II-D and AI-D.
    """
    records: list[dict[str, Any]] = []
    shown_rows: list[list[str]] = []
    for number, record in enumerate((row for chunk in chunks(file) for row in chunk.listed()), 1):
        lists, n_items = record.get("recommendations"), record.get("n_items")
        if not isinstance(lists, list) or not isinstance(n_items, int):
            raise DataError(
                f"{shown(file)}, record {number}: `recommendations` must be a list of lists and `n_items` a whole "
                f"number; it has {sorted(record)}."
            )
        try:
            found = measures(exposure(lists, n_items, first=1), patience=patience)
        except (DataError, TypeError) as error:
            raise DataError(f"{shown(file)}, record {number}: {error}") from error
        values = {name: None if math.isnan(one.value) else one.value for name, one in found.items()}
        why_not = {name: one.why_not for name, one in found.items() if one.why_not}
        name = str(record.get("case", number))
        records.append({"case": name, **values, "why_not": why_not})
        corrected = [f"{one.value:.3f}" for key, one in found.items() if key.endswith("_our")]
        shown_rows.append([name, *corrected])
    if not records:
        raise DataError(f"{shown(file)} holds no records.")
    head = ("corrected", "Jain ↑", "QF ↑", "Ent ↑", "Gini ↓", "Gini-w ↓", "FSat ↑")
    return Outcome(records, report.Table(head, shown_rows).text())
