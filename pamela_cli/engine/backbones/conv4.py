"""Conv4: the convolutional network of few-shot learning (paper section 4.3)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from pamela_cli.engine.backbones.base import AutogradGradient, LossGradient, NormStats, uniform
from pamela_cli.engine.layout import Layer, Layout, Shapes
from pamela_cli.engine.norm_pool import channel_stats, norm_relu_pool
from pamela_cli.engine.ops import conv3x3
from pamela_cli.engine.tasks import Objective

BATCH_NORM_EPS = 1e-5


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
            pieces += [uniform(generator, shape, fan_in).flatten(), uniform(generator, shape[:1], fan_in)]
            pieces += [torch.ones(self.width), torch.zeros(self.width)]
        head = self.layout.layers[-1].shapes
        pieces += [uniform(generator, shape, self.features).flatten() for shape in head.values()]
        return torch.cat(pieces)

    def __call__(self, theta: Tensor, x: Tensor, stats: NormStats | None = None) -> Tensor:
        """Logits (T, B, way) for images (T, B, C, H, W)."""
        return self._forward(theta, x, stats)[0]

    def loss_gradient(
        self, objective: Objective, theta: Tensor, x: Tensor, y: Tensor, differentiable: bool
    ) -> LossGradient:
        """The gradient of each task's loss at θ (T, N), and its Hessian if ``differentiable``."""
        return AutogradGradient(self, objective, theta, x, y, differentiable)

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
            # A negative scale with a kernel is a positive one with the kernel's negative.
            sign = torch.where(scale < 0, -1, 1).to(scale.dtype)
            weight, scale = weight * sign[:, :, None, None, None], (scale * sign).flatten()
            z = conv3x3(z, weight.flatten(0, 1).contiguous(memory_format=layout), groups=tasks)
            if record:
                recorded.append(channel_stats(z))
            if stats is None:
                z = norm_relu_pool(z, scale, shift.flatten(), BATCH_NORM_EPS)
            else:
                mean, var = stats[block]
                z = F.batch_norm(z, mean, var, scale, shift.flatten(), eps=BATCH_NORM_EPS)
                z = F.relu(F.max_pool2d(z, 2))
        features = z.reshape(batch, tasks, self.features).transpose(0, 1)
        return torch.baddbmm(tensors[-1][:, None], features, tensors[-2].mT), recorded
