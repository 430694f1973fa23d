"""Benchmark of streams: time to fill the replay pool, and transitions per second.

It alternates with webdataset's default pipeline over the same episodes: one sample per transition, two PNGs
each, shuffled, decoded, batched.

    python -m bench.stream --root cog-store --mixture place_in_tray --memory 500MB
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import webdataset

from cogdata.storage.manifest import Manifest, read_manifest
from cogdata.storage.samples import Sample, floats, read_frames, read_steps
from cogdata.storage.store import Store, open_store
from cogdata.streaming.stream import StreamOptions, open_stream
from cogdata.units import parse_bytes

BATCH_SIZE = 256
COMPARISON_ROUNDS = 5


def write_peer(store: Store, manifest: Manifest, episodes: int, folder: Path) -> tuple[str, int]:
    """Write the first episodes as webdataset samples; return the shard pattern and bytes per transition."""
    height, width = manifest.info.camera_size
    pattern = str(folder / "peer-%06d.tar")
    count = 0
    with webdataset.ShardWriter(pattern, maxcount=2000, verbose=0) as sink:
        for row in manifest.episodes.slice(0, episodes).to_pylist():
            sample = Sample.of(row)
            steps = read_steps(store, sample)
            image = np.empty((steps.num_rows, height, width, 3), np.uint8)
            read_frames(store, sample, image)
            action = floats(steps, "action")
            for t in range(steps.num_rows - 1):
                sink.write(
                    {
                        "__key__": f"{count:08d}",
                        "now.png": _png(image[t]),
                        "next.png": _png(image[t + 1]),
                        "action.npy": _npy(action[t]),
                        "reward.npy": _npy(np.float32(steps.column("reward")[t].as_py())),
                    }
                )
                count += 1
    shards = sorted(folder.glob("peer-*.tar"))
    size = sum(path.stat().st_size for path in shards)
    return f"{folder}/peer-{{000000..{len(shards) - 1:06d}}}.tar", size // count


def _png(image: np.ndarray[Any, Any]) -> bytes:
    return cv2.imencode(".png", image[:, :, ::-1])[1].tobytes()


def _npy(values: np.ndarray[Any, Any] | np.float32) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


def peer_batches(pattern: str) -> Iterator[Any]:
    """Yield batches of webdataset's documented pipeline."""
    while True:
        yield from (
            webdataset.WebDataset(pattern, shardshuffle=100)
            .shuffle(1000)
            .decode("rgb8")
            .to_tuple("now.png", "next.png", "action.npy", "reward.npy")
            .batched(BATCH_SIZE)
        )


def rate(batches: Iterator[Any], seconds: float) -> float:
    """Return transitions per second, measured over about ``seconds``."""
    next(batches)
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        next(batches)
        count += BATCH_SIZE
    return count / (time.perf_counter() - start)


def bounded_memory(root: str, mixture: str, memory: int) -> tuple[float, float]:
    """Return peak memory (MB) and transitions per second of a process with a memory budget."""
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=_bounded, args=(root, mixture, memory, send))
    process.start()
    result: tuple[float, float] = receive.recv()
    process.join()
    return result


def _bounded(root: str, mixture: str, memory: int, send: Connection) -> None:
    store = open_store(root)
    stream = open_stream(store, read_manifest(store, mixture), StreamOptions(BATCH_SIZE, memory_bytes=memory))
    batches = stream.batches()
    speed = rate(batches, 20)
    send.send((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, speed))
    batches.close()  # type: ignore[attr-defined]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root")
    parser.add_argument("--mixture", default="place_in_tray")
    parser.add_argument("--memory", default="500MB")
    parser.add_argument("--peer-episodes", type=int, default=200)
    options = parser.parse_args()
    store = open_store(options.root)
    start = time.perf_counter()
    manifest = read_manifest(store, options.mixture)
    print(
        f"{manifest.info.ref}: {len(manifest.episodes)} episodes; "
        f"manifest read in {time.perf_counter() - start:.2f} s"
    )
    peak, speed = bounded_memory(store.url, options.mixture, parse_bytes(options.memory))
    print(f"--memory {options.memory}: peak {peak:.0f} MB of the whole process, {speed:,.0f} transitions/s")
    stream = open_stream(store, manifest, StreamOptions(BATCH_SIZE))
    start = time.perf_counter()
    stream.batch(0)
    seconds = time.perf_counter() - start
    frames = sum(row["steps"] + 1 for row in manifest.episodes.select(["steps"]).to_pylist())
    print(f"pool filled with {frames:,} frames in {seconds:.2f} s ({frames / seconds:,.0f} frames/s)")
    with tempfile.TemporaryDirectory() as folder:
        pattern, size = write_peer(store, manifest, options.peer_episodes, Path(folder))
        ours, peers = [], []
        for _ in range(COMPARISON_ROUNDS):
            ours.append(rate(stream.batches(), 2))
            peers.append(rate(peer_batches(pattern), 4))
    ratio = statistics.median(ours) / statistics.median(peers)
    print(f"ours: {statistics.median(ours):,.0f} transitions/s (median of {COMPARISON_ROUNDS})")
    print(f"webdataset default: {statistics.median(peers):,.0f} transitions/s, {size:,} bytes per transition")
    print(f"ratio of medians: {ratio:.1f}")


if __name__ == "__main__":
    main()
