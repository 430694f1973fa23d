"""From a stream's numpy batches to the learner's tensors, from a manifest to what it looks at."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray

from cogdata.errors import CogError, unknown
from cogdata.storage.manifest import Manifest
from cogdata.streaming.transitions import Batch, Observation
from cogdata.streaming.windows import BatchRows
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
    return ObsSpec(kind, manifest.info.camera_size, manifest.info.scene_fields, tuple(mean), tuple(std))


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
