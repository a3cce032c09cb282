"""Training images augmented as they are drawn: shifted, mirrored, with jittered colours, and mixed.

This is the augmentation commonly used for Conv4 and ResNet-12 on CIFAR-FS, FC100 and ImageNet's subsets (Lee
et al., 2019, section 4.1: crops, mirror images, jitter of brightness, contrast and saturation), and CutMix of
the queries alone (Ni et al., 2021). The paper mentions none. Every image of every task is augmented afresh,
determined, like tasks, by its address alone, on any device.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from pamela_cli.engine.random import random_uniform

STREAM = 4
"""The first coordinate of the draws here: those of tasks never have it."""

_ALONE, _MIXED = 6, 5
"""Random numbers that an image takes: two shifts, the mirror, three of its colours; and to be mixed with
another: whether it is, with which, how much of it, and around which point."""

_LUMA = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in how bright a pixel is (ITU-R BT.601)."""


@dataclass(frozen=True)
class Augmentation:
    """How much training images are augmented; with the defaults, not at all.

    ``crop``: images are shifted by up to this many pixels each way, uniformly; the uncovered border is black.
    ``flip``: each is mirrored, left to right, with probability 1/2. ``color_jitter``: brightness, contrast
    and saturation are multiplied, in this order, by factors uniform in 1 ± ``color_jitter``, and values are
    clipped to 0…1. ``cutmix``: with this probability, a query gets a patch of a query of the same task, and
    their classes share its target as they share its area (CutMix; Yun et al., 2019).
    """

    crop: int = 0
    flip: bool = False
    color_jitter: float = 0.0
    cutmix: float = 0.0

    def fits(self, side: int) -> bool:
        """Whether half of an image of this side or more stays in view, however far they are shifted."""
        return 2 * self.crop <= side

    def __bool__(self) -> bool:
        return bool(self.crop or self.flip or self.color_jitter or self.cutmix)

    def draw(self, seed: int, step: int | Tensor, index: Tensor, images: int) -> Tensor:
        """Numbers in [0, 1), float64, for the tasks at ``index`` (T, 1, 1) of a meta-batch.

        (T, images, 6), or with ``cutmix`` (T, images, 11).
        """
        device = index.device
        image = torch.arange(images, device=device)[:, None]
        number = torch.arange(_ALONE + _MIXED * (self.cutmix > 0), device=device)
        return random_uniform(STREAM, seed, step, index, image, number)

    def moved(self, raw: Tensor, numbers: Tensor) -> Tensor:
        """Images (T, B, C, H, W), shifted and mirrored as their ``numbers`` (T, B, ≥ 6) say."""
        if not (self.crop or self.flip):
            return raw
        channels, height, width = raw.shape[2:]
        row, column = (torch.arange(side, device=raw.device) for side in (height, width))
        rows, columns = row.expand(*numbers.shape[:2], -1), column.expand(*numbers.shape[:2], -1)
        if self.flip:
            columns = torch.where(numbers[..., 2:3] < 0.5, width - 1 - columns, columns)
        if self.crop:
            raw = F.pad(raw, (self.crop,) * 4)
            shift = (numbers[..., :2] * (2 * self.crop + 1)).long()
            rows, columns = rows + shift[..., :1], columns + shift[..., 1:]
        places = (rows[..., :, None] * raw.shape[-1] + columns[..., None, :]).flatten(2)[:, :, None]
        taken = raw.flatten(3).gather(3, places.expand(-1, -1, channels, -1))
        return taken.view(*taken.shape[:3], height, width)

    def coloured(self, images: Tensor, numbers: Tensor) -> Tensor:
        """Images (T, B, C, H, W) of values in 0…1, in the colours that their ``numbers`` (T, B, ≥ 6) say."""
        if not self.color_jitter:
            return images
        factors = (1 + self.color_jitter * (2 * numbers[..., 3:_ALONE] - 1)).to(images.dtype)
        brightness, contrast, saturation = factors[..., None, None, None].unbind(2)
        images = (images * brightness).clamp(0, 1)
        images = _blended(images, _grey(images).mean((2, 3, 4), keepdim=True), contrast)
        return _blended(images, _grey(images), saturation)

    def mixed(self, images: Tensor, targets: Tensor, numbers: Tensor, way: int) -> tuple[Tensor, Tensor]:
        """Images (T, B, C, H, W) of classes ``targets`` (T, B), with patches of each other.

        ``numbers`` are (T, B, 11). Returns the images, and how much of each is of each class, (T, B, way).
        """
        whether, partner, area, *middle = numbers[..., _ALONE:].unbind(-1)
        area = torch.where(whether < self.cutmix, area, 0.0)
        covered = [
            _covered(side, area.sqrt(), at) for side, at in zip(images.shape[-2:], middle, strict=True)
        ]
        patch = (covered[0][..., :, None] & covered[1][..., None, :])[:, :, None]
        other = (partner * partner.shape[1]).long()
        taken = images.gather(1, other[..., None, None, None].expand_as(images))
        # By numbers, CUDA would multiply with rounded reciprocals; by tensors it divides, as the CPU does.
        pixels = images.new_full((), images.shape[-2] * images.shape[-1])
        share = (covered[0].sum(-1) * covered[1].sum(-1)).to(images.dtype) / pixels
        own = F.one_hot(targets, way).to(images.dtype)
        others = own.gather(1, other[..., None].expand_as(own))
        return torch.where(patch, taken, images), torch.lerp(own, others, share[..., None])


def _covered(side: int, length: Tensor, middle: Tensor) -> Tensor:
    """Whether each of ``side`` pixels is within half a ``length`` of ``middle``, shares of the side."""
    pixels = (torch.arange(side, dtype=middle.dtype, device=middle.device) + 0.5) / middle.new_full((), side)
    return (pixels - middle[..., None]).abs() < length[..., None] / 2


def _grey(images: Tensor) -> Tensor:
    """How bright each pixel is, (…, 1, H, W)."""
    if images.shape[-3] == 1:
        return images
    # As Python numbers: to make a tensor of them on a GPU would mean waiting for it.
    weighted = [share * images[..., c : c + 1, :, :] for c, share in enumerate(_LUMA)]
    return weighted[0] + weighted[1] + weighted[2]


def _blended(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    """``factor`` of the images and the rest of ``other``, cut off at 0 and 1."""
    return (other + factor * (images - other)).clamp(0, 1)


NO_AUGMENTATION = Augmentation()
