"""Behaviour cloning: a tanh-Gaussian policy by maximum likelihood.

Source: the BC baselines of COG (arXiv 2010.14500 §6, A.2, A.3), whose code is a CQL learner that never leaves
its warm start (avisingh599/cog @ 98252e1). "BC-all" is this on the whole mixture, "BC-oracle" on a mixture
of successful task episodes: which one it is depends on the data alone. "Study" below:
docs/learning.md, Feasibility.

Deviations:

1. No entropy bonus: the published warm start adds α·log π(a) of a sampled action; the plain likelihood here.
2. The log density uses the stable form of log(1 - tanh²) instead of log(1 - a² + 1e-6).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

import torch
from torch import Tensor

from trainers.algorithm import ACTION_DIM, Algorithm, Config, ObsSpec, TensorBatch, TensorObs
from trainers.augment import augment
from trainers.networks import GaussianPolicy, tanh_normal, tanh_normal_log_density


@dataclass(frozen=True)
class BcConfig(Config):
    """Settings of behaviour cloning."""

    updates: int = 6_000  # gradient steps (study)
    batch_size: int = 256  # transitions per update (A.3)
    encoder: str = "fast"  # of images: "fast" or "paper"
    crop_px: int = 4  # padding of the random crop in training (published code)
    widths: tuple[int, ...] = (256, 256, 256)  # hidden layers after the encoder (as the study's flow)
    learning_rate: float = 3e-4  # of Adam (as in the study)
    stochastic: bool = True  # sample when judged, as the paper does for BC (§6.2); false: the mode

    def __post_init__(self) -> None:
        """Check ranges."""
        super().__post_init__()
        self.require("learning_rate", 0, 1)


class Bc(Algorithm):
    """Behaviour cloning."""

    name: ClassVar[str] = "bc"
    presets: ClassVar[Mapping[str, Config]] = MappingProxyType(
        {
            "fast": BcConfig(),
            "paper": BcConfig(
                updates=300_000, encoder="paper", widths=(1024, 512, 256, 256, 256, 256), learning_rate=1e-4
            ),
        }
    )
    acting: ClassVar[tuple[str, ...]] = ("policy",)

    def __init__(self, config: BcConfig, spec: ObsSpec) -> None:
        super().__init__(spec)
        self.config: BcConfig = config
        self.policy = GaussianPolicy(spec, config.encoder, config.widths)
        self.optimisers = {
            "policy": torch.optim.Adam(self.policy.parameters(), lr=config.learning_rate, fused=True)
        }

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """One number per action dimension, or none."""
        return (ACTION_DIM,) if self.config.stochastic else (0,)

    def loss(self, batch: TensorBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean of -log π(a|s)."""
        mean, log_std = self.policy(batch.obs)
        loss = -tanh_normal_log_density(mean, log_std, batch.action).mean()
        with torch.no_grad():
            error = (torch.tanh(mean) - batch.action).square().mean()
        return loss, {"loss": loss.detach(), "action_mse": error, "log_std": log_std.detach().mean()}

    def update(self, batch: TensorBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """Take one gradient step."""
        loss, metrics = self.loss(augment(batch, self.config.crop_px, generator))
        optimiser = self.optimisers["policy"]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        self.updates_done += 1
        return metrics

    @property
    def explore_noise_shape(self) -> tuple[int, ...]:
        """One number per action dimension."""
        return (ACTION_DIM,)

    @torch.no_grad()
    def explore(self, obs: TensorObs, noise: Tensor) -> Tensor:
        """Sample π(a|s)."""
        mean, log_std = self.policy(obs)
        return tanh_normal(mean, log_std, noise)[0]

    @torch.no_grad()
    def act(self, obs: TensorObs, noise: Tensor) -> Tensor:
        """Sample π(a|s), or take its mode."""
        if self.config.stochastic:
            return self.explore(obs, noise)
        mean, _ = self.policy(obs)
        return torch.tanh(mean)
