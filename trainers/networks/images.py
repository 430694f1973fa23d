"""Images on their way into an encoder: stacked frames become channels, integers become [0, 1]."""

from __future__ import annotations

from torch import Tensor

from cogdata.features import Feature


def folded(image: Tensor, feature: Feature) -> Tensor:
    """Return images as (B, H, W, C), the channels of K stacked ones side by side, oldest first.

    Args:
        image: (B, *shape of the feature), or K of them (B, K, *shape); a shape (H, W) has one channel.
        feature: Its declaration.
    """
    if len(feature.shape) == 2:
        image = image.unsqueeze(-1)
    return image if image.ndim == 4 else image.movedim(1, 3).flatten(3)


def unfolded(image: Tensor, feature: Feature, stack: int) -> Tensor:
    """Undo :func:`folded`.

    Args:
        image: (B, H, W, C).
        feature: Declaration of the image.
        stack: K; 1: the images were not stacked.
    """
    if stack > 1:
        b, h, w, _ = image.shape
        image = image.view(b, h, w, stack, -1).movedim(3, 1)
    return image.squeeze(-1) if len(feature.shape) == 2 else image


def scaled(image: Tensor, feature: Feature) -> Tensor:
    """Return images as float32 (B, C, H, W) in [0, 1]; images that are float already are not changed.

    Args:
        image: uint8 or uint16 as :func:`folded` takes them, or the result of this function.
        feature: Its declaration; the bounds of a uint16 one, without them 0 and 65535, become 0 and 1.
    """
    if image.is_floating_point():
        return image
    # (B, H, W, C) contiguous, seen as (B, C, H, W), already is channels_last: no copy but the cast
    numbers = folded(image, feature).permute(0, 3, 1, 2).float()
    if feature.dtype == "uint8":
        return numbers.div_(255)
    low = min(feature.low) if feature.low else 0.0
    high = max(feature.high) if feature.high else 65535.0
    return numbers.sub_(low).div_(max(high - low, 1.0)).clamp_(0, 1)
