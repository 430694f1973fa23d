from __future__ import annotations

import sys
import threading

from cogdata.system.subprocesses import Commands, Line


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_lines_and_codes_of_several_commands() -> None:
    commands = {
        "good": python("import sys; print('one'); print('two', file=sys.stderr)"),
        "bad": python("import sys; print('error: no'); sys.exit(3)"),
    }
    with Commands(commands) as running:
        lines = list(running.lines())
        codes = running.codes()
    assert sorted(lines, key=lambda line: line.text) == [
        Line("bad", "error: no", True),
        Line("good", "one", True),
        Line("good", "two", False),
    ]
    assert codes == {"good": 0, "bad": 3}


_PATIENT = """
import signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
try:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    print("ready", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    print("asked")
    raise SystemExit(130)
"""


def test_stop_asks_each_once_and_the_others_are_waited_for() -> None:
    with Commands({"a": python(_PATIENT), "b": python(_PATIENT), "short": python("")}) as running:
        ready = 0
        said = []
        for line in running.lines():
            said.append((line.name, line.text))
            ready += line.text == "ready"
            if ready == 2 and line.text == "ready":
                running.stop()
        assert sorted(said) == [("a", "asked"), ("a", "ready"), ("b", "asked"), ("b", "ready")]
        assert running.codes() == {"a": 130, "b": 130, "short": 0}
        running.stop()  # all have ended: nothing happens


def test_leaving_early_leaves_nothing_behind() -> None:
    with Commands({"a": python(_PATIENT)}) as running:
        assert next(running.lines()).text == "ready"
    assert running.codes() == {"a": -9}
    assert not [thread for thread in threading.enumerate() if thread.name.endswith("(_read)")]


def test_one_that_ends_makes_room_for_the_next() -> None:
    """Three commands, two at a time: the third begins when one has ended, and each end is told."""
    ended: list[tuple[str, int]] = []
    commands = {
        "slow": python("import sys; sys.stdin.read(); import time; time.sleep(0.3); print('slow')"),
        "quick": python("print('quick')"),
        "last": python("print('last'); raise SystemExit(3)"),
    }
    with Commands(commands, at_once=2, on_end=lambda name, code: ended.append((name, code))) as running:
        assert set(running._processes) == {"slow", "quick"}
        said = {line.text for line in running.lines()}
        codes = running.codes()
    assert said == {"slow", "quick", "last"}
    assert codes == {"slow": 0, "quick": 0, "last": 3}
    assert sorted(ended) == [("last", 3), ("quick", 0), ("slow", 0)]


def test_what_has_not_begun_does_not_after_a_stop() -> None:
    with Commands({"a": python(_PATIENT), "b": python(_PATIENT)}, at_once=1) as running:
        for line in running.lines():
            if line.text == "ready":
                running.stop()
        assert running.codes() == {"a": 130}
