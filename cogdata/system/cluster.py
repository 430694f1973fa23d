"""Run one function with many arguments as tasks of a Ray cluster.

A separate process talks to Ray and sends the results through a pipe. So the command can report one line
whatever Ray prints, and also when Ray ends its own process because the head died.
"""

from __future__ import annotations

import importlib
import importlib.util
import multiprocessing
import os
import pickle
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Final

from cogdata.errors import CogError
from cogdata.system.distribution import pip_install
from cogdata.system.interrupts import ctrl_c_held_back, ignore_ctrl_c

MAX_RETRIES: Final = 2
"""Number of times that a call is repeated after its worker died."""

CONNECT_S: Final = 30.0
"""Timeout for connecting to a cluster."""

START_S: Final = 90.0
"""Timeout for starting a Ray of this machine's own."""

SILENT_S: Final = 45.0
"""Timeout without a message from a connected cluster, which sends one every second."""

LEAVE_S: Final = 10.0
"""Timeout for disconnecting from a cluster after all calls."""

_REACH_S: Final = 5.0
_ASK_AGAIN_S: Final = 1.0
_OBJECT_STORE_BYTES: Final = 256 << 20

Function = Callable[[Any, Any, Callable[[], bool]], Any]
"""(shared, call, stop_asked) → result, importable by the workers; a CogError ends the whole run."""


@dataclass(frozen=True)
class _Plan:
    """Work of the process that talks to Ray.

    Attributes:
        address: Address for ``ray.init``.
        workers: Maximal number of tasks at a time; None: the number of the cluster's CPUs.
        work: Function and its first argument, pickled; sent to each machine once.
        calls: Second argument of each task.
        names: Name of each call, for messages.
    """

    address: str
    workers: int | None
    work: bytes
    calls: Sequence[Any]
    names: Sequence[str]


class Cluster:
    """A Ray cluster, or a Ray of this machine's own that runs during a call.

    Args:
        address: HOST:PORT, ray://HOST:PORT or auto; None: ``$RAY_ADDRESS``, else a Ray of this machine's own.
        workers: Maximal number of tasks at a time; None: the number of the cluster's CPUs.

    Raises:
        CogError: Ray is not installed, or the address is not one.
    """

    def __init__(self, address: str | None = None, workers: int | None = None) -> None:
        if importlib.util.find_spec("ray") is None:
            raise CogError(f"--engine ray needs Ray, which is not installed: {pip_install('ray')}")
        self._address = address or os.environ.get("RAY_ADDRESS") or "local"
        self._workers = workers
        self._stopping = False
        if self._address not in ("local", "auto"):
            _host_port(self._address)

    def stop(self) -> None:
        """Ask running tasks to end early and start no more; safe in a signal handler."""
        self._stopping = True

    def run(
        self, function: Function, shared: object, calls: Sequence[Any], what: Callable[[Any], str]
    ) -> Iterator[tuple[int, Any]]:
        """Make every call, and repeat those whose worker dies.

        Args:
            function: Called as ``function(shared, call, stop_asked)``.
            shared: First argument, the same for all calls.
            calls: Second argument of each call.
            what: Function that names a call in messages.

        Yields:
            (index of the call, result), in the order of completion.

        Raises:
            CogError: A call failed or killed its worker repeatedly, or the cluster cannot be reached.
        """
        if self._address not in ("local", "auto"):
            _reach(self._address)
        context = multiprocessing.get_context("spawn")
        pipe, other = context.Pipe()
        names = [what(call) for call in calls]
        plan = _Plan(self._address, self._workers, pickle.dumps((function, shared)), calls, names)
        process = context.Process(target=_drive, args=(other, plan), name="cog-ray")
        with ctrl_c_held_back():
            process.start()
        other.close()
        patience = 0.0
        try:
            yield from self._results(pipe)
            patience = LEAVE_S
        finally:
            pipe.close()  # tells the process to end
            process.join(timeout=patience)
            if process.is_alive():
                process.kill()
                process.join()

    def _results(self, pipe: Connection) -> Iterator[tuple[int, Any]]:
        patience = START_S if self._address == "local" else CONNECT_S
        last_message, told = time.monotonic(), False
        while True:
            if self._stopping and not told:
                told = True
                with suppress(BrokenPipeError):
                    pipe.send("stop")
            if not pipe.poll(0.2):
                if time.monotonic() - last_message > patience:
                    raise CogError(f"{self._name} does not answer: no message for {patience:g} s")
                continue
            try:
                kind, *rest = pipe.recv()
            except (EOFError, ConnectionResetError):
                raise CogError(f"{self._name} is gone: what is committed stays, run this again") from None
            last_message, patience = time.monotonic(), SILENT_S
            if kind == "done":
                yield rest[0], pickle.loads(rest[1])
            elif kind == "failed":
                raise CogError(rest[0])
            elif kind == "end":
                return

    @property
    def _name(self) -> str:
        return "Ray on this machine" if self._address == "local" else f"the Ray cluster at {self._address}"


def _host_port(address: str) -> tuple[str, int]:
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise CogError(f"--address {address!r} must be HOST:PORT, ray://HOST:PORT or auto")
    return host.strip("[]"), int(port)


def _reach(address: str) -> None:
    """Raise at once if no server listens at the address; Ray itself takes a minute."""
    try:
        socket.create_connection(_host_port(address), timeout=_REACH_S).close()
    except OSError as error:
        raise CogError(f"no Ray cluster at {address}: {error.strerror or error}") from None


# --- in the process that talks to Ray --------------------------------------------------------------------


def _drive(pipe: Connection, plan: _Plan) -> None:
    ignore_ctrl_c()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(nowhere, descriptor)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the command has left
        try:
            _Driver(pipe, plan).run()
            pipe.send(("end",))
        except CogError as error:
            pipe.send(("failed", str(error)))
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise
        except ConnectionError as error:
            hint = "is it up, and is this machine part of it? one that wants a token: set RAY_AUTH_MODE=token"
            pipe.send(("failed", f"{_line(error)}: {hint}"))
        except Exception as error:
            pipe.send(("failed", f"Ray failed: {_line(error)}"))


class _Driver:
    """Submits tasks until all calls have been made."""

    def __init__(self, pipe: Connection, plan: _Plan) -> None:
        ray = _ray()
        own: dict[str, Any] = {"include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES}
        if plan.address == "local" and plan.workers is not None:
            own["num_cpus"] = plan.workers
        ray.init(
            address=plan.address,
            log_to_driver=False,
            logging_level="ERROR",
            **(own if plan.address == "local" else {}),
        )
        self._pipe, self._plan = pipe, plan
        self._task = ray.remote(num_cpus=1, max_retries=0)(_call)
        self._flag = ray.remote(num_cpus=0, max_restarts=-1)(_Flag).remote()
        self._work = ray.put(plan.work)
        self._todo = deque(range(len(plan.calls)))
        self._running: dict[Any, int] = {}
        self._deaths: Counter[int] = Counter()
        self._limit = self._counted_at = 0.0
        self._told = False

    def run(self) -> None:
        """Make the calls, limited to the number of workers at a time."""
        ray = _ray()
        while self._todo or self._running:
            self._pipe.send(("beat",))
            if self._pipe.poll():
                self._pipe.recv()
                self._told = True
                self._todo.clear()
                ray.get(self._flag.ask.remote(), timeout=SILENT_S)
            while self._todo and len(self._running) < self._count():
                index = self._todo.popleft()
                task = self._task.remote(self._work, self._plan.calls[index], self._flag)
                self._running[task] = index
            if self._running:
                for task in ray.wait(list(self._running), timeout=_ASK_AGAIN_S)[0]:
                    self._take(task)

    def _count(self) -> float:
        """Return the number of tasks that may run at a time; a cluster may grow meanwhile."""
        ray = _ray()
        if self._plan.workers is not None:
            return self._plan.workers
        if time.monotonic() - self._counted_at > _ASK_AGAIN_S:
            self._limit = max(1.0, ray.cluster_resources().get("CPU", 0.0))
            self._counted_at = time.monotonic()
        return self._limit

    def _take(self, task: Any) -> None:  # noqa: ANN401 - a ray.ObjectRef
        ray = _ray()
        index = self._running.pop(task)
        what = self._plan.names[index]
        try:
            result = ray.get(task)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, ModuleNotFoundError):
                missing = f"a machine of the cluster lacks the module {error.cause.name!r}"
                raise CogError(f"{missing}: install cogdata there too (docs/scale.md)") from None
            raise CogError(f"{what} failed: {_line(error.cause)}") from None
        except (ray.exceptions.RuntimeEnvSetupError, ray.exceptions.TaskUnschedulableError) as error:
            raise CogError(f"{what} cannot be run there: {_line(error)}") from None
        except ray.exceptions.RayError as error:  # the worker, or its machine, has died
            if self._told:
                return
            self._deaths[index] += 1
            if self._deaths[index] > MAX_RETRIES:
                raise CogError(
                    f"{what} ended their worker {self._deaths[index]} times ({type(error).__name__}): "
                    f"is memory short? try fewer --workers"
                ) from None
            self._todo.appendleft(index)
            return
        if isinstance(result, CogError):
            raise result
        self._pipe.send(("done", index, result))


def _ray() -> Any:  # noqa: ANN401 - the module, which is typed by halves
    return importlib.import_module("ray")


def _line(error: BaseException) -> str:
    said = str(error).strip().splitlines()
    return f"{type(error).__name__}: {said[0]}" if said else type(error).__name__


# --- on the machines of the cluster -----------------------------------------------------------------------


class _Flag:
    """Actor that holds whether a stop was requested."""

    def __init__(self) -> None:
        self._asked = False

    def ask(self) -> None:
        self._asked = True

    def asked(self) -> bool:
        return self._asked


def _call(work: bytes, call: object, flag: Any) -> bytes | CogError:  # noqa: ANN401
    """Run a call as a task; a CogError is returned as a value, because the worker did not fail."""
    ray = _ray()
    looked_at, known = time.monotonic(), False

    def stop_asked() -> bool:
        nonlocal looked_at, known
        if not known and time.monotonic() - looked_at > _ASK_AGAIN_S:
            with suppress(ray.exceptions.RayError):  # it is being moved to another machine
                known = ray.get(flag.asked.remote(), timeout=_ASK_AGAIN_S)
            looked_at = time.monotonic()
        return known

    function, shared = pickle.loads(work)
    try:
        return pickle.dumps(function(shared, call, stop_asked))
    except CogError as error:
        return error
