"""Operations of the networks as plain functions: the 3×3 convolution with its two gradients, and products.

A convolution is bilinear: its tangent, and the tangents of its gradients, are again sums of convolutions and
of such gradients. Written this way, all derivatives of the meta-gradient use the fast kernels of the forward
pass; PyTorch's own double backward transposes and copies.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor
from torch.nn import functional as F

from pamela_cli.engine.conv_compiled import CompiledConv, compiled_conv
from pamela_cli.engine.own_code import in_use
from pamela_cli.engine.sums import sum_in_place


def conv3x3(pairs: Sequence[tuple[Tensor, Tensor]], groups: int = 1) -> Tensor:
    """Σ over pairs of 3×3 convolutions, stride 1, padding 1, no bias.

    Each is of x (B, groups·C_in, H, W) with a weight (groups·C_out, C_in, 3, 3) → (B, groups·C_out, H, W).
    """
    ours = _compiled(*chain.from_iterable(pairs))
    found = None if ours is None else ours.convolution(pairs, groups)
    if found is None:
        found = sum_in_place([F.conv2d(x, weight, padding=1, groups=groups) for x, weight in pairs])
    return found


def conv3x3_gradients(
    triples: Sequence[tuple[Tensor, Tensor, Tensor]], groups: int = 1, to_input: bool = True
) -> tuple[Tensor | None, Tensor]:
    """Σ over triples (v, x, weight) of the cotangents of x (None unless ``to_input``) and of the weight.

    ``v`` is the cotangent of the convolution of x with the weight.
    """
    ours = _compiled(*chain.from_iterable(triples))
    to_x = to_weight = None
    if ours is not None:
        to_x = ours.to_images([(v, weight) for v, _, weight in triples], groups) if to_input else None
        to_weight = ours.to_filters([(x, v) for v, x, _ in triples], groups)
    wanted = to_input and to_x is None, to_weight is None
    left = [conv3x3_backward(*triple, groups, wanted) for triple in triples] if any(wanted) else []
    if wanted[0]:
        to_x = sum_in_place([found for found, _ in left if found is not None])
    if wanted[1]:
        to_weight = sum_in_place([found for _, found in left if found is not None])
    assert to_weight is not None
    return to_x, to_weight


def conv3x3_backward(
    v: Tensor, x: Tensor, weight: Tensor, groups: int, wanted: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Cotangents of ``x`` and ``weight``, those of the two that are ``wanted``, by PyTorch."""
    ones, zeros = [1, 1], [0, 0]
    to_x, to_weight, _ = torch.ops.aten.convolution_backward(
        v, x, weight, None, ones, ones, ones, False, zeros, groups, [*wanted, False]
    )
    return to_x, to_weight


def _compiled(*tensors: Tensor) -> CompiledConv | None:
    """The compiled convolutions where they are in use: on the CPU, if no gradients are recorded."""
    recorded = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
    if not in_use["cpu"] or recorded or tensors[0].device.type != "cpu":
        return None
    return compiled_conv(tensors[0].dtype)


def product(a: Tensor, b: Tensor) -> Tensor:
    """``a @ b`` for ``a`` (T, m, k) and ``b`` (T, k, n).

    Where k is 1 it is an outer product: PyTorch on CUDA, from 2.13 on, would have Triton build a kernel for
    that, which takes a C compiler and Python's headers, and fails without.
    """
    return a * b if a.shape[2] == 1 else torch.bmm(a, b)
