"""`cog train`: learning from a mixture."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from cogdata.errors import CogError
from cogdata.system.machine import OtherPrograms
from commands.requests import (
    all_seeds,
    as_toml,
    check_eval_schedule,
    check_updates,
    eval_schedule_of,
    frozen_portion,
    resumed_stage,
    stages_of,
)
from commands.shared import (
    CLI,
    INTERRUPTED,
    Root,
    Ticker,
    ending_on_request,
    frozen_mixture,
    note,
    open_root,
    rate_of,
    say,
    update_catalog,
)

if TYPE_CHECKING:
    from cogdata.storage.manifest import Manifest
    from cogdata.storage.runs import RunState
    from cogdata.storage.store import Store
    from cogdata.streaming.stream import Stream, StreamOptions
    from trainers.evaluation.during_training import EvalSchedule
    from trainers.training.ranks import Ranks
    from trainers.training.request import TrainRequest
    from trainers.training.settings import TrainSettings
    from trainers.training.train import OpenStream, OpenTensors, Progress

CROWDED: Final = 0.5
"""Cores more than the machine has, from which on threads that wait at full power are in each other's way."""


def train_command(
    mixture: Annotated[
        str | None, typer.Option(help="NAME or NAME@VERSION, or a recipe: `cog list recipes`.")
    ] = None,
    algo: Annotated[str | None, typer.Option(help="See `cog list algorithms`.", show_default="bfn")] = None,
    obs: Annotated[
        str | None,
        typer.Option(
            help="image, image+robot, state, or names of features: camera_wrist,joints.",
            show_default="image+robot",
        ),
    ] = None,
    preset: Annotated[str | None, typer.Option(help="fast or paper.", show_default="fast")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE of the configuration.")] = None,
    updates: Annotated[int | None, typer.Option(help="Total gradient updates.")] = None,
    seed: Annotated[int | None, typer.Option(help="Root of every random stream.", show_default="0")] = None,
    seeds: Annotated[
        str | None, typer.Option(help="START:STOP: a run for each seed, all at once, sharing the cores.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda …", show_default="auto")] = None,
    threads: Annotated[int | None, typer.Option(help="torch threads; else one per core.")] = None,
    memory: Annotated[
        str | None, typer.Option(help="Budget of the frame pool; else half the machine's.")
    ] = None,
    resume: Annotated[
        str | None, typer.Option(help="Go on with this run, as it was begun; only --updates may differ.")
    ] = None,
    from_: Annotated[
        str | None,
        typer.Option("--from", help="Start from the weights of RUN, RUN@UPDATE or RUN@best; else fresh."),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(help="Instead of --algo: all stages of one of `cog list methods`, run by run."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="TOML file with these options and a table [set]. Command-line options override the file. "
            "If --algo or --method differs from the file, its [set] table is ignored."
        ),
    ] = None,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print all settings as such a file, do nothing.")
    ] = False,
    eval_env: Annotated[
        str | None,
        typer.Option(help="Evaluate checkpoints there during training: see `cog eval --update best`."),
    ] = None,
    eval_every: Annotated[
        int | None, typer.Option(help="Updates from one evaluation to the next.", show_default="1000")
    ] = None,
    eval_episodes: Annotated[
        int | None, typer.Option(help="Episodes of each evaluation.", show_default="20")
    ] = None,
    success_return: Annotated[
        float | None,
        typer.Option(
            help="Sum of rewards that is a success there; else the environment says it.", show_default=False
        ),
    ] = None,
    guard: Annotated[
        str | None,
        typer.Option(
            help="LINES[:MARGIN] of metrics with impossible values that stop a run, or off.",
            show_default="20:0.1",
        ),
    ] = None,
    log: Annotated[
        list[str] | None, typer.Option(help="wandb or trackio, beside TensorBoard; may be given twice.")
    ] = None,
    pool: Annotated[
        str | None, typer.Option(help="host, or device: all frames on the accelerator.", show_default="host")
    ] = None,
    root: Root = None,
) -> None:
    """Learn from a mixture. The same command again goes on where it was stopped."""
    from trainers.training.settings import TrainSettings, read_settings

    typed = TrainSettings(
        mixture=mixture,
        method=method,
        algo=algo,
        preset=preset,
        obs=obs,
        seed=seed,
        seeds=seeds,
        updates=updates,
        device=device,
        threads=threads,
        memory=memory,
        from_=from_,
        eval_env=eval_env,
        eval_every=eval_every,
        eval_episodes=eval_episodes,
        success_return=success_return,
        guard=guard,
        log=tuple(log) if log else None,
        pool=pool,
        set=tuple(set_ or ()),
    )
    settings = typed if config is None else read_settings(config).under(typed)
    store = open_root(root)
    if resume is None and settings.mixture is None:
        raise CogError("name a mixture with --mixture, or a run to go on with by --resume")
    check_updates(settings.updates)
    check_eval_schedule(settings)
    if resume is not None:
        stages, ref = resumed_stage(store, settings, typed, resume)
    else:
        stages, ref = stages_of(store, settings), settings.mixture or ""
    if print_config:
        if resume is not None and (part := stages[0][0].method) is not None:
            raise CogError(f"run {resume!r} is a stage of a method: print the settings of --method {part}")
        say(as_toml(store, settings, stages, ref).rstrip())
    elif settings.seeds is not None:
        _train_seeds(store, settings, stages, ref)
    else:
        train_stages(store, settings, stages, ref)


def _train_seeds(
    store: Store, settings: TrainSettings, stages: list[tuple[TrainRequest, str]], mixture: str
) -> None:
    """Train a run for each seed, all at once: processes that share the store and nothing else."""
    import tempfile
    from dataclasses import replace

    from cogdata.storage.manifest import read_manifest
    from cogdata.streaming.footprint import check_memory
    from cogdata.streaming.stream import StreamOptions
    from cogdata.system.subprocesses import Commands
    from trainers.obs_kinds import select_from

    seeds = all_seeds(settings)
    whole = frozen_mixture(store, mixture)
    for request, portion in stages:
        manifest = read_manifest(store, frozen_portion(store, whole, portion))
        columns = tuple(one.name for one in select_from(request.obs, manifest.info))
        options = StreamOptions(request.config.batch_size, columns=columns, memory_bytes=request.memory_bytes)
        check_memory(manifest, options, copies=len(seeds))
        eval_schedule_of(settings, request, manifest)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "settings.toml"
        file.write_text(as_toml(store, replace(settings, seeds=None), stages, whole))
        same = [sys.executable, CLI, "train", "--config", str(file), "--root", store.url]
        with (
            Commands({f"seed {seed}": [*same, "--seed", str(seed)] for seed in seeds}) as commands,
            ending_on_request(commands.stop) as ending,
        ):
            for line in commands.lines():
                (say if line.result else note)(f"{line.name}: {line.text}")
            codes = commands.codes()
    failed = [name for name, code in codes.items() if code not in (0, INTERRUPTED)]
    if failed and not ending():
        raise CogError(f"{', '.join(failed)} failed as said above, the others did not: see `cog runs ls`")
    if ending() or INTERRUPTED in codes.values():
        raise typer.Exit(INTERRUPTED)


def train_stages(
    store: Store,
    settings: TrainSettings,
    stages: list[tuple[TrainRequest, str]],
    mixture: str,
) -> str:
    """Train runs one after another, each from where the one before it ended; returns the last one."""
    from cogdata.storage.manifest import read_manifest
    from trainers.checkpoint import list_checkpoints
    from trainers.training.ranks import ranks_of_torchrun
    from trainers.training.start import from_run

    again = None if settings.method is None else "the same command"
    ended: str | None = None
    with ranks_of_torchrun(stages[0][0].device) as ranks, _speaking(ranks.first):
        if not ranks.first:
            ranks.wait()  # until the first one has frozen what is not frozen yet
        whole = frozen_mixture(store, mixture)
        manifests = [read_manifest(store, frozen_portion(store, whole, portion)) for _, portion in stages]
        if ranks.first:
            ranks.wait()
        for (request, _), manifest in zip(stages, manifests, strict=True):
            begun = request if ended is None else from_run(store, request, ended)
            schedule = eval_schedule_of(settings, begun, manifest)
            run, done = train_run(store, manifest, begun, schedule=schedule, ranks=ranks, again=again)
            ranks.wait()  # until its last checkpoint has been written
            wanted = begun.config.updates  # one that is longer already is begun from where it was so long
            ended = f"{run}@{wanted if wanted in list_checkpoints(store, run) else done}"
    return run


@contextlib.contextmanager
def _speaking(aloud: bool) -> Iterator[None]:
    """Print in this block, or let another process say the same."""
    if aloud:
        yield
        return
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def train_run(
    store: Store,
    manifest: Manifest,
    request: TrainRequest,
    *,
    schedule: EvalSchedule | None = None,
    ranks: Ranks | None = None,
    again: str | None = None,
) -> tuple[str, int]:
    """Train a run, or go on with it; ``again`` goes on with it after Ctrl-C, else ``--resume``.

    Returns:
        The run, and the updates that it has: more than were asked for if it was longer already.
    """
    from trainers.training.ranks import Ranks
    from trainers.training.train import train

    run, before = _say_begin(store, manifest, request)
    report = _Report(request)
    try:
        _, state = train(
            store,
            manifest,
            request,
            open_stream=_opener(store, manifest, request),
            on_progress=report.show,
            schedule=schedule,
            ranks=ranks or Ranks(),
        )
    finally:
        report.ticker.clear()
        if ranks is None or ranks.first:
            update_catalog(store)
    _say_end(store, run, state, before, again)
    if schedule is not None:
        _say_best(store, run)
    return run, state.updates_done


def _say_begin(store: Store, manifest: Manifest, request: TrainRequest) -> tuple[str, int]:
    """Print what is going to be trained; return the run and the updates that it has already."""
    from cogdata.storage.runs import read_state
    from trainers.training.request import run_id

    run = run_id(manifest, request)
    note(
        f"run {run} on {manifest.info.ref}: {request.config.updates:,} updates of {request.config.batch_size}"
    )
    if manifest.info.selection.take is None:
        for name, why in manifest.info.left_out.items():
            note(f"{manifest.info.ref} leaves out {name}, which {why}")
    found = read_state(store, run)
    before = found.updates_done if found else 0
    if 0 < before < request.config.updates:
        note(f"going on from the checkpoint at {before:,} updates")
    return run, before


def _opener(store: Store, manifest: Manifest, request: TrainRequest) -> OpenStream | OpenTensors:
    """Return what opens the batches: on the host, or on the accelerator."""
    from cogdata.streaming.footprint import check_memory
    from cogdata.streaming.stream import open_stream
    from trainers.training.resident import ResidentStream

    def opened(options: StreamOptions) -> Stream:
        check_memory(manifest, options)
        return open_stream(store, manifest, options, note)

    def opened_there(options: StreamOptions) -> ResidentStream:
        return ResidentStream(opened(options), request.device)

    return opened_there if request.pool == "device" else opened


def _say_best(store: Store, run: str) -> None:
    """Print the best checkpoint of those evaluated during training."""
    from cogdata.storage.runs import read_best

    if (best := read_best(store, run)) is not None:
        rate = rate_of(best.successes, len(best.seeds))
        say(f"  best evaluated: update {best.update:,}, {rate} in {best.env}")


def _say_end(store: Store, run: str, state: RunState, before: int, again: str | None) -> None:
    """Print how a training ended; leave the command if it was stopped."""
    if state.status == "stopped":
        command = again or f"cog train --resume {run} --root {store.url}"
        note(f"stopped after {state.updates_done:,} updates; go on with: {command}")
        raise typer.Exit(INTERRUPTED)
    already = " already" if before >= state.updates_done else ""
    say(f"{run}: {state.updates_done:,} updates in {state.seconds:.0f} s{already}")


class _Report:
    """What a training run prints while it goes on."""

    def __init__(self, request: TrainRequest) -> None:
        self.ticker = Ticker()
        self._crowd = Crowd(request)

    def show(self, progress: Progress) -> None:
        """Print remarks, warnings and evaluations once, and the progress line when it is due."""
        if line := self._crowd.remark():
            self._note(line)
        if progress.warning:
            self._note(f"warning: {progress.warning}")
        if found := progress.evaluated:
            self._note(
                f"evaluated at {found.update:,} updates: {found.env} "
                f"{rate_of(found.successes, len(found.seeds))}"
            )
        self.ticker.show(lambda: _progress_line(progress))

    def _note(self, line: str) -> None:
        self.ticker.clear()
        note(line)


class Crowd:
    """Other programs that keep the cores of a run's threads; remarked on once."""

    def __init__(self, request: TrainRequest) -> None:
        self._threads = request.threads if request.device == "cpu" else 1
        self._others = OtherPrograms()
        self._said = False

    def remark(self) -> str | None:
        """Return a line with what to do about it, the first time that there is something to say."""
        if self._said or self._threads < 2 or os.environ.get("OMP_WAIT_POLICY", "").upper() == "PASSIVE":
            return None
        others, cores = self._others.cores(), os.cpu_count() or 1
        if others is None or others + self._threads < cores + CROWDED:
            return None
        self._said = True
        return (
            f"other programs keep {others:.1f} of {cores} cores busy: {self._threads} threads wait for each "
            f"other there; another run is faster with --threads 1"
        )


def _progress_line(progress: Any) -> str:  # noqa: ANN401 - a Progress, imported lazily
    metrics = " · ".join(f"{name} {value:.4g}" for name, value in list(progress.metrics.items())[:5])
    return (
        f"{progress.update:,}/{progress.updates:,} updates · {progress.updates_per_s:.1f}/s · "
        f"{progress.seconds_left:.0f} s left · waiting {progress.loader_wait:.0%} · {metrics}"
    )
