"""Where episodes come from: versions and code; and the head of a collection that a learned policy made."""

from __future__ import annotations

import functools
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from cogdata import __version__
from cogdata.features import EpisodeSpec
from cogdata.layout1 import layout_of
from cogdata.storage.collections import CollectionInfo
from cogdata.storage.parts import PART_SIZE
from cogdata.storage.versions import origin
from collectors.drivers import fingerprint
from collectors.localize import SIMULATOR
from collectors.policies.actors import policy_fingerprint


def made_with(env: str, localize: str, policy: str = "") -> dict[str, str]:
    """Return the versions of whatever decides the bytes of episodes.

    Args:
        env: A key of `ENVS`, ``module:Class``, or an id that Gymnasium knows.
        localize: Source of object positions: simulator or camera.
        policy: What acts; of ``module:function`` the module is told.
    """
    names = (
        "pybullet",
        "numpy",
        "pyarrow",
        "gymnasium",
        *(() if localize == SIMULATOR else ("opencv-python",)),
    )
    libraries = {name: found for name in names if (found := _installed(name))}
    libraries |= {**fingerprint(env), **policy_fingerprint(policy)}
    machine = {"python": platform.python_version(), "machine": platform.machine()}
    return {"cogdata": __version__, "code": revision(), **libraries, **machine}


@functools.cache
def part_origin(env: str, localize: str, policy: str = "") -> dict[str, Any]:
    """Return what this process makes episodes with, as a part's ``COMMIT.json`` keeps it.

    Args:
        env: As in `made_with`.
        localize: As in `made_with`.
        policy: As in `made_with`.
    """
    versions = made_with(env, localize, policy)
    return origin(env, versions.pop("cogdata"), versions.pop("code"), versions)


def _installed(name: str) -> str | None:
    """Version of a distribution; None: it is not installed, as PyBullet beside a world of others."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def revision() -> str:
    """The git revision of a source checkout, "+" if it has uncommitted changes; "" when installed."""
    here = Path(__file__).resolve().parent.parent
    if not (here / ".git").exists():
        return ""
    command = ["git", "-C", str(here), "describe", "--always", "--dirty=+", "--abbrev=12"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip()


def changed_versions(info: CollectionInfo) -> str | None:
    """Say what has changed since a collection was begun that may change the bytes of episodes added now.

    Args:
        info: Head of the collection.

    Returns:
        A line, or None if code and libraries are the same.
    """
    now = made_with(info.env, info.localize, info.policy)
    before = {"cogdata": info.cogdata_version, "code": info.code, **info.libraries}
    changed = [
        f"{name} {before.get(name)} → {value}" for name, value in now.items() if before.get(name) != value
    ]
    if not changed:
        return None
    return f"{info.name} was begun with other versions ({', '.join(changed)}): episodes added now may differ"


def describe_learned(
    run: str, env: str, *, root_seed: int, spec: EpisodeSpec, horizon: int, command: str
) -> CollectionInfo:
    """Write down where the episodes of a learned policy come from; its run is their policy and their name.

    Args:
        run: Run id.
        env: A key of `ENVS`, or ``module:Class``.
        root_seed: Root seed of the run.
        spec: Declaration of its episodes.
        horizon: Actions per episode.
        command: What was typed.
    """
    versions, built_in = made_with(env, SIMULATOR), layout_of(spec) == 1
    return CollectionInfo(
        name=run,
        command=command,
        policy=run,
        env=env,
        noise=0.0,
        root_seed=root_seed,
        image_size=spec["image"].shape[0] if built_in else None,
        horizon=horizon,
        success_range=(0.0, 1.0),
        part_size=PART_SIZE,
        created_at=datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="seconds"),
        cogdata_version=versions.pop("cogdata"),
        code=versions.pop("code"),
        libraries=versions,
        host=platform.node(),
        spec=None if built_in else spec,
    )
