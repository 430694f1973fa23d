"""Evaluation: a policy acts in an environment from given seeds; every episode becomes a row.

Worlds run in lock step, 16 at a time, whatever the number of worker processes: episode i is always row
i mod 16 of the one batch that the policy acts on, and its noise comes from a generator of its own. So the
rows are the same, bit for bit, for any number of workers. Rounds of 16 know nothing of each other: on a
cluster each is a task.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from cogdata.binding import bind
from cogdata.errors import CogError
from cogdata.features import EpisodeSpec
from cogdata.layout1 import layout_of
from cogdata.rng import derive_seed
from cogdata.schema import PREDICATES
from cogdata.storage.runs import EVALUATION, evaluation_schema, read_run
from cogdata.storage.selection import Selection
from cogdata.storage.store import Store
from cogdata.system.cluster import Cluster
from trainers.algorithm import Algorithm
from trainers.checkpoint import load_policy
from trainers.evaluation.acting import Actor
from trainers.evaluation.worlds import WORLDS, MakeEnv, Moment, Worlds

_Round = tuple[tuple[int, ...], int]
"""Seeds of up to 16 episodes, and of how many of them the frames are kept."""

OnEpisodes = Callable[[int, int, int], None]
"""Called with (episodes evaluated, episodes in all, successes so far)."""


@dataclass(frozen=True)
class Policy:
    """A learner at one checkpoint, ready to act.

    Attributes:
        learner: What acts.
        run: Its run id.
        seed: Root seed of the run.
        update: Gradient steps behind it.
        digest: sha256 (hex) of its weights.
        device: torch device it is on.
    """

    learner: Algorithm
    run: str
    seed: int
    update: int
    digest: str
    device: str = "cpu"


@dataclass(frozen=True)
class EvalEnv:
    """Where to evaluate.

    Attributes:
        env: Its id, as it appears in the rows.
        make: Makes one environment with Dict observations; picklable if there are several workers.
        episode_spec: Declaration of its episodes.
        together: How many there may be at a time: of a robot, as many as there are robots.
        embodiment: Its robot, where a policy tells several apart.
        selection: What the policy's mixture took of its episodes: renamed, resized, padded.
        success_return: An episode is a success if its rewards add up to so much; None: the world says it.
    """

    env: str
    make: MakeEnv
    episode_spec: EpisodeSpec
    together: int = WORLDS
    embodiment: str | None = None
    selection: Selection = field(default_factory=Selection)
    success_return: float | None = None

    @property
    def camera(self) -> str:
        """Name of the camera that is recorded: ``image``, else the first with colours.

        Raises:
            CogError: There is none.
        """
        colours = [
            one.name for one in self.episode_spec.observations if one.is_image and one.shape[2:] == (3,)
        ]
        if not colours:
            raise CogError(f"{self.env} has no camera with colours: leave --record out")
        return "image" if "image" in colours else colours[0]


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
        name: Id of the evaluation and stem of its file.
        run: Run id.
        rows: Table of :data:`cogdata.storage.runs.EVALUATIONS`, in the order of the seeds.
        frames: Seed → (T+1, H, W, 3), of the recorded episodes.
    """

    name: str
    run: str
    rows: pa.Table
    frames: Mapping[int, NDArray[np.uint8]] = field(repr=False)

    @property
    def successes(self) -> int:
        """Episodes that were a success."""
        return successes(self.rows)

    @property
    def states_success(self) -> bool:
        """Whether it is known of any episode if it was a success."""
        return bool(self.rows.column("success").null_count < len(self.rows))


def successes(rows: pa.Table) -> int:
    """Return how many rows of an evaluation are a success; null is none."""
    return sum(success is True for success in rows.column("success").to_pylist())


def open_policy(
    store: Store, run: str, update: int | None = None, *, device: str = "cpu", threads: int = 1
) -> Policy:
    """Load the policy of a run.

    Args:
        store: Where from.
        run: Run id.
        update: Which checkpoint; None: the newest.
        device: Where it acts.
        threads: torch threads of this process from now on.

    Raises:
        CogError: No such run or checkpoint, or it is damaged.
    """
    info = read_run(store, run)
    torch.set_num_threads(threads)
    learner, checkpoint = load_policy(store, run, update, device=device)
    if checkpoint.algo != info.algo:
        raise CogError(
            f"run {run!r} is of {info.algo!r}, its checkpoint of {checkpoint.algo!r}: it was exchanged"
        )
    return Policy(learner, run, info.seed, checkpoint.update, checkpoint.weights_digest, device)


def evaluate(
    policy: Policy,
    world: EvalEnv,
    seeds: Sequence[int],
    *,
    workers: int | Cluster = 1,
    record: int = 0,
    on_progress: OnEpisodes = lambda done, total, successes: None,
    purpose: str = EVALUATION,
) -> Evaluation:
    """Evaluate a policy, one episode per seed.

    Args:
        policy: Who acts.
        world: Where.
        seeds: Given to ``env.reset``, all different.
        workers: Processes that hold the environments, 1: this one; or a cluster, whose tasks evaluate 16
            episodes each with the policy beside them. Does not change the result.
        record: Keep the frames of the first N episodes (the world must have a camera).
        on_progress: Called after each round of episodes.
        purpose: What the rows are for, as :data:`cogdata.storage.runs.EVALUATIONS` says.

    Raises:
        CogError: No seeds or repeated ones, a world without what the policy looks at, a failed environment,
            no cluster.
    """
    if not seeds or len(set(seeds)) != len(seeds):
        raise CogError(f"an evaluation needs at least one seed and each only once, found {len(seeds)}")
    together = min(world.together, WORLDS)
    rounds = [
        (tuple(seeds[start : start + together]), max(0, min(record - start, together)))
        for start in range(0, len(seeds), together)
    ]
    found: dict[int, list[_Episode]] = {}
    if isinstance(workers, Cluster):
        results = workers.run(_task, (policy, world), rounds, _said)
    else:
        results = _here(policy, world, rounds, workers)
    for number, episodes in results:
        found[number] = episodes
        evaluated = [episode for number in sorted(found) for episode in found[number]]
        on_progress(len(evaluated), len(seeds), sum(_success(world, one) is True for one in evaluated))
    name = _name(policy, world, seeds, purpose)
    frames = {episode.seed: np.stack(episode.frames) for episode in evaluated if episode.frames}
    return Evaluation(name, policy.run, _table(policy, world, name, evaluated, purpose), frames)


def write_evaluation(store: Store, evaluation: Evaluation) -> str:
    """Write the rows into the run's folder; returns the path within the store."""
    path = _path(evaluation.run, evaluation.name)
    store.write_table(path, evaluation.rows)
    return path


def evaluation_path(policy: Policy, world: EvalEnv, seeds: Sequence[int], purpose: str = EVALUATION) -> str:
    """Return where the rows of an evaluation are, once there are any."""
    return _path(policy.run, _name(policy, world, seeds, purpose))


def _path(run: str, name: str) -> str:
    return f"runs/{run}/evaluations/{name}.parquet"


@dataclass
class _Episode:
    """One episode as it unfolds."""

    seed: int
    generator: torch.Generator
    last: Moment
    rewards: list[float | None] = field(default_factory=list)
    held: list[bool] = field(default_factory=list)
    frames: list[NDArray[np.uint8]] = field(default_factory=list)


def _here(
    policy: Policy, world: EvalEnv, rounds: Sequence[_Round], workers: int
) -> Iterator[tuple[int, list[_Episode]]]:
    with Worlds(world.make, len(rounds[0][0]), workers) as worlds:
        for number, (seeds, keep) in enumerate(rounds):
            yield number, _round(policy, world, worlds, seeds, keep)


def _task(shared: tuple[Policy, EvalEnv], call: _Round, stop_asked: Callable[[], bool]) -> list[_Episode]:
    """A round, on some machine of the cluster; it is short, so it does not end early."""
    torch.set_num_threads(1)
    policy, world = shared
    seeds, keep = call
    with Worlds(world.make, len(seeds), 1) as worlds:
        return _round(policy, world, worlds, seeds, keep)


def _said(call: _Round) -> str:
    return f"episodes with seeds {call[0][0]} to {call[0][-1]}"


def _round(policy: Policy, world: EvalEnv, worlds: Worlds, seeds: Sequence[int], keep: int) -> list[_Episode]:
    """Evaluate up to 16 episodes, the first ``keep`` of them with their frames."""
    spec = policy.learner.spec
    bound = bind(
        spec.obs.features,
        spec.action.feature,
        world.episode_spec,
        world.env,
        world.selection,
        relative_to=spec.action.relative_to,
    )
    camera = world.camera if keep else ""
    first = worlds.reset(seeds)
    episodes = []
    for number, seed in enumerate(seeds):
        generator = torch.Generator().manual_seed(derive_seed("evaluate", policy.seed, seed))
        episodes.append(_Episode(seed, generator, first[number]))
    for episode in episodes[:keep]:
        episode.frames.append(episode.last.obs[camera])
    act = Actor(policy.learner, embodiment=world.embodiment)
    while running := [number for number, episode in enumerate(episodes) if not episode.last.over]:
        shown = [bound.observe(episode.last.obs) for episode in episodes]
        actions = act(shown, [episode.generator for episode in episodes])
        done = {one: bound.act(actions[one], episodes[one].last.obs) for one in running}
        for number, moment in worlds.step(done).items():
            episodes[number].last = moment
            episodes[number].rewards.append(moment.reward)
            episodes[number].held.append(moment.success is True)
            if number < keep:
                episodes[number].frames.append(moment.obs[camera])
    return episodes


def _name(policy: Policy, world: EvalEnv, seeds: Sequence[int], purpose: str) -> str:
    """Name an evaluation by what it is: evaluating the same again replaces it by the same rows."""
    stated = [] if world.success_return is None else [world.success_return]
    identity = json.dumps([policy.run, policy.digest, world.env, list(seeds), *stated])
    slug = re.sub("[^a-z0-9_-]+", "-", world.env.split("/")[-1].lower())
    tail = "" if purpose == EVALUATION else f"-{purpose}"
    return f"{slug}-{policy.update:08d}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}{tail}"


def _table(
    policy: Policy, world: EvalEnv, name: str, evaluated: Sequence[_Episode], purpose: str
) -> pa.Table:
    now = datetime.now(UTC).replace(tzinfo=None)
    shared = {
        "run": policy.run,
        "evaluation": name,
        "env": world.env,
        "update": policy.update,
        "checkpoint_digest": policy.digest,
        "stochastic": policy.learner.stochastic,
        "created_at": now,
        "purpose": purpose,
    }
    rows = [shared | dict(_columns(world, episode)) for episode in evaluated]
    return pa.Table.from_pylist(rows, schema=evaluation_schema(world.episode_spec))


def _success(world: EvalEnv, episode: _Episode) -> bool | None:
    """Whether an episode was a success; None: nothing states it."""
    if world.success_return is None:
        return episode.last.success
    return None if None in episode.rewards else _total(episode) >= world.success_return


def _total(episode: _Episode) -> float:
    return sum(reward or 0.0 for reward in episode.rewards)


def _columns(world: EvalEnv, episode: _Episode) -> Iterator[tuple[str, Any]]:
    built_in = layout_of(world.episode_spec) == 1
    held = [bool(reward and reward > 0) for reward in episode.rewards] if built_in else episode.held
    unstated = not built_in and episode.last.success is None and not any(held)
    yield "seed", episode.seed
    yield "success", _success(world, episode)
    yield "solved", None if unstated else any(held)
    yield "first_reward_t", held.index(True) if any(held) else None
    yield "steps", len(episode.rewards)
    yield "total_reward", None if None in episode.rewards else _total(episode)
    if not built_in:
        yield "predicates", list(episode.last.predicates.items())
        return
    for predicate in PREDICATES:
        yield predicate, episode.last.predicates.get(predicate)
