"""3×3 convolutions of several tasks, and their gradients, as Triton kernels.

A task's channels lie together, the tasks side by side: (B, T·C, H, W) with the channels last in memory. cuDNN
computes such grouped convolutions by transposing back and forth, and float32 without Tensor Cores. Here the
Tensor Cores multiply; for float32 every factor is the sum of two TF32 numbers, and three of the four products
are computed, which rounds about as float32 does ("tf32x3").

Most derivatives need the sum of two convolutions, or of two gradients: one kernel computes both.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import triton
import triton.language as tl
from torch import Tensor

from pamela_cli.engine.channels_last import empty_last
from pamela_cli.engine.device import tf32_setting
from pamela_cli.engine.kernels.launch import launch
from pamela_cli.engine.kernels.norm_pool import Answers, Still, by_pools_of
from pamela_cli.engine.kernels.pools import AT_REST, MOVING, NOTHING, ask, by_pools
from pamela_cli.engine.kernels.shares import AT_ONCE, shared

Pairs = list[tuple[Tensor, Tensor]]

_ALIGNED = 64
"""Pixels: a multiple of what a program takes at a time, and of 16 bytes."""


@triton.jit
def upper(value):
    """What Tensor Cores take of a float32 number: TF32, the lowest 13 bits zero."""
    return (value.to(tl.int32, bitcast=True) & -8192).to(tl.float32, bitcast=True)


@triton.jit
def product(a, b, b_low, acc, SPLIT: tl.constexpr):
    """acc + a @ b; SPLIT: to the precision of float32, with what TF32 takes of b, and the rest, ``b_low``."""
    if SPLIT:
        high = upper(a)
        acc = tl.dot(a - high, b, acc, input_precision="tf32")
        acc = tl.dot(high, b_low, acc, input_precision="tf32")
        return tl.dot(high, b, acc, input_precision="tf32")
    return tl.dot(a, b, acc, input_precision="tf32")


@triton.jit
def _convolved(
    x, w, px, py, m, inside, n, t, H, W, T, lower, acc,
    CI: tl.constexpr, CO: tl.constexpr, BK: tl.constexpr, SPLIT: tl.constexpr,
):  # fmt: skip
    """acc[m, n] + Σ x[m + tap, t, k]·w[t, n, tap, k]."""
    weights = ((t * CO + n) * (9 * CI))[None, :]
    chunks: tl.constexpr = (CI + BK - 1) // BK
    for i in range(9 * chunks):
        tap = i // chunks
        k = (i % chunks) * BK + tl.arange(0, BK)
        dy = tap // 3 - 1
        dx = tap % 3 - 1
        there = inside & (py + dy >= 0) & (py + dy < H) & (px + dx >= 0) & (px + dx < W)
        pixels_at = ((m + dy * W + dx) * (T * CI) + t * CI)[:, None] + k[None, :]
        a = tl.load(x + pixels_at, mask=there[:, None] & (k < CI)[None, :], other=0.0)
        filled = (k < CI)[:, None] & (n < CO)[None, :]
        at = weights + (tap * CI + k)[:, None]
        b = tl.load(w + at, mask=filled, other=0.0)
        b_low = tl.load(w + lower + at, mask=filled, other=0.0) if SPLIT else b
        acc = product(a, b, b_low, acc, SPLIT)
    return acc


@triton.jit(do_not_specialize=["pixels", "H", "W", "T"])  # no kernels of their own for some values
def _convolution(
    x, w, x2, w2, out, z, mean, r, pooled, taken, first, second, counts, pixels, H, W, T, lower,
    CI: tl.constexpr, CO: tl.constexpr, TWO: tl.constexpr, LOOK: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, SPLIT: tl.constexpr,
):  # fmt: skip
    """out[m, t, n] = Σ x[m + tap, t, k]·w[t, n, tap, k], and the same of x2 and w2.

    LOOK: what ``pools.ask`` finds of the result.
    """
    t = tl.program_id(1)
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.program_id(2) * BN + tl.arange(0, BN)
    inside = m < pixels
    if LOOK == NOTHING:
        at, py, px = m, (m // W) % H, m % W
    else:
        at, py, px = by_pools(m, H, W)
        inside = inside & (py < H) & (px < W)
    acc = tl.zeros((BM, BN), tl.float32)
    acc = _convolved(x, w, px, py, at, inside, n, t, H, W, T, lower, acc, CI, CO, BK, SPLIT)
    if TWO:  # one after the other: side by side they would take twice the memory of a multiprocessor
        acc = _convolved(x2, w2, px, py, at, inside, n, t, H, W, T, lower, acc, CI, CO, BK, SPLIT)
    c = t * CO + n
    tl.store(out + at[:, None] * (T * CO) + c[None, :], acc, mask=inside[:, None] & (n < CO)[None, :])
    if LOOK != NOTHING:
        ask(
            acc, inside, tl.program_id(0), c, n < CO, z, mean, r, pooled, taken, first, second, counts,
            pixels, H, W, T * CO, LOOK, BM, BN,
        )  # fmt: skip


@triton.jit(do_not_specialize=["pixels"])
def _by_channels(x, made, pixels, padded, C, BP: tl.constexpr, BC: tl.constexpr):
    """made[c, m] = x[m, c], and zeros up to ``padded`` pixels."""
    m = tl.program_id(0) * BP + tl.arange(0, BP)
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    ok = (m < pixels)[:, None] & (c < C)[None, :]
    values = tl.load(x + m[:, None] * C + c[None, :], mask=ok, other=0.0)
    tl.store(made + c[None, :] * padded + m[:, None], values, mask=(c < C)[None, :])


@triton.jit
def _tap(
    v, m, px, py, n, dy, dx, b_high, b_low, t, pixels, H, W, T, acc, CO: tl.constexpr, SPLIT: tl.constexpr
):  # fmt: skip
    """acc + Σ v[m − tap, t, n]·b[m, k], where the sums are over the pixels m."""
    here = (m < pixels) & (py - dy >= 0) & (py - dy < H) & (px - dx >= 0) & (px - dx < W)
    at = ((m - dy * W - dx) * (T * CO) + t * CO)[None, :] + n[:, None]
    return product(tl.load(v + at, mask=here[None, :], other=0.0), b_high, b_low, acc, SPLIT)


@triton.jit
def _row_of_taps(
    v, x, n, k, dy, t, start, end, pixels, padded, H, W, T, a0, a1, a2,
    CI: tl.constexpr, CO: tl.constexpr, BK: tl.constexpr, SPLIT: tl.constexpr,
):  # fmt: skip
    """Adds what the three taps of a row give. Of the two factors it is v that is shifted: x stays aligned."""
    of_channel = ((t * CI + k) * padded)[None, :]
    for first in range(start, tl.minimum(end, padded), BK):
        m = first + tl.arange(0, BK)
        px = m % W
        py = (m // W) % H
        b = tl.load(x + of_channel + m[:, None])
        high = upper(b) if SPLIT else b
        low = b - high
        a0 = _tap(v, m, px, py, n, dy, -1, high, low, t, pixels, H, W, T, a0, CO, SPLIT)
        a1 = _tap(v, m, px, py, n, dy, 0, high, low, t, pixels, H, W, T, a1, CO, SPLIT)
        a2 = _tap(v, m, px, py, n, dy, 1, high, low, t, pixels, H, W, T, a2, CO, SPLIT)
    return a0, a1, a2


@triton.jit(do_not_specialize=["pixels", "H", "W", "T"])
def _weight_gradient(
    v, x, v2, x2, out, pixels, padded, H, W, T, per,
    CI: tl.constexpr, CO: tl.constexpr, TWO: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, SPLIT: tl.constexpr,
):  # fmt: skip
    """out[s, t, n, tap, k] = Σ v[m − tap, t, n]·x[t, k, m] over share s of pixels, and that of v2 and x2."""
    s = tl.program_id(0)
    t = tl.program_id(2)
    ROWS: tl.constexpr = (CO + BM - 1) // BM
    COLS: tl.constexpr = (CI + BN - 1) // BN
    dy = tl.program_id(1) // (ROWS * COLS) - 1
    n = (tl.program_id(1) // COLS % ROWS) * BM + tl.arange(0, BM)
    k = (tl.program_id(1) % COLS) * BN + tl.arange(0, BN)
    # Beyond the last channel it computes, from the last one's numbers, what is not stored.
    rn = tl.minimum(n, CO - 1) if CO % BM != 0 else n
    rk = tl.minimum(k, CI - 1) if CI % BN != 0 else k
    a0 = tl.zeros((BM, BN), tl.float32)
    a1 = tl.zeros((BM, BN), tl.float32)
    a2 = tl.zeros((BM, BN), tl.float32)
    start, end = s * per, s * per + per
    a0, a1, a2 = _row_of_taps(
        v, x, rn, rk, dy, t, start, end, pixels, padded, H, W, T, a0, a1, a2, CI, CO, BK, SPLIT
    )
    if TWO:
        a0, a1, a2 = _row_of_taps(
            v2, x2, rn, rk, dy, t, start, end, pixels, padded, H, W, T, a0, a1, a2, CI, CO, BK, SPLIT
        )
    place = ((s * T + t) * CO + n)[:, None] * (9 * CI) + (3 * (dy + 1) * CI + k)[None, :]
    known = (n < CO)[:, None] & (k < CI)[None, :]
    tl.store(out + place, a0, mask=known)
    tl.store(out + place + CI, a1, mask=known)
    tl.store(out + place + 2 * CI, a2, mask=known)


_exact: ContextVar[bool] = ContextVar("exact", default=False)


def precision() -> str:
    """How Triton is to multiply float32 numbers: as PyTorch is set, but within :func:`exactly`."""
    return "tf32" if not _exact.get() and tf32_setting().fp32_precision == "tf32" else "tf32x3"


@contextmanager
def exactly() -> Iterator[None]:
    """Without TF32, whatever PyTorch is set to. (Setting it, and setting it back, would not be the same.)"""
    before = _exact.set(True)
    try:
        yield
    finally:
        _exact.reset(before)


def convolution(pairs: Pairs, groups: int) -> Tensor:
    """Sum of convolutions, (B, groups·C_out, H, W), of one or two pairs of images with weights.

    Images (B, groups·C_in, H, W), float32 on CUDA, their channels last in memory; weights
    (parts, groups·C_out, 9, C_in), tap by tap, as ``Parameters.ahead`` has them.
    """
    return _convolved_by(pairs, groups, NOTHING, None)[0]


def convolution_asked(pairs: Pairs, groups: int, still: Still | None) -> tuple[Tensor, Answers]:
    """The same, with answers about it: as z, or as ż where there is z."""
    look = AT_REST if still is None else MOVING
    made, answers = _convolved_by(pairs, groups, look, still)
    assert answers is not None
    return made, answers


def _convolved_by(
    pairs: Pairs, groups: int, look: tl.constexpr, still: Still | None
) -> tuple[Tensor, Answers | None]:
    (x, w), (x2, w2) = pairs[0], pairs[-1]
    batch, _, height, width = x.shape
    out_of, into = w.shape[1] // groups, w.shape[3]
    out = empty_last(x, (batch, groups * out_of, height, width))
    block_n = min(64, power_of_2(out_of))
    pixels = batch * height * width if look == NOTHING else by_pools_of(out)
    columns = groups * triton.cdiv(out_of, block_n)
    # Small ones are cut so that the whole GPU takes part.
    block_m = 64 if columns * triton.cdiv(pixels, 64) > 64 else 32
    answers = None if look == NOTHING else Answers.about(out, block_m, still)
    asked = (out,) * 8 if answers is None else answers.arguments(out, still)
    launch(
        _convolution, (triton.cdiv(pixels, block_m), groups, columns // groups),
        x, w, x2, w2, out, *asked, pixels, height, width, groups, w[0].numel(),
        CI=into, CO=out_of, TWO=len(pairs) > 1, LOOK=look, BM=block_m, BN=block_n,
        BK=min(32, power_of_2(into)), SPLIT=precision() != "tf32", num_warps=4, num_stages=3,
    )  # fmt: skip
    return out, answers


def by_channels(images: Tensor) -> Tensor:
    """Images (B, C, H, W), their channels last in memory, as (C, B·H·W), with zeros up to a multiple of 64.

    So Tensor Cores take a factor of a sum over pixels.
    """
    batch, channels, height, width = images.shape
    pixels = batch * height * width
    padded = triton.cdiv(pixels, _ALIGNED) * _ALIGNED
    made = images.new_empty(channels, padded)
    grid = (padded // _ALIGNED, triton.cdiv(channels, 32))
    launch(_by_channels, grid, images, made, pixels, padded, channels, BP=_ALIGNED, BC=32)
    return made


def weight_gradients(pairs: Pairs, groups: int) -> Tensor:
    """Sum of the gradients with respect to the weights, of one or two pairs of cotangents with images.

    Cotangents (B, groups·C_out, H, W), their channels last in memory; images as :func:`by_channels` lays them
    out. In shares that are still to be summed: (shares, groups·C_out, 9, C_in).
    """
    (v, x), (v2, x2) = pairs[0], pairs[-1]
    batch, channels, height, width = v.shape
    into, out_of = len(x) // groups, channels // groups
    block_m, block_n, block_k = min(64, power_of_2(out_of)), min(64, power_of_2(into)), 32
    programs = 3 * triton.cdiv(out_of, block_m) * triton.cdiv(into, block_n)
    pixels = batch * height * width
    shares, per = shared(pixels, block_k, programs * groups, AT_ONCE)
    parts = x.new_empty(shares, groups * out_of, 9, into)
    launch(
        _weight_gradient, (shares, programs, groups),
        v, x, v2, x2, parts, pixels, x.shape[1], height, width, groups, per,
        CI=into, CO=out_of, TWO=len(pairs) > 1, BM=block_m, BN=block_n, BK=block_k,
        SPLIT=precision() != "tf32", num_warps=4, num_stages=3,
    )  # fmt: skip
    return parts


def power_of_2(number: int) -> int:
    """The least that is not below, as Tensor Cores take it: at least 16."""
    return max(16, 1 << (number - 1).bit_length())
