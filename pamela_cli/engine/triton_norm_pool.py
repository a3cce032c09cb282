"""The layer of ``norm_pool.py`` as Triton kernels, for float32 on CUDA.

Tensors lie with their channels last: a program takes some pixels and up to 64 channels. Sums over pixels are
made in two stages, in an order that follows from the shapes, so that they have the same bits each time.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

_POOLS, _PIXELS, _CHANNELS, _FEW = 32, 16, 64, 16
"""What a program takes at a time: pools, pixels and channels; and channels where it only adds up."""

_VARY = ["pixels", "count", "per", "shares", "H", "W", "h", "w"]
"""No kernel of their own for some values of these."""


@triton.jit(do_not_specialize=_VARY)
def _stats(z, means, squares, pixels, per, C, BP: tl.constexpr, BC: tl.constexpr):
    """Mean, and sum of squared distances from it, of the pixels of each share; (shares, C)."""
    s = tl.program_id(0)
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    mean = tl.zeros((BC,), tl.float32)
    m2 = tl.zeros((BC,), tl.float32)
    for start in range(s * per, tl.minimum(s * per + per, pixels), BP):
        m = start + tl.arange(0, BP)
        ok = (m < pixels)[:, None] & (c < C)[None, :]
        values = tl.load(z + m[:, None] * C + c[None, :], mask=ok, other=0.0)
        more = tl.minimum(pixels - start, BP).to(tl.float32)
        of_block = tl.sum(values, 0) / more
        away = tl.where(ok, values - of_block[None, :], 0.0)
        before = (start - s * per).to(tl.float32)
        delta = of_block - mean
        both = before + more
        m2 += tl.sum(away * away, 0) + delta * delta * (before * more / both)
        mean += delta * (more / both)
    tl.store(means + s * C + c, mean, mask=c < C)
    tl.store(squares + s * C + c, m2, mask=c < C)


@triton.jit(do_not_specialize=_VARY)
def _stats_together(
    means, squares, mean, r, pixels, per, shares, C, eps, BS: tl.constexpr, BC: tl.constexpr
):
    """Mean and (variance + eps)^−½ from those of the shares."""
    s = tl.arange(0, BS)
    c = tl.program_id(0) * BC + tl.arange(0, BC)
    ok = (s < shares)[:, None] & (c < C)[None, :]
    at = s[:, None] * C + c[None, :]
    each = tl.load(means + at, mask=ok, other=0.0)
    counts = tl.maximum(tl.minimum(pixels - s * per, per), 0).to(tl.float32)[:, None]
    of_all = tl.sum(each * counts, 0) / pixels
    away = tl.where(ok, each - of_all[None, :], 0.0)
    m2 = tl.sum(tl.load(squares + at, mask=ok, other=0.0) + away * away * counts, 0)
    tl.store(mean + c, of_all, mask=c < C)
    tl.store(r + c, 1.0 / tl.sqrt(m2 / pixels + eps), mask=c < C)


@triton.jit(do_not_specialize=_VARY)
def _together(parts, sums, shares, C, BS: tl.constexpr, BC: tl.constexpr):
    """Two sums of each channel from those of the shares: (2, shares, C) → (2, C)."""
    s = tl.arange(0, BS)
    row = tl.program_id(1)
    c = tl.program_id(0) * BC + tl.arange(0, BC)
    ok = (s < shares)[:, None] & (c < C)[None, :]
    each = tl.load(parts + (row * shares + s)[:, None] * C + c[None, :], mask=ok, other=0.0)
    tl.store(sums + row * C + c, tl.sum(each, 0), mask=c < C)


@triton.jit(do_not_specialize=_VARY)
def _pool(
    z, mean, r, scale, shift, pooled, taken, out, count, H, W, h, w, C, BP: tl.constexpr, BC: tl.constexpr
):
    """The pools' largest pixels, which of the four they are, and what comes out."""
    m = tl.program_id(0) * BP + tl.arange(0, BP)
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    known = c < C
    ok = (m < count)[:, None] & known[None, :]
    first = (m // (w * h) * H + 2 * (m // w % h)) * W + 2 * (m % w)
    at = first[:, None] * C + c[None, :]
    best = tl.load(z + at, mask=ok, other=0.0)
    which = tl.zeros((BP, BC), tl.int32)
    for i in tl.static_range(1, 4):
        value = tl.load(z + at + (i // 2 * W + i % 2) * C, mask=ok, other=0.0)
        larger = (value > best) | (value != value)  # as PyTorch: the first of equals, and NaN before all
        best = tl.where(larger, value, best)
        which = tl.where(larger, i, which)
    x = (best - tl.load(mean + c, mask=known)[None, :]) * tl.load(r + c, mask=known)[None, :]
    y = x * tl.load(scale + c, mask=known)[None, :] + tl.load(shift + c, mask=known)[None, :]
    y = tl.where(y < 0, 0.0, y)  # NaN stays
    place = m[:, None] * C + c[None, :]
    tl.store(pooled + place, best, mask=ok)
    tl.store(taken + place, which.to(tl.int8), mask=ok)
    tl.store(out + place, y, mask=ok)


@triton.jit(do_not_specialize=_VARY)
def _gradient_sums(v, out, pooled, mean, r, parts, count, per, C, BP: tl.constexpr, BC: tl.constexpr):
    """Σd and Σd·x of the shares."""
    s = tl.program_id(0)
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    known = c < C
    mu = tl.load(mean + c, mask=known)[None, :]
    rate = tl.load(r + c, mask=known)[None, :]
    d0 = tl.zeros((BC,), tl.float32)
    d1 = tl.zeros((BC,), tl.float32)
    for start in range(s * per, tl.minimum(s * per + per, count), BP):
        m = start + tl.arange(0, BP)
        ok = (m < count)[:, None] & known[None, :]
        at = m[:, None] * C + c[None, :]
        open_ = tl.load(out + at, mask=ok, other=0.0) > 0
        d = tl.where(open_, tl.load(v + at, mask=ok, other=0.0), 0.0)
        x = (tl.load(pooled + at, mask=ok, other=0.0) - mu) * rate
        d0 += tl.sum(d, 0)
        d1 += tl.sum(d * x, 0)
    tl.store(parts + s * C + c, d0, mask=known)
    tl.store(parts + (tl.num_programs(0) + s) * C + c, d1, mask=known)


@triton.jit(do_not_specialize=_VARY)
def _gradient(
    v, z, out, taken, mean, r, scale, sums, to_z, pixels, H, W, h, w, C, BP: tl.constexpr, BC: tl.constexpr
):
    """s·d − (s/n)·(d0 + x·d1) at every pixel."""
    m = tl.program_id(0) * BP + tl.arange(0, BP)
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    known = c < C
    ok = (m < pixels)[:, None] & known[None, :]
    rate = tl.load(r + c, mask=known)
    steep = tl.load(scale + c, mask=known) * rate
    down = -steep / pixels
    slope = down * rate * tl.load(sums + C + c, mask=known)
    rest = down * tl.load(sums + c, mask=known) - slope * tl.load(mean + c, mask=known)
    at = m[:, None] * C + c[None, :]
    px, py = m % W, m // W % H
    pool = (m // (W * H) * h + py // 2) * w + px // 2
    there = ok & (py // 2 < h)[:, None] & (px // 2 < w)[:, None]
    place = pool[:, None] * C + c[None, :]
    which = (py % 2 * 2 + px % 2)[:, None]
    passed = there & (tl.load(taken + place, mask=there, other=-1).to(tl.int32) == which)
    passed = passed & (tl.load(out + place, mask=passed, other=0.0) > 0)
    d = tl.load(v + place, mask=passed, other=0.0)
    values = tl.load(z + at, mask=ok, other=0.0)
    tl.store(to_z + at, values * slope[None, :] + rest[None, :] + d * steep[None, :], mask=ok)


@triton.jit(do_not_specialize=_VARY)
def _moments(z, z_tangent, mean, r, parts, pixels, per, C, BP: tl.constexpr, BC: tl.constexpr):
    """Σż and Σż·x of the shares."""
    s = tl.program_id(0)
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    known = c < C
    mu = tl.load(mean + c, mask=known)[None, :]
    rate = tl.load(r + c, mask=known)[None, :]
    m0 = tl.zeros((BC,), tl.float32)
    m1 = tl.zeros((BC,), tl.float32)
    for start in range(s * per, tl.minimum(s * per + per, pixels), BP):
        m = start + tl.arange(0, BP)
        ok = (m < pixels)[:, None] & known[None, :]
        at = m[:, None] * C + c[None, :]
        moved = tl.load(z_tangent + at, mask=ok, other=0.0)
        x = (tl.load(z + at, mask=ok, other=0.0) - mu) * rate
        m0 += tl.sum(moved, 0)
        m1 += tl.sum(moved * x, 0)
    tl.store(parts + s * C + c, m0, mask=known)
    tl.store(parts + (tl.num_programs(0) + s) * C + c, m1, mask=known)


@triton.jit(do_not_specialize=_VARY)
def _tangent(
    z_tangent, pooled, taken, out, mean, r, scale, scale_tangent, shift_tangent, moments,
    x_tangent, moved, count, pixels, H, W, h, w, C, BP: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """ẋ where the pool took it, and γ̇·x + γ·ẋ + β̇ where the ReLU is open."""
    m = tl.program_id(0) * BP + tl.arange(0, BP)
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    known = c < C
    ok = (m < count)[:, None] & known[None, :]
    place = m[:, None] * C + c[None, :]
    which = tl.load(taken + place, mask=ok, other=0).to(tl.int32)
    first = (m // (w * h) * H + 2 * (m // w % h)) * W + 2 * (m % w)
    at = (first[:, None] + which // 2 * W + which % 2) * C + c[None, :]
    rate = tl.load(r + c, mask=known)[None, :]
    x = (tl.load(pooled + place, mask=ok, other=0.0) - tl.load(mean + c, mask=known)[None, :]) * rate
    m0 = (tl.load(moments + c, mask=known) / pixels)[None, :]
    m1 = (tl.load(moments + C + c, mask=known) / pixels)[None, :]
    of_x = rate * (tl.load(z_tangent + at, mask=ok, other=0.0) - m0 - x * m1)
    y = x * tl.load(scale_tangent + c, mask=known)[None, :] + tl.load(shift_tangent + c, mask=known)[None, :]
    y += of_x * tl.load(scale + c, mask=known)[None, :]
    open_ = tl.load(out + place, mask=ok, other=0.0) > 0
    tl.store(x_tangent + place, of_x, mask=ok)
    tl.store(moved + place, tl.where(open_, y, 0.0), mask=ok)


@triton.jit(do_not_specialize=_VARY)
def _gradient_tangent_sums(
    v, v_tangent, out, pooled, x_tangent, mean, r, parts, count, per, C, BP: tl.constexpr, BC: tl.constexpr
):
    """Σḋ and Σ(ḋ·x + d·ẋ) of the shares."""
    s = tl.program_id(0)
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    known = c < C
    mu = tl.load(mean + c, mask=known)[None, :]
    rate = tl.load(r + c, mask=known)[None, :]
    d0 = tl.zeros((BC,), tl.float32)
    d1 = tl.zeros((BC,), tl.float32)
    for start in range(s * per, tl.minimum(s * per + per, count), BP):
        m = start + tl.arange(0, BP)
        ok = (m < count)[:, None] & known[None, :]
        at = m[:, None] * C + c[None, :]
        open_ = tl.load(out + at, mask=ok, other=0.0) > 0
        d = tl.where(open_, tl.load(v + at, mask=ok, other=0.0), 0.0)
        moved = tl.where(open_, tl.load(v_tangent + at, mask=ok, other=0.0), 0.0)
        x = (tl.load(pooled + at, mask=ok, other=0.0) - mu) * rate
        d0 += tl.sum(moved, 0)
        d1 += tl.sum(moved * x + d * tl.load(x_tangent + at, mask=ok, other=0.0), 0)
    tl.store(parts + s * C + c, d0, mask=known)
    tl.store(parts + (tl.num_programs(0) + s) * C + c, d1, mask=known)


@triton.jit(do_not_specialize=_VARY)
def _gradient_tangent(
    v, v_tangent, z, z_tangent, out, taken, mean, r, scale, scale_tangent, sums, sums_tangent, moments,
    to_z, pixels, H, W, h, w, C, BP: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """How ``_gradient`` moves: the product rule, sorted by d, ḋ, z, ż and the rest."""
    m = tl.program_id(0) * BP + tl.arange(0, BP)
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    known = c < C
    ok = (m < pixels)[:, None] & known[None, :]
    rate, gamma = tl.load(r + c, mask=known), tl.load(scale + c, mask=known)
    d0, d1 = tl.load(sums + c, mask=known), tl.load(sums + C + c, mask=known)
    e0, e1 = tl.load(sums_tangent + c, mask=known), tl.load(sums_tangent + C + c, mask=known)
    m0 = tl.load(moments + c, mask=known) / pixels * rate
    m1 = tl.load(moments + C + c, mask=known) / pixels * rate
    steep = gamma * rate
    falls = steep * m1  # −γ·ṙ
    moves = tl.load(scale_tangent + c, mask=known) * rate - falls
    slope = -steep / pixels * rate * d1
    of_z = ((falls - moves) * d1 - steep * e1) * (rate / pixels)
    rest = (steep * m0 * d1 - moves * d0 - steep * e0) / pixels - of_z * tl.load(mean + c, mask=known)
    at = m[:, None] * C + c[None, :]
    px, py = m % W, m // W % H
    pool = (m // (W * H) * h + py // 2) * w + px // 2
    there = ok & (py // 2 < h)[:, None] & (px // 2 < w)[:, None]
    place = pool[:, None] * C + c[None, :]
    which = (py % 2 * 2 + px % 2)[:, None]
    passed = there & (tl.load(taken + place, mask=there, other=-1).to(tl.int32) == which)
    passed = passed & (tl.load(out + place, mask=passed, other=0.0) > 0)
    let = tl.load(v + place, mask=passed, other=0.0) * moves[None, :]
    let += tl.load(v_tangent + place, mask=passed, other=0.0) * steep[None, :]
    values = tl.load(z + at, mask=ok, other=0.0) * of_z[None, :] + rest[None, :]
    values += tl.load(z_tangent + at, mask=ok, other=0.0) * slope[None, :]
    tl.store(to_z + at, values + let, mask=ok)


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
        shares, per = _shared(self._pixels, channels)
        parts = z.new_empty(2, shares, channels)
        _stats[(shares, self._columns)](self._z, *parts, self._pixels, per, channels, BP=_POOLS, BC=self._wide)
        _stats_together[(triton.cdiv(channels, _FEW),)](
            *parts, self._mean, self._r, self._pixels, per, shares, channels, eps,
            BS=triton.next_power_of_2(shares), BC=_FEW,
        )  # fmt: skip
        self.out, self._pooled, self._taken = self._new(), self._new(), self._new(torch.int8)
        self._at_pools(
            _pool, self._z, self._mean, self._r, self._scale, shift.contiguous(), self._pooled, self._taken,
            self.out, self._count,
        )  # fmt: skip

    def gradient(self, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """From the cotangent of ``out``: those of z, scale and shift."""
        self._v = _last(v)
        about = (self.out, self._pooled, self._mean, self._r)
        self._sums = self._summed(_gradient_sums, self._count, self._v, *about)
        to_z = torch.empty_like(self._z)
        self._at_pixels(
            _gradient, self._v, self._z, self.out, self._taken, self._mean, self._r, self._scale, self._sums, to_z
        )
        return to_z, self._sums[1], self._sums[0]

    def tangent(self, z: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """How ``out`` moves as its inputs move along ``z``, ``scale`` and ``shift``."""
        self._z_tangent, self._scale_tangent = _last(z), scale.contiguous()
        about = (self._z, self._z_tangent, self._mean, self._r)
        self._moments = self._summed(_moments, self._pixels, *about)
        self._x_tangent, moved = self._new(), self._new()
        self._at_pools(
            _tangent, self._z_tangent, self._pooled, self._taken, self.out, self._mean, self._r, self._scale,
            self._scale_tangent, shift.contiguous(), self._moments, self._x_tangent, moved, self._count,
            self._pixels,
        )  # fmt: skip
        return moved

    def gradient_tangent(self, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """How :meth:`gradient` moves with them, and with its cotangent along ``v``."""
        v = _last(v)
        about = (self.out, self._pooled, self._x_tangent, self._mean, self._r)
        sums = self._summed(_gradient_tangent_sums, self._count, self._v, v, *about)
        to_z = torch.empty_like(self._z)
        self._at_pixels(
            _gradient_tangent, self._v, v, self._z, self._z_tangent, self.out, self._taken, self._mean, self._r,
            self._scale, self._scale_tangent, self._sums, sums, self._moments, to_z,
        )  # fmt: skip
        return to_z, sums[1], sums[0]

    @property
    def _wide(self) -> int:
        return min(_CHANNELS, triton.next_power_of_2(self._channels))

    @property
    def _columns(self) -> int:
        return triton.cdiv(self._channels, _CHANNELS)  # type: ignore[no-any-return]

    def _new(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Of the pooled shape."""
        return torch.empty(
            self._pooled_shape, dtype=dtype, device=self._z.device, memory_format=torch.channels_last
        )

    def _summed(self, kernel: Any, count: int, *tensors: Tensor) -> Tensor:
        """The two sums (2, C) that ``kernel`` makes of so many pixels."""
        shares, per = _shared(count, self._channels)
        parts, sums = self._z.new_empty(2, shares, self._channels), self._z.new_empty(2, self._channels)
        kernel[(shares, self._columns)](*tensors, parts, count, per, self._channels, BP=_POOLS, BC=self._wide)
        _together[(triton.cdiv(self._channels, _FEW), 2)](
            parts, sums, shares, self._channels, BS=triton.next_power_of_2(shares), BC=_FEW
        )
        return sums

    def _at_pools(self, kernel: Any, *arguments: object) -> None:
        grid = (triton.cdiv(self._count, _POOLS), self._columns)
        kernel[grid](*arguments, *self._sides, self._channels, BP=_POOLS, BC=self._wide)

    def _at_pixels(self, kernel: Any, *arguments: object) -> None:
        grid = (triton.cdiv(self._pixels, _PIXELS), self._columns)
        kernel[grid](*arguments, self._pixels, *self._sides, self._channels, BP=_PIXELS, BC=self._wide)


def _shared(pixels: int, channels: int) -> tuple[int, int]:
    """Into how many shares pixels go, and how many a share has: by the shapes alone."""
    wanted = triton.cdiv(1024, triton.cdiv(channels, _CHANNELS))
    shares = max(1, min(wanted, pixels // (4 * _POOLS)))
    per = triton.cdiv(triton.cdiv(pixels, shares), _POOLS) * _POOLS
    return triton.cdiv(pixels, per), per


def _last(t: Tensor) -> Tensor:
    return t.contiguous(memory_format=torch.channels_last)
