"""What an environment answers to a reset or a step, checked before anything is made of it.

Collecting and evaluation share these checks. A truth value is a bool; a number is finite; what an observation
shows has a place in the store.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from cogdata.episode import Bool
from cogdata.errors import CogError

Judged = Mapping[str, bool | None]
"""Predicate → whether it holds; None: not judged."""

_SHOWN: Final = 80
"""Most characters of a wrong value in a message."""

OF_ERROR: Final = 500
"""Most characters of an exception in a message."""


@dataclass(frozen=True)
class Answer:
    """One answer of an environment; every error names it.

    Attributes:
        env: Name of the environment.
        step: Actions since the reset; 0: the answer to the reset.
    """

    env: str
    step: int

    @property
    def when(self) -> str:
        """The moment, for messages."""
        return f"at step {self.step}" if self.step else "at the reset"

    def truth(self, what: str, value: object) -> bool | None:
        """Read whether something holds.

        Args:
            what: Its name in messages.
            value: A bool, NumPy's or Python's; None: not judged.

        Raises:
            CogError: It is anything else, such as nan, a text or an array.
        """
        if value is None or isinstance(value, bool | np.bool_):
            return None if value is None else bool(value)
        raise CogError(
            f"{self.env} gives {what} = {shown(value)} {self.when}, must be True or False, or None where "
            f"it was not judged"
        )

    def ending(self, what: str, value: object) -> bool:
        """Read ``terminated`` or ``truncated``.

        Raises:
            CogError: It is no bool.
        """
        if isinstance(value, bool | np.bool_):
            return bool(value)
        raise CogError(f"{self.env} gives {what} = {shown(value)} {self.when}, must be True or False")

    def number(self, what: str, value: object) -> float:
        """Read a finite number.

        Raises:
            CogError: It is none.
        """
        try:
            found = float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            found = math.nan
        if not math.isfinite(found):
            raise CogError(f"{self.env} gives {what} {shown(value)} {self.when}, must be a finite number")
        return found

    def predicates(self, info: object) -> dict[str, bool | None]:
        """Read ``info["predicates"]``.

        Raises:
            CogError: There is none, or one of them is no truth value.
        """
        judged = info.get("predicates") if isinstance(info, Mapping) else None
        if not isinstance(judged, Mapping):
            raise CogError(
                f"{self.env} gives info['predicates'] = {shown(judged)} {self.when}, must be a dict"
            )
        return {name: self.truth(f"info['predicates'][{name!r}]", value) for name, value in judged.items()}

    def rewarded(self, task: str, holds: bool | None) -> bool:
        """Return whether a step is rewarded: whether the task's predicate holds after it.

        Args:
            task: Name of the predicate.
            holds: Whether it does.

        Raises:
            CogError: It was not judged, so that there is no reward.
        """
        if holds is None:
            raise CogError(
                f"{self.env} gives {task} = None {self.when}: the task's predicate must be judged at every "
                f"step, because it is the reward"
            )
        return holds

    def check_finite(self, obs: Mapping[str, Any]) -> None:
        """Refuse an observation with a number that is not finite.

        Raises:
            CogError: With the feature and the first such number.
        """
        for name, value in obs.items():
            values = np.asarray(value)
            if values.dtype.kind != "f" or (finite := np.isfinite(values)).all():
                continue
            at = tuple(int(index) for index in np.argwhere(~finite)[0])
            raise CogError(
                f"{self.env} shows {name}[{', '.join(map(str, at))}] = {values[at]} {self.when}, must be "
                f"finite"
            )

    def check_stored(self, obs: Mapping[str, Any], declared: Sequence[str]) -> None:
        """Refuse an observation with other features than are declared.

        Args:
            obs: What is shown.
            declared: Names of the features.

        Raises:
            CogError: With the names.
        """
        if more := sorted(map(str, obs.keys() - set(declared))):
            raise CogError(undeclared(self.env, more, f" {self.when}"))
        if less := [name for name in declared if name not in obs]:
            raise CogError(f"{self.env} shows no {', '.join(less)} {self.when}, which it declares")


def undeclared(env: str, names: Sequence[str], when: str = "") -> str:
    """Say that an environment shows what it does not declare.

    Args:
        env: Name of the environment.
        names: Parts of the observation.
        when: The moment, with a space before it.
    """
    return (
        f"{env} shows {', '.join(map(repr, names))}{when}, which it does not declare: declare it in "
        f"observation_space, or do not show it"
    )


def name_of(env: object) -> str:
    """Return how messages call an environment: its id, else its class."""
    return str(getattr(env, "env_id", type(env).__name__))


def shown(value: object, most: int = _SHOWN) -> str:
    """Return a value as one line of a message."""
    try:
        text = " ".join(repr(value).split())
    except Exception:
        text = f"a {type(value).__name__} that cannot be printed"
    return text if len(text) <= most else f"{text[:most]}…"


def stack_predicates(env: str, judged: Sequence[Judged]) -> tuple[dict[str, Bool], dict[str, Bool]]:
    """Put the predicates of an episode's observations together, as `cogdata.episode.Episode` has them.

    Args:
        env: Name of the environment.
        judged: The predicates on each observation.

    Returns:
        ``predicates`` and ``unjudged``: name → bool (T+1,).

    Raises:
        CogError: Not every observation has the same predicates.
    """
    names = judged[0].keys()
    for step, found in enumerate(judged):
        if found.keys() != names:
            raise CogError(
                f"{env} judges {', '.join(sorted(found)) or 'nothing'} {Answer(env, step).when}, and "
                f"{', '.join(sorted(names)) or 'nothing'} at the reset: give None for what was not judged"
            )
    holds = {name: np.array([found[name] is True for found in judged], bool) for name in names}
    open_ = {name: np.array([found[name] is None for found in judged], bool) for name in names}
    return holds, {name: mask for name, mask in open_.items() if mask.any()}
