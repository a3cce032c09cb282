"""What ``norm_pool.py`` is made of.

Tensors are stored channels-last: a program takes some pixels and up to 64 channels. Sums over pixels are
computed in two stages, in an order that follows from the shapes, so that they have the same bits each time.
"""

from __future__ import annotations

import triton
import triton.language as tl

_VARY = ["pixels", "count", "per", "shares", "H", "W", "h", "w"]
"""No kernel of their own for some values of these."""


@triton.jit(do_not_specialize=_VARY)
def stats(z, means, squares, pixels, per, C, BP: tl.constexpr, BC: tl.constexpr):
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
def stats_together(means, squares, mean, r, pixels, per, shares, C, eps, BS: tl.constexpr, BC: tl.constexpr):
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
def together(parts, sums, shares, C, BS: tl.constexpr, BC: tl.constexpr):
    """Two sums of each channel from those of the shares: (2, shares, C) → (2, C)."""
    s = tl.arange(0, BS)
    row = tl.program_id(1)
    c = tl.program_id(0) * BC + tl.arange(0, BC)
    ok = (s < shares)[:, None] & (c < C)[None, :]
    each = tl.load(parts + (row * shares + s)[:, None] * C + c[None, :], mask=ok, other=0.0)
    tl.store(sums + row * C + c, tl.sum(each, 0), mask=c < C)


@triton.jit(do_not_specialize=_VARY)
def pool(
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
        larger = (value > best) | (value != value)  # noqa: PLR0124 - as PyTorch: the first of equals, and NaN before all
        best = tl.where(larger, value, best)
        which = tl.where(larger, i, which)
    x = (best - tl.load(mean + c, mask=known)[None, :]) * tl.load(r + c, mask=known)[None, :]
    y = x * tl.load(scale + c, mask=known)[None, :] + tl.load(shift + c, mask=known)[None, :]
    y = tl.where(y < 0, 0.0, y)  # NaN stays
    place = m[:, None] * C + c[None, :]
    tl.store(pooled + place, best, mask=ok)
    tl.store(taken + place, which.to(tl.int8), mask=ok)
    tl.store(out + place, y, mask=ok)


@triton.jit
def _let_through(taken, out, m, c, ok, H, W, h, w, C):
    """Where the pools of the pixels m are, and whether these took the pixel, and the ReLU was open."""
    px, py = m % W, m // W % H
    pool = (m // (W * H) * h + py // 2) * w + px // 2
    there = ok & (py // 2 < h)[:, None] & (px // 2 < w)[:, None]
    place = pool[:, None] * C + c[None, :]
    which = (py % 2 * 2 + px % 2)[:, None]
    passed = there & (tl.load(taken + place, mask=there, other=-1).to(tl.int32) == which)
    passed = passed & (tl.load(out + place, mask=passed, other=0.0) > 0)
    return place, passed


@triton.jit(do_not_specialize=_VARY)
def gradient_sums(v, out, pooled, mean, r, parts, count, per, C, BP: tl.constexpr, BC: tl.constexpr):
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
def gradient(
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
    place, passed = _let_through(taken, out, m, c, ok, H, W, h, w, C)
    d = tl.load(v + place, mask=passed, other=0.0)
    values = tl.load(z + at, mask=ok, other=0.0)
    tl.store(to_z + at, values * slope[None, :] + rest[None, :] + d * steep[None, :], mask=ok)


@triton.jit(do_not_specialize=_VARY)
def moments(z, z_tangent, mean, r, parts, pixels, per, C, BP: tl.constexpr, BC: tl.constexpr):
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
def tangent(
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
def gradient_tangent_sums(
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
def gradient_tangent(
    v, v_tangent, z, z_tangent, out, taken, mean, r, scale, scale_tangent, sums, sums_tangent, moments,
    to_z, pixels, H, W, h, w, C, BP: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """How ``gradient`` moves: the product rule, sorted by d, ḋ, z, ż and the rest."""
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
    place, passed = _let_through(taken, out, m, c, ok, H, W, h, w, C)
    let = tl.load(v + place, mask=passed, other=0.0) * moves[None, :]
    let += tl.load(v_tangent + place, mask=passed, other=0.0) * steep[None, :]
    values = tl.load(z + at, mask=ok, other=0.0) * of_z[None, :] + rest[None, :]
    values += tl.load(z_tangent + at, mask=ok, other=0.0) * slope[None, :]
    tl.store(to_z + at, values + let, mask=ok)
