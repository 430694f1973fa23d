"""Collections of arms with different numbers of joints, as an importer would commit them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cogdata.episode import Episode, EpisodeMeta
from cogdata.storage.collections import CollectionInfo, write_collection
from cogdata.storage.parts import PART_SIZE, PartWriter
from cogdata.storage.store import Store
from tests.cogdata.streaming.foreign import arm_episode


def collect_arms(
    store: Store, name: str, count: int, names: Mapping[str, str] | None = None, **options: Any
) -> str:
    """Commit episodes 0 … count - 1 of 4 actions.

    Args:
        store: Where to.
        name: Collection.
        count: How many.
        names: Feature → what this collection calls it.
        options: See :func:`arm_episode`, which also says what the numbers are.
    """
    episodes = [_renamed(arm_episode(index, **options), names or {}) for index in range(count)]
    write_collection(
        store,
        CollectionInfo(
            name=name,
            command=f"cog import --name {name}",
            policy="replay",
            env=options.get("env", "lab:Arm"),
            noise=0.0,
            root_seed=0,
            image_size=None,
            horizon=None,
            success_range=(0.0, 1.0),
            part_size=PART_SIZE,
            created_at="2027-01-01T00:00:00+00:00",
            cogdata_version="0.2.0",
            code="",
            libraries={},
            host="lab",
            spec=episodes[0].spec,
        ),
    )
    writer = PartWriter(store, name, 0, count)
    for episode in episodes:
        meta = EpisodeMeta(**vars(episode.meta) | {"collection": name})
        writer.add(Episode(**vars(episode) | {"meta": meta}))
    writer.commit()
    return name


def _renamed(episode: Episode, names: Mapping[str, str]) -> Episode:
    declared = episode.spec.observations
    own = tuple(replace(one, name=names.get(one.name, one.name)) for one in declared)
    return replace(
        episode,
        spec=replace(episode.spec, observations=own),
        observations={names.get(name, name): values for name, values in episode.observations.items()},
    )
