"""One self-contained page: the data in pictures, the curves, the table, and where every number comes from."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cogdata.intervals import wilson

SMOOTHING: Final = 0.9
"""Weight of the past in the exponential mean that curves show."""


@dataclass(frozen=True)
class Score:
    """One cell of the table.

    Attributes:
        run: Run id.
        method: What the row is called.
        env: Column.
        successes: Episodes that ended in success.
        episodes: Evaluated.
    """

    run: str
    method: str
    env: str
    successes: int
    episodes: int

    @property
    def rate(self) -> float:
        """Successes per episode."""
        return self.successes / self.episodes

    def __str__(self) -> str:
        """Count and rate with its 95 % Wilson interval."""
        low, high = wilson(self.successes, self.episodes)
        return f"{self.successes}/{self.episodes} = {self.rate:.2f} [{low:.2f}, {high:.2f}]"


@dataclass(frozen=True)
class Sheet:
    """A contact sheet.

    Attributes:
        caption: What it shows.
        png: The picture.
    """

    caption: str
    png: bytes

    @property
    def source(self) -> str:
        """As a data URL."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode()


@dataclass(frozen=True)
class Step:
    """One link of the chain from a number back to the simulator.

    Attributes:
        title: What it is.
        facts: Name → value.
        text: Longer text shown as it is (SQL), or "".
    """

    title: str
    facts: Mapping[str, str]
    text: str = ""


@dataclass(frozen=True)
class Report:
    """What the page says.

    Attributes:
        title: Heading.
        summary: A sentence or two.
        scores: Cells of the table.
        sheets: Contact sheets.
        curves: Run → its metrics, one mapping with "update" per logged line.
        lineage: From the evaluations back to the collections.
    """

    title: str
    summary: str
    scores: Sequence[Score]
    sheets: Sequence[Sheet]
    curves: Mapping[str, Sequence[Mapping[str, float]]]
    lineage: Sequence[Step]


def text_table(scores: Sequence[Score]) -> str:
    """Lay scores out as lines of text, methods down, environments across."""
    header, rows = _grid(scores)
    cells = [header, *rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )


def _grid(scores: Sequence[Score]) -> tuple[list[str], list[list[str]]]:
    """Pivot scores, rows and columns in order of first appearance; of a cell given twice the last counts."""
    import polars as pl

    title = "success [95 % interval]"
    cells = pl.DataFrame(
        {
            title: [score.method for score in scores],
            "env": [score.env for score in scores],
            "cell": [str(score) for score in scores],
        },
        schema={title: pl.String, "env": pl.String, "cell": pl.String},
    )
    table = cells.pivot("env", index=title, values="cell", aggregate_function="last", maintain_order=True)
    return table.columns, [list(row) for row in table.fill_null("–").iter_rows()]


def smooth(values: Sequence[float], weight: float = SMOOTHING) -> list[float]:
    """Return the exponential mean, corrected for its start.

    Args:
        values: In order.
        weight: Of the past, in [0, 1).
    """
    means, total = [], 0.0
    for count, value in enumerate(values, start=1):
        total = weight * total + (1 - weight) * value
        means.append(total / (1 - weight**count))
    return means


def curves_svg(curves: Mapping[str, Sequence[Mapping[str, float]]], names: Sequence[str]) -> str:
    """Draw metrics against gradient updates, a panel per name, a line per run that has it.

    Args:
        curves: Run → lines of metrics.
        names: Metrics to draw; one that no run has is left out.

    Returns:
        An SVG element, or "" when there is nothing to draw.
    """
    from matplotlib.figure import Figure

    drawn = [name for name in names if any(name in line for lines in curves.values() for line in lines)]
    if not drawn:
        return ""
    figure = Figure(figsize=(3.6 * len(drawn), 2.6), layout="constrained")
    for i, name in enumerate(drawn):
        axes = figure.add_subplot(1, len(drawn), i + 1)
        for run, lines in curves.items():
            points = [(line["update"], line[name]) for line in lines if name in line]
            if points:
                x, y = zip(*points, strict=True)
                axes.plot(x, smooth(y), label=run.split("-")[0], linewidth=1.2)
        axes.set_title(name.replace("_", " "), fontsize=9)
        axes.set_xlabel("gradient updates", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.25)
        axes.legend(fontsize=7, frameon=False)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def render(report: Report, metrics: Sequence[str] = ("loss", "flow_loss", "critic_loss", "q_mean")) -> str:
    """Render the page.

    Args:
        report: What it says.
        metrics: Which curves to draw.

    Returns:
        HTML that needs no other file.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("trainers.evaluation"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    header, rows = _grid(report.scores)
    values: dict[str, Any] = {
        "report": report,
        "header": header,
        "rows": rows,
        "curves": curves_svg(report.curves, metrics),
    }
    return environment.get_template("report.html").render(values)
