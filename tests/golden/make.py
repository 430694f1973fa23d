"""Makes the golden store of a format: ``python -m tests.golden.make tests/golden/v2``, once, at its release.

The folder gets ``store/``, which every later version has to open, and ``expected.json``: what was true of it
on the day. ``tests/test_golden.py`` holds both against the code of today. A folder is never made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

import cli
from tests.golden import read

_SMALL: Final = "--updates 4 --set batch_size=4"
_EVALUATED: Final = "--eval-env cog/PlaceTray-v0 --eval-every 4 --eval-episodes 2"
_CRITICS: Final = "--set critic_widths=8,8"

V1: Final = (
    "collect --policy weak_grasp --episodes 2 --image-size 16 --horizon 6",
    "collect --policy place --episodes 1 --image-size 16",
    "query --as by_episode --weight prior=0.5",
    "query --as by_step",
    f"train --mixture by_episode --algo bc --obs image+robot {_SMALL} --set widths=8,8 {_EVALUATED}",
    f"train --mixture by_step --algo cql --obs state {_SMALL} {_CRITICS} --set policy_widths=8,8",
    f"train --mixture by_episode --algo bfn --obs state {_SMALL} {_CRITICS} --set flow_widths=8,8",
    "eval bc --env cog/PlaceTray-v0 --seeds 0:3 --workers 1",
)
"""Layout 1: the built-in worlds."""

_WORKER: Final = "--workers 1"
_ARM: Final = "tests.arms:SevenDof"

V2: Final = (
    f"collect --policy random --env {_ARM} --env-option image_size=16 --episodes 2 {_WORKER}",
    f"collect --policy random --env tests.arms:Bimanual --episodes 1 --horizon 2 {_WORKER}",
    f"collect --policy random --env CartPole-v1 --episodes 2 --horizon 8 {_WORKER}",
    f"collect --policy random --episodes 1 --image-size 16 --horizon 3 {_WORKER} --instruction push",
    "derive described --fn tests.golden.layers:described",
    "query --as one_arm",
    "query --as arms --pad action=14 --rename joint_position_rad=joints --rename joints_rad=joints "
    "--pad joints=14 --stats-by env",
    "query --as carts",
    f"train --mixture one_arm --algo bc --obs camera,joints_rad {_SMALL} --set widths=8,8",
    f"train --mixture carts --algo iql --obs state {_SMALL} {_CRITICS} --set policy_widths=8,8",
    f"eval bc --env {_ARM} --env-option image_size=16 --seeds 0:3 --workers 1",
)
"""Layout 2: worlds that declare themselves."""

QUERIES: Final = {
    "by_episode": "select episode_id, 'prior' as source, 0.0 as reward from episodes where policy = 'weak_grasp' "
    "union all by name select episode_id, 'task' as source from episodes where policy = 'place'",
    "by_step": "select episode_id, t, (t % 2)::float as reward from steps where t < 5",
    "one_arm": f"select episode_id from episodes where env = '{_ARM}'",
    "arms": "select episode_id, 0.0 as reward, env as source from episodes where env like 'tests.%'",
    "carts": "select episode_id from episodes where env = 'CartPole-v1'",
}
"""What mixtures are frozen from, by their names."""

FORMATS: Final = {"v1": V1, "v2": V2}
"""Name of a format → the commands that fill its store."""


def _cog(command: str) -> None:
    words = command.split()
    if words[0] == "eval":  # the run whose name begins so
        words[1] = next(path.name for path in Path("store/runs").iterdir() if path.name.startswith(words[1]))
    name = words[words.index("--as") + 1] if "--as" in words else ""
    sys.argv = ["cog", *words[:1], *([QUERIES[name]] if name else []), *words[1:]]
    try:
        cli.main()
    except SystemExit as left:
        if left.code:
            raise


def _files(root: Path) -> Iterator[Path]:
    yield from sorted(path for path in root.rglob("*") if path.is_file())


def _clean(root: Path) -> None:
    """Remove what is made again, or belongs to a process: the catalog, locks, event files."""
    for path in _files(root):
        if path.name.startswith((".", "catalog.duckdb")) or "tensorboard" in path.parts:
            path.unlink()
    for folder in sorted(root.rglob("tensorboard")):
        shutil.rmtree(folder)


def main(folder: Path) -> None:
    """Make a golden store."""
    if folder.exists():
        raise SystemExit(f"{folder} is there already: a golden store is never made again")
    folder.mkdir(parents=True)
    os.chdir(folder)
    os.environ["COG_ROOT"] = "store"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(platform, "node", lambda: "golden")
        for command in FORMATS[folder.name]:
            _cog(command)
    _clean(Path("store"))
    with tempfile.TemporaryDirectory() as copy:
        shutil.copytree("store", copy, dirs_exist_ok=True)
        expected: dict[str, Any] = read.everything(Path(copy))
    expected["files"] = {
        str(path.relative_to("store")): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in _files(Path("store"))
    }
    Path("expected.json").write_text(json.dumps(expected, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
