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
    from trainers.paper.statistics import ResultTable


def report_command(
    results: Results = RESULTS,
    out: Annotated[Path, typer.Option(help="Page to write; its figures go into a folder beside it.")] = Path(
        "docs/results.md"
    ),
    catalog: Annotated[
        bool,
        typer.Option(
            "--catalog", help="First write the results of the table's experiments evaluated in the store."
        ),
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
    _say_code(page.tables, found)
    compared = verdicts(page.tables)
    decided = [verdict for verdict in compared if verdict.met is not None]
    met = sum(bool(one.met) for one in decided)
    unknown = len(compared) - len(decided)
    rest = f", {unknown} not run" if unknown else ""
    say(f"{met} of {len(decided)} targets met{rest} · {page.file} with {len(page.figures)} figures")


def _say_code(tables: Sequence[ResultTable], results: Sequence[Result]) -> None:
    """Say of every group of files which code made it."""
    for table in tables:
        made_by = _made_by(table.results)
        say(f"{table.task}, {table.obs}, preset {table.preset}: {', '.join(table.methods)} · {made_by}")
    tuned = [result for result in results if result.experiment.online]
    ablated = [result for result in results if result.experiment.change and not result.experiment.online]
    for what, group in (("fine-tuned", tuned), ("ablations", ablated)):
        if group:
            say(f"{what}: {_made_by(group)}")


def _made_by(results: Sequence[Result]) -> str:
    """Say which code made how many of these files."""
    counts = Counter(result.code or "unknown code" for result in results)
    total = "file" if len(results) == 1 else "files"
    if len(counts) == 1:
        return f"{len(results)} {total} made by {next(iter(counts))}"
    return f"{len(results)} {total} made by " + ", ".join(f"{code} ({n})" for code, n in counts.most_common())


def _results_of_catalog(store: Store, results: Path) -> None:
    """Write the results of the table's experiments that SQL finds evaluated, those without a file."""
    from catalog.query import run_query
    from cogdata.storage.runs import read_run
    from trainers.paper.files import write_result
    from trainers.paper.identify import experiment_of_run
    from trainers.paper.reproduce import result_of_run

    sql = (
        "select run from runs where method is not null "
        "and run in (select run from evaluations where purpose = 'evaluation') order by created_at desc, run"
    )
    for run in run_query(store, sql).table.column("run").to_pylist():
        experiment = experiment_of_run(read_run(store, run))
        if experiment is None or (results / f"{experiment.name}.json").exists():
            continue
        if (result := result_of_run(store, experiment, run)) is not None:
            say(str(write_result(results, result)))
