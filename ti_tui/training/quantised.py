"""The U-Net with 8-bit weights: half the memory of fp16. They are expanded layer by layer, in forward and in backward.

Symmetric quantisation with one scale per output channel (the weight-only form of LLM.int8(), Dettmers et al. 2022,
without its separate treatment of outliers, of which a frozen U-Net has hardly any). Only weights are stored in 8 bits;
products are computed as before. Backward keeps the 8-bit weight: a cast before each layer would keep the expanded
weight and save nothing.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ti_tui.training.lean import input_gradient

LARGEST = 127


def quantise(model: nn.Module) -> None:
    """Turn the weights of `model`'s linear layers and convolutions into int8, layer by layer, in place.

    Norms, biases and layers with fewer than `SMALLEST` weights stay as they are: they take next to no memory.
    """
    for module in list(model.modules()):
        if isinstance(module, nn.Conv2d) and module.padding_mode == "zeros" and not isinstance(module.padding, str):
            _swap(module, Conv2d8Bit)
        elif type(module) is nn.Linear:
            _swap(module, Linear8Bit)


SMALLEST = 16_384


def to_8_bits(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(int8 values in the weight's shape, scale [out, 1, ...] in its dtype); their product approximates the weight."""
    values = weight.float()
    largest = values.abs().amax(dim=tuple(range(1, weight.ndim)), keepdim=True)
    # Values are computed with the scale as stored (rounded to the weight's dtype), so that the two match.
    scale = (largest / LARGEST).to(weight.dtype)
    # A row of zeros becomes zeros with any scale.
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    return (values / scale.float()).round().clamp(-LARGEST, LARGEST).to(torch.int8), scale


def _swap(module: nn.Module, kind: type[nn.Module]) -> None:
    weight = module._parameters["weight"]
    if weight is None or weight.numel() < SMALLEST:
        return
    values, scale = to_8_bits(weight.detach())
    del module._parameters["weight"]
    module.register_buffer("weight", values)
    module.register_buffer("scale", scale)
    module.__class__ = kind


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
        ctx.weight, ctx.scale = weight, scale
        return functional.linear(x, weight.to(scale.dtype) * scale, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        return gradient @ (ctx.weight.to(ctx.scale.dtype) * ctx.scale), None, None, None


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None, how: tuple[Any, ...]
    ) -> Tensor:
        ctx.weight, ctx.scale, ctx.shape, ctx.how = weight, scale, x.shape, how
        stride, padding, dilation, groups = how
        return functional.conv2d(x, weight.to(scale.dtype) * scale, bias, stride, padding, dilation, groups)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        found = input_gradient(gradient, ctx.weight.to(ctx.scale.dtype) * ctx.scale, ctx.shape, ctx.how)
        return found, None, None, None, None


class Linear8Bit(nn.Linear):
    """A frozen linear layer: int8 `weight` [out, in], `scale` [out, 1] in the dtype of the computation."""

    scale: Tensor

    def forward(self, input: Tensor) -> Tensor:
        found: Tensor = _Linear.apply(input, self.weight, self.scale, self.bias)
        return found


class Conv2d8Bit(nn.Conv2d):
    """A frozen convolution: int8 `weight` [out, in, h, w], `scale` [out, 1, 1, 1] in the dtype of the computation."""

    scale: Tensor

    def forward(self, input: Tensor) -> Tensor:
        how = (self.stride, self.padding, self.dilation, self.groups)
        found: Tensor = _Convolution.apply(input, self.weight, self.scale, self.bias, how)
        return found
