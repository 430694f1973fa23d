"""Folders that are filled once per test session, whichever worker of pytest-xdist needs them first."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import filelock
import pytest


def prepared(factory: pytest.TempPathFactory, name: str, fill: Callable[[Path], None]) -> Path:
    """Return a folder that no test may change; copy it to do harm to.

    Args:
        factory: Knows the folder of the session.
        name: Unique within the session.
        fill: Called with the folder, which does not exist yet; only in one worker, while others wait.
    """
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # each worker has a folder of its own within the session's
        base = base.parent
    folder, done = base / name, base / f"{name}.done"
    with filelock.FileLock(base / f"{name}.lock"):
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a worker that failed half-way
            fill(folder)
            done.touch()
    return folder
