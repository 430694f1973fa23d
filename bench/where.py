"""Where on the table a policy fails: successes by the block's place at the start, along x, away from the arm.

The outcomes are those of a result's file, the places those of the same scenes, made again.

    python -m bench.where results/table1/place_in_tray-*-bfn-s?.json --out results/tray_where.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from collectors.envs import make
from trainers.results import read_result

ENV = "cog/PickTray-v0"
EDGES_M = (0.49, 0.65, 0.70, 0.72, 0.735, 0.75)
"""Of the strips; over a block in the last two the hand leaves the picture."""


def places_m(seeds: range) -> list[float]:
    """Where the block lies along x in each scene, m."""
    env = make(ENV, image_size=16, observations=("scene",))
    column = env.scene_fields.index("object_x_m")
    found = [float(env.reset(seed=seed)[0]["scene"][column]) for seed in seeds]
    env.close()
    return found


def main() -> None:
    """Print a line per file, and write them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path, nargs="+")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    known: dict[range, np.ndarray] = {}
    lines = []
    for path in asked.results:
        judged = read_result(path).of(ENV)
        if judged is None:
            raise SystemExit(f"{path} was not judged in {ENV}")
        seeds = range(judged.first_seed, judged.first_seed + judged.episodes)
        if seeds not in known:
            known[seeds] = np.array(places_m(seeds))
        strip = np.clip(np.digitize(known[seeds], EDGES_M) - 1, 0, len(EDGES_M) - 2)
        solved = np.array([outcome == "1" for outcome in judged.outcomes])
        counts = [
            (int(solved[strip == one].sum()), int((strip == one).sum())) for one in range(len(EDGES_M) - 1)
        ]
        lines.append({"result": path.stem, "strips": counts})
        print(f"{path.stem:<50}" + "".join(f"{good:>5}/{of}" for good, of in counts))
    if asked.out is not None:
        asked.out.write_text(json.dumps({"env": ENV, "edges_m": EDGES_M, "found": lines}, indent=1) + "\n")


if __name__ == "__main__":
    main()
