"""From a stream's numpy batches to the learner's tensors, from a manifest to what it looks at."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from numpy.typing import NDArray

from cogdata.errors import CogError
from cogdata.storage.manifest import Manifest, Stats
from cogdata.streaming.options import StreamOptions
from cogdata.streaming.transitions import Batch, Observation
from cogdata.streaming.windows import BatchRows
from trainers.algorithm import ActionSpec, Algorithm, ObsSpec, Spec, TensorBatch, TensorObs
from trainers.obs_kinds import select_from
from trainers.spec import EMBODIMENT


def spec_of(obs: str, manifest: Manifest) -> Spec:
    """Say what a learner looks at in the data of a mixture, and what it does.

    Args:
        obs: What it looks at, :func:`trainers.obs_kinds.select`.
        manifest: Gives the declaration and the statistics for normalising.

    Raises:
        CogError: The declaration has no such features, or the mixture has no statistics of them.
    """
    declared, stats = manifest.info.spec, manifest.stats
    features = select_from(obs, manifest.info)
    vectors = [one.name for one in features if not one.is_image]
    for name in vectors:
        if declared[name].is_member:
            raise CogError(f"{name} is stored by a codec and is no image: leave it out of --obs")
        if name not in stats.mean:
            raise CogError(f"mixture {manifest.info.ref} has no statistics of {name!r}: freeze it again")
    seen = ObsSpec(
        features,
        {name: tuple(stats.mean[name]) for name in vectors},
        {name: tuple(stats.std[name]) for name in vectors},
    )
    apart = {
        robot: {name: _moments(own, name) for name in vectors} for robot, own in stats.embodiments.items()
    }
    acting = {robot: _moments(own, "action") for robot, own in stats.embodiments.items()}
    relative_to = manifest.info.selection.relative_to
    action = ActionSpec.of(declared.action, *_moments(stats, "action"), acting, relative_to)
    rewards = manifest.info.reward_range
    if rewards is None or manifest.info.is_built_in or rewards == (0.0, 0.0):
        return Spec(replace(seen, apart=apart), action)
    return Spec(replace(seen, apart=apart), action, rewards)


def _moments(stats: Stats, name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each entry of a feature or the action."""
    return tuple(stats.mean.get(name, ())), tuple(stats.std.get(name, ()))


def stream_options(
    learner: Algorithm, batch_size: int, seed: int, memory_bytes: int, share: tuple[int, int] = (0, 1)
) -> StreamOptions:
    """Return the settings of the stream that a learner is trained from.

    Args:
        learner: Says what it looks at, how many observations, actions and rewards at a time.
        batch_size: B.
        seed: Seed of the sampling order.
        memory_bytes: Memory of the pool.
        share: As of :class:`StreamOptions`.
    """
    windows = dict(learner.spec.obs.windows)
    if learner.chunk > 1:
        windows["action"] = (0, learner.chunk - 1)
    options = StreamOptions(
        batch_size, seed, learner.spec.obs.names, memory_bytes, share=share, windows=windows
    )
    n_step: int = getattr(learner.config, "n_step", 1)
    if n_step == 1:
        return options
    success_ends = getattr(learner.config, "success", "") == "absorbing"
    discount: float = getattr(learner.config, "discount", 1.0)
    return replace(options, n_step=n_step, discount=discount, success_ends=success_ends)


def in_units(batch: TensorBatch, action: ActionSpec) -> TensorBatch:
    """Return a batch whose actions are as learners have them: the same object if they are that already."""
    unit = action.to_unit(batch.action, None if batch.embodiment is None else batch.embodiment.long())
    return batch if unit is batch.action else replace(batch, action=unit)


def for_learner(batch: TensorBatch, learner: Algorithm) -> TensorBatch:
    """Return a batch as a learner's ``update`` takes it.

    Raises:
        CogError: Its actions are padded, which the algorithm cannot leave out.
    """
    if "action" in batch.mask and not learner.masks:
        raise CogError(
            f"the mixture pads actions of several robots, and {learner.name} would learn the padding too: "
            f"choose bc, or a mixture of one robot"
        )
    if learner.spec.obs.apart:
        if batch.embodiment is None:
            raise ValueError("the learner tells robots apart, the batch does not")
        robot = batch.embodiment.long()
        obs, after = (one.having(EMBODIMENT, robot) for one in (batch.obs, batch.next_obs))
        batch = replace(batch, obs=obs, next_obs=after)
    return in_units(batch, learner.spec.action)


def tensor_obs(obs: Observation, features: tuple[str, ...], device: torch.device) -> TensorObs:
    """Wrap the named features of B observations; on a CPU they share memory with the arrays."""
    for name in features:
        if name not in obs.parts:
            raise ValueError(f"the policy looks at {name!r}, the observation has none")
    return TensorObs({name: _tensor(obs[name], device) for name in features})


def tensor_batch(batch: Batch, features: tuple[str, ...], device: torch.device) -> TensorBatch:
    """Wrap a batch; on a CPU it shares memory with the arrays."""
    return TensorBatch(
        obs=tensor_obs(batch.obs, features, device),
        action=_tensor(batch.action, device),
        reward=_tensor(batch.reward, device),
        next_obs=tensor_obs(batch.next_obs, features, device),
        terminated=_tensor(batch.terminated, device),
        source=_tensor(batch.source, device),
        **extras(batch, device),
    )


def extras(batch: Batch | BatchRows, device: torch.device) -> dict[str, Any]:
    """Return the fields of a batch that only windows, returns and several embodiments fill, as tensors."""
    given: dict[str, Any] = {
        name: {key: _tensor(array, device) for key, array in getattr(batch, name).items()}
        for name in ("valid", "next_valid", "mask")
    }
    for name in ("discount", "embodiment"):
        if (array := getattr(batch, name)) is not None:
            given[name] = _tensor(array, device)
    return given


def _tensor(array: NDArray[Any], device: torch.device) -> torch.Tensor:
    writable = array if array.flags.writeable else array.copy()
    return torch.from_numpy(writable).to(device, non_blocking=True)
