"""Every way of computing a step gives the same step: lean, recomputed, compiled; 8-bit weights nearly so."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.fixtures.limited_memory import LimitedMemory
from ti_tui.run.memory import ComputeMode
from ti_tui.training import compute_mode, quantised
from ti_tui.training.lean import LeanConv2d, LeanGEGLU, NormSiLU, make_lean
from ti_tui.training.quantised import Conv2d8Bit, Linear8Bit, quantise, to_8_bits
from ti_tui.training.recompute import set_recompute

FAMILIES = ["sd1", "sd2-v", "sdxl"]


@pytest.fixture(params=FAMILIES)
def unet(request: pytest.FixtureRequest, models: dict[str, Any]) -> Any:
    from diffusers import UNet2DConditionModel

    folder = models[request.param] / "unet"
    return UNet2DConditionModel.from_pretrained(folder).requires_grad_(False).eval()


def step_of(unet: Any, batch_size: int = 2) -> tuple[Tensor, list[Tensor]]:
    """(answer, gradients of what the text side gives) of a pass with fixed inputs."""
    stream = torch.Generator().manual_seed(1)
    width = unet.config.cross_attention_dim
    inputs = [torch.randn(batch_size, 77, width, generator=stream, requires_grad=True)]
    more: dict[str, Any] = {}
    if unet.config.addition_embed_type:
        inputs.append(torch.randn(batch_size, 128, generator=stream, requires_grad=True))
        more["added_cond_kwargs"] = {"text_embeds": inputs[1], "time_ids": torch.zeros(batch_size, 6)}
    latents = torch.randn(batch_size, 4, 16, 16, generator=stream)
    answer = unet(latents, torch.tensor([400, 20][:batch_size]), encoder_hidden_states=inputs[0], **more).sample
    answer.square().mean().backward()
    return answer.detach(), [one.grad for one in inputs if one.grad is not None]


def assert_same_step(ours: Any, theirs: Any) -> None:
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-5, atol=1e-6)
    assert len(ours[1]) == len(theirs[1]) > 0
    for mine, other in zip(ours[1], theirs[1], strict=True):
        assert float((mine - other).norm() / other.norm()) < 1e-5


def test_the_lean_backward_gives_the_gradient_of_plain_autograd(unet: Any) -> None:
    plain = step_of(unet)
    make_lean(unet)
    kinds = {type(module) for module in unet.modules()}
    assert {LeanConv2d, LeanGEGLU, NormSiLU} <= kinds
    assert not any(type(module) is nn.Conv2d for module in unet.modules())
    assert_same_step(step_of(unet), plain)


def test_the_lean_backward_keeps_a_third_less(unet: Any) -> None:
    def kept() -> int:
        sizes: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            sizes[tensor.untyped_storage()._cdata] = tensor.untyped_storage().nbytes()
            return tensor

        weights = {parameter.untyped_storage()._cdata for parameter in unet.parameters()}
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            step_of(unet)
        return sum(size for key, size in sizes.items() if key not in weights)

    plain = kept()
    make_lean(unet)
    # Deep transformers, which are mostly products, have less to save.
    assert kept() < plain * 0.8


def test_the_names_of_the_weights_stay(unet: Any) -> None:
    names = list(unet.state_dict())
    make_lean(unet)
    set_recompute(unet, "all")
    assert list(unet.state_dict()) == names


@pytest.mark.parametrize("lean", [False, True], ids=["plain", "lean"])
def test_recomputing_gives_the_same_gradient_in_less_memory(unet: Any, lean: bool) -> None:
    if lean:
        make_lean(unet)
    results, peaks = [], []
    for amount in ("none", "some", "all"):
        set_recompute(unet, amount)
        with LimitedMemory() as memory:
            results.append(step_of(unet))
        peaks.append(memory.peak)
    assert peaks[0] > peaks[1] > peaks[2]
    for result in results[1:]:
        assert_same_step(result, results[0])


def test_recomputing_can_be_taken_back(unet: Any) -> None:
    set_recompute(unet, "all")
    assert any("forward" in module.__dict__ for module in unet.modules())
    set_recompute(unet, "none")
    assert not any("forward" in module.__dict__ for module in unet.modules())


def test_8_bit_weights_give_the_gradient_of_the_model_that_they_stand_for(unet: Any) -> None:
    """The same U-Net with its weights rounded and kept in fp32 is the reference."""
    rounded = copy.deepcopy(unet)
    exact = step_of(unet)
    quantise(unet)
    eight = {name: module for name, module in unet.named_modules() if isinstance(module, Linear8Bit | Conv2d8Bit)}
    assert eight
    for name, module in eight.items():
        with torch.no_grad():
            rounded.get_submodule(name).weight.copy_(module.weight.float() * module.scale)
    ours = step_of(unet)
    assert_same_step(ours, step_of(rounded))
    assert float((ours[0] - exact[0]).norm() / exact[0].norm()) < 0.1


def test_8_bit_weights_are_kept_for_backward_as_they_are() -> None:
    layers = nn.Sequential(*(nn.Linear(256, 256, bias=False) for _ in range(8))).requires_grad_(False)
    x = torch.randn(4, 256, requires_grad=True)
    quantise(layers)
    with LimitedMemory() as memory:
        layers(x).sum().backward()
    # One expanded weight (and its product with the scale) at a time; eight of them would be 2 MiB.
    assert memory.peak < 2.5 * 256 * 256 * 4
    assert sum(buffer.numel() * buffer.element_size() for buffer in layers.buffers()) == 8 * 256 * 260


weights = st.lists(st.floats(-100, 100, width=16), min_size=6, max_size=6)


@given(st.lists(weights, min_size=1, max_size=5), st.sampled_from([torch.float32, torch.float16, torch.bfloat16]))
def test_a_rounded_weight_is_within_half_a_step(rows: list[list[float]], dtype: torch.dtype) -> None:
    weight = torch.tensor(rows).to(dtype)
    values, scale = to_8_bits(weight)
    assert values.dtype == torch.int8 and values.shape == weight.shape
    assert scale.shape == (len(rows), 1) and scale.dtype == dtype and bool(scale.isfinite().all())
    off = (values.float() * scale.float() - weight.float()).abs()
    # The scale itself is rounded to the dtype, by half of its last place at most (or to nothing, for tiny rows).
    largest = weight.float().abs().amax(dim=1, keepdim=True)
    allowed = scale.float() / 2 + largest * 2 * torch.finfo(dtype).eps + 127 * torch.finfo(dtype).smallest_normal / 512
    assert bool((off <= torch.maximum(allowed, largest.where(largest < 1e-4, torch.zeros(())))).all())


def test_small_layers_and_norms_keep_their_weights(unet: Any) -> None:
    quantise(unet)
    small = [module for module in unet.modules() if isinstance(module, nn.GroupNorm | nn.LayerNorm)]
    assert small and all(module.weight.dtype == torch.float32 for module in small)
    assert unet.dtype == torch.float32
    assert unet.conv_in.weight.numel() < quantised.SMALLEST and unet.conv_in.weight.dtype == torch.float32


# Tracing takes seconds, and the families' blocks are of the same kinds.
@pytest.mark.sampled(1)
@pytest.mark.parametrize(("unet", "how"), [("sd1", "blocks"), ("sd2-v", "full")], indirect=["unet"])
def test_what_is_compiled_gives_the_same_gradient(unet: Any, how: Any) -> None:
    plain = step_of(unet)
    compute_mode.set_compute_mode(unet, ComputeMode(2, "lean", "some" if how == "blocks" else "none"))
    # Traced and derived as for a card; only the last stage, the making of kernels, is left out.
    compute_mode.compile_unet(unet, how, backend="aot_eager")
    assert compute_mode.is_compiled(unet)
    compiled = step_of(unet)
    torch.testing.assert_close(compiled[0], plain[0], rtol=1e-4, atol=1e-5)
    for mine, other in zip(compiled[1], plain[1], strict=True):
        assert float((mine - other).norm() / other.norm()) < 1e-4
    compute_mode.stop_compiling(unet)
    assert not compute_mode.is_compiled(unet)
    assert_same_step(step_of(unet), plain)
