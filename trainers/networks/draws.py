"""Draws from distributions by standard normal noise, so that an action is a function of its noise."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def choose(log_probability: Tensor, normal: Tensor) -> Tensor:
    """Draw categories (B,) with log probabilities (B, K) from standard normal numbers (B,).

    The normal's cumulative probability is uniform in [0, 1]; the category is the one whose interval holds it.
    """
    uniform = 0.5 * (1 + torch.erf(normal / math.sqrt(2)))
    edges = log_probability.exp().cumsum(1)[:, :-1]
    return (uniform.unsqueeze(1) > edges).sum(1)
