"""Ctrl-C reaches every process of a terminal; only the command itself is to answer it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_CTRL_C: Final = (signal.SIGINT,)


@contextmanager
def ctrl_c_held_back() -> Iterator[None]:
    """Start processes in this block: they inherit that Ctrl-C waits until :func:`ignore_ctrl_c`.

    Otherwise it ends them with a traceback while they are still importing.
    """
    from multiprocessing import resource_tracker  # lazily: every command imports this module

    resource_tracker.ensure_running()  # it lets signals through when it starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _CTRL_C)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_ctrl_c() -> None:
    """Leave Ctrl-C to the process that started this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _CTRL_C)


def answer_ctrl_c() -> None:
    """Let Ctrl-C through that was held back when this process was started, as a KeyboardInterrupt.

    Who holds it back passes it on (:class:`cogdata.system.subprocesses.Commands`): it is answered even where
    it is ignored, as in a shell's background job. What was started there itself goes on ignoring it.
    """
    if signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()):
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _CTRL_C)
