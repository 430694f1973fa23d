"""Confidence intervals of success rates."""

from __future__ import annotations

import math


def wilson(successes: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Return Wilson's score interval of a rate; unlike the normal one it never leaves [0, 1], even at 0 of n.

    Args:
        successes: How often it happened.
        n: Out of how many, at least 1.
        z: Standard normal quantile; 1.96 covers 95 %.

    Returns:
        Low and high end.

    Raises:
        ValueError: ``n`` is less than 1 or ``successes`` is not within [0, n].
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"{successes} of {n} is no rate: need 0 <= successes <= n and n >= 1")
    rate = successes / n
    centre = rate + z * z / (2 * n)
    half = z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def mcnemar(only_a: int, only_b: int) -> float:
    """Return the exact two-sided p-value that two paired rates are equal (McNemar's test).

    Args:
        only_a: Pairs in which only A succeeded.
        only_b: Pairs in which only B succeeded.

    Returns:
        Probability, if the rates were equal, of discordant pairs at least as lopsided; 1 if there are none.
    """
    n, k = only_a + only_b, min(only_a, only_b)
    tail = ways = 1  # of integers, of any size
    for i in range(k):
        ways = ways * (n - i) // (i + 1)  # n over i + 1, from n over i
        tail += ways
    return min(1.0, 2 * (tail / (1 << n)))
