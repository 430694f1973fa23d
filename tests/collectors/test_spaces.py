"""Declarations that are made from the spaces of Gymnasium."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import (
    Box,
    Dict,
    Discrete,
    Graph,
    MultiBinary,
    MultiDiscrete,
    Sequence,
    Space,
    Text,
    Tuple,
)

from cogdata.errors import CogError
from cogdata.features import EpisodeSpec, Feature, Per
from collectors.spaces import action_feature, column_name, leaves, quiet_action, spec_of_env
from tests.arms import Bimanual, SevenDof


def _env(space: Space[Any], action: Space[Any] | None = None, **attributes: Any) -> Any:
    class Shown(gymnasium.Env[Any, Any]):
        observation_space = space
        action_space = Discrete(2) if action is None else action

        def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
            return None, dict(attributes.get("at_reset", {}))

        def step(self, action: Any) -> Any:
            return None, 0.0, False, False, dict(attributes.get("at_step", {}))

    env = Shown()
    for name, value in attributes.items():
        setattr(env, name, value)
    return env


def _described(spec: EpisodeSpec) -> dict[str, str]:
    return {one.name: f"{one.describe()} {one.codec}".strip() for one in spec.observations}


def test_every_space_becomes_a_feature() -> None:
    space = Dict(
        {
            "rgb": Box(0, 255, (4, 6, 3), np.uint8),
            "depth": Box(0, 65535, (4, 6), np.uint16),
            "bytes": Box(0, 255, (5,), np.uint8),
            "joints": Box(-1, 1, (7,), np.float64),
            "force": Box(-np.inf, np.inf, (2, 3), np.float32),
            "tick": Box(-9, 9, (2,), np.int16),
            "gear": Discrete(3, start=-1),
            "dice": MultiDiscrete([6, 2]),
            "limits": MultiBinary(4),
            "said": Text(80),
            "pair": Tuple([Discrete(2), Dict(x=Box(0, 1, (1,), np.float32))]),
        }
    )
    assert _described(spec_of_env(_env(space))) == {
        "rgb": "uint8 (4, 6, 3) zst",
        "depth": "uint16 (4, 6) zst",
        "bytes": "uint8 (5,)",
        "joints": "float64 (7,)",
        "force": "float32 (2, 3)",
        "tick": "int32 (2,)",
        "gear": "int64 within [-1, 1]",
        "dice": "int64 (2,) within [0, 5]",
        "limits": "bool (4,)",
        "said": "string",
        "pair_0": "int64 within [0, 1]",
        "pair_1_x": "float32 (1,)",
    }


def test_a_bare_space_is_called_observation() -> None:
    spec = spec_of_env(_env(Box(-1, 1, (4,), np.float32)))
    assert _described(spec) == {"observation": "float32 (4,)"}
    assert [one.name for one in leaves(Tuple([Discrete(2), Discrete(3)]))] == [
        "observation_0",
        "observation_1",
    ]


@pytest.mark.parametrize(
    ("foreign", "name"),
    [
        ("observation.images.front", "images_front"),
        ("observation/state", "state"),
        ("observations.qpos", "qpos"),
        ("Left Arm/Joint-1", "left_arm_joint_1"),
        ("0cam", "n0cam"),
        ("mask", "obs_mask"),
    ],
)
def test_a_foreign_name_becomes_a_column_and_is_kept(foreign: str, name: str) -> None:
    assert column_name(foreign) == name
    (feature,) = spec_of_env(_env(Dict({foreign: Discrete(2)}))).observations
    assert (feature.name, feature.source) == (name, foreign)


def test_names_that_collide_are_an_error_with_both() -> None:
    space = Dict({"images.front": Discrete(2), "images": Dict(front=Discrete(2))})
    with pytest.raises(
        CogError, match=r"^Shown: observations 'images.front' and 'images.front' are both called images_front"
    ):
        spec_of_env(_env(space))
    with pytest.raises(CogError, match=r"observations 'Cam' and 'cam' are both called cam: rename one$"):
        spec_of_env(_env(Dict({"Cam": Discrete(2), "cam": Discrete(2)})))
    with pytest.raises(CogError, match="^'——' cannot be made the name of a column"):
        column_name("——")


ACTIONS: list[tuple[Space[Any], Feature, object]] = [
    (
        Box(-2, 2, (1,), np.float32),
        Feature("action", "float32", (1,), per=Per.TRANSITION, low=(-2.0,), high=(2.0,)),
        [0.0],
    ),
    (
        Box(np.array([0.5, -np.inf]), np.array([1.0, np.inf]), (2,), np.float64),
        Feature("action", "float64", (2,), per=Per.TRANSITION, low=(0.5, -np.inf), high=(1.0, np.inf)),
        [0.5, 0.0],
    ),
    (
        Box(-np.inf, np.inf, (3,), np.float32),
        Feature("action", "float32", (3,), per=Per.TRANSITION),
        [0.0] * 3,
    ),
    (Discrete(3, start=2), Feature("action", "int64", per=Per.TRANSITION, low=(2.0,), high=(4.0,)), 2),
    (
        MultiDiscrete([3, 2], start=[1, 0]),
        Feature("action", "int64", (2,), per=Per.TRANSITION, low=(1.0, 0.0), high=(3.0, 1.0)),
        [1, 0],
    ),
    (
        MultiBinary(2),
        Feature("action", "int64", (2,), per=Per.TRANSITION, low=(0.0, 0.0), high=(1.0, 1.0)),
        [0, 0],
    ),
]


@pytest.mark.parametrize(("space", "feature", "quiet"), ACTIONS)
def test_actions_keep_their_bounds(space: Space[Any], feature: Feature, quiet: object) -> None:
    assert action_feature(space) == feature
    still = quiet_action(space)
    assert space.contains(still)
    assert np.asarray(still).tolist() == quiet


@pytest.mark.parametrize(
    ("env", "said"),
    [
        (_env(Graph(Discrete(2), None)), "Shown: observation_space is a Graph, must be Box, Discrete,"),
        (_env(Dict(many=Sequence(Discrete(2)))), "Shown: observation many is a Sequence, must be"),
        (
            _env(Box(0, 1, (2,), np.uint64)),
            "Shown: observation is uint64, must be one of uint8, uint16, int32",
        ),
        (
            _env(Dict(front=Box(0, 255, (0, 8, 3), np.uint8))),
            "Shown: observation front has shape (0, 8, 3), an image of no pixels: leave it out",
        ),
        (_env(Discrete(2), Box(-1, 1, (2, 2), np.float32)), "Shown: it takes actions in Box"),
        (_env(Discrete(2), Box(-1, 1, (0,), np.float32)), "Shown: the action has no entries, so there is"),
        (_env(Discrete(2), Dict(arm=Discrete(2))), "Shown: it takes actions in Dict"),
        (_env(Discrete(2), predicates=("Cup Held",)), "Shown: predicate name 'Cup Held' must be lower case"),
        (_env(Discrete(2), feature_names={"arm": ("a",)}), "Shown: unknown feature in feature_names 'arm'"),
        (_env(Discrete(2), feature_names=("arm",)), "Shown: feature_names is ('arm',), must map"),
        (_env(Discrete(2), rate_hz=-1), "Shown: rate_hz is -1, must be a number of steps per second"),
        (_env(Discrete(2), extras=("note",)), "Shown: extras is ('note',), must be a tuple of"),
        (_env(Discrete(2), episode_spec={"a": 1}), "Shown has episode_spec {'a': 1}, must be an EpisodeSpec"),
    ],
)
def test_what_cannot_be_stored_is_one_line(env: Any, said: str) -> None:
    with pytest.raises(CogError) as caught:
        spec_of_env(env)
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("attributes", "predicates"),
    [
        ({}, ()),
        ({"at_reset": {"success": False}}, ("success",)),
        ({"at_step": {"is_success": False}}, ("success",)),
        ({"at_step": {"is_success": False}, "predicates": ()}, ()),
        ({"predicates": ["cup_held"], "at_reset": {"success": False}}, ("cup_held",)),
    ],
)
def test_predicates_are_those_that_are_named_or_the_success_of_info(
    attributes: dict[str, Any], predicates: tuple[str, ...]
) -> None:
    assert spec_of_env(_env(Discrete(2), **attributes)).predicates == predicates


def test_two_arms_declare_themselves() -> None:
    spec = spec_of_env(Bimanual())
    assert _described(spec) == {
        "images_front": "uint8 (480, 640, 3) zst",
        "images_wrist": "uint8 (64, 64, 3) zst",
        "depth": "uint16 (32, 48) zst",
        "joint_position_rad": "float64 (14,) of left_0, left_1, left_2, …",
        "gripper_open": "int64 within [0, 1]",
    }
    assert spec["images_front"].source == "observation.images.front"
    assert spec.action.names[7] == "right_0_rad"
    assert [one.name for one in spec.extras] == ["instruction", "effort_nm"]
    assert (spec.rate_hz, spec.reward) == (25.0, "float64")
    declared = SevenDof()
    declared.episode_spec = spec  # type: ignore[attr-defined]
    assert spec_of_env(declared) is spec


def test_a_camera_is_stored_by_the_codec_that_the_environment_says() -> None:
    space = Dict(
        {"front": Box(0, 255, (4, 6, 3), np.uint8), "images.depth": Box(0, 65535, (4, 6), np.uint16)}
    )
    chosen = spec_of_env(_env(space, codecs={"front": "mp4", "images.depth": "png"}, predicates=()))
    assert [(one.name, one.codec) for one in chosen.observations] == [
        ("front", "mp4"),
        ("images_depth", "png"),
    ]
    with pytest.raises(
        CogError, match="feature images_depth is uint16, codec jpeg holds uint8: choose zst or png"
    ):
        spec_of_env(_env(space, codecs={"images.depth": "jpeg"}, predicates=()))
    with pytest.raises(CogError, match="unknown feature in codecs 'fornt': did you mean 'front'"):
        spec_of_env(_env(space, codecs={"fornt": "png"}, predicates=()))
    with pytest.raises(CogError, match="unknown frame codec 'gif'"):
        spec_of_env(_env(space, codecs={"front": "gif"}, predicates=()))
