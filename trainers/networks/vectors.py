"""Features of the vector part of observations: numbers, rotations, offsets from the hand to objects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import torch
from torch import Tensor, nn

from cogdata.features import Feature
from trainers.algorithm import ObsSpec, TensorObs
from trainers.spec import EMBODIMENT

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


def find_hand(features: Sequence[Feature]) -> tuple[str, slice] | None:
    """Find the position of the end effector: the first three entries called ``ee_…x_m``, ``_y_m``, ``_z_m``.

    Args:
        features: Vectors.

    Returns:
        The feature and where the position is among its entries; None if none has one.
    """
    for one in features:
        for start in position_starts(one.names):
            if one.names[start].startswith("ee_"):
                return one.name, slice(start, start + 3)
    return None


def split_way(way: Tensor) -> list[Tensor]:
    """Return offsets in m, (B, 3 K), in units of their spread and, squashed, of a finger's clearance."""
    return [(way / COARSE_M).clamp_(-NORMALISED_LIMIT, NORMALISED_LIMIT), torch.tanh(way / FINE_M)]


_WIDE: Final = frozenset(("int32", "int64", "float64"))
"""Types whose numbers float32 cannot tell apart: they are normalised before they are cast."""


class Vectors(nn.Module):
    """Features of the vectors of observations, flattened and joined in the order of the declaration.

    Numbers are normalised. A quaternion q becomes two columns of its rotation matrix, because q and -q are
    the same rotation and simulators report either. The offset of every position from the end effector is
    added, coarse and fine, because a grasp depends on a centimetre between two numbers that vary by
    decimetres. Quaternions, positions and the end effector are found by the names of entries.
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
        self.features = tuple(one.name for one in spec.vectors)
        wide = any(one.dtype in _WIDE for one in spec.vectors)
        dtype = torch.float64 if wide else torch.float32
        turns, positions = (_starts(spec, find) for find in (quaternion_starts, position_starts))
        turned = {start + offset for start in turns for offset in range(4)}
        plain = [index for index in range(spec.stack * spec.vector_dim) if index not in turned]
        self.hand = _hand_in(spec)
        things = [] if self.hand is None else [start for start in positions if start != self.hand.start]
        matrix, shift = _rotation_rows()
        mean, std = (torch.tensor(table, dtype=dtype) for table in _moments(spec))
        constants = {
            "plain": torch.tensor(plain, dtype=torch.long),
            "turned": torch.tensor(
                [[start + offset for offset in range(4)] for start in turns], dtype=torch.long
            ),
            "things": torch.tensor([[start, start + 1, start + 2] for start in things], dtype=torch.long),
            "mean": mean[:, plain],
            "inverse_std": 1 / std[:, plain].clamp(min=STD_FLOOR),
            "matrix": matrix,
            "shift": shift,
        }
        for name, value in constants.items():
            self.register_buffer(name, value, persistent=False)
        self.dim = len(plain) + 6 * len(turns) + 6 * len(things)

    def forward(self, obs: TensorObs) -> Tensor:
        """Map the vectors of observations to features (B, D)."""
        found = [_numbers(obs[name], self.mean.dtype) for name in self.features]
        vector: Tensor = torch.cat(found, dim=1) if len(found) > 1 else found[0]
        row = obs[EMBODIMENT] if len(self.mean) > 1 else -1
        scaled = ((vector[:, self.plain] - self.mean[row]) * self.inverse_std[row]).float()
        features = [scaled.clamp_(-NORMALISED_LIMIT, NORMALISED_LIMIT)]
        if len(self.turned):
            q = vector[:, self.turned].float()  # (B, rotations, 4)
            columns = (q.unsqueeze(3) * q.unsqueeze(2)).flatten(2) @ self.matrix + self.shift
            features.append(columns.flatten(1))
        if self.hand is not None and len(self.things):
            way = vector[:, self.things] - vector[:, self.hand].unsqueeze(1)  # (B, things, 3)
            features += split_way(way.float().flatten(1))
        return torch.cat(features, dim=1)


def _moments(spec: ObsSpec) -> tuple[list[list[float]], list[list[float]]]:
    """Means and standard deviations of the joined vector: a row per embodiment, the last for all together."""
    whole = {one.name: (spec.mean[one.name], spec.std[one.name]) for one in spec.vectors}
    rows = [*(spec.apart[robot] for robot in spec.embodiments), whole]
    mean, std = (
        [[number for one in spec.vectors for number in spec.stack * row[one.name][which]] for row in rows]
        for which in (0, 1)
    )
    return mean, std


def _numbers(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Flatten the rows of any numeric feature: (B, V)."""
    flat = values.flatten(1) if values.ndim > 1 else values.unsqueeze(1)
    return flat.to(dtype)


def _starts(spec: ObsSpec, find: Callable[[Sequence[str]], list[int]]) -> list[int]:
    """Where something begins in the joined vector; names are those of the last axis of each feature."""
    found, offset = [], 0
    for one in spec.vectors:
        end = offset + spec.stack * one.size
        for row in range(offset, end, len(one.names) or max(one.size, 1)):
            found += [row + start for start in find(one.names)]
        offset = end
    return found


def _hand_in(spec: ObsSpec) -> slice | None:
    """Where the end effector's position is in the joined vector; of a stack, the newest."""
    hand = find_hand(spec.vectors)
    if hand is None:
        return None
    offset = 0
    for one in spec.vectors:
        if one.name == hand[0]:
            offset += (spec.stack - 1) * one.size
            break
        offset += spec.stack * one.size
    return slice(offset + hand[1].start, offset + hand[1].stop)
