"""What batch norm and pool ask of a large tensor, answered while its pixels are at hand: where it is made.

So it need not be read again. Pixels are taken in the order of the pools, the four of a pool in succession.
Where a side is odd, the last pools would reach beyond it: their pixels are counted, too, but not all of them
are inside.
"""

from __future__ import annotations

import triton
import triton.language as tl

NOTHING, AT_REST, MOVING = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)
"""What is asked: nothing; of z, its statistics and the pools; of ż, its moments, and where pools took z."""


@triton.jit
def by_pools(m, H, W):
    """Where the pixel is that is number m by pools: its place among all pixels, its row and its column."""
    across, down = (W + 1) // 2, (H + 1) // 2
    cell = m // 4
    y = cell // across % down * 2 + m % 4 // 2
    x = cell % across * 2 + m % 2
    return (cell // (across * down) * H + y) * W + x, y, x


@triton.jit
def ask(
    values, inside, block, c, known, z, mean, r, pooled, taken, first, second, counts, count, H, W, C,
    LOOK: tl.constexpr, BP: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """Of the ``values`` (BP, BC) of a block of pixels by pools, with zeros outside.

    AT_REST: ``first`` and ``second`` (blocks, C) get each channel's mean, and the squared distances from it;
    ``counts`` (blocks,) the pixels inside; ``pooled`` the largest of each pool, ``taken`` which it was.
    MOVING: ``first`` and ``second`` get Σż and Σż·x, and ``pooled`` gets ż where z was ``taken``.
    """
    if LOOK == AT_REST:
        many = tl.sum(inside.to(tl.float32), 0)
        average = tl.sum(values, 0) / tl.maximum(many, 1.0)
        away = tl.where(inside[:, None], values - average[None, :], 0.0)
        tl.store(first + block * C + c, average, mask=known)
        tl.store(second + block * C + c, tl.sum(away * away, 0), mask=known)
        tl.store(counts + block, many)
    else:
        at, _, _ = by_pools(block * BP + tl.arange(0, BP), H, W)
        ok = inside[:, None] & known[None, :]
        still = tl.load(z + at[:, None] * C + c[None, :], mask=ok, other=0.0)
        x = (still - tl.load(mean + c, mask=known)[None, :]) * tl.load(r + c, mask=known)[None, :]
        tl.store(first + block * C + c, tl.sum(values, 0), mask=known)
        tl.store(second + block * C + c, tl.sum(values * tl.where(ok, x, 0.0), 0), mask=known)

    cell = block * (BP // 4) + tl.arange(0, BP // 4)
    across, down = (W + 1) // 2, (H + 1) // 2
    px, py = cell % across, cell // across % down
    whole = (px < W // 2) & (py < H // 2) & (cell * 4 < count)
    place = ((cell // (across * down) * (H // 2) + py) * (W // 2) + px)[:, None] * C + c[None, :]
    ok = whole[:, None] & known[None, :]
    corners = tl.permute(tl.reshape(values, (BP // 4, 2, 2, BC)), (0, 3, 1, 2))
    left, right = tl.split(corners)
    best, lower_left = tl.split(left)
    upper_right, lower_right = tl.split(right)
    if LOOK == AT_REST:
        which = tl.zeros((BP // 4, BC), tl.int32)
        best, which = larger(upper_right, 1, best, which)
        best, which = larger(lower_left, 2, best, which)
        best, which = larger(lower_right, 3, best, which)
        tl.store(taken + place, which.to(tl.int8), mask=ok)
    else:
        which = tl.load(taken + place, mask=ok, other=0).to(tl.int32)
        lower = tl.where(which == 2, lower_left, lower_right)
        best = tl.where(which == 0, best, tl.where(which == 1, upper_right, lower))
    tl.store(pooled + place, best, mask=ok)


@triton.jit
def larger(value, index, best, which):
    """As PyTorch takes the largest: the first of equals, and NaN before all."""
    chosen = (value > best) | (value != value)  # noqa: PLR0124
    return tl.where(chosen, value, best), tl.where(chosen, index, which)


@triton.jit(do_not_specialize=["count", "H", "W"])
def ask_of(
    values, z, mean, r, pooled, taken, first, second, counts, count, H, W, C,
    LOOK: tl.constexpr, BP: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """The same of a tensor that has been made elsewhere."""
    m = tl.program_id(0) * BP + tl.arange(0, BP)
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    at, y, x = by_pools(m, H, W)
    inside = (m < count) & (y < H) & (x < W)
    known = c < C
    found = tl.load(values + at[:, None] * C + c[None, :], mask=inside[:, None] & known[None, :], other=0.0)
    ask(
        found, inside, tl.program_id(0), c, known, z, mean, r, pooled, taken, first, second, counts, count,
        H, W, C, LOOK, BP, BC,
    )  # fmt: skip
