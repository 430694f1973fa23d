"""Algorithms that learn from streams of transitions, training runs, evaluation."""

from __future__ import annotations

import os
from typing import Final

SPINS: Final = 1_000
"""How often an OpenMP thread looks for work before it sleeps; OpenMP itself: 300,000 (`bench.threads`)."""


def bound_spinning(environment: os._Environ[str] | dict[str, str]) -> None:
    """Bound how long waiting threads spin, unless the user has said it.

    Two threads that wait for each other spin on a core that another program, or the very thread that is
    waited for, may need. It has to be said before torch is loaded.

    Args:
        environment: Variables of this process; changed.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & environment.keys():
        environment["GOMP_SPINCOUNT"] = str(SPINS)


bound_spinning(os.environ)
