"""Numbers printed in the paper (Rajasegaran et al., arXiv 2010.09291), to be shown beside measured ones."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """A line of Table 1: meta-parameters (printed in thousands, cut off), updates, milliseconds per task."""

    parameters: int
    updates: int
    train_ms: float
    test_ms: float


TABLE_1 = {
    "maml": Cost(121_090, 5, 205.50, 41.33),
    "meta-sgd": Cost(242_180, 1, 53.75, 16.67),
    "pamela": Cost(162_390, 5, 215.84, 43.33),
}
"""Cost of a task for a 4-layer, 64-channel network, by method. The numbers of P are left out of it.

The parameter counts are those of 5-way tasks of 84×84×3 images; the paper says no more than the above.
"""

TABLE_1_UNSAID = (
    "the hardware, the shot, the precision, and whether a time includes loading the images and the outer step"
)
"""What the paper does not tell of the times in its Table 1."""

ABLATION_GAINS: dict[tuple[str, int | None], float] = {("q", None): 0.0307, ("pamela", 2): 0.0740}
"""Gain in accuracy over MAML by (method, w): miniImageNet, 5-way 5-shot, 5 updates (section 4.4)."""

Published = tuple[float, float | None]
"""An accuracy in percent, and the half-width of its interval where one is given."""

ACCURACIES: dict[tuple[str, int, int], dict[str, Published]] = {
    ("cifar-fs", 5, 1): {"pamela": (63.5, 0.9), "maml": (58.9, 1.9), "meta-sgd": (56.9, 0.9)},
    ("cifar-fs", 5, 5): {"pamela": (79.1, 0.7), "maml": (71.5, 1.9), "meta-sgd": (70.1, 0.7)},
    ("miniimagenet", 5, 1): {"pamela": (53.50, 0.89), "maml": (48.70, 1.84), "meta-sgd": (50.47, 1.87)},
    ("miniimagenet", 5, 5): {"pamela": (70.51, 0.67), "maml": (63.11, 0.92), "meta-sgd": (64.03, 0.94)},
    ("tieredimagenet", 5, 1): {"pamela": (54.81, 0.88), "maml": (51.67, 1.87), "meta-sgd": (50.92, 0.93)},
    ("tieredimagenet", 5, 5): {"pamela": (74.39, 0.71), "maml": (70.30, 1.75), "meta-sgd": (69.28, 0.80)},
}
"""The paper's table of accuracies by (dataset, way, shot) and method.

The paper states how many tasks they are of only for miniImageNet: 600.
"""

OMNIGLOT_MAML: dict[tuple[int, int], Published] = {
    (5, 1): (98.7, 0.4),
    (5, 5): (99.9, 0.1),
    (20, 1): (95.8, 0.3),
    (20, 5): (98.9, 0.2),
}
"""Of Omniglot, which the paper lacks: MAML's own (Finn et al., 2017) by (way, shot), on another split."""
