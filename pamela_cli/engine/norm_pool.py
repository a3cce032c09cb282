"""Batch norm → ReLU → 2×2 max pool as one layer, with the derivatives that the meta-gradient needs.

What follows a convolution reads and writes the largest tensors of the network, and PyTorch differentiates
batch norm a second time in some forty passes over them. Here it takes a few:

- With scales that are not negative, pooling before normalising gives the same numbers, so only what is
  pooled is ever normalised, and the gradient follows from the pooled pixels.
- The gradient with respect to the input is, channel by channel, an affine function of the input plus what
  the pool lets through; its tangent is another, with the input's tangent as a third term.

Per channel, with n numbers z of mean μ and r = (variance + eps)^−½, x = (z − μ)·r, s = γ·r, and d the
cotangent of the scaled x, which is zero but at the pixels that the pool took (tangents have a dot):

    ∂L/∂z = s·(d − Σd/n − x·Σ(d·x)/n)
    ẋ = r·(ż − m0 − x·m1),   m0 = Σż/n,   m1 = Σ(ż·x)/n,   ṙ = −r²·m1
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from pamela_cli.engine.c_functions import c_functions
from pamela_cli.engine.norm_pool_compiled import CompiledNormPool
from pamela_cli.engine.own_code import in_use


def norm_relu_pool(z: Tensor, scale: Tensor, shift: Tensor, eps: float) -> Tensor:
    """``max_pool2d(relu(batch_norm(z)), 2)`` by the statistics of ``z`` itself.

    ``z`` (B, C, H, W), ``scale`` (C,), which must not be negative, ``shift`` (C,) → (B, C, ⌊H/2⌋, ⌊W/2⌋).
    Where gradients are recorded, these are PyTorch's own operations, differentiable any number of times.
    """
    if torch.is_grad_enabled() and any(t.requires_grad for t in (z, scale, shift)):
        # PyTorch's derivative on a CPU reads a scale with gaps, as a view of θ may be, as if it had none.
        scale, shift = scale.contiguous(), shift.contiguous()
        return F.max_pool2d(F.relu(F.batch_norm(z, None, None, scale, shift, training=True, eps=eps)), 2)
    return norm_pool(z, scale, shift, eps).out


class NormPool(Protocol):
    """The layer at one input, and its derivatives there; to be called in the order of this list.

    ``out`` is its output (B, C, ⌊H/2⌋, ⌊W/2⌋).
    """

    out: Tensor

    def gradient(self, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """From the cotangent of ``out``: those of z (B, C, H, W), scale and shift (C,)."""
        ...

    def tangent(self, z: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """How ``out`` moves as its inputs move along ``z``, ``scale`` and ``shift``."""
        ...

    def gradient_tangent(self, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """How :meth:`gradient` moves with them, and with its cotangent along ``v``."""
        ...


def norm_pool(z: Tensor, scale: Tensor, shift: Tensor, eps: float) -> NormPool:
    """The layer at ``z``: by compiled functions where they are in use, else by PyTorch's operations."""
    wanted = in_use["cpu"] and z.device.type == "cpu"
    functions = c_functions("norm_pool", z.dtype) if wanted else None
    if functions is None:
        return TorchNormPool(z, scale, shift, eps)
    return CompiledNormPool(functions, z, scale, shift, eps)


def channel_stats(z: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each channel of ``z`` (B, C, H, W), (C,) each."""
    if z.is_meta:  # where only shapes are wanted
        return z.mean((0, 2, 3)), z.mean((0, 2, 3))
    # On the CPU it is 25 times faster than `torch.var_mean`.
    mean, variance = torch.ops.aten.batch_norm_update_stats(z, None, None, 0.0)
    return mean, variance


def _per_channel(values: Tensor) -> Tensor:
    return values[:, None, None]


def _affine(z: Tensor, factor: Tensor, offset: Tensor) -> Tensor:
    """``factor·z + offset`` by channel, in one pass."""
    return torch.addcmul(_per_channel(offset), z, _per_channel(factor))


def _let_through(v: Tensor, out: Tensor) -> Tensor:
    """``v`` where the ReLU was open, zero elsewhere."""
    return torch.ops.aten.threshold_backward(v, out, 0)  # type: ignore[no-any-return]


def _sums(a: Tensor, b: Tensor) -> Tensor:
    """Σ a·b of each channel, (C,)."""
    return (a * b).sum((0, 2, 3))


class TorchNormPool:
    """The layer in PyTorch's operations, for any device; a ``NormPool``."""

    def __init__(self, z: Tensor, scale: Tensor, shift: Tensor, eps: float) -> None:
        self._z, self._scale = z, scale
        self._n = z.numel() / z.shape[1]
        self._mean, variance = channel_stats(z)
        self._r = (variance + eps).rsqrt()
        # On a GPU the many operations on one number per channel take longer than those on pixels: what
        # several derivatives need is computed once.
        self._steep = scale * self._r
        pooled, self._taken = F.max_pool2d(z, 2, return_indices=True)
        self._x = _affine(pooled, self._r, -self._mean * self._r)
        self.out = _affine(self._x, scale, shift).clamp_min_(0)

    def gradient(self, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """s·d − s·r·(d1/n)·z + what makes its mean zero, with d0 = Σ d and d1 = Σ d·x."""
        d = self._d = _let_through(v, self.out)
        d0, d1 = self._d0, self._d1 = d.sum((0, 2, 3)), _sums(d, self._x)
        down = self._steep * (-1 / self._n)
        slope = self._slope = down * self._r * d1
        to_z = _affine(self._z, slope, torch.addcmul(down * d0, slope, self._mean, value=-1))
        to_z += self._unpooled(d * _per_channel(self._steep))
        return to_z, d1, d0

    def tangent(self, z: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """γ̇·x + γ·ẋ + β̇ where the ReLU is open; x is only followed where the pool took it."""
        self._z_tangent, self._scale_tangent = z, scale
        m0, m1 = self._m0r, self._m1r = [moment * self._r for moment in self._moments(z)]
        x = z.flatten(2).gather(2, self._taken.flatten(2)).view_as(self._taken)
        x = self._x_tangent = _affine(x, self._r, -m0).sub_(self._x * _per_channel(m1))
        moved = _affine(self._x, scale, shift).addcmul_(x, _per_channel(self._scale))
        return _let_through(moved, self.out)

    def gradient_tangent(self, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The product rule on :meth:`gradient`, sorted by d, ḋ, z, ż and the rest."""
        steep, d0, d1 = self._steep, self._d0, self._d1
        d = _let_through(v, self.out)
        to_shift = d.sum((0, 2, 3))
        to_scale = _sums(d, self._x) + _sums(self._d, self._x_tangent)
        falls = steep * self._m1r  # −γ·ṙ
        steep_tangent = torch.addcmul(-falls, self._scale_tangent, self._r)
        of_z = torch.addcmul((falls - steep_tangent) * d1, steep, to_scale, value=-1) * (self._r / self._n)
        rest = (steep * self._m0r * d1).addcmul_(steep_tangent, d0, value=-1)
        rest = rest.addcmul_(steep, to_shift, value=-1).div_(self._n).addcmul_(of_z, self._mean, value=-1)
        to_z = _affine(self._z, of_z, rest).addcmul_(self._z_tangent, _per_channel(self._slope))
        pooled = (self._d * _per_channel(steep_tangent)).addcmul_(d, _per_channel(steep))
        return to_z.add_(self._unpooled(pooled)), to_scale, to_shift

    def _unpooled(self, values: Tensor) -> Tensor:
        """``values`` (B, C, h, w) at the pixels that the pool took, zero elsewhere: (B, C, H, W)."""
        size, none = [2, 2], [0, 0]
        return torch.ops.aten.max_pool2d_with_indices_backward(  # type: ignore[no-any-return]
            values, self._z, size, size, none, [1, 1], False, self._taken
        )

    def _moments(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """m0 and m1 in one pass: PyTorch's gradients with respect to shift and scale."""
        # The scale has no part in these two, but on CUDA they are made like it, and fail where there is none.
        _, product, total = torch.ops.aten.native_batch_norm_backward(
            z, self._z, self._scale, None, None, self._mean, self._r, True, 0.0, [False, True, True]
        )
        return total / self._n, product / self._n
