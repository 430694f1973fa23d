"""The algorithms by name, their presets, and how a configuration is put together.

Importing this imports no torch: an algorithm's module is loaded when the algorithm is asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cogdata.errors import unknown
from cogdata.rng import derive_seed

if TYPE_CHECKING:
    import torch

    from trainers.algorithm import Algorithm, Config, Spec


class Entry(NamedTuple):
    """One algorithm.

    Attributes:
        place: ``module:Class`` of the algorithm.
        summary: One line about it, the first of the class's docstring.
        discrete: ``module:Class`` where a Discrete action has a class of its own, or "".
    """

    place: str
    summary: str
    discrete: str = ""


ALGORITHMS: Final[dict[str, Entry]] = {
    "bc": Entry("trainers.algos.bc:Bc", "Behaviour cloning."),
    "bfn": Entry("trainers.algos.bfn:Bfn", "Best-of-N over a flow model of behaviour."),
    "cql": Entry(
        "trainers.algos.cql:Cql",
        "Conservative Q-learning with a tanh-Gaussian policy.",
        discrete="trainers.algos.cql_discrete:DiscreteCql",
    ),
    "iql": Entry("trainers.algos.iql:Iql", "Implicit Q-learning."),
    "sac": Entry("trainers.algos.sac:Sac", "Soft actor-critic with a tanh-Gaussian policy."),
}
"""Name → algorithm; each has the presets "fast" and "paper"."""


def algorithm_class(algo: str) -> type[Algorithm]:
    """Return the class of an algorithm.

    Raises:
        CogError: No such algorithm.
    """
    if algo not in ALGORITHMS:
        raise unknown("algorithm", algo, ALGORITHMS)
    return _class_at(ALGORITHMS[algo].place)


def _class_at(place: str) -> type[Algorithm]:
    module, _, name = place.partition(":")
    found: type[Algorithm] = getattr(importlib.import_module(module), name)
    return found


def configure(algo: str, preset: str = "fast", overrides: Sequence[str] = ()) -> Config:
    """Return a preset with settings overridden.

    Args:
        algo: Key of :data:`ALGORITHMS`.
        preset: Name of a preset of the algorithm.
        overrides: ``key=value`` texts, each parsed by the type of its field.

    Raises:
        CogError: Unknown algorithm, preset or key, or a value that does not fit.
    """
    presets = algorithm_class(algo).presets
    if preset not in presets:
        raise unknown("preset", preset, presets)
    return presets[preset].override(overrides)


def config_class(algo: str) -> type[Config]:
    """Return the class of an algorithm's configuration.

    Raises:
        CogError: No such algorithm.
    """
    return type(algorithm_class(algo).presets["fast"])


def config_from_dict(algo: str, data: Mapping[str, Any]) -> Config:
    """Read a configuration back from the JSON of a run or checkpoint."""
    return config_class(algo).from_dict(data)


def build(algo: str, config: Config, spec: Spec, seed: int, device: torch.device | None = None) -> Algorithm:
    """Build a learner with new weights.

    Args:
        algo: Key of :data:`ALGORITHMS`.
        config: Its configuration.
        spec: Specification of its observations and its action.
        seed: Seed of the run, which determines the weights.
        device: Device of the weights; the CPU if None.

    Raises:
        CogError: The algorithm cannot learn this kind of action.
    """
    from trainers.algorithm import init_seeded

    found, entry = algorithm_class(algo), ALGORITHMS[algo]
    if spec.action.discrete and entry.discrete:
        found = _class_at(entry.discrete)
    kind: Any = found.learning(spec.action)
    with init_seeded(derive_seed(seed, "weights")):
        learner: Algorithm = kind(config, spec.stacked(config.stack))
    return learner.to(device) if device is not None else learner
