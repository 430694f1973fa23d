"""Networks: stacked linear layers, ensembles of critics, the tanh-Gaussian policy, target updates.

Shapes: B batch, N sampled actions, E ensemble, D features, A action.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from trainers.algorithm import ObsSpec, Spec, TensorObs
from trainers.networks.encoders import Inputs
from trainers.networks.precision import half_gradient_product, has_bfloat16

LOG_STD_RANGE: Final = (-5.0, 2.0)
"""Bounds of the policy's log standard deviation (avisingh599/cog @ 98252e1)."""

LOG_HALF: Final = math.log(0.5)


def mlp(sizes: Sequence[int], *, final_relu: bool) -> nn.Sequential:
    """Build linear layers with ReLU between them, and after the last one if ``final_relu``."""
    layers: list[nn.Module] = []
    for index, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        layers.append(nn.Linear(fan_in, fan_out))
        if final_relu or index < len(sizes) - 2:
            layers.append(nn.ReLU())
    return nn.Sequential(*layers)


class StackedLinear(nn.Module):
    """E linear layers evaluated as one batched product: (E, B, in) → (E, B, out).

    Attributes:
        half_gradients: Whether gradients are computed in bfloat16, where the processor supports it.
    """

    def __init__(
        self, ensemble: int, fan_in: int, fan_out: int, *, bias: bool = True, half_gradients: bool = False
    ) -> None:
        super().__init__()
        self.half_gradients = half_gradients
        bound = 1 / math.sqrt(fan_in)
        self.weight = nn.Parameter(torch.empty(ensemble, fan_in, fan_out).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(ensemble, 1, fan_out).uniform_(-bound, bound)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Apply layer e to x[e]."""
        if self.bias is None:
            return torch.bmm(x, self.weight)
        if self.weight.shape[2] == 1:  # a product with one column is slow both ways
            return (x * self.weight.transpose(1, 2)).sum(2, keepdim=True) + self.bias
        if self.half_gradients and torch.is_grad_enabled() and has_bfloat16(x.device.type):
            return half_gradient_product(x, self.weight, self.bias)
        return torch.baddbmm(self.bias, x, self.weight)


class Critics(nn.Module):
    """E critics Q_e(z, a) over shared features, optionally with LayerNorm before each ReLU.

    The LayerNorm has no learned scale and shift: the next layer's weights can represent them, at half the
    memory traffic. The first layer is split, W[z; a] = W_z z + W_a a, so that W_z z is computed once for N
    actions per observation.
    """

    def __init__(
        self,
        ensemble: int,
        dim: int,
        action_dim: int,
        widths: Sequence[int],
        *,
        norm: bool,
        half_gradients: bool = False,
    ) -> None:
        super().__init__()
        self.ensemble = ensemble
        self.from_features = StackedLinear(ensemble, dim, widths[0])
        self.from_action = StackedLinear(ensemble, action_dim, widths[0], bias=False)
        self.hidden = nn.ModuleList(
            StackedLinear(ensemble, fan_in, fan_out, half_gradients=half_gradients)
            for fan_in, fan_out in pairwise(widths)
        )
        self.norm = norm
        self.out = StackedLinear(ensemble, widths[-1], 1)

    def context(self, features: Tensor) -> Tensor:
        """Return the first layer's output (E, B, H) for features (B, D), or (E, B, D), one per critic."""
        own = features if features.ndim == 3 else features.expand(self.ensemble, -1, -1)
        out: Tensor = self.from_features(own)
        return out

    def values(self, context: Tensor, actions: Tensor) -> Tensor:
        """Return Q (E, N, B) of actions (N, B, A), given the first layer's output for features (E, B, H)."""
        n, b, _ = actions.shape
        x = self.from_action(actions.reshape(1, n * b, -1).expand(self.ensemble, -1, -1))
        # not through a view: autograd copies what an in-place ReLU changes behind one
        x = self._activate(x.view(self.ensemble, n, b, -1) + context.unsqueeze(1))
        x = x.view(self.ensemble, n * b, -1)
        for layer in self.hidden:
            x = self._activate(layer(x))
        values: Tensor = self.out(x)
        return values.view(self.ensemble, n, b)

    def forward(self, features: Tensor, actions: Tensor) -> Tensor:
        """Return the Q-values of actions.

        Args:
            features: (B, D), or (E, B, D) with features of its own for each critic.
            actions: (N, B, A).

        Returns:
            Values (E, N, B).
        """
        return self.values(self.context(features), actions)

    def _activate(self, x: Tensor) -> Tensor:
        return F.relu(F.layer_norm(x, x.shape[-1:]) if self.norm else x, inplace=True)


@dataclass(frozen=True)
class CriticForm:
    """Architecture of the critics.

    Attributes:
        ensemble: E, number of critics.
        widths: Widths of the hidden layers.
        norm: Whether the hidden layers have LayerNorm.
        half_gradients: Whether gradients of the hidden layers are computed in bfloat16, where supported.
        one_encoder: Whether the critics share one image encoder; else each has its own.
    """

    ensemble: int
    widths: Sequence[int]
    norm: bool = False
    half_gradients: bool = False
    one_encoder: bool = False


class EncodedCritics(nn.Module):
    """E critics with image encoders: one for each, as in the paper, or one for all."""

    def __init__(self, spec: Spec, encoder: str, form: CriticForm) -> None:
        super().__init__()
        own = (
            spec.obs.has_image and not form.one_encoder
        )  # a state has nothing to encode: one copy serves all
        self.inputs = nn.ModuleList(Inputs(spec.obs, encoder) for _ in range(form.ensemble if own else 1))
        self.critics = Critics(
            form.ensemble,
            _dim(self.inputs[0]),
            spec.action.dim,
            form.widths,
            norm=form.norm,
            half_gradients=form.half_gradients,
        )

    def features(self, obs: TensorObs) -> Tensor:
        """Return features (E, B, D), or (B, D) with a shared encoder."""
        found: list[Tensor] = [module(obs) for module in self.inputs]
        return torch.stack(found) if len(found) > 1 else found[0]

    def encode(self, obs: TensorObs) -> Tensor:
        """Return the first layer's output (E, B, H) for observations."""
        return self.context(self.features(obs))

    def context(self, features: Tensor) -> Tensor:
        """Return the first layer's output (E, B, H) for features."""
        return self.critics.context(features)

    def forward(self, encoded: Tensor, actions: Tensor) -> Tensor:
        """Return Q (E, N, B) of actions (N, B, A) at encoded observations (E, B, H)."""
        return self.critics.values(encoded, actions)


class GaussianPolicy(nn.Module):
    """Tanh-Gaussian policy π(a|s): mean and log standard deviation of the action before tanh.

    Attributes:
        noise_dim: Number of standard normal numbers that one action is drawn from: A.
    """

    def __init__(self, spec: Spec, encoder: str, widths: Sequence[int]) -> None:
        super().__init__()
        self.noise_dim = spec.action.dim
        self.inputs = Inputs(spec.obs, encoder)
        self.trunk = mlp([self.inputs.dim, *widths], final_relu=True)
        self.head = nn.Linear(widths[-1], 2 * spec.action.dim)

    def forward(self, obs: TensorObs) -> tuple[Tensor, Tensor]:
        """Return mean and log_std, each (B, A)."""
        return self.at(self.inputs(obs))

    def share_encoder(self, inputs: nn.Module) -> list[nn.Parameter]:
        """Use another network's encoder from now on; return the parameters that stay the policy's own."""
        assert isinstance(inputs, Inputs)
        self.inputs = inputs
        return [*self.trunk.parameters(), *self.head.parameters()]

    def at(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log_std, each (B, A), at features (B, D)."""
        mean, log_std = self.head(self.trunk(features)).chunk(2, dim=1)
        return mean, log_std.clamp(*LOG_STD_RANGE)

    def log_density(self, features: Tensor, action: Tensor) -> Tensor:
        """Return log π(a|s) (B,) of actions (B, A)."""
        return tanh_normal_log_density(*self.at(features), action)

    def draw(self, features: Tensor, noise: Tensor) -> Tensor:
        """Return tanh(mean + std · noise) for standard normal noise (B, A)."""
        mean, log_std = self.at(features)
        return torch.tanh(mean + log_std.exp() * noise)

    def mode(self, features: Tensor) -> Tensor:
        """Return tanh of the mean."""
        return torch.tanh(self.at(features)[0])

    def sample(self, obs: TensorObs, generator: torch.Generator, samples: int = 1) -> tuple[Tensor, Tensor]:
        """Draw N actions (N, B, A) with their log densities (N, B), differentiable by reparametrisation."""
        mean, log_std = self(obs)
        noise = torch.randn((samples, *mean.shape), generator=generator, device=mean.device)
        return tanh_normal(mean, log_std, noise)


class ValueNetwork(nn.Module):
    """State-value network V(s) with an image encoder of its own."""

    def __init__(self, spec: ObsSpec, encoder: str, widths: Sequence[int]) -> None:
        super().__init__()
        self.inputs = Inputs(spec, encoder)
        self.trunk = mlp([self.inputs.dim, *widths], final_relu=True)
        self.out = nn.Linear(widths[-1], 1)

    def forward(self, obs: TensorObs) -> Tensor:
        """Return V (B,) of observations."""
        values: Tensor = self.out(self.trunk(self.inputs(obs)))
        return values.squeeze(1)


def tanh_normal(mean: Tensor, log_std: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Sample a tanh-Gaussian by reparametrisation.

    Args:
        mean: (..., A).
        log_std: (..., A).
        noise: Standard normal (..., A).

    Returns:
        Actions (..., A) and their log density (...).
    """
    u = mean + log_std.exp() * noise
    return torch.tanh(u), _log_density(u, noise, log_std)


def tanh_normal_log_density(
    mean: Tensor, log_std: Tensor, action: Tensor, counted: Tensor | None = None
) -> Tensor:
    """Return the log density (...) of actions (..., A) in [-1, 1], clipped to ±(1 - 1e-6).

    Args:
        mean: (..., A).
        log_std: (..., A).
        action: (..., A).
        counted: float (..., A), 0 for entries that are left out; None: all count.
    """
    u = torch.atanh(action.clamp(-1 + 1e-6, 1 - 1e-6))
    return _log_density(u, (u - mean) * torch.exp(-log_std), log_std, counted)


def _log_density(u: Tensor, noise: Tensor, log_std: Tensor, counted: Tensor | None = None) -> Tensor:
    """Log density of tanh(u); log(1 - tanh² u) = 2(log 2 - u - softplus(-2u)) stays finite for any u."""
    normal = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)
    jacobian = 2 * (math.log(2) - u - F.softplus(-2 * u))
    each = normal - jacobian
    return each.sum(-1) if counted is None else (each * counted).sum(-1)


def _dim(inputs: nn.Module) -> int:
    assert isinstance(inputs, Inputs)
    dim: int = inputs.dim
    return dim


def follow(target: nn.Module, source: nn.Module, rate: float) -> None:
    """Update target parameters by Polyak averaging: θ' ← θ' + rate (θ - θ')."""
    followers: list[Tensor] = list(target.parameters())
    if followers:
        with torch.no_grad():
            torch._foreach_lerp_(followers, list(source.parameters()), rate)


def average(target: nn.Module, source: nn.Module, rate: float, updates: int) -> None:
    """Update an exponential average of parameters; it is the plain mean for the first 1 / rate updates.

    Args:
        target: Module that holds the average.
        source: Module that is trained.
        rate: Rate of the average.
        updates: Number of updates of the source, from 1.
    """
    follow(target, source, max(rate, 1 / updates))
