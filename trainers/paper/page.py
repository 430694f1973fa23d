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
from trainers.paper.figures import draw_curves, draw_finetuning, draw_table, label_of, tuned_label
from trainers.paper.results import Result
from trainers.paper.statistics import (
    Block,
    Varied,
    Verdict,
    before_tuning,
    blocks,
    rate_text,
    updates_to_learn,
    variations,
    verdicts,
)
from trainers.paper.table1 import CONDITIONS, SEEDS, TASKS, VARIATIONS

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
    tables: tuple[Block, ...]


def write_page(results: Sequence[Result], source: Path, file: Path) -> Page:
    """Write the page and its figures, which go into a folder of its name beside it.

    Args:
        results: What was found.
        source: Folder of the result files, to link to; its :data:`NOTES` go onto the page.
        file: The page.

    Raises:
        CogError: It cannot be written.
    """
    tables, folder = blocks(results), file.with_suffix("")
    figures = [path for block in tables for path in (*draw_table(block, folder), *draw_curves(block, folder))]
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
        figures: Paths of pictures, as the page names them.
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
    tables = blocks(results)
    values: dict[str, Any] = {
        "tables": [_table(block, figures) for block in tables],
        "targets": [_target(verdict) for verdict in verdicts(tables)],
        "tuned": [_tuned(result, results, link) for result in results if result.online],
        "tuned_figure": next((path for path in figures if "finetuning" in path), None),
        "variations": [_varied(one) for one in variations(results)],
        "machines": sorted({_machine(result) for result in results if result.machine}) or ["not known"],
        "units": [_unit(result, link) for result in results],
        "notes": notes,
        "trials": max(one.episodes for result in results for one in result.judged),
    }
    return environment.get_template("results.md").render(values)


def _table(block: Block, figures: Sequence[str]) -> dict[str, Any]:
    own = f"{block.task}-{block.obs.replace('+', '_')}-{block.preset}-"
    return {
        "title": f"{TASKS[block.task].title[0].upper()}{TASKS[block.task].title[1:]}, "
        f"{_TITLES[block.obs]}, preset `{block.preset}`",
        "methods": [label_of(method) for method in block.methods],
        "rows": [
            [
                row.label,
                *(_beside(block, row.env, method, row.paper.get(method)) for method in block.methods),
            ]
            for row in block.rows
        ],
        "details": [
            _detail(block, row.env, row.label, method)
            for row in block.rows
            for method in block.methods
            if (row.env, method) in block.cells
        ],
        "skills": _skills(block),
        "costs": [line for method in block.methods for line in _costs(block, method)],
        "curves": [line for method in block.methods if (line := _curve(block, method))],
        "figures": [path for path in figures if Path(path).name.startswith(own)],
    }


def _beside(block: Block, env: str, method: str, paper: tuple[float, float | None] | None) -> str:
    """Ours, and the paper's below it."""
    ours = f"**{block.cells[env, method]}**" if (env, method) in block.cells else "–"
    if paper is None:
        return ours
    mean, std = paper
    return f"{ours}<br>{rate_text(mean)}" + ("" if std is None else f" ({rate_text(std)})")


def _detail(block: Block, env: str, label: str, method: str) -> list[str]:
    cell = block.cells[env, method]
    low, high = cell.interval
    seeds = ", ".join(f"{one.successes}" for one in cell.judged.values())
    other = block.against(env, method)
    against = "" if other is None else f"{other.only_this} : {other.only_other}, p = {other.p:.1g}"
    return [
        label, label_of(method), f"{cell.successes}/{cell.episodes}",
        f"{rate_text(low)} to {rate_text(high)}", seeds, against,
    ]  # fmt: skip


def _skills(block: Block) -> dict[str, Any] | None:
    """Share of episodes on whose last observation each predicate held."""
    names = [name for name in _SKILLS if any(name in one.last for r in block.results for one in r.judged)]
    rows = []
    for row, method in itertools.product(block.rows, block.methods):
        if (cell := block.cells.get((row.env, method))) is None:
            continue
        held = [one.last for one in cell.judged.values()]
        shares = [
            rate_text(sum(last[name] for last in held) / cell.episodes) if name in held[0] else "–"
            for name in names
        ]
        rows.append([row.label, label_of(method), *shares])
    return {"names": [_SKILLS[name] for name in names], "rows": rows}


def _costs(block: Block, method: str) -> list[list[str]]:
    """What a method was given and took, a line for every kind of place it was trained on."""
    own = [result for result in block.results if result.unit.method == method]
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


def _curve(block: Block, method: str) -> list[str] | None:
    """The last checkpoints of every seed, and when most was learned."""
    own = [one for one in block.results if one.unit.method == method and one.has_curve]
    if not own:
        return None
    rows = [
        f"seed {one.unit.seed}, {one.unit.study}: " + " ".join(str(point.successes) for point in one.curve)
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
    what += ", ".join(CONDITIONS[env] for env in target.envs) + (" (mean)" if len(target.envs) > 1 else "")
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
    env = result.unit.envs[0]
    before, after = before_tuning(result, results), result.of(env)
    first, last = result.online[:50].count("1"), result.online[-50:].count("1")
    return [
        CONDITIONS[env], tuned_label(result), str(result.unit.seed),
        "–" if before is None else f"{before.successes}/{before.episodes}",
        str(len(result.online)), f"{first}/50", f"{last}/50",
        "–" if after is None else f"{after.successes}/{after.episodes}",
        f"[{result.unit.name}]({link}/{result.unit.name}.json)",
    ]  # fmt: skip


def _varied(varied: Varied) -> list[str]:
    against, variation = varied.against, VARIATIONS.get(varied.variation)
    beside = "" if variation is None or variation.against is None else f" `{variation.against}`"
    summary = "" if variation is None else f": {variation.summary}"
    return [
        f"`{varied.variation}`{summary}", label_of(varied.method),
        CONDITIONS[varied.env], f"{varied.cell}",
        "–" if varied.unchanged is None else f"{varied.unchanged}{beside}", str(len(varied.cell.judged)),
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


def _unit(result: Result, link: str) -> list[str]:
    last = result.runs[-1]
    scores = ", ".join(f"{one.successes}/{one.episodes}" for one in result.judged)
    return [
        f"[{result.unit.name}]({link}/{result.unit.name}.json)", f"`{last.run}`",
        f"`{last.mixture}` {last.mixture_digest[:12]}", scores, f"{result.training_seconds / 60:.1f}",
        _trained_on(result), result.code,
    ]  # fmt: skip
