"""Sizes as people type them."""

from __future__ import annotations

import re

from cogdata.errors import CogError

_FACTORS = {"": 1, "B": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def parse_bytes(text: str) -> int:
    """Read ``500MB``, ``2G``, ``1.5 GiB`` or a plain number of bytes.

    Args:
        text: What was typed.

    Raises:
        CogError: It is none of these, or not above 0.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(I?)B?\s*", text, re.IGNORECASE)
    if match:
        unit = match[2].upper()
        factor = 1024 ** "BKMGT".index(unit or "B") if match[3] else _FACTORS[unit]
        size = int(float(match[1]) * factor)
        if size > 0:
            return size
    raise CogError(f"size {text!r} must be a number with a unit, for example 500MB or 2GiB")
