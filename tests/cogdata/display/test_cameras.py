"""What is drawn of an episode: cameras of any kind side by side, a chart where there is none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cogdata.display.cameras import as_rgb, pictures, shown_features
from cogdata.display.captions import episode_sheet
from cogdata.episode import Episode, EpisodeMeta
from cogdata.errors import CogError
from cogdata.features import EpisodeSpec, Feature, Per

FRONT = Feature("front", "uint8", (48, 96, 3), codec="zst")
DEPTH = Feature("depth", "uint16", (24, 32), codec="zst")
JOINTS = Feature("joints_rad", "float64", (2,))
ACTION = Feature("action", "int64", (), Per.TRANSITION, low=(0.0,), high=(1.0,))


def _episode(*features: Feature, rows: int = 4) -> Episode:
    observations: dict[str, Any] = {}
    for feature in features:
        ramp = np.arange(rows * feature.size).reshape(rows, *feature.shape)
        observations[feature.name] = ramp.astype(feature.numpy_dtype)
    return Episode(
        EpisodeMeta("demo", 0, "lab:Arm", "replay", {}, 0.0, 0, None, None),
        EpisodeSpec(features, ACTION),
        observations,
        action=np.zeros(3, np.int64),
        reward=None,
        terminated=None,
        truncated=None,
        predicates={},
        phase=("",) * 3,
    )


def test_cameras_stand_side_by_side() -> None:
    """96 px and 32 px of 96 wanted: factors 1 and 3, 2 px between them, heights 48 and 72."""
    episode = _episode(FRONT, DEPTH, JOINTS)
    drawn = pictures(episode, (), 96, None)
    assert drawn.shape == (4, 72, 96 + 2 + 96, 3)
    np.testing.assert_array_equal(drawn[2, :48, :96], episode.array("front")[2])
    assert (drawn[:, 48:, :96] == 246).all()


def test_a_large_camera_is_made_smaller() -> None:
    large = replace(FRONT, shape=(480, 640, 3))
    assert pictures(_episode(large, rows=4), (), 96, None).shape == (4, 72, 96, 3)


def test_sixteen_bits_are_scaled_by_the_bound_or_the_largest_value() -> None:
    values = np.array([[[0, 1000], [2000, 4000]]], np.uint16)
    assert as_rgb(replace(DEPTH, shape=(2, 2)), values)[0, :, :, 0].tolist() == [[0, 63], [127, 255]]
    bounded = replace(DEPTH, shape=(2, 2), low=(0.0,) * 4, high=(8000.0,) * 4)
    assert as_rgb(bounded, values)[0, :, :, 2].tolist() == [[0, 31], [63, 127]]


@pytest.mark.parametrize(
    ("channels", "taken"), [(1, (0, 0, 0)), (3, (0, 1, 2)), (4, (0, 1, 2)), (2, (0, 0, 0))]
)
def test_any_number_of_channels_is_drawn(channels: int, taken: tuple[int, ...]) -> None:
    values = np.arange(2 * 3 * channels, dtype=np.uint8).reshape(1, 2, 3, channels)
    feature = Feature("camera", "uint8", (2, 3, channels), codec="zst")
    np.testing.assert_array_equal(as_rgb(feature, values), values[..., list(taken)])


def test_without_a_camera_there_is_a_chart_with_a_cursor() -> None:
    drawn = pictures(_episode(JOINTS), (), 96, None)
    assert drawn.shape == (4, 72, 96, 3)
    cursors = [np.flatnonzero((drawn[t] == 120).all(axis=(0, 2))).tolist() for t in range(4)]
    assert cursors == [[2], [32], [63], [93]]
    assert (drawn[0] != 246).any()
    assert episode_sheet(_episode(JOINTS), drawn).shape[2] == 3


def test_an_episode_of_texts_alone_says_what_to_do() -> None:
    said = Feature("said", "string")
    texts = replace(_episode(Feature("x", "float32")), spec=EpisodeSpec((said,), ACTION), observations={
        "said": np.array(["on"] * 4, object)
    })  # fmt: skip
    with pytest.raises(
        CogError, match=r"no observation that can be drawn: leave it out, its steps are in `cog"
    ):
        pictures(texts, (), 96, None)


def test_features_are_chosen_by_name() -> None:
    episode = _episode(FRONT, DEPTH, JOINTS)
    assert [one.name for one in shown_features(episode)] == ["front", "depth"]
    assert [one.name for one in shown_features(episode, ("joints_rad",))] == ["joints_rad"]
    with pytest.raises(CogError, match="unknown feature 'joints'"):
        shown_features(episode, ("joints",))
    with pytest.raises(CogError, match="no observation of numbers"):
        shown_features(episode, ("action",))
