"""The lean backward: frozen layers that keep only what the gradient of their input needs.

A frozen layer needs no gradient of its weights. Yet torch's convolution keeps its input for one, normalisation and
activation keep a copy each, and a gated unit keeps the gate both before and after its activation. SD 1.5 at 512x512 in
half precision keeps 704 MiB per image that way, and 446 MiB with the functions below (`benchmarks.memory`). Values and
gradients are the same. Only normalisations and activations are computed again, no matrix products or convolutions.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.activations import GEGLU
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn
from torch.nn import functional

aten = torch.ops.aten


def make_lean(model: nn.Module) -> None:
    """Let the frozen layers inside `model` keep less for the backward pass; names and weights do not change.

    It changes these layers of diffusers' U-Net: convolutions, the normalisation and SiLU of the residual blocks and of
    the output, and the gated units. Others are left as they are.
    """
    for module in list(model.modules()):
        if type(module) is nn.Conv2d and module.padding_mode == "zeros" and not isinstance(module.padding, str):
            module.__class__ = LeanConv2d
        elif type(module) is GEGLU:
            module.__class__ = LeanGEGLU
        elif type(module) is ResnetBlock2D:
            _join_norm_and_activation(module)
    norm, activation = getattr(model, "conv_norm_out", None), getattr(model, "conv_act", None)
    if type(norm) is nn.GroupNorm and isinstance(activation, nn.SiLU):
        norm.__class__ = NormSiLU
        model.conv_act = nn.Identity()


def _join_norm_and_activation(block: Any) -> None:
    plain = block.time_embedding_norm == "default" and block.upsample is None and block.downsample is None
    norms_are_plain = type(block.norm1) is type(block.norm2) is nn.GroupNorm
    if not (plain and norms_are_plain and isinstance(block.nonlinearity, nn.SiLU)):
        return
    if block.time_emb_proj is not None and not block.skip_time_act:
        # The block's activation serves both norms and the time embedding; the norms now have their own.
        block.time_emb_proj.register_forward_pre_hook(_activate_input)
    block.norm1.__class__ = block.norm2.__class__ = NormSiLU
    block.nonlinearity = nn.Identity()


def _activate_input(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor]:
    return (functional.silu(inputs[0]),)


class _Convolution(torch.autograd.Function):
    """A convolution that keeps its weight, which is in memory anyway, and only the shape of its input."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, how: tuple[Any, ...]) -> Tensor:
        # Not saved with save_for_backward: gradient checkpointing would run the convolution again to get the weight.
        ctx.weight, ctx.shape, ctx.how = weight, x.shape, how
        stride, padding, dilation, groups = how
        return functional.conv2d(x, weight, bias, stride, padding, dilation, groups)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        return input_gradient(gradient, ctx.weight, ctx.shape, ctx.how), None, None, None


def input_gradient(gradient: Tensor, weight: Tensor, shape: torch.Size, how: tuple[Any, ...]) -> Tensor:
    """Gradient of a convolution's input of `shape`; how: stride, padding, dilation, groups."""
    stride, padding, dilation, groups = how
    found: Tensor = aten.convolution_backward(
        gradient, stand_in(gradient, shape), weight, None, stride, padding, dilation, False, [0, 0], groups,
        [True, False, False],
    )[0]  # fmt: skip
    return found


def stand_in(gradient: Tensor, shape: torch.Size) -> Tensor:
    """A stand-in for the convolution's input: torch reads only its shape if the weight needs no gradient."""
    if gradient.shape == shape:
        return gradient
    if gradient.device.type == "cpu":
        # CPU kernels copy tensors that are not contiguous; memory that is never written costs nothing.
        return gradient.new_empty(shape)
    return gradient.new_empty(1).expand(shape)


class LeanConv2d(nn.Conv2d):
    """nn.Conv2d with a frozen weight."""

    def forward(self, input: Tensor) -> Tensor:
        how = (self.stride, self.padding, self.dilation, self.groups)
        found: Tensor = _Convolution.apply(input, self.weight, self.bias, how)
        return found


class _NormSiLU(torch.autograd.Function):
    """SiLU after group normalisation; keeps its input and two numbers per group, and normalises again in backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
        x = _in_order(x)
        normed, mean, scale = _norm(x, weight, bias, groups, eps)
        ctx.save_for_backward(x, mean, scale)
        ctx.weight, ctx.bias, ctx.groups, ctx.eps = weight, bias, groups, eps
        return functional.silu(normed, inplace=True)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        x, mean, scale = ctx.saved_tensors
        normed = _norm(x, ctx.weight, ctx.bias, ctx.groups, ctx.eps)[0]
        of_norm = aten.silu_backward(gradient, normed)
        count, channels = x.shape[:2]
        found = aten.native_group_norm_backward(
            of_norm.contiguous(memory_format=_order(x)), x, mean, scale, ctx.weight, count, channels,
            x.numel() // (count * channels), ctx.groups, [True, False, False],
        )  # fmt: skip
        return found[0], None, None, None, None


def _norm(x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    count, channels = x.shape[:2]
    found: tuple[Tensor, Tensor, Tensor] = torch.native_group_norm(
        x, weight, bias, count, channels, x.numel() // (count * channels), groups, eps
    )
    return found


def _order(x: Tensor) -> torch.memory_format:
    """The memory format that torch's group normalisation needs on this device."""
    last = x.device.type == "cpu" and x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


def _in_order(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=_order(x))


class NormSiLU(nn.GroupNorm):
    """nn.GroupNorm with frozen weights, and the SiLU that follows it."""

    def forward(self, input: Tensor) -> Tensor:
        found: Tensor = _NormSiLU.apply(input, self.weight, self.bias, self.num_groups, self.eps)
        return found


class _Gate(torch.autograd.Function):
    """value * gelu(gate) of [..., 2 n] -> [..., n]; keeps only its input."""

    @staticmethod
    def forward(ctx: Any, both: Tensor) -> Tensor:
        ctx.save_for_backward(both)
        value, gate = both.chunk(2, dim=-1)
        return value * functional.gelu(gate)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (both,) = ctx.saved_tensors
        value, gate = both.chunk(2, dim=-1)
        of_gate = aten.gelu_backward(gradient * value, gate)
        return torch.cat([gradient * functional.gelu(gate), of_gate], dim=-1)


class LeanGEGLU(GEGLU):
    """diffusers' gated unit, keeping only the output of its linear layer."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        found: Tensor = _Gate.apply(self.proj(hidden_states))
        return found
