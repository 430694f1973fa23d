"""Collections of layout 2, as files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from cogdata.features import EpisodeSpec, Feature, Per
from cogdata.storage import parts
from cogdata.storage.parts import PART_EPISODES
from cogdata.storage.store import Store
from cogdata.storage.tables import to_parquet

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
) -> str:
    """Commit one episode of 2 actions and 3 observations.

    Args:
        store: Where to.
        name: Collection.
        spec: Its declaration.
        columns: Column of the steps → its 3 values; those left out are null.
        extras: Values per episode.
    """
    info = {"name": name, "command": "cog collect", "policy": "wave", "env": "lab:Arm", "noise": 0.0,
            "root_seed": 0, "image_size": 48, "horizon": 2, "success_range": [0.0, 1.0], "part_size": 64,
            "created_at": "2027-01-01T00:00:00+00:00", "cogdata_version": "0.2.0", "code": "", "libraries": {},
            "host": "lab", "spec": spec.to_data()}  # fmt: skip
    store.write_text(f"collections/{name}/collection.json", json.dumps(info))
    part = "part-00000-00-00"
    row = {"episode_id": f"{name}/0000000", "collection": name, "part": part, "episode_index": 0,
           "env": "lab:Arm", "policy": "wave", "policy_params": "{}", "noise": 0.0, "seed": 5, "steps": 2,
           "digest": "ab" * 32, "shard": f"collections/{name}/{part}/frames.tar", "observations": 3,
           "extras": json.dumps(dict(extras or {}))}  # fmt: skip
    schema = PART_EPISODES
    for field in (pa.field("observations", pa.int32()), pa.field("extras", pa.string())):
        schema = schema if field.name in schema.names else schema.append(field)
    files = {
        parts.FRAMES: b"",
        parts.STEPS: to_parquet(_steps(f"{name}/0000000", spec, columns or {})),
        parts.EPISODES: to_parquet(pa.Table.from_pylist([row], schema=schema)),
    }
    commit = {"collection": name, "part": part, "start": 0, "stop": 1, "episodes": 1, "steps": 2, "frames": 3,
              "bytes": sum(map(len, files.values())), "files": {
                  file: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
                  for file, data in files.items()}}  # fmt: skip
    for file, data in files.items():
        store.write_bytes(f"collections/{name}/{part}/{file}", data)
    store.write_text(f"collections/{name}/{part}/{parts.COMMIT}", json.dumps(commit))
    return name


def _steps(episode_id: str, spec: EpisodeSpec, columns: Mapping[str, Sequence[Any]]) -> pa.Table:
    fields = [pa.field("episode_id", pa.string()), pa.field("t", pa.int32())]
    fields += [pa.field(one.name, _type(one)) for one in (*spec.columns, spec.action)]
    fields += [pa.field("reward", pa.float64() if spec.reward == "float64" else pa.float32())]
    fields += [pa.field(name, pa.bool_()) for name in ("terminated", "truncated")]
    fields += [pa.field("phase", pa.string()), *(pa.field(name, pa.bool_()) for name in spec.predicates)]
    given = {"episode_id": [episode_id] * 3, "t": [0, 1, 2], **columns}
    return pa.table({one.name: pa.array(given.get(one.name, [None] * 3), one.type) for one in fields})


def _type(feature: Feature) -> pa.DataType:
    one = pa.string() if feature.is_text else pa.from_numpy_dtype(feature.numpy_dtype)
    return pa.list_(one) if feature.shape else one
