"""Values of layers for the episodes of a mixture, as columns of their step arrays."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import pyarrow as pa

from cogdata.errors import CogError
from cogdata.features import EpisodeSpec, Feature, Per
from cogdata.storage.layers.commits import list_commits, read_commit, read_rows, read_table
from cogdata.storage.layers.heads import LayerInfo, read_layer
from cogdata.storage.layers.rows import EPISODES, LayerRow, encoded
from cogdata.storage.store import Store

CACHE_BYTES: Final = 256 << 20
"""Most memory for values of layers that were read and may be needed again."""

Key = tuple[str, str]  # episode_id, digest of the episode


@dataclass(frozen=True)
class LayerUse:
    """What a mixture takes of a layer.

    Attributes:
        version: Version of the layer.
        features: Names of the features, as the layer calls them.
        digest: sha256 (hex) of its values for the episodes of the mixture.
    """

    version: int
    features: tuple[str, ...]
    digest: str

    def to_data(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self) | {"features": list(self.features)}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> LayerUse:
        """Read what :meth:`to_data` returned.

        Raises:
            KeyError, TypeError: It is something else.
        """
        return cls(int(data["version"]), tuple(data["features"]), str(data["digest"]))


def with_layers(spec: EpisodeSpec, features: Iterable[Feature]) -> EpisodeSpec:
    """Return a declaration with features of layers: those per observation are observations."""
    kinds = list(features)
    return EpisodeSpec(
        (*spec.observations, *(one for one in kinds if one.per is Per.OBSERVATION)),
        spec.action,
        spec.predicates,
        (*spec.extras, *(one for one in kinds if one.per is not Per.OBSERVATION)),
        spec.reward,
        spec.rate_hz,
    )


def content_digest(digests: Mapping[str, str]) -> str:
    """Return the sha256 (hex) of values of a layer.

    Args:
        digests: Name of an episode → digest of its values.
    """
    return hashlib.sha256(json.dumps(sorted(digests.items())).encode()).hexdigest()


class LayerReader:
    """Reads what a mixture takes of one layer; safe for threads.

    Args:
        store: Where the layer lies.
        name: Name of the layer.
        use: What is taken of it.
        episodes: (episode_id, digest) of the episodes to be read.
        whole: Whether these are all episodes of the mixture, whose values must then be those of its head.

    Attributes:
        features: The features that are taken.

    Raises:
        CogError: There is no such layer, a file of it is damaged, or its values are not those of the mixture.
    """

    def __init__(
        self, store: Store, name: str, use: LayerUse, episodes: Iterable[Key], *, whole: bool
    ) -> None:
        self._store = store
        self._info: LayerInfo = read_layer(store, name, use.version)
        by_name = {one.name: one for one in self._info.features}
        if missing := sorted(set(use.features) - by_name.keys()):
            raise CogError(f"layer {self._info.ref} has no {', '.join(missing)}: freeze the mixture again")
        self.features = tuple(by_name[one] for one in use.features)
        self._commits: dict[Key, str] = {}
        self._digests: dict[Key, str] = {}
        self._index(set(episodes), use.digest if whole else None)
        self._cache: OrderedDict[str, dict[Key, LayerRow]] = OrderedDict()
        self._sizes: dict[str, int] = {}
        self._lock = threading.Lock()

    def _index(self, wanted: set[Key], content: str | None) -> None:
        for path in list_commits(self._store, self._info):
            table = read_table(self._store, read_commit(self._store, path), EPISODES)
            columns = (table[name].to_pylist() for name in ("episode_id", "episode_digest", "digest"))
            for episode_id, episode_digest, digest in zip(*columns, strict=True):
                key = episode_id, episode_digest
                if key in wanted and key not in self._commits:
                    self._commits[key], self._digests[key] = path, digest
        found = {episode_id: digest for (episode_id, _), digest in self._digests.items()}
        if wanted - self._commits.keys() or content not in (None, content_digest(found)):
            raise CogError(
                f"layer {self._info.ref} has other values than the mixture was frozen with: freeze it again, "
                f"or restore the layer"
            )

    def extend(self, batch: pa.RecordBatch, key: Key) -> pa.RecordBatch:
        """Return the step arrays of an episode with the features of the layer.

        Args:
            batch: From :func:`cogdata.storage.samples.read_steps`.
            key: Name and digest of the episode.

        Raises:
            CogError: A file of the layer is damaged, or a number was not derived.
        """
        row = self._row(key)
        extras = json.loads(batch.schema.metadata.get(b"extras", b"{}"))
        for feature in self.features:
            values = row.values[feature.name]
            if values is None and not feature.is_text:
                raise CogError(f"episode {key[0]} has no {feature.name} in layer {self._info.ref}")
            if feature.per is Per.EPISODE:
                extras[feature.name] = None if values is None else values[0]
                if values is not None and hasattr(values[0], "tolist"):
                    extras[feature.name] = values[0].tolist()
            else:
                batch = batch.append_column(feature.name, encoded(feature, row, batch.num_rows))
        metadata = {**batch.schema.metadata, b"extras": json.dumps(extras).encode()}
        return batch.replace_schema_metadata(metadata)

    def _row(self, key: Key) -> LayerRow:
        path = self._commits[key]
        with self._lock:
            if path not in self._cache:
                self._keep(path)
            self._cache.move_to_end(path)
            return self._cache[path][key]

    def _keep(self, path: str) -> None:
        """Read a commit, and let go of what was used longest ago."""
        commit = read_commit(self._store, path)
        rows: dict[Key, LayerRow] = {}
        try:
            for row, digest in read_rows(self._store, self._info, commit):
                if row.digest(self._info.features) != digest:
                    raise ValueError(f"{row.episode_id} has other values than its digest")
                rows[row.episode_id, row.episode_digest] = row
        except (ValueError, KeyError, pa.ArrowException) as error:
            if isinstance(error, CogError):
                raise
            raise CogError(f"{self._store.path(path)}: {error}: run `cog data verify`") from None
        self._cache[path] = rows
        self._sizes[path] = sum(
            values.nbytes for row in rows.values() for values in row.values.values() if values is not None
        )
        while len(self._cache) > 1 and sum(self._sizes.values()) > CACHE_BYTES:
            oldest, _ = self._cache.popitem(last=False)
            del self._sizes[oldest]
