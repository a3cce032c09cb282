"""Backbones as pure functions of (θ, input), for several tasks at once.

Every tensor has the task as its first dimension: θ is (T, N) and images are (T, B, C, H, W); the
network of a task sees that task's images only. Batch norm uses the statistics of the batch at hand
and keeps no running ones, or those of another batch where they are given.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from pamela_cli.engine.layout import Layer, Layout, Shapes
from pamela_cli.engine.ops import conv3x3

BATCH_NORM_EPS = 1e-5

NormStats = list[tuple[Tensor, Tensor]]
"""(mean, biased variance) of each batch-norm layer's input, (T·channels,) each."""


class Backbone(Protocol):
    """What the engine asks of a network."""

    layout: Layout

    def initial(self, generator: torch.Generator) -> Tensor:
        """A fresh θ, (N,) on the CPU, drawn as PyTorch's modules start."""
        ...

    def __call__(self, theta: Tensor, x: Tensor, stats: NormStats | None = None) -> Tensor:
        """Outputs (T, B, out) for θ (T, N) and inputs (T, B, …)."""
        ...

    def norm_stats(self, theta: Tensor, x: Tensor) -> NormStats:
        """Statistics that batch norm takes from the inputs ``x``; empty without batch norm."""
        ...


def _uniform(generator: torch.Generator, shape: tuple[int, ...], fan_in: int) -> Tensor:
    bound = fan_in**-0.5
    return torch.empty(shape).uniform_(-bound, bound, generator=generator)


class Conv4:
    """Four blocks of [3×3 convolution → batch norm → ReLU → 2×2 max pool], then a linear classifier.

    84×84 images give 25·width features, 32×32 give 4·width. The biases of the convolutions are
    parameters, but batch norm cancels them: they are not computed and their gradient is zero.
    """

    BLOCKS = 4

    def __init__(self, way: int, channels: int, image_size: int, width: int = 64) -> None:
        self.width = width
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
        self.layout = Layout((*layers, Layer("classifier", head, "parameter")))

    def initial(self, generator: torch.Generator) -> Tensor:
        """A fresh θ, (N,): uniform within ±1/√fan_in, batch norm at scale 1 and shift 0."""
        pieces = []
        for layer in self.layout.layers[: self.BLOCKS]:
            shape = layer.shapes["weight"]
            fan_in = shape[1] * 9
            pieces += [_uniform(generator, shape, fan_in).flatten(), _uniform(generator, shape[:1], fan_in)]
            pieces += [torch.ones(self.width), torch.zeros(self.width)]
        head = self.layout.layers[-1].shapes
        pieces += [_uniform(generator, shape, self.features).flatten() for shape in head.values()]
        return torch.cat(pieces)

    def __call__(self, theta: Tensor, x: Tensor, stats: NormStats | None = None) -> Tensor:
        """Logits (T, B, way) for images (T, B, C, H, W)."""
        return self._forward(theta, x, stats)[0]

    def norm_stats(self, theta: Tensor, x: Tensor) -> NormStats:
        """Statistics of the four convolutions' outputs on the images ``x``."""
        return self._forward(theta, x, None, record=True)[1]

    def _forward(
        self, theta: Tensor, x: Tensor, stats: NormStats | None, record: bool = False
    ) -> tuple[Tensor, NormStats]:
        tasks, batch = x.shape[:2]
        tensors = self.layout.unpack(theta)
        recorded: NormStats = []
        # The tasks' channels lie side by side, so that a grouped convolution keeps the tasks apart.
        z = x.transpose(0, 1).reshape(batch, -1, *x.shape[3:])
        # Pooling and batch norm on the CPU are several times faster with the channels last in memory.
        layout = torch.channels_last if x.device.type == "cpu" else torch.contiguous_format
        # (`contiguous` would leave one-channel images alone, whose strides fit both formats.)
        z = torch.empty_like(z, memory_format=layout).copy_(z)
        for block in range(self.BLOCKS):
            weight, _, scale, shift = tensors[4 * block : 4 * block + 4]
            z = conv3x3(z, weight.flatten(0, 1).contiguous(memory_format=layout), groups=tasks)
            if record:
                batch_var, batch_mean = torch.var_mean(z, (0, 2, 3), correction=0)
                recorded.append((batch_mean, batch_var))
            mean, var = (None, None) if stats is None else stats[block]
            z = F.batch_norm(
                z, mean, var, scale.flatten(), shift.flatten(), training=stats is None, eps=BATCH_NORM_EPS
            )
            # ReLU after the pool: the same values and gradients, on a quarter of the numbers.
            z = F.relu(F.max_pool2d(z, 2))
        features = z.reshape(batch, tasks, self.features).transpose(0, 1)
        return torch.baddbmm(tensors[-1][:, None], features, tensors[-2].mT), recorded


class MLP:
    """Fully connected ReLU network on one number, for sine regression (section 4.2: 1-40-40-1)."""

    def __init__(self, sizes: tuple[int, ...] = (1, 40, 40, 1)) -> None:
        self.layout = Layout(
            tuple(
                Layer(f"linear{i + 1}", {"weight": (out, into), "bias": (out,)}, "parameter")
                for i, (into, out) in enumerate(pairwise(sizes))
            )
        )

    def initial(self, generator: torch.Generator) -> Tensor:
        """A fresh θ, (N,): uniform within ±1/√fan_in."""
        pieces = []
        for layer in self.layout.layers:
            fan_in = layer.shapes["weight"][1]
            pieces += [_uniform(generator, shape, fan_in).flatten() for shape in layer.shapes.values()]
        return torch.cat(pieces)

    def __call__(self, theta: Tensor, x: Tensor, stats: NormStats | None = None) -> Tensor:
        """Predictions (T, B, 1) for x (T, B, 1)."""
        tensors = self.layout.unpack(theta)
        for i in range(0, len(tensors), 2):
            x = torch.baddbmm(tensors[i + 1][:, None], x, tensors[i].mT)
            if i + 2 < len(tensors):
                x = F.relu(x)
        return x

    def norm_stats(self, theta: Tensor, x: Tensor) -> NormStats:
        """Nothing: there is no batch norm."""
        return []
