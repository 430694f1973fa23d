"""Where Python looks for modules: what a user has in the working folder never takes the place of ours."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Final

from cogdata.errors import CogError

ROOT: Final = str(Path(__file__).resolve().parents[2])
"""Folder of our packages: a checkout, or where they are installed."""

_INSTALLED: Final = ("site-packages", "dist-packages")


def guard_processes() -> None:
    """Let processes that this one starts find our packages, and look into no working folder.

    Python puts the working folder first for ``python -c``, as which worker processes begin: a ``catalog.py``
    or ``typing.py`` of the user would be imported there in place of ours or of the standard library.
    """
    os.environ["PYTHONSAFEPATH"] = "1"
    if not set(_INSTALLED) & set(Path(ROOT).parts):
        paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        if ROOT not in paths:
            os.environ["PYTHONPATH"] = os.pathsep.join([ROOT, *filter(None, paths)])


def import_from_here(name: str) -> ModuleType:
    """Import a module of the user: from the working folder, after everything that is installed.

    Args:
        name: Dotted name of the module.

    Raises:
        CogError: A file of that name lies in the working folder, and another module has the name.
        ImportError: There is no such module. Whatever else its code raises is passed on.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    top = name.partition(".")[0]
    mine = next((path for path in (Path(here, f"{top}.py"), Path(here, top)) if _is_module(path)), None)
    if mine is not None:
        origin = _origin(top)
        if origin is not None and not origin.is_relative_to(here):
            raise CogError(
                f"{mine} has the name of another module, {origin}: give it a name of its own, for example "
                f"my_{top}"
            )
    return importlib.import_module(name)


def _is_module(path: Path) -> bool:
    return path.is_file() if path.suffix == ".py" else (path / "__init__.py").is_file()


def _origin(top: str) -> Path | None:
    """Where Python finds a module; None: nowhere, or in no file."""
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    return Path(spec.origin).resolve() if spec.has_location and spec.origin else Path(f"<{top} of Python>")
