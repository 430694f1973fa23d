"""A mixture and a run in another store: the same bytes, nothing lost there, nothing half."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import filelock
import numpy as np
import pyarrow as pa
import pytest

from catalog.doctor import verify
from catalog.mixtures.mixture import freeze
from cogdata.errors import CogError
from cogdata.storage.collections import list_collections
from cogdata.storage.manifest import MixtureInfo, read_info, read_manifest
from cogdata.storage.parts import list_parts
from cogdata.storage.runs import RunState, list_runs, read_run, read_state, write_state
from cogdata.storage.selection import Selection
from cogdata.storage.store import Store
from cogdata.storage.transfer import copy_mixture, copy_run
from cogdata.streaming.stream import Stream, StreamOptions
from tests.catalog.mixtures.robots import collect_arms
from tests.catalog.support import collect_into, write_run_of
from tests.running import Run

QUERY = """select episode_id, 'prior' as source, 0.0 as reward from episodes
           where collection = 'wanted' and episode_index < 120"""


@pytest.fixture
def source(tmp_path: Path) -> Store:
    store = Store(str(tmp_path / "source"))
    collect_into(store, "wanted", 0, 250)
    collect_into(store, "other", 0, 10)
    freeze(store, "mix", QUERY)
    return store


@pytest.fixture
def target(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "target"))


def test_a_mixture_streams_the_same_there(source: Store, target: Store) -> None:
    told: list[tuple[int, int]] = []
    copied = copy_mixture(source, target, "mix", lambda done, total: told.append((done, total)))
    assert list_collections(target) == ["wanted"]
    assert list_parts(target, "wanted") == ["part-00000", "part-00001"]  # 120 of 250 episodes, 100 to a part
    assert told == [(1, 2), (2, 2)]
    assert copied.files == 1 + 2 * 4 + 3
    assert verify(target) == []
    here, there = (
        Stream(store, read_manifest(store, "mix"), StreamOptions(batch_size=8)) for store in (source, target)
    )
    for position in range(3):
        a, b = here.batch(position), there.batch(position)
        assert np.array_equal(a.obs["image"], b.obs["image"])
        assert np.array_equal(a.action, b.action)


def test_a_copy_that_was_cut_off_goes_on(source: Store, target: Store) -> None:
    def cut(done: int, total: int) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        copy_mixture(source, target, "mix", cut)
    with pytest.raises(CogError, match="mixture 'mix'"):
        read_info(target, "mix")
    again = copy_mixture(source, target, "mix")
    assert (again.files, again.there) == (4 + 3, 2)  # the second part, the mixture; head and first part
    assert verify(target) == []
    assert copy_mixture(source, target, "mix").files == 0


def test_a_damaged_part_is_not_copied(source: Store, target: Store) -> None:
    path = Path(source.path("collections/wanted/part-00001/frames.tar"))
    data = bytearray(path.read_bytes())
    data[700] ^= 1
    path.write_bytes(data)
    with pytest.raises(CogError, match=r"part-00001/frames.tar is damaged: run `cog data verify`"):
        copy_mixture(source, target, "mix")
    assert list_parts(target, "wanted") == ["part-00000"]


def test_what_was_cut_off_there_does_not_last(source: Store, target: Store) -> None:
    """A freeze or a copy left files of a version that never was."""
    target.write_text("mixtures/mix/v1/episodes.parquet", "half")
    target.write_text("mixtures/mix/v1/rewards.parquet", "of something else")
    copy_mixture(source, target, "mix")
    assert read_manifest(target, "mix").info.digest == read_info(source, "mix").digest
    assert verify(target) == []


def test_the_same_collected_and_frozen_there_is_the_same(source: Store, target: Store) -> None:
    collect_into(target, "wanted", 0, 250)
    head = target.read_text("collections/wanted/collection.json")
    target.write_text("collections/wanted/collection.json", head.replace('"test"', '"another host"'))
    freeze(target, "mix", QUERY)
    copied = copy_mixture(source, target, "mix")
    assert (copied.files, copied.there) == (0, 1 + 2 + 1)


def test_another_of_the_same_name_is_refused(source: Store, target: Store) -> None:
    collect_into(target, "wanted", 0, 10, noise=0.4)
    with pytest.raises(
        CogError, match=f"collection 'wanted' is another one in {target.url}: copy to a store"
    ):
        copy_mixture(source, target, "mix")
    with pytest.raises(CogError, match="is the store itself: name another one with --to"):
        copy_mixture(source, source, "mix")


def test_other_episodes_under_the_same_head_are_refused(source: Store, target: Store) -> None:
    collect_into(target, "wanted", 0, 250, steps=5)
    head = source.read_text("collections/wanted/collection.json")
    target.write_text("collections/wanted/collection.json", head)
    with pytest.raises(CogError, match="part wanted/part-00000 is another one in"):
        copy_mixture(source, target, "mix")
    with pytest.raises(CogError, match="unknown mixture"):
        read_info(target, "mix")


def test_another_mixture_of_the_name_is_refused(source: Store, target: Store) -> None:
    collect_into(target, "wanted", 0, 250)
    freeze(target, "mix", QUERY.replace("120", "110"))
    with pytest.raises(CogError, match="mixture mix@1 is another one in"):
        copy_mixture(source, target, "mix")


# --- features of any robot -------------------------------------------------------------------------------


@pytest.fixture
def arms(tmp_path: Path) -> Store:
    """Two arms of different sizes in one mixture, the camera of each a member of the shard."""
    store = Store(str(tmp_path / "arms"))
    collect_arms(store, "small", 2)
    collect_arms(store, "wide", 1, joints=3, motors=2)
    padded = Selection(pad={"joints": 3, "action": 2}, stats_by="collection")
    freeze(store, "mix", "select episode_id from episodes", selection=padded)
    return store


def test_a_mixture_of_several_robots_streams_the_same_there(arms: Store, target: Store) -> None:
    assert copy_mixture(arms, target, "mix").files == 2 * (1 + 4) + 3
    assert verify(target) == []
    assert read_manifest(target, "mix") == read_manifest(arms, "mix")
    names = ("camera", "joints", "subtask", "instruction")
    here, there = (
        Stream(store, read_manifest(store, "mix"), StreamOptions(12, columns=names)).batch(0)
        for store in (arms, target)
    )
    for name in names:
        np.testing.assert_array_equal(here.obs[name], there.obs[name])
    np.testing.assert_array_equal(here.mask["action"], there.mask["action"])
    assert here.embodiment is not None
    np.testing.assert_array_equal(here.embodiment, there.embodiment)


def test_another_declaration_under_the_same_name_is_refused(arms: Store, target: Store) -> None:
    collect_arms(target, "small", 1, joints=4)
    with pytest.raises(CogError, match=f"collection 'small' is another one in {target.url}"):
        copy_mixture(arms, target, "mix")


def link_cameras(store: Store) -> str:
    """Let the cameras of a mixture lie in a file beside the parts, as videos of a source do."""
    head, path = read_info(store, "mix"), "mixtures/mix/v1/episodes.parquet"
    table = read_manifest(store, "mix").episodes
    rows, file, data = table.to_pylist(), "videos/of/robot.mp4", b"head"
    for row in rows:
        (camera,) = row["members"]
        held = store.read_bytes(row["shard"], camera["offset"], camera["size"])
        camera |= {"file": file, "offset": len(data)}
        data += held
    store.write_bytes(file, data)
    store.write_table(path, pa.Table.from_pylist(rows, schema=table.schema))
    assert read_manifest(store, "mix").info == head  # where bytes lie is no part of the digest
    return file


def test_files_that_members_point_to_are_copied(arms: Store, target: Store) -> None:
    file = link_cameras(arms)
    assert copy_mixture(arms, target, "mix").files == 2 * (1 + 4) + 1 + 3
    assert target.read_bytes(file) == arms.read_bytes(file)
    here, there = (
        Stream(store, read_manifest(store, "mix"), StreamOptions(12, columns=("camera",))).batch(0)
        for store in (arms, target)
    )
    np.testing.assert_array_equal(here.obs["camera"], there.obs["camera"])
    assert copy_mixture(arms, target, "mix").files == 0


def test_a_damaged_file_that_members_point_to_is_not_copied(arms: Store, target: Store) -> None:
    file = link_cameras(arms)
    whole = arms.read_bytes(file)
    target.write_bytes(file, whole[:-1])
    with pytest.raises(
        CogError, match=f"{file} is another one in {target.url}: copy to a store that has none"
    ):
        copy_mixture(arms, target, "mix")
    target.remove(file)
    arms.write_bytes(file, whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(CogError, match=f"{file} is damaged: run `cog data verify`"):
        copy_mixture(arms, target, "mix")
    assert not target.exists(file)


# --- runs ------------------------------------------------------------------------------------------------


def begin(store: Store, run: str, mixture: MixtureInfo, updates: int, **origin: object) -> None:
    """A run with checkpoints every hundred updates."""
    if not store.exists(f"runs/{run}/run.json"):
        write_run_of(store, run, mixture, **origin)
    for update in range(100, updates + 1, 100):
        save(store, run, update)
    store.write_text(f"runs/{run}/metrics.jsonl", f'{{"update": {updates}}}\n')
    write_state(store, run, RunState("finished", updates, 1.0, "2026-11-21T10:00:00+00:00"))


def save(store: Store, run: str, update: int, weights: str = "weights") -> None:
    folder = f"runs/{run}/checkpoints/{update:08d}"
    store.write_text(f"{folder}/weights.safetensors", f"{weights} at {update}")
    digest = hashlib.sha256(f"{weights} at {update}".encode()).hexdigest()
    head = {"update": update, "weights_digest": digest, "training_digest": ""}
    store.write_text(f"{folder}/checkpoint.json", json.dumps(head))


def test_a_run_comes_with_its_ancestors_and_keeps_what_is_further(source: Store, target: Store) -> None:
    mixture = read_info(source, "mix")
    begin(source, "first", mixture, 100)
    begin(source, "second", mixture, 300, parent="first", parent_update=100, parent_digest="0" * 64)
    begin(target, "second", mixture, 200)
    target.write_text("runs/second/evaluations/there.parquet", "evaluated there")
    copy_run(source, target, "second")
    assert list_runs(target) == ["first", "second"]
    assert target.list_folders("runs/second/checkpoints") == ["00000100", "00000200", "00000300"]
    state = read_state(target, "second")
    assert state is not None
    assert state.updates_done == 300
    assert read_run(target, "second") == read_run(source, "second")
    assert target.read_text("runs/second/evaluations/there.parquet") == "evaluated there"
    assert copy_run(source, target, "second").files == 0
    begin(source, "third", mixture, 100)
    begin(target, "third", mixture, 500)
    copy_run(source, target, "third")
    assert target.read_text("runs/third/metrics.jsonl") == '{"update": 500}\n'  # theirs went on


def test_a_run_that_has_just_begun_is_copied(source: Store, target: Store) -> None:
    begin(source, "new", read_info(source, "mix"), 100)
    source.remove("runs/new/state.json")
    copy_run(source, target, "new")
    assert read_run(target, "new") == read_run(source, "new")
    assert copy_run(source, target, "new").files == 0


def test_a_run_that_was_stopped_and_finished_since_is_finished_there_too(
    source: Store, target: Store
) -> None:
    mixture = read_info(source, "mix")
    begin(source, "first", mixture, 100)
    write_state(source, "first", RunState("stopped", 100, 1.0, "2026-11-21T09:00:00+00:00"))
    copy_run(source, target, "first")
    begin(source, "first", mixture, 100)
    copy_run(source, target, "first")
    state = read_state(target, "first")
    assert state is not None
    assert state.status == "finished"


def test_a_checkpoint_is_copied_whole_or_not_at_all(source: Store, target: Store) -> None:
    begin(source, "first", read_info(source, "mix"), 200)
    target.write_text("runs/first/checkpoints/00000200/weights.safetensors", "half of a copy")
    copy_run(source, target, "first")
    assert target.read_text("runs/first/checkpoints/00000200/weights.safetensors") == "weights at 200"
    begin(source, "second", read_info(source, "mix"), 100)
    source.write_text("runs/second/checkpoints/00000100/weights.safetensors", "damaged")
    with pytest.raises(CogError, match="00000100/weights.safetensors is damaged"):
        copy_run(source, target, "second")
    assert list_runs(target) == ["first"]
    assert not target.exists("runs/second/checkpoints/00000100/checkpoint.json")


def test_one_run_trained_in_both_stores_is_not_mixed(source: Store, target: Store) -> None:
    mixture = read_info(source, "mix")
    begin(source, "first", mixture, 300)
    begin(target, "first", mixture, 100)
    save(target, "first", 100, "weights of another processor")
    with pytest.raises(CogError, match="was trained in both stores, its checkpoint 100 is another one"):
        copy_run(source, target, "first")
    assert target.list_folders("runs/first/checkpoints") == ["00000100"]


def test_a_fine_tuned_run_comes_with_its_episodes(source: Store, target: Store) -> None:
    begin(source, "first", read_info(source, "mix"), 100, online={"env": "cog/PickTray-v0"})
    collect_into(source, "first", 0, 120)
    copy_run(source, target, "first")
    assert list_parts(target, "first") == list_parts(source, "first")


@pytest.mark.parametrize("where", ["source", "target"])
def test_a_run_in_training_is_left_alone(source: Store, target: Store, where: str) -> None:
    begin(source, "first", read_info(source, "mix"), 100)
    held = {"source": source, "target": target}[where]
    Path(held.path("runs/first")).mkdir(parents=True, exist_ok=True)
    with (
        filelock.FileLock(held.path("runs/first/.lock")),
        pytest.raises(CogError, match="run 'first' is being trained by another process"),
    ):
        copy_run(source, target, "first")
    assert list_runs(target) == []


def test_the_commands(source: Store, target: Store, run: Run) -> None:
    begin(source, "first", read_info(source, "mix"), 100)
    said = run("mix", "copy", "mix", "--to", target.url, "--root", source.url)
    assert said.code == 0
    assert f"copied to {target.url}\nnext: cog train --mixture mix@1 --root {target.url}\n" in said.out
    said = run("runs", "copy", "first", "--to", target.url, "--root", source.url)
    assert said.out.startswith("5 files, ")
    assert "first" in run("runs", "ls", "--root", target.url, "--format", "json").out
    assert run("data", "verify", "--root", target.url).code == 0
    for words in (("mix", "copy", "mixx"), ("runs", "copy", "firrst")):
        said = run(*words, "--to", target.url, "--root", source.url)
        assert (said.code, said.err.count("\n")) == (1, 1)
        assert "unknown" in said.err
