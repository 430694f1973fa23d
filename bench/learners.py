"""Learning: milliseconds per gradient step of every algorithm, and whether a resumed run is the same run.

Batches are random numbers of the real shapes, prepared beforehand: what is measured is the learner alone.
Process CPU time is the figure to compare on a busy machine, wall time the one to wait for.

    python -m bench.learners                    # ms per update, two threads
    python -m bench.learners --resume 500       # 2 x 500 updates with a resume in between against 1 x 1000
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from cogdata.manifest import Manifest, MixtureInfo, SourceCounts, Stats
from cogdata.rng import generator
from cogdata.store import Store
from cogdata.stream import StreamOptions
from cogdata.transitions import Batch, Observation
from trainers.algorithm import OBS_KINDS
from trainers.algos import ALGORITHMS, build, configure
from trainers.batches import obs_spec, tensor_batch
from trainers.request import TrainRequest
from trainers.train import train

SCENE = (
    "object_x_m", "object_y_m", "object_z_m", "object_qx", "object_qy", "object_qz", "object_qw",
    "object_width_m", "object_depth_m", "object_height_m",
)  # fmt: skip
"""The scene vector of the tray world."""
BARS_MS = {("bfn", "state"): 20.0, ("bc", "state"): 4.0}
"""Wall time per update on two threads of an idle machine that these should not exceed."""
ROUNDS = 5


def make_manifest(size: int) -> Manifest:
    """A manifest without episodes: its statistics and sizes are all that a learner reads."""
    counts = {"prior": SourceCounts(0, 0, 0, 0), "task": SourceCounts(0, 0, 0, 0)}
    info = MixtureInfo("noise", 1, "0" * 64, "", "episode", {}, counts, (size, size), SCENE, "", "0")
    dims = {"robot": 10, "scene": len(SCENE), "action": 8}
    return Manifest(
        info,
        None,
        None,
        Stats({k: [0.0] * n for k, n in dims.items()}, {k: [1.0] * n for k, n in dims.items()}),
    )


@dataclass(frozen=True)
class Noise:
    """Random batches of the real shapes; number ``position`` depends on (seed, position) alone."""

    options: StreamOptions
    size: int = 48

    def batch(self, position: int) -> Batch:
        """Return batch number ``position``."""
        rng, count = generator("noise", self.options.seed, position), self.options.batch_size
        return Batch(
            self._observe(rng),
            rng.uniform(-0.9, 0.9, (count, 8)).astype(np.float32),
            (rng.random(count) < 0.2).astype(np.float32),
            self._observe(rng),
            np.zeros(count, bool),
            np.zeros(count, np.int16),
        )

    def batches(self, start: int = 0) -> Iterator[Batch]:
        """Yield batches from number ``start`` on."""
        while True:
            yield self.batch(start)
            start += 1

    def _observe(self, rng: np.random.Generator) -> Observation:
        count, columns = self.options.batch_size, self.options.columns
        return Observation(
            rng.integers(0, 256, (count, self.size, self.size, 3), np.uint8) if "image" in columns else None,
            rng.standard_normal((count, 10), np.float32) if "robot" in columns else None,
            rng.standard_normal((count, len(SCENE)), np.float32) if "scene" in columns else None,
        )


def time_updates(algo: str, kind: str, updates: int, overrides: list[str]) -> tuple[float, float, int]:
    """Return (CPU ms, wall ms) per update, each the median of the rounds, and the batch size."""
    config = configure(algo, "fast", overrides)
    spec = obs_spec(kind, make_manifest(48))
    learner = build(algo, config, spec, 0)
    source = Noise(StreamOptions(batch_size=config.batch_size, columns=OBS_KINDS[kind]))
    batches = [tensor_batch(source.batch(i), spec.parts, torch.device("cpu")) for i in range(4)]
    noise = torch.Generator()
    for update in range(3):
        learner.update(batches[update], noise.manual_seed(update))
    cpu, wall = [], []
    for _ in range(ROUNDS):
        cpu_began, wall_began = time.process_time(), time.perf_counter()
        for update in range(updates):
            learner.update(batches[update % 4], noise.manual_seed(update))
        cpu.append((time.process_time() - cpu_began) / updates * 1e3)
        wall.append((time.perf_counter() - wall_began) / updates * 1e3)
    return statistics.median(cpu), statistics.median(wall), config.batch_size


def report_speed(threads: int, overrides: list[str]) -> None:
    """Print a line per algorithm and kind of observation."""
    torch.set_num_threads(threads)
    print(f"{'algorithm':<10}{'sees':<13}{'batch':>6}{'CPU ms':>9}{'wall ms':>9}   bar of wall time")
    for kind in OBS_KINDS:
        for algo in ALGORITHMS:
            cpu, wall, batch = time_updates(algo, kind, 40 if kind == "state" else 4, overrides)
            bar = BARS_MS.get((algo, kind))
            judged = "" if bar is None else f"   ≤ {bar:g} ms on 2 threads: {'yes' if wall <= bar else 'NO'}"
            print(f"{algo:<10}{kind:<13}{batch:>6}{cpu:>9.1f}{wall:>9.1f}{judged}")


def final_state(algo: str, kind: str, stops: list[int]) -> bytes:
    """Train to each stop in turn, each time as a new run of the program would; return the last checkpoint."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        for stop in stops:
            batch = 256 if kind == "state" else 16
            config = configure(algo, "fast", [f"updates={stop}", f"batch_size={batch}"])
            request = TrainRequest(
                algo, config, obs=kind, threads=1, tensorboard=False, checkpoint_every=10**9
            )
            info, _ = train(store, make_manifest(48), request, open_stream=Noise)
        base = f"runs/{info.run}/checkpoints/{stops[-1]:08d}"
        return b"".join(store.read_bytes(f"{base}/{name}.safetensors") for name in ("weights", "training"))


def report_resume(half: int) -> None:
    """Print whether two halves equal one whole, byte for byte."""
    for kind in ("state", "image"):
        for algo in ALGORITHMS:
            same = final_state(algo, kind, [half, 2 * half]) == final_state(algo, kind, [2 * half])
            print(
                f"{algo:<10}{kind:<13}2 x {half} resumed == 1 x {2 * half}: {'yes' if same else 'NO'}",
                flush=True,
            )


def main() -> None:
    """Read the command line and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2, help="torch threads")
    parser.add_argument(
        "--set", action="append", default=[], dest="overrides", help="key=value for every algorithm"
    )
    parser.add_argument(
        "--resume", type=int, default=0, metavar="UPDATES", help="check resuming after so many updates"
    )
    options = parser.parse_args()
    if options.resume:
        report_resume(options.resume)
    else:
        report_speed(options.threads, options.overrides)


if __name__ == "__main__":
    main()
