"""∇L of Conv4 and its product with the Hessian, written out.

The gradient is propagated backwards through the blocks; the Hessian product differentiates that computation
along a direction (Pearlmutter's R-operator), first its forward pass, then its backward pass. Automatic
differentiation would do the same arithmetic in three times as many operations.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from pamela_cli.engine.first_compiled import CompiledFirstBlock
from pamela_cli.engine.layout import Layout
from pamela_cli.engine.norm_pool import norm_pool
from pamela_cli.engine.once import once
from pamela_cli.engine.ops import conv3x3, conv3x3_gradients
from pamela_cli.engine.own_code import in_use, suits_kernels
from pamela_cli.engine.signs import negative_scales, signed
from pamela_cli.engine.tasks import Objective

BATCH_NORM_EPS = 1e-5

Linear = Callable[[Tensor, list[tuple[Tensor, Tensor]]], Tensor]
"""As :func:`linear`."""


class Conv4Gradient:
    """The gradient of each task's loss at θ (T, N) for images (T, B, C, H, W); a ``LossGradient``."""

    def __init__(
        self, layout: Layout, objective: Objective, theta: Tensor, x: Tensor, y: Tensor, differentiable: bool
    ) -> None:
        self._layout, self._objective, self._y = layout, objective, y
        *tensors, self._head, bias = layout.unpack(theta)
        images = once.of(side_by_side, x)
        self._blocks: list[BlockGradient] = []
        block_at = block_type(images, len(theta) * tensors[0].shape[1])
        for i in range(0, len(tensors), 4):
            weight, _, scale, shift = tensors[i : i + 4]
            self._blocks.append(block_at(images, weight, scale, shift, first=i == 0))
            images = self._blocks[-1].out
        self._pooled = images.shape
        self._features = features(images, len(theta))
        self._linear = linear_type(images)
        self.outputs = self._linear(bias, [(self._features, self._head)])
        delta = self._delta = objective.gradient(self.outputs, y)
        self.gradient = torch.empty_like(theta)
        *into, to_head, to_bias = layout.unpack(self.gradient)
        torch.bmm(delta.mT, self._features, out=to_head)
        torch.sum(delta, 1, out=to_bias)
        v: Tensor | None = self._images(delta @ self._head)
        for i in reversed(range(len(self._blocks))):
            assert v is not None, "only the first block gives nothing back"
            block = self._blocks[i]
            v = block.gradient(v, into[4 * i : 4 * i + 4])
            if not differentiable:
                self._blocks.pop()
        block.wait()

    def hessian_product(self, vectors: Tensor) -> Tensor:
        """Differentiate the gradient along ``vectors`` (T, N)."""
        *along, head, bias = self._layout.unpack(vectors)
        moved: Tensor | None = None
        for i, block in enumerate(self._blocks):
            weight, _, scale, shift = along[4 * i : 4 * i + 4]
            moved = block.tangent(moved, weight, scale, shift)
        assert moved is not None
        moved_features = features(moved, len(vectors))
        outputs = self._linear(bias, [(self._features, head), (moved_features, self._head)])
        delta = self._objective.gradient_tangent(self.outputs, self._y, outputs)
        product = torch.empty_like(vectors)
        *into, to_head, to_bias = self._layout.unpack(product)
        torch.bmm(delta.mT, self._features, out=to_head).baddbmm_(self._delta.mT, moved_features)
        torch.sum(delta, 1, out=to_bias)
        v: Tensor | None = self._images(torch.bmm(delta, self._head).baddbmm_(self._delta, head))
        for i in reversed(range(len(self._blocks))):
            assert v is not None, "only the first block gives nothing back"
            block = self._blocks.pop()
            v = block.gradient_tangent(v, into[4 * i : 4 * i + 4])
        block.wait()
        return product

    def _images(self, v: Tensor) -> Tensor:
        """The inverse of :func:`features`."""
        return v.transpose(0, 1).reshape(self._pooled).contiguous(memory_format=torch.channels_last)


class BlockGradient(Protocol):
    """One block at its input, [convolution → batch norm → ReLU → pool], and its derivatives there.

    Made of ``images`` (B, T·C, H, W), ``weight`` (T, C_out, C, 3, 3), ``scale`` and ``shift`` (T, C_out);
    ``out`` is its output. The derivatives fill tensors like [weight, bias, scale, shift] and return what goes
    on to the block before (None at the first). To be called in the order of this list.
    """

    out: Tensor

    def gradient(self, v: Tensor, into: list[Tensor]) -> Tensor | None:
        """From the cotangent of the output."""
        ...

    def tangent(self, images: Tensor | None, weight: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """How the output moves with the images (None: they do not) and the parameters."""
        ...

    def gradient_tangent(self, v: Tensor, into: list[Tensor]) -> Tensor | None:
        """How :meth:`gradient` moves with them, and with its cotangent along ``v``."""
        ...

    def wait(self) -> None:
        """Wait until the derivatives have filled their tensors: to be called before anybody reads them."""
        ...


def linear_type(images: Tensor) -> Linear:
    """What computes the classifier on what the blocks make of ``images``: see :func:`linear`."""
    if torch.is_grad_enabled() or not suits_kernels(images, images.shape[1]):
        return linear
    from pamela_cli.engine.kernels.linear import linear as by_kernel

    return by_kernel


def block_type(images: Tensor, filters: int) -> Callable[..., BlockGradient]:
    """What makes the blocks of a network: this project's kernels where they are in use, else operations.

    All of one kind, by the first block, whose ``images`` (B, T·C, H, W) are the largest, with so many
    ``filters`` of all tasks.
    """
    if not suits_kernels(images, filters):
        return _on_any_device
    from pamela_cli.engine.kernels.block import triton_block

    return partial(triton_block, eps=BATCH_NORM_EPS)


def _on_any_device(
    images: Tensor, weight: Tensor, scale: Tensor, shift: Tensor, first: bool
) -> BlockGradient:
    own = None
    if first and in_use["cpu"] and images.device.type == "cpu":
        own = CompiledFirstBlock.where_it_suits(images, weight, scale, shift, BATCH_NORM_EPS)
    return own or Block(images, weight, scale, shift, first)


class Block:
    """A ``BlockGradient`` by convolutions and ``norm_pool``, on any device."""

    def __init__(self, images: Tensor, weight: Tensor, scale: Tensor, shift: Tensor, first: bool) -> None:
        self._first = first
        self._sign = negative_scales(scale)
        self._images, self._weight = images, as_grouped_filters(signed(weight, self._sign))
        z = conv3x3([(images, self._weight)], len(weight))
        self._norm = norm_pool(z, signed(scale, self._sign).flatten(), shift.flatten(), BATCH_NORM_EPS)
        self.out = self._norm.out

    def gradient(self, v: Tensor, into: list[Tensor]) -> Tensor | None:
        """From the cotangent of the output."""
        self._to_z, to_scale, to_shift = self._norm.gradient(v)
        triple = self._to_z, self._images, self._weight
        to_images, to_weight = conv3x3_gradients([triple], len(into[0]), to_input=not self._first)
        self._fill(into, to_weight, to_scale, to_shift)
        return to_images

    def tangent(self, images: Tensor | None, weight: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """How the output moves with the images (None: they do not) and the parameters."""
        self._images_tangent, self._weight_tangent = images, as_grouped_filters(signed(weight, self._sign))
        pairs = [(self._images, self._weight_tangent)]
        if images is not None:
            pairs.append((images, self._weight))
        z = conv3x3(pairs, len(weight))
        return self._norm.tangent(z, signed(scale, self._sign).flatten(), shift.flatten())

    def gradient_tangent(self, v: Tensor, into: list[Tensor]) -> Tensor | None:
        """How :meth:`gradient` moves with them, and with its cotangent along ``v``."""
        to_z, to_scale, to_shift = self._norm.gradient_tangent(v)
        triples = [(to_z, self._images, self._weight)]
        if self._images_tangent is not None:
            triples.append((self._to_z, self._images_tangent, self._weight_tangent))
        to_images, to_weight = conv3x3_gradients(triples, len(into[0]), to_input=not self._first)
        self._fill(into, to_weight, to_scale, to_shift)
        return to_images

    def wait(self) -> None:
        """Nothing: all is done when it is returned."""

    def _fill(self, into: list[Tensor], to_weight: Tensor, to_scale: Tensor, to_shift: Tensor) -> None:
        weight, bias, scale, shift = into
        weight.copy_(signed(to_weight.view_as(weight), self._sign))
        bias.zero_()  # batch norm cancels it
        scale.copy_(signed(to_scale.view_as(scale), self._sign))
        shift.copy_(to_shift.view_as(shift))


def side_by_side(x: Tensor) -> Tensor:
    """Images (T, B, C, H, W) as (B, T·C, H, W), so that a grouped convolution keeps the tasks apart.

    The channels are last in memory, where what follows is fastest, on the CPU and on CUDA.
    """
    images = x.transpose(0, 1).reshape(x.shape[1], -1, *x.shape[3:])
    # (`contiguous` would leave one-channel images alone, whose strides fit both formats.)
    return torch.empty_like(images, memory_format=torch.channels_last).copy_(images)


def linear(bias: Tensor, pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
    """``bias`` (T, out) plus the sum of ``x @ w.mT`` over pairs of x (T, B, in) with w (T, out, in)."""
    found = bias[:, None]
    for x, w in pairs:
        found = torch.baddbmm(found, x, w.mT)
    return found


def features(images: Tensor, tasks: int) -> Tensor:
    """What the last block gives, (B, T·C, h, w), as (T, B, C·h·w)."""
    return images.reshape(len(images), tasks, -1).transpose(0, 1)


def as_grouped_filters(weight: Tensor) -> Tensor:
    """The weights of the tasks, (T, C_out, C_in, 3, 3), as those of one grouped convolution."""
    return weight.flatten(0, 1).contiguous(memory_format=torch.channels_last)
