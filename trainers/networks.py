"""Networks: encoders of observations, stacked linear layers, the tanh-Gaussian policy, two kinds of critic.

Shapes: B batch, N sampled actions, E ensemble, D features, A action, C H W image.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from cogdata.errors import unknown
from trainers.algorithm import ACTION_DIM, ObsSpec, TensorObs
from trainers.vectors import Vectors

LOG_STD_RANGE: Final = (-5.0, 2.0)
"""Range of the policy's log standard deviation (avisingh599/cog @ 98252e1)."""

TIME_WAVES: Final = 4
"""K, number of frequencies of the flow's time; with them a two-mode target is fitted to a 10 % lower loss."""

LOG_HALF: Final = math.log(0.5)


def mlp(sizes: Sequence[int], *, final_relu: bool) -> nn.Sequential:
    """Chain linear layers with ReLU between them (and after the last one if asked)."""
    layers: list[nn.Module] = []
    for index, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        layers.append(nn.Linear(fan_in, fan_out))
        if final_relu or index < len(sizes) - 2:
            layers.append(nn.ReLU())
    return nn.Sequential(*layers)


def _channels_last(module: nn.Module) -> None:
    """Store convolution weights as (out, H, W, in), the layout that frames come in."""
    for parameter in module.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


class PaperEncoder(nn.Module):
    """The paper's convolutions (A.2): 48×48 → 16×12×12 = 2304 features, before any linear layer."""

    def __init__(self, image_size: tuple[int, int]) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.MaxPool2d(2), nn.ReLU(),
            nn.Conv2d(16, 16, 3, padding=1), nn.MaxPool2d(2), nn.ReLU(),
            nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(),
        )  # fmt: skip
        _channels_last(self.layers)
        self.dim = 16 * (image_size[0] // 4) * (image_size[1] // 4)

    def forward(self, image: Tensor) -> Tensor:
        """Map float images (B, 3, H, W) in [0, 1] to features (B, D)."""
        out: Tensor = self.layers(image)
        return out.flatten(1)


class FastEncoder(nn.Module):
    """Made for two cores: three convolutions, keypoints at a quarter of the resolution, a small linear part.

    Keypoints are the expected image positions under a softmax over each channel, the form in which "where is
    the object" is linear; the linear part carries what is not a position.
    """

    keypoints: Final = 32
    linear: Final = 64
    grid: Tensor

    def __init__(self, image_size: tuple[int, int]) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(3, 16, 5, stride=2, padding=2), nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(32, self.keypoints, 3, padding=1),
        )  # fmt: skip
        _channels_last(self.convolutions)
        rows, columns = (-(-side // 4) for side in image_size)
        self.head = nn.Linear(self.keypoints * rows * columns, self.linear)
        self.norm = nn.LayerNorm(self.linear)
        grid = torch.meshgrid(torch.linspace(-1, 1, rows), torch.linspace(-1, 1, columns), indexing="ij")
        self.register_buffer("grid", torch.stack([axis.flatten() for axis in grid], dim=1), persistent=False)
        self.dim = 2 * self.keypoints + self.linear

    def forward(self, image: Tensor) -> Tensor:
        """Map float images (B, 3, H, W) in [0, 1] to features (B, D)."""
        maps: Tensor = self.convolutions(image - 0.5)
        flat = maps.flatten(2)  # (B, C, H·W)
        points = torch.softmax(flat, dim=2) @ self.grid  # (B, C, 2)
        rest = torch.tanh(self.norm(self.head(F.relu(flat).flatten(1))))
        return torch.cat([points.flatten(1), rest], dim=1)


ENCODERS: Final[Mapping[str, type[PaperEncoder] | type[FastEncoder]]] = {
    "paper": PaperEncoder,
    "fast": FastEncoder,
}
"""Names that ``encoder`` of a configuration may have."""


class Inputs(nn.Module):
    """Turn observations into features (B, D): encoded frames, then the vector part."""

    def __init__(self, spec: ObsSpec, encoder: str) -> None:
        super().__init__()
        if encoder not in ENCODERS:
            raise unknown("encoder", encoder, ENCODERS)
        self.encoder = ENCODERS[encoder](spec.image_size) if spec.has_image else None
        self.vectors = Vectors(spec) if spec.vector_dim else None
        self.dim = sum(module.dim for module in (self.encoder, self.vectors) if module is not None)

    def forward(self, obs: TensorObs) -> Tensor:
        """Read the parts that the specification names and ignore others."""
        features = []
        if self.encoder is not None:
            assert obs.image is not None, "the policy sees images and got none"
            # (B, H, W, 3) contiguous, seen as (B, 3, H, W), already is channels_last: no copy but the cast
            features.append(self.encoder(obs.image.permute(0, 3, 1, 2).float().div_(255)))
        if self.vectors is not None:
            features.append(self.vectors(obs))
        return torch.cat(features, dim=1) if len(features) > 1 else features[0]


class StackedLinear(nn.Module):
    """E linear layers evaluated as one batched product: (E, B, in) → (E, B, out)."""

    def __init__(self, ensemble: int, fan_in: int, fan_out: int, *, bias: bool = True) -> None:
        super().__init__()
        bound = 1 / math.sqrt(fan_in)
        self.weight = nn.Parameter(torch.empty(ensemble, fan_in, fan_out).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(ensemble, 1, fan_out).uniform_(-bound, bound)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Apply layer e to x[e]."""
        return torch.bmm(x, self.weight) if self.bias is None else torch.baddbmm(self.bias, x, self.weight)


class Critics(nn.Module):
    """E critics Q_e(z, a) over shared features, optionally with LayerNorm before each ReLU.

    The norm has no scale and shift of its own: the next layer's weights do that work,
    at half the memory traffic. The first layer is split, W[z; a] = W_z z + W_a a, so that N actions per
    observation cost one W_z z.
    """

    def __init__(self, ensemble: int, dim: int, widths: Sequence[int], *, norm: bool) -> None:
        super().__init__()
        self.ensemble = ensemble
        self.from_features = StackedLinear(ensemble, dim, widths[0])
        self.from_action = StackedLinear(ensemble, ACTION_DIM, widths[0], bias=False)
        self.hidden = nn.ModuleList(
            StackedLinear(ensemble, fan_in, fan_out) for fan_in, fan_out in pairwise(widths)
        )
        self.norm = norm
        self.out = StackedLinear(ensemble, widths[-1], 1)

    def forward(self, features: Tensor, actions: Tensor) -> Tensor:
        """Value actions.

        Args:
            features: (B, D), or (E, B, D) if each critic has its own.
            actions: (N, B, A).

        Returns:
            Values (E, N, B).
        """
        n, b, _ = actions.shape
        own = features if features.ndim == 3 else features.expand(self.ensemble, -1, -1)
        first = self.from_features(own).unsqueeze(1)  # (E, 1, B, H)
        x = self.from_action(actions.reshape(1, n * b, -1).expand(self.ensemble, -1, -1))
        x = (x.view(self.ensemble, n, b, -1) + first).view(self.ensemble, n * b, -1)
        x = self._activate(x)
        for layer in self.hidden:
            x = self._activate(layer(x))
        values: Tensor = self.out(x)
        return values.view(self.ensemble, n, b)

    def _activate(self, x: Tensor) -> Tensor:
        return F.relu(F.layer_norm(x, x.shape[-1:]) if self.norm else x, inplace=True)


class EncodedCritics(nn.Module):
    """E critics, each with an encoder of its own, as in the paper."""

    def __init__(self, spec: ObsSpec, encoder: str, ensemble: int, widths: Sequence[int]) -> None:
        super().__init__()
        count = ensemble if spec.has_image else 1  # a state has nothing to encode: one copy serves all
        self.inputs = nn.ModuleList(Inputs(spec, encoder) for _ in range(count))
        self.critics = Critics(ensemble, _dim(self.inputs[0]), widths, norm=False)

    def encode(self, obs: TensorObs) -> Tensor:
        """Run each encoder once: features (B, D) for states, (E, B, D) for images."""
        features: list[Tensor] = [module(obs) for module in self.inputs]
        return torch.stack(features) if len(features) > 1 else features[0]

    def forward(self, features: Tensor, actions: Tensor) -> Tensor:
        """Value actions (N, B, A) at encoded observations: (E, N, B)."""
        values: Tensor = self.critics(features, actions)
        return values


class GaussianPolicy(nn.Module):
    """Tanh-Gaussian policy π(a|s): mean and log standard deviation of the action before tanh."""

    def __init__(self, spec: ObsSpec, encoder: str, widths: Sequence[int]) -> None:
        super().__init__()
        self.inputs = Inputs(spec, encoder)
        self.trunk = mlp([self.inputs.dim, *widths], final_relu=True)
        self.head = nn.Linear(widths[-1], 2 * ACTION_DIM)

    def forward(self, obs: TensorObs) -> tuple[Tensor, Tensor]:
        """Return mean and log_std, each (B, A)."""
        mean, log_std = self.head(self.trunk(self.inputs(obs))).chunk(2, dim=1)
        return mean, log_std.clamp(*LOG_STD_RANGE)


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


def tanh_normal_log_density(mean: Tensor, log_std: Tensor, action: Tensor) -> Tensor:
    """Return the log density (...) of actions (..., A) in [-1, 1]; ±1 itself is read as ±(1 - 1e-6)."""
    u = torch.atanh(action.clamp(-1 + 1e-6, 1 - 1e-6))
    return _log_density(u, (u - mean) * torch.exp(-log_std), log_std)


def _log_density(u: Tensor, noise: Tensor, log_std: Tensor) -> Tensor:
    """Log density of tanh(u); log(1 - tanh² u) = 2(log 2 - u - softplus(-2u)) stays finite for any u."""
    normal = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)
    jacobian = 2 * (math.log(2) - u - F.softplus(-2 * u))
    return (normal - jacobian).sum(-1)


def _waves(time: Tensor) -> Tensor:
    """Time (B, 1) in [0, 1] with waves of it (B, 1 + 2K): velocities change fast near the end of the flow."""
    phases = torch.pi * torch.arange(1, TIME_WAVES + 1, device=time.device) * time
    return torch.cat([time, torch.cos(phases), torch.sin(phases)], dim=1)


class Flow(nn.Module):
    """Velocity v(x, t | z) of a flow from normal noise to actions; first layer split as in Critics."""

    def __init__(self, dim: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.from_features = nn.Linear(dim, widths[0])
        self.from_action = nn.Linear(ACTION_DIM, widths[0], bias=False)
        self.from_time = nn.Linear(1 + 2 * TIME_WAVES, widths[0], bias=False)
        self.hidden = nn.ModuleList(nn.Linear(fan_in, fan_out) for fan_in, fan_out in pairwise(widths))
        self.out = nn.Linear(widths[-1], ACTION_DIM)

    def velocity(self, context: Tensor, x: Tensor) -> Tensor:
        """Velocity (..., A) at x (..., A), given the first layer's share of features and time (..., H)."""
        h = F.relu(context + self.from_action(x), inplace=True)
        for layer in self.hidden:
            h = F.relu(layer(h), inplace=True)
        out: Tensor = self.out(h)
        return out

    def forward(self, features: Tensor, x: Tensor, time: Tensor) -> Tensor:
        """Velocity (B, A) at features (B, D), points (B, A) and times (B, 1) in [0, 1]."""
        return self.velocity(self.from_features(features) + self.from_time(_waves(time)), x)

    def sample(self, features: Tensor, noise: Tensor, steps: int) -> Tensor:
        """Carry noise to actions in equal Euler steps.

        Args:
            features: (B, D).
            noise: Standard normal (N, B, A).
            steps: Number of Euler steps.

        Returns:
            Actions (N, B, A), clipped to [-1, 1].
        """
        context = self.from_features(features)
        x = noise
        times = torch.arange(steps, device=noise.device).unsqueeze(1) / steps
        for at_time in self.from_time(_waves(times)):
            x = x + self.velocity(context + at_time, x) / steps
        return x.clamp(-1, 1)


def _dim(inputs: nn.Module) -> int:
    assert isinstance(inputs, Inputs)
    return inputs.dim


def follow(target: nn.Module, source: nn.Module, rate: float) -> None:
    """Move a target's parameters toward the source's: θ' ← θ' + rate (θ - θ')."""
    followers: list[Tensor] = list(target.parameters())
    if followers:
        with torch.no_grad():
            torch._foreach_lerp_(followers, list(source.parameters()), rate)
