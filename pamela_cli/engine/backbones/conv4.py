"""Conv4: the convolutional network of few-shot learning (paper section 4.3)."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from pamela_cli.engine.backbones.base import LossGradient, NormStats, uniform
from pamela_cli.engine.backbones.conv4_gradient import (
    BATCH_NORM_EPS,
    Conv4Gradient,
    as_grouped_filters,
    block_type,
    features,
    linear_type,
    side_by_side,
)
from pamela_cli.engine.layout import Layer, Layout, Shapes
from pamela_cli.engine.norm_pool import channel_stats, norm_relu_pool
from pamela_cli.engine.once import once
from pamela_cli.engine.ops import conv3x3
from pamela_cli.engine.signs import negative_scales, signed
from pamela_cli.engine.tasks import Objective


class Conv4:
    """Four blocks of [3×3 convolution → batch norm → ReLU → 2×2 max pool], then a linear classifier.

    84×84 images give 25·width features, 32×32 give 4·width. The biases of the convolutions are
    parameters, but batch norm cancels them: they are not computed and their gradient is zero. With
    ``shared_head`` the classifier begins alike for all classes (Ye and Chao, 2022).
    """

    BLOCKS = 4
    recordable = True

    def __init__(
        self, way: int, channels: int, image_size: int, width: int = 64, shared_head: bool = False
    ) -> None:
        self.width, self.image_size = width, image_size
        # Each pool halves the side, rounding down.
        self.features = width * (image_size >> self.BLOCKS) ** 2
        layers = []
        for block in range(self.BLOCKS):
            shapes: Shapes = {
                "weight": (width, channels if block == 0 else width, 3, 3),
                "bias": (width,),
                "scale": (width,),
                "shift": (width,),
            }
            layers.append(Layer(f"block{block + 1}", shapes, "kernel"))
        head: Shapes = {"weight": (way, self.features), "bias": (way,)}
        self.layout = Layout((*layers, Layer("classifier", head, "parameter", shared_head)))

    def initial(self, generator: torch.Generator) -> Tensor:
        """A fresh θ, (N,): uniform within ±1/√fan_in, batch norm at scale 1 and shift 0."""
        pieces = []
        for layer in self.layout.layers[: self.BLOCKS]:
            shape = layer.shapes["weight"]
            fan_in = shape[1] * 9
            pieces += [uniform(generator, shape, fan_in).flatten(), uniform(generator, shape[:1], fan_in)]
            pieces += [pieces[-1].new_ones(self.width), pieces[-1].new_zeros(self.width)]
        head = self.layout.layers[-1].shapes
        pieces += [uniform(generator, shape, self.features).flatten() for shape in head.values()]
        return torch.cat(pieces)

    def layer_outputs(self, images: int) -> int:
        """How many numbers the layers put out for so many images: convolutions, pools, and the classifier."""
        head = self.layout.layers[-1].shapes["weight"]
        sides = [self.image_size >> block for block in range(self.BLOCKS + 1)]
        pixels = sum(before**2 + after**2 for before, after in pairwise(sides))
        return images * (self.width * pixels + head[0])

    def __call__(self, theta: Tensor, x: Tensor, stats: NormStats | None = None) -> Tensor:
        """Logits (T, B, way) for images (T, B, C, H, W)."""
        return self._forward(theta, x, stats)[0]

    def loss_gradient(
        self, objective: Objective, theta: Tensor, x: Tensor, y: Tensor, differentiable: bool
    ) -> LossGradient:
        """The gradient of each task's loss at θ (T, N), and its Hessian if ``differentiable``."""
        return Conv4Gradient(self.layout, objective, theta, x, y, differentiable)

    def norm_stats(self, theta: Tensor, x: Tensor) -> NormStats:
        """Statistics of the four convolutions' outputs on the images ``x``."""
        return self._forward(theta, x, None, record=True)[1]

    def _forward(
        self, theta: Tensor, x: Tensor, stats: NormStats | None, record: bool = False
    ) -> tuple[Tensor, NormStats]:
        *tensors, head, bias = self.layout.unpack(theta)
        recorded: NormStats = []
        images = once.of(side_by_side, x)
        block_at = block_type(images, len(theta) * self.width)
        for block in range(self.BLOCKS):
            weight, _, scale, shift = tensors[4 * block : 4 * block + 4]
            if stats is None and not record and not torch.is_grad_enabled():
                images = block_at(images, weight, scale, shift, first=block == 0).out
                continue
            sign = negative_scales(scale)
            weight, scale, shift = signed(weight, sign), signed(scale, sign).flatten(), shift.flatten()
            z = conv3x3([(images, as_grouped_filters(weight))], len(theta))
            if record:
                recorded.append(channel_stats(z))
            if stats is None:
                images = norm_relu_pool(z, scale, shift, BATCH_NORM_EPS)
            else:
                pooled = F.max_pool2d(z, 2)
                images = F.relu(F.batch_norm(pooled, *stats[block], scale, shift, eps=BATCH_NORM_EPS))
        return linear_type(images)(bias, [(features(images, len(theta)), head)]), recorded
