"""`penchant evaluate policy`: how well a policy ranks pairs that people judged."""

from pathlib import Path

from penchant.apps import report
from penchant.apps.data import Data, shown_drops
from penchant.apps.outcome import Outcome
from penchant.evaluate.ranking_accuracy import Likelihoods, RankedRight, audit
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
