"""3×3 convolutions by compiled functions on the CPU: Winograd's algorithm, and one for few channels.

All of them take tensors with their channels last in memory. They work on as many threads as PyTorch's
operators do, to the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ctypes import CDLL, c_long
from functools import cache

import torch
from torch import Tensor

from pamela_cli.engine.c_functions import c_functions, call, channels_last, threads_for

Pairs = Sequence[tuple[Tensor, Tensor]]

_MOST_WASTE = 1.4
"""Winograd's tiles may have at most so many pixels for each of the image.

With more (images of 3×3, not of 7×7), PyTorch's convolution is faster.
"""


class CompiledConv:
    """Sums of convolutions, and of their two gradients, for tensors of one type on the CPU; a ``Conv3x3``.

    None: PyTorch is to compute this one, since the functions do not suit its shapes, or are slower.
    """

    def __init__(self, few: CDLL, winograd: CDLL) -> None:
        self._few, self._winograd = few, winograd

    def convolution(self, pairs: Pairs, groups: int) -> Tensor | None:
        """Σ of the convolutions of images with filters."""
        shape = _shape(*pairs[0], groups)
        if space := _space(self._few.few_space, *shape[:3], *shape[4:]):
            return _sum([self._few_channels(x, weight, shape, space) for x, weight in pairs])
        return self._by_winograd(pairs, shape, back=False)

    def to_images(self, pairs: Pairs, groups: int) -> Tensor | None:
        """Σ of the cotangents of the images, for pairs of one of the output, and filters."""
        v, weight = pairs[0]
        batch, _, height, width = v.shape
        shape = batch, height, width, groups, weight.shape[1], len(weight) // groups
        return self._by_winograd(pairs, shape, back=True)

    def to_filters(self, pairs: Pairs, groups: int) -> Tensor | None:
        """Σ of the cotangents of the filters, for pairs of images, and a cotangent of the output."""
        x, v = pairs[0]
        batch, channels, height, width = x.shape
        shape = batch, height, width, groups, channels // groups, v.shape[1] // groups
        if space := _space(self._few.few_space, *shape[:3], *shape[4:]):
            return _sum([self._few_filters(x, v, shape, space) for x, v in pairs])
        threads = threads_for(v)
        space = _space(self._winograd.winograd_space, len(pairs), *shape[4:], threads)
        if not space:
            return None
        images, cotangents = _both([x for x, _ in pairs]), _both([v for _, v in pairs])
        filters = _empty(v, (v.shape[1], shape[4], 3, 3))
        call(
            self._winograd.winograd_filters, len(pairs), *images, *cotangents, *shape, threads, filters,
            v.new_empty(space),
        )  # fmt: skip
        return filters

    def _by_winograd(self, pairs: Pairs, shape: tuple[int, ...], back: bool) -> Tensor | None:
        batch, height, width, groups, into, out_of = shape
        threads = threads_for(pairs[0][0])
        space = _space(self._winograd.winograd_space, len(pairs), into, out_of, threads)
        tiles = ((height + 1) // 2) * ((width + 1) // 2)
        if not space or 4 * tiles > _MOST_WASTE * height * width:
            return None
        images, filters = _both([x for x, _ in pairs]), _both([weight for _, weight in pairs])
        out = _empty(images[0], (batch, groups * (into if back else out_of), height, width))
        call(
            self._winograd.winograd, len(pairs), *images, *filters, *shape, int(back), threads, out,
            out.new_empty(space),
        )  # fmt: skip
        return out

    def _few_channels(self, x: Tensor, weight: Tensor, shape: tuple[int, ...], space: int) -> Tensor:
        batch, height, width, groups, _, out_of = shape
        out = _empty(x, (batch, groups * out_of, height, width))
        call(
            self._few.few, channels_last(x), channels_last(weight), *shape, threads_for(out), out,
            out.new_empty(space),
        )  # fmt: skip
        return out

    def _few_filters(self, x: Tensor, v: Tensor, shape: tuple[int, ...], space: int) -> Tensor:
        filters = _empty(x, (v.shape[1], shape[4], 3, 3))
        call(
            self._few.few_filters, channels_last(x), channels_last(v), *shape, threads_for(v), filters,
            v.new_empty(space),
        )  # fmt: skip
        return filters


@cache
def compiled_conv(dtype: torch.dtype) -> CompiledConv | None:
    """The convolutions for tensors of ``dtype``; None if they cannot be had."""
    few, winograd = c_functions("conv_few", dtype), c_functions("conv_winograd", dtype)
    if few is None or winograd is None:
        return None
    for function in (few.few_space, winograd.winograd_space):
        function.restype = c_long
    return CompiledConv(few, winograd)


def _space(function: Callable[..., int], *sizes: int) -> int:
    """How many numbers of work space a function needs; 0 if these sizes do not suit it."""
    return function(*map(c_long, sizes))


def _shape(x: Tensor, weight: Tensor, groups: int) -> tuple[int, ...]:
    """Images, height, width, groups, and the channels of a group: those of the input and of the output."""
    return len(x), x.shape[2], x.shape[3], groups, weight.shape[1], len(weight) // groups


def _both(tensors: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Of one or two terms; where there is no second, its place is not looked at."""
    first, *second = map(channels_last, tensors)
    return first, second[0] if second else first


def _empty(like: Tensor, shape: tuple[int, ...]) -> Tensor:
    return torch.empty(shape, dtype=like.dtype, memory_format=torch.channels_last)


def _sum(tensors: list[Tensor]) -> Tensor:
    total, *others = tensors
    for other in others:
        total += other
    return total
