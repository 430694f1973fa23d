"""`cog runs`: training runs and their evaluations."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from commands.shared import (
    Format,
    Root,
    open_root,
    print_listing,
    print_table,
    rate_of,
    root_option,
    say,
    say_copied,
    update_catalog,
)


def runs_ls(format: Format = "table", root: Root = None) -> None:
    """List runs with the success rate of the newest evaluated checkpoint in each environment."""
    from catalog.output import check_format
    from catalog.summaries import runs_table

    check_format(format)
    empty = "no runs yet: start one with `cog train --mixture place_in_tray`"
    print_listing(runs_table(open_root(root)), format, empty)


def runs_show(run: Annotated[str, typer.Argument(help="Run id.")], root: Root = None) -> None:
    """Show what a run is, how far it came and how each of its checkpoints was evaluated."""
    from dataclasses import asdict

    from catalog.summaries import evaluated_table
    from cogdata.storage.runs import ancestry, read_best, read_state, status_now

    store = open_root(root)
    chain, state = ancestry(store, run), read_state(store, run)
    now = asdict(state) | {"status": status_now(store, run, state.status)} if state else None
    say(json.dumps({"run": asdict(chain[0]), "state": now}, indent=2))
    for child in chain:
        if child.parent is not None:
            parent = next((info for info in chain if info.run == child.parent), None)
            what = (
                f"{parent.algo} on {parent.mixture}@{parent.mixture_version}" if parent else "removed since"
            )
            say(f"{child.run} starts from {child.parent} @ {child.parent_update:,} ({what})")
    if (best := read_best(store, run)) is not None:
        rate = rate_of(best.successes, len(best.seeds))
        say(f"best evaluated: update {best.update:,}, {rate} in {best.env}")
    print_table(evaluated_table(store, run))


def runs_compare(
    a: Annotated[str, typer.Argument(help="Run id.")],
    b: Annotated[str, typer.Argument(help="Run id.")],
    root: Root = None,
) -> None:
    """Compare two runs on the seeds that both were evaluated on, newest evaluated checkpoint of each."""
    from catalog.summaries import compare_runs

    for one in compare_runs(open_root(root), a, b):
        say(
            f"{one.env}, {one.update_a:,} against {one.update_b:,} updates: {rate_of(one.a, one.episodes)} "
            f"against {rate_of(one.b, one.episodes)} on the same seeds; "
            f"only the first {one.only_a}, only the second {one.only_b}, p = {one.p_value:.2g} (McNemar)"
        )


def runs_copy(
    run: Annotated[str, typer.Argument(help="Run id.")],
    to: Annotated[str, typer.Option(help="Store to copy it to: a folder or URL.")],
    root: Root = None,
) -> None:
    """Copy a run, its evaluations and the runs it starts from to another store."""
    from cogdata.storage.transfer import copy_run

    source, target = open_root(root), open_root(to)
    say_copied(copy_run(source, target, run), target)
    update_catalog(target)
    say(f"next: cog runs show {run}{root_option(target.url)}")


def runs_rm(
    run: Annotated[list[str], typer.Argument(help="Run ids.")],
    force: Annotated[bool, typer.Option("--force", help="Even if they were evaluated.")] = False,
    root: Root = None,
) -> None:
    """Remove runs with their checkpoints and evaluations; mixtures and episodes stay."""
    from catalog.runs import remove_runs

    for name, evaluated in remove_runs(open_root(root), run, force=force):
        say(f"{name} removed" + (f", with {evaluated:,} evaluated episodes" if evaluated else ""))
