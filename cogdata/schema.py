"""The data contract: what a step means. This file is the only place that says it.

Alignment of one episode with T actions and T+1 observations::

    o_0 --a_0--> o_1 --a_1--> o_2  …  o_{T-1} --a_{T-1}--> o_T
         r_0          r_1                          r_{T-1}

* ``reward[t]`` is judged on ``o_{t+1}``, the state that ``action[t]`` led to.
* ``terminated[t]``: ``o_{t+1}`` is absorbing: worth nothing beyond the reward. No world of ours ends so.
* ``truncated[t]``: the clock stopped the episode at ``o_{t+1}``; a learner bootstraps from it.
* both may be true at the last action alone. Where both are, both are kept, and ``terminated`` wins: a learner
  does not bootstrap.
* a predicate (``grasped``, ``cup_on_shelf`` …) is judged on every observation; it is null in ``steps`` where
  the scene has no such thing, or where it was not judged. An episode whose goal was not judged on ``o_T`` is
  neither a success nor a failure: ``success`` is null, as it is where no goal is stated.
* ``reward``, ``terminated``, ``truncated`` and ``o_T`` may be unknown, in the data of others. They are null
  then, and an episode without ``o_T`` has T observations.

One row of the ``steps`` table is one *observation*, t = 0 … T. Its ``action``, ``reward``, ``terminated``,
``truncated`` and ``phase`` describe the action taken *from* it and are null on the last row.

What is observed and done is declared by each collection, see :mod:`cogdata.features`. The worlds that are
built in declare this (:mod:`cogdata.layout1`):

=========== ======== ============= ==================================================================
feature     dtype    shape         meaning, unit, frame
=========== ======== ============= ==================================================================
image       uint8    (T+1,H,W,3)   RGB camera image
robot       float32  (T+1,10)      end-effector position m (3, world), quaternion xyzw (4), finger
                                   positions m (2: left, right), gripper flag (1 open, 0 closed)
scene       float32  (T+1,S)       poses of the movable things, privileged; names in ``scene_fields``
action      float32  (T,8)         x y z (0.2 m each), alpha beta gamma (20° each), gripper, neutral;
                                   in [-1, 1]
reward      float32  (T,)          1 where o_{t+1} satisfies the task, else 0; the task's predicate is
                                   judged on ``o_1 … o_T``, because it is the reward
=========== ======== ============= ==================================================================
"""

from __future__ import annotations

import re
from typing import Final

SCHEMA_VERSION: Final = 2
"""Newest version of the store's files that this program reads and writes."""

LAYOUT_1_VERSION: Final = 1
"""Version that files without a declaration say: those of the worlds that are built in."""

ACTION_NAMES: Final = ("x", "y", "z", "alpha", "beta", "gamma", "gripper", "neutral")
ACTION_DIM: Final = len(ACTION_NAMES)
COMMAND_THRESHOLD: Final = 0.5
"""A gripper or neutral command takes effect beyond this magnitude, strictly (roboverse @ a443f79)."""
ROBOT_NAMES: Final = (
    "ee_x_m", "ee_y_m", "ee_z_m", "ee_qx", "ee_qy", "ee_qz", "ee_qw",
    "finger_left_m", "finger_right_m", "gripper_open",
)  # fmt: skip
ROBOT_DIM: Final = len(ROBOT_NAMES)

PREDICATES: Final = (
    "grasped", "placed", "drawer_open", "drawer_closed", "top_drawer_closed", "blocker_moved",
)  # fmt: skip
"""Every predicate of the worlds that are built in, each always a nullable boolean column of ``steps``."""

LONGEST_NAME: Final = 64
"""Characters of a name."""

NAME_PATTERN: Final = re.compile(rf"[a-z0-9][a-z0-9_-]{{0,{LONGEST_NAME - 1}}}")
"""Collections, mixtures and runs: lower case, safe as a folder and as part of a WebDataset key."""
