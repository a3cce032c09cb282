"""The layer of ``engine/norm_pool.py`` as Triton kernels, for float32 on CUDA.

Tensors are stored channels-last. What is asked of the large ones is found while they are made (``pools.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch import Tensor

from pamela_cli.engine.channels_last import channels_last, empty_last
from pamela_cli.engine.kernels import norm_pool_kernels as kernel
from pamela_cli.engine.kernels import pools
from pamela_cli.engine.kernels.launch import launch
from pamela_cli.engine.kernels.shares import shared

_POOLS, _PIXELS, _CHANNELS = 32, 8, 64
"""What a program takes at a time: pools, pixels, channels."""
_SHARES, _FEW = 512, 8
"""Where it only adds up: shares, channels."""


@dataclass(frozen=True)
class Still:
    """What answers about ż need: z, its means and (variance + eps)^−½, and which pixels pools took."""

    z: Tensor
    mean: Tensor
    r: Tensor
    taken: Tensor


@dataclass(frozen=True)
class Answers:
    """What ``pools.ask`` finds of a tensor; see there."""

    pooled: Tensor
    taken: Tensor
    parts: Tensor
    counts: Tensor

    @classmethod
    def about(cls, values: Tensor, block: int, still: Still | None) -> Answers:
        """To be filled, for ``values`` (B, C, H, W) in blocks of so many pixels."""
        batch, channels, height, width = values.shape
        shape = (batch, channels, height // 2, width // 2)
        blocks = triton.cdiv(by_pools_of(values), block)
        return cls(
            empty_last(values, shape),
            empty_last(values, shape, torch.int8) if still is None else still.taken,
            values.new_empty(2, blocks, channels),
            values.new_empty(blocks) if still is None else still.mean,  # where it moves, nothing is counted
        )

    def arguments(self, values: Tensor, still: Still | None) -> tuple[Tensor, ...]:
        """For the kernels: z, mean, r, pooled, taken, first, second, counts."""
        about = (values,) * 3 if still is None else (still.z, still.mean, still.r)  # not read AT_REST
        return *about, self.pooled, self.taken, *self.parts, self.counts


def by_pools_of(values: Tensor) -> int:
    """The pixels of (B, C, H, W), those beyond odd sides with them."""
    batch, _, height, width = values.shape
    return batch * triton.cdiv(height, 2) * triton.cdiv(width, 2) * 4


def answers_of(values: Tensor, still: Still | None) -> Answers:
    """Of a tensor (B, C, H, W) that is there already: z, or ż where there is z."""
    channels, height, width = values.shape[1:]
    found = Answers.about(values, _POOLS, still)
    launch(
        pools.ask_of, (found.parts.shape[1], triton.cdiv(channels, _CHANNELS)),
        values, *found.arguments(values, still), by_pools_of(values), height, width, channels,
        LOOK=pools.AT_REST if still is None else pools.MOVING, BP=_POOLS, BC=_wide(channels),
    )  # fmt: skip
    return found


def stats_of(answers: Answers, pixels: int, eps: float) -> tuple[Tensor, Tensor]:
    """Each channel's mean and (variance + eps)^−½, (C,), from what was found of z."""
    channels = answers.parts.shape[2]
    mean, r = answers.parts.new_empty(2, channels)
    launch(
        kernel.stats_together, (triton.cdiv(channels, _FEW),),
        *answers.parts, answers.counts, mean, r, pixels, len(answers.counts), channels, eps,
        BS=_SHARES, BC=_FEW,
    )  # fmt: skip
    return mean, r


def together(parts: Tensor) -> Tensor:
    """Two sums of each channel from those of the shares: (2, shares, C) → (2, C)."""
    _, shares, channels = parts.shape
    sums = parts.new_empty(2, channels)
    launch(
        kernel.together, (triton.cdiv(channels, _FEW), 2), parts, sums, shares, channels, BS=_SHARES, BC=_FEW
    )
    return sums


@dataclass(frozen=True)
class Cotangents:
    """What a gradient finds: the cotangents of scale and shift, (C,), and what kernels make that of z of.

    ``moving``: how these move.
    """

    to_scale: Tensor
    to_shift: Tensor
    v: Tensor
    v_tangent: Tensor
    terms: tuple[Tensor, ...]
    moving: bool


class TritonNormPool:
    """The layer where pools took z, which has so many ``pixels``; called in the order of a ``NormPool``.

    ``about`` are z's means and (variance + eps)^−½, (C,).
    """

    def __init__(
        self, pooled: Tensor, about: tuple[Tensor, Tensor], scale: Tensor, shift: Tensor, pixels: int
    ) -> None:
        batch, self._channels, height, width = pooled.shape
        self._pixels, self._count = pixels, batch * height * width
        self._about = (*about, scale, shift)
        self.pooled, self.out = pooled, torch.empty_like(pooled)
        self._at_pools(kernel.output, pooled, *self._about, self.out, self._count)

    def gradient(self, v: Tensor) -> Cotangents:
        """From the cotangent of ``out``."""
        self._v = channels_last(v)
        sums = self._sums = self._summed(kernel.gradient_sums, self._v, self.pooled, *self._about)
        # Where nothing moves, anything stands for how: it is not read.
        terms = *self._about, self._about[2], sums, sums, sums
        return Cotangents(sums[1], sums[0], self._v, self._v, terms, moving=False)

    def tangent(self, pooled: Tensor, moments: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """How ``out`` moves as its inputs do, along ``scale`` and ``shift``.

        Of ż there are ``pooled``, where pools took z, which is overwritten, and ``moments`` (2, C).
        """
        self._x_tangent, self._moments, self._scale_tangent = pooled, moments, scale
        moved = torch.empty_like(self.out)
        self._at_pools(
            kernel.tangent, pooled, self.pooled, *self._about, scale, shift, moments, moved, self._count,
            self._pixels,
        )  # fmt: skip
        return moved

    def gradient_tangent(self, v: Tensor) -> Cotangents:
        """How :meth:`gradient` moves with them, and with its cotangent along ``v``."""
        v = channels_last(v)
        about = self.pooled, self._x_tangent, *self._about
        sums = self._summed(kernel.gradient_tangent_sums, self._v, v, *about)
        terms = *self._about, self._scale_tangent, self._sums, sums, self._moments
        return Cotangents(sums[1], sums[0], self._v, v, terms, moving=True)

    @property
    def _columns(self) -> int:
        return triton.cdiv(self._channels, _CHANNELS)

    def _summed(self, made_by: Any, *tensors: Tensor) -> Tensor:
        """The two sums (2, C) that ``made_by`` makes over the pools."""
        shares, per = shared(self._count, _POOLS, self._columns)
        parts = self.out.new_empty(2, shares, self._channels)
        launch(
            made_by,
            (shares, self._columns),
            *tensors,
            parts,
            self._count,
            per,
            self._channels,
            BP=_POOLS,
            BC=_wide(self._channels),
        )
        return together(parts)

    def _at_pools(self, made_by: Any, *arguments: object) -> None:
        grid = (triton.cdiv(self._count, _POOLS), self._columns)
        launch(made_by, grid, *arguments, self._channels, BP=_POOLS, BC=_wide(self._channels))


def to_z(found: Cotangents, pooled: Tensor, still: Still, z_tangent: Tensor | None = None) -> Tensor:
    """The cotangent of z, or how it moves with z, which moves along ``z_tangent``: (B, C, H, W)."""
    channels, height, width = still.z.shape[1:]
    pixels = still.z.numel() // channels
    made = torch.empty_like(still.z)
    launch(
        kernel.to_z, (triton.cdiv(pixels, _PIXELS), triton.cdiv(channels, _CHANNELS)),
        found.v, found.v_tangent, still.z, still.z if z_tangent is None else z_tangent, pooled, still.taken,
        *found.terms, made, pixels, height, width, channels, TANGENT=found.moving, BP=_PIXELS,
        BC=_wide(channels), num_warps=2,
    )  # fmt: skip
    return made


def _wide(channels: int) -> int:
    """What a program takes of so many."""
    return min(_CHANNELS, triton.next_power_of_2(channels))
