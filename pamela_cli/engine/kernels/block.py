"""One block of Conv4, [convolution → batch norm → ReLU → pool], with its derivatives, as Triton kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from pamela_cli.engine.backbones.conv4_gradient import BlockGradient
from pamela_cli.engine.kernels.beside import beside
from pamela_cli.engine.kernels.conv import (
    by_channels,
    convolution,
    convolution_asked,
    precision,
    weight_gradients,
)
from pamela_cli.engine.kernels.first import FEW_CHANNELS, FirstBlock
from pamela_cli.engine.kernels.norm_pool import (
    Answers,
    Cotangents,
    Still,
    TritonNormPool,
    answers_of,
    stats_of,
    to_z,
    together,
)
from pamela_cli.engine.kernels.parameters import Parameters
from pamela_cli.engine.ops import conv3x3, conv3x3_backward
from pamela_cli.engine.sums import sum_in_order

_CHANNELS_FOR_CUDNN = 14
"""Where TF32 is all that is asked for, convolutions of more channels are left to cuDNN, which is faster."""


def triton_block(
    images: Tensor, weight: Tensor, scale: Tensor, shift: Tensor, eps: float, first: bool
) -> BlockGradient:
    """A ``BlockGradient`` by kernels, for float32 on CUDA."""
    if first and weight.shape[2] <= FEW_CHANNELS:
        return FirstBlock(images, weight, scale, shift, eps)
    return TritonBlock(images, weight, scale, shift, eps, first)


class TritonBlock:
    """One block at its input and its derivatives there, as ``conv4_gradient.Block`` has them.

    float32 on CUDA.
    """

    def __init__(
        self, images: Tensor, weight: Tensor, scale: Tensor, shift: Tensor, eps: float, first: bool
    ) -> None:
        self._first, self._images, self._signed_by = first, images, scale
        self._tasks = len(weight)
        self._images_by_channels: Tensor | None = None
        self._by_cudnn = precision() == "tf32" and weight.shape[2] > _CHANNELS_FOR_CUDNN
        self._at = self._packed(weight, scale, shift)
        z, answers = self._convolved([(images, self._at)], None)
        self._pixels = z.numel() // z.shape[1]
        about = stats_of(answers, self._pixels, eps)
        self._still = Still(z, *about, answers.taken)
        self._norm = TritonNormPool(answers.pooled, about, self._at.scale, self._at.shift, self._pixels)
        self.out = self._norm.out

    def gradient(self, v: Tensor, into: list[Tensor]) -> Tensor | None:
        """From the cotangent of the output."""
        found = self._norm.gradient(v)
        self._to_z = to_z(found, self._norm.pooled, self._still)
        return self._gradients([(self._to_z, self._images, self._at)], found, into)

    def tangent(self, images: Tensor | None, weight: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """How the output moves with the images (None: they do not) and the parameters."""
        self._images_tangent, self._along = images, self._packed(weight, scale, shift)
        pairs = [(self._images, self._along)]
        if images is not None:
            pairs.append((images, self._at))
        self._z_tangent, answers = self._convolved(pairs, self._still)
        moments = together(answers.parts)
        return self._norm.tangent(answers.pooled, moments, self._along.scale, self._along.shift)

    def gradient_tangent(self, v: Tensor, into: list[Tensor]) -> Tensor | None:
        """How :meth:`gradient` moves with them, and with its cotangent along ``v``."""
        found = self._norm.gradient_tangent(v)
        moved = to_z(found, self._norm.pooled, self._still, self._z_tangent)
        triples = [(moved, self._images, self._at)]
        if self._images_tangent is not None:
            triples.append((self._to_z, self._images_tangent, self._along))
        return self._gradients(triples, found, into)

    def wait(self) -> None:
        """Until what the derivatives fill is filled."""
        beside.join(self._images.device)

    def _packed(self, weight: Tensor, scale: Tensor, shift: Tensor) -> Parameters:
        return Parameters.of(
            weight, scale, shift, self._signed_by,
            back=not (self._first or self._by_cudnn), split=precision() != "tf32",
        )  # fmt: skip

    def _convolved(
        self, pairs: list[tuple[Tensor, Parameters]], still: Still | None
    ) -> tuple[Tensor, Answers]:
        if not self._by_cudnn:
            return convolution_asked([(x, at.ahead) for x, at in pairs], self._tasks, still)
        found = conv3x3([(x, at.as_filters) for x, at in pairs], self._tasks)
        return found, answers_of(found, still)

    def _gradients(
        self, triples: list[tuple[Tensor, Tensor, Parameters]], found: Cotangents, into: list[Tensor]
    ) -> Tensor | None:
        """Those of the parameters into place, beside what follows; returns that of the images."""

        def of_parameters() -> None:
            parts = self._weight_gradients(triples)
            Parameters.fill(parts, found.to_scale, found.to_shift, self._signed_by, into)

        beside.run(of_parameters, self._images.device, triples, found, self._signed_by, into)
        return None if self._first else self._images_gradient(triples)

    def _weight_gradients(self, triples: list[tuple[Tensor, Tensor, Parameters]]) -> Tensor:
        """In shares that are still to be summed: (shares, T·C_out, 9, C_in)."""
        if not self._by_cudnn:
            return weight_gradients([(v, self._by_channels(x)) for v, x, _ in triples], self._tasks)
        each = self._by_cudnn_backward(triples, (False, True))
        return torch.stack([t.permute(0, 2, 3, 1).flatten(1, 2) for t in each])

    def _by_channels(self, images: Tensor) -> Tensor:
        """Of this block's images, once, though both derivatives use them; or of how they move."""
        if images is not self._images:
            return by_channels(images)
        if self._images_by_channels is None:
            self._images_by_channels = by_channels(images)
        return self._images_by_channels

    def _images_gradient(self, triples: list[tuple[Tensor, Tensor, Parameters]]) -> Tensor:
        if not self._by_cudnn:
            return convolution([(v, at.ahead_back) for v, _, at in triples], self._tasks)
        return sum_in_order(self._by_cudnn_backward(triples, (True, False)))

    def _by_cudnn_backward(
        self, triples: list[tuple[Tensor, Tensor, Parameters]], wanted: tuple[bool, bool]
    ) -> list[Tensor]:
        """Of each triple the one that is ``wanted``: the gradient of the images, or of the weights."""
        each = (conv3x3_backward(v, x, at.as_filters, self._tasks, wanted) for v, x, at in triples)
        return [t for pair in each for t in pair if t is not None]
