"""One episode as the members of a WebDataset sample: pictures, and step arrays with the metadata.

``<episode_id>.<feature>.<codec>`` holds the rows of a feature that is declared with a codec;
``<episode_id>.steps.arrow.zst`` an Arrow IPC stream, compressed whole, of one row per observation, whose
schema metadata carry the episode's own. In layout 1 the pictures' member is called ``frames.zst``.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cogdata.episode import Encoded, Episode, EpisodeMeta, Float32, Recorded
from cogdata.errors import CogError
from cogdata.features import EpisodeSpec, Feature, Per
from cogdata.layout1 import layout1_spec, layout_of
from cogdata.schema import PREDICATES
from cogdata.storage.codecs import ALL, decode_feature, encode_feature, frame_codec
from cogdata.storage.store import Store

STEPS_MEMBER: Final = "steps.arrow.zst"
FRAMES_MEMBER: Final = "frames.zst"

_ARROW: Final = {
    "uint8": pa.uint8(), "uint16": pa.uint16(), "int32": pa.int32(), "int64": pa.int64(), "bool": pa.bool_(),
    "float16": pa.float16(), "float32": pa.float32(), "float64": pa.float64(),
    "string": pa.dictionary(pa.int32(), pa.string()),
}  # fmt: skip


MEMBERS: Final = pa.list_(
    pa.struct(
        [
            ("feature", pa.string()),
            ("file", pa.string()),  # path within the store; null: the shard
            ("offset", pa.int64()),
            ("size", pa.int64()),
            ("crc32", pa.int64()),
            ("first", pa.int32()),  # pictures in a video before the first of the episode
        ]
    )
)
"""Type of the column that says where the features with a codec lie."""


@dataclass(frozen=True)
class Member:
    """Where the bytes of a feature lie.

    Attributes:
        file: Path within the store.
        offset: First byte.
        size: Number of bytes.
        crc32: Checksum of these bytes.
        first: Pictures in a video before the first of the episode.
    """

    file: str
    offset: int
    size: int
    crc32: int
    first: int = 0


@dataclass(frozen=True)
class Sample:
    """Where the bytes of one episode lie: byte ranges, mostly of one shard.

    Attributes:
        steps: The step arrays.
        members: Feature → its bytes.
    """

    steps: Member
    members: Mapping[str, Member]

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Sample:
        """Read it from a row of :data:`PART_EPISODES` or of a manifest."""
        shard = row["shard"]
        steps = Member(shard, row["steps_offset"], row["steps_size"], row["steps_crc32"])
        listed = row.get("members")
        if listed is None:
            frames = Member(shard, row["frames_offset"], row["frames_size"], row["frames_crc32"])
            return cls(steps, {"image": frames})
        return cls(
            steps,
            {
                one["feature"]: Member(
                    one["file"] or shard, one["offset"], one["size"], one["crc32"], one["first"] or 0
                )
                for one in listed
            },
        )


def member_name(feature: Feature, layout: int) -> str:
    """Return the extension of a feature's member within a sample."""
    return FRAMES_MEMBER if layout == 1 else f"{feature.name}.{feature.codec}"


# --- encoding ------------------------------------------------------------------------------------------


def seal(episode: Episode) -> Episode:
    """Return an episode as it will be read back: what a lossy codec changes is held as its bytes.

    Raises:
        CogError: A codec cannot hold a feature.
    """
    held = {
        one.name: _sealed(one, episode.observations[one.name], episode) for one in episode.spec.observations
    }
    extras = {one.name: _sealed(one, episode.extras[one.name], episode) for one in episode.spec.extras}
    if all(held[name] is episode.observations[name] for name in held) and all(
        extras[name] is episode.extras[name] for name in extras
    ):
        return episode
    return Episode(**vars(episode) | {"observations": held, "extras": extras})


def _sealed(feature: Feature, values: Recorded, episode: Episode) -> Recorded:
    if isinstance(values, Encoded) or not feature.is_member or frame_codec(feature.codec).lossless:
        return values
    return Encoded(feature.codec, encode_member(feature, values, episode), values.shape, feature.dtype)


def encode_member(feature: Feature, values: Recorded, episode: Episode) -> bytes:
    """Return the rows of a feature in its codec.

    Raises:
        CogError: The codec cannot hold them.
    """
    if isinstance(values, Encoded):
        if values.codec != feature.codec:
            raise CogError(f"{feature.name} is held as {values.codec}, declared as {feature.codec}")
        return values.data
    return encode_feature(feature, values, episode.spec.rate_hz)


def encoded_members(episode: Episode) -> Iterator[tuple[Feature, bytes, int]]:
    """Yield each feature that is a member of its own: the feature, its bytes, pictures before its first."""
    for feature in episode.spec.members:
        held = episode.observations if feature.name in episode.observations else episode.extras
        values = held[feature.name]
        first = values.first if isinstance(values, Encoded) else 0
        yield feature, encode_member(feature, values, episode), first


def steps_batch(episode: Episode) -> pa.RecordBatch:
    """Return the step arrays of an episode, one row per observation.

    Args:
        episode: T actions, N observations.
    """
    spec, rows = episode.spec, episode.length
    columns: dict[str, pa.Array] = {}
    for feature in (one for one in spec.observations if not one.is_member):
        columns[feature.name] = _column(feature, episode.array(feature.name), rows)
    columns["action"] = _column(spec.action, episode.action, rows)
    columns["reward"] = _per_action(episode.reward, rows, _ARROW[spec.reward])
    columns["terminated"] = _per_action(episode.terminated, rows, pa.bool_())
    columns["truncated"] = _per_action(episode.truncated, rows, pa.bool_())
    columns["phase"] = _phases(episode.phase, rows)
    for name in _in_order(spec):
        columns[name] = pa.array(episode.predicates[name], mask=episode.unjudged.get(name))
    for feature in (one for one in spec.extras if not one.is_member and one.per is not Per.EPISODE):
        columns[feature.name] = _column(feature, episode.array(feature.name), rows)
    fields = [pa.field(name, array.type) for name, array in columns.items()]
    return pa.RecordBatch.from_arrays(list(columns.values()), schema=pa.schema(fields, _metadata(episode)))


def _in_order(spec: EpisodeSpec) -> list[str]:
    """Predicates in the order of their columns."""
    if layout_of(spec) == 1:
        return [name for name in PREDICATES if name in spec.predicates]
    return list(spec.predicates)


def _metadata(episode: Episode) -> dict[str, str]:
    meta = {"meta": episode.meta.to_json()}
    if layout_of(episode.spec) == 1:
        return meta | {
            "scene_fields": json.dumps(episode.scene_fields),
            "frames_shape": json.dumps(episode.image.shape),
        }
    return meta | {"spec": episode.spec.to_json(), "extras": extras_json(episode)}


def extras_json(episode: Episode) -> str:
    """Return the annotations per episode as JSON: name → value."""
    values = {one.name: episode.array(one.name)[0] for one in episode.spec.per_episode if not one.is_member}
    plain = {name: value.tolist() if hasattr(value, "tolist") else value for name, value in values.items()}
    return json.dumps(plain, sort_keys=True)


def _column(feature: Feature, values: NDArray[Any], rows: int) -> pa.Array:
    """Rows of a feature as a column: numbers, texts, or the flat entries of arrays; null beyond its rows."""
    if feature.is_text:
        texts = [*values.tolist(), *[None] * (rows - len(values))]
        return pa.array(texts, pa.string()).dictionary_encode().cast(_ARROW["string"])
    if not feature.shape:
        return _per_action(values, rows, _ARROW[feature.dtype])
    if not feature.size:  # no fixed size may be 0
        return pa.array([[]] * rows, pa.list_(_ARROW[feature.dtype]))
    padded = np.zeros((rows, feature.size), feature.numpy_dtype)
    padded[: len(values)] = values.reshape(len(values), feature.size)
    mask = pa.array(np.arange(rows) >= len(values)) if len(values) < rows else None
    entries = pa.array(padded.reshape(-1), _ARROW[feature.dtype])
    return pa.FixedSizeListArray.from_arrays(entries, feature.size, mask=mask)


def _per_action(values: NDArray[Any] | None, rows: int, kind: pa.DataType) -> pa.Array:
    """Values, null for a last observation from which nothing was done; None: all are null."""
    if values is None:
        return pa.nulls(rows, kind)
    if len(values) == rows:
        return pa.array(values, kind)
    return pa.array(np.append(values, values[-1:]), kind, mask=np.arange(rows) == len(values))


def _phases(phase: tuple[str, ...], rows: int) -> pa.Array:
    names = list(dict.fromkeys(phase))
    kind = pa.int8() if len(names) < 128 else pa.int32()
    numbers = {name: number for number, name in enumerate(names)}
    indices = [numbers[name] for name in phase] + [None] * (rows - len(phase))
    return pa.DictionaryArray.from_arrays(pa.array(indices, kind), pa.array(names, pa.string()))


def encode_steps(batch: pa.RecordBatch) -> bytes:
    """An IPC stream, compressed whole: a third smaller and ten times faster to open than buffer by buffer."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    encoded: bytes = pa.Codec("zstd", compression_level=9).compress(sink.getvalue(), asbytes=True)
    return encoded


# --- decoding ------------------------------------------------------------------------------------------


def _checked(store: Store, member: Member) -> bytes:
    data = store.read_bytes(member.file, member.offset, member.size)
    if zlib.crc32(data) != member.crc32:
        raise CogError(f"{store.path(member.file)} is damaged at byte {member.offset}: run `cog data verify`")
    return data


def read_steps(store: Store, sample: Sample) -> pa.RecordBatch:
    """Read the step arrays of one episode from its shard.

    Raises:
        CogError: The shard is missing, truncated or damaged.
    """
    data = _checked(store, sample.steps)
    with pa.CompressedInputStream(pa.BufferReader(data), "zstd") as stream:
        return pa.ipc.open_stream(stream.read_buffer()).read_next_batch()


def read_member(store: Store, sample: Sample, feature: Feature, out: NDArray[Any], rows: slice = ALL) -> None:
    """Decode rows of a feature into a contiguous array (len(rows), *shape).

    Args:
        store: Where from.
        sample: Where the episode lies.
        feature: Its declaration.
        out: Filled.
        rows: Rows of the episode, counted from 0.

    Raises:
        CogError: The shard is missing, truncated or damaged, or has no such member.
    """
    member = _member(store, sample, feature)
    decode_feature(feature, _checked(store, member), out, rows, member.first)


def read_frames(store: Store, sample: Sample, out: NDArray[np.uint8]) -> None:
    """Decode the frames of one episode of layout 1 into a contiguous uint8 (T+1, H, W, 3) array.

    Raises:
        CogError: The shard is missing, truncated or damaged.
    """
    frame_codec("zst").decode(_checked(store, sample.members["image"]), out)


def _member(store: Store, sample: Sample, feature: Feature) -> Member:
    if feature.name not in sample.members:
        raise CogError(
            f"{store.path(sample.steps.file)} has no member for {feature.name}: run `cog data verify`"
        )
    return sample.members[feature.name]


def column_values(batch: pa.RecordBatch, feature: Feature) -> NDArray[Any]:
    """Return a column of a steps batch as an array (rows, *shape), numbers without a copy.

    Args:
        batch: From :func:`read_steps`.
        feature: Declared without a codec. Of one per transition the last row is meaningless where there is
            a final observation.
    """
    array = batch.column(feature.name)
    if feature.is_text:
        return np.array(array.to_pylist(), object)
    if not feature.shape:
        filled = array.fill_null(False if feature.dtype == "bool" else 0) if array.null_count else array
        scalars: NDArray[Any] = filled.to_numpy(zero_copy_only=False)
        return scalars.astype(feature.numpy_dtype, copy=False)
    values: NDArray[Any] = array.values.to_numpy(zero_copy_only=feature.dtype != "bool")
    return values.reshape(len(array), *feature.shape)


def floats(batch: pa.RecordBatch, column: str) -> Float32:
    """Return a fixed-size-list column of a steps batch as float32 (rows, D), without a copy.

    Args:
        batch: From :func:`read_steps`.
        column: "robot", "scene" or "action" (whose last row is meaningless).
    """
    array = batch.column(column)
    values: Float32 = array.values.to_numpy(zero_copy_only=True)
    return values.reshape(len(array), values.size // len(array))


def declared_in(batch: pa.RecordBatch) -> EpisodeSpec:
    """Return the declaration of an episode.

    Args:
        batch: From :func:`read_steps`.
    """
    metadata = batch.schema.metadata
    if b"spec" in metadata:
        return _parsed(metadata[b"spec"])
    fields = tuple(json.loads(metadata[b"scene_fields"]))
    present = [name for name in PREDICATES if name in batch.schema.names]
    return layout1_spec(json.loads(metadata[b"frames_shape"])[1:3], fields, present)


@lru_cache(maxsize=64)
def _parsed(text: bytes) -> EpisodeSpec:
    return EpisodeSpec.from_json(text.decode())


def read_episode(store: Store, row: Mapping[str, Any]) -> Episode:
    """Read one episode back, whole; pictures of lossy codecs as their bytes.

    Args:
        store: Where from.
        row: Row of :data:`PART_EPISODES` or of the catalog's ``episodes``.

    Raises:
        CogError: The shard is missing, truncated or damaged.
    """
    sample = Sample.of(row)
    batch = read_steps(store, sample)
    spec = declared_in(batch)
    steps = batch.num_rows - batch.column("action").null_count
    names = spec.predicates
    unjudged = {name: np.array(batch.column(name).is_null()) for name in names}
    given = json.loads(batch.schema.metadata.get(b"extras", b"{}"))
    counts = {Per.OBSERVATION: batch.num_rows, Per.TRANSITION: steps, Per.EPISODE: 1}

    def rows_of(feature: Feature) -> Recorded:
        if feature.is_member:
            return _recorded(store, sample, feature, counts[feature.per])
        if feature.per is Per.EPISODE:
            return _single(feature, given.get(feature.name))
        return column_values(batch, feature)[: counts[feature.per]]

    return Episode(
        meta=EpisodeMeta(**json.loads(batch.schema.metadata[b"meta"])),
        spec=spec,
        observations={one.name: rows_of(one) for one in spec.observations},
        extras={one.name: rows_of(one) for one in spec.extras},
        action=column_values(batch, spec.action)[:steps],
        reward=_known(batch, "reward", steps, spec.reward),
        terminated=_known(batch, "terminated", steps, "bool"),
        truncated=_known(batch, "truncated", steps, "bool"),
        predicates={name: np.array(batch.column(name).fill_null(False), bool) for name in names},
        phase=tuple(batch.column("phase").slice(0, steps).to_pylist()),
        unjudged={name: mask for name, mask in unjudged.items() if mask.any()},
    )


def _known(batch: pa.RecordBatch, name: str, steps: int, dtype: str) -> NDArray[Any] | None:
    """A column of the actions; None: it is unknown."""
    column = batch.column(name).slice(0, steps)
    if column.null_count == steps:
        return None
    values: NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return values.astype(dtype)


def _single(feature: Feature, value: object) -> NDArray[Any]:
    """The one value of an annotation per episode, (1, *shape)."""
    if feature.is_text:
        return np.array([value], object)
    return np.asarray(value, feature.numpy_dtype).reshape(1, *feature.shape)


def _recorded(store: Store, sample: Sample, feature: Feature, rows: int) -> Recorded:
    codec = frame_codec(feature.codec)
    if not codec.lossless:
        member = _member(store, sample, feature)
        shape = (rows, *feature.shape)
        return Encoded(feature.codec, _checked(store, member), shape, feature.dtype, member.first)
    out = np.empty((rows, *feature.shape), feature.numpy_dtype)
    read_member(store, sample, feature, out)
    return out


def decoded(episode: Episode, name: str) -> NDArray[Any]:
    """Return the rows of a feature, pictures decoded, (N, *shape).

    Raises:
        CogError: There is no such feature, or its bytes are damaged.
    """
    feature = episode.spec[name]
    held = episode.observations if name in episode.observations else episode.extras
    values = held[name]
    if not isinstance(values, Encoded):
        return values
    out = np.empty(values.shape, feature.numpy_dtype)
    frame_codec(values.codec).decode(values.data, out, first=values.first)
    return out
