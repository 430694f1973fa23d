"""Benchmark of several seeds at once: cost of three together, compared with one on all threads.

A small tray mixture is collected first. Then `cog train` is measured, alternating one seed on two threads
with three seeds at once on one thread each. The start-up time is measured by runs of one update and
subtracted from both. CPU time is printed too, because the ratio of wall times means little on a busy machine.

    python -m bench.paper.seeds                         # bfn and cql, state observations
    python -m bench.paper.seeds --algo bfn --updates 1000 --rounds 5
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

import cli

BAR = 1.8
"""Upper bound of the cost of three seeds at once, relative to one seed."""
SEEDS_AT_ONCE = 3


def cog(root: str, *command: str) -> tuple[float, float]:
    """Run a command; return (wall, CPU) seconds."""
    before, began = os.times(), time.perf_counter()
    subprocess.run([sys.executable, cli.__file__, *command, "--root", root], check=True, capture_output=True)
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - began, cpu


def train(root: str, algo: str, updates: int, first: int, *, together: bool) -> tuple[float, float]:
    """Measure new runs: one of seed ``first``, or three from it on."""
    chosen = (
        ("--seeds", f"{first}:{first + SEEDS_AT_ONCE}", "--threads", "1")
        if together
        else ("--seed", str(first))
    )
    threads = () if together else ("--threads", "2")
    same = (
        "train",
        "--mixture",
        "place_in_tray",
        "--algo",
        algo,
        "--obs",
        "state",
        "--updates",
        str(updates),
    )
    return cog(root, *same, *chosen, *threads)


def compare(root: str, algo: str, updates: int, rounds: int) -> None:
    """Measure an algorithm and print a line."""
    found: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    first = 0
    for _ in range(rounds):
        for together in (False, True):
            short = train(root, algo, 1, first, together=together)
            first += SEEDS_AT_ONCE
            whole = train(root, algo, updates, first, together=together)
            first += SEEDS_AT_ONCE
            found[together].append((whole[0] - short[0], whole[1] - short[1]))
    wall = {key: statistics.median(times[0] for times in rows) for key, rows in found.items()}
    cpu = {key: statistics.median(times[1] for times in rows) for key, rows in found.items()}
    ratio = wall[True] / wall[False]
    print(
        f"{algo:<8}{updates:>7}{wall[False]:>9.1f}{wall[True]:>9.1f}{ratio:>8.2f}{cpu[False]:>10.1f}{cpu[True]:>9.1f}"
        f"   ≤ {BAR}: {'yes' if ratio <= BAR else 'NO'}",
        flush=True,
    )


def main() -> None:
    """Read the command line and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--algo", action="append", default=[], help="may be given several times")
    parser.add_argument("--updates", type=int, default=600, help="updates of a run")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        for policy, episodes in (("weak_grasp", 200), ("place", 100)):
            cog(root, "collect", "--policy", policy, "--episodes", str(episodes), "--image-size", "16")
        train(root, "bc", 1, 0, together=False)  # freezes the mixture
        print(f"{'':8}{'updates':>7}{'one s':>9}{'three s':>9}{'ratio':>8}{'CPU one':>10}{'three':>9}   bar")
        for algo in options.algo or ["bfn", "cql"]:
            compare(root, algo, options.updates, options.rounds)


if __name__ == "__main__":
    main()
