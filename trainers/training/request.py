"""What to train, and the name it gets: asking for the same thing again means the same run."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

import torch

from cogdata import __version__
from cogdata.errors import CogError, unknown
from cogdata.storage.manifest import Manifest
from cogdata.storage.runs import RunInfo, read_run, write_run
from cogdata.storage.store import Store
from cogdata.streaming.stream import default_memory
from trainers.algorithm import Config
from trainers.algos import algorithm_class, config_from_dict
from trainers.checkpoint import list_checkpoints
from trainers.obs_kinds import check_obs
from trainers.training.divergence import DivergenceGuard
from trainers.training.online import Online
from trainers.training.runlog import check_trackers

_ORIGIN: Final = ("parent", "parent_update", "parent_digest", "method", "stage")
"""What request and run say of where a run comes from."""

POOLS: Final = ("host", "device")
"""Where a pool may live."""

_MOST: Final = {"threads": 1024, "memory_bytes": 2**63 - 1}
"""What torch takes, and SQL's BIGINT."""


@dataclass(frozen=True)
class TrainRequest:
    """What to train.

    Attributes:
        algo: Key of ``ALGORITHMS``.
        config: Its resolved configuration, :func:`trainers.algos.configure`; says updates and batch size.
        preset: The named configuration it started from.
        obs: What it looks at, :func:`trainers.obs_kinds.select`.
        seed: Root seed of weights, batches and noise.
        device: torch device.
        threads: torch threads on a CPU; they are part of what makes a run repeatable bit for bit.
        memory_bytes: Budget of the stream's pool; decides the order of a mixture larger than it.
        checkpoint_every: Updates between checkpoints.
        log_every: Updates between lines of metrics.
        tensorboard: Whether to write event files.
        trackers: Keys of :data:`trainers.training.runlog.TRACKERS` that get the metrics too.
        guard: When values out of their range stop the run.
        pool: Where decoded episodes are kept, "host" or "device"; decides no bit of the run.
        parent: Run whose weights it starts from; None: fresh ones.
        parent_update: Which checkpoint of it.
        parent_digest: sha256 (hex) of the weights there.
        method: Named composition that it is a stage of.
        stage: Which stage.
        online: How it learns from episodes of its own; None: not at all.
    """

    algo: str
    config: Config
    preset: str = "fast"
    obs: str = "state"
    seed: int = 0
    device: str = "cpu"
    threads: int = 2
    memory_bytes: int = field(default_factory=default_memory)
    checkpoint_every: int = 1_000
    log_every: int = 100
    tensorboard: bool = True
    trackers: tuple[str, ...] = ()
    guard: DivergenceGuard = field(default_factory=DivergenceGuard)
    pool: str = "host"
    parent: str | None = None
    parent_update: int | None = None
    parent_digest: str | None = None
    method: str | None = None
    stage: str | None = None
    online: Online | None = None

    def __post_init__(self) -> None:
        """Check ranges and that the configuration is this algorithm's."""
        expected = type(algorithm_class(self.algo).presets["fast"])
        if not isinstance(self.config, expected):
            raise CogError(
                f"algorithm {self.algo!r} takes a {expected.__name__}, found {type(self.config).__name__}"
            )
        check_obs(self.obs)
        check_trackers(self.trackers)
        if self.pool not in POOLS:
            raise unknown("place of the pool", self.pool, POOLS)
        for name in ("threads", "memory_bytes", "checkpoint_every", "log_every"):
            if getattr(self, name) < 1:
                raise CogError(f"{name} is {getattr(self, name)}, must be at least 1")
        for name, most in _MOST.items():
            if getattr(self, name) > most:
                raise CogError(f"{name} is {getattr(self, name)}, must be at most {most}")
        if not _usable(self.device):
            raise CogError(f"device {self.device!r} cannot be used: this machine has {_devices_here()}")


def _devices_here() -> str:
    return ", ".join(["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))])


def _usable(device: str) -> bool:
    if not re.fullmatch(r"cpu|cuda(:\d+)?|mps", device):  # torch knows others, that hold no numbers
        return False
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):
        return False
    return True


def _accelerator(device: str) -> str | None:
    if device == "cpu":
        return None
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device


def run_id(manifest: Manifest, request: TrainRequest) -> str:
    """Name a run by what it is: ``bfn-place_in_tray-s0-1f2e3d4c``.

    Its length is not part of it, but where learning rates fall over it.
    """
    config = request.config.identity()
    if not _falls(request.config):
        del config["updates"]
    identity: dict[str, Any] = {
        "config": config,
        "obs": request.obs,
        "mixture": manifest.info.digest,
    }
    for name in ("parent_digest", "method"):  # runs without them are named as before there were any
        if (value := getattr(request, name)) is not None:
            identity[name] = value
    if request.online is not None:
        identity["online"] = request.online.identity()
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]
    tail = f"s{request.seed}-{digest}"
    return f"{request.algo}-{manifest.info.name[: 64 - len(request.algo) - len(tail) - 2]}-{tail}"


def _falls(config: Config) -> bool:
    """Whether learning rates fall towards the last update: a run of another length is another run."""
    return getattr(config, "decay", 0.0) > 0


def resume_request(store: Store, run: str, *, updates: int | None = None) -> TrainRequest:
    """Make the request that goes on with a run, to its own number of updates or another one.

    Args:
        store: Where it is.
        run: Run id.
        updates: Gradient steps of the whole run; None: as asked for at first.

    Raises:
        CogError: No such run, it learns online, its device is not here, or its learning rates fall over
            another number of updates.
    """
    info = read_run(store, run)
    if info.online is not None:
        raise CogError(f"run {run!r} learns online: give the `cog finetune` command again that began it")
    if not _usable(info.device):
        raise CogError(
            f"run {run!r} was begun on {info.device!r}, this machine has {_devices_here()}: give the "
            f"`cog train` command again that began it, with --device cpu"
        )
    config = config_from_dict(info.algo, info.config)
    if _falls(config) and updates not in (None, info.updates):
        raise CogError(
            f"the learning rates of run {run!r} fall over its {info.updates:,} updates, so that one of "
            f"another length is another run: leave --updates out, or give the `cog train` command of its "
            f"beginning with --updates {updates}"
        )
    config = replace(config, updates=info.updates if updates is None else updates)
    return TrainRequest(
        info.algo,
        config,
        info.preset,
        info.obs,
        info.seed,
        info.device,
        info.threads,
        info.memory_bytes,
        **{name: getattr(info, name) for name in _ORIGIN},
    )


def register(store: Store, run: str, manifest: Manifest, request: TrainRequest) -> RunInfo:
    """Write ``run.json``, or lengthen the run that is there; its first checkpoint settles its machine."""
    info = RunInfo(
        run=run,
        mixture=manifest.info.name,
        mixture_version=manifest.info.version,
        mixture_digest=manifest.info.digest,
        algo=request.algo,
        preset=request.preset,
        obs=request.obs,
        seed=request.seed,
        updates=request.config.updates,
        batch_size=request.config.batch_size,
        config=request.config.to_dict(),
        device=request.device,
        threads=request.threads,
        memory_bytes=request.memory_bytes,
        created_at=now(),
        cogdata_version=__version__,
        **{name: getattr(request, name) for name in _ORIGIN},
        online=None if request.online is None else asdict(request.online),
        accelerator=_accelerator(request.device),
    )
    if store.exists(f"runs/{run}/run.json"):
        there = read_run(store, run)
        if not list_checkpoints(store, run):
            there = replace(
                there,
                threads=info.threads,
                memory_bytes=info.memory_bytes,
                device=info.device,
                accelerator=info.accelerator,
            )
            write_run(store, there)
        if there.updates >= info.updates:
            return there
        info = replace(there, updates=info.updates, config=info.config, online=info.online)
    write_run(store, info)
    return info


def now() -> str:
    """The time, ISO, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")
