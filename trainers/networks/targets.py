"""Bellman targets of the Q-learners: what a reward means for what comes after it."""

from __future__ import annotations

import torch
from torch import Tensor


def absorbing_target(reward: Tensor, terminated: Tensor, next_value: Tensor, discount: float) -> Tensor:
    """Target r + γ (1 - end) V(s'), where a reward or a termination is the end (B,)."""
    end = terminated | (reward > 0)
    return torch.where(end, reward, reward + discount * next_value)


def continuing_target(reward: Tensor, terminated: Tensor, next_value: Tensor, discount: float) -> Tensor:
    """Target r + γ (1 - terminated) V(s'); a success goes on and is rewarded again (B,)."""
    return torch.where(terminated, reward, reward + discount * next_value)


BELLMAN_TARGETS = {"absorbing": absorbing_target, "continuing": continuing_target}
"""What ``success`` of a configuration may be → the target it means."""
