"""Benchmark of collecting a recipe's data at the paper's size: time, memory, disk, and speed of SQL.

Runs `cog collect --for RECIPE` in a separate process and records its output and the memory of all its
processes; then queries the catalog and the steps and freezes the recipe, each as a separate command. After an
interruption it resumes, as the command does, and marks the result as resumed.

python -m bench.collection --recipe drawer_all --root /tmp/drawer --out results/drawer_collection.json
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from importlib.resources import files
from pathlib import Path
from threading import Event, Thread

from catalog.recipes import RECIPES
from cogdata.system.machine import usable_cores

COG = (sys.executable, "-m", "cli")
EVERY_S = 10.0
QUERIES = {
    "catalog": "select policy, env, count(*) as episodes, sum(steps) as transitions,"
    " avg(success::int) as success, sum(solved::int) as solved from episodes group by all order by all",
    "steps": "select phase, count(*) as steps, avg(drawer_open::int) as open"
    " from steps group by all order by all",
}


def resident_mb(root_pid: int) -> float:
    """Memory of a process and its descendants, shared pages divided among their users (PSS)."""
    children: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rsplit(")", 1)[1].split()
        except (OSError, IndexError):
            continue
        children.setdefault(int(fields[1]), []).append(int(status.parent.name))
    family, todo, total_kb = set(), [root_pid], 0
    while todo:
        pid = todo.pop()
        family.add(pid)
        todo += [child for child in children.get(pid, []) if child not in family]
    for pid in family:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total_kb += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total_kb / 1000


def collect(recipe: str, scale: float, root: Path, log: Path) -> dict[str, object]:
    """Collect the episodes of a recipe; return seconds, and memory over time in MB."""
    command = [*COG, "collect", "--for", recipe, "--scale", str(scale), "--root", str(root)]
    command += ["--workers", str(usable_cores())]
    samples: list[float] = []
    start = time.monotonic()
    with log.open("a") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        over = Event()

        def watch() -> None:
            while not over.wait(EVERY_S):
                samples.append(round(resident_mb(process.pid), 1))

        watcher = Thread(target=watch)
        watcher.start()
        code = process.wait()
        over.set()
        watcher.join()
    if code:
        raise SystemExit(f"collecting stopped with exit code {code}: see {log}")
    quarter = max(1, len(samples) // 4)
    return {
        "seconds": round(time.monotonic() - start, 1),
        "memory_mb": {
            "peak": max(samples, default=0.0),
            "median_of_first_quarter": statistics.median(samples[:quarter] or [0.0]),
            "median_of_last_quarter": statistics.median(samples[-quarter:] or [0.0]),
        },
    }


def timed(command: list[str], repeats: int) -> tuple[list[float], str]:
    """Run a command repeatedly; return the seconds of each run and the output of the last one."""
    seconds, printed = [], ""
    for _ in range(repeats):
        start = time.monotonic()
        printed = subprocess.run([*COG, *command], capture_output=True, text=True, check=True).stdout
        seconds.append(round(time.monotonic() - start, 2))
    return seconds, printed


def ask(recipe: str, root: Path) -> dict[str, object]:
    """Measure queries of the catalog and of steps, and freezing, as whole commands."""
    found: dict[str, object] = {}
    for name, sql in QUERIES.items():
        seconds, printed = timed(["query", sql, "--format", "json", "--root", str(root)], 3)
        found[name] = {"sql": sql, "seconds": seconds, "rows": json.loads(printed)}
    known = RECIPES[recipe]
    freeze = ["query", "-f", str(files("catalog.recipes") / f"{known.file}.sql"), "--as", recipe]
    for source, share in known.weights.items():
        freeze += ["--weight", f"{source}={share}"]
    seconds, printed = timed([*freeze, "--root", str(root)], 1)
    found["freeze"] = {"seconds": seconds, "said": printed.splitlines()}
    return found


def on_disk(root: Path) -> int:
    """Return the bytes of all files in a store."""
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file())


def main() -> None:
    """Collect, query, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="drawer_all")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    began_before = asked.root.exists()
    collected = collect(asked.recipe, asked.scale, asked.root, asked.out.with_suffix(".log"))
    result = {
        "recipe": asked.recipe,
        "scale": asked.scale,
        "cores": usable_cores(),
        "machine": platform.machine(),
        "resumed": began_before,
        "collect": collected,
        "bytes": on_disk(asked.root),
        "asked": ask(asked.recipe, asked.root),
    }
    asked.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
