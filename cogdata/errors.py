"""The one error that users see: a clear line, an exit code, no traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CogError(ValueError):
    """Bad input or damaged data, said in one line: what was found, where, what to type instead."""


class UnreachableError(CogError):
    """A file could not be read now, which says nothing of what is in it: a time-out, a broken line."""


def unknown(kind: str, name: str, known: Iterable[str]) -> CogError:
    """Build the error for a name that is not in a table, with the nearest known names.

    Args:
        kind: What the name should have been, in the user's words ("policy", "environment").
        name: What was found.
        known: All valid names.

    Returns:
        An error ready to raise: "unknown policy 'grsp': did you mean 'grasp'? known: …".
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return CogError(f"unknown {kind} {name!r}: {hint}known: {', '.join(names) if names else '(none)'}")
