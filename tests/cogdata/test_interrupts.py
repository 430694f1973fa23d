from __future__ import annotations

import subprocess
import sys

_DROPPED = """
import signal
from cogdata.interrupts import answer_ctrl_c, ctrl_c_came

class Finalized:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
answer_ctrl_c()
print(ctrl_c_came())
Finalized()
print(ctrl_c_came())
answer_ctrl_c()
print(ctrl_c_came())
"""


def test_ctrl_c_that_python_drops_in_a_finalizer_is_remembered() -> None:
    done = subprocess.run([sys.executable, "-c", _DROPPED], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", "False"]
    assert "KeyboardInterrupt" in done.stderr  # what Python says of an exception that it ignores


_PASSED_ON = """
import signal
from cogdata.interrupts import answer_ctrl_c, ctrl_c_came

signal.signal(signal.SIGINT, signal.default_int_handler)
answer_ctrl_c()
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("raised", ctrl_c_came())
signal.signal(signal.SIGINT, signal.SIG_IGN)
answer_ctrl_c()
signal.raise_signal(signal.SIGINT)
print("ignored", ctrl_c_came())
"""


def test_ctrl_c_is_a_keyboard_interrupt_and_stays_ignored_where_it_is() -> None:
    done = subprocess.run([sys.executable, "-c", _PASSED_ON], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["raised True", "ignored False"]
