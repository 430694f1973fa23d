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
5. With ``chunk`` K > 1 the policy is one of K actions as one vector, as in ACT (Zhao et al., arXiv
   2304.13705, without its encoder of styles and its ensembling in time); the loss leaves out what lies beyond
   an episode.
6. The heads "mixture" and "flow", and ``hybrid``, are not in the paper, whose head is "gaussian". Data with
   two strategies have two modes, and the commands of gripper and neutral are categories.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import ClassVar, Literal

import torch
from torch import Tensor

from cogdata.errors import CogError
from trainers.algorithm import ActionSpec, Algorithm, Config, Spec, TensorBatch, TensorObs
from trainers.identity import later
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
    hybrid: bool = False  # declared commands, such as a gripper's, as categories (ours)
    chunk: int = later(1)  # K, number of actions that are predicted at once (ACT, arXiv 2304.13705)
    execute: int = later(0)  # number of them that are done before the next prediction; 0: all of them

    def __post_init__(self) -> None:
        """Check ranges."""
        super().__post_init__()
        self.require("learning_rate", 0, 1)
        self.require("components", 1, 1024)
        self.require("chunk", 1, 1024)
        self.require("execute", 0, self.chunk)


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
    masks: ClassVar[bool] = True

    def __init__(self, config: BcConfig, spec: Spec) -> None:
        super().__init__(spec)
        self.config: BcConfig = config
        self.chunk = config.chunk
        self.execute = config.execute or config.chunk
        self.policy = _policy(config, spec)
        self.optimisers = {
            "policy": torch.optim.Adam(self.policy.parameters(), lr=config.learning_rate, fused=True)
        }

    @classmethod
    def learning(cls, action: ActionSpec) -> type[Algorithm]:
        """Return this class, for a Box, Discrete or MultiDiscrete action."""
        return cls

    def loss(self, batch: TensorBatch, generator: torch.Generator) -> Tensor:
        """Mean of -log π(a|s), or of the flow's squared error; over what is no padding."""
        action = batch.action if self.chunk == 1 else batch.action.flatten(1)
        counted = _counted(batch, self.spec.action.entries)
        each = self.policy.loss(self.policy.encode(batch.obs), action, generator, counted)
        return each.mean() if counted is None else each.sum() / counted.mean(1).sum()

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
        return self._actions(self.policy.mode(self.policy.encode(obs)))

    def _actions(self, found: Tensor) -> Tensor:
        """Cut what the policy says into K actions: (B, K, A), or (B, K) of a Discrete one."""
        if self.chunk == 1 or (self.spec.action.discrete and not self.spec.action.feature.shape):
            return found
        return found.view(-1, self.chunk, self.spec.action.entries)

    @property
    def explore_noise_shape(self) -> tuple[int, ...]:
        """Noise of the head."""
        return (self.policy.noise_dim,)

    @torch.no_grad()
    def explore(self, obs: TensorObs, noise: Tensor) -> Tensor:
        """Sample π(a|s)."""
        return self._actions(self.policy.draw(self.policy.encode(obs), noise))


def _counted(batch: TensorBatch, entries: int) -> Tensor | None:
    """Which entries of an action or chunk are no padding, float (B, K · entries); None: all.

    A chunk is padded beyond the end of its episode, an action of a mixture of robots beyond its own length.
    """
    valid, mask = batch.valid.get("action"), batch.mask.get("action")
    if valid is None:
        return None if mask is None else mask.float()
    counted = valid.unsqueeze(2).expand(-1, -1, entries)
    return (counted if mask is None else counted & mask.unsqueeze(1)).flatten(1).float()


def _policy(config: BcConfig, spec: Spec) -> Cloner:
    spec = replace(spec, action=spec.action.repeated(config.chunk))
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
