"""Soft actor-critic, CQL without its penalty: the paper's offline baseline and its online learner.

Source: Haarnoja et al., arXiv 1812.05905, eq. 5-7 and 18; as COG's baseline, arXiv 2010.14500 §6 ("SAC");
published code avisingh599/cog @ 98252e1, rlkit/torch/sac/sac.py. Offline it evaluates actions outside
the data, and its values leave the possible range, which the baseline is meant to show. Deviations:

1. Deviations 1-4 and 7-8 of :mod:`trainers.algos.cql`, with which it shares its networks, its update and the
   units of its temperature.
2. "fast" has no entropy in the backup, so that its values are those of CQL without the penalty; "paper" has
   it, as the published code.
3. One sample of π(·|s) serves actor and temperature, one of π(·|s') the backup (as published).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

import torch
from torch import Tensor

from trainers.algorithm import Config, Success, TensorBatch
from trainers.algos.actor_critic import SoftActorCritic, SoftConfig, value_metrics


@dataclass(frozen=True)
class SacConfig(SoftConfig):
    """Settings of SAC."""

    updates: int = 20_000  # number of updates
    batch_size: int = 256  # transitions per update (COG A.3)
    encoder: str = "fast"  # image encoder, key of ENCODERS
    crop_px: int = 4  # padding of the random crop in training (published code)
    critic_widths: tuple[int, ...] = (256, 256)  # hidden layers of each Q (Haarnoja, table 1)
    policy_widths: tuple[int, ...] = (256, 256)  # hidden layers of the policy (Haarnoja, table 1)
    critics: int = 2  # E, number of Qs (Haarnoja, §5)
    layer_norm: bool = False  # LayerNorm in the hidden layers of the Qs
    half_gradients: bool = True  # gradients of the Qs in bfloat16 where supported; values never (ours)
    discount: float = 0.95  # γ; as in cql's "fast"; published code: .99
    target_rate: float = 0.02  # τ of the target networks; as in cql's "fast"; published code: .005
    critic_learning_rate: float = 3e-4  # Adam's learning rate of the Qs (published code)
    policy_learning_rate: float = 1e-4  # Adam's, of policy and temperature (published code)
    stochastic: bool = False  # sample the policy in evaluation; false: its mode (published code)
    success: Success = "absorbing"  # a reward ends the return; "continuing": the paper, no terminals
    temperature: float = 1.0  # initial entropy temperature, in units of value_scale (published code)
    target_entropy: float = -8.0  # minus the action dimension (Haarnoja, table 1)
    entropy_backup: bool = False  # whether the value of s' includes the entropy (eq. 3; published code: true)


class Sac(SoftActorCritic):
    """Soft actor-critic with a tanh-Gaussian policy."""

    name: ClassVar[str] = "sac"
    presets: ClassVar[Mapping[str, Config]] = MappingProxyType(
        {
            "fast": SacConfig(),
            "paper": SacConfig(
                updates=500_000,
                encoder="paper",
                critic_widths=(1024, 512, 256),
                policy_widths=(1024, 512, 256, 256, 256, 256),
                discount=0.99,
                target_rate=0.005,
                success="continuing",
                half_gradients=False,
                entropy_backup=True,
            ),
        }
    )
    config: SacConfig

    @property
    def value_range(self) -> tuple[float, float]:
        """Range of returns; entropy in the backup adds up to α · log 2^A per step, with the initial α."""
        low, high = super().value_range
        if not self.config.entropy_backup:
            return low, high
        weight = self.config.temperature * self.value_scale
        return low, high + weight * self.spec.action.dim * math.log(2) / (1 - self.config.discount)

    @torch.no_grad()
    def target(self, batch: TensorBatch, generator: torch.Generator) -> Tensor:
        """Target (B,) with the least target Q at a' ~ π(s'), less α log π(a'|s') if configured (eq. 3)."""
        action, log_density = self.policy.sample(batch.next_obs, generator)
        value = self.targets(self.targets.encode(batch.next_obs), action)[:, 0].amin(0)
        if self.config.entropy_backup:
            value = value - self.log_temperature.exp() * self.value_scale * log_density[0]
        return self.bellman_target(batch, value)

    def critic_loss(self, data: Tensor, target: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Sum over the Qs (E, B) of the mean squared error to their common target (B,) (eq. 5)."""
        loss = (data - target).square().mean(1).sum()
        return loss, {"bellman_loss": loss.detach(), **value_metrics(data, target)}

    def update(self, batch: TensorBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """Take one gradient step on policy, temperature and Qs, then update the targets."""
        batch = self.prepared(batch, generator)
        encoded = self.critics.encode(batch.obs)
        action, log_density = self.policy.sample(batch.obs, generator)
        policy_loss = self.policy_loss(log_density[0], self.critics(encoded, action)[:, 0])
        data = self.critics(encoded, batch.action.unsqueeze(0))[:, 0]
        critic_loss, metrics = self.critic_loss(data, self.target(batch, generator))
        temperature_loss = self.temperature_loss(log_density[0])
        self.step({"policy": policy_loss, "critics": critic_loss, "temperature": temperature_loss})
        return {
            "policy_loss": policy_loss.detach(),
            "entropy": -log_density.detach().mean(),
            **metrics,
            "temperature": self.log_temperature.detach().exp(),
        }
