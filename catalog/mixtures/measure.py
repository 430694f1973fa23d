"""Statistics of vectors that arrive in batches, in one pass and in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cogdata.errors import CogError
from cogdata.features import Feature
from cogdata.storage.statistics import QUANTILES, Numbers, Stats

SAMPLE_ROWS: Final = 32_768
"""Most transitions that quantiles are of."""

_Float64 = NDArray[np.float64]
_Keys = NDArray[np.uint64]


def row_keys(number: NDArray[np.int32], t: NDArray[np.int32]) -> _Keys:
    """Return an evenly spread number for each transition that depends on nothing else.

    Those with the smallest numbers are an even sample, whatever order they arrive in (SplitMix64).

    Args:
        number: Row of its episode, (N,).
        t: Its step, (N,).
    """
    keys = (number.astype(np.uint64) << np.uint64(32)) + t.astype(np.uint64)
    keys += np.uint64(0x9E3779B97F4A7C15)
    keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return keys ^ (keys >> np.uint64(31))


def entries(name: str, lists: pa.Array, size: int) -> NDArray[Any]:
    """Return the numbers of a column of lists, (N, size); NaN where one is null.

    Raises:
        CogError: A list is of another length, or missing.
    """
    numbers: NDArray[Any] = lists.flatten().to_numpy(zero_copy_only=False)
    if lists.null_count or len(numbers) != len(lists) * size:
        raise CogError(f"{name} of some steps has not {size} numbers, as is declared: run `cog data verify`")
    return numbers.reshape(len(lists), size)


class Measure:
    """Statistics of one feature.

    Sums are of differences from the first vector, so numbers that never change deviate by exactly 0.

    Args:
        size: Entries of a vector.
    """

    def __init__(self, size: int) -> None:
        self._first = np.full(size, np.nan)
        self._count = np.zeros(size, np.int64)
        self._sum = np.zeros(size)
        self._squares = np.zeros(size)
        self._least = np.full(size, np.inf)
        self._most = np.full(size, -np.inf)
        self._keys: list[_Keys] = []
        self._kept: list[NDArray[Any]] = []
        self._beyond: np.uint64 | None = None

    def add(self, values: NDArray[Any], keys: _Keys) -> None:
        """Count some vectors.

        Args:
            values: (N, size); NaN: there is no such entry.
            keys: Of :func:`row_keys`, (N,).
        """
        if not values.size:
            return
        self._keep(values, keys)
        shifted = values.astype(np.float64)
        np.fmin(self._least, np.fmin.reduce(shifted, axis=0), out=self._least)
        np.fmax(self._most, np.fmax.reduce(shifted, axis=0), out=self._most)
        known = ~np.isnan(shifted)
        begun = np.isnan(self._first)
        if begun.any():
            found = np.take_along_axis(shifted, known.argmax(axis=0)[None], axis=0)[0]
            self._first[begun] = found[begun]
        shifted -= self._first
        shifted[~known] = 0
        self._count += known.sum(axis=0)
        self._sum += shifted.sum(axis=0)
        self._squares += np.einsum("ij,ij->j", shifted, shifted)

    def _keep(self, values: NDArray[Any], keys: _Keys) -> None:
        """Keep the vectors with the smallest keys."""
        if self._beyond is not None:
            chosen = keys < self._beyond
            values, keys = values[chosen], keys[chosen]
        self._keys.append(keys)
        self._kept.append(values.copy())
        if sum(map(len, self._keys)) >= 2 * SAMPLE_ROWS:
            self._cut()

    def _cut(self) -> None:
        keys, kept = np.concatenate(self._keys), np.concatenate(self._kept)
        if len(keys) > SAMPLE_ROWS:
            chosen = np.argpartition(keys, SAMPLE_ROWS)
            self._beyond = keys[chosen[SAMPLE_ROWS]]
            keys, kept = keys[chosen[:SAMPLE_ROWS]], kept[chosen[:SAMPLE_ROWS]]
        self._keys, self._kept = [keys], [kept]

    # --- results -----------------------------------------------------------------------------------------

    def mean(self) -> list[float]:
        """Return the mean of each entry."""
        return self._listed(self._first + self._sum / np.maximum(self._count, 1))

    def deviation(self) -> list[float]:
        """Return the population standard deviation of each entry."""
        count = np.maximum(self._count, 1)
        variance = self._squares / count - (self._sum / count) ** 2
        return self._listed(np.sqrt(np.maximum(variance, 0)))

    def least(self) -> list[float]:
        """Return the smallest number of each entry."""
        return self._listed(self._least)

    def most(self) -> list[float]:
        """Return the largest number of each entry."""
        return self._listed(self._most)

    def quantiles(self) -> dict[str, list[float]]:
        """Return each of :data:`QUANTILES` of each entry."""
        if not self._kept:
            return {name: [] for name in QUANTILES}
        self._cut()
        sample = self._kept[0].astype(np.float64)
        sample[:, self._count == 0] = 0
        take: Callable[..., _Float64] = np.nanquantile if np.isnan(sample).any() else np.quantile
        rows = take(sample, list(QUANTILES.values()), axis=0)
        return {name: self._listed(row) for name, row in zip(QUANTILES, rows, strict=True)}

    def _listed(self, values: _Float64) -> list[float]:
        return [float(value) for value in np.where(self._count > 0, values, 0.0)]


class Measures:
    """Statistics of several features, of all transitions and of each embodiment.

    Args:
        features: What is measured, the action among it.
        embodiments: Names of the embodiments; empty: none are told apart.
        relative_to: Column of lists that is subtracted from the action first; "": none is.
    """

    def __init__(
        self, features: Sequence[Feature], embodiments: Sequence[str] = (), relative_to: str = ""
    ) -> None:
        self._features = features
        self._names = embodiments
        self._relative_to = relative_to
        self._all = self._none_yet()
        self._apart = [self._none_yet() for _ in embodiments]
        self._rows = np.zeros(len(embodiments) + 1, np.int64)

    def _none_yet(self) -> dict[str, Measure]:
        return {one.name: Measure(one.size) for one in self._features}

    def add(
        self, columns: Mapping[str, pa.Array], keys: _Keys, embodiment: NDArray[np.int32] | None = None
    ) -> None:
        """Count some transitions.

        Args:
            columns: Feature → a list of numbers for each, (N,).
            keys: Of :func:`row_keys`, (N,).
            embodiment: Index of the embodiment of each, -1: none, (N,).
        """
        self._rows[-1] += len(keys)
        for one in self._features:
            values = self._values(one, columns)
            self._all[one.name].add(values, keys)
            if embodiment is None:
                continue
            for index, apart in enumerate(self._apart):
                if (chosen := embodiment == index).any():
                    apart[one.name].add(values[chosen], keys[chosen])
        if embodiment is not None:
            self._rows[:-1] += np.bincount(embodiment[embodiment >= 0], minlength=len(self._names))

    def _values(self, feature: Feature, columns: Mapping[str, pa.Array]) -> NDArray[Any]:
        """The numbers of a feature, (N, size); of a transformed action as batches deliver them."""
        values = entries(feature.name, columns[feature.name], feature.size)
        if feature.name != "action" or not self._relative_to:
            return values
        base = entries(self._relative_to, columns[self._relative_to], feature.size)
        difference: NDArray[Any] = (values.astype(np.float64) - base).astype(feature.numpy_dtype)
        return difference

    def stats(self) -> Stats:
        """Return what was measured."""
        apart = {
            name: _stats(measured, int(rows))
            for name, measured, rows in zip(self._names, self._apart, self._rows[:-1], strict=True)
        }
        return _stats(self._all, int(self._rows[-1]), apart)


def _stats(measured: dict[str, Measure], rows: int, apart: dict[str, Stats] | None = None) -> Stats:
    each = {name: one.quantiles() for name, one in measured.items()}
    quantiles: dict[str, Numbers] = {
        quantile: {name: found[quantile] for name, found in each.items()} for quantile in QUANTILES
    }
    return Stats(
        mean={name: one.mean() for name, one in measured.items()},
        std={name: one.deviation() for name, one in measured.items()},
        min={name: one.least() for name, one in measured.items()},
        max={name: one.most() for name, one in measured.items()},
        quantiles=quantiles,
        transitions=rows,
        embodiments=apart or {},
    )
