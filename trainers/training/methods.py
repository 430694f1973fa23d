"""The methods of the paper's Table 1: which portion of a mixture, which algorithm, in which order.

A stage is a run of its own. One that follows another starts from its weights; the two are linked by
``parent``. So a method is resumed, evaluated and traced like any run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from cogdata.errors import unknown
from trainers.algos import build, configure

if TYPE_CHECKING:
    from trainers.algorithm import Algorithm, Config

WHOLE: Final = "all"
"""The portion that is the whole mixture."""


@dataclass(frozen=True)
class Stage:
    """One run of a method.

    Attributes:
        algo: Key of ``ALGORITHMS``; also the name of the stage.
        portion: What it learns from: "all", "prior", "task" or "oracle" (the task episodes that succeeded).
    """

    algo: str
    portion: str


@dataclass(frozen=True)
class Method:
    """A named composition of data and algorithms.

    Attributes:
        summary: What it is, in one line.
        stages: In order; no algorithm twice.
    """

    summary: str
    stages: tuple[Stage, ...]


METHODS: Final[Mapping[str, Method]] = {
    "cog": Method("conservative Q-learning on prior and task data", (Stage("cql", WHOLE),)),
    "no_prior": Method("conservative Q-learning on the task data alone", (Stage("cql", "task"),)),
    "bc_all": Method("behaviour cloning of everything", (Stage("bc", WHOLE),)),
    "bc_oracle": Method("behaviour cloning of the task episodes that succeeded", (Stage("bc", "oracle"),)),
    "bc_init": Method(
        "behaviour cloning of the prior, then conservative Q-learning on the task data from that policy",
        (Stage("bc", "prior"), Stage("cql", "task")),
    ),
    "sac": Method("soft actor-critic on prior and task data: no penalty", (Stage("sac", WHOLE),)),
    "bfn": Method("best of N in sample on prior and task data", (Stage("bfn", WHOLE),)),
    "bfn_no_prior": Method("best of N in sample on the task data alone", (Stage("bfn", "task"),)),
}
"""Name → method (arXiv 2010.14500, Table 1 and §6.2); the last two are ours, with another learner."""


def find_method(name: str) -> Method:
    """Look a method up.

    Raises:
        CogError: No such method.
    """
    if name not in METHODS:
        raise unknown("method", name, METHODS)
    return METHODS[name]


def configure_stages(
    name: str, preset: str = "fast", overrides: Sequence[str] = ()
) -> list[tuple[Stage, Config]]:
    """Resolve the configuration of every stage.

    Args:
        name: Key of :data:`METHODS`.
        preset: Named configuration that every stage starts from.
        overrides: ``key=value`` for every stage that has the key, ``STAGE.key=value`` for one.

    Raises:
        CogError: An unknown method, preset, stage or key, a value that does not fit, or one that would keep
            a stage from starting where the one before it ended.
    """
    from trainers.training.start import same_policy  # torch: naming the methods needs none

    stages = find_method(name).stages
    given = _by_stage(name, stages, preset, overrides)
    found: list[tuple[Stage, Config]] = []
    for stage in reversed(stages):
        shared = []
        if found:
            following, its = found[0]
            shared = same_policy(following.algo, its.to_dict(), stage.algo)
        config = configure(stage.algo, preset, [*shared, *given[stage.algo]])
        found.insert(0, (stage, config))
    for before, after in pairwise(_learners(found)):  # what does not fit is said before anything is trained
        after.start_from(before)
    return found


def _learners(stages: Sequence[tuple[Stage, Config]]) -> list[Algorithm]:
    """Make the learner of every stage, for dummy observations."""
    from cogdata.layout1 import ACTION, ROBOT, layout1_spec
    from trainers.algorithm import ActionSpec, ObsSpec, Spec

    features = layout1_spec((48, 48), (), ()).taking(("image", "robot")).observations
    stats = {ROBOT.name: (0.0,) * ROBOT.size}, {ROBOT.name: (1.0,) * ROBOT.size}
    spec = Spec(ObsSpec(features, *stats), ActionSpec(ACTION))
    return [build(stage.algo, config, spec, 0) for stage, config in stages]


def _by_stage(
    name: str, stages: Sequence[Stage], preset: str, overrides: Sequence[str]
) -> dict[str, list[str]]:
    """Stage → the settings that are meant for it; those for one stage come after those for all."""
    names = [stage.algo for stage in stages]
    known = {algo: configure(algo, preset).to_dict().keys() for algo in names}
    every: dict[str, list[str]] = {algo: [] for algo in names}
    own: dict[str, list[str]] = {algo: [] for algo in names}
    for pair in overrides:
        key, equals, value = pair.partition("=")
        stage, dot, rest = key.strip().partition(".")
        if dot and stage not in names:
            raise unknown(f"stage of method {name!r}", stage, names)
        if dot:
            own[stage].append(f"{rest}{equals}{value}")
            continue
        meant = [algo for algo in names if key.strip() in known[algo]]
        if equals and not meant:
            raise unknown("key", key.strip(), {key for keys in known.values() for key in keys})
        for algo in meant or names:  # without "=": refused where it is parsed
            every[algo].append(pair)
    return {algo: every[algo] + own[algo] for algo in names}
