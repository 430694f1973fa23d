"""The command line: composes the packages, prints, and turns every bad input into one clear line."""

from __future__ import annotations

import contextlib
import json
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cogdata.errors import CogError

if TYPE_CHECKING:
    from cogdata.store import Store

app = typer.Typer(
    name="cog",
    help="Robot-learning data made usable: collect, query, mix, train, judge. Everything is rows that SQL reaches.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="What the store holds, and whether it is whole.", no_args_is_help=True)
mix_app = typer.Typer(
    help="Frozen mixtures: list, show, compare, freeze again, remove.", no_args_is_help=True
)
runs_app = typer.Typer(help="Training runs and their evaluations.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.add_typer(mix_app, name="mix")
app.add_typer(runs_app, name="runs")

Root = Annotated[
    str | None, typer.Option("--root", help="Store: a folder or URL; else $COG_ROOT, else ./cog-store")
]
Seed = Annotated[int, typer.Option(help="Root of every random stream.")]

INTERRUPTED = 130


# --- printing --------------------------------------------------------------------------------------------


def say(text: str = "") -> None:
    """Print a result line on stdout."""
    typer.echo(text)


def note(text: str) -> None:
    """Print a remark on stderr, where it cannot end up in a result."""
    typer.echo(text, err=True)


class Ticker:
    """One live line on a terminal; on a pipe or in a log a line every ``every`` seconds."""

    def __init__(self, every: float = 10.0) -> None:
        self._live = sys.stderr.isatty()
        self._every = 0.2 if self._live else every
        self._next = time.monotonic() + (0 if self._live else every)

    def show(self, text: Callable[[], str]) -> None:
        """Show a line if it is time to."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + self._every
        typer.echo(f"\r\x1b[2K{text()}" if self._live else text(), nl=not self._live, err=True)

    def clear(self) -> None:
        """Leave the terminal line empty for what comes next."""
        if self._live:
            typer.echo("\r\x1b[2K", nl=False, err=True)


def _store(root: str | None) -> Store:
    from cogdata.store import open_store

    return open_store(root)


# --- collect ---------------------------------------------------------------------------------------------


@app.command("collect")
def collect_command(
    policy: Annotated[str, typer.Option(help="Who acts: see `cog list policies`.")],
    episodes: Annotated[int, typer.Option(help="How many the collection shall hold in all.")],
    env: Annotated[
        str | None, typer.Option(help="Where: see `cog list envs`; else the policy's own.")
    ] = None,
    seed: Seed = 0,
    noise: Annotated[float, typer.Option(help="Standard deviation of the action noise.")] = 0.2,
    workers: Annotated[str, typer.Option(help="Processes: a number, or auto for one per core.")] = "auto",
    image_size: Annotated[int, typer.Option(help="px, square.")] = 48,
    horizon: Annotated[int | None, typer.Option(help="Actions per episode; else the policy's own.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, do nothing.")] = False,
    root: Root = None,
) -> None:
    """Let a scripted policy act; episodes land in the store. The same command again fills in what is missing."""
    from collectors.collect import plan, request

    asked = request(policy, env=env, noise=noise, root_seed=seed, image_size=image_size, horizon=horizon)
    count = _workers(workers)
    store = _store(root)
    planned = plan(store, asked, episodes)
    say(
        f"{asked.collection}: {asked.policy} in {asked.env}, {planned.episodes} episodes wanted, "
        f"{planned.have} there, {planned.missing} to collect in {len(planned.ranges)} parts with {count} workers"
    )
    if not dry_run:
        _collect(store, planned, count)


def _workers(text: str) -> int:
    from collectors.engines import usable_cores

    if text == "auto":
        return usable_cores()
    try:
        count = int(text)
    except ValueError:
        count = 0
    if count < 1:
        raise CogError(f"--workers is {text}, must be a whole number of at least 1, or auto")
    return count


def _collect(store: Store, planned: Any, workers: int) -> None:  # noqa: ANN401 - a Plan, imported lazily
    from catalog.sync import sync
    from cogdata.parts import Commit
    from collectors.collect import prepare
    from collectors.engines import LocalEngine
    from collectors.tally import Tally

    info = prepare(store, planned.asked, shlex.join(["cog", *sys.argv[1:]]))
    tally, ticker, warned, synced = Tally(planned), Ticker(), False, time.monotonic()
    try:
        for event in LocalEngine(workers)(store, planned.asked, planned.ranges):
            tally.add(event)
            ticker.show(tally.line)
            if not warned and (warning := tally.warning(info)):
                ticker.clear()
                note(f"warning: {warning}")
                warned = True
            if isinstance(event, Commit) and time.monotonic() - synced > 2:
                sync(store)
                synced = time.monotonic()
    except KeyboardInterrupt:
        ticker.clear()
        sync(store)
        note(
            f"stopped: {planned.have + tally.committed} of {planned.episodes} episodes are in the store; "
            f"run the same command again to collect the rest"
        )
        raise typer.Exit(INTERRUPTED) from None
    finally:
        ticker.clear()
    sync(store)
    if planned.missing:
        say(f"{tally.line()} · {tally.seconds:.1f} s")
