"""Random crops of images during training: shifts by a few pixels (avisingh599/cog @ 98252e1)."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from trainers.algorithm import ObsSpec, TensorBatch, TensorObs
from trainers.networks.images import folded, unfolded


def random_crop(image: Tensor, pad_px: int, generator: torch.Generator) -> Tensor:
    """Pad each image with zeros and cut a random window of the original size.

    Args:
        image: uint8 or uint16 (B, H, W, C).
        pad_px: Width of the zero padding; offsets are uniform in [0, 2·pad_px].
        generator: Generator of the offsets, on the image's device.

    Returns:
        The same type and shape, each image with offsets of its own.
    """
    if image.dtype == torch.uint16:  # torch moves these bits about as int16 only
        return random_crop(image.view(torch.int16), pad_px, generator).view(torch.uint16)
    b, h, w, _ = image.shape
    padded = F.pad(image, (0, 0, pad_px, pad_px, pad_px, pad_px))
    offsets = torch.randint(2 * pad_px + 1, (2, b), generator=generator, device=image.device)
    windows = padded.unfold(1, h, 1).unfold(2, w, 1)  # a view (B, 2p+1, 2p+1, C, H, W)
    rows = torch.arange(b, device=image.device)
    return windows.permute(0, 1, 2, 4, 5, 3)[rows, offsets[0], offsets[1]].contiguous()


def _cropped(obs: TensorObs, spec: ObsSpec, pad_px: int, generator: torch.Generator) -> TensorObs:
    for one in spec.images:
        cropped = random_crop(folded(obs[one.name], one), pad_px, generator)
        obs = obs.having(one.name, unfolded(cropped, one, spec.stack))
    return obs


def augment(batch: TensorBatch, spec: ObsSpec, pad_px: int, generator: torch.Generator) -> TensorBatch:
    """Crop the images of s and s' independently; without images, or with padding 0, return the batch."""
    if pad_px == 0 or not spec.has_image:
        return batch
    obs = _cropped(batch.obs, spec, pad_px, generator)
    return replace(batch, obs=obs, next_obs=_cropped(batch.next_obs, spec, pad_px, generator))
