"""The landmarks and predicates that a script looks up, recorded by calling its phases with a dummy scene."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Final, Generic, NamedTuple, TypeVar

import numpy as np

from collectors.policies import make_policy
from collectors.policies.view import SceneView

_DRAWS: Final = 16
"""Episodes drawn: a name that half of a script's episodes look up is missed with probability 1 in 65,536."""

Value = TypeVar("Value")


class _Required(NamedTuple):
    """Names that a script may look up in a `SceneView`."""

    landmarks: frozenset[str]
    predicates: frozenset[str]


class _Recorder(Mapping[str, Value], Generic[Value]):
    """A mapping with one value for every name, which records the names looked up."""

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


def required_landmarks(policy: str) -> frozenset[str]:
    """Return the landmarks that a script may look up.

    Args:
        policy: A key of `POLICIES`.

    Raises:
        CogError: No such policy.
    """
    return _required(policy).landmarks


def required_predicates(policy: str) -> frozenset[str]:
    """Return the predicates that a script may look up.

    Args:
        policy: A key of `POLICIES`.

    Raises:
        CogError: No such policy.
    """
    return _required(policy).predicates


@functools.cache
def _required(policy: str) -> _Required:
    landmarks, predicates = _Recorder(np.array([0.6, 0.2, -0.3])), _Recorder(False)
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
    return _Required(frozenset(landmarks.asked), frozenset(predicates.asked))
