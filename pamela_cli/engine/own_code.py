"""Whether layers are computed by this project's own code: C functions on the CPU, Triton's kernels on CUDA.

It is a property of the process, for each type of device; ``compiling.py`` decides when it may be set.
"""

from __future__ import annotations

import torch
from torch import Tensor

in_use = {"cpu": False, "cuda": False}
"""By the type of the device."""

_MOST_NUMBERS = 2**31 - 2**25
"""Kernels count the numbers of a tensor in 32 bits; some round its pixels up."""


def suits_kernels(images: Tensor, filters: int) -> bool:
    """Whether kernels are in use, and can compute a block: float32 on CUDA, and no tensor too large.

    Triton starts them on the current device, which need not be that of the images in somebody else's program.
    ``images`` (B, T·C, H, W), to be convolved with so many filters of all tasks.
    """
    return (
        in_use["cuda"]
        and images.device.type == "cuda"
        and images.dtype == torch.float32
        and images.device.index == torch.cuda.current_device()
        and images.numel() // images.shape[1] * max(filters, images.shape[1]) <= _MOST_NUMBERS
    )
