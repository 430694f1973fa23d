"""Comparison of critics' inputs on images: new critics trained on the features of a trained encoder.

Encoder and behaviour model of a ``bfn`` run on the tray are fixed. The inputs of the new critics are the
features alone ("features"), with offsets from the hand to 32 predicted points ("ways"), or with the
simulator's offset from the hand to the object ("truth", a control). They choose among equal proposals,
compared with the run's own critics. Printed are successes, and the offset of the lowered hand from the
object.

    python -m bench.paper.critics RUN --mixture place_in_tray_wide@1 --root STORE \
        --out results/tray_critics.json
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from bench.paper.where import ENV, places_m
from cogdata.layout1 import ACTION
from cogdata.storage.manifest import read_info, read_manifest
from cogdata.storage.samples import read_episode
from cogdata.storage.store import Store, open_store
from collectors.envs import make
from trainers.algorithm import TensorObs
from trainers.algos.bfn import Bfn, BfnConfig
from trainers.checkpoint import list_checkpoints, load_policy
from trainers.networks.encoders import Points
from trainers.networks.modules import Critics, average, follow
from trainers.networks.vectors import split_way

CRITIC_INPUTS: Final = ("features", "ways", "truth")
END_EFFECTOR: Final = slice(0, 3)
"""Position of the end effector within the robot's state, m."""
Values = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""(features, hand, object, actions) → Q-values, as :class:`CriticsWithInputs`."""
FAR_M: Final = 0.72
"""Position of the object along x from which on the image's edge is near."""
NEAR_SCENES: Final = 60
DOWN_M: Final = 0.095
"""Height above the object's centre below which the hand counts as lowered."""
PROPOSALS: Final = 8
"""Proposals drawn once per transition; an update uses a few successive ones."""
TRANSITIONS_PER_UPDATE: Final = 256


@dataclass
class CriticTransitions:
    """Transitions of a mixture, as features of a run's encoder.

    Attributes:
        features: float16 (F, D), features of all F observations.
        hand: float32 (F, 3), position of the hand, m.
        object: float32 (F, 3), position of the object, m.
        at: (N,), index of the first observation of each transition.
        action: float32 (N, 8).
        reward: float32 (N,), relabelled by the mixture.
        task: bool (N,), whether the source is the task.
        proposals: float16 (N, PROPOSALS, 8), proposals of the behaviour model at the next observation.
    """

    features: Tensor
    hand: Tensor
    object: Tensor
    at: Tensor
    action: Tensor
    reward: Tensor
    task: Tensor
    proposals: Tensor


@torch.no_grad()
def read_data(store: Store, mixture: str, learner: Bfn) -> CriticTransitions:
    """Read a whole mixture, and compute features and proposals of the run."""
    rows = read_manifest(store, mixture).episodes.to_pylist()
    features, hand, thing, at, action, reward, task = ([] for _ in range(7))
    frames = 0
    episodes = {row["episode_id"]: row for row in _episodes(store, {row["shard"] for row in rows})}
    for row in rows:
        episode = read_episode(store, episodes[row["episode_id"]])
        start, end = row["t_start"], row["t_end"]
        image = torch.from_numpy(episode.image[start : end + 1].copy())
        robot = torch.from_numpy(episode.robot[start : end + 1].copy())
        features.append(learner.average.inputs(TensorObs({"image": image, "robot": robot})).half())
        hand.append(robot[:, END_EFFECTOR])
        first = episode.scene_fields.index("object_x_m")
        thing.append(torch.from_numpy(episode.scene[start : end + 1, first : first + 3].copy()))
        at.append(torch.arange(frames, frames + end - start))
        action.append(torch.from_numpy(episode.action[start:end].copy()))
        assert episode.reward is not None
        given = episode.reward[start:end].copy()
        reward.append(
            torch.from_numpy(given if row["reward"] is None else np.full_like(given, row["reward"]))
        )
        task.append(torch.full((end - start,), row["source"] == "task"))
        frames += end - start + 1
    seen, index = torch.cat(features), torch.cat(at)
    generator = torch.Generator().manual_seed(0)
    proposals = [
        learner.average.flow.sample(
            seen[part + 1].float(),
            torch.randn((PROPOSALS, len(part), 8), generator=generator),
            learner.config.flow_steps,
        )
        .transpose(0, 1)
        .half()
        for part in torch.split(index, 1024)
    ]
    return CriticTransitions(
        seen, torch.cat(hand), torch.cat(thing), index, torch.cat(action), torch.cat(reward), torch.cat(task),
        torch.cat(proposals),
    )  # fmt: skip


def _episodes(store: Store, shards: set[str]) -> list[dict[str, Any]]:
    parts = sorted({shard.rpartition("/")[0] for shard in shards})
    return [row for part in parts for row in store.read_table(f"{part}/episodes.parquet").to_pylist()]


class CriticsWithInputs(nn.Module):
    """Critics of features and further inputs."""

    def __init__(self, dim: int, inputs: str, middle: Tensor, config: BfnConfig) -> None:
        super().__init__()
        self.inputs, self.middle = inputs, middle
        self.points = Points()
        more = {"features": 0, "ways": 6 * Points.count, "truth": 6}[inputs]
        self.critics = Critics(config.critics, dim + more, ACTION.size, config.critic_widths, norm=True)
        for parameter in self.critics.out.parameters():
            nn.init.zeros_(parameter)

    def forward(self, features: Tensor, hand: Tensor, thing: Tensor, actions: Tensor) -> Tensor:
        """Return Q (E, N, B) of actions (N, B, 8), with hand (B, 3) and object (B, 3) in m."""
        seen = [features]
        if self.inputs == "ways":
            seen += self.points.ways(features, hand - self.middle)
        if self.inputs == "truth":
            seen += split_way(thing - hand)
        values: Tensor = self.critics(torch.cat(seen, dim=1), actions)
        return values


def train(data: CriticTransitions, inputs: str, updates: int, config: BfnConfig) -> CriticsWithInputs:
    """Train critics with the run's settings; the learning rate falls in the last 30 % of the updates."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(2)
    model = CriticsWithInputs(data.features.shape[1], inputs, data.hand.mean(0), config)
    target, steady = (copy.deepcopy(model).requires_grad_(False) for _ in range(2))
    optimiser = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    halves = [torch.nonzero(data.task == wanted)[:, 0] for wanted in (False, True)]

    def view(frame: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return data.features[frame].float(), data.hand[frame], data.object[frame]

    for update in range(updates):
        row = torch.cat(
            [
                half[torch.randint(len(half), (TRANSITIONS_PER_UPDATE // 2,), generator=generator)]
                for half in halves
            ]
        )
        first = int(torch.randint(PROPOSALS - config.backup_samples + 1, (1,), generator=generator))
        proposed = data.proposals[row, first : first + config.backup_samples].float().transpose(0, 1)
        with torch.no_grad():
            best = target(*view(data.at[row] + 1), proposed).amin(0).amax(0)
        wanted = torch.where(data.reward[row] > 0, data.reward[row], config.discount * best)
        said = model(*view(data.at[row]), data.action[row].unsqueeze(0))[:, 0]
        optimiser.param_groups[0]["lr"] = config.learning_rate * min(1.0, (1 - update / updates) / 0.3)
        optimiser.zero_grad()
        (said - wanted).square().mean(1).sum().backward()
        optimiser.step()
        follow(target, model, config.target_rate)
        average(steady, model, config.average_rate, update + 1)
    return steady


@dataclass
class CriticScore:
    """Result of critics in evaluation.

    Attributes:
        successes: Number of successful episodes.
        scenes: Number of episodes.
        way_mm: Mean offset along x from the lowered hand to the object.
        spread_mm: Standard deviation of this offset.
    """

    successes: int
    scenes: int
    way_mm: float
    spread_mm: float


@torch.no_grad()
def evaluate_critics(learner: Bfn, critics: Values, seeds: list[int]) -> CriticScore:
    """Evaluate the policy that takes the best of the learner's proposals by these critics."""
    env, solved, ways = make(ENV, image_size=48, observations=("image", "robot", "scene")), 0, []
    for seed in seeds:
        seen, _ = env.reset(seed=seed)
        generator, way = torch.Generator().manual_seed(seed), None
        while True:
            image, robot = (torch.from_numpy(seen[name][None].copy()) for name in ("image", "robot"))
            thing = torch.from_numpy(seen["scene"][None, :3].copy())
            features = learner.average.inputs(TensorObs({"image": image, "robot": robot}))
            noise = torch.randn((learner.config.acting_samples, 1, 8), generator=generator)
            actions = learner.average.flow.sample(features, noise, learner.config.flow_steps)
            best = critics(features, robot[:, END_EFFECTOR], thing, actions).mean(0)[:, 0].argmax()
            seen, reward, terminated, truncated, _ = env.step(actions[best, 0].numpy())
            left = seen["scene"][:3] - seen["robot"][END_EFFECTOR]
            if way is None and left[2] > -DOWN_M:
                way = 1000 * float(left[0])
            if reward > 0 or terminated or truncated:
                solved += reward > 0
                break
        ways += [] if way is None else [way]
    env.close()
    return CriticScore(int(solved), len(seeds), round(float(np.mean(ways)), 1), round(float(np.std(ways)), 1))


def main() -> None:
    """Print a line per kind of critic, and write them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run")
    parser.add_argument("--mixture", required=True)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--inputs", nargs="+", choices=CRITIC_INPUTS, default=CRITIC_INPUTS)
    parser.add_argument("--updates", type=int, default=8000)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    store = open_store(str(asked.root))
    learner, _ = load_policy(store, asked.run, list_checkpoints(store, asked.run)[-1])
    if not isinstance(learner, Bfn):
        raise SystemExit(f"{asked.run} is not a run of bfn")
    if learner.config.backup_samples > PROPOSALS:
        raise SystemExit(f"{asked.run} backs up over more than {PROPOSALS} proposals")
    data = read_data(store, asked.mixture, learner)
    places = places_m(range(250))
    far = [seed for seed, x in enumerate(places) if x > FAR_M]
    near = [seed for seed, x in enumerate(places) if x <= FAR_M][:NEAR_SCENES]

    def own(features: Tensor, hand: Tensor, thing: Tensor, actions: Tensor) -> Tensor:
        values: Tensor = learner.average.critics(features, actions)
        return values

    lines = []
    for name in ("its own", *asked.inputs):
        critics = own if name == "its own" else train(data, name, asked.updates, learner.config)
        found = {
            where: evaluate_critics(learner, critics, seeds)
            for where, seeds in (("near", near), ("far", far))
        }
        print(name, found, flush=True)
        lines.append({"critics": name, **{where: asdict(one) for where, one in found.items()}})
    if asked.out is not None:
        digest = read_info(store, asked.mixture).digest
        said = {"run": asked.run, "mixture": asked.mixture, "digest": digest, "updates": asked.updates}
        said["found"] = lines
        asked.out.write_text(json.dumps(said, indent=1) + "\n")


if __name__ == "__main__":
    main()
