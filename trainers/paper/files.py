"""Result files: how they are written, kept and read back."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Final

from cogdata.errors import CogError
from cogdata.storage.store import write_failed
from trainers.paper.comparison import same_settings
from trainers.paper.results import Data, Judged, Result, Trained
from trainers.paper.table1 import Derivation, Unit

REPLACED: Final = "replaced"
"""Folder beside the results, of those that another of their unit's name has taken the place of."""


def covers(new: Result, old: Result) -> bool:
    """Whether a result says all that another one does: same unit, settings and data, no fewer scenes."""
    judged = {one.env: one.episodes for one in new.judged}
    enough = all(judged.get(one.env, 0) >= one.episodes for one in old.judged)
    same = (new.unit, new.data.digest) == (old.unit, old.data.digest) and same_settings(new, old)
    return same and enough


def write_result(folder: Path, result: Result) -> Path:
    """Write a result under its unit's name; whole or not at all.

    A file of that name with other settings, other data or more scenes is kept, under :data:`REPLACED`.

    Raises:
        CogError: The folder cannot be written.
    """
    path = folder / f"{result.unit.name}.json"
    beside = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if path.exists() and not covers(result, read_result(path)):
            digest = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
            (folder / REPLACED).mkdir(exist_ok=True)
            path.replace(folder / REPLACED / f"{path.stem}-{digest}.json")
        beside.write_text(json.dumps(asdict(result), indent=1, sort_keys=True) + "\n", encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise write_failed(str(path), error) from None
    return path


def read_result(path: Path) -> Result:
    """Read a result back.

    Raises:
        CogError: It is damaged or something else.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        unit = {**data["unit"], **{name: tuple(data["unit"][name]) for name in ("envs", "settings")}}
        unit["derived"] = Derivation(**unit["derived"])
        return Result(
            **{
                **data,
                "unit": Unit(**unit),
                "data": Data(**data["data"]),
                "runs": tuple(Trained(**run) for run in data["runs"]),
                "judged": tuple(Judged(**one) for one in data["judged"]),
                "curve": tuple(Judged(**one) for one in data["curve"]),
                "commands": tuple(data["commands"]),
            }
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise CogError(
            f"{path} is no result of `cog reproduce`: restore it, or remove it and run the unit again"
        ) from None


def read_results(folder: Path) -> list[Result]:
    """Read every result in a folder, in order of their names.

    Raises:
        CogError: There is none, or one is damaged.
    """
    paths = sorted(folder.glob("*.json")) if folder.is_dir() else []
    if not paths:
        raise CogError(
            f"{folder} holds no results: run `cog reproduce place_in_tray --preset fast --obs state` first, "
            f"or say where they are with --results"
        )
    return [read_result(path) for path in paths]
