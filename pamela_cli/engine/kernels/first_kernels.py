"""What ``first.py`` is made of.

A patch is what a convolution multiplies with a filter: the numbers of all channels and taps around a pixel,
tap by tap, zero beyond the image. One more, a one, makes their sum a column of the sum of their products.
"""

from __future__ import annotations

import triton
import triton.language as tl

from pamela_cli.engine.kernels.conv import product
from pamela_cli.engine.kernels.norm_pool_kernels import is_open, normalised, terms
from pamela_cli.engine.kernels.pools import larger

_VARY = ["pixels", "count", "per", "shares", "H", "W", "T", "lower"]
"""No kernel of their own for some values of these."""


@triton.jit
def patches(x, place, y, column, inside, t, H, W, T, CI: tl.constexpr, BN: tl.constexpr):
    """Those of task t at the pixels ``place``, (pixels, BN); zeros where these are not ``inside``."""
    k = tl.arange(0, BN)
    down, right = (k // CI // 3 - 1)[None, :], (k // CI % 3 - 1)[None, :]
    there_y, there_x = y[:, None] + down, column[:, None] + right
    ok = inside[:, None] & (k < 9 * CI)[None, :]
    ok = ok & (there_y >= 0) & (there_y < H) & (there_x >= 0) & (there_x < W)
    at = (place[:, None] + down * W + right) * (T * CI) + t * CI + (k % CI)[None, :]
    found = tl.load(x + at, mask=ok, other=0.0)
    return tl.where(inside[:, None] & (k == 9 * CI)[None, :], 1.0, found)


@triton.jit
def _corner(p, i, H, W):
    """Pixel i of the four of the pools p: its place, row and column."""
    across, down = W // 2, H // 2
    y, column = p // across % down * 2 + i // 2, p % across * 2 + i % 2
    return (p // (across * down) * H + y) * W + column, y, column


@triton.jit(do_not_specialize=_VARY)
def products(x, parts, pixels, H, W, T, per, CI: tl.constexpr, BP: tl.constexpr, BN: tl.constexpr):
    """Σ patch·patchᵀ over the pixels of each share: (shares, T, BN, BN), float64."""
    s, t = tl.program_id(0), tl.program_id(1)
    total = tl.zeros((BN, BN), tl.float64)
    for start in range(s * per, s * per + per, BP):
        m = start + tl.arange(0, BP)
        each = patches(x, m, m // W % H, m % W, m < pixels, t, H, W, T, CI, BN).to(tl.float64)
        total = tl.dot(tl.trans(each), each, total, out_dtype=tl.float64)
    k = tl.arange(0, BN)
    tl.store(parts + ((s * T + t) * BN + k[:, None]) * BN + k[None, :], total)


@triton.jit(do_not_specialize=_VARY)
def products_together(parts, made, shares, numbers, BS: tl.constexpr, BE: tl.constexpr):
    """The sum of the shares."""
    e = tl.program_id(0) * BE + tl.arange(0, BE)
    total = tl.zeros((BE,), tl.float64)
    for first in range(0, shares, BS):
        s = first + tl.arange(0, BS)
        ok = (s < shares)[:, None] & (e < numbers)[None, :]
        total += tl.sum(tl.load(parts + s[:, None] * numbers + e[None, :], mask=ok, other=0.0), 0)
    tl.store(made + e, total, mask=e < numbers)


@triton.jit(do_not_specialize=_VARY)
def statistics(
    w, w_still, with_patches, with_patches_still, of_patches, first, second, pixels, lower, eps,
    CI: tl.constexpr, CO: tl.constexpr, TANGENT: tl.constexpr, BC: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """Σ z·patch (T·CO, BN), float64, of the z that filters ``w`` make, from Σ patch·patchᵀ (T, BN, BN).

    With it come the means, and (variance + eps)^−½. TANGENT: the same of ż, with Σż and Σż·x, where filters
    ``w_still`` made z.
    """
    t = tl.program_id(1)
    n = tl.program_id(0) * BC + tl.arange(0, BC)
    k = tl.arange(0, BN)
    c, known = t * CO + n, n < CO
    at = c[:, None] * (9 * CI) + k[None, :]
    ok = known[:, None] & (k < 9 * CI)[None, :]
    filters = tl.load(w + at, mask=ok, other=0.0).to(tl.float64)
    filters += tl.load(w + lower + at, mask=ok, other=0.0).to(tl.float64)
    products_of_patches = tl.load(of_patches + (t * BN + k[:, None]) * BN + k[None, :])
    found = tl.dot(filters, products_of_patches, out_dtype=tl.float64)
    tl.store(with_patches + c[:, None] * BN + k[None, :], found, mask=known[:, None])
    total = tl.sum(tl.where((k == 9 * CI)[None, :], found, 0.0), 1)
    if TANGENT:
        still = tl.load(w_still + at, mask=ok, other=0.0).to(tl.float64)
        still += tl.load(w_still + lower + at, mask=ok, other=0.0).to(tl.float64)
        sums = with_patches_still + c * BN
        own = tl.load(sums[:, None] + k[None, :], mask=known[:, None], other=0.0)
        mu = tl.load(sums + 9 * CI, mask=known, other=0.0) / pixels
        rate = 1.0 / tl.sqrt(tl.maximum(tl.sum(own * still, 1) / pixels - mu * mu, 0.0) + eps)
        with_x = (tl.sum(found * still, 1) - mu * total) * rate
        tl.store(first + c, total.to(tl.float32), mask=known)
        tl.store(second + c, with_x.to(tl.float32), mask=known)
    else:
        mu = total / pixels
        variance = tl.maximum(tl.sum(found * filters, 1) / pixels - mu * mu, 0.0)
        tl.store(first + c, mu.to(tl.float32), mask=known)
        tl.store(second + c, (1.0 / tl.sqrt(variance + eps)).to(tl.float32), mask=known)


@triton.jit(do_not_specialize=_VARY)
def pooled_convolution(
    x, w, pooled, taken, count, H, W, T, lower,
    CI: tl.constexpr, CO: tl.constexpr, TANGENT: tl.constexpr,
    BP: tl.constexpr, BC: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """The largest of the four pixels of each pool, and which it is; TANGENT: the one that was ``taken``."""
    t = tl.program_id(1)
    p = tl.program_id(0) * BP + tl.arange(0, BP)
    n = tl.program_id(2) * BC + tl.arange(0, BC)
    k = tl.arange(0, BN)
    at = ((t * CO + n) * (9 * CI))[None, :] + k[:, None]
    filled = (n < CO)[None, :] & (k < 9 * CI)[:, None]
    high = tl.load(w + at, mask=filled, other=0.0)
    low = tl.load(w + lower + at, mask=filled, other=0.0)
    place = p[:, None] * (T * CO) + (t * CO + n)[None, :]
    ok = (p < count)[:, None] & (n < CO)[None, :]
    best = tl.zeros((BP, BC), tl.float32)
    which = tl.load(taken + place, mask=ok, other=0).to(tl.int32) if TANGENT else tl.zeros((BP, BC), tl.int32)
    for i in tl.static_range(4):
        pixel, y, column = _corner(p, i, H, W)
        a = patches(x, pixel, y, column, p < count, t, H, W, T, CI, BN)
        value = product(a, high, low, tl.zeros((BP, BC), tl.float32), SPLIT=True)
        if TANGENT:
            best = tl.where(which == i, value, best)
        elif i == 0:
            best = value
        else:
            best, which = larger(value, i, best, which)
    tl.store(pooled + place, best, mask=ok)
    if not TANGENT:
        tl.store(taken + place, which.to(tl.int8), mask=ok)


@triton.jit(do_not_specialize=_VARY)
def weight_gradient(
    x, v, v_tangent, pooled, taken, mean, r, scale, shift, scale_tangent, sums, sums_tangent, moments, parts,
    pixels, count, H, W, T, per,
    CI: tl.constexpr, CO: tl.constexpr, TANGENT: tl.constexpr,
    BP: tl.constexpr, BC: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """What comes of the pixels that pools let through: parts[s, t, n, k] over share s of the pools."""
    s, t = tl.program_id(0), tl.program_id(2)
    n = tl.program_id(1) * BC + tl.arange(0, BC)
    k = tl.arange(0, BN)
    c, known = t * CO + n, n < CO
    of_d, of_d_tangent, _, _, _ = terms(
        c, known, mean, r, scale, scale_tangent, sums, sums_tangent, moments, pixels, T * CO, TANGENT
    )
    total = tl.zeros((BC, BN), tl.float32)
    for start in range(s * per, s * per + per, BP):
        p = start + tl.arange(0, BP)
        inside = p < count
        ok = inside[:, None] & known[None, :]
        place = p[:, None] * (T * CO) + c[None, :]
        let = tl.load(v + place, mask=ok, other=0.0) * of_d[None, :]
        if TANGENT:
            let += tl.load(v_tangent + place, mask=ok, other=0.0) * of_d_tangent[None, :]
        it = normalised(tl.load(pooled + place, mask=ok, other=0.0), mean, r, c, known)
        let = tl.where(ok & is_open(it, scale, shift, c, known), let, 0.0)
        which = tl.load(taken + place, mask=ok, other=0).to(tl.int32)
        for i in tl.static_range(4):
            pixel, y, column = _corner(p, i, H, W)
            each = patches(x, pixel, y, column, inside, t, H, W, T, CI, BN)
            of_pixel = tl.where(which == i, let, 0.0)
            total = tl.dot(tl.trans(of_pixel), each, total, input_precision="tf32x3")
    place = ((s * T + t) * CO + n)[:, None] * (9 * CI) + k[None, :]
    tl.store(parts + place, total, mask=known[:, None] & (k < 9 * CI)[None, :])


@triton.jit(do_not_specialize=_VARY)
def weight_gradient_of_all(
    with_patches, with_patches_tangent, of_patches, mean, r, scale, shift, scale_tangent, sums, sums_tangent,
    moments, part, pixels, T,
    CI: tl.constexpr, CO: tl.constexpr, TANGENT: tl.constexpr, BC: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """What comes of every pixel: part[t, n, k]."""
    t = tl.program_id(1)
    n = tl.program_id(0) * BC + tl.arange(0, BC)
    k = tl.arange(0, BN)
    c, known = t * CO + n, n < CO
    _, _, of_z, of_z_tangent, rest = terms(
        c, known, mean, r, scale, scale_tangent, sums, sums_tangent, moments, pixels, T * CO, TANGENT
    )
    at = c[:, None] * BN + k[None, :]
    found = tl.load(with_patches + at, mask=known[:, None], other=0.0) * of_z[:, None].to(tl.float64)
    if TANGENT:
        moved = tl.load(with_patches_tangent + at, mask=known[:, None], other=0.0)
        found += moved * of_z_tangent[:, None].to(tl.float64)
    sums_of_patches = tl.load(of_patches + (t * BN + 9 * CI) * BN + k)
    found += sums_of_patches[None, :] * rest[:, None].to(tl.float64)
    ok = known[:, None] & (k < 9 * CI)[None, :]
    tl.store(part + c[:, None] * (9 * CI) + k[None, :], found.to(tl.float32), mask=ok)
