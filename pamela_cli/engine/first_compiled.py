"""The first block of a network by compiled functions on the CPU, which never store its convolution's z."""

from __future__ import annotations

from ctypes import CDLL, c_long
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from pamela_cli.engine.c_functions import c_functions, call, threads_for
from pamela_cli.engine.channels_last import channels_last, empty_last
from pamela_cli.engine.once import once
from pamela_cli.engine.signs import negative_scales, signed


@cache
def first_block_library(dtype: torch.dtype) -> CDLL | None:
    """All functions of ``first_block.c`` for tensors of ``dtype``; None if they cannot be had."""
    functions = c_functions("first_block", dtype)
    if functions is not None:
        functions.first_space.restype = c_long
    return functions


def _shape(images: Tensor, filters: int) -> tuple[int, ...]:
    """(B, H, W, C, C_out), and how many threads share the work."""
    batch, channels, height, width = images.shape
    threads = threads_for(batch * height * width * filters)
    return batch, height, width, channels, filters, threads


def with_border(images: Tensor) -> Tensor:
    """Images (B, C, H, W) with a border of zeros, (B, H + 2, W + 2, C)."""
    return F.pad(channels_last(images).permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1)).contiguous()


def products_of_patches(images: Tensor, filters: int) -> Tensor:
    """A of ``first_block.c``, (taps, taps + 1) in float64; work is shared as for so many ``filters``."""
    functions = first_block_library(images.dtype)
    assert functions is not None, "whoever asks has them"
    shape = _shape(images, filters)
    batch, height, width, channels, _, threads = shape
    sizes = 9 * channels, 9 * channels + 1
    made, parts = (images.new_empty(*lead, *sizes, dtype=torch.float64) for lead in ((), (batch,)))
    call(
        functions.patch_products, once.of(with_border, images), batch, height, width, channels, threads,
        made, parts, images.new_empty(call(functions.first_space, *shape)),
    )  # fmt: skip
    return made


class CompiledFirstBlock:
    """A ``BlockGradient`` of one task, whose images have one or three channels and do not move."""

    @classmethod
    def where_it_suits(
        cls, images: Tensor, weight: Tensor, scale: Tensor, shift: Tensor, eps: float
    ) -> CompiledFirstBlock | None:
        """The block, of ``images`` (B, T·C, H, W) on the CPU; None where it is not for such shapes."""
        functions = first_block_library(images.dtype) if len(weight) == 1 else None
        space = call(functions.first_space, *_shape(images, weight.shape[1])) if functions else 0
        return cls(functions, space, images, weight, scale, shift, eps) if functions and space else None

    def __init__(
        self,
        functions: CDLL,
        space: int,
        images: Tensor,
        weight: Tensor,
        scale: Tensor,
        shift: Tensor,
        eps: float,
    ) -> None:
        self._functions, self._space, self._images = functions, space, images
        self._shape = _shape(images, weight.shape[1])
        batch, height, width, _, filters, _ = self._shape
        self._bordered = once.of(with_border, images)
        self._sign = negative_scales(scale)
        self._filters, self._scale = self._by_tap(weight), signed(scale, self._sign).flatten().contiguous()
        self._mean, self._r = images.new_empty(2, filters)
        pooled = batch, filters, height // 2, width // 2
        self._pooled, self.out = empty_last(images, pooled), empty_last(images, pooled)
        self._taken = empty_last(images, pooled, torch.int8)
        call(
            functions.first, self._bordered, self._filters, self._scale, shift.flatten().contiguous(), eps,
            *self._shape, self._mean, self._r, self._pooled, self._taken, self.out, *self._work(),
        )  # fmt: skip

    def gradient(self, v: Tensor, into: list[Tensor]) -> None:
        """From the cotangent of the output."""
        self._v = channels_last(v)
        self._products = once.of(products_of_patches, self._images, len(self._scale))
        filters = len(self._scale)
        to, (self._to_scale, self._to_shift) = torch.empty_like(self._filters), v.new_empty(2, filters)
        self._with_patches = self._products.new_empty(filters, self._products.shape[1])
        call(
            self._functions.first_gradient, self._bordered, self._v, *self._pools(), self._mean, self._r,
            self._scale, self._filters, self._products, *self._shape, to, self._to_scale, self._to_shift,
            self._with_patches, v.new_empty(3, filters), v.new_zeros(filters), *self._work(),
        )  # fmt: skip
        self._fill(into, to, self._to_scale, self._to_shift)

    def tangent(self, images: Tensor | None, weight: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """How the output moves with the parameters."""
        assert images is None, "the images of a first block do not move"
        along = self._by_tap(weight)
        self._scale_tangent = signed(scale, self._sign).flatten().contiguous()
        self._moments, self._moved = (
            self._mean.new_empty(2, len(along[0])),
            torch.empty_like(self._with_patches),
        )
        self._x_tangent, out = torch.empty_like(self._pooled), torch.empty_like(self._pooled)
        call(
            self._functions.first_tangent, self._bordered, along, self._filters, self._products,
            *self._pools(), self._mean, self._r, self._scale, self._scale_tangent,
            shift.flatten().contiguous(), *self._shape, self._moments, self._moved, self._x_tangent, out,
            self._work()[-1],
        )  # fmt: skip
        return out

    def gradient_tangent(self, v: Tensor, into: list[Tensor]) -> None:
        """How :meth:`gradient` moves with them, and with its cotangent along ``v``."""
        filters = len(self._scale)
        to, (to_scale, to_shift) = torch.empty_like(self._filters), v.new_empty(2, filters)
        call(
            self._functions.first_gradient_tangent, self._bordered, channels_last(v), self._v,
            *self._pools(), self._x_tangent, self._mean, self._r, self._scale, self._scale_tangent,
            self._to_scale, self._to_shift, self._moments, self._products, self._with_patches, self._moved,
            *self._shape, to, to_scale, to_shift, v.new_empty(5, filters), *self._work(),
        )  # fmt: skip
        self._fill(into, to, to_scale, to_shift)

    def wait(self) -> None:
        """Nothing: all is done when it is returned."""

    def _by_tap(self, weight: Tensor) -> Tensor:
        """Filters (1, C_out, C, 3, 3), with the scales' signs, as (taps, C_out)."""
        return signed(weight, self._sign)[0].permute(2, 3, 1, 0).flatten(0, 2).contiguous()

    def _fill(self, into: list[Tensor], to_filters: Tensor, to_scale: Tensor, to_shift: Tensor) -> None:
        weight, bias, scale, shift = into
        to_weight = to_filters.unflatten(0, (3, 3, -1)).permute(3, 2, 0, 1)[None]
        weight.copy_(signed(to_weight, self._sign))
        bias.zero_()  # batch norm cancels it
        scale.copy_(signed(to_scale[None], self._sign))
        shift.copy_(to_shift[None])

    def _pools(self) -> tuple[Tensor, Tensor, Tensor]:
        return self._pooled, self._taken, self.out

    def _work(self) -> tuple[Tensor, Tensor, Tensor]:
        """Where sums of lines, and their totals, are made; and the functions' work space."""
        batch, height, _, _, filters, _ = self._shape
        lines = batch * ((height + 1) // 2)
        total = self._mean.new_empty(2, filters, dtype=torch.float64)
        return self._mean.new_empty(lines, 2, filters), total, self._mean.new_empty(self._space)
