"""From a stream's numpy batches to the learner's tensors, from a manifest to what it looks at."""

from __future__ import annotations

import numpy as np
import torch

from cogdata.errors import CogError, unknown
from cogdata.storage.manifest import Manifest
from cogdata.streaming.transitions import Batch, Observation
from trainers.algorithm import OBS_KINDS, ObsSpec, TensorBatch, TensorObs


def obs_spec(kind: str, manifest: Manifest) -> ObsSpec:
    """Say what a learner of this kind looks at in the data of a mixture.

    Args:
        kind: "image", "image+robot" or "state".
        manifest: Gives sizes, names and the statistics for normalising.

    Raises:
        CogError: Unknown kind, or the mixture has no statistics for it.
    """
    if kind not in OBS_KINDS:
        raise unknown("observation", kind, OBS_KINDS)
    vectors = [part for part in OBS_KINDS[kind] if part != "image"]
    for part in vectors:
        if part not in manifest.stats.mean:
            raise CogError(f"mixture {manifest.info.ref} has no statistics of {part!r}: freeze it again")
    mean = [number for part in vectors for number in manifest.stats.mean[part]]
    std = [number for part in vectors for number in manifest.stats.std[part]]
    return ObsSpec(kind, manifest.info.image_size, manifest.info.scene_fields, tuple(mean), tuple(std))


def tensor_obs(obs: Observation, features: tuple[str, ...], device: torch.device) -> TensorObs:
    """Wrap the named features of B observations; on a CPU they share memory with the arrays."""
    named = {"image": obs.image, "robot": obs.robot, "scene": obs.scene}
    for name in features:
        if named[name] is None:
            raise ValueError(f"the policy looks at {name!r}, the observation has none")
    return TensorObs(
        **{name: _tensor(array, device) if name in features else None for name, array in named.items()}
    )


def tensor_batch(batch: Batch, features: tuple[str, ...], device: torch.device) -> TensorBatch:
    """Wrap a batch; on a CPU it shares memory with the arrays."""
    action, reward = _tensor(batch.action, device), _tensor(batch.reward, device)
    terminated, source = _tensor(batch.terminated, device), _tensor(batch.source, device)
    assert action is not None
    assert reward is not None
    assert terminated is not None
    assert source is not None
    return TensorBatch(
        obs=tensor_obs(batch.obs, features, device),
        action=action,
        reward=reward,
        next_obs=tensor_obs(batch.next_obs, features, device),
        terminated=terminated,
        source=source,
    )


def _tensor(array: np.ndarray | None, device: torch.device) -> torch.Tensor | None:
    if array is None:
        return None
    writable = array if array.flags.writeable else array.copy()
    return torch.from_numpy(writable).to(device, non_blocking=True)
