"""Benchmark of the start-up time of commands that only print, each in a separate process.

It measures CPU time, so other programs do not count. The commands alternate.

    python -m bench.startup --rounds 5
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from commands.listing import LISTS

CLI: Final = str(Path(__file__).parent.parent / "cli.py")
COMMANDS: Final = (
    ("--help",),
    ("train", "--help"),
    *(("list", what) for what in LISTS),
)


def seconds(command: tuple[str, ...]) -> float:
    """Return the CPU time of one command, s."""
    before = os.times()
    subprocess.run([sys.executable, CLI, *command], check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def main() -> None:
    """Print the fastest and the slowest run of every command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    taken: dict[tuple[str, ...], list[float]] = {command: [] for command in COMMANDS}
    for _ in range(rounds):
        for command, times in taken.items():
            times.append(seconds(command))
    for command, times in taken.items():
        print(f"cog {' '.join(command):<16}  {min(times):.2f} to {max(times):.2f} s")


if __name__ == "__main__":
    main()
