"""A process of its own: kernels by Triton's interpreter, on the CPU, held against PyTorch in float64.

Prints how far each result is: of first blocks and others, by their channels; of first blocks on images that
are hard for them; and of the classifier.
"""

import itertools
import json
import sys
from functools import partial

import torch
from torch import Tensor

from pamela_cli.engine.backbones.conv4_gradient import BATCH_NORM_EPS, Block, linear
from pamela_cli.engine.compiling import block_results, classifier_results, derivatives
from pamela_cli.engine.kernels.block import triton_block
from pamela_cli.engine.kernels.linear import linear as by_kernel

CPU = torch.device("cpu")
OURS = partial(triton_block, eps=BATCH_NORM_EPS)


def distances(found: list[Tensor], exact: list[Tensor]) -> list[float]:
    return [float((a - b).norm() / b.norm().clamp_min(1e-30)) for a, b in zip(found, exact, strict=True)]


def of_random_images(channels: int, first: bool) -> list[float]:
    shape = (2, 3, channels, 17, 5, 7)
    ours = block_results(OURS, shape, CPU, torch.float32, first)
    return distances(ours, block_results(Block, shape, CPU, torch.float64, first))


def on_given_images(made_by, images: Tensor, dtype: torch.dtype) -> list[Tensor]:
    """A first block and its derivatives, with a filter of edges among its filters."""
    g = torch.Generator().manual_seed(0)
    weight = torch.randn(1, 17, images.shape[1], 3, 3, generator=g)
    weight[0, 0] = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]])
    shapes = (1, 17), (1, 17), weight.shape, (1, 17), (1, 17)
    scale, shift, *along = (torch.randn(shape, generator=g) for shape in shapes)
    v = torch.randn(len(images), 17, *(side // 2 for side in images.shape[2:]), generator=g)
    images, v = (t.to(dtype).contiguous(memory_format=torch.channels_last) for t in (images, v))
    at, along = ([t.to(dtype) for t in each] for each in ((weight, scale, shift), along))
    return derivatives(made_by(images, *at, first=True), at, None, along, (v, v))


def of_images(images: Tensor) -> list[float]:
    return distances(
        *(on_given_images(b, images, t) for b, t in ((OURS, torch.float32), (Block, torch.float64)))
    )


def by_cudnn() -> list[float]:
    """Where TF32 is enough, convolutions are not the kernels' (and here are those of the CPU)."""
    torch.backends.cudnn.allow_tf32 = True
    shape = (2, 3, 16, 17, 5, 7)
    ours = block_results(OURS, shape, CPU, torch.float32)
    torch.backends.cudnn.allow_tf32 = False
    return distances(ours, block_results(Block, shape, CPU, torch.float64))


torch.backends.cudnn.allow_tf32 = False
rows, columns = torch.meshgrid(torch.arange(9.0), torch.arange(8.0), indexing="ij")
waves = torch.stack([0.7 + 0.02 * torch.sin(0.3 * columns + 0.2 * rows + i) for i in range(4)])
found = {
    **{
        f"{channels} first" if first else f"{channels}": of_random_images(channels, first)
        for channels, first in itertools.product(map(int, sys.argv[1:]), (True, False))
    },
    # Of what an edge filter sees there, the mean is nearly all, and pools have equals.
    "smooth": of_images(waves.view(2, 2, 9, 8)),
    "constant": of_images(torch.full((2, 1, 9, 8), 0.5)),
    "by cuDNN": by_cudnn(),
    "classifier": distances(
        classifier_results(by_kernel, CPU, torch.float32), classifier_results(linear, CPU, torch.float64)
    ),
}
print(json.dumps(found))
