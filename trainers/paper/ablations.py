"""Ablations: experiments of the table with one thing changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from trainers.paper.experiments import AS_FROZEN, Derivation
from trainers.paper.table1 import TASKS, Scenario


@dataclass(frozen=True)
class Ablation:
    """One thing changed of an experiment of the table.

    Attributes:
        summary: The change, in one line.
        task: Key of ``TASKS``.
        scenario: One of the task's, or another one.
        method: Key of ``METHODS``.
        settings: ``STAGE.key=value`` beside the table's.
        derivation: What is made of the scenario's mixture.
        against: The ablation that it differs from in one thing; None: the table's experiment.
    """

    summary: str
    task: str
    scenario: Scenario
    method: str = "bfn"
    settings: tuple[str, ...] = ()
    derivation: Derivation = AS_FROZEN
    against: str | None = None


_TRAY: Final = TASKS["place_in_tray"].scenarios[0]
_CLOSED_DRAWER: Final = TASKS["drawer"].scenarios[0]
_SOLVED_TRAY: Final = Scenario("place_in_tray_solved", _TRAY.envs)
_BEFORE_HOME: Final = """case when m.source = 'prior' and {episodes} then coalesce(
    (select min(s.t) from steps s where s.episode_id = m.episode_id and s.phase = 'neutral'), m.t_end)
else m.t_end end"""
_RANDOMIZED: Final = {env: env.replace("-v0", "Randomized-v0") for env in _CLOSED_DRAWER.envs}
_ALL_STARTS: Final = Scenario("drawer_all", tuple(one.env for one in TASKS["drawer"].conditions))

ABLATIONS: Final[Mapping[str, Ablation]] = {
    "prior-10": Ablation(
        "a tenth of the prior", "place_in_tray", _TRAY,
        derivation=Derivation(where="m.source <> 'prior' or e.episode_index % 10 = 0"),
    ),
    "prior-30": Ablation(
        "three tenths of the prior", "place_in_tray", _TRAY,
        derivation=Derivation(where="m.source <> 'prior' or e.episode_index % 10 < 3"),
    ),
    "flow-clone": Ablation(
        "cloning by a flow instead of a Gaussian", "place_in_tray", _TRAY, "bc_all", ("bc.head=flow",)
    ),
    "cql-short": Ablation(
        "CQL for a fifth of the updates, the best of 64 samples", "place_in_tray", _TRAY, "cog",
        ("cql.updates=6000", "cql.decay=0", "cql.acting_samples=64"),
    ),
    "cql-short-mode": Ablation(
        "CQL for a fifth of the updates, by its mode", "place_in_tray", _TRAY, "cog",
        ("cql.updates=6000", "cql.decay=0"),
    ),
    "solved-zeros": Ablation(
        "a prior that solves the task now and then, all rewards 0", "place_in_tray", _SOLVED_TRAY,
    ),
    "solved-kept": Ablation(
        "the same, rewards as the simulator knows them", "place_in_tray", _SOLVED_TRAY,
        derivation=Derivation(reward="null"), against="solved-zeros",
    ),
    "solved-inferred": Ablation(
        "the same, rewards as a classifier infers them", "place_in_tray", _SOLVED_TRAY,
        derivation=Derivation(inferred=True), against="solved-zeros",
    ),
    "no-returns": Ablation(
        "the prior's episodes end before the arm goes home", "drawer", _CLOSED_DRAWER,
        derivation=Derivation(until=_BEFORE_HOME.format(episodes="true")),
    ),
    "half-returns": Ablation(
        "every other episode of the prior does", "drawer", _CLOSED_DRAWER,
        derivation=Derivation(until=_BEFORE_HOME.format(episodes="e.episode_index % 2 = 1")),
    ),
    "randomized": Ablation(
        "places, shapes and colours vary, in data and judgement", "drawer",
        Scenario("closed_drawer_randomized", tuple(_RANDOMIZED.values())), against="randomized-unseen",
    ),
    "randomized-unseen": Ablation(
        "they vary in the judgement alone", "drawer", Scenario("closed_drawer", tuple(_RANDOMIZED.values()))
    ),
    "generalist": Ablation("one policy for every start", "drawer", _ALL_STARTS),
}  # fmt: skip
"""Name → ablation."""

_CONDITION_LABELS: Final = {one.env: one.label for task in TASKS.values() for one in task.conditions}
CONDITION_LABELS: Final[Mapping[str, str]] = {
    **_CONDITION_LABELS,
    **{changed: f"{_CONDITION_LABELS[env]}, randomised" for env, changed in _RANDOMIZED.items()},
}
"""Environment → what a page calls it."""
