"""3×3 convolutions by compiled functions on the CPU: Winograd's algorithm, and one for few channels.

All of them take tensors with their channels last in memory. They work on as many threads as PyTorch's
operators do, to the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ctypes import CDLL, c_long
from functools import cache
from math import ceil
from typing import NamedTuple

import torch
from torch import Tensor

from pamela_cli.engine.c_functions import c_functions, call, threads_for
from pamela_cli.engine.channels_last import channels_last, empty_last
from pamela_cli.engine.sums import sum_in_place

Pairs = Sequence[tuple[Tensor, Tensor]]

_TILE = 4
"""Winograd's tiles have so many lines and columns, as in ``conv_winograd.h``."""

_MOST_WASTE = 2
"""The tiles of a convolution may have at most so many pixels for each of the image.

With more (images of 5×5, not of 3×3 or 6×6), PyTorch's is as fast, or faster; its gradient of the filters is
not.
"""


class _Shape(NamedTuple):
    """Of convolutions: images, their sides, tasks, and the channels of a task's input and output."""

    batch: int
    height: int
    width: int
    tasks: int
    c_in: int
    c_out: int

    @classmethod
    def of(cls, images: Tensor, tasks: int, c_in: int, c_out: int) -> _Shape:
        batch, _, height, width = images.shape
        return cls(batch, height, width, tasks, c_in, c_out)

    @property
    def of_a_task(self) -> tuple[int, ...]:
        return self.batch, self.height, self.width, self.c_in, self.c_out

    @property
    def threads(self) -> int:
        """How many are to share the work, by the larger of the input and the output."""
        pixels = self.batch * self.height * self.width
        return threads_for(pixels * self.tasks * max(self.c_in, self.c_out))

    @property
    def winograd_pays(self) -> bool:
        pixels = _TILE**2 * ceil(self.height / _TILE) * ceil(self.width / _TILE)
        return pixels <= _MOST_WASTE * self.height * self.width


class CompiledConv:
    """Sums of one or two convolutions, and of their two gradients, for tensors of one type on the CPU.

    A method that returns None leaves it to PyTorch: the functions do not suit the shapes, or are slower.
    """

    def __init__(self, few: CDLL, winograd: CDLL) -> None:
        self._few, self._winograd = few, winograd

    def convolution(self, pairs: Pairs, tasks: int) -> Tensor | None:
        """Σ of the convolutions of images with filters."""
        x, weight = pairs[0]
        shape = _Shape.of(x, tasks, weight.shape[1], len(weight) // tasks)
        found = self._by_few_channels(self._few.few, pairs, shape, (len(x), len(weight), *x.shape[2:]))
        return self._by_winograd(pairs, shape, back=False) if found is None else found

    def to_images(self, pairs: Pairs, tasks: int) -> Tensor | None:
        """Σ of the cotangents of the images, for pairs of one of the output, and filters."""
        v, weight = pairs[0]
        shape = _Shape.of(v, tasks, weight.shape[1], len(weight) // tasks)
        return self._by_winograd(pairs, shape, back=True)

    def to_filters(self, pairs: Pairs, tasks: int) -> Tensor | None:
        """Σ of the cotangents of the filters, for pairs of images, and a cotangent of the output."""
        x, v = pairs[0]
        shape = _Shape.of(x, tasks, x.shape[1] // tasks, v.shape[1] // tasks)
        filters = v.shape[1], shape.c_in, 3, 3
        found = self._by_few_channels(self._few.few_filters, pairs, shape, filters)
        if found is not None or not (space := self._winograd_space(pairs, shape)):
            return found
        out = empty_last(v, filters)
        given = *_both([x for x, _ in pairs]), *_both([v for _, v in pairs])
        work = v.new_empty(space)
        call(self._winograd.winograd_filters, len(pairs), *given, *shape, shape.threads, out, work)
        return out

    def _by_winograd(self, pairs: Pairs, shape: _Shape, back: bool) -> Tensor | None:
        space = self._winograd_space(pairs, shape)
        if not space or not shape.winograd_pays:
            return None
        x = pairs[0][0]
        out = empty_last(x, (len(x), shape.tasks * (shape.c_in if back else shape.c_out), *x.shape[2:]))
        given = *_both([x for x, _ in pairs]), *_both([weight for _, weight in pairs])
        work = x.new_empty(space)
        call(self._winograd.winograd, len(pairs), *given, *shape, int(back), shape.threads, out, work)
        return out

    def _winograd_space(self, pairs: Pairs, shape: _Shape) -> int:
        """How many numbers of work space its functions need; 0 if they are not to be used."""
        if len(pairs) > 2:
            return 0
        return int(call(self._winograd.winograd_space, len(pairs), *shape.of_a_task, shape.threads))

    def _by_few_channels(
        self, function: Callable[..., object], pairs: Pairs, shape: _Shape, out: tuple[int, ...]
    ) -> Tensor | None:
        space = call(self._few.few_space, *shape.of_a_task, shape.threads)
        if not space:
            return None
        made = []
        for pair in pairs:
            made.append(empty_last(pair[0], out))
            work = made[-1].new_empty(space)
            call(function, *map(channels_last, pair), *shape, shape.threads, made[-1], work)
        return sum_in_place(made)


@cache
def compiled_conv(dtype: torch.dtype) -> CompiledConv | None:
    """The convolutions for tensors of ``dtype``; None if they cannot be had."""
    few, winograd = c_functions("conv_few", dtype), c_functions("conv_winograd", dtype)
    if few is None or winograd is None:
        return None
    for function in (few.few_space, winograd.winograd_space):
        function.restype = c_long
    return CompiledConv(few, winograd)


def _both(tensors: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Of one or two terms; where there is no second, its place is not looked at."""
    first, *second = map(channels_last, tensors)
    return first, second[0] if second else first
