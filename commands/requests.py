"""From the settings of `cog train` to the runs that they ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cogdata.errors import CogError
from commands.evaluate import eval_env_of
from commands.shared import check_success_return, countable, natural, note, or_default, seed_range

if TYPE_CHECKING:
    from cogdata.storage.manifest import Manifest
    from cogdata.storage.store import Store
    from trainers.evaluation.during_training import EvalSchedule
    from trainers.training.request import TrainRequest
    from trainers.training.settings import TrainSettings


def all_seeds(settings: TrainSettings) -> list[int]:
    """The seeds of runs that are trained at once."""
    from cogdata.system.machine import usable_cores
    from trainers.training.ranks import ranks_here

    if settings.seed is not None:
        raise CogError("--seeds are several, --seed is one: leave one of them out")
    if ranks_here() > 1:
        raise CogError("--seeds trains several runs, torchrun several processes of one run: use one of them")
    seeds, most = seed_range(settings.seeds, None), 4 * usable_cores()
    if len(seeds) > most:
        raise CogError(
            f"--seeds {settings.seeds} are {len(seeds)} runs at once, too many for {usable_cores()} cores: "
            f"give at most {most} at a time"
        )
    return seeds


def resumed_stage(
    store: Store, settings: TrainSettings, typed: TrainSettings, run: str
) -> tuple[list[tuple[TrainRequest, str]], str]:
    """The request that goes on with a run, as the only stage, and its mixture."""
    from dataclasses import replace

    from cogdata.storage.manifest import read_manifest
    from cogdata.storage.runs import read_run
    from trainers.training.methods import WHOLE
    from trainers.training.ranks import device_to_resume_on
    from trainers.training.request import resume_request, run_id
    from trainers.training.settings import RUN_OPTIONS

    if typed.set or settings.tables or any(getattr(settings, name) is not None for name in RUN_OPTIONS):
        raise CogError(
            "--resume goes on with a run as it was begun: give only --updates or --root with it, or the "
            "options of evaluating and logging"
        )
    info = read_run(store, run)
    request = resume_request(store, run, updates=settings.updates)
    request = replace(request, device=device_to_resume_on(request.device), **_watched(settings))
    ref = f"{info.mixture}@{info.mixture_version}"
    if run_id(read_manifest(store, ref), request) != run:
        raise CogError(
            f"run {run!r} cannot be gone on with: its mixture {ref} or its settings are "
            f"not what they were; train anew with --mixture"
        )
    return [(request, WHOLE)], ref


def stages_of(store: Store, settings: TrainSettings) -> list[tuple[TrainRequest, str]]:
    """Every run that the settings ask for, in order, with the portion of the mixture that it learns from."""
    from cogdata.streaming.stream import default_memory
    from cogdata.system.machine import usable_cores
    from trainers.training.methods import WHOLE
    from trainers.training.ranks import device_of_rank, ranks_here
    from trainers.training.request import TrainRequest
    from trainers.training.start import check_start, from_run

    among = ranks_here() if settings.seeds is None else len(all_seeds(settings))
    common = {
        "seed": natural("--seed", settings.seed or 0),
        "device": device_of_rank(device_of(or_default(settings.device, "auto"))),
        "threads": max(1, usable_cores() // among) if settings.threads is None else settings.threads,
        "memory_bytes": default_memory() // among if settings.memory is None else _bytes(settings.memory),
        **_watched(settings),
    }
    if settings.method is None:
        algo, preset, obs, config = _settings(store, settings)
        request = TrainRequest(algo, config, preset, obs, **common)
        if settings.from_ is not None:
            request = from_run(store, request, settings.from_)
            check_start(store, request)
        return [(request, WHOLE)]
    if settings.algo is not None or settings.from_ is not None:
        raise CogError(
            f"--method {settings.method} says what learns and from where: leave --algo and --from out"
        )
    return _stages_of_method(settings.method, settings, common)


def _stages_of_method(
    method: str, settings: TrainSettings, common: dict[str, Any]
) -> list[tuple[TrainRequest, str]]:
    from trainers.algos import config_class
    from trainers.training.methods import configure_stages, find_method
    from trainers.training.request import TrainRequest

    configs = {stage.algo: config_class(stage.algo) for stage in find_method(method).stages}
    preset = or_default(settings.preset, "fast")
    return [
        (
            TrainRequest(
                stage.algo,
                config,
                preset,
                or_default(settings.obs, "image+robot"),
                **common,
                method=method,
                stage=stage.algo,
            ),
            stage.portion,
        )
        for stage, config in configure_stages(method, preset, settings.overrides(configs))
    ]


def _watched(settings: TrainSettings) -> dict[str, Any]:
    """What a request says of how a run is watched, which may be another each time it goes on."""
    from trainers.training.divergence import DivergenceGuard, parse_guard

    guard = DivergenceGuard() if settings.guard is None else parse_guard(settings.guard)
    return {"guard": guard, "trackers": settings.log or (), "pool": or_default(settings.pool, "host")}


def check_updates(updates: int | None) -> None:
    """Refuse a number of updates that cannot be meant."""
    if updates is not None and not 1 <= updates <= 10**9:
        raise CogError(f"--updates is {updates}, must be from 1 to {10**9:,}")


def check_eval_schedule(settings: TrainSettings) -> None:
    """Refuse an evaluation during training that cannot be done, before anything is begun."""
    if settings.eval_env is None:
        if any(
            one is not None for one in (settings.eval_every, settings.eval_episodes, settings.success_return)
        ):
            raise CogError(
                "--eval-every, --eval-episodes and --success-return are of evaluation during training: add "
                "--eval-env"
            )
        return
    from collectors.drivers import check_engine, check_name, is_driver

    check_name(settings.eval_env)
    check_engine(settings.eval_env)
    if is_driver(settings.eval_env):
        raise CogError(f"{settings.eval_env} is a robot: evaluate a checkpoint there with `cog eval`")
    if settings.eval_every is not None and settings.eval_every < 1:
        raise CogError(f"--eval-every is {settings.eval_every}, must be at least 1")
    if settings.eval_episodes is not None:
        countable("--eval-episodes", settings.eval_episodes)
    check_success_return(settings.success_return)


def eval_schedule_of(
    settings: TrainSettings, request: TrainRequest, manifest: Manifest
) -> EvalSchedule | None:
    """Return how a run is evaluated during training, None if it is not."""
    if settings.eval_env is None:
        return None
    from cogdata.binding import bind
    from cogdata.storage.runs import FIRST_SELECTION_SEED
    from collectors.checks import facts_of
    from collectors.drivers import WorldKind, takes_image_size
    from trainers.evaluation.during_training import EvalSchedule
    from trainers.obs_kinds import select_from

    env, features = settings.eval_env, select_from(request.obs, manifest.info)
    cameras = [one.shape[0] for one in (*features, *manifest.info.spec.observations) if one.is_image]
    size = cameras[0] if cameras else 48
    facts = facts_of(WorldKind(env, size if takes_image_size(env) else None))
    if facts.task is None and settings.success_return is None:
        raise CogError(
            f"--eval-env {env} states no success, and the best checkpoint is sought: add --success-return"
        )
    selection = manifest.info.selection
    base = selection.relative_to
    world = eval_env_of(
        env,
        size,
        [*(one.name for one in features), *([base] if base else [])],
        selection=selection,
        success_return=settings.success_return,
    )
    action = manifest.info.spec.action
    bind(features, action, facts.spec, f"--eval-env {env}", selection, relative_to=base)
    episodes = 20 if settings.eval_episodes is None else settings.eval_episodes
    return EvalSchedule(
        world,
        1000 if settings.eval_every is None else settings.eval_every,
        tuple(range(FIRST_SELECTION_SEED, FIRST_SELECTION_SEED + episodes)),
    )


def as_toml(
    store: Store, settings: TrainSettings, stages: list[tuple[TrainRequest, str]], mixture: str
) -> str:
    """All settings of runs as a file that asks for the same again."""
    from cogdata.storage.manifest import list_versions, parse_ref, read_info
    from trainers.training.settings import to_toml

    request, _ = stages[0]
    frozen = list_versions(store, parse_ref(mixture)[0])
    method = settings.method is not None
    start = request.parent and f"{request.parent}@{request.parent_update}"
    options = {
        "mixture": read_info(store, mixture).ref if frozen else mixture,
        **({"method": settings.method} if method else {"algo": request.algo}),
        "preset": request.preset,
        "obs": request.obs,
        "seed": request.seed if settings.seeds is None else None,
        "seeds": settings.seeds,
        "device": request.device,
        "threads": request.threads,
        "memory": str(request.memory_bytes),
        "from_": start,
        "eval_env": settings.eval_env,
        "eval_every": settings.eval_every,
        "eval_episodes": settings.eval_episodes,
        "success_return": settings.success_return,
        "guard": str(request.guard),
        "log": request.trackers,
        "pool": request.pool,
    }
    titles = {f"set.{one.algo}" if method else "set": one.config.to_dict() for one, _ in stages}
    return to_toml(options, titles)


def frozen_portion(store: Store, ref: str, portion: str) -> str:
    """Resolve a portion of a mixture; it is frozen if it has not been."""
    from trainers.training.methods import WHOLE

    if portion == WHOLE:
        return ref
    try:
        from catalog.mixtures.portions import freeze_portion
    except ModuleNotFoundError:
        raise CogError(
            f"the {portion} portion of {ref} is frozen by the catalog, which needs duckdb: install it here"
        ) from None
    return str(freeze_portion(store, ref, portion).ref)


def _settings(store: Store, settings: TrainSettings) -> tuple[str, str, str, Any]:
    """Algorithm, preset, observation and configuration; those not given are the parent's, if there is one."""
    from cogdata.storage.runs import read_run
    from trainers.algos import config_class, config_from_dict, configure
    from trainers.training.start import parse_run, same_policy

    algo, preset, obs, parent = settings.algo, settings.preset, settings.obs, settings.from_
    theirs = None if parent is None else read_run(store, parse_run(parent)[0])
    if theirs is None:
        algo, obs = or_default(algo, "bfn"), or_default(obs, "image+robot")
    else:
        algo, obs = or_default(algo, theirs.algo), or_default(obs, theirs.obs)
    overrides = [*_of_rewards(store, settings, algo), *settings.overrides({algo: config_class(algo)})]
    if theirs is None or algo != theirs.algo or preset is not None:
        shared = [] if theirs is None else same_policy(theirs.algo, theirs.config, algo)
        preset = or_default(preset, "fast")
        return algo, preset, obs, configure(algo, preset, [*shared, *overrides])
    return algo, theirs.preset, obs, config_from_dict(algo, theirs.config).override(overrides)


def _of_rewards(store: Store, settings: TrainSettings, algo: str) -> list[str]:
    """Settings that follow from the rewards: a reward of another world is no success that ends a return."""
    from cogdata.storage.manifest import list_versions, parse_ref, read_info
    from trainers.algos import config_class

    ref = settings.mixture
    if ref is None or settings.from_ is not None or not hasattr(config_class(algo), "success"):
        return []
    if not list_versions(store, parse_ref(ref)[0]) or read_info(store, ref).is_built_in:
        return []
    note("rewards add up (success=continuing); --set success=absorbing ends a return at the first reward")
    return ["success=continuing"]


def _bytes(text: str) -> int:
    from cogdata.units import parse_bytes

    try:
        return parse_bytes(text)
    except CogError:
        raise CogError(f"--memory {text!r} must be a size above 0, for example 500MB or 2GiB") from None


def device_of(name: str) -> str:
    """Resolve "auto"."""
    import torch

    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"
