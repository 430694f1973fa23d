"""Ray clusters of several processes: the same digests, and one line for whatever goes wrong."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cogdata.derive.computing import NEEDED, Job, derive
from cogdata.derive.computing import plan as derive_plan
from cogdata.derive.functions import find_function
from cogdata.derive.versions import choose_version
from cogdata.errors import CogError
from cogdata.storage.layers.commits import covered
from cogdata.storage.layers.heads import create_layer
from cogdata.storage.parts import Commit, PartWriter, list_parts
from cogdata.storage.store import Store
from cogdata.system.cluster import Cluster
from collectors import collect_part, engines
from collectors.collect import CollectRequest, EpisodeDone, plan, prepare, request
from collectors.collect_part import EpisodeFailed
from collectors.engines import LocalEngine, RayEngine
from tests.deriving import Write
from tests.running import STOPPING, TINY, Run, members, wait_for
from tests.synthetic import write_episodes

EPISODES = 120


@pytest.fixture(autouse=True)
def _own_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """No cluster but the test's, no token written into the home folder."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")


def _asked() -> CollectRequest:
    return request("random", image_size=16, horizon=2)


def _digests(store: Store) -> dict[str, str]:
    name = _asked().collection
    return {
        row["episode_id"]: row["digest"]
        for part in list_parts(store, name)
        for row in store.read_table(f"collections/{name}/{part}/episodes.parquet").to_pylist()
    }


def _die_on(marker: Path, lives: int, call: int) -> int:
    """Take the worker along, so many times."""
    if call == 3:
        deaths = len(list(marker.parent.glob(f"{marker.name}*")))
        if deaths < lives:
            marker.with_name(f"{marker.name}{deaths}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
    return call * call


def _square(shared: tuple[Path, int], call: int, stop_asked: Callable[[], bool]) -> int:
    if call == 4:
        raise CogError("four is not for us")
    return _die_on(*shared, call)


def test_a_worker_that_is_killed_costs_a_retry_and_digests_are_those_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local, spread, asked = Store(str(tmp_path / "local")), Store(str(tmp_path / "ray")), _asked()
    prepare(local, asked, "test")
    list(LocalEngine(2)(local, asked, plan(local, asked, EPISODES).ranges))
    prepare(spread, asked, "test")
    monkeypatch.setattr(engines, "_collect_range", partial(_killed_once, tmp_path / "killed"))
    events = list(RayEngine(workers=2)(spread, asked, plan(spread, asked, EPISODES).ranges))
    assert (tmp_path / "killed").exists()
    assert sorted(event.part for event in events if isinstance(event, Commit)) == [
        "part-00000",
        "part-00001-00-19",
    ]
    assert sum(not isinstance(event, Commit) for event in events) == EPISODES
    assert _digests(spread) == _digests(local)


def _killed_once(marker: Path, shared: Any, span: tuple[int, int], stop_asked: Callable[[], bool]) -> Any:
    """Collect the range, but at the first attempt at the first of them die after one episode."""

    seen = []

    def stop_or_die() -> bool:
        seen.append(True)
        if span[0] == 0 and len(seen) == 2 and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return stop_asked()

    return engines._collect_range(shared, span, stop_or_die)


def _breaking_at_three(shared: Any, span: tuple[int, int], stop_asked: Callable[[], bool]) -> Any:
    """Collect the range; in episode 3 the environment fails."""
    real = collect_part._add_episode

    def add(writer: PartWriter, asked: CollectRequest, index: int) -> EpisodeDone:
        if index == 3:
            raise OSError("no")
        return real(writer, asked, index)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collect_part, "_add_episode", add)
        return engines._collect_range(shared, span, stop_asked)


@pytest.mark.slow
def test_an_episode_that_fails_on_a_cluster_costs_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, asked = Store(str(tmp_path)), _asked()
    prepare(store, asked, "test")
    monkeypatch.setattr(engines, "_collect_range", _breaking_at_three)
    with pytest.raises(
        CogError, match=rf"^episode 3 of {asked.collection} failed: cog/PickTray-v0: OSError\("
    ):
        list(RayEngine(workers=2)(store, asked, ((0, 10),)))
    assert list_parts(store, asked.collection) == ["part-00000-00-02"]
    events = list(RayEngine(workers=2, on_error="skip")(store, asked, ((3, 10),)))
    assert [event.index for event in events if isinstance(event, EpisodeFailed)] == [3]
    assert list_parts(store, asked.collection) == ["part-00000-00-02", "part-00000-04-09"]


@pytest.mark.slow
def test_a_call_that_kills_its_worker_again_and_again_is_one_line(tmp_path: Path) -> None:
    results = Cluster(workers=2).run(_square, (tmp_path / "a", 2), [1, 2, 3], "call {}".format)
    assert dict(results) == {0: 1, 1: 4, 2: 9}
    with pytest.raises(CogError, match=r"^call 3 ended their worker 3 times \(WorkerCrashedError\)"):
        list(Cluster(workers=2).run(_square, (tmp_path / "b", 3), [3], "call {}".format))
    with pytest.raises(CogError, match="^four is not for us$"):
        list(Cluster(workers=2).run(_square, (tmp_path / "c", 0), [1, 4, 5], "call {}".format))


def _die_when_told(marker: Path, call: int, stop_asked: Callable[[], bool]) -> int:
    """Wait for the end to be asked for, and take the worker along; a second attempt would return."""
    if marker.exists():
        return call
    marker.touch()
    while not stop_asked():
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGKILL)
    return call


def _stop_after(marker: Path, stop: Callable[[], None]) -> threading.Thread:
    """Ask for the end as soon as the first task runs."""

    def wait() -> None:
        while not marker.exists():
            time.sleep(0.05)
        stop()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


@pytest.mark.slow
def test_what_dies_after_the_end_was_asked_for_is_not_begun_again(tmp_path: Path) -> None:
    cluster, marker = Cluster(workers=1), tmp_path / "marker"
    thread = _stop_after(marker, cluster.stop)
    assert list(cluster.run(_die_when_told, marker, [1, 2, 3], "call {}".format)) == []
    thread.join()


@pytest.mark.slow
def test_a_cluster_told_to_stop_commits_what_is_done_and_resumes_behind_it(tmp_path: Path) -> None:
    """The short part is done first; then the end is asked for, while the two long ones are under way."""
    store, asked = Store(str(tmp_path / "ray")), request("random", image_size=16, horizon=60)
    prepare(store, asked, "test")
    engine, done = RayEngine(workers=2), set()
    commits: list[Commit] = []
    for event in engine(store, asked, ((100, 105), (0, 100), (200, 300), (300, 400))):
        if isinstance(event, Commit):
            commits.append(event)
        else:
            engine.stop()
            done.add(event.index)
    held = {index for commit in commits for index in range(commit.start, commit.stop)}
    assert held == done
    assert set(range(100, 105)) <= held
    assert 5 < len(held) < 105
    assert max(held) < 300  # no other was begun
    assert sorted(commit.part for commit in commits) == list_parts(store, asked.collection)
    ranges = plan(store, asked, 100).ranges
    assert ranges == ((len(held & set(range(100))), 100),)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="counts processes in /proc")
def test_ctrl_c_while_ray_starts_is_one_line(tmp_path: Path) -> None:
    command = [
        "collect",
        "--policy",
        "random",
        "--episodes",
        "200",
        *TINY,
        "--engine",
        "ray",
        "--workers",
        "1",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "cli", *command, "--root", str(tmp_path)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_for(lambda: members(process.pid) >= 3)  # the command, a tracker of Python's, Ray's driver
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    stopping, said = (line for line in err.splitlines() if line)
    assert stopping == STOPPING
    assert re.fullmatch(r"stopped: 0 of 200 episodes of random-\w+ are in the store; run the same .*", said)


def test_a_machine_that_does_not_see_the_store_says_so(tmp_path: Path) -> None:
    with pytest.raises(CogError, match=f"does not see the collection in {tmp_path}: name a store that every"):
        engines._collect_range((Store(str(tmp_path)), _asked(), "stop"), (0, 2), lambda: False)


def test_addresses_that_lead_nowhere_are_one_line(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collect = ("collect", "--policy", "random", "--episodes", "1", *TINY, "--root", str(tmp_path))
    assert run(*collect, "--engine", "spark").error == "unknown engine 'spark': known: local, ray"
    assert run(*collect, "--address", "h:1").error == "--address names a Ray cluster: add --engine ray"
    for wrong in ("h", "h:", ":1", "h:x", "h:70000", "h:\u00b2"):
        error = run(*collect, "--engine", "ray", "--address", wrong).error
        assert error == f"--address '{wrong}' must be HOST:PORT, ray://HOST:PORT or auto"
    error = run(*collect, "--engine", "ray", "--address", "127.0.0.1:9").error
    assert error == "no Ray cluster at 127.0.0.1:9: Connection refused"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    error = run(*collect, "--engine", "ray").error
    assert error == "--engine ray needs Ray, which is not installed: pip install 'cogdata-robot[ray]'"


def test_a_port_that_never_answers_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cogdata.system.cluster.CONNECT_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        with pytest.raises(
            CogError, match=f"^the Ray cluster at {address} does not answer: no message for 1 s$"
        ):
            list(Cluster(address).run(_square, (tmp_path, 0), [1], str))
    assert time.monotonic() - began < 10


@pytest.mark.slow
def test_rounds_judged_on_a_cluster_are_the_same_rows(root: Path, run: Run) -> None:
    (name,) = (path.name for path in (root / "runs").iterdir())
    command = (
        "eval",
        name,
        "--env",
        "cog/PickTray-v0",
        "--episodes",
        "20",
        "--record",
        "1",
        "--workers",
        "2",
    )
    (path,) = _evaluated(run(*command).out, root, name)
    here = pq.read_table(path).drop_columns(["created_at"])
    path.unlink()
    (again,) = _evaluated(run(*command, "--engine", "ray").out, root, name)
    assert again == path
    assert pq.read_table(path).drop_columns(["created_at"]).equals(here)


def _evaluated(said: str, root: Path, name: str) -> list[Path]:
    assert "/20 = " in said
    return list((root / "runs" / name / "evaluations").glob("*.parquet"))


@pytest.mark.slow
def test_a_layer_is_derived_by_tasks(tmp_path: Path, lab_layers: Write) -> None:
    store = Store(str(tmp_path / "store"))
    rows = write_episodes(store, "grasps", 120, steps=1, size=1)
    episodes = pa.Table.from_pylist([{name: row.get(name) for name in NEEDED} for row in rows])
    info = create_layer(store, choose_version(store, "seen", find_function("lab_layers:seen"), None, "cog"))
    ranges = derive_plan(store, info, episodes).ranges
    done = list(derive(Cluster(workers=2), Job(store, info), ranges))
    assert sorted(one.derived for one in done) == [20, 100]
    assert len(covered(store, info)) == 120
