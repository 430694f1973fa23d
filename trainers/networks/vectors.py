"""Features of the vector part of observations: numbers, rotations, offsets from the hand to objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn

from cogdata.schema import ROBOT_NAMES
from trainers.algorithm import ObsSpec, TensorObs

STD_FLOOR: Final = 1e-3
"""Lower bound of the standard deviation in normalisation: 1 mm, or about a tenth of a degree."""

NORMALISED_LIMIT: Final = 10.0
"""Bound of normalised inputs, in standard deviations: policies reach states that are not in the data."""

COARSE_M: Final = 0.05
FINE_M: Final = 0.02
"""Units of the offset from the end effector to an object: about its spread, and a finger's clearance."""


def _rotation_rows() -> tuple[Tensor, Tensor]:
    """Matrix (16, 6) and shift (6,) that map q qᵀ, flattened, to two columns of q's rotation matrix."""
    x, y, z, w = range(4)
    entries = [  # each entry of the columns: shift, then (factor, i, j) of products q_i q_j
        (1.0, [(-2.0, y, y), (-2.0, z, z)]),
        (0.0, [(2.0, x, y), (2.0, z, w)]),
        (0.0, [(2.0, x, z), (-2.0, y, w)]),
        (0.0, [(2.0, x, y), (-2.0, z, w)]),
        (1.0, [(-2.0, x, x), (-2.0, z, z)]),
        (0.0, [(2.0, y, z), (2.0, x, w)]),
    ]
    matrix = torch.zeros(16, 6)
    for column, (_, products) in enumerate(entries):
        for factor, i, j in products:
            matrix[4 * i + j, column] += factor
    return matrix, torch.tensor([shift for shift, _ in entries])


def quaternion_starts(names: Sequence[str]) -> list[int]:
    """Indices where quaternions begin: four names in a row that end in qx, qy, qz, qw."""
    ends = [name.rsplit("_", 1)[-1] for name in names]
    return [index for index in range(len(ends) - 3) if ends[index : index + 4] == ["qx", "qy", "qz", "qw"]]


def position_starts(names: Sequence[str]) -> list[int]:
    """Indices where positions begin: three names in a row that end in x_m, y_m, z_m."""
    return [
        index
        for index in range(len(names) - 2)
        if [name[-4:] for name in names[index : index + 3]] == ["_x_m", "_y_m", "_z_m"]
    ]


_FIRST: Final = position_starts(ROBOT_NAMES)[0]
END_EFFECTOR: Final = slice(_FIRST, _FIRST + 3)
"""Position of the end effector in the vector part, which begins with the robot's state, in m."""


def split_way(way: Tensor) -> list[Tensor]:
    """Return offsets in m, (B, 3 K), in units of their spread and, squashed, of a finger's clearance."""
    return [(way / COARSE_M).clamp_(-NORMALISED_LIMIT, NORMALISED_LIMIT), torch.tanh(way / FINE_M)]


class Vectors(nn.Module):
    """Features of the vector part of observations.

    Numbers are normalised. A quaternion q becomes two columns of its rotation matrix, because q and -q are
    the same rotation and simulators report either. The offset of every position from the end effector is
    added, coarse and fine, because a grasp depends on a centimetre between two numbers that vary by
    decimetres.
    """

    plain: Tensor
    turned: Tensor
    things: Tensor
    mean: Tensor
    inverse_std: Tensor
    matrix: Tensor
    shift: Tensor

    def __init__(self, spec: ObsSpec) -> None:
        super().__init__()
        self.features = tuple(part for part in ("robot", "scene") if part in spec.features)
        names = (*ROBOT_NAMES, *spec.scene_fields) if "scene" in self.features else ROBOT_NAMES
        starts = quaternion_starts(names)
        turned = {start + offset for start in starts for offset in range(4)}
        _, *things = position_starts(names)
        plain = [index for index in range(len(names)) if index not in turned]
        matrix, shift = _rotation_rows()
        mean, std = torch.tensor(spec.mean, dtype=torch.float32), torch.tensor(spec.std, dtype=torch.float32)
        constants = {
            "plain": torch.tensor(plain),
            "turned": torch.tensor([[start + offset for offset in range(4)] for start in starts]),
            "things": torch.tensor([[start, start + 1, start + 2] for start in things], dtype=torch.long),
            "mean": mean[plain],
            "inverse_std": 1 / std[plain].clamp(min=STD_FLOOR),
            "matrix": matrix,
            "shift": shift,
        }
        for name, value in constants.items():
            self.register_buffer(name, value, persistent=False)
        self.dim = len(plain) + 6 * len(starts) + 6 * len(things)

    def forward(self, obs: TensorObs) -> Tensor:
        """Map the vector part of observations (B, V) to features (B, D)."""
        found = [obs[part] for part in self.features]
        vector: Tensor = torch.cat(found, dim=1) if len(found) > 1 else found[0]
        scaled = (vector[:, self.plain] - self.mean) * self.inverse_std
        q = vector[:, self.turned]  # (B, rotations, 4)
        columns = (q.unsqueeze(3) * q.unsqueeze(2)).flatten(2) @ self.matrix + self.shift
        features = [scaled.clamp_(-NORMALISED_LIMIT, NORMALISED_LIMIT), columns.flatten(1)]
        if len(self.things):
            way = vector[:, self.things] - vector[:, END_EFFECTOR].unsqueeze(1)  # (B, things, 3)
            features += split_way(way.flatten(1))
        return torch.cat(features, dim=1)
