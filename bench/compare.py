"""Comparison of two checkouts of the project: ratio of their CPU times, with an interval.

Each measurement is the CPU time of a new process for the same work. The two checkouts alternate, so that both
run under the same load. Printed are the median of the ratios (this one to the other) and its 95 % interval by
bootstrap. Below 1 this checkout is faster.

    python -m bench.compare ../old --root cog-store --mixture place_in_tray@1
    python -m bench.compare ../old --only world --rounds 20
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

from cogdata.rng import generator

_CLOCK = """
import time
def spent(work, warm):
    warm()
    began = time.process_time()
    work()
    print(time.process_time() - began)
"""

_LEARNER = """
import torch
from bench.learners import Case, stepper
torch.set_num_threads(1)
step, _ = stepper(Case("{algo}", "fast", "{kind}"))
spent(lambda: [step(n) for n in range({updates})], lambda: [step(n) for n in range(3)])
"""

_STREAM = """
from itertools import islice
try:
    from cogdata.storage.manifest import read_manifest
    from cogdata.storage.store import open_store
    from cogdata.streaming.stream import Stream, StreamOptions
except ModuleNotFoundError:
    from cogdata.manifest import read_manifest
    from cogdata.store import open_store
    from cogdata.stream import Stream, StreamOptions
store = open_store({root!r})
stream = Stream(store, read_manifest(store, {mixture!r}), StreamOptions(256, memory_bytes={memory}))
batches = stream.batches()
spent(lambda: [next(batches) for _ in range({count})], lambda: next(batches))
"""

_WORLD = """
from bench.world import play
from collectors.envs import make
from collectors.policies import POLICIES
env = make(POLICIES["{policy}"].default_env, horizon=POLICIES["{policy}"].horizon)
spent(lambda: play(env, "{policy}", 8), lambda: play(env, "{policy}", 1))
"""

RESAMPLES = 2000


def probes(root: str, mixture: str) -> dict[str, str]:
    """Return name → code to measure; "stream" needs a store."""
    learners = {
        f"learners {algo} {kind}": _LEARNER.format(algo=algo, kind=kind, updates=updates)
        for algo, kind, updates in (
            ("bc", "state", 200), ("bfn", "state", 60), ("cql", "state", 60), ("bc", "image", 10),
        )
    }  # fmt: skip
    world = {f"world {name}": _WORLD.format(policy=name) for name in ("weak_grasp", "drawer_open")}
    whole = _STREAM.format(root=root, mixture=mixture, memory=2**32, count=600)
    moving = _STREAM.format(root=root, mixture=mixture, memory=2 * 10**8, count=150)
    return learners | world | ({"stream whole": whole, "stream moving": moving} if root else {})


def seconds(checkout: Path, code: str) -> float:
    """Return the CPU seconds of a piece of code, run in a checkout."""
    environment = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", _CLOCK + code], cwd=checkout, env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{checkout}: {done.stderr.strip().splitlines()[-1]}")
    return float(done.stdout.split()[-1])


def interval(ratios: list[float]) -> tuple[float, float]:
    """Return the 95 % interval of the median, by bootstrap."""
    rng = generator("compare", len(ratios))
    medians = sorted(statistics.median(rng.choice(ratios, len(ratios)).tolist()) for _ in range(RESAMPLES))
    return medians[int(0.025 * RESAMPLES)], medians[int(0.975 * RESAMPLES)]


def main() -> None:
    """Print a line per probe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("other", type=Path, help="another checkout")
    parser.add_argument("--root", default="", help="store for the stream")
    parser.add_argument("--mixture", default="place_in_tray")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--only", default="", help="probes whose name begins so")
    asked = parser.parse_args()
    here, other = Path(__file__).resolve().parent.parent, asked.other.resolve()
    root = str(Path(asked.root).resolve()) if asked.root else ""
    for name, code in probes(root, asked.mixture).items():
        if not name.startswith(asked.only):
            continue
        ratios = []
        for turn in range(asked.rounds):
            first, second = (here, other) if turn % 2 else (other, here)
            found = {first: seconds(first, code), second: seconds(second, code)}
            ratios.append(found[here] / found[other])
        low, high = interval(ratios)
        print(f"{name:22} {statistics.median(ratios):.3f} [{low:.3f}, {high:.3f}]", flush=True)


if __name__ == "__main__":
    main()
