"""What a learner may look at, by name; apart from the tensors, so that naming it needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

OBS_KINDS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {"image": ("image",), "image+robot": ("image", "robot"), "state": ("robot", "scene")}
)
"""What a learner may look at → the features of an observation that this needs."""
