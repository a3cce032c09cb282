"""The layer of ``norm_pool.py`` by compiled functions on the CPU."""

from __future__ import annotations

from ctypes import CDLL

import torch
from torch import Tensor

from pamela_cli.engine.c_functions import call, threads_for
from pamela_cli.engine.channels_last import channels_last


class CompiledNormPool:
    """The layer by the functions of ``norm_pool.c``, which has what they take; a ``NormPool``.

    Tensors are on the CPU, with their channels last in memory. It works on as many threads as PyTorch's
    operators do, to the same bits.
    """

    def __init__(self, functions: CDLL, z: Tensor, scale: Tensor, shift: Tensor, eps: float) -> None:
        self._functions, self._z, self._scale = functions, channels_last(z), scale.contiguous()
        batch, channels, height, width = z.shape
        self._shape = batch, height, width, channels, threads_for(z.numel())
        self._lines = batch * ((height + 1) // 2)
        self._mean, self._r = z.new_empty(2, channels)
        pooled = (batch, channels, height // 2, width // 2)
        self._pooled, self.out = (
            torch.empty(pooled, dtype=z.dtype, device=z.device, memory_format=torch.channels_last)
            for _ in range(2)
        )
        call(
            functions.norm_pool, self._z, self._scale, shift.contiguous(), eps, *self._shape,
            self._mean, self._r, self._pooled, self.out, *self._sums(),
        )  # fmt: skip

    def gradient(self, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """From the cotangent of ``out``: those of z, scale and shift."""
        self._v = channels_last(v)
        self._to_scale, self._to_shift = to = v.new_empty(2, len(self._scale))
        to_z = torch.empty_like(self._z)
        call(
            self._functions.norm_pool_gradient, self._v, self._z, self._pooled, self.out, self._mean, self._r,
            self._scale, *self._shape, to_z, *to, self._work(3), *self._sums(),
        )  # fmt: skip
        return to_z, self._to_scale, self._to_shift

    def tangent(self, z: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """How ``out`` moves as its inputs move along ``z``, ``scale`` and ``shift``."""
        self._z_tangent, self._scale_tangent = channels_last(z), scale.contiguous()
        self._moments, self._x_tangent = self._work(2), torch.empty_like(self._pooled)
        out = torch.empty_like(self._pooled)
        call(
            self._functions.norm_pool_tangent, self._z_tangent, self._z, self._pooled, self.out, self._mean,
            self._r, self._scale, self._scale_tangent, shift.contiguous(), *self._shape, self._moments,
            self._x_tangent, out, *self._sums(),
        )  # fmt: skip
        return out

    def gradient_tangent(self, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """How :meth:`gradient` moves with them, and with its cotangent along ``v``."""
        to_scale, to_shift = v.new_empty(2, len(self._scale))
        to_z = torch.empty_like(self._z)
        call(
            self._functions.norm_pool_gradient_tangent, channels_last(v), self._v, self._z_tangent, self._z,
            self._pooled, self.out, self._x_tangent, self._mean, self._r, self._scale, self._scale_tangent,
            self._to_scale, self._to_shift, self._moments, *self._shape, to_z, to_scale, to_shift,
            self._work(5), *self._sums(),
        )  # fmt: skip
        return to_z, to_scale, to_shift

    def _work(self, rows: int) -> Tensor:
        return self._z.new_empty(rows, len(self._scale))

    def _sums(self) -> tuple[Tensor, Tensor]:
        """Where sums are made: of every two rows of an image, and over all."""
        return self._work(2 * self._lines), self._scale.new_empty(2, len(self._scale), dtype=torch.float64)
