"""Figures of results: Table 1 as points, learning curves (Figure 10), fine-tuning online (Figures 5 and 9).

Each is written as PNG and SVG, with the same bytes for the same results.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from cogdata.storage.store import write_failed
from trainers.paper.ablations import CONDITION_LABELS
from trainers.paper.results import Evaluated, Result
from trainers.paper.statistics import Cell, ResultTable, before_tuning
from trainers.paper.table1 import TASKS

METHOD_LABELS: Final[Mapping[str, str]] = {
    "no_prior": "no prior data", "bc_init": "BC-init", "bc_all": "BC-all", "bc_oracle": "BC-oracle",
    "sac": "SAC", "cog": "COG (CQL)", "bfn": "COG (best of N)", "bfn_no_prior": "best of N, no prior data",
}  # fmt: skip
"""Method → what tables and figures call it."""

COLOURS: Final[Mapping[str, str]] = {
    "no_prior": "#999999", "bc_init": "#b07aa1", "bc_all": "#76b7b2", "bc_oracle": "#59a14f",
    "sac": "#e15759", "cog": "#4e79a7", "bfn": "#f28e2b", "bfn_no_prior": "#c9b18a",
}  # fmt: skip

PUBLISHED_AS: Final[Mapping[str, str]] = {"bfn": "cog", "bfn_no_prior": "no_prior"}
"""Method of ours → the published one that it is the counterpart of."""

WINDOW: Final = 50
"""Online episodes that a point of a fine-tuning curve is the mean of."""


def label_of(method: str) -> str:
    """What tables and figures call a method; its own name if it is gone from ``METHODS``."""
    return METHOD_LABELS.get(method, method)


def colour_of(method: str) -> str:
    """The colour of a method; black if it is gone from ``METHODS``."""
    return COLOURS.get(method, "#222222")


def draw_table(table: ResultTable, folder: Path) -> list[Path]:
    """Draw every seed of a cell as a dot, their mean with its 95 % interval, and the paper's figure.

    Args:
        table: What to draw.
        folder: Where the files go.

    Returns:
        The files, PNG first.
    """
    figure, axes = _axes(2.4 * len(table.conditions), 3.4)
    width = 0.8 / len(table.methods)
    for column, method in enumerate(table.methods):
        for place, condition in enumerate(table.conditions):
            x = place + (column - (len(table.methods) - 1) / 2) * width
            if (condition.env, method) in table.cells:
                _point(axes, x, table.cells[condition.env, method], method)
            if (theirs := condition.paper.get(PUBLISHED_AS.get(method, method))) is not None:
                axes.plot(x, theirs[0], "_", ms=11, mew=1.2, color="#222222", label="the paper's")
    axes.set_xticks(range(len(table.conditions)), [condition.label for condition in table.conditions])
    axes.set(ylabel="success", ylim=(-0.03, 1.03))
    found = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))  # each label once
    figure.legend(found.values(), found, loc="outside upper center", fontsize=7, frameon=False, ncols=4)
    return _save(figure, folder, f"{table.task}-{_slug(table)}-table")


def _point(axes: Any, x: float, cell: Cell, method: str) -> None:  # noqa: ANN401
    """A rate with its interval, which holds it but for rounding."""
    low, high = cell.interval
    rate = cell.successes / cell.episodes
    reach = [[max(rate - low, 0.0)], [max(high - rate, 0.0)]]
    axes.errorbar(x, rate, reach, fmt="o", ms=4, color=colour_of(method), label=label_of(method))
    if len(cell.evaluated) > 1:
        seeds = [one.rate for one in cell.evaluated.values()]
        axes.plot([x] * len(seeds), seeds, "o", ms=6, mfc="none", mew=0.7, color=colour_of(method))


def draw_curves(table: ResultTable, folder: Path) -> list[Path]:
    """Draw success against updates, a panel per hard condition: mean and span of the seeds.

    Args:
        table: What to draw.
        folder: Where the files go.

    Returns:
        The files, PNG first; none if no checkpoint on the way was evaluated.
    """
    panels = [
        condition
        for condition in table.conditions
        if any(_curves(table.results, condition.env, m) for m in table.methods)
    ]
    if not panels:
        return []
    figure, grid = _axes(3.4 * len(panels), 2.8, len(panels))
    for axes, condition in zip(grid if len(panels) > 1 else [grid], panels, strict=True):
        for method in table.methods:
            found = _curves(table.results, condition.env, method)
            label = label_of(method) + (", 1 seed" if len(found) == 1 else "")
            _band(axes, found, label, colour_of(method))
        axes.set(xlabel="thousand gradient steps", ylabel="success", ylim=(-0.03, 1.03))
        axes.set_title(condition.label, fontsize=9)
        _legend(axes, columns=1)
    return _save(figure, folder, f"{table.task}-{_slug(table)}-curves")


def _curves(results: Sequence[Result], env: str, method: str) -> list[Sequence[Evaluated]]:
    """The curve of every seed of a method that was evaluated there on the way, not only at the end."""
    own = [one.curve for one in results if one.experiment.method == method and one.has_curve]
    return [curve for curve in own if curve[0].env == env]


def _band(axes: Any, curves: list[Sequence[Evaluated]], label: str, colour: str) -> None:  # noqa: ANN401
    """The mean of several curves where all of them have a point, and the band that they span."""
    if not curves:
        return
    common = set.intersection(*({point.update for point in curve} for curve in curves))
    rates = {
        update: [point.rate for curve in curves for point in curve if point.update == update]
        for update in sorted(common)
    }
    x = [update / 1000 for update in rates]
    axes.plot(x, [statistics.fmean(found) for found in rates.values()], "-o", ms=3, color=colour, label=label)
    low, high = [min(found) for found in rates.values()], [max(found) for found in rates.values()]
    axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)


def draw_finetuning(results: Sequence[Result], folder: Path) -> list[Path]:
    """Draw success against episodes collected online, a panel per condition.

    A line begins at 0 with the success of the policy that it goes on from, on the table's eval seeds.

    Args:
        results: All there are; those without online episodes are left out.
        folder: Where the files go.

    Returns:
        The files, PNG first; none if there is nothing to draw.
    """
    tuned = [result for result in results if result.online]
    envs = [condition.env for task in TASKS.values() for condition in task.conditions]
    panels = [env for env in envs if any(env in one.experiment.envs for one in tuned)]
    if not panels:
        return []
    figure, grid = _axes(3.4 * len(panels), 2.8, len(panels))
    for axes, env in zip(grid if len(panels) > 1 else [grid], panels, strict=True):
        labelled: set[str] = set()
        for result in (one for one in tuned if env in one.experiment.envs):
            method = result.experiment.method
            ends, rates = _running_success(result, results)
            label = None if method in labelled else tuned_label(result)
            axes.plot(ends, rates, color=colour_of(method), lw=1.2, label=label)
            labelled.add(method)
        axes.set(xlabel="episodes collected online", ylim=(-0.03, 1.03))
        axes.set_title(CONDITION_LABELS[env], fontsize=9)
        axes.set_ylabel(f"success, mean of {WINDOW}")
        _legend(axes, columns=1)
    return _save(figure, folder, "finetuning")


def _running_success(result: Result, results: Sequence[Result]) -> tuple[list[int], list[float]]:
    """Online episodes, and the mean success of the :data:`WINDOW` before; from 0 on if it is known."""
    outcomes = [int(outcome) for outcome in result.online]
    ends = list(range(WINDOW, len(outcomes) + 1, 10))
    rates = [statistics.fmean(outcomes[end - WINDOW : end]) for end in ends]
    if (before := before_tuning(result, results)) is not None:
        return [0, *ends], [before.rate, *rates]
    return ends, rates


def tuned_label(result: Result) -> str:
    """Name the learner before and after the start of fine-tuning."""
    last = result.runs[-1].algo
    return label_of(result.experiment.method) + ("" if last in ("cql", "bfn") else f" + {last.upper()}")


def _axes(width: float, height: float, panels: int = 1) -> tuple[Any, Any]:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams["svg.hashsalt"] = "cogdata"  # ids in SVG files are otherwise drawn at random
    figure = Figure(figsize=(max(width, 4.5), height), dpi=110, layout="constrained")
    axes = figure.subplots(1, panels)
    for one in axes if panels > 1 else [axes]:
        one.spines[["top", "right"]].set_visible(False)
        one.grid(axis="y", alpha=0.25)
        one.tick_params(labelsize=8)
    return figure, axes


def _legend(axes: Any, columns: int) -> None:  # noqa: ANN401
    axes.legend(fontsize=7, frameon=False, ncols=columns)


def _slug(table: ResultTable) -> str:
    return f"{table.obs.replace('+', '_')}-{table.preset}"


def _save(figure: Any, folder: Path, name: str) -> list[Path]:  # noqa: ANN401
    files = [folder / f"{name}.{kind}" for kind in ("png", "svg")]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file in files:
            metadata = {"Date": None} if file.suffix == ".svg" else {"Software": None}
            figure.savefig(file, metadata=metadata)
    except OSError as error:
        raise write_failed(str(folder), error) from None
    return files
