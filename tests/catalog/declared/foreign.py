"""Collections of layout 2, as files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cogdata.episode import Episode, EpisodeMeta
from cogdata.features import EpisodeSpec, Feature, Per
from cogdata.storage.collections import CollectionInfo
from cogdata.storage.parts import PartWriter
from cogdata.storage.store import Store

ARM = EpisodeSpec(
    observations=(
        Feature("front", "uint8", (48, 64, 3), codec="zst", help="front camera"),
        Feature("joints", "float32", (3,), names=("j1_rad", "j2_rad", "j3_rad"), help="joint positions"),
        Feature("force", "float64", (), help="grip force, N"),
    ),
    action=Feature(
        "action", "float32", (2,), per=Per.TRANSITION, low=(-1.0, -2.0), high=(1.0, 2.0), help="wheel speeds"
    ),
    predicates=("cup_on_shelf",),
    extras=(
        Feature("instruction", "string", per=Per.EPISODE, help="what the operator was told"),
        Feature("intervention", "bool", per=Per.TRANSITION, source="is.human"),
    ),
)
"""An arm with a camera, as a lab would declare it."""


def write_foreign(
    store: Store,
    name: str,
    spec: EpisodeSpec,
    columns: Mapping[str, Sequence[Any]] | None = None,
    extras: Mapping[str, Any] | None = None,
    *,
    final: bool = True,
) -> str:
    """Commit one episode of 2 actions and 3 observations.

    Args:
        store: Where to.
        name: Collection.
        spec: Its declaration.
        columns: Column of the steps → its values, 2 of what is done and 3 of what is observed; of those left
            out numbers are 0, texts and rewards null, predicates not judged.
        extras: Feature per episode → its value.
        final: Whether the last observation is known; else there are 2.
    """
    given = {**(columns or {}), **{name: [value] for name, value in (extras or {}).items()}}
    head = json.dumps(_info(name, spec).to_data())  # also one that `cog collect` would refuse
    store.write_text(f"collections/{name}/collection.json", head)
    writer = PartWriter(store, name, 0, 1)
    writer.add(_episode(name, spec, given, 3 if final else 2))
    writer.commit(short=True)
    return name


def _info(name: str, spec: EpisodeSpec) -> CollectionInfo:
    return CollectionInfo(
        name=name, command="cog collect", policy="wave", env="lab:Arm", noise=0.0, root_seed=0,
        image_size=None, horizon=None, success_range=(0.0, 1.0), part_size=100,
        created_at="2027-01-01T00:00:00+00:00", cogdata_version="0.2.0", code="", libraries={}, host="lab",
        spec=spec,
    )  # fmt: skip


def _episode(name: str, spec: EpisodeSpec, given: Mapping[str, Sequence[Any]], length: int) -> Episode:
    judged = {one: list(given.get(one, [None] * length)) for one in spec.predicates}
    reward = given.get("reward")
    return Episode(
        meta=EpisodeMeta(name, 0, "lab:Arm", "wave", {}, 0.0, 5, *(spec.predicates or (None,))[:1] * 2),
        spec=spec,
        observations={one.name: _rows(one, given, length) for one in spec.observations},
        action=_rows(spec.action, given, 2),
        reward=None if reward is None else np.array(reward, spec.reward),
        terminated=np.array([False, False]),
        truncated=np.array([False, True]),
        predicates={one: np.array([bool(value) for value in values]) for one, values in judged.items()},
        phase=("reach", "hold"),
        unjudged={
            one: np.array([value is None for value in values])
            for one, values in judged.items()
            if None in values
        },
        extras={
            one.name: _rows(one, given, {Per.EPISODE: 1, Per.TRANSITION: 2}.get(one.per, length))
            for one in spec.extras
        },
    )


def _rows(feature: Feature, given: Mapping[str, Sequence[Any]], rows: int) -> NDArray[Any]:
    if feature.name in given:
        return np.array(given[feature.name], feature.numpy_dtype)
    if feature.is_text:
        return np.full(rows, None, object)
    return np.zeros((rows, *feature.shape), feature.numpy_dtype)
