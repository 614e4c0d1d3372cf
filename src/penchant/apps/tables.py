"""Markdown tables of measured results, for the documentation; every number comes from a file that a command wrote."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from penchant.apps.compare import tables
from penchant.apps.report import Table, shown
from penchant.methods import METHODS, Method
from penchant.statistics import Interval


def result(row: Method, results: Path) -> dict[str, Any] | None:
    """What the reproduction of a method ended with, full before quick; None if it has not been run."""
    for scale in ("full", "quick"):
        path = results / (row.slug or "-") / f"{scale}.json"
        if path.exists():
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return found
    return None


def verdict(row: Method, results: Path) -> str:
    """Holds, does not hold in full (the main difference does), does not hold, or not run; with that interval."""
    found = result(row, results)
    if found is None:
        return "no claim to test" if row.reproduction is None else "not run"
    word = "holds" if found["holds"] else "does not hold in full" if found["ci_low"] > 0 else "does not hold here"
    return f"{word}: {found['difference']:+.3g} [{found['ci_low']:+.3g}, {found['ci_high']:+.3g}]"


def methods_table(results: Path, *, link: str = "") -> str:
    """The table of methods.

    Args:
        results: folder of the reproductions' results.
        link: form of a link to a method's page, such as "{name}.md"; none without it.
    """
    head = "| method | room | what it is for | source | its claim here |\n|---|---|---|---|---|"
    rows = []
    for row in METHODS:
        name = f"[{row.name}]({link.format(name=row.name)})" if link else f"`{row.name}`"
        rows.append(f"| {name} | {row.room} | {row.title} | {row.source} | {verdict(row, results)} |")
    return "\n".join([head, *rows])


# Of each benchmark some numbers that are told first: key, what it is, and how it is written.
_TOLD = {
    "dpo": (
        (
            "throughput_ratio_8_1",
            "times as fast as TRL's DPO, prompts of 512 and answers of 64 tokens",
            "{:.2f}",
        ),
        ("memory_ratio_8_1", "of its peak memory there", "{:.2f}"),
        ("throughput_ratio_1_1", "times as fast, prompts and answers of 128 tokens", "{:.2f}"),
        ("list_of_8_ratio", "times as fast on ranked lists of 8 answers, of which TRL gets the pairs", "{:.0f}"),
    ),
    "sample": (("throughput_ratio", "times as fast as `generate`, 8 answers to a prompt of 256 tokens", "{:.2f}"),),
    "import": (
        ("parquet_rows_per_second", "comparisons a second into Parquet", "{:,.0f}"),
        ("sqlite_rows_per_second", "comparisons a second into SQLite", "{:,.0f}"),
        ("parquet_memory_ratio_1e6", "of the memory that `datasets` needs for a million", "{:.2f}"),
    ),
    "users": (
        (
            "ideal_point_fit_seconds",
            "seconds to learn a million people from ten comparisons each",
            "{:,.0f}",
        ),
        ("ideal_point_peak_gib", "GiB for it", "{:.1f}"),
        ("mixture_adapted_a_second", "newcomers learnt a second (mixture)", "{:,.0f}"),
    ),
    "sae": (("audit_throughput_ratio", "times as fast as SAELens, the audit's sparse autoencoder", "{:.2f}"),),
    "leaderboard": (
        ("fit_ratio", "times as fast as arena-rank, ratings and intervals of 1.7 million votes, counted", "{:.0f}"),
        ("end_to_end_ratio", "times as fast, from strings to scores with intervals", "{:.0f}"),
    ),
    "item_fairness": (("recbole_ratio", "times as fast as RecBole, item fairness of 100,000 users", "{:.0f}"),),
}


def benchmarks_table(folder: Path) -> str:
    """What benchmarks measured, in short; what was not measured is not there.

    Args:
        folder: of the benchmarks' files.
    """
    rows = ["| | ours | lowest to highest |", "|---|---|---|"]
    for name, told in _TOLD.items():
        path = folder / f"{name}.json"
        numbers = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        for key, meaning, form in told:
            if numbers.get(key) is not None:
                spread = " to ".join(form.format(end) for end in numbers["spread"].get(key, ()))
                rows.append(f"| {meaning} | {form.format(numbers[key])} | {spread} |")
    return "\n".join(rows)


def people_table(path: Path) -> str:
    """One model for all against one for each, as `benchmarks/one_for_all.py` measured it."""
    head = (
        "| set | people | choices | for all, % | for each, % | gain, points | gain in log loss, millinats | worse, % | "
        "by chance, % |\n|---|---|---|---|---|---|---|---|---|"
    )
    lines = []
    for row in json.loads(path.read_text(encoding="utf-8")):
        if "why_not" in row:
            lines.append(f"| {row['set']} | not measured: {row['why_not']} " + "| " * 7 + "|")
            continue
        gain, surprise = (_interval(row[name], row["people"]) for name in ("gain", "log_loss_gain"))
        cells = [
            row["set"],
            str(row["people"]),
            str(row["held_out"]),
            f"{100 * row['one_for_all']:.1f}",
            f"{100 * row['per_user']:.1f}",
            shown(gain),
            shown(surprise, scale=1000, digits=0),
            f"{100 * row['share_worse']:.0f}",
            f"{100 * row['by_chance']:.0f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([head, *lines])


_WAYS = (("for each", "plain"), ("for each", "for all"), ("for each", "in words"))


def files_table(folder: Path) -> str:
    """`penchant demo FILE` on several sets, as its `--json` wrote it: a file for each set."""
    head = (
        "| set | people | for all, % | for each, % | gain, points | worse, % | by chance, % | "
        + " | ".join(f"{way} against {other}, %" for way, other in _WAYS)
        + " |\n|"
        + "---|" * (7 + len(_WAYS))
    )
    lines = []
    for path in sorted(folder.glob("*.json")):
        found = json.loads(path.read_text(encoding="utf-8"))["file"]
        people = found["people"]
        rates = found.get("win_rates", {})
        cells = [
            path.stem,
            str(people),
            f"{100 * found['one_for_all']:.1f}",
            f"{100 * found['per_user']:.1f}",
            shown(_interval(found["gain"], people)),
            f"{100 * found['share_worse'][0]:.0f}",
            f"{100 * found['share_worse_by_chance']:.0f}",
            *(
                shown(_interval(rates[name]["win_rate"], rates[name]["people"]), signed=False)
                if (name := f"{way} against {other}") in rates
                else "names, no texts"
                for way, other in _WAYS
            ),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([head, *lines])


def audits_table(folder: Path) -> str:
    """`penchant audit FILE` on several sets, as its `--json` wrote it: a file for each set."""
    head = (
        "| set | pairs | held out | area, length alone | 5 features | black box | explained, % | the five that say "
        "most, with the fidelity of each name |\n|---|---|---|---|---|---|---|---|"
    )
    lines = []
    for path in sorted(folder.glob("*.json")):
        found = json.loads(path.read_text(encoding="utf-8"))
        features = {feature["number"]: feature for feature in found["features"]}
        areas = (
            shown(_interval(found["auc"][name], found["held_out"]), scale=1.0, signed=False, digits=3)
            for name in ("length", "5 features", "black box")
        )
        share = found["explained"]["5 features"]
        most = (
            f"{'more' if feature['coefficient'][0] > 0 else 'less'}: {feature['description'] or 'no name'} "
            f"({feature['fidelity'][0]:.2f})"
            for feature in (features[number] for number in found["few"]["5"])
        )
        explained = (
            "black box at chance"
            if share is None
            else shown(_interval(share, found["held_out"]), signed=False, digits=0)
        )
        cells = [path.stem, str(found["comparisons"]), str(found["held_out"]), *areas, explained, "; ".join(most)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([head, *lines])


def _interval(ends: Sequence[float], n: int) -> Interval:
    estimate, low, high = ends
    return Interval(estimate=estimate, low=low, high=high, level=0.95, n=n)


def comparisons_page(folder: Path, *, link: str) -> str:
    """Every comparison of models that `benchmarks/learn_all.py` measured, with its tables and its plot.

    Args:
        folder: a file for each set.
        link: form of a link to a plot, such as "results/learn/{name}.svg".
    """
    parts = []
    for path in sorted(folder.glob("*.json")):
        found = json.loads(path.read_text(encoding="utf-8"))
        parts += [f"## {found['title']}", found["about"], *found["notes"]]
        parts += [f"{markdown(one)}\n\n{one.caption}" for one in tables(found["rows"], found["full"])]
        if path.with_suffix(".svg").exists():
            parts.append(f"![Accuracy against examples, {found['title']}]({link.format(name=path.stem)})")
        parts.append("\n".join(f"- `{one['model']}` is not here: {one['reason']}" for one in found["not_applicable"]))
    return "\n\n".join(part for part in parts if part)


def markdown(table: Table) -> str:
    """A table of a report as Markdown."""
    lines = [list(table.headings), ["---"] * len(table.headings), *map(list, table.rows)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
