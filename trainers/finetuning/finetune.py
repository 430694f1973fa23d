"""Fine-tuning online: a run goes on from another one with episodes of its own.

Rounds of collecting and updating take turns. A round's episodes are committed as one part of the run's own
collection before the first update that sees them; its updates end with a checkpoint. Update number u draws
from (seed, u) and from what had been collected by then, so a run that was cut off anywhere goes on from its
newest checkpoint and parts as if nothing had happened, bit for bit on a CPU with the same threads.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from cogdata.binding import bind
from cogdata.episode import Episode
from cogdata.errors import CogError
from cogdata.rng import derive_seed
from cogdata.storage.collections import CollectionInfo, write_collection
from cogdata.storage.manifest import Manifest
from cogdata.storage.parts import EPISODES, PartWriter, list_parts, part_folder, part_name, part_range
from cogdata.storage.runs import RunInfo, RunState, only_one, read_run, read_state, write_state
from cogdata.storage.samples import read_episode
from cogdata.storage.store import Store
from cogdata.storage.versions import origin
from cogdata.streaming.transitions import Batch
from trainers.algorithm import Algorithm, Spec
from trainers.checkpoint import KEEP_FULL, folder, largest_weight, list_checkpoints, save_checkpoint
from trainers.evaluation.worlds import Worlds
from trainers.finetuning.explore import explore
from trainers.finetuning.replay import Replay, joined
from trainers.training.batches import for_learner, stream_options, tensor_batch
from trainers.training.ending import DivergedError, status_on_error
from trainers.training.online import KEEP_ROUNDS, Online, OnlineEnv
from trainers.training.request import TrainRequest, now, register, run_id
from trainers.training.runlog import RunLog
from trainers.training.start import open_learner
from trainers.training.train import OpenStream

RECENT = 50
"""Episodes that the success rate of the moment is taken over."""


@dataclass(frozen=True)
class FinetuneProgress:
    """Where a run is.

    Attributes:
        run: Run id.
        episodes: Collected so far, those of earlier sessions too.
        of: Asked for.
        recent: Success rate of the newest :data:`RECENT` of them; None before the first.
        update: Updates done.
        steps_per_s: Of collecting in this session, all worlds together; None before the first round of it.
        updates_per_s: Of this session; None before the first.
    """

    run: str
    episodes: int
    of: int
    recent: float | None
    update: int
    steps_per_s: float | None
    updates_per_s: float | None


@dataclass(frozen=True)
class FinetuneContext:
    """What fine-tuning is given: an environment, batches, and whom to tell.

    Attributes:
        online_env: Where episodes come from.
        head: Of the collection that they become; written if there is none.
        open_stream: Opens the offline mixture's batches.
        workers: Processes that hold the environments; does not change the result.
        stop_asked: Whether to end; what is done is kept.
        on_progress: Called after each update and each round of episodes.
    """

    online_env: OnlineEnv
    head: CollectionInfo
    open_stream: OpenStream
    workers: int = 1
    stop_asked: Callable[[], bool] = lambda: False
    on_progress: Callable[[FinetuneProgress], None] = lambda progress: None


def finetune(
    store: Store, manifest: Manifest, request: TrainRequest, context: FinetuneContext
) -> tuple[RunInfo, RunState]:
    """Fine-tune, or go on with it.

    Args:
        store: Where the run and its collection are kept.
        manifest: The parent's mixture.
        request: What to train; has a parent and ``online``.
        context: Environment, batches, callbacks.

    Returns:
        The run and its state: "finished", or "stopped" after a checkpoint.

    Raises:
        CogError: The parent, the environment and the mixture do not fit together, a number was not finite
            (the state says "diverged"), or another process trains this run.
    """
    run, online = run_id(manifest, request), online_of(request)
    updates = _first(request) + online.most_updates
    request = replace(request, config=replace(request.config, updates=updates))
    with only_one(store, run):
        state, committed = read_state(store, run), _committed(store, run)
        collected = committed[-1][1] if committed else 0
        if (
            state is not None
            and state.status == "finished"
            and collected >= online.episodes
            and list_checkpoints(store, run)[-1:] == [state.updates_done]
        ):
            return read_run(store, run), state
        online = replace(online, episodes=max(online.episodes, collected))  # more were asked for before
        learner, seconds = open_learner(store, run, manifest, request)
        _check_env(learner.spec, context.online_env)
        info = register(store, run, manifest, request)
        if not store.exists(f"collections/{run}/collection.json"):
            write_collection(store, context.head)
        torch.set_num_threads(info.threads)
        session = _Session(store, info, request, online, learner, manifest, context, seconds)
        count = min(online.round_episodes, context.online_env.together)
        with (
            session,
            status_on_error(session.end),
            Worlds(context.online_env.make, count, context.workers) as worlds,
        ):
            return info, session.go(worlds, committed)


def online_of(request: TrainRequest) -> Online:
    """Return how a request learns online.

    Raises:
        ValueError: It does not.
        CogError: Its batch cannot be halved.
    """
    if request.online is None or request.parent_update is None:
        raise ValueError(f"this {request.algo} has no online settings, or starts from no other run")
    if request.online.data == "symmetric" and request.config.batch_size < 2:
        raise CogError("batch_size is 1, must be at least 2 to be half online and half offline")
    return request.online


def _first(request: TrainRequest) -> int:
    """Updates behind the learner when it begins."""
    return (request.parent_update or 0) if online_of(request).continues else 0


def _committed(store: Store, run: str) -> list[tuple[int, int]]:
    """Return the rounds whose episodes are in the store.

    Raises:
        CogError: One between others is missing.
    """
    spans = sorted(part_range(part) for part in list_parts(store, run))
    stops = [0, *(stop for _, stop in spans)]
    for (start, _), before in zip(spans, stops, strict=False):
        if start != before:
            raise CogError(f"episode {before} of collection {run!r} is gone: {_lost(run)}")
    return spans


def _lost(run: str) -> str:
    return f"restore it, or begin anew: `cog runs rm {run} --force`, and remove the folder collections/{run}"


def _check_env(spec: Spec, online_env: OnlineEnv) -> None:
    """Refuse a world whose episodes the learner cannot take in as they are.

    Raises:
        CogError: It has something else.
    """
    if spec.obs.apart:
        raise CogError(
            f"the policy tells the robots {', '.join(spec.obs.embodiments)} apart, and fine-tuning collects "
            f"with one: train on a mixture of that robot first"
        )
    if spec.action.relative_to:
        raise CogError(
            f"the policy's actions are relative to {spec.action.relative_to}, and fine-tuning learns from "
            f"absolute ones, as its own episodes have them: train on a mixture without --transform first"
        )
    world = online_env.episode_spec
    if world.extras:
        named = ", ".join(one.name for one in world.extras)
        raise CogError(
            f"{online_env.env} has annotations ({named}), which a learner's own episodes do not have: "
            f"fine-tune in a world without them"
        )
    bind(spec.obs.features, spec.action.feature, world, online_env.env, exact=True)


@dataclass
class _Session:
    """One stretch of fine-tuning within one process.

    Attributes:
        seconds: Wall time spent in updates, earlier sessions included.
        outcomes: Success of every episode so far.
        ends: Updates behind every round so far.
    """

    store: Store
    info: RunInfo
    request: TrainRequest
    online: Online
    learner: Algorithm
    manifest: Manifest
    context: FinetuneContext
    seconds: float
    outcomes: list[bool] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    metrics: list[Mapping[str, Tensor]] = field(default_factory=list)
    explored: tuple[int, float] = (0, 0.0)  # steps, seconds

    def __post_init__(self) -> None:
        """Open what has to be closed."""
        request, spec = self.request, self.learner.spec
        self.first = _first(request)
        self.begun = (self.learner.updates_done, self.seconds)
        self.generator = torch.Generator(request.device)
        batch = request.config.batch_size
        options = stream_options(self.learner, batch, request.seed, self.info.memory_bytes)
        self.replay = Replay(spec, self.online.frames, len(self.manifest.sources), options)
        half = batch // 2
        self.shares = (batch - half, half)
        self.offline: Iterator[Batch] | None = None
        if self.online.data == "symmetric":
            stream = self.context.open_stream(replace(options, batch_size=self.shares[0]))
            self.offline = stream.batches(self.learner.updates_done - self.first)
        self.log = RunLog(
            self.store,
            self.info.run,
            start=self.learner.updates_done,
            tensorboard=request.tensorboard,
            trackers=request.trackers,
            config=vars(self.info),
        )

    def __enter__(self) -> None:
        """Nothing more to open."""

    def __exit__(self, *error: object) -> None:
        """Close the log and the stream, whose thread reads ahead."""
        self.log.close()
        if (close := getattr(self.offline, "close", None)) is not None:
            close()

    def go(self, worlds: Worlds, committed: Sequence[tuple[int, int]]) -> RunState:
        """Take turns until the end or a wish to stop, from the rounds that are committed on."""
        self._write_state("running")
        for number, span in enumerate(self.online.rounds(committed)):
            episodes = self._read(span) if number < len(committed) else self._collect(worlds, span)
            if episodes is None:
                return self._save("stopped")
            for episode in episodes:
                self.replay.add(episode)
                self.outcomes.append(episode.success is True)
            if not self._learn(self._target()):
                return self._save("stopped")
            self.ends.append(self._target())
            if self.metrics:
                self._log(episodes)
                self._save("running")
        return self._write_state("finished")

    def end(self, status: str) -> None:
        """Say how the run ended before its time, at the last checkpoint."""
        good = list_checkpoints(self.store, self.info.run)
        self._write_state(status, updates_done=good[-1] if good else self.first)

    # --- episodes --------------------------------------------------------------------------------------

    def _target(self) -> int:
        """Updates that the episodes so far pay for, those of the parent included if it goes on."""
        return self.first + self.online.updates(self.replay.transitions)

    def _read(self, span: tuple[int, int]) -> list[Episode]:
        where = f"{part_folder(self.info.run, part_name(*span))}/{EPISODES}"
        return [read_episode(self.store, row) for row in self.store.read_table(where).to_pylist()]

    def _collect(self, worlds: Worlds, span: tuple[int, int]) -> list[Episode] | None:
        """Run and commit a round; None if the end was asked for before it was over."""
        if self.learner.updates_done > self._target():
            raise CogError(
                f"run {self.info.run!r} has learned from more than the {span[0]} episodes that are left of "
                f"its collection: {_lost(self.info.run)}"
            )
        began, episodes = time.perf_counter(), list[Episode]()
        together = min(self.context.online_env.together, self.online.round_episodes)
        for start in range(span[0], span[1], together):
            found = explore(
                self.learner,
                worlds,
                self.context.online_env,
                run=self.info.run,
                seed=self.request.seed,
                span=(start, min(start + together, span[1])),
                stop_asked=self.context.stop_asked,
            )
            if found is None:
                return None
            episodes += found
        steps, seconds = self.explored
        took = time.perf_counter() - began
        self.explored = (steps + sum(episode.steps for episode in episodes), seconds + took)
        head = self.context.head
        made_with = origin(head.env, head.cogdata_version, head.code, head.libraries)
        writer = PartWriter(self.store, self.info.run, *span, made_with)
        for episode in episodes:
            writer.add(episode)
        writer.commit()
        self._tell()
        return episodes

    # --- updates ---------------------------------------------------------------------------------------

    def _learn(self, target: int) -> bool:
        """Update up to a number; whether it was reached."""
        self.metrics = []
        while self.learner.updates_done < target:
            if self.context.stop_asked():
                return False
            began = time.perf_counter()
            self.generator.manual_seed(derive_seed(self.request.seed, "update", self.learner.updates_done))
            spec, device = self.learner.spec, torch.device(self.request.device)
            tensors = for_learner(tensor_batch(self._batch(), spec.obs.names, device), self.learner)
            self.metrics.append(self.learner.update(tensors, self.generator))
            self.seconds += time.perf_counter() - began
            self._tell()
        return True

    def _batch(self) -> Batch:
        number, seed = self.learner.updates_done - self.first, self.request.seed
        if self.offline is None:
            return self.replay.batch(seed, number, sum(self.shares))
        return joined(next(self.offline), self.replay.batch(seed, number, self.shares[1]))

    def _log(self, episodes: list[Episode]) -> None:
        """Log the means over a round's updates, and what its episodes came to."""
        names = self.metrics[0]
        means = {name: torch.stack([one[name] for one in self.metrics]).mean() for name in names}
        self._check_finite(means)
        values = {name: float(value) for name, value in means.items()}
        values |= {
            "episodes": float(len(self.outcomes)),
            "online_success": sum(episode.success is True for episode in episodes) / len(episodes),
            "online_reward": sum(_return(episode) for episode in episodes) / len(episodes),
        }
        self.log.write(self.learner.updates_done, values)

    def _check_finite(self, values: Mapping[str, Tensor]) -> None:
        bad = [name for name, value in values.items() if not value.isfinite()]
        if not bad:
            return
        good = list_checkpoints(self.store, self.info.run)
        self.end("diverged")
        raise DivergedError(
            f"run {self.info.run!r} diverged: {bad[0]} is {float(values[bad[0]])} at update "
            f"{self.learner.updates_done}; last good checkpoint: {good[-1] if good else 'its parent'}; try a "
            f"smaller learning rate with --set"
        )

    def _save(self, status: str) -> RunState:
        """Write a checkpoint if there was an update since the newest, and drop older ones."""
        there = list_checkpoints(self.store, self.info.run)
        if self.learner.updates_done not in (self.first, *there[-1:]):
            self._check_finite({"largest_weight": largest_weight(self.learner)})
            save_checkpoint(self.store, self.info.run, self.learner, self.seconds)
            kept = {*self.ends[KEEP_ROUNDS - 1 :: KEEP_ROUNDS], *there[1 - KEEP_FULL :]}
            for update in there:
                if update not in kept:
                    self.store.remove(f"{folder(self.info.run, update)}/checkpoint.json")
                    self.store.remove(folder(self.info.run, update))
        self.log.flush()
        return self._write_state(status)

    def _write_state(self, status: str, updates_done: int | None = None) -> RunState:
        done = self.learner.updates_done if updates_done is None else updates_done
        state = RunState(status, done, self.seconds, now())
        write_state(self.store, self.info.run, state)
        return state

    def _tell(self) -> None:
        steps, exploring = self.explored
        update, learning = self.learner.updates_done - self.begun[0], self.seconds - self.begun[1]
        recent = self.outcomes[-RECENT:]
        self.context.on_progress(
            FinetuneProgress(
                self.info.run,
                len(self.outcomes),
                self.online.episodes,
                sum(recent) / len(recent) if recent else None,
                self.learner.updates_done,
                steps / exploring if exploring else None,
                update / learning if learning else None,
            )
        )


def _return(episode: Episode) -> float:
    """Sum of the rewards of an episode that was just run."""
    return 0.0 if episode.reward is None else float(episode.reward.sum())
