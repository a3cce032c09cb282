"""The written-out derivatives of Conv4 against automatic differentiation of PyTorch's own layers."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from engine_support import PlainConv4, generator, image_tasks, plain_loss, random_thetas
from torch import Tensor
from torch.nn import functional as F

from pamela_cli.engine.backbones import Conv4, conv4_gradient
from pamela_cli.engine.backbones.base import AutogradGradient
from pamela_cli.engine.backbones.conv4_gradient import Block
from pamela_cli.engine.ops import conv3x3, conv3x3_gradients
from pamela_cli.engine.tasks import Classification

WAY = 3
COMPILED_WIDTH = 32
"""Filters that compiled convolutions are used for, whatever the processor's vectors."""


def points(backbone: Conv4, tasks: int, seed: int = 1) -> Tensor:
    """θ of several tasks at which some scales of batch norm are negative, and none is near its start."""
    theta = random_thetas(backbone, tasks, 0.2, seed)
    for block in range(backbone.BLOCKS):
        backbone.layout.unpack(theta)[4 * block + 2][:, 0] *= -1
    return theta


def relative(found: Tensor, expected: Tensor) -> float:
    return ((found - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("negative", [False, True])
@pytest.mark.parametrize(
    ("tasks", "channels", "size", "width"),
    [
        (1, 3, 21, 5),
        (2, 1, 16, 5),
        (3, 2, 28, 5),
        (1, 1, 33, 5),
        (2, 3, 18, COMPILED_WIDTH),
        (1, 1, 24, COMPILED_WIDTH),
    ],
)
def test_gradient_and_hessian_are_those_of_autograd(
    tasks, channels, size, width, negative, compiled: bool
) -> None:
    backbone, objective = Conv4(WAY, channels, size, width), Classification(WAY)
    theta = points(backbone, tasks)
    if not negative:
        for block in range(backbone.BLOCKS):
            backbone.layout.unpack(theta)[4 * block + 2].abs_()
    task = image_tasks(tasks, WAY, 2, 1, channels, size)
    vectors = torch.randn(theta.shape, generator=generator(3), dtype=torch.float64)
    found = backbone.loss_gradient(objective, theta, task.support_x, task.support_y, True)
    plain = PlainConv4(WAY, channels, size, width)
    for i in range(tasks):
        leaf = theta[i].clone().requires_grad_()
        outputs = plain(leaf, task.support_x[i])
        (gradient,) = torch.autograd.grad(plain_loss(outputs, task.support_y[i]), leaf, create_graph=True)
        assert relative(found.outputs[i], outputs) < 1e-12
        # PyTorch finds rounding errors where the gradient of a bias is zero.
        assert relative(found.gradient[i], gradient) < 1e-11
    product = found.hessian_product(vectors)
    expected = AutogradGradient(backbone, objective, theta, task.support_x, task.support_y, True)
    assert relative(product, expected.hessian_product(vectors)) < 1e-10


class Late(Block):
    """Fills what it is to fill when somebody waits for it, as kernels on another stream may."""

    promised: ClassVar[list[tuple[Tensor, Tensor]]] = []

    def _fill(self, into: list[Tensor], *found: Tensor) -> None:
        own = [torch.empty_like(t) for t in into]
        super()._fill(own, *found)
        self.promised.extend(zip(into, own, strict=True))

    def wait(self) -> None:
        for place, value in self.promised:
            place.copy_(value)
        self.promised.clear()


def test_what_is_filled_late_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone, objective, task = Conv4(WAY, 1, 16, 4), Classification(WAY), image_tasks(2, WAY, 2, 1)
    theta = points(backbone, 2)
    vectors = torch.randn(theta.shape, generator=generator(5), dtype=torch.float64)
    results = []
    for block in (Block, Late):
        monkeypatch.setattr(conv4_gradient, "block_type", lambda *_, block=block: block)
        made = backbone.loss_gradient(objective, theta, task.support_x, task.support_y, True)
        results.append([made.gradient.clone(), made.hessian_product(vectors).clone()])
    assert Late.promised == []
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


def test_the_hessian_is_symmetric(compiled: bool) -> None:
    backbone, objective = Conv4(WAY, 1, 16, 4), Classification(WAY)
    theta, task = points(backbone, 1), image_tasks(1, WAY, 2, 1)
    a, b = torch.randn(2, 1, backbone.layout.size, generator=generator(4), dtype=torch.float64)

    def along(vector: Tensor) -> Tensor:
        at = backbone.loss_gradient(objective, theta, task.support_x, task.support_y, True)
        return at.hessian_product(vector)

    assert (along(a) * b).sum().item() == pytest.approx((a * along(b)).sum().item(), rel=1e-10)


@pytest.mark.parametrize("width", [4, COMPILED_WIDTH])
def test_the_hessian_is_the_difference_of_gradients(width: int, compiled: bool) -> None:
    backbone, objective = Conv4(WAY, 1, 16, width), Classification(WAY)
    theta, task = points(backbone, 1), image_tasks(1, WAY, 2, 1)
    vector = torch.randn(1, backbone.layout.size, generator=generator(5), dtype=torch.float64)

    def gradient(at: Tensor) -> Tensor:
        return backbone.loss_gradient(objective, at, task.support_x, task.support_y, False).gradient

    step = 1e-7
    difference = (gradient(theta + step * vector) - gradient(theta - step * vector)) / (2 * step)
    at = backbone.loss_gradient(objective, theta, task.support_x, task.support_y, True)
    assert relative(at.hessian_product(vector), difference) < 1e-6


@pytest.mark.parametrize(("channels", "width"), [(2, 4), (3, COMPILED_WIDTH)])
def test_the_gradient_alone_has_the_same_bits(channels: int, width: int, compiled: bool) -> None:
    backbone, objective = Conv4(WAY, channels, 16, width), Classification(WAY)
    theta, task = points(backbone, 2), image_tasks(2, WAY, 2, 1, channels)
    alone, both = (
        backbone.loss_gradient(objective, theta, task.support_x, task.support_y, differentiable)
        for differentiable in (False, True)
    )
    assert torch.equal(alone.gradient, both.gradient)
    assert torch.equal(alone.outputs, both.outputs)


def test_both_forms_of_the_layer_agree_in_float32_as_far_as_rounding_goes(compiled: bool) -> None:
    backbone, objective = Conv4(WAY, 3, 32, COMPILED_WIDTH), Classification(WAY)
    theta, task = points(backbone, 1), image_tasks(1, WAY, 5, 1, 3, 32)
    vector = torch.randn(1, backbone.layout.size, generator=generator(6), dtype=torch.float64)
    results = []
    for dtype in (torch.float32, torch.float64):
        x = task.support_x.to(dtype)
        at = backbone.loss_gradient(objective, theta.to(dtype), x, task.support_y, True)
        results.append((at.gradient, at.hessian_product(vector.to(dtype))))
    (gradient, product), (exact, exact_product) = results
    assert relative(gradient.double(), exact) < 1e-4
    assert relative(product.double(), exact_product) < 1e-3


@pytest.mark.parametrize(("groups", "channels", "filters"), [(1, 2, 3), (2, 1, 2), (3, 2, 1)])
@pytest.mark.parametrize("to_input", [True, False])
def test_the_convolution_and_its_gradients(groups, channels, filters, to_input) -> None:
    g = generator(0)
    x = torch.randn(2, groups * channels, 4, 5, generator=g, dtype=torch.float64).requires_grad_()
    weight = torch.randn(groups * filters, channels, 3, 3, generator=g, dtype=torch.float64).requires_grad_()
    out = F.conv2d(x, weight, padding=1, groups=groups)
    v = torch.randn(out.shape, generator=g, dtype=torch.float64)
    torch.testing.assert_close(conv3x3([(x, weight)], groups), out)
    to_x, to_weight = conv3x3_gradients([(v, x.detach(), weight.detach())], groups, to_input)
    expected_x, expected_weight = torch.autograd.grad(out, (x, weight), v)
    torch.testing.assert_close(to_weight, expected_weight)
    if to_input:
        torch.testing.assert_close(to_x, expected_x)
    else:
        assert to_x is None
