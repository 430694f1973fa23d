"""What a script asks of a scene, found by asking all of its phases about an imaginary one."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Final, Generic, NamedTuple, TypeVar

import numpy as np

from collectors.policies import make_policy
from collectors.policies.view import SceneView

_DRAWS: Final = 16
"""A script may ask for less by chance: of a thing it wants half of the time this misses one in 65 536."""

Value = TypeVar("Value")


class Needs(NamedTuple):
    """Names that a script may look up in a `SceneView`."""

    landmarks: frozenset[str]
    predicates: frozenset[str]


class _Anything(Mapping[str, Value], Generic[Value]):
    """Has a value for every name and remembers the names."""

    def __init__(self, value: Value) -> None:
        self.asked: set[str] = set()
        self._value = value

    def __getitem__(self, name: str) -> Value:
        self.asked.add(name)
        return self._value

    def __iter__(self) -> Iterator[str]:
        return iter(self.asked)

    def __len__(self) -> int:
        return len(self.asked)


@functools.cache
def needs(policy: str) -> Needs:
    """Name the landmarks and predicates that a script may ask for.

    Args:
        policy: A key of `POLICIES`.

    Raises:
        CogError: No such policy.
    """
    landmarks, predicates = _Anything(np.array([0.6, 0.2, -0.3])), _Anything(False)
    view = SceneView(
        ee_m=np.array([0.6, 0.1, -0.2]),
        turned_rad=np.zeros(3),
        gripper_open=True,
        landmarks=landmarks,
        predicates=predicates,
    )
    for draw in range(_DRAWS):
        for phase in make_policy(policy, rng=np.random.default_rng(draw)).phases:
            phase.command(view, view)
            phase.until(view, view)
    return Needs(frozenset(landmarks.asked), frozenset(predicates.asked))
