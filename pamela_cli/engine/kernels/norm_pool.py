"""The layer of ``engine/norm_pool.py`` as Triton kernels, for float32 on CUDA.

Tensors are stored channels-last.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor

from pamela_cli.engine.kernels import norm_pool_kernels as kernel
from pamela_cli.engine.kernels.shares import shared

_POOLS, _PIXELS, _CHANNELS, _FEW = 32, 16, 64, 16
"""What a program takes at a time: pools, pixels and channels; and channels where it only adds up."""


class TritonNormPool:
    """The layer by kernels; a ``NormPool``. Tensors are float32 on CUDA, their channels last."""

    def __init__(self, z: Tensor, scale: Tensor, shift: Tensor, eps: float) -> None:
        self._z, self._scale = _last(z), scale.contiguous()
        batch, channels, height, width = z.shape
        self._channels, self._pixels = channels, batch * height * width
        self._sides = (height, width, height // 2, width // 2)
        self._pooled_shape = (batch, channels, height // 2, width // 2)
        self._count = batch * (height // 2) * (width // 2)
        self._mean, self._r = z.new_empty(2, channels)
        shares, per = shared(self._pixels, _POOLS, self._columns)
        parts = z.new_empty(2, shares, channels)
        kernel.stats[(shares, self._columns)](
            self._z, *parts, self._pixels, per, channels, BP=_POOLS, BC=self._wide
        )
        kernel.stats_together[(triton.cdiv(channels, _FEW),)](
            *parts, self._mean, self._r, self._pixels, per, shares, channels, eps,
            BS=triton.next_power_of_2(shares), BC=_FEW,
        )  # fmt: skip
        self.out, self._pooled, self._taken = self._new(), self._new(), self._new(torch.int8)
        self._at_pools(
            kernel.pool, self._z, self._mean, self._r, self._scale, shift.contiguous(), self._pooled,
            self._taken, self.out, self._count,
        )  # fmt: skip

    def gradient(self, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """From the cotangent of ``out``: those of z, scale and shift."""
        self._v = _last(v)
        about = (self.out, self._pooled, self._mean, self._r)
        self._sums = self._summed(kernel.gradient_sums, self._count, self._v, *about)
        to_z = torch.empty_like(self._z)
        self._at_pixels(
            kernel.gradient,
            self._v,
            self._z,
            self.out,
            self._taken,
            self._mean,
            self._r,
            self._scale,
            self._sums,
            to_z,
        )
        return to_z, self._sums[1], self._sums[0]

    def tangent(self, z: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """How ``out`` moves as its inputs move along ``z``, ``scale`` and ``shift``."""
        self._z_tangent, self._scale_tangent = _last(z), scale.contiguous()
        about = (self._z, self._z_tangent, self._mean, self._r)
        self._moments = self._summed(kernel.moments, self._pixels, *about)
        self._x_tangent, moved = self._new(), self._new()
        self._at_pools(
            kernel.tangent, self._z_tangent, self._pooled, self._taken, self.out, self._mean, self._r,
            self._scale, self._scale_tangent, shift.contiguous(), self._moments, self._x_tangent,
            moved, self._count, self._pixels,
        )  # fmt: skip
        return moved

    def gradient_tangent(self, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """How :meth:`gradient` moves with them, and with its cotangent along ``v``."""
        v = _last(v)
        about = (self.out, self._pooled, self._x_tangent, self._mean, self._r)
        sums = self._summed(kernel.gradient_tangent_sums, self._count, self._v, v, *about)
        to_z = torch.empty_like(self._z)
        self._at_pixels(
            kernel.gradient_tangent, self._v, v, self._z, self._z_tangent, self.out, self._taken, self._mean,
            self._r, self._scale, self._scale_tangent, self._sums, sums, self._moments, to_z,
        )  # fmt: skip
        return to_z, sums[1], sums[0]

    @property
    def _wide(self) -> int:
        return min(_CHANNELS, triton.next_power_of_2(self._channels))

    @property
    def _columns(self) -> int:
        return triton.cdiv(self._channels, _CHANNELS)

    def _new(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Of the pooled shape."""
        return torch.empty(
            self._pooled_shape, dtype=dtype, device=self._z.device, memory_format=torch.channels_last
        )

    def _summed(self, made_by: Any, count: int, *tensors: Tensor) -> Tensor:
        """The two sums (2, C) that ``made_by`` makes of so many pixels."""
        shares, per = shared(count, _POOLS, self._columns)
        parts, sums = self._z.new_empty(2, shares, self._channels), self._z.new_empty(2, self._channels)
        made_by[(shares, self._columns)](
            *tensors, parts, count, per, self._channels, BP=_POOLS, BC=self._wide
        )
        kernel.together[(triton.cdiv(self._channels, _FEW), 2)](
            parts, sums, shares, self._channels, BS=triton.next_power_of_2(shares), BC=_FEW
        )
        return sums

    def _at_pools(self, made_by: Any, *arguments: object) -> None:
        grid = (triton.cdiv(self._count, _POOLS), self._columns)
        made_by[grid](*arguments, *self._sides, self._channels, BP=_POOLS, BC=self._wide)

    def _at_pixels(self, made_by: Any, *arguments: object) -> None:
        grid = (triton.cdiv(self._pixels, _PIXELS), self._columns)
        made_by[grid](*arguments, self._pixels, *self._sides, self._channels, BP=_PIXELS, BC=self._wide)


def _last(t: Tensor) -> Tensor:
    return t.contiguous(memory_format=torch.channels_last)
