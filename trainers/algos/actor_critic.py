"""Base classes of the learners with a policy and Q-functions: networks, targets, temperature, update.

Shapes: B batch, N sampled actions, E ensemble, A action.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor, nn

from trainers.algorithm import Algorithm, Config, Spec, Success, TensorBatch, TensorObs
from trainers.identity import later
from trainers.networks.augment import augment
from trainers.networks.categorical import CategoricalPolicy
from trainers.networks.images import scaled
from trainers.networks.modules import CriticForm, EncodedCritics, GaussianPolicy, follow
from trainers.networks.targets import BELLMAN_TARGETS

PUBLISHED_VALUE: Final = 100.0
"""Largest value at the published γ = .99 without terminals, 1/(1-γ): the scale of the published settings."""


@dataclass(frozen=True, kw_only=True)
class ActorCriticConfig(Config):
    """Settings that all actor-critics have; each algorithm's file defines the defaults.

    Attributes:
        critic_widths: Widths of the hidden layers of each Q.
        policy_widths: Widths of the hidden layers of the policy.
        critics: E, number of Qs.
        layer_norm: Whether the hidden layers of the Qs have LayerNorm.
        half_gradients: Whether gradients of the Qs are computed in bfloat16, where the processor supports it.
        discount: Discount factor γ.
        target_rate: Rate τ of the target networks.
        critic_learning_rate: Adam's learning rate of the critics.
        policy_learning_rate: Adam's learning rate of the policy.
        stochastic: Whether the policy is sampled in evaluation; else its mode acts.
        success: Bellman target, key of :data:`trainers.networks.targets.BELLMAN_TARGETS`.
        n_step: Number of rewards in a target, before the value of the observation that they lead to.
    """

    critic_widths: tuple[int, ...]
    policy_widths: tuple[int, ...]
    critics: int
    layer_norm: bool
    half_gradients: bool
    discount: float
    target_rate: float
    critic_learning_rate: float
    policy_learning_rate: float
    stochastic: bool
    success: Success
    n_step: int = later(1)

    def __post_init__(self) -> None:
        """Check ranges."""
        super().__post_init__()
        self.require("critics", 1, 64)
        self.require("n_step", 1, 1000)
        self.require("discount", 0, 1 - 1e-6)
        self.require("target_rate", 1e-6, 1)
        self.require("critic_learning_rate", 0, 1)
        self.require("policy_learning_rate", 0, 1)


class QLearner(Algorithm):
    """Critics and their target networks.

    Attributes:
        critics: Q(s, a).
        targets: Target networks: averages of the critics that evaluate s'.
    """

    config: ActorCriticConfig
    critics: nn.Module
    targets: nn.Module

    @property
    def largest_return(self) -> float:
        """Largest magnitude of a return: of rewards up to 1, 1 if success is absorbing, else 1/(1-γ)."""
        return max(map(abs, self.spec.rewards)) * self._rewarded_steps

    @property
    def _rewarded_steps(self) -> float:
        """Discounted number of steps that are rewarded in one return."""
        return 1.0 if self.config.success == "absorbing" else 1 / (1 - self.config.discount)

    @property
    def value_range(self) -> tuple[float, float]:
        """Smallest and largest discounted return, 0 among them."""
        low, high = self.spec.rewards
        return (min(low, 0.0) * self._rewarded_steps, max(high, 0.0) * self._rewarded_steps)

    @property
    def value_scale(self) -> float:
        """Largest return, divided by the largest one of the published settings."""
        return self.largest_return / PUBLISHED_VALUE

    def prepared(self, batch: TensorBatch, generator: torch.Generator) -> TensorBatch:
        """Return the batch with images cropped, and cast once for all networks."""
        batch = augment(batch, self.spec.obs, self.config.crop_px, generator)
        if not self.spec.obs.has_image:
            return batch
        return replace(batch, obs=self._cast(batch.obs), next_obs=self._cast(batch.next_obs))

    def _cast(self, obs: TensorObs) -> TensorObs:
        for one in self.spec.obs.images:
            obs = obs.having(one.name, scaled(obs[one.name], one))
        return obs

    def bellman_target(self, batch: TensorBatch, next_value: Tensor) -> Tensor:
        """Return the Bellman target (B,) of Q(s, a), given the value (B,) of s'; of n steps if configured."""
        discount = self.config.discount if batch.discount is None else batch.discount
        return BELLMAN_TARGETS[self.config.success](batch.reward, batch.terminated, next_value, discount)

    def step(self, losses: Mapping[str, Tensor]) -> None:
        """Take one step with every optimiser on the loss of the same name, then update the targets.

        All gradients are computed before the first step, so the actor's gradient goes through the critics
        that its loss was computed with. Only gradients of the optimiser's own parameters are computed.
        """
        gradients = {
            name: torch.autograd.grad(loss, self._parameters_of(name), retain_graph=True)
            for name, loss in losses.items()
        }
        for name, found in gradients.items():
            for parameter, gradient in zip(self._parameters_of(name), found, strict=True):
                parameter.grad = gradient
            self.optimisers[name].step()
        follow(self.targets, self.critics, self.config.target_rate)
        self.updates_done += 1

    def _parameters_of(self, optimiser: str) -> list[Tensor]:
        """Trainable parameters of an optimiser; an encoder's unused points are not trainable."""
        groups = self.optimisers[optimiser].param_groups
        return [parameter for group in groups for parameter in group["params"] if parameter.requires_grad]


class ActorCritic(QLearner):
    """A policy, E critics and their target networks.

    Attributes:
        policy: π(a|s): a tanh-Gaussian, or categories if the action is discrete.
        shared_encoder: Whether the policy uses the critics' image encoder, which their loss alone trains.
    """

    acting: tuple[str, ...] = ("policy",)
    critics: EncodedCritics
    targets: EncodedCritics

    def __init__(self, config: ActorCriticConfig, spec: Spec, *, shared_encoder: bool = False) -> None:
        super().__init__(spec)
        self.config = config
        self.shared_encoder = shared_encoder and spec.obs.has_image
        kind = CategoricalPolicy if spec.action.discrete else GaussianPolicy
        self.policy = kind(spec, config.encoder, config.policy_widths)
        form = CriticForm(
            config.critics, config.critic_widths, config.layer_norm, config.half_gradients, shared_encoder
        )
        self.critics = EncodedCritics(spec, config.encoder, form)
        own = list(self.policy.parameters())
        if self.shared_encoder:
            own = self.policy.share_encoder(self.critics.inputs[0])
        self.targets = copy.deepcopy(self.critics).requires_grad_(False)
        self.optimisers = {
            "policy": adam(own, config.policy_learning_rate),
            "critics": adam(self.critics.parameters(), config.critic_learning_rate),
        }

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """Noise of the policy, or none for a deterministic one."""
        return self.explore_noise_shape if self.config.stochastic else (0,)

    @torch.no_grad()
    def act(self, obs: TensorObs, noise: Tensor) -> Tensor:
        """Return the policy's mode, or a sample with the setting ``stochastic``."""
        if self.config.stochastic:
            return self.explore(obs, noise)
        policy = self._acting_policy()
        return policy.mode(policy.inputs(obs))

    @property
    def explore_noise_shape(self) -> tuple[int, ...]:
        """One number per entry of the action."""
        return (self.policy.noise_dim,)

    @torch.no_grad()
    def explore(self, obs: TensorObs, noise: Tensor) -> Tensor:
        """Sample the policy."""
        policy = self._acting_policy()
        return policy.draw(policy.inputs(obs), noise)

    def _acting_policy(self) -> GaussianPolicy | CategoricalPolicy:
        found: GaussianPolicy | CategoricalPolicy = self.get_submodule(self.acting[0])  # type: ignore[assignment]
        return found


@dataclass(frozen=True, kw_only=True)
class SoftConfig(ActorCriticConfig):
    """Settings of an entropy term with an automatic temperature.

    Attributes:
        temperature: Initial temperature of the entropy term, in units of ``value_scale``.
        target_entropy: Entropy of the policy that the temperature is tuned for, in nats.
    """

    temperature: float
    target_entropy: float

    def __post_init__(self) -> None:
        """Check ranges."""
        super().__post_init__()
        self.require("temperature", 1e-9, math.inf)


class SoftActorCritic(ActorCritic):
    """An actor-critic with an entropy term and a learned temperature.

    Attributes:
        log_temperature: log α, in units of ``value_scale``.
    """

    config: SoftConfig
    policy: GaussianPolicy

    def __init__(self, config: SoftConfig, spec: Spec, *, shared_encoder: bool = False) -> None:
        super().__init__(config, spec, shared_encoder=shared_encoder)
        self.log_temperature = nn.Parameter(torch.tensor(math.log(config.temperature)))
        self.optimisers["temperature"] = adam([self.log_temperature], config.policy_learning_rate)

    def policy_loss(self, log_density: Tensor, values: Tensor) -> Tensor:
        """Mean of α log π(a|s) - min Q(s, a) for a ~ π(·|s); log density (B,), values (E, B)."""
        weight = self.log_temperature.exp().detach() * self.value_scale
        return (weight * log_density - values.amin(0)).mean()

    def temperature_loss(self, log_density: Tensor) -> Tensor:
        """Log α · (entropy - target): α falls while the policy is more random than the target."""
        entropy = -log_density.detach()
        return (self.log_temperature * (entropy - self.config.target_entropy)).mean()


def value_metrics(data: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Statistics of Q(s, a) on the data (E, B) and of its targets (B,)."""
    values = data.detach()
    return {
        "q_mean": values.mean(), "q_max": values.max(), "q_min": values.min(), "target_mean": target.mean(),
    }  # fmt: skip


def adam(parameters: Iterable[Tensor], learning_rate: float) -> torch.optim.Adam:
    """Return an Adam optimiser with the settings that all actor-critics use."""
    return torch.optim.Adam(parameters, lr=learning_rate, fused=True)
