"""Mixtures that take features of layers: what they record, and what their batches deliver."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from catalog.doctor import verify
from catalog.mixtures.mixture import freeze
from catalog.mixtures.portions import freeze_portion
from cogdata.errors import CogError
from cogdata.features import Feature, Per
from cogdata.storage.layers.commits import LayerPart, list_commits
from cogdata.storage.layers.heads import LayerInfo, create_layer
from cogdata.storage.layers.reading import LayerUse, content_digest
from cogdata.storage.layers.rows import LayerRow
from cogdata.storage.manifest import read_manifest
from cogdata.storage.selection import Selection
from cogdata.storage.store import Store
from cogdata.storage.transfer import copy_mixture
from cogdata.streaming.stream import Stream, StreamOptions
from tests.catalog.declared.test_layers import derive, digests_of, info_of
from tests.catalog.support import collect_into
from trainers.training.infer import infer_rewards

ALL = "select episode_id from episodes"
TAKEN = Selection(take=("robot", "distance_m", "caption", "pose", "jerk"))


@pytest.fixture
def seen(store: Store) -> Store:
    """3 episodes of 4 actions, and a layer of all: distance_m[t] = index + t / 8, jerk[t] = t."""
    collect_into(store, "grasps", 0, 3)
    derive(store, info_of(), "grasps", [0, 1, 2])
    return store


def test_a_mixture_says_what_it_takes_of_a_layer(seen: Store) -> None:
    info = freeze(seen, "mix", ALL, selection=TAKEN).info
    (use,) = info.layers.values()
    assert (use.version, sorted(use.features)) == (1, ["caption", "distance_m", "jerk", "pose"])
    digests = {row.split()[0]: row.split()[1] for row in _digests(seen)}
    assert use.digest == content_digest(digests)
    assert [one.name for one in info.spec.observations] == ["robot", "distance_m"]
    assert [one.name for one in info.spec.extras] == ["jerk", "caption", "pose"]
    head = json.loads(seen.read_text("mixtures/mix/v1/mixture.json"))
    assert head["layers"] == {
        "seen": {"version": 1, "features": list(use.features), "digest": use.digest},
    }
    stats = read_manifest(seen, "mix").stats
    # distance_m of the 12 transitions: index + t / 8 for t = 0 … 3, whose mean is 1 + 1.5 / 8
    assert stats.mean["distance_m"] == pytest.approx([1.1875])
    assert read_manifest(seen, "mix").info == info
    assert not freeze(seen, "mix", ALL, selection=TAKEN).created
    assert verify(seen) == []


def _digests(store: Store) -> list[str]:
    from catalog.index.sync import open_indexed

    with open_indexed(store) as con:
        return [f"{name} {digest}" for name, digest in con.execute(
            "SELECT episode_id, digest FROM base.layer_episodes").fetchall()]  # fmt: skip


def test_batches_deliver_what_a_layer_says(seen: Store) -> None:
    freeze(seen, "mix", ALL, selection=TAKEN)
    names = ("robot", "distance_m", "caption", "pose", "jerk")
    options = StreamOptions(batch_size=12, columns=names)
    stream = Stream(seen, read_manifest(seen, "mix"), options)
    batch = stream.batch(0)
    order = np.argsort(batch.obs["distance_m"])
    assert batch.obs["distance_m"].dtype == np.float32
    assert batch.obs["distance_m"][order].tolist() == [i + t / 8 for i in range(3) for t in range(4)]
    assert batch.next_obs["distance_m"][order].tolist() == [
        i + (t + 1) / 8 for i in range(3) for t in range(4)
    ]
    assert batch.obs["jerk"][order].tolist() == [0, 1, 2, 3] * 3
    assert batch.obs["pose"][order, 1, 0].tolist() == [0.0] * 4 + [1.0] * 4 + [2.0] * 4
    assert stream.texts["caption"] == ("seen@1 of 0", "seen@1 of 1", "seen@1 of 2")
    assert batch.obs["caption"][order].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    # robot[t, 0] = index + t / 10, as the episodes hold it
    expected = [np.float32(i + 10 * t / 100) for i in range(3) for t in range(4)]
    assert batch.obs["robot"][order, 0].tolist() == expected


def test_mixtures_without_a_layer_are_what_they_were(seen: Store) -> None:
    plain = freeze(seen, "plain", ALL).info
    assert plain.layers == {}
    assert plain.left_out == {}
    assert "layers" not in json.loads(seen.read_text("mixtures/plain/v1/mixture.json"))
    seen.remove("layers")
    assert freeze(seen, "plain", ALL).info == plain


def test_other_values_are_another_mixture(seen: Store) -> None:
    selection = Selection(take=("robot", "distance_m"))
    first = freeze(seen, "mix", ALL, selection=selection).info
    derive(seen, info_of(version=2), "grasps", [0, 1, 2], start=5.0)
    second = freeze(seen, "mix", ALL, selection=selection).info
    assert (second.version, second.layers["seen"].version) == (2, 2)
    assert second.digest != first.digest
    old = Stream(seen, read_manifest(seen, "mix@1"), StreamOptions(batch_size=12)).batch(0)
    new = Stream(seen, read_manifest(seen, "mix@2"), StreamOptions(batch_size=12)).batch(0)
    assert (old.obs["distance_m"].min(), new.obs["distance_m"].min()) == (0.0, 5.0)


def test_a_portion_takes_the_same_features(seen: Store) -> None:
    sql = (
        "select episode_id, case when episode_index = 0 then 'task' else 'prior' end as source from episodes"
    )
    freeze(seen, "both", sql, selection=Selection(take=("robot", "distance_m")))
    portion = freeze_portion(seen, "both", "prior")
    assert list(portion.layers) == ["seen"]
    batch = Stream(seen, read_manifest(seen, portion.ref), StreamOptions(batch_size=8)).batch(0)
    assert sorted(batch.obs["distance_m"].tolist()) == [i + t / 8 for i in (1, 2) for t in range(4)]


def test_a_stream_of_some_episodes_of_a_mixture(seen: Store) -> None:
    freeze(seen, "mix", ALL, selection=Selection(take=("robot", "distance_m")))
    frozen = read_manifest(seen, "mix")
    some = replace(frozen, episodes=frozen.episodes.slice(1, 1))
    batch = Stream(seen, some, StreamOptions(batch_size=4)).batch(0)
    assert sorted(batch.obs["distance_m"].tolist()) == [1.0, 1.125, 1.25, 1.375]


def test_rewards_are_not_inferred_from_layers(seen: Store) -> None:
    sql = (
        "select episode_id, case when episode_index = 0 then 'task' else 'prior' end as source from episodes"
    )
    freeze(seen, "both", sql, selection=Selection(take=("robot", "distance_m")))
    with pytest.raises(
        CogError, match="^rewards are inferred without layers: freeze both without distance_m$"
    ):
        infer_rewards(seen, read_manifest(seen, "both"), obs="state", updates=1, seed=0)


def test_a_renamed_feature_of_a_layer(seen: Store) -> None:
    selection = Selection(take=("robot", "far_m"), rename={"distance_m": "far_m"})
    freeze(seen, "mix", ALL, selection=selection)
    batch = Stream(seen, read_manifest(seen, "mix"), StreamOptions(batch_size=12)).batch(0)
    assert batch.obs["far_m"].max() == 2 + 3 / 8


def test_episodes_that_a_layer_lacks_are_refused(seen: Store) -> None:
    collect_into(seen, "more", 0, 2)
    with pytest.raises(CogError) as caught:
        freeze(seen, "mix", ALL, selection=Selection(take=("robot", "distance_m")))
    assert str(caught.value) == (
        "layer seen@1 has no values of 2 of the episodes, for example more/0000000: run its `cog derive` again, or "
        "choose episodes that have them"
    )


def test_a_number_that_was_not_derived_is_refused(seen: Store) -> None:
    feature = Feature("mass_kg", "float32", per=Per.EPISODE)
    info = create_layer(seen, LayerInfo("mass", 1, "lab:f", "", (feature,), "", "2027-01-01T00:00:00", "0"))
    digests = digests_of(seen, "grasps")
    rows = [LayerRow(name, digests[name], 5, 4, {"mass_kg": None}) for name in sorted(digests)]
    LayerPart(seen, info, "grasps", "part-00000", {}).commit(rows)
    freeze(seen, "mix", ALL, selection=Selection(take=("robot", "mass_kg")))
    options = StreamOptions(batch_size=4, columns=("robot", "mass_kg"))
    stream = Stream(seen, read_manifest(seen, "mix"), options)
    with pytest.raises(CogError, match=r"^episode grasps/\d{7} has no mass_kg in layer mass@1$"):
        stream.batch(0)


def test_a_layer_that_was_changed_is_noticed(seen: Store) -> None:
    freeze(seen, "mix", ALL, selection=Selection(take=("robot", "distance_m")))
    frozen = read_manifest(seen, "mix")
    seen.remove(list_commits(seen, info_of())[0])
    line = "layer seen@1 has other values than the mixture was frozen with: freeze it again, or restore the layer"
    with pytest.raises(CogError, match=f"^{line}$"):
        Stream(seen, frozen, StreamOptions(batch_size=4))
    assert [str(problem) for problem in verify(seen)] == [f"mixtures/mix/v1: {line}"]
    derive(seen, info_of(), "grasps", [0, 1, 2])
    assert verify(seen) == []


def test_a_head_that_names_another_digest_is_no_longer_the_mixture(seen: Store) -> None:
    freeze(seen, "mix", ALL, selection=Selection(take=("robot", "distance_m")))
    path = "mixtures/mix/v1/mixture.json"
    data = json.loads(seen.read_text(path))
    data["layers"]["seen"]["digest"] = "00" * 32
    seen.write_text(path, json.dumps(data))
    with pytest.raises(CogError, match=r"was changed after freezing: freeze it again$"):
        read_manifest(seen, "mix")


def test_a_copy_takes_its_layers_along(seen: Store, tmp_path: Path) -> None:
    freeze(seen, "mix", ALL, selection=Selection(take=("robot", "distance_m")))
    target = Store(str(tmp_path / "there"))
    Path(target.url).mkdir()
    copy_mixture(seen, target, "mix")
    assert copy_mixture(seen, target, "mix").files == 0
    assert verify(target) == []
    batches = [
        Stream(one, read_manifest(one, "mix"), StreamOptions(batch_size=12)).batch(0)
        for one in (seen, target)
    ]
    np.testing.assert_array_equal(batches[0].obs["distance_m"], batches[1].obs["distance_m"])
    other = Store(str(tmp_path / "other"))
    create_layer(other, info_of(features=(Feature("caption", "string"),)))
    with pytest.raises(
        CogError, match=r"^layer seen@1 is another one in .*: copy to a store that has none of this name$"
    ):
        copy_mixture(seen, other, "mix")


def test_a_use_reads_what_it_wrote() -> None:
    use = LayerUse(3, ("a", "b"), "ab")
    assert LayerUse.from_data(use.to_data()) == use
