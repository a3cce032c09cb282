"""Tensors with their channels last in memory, as this project's own code takes them."""

from __future__ import annotations

import torch
from torch import Tensor


def channels_last(t: Tensor) -> Tensor:
    """The tensor (B, C, H, W) itself if its channels are last in memory, else such a copy."""
    return t.contiguous(memory_format=torch.channels_last)


def empty_last(like: Tensor, shape: tuple[int, ...], dtype: torch.dtype | None = None) -> Tensor:
    """A tensor of that shape, its channels last in memory, where ``like`` is, of its type or another."""
    return torch.empty(
        shape, dtype=dtype or like.dtype, device=like.device, memory_format=torch.channels_last
    )
