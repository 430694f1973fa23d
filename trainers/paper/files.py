"""Result files: how they are written, kept and read back."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from cogdata.errors import CogError
from cogdata.storage.store import write_failed
from trainers.paper.comparison import same_settings
from trainers.paper.experiments import Derivation, Experiment
from trainers.paper.results import Data, Evaluated, Result, Trained

REPLACED: Final = "replaced"
"""Folder beside the results, of files that another of the same experiment has taken the place of."""

RESULT_KEYS: Final = {"experiment": "unit", "evaluated": "judged", "evaluation_seconds": "judging_seconds"}
"""Field of a result → its key in a file, where that is another word: files keep the keys of version 0.1."""
EXPERIMENT_KEYS: Final = {"scenario": "study", "change": "variant", "derivation": "derived"}
"""The same for a field of an experiment."""


def covers(new: Result, old: Result) -> bool:
    """Whether a result holds all of another one: same experiment, settings and data, no fewer episodes."""
    evaluated = {one.env: one.episodes for one in new.evaluated}
    enough = all(evaluated.get(one.env, 0) >= one.episodes for one in old.evaluated)
    same = (new.experiment, new.data.digest) == (old.experiment, old.data.digest)
    return same and enough and same_settings(new, old)


def write_result(folder: Path, result: Result) -> Path:
    """Write a result under its experiment's name; whole or not at all.

    A file of that name with other settings, other data or more episodes is kept, under :data:`REPLACED`.

    Raises:
        CogError: The folder cannot be written.
    """
    path = folder / f"{result.experiment.name}.json"
    beside = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if path.exists() and not covers(result, read_result(path)):
            digest = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
            (folder / REPLACED).mkdir(exist_ok=True)
            path.replace(folder / REPLACED / f"{path.stem}-{digest}.json")
        beside.write_text(_to_json(result), encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise write_failed(str(path), error) from None
    return path


def _to_json(result: Result) -> str:
    data = asdict(result)
    data["experiment"] = _renamed(data["experiment"], EXPERIMENT_KEYS)
    return json.dumps(_renamed(data, RESULT_KEYS), indent=1, sort_keys=True) + "\n"


def _from_json(text: str) -> Result:
    data = _renamed(json.loads(text), {key: name for name, key in RESULT_KEYS.items()})
    own = _renamed(data["experiment"], {key: name for name, key in EXPERIMENT_KEYS.items()})
    own |= {name: tuple(own[name]) for name in ("envs", "settings")}
    own["derivation"] = Derivation(**own["derivation"])
    return Result(
        **{
            **data,
            "experiment": Experiment(**own),
            "data": Data(**data["data"]),
            "runs": tuple(Trained(**run) for run in data["runs"]),
            "evaluated": tuple(Evaluated(**one) for one in data["evaluated"]),
            "curve": tuple(Evaluated(**one) for one in data["curve"]),
            "commands": tuple(data["commands"]),
        }
    )


def _renamed(data: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(key, key): value for key, value in data.items()}


def read_result(path: Path) -> Result:
    """Read a result back.

    Raises:
        CogError: It is damaged or something else.
    """
    try:
        return _from_json(path.read_text(encoding="utf-8"))
    except (KeyError, TypeError, ValueError, AttributeError):
        raise CogError(
            f"{path} is no result of `cog reproduce`: restore it, or remove it and run the experiment again"
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
