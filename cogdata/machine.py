"""What this machine lets the process use."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Final

_MEMINFO: Final = Path("/proc/meminfo")
_CGROUP: Final = Path("/sys/fs/cgroup")


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
