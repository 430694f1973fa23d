"""The episodes of a manifest as rows of a pool: which transitions take part, and their values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cogdata.episode import Float32
from cogdata.errors import CogError
from cogdata.features import EpisodeSpec, Feature, Per
from cogdata.storage.layers.reading import LayerReader, with_layers
from cogdata.storage.manifest import Manifest
from cogdata.storage.samples import Sample, column_values, declared_in, read_member, read_steps
from cogdata.storage.selection import resized
from cogdata.storage.store import Store
from cogdata.streaming.options import StreamOptions
from cogdata.streaming.plan import Int64
from cogdata.streaming.pool import EMBODIMENT, Pool, length_of
from cogdata.streaming.windows import Runs

NO_TEXT: Final = -1
"""Index of a text that is null."""

NO_EMBODIMENT: Final = -1
"""Index of an episode without an embodiment in a mixture where others have one."""


class EpisodeReader:
    """Reads episodes of a manifest into pools.

    Args:
        store: Store that holds the shards.
        manifest: Frozen mixture to read.
        options: Settings of the stream.

    Attributes:
        rows: Rows of the manifest's table of episodes.
        lengths: N of each episode, int64 (E,).
        chosen: For each episode, the t of its transitions that the mixture chose, int64 (n,).
        times: As ``chosen``, without those whose successor is unknown: what can be drawn.
        left_out: Number of transitions that were chosen and whose successor is unknown.
        weights: Relative weight of each episode's transitions, float64 (E,).
        embodiments: Names of the embodiments, sorted.
        marks: Names of the marks that a pool holds of each row.
        padded: Names of what is padded.
        texts: Feature → its texts, sorted; empty before :meth:`list_texts`.

    Raises:
        CogError: A column is not declared, or a window is of a feature that is not delivered.
    """

    def __init__(self, store: Store, manifest: Manifest, options: StreamOptions) -> None:
        self._store = store
        self.spec = manifest.info.spec
        self._selection = manifest.info.selection
        self._plain = manifest.info.declared is None
        self.sources = manifest.sources
        self.features = options.features(self.spec)
        named = {one.name for one in self.features} | {self._selection.relative_to}
        self._layers = _layers_of(store, manifest, named)
        self.rows = manifest.episodes.to_pylist()
        self.lengths = observation_counts(manifest)
        self.chosen = _chosen_times(manifest, self.rows)
        self.times = [
            times[times < length - 1] if length <= row["steps"] else times
            for times, length, row in zip(self.chosen, self.lengths.tolist(), self.rows, strict=True)
        ]
        self.left_out = sum(map(len, self.chosen)) - sum(map(len, self.times))
        self.weights = np.array([1.0 if row["weight"] is None else row["weight"] for row in self.rows])
        self.embodiments = embodiments_of(manifest)
        self.marks = marks_of(manifest, self.features)
        self.padded = padded_of(manifest, self.features)
        self.texts: dict[str, tuple[str, ...]] = {}
        self._numbers: dict[str, dict[str, int]] = {}
        self._rewards = _relabelled(manifest, self.rows)
        self._unknown_ends: dict[int, int] = {}

    def empty_pool(self, count: int) -> Pool:
        """Allocate a pool of ``count`` observations."""
        return Pool.empty(count, self.features, self.spec.action, self.marks)

    @property
    def unknown_ends(self) -> int:
        """Number of transitions read so far of which it is unknown whether they ended in a terminal state."""
        return sum(tuple(self._unknown_ends.values()))  # threads may be reading

    def runs(self, row: int) -> Runs:
        """Return the runs that an episode's ``times`` are part of."""
        whole = Runs.of(self.chosen[row], int(self.lengths[row]))
        return whole[np.isin(self.chosen[row], self.times[row])]

    # --- texts -----------------------------------------------------------------------------------------

    def list_texts(self, executor: Executor) -> None:
        """List the texts of all episodes, if a text is among the features; nothing is read twice.

        Args:
            executor: Threads that read.

        Raises:
            CogError: A shard is missing, truncated or damaged.
        """
        named = [one for one in self.features if one.is_text]
        if not named or self.texts:
            return
        found: dict[str, set[str]] = {one.name: set() for one in named}
        for values in executor.map(lambda row: self._texts_of(row, named), range(len(self.rows))):
            for name, texts in values.items():
                found[name] |= texts
        self._numbers = {
            name: {text: number for number, text in enumerate(sorted(texts))} for name, texts in found.items()
        }
        self.texts = {name: tuple(numbers) for name, numbers in self._numbers.items()}

    def _texts_of(self, row: int, named: Sequence[Feature]) -> dict[str, set[str]]:
        batch = self._steps(row)
        own = self._declared(batch)
        stored = {one.name: self._stored(own, one.name, self.rows[row]) for one in named}
        return {
            name: {text for text in _texts(batch, one) if text is not None} for name, one in stored.items()
        }

    # --- episodes --------------------------------------------------------------------------------------

    def _steps(self, row: int) -> pa.RecordBatch:
        """Read the step arrays of an episode, with what layers add to them."""
        entry = self.rows[row]
        batch = read_steps(self._store, Sample.of(entry))
        for layer in self._layers:
            batch = layer.extend(batch, (entry["episode_id"], entry["digest"]))
        return batch

    def _declared(self, batch: pa.RecordBatch) -> EpisodeSpec:
        """Return the declaration of an episode, with what layers add to it."""
        own = self.spec if self._plain else declared_in(batch)
        derived = [one for layer in self._layers for one in layer.features]
        return with_layers(own, derived) if derived else own

    def read(self, pool: Pool, row: int, offset: int) -> None:
        """Read an episode into a pool.

        Args:
            pool: Where to.
            row: Row of the manifest.
            offset: Row of the pool for the first observation.

        Raises:
            CogError: A shard is missing, truncated or damaged, the episode is not as its mixture says, or a
                reward is unknown.
        """
        entry = self.rows[row]
        sample = Sample.of(entry)
        batch = self._steps(row)
        length = int(self.lengths[row])
        if batch.num_rows != length:
            raise CogError(
                f"{self._store.path(sample.steps.file)}: episode {entry['episode_id']} has {batch.num_rows} "
                f"observations, its mixture says {length}: run `cog data verify`"
            )
        rows = slice(offset, offset + length)
        own = self._declared(batch)
        for feature in self.features:
            stored = self._stored(own, feature.name, entry)
            if stored.is_member:
                self._fill_images(pool[feature.name][rows], feature, sample, stored)
            else:
                self._fill(pool, feature, batch, row, rows, stored)
        self._fill(pool, self.spec.action, batch, row, rows, own.action)
        if self._selection.relative_to:
            self._make_relative(pool["action"][rows], batch, own, entry)
        pool["source"][rows] = self.sources.index(entry["source"])
        if EMBODIMENT in self.marks:
            pool[EMBODIMENT][rows] = self._embodiment(entry)
        self._fill_reward(pool, batch, row, offset)
        self._fill_terminated(pool, batch, row, rows)

    def _stored(self, own: EpisodeSpec, name: str, entry: Mapping[str, Any]) -> Feature:
        """Find what a feature of the mixture is in an episode."""
        if (found := self._selection.origin(name, own)) is None:
            names = " or ".join(self._selection.origins(name))
            raise CogError(
                f"episode {entry['episode_id']} has no {names}, which its mixture declares: freeze it again"
            )
        return found

    def _make_relative(
        self, action: NDArray[Any], batch: pa.RecordBatch, own: EpisodeSpec, entry: Mapping[str, Any]
    ) -> None:
        """Subtract from the actions of an episode the observation that each of them leaves."""
        stored = self._stored(own, self._selection.relative_to, entry)
        base = _values(batch, stored)
        if base.shape[1:] != own.action.shape:
            raise CogError(
                f"episode {entry['episode_id']} has {stored.name} of shape {base.shape[1:]} and actions of "
                f"{own.action.shape}, its mixture subtracts one from the other: freeze it again"
            )
        held = action[:, : base.shape[1]] if base.ndim == 2 else action  # the rest is padding
        held[...] = held.astype(np.float64) - base

    def _fill_images(self, out: NDArray[Any], feature: Feature, sample: Sample, stored: Feature) -> None:
        """Read the images of a camera, brought to the size that the mixture says."""
        if stored.shape == feature.shape:
            read_member(self._store, sample, stored, out)
            return
        images = np.empty((len(out), *stored.shape), stored.numpy_dtype)
        read_member(self._store, sample, stored, images)
        out[:] = resized(images, (feature.shape[0], feature.shape[1]))

    def _fill(
        self, pool: Pool, feature: Feature, batch: pa.RecordBatch, row: int, rows: slice, stored: Feature
    ) -> None:
        """Read the rows of a feature that has no member of its own."""
        if stored.per is not Per.EPISODE and stored.name not in batch.schema.names:
            raise CogError(
                f"episode {self.rows[row]['episode_id']} has no {stored.name}, which its mixture declares: "
                f"freeze it again"
            )
        out = pool[feature.name][rows]
        if feature.is_text:
            numbers = self._numbers[feature.name]
            out[:] = [NO_TEXT if text is None else numbers[text] for text in _texts(batch, stored)]
            return
        values = _values(batch, stored)
        if values.shape[1:] == feature.shape:
            out[:] = values
            length = feature.shape[0] if feature.shape else 1
        elif feature.name in self.padded and values.ndim == 2 and values.shape[1] < feature.shape[0]:
            length = values.shape[1]
            out[:, :length], out[:, length:] = values, 0
        else:
            raise CogError(
                f"episode {self.rows[row]['episode_id']} has {feature.name} of shape {values.shape[1:]}, its "
                f"mixture says {feature.shape}: freeze it again"
            )
        if feature.name in self.padded:
            pool[length_of(feature.name)][rows] = length

    def _fill_reward(self, pool: Pool, batch: pa.RecordBatch, row: int, offset: int) -> None:
        column = batch.column("reward")
        rewards = pool["reward"][offset : offset + batch.num_rows]
        rewards[:] = column.fill_null(0).to_numpy(zero_copy_only=False)
        times, given = self._rewards.get(row, (None, None))
        if column.null_count > batch.num_rows - self.rows[row]["steps"]:
            unknown = np.array(column.is_null())
            if times is not None:
                unknown[times] = False
            if (at := self.chosen[row][unknown[self.chosen[row]]]).size:
                raise CogError(
                    f"episode {self.rows[row]['episode_id']} has no reward at t = {at[0]}: relabel: "
                    f"select …, 0.0 as reward"
                )
        if times is not None:
            rewards[times] = given

    def _fill_terminated(self, pool: Pool, batch: pa.RecordBatch, row: int, rows: slice) -> None:
        column = batch.column("terminated")
        pool["terminated"][rows] = column.fill_null(False).to_numpy(zero_copy_only=False)
        if column.null_count > batch.num_rows - self.rows[row]["steps"]:
            self._unknown_ends[row] = int(np.array(column.is_null())[self.times[row]].sum())

    def _embodiment(self, entry: Mapping[str, Any]) -> int:
        name = entry.get("embodiment")
        return NO_EMBODIMENT if name is None else self.embodiments.index(name)


def _layers_of(store: Store, manifest: Manifest, names: set[str]) -> list[LayerReader]:
    """Open the layers of which a feature is read."""
    if not manifest.info.layers:
        return []
    origins = {old for name in names for old in manifest.info.selection.origins(name)}
    columns = (manifest.episodes[name].to_pylist() for name in ("episode_id", "digest"))
    keys = list(zip(*columns, strict=True))
    whole = len(keys) == sum(count.episodes for count in manifest.info.counts.values())
    return [
        LayerReader(store, name, use, keys, whole=whole)
        for name, use in sorted(manifest.info.layers.items())
        if origins & set(use.features)
    ]


# --- of the manifest alone -----------------------------------------------------------------------------


def observation_counts(manifest: Manifest) -> Int64:
    """Return N, the number of observations, of each episode of a manifest, int64 (E,)."""
    steps: Int64 = manifest.episodes.column("steps").to_numpy().astype(np.int64)
    if "observations" not in manifest.episodes.column_names:
        return steps + 1
    known = manifest.episodes.column("observations").to_pylist()
    counts = [n + 1 if count is None else count for n, count in zip(steps, known, strict=True)]
    return np.array(counts, np.int64)


def embodiments_of(manifest: Manifest) -> tuple[str, ...]:
    """Return the names of the embodiments of a manifest, sorted."""
    if "embodiment" not in manifest.episodes.column_names:
        return ()
    found = manifest.episodes.column("embodiment").unique().to_pylist()
    return tuple(sorted(name for name in found if name is not None))


def padded_of(manifest: Manifest, features: Sequence[Feature]) -> tuple[str, ...]:
    """Return the names of what is padded: features that are delivered, and "action"."""
    pad = manifest.info.selection.pad
    return tuple(one.name for one in (*features, manifest.info.spec.action) if one.name in pad)


def marks_of(manifest: Manifest, features: Sequence[Feature]) -> tuple[str, ...]:
    """Return the names of the marks that the pool of a mixture holds of each row."""
    padded = padded_of(manifest, features)
    embodied = (EMBODIMENT,) if padded or embodiments_of(manifest) else ()
    return (*embodied, *map(length_of, padded))


def _chosen_times(manifest: Manifest, rows: list[dict[str, Any]]) -> list[Int64]:
    """For each episode, the t of its transitions that belong to the mixture."""
    if manifest.rewards is not None:
        chosen = {row["episode_id"]: row["t"] for row in manifest.rewards.to_pylist()}
        return [np.array(chosen[row["episode_id"]], np.int64) for row in rows]
    return [np.arange(row["t_start"], row["t_end"], dtype=np.int64) for row in rows]


def _relabelled(manifest: Manifest, rows: list[dict[str, Any]]) -> dict[int, tuple[Int64, Float32]]:
    """For each relabelled episode, the t and the rewards that replace the collected ones."""
    if manifest.rewards is None:
        constant = {i: row["reward"] for i, row in enumerate(rows) if row["reward"] is not None}
        return {
            i: (np.arange(rows[i]["steps"], dtype=np.int64), np.full(rows[i]["steps"], reward, np.float32))
            for i, reward in constant.items()
        }
    index = {row["episode_id"]: i for i, row in enumerate(rows)}
    relabelled = {}
    for row in manifest.rewards.to_pylist():
        given = [(t, reward) for t, reward in zip(row["t"], row["reward"], strict=True) if reward is not None]
        if given:
            times, rewards = zip(*given, strict=True)
            relabelled[index[row["episode_id"]]] = (np.array(times, np.int64), np.array(rewards, np.float32))
    return relabelled


# --- of a steps batch ----------------------------------------------------------------------------------


def _per_episode(batch: pa.RecordBatch, feature: Feature) -> Any:  # noqa: ANN401
    """The one value of an annotation per episode."""
    return json.loads(batch.schema.metadata.get(b"extras", b"{}")).get(feature.name)


def _texts(batch: pa.RecordBatch, feature: Feature) -> list[str | None]:
    """Text of each row."""
    if feature.per is Per.EPISODE:
        return [_per_episode(batch, feature)] * batch.num_rows
    texts: list[str | None] = batch.column(feature.name).to_pylist()
    return texts


def _values(batch: pa.RecordBatch, feature: Feature) -> NDArray[Any]:
    """Rows of a feature of numbers, of whatever length its vectors have here."""
    if feature.per is Per.EPISODE:
        value = np.asarray(_per_episode(batch, feature), feature.numpy_dtype)
        return np.broadcast_to(value, (batch.num_rows, *value.shape))
    if len(feature.shape) == 1:
        kind = batch.schema.field(feature.name).type
        if pa.types.is_fixed_size_list(kind) and kind.list_size != feature.size:
            return column_values(batch, Feature(feature.name, feature.dtype, (kind.list_size,)))
    return column_values(batch, feature)
