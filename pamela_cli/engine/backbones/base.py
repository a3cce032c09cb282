"""What the engine asks of a network, and what all networks share.

Every tensor has the task as its first dimension: θ is (T, N) and images are (T, B, C, H, W); the
network of a task sees that task's inputs only. Batch norm uses the statistics of the current batch,
or of another batch if they are given, and keeps no running statistics.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from data_prep.errors import first_line
from pamela_cli.engine.layout import Layout
from pamela_cli.engine.tasks import Objective

NormStats = list[tuple[Tensor, Tensor]]
"""(mean, biased variance) of each batch-norm layer's input, (T·channels,) each."""


class LossGradient(Protocol):
    """∇L at a θ of T tasks, on their support or query sets, and the curvature there.

    ``outputs`` (T, B, out) are the network's, ``gradient`` (T, N).
    """

    outputs: Tensor
    gradient: Tensor

    def hessian_product(self, vectors: Tensor) -> Tensor:
        """The Hessian of each task's loss times its vector, (T, N) from (T, N); to be called once."""
        ...


class Backbone(Protocol):
    """What the engine asks of a network.

    One that is ``recordable`` (optional) always computes by the same operations for the same shapes, and asks
    the device for nothing: a CUDA graph can be made of it. The same holds for objectives.
    """

    layout: Layout

    def initial(self, generator: torch.Generator) -> Tensor:
        """A fresh θ, (N,) on the CPU (or where a module is), drawn as PyTorch's modules start."""
        ...

    def __call__(self, theta: Tensor, x: Tensor, stats: NormStats | None = None) -> Tensor:
        """Outputs (T, B, out) for θ (T, N) and inputs (T, B, …)."""
        ...

    def loss_gradient(
        self, objective: Objective, theta: Tensor, x: Tensor, y: Tensor, differentiable: bool
    ) -> LossGradient:
        """The gradient of each task's loss at θ (T, N); its Hessian is there if ``differentiable``."""
        ...

    def norm_stats(self, theta: Tensor, x: Tensor) -> NormStats:
        """The batch-norm statistics of the inputs ``x``; empty without batch norm."""
        ...


class AutogradGradient:
    """The gradient as automatic differentiation finds it, for any network; a ``LossGradient``."""

    def __init__(
        self,
        backbone: Backbone,
        objective: Objective,
        theta: Tensor,
        x: Tensor,
        y: Tensor,
        differentiable: bool,
    ) -> None:
        if torch.is_inference_mode_enabled():
            raise RuntimeError(
                "adaptation differentiates, which torch.inference_mode() forbids; use torch.no_grad()"
            )
        # A copy: the θ_j share a block, in which later ones are written while this graph is kept.
        self._leaf = theta.detach().clone().requires_grad_()
        with torch.enable_grad():
            outputs = backbone(self._leaf, x)
            loss = objective.loss(outputs, y).sum()
            (self._gradient,) = torch.autograd.grad(loss, self._leaf, create_graph=differentiable)
        self.outputs = outputs.detach()
        self.gradient = self._gradient.detach()

    def hessian_product(self, vectors: Tensor) -> Tensor:
        """By differentiating the gradient once more, which uses up its graph.

        RuntimeError for an operation that PyTorch cannot differentiate twice.
        """
        if not self._gradient.requires_grad:  # the loss is linear in θ
            return torch.zeros_like(vectors)
        try:
            (product,) = torch.autograd.grad(self._gradient, self._leaf, vectors)
        except RuntimeError as error:
            if "is not implemented" not in str(error):
                raise
            raise RuntimeError(
                "the module or the loss has an operation that PyTorch cannot differentiate twice "
                f"({first_line(error)}); use another (for attention, "
                "torch.nn.attention.sdpa_kernel(SDPBackend.MATH) in its forward), or a first-order method"
            ) from error
        return product


def uniform(generator: torch.Generator, shape: tuple[int, ...], fan_in: int) -> Tensor:
    """A tensor initialized as PyTorch's layers are: uniform within ±1/√fan_in."""
    bound = fan_in**-0.5
    return torch.empty(shape, dtype=torch.float32, device="cpu").uniform_(-bound, bound, generator=generator)
