"""A report in one HTML file: tables, plots inline as SVG, nothing fetched; it opens offline and prints well."""

import io
import itertools
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penchant.errors import MissingExtraError
from penchant.statistics import Interval

TERMINAL = 110  # characters in a line
_MOST_WRITTEN = 20  # rows of a square whose numbers can still be read


@dataclass(frozen=True)
class Table:
    """Rows under headings; also printed in the terminal.

    Attributes:
        headings: one for each column.
        rows: cells as people read them.
        caption: what the table says, in a sentence.
    """

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""

    def text(self) -> str:
        """Aligned columns for a terminal, or one paragraph for each row where they would not fit."""
        cells = [list(self.headings), *map(list, self.rows)]
        widths = [max(len(row[column]) for row in cells) for column in range(len(self.headings))]
        if sum(widths) + 2 * len(widths) > TERMINAL:
            return "\n\n".join(self._paragraph(row) for row in self.rows)
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
        ]
        lines.insert(1, "  ".join("-" * width for width in widths))
        return "\n".join(lines)

    def _paragraph(self, row: Sequence[str]) -> str:
        indented = textwrap.TextWrapper(TERMINAL, initial_indent="  ", subsequent_indent="    ")
        named = zip(self.headings[1:], row[1:], strict=True)
        return "\n".join([row[0], *(indented.fill(f"{heading}: {cell}") for heading, cell in named)])


@dataclass(frozen=True)
class Section:
    """A heading, sentences, and what belongs to them.

    Attributes:
        title: the heading.
        paragraphs: plain text.
        tables: shown after the text.
        plots: SVG documents with what each shows, for those who cannot see it.
    """

    title: str
    paragraphs: Sequence[str] = ()
    tables: Sequence[Table] = ()
    plots: Sequence[tuple[str, str]] = ()


_TEMPLATE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
:root { color-scheme: light; }
body { font: 16px/1.55 system-ui, sans-serif; color: #1c2330; background: #fff; max-width: 54rem; margin: 2.5rem auto;
  padding: 0 1.2rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin-bottom: .3rem; } h2 { font-size: 1.2rem; margin: 2.4rem 0 .4rem; }
.lead { color: #4a5568; margin-top: 0; } figure { margin: 1.2rem 0; } figure svg { width: 100%; height: auto; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; margin: .8rem 0; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .32rem .9rem .32rem 0; border-bottom: 1px solid #dde3ea; vertical-align: top; }
th { font-weight: 600; } .short { white-space: nowrap; } caption { caption-side: bottom; text-align: left; }
caption, figcaption { color: #5a6675; font-size: .9rem; }
footer { margin-top: 3rem; color: #5a6675; font-size: .9rem; }
</style></head><body>
<h1>{{ title }}</h1><p class="lead">{{ lead }}</p>
{% for section in sections %}<section><h2>{{ section.title }}</h2>
{% for paragraph in section.paragraphs %}<p>{{ paragraph|marked }}</p>
{% endfor %}{% for table in section.tables %}<div class="scroll"><table>
<thead><tr>{% for heading in table.headings %}<th scope="col">{{ heading }}</th>{% endfor %}</tr></thead>
<tbody>{% for row in table.rows %}<tr>{% for cell in row %}
<td{% if cell|length < 24 %} class="short"{% endif %}>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</tbody>{% if table.caption %}<caption>{{ table.caption|marked }}</caption>{% endif %}</table></div>
{% endfor %}{% for svg, alt in section.plots %}<figure role="img" aria-label="{{ alt }}">{{ svg | safe }}
<figcaption>{{ alt }}</figcaption></figure>
{% endfor %}</section>
{% endfor %}<footer>{{ footer }}</footer></body></html>
"""


def write(path: Path, *, title: str, lead: str, sections: Sequence[Section], footer: str) -> None:
    """Write the report; everything but the plots is escaped, and `words` in backticks are set as code.

    Raises:
        MissingExtraError: jinja2 is not installed.
    """
    try:
        from jinja2 import Environment
        from markupsafe import Markup, escape
    except ImportError as error:
        raise MissingExtraError("Reports need jinja2 and matplotlib: pip install 'penchant[demo]'.") from error
    environment = Environment(autoescape=True)
    environment.filters["marked"] = lambda text: Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))
    page = environment.from_string(_TEMPLATE)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(page.render(title=title, lead=lead, sections=sections, footer=footer), encoding="utf-8")
    partial.replace(path)


def dots(
    names: Sequence[str], intervals: Sequence[Interval], *, axis: str, mark: float = 0.0, scale: float = 1.0
) -> str:
    """A plot of estimates with their intervals, one line each, as SVG.

    Args:
        names: label of each line.
        intervals: estimate, low and high of each line.
        axis: what the numbers are, with their unit.
        mark: where "no difference" lies.
        scale: numbers are multiplied by it, such as 100 for percent.
    """
    figure, axes = _axes(0.42 * len(names) + 0.9)
    rows = range(len(names))[::-1]
    for row, interval in zip(rows, intervals, strict=True):
        clear = interval.low > mark or interval.high < mark
        colour = "#1f6f5c" if interval.low > mark else "#b4452c" if interval.high < mark else "#7a8696"
        axes.plot([scale * interval.low, scale * interval.high], [row, row], color=colour, lw=2.2)
        axes.plot(scale * interval.estimate, row, "o", color=colour if clear else "white", mec=colour, ms=6)
    axes.axvline(scale * mark, color="#1c2330", lw=0.8)
    axes.set_yticks(list(rows), labels=list(names))
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_xlabel(axis)
    return _svg(figure)


def heat_map(
    names: Sequence[str], columns: Sequence[str], values: Any, *, axis: str, picture: Path | None = None
) -> str:
    """Numbers by colour, red above zero and blue below, as SVG; what was not measured is left white.

    Args:
        names: of the rows.
        columns: of the columns.
        values: float[rows, columns]; NaN where nothing was measured.
        axis: what the numbers are, with their unit.
        picture: PNG file to write as well.
    """
    import numpy as np

    figure, axes = _axes(0.42 * len(names) + 1.6)
    reach = max(float(np.nanmax(np.abs(values), initial=0.0)), 1.0)
    drawn = axes.imshow(values, cmap="RdBu_r", vmin=-reach, vmax=reach, aspect="auto")
    for row, column in zip(*np.nonzero(np.isfinite(values)), strict=True):
        value = values[row, column]
        ink = "white" if abs(value) > 0.6 * reach else "#1c2330"
        axes.text(column, row, f"{value:+.1f}", ha="center", va="center", fontsize=8, color=ink)
    axes.set_xticks(range(len(columns)), labels=list(columns), rotation=25, ha="right")
    axes.set_yticks(range(len(names)), labels=list(names))
    figure.colorbar(drawn, label=axis, shrink=0.8)
    if picture is not None:
        figure.savefig(picture, format="png", dpi=150)
    return _svg(figure)


def histogram(values: Any, *, axis: str, ylabel: str) -> str:
    """How many values in [-1, 1] fall where, as SVG: below zero in red, about zero in grey, above in green."""
    import numpy as np

    figure, axes = _axes(2.4)
    _, edges, bars = axes.hist(values, bins=np.linspace(-1.05, 1.05, 22), rwidth=0.92)
    for centre, bar in zip((edges[1:] + edges[:-1]) / 2, bars, strict=True):
        bar.set_color("#b4452c" if centre < -0.05 else "#1f6f5c" if centre > 0.05 else "#7a8696")
    axes.axvline(0, color="#1c2330", lw=0.8)
    axes.set_xlabel(axis)
    axes.set_ylabel(ylabel)
    return _svg(figure)


Point = tuple[float, float, float, float]
"""Where on the axis, the estimate there, and the ends of its interval."""

_COLOURS = (
    "#1f6f5c",
    "#b4452c",
    "#2f5fa8",
    "#8a5fb0",
    "#b08a1f",
    "#3c9cae",
    "#a0446f",
    "#5c7a29",
    "#7a4b2a",
    "#4a5568",
)


def curves(
    lines: Mapping[str, Sequence[Point]], *, axis: str, ylabel: str, baseline: str = "", scale: float = 1.0
) -> str:
    """Lines with bands over an axis of counts that double, each with its name at its end, as SVG.

    Args:
        lines: name -> points in order.
        axis: what is counted.
        ylabel: what the estimates are, with their unit.
        baseline: the line that others are measured beside; drawn dashed, without a band.
        scale: estimates are multiplied by it, such as 100 for percent.
    """
    figure, axes = _axes(4.2)
    colour = dict(zip([name for name in lines if name != baseline], itertools.cycle(_COLOURS), strict=False))
    for name, points in lines.items():
        places, *values = zip(*points, strict=True)
        estimate, low, high = ([scale * one for one in value] for value in values)
        if name == baseline:
            axes.plot(places, estimate, "--", color="#1c2330", lw=1.6, label=name, zorder=3)
        else:
            axes.fill_between(places, low, high, color=colour[name], alpha=0.08, lw=0)
            axes.plot(places, estimate, "o-", color=colour[name], lw=1.6, ms=3.5, label=name)
    axes.set_xscale("log", base=2)
    ticks = sorted({point[0] for points in lines.values() for point in points})
    axes.set_xticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel(axis)
    axes.set_ylabel(ylabel)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=8)
    return _svg(figure)


def matrix(names: Sequence[str], shares: Sequence[Sequence[float | None]], *, axis: str, lowest: float = 0.0) -> str:
    """A square of numbers, one for each row and column, as SVG: green above the middle of their range, red below.

    Args:
        names: of the rows, and of the columns in the same order.
        shares: row by row; None where there is none.
        axis: what a share is, with its unit.
        lowest: 0 for shares in [0, 1], written in percent; -1 for correlations, written as they are.
    """
    from matplotlib.colors import LinearSegmentedColormap

    n = len(names)
    figure, axes = _axes(max(2.4, 0.32 * n + 1.6))
    colours = LinearSegmentedColormap.from_list("shares", ["#b4452c", "#f4f5f7", "#1f6f5c"])
    drawn = [[float("nan") if share is None else share for share in row] for row in shares]
    image = axes.imshow(drawn, cmap=colours, vmin=lowest, vmax=1, aspect="auto")

    def written(share: float) -> str:
        return f"{100 * share:.0f}" if lowest == 0 else f"{share:.2f}"

    if n <= _MOST_WRITTEN:
        for row, column in itertools.product(range(n), repeat=2):
            share = shares[row][column]
            if share is not None:
                is_pale = 0.2 < (share - lowest) / (1 - lowest) < 0.8
                colour = "#1c2330" if is_pale else "white"
                axes.text(column, row, written(share), ha="center", va="center", fontsize=8, color=colour)
    axes.set_xticks(range(n), labels=names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(n), labels=names)
    axes.tick_params(length=0, labelsize=9 if n <= 40 else 5)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, shrink=0.8, label=axis, format=lambda share, _: written(share))
    bar.outline.set_visible(False)
    return _svg(figure)


def course(lines: Mapping[str, Sequence[Point]], *, axis: str, ylabel: str, stages: Mapping[str, float]) -> str:
    """Shares in [0, 1] with bands along a course of stages, as SVG.

    Args:
        lines: name -> points in order.
        axis: what goes on to the right.
        ylabel: what the shares are.
        stages: name -> where each begins.
    """
    figure, axes = _axes(2.9)
    for (name, points), colour in zip(lines.items(), _COLOURS, strict=False):
        places, *values = zip(*points, strict=True)
        estimate, low, high = values
        axes.fill_between(places, low, high, color=colour, alpha=0.12, lw=0)
        axes.plot(places, estimate, "o-", color=colour, lw=1.6, ms=3.5, label=name)
    for name, begin in stages.items():
        axes.axvline(begin, color="#7a8696", lw=0.8, ls=":")
        axes.annotate(name, (begin, 1.0), xytext=(3, 2), textcoords="offset points", fontsize=8, color="#7a8696")
    axes.set_ylim(0, 1)
    axes.set_xlabel(axis)
    axes.set_ylabel(ylabel)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=8)
    return _svg(figure)


def places(points: Sequence[tuple[float, float, str]], *, axis: str, ylabel: str, mark: float) -> str:
    """Names at their places, as SVG: green above the mark, red below.

    Args:
        points: how far right, how high, and the name.
        axis: what grows to the right, with its unit.
        ylabel: what grows upwards, with its unit.
        mark: height at which neither is the case.
    """
    figure, axes = _axes(4.2)
    for right, height, name in points:
        colour = "#1f6f5c" if height > mark else "#b4452c"
        axes.plot(right, height, "o", color=colour, ms=13, alpha=0.18, mew=0)
        axes.annotate(name, (right, height), color=colour, ha="center", va="center", fontsize=8)
    axes.axhline(mark, color="#1c2330", lw=0.8)
    axes.margins(0.06)
    axes.set_xlabel(axis)
    axes.set_ylabel(ylabel)
    return _svg(figure)


def _axes(height: float) -> tuple[Any, Any]:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("Reports need jinja2 and matplotlib: pip install 'penchant[demo]'.") from error
    figure = Figure(figsize=(7.2, height), layout="constrained")  # no pyplot: no global state, no display
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9)
    return figure, axes


def _svg(figure: Any) -> str:
    from matplotlib import rc_context

    out = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "penchant", "font.family": "sans-serif"}):
        figure.savefig(out, format="svg", metadata={"Date": None})
    text = out.getvalue()
    return re.sub(r"^.*?(?=<svg)", "", text, count=1, flags=re.DOTALL)  # inline: no XML prologue


def shown(interval: Interval, *, scale: float = 100.0, signed: bool = True, digits: int = 1) -> str:
    """An interval as people read it: estimate, then bounds."""
    sign = "+" if signed else ""
    ends = (interval.estimate, interval.low, interval.high)
    values = (round(scale * end, digits) + 0.0 for end in ends)  # a sum with 0.0, lest a small loss read -0
    first, low, high = (f"{value:{sign}.{digits}f}" for value in values)
    return f"{first} [{low}, {high}]"


def cut(text: str, length: int) -> str:
    """A text in one line, with a mark where it was cut off."""
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1] + "…"
