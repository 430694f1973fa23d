"""Conservative Q-learning for Discrete actions: ``cql`` where an action is one of n choices.

Source: Kumar et al., arXiv 2006.04779, eq. 4, CQL(H), whose logsumexp over choices is exact here; targets
as in double DQN (van Hasselt et al., arXiv 1509.06461, eq. 4): the Qs choose, the targets evaluate.
The paper's experiments on Atari build on QR-DQN; deviations:

1. The values are means, not quantiles.
2. The smallest of E Qs counts, and averaged Qs act, as in :mod:`trainers.algos.cql`, whose units it has.
3. There is no policy network: the choice with the largest Q acts. Settings of the policy are refused.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import ClassVar, Final

import torch
from torch import Tensor, nn

from cogdata.errors import CogError
from trainers.algorithm import ActionSpec, Algorithm, Config, Spec, TensorBatch, TensorObs
from trainers.algos.actor_critic import QLearner, adam, value_metrics
from trainers.algos.cql import Conservative, Cql, CqlConfig
from trainers.networks.categorical import ChoiceCritics
from trainers.networks.modules import CriticForm, average

_OF_POLICIES: Final = (
    "policy_widths", "policy_learning_rate", "stochastic", "acting_samples", "temperature", "target_entropy",
    "warm_start", "penalty_samples", "importance", "data_in_logsumexp", "backup_actions",
)  # fmt: skip
"""Settings without effect here."""


def choice_penalty(values: Tensor, data_values: Tensor, scale: float) -> Tensor:
    """Mean over the batch of scale · log Σ_a exp(Q(s, a) / scale) - Q(s, a of the data), per critic (E,).

    Args:
        values: Q of every choice, (E, B, n).
        data_values: Q of the data's choices, (E, B).
        scale: Temperature.
    """
    return (scale * torch.logsumexp(values / scale, dim=-1) - data_values).mean(-1)


class DiscreteCql(Conservative, QLearner):
    """Conservative Q-learning with a value for each choice."""

    name: ClassVar[str] = "cql"
    presets: ClassVar[Mapping[str, Config]] = Cql.presets
    config: CqlConfig
    critics: ChoiceCritics
    targets: ChoiceCritics

    def __init__(self, config: CqlConfig, spec: Spec) -> None:
        super().__init__(spec)
        self.config = config
        for name in _OF_POLICIES:
            if getattr(config, name) not in [getattr(preset, name) for preset in self.presets.values()]:
                raise CogError(
                    f"{name}={config.to_dict()[name]} is for Box actions, the action is "
                    f"{spec.action.feature.describe()}: leave it out"
                )
        form = CriticForm(
            config.critics,
            config.critic_widths,
            config.layer_norm,
            config.half_gradients,
            config.shared_encoder,
        )
        self.critics = ChoiceCritics(spec, config.encoder, form)
        self.targets = copy.deepcopy(self.critics).requires_grad_(False)
        self.acting = ("critics",)
        if config.average_rate < 1:
            self.average_critics = copy.deepcopy(self.critics).requires_grad_(False)
            self.acting = ("average_critics",)
        self.optimisers = {"critics": adam(self.critics.parameters(), config.critic_learning_rate)}
        if config.lagrange:
            self.log_penalty_weight = nn.Parameter(torch.tensor(math.log(config.penalty_weight)))
            self.optimisers["penalty"] = adam([self.log_penalty_weight], config.critic_learning_rate)

    @classmethod
    def learning(cls, action: ActionSpec) -> type[Algorithm]:
        """Return this class, for a Discrete action.

        Raises:
            CogError: The action is MultiDiscrete.
        """
        if action.feature.shape:
            raise CogError(
                f"cql learns Box and Discrete actions, found a MultiDiscrete one "
                f"({action.feature.describe()}): choose bc or iql"
            )
        return cls

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """None: the choice with the largest value acts."""
        return (0,)

    @torch.no_grad()
    def act(self, obs: TensorObs, noise: Tensor) -> Tensor:
        """Return the choice with the largest Q, by the smallest of the critics."""
        values: Tensor = self.get_submodule(self.acting[0])(obs)
        return values.amin(0).argmax(1)

    @torch.no_grad()
    def target(self, batch: TensorBatch) -> Tensor:
        """Target (B,): the smallest target Q at s' of the choice that the Qs take there."""
        chosen = self.critics(batch.next_obs).amin(0).argmax(1)
        values = self.targets(batch.next_obs).amin(0)
        return self.bellman_target(batch, values.gather(1, chosen.unsqueeze(1)).squeeze(1))

    def critic_loss(self, data: Tensor, target: Tensor, penalty: Tensor) -> Tensor:
        """Sum over the Qs of the mean squared Bellman error plus the weighted penalty (eq. 4)."""
        bellman = (data - target).square().mean(1).sum()
        weight = self.penalty_weight() * self.value_scale
        return self.config.bellman_scale * bellman + weight * penalty.sum()

    def update(self, batch: TensorBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """Take one gradient step on the Qs, then update targets and averages."""
        config = self.config
        batch = self.prepared(batch, generator)
        values = self.critics(batch.obs)  # (E, B, n)
        data = values.gather(2, batch.action.expand(len(values), -1).unsqueeze(2)).squeeze(2)
        penalty = choice_penalty(values, data, config.penalty_temperature * self.value_scale)
        target = self.target(batch)
        losses = {"critics": self.critic_loss(data, target, penalty)}
        if config.lagrange:
            losses["penalty"] = self.penalty_weight_loss(penalty)
        for optimiser in self.optimisers.values():
            rate = config.critic_learning_rate * self.rate_left(config.decay)
            optimiser.param_groups[0]["lr"] = rate
        self.step(losses)
        if config.average_rate < 1:
            average(self.average_critics, self.critics, config.average_rate, self.updates_done)
        metrics = {
            "bellman_loss": (data - target).detach().square().mean(1).sum(),
            "penalty": penalty.detach().sum(),
            **value_metrics(data, target),
        }
        if config.lagrange:
            metrics["penalty_weight"] = self.log_penalty_weight.detach().exp()
        return metrics

    def start_from(self, other: Algorithm) -> tuple[str, ...]:
        """Copy the weights of common modules; targets and averages that the other lacks start as copies."""
        taken = super().start_from(other)
        for name in ("targets", "average_critics"):
            if hasattr(self, name) and name not in taken:
                self.get_submodule(name).load_state_dict(self.critics.state_dict())
        return taken
