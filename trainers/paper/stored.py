"""What a store says of an experiment's data, runs and evaluations, as parts of a result."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from itertools import count, takewhile
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from cogdata.errors import CogError
from cogdata.schema import PREDICATES
from cogdata.storage.manifest import list_versions, read_info
from cogdata.storage.parts import list_parts, part_folder
from cogdata.storage.runs import EVALUATION, RunInfo, ancestry, read_state, with_purpose
from cogdata.storage.store import Store
from cogdata.system.machine import usable_cores
from trainers.paper.results import Data, Evaluated, Trained

_CPUINFO: Final = Path("/proc/cpuinfo")


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


def read_evaluated(store: Store, run: str) -> list[Evaluated]:
    """Read every evaluation of a run.

    Args:
        store: Where the run is.
        run: Run id.

    Raises:
        CogError: A file is damaged.
    """
    return [_evaluated(table.sort_by("seed").to_pylist()) for table in _tables(store, run)]


def _tables(store: Store, run: str) -> Iterator[pa.Table]:
    here = f"runs/{run}/evaluations"
    for file in sorted(name for name in store.list_files(here) if name.endswith(".parquet")):
        try:
            yield store.read_table(f"{here}/{file}")
        except pa.ArrowException:
            raise CogError(
                f"{store.path(f'{here}/{file}')} is damaged: remove it, and evaluate again"
            ) from None


def read_scenes(store: Store, run: str, env: str, update: int) -> Evaluated | None:
    """Read what all evaluations of a checkpoint found on the eval seeds from 0 on, up to the first gap.

    A seed in several files counts once, as SQL's view ``evaluations`` has it; those that selected a
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
    return _evaluated(rows) if rows else None


def _evaluated(rows: Sequence[Mapping[str, Any]]) -> Evaluated:
    """Put rows together whose seeds follow each other."""
    held = {name: sum(bool(row[name]) for row in rows) for name in PREDICATES if rows[0][name] is not None}
    return Evaluated(
        rows[0]["env"],
        rows[0]["update"],
        rows[0]["checkpoint_digest"],
        rows[0]["seed"],
        "".join(str(int(row["success"])) for row in rows),
        held,
    )


def find_evaluated(
    found: Sequence[Evaluated], env: str, update: int, first_seed: int, episodes: int
) -> Evaluated | None:
    """Pick one evaluation: of so many episodes, whose seeds begin there."""
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
    """Read how the episodes that a fine-tuned run collected ended, in their order, as in :class:`Evaluated`.

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
