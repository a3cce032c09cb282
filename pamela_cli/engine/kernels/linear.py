"""The classifier as a Triton kernel: with few outputs, a matrix product takes four times as long."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from pamela_cli.engine.kernels.launch import launch

_OUTPUTS, _INPUTS = 8, 512
"""What a program takes at a time."""


@triton.jit(do_not_specialize=["outputs", "of_rows", "of_rows2"])
def _linear(
    x, w, x2, w2, bias, out, outputs,
    of_tasks, of_rows, of_weights, of_tasks2, of_rows2, of_weights2, of_bias,
    K: tl.constexpr, TWO: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """out[t, row, n] = bias[t, n] + Σ x[t, row, k]·w[t, n, k], and that of x2 and w2.

    ``of_…`` are strides.
    """
    row, t = tl.program_id(0), tl.program_id(1)
    n = tl.program_id(2) * BN + tl.arange(0, BN)
    known = n < outputs
    total = tl.zeros((BN, BK), tl.float32)
    for start in range(0, K, BK):
        k = start + tl.arange(0, BK)
        ok = known[:, None] & (k < K)[None, :]
        given = tl.load(x + t * of_tasks + row * of_rows + k, mask=k < K, other=0.0)[None, :]
        total += given * tl.load(w + t * of_weights + n[:, None] * K + k[None, :], mask=ok, other=0.0)
        if TWO:
            given = tl.load(x2 + t * of_tasks2 + row * of_rows2 + k, mask=k < K, other=0.0)[None, :]
            total += given * tl.load(w2 + t * of_weights2 + n[:, None] * K + k[None, :], mask=ok, other=0.0)
    found = tl.sum(total, 1) + tl.load(bias + t * of_bias + n, mask=known, other=0.0)
    tl.store(out + (t * tl.num_programs(0) + row) * outputs + n, found, mask=known)


def linear(bias: Tensor, pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
    """``bias`` (T, out) plus the sum of ``x @ w.mT`` of one or two pairs: x (T, B, in), w (T, out, in).

    A task's weights lie one beside the other in memory.
    """
    # So do features, unless there is one filter.
    pairs = [(x if x.stride(2) == 1 else x.contiguous(), w) for x, w in pairs]
    (x, w), (x2, w2) = pairs[0], pairs[-1]
    tasks, rows, inputs = x.shape
    outputs = w.shape[1]
    out = x.new_empty(tasks, rows, outputs)
    launch(
        _linear, (rows, tasks, triton.cdiv(outputs, _OUTPUTS)),
        x, w, x2, w2, bias, out, outputs, x.stride(0), x.stride(1), w.stride(0), x2.stride(0), x2.stride(1),
        w2.stride(0), bias.stride(0), K=inputs, TWO=len(pairs) > 1, BN=_OUTPUTS,
        BK=min(_INPUTS, triton.next_power_of_2(inputs)),
    )  # fmt: skip
    return out
