"""A mixture and a run in another store: the same bytes, nothing lost there, nothing half."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import filelock
import numpy as np
import pytest

from catalog.doctor import verify
from catalog.mixture import freeze
from cogdata.errors import CogError
from cogdata.manifest import MixtureInfo, read_info, read_manifest
from cogdata.parts import list_collections, list_parts
from cogdata.runs import RunState, list_runs, read_run, read_state, write_run, write_state
from cogdata.store import Store
from cogdata.stream import Stream, StreamOptions
from cogdata.transfer import copy_mixture, copy_run
from tests.catalog.support import collect_into, write_run_of

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
        assert a.obs.image is not None
        assert b.obs.image is not None
        assert np.array_equal(a.obs.image, b.obs.image)
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


def test_another_of_the_same_name_is_refused(source: Store, target: Store) -> None:
    collect_into(target, "wanted", 0, 10, noise=0.4)
    with pytest.raises(
        CogError, match=f"collection 'wanted' is another one in {target.url}: copy to a store"
    ):
        copy_mixture(source, target, "mix")
    with pytest.raises(CogError, match="is the store itself: name another one with --to"):
        copy_mixture(source, source, "mix")


def begin(store: Store, run: str, mixture: MixtureInfo, updates: int, **origin: object) -> None:
    write_run_of(store, run, mixture, **origin)
    write_state(store, run, RunState("finished", updates, 1.0, "2026-11-21T10:00:00+00:00"))
    for name in ("weights.safetensors", "checkpoint.json"):
        store.write_text(f"runs/{run}/checkpoints/{updates:08d}/{name}", f"{name} of {updates}")
    store.write_text(f"runs/{run}/metrics.jsonl", f'{{"update": {updates}}}\n')


def test_a_run_comes_with_its_ancestors_and_keeps_what_is_further(source: Store, target: Store) -> None:
    mixture = read_info(source, "mix")
    begin(source, "first", mixture, 100)
    begin(source, "second", mixture, 300, parent="first", parent_update=100, parent_digest="0" * 64)
    begin(target, "second", mixture, 200)
    target.write_text("runs/second/evaluations/there.parquet", "judged there")
    copy_run(source, target, "second")
    assert list_runs(target) == ["first", "second"]
    assert target.list_folders("runs/second/checkpoints") == ["00000200", "00000300"]
    state = read_state(target, "second")
    assert state is not None
    assert state.updates_done == 300
    assert read_run(target, "second") == read_run(source, "second")
    assert target.read_text("runs/second/evaluations/there.parquet") == "judged there"
    begin(source, "third", mixture, 100)
    begin(target, "third", mixture, 500)
    write_run(target, replace(read_run(target, "third"), updates=500))
    copy_run(source, target, "third")
    assert read_run(target, "third").updates == 500  # theirs went on
    assert target.read_text("runs/third/metrics.jsonl") == '{"update": 500}\n'
    assert target.list_folders("runs/third/checkpoints") == ["00000100", "00000500"]


def test_a_run_in_training_is_left_alone(source: Store, target: Store) -> None:
    begin(source, "first", read_info(source, "mix"), 100)
    with (
        filelock.FileLock(source.path("runs/first/.lock")),
        pytest.raises(CogError, match="run 'first' is being trained in"),
    ):
        copy_run(source, target, "first")
    assert list_runs(target) == []
