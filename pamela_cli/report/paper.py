"""Figures printed in the paper (Rajasegaran et al., arXiv 2010.09291), to stand beside one's own."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """A line of Table 1: learned numbers (printed in thousands, cut off), updates, milliseconds per task."""

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
    "the GPU, the shot, the precision, and whether a time includes loading the images and the outer step"
)
"""What the paper does not tell of the times in its Table 1."""

ABLATION_GAINS: dict[tuple[str, int | None], float] = {("q", None): 0.0307, ("pamela", 2): 0.0740}
"""Gain in accuracy over MAML by (method, w): miniImageNet, 5-way 5-shot, 5 updates (section 4.4)."""
