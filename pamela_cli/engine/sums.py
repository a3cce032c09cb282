"""Sums in an order that does not depend on who made the terms, so that their bits are always the same."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def sum_in_order(tensors: Sequence[Tensor]) -> Tensor:
    """Their sum, added first to last."""
    total = tensors[0]
    for tensor in tensors[1:]:
        total = total + tensor
    return total


def sum_in_place(tensors: list[Tensor]) -> Tensor:
    """The same, written over the first."""
    total, *others = tensors
    for tensor in others:
        total += tensor
    return total
