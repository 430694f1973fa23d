"""`cog finetune`: going on online."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cogdata.errors import CogError
from commands.requests import _bytes, device_of
from commands.shared import (
    INTERRUPTED,
    Root,
    Ticker,
    ending_on_request,
    natural,
    note,
    open_root,
    options_json,
    or_default,
    say,
    update_catalog,
    worker_count,
)

if TYPE_CHECKING:
    from cogdata.storage.manifest import Manifest
    from cogdata.storage.runs import RunInfo
    from cogdata.storage.store import Store
    from cogdata.streaming.stream import Stream, StreamOptions
    from trainers.finetuning.finetune import FinetuneContext, FinetuneProgress
    from trainers.training.online import OnlineEnv
    from trainers.training.request import TrainRequest


def finetune_command(
    run: Annotated[str, typer.Argument(help="RUN, RUN@UPDATE or RUN@best to go on from.")],
    env: Annotated[str, typer.Option(help="Environment id: see `cog list envs`, or module:Class of yours.")],
    episodes: Annotated[int, typer.Option(help="How many the run shall collect in all.")],
    algo: Annotated[
        str | None,
        typer.Option(help="Another algorithm, started from the run's weights.", show_default="its own"),
    ] = None,
    data: Annotated[
        str, typer.Option(help="online, or symmetric: half of every batch from the run's mixture.")
    ] = "symmetric",
    updates_per_step: Annotated[float, typer.Option(help="Gradient updates per action.")] = 1.0,
    round_: Annotated[
        int, typer.Option("--round", help="Episodes between two stretches of updates, up to 16.")
    ] = 10,
    preset: Annotated[
        str | None, typer.Option(help="fast or paper, with --algo.", show_default="fast")
    ] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE of the configuration.")] = None,
    seed: Annotated[
        int | None, typer.Option(help="Root of every random stream.", show_default="the run's")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda …")] = "auto",
    threads: Annotated[int | None, typer.Option(help="torch threads; else one per core.")] = None,
    memory: Annotated[
        str | None, typer.Option(help="Budget of the frame pool of the mixture; else half the machine's.")
    ] = None,
    workers: Annotated[str, typer.Option(help="Processes: a number, or auto for one per core.")] = "auto",
    env_option: Annotated[
        list[str] | None,
        typer.Option(help="KEY=VALUE given to an environment of others; may be given several times."),
    ] = None,
    root: Root = None,
) -> None:
    """Go on learning from episodes that the policy itself collects. The same command again resumes it."""
    from cogdata.storage.manifest import read_manifest
    from cogdata.storage.runs import read_run
    from cogdata.streaming.stream import default_memory
    from cogdata.system.machine import usable_cores
    from collectors.drivers import is_driver
    from trainers.training.online import Online
    from trainers.training.ranks import ranks_here
    from trainers.training.request import TrainRequest
    from trainers.training.start import from_run, parse_run

    if ranks_here() > 1:
        raise CogError("fine-tuning takes one process: type `cog finetune …` without torchrun")
    store = open_root(root)
    theirs = read_run(store, parse_run(run)[0])
    manifest = read_manifest(store, f"{theirs.mixture}@{theirs.mixture_version}")
    count = worker_count(workers, one_robot=is_driver(env))
    online_env, horizon = online_env_of(env, image_px(manifest), count, options_json(env_option))
    chosen, preset, config = finetuned_config(theirs, algo, preset, set_ or [])
    online = Online(env, episodes, horizon, data, updates_per_step, round_, continues=chosen == theirs.algo)
    request = TrainRequest(
        chosen,
        config,
        preset,
        theirs.obs,
        natural("--seed", theirs.seed if seed is None else seed),
        device_of(device),
        usable_cores() if threads is None else threads,
        default_memory() if memory is None else _bytes(memory),
        online=online,
    )
    begin_finetune(store, manifest, from_run(store, request, run), online_env, horizon, count)


def begin_finetune(
    store: Store, manifest: Manifest, request: TrainRequest, online_env: OnlineEnv, horizon: int, workers: int
) -> str:
    """Fine-tune, or go on with it; returns the run."""
    from collectors.provenance import describe_learned
    from trainers.finetuning.finetune import FinetuneContext
    from trainers.training.request import run_id

    run = run_id(manifest, request)
    head = describe_learned(
        run,
        online_env.env,
        root_seed=request.seed,
        spec=online_env.episode_spec,
        horizon=horizon,
        command=shlex.join(["cog", *sys.argv[1:]]),
    )
    context = FinetuneContext(
        online_env, head, _opening(store, manifest, _online_memory(store, request)), workers
    )
    _finetune(store, manifest, request, context)
    return run


def finetuned_config(
    theirs: RunInfo, algo: str | None, preset: str | None, overrides: list[str]
) -> tuple[str, str, Any]:
    """Algorithm, preset and configuration: the run's own, or another's with the same policy network."""
    from trainers.algos import config_from_dict, configure
    from trainers.training.start import same_policy

    named = {pair.partition("=")[0].strip() for pair in overrides}
    if "updates" in named:
        raise CogError("--set updates is not for `cog finetune`: --episodes and --updates-per-step decide it")
    if "decay" in named:
        raise CogError(
            "--set decay is not for `cog finetune`: learning rates fall over a run of settled length"
        )
    if algo is None or algo == theirs.algo:
        if preset is not None:
            raise CogError(
                "--preset is of another algorithm: add --algo, or change single settings with --set"
            )
        config = config_from_dict(theirs.algo, theirs.config)
        steady = ["decay=0"] if hasattr(config, "decay") else []
        return theirs.algo, theirs.preset, config.override([*steady, *overrides])
    preset = or_default(preset, "fast")
    shared = same_policy(theirs.algo, theirs.config, algo)
    return algo, preset, configure(algo, preset, [*shared, *overrides])


def online_env_of(env: str, image_size: int, workers: int, options: str = "") -> tuple[OnlineEnv, int]:
    """Where a learner collects, and the horizon there."""
    from collectors.checks import check_env, facts_of
    from collectors.drivers import WorldKind, is_driver, takes_image_size
    from trainers.evaluation.worlds import WORLDS
    from trainers.training.online import OnlineEnv

    kind = WorldKind(env, image_size if takes_image_size(env) else None, options=options)
    if unstored := check_env(env, image_size=kind.image_size, options=options):
        note(f"warning: {', '.join(f'info[{name!r}]' for name in unstored)} of {env} is not stored")
    facts = facts_of(kind)
    together = workers if is_driver(env) else WORLDS
    return OnlineEnv(env, kind.open, facts.task, facts.spec, together), facts.horizon


def image_px(manifest: Manifest) -> int:
    """Height of the first camera of a mixture, which worlds that take a size are made with; else 48."""
    cameras = [one.shape[0] for one in manifest.info.spec.observations if one.is_image]
    return cameras[0] if cameras else 48


def _online_memory(store: Store, request: TrainRequest) -> int:
    """Bytes that a run's own episodes will take; says so if they are many, refuses if too many."""
    from cogdata.system.machine import free_memory
    from trainers.checkpoint import read_info
    from trainers.finetuning.finetune import online_of
    from trainers.finetuning.replay import Replay
    from trainers.training.start import parent_of

    spec = read_info(store, parent_of(request), request.parent_update).spec
    online, free = online_of(request), free_memory()
    needed = Replay.needs_bytes(spec, online.frames)
    said = (
        f"{online.episodes:,} episodes of {online.horizon} steps take up to {needed / 1e9:.1f} GB of memory"
    )
    if free is not None and needed > free:
        raise CogError(
            f"{said}, {free / 1e9:.1f} GB are free: ask for fewer --episodes, or stop something else"
        )
    if needed > 10**8:
        note(said)
    return needed


def _opening(store: Store, manifest: Manifest, beside: int) -> Callable[[StreamOptions], Stream]:
    """Open a mixture's batches if they fit into memory beside what else is there."""
    from cogdata.streaming.footprint import footprint
    from cogdata.streaming.stream import open_stream
    from cogdata.system.machine import free_memory

    def opened(options: StreamOptions) -> Stream:
        needed, free = sum(footprint(manifest, options)) + beside, free_memory()
        if free is not None and needed > free:
            raise CogError(
                f"the mixture's pool and the run's own episodes take {needed / 1e9:.1f} GB, "
                f"{free / 1e9:.1f} GB are free: give --memory, fewer --episodes or --data online"
            )
        return open_stream(store, manifest, options, note)

    return opened


def _finetune(store: Store, manifest: Manifest, request: TrainRequest, context: FinetuneContext) -> None:
    from dataclasses import replace

    from cogdata.storage.collections import read_collection
    from cogdata.storage.parts import list_parts, part_range
    from collectors.provenance import changed_versions
    from trainers.finetuning.finetune import finetune, online_of

    run, online, ticker = context.head.name, online_of(request), Ticker()
    note(
        f"run {run} from {request.parent} @ {request.parent_update:,}: {online.episodes:,} episodes in "
        f"{online.env}"
    )
    began = store.exists(f"collections/{run}/collection.json")
    changed = changed_versions(read_collection(store, run)) if began else None

    def show(at: FinetuneProgress) -> None:
        nonlocal changed
        if changed and at.steps_per_s is not None:  # episodes were added
            ticker.clear()
            note(f"warning: {changed}")
            changed = None
        ticker.show(lambda: _online_line(at))

    try:
        with ending_on_request(lambda: None) as asked:
            context = replace(context, stop_asked=asked, on_progress=show)
            _, state = finetune(store, manifest, request, context)
    finally:
        ticker.clear()
        update_catalog(store)
    if state.status == "stopped":
        note(f"stopped after {state.updates_done:,} updates; go on with: the same command")
        raise typer.Exit(INTERRUPTED)
    held = max(part_range(part)[1] for part in list_parts(store, run))
    say(f"{run}: {held:,} episodes, {state.updates_done:,} updates in {state.seconds:.0f} s")


def _online_line(at: FinetuneProgress) -> str:
    parts = [f"{at.episodes:,}/{at.of:,} episodes", f"{at.update:,} updates"]
    if at.recent is not None:
        parts.insert(1, f"the newest succeed {at.recent:.0%}")
    if at.steps_per_s is not None:
        parts.append(f"{at.steps_per_s:.0f} steps/s")
    if at.updates_per_s is not None:
        parts.append(f"{at.updates_per_s:.1f} updates/s")
    return " · ".join(parts)
