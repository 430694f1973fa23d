"""Ctrl-C reaches every process of a terminal; only the command itself is to answer it, and once is enough."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

_CTRL_C: Final = (signal.SIGINT,)

_came = False
"""Whether Ctrl-C was answered by a KeyboardInterrupt."""


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
    """Let Ctrl-C through that was held back when this process was started, as a KeyboardInterrupt."""
    global _came
    _came = False
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a shell's background job ignores it
        signal.signal(signal.SIGINT, _interrupt)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _CTRL_C)


def _interrupt(number: int, frame: FrameType | None) -> None:
    global _came
    _came = True
    raise KeyboardInterrupt


def ctrl_c_came() -> bool:
    """Whether it came before somebody took care of it.

    Python drops a KeyboardInterrupt that is raised in a finalizer or another callback: whoever is still there
    to ask this was not reached by it.
    """
    return _came
