"""How one model for all against one for each is shown: a line of a table, a histogram, numbers for scripts."""

from typing import Any

from penchant.apps import report
from penchant.evaluate.per_user import PerUserReport

_FEW = "Fewer than six people: the intervals of accuracies resample choices, and speak of these people only."
HEADINGS = ("", "for all", "for each", "gain, points", "people worse", "by chance")


def row(name: str, result: dict[str, Any]) -> list[str]:
    """A line of the table, of what `compare` found."""
    accuracy: PerUserReport = result["accuracy"]
    return [
        name,
        f"{100 * accuracy.one_for_all.estimate:.1f} %",
        f"{100 * accuracy.per_user.estimate:.1f} %",
        report.shown(accuracy.gain),
        report.shown(accuracy.share_worse, signed=False, digits=0) + " %",
        f"{100 * accuracy.placebo.worse.estimate:.0f} %",
    ]


def plot(accuracy: PerUserReport, what: str) -> tuple[str, str]:
    """Everybody's gain as a histogram, and what it shows."""
    svg = report.histogram(
        [user.gain for user in accuracy.users], axis="gain in accuracy from a model of one's own", ylabel="people"
    )
    return (
        svg,
        f"Each person's gain, choices {what}: a model of their own predicts green better, red worse, grey alike.",
    )


def numbers(result: dict[str, Any]) -> dict[str, Any]:
    """What scripts read of it."""
    accuracy: PerUserReport = result["accuracy"]
    return {
        "people": result["n_people"],
        "held_out": result["n_held_out"],
        "one_for_all": accuracy.one_for_all.estimate,
        "per_user": accuracy.per_user.estimate,
        "gain": [accuracy.gain.estimate, accuracy.gain.low, accuracy.gain.high],
        "log_loss_gain": [getattr(result["log_loss"].gain, end) for end in ("estimate", "low", "high")],
        "share_worse": [accuracy.share_worse.estimate, accuracy.share_worse.low, accuracy.share_worse.high],
        "share_worse_by_chance": accuracy.placebo.worse.estimate,
    }


def note(result: dict[str, Any]) -> str:
    """What a reader must know of its intervals."""
    accuracy: PerUserReport = result["accuracy"]
    return "" if accuracy.by_user else _FEW
