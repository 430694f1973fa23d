"""Frame codecs by feature: how the rows of a feature become a member of a shard, and back."""

from __future__ import annotations

from typing import Any, Final

from numpy.typing import NDArray

from cogdata.errors import CogError, unknown
from cogdata.features import Feature
from cogdata.storage.codecs.codec import ALL, FrameCodec, channels_of
from cogdata.storage.codecs.pictures import JPEG, PNG, join_pictures
from cogdata.storage.codecs.remux import RemuxedVideo, remux
from cogdata.storage.codecs.source import VideoInfo, probe
from cogdata.storage.codecs.video import AV1, H264
from cogdata.storage.codecs.zstd import ZstdBlock

__all__ = (
    "ALL", "CODECS", "DEFAULT_CODEC", "FrameCodec", "RemuxedVideo", "VideoInfo", "check_codec",
    "decode_feature", "encode_feature", "frame_codec", "join_pictures", "probe", "remux",
)  # fmt: skip

CODECS: Final[dict[str, FrameCodec]] = {
    "zst": ZstdBlock(),
    "png": PNG,
    "jpeg": JPEG,
    "mp4": H264,
    "av1": AV1,
}
"""By the extension that a member of a shard carries after the feature's name."""

DEFAULT_CODEC: Final = "zst"


def frame_codec(name: str) -> FrameCodec:
    """Look a codec up by name.

    Raises:
        CogError: Unknown name.
    """
    if name not in CODECS:
        raise unknown("frame codec", name, CODECS)
    return CODECS[name]


def check_codec(feature: Feature) -> None:
    """Refuse a feature whose codec cannot hold its type or shape.

    Raises:
        CogError: It names the codecs that can.
    """
    codec = frame_codec(feature.codec)
    channels = channels_of(feature.shape)
    if feature.dtype not in codec.dtypes:
        what, held = f"is {feature.dtype}", " or ".join(codec.dtypes)
    elif codec.channels and channels not in codec.channels:
        what = f"has {channels} channels" if channels else f"has shape {feature.shape}, which is no picture"
        held = f"pictures of {' or '.join(map(str, codec.channels))} channels"
    else:
        return
    able = [
        name
        for name, one in CODECS.items()
        if feature.dtype in one.dtypes and (not one.channels or channels in one.channels)
    ]
    choice = f"choose {' or '.join(able)}" if able else "store it as a column"
    raise CogError(f"feature {feature.name} {what}, codec {feature.codec} holds {held}: {choice}")


def encode_feature(feature: Feature, frames: NDArray[Any], rate_hz: float | None = None) -> bytes:
    """Encode the rows of one feature of an episode with its codec.

    Args:
        feature: Its declaration, with a codec.
        frames: (N, *shape), N >= 1.
        rate_hz: Rows per second of the episode; a rate of the feature's own wins.

    Raises:
        CogError: The codec cannot hold the feature, the rows are not the feature's, or a library is missing.
    """
    check_codec(feature)
    if frames.shape[1:] != feature.shape or frames.dtype != feature.numpy_dtype or not len(frames):
        raise CogError(
            f"feature {feature.name} holds {frames.dtype} {frames.shape}, must be {feature.dtype} "
            f"({', '.join(map(str, ('N', *feature.shape)))}) with N of at least 1"
        )
    return frame_codec(feature.codec).encode(frames, feature.rate_hz or rate_hz)


def decode_feature(
    feature: Feature, data: bytes | memoryview, out: NDArray[Any], rows: slice = ALL, first: int = 0
) -> None:
    """Decode rows of one feature of an episode.

    Args:
        feature: Its declaration, with a codec.
        data: The member of the shard.
        out: Contiguous (len(rows), *shape): filled.
        rows: Rows of the episode, counted from 0.
        first: Rows in ``data`` before the first of the episode.

    Raises:
        CogError: The bytes are damaged, too few, or of another shape or type; a library is missing.
    """
    check_codec(feature)
    if out.shape[1:] != feature.shape or out.dtype != feature.numpy_dtype:
        raise CogError(
            f"feature {feature.name} is {feature.dtype} {feature.shape} per row, the array to fill is "
            f"{out.dtype} {out.shape}"
        )
    try:
        frame_codec(feature.codec).decode(data, out, rows, first)
    except CogError as error:
        raise CogError(f"feature {feature.name}: {error}") from None
