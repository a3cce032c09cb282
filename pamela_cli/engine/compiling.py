"""Whether this project's own code for a device is available and correct there: float32 is tried first."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from data_prep.errors import first_line
from pamela_cli.engine import own_code
from pamela_cli.engine.backbones.conv4_gradient import BATCH_NORM_EPS, Block, BlockGradient, Linear, linear
from pamela_cli.engine.c_functions import c_functions
from pamela_cli.engine.conv_compiled import CompiledConv, compiled_conv
from pamela_cli.engine.first_compiled import CompiledFirstBlock, first_block_library
from pamela_cli.engine.kernels.beside import beside
from pamela_cli.engine.norm_pool import NormPool, TorchNormPool
from pamela_cli.engine.norm_pool_compiled import CompiledNormPool
from pamela_cli.engine.ops import conv3x3_backward

_CPU = torch.device("cpu")
_LEAST_CAPABILITY = (8, 0)
"""Of CUDA devices: from there on their Tensor Cores support TF32."""

_LAYERS = [(2, 17, 5, 7), (4, 65, 12, 12)]
"""Shapes to try, one of which threads share; at their numbers no pool and no ReLU is a matter of rounding."""


_CONVOLUTIONS = [(2, 32, 64, 5, 10), (1, 64, 32, 6, 8), (2, 1, 32, 5, 7), (1, 3, 64, 4, 8)]
"""Tasks, channels, filters, height and width: odd sides, and channels for vectors of every width."""

_FIRST_BLOCKS = [(1, 5, 3, 64, 12, 12), (1, 5, 1, 32, 13, 7)]
"""As of ``block_results``; threads share the first."""

FORBIDDEN = "PAMELA_COMPILE=0"
"""The reason of who wants no compiled code."""

_WRONG = "it computes something else here than PyTorch's operations"


def use_compiled(wanted: bool, device: torch.device = _CPU) -> None:
    """Whether this process is to use its own code on such a device, if it is available and correct."""
    if device.type in own_code.in_use:
        own_code.in_use[device.type] = wanted and can_be_compiled(device)


def can_be_compiled(device: torch.device = _CPU) -> bool:
    """Whether there is compiled code for ``device`` that gives what PyTorch's operations give."""
    return why_not_compiled(device) is None


@cache
def why_not_compiled(device: torch.device = _CPU) -> str | None:
    """What keeps compiled code from being used on ``device``, in a few words; None if nothing does.

    On the CPU it needs a C compiler; on CUDA, Triton, which comes with PyTorch on Linux and needs one too.
    ``PAMELA_COMPILE=0`` forbids both.
    """
    if os.environ.get("PAMELA_COMPILE") == "0":
        return FORBIDDEN
    if device.type not in own_code.in_use:
        return f"there is none for {device.type} devices"
    return _why_no_c_functions() if device.type == "cpu" else _why_no_kernels(device)


def _why_no_c_functions() -> str | None:
    functions, convolutions = c_functions("norm_pool", torch.float32), compiled_conv(torch.float32)
    first = first_block_library(torch.float32)
    if functions is None or convolutions is None or first is None:
        return "no C compiler (cc) works here"
    ours = partial(CompiledNormPool, functions)
    layers = all(_agree(_layer(ours, shape), _layer(TorchNormPool, shape)) for shape in _LAYERS)
    right = layers and all(_convolves(convolutions, *shape) for shape in _CONVOLUTIONS)
    return None if right and all(_begins(*shape) for shape in _FIRST_BLOCKS) else _WRONG


def _begins(*shape: int) -> bool:
    """Whether a first block of that shape, and its derivatives, are PyTorch's in float64."""

    def ours(images: Tensor, weight: Tensor, scale: Tensor, shift: Tensor, first: bool) -> BlockGradient:
        own = CompiledFirstBlock.where_it_suits(images, weight, scale, shift, BATCH_NORM_EPS)
        return own or Block(images, weight, scale, shift, first)

    before, own_code.in_use["cpu"] = own_code.in_use["cpu"], False  # so that Block is PyTorch's alone
    try:
        found = block_results(ours, shape, _CPU, torch.float32, first=True)
        return _agree(found, block_results(Block, shape, _CPU, torch.float64, first=True))
    finally:
        own_code.in_use["cpu"] = before


def _convolves(ours: CompiledConv, tasks: int, channels: int, filters: int, height: int, width: int) -> bool:
    """Whether sums of two convolutions, and of their gradients, are PyTorch's in float64."""
    how = _always()

    def two(*shape: int) -> list[Tensor]:
        return [torch.randn(shape, **how) for _ in range(2)]

    images, v = two(2, tasks * channels, height, width), two(2, tasks * filters, height, width)
    weights = two(tasks * filters, channels, 3, 3)
    found = [
        ours.convolution([*zip(images, weights, strict=True)], tasks),
        ours.to_images([*zip(v, weights, strict=True)], tasks),
        ours.to_filters([*zip(images, v, strict=True)], tasks),
    ]
    triples = [[t.double() for t in triple] for triple in zip(v, images, weights, strict=True)]
    each = [
        (F.conv2d(x, w, padding=1, groups=tasks), *conv3x3_backward(v, x, w, tasks, (True, True)))
        for v, x, w in triples
    ]
    expected = [a + b for a, b in zip(*each, strict=True) if a is not None and b is not None]
    both = [(a, b) for a, b in zip(found, expected, strict=True) if a is not None]
    return _agree([a for a, _ in both], [b for _, b in both])


def _why_no_kernels(device: torch.device) -> str | None:
    if not torch.cuda.is_available():
        return "PyTorch finds no CUDA device"
    if torch.cuda.get_device_capability(device) < _LEAST_CAPABILITY:
        return "the GPU is older than NVIDIA's Ampere generation"
    try:
        return None if _kernels_agree(device) else _WRONG
    except Exception as error:  # no Triton, no compiler for what starts its kernels, or no memory to try
        return first_line(error)
    finally:
        beside.forget(device)


def _kernels_agree(device: torch.device) -> bool:
    from pamela_cli.engine.kernels.block import triton_block
    from pamela_cli.engine.kernels.conv import exactly
    from pamela_cli.engine.kernels.linear import linear as by_kernel

    ours = partial(triton_block, eps=BATCH_NORM_EPS)
    with torch.cuda.device(device), exactly():  # the device is where Triton starts kernels
        pairs = [
            (
                classifier_results(by_kernel, device, torch.float32),
                classifier_results(linear, device, torch.float64),
            )
        ]
        for channels, first in ((3, True), (24, False)):
            shape = (2, 3, channels, 17, 5, 7)
            found = block_results(ours, shape, device, torch.float32, first)
            pairs.append((found, block_results(Block, shape, device, torch.float64, first)))
        # At the sizes of training, only that they run: rounding may move a pool there.
        large = block_results(ours, (4, 9, 64, 64, 12, 12), device, torch.float32)
        return all(_agree(*pair) for pair in pairs) and all(bool(t.isfinite().all()) for t in large)


def classifier_results(by: Linear, device: torch.device, dtype: torch.dtype) -> list[Tensor]:
    """A classifier of two tasks, and the sum of two, with more classes and features than a program takes.

    Some features lie apart in memory, as those of one filter do.
    """
    how = _always()
    shapes = (2, 11), (2, 3, 700), (2, 11, 700), (3, 700, 2), (2, 11, 700)
    bias, *factors = (torch.randn(shape, **how).to(device, dtype) for shape in shapes)
    pairs = [(factors[0], factors[1]), (factors[2].permute(2, 0, 1), factors[3])]
    return [by(bias, pairs[:1]), by(bias, pairs)]


def _always() -> dict[str, Any]:
    """How numbers are drawn: the same ones each time, float32 on the CPU, whatever PyTorch's defaults are."""
    return {"generator": torch.Generator(_CPU).manual_seed(0), "dtype": torch.float32, "device": _CPU}


def _layer(layer: Callable[..., NormPool], shape: tuple[int, int, int, int]) -> list[Tensor]:
    """A layer's output at inputs of ``shape`` (B, C, H, W), and its derivatives there; float32 on the CPU."""
    how = _always()
    batch, channels, height, width = shape
    z, z_tangent = (torch.randn(shape, **how) for _ in range(2))
    v, v_tangent = (torch.randn(batch, channels, height // 2, width // 2, **how) for _ in range(2))
    scale, shift, *along = (torch.rand(channels, **how) for _ in range(4))
    at = layer(z, scale, shift, 1e-5)
    first, moved = at.gradient(v), at.tangent(z_tangent, *along)
    return [at.out, *first, moved, *at.gradient_tangent(v_tangent)]


def block_results(
    block: Callable[..., BlockGradient],
    shape: tuple[int, ...],
    device: torch.device,
    dtype: torch.dtype,
    first: bool = False,
) -> list[Tensor]:
    """A block's output and its derivatives, at scales of both signs.

    ``shape``: tasks, images, channels, filters, height, width. With ``first``, its images do not move.
    """
    tasks, batch, channels, filters, height, width = shape
    how = _always()

    def drawn(*shape: int) -> Tensor:
        t = torch.randn(shape, **how).to(device, dtype)
        return t.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else t

    images, moved = (drawn(batch, tasks * channels, height, width) for _ in range(2))
    v, v_moved = (drawn(batch, tasks * filters, height // 2, width // 2) for _ in range(2))
    shapes = (tasks, filters, channels, 3, 3), (tasks, filters), (tasks, filters)
    at, along = ([drawn(*each) for each in shapes] for _ in range(2))
    return derivatives(block(images, *at, first=first), at, None if first else moved, along, (v, v_moved))


def derivatives(
    made: BlockGradient,
    at: list[Tensor],
    moved: Tensor | None,
    along: list[Tensor],
    cotangents: tuple[Tensor, Tensor],
) -> list[Tensor]:
    """The output and all derivatives of a block that was made at the parameters ``at``.

    Its images move along ``moved``, if they do, and its parameters along ``along``; ``cotangents``: of the
    output, and how that moves.
    """
    filled = [[torch.full_like(t, torch.nan) for t in (at[0], at[1], at[1], at[2])] for _ in range(2)]
    found = [made.out, made.gradient(cotangents[0], filled[0]), made.tangent(moved, *along)]
    found += [made.gradient_tangent(cotangents[1], filled[1]), *filled[0], *filled[1]]
    made.wait()
    return [t for t in found if t is not None]


def _agree(found: list[Tensor], expected: list[Tensor]) -> bool:
    """Within the rounding of float32, beside the largest number."""
    return all(
        torch.allclose(a.double(), b.double(), rtol=1e-4, atol=1e-4 * max(1.0, float(b.abs().max())))
        for a, b in zip(found, expected, strict=True)
    )
