"""Mirror images: of a support set, to adapt to twice as many, and of queries, for a second opinion.

In training, Ni et al. (2021) call this augmentation of shots; in tests it is test-time augmentation. The
paper mentions neither.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pamela_cli.engine.tasks import Tasks


def mirrored(images: Tensor) -> Tensor:
    """Images (…, C, H, W) with left and right exchanged."""
    return images.flip(-1)


def both_views(images: Tensor) -> list[Tensor]:
    """The images of tasks (T, B, C, H, W), and their mirror images. ValueError for other shapes."""
    if images.dim() != 5:
        shape = tuple(images.shape[2:])
        raise ValueError(f"only images, (C, H, W), have mirror images, not inputs of shape {shape}")
    return [images, mirrored(images)]


def with_mirrored_support(tasks: Tasks) -> Tasks:
    """Tasks of images (T, S, C, H, W), the support set followed by its mirror images: (T, 2·S, C, H, W)."""
    support_x = torch.cat(both_views(tasks.support_x), 1)
    support_y = torch.cat([tasks.support_y, tasks.support_y], 1)
    return Tasks(support_x, support_y, tasks.query_x, tasks.query_y)


def averaged(outputs: Callable[[Tensor], Tensor], views: Sequence[Tensor]) -> Tensor:
    """The mean of the outputs (…, out) for several views of the same images.

    Of logits, it is that of the logarithms of probabilities, but for a number that softmax takes out.
    """
    if len(views) == 1:
        return outputs(views[0])
    return torch.stack([outputs(view) for view in views]).mean(0)
