"""One block of Conv4, [convolution → batch norm → ReLU → pool], with its derivatives, as Triton kernels.

With small images, a GPU spends its time between kernels: so whatever is done to weights, signs and sums
besides the large tensors is done in as few kernels as possible.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from pamela_cli.engine.kernels.beside import beside
from pamela_cli.engine.kernels.conv import FEW_CHANNELS, convolution, precision, upper, weight_gradients
from pamela_cli.engine.kernels.norm_pool import TritonNormPool
from pamela_cli.engine.layout import sum_in_order
from pamela_cli.engine.ops import conv3x3, conv3x3_backward

_NUMBERS = 1024
"""Numbers of a weight that a program takes."""


@triton.jit
def _pack(
    weight, scale, shift, signs, ahead, back, scales, shifts, of_weight, of_scale, of_shift, of_signs,
    CO: tl.constexpr, CI: tl.constexpr, BACK: tl.constexpr, SPLIT: tl.constexpr,
    BE: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """Weights by tap, with the scales' ``signs``: ahead[i, t, n, tap, k], back[i, t, k, 8 − tap, n].

    With SPLIT, i = 0 is what TF32 takes of each weight, and i = 1 the rest; without, 0 is all of it, and 1 is
    not written. ``of_…`` are strides from task to task.
    """
    t = tl.program_id(1)
    e = tl.program_id(0) * BE + tl.arange(0, BE)
    ok = e < CO * CI * 9
    n = e // (9 * CI)
    k = e // 9 % CI
    tap = e % 9
    sign = tl.where(tl.load(signs + t * of_signs + n, mask=ok, other=0.0) < 0, -1.0, 1.0)
    value = tl.load(weight + t * of_weight + e, mask=ok, other=0.0) * sign
    high = upper(value) if SPLIT else value
    size = tl.num_programs(1) * CO * CI * 9
    to = ahead + ((t * CO + n) * 9 + tap) * CI + k
    tl.store(to, high, mask=ok)
    if SPLIT:
        tl.store(to + size, value - high, mask=ok)
    if BACK:
        to_back = back + ((t * CI + k) * 9 + 8 - tap) * CO + n
        tl.store(to_back, high, mask=ok)
        if SPLIT:
            tl.store(to_back + size, value - high, mask=ok)
    if tl.program_id(0) == 0:
        c = tl.arange(0, BC)
        known = c < CO
        each = tl.where(tl.load(signs + t * of_signs + c, mask=known, other=0.0) < 0, -1.0, 1.0)
        tl.store(scales + t * CO + c, tl.load(scale + t * of_scale + c, mask=known) * each, mask=known)
        tl.store(shifts + t * CO + c, tl.load(shift + t * of_shift + c, mask=known), mask=known)


@triton.jit(do_not_specialize=["shares"])
def _fill(
    parts, to_scale, to_shift, signs, weight, bias, scale, shift, shares,
    of_signs, of_weight, of_bias, of_scale, of_shift,
    CO: tl.constexpr, CI: tl.constexpr, BS: tl.constexpr, BE: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """The gradients of a block's parameters, from parts[s, t, n, tap, k] and sums, to where they belong.

    ``of_…`` are strides from task to task.
    """
    t = tl.program_id(1)
    e = tl.program_id(0) * BE + tl.arange(0, BE)
    ok = e < CO * CI * 9
    size = tl.num_programs(1) * CO * CI * 9
    total = tl.zeros((BE,), tl.float32)
    for first in range(0, shares, BS):
        s = first + tl.arange(0, BS)
        known = (s < shares)[:, None] & ok[None, :]
        total += tl.sum(
            tl.load(parts + s[:, None] * size + (t * CO * CI * 9 + e)[None, :], mask=known, other=0.0), 0
        )
    n = e // (9 * CI)
    tap = e // CI % 9
    k = e % CI
    sign = tl.where(tl.load(signs + t * of_signs + n, mask=ok, other=0.0) < 0, -1.0, 1.0)
    tl.store(weight + t * of_weight + (n * CI + k) * 9 + tap, total * sign, mask=ok)
    if tl.program_id(0) == 0:
        c = tl.arange(0, BC)
        channel = c < CO
        each = tl.where(tl.load(signs + t * of_signs + c, mask=channel, other=0.0) < 0, -1.0, 1.0)
        tl.store(bias + t * of_bias + c, tl.zeros((BC,), tl.float32), mask=channel)  # batch norm cancels it
        tl.store(scale + t * of_scale + c, tl.load(to_scale + t * CO + c, mask=channel) * each, mask=channel)
        tl.store(shift + t * of_shift + c, tl.load(to_shift + t * CO + c, mask=channel), mask=channel)


@dataclass(frozen=True)
class _Parameters:
    """A block's parameters, or how they move, as the kernels take them, with scales that are not negative.

    ``ahead`` (2, T·C_out, 9, C_in): the weights, and what TF32 leaves of each, which is not filled where TF32
    is all that is asked for; ``back`` (2, T·C_in, 9, C_out) alike, the taps turned round, or None where
    nothing goes back to images by kernels; ``scale`` and ``shift`` (T·C_out,).
    """

    ahead: Tensor
    back: Tensor | None
    scale: Tensor
    shift: Tensor

    @classmethod
    def of(cls, weight: Tensor, scale: Tensor, shift: Tensor, signs: Tensor, back: bool) -> _Parameters:
        """Of ``weight`` (T, C_out, C_in, 3, 3), ``scale`` and ``shift`` (T, C_out), as θ holds them."""
        tasks, out_of, into = weight.shape[:3]
        found = cls(
            weight.new_empty(2, tasks * out_of, 9, into),
            weight.new_empty(2, tasks * into, 9, out_of) if back else None,
            *weight.new_empty(2, tasks * out_of),
        )
        _pack[(triton.cdiv(out_of * into * 9, _NUMBERS), tasks)](
            weight, scale, shift, signs, found.ahead,
            found.ahead if found.back is None else found.back,  # not written to without BACK
            found.scale, found.shift,
            *(t.stride(0) for t in (weight, scale, shift, signs)),
            CO=out_of, CI=into, BACK=back, SPLIT=precision() != "tf32",
            BE=_NUMBERS, BC=triton.next_power_of_2(out_of),
        )  # fmt: skip
        return found

    @property
    def as_filters(self) -> Tensor:
        """The weights as cuDNN knows them, (T·C_out, C_in, 3, 3) with the channels last in memory."""
        return self.ahead[0].unflatten(1, (3, 3)).permute(0, 3, 1, 2)


class TritonBlock:
    """One block at its input and its derivatives there, as ``conv4_gradient.Block`` has them.

    float32 on CUDA. Convolutions of many channels with TF32 are left to cuDNN, which is faster at them.
    """

    def __init__(
        self, images: Tensor, weight: Tensor, scale: Tensor, shift: Tensor, eps: float, first: bool
    ) -> None:
        self._first, self._images, self._signs = first, images, scale
        self._tasks = len(weight)
        self._by_cudnn = precision() == "tf32" and weight.shape[2] > 2 * FEW_CHANNELS
        self._at = self._packed(weight, scale, shift)
        z = self._convolved([(images, self._at)])
        self._norm = TritonNormPool(z, self._at.scale, self._at.shift, eps)
        self.out = self._norm.out

    def gradient(self, v: Tensor, into: list[Tensor]) -> Tensor | None:
        """From the cotangent of the output."""
        self._to_z, to_scale, to_shift = self._norm.gradient(v)
        return self._gradients([(self._to_z, self._images, self._at)], to_scale, to_shift, into)

    def tangent(self, images: Tensor | None, weight: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """How the output moves with the images (None: they do not) and the parameters."""
        self._images_tangent, self._along = images, self._packed(weight, scale, shift)
        pairs = [(self._images, self._along)]
        if images is not None:
            pairs.append((images, self._at))
        return self._norm.tangent(self._convolved(pairs), self._along.scale, self._along.shift)

    def gradient_tangent(self, v: Tensor, into: list[Tensor]) -> Tensor | None:
        """How :meth:`gradient` moves with them, and with its cotangent along ``v``."""
        to_z, to_scale, to_shift = self._norm.gradient_tangent(v)
        triples = [(to_z, self._images, self._at)]
        if self._images_tangent is not None:
            triples.append((self._to_z, self._images_tangent, self._along))
        return self._gradients(triples, to_scale, to_shift, into)

    def wait(self) -> None:
        """Until what the derivatives fill is filled."""
        beside.join(self._images.device)

    def _packed(self, weight: Tensor, scale: Tensor, shift: Tensor) -> _Parameters:
        return _Parameters.of(weight, scale, shift, self._signs, back=not (self._first or self._by_cudnn))

    def _convolved(self, pairs: list[tuple[Tensor, _Parameters]]) -> Tensor:
        if not self._by_cudnn:
            return convolution([(x, at.ahead) for x, at in pairs], self._tasks)
        return conv3x3([(x, at.as_filters) for x, at in pairs], self._tasks)

    def _gradients(
        self,
        triples: list[tuple[Tensor, Tensor, _Parameters]],
        to_scale: Tensor,
        to_shift: Tensor,
        into: list[Tensor],
    ) -> Tensor | None:
        """Those of the parameters into place, beside what follows; returns that of the images."""

        def of_parameters() -> None:
            self._fill(self._weight_gradients(triples), to_scale, to_shift, into)

        beside.run(of_parameters, self._images.device, triples, to_scale, to_shift, into, self._signs)
        return None if self._first else self._images_gradient(triples)

    def _weight_gradients(self, triples: list[tuple[Tensor, Tensor, _Parameters]]) -> Tensor:
        """In shares that are still to be summed: (shares, T·C_out, 9, C_in)."""
        if not self._by_cudnn:
            return weight_gradients([(v, x) for v, x, _ in triples], self._tasks)
        each = self._by_cudnn_backward(triples, (False, True))
        return torch.stack([t.permute(0, 2, 3, 1).flatten(1, 2) for t in each])

    def _images_gradient(self, triples: list[tuple[Tensor, Tensor, _Parameters]]) -> Tensor:
        if not self._by_cudnn:
            return convolution([(v, at.back) for v, _, at in triples if at.back is not None], self._tasks)
        return sum_in_order(self._by_cudnn_backward(triples, (True, False)))

    def _by_cudnn_backward(
        self, triples: list[tuple[Tensor, Tensor, _Parameters]], wanted: tuple[bool, bool]
    ) -> list[Tensor]:
        """Of each triple the one that is ``wanted``: the gradient of the images, or of the weights."""
        each = (conv3x3_backward(v, x, at.as_filters, self._tasks, wanted) for v, x, at in triples)
        return [t for pair in each for t in pair if t is not None]

    def _fill(self, parts: Tensor, to_scale: Tensor, to_shift: Tensor, into: list[Tensor]) -> None:
        weight, bias, scale, shift = into
        tasks, out_of, inner = weight.shape[:3]
        _fill[(triton.cdiv(out_of * inner * 9, _NUMBERS // 4), tasks)](
            parts, to_scale, to_shift, self._signs, weight, bias, scale, shift, len(parts),
            *(t.stride(0) for t in (self._signs, *into)),
            CO=out_of, CI=inner, BS=8, BE=_NUMBERS // 4, BC=triton.next_power_of_2(out_of),
        )  # fmt: skip
