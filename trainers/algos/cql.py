"""Conservative Q-learning, CQL(H), as COG runs it: a lower bound of values keeps the policy near the data.

Source: Kumar et al., arXiv 2006.04779, eq. 4; COG, arXiv 2010.14500, §4, A.2, A.3; published code
avisingh599/cog @ 98252e1. Deviations, 1-4 of them faults not repeated:

1. The targets start as copies of the Qs; in the code they start as networks of their own.
2. The actor is differentiated through the Qs before these move.
3. Linear layers keep torch's initialisation; the code draws them from ±1e-4.
4. log(1 - tanh²) in its stable form.
5. The logsumexp is divided by its number of samples, which makes it an estimate of log ∫ exp Q da; the
   gradient is the same.
6. One sample of π(·|s') serves the backup and the penalty; the code draws it twice.
7. With ``success = absorbing`` values lie in [0, 1], not in [0, 1/(1-γ)]. The published numbers belong to
   γ = .99, values up to 100: penalty, its temperature and the entropy are used in units of ``value_scale`` =
   (largest value) / 100, which is the published loss on rewards of another size, exactly.
8. Encoders run once per network and observation; the first linear layer is split into a share of the
   features and one of the action (both exact).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Final

import torch
from torch import Tensor, nn

from trainers.algorithm import ACTION_DIM, Algorithm, Config, ObsSpec, Success, TensorBatch, TensorObs
from trainers.augment import augment
from trainers.networks import (
    LOG_HALF,
    EncodedCritics,
    GaussianPolicy,
    follow,
    tanh_normal,
    tanh_normal_log_density,
)
from trainers.targets import TARGETS

PUBLISHED_VALUE: Final = 100.0
"""Largest value at the published γ = .99 without terminals, 1/(1-γ): the scale its settings belong to."""


@dataclass(frozen=True)
class CqlConfig(Config):
    """Settings of CQL(H)."""

    updates: int = 20_000  # gradient steps
    batch_size: int = 256  # transitions per update (A.3)
    encoder: str = "fast"  # of images: "fast" or "paper"
    crop_px: int = 4  # padding of the random crop in training (published code)
    critic_widths: tuple[int, ...] = (256, 256)  # hidden layers of each Q
    policy_widths: tuple[int, ...] = (256, 256)  # hidden layers of the policy
    discount: float = 0.95  # γ; A.3: .99; smaller, there is more contrast (docs/learning.md, Feasibility)
    target_rate: float = 0.02  # τ of the target networks; A.3: .005
    critic_learning_rate: float = 3e-4  # of Adam (A.3)
    policy_learning_rate: float = 1e-4  # of Adam (published code; A.3 says 3e-5)
    penalty_weight: float = 1.0  # α on the conservative term, in units of value_scale (A.3)
    penalty_samples: int = 1  # N actions each from uniform, π(s) and π(s') (A.3)
    temperature: float = 1.0  # initial entropy temperature, in units of value_scale (published code)
    target_entropy: float = -8.0  # of the automatic temperature: minus the action dimension (published code)
    warm_start: int = 2_000  # updates in which the policy clones the data (A.3: 10 000)
    success: Success = "absorbing"  # a rewarded transition ends the sum, or "continuing": paper, no terminals

    def __post_init__(self) -> None:
        """Check ranges."""
        super().__post_init__()
        self.require("discount", 0, 1 - 1e-6)
        self.require("target_rate", 1e-6, 1)
        self.require("critic_learning_rate", 0, 1)
        self.require("policy_learning_rate", 0, 1)
        self.require("penalty_weight", 0, math.inf)
        self.require("penalty_samples", 1, 1024)
        self.require("temperature", 1e-9, math.inf)
        self.require("warm_start", 0, math.inf)


def log_integral_exp(values: Tensor, log_density: Tensor, scale: float) -> Tensor:
    """Estimate scale · log ∫ exp(Q(s, a) / scale) da by importance sampling.

    Args:
        values: Q(s, a_n), (..., N, B).
        log_density: Log density of the distribution that a_n came from, (N, B).
        scale: Temperature.

    Returns:
        (..., B).
    """
    weighted = values / scale - log_density
    return scale * (torch.logsumexp(weighted, dim=-2) - math.log(values.shape[-2]))


def conservative_penalty(values: Tensor, log_density: Tensor, data_values: Tensor, scale: float) -> Tensor:
    """Sum over critics of mean log ∫ exp Q(s, ·) - Q(s, a of the data).

    Args:
        values: (E, N, B) at sampled actions.
        log_density: (N, B).
        data_values: (E, B).
        scale: Temperature of the logsumexp.
    """
    return (log_integral_exp(values, log_density, scale) - data_values).mean(-1).sum()


class Cql(Algorithm):
    """Conservative Q-learning with a tanh-Gaussian policy."""

    name: ClassVar[str] = "cql"
    presets: ClassVar[Mapping[str, Config]] = MappingProxyType(
        {
            "fast": CqlConfig(),
            "paper": CqlConfig(
                updates=500_000,
                encoder="paper",
                critic_widths=(1024, 512, 256),
                policy_widths=(1024, 512, 256, 256, 256, 256),
                discount=0.99,
                target_rate=0.005,
                warm_start=10_000,
                success="continuing",
            ),
        }
    )
    acting: ClassVar[tuple[str, ...]] = ("policy",)

    def __init__(self, config: CqlConfig, spec: ObsSpec) -> None:
        super().__init__(spec)
        self.config: CqlConfig = config
        self.policy = GaussianPolicy(spec, config.encoder, config.policy_widths)
        self.critics = EncodedCritics(spec, config.encoder, 2, config.critic_widths)
        self.targets = copy.deepcopy(self.critics).requires_grad_(False)
        self.log_temperature = nn.Parameter(torch.tensor(math.log(config.temperature)))
        actor_lr = config.policy_learning_rate
        self.optimisers = {
            "policy": torch.optim.Adam(self.policy.parameters(), lr=actor_lr, fused=True),
            "critics": torch.optim.Adam(
                self.critics.parameters(), lr=config.critic_learning_rate, fused=True
            ),
            "temperature": torch.optim.Adam([self.log_temperature], lr=actor_lr, fused=True),
        }

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """Deterministic when judged (published code)."""
        return (0,)

    @property
    def value_range(self) -> tuple[float, float]:
        """[0, 1] if success is absorbing, else [0, 1/(1-γ)]."""
        return (0.0, 1.0 if self.config.success == "absorbing" else 1 / (1 - self.config.discount))

    @property
    def value_scale(self) -> float:
        """Largest value in units of the published one."""
        return self.value_range[1] / PUBLISHED_VALUE

    def policy_loss(
        self, batch: TensorBatch, features: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Mean of α log π(a|s) - min Q(s, a), a ~ π; in the warm start -log π(a of the data) for Q.

        Returns:
            Loss, -log π of the sampled action (B,) detached, and metrics.
        """
        mean, log_std = self.policy(batch.obs)
        noise = torch.randn(mean.shape, generator=generator, device=mean.device)
        action, log_density = tanh_normal(mean, log_std, noise)
        if self.updates_done < self.config.warm_start:
            aim = tanh_normal_log_density(mean, log_std, batch.action)
            weight = self.log_temperature.exp().detach()
        else:
            aim = self.critics(features.detach(), action.unsqueeze(0)).squeeze(1).amin(0)
            weight = self.log_temperature.exp().detach() * self.value_scale
        loss = (weight * log_density - aim).mean()
        metrics = {"policy_loss": loss.detach(), "entropy": -log_density.detach().mean()}
        return loss, -log_density.detach(), metrics

    def temperature_loss(self, entropy: Tensor) -> Tensor:
        """Log α · (entropy - target): α falls while the policy is more random than the target."""
        return (self.log_temperature * (entropy - self.config.target_entropy)).mean()

    @torch.no_grad()
    def penalty_actions(self, batch: TensorBatch, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw N actions each from uniform, π(s) and π(s'), in this order.

        Returns:
            Actions (3N, B, A) and the log densities they were drawn with (3N, B).
        """
        n, device = self.config.penalty_samples, batch.action.device
        uniform = torch.rand((n, len(batch), ACTION_DIM), generator=generator, device=device) * 2 - 1
        actions, densities = [uniform], [torch.full((n, len(batch)), ACTION_DIM * LOG_HALF, device=device)]
        for obs in (batch.obs, batch.next_obs):
            mean, log_std = self.policy(obs)
            noise = torch.randn((n, *mean.shape), generator=generator, device=device)
            action, density = tanh_normal(mean, log_std, noise)
            actions.append(action)
            densities.append(density)
        return torch.cat(actions), torch.cat(densities)

    @torch.no_grad()
    def target(self, batch: TensorBatch, next_action: Tensor) -> Tensor:
        """Target (B,) with min over the target Qs at a' ~ π(s'); no entropy in the backup."""
        next_value = self.targets(self.targets.encode(batch.next_obs), next_action.unsqueeze(0))
        make_target = TARGETS[self.config.success]
        return make_target(
            batch.reward, batch.terminated, next_value.squeeze(1).amin(0), self.config.discount
        )

    def critic_loss(
        self, batch: TensorBatch, features: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Sum over the Qs of the mean squared Bellman error plus the weighted penalty."""
        sampled, log_density = self.penalty_actions(batch, generator)
        target = self.target(batch, sampled[-1])
        values = self.critics(features, torch.cat([sampled, batch.action.unsqueeze(0)]))  # (E, 3N + 1, B)
        data = values[:, -1]
        bellman = (data - target).square().mean(1).sum()
        penalty = conservative_penalty(values[:, :-1], log_density, data, self.value_scale)
        seen = data.detach()
        metrics = {
            "bellman_loss": bellman.detach(),
            "penalty": penalty.detach(),
            "q_mean": seen.mean(),
            "q_max": seen.max(),
            "q_min": seen.min(),
            "target_mean": target.mean(),
        }
        return bellman + self.config.penalty_weight * self.value_scale * penalty, metrics

    def update(self, batch: TensorBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """Take one gradient step on policy, temperature and Qs, then move the targets."""
        batch = augment(batch, self.config.crop_px, generator)
        features = self.critics.encode(batch.obs)
        policy_loss, entropy, policy_metrics = self.policy_loss(batch, features, generator)
        critic_loss, critic_metrics = self.critic_loss(batch, features, generator)
        temperature_loss = self.temperature_loss(entropy)
        losses = {"policy": policy_loss, "critics": critic_loss, "temperature": temperature_loss}
        gradients = {
            name: torch.autograd.grad(loss, self._parameters_of(name)) for name, loss in losses.items()
        }
        for name, optimiser in self.optimisers.items():
            for parameter, gradient in zip(self._parameters_of(name), gradients[name], strict=True):
                parameter.grad = gradient
            optimiser.step()
        follow(self.targets, self.critics, self.config.target_rate)
        self.updates_done += 1
        temperature = self.log_temperature.detach().exp()
        return {**policy_metrics, **critic_metrics, "temperature": temperature}

    def _parameters_of(self, optimiser: str) -> list[Tensor]:
        return [
            parameter for group in self.optimisers[optimiser].param_groups for parameter in group["params"]
        ]

    @torch.no_grad()
    def act(self, obs: TensorObs, noise: Tensor) -> Tensor:
        """Take the policy's mode; ``noise`` is (B, 0)."""
        mean, _ = self.policy(obs)
        return torch.tanh(mean)
