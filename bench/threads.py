"""Benchmark of threads: updates per second on one and two threads, idle and beside busy processes.

OpenMP threads spin while they wait for each other. On a busy machine a waiting thread can keep the core that
the other one needs. The spinning time is set in `trainers/__init__.py`. Each measurement runs in a separate
process; the settings alternate, and the ratio is the median over the rounds.

    python -m bench.threads                     # idle
    python -m bench.threads --busy 2            # beside two busy processes
    python -m bench.threads --spins 1000 --spins 30000 --rounds 15
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_WORKER = """
import sys, time
import trainers  # before torch: it bounds the spinning
import torch
from bench.learners import Case, stepper
torch.set_num_threads(int(sys.argv[1]))
step, _ = stepper(Case(sys.argv[2], "fast", "state"))
began, updates = time.perf_counter(), 0
while time.perf_counter() - began < float(sys.argv[3]):
    step(updates)
    updates += 1
print(updates / (time.perf_counter() - began))
"""


def measure(algo: str, threads: int, spins: str | None, seconds: float) -> float:
    """Return updates per second in a new process; ``spins`` None: the default setting."""
    said = os.environ | ({} if spins is None else {"GOMP_SPINCOUNT": spins})
    command = [sys.executable, "-c", _WORKER, str(threads), algo, str(seconds)]
    done = subprocess.run(command, env=said, capture_output=True, text=True, check=True)
    return float(done.stdout)


def _work() -> None:
    while True:
        pass


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Return a context with a number of busy processes."""
    others = [multiprocessing.Process(target=_work, daemon=True) for _ in range(count)]
    for other in others:
        other.start()
    try:
        yield
    finally:
        for other in others:
            other.kill()


def main() -> None:
    """Print updates per second of each setting, and the ratio to two threads with the system's spinning."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--algo", default="bfn")
    parser.add_argument("--busy", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--spins", action="append", default=[])
    asked = parser.parse_args()
    ways = {"1 thread": (1, None), "2 threads": (2, None), "2 threads, 300000 spins": (2, "300000")}
    ways |= {f"2 threads, {spins} spins": (2, spins) for spins in asked.spins}
    found: dict[str, list[float]] = {name: [] for name in ways}
    with busy(asked.busy):
        for _ in range(asked.rounds):
            for name, (threads, spins) in ways.items():
                found[name].append(measure(asked.algo, threads, spins, asked.seconds))
    usual = found["2 threads, 300000 spins"]
    for name, rates in found.items():
        ratio = statistics.median(a / b for a, b in zip(rates, usual, strict=True))
        print(f"{name:28} {statistics.median(rates):8.1f} updates/s   x {ratio:.2f} of 300000 spins")


if __name__ == "__main__":
    main()
