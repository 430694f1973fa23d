"""Benchmark of the learners: time per update and its parts, and a check that resuming changes no bit.

Batches are random numbers of the real shapes, built beforehand, so the learner alone is measured. On a busy
machine compare CPU time; on an idle one, wall time. On a busy machine OMP_WAIT_POLICY=PASSIVE keeps threads
from spinning while they wait for each other.

    python -m bench.learners                    # ms per update, two threads
    python -m bench.learners --parts            # time of the parts of CQL's updates, and the peak
    python -m bench.learners --parts --algo sac --preset fast --sees image
    python -m bench.learners --resume 500       # 2 x 500 updates with a resume in between against 1 x 1000
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from cogdata.rng import generator
from cogdata.storage.manifest import Manifest, MixtureInfo, SourceCounts, Stats
from cogdata.storage.store import Store
from cogdata.streaming.stream import StreamOptions
from cogdata.streaming.transitions import Batch, Observation
from trainers.algos import ALGORITHMS, build, configure
from trainers.obs_kinds import OBS_KINDS
from trainers.training.batches import spec_of, tensor_batch
from trainers.training.request import TrainRequest
from trainers.training.train import train

TRAY_SCENE_FIELDS = (
    "object_x_m", "object_y_m", "object_z_m", "object_qx", "object_qy", "object_qz", "object_qw",
    "object_width_m", "object_depth_m", "object_height_m",
)  # fmt: skip
"""Names of the scene vector of the tray world."""
BARS_MS = {
    ("bfn", "fast", "state"): 20.0,
    ("bc", "fast", "state"): 4.0,
    ("cql", "fast", "state"): 10.0,
    ("cql", "paper", "image"): 450.0,
}
"""Upper bounds of the wall time per update on two threads of an idle machine."""


def make_manifest(size: int) -> Manifest:
    """Return a manifest without episodes, with the statistics and sizes that a learner reads."""
    counts = {"prior": SourceCounts(0, 0, 0, 0), "task": SourceCounts(0, 0, 0, 0)}
    info = MixtureInfo(
        "noise", 1, "0" * 64, "", "episode", {}, counts, (size, size), TRAY_SCENE_FIELDS, "", "0"
    )
    dims = {"robot": 10, "scene": len(TRAY_SCENE_FIELDS), "action": 8}
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
        count, parts = self.options.batch_size, {}
        for one in self.options.features(make_manifest(self.size).info.spec):
            shape = (count, *one.shape)
            if one.is_image:
                parts[one.name] = rng.integers(0, 256, shape, np.uint8)
            else:
                parts[one.name] = rng.standard_normal(shape, np.float32)
        return Observation(parts)


@dataclass(frozen=True)
class Case:
    """A learner to measure."""

    algo: str
    preset: str
    kind: str
    overrides: tuple[str, ...] = ()

    @property
    def bar_ms(self) -> float | None:
        """Upper bound of its wall time per update, if any."""
        return BARS_MS.get((self.algo, self.preset, self.kind))

    @property
    def rounds(self) -> tuple[int, int]:
        """Number of rounds, and of updates per round; many short ones, of which the fastest counts."""
        if self.kind == "state":
            return 15, 10
        return (5, 4) if self.preset == "fast" else (5, 1)


def stepper(case: Case) -> tuple[Callable[[int], None], int]:
    """Build a learner past its warm start; return a function that does update n, and the batch size."""
    config = configure(case.algo, case.preset, case.overrides)
    spec = spec_of(case.kind, make_manifest(48))
    learner = build(case.algo, config, spec, 0)
    learner.updates_done = getattr(config, "warm_start", 0)
    source = Noise(StreamOptions(batch_size=config.batch_size, columns=OBS_KINDS[case.kind]))
    batches = [tensor_batch(source.batch(i), spec.obs.names, torch.device("cpu")) for i in range(2)]
    noise = torch.Generator()

    def step(number: int) -> None:
        learner.update(batches[number % 2], noise.manual_seed(number))

    for number in range(3):
        step(number)
    return step, config.batch_size


def time_updates(case: Case) -> tuple[float, float, float, int]:
    """Return ms per update (minimal CPU, median and minimal wall time) and the batch size."""
    step, batch = stepper(case)
    rounds, updates = case.rounds
    cpu, wall = [], []
    for _ in range(rounds):
        cpu_began, wall_began = time.process_time(), time.perf_counter()
        for number in range(updates):
            step(number)
        cpu.append((time.process_time() - cpu_began) / updates * 1e3)
        wall.append((time.perf_counter() - wall_began) / updates * 1e3)
    return min(cpu), statistics.median(wall), min(wall), batch


def report_speed(overrides: tuple[str, ...]) -> None:
    """Print a line per algorithm and kind of observation, and per bound of another preset."""
    print(f"{'algorithm':<10}{'preset':<8}{'sees':<13}{'batch':>6}{'CPU ms':>9}{'wall ms':>9}{'least':>9}")
    cases = [Case(algo, "fast", kind, overrides) for kind in OBS_KINDS for algo in ALGORITHMS]
    cases += [Case(*key, overrides) for key in BARS_MS if key[1] != "fast"]
    for case in cases:
        cpu, wall, least, batch = time_updates(case)
        bar = case.bar_ms if torch.get_num_threads() == 2 else None
        verdict = "" if bar is None else f"   ≤ {bar:g} ms on 2 threads: {'yes' if least <= bar else 'NO'}"
        print(
            f"{case.algo:<10}{case.preset:<8}{case.kind:<13}{batch:>6}{cpu:>9.1f}{wall:>9.1f}{least:>9.1f}"
            f"{verdict}"
        )


def peak_gflops() -> float:
    """Return the GFLOP/s of the fastest of ten float32 products of 2048 × 2048 matrices."""
    a, b = torch.randn(2, 2048, 2048).unbind()
    seconds = []
    for _ in range(10):
        began = time.perf_counter()
        a @ b
        seconds.append(time.perf_counter() - began)
    return 2 * 2048**3 / min(seconds) / 1e9


KINDS = {
    "mm": "products", "bmm": "products", "addmm": "products", "baddbmm": "products",
    "mkldnn_convolution": "convolutions", "convolution_backward": "convolutions",
    "max_pool2d_with_indices": "pooling", "max_pool2d_with_indices_backward": "pooling",
    "_fused_adam_": "optimisers", "lerp_": "averages", "index": "crops",
}  # fmt: skip
"""Operation → kind of work in an update; all others are elementwise."""


def parts_of(step: Callable[[int], None]) -> dict[tuple[str, str], float]:
    """Profile a few updates; return (forward or backward, kind of work) → fraction of the time."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for number in range(5):
            step(number)
    spent: dict[tuple[str, str], float] = {}
    for event in profiler.events():
        phase, above = "forward", event
        while above is not None:
            if above.name.startswith("autograd::engine"):
                phase = "backward"
            above = above.cpu_parent
        key = (phase, KINDS.get(event.name.removeprefix("aten::"), "elementwise, Python"))
        spent[key] = spent.get(key, 0.0) + event.self_cpu_time_total
    whole = sum(spent.values())
    return {key: value / whole for key, value in spent.items()}


def report_parts(case: Case) -> None:
    """Print the time of the parts of an update, and its fraction of the processor's peak."""
    step, batch = stepper(case)
    with FlopCounterMode(display=False) as counter:
        step(0)
    gflop, peak = counter.get_total_flops() / 1e9, peak_gflops()
    cpu, wall, least, _ = time_updates(case)
    print(
        f"{case.algo}, preset {case.preset}, {case.kind}, batch {batch}: {cpu:.1f} ms CPU, {wall:.1f} ms wall"
    )
    print(
        f"  {gflop:.2f} GFLOP in the fastest round's {least:.1f} ms: {gflop / least * 1e3:.0f} GFLOP/s, "
        f"{gflop / least * 1e3 / peak:.0%} of the peak of matrix products here, {peak:.0f} GFLOP/s"
    )
    for (phase, kind), share in sorted(parts_of(step).items(), key=lambda item: -item[1]):
        if share >= 0.005:
            print(f"  {phase:<10}{kind:<22}{share:>5.0%}{share * least:>9.2f} ms")


def final_state(algo: str, kind: str, stops: list[int]) -> bytes:
    """Train to each stop in turn, resuming each time; return the last checkpoint."""
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
    """Print whether two resumed halves equal one whole run, byte for byte."""
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
    parser.add_argument("--parts", action="store_true", help="time of the parts of an update")
    parser.add_argument("--algo", default="cql", choices=ALGORITHMS, help="of --parts")
    parser.add_argument("--preset", choices=("fast", "paper"), help="of --parts; without it CQL's two bars")
    parser.add_argument("--sees", default="state", choices=OBS_KINDS, help="of --parts")
    parser.add_argument(
        "--resume", type=int, default=0, metavar="UPDATES", help="check resuming after so many updates"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    overrides = tuple(options.overrides)
    if options.resume:
        report_resume(options.resume)
    elif options.parts and options.preset:
        report_parts(Case(options.algo, options.preset, options.sees, overrides))
    elif options.parts:
        report_parts(Case("cql", "fast", "state", overrides))
        report_parts(Case("cql", "paper", "image", overrides))
    else:
        report_speed(overrides)


if __name__ == "__main__":
    main()
