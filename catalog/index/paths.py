r"""Paths that DuckDB takes for something else: patterns (``*?[``), query strings (``?``), folders (``\``).

DuckDB never sees such a path: what it reads gets a second name in a temporary folder.
"""

from __future__ import annotations

import atexit
import functools
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from cogdata.errors import CogError

_SPECIAL: Final = re.compile(r"[*?\[\]\\]")


def is_plain(path: str | Path) -> bool:
    """Whether DuckDB takes a path as it is."""
    return _SPECIAL.search(str(path)) is None


@contextmanager
def plain_folder() -> Iterator[Path]:
    """Make a temporary folder whose path is plain, and remove it at the end of the block.

    Raises:
        CogError: No temporary folder has such a path.
    """
    with tempfile.TemporaryDirectory(prefix="cogdata-", dir=_plain_parent()) as folder:
        yield Path(folder)


@functools.cache
def plain_name(folder: str) -> str:
    """Return a plain path of a folder: its own, or of a link to it that is there until this process ends.

    Args:
        folder: Absolute path.

    Raises:
        CogError: No temporary folder has a plain path.
    """
    if is_plain(folder):
        return folder
    temporary = tempfile.mkdtemp(prefix="cogdata-", dir=_plain_parent())
    atexit.register(shutil.rmtree, temporary, ignore_errors=True)
    link = Path(temporary) / "store"
    link.symlink_to(folder, target_is_directory=True)
    return str(link)


@contextmanager
def plain_file(path: Path) -> Iterator[Path]:
    """Give a file that is only read a plain path for the length of a block.

    DuckDB follows a symbolic link to a database back to the path that it cannot open, so this is a hard
    link, or a copy where the temporary folder is on another file system.

    Args:
        path: The file.
    """
    if is_plain(path.resolve()):
        yield path
        return
    with plain_folder() as folder:
        name = folder / path.name
        try:
            os.link(path, name)
        except OSError:
            shutil.copyfile(path, name)
        yield name


def _plain_parent() -> str:
    places = [tempfile.gettempdir(), "/tmp", "/var/tmp"]
    for place in places:
        if is_plain(Path(place).resolve()) and os.access(place, os.W_OK | os.X_OK):
            return place
    raise CogError(
        f"temporary folder {places[0]} has one of *?[]\\ in its path: set TMPDIR to one that has not"
    )
