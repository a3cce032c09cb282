"""A block's parameters as its kernels take them, and their gradients as θ has them.

With small images, a GPU spends its time between kernels: so whatever is done to weights, signs and sums
besides the large tensors is done in as few kernels as possible.
"""

from __future__ import annotations

from dataclasses import dataclass

import triton
import triton.language as tl
from torch import Tensor

from pamela_cli.engine.kernels.conv import upper
from pamela_cli.engine.kernels.launch import launch

_SIDE, _NUMBERS = 32, 256
"""What a program takes: filters and channels of one tap; numbers of a gradient."""


@triton.jit
def _pack(
    weight, scale, shift, signs, ahead, back, scales, shifts, of_weight, of_scale, of_shift, of_signs,
    CO: tl.constexpr, CI: tl.constexpr, BACK: tl.constexpr, SPLIT: tl.constexpr,
    BN: tl.constexpr, BK: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """Weights by tap, with the scales' ``signs``: ahead[i, t, n, tap, k], back[i, t, k, 8 − tap, n].

    With SPLIT, i = 0 is what TF32 takes of each weight, and i = 1 the rest; without, 0 is all of it, and 1 is
    not written. ``of_…`` are strides from task to task.
    """
    t = tl.program_id(1)
    COLS: tl.constexpr = (CI + BK - 1) // BK
    tap = tl.program_id(0) % 9
    n = tl.program_id(0) // 9 // COLS * BN + tl.arange(0, BN)
    k = tl.program_id(0) // 9 % COLS * BK + tl.arange(0, BK)
    ok = (n < CO)[:, None] & (k < CI)[None, :]
    negative = tl.load(signs + t * of_signs + n, mask=n < CO, other=0.0) < 0
    value = tl.load(weight + t * of_weight + (n[:, None] * CI + k[None, :]) * 9 + tap, mask=ok, other=0.0)
    value = tl.where(negative[:, None], -value, value)
    high = upper(value) if SPLIT else value
    size = tl.num_programs(1) * CO * CI * 9
    to = ahead + ((t * CO + n[:, None]) * 9 + tap) * CI + k[None, :]
    tl.store(to, high, mask=ok)
    if SPLIT:
        tl.store(to + size, value - high, mask=ok)
    if BACK:
        to_back = back + ((t * CI + k[None, :]) * 9 + 8 - tap) * CO + n[:, None]
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
class Parameters:
    """A block's parameters, or how they move, as the kernels take them, with scales that are not negative.

    ``ahead`` (2, T·C_out, 9, C_in): what TF32 takes of the weights, and the rest; or (1, …), the weights
    themselves, where TF32 is all that is asked for. ``back`` (2, T·C_in, 9, C_out) alike, the taps turned
    round, or None where nothing goes back to images by kernels; ``scale`` and ``shift`` (T·C_out,).
    """

    ahead: Tensor
    back: Tensor | None
    scale: Tensor
    shift: Tensor

    @classmethod
    def of(
        cls, weight: Tensor, scale: Tensor, shift: Tensor, signed_by: Tensor, back: bool, split: bool
    ) -> Parameters:
        """Of ``weight`` (T, C_out, C_in, 3, 3), ``scale`` and ``shift`` (T, C_out), as θ holds them.

        Signs are those of the scales ``signed_by``. ``split``: what TF32 leaves of weights is wanted, too.
        """
        tasks, out_of, into = weight.shape[:3]
        inner, parts = min(_SIDE, triton.next_power_of_2(into)), 2 if split else 1
        found = cls(
            weight.new_empty(parts, tasks * out_of, 9, into),
            weight.new_empty(parts, tasks * into, 9, out_of) if back else None,
            *weight.new_empty(2, tasks * out_of),
        )
        launch(
            _pack, (9 * triton.cdiv(out_of, _SIDE) * triton.cdiv(into, inner), tasks),
            weight, scale, shift, signed_by, found.ahead,
            found.ahead if found.back is None else found.back,  # not written to without BACK
            found.scale, found.shift,
            *(t.stride(0) for t in (weight, scale, shift, signed_by)),
            CO=out_of, CI=into, BACK=back, SPLIT=split,
            BN=_SIDE, BK=inner, BC=triton.next_power_of_2(out_of),
        )  # fmt: skip
        return found

    @property
    def ahead_back(self) -> Tensor:
        """``back``, where there is one."""
        assert self.back is not None, "nothing goes back to these images by kernels"
        return self.back

    @property
    def as_filters(self) -> Tensor:
        """The weights as cuDNN knows them, (T·C_out, C_in, 3, 3) with the channels last in memory."""
        return self.ahead[0].unflatten(1, (3, 3)).permute(0, 3, 1, 2)

    @staticmethod
    def fill(
        parts: Tensor, to_scale: Tensor, to_shift: Tensor, signed_by: Tensor, into: list[Tensor]
    ) -> None:
        """Gradients to where they belong; that of the weights from ``parts`` (shares, T·C_out, 9, C_in)."""
        weight, bias, scale, shift = into
        tasks, out_of, inner = weight.shape[:3]
        launch(
            _fill, (triton.cdiv(out_of * inner * 9, _NUMBERS), tasks),
            parts, to_scale, to_shift, signed_by, weight, bias, scale, shift, len(parts),
            *(t.stride(0) for t in (signed_by, *into)),
            CO=out_of, CI=inner, BS=8, BE=_NUMBERS, BC=triton.next_power_of_2(out_of),
        )  # fmt: skip
