"""Memory: what is free, and what a stream will take; cores: what others keep busy."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from cogdata.errors import CogError
from cogdata.storage.manifest import Manifest
from cogdata.storage.store import Store
from cogdata.streaming import footprint
from cogdata.streaming.stream import StreamOptions
from cogdata.system.machine import OtherPrograms, free_memory, usable_cores
from tests.synthetic import make_manifest, write_episodes

KIB = 1024


@pytest.fixture
def meminfo(tmp_path: Path) -> Path:
    """8,000 KiB available and 1,000 KiB of free swap."""
    path = tmp_path / "meminfo"
    path.write_text(
        "MemTotal:       16000 kB\nMemAvailable:    8000 kB\nSwapFree:        1000 kB\nHugePages_Total:       0\n"
    )
    return path


def container(folder: Path, limit: str) -> Path:
    """6,000 KiB taken, 2,500 KiB of them by files that the system keeps at hand."""
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{6000 * KIB}\n")
    (folder / "memory.stat").write_text(f"anon {3500 * KIB}\nfile {2500 * KIB}\n")
    return folder


def test_there_is_a_core_and_some_memory_here() -> None:
    assert usable_cores() >= 1
    assert (free_memory() or 0) > 2**20


def test_free_is_what_the_system_has(tmp_path: Path, meminfo: Path) -> None:
    assert free_memory(meminfo, tmp_path / "none") == 9000 * KIB
    assert free_memory(meminfo, container(tmp_path, "max")) == 9000 * KIB


def test_a_container_has_what_its_limit_leaves(tmp_path: Path, meminfo: Path) -> None:
    """10,000 KiB less 3,500 KiB; a limit far above leaves what the system has."""
    assert free_memory(meminfo, container(tmp_path, str(10_000 * KIB))) == 6500 * KIB
    assert free_memory(meminfo, container(tmp_path, str(99_000 * KIB))) == 9000 * KIB


def test_what_is_not_said_is_not_known(tmp_path: Path) -> None:
    assert free_memory(tmp_path / "none") is None
    (tmp_path / "odd").write_text("MemFree: 1 kB\n")
    assert free_memory(tmp_path / "odd") is None


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """3 episodes of 4 actions and 5 frames of 4×4 pixels, two scene fields."""
    rows = write_episodes(Store(str(tmp_path / "store")), "demo", 3)
    return make_manifest(rows, ["data"] * 3)


def test_a_footprint_is_frames_and_batches(manifest: Manifest) -> None:
    """A frame: 48 image + 40 robot + 8 scene, and 32 action + 4 reward + 1 + 2 = 135 bytes.

    15 frames are 2,025 bytes; 4 batches of 10 transitions of 2 frames 10,800.
    """
    assert footprint.footprint(manifest, StreamOptions(10, memory_bytes=10**6)) == (2025, 10_800)
    assert footprint.footprint(manifest, StreamOptions(10, memory_bytes=1000)) == (1000, 10_800)
    state = StreamOptions(1, columns=("robot", "scene"), memory_bytes=10**6)
    assert footprint.footprint(manifest, state) == (15 * 87, 8 * 87)


def test_what_does_not_fit_is_said_before_it_is_taken(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = StreamOptions(10, memory_bytes=10**6)
    for free in (12_825, None):
        monkeypatch.setattr(footprint, "free_memory", lambda free=free: free)
        footprint.check_memory(manifest, options)
    monkeypatch.setattr(footprint, "free_memory", lambda: 12_824)
    with pytest.raises(CogError, match=r"^a pool of 0\.0 GB and batches of 0\.0 GB do not fit the 0\.0 GB that "
                                       r"are free: give --memory or a smaller batch"):  # fmt: skip
        footprint.check_memory(manifest, options)


def test_other_programs_are_what_is_busy_beside_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tick, clock, stat = os.sysconf("SC_CLK_TCK"), [100.0], tmp_path / "stat"
    own = [1.0]
    monkeypatch.setattr("cogdata.system.machine.time.monotonic", lambda: clock[0])
    monkeypatch.setattr("cogdata.system.machine.os.times", lambda: SimpleNamespace(user=own[0], system=0.0))

    def busy(seconds: float) -> None:
        used = [round(seconds * tick / 5)] * 5
        stat.write_text(f"cpu  {used[0]} {used[1]} {used[2]} 999 7 {used[3]} {used[4]} 0 0 0\ncpu0 1 2\n")

    busy(50)
    others = OtherPrograms(stat)
    clock[0] += 1
    assert others.cores() is None, "too early"
    clock[0] += 9
    busy(70)
    own[0] += 5
    assert others.cores() == pytest.approx(1.5, abs=0.02)
    busy(50)
    assert others.cores() == 0.0
    stat.write_text("")
    assert others.cores() is None
    assert OtherPrograms(tmp_path / "none").cores() is None
