"""Benchmark of the worlds: steps per second with 48×48 images, resets included, and the time of its parts.

It measures CPU time of one process, so other programs do not count. Every policy acts in its default
environment, episode after episode, as in `cog collect`.

    python -m bench.world --episodes 100
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cogdata.episode import EpisodeMeta
from cogdata.rollout import Act, rollout
from cogdata.storage.parts import PartWriter
from cogdata.storage.store import open_store
from collectors.envs import CogEnv, make
from collectors.policies import POLICIES, ScriptedPolicy, make_policy
from collectors.robots import widowx

PARTS = ("reset", "simulation", "inverse kinematics", "rendering", "policy")
STORED_EPISODES = 20


@dataclass
class Clock:
    """CPU seconds spent in named parts; nested parts count for the outermost one."""

    spent: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))
    running: bool = False

    def around(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a function so that its time is added to a part."""

        def timed(*args: object, **kwargs: object) -> object:
            if self.running:
                return function(*args, **kwargs)
            self.running, start = True, time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                self.spent[part] += time.process_time() - start
                self.running = False

        return timed


def play(env: CogEnv, name: str, episodes: int) -> tuple[int, float]:
    """Run episodes without storing them; return the number of steps and the CPU seconds."""
    start, steps = time.process_time(), 0
    for episode in range(episodes):
        env.reset(seed=episode)
        policy = make_policy(name, rng=np.random.default_rng(episode))
        for _ in range(POLICIES[name].horizon):
            env.step(policy.act(env.view())[0])
            steps += 1
    return steps, time.process_time() - start


def break_down(env: CogEnv, name: str, episodes: int) -> dict[str, float]:
    """Run episodes with every part measured; return microseconds per step."""
    clock = Clock()
    parts: tuple[tuple[str, Any, str], ...] = (
        ("reset", env, "reset"),
        ("simulation", env._sim, "step"),
        ("rendering", env._sim, "render"),
        ("inverse kinematics", widowx, "inverse"),
        ("policy", ScriptedPolicy, "act"),
    )
    originals = [getattr(owner, attribute) for _, owner, attribute in parts]
    for (part, owner, attribute), original in zip(parts, originals, strict=True):
        setattr(owner, attribute, clock.around(part, original))
    try:
        steps, total = play(env, name, episodes)
    finally:
        for (_, owner, attribute), original in zip(parts, originals, strict=True):
            setattr(owner, attribute, original)
    spent = clock.spent | {"other Python": total - sum(clock.spent.values())}
    return {part: seconds / steps * 1e6 for part, seconds in spent.items()}


def _acting(env: CogEnv, policy: ScriptedPolicy) -> Act:
    return lambda _obs: policy.act(env.view())


def storing(env: CogEnv, name: str) -> dict[str, float]:
    """Store a short part in a temporary folder; return microseconds per step of encoding and writing."""
    spec, spent, steps = POLICIES[name], 0.0, 0
    with tempfile.TemporaryDirectory() as folder:
        writer = PartWriter(open_store(folder), "bench", 0, STORED_EPISODES)
        for index in range(STORED_EPISODES):
            act = _acting(env, make_policy(name, rng=np.random.default_rng(index)))
            goal = spec.goal(env.predicates)
            meta = EpisodeMeta("bench", index, env.env_id, name, {}, 0.2, index, env.task_predicate, goal)
            episode = rollout(env, act, meta)
            start = time.process_time()
            writer.add(episode)
            spent += time.process_time() - start
            steps += episode.steps
        start = time.process_time()
        writer.commit()
        written = time.process_time() - start
    return {"encoding": spent / steps * 1e6, "writing": written / steps * 1e6}


def main() -> None:
    """Print a table, a row for each policy."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--policy", choices=sorted(POLICIES), action="append", help="default: all")
    asked = parser.parse_args()
    columns = (*PARTS, "other Python", "encoding", "writing")
    print(f"{'policy':24} {'steps/s':>8} {'reset ms':>9}   µs per step: " + ", ".join(columns))
    for name in asked.policy or POLICIES:
        env = make(POLICIES[name].default_env, horizon=POLICIES[name].horizon)
        play(env, name, 3)
        steps, seconds = play(env, name, asked.episodes)
        parts = break_down(env, name, asked.episodes) | storing(env, name)
        reset_ms = parts["reset"] * POLICIES[name].horizon / 1000
        row = ", ".join(f"{parts[part]:.0f}" for part in columns)
        print(f"{name:24} {steps / seconds:8.0f} {reset_ms:9.1f}   {row}", flush=True)
        env.close()


if __name__ == "__main__":
    main()
