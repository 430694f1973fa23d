"""`cog collect`: episodes of a policy, or all that a recipe needs."""

from __future__ import annotations

import contextlib
import shlex
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cogdata.errors import CogError, unknown
from commands.shared import (
    INTERRUPTED,
    Address,
    EngineName,
    Root,
    Seed,
    Ticker,
    check_fraction,
    ending_on_request,
    env_options,
    note,
    open_root,
    root_option,
    say,
    wants_ray,
    worker_count,
)

if TYPE_CHECKING:
    from cogdata.storage.store import Store
    from collectors.engines import Engine

SYNC_PAUSE_S = 2.0
"""Least time between two syncs while episodes arrive; a sync that takes long is made less often."""


def collect_command(
    policy: Annotated[
        str | None,
        typer.Option(help="Scripted policy: see `cog list policies`, or module:function of yours."),
    ] = None,
    episodes: Annotated[int | None, typer.Option(help="How many the collection shall hold in all.")] = None,
    env: Annotated[
        str | None,
        typer.Option(
            help="Environment id: see `cog list envs`, or any id of Gymnasium, or module:Class of yours; "
            "else the policy's own."
        ),
    ] = None,
    seed: Seed = 0,
    noise: Annotated[
        float | None,
        typer.Option(help="Standard deviation of the action noise of a script.", show_default="0.2"),
    ] = None,
    workers: Annotated[str, typer.Option(help="Processes: a number, or auto for one per core.")] = "auto",
    image_size: Annotated[
        int | None,
        typer.Option(help="px, square; for environments that take it.", show_default="48"),
    ] = None,
    env_option: Annotated[
        list[str] | None,
        typer.Option(help="KEY=VALUE given to an environment of others; may be given several times."),
    ] = None,
    instruction: Annotated[
        str | None, typer.Option(help="Text that is stored with every episode: what it was asked to do.")
    ] = None,
    horizon: Annotated[
        int | None, typer.Option(help="Actions per episode; else the policy's, or yours if they are fewer.")
    ] = None,
    localize: Annotated[
        str, typer.Option(help="Source of object positions: simulator or camera.")
    ] = "simulator",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, do nothing.")] = False,
    recipe: Annotated[
        str | None, typer.Option("--for", help="Collect all that a recipe needs: see `cog list recipes`.")
    ] = None,
    scale: Annotated[
        float | None, typer.Option(help="Fraction of the paper's episodes; with --for.", show_default="1")
    ] = None,
    on_error: Annotated[
        str,
        typer.Option(
            help="An episode that fails: stop, or skip it and go on. Finished ones are kept, the same "
            "command tries skipped ones again; exit code 1 if any was skipped."
        ),
    ] = "stop",
    engine: EngineName = "local",
    address: Address = None,
    root: Root = None,
) -> None:
    """Let a scripted policy act and store its episodes. The same command again adds only what is missing."""
    from collectors.checks import check_env
    from collectors.collect import plan, request
    from collectors.collect_part import ON_ERROR
    from collectors.drivers import is_driver

    if on_error not in ON_ERROR:
        raise unknown("--on-error", on_error, ON_ERROR)
    wanted = _wanted(policy, env, episodes, recipe, scale)
    options = env_options(env_option)
    if recipe is not None and (options or instruction is not None):
        raise CogError("--for collects what the recipe needs: leave --env-option and --instruction out")
    asked = [
        (
            request(
                who,
                env=where,
                noise=noise,
                root_seed=seed,
                image_size=image_size,
                horizon=horizon,
                localize=localize,
                env_options=options,
                instruction=instruction,
            ),
            many,
        )
        for who, where, many in wanted
    ]
    on_ray = wants_ray(engine, address, *(one.env for one, _ in asked))
    store = open_root(root)
    missing = skipped = 0
    for one, many in asked:
        count = worker_count(workers, one_robot=is_driver(one.env))
        planned = plan(store, one, many)
        missing += planned.missing
        if planned.missing and not (dry_run and is_driver(one.env)):  # a dry run moves no robot
            check_env(
                one.env,
                image_size=one.image_size,
                policy=one.policy,
                localize=one.localize,
                options=one.env_options,
            )
        say(
            f"{one.collection}: {one.policy} in {one.env}, {planned.episodes} episodes wanted, "
            f"{planned.have} there, {planned.missing} to collect in {len(planned.ranges)} parts "
            + ("on Ray" if on_ray else f"with {count} workers")
        )
        if not dry_run:
            chosen = _ray_engine(address, workers, on_error) if on_ray else local_engine(count, on_error)
            skipped += run_collection(store, planned, chosen)
    if skipped:
        raise typer.Exit(1)
    if recipe is not None:
        next_command = f"next: cog train --mixture {recipe}{root_option(root)}"
        say(f"{missing:,} episodes to collect" if dry_run else next_command)


def _wanted(
    policy: str | None, env: str | None, episodes: int | None, recipe: str | None, scale: float | None
) -> list[tuple[str, str | None, int]]:
    """Policy, environment (None: the policy's own) and number of episodes of every collection asked for."""
    if recipe is None:
        if scale is not None:
            raise CogError("--scale is a fraction of what a recipe needs: add --for RECIPE")
        if policy is None or episodes is None:
            raise CogError(
                "say who acts and how many episodes, for example `cog collect --policy weak_grasp --episodes "
                "2000`, or what for: `cog collect --for place_in_tray`"
            )
        return [(policy, env, episodes)]
    if any(value is not None for value in (policy, env, episodes)):
        raise CogError("--for collects what the recipe needs: leave --policy, --env and --episodes out")
    from catalog.recipes import find_recipe

    if scale is not None:
        check_fraction(scale)
    needs = find_recipe(recipe).needs
    return [(need.policy, need.env, need.scaled(1.0 if scale is None else scale)) for need in needs]


def _ray_engine(address: str | None, workers: str, on_error: str) -> Engine:
    from collectors.engines import RayEngine

    return RayEngine(address, None if workers == "auto" else worker_count(workers), on_error)


def local_engine(workers: int, on_error: str = "stop") -> Engine:
    """Make the engine of this machine."""
    from collectors.engines import LocalEngine

    return LocalEngine(workers, on_error)


def run_collection(store: Store, planned: Any, engine: Engine) -> int:  # noqa: ANN401 - a Plan, imported lazily
    """Collect what is planned and bring the catalog up to date; Ctrl-C commits what is done.

    Returns:
        How many episodes failed and were skipped.
    """
    from catalog.index.sync import try_sync
    from cogdata.storage.parts import Commit
    from collectors.collect import prepare
    from collectors.progress import ProgressCounter
    from collectors.provenance import changed_versions

    info = prepare(store, planned.asked, shlex.join(["cog", *sys.argv[1:]]))
    if planned.missing and (changed := changed_versions(info)):
        note(f"warning: {changed}")
    counter, ticker = ProgressCounter(planned), Ticker()
    warned, sync_at = False, time.monotonic() + SYNC_PAUSE_S
    try:
        with ending_on_request(engine.stop) as ending:
            for event in engine(store, planned.asked, planned.ranges):
                counter.add(event)
                ticker.show(counter.line)
                if line := counter.left_out(event):
                    ticker.clear()
                    note(f"warning: {line}")
                if not warned and (warning := counter.warning(info)):
                    ticker.clear()
                    note(f"warning: {warning}")
                    warned = True
                if isinstance(event, Commit) and (began := time.monotonic()) > sync_at and not ending():
                    with contextlib.suppress(
                        CogError
                    ):  # the episodes are safe; the last sync says what is wrong
                        try_sync(store)
                    sync_at = time.monotonic() + max(SYNC_PAUSE_S, 20 * (time.monotonic() - began))
        stopped = ending()
    except KeyboardInterrupt:
        stopped = True
    except CogError:
        with contextlib.suppress(CogError):  # what it says matters more
            try_sync(store)
        raise
    finally:
        ticker.clear()
    try_sync(store)
    if stopped:
        have = planned.have + counter.committed
        rest = "; run the same command again to collect the rest" if have < planned.episodes else ""
        note(f"stopped: {have} of {planned.episodes} episodes of {info.name} are in the store{rest}")
        raise typer.Exit(INTERRUPTED)
    if planned.missing:
        say(f"{counter.line()} · {counter.seconds:.1f} s")
    for line in counter.skips():
        note(line)
    return len(counter.skipped)
