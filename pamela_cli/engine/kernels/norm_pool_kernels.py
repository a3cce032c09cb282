"""What ``norm_pool.py`` is made of.

Tensors are stored channels-last: a program takes some pixels and up to 64 channels. Sums over pixels are
computed in two stages, in an order that follows from the shapes, so that they have the same bits each time.
"""

from __future__ import annotations

import triton
import triton.language as tl

_VARY = ["pixels", "count", "per", "shares", "blocks", "H", "W"]
"""No kernel of their own for some values of these."""


@triton.jit(do_not_specialize=_VARY)
def stats_together(
    means, squares, counts, mean, r, pixels, blocks, C, eps, BS: tl.constexpr, BC: tl.constexpr
):  # fmt: skip
    """Mean and (variance + eps)^−½ from what ``pools.ask`` found of each block."""
    c = tl.program_id(0) * BC + tl.arange(0, BC)
    known = c < C
    mu = tl.zeros((BC,), tl.float32)
    for start in range(0, blocks, BS):
        s = start + tl.arange(0, BS)
        ok = (s < blocks)[:, None] & known[None, :]
        many = tl.load(counts + s, mask=s < blocks, other=0.0)[:, None]
        mu += tl.sum(tl.load(means + s[:, None] * C + c[None, :], mask=ok, other=0.0) * many, 0)
    mu = mu / pixels
    m2 = tl.zeros((BC,), tl.float32)
    for start in range(0, blocks, BS):
        s = start + tl.arange(0, BS)
        ok = (s < blocks)[:, None] & known[None, :]
        at = s[:, None] * C + c[None, :]
        many = tl.load(counts + s, mask=s < blocks, other=0.0)[:, None]
        away = tl.load(means + at, mask=ok, other=0.0) - mu[None, :]
        m2 += tl.sum(tl.load(squares + at, mask=ok, other=0.0) + away * away * many, 0)
    tl.store(mean + c, mu, mask=known)
    tl.store(r + c, 1.0 / tl.sqrt(m2 / pixels + eps), mask=known)


@triton.jit(do_not_specialize=_VARY)
def together(parts, sums, shares, C, BS: tl.constexpr, BC: tl.constexpr):
    """Two sums of each channel from those of the shares: (2, shares, C) → (2, C)."""
    row = tl.program_id(1)
    c = tl.program_id(0) * BC + tl.arange(0, BC)
    total = tl.zeros((BC,), tl.float32)
    for start in range(0, shares, BS):
        s = start + tl.arange(0, BS)
        ok = (s < shares)[:, None] & (c < C)[None, :]
        each = tl.load(parts + (row * shares + s)[:, None] * C + c[None, :], mask=ok, other=0.0)
        total += tl.sum(each, 0)
    tl.store(sums + row * C + c, total, mask=c < C)


@triton.jit
def normalised(values, mean, r, c, known):
    """Of channels c."""
    away = values - tl.load(mean + c, mask=known)[None, :]
    return away * tl.load(r + c, mask=known)[None, :]


@triton.jit
def is_open(x, scale, shift, c, known):
    """Where the ReLU lets the normalised x through."""
    y = x * tl.load(scale + c, mask=known)[None, :] + tl.load(shift + c, mask=known)[None, :]
    return y > 0


@triton.jit(do_not_specialize=_VARY)
def output(pooled, mean, r, scale, shift, out, count, C, BP: tl.constexpr, BC: tl.constexpr):
    """What comes out of normalising what the pools took, and of the ReLU."""
    m = tl.program_id(0) * BP + tl.arange(0, BP)
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    known = c < C
    ok = (m < count)[:, None] & known[None, :]
    place = m[:, None] * C + c[None, :]
    x = normalised(tl.load(pooled + place, mask=ok, other=0.0), mean, r, c, known)
    y = x * tl.load(scale + c, mask=known)[None, :] + tl.load(shift + c, mask=known)[None, :]
    tl.store(out + place, tl.where(y < 0, 0.0, y), mask=ok)  # NaN stays


@triton.jit(do_not_specialize=_VARY)
def gradient_sums(
    v, pooled, mean, r, scale, shift, parts, count, per, C, BP: tl.constexpr, BC: tl.constexpr
):  # fmt: skip
    """Σd and Σd·x of the shares."""
    s = tl.program_id(0)
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    known = c < C
    d0 = tl.zeros((BC,), tl.float32)
    d1 = tl.zeros((BC,), tl.float32)
    for start in range(s * per, tl.minimum(s * per + per, count), BP):
        m = start + tl.arange(0, BP)
        ok = (m < count)[:, None] & known[None, :]
        at = m[:, None] * C + c[None, :]
        x = normalised(tl.load(pooled + at, mask=ok, other=0.0), mean, r, c, known)
        open_ = is_open(x, scale, shift, c, known)
        d = tl.where(open_, tl.load(v + at, mask=ok, other=0.0), 0.0)
        d0 += tl.sum(d, 0)
        d1 += tl.sum(d * x, 0)
    tl.store(parts + s * C + c, d0, mask=known)
    tl.store(parts + (tl.num_programs(0) + s) * C + c, d1, mask=known)


@triton.jit(do_not_specialize=_VARY)
def tangent(
    x_tangent, pooled, mean, r, scale, shift, scale_tangent, shift_tangent, moments, moved, count, pixels, C,
    BP: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """ẋ where the pool took it, in place of ż there, and γ̇·x + γ·ẋ + β̇ where the ReLU is open."""
    m = tl.program_id(0) * BP + tl.arange(0, BP)
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    known = c < C
    ok = (m < count)[:, None] & known[None, :]
    place = m[:, None] * C + c[None, :]
    x = normalised(tl.load(pooled + place, mask=ok, other=0.0), mean, r, c, known)
    m0 = (tl.load(moments + c, mask=known) / pixels)[None, :]
    m1 = (tl.load(moments + C + c, mask=known) / pixels)[None, :]
    rate = tl.load(r + c, mask=known)[None, :]
    of_x = rate * (tl.load(x_tangent + place, mask=ok, other=0.0) - m0 - x * m1)
    y = x * tl.load(scale_tangent + c, mask=known)[None, :] + tl.load(shift_tangent + c, mask=known)[None, :]
    y += of_x * tl.load(scale + c, mask=known)[None, :]
    open_ = is_open(x, scale, shift, c, known)
    tl.store(x_tangent + place, of_x, mask=ok)
    tl.store(moved + place, tl.where(open_, y, 0.0), mask=ok)


@triton.jit(do_not_specialize=_VARY)
def gradient_tangent_sums(
    v, v_tangent, pooled, x_tangent, mean, r, scale, shift, parts, count, per, C,
    BP: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """Σḋ and Σ(ḋ·x + d·ẋ) of the shares."""
    s = tl.program_id(0)
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    known = c < C
    d0 = tl.zeros((BC,), tl.float32)
    d1 = tl.zeros((BC,), tl.float32)
    for start in range(s * per, tl.minimum(s * per + per, count), BP):
        m = start + tl.arange(0, BP)
        ok = (m < count)[:, None] & known[None, :]
        at = m[:, None] * C + c[None, :]
        x = normalised(tl.load(pooled + at, mask=ok, other=0.0), mean, r, c, known)
        open_ = is_open(x, scale, shift, c, known)
        d = tl.where(open_, tl.load(v + at, mask=ok, other=0.0), 0.0)
        moved = tl.where(open_, tl.load(v_tangent + at, mask=ok, other=0.0), 0.0)
        d0 += tl.sum(moved, 0)
        d1 += tl.sum(moved * x + d * tl.load(x_tangent + at, mask=ok, other=0.0), 0)
    tl.store(parts + s * C + c, d0, mask=known)
    tl.store(parts + (tl.num_programs(0) + s) * C + c, d1, mask=known)


@triton.jit
def _let_through(taken, pooled, mean, r, scale, shift, m, c, known, ok, H, W, C):
    """Where the pools of the pixels m are, and whether these took the pixel, and the ReLU was open."""
    h, w = H // 2, W // 2
    px, py = m % W, m // W % H
    pool = (m // (W * H) * h + py // 2) * w + px // 2
    there = ok & (py // 2 < h)[:, None] & (px // 2 < w)[:, None]
    place = pool[:, None] * C + c[None, :]
    which = (py % 2 * 2 + px % 2)[:, None]
    passed = there & (tl.load(taken + place, mask=there, other=-1).to(tl.int32) == which)
    x = normalised(tl.load(pooled + place, mask=passed, other=0.0), mean, r, c, known)
    return place, passed & is_open(x, scale, shift, c, known)


@triton.jit
def terms(
    c, known, mean, r, scale, scale_tangent, sums, sums_tangent, moments, pixels, C, TANGENT: tl.constexpr
):  # fmt: skip
    """Of the cotangent of z, s·d − (s/n)·(Σd + x·Σ(d·x)): factors of d, ḋ, z and ż, and the rest, (c,) each.

    TANGENT: of how it moves, by the product rule; otherwise those of ḋ and ż are others, and not to be used.
    ``engine/norm_pool.py`` has the letters.
    """
    rate, gamma = tl.load(r + c, mask=known), tl.load(scale + c, mask=known)
    d0, d1 = tl.load(sums + c, mask=known), tl.load(sums + C + c, mask=known)
    mu = tl.load(mean + c, mask=known)
    steep = gamma * rate
    slope = -steep / pixels * rate * d1
    if TANGENT:
        e0, e1 = tl.load(sums_tangent + c, mask=known), tl.load(sums_tangent + C + c, mask=known)
        m0r = tl.load(moments + c, mask=known) / pixels * rate
        m1r = tl.load(moments + C + c, mask=known) / pixels * rate
        falls = steep * m1r  # −γ·ṙ
        moves = tl.load(scale_tangent + c, mask=known) * rate - falls
        of_z = ((falls - moves) * d1 - steep * e1) * (rate / pixels)
        rest = (steep * m0r * d1 - moves * d0 - steep * e0) / pixels - of_z * mu
        return moves, steep, of_z, slope, rest
    return steep, steep, slope, slope, -steep / pixels * d0 - slope * mu


@triton.jit(do_not_specialize=_VARY)
def to_z(
    v, v_tangent, z, z_tangent, pooled, taken, mean, r, scale, shift, scale_tangent, sums, sums_tangent,
    moments, made, pixels, H, W, C, TANGENT: tl.constexpr, BP: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """The cotangent of z, or how it moves, at every pixel: (B, C, H, W)."""
    m = tl.program_id(0) * BP + tl.arange(0, BP)
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    known = c < C
    ok = (m < pixels)[:, None] & known[None, :]
    of_d, of_d_tangent, of_z, of_z_tangent, rest = terms(
        c, known, mean, r, scale, scale_tangent, sums, sums_tangent, moments, pixels, C, TANGENT
    )
    place, passed = _let_through(taken, pooled, mean, r, scale, shift, m, c, known, ok, H, W, C)
    at = m[:, None] * C + c[None, :]
    found = tl.load(z + at, mask=ok, other=0.0) * of_z[None, :] + rest[None, :]
    let = tl.load(v + place, mask=passed, other=0.0) * of_d[None, :]
    if TANGENT:
        found += tl.load(z_tangent + at, mask=ok, other=0.0) * of_z_tangent[None, :]
        let += tl.load(v_tangent + place, mask=passed, other=0.0) * of_d_tangent[None, :]
    tl.store(made + at, found + let, mask=ok)
