"""Checkpoints: the whole state of a learner as safetensors and JSON, loaded completely or not at all.

``runs/<run>/checkpoints/<update>/`` holds ``weights.safetensors`` (the weights for acting, always kept),
``training.safetensors`` (targets and optimisers, kept for the newest two checkpoints and the best) and
``checkpoint.json``, which is written last: readers ignore a folder without it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from cogdata.errors import CogError, unknown
from cogdata.storage.runs import is_training, parse
from cogdata.storage.store import Store
from trainers.algorithm import Algorithm, Spec
from trainers.algos import build, config_from_dict
from trainers.networks.encoders import named_encoders

KEEP_FULL: Final = 2
"""Number of newest checkpoints, beside the best one, that keep their training state."""

_OPTIMISER: Final = "optimiser/"


@dataclass(frozen=True)
class CheckpointInfo:
    """Content of ``checkpoint.json``.

    Attributes:
        algo: Name of the algorithm.
        config: Its resolved configuration.
        obs: Specification of the observations, :meth:`trainers.spec.ObsSpec.to_dict`.
        update: Number of updates of the learner.
        seconds: Wall time of these updates, s.
        weights_digest: sha256 (hex) of ``weights.safetensors``.
        training_digest: sha256 (hex) of ``training.safetensors``.
        action: Specification of the action, :meth:`trainers.action.ActionSpec.to_dict`; {}: version 0.1's.
    """

    algo: str
    config: dict[str, Any]
    obs: dict[str, Any]
    update: int
    seconds: float
    weights_digest: str
    training_digest: str
    action: dict[str, Any] = field(default_factory=dict)

    @property
    def spec(self) -> Spec:
        """Specification of the policy.

        Raises:
            CogError: It is damaged.
        """
        try:
            return Spec.from_dicts(self.obs, self.action)
        except (ValueError, KeyError, TypeError) as error:
            raise CogError(f"a checkpoint of {self.algo} at {self.update} is damaged: {error}") from None


def folder(run: str, update: int) -> str:
    """Return the folder of a checkpoint within the store."""
    return f"runs/{run}/checkpoints/{update:08d}"


def list_checkpoints(store: Store, run: str, *, full: bool = False) -> list[int]:
    """Return the updates at which a run has checkpoints, ascending; only resumable ones if ``full``."""
    names = ["checkpoint.json", *(["training.safetensors"] if full else [])]
    base = f"runs/{run}/checkpoints"
    return sorted(
        int(entry)
        for entry in store.list_folders(base)
        if entry.isdecimal() and all(store.exists(f"{base}/{entry}/{name}") for name in names)
    )


def save_checkpoint(
    store: Store, run: str, learner: Algorithm, seconds: float, *, keep: Collection[int] = ()
) -> CheckpointInfo:
    """Write a checkpoint of a learner, then remove the training state of older ones.

    Args:
        store: Store to write to.
        run: Run id.
        learner: Learner to save.
        seconds: Wall time of its updates so far, s.
        keep: Updates of checkpoints whose training state is kept.
    """
    weights, training = split_state(learner)
    files = {"weights.safetensors": _bytes(weights), "training.safetensors": _bytes(training)}
    target = folder(run, learner.updates_done)
    for name, data in files.items():
        store.write_bytes(f"{target}/{name}", data)
    info = CheckpointInfo(
        algo=learner.name,
        config=learner.config.to_dict(),
        obs=learner.spec.obs.to_dict(),
        action=learner.spec.action.to_dict(),
        update=learner.updates_done,
        seconds=seconds,
        weights_digest=hashlib.sha256(files["weights.safetensors"]).hexdigest(),
        training_digest=hashlib.sha256(files["training.safetensors"]).hexdigest(),
    )
    store.write_text(f"{target}/checkpoint.json", json.dumps(asdict(info), indent=2, sort_keys=True))
    for update in list_checkpoints(store, run, full=True)[:-KEEP_FULL]:
        if update not in keep:
            store.remove(f"{folder(run, update)}/training.safetensors")
    return info


def read_info(store: Store, run: str, update: int | None = None) -> CheckpointInfo:
    """Read ``checkpoint.json`` of a checkpoint.

    Args:
        store: Store that holds the run.
        run: Run id.
        update: Update of the checkpoint; None: the newest.

    Raises:
        CogError: The run has no such checkpoint, or the file is damaged.
    """
    updates = list_checkpoints(store, run)
    if not updates:
        if is_training(store, run):
            raise CogError(f"run {run!r} is being trained and has no checkpoint yet: wait for its first one")
        raise CogError(f"run {run!r} has no checkpoint yet: `cog train --resume {run}`")
    if update is not None and update not in updates:
        raise unknown(f"checkpoint of run {run!r}", str(update), map(str, updates))
    path = f"{folder(run, updates[-1] if update is None else update)}/checkpoint.json"
    try:
        return parse(CheckpointInfo, store.path(path), store.read_text(path))
    except CogError:
        raise
    except (ValueError, TypeError) as error:
        raise CogError(
            f"{store.path(path)} is damaged ({error}): remove its folder to go on from an older one"
        ) from None


def load_policy(
    store: Store, run: str, update: int | None = None, *, device: str = "cpu"
) -> tuple[Algorithm, CheckpointInfo]:
    """Load a learner for acting, without its training state.

    Args:
        store: Store that holds the run.
        run: Run id.
        update: Update of the checkpoint; None: the newest.
        device: Device to load it onto.

    Raises:
        CogError: No such checkpoint, or it is damaged.
    """
    info = read_info(store, run, update)
    learner = build(info.algo, config_from_dict(info.algo, info.config), info.spec, 0)
    weights, _ = split_state(learner)
    data = _read(store, f"{folder(run, info.update)}/weights.safetensors", info.weights_digest)
    _assign(weights, data, f"checkpoint {info.update} of run {run!r}")
    learner.updates_done = info.update
    return learner.to(torch.device(device)), info


def load_training(store: Store, run: str, learner: Algorithm, update: int | None = None) -> CheckpointInfo:
    """Load the state of a full checkpoint into a learner, bit for bit.

    Args:
        store: Store that holds the run.
        run: Run id.
        learner: Learner built with the run's configuration; changed in place.
        update: Update of the checkpoint; None: the newest with a training state.

    Raises:
        CogError: No such checkpoint, one of another algorithm or configuration, or a damaged one.
    """
    full = list_checkpoints(store, run, full=True)
    if not full or (update is not None and update not in full):
        where = "" if update is None else f" at {update}"
        raise CogError(f"run {run!r} has no checkpoint to resume from{where}: full ones: {full}")
    info = read_info(store, run, full[-1] if update is None else update)
    if info.algo != learner.name:
        raise CogError(f"checkpoint of another algorithm: run {run!r} is {info.algo!r}, not {learner.name!r}")
    weights, training = split_state(learner)
    base = folder(run, info.update)
    what = f"checkpoint {info.update} of run {run!r}"
    _assign(weights, _read(store, f"{base}/weights.safetensors", info.weights_digest), what)
    _assign(training, _read(store, f"{base}/training.safetensors", info.training_digest), what)
    learner.updates_done = info.update
    return info


def largest_weight(learner: Algorithm) -> Tensor:
    """Return the largest magnitude among the parameters, a scalar; not finite if one of them is not."""
    return torch.stack([parameter.detach().abs().max() for parameter in learner.parameters()]).max()


def split_state(learner: Algorithm) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return all tensors of a learner by name: the weights for acting, and the training state.

    The tensors are the learner's own, so writing into them changes it. A tensor that two networks share is
    listed under the first of its names. An optimiser without a step so far gets its initial state.
    """
    named = learner.state_dict(keep_vars=True)  # the tensors themselves, not views of them
    first = {id(value): name for name, value in reversed(named.items())}
    state = {name: value.detach() for name, value in named.items() if first[id(value)] == name}
    weights = {name: value for name, value in state.items() if name.split(".")[0] in learner.acting}
    training = {name: value for name, value in state.items() if name not in weights}
    for name, optimiser in learner.optimisers.items():
        for index, slots in enumerate(_adam_slots(optimiser)):
            training |= {f"{_OPTIMISER}{name}/{index}/{slot}": value for slot, value in slots.items()}
    return weights, training


def _adam_slots(optimiser: torch.optim.Adam) -> Iterator[dict[str, Tensor]]:
    for group in optimiser.param_groups:
        for parameter in group["params"]:
            slots = optimiser.state[parameter]
            if not slots:
                slots["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
                slots["exp_avg"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
                slots["exp_avg_sq"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
            yield slots


def _bytes(tensors: dict[str, Tensor]) -> bytes:
    return save_tensors({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})


def _read(store: Store, path: str, digest: str) -> dict[str, Tensor]:
    data = store.read_bytes(path)
    if hashlib.sha256(data).hexdigest() != digest:
        raise CogError(
            f"{store.path(path)} is damaged: its sha256 is not the one written beside it; remove its folder"
        )
    return named_encoders(load_tensors(data))


@torch.no_grad()
def _assign(own: dict[str, Tensor], read: dict[str, Tensor], what: str) -> None:
    if own.keys() != read.keys():
        odd = sorted(own.keys() ^ read.keys())
        raise CogError(f"{what} does not fit its configuration: {len(odd)} tensors differ, first {odd[0]!r}")
    for name, tensor in own.items():
        if tensor.shape != read[name].shape:
            raise CogError(
                f"{what}: {name} has shape {tuple(read[name].shape)}, must be {tuple(tensor.shape)}"
            )
        tensor.copy_(read[name])
