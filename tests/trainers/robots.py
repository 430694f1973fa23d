"""Declarations of robots that are not built in, their specifications, and batches of noise from them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import torch
from torch import Tensor

from cogdata.features import EpisodeSpec, Feature, Per
from cogdata.layout1 import layout1_spec
from tests.trainers.toy import seeded
from trainers.algorithm import ActionSpec, ObsSpec, Spec, TensorBatch, TensorObs
from trainers.obs_kinds import select


def action_of(dtype: str, shape: tuple[int, ...], low: float, high: float) -> Feature:
    """An action whose entries have the same bounds."""
    size = shape[0] if shape else 1
    return Feature("action", dtype, shape, per=Per.TRANSITION, low=(low,) * size, high=(high,) * size)


ROBOTS: Final[Mapping[str, EpisodeSpec]] = MappingProxyType(
    {
        "built_in": layout1_spec((16, 16), ("x", "y"), ()),
        "arm": EpisodeSpec(
            (
                Feature("top", "uint8", (16, 24, 3)),
                Feature("wrist", "uint16", (8, 8)),
                Feature("joints", "float64", (7,)),
            ),
            action_of("float64", (7,), -3.0, 1.0),
        ),
        "game": EpisodeSpec((Feature("place", "float32", (1,)),), action_of("int64", (), 1, 4)),
        "knobs": EpisodeSpec((Feature("place", "float32", (1,)),), action_of("int64", (2,), 0, 2)),
    }
)


def spec_of_robot(declared: EpisodeSpec, obs: str) -> Spec:
    """What a learner is told of data with mean 0 and standard deviation 1."""
    features = select(obs, declared)
    vectors = [one for one in features if not one.is_image]
    mean, std = ({one.name: (number,) * one.size for one in vectors} for number in (0.0, 1.0))
    return Spec(ObsSpec(features, mean, std), ActionSpec(declared.action))


def observe(declared: EpisodeSpec, count: int, seed: int) -> TensorObs:
    """Noise of every declared observation."""
    generator = seeded(seed)

    def draw(one: Feature) -> Tensor:
        shape = (count, *one.shape)
        if one.is_image:
            return torch.randint(200, shape, generator=generator).to(getattr(torch, one.dtype))
        return torch.randn(shape, generator=generator).to(getattr(torch, one.dtype))

    return TensorObs({one.name: draw(one) for one in declared.observations})


def batch_of(declared: EpisodeSpec, count: int, seed: int) -> TensorBatch:
    """Transitions of noise, with actions as the data have them."""
    generator, action = seeded(seed), declared.action
    assert action.low is not None
    assert action.high is not None
    low, high = torch.tensor(action.low), torch.tensor(action.high)
    drawn = torch.rand((count, action.size), generator=generator)
    done = (low + (high + 1 - low) * drawn).floor() if action.is_discrete else low + (high - low) * drawn
    return TensorBatch(
        observe(declared, count, seed),
        done.view(count, *action.shape).to(getattr(torch, action.dtype)),
        (torch.rand(count, generator=generator) > 0.8).float(),
        observe(declared, count, seed + 1),
        torch.zeros(count, dtype=torch.bool),
        torch.zeros(count, dtype=torch.int16),
    )
