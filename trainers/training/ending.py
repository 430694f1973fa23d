"""How a stretch of training ends that an error ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from cogdata.errors import CogError


class DivergedError(CogError):
    """A number was not finite, or values were out of range for long; the state says "diverged" already."""


@contextmanager
def status_on_error(write: Callable[[str], object]) -> Iterator[None]:
    """Write a status if the block ends with an error, so that no run stays "running" that does not run.

    Args:
        write: Takes "stopped" (Ctrl-C) or "failed" (anything else). What it raises is not raised: the error
            that ended the training is.
    """
    try:
        yield
    except DivergedError:
        raise
    except BaseException as error:
        with suppress(CogError, OSError):
            write("stopped" if isinstance(error, KeyboardInterrupt) else "failed")
        raise
