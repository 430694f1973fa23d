"""`cog derive`: layers from the command line."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from catalog.doctor import verify
from cogdata.storage.layers.commits import covered, list_commits, read_commit
from cogdata.storage.layers.heads import read_layer
from cogdata.storage.manifest import read_manifest
from cogdata.storage.store import Store
from cogdata.streaming.stream import Stream, StreamOptions
from tests.catalog.support import collect_into
from tests.deriving import LAYERS, Write
from tests.running import TINY, Run, wait_for
from tests.synthetic import write_episodes

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _here(lab_layers: Write) -> None:
    """The working folder of the user."""


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("COG_ROOT", str(tmp_path / "store"))
    return Store(str(tmp_path / "store"))


def hashes(store: Store, folder: str = "collections") -> dict[str, str]:
    return {
        path: hashlib.sha256(store.read_bytes(f"{folder}/{path}")).hexdigest()
        for path in store.list_below(folder)
    }


def test_a_layer_is_derived_and_gone_on_with(run: Run, store: Store) -> None:
    write_episodes(store, "grasps", 5, steps=2, size=1)
    before = hashes(store)
    command = ("derive", "seen", "--fn", "lab_layers:seen")
    said = run(*command, "--where", "episode_index < 2")
    assert (said.code, said.err) == (0, "")
    assert said.out.splitlines() == [
        "seen@1: caption, goal_m, jerk by lab_layers:seen, 2 episodes asked for, 0 there, 2 to derive with 1 worker",
        "seen@1: 2 of 2 episodes, 2 of them derived now",
        'next: cog query "select episode_id, caption from episodes" --limit 5',
    ]
    said = run(*command, "--where", "select episode_id from episodes where episode_index in (1, 4)")
    assert said.out.splitlines()[1] == "seen@1: 2 of 2 episodes, 1 of them derived now"
    said = run(*command)
    assert said.out.splitlines()[1] == "seen@1: 5 of 5 episodes, 2 of them derived now"
    said = run(*command)
    assert said.out.splitlines()[1] == "seen@1: 5 of 5 episodes, 0 of them derived now"
    info = read_layer(store, "seen")
    assert info.source == hashlib.sha256(LAYERS.encode()).hexdigest()
    assert info.command == "cog derive seen --fn lab_layers:seen --where 'episode_index < 2'"
    assert [read_commit(store, path).episodes for path in list_commits(store, info)] == [2, 1, 2]
    assert hashes(store) == before


def test_shards_and_new_versions(run: Run, store: Store) -> None:
    write_episodes(store, "grasps", 205, steps=1, size=1)
    command = ("derive", "seen", "--fn", "lab_layers:seen", "--version", "new")
    said = run(*command, "--shard", "0/2", "--root", store.url)
    counts = [int(said.out.split(" of ")[0].rsplit(" ", 1)[1])]
    assert said.out.splitlines()[-1].endswith(f"--limit 5 --root {store.url}")
    said = run("derive", "seen", "--fn", "lab_layers:seen", "--shard", "1/2")
    counts.append(int(said.out.splitlines()[1].split()[1]))
    assert sum(counts) == 205
    assert len(covered(store, read_layer(store, "seen"))) == 205
    assert run(*command).out.startswith("seen@2: ")


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--shard", "2/2"), "--shard is '2/2', must be I/N with I below N, for example 0/2 and 1/2"),
        (("--batch", "4"), "lab_layers:seen takes one episode: declare it with batched=True, or leave --batch out"),
        (("--workers", "0"), "--workers is 0, must be a whole number of at least 1, or auto"),
        (("--on-error", "ignore"), "unknown --on-error 'ignore': known: skip, stop"),
        (("--where", "episode_index > 99"), "the query yields no episodes: loosen its condition"),
        (("--where", "epsode_index > 99"), "unknown column 'epsode_index' at line 2, column 1: did you mean "
                                           "'episode_index'?"),
        (("--where", "delete from episodes"), "SQL syntax error near 'from' at line 2, column 8: check the "
                                              "words just before it"),
        (("--where", "select 1 as one"), "the query has no column episode_id, found one: select episode_id from "
                                         "episodes where …"),
        (("--address", "auto"), "--address names a Ray cluster: add --engine ray"),
        (("--version", "7"), "layer 'seen' has no version 7: there is none yet, --version new adds v1"),
    ],
)  # fmt: skip
def test_a_mistake_costs_a_line_and_leaves_no_layer(
    run: Run, store: Store, options: tuple[str, ...], line: str
) -> None:
    write_episodes(store, "grasps", 1, steps=1, size=1)
    assert run("derive", "seen", "--fn", "lab_layers:seen", *options).error == line
    assert store.list_below("layers") == []


def test_a_store_without_episodes_says_so(run: Run, store: Store) -> None:
    assert "there is no store at" in run("derive", "seen", "--fn", "lab_layers:seen").error
    Path(store.url).mkdir()
    expected = "the store has no episodes yet: run `cog collect` first"
    assert run("derive", "seen", "--fn", "lab_layers:seen").error == expected


@pytest.mark.parametrize(
    ("name", "owner"),
    [
        ("robot", "declared by grasps"),
        ("image", "declared by grasps"),
        ("placed", "declared by grasps"),
        ("phase", "a column of steps"),
        ("seed", "a column of episodes"),
        ("caption", "a feature of layer seen@1"),
    ],
)
def test_a_name_that_is_taken_is_refused(
    run: Run, store: Store, lab_layers: Write, name: str, owner: str
) -> None:
    write_episodes(store, "grasps", 1, steps=1, size=1)
    assert run("derive", "seen", "--fn", "lab_layers:seen").code == 0
    lab_layers(LAYERS.replace('"caption"', '"other"').replace('"goal_m"', f'"{name}"'))
    assert run("derive", "my-own", "--fn", "lab_layers:seen").error == (
        f"feature {name} of layer my-own is {owner} already: choose another name, for example my_own_{name}"
        if owner != "a column of steps"
        else "'phase' is a name that every episode uses itself: choose another"
    )


def test_skipped_episodes_are_named_and_the_exit_code_says_so(
    run: Run, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_episodes(store, "grasps", 3, steps=1, size=1)
    monkeypatch.setenv("FAIL_AT", "grasps/0000001")
    said = run("derive", "seen", "--fn", "lab_layers:seen", "--on-error", "skip")
    assert said.code == 1
    assert said.out.splitlines()[1:] == ["seen@1: 2 of 3 episodes, 2 of them derived now"]
    assert said.err.splitlines() == [
        "lab_layers:seen failed for 1 episodes; the same command tries them again",
        "  grasps/0000001: lab_layers:seen fails for grasps/0000001: RuntimeError('no light')",
    ]


def test_the_example_of_the_guide_works(run: Run, store: Store) -> None:
    guide = (ROOT / "docs" / "layers.md").read_text(encoding="utf-8")
    (module,) = re.findall(r"```python\n(.*?)```", guide, re.S)
    Path("my_layers.py").write_text(module)
    commands = [
        shlex.split(line)[1:]
        for block in re.findall(r"```sh\n(.*?)```", guide, re.S)
        for line in block.splitlines()
    ]
    assert run("collect", "--policy", "weak_grasp", "--episodes", "12", *TINY).code == 0
    assert [command[0] for command in commands] == ["derive", "query", "query", "query", "query"]
    for command in (*commands[:3], commands[4]):  # none of three actions places anything: no good_grasps
        assert run(*command).code == 0
    sql = "select count(outcome), count(*) from episodes"
    assert run("query", sql, "--format", "csv").out.splitlines()[1] == "12,12"
    sql = "select count(hand_moved_m), count(offset_m), count(*) from steps"
    assert run("query", sql, "--format", "csv").out.splitlines()[1] == "36,48,48"
    frozen = read_manifest(store, "near")
    assert [one.name for one in frozen.info.spec.observations] == ["robot", "offset_m"]
    assert Stream(store, frozen, StreamOptions(batch_size=36)).batch(0).obs["offset_m"].shape == (36, 3)


# --- processes -------------------------------------------------------------------------------------------


def start(*options: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(ROOT / "cli.py"), "derive", "seen", "--fn", "lab_layers:seen", *options]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def slow(seconds: float) -> str:
    return LAYERS.replace(
        'if os.environ.get("FAIL_AT")',
        f'import time\n    time.sleep({seconds})\n    if os.environ.get("FAIL_AT")',
    )


def test_ctrl_c_commits_what_is_done(store: Store, lab_layers: Write, run: Run) -> None:
    write_episodes(store, "grasps", 150, steps=1, size=1)
    lab_layers(slow(0.02))
    process = start()
    wait_for(
        lambda: store.exists("layers/seen/v1/grasps") or process.poll() is not None
    )  # one of two ranges is done
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    done = len(covered(store, read_layer(store, "seen")))
    assert process.returncode == 130, err
    assert 50 <= done < 150
    said = f"stopped: seen@1: {done} of 150 episodes, {done} of them derived now; run the same command again"
    assert said in err
    assert run("derive", "seen", "--fn", "lab_layers:seen").out.splitlines()[1] == (
        f"seen@1: 150 of 150 episodes, {150 - done} of them derived now"
    )


def derive_in_the_midst_of_a_kill(store: Store, episodes: int) -> int:
    """Kill a command with two workers, then let three commands at once derive the rest; return what was left."""
    first = start("--workers", "2")
    folder = "layers/seen/v1/grasps"
    wait_for(lambda: len(store.list_folders(folder)) > 1 or first.poll() is not None, seconds=120)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    there = len(covered(store, read_layer(store, "seen")))
    others = [start(), start(), start("--shard", "0/2"), start("--shard", "1/2")]
    for other in others:
        _, err = other.communicate(timeout=600)
        assert other.returncode == 0, err
    commits = [read_commit(store, path) for path in list_commits(store, read_layer(store, "seen"))]
    assert sum(commit.episodes for commit in commits) == episodes
    assert len(covered(store, read_layer(store, "seen"))) == episodes
    return there


def test_a_command_that_is_killed_is_gone_on_with_by_four_at_once(store: Store, lab_layers: Write) -> None:
    write_episodes(store, "grasps", 420, steps=1, size=1)
    before = hashes(store)
    lab_layers(slow(0.005))
    assert 0 < derive_in_the_midst_of_a_kill(store, 420) < 420
    assert hashes(store) == before


@pytest.mark.slow
def test_ten_thousand_episodes(store: Store, lab_layers: Write, run: Run) -> None:
    collect_into(store, "grasps", 0, 10_000, steps=2, image_size=1)
    before = hashes(store)
    lab_layers(slow(0.001))
    assert 0 < derive_in_the_midst_of_a_kill(store, 10_000) < 10_000
    assert hashes(store) == before
    sql = "select count(*), count(caption), count(distinct caption) from episodes"
    assert run("query", sql, "--format", "csv").out.splitlines()[1] == "10000,10000,10000"
    assert verify(store) == []
    info = read_layer(store, "seen")
    commit = read_commit(store, list_commits(store, info)[-1])
    for name in (f"{info.folder}/layer.json", commit.path, commit.file("episodes"), commit.file("steps")):
        whole = store.read_bytes(str(name))
        store.write_bytes(str(name), whole[:50] + bytes([whole[50] ^ 1]) + whole[51:])
        assert [problem.where for problem in verify(store)] == [name]
        store.write_bytes(str(name), whole)
