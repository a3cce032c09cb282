"""A user's own loss function as an objective of the engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

LossFunction = Callable[[Tensor, Tensor], Tensor]
"""One task's outputs (B, …) and targets (B, …) to a scalar, such as ``torch.nn.functional.cross_entropy``."""


@dataclass(frozen=True)
class OwnLoss:
    """An ``Objective`` made from a loss function for one task; derivatives by automatic differentiation.

    ``measure`` is the score of a task, one number of any kind; without it, the loss itself is the score.
    """

    function: LossFunction
    measure: Callable[[Tensor, Tensor], Tensor | float] | None = None
    higher_is_better: bool = False
    score_name: str = "score"

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss of each task, (T,)."""
        return _each(self.function, outputs, targets)

    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The score of each task, (T,)."""
        if self.measure is None:
            return self.loss(outputs, targets)
        found = [self.measure(one, wanted) for one, wanted in zip(outputs, targets, strict=True)]
        return torch.stack([torch.as_tensor(value).to(outputs).reshape(()) for value in found])

    def gradient(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Derivative of each task's loss with respect to its outputs."""
        return self._gradient(outputs, targets, again=False)[1].detach()

    def gradient_tangent(self, outputs: Tensor, targets: Tensor, tangent: Tensor) -> Tensor:
        """The Hessian with respect to the outputs, which is symmetric, times ``tangent``."""
        leaf, gradient = self._gradient(outputs, targets, again=True)
        if not gradient.requires_grad:  # the loss is linear in its outputs
            return torch.zeros_like(tangent)
        return torch.autograd.grad(gradient, leaf, tangent)[0]

    def _gradient(self, outputs: Tensor, targets: Tensor, again: bool) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            leaf = outputs.detach().requires_grad_()
            loss = self.loss(leaf, targets).sum()
            return leaf, torch.autograd.grad(loss, leaf, create_graph=again)[0]


def _each(function: LossFunction, outputs: Tensor, targets: Tensor) -> Tensor:
    values = [function(one, wanted) for one, wanted in zip(outputs, targets, strict=True)]
    if not all(isinstance(value, Tensor) and value.dim() == 0 for value in values):
        raise ValueError("the loss of a task must be a tensor with a single number, as with reduction='mean'")
    return torch.stack(values)
