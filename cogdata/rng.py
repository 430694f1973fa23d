"""Random streams by name: the same names give the same numbers in any process, in any order of calls."""

from __future__ import annotations

import hashlib

import numpy as np


def derive_seed(*names: str | int) -> int:
    """Derive a 63-bit seed from a path of names.

    Args:
        *names: What the stream is for, from the general to the special: root seed, purpose, index.

    Returns:
        An integer in [0, 2**63), a pure function of the names; it fits a signed 64-bit SQL column.
    """
    text = "\x1f".join(f"{type(name).__name__}:{name}" for name in names)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def generator(*names: str | int) -> np.random.Generator:
    """Open the random stream of that name (Philox, counter based).

    Args:
        *names: As in :func:`derive_seed`.

    Returns:
        A generator whose draws depend on the names alone.
    """
    return np.random.Generator(np.random.Philox(key=derive_seed(*names)))
