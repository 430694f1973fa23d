"""Commits of layers: which episodes a version covers, and adding to them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import pyarrow as pa

from cogdata.errors import CogError
from cogdata.schema import SCHEMA_VERSION
from cogdata.storage.layers.heads import KEYS, LayerInfo, read_sealed, sealed
from cogdata.storage.layers.rows import EPISODES, STEPS, LayerRow, decoded, encode_rows
from cogdata.storage.parts import PART_SIZE
from cogdata.storage.store import Store
from cogdata.storage.versions import known, refusal

_COMMIT: Final = re.compile(r"commit-(\d{4,9})\.json")
_PART: Final = re.compile(r"part-\d{5,}")
_DATA: Final = re.compile(rf"({EPISODES}|{STEPS})-([0-9a-f]{{16}})\.parquet")


@dataclass(frozen=True)
class LayerCommit:
    """A commit of a part of a layer: its values for some episodes of a range of 100.

    Attributes:
        layer: Name of the layer.
        version: Its version.
        collection: Whose episodes.
        part: Folder name: the range of episodes.
        number: Of the commits of the range, from 0.
        episodes: Episodes that it holds.
        rows: Observations of them.
        files: name → {"size", "sha256"}.
        made_with: Version of cogdata and name of the machine that derived it.
    """

    layer: str
    version: int
    collection: str
    part: str
    number: int
    episodes: int
    rows: int
    files: dict[str, dict[str, Any]]
    made_with: dict[str, str]
    schema_version: int = SCHEMA_VERSION

    @property
    def folder(self) -> str:
        """Path of its folder within the store."""
        return part_folder(f"layers/{self.layer}/v{self.version}", self.collection, self.part)

    @property
    def path(self) -> str:
        """Path within the store."""
        return f"{self.folder}/{_commit_name(self.number)}"

    def file(self, kind: str) -> str | None:
        """Return the path of its file of episodes or of steps; None: it has none.

        Args:
            kind: :data:`EPISODES` or :data:`STEPS`.
        """
        names = [name for name in self.files if name.startswith(f"{kind}-")]
        return f"{self.folder}/{names[0]}" if names else None


def part_name(episode_index: int) -> str:
    """Return the folder of an episode's values: that of 100 episodes, as the whole part has it."""
    return f"part-{episode_index // PART_SIZE:05d}"


def part_folder(layer: str, collection: str, part: str) -> str:
    """Return the path of a part of a layer within the store.

    Args:
        layer: Folder of the version.
        collection: Whose episodes.
        part: From :func:`part_name`.
    """
    return f"{layer}/{collection}/{part}"


def _commit_name(number: int) -> str:
    return f"commit-{number:04d}.json"


# --- commits -------------------------------------------------------------------------------------------


def list_commits(store: Store, info: LayerInfo) -> list[str]:
    """Return the paths of all commits of a version, in their order."""
    found = (path.split("/") for path in store.list_below(info.folder))
    keys = sorted(
        (words[0], words[1], int(match[1]))
        for words in found
        if len(words) == 3 and _PART.fullmatch(words[1]) and (match := _COMMIT.fullmatch(words[2]))
    )
    return [f"{info.folder}/{collection}/{part}/{_commit_name(number)}" for collection, part, number in keys]


def read_commit(store: Store, path: str) -> LayerCommit:
    """Read a commit.

    Raises:
        CogError: It is missing, no commit, or of a newer version.
    """
    try:
        commit = LayerCommit(**known(LayerCommit, read_sealed(store, path)))
        if commit.path != path:
            raise ValueError(f"it is {commit.path}")
        if not commit.files or any(not _names(name, said) for name, said in commit.files.items()):
            raise ValueError(f"files are {commit.files!r}")
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        said = f"{store.path(path)} is damaged: remove it and run the same `cog derive` again"
        raise refusal(error, said) from None
    return commit


def _names(name: str, said: Mapping[str, Any]) -> bool:
    """Whether an entry of a commit names a file as such files are called."""
    match = _DATA.fullmatch(name)
    return match is not None and said["sha256"].startswith(match[2]) and isinstance(said["size"], int)


def covered(store: Store, info: LayerInfo, commits: Sequence[str] | None = None) -> set[tuple[str, str]]:
    """Return the (episode_id, episode_digest) that a version holds.

    Args:
        store: Where from.
        info: Head of the version.
        commits: Paths of the commits to read; None: all.

    Raises:
        CogError: A commit or a file is missing or damaged.
    """
    found: set[tuple[str, str]] = set()
    for path in list_commits(store, info) if commits is None else commits:
        table = read_table(store, read_commit(store, path), EPISODES).select(["episode_id", "episode_digest"])
        found |= set(zip(*(column.to_pylist() for column in table.columns), strict=True))
    return found


def read_table(store: Store, commit: LayerCommit, kind: str) -> pa.Table:
    """Read a file of a commit.

    Args:
        store: Where from.
        commit: The commit.
        kind: :data:`EPISODES` or :data:`STEPS`.

    Raises:
        CogError: It is missing or damaged.
    """
    path = commit.file(kind)
    if path is None:
        raise CogError(f"{store.path(commit.path)} names no file of {kind}: run `cog data verify`")
    try:
        return store.read_table(path)
    except (pa.ArrowException, OSError) as error:
        said = f"{store.path(path)} is damaged: run `cog data verify`"
        raise refusal(error, said) from None


def read_rows(store: Store, info: LayerInfo, commit: LayerCommit) -> Iterator[tuple[LayerRow, str]]:
    """Read what a commit holds: the values of each episode, and the digest that they had when derived.

    Raises:
        CogError: A file is missing or damaged.
        ValueError: The files do not fit together.
    """
    episodes = read_table(store, commit, EPISODES)
    steps = read_table(store, commit, STEPS) if info.per_step else None
    first = 0
    for number, key in enumerate(episodes.select(list(KEYS)).to_pylist()):
        row = LayerRow(
            key["episode_id"], key["episode_digest"], key["observations"], key["actions"], values={}
        )
        values = {
            one.name: decoded(one, episodes.column(one.name).slice(number, 1), 1) for one in info.per_episode
        }
        if steps is not None:
            mine = steps.slice(first, row.observations)
            if mine["episode_id"].to_pylist() != [row.episode_id] * row.observations:
                raise ValueError(f"{commit.file(STEPS)} has other rows than {row.episode_id} needs")
            values |= {
                one.name: decoded(one, mine.column(one.name), row.rows_of(one)) for one in info.per_step
            }
        first += row.observations
        yield replace(row, values=values), key["digest"]
    if steps is not None and len(steps) != first:
        raise ValueError(f"{commit.file(STEPS)} has {len(steps)} rows, must have {first}")


class LayerPart:
    """Commits the values of a layer for episodes of one range of 100.

    Args:
        store: Where to.
        info: Head of the layer.
        collection: Whose episodes.
        part: From :func:`part_name`.
        made_with: What derives them, for the commit.
    """

    def __init__(
        self, store: Store, info: LayerInfo, collection: str, part: str, made_with: dict[str, str]
    ) -> None:
        self._store = store
        self._info = info
        self._collection = collection
        self._part = part
        self._made_with = made_with
        self._folder = part_folder(info.folder, collection, part)

    def numbers(self) -> list[int]:
        """Return the numbers of the commits that are there, ascending."""
        matches = (_COMMIT.fullmatch(name) for name in self._store.list_files(self._folder))
        return sorted(int(match[1]) for match in matches if match)

    def covered(self, numbers: Sequence[int]) -> set[tuple[str, str]]:
        """Return the (episode_id, episode_digest) that commits of these numbers hold.

        Raises:
            CogError: One is damaged.
        """
        paths = [f"{self._folder}/{_commit_name(number)}" for number in numbers]
        return covered(self._store, self._info, paths)

    def commit(self, rows: Sequence[LayerRow]) -> LayerCommit | None:
        """Write the files of the rows that no commit holds yet, then the commit.

        Args:
            rows: Each episode once.

        Returns:
            The commit; None if others have committed all of the rows meanwhile.

        Raises:
            CogError: A write failed, and nothing of the rows exists; or another commit is damaged.
        """
        while True:
            numbers = self.numbers()
            have = self.covered(numbers)
            left = [row for row in rows if (row.episode_id, row.episode_digest) not in have]
            if not left:
                return None
            files = encode_rows(self._info, left)
            for name, data in files.items():
                self._store.write_bytes(f"{self._folder}/{name}", data)
            commit = self._describe(numbers[-1] + 1 if numbers else 0, left, files)
            if self._store.create_text(commit.path, sealed(asdict(commit))):
                return commit

    def _describe(self, number: int, rows: Sequence[LayerRow], files: Mapping[str, bytes]) -> LayerCommit:
        return LayerCommit(
            layer=self._info.name,
            version=self._info.version,
            collection=self._collection,
            part=self._part,
            number=number,
            episodes=len(rows),
            rows=sum(row.observations for row in rows),
            files={
                name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
                for name, data in files.items()
            },
            made_with=self._made_with,
        )
