"""Declared features: what each observation, action and annotation of an episode is, as a value.

A collection declares its features once (``collection.json``); every other layer reads the declaration: the
shards and Parquet columns, ``describe steps``, mixtures, batches, policies. Nothing else fixes a name, a
shape or a type, apart from :mod:`cogdata.layout1`, the declaration of the worlds that are built in.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from cogdata.errors import CogError, unknown

DTYPES: Final = (
    "uint8", "uint16", "int32", "int64", "float16", "float32", "float64", "bool", "string",
)  # fmt: skip
"""What a feature's values may be."""

FEATURE_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
"""Features and predicates: lower case, safe as a column of SQL and Parquet and as part of a file name."""

RESERVED: Final = frozenset(
    ("episode_id", "t", "action", "reward", "terminated", "truncated", "phase", "steps", "meta", "source",
     "discount", "mask", "valid", "embodiment", "next_obs", "obs")
)  # fmt: skip
"""Names that every episode or batch uses itself; no observation, predicate or annotation may have one."""


class Per(StrEnum):
    """How many rows an episode of T actions has of a feature."""

    OBSERVATION = "observation"
    """One per observation: T+1, or T where the final observation is unknown."""
    TRANSITION = "transition"
    """One per action: T; a row belongs to the observation that the action leaves."""
    EPISODE = "episode"
    """One: an instruction, an operator, a parameter of the task."""


@dataclass(frozen=True)
class Command:
    """A dimension of an action that is a discrete command within a continuous action: a gripper that toggles.

    Attributes:
        dim: Index of the dimension.
        levels: Values that the command takes, ascending.
        beyond: A positive or negative command takes effect beyond this magnitude, strictly.
    """

    dim: int
    levels: tuple[float, ...]
    beyond: float = 0.5


@dataclass(frozen=True)
class Feature:
    """One named thing that is recorded. Units are part of names: ``joint_position_rad``, ``ee_x_m``.

    Attributes:
        name: Column of Parquet and SQL, key of a batch.
        dtype: One of :data:`DTYPES`.
        shape: Shape of one row: (480, 640, 3), (7,), ().
        per: What one row belongs to.
        names: Names of the entries of the last axis; () or exactly that many.
        low: Lower bounds of an action, one per entry, -inf: none; None: unbounded.
        high: Upper bounds, as ``low``.
        values: What the integers of a Discrete action mean, from its lower bound on; or () .
        commands: Dimensions of a continuous action that are discrete commands.
        privileged: Whether it is the simulator's knowledge, which ``image`` and ``image+robot`` never show.
        codec: How it is stored: "" as a column, else as a member of the shard, see `cogdata.storage.codecs`.
        rate_hz: Rows per second; None: unknown, or that of the episode.
        source: Its name in the dataset that it was imported from; "": the same.
        help: What `describe steps` prints.
    """

    name: str
    dtype: str
    shape: tuple[int, ...] = ()
    per: Per = Per.OBSERVATION
    names: tuple[str, ...] = ()
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None
    values: tuple[str, ...] = ()
    commands: tuple[Command, ...] = ()
    privileged: bool = False
    codec: str = ""
    rate_hz: float | None = None
    source: str = ""
    help: str = ""

    def __post_init__(self) -> None:
        """Refuse what could not become a column, in one line each."""
        if not FEATURE_NAME.fullmatch(self.name):
            raise CogError(
                f"feature name {self.name!r} must be lower case letters, digits and _, from a letter on, at "
                f"most 64"
            )
        if self.dtype not in DTYPES:
            raise CogError(f"feature {self.name} is {self.dtype!r}, must be one of {', '.join(DTYPES)}")
        if (
            not all(isinstance(size, int) and size >= 0 for size in self.shape)
            or math.prod(self.shape) >= 2**31
        ):
            raise CogError(f"feature {self.name} has shape {self.shape}, which no array can have")
        if self.dtype == "string" and self.shape:
            raise CogError(f"feature {self.name} is text of shape {self.shape}, must be one text per row: ()")
        last = self.shape[-1] if self.shape else 0
        if self.names and len(self.names) != last:
            raise CogError(f"feature {self.name} has {len(self.names)} names for {last} entries")
        for side, bounds in (("low", self.low), ("high", self.high)):
            if bounds is not None and len(bounds) != self.size:
                raise CogError(
                    f"feature {self.name} has {len(bounds)} bounds ({side}) for {self.size} entries"
                )
        if self.low is not None and self.high is not None:
            for low, high in zip(self.low, self.high, strict=True):
                if not low <= high:
                    raise CogError(f"feature {self.name} has bounds from {low:g} to {high:g}")

    # --- what it is --------------------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """Number of entries of one row."""
        return math.prod(self.shape)

    @property
    def is_image(self) -> bool:
        """Whether it is a picture: uint8 or uint16, (H, W, C) or, with one channel, (H, W)."""
        return self.dtype in ("uint8", "uint16") and len(self.shape) in (2, 3)

    @property
    def is_text(self) -> bool:
        """Whether its values are texts."""
        return self.dtype == "string"

    @property
    def is_vector(self) -> bool:
        """Whether it is numbers that a policy can look at beside pictures."""
        return not self.is_text and not self.is_image

    @property
    def is_member(self) -> bool:
        """Whether a shard holds it as a member of its own, and not as a column of the steps."""
        return self.codec != ""

    @property
    def is_discrete(self) -> bool:
        """Whether it is an action of numbered choices: Discrete, shape (), or MultiDiscrete, shape (n,)."""
        return self.dtype in ("int32", "int64") and self.low is not None and self.high is not None

    @property
    def categories(self) -> tuple[int, ...]:
        """Number of choices of each entry of a discrete action."""
        if self.low is None or self.high is None:
            return ()
        return tuple(int(high - low) + 1 for low, high in zip(self.low, self.high, strict=True))

    @property
    def row_bytes(self) -> int:
        """Bytes of one row in memory; a text counts as its index, int32."""
        return 4 if self.is_text else self.size * np.dtype(self.dtype).itemsize

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """The NumPy type of an array of it; texts are objects."""
        return np.dtype(object) if self.is_text else np.dtype(self.dtype)

    def describe(self) -> str:
        """Return type, shape, entries and bounds in a few words, for messages."""
        text = f"{self.dtype} {self.shape}" if self.shape else self.dtype
        if self.names:
            shown = ", ".join(self.names[:3]) + (", …" if len(self.names) > 3 else "")
            text += f" of {shown}"
        if self.low is not None and self.high is not None and self.size:
            text += f" within [{min(self.low):g}, {max(self.high):g}]"
        return text

    # --- checks ------------------------------------------------------------------------------------------

    def check(self, values: NDArray[Any], rows: int) -> None:
        """Refuse an array that is not this feature of an episode.

        Args:
            values: (rows, *shape).
            rows: Rows that it must have.

        Raises:
            ValueError: Another shape or type, a number that is not finite, or one beyond the bounds.
        """
        expected = (rows, *self.shape)
        if values.shape != expected:
            raise ValueError(f"{self.name} has shape {values.shape}, must be {expected}")
        if values.dtype != self.numpy_dtype:
            raise ValueError(f"{self.name} is {values.dtype}, must be {self.numpy_dtype}")
        if self.is_text:
            for row, value in enumerate(values):
                if value is not None and not isinstance(value, str):
                    raise ValueError(f"{self.name} is {value!r} at row {row}, must be a text or null")
            return
        if values.dtype.kind == "f" and not (finite := np.isfinite(values)).all():
            at = tuple(int(i) for i in np.argwhere(~finite)[0])
            raise ValueError(
                f"{self.name} is {values[at]} at row {at[0]}: it holds a value that is not finite"
            )
        self._check_bounds(values)

    def _check_bounds(self, values: NDArray[Any]) -> None:
        flat = values.reshape(len(values), self.size)
        for bounds, beyond, word in ((self.low, np.less, "below"), (self.high, np.greater, "above")):
            if bounds is None or not flat.size:
                continue
            outside = beyond(flat, np.asarray(bounds, np.float64))
            if outside.any():
                row, entry = (int(i) for i in np.argwhere(outside)[0])
                named = f" ({self.names[entry]})" if self.names and len(self.shape) == 1 else ""
                raise ValueError(
                    f"{self.name}[{entry}]{named} is {flat[row, entry]:g} at row {row}, {word} its bound "
                    f"{bounds[entry]:g}; nothing was clipped"
                )

    # --- JSON --------------------------------------------------------------------------------------------

    def to_data(self) -> dict[str, Any]:
        """Return plain JSON values, without those that are the default."""
        data: dict[str, Any] = {"name": self.name, "dtype": self.dtype, "shape": list(self.shape)}
        for field in fields(self)[3:]:
            value = getattr(self, field.name)
            if value != field.default:
                data[field.name] = _plain(value)
        return data

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Feature:
        """Read what :meth:`to_data` returned; keys of a newer version are left out.

        Raises:
            ValueError: It is no feature.
        """
        known = {field.name for field in fields(cls)}
        values = {name: value for name, value in data.items() if name in known}
        try:
            for name in ("shape", "names", "values"):
                if name in values:
                    values[name] = tuple(values[name])
            for name, none in (("low", -math.inf), ("high", math.inf)):
                if values.get(name) is not None:
                    values[name] = tuple(none if bound is None else float(bound) for bound in values[name])
            values["commands"] = tuple(
                Command(one["dim"], tuple(one["levels"]), one["beyond"]) for one in values.get("commands", ())
            )
            values["per"] = Per(values.get("per", Per.OBSERVATION))
            return cls(**values)
        except (TypeError, KeyError, AttributeError):
            raise ValueError(f"{str(dict(data))[:80]} declares no feature") from None

    def identity(self) -> dict[str, Any]:
        """Return the values that a digest is made of: name, dtype, shape, names, bounds, per, values."""
        kept = ("name", "dtype", "shape", "per", "names", "low", "high", "values")
        return {name: _plain(getattr(self, name)) for name in kept}


def _plain(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, StrEnum):
        return str(value)
    if isinstance(value, Command):
        return {"dim": value.dim, "levels": list(value.levels), "beyond": value.beyond}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and math.isinf(value):
        return None
    return value


@dataclass(frozen=True)
class EpisodeSpec:
    """Declaration of the episodes of a collection.

    Attributes:
        observations: Features per observation, in the order of bytes, columns and network inputs.
        action: The action: Box, float with perhaps bounds; Discrete, int64 () and MultiDiscrete, int64 (n,),
            with bounds.
        predicates: Names of what is judged true, false or null on every observation.
        extras: Annotations that are no input of a policy by default: instruction, operator, interventions.
        reward: Type of the rewards, "float32" or "float64".
        rate_hz: Steps per second; None: unknown.
    """

    observations: tuple[Feature, ...]
    action: Feature
    predicates: tuple[str, ...] = ()
    extras: tuple[Feature, ...] = ()
    reward: Literal["float32", "float64"] = "float32"
    rate_hz: float | None = None

    def __post_init__(self) -> None:
        """Refuse two things of one name, and names that are taken."""
        if self.action.name != "action":
            raise CogError(f"the action is called {self.action.name!r}, must be called 'action'")
        if self.action.is_text or self.action.per is not Per.TRANSITION or len(self.action.shape) > 1:
            raise CogError(
                f"action is {self.action.describe()} per {self.action.per}, must be numbers of shape () or "
                f"(A,) per transition"
            )
        if not self.action.size:
            raise CogError("the action has no entries, so there is nothing to learn: give it one")
        if self.action.dtype in ("int32", "int64") and not self.action.is_discrete:
            raise CogError("an action of whole numbers must have bounds, low and high")
        if self.reward not in ("float32", "float64"):
            raise CogError(f"reward is {self.reward!r}, must be float32 or float64")
        seen: set[str] = set()
        for name in (*(feature.name for feature in self.features), *self.predicates):
            if name in RESERVED:
                raise CogError(f"{name!r} is a name that every episode uses itself: choose another")
            if name in seen:
                raise CogError(f"{name!r} is declared twice")
            seen.add(name)
        for name in self.predicates:
            if not FEATURE_NAME.fullmatch(name):
                raise CogError(f"predicate name {name!r} must be lower case letters, digits and _")
        for feature in self.observations:
            if feature.per is not Per.OBSERVATION:
                raise CogError(f"observation {feature.name} is per {feature.per}, must be per observation")

    @property
    def features(self) -> tuple[Feature, ...]:
        """Observations and annotations; not the action."""
        return (*self.observations, *self.extras)

    @property
    def columns(self) -> tuple[Feature, ...]:
        """Features that are columns of the steps: those per observation or action without a codec."""
        return tuple(one for one in self.features if not one.is_member and one.per is not Per.EPISODE)

    @property
    def members(self) -> tuple[Feature, ...]:
        """Features that are members of a shard of their own."""
        return tuple(one for one in self.features if one.is_member)

    @property
    def per_episode(self) -> tuple[Feature, ...]:
        """Features of which an episode has one value."""
        return tuple(one for one in self.features if one.per is Per.EPISODE)

    def __getitem__(self, name: str) -> Feature:
        """Return a feature, or the action, by name.

        Raises:
            CogError: There is none of that name; it lists those that there are.
        """
        for feature in (*self.features, self.action):
            if feature.name == name:
                return feature
        raise unknown("feature", name, [one.name for one in self.features])

    def __contains__(self, name: object) -> bool:
        """Whether a feature, or the action, has that name."""
        return any(one.name == name for one in (*self.features, self.action))

    def taking(self, names: Iterable[str]) -> EpisodeSpec:
        """Return the declaration with only these observations and annotations, in its own order.

        Raises:
            CogError: There is no feature of one of the names.
        """
        wanted = {self[name].name for name in names}
        return replace(
            self,
            observations=tuple(one for one in self.observations if one.name in wanted),
            extras=tuple(one for one in self.extras if one.name in wanted),
        )

    # --- JSON and identity -------------------------------------------------------------------------------

    def to_data(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "observations": [one.to_data() for one in self.observations],
            "action": self.action.to_data(),
            "predicates": list(self.predicates),
            "extras": [one.to_data() for one in self.extras],
            "reward": self.reward,
            "rate_hz": self.rate_hz,
        }

    def to_json(self) -> str:
        """Return canonical JSON: sorted keys, no spaces."""
        return _canonical(self.to_data())

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> EpisodeSpec:
        """Read what :meth:`to_data` returned.

        Raises:
            ValueError: It declares no episodes.
        """
        try:
            return cls(
                tuple(Feature.from_data(one) for one in data["observations"]),
                Feature.from_data(data["action"]),
                tuple(data["predicates"]),
                tuple(Feature.from_data(one) for one in data["extras"]),
                data["reward"],
                data["rate_hz"],
            )
        except (KeyError, TypeError, AttributeError):
            raise ValueError("it declares no episodes") from None

    @classmethod
    def from_json(cls, text: str) -> EpisodeSpec:
        """Read what :meth:`to_json` returned.

        Raises:
            ValueError: It declares no episodes.
        """
        return cls.from_data(json.loads(text))

    def identity(self) -> str:
        """Return what a digest of the declaration is made of, as canonical JSON.

        Help, codecs, rates, foreign names and the order of predicates are no part of it.
        """
        return _canonical(
            {
                "observations": [one.identity() for one in self.observations],
                "action": self.action.identity(),
                "predicates": sorted(self.predicates),
                "extras": [one.identity() for one in self.extras],
                "reward": self.reward,
            }
        )


def _canonical(data: Mapping[str, Any]) -> str:
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)
