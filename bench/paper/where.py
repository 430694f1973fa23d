r"""Successes of a policy by the position of an object at the start of an episode.

Outcomes come from result files, positions from resetting the environment with the same seeds. ``--script``
adds the episodes of a scripted policy in a store.

    python -m bench.paper.where results/table1/place_in_tray-*-bfn-s?.json --out results/tray_where.json
    python -m bench.paper.where results/table1/closed_drawer_randomized-*-s?.json --fifths \
        --env cog/DrawerClosedRandomized-v0 --field target_x_m --minus handle_x_m \
        --script grasp_from_drawer --root STORE --out results/randomized_where.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from catalog.query import run_query
from cogdata.storage.store import open_store
from collectors.envs import make
from trainers.paper.files import read_result

ENV = "cog/PickTray-v0"
EDGES_M = (0.49, 0.65, 0.70, 0.72, 0.735, 0.75)
"""Edges of strips along x on the tray's table; in the last two the hand above a block leaves the image."""

_PLACES_SQL = """select s.scene[list_position(e.scene_fields, '{field}')] - {minus} as place, e.success
from episodes e join steps s using (episode_id)
where s.t = 0 and e.policy = '{policy}' and list_contains(e.scene_fields, '{field}')"""
_MINUS = "s.scene[list_position(e.scene_fields, '{name}')]"


def places_m(seeds: range, env_id: str = ENV, field: str = "object_x_m", minus: str = "") -> list[float]:
    """Return a field of the scene, or its distance from another one, at the start of each episode, m."""
    env = make(env_id, image_size=16, observations=("scene",))
    column = env.scene_fields.index(field)
    other = env.scene_fields.index(minus) if minus else None
    scenes = [env.reset(seed=seed)[0]["scene"].tolist() for seed in seeds]
    env.close()
    return [scene[column] - (0.0 if other is None else scene[other]) for scene in scenes]


def counts(
    places: NDArray[np.float64], solved: NDArray[np.bool_], edges: list[float]
) -> list[tuple[int, int]]:
    """Return (successes, episodes) per strip; the outermost strips include positions beyond."""
    strip = np.clip(np.digitize(places, edges) - 1, 0, len(edges) - 2)
    return [(int(solved[strip == one].sum()), int((strip == one).sum())) for one in range(len(edges) - 1)]


def of_script(
    root: str, policy: str, field: str, minus: str
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return positions and successes of a script's episodes in a store."""
    other = _MINUS.format(name=minus) if minus else "0"
    table = run_query(open_store(root), _PLACES_SQL.format(policy=policy, field=field, minus=other)).table
    return np.array(table["place"].to_pylist()), np.array(table["success"].to_pylist(), bool)


def main() -> None:
    """Print a line per file, and write them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path, nargs="+")
    parser.add_argument("--env", default=ENV)
    parser.add_argument("--field", default="object_x_m")
    parser.add_argument("--minus", default="", help="a field of the scene that --field is measured from")
    parser.add_argument("--fifths", action="store_true", help="strips of equally many scenes")
    parser.add_argument("--script", help="a scripted policy whose episodes are counted too")
    parser.add_argument("--root", help="the store that these are in")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    known: dict[range, NDArray[np.float64]] = {}
    edges, lines = list(EDGES_M), []
    for path in asked.results:
        evaluation = read_result(path).of(asked.env)
        if evaluation is None:
            raise SystemExit(f"{path} was not evaluated in {asked.env}")
        seeds = range(evaluation.first_seed, evaluation.first_seed + evaluation.episodes)
        if seeds not in known:
            known[seeds] = np.array(places_m(seeds, asked.env, asked.field, asked.minus))
            if asked.fifths and len(known) == 1:
                edges = np.quantile(known[seeds], np.linspace(0, 1, 6)).round(4).tolist()
        solved = np.array([outcome == "1" for outcome in evaluation.outcomes])
        lines.append({"result": path.stem, "strips": counts(known[seeds], solved, edges)})
    if asked.script is not None:
        places, solved = of_script(asked.root, asked.script, asked.field, asked.minus)
        lines.append({"script": asked.script, "strips": counts(places, solved, edges)})
    for line in lines:
        name = line.get("result") or line["script"]
        print(f"{name!s:<60}" + "".join(f"{good:>6}/{of}" for good, of in line["strips"]))
    if asked.out is not None:
        about = {
            "env": asked.env,
            "field": asked.field,
            "minus": asked.minus,
            "edges_m": edges,
            "found": lines,
        }
        asked.out.write_text(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    main()
