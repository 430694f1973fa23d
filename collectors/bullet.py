"""PyBullet, imported without the line that it prints; an ImportError where it is not installed."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Send the C-level stdout and stderr of this process nowhere: PyBullet prints there, bypassing Python."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = (os.dup(1), os.dup(2))
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 1)
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(saved[0], 1)
        os.dup2(saved[1], 2)
        for descriptor in (*saved, null):
            os.close(descriptor)


with silenced():
    import pybullet as pybullet
    from pybullet_utils.bullet_client import BulletClient as BulletClient
