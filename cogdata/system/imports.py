"""Where Python looks for modules: what a user has in the working folder never takes the place of ours."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Final

from cogdata.errors import CogError

ROOT: Final = str(Path(__file__).resolve().parents[2])
"""Folder of our packages: a checkout, or where they are installed."""

OURS: Final = ("cogdata", "catalog", "collectors", "trainers", "commands", "cli")
"""Names that are ours at the top level."""

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
    """Import a module of the user: from the working folder, else from what is installed.

    The folder is searched first during this import alone, though not for names of ours or of Python's own,
    and last afterwards.

    Args:
        name: Dotted name of the module.

    Raises:
        CogError: A file of that name lies in the working folder, and the name is that of a module of ours, of
            Python, or of one that is loaded already.
        ImportError: There is no such module. Whatever else its code raises is passed on.
    """
    here = str(Path.cwd())
    top = name.partition(".")[0]
    mine = next((path for path in (Path(here, f"{top}.py"), Path(here, top)) if _is_module(path)), None)
    if mine is not None and (owner := _owner(top, here)) is not None:
        raise CogError(
            f"{mine} has the name of a module of {owner}: give it a name of its own, for example my_{top}"
        )
    for folder in (ROOT, here):  # an editable install finds ours only after all of the path
        if folder not in sys.path:
            sys.path.append(folder)
    first = _WorkingFolder(here)
    sys.meta_path.insert(0, first)
    try:
        return importlib.import_module(name)
    finally:
        sys.meta_path.remove(first)


class _WorkingFolder(MetaPathFinder):
    """Finds top-level modules in a folder, but none with a name of ours or of Python's own."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module; a folder without ``__init__.py`` comes after what is installed, as in any path."""
        if path is not None or name in OURS or name in sys.stdlib_module_names:
            return None
        found = PathFinder.find_spec(name, [self._folder], target)
        return None if found is None or found.loader is None else found


def _is_module(path: Path) -> bool:
    return path.is_file() if path.suffix == ".py" else (path / "__init__.py").is_file()


def _owner(top: str, here: str) -> str | None:
    """Whose the name of a module is already; None: nobody's, or that of the module in the folder itself."""
    if top in OURS:
        return "cogdata"
    if top in sys.stdlib_module_names:
        return "Python"
    loaded = getattr(sys.modules.get(top), "__file__", None)
    return None if loaded is None or Path(loaded).is_relative_to(here) else str(Path(loaded).parent)
