"""The first block, of images with few channels. Its convolution's z, the largest tensor, is never stored.

z = W·patch at every pixel. So what batch norm and its derivatives ask of all pixels follows from a task's
A = Σ patch·patchᵀ, 28×28 numbers for three channels, whatever the filters W: with s = Σ patch, a column of A,
since each patch has a one,

    Σz = W·s,   Σz² = Σ (W·A)∘W,   Σ z·patchᵀ = W·A,   and so for ż = Ẇ·patch

and the gradient Σ ∂L/∂z·patchᵀ is a sum over the pixels that pools took, plus multiples of W·A and of s. A is
in float64, because a variance is a difference.
"""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from pamela_cli.engine.channels_last import empty_last
from pamela_cli.engine.kernels import first_kernels as kernel
from pamela_cli.engine.kernels.beside import beside
from pamela_cli.engine.kernels.conv import power_of_2
from pamela_cli.engine.kernels.launch import launch
from pamela_cli.engine.kernels.norm_pool import Cotangents, TritonNormPool
from pamela_cli.engine.kernels.parameters import Parameters
from pamela_cli.engine.kernels.shares import AT_ONCE, shared
from pamela_cli.engine.once import once

FEW_CHANNELS = 7
"""Up to so many channels, a patch is at most 64 numbers."""

_PIXELS, _POOLS, _POOLS_SUMMED, _FILTERS, _NUMBERS = 16, 64, 32, 64, 32
"""What a program takes at a time: pixels; pools, and those whose pixels it sums; filters; and sums."""


def products_of_patches(images: Tensor, tasks: int) -> Tensor:
    """A of images (B, T·C, H, W), their channels last in memory: (T, wide, wide), float64.

    A patch has 9·C numbers, a one, and zeros up to a power of two.
    """
    batch, channels, height, width = images.shape
    into = channels // tasks
    wide = power_of_2(9 * into + 1)
    pixels = batch * height * width
    shares, per = shared(pixels, _PIXELS, tasks)
    parts = images.new_empty(shares, tasks, wide, wide, dtype=torch.float64)
    launch(
        kernel.products, (shares, tasks), images, parts, pixels, height, width, tasks, per,
        CI=into, BP=_PIXELS, BN=wide, num_warps=2, num_stages=1,
    )  # fmt: skip
    made = torch.empty_like(parts[0])
    grid = (triton.cdiv(made.numel(), _NUMBERS),)
    launch(kernel.products_together, grid, parts, made, shares, made.numel(), BS=128, BE=_NUMBERS)
    return made


class FirstBlock:
    """A ``BlockGradient`` whose images have few channels and do not move; float32 on CUDA."""

    def __init__(self, images: Tensor, weight: Tensor, scale: Tensor, shift: Tensor, eps: float) -> None:
        self._images, self._signed_by, self._eps = images, scale, eps
        self._tasks, self._filters, self._into = weight.shape[:3]
        batch, _, self._height, self._width = images.shape
        self._pixels = batch * self._height * self._width
        self._count = batch * (self._height // 2) * (self._width // 2)
        self._products = once.of(products_of_patches, images, self._tasks)
        self._wide = self._products.shape[1]
        self._at = Parameters.of(weight, scale, shift, scale, back=False, split=True)
        shape = (batch, self._tasks * self._filters, self._height // 2, self._width // 2)
        self._taken = empty_last(images, shape, torch.int8)
        (mean, r), self._with_patches = self._statistics(self._at, moving=False)
        self._with_patches_tangent = self._with_patches  # not read until there is another
        pooled = self._pooled(self._at, moving=False)
        self._norm = TritonNormPool(pooled, (mean, r), self._at.scale, self._at.shift, self._pixels)
        self.out = self._norm.out

    def gradient(self, v: Tensor, into: list[Tensor]) -> None:
        """From the cotangent of the output."""
        self._fill(self._norm.gradient(v), into)

    def tangent(self, images: Tensor | None, weight: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """How the output moves with the parameters."""
        assert images is None, "the images of a first block do not move"
        along = Parameters.of(weight, scale, shift, self._signed_by, back=False, split=True)
        moments, self._with_patches_tangent = self._statistics(along, moving=True)
        pooled = self._pooled(along, moving=True)
        return self._norm.tangent(pooled, moments, along.scale, along.shift)

    def gradient_tangent(self, v: Tensor, into: list[Tensor]) -> None:
        """How :meth:`gradient` moves with them, and with its cotangent along ``v``."""
        self._fill(self._norm.gradient_tangent(v), into)

    def wait(self) -> None:
        """Until what the derivatives fill is filled."""
        beside.join(self._images.device)

    def _statistics(self, at: Parameters, moving: bool) -> tuple[Tensor, Tensor]:
        """Mean and (variance + eps)^−½ of z, or moments of ż, (2, T·C_out); and Σ z·patch or Σ ż·patch."""
        found = self._images.new_empty(2, self._tasks * self._filters)
        with_patches = self._products.new_empty(self._tasks * self._filters, self._wide)
        launch(
            kernel.statistics, (triton.cdiv(self._filters, 16), self._tasks),
            at.ahead, self._at.ahead, with_patches, self._with_patches if moving else with_patches,
            self._products, *found, self._pixels, at.ahead[0].numel(), self._eps,
            CI=self._into, CO=self._filters, TANGENT=moving, BC=16, BN=self._wide,
        )  # fmt: skip
        return found, with_patches

    def _pooled(self, at: Parameters, moving: bool) -> Tensor:
        """What the pools take of z, (B, T·C_out, h, w); or ż where they took z."""
        pooled = empty_last(self._images, self._taken.shape)
        filters = min(_FILTERS, power_of_2(self._filters))
        grid = (triton.cdiv(self._count, _POOLS), self._tasks, triton.cdiv(self._filters, filters))
        launch(
            kernel.pooled_convolution, grid,
            self._images, at.ahead, pooled, self._taken, self._count, self._height, self._width, self._tasks,
            at.ahead[0].numel(), CI=self._into, CO=self._filters, TANGENT=moving,
            BP=_POOLS, BC=filters, BN=self._wide, num_warps=4, num_stages=1,
        )  # fmt: skip
        return pooled

    def _fill(self, found: Cotangents, into: list[Tensor]) -> None:
        """The gradients of the parameters into place, beside what follows."""
        patches = self._with_patches, self._with_patches_tangent, self._products

        def of_parameters() -> None:
            parts = self._weight_gradient(found, patches)
            Parameters.fill(parts, found.to_scale, found.to_shift, self._signed_by, into)

        read = self._images, self._norm.pooled, self._taken, self._signed_by
        beside.run(of_parameters, self._images.device, read, found, patches, into)

    def _weight_gradient(self, found: Cotangents, patches: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """In shares that are still to be summed, (shares, T·C_out, 9, C_in); the last is of all pixels."""
        filters = min(_FILTERS, power_of_2(self._filters))
        programs = triton.cdiv(self._filters, filters)
        shares, per = shared(self._count, _POOLS_SUMMED, programs * self._tasks, AT_ONCE)
        parts = self._images.new_empty(shares + 1, self._tasks * self._filters, 9, self._into)
        launch(
            kernel.weight_gradient, (shares, programs, self._tasks),
            self._images, found.v, found.v_tangent, self._norm.pooled, self._taken, *found.terms, parts,
            self._pixels, self._count, self._height, self._width, self._tasks, per,
            CI=self._into, CO=self._filters, TANGENT=found.moving, BP=_POOLS_SUMMED, BC=filters,
            BN=self._wide, num_warps=4, num_stages=1,
        )  # fmt: skip
        launch(
            kernel.weight_gradient_of_all, (triton.cdiv(self._filters, 16), self._tasks),
            *patches, *found.terms, parts[-1], self._pixels, self._tasks,
            CI=self._into, CO=self._filters, TANGENT=found.moving, BC=16, BN=self._wide,
        )  # fmt: skip
        return parts
