"""3×3 convolutions of several tasks, and their gradients, as Triton kernels.

A task's channels lie together, the tasks side by side: (B, T·C, H, W) with the channels last in memory. cuDNN
computes such grouped convolutions by transposing back and forth, and float32 without Tensor Cores. Here the
Tensor Cores multiply; for float32 every factor is the sum of two TF32 numbers, and three of the four products
are computed, which rounds about as float32 does ("tf32x3").

Most derivatives need the sum of two convolutions, or of two gradients: one kernel computes both.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from pamela_cli.engine.device import tf32_setting
from pamela_cli.engine.kernels.shares import shared

Pairs = list[tuple[Tensor, Tensor]]

FEW_CHANNELS = 7
"""Up to so many channels, those of all taps are one chunk: images themselves."""

_VARY = ["pixels", "H", "W", "T", "per"]
"""No kernel of their own for some values of these."""


@triton.jit
def upper(value):
    """What Tensor Cores take of a float32 number: TF32, the lowest 13 bits zero."""
    return (value.to(tl.int32, bitcast=True) & -8192).to(tl.float32, bitcast=True)


@triton.jit
def _product(a, w, at, known, lower, acc, SPLIT: tl.constexpr):
    """acc + a @ w; SPLIT: to the precision of float32, with the lower parts of the weights ``lower`` on."""
    b = tl.load(w + at, mask=known, other=0.0)
    if SPLIT:
        high = upper(a)
        acc = tl.dot(a - high, b, acc, input_precision="tf32")
        acc = tl.dot(high, tl.load(w + lower + at, mask=known, other=0.0), acc, input_precision="tf32")
        return tl.dot(high, b, acc, input_precision="tf32")
    return tl.dot(a, b, acc, input_precision="tf32")


@triton.jit
def _convolved(
    x, w, px, py, m, n, t, H, W, T, lower, pixels, acc,
    CI: tl.constexpr, CO: tl.constexpr, FLAT: tl.constexpr, BK: tl.constexpr, SPLIT: tl.constexpr,
):  # fmt: skip
    """acc[m, n] + Σ x[m + tap, t, k]·w[t, n, tap, k]."""
    inside = m < pixels
    weights = ((t * CO + n) * (9 * CI))[None, :]
    if FLAT:
        c = tl.arange(0, BK)
        down = (c // CI // 3 - 1)[None, :]
        right = (c // CI % 3 - 1)[None, :]
        y = py[:, None] + down
        at = px[:, None] + right
        ok = inside[:, None] & (c < 9 * CI)[None, :] & (y >= 0) & (y < H) & (at >= 0) & (at < W)
        rows = (m[:, None] + down * W + right) * (T * CI) + t * CI + (c % CI)[None, :]
        known = (c < 9 * CI)[:, None] & (n < CO)[None, :]
        a = tl.load(x + rows, mask=ok, other=0.0)
        acc = _product(a, w, weights + c[:, None], known, lower, acc, SPLIT)
    else:
        chunks: tl.constexpr = (CI + BK - 1) // BK
        for i in range(9 * chunks):
            tap = i // chunks
            k = (i % chunks) * BK + tl.arange(0, BK)
            dy = tap // 3 - 1
            dx = tap % 3 - 1
            there = inside & (py + dy >= 0) & (py + dy < H) & (px + dx >= 0) & (px + dx < W)
            pixels_at = ((m + dy * W + dx) * (T * CI) + t * CI)[:, None] + k[None, :]
            b = tl.load(x + pixels_at, mask=there[:, None] & (k < CI)[None, :], other=0.0)
            filled = (k < CI)[:, None] & (n < CO)[None, :]
            acc = _product(b, w, weights + (tap * CI + k)[:, None], filled, lower, acc, SPLIT)
    return acc


@triton.jit(do_not_specialize=_VARY)
def _convolution(
    x, w, x2, w2, out, pixels, H, W, T, lower,
    CI: tl.constexpr, CO: tl.constexpr, TWO: tl.constexpr, FLAT: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, SPLIT: tl.constexpr,
):  # fmt: skip
    """out[m, t, n] = Σ x[m + tap, t, k]·w[t, n, tap, k], and the same of x2 and w2.

    FLAT: taps and channels in one chunk.
    """
    t = tl.program_id(1)
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.program_id(2) * BN + tl.arange(0, BN)
    px = m % W
    py = (m // W) % H
    acc = tl.zeros((BM, BN), tl.float32)
    acc = _convolved(x, w, px, py, m, n, t, H, W, T, lower, pixels, acc, CI, CO, FLAT, BK, SPLIT)
    if TWO:  # one after the other: side by side they would take twice the memory of a multiprocessor
        acc = _convolved(x2, w2, px, py, m, n, t, H, W, T, lower, pixels, acc, CI, CO, FLAT, BK, SPLIT)
    made = (m * (T * CO) + t * CO)[:, None] + n[None, :]
    tl.store(out + made, acc, mask=(m < pixels)[:, None] & (n < CO)[None, :])


@triton.jit
def _row_of_taps(
    v, x, n, k, dy, t, start, end, pixels, H, W, T, a0, a1, a2,
    CI: tl.constexpr, CO: tl.constexpr, BK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Adds what the three taps of a row give."""
    for first in range(start, end, BK):
        m = first + tl.arange(0, BK)
        px = m % W
        py = (m // W) % H
        here = (m < pixels) & (py + dy >= 0) & (py + dy < H)
        a = tl.load(v + (m * (T * CO) + t * CO)[None, :] + n[:, None], mask=here[None, :], other=0.0)
        at = ((m + dy * W) * (T * CI) + t * CI)[:, None] + k[None, :]
        b = tl.load(x + at - T * CI, mask=(here & (px > 0))[:, None], other=0.0)
        a0 = tl.dot(a, b, a0, input_precision=PRECISION)
        a1 = tl.dot(a, tl.load(x + at, mask=here[:, None], other=0.0), a1, input_precision=PRECISION)
        b = tl.load(x + at + T * CI, mask=(here & (px < W - 1))[:, None], other=0.0)
        a2 = tl.dot(a, b, a2, input_precision=PRECISION)
    return a0, a1, a2


@triton.jit(do_not_specialize=_VARY)
def _weight_gradient(
    v, x, v2, x2, out, pixels, H, W, T, per,
    CI: tl.constexpr, CO: tl.constexpr, TWO: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """out[s, t, n, tap, k] = Σ v[m, t, n]·x[m + tap, t, k] over share s of pixels, and that of v2 and x2."""
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
        v, x, rn, rk, dy, t, start, end, pixels, H, W, T, a0, a1, a2, CI, CO, BK, PRECISION
    )
    if TWO:
        a0, a1, a2 = _row_of_taps(
            v2, x2, rn, rk, dy, t, start, end, pixels, H, W, T, a0, a1, a2, CI, CO, BK, PRECISION
        )
    place = ((s * T + t) * CO + n)[:, None] * (9 * CI) + (3 * (dy + 1) * CI + k)[None, :]
    known = (n < CO)[:, None] & (k < CI)[None, :]
    tl.store(out + place, a0, mask=known)
    tl.store(out + place + CI, a1, mask=known)
    tl.store(out + place + 2 * CI, a2, mask=known)


@triton.jit(do_not_specialize=_VARY)
def _weight_gradient_of_few(
    v, x, v2, x2, out, pixels, H, W, T, per,
    CI: tl.constexpr, CO: tl.constexpr, TWO: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The same where all taps and channels are one chunk."""
    s = tl.program_id(0)
    t = tl.program_id(2)
    n = tl.program_id(1) * BM + tl.arange(0, BM)
    k = tl.arange(0, BN)
    dy = (k // CI // 3 - 1)[None, :]
    dx = (k // CI % 3 - 1)[None, :]
    acc = tl.zeros((BM, BN), tl.float32)
    for start in range(s * per, s * per + per, BK):
        m = start + tl.arange(0, BK)
        y = ((m // W) % H)[:, None] + dy
        at = (m % W)[:, None] + dx
        inside = m < pixels
        ok = inside[:, None] & (k < 9 * CI)[None, :] & (y >= 0) & (y < H) & (at >= 0) & (at < W)
        filled = inside[None, :] & (n < CO)[:, None]
        at_v = (m * (T * CO) + t * CO)[None, :] + n[:, None]
        at_x = (m[:, None] + dy * W + dx) * (T * CI) + t * CI + (k % CI)[None, :]
        a = tl.load(v + at_v, mask=filled, other=0.0)
        acc = tl.dot(a, tl.load(x + at_x, mask=ok, other=0.0), acc, input_precision=PRECISION)
        if TWO:
            a = tl.load(v2 + at_v, mask=filled, other=0.0)
            acc = tl.dot(a, tl.load(x2 + at_x, mask=ok, other=0.0), acc, input_precision=PRECISION)
    place = ((s * T + t) * CO + n)[:, None] * (9 * CI) + k[None, :]
    tl.store(out + place, acc, mask=(n < CO)[:, None] & (k < 9 * CI)[None, :])


def precision() -> str:
    """How Triton is to multiply float32 numbers."""
    return "tf32" if tf32_setting().fp32_precision == "tf32" else "tf32x3"


def convolution(pairs: Pairs, groups: int) -> Tensor:
    """Sum of convolutions, (B, groups·C_out, H, W), of one or two pairs of images with weights.

    Images (B, groups·C_in, H, W), float32 on CUDA, their channels last in memory; weights
    (2, groups·C_out, 9, C_in), tap by tap: what TF32 takes of each, and the rest.
    """
    (x, w), (x2, w2) = pairs[0], pairs[-1]
    batch, _, height, width = x.shape
    out_of, into = w.shape[1] // groups, w.shape[3]
    shape = (batch, groups * out_of, height, width)
    out = torch.empty(shape, device=x.device, dtype=x.dtype, memory_format=torch.channels_last)
    flat = into <= FEW_CHANNELS
    block_n = min(64, _power(out_of))
    block_k = _power(9 * into) if flat else min(32, _power(into))
    pixels = batch * height * width
    columns = groups * triton.cdiv(out_of, block_n)
    block_m = 64 if columns * triton.cdiv(pixels, 64) > 64 else 32
    _convolution[(triton.cdiv(pixels, block_m), groups, columns // groups)](
        x, w, x2, w2, out, pixels, height, width, groups, w[0].numel(),
        CI=into, CO=out_of, TWO=len(pairs) > 1, FLAT=flat,
        BM=block_m, BN=block_n, BK=block_k, SPLIT=precision() != "tf32", num_warps=4, num_stages=3,
    )  # fmt: skip
    return out


def weight_gradients(pairs: Pairs, groups: int) -> Tensor:
    """Sum of the gradients with respect to the weights, of cotangents (B, groups·C_out, H, W) with images.

    In shares that are still to be summed: (shares, groups·C_out, 9, C_in).
    """
    (v, x), (v2, x2) = pairs[0], pairs[-1]
    batch, channels, height, width = x.shape
    into, out_of = channels // groups, v.shape[1] // groups
    flat = into <= FEW_CHANNELS
    block_m = min(64 if flat else 32, _power(out_of))
    block_n = _power(9 * into) if flat else min(64, _power(into))
    block_k = 16 if flat else 32
    programs = triton.cdiv(out_of, block_m) * (1 if flat else 3 * triton.cdiv(into, block_n))
    pixels = batch * height * width
    shares, per = shared(pixels, block_k, programs * groups)
    parts = x.new_empty(shares, groups * out_of, 9, into)
    kernel = _weight_gradient_of_few if flat else _weight_gradient
    kernel[(shares, programs, groups)](
        v, x, v2, x2, parts, pixels, height, width, groups, per,
        CI=into, CO=out_of, TWO=len(pairs) > 1, BM=block_m, BN=block_n, BK=block_k,
        PRECISION=precision(), num_warps=4, num_stages=4 if flat else 3,
    )  # fmt: skip
    return parts


def _power(number: int) -> int:
    """The least power of 2 that is not below, as Tensor Cores take it: at least 16."""
    return max(16, 1 << (number - 1).bit_length())
