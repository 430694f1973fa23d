"""`cog derive`: features of episodes that exist, by a function of the user's."""

from __future__ import annotations

import re
import shlex
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from cogdata.errors import CogError, unknown
from commands.shared import (
    INTERRUPTED,
    Address,
    EngineName,
    Root,
    Ticker,
    ending_on_request,
    note,
    open_root,
    root_option,
    say,
    update_catalog,
    wants_ray,
    worker_count,
)

if TYPE_CHECKING:
    import pyarrow as pa

    from cogdata.derive.computing import Engine, Job, Plan, RangeDone
    from cogdata.derive.functions import Derivation
    from cogdata.storage.layers.heads import LayerInfo

MOST_NAMED = 10
"""Skipped episodes that are named one by one."""


def derive_command(
    name: Annotated[str, typer.Argument(help="Name of the layer.")],
    fn: Annotated[
        str, typer.Option("--fn", help="module:function, or module:Class, of yours: see docs/layers.md.")
    ],
    where: Annotated[
        str | None,
        typer.Option(
            help="Condition on episodes, or a query that yields episode_id; else all.", show_default=False
        ),
    ] = None,
    version: Annotated[
        str | None, typer.Option(help="new, or a number; else the newest.", show_default=False)
    ] = None,
    shard: Annotated[str, typer.Option(help="I/N: the I-th of N shares of the episodes, from 0.")] = "0/1",
    batch: Annotated[
        int | None,
        typer.Option(help="Most episodes per call of a function that takes a list.", show_default="16"),
    ] = None,
    workers: Annotated[str, typer.Option(help="Processes: a number, or auto for one per core.")] = "1",
    on_error: Annotated[
        str,
        typer.Option(
            help="An episode for which the function fails: stop, or skip it and go on. The same command "
            "tries skipped ones again; exit code 1 if any was skipped."
        ),
    ] = "stop",
    engine: EngineName = "local",
    address: Address = None,
    root: Root = None,
) -> None:
    """Derive features of stored episodes and keep them beside them. The same command adds what is missing."""
    from catalog.episodes import choose_episodes
    from catalog.layers import check_free
    from cogdata.derive.computing import NEEDED, ON_ERROR, Job, plan
    from cogdata.derive.functions import find_function
    from cogdata.derive.versions import choose_version
    from cogdata.storage.layers.heads import create_layer

    if on_error not in ON_ERROR:
        raise unknown("--on-error", on_error, ON_ERROR)
    share, on_ray = _share(shard), wants_ray(engine, address)
    count = None if on_ray and workers == "auto" else worker_count(workers)
    function = find_function(fn)
    size = _batch(function, batch)
    store = open_root(root)
    info = choose_version(store, name, function, version, shlex.join(["cog", *sys.argv[1:]]))
    check_free(store, name, info.features)
    episodes: pa.Table = choose_episodes(store, where, NEEDED)
    planned = plan(store, info, episodes, share)
    say(
        f"{info.ref}: {', '.join(one.name for one in info.features)} by {info.function}, "
        f"{planned.wanted:,} episodes asked for, {planned.have:,} there, {planned.missing:,} to derive "
        + ("on Ray" if on_ray else f"with {count} worker{'s' if count != 1 else ''}")
    )
    job = Job(store, create_layer(store, info), size, on_error)
    if _run(_engine(on_ray, address, count), job, planned):
        raise typer.Exit(1)
    say(f"next: {_next(info)}{root_option(root)}")


def _share(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    if match is None or int(match[1]) >= int(match[2]):
        raise CogError(f"--shard is {text!r}, must be I/N with I below N, for example 0/2 and 1/2")
    return int(match[1]), int(match[2])


def _batch(function: Derivation, asked: int | None) -> int:
    if not function.batched:
        if asked is not None:
            raise CogError(
                f"{function.name} takes one episode: declare it with batched=True, or leave --batch out"
            )
        return 1
    if asked is not None and not 1 <= asked <= 10_000:
        raise CogError(f"--batch is {asked}, must be from 1 to 10,000")
    return 16 if asked is None else asked


def _engine(on_ray: bool, address: str | None, count: int | None) -> Engine:
    if on_ray:
        from cogdata.system.cluster import Cluster

        return Cluster(address, count)
    from cogdata.system.workers import Workers

    return Workers(count or 1)


def _run(engine: Engine, job: Job, planned: Plan) -> int:
    """Derive what is planned and bring the catalog up to date; Ctrl-C commits what is done.

    Returns:
        How many episodes were skipped.
    """
    from cogdata.derive.computing import derive

    store, info = job.store, job.info
    store.sweep(info.folder)
    ticker = Ticker()
    done: list[RangeDone] = []
    try:
        with ending_on_request(engine.stop) as ending:
            for one in derive(engine, job, planned.ranges):
                done.append(one)
                ticker.show(lambda: _line(info, planned, done))
        stopped = ending()
    except KeyboardInterrupt:
        stopped = True
    finally:
        ticker.clear()
        update_catalog(store)
    if stopped:
        note(f"stopped: {_line(info, planned, done)}; run the same command again to derive the rest")
        raise typer.Exit(INTERRUPTED)
    say(_line(info, planned, done))
    failed = [pair for one in done for pair in one.failed]
    if failed:
        note(f"{info.function} failed for {len(failed)} episodes; the same command tries them again")
    for name, why in failed[:MOST_NAMED]:
        note(f"  {name}: {why}")
    if len(failed) > MOST_NAMED:
        note(f"  and {len(failed) - MOST_NAMED} more")
    return len(failed)


def _line(info: LayerInfo, planned: Plan, done: list[RangeDone]) -> str:
    derived, others = sum(one.derived for one in done), sum(one.there for one in done)
    more = f", {others:,} by other processes meanwhile" if others else ""
    have = planned.have + derived + others
    return f"{info.ref}: {have:,} of {planned.wanted:,} episodes, {derived:,} of them derived now{more}"


def _next(info: LayerInfo) -> str:
    first = info.features[0]
    view = "episodes" if first in info.per_episode else "steps"
    keys = "episode_id" if view == "episodes" else "episode_id, t"
    return f'cog query "select {keys}, {first.name} from {view}" --limit 5'
