"""Encoders: from observations to features, images by convolutions, vectors by ``networks.vectors``.

Shapes: B batch, D features, C H W image.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import torch
from torch import Tensor, nn

from cogdata.errors import unknown
from cogdata.features import Feature
from trainers.algorithm import ObsSpec, TensorObs
from trainers.networks.images import scaled
from trainers.networks.vectors import Vectors, find_hand, split_way
from trainers.spec import EMBODIMENT


def _channels_last(module: nn.Module) -> None:
    """Store convolution weights as (out, H, W, in), the memory layout of the images."""
    for parameter in module.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


class PaperEncoder(nn.Module):
    """The paper's convolutions (A.2): 48×48 → 16×12×12 = 2304 features, before any linear layer."""

    def __init__(self, image_size: Sequence[int], channels: int = 3) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 16, 3, padding=1), nn.MaxPool2d(2), nn.ReLU(),
            nn.Conv2d(16, 16, 3, padding=1), nn.MaxPool2d(2), nn.ReLU(),
            nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(),
        )  # fmt: skip
        _channels_last(self.layers)
        self.dim = 16 * (image_size[0] // 4) * (image_size[1] // 4)

    def forward(self, image: Tensor) -> Tensor:
        """Map float images (B, C, H, W) in [0, 1] to features (B, D)."""
        out: Tensor = self.layers(image)
        return out.flatten(1)


class FastEncoder(nn.Module):
    """Encoder for few CPU cores: two convolutions, keypoints at a quarter of the resolution, a linear layer.

    Keypoints are the expected image positions under a softmax over each channel, so the position of an object
    is a linear feature. The offset of every pair of keypoints is added in a coarse and a fine unit, as
    :mod:`trainers.networks.vectors` does for states, because a few pixels decide whether the object is in the
    hand. The linear layer encodes everything that is not a position.
    """

    keypoints: Final = 16
    linear: Final = 64
    linear_part: Final = slice(2 * keypoints, 2 * keypoints + linear)  # the linear layer's place
    coarse: Final = 0.3  # unit of offsets between keypoints; the image is 2 wide, 0.15 are about 2.5 cm
    fine: Final = 0.12
    grid: Tensor
    pairs: Tensor

    def __init__(self, image_size: Sequence[int], channels: int = 3) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(channels, 16, 5, stride=2, padding=2), nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(),
        )  # fmt: skip
        _channels_last(self.convolutions)
        self.maps = nn.Linear(32, self.keypoints)  # maps the channels of each position to keypoints
        rows, columns = (-(-side // 4) for side in image_size)
        self.head = nn.Linear(32 * rows * columns, self.linear)
        self.norm = nn.LayerNorm(self.linear)
        grid = torch.meshgrid(torch.linspace(-1, 1, rows), torch.linspace(-1, 1, columns), indexing="ij")
        self.register_buffer("grid", torch.stack([axis.flatten() for axis in grid], dim=1), persistent=False)
        self.register_buffer("pairs", torch.triu_indices(self.keypoints, self.keypoints, 1), persistent=False)
        self.dim = 2 * self.keypoints + self.linear + 4 * self.pairs.shape[1]

    def forward(self, image: Tensor) -> Tensor:
        """Map float images (B, C, H, W) in [0, 1] to features (B, D)."""
        places = self.convolutions(image - 0.5).permute(0, 2, 3, 1).flatten(1, 2)  # (B, H·W, C)
        points = torch.softmax(self.maps(places), dim=1).transpose(1, 2) @ self.grid  # (B, K, 2)
        rest = torch.tanh(self.norm(self.head(places.flatten(1))))
        way = (points[:, self.pairs[0]] - points[:, self.pairs[1]]).flatten(1)
        return torch.cat([points.flatten(1), rest, way / self.coarse, torch.tanh(way / self.fine)], dim=1)


class Points(nn.Linear):
    """K points in metres, predicted from the fast encoder's linear layer without labels."""

    count: Final = 32
    spread_m: Final = 0.1  # distance of an output of 1 from the mean end-effector position

    def __init__(self) -> None:
        super().__init__(FastEncoder.linear, 3 * self.count)

    def ways(self, features: Tensor, hand: Tensor) -> list[Tensor]:
        """Return the offsets from the hand to the points, coarse and fine (:func:`.vectors.split_way`).

        Args:
            features: (B, D), the fast encoder's features of images.
            hand: (B, 3), position of the end effector in m, relative to its mean.

        Returns:
            Two tensors (B, 3 K).
        """
        points = self.spread_m * self(features[:, FastEncoder.linear_part]).view(-1, self.count, 3)
        return split_way((points - hand.unsqueeze(1)).flatten(1))


class HandEyeEncoder(FastEncoder):
    """The fast encoder with object positions relative to the hand, for robots that report its position.

    The linear layer predicts object positions as well as keypoints do, and better at the edge of the image.
    But these positions vary by decimetres, while the value of a grasp depends on a centimetre between object
    and hand. So points in metres are predicted from the linear layer and added as offsets from the hand, in a
    coarse and a fine unit, as :mod:`trainers.networks.vectors` does for states.
    """

    def __init__(self, image_size: Sequence[int], channels: int = 3) -> None:
        super().__init__(image_size, channels)
        self.places = Points()


ENCODERS: Final[Mapping[str, type[PaperEncoder] | type[FastEncoder]]] = {
    "paper": PaperEncoder,
    "fast": FastEncoder,
    "hand_eye": HandEyeEncoder,
}
"""Value of the setting ``encoder`` → encoder of images."""


CHUNK: Final = 32
"""Images that a CPU encodes at a time, so that the output of a convolution fits into its cache."""


class Encoders(nn.Module):
    """An encoder for each image, by the name of its feature, in the order of the declaration."""

    def __init__(
        self, kind: type[PaperEncoder] | type[FastEncoder], images: Sequence[Feature], stack: int
    ) -> None:
        super().__init__()
        self._places: dict[str, str] = {}
        for one in images:
            place = one.name
            while hasattr(self, place):  # a camera may be called "forward"
                place += "_"
            self._places[one.name] = place
            channels = one.shape[2] if len(one.shape) == 3 else 1
            self.add_module(place, kind(one.shape[:2], channels * stack))

    def __getitem__(self, name: str) -> PaperEncoder | FastEncoder:
        """Return the encoder of an image."""
        found: PaperEncoder | FastEncoder = self._modules[self._places[name]]  # type: ignore[assignment]
        return found

    def __iter__(self) -> Iterator[PaperEncoder | FastEncoder]:
        """Iterate over the encoders."""
        return (self[name] for name in self._places)


_BEFORE_NAMES: Final = re.compile(r"(^|(?<!encoders)\.)encoder\.(?=[a-z]+\.)")


def named_encoders(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of version 0.1, which had one encoder and no name for it.

    Args:
        state: Name → tensor, of this or that version.
    """
    return {_BEFORE_NAMES.sub(r"\1encoders.image.", name): tensor for name, tensor in state.items()}


class Inputs(nn.Module):
    """Features (B, D) of observations: encoded images, vectors, offsets from the hand, which robot it is."""

    middle: Tensor

    def __init__(self, spec: ObsSpec, encoder: str) -> None:
        super().__init__()
        if encoder not in ENCODERS:
            raise unknown("encoder", encoder, ENCODERS)
        self.images = spec.images
        self.encoders = Encoders(ENCODERS[encoder], spec.images, spec.stack)
        self.vectors = Vectors(spec) if spec.vector_dim else None
        self.dim = sum(one.dim for one in self.encoders) + (self.vectors.dim if self.vectors else 0)
        self.robots = len(spec.embodiments)
        self.dim += self.robots
        self.hand = find_hand(spec.vectors)
        self.stack = spec.stack
        sees = [one for one in self.encoders if isinstance(one, HandEyeEncoder)]
        if sees and self.hand is not None:
            name, place = self.hand
            self.dim += 6 * Points.count * len(sees)
            self.register_buffer("middle", torch.tensor(spec.mean[name][place]), persistent=False)
        for one in sees if self.hand is None else ():  # without a hand it is the fast one
            one.places.requires_grad_(False)
        self.register_load_state_dict_pre_hook(_load_named)  # type: ignore[no-untyped-call]

    def forward(self, obs: TensorObs) -> Tensor:
        """Encode the observation features that the specification names; ignore the others."""
        features = [self._encode(self.encoders[one.name], scaled(obs[one.name], one)) for one in self.images]
        if self.vectors is not None:
            features.append(self.vectors(obs))
        if self.hand is not None:
            name, place = self.hand
            for index, one in enumerate(self.encoders):
                if isinstance(one, HandEyeEncoder):
                    newest = obs[name] if self.stack == 1 else obs[name][:, -1]
                    hand = newest.flatten(1)[:, place].float() - self.middle
                    features += one.places.ways(features[index], hand)
        if self.robots:
            known = obs[EMBODIMENT].unsqueeze(1) == torch.arange(self.robots, device=features[0].device)
            features.append(known.float())
        return torch.cat(features, dim=1) if len(features) > 1 else features[0]

    def _encode(self, encoder: nn.Module, image: Tensor) -> Tensor:
        if torch.compiler.is_exporting() or image.device.type != "cpu" or len(image) <= CHUNK:
            whole: Tensor = encoder(image)
            return whole
        return torch.cat([encoder(part) for part in torch.split(image, CHUNK)])


def _load_named(module: nn.Module, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Hook of ``load_state_dict``: read what version 0.1 called ``encoder`` as ``encoders.image``."""
    for name in [name for name in state if name.startswith(f"{prefix}encoder.")]:
        state[f"{prefix}encoders.image.{name.removeprefix(prefix + 'encoder.')}"] = state.pop(name)
