"""A module of functions that derive features, as a user would write it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable

from cogdata.derive import functions

Write = Callable[[str], None]
"""Writes ``lab_layers.py`` into the working folder, as a new process would see it."""

LAYERS = """
import os
from pathlib import Path

import numpy as np

from cogdata.derive import derives
from cogdata.features import Feature, Per


@derives(
    Feature("caption", "string", per=Per.EPISODE),
    Feature("goal_m", "float32", (2,), help="distance to the goal"),
    Feature("jerk", "float64", per=Per.TRANSITION),
)
def seen(episode):
    if os.environ.get("FAIL_AT") == episode.meta.episode_id:
        raise RuntimeError("no light")
    return {
        "caption": f"episode {episode.meta.index}",
        "goal_m": np.stack([episode.robot[:, 0], episode.robot[:, 1]], axis=1),
        "jerk": np.arange(episode.steps) / 2,
    }


@derives(Feature("length", "int64", per=Per.EPISODE), batched=True)
class Length:
    def __init__(self):
        made = Path(os.environ["MADE"])
        made.mkdir(exist_ok=True)
        (made / str(os.getpid())).touch(exist_ok=False)

    def __call__(self, episodes):
        with Path(os.environ["MADE"], "calls").open("a") as file:
            file.write(f"{len(episodes)}\\n")
        return [{"length": episode.length} for episode in episodes]


def undeclared(episode):
    return {}
"""


def forget() -> None:
    """Forget the module, as a new process has never seen it."""
    sys.modules.pop("lab_layers", None)
    importlib.invalidate_caches()
    functions._found.cache_clear()
    functions._made.cache_clear()
