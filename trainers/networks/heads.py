"""Heads of behaviour cloning: distributions of actions given features, with one mode or many.

Shapes: B batch, K components, D features, A action.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from cogdata.errors import CogError
from cogdata.features import Command
from trainers.algorithm import ActionSpec, Spec, TensorObs
from trainers.networks.categorical import CategoricalPolicy
from trainers.networks.draws import choose
from trainers.networks.encoders import Inputs
from trainers.networks.flow import Flow
from trainers.networks.modules import LOG_STD_RANGE, GaussianPolicy, mlp, tanh_normal_log_density

FLOW_STEPS: Final = 10
"""Number of Euler steps of a cloned flow, from noise to action."""


class Cloner(nn.Module, ABC):
    """A policy π(a|s) learned by cloning.

    Attributes:
        inputs: Encoder from observations to features.
        noise_dim: Number of standard normal numbers that one action is drawn from.
    """

    inputs: Inputs
    noise_dim: int

    def encode(self, obs: TensorObs) -> Tensor:
        """Turn observations into features (B, D)."""
        features: Tensor = self.inputs(obs)
        return features

    @abstractmethod
    def loss(
        self, features: Tensor, action: Tensor, generator: torch.Generator, counted: Tensor | None = None
    ) -> Tensor:
        """Return the cloning loss (B,).

        Args:
            features: (B, D).
            action: (B, A), or its leading dimensions.
            generator: Generator of what the loss draws.
            counted: float, of the action's shape, 0 for entries that are left out; None: all count.
        """

    @abstractmethod
    def draw(self, features: Tensor, noise: Tensor) -> Tensor:
        """Turn standard normal noise (B, noise_dim) into actions (B, A)."""

    @abstractmethod
    def mode(self, features: Tensor) -> Tensor:
        """Return the most likely actions (B, A), or an approximation."""


class GaussianCloner(GaussianPolicy, Cloner):
    """A tanh-Gaussian with the actor-critics' policy network, so that they can start from its weights."""

    def loss(
        self, features: Tensor, action: Tensor, generator: torch.Generator, counted: Tensor | None = None
    ) -> Tensor:
        """Return -log π(a|s)."""
        mean, log_std = self.at(features)
        dim = action.shape[1]
        return -tanh_normal_log_density(mean[:, :dim], log_std[:, :dim], action, counted)


class CategoricalCloner(CategoricalPolicy, Cloner):
    """Categorical distributions over the choices of a discrete action, with the actor-critics' network."""

    def loss(
        self, features: Tensor, action: Tensor, generator: torch.Generator, counted: Tensor | None = None
    ) -> Tensor:
        """Return -log π(a|s)."""
        return -self.log_density(features, action, counted)


class MixtureCloner(Cloner):
    """A weighted mixture of K tanh-Gaussians (Bishop's mixture density network)."""

    def __init__(self, spec: Spec, encoder: str, widths: Sequence[int], components: int) -> None:
        super().__init__()
        self.noise_dim = spec.action.dim + 1
        self.inputs = Inputs(spec.obs, encoder)
        self.trunk = mlp([self.inputs.dim, *widths], final_relu=True)
        self.weights = nn.Linear(widths[-1], components)
        self.head = nn.Linear(widths[-1], components * 2 * spec.action.dim)

    def at(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return log weights (B, K), means and log standard deviations (B, K, A)."""
        h = self.trunk(features)
        mean, log_std = self.head(h).unflatten(1, (self.weights.out_features, -1)).chunk(2, dim=2)
        return F.log_softmax(self.weights(h), dim=1), mean, log_std.clamp(*LOG_STD_RANGE)

    def loss(
        self, features: Tensor, action: Tensor, generator: torch.Generator, counted: Tensor | None = None
    ) -> Tensor:
        """Return -log Σ_k w_k π_k(a|s)."""
        log_weight, mean, log_std = self.at(features)
        dim = action.shape[1]
        own = None if counted is None else counted.unsqueeze(1)
        each = tanh_normal_log_density(mean[..., :dim], log_std[..., :dim], action.unsqueeze(1), own)
        return -torch.logsumexp(log_weight + each, dim=1)

    def draw(self, features: Tensor, noise: Tensor) -> Tensor:
        """Draw the component from the last number of the noise, the action from the others."""
        log_weight, mean, log_std = self.at(features)
        chosen = choose(log_weight, noise[:, -1])
        return torch.tanh(_row(mean, chosen) + _row(log_std, chosen).exp() * noise[:, :-1])

    def mode(self, features: Tensor) -> Tensor:
        """Return the mode of the component with the largest weight."""
        log_weight, mean, _ = self.at(features)
        return torch.tanh(_row(mean, log_weight.argmax(1)))


class FlowCloner(Cloner):
    """A flow from normal noise to actions (Lipman et al., arXiv 2210.02747)."""

    def __init__(self, spec: Spec, encoder: str, widths: Sequence[int]) -> None:
        super().__init__()
        self.noise_dim = spec.action.dim
        self.inputs = Inputs(spec.obs, encoder)
        self.flow = Flow(self.inputs.dim, spec.action.dim, widths)

    def loss(
        self, features: Tensor, action: Tensor, generator: torch.Generator, counted: Tensor | None = None
    ) -> Tensor:
        """Squared error of the velocity on straight lines from noise to action: (v(x_t, t) - (a - x_0))²."""
        beyond = self.noise_dim - action.shape[1]
        if counted is not None:
            action = action * counted  # the velocity of what counts depends on the rest too
        action = F.pad(action, (0, beyond))
        noise = torch.randn(action.shape, generator=generator, device=action.device)
        time = torch.rand((len(action), 1), generator=generator, device=action.device)
        velocity: Tensor = self.flow(features, torch.lerp(noise, action, time), time)
        each = (velocity - (action - noise)).square()
        return each.mean(1) if counted is None else (each * F.pad(counted, (0, beyond), value=1.0)).mean(1)

    def draw(self, features: Tensor, noise: Tensor) -> Tensor:
        """Integrate the flow from the noise."""
        return self.flow.sample(features, noise.unsqueeze(0), FLOW_STEPS)[0]

    def mode(self, features: Tensor) -> Tensor:
        """Integrate the flow from noise 0."""
        return self.draw(features, features.new_zeros(len(features), self.noise_dim))


class HybridCloner(Cloner):
    """A motion head of the kinds above, with the declared commands as categorical distributions.

    The motion is the dimensions that are no command, in their order; its head has outputs left over.
    """

    def __init__(self, action: ActionSpec, motion: Cloner, widths: Sequence[int]) -> None:
        super().__init__()
        self.declared = action.feature.commands
        if not self.declared:
            raise CogError(
                "hybrid=true needs an action that declares commands, and this one has none: leave it out"
            )
        if action.apart:
            raise CogError("hybrid=true needs an action whose entries all have bounds: leave it out")
        self.action = action
        self.levels = [action.levels_in_unit(one) for one in self.declared]
        self.motion = motion
        self.noise_dim = motion.noise_dim + len(self.declared)
        commanded = [one.dim for one in self.declared]
        self.moving = [dim for dim in range(action.dim) if dim not in commanded]
        order = [*self.moving, *commanded]
        self.places = [order.index(dim) for dim in range(action.dim)]
        self.commands = mlp(
            [motion.inputs.dim, *widths, sum(len(one.levels) for one in self.declared)], final_relu=False
        )

    def encode(self, obs: TensorObs) -> Tensor:
        """Turn observations into features (B, D), for motion and commands."""
        return self.motion.encode(obs)

    def at(self, features: Tensor) -> list[Tensor]:
        """Return the log probabilities of each command's levels, (B, levels) each."""
        logits = self.commands(features).split([len(one.levels) for one in self.declared], dim=1)
        return [F.log_softmax(part, dim=1) for part in logits]

    def loss(
        self, features: Tensor, action: Tensor, generator: torch.Generator, counted: Tensor | None = None
    ) -> Tensor:
        """Return the loss of the motion plus the cross entropy of the commands."""
        own = None if counted is None else counted[:, self.moving]
        total = self.motion.loss(features, action[:, self.moving], generator, own)
        done = self.action.from_unit(action)
        for log_probability, command in zip(self.at(features), self.declared, strict=True):
            level = level_of(done[:, command.dim], command)
            wrong = F.nll_loss(log_probability, level, reduction="none")
            total = total + (wrong if counted is None else wrong * counted[:, command.dim])
        return total

    def draw(self, features: Tensor, noise: Tensor) -> Tensor:
        """Draw the commands from the last numbers of the noise, the motion from the others."""
        dim = self.motion.noise_dim
        motion = self.motion.draw(features, noise[:, :dim])
        chosen = [choose(p, noise[:, dim + index]) for index, p in enumerate(self.at(features))]
        return self._joined(motion, chosen)

    def mode(self, features: Tensor) -> Tensor:
        """Return the mode of the motion and the most likely commands."""
        return self._joined(self.motion.mode(features), [p.argmax(1) for p in self.at(features)])

    def _joined(self, motion: Tensor, chosen: Sequence[Tensor]) -> Tensor:
        pairs = zip(self.levels, chosen, strict=True)
        commands = [motion.new_tensor(levels)[level] for levels, level in pairs]
        joined = torch.cat([motion[:, : len(self.moving)], torch.stack(commands, dim=1)], dim=1)
        return joined if self.places == sorted(self.places) else joined[:, self.places]


def level_of(value: Tensor, command: Command) -> Tensor:
    """Return the index (B,) of the level that values (B,) of a command mean.

    A value beyond the threshold means the nearest level of its sign, any other one means level 0. A command
    without a level 0 means the nearest level.
    """
    levels = value.new_tensor(command.levels)
    distance = (value.unsqueeze(1) - levels).abs()
    if 0 in command.levels:
        sign = torch.sign(value) * (value.abs() > command.beyond)
        other = torch.sign(levels) != sign.unsqueeze(1)
        none = other.all(1, keepdim=True)  # no level of this sign: 0
        distance = distance.masked_fill(torch.where(none, levels != 0, other), torch.inf)
    return distance.argmin(1)


def _row(values: Tensor, chosen: Tensor) -> Tensor:
    """Pick values[b, chosen[b]] (B, A) from (B, K, A)."""
    return values.gather(1, chosen.view(-1, 1, 1).expand(-1, 1, values.shape[2])).squeeze(1)


HEADS: Final[Mapping[str, Callable[[Spec, str, Sequence[int], int], Cloner]]] = {
    "gaussian": lambda spec, encoder, widths, components: GaussianCloner(spec, encoder, widths),
    "mixture": MixtureCloner,
    "flow": lambda spec, encoder, widths, components: FlowCloner(spec, encoder, widths),
}
"""Value of the setting ``head`` → factory of (specification, encoder, widths, number of components)."""
