from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cogdata.episode import Episode, EpisodeMeta, episode_id
from cogdata.layout1 import OBSERVATIONS, layout1_spec
from cogdata.storage.parts import PartWriter
from cogdata.storage.samples import read_episode
from cogdata.storage.store import Store
from tests.synthetic import make_episode


def test_success_is_the_goal_on_the_last_observation_and_solved_any_reward() -> None:
    won, lost = make_episode("c", 3), make_episode("c", 1)
    assert (won.success, won.solved, won.steps) == (True, True, 4)
    assert (lost.success, lost.solved) == (False, False)
    early = replace(won, predicates={**won.predicates, "placed": np.array([0, 0, 1, 0, 0], bool)})
    assert (early.success, early.solved) == (False, True)


def test_the_digest_changes_with_every_field_and_with_nothing_else() -> None:
    episode = make_episode("c", 3)
    assert episode.digest() == make_episode("c", 3).digest()
    image, robot, action = episode.image.copy(), episode.robot.copy(), episode.action.copy()
    image[0, 0, 0, 0] ^= 1
    robot[-1, -1] += 1
    action[0, 0] = -action[0, 0]
    assert episode.reward is not None
    assert episode.truncated is not None
    renamed = layout1_spec((4, 4), ("a", "b"), ("placed", "grasped"))
    others = [
        replace(episode, observations={**episode.observations, "image": image}),
        replace(episode, observations={**episode.observations, "robot": robot}),
        replace(episode, action=action),
        replace(episode, reward=1 - episode.reward),
        replace(episode, truncated=~episode.truncated),
        replace(episode, phase=("x",) * 4),
        replace(episode, spec=renamed),
        replace(episode, predicates={**episode.predicates, "grasped": episode.predicates["placed"]}),
        replace(episode, meta=replace(episode.meta, policy_params={"threshold_m": 0.05})),
    ]
    assert len({episode.digest(), *(other.digest() for other in others)}) == len(others) + 1


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (
            "robot",
            np.zeros((4, 10), np.float32),
            r"robot has shape \(4, 10\), must be \(5, 10\)",
        ),
        ("reward", np.zeros(4), "reward is float64, must be float32"),
        (
            "action",
            np.full((4, 8), 1.5, np.float32),
            r"action\[0\] \(x\) is 1.5 at row 0, above its bound 1; nothing",
        ),
        (
            "scene",
            np.full((5, 2), np.nan, np.float32),
            "scene is nan at row 0: it holds a value that is not finite",
        ),
        ("phase", ("x",), "phase has 1 names, must be 4"),
        (
            "predicates",
            {"flying": np.zeros(5, bool)},
            "predicates flying are judged, placed, grasped declared",
        ),
        ("image", np.zeros((5, 4, 4), np.uint8), r"must be \(5, 4, 4, 3\)"),
    ],
)
def test_a_wrong_field_is_refused_with_both_numbers(field: str, value: object, message: str) -> None:
    episode = make_episode("c", 0)
    observed: Any = {"observations": {**episode.observations, field: value}}
    changed: Any = observed if field in OBSERVATIONS else {field: value}
    with pytest.raises(ValueError, match=message):
        replace(episode, **changed)


@pytest.mark.parametrize("flag", ["terminated", "truncated"])
def test_an_episode_that_ends_twice_is_not_stored_but_read(
    flag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags: dict[str, Any] = {flag: np.array([True, False, True, False])}
    twice = replace(make_episode("c", 0), **flags)
    store = Store(str(tmp_path))
    with pytest.raises(
        ValueError, match=rf"^{flag} is true at action 0 of 4, may be true at the last one only"
    ):
        PartWriter(store, "c", 0, 1).add(twice)
    monkeypatch.setattr(Episode, "check_ends", lambda self: None)  # as an older version wrote it
    writer = PartWriter(store, "c", 0, 1)
    writer.add(twice)
    (row,) = store.read_table(f"collections/c/{writer.commit().part}/episodes.parquet").to_pylist()
    monkeypatch.undo()
    assert read_episode(store, row).digest() == twice.digest()


def test_names_that_could_not_be_a_folder_or_a_key_are_refused() -> None:
    assert episode_id("weak_grasp-1f", 42) == "weak_grasp-1f/0000042"
    with pytest.raises(ValueError, match="must match"):
        EpisodeMeta("a.b", 0, "e", "p", {}, 0.2, 1, "placed", "placed")
    with pytest.raises(ValueError, match="index is -1"):
        EpisodeMeta("a", -1, "e", "p", {}, 0.2, 1, "placed", "placed")
