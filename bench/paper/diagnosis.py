"""Diagnosis of a policy: when each predicate first holds, and whether the critics predict success.

    python -m bench.paper.diagnosis RUN --env cog/DrawerBlocked2-v0 --episodes 64 \
        --out results/diagnosis-X.json --plot docs/results/diagnosis-X.png

The policy acts as in evaluation, on seeds that neither the results table nor its curves use. At every step
the critics that chose the action give its value. With an absorbing success and discount γ the true value of a
state that is solved n steps later is γⁿ. Compared with it the predicted values show their *calibration*. The
area under the ROC curve is the probability that a success has a larger first value than a failure; 0.5 is
chance.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from cogdata.rng import derive_seed
from cogdata.storage.store import Store
from collectors.drivers import open_env
from trainers.algorithm import TensorObs
from trainers.algos.bfn import Bfn
from trainers.algos.cql import Cql
from trainers.evaluation.acting import Actor
from trainers.evaluation.evaluate import Policy, open_policy
from trainers.evaluation.worlds import WORLDS, Moment, Obs, Worlds

DIAGNOSIS_FIRST_SEED: Final = 7_000
SKILLS: Final = ("blocker_moved", "top_drawer_closed", "drawer_open", "grasped", "placed")
"""Predicates whose first step is recorded."""
SKILL_LABELS: Final = {
    "blocker_moved": "bottle moved",
    "drawer_open": "drawer open",
    "grasped": "grasped",
    "placed": "in the tray",
}
"""Predicate drawn in the figure → its label."""


@dataclass
class Traced:
    """Values and predicates of one episode.

    Attributes:
        seed: Seed given to ``env.reset``.
        last: Its last moment so far.
        values: Value of the chosen action, by step.
        first: Predicate → step after which it first held; 0: at the start.
        rewards: Reward, by step.
    """

    seed: int
    last: Moment
    values: list[float] = field(default_factory=list)
    first: dict[str, int] = field(default_factory=dict)
    rewards: list[float] = field(default_factory=list)

    def note_predicates(self, step: int) -> None:
        """Record the predicates that hold for the first time."""
        for name in SKILLS:
            if self.last.predicates.get(name):
                self.first.setdefault(name, step)


@torch.no_grad()
def values_of(learner: Bfn | Cql, shown: Sequence[Obs], actions: NDArray[np.float32]) -> list[float]:
    """Return the values of actions (N, 8) by the critics that chose them.

    Raises:
        SystemExit: The learner is a cql that acts without its critics.
    """
    parts = {
        name: torch.from_numpy(np.stack([obs[name] for obs in shown])) for name in learner.spec.obs.names
    }
    obs, one = TensorObs(parts), torch.from_numpy(actions).unsqueeze(0)
    if isinstance(learner, Bfn):
        outputs = learner.average.critics(learner.average.inputs(obs), one)
        return learner.values(outputs).mean(0)[0].tolist()
    critics = getattr(learner, learner.acting[-1])
    if not hasattr(critics, "encode"):
        raise SystemExit(
            f"this cql acts by its policy alone ({learner.acting[-1]}): its critics are not kept"
        )
    found: list[float] = critics(critics.encode(obs), one).amin(0)[0].tolist()
    return found


def trace(policy: Policy, env: str, episodes: int) -> list[Traced]:
    """Run the policy in batches of 16 environments, and record values and predicates."""
    learner = policy.learner
    if not isinstance(learner, Bfn | Cql):
        raise SystemExit(
            f"{policy.run} is of {learner.name}, which values no actions: name one of bfn or cql"
        )
    make = functools.partial(
        open_env, env, image_size=learner.spec.obs.images[0].shape[0], observations=learner.spec.obs.names
    )
    found: list[Traced] = []
    for start in range(DIAGNOSIS_FIRST_SEED, DIAGNOSIS_FIRST_SEED + episodes, WORLDS):
        seeds = range(start, min(start + WORLDS, DIAGNOSIS_FIRST_SEED + episodes))
        with Worlds(make, len(seeds), 1) as worlds:
            first = worlds.reset(seeds)
            own = [Traced(seed, first[number]) for number, seed in enumerate(seeds)]
            noise = [
                torch.Generator().manual_seed(derive_seed("evaluate", policy.seed, seed)) for seed in seeds
            ]
            step = 0
            for one in own:
                one.note_predicates(step)
            while running := [number for number, one in enumerate(own) if not one.last.over]:
                shown = [one.last.obs for one in own]
                actions = Actor(learner)(shown, noise)
                values = values_of(learner, shown, actions[: len(shown)])
                step += 1
                for number, moment in worlds.step({n: actions[n] for n in running}).items():
                    own[number].values.append(values[number])
                    own[number].last = moment
                    own[number].rewards.append(moment.reward or 0.0)
                    own[number].note_predicates(step)
            found += own
    return found


def area_under_curve(of_successes: Sequence[float], of_failures: Sequence[float]) -> float | None:
    """Return the probability that a success has the larger number, ties count half; None without both."""
    if not of_successes or not of_failures:
        return None
    wins = sum((a > b) + 0.5 * (a == b) for a in of_successes for b in of_failures)
    return round(wins / (len(of_successes) * len(of_failures)), 3)


def summarise(traced: Sequence[Traced], discount: float) -> dict[str, Any]:
    """Count predicates, and compare predicted with discounted true values."""
    won = [one for one in traced if one.last.success]
    lost = [one for one in traced if not one.last.success]
    skills = {}
    for name in SKILLS:
        steps = [one.first[name] for one in traced if name in one.first]
        if name in traced[0].last.predicates:
            spread = np.quantile(steps, [0.1, 0.5, 0.9]).round(1).tolist() if steps else None
            skills[name] = {"episodes": len(steps), "steps_10_50_90": spread}
    expected, came = [], []
    for one in traced:
        solved = next((step for step, reward in enumerate(one.rewards) if reward > 0), None)
        for step, value in enumerate(one.values):
            if solved is None or step <= solved:
                expected.append(value)
                came.append(0.0 if solved is None else discount ** (solved - step))
    return {
        "episodes": len(traced),
        "successes": len(won),
        "first_seed": DIAGNOSIS_FIRST_SEED,
        "skills": skills,
        "first_value_won": _mean([one.values[0] for one in won]),
        "first_value_lost": _mean([one.values[0] for one in lost]),
        "first_value_auc": area_under_curve([one.values[0] for one in won], [one.values[0] for one in lost]),
        "value_expected": _mean(expected),
        "value_came": _mean(came),
        "mean_value_by_step_won": _by_step(won),
        "mean_value_by_step_lost": _by_step(lost),
    }


def _mean(numbers: Sequence[float]) -> float | None:
    return round(statistics.fmean(numbers), 4) if numbers else None


def _by_step(traced: Sequence[Traced]) -> list[float]:
    if not traced:
        return []
    means: list[float] = np.mean([one.values for one in traced], axis=0).round(4).tolist()
    return means


def draw(traced: Sequence[Traced], title: str, path: Path) -> None:
    """Draw the values of every episode, coloured by success, with marks where predicates first hold."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.2), dpi=110, layout="constrained")
    axes = figure.subplots()
    for one in traced:
        colour = "#4e79a7" if one.last.success else "#e15759"
        axes.plot(np.maximum(one.values, 1e-4), lw=0.6, alpha=0.5, color=colour)
    for name, mark in (("drawer_open", "^"), ("blocker_moved", "s"), ("grasped", "o"), ("placed", "D")):
        late = [one for one in traced if one.first.get(name, 0) > 0]
        if late:
            steps = [min(one.first[name], len(one.values) - 1) for one in late]
            heights = [max(one.values[step], 1e-4) for one, step in zip(late, steps, strict=True)]
            axes.plot(steps, heights, mark, ms=3, color="#222222", alpha=0.6, label=SKILL_LABELS[name])
    axes.plot([], [], color="#4e79a7", label="success")
    axes.plot([], [], color="#e15759", label="failure")
    axes.set(yscale="log", xlabel="step", ylabel="value of the chosen action\n(1e-4: or less)")
    axes.set_title(title, fontsize=9)
    figure.legend(loc="outside lower center", fontsize=7, frameon=False, ncols=5)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Software": None})


def main() -> None:
    """Read the command line, run the policy, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help="run of bfn or cql")
    parser.add_argument("--update", type=int, help="another checkpoint than the newest")
    parser.add_argument("--env", required=True)
    parser.add_argument("--episodes", type=int, default=64)
    parser.add_argument("--root", default="cog-store")
    parser.add_argument("--out", type=Path, help="JSON file of the figures")
    parser.add_argument("--plot", type=Path, help="PNG file of the values along the episodes")
    options = parser.parse_args()
    policy = open_policy(Store(options.root), options.run, options.update)
    traced = trace(policy, options.env, options.episodes)
    discount = float(policy.learner.config.to_dict()["discount"])
    found = {"run": policy.run, "update": policy.update, "env": options.env, **summarise(traced, discount)}
    print(json.dumps({name: value for name, value in found.items() if "by_step" not in name}, indent=1))
    if options.out is not None:
        options.out.write_text(json.dumps(found) + "\n")
    if options.plot is not None:
        draw(traced, f"{options.env}, {policy.run}, {found['successes']}/{len(traced)}", options.plot)


if __name__ == "__main__":
    main()
