"""One episode as the two members of a WebDataset sample: frames, and step arrays with the metadata.

``<episode_id>.frames.zst`` holds the pixels (:mod:`cogdata.storage.frames`); ``<episode_id>.steps.arrow.zst``
an Arrow IPC stream, compressed whole, of one row per observation, whose schema metadata carry the episode's
own.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from cogdata.episode import Episode, EpisodeMeta, Float32
from cogdata.errors import CogError
from cogdata.schema import ACTION_DIM, PREDICATES, ROBOT_DIM
from cogdata.storage.frames import DEFAULT_CODEC, frame_codec
from cogdata.storage.store import Store

STEPS_MEMBER: Final = "steps.arrow.zst"
FRAMES_MEMBER: Final = f"frames.{DEFAULT_CODEC}"


@dataclass(frozen=True)
class Sample:
    """Where the bytes of one episode lie: byte ranges of two members of a shard.

    Attributes:
        shard: Path within the store.
        frames: (offset, size, crc32) of the frames.
        steps: (offset, size, crc32) of the step arrays.
    """

    shard: str
    frames: tuple[int, int, int]
    steps: tuple[int, int, int]

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Sample:
        """Read it from a row of :data:`PART_EPISODES` or of a manifest."""
        frames, steps = (
            (row[f"{member}_offset"], row[f"{member}_size"], row[f"{member}_crc32"])
            for member in ("frames", "steps")
        )
        return cls(row["shard"], frames, steps)


def _step_fields(scene_dim: int, predicates: Sequence[str]) -> list[pa.Field]:
    return [
        pa.field("robot", pa.list_(pa.float32(), ROBOT_DIM)),
        pa.field("scene", pa.list_(pa.float32(), scene_dim or -1)),  # no fixed size may be 0
        pa.field("action", pa.list_(pa.float32(), ACTION_DIM)),
        pa.field("reward", pa.float32()),
        pa.field("terminated", pa.bool_()),
        pa.field("truncated", pa.bool_()),
        pa.field("phase", pa.dictionary(pa.int8(), pa.string())),
        *(pa.field(name, pa.bool_()) for name in predicates),
    ]


def _fixed(values: Float32, rows: int) -> pa.Array:
    """(n, D) float32 → fixed-size lists; rows beyond n are null. Nothing is known of a scene of size 0."""
    dim = values.shape[1]
    if not dim:
        return pa.array([[]] * rows, pa.list_(pa.float32()))
    padded = np.zeros((rows, dim), np.float32)
    padded[: len(values)] = values
    mask = pa.array(np.arange(rows) >= len(values)) if len(values) < rows else None
    return pa.FixedSizeListArray.from_arrays(pa.array(padded.reshape(-1)), dim, mask=mask)


def _last_null(values: np.ndarray[Any, Any]) -> pa.Array:
    """T values and a null for the last observation, from which nothing was done."""
    return pa.array(np.append(values, values[-1:]), mask=np.arange(len(values) + 1) == len(values))


def steps_batch(episode: Episode) -> pa.RecordBatch:
    """Return the step arrays of an episode, one row per observation.

    Args:
        episode: T actions, T+1 observations.
    """
    rows = episode.steps + 1
    names = list(dict.fromkeys(episode.phase))
    phase = pa.DictionaryArray.from_arrays(
        pa.array([names.index(name) for name in episode.phase] + [None], pa.int8()),
        pa.array(names, pa.string()),
    )
    present = [name for name in PREDICATES if name in episode.predicates]
    arrays = [
        _fixed(episode.robot, rows),
        _fixed(episode.scene, rows),
        _fixed(episode.action, rows),
        _last_null(episode.reward),
        _last_null(episode.terminated),
        _last_null(episode.truncated),
        phase,
        *(pa.array(episode.predicates[name], mask=episode.unjudged.get(name)) for name in present),
    ]
    meta = {
        "meta": episode.meta.to_json(),
        "scene_fields": json.dumps(episode.scene_fields),
        "frames_shape": json.dumps(episode.image.shape),
    }
    return pa.RecordBatch.from_arrays(
        arrays, schema=pa.schema(_step_fields(episode.scene.shape[1], present), meta)
    )


def encode_steps(batch: pa.RecordBatch) -> bytes:
    """An IPC stream, compressed whole: a third smaller and ten times faster to open than buffer by buffer."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    encoded: bytes = pa.Codec("zstd", compression_level=9).compress(sink.getvalue(), asbytes=True)
    return encoded


def encode_frames(episode: Episode) -> bytes:
    """Return the pixels of an episode in the shard's codec."""
    return frame_codec(DEFAULT_CODEC).encode(episode.image)


def _checked(store: Store, sample: Sample, member: tuple[int, int, int]) -> bytes:
    offset, size, crc32 = member
    data = store.read_bytes(sample.shard, offset, size)
    if zlib.crc32(data) != crc32:
        raise CogError(f"{store.path(sample.shard)} is damaged at byte {offset}: run `cog data verify`")
    return data


def read_steps(store: Store, sample: Sample) -> pa.RecordBatch:
    """Read the step arrays of one episode from its shard.

    Raises:
        CogError: The shard is missing, truncated or damaged.
    """
    data = _checked(store, sample, sample.steps)
    with pa.CompressedInputStream(pa.BufferReader(data), "zstd") as stream:
        return pa.ipc.open_stream(stream.read_buffer()).read_next_batch()


def read_frames(store: Store, sample: Sample, out: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
    """Decode the frames of one episode into a contiguous uint8 (T+1, H, W, 3) array.

    Raises:
        CogError: The shard is missing, truncated or damaged.
    """
    frame_codec(DEFAULT_CODEC).decode(_checked(store, sample, sample.frames), out)


def floats(batch: pa.RecordBatch, column: str) -> Float32:
    """Return a fixed-size-list column of a steps batch as float32 (rows, D), without a copy.

    Args:
        batch: From :func:`read_steps`.
        column: "robot", "scene" or "action" (whose last row is meaningless).
    """
    array = batch.column(column)
    values: Float32 = array.values.to_numpy(zero_copy_only=True)
    return values.reshape(len(array), values.size // len(array))


def _column(batch: pa.RecordBatch, name: str, steps: int) -> np.ndarray[Any, Any]:
    values: np.ndarray[Any, Any] = batch.column(name).slice(0, steps).to_numpy(zero_copy_only=False)
    return values


def read_episode(store: Store, row: Mapping[str, Any]) -> Episode:
    """Read one episode back, whole.

    Args:
        store: Where from.
        row: Row of :data:`PART_EPISODES` or of the catalog's ``episodes``.

    Raises:
        CogError: The shard is missing, truncated or damaged.
    """
    sample = Sample.of(row)
    batch = read_steps(store, sample)
    steps = batch.num_rows - 1
    image = np.empty((steps + 1, row["image_height"], row["image_width"], 3), np.uint8)
    read_frames(store, sample, image)
    present = [name for name in PREDICATES if name in batch.schema.names]
    unjudged = {name: np.array(batch.column(name).is_null()) for name in present}
    return Episode(
        meta=EpisodeMeta(**json.loads(batch.schema.metadata[b"meta"])),
        image=image,
        robot=floats(batch, "robot"),
        scene=floats(batch, "scene"),
        action=floats(batch, "action")[:steps],
        reward=_column(batch, "reward", steps).astype(np.float32),
        terminated=_column(batch, "terminated", steps).astype(bool),
        truncated=_column(batch, "truncated", steps).astype(bool),
        predicates={name: np.array(batch.column(name).fill_null(False), bool) for name in present},
        phase=tuple(batch.column("phase").slice(0, steps).to_pylist()),
        scene_fields=tuple(json.loads(batch.schema.metadata[b"scene_fields"])),
        unjudged={name: mask for name, mask in unjudged.items() if mask.any()},
    )
