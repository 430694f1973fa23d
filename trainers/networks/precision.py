"""Matrix products in bfloat16, where supported: two to three times as fast, with 8 bits of mantissa."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor


@functools.cache
def has_bfloat16(device: str) -> bool:
    """Whether a device computes bfloat16 products in hardware instead of emulating them."""
    if device == "cpu":
        return bool(torch.cpu.get_capabilities().get("avx512_bf16", False))
    return device == "cuda" and torch.cuda.is_bf16_supported()


class _ForWeight(torch.autograd.Function):
    """Autograd node of the layer's parameters: outputs zeros and receives the gradient of the output."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(x)
        return weight.new_zeros(()).expand(*x.shape[:2], weight.shape[2])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor, Tensor]:  # noqa: ANN401
        (x,), (gradient,) = ctx.saved_tensors, gradients
        for_weight = torch.bmm(x.bfloat16().transpose(1, 2), gradient.bfloat16()).float()
        return None, for_weight, gradient.sum(1, keepdim=True)


class _ForInput(torch.autograd.Function):
    """Autograd node of the layer: an exact product, whose gradient for the input is rounded."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, token: Tensor, weight: Tensor, bias: Tensor) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(weight)
        return torch.baddbmm(bias, x, weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:  # noqa: ANN401
        (weight,), (gradient,) = ctx.saved_tensors, gradients
        for_x = torch.bmm(gradient.bfloat16(), weight.bfloat16().transpose(1, 2)).float()
        return for_x, gradient, None, None


def half_gradient_product(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return x W + b for E matrices, with gradients computed in bfloat16.

    The result is exact float32. Gradients have factors rounded to 8 bits and are summed in float32, an error
    far below the noise between batches. There are two nodes, so that autograd computes only the gradients it
    needs.

    Args:
        x: (E, B, in).
        weight: (E, in, out).
        bias: (E, 1, out).

    Returns:
        (E, B, out).
    """
    token = _ForWeight.apply(x.detach(), weight, bias)  # type: ignore[no-untyped-call]
    out: Tensor = _ForInput.apply(x, token, weight.detach(), bias.detach())  # type: ignore[no-untyped-call]
    return out
