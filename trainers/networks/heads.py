"""Heads of behaviour cloning: distributions of actions given features, with one mode or many.

Shapes: B batch, K components, D features, A action.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from cogdata.schema import COMMAND_THRESHOLD
from trainers.algorithm import ACTION_DIM, ObsSpec, TensorObs
from trainers.networks.encoders import Inputs
from trainers.networks.flow import Flow
from trainers.networks.modules import LOG_STD_RANGE, GaussianPolicy, mlp, tanh_normal_log_density

FLOW_STEPS: Final = 10
"""Number of Euler steps of a cloned flow, from noise to action."""

MOTION_DIM: Final = 6
"""Number of leading action dimensions that are a motion; the others, gripper and neutral, are commands."""

COMMAND_CATEGORIES: Final = ((-1.0, 0.0, 1.0), (0.0, 1.0))
"""Categories of each command: close, keep or open the gripper; stay or go to the neutral pose."""


class Cloner(nn.Module, ABC):
    """A policy π(a|s) learned by cloning.

    Attributes:
        inputs: Encoder from observations to features.
        noise_dim: Number of standard normal numbers that one action is drawn from.
    """

    inputs: Inputs
    noise_dim: int = ACTION_DIM

    def encode(self, obs: TensorObs) -> Tensor:
        """Turn observations into features (B, D)."""
        features: Tensor = self.inputs(obs)
        return features

    @abstractmethod
    def loss(self, features: Tensor, action: Tensor, generator: torch.Generator) -> Tensor:
        """Return the cloning loss (B,) of actions (B, A), or of their leading dimensions."""

    @abstractmethod
    def draw(self, features: Tensor, noise: Tensor) -> Tensor:
        """Turn standard normal noise (B, noise_dim) into actions (B, A)."""

    @abstractmethod
    def mode(self, features: Tensor) -> Tensor:
        """Return the most likely actions (B, A), or an approximation."""


class GaussianCloner(GaussianPolicy, Cloner):
    """A tanh-Gaussian with the actor-critics' policy network, so that they can start from its weights."""

    def loss(self, features: Tensor, action: Tensor, generator: torch.Generator) -> Tensor:
        """Return -log π(a|s)."""
        mean, log_std = self.at(features)
        dim = action.shape[1]
        return -tanh_normal_log_density(mean[:, :dim], log_std[:, :dim], action)

    def draw(self, features: Tensor, noise: Tensor) -> Tensor:
        """Return tanh(mean + std · noise)."""
        mean, log_std = self.at(features)
        return torch.tanh(mean + log_std.exp() * noise)

    def mode(self, features: Tensor) -> Tensor:
        """Return tanh of the mean."""
        return torch.tanh(self.at(features)[0])


class MixtureCloner(Cloner):
    """A weighted mixture of K tanh-Gaussians (Bishop's mixture density network)."""

    noise_dim = ACTION_DIM + 1

    def __init__(self, spec: ObsSpec, encoder: str, widths: Sequence[int], components: int) -> None:
        super().__init__()
        self.inputs = Inputs(spec, encoder)
        self.trunk = mlp([self.inputs.dim, *widths], final_relu=True)
        self.weights = nn.Linear(widths[-1], components)
        self.head = nn.Linear(widths[-1], components * 2 * ACTION_DIM)

    def at(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return log weights (B, K), means and log standard deviations (B, K, A)."""
        h = self.trunk(features)
        mean, log_std = self.head(h).unflatten(1, (-1, 2 * ACTION_DIM)).chunk(2, dim=2)
        return F.log_softmax(self.weights(h), dim=1), mean, log_std.clamp(*LOG_STD_RANGE)

    def loss(self, features: Tensor, action: Tensor, generator: torch.Generator) -> Tensor:
        """Return -log Σ_k w_k π_k(a|s)."""
        log_weight, mean, log_std = self.at(features)
        dim = action.shape[1]
        each = tanh_normal_log_density(mean[..., :dim], log_std[..., :dim], action.unsqueeze(1))
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

    def __init__(self, spec: ObsSpec, encoder: str, widths: Sequence[int]) -> None:
        super().__init__()
        self.inputs = Inputs(spec, encoder)
        self.flow = Flow(self.inputs.dim, widths)

    def loss(self, features: Tensor, action: Tensor, generator: torch.Generator) -> Tensor:
        """Squared error of the velocity on straight lines from noise to action: (v(x_t, t) - (a - x_0))²."""
        action = F.pad(action, (0, ACTION_DIM - action.shape[1]))
        noise = torch.randn(action.shape, generator=generator, device=action.device)
        time = torch.rand((len(action), 1), generator=generator, device=action.device)
        velocity: Tensor = self.flow(features, torch.lerp(noise, action, time), time)
        return (velocity - (action - noise)).square().mean(1)

    def draw(self, features: Tensor, noise: Tensor) -> Tensor:
        """Integrate the flow from the noise."""
        return self.flow.sample(features, noise.unsqueeze(0), FLOW_STEPS)[0]

    def mode(self, features: Tensor) -> Tensor:
        """Integrate the flow from noise 0."""
        return self.draw(features, features.new_zeros(len(features), ACTION_DIM))


class HybridCloner(Cloner):
    """A motion head of the kinds above, with gripper and neutral commands as categorical distributions."""

    def __init__(self, motion: Cloner, widths: Sequence[int]) -> None:
        super().__init__()
        self.motion = motion
        self.noise_dim = motion.noise_dim + len(COMMAND_CATEGORIES)
        self.commands = mlp([motion.inputs.dim, *widths, sum(map(len, COMMAND_CATEGORIES))], final_relu=False)

    def encode(self, obs: TensorObs) -> Tensor:
        """Turn observations into features (B, D), for motion and commands."""
        return self.motion.encode(obs)

    def at(self, features: Tensor) -> list[Tensor]:
        """Return the log probabilities of each command's categories, (B, 3) and (B, 2)."""
        logits = self.commands(features).split([len(values) for values in COMMAND_CATEGORIES], dim=1)
        return [F.log_softmax(part, dim=1) for part in logits]

    def loss(self, features: Tensor, action: Tensor, generator: torch.Generator) -> Tensor:
        """Return the loss of the motion plus the cross entropy of the commands."""
        total = self.motion.loss(features, action[:, :MOTION_DIM], generator)
        gripper, neutral = action[:, MOTION_DIM], action[:, MOTION_DIM + 1]
        threshold = COMMAND_THRESHOLD
        categories = [
            1 + (gripper > threshold).long() - (gripper < -threshold).long(),
            (neutral > threshold).long(),
        ]
        for log_probability, category in zip(self.at(features), categories, strict=True):
            total = total + F.nll_loss(log_probability, category, reduction="none")
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
        pairs = zip(COMMAND_CATEGORIES, chosen, strict=True)
        commands = [motion.new_tensor(values)[category] for values, category in pairs]
        return torch.cat([motion[:, :MOTION_DIM], torch.stack(commands, dim=1)], dim=1)


def choose(log_probability: Tensor, normal: Tensor) -> Tensor:
    """Draw categories (B,) with log probabilities (B, K) from standard normal numbers (B,).

    The normal's cumulative probability is uniform in [0, 1]; the category is the one whose interval holds it.
    """
    uniform = 0.5 * (1 + torch.erf(normal / math.sqrt(2)))
    edges = log_probability.exp().cumsum(1)[:, :-1]
    return (uniform.unsqueeze(1) > edges).sum(1)


def _row(values: Tensor, chosen: Tensor) -> Tensor:
    """Pick values[b, chosen[b]] (B, A) from (B, K, A)."""
    return values.gather(1, chosen.view(-1, 1, 1).expand(-1, 1, values.shape[2])).squeeze(1)


HEADS: Final[Mapping[str, Callable[[ObsSpec, str, Sequence[int], int], Cloner]]] = {
    "gaussian": lambda spec, encoder, widths, components: GaussianCloner(spec, encoder, widths),
    "mixture": MixtureCloner,
    "flow": lambda spec, encoder, widths, components: FlowCloner(spec, encoder, widths),
}
"""Value of the setting ``head`` → factory of (specification, encoder, widths, number of components)."""
