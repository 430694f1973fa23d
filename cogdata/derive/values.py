"""What a function gives an episode, checked against what it declares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cogdata.answers import shown
from cogdata.episode import Episode
from cogdata.features import Feature, Per
from cogdata.storage.layers.rows import LayerRow


def checked_row(
    features: Sequence[Feature], given: Mapping[str, Any], episode: Episode, digest: str
) -> LayerRow:
    """Return what a function gave for an episode.

    A feature that is left out or None is null. Numbers may be of another type that holds the same: Python's
    own, or float64 for float32.

    Args:
        features: What the function declares.
        given: Feature → value: (N, *shape), (T, *shape), or of a feature per episode its one value.
        episode: The episode.
        digest: Its digest.

    Raises:
        ValueError: A value is not what was declared, or of a feature that was not.
    """
    if more := sorted(map(str, given.keys() - {feature.name for feature in features})):
        declared = ", ".join(feature.name for feature in features)
        raise ValueError(f"{', '.join(more)} is not declared; declared: {declared}")
    values = {
        feature.name: _checked(feature, given.get(feature.name), episode.rows_of(feature))
        for feature in features
    }
    return LayerRow(episode.meta.episode_id, digest, episode.length, episode.steps, values)


def _checked(feature: Feature, given: object, rows: int) -> NDArray[Any] | None:
    if given is None:
        return None
    values = _text(feature, given, rows) if feature.is_text else _numbers(feature, given)
    if feature.per is Per.EPISODE and values.shape == feature.shape:
        values = values.reshape(1, *feature.shape)
    feature.check(values, rows)
    if feature.is_text and all(value is None for value in values):
        return None
    return values


def _text(feature: Feature, given: object, rows: int) -> NDArray[Any]:
    if isinstance(given, str):
        given = [given]
    if not isinstance(given, Sequence | np.ndarray) or len(given) != rows:
        raise ValueError(f"{feature.name} is {shown(given)}, must be {rows} texts" if rows > 1 else
                         f"{feature.name} is {shown(given)}, must be a text")  # fmt: skip
    values = np.empty(rows, object)
    for row, value in enumerate(given):
        values[row] = str(value) if isinstance(value, str) else value
        if isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):
            raise ValueError(f"{feature.name} is {shown(value)} at row {row}, which is no Unicode text")
    return values


def _numbers(feature: Feature, given: object) -> NDArray[Any]:
    """Turn numbers into the type that is declared, if it holds them.

    Raises:
        ValueError: It does not.
    """
    try:
        found = np.asarray(given)
    except Exception:  # an array of another library, such as one on an accelerator
        raise ValueError(f"{feature.name} is {shown(given)}, must be an array of NumPy") from None
    kind = feature.numpy_dtype
    if found.dtype == kind:
        return np.array(found)
    if (
        found.dtype.kind not in "iuf"
        or kind.kind not in "iuf"
        or (found.dtype.kind == "f" and kind.kind != "f")
    ):
        raise ValueError(f"{feature.name} is {found.dtype}, must be {kind}")
    with np.errstate(over="ignore"):
        values = found.astype(kind)
    if kind.kind in "iu" and not np.array_equal(values.astype(object), found.astype(object)):
        raise ValueError(f"{feature.name} has a number that {kind} does not hold")
    if kind.kind == "f" and found.dtype.kind == "f" and (np.isfinite(found) & ~np.isfinite(values)).any():
        raise ValueError(f"{feature.name} has a number that {kind} does not hold")
    return values
