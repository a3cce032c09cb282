"""Random numbers that are a pure function of their address.

A task is drawn by (stream, seed, step, index) alone: no generator state has to be kept, and any
worker on any device draws the same task. The bits come from the finaliser of SplitMix64 (Steele et
al., 2014), applied once per coordinate of the address, in PyTorch integers, on the device of its
tensors.
"""

from __future__ import annotations

from operator import index

import torch
from torch import Tensor

_GAMMA = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB
_WORD = (1 << 64) - 1


def _signed(value: int) -> int:
    """The int64 with the bits of a 64-bit word: PyTorch has no unsigned arithmetic."""
    value &= _WORD
    return value - (1 << 64) if value >> 63 else value


def _shift_right(x: Tensor, by: int) -> Tensor:
    """Logical shift; PyTorch's copies the sign."""
    return (x >> by) & ((1 << (64 - by)) - 1)


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shift_right(x, 30)) * _signed(_MIX_1)
    x = (x ^ _shift_right(x, 27)) * _signed(_MIX_2)
    return x ^ _shift_right(x, 31)


def _mix_int(x: int) -> int:
    x = ((x ^ (x >> 30)) * _MIX_1) & _WORD
    x = ((x ^ (x >> 27)) * _MIX_2) & _WORD
    return x ^ (x >> 31)


def random_bits(*address: int | Tensor) -> Tensor:
    """63 random bits (int64, ≥ 0) for each address; integers and int64 tensors that broadcast.

    Integers before the first tensor are mixed in Python, which is a hundred times faster.
    """
    known, rest = 0, list(address)
    while rest and not isinstance(rest[0], Tensor):
        known = _mix_int((((known ^ index(rest.pop(0))) & _WORD) + _GAMMA) & _WORD)
    state = torch.full((), _signed(known), dtype=torch.int64, device="cpu")
    for coordinate in rest:
        word = coordinate if isinstance(coordinate, Tensor) else _signed(index(coordinate))
        state = _mix((state ^ word) + _signed(_GAMMA))
    return _shift_right(state, 1)


def random_uniform(*address: int | Tensor) -> Tensor:
    """Uniform in [0, 1), float64, for each address."""
    return (random_bits(*address) >> 10).double() * 2.0**-53
