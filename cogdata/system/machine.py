"""What this machine lets the process use."""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

_MEMINFO: Final = Path("/proc/meminfo")
_CGROUP: Final = Path("/sys/fs/cgroup")
_STAT: Final = Path("/proc/stat")
_BUSY_FIELDS: Final = (0, 1, 2, 5, 6)
"""Of the first line of /proc/stat: user, nice, system, irq, softirq (proc(5))."""
_LEAST_S: Final = 5.0


def usable_cores() -> int:
    """Return the number of cores that this process may run on."""
    return len(os.sched_getaffinity(0))


def free_memory(meminfo: Path = _MEMINFO, cgroup: Path = _CGROUP) -> int | None:
    """Return the bytes that this process can still take before something is killed; None: not known.

    That is what the system calls available and its free swap; in a container at most what its limit leaves,
    where files that the system keeps at hand do not count as taken.

    Args:
        meminfo: Where Linux says it.
        cgroup: Folder of the container's limit.
    """
    try:
        found = dict(re.findall(r"^(\w+):\s+(\d+) kB$", meminfo.read_text(), re.M))
        free = 1024 * (int(found["MemAvailable"]) + int(found["SwapFree"]))
    except (OSError, KeyError):
        return None
    with suppress(OSError, ValueError, KeyError):  # no container, or no limit ("max")
        limit = int((cgroup / "memory.max").read_text())
        kept = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
        taken = int((cgroup / "memory.current").read_text()) - int(kept["file"])
        free = min(free, limit - taken)
    return free


class OtherPrograms:
    """How many cores other programs keep busy, from when this was made.

    Args:
        stat: Where Linux says it; elsewhere it is not known.
    """

    def __init__(self, stat: Path = _STAT) -> None:
        self._stat = stat
        self._began = time.monotonic(), self._busy_seconds()

    def cores(self) -> float | None:
        """Return their number, a mean over the time since; None: not known, or too short a time."""
        began, busy = self._began
        now, still = time.monotonic(), self._busy_seconds()
        if busy is None or still is None or now - began < _LEAST_S:
            return None
        return max(0.0, (still - busy) / (now - began))

    def _busy_seconds(self) -> float | None:
        """Processor time of the whole machine without this process, s."""
        try:
            fields = self._stat.read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
            ticks = sum(int(fields[position]) for position in _BUSY_FIELDS)
        except (OSError, ValueError, IndexError):
            return None
        own = os.times()
        return ticks / os.sysconf("SC_CLK_TCK") - own.user - own.system
