"""Implicit Q-learning: values by expectile regression on the data's actions, a policy weighted by advantage.

Source: Kostrikov, Nair, Levine, arXiv 2110.06169, eq. 5-7; published code
ikostrikov/implicit_q_learning @ 09d7002. It is not in the COG paper; it is an in-sample alternative to
CQL. Deviations:

1. The policy is a tanh-Gaussian whose spread depends on the state; theirs has a tanh on the mean alone and
   one spread for all states. Its density at ±1 is read at ±(1 - 1e-6), as everywhere here.
2. No cosine schedule of the policy's learning rate, no dropout.
3. Values of the tasks here lie in [0, 1] or [0, 1/(1-γ)]: the inverse temperature is used in units of
   1/``value_scale``, which gives the published weights on values up to 100 (their AntMaze).
4. All losses use the networks before the update; theirs computes the policy's weights and the Qs' targets
   with the value network after its step.
5. Qs and V start at 0, where every weight is 1; in these units a random start is a random choice of data.
6. Encoders run once per network and observation; the value network has its own, as all networks here.
7. For Discrete and MultiDiscrete actions the policy is categorical, with independent entries, and a Q reads
   the action as one-hot vectors; the losses are eq. 5-7 unchanged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Final

import torch
from torch import Tensor, nn

from trainers.algorithm import ActionSpec, Algorithm, Config, Spec, Success, TensorBatch
from trainers.algos.actor_critic import ActorCritic, ActorCriticConfig, adam, value_metrics
from trainers.networks.categorical import one_hot
from trainers.networks.modules import ValueNetwork

WEIGHT_LIMIT: Final = 100.0
"""Largest weight of a transition in the policy's loss (published code)."""


@dataclass(frozen=True)
class IqlConfig(ActorCriticConfig):
    """Settings of IQL."""

    updates: int = 20_000  # number of updates
    batch_size: int = 256  # transitions per update (published code)
    encoder: str = "fast"  # image encoder, key of ENCODERS
    crop_px: int = 4  # padding of the random crop in training (avisingh599/cog @ 98252e1)
    critic_widths: tuple[int, ...] = (256, 256)  # hidden layers of each Q and of V (published code)
    policy_widths: tuple[int, ...] = (256, 256)  # hidden layers of the policy (published code)
    critics: int = 2  # E, number of Qs (published code)
    layer_norm: bool = False  # LayerNorm in the hidden layers of the Qs
    half_gradients: bool = True  # gradients of the Qs in bfloat16 where supported; values never (ours)
    discount: float = 0.95  # γ; as in the other "fast" presets; published code: .99
    target_rate: float = 0.02  # τ of the target networks; published code: .005
    critic_learning_rate: float = 3e-4  # Adam's learning rate of the Qs and V (published code)
    policy_learning_rate: float = 3e-4  # Adam's learning rate of the policy (published code)
    stochastic: bool = False  # sample the policy in evaluation; false: its mode (published code)
    success: Success = "absorbing"  # a reward ends the return; "continuing": no terminals
    expectile: float = 0.9  # τ of the expectile (published code, AntMaze)
    inverse_temperature: float = 10.0  # β of the weights exp(β A), in units of 1/value_scale (AntMaze)

    def __post_init__(self) -> None:
        """Check ranges."""
        super().__post_init__()
        self.require("expectile", 0.5, 1 - 1e-6)
        self.require("inverse_temperature", 0, math.inf)


def expectile_loss(difference: Tensor, expectile: float) -> Tensor:
    """Mean of |τ - 1(u < 0)| u² (eq. 5)."""
    weight = torch.where(difference < 0, 1 - expectile, expectile)
    return (weight * difference.square()).mean()


class Iql(ActorCritic):
    """Implicit Q-learning."""

    name: ClassVar[str] = "iql"
    presets: ClassVar[Mapping[str, Config]] = MappingProxyType(
        {
            "fast": IqlConfig(),
            "paper": IqlConfig(
                updates=500_000,
                encoder="paper",
                critic_widths=(1024, 512, 256),
                policy_widths=(1024, 512, 256, 256, 256, 256),
                discount=0.99,
                target_rate=0.005,
                success="continuing",
                half_gradients=False,
            ),
        }
    )
    config: IqlConfig

    def __init__(self, config: IqlConfig, spec: Spec) -> None:
        super().__init__(config, spec)
        self.value = ValueNetwork(spec.obs, config.encoder, config.critic_widths)
        for layer in (self.critics.critics.out, self.targets.critics.out, self.value.out):
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)
        self.optimisers["value"] = adam(self.value.parameters(), config.critic_learning_rate)

    @classmethod
    def learning(cls, action: ActionSpec) -> type[Algorithm]:
        """Return this class, for a Box, Discrete or MultiDiscrete action."""
        return cls

    def value_loss(self, target_values: Tensor, value: Tensor) -> Tensor:
        """Expectile loss of V(s) (B,) to the minimum of the target Qs (E, B) (eq. 5)."""
        return expectile_loss(target_values.amin(0) - value, self.config.expectile)

    def critic_loss(self, data: Tensor, target: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Sum over the Qs (E, B) of the mean squared error to r + γ V(s') (B,) (eq. 6)."""
        loss = (data - target).square().mean(1).sum()
        return loss, {"bellman_loss": loss.detach(), **value_metrics(data, target)}

    def policy_loss(self, batch: TensorBatch, advantage: Tensor) -> tuple[Tensor, Tensor]:
        """Mean of -min(exp(β A), 100) log π(a|s) (eq. 7), and the mean weight."""
        weight = torch.exp(advantage * (self.config.inverse_temperature / self.value_scale))
        weight = weight.clamp(max=WEIGHT_LIMIT)
        log_density = self.policy.log_density(self.policy.inputs(batch.obs), batch.action)
        return -(weight * log_density).mean(), weight.mean()

    def update(self, batch: TensorBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """Take one gradient step on V, policy and Qs, then update the targets."""
        batch = self.prepared(batch, generator)
        discrete = self.spec.action.discrete
        action = (one_hot(batch.action, self.spec.action) if discrete else batch.action).unsqueeze(0)
        value = self.value(batch.obs)
        with torch.no_grad():
            target_values = self.targets(self.targets.encode(batch.obs), action)[:, 0]
            target = self.bellman_target(batch, self.value(batch.next_obs))
            advantage = target_values.amin(0) - value
        value_loss = self.value_loss(target_values, value)
        data = self.critics(self.critics.encode(batch.obs), action)[:, 0]
        critic_loss, metrics = self.critic_loss(data, target)
        policy_loss, weight = self.policy_loss(batch, advantage)
        self.step({"value": value_loss, "critics": critic_loss, "policy": policy_loss})
        return {
            "value_loss": value_loss.detach(),
            "policy_loss": policy_loss.detach(),
            "advantage_weight": weight,
            **metrics,
        }
