from __future__ import annotations

import subprocess
import sys

_ASKED = """
import signal
from cogdata.system.interrupts import answer_ctrl_c

signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in a shell's background job
{held_back}
signal.raise_signal(signal.SIGINT)  # before this process is ready for it
try:
    answer_ctrl_c()
    print("ignored")
except KeyboardInterrupt:
    print("answered")
"""


def _said(held_back: str) -> str:
    code = _ASKED.format(held_back=held_back)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_ctrl_c_that_was_held_back_is_answered_where_it_is_ignored() -> None:
    assert _said("signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])") == "answered\n"


def test_ctrl_c_stays_ignored_where_nobody_passes_it_on() -> None:
    assert _said("") == "ignored\n"
