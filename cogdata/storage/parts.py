"""A part: a committed range of a collection's episodes. Encoding, the commit protocol, decoding.

``collections/<collection>/part-00007/`` holds ``frames.tar`` (a WebDataset shard, one sample per episode,
see `cogdata.storage.samples`), ``steps.parquet``, ``episodes.parquet`` and, written last, ``COMMIT.json``.
Without it the folder does not exist for any reader; it is created, never overwritten. The same range has
the same name and the same bytes, so two writers cannot harm each other.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
import zlib
from dataclasses import asdict, dataclass
from typing import Any, Final

import pyarrow as pa

from cogdata.episode import Episode
from cogdata.errors import CogError
from cogdata.features import EpisodeSpec
from cogdata.layout1 import layout_of
from cogdata.schema import PREDICATES
from cogdata.storage.samples import (
    MEMBERS,
    STEPS_MEMBER,
    encode_steps,
    encoded_members,
    extras_json,
    member_name,
    seal,
    steps_batch,
)
from cogdata.storage.store import Store
from cogdata.storage.tables import steps_parquet, to_parquet
from cogdata.storage.versions import known, read_json, refusal

PART_SIZE: Final = 100
"""Episodes in a whole part. Fixed for ever: it is what makes ranges, names and bytes repeatable."""

FRAMES: Final = "frames.tar"
STEPS: Final = "steps.parquet"
EPISODES: Final = "episodes.parquet"
COMMIT: Final = "COMMIT.json"

_PART_NAME: Final = re.compile(r"part-(?P<number>[0-9]{5,})(-(?P<first>[0-9][0-9])-(?P<last>[0-9][0-9]))?")

PART_EPISODES: Final = pa.schema(
    [
        ("episode_id", pa.string()),
        ("collection", pa.string()),
        ("part", pa.string()),
        ("episode_index", pa.int32()),
        ("env", pa.string()),
        ("policy", pa.string()),
        ("policy_params", pa.string()),  # JSON: what the policy drew for this episode
        ("noise", pa.float64()),
        ("seed", pa.int64()),
        ("task", pa.string()),
        ("goal", pa.string()),
        ("image_height", pa.int32()),
        ("image_width", pa.int32()),
        ("scene_fields", pa.list_(pa.string())),
        ("steps", pa.int32()),
        ("total_reward", pa.float32()),
        ("success", pa.bool_()),
        ("solved", pa.bool_()),
        ("terminated", pa.bool_()),
        ("truncated", pa.bool_()),
        ("digest", pa.string()),
        ("shard", pa.string()),
        ("frames_offset", pa.int64()),
        ("frames_size", pa.int64()),
        ("frames_crc32", pa.int64()),
        ("steps_offset", pa.int64()),
        ("steps_size", pa.int64()),
        ("steps_crc32", pa.int64()),
    ]
)
"""Columns of ``episodes.parquet`` in layout 1."""

PART_EPISODES_2: Final = pa.schema(
    [*PART_EPISODES, ("observations", pa.int32()), ("members", MEMBERS), ("extras", pa.string())]
)
"""Columns of ``episodes.parquet`` in layout 2: also N, the members, and the annotations per episode as JSON.
What belongs to the one camera of layout 1 is null."""


@dataclass(frozen=True)
class Commit:
    """``COMMIT.json``: the part exists, and these are its files.

    Attributes:
        collection: Collection name.
        part: Folder name.
        start: First episode index.
        stop: One past the last.
        episodes: stop - start.
        steps: Actions in all.
        frames: Observations in all.
        bytes: Size of the three files together.
        files: name → {"size", "sha256"}.
        made_with: What made its episodes, from `cogdata.storage.versions.origin`; None: not kept (0.1).
    """

    collection: str
    part: str
    start: int
    stop: int
    episodes: int
    steps: int
    frames: int
    bytes: int
    files: dict[str, dict[str, Any]]
    made_with: dict[str, Any] | None = None


def part_name(start: int, stop: int) -> str:
    """Name the folder of a range of episodes; a whole part by its number, a shorter one by its range too.

    Args:
        start: First index.
        stop: One past the last, within the same whole part.
    """
    number, first = divmod(start, PART_SIZE)
    if not start < stop <= (number + 1) * PART_SIZE:
        raise ValueError(f"range [{start}, {stop}) does not lie within one part of {PART_SIZE} episodes")
    whole = first == 0 and stop - start == PART_SIZE
    return f"part-{number:05d}" if whole else f"part-{number:05d}-{first:02d}-{first + stop - start - 1:02d}"


def part_range(name: str) -> tuple[int, int]:
    """Return the range [start, stop) that :func:`part_name` gave this name.

    Args:
        name: Folder name of a part.

    Raises:
        ValueError: It is not the name of a part.
    """
    match = _PART_NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"{name!r} is not the name of a part")
    first = int(match["number"]) * PART_SIZE
    if match["first"] is None:
        return first, first + PART_SIZE
    return first + int(match["first"]), first + int(match["last"]) + 1


def is_part_name(name: str) -> bool:
    """Whether a folder is a part by its name. No other is read, whatever it holds."""
    return _PART_NAME.fullmatch(name) is not None


def part_folder(collection: str, part: str) -> str:
    """Return the path of a part within the store."""
    return f"collections/{collection}/{part}"


# --- encoding ------------------------------------------------------------------------------------------


class PartWriter:
    """Builds one part in memory, an episode at a time, and commits it in one go.

    Args:
        store: Where to.
        collection: Collection name.
        start: Index of the first episode.
        stop: One past the last.
        made_with: What makes its episodes, from `cogdata.storage.versions.origin`; None: not kept.
    """

    def __init__(
        self,
        store: Store,
        collection: str,
        start: int,
        stop: int,
        made_with: dict[str, Any] | None = None,
    ) -> None:
        from webdataset.writer import TarWriter

        self._store = store
        self._collection = collection
        self._range = (start, stop)
        self._made_with = made_with
        self._buffer = io.BytesIO()
        self._tar = TarWriter(self._buffer, user="", group="", mtime=0, encoder=False)
        self._steps: list[pa.RecordBatch] = []
        self._rows: list[dict[str, Any]] = []
        self._spec: EpisodeSpec | None = None

    def add(self, episode: Episode) -> None:
        """Encode the next episode.

        Args:
            episode: Must have the next index of the range.

        Raises:
            ValueError: It has another index, or ends before its last action.
        """
        expected = self._range[0] + len(self._rows)
        if episode.meta.index != expected or episode.meta.collection != self._collection:
            raise ValueError(
                f"episode {episode.meta.episode_id} added, {self._collection}/{expected} expected"
            )
        episode.check_ends()
        episode = seal(self._alike(episode))
        layout = layout_of(episode.spec)
        steps = steps_batch(episode)
        encoded = encode_steps(steps)
        sample: dict[str, Any] = {"__key__": episode.meta.episode_id}
        members = []
        for feature, data, first in encoded_members(episode):
            extension = member_name(feature, layout)
            sample[extension] = data
            members.append(
                {"feature": feature.name, "extension": extension, "crc32": zlib.crc32(data), "first": first}
            )
        self._tar.write(sample | {STEPS_MEMBER: encoded})
        self._steps.append(steps)
        self._rows.append(self._row(episode) | {"members": members, "steps_crc32": zlib.crc32(encoded)})

    def _alike(self, episode: Episode) -> Episode:
        """Refuse an episode of another declaration than the part's first.

        Raises:
            ValueError: It is.
        """
        if self._spec is None:
            self._spec = episode.spec
        elif self._spec is not episode.spec and self._spec.identity() != episode.spec.identity():
            raise ValueError(
                f"{episode.meta.episode_id} is declared otherwise than the episodes before it: a collection "
                f"has one declaration"
            )
        return episode

    def _row(self, episode: Episode) -> dict[str, Any]:
        meta = episode.meta
        row = {
            "episode_id": meta.episode_id,
            "collection": meta.collection,
            "episode_index": meta.index,
            "env": meta.env,
            "policy": meta.policy,
            "policy_params": json.dumps(dict(meta.policy_params), sort_keys=True),
            "noise": meta.noise,
            "seed": meta.seed,
            "task": meta.task,
            "goal": meta.goal,
            "steps": episode.steps,
            "total_reward": None if episode.reward is None else float(episode.reward.sum()),
            "success": episode.success,
            "solved": episode.solved,
            "terminated": None if episode.terminated is None else bool(episode.terminated[-1]),
            "truncated": None if episode.truncated is None else bool(episode.truncated[-1]),
            "digest": episode.digest(),
            "observations": episode.length,
        }
        if layout_of(episode.spec) == 2:
            return row | {"extras": extras_json(episode)}
        height, width = episode.image.shape[1:3]
        fields = list(episode.scene_fields)
        return row | {"image_height": height, "image_width": width, "scene_fields": fields}

    def commit(self, *, short: bool = False) -> Commit:
        """Write the three files, then ``COMMIT.json``.

        Args:
            short: Commit the episodes added so far, at least one, as a part of their own shorter range.

        Returns:
            The commit; the one that is there, if another writer was first.

        Raises:
            CogError: A write failed, and the part does not exist; or another writer committed other bytes.
        """
        start, stop = self._range
        held = start + len(self._rows)
        if held != stop and not (short and self._rows):
            raise ValueError(f"part [{start}, {stop}) holds {len(self._rows)} episodes")
        part = part_name(start, held)
        commit, files = self._encode(part)
        for there in (part_name(start, stop), part):  # what is committed never changes
            if self._store.exists(f"{part_folder(self._collection, there)}/{COMMIT}"):
                return read_commit(self._store, self._collection, there)
        folder = part_folder(self._collection, part)
        for name, data in files.items():
            self._store.write_bytes(f"{folder}/{name}", data)
        text = json.dumps(asdict(commit), indent=1, sort_keys=True)
        if self._store.create_text(f"{folder}/{COMMIT}", text):
            return commit
        theirs = read_commit(self._store, self._collection, part)
        if theirs.files != commit.files:
            where = self._store.path(folder)
            raise CogError(f"{where}: another writer committed other bytes meanwhile: run `cog data verify`")
        return theirs

    def _encode(self, part: str) -> tuple[Commit, dict[str, bytes]]:
        start, stop = part_range(part)
        self._tar.close()
        shard = self._buffer.getvalue()
        self._locate(shard)
        own = {"part": part, "shard": f"{part_folder(self._collection, part)}/{FRAMES}"}
        assert self._spec is not None  # it holds an episode at least
        schema = PART_EPISODES if layout_of(self._spec) == 1 else PART_EPISODES_2
        rows = [
            {name: value for name, value in (row | own).items() if name in schema.names} for row in self._rows
        ]
        episodes = pa.Table.from_pylist(rows, schema=schema)
        ids = [row["episode_id"] for row in self._rows]
        steps_file = steps_parquet(ids, self._steps, PREDICATES if schema is PART_EPISODES else ())
        files = {FRAMES: shard, STEPS: steps_file, EPISODES: to_parquet(episodes)}
        steps = sum(row["steps"] for row in self._rows)
        commit = Commit(
            collection=self._collection,
            part=part,
            start=start,
            stop=stop,
            episodes=stop - start,
            steps=steps,
            frames=sum(row["observations"] for row in self._rows),
            bytes=sum(len(data) for data in files.values()),
            files={name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
                   for name, data in files.items()},
            made_with=self._made_with,
        )  # fmt: skip
        return commit, files

    def _locate(self, shard: bytes) -> None:
        with tarfile.open(fileobj=io.BytesIO(shard)) as tar:
            members = {member.name: (member.offset_data, member.size) for member in tar}
        for row in self._rows:
            key = row["episode_id"]
            row["steps_offset"], row["steps_size"] = members[f"{key}.{STEPS_MEMBER}"]
            for member in row["members"]:
                member["offset"], member["size"] = members[f"{key}.{member['extension']}"]
            for name in ("offset", "size", "crc32"):  # layout 1 has one member
                row[f"frames_{name}"] = row["members"][0][name] if "image_height" in row else None


# --- reading -------------------------------------------------------------------------------------------


def list_parts(store: Store, collection: str) -> list[str]:
    """Return the names of a collection's committed parts, sorted."""
    folders = store.list_folders_with(f"collections/{collection}", COMMIT)
    return [name for name in folders if is_part_name(name)]


def read_commit(store: Store, collection: str, part: str) -> Commit:
    """Read a part's ``COMMIT.json``.

    Raises:
        CogError: It is missing, not a commit, or of a newer version.
    """
    path = f"{part_folder(collection, part)}/{COMMIT}"
    try:
        return _checked(Commit(**known(Commit, read_json(store, path))))
    except (TypeError, ValueError) as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        said = f"{store.path(path)} is damaged: remove the folder and collect again"
        raise refusal(error, said) from None


def _checked(commit: Commit) -> Commit:
    """Refuse numbers that are none, and other files than a part has.

    Raises:
        ValueError: As it says.
    """
    numbers = {
        name: getattr(commit, name) for name in ("start", "stop", "episodes", "steps", "frames", "bytes")
    }
    for name, value in numbers.items():
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
            raise ValueError(f"{name} is {value!r}, must be a whole number from 0")
    if commit.start >= commit.stop:
        raise ValueError(f"[{commit.start}, {commit.stop}) is no range of episodes")
    if not isinstance(commit.files, dict) or commit.files.keys() != {FRAMES, STEPS, EPISODES}:
        raise ValueError(f"files are {commit.files!r}, must be {FRAMES}, {STEPS} and {EPISODES}")
    for name, said in commit.files.items():
        whole = isinstance(said, dict) and isinstance(said.get("size"), int)
        if not whole or not isinstance(said.get("sha256"), str):
            raise ValueError(f"{name} has {said!r}, must have a size and a sha256")
    if sum(said["size"] for said in commit.files.values()) != commit.bytes:
        raise ValueError(f"bytes is {commit.bytes}, must be the sum of the sizes")
    return commit
