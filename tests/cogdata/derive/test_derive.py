"""Deriving layers: what is computed, by whom, and what is left when it fails or is stopped."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cogdata.derive.computing import NEEDED, SKIP, Job, Plan, Range, RangeDone, derive, derive_range, plan
from cogdata.derive.functions import find_function
from cogdata.derive.values import checked_row
from cogdata.derive.versions import choose_version
from cogdata.errors import CogError
from cogdata.features import Feature, Per
from cogdata.storage.layers.commits import covered, list_commits, read_commit, read_rows
from cogdata.storage.layers.heads import LayerInfo, create_layer
from cogdata.storage.store import Store
from cogdata.system.workers import Workers
from tests.deriving import LAYERS, Write
from tests.running import wait_for
from tests.synthetic import make_episode, write_episodes


def episodes_of(store: Store, collection: str, count: int) -> pa.Table:
    rows = write_episodes(store, collection, count, steps=2, size=1)
    return pa.Table.from_pylist([{name: row.get(name) for name in NEEDED} for row in rows])


def begun(store: Store, name: str, function: str, version: str | None = None) -> LayerInfo:
    info = choose_version(store, name, find_function(function), version, "cog derive")
    return create_layer(store, info)


def read(store: Store, info: LayerInfo) -> dict[str, dict[str, Any]]:
    """Episode → its values, each episode once."""
    found: dict[str, dict[str, Any]] = {}
    for path in list_commits(store, info):
        for row, digest in read_rows(store, info, read_commit(store, path)):
            assert row.digest(info.features) == digest
            assert row.episode_id not in found
            found[row.episode_id] = dict(row.values)
    return found


def run(
    store: Store, info: LayerInfo, episodes: pa.Table, workers: int = 1, **options: Any
) -> list[RangeDone]:
    planned = plan(store, info, episodes)
    return list(derive(Workers(workers), Job(store, info, **options), planned.ranges))


# --- computing -------------------------------------------------------------------------------------------


def test_a_function_gives_every_episode_its_features(store: Store, lab_layers: Write) -> None:
    episodes = episodes_of(store, "grasps", 3)
    info = begun(store, "seen", "lab_layers:seen")
    assert run(store, info, episodes) == [RangeDone(3, 0)]
    values = read(store, info)
    assert sorted(values) == [f"grasps/{index:07d}" for index in range(3)]
    assert values["grasps/0000002"]["caption"].tolist() == ["episode 2"]
    assert values["grasps/0000002"]["goal_m"].tolist() == [[2.0, 0.0], [2.0, 1.0], [2.0, 2.0]]
    assert values["grasps/0000002"]["goal_m"].dtype == np.float32
    assert values["grasps/0000002"]["jerk"].tolist() == [0.0, 0.5]
    assert plan(store, info, episodes) == Plan(3, 3, ())
    assert run(store, info, episodes) == []


def test_only_what_is_missing_is_derived(store: Store, lab_layers: Write) -> None:
    episodes = episodes_of(store, "grasps", 250)
    info = begun(store, "seen", "lab_layers:seen")
    run(store, info, episodes.slice(40, 100))
    planned = plan(store, info, episodes)
    assert (planned.wanted, planned.have, planned.missing) == (250, 100, 150)
    lacking = {span.part: len(span.rows) for span in planned.ranges}
    assert lacking == {"part-00000": 40, "part-00001": 60, "part-00002": 50}
    run(store, info, episodes)
    assert len(read(store, info)) == 250
    assert len(list_commits(store, info)) == 5


def test_shards_share_the_ranges_out(store: Store, lab_layers: Write) -> None:
    episodes = pa.concat_tables([episodes_of(store, name, 220) for name in ("a", "b")])
    info = begun(store, "seen", "lab_layers:seen")
    parts = [
        {(span.collection, span.part) for span in plan(store, info, episodes, (share, 3)).ranges}
        for share in range(3)
    ]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 6


def test_workers_derive_what_one_process_does_and_make_a_class_once_each(
    store: Store, lab_layers: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MADE", str(tmp_path / "made"))
    episodes = episodes_of(store, "grasps", 320)
    info = begun(store, "length", "lab_layers:Length")
    done = run(store, info, episodes, workers=2, batch=64)
    assert sorted(one.derived for one in done) == [20, 100, 100, 100]
    made = [path.name for path in (tmp_path / "made").iterdir() if path.name != "calls"]
    assert 1 <= len(made) <= 2
    assert str(os.getpid()) not in made
    calls = sorted((tmp_path / "made" / "calls").read_text().split())
    assert calls == ["20", "36", "36", "36", "64", "64", "64"]
    values = read(store, info)
    assert len(values) == 320
    assert all(one["length"].tolist() == [3] for one in values.values())


def test_a_worker_that_is_killed_is_replaced(
    store: Store, lab_layers: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIVES", str(tmp_path / "killed"))
    lab_layers(
        LAYERS.replace(
            'if os.environ.get("FAIL_AT")',
            'if episode.meta.index == 120 and not Path(os.environ["LIVES"]).exists():\n'
            '        Path(os.environ["LIVES"]).touch()\n        os.kill(os.getpid(), 9)\n'
            '    if os.environ.get("FAIL_AT")',
        )
    )
    episodes = episodes_of(store, "grasps", 220)
    info = begun(store, "seen", "lab_layers:seen")
    run(store, info, episodes, workers=2)
    assert (tmp_path / "killed").exists()
    assert len(read(store, info)) == 220


def test_a_range_that_ends_its_worker_again_and_again_is_an_error(store: Store, lab_layers: Write) -> None:
    lab_layers(LAYERS.replace("    return {", "    os._exit(3)\n    return {", 1))
    episodes = episodes_of(store, "grasps", 120)
    info = begun(store, "seen", "lab_layers:seen")
    with pytest.raises(CogError, match=r"^grasps/part-0000\d ended their worker 3 times \(exit code 3\)"):
        run(store, info, episodes, workers=2)


@pytest.mark.parametrize("workers", [1, 2])
def test_an_episode_that_fails_ends_the_command_and_what_was_derived_is_kept(
    store: Store, lab_layers: Write, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setenv("FAIL_AT", "grasps/0000105")
    episodes = episodes_of(store, "grasps", 110)
    info = begun(store, "seen", "lab_layers:seen")
    with pytest.raises(
        CogError, match=r"^lab_layers:seen fails for grasps/0000105: RuntimeError\('no light'\)$"
    ):
        run(store, info, episodes, workers)
    values = read(store, info)
    assert [f"grasps/{index:07d}" in values for index in (100, 104, 105)] == [True, True, False]
    monkeypatch.delenv("FAIL_AT")
    run(store, info, episodes)
    assert len(read(store, info)) == 110


def test_an_episode_that_fails_may_be_skipped(
    store: Store, lab_layers: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAIL_AT", "grasps/0000001")
    episodes = episodes_of(store, "grasps", 4)
    info = begun(store, "seen", "lab_layers:seen")
    (done,) = run(store, info, episodes, on_error=SKIP, batch=3)
    assert done.failed == (
        ("grasps/0000001", "lab_layers:seen fails for grasps/0000001: RuntimeError('no light')"),
    )
    assert sorted(read(store, info)) == ["grasps/0000000", "grasps/0000002", "grasps/0000003"]


def test_what_is_done_is_committed_when_the_end_is_asked_for(store: Store, lab_layers: Write) -> None:
    episodes = episodes_of(store, "grasps", 10)
    info = begun(store, "seen", "lab_layers:seen")
    asked = iter([False, False, False, True])
    done = derive_range(Job(store, info), Range("grasps", "part-00000", episodes), lambda: next(asked))
    assert done == RangeDone(3, 0)
    assert len(read(store, info)) == 3


def test_a_slow_function_commits_every_minute(
    store: Store, lab_layers: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 100_000, 25))
    monkeypatch.setattr("cogdata.derive.computing.time.monotonic", lambda: next(clock))
    episodes = episodes_of(store, "grasps", 7)
    info = begun(store, "seen", "lab_layers:seen")
    run(store, info, episodes)
    assert [read_commit(store, path).episodes for path in list_commits(store, info)] == [3, 3, 1]


def test_what_another_process_committed_meanwhile_is_not_derived_again(
    store: Store, lab_layers: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    episodes = episodes_of(store, "grasps", 5)
    info = begun(store, "seen", "lab_layers:seen")
    planned = plan(store, info, episodes)
    run(store, info, episodes.slice(1, 2))
    assert list(derive(Workers(1), Job(store, info), planned.ranges)) == [RangeDone(3, 2)]
    assert len(read(store, info)) == 5


def test_an_episode_that_was_collected_anew_is_missing(store: Store, lab_layers: Write) -> None:
    episodes = episodes_of(store, "grasps", 2)
    info = begun(store, "seen", "lab_layers:seen")
    run(store, info, episodes)
    changed = episodes.set_column(3, "digest", pa.array([episodes["digest"][0].as_py(), "ff" * 32]))
    assert plan(store, info, changed).missing == 1


def test_a_worker_that_is_told_to_stop_commits_what_it_has(
    store: Store, lab_layers: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AT", str(tmp_path / "at"))
    lab_layers(LAYERS.replace(
        'if os.environ.get("FAIL_AT")',
        'Path(os.environ["AT"]).touch()\n    import time\n    time.sleep(0.05)\n    if os.environ.get("FAIL_AT")',
    ))  # fmt: skip
    episodes = episodes_of(store, "grasps", 210)
    info = begun(store, "seen", "lab_layers:seen")
    workers = Workers(2)

    def stop() -> None:
        wait_for((tmp_path / "at").exists)
        workers.stop()

    stopping = threading.Thread(target=stop)
    stopping.start()
    done = list(derive(workers, Job(store, info), plan(store, info, episodes).ranges))
    stopping.join()
    assert 0 < len(read(store, info)) == sum(one.derived for one in done) < 210


# --- functions -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("seen", "--fn 'seen' must be module:function, for example my_layers:caption"),
        ("lab_layers:se en", "--fn 'lab_layers:se en' must be module:function, for example my_layers:caption"),
        ("lab_layers:sen", "unknown function in .*lab_layers.py 'sen': did you mean 'seen'\\? known: Length, seen"),
        ("lab_layers:undeclared", "lab_layers:undeclared does not declare what it derives: put "
                                  "@derives\\(Feature\\(…\\)\\) before it, see docs/layers.md"),
        ("no_such_module:f", "cannot import no_such_module of --fn no_such_module:f: ModuleNotFoundError.*"),
        ("json:dumps", "json:dumps does not declare what it derives.*"),
    ],
)  # fmt: skip
def test_a_function_that_cannot_be_found_is_one_line(lab_layers: Write, name: str, line: str) -> None:
    with pytest.raises(CogError) as caught:
        find_function(name)
    assert re.fullmatch(line, str(caught.value))


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ("return 3", "lab_layers:f gives 3 for grasps/0000000, must give a dict: see docs/layers.md"),
        ("return {'y': 1}", "lab_layers:f gives grasps/0000000 a wrong value: y is not declared; declared: x"),
        ("return {'x': [1, 2]}", "lab_layers:f gives grasps/0000000 a wrong value: x has shape (2,), must be (3,)"),
        ("return {'x': [1, 2, float('nan')]}", "lab_layers:f gives grasps/0000000 a wrong value: x is nan at row 2: "
                                               "it holds a value that is not finite"),
        ("raise SystemExit('bye')", "lab_layers:f fails for grasps/0000000: SystemExit('bye')"),
    ],
)  # fmt: skip
def test_a_function_that_gives_something_else_is_one_line(
    store: Store, lab_layers: Write, body: str, line: str
) -> None:
    lab_layers(
        "from cogdata.derive import derives\nfrom cogdata.features import Feature\n"
        f"@derives(Feature('x', 'float32'))\ndef f(episode):\n    {body}\n"
    )
    episodes = episodes_of(store, "grasps", 1)
    info = begun(store, "x", "lab_layers:f")
    with pytest.raises(CogError) as caught:
        run(store, info, episodes)
    assert str(caught.value) == line
    assert list_commits(store, info) == []


def test_a_function_of_a_list_gives_a_list_of_its_length(store: Store, lab_layers: Write) -> None:
    lab_layers(
        "from cogdata.derive import derives\nfrom cogdata.features import Feature\n"
        "@derives(Feature('x', 'float32'), batched=True)\ndef f(episodes):\n    return [{}]\n"
    )
    episodes = episodes_of(store, "grasps", 3)
    with pytest.raises(
        CogError, match=r"^lab_layers:f gives 1 results for grasps/0000000 and 2 more, must give a list of 3$"
    ):
        run(store, begun(store, "x", "lab_layers:f"), episodes, batch=3)


def test_a_class_that_cannot_be_made_is_one_line(
    store: Store, lab_layers: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MADE", raising=False)
    episodes = episodes_of(store, "grasps", 1)
    with pytest.raises(
        CogError, match=r"^lab_layers:Length cannot be made by Length\(\): KeyError\('MADE'\)$"
    ):
        run(store, begun(store, "length", "lab_layers:Length"), episodes)


# --- values ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("feature", "given", "found"),
    [
        (Feature("x", "float32", per=Per.EPISODE), 0.5, [0.5]),
        (Feature("x", "float32", (2,), per=Per.EPISODE), [1, 2], [[1.0, 2.0]]),
        (Feature("x", "int64", per=Per.EPISODE), np.int32(7), [7]),
        (Feature("x", "uint8", per=Per.EPISODE), 255, [255]),
        (Feature("x", "bool", per=Per.EPISODE), True, [True]),
        (Feature("x", "bool"), np.array([True, False, True]), [True, False, True]),
        (Feature("x", "float16", per=Per.TRANSITION), [1, 2], [1.0, 2.0]),
        (Feature("x", "string", per=Per.EPISODE), "a cup", ["a cup"]),
        (Feature("x", "string", per=Per.TRANSITION), ["a", None], ["a", None]),
        (Feature("x", "string", per=Per.TRANSITION), [None, None], None),
        (Feature("x", "string", per=Per.EPISODE), None, None),
        (Feature("x", "float32"), None, None),
    ],
)
def test_values_become_what_is_declared(feature: Feature, given: object, found: list[object] | None) -> None:
    row = checked_row([feature], {"x": given}, make_episode("a", 0, steps=2), "ab")
    values = row.values["x"]
    assert (row.observations, row.actions) == (3, 2)
    assert (None if values is None else values.tolist()) == found
    assert values is None or values.dtype == feature.numpy_dtype


@pytest.mark.parametrize(
    ("feature", "given", "line"),
    [
        (Feature("x", "int64", per=Per.EPISODE), 0.5, "x is float64, must be int64"),
        (Feature("x", "uint8", per=Per.EPISODE), 256, "x has a number that uint8 does not hold"),
        (Feature("x", "uint8", per=Per.EPISODE), -1, "x has a number that uint8 does not hold"),
        (Feature("x", "float16", per=Per.EPISODE), 1e30, "x has a number that float16 does not hold"),
        (Feature("x", "bool", per=Per.EPISODE), 1, "x is int64, must be bool"),
        (Feature("x", "float32", per=Per.EPISODE), True, "x is bool, must be float32"),
        (Feature("x", "string", per=Per.EPISODE), 3, "x is 3, must be a text"),
        (Feature("x", "string", per=Per.EPISODE), [3], "x is 3 at row 0, must be a text or null"),
        (Feature("x", "string"), "abc", "x is ['abc'], must be 3 texts"),
        (Feature("x", "string", per=Per.EPISODE), "\ud800", "x is '\\ud800' at row 0, which is no Unicode text"),
        (Feature("x", "float32", (2,)), np.zeros((3, 3)), "x has shape (3, 3), must be (3, 2)"),
        (Feature("x", "uint8", low=(0.0,), high=(5.0,)), [1, 2, 9],
         "x[0] is 9 at row 2, above its bound 5; nothing was clipped"),
    ],
)  # fmt: skip
def test_values_that_are_something_else_are_refused(feature: Feature, given: object, line: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(line)}$"):
        checked_row([feature], {"x": given}, make_episode("a", 0, steps=2), "ab")


# --- versions --------------------------------------------------------------------------------------------


def test_a_version_goes_on_by_the_same_source_alone(store: Store, lab_layers: Write) -> None:
    first = begun(store, "seen", "lab_layers:seen")
    assert begun(store, "seen", "lab_layers:seen") == first
    lab_layers(f"{LAYERS}\n# edited\n")
    with pytest.raises(CogError) as caught:
        begun(store, "seen", "lab_layers:seen")
    assert re.fullmatch(
        r"layer seen@1 was derived by another source of lab_layers:seen \(sha256 [0-9a-f]{12}, now "
        r"[0-9a-f]{12}\): --version new derives v2 beside it",
        str(caught.value),
    )
    second = begun(store, "seen", "lab_layers:seen", "new")
    assert (second.version, second.source != first.source) == (2, True)
    assert begun(store, "seen", "lab_layers:seen").version == 2
    lab_layers(LAYERS)
    assert begun(store, "seen", "lab_layers:seen", "1") == first
    with pytest.raises(CogError, match=r"--version new derives v3 beside it, --version 1 is by this one$"):
        begun(store, "seen", "lab_layers:seen")
    with pytest.raises(
        CogError, match=r"^layer seen@2 was derived by lab_layers:seen, not by lab_layers:Length: "
    ):
        begun(store, "seen", "lab_layers:Length", "v2")


@pytest.mark.parametrize(
    ("version", "line"),
    [
        ("5", "layer 'seen' has no version 5: there are [1], --version new adds v2"),
        ("latest", "--version is 'latest', must be new or a number, for example 2"),
    ],
)
def test_versions_that_are_not_there(store: Store, lab_layers: Write, version: str, line: str) -> None:
    begun(store, "seen", "lab_layers:seen")
    with pytest.raises(CogError) as caught:
        begun(store, "seen", "lab_layers:seen", version)
    assert str(caught.value) == line


def test_a_version_whose_head_is_lost_is_not_begun_again(store: Store, lab_layers: Write) -> None:
    begun(store, "seen", "lab_layers:seen")
    store.remove("layers/seen/v1/layer.json")
    store.write_text("layers/seen/v1/grasps/part-00000/commit-0000.json", "{}")
    assert begun(store, "seen", "lab_layers:seen").version == 2


def test_a_process_with_another_source_derives_nothing(store: Store, lab_layers: Write) -> None:
    episodes = episodes_of(store, "grasps", 1)
    info = begun(store, "seen", "lab_layers:seen")
    lab_layers(f"{LAYERS}\n# edited\n")
    with pytest.raises(CogError, match=r"^lab_layers:seen on .* has another source than that of seen@1"):
        run(store, info, episodes)
    assert covered(store, info) == set()
