"""The page of results as Markdown: tables, figures, what each cell cost, what it can be followed back to."""

from __future__ import annotations

import itertools
import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cogdata.storage.store import write_failed
from trainers.paper.ablations import ABLATIONS, CONDITION_LABELS
from trainers.paper.figures import draw_curves, draw_finetuning, draw_table, label_of, tuned_label
from trainers.paper.results import Result
from trainers.paper.statistics import (
    AblationCell,
    ResultTable,
    Verdict,
    ablations,
    before_tuning,
    rate_text,
    result_tables,
    updates_to_learn,
    verdicts,
)
from trainers.paper.table1 import SEEDS, TASKS

NOTES: Final = "notes.md"
"""File beside the results with what was learned from them, written by hand, taken into the page as it is."""

_TITLES: Final = {"state": "from poses", "image": "from pixels alone", "image+robot": "from pixels"}
_SKILLS: Final = {
    "grasped": "holds the thing",
    "placed": "in the tray",
    "drawer_open": "drawer open",
    "top_drawer_closed": "top drawer closed",
    "blocker_moved": "bottle moved",
}


@dataclass(frozen=True)
class Page:
    """What was written.

    Attributes:
        file: The Markdown file.
        figures: PNG and SVG files.
        tables: The tables on it.
    """

    file: Path
    figures: tuple[Path, ...]
    tables: tuple[ResultTable, ...]


def write_page(results: Sequence[Result], source: Path, file: Path) -> Page:
    """Write the page and its figures, which go into a folder of its name beside it.

    Args:
        results: What was found.
        source: Folder of the result files, to link to; its :data:`NOTES` go onto the page.
        file: The page.

    Raises:
        CogError: It cannot be written.
    """
    tables, folder = result_tables(results), file.with_suffix("")
    figures = [path for table in tables for path in (*draw_table(table, folder), *draw_curves(table, folder))]
    figures += draw_finetuning(results, folder)
    notes = source / NOTES
    text = render_page(
        results,
        figures=[os.path.relpath(path, file.parent) for path in figures if path.suffix == ".png"],
        link=os.path.relpath(source, file.parent),
        notes=notes.read_text(encoding="utf-8").strip() if notes.exists() else "",
    )
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise write_failed(str(file), error) from None
    return Page(file, tuple(figures), tuple(tables))


def render_page(results: Sequence[Result], *, figures: Sequence[str], link: str, notes: str) -> str:
    """Render the page.

    Args:
        results: What was found.
        figures: Paths of images, as the page names them.
        link: Folder of the result files, as the page names it.
        notes: Markdown written by hand.

    Returns:
        Markdown.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("trainers.paper"), undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True, autoescape=False,
    )  # fmt: skip
    tables = result_tables(results)
    values: dict[str, Any] = {
        "tables": [_table(table, figures) for table in tables],
        "targets": [_target(verdict) for verdict in verdicts(tables)],
        "tuned": [_tuned(result, results, link) for result in results if result.online],
        "tuned_figure": next((path for path in figures if "finetuning" in path), None),
        "variations": [_ablation(one) for one in ablations(results)],
        "machines": sorted({_machine(result) for result in results if result.machine}) or ["not known"],
        "units": [_experiment(result, link) for result in results],
        "notes": notes,
        "trials": max(one.episodes for result in results for one in result.evaluated),
    }
    return environment.get_template("results.md").render(values)


def _table(table: ResultTable, figures: Sequence[str]) -> dict[str, Any]:
    own = f"{table.task}-{table.obs.replace('+', '_')}-{table.preset}-"
    return {
        "title": f"{TASKS[table.task].title[0].upper()}{TASKS[table.task].title[1:]}, "
        f"{_TITLES[table.obs]}, preset `{table.preset}`",
        "methods": [label_of(method) for method in table.methods],
        "rows": [
            [
                condition.label,
                *(
                    _beside(table, condition.env, method, condition.paper.get(method))
                    for method in table.methods
                ),
            ]
            for condition in table.conditions
        ],
        "details": [
            _detail(table, condition.env, condition.label, method)
            for condition in table.conditions
            for method in table.methods
            if (condition.env, method) in table.cells
        ],
        "skills": _skills(table),
        "costs": [line for method in table.methods for line in _costs(table, method)],
        "curves": [line for method in table.methods if (line := _curve(table, method))],
        "figures": [path for path in figures if Path(path).name.startswith(own)],
    }


def _beside(table: ResultTable, env: str, method: str, paper: tuple[float, float | None] | None) -> str:
    """Ours, and the paper's below it."""
    ours = f"**{table.cells[env, method]}**" if (env, method) in table.cells else "–"
    if paper is None:
        return ours
    mean, std = paper
    return f"{ours}<br>{rate_text(mean)}" + ("" if std is None else f" ({rate_text(std)})")


def _detail(table: ResultTable, env: str, label: str, method: str) -> list[str]:
    cell = table.cells[env, method]
    low, high = cell.interval
    seeds = ", ".join(f"{one.successes}" for one in cell.evaluated.values())
    other = table.against(env, method)
    against = "" if other is None else f"{other.only_this} : {other.only_other}, p = {other.p:.1g}"
    return [
        label, label_of(method), f"{cell.successes}/{cell.episodes}",
        f"{rate_text(low)} to {rate_text(high)}", seeds, against,
    ]  # fmt: skip


def _skills(table: ResultTable) -> dict[str, Any] | None:
    """Share of episodes on whose last observation each predicate held."""
    names = [name for name in _SKILLS if any(name in one.last for r in table.results for one in r.evaluated)]
    rows = []
    for condition, method in itertools.product(table.conditions, table.methods):
        if (cell := table.cells.get((condition.env, method))) is None:
            continue
        held = [one.last for one in cell.evaluated.values()]
        shares = [
            rate_text(sum(last[name] for last in held) / cell.episodes) if name in held[0] else "–"
            for name in names
        ]
        rows.append([condition.label, label_of(method), *shares])
    return {"names": [_SKILLS[name] for name in names], "rows": rows}


def _costs(table: ResultTable, method: str) -> list[list[str]]:
    """What a method was given and took, a line for every kind of place it was trained on."""
    own = [result for result in table.results if result.experiment.method == method]
    lines = []
    for place in sorted({_trained_on(result) for result in own}):
        here = [result for result in own if _trained_on(result) == place]
        stages = " + ".join(f"{run.algo} {run.updates:,} × {run.batch_size}" for run in here[0].runs)
        minutes = statistics.fmean(result.training_seconds for result in here) / 60
        sizes = ", ".join(dict.fromkeys(_sizes(result) for result in here))
        lines.append([label_of(method), stages, f"{minutes:.1f}", place, sizes, str(len(here))])
    return lines


def _sizes(result: Result) -> str:
    """Transitions that its stages learned from, in order."""
    sizes = [f"{run.transitions:,}" if run.transitions is not None else "–" for run in result.runs]
    return " + ".join(sizes)


def _curve(table: ResultTable, method: str) -> list[str] | None:
    """The last checkpoints of every seed, and when most was learned."""
    own = [one for one in table.results if one.experiment.method == method and one.has_curve]
    if not own:
        return None
    rows = [
        f"seed {one.experiment.seed}, {one.experiment.scenario}: "
        + " ".join(str(point.successes) for point in one.curve)
        for one in own
    ]
    learned = [update for one in own if (update := updates_to_learn(one)) is not None]
    when = " to ".join(f"{update:,}" for update in sorted({min(learned), max(learned)})) if learned else "–"
    scenes = ", ".join(dict.fromkeys(str(one.curve[0].episodes) for one in own))
    return [label_of(method), scenes, "<br>".join(rows), when]


def _target(verdict: Verdict) -> list[str]:
    target = verdict.target
    bound = f"at least {rate_text(target.least)}" if target.least is not None else ""
    bound = bound or f"at most {rate_text(target.most or 0.0)}"
    what = f"{TASKS[target.task].title}, {'pixels' if target.images else 'poses'}: "
    what += ", ".join(CONDITION_LABELS[env] for env in target.envs) + (
        " (mean)" if len(target.envs) > 1 else ""
    )
    if verdict.found is None or verdict.method is None:
        return [what, " or ".join(label_of(method) for method in target.methods), bound, "not run", "", ""]
    found = rate_text(verdict.found, 3)
    seeds = f"{verdict.seeds} seed{'s' if verdict.seeds != 1 else ''}"
    met = "met" if verdict.seeds >= SEEDS else "met so far"
    others = [
        f"{label_of(method)} {rate_text(rate, 3)}" + ("" if target.holds(rate) else ", missed")
        for method, rate in verdict.others.items()
    ]
    return [
        what, label_of(verdict.method), bound, f"{found}, {seeds}", met if verdict.met else "**missed**",
        "; ".join(others),
    ]  # fmt: skip


def _tuned(result: Result, results: Sequence[Result], link: str) -> list[str]:
    env = result.experiment.envs[0]
    before, after = before_tuning(result, results), result.of(env)
    first, last = result.online[:50].count("1"), result.online[-50:].count("1")
    return [
        CONDITION_LABELS[env], tuned_label(result), str(result.experiment.seed),
        "–" if before is None else f"{before.successes}/{before.episodes}",
        str(len(result.online)), f"{first}/50", f"{last}/50",
        "–" if after is None else f"{after.successes}/{after.episodes}",
        f"[{result.experiment.name}]({link}/{result.experiment.name}.json)",
    ]  # fmt: skip


def _ablation(changed: AblationCell) -> list[str]:
    against, ablation = changed.against, ABLATIONS.get(changed.ablation)
    beside = "" if ablation is None or ablation.against is None else f" `{ablation.against}`"
    summary = "" if ablation is None else f": {ablation.summary}"
    unchanged = "–" if changed.unchanged is None else f"{changed.unchanged}{beside}"
    return [
        f"`{changed.ablation}`{summary}", label_of(changed.method),
        CONDITION_LABELS[changed.env], f"{changed.cell}",
        unchanged, str(len(changed.cell.evaluated)),
        "" if against is None else f"{against.only_this} : {against.only_other}, p = {against.p:.1g}",
    ]  # fmt: skip


def _machine(result: Result) -> str:
    return ", ".join(f"{name} {value}" for name, value in sorted(result.machine.items()))


def _trained_on(result: Result) -> str:
    """What its stages ran on, each kind once."""
    places = [
        run.accelerator or (f"{run.threads} × CPU" if run.device == "cpu" else run.device)
        for run in result.runs
    ]
    return ", ".join(dict.fromkeys(places))


def _experiment(result: Result, link: str) -> list[str]:
    last = result.runs[-1]
    scores = ", ".join(f"{one.successes}/{one.episodes}" for one in result.evaluated)
    return [
        f"[{result.experiment.name}]({link}/{result.experiment.name}.json)", f"`{last.run}`",
        f"`{last.mixture}` {last.mixture_digest[:12]}", scores, f"{result.training_seconds / 60:.1f}",
        _trained_on(result), result.code,
    ]  # fmt: skip
