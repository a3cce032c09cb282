"""Operations of the networks as plain functions: the 3×3 convolution with its two gradients, and products.

A convolution is bilinear: its tangent, and the tangents of its gradients, are again convolutions and such
gradients. Written this way, all derivatives of the meta-gradient use the fast kernels of the forward pass;
PyTorch's own double backward transposes and copies.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def conv3x3(x: Tensor, weight: Tensor, groups: int = 1) -> Tensor:
    """3×3 convolution, stride 1, padding 1, no bias.

    ``x`` (B, groups·C_in, H, W), ``weight`` (groups·C_out, C_in, 3, 3) → (B, groups·C_out, H, W).
    """
    return F.conv2d(x, weight, padding=1, groups=groups)


def conv3x3_gradients(
    v: Tensor, x: Tensor, weight: Tensor, groups: int = 1, to_input: bool = True
) -> tuple[Tensor | None, Tensor]:
    """Cotangents of ``x`` (None unless ``to_input``) and ``weight`` from that of the convolution."""
    to_x, to_weight = conv3x3_backward(v, x, weight, groups, (to_input, True))
    assert to_weight is not None
    return to_x, to_weight


def conv3x3_backward(
    v: Tensor, x: Tensor, weight: Tensor, groups: int, wanted: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Cotangents of ``x`` and ``weight``, those of the two that are ``wanted``."""
    ones, zeros = [1, 1], [0, 0]
    to_x, to_weight, _ = torch.ops.aten.convolution_backward(
        v, x, weight, None, ones, ones, ones, False, zeros, groups, [*wanted, False]
    )
    return to_x, to_weight


def product(a: Tensor, b: Tensor) -> Tensor:
    """``a @ b`` for ``a`` (T, m, k) and ``b`` (T, k, n).

    Where k is 1 it is an outer product: PyTorch on CUDA, from 2.13 on, would have Triton build a kernel for
    that, which takes a C compiler and Python's headers, and fails without.
    """
    return a * b if a.shape[2] == 1 else torch.bmm(a, b)
