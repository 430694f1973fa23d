"""What a unit of a reproduction found, as one small JSON file that needs no store to be read.

``results/table1/<unit>.json`` holds a :class:`Result`: what was trained on what, with which settings, how
long it took on which machine, and the outcome of every judged episode in order of its seed. Tables and
figures are functions of these files alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import count, takewhile
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from cogdata.errors import CogError
from cogdata.intervals import wilson
from cogdata.schema import PREDICATES
from cogdata.storage.manifest import list_versions, read_info
from cogdata.storage.parts import list_parts, part_folder
from cogdata.storage.runs import EVALUATION, RunInfo, ancestry, read_state, with_purpose
from cogdata.storage.store import Store, write_failed
from cogdata.system.machine import usable_cores
from trainers.paper.table1 import Derivation, Unit

_CPUINFO: Final = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Judged:
    """One checkpoint in one environment.

    Attributes:
        env: Gymnasium id.
        update: Gradient steps behind the checkpoint.
        checkpoint_digest: sha256 (hex) of its weights.
        first_seed: Episode i was reset with the seed ``first_seed + i``.
        outcomes: A character per episode: "1" if the task held on its last observation, else "0".
        last: Predicate → episodes on whose last observation it held; those of the scene alone.
    """

    env: str
    update: int
    checkpoint_digest: str
    first_seed: int
    outcomes: str
    last: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check that every episode has an outcome."""
        if not self.outcomes or set(self.outcomes) - {"0", "1"}:
            raise ValueError(f"outcomes {self.outcomes[:20]!r} must be one 0 or 1 per episode")

    @property
    def episodes(self) -> int:
        """Judged."""
        return len(self.outcomes)

    @property
    def successes(self) -> int:
        """Of them."""
        return self.outcomes.count("1")

    @property
    def rate(self) -> float:
        """Successes per episode."""
        return self.successes / self.episodes

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the rate."""
        return wilson(self.successes, self.episodes)


@dataclass(frozen=True)
class Trained:
    """One run.

    Attributes:
        run: Run id.
        algo: Algorithm.
        mixture: ``name@version`` that it learned from.
        updates: Gradient steps done.
        batch_size: Transitions per update.
        seconds: Wall time in updates.
        threads: torch threads.
        device: torch device.
        config: Resolved configuration.
        parent: Run that it started from.
        accelerator: What the device calls itself; None: a CPU, or not known.
        mixture_digest: sha256 (hex) of that mixture's content.
        transitions: How many it holds; None: the mixture is not where this was written.
    """

    run: str
    algo: str
    mixture: str
    updates: int
    batch_size: int
    seconds: float
    threads: int
    device: str
    config: Mapping[str, Any]
    parent: str | None = None
    accelerator: str | None = None
    mixture_digest: str = ""
    transitions: int | None = None


@dataclass(frozen=True)
class Data:
    """The mixture of a unit, of which a method's stages may learn from a portion alone.

    Attributes:
        mixture: ``name@version``.
        digest: sha256 (hex) of its content.
        episodes: Source → episodes.
        transitions: Source → transitions.
        rewarded: Source → transitions with a reward, as frozen.
        sql: The query it was frozen from; files of the store by their names in it.
    """

    mixture: str
    digest: str
    episodes: Mapping[str, int]
    transitions: Mapping[str, int]
    rewarded: Mapping[str, int]
    sql: str


@dataclass(frozen=True)
class Result:
    """What a unit found.

    Attributes:
        unit: What it was.
        data: The mixture whose rows it learned from.
        runs: Its stages, in order; the last one was judged.
        judged: The last checkpoint in every condition.
        curve: Checkpoints on the way, on seeds of their own.
        machine: Processor, cores, library versions.
        code: git revision of the code; "": not known.
        commands: What to type for the same.
        judging_seconds: Wall time of judging; None: not measured.
        online: Outcomes of the episodes that a fine-tuned run collected, in order, as in :class:`Judged`.
    """

    unit: Unit
    data: Data
    runs: tuple[Trained, ...]
    judged: tuple[Judged, ...]
    curve: tuple[Judged, ...]
    machine: Mapping[str, Any]
    code: str
    commands: tuple[str, ...]
    judging_seconds: float | None = None
    online: str = ""

    def of(self, env: str) -> Judged | None:
        """The final judgement in an environment, if there is one."""
        return next((one for one in self.judged if one.env == env), None)

    @property
    def has_curve(self) -> bool:
        """Whether checkpoints on the way were judged, not only the last one."""
        return len(self.curve) > 1

    @property
    def training_seconds(self) -> float:
        """Wall time of all stages."""
        return sum(run.seconds for run in self.runs)


def describe_machine() -> dict[str, Any]:
    """Say what hardware this is, without its name."""
    import torch

    model = ""
    if _CPUINFO.exists():
        lines = [line for line in _CPUINFO.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].partition(":")[2].strip() if lines else ""
    return {
        "processor": model or platform.machine(),
        "cores": usable_cores(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def read_judged(store: Store, run: str) -> list[Judged]:
    """Read every evaluation of a run.

    Args:
        store: Where the run is.
        run: Run id.

    Raises:
        CogError: A file is damaged.
    """
    return [_judged(table.sort_by("seed").to_pylist()) for table in _tables(store, run)]


def _tables(store: Store, run: str) -> Iterator[pa.Table]:
    here = f"runs/{run}/evaluations"
    for file in sorted(name for name in store.list_files(here) if name.endswith(".parquet")):
        try:
            yield store.read_table(f"{here}/{file}")
        except pa.ArrowException:
            raise CogError(f"{store.path(f'{here}/{file}')} is damaged: remove it, and judge again") from None


def read_scenes(store: Store, run: str, env: str, update: int) -> Judged | None:
    """Read what all evaluations of a checkpoint found on the scenes from 0 on, up to the first gap.

    A scene in several files counts once, as SQL's view ``evaluations`` has it; those that selected a
    checkpoint do not count.

    Args:
        store: Where the run is.
        run: Run id.
        env: Gymnasium id.
        update: Gradient steps behind the checkpoint.

    Raises:
        CogError: A file is damaged.
    """
    newest: dict[int, dict[str, Any]] = {}
    for table in _tables(store, run):
        for row in with_purpose(table).to_pylist():
            if (row["env"], row["update"], row["purpose"]) == (env, update, EVALUATION):
                there = newest.get(row["seed"])
                if there is None or there["created_at"] < row["created_at"]:
                    newest[row["seed"]] = row
    rows = [newest[seed] for seed in takewhile(newest.__contains__, count())]
    return _judged(rows) if rows else None


def _judged(rows: Sequence[Mapping[str, Any]]) -> Judged:
    """Put rows together whose seeds follow each other."""
    held = {name: sum(bool(row[name]) for row in rows) for name in PREDICATES if rows[0][name] is not None}
    return Judged(
        rows[0]["env"],
        rows[0]["update"],
        rows[0]["checkpoint_digest"],
        rows[0]["seed"],
        "".join(str(int(row["success"])) for row in rows),
        held,
    )


def find_judged(
    found: Sequence[Judged], env: str, update: int, first_seed: int, episodes: int
) -> Judged | None:
    """Pick one judgement: of so many episodes, whose seeds begin there."""
    wanted = (env, update, first_seed, episodes)
    return next((one for one in found if (one.env, one.update, one.first_seed, one.episodes) == wanted), None)


def describe_data(store: Store, ref: str) -> Data:
    """Say what a mixture holds."""
    info = read_info(store, ref)
    counts = sorted(info.counts.items())
    return Data(
        info.ref,
        info.digest,
        {name: count.episodes for name, count in counts},
        {name: count.transitions for name, count in counts},
        {name: count.rewarded_after for name, count in counts},
        info.sql.replace(store.path(""), ""),
    )


def describe_runs(store: Store, run: str) -> tuple[Trained, ...]:
    """Say how the stages that end in a run were trained, the first one first."""
    chain = ancestry(store, run)
    return tuple(_trained(store, info) for info in reversed(chain))


def online_outcomes(store: Store, run: str) -> str:
    """Read how the episodes that a fine-tuned run collected ended, in their order, as in :class:`Judged`.

    Args:
        store: Where its collection is, which has its name.
        run: Run id.
    """
    rows = []
    for part in list_parts(store, run):
        table = store.read_table(f"{part_folder(run, part)}/episodes.parquet")
        rows += table.select(["episode_index", "success"]).to_pylist()
    rows.sort(key=lambda row: row["episode_index"])
    return "".join(str(int(row["success"])) for row in rows)


def _trained(store: Store, info: RunInfo) -> Trained:
    state, mixture = read_state(store, info.run), f"{info.mixture}@{info.mixture_version}"
    there = info.mixture_version in list_versions(store, info.mixture)
    counts = read_info(store, mixture).counts.values() if there else None
    return Trained(
        info.run,
        info.algo,
        mixture,
        0 if state is None else state.updates_done,
        info.batch_size,
        0.0 if state is None else round(state.seconds, 1),
        info.threads,
        info.device,
        info.config,
        info.parent,
        info.accelerator,
        info.mixture_digest,
        None if counts is None else sum(count.transitions for count in counts),
    )


REPLACED: Final = "replaced"
"""Folder beside the results, of those that another of their unit's name has taken the place of."""


def covers(new: Result, old: Result) -> bool:
    """Whether a result says all that another one does: same unit, same data, no fewer scenes."""
    judged = {one.env: one.episodes for one in new.judged}
    enough = all(judged.get(one.env, 0) >= one.episodes for one in old.judged)
    return (new.unit, new.data.digest) == (old.unit, old.data.digest) and enough


def write_result(folder: Path, result: Result) -> Path:
    """Write a result under its unit's name; whole or not at all.

    A file of that name with other settings, other data or more scenes is kept, under :data:`REPLACED`.

    Raises:
        CogError: The folder cannot be written.
    """
    path = folder / f"{result.unit.name}.json"
    beside = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if path.exists() and not covers(result, read_result(path)):
            digest = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
            (folder / REPLACED).mkdir(exist_ok=True)
            path.replace(folder / REPLACED / f"{path.stem}-{digest}.json")
        beside.write_text(json.dumps(asdict(result), indent=1, sort_keys=True) + "\n", encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise write_failed(str(path), error) from None
    return path


def read_result(path: Path) -> Result:
    """Read a result back.

    Raises:
        CogError: It is damaged or something else.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        unit = {**data["unit"], **{name: tuple(data["unit"][name]) for name in ("envs", "settings")}}
        unit["derived"] = Derivation(**unit["derived"])
        return Result(
            **{
                **data,
                "unit": Unit(**unit),
                "data": Data(**data["data"]),
                "runs": tuple(Trained(**run) for run in data["runs"]),
                "judged": tuple(Judged(**one) for one in data["judged"]),
                "curve": tuple(Judged(**one) for one in data["curve"]),
                "commands": tuple(data["commands"]),
            }
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise CogError(
            f"{path} is no result of `cog reproduce`: restore it, or remove it and run the unit again"
        ) from None


def read_results(folder: Path) -> list[Result]:
    """Read every result in a folder, in order of their names.

    Raises:
        CogError: There is none, or one is damaged.
    """
    paths = sorted(folder.glob("*.json")) if folder.is_dir() else []
    if not paths:
        raise CogError(
            f"{folder} holds no results: run `cog reproduce place_in_tray --preset fast --obs state` first, "
            f"or say where they are with --results"
        )
    return [read_result(path) for path in paths]
