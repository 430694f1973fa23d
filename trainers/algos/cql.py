"""Conservative Q-learning, CQL(H), as in COG: a lower bound of values keeps the policy near the data.

Source: Kumar et al., arXiv 2006.04779, eq. 4 and appendix F; COG, arXiv 2010.14500, §4, A.2, A.3; published
code avisingh599/cog @ 98252e1. Deviations, of which 1-4 correct faults of the code:

1. The targets start as copies of the Qs; in the code they start as networks of their own.
2. The actor is differentiated through the Qs before these move.
3. Linear layers keep torch's initialisation; the code draws them from ±1e-4.
4. log(1 - tanh²) in its stable form.
5. The logsumexp is divided by its number of samples, which makes it an estimate of log ∫ exp Q da; the
   gradient is the same. It is log(3N) lower than the code's; ``penalty_threshold`` keeps the code's number 5,
   whose effect 5 - log(3N) has here.
6. One sample of π(·|s') serves the backup and the penalty, one of π(·|s) the actor and the penalty; the code
   draws them twice.
7. With ``success = absorbing`` values lie in [0, 1], not in [0, 1/(1-γ)]. The published numbers belong to
   γ = .99, values up to 100: penalty, its temperature and threshold, and the entropy are used in units of
   ``value_scale`` = (largest value) / 100, which is the published loss on rewards of another size, exactly.
8. Encoders run once per network and observation; the first linear layer is split into a share of the
   features and one of the action (both exact).
9. The Bellman term has weight 1, as in the code; eq. 1 of COG gives it ½ (``bellman_scale``), so that the
   code's ``penalty_weight`` 1 is the papers' α = ½.
10. The policy's learning rate is the code's 1e-4; A.3 says 3e-5.
11. With ``lagrange`` the learned weight starts at ``penalty_weight`` and replaces it; the code multiplies.
12. ``paper`` does 500,000 updates; the code 3,000 epochs of 1,000, or until it is stopped.
13. ``fast`` acts by the best of N' samples of π, by the smallest Q; the code takes the mode. In the data the
    gripper's command has two modes; the mean of a Gaussian stays on one or between them (docs/results.md).
14. With ``importance`` the temperature T divides Q alone, exp(Q/T - log μ), which estimates ∫ exp(Q/T) da
    without bias; the code divides both, (Q - log μ)/T. They agree at T = 1.
15. With ``shared_encoder`` policy and Qs share one image encoder, which the Qs' loss alone trains; in the
    code each has its own.
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

from cogdata.errors import CogError
from trainers.algorithm import Algorithm, Config, Spec, Success, TensorBatch, TensorObs
from trainers.algos.actor_critic import SoftActorCritic, SoftConfig, adam, value_metrics
from trainers.networks.modules import LOG_HALF, GaussianPolicy, average, tanh_normal, tanh_normal_log_density

LARGEST_WEIGHT: Final = 1e6
"""Bound of a learned penalty weight (published code)."""


@dataclass(frozen=True)
class CqlConfig(SoftConfig):
    """Settings of CQL(H)."""

    updates: int = 20_000  # number of updates
    batch_size: int = 256  # transitions per update (A.3)
    encoder: str = "fast"  # image encoder, key of ENCODERS
    shared_encoder: bool = False  # one image encoder for policy and Qs, trained by the Qs (ours); A.2: two
    crop_px: int = 4  # padding of the random crop in training (published code)
    critic_widths: tuple[int, ...] = (256, 256)  # hidden layers of each Q
    policy_widths: tuple[int, ...] = (256, 256)  # hidden layers of the policy
    critics: int = 2  # E, number of Qs, of which the smallest counts (A.3)
    layer_norm: bool = True  # LayerNorm in the hidden layers of the Qs; published code: none
    half_gradients: bool = True  # gradients of the Qs in bfloat16 where supported; values never (ours)
    discount: float = 0.95  # γ; A.3: .99; a smaller one gives more contrast (docs/learning.md, Feasibility)
    target_rate: float = 0.04  # τ of the target networks, as bfn's; A.3: .005
    critic_learning_rate: float = 1e-3  # Adam's learning rate of the Qs, as bfn's; A.3: 3e-4
    policy_learning_rate: float = 3e-4  # Adam's, of the policy; published code: 1e-4; A.3: 3e-5
    decay: float = 0.0  # last fraction of the updates, in which the learning rates fall linearly to 0 (ours)
    stochastic: bool = False  # sample the policy in evaluation; false: its mode (published code)
    acting_samples: int = 64  # N', number of samples of π whose best acts (ours); 1: see stochastic
    average_rate: float = 0.005  # rate of the averages of π and Qs that act (ours); 1: no averages
    success: Success = "absorbing"  # a reward ends the return; "continuing": the paper, no terminals
    temperature: float = 1.0  # initial entropy temperature, in units of value_scale (published code)
    target_entropy: float = -2.0  # entropy to tune the temperature for; broad, for N' samples; published: -8
    warm_start: int = 2_000  # number of updates in which the policy clones the data (A.3: 10,000)
    bellman_scale: float = 1.0  # weight of the squared Bellman error (published code; eq. 1: ½)
    penalty_weight: float = 1.0  # α, weight of the conservative term, in units of value_scale (A.3)
    penalty_samples: int = 1  # N, number of actions each from uniform, π(s) and π(s') (A.3)
    penalty_temperature: float = 1.0  # temperature of the logsumexp, in units of value_scale (code)
    importance: bool = True  # divide each exp Q by the density of its action's distribution (published code)
    data_in_logsumexp: bool = False  # add the data's action to the samples (published "CQL(rho)")
    lagrange: bool = False  # learn penalty_weight so that the penalty meets its threshold (Kumar, F)
    penalty_threshold: float = 5.0  # threshold of lagrange, per Q, in units of value_scale (deviation 5)
    backup_actions: int = 1  # number of actions of π(s') whose best is backed up (code: 1; max backup: 10)

    def __post_init__(self) -> None:
        """Check ranges."""
        super().__post_init__()
        self.require("warm_start", 0, math.inf)
        self.require("bellman_scale", 0, math.inf)
        self.require("penalty_weight", 1e-9 if self.lagrange else 0, math.inf)
        self.require("penalty_temperature", 1e-9, math.inf)
        self.require("penalty_samples", 1, 1024)
        self.require("backup_actions", 1, 1024)
        self.require("acting_samples", 1, 1024)
        self.require("average_rate", 1e-6, 1)
        self.require("decay", 0, 1)
        if self.importance and self.data_in_logsumexp:
            raise CogError(
                "data_in_logsumexp=true needs importance=false: the density of the data's action is not known"
            )


def log_integral_exp(values: Tensor, log_density: Tensor, scale: float) -> Tensor:
    """Estimate scale · log ∫ exp(Q(s, a) / scale) da by importance sampling.

    Args:
        values: Q(s, a_n), (..., N, B).
        log_density: Log density of the distribution that a_n came from, (N, B); 0: plain mean of exp Q.
        scale: Temperature.

    Returns:
        (..., B).
    """
    weighted = values / scale - log_density
    return scale * (torch.logsumexp(weighted, dim=-2) - math.log(values.shape[-2]))


def conservative_penalty(values: Tensor, log_density: Tensor, data_values: Tensor, scale: float) -> Tensor:
    """Mean over the batch of log ∫ exp Q(s, ·) - Q(s, a of the data), for each critic (E,).

    Args:
        values: (E, N, B) at sampled actions.
        log_density: (N, B).
        data_values: (E, B).
        scale: Temperature of the logsumexp.
    """
    return (log_integral_exp(values, log_density, scale) - data_values).mean(-1)


class Conservative:
    """The weight of the conservative penalty, configured or learned."""

    config: CqlConfig
    value_scale: float
    log_penalty_weight: Tensor

    def penalty_weight(self) -> Tensor | float:
        """Weight of the penalty: configured, or learned with ``lagrange``."""
        if not self.config.lagrange:
            return self.config.penalty_weight
        return self.log_penalty_weight.detach().exp().clamp(max=LARGEST_WEIGHT)

    def penalty_weight_loss(self, penalty: Tensor) -> Tensor:
        """Loss of the learned weight, which grows while the penalty (E,) exceeds the threshold (Kumar, F)."""
        excess = (penalty.detach() / self.value_scale - self.config.penalty_threshold).mean()
        return -self.log_penalty_weight.exp().clamp(max=LARGEST_WEIGHT) * excess


class Cql(Conservative, SoftActorCritic):
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
                layer_norm=False,
                discount=0.99,
                target_rate=0.005,
                critic_learning_rate=3e-4,
                policy_learning_rate=1e-4,
                acting_samples=1,
                average_rate=1.0,
                target_entropy=-8.0,
                warm_start=10_000,
                success="continuing",
                half_gradients=False,
            ),
        }
    )
    config: CqlConfig

    def __init__(self, config: CqlConfig, spec: Spec) -> None:
        super().__init__(config, spec, shared_encoder=config.shared_encoder)
        needed = ("policy", "critics") if config.acting_samples > 1 else ("policy",)
        self.averaged = needed if config.average_rate < 1 else ()
        for name in self.averaged:
            self.add_module(f"average_{name}", copy.deepcopy(getattr(self, name)).requires_grad_(False))
        self.acting = tuple(f"average_{name}" for name in needed) if self.averaged else needed
        if config.lagrange:
            self.log_penalty_weight = nn.Parameter(torch.tensor(math.log(config.penalty_weight)))
            self.optimisers["penalty"] = adam([self.log_penalty_weight], config.critic_learning_rate)

    def start_from(self, other: Algorithm) -> tuple[str, ...]:
        """Copy the weights of common modules; averages and targets that the other lacks start as copies."""
        taken = super().start_from(other)
        if "targets" not in taken:  # the encoder of the Qs may have been copied with the policy
            self.targets.load_state_dict(self.critics.state_dict())
        for name in self.averaged:
            if f"average_{name}" not in taken:
                self.get_submodule(f"average_{name}").load_state_dict(self.get_submodule(name).state_dict())
        return taken

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """One row of noise for each of the N' samples, or the noise of :class:`ActorCritic`."""
        if self.config.acting_samples > 1:
            return (self.config.acting_samples, self.spec.action.dim)
        return super().noise_shape

    @property
    def explore_noise_shape(self) -> tuple[int, ...]:
        """The noise of acting by the best of N' samples, or that of :class:`ActorCritic`."""
        return self.noise_shape if self.config.acting_samples > 1 else super().explore_noise_shape

    @torch.no_grad()
    def act(self, obs: TensorObs, noise: Tensor) -> Tensor:
        """Return the best of N' samples by the smallest Q, or act as :class:`ActorCritic` does."""
        if self.config.acting_samples == 1:
            return super().act(obs, noise)
        policy, critics = (getattr(self, name) for name in self.acting)
        features = critics.features(obs)
        mean, log_std = self._distribution(policy, obs, features)
        actions, _ = tanh_normal(mean, log_std, noise.transpose(0, 1))  # (N', B, A)
        best = critics(critics.context(features), actions).amin(0).argmax(0)  # (B,)
        return actions[best, torch.arange(best.shape[0], device=best.device)]

    @torch.no_grad()
    def explore(self, obs: TensorObs, noise: Tensor) -> Tensor:
        """Return the best of N' samples, or sample the policy."""
        return self.act(obs, noise) if self.config.acting_samples > 1 else super().explore(obs, noise)

    def _distribution(
        self, policy: GaussianPolicy, obs: TensorObs, features: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Mean and log σ of a policy, from the Qs' features without gradient or from its own encoder."""
        return policy.at(features.detach()) if self.shared_encoder else policy(obs)

    def learning_rate(self, optimiser: str) -> float:
        """Learning rate of an optimiser in the next update, reduced in the last fraction of the run."""
        config = self.config
        of_critics = optimiser in ("critics", "penalty")
        whole = config.critic_learning_rate if of_critics else config.policy_learning_rate
        return whole * self.rate_left(config.decay)

    def cloning_loss(self, batch: TensorBatch, mean: Tensor, log_std: Tensor, log_density: Tensor) -> Tensor:
        """Loss of the policy in the warm start: mean of α log π(a|s) for a ~ π - log π(a of the data|s)."""
        weight = self.log_temperature.exp().detach()
        return (weight * log_density - tanh_normal_log_density(mean, log_std, batch.action)).mean()

    @torch.no_grad()
    def target(self, batch: TensorBatch, next_actions: Tensor) -> Tensor:
        """Target (B,): min over the target Qs of their best of the a' ~ π(s') (N, B, A); no entropy."""
        values = self.targets(self.targets.encode(batch.next_obs), next_actions)
        return self.bellman_target(batch, values.amax(1).amin(0))

    def penalty(self, values: Tensor, log_density: Tensor, data: Tensor) -> Tensor:
        """Conservative penalty of each critic (E,), with the configured options.

        Args:
            values: (E, N, B) at actions of uniform, π(s) and π(s').
            log_density: Log density of these actions, (N, B).
            data: Q of the data's actions, (E, B).
        """
        config = self.config
        if not config.importance:
            log_density = torch.zeros((), device=values.device)
        if config.data_in_logsumexp:
            values = torch.cat([values, data.unsqueeze(1)], dim=1)
        return conservative_penalty(values, log_density, data, config.penalty_temperature * self.value_scale)

    def critic_loss(self, data: Tensor, target: Tensor, penalty: Tensor) -> Tensor:
        """Sum over the Qs of the mean squared Bellman error plus the weighted penalty (COG, eq. 1)."""
        bellman = (data - target).square().mean(1).sum()
        weight = self.penalty_weight() * self.value_scale
        return self.config.bellman_scale * bellman + weight * penalty.sum()

    def update(self, batch: TensorBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """Take one gradient step on policy, temperature and Qs, then update targets and averages."""
        config = self.config
        batch = self.prepared(batch, generator)
        features = self.critics.features(batch.obs)
        mean, log_std = self._distribution(self.policy, batch.obs, features)
        noise = torch.randn((config.penalty_samples, *mean.shape), generator=generator, device=mean.device)
        actions, log_density = tanh_normal(mean, log_std, noise)  # (N, B, A), (N, B)
        proposals, densities, next_actions = self.proposals(batch, generator)

        encoded = self.critics.context(features)
        # evaluated apart from the others, because the actor is differentiated through this value alone
        own = self.critics(encoded, actions[:1])
        others = [actions[1:].detach(), proposals, batch.action.unsqueeze(0)]
        rest = self.critics(encoded, torch.cat(others))
        data = rest[:, -1]
        sampled = torch.cat([own, rest[:, :-1]], dim=1)
        penalty = self.penalty(sampled, torch.cat([log_density.detach(), densities]), data)
        target = self.target(batch, next_actions)

        if self.updates_done < config.warm_start:
            policy_loss = self.cloning_loss(batch, mean, log_std, log_density[0])
        else:
            policy_loss = self.policy_loss(log_density[0], own[:, 0])
        losses = {
            "policy": policy_loss,
            "critics": self.critic_loss(data, target, penalty),
            "temperature": self.temperature_loss(log_density[0]),
        }
        if config.lagrange:
            losses["penalty"] = self.penalty_weight_loss(penalty)
        for name, optimiser in self.optimisers.items():
            optimiser.param_groups[0]["lr"] = self.learning_rate(name)
        self.step(losses)
        for name in self.averaged:
            source = self.get_submodule(name)
            average(self.get_submodule(f"average_{name}"), source, config.average_rate, self.updates_done)
        return self._metrics(losses, log_density, penalty, data, target)

    @torch.no_grad()
    def proposals(self, batch: TensorBatch, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Draw N actions each from uniform and π(s') for the penalty, and the actions of the backup.

        Returns:
            Actions (2N, B, A), the log densities they were drawn with (2N, B), and a' ~ π(s') (N', B, A).
        """
        n, shape, device = self.config.penalty_samples, batch.action.shape, batch.action.device
        uniform = torch.rand((n, *shape), generator=generator, device=device) * 2 - 1
        flat = torch.full((n, len(batch)), self.spec.action.dim * LOG_HALF, device=device)
        samples = max(n, self.config.backup_actions)
        actions, log_density = self.policy.sample(batch.next_obs, generator, samples)
        densities = torch.cat([flat, log_density[:n]])
        return torch.cat([uniform, actions[:n]]), densities, actions[: self.config.backup_actions]

    @torch.no_grad()
    def _metrics(
        self, losses: Mapping[str, Tensor], log_density: Tensor, penalty: Tensor, data: Tensor, target: Tensor
    ) -> dict[str, Tensor]:
        metrics = {
            "policy_loss": losses["policy"].detach(),
            "entropy": -log_density.mean(),
            "bellman_loss": (data - target).square().mean(1).sum(),
            "penalty": penalty.sum(),
            **value_metrics(data, target),
            "temperature": self.log_temperature.exp(),
        }
        if self.config.lagrange:
            metrics["penalty_weight"] = self.log_penalty_weight.exp()
        return metrics
