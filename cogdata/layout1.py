"""Layout 1: the declaration of the worlds that are built in, and of every episode of version 0.1.

Its episodes keep the bytes, digests and columns that they were released with; every other declaration is
layout 2. Which of the two an episode has follows from its declaration alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final, Literal

from cogdata.features import Command, EpisodeSpec, Feature, Per
from cogdata.schema import ACTION_DIM, ACTION_NAMES, COMMAND_THRESHOLD, PREDICATES, ROBOT_DIM, ROBOT_NAMES

ACTION: Final = Feature(
    "action",
    "float32",
    (ACTION_DIM,),
    per=Per.TRANSITION,
    names=ACTION_NAMES,
    low=(-1.0,) * ACTION_DIM,
    high=(1.0,) * ACTION_DIM,
    commands=(
        Command(ACTION_NAMES.index("gripper"), (-1.0, 0.0, 1.0), COMMAND_THRESHOLD),
        Command(ACTION_NAMES.index("neutral"), (0.0, 1.0), COMMAND_THRESHOLD),
    ),
    help="8 numbers in [-1, 1] done from here; null at t = T",
)

ROBOT: Final = Feature(
    "robot",
    "float32",
    (ROBOT_DIM,),
    names=ROBOT_NAMES,
    help="10 numbers: end effector x y z m, quaternion xyzw, fingers m, gripper flag",
)


OBSERVATIONS: Final = ("image", "robot", "scene")
"""Names of its observations, in the order of its declaration."""


@lru_cache(maxsize=256)
def _declared(
    image_size: tuple[int, int], scene_fields: tuple[str, ...], predicates: tuple[str, ...]
) -> EpisodeSpec:
    image = Feature("image", "uint8", (*image_size, 3), codec="zst", help="RGB camera image")
    scene = Feature(
        "scene",
        "float32",
        (len(scene_fields),),
        names=scene_fields,
        privileged=True,
        help="poses of the movable things, named by episodes.scene_fields",
    )
    return EpisodeSpec((image, ROBOT, scene), ACTION, predicates)


def layout1_spec(
    image_size: Sequence[int], scene_fields: Sequence[str], predicates: Sequence[str]
) -> EpisodeSpec:
    """Return the declaration of a world that is built in.

    Args:
        image_size: (H, W) of the images, px.
        scene_fields: Names of the entries of ``scene``.
        predicates: Some of `cogdata.schema.PREDICATES`.
    """
    height, width = image_size
    return _declared((height, width), tuple(scene_fields), tuple(predicates))


@lru_cache(maxsize=256)
def layout_of(spec: EpisodeSpec) -> Literal[1, 2]:
    """Return the layout of episodes of a declaration: 1 for that of a world that is built in, else 2."""
    if tuple(one.name for one in spec.observations) != OBSERVATIONS or spec.rate_hz is not None:
        return 2
    image, scene = spec["image"], spec["scene"]
    if len(image.shape) != 3 or not set(spec.predicates) <= set(PREDICATES):
        return 2
    if len(scene.names) != scene.size or image.codec != "zst":
        return 2
    same = layout1_spec(image.shape[:2], scene.names, spec.predicates)
    return 1 if same.identity() == spec.identity() else 2
