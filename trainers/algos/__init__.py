"""The algorithms by name, their presets, and how a configuration is put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch

from cogdata.errors import unknown
from cogdata.rng import derive_seed
from trainers.algorithm import Algorithm, Config, ObsSpec, init_seeded
from trainers.algos.bc import Bc
from trainers.algos.bfn import Bfn
from trainers.algos.cql import Cql
from trainers.algos.iql import Iql
from trainers.algos.sac import Sac

ALGORITHMS: Final[dict[str, type[Algorithm]]] = {
    "bc": Bc, "bfn": Bfn, "cql": Cql, "iql": Iql, "sac": Sac,
}  # fmt: skip
"""Every algorithm; each has the presets "fast" and "paper"."""


def algorithm_class(algo: str) -> type[Algorithm]:
    """Look an algorithm up.

    Raises:
        CogError: No such algorithm.
    """
    if algo not in ALGORITHMS:
        raise unknown("algorithm", algo, ALGORITHMS)
    return ALGORITHMS[algo]


def configure(algo: str, preset: str = "fast", overrides: Sequence[str] = ()) -> Config:
    """Resolve a configuration.

    Args:
        algo: Key of :data:`ALGORITHMS`.
        preset: Named configuration to start from.
        overrides: ``key=value`` texts, each parsed by the type of its field.

    Raises:
        CogError: Unknown algorithm, preset or key, or a value that does not fit.
    """
    presets = algorithm_class(algo).presets
    if preset not in presets:
        raise unknown("preset", preset, presets)
    return presets[preset].override(overrides)


def config_class(algo: str) -> type[Config]:
    """Return the kind of configuration that an algorithm takes.

    Raises:
        CogError: No such algorithm.
    """
    return type(algorithm_class(algo).presets["fast"])


def config_from_dict(algo: str, data: Mapping[str, Any]) -> Config:
    """Read a configuration back from the JSON of a run or checkpoint."""
    return config_class(algo).from_dict(data)


def build(
    algo: str, config: Config, spec: ObsSpec, seed: int, device: torch.device | None = None
) -> Algorithm:
    """Make a learner with fresh weights.

    Args:
        algo: Key of :data:`ALGORITHMS`.
        config: Its configuration.
        spec: What it looks at.
        seed: Root seed of the run; the weights are a function of it.
        device: Where it lives; the CPU if None.
    """
    kind: Any = algorithm_class(algo)
    with init_seeded(derive_seed(seed, "weights")):
        learner: Algorithm = kind(config, spec)
    return learner.to(device) if device is not None else learner
