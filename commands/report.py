"""`cog report`: the table and its figures as a page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cogdata.errors import CogError
from commands.shared import RESULTS, Results, Root, open_root, say

if TYPE_CHECKING:
    from cogdata.storage.store import Store
    from trainers.paper.results import Result


def report_command(
    results: Results = RESULTS,
    out: Annotated[Path, typer.Option(help="Page to write; its figures go into a folder beside it.")] = Path(
        "docs/results.md"
    ),
    catalog: Annotated[
        bool,
        typer.Option("--catalog", help="First write the results of the table's judged units in the store."),
    ] = False,
    root: Root = None,
) -> None:
    """Table 1 and its figures as a page, from the files of `cog reproduce` alone, or from the catalog."""
    from trainers.paper.files import read_results
    from trainers.paper.page import write_page
    from trainers.paper.statistics import verdicts

    if root is not None and not catalog:
        raise CogError(f"--root is read with --catalog alone: the page is made from the files in {results}")
    if catalog:
        _results_of_catalog(open_root(root), results)
    found = read_results(results)
    page = write_page(found, results, out)
    tuned = [result for result in found if result.unit.online]
    varied = [result for result in found if result.unit.variant and not result.unit.online]
    for block in page.tables:
        made_by = _made_by(block.results)
        say(f"{block.task}, {block.obs}, preset {block.preset}: {', '.join(block.methods)} · {made_by}")
    for what, others in (("fine-tuned", tuned), ("variations", varied)):
        if others:
            say(f"{what}: {_made_by(others)}")
    judged = verdicts(page.tables)
    decided = [verdict for verdict in judged if verdict.met is not None]
    met = sum(bool(one.met) for one in decided)
    unknown = len(judged) - len(decided)
    rest = f", {unknown} not run" if unknown else ""
    say(f"{met} of {len(decided)} targets met{rest} · {page.file} with {len(page.figures)} figures")


def _made_by(results: Sequence[Result]) -> str:
    """Say which code made how many of these files."""
    counts = Counter(result.code or "unknown code" for result in results)
    total = "file" if len(results) == 1 else "files"
    if len(counts) == 1:
        return f"{len(results)} {total} made by {next(iter(counts))}"
    return f"{len(results)} {total} made by " + ", ".join(f"{code} ({n})" for code, n in counts.most_common())


def _results_of_catalog(store: Store, results: Path) -> None:
    """Write the result of every unit of the table that SQL finds judged; what a file says beyond is kept."""
    from catalog.query import run_query
    from cogdata.storage.runs import read_run
    from trainers.paper.files import write_result
    from trainers.paper.reproduce import result_of_run, unit_of_run

    sql = (
        "select run from runs where method is not null "
        "and run in (select run from evaluations where purpose = 'evaluation') order by created_at desc, run"
    )
    for run in run_query(store, sql).table.column("run").to_pylist():
        unit = unit_of_run(read_run(store, run))
        if unit is None or (results / f"{unit.name}.json").exists():
            continue
        if (result := result_of_run(store, unit, run)) is not None:
            say(str(write_result(results, result)))
