"""Handling of Ctrl-C, which reaches every process of a terminal; only the command itself handles it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_CTRL_C: Final = (signal.SIGINT,)


@contextmanager
def ctrl_c_held_back() -> Iterator[None]:
    """Return a context in which started processes inherit a blocked Ctrl-C until :func:`ignore_ctrl_c`.

    Otherwise Ctrl-C would end them with a traceback while they import their modules.
    """
    from multiprocessing import resource_tracker  # imported here because every command imports this module

    resource_tracker.ensure_running()  # it unblocks signals when it starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _CTRL_C)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_ctrl_c() -> None:
    """Ignore Ctrl-C; the process that started this one handles it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _CTRL_C)


def answer_ctrl_c() -> None:
    """Raise KeyboardInterrupt on Ctrl-C from now on, also for one that was blocked while the process started.

    A process that :class:`cogdata.system.subprocesses.Commands` started handles Ctrl-C even in a shell's
    background job, where it is ignored by default, because the starting process passes it on. Processes that
    were started in other ways keep ignoring it there.
    """
    if signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()):
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _CTRL_C)


class LeaveError(SystemExit):
    """Raised in a worker by the signal that ends it: half-written files are removed on the way out."""


def asked_to_end(error: BaseException) -> bool:
    """Whether an exception is Ctrl-C or the signal that ends a worker, and no fault of the code it arose in.

    Args:
        error: Where Ctrl-C is ignored a KeyboardInterrupt is what somebody's code raised.
    """
    if isinstance(error, KeyboardInterrupt):
        return signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
    return isinstance(error, LeaveError)
