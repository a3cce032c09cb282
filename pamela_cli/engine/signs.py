"""Negative scales of batch norm: with a kernel, one is a positive scale with the kernel's negative."""

from __future__ import annotations

import torch
from torch import Tensor


def negative_scales(scale: Tensor) -> Tensor | None:
    """−1 where ``scale`` is negative, 1 elsewhere; None if it is known that there is no negative one."""
    # Only on the CPU can one ask without waiting.
    if scale.device.type == "cpu" and not (scale < 0).any():
        return None
    return torch.copysign(torch.ones_like(scale), scale)


def signed(t: Tensor, sign: Tensor | None) -> Tensor:
    """``t`` (T, channels, …) times ``sign``."""
    return t if sign is None else t * sign.view(*sign.shape, *[1] * (t.dim() - 2))
