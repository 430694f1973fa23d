"""Behaviour cloning: a policy by maximum likelihood, or by flow matching.

Source: the BC baselines of COG (arXiv 2010.14500 §6, A.2, A.3), whose code is a CQL learner that never leaves
its warm start (avisingh599/cog @ 98252e1). "BC-all" is behaviour cloning on the whole mixture, "BC-oracle"
on a mixture of successful task episodes: the data alone make the difference. "Study" below:
docs/learning.md, Feasibility.

Deviations:

1. No entropy bonus: the published warm start adds α·log π(a) of a sampled action; the plain likelihood here.
2. The log density uses the stable form of log(1 - tanh²) instead of log(1 - a² + 1e-6).
3. Linear layers keep torch's initialisation; the code draws them from ±1e-4.
4. A Discrete or MultiDiscrete action has a categorical head: -log π(a|s) is the cross entropy.
5. The heads "mixture" and "flow", and ``hybrid``, are not in the paper, whose head is "gaussian". Data with
   two strategies have two modes, and the commands of gripper and neutral are categories.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Literal

import torch
from torch import Tensor

from cogdata.errors import CogError
from trainers.algorithm import ActionSpec, Algorithm, Config, Spec, TensorBatch, TensorObs
from trainers.networks.augment import augment
from trainers.networks.heads import HEADS, CategoricalCloner, Cloner, HybridCloner


@dataclass(frozen=True)
class BcConfig(Config):
    """Settings of behaviour cloning."""

    updates: int = 6_000  # number of updates (study)
    batch_size: int = 256  # transitions per update (A.3)
    encoder: str = "fast"  # image encoder, key of ENCODERS
    crop_px: int = 4  # padding of the random crop in training (published code)
    widths: tuple[int, ...] = (256, 256, 256)  # hidden layers after the encoder (as the study's flow)
    learning_rate: float = 3e-4  # Adam's learning rate (as in the study)
    stochastic: bool = True  # sample the policy in evaluation, as the paper (§6.2); false: its mode
    head: Literal["gaussian", "mixture", "flow"] = "gaussian"  # kind of policy (A.2: tanh-Gaussian)
    components: int = 5  # K, number of components of the mixture (ours)
    hybrid: bool = False  # categorical gripper and neutral commands (ours)

    def __post_init__(self) -> None:
        """Check ranges."""
        super().__post_init__()
        self.require("learning_rate", 0, 1)
        self.require("components", 1, 1024)


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
    acting: tuple[str, ...] = ("policy",)

    def __init__(self, config: BcConfig, spec: Spec) -> None:
        super().__init__(spec)
        self.config: BcConfig = config
        self.policy = _policy(config, spec)
        self.optimisers = {
            "policy": torch.optim.Adam(self.policy.parameters(), lr=config.learning_rate, fused=True)
        }

    @classmethod
    def learning(cls, action: ActionSpec) -> type[Algorithm]:
        """Return this class, for a Box, Discrete or MultiDiscrete action."""
        return cls

    def loss(self, batch: TensorBatch, generator: torch.Generator) -> Tensor:
        """Mean of -log π(a|s), or of the flow's squared error."""
        return self.policy.loss(self.policy.encode(batch.obs), batch.action, generator).mean()

    def update(self, batch: TensorBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """Take one gradient step."""
        loss = self.loss(augment(batch, self.spec.obs, self.config.crop_px, generator), generator)
        optimiser = self.optimisers["policy"]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        self.updates_done += 1
        return {"loss": loss.detach()}

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """Noise of the head, or none for a deterministic policy."""
        return self.explore_noise_shape if self.config.stochastic else (0,)

    @torch.no_grad()
    def act(self, obs: TensorObs, noise: Tensor) -> Tensor:
        """Sample π(a|s), or return its mode."""
        if self.config.stochastic:
            return self.explore(obs, noise)
        return self.policy.mode(self.policy.encode(obs))

    @property
    def explore_noise_shape(self) -> tuple[int, ...]:
        """Noise of the head."""
        return (self.policy.noise_dim,)

    @torch.no_grad()
    def explore(self, obs: TensorObs, noise: Tensor) -> Tensor:
        """Sample π(a|s)."""
        return self.policy.draw(self.policy.encode(obs), noise)


def _policy(config: BcConfig, spec: Spec) -> Cloner:
    if spec.action.discrete:
        for name, value in (("head", "gaussian"), ("hybrid", False)):
            if getattr(config, name) != value:
                raise CogError(
                    f"{name}={config.to_dict()[name]} is for Box actions, the action is "
                    f"{spec.action.feature.describe()}: leave it out, the head is categorical"
                )
        return CategoricalCloner(spec, config.encoder, config.widths)
    head = HEADS[config.head](spec, config.encoder, config.widths, config.components)
    return HybridCloner(spec.action, head, config.widths) if config.hybrid else head
