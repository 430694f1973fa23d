"""A policy held against a world: what fits, what is cast, padded and cut, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from cogdata.binding import bind, differences
from cogdata.errors import CogError
from cogdata.features import EpisodeSpec, Feature, Per
from cogdata.layout1 import ACTION, ROBOT, layout1_spec
from cogdata.storage.selection import Selection

CAMERA = Feature("camera", "uint8", (4, 4, 3), codec="zst")
JOINTS = Feature("joints", "float64", (3,), names=("a", "b", "c"))
BOX = Feature("action", "float64", (2,), per=Per.TRANSITION, low=(-0.1, 0.0), high=(0.1, 1.0))
WORLD = EpisodeSpec((CAMERA, JOINTS, Feature("said", "string")), BOX, ("held",))


def test_what_a_policy_knows_is_picked_and_cast() -> None:
    known = replace(JOINTS, dtype="float32")
    bound = bind([known], replace(BOX, dtype="float32"), WORLD, "arm:Arm")
    assert not bound.is_plain
    seen = bound.observe({"camera": np.zeros((4, 4, 3), np.uint8), "joints": np.array([1.0, 2.0, 1 / 3])})
    assert list(seen) == ["joints"]
    assert seen["joints"].dtype == np.float32
    assert seen["joints"].tolist() == [1.0, 2.0, np.float32(1 / 3)]
    done = bound.act(np.array([0.1, 0.5], np.float32))  # float32 0.1 is more than 0.1
    assert (done.dtype, done.tolist()) == (np.float64, [0.1, 0.5])


def test_what_fits_as_it_is_is_the_same_object() -> None:
    spec = layout1_spec((16, 16), (), ("grasped",))
    bound = bind([ROBOT], ACTION, spec, "cog/PickTray-v0", exact=True)
    state, action = np.zeros(10, np.float32), np.ones(8, np.float32)
    assert bound.is_plain
    assert bound.observe({"robot": state})["robot"] is state
    assert bound.act(action) is action


def test_a_choice_is_a_number_within_its_range() -> None:
    choice = Feature("action", "int64", per=Per.TRANSITION, low=(2.0,), high=(4.0,))
    world = EpisodeSpec((JOINTS,), choice)
    bound = bind([JOINTS], choice, world, "gear")
    assert bound.act(np.array(3)) == 3
    with pytest.raises(
        CogError, match=r"action is int64 within \[2, 4\], the policy's is int64 within \[0, 2\]"
    ):
        bind([JOINTS], replace(choice, low=(0.0,), high=(2.0,)), world, "gear")
    with pytest.raises(CogError, match=r"action is int64 within \[2, 4\], the policy's is float64 \(2,\)"):
        bind([JOINTS], BOX, world, "gear")


def test_every_difference_is_in_one_line() -> None:
    needed = [
        replace(CAMERA, shape=(8, 8, 3)),
        replace(JOINTS, names=("a", "b", "d")),
        Feature("wrist", "uint8", (4, 4, 3)),
        Feature("said", "float32", (2,)),
    ]
    wide = replace(BOX, low=(-1.0, 0.0))
    with pytest.raises(CogError) as caught:
        bind(needed, wide, WORLD, "arm:Arm")
    assert str(caught.value) == (
        "arm:Arm does not fit the policy: camera is uint8 (4, 4, 3), needed is uint8 (8, 8, 3); joints is "
        "float64 (3,) of a, b, c, needed is float64 (3,) of a, b, d; wrist is missing; said is string, needed is "
        "float32 (2,); action is float64 (2,) within [-0.1, 1], the policy's is float64 (2,) within [-1, 1]"
    )


@pytest.mark.parametrize(
    ("policy", "world", "fits"),
    [
        ((-0.1, 0.1), (-0.1, 0.1), True),
        ((-0.1, 0.1), (-1.0, 1.0), True),
        ((-0.1, 0.1), None, True),
        ((-1.0, 1.0), (-0.1, 0.1), False),
        (None, (-1.0, 1.0), False),
        ((-math.inf, 1.0), (-1.0, 1.0), False),
        ((-math.inf, 1.0), (-math.inf, 2.0), True),
    ],
)
def test_a_policy_may_do_no_more_than_the_world_takes(
    policy: tuple[float, float] | None, world: tuple[float, float] | None, fits: bool
) -> None:
    def action(bounds: tuple[float, float] | None) -> Feature:
        low, high = (None, None) if bounds is None else ((bounds[0],), (bounds[1],))
        return Feature("action", "float32", (1,), per=Per.TRANSITION, low=low, high=high)

    spec = EpisodeSpec((JOINTS,), action(world))
    if fits:
        assert bind([JOINTS], action(policy), spec, "w").is_plain
    else:
        with pytest.raises(CogError, match="^w does not fit the policy: action is float32"):
            bind([JOINTS], action(policy), spec, "w")


def test_what_learns_there_needs_exactly_the_same() -> None:
    bind([JOINTS], BOX, WORLD, "w", exact=True)
    for joints, action in (
        (replace(JOINTS, dtype="float32"), BOX),
        (replace(JOINTS, names=()), BOX),
        (JOINTS, replace(BOX, high=(0.05, 1.0))),
    ):
        bind([joints], action, WORLD, "w")
        with pytest.raises(CogError, match="^w does not fit the policy: "):
            bind([joints], action, WORLD, "w", exact=True)


def test_a_mixture_that_renames_resizes_and_pads_is_followed() -> None:
    chosen = Selection(rename={"camera": "image"}, resize={"image": (2, 2)}, pad={"joints": 5, "action": 4})
    image = Feature("image", "uint8", (2, 2, 3))
    joints = Feature("joints", "float32", (5,))
    action = Feature("action", "float64", (4,), per=Per.TRANSITION, low=(-2.0,) * 4, high=(2.0,) * 4)
    bound = bind([image, joints], action, WORLD, "arm", chosen)
    camera = np.zeros((4, 4, 3), np.uint8)
    camera[:2, 2:] = 100
    seen = bound.observe({"camera": camera, "joints": np.array([1.0, 2.0, 3.0])})
    assert seen["image"][..., 0].tolist() == [[0, 100], [0, 0]]
    assert seen["joints"].tolist() == [1, 2, 3, 0, 0]
    assert bound.act(np.array([0.5, 0.5, 9.0, 9.0])).tolist() == [0.1, 0.5]
    with pytest.raises(CogError, match=r"camera is uint8 \(4, 4, 3\), needed is uint8 \(3, 3, 3\)"):
        bind([replace(image, shape=(3, 3, 3)), joints], action, WORLD, "arm", chosen)


def test_two_declarations_are_compared_by_name() -> None:
    now = EpisodeSpec((JOINTS, Feature("wrist", "uint8", (4, 4))), BOX, ("held", "placed"), reward="float64")
    assert differences(WORLD, now) == [
        "camera is gone",
        "predicates are held, placed, were held",
        "reward is float64, was float32",
        "said is gone",
        "wrist is new",
    ]
    other = replace(now, observations=(replace(JOINTS, dtype="float32"), now["wrist"]))
    assert differences(now, other) == ["joints is float32 (3,) of a, b, c, was float64 (3,) of a, b, c"]
    assert differences(now, replace(now, observations=now.observations[::-1])) == [
        "its features have another order"
    ]


def test_a_difference_is_added_to_what_the_world_shows_now() -> None:
    """The world's joints have another name, and the policy of padded data does not look at them."""
    bounds = {"low": (-1.0, -1.0, -1.0), "high": (1.0, 1.0, 1.0)}
    world = replace(WORLD, action=Feature("action", "float64", (3,), Per.TRANSITION, **bounds))  # type: ignore[arg-type]
    pad = {"q": 4, "action": 4}
    chosen = Selection(rename={"joints": "q"}, pad=pad, transforms={"action": "delta:q"})
    delta = Feature("action", "float32", (4,), Per.TRANSITION)
    bound = bind([CAMERA], delta, world, "arm", chosen, relative_to="q")
    assert (bound.base, bound.is_plain, list(bound.features)) == ("joints", False, ["camera"])
    moved = np.array([0.25, -0.5, 0.75, 9.0], np.float32)
    shown = {"joints": np.array([0.5, 0.25, 0.5])}
    done = bound.act(moved, shown)
    assert (done.dtype, done.tolist()) == (np.float64, [0.75, -0.25, 1.0])  # the last one is at its bound
    assert bound.act(moved, {"joints": np.zeros(3)}).tolist() == [0.25, -0.5, 0.75]
    with pytest.raises(ValueError, match="^the action is a difference from joints: give the observation$"):
        bound.act(moved)


def test_a_target_of_a_dataset_comes_back_in_the_world() -> None:
    target, joints = np.array([0.1, 0.2], np.float32), np.array([1 / 3, -2 / 3])
    world = EpisodeSpec(
        (Feature("joints", "float64", (2,)),), Feature("action", "float32", (2,), Per.TRANSITION)
    )
    bound = bind([world["joints"]], world.action, world, "arm", relative_to="joints")
    delta = (target.astype(np.float64) - joints).astype(np.float32)  # as a stream delivers it
    np.testing.assert_allclose(bound.act(delta, {"joints": joints}), [0.1, 0.2], atol=3e-8)


def test_a_difference_needs_its_observation_in_the_world() -> None:
    delta = Feature("action", "float64", (2,), Per.TRANSITION)
    with pytest.raises(CogError) as missing:
        bind([JOINTS], delta, WORLD, "arm:Arm", relative_to="state")
    assert str(missing.value) == (
        "arm:Arm does not fit the policy: state is missing, which actions are relative to"
    )
    with pytest.raises(CogError) as longer:
        bind([JOINTS], delta, WORLD, "arm:Arm", relative_to="joints")
    assert str(longer.value) == (
        "arm:Arm does not fit the policy: action is float64 (2,) within [-0.1, 1] and joints is float64 (3,) of "
        "a, b, c, both must have the same shape"
    )
