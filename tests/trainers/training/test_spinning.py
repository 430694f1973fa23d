"""Waiting threads spin for a bounded time, unless the user says otherwise."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from trainers import SPINS, bound_spinning


@pytest.mark.parametrize(
    ("said", "spins"),
    [({}, str(SPINS)), ({"OMP_WAIT_POLICY": "ACTIVE"}, None), ({"GOMP_SPINCOUNT": "7"}, "7")],
)
def test_what_the_user_says_counts(said: dict[str, str], spins: str | None) -> None:
    environment = dict(said)
    bound_spinning(environment)
    assert environment.get("GOMP_SPINCOUNT") == spins


def test_it_is_said_before_torch_is_loaded() -> None:
    code = "import sys, os, trainers; print(os.environ['GOMP_SPINCOUNT'], 'torch' in sys.modules)"
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_"))}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(SPINS), "False"]
