"""Networks for Discrete and MultiDiscrete actions: policies of categories, critics with a value per choice.

Shapes: B batch, E ensemble, D features, n choices.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from trainers.algorithm import ActionSpec, Spec, TensorObs
from trainers.networks.draws import choose
from trainers.networks.encoders import Inputs
from trainers.networks.modules import CriticForm, StackedLinear, mlp


def one_hot(action: Tensor, spec: ActionSpec) -> Tensor:
    """Return discrete actions (B,) or (B, entries) as float32 (B, dim): one 1 for each entry."""
    columns = action.view(len(action), -1).unbind(1)
    pairs = zip(columns, spec.categories, strict=True)
    return torch.cat([F.one_hot(column, count) for column, count in pairs], dim=1).float()


class CategoricalPolicy(nn.Module):
    """Policy π(a|s) over choices; the entries of a MultiDiscrete action are independent given the state.

    Attributes:
        noise_dim: Number of standard normal numbers that one action is drawn from: one for each entry.
    """

    def __init__(self, spec: Spec, encoder: str, widths: Sequence[int]) -> None:
        super().__init__()
        self.categories = spec.action.categories
        self.single = not spec.action.feature.shape
        self.noise_dim = len(self.categories)
        self.inputs = Inputs(spec.obs, encoder)
        self.trunk = mlp([self.inputs.dim, *widths], final_relu=True)
        self.head = nn.Linear(widths[-1], spec.action.dim)

    def share_encoder(self, inputs: nn.Module) -> list[nn.Parameter]:
        """Use another network's encoder from now on; return the parameters that stay the policy's own."""
        assert isinstance(inputs, Inputs)
        self.inputs = inputs
        return [*self.trunk.parameters(), *self.head.parameters()]

    def at(self, features: Tensor) -> list[Tensor]:
        """Return the log probabilities (B, n) of the choices of each entry, at features (B, D)."""
        logits = self.head(self.trunk(features)).split(self.categories, dim=1)
        return [F.log_softmax(part, dim=1) for part in logits]

    def log_density(self, features: Tensor, action: Tensor, counted: Tensor | None = None) -> Tensor:
        """Return log π(a|s) (B,).

        Args:
            features: (B, D).
            action: (B,) or (B, entries).
            counted: float (B, entries), 0 for entries that are left out; None: all count.
        """
        columns = action.view(len(action), -1)
        found = [p.gather(1, columns[:, i : i + 1]) for i, p in enumerate(self.at(features))]
        each = torch.cat(found, dim=1)
        return each.sum(1) if counted is None else (each * counted).sum(1)

    def draw(self, features: Tensor, noise: Tensor) -> Tensor:
        """Turn standard normal noise (B, entries) into actions."""
        return self._joined([choose(p, noise[:, i]) for i, p in enumerate(self.at(features))])

    def mode(self, features: Tensor) -> Tensor:
        """Return the most likely actions."""
        return self._joined([p.argmax(1) for p in self.at(features)])

    def _joined(self, chosen: list[Tensor]) -> Tensor:
        return chosen[0] if self.single else torch.stack(chosen, dim=1)


class ChoiceCritics(nn.Module):
    """E critics with a value for each of n choices, with image encoders of their own or one for all."""

    def __init__(self, spec: Spec, encoder: str, form: CriticForm) -> None:
        super().__init__()
        own = spec.obs.has_image and not form.one_encoder
        self.inputs = nn.ModuleList(Inputs(spec.obs, encoder) for _ in range(form.ensemble if own else 1))
        self.ensemble, self.norm = form.ensemble, form.norm
        first = self.inputs[0]
        assert isinstance(first, Inputs)
        self.layers = nn.ModuleList(
            StackedLinear(form.ensemble, fan_in, fan_out, half_gradients=form.half_gradients)
            for fan_in, fan_out in pairwise([first.dim, *form.widths])
        )
        self.out = StackedLinear(form.ensemble, form.widths[-1], spec.action.dim)

    def forward(self, obs: TensorObs) -> Tensor:
        """Return Q (E, B, n) of every choice."""
        found = [module(obs) for module in self.inputs]
        x: Tensor = torch.stack(found) if len(found) > 1 else found[0].expand(self.ensemble, -1, -1)
        for layer in self.layers:
            x = layer(x)
            x = F.relu(F.layer_norm(x, x.shape[-1:]) if self.norm else x)
        out: Tensor = self.out(x)
        return out
