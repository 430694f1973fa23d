"""A training run and its evaluations as files, so that any index over them can be rebuilt.

``runs/<run>/`` holds ``run.json`` (:class:`RunInfo`, written once), ``state.json`` (:class:`RunState`,
rewritten at each checkpoint), ``best.json`` (:class:`Best`), ``metrics.jsonl``, ``checkpoints/``,
``tensorboard/`` and ``evaluations/<evaluation>.parquet`` (a row per evaluated episode, :data:`EVALUATIONS`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import filelock
import pyarrow as pa
import pyarrow.compute as pc

from cogdata.errors import CogError, unknown
from cogdata.features import EpisodeSpec
from cogdata.layout1 import layout_of
from cogdata.schema import PREDICATES
from cogdata.storage import versions
from cogdata.storage.store import Store, write_failed

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    _Kind = TypeVar("_Kind", bound=DataclassInstance)

EVALUATIONS: Final = pa.schema(
    [
        ("run", pa.string()),
        ("evaluation", pa.string()),  # evaluation id: run, update, env, settings
        ("env", pa.string()),
        ("update", pa.int64()),  # updates behind the evaluated checkpoint
        ("checkpoint_digest", pa.string()),  # sha256 of its weights
        ("seed", pa.int64()),  # given to env.reset; pairs runs
        ("success", pa.bool_()),  # the task holds on the last observation
        ("solved", pa.bool_()),  # the task was rewarded at any step
        ("first_reward_t", pa.int32()),  # null: never
        ("steps", pa.int32()),
        ("total_reward", pa.float32()),
        ("stochastic", pa.bool_()),  # whether actions were sampled
        ("created_at", pa.timestamp("us")),  # UTC
        *((name, pa.bool_()) for name in PREDICATES),  # on the last observation; null: not in this scene
        ("purpose", pa.string()),  # EVALUATION or SELECTION
    ]
)

JUDGED: Final = pa.map_(pa.string(), pa.bool_())
"""Type of the column ``predicates``: name → whether it holds on the last observation; null: not judged."""

EVALUATIONS_2: Final = pa.schema(
    [
        *(field for field in EVALUATIONS if field.name not in PREDICATES),
        ("predicates", JUDGED),
    ]
)
"""Rows of an evaluation in a world that is not built in: its predicates by name."""

EVALUATION: Final = "evaluation"
"""Purpose of a row that says how good a checkpoint is: those of `cog eval` and the final ones of a table."""

SELECTION: Final = "selection"
"""Purpose of a row that compared checkpoints: evaluated while training, or for a learning curve."""

FIRST_SELECTION_SEED: Final = 1_000_000
"""Checkpoints are selected on seeds from here on; `cog eval` counts from 0, so its seeds selected none."""

_PROBE_S: Final = 0.2
"""Longer than another process holds a run's lock just to see whether it is free."""

_DAMAGE: Final = (TypeError, json.JSONDecodeError, UnicodeDecodeError, IsADirectoryError)
"""What a file that is not the JSON it should be makes its reader raise."""


@dataclass(frozen=True)
class RunInfo:
    """What a run is: data, algorithm, settings, seed. Written once, before the first update.

    Attributes:
        run: Id and folder name.
        mixture: Mixture name.
        mixture_version: Its version.
        mixture_digest: Its digest.
        algo: Algorithm name.
        preset: Named configuration it started from.
        obs: "image", "image+robot" or "state".
        seed: Root seed of weights, batches and noise.
        updates: Gradient steps asked for.
        batch_size: Transitions per update.
        config: The whole resolved configuration of the algorithm.
        device: torch device.
        threads: torch threads on a CPU: part of what makes a run repeatable bit for bit.
        memory_bytes: Budget of the stream's pool, which decides the order of a mixture larger than it.
        created_at: ISO time, UTC.
        cogdata_version: Version that trains.
        parent: Run that it starts from; None: from fresh weights.
        parent_update: Gradient steps behind the checkpoint of the parent.
        parent_digest: sha256 (hex) of the weights of that checkpoint.
        method: Named composition that it is a stage of.
        stage: Which stage.
        online: Settings of learning from its own episodes (``env``, ``collection`` and more); None: offline.
        accelerator: What the device calls itself; None: a CPU, or a run from before this was kept.
    """

    run: str
    mixture: str
    mixture_version: int
    mixture_digest: str
    algo: str
    preset: str
    obs: str
    seed: int
    updates: int
    batch_size: int
    config: dict[str, Any]
    device: str
    threads: int
    memory_bytes: int
    created_at: str
    cogdata_version: str
    parent: str | None = None
    parent_update: int | None = None
    parent_digest: str | None = None
    method: str | None = None
    stage: str | None = None
    online: dict[str, Any] | None = None
    accelerator: str | None = None


@dataclass(frozen=True)
class RunState:
    """How far a run is.

    Attributes:
        status: "running", "stopped", "failed" (an error), "finished" or "diverged"; :func:`status_now`.
        updates_done: Gradient steps behind the last checkpoint.
        seconds: Wall time spent in updates so far.
        updated_at: ISO time, UTC.
    """

    status: str
    updates_done: int
    seconds: float
    updated_at: str


@dataclass(frozen=True)
class Best:
    """A checkpoint that was evaluated while its run trained; the best of them is ``best.json``.

    Attributes:
        update: Gradient steps behind the checkpoint.
        env: Where it was evaluated.
        seeds: On what.
        successes: How many of these episodes succeeded.
    """

    update: int
    env: str
    seeds: tuple[int, ...]
    successes: int

    @property
    def rate(self) -> float:
        """Share of episodes that succeeded."""
        return self.successes / len(self.seeds)

    def beats(self, other: Best | None) -> bool:
        """Whether it is better, or cannot be compared; of equals the earlier one stays."""
        alike = other is not None and (self.env, self.seeds) == (other.env, other.seeds)
        return not alike or other is None or self.successes > other.successes


def evaluation_schema(spec: EpisodeSpec) -> pa.Schema:
    """Return the columns of the evaluations in a world.

    Args:
        spec: Declaration of its episodes.
    """
    return EVALUATIONS if layout_of(spec) == 1 else EVALUATIONS_2


def predicates_of(rows: pa.Table) -> list[dict[str, bool | None]]:
    """Return what was judged in each row of an evaluation's file, of either schema.

    Args:
        rows: Of :data:`EVALUATIONS` or :data:`EVALUATIONS_2`. Of the former, a null is left out: the scene
            has no such predicate, or it was not judged.
    """
    if "predicates" in rows.column_names:
        return [dict(pairs or ()) for pairs in rows["predicates"].to_pylist()]
    named = rows.select([name for name in PREDICATES if name in rows.column_names]).to_pylist()
    if not named:
        return [{} for _ in range(len(rows))]
    return [{name: value for name, value in row.items() if value is not None} for row in named]


def with_purpose(rows: pa.Table) -> pa.Table:
    """Return the rows of an evaluation's file with their ``purpose``, which version 0.1 did not write.

    It is derived from the seeds: selection has always begun at :data:`FIRST_SELECTION_SEED`, and nothing
    else has, unless a user typed these seeds.

    Args:
        rows: Of one file, :data:`EVALUATIONS` with or without the column.
    """
    if "purpose" in rows.column_names:
        return rows
    selected = len(rows) and pc.min(rows["seed"]).as_py() == FIRST_SELECTION_SEED
    return rows.append_column(
        "purpose", pa.array([SELECTION if selected else EVALUATION] * len(rows), pa.string())
    )


def list_runs(store: Store) -> list[str]:
    """Return the ids of all runs in the store, sorted."""
    return sorted(run for run in store.list_folders("runs") if store.exists(f"runs/{run}/run.json"))


def list_leftovers(store: Store) -> list[str]:
    """Return the folders that hold files of a run but no ``run.json``, where none is being trained."""
    folders = sorted(set(store.list_folders("runs")) - set(list_runs(store)))
    return [name for name in folders if _holds_files(store, name) and not is_training(store, name)]


def _holds_files(store: Store, run: str) -> bool:
    here = f"runs/{run}"
    return bool(
        store.list_folders(here) or {f"{here}/{name}" for name in store.list_files(here)} - {lock_file(run)}
    )


def read_run(store: Store, run: str) -> RunInfo:
    """Read ``run.json``.

    Args:
        store: Where from.
        run: Run id.

    Raises:
        CogError: No such run, or its head is damaged.
    """
    path = f"runs/{run}/run.json"
    if not store.exists(path):
        raise unknown("run", run, list_runs(store))
    try:
        return parse(RunInfo, store.path(path), store.read_text(path))
    except _DAMAGE:
        raise CogError(f"{store.path(path)} is damaged: restore it, or remove the run's folder") from None


def parse(kind: type[_Kind], path: str, text: str) -> _Kind:
    """Read a dataclass from JSON that this or an older version wrote.

    Args:
        kind: Its fields are the keys; those that older versions lack have defaults.
        path: Where the text is from.
        text: JSON.

    Raises:
        CogError: A newer version wrote it.
        TypeError: It is no object, or a key is missing. ``json.JSONDecodeError``: It is no JSON.
    """
    return kind(**versions.known(kind, versions.parse(text, path)))


def ancestry(store: Store, run: str) -> list[RunInfo]:
    """Return a run and those it descends from, newest first; a chain whose next run is gone ends before it.

    Args:
        store: Where they are.
        run: Run id.

    Raises:
        CogError: No such run, or a head is damaged.
    """
    chain = [read_run(store, run)]
    while (parent := chain[-1].parent) is not None and store.exists(f"runs/{parent}/run.json"):
        chain.append(read_run(store, parent))
    return chain


def is_training(store: Store, run: str) -> bool:
    """Whether a process of this machine trains the run now; never known of a remote store."""
    return bool(_lock_held(store, run))


def status_now(store: Store, run: str, status: str | None) -> str | None:
    """Return a run's status as it is now: a process that was killed left "running", which is "interrupted".

    Args:
        store: Where the run is; of a remote one only what was written is known.
        run: Run id.
        status: As written.
    """
    return "interrupted" if status == "running" and _lock_held(store, run) is False else status


def _lock_held(store: Store, run: str) -> bool | None:
    """Whether a process of this machine holds the run's lock; None: that cannot be known."""
    if not store.is_local:
        return None
    path = Path(store.path(lock_file(run)))
    if not path.exists():
        return False
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        return True
    except OSError:  # not ours to lock
        return None
    lock.release()
    return False


@contextmanager
def only_one(store: Store, run: str) -> Iterator[None]:
    """Keep a second process out of a run (stores on one machine; object stores have no locks)."""
    if not store.is_local:
        yield
        return
    path = Path(store.path(lock_file(run)))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(path)
        lock.acquire(timeout=_PROBE_S, poll_interval=_PROBE_S / 10)
    except filelock.Timeout:
        raise CogError(f"run {run!r} is being trained by another process: wait for it, or stop it") from None
    except OSError as error:
        raise write_failed(str(path), error) from None
    try:
        yield
    finally:
        lock.release()


def lock_file(run: str) -> str:
    """Return the path of the file that a run's trainer holds a lock on."""
    return f"runs/{run}/.lock"


def write_run(store: Store, info: RunInfo) -> None:
    """Write ``run.json``."""
    path = f"runs/{info.run}/run.json"
    data = versions.with_unknown(store, path, RunInfo, asdict(info))
    store.write_text(path, json.dumps(data, indent=2, sort_keys=True))


def read_state(store: Store, run: str) -> RunState | None:
    """Read ``state.json``; None before the first checkpoint.

    Raises:
        CogError: It is damaged.
    """
    path = f"runs/{run}/state.json"
    if not store.exists(path):
        return None
    try:
        return parse(RunState, store.path(path), store.read_text(path))
    except _DAMAGE:
        raise CogError(
            f"{store.path(path)} is damaged: restore or remove it; the next checkpoint writes it again"
        ) from None


def write_state(store: Store, run: str, state: RunState) -> None:
    """Rewrite ``state.json``."""
    path = f"runs/{run}/state.json"
    data = versions.with_unknown(store, path, RunState, asdict(state))
    store.write_text(path, json.dumps(data, indent=2, sort_keys=True))


def read_best(store: Store, run: str) -> Best | None:
    """Read ``best.json``; None if no checkpoint was evaluated in training.

    Raises:
        CogError: It is damaged.
    """
    path = f"runs/{run}/best.json"
    if not store.exists(path):
        return None
    try:
        best = parse(Best, store.path(path), store.read_text(path))
        return replace(best, seeds=tuple(best.seeds))
    except _DAMAGE:
        raise CogError(f"{store.path(path)} is damaged: restore or remove it") from None


def write_best(store: Store, run: str, best: Best) -> None:
    """Rewrite ``best.json``."""
    path = f"runs/{run}/best.json"
    store.write_text(path, json.dumps(versions.with_unknown(store, path, Best, asdict(best)), indent=2))
