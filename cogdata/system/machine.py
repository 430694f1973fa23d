"""Resources of this machine that the process may use: cores, memory, and the load of other programs."""

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
"""Fields of the first line of /proc/stat: user, nice, system, irq, softirq (proc(5))."""
_LEAST_S: Final = 5.0


def usable_cores() -> int:
    """Return the number of cores that this process may run on."""
    return len(os.sched_getaffinity(0))


def free_memory(meminfo: Path = _MEMINFO, cgroup: Path = _CGROUP) -> int | None:
    """Return the memory, in bytes, that this process can still allocate; None: unknown.

    This is the system's available memory plus its free swap. In a container it is at most the rest of the
    container's limit, where cached files do not count as used.

    Args:
        meminfo: Path of /proc/meminfo.
        cgroup: Folder of the container's control group.
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
    """Number of cores that other programs use, measured from construction on.

    Args:
        stat: Path of /proc/stat; without this file the number is unknown.
    """

    def __init__(self, stat: Path = _STAT) -> None:
        self._stat = stat
        self._began = time.monotonic(), self._busy_seconds()

    def cores(self) -> float | None:
        """Return the mean number of cores since construction; None: unknown, or too short a time."""
        began, busy = self._began
        now, still = time.monotonic(), self._busy_seconds()
        if busy is None or still is None or now - began < _LEAST_S:
            return None
        return max(0.0, (still - busy) / (now - began))

    def _busy_seconds(self) -> float | None:
        """Processor time of all other processes of the machine, s."""
        try:
            fields = self._stat.read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
            ticks = sum(int(fields[position]) for position in _BUSY_FIELDS)
        except (OSError, ValueError, IndexError):
            return None
        own = os.times()
        return ticks / os.sysconf("SC_CLK_TCK") - own.user - own.system
