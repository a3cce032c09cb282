"""The fused batch norm, ReLU and pool against PyTorch's own, and its derivatives against differences."""

from __future__ import annotations

import pytest
import torch
from engine_support import generator
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional as F

from pamela_cli.engine.norm_pool import channel_stats, norm_relu_pool

SHAPES = [(3, 2, 4, 4), (2, 3, 5, 7), (4, 1, 2, 3)]


def plain(z: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """In the paper's order: normalise, ReLU, pool."""
    return F.max_pool2d(F.relu(F.batch_norm(z, None, None, scale, shift, training=True, eps=1e-5)), 2)


def inputs(shape: tuple[int, ...], layout=torch.contiguous_format) -> tuple[Tensor, Tensor, Tensor]:
    g = generator(sum(shape))
    z = torch.randn(shape, generator=g, dtype=torch.float64).contiguous(memory_format=layout)
    scale = 0.5 + torch.rand(shape[1], generator=g, dtype=torch.float64)
    shift = torch.randn(shape[1], generator=g, dtype=torch.float64)
    return tuple(t.requires_grad_() for t in (z, scale, shift))


def derivatives(function, tensors: tuple[Tensor, ...]) -> list[Tensor]:
    """Outputs, gradients, and the gradients of a random form in those."""
    out = function(*tensors)
    g = generator(7)
    v = torch.randn(out.shape, generator=g, dtype=torch.float64).requires_grad_()
    first = torch.autograd.grad(out, tensors, v, create_graph=True)
    form = sum((torch.randn(f.shape, generator=g, dtype=torch.float64) * f).sum() for f in first)
    return [out, *first, *torch.autograd.grad(form, (v, *tensors[:2]))]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", SHAPES)
def test_values_and_two_derivatives_are_pytorchs(shape, layout) -> None:
    tensors = inputs(shape, layout)
    found = derivatives(lambda *t: norm_relu_pool(*t, 1e-5), tensors)
    for one, other in zip(found, derivatives(plain, tensors), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("shape", SHAPES)
def test_derivatives_are_those_of_differences(shape) -> None:
    tensors = inputs(shape)
    assert gradcheck(lambda *t: norm_relu_pool(*t, 1e-5), tensors)
    assert gradgradcheck(lambda *t: norm_relu_pool(*t, 1e-5), tensors)


def test_a_channel_of_scale_zero_gives_its_shift() -> None:
    z, _, _ = inputs((3, 2, 4, 4))
    out = norm_relu_pool(z, torch.zeros(2, dtype=torch.float64), torch.tensor([0.5, -0.5]).double(), 1e-5)
    assert out[:, 0].eq(0.5).all() and out[:, 1].eq(0).all()


def test_a_channel_of_equal_numbers_has_finite_derivatives() -> None:
    tensors = inputs((3, 2, 4, 4))
    with torch.no_grad():
        tensors[0][:, 0] = 2.0
    for tensor in derivatives(lambda *t: norm_relu_pool(*t, 1e-5), tensors):
        assert tensor.isfinite().all()


def test_statistics_of_a_channel() -> None:
    z, _, _ = inputs((3, 2, 4, 4))
    mean, variance = channel_stats(z)
    torch.testing.assert_close(mean, z.transpose(0, 1).flatten(1).mean(1))
    torch.testing.assert_close(variance, z.transpose(0, 1).flatten(1).var(1, correction=0))
