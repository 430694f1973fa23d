"""Declared features: what may be declared, what an array must be, what a digest is made of."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cogdata.errors import CogError
from cogdata.features import Command, EpisodeSpec, Feature, Per
from cogdata.layout1 import ACTION, layout1_spec, layout_of

CAMERA = Feature("camera_front", "uint8", (48, 64, 3), codec="png")
JOINTS = Feature("joints_rad", "float64", (7,), names=tuple(f"joint_{i}" for i in range(7)))
ARM = Feature(
    "action",
    "float32",
    (7,),
    Per.TRANSITION,
    low=(-3.0,) * 6 + (-math.inf,),
    high=(3.0,) * 7,
    commands=(Command(6, (-1.0, 1.0)),),
)
INSTRUCTION = Feature("instruction", "string", per=Per.EPISODE)
SPEC = EpisodeSpec((CAMERA, JOINTS), ARM, ("cup_on_shelf",), (INSTRUCTION,), rate_hz=50.0)


def test_a_declaration_survives_json() -> None:
    assert EpisodeSpec.from_json(SPEC.to_json()) == SPEC


def test_keys_of_a_newer_version_are_left_out() -> None:
    data = SPEC.to_data()
    data["observations"][0]["colour_space"] = "srgb"
    assert EpisodeSpec.from_data(data) == SPEC


@pytest.mark.parametrize("data", [{}, {"observations": 3}, {"observations": [{"name": 1}]}, []])
def test_what_declares_nothing_is_refused(data: Any) -> None:
    with pytest.raises(ValueError, match="declare"):
        EpisodeSpec.from_data(data)


def test_identity_leaves_out_help_codec_rate_source_and_order_of_predicates() -> None:
    camera = replace(CAMERA, help="front", codec="mp4", rate_hz=30.0, source="observation.images.front")
    other = replace(SPEC, observations=(camera, JOINTS), rate_hz=None)
    assert other.identity() == SPEC.identity()
    assert replace(SPEC, predicates=("b", "a")).identity() == replace(SPEC, predicates=("a", "b")).identity()
    shape = replace(CAMERA, shape=(48, 65, 3))
    assert replace(SPEC, observations=(shape, JOINTS)).identity() != SPEC.identity()


@pytest.mark.parametrize(
    ("feature", "said"),
    [
        ({"name": "Camera"}, "lower case"),
        ({"name": "a.b"}, "lower case"),
        ({"dtype": "complex64"}, "must be one of uint8"),
        ({"shape": (-1,)}, "no array can have"),
        ({"shape": (2,), "names": ("a",)}, "1 names for 2 entries"),
        ({"dtype": "string", "shape": (2,)}, "one text per row"),
        ({"shape": (2,), "low": (0.0,)}, "1 bounds"),
        ({"shape": (1,), "low": (2.0,), "high": (1.0,)}, "from 2 to 1"),
    ],
)
def test_a_feature_that_could_be_no_column_is_refused(feature: dict[str, Any], said: str) -> None:
    with pytest.raises(CogError, match=said):
        Feature(**({"name": "x", "dtype": "float32"} | feature))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"observations": (CAMERA, CAMERA)}, "declared twice"),
        ({"predicates": ("joints_rad",)}, "declared twice"),
        ({"predicates": ("reward",)}, "uses itself"),
        ({"predicates": ("Not a column",)}, "lower case"),
        ({"observations": (Feature("operator", "string", per=Per.EPISODE),)}, "per observation"),
        ({"action": JOINTS}, "must be called 'action'"),
        ({"action": Feature("action", "int64", (), Per.TRANSITION)}, "must have bounds"),
        ({"reward": "int64"}, "float32 or float64"),
    ],
)
def test_a_declaration_that_contradicts_itself_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(CogError, match=said):
        replace(SPEC, **change)


def test_discrete_actions_say_how_many_choices() -> None:
    discrete = Feature("action", "int64", (), Per.TRANSITION, low=(1.0,), high=(6.0,))
    several = Feature("action", "int64", (2,), Per.TRANSITION, low=(0.0, 0.0), high=(2.0, 4.0))
    assert (discrete.is_discrete, discrete.categories) == (True, (6,))
    assert several.categories == (3, 5)
    assert not ARM.is_discrete


@pytest.mark.parametrize(
    ("feature", "values", "said"),
    [
        (JOINTS, np.zeros((3, 6)), r"shape \(3, 6\), must be \(3, 7\)"),
        (JOINTS, np.zeros((3, 7), np.float32), "is float32, must be float64"),
        (JOINTS, np.full((3, 7), np.nan), "is nan at row 0: it holds a value that is not finite"),
        (
            ARM,
            np.full((3, 7), 3.5, np.float32),
            r"action\[0\] is 3.5 at row 0, above its bound 3; nothing was",
        ),
        (ARM, np.full((3, 7), -4.0, np.float32), r"below its bound -3"),
    ],
)
def test_an_array_that_is_not_the_feature_is_refused(
    feature: Feature, values: np.ndarray[Any, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        feature.check(values, 3)


def test_text_is_text_or_null() -> None:
    Feature("subtask", "string").check(np.array(["reach", None], object), 2)
    with pytest.raises(ValueError, match="must be a text or null"):
        Feature("subtask", "string").check(np.array(["reach", 3], object), 2)


def test_an_unknown_feature_names_the_known_ones() -> None:
    assert "camera_front" in SPEC
    with pytest.raises(CogError, match="did you mean 'joints_rad'"):
        SPEC["joints"]


def test_the_worlds_that_are_built_in_are_layout_1_and_nothing_else_is() -> None:
    spec = layout1_spec((48, 48), ("object_x_m",), ("placed", "grasped"))
    assert layout_of(spec) == 1
    assert layout_of(replace(spec, predicates=("grasped",))) == 1
    assert layout_of(replace(spec, predicates=("cup_on_shelf",))) == 2
    assert layout_of(replace(spec, extras=(INSTRUCTION,))) == 2
    assert layout_of(replace(spec, rate_hz=24.0)) == 2
    assert layout_of(replace(spec, reward="float64")) == 2
    assert layout_of(replace(spec, action=replace(ACTION, names=()))) == 2
    assert layout_of(SPEC) == 2
