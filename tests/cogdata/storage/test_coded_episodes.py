"""Episodes whose pictures have codecs: videos, a range of another video, PNG depth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cogdata.episode import Encoded, Episode
from cogdata.errors import CogError
from cogdata.storage.codecs import frame_codec, probe, remux
from cogdata.storage.parts import PartWriter
from cogdata.storage.samples import Sample, decoded, read_episode, read_member
from cogdata.storage.store import Store
from tests.cogdata.storage.test_layout2 import SPEC, episode_of

pytest.importorskip("av", reason="video needs PyAV: pip install 'cogdata-robot[video]'")

CODED = replace(
    SPEC,
    observations=tuple(
        replace(one, codec={"camera_front": "mp4", "depth": "png"}.get(one.name, one.codec))
        for one in SPEC.observations
    ),
)


def coded(index: int, steps: int = 11, **observations: Any) -> Episode:
    plain = episode_of(index, steps=steps)
    return replace(plain, spec=CODED, observations={**plain.observations, **observations})


def written(store: Store, episode: Episode) -> dict[str, Any]:
    writer = PartWriter(store, "arm", 0, 1)
    writer.add(episode)
    part = writer.commit().part
    row: dict[str, Any] = store.read_table(f"collections/arm/{part}/episodes.parquet").to_pylist()[0]
    return row


def test_a_camera_is_stored_as_a_video_and_depth_as_png(tmp_path: Path) -> None:
    store, episode = Store(str(tmp_path)), coded(0)
    row = written(store, episode)
    read = read_episode(store, row)
    camera = read.observations["camera_front"]
    assert isinstance(camera, Encoded)
    assert (camera.codec, camera.shape, camera.first) == ("mp4", (12, 6, 8, 3), 0)
    assert probe(camera.data).rate_hz == 50.0
    np.testing.assert_array_equal(read.array("depth"), episode.array("depth"))
    assert row["digest"] == read.digest()
    pictures = decoded(read, "camera_front")
    assert np.abs(pictures.astype(int).mean() - episode.array("camera_front").mean()) < 10


def test_some_rows_of_a_member_are_read(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    row = written(store, coded(0))
    sample, read = Sample.of(row), read_episode(store, row)
    for name in ("camera_front", "depth"):
        feature = CODED[name]
        out = np.empty((3, *feature.shape), feature.numpy_dtype)
        read_member(store, sample, feature, out, slice(5, 8))
        np.testing.assert_array_equal(out, decoded(read, name)[5:8])


def test_a_range_of_another_video_is_stored_without_encoding_it_again(tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (30, 6, 8, 3), np.uint8)
    video = frame_codec("mp4").encode(pictures, 50.0)
    everything = np.empty_like(pictures)
    frame_codec("mp4").decode(video, everything)
    copy = remux(video, 14, 12)
    assert copy.first == 2
    held = Encoded("mp4", copy.data, (12, 6, 8, 3), "uint8", copy.first)
    store = Store(str(tmp_path))
    row = written(store, coded(0, camera_front=held))
    read = read_episode(store, row)
    assert read.observations["camera_front"] == held
    np.testing.assert_array_equal(decoded(read, "camera_front"), everything[14:26])
    out = np.empty((4, 6, 8, 3), np.uint8)
    read_member(store, Sample.of(row), CODED["camera_front"], out, slice(1, 5))
    np.testing.assert_array_equal(out, everything[15:19])


def test_a_codec_that_cannot_hold_a_feature_stores_nothing(tmp_path: Path) -> None:
    wrong = replace(
        CODED,
        observations=tuple(
            replace(one, codec="jpeg") if one.name == "depth" else one for one in CODED.observations
        ),
    )
    with pytest.raises(CogError) as error:
        written(Store(str(tmp_path)), replace(coded(0), spec=wrong))
    assert str(error.value) == "feature depth is uint16, codec jpeg holds uint8: choose zst or png"


def test_a_changed_byte_of_a_video_in_a_shard_is_found(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    row = written(store, coded(0))
    member = Sample.of(row).members["camera_front"]
    path = tmp_path / member.file
    data = bytearray(path.read_bytes())
    data[member.offset + member.size // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(CogError, match=r"is damaged at byte \d+: run `cog data verify`$"):
        read_episode(store, row)
