"""`cog eval` and `cog export-policy`: a run evaluated in an environment, or as a file."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cogdata.errors import CogError
from commands.shared import (
    Address,
    EngineName,
    Root,
    Ticker,
    check_success_return,
    open_root,
    options_json,
    rate_of,
    say,
    seed_range,
    update_catalog,
    wants_ray,
    worker_count,
)

if TYPE_CHECKING:
    from cogdata.storage.selection import Selection
    from cogdata.storage.store import Store
    from cogdata.system.cluster import Cluster
    from trainers.evaluation.evaluate import EvalEnv, Evaluation, Policy


def eval_command(
    run: Annotated[str, typer.Argument(help="Run id, as `cog runs ls` prints it.")],
    env: Annotated[
        list[str],
        typer.Option(
            help="Environment id: see `cog list envs`, or module:Class of yours; may be given several times."
        ),
    ],
    episodes: Annotated[
        int | None, typer.Option(help="Number of episodes; else as many as --seeds, or 250.")
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="START:STOP, given to the world's reset.")] = None,
    update: Annotated[
        str | None, typer.Option(help="Which checkpoint, a number or best; else the newest.")
    ] = None,
    workers: Annotated[str, typer.Option(help="Processes: a number, or auto for one per core.")] = "auto",
    record: Annotated[int, typer.Option(help="Record the first N episodes as animated WebP.")] = 0,
    env_option: Annotated[
        list[str] | None,
        typer.Option(help="KEY=VALUE given to an environment of others; may be given several times."),
    ] = None,
    embodiment: Annotated[
        str | None,
        typer.Option(
            help="Which robot it is, where the policy tells several apart; else the environment's id.",
            show_default=False,
        ),
    ] = None,
    success_return: Annotated[
        float | None,
        typer.Option(
            help="An episode is a success if its rewards add up to so much; else the environment says it.",
            show_default=False,
        ),
    ] = None,
    engine: EngineName = "local",
    address: Address = None,
    root: Root = None,
) -> None:
    """Evaluate a run in simulation; every episode becomes a row of `evaluations`."""
    from collectors.drivers import check_name, is_driver
    from trainers.evaluation.during_training import parse_update

    for name in env:
        check_name(name)
    options = options_json(env_option)
    check_success_return(success_return)
    chosen, on_ray = seed_range(seeds, episodes), wants_ray(engine, address, *env)
    if record < 0:
        raise CogError(f"--record is {record}, must be 0 or more")
    store = open_root(root)
    chosen_update = parse_update(store, run, update)
    found = []
    for name in env:
        count = cluster_of(address, workers) if on_ray else worker_count(workers, one_robot=is_driver(name))
        found.append(
            evaluate_run(
                store,
                run,
                name,
                chosen,
                update=chosen_update,
                workers=count,
                record=record,
                options=options,
                success_return=success_return,
                embodiment=embodiment,
            )
        )
    update_catalog(store)
    for evaluation in found:
        _say_all_seeds(store, evaluation)


def _say_all_seeds(store: Store, evaluation: Evaluation) -> None:
    """Say what all evaluations of the checkpoint come to, if there are seeds beside those of this one."""
    if not evaluation.states_success:
        return
    first = evaluation.rows.slice(0, 1).to_pylist()[0]
    try:
        from catalog.summaries import checkpoint_score
    except ModuleNotFoundError:
        return
    with contextlib.suppress(CogError):  # what was evaluated is stored and said: the next command tells more
        won, of = checkpoint_score(store, evaluation.run, first["checkpoint_digest"], first["env"])
        if of > len(evaluation.rows):
            say(
                f"{evaluation.run} @ {first['update']:,} · {first['env']}, all evaluated seeds: "
                f"{rate_of(won, of)}"
            )


def cluster_of(address: str | None, workers: str) -> Cluster:
    """Make the Ray cluster that evaluates."""
    from cogdata.system.cluster import Cluster

    return Cluster(address, None if workers == "auto" else worker_count(workers))


def eval_env_of(
    env: str,
    image_size: int,
    parts: Iterable[str],
    *,
    options: str = "",
    selection: Selection | None = None,
    success_return: float | None = None,
    record: bool = False,
) -> EvalEnv:
    """Where policies are evaluated that look at these features.

    Args:
        env: Environment id, or module:Class.
        image_size: px, square; for environments that take it.
        parts: Features as the policy knows them.
        options: Keyword arguments of the environment, as JSON.
        selection: What the policy's mixture took of its episodes.
        success_return: Sum of rewards that is a success; None: the world says what is.
        record: Whether it shows a camera to record too.

    Raises:
        CogError: It cannot be made, or has no camera.
    """
    from dataclasses import replace

    from cogdata.storage.selection import Selection
    from collectors.checks import facts_of
    from collectors.drivers import WorldKind, takes_image_size
    from trainers.evaluation.evaluate import EvalEnv

    chosen = Selection() if selection is None else selection
    kind = WorldKind(env, image_size if takes_image_size(env) else None, options=options)
    found = EvalEnv(env, kind.open, facts_of(kind).spec, selection=chosen, success_return=success_return)
    origins = [chosen.origin(name, found.episode_spec) for name in parts]
    shown = {one.name for one in origins if one is not None} | ({found.camera} if record else set())
    return replace(found, make=functools.partial(kind.open, tuple(sorted(shown))))


def _selection(store: Store, run: str) -> Selection:
    """What the mixture of a run took of its episodes; if it is gone, everything as it was."""
    from cogdata.storage.manifest import read_info
    from cogdata.storage.runs import read_run
    from cogdata.storage.selection import Selection

    info = read_run(store, run)
    with contextlib.suppress(CogError):
        return read_info(store, f"{info.mixture}@{info.mixture_version}").selection
    return Selection()


def _image_px(store: Store, policy: Policy) -> int:
    """Height of the images to show: of those that the policy looks at, else of those of its mixture."""
    from cogdata.storage.manifest import read_info
    from cogdata.storage.runs import read_run

    if images := policy.learner.spec.obs.images:
        return images[0].shape[0]
    info = read_run(store, policy.run)
    with contextlib.suppress(CogError):  # it may be gone, and only what is recorded has this size then
        return read_info(store, f"{info.mixture}@{info.mixture_version}").camera_size[0]
    return 48


def evaluate_run(
    store: Store,
    run: str,
    env: str,
    seeds: list[int],
    *,
    update: int | None,
    workers: int | Cluster,
    record: int,
    options: str = "",
    success_return: float | None = None,
    embodiment: str | None = None,
) -> Any:  # noqa: ANN401 - an Evaluation, imported lazily
    """Evaluate a run in an environment, keep the rows, and say what came out."""
    from dataclasses import replace

    from cogdata.binding import bind
    from cogdata.display.images import animated_webp, enlarge
    from collectors.checks import check_env
    from collectors.drivers import is_driver, takes_image_size
    from trainers.evaluation.evaluate import evaluate, open_policy, write_evaluation

    policy = open_policy(store, run, update)
    size, spec = _image_px(store, policy), policy.learner.spec
    check_env(env, image_size=size if takes_image_size(env) else None, options=options)
    world = eval_env_of(
        env,
        size,
        spec.shown,
        options=options,
        selection=_selection(store, run),
        success_return=success_return,
        record=record > 0,
    )
    bind(
        spec.obs.features,
        spec.action.feature,
        world.episode_spec,
        env,
        world.selection,
        relative_to=spec.action.relative_to,
    )
    world = replace(world, embodiment=_robot(spec.obs.embodiments, env, embodiment))
    if is_driver(env) and isinstance(workers, int):
        world = replace(world, together=workers)
    ticker = Ticker()
    found = evaluate(
        policy,
        world,
        seeds,
        workers=workers,
        record=record,
        on_progress=lambda done, total, won: ticker.show(lambda: f"{env}: {done}/{total} · {won} succeeded"),
    )
    ticker.clear()
    write_evaluation(store, found)
    say(f"{run} @ {policy.update:,} · {env}: {_outcome(found)}")
    for seed, frames in found.frames.items():
        path = f"runs/{run}/evaluations/{found.name}-seed{seed}.webp"
        store.write_bytes(path, animated_webp(enlarge(frames, 4)))
        say(f"  {store.path(path)}")
    return found


def _robot(known: tuple[str, ...], env: str, said: str | None) -> str | None:
    """Which of the robots that a policy tells apart an environment has; None: it tells none apart."""
    if not known:
        if said is not None:
            raise CogError("--embodiment is for a policy that tells several robots apart: leave it out")
        return None
    if (robot := env if said is None else said) not in known:
        raise CogError(
            f"the policy tells the robots {', '.join(known)} apart: say which one {env} has with --embodiment"
        )
    return robot


def _outcome(found: Evaluation) -> str:
    """The success rate; where nothing states a success, the mean of the returns."""
    if found.states_success:
        return rate_of(found.successes, len(found.rows))
    returns = [value for value in found.rows.column("total_reward").to_pylist() if value is not None]
    mean = f"mean return {sum(returns) / len(returns):.4g}" if returns else "no reward"
    return f"{mean} of {len(found.rows)} episodes; no success is stated, see --success-return"


def export_policy_command(
    run: Annotated[str, typer.Argument(help="Run id, as `cog runs ls` prints it.")],
    format: Annotated[str, typer.Option(help="onnx (for ONNX Runtime) or torch (torch.export).")] = "onnx",
    update: Annotated[
        str | None, typer.Option(help="Which checkpoint, a number or best; else the newest.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="File to write.", show_default="RUN-UPDATE.onnx or .pt2")
    ] = None,
    root: Root = None,
) -> None:
    """Write a policy into one file that runs without this project: observations in, action out."""
    from trainers.evaluation.during_training import parse_update
    from trainers.evaluation.evaluate import open_policy
    from trainers.evaluation.export import SUFFIXES, export_policy

    store = open_root(root)
    policy = open_policy(store, run, parse_update(store, run, update))
    exported = export_policy(policy, format)
    path = out or Path(f"{run}-{policy.update:08d}{SUFFIXES[format]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(exported.data)
    except OSError as error:
        raise CogError(f"cannot write {path} ({error.strerror or error}): name another with --out") from None
    say(f"{path}: {len(exported.data) / 1e6:.1f} MB, update {policy.update:,} of {run}")
    for entry in (*exported.about["inputs"], *exported.about["outputs"]):
        say(f"  {entry['name']}: {entry['dtype']} ({', '.join(map(str, entry['shape']))})")
    if base := exported.about.get("relative_to"):
        say(f"  the action is {base} plus what the policy says, and is not clipped to the bounds of a robot")
    say(f"  tried on random observations: actions differ from the learner's by at most {exported.error:.1g}")
