"""The head of a mixture version, ``mixture.json``: what was asked for, and what its batches deliver."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from cogdata.errors import CogError
from cogdata.features import EpisodeSpec
from cogdata.layout1 import ACTION, layout1_spec
from cogdata.schema import LAYOUT_1_VERSION, SCHEMA_VERSION
from cogdata.storage.layers.reading import LayerUse
from cogdata.storage.selection import Selection
from cogdata.storage.versions import known, parse


@dataclass(frozen=True)
class SourceCounts:
    """What one source of a mixture holds, before and after relabelling.

    Attributes:
        episodes: Episodes.
        transitions: Transitions that take part.
        rewarded_before: Transitions with reward > 0 as collected.
        rewarded_after: Transitions with reward > 0 as frozen.
    """

    episodes: int
    transitions: int
    rewarded_before: int
    rewarded_after: int


@dataclass(frozen=True)
class MixtureInfo:
    """The head of a mixture version.

    Attributes:
        name: Mixture name.
        version: From 1.
        digest: sha256 (hex) of the content, see :func:`mixture_digest`; the SQL is not part of it.
        sql: The query it was frozen from.
        shape: "episode" or "step".
        weights: Exact share of every batch per source, summing to 1; empty: uniform over transitions.
        counts: Per source.
        image_size: Layout 1: (H, W) px of every frame; else None.
        scene_fields: Layout 1: names of the scene vector; else ().
        created_at: ISO time, UTC.
        cogdata_version: Version that froze it.
        asked_weights: Shares as they were asked for, which ``weights`` were resolved from; not part of the
            digest. Empty: none, or a version that was frozen before they were kept.
        declared: Declaration of what its batches deliver; None: that of the worlds that are built in.
        selection: What was asked for of its episodes' features.
        left_out: Feature of the episodes → why batches do not deliver it.
        unfollowed: Number of transitions left out, because the observation after them is unknown.
        layers: Layer → what is taken of it, with the digest of its values.
        reward_range: Smallest and largest reward as frozen; None: not kept, in mixtures of version 1.
    """

    name: str
    version: int
    digest: str
    sql: str
    shape: str
    weights: dict[str, float]
    counts: dict[str, SourceCounts]
    image_size: tuple[int, int] | None
    scene_fields: tuple[str, ...]
    created_at: str
    cogdata_version: str
    schema_version: int = LAYOUT_1_VERSION
    asked_weights: dict[str, float] = field(default_factory=dict)
    declared: EpisodeSpec | None = None
    selection: Selection = field(default_factory=Selection)
    left_out: dict[str, str] = field(default_factory=dict)
    unfollowed: int = 0
    layers: dict[str, LayerUse] = field(default_factory=dict)
    reward_range: tuple[float, float] | None = None

    @property
    def spec(self) -> EpisodeSpec:
        """Declaration of what its batches deliver."""
        if self.declared is not None:
            return self.declared
        assert self.image_size is not None  # one of the two is there, see _from_data
        return layout1_spec(self.image_size, self.scene_fields, ())

    @property
    def camera_size(self) -> tuple[int, int]:
        """(H, W) px of the camera called image, which the built-in worlds take.

        Raises:
            CogError: There is no such camera.
        """
        if "image" not in self.spec:
            raise CogError(f"mixture {self.ref} has no camera called image")
        height, width = self.spec["image"].shape[:2]
        return height, width

    @property
    def ref(self) -> str:
        """``name@version``, as ``cog train --mixture`` takes it."""
        return f"{self.name}@{self.version}"

    @property
    def is_built_in(self) -> bool:
        """Whether its action is that of the built-in worlds, whose rewards are 1 for a success, else 0."""
        return self.spec.action.identity() == ACTION.identity()

    @property
    def same_features(self) -> Selection:
        """What takes exactly its features of some of its episodes, which may have more in common."""
        if self.selection.take is not None or not self.left_out:
            return self.selection
        return replace(self.selection, take=tuple(one.name for one in self.spec.features))

    def require_feature(self, name: str) -> None:
        """Refuse a feature that the mixture left out.

        Raises:
            CogError: It says why, and what there is.
        """
        if name in self.left_out:
            known = ", ".join(one.name for one in self.spec.features) or "none"
            raise CogError(
                f"mixture {self.ref} leaves out {name}, which {self.left_out[name]}; its features: {known}"
            )

    def require_episodes(self) -> None:
        """Refuse a mixture that was frozen step by step.

        Raises:
            CogError: It was.
        """
        if self.shape == "step":
            raise CogError(
                f"mixture {self.ref} was frozen step by step and says every reward already: name one "
                f"that was frozen by episodes"
            )

    @property
    def shares(self) -> dict[str, float]:
        """Shares to freeze more of its kind with: as asked for, or of an old version the resolved ones."""
        return self.asked_weights or self.weights

    def to_data(self) -> dict[str, Any]:
        """Return plain JSON values; of a default mixture of the built-in worlds those of version 1."""
        data = asdict(replace(self, declared=None, selection=Selection(), layers={}))
        for name in ("declared", "selection", "left_out", "unfollowed", "layers", "reward_range"):
            del data[name]
        if self.declared is None and self.selection.is_default and not self.left_out:
            return data
        used = {name: one.to_data() for name, one in self.layers.items()}
        more: dict[str, Any] = {"layers": used} if used else {}
        return (
            data
            | more
            | {
                "schema_version": SCHEMA_VERSION,
                "declared": self.spec.to_data(),
                "selection": self.selection.to_data(),
                "left_out": dict(self.left_out),
                "unfollowed": self.unfollowed,
                "reward_range": None if self.reward_range is None else list(self.reward_range),
            }
        )

    def to_json(self) -> str:
        """Return indented JSON."""
        return json.dumps(self.to_data(), indent=2, sort_keys=True)

    @classmethod
    def from_json(cls, text: str, where: str = "mixture.json") -> MixtureInfo:
        """Read what :meth:`to_json` wrote.

        Args:
            text: JSON.
            where: Path of its file.

        Raises:
            NewerError: A newer version wrote it.
            ValueError: It is something else.
        """
        try:
            return cls._from_data(known(cls, parse(text, where)))
        except (KeyError, TypeError, AttributeError, json.JSONDecodeError):
            raise ValueError("not the head of a mixture") from None

    @classmethod
    def _from_data(cls, data: dict[str, Any]) -> MixtureInfo:
        data["counts"] = {
            name: SourceCounts(**known(SourceCounts, counts)) for name, counts in data["counts"].items()
        }
        data["image_size"] = None if data["image_size"] is None else tuple(data["image_size"])
        data["scene_fields"] = tuple(data["scene_fields"])
        declared = data.get("declared")
        data["declared"] = None if declared is None else EpisodeSpec.from_data(declared)
        data["selection"] = Selection.from_data(data.get("selection", {}))
        data["layers"] = {name: LayerUse.from_data(one) for name, one in data.get("layers", {}).items()}
        rewards = data.get("reward_range")
        data["reward_range"] = None if rewards is None else (float(rewards[0]), float(rewards[1]))
        info = cls(**data)
        texts = (info.name, info.digest, info.sql, info.shape, info.created_at, info.cogdata_version)
        counts = [number for one in info.counts.values() for number in vars(one).values()]
        size = info.image_size
        numbers = (info.version, *(size or ()), *counts)
        if not all(isinstance(text, str) for text in texts):
            raise TypeError("a text is missing")
        if info.declared is None and (size is None or len(size) != 2):
            raise TypeError("the size of the images is missing")
        if not all(isinstance(n, int) and abs(n) < 2**63 for n in numbers):
            raise TypeError("a count is no whole number")
        return info
