"""Convolution as three operations that are each other's derivatives.

A convolution is bilinear, so its value, its gradient towards the input and its gradient towards the
weight differentiate into one another. Written so, the double backward of the meta-gradient runs on
the same fast kernels as the forward pass; PyTorch's own double backward transposes and copies.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

Shape = tuple[int, ...]


def conv3x3(x: Tensor, weight: Tensor, groups: int = 1) -> Tensor:
    """3×3 convolution, stride 1, padding 1, no bias; differentiable any number of times.

    ``x`` (B, groups·C_in, H, W), ``weight`` (groups·C_out, C_in, 3, 3) → (B, groups·C_out, H, W).
    """
    return _Conv.apply(x, weight, groups)  # type: ignore[no-any-return]


def _towards(g: Tensor, x: Tensor, weight: Tensor, groups: int, mask: list[bool]) -> tuple[Tensor, ...]:
    ones, zeros = [1, 1], [0, 0]
    return torch.ops.aten.convolution_backward(  # type: ignore[no-any-return]
        g, x, weight, None, ones, ones, ones, False, zeros, groups, mask
    )


def _input_gradient(g: Tensor, weight: Tensor, x_shape: Shape, groups: int) -> Tensor:
    # The kernel wants x for its shape only; an expanded scalar costs no memory.
    return _towards(g, g.new_empty(()).expand(x_shape), weight, groups, [True, False, False])[0]


def _weight_gradient(g: Tensor, x: Tensor, w_shape: Shape, groups: int) -> Tensor:
    return _towards(g, x, g.new_empty(()).expand(w_shape), groups, [False, True, False])[1]


class _Conv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, groups: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.groups = groups
        return F.conv2d(x, weight, padding=1, groups=groups)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        (v,) = cotangents
        to_x = _ConvInputGradient.apply(v, weight, x.shape, ctx.groups) if ctx.needs_input_grad[0] else None
        to_w = _ConvWeightGradient.apply(v, x, weight.shape, ctx.groups) if ctx.needs_input_grad[1] else None
        return to_x, to_w, None


class _ConvInputGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, g: Tensor, weight: Tensor, x_shape: Shape, groups: int) -> Tensor:
        ctx.save_for_backward(g, weight)
        ctx.groups = groups
        return _input_gradient(g, weight, x_shape, groups)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        g, weight = ctx.saved_tensors
        (v,) = cotangents
        to_g = conv3x3(v, weight, ctx.groups) if ctx.needs_input_grad[0] else None
        to_w = _ConvWeightGradient.apply(g, v, weight.shape, ctx.groups) if ctx.needs_input_grad[1] else None
        return to_g, to_w, None, None


class _ConvWeightGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor, w_shape: Shape, groups: int) -> Tensor:
        ctx.save_for_backward(g, x)
        ctx.groups = groups
        return _weight_gradient(g, x, w_shape, groups)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        g, x = ctx.saved_tensors
        (v,) = cotangents
        to_g = conv3x3(x, v, ctx.groups) if ctx.needs_input_grad[0] else None
        to_x = _ConvInputGradient.apply(g, v, x.shape, ctx.groups) if ctx.needs_input_grad[1] else None
        return to_g, to_x, None, None
