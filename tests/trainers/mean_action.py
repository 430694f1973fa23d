"""An algorithm as somebody would add it: one linear map from features to the mean action of the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from trainers.algorithm import Algorithm, Config, Spec, TensorBatch, TensorObs
from trainers.networks.augment import augment
from trainers.networks.encoders import Inputs


@dataclass(frozen=True)
class MeanActionConfig(Config):
    """Settings."""

    updates: int = 100
    batch_size: int = 16
    encoder: str = "fast"
    crop_px: int = 2
    learning_rate: float = 1e-2


class MeanAction(Algorithm):
    """Least squares."""

    name: ClassVar[str] = "mean_action"
    presets: ClassVar[Mapping[str, Config]] = {
        "fast": MeanActionConfig(),
        "paper": MeanActionConfig(encoder="paper"),
    }
    acting: tuple[str, ...] = ("inputs", "map")

    def __init__(self, config: MeanActionConfig, spec: Spec) -> None:
        super().__init__(spec)
        self.config: MeanActionConfig = config
        self.inputs = Inputs(spec.obs, config.encoder)
        self.map = nn.Linear(self.inputs.dim, spec.action.dim)
        self.optimisers = {
            "map": torch.optim.Adam(
                [*self.inputs.parameters(), *self.map.parameters()], lr=config.learning_rate
            )
        }

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """Deterministic."""
        return (0,)

    def update(self, batch: TensorBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """Take one gradient step."""
        batch = augment(batch, self.spec.obs, self.config.crop_px, generator)
        loss = (self.map(self.inputs(batch.obs)) - batch.action).square().mean()
        self.optimisers["map"].zero_grad()
        loss.backward()
        self.optimisers["map"].step()
        self.updates_done += 1
        return {"loss": loss.detach()}

    @torch.no_grad()
    def act(self, obs: TensorObs, noise: Tensor) -> Tensor:
        """Map and clip."""
        action: Tensor = self.map(self.inputs(obs))
        return action.clamp(-1, 1)
