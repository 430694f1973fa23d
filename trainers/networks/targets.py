"""Bellman targets of the Q-learners, with a success that ends the episode or not."""

from __future__ import annotations

import torch
from torch import Tensor

Discount = float | Tensor
"""γ, or of n-step returns γ to the number of steps (B,)."""


def absorbing_target(reward: Tensor, terminated: Tensor, next_value: Tensor, discount: Discount) -> Tensor:
    """Target (B,) r + γ (1 - end) V(s'), where end is a termination or a positive reward."""
    end = terminated | (reward > 0)
    return torch.where(end, reward, reward + discount * next_value)


def continuing_target(reward: Tensor, terminated: Tensor, next_value: Tensor, discount: Discount) -> Tensor:
    """Target (B,) r + γ (1 - terminated) V(s'); the episode goes on after a success."""
    return torch.where(terminated, reward, reward + discount * next_value)


BELLMAN_TARGETS = {"absorbing": absorbing_target, "continuing": continuing_target}
"""Value of the setting ``success`` → Bellman target."""
