"""The name that pip knows this project by; the import packages and the command are called otherwise."""

from __future__ import annotations

from typing import Final

DISTRIBUTION: Final = "cogdata-robot"
"""``cogdata`` on the Python Package Index is another project's."""


def pip_install(extra: str) -> str:
    """Return the command that installs the libraries of an extra, in a checkout too.

    Args:
        extra: Key of ``project.optional-dependencies`` in pyproject.toml.
    """
    return f"pip install '{DISTRIBUTION}[{extra}]'"
